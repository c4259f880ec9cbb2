//! json and jsonb. json values stay the text they were written as; jsonb values are trees. Building either from SQL
//! values follows PostgreSQL to the blank: `json_build_object` writes `{"a" : 1}`, `row_to_json` writes `{"a":1}`.

use std::sync::Arc;

use value::json::{
    quote, raw_as_text, raw_elements, raw_field, raw_index, raw_members, raw_path, raw_type_name,
};
use value::text::{Style, output_string};
use value::types::oid::*;
use value::{Array, Datum, Error, Jsonb, Numeric, Oid, Record, Result, SqlState};

use crate::declare::{f, invalid_parameter, mismatch, text_of, thunk};
use crate::text::type_at;
use crate::{Call, Function};

pub(crate) fn jsonb(value: Jsonb) -> Result<Datum> {
    Ok(Datum::Jsonb(Arc::new(value)))
}

fn optional_jsonb(value: Option<&Jsonb>) -> Result<Datum> {
    value.map_or(Ok(Datum::Null), |value| jsonb(value.clone()))
}

fn optional_text(value: Option<String>) -> Result<Datum> {
    value.map_or(Ok(Datum::Null), text_of)
}

/// Dates and times in ISO 8601 with a `T`, whatever the session's DateStyle.
fn moment_text(value: &Datum, ty: Oid, style: &Style) -> String {
    let mut iso = style.clone();
    iso.date_style.format = value::text::DateFormat::Iso;
    let text = output_string(value, ty, &iso);
    // "2024-01-02 03:04:05 BC": only the first blank separates date and time.
    match value {
        Datum::Timestamp(_) => text.replacen(' ', "T", 1),
        Datum::TimestampTz(_) => {
            let mut text = text.replacen(' ', "T", 1);
            // The offset always shows its minutes here: "+00" becomes "+00:00".
            let sign = text.len().checked_sub(3).and_then(|at| text.as_bytes().get(at)).copied();
            if matches!(sign, Some(b'+' | b'-')) {
                text.push_str(":00");
            }
            text
        }
        _ => text,
    }
}

fn is_number(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit())
}

/// A field's own name, else `f1`, `f2` ...
fn field_name(record: &Record, at: usize) -> Arc<str> {
    match record.names.as_ref().and_then(|names| names.get(at)) {
        Some(name) => name.clone(),
        None => Arc::from(format!("f{}", at + 1)),
    }
}

/// Appends `value` as JSON text.
pub(crate) fn write_json(value: &Datum, ty: Oid, style: &Style, out: &mut String) -> Result<()> {
    write_lines(value, ty, style, false, out)
}

