//! Floats: shortest digits that read back the same (PostgreSQL's `extra_float_digits >= 1`), or a fixed number of them.

use crate::{Error, Result, SqlState};

fn range_error(text: &str, type_name: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{text}\" is out of range for type {type_name}"),
    )
}

/// The characters Rust's and PostgreSQL's float syntax have in common.
fn checked<'a>(text: &'a str, type_name: &str) -> Result<&'a str> {
    let trimmed = text.trim_matches(super::is_blank);
    let body = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if body.starts_with(['+', '-']) || body.is_empty() {
        return Err(super::invalid(type_name, text));
    }
    Ok(trimmed)
}

/// Whether the digits before the exponent are all zero, so that a zero is what was written.
fn is_written_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

fn is_written_infinity(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'i' | b'I'))
}

/// 22P02 for syntax, 22003 when the value overflows or vanishes.
pub fn parse_f64(text: &str) -> Result<f64> {
    const NAME: &str = "double precision";
    let trimmed = checked(text, NAME)?;
    let value: f64 = trimmed.parse().map_err(|_| super::invalid(NAME, text))?;
    if (value.is_infinite() && !is_written_infinity(trimmed)) || (value == 0.0 && !is_written_zero(trimmed)) {
        return Err(range_error(trimmed, NAME));
    }
    Ok(value)
}

pub fn parse_f32(text: &str) -> Result<f32> {
    const NAME: &str = "real";
    let trimmed = checked(text, NAME)?;
    let value: f32 = trimmed.parse().map_err(|_| super::invalid(NAME, text))?;
    if (value.is_infinite() && !is_written_infinity(trimmed)) || (value == 0.0 && !is_written_zero(trimmed)) {
        return Err(range_error(trimmed, NAME));
    }
    Ok(value)
}

fn special(value: f64, out: &mut Vec<u8>) -> bool {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        return false;
    }
    true
}

/// Appends a double; `extra` is `extra_float_digits`.
pub fn write_f64(value: f64, extra: i32, out: &mut Vec<u8>) {
    if special(value, out) {
        return;
    }
    if extra > 0 {
        return write_shortest(ryu::Buffer::new().format_finite(value), 15, out);
    }
    write_rounded(value, (15 + extra).max(1) as usize, out);
}

/// Appends a single.
pub fn write_f32(value: f32, extra: i32, out: &mut Vec<u8>) {
    if special(f64::from(value), out) {
        return;
    }
    if extra > 0 {
        return write_shortest(ryu::Buffer::new().format_finite(value), 6, out);
    }
    write_rounded(f64::from(value), (6 + extra).max(1) as usize, out);
}

/// Rewrites the shortest digits in C's style: exponents below -4 or from `limit` on are written with `e+NN`.
fn write_shortest(text: &str, limit: i32, out: &mut Vec<u8>) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // digits * 10^(point - digits) with the first digit not zero.
    let mut digits = [0u8; 40];
    let mut count = 0;
    let mut point = whole.len() as i32 + exponent;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if count == 0 && byte == b'0' {
            point -= 1;
            continue;
        }
        if count < digits.len() {
            digits[count] = byte;
            count += 1;
        }
    }
    while count > 0 && digits[count - 1] == b'0' {
        count -= 1;
    }
    if negative {
        out.push(b'-');
    }
    if count == 0 {
        out.push(b'0');
        return;
    }
    place_point(&digits[..count], point - 1, limit, out);
}

/// Writes digits whose first one counts `10^exponent`.
fn place_point(digits: &[u8], exponent: i32, limit: i32, out: &mut Vec<u8>) {
    if exponent < -4 || exponent >= limit {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        super::write_integer(exponent.abs(), out);
        return;
    }
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

/// C's `%.{precision}g`.
fn write_rounded(value: f64, precision: usize, out: &mut Vec<u8>) {
    let text = format!("{value:.*e}", precision - 1);
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if negative {
        out.push(b'-');
    }
    if digits == b"0" {
        out.push(b'0');
        return;
    }
    place_point(&digits, exponent.parse().unwrap_or(0), precision as i32, out);
}
