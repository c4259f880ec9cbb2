//! Byte strings: parts, bits, encodings and digests.

use std::sync::Arc;

use sha2::Digest;
use value::types::oid::*;
use value::{Datum, Error, Result, SqlState};

use crate::Function;
use crate::declare::{f, invalid_parameter, mismatch, out_of_range, text_of, thunk};

fn bytes(value: impl Into<Arc<[u8]>>) -> Result<Datum> {
    Ok(Datum::Bytea(value.into()))
}

/// Bytes `start..start+length` counted from 1; parts outside are left out.
fn window(text: &[u8], start: i32, length: Option<i32>) -> Result<&[u8]> {
    let first = i64::from(start) - 1;
    let end = match length {
        Some(length) if length < 0 => {
            return Err(Error::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(length) => first + i64::from(length),
        None => i64::MAX,
    };
    let total = text.len() as i64;
    let from = first.clamp(0, total);
    let to = end.clamp(from, total);
    Ok(&text[from as usize..to as usize])
}

fn position(text: &[u8], part: &[u8]) -> i32 {
    if part.is_empty() {
        return 1;
    }
    text.windows(part.len()).position(|have| have == part).map_or(0, |at| at as i32 + 1)
}

fn overlay(text: &[u8], new: &[u8], start: i32, length: i32) -> Result<Vec<u8>> {
    if start <= 0 {
        return Err(Error::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let after = start.checked_add(length).ok_or_else(|| out_of_range("integer"))?;
    Ok([window(text, 1, Some(start - 1))?, new, window(text, after, None)?].concat())
}

fn trim<'a>(text: &'a [u8], set: &[u8], left: bool, right: bool) -> &'a [u8] {
    let mut rest = text;
    while let (true, Some((first, tail))) = (left, rest.split_first()) {
        if !set.contains(first) {
            break;
        }
        rest = tail;
    }
    while let (true, Some((last, head))) = (right, rest.split_last()) {
        if !set.contains(last) {
            break;
        }
        rest = head;
    }
    rest
}

fn index_error(index: i64, count: i64) -> Error {
    Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, format!("index {index} out of valid range, 0..{}", count - 1))
}

fn byte_at(text: &[u8], at: i64) -> Result<usize> {
    usize::try_from(at).ok().filter(|&at| at < text.len()).ok_or_else(|| index_error(at, text.len() as i64))
}

fn bit_at(text: &[u8], at: i64) -> Result<(usize, u32)> {
    let count = text.len() as i64 * 8;
    if at < 0 || at >= count {
        return Err(index_error(at, count));
    }
    Ok(((at / 8) as usize, (at % 8) as u32))
}

fn set_bit(text: &[u8], at: i64, bit: i32) -> Result<Vec<u8>> {
    let (byte, shift) = bit_at(text, at)?;
    if bit != 0 && bit != 1 {
        return Err(invalid_parameter("new bit must be 0 or 1"));
    }
    let mut out = text.to_vec();
    out[byte] = out[byte] & !(1 << shift) | (bit as u8) << shift;
    Ok(out)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut digits = text.chars().filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r'));
    let digit = |c: char| {
        c.to_digit(16).ok_or_else(|| invalid_parameter(format!("invalid hexadecimal digit: \"{c}\"")))
    };
    while let Some(high) = digits.next() {
        let high = digit(high)?;
        let low = digits
            .next()
            .ok_or_else(|| invalid_parameter("invalid hexadecimal data: odd number of digits"))?;
        out.push((high << 4 | digit(low)?) as u8);
    }
    Ok(out)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Lines of 76 characters, as MIME has them.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + bytes.len() / 57 + 4);
    for (at, chunk) in bytes.chunks(3).enumerate() {
        if at > 0 && at % 19 == 0 {
            out.push('\n');
        }
        let word = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for place in 0..4 {
            if place <= chunk.len() {
                out.push(char::from(BASE64[(word >> (18 - 6 * place) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn unbase64(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut count, mut padding) = (0_u32, 0, 0);
    for c in text.chars().filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r')) {
        let digit = if c == '=' {
            if count < 2 || count + 1 < 4 && padding == 0 && count != 2 {
                return Err(invalid_parameter("unexpected \"=\" while decoding base64 sequence"));
            }
            padding += 1;
            0
        } else {
            let value = u8::try_from(c).ok().and_then(|c| BASE64.iter().position(|&have| have == c));
            match value {
                Some(value) if padding == 0 => value as u32,
                _ => {
                    return Err(invalid_parameter(format!(
                        "invalid symbol \"{c}\" found while decoding base64 sequence"
                    )));
                }
            }
        };
        word = word << 6 | digit;
        count += 1;
        if count == 4 {
            out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
            (word, count) = (0, 0);
        }
    }
    if count != 0 {
        return Err(invalid_parameter("invalid base64 end sequence")
            .hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(out)
}

/// Bytes as text with `\ooo` for zero and high bytes.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
            byte => out.push(char::from(byte)),
        }
    }
    out
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', more @ ..]) => {
                out.push(b'\\');
                more
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                more
            }
            (b'\\', _) => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
            (byte, more) => {
                out.push(byte);
                more
            }
        };
    }
    Ok(out)
}

fn unknown_encoding(name: &str) -> Error {
    invalid_parameter(format!("unrecognized encoding: \"{name}\""))
}

fn encode(data: &[u8], format: &str) -> Result<Datum> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => text_of(hex(data)),
        "base64" => text_of(base64(data)),
        "escape" => text_of(escape(data)),
        _ => Err(unknown_encoding(format)),
    }
}