/// With `pretty`, the outermost array or row puts each element on a line of its own.
fn write_lines(value: &Datum, ty: Oid, style: &Style, pretty: bool, out: &mut String) -> Result<()> {
    match value {
        Datum::Null => out.push_str("null"),
        Datum::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Datum::Int2(_)
        | Datum::Int4(_)
        | Datum::Int8(_)
        | Datum::Float4(_)
        | Datum::Float8(_)
        | Datum::Numeric(_) => {
            let text = output_string(value, ty, style);
            if is_number(&text) { out.push_str(&text) } else { quote(&text, out) }
        }
        Datum::Text(text) if ty == JSON => out.push_str(text),
        Datum::Text(text) => quote(text, out),
        Datum::Jsonb(value) => out.push_str(&value.to_string()),
        Datum::Date(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => {
            quote(&moment_text(value, ty, style), out);
        }
        Datum::Array(array) => write_array(array, style, pretty, out)?,
        Datum::Record(record) => {
            out.push('{');
            for (at, (field, &ty)) in record.fields.iter().zip(&record.types).enumerate() {
                if at > 0 {
                    out.push_str(if pretty { ",\n " } else { "," });
                }
                quote(&field_name(record, at), out);
                out.push(':');
                write_json(field, ty, style, out)?;
            }
            out.push('}');
        }
        value => quote(&output_string(value, ty, style), out),
    }
    Ok(())
}

fn write_array(array: &Array, style: &Style, pretty: bool, out: &mut String) -> Result<()> {
    fn level(
        array: &Array,
        depth: usize,
        at: &mut usize,
        style: &Style,
        pretty: bool,
        out: &mut String,
    ) -> Result<()> {
        out.push('[');
        let count = array.dims.get(depth).map_or(0, |dim| dim.len);
        for position in 0..count {
            if position > 0 {
                out.push_str(if pretty && depth == 0 { ",\n " } else { "," });
            }
            if depth + 1 < array.dims.len() {
                level(array, depth + 1, at, style, pretty, out)?;
            } else {
                write_json(&array.values[*at], array.element, style, out)?;
                *at += 1;
            }
        }
        out.push(']');
        Ok(())
    }
    level(array, 0, &mut 0, style, pretty, out)
}

/// `value` as jsonb.
pub(crate) fn to_jsonb(value: &Datum, ty: Oid, style: &Style) -> Result<Jsonb> {
    let string = |text: String| Jsonb::String(Arc::from(text));
    Ok(match value {
        Datum::Null => Jsonb::Null,
        Datum::Bool(value) => Jsonb::Bool(*value),
        Datum::Int2(value) => Jsonb::Number(Numeric::from_i64(i64::from(*value))),
        Datum::Int4(value) => Jsonb::Number(Numeric::from_i64(i64::from(*value))),
        Datum::Int8(value) => Jsonb::Number(Numeric::from_i64(*value)),
        Datum::Numeric(value) if !value.is_nan() && !value.is_infinite() => Jsonb::Number((**value).clone()),
        Datum::Float4(_) | Datum::Float8(_) | Datum::Numeric(_) => {
            let text = output_string(value, ty, style);
            if is_number(&text) { Jsonb::Number(Numeric::parse(&text)?) } else { string(text) }
        }
        Datum::Text(text) if ty == JSON => Jsonb::parse(text)?,
        Datum::Text(text) => Jsonb::String(text.clone()),
        Datum::Jsonb(value) => (**value).clone(),
        Datum::Date(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => string(moment_text(value, ty, style)),
        Datum::Array(array) => array_to_jsonb(array, 0, &mut 0, style)?,
        Datum::Record(record) => {
            let mut members = Vec::with_capacity(record.fields.len());
            for (at, (field, &ty)) in record.fields.iter().zip(&record.types).enumerate() {
                members.push((field_name(record, at), to_jsonb(field, ty, style)?));
            }
            Jsonb::object(members)
        }
        value => string(output_string(value, ty, style)),
    })
}

fn array_to_jsonb(array: &Array, depth: usize, at: &mut usize, style: &Style) -> Result<Jsonb> {
    let count = array.dims.get(depth).map_or(0, |dim| dim.len);
    let mut elements = Vec::with_capacity(count as usize);
    for _ in 0..count {
        if depth + 1 < array.dims.len() {
            elements.push(array_to_jsonb(array, depth + 1, at, style)?);
        } else {
            elements.push(to_jsonb(&array.values[*at], array.element, style)?);
            *at += 1;
        }
    }
    Ok(Jsonb::Array(elements))
}

/// An object key from any scalar value.
pub(crate) fn key_text(value: &Datum, ty: Oid, style: &Style) -> Result<Arc<str>> {
    match value {
        Datum::Array(_) | Datum::Record(_) | Datum::Jsonb(_) => Err(scalar_key()),
        Datum::Text(_) if ty == JSON => Err(scalar_key()),
        Datum::Text(text) => Ok(text.clone()),
        Datum::Bool(value) => Ok(Arc::from(if *value { "true" } else { "false" })),
        Datum::Date(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => {
            Ok(Arc::from(moment_text(value, ty, style)))
        }
        value => Ok(Arc::from(output_string(value, ty, style))),
    }
}

fn scalar_key() -> Error {
    invalid_parameter("key value must be scalar, not array, composite, or json")
}

fn odd_arguments(function: &str) -> Error {
    invalid_parameter("argument list must have even number of elements")
        .hint(format!("The arguments of {function}() must consist of alternating keys and values."))
}

fn json_build_object(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    if !args.len().is_multiple_of(2) {
        return Err(odd_arguments("json_build_object"));
    }
    let style = call.env.style();
    let mut out = String::from("{");
    for (at, pair) in args.chunks_exact(2).enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        if pair[0].is_null() {
            return Err(invalid_parameter(format!("argument {} cannot be null", 2 * at + 1))
                .hint("Object keys should be text."));
        }
        quote(&key_text(&pair[0], type_at(call, 2 * at), style)?, &mut out);
        out.push_str(" : ");
        write_json(&pair[1], type_at(call, 2 * at + 1), style, &mut out)?;
    }
    out.push('}');
    text_of(out)
}

fn jsonb_build_object(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    if !args.len().is_multiple_of(2) {
        return Err(odd_arguments("jsonb_build_object"));
    }
    let style = call.env.style();
    let mut members = Vec::with_capacity(args.len() / 2);
    for (at, pair) in args.chunks_exact(2).enumerate() {
        if pair[0].is_null() {
            return Err(invalid_parameter(format!("argument {}: key must not be null", 2 * at + 1)));
        }
        let key = key_text(&pair[0], type_at(call, 2 * at), style)?;
        members.push((key, to_jsonb(&pair[1], type_at(call, 2 * at + 1), style)?));
    }
    jsonb(Jsonb::object(members))
}

fn json_build_array(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let mut out = String::from("[");
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write_json(arg, type_at(call, at), call.env.style(), &mut out)?;
    }
    out.push(']');
    text_of(out)
}

fn jsonb_build_array(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let elements = args
        .iter()
        .enumerate()
        .map(|(at, arg)| to_jsonb(arg, type_at(call, at), call.env.style()))
        .collect::<Result<Vec<_>>>()?;
    jsonb(Jsonb::Array(elements))
}

fn to_json(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let [value] = args else { return Err(mismatch(args)) };
    let mut out = String::new();
    write_json(value, type_at(call, 0), call.env.style(), &mut out)?;
    text_of(out)
}

fn array_to_json(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let Some(Datum::Array(array)) = args.first() else { return Err(mismatch(args)) };
    let pretty = matches!(args.get(1), Some(Datum::Bool(true)));
    let mut out = String::new();
    write_array(array, call.env.style(), pretty, &mut out)?;
    text_of(out)
}

/// A row of a relation with its field names: `[nullable, name, value, name, value ...]`. Where an outer join may have
/// made up the row (`nullable`), one of NULLs alone is no row.
fn named_row(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let Some((Datum::Bool(nullable), pairs)) = args.split_first() else { return Err(mismatch(args)) };
    if *nullable && pairs.chunks_exact(2).all(|pair| pair[1].is_null()) {
        return Ok(Datum::Null);
    }
    let names = match &call.state {
        Some(kept) => kept.downcast_ref::<Arc<[Arc<str>]>>().cloned(),
        None => None,
    };
    let names = match names {
        Some(names) => names,
        None => {
            let names: Arc<[Arc<str>]> = pairs
                .chunks_exact(2)
                .map(|pair| match &pair[0] {
                    Datum::Text(name) => Ok(name.clone()),
                    _ => Err(mismatch(args)),
                })
                .collect::<Result<_>>()?;
            *call.state = Some(Box::new(names.clone()));
            names
        }
    };
    let types = (0..names.len()).map(|at| type_at(call, 2 * at + 2)).collect();
    let fields = pairs.chunks_exact(2).map(|pair| pair[1].clone()).collect();
    Ok(Datum::Record(Arc::new(Record { types, fields, names: Some(names) })))
}

fn row_to_json(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let Some(record @ Datum::Record(_)) = args.first() else { return Err(mismatch(args)) };
    let pretty = matches!(args.get(1), Some(Datum::Bool(true)));
    let mut out = String::new();
    write_lines(record, RECORD, call.env.style(), pretty, &mut out)?;
    text_of(out)
}

/// The path of `#>` (one array) or of `json_extract_path` (text by text); `None` with a NULL in it.
fn path_of(args: &[Datum]) -> Result<Option<Vec<Arc<str>>>> {
    let elements = match args {
        [Datum::Array(array)] => array.values.as_slice(),
        texts => texts,
    };
    elements
        .iter()
        .map(|element| match element {
            Datum::Text(text) => Ok(Some(text.clone())),
            Datum::Null => Ok(None),
            _ => Err(mismatch(args)),
        })
        .collect()
}

/// A path that is changed: a NULL in it is an error.
fn strict_path(array: &Array) -> Result<Vec<Arc<str>>> {
    if array.dims.len() > 1 {
        return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts"));
    }
    array
        .values
        .iter()
        .enumerate()
        .map(|(at, element)| match element {
            Datum::Text(text) => Ok(text.clone()),
            _ => Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                format!("path element at position {} is null", at + 1),
            )),
        })
        .collect()
}

