//! Mathematical functions of float8, numeric and integers, and numbers to and from patterns.

use value::types::oid::*;
use value::{Datum, Error, Numeric, Result, SqlState, format};

use crate::Function;
use crate::arithmetic::number;
use crate::declare::{f, invalid_parameter, mismatch, out_of_range, text_of, thunk};

fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

fn underflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow")
}

fn outside() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

fn float(value: f64) -> Result<Datum> {
    Ok(Datum::Float8(value))
}

/// A float function of one argument that cannot fail.
macro_rules! float {
    ($method:ident) => { thunk!([Datum::Float8(a)] => float(a.$method())) };
    ($a:ident => $body:expr) => { thunk!([Datum::Float8($a)] => { let $a = *$a; float($body) }) };
}

macro_rules! numerics {
    ($a:ident => $body:expr) => { thunk!([Datum::Numeric($a)] => number($body)) };
    ($a:ident, $b:ident => $body:expr) => { thunk!([Datum::Numeric($a), Datum::Numeric($b)] => number($body)) };
}

fn sqrt(a: f64) -> Result<f64> {
    if a < 0.0 {
        return Err(Error::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER,
            "cannot take square root of a negative number",
        ));
    }
    Ok(a.sqrt())
}

fn logarithm(a: f64, of: fn(f64) -> f64) -> Result<f64> {
    if a == 0.0 {
        return Err(Error::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of zero"));
    }
    if a < 0.0 {
        let message = "cannot take logarithm of a negative number";
        return Err(Error::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message));
    }
    Ok(of(a))
}

fn exp(a: f64) -> Result<f64> {
    let value = a.exp();
    if value.is_infinite() && !a.is_infinite() {
        return Err(overflow());
    }
    if value == 0.0 && !a.is_infinite() {
        return Err(underflow());
    }
    Ok(value)
}

fn power(a: f64, b: f64) -> Result<f64> {
    let error = |message: &str| Err(Error::new(SqlState::INVALID_ARGUMENT_FOR_POWER, message));
    if a.is_nan() {
        return Ok(if b == 0.0 { 1.0 } else { a });
    }
    if b.is_nan() {
        return Ok(if a == 1.0 { 1.0 } else { b });
    }
    if a == 0.0 && b < 0.0 {
        return error("zero raised to a negative power is undefined");
    }
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return error("a negative number raised to a non-integer power yields a complex result");
    }
    let value = a.powf(b);
    if a.is_finite() && b.is_finite() {
        if value.is_infinite() {
            return Err(overflow());
        }
        if value == 0.0 && a != 0.0 {
            return Err(underflow());
        }
    }
    Ok(value)
}

/// Sine of an angle in degrees, exact for the angles that have exact sines.
fn sin_degrees(degrees: f64) -> Result<f64> {
    if degrees.is_nan() {
        return Ok(degrees);
    }
    if degrees.is_infinite() {
        return Err(outside());
    }
    let mut angle = degrees % 360.0;
    let mut sign = 1.0;
    if angle < 0.0 {
        angle = -angle;
        sign = -sign;
    }
    if angle > 180.0 {
        angle = 360.0 - angle;
        sign = -sign;
    }
    if angle > 90.0 {
        angle = 180.0 - angle;
    }
    Ok(sign * quadrant_sine(angle))
}

/// Sine of 0 to 90 degrees.
fn quadrant_sine(angle: f64) -> f64 {
    if angle == 30.0 {
        0.5
    } else if angle == 90.0 {
        1.0
    } else if angle <= 45.0 {
        angle.to_radians().sin()
    } else {
        (90.0 - angle).to_radians().cos()
    }
}

fn cos_degrees(degrees: f64) -> Result<f64> {
    if degrees.is_infinite() {
        return Err(outside());
    }
    // cos(x) = sin(90 - x), after the reduction so that large angles stay exact.
    sin_degrees(90.0 - (degrees % 360.0).abs())
}

fn tan_degrees(degrees: f64) -> Result<f64> {
    let (sine, cosine) = (sin_degrees(degrees)?, cos_degrees(degrees)?);
    Ok(if (degrees % 180.0).abs() == 45.0 {
        1.0_f64.copysign(degrees)
    } else if (degrees % 180.0).abs() == 135.0 {
        -1.0_f64.copysign(degrees)
    } else {
        sine / cosine
    })
}

/// Degrees of an inverse function, exact where radians would leave rounding noise.
fn to_degrees(radians: f64) -> f64 {
    let degrees = radians.to_degrees();
    let nearest = degrees.round();
    if (degrees - nearest).abs() < 1e-13 { nearest } else { degrees }
}

