//! count, sum, avg, min, max, and the boolean and bit aggregates.
//!
//! Integers are summed in 128 bits, which no table overflows. Numerics are summed as one 128 bit coefficient at the
//! largest scale seen, spilling to arbitrary precision only when that overflows.

use std::cmp::Ordering;
use std::sync::Arc;

use value::compare::compare_typed;
use value::types::oid::*;
use value::{Datum, Error, Interval, Numeric, Oid, Result, SqlState};

use super::{Reader, Writer, a, datum_size, first_type};
use crate::declare::{mismatch, out_of_range};
use crate::{Accumulator, Aggregate};

#[derive(Default)]
struct Count(i64);

impl Accumulator for Count {
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

#[derive(Clone, Copy)]
enum IntegerResult {
    Int8,
    Numeric,
    Average,
}

struct IntegerSum {
    sum: i128,
    count: i64,
    result: IntegerResult,
}

fn integer_sum(result: IntegerResult) -> Box<dyn Accumulator> {
    Box::new(IntegerSum { sum: 0, count: 0, result })
}

pub(super) fn integer(args: &[Datum]) -> Result<i64> {
    match args {
        [Datum::Int2(value)] => Ok(i64::from(*value)),
        [Datum::Int4(value)] => Ok(i64::from(*value)),
        [Datum::Int8(value)] => Ok(*value),
        _ => Err(mismatch(args)),
    }
}

impl Accumulator for IntegerSum {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        self.sum += i128::from(integer(args)?);
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        self.sum -= i128::from(integer(args)?);
        self.count -= 1;
        Ok(true)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().i128(self.sum).i64(self.count).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        self.sum += reader.i128()?;
        self.count += reader.i64()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        Ok(match self.result {
            IntegerResult::Int8 => Datum::Int8(i64::try_from(self.sum).map_err(|_| out_of_range("bigint"))?),
            IntegerResult::Numeric => Datum::Numeric(Arc::new(Numeric::from_i128(self.sum, 0))),
            IntegerResult::Average => {
                let sum = Numeric::from_i128(self.sum, 0);
                Datum::Numeric(Arc::new(sum.div(&Numeric::from_i64(self.count))?))
            }
        })
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.sum, self.count) = (0, 0);
    }
}

/// The sum of numerics, also used by the variances.
#[derive(Clone, Default)]
pub(super) struct NumericTotal {
    /// `fast * 10^-scale` plus `slow`.
    fast: i128,
    scale: u16,
    slow: Option<Numeric>,
    /// Values that have exactly `scale` digits: when the last of them goes, the scale has to shrink.
    at_scale: i64,
    pub(super) count: i64,
    nan: i64,
    infinity: i64,
    neg_infinity: i64,
}

