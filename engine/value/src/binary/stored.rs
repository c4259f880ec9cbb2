//! The stored form: compact, self-delimiting, little-endian. What rows hold of a value; it is on disk, so its tags and
//! layouts never change meaning, only new tags are added.

use std::sync::Arc;

use crate::array::{Array, Dimension, MAX_DIMENSIONS};
use crate::types::Oid;
use crate::{Datum, Error, Interval, Jsonb, Numeric, Record, Result, SqlState};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT2: u8 = 3;
const INT4: u8 = 4;
const INT8: u8 = 5;
const OID: u8 = 6;
const FLOAT4: u8 = 7;
const FLOAT8: u8 = 8;
/// Scale, then a zigzag varint coefficient.
const NUMERIC: u8 = 9;
/// As text, for coefficients beyond 128 bits, NaN and infinities.
const NUMERIC_TEXT: u8 = 10;
const TEXT: u8 = 11;
const BYTEA: u8 = 12;
const DATE: u8 = 13;
const TIME: u8 = 14;
const TIMESTAMP: u8 = 15;
const TIMESTAMPTZ: u8 = 16;
const INTERVAL: u8 = 17;
const UUID: u8 = 18;
const JSONB: u8 = 19;
const ARRAY: u8 = 20;
const RECORD: u8 = 21;

/// Values nest at most this deep (arrays of records of arrays ...).
const MAX_DEPTH: usize = 64;

fn put_varint(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn put_len(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)) as u128
}

