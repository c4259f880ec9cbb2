//! extract, date_trunc and date_bin. One table names the units; what a type does not have is 0A000, what nobody has 22023.

use super::{
    POSTGRES_EPOCH_JULIAN, TimeZone, UNIX_TO_POSTGRES_DAYS, UNIX_TO_POSTGRES_SECS, USECS_PER_DAY,
    USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC, civil_from_days, day_of_week, days_from_civil,
    from_local, is_finite_date, is_finite_timestamp, iso_week, timestamp_from_parts, timestamp_out_of_range,
    timestamp_to_date, timestamp_to_time, to_local, zone_offset,
};
use crate::{Error, Interval, Numeric, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Julian,
    IsoYear,
    Dow,
    IsoDow,
    Doy,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

fn unit(field: &str, type_name: &str) -> Result<Unit> {
    let lower = field.to_ascii_lowercase();
    use Unit::*;
    Ok(match lower.as_str() {
        "microseconds" | "microsecond" | "microsecon" | "us" | "usec" | "usecs" | "usecond" | "useconds" => {
            Microsecond
        }
        "milliseconds" | "millisecond" | "millisecon" | "ms" | "msec" | "msecs" | "msecond" | "mseconds" => {
            Millisecond
        }
        "second" | "seconds" | "sec" | "secs" | "s" => Second,
        "minute" | "minutes" | "min" | "mins" | "m" => Minute,
        "hour" | "hours" | "hr" | "hrs" | "h" => Hour,
        "day" | "days" | "d" => Day,
        "week" | "weeks" | "w" => Week,
        "month" | "months" | "mon" | "mons" => Month,
        "quarter" | "qtr" => Quarter,
        "year" | "years" | "yr" | "yrs" | "y" => Year,
        "decade" | "decades" | "dec" | "decs" => Decade,
        "century" | "centuries" | "cent" | "c" => Century,
        "millennium" | "millennia" | "mil" | "mils" | "millenium" => Millennium,
        "julian" | "jd" | "j" => Julian,
        "isoyear" => IsoYear,
        "dow" => Dow,
        "isodow" => IsoDow,
        "doy" => Doy,
        "epoch" => Epoch,
        "timezone" => Timezone,
        "timezone_hour" | "timezone_h" => TimezoneHour,
        "timezone_minute" | "timezone_m" => TimezoneMinute,
        _ => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unit \"{lower}\" not recognized for type {type_name}"),
            ));
        }
    })
}

fn not_supported(field: &str, type_name: &str) -> Error {
    Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{}\" not supported for type {type_name}", field.to_ascii_lowercase()),
    )
}

const TIMESTAMP: &str = "timestamp without time zone";
const TIMESTAMPTZ: &str = "timestamp with time zone";
const TIME: &str = "time without time zone";

fn int(value: i64) -> Numeric {
    Numeric::from_i64(value)
}

/// Infinite values: what grows without bound is infinite, what repeats is NULL.
fn of_infinity(unit: Unit, positive: bool) -> Option<Numeric> {
    use Unit::*;
    matches!(unit, Year | Decade | Century | Millennium | Julian | IsoYear | Epoch)
        .then(|| if positive { Numeric::INFINITY } else { Numeric::NEG_INFINITY })
}

/// What depends on the date only.
fn date_part(unit: Unit, days: i32) -> Option<i64> {
    let (year, month, day) = civil_from_days(days);
    let year = i64::from(year);
    // There is no year 0: 0 is 1 BC, shown as -1.
    let shown = |year: i64| if year > 0 { year } else { year - 1 };
    let period = |length: i64| {
        if year > 0 { (year + length - 1) / length } else { -((length - 1 - (year - 1)) / length) }
    };
    Some(match unit {
        Unit::Day => i64::from(day),
        Unit::Week => i64::from(iso_week(days).1),
        Unit::Month => i64::from(month),
        Unit::Quarter => i64::from((month - 1) / 3 + 1),
        Unit::Year => shown(year),
        Unit::Decade => {
            if year >= 0 {
                year / 10
            } else {
                -((8 - (year - 1)) / 10)
            }
        }
        Unit::Century => period(100),
        Unit::Millennium => period(1000),
        Unit::Julian => i64::from(days) + i64::from(POSTGRES_EPOCH_JULIAN),
        Unit::IsoYear => shown(i64::from(iso_week(days).0)),
        Unit::Dow => i64::from(day_of_week(days)),
        Unit::IsoDow => i64::from((day_of_week(days) + 6) % 7 + 1),
        Unit::Doy => i64::from(days - days_from_civil(year as i32, 1, 1) + 1),
        _ => return None,
    })
}

