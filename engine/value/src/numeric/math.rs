//! Square root, exponential, logarithms, powers: computed in fixed point on big integers with guard digits, then
//! rounded to the scale PostgreSQL 15 chooses for the result.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::{
    MAX_DISPLAY_SCALE, MAX_RESULT_SCALE, MIN_SIGNIFICANT_DIGITS, Numeric, Rounding, digit_count, div_round,
    overflow, pow10,
};
use crate::{Error, Result, SqlState};

/// log10(e)
const LOG10_E: f64 = std::f64::consts::LOG10_E;

/// A finite number as `mantissa * 10^-digits` for one calculation.
fn fixed(value: &Numeric, digits: u32) -> BigInt {
    let Some((coefficient, scale)) = value.big() else { return BigInt::zero() };
    let scale = u32::from(scale);
    if digits >= scale {
        coefficient * pow10(digits - scale)
    } else {
        div_round(&coefficient, &pow10(scale - digits))
    }
}

fn to_numeric(value: &BigInt, digits: u32, scale: u32) -> Result<Numeric> {
    let coefficient = if digits >= scale {
        div_round(value, &pow10(digits - scale))
    } else {
        value * pow10(scale - digits)
    };
    Numeric::from_bigint(coefficient, scale as u16)
}

/// e^x in fixed point; the argument is halved until a short Taylor series does.
fn exp_fixed(x: &BigInt, digits: u32) -> BigInt {
    let whole_bits = x.bits() as i64 - pow10(digits).bits() as i64;
    let halvings = (whole_bits + 8).max(0) as u32;
    // Every squaring doubles the relative error: as many guard bits as halvings, and some for the series; the
    // size of the result itself (e^x has about x/2.3 whole digits) costs absolute digits.
    let whole = (x / pow10(digits)).to_f64().unwrap_or(0.0);
    let result_digits = (whole * LOG10_E).max(0.0) as u32;
    let guard = halvings / 3 + result_digits + 10;
    let work = digits + guard;
    let one = pow10(work);
    let reduced = (x * pow10(guard)) >> halvings;
    let mut term = one.clone();
    let mut sum = one.clone();
    let mut n = 1u32;
    while !term.is_zero() {
        term = &term * &reduced / (&one * n);
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    div_round(&sum, &pow10(guard))
}

/// ln x in fixed point (x > 0): square roots until x is near 1, then the series of the area tangent.
fn ln_fixed(value: &Numeric, digits: u32) -> BigInt {
    let top = value.top_digit().unwrap_or(0);
    // Tiny arguments need their digits before they can be brought near 1: scale them by a power of ten.
    let guard = 24 + top.unsigned_abs().checked_ilog10().unwrap_or(0);
    let work = digits + guard;
    let one = pow10(work);
    let Some((coefficient, scale)) = value.big() else { return BigInt::zero() };
    // m in [1, 10): value = m * 10^top
    let shift = i64::from(work) - i64::from(scale) - i64::from(top);
    let mantissa = if shift >= 0 {
        coefficient * pow10(shift as u32)
    } else {
        div_round(&coefficient, &pow10(shift.unsigned_abs() as u32))
    };
    let mut result = ln_near(&mantissa, &one, work);
    if top != 0 {
        let ten = &one * 10;
        result += ln_near(&ten, &one, work) * top;
    }
    div_round(&result, &pow10(guard))
}

fn ln_near(x: &BigInt, one: &BigInt, work: u32) -> BigInt {
    // A few more digits inside: every square root costs a bit that doubling later brings back.
    let extra = pow10(16);
    let (one, mut x) = (one * &extra, x * &extra);
    let limit = pow10(work + 16 - 2);
    let mut doublings = 1u32;
    while (&x - &one).abs() > limit {
        x = (&x * &one).sqrt();
        doublings += 1;
    }
    let z = (&x - &one) * &one / (&x + &one);
    let square = &z * &z / &one;
    let (mut power, mut sum, mut n) = (z.clone(), z, 3u32);
    while !power.is_zero() {
        power = &power * &square / &one;
        sum += &power / n;
        n += 2;
    }
    div_round(&(sum << doublings), &extra)
}

fn logarithm_error(message: &str) -> Error {
    Error::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message)
}

