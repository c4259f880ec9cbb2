//! Arithmetic on numbers, all of it checked: what does not fit is 22003, never a wrapped value.

use std::sync::Arc;

use value::types::oid::*;
use value::{Datum, Error, Numeric, Result, SqlState};

use crate::Function;
use crate::declare::{division_by_zero, f, out_of_range, thunk};

pub(crate) fn number(value: Numeric) -> Result<Datum> {
    Ok(Datum::Numeric(Arc::new(value)))
}

macro_rules! checked {
    ($a:ident, $b:ident, $result:ident, $wide:ty, $method:ident, $name:literal) => {
        thunk!([Datum::$a(a), Datum::$b(b)] => match <$wide>::from(*a).$method(<$wide>::from(*b)) {
            Some(value) => Ok(Datum::$result(value)),
            None => Err(out_of_range($name)),
        })
    };
}

macro_rules! divide {
    ($a:ident, $b:ident, $result:ident, $wide:ty, $name:literal) => {
        thunk!([Datum::$a(a), Datum::$b(b)] => {
            if *b == 0 {
                return Err(division_by_zero());
            }
            match <$wide>::from(*a).checked_div(<$wide>::from(*b)) {
                Some(value) => Ok(Datum::$result(value)),
                None => Err(out_of_range($name)),
            }
        })
    };
}

macro_rules! remainder {
    ($variant:ident) => {
        // The remainder of the smallest number by -1 is 0, although the quotient does not fit.
        thunk!([Datum::$variant(a), Datum::$variant(b)] => {
            if *b == 0 { Err(division_by_zero()) } else { Ok(Datum::$variant(a.wrapping_rem(*b))) }
        })
    };
}

macro_rules! shift {
    ($variant:ident, $method:ident) => {
        thunk!([Datum::$variant(a), Datum::Int4(b)] => Ok(Datum::$variant(a.$method(*b as u32))))
    };
}

#[cold]
fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

#[cold]
fn underflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow")
}

/// Float arithmetic: an infinite result of finite operands and a zero product of nonzero ones are errors.
macro_rules! float {
    (@ $a:ident, $b:ident, $ty:ty, pl) => { float!(@@ $a, $b, $a + $b, false) };
    (@ $a:ident, $b:ident, $ty:ty, mi) => { float!(@@ $a, $b, $a - $b, false) };
    (@ $a:ident, $b:ident, $ty:ty, mul) => { float!(@@ $a, $b, $a * $b, $a != 0.0 && $b != 0.0) };
    (@ $a:ident, $b:ident, $ty:ty, div) => {{
        if $b == 0.0 && !$a.is_nan() {
            return Err(division_by_zero());
        }
        float!(@@ $a, $b, $a / $b, $a != 0.0 && !$b.is_infinite())
    }};
    (@@ $a:ident, $b:ident, $value:expr, $nonzero:expr) => {{
        let value = $value;
        if value.is_infinite() && !$a.is_infinite() && !$b.is_infinite() {
            return Err(overflow());
        }
        if value == 0.0 && $nonzero {
            return Err(underflow());
        }
        value
    }};
    ($a:ident, $b:ident, $result:ident, $ty:ty, $op:tt) => {
        thunk!([Datum::$a(a), Datum::$b(b)] => {
            let (a, b) = (<$ty>::from(*a), <$ty>::from(*b));
            Ok(Datum::$result(float!(@ a, b, $ty, $op)))
        })
    };
}

macro_rules! numerics {
    ($method:ident) => { thunk!([Datum::Numeric(a), Datum::Numeric(b)] => number(a.$method(b)?)) };
}

/// A log position is an unsigned 64 bit number, kept in the bits of an i64.
fn lsn(value: i64) -> Numeric {
    Numeric::from_i128(i128::from(value as u64), 0)
}

