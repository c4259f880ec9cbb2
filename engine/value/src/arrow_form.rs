//! Arrow forms.
use crate::types::Type;
use crate::{Datum, Error, Result, SqlState};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
/// The Arrow type that columns of `ty` have.
pub fn data_type(_ty: Type) -> DataType { DataType::Null }
pub struct ColumnBuilder { _ty: Type }
impl ColumnBuilder {
    pub fn new(ty: Type, _capacity: usize) -> ColumnBuilder { ColumnBuilder { _ty: ty } }
    /// XX000 when the value is not of the column's type; 22003 when a numeric does not fit its Decimal128.
    pub fn append(&mut self, _value: &Datum) -> Result<()> { Err(Error::new(SqlState::INTERNAL_ERROR, "pending")) }
    pub fn append_null(&mut self) {}
    pub fn len(&self) -> usize { 0 }
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    /// The column so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef { arrow::array::new_empty_array(&DataType::Null) }
}
/// Reads rows of one column; the downcast happens once.
pub struct ColumnReader<'a> { _array: &'a dyn Array }
impl<'a> ColumnReader<'a> {
    pub fn new(array: &'a dyn Array, _ty: Type) -> Result<ColumnReader<'a>> { Ok(ColumnReader { _array: array }) }
    pub fn get(&self, _row: usize) -> Result<Datum> { Ok(Datum::Null) }
}
pub fn datum_at(array: &dyn Array, ty: Type, row: usize) -> Result<Datum> { ColumnReader::new(array, ty)?.get(row) }
