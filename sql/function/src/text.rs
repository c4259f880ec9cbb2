//! Text. Lengths and positions count characters; byte offsets stay inside. What would grow past 1 GB is refused
//! before it is built.

use std::sync::Arc;

use value::text::{Style, output_string};
use value::types::oid::*;
use value::{Array, Datum, Error, Oid, Result, SqlState, Type};

use crate::declare::{f, invalid_parameter, mismatch, text_of, thunk};
use crate::{Call, Function};

/// Values are smaller than this many bytes.
const MAX_BYTES: usize = 0x3fff_ffff;

pub(crate) fn too_long() -> Error {
    Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large")
}

/// What a cast to text gives; differs from the output function for booleans and padded strings.
pub(crate) fn cast_to_text(value: &Datum, ty: Oid, style: &Style) -> Arc<str> {
    match value {
        Datum::Text(text) if ty == BPCHAR => Arc::from(text.trim_end_matches(' ')),
        Datum::Text(text) => text.clone(),
        Datum::Bool(value) => Arc::from(if *value { "true" } else { "false" }),
        value => Arc::from(output_string(value, ty, style)),
    }
}

/// What the output function gives.
pub(crate) fn output(value: &Datum, ty: Oid, style: &Style) -> Arc<str> {
    match value {
        Datum::Text(text) => text.clone(),
        value => Arc::from(output_string(value, ty, style)),
    }
}

pub(crate) fn type_at(call: &Call<'_>, at: usize) -> Oid {
    call.signature.args.get(at).map_or(TEXT, |ty: &Type| ty.oid)
}

pub(crate) fn char_count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Byte offset of character `at`, or the end.
fn offset(text: &str, at: usize) -> usize {
    if text.is_ascii() {
        return at.min(text.len());
    }
    text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
}

/// `name[n]`: the byte there as a "char". The bytes behind the text are zeros, which print as nothing.
fn name_at(_: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    const NAME_BYTES: i32 = 64;
    match args {
        [Datum::Text(name), Datum::Int4(at)] if (0..NAME_BYTES).contains(at) => {
            let byte = name.as_bytes().get(*at as usize).copied();
            Ok(Datum::text(byte.map_or_else(String::new, |byte| char::from(byte).to_string())))
        }
        [Datum::Text(_), Datum::Int4(_)] => Ok(Datum::Null),
        _ => Err(mismatch(args)),
    }
}

fn map_case(text: &str, one: fn(char) -> Option<char>) -> String {
    text.chars().map(|c| one(c).unwrap_or(c)).collect()
}

/// The lower or upper case of a character if that is one character too.
fn single(mut mapped: impl Iterator<Item = char>) -> Option<char> {
    let first = mapped.next();
    if mapped.next().is_some() { None } else { first }
}

pub(crate) fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { map_case(text, |c| single(c.to_lowercase())) }
}

fn upper(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_uppercase() } else { map_case(text, |c| single(c.to_uppercase())) }
}

fn initcap(text: &str) -> String {
    let mut in_word = false;
    text.chars()
        .map(|c| {
            let mapped = if in_word { single(c.to_lowercase()) } else { single(c.to_uppercase()) };
            in_word = c.is_alphanumeric();
            mapped.unwrap_or(c)
        })
        .collect()
}

