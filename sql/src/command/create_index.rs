//! CREATE INDEX and REINDEX.
//!
//! The engine knows keys that are columns. An expression key or a predicate becomes a hidden stored column that is
//! computed on every write; rows that are there already get theirs before the index is built.
//!
//! CONCURRENTLY, nobody who writes is locked out. What is published comes first, then the wait for those who began before
//! it, then the work in steps, each a transaction of its own. REINDEX fills a second index while writers keep both; then
//! the two change places, and the old one is kept until those who may still read it have ended.

use std::collections::HashSet;
use std::sync::Arc;

use engine::catalog::{
    Catalog, Change, Column, Index, IndexKey, IndexKind, IndexState, Object, Persistence, Table,
};
use engine::{Engine, Isolation, Row, RowBatch, RowId, RowLock, RowLockMode, TableLockMode, Wait};
use resolve::Purpose;
use value::types::oid;
use value::{Error, Oid, Result, SqlState, Type};

use super::create_table::check_indexable;
use super::drop::forget_column;
use super::{free_name, must_be_free};
use crate::grammar::error_shifted;
use crate::privilege;
use crate::rules;
use crate::session::{Outcome, Session};
use crate::statement::*;

pub async fn run(session: &mut Session, statement: &CreateIndex) -> Result<Outcome> {
    let done = Outcome::Tag("CREATE INDEX".into());
    if statement.concurrently {
        session.must_stand_alone("CREATE INDEX CONCURRENTLY")?;
    }
    let kind = match statement.method.as_str() {
        "btree" => IndexKind::BTree,
        "hash" => IndexKind::Hash,
        "gin" | "gist" | "brin" | "spgist" => {
            return Err(Error::unsupported(
                format!("access method \"{}\"", statement.method),
                "Use btree or hash.",
            ));
        }
        other => {
            return Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("access method \"{other}\" does not exist"),
            ));
        }
    };
    if kind == IndexKind::Hash {
        if statement.unique {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "access method \"hash\" does not support unique indexes",
            ));
        }
        if statement.keys.len() > 1 {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "access method \"hash\" does not support multicolumn indexes",
            ));
        }
    }
    if statement.keys.len() + statement.include.len() > 32 {
        return Err(Error::new(SqlState::TOO_MANY_COLUMNS, "cannot use more than 32 columns in an index"));
    }
    // An expression or a predicate becomes a column that is computed for every row: nobody may write meanwhile, unless
    // it is done in steps.
    let plain = statement.predicate.is_none() && statement.keys.iter().all(|key| key.column.is_some());
    let in_steps = statement.concurrently;
    // Plain ones do not change the table, and others may make indexes at the same time.
    let mode = match (in_steps, plain) {
        (true, _) => TableLockMode::ShareUpdateExclusive,
        (false, true) => TableLockMode::Share,
        (false, false) => TableLockMode::ShareRowExclusive,
    };
    let (scope, table) = session.own_table(&statement.table, mode).await?;
    session.must_be_settled(&table, "CREATE INDEX")?;
    privilege::check_schema(&scope.catalog, scope.role, table.schema, 'C')?;
    // Temporary tables are nobody else's.
    let in_steps = in_steps && table.persistence == Persistence::Permanent;
    if !in_steps {
        session.lock(table.schema, TableLockMode::RowExclusive).await?;
    }
    let scope = session.scope()?;
    if let Some(name) = &statement.name
        && scope.catalog.relation(table.schema, name).is_some()
    {
        if statement.if_not_exists {
            session.notice(
                "NOTICE",
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists, skipping"),
            );
            return Ok(done);
        }
        must_be_free(&scope.catalog, table.schema, name)?;
    }
    let mut changed = (*table).clone();
    let shared = Arc::new((*table).clone());
    let mut keys = Vec::new();
    let mut names = Vec::new();
    let mut hidden = false;
    for (n, key) in statement.keys.iter().enumerate() {
        let nulls_first = key.nulls_first.unwrap_or(key.descending);
        if let Some(name) = &key.column {
            let Some((_, column)) = table.column(name) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" does not exist"),
                )
                .at(Some(key.position)));
            };
            check_indexable(column.type_oid)?;
            keys.push(IndexKey {
                column: column.number,
                descending: key.descending,
                nulls_first,
                expression: None,
            });
            names.push(name.clone());
            continue;
        }
        let Some(expression) = &key.expression else { continue };
        let resolved =
            rules::expression(&*scope, Some(&shared), &expression.text, Purpose::IndexExpression, None)
                .map_err(|e| error_shifted(e, expression.offset))?;
        let ty = match resolved.ty() {
            ty if ty.oid == oid::UNKNOWN => Type::new(oid::TEXT),
            ty => ty,
        };
        check_indexable(ty.oid)?;
        let number = changed.columns.len() as i16 + 1;
        changed.columns.push(hidden_column(number, ty, &expression.text));
        hidden = true;
        keys.push(IndexKey {
            column: number,
            descending: key.descending,
            nulls_first,
            expression: Some(expression.text.clone()),
        });
        let base = crate::describe::key_name(&expression.text);
        names.push(if n > 0 && names.contains(&base) { format!("{base}{n}") } else { base });
    }
    let predicate = match &statement.predicate {
        None => None,
        Some(text) => {
            rules::expression(
                &*scope,
                Some(&shared),
                &text.text,
                Purpose::IndexPredicate,
                Some(Type::new(oid::BOOL)),
            )
            .map_err(|e| error_shifted(e, text.offset))?;
            let number = changed.columns.len() as i16 + 1;
            changed.columns.push(hidden_column(number, Type::new(oid::BOOL), &text.text));
            hidden = true;
            Some((number, crate::lex::inner(&text.text).to_string()))
        }
    };
    let mut include = Vec::new();
    for name in &statement.include {
        let Some((_, column)) = table.column(name) else {
            return Err(Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")));
        };
        include.push(column.number);
    }
    let name = match &statement.name {
        Some(name) => name.clone(),
        None => {
            free_name(&scope.catalog, table.schema, &mut HashSet::new(), &table.name, &names.join("_"), "idx")
        }
    };
    let index = Index {
        oid: session.database.engine.new_oid(),
        database: table.database,
        schema: table.schema,
        table: table.oid,
        name,
        owner: table.owner,
        storage: session.database.engine.new_storage_id(),
        kind,
        keys,
        include,
        unique: statement.unique,
        primary: false,
        nulls_distinct: statement.nulls_distinct,
        predicate,
        state: if in_steps { IndexState::WriteOnly } else { IndexState::Ready },
        comment: None,
    };
    if in_steps {
        if hidden {
            let added = changed.columns.split_off(table.columns.len());
            columns_in_steps(session, &table, added).await?;
            // What was computed with held a snapshot, perhaps to the end of the transaction: filling the index waits
            // for snapshots.
            session.commit_block().await?;
            let (_, same) = session.own_table(&statement.table, TableLockMode::ShareUpdateExclusive).await?;
            if same.oid != table.oid {
                return Err(Error::new(SqlState::UNDEFINED_TABLE, "the table was dropped meanwhile"));
            }
        }
        concurrently(session, index).await?;
        return Ok(done);
    }
    if hidden {
        session.lock(table.oid, TableLockMode::AccessExclusive).await?;
        session.change_catalog(vec![Change::Put(Object::Table(Arc::new(changed.clone())))]).await?;
        let first = table.columns.len();
        fill_hidden(session, &Arc::new(changed), first).await?;
    }
    build(session, index).await?;
    Ok(done)
}