fn power_error(message: &str) -> Error {
    Error::new(SqlState::INVALID_ARGUMENT_FOR_POWER, message)
}

impl Numeric {
    /// Estimate of the decimal weight of ln(self), PostgreSQL's way (it decides result scales).
    fn ln_weight(&self) -> i32 {
        let near = |text: i128| Numeric::from_i128(text, 1);
        if *self >= near(9) && *self <= near(11) {
            let Ok(difference) = self.sub(&Numeric::ONE) else { return 0 };
            return difference.top_digit().unwrap_or(0);
        }
        let Some((coefficient, scale)) = self.big() else { return 0 };
        let digits = digit_count(&coefficient) as i32;
        if digits == 0 {
            return 0;
        }
        let keep = digits.min(15);
        let lead = (coefficient.abs() / pow10((digits - keep) as u32)).to_f64().unwrap_or(1.0);
        let ln = lead.ln() + f64::from(digits - keep - i32::from(scale)) * std::f64::consts::LN_10;
        ln.abs().log10() as i32
    }

    fn check_logarithm(&self) -> Result<()> {
        match self.signum() {
            -1 => Err(logarithm_error("cannot take logarithm of a negative number")),
            0 => Err(logarithm_error("cannot take logarithm of zero")),
            _ => Ok(()),
        }
    }

    /// 2201F for negative values.
    pub fn sqrt(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.signum() < 0 {
            return Err(power_error("cannot take square root of a negative number"));
        }
        if self.is_infinite() {
            return Ok(Numeric::INFINITY);
        }
        let weight = (self.leading().0 + 1) * 4 / 2 - 1;
        let scale =
            (MIN_SIGNIFICANT_DIGITS - weight).max(i32::from(self.scale())).clamp(0, MAX_DISPLAY_SCALE);
        // One digit more than shown, cut; its rounding is the rounding of the exact root.
        let digits = scale as u32 + 1;
        let Some((coefficient, own)) = self.big() else { return Ok(Numeric::NAN) };
        let shift = 2 * i64::from(digits) - i64::from(own);
        let radicand = if shift >= 0 {
            coefficient * pow10(shift as u32)
        } else {
            coefficient / pow10(shift.unsigned_abs() as u32)
        };
        to_numeric(&radicand.sqrt(), digits, scale as u32)
    }

    pub fn exp(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        if self.is_infinite() {
            return Ok(if self.signum() > 0 { Numeric::INFINITY } else { Numeric::ZERO });
        }
        let weight =
            (self.to_f64() * LOG10_E).clamp(-f64::from(MAX_RESULT_SCALE), f64::from(MAX_RESULT_SCALE));
        let scale =
            (MIN_SIGNIFICANT_DIGITS - weight as i32).max(i32::from(self.scale())).clamp(0, MAX_DISPLAY_SCALE);
        self.exp_at(scale)
    }

    fn exp_at(&self, scale: i32) -> Result<Numeric> {
        let size = self.to_f64();
        // Results beyond 6,000 / ln(10) digits overflow in PostgreSQL, and vanish on the other side.
        if size >= f64::from(MAX_RESULT_SCALE) * 3.0 {
            return Err(overflow());
        }
        if size <= -f64::from(MAX_RESULT_SCALE) * 3.0 {
            return Ok(Numeric::from_i128(0, scale as u16));
        }
        let digits = scale as u32 + 8;
        to_numeric(&exp_fixed(&fixed(self, digits + 8), digits + 8), digits + 8, scale as u32)
    }

