//! to_char, to_date, to_timestamp, to_number.
use crate::datetime::TimeZone;
use crate::{Error, Interval, Numeric, Result, SqlState};
fn pending<T>() -> Result<T> {
    Err(Error::new(SqlState::INTERNAL_ERROR, "pending"))
}
/// `to_char(timestamp, pattern)`.
pub fn timestamp_to_char(_timestamp: i64, _pattern: &str) -> Result<String> { pending() }
pub fn timestamptz_to_char(_t: i64, _pattern: &str, _zone: &TimeZone) -> Result<String> { pending() }
pub fn interval_to_char(_interval: Interval, _pattern: &str) -> Result<String> { pending() }
/// `to_char(number, pattern)` for integers and numerics.
pub fn numeric_to_char(_value: &Numeric, _pattern: &str) -> Result<String> { pending() }
pub fn float_to_char(_value: f64, _pattern: &str) -> Result<String> { pending() }
/// `to_date(text, pattern)`: days.
pub fn to_date(_text: &str, _pattern: &str) -> Result<i32> { pending() }
/// `to_timestamp(text, pattern)`: timestamptz.
pub fn to_timestamp(_text: &str, _pattern: &str, _zone: &TimeZone) -> Result<i64> { pending() }
pub fn to_number(_text: &str, _pattern: &str) -> Result<Numeric> { pending() }
