//! Dates and times: civil calendar, arithmetic, time zones.
//!
//! Everything is a count from 2000-01-01: days for dates, microseconds for timestamps. The civil calendar is the
//! proleptic Gregorian one over PostgreSQL's whole range (4713 BC to 294276 AD for timestamps, 5874897 AD for
//! dates). Zones come from jiff, which knows the years -9999 to 9999 only; later years are looked up in the equivalent
//! year of the last known 400-year cycle, which has the same weekdays and leap years and so the same rules.

mod extract;

use jiff::tz::AmbiguousOffset;
pub use jiff::tz::TimeZone;

pub use extract::{
    bin_timestamp, extract_date, extract_interval, extract_time, extract_timestamp, extract_timestamptz,
    trunc_interval, trunc_timestamp, trunc_timestamptz,
};

use crate::{Error, Interval, Result, SqlState};

pub const USECS_PER_SEC: i64 = 1_000_000;
pub const USECS_PER_MINUTE: i64 = 60 * USECS_PER_SEC;
pub const USECS_PER_HOUR: i64 = 3600 * USECS_PER_SEC;
pub const USECS_PER_DAY: i64 = 86_400 * USECS_PER_SEC;
/// Infinities of dates (days) and of timestamps (microseconds).
pub const DATE_INFINITY: i32 = i32::MAX;
pub const DATE_NEG_INFINITY: i32 = i32::MIN;
pub const TIMESTAMP_INFINITY: i64 = i64::MAX;
pub const TIMESTAMP_NEG_INFINITY: i64 = i64::MIN;
/// Days from 1970-01-01 to 2000-01-01.
pub const UNIX_TO_POSTGRES_DAYS: i32 = 10_957;
/// Seconds from 1970-01-01 to 2000-01-01.
pub const UNIX_TO_POSTGRES_SECS: i64 = UNIX_TO_POSTGRES_DAYS as i64 * 86_400;
/// The Julian day number of 2000-01-01.
pub const POSTGRES_EPOCH_JULIAN: i32 = 2_451_545;
/// First timestamp (4714-11-24 BC) and the first one past the end (294277-01-01).
pub const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
pub const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;
/// First date and the first one past the end (5874898-01-01).
pub const DATE_MIN: i32 = -POSTGRES_EPOCH_JULIAN;
pub const DATE_END: i32 = 2_147_483_494 - POSTGRES_EPOCH_JULIAN;

pub(crate) fn timestamp_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

pub(crate) fn date_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range")
}

pub(crate) fn interval_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

/// A civil date and time. `year` is astronomical: 0 is 1 BC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

impl Fields {
    /// Microseconds since midnight.
    pub fn time(&self) -> i64 {
        i64::from(self.hour) * USECS_PER_HOUR
            + i64::from(self.minute) * USECS_PER_MINUTE
            + i64::from(self.second) * USECS_PER_SEC
            + i64::from(self.micros)
    }
}

/// The system clock in microseconds since 2000-01-01 00:00 UTC.
pub fn now() -> i64 {
    let unix = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    };
    unix - UNIX_TO_POSTGRES_SECS * USECS_PER_SEC
}

