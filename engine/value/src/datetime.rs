//! Dates and times.
use crate::{Error, Interval, Numeric, Result, SqlState};
pub use jiff::tz::TimeZone;

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

fn pending<T>() -> Result<T> {
    Err(Error::new(SqlState::INTERNAL_ERROR, "pending"))
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

/// The system clock in microseconds since 2000-01-01 00:00 UTC.
pub fn now() -> i64 { 0 }
/// Days since 2000-01-01 of a civil date (proleptic Gregorian; the date must exist).
pub fn days_from_civil(_year: i32, _month: u32, _day: u32) -> i32 { 0 }
/// Year (astronomical), month, day.
pub fn civil_from_days(_days: i32) -> (i32, u32, u32) { (0, 0, 0) }
pub fn days_in_month(_year: i32, _month: u32) -> u32 { 31 }
pub fn timestamp_fields(_timestamp: i64) -> Fields { Fields::default() }
/// 22008 when out of range.
pub fn timestamp_from_fields(_fields: &Fields) -> Result<i64> { pending() }
pub fn make_date(_year: i32, _month: i32, _day: i32) -> Result<i32> { pending() }
pub fn make_time(_hour: i32, _minute: i32, _second: f64) -> Result<i64> { pending() }
pub fn make_timestamp(_y: i32, _mo: i32, _d: i32, _h: i32, _mi: i32, _s: f64) -> Result<i64> { pending() }
pub fn make_timestamptz(_y: i32, _mo: i32, _d: i32, _h: i32, _mi: i32, _s: f64, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn make_interval(_years: i32, _months: i32, _weeks: i32, _days: i32, _hours: i32, _mins: i32, _secs: f64) -> Result<Interval> { pending() }
/// Rounds to `precision` digits of a second (half away from zero), for time, timestamp and interval typmods.
pub fn round_micros(micros: i64, _precision: i32) -> i64 { micros }
/// A zone by IANA name, abbreviation, POSIX offset ('UTC+3') or number; 22023.
pub fn parse_zone(_name: &str) -> Result<TimeZone> { pending() }
/// Seconds east of Greenwich that `zone` has at a timestamptz.
pub fn zone_offset(_zone: &TimeZone, _timestamptz: i64) -> i32 { 0 }
/// Name or abbreviation in force, as `%Z` prints it.
pub fn zone_abbreviation(_zone: &TimeZone, _timestamptz: i64) -> String { String::new() }
/// timestamptz -> the local timestamp shown by clocks in `zone`.
pub fn to_local(timestamptz: i64, _zone: &TimeZone) -> Result<i64> { Ok(timestamptz) }
/// local timestamp in `zone` -> timestamptz (gaps and folds as PostgreSQL: standard time).
pub fn from_local(timestamp: i64, _zone: &TimeZone) -> Result<i64> { Ok(timestamp) }
pub fn date_to_timestamp(_date: i32) -> Result<i64> { pending() }
pub fn timestamp_to_date(_timestamp: i64) -> i32 { 0 }
/// Microseconds of the day.
pub fn timestamp_to_time(_timestamp: i64) -> i64 { 0 }
pub fn date_to_timestamptz(_date: i32, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn date_plus_days(_date: i32, _days: i32) -> Result<i32> { pending() }
pub fn date_minus_date(_a: i32, _b: i32) -> Result<i32> { pending() }
pub fn timestamp_plus_interval(_timestamp: i64, _interval: Interval) -> Result<i64> { pending() }
pub fn timestamp_minus_interval(_timestamp: i64, _interval: Interval) -> Result<i64> { pending() }
pub fn timestamptz_plus_interval(_t: i64, _interval: Interval, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn timestamptz_minus_interval(_t: i64, _interval: Interval, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn time_plus_interval(_time: i64, _interval: Interval) -> i64 { 0 }
/// `a - b` for timestamps: days and time, no months.
pub fn timestamp_minus_timestamp(_a: i64, _b: i64) -> Result<Interval> { pending() }
/// `age(a, b)`: years, months, days, time. For timestamptz pass local timestamps.
pub fn age(_a: i64, _b: i64) -> Result<Interval> { pending() }
/// `extract(field from timestamp)`; `None` is SQL NULL (infinite values). 22023 for unknown fields.
pub fn extract_timestamp(_field: &str, _timestamp: i64) -> Result<Option<Numeric>> { pending() }
pub fn extract_timestamptz(_field: &str, _t: i64, _zone: &TimeZone) -> Result<Option<Numeric>> { pending() }
pub fn extract_date(_field: &str, _date: i32) -> Result<Option<Numeric>> { pending() }
pub fn extract_time(_field: &str, _time: i64) -> Result<Option<Numeric>> { pending() }
pub fn extract_interval(_field: &str, _interval: Interval) -> Result<Option<Numeric>> { pending() }
pub fn trunc_timestamp(_field: &str, _timestamp: i64) -> Result<i64> { pending() }
pub fn trunc_timestamptz(_field: &str, _t: i64, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn trunc_interval(_field: &str, _interval: Interval) -> Result<Interval> { pending() }
/// `date_bin(stride, source, origin)`.
pub fn bin_timestamp(_stride: Interval, _source: i64, _origin: i64) -> Result<i64> { pending() }
