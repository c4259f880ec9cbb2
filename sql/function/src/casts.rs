//! `pg_cast` and the functions behind it. Each row of [`CASTS`] names the function that converts by oid; lengths and
//! precisions are applied afterwards (`value::text::apply_typmod`).

use std::sync::Arc;

use value::types::oid::*;
use value::{Datum, Error, Interval, Jsonb, Numeric, Oid, Result, SqlState, datetime};

use crate::CastContext::{Assignment, Explicit, Implicit};
use crate::arithmetic::number;
use crate::declare::{f, out_of_range, text_of, thunk};
use crate::{CastContext, Function};

/// Method "same value, other type".
pub(crate) const RELABEL: Oid = 0;
/// Method "through text".
pub(crate) const IN_OUT: Oid = 1;

/// source, target, function (or RELABEL, IN_OUT), context.
pub(crate) type CastRow = (Oid, Oid, Oid, CastContext);

/// Integers of one width to another.
macro_rules! narrow {
    ($from:ident, $to:ident, $name:literal) => {
        thunk!([Datum::$from(a)] => match (*a).try_into() {
            Ok(value) => Ok(Datum::$to(value)),
            Err(_) => Err(out_of_range($name)),
        })
    };
}

macro_rules! widen {
    ($from:ident, $to:ident, $ty:ty) => { thunk!([Datum::$from(a)] => Ok(Datum::$to(*a as $ty))) };
}

/// Floats to integers: to the nearest, ties to even; what does not fit is an error.
macro_rules! round {
    ($from:ident, $to:ident, $ty:ty, $name:literal) => {
        thunk!([Datum::$from(a)] => {
            let value = f64::from(*a).round_ties_even();
            // The upper bound is exclusive: the largest bigint is not a float.
            let limit = -(<$ty>::MIN as f64);
            if value >= -limit && value < limit { Ok(Datum::$to(value as $ty)) } else { Err(out_of_range($name)) }
        })
    };
}

macro_rules! json_number {
    ($name:literal, $value:ident => $body:expr) => {
        thunk!([Datum::Jsonb(json)] => match json.as_ref() {
            Jsonb::Number($value) => $body,
            other => Err(cannot_cast(other, $name)),
        })
    };
}

fn cannot_cast(json: &Jsonb, target: &str) -> Error {
    let kind = match json {
        Jsonb::Null => "null",
        Jsonb::Bool(_) => "boolean",
        Jsonb::Number(_) => "numeric",
        Jsonb::String(_) => "string",
        Jsonb::Array(_) => "array",
        Jsonb::Object(_) => "object",
    };
    Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("cannot cast jsonb {kind} to type {target}"))
}

fn float8_of(value: &Numeric) -> Result<f64> {
    let float = value.to_f64();
    if float.is_infinite() && !value.is_infinite() {
        return Err(too_wide(value, "double precision"));
    }
    Ok(float)
}

fn float4_of(value: &Numeric) -> Result<f32> {
    let float = value.to_f32();
    if float.is_infinite() && !value.is_infinite() {
        return Err(too_wide(value, "real"));
    }
    Ok(float)
}

fn too_wide(value: &Numeric, name: &str) -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{value}\" is out of range for type {name}"))
}

fn narrow_float(a: f64) -> Result<Datum> {
    let value = a as f32;
    if value.is_infinite() && !a.is_infinite() {
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
    }
    if value == 0.0 && a != 0.0 {
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow"));
    }
    Ok(Datum::Float4(value))
}

/// A name holds 63 bytes; the cut does not split a character.
pub(crate) fn to_name(text: &Arc<str>) -> Datum {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end == text.len() { Datum::Text(text.clone()) } else { Datum::text(&text[..end]) }
}

fn infinite_time() -> Result<Datum> {
    Ok(Datum::Null)
}

