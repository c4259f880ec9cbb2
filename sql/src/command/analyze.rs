//! ANALYZE, VACUUM, CHECKPOINT.
//!
//! ANALYZE reads a sample of each table: whole batches, evenly spread by skipping, so that the order of rows within
//! a batch still tells the correlation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering as Memory;

use engine::catalog::{Object, Table};
use engine::{ColumnStatistics, CommonValue, RowBatch, StatisticsValue, TableLockMode, TableStatistics};
use value::text::Style;
use value::types::oid;
use value::{Datum, Error, Result, SqlState, compare, datetime};

use crate::session::{Outcome, Session, blocking};
use crate::statement::Name;
use crate::{predefined, privilege};

/// Rows looked at per table: as PostgreSQL's 300 per statistics target of 100.
const SAMPLE: usize = 30_000;
/// Most common values and histogram bounds kept.
const TARGET: usize = 100;
/// Values longer than this are left out of lists.
const LONGEST: usize = 1024;

pub async fn run(session: &mut Session, tables: &[(Name, Vec<String>)]) -> Result<Outcome> {
    let chosen = choose(session, tables)?;
    for table in chosen {
        session.lock(table.oid, TableLockMode::ShareUpdateExclusive).await?;
        let scope = session.scope()?;
        let Some(table) = scope.catalog.table(table.oid).cloned() else { continue };
        analyze(session, &table)?;
        tokio::task::yield_now().await;
    }
    session.database.statistics_epoch.fetch_add(1, Memory::Relaxed);
    Ok(Outcome::Tag("ANALYZE".into()))
}

fn choose(session: &mut Session, tables: &[(Name, Vec<String>)]) -> Result<Vec<Arc<Table>>> {
    let scope = session.scope()?;
    if tables.is_empty() {
        return Ok(scope
            .catalog
            .objects()
            .filter_map(|o| match o {
                Object::Table(t)
                    if t.database == session.shared.database
                        && privilege::owns(&scope.catalog, scope.role, t.owner) =>
                {
                    Some(t.clone())
                }
                _ => None,
            })
            .collect());
    }
    let mut chosen = Vec::new();
    for (name, columns) in tables {
        let table = match super::relation(&scope, name) {
            Ok(Object::Table(table)) => table,
            Ok(other) => {
                session.notice(
                    "WARNING",
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "skipping \"{}\" --- cannot analyze non-tables or special system tables",
                        other.name()
                    ),
                );
                continue;
            }
            Err(error) if error.state() == SqlState::INSUFFICIENT_PRIVILEGE => continue,
            Err(error) => return Err(error),
        };
        for column in columns {
            if table.column(column).is_none() {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
                ));
            }
        }
        if !privilege::owns(&scope.catalog, scope.role, table.owner) {
            session.notice(
                "WARNING",
                SqlState::WARNING,
                format!("skipping \"{}\" --- only table or database owner can analyze it", table.name),
            );
            continue;
        }
        chosen.push(table);
    }
    Ok(chosen)
}

fn analyze(session: &mut Session, table: &Arc<Table>) -> Result<()> {
    let snapshot = session.transaction()?.tx()?.statement_snapshot(false)?;
    let cancel = session.shared.cancel.clone();
    let estimate = snapshot.row_estimate(table) as usize;
    let statistics = blocking(|| -> Result<TableStatistics> {
        let mut scan = snapshot.scan(table, None)?;
        let mut batch = RowBatch::default();
        let every = (estimate / SAMPLE).max(1);
        let (mut rows, mut width, mut taken) = (0u64, 0u64, 0u64);
        let mut columns: Vec<Vec<(Datum, usize)>> = vec![Vec::new(); table.columns.len()];
        while scan.next(&mut batch)? {
            cancel.check()?;
            for row in &batch.rows {
                rows += 1;
                if !rows.is_multiple_of(every as u64) {
                    continue;
                }
                taken += 1;
                width += row.bytes().len() as u64;
                for (n, column) in table.columns.iter().enumerate() {
                    if !column.dropped {
                        columns[n].push((row.get(n), taken as usize));
                    }
                }
            }
        }
        let mut out = BTreeMap::new();
        for (n, column) in table.columns.iter().enumerate() {
            if !column.dropped {
                let values = std::mem::take(&mut columns[n]);
                out.insert(column.number, column_statistics(values, column.type_oid, rows));
            }
        }
        Ok(TableStatistics {
            rows,
            analyzed_rows: Some(rows),
            analyzed_at: Some(datetime::now()),
            row_width: width.checked_div(taken).unwrap_or(0) as u32,
            columns: out,
        })
    })?;
    session.database.engine.store_statistics(table.oid, statistics)
}