pub fn is_leap_year(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap_year(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01 of a civil date (proleptic Gregorian; the date must exist). Counts years from March, so
/// that the leap day is the last of its year.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 0000-03-01 is 730,425 days before 2000-01-01.
    (era * 146_097 + day_of_era - 730_425) as i32
}

/// Year (astronomical), month, day of a day number; the inverse of [`days_from_civil`].
pub fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let shifted = i64::from(days) + 730_425;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

/// 0 is Sunday.
pub fn day_of_week(days: i32) -> u32 {
    (i64::from(days) + 6).rem_euclid(7) as u32
}

/// ISO year and week of a day.
pub fn iso_week(days: i32) -> (i32, u32) {
    // The week belongs to the year of its Thursday.
    let thursday = days - ((day_of_week(days) + 6) % 7) as i32 + 3;
    let (year, _, _) = civil_from_days(thursday);
    let first = days_from_civil(year, 1, 1);
    (year, ((thursday - first) / 7 + 1) as u32)
}

/// Monday of an ISO week.
pub fn iso_week_start(year: i32, week: i32) -> i32 {
    let fourth = days_from_civil(year, 1, 4);
    fourth - ((day_of_week(fourth) + 6) % 7) as i32 + (week - 1) * 7
}

pub fn is_finite_date(date: i32) -> bool {
    date != DATE_INFINITY && date != DATE_NEG_INFINITY
}

pub fn is_finite_timestamp(timestamp: i64) -> bool {
    timestamp != TIMESTAMP_INFINITY && timestamp != TIMESTAMP_NEG_INFINITY
}

/// Civil fields of a finite timestamp.
pub fn timestamp_fields(timestamp: i64) -> Fields {
    let days = timestamp.div_euclid(USECS_PER_DAY);
    let (year, month, day) = civil_from_days(days as i32);
    let mut fields = time_fields(timestamp.rem_euclid(USECS_PER_DAY));
    (fields.year, fields.month, fields.day) = (year, month, day);
    fields
}

/// Hour, minute, second and microseconds of a time of day; the date is zero.
pub fn time_fields(time: i64) -> Fields {
    Fields {
        hour: (time / USECS_PER_HOUR) as u32,
        minute: (time / USECS_PER_MINUTE % 60) as u32,
        second: (time / USECS_PER_SEC % 60) as u32,
        micros: (time % USECS_PER_SEC) as u32,
        ..Fields::default()
    }
}

/// Days and microseconds together; 22008 outside PostgreSQL's range.
pub fn timestamp_from_parts(days: i32, time: i64) -> Result<i64> {
    i64::from(days)
        .checked_mul(USECS_PER_DAY)
        .and_then(|micros| micros.checked_add(time))
        .filter(|t| (TIMESTAMP_MIN..TIMESTAMP_END).contains(t))
        .ok_or_else(timestamp_out_of_range)
}

/// 22008 when out of range; the fields themselves must be valid.
pub fn timestamp_from_fields(fields: &Fields) -> Result<i64> {
    if !(-4714..=294_277).contains(&fields.year) {
        return Err(timestamp_out_of_range());
    }
    timestamp_from_parts(days_from_civil(fields.year, fields.month, fields.day), fields.time())
}

fn check_timestamp(timestamp: i64) -> Result<i64> {
    if (TIMESTAMP_MIN..TIMESTAMP_END).contains(&timestamp) {
        Ok(timestamp)
    } else {
        Err(timestamp_out_of_range())
    }
}

/// The day number of a date given in parts; `None` when there is no such day or it is out of range. The year is astronomical.
pub fn checked_date(year: i32, month: i32, day: i32) -> Option<i32> {
    if !(-4714..=5_874_897).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    if day as u32 > days_in_month(year, month as u32) {
        return None;
    }
    let days = days_from_civil(year, month as u32, day as u32);
    (DATE_MIN..DATE_END).contains(&days).then_some(days)
}

/// Negative years are BC, there is no year 0. 22008.
pub fn make_date(year: i32, month: i32, day: i32) -> Result<i32> {
    let astronomical = if year < 0 { year.checked_add(1) } else { Some(year) };
    astronomical.filter(|_| year != 0).and_then(|y| checked_date(y, month, day)).ok_or_else(|| {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    })
}

/// Microseconds of the day; 24:00:00 is allowed. 22008.
pub fn make_time(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let out_of_range = || {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("time field value out of range: {hour}:{minute:02}:{second:02}"),
        )
    };
    let micros = (second * 1e6).round_ties_even();
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60_000_000.0).contains(&micros) {
        return Err(out_of_range());
    }
    let time = i64::from(hour) * USECS_PER_HOUR + i64::from(minute) * USECS_PER_MINUTE + micros as i64;
    if time > USECS_PER_DAY { Err(out_of_range()) } else { Ok(time) }
}

pub fn make_timestamp(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: f64) -> Result<i64> {
    timestamp_from_parts(make_date(year, month, day)?, make_time(hour, minute, second)?)
}

