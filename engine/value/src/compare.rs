//! Order, equality and hash of values: PostgreSQL's btree semantics. NaN equals itself and is greatest, -0 equals 0,
//! text is bytes (the C collation), intervals go by their 30-day, 24-hour length, arrays and records element by element.
//!
//! Everything here agrees with [`crate::key`]: byte order of keys is the order of these functions.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::array::compare_nullable;
use crate::types::{Oid, oid};
use crate::{Datum, Record};

/// NaN greatest, -0 = 0.
#[inline]
pub fn compare_float(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// Trailing blanks do not count.
#[inline]
pub fn compare_bpchar(a: &str, b: &str) -> Ordering {
    a.trim_end_matches(' ').as_bytes().cmp(b.trim_end_matches(' ').as_bytes())
}

/// PostgreSQL's btree order of two values of one type (integers and floats of any widths may meet); NULL sorts
/// after everything. Values that have no common order compare by kind, so that the result is always a total order.
#[inline]
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        _ => compare_slow(a, b),
    }
}

fn compare_slow(a: &Datum, b: &Datum) -> Ordering {
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return a.cmp(&b);
    }
    match (a, b) {
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Oid(a), Datum::Oid(b)) => a.cmp(b),
        (Datum::Float8(a), Datum::Float8(b)) => compare_float(*a, *b),
        (Datum::Float4(a), Datum::Float4(b)) => compare_float(f64::from(*a), f64::from(*b)),
        (Datum::Float4(a), Datum::Float8(b)) => compare_float(f64::from(*a), *b),
        (Datum::Float8(a), Datum::Float4(b)) => compare_float(*a, f64::from(*b)),
        (Datum::Numeric(a), Datum::Numeric(b)) => a.cmp(b),
        (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
        (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
        (Datum::Time(a), Datum::Time(b))
        | (Datum::Timestamp(a), Datum::Timestamp(b))
        | (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
        (Datum::Interval(a), Datum::Interval(b)) => a.cmp(b),
        (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
        (Datum::Jsonb(a), Datum::Jsonb(b)) => a.cmp(b),
        (Datum::Array(a), Datum::Array(b)) => a.compare(b),
        (Datum::Record(a), Datum::Record(b)) => compare_records(a, b),
        _ => kind(a).cmp(&kind(b)),
    }
}

#[inline]
fn integer(value: &Datum) -> Option<i64> {
    match value {
        Datum::Int2(value) => Some(i64::from(*value)),
        Datum::Int4(value) => Some(i64::from(*value)),
        Datum::Int8(value) => Some(*value),
        _ => None,
    }
}

/// The variant's number; NULL is last.
fn kind(value: &Datum) -> u8 {
    match value {
        Datum::Bool(_) => 0,
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => 1,
        Datum::Oid(_) => 2,
        Datum::Float4(_) | Datum::Float8(_) => 3,
        Datum::Numeric(_) => 4,
        Datum::Text(_) => 5,
        Datum::Bytea(_) => 6,
        Datum::Date(_) => 7,
        Datum::Time(_) => 8,
        Datum::Timestamp(_) => 9,
        Datum::TimestampTz(_) => 10,
        Datum::Interval(_) => 11,
        Datum::Uuid(_) => 12,
        Datum::Jsonb(_) => 13,
        Datum::Array(_) => 14,
        Datum::Record(_) => 15,
        Datum::Null => 16,
    }
}

/// Field by field with the fields' types; NULL fields are equal to each other and greatest.
pub fn compare_records(a: &Record, b: &Record) -> Ordering {
    for (at, (x, y)) in a.fields.iter().zip(&b.fields).enumerate() {
        let ty = a.types.get(at).copied().unwrap_or(oid::UNKNOWN);
        let order = compare_nullable(ty, x, y);
        if order.is_ne() {
            return order;
        }
    }
    a.fields.len().cmp(&b.fields.len())
}

/// As [`compare`], knowing the type: bpchar ignores trailing blanks, xid8 and pg_lsn are unsigned.
#[inline]
pub fn compare_typed(ty: Oid, a: &Datum, b: &Datum) -> Ordering {
    match (ty, a, b) {
        (oid::BPCHAR, Datum::Text(a), Datum::Text(b)) => compare_bpchar(a, b),
        (oid::XID8 | oid::PG_LSN | oid::TID, Datum::Int8(a), Datum::Int8(b)) => (*a as u64).cmp(&(*b as u64)),
        _ => compare(a, b),
    }
}

#[inline]
pub fn equal(a: &Datum, b: &Datum) -> bool {
    compare(a, b).is_eq()
}

#[inline]
pub fn equal_typed(ty: Oid, a: &Datum, b: &Datum) -> bool {
    compare_typed(ty, a, b).is_eq()
}

fn hash_float<H: Hasher>(value: f64, state: &mut H) {
    let canonical = if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    state.write_u64(canonical.to_bits());
}

/// Values that are [`equal`] hash alike (integers of any width, floats of both widths, numerics of any scale).
#[inline]
pub fn hash_datum<H: Hasher>(value: &Datum, state: &mut H) {
    match value {
        Datum::Int2(value) => state.write_i64(i64::from(*value)),
        Datum::Int4(value) => state.write_i64(i64::from(*value)),
        Datum::Int8(value) => state.write_i64(*value),
        Datum::Text(value) => value.hash(state),
        Datum::Null => state.write_u8(0xff),
        Datum::Bool(value) => state.write_u8(u8::from(*value)),
        Datum::Oid(value) => state.write_u32(*value),
        Datum::Float4(value) => hash_float(f64::from(*value), state),
        Datum::Float8(value) => hash_float(*value, state),
        Datum::Numeric(value) => value.hash(state),
        Datum::Bytea(value) => value.hash(state),
        Datum::Date(value) => state.write_i32(*value),
        Datum::Time(value) | Datum::Timestamp(value) | Datum::TimestampTz(value) => state.write_i64(*value),
        Datum::Interval(value) => value.hash(state),
        Datum::Uuid(value) => value.hash(state),
        Datum::Jsonb(value) => value.hash(state),
        Datum::Array(array) => {
            for dim in &array.dims {
                state.write_i32(dim.len);
                state.write_i32(dim.lower);
            }
            for value in &array.values {
                hash_typed(array.element, value, state);
            }
        }
        Datum::Record(record) => {
            for (at, value) in record.fields.iter().enumerate() {
                hash_typed(record.types.get(at).copied().unwrap_or(oid::UNKNOWN), value, state);
            }
        }
    }
}

/// Consistent with [`equal_typed`].
#[inline]
pub fn hash_typed<H: Hasher>(ty: Oid, value: &Datum, state: &mut H) {
    match (ty, value) {
        (oid::BPCHAR, Datum::Text(text)) => text.trim_end_matches(' ').hash(state),
        _ => hash_datum(value, state),
    }
}