fn extract_path(args: &[Datum], as_text: bool) -> Result<Datum> {
    let Some((document, path)) = args.split_first() else { return Err(mismatch(args)) };
    let Some(path) = path_of(path)? else { return Ok(Datum::Null) };
    match document {
        Datum::Text(json) => match raw_path(json, &path)? {
            Some(raw) if as_text => optional_text(raw_as_text(raw)?),
            Some(raw) => text_of(raw),
            None => Ok(Datum::Null),
        },
        Datum::Jsonb(json) => match json.path(&path) {
            Some(found) if as_text => optional_text(found.as_text()),
            found => optional_jsonb(found),
        },
        _ => Err(mismatch(args)),
    }
}

fn delete_keys(args: &[Datum]) -> Result<Datum> {
    let Some((Datum::Jsonb(json), keys)) = args.split_first() else { return Err(mismatch(args)) };
    let keys = match keys {
        [Datum::Array(array)] => array.values.as_slice(),
        keys => keys,
    };
    let mut result = (**json).clone();
    if !matches!(result, Jsonb::Object(_) | Jsonb::Array(_)) {
        return Err(invalid_parameter("cannot delete from scalar"));
    }
    for key in keys {
        if let Datum::Text(key) = key {
            result = result.delete_key(key)?;
        }
    }
    jsonb(result)
}

