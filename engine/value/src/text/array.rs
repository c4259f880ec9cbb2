//! Arrays `{1,"a b",NULL}` with nested braces and explicit bounds `[0:2]={...}`, the vectors `1 2 3`, and records `(1,"a b",)`.

use super::{Style, is_blank};
use crate::array::{Array, Dimension, MAX_DIMENSIONS};
use crate::types::{Oid, Type, oid};
use crate::{Datum, Error, Result, SqlState};

fn malformed(text: &str, detail: &str) -> Error {
    Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""))
        .detail(detail)
}

/// int2vector, oidvector: numbers between blanks, counted from 0.
pub(super) fn vector(element: Oid, text: &str, style: &Style) -> Result<Array> {
    let mut values = Vec::new();
    for word in text.split(is_blank).filter(|word| !word.is_empty()) {
        values.push(super::input(Type::new(element), word, style)?);
    }
    let mut array = Array::from_values(element, values);
    if let Some(dim) = array.dims.first_mut() {
        dim.lower = 0;
    }
    Ok(array)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    element: Type,
    style: &'a Style,
    /// Lengths by depth, fixed by the first sub-array of each depth.
    lengths: Vec<Option<usize>>,
    /// The depth at which elements (not sub-arrays) stand.
    leaf: Option<usize>,
    values: Vec<Datum>,
}

/// Reads an array literal of `element`s. 22P02 with PostgreSQL's details for malformed ones.
pub(super) fn parse(element: Type, text: &str, style: &Style) -> Result<Array> {
    let mut parser = Parser {
        text,
        rest: text.trim_start_matches(is_blank),
        element,
        style,
        lengths: Vec::new(),
        leaf: None,
        values: Vec::new(),
    };
    let bounds = parser.bounds()?;
    if !parser.rest.starts_with('{') {
        return Err(malformed(
            text,
            if bounds.is_some() {
                "Array contents must start with \"{\"."
            } else {
                "Array value must start with \"{\" or dimension information."
            },
        ));
    }
    parser.braces(0)?;
    if !parser.rest.trim_matches(is_blank).is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let lengths: Vec<i32> = parser.lengths.iter().map(|len| len.unwrap_or(0) as i32).collect();
    if parser.values.is_empty() {
        if bounds.is_some_and(|b| b.iter().any(|dim| dim.len != 0)) {
            return Err(malformed(text, "Specified array dimensions do not match array contents."));
        }
        return Ok(Array::empty(element.oid));
    }
    let dims = match bounds {
        Some(bounds) => {
            if bounds.len() != lengths.len() || bounds.iter().zip(&lengths).any(|(b, len)| b.len != *len) {
                return Err(malformed(text, "Specified array dimensions do not match array contents."));
            }
            bounds
        }
        None => lengths.iter().map(|&len| Dimension { len, lower: 1 }).collect(),
    };
    Array::new(element.oid, dims, parser.values)
}