fn is_infinite(timestamp: i64) -> bool {
    timestamp == datetime::TIMESTAMP_INFINITY || timestamp == datetime::TIMESTAMP_NEG_INFINITY
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(9071, "int4_to_oid", &[INT4], OID, thunk!([Datum::Int4(a)] => Ok(Datum::Oid(*a as u32)))).total(),
    f(9072, "oid_to_int4", &[OID], INT4, thunk!([Datum::Oid(a)] => Ok(Datum::Int4(*a as i32)))).total(),
    f(9073, "int2_to_oid", &[INT2], OID, thunk!([Datum::Int2(a)] => Ok(Datum::Oid(i32::from(*a) as u32)))).total(),
    f(314, "int2", &[INT4], INT2, narrow!(Int4, Int2, "smallint")),
    f(714, "int2", &[INT8], INT2, narrow!(Int8, Int2, "smallint")),
    f(480, "int4", &[INT8], INT4, narrow!(Int8, Int4, "integer")),
    f(313, "int4", &[INT2], INT4, widen!(Int2, Int4, i32)).total(),
    f(754, "int8", &[INT2], INT8, widen!(Int2, Int8, i64)).total(),
    f(481, "int8", &[INT4], INT8, widen!(Int4, Int8, i64)).total(),
    f(1287, "oid", &[INT8], OID, thunk!([Datum::Int8(a)] => u32::try_from(*a).map(Datum::Oid).map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range")))),
    f(1288, "int8", &[OID], INT8, widen!(Oid, Int8, i64)).total(),
    f(236, "float4", &[INT2], FLOAT4, widen!(Int2, Float4, f32)).total(),
    f(318, "float4", &[INT4], FLOAT4, widen!(Int4, Float4, f32)).total(),
    f(652, "float4", &[INT8], FLOAT4, widen!(Int8, Float4, f32)).total(),
    f(312, "float4", &[FLOAT8], FLOAT4, thunk!([Datum::Float8(a)] => narrow_float(*a))),
    f(1745, "float4", &[NUMERIC], FLOAT4, thunk!([Datum::Numeric(a)] => float4_of(a).map(Datum::Float4))),
    f(235, "float8", &[INT2], FLOAT8, widen!(Int2, Float8, f64)).total(),
    f(316, "float8", &[INT4], FLOAT8, widen!(Int4, Float8, f64)).total(),
    f(482, "float8", &[INT8], FLOAT8, widen!(Int8, Float8, f64)).total(),
    f(311, "float8", &[FLOAT4], FLOAT8, widen!(Float4, Float8, f64)).total(),
    f(1746, "float8", &[NUMERIC], FLOAT8, thunk!([Datum::Numeric(a)] => float8_of(a).map(Datum::Float8))),
    f(238, "int2", &[FLOAT4], INT2, round!(Float4, Int2, i16, "smallint")),
    f(237, "int2", &[FLOAT8], INT2, round!(Float8, Int2, i16, "smallint")),
    f(319, "int4", &[FLOAT4], INT4, round!(Float4, Int4, i32, "integer")),
    f(317, "int4", &[FLOAT8], INT4, round!(Float8, Int4, i32, "integer")),
    f(653, "int8", &[FLOAT4], INT8, round!(Float4, Int8, i64, "bigint")),
    f(483, "int8", &[FLOAT8], INT8, round!(Float8, Int8, i64, "bigint")),
    f(1783, "int2", &[NUMERIC], INT2, thunk!([Datum::Numeric(a)] => a.to_i16().map(Datum::Int2))),
    f(1744, "int4", &[NUMERIC], INT4, thunk!([Datum::Numeric(a)] => a.to_i32().map(Datum::Int4))),
    f(1779, "int8", &[NUMERIC], INT8, thunk!([Datum::Numeric(a)] => a.to_i64().map(Datum::Int8))),
    f(1782, "numeric", &[INT2], NUMERIC, thunk!([Datum::Int2(a)] => number(Numeric::from_i64(i64::from(*a))))).total(),
    f(1740, "numeric", &[INT4], NUMERIC, thunk!([Datum::Int4(a)] => number(Numeric::from_i64(i64::from(*a))))).total(),
    f(1781, "numeric", &[INT8], NUMERIC, thunk!([Datum::Int8(a)] => number(Numeric::from_i64(*a)))).total(),
    f(1742, "numeric", &[FLOAT4], NUMERIC, thunk!([Datum::Float4(a)] => number(Numeric::from_f32(*a)))).total(),
    f(1743, "numeric", &[FLOAT8], NUMERIC, thunk!([Datum::Float8(a)] => number(Numeric::from_f64(*a)))).total(),
    f(2557, "bool", &[INT4], BOOL, thunk!([Datum::Int4(a)] => Ok(Datum::Bool(*a != 0)))).total(),
    f(2558, "int4", &[BOOL], INT4, thunk!([Datum::Bool(a)] => Ok(Datum::Int4(i32::from(*a))))).total(),
    f(2971, "text", &[BOOL], TEXT, thunk!([Datum::Bool(a)] => text_of(if *a { "true" } else { "false" }))).total(),
    f(401, "text", &[BPCHAR], TEXT, thunk!([Datum::Text(a)] => text_of(a.trim_end_matches(' ')))).total(),
    f(406, "text", &[NAME], TEXT, |_, args| Ok(args[0].clone())).total(),
    f(946, "text", &[CHAR], TEXT, |_, args| Ok(args[0].clone())).total(),
    f(408, "bpchar", &[NAME], BPCHAR, |_, args| Ok(args[0].clone())).total(),
    f(860, "bpchar", &[CHAR], BPCHAR, |_, args| Ok(args[0].clone())).total(),
    f(1401, "varchar", &[NAME], VARCHAR, |_, args| Ok(args[0].clone())).total(),
    f(407, "name", &[TEXT], NAME, thunk!([Datum::Text(a)] => Ok(to_name(a)))).total(),
    f(1400, "name", &[VARCHAR], NAME, thunk!([Datum::Text(a)] => Ok(to_name(a)))).total(),
    f(409, "name", &[BPCHAR], NAME, thunk!([Datum::Text(a)] => Ok(to_name(&Arc::from(a.trim_end_matches(' ')))))).total(),
    f(944, "char", &[TEXT], CHAR, thunk!([Datum::Text(a)] => text_of(a.chars().next().filter(char::is_ascii).map(String::from).unwrap_or_default()))).total(),
    f(78, "char", &[INT4], CHAR, thunk!([Datum::Int4(a)] => match u8::try_from(*a) { Ok(0) => text_of(""), Ok(byte) if byte.is_ascii() => text_of(char::from(byte).to_string()), _ => Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "\"char\" out of range")) })),
    f(77, "int4", &[CHAR], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(a.bytes().next().map_or(0, |byte| i32::from(byte as i8)))))).total(),
    f(2029, "date", &[TIMESTAMP], DATE, thunk!([Datum::Timestamp(a)] => Ok(Datum::Date(datetime::timestamp_to_date(*a))))).total(),
    f(1178, "date", &[TIMESTAMPTZ], DATE, thunk!(call; [Datum::TimestampTz(a)] => Ok(Datum::Date(datetime::timestamp_to_date(datetime::to_local(*a, &call.env.style().time_zone)?))))).stable(),
    f(1316, "time", &[TIMESTAMP], TIME, thunk!([Datum::Timestamp(a)] => if is_infinite(*a) { infinite_time() } else { Ok(Datum::Time(datetime::timestamp_to_time(*a))) })).total(),
    f(2019, "time", &[TIMESTAMPTZ], TIME, thunk!(call; [Datum::TimestampTz(a)] => if is_infinite(*a) { infinite_time() } else { Ok(Datum::Time(datetime::timestamp_to_time(datetime::to_local(*a, &call.env.style().time_zone)?))) })).stable(),
    f(1419, "time", &[INTERVAL], TIME, thunk!([Datum::Interval(a)] => Ok(Datum::Time(a.micros.rem_euclid(datetime::USECS_PER_DAY))))).total(),
    f(1370, "interval", &[TIME], INTERVAL, thunk!([Datum::Time(a)] => Ok(Datum::Interval(Interval::new(0, 0, *a))))).total(),
    f(2024, "timestamp", &[DATE], TIMESTAMP, thunk!([Datum::Date(a)] => datetime::date_to_timestamp(*a).map(Datum::Timestamp))),
    f(2027, "timestamp", &[TIMESTAMPTZ], TIMESTAMP, thunk!(call; [Datum::TimestampTz(a)] => datetime::to_local(*a, &call.env.style().time_zone).map(Datum::Timestamp))).stable(),
    f(1174, "timestamptz", &[DATE], TIMESTAMPTZ, thunk!(call; [Datum::Date(a)] => datetime::date_to_timestamptz(*a, &call.env.style().time_zone).map(Datum::TimestampTz))).stable(),
    f(2028, "timestamptz", &[TIMESTAMP], TIMESTAMPTZ, thunk!(call; [Datum::Timestamp(a)] => datetime::from_local(*a, &call.env.style().time_zone).map(Datum::TimestampTz))).stable(),
    f(3556, "bool", &[JSONB], BOOL, thunk!([Datum::Jsonb(json)] => match json.as_ref() { Jsonb::Bool(value) => Ok(Datum::Bool(*value)), other => Err(cannot_cast(other, "boolean")) })),
    f(3450, "int2", &[JSONB], INT2, json_number!("smallint", a => a.to_i16().map(Datum::Int2))),
    f(3451, "int4", &[JSONB], INT4, json_number!("integer", a => a.to_i32().map(Datum::Int4))),
    f(3452, "int8", &[JSONB], INT8, json_number!("bigint", a => a.to_i64().map(Datum::Int8))),
    f(3449, "numeric", &[JSONB], NUMERIC, json_number!("numeric", a => number(a.clone()))),
    f(3453, "float4", &[JSONB], FLOAT4, json_number!("real", a => float4_of(a).map(Datum::Float4))),
    f(2580, "float8", &[JSONB], FLOAT8, json_number!("double precision", a => float8_of(a).map(Datum::Float8))),
    f(5071, "xid", &[XID8], XID, thunk!([Datum::Int8(a)] => Ok(Datum::Oid(*a as u32)))).total(),
];

