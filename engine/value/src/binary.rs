//! Binary forms: PostgreSQL's network forms ([`send`], [`receive`]) and our own compact stored form ([`store`], [`load`]).
//!
//! Both read bytes from outside (a client, a disk): no input panics, and no length is believed before it was compared
//! with the bytes that are there.

mod stored;

use std::sync::Arc;

pub use stored::{load, store};

use crate::array::{Array, Dimension, MAX_DIMENSIONS};
use crate::types::{self, Oid, Repr, Type, TypeKind, oid};
use crate::{Datum, Error, Interval, Jsonb, Numeric, Record, Result, SqlState, datetime, json, text};

/// Appends the network binary form (no length word); NULL appends nothing.
pub fn send(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(value) => out.push(u8::from(*value)),
        Datum::Int2(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Int4(value) | Datum::Date(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Int8(value) if ty == oid::TID => {
            out.extend_from_slice(&((*value >> 16) as u32).to_be_bytes());
            out.extend_from_slice(&(*value as u16).to_be_bytes());
        }
        Datum::Int8(value) | Datum::Time(value) | Datum::Timestamp(value) | Datum::TimestampTz(value) => {
            out.extend_from_slice(&value.to_be_bytes());
        }
        Datum::Oid(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Float4(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Float8(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Numeric(value) => send_numeric(value, out),
        Datum::Text(text) if ty == oid::CHAR => out.push(text.as_bytes().first().copied().unwrap_or(0)),
        Datum::Text(text) => out.extend_from_slice(text.as_bytes()),
        Datum::Bytea(bytes) => out.extend_from_slice(bytes),
        Datum::Interval(value) => {
            out.extend_from_slice(&value.micros.to_be_bytes());
            out.extend_from_slice(&value.days.to_be_bytes());
            out.extend_from_slice(&value.months.to_be_bytes());
        }
        Datum::Uuid(bytes) => out.extend_from_slice(&bytes[..]),
        Datum::Jsonb(value) => {
            // The version of the form, then text.
            out.push(1);
            out.extend_from_slice(value.to_string().as_bytes());
        }
        Datum::Array(array) => send_array(array, out),
        Datum::Record(record) => send_record(record, out),
    }
}

/// A member with its length word, -1 for NULL.
fn send_member(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    if value.is_null() {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return;
    }
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    send(value, ty, out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn send_array(array: &Array, out: &mut Vec<u8>) {
    out.extend_from_slice(&(array.dims.len() as i32).to_be_bytes());
    out.extend_from_slice(&i32::from(array.values.iter().any(Datum::is_null)).to_be_bytes());
    out.extend_from_slice(&array.element.to_be_bytes());
    for dim in &array.dims {
        out.extend_from_slice(&dim.len.to_be_bytes());
        out.extend_from_slice(&dim.lower.to_be_bytes());
    }
    for value in &array.values {
        send_member(value, array.element, out);
    }
}

fn send_record(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(&(record.fields.len() as i32).to_be_bytes());
    for (at, value) in record.fields.iter().enumerate() {
        let ty = record.types.get(at).copied().unwrap_or(oid::UNKNOWN);
        out.extend_from_slice(&ty.to_be_bytes());
        send_member(value, ty, out);
    }
}

const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xc000;
const NUMERIC_INFINITY: u16 = 0xd000;
const NUMERIC_NEG_INFINITY: u16 = 0xf000;

/// Count, weight, sign, display scale, then digits in base 10,000 aligned at the decimal point.
fn send_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let mut header = |count: i16, weight: i16, sign: u16, scale: u16| {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
    };
    let Some((negative, digits, scale)) = value.decimal_digits() else {
        let sign = if value.is_nan() {
            NUMERIC_NAN
        } else if value.signum() > 0 {
            NUMERIC_INFINITY
        } else {
            NUMERIC_NEG_INFINITY
        };
        return header(0, 0, sign, if value.is_nan() { 0 } else { 0x20 });
    };
    if digits.is_empty() {
        return header(0, 0, 0, scale);
    }
    // Pad so that both ends lie on multiples of four digits from the point.
    let top = digits.len() as i32 - i32::from(scale);
    let weight = (top + 3).div_euclid(4) - 1;
    let lead = ((weight + 1) * 4 - top) as usize;
    let mut groups: Vec<u16> = Vec::with_capacity(digits.len() / 4 + 2);
    let mut at = lead % 4;
    let mut group = 0u16;
    for digit in digits.bytes() {
        group = group * 10 + u16::from(digit - b'0');
        at += 1;
        if at == 4 {
            groups.push(group);
            (group, at) = (0, 0);
        }
    }
    if at > 0 {
        groups.push(group * 10u16.pow(4 - at as u32));
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    header(groups.len() as i16, weight as i16, if negative { NUMERIC_NEGATIVE } else { 0 }, scale);
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

fn too_short() -> Error {
    Error::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

/// What is left of a message.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Reads one value and applies the typmod. 22P03 or 08P01 for bytes that are no value of the type.
pub fn receive(ty: Type, bytes: &[u8]) -> Result<Datum> {
    let mut input = Input(bytes);
    let value = receive_value(ty.oid, &mut input, 0)?;
    if !input.0.is_empty() {
        return Err(bad("incorrect binary data format"));
    }
    text::apply_typmod(value, ty, false)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let shown: Vec<String> = bytes[at..].iter().take(4).map(|byte| format!("0x{byte:02x}")).collect();
        Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
        )
    })?;
    if text.contains('\0') {
        return Err(Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

fn receive_value(ty: Oid, input: &mut Input<'_>, depth: usize) -> Result<Datum> {
    Ok(match types::repr(ty) {
        Repr::Bool => Datum::Bool(input.array::<1>()?[0] != 0),
        Repr::Int2 => Datum::Int2(i16::from_be_bytes(input.array()?)),
        Repr::Int4 => Datum::Int4(input.i32()?),
        Repr::Int8 if ty == oid::TID => {
            let block = input.u32()?;
            Datum::Int8(i64::from(block) << 16 | i64::from(input.u16()?))
        }
        Repr::Int8 => Datum::Int8(input.i64()?),
        Repr::Oid => Datum::Oid(input.u32()?),
        Repr::Float4 => Datum::Float4(f32::from_be_bytes(input.array()?)),
        Repr::Float8 => Datum::Float8(f64::from_be_bytes(input.array()?)),
        Repr::Numeric => Datum::Numeric(Arc::new(receive_numeric(input)?)),
        Repr::Text if ty == oid::CHAR => {
            let byte = input.array::<1>()?[0];
            if byte == 0 { Datum::text("") } else { Datum::text(utf8(&[byte])?) }
        }
        Repr::Text => {
            let text = utf8(input.rest())?;
            if ty == oid::JSON {
                json::validate(text)?;
            }
            if ty == oid::NAME && text.len() > 63 {
                return Err(Error::new(SqlState::NAME_TOO_LONG, "identifier too long")
                    .detail("Identifier must be less than 64 characters."));
            }
            Datum::text(text)
        }
        Repr::Bytea => Datum::Bytea(Arc::from(input.rest())),
        Repr::Date => {
            let date = input.i32()?;
            let finite = datetime::is_finite_date(date);
            if finite && !(datetime::DATE_MIN..datetime::DATE_END).contains(&date) {
                return Err(datetime::date_out_of_range());
            }
            Datum::Date(date)
        }
        Repr::Time => {
            let time = input.i64()?;
            if !(0..=datetime::USECS_PER_DAY).contains(&time) {
                return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "time out of range"));
            }
            Datum::Time(time)
        }
        Repr::Timestamp => Datum::Timestamp(checked_timestamp(input.i64()?)?),
        Repr::TimestampTz => Datum::TimestampTz(checked_timestamp(input.i64()?)?),
        Repr::Interval => {
            let micros = input.i64()?;
            let days = input.i32()?;
            Datum::Interval(Interval { months: input.i32()?, days, micros })
        }
        Repr::Uuid => Datum::Uuid(Arc::new(input.array()?)),
        Repr::Jsonb => {
            let version = input.array::<1>()?[0];
            if version != 1 {
                return Err(Error::internal(format!("unsupported jsonb version number {version}")));
            }
            Datum::Jsonb(Arc::new(Jsonb::parse(utf8(input.rest())?)?))
        }
        Repr::Array => Datum::Array(Arc::new(receive_array(ty, input, depth)?)),
        Repr::Record => Datum::Record(Arc::new(receive_record(input, depth)?)),
        Repr::None => {
            let name = types::info(ty).map_or("???", |info| info.sql_name);
            return Err(Error::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("no binary input function available for type {name}"),
            ));
        }
    })
}

fn checked_timestamp(timestamp: i64) -> Result<i64> {
    let finite = datetime::is_finite_timestamp(timestamp);
    if finite && !(datetime::TIMESTAMP_MIN..datetime::TIMESTAMP_END).contains(&timestamp) {
        return Err(datetime::timestamp_out_of_range());
    }
    Ok(timestamp)
}

fn receive_numeric(input: &mut Input<'_>) -> Result<Numeric> {
    let count = input.u16()?;
    let weight = i32::from(input.u16()? as i16);
    let sign = input.u16()?;
    let scale = input.u16()?;
    let groups = input.take(usize::from(count) * 2)?;
    match sign {
        0 | NUMERIC_NEGATIVE => {}
        NUMERIC_NAN => return Ok(Numeric::NAN),
        NUMERIC_INFINITY => return Ok(Numeric::INFINITY),
        NUMERIC_NEG_INFINITY => return Ok(Numeric::NEG_INFINITY),
        _ => return Err(bad("invalid sign in external \"numeric\" value")),
    }
    if usize::from(scale) > crate::numeric::MAX_SCALE {
        return Err(bad("invalid scale in external \"numeric\" value"));
    }
    let mut text = String::with_capacity(groups.len() * 2 + 16);
    if sign == NUMERIC_NEGATIVE {
        text.push('-');
    }
    text.push('0');
    for group in groups.chunks_exact(2) {
        let group = u16::from_be_bytes([group[0], group[1]]);
        if group > 9999 {
            return Err(bad("invalid digit in external \"numeric\" value"));
        }
        text.push_str(&format!("{group:04}"));
    }
    let exponent = (weight + 1 - i32::from(count)) * 4;
    // Digits beyond the display scale are cut, as PostgreSQL does.
    let whole = Numeric::parse(&format!("{text}e{exponent}"))?;
    Ok(if i32::from(whole.scale()) == i32::from(scale) { whole } else { whole.cut(scale) })
}

fn receive_array(ty: Oid, input: &mut Input<'_>, depth: usize) -> Result<Array> {
    if depth > MAX_DIMENSIONS {
        return Err(bad("binary value nests too deep"));
    }
    let dimensions = input.i32()?;
    let flags = input.i32()?;
    let element = input.u32()?;
    if !(0..=MAX_DIMENSIONS as i32).contains(&dimensions) {
        return Err(bad(format!("invalid number of dimensions: {dimensions}")));
    }
    if !(0..=1).contains(&flags) {
        return Err(bad("invalid array flags"));
    }
    let declared = types::element_of(ty);
    if declared != 0 && element != declared {
        let name = |oid| types::format_type(oid, -1);
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {element} ({}) instead of expected {declared} ({})",
                name(element),
                name(declared)
            ),
        ));
    }
    let mut dims = Vec::with_capacity(dimensions as usize);
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        let dim = Dimension { len: input.i32()?, lower: input.i32()? };
        let len = usize::try_from(dim.len).map_err(|_| bad("invalid array dimension"))?;
        count = count.saturating_mul(len);
        dims.push(dim);
    }
    // Every element has a length word, so the message bounds their number.
    if count > input.0.len() / 4 {
        return Err(too_short());
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(receive_member(element, input, depth)?);
    }
    Array::new(element, dims, values)
}

fn receive_member(ty: Oid, input: &mut Input<'_>, depth: usize) -> Result<Datum> {
    let length = input.i32()?;
    if length == -1 {
        return Ok(Datum::Null);
    }
    let length = usize::try_from(length).map_err(|_| too_short())?;
    let mut inner = Input(input.take(length)?);
    let value = receive_value(ty, &mut inner, depth + 1)?;
    if !inner.0.is_empty() {
        return Err(bad("improper binary format in array element"));
    }
    Ok(value)
}

fn receive_record(input: &mut Input<'_>, depth: usize) -> Result<Record> {
    if depth > MAX_DIMENSIONS {
        return Err(bad("binary value nests too deep"));
    }
    let count = usize::try_from(input.i32()?).map_err(|_| bad("wrong number of columns"))?;
    if count > input.0.len() / 8 {
        return Err(too_short());
    }
    let mut record =
        Record { types: Vec::with_capacity(count), fields: Vec::with_capacity(count), names: None };
    for _ in 0..count {
        let ty = input.u32()?;
        record.types.push(ty);
        record.fields.push(receive_member(ty, input, depth)?);
    }
    Ok(record)
}

/// Whether clients can send and be sent the type in binary.
pub fn supported(ty: Oid) -> bool {
    types::info(ty).is_some_and(|info| match info.kind {
        TypeKind::Array => supported(info.element),
        _ => info.repr != Repr::None && ty != oid::ACLITEM,
    })
}