impl Parser<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// `[1:3][0:1]=` before the braces.
    fn bounds(&mut self) -> Result<Option<Vec<Dimension>>> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let mut dims = Vec::new();
        while self.rest.starts_with('[') {
            let Some((inside, rest)) = self.rest[1..].split_once(']') else {
                return Err(malformed(self.text, "Missing \"]\" after array dimensions."));
            };
            self.rest = rest.trim_start_matches(is_blank);
            let number = |text: &str| {
                text.trim_matches(is_blank).parse::<i32>().map_err(|_| {
                    malformed(self.text, "\"[\" must introduce explicitly-specified array dimensions.")
                })
            };
            let (lower, upper) = match inside.split_once(':') {
                Some((lower, upper)) => (number(lower)?, number(upper)?),
                None => (1, number(inside)?),
            };
            if upper < lower {
                return Err(Error::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "upper bound cannot be less than lower bound",
                ));
            }
            let len = i64::from(upper) - i64::from(lower) + 1;
            let len = i32::try_from(len).map_err(|_| {
                Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "array size exceeds the maximum allowed")
            })?;
            dims.push(Dimension { len, lower });
            if dims.len() > MAX_DIMENSIONS {
                return Err(too_many_dimensions(dims.len()));
            }
        }
        if !self.rest.starts_with('=') {
            return Err(malformed(self.text, "Missing \"=\" after array dimensions."));
        }
        self.rest = self.rest[1..].trim_start_matches(is_blank);
        Ok(Some(dims))
    }

    /// One `{...}` whose members lie at `depth`.
    fn braces(&mut self, depth: usize) -> Result<()> {
        if depth >= MAX_DIMENSIONS {
            return Err(too_many_dimensions(depth + 1));
        }
        if depth == self.lengths.len() {
            self.lengths.push(None);
        }
        self.advance();
        self.blanks();
        let mut count = 0;
        if self.peek() == Some('}') {
            // Only the whole array may be empty.
            if depth > 0 {
                return Err(malformed(self.text, "Unexpected \"}\" character."));
            }
            self.advance();
            return self.close(depth, 0);
        }
        loop {
            self.blanks();
            match self.peek() {
                None => return Err(malformed(self.text, "Unexpected end of input.")),
                Some('{') => {
                    if self.leaf.is_some_and(|leaf| leaf <= depth) {
                        return Err(malformed(self.text, "Unexpected \"{\" character."));
                    }
                    self.braces(depth + 1)?;
                }
                Some(_) => {
                    if *self.leaf.get_or_insert(depth) != depth {
                        return Err(malformed(self.text, "Unexpected array element."));
                    }
                    let value = self.element()?;
                    self.values.push(value);
                }
            }
            count += 1;
            self.blanks();
            match self.advance() {
                Some(',') => {}
                Some('}') => return self.close(depth, count),
                Some(_) => return Err(malformed(self.text, "Unexpected array element.")),
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        }
    }

    fn close(&mut self, depth: usize, count: usize) -> Result<()> {
        match self.lengths[depth] {
            Some(known) if known != count => Err(malformed(
                self.text,
                "Multidimensional arrays must have sub-arrays with matching dimensions.",
            )),
            _ => {
                self.lengths[depth] = Some(count);
                Ok(())
            }
        }
    }

    fn element(&mut self) -> Result<Datum> {
        if self.peek() == Some('"') {
            self.advance();
            let mut text = String::new();
            loop {
                match self.advance() {
                    None => return Err(malformed(self.text, "Unexpected end of input.")),
                    Some('"') => break,
                    Some('\\') => match self.advance() {
                        Some(next) => text.push(next),
                        None => return Err(malformed(self.text, "Unexpected end of input.")),
                    },
                    Some(other) => text.push(other),
                }
            }
            return super::input(self.element, &text, self.style);
        }
        let mut text = String::new();
        // Blanks at the end count only when escaped.
        let mut kept = 0;
        let mut escaped = false;
        loop {
            match self.peek() {
                None => return Err(malformed(self.text, "Unexpected end of input.")),
                Some(',' | '}') => break,
                Some('"') => return Err(malformed(self.text, "Unexpected array element.")),
                Some('{') => return Err(malformed(self.text, "Unexpected \"{\" character.")),
                Some('\\') => {
                    self.advance();
                    match self.advance() {
                        Some(next) => text.push(next),
                        None => return Err(malformed(self.text, "Unexpected end of input.")),
                    }
                    escaped = true;
                    kept = text.len();
                }
                Some(other) => {
                    self.advance();
                    text.push(other);
                    if !is_blank(other) {
                        kept = text.len();
                    }
                }
            }
        }
        text.truncate(kept);
        if text.is_empty() && !escaped {
            let found = self.peek().unwrap_or('}');
            return Err(malformed(self.text, &format!("Unexpected \"{found}\" character.")));
        }
        if !escaped && text.eq_ignore_ascii_case("null") {
            return Ok(Datum::Null);
        }
        super::input(self.element, &text, self.style)
    }
}

