//! Dates, times and timestamps in the four DateStyles.

use super::{DateFormat, DateOrder, Style};
use crate::datetime::{self, Fields};

fn pad(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits.as_bytes());
}

fn two(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

/// The year as shown: year 0 is 1 BC.
fn shown_year(year: i32) -> (i64, bool) {
    if year > 0 { (i64::from(year), false) } else { (1 - i64::from(year), true) }
}

/// `04:05:06.7`: the fraction without trailing zeros.
fn clock(fields: &Fields, out: &mut Vec<u8>) {
    two(fields.hour, out);
    out.push(b':');
    two(fields.minute, out);
    out.push(b':');
    two(fields.second, out);
    fraction(fields.micros, out);
}

pub(super) fn fraction(micros: u32, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    let start = out.len();
    pad(i64::from(micros), 6, out);
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Day, month and year in the style's order, without BC.
fn day(fields: &Fields, style: &Style, timestamp: bool, out: &mut Vec<u8>) {
    let (year, _) = shown_year(fields.year);
    let day_first = style.date_style.order == DateOrder::Dmy;
    let (first, second) = if day_first { (fields.day, fields.month) } else { (fields.month, fields.day) };
    match style.date_style.format {
        DateFormat::Iso => {
            pad(year, 4, out);
            out.push(b'-');
            two(fields.month, out);
            out.push(b'-');
            two(fields.day, out);
        }
        DateFormat::German => {
            two(fields.day, out);
            out.push(b'.');
            two(fields.month, out);
            out.push(b'.');
            pad(year, 4, out);
        }
        DateFormat::Sql | DateFormat::Postgres => {
            let separator = if style.date_style.format == DateFormat::Sql { b'/' } else { b'-' };
            debug_assert!(!timestamp || separator == b'/');
            two(first, out);
            out.push(separator);
            two(second, out);
            out.push(separator);
            pad(year, 4, out);
        }
    }
}

fn infinite(positive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if positive { b"infinity" } else { b"-infinity" });
}

pub(super) fn date(date: i32, style: &Style, out: &mut Vec<u8>) {
    if !datetime::is_finite_date(date) {
        return infinite(date > 0, out);
    }
    let (year, month, day_of_month) = datetime::civil_from_days(date);
    let fields = Fields { year, month, day: day_of_month, ..Fields::default() };
    day(&fields, style, false, out);
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

pub(super) fn time(time: i64, out: &mut Vec<u8>) {
    clock(&datetime::time_fields(time), out);
}

const DAYS: [&[u8]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A local timestamp, with the zone written by `zone` in its place.
fn moment(local: i64, style: &Style, zone: impl Fn(&mut Vec<u8>), out: &mut Vec<u8>) {
    let fields = datetime::timestamp_fields(local);
    if style.date_style.format == DateFormat::Postgres {
        let weekday = datetime::day_of_week(datetime::timestamp_to_date(local));
        out.extend_from_slice(DAYS[weekday as usize % 7]);
        out.push(b' ');
        let month = MONTHS[(fields.month as usize + 11) % 12];
        if style.date_style.order == DateOrder::Dmy {
            two(fields.day, out);
            out.push(b' ');
            out.extend_from_slice(month);
        } else {
            out.extend_from_slice(month);
            out.push(b' ');
            two(fields.day, out);
        }
        out.push(b' ');
        clock(&fields, out);
        out.push(b' ');
        pad(shown_year(fields.year).0, 4, out);
    } else {
        day(&fields, style, true, out);
        out.push(b' ');
        clock(&fields, out);
    }
    zone(out);
    if fields.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

pub(super) fn timestamp(timestamp: i64, style: &Style, out: &mut Vec<u8>) {
    if !datetime::is_finite_timestamp(timestamp) {
        return infinite(timestamp > 0, out);
    }
    moment(timestamp, style, |_| {}, out);
}

pub(super) fn timestamptz(timestamptz: i64, style: &Style, out: &mut Vec<u8>) {
    if !datetime::is_finite_timestamp(timestamptz) {
        return infinite(timestamptz > 0, out);
    }
    let offset = datetime::zone_offset(&style.time_zone, timestamptz);
    let local = timestamptz.saturating_add(i64::from(offset) * datetime::USECS_PER_SEC);
    let zone = |out: &mut Vec<u8>| {
        if style.date_style.format == DateFormat::Iso {
            return offset_text(offset, out);
        }
        let name = datetime::zone_abbreviation(&style.time_zone, timestamptz);
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
        } else {
            // Zones without letters show their offset, a blank apart in the Postgres style only.
            if style.date_style.format == DateFormat::Postgres {
                out.push(b' ');
            }
            offset_text(offset, out);
        }
    };
    moment(local, style, zone, out);
}

/// `+01`, `-03:30`, `+00:19:32`.
pub(super) fn offset_text(offset: i32, out: &mut Vec<u8>) {
    let size = offset.unsigned_abs();
    out.push(if offset < 0 { b'-' } else { b'+' });
    two(size / 3600, out);
    let (minutes, seconds) = (size / 60 % 60, size % 60);
    if minutes != 0 || seconds != 0 {
        out.push(b':');
        two(minutes, out);
    }
    if seconds != 0 {
        out.push(b':');
        two(seconds, out);
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(32);
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// A date as the style shows it.
pub fn date_text(value: i32, style: &Style) -> String {
    text(|out| date(value, style, out))
}

pub fn time_text(value: i64) -> String {
    text(|out| time(value, out))
}

pub fn timestamp_text(value: i64, style: &Style) -> String {
    text(|out| timestamp(value, style, out))
}

pub fn timestamptz_text(value: i64, style: &Style) -> String {
    text(|out| timestamptz(value, style, out))
}
