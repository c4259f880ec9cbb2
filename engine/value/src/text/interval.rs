//! Intervals: PostgreSQL's units (`1 year 2 days ago`), clock times, SQL's `1-2 3 4:05:06`, ISO 8601 `P1Y2M`; and the
//! four output styles.

use super::{IntervalStyle, date_output, is_blank};
use crate::datetime::{USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use crate::types::{interval_field, interval_fields};
use crate::{Error, Interval, Result, SqlState};

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
    Year,
    Decade,
    Century,
    Millennium,
}

fn unit(word: &str) -> Option<Unit> {
    use Unit::*;
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" | "microsecond" | "microseconds" => {
            Microsecond
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" | "millisecond" | "milliseconds" => {
            Millisecond
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Hour,
        "d" | "day" | "days" => Day,
        "w" | "week" | "weeks" => Week,
        "mon" | "mons" | "month" | "months" => Month,
        "y" | "yr" | "yrs" | "year" | "years" => Year,
        "dec" | "decs" | "decade" | "decades" => Decade,
        "c" | "cent" | "century" | "centuries" => Century,
        "mil" | "mils" | "millennia" | "millennium" | "millenium" => Millennium,
        _ => return None,
    })
}

/// A sum in the making; `None` from any step means overflow.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

impl Sum {
    fn micros(&mut self, whole: i64, fraction: f64, unit: i64) -> Option<()> {
        let part = (fraction * unit as f64).round_ties_even() as i64;
        self.micros = self.micros.checked_add(whole.checked_mul(unit)?)?.checked_add(part)?;
        Some(())
    }

    fn days(&mut self, whole: i64, fraction: f64, unit: i64) -> Option<()> {
        let part = fraction * unit as f64;
        self.days = self.days.checked_add(whole.checked_mul(unit)?)?.checked_add(part.trunc() as i64)?;
        self.micros(0, part.fract(), USECS_PER_DAY)
    }

    fn months(&mut self, whole: i64, fraction: f64, unit: i64) -> Option<()> {
        self.months = self.months.checked_add(whole.checked_mul(unit)?)?;
        if unit == 1 {
            // A fraction of a month is so many of 30 days.
            return self.days(0, fraction, 30);
        }
        self.months = self.months.checked_add((fraction * unit as f64).round_ties_even() as i64)?;
        Some(())
    }

    fn add(&mut self, unit: Unit, whole: i64, fraction: f64) -> Option<()> {
        match unit {
            Unit::Microsecond => self.micros(whole, fraction, 1),
            Unit::Millisecond => self.micros(whole, fraction, 1000),
            Unit::Second => self.micros(whole, fraction, USECS_PER_SEC),
            Unit::Minute => self.micros(whole, fraction, USECS_PER_MINUTE),
            Unit::Hour => self.micros(whole, fraction, USECS_PER_HOUR),
            Unit::Day => self.days(whole, fraction, 1),
            Unit::Week => self.days(whole, fraction, 7),
            Unit::Month => self.months(whole, fraction, 1),
            Unit::Year => self.months(whole, fraction, 12),
            Unit::Decade => self.months(whole, fraction, 120),
            Unit::Century => self.months(whole, fraction, 1200),
            Unit::Millennium => self.months(whole, fraction, 12_000),
        }
    }

    fn finish(self, ago: bool) -> Option<Interval> {
        let sign = if ago { -1 } else { 1 };
        Some(Interval {
            months: i32::try_from(self.months.checked_mul(sign)?).ok()?,
            days: i32::try_from(self.days.checked_mul(sign)?).ok()?,
            micros: self.micros.checked_mul(sign)?,
        })
    }
}

/// A decimal number: sign, whole part, signed fraction. `None` for no number, `Some(Err)` for too large ones.
fn number(text: &str) -> Option<Result<(i64, f64), ()>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: i64 = match whole {
        "" => 0,
        _ => match whole.parse() {
            Ok(whole) => whole,
            Err(_) => return Some(Err(())),
        },
    };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().unwrap_or(0.0) };
    Some(Ok(if negative { (-whole, -fraction) } else { (whole, fraction) }))
}