fn too_many_dimensions(count: usize) -> Error {
    Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("number of array dimensions ({count}) exceeds the maximum allowed ({MAX_DIMENSIONS})"),
    )
}

/// Appends an array; vectors are written as numbers between blanks.
pub(super) fn output(array: &Array, vector: bool, style: &Style, out: &mut Vec<u8>) {
    if vector {
        for (at, value) in array.values.iter().enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            super::output(value, array.element, style, out);
        }
        return;
    }
    if array.dims.iter().any(|dim| dim.lower != 1) {
        out.extend_from_slice(array.dims_text().unwrap_or_default().as_bytes());
        out.push(b'=');
    }
    if array.dims.is_empty() {
        out.extend_from_slice(b"{}");
        return;
    }
    let mut next = 0;
    braces(array, 0, &mut next, style, out);
}

fn braces(array: &Array, depth: usize, next: &mut usize, style: &Style, out: &mut Vec<u8>) {
    out.push(b'{');
    for at in 0..array.dims[depth].len {
        if at > 0 {
            out.push(b',');
        }
        if depth + 1 < array.dims.len() {
            braces(array, depth + 1, next, style, out);
            continue;
        }
        let value = array.values.get(*next).unwrap_or(&Datum::Null);
        *next += 1;
        if value.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let start = out.len();
        super::output(value, array.element, style, out);
        if needs_quotes(value, &out[start..]) {
            quote(start, b'\\', out);
        }
    }
    out.push(b'}');
}

fn needs_quotes(value: &Datum, text: &[u8]) -> bool {
    // Numbers, the most common elements, never do (a tid is no number, but lives in one).
    if matches!(value, Datum::Int2(_) | Datum::Int4(_) | Datum::Numeric(_)) {
        return false;
    }
    text.is_empty()
        || text.eq_ignore_ascii_case(b"null")
        || text.iter().any(|b| {
            matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
        })
}

/// Puts what was written since `start` into quotes; `escape` precedes quotes and backslashes (0: they are doubled).
fn quote(start: usize, escape: u8, out: &mut Vec<u8>) {
    let text = out.split_off(start);
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(if escape == 0 { byte } else { escape });
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Appends a composite value `(1,"a b",)`.
pub fn output_record_fields(fields: &[Datum], types: &[Oid], style: &Style, out: &mut Vec<u8>) {
    out.push(b'(');
    for (at, value) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if value.is_null() {
            continue;
        }
        let start = out.len();
        super::output(value, types.get(at).copied().unwrap_or(oid::UNKNOWN), style, out);
        let quoted = out.len() == start
            || out[start..].iter().any(|b| {
                matches!(b, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
            });
        if quoted {
            quote(start, 0, out);
        }
    }
    out.push(b')');
}

/// The fields of a composite literal, `None` for NULL; 22P02 `malformed record literal`.
pub fn split_record(text: &str) -> Result<Vec<Option<String>>> {
    let malformed = |detail: &str| {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed record literal: \"{text}\""))
            .detail(detail)
    };
    let Some(inner) = text.trim_start_matches(is_blank).strip_prefix('(') else {
        return Err(malformed("Missing left parenthesis."));
    };
    let mut chars = inner.chars().peekable();
    let mut fields = Vec::new();
    let mut field: Option<String> = None;
    let mut quoted = false;
    loop {
        let Some(c) = chars.next() else { return Err(malformed("Unexpected end of input.")) };
        match c {
            '\\' => match chars.next() {
                Some(next) => field.get_or_insert_default().push(next),
                None => return Err(malformed("Unexpected end of input.")),
            },
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                field.get_or_insert_default();
            }
            ',' if !quoted => fields.push(field.take()),
            ')' if !quoted => {
                fields.push(field.take());
                break;
            }
            other => field.get_or_insert_default().push(other),
        }
    }
    if chars.any(|c| !is_blank(c)) {
        return Err(malformed("Junk after right parenthesis."));
    }
    Ok(fields)
}