fn unzigzag(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 6);
    out.push(tag);
    put_len(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends the compact self-delimiting form used in stored rows; NULL too.
pub fn store(value: &Datum, out: &mut Vec<u8>) {
    fn fixed<const N: usize>(tag: u8, bytes: [u8; N], out: &mut Vec<u8>) {
        out.push(tag);
        out.extend_from_slice(&bytes);
    }
    match value {
        Datum::Null => out.push(NULL),
        Datum::Bool(false) => out.push(FALSE),
        Datum::Bool(true) => out.push(TRUE),
        Datum::Int2(value) => fixed(INT2, value.to_le_bytes(), out),
        Datum::Int4(value) => fixed(INT4, value.to_le_bytes(), out),
        Datum::Int8(value) => fixed(INT8, value.to_le_bytes(), out),
        Datum::Oid(value) => fixed(OID, value.to_le_bytes(), out),
        Datum::Float4(value) => fixed(FLOAT4, value.to_le_bytes(), out),
        Datum::Float8(value) => fixed(FLOAT8, value.to_le_bytes(), out),
        Datum::Numeric(value) => match value.small() {
            Some((coefficient, scale)) => {
                out.push(NUMERIC);
                put_len(usize::from(scale), out);
                put_varint(zigzag(coefficient), out);
            }
            None => put_bytes(NUMERIC_TEXT, value.to_string().as_bytes(), out),
        },
        Datum::Text(text) => put_bytes(TEXT, text.as_bytes(), out),
        Datum::Bytea(bytes) => put_bytes(BYTEA, bytes, out),
        Datum::Date(value) => fixed(DATE, value.to_le_bytes(), out),
        Datum::Time(value) => fixed(TIME, value.to_le_bytes(), out),
        Datum::Timestamp(value) => fixed(TIMESTAMP, value.to_le_bytes(), out),
        Datum::TimestampTz(value) => fixed(TIMESTAMPTZ, value.to_le_bytes(), out),
        Datum::Interval(value) => {
            fixed(INTERVAL, value.micros.to_le_bytes(), out);
            out.extend_from_slice(&value.days.to_le_bytes());
            out.extend_from_slice(&value.months.to_le_bytes());
        }
        Datum::Uuid(bytes) => fixed(UUID, **bytes, out),
        Datum::Jsonb(value) => {
            out.push(JSONB);
            store_json(value, out);
        }
        Datum::Array(array) => {
            fixed(ARRAY, array.element.to_le_bytes(), out);
            out.push(array.dims.len() as u8);
            for dim in &array.dims {
                out.extend_from_slice(&dim.len.to_le_bytes());
                out.extend_from_slice(&dim.lower.to_le_bytes());
            }
            for value in &array.values {
                store(value, out);
            }
        }
        Datum::Record(record) => {
            out.push(RECORD);
            put_len(record.fields.len(), out);
            for (at, value) in record.fields.iter().enumerate() {
                out.extend_from_slice(&record.types.get(at).copied().unwrap_or(0).to_le_bytes());
                store(value, out);
            }
        }
    }
}

/// JSON values reuse the tags above: scalars as themselves, containers as a count and members.
fn store_json(value: &Jsonb, out: &mut Vec<u8>) {
    match value {
        Jsonb::Null => out.push(NULL),
        Jsonb::Bool(false) => out.push(FALSE),
        Jsonb::Bool(true) => out.push(TRUE),
        Jsonb::Number(number) => store(&Datum::Numeric(Arc::new(number.clone())), out),
        Jsonb::String(text) => put_bytes(TEXT, text.as_bytes(), out),
        Jsonb::Array(values) => {
            out.push(ARRAY);
            put_len(values.len(), out);
            for value in values {
                store_json(value, out);
            }
        }
        Jsonb::Object(pairs) => {
            out.push(RECORD);
            put_len(pairs.len(), out);
            for (key, value) in pairs {
                put_len(key.len(), out);
                out.extend_from_slice(key.as_bytes());
                store_json(value, out);
            }
        }
    }
}

fn damaged() -> Error {
    Error::new(SqlState::DATA_CORRUPTED, "damaged value in stored row")
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(damaged)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(damaged)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(damaged)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }

    fn varint(&mut self) -> Result<u128> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// A count of things of at least one byte each: never more than the bytes left.
    #[inline]
    fn len(&mut self) -> Result<usize> {
        let first = self.byte()?;
        let len = if first < 0x80 {
            usize::from(first)
        } else {
            self.at -= 1;
            usize::try_from(self.varint()?).map_err(|_| damaged())?
        };
        if len > self.bytes.len() - self.at {
            return Err(damaged());
        }
        Ok(len)
    }

    fn str(&mut self) -> Result<&'a str> {
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| damaged())
    }

    fn value(&mut self, depth: usize) -> Result<Datum> {
        if depth > MAX_DEPTH {
            return Err(damaged());
        }
        Ok(match self.byte()? {
            NULL => Datum::Null,
            FALSE => Datum::Bool(false),
            TRUE => Datum::Bool(true),
            INT2 => Datum::Int2(i16::from_le_bytes(self.array()?)),
            INT4 => Datum::Int4(i32::from_le_bytes(self.array()?)),
            INT8 => Datum::Int8(i64::from_le_bytes(self.array()?)),
            OID => Datum::Oid(u32::from_le_bytes(self.array()?)),
            FLOAT4 => Datum::Float4(f32::from_le_bytes(self.array()?)),
            FLOAT8 => Datum::Float8(f64::from_le_bytes(self.array()?)),
            tag @ (NUMERIC | NUMERIC_TEXT) => Datum::Numeric(Arc::new(self.numeric(tag)?)),
            TEXT => Datum::text(self.str()?),
            BYTEA => {
                let len = self.len()?;
                Datum::Bytea(Arc::from(self.take(len)?))
            }
            DATE => Datum::Date(i32::from_le_bytes(self.array()?)),
            TIME => Datum::Time(i64::from_le_bytes(self.array()?)),
            TIMESTAMP => Datum::Timestamp(i64::from_le_bytes(self.array()?)),
            TIMESTAMPTZ => Datum::TimestampTz(i64::from_le_bytes(self.array()?)),
            INTERVAL => {
                let micros = i64::from_le_bytes(self.array()?);
                let days = i32::from_le_bytes(self.array()?);
                Datum::Interval(Interval { months: i32::from_le_bytes(self.array()?), days, micros })
            }
            UUID => Datum::Uuid(Arc::new(self.array()?)),
            JSONB => Datum::Jsonb(Arc::new(self.json(0)?)),
            ARRAY => {
                let element = u32::from_le_bytes(self.array()?);
                let dimensions = usize::from(self.byte()?);
                if dimensions > MAX_DIMENSIONS {
                    return Err(damaged());
                }
                let mut dims = Vec::with_capacity(dimensions);
                let mut count = usize::from(dimensions > 0);
                for _ in 0..dimensions {
                    let len = i32::from_le_bytes(self.array()?);
                    dims.push(Dimension { len, lower: i32::from_le_bytes(self.array()?) });
                    count = count.saturating_mul(usize::try_from(len).map_err(|_| damaged())?);
                }
                if count > self.bytes.len() - self.at {
                    return Err(damaged());
                }
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Datum::Array(Arc::new(Array { element, dims, values }))
            }
            RECORD => {
                let count = self.len()?;
                let mut record = Record {
                    types: Vec::with_capacity(count),
                    fields: Vec::with_capacity(count),
                    names: None,
                };
                for _ in 0..count {
                    record.types.push(u32::from_le_bytes(self.array()?));
                    record.fields.push(self.value(depth + 1)?);
                }
                Datum::Record(Arc::new(record))
            }
            _ => return Err(damaged()),
        })
    }

    fn numeric(&mut self, tag: u8) -> Result<Numeric> {
        if tag == NUMERIC_TEXT {
            return Numeric::parse(self.str()?).map_err(|_| damaged());
        }
        let scale = u16::try_from(self.varint()?).map_err(|_| damaged())?;
        if usize::from(scale) > crate::numeric::MAX_SCALE {
            return Err(damaged());
        }
        Ok(Numeric::from_i128(unzigzag(self.varint()?), scale))
    }

    fn json(&mut self, depth: usize) -> Result<Jsonb> {
        if depth > crate::json::MAX_DEPTH {
            return Err(damaged());
        }
        Ok(match self.byte()? {
            NULL => Jsonb::Null,
            FALSE => Jsonb::Bool(false),
            TRUE => Jsonb::Bool(true),
            tag @ (NUMERIC | NUMERIC_TEXT) => Jsonb::Number(self.numeric(tag)?),
            TEXT => Jsonb::string(self.str()?),
            ARRAY => {
                let count = self.len()?;
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    values.push(self.json(depth + 1)?);
                }
                Jsonb::Array(values)
            }
            RECORD => {
                let count = self.len()?;
                let mut pairs = Vec::with_capacity(count);
                for _ in 0..count {
                    let key = Arc::from(self.str()?);
                    pairs.push((key, self.json(depth + 1)?));
                }
                Jsonb::Object(pairs)
            }
            _ => return Err(damaged()),
        })
    }
}

/// Reads what [`store`] wrote at the start of `bytes` and says how many bytes it took; XX001 for damage. The type is only
/// a promise of the caller: values carry their own tags.
pub fn load(_ty: Oid, bytes: &[u8]) -> Result<(Datum, usize)> {
    let mut input = Input { bytes, at: 0 };
    let value = input.value(0)?;
    Ok((value, input.at))
}