/// The unit of a number without one: what `interval <fields>` ends with, seconds by default.
fn default_unit(typmod: i32) -> Unit {
    use interval_field as f;
    let fields = interval_fields(typmod);
    if fields == f::FULL_RANGE || fields & f::SECOND != 0 {
        Unit::Second
    } else if fields & f::MINUTE != 0 {
        Unit::Minute
    } else if fields & f::HOUR != 0 {
        Unit::Hour
    } else if fields & f::DAY != 0 {
        Unit::Day
    } else if fields & f::MONTH != 0 {
        Unit::Month
    } else {
        Unit::Year
    }
}

impl Unit {
    /// Its bit among the fields an interval may name once; a fraction of a second also stands for the smaller units.
    fn bit(self, fraction: bool) -> u32 {
        match self {
            Unit::Second if fraction => ALL_SECONDS,
            unit => 1 << unit as u32,
        }
    }
}

const ALL_SECONDS: u32 =
    1 << Unit::Microsecond as u32 | 1 << Unit::Millisecond as u32 | 1 << Unit::Second as u32;
const CLOCK: u32 = ALL_SECONDS | 1 << Unit::Minute as u32 | 1 << Unit::Hour as u32;

/// Notes the fields in `bits`; each may come once.
fn once(seen: &mut u32, bits: u32) -> Result<(), Failure> {
    if *seen & bits != 0 {
        return Err(Failure::Syntax);
    }
    *seen |= bits;
    Ok(())
}

enum Failure {
    Syntax,
    Overflow,
}

/// Reads an interval; the typmod decides the unit of a bare number (and is not applied otherwise). 22007 for
/// syntax, 22015 when a field overflows.
pub fn parse_interval(text: &str, typmod: i32, style: IntervalStyle) -> Result<Interval> {
    let trimmed = text.trim_matches(is_blank);
    let result = if trimmed.starts_with(['P', 'p']) && trimmed.len() > 1 {
        iso(&trimmed.to_ascii_uppercase()[1..])
    } else {
        fields(&trimmed.to_ascii_lowercase(), typmod, style)
    };
    result.map_err(|failure| match failure {
        Failure::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        ),
        Failure::Overflow => Error::new(
            SqlState::INTERVAL_FIELD_OVERFLOW,
            format!("interval field value out of range: \"{text}\""),
        ),
    })
}

/// Splits into numbers, clock times and words: `1y2mon` is four tokens, `-1-2` and `4:05:06.7` are one each.
fn tokens(text: &str) -> Result<Vec<&str>, Failure> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            byte if is_blank(char::from(byte)) || byte == b',' => {
                at += 1;
                continue;
            }
            b'@' => {
                at += 1;
                continue;
            }
            b'+' | b'-' | b'.' | b'0'..=b'9' => {
                at += 1;
                // A sign may stand apart from its number.
                if matches!(bytes[start], b'+' | b'-') {
                    while bytes.get(at).is_some_and(|b| is_blank(char::from(*b))) {
                        at += 1;
                    }
                }
                while bytes.get(at).is_some_and(|b| b.is_ascii_digit() || matches!(b, b'.' | b':' | b'-')) {
                    at += 1;
                }
            }
            b'a'..=b'z' => {
                while bytes.get(at).is_some_and(u8::is_ascii_alphabetic) {
                    at += 1;
                }
            }
            _ => return Err(Failure::Syntax),
        }
        found.push(&text[start..at]);
    }
    Ok(found)
}