#[rustfmt::skip]
pub(crate) static CASTS: &[CastRow] = &[
    (BOOL, INT4, 2558, Explicit),
    (BOOL, TEXT, 2971, Assignment),
    (BOOL, BPCHAR, 2971, Assignment),
    (BOOL, VARCHAR, 2971, Assignment),
    (CHAR, INT4, 77, Explicit),
    (CHAR, TEXT, 946, Implicit),
    (CHAR, BPCHAR, 860, Assignment),
    (CHAR, VARCHAR, 946, Assignment),
    (NAME, TEXT, 406, Implicit),
    (NAME, BPCHAR, 408, Assignment),
    (NAME, VARCHAR, 1401, Assignment),
    (INT8, INT2, 714, Assignment),
    (INT8, INT4, 480, Assignment),
    (INT8, REGPROC, 1287, Implicit),
    (INT8, OID, 1287, Implicit),
    (INT8, FLOAT4, 652, Implicit),
    (INT8, FLOAT8, 482, Implicit),
    (INT8, NUMERIC, 1781, Implicit),
    (INT8, REGPROCEDURE, 1287, Implicit),
    (INT8, REGOPER, 1287, Implicit),
    (INT8, REGOPERATOR, 1287, Implicit),
    (INT8, REGCLASS, 1287, Implicit),
    (INT8, REGTYPE, 1287, Implicit),
    (INT8, REGNAMESPACE, 1287, Implicit),
    (INT8, REGROLE, 1287, Implicit),
    (INT8, REGCOLLATION, 1287, Implicit),
    (INT2, INT8, 754, Implicit),
    (INT2, INT4, 313, Implicit),
    (INT2, REGPROC, 9073, Implicit),
    (INT2, OID, 9073, Implicit),
    (INT2, FLOAT4, 236, Implicit),
    (INT2, FLOAT8, 235, Implicit),
    (INT2, NUMERIC, 1782, Implicit),
    (INT2, REGPROCEDURE, 9073, Implicit),
    (INT2, REGOPER, 9073, Implicit),
    (INT2, REGOPERATOR, 9073, Implicit),
    (INT2, REGCLASS, 9073, Implicit),
    (INT2, REGTYPE, 9073, Implicit),
    (INT2, REGNAMESPACE, 9073, Implicit),
    (INT2, REGROLE, 9073, Implicit),
    (INT2, REGCOLLATION, 9073, Implicit),
    (INT4, BOOL, 2557, Explicit),
    (INT4, CHAR, 78, Explicit),
    (INT4, INT8, 481, Implicit),
    (INT4, INT2, 314, Assignment),
    (INT4, REGPROC, 9071, Implicit),
    (INT4, OID, 9071, Implicit),
    (INT4, FLOAT4, 318, Implicit),
    (INT4, FLOAT8, 316, Implicit),
    (INT4, NUMERIC, 1740, Implicit),
    (INT4, REGPROCEDURE, 9071, Implicit),
    (INT4, REGOPER, 9071, Implicit),
    (INT4, REGOPERATOR, 9071, Implicit),
    (INT4, REGCLASS, 9071, Implicit),
    (INT4, REGTYPE, 9071, Implicit),
    (INT4, REGNAMESPACE, 9071, Implicit),
    (INT4, REGROLE, 9071, Implicit),
    (INT4, REGCOLLATION, 9071, Implicit),
    (REGPROC, INT8, 1288, Assignment),
    (REGPROC, INT4, 9072, Assignment),
    (REGPROC, OID, RELABEL, Implicit),
    (REGPROC, REGPROCEDURE, RELABEL, Implicit),
    (TEXT, CHAR, 944, Assignment),
    (TEXT, NAME, 407, Implicit),
    (TEXT, BPCHAR, RELABEL, Implicit),
    (TEXT, VARCHAR, RELABEL, Implicit),
    (TEXT, REGCLASS, 1079, Implicit),
    (OID, INT8, 1288, Assignment),
    (OID, INT4, 9072, Assignment),
    (OID, REGPROC, RELABEL, Implicit),
    (OID, REGPROCEDURE, RELABEL, Implicit),
    (OID, REGOPER, RELABEL, Implicit),
    (OID, REGOPERATOR, RELABEL, Implicit),
    (OID, REGCLASS, RELABEL, Implicit),
    (OID, REGTYPE, RELABEL, Implicit),
    (OID, REGNAMESPACE, RELABEL, Implicit),
    (OID, REGROLE, RELABEL, Implicit),
    (OID, REGCOLLATION, RELABEL, Implicit),
    (JSON, JSONB, IN_OUT, Assignment),
    (PG_NODE_TREE, TEXT, RELABEL, Implicit),
    (FLOAT4, INT8, 653, Assignment),
    (FLOAT4, INT2, 238, Assignment),
    (FLOAT4, INT4, 319, Assignment),
    (FLOAT4, FLOAT8, 311, Implicit),
    (FLOAT4, NUMERIC, 1742, Assignment),
    (FLOAT8, INT8, 483, Assignment),
    (FLOAT8, INT2, 237, Assignment),
    (FLOAT8, INT4, 317, Assignment),
    (FLOAT8, FLOAT4, 312, Assignment),
    (FLOAT8, NUMERIC, 1743, Assignment),
    (BPCHAR, CHAR, 944, Assignment),
    (BPCHAR, NAME, 409, Implicit),
    (BPCHAR, TEXT, 401, Implicit),
    (BPCHAR, VARCHAR, 401, Implicit),
    (VARCHAR, CHAR, 944, Assignment),
    (VARCHAR, NAME, 1400, Implicit),
    (VARCHAR, TEXT, RELABEL, Implicit),
    (VARCHAR, BPCHAR, RELABEL, Implicit),
    (VARCHAR, REGCLASS, 1079, Implicit),
    (DATE, TIMESTAMP, 2024, Implicit),
    (DATE, TIMESTAMPTZ, 1174, Implicit),
    (TIME, INTERVAL, 1370, Implicit),
    (TIMESTAMP, DATE, 2029, Assignment),
    (TIMESTAMP, TIME, 1316, Assignment),
    (TIMESTAMP, TIMESTAMPTZ, 2028, Implicit),
    (TIMESTAMPTZ, DATE, 1178, Assignment),
    (TIMESTAMPTZ, TIME, 2019, Assignment),
    (TIMESTAMPTZ, TIMESTAMP, 2027, Assignment),
    (INTERVAL, TIME, 1419, Assignment),
    (NUMERIC, INT8, 1779, Assignment),
    (NUMERIC, INT2, 1783, Assignment),
    (NUMERIC, INT4, 1744, Assignment),
    (NUMERIC, FLOAT4, 1745, Implicit),
    (NUMERIC, FLOAT8, 1746, Implicit),
    (REGPROCEDURE, INT8, 1288, Assignment),
    (REGPROCEDURE, INT4, 9072, Assignment),
    (REGPROCEDURE, REGPROC, RELABEL, Implicit),
    (REGPROCEDURE, OID, RELABEL, Implicit),
    (REGOPER, INT8, 1288, Assignment),
    (REGOPER, INT4, 9072, Assignment),
    (REGOPER, OID, RELABEL, Implicit),
    (REGOPER, REGOPERATOR, RELABEL, Implicit),
    (REGOPERATOR, INT8, 1288, Assignment),
    (REGOPERATOR, INT4, 9072, Assignment),
    (REGOPERATOR, OID, RELABEL, Implicit),
    (REGOPERATOR, REGOPER, RELABEL, Implicit),
    (REGCLASS, INT8, 1288, Assignment),
    (REGCLASS, INT4, 9072, Assignment),
    (REGCLASS, OID, RELABEL, Implicit),
    (REGTYPE, INT8, 1288, Assignment),
    (REGTYPE, INT4, 9072, Assignment),
    (REGTYPE, OID, RELABEL, Implicit),
    (JSONB, BOOL, 3556, Explicit),
    (JSONB, INT8, 3452, Explicit),
    (JSONB, INT2, 3450, Explicit),
    (JSONB, INT4, 3451, Explicit),
    (JSONB, JSON, IN_OUT, Assignment),
    (JSONB, FLOAT4, 3453, Explicit),
    (JSONB, FLOAT8, 2580, Explicit),
    (JSONB, NUMERIC, 3449, Explicit),
    (REGNAMESPACE, INT8, 1288, Assignment),
    (REGNAMESPACE, INT4, 9072, Assignment),
    (REGNAMESPACE, OID, RELABEL, Implicit),
    (REGROLE, INT8, 1288, Assignment),
    (REGROLE, INT4, 9072, Assignment),
    (REGROLE, OID, RELABEL, Implicit),
    (REGCOLLATION, INT8, 1288, Assignment),
    (REGCOLLATION, INT4, 9072, Assignment),
    (REGCOLLATION, OID, RELABEL, Implicit),
    (XID8, XID, 5071, Explicit),
];