/// What depends on the time of day only, in microseconds.
fn time_part(unit: Unit, time: i64) -> Option<Numeric> {
    let seconds = time % USECS_PER_MINUTE;
    Some(match unit {
        Unit::Microsecond => int(seconds),
        Unit::Millisecond => Numeric::from_i128(i128::from(seconds), 3),
        Unit::Second => Numeric::from_i128(i128::from(seconds), 6),
        Unit::Minute => int(time / USECS_PER_MINUTE % 60),
        Unit::Hour => int(time / USECS_PER_HOUR),
        _ => return None,
    })
}

fn local_part(unit: Unit, timestamp: i64) -> Result<Option<Numeric>> {
    let (days, time) = (timestamp_to_date(timestamp), timestamp_to_time(timestamp));
    if unit == Unit::Julian {
        let fraction = int(time).div(&int(USECS_PER_DAY))?;
        return int(i64::from(days) + i64::from(POSTGRES_EPOCH_JULIAN)).add(&fraction).map(Some);
    }
    Ok(time_part(unit, time).or_else(|| date_part(unit, days).map(int)))
}

fn epoch(timestamp: i64) -> Numeric {
    let offset = i128::from(UNIX_TO_POSTGRES_SECS) * i128::from(USECS_PER_SEC);
    Numeric::from_i128(i128::from(timestamp) + offset, 6)
}

/// `extract(field from timestamp)`; `None` is SQL NULL (infinite values). 22023 and 0A000 for wrong fields.
pub fn extract_timestamp(field: &str, timestamp: i64) -> Result<Option<Numeric>> {
    let unit = unit(field, TIMESTAMP)?;
    if !is_finite_timestamp(timestamp) {
        return Ok(of_infinity(unit, timestamp > 0));
    }
    if unit == Unit::Epoch {
        return Ok(Some(epoch(timestamp)));
    }
    local_part(unit, timestamp)?.map(Some).ok_or_else(|| not_supported(field, TIMESTAMP))
}

pub fn extract_timestamptz(field: &str, timestamptz: i64, zone: &TimeZone) -> Result<Option<Numeric>> {
    let unit = unit(field, TIMESTAMPTZ)?;
    if !is_finite_timestamp(timestamptz) {
        return Ok(of_infinity(unit, timestamptz > 0));
    }
    let offset = i64::from(zone_offset(zone, timestamptz));
    match unit {
        Unit::Epoch => Ok(Some(epoch(timestamptz))),
        Unit::Timezone => Ok(Some(int(offset))),
        Unit::TimezoneHour => Ok(Some(int(offset / 3600))),
        Unit::TimezoneMinute => Ok(Some(int(offset / 60 % 60))),
        _ => local_part(unit, to_local(timestamptz, zone)?)?
            .map(Some)
            .ok_or_else(|| not_supported(field, TIMESTAMPTZ)),
    }
}

pub fn extract_date(field: &str, date: i32) -> Result<Option<Numeric>> {
    let unit = unit(field, "date")?;
    if !is_finite_date(date) {
        return match date_part(unit, 0) {
            None if unit != Unit::Epoch => Err(not_supported(field, "date")),
            _ => Ok(of_infinity(unit, date > 0)),
        };
    }
    if unit == Unit::Epoch {
        return Ok(Some(int((i64::from(date) + i64::from(UNIX_TO_POSTGRES_DAYS)) * 86_400)));
    }
    date_part(unit, date).map(|value| Some(int(value))).ok_or_else(|| not_supported(field, "date"))
}

pub fn extract_time(field: &str, time: i64) -> Result<Option<Numeric>> {
    let unit = unit(field, TIME)?;
    if unit == Unit::Epoch {
        return Ok(Some(Numeric::from_i128(i128::from(time), 6)));
    }
    time_part(unit, time).map(Some).ok_or_else(|| not_supported(field, TIME))
}

pub fn extract_interval(field: &str, interval: Interval) -> Result<Option<Numeric>> {
    let unit = unit(field, "interval")?;
    let (years, months) = (i64::from(interval.months / 12), i64::from(interval.months % 12));
    Ok(Some(match unit {
        Unit::Day => int(i64::from(interval.days)),
        Unit::Month => int(months),
        Unit::Quarter => int(months / 3 + 1),
        Unit::Year => int(years),
        Unit::Decade => int(years / 10),
        Unit::Century => int(years / 100),
        Unit::Millennium => int(years / 1000),
        Unit::Epoch => {
            // A year counts 365.25 days, a month 30: in quarters of a day this is exact.
            let quarters = years * 1461 + (months * 30 + i64::from(interval.days)) * 4;
            let micros = i128::from(quarters) * i128::from(USECS_PER_DAY / 4) + i128::from(interval.micros);
            Numeric::from_i128(micros, 6)
        }
        _ => match time_part(unit, interval.micros) {
            Some(value) => value,
            None => return Err(not_supported(field, "interval")),
        },
    }))
}

