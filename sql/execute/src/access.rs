//! The one place where the executor reads tables: what a transaction has read is known here.

use engine::catalog::{Index, Table};
use engine::{Columns, IndexScan, KeyRange, Row, RowId, ScanFilter, TableScan};
use value::Result;

use crate::context::Context;
use crate::state::State;

/// The columns a scan looks at, where they are to be remembered.
pub(crate) fn columns(context: &Context, columns: &[usize]) -> Columns {
    match context.snapshot.is_validated() {
        true => Columns::of(columns.iter().copied()),
        false => Columns::all(),
    }
}

/// All rows the statement sees; its reader looks at nothing in those that do not meet the filter.
pub(crate) fn scan(
    state: &mut State,
    table: &Table,
    filter: &ScanFilter,
    columns: &Columns,
) -> Result<TableScan> {
    state.context.snapshot.of_columns(columns).scan_filtered(table, None, filter)
}

/// Rows with index keys in a range, in key order.
pub(crate) fn index_scan(
    state: &mut State,
    (table, index): (&Table, &Index),
    columns: &Columns,
    range: KeyRange,
    backward: bool,
) -> Result<IndexScan> {
    state.counters.used_index(index.oid);
    state.context.snapshot.of_columns(columns).index_scan(table, index, range, backward)
}

/// The row of a unique index's whole key.
pub(crate) fn index_get(
    state: &mut State,
    (table, index): (&Table, &Index),
    columns: &Columns,
    key: &[u8],
) -> Result<Option<(RowId, Row)>> {
    state.counters.used_index(index.oid);
    let snapshot = &state.context.snapshot;
    match snapshot.is_validated() {
        true => snapshot.of_columns(columns).index_get(table, index, key),
        false => snapshot.index_get(table, index, key),
    }
}