fn lsn_shift(lsn: i64, by: &Numeric, negative: bool) -> Result<Datum> {
    if by.is_nan() {
        let verb = if negative { "subtract NaN from" } else { "add NaN to" };
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("cannot {verb} pg_lsn")));
    }
    let by = by.round(0).to_i128(0).ok_or_else(|| out_of_range("pg_lsn"))?;
    let moved = i128::from(lsn as u64).checked_add(if negative { -by } else { by });
    let moved = moved.and_then(|moved| u64::try_from(moved).ok()).ok_or_else(|| out_of_range("pg_lsn"))?;
    Ok(Datum::Int8(moved as i64))
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(
        3237,
        "pg_lsn_mi",
        &[PG_LSN, PG_LSN],
        NUMERIC,
        thunk!([Datum::Int8(a), Datum::Int8(b)] => number(lsn(*a).sub(&lsn(*b))?)),
    ),
    f(
        3165,
        "pg_wal_lsn_diff",
        &[PG_LSN, PG_LSN],
        NUMERIC,
        thunk!([Datum::Int8(a), Datum::Int8(b)] => number(lsn(*a).sub(&lsn(*b))?)),
    ),
    f(
        5022,
        "pg_lsn_pli",
        &[PG_LSN, NUMERIC],
        PG_LSN,
        thunk!([Datum::Int8(a), Datum::Numeric(b)] => lsn_shift(*a, b, false)),
    ),
    f(
        5023,
        "numeric_pl_pg_lsn",
        &[NUMERIC, PG_LSN],
        PG_LSN,
        thunk!([Datum::Numeric(b), Datum::Int8(a)] => lsn_shift(*a, b, false)),
    ),
    f(
        5024,
        "pg_lsn_mii",
        &[PG_LSN, NUMERIC],
        PG_LSN,
        thunk!([Datum::Int8(a), Datum::Numeric(b)] => lsn_shift(*a, b, true)),
    ),
    f(176, "int2pl", &[INT2, INT2], INT2, checked!(Int2, Int2, Int2, i16, checked_add, "smallint")),
    f(180, "int2mi", &[INT2, INT2], INT2, checked!(Int2, Int2, Int2, i16, checked_sub, "smallint")),
    f(152, "int2mul", &[INT2, INT2], INT2, checked!(Int2, Int2, Int2, i16, checked_mul, "smallint")),
    f(153, "int2div", &[INT2, INT2], INT2, divide!(Int2, Int2, Int2, i16, "smallint")),
    f(178, "int24pl", &[INT2, INT4], INT4, checked!(Int2, Int4, Int4, i32, checked_add, "integer")),
    f(182, "int24mi", &[INT2, INT4], INT4, checked!(Int2, Int4, Int4, i32, checked_sub, "integer")),
    f(170, "int24mul", &[INT2, INT4], INT4, checked!(Int2, Int4, Int4, i32, checked_mul, "integer")),
    f(172, "int24div", &[INT2, INT4], INT4, divide!(Int2, Int4, Int4, i32, "integer")),
    f(841, "int28pl", &[INT2, INT8], INT8, checked!(Int2, Int8, Int8, i64, checked_add, "bigint")),
    f(942, "int28mi", &[INT2, INT8], INT8, checked!(Int2, Int8, Int8, i64, checked_sub, "bigint")),
    f(943, "int28mul", &[INT2, INT8], INT8, checked!(Int2, Int8, Int8, i64, checked_mul, "bigint")),
    f(948, "int28div", &[INT2, INT8], INT8, divide!(Int2, Int8, Int8, i64, "bigint")),
    f(155, "int2mod", &[INT2, INT2], INT2, remainder!(Int2)),
    f(940, "mod", &[INT2, INT2], INT2, remainder!(Int2)),
    f(
        213,
        "int2um",
        &[INT2],
        INT2,
        thunk!([Datum::Int2(a)] => a.checked_neg().map(Datum::Int2).ok_or_else(|| out_of_range("smallint"))),
    ),
    f(1911, "int2up", &[INT2], INT2, |_, args| Ok(args[0].clone())).total(),
    f(
        1253,
        "int2abs",
        &[INT2],
        INT2,
        thunk!([Datum::Int2(a)] => a.checked_abs().map(Datum::Int2).ok_or_else(|| out_of_range("smallint"))),
    ),
    f(
        1398,
        "abs",
        &[INT2],
        INT2,
        thunk!([Datum::Int2(a)] => a.checked_abs().map(Datum::Int2).ok_or_else(|| out_of_range("smallint"))),
    ),
    f(
        1892,
        "int2and",
        &[INT2, INT2],
        INT2,
        thunk!([Datum::Int2(a), Datum::Int2(b)] => Ok(Datum::Int2(a & b))),
    )
    .total(),
    f(
        1893,
        "int2or",
        &[INT2, INT2],
        INT2,
        thunk!([Datum::Int2(a), Datum::Int2(b)] => Ok(Datum::Int2(a | b))),
    )
    .total(),
    f(
        1894,
        "int2xor",
        &[INT2, INT2],
        INT2,
        thunk!([Datum::Int2(a), Datum::Int2(b)] => Ok(Datum::Int2(a ^ b))),
    )
    .total(),
    f(1895, "int2not", &[INT2], INT2, thunk!([Datum::Int2(a)] => Ok(Datum::Int2(!a)))).total(),
    f(1896, "int2shl", &[INT2, INT4], INT2, shift!(Int2, wrapping_shl)).total(),
    f(1897, "int2shr", &[INT2, INT4], INT2, shift!(Int2, wrapping_shr)).total(),
    f(179, "int42pl", &[INT4, INT2], INT4, checked!(Int4, Int2, Int4, i32, checked_add, "integer")),
    f(183, "int42mi", &[INT4, INT2], INT4, checked!(Int4, Int2, Int4, i32, checked_sub, "integer")),
    f(171, "int42mul", &[INT4, INT2], INT4, checked!(Int4, Int2, Int4, i32, checked_mul, "integer")),
    f(173, "int42div", &[INT4, INT2], INT4, divide!(Int4, Int2, Int4, i32, "integer")),
    f(177, "int4pl", &[INT4, INT4], INT4, checked!(Int4, Int4, Int4, i32, checked_add, "integer")),
    f(181, "int4mi", &[INT4, INT4], INT4, checked!(Int4, Int4, Int4, i32, checked_sub, "integer")),
    f(141, "int4mul", &[INT4, INT4], INT4, checked!(Int4, Int4, Int4, i32, checked_mul, "integer")),
    f(154, "int4div", &[INT4, INT4], INT4, divide!(Int4, Int4, Int4, i32, "integer")),
    f(1278, "int48pl", &[INT4, INT8], INT8, checked!(Int4, Int8, Int8, i64, checked_add, "bigint")),
    f(1279, "int48mi", &[INT4, INT8], INT8, checked!(Int4, Int8, Int8, i64, checked_sub, "bigint")),
    f(1280, "int48mul", &[INT4, INT8], INT8, checked!(Int4, Int8, Int8, i64, checked_mul, "bigint")),
    f(1281, "int48div", &[INT4, INT8], INT8, divide!(Int4, Int8, Int8, i64, "bigint")),
    f(156, "int4mod", &[INT4, INT4], INT4, remainder!(Int4)),
    f(941, "mod", &[INT4, INT4], INT4, remainder!(Int4)),
    f(
        212,
        "int4um",
        &[INT4],
        INT4,
        thunk!([Datum::Int4(a)] => a.checked_neg().map(Datum::Int4).ok_or_else(|| out_of_range("integer"))),
    ),
    f(1912, "int4up", &[INT4], INT4, |_, args| Ok(args[0].clone())).total(),
    f(
        1251,
        "int4abs",
        &[INT4],
        INT4,
        thunk!([Datum::Int4(a)] => a.checked_abs().map(Datum::Int4).ok_or_else(|| out_of_range("integer"))),
    ),
    f(
        1397,
        "abs",
        &[INT4],
        INT4,
        thunk!([Datum::Int4(a)] => a.checked_abs().map(Datum::Int4).ok_or_else(|| out_of_range("integer"))),
    ),
    f(
        1898,
        "int4and",
        &[INT4, INT4],
        INT4,
        thunk!([Datum::Int4(a), Datum::Int4(b)] => Ok(Datum::Int4(a & b))),
    )
    .total(),
    f(
        1899,
        "int4or",
        &[INT4, INT4],
        INT4,
        thunk!([Datum::Int4(a), Datum::Int4(b)] => Ok(Datum::Int4(a | b))),
    )
    .total(),
    f(
        1900,
        "int4xor",
        &[INT4, INT4],
        INT4,
        thunk!([Datum::Int4(a), Datum::Int4(b)] => Ok(Datum::Int4(a ^ b))),
    )
    .total(),
    f(1901, "int4not", &[INT4], INT4, thunk!([Datum::Int4(a)] => Ok(Datum::Int4(!a)))).total(),
    f(1902, "int4shl", &[INT4, INT4], INT4, shift!(Int4, wrapping_shl)).total(),
    f(1903, "int4shr", &[INT4, INT4], INT4, shift!(Int4, wrapping_shr)).total(),
    f(837, "int82pl", &[INT8, INT2], INT8, checked!(Int8, Int2, Int8, i64, checked_add, "bigint")),
    f(838, "int82mi", &[INT8, INT2], INT8, checked!(Int8, Int2, Int8, i64, checked_sub, "bigint")),
    f(839, "int82mul", &[INT8, INT2], INT8, checked!(Int8, Int2, Int8, i64, checked_mul, "bigint")),
    f(840, "int82div", &[INT8, INT2], INT8, divide!(Int8, Int2, Int8, i64, "bigint")),
    f(1274, "int84pl", &[INT8, INT4], INT8, checked!(Int8, Int4, Int8, i64, checked_add, "bigint")),
    f(1275, "int84mi", &[INT8, INT4], INT8, checked!(Int8, Int4, Int8, i64, checked_sub, "bigint")),
    f(1276, "int84mul", &[INT8, INT4], INT8, checked!(Int8, Int4, Int8, i64, checked_mul, "bigint")),
    f(1277, "int84div", &[INT8, INT4], INT8, divide!(Int8, Int4, Int8, i64, "bigint")),
    f(463, "int8pl", &[INT8, INT8], INT8, checked!(Int8, Int8, Int8, i64, checked_add, "bigint")),
    f(464, "int8mi", &[INT8, INT8], INT8, checked!(Int8, Int8, Int8, i64, checked_sub, "bigint")),
    f(465, "int8mul", &[INT8, INT8], INT8, checked!(Int8, Int8, Int8, i64, checked_mul, "bigint")),
    f(466, "int8div", &[INT8, INT8], INT8, divide!(Int8, Int8, Int8, i64, "bigint")),
    f(945, "int8mod", &[INT8, INT8], INT8, remainder!(Int8)),
    f(947, "mod", &[INT8, INT8], INT8, remainder!(Int8)),
    f(
        462,
        "int8um",
        &[INT8],
        INT8,
        thunk!([Datum::Int8(a)] => a.checked_neg().map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))),
    ),
    f(1910, "int8up", &[INT8], INT8, |_, args| Ok(args[0].clone())).total(),
    f(
        1230,
        "int8abs",
        &[INT8],
        INT8,
        thunk!([Datum::Int8(a)] => a.checked_abs().map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))),
    ),
    f(
        1396,
        "abs",
        &[INT8],
        INT8,
        thunk!([Datum::Int8(a)] => a.checked_abs().map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))),
    ),
    f(
        1904,
        "int8and",
        &[INT8, INT8],
        INT8,
        thunk!([Datum::Int8(a), Datum::Int8(b)] => Ok(Datum::Int8(a & b))),
    )
    .total(),
    f(
        1905,
        "int8or",
        &[INT8, INT8],
        INT8,
        thunk!([Datum::Int8(a), Datum::Int8(b)] => Ok(Datum::Int8(a | b))),
    )
    .total(),
    f(
        1906,
        "int8xor",
        &[INT8, INT8],
        INT8,
        thunk!([Datum::Int8(a), Datum::Int8(b)] => Ok(Datum::Int8(a ^ b))),
    )
    .total(),
    f(1907, "int8not", &[INT8], INT8, thunk!([Datum::Int8(a)] => Ok(Datum::Int8(!a)))).total(),
    f(1908, "int8shl", &[INT8, INT4], INT8, shift!(Int8, wrapping_shl)).total(),
    f(1909, "int8shr", &[INT8, INT4], INT8, shift!(Int8, wrapping_shr)).total(),
    f(204, "float4pl", &[FLOAT4, FLOAT4], FLOAT4, float!(Float4, Float4, Float4, f32, pl)),
    f(205, "float4mi", &[FLOAT4, FLOAT4], FLOAT4, float!(Float4, Float4, Float4, f32, mi)),
    f(202, "float4mul", &[FLOAT4, FLOAT4], FLOAT4, float!(Float4, Float4, Float4, f32, mul)),
    f(203, "float4div", &[FLOAT4, FLOAT4], FLOAT4, float!(Float4, Float4, Float4, f32, div)),
    f(281, "float48pl", &[FLOAT4, FLOAT8], FLOAT8, float!(Float4, Float8, Float8, f64, pl)),
    f(282, "float48mi", &[FLOAT4, FLOAT8], FLOAT8, float!(Float4, Float8, Float8, f64, mi)),
    f(279, "float48mul", &[FLOAT4, FLOAT8], FLOAT8, float!(Float4, Float8, Float8, f64, mul)),
    f(280, "float48div", &[FLOAT4, FLOAT8], FLOAT8, float!(Float4, Float8, Float8, f64, div)),
    f(206, "float4um", &[FLOAT4], FLOAT4, thunk!([Datum::Float4(a)] => Ok(Datum::Float4(-a)))).total(),
    f(1913, "float4up", &[FLOAT4], FLOAT4, |_, args| Ok(args[0].clone())).total(),
    f(207, "float4abs", &[FLOAT4], FLOAT4, thunk!([Datum::Float4(a)] => Ok(Datum::Float4(a.abs())))).total(),
    f(1394, "abs", &[FLOAT4], FLOAT4, thunk!([Datum::Float4(a)] => Ok(Datum::Float4(a.abs())))).total(),
    f(285, "float84pl", &[FLOAT8, FLOAT4], FLOAT8, float!(Float8, Float4, Float8, f64, pl)),
    f(286, "float84mi", &[FLOAT8, FLOAT4], FLOAT8, float!(Float8, Float4, Float8, f64, mi)),
    f(283, "float84mul", &[FLOAT8, FLOAT4], FLOAT8, float!(Float8, Float4, Float8, f64, mul)),
    f(284, "float84div", &[FLOAT8, FLOAT4], FLOAT8, float!(Float8, Float4, Float8, f64, div)),
    f(218, "float8pl", &[FLOAT8, FLOAT8], FLOAT8, float!(Float8, Float8, Float8, f64, pl)),
    f(219, "float8mi", &[FLOAT8, FLOAT8], FLOAT8, float!(Float8, Float8, Float8, f64, mi)),
    f(216, "float8mul", &[FLOAT8, FLOAT8], FLOAT8, float!(Float8, Float8, Float8, f64, mul)),
    f(217, "float8div", &[FLOAT8, FLOAT8], FLOAT8, float!(Float8, Float8, Float8, f64, div)),
    f(220, "float8um", &[FLOAT8], FLOAT8, thunk!([Datum::Float8(a)] => Ok(Datum::Float8(-a)))).total(),
    f(1914, "float8up", &[FLOAT8], FLOAT8, |_, args| Ok(args[0].clone())).total(),
    f(221, "float8abs", &[FLOAT8], FLOAT8, thunk!([Datum::Float8(a)] => Ok(Datum::Float8(a.abs())))).total(),
    f(1395, "abs", &[FLOAT8], FLOAT8, thunk!([Datum::Float8(a)] => Ok(Datum::Float8(a.abs())))).total(),
    f(1724, "numeric_add", &[NUMERIC, NUMERIC], NUMERIC, numerics!(add)),
    f(1725, "numeric_sub", &[NUMERIC, NUMERIC], NUMERIC, numerics!(sub)),
    f(1726, "numeric_mul", &[NUMERIC, NUMERIC], NUMERIC, numerics!(mul)),
    f(1727, "numeric_div", &[NUMERIC, NUMERIC], NUMERIC, numerics!(div)),
    f(1729, "numeric_mod", &[NUMERIC, NUMERIC], NUMERIC, numerics!(rem)),
    f(1728, "mod", &[NUMERIC, NUMERIC], NUMERIC, numerics!(rem)),
    f(1771, "numeric_uminus", &[NUMERIC], NUMERIC, thunk!([Datum::Numeric(a)] => number(a.neg()))).total(),
    f(1915, "numeric_uplus", &[NUMERIC], NUMERIC, |_, args| Ok(args[0].clone())).total(),
    f(1704, "numeric_abs", &[NUMERIC], NUMERIC, thunk!([Datum::Numeric(a)] => number(a.abs()))).total(),
    f(1705, "abs", &[NUMERIC], NUMERIC, thunk!([Datum::Numeric(a)] => number(a.abs()))).total(),
    f(
        766,
        "int4inc",
        &[INT4],
        INT4,
        thunk!([Datum::Int4(a)] => a.checked_add(1).map(Datum::Int4).ok_or_else(|| out_of_range("integer"))),
    ),
    f(
        1219,
        "int8inc",
        &[INT8],
        INT8,
        thunk!([Datum::Int8(a)] => a.checked_add(1).map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))),
    ),
];
