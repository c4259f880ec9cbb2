//! pending
use arrow::record_batch::RecordBatch;
use value::{Result, Type};
use crate::ids::RowId;
use crate::row::Row;
fn pending<T>() -> Result<T> { Err(value::Error::internal("pending")) }
/// Rows with their ids, as a scan hands them out.
#[derive(Clone, Debug, Default)]
pub struct RowBatch { pub ids: Vec<RowId>, pub rows: Vec<Row> }
impl RowBatch {
    pub fn new() -> RowBatch { RowBatch::default() }
    pub fn clear(&mut self) { self.ids.clear(); self.rows.clear(); }
    pub fn len(&self) -> usize { self.ids.len() }
    pub fn is_empty(&self) -> bool { self.ids.is_empty() }
}
pub struct TableScan { _private: () }
impl TableScan {
    /// Clears `batch` and fills it with the next rows (at most 1024); false at the end.
    pub fn next(&mut self, _batch: &mut RowBatch) -> Result<bool> { pending() }
    /// At most `rows` rows as columns: `columns` are indexes into `Table::columns`, `types` their types; with
    /// `row_ids` a last column of unsigned 64-bit row ids.
    pub fn next_arrow(&mut self, _columns: &[usize], _types: &[Type], _rows: usize, _row_ids: bool) -> Result<Option<RecordBatch>> { pending() }
}
pub struct IndexScan { _private: () }
impl IndexScan {
    /// Clears `batch` and fills it with the next rows (at most 256); false at the end.
    pub fn next(&mut self, _batch: &mut RowBatch) -> Result<bool> { pending() }
    /// As [`TableScan::next_arrow`].
    pub fn next_arrow(&mut self, _columns: &[usize], _types: &[Type], _rows: usize, _row_ids: bool) -> Result<Option<RecordBatch>> { pending() }
}