pub fn make_timestamptz(
    year: i32,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: f64,
    zone: &TimeZone,
) -> Result<i64> {
    from_local(make_timestamp(year, month, day, hour, minute, second)?, zone)
}

pub fn make_interval(
    years: i32,
    months: i32,
    weeks: i32,
    days: i32,
    hours: i32,
    mins: i32,
    secs: f64,
) -> Result<Interval> {
    let micros = secs * 1e6;
    if !micros.is_finite() || micros.abs() > 9e18 {
        return Err(interval_out_of_range());
    }
    let whole = |a: i32, factor: i32, b: i32| {
        a.checked_mul(factor).and_then(|a| a.checked_add(b)).ok_or_else(interval_out_of_range)
    };
    let time = i64::from(hours) * USECS_PER_HOUR + i64::from(mins) * USECS_PER_MINUTE;
    Ok(Interval {
        months: whole(years, 12, months)?,
        days: whole(weeks, 7, days)?,
        micros: time.checked_add(micros.round_ties_even() as i64).ok_or_else(interval_out_of_range)?,
    })
}

/// Rounds to `precision` digits of a second (half away from zero), for time, timestamp and interval typmods.
pub fn round_micros(micros: i64, precision: i32) -> i64 {
    const UNITS: [i64; 6] = [1_000_000, 100_000, 10_000, 1000, 100, 10];
    let Some(&unit) = usize::try_from(precision).ok().and_then(|at| UNITS.get(at)) else { return micros };
    let half = if micros < 0 { -unit / 2 } else { unit / 2 };
    micros.saturating_add(half) / unit * unit
}

/// The zone abbreviations that PostgreSQL's default set knows, in seconds east.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("acdt", 37_800),
    ("acst", 34_200),
    ("adt", -10_800),
    ("aedt", 39_600),
    ("aest", 36_000),
    ("akdt", -28_800),
    ("akst", -32_400),
    ("art", -10_800),
    ("ast", -14_400),
    ("awst", 28_800),
    ("bdt", 21_600),
    ("brt", -10_800),
    ("bst", 3600),
    ("cadt", 37_800),
    ("cdt", -18_000),
    ("cest", 7200),
    ("cet", 3600),
    ("cetdst", 7200),
    ("clt", -14_400),
    ("cst", -21_600),
    ("eat", 10_800),
    ("edt", -14_400),
    ("eest", 10_800),
    ("eet", 7200),
    ("eetdst", 10_800),
    ("est", -18_000),
    ("gmt", 0),
    ("hkt", 28_800),
    ("hst", -36_000),
    ("idt", 10_800),
    ("ist", 7200),
    ("jst", 32_400),
    ("kst", 32_400),
    ("mdt", -21_600),
    ("mest", 7200),
    ("mesz", 7200),
    ("met", 3600),
    ("metdst", 7200),
    ("mez", 3600),
    ("msk", 10_800),
    ("mst", -25_200),
    ("ndt", -9000),
    ("nst", -12_600),
    ("nzdt", 46_800),
    ("nzst", 43_200),
    ("pdt", -25_200),
    ("pht", 28_800),
    ("pkt", 18_000),
    ("pst", -28_800),
    ("sast", 7200),
    ("sgt", 28_800),
    ("ut", 0),
    ("utc", 0),
    ("uct", 0),
    ("west", 3600),
    ("wet", 0),
    ("wetdst", 3600),
    ("z", 0),
    ("zulu", 0),
];

/// Seconds east of Greenwich of a zone abbreviation such as `EST`, in any case.
pub fn abbreviation_offset(name: &str) -> Option<i32> {
    ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, offset)| *offset)
}

/// Every abbreviation with its seconds east, for `pg_timezone_abbrevs`.
pub fn abbreviations() -> &'static [(&'static str, i32)] {
    ABBREVIATIONS
}

