//! pending
use value::Result;
use crate::base::KeyRange;
use crate::catalog::{Index, Table};
use crate::ids::{Lsn, RowId};
use crate::row::Row;
use crate::scan::{IndexScan, TableScan};
use crate::sync::Arc;
#[derive(Clone, Debug)]
pub struct Snapshot(pub(crate) Arc<()>);
fn pending<T>() -> Result<T> { Err(value::Error::internal("pending")) }
impl Snapshot {
    /// Its timestamp.
    pub fn timestamp(&self) -> Lsn { Lsn(0) }
    /// The row as this snapshot sees it.
    pub fn get(&self, _table: &Table, _row: RowId) -> Result<Option<Row>> { pending() }
    /// Rows in row id order.
    pub fn scan(&self, _table: &Table, _range: Option<std::ops::Range<RowId>>) -> Result<TableScan> { pending() }
    /// Visible rows in key order; entries are re-checked against the visible version's key.
    pub fn index_scan(&self, _table: &Table, _index: &Index, _range: KeyRange, _backward: bool) -> Result<IndexScan> { pending() }
    /// The first visible row with exactly that key: the short way for a unique index.
    pub fn index_get(&self, _table: &Table, _index: &Index, _key: &[u8]) -> Result<Option<(RowId, Row)>> { pending() }
    /// Live rows, about.
    pub fn row_estimate(&self, _table: &Table) -> u64 { 0 }
}
