//! Aggregates that keep every value: strings, arrays and JSON.

use std::sync::Arc;

use value::text::Style;
use value::types::oid::*;
use value::{Array, Datum, Error, Jsonb, Oid, Result, SqlState};

use super::{Reader, Writer, a, datum_size, first_type, json_size};
use crate::declare::{invalid_parameter, mismatch};
use crate::json::{key_text, to_jsonb, write_json};
use crate::{Accumulator, Aggregate, Signature};

/// `string_agg`: the delimiter of the first value is not used, but kept for a merge behind other values.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    first_delimiter: usize,
    some: bool,
    binary: bool,
}

impl Accumulator for Strings {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let part = |value: &Datum| match value {
            Datum::Text(text) => Some(Vec::from(text.as_bytes())),
            Datum::Bytea(bytes) => Some(bytes.to_vec()),
            _ => None,
        };
        let [value, delimiter] = args else { return Err(mismatch(args)) };
        let Some(value) = part(value) else { return Ok(()) };
        let delimiter = part(delimiter).unwrap_or_default();
        if self.bytes.len() + value.len() + delimiter.len() > 0x3fff_ffff {
            return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "out of memory")
                .detail("A string result cannot be larger than 1 GB."));
        }
        if !self.some {
            self.first_delimiter = delimiter.len();
            self.some = true;
        }
        self.bytes.extend_from_slice(&delimiter);
        self.bytes.extend_from_slice(&value);
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let mut out = Writer::default().i64(i64::from(self.some)).i64(self.first_delimiter as i64).done()?;
        out.extend_from_slice(&self.bytes);
        Ok(out)
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        let (some, first_delimiter) = (reader.i64()? != 0, reader.i64()? as usize);
        if some && !self.some {
            (self.some, self.first_delimiter) = (true, first_delimiter);
        }
        self.bytes.extend_from_slice(reader.0);
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if !self.some {
            return Ok(Datum::Null);
        }
        let rest = self.bytes.get(self.first_delimiter..).unwrap_or(&[]);
        if self.binary {
            return Ok(Datum::Bytea(Arc::from(rest)));
        }
        match std::str::from_utf8(rest) {
            Ok(text) => Ok(Datum::text(text)),
            Err(_) => Err(super::damaged()),
        }
    }

    fn size(&self) -> usize {
        self.bytes.capacity()
    }

    fn reset(&mut self) {
        self.bytes.clear();
        (self.some, self.first_delimiter) = (false, 0);
    }
}

/// `array_agg`: elements, or sub-arrays that become rows of an array with one more dimension.
struct Elements {
    ty: Oid,
    values: Vec<Datum>,
    bytes: usize,
    nested: bool,
}

impl Accumulator for Elements {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let [value] = args else { return Err(mismatch(args)) };
        if self.nested {
            let error = |message| Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
            match value {
                Datum::Null => {
                    return Err(Error::new(
                        SqlState::NULL_VALUE_NOT_ALLOWED,
                        "cannot accumulate null arrays",
                    ));
                }
                Datum::Array(array) if array.is_empty() => return error("cannot accumulate empty arrays"),
                Datum::Array(array) => match self.values.first() {
                    Some(Datum::Array(first)) if first.dims != array.dims => {
                        return error("cannot accumulate arrays of different dimensionality");
                    }
                    _ => {}
                },
                _ => return Err(mismatch(args)),
            }
        }
        self.bytes += datum_size(value);
        self.values.push(value.clone());
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let writer = Writer::default().i64(self.values.len() as i64);
        self.values.iter().fold(writer, Writer::datum).done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        for _ in 0..reader.i64()? {
            let value = reader.datum(self.ty)?;
            self.add(std::slice::from_ref(&value))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        let array = if self.nested {
            let parts: Vec<&Array> = self
                .values
                .iter()
                .filter_map(|value| match value {
                    Datum::Array(array) => Some(&**array),
                    _ => None,
                })
                .collect();
            Array::from_arrays(value::types::element_of(self.ty), &parts)?
        } else {
            Array::from_values(self.ty, self.values.clone())
        };
        Ok(Datum::Array(Arc::new(array)))
    }

    fn size(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Datum>()
    }

    fn reset(&mut self) {
        self.values.clear();
        self.bytes = 0;
    }
}

fn elements(signature: &Signature, nested: bool) -> Box<dyn Accumulator> {
    Box::new(Elements { ty: first_type(signature), values: Vec::new(), bytes: 0, nested })
}

/// `json_agg` and `json_object_agg`: text written value by value, without the brackets around it.
struct JsonText {
    types: Vec<Oid>,
    style: Style,
    out: String,
    some: bool,
    object: bool,
}