/// A zone that is always `seconds` east of Greenwich; 22023 beyond a day and a bit.
pub fn fixed_zone(seconds: i32) -> Result<TimeZone> {
    if seconds == 0 {
        return Ok(TimeZone::UTC);
    }
    jiff::tz::Offset::from_seconds(seconds)
        .map(TimeZone::fixed)
        .map_err(|_| Error::new(SqlState::INVALID_PARAMETER_VALUE, "time zone displacement out of range"))
}

/// A zone by IANA name (any case), abbreviation or POSIX rule (`UTC+3` and a bare `+3` are *west*, as in
/// `AT TIME ZONE`); 22023.
pub fn parse_zone(name: &str) -> Result<TimeZone> {
    let not_recognized =
        || Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"));
    if let Some(offset) = abbreviation_offset(name) {
        return fixed_zone(offset);
    }
    if let Ok(zone) = jiff::tz::db().get(name) {
        return Ok(zone);
    }
    if let Some(west) = posix_offset(name) {
        return fixed_zone(-west);
    }
    TimeZone::posix(name).map_err(|_| not_recognized())
}

/// The value of the TimeZone setting: as [`parse_zone`], but a plain number is hours *east*.
pub fn parse_zone_setting(name: &str) -> Result<TimeZone> {
    if let Ok(hours) = name.trim().parse::<f64>()
        && hours.abs() <= 167.0
    {
        return fixed_zone((hours * 3600.0) as i32);
    }
    // Abbreviations are no settings in PostgreSQL, except those that are zone names as well.
    if let Ok(zone) = jiff::tz::db().get(name) {
        return Ok(zone);
    }
    parse_zone(name)
}

/// The zone's name as SHOW prints it.
pub fn zone_name(zone: &TimeZone) -> String {
    if let Some(name) = zone.iana_name() {
        return name.to_string();
    }
    match zone.to_fixed_offset() {
        Ok(offset) => {
            let seconds = offset.seconds();
            let shown = offset_text(seconds);
            format!("<{shown}>{}", offset_text(-seconds))
        }
        Err(_) => "UTC".to_string(),
    }
}

fn offset_text(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    if minutes == 0 { format!("{sign}{hours:02}") } else { format!("{sign}{hours:02}:{minutes:02}") }
}

/// `+3`, `-03:30`, `UTC+3`, `<+03>-3`: the number after the name, in seconds.
fn posix_offset(name: &str) -> Option<i32> {
    let rest = match name.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => name.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let (sign, digits) = match rest.as_bytes().first()? {
        b'-' => (-1, &rest[1..]),
        b'+' => (1, &rest[1..]),
        b'0'..=b'9' => (1, rest),
        _ => return None,
    };
    let mut seconds = 0;
    let mut parts = digits.split(':');
    for unit in [3600, 60, 1] {
        match parts.next() {
            Some(part) if !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()) => {
                seconds += part.parse::<i32>().ok()? * unit;
            }
            Some(_) => return None,
            None => break,
        }
    }
    if parts.next().is_some() || seconds > 167 * 3600 {
        return None;
    }
    Some(sign * seconds)
}

/// 400 Gregorian years have the same number of days and weeks each.
const CYCLE_SECS: i64 = 146_097 * 86_400;
/// jiff's last second, with room for any offset.
const JIFF_LAST_SECS: i64 = 253_402_000_000;

