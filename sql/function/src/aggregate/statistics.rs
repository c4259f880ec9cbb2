//! Variances, correlation and regression.
//!
//! Integers and numerics keep exact sums of the values and of their squares. Floats use the recurrence of Youngs and
//! Cramer (1971), "Some results relevant to choice of sum and sum-of-product algorithms", which does not cancel.

use std::sync::Arc;

use value::types::oid::*;
use value::{Datum, Error, Numeric, Result, SqlState};

use super::basic::{NumericTotal, integer};
use super::{Reader, Writer, a};
use crate::declare::mismatch;
use crate::{Accumulator, Aggregate};

#[derive(Clone, Copy)]
struct Spread {
    sample: bool,
    root: bool,
}

const VAR_POP: Spread = Spread { sample: false, root: false };
const VAR_SAMP: Spread = Spread { sample: true, root: false };
const STDDEV_POP: Spread = Spread { sample: false, root: true };
const STDDEV_SAMP: Spread = Spread { sample: true, root: true };

struct ExactSpread {
    sum: NumericTotal,
    squares: NumericTotal,
    spread: Spread,
}

fn exact(spread: Spread) -> Box<dyn Accumulator> {
    Box::new(ExactSpread { sum: NumericTotal::default(), squares: NumericTotal::default(), spread })
}

fn numeric_of(args: &[Datum]) -> Result<Numeric> {
    match args {
        [Datum::Numeric(value)] => Ok((**value).clone()),
        _ => integer(args).map(Numeric::from_i64),
    }
}

impl Accumulator for ExactSpread {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let value = numeric_of(args)?;
        self.squares.add(&value.mul(&value)?)?;
        self.sum.add(&value)
    }

    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        let value = numeric_of(args)?;
        // Only the sum decides whether digits would be forgotten: the squares then have twice as many.
        let before = self.sum.clone();
        if !self.sum.remove(&value)? {
            return Ok(false);
        }
        if !self.squares.remove(&value.mul(&value)?)? {
            self.sum = before;
            return Ok(false);
        }
        Ok(true)
    }

    fn state(&self) -> Result<Vec<u8>> {
        self.squares.write(self.sum.write(Writer::default())).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        self.sum.read(&mut reader)?;
        self.squares.read(&mut reader)
    }

    fn finish(&mut self) -> Result<Datum> {
        let count = self.sum.count;
        if count == 0 || (self.spread.sample && count == 1) {
            return Ok(Datum::Null);
        }
        if self.sum.special().is_some() {
            return Ok(Datum::Numeric(Arc::new(Numeric::NAN)));
        }
        let n = Numeric::from_i64(count);
        let sum = self.sum.total()?;
        let numerator = self.squares.total()?.mul(&n)?.sub(&sum.mul(&sum)?)?;
        if numerator.signum() <= 0 {
            return Ok(Datum::Numeric(Arc::new(Numeric::ZERO)));
        }
        let divisor = if self.spread.sample { n.mul(&Numeric::from_i64(count - 1))? } else { n.mul(&n)? };
        let variance = numerator.div(&divisor)?;
        let value = if self.spread.root { root(&variance)? } else { variance };
        Ok(Datum::Numeric(Arc::new(value)))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.sum, self.squares) = (NumericTotal::default(), NumericTotal::default());
    }
}

/// The square root with as many digits as the variance has.
fn root(variance: &Numeric) -> Result<Numeric> {
    let scale = i32::from(variance.scale());
    // More digits behind the point make sqrt keep at least as many.
    let zeros = Numeric::from_i128(0, u16::try_from(scale + 2).unwrap_or(u16::MAX));
    Ok(variance.add(&zeros)?.sqrt()?.round(scale))
}

fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

struct FloatSpread {
    count: f64,
    sum: f64,
    deviations: f64,
    spread: Spread,
}

fn float(spread: Spread) -> Box<dyn Accumulator> {
    Box::new(FloatSpread { count: 0.0, sum: 0.0, deviations: 0.0, spread })
}

