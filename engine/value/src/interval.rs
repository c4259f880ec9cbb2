//! Intervals: months, days and microseconds that never mix on their own, because a month has no fixed length.
//! Only comparison maps them to one number (a month as 30 days, a day as 24 hours), so `1 mon` = `30 days`
//! although adding them to a date gives different dates.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::datetime::USECS_PER_DAY;
use crate::types::{interval_field, interval_fields, interval_precision};
use crate::{Error, Result, SqlState};

/// Equality, order and hash are PostgreSQL's: by [`Interval::comparison_key`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

fn out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

impl Interval {
    pub const fn new(months: i32, days: i32, micros: i64) -> Interval {
        Interval { months, days, micros }
    }

    /// Microseconds with a month as 30 days and a day as 24 hours; equal intervals give equal keys.
    #[inline]
    pub fn comparison_key(&self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(USECS_PER_DAY)
            + i128::from(self.micros)
    }

    pub fn checked_add(self, other: Interval) -> Result<Interval> {
        Ok(Interval {
            months: self.months.checked_add(other.months).ok_or_else(out_of_range)?,
            days: self.days.checked_add(other.days).ok_or_else(out_of_range)?,
            micros: self.micros.checked_add(other.micros).ok_or_else(out_of_range)?,
        })
    }

    pub fn checked_sub(self, other: Interval) -> Result<Interval> {
        Ok(Interval {
            months: self.months.checked_sub(other.months).ok_or_else(out_of_range)?,
            days: self.days.checked_sub(other.days).ok_or_else(out_of_range)?,
            micros: self.micros.checked_sub(other.micros).ok_or_else(out_of_range)?,
        })
    }

    pub fn negate(self) -> Result<Interval> {
        Interval::default().checked_sub(self)
    }

    /// `interval * factor`: fractions of months become days (30 to a month), fractions of days become time.
    pub fn multiply(self, factor: f64) -> Result<Interval> {
        self.scale(|value| value * factor)
    }

    /// `interval / divisor`; 22012 for zero.
    pub fn divide(self, divisor: f64) -> Result<Interval> {
        if divisor == 0.0 {
            return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
        }
        self.scale(|value| value / divisor)
    }

    fn scale(self, by: impl Fn(f64) -> f64) -> Result<Interval> {
        const DAYS_PER_MONTH: f64 = 30.0;
        const SECS_PER_DAY: f64 = 86_400.0;
        // Rounding to microseconds keeps binary fractions such as 0.1 from leaking into the lower field.
        let to_micros = |value: f64| (value * 1e6).round_ties_even() / 1e6;
        let whole = |value: f64| -> Result<i32> {
            if value.is_nan() || value >= 2_147_483_648.0 || value <= -2_147_483_649.0 {
                return Err(out_of_range());
            }
            Ok(value as i32)
        };
        let months = by(f64::from(self.months));
        let mut result = Interval { months: whole(months)?, days: 0, micros: 0 };
        let days = by(f64::from(self.days));
        result.days = whole(days)?;
        let mut month_days = to_micros((months - f64::from(result.months)) * DAYS_PER_MONTH);
        let mut seconds =
            to_micros((days - f64::from(result.days) + month_days - month_days.trunc()) * SECS_PER_DAY);
        if seconds.abs() >= SECS_PER_DAY {
            let carry = (seconds / SECS_PER_DAY).trunc();
            result.days = result.days.checked_add(carry as i32).ok_or_else(out_of_range)?;
            seconds -= carry * SECS_PER_DAY;
        }
        month_days = month_days.trunc();
        result.days = result.days.checked_add(month_days as i32).ok_or_else(out_of_range)?;
        let micros = (by(self.micros as f64) + seconds * 1e6).round_ties_even();
        if micros.is_nan() || !(-9.223_372_036_854_775e18..=9.223_372_036_854_775e18).contains(&micros) {
            return Err(out_of_range());
        }
        result.micros = micros as i64;
        Ok(result)
    }