impl NumericTotal {
    fn shift(&mut self, value: &Numeric, negative: bool) -> Result<()> {
        let scale = value.scale();
        if scale > self.scale {
            let factor = 10_i128.checked_pow(u32::from(scale - self.scale));
            match factor.and_then(|factor| self.fast.checked_mul(factor)) {
                Some(scaled) => self.fast = scaled,
                None => self.spill()?,
            }
            self.scale = scale;
            self.at_scale = 0;
        }
        if scale == self.scale {
            self.at_scale += if negative { -1 } else { 1 };
        }
        let exact = value.to_i128(self.scale).and_then(|coefficient| {
            if negative { self.fast.checked_sub(coefficient) } else { self.fast.checked_add(coefficient) }
        });
        match exact {
            Some(sum) => self.fast = sum,
            None => {
                self.spill()?;
                let slow = self.slow.take().unwrap_or(Numeric::ZERO);
                self.slow = Some(if negative { slow.sub(value)? } else { slow.add(value)? });
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        let fast = Numeric::from_i128(self.fast, self.scale);
        self.slow = Some(match self.slow.take() {
            Some(slow) => slow.add(&fast)?,
            None => fast,
        });
        self.fast = 0;
        Ok(())
    }

    pub(super) fn add(&mut self, value: &Numeric) -> Result<()> {
        self.count += 1;
        if value.is_nan() {
            self.nan += 1;
        } else if value.is_infinite() {
            if value.signum() > 0 { self.infinity += 1 } else { self.neg_infinity += 1 }
        } else {
            self.shift(value, false)?;
        }
        Ok(())
    }

    /// `false`: not possible without forgetting digits.
    pub(super) fn remove(&mut self, value: &Numeric) -> Result<bool> {
        if value.is_nan() {
            self.nan -= 1;
        } else if value.is_infinite() {
            if value.signum() > 0 { self.infinity -= 1 } else { self.neg_infinity -= 1 }
        } else {
            if value.scale() == self.scale && self.scale > 0 && self.at_scale == 1 && self.count > 1 {
                return Ok(false);
            }
            self.shift(value, true)?;
        }
        self.count -= 1;
        if self.count == 0 {
            *self = NumericTotal::default();
        }
        Ok(true)
    }

    /// NaN or an infinity when such values are among the summands.
    pub(super) fn special(&self) -> Option<Numeric> {
        if self.nan > 0 || (self.infinity > 0 && self.neg_infinity > 0) {
            Some(Numeric::NAN)
        } else if self.infinity > 0 {
            Some(Numeric::INFINITY)
        } else if self.neg_infinity > 0 {
            Some(Numeric::NEG_INFINITY)
        } else {
            None
        }
    }

    pub(super) fn total(&self) -> Result<Numeric> {
        if let Some(special) = self.special() {
            return Ok(special);
        }
        let fast = Numeric::from_i128(self.fast, self.scale);
        match &self.slow {
            Some(slow) => slow.add(&fast),
            None => Ok(fast),
        }
    }

    pub(super) fn write(&self, writer: Writer) -> Writer {
        let slow = match &self.slow {
            Some(slow) => Datum::Numeric(Arc::new(slow.clone())),
            None => Datum::Null,
        };
        writer
            .i128(self.fast)
            .i64(i64::from(self.scale))
            .i64(self.at_scale)
            .i64(self.count)
            .i64(self.nan)
            .i64(self.infinity)
            .i64(self.neg_infinity)
            .datum(&slow)
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let fast = reader.i128()?;
        let scale = u16::try_from(reader.i64()?).map_err(|_| super::damaged())?;
        let at_scale = reader.i64()?;
        let count = reader.i64()?;
        self.nan += reader.i64()?;
        self.infinity += reader.i64()?;
        self.neg_infinity += reader.i64()?;
        let slow = reader.datum(NUMERIC)?;
        let before = (self.scale, self.at_scale);
        self.shift(&Numeric::from_i128(fast, scale), false)?;
        if let Datum::Numeric(slow) = slow {
            let own = self.slow.take().unwrap_or(Numeric::ZERO);
            self.slow = Some(own.add(&slow)?);
        }
        self.at_scale = match before.0.cmp(&scale) {
            Ordering::Less => at_scale,
            Ordering::Equal => before.1 + at_scale,
            Ordering::Greater => before.1,
        };
        self.count += count;
        Ok(())
    }
}

struct NumericSum {
    total: NumericTotal,
    average: bool,
}

fn numeric_sum(average: bool) -> Box<dyn Accumulator> {
    Box::new(NumericSum { total: NumericTotal::default(), average })
}

impl Accumulator for NumericSum {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        match args {
            [Datum::Numeric(value)] => self.total.add(value),
            _ => Err(mismatch(args)),
        }
    }

    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        match args {
            [Datum::Numeric(value)] => self.total.remove(value),
            _ => Err(mismatch(args)),
        }
    }

    fn state(&self) -> Result<Vec<u8>> {
        self.total.write(Writer::default()).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.total.read(&mut Reader(state))
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.total.count == 0 {
            return Ok(Datum::Null);
        }
        let total = self.total.total()?;
        let value = if self.average { total.div(&Numeric::from_i64(self.total.count))? } else { total };
        Ok(Datum::Numeric(Arc::new(value)))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.total = NumericTotal::default();
    }
}

fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
}

#[derive(Clone, Copy, PartialEq)]
enum FloatResult {
    Sum4,
    Sum8,
    Average,
}

/// Floats are added in the order they come; nothing is ever subtracted, since that would leave rounding behind.
struct FloatSum {
    sum: f64,
    count: i64,
    result: FloatResult,
}