fn decode(text: &str, format: &str) -> Result<Datum> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => bytes(unhex(text)?),
        "base64" => bytes(unbase64(text)?),
        "escape" => bytes(unescape(text)?),
        _ => Err(unknown_encoding(format)),
    }
}

/// RFC 1321; for compatibility, not for security.
fn md5(data: &[u8]) -> String {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut message = data.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if message.len() - data.len() < 9 {
        message.resize(message.len() + 64, 0);
    }
    let end = message.len() - 8;
    message[end..].copy_from_slice(&(data.len() as u64 * 8).to_le_bytes());
    for block in message.chunks_exact(64) {
        let words: Vec<u32> =
            block.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mix, word) = match step / 16 {
                0 => (b & c | !b & d, step),
                1 => (d & b | !d & c, (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), 7 * step % 16),
            };
            // The constants are the fraction of |sin(step + 1)|.
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(constant).wrapping_add(words[word]);
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
        }
        for (part, value) in state.iter_mut().zip([a, b, c, d]) {
            *part = part.wrapping_add(value);
        }
    }
    hex(&state.iter().flat_map(|part| part.to_le_bytes()).collect::<Vec<u8>>())
}

#[derive(PartialEq)]
enum Encoding {
    Utf8,
    Latin1,
}

fn encoding(name: &str) -> Result<Encoding> {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(Encoding::Utf8),
        "latin1" | "iso88591" => Ok(Encoding::Latin1),
        _ => Err(Error::new(SqlState::UNDEFINED_OBJECT, format!("invalid encoding name \"{name}\""))
            .hint("StartDB converts between UTF8 and LATIN1.")),
    }
}

fn convert_from(data: &[u8], name: &str) -> Result<Datum> {
    if encoding(name)? == Encoding::Latin1 {
        return text_of(data.iter().map(|&byte| char::from(byte)).collect::<String>());
    }
    match std::str::from_utf8(data) {
        Ok(text) if text.contains('\0') => Err(Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        )),
        Ok(text) => text_of(text),
        Err(error) => {
            let bad = &data[error.valid_up_to()..];
            let length = error.error_len().unwrap_or(bad.len()).min(bad.len());
            let shown: Vec<String> = bad[..length].iter().map(|byte| format!("0x{byte:02x}")).collect();
            Err(Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
            ))
        }
    }
}

fn convert_to(text: &str, name: &str) -> Result<Datum> {
    if encoding(name)? == Encoding::Utf8 {
        return bytes(text.as_bytes());
    }
    let converted = text
        .chars()
        .map(|c| {
            u8::try_from(c).map_err(|_| {
                let shown: Vec<String> =
                    c.to_string().bytes().map(|byte| format!("0x{byte:02x}")).collect();
                Error::new(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    format!(
                        "character with byte sequence {} in encoding \"UTF8\" has no equivalent in encoding \"LATIN1\"",
                        shown.join(" ")
                    ),
                )
            })
        })
        .collect::<Result<Vec<u8>>>()?;
    bytes(converted)
}