/// Truncates a local timestamp; `None` for units that have no truncation.
fn trunc_local(unit: Unit, timestamp: i64) -> Option<Result<i64>> {
    let (days, time) = (timestamp_to_date(timestamp), timestamp_to_time(timestamp));
    let (year, month, _) = civil_from_days(days);
    let keep = |unit: i64| Some(timestamp_from_parts(days, time / unit * unit));
    let date = |year: i32, month: u32| {
        if !(-4714..=294_277).contains(&year) {
            return Some(Err(timestamp_out_of_range()));
        }
        Some(timestamp_from_parts(days_from_civil(year, month, 1), 0))
    };
    let period = |length: i32| {
        if year > 0 {
            (year + length - 1) / length * length - (length - 1)
        } else {
            -((length - 1 - (year - 1)) / length) * length + 1
        }
    };
    match unit {
        Unit::Microsecond => Some(Ok(timestamp)),
        Unit::Millisecond => keep(1000),
        Unit::Second => keep(USECS_PER_SEC),
        Unit::Minute => keep(USECS_PER_MINUTE),
        Unit::Hour => keep(USECS_PER_HOUR),
        Unit::Day => keep(USECS_PER_DAY),
        Unit::Week => Some(timestamp_from_parts(days - ((day_of_week(days) + 6) % 7) as i32, 0)),
        Unit::Month => date(year, month),
        Unit::Quarter => date(year, (month - 1) / 3 * 3 + 1),
        Unit::Year => date(year, 1),
        Unit::Decade => {
            let decade = if year > 0 { year / 10 * 10 } else { -((8 - (year - 1)) / 10) * 10 };
            date(decade, 1)
        }
        Unit::Century => date(period(100), 1),
        Unit::Millennium => date(period(1000), 1),
        _ => None,
    }
}

pub fn trunc_timestamp(field: &str, timestamp: i64) -> Result<i64> {
    let unit = unit(field, TIMESTAMP)?;
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    trunc_local(unit, timestamp).unwrap_or_else(|| Err(not_supported(field, TIMESTAMP)))
}

/// In the zone's local time; below a day the offset in force stays, so that repeated hours keep apart.
pub fn trunc_timestamptz(field: &str, timestamptz: i64, zone: &TimeZone) -> Result<i64> {
    let unit = unit(field, TIMESTAMPTZ)?;
    if !is_finite_timestamp(timestamptz) {
        return Ok(timestamptz);
    }
    let local = to_local(timestamptz, zone)?;
    let truncated = trunc_local(unit, local).unwrap_or_else(|| Err(not_supported(field, TIMESTAMPTZ)))?;
    use Unit::*;
    if matches!(unit, Microsecond | Millisecond | Second | Minute | Hour) {
        return Ok(timestamptz - (local - truncated));
    }
    from_local(truncated, zone)
}

pub fn trunc_interval(field: &str, interval: Interval) -> Result<Interval> {
    let months = |length: i32| Interval { months: interval.months / length * length, days: 0, micros: 0 };
    let time = |unit: i64| Interval { micros: interval.micros / unit * unit, ..interval };
    Ok(match unit(field, "interval")? {
        Unit::Microsecond => interval,
        Unit::Millisecond => time(1000),
        Unit::Second => time(USECS_PER_SEC),
        Unit::Minute => time(USECS_PER_MINUTE),
        Unit::Hour => time(USECS_PER_HOUR),
        Unit::Day => Interval { micros: 0, ..interval },
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        Unit::Week => {
            return Err(not_supported(field, "interval").detail("Months usually have fractional weeks."));
        }
        _ => return Err(not_supported(field, "interval")),
    })
}

/// `date_bin(stride, source, origin)`: the start of the stride-long bin that holds `source`.
pub fn bin_timestamp(stride: Interval, source: i64, origin: i64) -> Result<i64> {
    if !is_finite_timestamp(source) {
        return Ok(source);
    }
    if !is_finite_timestamp(origin) {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "origin out of range"));
    }
    if stride.months != 0 {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let width = i64::from(stride.days)
        .checked_mul(USECS_PER_DAY)
        .and_then(|days| days.checked_add(stride.micros))
        .ok_or_else(super::interval_out_of_range)?;
    if width <= 0 {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "stride must be greater than zero"));
    }
    let difference = source.checked_sub(origin).ok_or_else(super::interval_out_of_range)?;
    origin
        .checked_add(difference.div_euclid(width).checked_mul(width).ok_or_else(timestamp_out_of_range)?)
        .ok_or_else(timestamp_out_of_range)
}
