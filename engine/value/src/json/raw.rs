//! The `json` type keeps its text as written; its accessors parse that text and answer with pieces of it.

use super::parse::Reader;
use crate::{Error, Result, SqlState};

fn not(message: &str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Checks that `text` is one JSON value (the input function of `json`).
pub fn validate(text: &str) -> Result<()> {
    let mut reader = Reader::new(text, false);
    reader.value()?;
    reader.finish()
}

/// Calls back with each member of an object; nothing happens for other values.
fn each_member<'a>(json: &'a str, mut member: impl FnMut(String, &'a str) -> Result<()>) -> Result<bool> {
    // Keys are wanted decoded, values only checked.
    let mut keys = Reader::new(json, true);
    if keys.peek() != Some(b'{') {
        return Ok(false);
    }
    keys.members(|reader, key| {
        reader.skip_blanks();
        let start = reader.position();
        reader.skip_value()?;
        member(key, &json[start..reader.position()])
    })?;
    Ok(true)
}

fn each_element<'a>(json: &'a str, mut element: impl FnMut(&'a str)) -> Result<bool> {
    let mut reader = Reader::new(json, false);
    if reader.peek() != Some(b'[') {
        return Ok(false);
    }
    reader.elements(|reader| {
        reader.skip_blanks();
        let start = reader.position();
        reader.value()?;
        element(&json[start..reader.position()]);
        Ok(())
    })?;
    Ok(true)
}

/// `json -> key`: the raw text of the member (the last of equal keys); `None` for other values than objects.
pub fn raw_field<'a>(json: &'a str, key: &str) -> Result<Option<&'a str>> {
    let mut found = None;
    each_member(json, |name, value| {
        if name == key {
            found = Some(value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// `json -> index`: negative counts from the end; `None` for other values than arrays.
pub fn raw_index(json: &str, index: i32) -> Result<Option<&str>> {
    let mut elements = Vec::new();
    each_element(json, |element| elements.push(element))?;
    let at = if index < 0 { elements.len() as i64 + i64::from(index) } else { i64::from(index) };
    Ok(usize::try_from(at).ok().and_then(|at| elements.get(at).copied()))
}

/// `json #> path`: keys for objects, whole numbers for arrays.
pub fn raw_path<'a, S: AsRef<str>>(json: &'a str, path: &[S]) -> Result<Option<&'a str>> {
    let mut at = json.trim_matches([' ', '\t', '\n', '\r']);
    for step in path {
        let step = step.as_ref();
        let next = if at.starts_with('[') {
            match step.trim().parse::<i32>() {
                Ok(index) => raw_index(at, index)?,
                Err(_) => None,
            }
        } else {
            raw_field(at, step)?
        };
        match next {
            Some(value) => at = value,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// The text of a raw JSON value as `->>` gives it: strings unquoted, null is `None`.
pub fn raw_as_text(raw: &str) -> Result<Option<String>> {
    let trimmed = raw.trim_matches([' ', '\t', '\n', '\r']);
    if trimmed == "null" {
        return Ok(None);
    }
    if trimmed.starts_with('"') {
        return Reader::new(trimmed, true).string().map(Some);
    }
    Ok(Some(trimmed.to_string()))
}

/// The elements of a raw array; 22023 otherwise.
pub fn raw_elements(json: &str) -> Result<Vec<&str>> {
    let mut elements = Vec::new();
    if each_element(json, |element| elements.push(element))? {
        return Ok(elements);
    }
    match raw_type_name(json)? {
        "object" => Err(not("cannot call json_array_elements on a non-array")),
        _ => Err(not("cannot call json_array_elements on a scalar")),
    }
}

/// The members of a raw object in the order written, duplicates kept; 22023 otherwise.
pub fn raw_members(json: &str) -> Result<Vec<(String, &str)>> {
    let mut members = Vec::new();
    let object = each_member(json, |key, value| {
        members.push((key, value));
        Ok(())
    })?;
    if object {
        return Ok(members);
    }
    match raw_type_name(json)? {
        "array" => Err(not("cannot deconstruct an array as an object")),
        _ => Err(not("cannot deconstruct a scalar")),
    }
}

/// `json_typeof`.
pub fn raw_type_name(json: &str) -> Result<&'static str> {
    let mut reader = Reader::new(json, false);
    Ok(match reader.peek() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "number",
        _ => return Err(reader.unexpected("JSON value")),
    })
}
