//! Ordered-set aggregates: rows arrive in WITHIN GROUP's order, the direct arguments in front of each. They keep the
//! sorted values and pick from them at the end.

use std::sync::Arc;

use value::types::oid::*;
use value::{Array, Datum, Error, Interval, Oid, Result, SqlState};

use super::{Reader, Writer, a, datum_size};
use crate::declare::mismatch;
use crate::{Accumulator, Aggregate, Signature};

#[derive(Clone, Copy, PartialEq)]
enum Pick {
    Continuous,
    Discrete,
    Mode,
}

struct Sorted {
    pick: Pick,
    /// Type of the direct argument and of the sorted values.
    fraction_type: Oid,
    ty: Oid,
    fraction: Datum,
    values: Vec<Datum>,
    bytes: usize,
}

fn sorted(signature: &Signature, pick: Pick) -> Box<dyn Accumulator> {
    let ty = |at: usize| signature.args.get(at).map_or(FLOAT8, |ty| ty.oid);
    let (fraction_type, ty) = if pick == Pick::Mode { (FLOAT8, ty(0)) } else { (ty(0), ty(1)) };
    Box::new(Sorted { pick, fraction_type, ty, fraction: Datum::Null, values: Vec::new(), bytes: 0 })
}

impl Sorted {
    fn percentile(&self, fraction: f64) -> Result<Datum> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("percentile value {fraction} is not between 0 and 1"),
            ));
        }
        let count = self.values.len();
        if self.pick == Pick::Discrete {
            // The first row whose share of rows up to it reaches the fraction.
            let at = (fraction * count as f64).ceil() as usize;
            return Ok(self.values[at.saturating_sub(1).min(count - 1)].clone());
        }
        let place = fraction * (count - 1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        let part = place - low as f64;
        match (&self.values[low], &self.values[high]) {
            (value, _) if low == high => Ok(value.clone()),
            (Datum::Float8(low), Datum::Float8(high)) => Ok(Datum::Float8(low + part * (high - low))),
            (Datum::Interval(low), Datum::Interval(high)) => {
                let step: Interval = high.checked_sub(*low)?.multiply(part)?;
                Ok(Datum::Interval(step.checked_add(*low)?))
            }
            (low, high) => Err(mismatch(&[low.clone(), high.clone()])),
        }
    }

    /// The most frequent value, the first of equally frequent ones.
    fn mode(&self) -> Datum {
        let (mut best, mut best_count) = (0, 0);
        let mut start = 0;
        for at in 1..=self.values.len() {
            let ended = at == self.values.len()
                || !value::compare::equal_typed(self.ty, &self.values[start], &self.values[at]);
            if ended {
                if at - start > best_count {
                    (best, best_count) = (start, at - start);
                }
                start = at;
            }
        }
        self.values[best].clone()
    }
}

impl Accumulator for Sorted {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let value = match (args, self.pick) {
            ([value], Pick::Mode) => value,
            ([fraction, value], _) => {
                if self.values.is_empty() {
                    self.fraction = fraction.clone();
                }
                value
            }
            _ => return Err(mismatch(args)),
        };
        if !value.is_null() {
            self.bytes += datum_size(value);
            self.values.push(value.clone());
        }
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let writer = Writer::default().datum(&self.fraction).i64(self.values.len() as i64);
        self.values.iter().fold(writer, Writer::datum).done()
    }

    /// Both halves are sorted the same way only if the caller cut one sorted input; then the order holds.
    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let fraction = reader.datum(self.fraction_type)?;
        if self.values.is_empty() {
            self.fraction = fraction;
        }
        for _ in 0..reader.i64()? {
            let value = reader.datum(self.ty)?;
            self.bytes += datum_size(&value);
            self.values.push(value);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        if self.pick == Pick::Mode {
            return Ok(self.mode());
        }
        match self.fraction.clone() {
            Datum::Float8(fraction) => self.percentile(fraction),
            Datum::Array(fractions) => {
                let values = fractions
                    .values
                    .iter()
                    .map(|fraction| match fraction {
                        Datum::Float8(fraction) => self.percentile(*fraction),
                        _ => Ok(Datum::Null),
                    })
                    .collect::<Result<Vec<_>>>()?;
                let array = Array::new(self.ty, fractions.dims.clone(), values)?;
                Ok(Datum::Array(Arc::new(array)))
            }
            _ => Ok(Datum::Null),
        }
    }

    fn size(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Datum>()
    }

    fn reset(&mut self) {
        self.values.clear();
        self.bytes = 0;
        self.fraction = Datum::Null;
    }
}

pub(super) static AGGREGATES: &[Aggregate] = &[
    a(3974, "percentile_cont", &[FLOAT8, FLOAT8], FLOAT8, |signature, _| sorted(signature, Pick::Continuous))
        .nullable()
        .ordered(1),
    a(3976, "percentile_cont", &[FLOAT8, INTERVAL], INTERVAL, |signature, _| {
        sorted(signature, Pick::Continuous)
    })
    .nullable()
    .ordered(1),
    a(3980, "percentile_cont", &[FLOAT8_ARRAY, FLOAT8], FLOAT8_ARRAY, |signature, _| {
        sorted(signature, Pick::Continuous)
    })
    .nullable()
    .ordered(1),
    a(3982, "percentile_cont", &[FLOAT8_ARRAY, INTERVAL], INTERVAL_ARRAY, |signature, _| {
        sorted(signature, Pick::Continuous)
    })
    .nullable()
    .ordered(1),
    a(3972, "percentile_disc", &[FLOAT8, ANYELEMENT], ANYELEMENT, |signature, _| {
        sorted(signature, Pick::Discrete)
    })
    .nullable()
    .ordered(1),
    a(3978, "percentile_disc", &[FLOAT8_ARRAY, ANYELEMENT], ANYARRAY, |signature, _| {
        sorted(signature, Pick::Discrete)
    })
    .nullable()
    .ordered(1),
    a(3984, "mode", &[ANYELEMENT], ANYELEMENT, |signature, _| sorted(signature, Pick::Mode)).ordered(0),
];