impl Accumulator for FloatSpread {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let value = match args {
            [Datum::Float8(value)] => *value,
            [Datum::Float4(value)] => f64::from(*value),
            _ => return Err(mismatch(args)),
        };
        self.count += 1.0;
        let before = self.sum;
        self.sum += value;
        if self.count > 1.0 {
            let distance = value * self.count - self.sum;
            self.deviations += distance * distance / (self.count * (self.count - 1.0));
            if (self.sum.is_infinite() || self.deviations.is_infinite())
                && !before.is_infinite()
                && !value.is_infinite()
            {
                return Err(overflow());
            }
            if self.sum.is_infinite() {
                self.deviations = f64::NAN;
            }
        } else if !value.is_finite() {
            self.deviations = f64::NAN;
        }
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().f64(self.count).f64(self.sum).f64(self.deviations).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let (count, sum, deviations) = (reader.f64()?, reader.f64()?, reader.f64()?);
        if self.count == 0.0 {
            (self.count, self.sum, self.deviations) = (count, sum, deviations);
        } else if count > 0.0 {
            let distance = self.sum / self.count - sum / count;
            self.deviations += deviations + self.count * count * distance * distance / (self.count + count);
            self.count += count;
            self.sum += sum;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        let divisor = if self.spread.sample { self.count - 1.0 } else { self.count };
        if divisor <= 0.0 {
            return Ok(Datum::Null);
        }
        let variance = self.deviations / divisor;
        Ok(Datum::Float8(if self.spread.root { variance.sqrt() } else { variance }))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.count, self.sum, self.deviations) = (0.0, 0.0, 0.0);
    }
}

/// Sums over pairs: the first argument is y, the second x.
#[derive(Clone, Copy, Default)]
struct Pairs {
    count: f64,
    x: f64,
    xx: f64,
    y: f64,
    yy: f64,
    xy: f64,
}

struct Regression {
    pairs: Pairs,
    result: fn(&Pairs) -> Option<f64>,
}

fn pairs(result: fn(&Pairs) -> Option<f64>) -> Box<dyn Accumulator> {
    Box::new(Regression { pairs: Pairs::default(), result })
}

impl Accumulator for Regression {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let [Datum::Float8(y), Datum::Float8(x)] = args else { return Err(mismatch(args)) };
        let p = &mut self.pairs;
        let before = *p;
        p.count += 1.0;
        p.x += x;
        p.y += y;
        if before.count > 0.0 {
            let (dx, dy) = (x * p.count - p.x, y * p.count - p.y);
            let scale = 1.0 / (p.count * before.count);
            p.xx += dx * dx * scale;
            p.yy += dy * dy * scale;
            p.xy += dx * dy * scale;
            let infinite = |p: &Pairs| [p.x, p.xx, p.y, p.yy, p.xy].iter().any(|v| v.is_infinite());
            if infinite(p) && !infinite(&before) && x.is_finite() && y.is_finite() {
                return Err(overflow());
            }
            for sum in [&mut p.xx, &mut p.yy, &mut p.xy] {
                if sum.is_infinite() {
                    *sum = f64::NAN;
                }
            }
        } else {
            if !x.is_finite() {
                (p.xx, p.xy) = (f64::NAN, f64::NAN);
            }
            if !y.is_finite() {
                (p.yy, p.xy) = (f64::NAN, f64::NAN);
            }
        }
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let p = &self.pairs;
        Writer::default().f64(p.count).f64(p.x).f64(p.xx).f64(p.y).f64(p.yy).f64(p.xy).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let other = Pairs {
            count: reader.f64()?,
            x: reader.f64()?,
            xx: reader.f64()?,
            y: reader.f64()?,
            yy: reader.f64()?,
            xy: reader.f64()?,
        };
        let own = self.pairs;
        if own.count == 0.0 {
            self.pairs = other;
        } else if other.count > 0.0 {
            let count = own.count + other.count;
            let (dx, dy) =
                (own.x / own.count - other.x / other.count, own.y / own.count - other.y / other.count);
            let weight = own.count * other.count / count;
            self.pairs = Pairs {
                count,
                x: own.x + other.x,
                y: own.y + other.y,
                xx: own.xx + other.xx + weight * dx * dx,
                yy: own.yy + other.yy + weight * dy * dy,
                xy: own.xy + other.xy + weight * dx * dy,
            };
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        Ok((self.result)(&self.pairs).map_or(Datum::Null, Datum::Float8))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.pairs = Pairs::default();
    }
}

/// `regr_count` is a number of rows, not a float.
#[derive(Default)]
struct PairCount(i64);