fn hidden_column(number: i16, ty: Type, text: &str) -> Column {
    Column {
        number,
        name: format!("..hidden.{number}"),
        type_oid: ty.oid,
        typmod: ty.typmod,
        not_null: false,
        default: Some(text.to_string()),
        identity: None,
        generated: false,
        dropped: false,
        hidden: true,
        missing: None,
        comment: None,
        acl: None,
    }
}

/// Computes hidden columns from `first` on for every row that is there.
pub async fn fill_hidden(session: &mut Session, table: &Arc<Table>, first: usize) -> Result<()> {
    let scope = session.scope()?;
    let rules = scope.planning(|context| rules::of(context, table))?;
    let wanted: Vec<_> = rules.computed.iter().filter(|(n, _)| *n >= first).cloned().collect();
    rewrite_in_place(
        session,
        table,
        move |evaluator, row| {
            let before = row.to_vec();
            for (place, (column, _)) in wanted.iter().enumerate() {
                row[*column] = evaluator.value(place, &before)?;
            }
            Ok(())
        },
        |columns| rules.computed.iter().filter(|(n, _)| *n >= columns).map(|(_, e)| e.clone()).collect(),
        first,
    )
    .await
}

/// Updates every visible row of a table that is locked against writers.
async fn rewrite_in_place(
    session: &mut Session,
    table: &Arc<Table>,
    mut change: impl FnMut(&mut execute::Evaluator, &mut [value::Datum]) -> Result<()>,
    expressions: impl Fn(usize) -> Vec<resolve::tree::Expr>,
    first: usize,
) -> Result<()> {
    let scope = session.scope()?;
    let context = session.context(&scope, Arc::from([]), true, false)?;
    let snapshot = context.snapshot.clone();
    let mut evaluator = execute::Evaluator::new(&expressions(first), &context)?;
    let mut scan = snapshot.scan(table, None)?;
    let mut batch = RowBatch::default();
    let shared = session.shared.clone();
    while scan.next(&mut batch)? {
        shared.cancel.check()?;
        for (id, row) in batch.ids.iter().zip(&batch.rows) {
            let mut values = row.decode();
            values.resize(table.columns.len(), value::Datum::Null);
            change(&mut evaluator, &mut values)?;
            let tx = session.transaction()?.tx()?;
            tx.lock_row(table, *id, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot).await?;
            tx.update(table, *id, row, &values).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Publishes an index and fills it from the rows that are there.
pub async fn build(session: &mut Session, index: Index) -> Result<()> {
    let index = Arc::new(index);
    session.change_catalog(vec![Change::Put(Object::Index(index.clone()))]).await?;
    let shared = session.shared.clone();
    let tx = session.transaction()?.tx()?;
    tokio::select! {
        biased;
        result = tx.build_index(&index) => result,
        reason = shared.cancel.cancelled() => Err(reason.error()),
    }
}

/// Publishes changes at once, in a transaction beside the session's own, which only holds the lock that keeps other
/// definitions away. `changes` are made from the newest catalog.
async fn publish(
    session: &mut Session,
    schema: Oid,
    changes: impl FnOnce(&Catalog) -> Result<Vec<Change>>,
) -> Result<()> {
    let engine = &session.database.engine;
    let mut beside = engine.begin_for(&session.shared.state, Isolation::ReadCommitted, false);
    beside.lock_table(schema, TableLockMode::ShareUpdateExclusive, Wait::Block).await?;
    let changes = changes(&beside.catalog())?;
    beside.change_catalog(changes)?;
    beside.commit()?.durable.await
}

/// Runs what blocks a thread, until it is done or the statement is cancelled.
async fn blocking(
    session: &mut Session,
    work: impl FnOnce(&Engine, &dyn Fn() -> Result<()>) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (engine, shared) = (session.database.engine.clone(), session.shared.clone());
    let work = tokio::task::spawn_blocking(move || work(&engine, &|| shared.cancel.check()));
    work.await.map_err(|error| Error::internal(format!("building an index: {error}")))?
}

/// CREATE INDEX CONCURRENTLY: the index is published first, kept up to date by writers from then on, and filled in
/// steps.
async fn concurrently(session: &mut Session, index: Index) -> Result<()> {
    let (oid, schema) = (index.oid, index.schema);
    publish(session, schema, |catalog| {
        must_be_free(catalog, schema, &index.name)?;
        Ok(vec![Change::Put(Object::Index(Arc::new(index)))])
    })
    .await?;
    blocking(session, move |engine, stop| engine.build_index_concurrently(oid, stop)).await
}

/// Gives a table hidden columns while others write: from the publication on writers compute them, and rows that are
/// there get theirs step by step. Without success the columns go again.
async fn columns_in_steps(session: &mut Session, table: &Arc<Table>, added: Vec<Column>) -> Result<()> {
    let (oid, schema, first) = (table.oid, table.schema, table.columns.len());
    let last = first + added.len();
    publish(session, schema, |catalog| {
        let mut newest = table_now(catalog, oid)?;
        if newest.columns.len() != first {
            return Err(Error::internal("columns came in spite of a lock"));
        }
        newest.columns.extend(added);
        Ok(vec![Change::Put(Object::Table(Arc::new(newest)))])
    })
    .await?;
    let waited = table.clone();
    let filled = match blocking(session, move |engine, stop| engine.wait_for_writers(&waited, stop)).await {
        Ok(()) => fill_in_steps(session, oid, first).await,
        Err(error) => Err(error),
    };
    if filled.is_err() {
        publish(session, schema, |catalog| {
            let mut newest = table_now(catalog, oid)?;
            for column in newest.columns.iter_mut().take(last).skip(first) {
                forget_column(column);
            }
            Ok(vec![Change::Put(Object::Table(Arc::new(newest)))])
        })
        .await?;
    }
    filled
}

fn table_now(catalog: &Catalog, oid: Oid) -> Result<Table> {
    let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the table was dropped meanwhile");
    Ok((**catalog.table(oid).ok_or_else(gone)?).clone())
}

/// Rows that are looked at in one transaction.
const STEP: u64 = 8192;

/// Computes hidden columns from `first` on for every row that is there. A row that somebody else has locked is waited for
/// alone, with no other row locked: it takes part in no deadlock.
async fn fill_in_steps(session: &mut Session, oid: Oid, first: usize) -> Result<()> {
    let scope = session.scope()?;
    let table = Arc::new(table_now(&scope.catalog, oid)?);
    let rules = scope.planning(|context| rules::of(context, &table))?;
    let wanted: Vec<_> = rules.computed.iter().filter(|(n, _)| *n >= first).cloned().collect();
    let context = session.context(&scope, Arc::from([]), true, false)?;
    let expressions: Vec<_> = wanted.iter().map(|(_, expression)| expression.clone()).collect();
    let mut evaluator = execute::Evaluator::new(&expressions, &context)?;
    let end = context.snapshot.scan(&table, None)?.bound();
    let (engine, shared) = (session.database.engine.clone(), session.shared.clone());
    // `None`: it has them already.
    let mut completed = |row: &Row| -> Result<Option<Vec<value::Datum>>> {
        let mut values = row.decode();
        values.resize(table.columns.len(), value::Datum::Null);
        let before = values.clone();
        for (place, (column, _)) in wanted.iter().enumerate() {
            values[*column] = evaluator.value(place, &before)?;
        }
        // A writer has computed what is not NULL.
        let missing =
            wanted.iter().any(|(column, _)| before[*column].is_null() && !values[*column].is_null());
        Ok(missing.then_some(values))
    };
    let mut from = RowId(0);
    while from < end {
        shared.cancel.check()?;
        let to = RowId(from.0 + STEP);
        let mut held = Vec::new();
        {
            let mut step = engine.begin_for(&shared.state, Isolation::ReadCommitted, false);
            step.lock_table(oid, TableLockMode::RowExclusive, Wait::Block).await?;
            let snapshot = step.statement_snapshot(true)?;
            let mut scan = snapshot.scan(&table, Some(from..to))?;
            let mut batch = RowBatch::default();
            while scan.next(&mut batch)? {
                for (id, row) in batch.ids.iter().zip(&batch.rows) {
                    if completed(row)?.is_none() {
                        continue;
                    }
                    let lock = step.lock_row(&table, *id, RowLockMode::NoKeyUpdate, Wait::Skip, &snapshot);
                    let current = match lock.await? {
                        RowLock::Granted => row.clone(),
                        RowLock::Moved(newest) => newest,
                        RowLock::Skipped => {
                            held.push(*id);
                            continue;
                        }
                        RowLock::Deleted | RowLock::AlreadyChanged => continue,
                    };
                    if let Some(values) = completed(&current)? {
                        step.update(&table, *id, &current, &values).await?;
                    }
                }
            }
            step.commit()?.durable.await?;
        }
        for id in held {
            let mut alone = engine.begin_for(&shared.state, Isolation::ReadCommitted, false);
            alone.lock_table(oid, TableLockMode::RowExclusive, Wait::Block).await?;
            let snapshot = alone.statement_snapshot(true)?;
            let Some(row) = snapshot.get(&table, id)? else { continue };
            let lock = alone.lock_row(&table, id, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot);
            let lock = tokio::select! {
                biased;
                lock = lock => lock?,
                reason = shared.cancel.cancelled() => return Err(reason.error()),
            };
            let current = match lock {
                RowLock::Granted => row,
                RowLock::Moved(newest) => newest,
                RowLock::Skipped | RowLock::Deleted | RowLock::AlreadyChanged => continue,
            };
            if let Some(values) = completed(&current)? {
                alone.update(&table, id, &current, &values).await?;
            }
            alone.commit()?.durable.await?;
        }
        from = to;
    }
    Ok(())
}

/// REINDEX: indexes get new storage, filled anew.
pub async fn reindex(
    session: &mut Session,
    kind: &str,
    name: Option<&Name>,
    concurrently: bool,
) -> Result<Outcome> {
    let done = Outcome::Tag("REINDEX".into());
    if concurrently {
        session.must_stand_alone("REINDEX CONCURRENTLY")?;
        if kind == "system" {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot reindex system catalogs concurrently",
            ));
        }
    }
    let scope = session.scope()?;
    let mut tables = Vec::new();
    let mut only = None;
    match (kind, name) {
        ("index", Some(name)) => match super::relation(&scope, name)? {
            Object::Index(index) => {
                only = Some(index.oid);
                tables.push(index.table);
            }
            other => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not an index", other.name()),
                ));
            }
        },
        ("table", Some(name)) => tables.push(super::table(&scope, name)?.oid),
        ("schema", Some(name)) => {
            let schema = scope.schema_oid(&name.name).ok_or_else(|| {
                Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{}\" does not exist", name.name))
            })?;
            tables.extend(scope.catalog.objects().filter_map(|o| match o {
                Object::Table(t) if t.schema == schema => Some(t.oid),
                _ => None,
            }));
        }
        ("system", _) => return Ok(done),
        _ => tables.extend(scope.catalog.objects().filter_map(|o| match o {
            Object::Table(t) if t.database == session.shared.database => Some(t.oid),
            _ => None,
        })),
    }
    for table in tables {
        let Some(found) = scope.catalog.table(table) else { continue };
        privilege::must_own(&scope.catalog, scope.role, found.owner, "table", &found.name)?;
        let in_steps = concurrently && found.persistence == Persistence::Permanent;
        let mode = match in_steps {
            true => TableLockMode::ShareUpdateExclusive,
            false => TableLockMode::AccessExclusive,
        };
        session.lock(table, mode).await?;
        let scope = session.scope()?;
        let Some(found) = scope.catalog.table(table).cloned() else { continue };
        let indexes: Vec<Arc<Index>> =
            scope.catalog.indexes(table).filter(|i| only.is_none_or(|o| o == i.oid)).cloned().collect();
        for index in indexes {
            if in_steps {
                reindex_in_steps(session, &found, &index).await?;
                continue;
            }
            let state = match index.state {
                IndexState::WriteOnly => IndexState::Ready,
                state => state,
            };
            let storage = session.database.engine.new_storage_id();
            let anew = Index { storage, state, ..(*index).clone() };
            build(session, anew).await?;
        }
    }
    Ok(done)
}