/// The byte range of characters `start..start+length`, where `start` counts from 1 and may lie outside.
fn window(text: &str, start: i32, length: Option<i32>) -> Result<std::ops::Range<usize>> {
    let first = i64::from(start) - 1;
    let end = match length {
        Some(length) if length < 0 => {
            return Err(Error::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(length) => (first + i64::from(length)).max(0),
        None => i64::MAX,
    };
    let from = offset(text, usize::try_from(first.max(0)).unwrap_or(usize::MAX));
    let to =
        if end == i64::MAX { text.len() } else { offset(text, usize::try_from(end).unwrap_or(usize::MAX)) };
    Ok(from..to.max(from))
}

fn substring(text: &Arc<str>, start: i32, length: Option<i32>) -> Result<Datum> {
    let range = window(text, start, length)?;
    if range.len() == text.len() { Ok(Datum::Text(text.clone())) } else { text_of(&text[range]) }
}

/// `left(text, n)`: the first n characters, or all but the last -n.
fn left(text: &str, count: i32) -> &str {
    let count = if count < 0 {
        char_count(text).saturating_sub(count.unsigned_abs() as usize)
    } else {
        count as usize
    };
    &text[..offset(text, count)]
}

fn right(text: &str, count: i32) -> &str {
    let total = char_count(text);
    let skip = if count < 0 { count.unsigned_abs() as usize } else { total.saturating_sub(count as usize) };
    &text[offset(text, skip.min(total))..]
}

fn pad(text: &str, length: i32, fill: &str, at_left: bool) -> Result<String> {
    let length = length.max(0) as usize;
    if length.saturating_mul(4) > MAX_BYTES {
        return Err(too_long());
    }
    let have = char_count(text);
    if have >= length {
        return Ok(text[..offset(text, length)].to_string());
    }
    if fill.is_empty() {
        return Ok(text.to_string());
    }
    let padding: String = fill.chars().cycle().take(length - have).collect();
    Ok(if at_left { padding + text } else { text.to_string() + &padding })
}

fn repeat(text: &str, count: i32) -> Result<String> {
    let count = count.max(0) as usize;
    if text.len().saturating_mul(count) > MAX_BYTES {
        return Err(too_long());
    }
    Ok(text.repeat(count))
}

fn trim<'a>(text: &'a str, set: &str, left: bool, right: bool) -> &'a str {
    let mut rest = text;
    if left {
        rest = rest.trim_start_matches(|c| set.contains(c));
    }
    if right {
        rest = rest.trim_end_matches(|c| set.contains(c));
    }
    rest
}

fn replace(text: &Arc<str>, from: &str, to: &str) -> Result<Datum> {
    if from.is_empty() || !text.contains(from) {
        return Ok(Datum::Text(text.clone()));
    }
    let growth = to.len().saturating_sub(from.len());
    if growth > 0 && text.matches(from).count().saturating_mul(growth) + text.len() > MAX_BYTES {
        return Err(too_long());
    }
    text_of(text.replace(from, to))
}

/// 1-based character position of `part`, 0 when absent.
fn position(text: &str, part: &str) -> i32 {
    text.find(part).map_or(0, |byte| char_count(&text[..byte]) as i32 + 1)
}

fn overlay(text: &str, new: &str, start: i32, length: i32) -> Result<String> {
    if start <= 0 {
        return Err(Error::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let after = start.checked_add(length).ok_or_else(|| crate::declare::out_of_range("integer"))?;
    let head = &text[window(text, 1, Some(start - 1))?];
    let tail = &text[window(text, after, None)?];
    Ok([head, new, tail].concat())
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    text.chars()
        .filter_map(|c| match from.iter().position(|&have| have == c) {
            Some(at) => to.get(at).copied(),
            None => Some(c),
        })
        .collect()
}

fn split_part<'a>(text: &'a str, delimiter: &str, field: i32) -> Result<&'a str> {
    if field == 0 {
        return Err(invalid_parameter("field position must not be zero"));
    }
    if delimiter.is_empty() {
        return Ok(if field == 1 || field == -1 { text } else { "" });
    }
    let part = if field > 0 {
        text.split(delimiter).nth(field as usize - 1)
    } else {
        // Fields are counted from the left even for negative numbers: overlapping matches resolve that way.
        let count = text.split(delimiter).count();
        count.checked_sub(field.unsigned_abs() as usize).and_then(|at| text.split(delimiter).nth(at))
    };
    Ok(part.unwrap_or(""))
}

fn chr(code: i32) -> Result<String> {
    let error = |message: String| Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message);
    if code < 0 {
        return Err(invalid_parameter("character number must be positive"));
    }
    if code == 0 {
        return Err(error("null character not permitted".to_string()));
    }
    match u32::try_from(code).ok().filter(|&code| code <= 0x10_ffff) {
        Some(code) => match char::from_u32(code) {
            Some(c) => Ok(c.to_string()),
            None => Err(error(format!("requested character not valid for encoding: {code}"))),
        },
        None => Err(error(format!("requested character too large for encoding: {code}"))),
    }
}