fn stored(value: &Datum, ty: value::Oid) -> Option<StatisticsValue> {
    let mut key = Vec::new();
    value::key::encode(value, ty, false, false, &mut key);
    let text = value::text::output_string(value, ty, &Style::default());
    (key.len() <= LONGEST && text.len() <= LONGEST).then_some(StatisticsValue { key, text })
}

fn column_statistics(mut values: Vec<(Datum, usize)>, ty: value::Oid, rows: u64) -> ColumnStatistics {
    let total = values.len();
    if total == 0 {
        return ColumnStatistics::default();
    }
    values.retain(|(v, _)| !v.is_null());
    let present = values.len();
    let mut statistics = ColumnStatistics {
        null_fraction: (total - present) as f64 / total as f64,
        ..ColumnStatistics::default()
    };
    if present == 0 {
        return statistics;
    }
    let mut bytes = Vec::new();
    for (value, _) in values.iter().take(1000) {
        value::binary::send(value, ty, &mut bytes);
    }
    statistics.average_width = (bytes.len() / present.min(1000)) as u32;
    if matches!(ty, oid::JSON) {
        return statistics;
    }
    values.sort_by(|(a, _), (b, _)| compare::compare_typed(ty, a, b));
    // Runs of equal values.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for n in 1..=present {
        if n == present || compare::compare_typed(ty, &values[n - 1].0, &values[n].0).is_ne() {
            runs.push((start, n - start));
            start = n;
        }
    }
    let distinct = runs.len();
    let once = runs.iter().filter(|(_, count)| *count == 1).count();
    let scale = rows as f64 * (present as f64 / total as f64);
    statistics.distinct = if once == distinct {
        -(1.0 - statistics.null_fraction)
    } else if once == 0 {
        distinct as f64
    } else {
        // Haas and Stokes: n*d / (n - f1 + f1*n/N), as PostgreSQL's ANALYZE.
        let (n, d, f1) = (present as f64, distinct as f64, once as f64);
        let estimate = n * d / (n - f1 + f1 * n / scale.max(n));
        let estimate = estimate.clamp(d, scale.max(d));
        if estimate > 0.1 * rows as f64 { -(estimate / rows as f64) } else { estimate.round() }
    };
    let mut common: Vec<(usize, usize)> = runs.iter().copied().filter(|(_, count)| *count > 1).collect();
    common.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let average = present as f64 / distinct as f64;
    if distinct > TARGET {
        common.retain(|(_, count)| *count as f64 > average * 1.25);
    }
    common.truncate(TARGET);
    statistics.most_common = common
        .iter()
        .filter_map(|(at, count)| {
            Some(CommonValue { value: stored(&values[*at].0, ty)?, frequency: *count as f64 / total as f64 })
        })
        .collect();
    let is_common = |at: usize| common.iter().any(|(start, count)| (*start..start + count).contains(&at));
    let rest: Vec<usize> =
        runs.iter().filter(|(at, _)| !is_common(*at)).flat_map(|(at, count)| *at..*at + *count).collect();
    if rest.len() > 1 {
        let bounds = (TARGET + 1).min(rest.len());
        statistics.histogram = (0..bounds)
            .filter_map(|n| stored(&values[rest[n * (rest.len() - 1) / (bounds - 1).max(1)]].0, ty))
            .collect();
    }
    if present > 1 {
        // Rank correlation of value order and row order.
        let mean = (present as f64 - 1.0) / 2.0;
        let mut order: Vec<(usize, usize)> =
            values.iter().enumerate().map(|(rank, (_, row))| (*row, rank)).collect();
        order.sort_unstable();
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (position, (_, rank)) in order.iter().enumerate() {
            covariance += (position as f64 - mean) * (*rank as f64 - mean);
            variance += (position as f64 - mean).powi(2);
        }
        statistics.correlation = if variance > 0.0 { covariance / variance } else { 0.0 };
    }
    statistics
}

/// VACUUM: dead versions go by themselves; what is left to do is a checkpoint and, if asked, ANALYZE.
pub async fn vacuum(session: &mut Session, tables: &[(Name, Vec<String>)], analyze: bool) -> Result<Outcome> {
    session.must_stand_alone("VACUUM")?;
    choose(session, tables)?;
    if analyze {
        run(session, tables).await?;
    }
    if tables.is_empty() && session.scope()?.superuser {
        let engine = session.database.engine.clone();
        blocking(|| engine.checkpoint())?;
    }
    Ok(Outcome::Tag("VACUUM".into()))
}

pub fn checkpoint(session: &mut Session) -> Result<Outcome> {
    let scope = session.scope()?;
    if !privilege::acts_as(&scope.catalog, scope.role, predefined::CHECKPOINT) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "must be superuser or have privileges of pg_checkpoint to do CHECKPOINT",
        ));
    }
    let engine = session.database.engine.clone();
    blocking(|| engine.checkpoint())?;
    Ok(Outcome::Tag("CHECKPOINT".into()))
}