fn float_sum(result: FloatResult) -> Box<dyn Accumulator> {
    Box::new(FloatSum { sum: 0.0, count: 0, result })
}

impl FloatSum {
    fn plus(&mut self, value: f64) -> Result<()> {
        let before = self.sum;
        self.sum += value;
        if self.result == FloatResult::Sum4 {
            // sum(real) is real at every step.
            self.sum = f64::from(self.sum as f32);
        }
        if self.sum.is_infinite() && !before.is_infinite() && !value.is_infinite() {
            return Err(overflow());
        }
        Ok(())
    }
}

impl Accumulator for FloatSum {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let value = match args {
            [Datum::Float8(value)] => *value,
            [Datum::Float4(value)] => f64::from(*value),
            _ => return Err(mismatch(args)),
        };
        if self.count == 0 {
            self.sum = value;
        } else {
            self.plus(value)?;
        }
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().f64(self.sum).i64(self.count).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let (sum, count) = (reader.f64()?, reader.i64()?);
        if count > 0 {
            if self.count == 0 {
                self.sum = sum;
            } else {
                self.plus(sum)?;
            }
            self.count += count;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        Ok(match self.result {
            FloatResult::Sum4 => Datum::Float4(self.sum as f32),
            FloatResult::Sum8 => Datum::Float8(self.sum),
            FloatResult::Average => Datum::Float8(self.sum / self.count as f64),
        })
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.sum, self.count) = (0.0, 0);
    }
}

struct IntervalSum {
    sum: Interval,
    count: i64,
    average: bool,
}

fn interval_sum(average: bool) -> Box<dyn Accumulator> {
    Box::new(IntervalSum { sum: Interval::default(), count: 0, average })
}

impl Accumulator for IntervalSum {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let [Datum::Interval(value)] = args else { return Err(mismatch(args)) };
        self.sum = self.sum.checked_add(*value)?;
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        let [Datum::Interval(value)] = args else { return Err(mismatch(args)) };
        self.sum = self.sum.checked_sub(*value)?;
        self.count -= 1;
        Ok(true)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let Interval { months, days, micros } = self.sum;
        Writer::default().i64(i64::from(months)).i64(i64::from(days)).i64(micros).i64(self.count).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let (months, days, micros) = (reader.i64()?, reader.i64()?, reader.i64()?);
        self.sum = self.sum.checked_add(Interval::new(months as i32, days as i32, micros))?;
        self.count += reader.i64()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        let value = if self.average { self.sum.divide(self.count as f64)? } else { self.sum };
        Ok(Datum::Interval(value))
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.sum, self.count) = (Interval::default(), 0);
    }
}

/// min and max of any ordered type.
struct Extreme {
    ty: Oid,
    wanted: Ordering,
    value: Datum,
}

impl Extreme {
    fn offer(&mut self, value: &Datum) {
        // Of equal values the later one stays (1.5 replaces 1.50), as in PostgreSQL.
        if self.value.is_null() || compare_typed(self.ty, &self.value, value) != self.wanted {
            self.value = value.clone();
        }
    }
}

impl Accumulator for Extreme {
    #[inline]
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        match (args, &mut self.value) {
            ([Datum::Int4(value)], Datum::Int4(best)) => {
                if value.cmp(best) == self.wanted {
                    *best = *value;
                }
            }
            ([Datum::Int8(value)], Datum::Int8(best)) => {
                if value.cmp(best) == self.wanted {
                    *best = *value;
                }
            }
            ([value], _) => self.offer(value),
            _ => return Err(mismatch(args)),
        }
        Ok(())
    }

    /// Only a value that is not the extreme can go without looking at the others.
    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        let [value] = args else { return Err(mismatch(args)) };
        Ok(compare_typed(self.ty, value, &self.value).is_ne())
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().datum(&self.value).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let value = Reader(state).datum(self.ty)?;
        if !value.is_null() {
            self.offer(&value);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        datum_size(&self.value)
    }

    fn reset(&mut self) {
        self.value = Datum::Null;
    }
}

struct Truth {
    trues: i64,
    count: i64,
    all: bool,
}

fn truth(all: bool) -> Box<dyn Accumulator> {
    Box::new(Truth { trues: 0, count: 0, all })
}