/// Words that an identifier can only be in quotes: PostgreSQL's keywords except the unreserved ones.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Whether the word (in lower case) can be an identifier only in quotes.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.binary_search(&word).is_ok()
}

/// The identifier as it must be written in SQL.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !is_reserved(name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The string as a literal in SQL, with the E prefix when it holds a backslash.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn concat(call: &Call<'_>, args: &[Datum]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate().filter(|(_, arg)| !arg.is_null()) {
        out.push_str(&output(arg, type_at(call, at), call.env.style()));
    }
    out
}

fn concat_ws(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let Some((separator, rest)) = args.split_first() else { return Err(mismatch(args)) };
    let Datum::Text(separator) = separator else { return Ok(Datum::Null) };
    let parts: Vec<Arc<str>> = rest
        .iter()
        .enumerate()
        .filter(|(_, arg)| !arg.is_null())
        .map(|(at, arg)| output(arg, type_at(call, at + 1), call.env.style()))
        .collect();
    text_of(parts.join(&**separator))
}

fn format_error(message: impl Into<String>) -> Error {
    invalid_parameter(message)
}

/// `format(pattern, ...)`: %s, %I, %L and %% with `n$` positions, a `-` flag and widths, also `*`.
fn format(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let Some((pattern, values)) = args.split_first() else { return Err(mismatch(args)) };
    let Datum::Text(pattern) = pattern else { return Ok(Datum::Null) };
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    let ended =
        || format_error("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".");
    let fetch = |at: usize| -> Result<&Datum> {
        values.get(at).ok_or_else(|| format_error("too few arguments for format()"))
    };
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<Option<i32>> {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            if digits.is_empty() {
                return Ok(None);
            }
            digits.parse().map(Some).map_err(|_| format_error("number is out of range"))
        };
        let mut position = None;
        let mut width = number(&mut chars)?;
        let mut left_justified = false;
        if width.is_some() && chars.next_if_eq(&'$').is_some() {
            position = width.take();
            if position == Some(0) {
                return Err(format_error("format specifies argument 0, but arguments are numbered from 1"));
            }
        }
        if width.is_none() {
            while chars.next_if_eq(&'-').is_some() {
                left_justified = true;
            }
            width = number(&mut chars)?;
            if width.is_none() && chars.next_if_eq(&'*').is_some() {
                let from = match number(&mut chars)? {
                    Some(at) if chars.next_if_eq(&'$').is_some() => {
                        if at == 0 {
                            return Err(format_error(
                                "format specifies argument 0, but arguments are numbered from 1",
                            ));
                        }
                        at as usize - 1
                    }
                    Some(_) => return Err(format_error("width argument position must be ended by \"$\"")),
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                width = match fetch(from)? {
                    Datum::Null => Some(0),
                    Datum::Int4(width) => Some(*width),
                    Datum::Int2(width) => Some(i32::from(*width)),
                    other => Some(
                        output(other, type_at(call, from + 1), call.env.style())
                            .trim()
                            .parse()
                            .map_err(|_| format_error("width of format() is not a number"))?,
                    ),
                };
            }
        }
        let kind = chars.next().ok_or_else(ended)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(format_error(format!("unrecognized format() type specifier \"{kind}\""))
                .hint("For a single \"%\" use \"%%\"."));
        }
        let at = match position {
            Some(at) => at as usize - 1,
            None => next,
        };
        next = at + 1;
        let value = fetch(at)?;
        let text = if value.is_null() {
            match kind {
                's' => String::new(),
                'L' => "NULL".to_string(),
                _ => {
                    let message = "null values cannot be formatted as an SQL identifier";
                    return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
                }
            }
        } else {
            let text = output(value, type_at(call, at + 1), call.env.style());
            match kind {
                's' => text.to_string(),
                'L' => quote_literal(&text),
                _ => quote_ident(&text),
            }
        };
        let width = width.unwrap_or(0);
        let (left_justified, width) =
            if width < 0 { (true, width.unsigned_abs()) } else { (left_justified, width.unsigned_abs()) };
        if width as usize > MAX_BYTES {
            return Err(too_long());
        }
        let missing = (width as usize).saturating_sub(char_count(&text));
        if left_justified {
            out.push_str(&text);
        }
        out.extend(std::iter::repeat_n(' ', missing));
        if !left_justified {
            out.push_str(&text);
        }
    }
    text_of(out)
}

