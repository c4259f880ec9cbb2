//! JSON values: [`Jsonb`] is the parsed tree that the type jsonb stores; `raw_*` work on the text of the type json.
//!
//! Object members are kept as PostgreSQL keeps them, sorted by key length and then bytes, so that printing, order
//! and equality agree with it. Nesting is bounded by [`MAX_DEPTH`], which keeps every recursion here safe.

mod parse;
mod raw;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use parse::MAX_DEPTH;
pub use raw::{
    raw_as_text, raw_elements, raw_field, raw_index, raw_members, raw_path, raw_type_name, validate,
};

use crate::{Error, Numeric, Result, SqlState};

/// A parsed JSON value as jsonb stores it. Order, equality and hash are jsonb's.
#[derive(Clone, Debug)]
pub enum Jsonb {
    Null,
    Bool(bool),
    Number(Numeric),
    String(Arc<str>),
    Array(Vec<Jsonb>),
    /// Sorted by key length, then bytes; keys are unique. Built by [`Jsonb::object`].
    Object(Vec<(Arc<str>, Jsonb)>),
}

fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

fn wrong(message: &str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl Jsonb {
    /// 22P02 `invalid input syntax for type json`, 54001 for too deep nesting.
    pub fn parse(text: &str) -> Result<Jsonb> {
        let mut reader = parse::Reader::new(text, true);
        let value = reader.value()?;
        reader.finish()?;
        Ok(value)
    }

    pub fn string(text: impl Into<Arc<str>>) -> Jsonb {
        Jsonb::String(text.into())
    }

    /// An object of pairs in any order; the last of equal keys wins.
    pub fn object(mut pairs: Vec<(Arc<str>, Jsonb)>) -> Jsonb {
        // Stable, reversed first: of equal keys the last one written comes first and is kept.
        pairs.reverse();
        pairs.sort_by(|a, b| key_order(&a.0, &b.0));
        pairs.dedup_by(|later, kept| later.0 == kept.0);
        Jsonb::Object(pairs)
    }

    fn find(pairs: &[(Arc<str>, Jsonb)], key: &str) -> Result<usize, usize> {
        pairs.binary_search_by(|(name, _)| key_order(name, key))
    }

    pub fn is_scalar(&self) -> bool {
        !matches!(self, Jsonb::Array(_) | Jsonb::Object(_))
    }

    /// `-> text`: `None` when there is no such key or this is no object.
    pub fn field(&self, key: &str) -> Option<&Jsonb> {
        match self {
            Jsonb::Object(pairs) => Self::find(pairs, key).ok().map(|at| &pairs[at].1),
            _ => None,
        }
    }

    /// `-> integer`: negative counts from the end.
    pub fn index(&self, index: i32) -> Option<&Jsonb> {
        match self {
            Jsonb::Array(values) => values.get(place(values.len(), index)?),
            _ => None,
        }
    }

    /// `#>`: keys for objects, whole numbers for arrays.
    pub fn path<S: AsRef<str>>(&self, path: &[S]) -> Option<&Jsonb> {
        path.iter().try_fold(self, |value, step| {
            let step = step.as_ref();
            match value {
                Jsonb::Array(_) => value.index(step.trim().parse().ok()?),
                _ => value.field(step),
            }
        })
    }

    /// `->>`: strings without quotes, JSON null is SQL NULL (`None`).
    pub fn as_text(&self) -> Option<String> {
        match self {
            Jsonb::Null => None,
            Jsonb::String(text) => Some(text.to_string()),
            other => Some(other.to_string()),
        }
    }

    /// `@>`: at the top an array also contains a bare scalar.
    pub fn contains(&self, other: &Jsonb) -> bool {
        match (self, other) {
            (Jsonb::Array(values), scalar) if scalar.is_scalar() => values.contains(scalar),
            _ => self.contains_deep(other),
        }
    }

    fn contains_deep(&self, other: &Jsonb) -> bool {
        match (self, other) {
            (Jsonb::Object(_), Jsonb::Object(wanted)) => {
                wanted.iter().all(|(key, value)| self.field(key).is_some_and(|own| own.contains_deep(value)))
            }
            (Jsonb::Array(values), Jsonb::Array(wanted)) => {
                wanted.iter().all(|value| values.iter().any(|own| own.contains_deep(value)))
            }
            (a, b) => a.is_scalar() && b.is_scalar() && a == b,
        }
    }

    /// `?`: a key of an object, a string element of an array, or the string itself.
    pub fn exists(&self, key: &str) -> bool {
        match self {
            Jsonb::Object(_) => self.field(key).is_some(),
            Jsonb::Array(values) => values.iter().any(|v| matches!(v, Jsonb::String(s) if **s == *key)),
            Jsonb::String(text) => **text == *key,
            _ => false,
        }
    }

    /// `jsonb_typeof`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Jsonb::Null => "null",
            Jsonb::Bool(_) => "boolean",
            Jsonb::Number(_) => "number",
            Jsonb::String(_) => "string",
            Jsonb::Array(_) => "array",
            Jsonb::Object(_) => "object",
        }
    }

    /// `jsonb_array_length`; 22023.
    pub fn array_length(&self) -> Result<usize> {
        match self {
            Jsonb::Array(values) => Ok(values.len()),
            Jsonb::Object(_) => Err(wrong("cannot get array length of a non-array")),
            _ => Err(wrong("cannot get array length of a scalar")),
        }
    }

    /// `||`: objects merge (the right one wins), everything else joins as arrays.
    pub fn concat(&self, other: &Jsonb) -> Result<Jsonb> {
        if let (Jsonb::Object(a), Jsonb::Object(b)) = (self, other) {
            return Ok(Jsonb::object(a.iter().chain(b).cloned().collect()));
        }
        let parts = |value: &Jsonb| match value {
            Jsonb::Array(values) => values.clone(),
            single => vec![single.clone()],
        };
        let mut values = parts(self);
        values.extend(parts(other));
        Ok(Jsonb::Array(values))
    }

    /// `- text`: 22023 for scalars.
    pub fn delete_key(&self, key: &str) -> Result<Jsonb> {
        match self {
            Jsonb::Object(pairs) => {
                Ok(Jsonb::Object(pairs.iter().filter(|(name, _)| **name != *key).cloned().collect()))
            }
            Jsonb::Array(values) => Ok(Jsonb::Array(
                values
                    .iter()
                    .filter(|value| !matches!(value, Jsonb::String(text) if **text == *key))
                    .cloned()
                    .collect(),
            )),
            _ => Err(wrong("cannot delete from scalar")),
        }
    }

    /// `- integer`: 22023 for anything but arrays.
    pub fn delete_index(&self, index: i32) -> Result<Jsonb> {
        match self {
            Jsonb::Array(values) => {
                let mut values = values.clone();
                if let Some(at) = place(values.len(), index) {
                    values.remove(at);
                }
                Ok(Jsonb::Array(values))
            }
            Jsonb::Object(_) => Err(wrong("cannot delete from object using integer index")),
            _ => Err(wrong("cannot delete from scalar")),
        }
    }

    /// `#-`.
    pub fn delete_path<S: AsRef<str>>(&self, path: &[S]) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(wrong("cannot delete path in scalar"));
        }
        self.change(path, 0, &Change::Delete)
    }

    /// `jsonb_set(target, path, value, create_if_missing)`.
    pub fn set_path<S: AsRef<str>>(&self, path: &[S], value: Jsonb, create: bool) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(wrong("cannot set path in scalar"));
        }
        self.change(path, 0, &Change::Set { value, create })
    }

    /// `jsonb_insert(target, path, value, insert_after)`.
    pub fn insert_path<S: AsRef<str>>(&self, path: &[S], value: Jsonb, after: bool) -> Result<Jsonb> {
        if self.is_scalar() {
            return Err(wrong("cannot set path in scalar"));
        }
        self.change(path, 0, &Change::Insert { value, after })
    }

    fn change<S: AsRef<str>>(&self, path: &[S], depth: usize, change: &Change) -> Result<Jsonb> {
        let Some(step) = path.get(depth).map(AsRef::as_ref) else { return Ok(self.clone()) };
        let last = depth + 1 == path.len();
        match self {
            Jsonb::Object(pairs) => {
                let mut pairs = pairs.clone();
                match (Self::find(&pairs, step), last) {
                    (Ok(at), false) => pairs[at].1 = pairs[at].1.change(path, depth + 1, change)?,
                    (Ok(at), true) => match change {
                        Change::Delete => {
                            pairs.remove(at);
                        }
                        Change::Set { value, .. } => pairs[at].1 = value.clone(),
                        Change::Insert { .. } => {
                            return Err(wrong("cannot replace existing key")
                                .hint("Try using the function jsonb_set to replace key value."));
                        }
                    },
                    (Err(at), true) => match change {
                        Change::Set { value, create: true } | Change::Insert { value, .. } => {
                            pairs.insert(at, (Arc::from(step), value.clone()));
                        }
                        _ => {}
                    },
                    (Err(_), false) => {}
                }
                Ok(Jsonb::Object(pairs))
            }
            Jsonb::Array(values) => {
                let index: i32 = step.trim().parse().map_err(|_| {
                    Error::new(
                        SqlState::INVALID_TEXT_REPRESENTATION,
                        format!("path element at position {} is not an integer: \"{step}\"", depth + 1),
                    )
                })?;
                let mut values = values.clone();
                match (place(values.len(), index), last) {
                    (Some(at), false) => values[at] = values[at].change(path, depth + 1, change)?,
                    (Some(at), true) => match change {
                        Change::Delete => {
                            values.remove(at);
                        }
                        Change::Set { value, .. } => values[at] = value.clone(),
                        Change::Insert { value, after } => {
                            values.insert(at + usize::from(*after), value.clone())
                        }
                    },
                    (None, true) => match change {
                        Change::Set { value, create: true } | Change::Insert { value, .. } => {
                            let at = if index < 0 { 0 } else { values.len() };
                            values.insert(at, value.clone());
                        }
                        _ => {}
                    },
                    (None, false) => {}
                }
                Ok(Jsonb::Array(values))
            }
            scalar => Ok(scalar.clone()),
        }
    }

    /// Without object members that are null, at every depth.
    pub fn strip_nulls(&self) -> Jsonb {
        match self {
            Jsonb::Object(pairs) => Jsonb::Object(
                pairs
                    .iter()
                    .filter(|(_, value)| !matches!(value, Jsonb::Null))
                    .map(|(key, value)| (key.clone(), value.strip_nulls()))
                    .collect(),
            ),
            Jsonb::Array(values) => Jsonb::Array(values.iter().map(Jsonb::strip_nulls).collect()),
            other => other.clone(),
        }
    }

    /// `jsonb_pretty`: four blanks a level.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(&mut out, 0);
        out
    }

    fn write_pretty(&self, out: &mut String, level: usize) {
        let line = |out: &mut String, level: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', level * 4));
        };
        match self {
            Jsonb::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    line(out, level + 1);
                    value.write_pretty(out, level + 1);
                }
                line(out, level);
                out.push(']');
            }
            Jsonb::Object(pairs) => {
                out.push('{');
                for (at, (key, value)) in pairs.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    line(out, level + 1);
                    quote(key, out);
                    out.push_str(": ");
                    value.write_pretty(out, level + 1);
                }
                line(out, level);
                out.push('}');
            }
            scalar => scalar.write(out),
        }
    }

    /// Appends the text form, e.g. `{"a": [1, 2]}`.
    pub fn write(&self, out: &mut String) {
        match self {
            Jsonb::Null => out.push_str("null"),
            Jsonb::Bool(true) => out.push_str("true"),
            Jsonb::Bool(false) => out.push_str("false"),
            Jsonb::Number(number) => out.push_str(&number.to_string()),
            Jsonb::String(text) => quote(text, out),
            Jsonb::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Jsonb::Object(pairs) => {
                out.push('{');
                for (at, (key, value)) in pairs.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The order of types among each other: null < string < number < boolean < array < object.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Jsonb::Null => 1,
            Jsonb::String(_) => 2,
            Jsonb::Number(_) => 3,
            Jsonb::Bool(_) => 4,
            Jsonb::Array(_) => 5,
            Jsonb::Object(_) => 6,
        }
    }

    fn compare_deep(&self, other: &Jsonb) -> Ordering {
        match (self, other) {
            (Jsonb::Bool(a), Jsonb::Bool(b)) => a.cmp(b),
            (Jsonb::Number(a), Jsonb::Number(b)) => a.cmp(b),
            (Jsonb::String(a), Jsonb::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Jsonb::Array(a), Jsonb::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter().zip(b).map(|(a, b)| a.compare_deep(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
            }),
            (Jsonb::Object(a), Jsonb::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| a.0.as_bytes().cmp(b.0.as_bytes()).then_with(|| a.1.compare_deep(&b.1)))
                    .find(|o| o.is_ne())
                    .unwrap_or(Ordering::Equal)
            }),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// At the top PostgreSQL sorts the empty array before everything else.
    pub(crate) fn top_rank(&self) -> u8 {
        match self {
            Jsonb::Array(values) if values.is_empty() => 0,
            other => other.rank(),
        }
    }
}

enum Change {
    Delete,
    Set { value: Jsonb, create: bool },
    Insert { value: Jsonb, after: bool },
}

/// The place of a possibly negative index, `None` outside.
fn place(len: usize, index: i32) -> Option<usize> {
    let at = if index < 0 { len as i64 + i64::from(index) } else { i64::from(index) };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// Appends `text` as a JSON string with quotes.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

impl fmt::Display for Jsonb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

impl PartialEq for Jsonb {
    fn eq(&self, other: &Jsonb) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Jsonb {}

impl PartialOrd for Jsonb {
    fn partial_cmp(&self, other: &Jsonb) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jsonb {
    fn cmp(&self, other: &Jsonb) -> Ordering {
        self.top_rank().cmp(&other.top_rank()).then_with(|| self.compare_deep(other))
    }
}

impl Hash for Jsonb {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank());
        match self {
            Jsonb::Null => {}
            Jsonb::Bool(value) => value.hash(state),
            Jsonb::Number(number) => number.hash(state),
            Jsonb::String(text) => text.hash(state),
            Jsonb::Array(values) => values.hash(state),
            Jsonb::Object(pairs) => pairs.hash(state),
        }
    }
}

#[cfg(test)]
mod tests;