fn set_byte(args: &[Datum]) -> Result<Datum> {
    let [Datum::Bytea(text), Datum::Int4(at), Datum::Int4(new)] = args else { return Err(mismatch(args)) };
    let at = byte_at(text, i64::from(*at))?;
    let mut out = text.to_vec();
    out[at] = *new as u8;
    bytes(out)
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(2010, "length", &[BYTEA], INT4, thunk!([Datum::Bytea(a)] => Ok(Datum::Int4(a.len() as i32)))).total(),
    f(720, "octet_length", &[BYTEA], INT4, thunk!([Datum::Bytea(a)] => Ok(Datum::Int4(a.len() as i32))))
        .total(),
    f(1810, "bit_length", &[BYTEA], INT4, thunk!([Datum::Bytea(a)] => Ok(Datum::Int4((a.len() * 8) as i32))))
        .total(),
    f(
        6163,
        "bit_count",
        &[BYTEA],
        INT8,
        thunk!([Datum::Bytea(a)] => Ok(Datum::Int8(a.iter().map(|byte| i64::from(byte.count_ones())).sum()))),
    )
    .total(),
    f(
        2011,
        "byteacat",
        &[BYTEA, BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(b)] => bytes([&**a, &**b].concat())),
    )
    .total(),
    f(
        2013,
        "substring",
        &[BYTEA, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Int4(start)] => bytes(window(a, *start, None)?)),
    ),
    f(
        2012,
        "substring",
        &[BYTEA, INT4, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Int4(start), Datum::Int4(length)] => bytes(window(a, *start, Some(*length))?)),
    ),
    f(
        2086,
        "substr",
        &[BYTEA, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Int4(start)] => bytes(window(a, *start, None)?)),
    ),
    f(
        2085,
        "substr",
        &[BYTEA, INT4, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Int4(start), Datum::Int4(length)] => bytes(window(a, *start, Some(*length))?)),
    ),
    f(
        2014,
        "position",
        &[BYTEA, BYTEA],
        INT4,
        thunk!([Datum::Bytea(a), Datum::Bytea(part)] => Ok(Datum::Int4(position(a, part)))),
    )
    .total(),
    f(
        752,
        "overlay",
        &[BYTEA, BYTEA, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(new), Datum::Int4(start)] => bytes(overlay(a, new, *start, new.len() as i32)?)),
    ),
    f(
        749,
        "overlay",
        &[BYTEA, BYTEA, INT4, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(new), Datum::Int4(start), Datum::Int4(length)] => bytes(overlay(a, new, *start, *length)?)),
    ),
    f(
        6195,
        "ltrim",
        &[BYTEA, BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(set)] => bytes(trim(a, set, true, false))),
    )
    .total(),
    f(
        6196,
        "rtrim",
        &[BYTEA, BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(set)] => bytes(trim(a, set, false, true))),
    )
    .total(),
    f(
        2015,
        "btrim",
        &[BYTEA, BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Bytea(set)] => bytes(trim(a, set, true, true))),
    )
    .total(),
    f(
        721,
        "get_byte",
        &[BYTEA, INT4],
        INT4,
        thunk!([Datum::Bytea(a), Datum::Int4(at)] => Ok(Datum::Int4(i32::from(a[byte_at(a, i64::from(*at))?])))),
    ),
    f(722, "set_byte", &[BYTEA, INT4, INT4], BYTEA, |_, args| set_byte(args)),
    f(
        723,
        "get_bit",
        &[BYTEA, INT8],
        INT4,
        thunk!([Datum::Bytea(a), Datum::Int8(at)] => { let (byte, shift) = bit_at(a, *at)?; Ok(Datum::Int4(i32::from(a[byte] >> shift & 1))) }),
    ),
    f(
        724,
        "set_bit",
        &[BYTEA, INT8, INT4],
        BYTEA,
        thunk!([Datum::Bytea(a), Datum::Int8(at), Datum::Int4(bit)] => bytes(set_bit(a, *at, *bit)?)),
    ),
    f(
        1946,
        "encode",
        &[BYTEA, TEXT],
        TEXT,
        thunk!([Datum::Bytea(a), Datum::Text(format)] => encode(a, format)),
    ),
    f(
        1947,
        "decode",
        &[TEXT, TEXT],
        BYTEA,
        thunk!([Datum::Text(a), Datum::Text(format)] => decode(a, format)),
    ),
    f(2311, "md5", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(md5(a.as_bytes())))).total(),
    f(2321, "md5", &[BYTEA], TEXT, thunk!([Datum::Bytea(a)] => text_of(md5(a)))).total(),
    f(
        3419,
        "sha224",
        &[BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a)] => bytes(sha2::Sha224::digest(a).as_slice())),
    )
    .total(),
    f(
        3420,
        "sha256",
        &[BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a)] => bytes(sha2::Sha256::digest(a).as_slice())),
    )
    .total(),
    f(
        3421,
        "sha384",
        &[BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a)] => bytes(sha2::Sha384::digest(a).as_slice())),
    )
    .total(),
    f(
        3422,
        "sha512",
        &[BYTEA],
        BYTEA,
        thunk!([Datum::Bytea(a)] => bytes(sha2::Sha512::digest(a).as_slice())),
    )
    .total(),
    f(
        1714,
        "convert_from",
        &[BYTEA, NAME],
        TEXT,
        thunk!([Datum::Bytea(a), Datum::Text(name)] => convert_from(a, name)),
    )
    .stable(),
    f(
        1717,
        "convert_to",
        &[TEXT, NAME],
        BYTEA,
        thunk!([Datum::Text(a), Datum::Text(name)] => convert_to(a, name)),
    )
    .stable(),
];
