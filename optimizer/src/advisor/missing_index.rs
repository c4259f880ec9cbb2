//! An index that is not there: statements that read many rows of a table to keep few.

use std::collections::BTreeMap;

use sql::quote_ident;

use super::{Facts, Recommendation, ScanFact};

/// Executions before a statement is believed to come again.
const FEWEST_CALLS: u64 = 50;
/// Rows below which a scan is as good as an index.
const SMALLEST_TABLE: f64 = 500.0;
/// Share of a table's rows above which an index does not help.
const LARGEST_SHARE: f64 = 0.1;
/// A row through an index costs about this many rows of a scan.
const INDEX_ROW: f64 = 10.0;
/// Bytes of an index entry: key, row id, the tree above.
const ENTRY_BYTES: f64 = 32.0;

/// Proposes `CREATE INDEX` on the columns that costly scans filter by: those compared by `=` first, then one range. Proposals
/// for one table where one list of columns begins with the other become one.
///
/// Example: `SELECT * FROM people WHERE city = $1` ran 60 times, each reading 100,000 rows to return 12, and `people` has
/// only its primary key on `id`. The advice is `CREATE INDEX ON public.people (city)`, because "60 executions each read
/// about 100000 rows of public.people to return 12; they filter on city, which no index begins with".
pub(crate) fn missing_index(facts: &Facts, advice: &mut Vec<Recommendation>) {
    let mut found: BTreeMap<(u32, Vec<String>), Recommendation> = BTreeMap::new();
    for statement in facts.statements.iter().filter(|statement| statement.calls >= FEWEST_CALLS) {
        for scan in &statement.scans {
            let Some(columns) = wanted(scan) else { continue };
            // What remains of the scan's work; the rest of the statement is unknown and taken to be the scan.
            let share = (scan.remaining * INDEX_ROW / scan.rows).min(1.0);
            let saved = statement.total_ns as f64 * (1.0 - share);
            let calls = statement.calls as f64;
            let table = format!("{}.{}", quote_ident(&scan.schema), quote_ident(&scan.name));
            let list: Vec<String> = columns.iter().map(|column| quote_ident(column)).collect();
            let index = format!("{}_{}_idx", scan.name, columns.join("_"));
            let reason = format!(
                "{} executions each read about {:.0} rows of {}.{} to return {:.0}; they filter on {}, which no index begins with",
                statement.calls,
                statement.rows_scanned as f64 / calls,
                scan.schema,
                scan.name,
                statement.rows_returned as f64 / calls,
                columns.join(", "),
            );
            let entry = found.entry((scan.table, columns.clone())).or_insert_with(|| Recommendation {
                kind: "CREATE_INDEX",
                table: scan.table,
                table_name: format!("{}.{}", scan.schema, scan.name),
                sql: format!("CREATE INDEX {} ON {table} ({})", quote_ident(&index), list.join(", ")),
                undo_sql: format!("DROP INDEX {}.{}", quote_ident(&scan.schema), quote_ident(&index)),
                columns,
                reason,
                saved_ns: 0.0,
                speed_up: 1.0,
                storage_bytes: scan.rows * ENTRY_BYTES,
                fingerprints: Vec::new(),
            });
            entry.saved_ns += saved;
            entry.speed_up = entry.speed_up.max(1.0 / share.max(1.0 / scan.rows));
            if !entry.fingerprints.contains(&statement.fingerprint) {
                entry.fingerprints.push(statement.fingerprint);
            }
        }
    }
    // A longer list serves the statements of a shorter one that it begins with.
    let keys: Vec<(u32, Vec<String>)> = found.keys().cloned().collect();
    for (table, columns) in &keys {
        let longer = keys
            .iter()
            .find(|(other, more)| other == table && more.len() > columns.len() && more.starts_with(columns));
        if let Some(longer) = longer
            && let Some(short) = found.remove(&(*table, columns.clone()))
            && let Some(long) = found.get_mut(longer)
        {
            long.saved_ns += short.saved_ns;
            for fingerprint in short.fingerprints {
                if !long.fingerprints.contains(&fingerprint) {
                    long.fingerprints.push(fingerprint);
                }
            }
        }
    }
    advice.extend(found.into_values());
}

/// The columns an index for this scan needs, unless there is one or it would not help.
fn wanted(scan: &ScanFact) -> Option<Vec<String>> {
    if scan.rows < SMALLEST_TABLE || scan.remaining > scan.rows * LARGEST_SHARE {
        return None;
    }
    let mut columns = scan.equal.clone();
    columns.sort();
    columns.dedup();
    columns.extend(scan.range.iter().find(|column| !scan.equal.contains(column)).cloned());
    columns.truncate(5);
    let first = columns.first()?;
    // An index that begins with one of the columns was there for the planner to take, and it chose the scan.
    let served = scan.indexes.iter().any(|index| {
        index.first() == Some(first) || index.first().is_some_and(|column| scan.equal.contains(column))
    });
    (!served).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::super::{Statement, advise};
    use super::*;

    fn scan(equal: &[&str], range: &[&str], remaining: f64, indexes: &[&[&str]]) -> ScanFact {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        ScanFact {
            table: 16_400,
            schema: "public".into(),
            name: "people".into(),
            equal: owned(equal),
            range: owned(range),
            rows: 100_000.0,
            remaining,
            indexes: indexes.iter().map(|index| owned(index)).collect(),
        }
    }

    fn facts(calls: u64, scans: Vec<Vec<ScanFact>>) -> Facts {
        let statements = scans
            .into_iter()
            .enumerate()
            .map(|(number, scans)| Statement {
                fingerprint: number as u64,
                text: String::new(),
                calls,
                mean_ns: 1e6,
                total_ns: calls * 1_000_000,
                rows_scanned: calls * 100_000,
                rows_returned: calls * 12,
                scans,
            })
            .collect();
        Facts { statements }
    }

    #[test]
    fn the_example_of_the_documentation() {
        let advice = advise(&facts(60, vec![vec![scan(&["city"], &[], 12.0, &[&["id"]])]]));
        assert_eq!(advice.len(), 1);
        assert_eq!(advice[0].sql, "CREATE INDEX people_city_idx ON public.people (city)");
        assert_eq!(advice[0].undo_sql, "DROP INDEX public.people_city_idx");
        assert_eq!(
            advice[0].reason,
            "60 executions each read about 100000 rows of public.people to return 12; they filter on city, which no index begins with"
        );
        assert!(advice[0].speed_up > 100.0 && advice[0].saved_ns > 59e6, "{:?}", advice[0]);
    }

    #[test]
    fn what_needs_no_index() {
        for (why, calls, fact) in [
            ("too few executions", 49, scan(&["city"], &[], 12.0, &[])),
            ("an index begins with it", 60, scan(&["city"], &[], 12.0, &[&["city", "name"]])),
            ("keeps half of the table", 60, scan(&["city"], &[], 50_000.0, &[])),
            ("no usable condition", 60, scan(&[], &[], 12.0, &[])),
        ] {
            assert!(advise(&facts(calls, vec![vec![fact]])).is_empty(), "{why}");
        }
    }

    #[test]
    fn equality_before_range_and_prefixes_merge() {
        let advice = advise(&facts(
            60,
            vec![vec![scan(&["city"], &["Age"], 12.0, &[])], vec![scan(&["city"], &[], 12.0, &[])]],
        ));
        assert_eq!(advice.len(), 1);
        assert_eq!(advice[0].sql, "CREATE INDEX \"people_city_Age_idx\" ON public.people (city, \"Age\")");
        assert_eq!(advice[0].fingerprints, [0, 1]);
    }
}
