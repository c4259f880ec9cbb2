//! numeric: a decimal coefficient, a display scale, NaN and both infinities.
//!
//! The hard idea is to keep nearly every value in one `i128` (38 digits cover almost all real tables) and to
//! fall to a big integer only when an operation overflows. The representation is canonical: a coefficient that fits an
//! `i128` is always small, so equality never has to ask which form it is in. The scale is what is *shown* (`1.00`
//! keeps its two zeros) and never takes part in comparison.
//!
//! Result scales follow PostgreSQL 15 digit by digit: they depend on the weight in base 10,000, so that base
//! shows up here although nothing is stored in it.

mod math;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::types::numeric_precision_scale;
use crate::{Error, Result, SqlState};

/// Digits before and after the point that a value may have.
pub const MAX_WHOLE_DIGITS: usize = 131_072;
pub const MAX_SCALE: usize = 16_383;
/// Results of division and transcendental functions get at least this many significant digits ...
const MIN_SIGNIFICANT_DIGITS: i32 = 16;
/// ... and at most this many digits after the point.
const MAX_DISPLAY_SCALE: i32 = 1000;
/// `round` and `trunc` clamp their scale to this.
const MAX_RESULT_SCALE: i32 = 2000;

/// A value of type numeric. Equality, order and hash are by value: `1.0 == 1.00`, NaN equals itself and is greatest.
#[derive(Clone, Debug)]
pub struct Numeric(Repr);

#[derive(Clone, Debug)]
enum Repr {
    /// `coefficient * 10^-scale`; never `i128::MIN`.
    Small {
        coefficient: i128,
        scale: u16,
    },
    /// Only when the coefficient does not fit above.
    Big {
        coefficient: Box<BigInt>,
        scale: u16,
    },
    NaN,
    Infinity,
    NegInfinity,
}

const POW10: [i128; 39] = {
    let mut table = [1i128; 39];
    let mut at = 1;
    while at < 39 {
        table[at] = table[at - 1] * 10;
        at += 1;
    }
    table
};

#[inline]
fn pow10_i128(exponent: u32) -> Option<i128> {
    POW10.get(exponent as usize).copied()
}

fn pow10(exponent: u32) -> BigInt {
    match pow10_i128(exponent) {
        Some(power) => BigInt::from(power),
        None => BigInt::from(10).pow(exponent),
    }
}

fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// Decimal digits of a coefficient without its sign; zero has none.
fn digit_count(value: &BigInt) -> usize {
    if value.is_zero() {
        return 0;
    }
    // bits * log10(2) is off by at most one; one comparison decides.
    let estimate = ((value.bits() - 1) as f64 * std::f64::consts::LOG10_2) as usize;
    let mut digits = estimate.max(1);
    let magnitude = value.magnitude();
    while pow10(digits as u32).magnitude() <= magnitude {
        digits += 1;
    }
    digits
}

#[inline]
fn digit_count_i128(value: i128) -> usize {
    value.unsigned_abs().checked_ilog10().map_or(0, |log| log as usize + 1)
}

/// Quotient rounded half away from zero.
fn div_round(value: &BigInt, divisor: &BigInt) -> BigInt {
    let (quotient, remainder) = value.div_rem(divisor);
    if (remainder.abs() << 1u32) >= divisor.abs() {
        let step = if value.is_negative() == divisor.is_negative() { 1 } else { -1 };
        return quotient + step;
    }
    quotient
}

#[inline]
fn div_round_i128(value: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    let (rest, size) = (remainder.unsigned_abs(), divisor.unsigned_abs());
    if rest >= size - rest {
        return if (value < 0) == (divisor < 0) { quotient + 1 } else { quotient - 1 };
    }
    quotient
}

#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    HalfAway,
    Truncate,
    Ceil,
    Floor,
}

fn div_mode(value: &BigInt, divisor: &BigInt, mode: Rounding) -> BigInt {
    match mode {
        Rounding::HalfAway => div_round(value, divisor),
        Rounding::Truncate => value / divisor,
        Rounding::Ceil => value.div_ceil(divisor),
        Rounding::Floor => value.div_floor(divisor),
    }
}