fn in_unit(a: f64, of: fn(f64) -> f64) -> Result<f64> {
    if a.is_nan() {
        return Ok(a);
    }
    if !(-1.0..=1.0).contains(&a) {
        return Err(outside());
    }
    Ok(of(a))
}

fn finite(a: f64, of: fn(f64) -> f64) -> Result<f64> {
    if a.is_infinite() {
        return Err(outside());
    }
    Ok(of(a))
}

fn gcd(a: i64, b: i64) -> u64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: i64, b: i64) -> Option<u64> {
    if a == 0 || b == 0 {
        return Some(0);
    }
    (a.unsigned_abs() / gcd(a, b)).checked_mul(b.unsigned_abs())
}

fn int4(value: Option<u64>) -> Result<Datum> {
    value.and_then(|v| i32::try_from(v).ok()).map(Datum::Int4).ok_or_else(|| out_of_range("integer"))
}

fn int8(value: Option<u64>) -> Result<Datum> {
    value.and_then(|v| i64::try_from(v).ok()).map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
}

fn bucket_error(message: &str) -> Error {
    // 2201G is the code of this one condition.
    Error::new(SqlState(*b"2201G"), message)
}

fn width_bucket_float(args: &[Datum]) -> Result<Datum> {
    let [Datum::Float8(value), Datum::Float8(low), Datum::Float8(high), Datum::Int4(count)] = args else {
        return Err(mismatch(args));
    };
    if *count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(bucket_error("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let (above, beyond) =
        if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
    if above {
        return Ok(Datum::Int4(0));
    }
    if beyond {
        return count.checked_add(1).map(Datum::Int4).ok_or_else(|| out_of_range("integer"));
    }
    let at = f64::from(*count) * ((value - low) / (high - low));
    Ok(Datum::Int4((at as i32).min(count - 1) + 1))
}

fn width_bucket_numeric(args: &[Datum]) -> Result<Datum> {
    let [Datum::Numeric(value), Datum::Numeric(low), Datum::Numeric(high), Datum::Int4(count)] = args else {
        return Err(mismatch(args));
    };
    if *count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(bucket_error("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let (before, beyond) =
        if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
    if before {
        return Ok(Datum::Int4(0));
    }
    if beyond {
        return count.checked_add(1).map(Datum::Int4).ok_or_else(|| out_of_range("integer"));
    }
    let scaled = value.sub(low)?.mul(&Numeric::from_i64(i64::from(*count)))?.div_trunc(&high.sub(low)?)?;
    Ok(Datum::Int4(scaled.to_i32()? + 1))
}

/// `width_bucket(operand, thresholds)`: how many of the sorted thresholds are at or below the operand.
fn width_bucket_array(args: &[Datum]) -> Result<Datum> {
    let [value, Datum::Array(thresholds)] = args else { return Err(mismatch(args)) };
    if thresholds.dims.len() > 1 {
        return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "thresholds must be one-dimensional array"));
    }
    if thresholds.values.iter().any(Datum::is_null) {
        return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "thresholds array must not contain NULLs"));
    }
    let below = thresholds.values.partition_point(|threshold| {
        value::compare::compare_typed(thresholds.element, threshold, value).is_le()
    });
    Ok(Datum::Int4(below as i32))
}

const SIZE_UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];

/// Units change at 10 times their size (10239 bytes, 10 kB) and round half away from zero.
fn size_pretty(size: &Numeric) -> Result<String> {
    let ten_k = Numeric::from_i64(10 * 1024);
    if size.abs() < ten_k {
        return Ok(format!("{size} bytes"));
    }
    let mut shown = size.trunc(0);
    let limit = Numeric::from_i64(20 * 1024 - 1);
    // Halves are kept as one extra bit until the unit is known, so that rounding happens once.
    shown = shown.div_trunc(&Numeric::from_i64(512))?;
    let mut unit = 1;
    while shown.abs() >= limit && unit + 1 < SIZE_UNITS.len() {
        shown = shown.div_trunc(&Numeric::from_i64(1024))?;
        unit += 1;
    }
    let one = if shown.signum() < 0 { Numeric::from_i64(-1) } else { Numeric::ONE };
    let rounded = shown.add(&one)?.div_trunc(&Numeric::from_i64(2))?;
    Ok(format!("{rounded} {}", SIZE_UNITS[unit]))
}

