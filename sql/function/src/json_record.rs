//! JSON taken apart into typed columns: `json_to_record`, `json_to_recordset` and their kin.
//!
//! Their columns come from the column definition list behind the call. The resolver hands it over as further arguments:
//! an array of names, and for each a NULL of the column's type; the signature then tells the types.

use std::borrow::Cow;
use std::sync::Arc;

use value::array::Dimension;
use value::json::{raw_as_text, raw_elements, raw_field, raw_type_name};
use value::text::Style;
use value::types::element_of;
use value::types::oid::*;
use value::{Array, Datum, Error, Jsonb, Result, SqlState, Type};

use crate::declare::{invalid_parameter, mismatch};
use crate::set::s;
use crate::{Call, Rows, SetFunction};

/// What a JSON value is as a value of `ty`. Errors: those of the type's input function.
fn convert(raw: &str, ty: Type, style: &Style) -> Result<Datum> {
    let raw = raw.trim_matches([' ', '\t', '\n', '\r']);
    if raw == "null" {
        return Ok(Datum::Null);
    }
    match ty.oid {
        JSON => return Ok(Datum::text(raw)),
        JSONB => return Ok(Datum::Jsonb(Arc::new(Jsonb::parse(raw)?))),
        _ => {}
    }
    if element_of(ty.oid) != 0 {
        match raw_type_name(raw)? {
            "array" => return array(raw, ty, style),
            "string" => {}
            _ => {
                return Err(Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "expected JSON array"));
            }
        }
    }
    match raw_as_text(raw)? {
        Some(text) => value::text::input(ty, &text, style),
        None => Ok(Datum::Null),
    }
}

/// Nested arrays become dimensions as far as every element at a level is one.
fn array(raw: &str, ty: Type, style: &Style) -> Result<Datum> {
    let element = Type::with_typmod(element_of(ty.oid), ty.typmod);
    let mut level = raw_elements(raw)?;
    let mut dims = vec![level.len()];
    let nests = |level: &[&str]| -> Result<bool> {
        if level.is_empty() || matches!(element.oid, JSON | JSONB) {
            return Ok(false);
        }
        level.iter().try_fold(true, |all, raw| Ok(all && raw_type_name(raw)? == "array"))
    };
    while nests(&level)? {
        let parts = level.iter().map(|raw| raw_elements(raw)).collect::<Result<Vec<_>>>()?;
        let length = parts.first().map_or(0, Vec::len);
        if parts.iter().any(|part| part.len() != length) {
            return Err(Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "malformed JSON array")
                .detail("Multidimensional arrays must have sub-arrays with matching dimensions."));
        }
        dims.push(length);
        level = parts.concat();
    }
    let values = level.into_iter().map(|raw| convert(raw, element, style)).collect::<Result<Vec<_>>>()?;
    let dims = if values.is_empty() {
        Vec::new()
    } else {
        dims.into_iter().map(|len| Dimension { lower: 1, len: len as i32 }).collect()
    };
    Ok(Datum::Array(Arc::new(Array::new(element.oid, dims, values)?)))
}

fn document(args: &[Datum]) -> Result<Cow<'_, str>> {
    match args.first() {
        Some(Datum::Text(json)) => Ok(Cow::Borrowed(json)),
        Some(Datum::Jsonb(json)) => Ok(Cow::Owned(json.to_string())),
        _ => Err(mismatch(args)),
    }
}

fn columns(call: &Call<'_>, args: &[Datum]) -> Result<Vec<(Arc<str>, Type)>> {
    let Some(Datum::Array(names)) = args.get(1) else {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "a column definition list is required for functions returning \"record\"",
        ));
    };
    let types = call.signature.args.iter().skip(2);
    names
        .values
        .iter()
        .zip(types)
        .map(|(name, ty)| match name {
            Datum::Text(name) => Ok((name.clone(), *ty)),
            _ => Err(mismatch(args)),
        })
        .collect()
}

fn fields(raw: &str, columns: &[(Arc<str>, Type)], style: &Style) -> Result<Vec<Datum>> {
    columns
        .iter()
        .map(|(name, ty)| raw_field(raw, name)?.map_or(Ok(Datum::Null), |raw| convert(raw, *ty, style)))
        .collect()
}

fn record(function: &str, call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let columns = columns(call, args)?;
    if args.first().is_some_and(Datum::is_null) {
        return Ok(Box::new(std::iter::once(Ok(vec![Datum::Null; columns.len()]))));
    }
    let json = document(args)?;
    match raw_type_name(&json)? {
        "object" => {}
        "array" => return Err(invalid_parameter(format!("cannot call {function} on an array"))),
        _ => return Err(invalid_parameter(format!("cannot call {function} on a scalar"))),
    }
    let row = fields(&json, &columns, call.env.style())?;
    Ok(Box::new(std::iter::once(Ok(row))))
}

fn recordset(function: &str, call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let columns = columns(call, args)?;
    if args.first().is_some_and(Datum::is_null) {
        return Ok(Box::new(std::iter::empty()));
    }
    let json = document(args)?;
    match raw_type_name(&json)? {
        "array" => {}
        "object" => return Err(invalid_parameter(format!("cannot call {function} on an object"))),
        _ => return Err(invalid_parameter(format!("cannot call {function} on a scalar"))),
    }
    let mut rows = Vec::new();
    for raw in raw_elements(&json)? {
        if raw_type_name(raw)? != "object" {
            return Err(invalid_parameter(format!("argument of {function} must be an array of objects")));
        }
        rows.push(fields(raw, &columns, call.env.style())?);
    }
    Ok(Box::new(rows.into_iter().map(Ok)))
}

/// The function as listed, and the form with the columns that the resolver calls instead.
macro_rules! pair {
    ($oid:literal, $hidden:literal, $name:literal, $ty:expr, $run:ident) => {
        [
            s($oid, $name, &[$ty], RECORD, &[], |call, args| $run($name, call, args)).stable().nullable(),
            s($hidden, concat!("\u{1}", $name), &[$ty, TEXT_ARRAY, ANY], RECORD, &[], |call, args| {
                $run($name, call, args)
            })
            .stable()
            .nullable()
            .variadic(),
        ]
    };
}

static PAIRS: [[SetFunction; 2]; 4] = [
    pair!(3204, 9301, "json_to_record", JSON, record),
    pair!(3205, 9302, "json_to_recordset", JSON, recordset),
    pair!(3490, 9303, "jsonb_to_record", JSONB, record),
    pair!(3491, 9304, "jsonb_to_recordset", JSONB, recordset),
];

pub(crate) static SET_FUNCTIONS: &[SetFunction] = PAIRS.as_flattened();