fn set(args: &[Datum]) -> Result<Datum> {
    let create = match args.get(3) {
        None => true,
        Some(Datum::Bool(create)) => *create,
        Some(_) => return Err(mismatch(args)),
    };
    match args {
        [Datum::Jsonb(json), Datum::Array(path), Datum::Jsonb(new), ..] => {
            jsonb(json.set_path(&strict_path(path)?, (**new).clone(), create)?)
        }
        _ => Err(mismatch(args)),
    }
}

/// `jsonb_set_lax`: what a NULL new value means is the last argument.
fn set_lax(args: &[Datum]) -> Result<Datum> {
    let (Some(json), Some(path)) = (args.first(), args.get(1)) else { return Err(mismatch(args)) };
    if json.is_null() || path.is_null() || args.get(3).is_some_and(Datum::is_null) {
        return Ok(Datum::Null);
    }
    if !args.get(2).is_some_and(Datum::is_null) {
        return set(&args[..args.len().min(4)]);
    }
    let treatment = match args.get(4) {
        None => "use_json_null",
        Some(Datum::Text(text)) => text,
        Some(_) => {
            return Err(invalid_parameter(
                "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
            ));
        }
    };
    let (Datum::Jsonb(document), Datum::Array(elements)) = (json, path) else { return Err(mismatch(args)) };
    match treatment {
        "raise_exception" => {
            Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "JSON value must not be null")
                .detail("Exception was raised because null_value_treatment is \"raise_exception\".")
                .hint("To avoid, either change the null_value_treatment argument or ensure that an SQL NULL is not passed."))
        }
        "use_json_null" => {
            let create = !matches!(args.get(3), Some(Datum::Bool(false)));
            jsonb(document.set_path(&strict_path(elements)?, Jsonb::Null, create)?)
        }
        "delete_key" => jsonb(document.delete_path(&strict_path(elements)?)?),
        "return_target" => Ok(json.clone()),
        _ => Err(invalid_parameter(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        )),
    }
}