    /// 2201E for zero and negative values.
    pub fn ln(&self) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(Numeric::NAN);
        }
        self.check_logarithm()?;
        if self.is_infinite() {
            return Ok(Numeric::INFINITY);
        }
        let scale = (MIN_SIGNIFICANT_DIGITS - self.ln_weight())
            .max(i32::from(self.scale()))
            .clamp(0, MAX_DISPLAY_SCALE);
        let digits = scale as u32 + 8;
        to_numeric(&ln_fixed(self, digits), digits, scale as u32)
    }

    /// `log(x)`: base 10.
    pub fn log10(&self) -> Result<Numeric> {
        self.log(&Numeric::from_i64(10))
    }

    /// `log(base, x)` with `self` as x.
    pub fn log(&self, base: &Numeric) -> Result<Numeric> {
        if self.is_nan() || base.is_nan() {
            return Ok(Numeric::NAN);
        }
        base.check_logarithm()?;
        self.check_logarithm()?;
        match (base.is_infinite(), self.is_infinite()) {
            (true, true) => return Ok(Numeric::NAN),
            (true, false) => return Ok(Numeric::ZERO),
            (false, true) => return Ok(Numeric::INFINITY),
            _ => {}
        }
        let weight = self.ln_weight() - base.ln_weight();
        let scale = (MIN_SIGNIFICANT_DIGITS - weight)
            .max(i32::from(self.scale()))
            .max(i32::from(base.scale()))
            .clamp(0, MAX_DISPLAY_SCALE);
        let digits = (scale + self.ln_weight().abs().max(base.ln_weight().abs()) * 2) as u32 + 16;
        let divisor = ln_fixed(base, digits);
        if divisor.is_zero() {
            return Err(super::division_by_zero());
        }
        let quotient = div_round(&(ln_fixed(self, digits) * pow10(scale as u32)), &divisor);
        Numeric::from_bigint(quotient, scale as u16)
    }

    /// 2201F for a negative base with a fractional exponent and for 0 to a negative power.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !exponent.is_finite() {
            return self.power_special(exponent);
        }
        if self.is_zero() && exponent.signum() < 0 {
            return Err(power_error("zero raised to a negative power is undefined"));
        }
        let whole = exponent.is_integer();
        if self.signum() < 0 && !whole {
            return Err(power_error(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if whole && let Some(n) = exponent.round(0).to_i64().ok().and_then(|n| i32::try_from(n).ok()) {
            let scale = MIN_SIGNIFICANT_DIGITS.max(i32::from(self.scale())).clamp(0, MAX_DISPLAY_SCALE);
            return self.power_int(n, scale);
        }
        if self.is_zero() {
            return Ok(Numeric::from_i128(0, MIN_SIGNIFICANT_DIGITS as u16));
        }
        let odd = exponent.rem(&Numeric::from_i64(2))?.signum() != 0;
        let negative = self.signum() < 0 && odd;
        let base = self.abs();
        let weight = base.ln_weight();
        let rough = to_numeric(&ln_fixed(&base, 24), 24, 24)?.to_f64();
        let ln = if rough == 0.0 { 0.0 } else { rough * exponent.to_f64() };
        if ln.abs() > f64::from(MAX_RESULT_SCALE) * 3.01 {
            if ln > 0.0 {
                return Err(overflow());
            }
            return Ok(Numeric::from_i128(0, MAX_DISPLAY_SCALE as u16));
        }
        let result_weight = (ln * LOG10_E) as i32;
        let scale = (MIN_SIGNIFICANT_DIGITS - result_weight)
            .max(i32::from(self.scale()))
            .max(i32::from(exponent.scale()))
            .clamp(0, MAX_DISPLAY_SCALE);
        let exponent_digits = exponent.top_digit().unwrap_or(0).max(0);
        let digits = (scale + result_weight.max(0) + weight.abs() + exponent_digits) as u32 + 16;
        let product = Numeric::from_bigint(ln_fixed(&base, digits), digits as u16)?.mul(exponent)?;
        let result = product.exp_at(scale)?;
        Ok(if negative { result.neg() } else { result })
    }

    fn power_int(&self, exponent: i32, scale: i32) -> Result<Numeric> {
        if exponent == 0 {
            return Ok(Numeric::ONE.rescale(scale, Rounding::HalfAway));
        }
        if self.is_zero() {
            return Ok(Numeric::ZERO.rescale(scale, Rounding::HalfAway));
        }
        // The decimal weight of the result from the logarithm of the first digits.
        let ln = |value: &Numeric| -> f64 {
            let Some((coefficient, own)) = value.big() else { return 0.0 };
            let digits = digit_count(&coefficient) as i32;
            let keep = digits.min(15);
            let lead = (coefficient.abs() / pow10((digits - keep) as u32)).to_f64().unwrap_or(1.0);
            lead.log10() + f64::from(digits - keep - i32::from(own))
        };
        let weight = ln(self) * f64::from(exponent);
        if weight > super::MAX_WHOLE_DIGITS as f64 {
            return Err(overflow());
        }
        if weight + 1.0 < -f64::from(scale) {
            return Ok(Numeric::from_i128(0, scale as u16));
        }
        let times = exponent.unsigned_abs();
        // Binary powers in floating decimal: only as many digits are kept as the rounded result can show.
        let keep = (weight.max(0.0) as usize) + scale as usize + 2 * times.ilog2() as usize + 24;
        let Some((coefficient, own)) = self.trim_scale().big() else { return Ok(Numeric::NAN) };
        let mut square = (coefficient, i64::from(own));
        let mut result = (BigInt::one(), 0i64);
        let cut = |value: (BigInt, i64)| -> (BigInt, i64) {
            let digits = digit_count(&value.0);
            if digits > keep {
                let drop = (digits - keep) as u32;
                return (div_round(&value.0, &pow10(drop)), value.1 - i64::from(drop));
            }
            value
        };
        let mut left = times;
        loop {
            if left & 1 == 1 {
                result = cut((&result.0 * &square.0, result.1 + square.1));
            }
            left >>= 1;
            if left == 0 {
                break;
            }
            square = cut((&square.0 * &square.0, square.1 * 2));
        }
        let (coefficient, own) = result;
        let scale_wide = i64::from(scale);
        let value = if exponent > 0 {
            let shift = scale_wide - own;
            if shift >= 0 {
                coefficient * pow10(shift as u32)
            } else {
                div_round(&coefficient, &pow10(shift.unsigned_abs() as u32))
            }
        } else {
            // 1 / (c * 10^-own) at the wanted scale is 10^(scale + own) / c.
            let shift = scale_wide + own;
            if shift < 0 {
                div_round(&BigInt::one(), &(coefficient * pow10(shift.unsigned_abs() as u32)))
            } else {
                div_round(&pow10(shift as u32), &coefficient)
            }
        };
        Numeric::from_bigint(value, scale as u16)
    }

    /// IEEE's table for NaN and infinities, as PostgreSQL applies it.
    fn power_special(&self, exponent: &Numeric) -> Result<Numeric> {
        if self.is_nan() {
            return Ok(if exponent.is_zero() { Numeric::ONE } else { Numeric::NAN });
        }
        if exponent.is_nan() {
            return Ok(if *self == Numeric::ONE { Numeric::ONE } else { Numeric::NAN });
        }
        if exponent.is_infinite() {
            let size = self.abs().cmp(&Numeric::ONE);
            if self.is_zero() && exponent.signum() < 0 {
                return Err(power_error("zero raised to a negative power is undefined"));
            }
            return Ok(match (size.is_eq(), size.is_gt() == (exponent.signum() > 0)) {
                (true, _) => Numeric::ONE,
                (false, true) => Numeric::INFINITY,
                (false, false) => Numeric::ZERO,
            });
        }
        if exponent.is_zero() {
            return Ok(Numeric::ONE);
        }
        if self.signum() > 0 {
            return Ok(if exponent.signum() > 0 { Numeric::INFINITY } else { Numeric::ZERO });
        }
        if !exponent.is_integer() {
            return Err(power_error(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if exponent.signum() < 0 {
            return Ok(Numeric::ZERO);
        }
        let odd = exponent.rem(&Numeric::from_i64(2))?.signum() != 0;
        Ok(if odd { Numeric::NEG_INFINITY } else { Numeric::INFINITY })
    }
}