fn fields(text: &str, typmod: i32, style: IntervalStyle) -> Result<Interval, Failure> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err(Failure::Syntax);
    }
    // In the SQL standard's style one leading sign counts for the whole value.
    let leading_minus = style == IntervalStyle::SqlStandard
        && tokens[0].starts_with('-')
        && tokens[1..].iter().all(|token| !token.starts_with(['-', '+']));
    let mut sum = Sum::default();
    let mut seen = 0;
    let mut ago = false;
    let mut at = 0;
    let overflow = |step: Option<()>| step.ok_or(Failure::Overflow);
    while at < tokens.len() {
        let token = tokens[at];
        at += 1;
        if token == "ago" {
            if at != tokens.len() {
                return Err(Failure::Syntax);
            }
            ago = true;
            continue;
        }
        let first = token.as_bytes()[0];
        if first.is_ascii_alphabetic() {
            return Err(Failure::Syntax);
        }
        let compact: String = token.chars().filter(|c| !is_blank(*c)).collect();
        let negative = compact.starts_with('-') || (leading_minus && at > 1);
        let body = compact.trim_start_matches(['+', '-']);
        if compact.len() > body.len() + 1 {
            return Err(Failure::Syntax);
        }
        if body.contains(':') {
            once(&mut seen, CLOCK)?;
            let micros = clock(body, typmod)?;
            let micros = if negative { -micros } else { micros };
            sum.micros = sum.micros.checked_add(micros).ok_or(Failure::Overflow)?;
            // `1:00:00 hours` is tolerated by nobody: a unit after a clock time is an error below.
            continue;
        }
        if let Some((years, months)) = body.split_once('-') {
            let years = number(years).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow)?;
            let months = number(months).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow)?;
            if years.1 != 0.0 || months.1 != 0.0 {
                return Err(Failure::Syntax);
            }
            if months.0 >= 12 {
                return Err(Failure::Overflow);
            }
            once(&mut seen, Unit::Month.bit(false))?;
            let sign = if negative { -1 } else { 1 };
            overflow(sum.add(Unit::Year, sign * years.0, 0.0))?;
            overflow(sum.add(Unit::Month, sign * months.0, 0.0))?;
            continue;
        }
        let (mut whole, mut fraction) =
            number(body).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow)?;
        if negative {
            (whole, fraction) = (-whole, -fraction);
        }
        let next = tokens.get(at).copied();
        let named = next.filter(|next| next.as_bytes()[0].is_ascii_alphabetic() && *next != "ago");
        let which = match (named, next) {
            (Some(word), _) => {
                at += 1;
                unit(word).ok_or(Failure::Syntax)?
            }
            (None, Some("ago")) => return Err(Failure::Syntax),
            // `3 4:05:06`: a bare number before a clock time is days.
            (None, Some(next)) if next.contains(':') => Unit::Day,
            _ => default_unit(typmod),
        };
        once(&mut seen, which.bit(fraction != 0.0))?;
        overflow(sum.add(which, whole, fraction))?;
    }
    sum.finish(ago).ok_or(Failure::Overflow)
}

/// `h:m`, `h:m:s.f`; with `interval minute to second` two parts are minutes and seconds.
fn clock(body: &str, typmod: i32) -> Result<i64, Failure> {
    let parts: Vec<&str> = body.split(':').collect();
    let int = |part: &str| -> Result<i64, Failure> {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Failure::Syntax);
        }
        part.parse().map_err(|_| Failure::Overflow)
    };
    let seconds = |part: &str| -> Result<i64, Failure> {
        let (whole, fraction) = number(part).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow)?;
        let micros = (fraction * 1e6).round_ties_even() as i64;
        if whole >= 60 {
            return Err(Failure::Overflow);
        }
        Ok(whole * USECS_PER_SEC + micros)
    };
    use interval_field as f;
    let (hours, minutes, micros) = match parts.as_slice() {
        [minutes, rest] if rest.contains('.') || interval_fields(typmod) == f::MINUTE | f::SECOND => {
            (0, int(minutes)?, seconds(rest)?)
        }
        [hours, minutes] => (int(hours)?, int(minutes)?, 0),
        [hours, minutes, rest] => (int(hours)?, int(minutes)?, seconds(rest)?),
        _ => return Err(Failure::Syntax),
    };
    if minutes >= 60 && parts.len() == 3 {
        return Err(Failure::Overflow);
    }
    hours
        .checked_mul(USECS_PER_HOUR)
        .and_then(|time| time.checked_add(minutes.checked_mul(USECS_PER_MINUTE)?))
        .and_then(|time| time.checked_add(micros))
        .ok_or(Failure::Overflow)
}