/// The pieces of `string_to_array` and `string_to_table`; `None` for a NULL string.
pub(crate) fn split(args: &[Datum]) -> Result<Option<Vec<Datum>>> {
    let (text, delimiter, null) = match args {
        [text, delimiter] => (text, delimiter, &Datum::Null),
        [text, delimiter, null] => (text, delimiter, null),
        _ => return Err(mismatch(args)),
    };
    let Datum::Text(text) = text else { return Ok(None) };
    let piece = |piece: &str| match null {
        Datum::Text(null) if **null == *piece => Datum::Null,
        _ => Datum::text(piece),
    };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(match delimiter {
        Datum::Text(delimiter) if delimiter.is_empty() => vec![piece(text)],
        Datum::Text(delimiter) => text.split(&**delimiter).map(piece).collect(),
        _ => text.chars().map(|c| piece(c.encode_utf8(&mut [0; 4]))).collect(),
    }))
}

fn string_to_array(_: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    Ok(split(args)?.map_or(Datum::Null, |pieces| Datum::Array(Arc::new(Array::from_values(TEXT, pieces)))))
}

fn array_to_string(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (Some(Datum::Array(array)), Some(Datum::Text(delimiter))) = (args.first(), args.get(1)) else {
        return Ok(Datum::Null);
    };
    let null = match args.get(2) {
        Some(Datum::Text(null)) => Some(null),
        _ => None,
    };
    let mut out = String::new();
    let mut first = true;
    for value in &array.values {
        let text = match (value, null) {
            (Datum::Null, None) => continue,
            (Datum::Null, Some(null)) => null.clone(),
            (value, _) => output(value, array.element, call.env.style()),
        };
        if !first {
            out.push_str(delimiter);
        }
        first = false;
        out.push_str(&text);
    }
    text_of(out)
}

/// `normalize(text [, form])`: NFC unless said otherwise. 22023 for another form.
fn normalized(args: &[Datum]) -> Result<String> {
    use unicode_normalization::UnicodeNormalization;
    let (Some(Datum::Text(text)), form) = (args.first(), args.get(1)) else { return Err(mismatch(args)) };
    let form = match form {
        None => "NFC",
        Some(Datum::Text(form)) => form,
        Some(_) => return Err(mismatch(args)),
    };
    if text.is_ascii() {
        // In every form already; only the form's name is left to check.
        if !["NFC", "NFD", "NFKC", "NFKD"].iter().any(|known| form.eq_ignore_ascii_case(known)) {
            return Err(invalid_parameter(format!("invalid normalization form: {form}")));
        }
        return Ok(text.to_string());
    }
    match form.to_ascii_uppercase().as_str() {
        "NFC" => Ok(text.nfc().collect()),
        "NFD" => Ok(text.nfd().collect()),
        "NFKC" => Ok(text.nfkc().collect()),
        "NFKD" => Ok(text.nfkd().collect()),
        _ => Err(invalid_parameter(format!("invalid normalization form: {form}"))),
    }
}

fn is_normalized(args: &[Datum]) -> Result<Datum> {
    match args.first() {
        Some(Datum::Text(text)) => Ok(Datum::Bool(normalized(args)? == **text)),
        _ => Err(mismatch(args)),
    }
}