fn jiff_timestamp(unix_seconds: i64) -> jiff::Timestamp {
    let seconds = if unix_seconds > JIFF_LAST_SECS {
        unix_seconds - (unix_seconds - JIFF_LAST_SECS + CYCLE_SECS - 1) / CYCLE_SECS * CYCLE_SECS
    } else {
        unix_seconds
    };
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn unix_seconds(timestamptz: i64) -> i64 {
    timestamptz.div_euclid(USECS_PER_SEC) + UNIX_TO_POSTGRES_SECS
}

/// Seconds east of Greenwich that `zone` has at a timestamptz.
pub fn zone_offset(zone: &TimeZone, timestamptz: i64) -> i32 {
    if let Ok(offset) = zone.to_fixed_offset() {
        return offset.seconds();
    }
    zone.to_offset(jiff_timestamp(unix_seconds(timestamptz))).seconds()
}

/// The abbreviation in force, as `TZ` in to_char prints it; numeric zones give their offset.
pub fn zone_abbreviation(zone: &TimeZone, timestamptz: i64) -> String {
    zone.to_offset_info(jiff_timestamp(unix_seconds(timestamptz))).abbreviation().to_string()
}

/// Whether daylight saving time is in force, for `pg_timezone_names`.
pub fn zone_is_dst(zone: &TimeZone, timestamptz: i64) -> bool {
    zone.to_offset_info(jiff_timestamp(unix_seconds(timestamptz))).dst().is_dst()
}

/// Seconds east that `zone` has at a local time. In the gap of spring the offset before it counts, in the repeated
/// hour of autumn the one after it (standard time both times), as PostgreSQL decides.
pub fn local_offset(zone: &TimeZone, timestamp: i64) -> i32 {
    if let Ok(offset) = zone.to_fixed_offset() {
        return offset.seconds();
    }
    let mut fields = timestamp_fields(timestamp);
    if fields.year > 9990 {
        fields.year -= (fields.year - 9990 + 399) / 400 * 400;
    }
    let civil = jiff::civil::DateTime::new(
        fields.year as i16,
        fields.month as i8,
        fields.day as i8,
        fields.hour as i8,
        fields.minute as i8,
        fields.second as i8,
        fields.micros as i32 * 1000,
    );
    let Ok(civil) = civil else { return 0 };
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.seconds(),
        AmbiguousOffset::Gap { before, .. } => before.seconds(),
        AmbiguousOffset::Fold { after, .. } => after.seconds(),
    }
}

/// timestamptz -> the local timestamp that clocks in `zone` show. Infinities stay.
pub fn to_local(timestamptz: i64, zone: &TimeZone) -> Result<i64> {
    if !is_finite_timestamp(timestamptz) {
        return Ok(timestamptz);
    }
    let offset = i64::from(zone_offset(zone, timestamptz)) * USECS_PER_SEC;
    check_timestamp(timestamptz.saturating_add(offset))
}

/// Local timestamp in `zone` -> timestamptz (see [`local_offset`]). Infinities stay.
pub fn from_local(timestamp: i64, zone: &TimeZone) -> Result<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    let offset = i64::from(local_offset(zone, timestamp)) * USECS_PER_SEC;
    check_timestamp(timestamp.saturating_sub(offset))
}

