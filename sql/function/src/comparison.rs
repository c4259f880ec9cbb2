//! Comparisons of every type with itself and of the pairs PostgreSQL compares without a cast (integers of
//! different widths, dates with timestamps, name with text). Text compares by bytes, bpchar without trailing
//! blanks, floats and numerics with NaN equal to itself and above everything.

use std::cmp::Ordering;

use value::types::oid::*;
use value::{Datum, Record, Result, datetime};

use crate::declare::{f, mismatch, thunk};
use crate::{Call, Function};

/// PostgreSQL's order of floats.
#[inline]
pub(crate) fn float_order(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// Fields from left to right, NULLs equal to each other and last; then the number of fields.
fn record_order(a: &Record, b: &Record) -> Ordering {
    for (at, (left, right)) in a.fields.iter().zip(&b.fields).enumerate() {
        let order = match (left.is_null(), right.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => value::compare::compare_typed(a.types[at], left, right),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.fields.len().cmp(&b.fields.len())
}

/// Dates, timestamps and timestamptz among each other: as timestamps when neither has a zone, else as
/// timestamptz in the session's zone.
fn moment_order(call: &Call<'_>, args: &[Datum]) -> Result<Ordering> {
    let [a, b] = args else { return Err(mismatch(args)) };
    let zoned = matches!(a, Datum::TimestampTz(_)) || matches!(b, Datum::TimestampTz(_));
    let zone = &call.env.style().time_zone;
    let point = |value: &Datum| -> Result<i64> {
        Ok(match value {
            // A date too far out for a timestamp still has a side on which it lies.
            Datum::Date(date) if !zoned => datetime::date_to_timestamp(*date).unwrap_or(if *date < 0 {
                i64::MIN + 1
            } else {
                i64::MAX - 1
            }),
            Datum::Date(date) => datetime::date_to_timestamptz(*date, zone).unwrap_or(if *date < 0 {
                i64::MIN + 1
            } else {
                i64::MAX - 1
            }),
            Datum::Timestamp(timestamp) if zoned => datetime::from_local(*timestamp, zone)?,
            Datum::Timestamp(timestamp) | Datum::TimestampTz(timestamp) => *timestamp,
            _ => return Err(mismatch(args)),
        })
    };
    Ok(point(a)?.cmp(&point(b)?))
}

macro_rules! integers {
    ($a:ident, $b:ident, $wide:ty, $test:ident) => {
        thunk!([Datum::$a(a), Datum::$b(b)] => Ok(Datum::Bool((<$wide>::from(*a)).cmp(&<$wide>::from(*b)).$test())))
    };
}

macro_rules! floats {
    ($a:ident, $b:ident, $test:ident) => {
        thunk!([Datum::$a(a), Datum::$b(b)] => Ok(Datum::Bool(float_order(f64::from(*a), f64::from(*b)).$test())))
    };
}

macro_rules! same {
    (Text, is_eq) => { thunk!([Datum::Text(a), Datum::Text(b)] => Ok(Datum::Bool(**a == **b))) };
    (Text, is_ne) => { thunk!([Datum::Text(a), Datum::Text(b)] => Ok(Datum::Bool(**a != **b))) };
    ($variant:ident, $test:ident) => {
        thunk!([Datum::$variant(a), Datum::$variant(b)] => Ok(Datum::Bool(a.cmp(b).$test())))
    };
}

macro_rules! padded {
    ($test:ident) => {
        thunk!([Datum::Text(a), Datum::Text(b)] => Ok(Datum::Bool(value::compare::compare_bpchar(a, b).$test())))
    };
}

macro_rules! arrays {
    ($test:ident) => { thunk!([Datum::Array(a), Datum::Array(b)] => Ok(Datum::Bool(a.compare(b).$test()))) };
}

macro_rules! records {
    ($test:ident) => { thunk!([Datum::Record(a), Datum::Record(b)] => Ok(Datum::Bool(record_order(a, b).$test()))) };
}

macro_rules! moments {
    ($test:ident) => {
        |call, args| Ok(Datum::Bool(moment_order(call, args)?.$test()))
    };
}

/// `btint4cmp` and its kin: -1, 0, 1.
macro_rules! sign {
    ($variant:ident) => {
        thunk!([Datum::$variant(a), Datum::$variant(b)] => Ok(Datum::Int4(a.cmp(b) as i32)))
    };
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(852, "int48eq", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_eq)).total(),
    f(853, "int48ne", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_ne)).total(),
    f(854, "int48lt", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_lt)).total(),
    f(56, "boollt", &[BOOL, BOOL], BOOL, same!(Bool, is_lt)).total(),
    f(57, "boolgt", &[BOOL, BOOL], BOOL, same!(Bool, is_gt)).total(),
    f(855, "int48gt", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_gt)).total(),
    f(856, "int48le", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_le)).total(),
    f(857, "int48ge", &[INT4, INT8], BOOL, integers!(Int4, Int8, i64, is_ge)).total(),
    f(84, "boolne", &[BOOL, BOOL], BOOL, same!(Bool, is_ne)).total(),
    f(60, "booleq", &[BOOL, BOOL], BOOL, same!(Bool, is_eq)).total(),
    f(61, "chareq", &[CHAR, CHAR], BOOL, same!(Text, is_eq)).total(),
    f(62, "nameeq", &[NAME, NAME], BOOL, same!(Text, is_eq)).total(),
    f(63, "int2eq", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_eq)).total(),
    f(64, "int2lt", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_lt)).total(),
    f(65, "int4eq", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_eq)).total(),
    f(66, "int4lt", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_lt)).total(),
    f(67, "texteq", &[TEXT, TEXT], BOOL, same!(Text, is_eq)).total(),
    f(240, "nameeqtext", &[NAME, TEXT], BOOL, same!(Text, is_eq)).total(),
    f(241, "namelttext", &[NAME, TEXT], BOOL, same!(Text, is_lt)).total(),
    f(242, "nameletext", &[NAME, TEXT], BOOL, same!(Text, is_le)).total(),
    f(243, "namegetext", &[NAME, TEXT], BOOL, same!(Text, is_ge)).total(),
    f(244, "namegttext", &[NAME, TEXT], BOOL, same!(Text, is_gt)).total(),
    f(245, "namenetext", &[NAME, TEXT], BOOL, same!(Text, is_ne)).total(),
    f(247, "texteqname", &[TEXT, NAME], BOOL, same!(Text, is_eq)).total(),
    f(248, "textltname", &[TEXT, NAME], BOOL, same!(Text, is_lt)).total(),
    f(249, "textlename", &[TEXT, NAME], BOOL, same!(Text, is_le)).total(),
    f(250, "textgename", &[TEXT, NAME], BOOL, same!(Text, is_ge)).total(),
    f(251, "textgtname", &[TEXT, NAME], BOOL, same!(Text, is_gt)).total(),
    f(252, "textnename", &[TEXT, NAME], BOOL, same!(Text, is_ne)).total(),
    f(68, "xideq", &[XID, XID], BOOL, same!(Oid, is_eq)).total(),
    f(
        1319,
        "xideqint4",
        &[XID, INT4],
        BOOL,
        thunk!([Datum::Oid(a), Datum::Int4(b)] => Ok(Datum::Bool((*a as i32).cmp(b).is_eq()))),
    )
    .total(),
    f(69, "cideq", &[CID, CID], BOOL, same!(Oid, is_eq)).total(),
    f(1292, "tideq", &[TID, TID], BOOL, same!(Int8, is_eq)).total(),
    f(1265, "tidne", &[TID, TID], BOOL, same!(Int8, is_ne)).total(),
    f(467, "int8eq", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_eq)).total(),
    f(468, "int8ne", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_ne)).total(),
    f(469, "int8lt", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_lt)).total(),
    f(470, "int8gt", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_gt)).total(),
    f(471, "int8le", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_le)).total(),
    f(472, "int8ge", &[INT8, INT8], BOOL, integers!(Int8, Int8, i64, is_ge)).total(),
    f(474, "int84eq", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_eq)).total(),
    f(475, "int84ne", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_ne)).total(),
    f(476, "int84lt", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_lt)).total(),
    f(477, "int84gt", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_gt)).total(),
    f(478, "int84le", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_le)).total(),
    f(479, "int84ge", &[INT8, INT4], BOOL, integers!(Int8, Int4, i64, is_ge)).total(),
    f(144, "int4ne", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_ne)).total(),
    f(145, "int2ne", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_ne)).total(),
    f(146, "int2gt", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_gt)).total(),
    f(147, "int4gt", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_gt)).total(),
    f(148, "int2le", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_le)).total(),
    f(149, "int4le", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_le)).total(),
    f(151, "int2ge", &[INT2, INT2], BOOL, integers!(Int2, Int2, i16, is_ge)).total(),
    f(150, "int4ge", &[INT4, INT4], BOOL, integers!(Int4, Int4, i32, is_ge)).total(),
    f(157, "textne", &[TEXT, TEXT], BOOL, same!(Text, is_ne)).total(),
    f(158, "int24eq", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_eq)).total(),
    f(159, "int42eq", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_eq)).total(),
    f(160, "int24lt", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_lt)).total(),
    f(161, "int42lt", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_lt)).total(),
    f(162, "int24gt", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_gt)).total(),
    f(163, "int42gt", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_gt)).total(),
    f(164, "int24ne", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_ne)).total(),
    f(165, "int42ne", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_ne)).total(),
    f(166, "int24le", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_le)).total(),
    f(167, "int42le", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_le)).total(),
    f(168, "int24ge", &[INT2, INT4], BOOL, integers!(Int2, Int4, i32, is_ge)).total(),
    f(169, "int42ge", &[INT4, INT2], BOOL, integers!(Int4, Int2, i32, is_ge)).total(),
    f(184, "oideq", &[OID, OID], BOOL, same!(Oid, is_eq)).total(),
    f(185, "oidne", &[OID, OID], BOOL, same!(Oid, is_ne)).total(),
    f(716, "oidlt", &[OID, OID], BOOL, same!(Oid, is_lt)).total(),
    f(1638, "oidgt", &[OID, OID], BOOL, same!(Oid, is_gt)).total(),
    f(717, "oidle", &[OID, OID], BOOL, same!(Oid, is_le)).total(),
    f(1639, "oidge", &[OID, OID], BOOL, same!(Oid, is_ge)).total(),
    f(287, "float4eq", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_eq)).total(),
    f(288, "float4ne", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_ne)).total(),
    f(289, "float4lt", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_lt)).total(),
    f(291, "float4gt", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_gt)).total(),
    f(290, "float4le", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_le)).total(),
    f(292, "float4ge", &[FLOAT4, FLOAT4], BOOL, floats!(Float4, Float4, is_ge)).total(),
    f(70, "charne", &[CHAR, CHAR], BOOL, same!(Text, is_ne)).total(),
    f(1246, "charlt", &[CHAR, CHAR], BOOL, same!(Text, is_lt)).total(),
    f(72, "charle", &[CHAR, CHAR], BOOL, same!(Text, is_le)).total(),
    f(73, "chargt", &[CHAR, CHAR], BOOL, same!(Text, is_gt)).total(),
    f(74, "charge", &[CHAR, CHAR], BOOL, same!(Text, is_ge)).total(),
    f(659, "namene", &[NAME, NAME], BOOL, same!(Text, is_ne)).total(),
    f(619, "oidvectorne", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_ne)).total(),
    f(677, "oidvectorlt", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_lt)).total(),
    f(681, "oidvectorgt", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_gt)).total(),
    f(678, "oidvectorle", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_le)).total(),
    f(680, "oidvectorge", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_ge)).total(),
    f(679, "oidvectoreq", &[OIDVECTOR, OIDVECTOR], BOOL, arrays!(is_eq)).total(),
    f(655, "namelt", &[NAME, NAME], BOOL, same!(Text, is_lt)).total(),
    f(656, "namele", &[NAME, NAME], BOOL, same!(Text, is_le)).total(),
    f(657, "namegt", &[NAME, NAME], BOOL, same!(Text, is_gt)).total(),
    f(658, "namege", &[NAME, NAME], BOOL, same!(Text, is_ge)).total(),
    f(740, "text_lt", &[TEXT, TEXT], BOOL, same!(Text, is_lt)).total(),
    f(741, "text_le", &[TEXT, TEXT], BOOL, same!(Text, is_le)).total(),
    f(742, "text_gt", &[TEXT, TEXT], BOOL, same!(Text, is_gt)).total(),
    f(743, "text_ge", &[TEXT, TEXT], BOOL, same!(Text, is_ge)).total(),
    f(293, "float8eq", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_eq)).total(),
    f(294, "float8ne", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_ne)).total(),
    f(295, "float8lt", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_lt)).total(),
    f(296, "float8le", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_le)).total(),
    f(297, "float8gt", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_gt)).total(),
    f(298, "float8ge", &[FLOAT8, FLOAT8], BOOL, floats!(Float8, Float8, is_ge)).total(),
    f(1062, "aclitemeq", &[ACLITEM, ACLITEM], BOOL, same!(Text, is_eq)).total(),
    f(1048, "bpchareq", &[BPCHAR, BPCHAR], BOOL, padded!(is_eq)).total(),
    f(1053, "bpcharne", &[BPCHAR, BPCHAR], BOOL, padded!(is_ne)).total(),
    f(1049, "bpcharlt", &[BPCHAR, BPCHAR], BOOL, padded!(is_lt)).total(),
    f(1050, "bpcharle", &[BPCHAR, BPCHAR], BOOL, padded!(is_le)).total(),
    f(1051, "bpchargt", &[BPCHAR, BPCHAR], BOOL, padded!(is_gt)).total(),
    f(1052, "bpcharge", &[BPCHAR, BPCHAR], BOOL, padded!(is_ge)).total(),
    f(744, "array_eq", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_eq)).total(),
    f(390, "array_ne", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_ne)).total(),
    f(391, "array_lt", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_lt)).total(),
    f(392, "array_gt", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_gt)).total(),
    f(393, "array_le", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_le)).total(),
    f(396, "array_ge", &[ANYARRAY, ANYARRAY], BOOL, arrays!(is_ge)).total(),
    f(1086, "date_eq", &[DATE, DATE], BOOL, same!(Date, is_eq)).total(),
    f(1091, "date_ne", &[DATE, DATE], BOOL, same!(Date, is_ne)).total(),
    f(1087, "date_lt", &[DATE, DATE], BOOL, same!(Date, is_lt)).total(),
    f(1088, "date_le", &[DATE, DATE], BOOL, same!(Date, is_le)).total(),
    f(1089, "date_gt", &[DATE, DATE], BOOL, same!(Date, is_gt)).total(),
    f(1090, "date_ge", &[DATE, DATE], BOOL, same!(Date, is_ge)).total(),
    f(1145, "time_eq", &[TIME, TIME], BOOL, same!(Time, is_eq)).total(),
    f(1106, "time_ne", &[TIME, TIME], BOOL, same!(Time, is_ne)).total(),
    f(1102, "time_lt", &[TIME, TIME], BOOL, same!(Time, is_lt)).total(),
    f(1103, "time_le", &[TIME, TIME], BOOL, same!(Time, is_le)).total(),
    f(1104, "time_gt", &[TIME, TIME], BOOL, same!(Time, is_gt)).total(),
    f(1105, "time_ge", &[TIME, TIME], BOOL, same!(Time, is_ge)).total(),
    f(299, "float48eq", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_eq)).total(),
    f(300, "float48ne", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_ne)).total(),
    f(301, "float48lt", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_lt)).total(),
    f(303, "float48gt", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_gt)).total(),
    f(302, "float48le", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_le)).total(),
    f(304, "float48ge", &[FLOAT4, FLOAT8], BOOL, floats!(Float4, Float8, is_ge)).total(),
    f(305, "float84eq", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_eq)).total(),
    f(306, "float84ne", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_ne)).total(),
    f(307, "float84lt", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_lt)).total(),
    f(309, "float84gt", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_gt)).total(),
    f(308, "float84le", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_le)).total(),
    f(310, "float84ge", &[FLOAT8, FLOAT4], BOOL, floats!(Float8, Float4, is_ge)).total(),
    f(1152, "timestamptz_eq", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_eq)).total(),
    f(1153, "timestamptz_ne", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_ne)).total(),
    f(1154, "timestamptz_lt", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_lt)).total(),
    f(1155, "timestamptz_le", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_le)).total(),
    f(1157, "timestamptz_gt", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_gt)).total(),
    f(1156, "timestamptz_ge", &[TIMESTAMPTZ, TIMESTAMPTZ], BOOL, same!(TimestampTz, is_ge)).total(),
    f(1162, "interval_eq", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_eq)).total(),
    f(1163, "interval_ne", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_ne)).total(),
    f(1164, "interval_lt", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_lt)).total(),
    f(1165, "interval_le", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_le)).total(),
    f(1167, "interval_gt", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_gt)).total(),
    f(1166, "interval_ge", &[INTERVAL, INTERVAL], BOOL, same!(Interval, is_ge)).total(),
    f(1691, "boolle", &[BOOL, BOOL], BOOL, same!(Bool, is_le)).total(),
    f(1692, "boolge", &[BOOL, BOOL], BOOL, same!(Bool, is_ge)).total(),
    f(1718, "numeric_eq", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_eq)).total(),
    f(1719, "numeric_ne", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_ne)).total(),
    f(1722, "numeric_lt", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_lt)).total(),
    f(1723, "numeric_le", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_le)).total(),
    f(1720, "numeric_gt", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_gt)).total(),
    f(1721, "numeric_ge", &[NUMERIC, NUMERIC], BOOL, same!(Numeric, is_ge)).total(),
    f(1850, "int28eq", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_eq)).total(),
    f(1851, "int28ne", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_ne)).total(),
    f(1852, "int28lt", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_lt)).total(),
    f(1853, "int28gt", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_gt)).total(),
    f(1854, "int28le", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_le)).total(),
    f(1855, "int28ge", &[INT2, INT8], BOOL, integers!(Int2, Int8, i64, is_ge)).total(),
    f(1856, "int82eq", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_eq)).total(),
    f(1857, "int82ne", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_ne)).total(),
    f(1858, "int82lt", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_lt)).total(),
    f(1859, "int82gt", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_gt)).total(),
    f(1860, "int82le", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_le)).total(),
    f(1861, "int82ge", &[INT8, INT2], BOOL, integers!(Int8, Int2, i64, is_ge)).total(),
    f(1948, "byteaeq", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_eq)).total(),
    f(1953, "byteane", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_ne)).total(),
    f(1949, "bytealt", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_lt)).total(),
    f(1950, "byteale", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_le)).total(),
    f(1951, "byteagt", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_gt)).total(),
    f(1952, "byteage", &[BYTEA, BYTEA], BOOL, same!(Bytea, is_ge)).total(),
    f(2052, "timestamp_eq", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_eq)).total(),
    f(2053, "timestamp_ne", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_ne)).total(),
    f(2054, "timestamp_lt", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_lt)).total(),
    f(2055, "timestamp_le", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_le)).total(),
    f(2057, "timestamp_gt", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_gt)).total(),
    f(2056, "timestamp_ge", &[TIMESTAMP, TIMESTAMP], BOOL, same!(Timestamp, is_ge)).total(),
    f(2160, "text_pattern_lt", &[TEXT, TEXT], BOOL, same!(Text, is_lt)).total(),
    f(2161, "text_pattern_le", &[TEXT, TEXT], BOOL, same!(Text, is_le)).total(),
    f(2163, "text_pattern_ge", &[TEXT, TEXT], BOOL, same!(Text, is_ge)).total(),
    f(2164, "text_pattern_gt", &[TEXT, TEXT], BOOL, same!(Text, is_gt)).total(),
    f(2174, "bpchar_pattern_lt", &[BPCHAR, BPCHAR], BOOL, padded!(is_lt)).total(),
    f(2175, "bpchar_pattern_le", &[BPCHAR, BPCHAR], BOOL, padded!(is_le)).total(),
    f(2177, "bpchar_pattern_ge", &[BPCHAR, BPCHAR], BOOL, padded!(is_ge)).total(),
    f(2178, "bpchar_pattern_gt", &[BPCHAR, BPCHAR], BOOL, padded!(is_gt)).total(),
    f(2338, "date_lt_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_lt)).total(),
    f(2339, "date_le_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_le)).total(),
    f(2340, "date_eq_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_eq)).total(),
    f(2342, "date_ge_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_ge)).total(),
    f(2341, "date_gt_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_gt)).total(),
    f(2343, "date_ne_timestamp", &[DATE, TIMESTAMP], BOOL, moments!(is_ne)).total(),
    f(2351, "date_lt_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_lt)).stable(),
    f(2352, "date_le_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_le)).stable(),
    f(2353, "date_eq_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_eq)).stable(),
    f(2355, "date_ge_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_ge)).stable(),
    f(2354, "date_gt_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_gt)).stable(),
    f(2356, "date_ne_timestamptz", &[DATE, TIMESTAMPTZ], BOOL, moments!(is_ne)).stable(),
    f(2364, "timestamp_lt_date", &[TIMESTAMP, DATE], BOOL, moments!(is_lt)).total(),
    f(2365, "timestamp_le_date", &[TIMESTAMP, DATE], BOOL, moments!(is_le)).total(),
    f(2366, "timestamp_eq_date", &[TIMESTAMP, DATE], BOOL, moments!(is_eq)).total(),
    f(2368, "timestamp_ge_date", &[TIMESTAMP, DATE], BOOL, moments!(is_ge)).total(),
    f(2367, "timestamp_gt_date", &[TIMESTAMP, DATE], BOOL, moments!(is_gt)).total(),
    f(2369, "timestamp_ne_date", &[TIMESTAMP, DATE], BOOL, moments!(is_ne)).total(),
    f(2377, "timestamptz_lt_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_lt)).stable(),
    f(2378, "timestamptz_le_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_le)).stable(),
    f(2379, "timestamptz_eq_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_eq)).stable(),
    f(2381, "timestamptz_ge_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_ge)).stable(),
    f(2380, "timestamptz_gt_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_gt)).stable(),
    f(2382, "timestamptz_ne_date", &[TIMESTAMPTZ, DATE], BOOL, moments!(is_ne)).stable(),
    f(2520, "timestamp_lt_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_lt)).stable(),
    f(2521, "timestamp_le_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_le)).stable(),
    f(2522, "timestamp_eq_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_eq)).stable(),
    f(2524, "timestamp_ge_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_ge)).stable(),
    f(2523, "timestamp_gt_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_gt)).stable(),
    f(2525, "timestamp_ne_timestamptz", &[TIMESTAMP, TIMESTAMPTZ], BOOL, moments!(is_ne)).stable(),
    f(2527, "timestamptz_lt_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_lt)).stable(),
    f(2528, "timestamptz_le_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_le)).stable(),
    f(2529, "timestamptz_eq_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_eq)).stable(),
    f(2531, "timestamptz_ge_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_ge)).stable(),
    f(2530, "timestamptz_gt_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_gt)).stable(),
    f(2532, "timestamptz_ne_timestamp", &[TIMESTAMPTZ, TIMESTAMP], BOOL, moments!(is_ne)).stable(),
    f(2791, "tidlt", &[TID, TID], BOOL, same!(Int8, is_lt)).total(),
    f(2790, "tidgt", &[TID, TID], BOOL, same!(Int8, is_gt)).total(),
    f(2793, "tidle", &[TID, TID], BOOL, same!(Int8, is_le)).total(),
    f(2792, "tidge", &[TID, TID], BOOL, same!(Int8, is_ge)).total(),
    f(2956, "uuid_eq", &[UUID, UUID], BOOL, same!(Uuid, is_eq)).total(),
    f(2959, "uuid_ne", &[UUID, UUID], BOOL, same!(Uuid, is_ne)).total(),
    f(2954, "uuid_lt", &[UUID, UUID], BOOL, same!(Uuid, is_lt)).total(),
    f(2958, "uuid_gt", &[UUID, UUID], BOOL, same!(Uuid, is_gt)).total(),
    f(2955, "uuid_le", &[UUID, UUID], BOOL, same!(Uuid, is_le)).total(),
    f(2957, "uuid_ge", &[UUID, UUID], BOOL, same!(Uuid, is_ge)).total(),
    f(2981, "record_eq", &[RECORD, RECORD], BOOL, records!(is_eq)).total(),
    f(2982, "record_ne", &[RECORD, RECORD], BOOL, records!(is_ne)).total(),
    f(2983, "record_lt", &[RECORD, RECORD], BOOL, records!(is_lt)).total(),
    f(2984, "record_gt", &[RECORD, RECORD], BOOL, records!(is_gt)).total(),
    f(2985, "record_le", &[RECORD, RECORD], BOOL, records!(is_le)).total(),
    f(2986, "record_ge", &[RECORD, RECORD], BOOL, records!(is_ge)).total(),
    f(3233, "pg_lsn_eq", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_eq)).total(),
    f(3236, "pg_lsn_ne", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_ne)).total(),
    f(3231, "pg_lsn_lt", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_lt)).total(),
    f(3235, "pg_lsn_gt", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_gt)).total(),
    f(3232, "pg_lsn_le", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_le)).total(),
    f(3234, "pg_lsn_ge", &[PG_LSN, PG_LSN], BOOL, same!(Int8, is_ge)).total(),
    f(4043, "jsonb_eq", &[JSONB, JSONB], BOOL, same!(Jsonb, is_eq)).total(),
    f(4038, "jsonb_ne", &[JSONB, JSONB], BOOL, same!(Jsonb, is_ne)).total(),
    f(4039, "jsonb_lt", &[JSONB, JSONB], BOOL, same!(Jsonb, is_lt)).total(),
    f(4040, "jsonb_gt", &[JSONB, JSONB], BOOL, same!(Jsonb, is_gt)).total(),
    f(4041, "jsonb_le", &[JSONB, JSONB], BOOL, same!(Jsonb, is_le)).total(),
    f(4042, "jsonb_ge", &[JSONB, JSONB], BOOL, same!(Jsonb, is_ge)).total(),
    f(3308, "xidneq", &[XID, XID], BOOL, same!(Oid, is_ne)).total(),
    f(
        3309,
        "xidneqint4",
        &[XID, INT4],
        BOOL,
        thunk!([Datum::Oid(a), Datum::Int4(b)] => Ok(Datum::Bool((*a as i32).cmp(b).is_ne()))),
    )
    .total(),
    f(5084, "xid8eq", &[XID8, XID8], BOOL, same!(Int8, is_eq)).total(),
    f(5085, "xid8ne", &[XID8, XID8], BOOL, same!(Int8, is_ne)).total(),
    f(5034, "xid8lt", &[XID8, XID8], BOOL, same!(Int8, is_lt)).total(),
    f(5035, "xid8gt", &[XID8, XID8], BOOL, same!(Int8, is_gt)).total(),
    f(5036, "xid8le", &[XID8, XID8], BOOL, same!(Int8, is_le)).total(),
    f(5037, "xid8ge", &[XID8, XID8], BOOL, same!(Int8, is_ge)).total(),
    f(350, "btint2cmp", &[INT2, INT2], INT4, sign!(Int2)).total(),
    f(351, "btint4cmp", &[INT4, INT4], INT4, sign!(Int4)).total(),
    f(842, "btint8cmp", &[INT8, INT8], INT4, sign!(Int8)).total(),
    f(360, "bttextcmp", &[TEXT, TEXT], INT4, sign!(Text)).total(),
    f(359, "btnamecmp", &[NAME, NAME], INT4, sign!(Text)).total(),
    f(1693, "btboolcmp", &[BOOL, BOOL], INT4, sign!(Bool)).total(),
    f(356, "btoidcmp", &[OID, OID], INT4, sign!(Oid)).total(),
    f(1092, "date_cmp", &[DATE, DATE], INT4, sign!(Date)).total(),
    f(1107, "time_cmp", &[TIME, TIME], INT4, sign!(Time)).total(),
    f(2045, "timestamp_cmp", &[TIMESTAMP, TIMESTAMP], INT4, sign!(Timestamp)).total(),
    f(1314, "timestamptz_cmp", &[TIMESTAMPTZ, TIMESTAMPTZ], INT4, sign!(TimestampTz)).total(),
    f(1315, "interval_cmp", &[INTERVAL, INTERVAL], INT4, sign!(Interval)).total(),
    f(1769, "numeric_cmp", &[NUMERIC, NUMERIC], INT4, sign!(Numeric)).total(),
    f(2960, "uuid_cmp", &[UUID, UUID], INT4, sign!(Uuid)).total(),
    f(1954, "byteacmp", &[BYTEA, BYTEA], INT4, sign!(Bytea)).total(),
    f(4044, "jsonb_cmp", &[JSONB, JSONB], INT4, sign!(Jsonb)).total(),
];