/// `unistr`: `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` and `\\`.
fn unistr(text: &str) -> Result<String> {
    let bad = || {
        Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
            .hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c != '\\' {
            units.extend(c.encode_utf16(&mut [0; 2]).iter());
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let after = &rest[1..];
        if let Some(tail) = after.strip_prefix('\\') {
            units.push(u16::from(b'\\'));
            rest = tail;
            continue;
        }
        let (skip, digits) = match after.chars().next() {
            Some('+') => (1, 6),
            Some('u') => (1, 4),
            Some('U') => (1, 8),
            _ => (0, 4),
        };
        let hex = after.get(skip..skip + digits).ok_or_else(bad)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let code = u32::from_str_radix(hex, 16).map_err(|_| bad())?;
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => match char::from_u32(code) {
                Some(c) => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
                None => return Err(invalid_parameter(format!("invalid Unicode code point: {hex}"))),
            },
        }
        rest = &after[skip + digits..];
    }
    String::from_utf16(&units)
        .map_err(|_| Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode surrogate pair"))
}

/// `parse_ident`: the parts of a qualified name, folded and unquoted.
fn parse_ident(text: &str, strict: bool) -> Result<Vec<Datum>> {
    let bad = |detail: Option<String>| {
        let error = invalid_parameter(format!("string is not a valid identifier: \"{text}\""));
        match detail {
            Some(detail) => error.detail(detail),
            None => error,
        }
    };
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next() {
                    Some((_, '"')) if chars.next_if(|&(_, c)| c == '"').is_some() => name.push('"'),
                    Some((at, '"')) => break at + 1,
                    Some((_, c)) => name.push(c),
                    None => return Err(bad(Some("String has unclosed double quotes.".to_string()))),
                }
            };
            if name.is_empty() {
                return Err(bad(Some("Quoted identifier must not be empty.".to_string())));
            }
            parts.push(Datum::text(name));
            rest = &quoted[end..];
        } else {
            let start = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
            let end =
                rest.find(|c: char| !(start(c) || c.is_ascii_digit() || c == '$')).unwrap_or(rest.len());
            if !rest.starts_with(start) {
                return Err(bad(if rest.starts_with('.') || parts.is_empty() && !rest.is_empty() {
                    Some("No valid identifier before \".\".".to_string()).filter(|_| rest.starts_with('.'))
                } else if parts.is_empty() {
                    None
                } else {
                    Some("No valid identifier after \".\".".to_string())
                }));
            }
            parts.push(Datum::text(lower(&rest[..end])));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
        match rest.strip_prefix('.') {
            Some(tail) => rest = tail.trim_start(),
            None if rest.is_empty() || !strict => return Ok(parts),
            None => return Err(bad(None)),
        }
    }
}

/// Bob Jenkins' hash (lookup3, public domain) with PostgreSQL's start value, so that hash partitioning and advisory
/// lock keys built with `hashtext` agree with it.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u32 {
    let start = 0x9e37_79b9_u32.wrapping_add(bytes.len() as u32).wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (start, start, start);
    let word = |block: &[u8]| {
        block.iter().enumerate().fold(0_u32, |word, (at, &byte)| word | u32::from(byte) << (8 * at))
    };
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        a = a.wrapping_add(word(&block[..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..]));
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
    }
    let tail = blocks.remainder();
    a = a.wrapping_add(word(&tail[..tail.len().min(4)]));
    if tail.len() > 4 {
        b = b.wrapping_add(word(&tail[4..tail.len().min(8)]));
    }
    if tail.len() > 8 {
        // The lowest byte of c is taken by the length.
        c = c.wrapping_add(word(&tail[8..]) << 8);
    }
    finish_hash(a, b, c)
}