    /// `justify_hours`: whole 24 hour periods become days; the signs of days and time agree afterwards.
    pub fn justify_hours(self) -> Result<Interval> {
        let days = i32::try_from(self.micros / USECS_PER_DAY).map_err(|_| out_of_range())?;
        let mut result = Interval {
            months: self.months,
            days: self.days.checked_add(days).ok_or_else(out_of_range)?,
            micros: self.micros % USECS_PER_DAY,
        };
        if result.days > 0 && result.micros < 0 {
            result.micros += USECS_PER_DAY;
            result.days -= 1;
        } else if result.days < 0 && result.micros > 0 {
            result.micros -= USECS_PER_DAY;
            result.days += 1;
        }
        Ok(result)
    }

    /// `justify_days`: whole 30 day periods become months; the signs agree afterwards.
    pub fn justify_days(self) -> Result<Interval> {
        let mut result = Interval {
            months: self.months.checked_add(self.days / 30).ok_or_else(out_of_range)?,
            days: self.days % 30,
            micros: self.micros,
        };
        if result.months > 0 && result.days < 0 {
            result.days += 30;
            result.months -= 1;
        } else if result.months < 0 && result.days > 0 {
            result.days -= 30;
            result.months += 1;
        }
        Ok(result)
    }

    /// `justify_interval`: both, with the same sign in all three fields.
    pub fn justify(self) -> Result<Interval> {
        let mut result = self;
        // Carry days into months first when the signs agree, so that hours have room in the days.
        if (result.days > 0 && result.micros > 0) || (result.days < 0 && result.micros < 0) {
            result = result.justify_days_raw()?;
        }
        let days = i32::try_from(result.micros / USECS_PER_DAY).map_err(|_| out_of_range())?;
        result.days = result.days.checked_add(days).ok_or_else(out_of_range)?;
        result.micros %= USECS_PER_DAY;
        result = result.justify_days_raw()?;
        if result.months > 0 && (result.days < 0 || (result.days == 0 && result.micros < 0)) {
            result.days += 30;
            result.months -= 1;
        } else if result.months < 0 && (result.days > 0 || (result.days == 0 && result.micros > 0)) {
            result.days -= 30;
            result.months += 1;
        }
        if result.days > 0 && result.micros < 0 {
            result.micros += USECS_PER_DAY;
            result.days -= 1;
        } else if result.days < 0 && result.micros > 0 {
            result.micros -= USECS_PER_DAY;
            result.days += 1;
        }
        Ok(result)
    }

    fn justify_days_raw(self) -> Result<Interval> {
        let months = self.months.checked_add(self.days / 30).ok_or_else(out_of_range)?;
        Ok(Interval { months, days: self.days % 30, micros: self.micros })
    }

    /// Drops the fields and rounds the fraction as `interval <fields>(precision)` asks.
    pub fn apply_typmod(self, typmod: i32) -> Interval {
        if typmod < 0 {
            return self;
        }
        const HOUR_US: i64 = 3_600_000_000;
        const MINUTE_US: i64 = 60_000_000;
        let mut result = self;
        let fields = interval_fields(typmod);
        use interval_field as f;
        // Only the fields below the lowest kept one are dropped: higher ones stay, as in PostgreSQL.
        if fields == f::YEAR {
            result = Interval { months: self.months / 12 * 12, days: 0, micros: 0 };
        } else if fields == f::MONTH || fields == f::YEAR | f::MONTH {
            result = Interval { months: self.months, days: 0, micros: 0 };
        } else if fields == f::DAY {
            result.micros = 0;
        } else if fields == f::HOUR || fields == f::DAY | f::HOUR {
            result.micros = self.micros / HOUR_US * HOUR_US;
        } else if fields != f::FULL_RANGE && fields & f::SECOND == 0 && fields & f::MINUTE != 0 {
            result.micros = self.micros / MINUTE_US * MINUTE_US;
        }
        if let Some(precision) = interval_precision(typmod) {
            result.micros = crate::datetime::round_micros(result.micros, precision);
        }
        result
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Interval) -> bool {
        self.comparison_key() == other.comparison_key()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Interval) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Interval) -> Ordering {
        self.comparison_key().cmp(&other.comparison_key())
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.comparison_key().hash(state);
    }
}