/// ISO 8601 after the P: designators `1Y2M3DT4H5M6S`, or the alternative `0001-02-03T04:05:06`.
fn iso(text: &str) -> Result<Interval, Failure> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut sum = Sum::default();
    if text.is_empty() || time == Some("") {
        return Err(Failure::Syntax);
    }
    let mut part = |text: &str, in_time: bool| -> Result<(), Failure> {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
                .unwrap_or(rest.len());
            let (whole, fraction) =
                number(&rest[..end]).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow)?;
            let unit = match (rest[end..].chars().next(), in_time) {
                (Some('Y'), false) => Unit::Year,
                (Some('M'), false) => Unit::Month,
                (Some('W'), false) => Unit::Week,
                (Some('D'), false) => Unit::Day,
                (Some('H'), true) => Unit::Hour,
                (Some('M'), true) => Unit::Minute,
                (Some('S'), true) => Unit::Second,
                _ => return Err(Failure::Syntax),
            };
            sum.add(unit, whole, fraction).ok_or(Failure::Overflow)?;
            rest = &rest[end + 1..];
        }
        Ok(())
    };
    let alternative = !text.contains(['Y', 'M', 'W', 'D', 'H', 'S']);
    if !alternative {
        part(date, false)?;
        part(time.unwrap_or(""), true)?;
    } else {
        let units = [Unit::Year, Unit::Month, Unit::Day];
        let value = |text: &str| number(text).ok_or(Failure::Syntax)?.map_err(|()| Failure::Overflow);
        if !date.is_empty() {
            let parts: Vec<&str> = date.split('-').collect();
            if parts.len() > 3 {
                return Err(Failure::Syntax);
            }
            for (unit, text) in units.into_iter().zip(parts) {
                let (whole, fraction) = value(text)?;
                sum.add(unit, whole, fraction).ok_or(Failure::Overflow)?;
            }
        }
        if let Some(time) = time {
            let parts: Vec<&str> = time.split(':').collect();
            if parts.len() > 3 {
                return Err(Failure::Syntax);
            }
            for (unit, text) in [Unit::Hour, Unit::Minute, Unit::Second].into_iter().zip(parts) {
                let (whole, fraction) = value(text)?;
                sum.add(unit, whole, fraction).ok_or(Failure::Overflow)?;
            }
        }
    }
    sum.finish(false).ok_or(Failure::Overflow)
}

/// Hours, minutes, seconds, microseconds, all with the sign of the whole.
fn clock_parts(micros: i64) -> (i64, i64, i64, i64) {
    (
        micros / USECS_PER_HOUR,
        micros / USECS_PER_MINUTE % 60,
        micros / USECS_PER_SEC % 60,
        micros % USECS_PER_SEC,
    )
}

/// Seconds with their fraction; `width` 2 pads.
fn seconds(out: &mut String, second: i64, micros: i64, pad: bool) {
    let second = second.unsigned_abs();
    if pad {
        out.push_str(&format!("{second:02}"));
    } else {
        out.push_str(&second.to_string());
    }
    let mut fraction = Vec::new();
    date_output::fraction(micros.unsigned_abs() as u32, &mut fraction);
    out.push_str(std::str::from_utf8(&fraction).unwrap_or(""));
}

/// The interval as the style shows it.
pub fn interval_text(interval: Interval, style: IntervalStyle) -> String {
    match style {
        IntervalStyle::Postgres => postgres(interval),
        IntervalStyle::PostgresVerbose => verbose(interval),
        IntervalStyle::SqlStandard => sql_standard(interval),
        IntervalStyle::Iso8601 => iso_8601(interval),
    }
}