fn size_bytes(text: &str) -> Result<i64> {
    let bad = || invalid_parameter(format!("invalid size: \"{text}\""));
    let trimmed = text.trim();
    let end = trimmed
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_digit() || c == '.' || (at == 0 && (c == '-' || c == '+'))))
        .map_or(trimmed.len(), |(at, _)| at);
    let amount = Numeric::parse(&trimmed[..end]).map_err(|_| bad())?;
    let unit = trimmed[end..].trim().to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        "pb" => 50,
        other => {
            return Err(bad()
                .detail(format!("Invalid size unit: \"{other}\"."))
                .hint("Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\"."));
        }
    };
    amount.mul(&Numeric::from_i64(1 << shift))?.to_i64()
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(2308, "ceil", &[FLOAT8], FLOAT8, float!(ceil)).total(),
    f(2320, "ceiling", &[FLOAT8], FLOAT8, float!(ceil)).total(),
    f(2309, "floor", &[FLOAT8], FLOAT8, float!(floor)).total(),
    f(1342, "round", &[FLOAT8], FLOAT8, float!(round_ties_even)).total(),
    f(228, "dround", &[FLOAT8], FLOAT8, float!(round_ties_even)).total(),
    f(1343, "trunc", &[FLOAT8], FLOAT8, float!(trunc)).total(),
    f(229, "dtrunc", &[FLOAT8], FLOAT8, float!(trunc)).total(),
    f(2310, "sign", &[FLOAT8], FLOAT8, float!(a => if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { a.abs() })).total(),
    f(1344, "sqrt", &[FLOAT8], FLOAT8, float!(a => sqrt(a)?)),
    f(230, "dsqrt", &[FLOAT8], FLOAT8, float!(a => sqrt(a)?)),
    f(1345, "cbrt", &[FLOAT8], FLOAT8, float!(cbrt)).total(),
    f(231, "dcbrt", &[FLOAT8], FLOAT8, float!(cbrt)).total(),
    f(1347, "exp", &[FLOAT8], FLOAT8, float!(a => exp(a)?)),
    f(233, "dexp", &[FLOAT8], FLOAT8, float!(a => exp(a)?)),
    f(1341, "ln", &[FLOAT8], FLOAT8, float!(a => logarithm(a, f64::ln)?)),
    f(234, "dlog1", &[FLOAT8], FLOAT8, float!(a => logarithm(a, f64::ln)?)),
    f(1340, "log", &[FLOAT8], FLOAT8, float!(a => logarithm(a, f64::log10)?)),
    f(1194, "log10", &[FLOAT8], FLOAT8, float!(a => logarithm(a, f64::log10)?)),
    f(1339, "dlog10", &[FLOAT8], FLOAT8, float!(a => logarithm(a, f64::log10)?)),
    f(1368, "power", &[FLOAT8, FLOAT8], FLOAT8, thunk!([Datum::Float8(a), Datum::Float8(b)] => float(power(*a, *b)?))),
    f(1346, "pow", &[FLOAT8, FLOAT8], FLOAT8, thunk!([Datum::Float8(a), Datum::Float8(b)] => float(power(*a, *b)?))),
    f(232, "dpow", &[FLOAT8, FLOAT8], FLOAT8, thunk!([Datum::Float8(a), Datum::Float8(b)] => float(power(*a, *b)?))),
    f(1610, "pi", &[], FLOAT8, |_, _| float(std::f64::consts::PI)).total(),
    f(1608, "degrees", &[FLOAT8], FLOAT8, float!(to_degrees)).total(),
    f(1609, "radians", &[FLOAT8], FLOAT8, float!(to_radians)).total(),
    f(1604, "sin", &[FLOAT8], FLOAT8, float!(a => finite(a, f64::sin)?)),
    f(1605, "cos", &[FLOAT8], FLOAT8, float!(a => finite(a, f64::cos)?)),
    f(1606, "tan", &[FLOAT8], FLOAT8, float!(a => finite(a, f64::tan)?)),
    f(1607, "cot", &[FLOAT8], FLOAT8, float!(a => 1.0 / finite(a, f64::tan)?)),
    f(1600, "asin", &[FLOAT8], FLOAT8, float!(a => in_unit(a, f64::asin)?)),
    f(1601, "acos", &[FLOAT8], FLOAT8, float!(a => in_unit(a, f64::acos)?)),
    f(1602, "atan", &[FLOAT8], FLOAT8, float!(atan)).total(),
    f(1603, "atan2", &[FLOAT8, FLOAT8], FLOAT8, thunk!([Datum::Float8(a), Datum::Float8(b)] => float(a.atan2(*b)))).total(),
    f(2462, "sinh", &[FLOAT8], FLOAT8, float!(sinh)).total(),
    f(2463, "cosh", &[FLOAT8], FLOAT8, float!(cosh)).total(),
    f(2464, "tanh", &[FLOAT8], FLOAT8, float!(tanh)).total(),
    f(2465, "asinh", &[FLOAT8], FLOAT8, float!(asinh)).total(),
    f(2466, "acosh", &[FLOAT8], FLOAT8, float!(a => if a < 1.0 { return Err(outside()) } else { a.acosh() })),
    f(2467, "atanh", &[FLOAT8], FLOAT8, float!(a => in_unit(a, f64::atanh)?)),
    f(2735, "sind", &[FLOAT8], FLOAT8, float!(a => sin_degrees(a)?)),
    f(2736, "cosd", &[FLOAT8], FLOAT8, float!(a => cos_degrees(a)?)),
    f(2737, "tand", &[FLOAT8], FLOAT8, float!(a => tan_degrees(a)?)),
    f(2738, "cotd", &[FLOAT8], FLOAT8, float!(a => 1.0 / tan_degrees(a)?)),
    f(2731, "asind", &[FLOAT8], FLOAT8, float!(a => to_degrees(in_unit(a, f64::asin)?))),
    f(2732, "acosd", &[FLOAT8], FLOAT8, float!(a => to_degrees(in_unit(a, f64::acos)?))),
    f(2733, "atand", &[FLOAT8], FLOAT8, float!(a => to_degrees(a.atan()))).total(),
    f(2734, "atan2d", &[FLOAT8, FLOAT8], FLOAT8, thunk!([Datum::Float8(a), Datum::Float8(b)] => float(to_degrees(a.atan2(*b))))).total(),
    f(1598, "random", &[], FLOAT8, |call, _| float(call.env.random())).volatile().total(),
    f(1599, "setseed", &[FLOAT8], VOID, thunk!(call; [Datum::Float8(seed)] => {
        if !(-1.0..=1.0).contains(seed) {
            return Err(invalid_parameter(format!("setseed parameter {seed} is out of allowed range [-1,1]")));
        }
        call.env.set_seed(*seed).map(|()| Datum::text(""))
    })).volatile(),
    f(320, "width_bucket", &[FLOAT8, FLOAT8, FLOAT8, INT4], INT4, |_, args| width_bucket_float(args)),
    f(2170, "width_bucket", &[NUMERIC, NUMERIC, NUMERIC, INT4], INT4, |_, args| width_bucket_numeric(args)),
    f(3218, "width_bucket", &[ANYCOMPATIBLE, ANYCOMPATIBLEARRAY], INT4, |_, args| width_bucket_array(args)),
    f(1711, "ceil", &[NUMERIC], NUMERIC, numerics!(a => a.ceil())).total(),
    f(2167, "ceiling", &[NUMERIC], NUMERIC, numerics!(a => a.ceil())).total(),
    f(1712, "floor", &[NUMERIC], NUMERIC, numerics!(a => a.floor())).total(),
    f(1708, "round", &[NUMERIC], NUMERIC, numerics!(a => a.round(0))).total(),
    f(1707, "round", &[NUMERIC, INT4], NUMERIC, thunk!([Datum::Numeric(a), Datum::Int4(scale)] => number(a.round(*scale)))),
    f(1710, "trunc", &[NUMERIC], NUMERIC, numerics!(a => a.trunc(0))).total(),
    f(1709, "trunc", &[NUMERIC, INT4], NUMERIC, thunk!([Datum::Numeric(a), Datum::Int4(scale)] => number(a.trunc(*scale)))),
    f(1706, "sign", &[NUMERIC], NUMERIC, numerics!(a => if a.is_nan() { Numeric::NAN } else { Numeric::from_i64(i64::from(a.signum())) })).total(),
    f(1730, "sqrt", &[NUMERIC], NUMERIC, numerics!(a => a.sqrt()?)),
    f(1731, "numeric_sqrt", &[NUMERIC], NUMERIC, numerics!(a => a.sqrt()?)),
    f(1732, "exp", &[NUMERIC], NUMERIC, numerics!(a => a.exp()?)),
    f(1733, "numeric_exp", &[NUMERIC], NUMERIC, numerics!(a => a.exp()?)),
    f(1734, "ln", &[NUMERIC], NUMERIC, numerics!(a => a.ln()?)),
    f(1735, "numeric_ln", &[NUMERIC], NUMERIC, numerics!(a => a.ln()?)),
    f(1741, "log", &[NUMERIC], NUMERIC, numerics!(a => a.log10()?)),
    f(1481, "log10", &[NUMERIC], NUMERIC, numerics!(a => a.log10()?)),
    f(1736, "log", &[NUMERIC, NUMERIC], NUMERIC, numerics!(base, a => a.log(base)?)),
    f(1737, "numeric_log", &[NUMERIC, NUMERIC], NUMERIC, numerics!(base, a => a.log(base)?)),
    f(2169, "power", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.power(b)?)),
    f(1738, "pow", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.power(b)?)),
    f(1739, "numeric_power", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.power(b)?)),
    f(1973, "div", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.div_trunc(b)?)),
    f(1980, "numeric_div_trunc", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.div_trunc(b)?)),
    f(5048, "gcd", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.gcd(b)?)),
    f(5049, "lcm", &[NUMERIC, NUMERIC], NUMERIC, numerics!(a, b => a.lcm(b)?)),
    f(5044, "gcd", &[INT4, INT4], INT4, thunk!([Datum::Int4(a), Datum::Int4(b)] => int4(Some(gcd(i64::from(*a), i64::from(*b)))))),
    f(5045, "gcd", &[INT8, INT8], INT8, thunk!([Datum::Int8(a), Datum::Int8(b)] => int8(Some(gcd(*a, *b))))),
    f(5046, "lcm", &[INT4, INT4], INT4, thunk!([Datum::Int4(a), Datum::Int4(b)] => int4(lcm(i64::from(*a), i64::from(*b))))),
    f(5047, "lcm", &[INT8, INT8], INT8, thunk!([Datum::Int8(a), Datum::Int8(b)] => int8(lcm(*a, *b)))),
    f(1376, "factorial", &[INT8], NUMERIC, thunk!([Datum::Int8(n)] => number(Numeric::factorial(*n)?))),
    f(3281, "scale", &[NUMERIC], INT4, thunk!([Datum::Numeric(a)] => Ok(if a.is_nan() || a.is_infinite() { Datum::Null } else { Datum::Int4(i32::from(a.scale())) }))).total(),
    f(5042, "min_scale", &[NUMERIC], INT4, thunk!([Datum::Numeric(a)] => Ok(a.min_scale().map_or(Datum::Null, |scale| Datum::Int4(i32::from(scale)))))).total(),
    f(5043, "trim_scale", &[NUMERIC], NUMERIC, numerics!(a => a.trim_scale())).total(),
    f(1703, "numeric", &[NUMERIC, INT4], NUMERIC, thunk!([Datum::Numeric(a), Datum::Int4(typmod)] => number(a.apply_typmod(*typmod)?))),
    f(1764, "numeric_inc", &[NUMERIC], NUMERIC, numerics!(a => a.add(&Numeric::ONE)?)),
    f(2089, "to_hex", &[INT4], TEXT, thunk!([Datum::Int4(a)] => text_of(format!("{a:x}")))).total(),
    f(2090, "to_hex", &[INT8], TEXT, thunk!([Datum::Int8(a)] => text_of(format!("{a:x}")))).total(),
    f(1773, "to_char", &[INT4, TEXT], TEXT, thunk!([Datum::Int4(a), Datum::Text(pattern)] => text_of(format::numeric_to_char(&Numeric::from_i64(i64::from(*a)), pattern)?))).stable(),
    f(1774, "to_char", &[INT8, TEXT], TEXT, thunk!([Datum::Int8(a), Datum::Text(pattern)] => text_of(format::numeric_to_char(&Numeric::from_i64(*a), pattern)?))).stable(),
    f(1772, "to_char", &[NUMERIC, TEXT], TEXT, thunk!([Datum::Numeric(a), Datum::Text(pattern)] => text_of(format::numeric_to_char(a, pattern)?))).stable(),
    f(1776, "to_char", &[FLOAT8, TEXT], TEXT, thunk!([Datum::Float8(a), Datum::Text(pattern)] => text_of(format::float_to_char(*a, pattern)?))).stable(),
    f(1775, "to_char", &[FLOAT4, TEXT], TEXT, thunk!([Datum::Float4(a), Datum::Text(pattern)] => text_of(format::float_to_char(f64::from(*a), pattern)?))).stable(),
    f(1777, "to_number", &[TEXT, TEXT], NUMERIC, thunk!([Datum::Text(text), Datum::Text(pattern)] => number(format::to_number(text, pattern)?))).stable(),
    f(2288, "pg_size_pretty", &[INT8], TEXT, thunk!([Datum::Int8(size)] => text_of(size_pretty(&Numeric::from_i64(*size))?))),
    f(3166, "pg_size_pretty", &[NUMERIC], TEXT, thunk!([Datum::Numeric(size)] => text_of(size_pretty(size)?))),
    f(3334, "pg_size_bytes", &[TEXT], INT8, thunk!([Datum::Text(text)] => size_bytes(text).map(Datum::Int8))),
];
