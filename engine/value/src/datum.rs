//! One value in memory.

use std::sync::Arc;

use crate::types::Oid;
use crate::{Array, Interval, Jsonb, Numeric};

/// A value of any type. The variant says how the bits are to be read; which SQL type it is (text or varchar,
/// int4 or regclass) the surrounding expression or column knows.
///
/// Cloning is cheap: whatever can be long sits behind an [`Arc`]. `size_of::<Datum>() == 24`, held by a test.
#[derive(Clone, Debug, Default)]
pub enum Datum {
    #[default]
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    /// oid, regclass, regtype, regproc, regnamespace, regrole, xid, cid.
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Numeric(Arc<Numeric>),
    /// text, varchar, bpchar (with its padding), name, "char", json (as written), unknown.
    Text(Arc<str>),
    Bytea(Arc<[u8]>),
    /// Days since 2000-01-01; `i32::MIN` and `i32::MAX` are -infinity and infinity.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 2000-01-01 00:00 without a zone; `i64::MIN`/`MAX` are -infinity and infinity.
    Timestamp(i64),
    /// Microseconds since 2000-01-01 00:00 UTC; infinities as [`Datum::Timestamp`].
    TimestampTz(i64),
    Interval(Interval),
    Uuid(Arc<[u8; 16]>),
    Jsonb(Arc<Jsonb>),
    /// Every array type, int2vector and oidvector too.
    Array(Arc<Array>),
    /// An anonymous or named composite.
    Record(Arc<Record>),
}

/// A row as a value, with the type of each field.
#[derive(Clone, Debug)]
pub struct Record {
    pub types: Vec<Oid>,
    pub fields: Vec<Datum>,
    /// The fields' names where the row has some (what JSON is made of); neither stored nor sent.
    pub names: Option<Arc<[Arc<str>]>>,
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    pub fn text(text: impl Into<Arc<str>>) -> Datum {
        Datum::Text(text.into())
    }
}