impl Numeric {
    pub const ZERO: Numeric = Numeric(Repr::Small { coefficient: 0, scale: 0 });
    pub const ONE: Numeric = Numeric(Repr::Small { coefficient: 1, scale: 0 });
    pub const NAN: Numeric = Numeric(Repr::NaN);
    pub const INFINITY: Numeric = Numeric(Repr::Infinity);
    pub const NEG_INFINITY: Numeric = Numeric(Repr::NegInfinity);

    #[inline]
    pub fn from_i64(value: i64) -> Numeric {
        Numeric(Repr::Small { coefficient: i128::from(value), scale: 0 })
    }

    /// `coefficient * 10^-scale`.
    #[inline]
    pub fn from_i128(coefficient: i128, scale: u16) -> Numeric {
        if coefficient == i128::MIN {
            return Numeric(Repr::Big { coefficient: Box::new(BigInt::from(coefficient)), scale });
        }
        Numeric(Repr::Small { coefficient, scale })
    }

    /// `coefficient * 10^-scale`; 22003 beyond numeric's limits.
    pub fn from_bigint(coefficient: BigInt, scale: u16) -> Result<Numeric> {
        if usize::from(scale) > MAX_SCALE {
            return Err(overflow());
        }
        if let Some(small) = coefficient.to_i128()
            && small != i128::MIN
        {
            return Ok(Numeric(Repr::Small { coefficient: small, scale }));
        }
        // Four bits hold more than one digit: only values near the limit pay for counting.
        if coefficient.bits() / 4 > MAX_WHOLE_DIGITS as u64
            || coefficient.bits() > 3 * (MAX_WHOLE_DIGITS as u64 + u64::from(scale))
        {
            let digits = digit_count(&coefficient);
            if digits.saturating_sub(usize::from(scale)) > MAX_WHOLE_DIGITS {
                return Err(overflow());
            }
        }
        Ok(Numeric(Repr::Big { coefficient: Box::new(coefficient), scale }))
    }

    /// A float's 15 significant digits, as the cast from float8 gives; NaN and infinities stay.
    pub fn from_f64(value: f64) -> Numeric {
        Numeric::from_float(value, format_args!("{value:.14e}"))
    }

    /// A float's 6 significant digits, as the cast from float4 gives.
    pub fn from_f32(value: f32) -> Numeric {
        Numeric::from_float(f64::from(value), format_args!("{value:.5e}"))
    }

    fn from_float(value: f64, digits: fmt::Arguments<'_>) -> Numeric {
        if value.is_nan() {
            return Numeric::NAN;
        }
        if value.is_infinite() {
            return if value > 0.0 { Numeric::INFINITY } else { Numeric::NEG_INFINITY };
        }
        let text = digits.to_string();
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        Numeric::parse(&format!("{mantissa}e{exponent}")).unwrap_or(Numeric::NAN)
    }

