//! Text forms: what a literal means and how a value is shown, with PostgreSQL's syntax and messages.
//!
//! [`Style`] carries everything a session can change about it. Names of catalog objects (regclass and its relatives)
//! are not resolved here: only their numbers are read and written.

mod array;
mod date_input;
mod date_output;
mod float;
mod interval;

use std::sync::Arc;

pub use array::{output_record_fields, split_record};
pub use date_output::{date_text, time_text, timestamp_text, timestamptz_text};
pub use float::{write_f32, write_f64};
pub use interval::{interval_text, parse_interval};

use crate::datetime::TimeZone;
use crate::types::{self, Oid, Repr, Type, TypeKind, length_of_typmod, oid};
use crate::{Datum, Error, Jsonb, Numeric, Result, SqlState, datetime, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFormat {
    Iso,
    Sql,
    Postgres,
    German,
}

/// Which of day, month and year comes first where a date leaves that open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder {
    Mdy,
    Dmy,
    Ymd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateStyle {
    pub format: DateFormat,
    pub order: DateOrder,
}

impl DateStyle {
    /// As SHOW prints it, e.g. `ISO, MDY`.
    pub fn name(&self) -> String {
        let format = match self.format {
            DateFormat::Iso => "ISO",
            DateFormat::Sql => "SQL",
            DateFormat::Postgres => "Postgres",
            DateFormat::German => "German",
        };
        let order = match self.order {
            DateOrder::Mdy => "MDY",
            DateOrder::Dmy => "DMY",
            DateOrder::Ymd => "YMD",
        };
        format!("{format}, {order}")
    }

    /// The setting's words in any order, e.g. `German`, `iso, dmy`; what is not named stays as in `self`.
    /// `None` for unknown words.
    pub fn parse(self, text: &str) -> Option<DateStyle> {
        let mut style = self;
        let mut ordered = false;
        for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            match word.as_str() {
                "iso" => style.format = DateFormat::Iso,
                "sql" => style.format = DateFormat::Sql,
                "german" => {
                    style.format = DateFormat::German;
                    if !ordered {
                        style.order = DateOrder::Dmy;
                    }
                }
                "ymd" => (style.order, ordered) = (DateOrder::Ymd, true),
                "dmy" => (style.order, ordered) = (DateOrder::Dmy, true),
                "mdy" | "us" => (style.order, ordered) = (DateOrder::Mdy, true),
                "default" => style = Style::default().date_style,
                _ if word.starts_with("postgres") => style.format = DateFormat::Postgres,
                _ if word.starts_with("euro") => (style.order, ordered) = (DateOrder::Dmy, true),
                _ if word.starts_with("noneuro") => (style.order, ordered) = (DateOrder::Mdy, true),
                _ => return None,
            }
        }
        Some(style)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStyle {
    Postgres,
    PostgresVerbose,
    SqlStandard,
    Iso8601,
}

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

fn invalid(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// A signed decimal integer with blanks around it, within `min..=max`.
fn integer(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let trimmed = text.trim_matches(is_blank);
    let (negative, digits) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(type_name, text));
    }
    let mut value: i64 = 0;
    for byte in digits.bytes() {
        let digit = i64::from(byte - b'0');
        // Counting down reaches i64::MIN, counting up would not.
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(digit))
            .ok_or_else(|| out_of_range(type_name, text))?;
    }
    if !negative {
        value = value.checked_neg().ok_or_else(|| out_of_range(type_name, text))?;
    }
    if value < min || value > max {
        return Err(out_of_range(type_name, text));
    }
    Ok(value)
}

/// An unsigned 32-bit number; negative ones wrap, as PostgreSQL reads oids.
fn oid_number(text: &str, type_name: &str) -> Result<u32> {
    let value = integer(text, type_name, i64::from(i32::MIN), i64::from(u32::MAX))?;
    Ok(value as u32)
}

fn boolean(text: &str) -> Result<bool> {
    let word = text.trim_matches(is_blank).to_ascii_lowercase();
    let is = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if word == "1" || is("true", 1) || is("yes", 1) || word == "on" {
        return Ok(true);
    }
    if word == "0" || is("false", 1) || is("no", 1) || is("off", 2) {
        return Ok(false);
    }
    Err(invalid("boolean", text))
}

