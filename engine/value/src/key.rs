//! Keys.
use crate::types::Oid;
use crate::Datum;
/// Appends the key form of one column; byte order of keys is the order of values.
pub fn encode(_value: &Datum, _ty: Oid, _descending: bool, _nulls_first: bool, _out: &mut Vec<u8>) {}
