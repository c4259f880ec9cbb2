//! The one place where the executor reads tables: what a transaction has read is known here.

use engine::catalog::{Index, Table};
use engine::{IndexScan, KeyRange, Row, RowId, ScanFilter, TableScan};
use value::Result;

use crate::state::State;

/// All rows the statement sees; its reader looks at nothing in those that do not meet the filter.
pub(crate) fn scan(state: &mut State, table: &Table, filter: &ScanFilter) -> Result<TableScan> {
    state.context.snapshot.scan_filtered(table, None, filter)
}

/// Rows with index keys in a range, in key order.
pub(crate) fn index_scan(
    state: &mut State,
    table: &Table,
    index: &Index,
    range: KeyRange,
    backward: bool,
) -> Result<IndexScan> {
    state.counters.used_index(index.oid);
    state.context.snapshot.index_scan(table, index, range, backward)
}

/// The row of a unique index's whole key.
pub(crate) fn index_get(
    state: &mut State,
    table: &Table,
    index: &Index,
    key: &[u8],
) -> Result<Option<(RowId, Row)>> {
    state.counters.used_index(index.oid);
    state.context.snapshot.index_get(table, index, key)
}