fn insert(args: &[Datum]) -> Result<Datum> {
    let after = match args.get(3) {
        None => false,
        Some(Datum::Bool(after)) => *after,
        Some(_) => return Err(mismatch(args)),
    };
    match args {
        [Datum::Jsonb(json), Datum::Array(path), Datum::Jsonb(new), ..] => {
            jsonb(json.insert_path(&strict_path(path)?, (**new).clone(), after)?)
        }
        _ => Err(mismatch(args)),
    }
}

fn exists(json: &Jsonb, keys: &Array, all: bool) -> bool {
    let mut keys = keys.values.iter().filter_map(|key| match key {
        Datum::Text(key) => Some(json.exists(key)),
        _ => None,
    });
    if all { keys.all(|found| found) } else { keys.any(|found| found) }
}

/// Raw JSON without the members that are null.
fn strip_nulls(raw: &str, out: &mut String) -> Result<()> {
    match raw_type_name(raw)? {
        "object" => {
            out.push('{');
            let mut first = true;
            for (key, member) in raw_members(raw)? {
                if raw_type_name(member)? == "null" {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                quote(&key, out);
                out.push(':');
                strip_nulls(member, out)?;
            }
            out.push('}');
        }
        "array" => {
            out.push('[');
            for (at, element) in raw_elements(raw)?.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                strip_nulls(element, out)?;
            }
            out.push(']');
        }
        _ => out.push_str(raw.trim()),
    }
    Ok(())
}

/// Keys and values of `json_object`: pairs in one array, or two arrays.
fn object_pairs(args: &[Datum]) -> Result<Vec<(Arc<str>, Option<Arc<str>>)>> {
    let subscripts = || Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts");
    let pair = |key: &Datum, value: &Datum| match (key, value) {
        (Datum::Null, _) => {
            Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "null value not allowed for object key"))
        }
        (Datum::Text(key), Datum::Null) => Ok((key.clone(), None)),
        (Datum::Text(key), Datum::Text(value)) => Ok((key.clone(), Some(value.clone()))),
        _ => Err(mismatch(args)),
    };
    match args {
        [Datum::Array(pairs)] => {
            match pairs.dims.as_slice() {
                [] => return Ok(Vec::new()),
                [one] if one.len % 2 != 0 => {
                    return Err(Error::new(
                        SqlState::ARRAY_SUBSCRIPT_ERROR,
                        "array must have even number of elements",
                    ));
                }
                [_] => {}
                [_, two] if two.len == 2 => {}
                [_, _] => {
                    return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "array must have two columns"));
                }
                _ => return Err(subscripts()),
            }
            pairs.values.chunks_exact(2).map(|chunk| pair(&chunk[0], &chunk[1])).collect()
        }
        [Datum::Array(keys), Datum::Array(values)] => {
            if keys.dims.len() > 1 || values.dims.len() > 1 {
                return Err(subscripts());
            }
            if keys.values.len() != values.values.len() {
                return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "mismatched array dimensions"));
            }
            keys.values.iter().zip(&values.values).map(|(key, value)| pair(key, value)).collect()
        }
        _ => Err(mismatch(args)),
    }
}