fn bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut out = Vec::with_capacity(hex.len() / 2);
        let mut chars = hex.chars();
        let digit = |c: char| {
            c.to_digit(16).map(|d| d as u8).ok_or_else(|| {
                Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid hexadecimal digit: \"{c}\""))
            })
        };
        while let Some(c) = chars.next() {
            if matches!(c, ' ' | '\n' | '\t' | '\r') {
                continue;
            }
            let high = digit(c)?;
            let Some(c) = chars.next() else {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "invalid hexadecimal data: odd number of digits",
                ));
            };
            out.push(high << 4 | digit(c)?);
        }
        return Ok(out);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        match &bytes[at + 1..] {
            [b'\\', ..] => {
                out.push(b'\\');
                at += 2;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                at += 4;
            }
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(out)
}

fn uuid(text: &str) -> Result<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| invalid("uuid", text))?,
        None => text,
    };
    let mut out = [0u8; 16];
    let mut bytes = inner.bytes().peekable();
    for (at, slot) in out.iter_mut().enumerate() {
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).map(|d| d as u8);
        match (digit(), digit()) {
            (Some(high), Some(low)) => *slot = high << 4 | low,
            _ => return Err(invalid("uuid", text)),
        }
        // A hyphen may stand after any four digits.
        if at % 2 == 1 && at < 15 && bytes.peek() == Some(&b'-') {
            bytes.next();
        }
    }
    if bytes.next().is_some() { Err(invalid("uuid", text)) } else { Ok(out) }
}

/// At most 63 bytes, cut at a character.
fn name(text: &str) -> &str {
    if text.len() <= 63 {
        return text;
    }
    let mut end = 63;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a `reg*` type reads without a catalog: `-` and numbers, for regtype built-in type names too.
fn registered(ty: Oid, text: &str) -> Result<u32> {
    if text == "-" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return oid_number(text, "oid");
    }
    let unknown = |state, kind: &str| Error::new(state, format!("{kind} \"{text}\" does not exist"));
    match ty {
        oid::REGTYPE => {
            let plain = text.strip_prefix("pg_catalog.").unwrap_or(text);
            types::by_name(&plain.to_ascii_lowercase())
                .map(|info| info.oid)
                .ok_or_else(|| unknown(SqlState::UNDEFINED_OBJECT, "type"))
        }
        oid::REGCLASS => Err(unknown(SqlState::UNDEFINED_TABLE, "relation")),
        oid::REGPROC | oid::REGPROCEDURE => Err(unknown(SqlState::UNDEFINED_FUNCTION, "function")),
        oid::REGOPER | oid::REGOPERATOR => {
            Err(Error::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {text}")))
        }
        oid::REGNAMESPACE => Err(unknown(SqlState::INVALID_SCHEMA_NAME, "schema")),
        oid::REGROLE => Err(unknown(SqlState::UNDEFINED_OBJECT, "role")),
        _ => Err(unknown(SqlState::UNDEFINED_OBJECT, "collation")),
    }
}

/// The value that `text` stands for, with the typmod applied as an assignment does. Errors are PostgreSQL's: 22P02 for
/// syntax, 22003/22008 for range, 22001 for strings that are too long.
pub fn input(ty: Type, text: &str, style: &Style) -> Result<Datum> {
    let value = match types::repr(ty.oid) {
        Repr::Bool => Datum::Bool(boolean(text)?),
        Repr::Int2 => Datum::Int2(integer(text, "smallint", i16::MIN.into(), i16::MAX.into())? as i16),
        Repr::Int4 => Datum::Int4(integer(text, "integer", i32::MIN.into(), i32::MAX.into())? as i32),
        Repr::Int8 => Datum::Int8(match ty.oid {
            oid::XID8 => {
                text.trim_matches(is_blank).parse::<u64>().map_err(|_| invalid("xid8", text))? as i64
            }
            oid::PG_LSN => lsn(text)?,
            oid::TID => tid(text)?,
            _ => integer(text, "bigint", i64::MIN, i64::MAX)?,
        }),
        Repr::Oid => Datum::Oid(match ty.oid {
            oid::OID => oid_number(text, "oid")?,
            oid::XID => oid_number(text, "xid")?,
            oid::CID => oid_number(text, "cid")?,
            registered_type => registered(registered_type, text.trim_matches(is_blank))?,
        }),
        Repr::Float4 => Datum::Float4(float::parse_f32(text)?),
        Repr::Float8 => Datum::Float8(float::parse_f64(text)?),
        Repr::Numeric => Datum::Numeric(Arc::new(Numeric::parse(text)?)),
        Repr::Text => match ty.oid {
            oid::CHAR => Datum::text(text.chars().next().map(String::from).unwrap_or_default()),
            oid::NAME => Datum::text(name(text)),
            oid::JSON => {
                json::validate(text)?;
                Datum::text(text)
            }
            _ => Datum::text(text),
        },
        Repr::Bytea => Datum::Bytea(Arc::from(bytea(text)?)),
        Repr::Date => Datum::Date(date_input::date(text, style)?),
        Repr::Time => Datum::Time(date_input::time(text, style)?),
        Repr::Timestamp => Datum::Timestamp(date_input::timestamp(text, style)?),
        Repr::TimestampTz => Datum::TimestampTz(date_input::timestamptz(text, style)?),
        Repr::Interval => Datum::Interval(interval::parse_interval(text, ty.typmod, style.interval_style)?),
        Repr::Uuid => Datum::Uuid(Arc::new(uuid(text)?)),
        Repr::Jsonb => Datum::Jsonb(Arc::new(Jsonb::parse(text)?)),
        Repr::Array if types::info(ty.oid).is_some_and(|info| info.kind == TypeKind::Base) => {
            Datum::Array(Arc::new(array::vector(types::element_of(ty.oid), text, style)?))
        }
        Repr::Array if types::element_of(ty.oid) != 0 => {
            let element = Type::with_typmod(types::element_of(ty.oid), ty.typmod);
            return Ok(Datum::Array(Arc::new(array::parse(element, text, style)?)));
        }
        Repr::Record => {
            return Err(Error::unsupported(
                "input of anonymous composite types",
                "Use ROW(...) or name the composite type.",
            ));
        }
        Repr::Array | Repr::None => {
            let name = types::info(ty.oid).map_or("???", |info| info.sql_name);
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cannot accept a value of type {name}"),
            ));
        }
    };
    if ty.typmod < 0 { Ok(value) } else { apply_typmod(value, ty, false) }
}