fn finish_hash(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

fn hash_word(word: u32) -> Datum {
    let start = 0x9e37_79b9_u32.wrapping_add(4).wrapping_add(3_923_095);
    Datum::Int4(finish_hash(start.wrapping_add(word), start, start) as i32)
}

fn hash_int8(value: i64) -> Datum {
    let high = (value >> 32) as u32;
    hash_word(value as u32 ^ if value >= 0 { high } else { !high })
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(9330, "\u{1}name_at", &[NAME, INT4], CHAR, name_at).total(),
    f(1258, "textcat", &[TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(b)] => { if a.len() + b.len() > MAX_BYTES { return Err(too_long()); } text_of([&**a, &**b].concat()) })),
    f(2003, "textanycat", &[TEXT, ANYNONARRAY], TEXT, thunk!(call; [Datum::Text(a), b] => text_of([&**a, &*cast_to_text(b, type_at(call, 1), call.env.style())].concat()))).stable(),
    f(2004, "anytextcat", &[ANYNONARRAY, TEXT], TEXT, thunk!(call; [a, Datum::Text(b)] => text_of([&*cast_to_text(a, type_at(call, 0), call.env.style()), &**b].concat()))).stable(),
    f(870, "lower", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(lower(a)))).total(),
    f(871, "upper", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(upper(a)))).total(),
    f(872, "initcap", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(initcap(a)))).total(),
    f(1317, "length", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a) as i32)))).total(),
    f(1257, "textlen", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a) as i32)))).total(),
    f(1381, "char_length", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a) as i32)))).total(),
    f(1369, "character_length", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a) as i32)))).total(),
    f(1318, "length", &[BPCHAR], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a.trim_end_matches(' ')) as i32)))).total(),
    f(1372, "char_length", &[BPCHAR], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a.trim_end_matches(' ')) as i32)))).total(),
    f(1367, "character_length", &[BPCHAR], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(char_count(a.trim_end_matches(' ')) as i32)))).total(),
    f(1374, "octet_length", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(a.len() as i32)))).total(),
    f(1375, "octet_length", &[BPCHAR], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(a.len() as i32)))).total(),
    f(1811, "bit_length", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4((a.len() * 8) as i32)))).total(),
    f(937, "substring", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(start)] => substring(a, *start, None))),
    f(936, "substring", &[TEXT, INT4, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(start), Datum::Int4(length)] => substring(a, *start, Some(*length)))),
    f(883, "substr", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(start)] => substring(a, *start, None))),
    f(877, "substr", &[TEXT, INT4, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(start), Datum::Int4(length)] => substring(a, *start, Some(*length)))),
    f(3060, "left", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(n)] => text_of(left(a, *n)))).total(),
    f(3061, "right", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(n)] => text_of(right(a, *n)))).total(),
    f(879, "lpad", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(n)] => text_of(pad(a, *n, " ", true)?))),
    f(873, "lpad", &[TEXT, INT4, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Int4(n), Datum::Text(fill)] => text_of(pad(a, *n, fill, true)?))),
    f(880, "rpad", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(n)] => text_of(pad(a, *n, " ", false)?))),
    f(874, "rpad", &[TEXT, INT4, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Int4(n), Datum::Text(fill)] => text_of(pad(a, *n, fill, false)?))),
    f(881, "ltrim", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(trim(a, " ", true, false)))).total(),
    f(875, "ltrim", &[TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(set)] => text_of(trim(a, set, true, false)))).total(),
    f(882, "rtrim", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(trim(a, " ", false, true)))).total(),
    f(876, "rtrim", &[TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(set)] => text_of(trim(a, set, false, true)))).total(),
    f(885, "btrim", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(trim(a, " ", true, true)))).total(),
    f(884, "btrim", &[TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(set)] => text_of(trim(a, set, true, true)))).total(),
    f(1622, "repeat", &[TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Int4(n)] => text_of(repeat(a, *n)?))),
    f(3062, "reverse", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(a.chars().rev().collect::<String>()))).total(),
    f(2087, "replace", &[TEXT, TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(from), Datum::Text(to)] => replace(a, from, to))),
    f(868, "strpos", &[TEXT, TEXT], INT4, thunk!([Datum::Text(a), Datum::Text(part)] => Ok(Datum::Int4(position(a, part))))).total(),
    f(849, "position", &[TEXT, TEXT], INT4, thunk!([Datum::Text(a), Datum::Text(part)] => Ok(Datum::Int4(position(a, part))))).total(),
    f(1405, "overlay", &[TEXT, TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Text(new), Datum::Int4(start)] => text_of(overlay(a, new, *start, char_count(new) as i32)?))),
    f(1404, "overlay", &[TEXT, TEXT, INT4, INT4], TEXT, thunk!([Datum::Text(a), Datum::Text(new), Datum::Int4(start), Datum::Int4(length)] => text_of(overlay(a, new, *start, *length)?))),
    f(878, "translate", &[TEXT, TEXT, TEXT], TEXT, thunk!([Datum::Text(a), Datum::Text(from), Datum::Text(to)] => text_of(translate(a, from, to)))).total(),
    f(2088, "split_part", &[TEXT, TEXT, INT4], TEXT, thunk!([Datum::Text(a), Datum::Text(delimiter), Datum::Int4(field)] => text_of(split_part(a, delimiter, *field)?))),
    f(1620, "ascii", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(a.chars().next().map_or(0, |c| c as i32))))).total(),
    f(1621, "chr", &[INT4], TEXT, thunk!([Datum::Int4(code)] => text_of(chr(*code)?))),
    f(3696, "starts_with", &[TEXT, TEXT], BOOL, thunk!([Datum::Text(a), Datum::Text(prefix)] => Ok(Datum::Bool(a.starts_with(&**prefix))))).total(),
    f(3058, "concat", &[ANY], TEXT, |call, args| text_of(concat(call, args))).variadic().nullable().stable(),
    f(3059, "concat_ws", &[TEXT, ANY], TEXT, concat_ws).variadic().nullable().stable(),
    f(3540, "format", &[TEXT], TEXT, format).nullable().stable(),
    f(3539, "format", &[TEXT, ANY], TEXT, format).variadic().nullable().stable(),
    f(1282, "quote_ident", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(quote_ident(a)))).total(),
    f(1283, "quote_literal", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(quote_literal(a)))).total(),
    f(1285, "quote_literal", &[ANYELEMENT], TEXT, thunk!(call; [a] => text_of(quote_literal(&cast_to_text(a, type_at(call, 0), call.env.style()))))).stable().total(),
    f(1289, "quote_nullable", &[TEXT], TEXT, thunk!([Datum::Null] => text_of("NULL"), [Datum::Text(a)] => text_of(quote_literal(a)))).nullable().total(),
    f(1290, "quote_nullable", &[ANYELEMENT], TEXT, thunk!(call; [Datum::Null] => text_of("NULL"), [a] => text_of(quote_literal(&cast_to_text(a, type_at(call, 0), call.env.style()))))).nullable().stable().total(),
    f(394, "string_to_array", &[TEXT, TEXT], TEXT_ARRAY, string_to_array).nullable(),
    f(376, "string_to_array", &[TEXT, TEXT, TEXT], TEXT_ARRAY, string_to_array).nullable(),
    f(395, "array_to_string", &[ANYARRAY, TEXT], TEXT, array_to_string).stable(),
    f(384, "array_to_string", &[ANYARRAY, TEXT, TEXT], TEXT, array_to_string).nullable().stable(),
    f(4350, "normalize", &[TEXT, TEXT], TEXT, |_, args| text_of(normalized(args)?)).defaults(1),
    f(4351, "is_normalized", &[TEXT, TEXT], BOOL, |_, args| is_normalized(args)).defaults(1),
    f(6198, "unistr", &[TEXT], TEXT, thunk!([Datum::Text(a)] => text_of(unistr(a)?))),
    f(1268, "parse_ident", &[TEXT, BOOL], TEXT_ARRAY, thunk!([Datum::Text(a)] => Ok(Datum::Array(Arc::new(Array::from_values(TEXT, parse_ident(a, true)?)))), [Datum::Text(a), Datum::Bool(strict)] => Ok(Datum::Array(Arc::new(Array::from_values(TEXT, parse_ident(a, *strict)?)))))).defaults(1),
    f(266, "nameconcatoid", &[NAME, OID], NAME, thunk!([Datum::Text(a), Datum::Oid(oid)] => { let tail = format!("_{oid}"); let mut end = a.len().min(63 - tail.len()); while !a.is_char_boundary(end) { end -= 1; } text_of([&a[..end], &tail].concat()) })),
    f(400, "hashtext", &[TEXT], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(hash_bytes(a.as_bytes()) as i32)))).total(),
    f(455, "hashname", &[NAME], INT4, thunk!([Datum::Text(a)] => Ok(Datum::Int4(hash_bytes(a.as_bytes()) as i32)))).total(),
    f(450, "hashint4", &[INT4], INT4, thunk!([Datum::Int4(a)] => Ok(hash_word(*a as u32)))).total(),
    f(449, "hashint2", &[INT2], INT4, thunk!([Datum::Int2(a)] => Ok(hash_word(i32::from(*a) as u32)))).total(),
    f(453, "hashoid", &[OID], INT4, thunk!([Datum::Oid(a)] => Ok(hash_word(*a)))).total(),
    f(949, "hashint8", &[INT8], INT4, thunk!([Datum::Int8(a)] => Ok(hash_int8(*a)))).total(),
];
