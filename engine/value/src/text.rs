//! Text forms.
use crate::datetime::TimeZone;
use crate::types::{Oid, Type};
use crate::{Datum, Error, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFormat { Iso, Sql, Postgres, German }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder { Mdy, Dmy, Ymd }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateStyle { pub format: DateFormat, pub order: DateOrder }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStyle { Postgres, PostgresVerbose, SqlStandard, Iso8601 }

/// What a session's settings change about text forms. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Style {
    pub date_style: DateStyle,
    pub interval_style: IntervalStyle,
    pub time_zone: TimeZone,
    pub extra_float_digits: i32,
    /// `bytea_output = hex`.
    pub bytea_hex: bool,
    /// What 'now' and 'today' mean: the transaction's start (timestamptz); `None` is the system clock.
    pub now: Option<i64>,
}
impl Default for Style {
    fn default() -> Style {
        Style {
            date_style: DateStyle { format: DateFormat::Iso, order: DateOrder::Mdy },
            interval_style: IntervalStyle::Postgres,
            time_zone: TimeZone::UTC,
            extra_float_digits: 1,
            bytea_hex: true,
            now: None,
        }
    }
}
/// The value that `text` stands for, with the typmod applied as an assignment does.
pub fn input(_ty: Type, _text: &str, _style: &Style) -> Result<Datum> {
    Err(Error::new(SqlState::INTERNAL_ERROR, "pending"))
}
/// Appends the text form; NULL appends nothing.
pub fn output(_value: &Datum, _ty: Oid, _style: &Style, _out: &mut Vec<u8>) {}
pub fn output_string(value: &Datum, ty: Oid, style: &Style) -> String {
    let mut out = Vec::new();
    output(value, ty, style, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
/// Fits a value to a typmod as a cast does: explicit casts cut strings silently, assignments fail (22001).
pub fn apply_typmod(value: Datum, _ty: Type, _explicit: bool) -> Result<Datum> { Ok(value) }
