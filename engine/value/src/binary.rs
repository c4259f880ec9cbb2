//! Binary forms.
use crate::types::{Oid, Type};
use crate::{Datum, Error, Result, SqlState};
/// Appends the network binary form (no length word); NULL appends nothing.
pub fn send(_value: &Datum, _ty: Oid, _out: &mut Vec<u8>) {}
/// 22P03 or 08P01 for bytes that are no value of the type.
pub fn receive(_ty: Type, _bytes: &[u8]) -> Result<Datum> { Err(Error::new(SqlState::INTERNAL_ERROR, "pending")) }
/// Appends the compact self-delimiting form used in stored rows; NULL too.
pub fn store(_value: &Datum, _out: &mut Vec<u8>) {}
/// Reads what [`store`] wrote at the start of `bytes` and says how many bytes it took; XX001 for damage.
pub fn load(_ty: Oid, _bytes: &[u8]) -> Result<(Datum, usize)> { Err(Error::new(SqlState::INTERNAL_ERROR, "pending")) }