/// Fills a second index beside one that is in use, and puts its storage in the place of the old.
async fn reindex_in_steps(session: &mut Session, table: &Arc<Table>, index: &Arc<Index>) -> Result<()> {
    if table.deferrable(index.oid).is_some() {
        return Err(Error::unsupported(
            format_args!("REINDEX CONCURRENTLY of the deferrable constraint's index \"{}\"", index.name),
            "Use REINDEX.",
        ));
    }
    let (old, schema) = (index.oid, index.schema);
    let second = session.database.engine.new_oid();
    let storage = session.database.engine.new_storage_id();
    publish(session, schema, |catalog| {
        let mut name = format!("{}_ccnew", index.name);
        for number in 1.. {
            if catalog.relation(schema, &name).is_none() {
                break;
            }
            name = format!("{}_ccnew{number}", index.name);
        }
        let state = IndexState::WriteOnly;
        let index = Index { oid: second, storage, name, primary: false, state, ..(**index).clone() };
        Ok(vec![Change::Put(Object::Index(Arc::new(index)))])
    })
    .await?;
    let filled = blocking(session, move |engine, stop| engine.build_index_concurrently(second, stop)).await;
    if let Err(error) = filled {
        publish(session, schema, |_| Ok(vec![Change::Drop(second)])).await?;
        return Err(error);
    }
    publish(session, schema, |catalog| {
        let gone =
            || Error::new(SqlState::UNDEFINED_OBJECT, "the index was dropped while it was being built");
        let before = catalog.index(old).ok_or_else(gone)?;
        let new = catalog.index(second).ok_or_else(gone)?;
        let first = Index { storage: new.storage, state: IndexState::Ready, ..(**before).clone() };
        // Writers keep the old storage for those who still read it.
        let second = Index { storage: before.storage, state: IndexState::WriteOnly, ..(**new).clone() };
        Ok([first, second].map(|index| Change::Put(Object::Index(Arc::new(index)))).to_vec())
    })
    .await?;
    let (waited, own) = (table.clone(), session.shared.pid);
    blocking(session, move |engine, stop| engine.wait_for_others(&waited, own, stop)).await?;
    publish(session, schema, |_| Ok(vec![Change::Drop(second)])).await
}