fn postgres(interval: Interval) -> String {
    let mut out = String::new();
    let mut before = false;
    let parts = [(interval.months / 12, "year"), (interval.months % 12, "mon"), (interval.days, "day")];
    for (value, unit) in parts {
        if value == 0 {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        // After a negative field a positive one says so.
        if before && value > 0 {
            out.push('+');
        }
        out.push_str(&format!("{value} {unit}{}", if value == 1 { "" } else { "s" }));
        before = value < 0;
    }
    if out.is_empty() || interval.micros != 0 {
        let (hour, minute, second, micros) = clock_parts(interval.micros);
        if !out.is_empty() {
            out.push(' ');
        }
        if interval.micros < 0 {
            out.push('-');
        } else if before {
            out.push('+');
        }
        out.push_str(&format!("{:02}:{:02}:", hour.unsigned_abs(), minute.unsigned_abs()));
        seconds(&mut out, second, micros, true);
    }
    out
}

fn verbose(interval: Interval) -> String {
    let (hour, minute, second, micros) = clock_parts(interval.micros);
    let mut out = String::from("@");
    let (mut zero, mut before) = (true, false);
    let parts = [
        (i64::from(interval.months / 12), "year"),
        (i64::from(interval.months % 12), "mon"),
        (i64::from(interval.days), "day"),
        (hour, "hour"),
        (minute, "min"),
    ];
    for (value, unit) in parts {
        if value == 0 {
            continue;
        }
        // The first field's sign becomes "ago" at the end; later fields are relative to it.
        let value = if zero {
            before = value < 0;
            value.abs()
        } else if before {
            -value
        } else {
            value
        };
        out.push_str(&format!(" {value} {unit}{}", if value == 1 { "" } else { "s" }));
        zero = false;
    }
    if second != 0 || micros != 0 {
        out.push(' ');
        if second < 0 || micros < 0 {
            if zero {
                before = true;
            } else if !before {
                out.push('-');
            }
        } else if before {
            out.push('-');
        }
        seconds(&mut out, second, micros, false);
        out.push_str(if second.abs() != 1 || micros != 0 { " secs" } else { " sec" });
        zero = false;
    }
    if zero {
        out.push_str(" 0");
    }
    if before {
        out.push_str(" ago");
    }
    out
}

fn iso_8601(interval: Interval) -> String {
    let (hour, minute, second, micros) = clock_parts(interval.micros);
    if interval.months == 0 && interval.days == 0 && interval.micros == 0 {
        return "PT0S".to_string();
    }
    let mut out = String::from("P");
    for (value, unit) in [(interval.months / 12, 'Y'), (interval.months % 12, 'M'), (interval.days, 'D')] {
        if value != 0 {
            out.push_str(&format!("{value}{unit}"));
        }
    }
    if interval.micros != 0 {
        out.push('T');
        for (value, unit) in [(hour, 'H'), (minute, 'M')] {
            if value != 0 {
                out.push_str(&format!("{value}{unit}"));
            }
        }
        if second != 0 || micros != 0 {
            if second < 0 || micros < 0 {
                out.push('-');
            }
            seconds(&mut out, second, micros, false);
            out.push('S');
        }
    }
    out
}

fn sql_standard(interval: Interval) -> String {
    let negative = interval.months < 0 || interval.days < 0 || interval.micros < 0;
    let positive = interval.months > 0 || interval.days > 0 || interval.micros > 0;
    if !negative && !positive {
        return "0".to_string();
    }
    let has_months = interval.months != 0;
    let has_day_time = interval.days != 0 || interval.micros != 0;
    let (hour, minute, second, micros) = clock_parts(interval.micros);
    let (hour, minute) = (hour.unsigned_abs(), minute.unsigned_abs());
    let (years, months) = (interval.months.unsigned_abs() / 12, interval.months.unsigned_abs() % 12);
    let days = interval.days.unsigned_abs();
    let mut out = String::new();
    if (negative && positive) || (has_months && has_day_time) {
        let sign = |negative: bool| if negative { '-' } else { '+' };
        out.push_str(&format!(
            "{}{years}-{months} {}{days} {}{hour}:{minute:02}:",
            sign(interval.months < 0),
            sign(interval.days < 0),
            sign(interval.micros < 0)
        ));
        seconds(&mut out, second, micros, true);
        return out;
    }
    if negative {
        out.push('-');
    }
    if has_months {
        out.push_str(&format!("{years}-{months}"));
        return out;
    }
    if interval.days != 0 {
        out.push_str(&format!("{days} "));
    }
    out.push_str(&format!("{hour}:{minute:02}:"));
    seconds(&mut out, second, micros, true);
    out
}