/// Midnight; infinities stay, 22008 for dates past the timestamps' range.
pub fn date_to_timestamp(date: i32) -> Result<i64> {
    match date {
        DATE_INFINITY => Ok(TIMESTAMP_INFINITY),
        DATE_NEG_INFINITY => Ok(TIMESTAMP_NEG_INFINITY),
        _ => timestamp_from_parts(date, 0)
            .map_err(|_| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")),
    }
}

pub fn timestamp_to_date(timestamp: i64) -> i32 {
    match timestamp {
        TIMESTAMP_INFINITY => DATE_INFINITY,
        TIMESTAMP_NEG_INFINITY => DATE_NEG_INFINITY,
        _ => timestamp.div_euclid(USECS_PER_DAY) as i32,
    }
}

/// Microseconds of the day.
pub fn timestamp_to_time(timestamp: i64) -> i64 {
    timestamp.rem_euclid(USECS_PER_DAY)
}

/// Midnight in `zone`.
pub fn date_to_timestamptz(date: i32, zone: &TimeZone) -> Result<i64> {
    from_local(date_to_timestamp(date)?, zone)
}

pub fn date_plus_days(date: i32, days: i32) -> Result<i32> {
    if !is_finite_date(date) {
        return Ok(date);
    }
    date.checked_add(days).filter(|d| (DATE_MIN..DATE_END).contains(d)).ok_or_else(date_out_of_range)
}

/// Days between two finite dates; 22008 for infinite ones.
pub fn date_minus_date(a: i32, b: i32) -> Result<i32> {
    if !is_finite_date(a) || !is_finite_date(b) {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite dates"));
    }
    Ok(a - b)
}

/// Adds months (the day is cut to the month's length), then days, to a local timestamp.
fn plus_months_days(timestamp: i64, months: i32, days: i32) -> Result<i64> {
    let mut result = timestamp;
    if months != 0 {
        let mut fields = timestamp_fields(result);
        let total = i64::from(fields.year) * 12 + i64::from(fields.month) - 1 + i64::from(months);
        fields.year = i32::try_from(total.div_euclid(12)).map_err(|_| timestamp_out_of_range())?;
        fields.month = total.rem_euclid(12) as u32 + 1;
        fields.day = fields.day.min(days_in_month(fields.year, fields.month));
        result = timestamp_from_fields(&fields)?;
    }
    if days != 0 {
        result = i64::from(days)
            .checked_mul(USECS_PER_DAY)
            .and_then(|micros| result.checked_add(micros))
            .ok_or_else(timestamp_out_of_range)?;
        check_timestamp(result)?;
    }
    Ok(result)
}

/// Months first (the day is cut to the month's length), then days, then time. Infinities stay.
pub fn timestamp_plus_interval(timestamp: i64, interval: Interval) -> Result<i64> {
    if !is_finite_timestamp(timestamp) {
        return Ok(timestamp);
    }
    let day = plus_months_days(timestamp, interval.months, interval.days)?;
    day.checked_add(interval.micros).ok_or_else(timestamp_out_of_range).and_then(check_timestamp)
}

pub fn timestamp_minus_interval(timestamp: i64, interval: Interval) -> Result<i64> {
    timestamp_plus_interval(timestamp, interval.negate()?)
}

/// Months and days move the local clock of `zone`, the time part real time.
pub fn timestamptz_plus_interval(timestamptz: i64, interval: Interval, zone: &TimeZone) -> Result<i64> {
    if !is_finite_timestamp(timestamptz) {
        return Ok(timestamptz);
    }
    let mut result = timestamptz;
    if interval.months != 0 || interval.days != 0 {
        let local = to_local(timestamptz, zone)?;
        result = from_local(plus_months_days(local, interval.months, interval.days)?, zone)?;
    }
    result.checked_add(interval.micros).ok_or_else(timestamp_out_of_range).and_then(check_timestamp)
}

pub fn timestamptz_minus_interval(timestamptz: i64, interval: Interval, zone: &TimeZone) -> Result<i64> {
    timestamptz_plus_interval(timestamptz, interval.negate()?, zone)
}

/// Wraps around midnight; only the time part of the interval counts.
pub fn time_plus_interval(time: i64, interval: Interval) -> i64 {
    (time + interval.micros % USECS_PER_DAY).rem_euclid(USECS_PER_DAY)
}

/// `a - b`: whole days and time, no months; 22008 for infinities.
pub fn timestamp_minus_timestamp(a: i64, b: i64) -> Result<Interval> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(interval_out_of_range)?;
    Interval { months: 0, days: 0, micros }.justify_hours()
}

/// `age(a, b)`: years, months, days and time by civil fields. For timestamptz pass local timestamps.
pub fn age(a: i64, b: i64) -> Result<Interval> {
    if !is_finite_timestamp(a) || !is_finite_timestamp(b) {
        return Err(timestamp_out_of_range());
    }
    let negative = a < b;
    let (later, earlier) = if negative { (b, a) } else { (a, b) };
    let (x, y) = (timestamp_fields(later), timestamp_fields(earlier));
    let mut months = (i64::from(x.year) - i64::from(y.year)) * 12 + i64::from(x.month) - i64::from(y.month);
    let mut days = x.day as i32 - y.day as i32;
    let mut micros = x.time() - y.time();
    if micros < 0 {
        micros += USECS_PER_DAY;
        days -= 1;
    }
    while days < 0 {
        // The borrowed month is the one the earlier of the arguments lies in.
        days += days_in_month(y.year, y.month) as i32;
        months -= 1;
    }
    let months = i32::try_from(months).map_err(|_| interval_out_of_range())?;
    let age = Interval { months, days, micros };
    if negative { age.negate() } else { Ok(age) }
}

#[cfg(test)]
mod tests;
