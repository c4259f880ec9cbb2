//! EXPLAIN [ANALYZE].

use std::sync::Arc;
use std::time::Instant;

use value::{Datum, Error, Result, SqlState};

use crate::explain::{self, Measured};
use crate::session::{Outcome, Portal, PortalState, Prepared, Session};
use crate::statement::{ExplainOptions, Parsed, Statement};

pub async fn run(
    session: &mut Session,
    options: ExplainOptions,
    statement: &Parsed,
    outer: &Arc<Prepared>,
    parameters: Arc<[Datum]>,
) -> Result<Outcome> {
    let begun = Instant::now();
    let (parsed, values, prepared) = match &*statement.statement {
        Statement::Query(_) => {
            let prepared = session.prepare("", Some(statement.clone()), &outer.declared)?;
            (statement.clone(), parameters, Arc::new(prepared))
        }
        Statement::Execute { name, arguments } => {
            let Some(prepared) = session.statements.get(name).cloned() else {
                return Err(crate::session::missing_statement(name));
            };
            let Some(parsed) = prepared.parsed.clone() else {
                return Err(Error::internal("an empty statement"));
            };
            let values = super::prepare::values(session, arguments, &prepared.types)?;
            (parsed, values, prepared)
        }
        Statement::CreateTableAs { query, .. } | Statement::Declare { query, .. } => {
            let parsed = session.fragment(query)?;
            let prepared = session.prepare("", Some(parsed.clone()), &[])?;
            (parsed, Arc::from([]), Arc::new(prepared))
        }
        _ => {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                "EXPLAIN is for queries, EXECUTE, DECLARE and CREATE TABLE AS",
            ));
        }
    };
    let Statement::Query(query) = &*parsed.statement else {
        return Err(Error::unsupported("EXPLAIN of this statement", "EXPLAIN the query in it."));
    };
    let takes_parameters = !prepared.types.is_empty();
    let (scope, resolved, _) =
        session.resolve_query(&parsed, query, &prepared.types, takes_parameters, Some(&prepared.resolved))?;
    let planning = begun.elapsed();
    if !options.analyze {
        let summary = options.summary.unwrap_or(false).then_some((planning, None));
        let executor = if session.vectorised_for(&scope, &resolved).is_some() { "vectorised" } else { "row" };
        return Ok(print(&scope, &resolved.plan, options, &Measured::default(), executor, summary));
    }
    crate::privilege::check_plan(&scope.catalog, scope.role, &resolved.plan)?;
    session.check_read_only(&resolved)?;
    session.lock_plan(&resolved).await?;
    let begun = Instant::now();
    let state = session.open_plan(&scope, &resolved, values, true)?;
    let mut portal = Portal::new(prepared, Arc::from([]), None);
    portal.state = state;
    while session.rows_of(&mut portal.state, 512).await?.is_some() {
        session.shared.cancel.check()?;
    }
    let execution = begun.elapsed();
    let mut measured = Measured::analyzed();
    match &portal.state {
        PortalState::Reading { cursor, .. } => measured.read(&resolved.plan, &cursor.actuals()),
        PortalState::Driving { driver, .. } => measured.read(&resolved.plan, &driver.actuals()),
        _ => {}
    }
    session.finish_driver(&mut portal)?;
    let summary = options.summary.unwrap_or(true).then_some((planning, Some(execution)));
    // Measuring node by node is what the row executor does.
    let executor = match session.vectorised_for(&scope, &resolved) {
        Some(_) => "row (vectorised without ANALYZE)",
        None => "row",
    };
    Ok(print(&scope, &resolved.plan, options, &measured, executor, summary))
}

fn print(
    scope: &crate::scope::Scope,
    plan: &plan::ir::Plan,
    options: ExplainOptions,
    measured: &Measured,
    executor: &'static str,
    summary: Option<(std::time::Duration, Option<std::time::Duration>)>,
) -> Outcome {
    let printer = explain::Printer { scope, plan, options, measured, executor };
    let rows = if options.json {
        vec![vec![Datum::text(printer.json(summary))]]
    } else {
        printer.text(summary).into_iter().map(|line| vec![Datum::text(line)]).collect()
    };
    Outcome::Rows { rows, tag: "EXPLAIN".into() }
}
