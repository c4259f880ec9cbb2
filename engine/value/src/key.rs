//! The order-preserving byte form: comparing two keys as bytes compares the values. Index entries, unique-key locks,
//! predicate locks and sorts all use it, so equality of values is equality of bytes too (`1.0` and `1.00` are one key).
//!
//! One column is a flag byte (NULL or not) and the value's bytes, complemented as a whole for DESC. Every value form is
//! self-delimiting: fixed width, or ended by a terminator that sorts before any continuation, so that columns can be
//! strung together.
//!
//! | type | form |
//! |---|---|
//! | bool | 0 or 1 |
//! | integers, date, time, timestamps | big-endian with the sign bit flipped, own width |
//! | oid and unsigned 64-bit types | big-endian |
//! | floats | big-endian bits, sign flipped for positives, complemented for negatives; one NaN, one zero |
//! | numeric | class, exponent, digits in pairs + 1, terminator 0; complemented for negatives |
//! | text, bytea | bytes with 0 written as 0 ff, ended by 0 1 (text cannot hold 0: ended by 0) |
//! | interval | its comparison length, 16 bytes |
//! | uuid | 16 bytes |
//! | array, record, jsonb | elements, each after a marker; count or terminator as their order asks |

use crate::array::Array;
use crate::types::{Oid, oid};
use crate::{Datum, Error, Jsonb, Numeric, Record, Result, SqlState};

/// Flag bytes of a column. Complementing is not applied to them: NULLS FIRST is independent of DESC.
const NULL_FIRST: u8 = 0x00;
const NOT_NULL: u8 = 0x01;
const NULL_LAST: u8 = 0x02;

/// Appends the key form of one column; byte order of keys is the order of values under
/// `ORDER BY ... [DESC] NULLS {FIRST|LAST}`.
#[inline]
pub fn encode(value: &Datum, ty: Oid, descending: bool, nulls_first: bool, out: &mut Vec<u8>) {
    if value.is_null() {
        out.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    out.push(NOT_NULL);
    let start = out.len();
    encode_value(value, ty, out);
    if descending {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

/// Whether a column's key (as [`encode`] wrote it) is a NULL.
pub fn is_null(key: &[u8]) -> bool {
    matches!(key.first(), Some(&NULL_FIRST | &NULL_LAST))
}

/// The smallest key greater than every key that starts with `prefix`; `None` when there is none (all ff).
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

#[inline]
fn put_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&((value as u64) ^ (1 << 63)).to_be_bytes());
}

#[inline]
fn put_i32(value: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&((value as u32) ^ (1 << 31)).to_be_bytes());
}

