//! CREATE TABLE AS and SELECT INTO: a table with the columns of a query, filled by INSERT ... SELECT.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalog::{Change, Column, Object, Table};
use value::types::oid;
use value::{Error, Result, SqlState, Type};

use super::{must_be_free, persistence};
use crate::grammar;
use crate::lex;
use crate::session::{Outcome, Portal, Session};
use crate::statement::{Parsed, Statement};

pub async fn run(session: &mut Session, statement: &Statement) -> Result<Outcome> {
    let Statement::CreateTableAs { name, columns, temporary, if_not_exists, query, data, on_commit } =
        statement
    else {
        return Err(Error::internal("not CREATE TABLE AS"));
    };
    let temporary = *temporary || name.schema.as_deref() == Some("pg_temp");
    let on_commit = super::create_table::on_commit(*on_commit, temporary)?;
    let schema = session.schema_for(name, temporary).await?;
    let scope = session.scope()?;
    if scope.catalog.relation(schema, &name.name).is_some() && *if_not_exists {
        session.notice(
            "NOTICE",
            SqlState::DUPLICATE_TABLE,
            format!("relation \"{}\" already exists, skipping", name.name),
        );
        return Ok(Outcome::Tag("CREATE TABLE AS".into()));
    }
    must_be_free(&scope.catalog, schema, &name.name)?;
    let parsed = session.fragment(query)?;
    let prepared = session.prepare("", Some(parsed.clone()), &[])?;
    let Some(output) = &prepared.columns else {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "CREATE TABLE AS needs a query that returns rows"));
    };
    if columns.len() > output.len() {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "too many column names were specified"));
    }
    let mut table = Table {
        oid: session.database.engine.new_oid(),
        database: session.shared.database,
        schema,
        name: name.name.clone(),
        owner: scope.role,
        storage: session.database.engine.new_storage_id(),
        persistence: persistence(&scope, schema),
        columns: Vec::new(),
        constraints: Vec::new(),
        acl: None,
        comment: None,
        options: BTreeMap::new(),
        on_commit,
    };
    for (n, column) in output.iter().enumerate() {
        let own = columns.get(n).unwrap_or(&column.name).clone();
        if table.column(&own).is_some() {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{own}\" specified more than once"),
            ));
        }
        super::create_table::check_column_name(&own)?;
        let ty = match column.type_oid {
            oid::UNKNOWN => Type::new(oid::TEXT),
            ty => Type::with_typmod(ty, column.typmod),
        };
        table.columns.push(Column {
            number: n as i16 + 1,
            name: own,
            type_oid: ty.oid,
            typmod: ty.typmod,
            not_null: false,
            default: None,
            identity: None,
            generated: false,
            dropped: false,
            hidden: false,
            missing: None,
            comment: None,
            acl: None,
        });
    }
    let full = format!("{}.{}", lex::quote_name(&scope.schema_name(schema)), lex::quote_name(&name.name));
    session.change_catalog(vec![Change::Put(Object::Table(Arc::new(table)))]).await?;
    if !data {
        return Ok(Outcome::Tag("CREATE TABLE AS".into()));
    }
    let insert = format!("INSERT INTO {full} {}", query.text);
    let rows = run_inner(session, &insert).await?;
    Ok(Outcome::Tag(format!("SELECT {rows}")))
}

/// Runs a statement of our own making to its end, inside the current transaction; gives the rows it affected or
/// returned.
pub async fn run_inner(session: &mut Session, text: &str) -> Result<u64> {
    let (rows, affected) = query_inner(session, text).await?;
    Ok(affected.max(rows.len() as u64))
}

/// As [`run_inner`]; gives the rows too.
pub async fn query_inner(session: &mut Session, text: &str) -> Result<(Vec<Vec<value::Datum>>, u64)> {
    let statement = grammar::query_statement(text)?;
    let Statement::Query(query) = &statement else { return Err(Error::internal("not a query")) };
    let query = query.clone();
    let parsed = Parsed { statement: Arc::new(statement), text: Arc::from(text), shift: 0 };
    let prepared = Arc::new(session.prepare("", Some(parsed.clone()), &[])?);
    let (state, _) = session.open_query(&parsed, &query, &prepared, Arc::from([]), None).await?;
    let mut portal = Portal::new(prepared, Arc::from([]), None);
    portal.state = state;
    let rows = session.collect(&mut portal).await?;
    let affected = session.finish_driver(&mut portal)?;
    Ok((rows, affected))
}