impl Accumulator for PairCount {
    fn add(&mut self, _: &[Datum]) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        self.0 -= 1;
        Ok(true)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().i64(self.0).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.0 += Reader(state).i64()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        Ok(Datum::Int8(self.0))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

fn some(p: &Pairs, value: f64) -> Option<f64> {
    if p.count < 1.0 { None } else { Some(value) }
}

fn corr(p: &Pairs) -> Option<f64> {
    if p.count < 1.0 || p.xx == 0.0 || p.yy == 0.0 { None } else { Some(p.xy / (p.xx * p.yy).sqrt()) }
}

fn r2(p: &Pairs) -> Option<f64> {
    if p.count < 1.0 || p.xx == 0.0 {
        return None;
    }
    if p.yy == 0.0 { Some(1.0) } else { Some(p.xy * p.xy / (p.xx * p.yy)) }
}

fn slope(p: &Pairs) -> Option<f64> {
    if p.count < 1.0 || p.xx == 0.0 { None } else { Some(p.xy / p.xx) }
}

fn intercept(p: &Pairs) -> Option<f64> {
    if p.count < 1.0 || p.xx == 0.0 { None } else { Some((p.y - p.x * p.xy / p.xx) / p.count) }
}

pub(super) static AGGREGATES: &[Aggregate] = &[
    a(2720, "var_pop", &[INT2], NUMERIC, |_, _| exact(VAR_POP)),
    a(2719, "var_pop", &[INT4], NUMERIC, |_, _| exact(VAR_POP)),
    a(2718, "var_pop", &[INT8], NUMERIC, |_, _| exact(VAR_POP)),
    a(2723, "var_pop", &[NUMERIC], NUMERIC, |_, _| exact(VAR_POP)),
    a(2721, "var_pop", &[FLOAT4], FLOAT8, |_, _| float(VAR_POP)),
    a(2722, "var_pop", &[FLOAT8], FLOAT8, |_, _| float(VAR_POP)),
    a(2643, "var_samp", &[INT2], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2642, "var_samp", &[INT4], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2641, "var_samp", &[INT8], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2646, "var_samp", &[NUMERIC], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2644, "var_samp", &[FLOAT4], FLOAT8, |_, _| float(VAR_SAMP)),
    a(2645, "var_samp", &[FLOAT8], FLOAT8, |_, _| float(VAR_SAMP)),
    a(2150, "variance", &[INT2], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2149, "variance", &[INT4], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2148, "variance", &[INT8], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2153, "variance", &[NUMERIC], NUMERIC, |_, _| exact(VAR_SAMP)),
    a(2151, "variance", &[FLOAT4], FLOAT8, |_, _| float(VAR_SAMP)),
    a(2152, "variance", &[FLOAT8], FLOAT8, |_, _| float(VAR_SAMP)),
    a(2726, "stddev_pop", &[INT2], NUMERIC, |_, _| exact(STDDEV_POP)),
    a(2725, "stddev_pop", &[INT4], NUMERIC, |_, _| exact(STDDEV_POP)),
    a(2724, "stddev_pop", &[INT8], NUMERIC, |_, _| exact(STDDEV_POP)),
    a(2729, "stddev_pop", &[NUMERIC], NUMERIC, |_, _| exact(STDDEV_POP)),
    a(2727, "stddev_pop", &[FLOAT4], FLOAT8, |_, _| float(STDDEV_POP)),
    a(2728, "stddev_pop", &[FLOAT8], FLOAT8, |_, _| float(STDDEV_POP)),
    a(2714, "stddev_samp", &[INT2], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2713, "stddev_samp", &[INT4], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2712, "stddev_samp", &[INT8], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2717, "stddev_samp", &[NUMERIC], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2715, "stddev_samp", &[FLOAT4], FLOAT8, |_, _| float(STDDEV_SAMP)),
    a(2716, "stddev_samp", &[FLOAT8], FLOAT8, |_, _| float(STDDEV_SAMP)),
    a(2156, "stddev", &[INT2], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2155, "stddev", &[INT4], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2154, "stddev", &[INT8], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2159, "stddev", &[NUMERIC], NUMERIC, |_, _| exact(STDDEV_SAMP)),
    a(2157, "stddev", &[FLOAT4], FLOAT8, |_, _| float(STDDEV_SAMP)),
    a(2158, "stddev", &[FLOAT8], FLOAT8, |_, _| float(STDDEV_SAMP)),
    a(2829, "corr", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(corr)),
    a(2827, "covar_pop", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.xy / p.count))),
    a(2828, "covar_samp", &[FLOAT8, FLOAT8], FLOAT8, |_, _| {
        pairs(|p| if p.count < 2.0 { None } else { Some(p.xy / (p.count - 1.0)) })
    }),
    a(2822, "regr_avgx", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.x / p.count))),
    a(2823, "regr_avgy", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.y / p.count))),
    a(2819, "regr_sxx", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.xx))),
    a(2820, "regr_syy", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.yy))),
    a(2821, "regr_sxy", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(|p| some(p, p.xy))),
    a(2824, "regr_r2", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(r2)),
    a(2825, "regr_slope", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(slope)),
    a(2826, "regr_intercept", &[FLOAT8, FLOAT8], FLOAT8, |_, _| pairs(intercept)),
    a(2818, "regr_count", &[FLOAT8, FLOAT8], INT8, |_, _| Box::new(PairCount::default())).zero(),
];