fn lsn(text: &str) -> Result<i64> {
    let part = |digits: &str| {
        if digits.is_empty() || digits.len() > 8 { None } else { u32::from_str_radix(digits, 16).ok() }
    };
    text.split_once('/')
        .and_then(|(high, low)| Some((u64::from(part(high)?) << 32 | u64::from(part(low)?)) as i64))
        .ok_or_else(|| invalid("pg_lsn", text))
}

fn tid(text: &str) -> Result<i64> {
    text.strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| inner.split_once(','))
        .and_then(|(block, offset)| {
            Some(
                i64::from(block.trim().parse::<u32>().ok()?) << 16
                    | i64::from(offset.trim().parse::<u16>().ok()?),
            )
        })
        .ok_or_else(|| invalid("tid", text))
}

/// The first `count` characters' end in bytes, `None` when there are no more.
fn char_end(text: &str, count: usize) -> Option<usize> {
    if text.len() <= count {
        return None;
    }
    text.char_indices().nth(count).map(|(at, _)| at)
}

/// Fits a value to a typmod as a cast does: explicit casts cut strings silently, assignments fail (22001) unless only
/// blanks are cut. Numerics are rounded and checked, times rounded, arrays fitted element by element.
pub fn apply_typmod(value: Datum, ty: Type, explicit: bool) -> Result<Datum> {
    let typmod = ty.typmod;
    if typmod < 0 {
        return Ok(value);
    }
    Ok(match value {
        Datum::Text(text) => Datum::Text(fit_text(text, ty, explicit)?),
        Datum::Numeric(number) => {
            let fitted = number.apply_typmod(typmod)?;
            Datum::Numeric(Arc::new(fitted))
        }
        Datum::Time(time) => Datum::Time(datetime::round_micros(time, typmod)),
        Datum::Timestamp(t) if datetime::is_finite_timestamp(t) => {
            Datum::Timestamp(datetime::round_micros(t, typmod))
        }
        Datum::TimestampTz(t) if datetime::is_finite_timestamp(t) => {
            Datum::TimestampTz(datetime::round_micros(t, typmod))
        }
        Datum::Interval(interval) => Datum::Interval(interval.apply_typmod(typmod)),
        Datum::Array(array) => {
            let element = Type::with_typmod(array.element, typmod);
            let mut fitted = (*array).clone();
            for value in &mut fitted.values {
                *value = apply_typmod(std::mem::take(value), element, explicit)?;
            }
            Datum::Array(Arc::new(fitted))
        }
        other => other,
    })
}