impl Accumulator for Truth {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let [Datum::Bool(value)] = args else { return Err(mismatch(args)) };
        self.trues += i64::from(*value);
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, args: &[Datum]) -> Result<bool> {
        let [Datum::Bool(value)] = args else { return Err(mismatch(args)) };
        self.trues -= i64::from(*value);
        self.count -= 1;
        Ok(true)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().i64(self.trues).i64(self.count).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        self.trues += reader.i64()?;
        self.count += reader.i64()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        Ok(match (self.count, self.all) {
            (0, _) => Datum::Null,
            (count, true) => Datum::Bool(self.trues == count),
            (_, false) => Datum::Bool(self.trues > 0),
        })
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        (self.trues, self.count) = (0, 0);
    }
}

struct Bits {
    ty: Oid,
    value: Option<i64>,
    combine: fn(i64, i64) -> i64,
}

impl Bits {
    fn offer(&mut self, value: i64) {
        self.value = Some(self.value.map_or(value, |have| (self.combine)(have, value)));
    }
}

impl Accumulator for Bits {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        self.offer(integer(args)?);
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        Writer::default().i64(i64::from(self.value.is_some())).i64(self.value.unwrap_or(0)).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        if reader.i64()? != 0 {
            self.offer(reader.i64()?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        Ok(match (self.value, self.ty) {
            (None, _) => Datum::Null,
            (Some(value), INT2) => Datum::Int2(value as i16),
            (Some(value), INT4) => Datum::Int4(value as i32),
            (Some(value), _) => Datum::Int8(value),
        })
    }

    fn size(&self) -> usize {
        0
    }

    fn reset(&mut self) {
        self.value = None;
    }
}

macro_rules! bits {
    ($combine:expr) => {
        |signature, _| Box::new(Bits { ty: first_type(signature), value: None, combine: $combine })
    };
}

macro_rules! extreme {
    ($wanted:ident) => {
        |signature, _| {
            Box::new(Extreme { ty: first_type(signature), wanted: Ordering::$wanted, value: Datum::Null })
        }
    };
}

pub(super) static AGGREGATES: &[Aggregate] = &[
    a(2803, "count", &[], INT8, |_, _| Box::new(Count::default())).zero().nullable(),
    a(2147, "count", &[ANY], INT8, |_, _| Box::new(Count::default())).zero(),
    a(2109, "sum", &[INT2], INT8, |_, _| integer_sum(IntegerResult::Int8)),
    a(2108, "sum", &[INT4], INT8, |_, _| integer_sum(IntegerResult::Int8)),
    a(2107, "sum", &[INT8], NUMERIC, |_, _| integer_sum(IntegerResult::Numeric)),
    a(2102, "avg", &[INT2], NUMERIC, |_, _| integer_sum(IntegerResult::Average)),
    a(2101, "avg", &[INT4], NUMERIC, |_, _| integer_sum(IntegerResult::Average)),
    a(2100, "avg", &[INT8], NUMERIC, |_, _| integer_sum(IntegerResult::Average)),
    a(2114, "sum", &[NUMERIC], NUMERIC, |_, _| numeric_sum(false)),
    a(2103, "avg", &[NUMERIC], NUMERIC, |_, _| numeric_sum(true)),
    a(2110, "sum", &[FLOAT4], FLOAT4, |_, _| float_sum(FloatResult::Sum4)),
    a(2111, "sum", &[FLOAT8], FLOAT8, |_, _| float_sum(FloatResult::Sum8)),
    a(2104, "avg", &[FLOAT4], FLOAT8, |_, _| float_sum(FloatResult::Average)),
    a(2105, "avg", &[FLOAT8], FLOAT8, |_, _| float_sum(FloatResult::Average)),
    a(2113, "sum", &[INTERVAL], INTERVAL, |_, _| interval_sum(false)),
    a(2106, "avg", &[INTERVAL], INTERVAL, |_, _| interval_sum(true)),
    a(2050, "max", &[ANYARRAY], ANYARRAY, extreme!(Greater)).once(),
    a(2244, "max", &[BPCHAR], BPCHAR, extreme!(Greater)).once(),
    a(2122, "max", &[DATE], DATE, extreme!(Greater)).once(),
    a(2119, "max", &[FLOAT4], FLOAT4, extreme!(Greater)).once(),
    a(2120, "max", &[FLOAT8], FLOAT8, extreme!(Greater)).once(),
    a(2117, "max", &[INT2], INT2, extreme!(Greater)).once(),
    a(2116, "max", &[INT4], INT4, extreme!(Greater)).once(),
    a(2115, "max", &[INT8], INT8, extreme!(Greater)).once(),
    a(2128, "max", &[INTERVAL], INTERVAL, extreme!(Greater)).once(),
    a(2130, "max", &[NUMERIC], NUMERIC, extreme!(Greater)).once(),
    a(2118, "max", &[OID], OID, extreme!(Greater)).once(),
    a(4189, "max", &[PG_LSN], PG_LSN, extreme!(Greater)).once(),
    a(2129, "max", &[TEXT], TEXT, extreme!(Greater)).once(),
    a(2797, "max", &[TID], TID, extreme!(Greater)).once(),
    a(2123, "max", &[TIME], TIME, extreme!(Greater)).once(),
    a(2126, "max", &[TIMESTAMP], TIMESTAMP, extreme!(Greater)).once(),
    a(2127, "max", &[TIMESTAMPTZ], TIMESTAMPTZ, extreme!(Greater)).once(),
    a(5099, "max", &[XID8], XID8, extreme!(Greater)).once(),
    a(2051, "min", &[ANYARRAY], ANYARRAY, extreme!(Less)).once(),
    a(2245, "min", &[BPCHAR], BPCHAR, extreme!(Less)).once(),
    a(2138, "min", &[DATE], DATE, extreme!(Less)).once(),
    a(2135, "min", &[FLOAT4], FLOAT4, extreme!(Less)).once(),
    a(2136, "min", &[FLOAT8], FLOAT8, extreme!(Less)).once(),
    a(2133, "min", &[INT2], INT2, extreme!(Less)).once(),
    a(2132, "min", &[INT4], INT4, extreme!(Less)).once(),
    a(2131, "min", &[INT8], INT8, extreme!(Less)).once(),
    a(2144, "min", &[INTERVAL], INTERVAL, extreme!(Less)).once(),
    a(2146, "min", &[NUMERIC], NUMERIC, extreme!(Less)).once(),
    a(2134, "min", &[OID], OID, extreme!(Less)).once(),
    a(4190, "min", &[PG_LSN], PG_LSN, extreme!(Less)).once(),
    a(2145, "min", &[TEXT], TEXT, extreme!(Less)).once(),
    a(2798, "min", &[TID], TID, extreme!(Less)).once(),
    a(2139, "min", &[TIME], TIME, extreme!(Less)).once(),
    a(2142, "min", &[TIMESTAMP], TIMESTAMP, extreme!(Less)).once(),
    a(2143, "min", &[TIMESTAMPTZ], TIMESTAMPTZ, extreme!(Less)).once(),
    a(5100, "min", &[XID8], XID8, extreme!(Less)).once(),
    a(2517, "bool_and", &[BOOL], BOOL, |_, _| truth(true)).once(),
    a(2519, "every", &[BOOL], BOOL, |_, _| truth(true)).once(),
    a(2518, "bool_or", &[BOOL], BOOL, |_, _| truth(false)).once(),
    a(2236, "bit_and", &[INT2], INT2, bits!(|a, b| a & b)).once(),
    a(2238, "bit_and", &[INT4], INT4, bits!(|a, b| a & b)).once(),
    a(2240, "bit_and", &[INT8], INT8, bits!(|a, b| a & b)).once(),
    a(2237, "bit_or", &[INT2], INT2, bits!(|a, b| a | b)).once(),
    a(2239, "bit_or", &[INT4], INT4, bits!(|a, b| a | b)).once(),
    a(2241, "bit_or", &[INT8], INT8, bits!(|a, b| a | b)).once(),
    a(6164, "bit_xor", &[INT2], INT2, bits!(|a, b| a ^ b)),
    a(6165, "bit_xor", &[INT4], INT4, bits!(|a, b| a ^ b)),
    a(6166, "bit_xor", &[INT8], INT8, bits!(|a, b| a ^ b)),
];
