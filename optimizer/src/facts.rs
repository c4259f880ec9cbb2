//! Gathers the facts: the costly statements of the history, planned once more to see what they scan.

use std::collections::HashMap;
use std::sync::Arc;

use sql::Database;
use value::{Oid, Result};

use crate::advisor::{Facts, ScanFact, Statement};
use crate::aggregate::Aggregates;

/// Statements that are looked at in one round, by total time.
const MOST_STATEMENTS: usize = 200;
/// Executions before a statement is looked at.
const FEWEST_CALLS: u64 = 50;

/// A statement worth planning: its database and one text of it as it was sent.
pub(crate) struct Costly {
    statement: Statement,
    database: Oid,
    sample: Arc<str>,
}

/// The statements that scan much more than they return, most expensive first.
pub(crate) fn costly(aggregates: &Aggregates) -> Vec<Costly> {
    let mut found: Vec<Costly> = aggregates
        .queries()
        .filter(|query| !query.sample.is_empty())
        .filter_map(|query| {
            let total = query.total();
            if total.calls < FEWEST_CALLS || total.rows_scanned < total.rows_returned * 10 {
                return None;
            }
            let statement = Statement {
                fingerprint: query.fingerprint,
                text: query.text.to_string(),
                calls: total.calls,
                mean_ns: total.total_ns as f64 / total.calls as f64,
                total_ns: total.total_ns,
                rows_scanned: total.rows_scanned,
                rows_returned: total.rows_returned,
                scans: Vec::new(),
            };
            Some(Costly { statement, database: query.database, sample: query.sample.clone() })
        })
        .collect();
    found.sort_by_key(|costly| std::cmp::Reverse(costly.statement.total_ns));
    found.truncate(MOST_STATEMENTS);
    found
}

/// Plans each sample as the superuser would. One that cannot be planned any more (its table is gone) is left out.
/// Errors: no session could be opened.
pub(crate) async fn gather(database: &Arc<Database>, costly: Vec<Costly>) -> Result<Facts> {
    let mut sessions = HashMap::new();
    let mut facts = Facts::default();
    for Costly { mut statement, database: of, sample } in costly {
        let name = database.engine().catalog().database(of).map(|found| found.name.clone());
        let Some(name) = name else { continue };
        let session = match sessions.entry(of) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(database.internal_session(&name).await?)
            }
        };
        match session.scans_of(&sample) {
            Ok(scans) => {
                statement.scans = scans
                    .into_iter()
                    .map(|scan| ScanFact {
                        table: scan.table,
                        schema: scan.schema,
                        name: scan.name,
                        equal: scan.equal,
                        range: scan.range,
                        rows: scan.rows,
                        remaining: scan.remaining,
                        indexes: scan.indexes,
                    })
                    .collect();
                if !statement.scans.is_empty() {
                    facts.statements.push(statement);
                }
            }
            Err(error) => tracing::debug!(%error, "a logged statement cannot be planned any more"),
        }
    }
    Ok(facts)
}
