//! PREPARE, EXECUTE, DEALLOCATE.

use std::sync::Arc;

use resolve::{ExprScope, Purpose};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::grammar::error_shifted;
use crate::session::{Outcome, Session};
use crate::statement::{Fragment, Statement, TypeName};

pub fn prepare(
    session: &mut Session,
    name: &str,
    types: &[TypeName],
    statement: &Fragment,
) -> Result<Outcome> {
    let declared: Vec<Oid> = types
        .iter()
        .map(|ty| match ty {
            TypeName::Known(ty) | TypeName::Serial(ty) => ty.oid,
        })
        .collect();
    let parsed = session.fragment(statement)?;
    if !matches!(*parsed.statement, Statement::Query(_)) {
        return Err(Error::new(
            SqlState::INVALID_PREPARED_STATEMENT_DEFINITION,
            "utility statements cannot be prepared",
        ));
    }
    let prepared = session.prepare(name, Some(parsed), &declared)?;
    session.remember_statement(prepared, true)?;
    Ok(Outcome::Tag("PREPARE".into()))
}

pub async fn execute(session: &mut Session, name: &str, arguments: &[Fragment]) -> Result<Outcome> {
    let Some(prepared) = session.statements.get(name).cloned() else {
        return Err(Error::new(
            SqlState::INVALID_SQL_STATEMENT_NAME,
            format!("prepared statement \"{name}\" does not exist"),
        ));
    };
    let Some(parsed) = prepared.parsed.clone() else { return Ok(Outcome::Tag(String::new())) };
    if arguments.len() != prepared.types.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!("wrong number of parameters for prepared statement \"{name}\""),
        )
        .detail(format!("Expected {} parameters but got {}.", prepared.types.len(), arguments.len())));
    }
    let values = values(session, arguments, &prepared.types)?;
    let Statement::Query(query) = &*parsed.statement else {
        if session.depth > 16 {
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "EXECUTE is nested too deep"));
        }
        session.depth += 1;
        let outcome = Box::pin(session.run_utility(&parsed, &prepared, values)).await;
        session.depth -= 1;
        return outcome;
    };
    let (state, _) = session.open_query(&parsed, query, &prepared, values, prepared.columns.as_ref()).await?;
    Ok(Outcome::State(state))
}

/// The values of EXECUTE's arguments, coerced to the parameters' types.
pub fn values(session: &mut Session, fragments: &[Fragment], types: &[Oid]) -> Result<Arc<[Datum]>> {
    if fragments.is_empty() {
        return Ok(Arc::from([]));
    }
    let scope = session.scope()?;
    let context = session.context(&scope, Arc::from([]), false, false)?;
    let mut values = Vec::new();
    for (fragment, ty) in fragments.iter().zip(types) {
        let value = (|| {
            let parsed = resolve::parse_expression(&fragment.text)?;
            let expr = resolve::resolve_expression(
                &*scope,
                &parsed,
                &fragment.text,
                ExprScope { table: None, purpose: Purpose::Argument },
                Some(Type::new(*ty)),
            )?;
            execute::evaluate(&expr, &context)
        })()
        .map_err(|e| error_shifted(e, fragment.offset))?;
        values.push(value);
    }
    Ok(values.into())
}

pub fn deallocate(session: &mut Session, name: Option<&str>) -> Result<Outcome> {
    match name {
        None => {
            session.statements.retain(|name, _| name.is_empty());
            session.shared.prepared.lock().clear();
            Ok(Outcome::Tag("DEALLOCATE ALL".into()))
        }
        Some(name) => {
            if !session.forget_statement(name) {
                return Err(Error::new(
                    SqlState::INVALID_SQL_STATEMENT_NAME,
                    format!("prepared statement \"{name}\" does not exist"),
                ));
            }
            Ok(Outcome::Tag("DEALLOCATE".into()))
        }
    }
}