/// Appends a non-NULL value's ascending form, without the flag byte.
#[inline]
pub fn encode_value(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    match value {
        Datum::Int4(value) => put_i32(*value, out),
        Datum::Int8(value) if matches!(ty, oid::XID8 | oid::PG_LSN | oid::TID) => {
            out.extend_from_slice(&value.to_be_bytes());
        }
        Datum::Int8(value) => put_i64(*value, out),
        Datum::Text(text) => {
            let text = if ty == oid::BPCHAR { text.trim_end_matches(' ') } else { text };
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        Datum::Int2(value) => out.extend_from_slice(&((*value as u16) ^ (1 << 15)).to_be_bytes()),
        Datum::Bool(value) => out.push(u8::from(*value)),
        Datum::Oid(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Float4(value) => {
            let value = if value.is_nan() { f32::NAN } else { *value + 0.0 };
            let bits = value.to_bits();
            let flipped = if bits >> 31 == 1 { !bits } else { bits | (1 << 31) };
            out.extend_from_slice(&flipped.to_be_bytes());
        }
        Datum::Float8(value) => {
            // Adding +0 turns -0 into 0.
            let value = if value.is_nan() { f64::NAN } else { *value + 0.0 };
            let bits = value.to_bits();
            let flipped = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            out.extend_from_slice(&flipped.to_be_bytes());
        }
        Datum::Numeric(value) => encode_numeric(value, out),
        Datum::Bytea(bytes) => put_bytes(bytes, out),
        Datum::Date(value) => put_i32(*value, out),
        Datum::Time(value) | Datum::Timestamp(value) | Datum::TimestampTz(value) => put_i64(*value, out),
        Datum::Interval(value) => {
            out.extend_from_slice(&((value.comparison_key() as u128) ^ (1 << 127)).to_be_bytes());
        }
        Datum::Uuid(bytes) => out.extend_from_slice(&bytes[..]),
        Datum::Jsonb(value) => {
            out.push(value.top_rank());
            put_json(value, out);
        }
        Datum::Array(array) => put_array(array, out),
        Datum::Record(record) => put_record(record, out),
        // Inside arrays and records NULLs are written by their owners; alone it sorts last.
        Datum::Null => out.push(0xff),
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

const NEGATIVE_INFINITY: u8 = 0x10;
const NEGATIVE: u8 = 0x20;
const ZERO: u8 = 0x30;
const POSITIVE: u8 = 0x40;
const INFINITY: u8 = 0x50;
const NAN: u8 = 0x60;
/// Exponents within this take one byte.
const SHORT_EXPONENT: i32 = 100;
const LONG_NEGATIVE: u8 = 0x08;
const LONG_POSITIVE: u8 = 0xf8;
const LONG_BIAS: i32 = 1 << 23;

/// Appends a numeric's key: class byte, decimal exponent, significant digits two to a byte. The scale is not part of it.
pub fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let Some((negative, digits, scale)) = value.decimal_digits() else {
        out.push(if value.is_nan() {
            NAN
        } else if value.signum() > 0 {
            INFINITY
        } else {
            NEGATIVE_INFINITY
        });
        return;
    };
    if digits.is_empty() {
        out.push(ZERO);
        return;
    }
    out.push(if negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    // value = 0.d1d2d3... * 10^exponent
    let exponent = digits.len() as i32 - i32::from(scale);
    if exponent.abs() <= SHORT_EXPONENT {
        out.push((128 + exponent) as u8);
    } else {
        out.push(if exponent < 0 { LONG_NEGATIVE } else { LONG_POSITIVE });
        out.extend_from_slice(&((exponent + LONG_BIAS) as u32).to_be_bytes()[1..]);
    }
    for pair in digits.trim_end_matches('0').as_bytes().chunks(2) {
        let low = pair.get(1).map_or(0, |digit| digit - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(0);
    if negative {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

fn damaged() -> Error {
    Error::new(SqlState::DATA_CORRUPTED, "damaged numeric key")
}

/// Reads what [`encode_numeric`] wrote, shown with `scale` digits after the point, and says how many bytes it took.
pub fn decode_numeric(bytes: &[u8], scale: u16) -> Result<(Numeric, usize)> {
    let class = *bytes.first().ok_or_else(damaged)?;
    let negative = match class {
        NEGATIVE_INFINITY => return Ok((Numeric::NEG_INFINITY, 1)),
        INFINITY => return Ok((Numeric::INFINITY, 1)),
        NAN => return Ok((Numeric::NAN, 1)),
        ZERO => return Ok((Numeric::from_i128(0, scale), 1)),
        NEGATIVE => true,
        POSITIVE => false,
        _ => return Err(damaged()),
    };
    let mask = if negative { 0xff } else { 0 };
    let mut at = 1;
    let mut next = || -> Result<u8> {
        let byte = *bytes.get(at).ok_or_else(damaged)? ^ mask;
        at += 1;
        Ok(byte)
    };
    let exponent = match next()? {
        LONG_NEGATIVE | LONG_POSITIVE => i32::from_be_bytes([0, next()?, next()?, next()?]) - LONG_BIAS,
        short => i32::from(short) - 128,
    };
    let (mut small, mut count) = (0i128, 0usize);
    let mut long = String::new();
    loop {
        let byte = next()?;
        if byte == 0 {
            break;
        }
        if byte > 100 {
            return Err(damaged());
        }
        count += 2;
        if count <= 36 {
            small = small * 100 + i128::from(byte - 1);
        } else {
            if long.is_empty() {
                long = small.to_string();
            }
            long.push_str(&format!("{:02}", byte - 1));
        }
    }
    let used = at;
    // digits * 10^(exponent - count) = coefficient * 10^-scale
    let shift = exponent - count as i32 + i32::from(scale);
    if long.is_empty() && shift.abs() < 38 {
        let power = 10i128.pow(shift.unsigned_abs());
        let coefficient = if shift >= 0 { small.checked_mul(power) } else { Some(small / power) };
        if let Some(coefficient) = coefficient {
            let coefficient = if negative { -coefficient } else { coefficient };
            return Ok((Numeric::from_i128(coefficient, scale), used));
        }
    }
    if long.is_empty() {
        long = small.to_string();
    }
    let text = format!("{}{long}e{}", if negative { "-" } else { "" }, exponent - count as i32);
    let value = Numeric::parse(&text).map_err(|_| damaged())?;
    Ok((value.cut(scale), used))
}

/// Elements first, each after a marker; the end marker sorts before one more element; shape last.
fn put_array(array: &Array, out: &mut Vec<u8>) {
    for value in &array.values {
        put_member(value, array.element, out);
    }
    out.push(0);
    out.push(array.dims.len() as u8);
    for dim in &array.dims {
        put_i32(dim.len, out);
    }
    for dim in &array.dims {
        put_i32(dim.lower, out);
    }
}

/// NULL members are greater than any value.
fn put_member(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    if value.is_null() {
        out.push(2);
    } else {
        out.push(1);
        encode_value(value, ty, out);
    }
}

fn put_record(record: &Record, out: &mut Vec<u8>) {
    for (at, value) in record.fields.iter().enumerate() {
        put_member(value, record.types.get(at).copied().unwrap_or(oid::UNKNOWN), out);
    }
    out.push(0);
}

fn put_json(value: &Jsonb, out: &mut Vec<u8>) {
    match value {
        Jsonb::Null => {}
        Jsonb::Bool(value) => out.push(u8::from(*value)),
        Jsonb::Number(value) => encode_numeric(value, out),
        Jsonb::String(text) => put_bytes(text.as_bytes(), out),
        Jsonb::Array(values) => {
            out.extend_from_slice(&(values.len() as u32).to_be_bytes());
            for value in values {
                out.push(value.rank());
                put_json(value, out);
            }
        }
        Jsonb::Object(pairs) => {
            out.extend_from_slice(&(pairs.len() as u32).to_be_bytes());
            for (key, value) in pairs {
                put_bytes(key.as_bytes(), out);
                out.push(value.rank());
                put_json(value, out);
            }
        }
    }
}