    /// Reads `12.50`, `-1e10`, `NaN`, `Infinity`; blanks around it are skipped. 22P02 for anything else, 22003 beyond the limits.
    pub fn parse(text: &str) -> Result<Numeric> {
        let invalid = || {
            Error::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type numeric: \"{text}\""),
            )
        };
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let bytes = trimmed.as_bytes();
        let (negative, mut at) = match bytes.first() {
            Some(b'-') => (true, 1),
            Some(b'+') => (false, 1),
            _ => (false, 0),
        };
        if !matches!(bytes.get(at), Some(b'0'..=b'9' | b'.')) {
            let word = &trimmed[at..];
            if at == 0 && word.eq_ignore_ascii_case("nan") {
                return Ok(Numeric::NAN);
            }
            if word.eq_ignore_ascii_case("infinity") || word.eq_ignore_ascii_case("inf") {
                return Ok(if negative { Numeric::NEG_INFINITY } else { Numeric::INFINITY });
            }
            return Err(invalid());
        }
        // The digits without the point; the first 38 go straight into a u128.
        let (mut small, mut digits, mut scale, mut point) = (0u128, 0usize, 0i64, false);
        let start = at;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => {
                    if digits < 38 {
                        small = small * 10 + u128::from(byte - b'0');
                    }
                    if digits > 0 || byte != b'0' {
                        digits += 1;
                    }
                    scale += i64::from(point);
                }
                b'.' if !point => point = true,
                _ => break,
            }
            at += 1;
        }
        let mantissa = &trimmed[start..at];
        if mantissa == "." {
            return Err(invalid());
        }
        let mut exponent = 0i64;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let number = &trimmed[at + 1..];
            let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(invalid());
            }
            exponent = number.parse::<i64>().ok().filter(|e| e.abs() < 1 << 30).ok_or_else(overflow)?;
            at = bytes.len();
        }
        if at != bytes.len() {
            return Err(invalid());
        }
        let mut scale = scale - exponent;
        let shift = (-scale).max(0);
        scale = scale.max(0);
        if scale > MAX_SCALE as i64 {
            return Err(overflow());
        }
        if digits == 0 {
            return Ok(Numeric(Repr::Small { coefficient: 0, scale: scale as u16 }));
        }
        if digits as i64 + shift - scale > MAX_WHOLE_DIGITS as i64 {
            return Err(overflow());
        }
        if digits <= 38 && shift < 39 {
            let signed = if negative { -(small as i128) } else { small as i128 };
            if let Some(coefficient) = signed.checked_mul(POW10[shift as usize]) {
                return Ok(Numeric::from_i128(coefficient, scale as u16));
            }
        }
        let plain: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        let mut coefficient = BigInt::parse_bytes(&plain, 10).ok_or_else(invalid)?;
        if shift > 0 {
            coefficient *= pow10(shift as u32);
        }
        if negative {
            coefficient = -coefficient;
        }
        Numeric::from_bigint(coefficient, scale as u16)
    }

    /// Coefficient and scale of a finite value.
    fn big(&self) -> Option<(BigInt, u16)> {
        match &self.0 {
            Repr::Small { coefficient, scale } => Some((BigInt::from(*coefficient), *scale)),
            Repr::Big { coefficient, scale } => Some(((**coefficient).clone(), *scale)),
            _ => None,
        }
    }

    /// Coefficient (of any size, as decimal digits without leading zeros, empty for zero), its sign and the
    /// scale; `None` for NaN and infinities. What keys and the wire form are written from.
    pub(crate) fn decimal_digits(&self) -> Option<(bool, String, u16)> {
        match &self.0 {
            Repr::Small { coefficient: 0, scale } => Some((false, String::new(), *scale)),
            Repr::Small { coefficient, scale } => {
                let mut buffer = itoa::Buffer::new();
                Some((*coefficient < 0, buffer.format(coefficient.unsigned_abs()).to_string(), *scale))
            }
            Repr::Big { coefficient, scale } => {
                Some((coefficient.is_negative(), coefficient.magnitude().to_string(), *scale))
            }
            _ => None,
        }
    }

    /// The coefficient and scale when it is one of the small values: what fast paths look at first.
    #[inline]
    pub fn small(&self) -> Option<(i128, u16)> {
        match self.0 {
            Repr::Small { coefficient, scale } => Some((coefficient, scale)),
            _ => None,
        }
    }

    /// The value as `coefficient * 10^-scale` when that is exact and fits.
    pub fn to_i128(&self, scale: u16) -> Option<i128> {
        let (coefficient, own) = self.small()?;
        if own <= scale {
            return coefficient.checked_mul(pow10_i128(u32::from(scale - own))?);
        }
        let Some(divisor) = pow10_i128(u32::from(own - scale)) else {
            return (coefficient == 0).then_some(0);
        };
        (coefficient % divisor == 0).then_some(coefficient / divisor)
    }

    fn to_integer(&self, name: &str) -> Result<i128> {
        let out_of_range =
            || Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{name} out of range"));
        match self.0 {
            Repr::NaN => {
                Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert NaN to {name}")))
            }
            Repr::Infinity | Repr::NegInfinity => {
                Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("cannot convert infinity to {name}")))
            }
            Repr::Small { coefficient, scale: 0 } => Ok(coefficient),
            _ => self.round(0).small().map(|(value, _)| value).ok_or_else(out_of_range),
        }
    }

    /// Rounded half away from zero; 22003 out of range, 0A000 for NaN and infinities.
    pub fn to_i16(&self) -> Result<i16> {
        self.to_integer("smallint")?
            .try_into()
            .map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "smallint out of range"))
    }

    pub fn to_i32(&self) -> Result<i32> {
        self.to_integer("integer")?
            .try_into()
            .map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range"))
    }

    pub fn to_i64(&self) -> Result<i64> {
        self.to_integer("bigint")?
            .try_into()
            .map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))
    }

    /// The nearest double; values beyond its range become infinite.
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            Repr::NaN => f64::NAN,
            Repr::Infinity => f64::INFINITY,
            Repr::NegInfinity => f64::NEG_INFINITY,
            // Both operands exact, so the one division rounds correctly.
            Repr::Small { coefficient, scale } if *scale <= 22 && coefficient.unsigned_abs() < 1 << 53 => {
                *coefficient as f64 / POW10[usize::from(*scale)] as f64
            }
            _ => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// The nearest single; values beyond its range become infinite.
    pub fn to_f32(&self) -> f32 {
        match &self.0 {
            Repr::NaN => f32::NAN,
            Repr::Infinity => f32::INFINITY,
            Repr::NegInfinity => f32::NEG_INFINITY,
            _ => self.to_string().parse().unwrap_or(f32::NAN),
        }
    }

    /// Digits shown after the point; 0 for NaN and infinities.
    pub fn scale(&self) -> u16 {
        match &self.0 {
            Repr::Small { scale, .. } | Repr::Big { scale, .. } => *scale,
            _ => 0,
        }
    }

    /// Digits after the point that are needed (`min_scale`); `None` for NaN and infinities.
    pub fn min_scale(&self) -> Option<u16> {
        match &self.0 {
            Repr::Small { .. } | Repr::Big { .. } => Some(self.trim_scale().scale()),
            _ => None,
        }
    }

    /// Without trailing zeros after the point.
    pub fn trim_scale(&self) -> Numeric {
        match &self.0 {
            Repr::Small { coefficient: 0, .. } => Numeric::ZERO,
            Repr::Small { coefficient, scale } => {
                let (mut coefficient, mut scale) = (*coefficient, *scale);
                while scale > 0 && coefficient % 10 == 0 {
                    coefficient /= 10;
                    scale -= 1;
                }
                Numeric(Repr::Small { coefficient, scale })
            }
            Repr::Big { coefficient, scale } => {
                let digits = coefficient.magnitude().to_string();
                let zeros = digits.len() - digits.trim_end_matches('0').len();
                let drop = zeros.min(usize::from(*scale)) as u32;
                let coefficient = &**coefficient / pow10(drop);
                Numeric::from_bigint(coefficient, scale - drop as u16).unwrap_or(Numeric::NAN)
            }
            _ => self.clone(),
        }
    }

    pub fn is_nan(&self) -> bool {
        matches!(self.0, Repr::NaN)
    }

    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinity | Repr::NegInfinity)
    }

    pub fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Small { .. } | Repr::Big { .. })
    }

    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Small { coefficient: 0, .. })
    }

    /// Whether the value has no fraction (whatever it shows).
    pub fn is_integer(&self) -> bool {
        self.min_scale() == Some(0)
    }

    /// -1, 0 or 1; NaN gives 0.
    pub fn signum(&self) -> i32 {
        match &self.0 {
            Repr::Small { coefficient, .. } => coefficient.signum() as i32,
            Repr::Big { coefficient, .. } => {
                if coefficient.is_negative() {
                    -1
                } else {
                    1
                }
            }
            Repr::NaN => 0,
            Repr::Infinity => 1,
            Repr::NegInfinity => -1,
        }
    }

    /// Infinities and NaN as a float, for the rules of special values; finite values as 0 or their sign.
    fn class(&self) -> f64 {
        match &self.0 {
            Repr::NaN => f64::NAN,
            Repr::Infinity => f64::INFINITY,
            Repr::NegInfinity => f64::NEG_INFINITY,
            _ => f64::from(self.signum()),
        }
    }

    fn of_special(value: f64) -> Numeric {
        if value.is_nan() {
            Numeric::NAN
        } else if value > 0.0 {
            Numeric::INFINITY
        } else {
            Numeric::NEG_INFINITY
        }
    }

    #[inline]
    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, a_scale)), Some((b, b_scale))) = (self.small(), other.small())
            && let Some((a, b, scale)) = align(a, a_scale, b, b_scale)
            && let Some(sum) = a.checked_add(b)
        {
            return Ok(Numeric::from_i128(sum, scale));
        }
        self.add_big(other, false)
    }

    #[inline]
    pub fn sub(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, a_scale)), Some((b, b_scale))) = (self.small(), other.small())
            && let Some((a, b, scale)) = align(a, a_scale, b, b_scale)
            && let Some(difference) = a.checked_sub(b)
        {
            return Ok(Numeric::from_i128(difference, scale));
        }
        self.add_big(other, true)
    }

    #[cold]
    fn add_big(&self, other: &Numeric, negate: bool) -> Result<Numeric> {
        let (Some((a, a_scale)), Some((b, b_scale))) = (self.big(), other.big()) else {
            let b = if negate { -other.class() } else { other.class() };
            return Ok(Numeric::of_special(self.class() + b));
        };
        let scale = a_scale.max(b_scale);
        let a = a * pow10(u32::from(scale - a_scale));
        let b = b * pow10(u32::from(scale - b_scale));
        Numeric::from_bigint(if negate { a - b } else { a + b }, scale)
    }

    #[inline]
    pub fn mul(&self, other: &Numeric) -> Result<Numeric> {
        if let (Some((a, a_scale)), Some((b, b_scale))) = (self.small(), other.small())
            && let Some(product) = a.checked_mul(b)
            && usize::from(a_scale) + usize::from(b_scale) <= MAX_SCALE
        {
            return Ok(Numeric::from_i128(product, a_scale + b_scale));
        }
        let (Some((a, a_scale)), Some((b, b_scale))) = (self.big(), other.big()) else {
            return Ok(Numeric::of_special(self.class() * other.class()));
        };
        let scale = usize::from(a_scale) + usize::from(b_scale);
        let product = a * b;
        if scale > MAX_SCALE {
            let product = div_round(&product, &pow10((scale - MAX_SCALE) as u32));
            return Numeric::from_bigint(product, MAX_SCALE as u16);
        }
        Numeric::from_bigint(product, scale as u16)
    }

    /// Weight of the first base-10,000 digit and that digit; zero is (0, 0).
    fn leading(&self) -> (i32, i32) {
        let (digits, scale) = match &self.0 {
            Repr::Small { coefficient, scale } => (digit_count_i128(*coefficient), *scale),
            Repr::Big { coefficient, scale } => (digit_count(coefficient), *scale),
            _ => return (0, 0),
        };
        if digits == 0 {
            return (0, 0);
        }
        let top = digits as i32 - 1 - i32::from(scale);
        let weight = top.div_euclid(4);
        let wanted = (top - weight * 4 + 1) as usize;
        let first = match &self.0 {
            Repr::Small { coefficient, .. } if digits >= wanted => {
                (coefficient.unsigned_abs() / POW10[digits - wanted].unsigned_abs()) as i32
            }
            Repr::Small { coefficient, .. } => {
                (coefficient.unsigned_abs() * POW10[wanted - digits].unsigned_abs()) as i32
            }
            Repr::Big { coefficient, .. } => {
                (coefficient.abs() / pow10((digits - wanted) as u32)).to_i32().unwrap_or(0)
            }
            _ => 0,
        };
        (weight, first)
    }

    /// PostgreSQL's scale of a quotient: 16 significant digits, and no fewer than either operand shows.
    fn div_scale(&self, other: &Numeric) -> u16 {
        let (weight1, first1) = self.leading();
        let (weight2, first2) = other.leading();
        let weight = weight1 - weight2 - i32::from(first1 <= first2);
        (MIN_SIGNIFICANT_DIGITS - weight * 4)
            .max(i32::from(self.scale()))
            .max(i32::from(other.scale()))
            .clamp(0, MAX_DISPLAY_SCALE) as u16
    }

    /// 22012 for a zero divisor.
    pub fn div(&self, other: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !other.is_finite() {
            if self.is_nan() || other.is_nan() {
                return Ok(Numeric::NAN);
            }
            return match (self.is_infinite(), other.is_infinite()) {
                (true, true) => Ok(Numeric::NAN),
                (true, false) if other.is_zero() => Err(division_by_zero()),
                (true, false) => Ok(Numeric::of_special(self.class() * other.class())),
                _ => Ok(Numeric::ZERO),
            };
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        self.div_at(other, i32::from(self.div_scale(other)), Rounding::HalfAway)
    }

    /// The quotient of finite values at a given scale.
    fn div_at(&self, other: &Numeric, scale: i32, mode: Rounding) -> Result<Numeric> {
        let shift = scale + i32::from(other.scale()) - i32::from(self.scale());
        if mode == Rounding::HalfAway
            && shift >= 0
            && let (Some((a, _)), Some((b, _))) = (self.small(), other.small())
            && let Some(power) = pow10_i128(shift as u32)
            && let Some(dividend) = a.checked_mul(power)
        {
            return Ok(Numeric::from_i128(div_round_i128(dividend, b), scale as u16));
        }
        let (Some((a, _)), Some((b, _))) = (self.big(), other.big()) else { return Ok(Numeric::NAN) };
        let quotient = if shift >= 0 {
            div_mode(&(a * pow10(shift as u32)), &b, mode)
        } else {
            div_mode(&a, &(b * pow10(shift.unsigned_abs())), mode)
        };
        Numeric::from_bigint(quotient, scale as u16)
    }

    /// `div(a, b)`: the quotient truncated to an integer.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !other.is_finite() {
            return self.div(other);
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        self.div_at(other, 0, Rounding::Truncate)
    }

    /// The remainder of truncated division: the sign is the dividend's.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric> {
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.is_infinite() {
            return if other.is_zero() { Err(division_by_zero()) } else { Ok(Numeric::NAN) };
        }
        if other.is_infinite() {
            return Ok(self.clone());
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        if let (Some((a, a_scale)), Some((b, b_scale))) = (self.small(), other.small())
            && let Some((a, b, scale)) = align(a, a_scale, b, b_scale)
        {
            return Ok(Numeric::from_i128(a % b, scale));
        }
        let (Some((a, a_scale)), Some((b, b_scale))) = (self.big(), other.big()) else {
            return Ok(Numeric::NAN);
        };
        let scale = a_scale.max(b_scale);
        let a = a * pow10(u32::from(scale - a_scale));
        let b = b * pow10(u32::from(scale - b_scale));
        Numeric::from_bigint(a % b, scale)
    }

    pub fn neg(&self) -> Numeric {
        match &self.0 {
            Repr::Small { coefficient, scale } => {
                Numeric(Repr::Small { coefficient: -coefficient, scale: *scale })
            }
            Repr::Big { coefficient, scale } => {
                Numeric(Repr::Big { coefficient: Box::new(-(**coefficient).clone()), scale: *scale })
            }
            Repr::NaN => Numeric::NAN,
            Repr::Infinity => Numeric::NEG_INFINITY,
            Repr::NegInfinity => Numeric::INFINITY,
        }
    }

    pub fn abs(&self) -> Numeric {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// At `scale` digits after the point, rounded half away from zero; negative scales round before the point.
    pub fn round(&self, scale: i32) -> Numeric {
        self.rescale(scale.clamp(-MAX_RESULT_SCALE, MAX_RESULT_SCALE), Rounding::HalfAway)
    }

    pub fn trunc(&self, scale: i32) -> Numeric {
        self.rescale(scale.clamp(-MAX_RESULT_SCALE, MAX_RESULT_SCALE), Rounding::Truncate)
    }

    /// Exactly `scale` digits after the point, cut or filled with zeros, without the clamp of [`Numeric::trunc`].
    pub(crate) fn cut(&self, scale: u16) -> Numeric {
        self.rescale(i32::from(scale), Rounding::Truncate)
    }

    pub fn ceil(&self) -> Numeric {
        self.rescale(0, Rounding::Ceil)
    }

    pub fn floor(&self) -> Numeric {
        self.rescale(0, Rounding::Floor)
    }

    fn rescale(&self, scale: i32, mode: Rounding) -> Numeric {
        if !self.is_finite() {
            return self.clone();
        }
        let own = i32::from(self.scale());
        let shown = scale.max(0) as u16;
        if own == scale {
            return self.clone();
        }
        if scale > own {
            let grow = (scale - own) as u32;
            if let Some((coefficient, _)) = self.small()
                && let Some(power) = pow10_i128(grow)
                && let Some(coefficient) = coefficient.checked_mul(power)
            {
                return Numeric::from_i128(coefficient, shown);
            }
            let Some((coefficient, _)) = self.big() else { return self.clone() };
            return Numeric::from_bigint(coefficient * pow10(grow), shown).unwrap_or_else(|_| self.clone());
        }
        let drop = (own - scale) as u32;
        let restore = scale.min(0).unsigned_abs();
        if let Some((coefficient, _)) = self.small() {
            let Some(power) = pow10_i128(drop) else {
                // Fewer digits than are dropped: only the direction of rounding is left.
                let unit = match mode {
                    Rounding::Ceil if coefficient > 0 => 1,
                    Rounding::Floor if coefficient < 0 => -1,
                    // 10^38 < i128::MAX < 5 * 10^38: no 39th digit can be rounded up to.
                    _ => 0,
                };
                return Numeric::from_i128(unit, shown);
            };
            let quotient = match mode {
                Rounding::HalfAway => div_round_i128(coefficient, power),
                Rounding::Truncate => coefficient / power,
                Rounding::Ceil => Integer::div_ceil(&coefficient, &power),
                Rounding::Floor => Integer::div_floor(&coefficient, &power),
            };
            if let Some(power) = pow10_i128(restore)
                && let Some(coefficient) = quotient.checked_mul(power)
            {
                return Numeric::from_i128(coefficient, shown);
            }
        }
        let Some((coefficient, _)) = self.big() else { return self.clone() };
        let quotient = div_mode(&coefficient, &pow10(drop), mode) * pow10(restore);
        Numeric::from_bigint(quotient, shown).unwrap_or_else(|_| self.clone())
    }

    /// Both on one scale, for gcd and lcm.
    fn aligned_big(&self, other: &Numeric) -> Option<(BigInt, BigInt, u16)> {
        let ((a, a_scale), (b, b_scale)) = (self.big()?, other.big()?);
        let scale = a_scale.max(b_scale);
        Some((a * pow10(u32::from(scale - a_scale)), b * pow10(u32::from(scale - b_scale)), scale))
    }

    pub fn gcd(&self, other: &Numeric) -> Result<Numeric> {
        match self.aligned_big(other) {
            Some((a, b, scale)) => Numeric::from_bigint(a.gcd(&b), scale),
            None => Ok(Numeric::NAN),
        }
    }

    pub fn lcm(&self, other: &Numeric) -> Result<Numeric> {
        match self.aligned_big(other) {
            Some((a, b, scale)) => Numeric::from_bigint(a.lcm(&b).abs(), scale),
            None => Ok(Numeric::NAN),
        }
    }

    /// 22003 for negative or too large arguments.
    pub fn factorial(n: i64) -> Result<Numeric> {
        if n < 0 {
            return Err(Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "factorial of a negative number is undefined",
            ));
        }
        if n > 32_177 {
            return Err(overflow());
        }
        let mut product = BigInt::from(1);
        for factor in 2..=n {
            product *= factor;
        }
        Numeric::from_bigint(product, 0)
    }

    /// Rounds to the scale of `numeric(p, s)` and checks the precision; 22003 `numeric field overflow`.
    pub fn apply_typmod(&self, typmod: i32) -> Result<Numeric> {
        let Some((precision, scale)) = numeric_precision_scale(typmod) else { return Ok(self.clone()) };
        let field_overflow = |detail: String| {
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(detail)
        };
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.is_infinite() {
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} cannot hold an infinite value."
            )));
        }
        let rounded = self.rescale(scale, Rounding::HalfAway);
        let digits = match &rounded.0 {
            Repr::Small { coefficient, .. } => digit_count_i128(*coefficient),
            Repr::Big { coefficient, .. } => digit_count(coefficient),
            _ => 0,
        };
        let whole = digits as i32 - i32::from(rounded.scale());
        if !rounded.is_zero() && whole > precision - scale {
            let limit = precision - scale;
            let limit = if limit == 0 { "1".to_string() } else { format!("10^{limit}") };
            return Err(field_overflow(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value less than {limit}."
            )));
        }
        Ok(rounded)
    }

    /// Appends the text form.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (negative, scale) = match &self.0 {
            Repr::NaN => return out.extend_from_slice(b"NaN"),
            Repr::Infinity => return out.extend_from_slice(b"Infinity"),
            Repr::NegInfinity => return out.extend_from_slice(b"-Infinity"),
            Repr::Small { coefficient, scale } => (*coefficient < 0, usize::from(*scale)),
            Repr::Big { coefficient, scale } => (coefficient.is_negative(), usize::from(*scale)),
        };
        if negative {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let long;
        let digits = match &self.0 {
            Repr::Big { coefficient, .. } => {
                long = coefficient.magnitude().to_string();
                long.as_str()
            }
            Repr::Small { coefficient, .. } => buffer.format(coefficient.unsigned_abs()),
            _ => "0",
        };
        if scale == 0 {
            return out.extend_from_slice(digits.as_bytes());
        }
        match digits.len().checked_sub(scale) {
            Some(whole) if whole > 0 => {
                out.extend_from_slice(&digits.as_bytes()[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits.as_bytes()[whole..]);
            }
            _ => {
                out.extend_from_slice(b"0.");
                out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
                out.extend_from_slice(digits.as_bytes());
            }
        }
    }

    /// The exponent of the first decimal digit (0 for 1..9), `None` for zero and special values.
    fn top_digit(&self) -> Option<i32> {
        let digits = match &self.0 {
            Repr::Small { coefficient, .. } => digit_count_i128(*coefficient),
            Repr::Big { coefficient, .. } => digit_count(coefficient),
            _ => 0,
        };
        (digits > 0).then(|| digits as i32 - 1 - i32::from(self.scale()))
    }

    fn compare_finite(&self, other: &Numeric) -> Ordering {
        let sign = self.signum();
        let order = sign.cmp(&other.signum());
        if order != Ordering::Equal || sign == 0 {
            return order;
        }
        if let (Some((a, a_scale)), Some((b, b_scale))) = (self.small(), other.small())
            && let Some((a, b, _)) = align(a, a_scale, b, b_scale)
        {
            return a.cmp(&b);
        }
        let order = self.top_digit().cmp(&other.top_digit());
        let order = if sign < 0 { order.reverse() } else { order };
        if order != Ordering::Equal {
            return order;
        }
        match self.aligned_big(other) {
            Some((a, b, _)) => a.cmp(&b),
            None => Ordering::Equal,
        }
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Repr::NegInfinity => 0,
            Repr::Small { .. } | Repr::Big { .. } => 1,
            Repr::Infinity => 2,
            Repr::NaN => 3,
        }
    }
}

