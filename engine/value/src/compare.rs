//! Order, equality and hash of values.
use crate::types::Oid;
use crate::Datum;
use std::cmp::Ordering;
use std::hash::Hasher;
/// PostgreSQL's btree order of two values of one type (integers of any widths); NULLs last.
pub fn compare(_a: &Datum, _b: &Datum) -> Ordering { Ordering::Equal }
/// As [`compare`], knowing the type (bpchar ignores trailing blanks).
pub fn compare_typed(_ty: Oid, a: &Datum, b: &Datum) -> Ordering { compare(a, b) }
pub fn compare_bpchar(a: &str, b: &str) -> Ordering { a.trim_end_matches(' ').cmp(b.trim_end_matches(' ')) }
pub fn equal(a: &Datum, b: &Datum) -> bool { compare(a, b).is_eq() }
pub fn equal_typed(ty: Oid, a: &Datum, b: &Datum) -> bool { compare_typed(ty, a, b).is_eq() }
/// Consistent with [`equal`].
pub fn hash_datum<H: Hasher>(_value: &Datum, _state: &mut H) {}
pub fn hash_typed<H: Hasher>(_ty: Oid, value: &Datum, state: &mut H) { hash_datum(value, state) }