impl Accumulator for JsonText {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let ty = |at: usize| self.types.get(at).copied().unwrap_or(TEXT);
        match (args, self.object) {
            ([value], false) => {
                if self.some {
                    // Structured values stand on lines of their own.
                    let structured = matches!(value, Datum::Array(_) | Datum::Record(_));
                    self.out.push_str(if structured { ", \n " } else { ", " });
                }
                write_json(value, ty(0), &self.style, &mut self.out)?;
            }
            ([key, value], true) => {
                if key.is_null() {
                    return Err(invalid_parameter("field name must not be null"));
                }
                if self.some {
                    self.out.push_str(", ");
                }
                value::json::quote(&key_text(key, ty(0), &self.style)?, &mut self.out);
                self.out.push_str(" : ");
                write_json(value, ty(1), &self.style, &mut self.out)?;
            }
            _ => return Err(mismatch(args)),
        }
        self.some = true;
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let mut out = Writer::default().i64(i64::from(self.some)).done()?;
        out.extend_from_slice(self.out.as_bytes());
        Ok(out)
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        if reader.i64()? != 0 {
            if self.some {
                self.out.push_str(", ");
            }
            self.out.push_str(std::str::from_utf8(reader.0).map_err(|_| super::damaged())?);
            self.some = true;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if !self.some {
            return Ok(Datum::Null);
        }
        Ok(Datum::text(if self.object { format!("{{ {} }}", self.out) } else { format!("[{}]", self.out) }))
    }

    fn size(&self) -> usize {
        self.out.capacity()
    }

    fn reset(&mut self) {
        self.out.clear();
        self.some = false;
    }
}

/// `jsonb_agg` and `jsonb_object_agg`.
struct JsonTree {
    types: Vec<Oid>,
    style: Style,
    members: Vec<(Arc<str>, Jsonb)>,
    bytes: usize,
    object: bool,
}

impl Accumulator for JsonTree {
    fn add(&mut self, args: &[Datum]) -> Result<()> {
        let ty = |at: usize| self.types.get(at).copied().unwrap_or(TEXT);
        let (key, value) = match (args, self.object) {
            ([value], false) => (Arc::from(""), to_jsonb(value, ty(0), &self.style)?),
            ([key, value], true) => {
                if key.is_null() {
                    return Err(invalid_parameter("field name must not be null"));
                }
                (key_text(key, ty(0), &self.style)?, to_jsonb(value, ty(1), &self.style)?)
            }
            _ => return Err(mismatch(args)),
        };
        self.bytes += key.len() + json_size(&value);
        self.members.push((key, value));
        Ok(())
    }

    fn remove(&mut self, _: &[Datum]) -> Result<bool> {
        Ok(false)
    }

    fn state(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::default().i64(self.members.len() as i64);
        for (key, value) in &self.members {
            writer = writer.datum(&Datum::Text(key.clone())).datum(&Datum::Jsonb(Arc::new(value.clone())));
        }
        writer.done()
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        let mut reader = Reader(state);
        for _ in 0..reader.i64()? {
            let (Datum::Text(key), Datum::Jsonb(value)) = (reader.datum(TEXT)?, reader.datum(JSONB)?) else {
                return Err(super::damaged());
            };
            self.bytes += key.len() + json_size(&value);
            self.members.push((key, (*value).clone()));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Datum> {
        if self.members.is_empty() {
            return Ok(Datum::Null);
        }
        let value = if self.object {
            Jsonb::object(self.members.clone())
        } else {
            Jsonb::Array(self.members.iter().map(|(_, value)| value.clone()).collect())
        };
        Ok(Datum::Jsonb(Arc::new(value)))
    }

    fn size(&self) -> usize {
        self.bytes
    }

    fn reset(&mut self) {
        self.members.clear();
        self.bytes = 0;
    }
}

macro_rules! json_text {
    ($object:literal) => {
        |signature, env| {
            Box::new(JsonText {
                types: signature.args.iter().map(|ty| ty.oid).collect(),
                style: env.style().clone(),
                out: String::new(),
                some: false,
                object: $object,
            })
        }
    };
}

macro_rules! json_tree {
    ($object:literal) => {
        |signature, env| {
            Box::new(JsonTree {
                types: signature.args.iter().map(|ty| ty.oid).collect(),
                style: env.style().clone(),
                members: Vec::new(),
                bytes: 0,
                object: $object,
            })
        }
    };
}

pub(super) static AGGREGATES: &[Aggregate] = &[
    a(3538, "string_agg", &[TEXT, TEXT], TEXT, |_, _| Box::new(Strings::default())).nullable(),
    a(3545, "string_agg", &[BYTEA, BYTEA], BYTEA, |_, _| {
        Box::new(Strings { binary: true, ..Strings::default() })
    })
    .nullable(),
    a(2335, "array_agg", &[ANYNONARRAY], ANYARRAY, |signature, _| elements(signature, false)).nullable(),
    a(4053, "array_agg", &[ANYARRAY], ANYARRAY, |signature, _| elements(signature, true)).nullable(),
    a(3175, "json_agg", &[ANYELEMENT], JSON, json_text!(false)).nullable(),
    a(3197, "json_object_agg", &[ANY, ANY], JSON, json_text!(true)).nullable(),
    a(3267, "jsonb_agg", &[ANYELEMENT], JSONB, json_tree!(false)).nullable(),
    a(3270, "jsonb_object_agg", &[ANY, ANY], JSONB, json_tree!(true)).nullable(),
];