/// Both coefficients on the larger of the two scales, `None` when that overflows.
#[inline]
fn align(a: i128, a_scale: u16, b: i128, b_scale: u16) -> Option<(i128, i128, u16)> {
    match a_scale.cmp(&b_scale) {
        Ordering::Equal => Some((a, b, a_scale)),
        Ordering::Less => Some((a.checked_mul(pow10_i128(u32::from(b_scale - a_scale))?)?, b, b_scale)),
        Ordering::Greater => Some((a, b.checked_mul(pow10_i128(u32::from(a_scale - b_scale))?)?, a_scale)),
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(40);
        self.write(&mut out);
        f.pad(std::str::from_utf8(&out).map_err(|_| fmt::Error)?)
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Numeric {
        Numeric::from_i64(value)
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Numeric {}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Numeric) -> Ordering {
        if let (Repr::Small { coefficient: a, scale: s }, Repr::Small { coefficient: b, scale: t }) =
            (&self.0, &other.0)
            && s == t
        {
            return a.cmp(b);
        }
        match (self.is_finite(), other.is_finite()) {
            (true, true) => self.compare_finite(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal values have the same coefficient once all trailing zeros (before the point too) are gone.
        match &self.0 {
            Repr::Small { coefficient: 0, .. } => state.write_u8(1),
            Repr::Small { coefficient, scale } => {
                let (mut coefficient, mut scale) = (*coefficient, i32::from(*scale));
                while coefficient % 10 == 0 {
                    coefficient /= 10;
                    scale -= 1;
                }
                state.write_i128(coefficient);
                state.write_i32(scale);
            }
            Repr::Big { coefficient, scale } => {
                let digits = coefficient.magnitude().to_string();
                let kept = digits.trim_end_matches('0');
                let scale = i32::from(*scale) - (digits.len() - kept.len()) as i32;
                match kept.parse::<i128>() {
                    Ok(small) => state.write_i128(if coefficient.is_negative() { -small } else { small }),
                    Err(_) => {
                        state.write_u8(u8::from(coefficient.is_negative()));
                        state.write(kept.as_bytes());
                    }
                }
                state.write_i32(scale);
            }
            _ => state.write_u8(2 + self.rank()),
        }
    }
}

#[cfg(test)]
mod tests;