fn fit_text(text: Arc<str>, ty: Type, explicit: bool) -> Result<Arc<str>> {
    let Some(length) = length_of_typmod(ty.typmod) else { return Ok(text) };
    let length = length as usize;
    let (fixed, name) = match ty.oid {
        oid::BPCHAR => (true, "character"),
        oid::VARCHAR => (false, "character varying"),
        _ => return Ok(text),
    };
    if let Some(end) = char_end(&text, length) {
        if !explicit && text[end..].bytes().any(|byte| byte != b' ') {
            return Err(Error::new(
                SqlState::STRING_DATA_RIGHT_TRUNCATION,
                format!("value too long for type {name}({length})"),
            ));
        }
        return Ok(Arc::from(&text[..end]));
    }
    if fixed {
        let have = text.chars().count();
        if have < length {
            let mut padded = String::with_capacity(text.len() + length - have);
            padded.push_str(&text);
            padded.extend(std::iter::repeat_n(' ', length - have));
            return Ok(Arc::from(padded));
        }
    }
    Ok(text)
}

fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the text form; NULL appends nothing.
pub fn output(value: &Datum, ty: Oid, style: &Style, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match value {
        Datum::Null => {}
        Datum::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Datum::Int2(value) => write_integer(*value, out),
        Datum::Int4(value) => write_integer(*value, out),
        Datum::Int8(value) => match ty {
            oid::XID8 => write_integer(*value as u64, out),
            oid::PG_LSN => {
                out.extend_from_slice(format!("{:X}/{:X}", (*value as u64) >> 32, *value as u32).as_bytes());
            }
            oid::TID => {
                out.extend_from_slice(format!("({},{})", (*value >> 16) as u32, *value as u16).as_bytes());
            }
            _ => write_integer(*value, out),
        },
        Datum::Oid(value) => match (ty, value) {
            (oid::OID | oid::XID | oid::CID, _) => write_integer(*value, out),
            (_, 0) => out.push(b'-'),
            (oid::REGTYPE, _) if types::info(*value).is_some() => {
                out.extend_from_slice(types::format_type(*value, -1).as_bytes());
            }
            _ => write_integer(*value, out),
        },
        Datum::Float4(value) => float::write_f32(*value, style.extra_float_digits, out),
        Datum::Float8(value) => float::write_f64(*value, style.extra_float_digits, out),
        Datum::Numeric(value) => value.write(out),
        Datum::Text(text) => out.extend_from_slice(text.as_bytes()),
        Datum::Bytea(bytes) if style.bytea_hex => {
            out.reserve(bytes.len() * 2 + 2);
            out.extend_from_slice(b"\\x");
            for byte in bytes.iter() {
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        Datum::Bytea(bytes) => {
            for &byte in bytes.iter() {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    0x20..=0x7e => out.push(byte),
                    _ => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
                }
            }
        }
        Datum::Date(date) => date_output::date(*date, style, out),
        Datum::Time(time) => date_output::time(*time, out),
        Datum::Timestamp(timestamp) => date_output::timestamp(*timestamp, style, out),
        Datum::TimestampTz(timestamp) => date_output::timestamptz(*timestamp, style, out),
        Datum::Interval(value) => {
            out.extend_from_slice(interval::interval_text(*value, style.interval_style).as_bytes());
        }
        Datum::Uuid(bytes) => {
            for (at, byte) in bytes.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    out.push(b'-');
                }
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        Datum::Jsonb(value) => {
            let mut text = String::new();
            value.write(&mut text);
            out.extend_from_slice(text.as_bytes());
        }
        Datum::Array(array) => {
            array::output(array, matches!(ty, oid::INT2VECTOR | oid::OIDVECTOR), style, out);
        }
        Datum::Record(record) => array::output_record_fields(&record.fields, &record.types, style, out),
    }
}

/// The text form as a string; NULL is empty.
pub fn output_string(value: &Datum, ty: Oid, style: &Style) -> String {
    if let Datum::Text(text) = value {
        return text.to_string();
    }
    let mut out = Vec::new();
    output(value, ty, style, &mut out);
    // Only UTF-8 is ever written above.
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