fn json_object(args: &[Datum]) -> Result<Datum> {
    let mut out = String::from("{");
    for (at, (key, value)) in object_pairs(args)?.into_iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        quote(&key, &mut out);
        out.push_str(" : ");
        match value {
            Some(value) => quote(&value, &mut out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    text_of(out)
}

fn jsonb_object(args: &[Datum]) -> Result<Datum> {
    let members = object_pairs(args)?
        .into_iter()
        .map(|(key, value)| (key, value.map_or(Jsonb::Null, Jsonb::String)))
        .collect();
    jsonb(Jsonb::object(members))
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(3947, "json_object_field", &[JSON, TEXT], JSON, thunk!([Datum::Text(json), Datum::Text(key)] => match raw_field(json, key)? { Some(raw) => text_of(raw), None => Ok(Datum::Null) })),
    f(3948, "json_object_field_text", &[JSON, TEXT], TEXT, thunk!([Datum::Text(json), Datum::Text(key)] => match raw_field(json, key)? { Some(raw) => optional_text(raw_as_text(raw)?), None => Ok(Datum::Null) })),
    f(3949, "json_array_element", &[JSON, INT4], JSON, thunk!([Datum::Text(json), Datum::Int4(at)] => match raw_index(json, *at)? { Some(raw) => text_of(raw), None => Ok(Datum::Null) })),
    f(3950, "json_array_element_text", &[JSON, INT4], TEXT, thunk!([Datum::Text(json), Datum::Int4(at)] => match raw_index(json, *at)? { Some(raw) => optional_text(raw_as_text(raw)?), None => Ok(Datum::Null) })),
    f(3951, "json_extract_path", &[JSON, TEXT_ARRAY], JSON, |_, args| extract_path(args, false)).variadic(),
    f(3953, "json_extract_path_text", &[JSON, TEXT_ARRAY], TEXT, |_, args| extract_path(args, true)).variadic(),
    f(3956, "json_array_length", &[JSON], INT4, thunk!([Datum::Text(json)] => match raw_type_name(json)? { "array" => Ok(Datum::Int4(raw_elements(json)?.len() as i32)), "object" => Err(invalid_parameter("cannot get array length of a non-array")), _ => Err(invalid_parameter("cannot get array length of a scalar")) })),
    f(3968, "json_typeof", &[JSON], TEXT, thunk!([Datum::Text(json)] => text_of(raw_type_name(json)?))),
    f(3261, "json_strip_nulls", &[JSON], JSON, thunk!([Datum::Text(json)] => { let mut out = String::new(); strip_nulls(json, &mut out)?; text_of(out) })),
    f(3202, "json_object", &[TEXT_ARRAY], JSON, |_, args| json_object(args)),
    f(3203, "json_object", &[TEXT_ARRAY, TEXT_ARRAY], JSON, |_, args| json_object(args)),
    f(3263, "jsonb_object", &[TEXT_ARRAY], JSONB, |_, args| jsonb_object(args)),
    f(3264, "jsonb_object", &[TEXT_ARRAY, TEXT_ARRAY], JSONB, |_, args| jsonb_object(args)),
    f(3201, "json_build_object", &[], JSON, json_build_object).nullable().stable(),
    f(3200, "json_build_object", &[ANY], JSON, json_build_object).variadic().nullable().stable(),
    f(3274, "jsonb_build_object", &[], JSONB, jsonb_build_object).nullable().stable(),
    f(3273, "jsonb_build_object", &[ANY], JSONB, jsonb_build_object).variadic().nullable().stable(),
    f(3199, "json_build_array", &[], JSON, json_build_array).nullable().stable(),
    f(3198, "json_build_array", &[ANY], JSON, json_build_array).variadic().nullable().stable(),
    f(3272, "jsonb_build_array", &[], JSONB, jsonb_build_array).nullable().stable(),
    f(3271, "jsonb_build_array", &[ANY], JSONB, jsonb_build_array).variadic().nullable().stable(),
    f(3176, "to_json", &[ANYELEMENT], JSON, to_json).stable(),
    f(3787, "to_jsonb", &[ANYELEMENT], JSONB, thunk!(call; [value] => jsonb(to_jsonb(value, type_at(call, 0), call.env.style())?))).stable(),
    f(3153, "array_to_json", &[ANYARRAY], JSON, array_to_json).stable(),
    f(3154, "array_to_json", &[ANYARRAY, BOOL], JSON, array_to_json).stable(),
    f(9300, "\u{1}named_row", &[BOOL, ANY], RECORD, named_row).variadic().nullable().total(),
    f(3155, "row_to_json", &[RECORD], JSON, row_to_json).stable(),
    f(3156, "row_to_json", &[RECORD, BOOL], JSON, row_to_json).stable(),
    f(3478, "jsonb_object_field", &[JSONB, TEXT], JSONB, thunk!([Datum::Jsonb(json), Datum::Text(key)] => optional_jsonb(json.field(key)))).total(),
    f(3214, "jsonb_object_field_text", &[JSONB, TEXT], TEXT, thunk!([Datum::Jsonb(json), Datum::Text(key)] => optional_text(json.field(key).and_then(Jsonb::as_text)))).total(),
    f(3215, "jsonb_array_element", &[JSONB, INT4], JSONB, thunk!([Datum::Jsonb(json), Datum::Int4(at)] => optional_jsonb(json.index(*at)))).total(),
    f(3216, "jsonb_array_element_text", &[JSONB, INT4], TEXT, thunk!([Datum::Jsonb(json), Datum::Int4(at)] => optional_text(json.index(*at).and_then(Jsonb::as_text)))).total(),
    f(3217, "jsonb_extract_path", &[JSONB, TEXT_ARRAY], JSONB, |_, args| extract_path(args, false)).variadic(),
    f(3940, "jsonb_extract_path_text", &[JSONB, TEXT_ARRAY], TEXT, |_, args| extract_path(args, true)).variadic(),
    f(3207, "jsonb_array_length", &[JSONB], INT4, thunk!([Datum::Jsonb(json)] => json.array_length().map(|count| Datum::Int4(count as i32)))),
    f(3210, "jsonb_typeof", &[JSONB], TEXT, thunk!([Datum::Jsonb(json)] => text_of(json.type_name()))).total(),
    f(3262, "jsonb_strip_nulls", &[JSONB], JSONB, thunk!([Datum::Jsonb(json)] => jsonb(json.strip_nulls()))).total(),
    f(3306, "jsonb_pretty", &[JSONB], TEXT, thunk!([Datum::Jsonb(json)] => text_of(json.pretty()))).total(),
    f(4046, "jsonb_contains", &[JSONB, JSONB], BOOL, thunk!([Datum::Jsonb(a), Datum::Jsonb(b)] => Ok(Datum::Bool(a.contains(b))))).total(),
    f(4050, "jsonb_contained", &[JSONB, JSONB], BOOL, thunk!([Datum::Jsonb(a), Datum::Jsonb(b)] => Ok(Datum::Bool(b.contains(a))))).total(),
    f(4047, "jsonb_exists", &[JSONB, TEXT], BOOL, thunk!([Datum::Jsonb(json), Datum::Text(key)] => Ok(Datum::Bool(json.exists(key))))).total(),
    f(4048, "jsonb_exists_any", &[JSONB, TEXT_ARRAY], BOOL, thunk!([Datum::Jsonb(json), Datum::Array(keys)] => Ok(Datum::Bool(exists(json, keys, false))))).total(),
    f(4049, "jsonb_exists_all", &[JSONB, TEXT_ARRAY], BOOL, thunk!([Datum::Jsonb(json), Datum::Array(keys)] => Ok(Datum::Bool(exists(json, keys, true))))).total(),
    f(3301, "jsonb_concat", &[JSONB, JSONB], JSONB, thunk!([Datum::Jsonb(a), Datum::Jsonb(b)] => jsonb(a.concat(b)?))),
    f(3302, "jsonb_delete", &[JSONB, TEXT], JSONB, thunk!([Datum::Jsonb(json), Datum::Text(key)] => jsonb(json.delete_key(key)?))),
    f(3303, "jsonb_delete", &[JSONB, INT4], JSONB, thunk!([Datum::Jsonb(json), Datum::Int4(at)] => jsonb(json.delete_index(*at)?))),
    f(3343, "jsonb_delete", &[JSONB, TEXT_ARRAY], JSONB, |_, args| delete_keys(args)).variadic(),
    f(3304, "jsonb_delete_path", &[JSONB, TEXT_ARRAY], JSONB, thunk!([Datum::Jsonb(json), Datum::Array(path)] => jsonb(json.delete_path(&strict_path(path)?)?))),
    f(3305, "jsonb_set", &[JSONB, TEXT_ARRAY, JSONB, BOOL], JSONB, |_, args| set(args)).defaults(1),
    f(5054, "jsonb_set_lax", &[JSONB, TEXT_ARRAY, JSONB, BOOL, TEXT], JSONB, |_, args| set_lax(args)).nullable().defaults(2),
    f(3579, "jsonb_insert", &[JSONB, TEXT_ARRAY, JSONB, BOOL], JSONB, |_, args| insert(args)).defaults(1),
];
