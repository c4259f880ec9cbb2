//! One JSON reader for both types: `jsonb` builds a tree, `json` only checks (and cuts members out of) the text as
//! written. Errors carry PostgreSQL's detail and context, which quote the offending token and the line up to it.

use std::sync::Arc;

use super::Jsonb;
use crate::{Error, Numeric, Result, SqlState};

/// Deeper nesting is refused (54001) before any recursion over the value could exhaust a stack.
pub const MAX_DEPTH: usize = 1000;

pub(super) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Build values and decode escapes; without it only the grammar is checked.
    build: bool,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, build: bool) -> Reader<'a> {
        Reader { text, bytes: text.as_bytes(), at: 0, depth: 0, build }
    }

    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.bytes.get(self.at).copied()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// An error whose context shows the line up to `end`.
    fn error_at(&self, state: SqlState, message: &str, detail: String, end: usize) -> Error {
        let mut end = end.min(self.bytes.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        let head = &self.text[..end];
        let line = head.bytes().filter(|b| *b == b'\n').count() + 1;
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        let mut start = line_start;
        while end - start >= 50 {
            start += self.text[start..].chars().next().map_or(1, char::len_utf8);
        }
        // Dots that would stand for fewer characters than they are help nobody.
        if start - line_start <= 3 {
            start = line_start;
        }
        let before = if start > line_start { "..." } else { "" };
        let after = match self.bytes.get(end) {
            None | Some(b'\n' | b'\r') => "",
            Some(_) => "...",
        };
        Error::new(state, message)
            .detail(detail)
            .context(format!("JSON data, line {line}: {before}{}{after}", &self.text[start..end]))
    }

    fn invalid(&self, detail: String, end: usize) -> Error {
        self.error_at(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
            detail,
            end,
        )
    }

    /// The token at the current place does not fit; a token that is none says so instead.
    pub(super) fn unexpected(&mut self, expected: &str) -> Error {
        self.skip_blanks();
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else {
            return self.invalid("The input string ended unexpectedly.".to_string(), start);
        };
        let end = match byte {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => start + 1,
            b'"' => match self.string() {
                Ok(_) => self.at,
                Err(error) => return error,
            },
            b'-' | b'0'..=b'9' => match self.number() {
                Ok(_) => self.at,
                Err(error) => return error,
            },
            _ => {
                let end = self.word_end();
                if !matches!(&self.text[start..end], "true" | "false" | "null") {
                    return self.bad_token(start, end);
                }
                end
            }
        };
        let found = &self.text[start..end];
        self.invalid(format!("Expected {expected}, but found \"{found}\"."), end)
    }

    fn word_end(&self) -> usize {
        let mut end = self.at;
        while self.bytes.get(end).is_some_and(|b| is_word(*b)) {
            end += 1;
        }
        if end == self.at {
            end += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        }
        end
    }

    fn bad_token(&self, start: usize, end: usize) -> Error {
        self.invalid(format!("Token \"{}\" is invalid.", &self.text[start..end]), end)
    }

    /// Reads one value; the tree is `Jsonb::Null` when only checking.
    pub(super) fn value(&mut self) -> Result<Jsonb> {
        match self.peek() {
            Some(b'{') => {
                self.enter()?;
                let mut pairs = Vec::new();
                let build = self.build;
                self.members(|reader, key| {
                    let value = reader.value()?;
                    if build {
                        pairs.push((Arc::from(key), value));
                    }
                    Ok(())
                })?;
                self.depth -= 1;
                Ok(if build { Jsonb::object(pairs) } else { Jsonb::Null })
            }
            Some(b'[') => {
                self.enter()?;
                let mut values = Vec::new();
                let build = self.build;
                self.elements(|reader| {
                    let value = reader.value()?;
                    if build {
                        values.push(value);
                    }
                    Ok(())
                })?;
                self.depth -= 1;
                Ok(if build { Jsonb::Array(values) } else { Jsonb::Null })
            }
            Some(b'"') => {
                let text = self.string()?;
                Ok(if self.build { Jsonb::String(Arc::from(text)) } else { Jsonb::Null })
            }
            Some(b'-' | b'0'..=b'9') => {
                let text = self.number()?;
                Ok(if self.build { Jsonb::Number(Numeric::parse(text)?) } else { Jsonb::Null })
            }
            Some(byte) if is_word(byte) => {
                let (start, end) = (self.at, self.word_end());
                let value = match &self.text[start..end] {
                    "true" => Jsonb::Bool(true),
                    "false" => Jsonb::Bool(false),
                    "null" => Jsonb::Null,
                    _ => return Err(self.bad_token(start, end)),
                };
                self.at = end;
                Ok(value)
            }
            _ => Err(self.unexpected("JSON value")),
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                .detail(format!("JSON values nest at most {MAX_DEPTH} levels deep.")));
        }
        Ok(())
    }

    /// Reads an object from its `{` on, calling back after each `key:`.
    pub(super) fn members(
        &mut self,
        mut member: impl FnMut(&mut Reader<'a>, String) -> Result<()>,
    ) -> Result<()> {
        self.advance();
        match self.peek() {
            Some(b'}') => {
                self.advance();
                return Ok(());
            }
            Some(b'"') => {}
            _ => return Err(self.unexpected("string or \"}\"")),
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("string"));
            }
            let key = self.string()?;
            if self.peek() != Some(b':') {
                return Err(self.unexpected("\":\""));
            }
            self.advance();
            member(self, key)?;
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b'}') => {
                    self.advance();
                    return Ok(());
                }
                _ => return Err(self.unexpected("\",\" or \"}\"")),
            }
        }
    }

    /// Reads an array from its `[` on, calling back before each element.
    pub(super) fn elements(&mut self, mut element: impl FnMut(&mut Reader<'a>) -> Result<()>) -> Result<()> {
        self.advance();
        if self.peek() == Some(b']') {
            self.advance();
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b']') => {
                    self.advance();
                    return Ok(());
                }
                _ => return Err(self.unexpected("\",\" or \"]\"")),
            }
        }
    }

    /// Nothing but blanks may follow.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.peek().is_some() {
            return Err(self.unexpected("end of input"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        let digits = |reader: &mut Reader<'a>| {
            let from = reader.at;
            while reader.bytes.get(reader.at).is_some_and(u8::is_ascii_digit) {
                reader.at += 1;
            }
            reader.at > from
        };
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let mut valid = if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            true
        } else {
            digits(self)
        };
        if valid && self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            valid = digits(self);
        }
        if valid && matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            valid = digits(self);
        }
        let number_end = self.at;
        while self.bytes.get(self.at).is_some_and(|b| is_word(*b)) {
            self.at += 1;
        }
        if !valid || self.at > number_end {
            return Err(self.bad_token(start, self.at));
        }
        Ok(&self.text[start..number_end])
    }

    /// Reads a string from its opening quote on; decoded only when building.
    pub(super) fn string(&mut self) -> Result<String> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        let mut high: Option<u32> = None;
        const LONE_LOW: &str = "Unicode low surrogate must follow a high surrogate.";
        loop {
            let run = self.at;
            while self.bytes.get(self.at).is_some_and(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            if self.at > run {
                if high.is_some() {
                    return Err(self.invalid(LONE_LOW.to_string(), run + 1));
                }
                if self.build {
                    out.push_str(&self.text[run..self.at]);
                }
            }
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.bad_token(start, self.at));
            };
            if byte != b'\\' && high.is_some() {
                return Err(self.invalid(LONE_LOW.to_string(), self.at + 1));
            }
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => {
                    self.at += 1;
                    let Some(&escape) = self.bytes.get(self.at) else {
                        return Err(self.bad_token(start, self.at));
                    };
                    let plain = match escape {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'/' => '/',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => {
                            let code = self.unicode_escape()?;
                            if self.build {
                                self.surrogate(code, &mut high, &mut out)?;
                            }
                            continue;
                        }
                        _ => {
                            let shown = self.text[self.at..].chars().next().unwrap_or('\\');
                            let end = self.at + shown.len_utf8();
                            return Err(
                                self.invalid(format!("Escape sequence \"\\{shown}\" is invalid."), end)
                            );
                        }
                    };
                    if high.is_some() {
                        return Err(self.invalid(LONE_LOW.to_string(), self.at + 1));
                    }
                    self.at += 1;
                    if self.build {
                        out.push(plain);
                    }
                }
                _ => {
                    let detail = format!("Character with value 0x{byte:02x} must be escaped.");
                    return Err(self.invalid(detail, self.at));
                }
            }
        }
    }

    /// The four digits after `\u`; leaves the place behind them.
    fn unicode_escape(&mut self) -> Result<u32> {
        let mut code = 0;
        for offset in 1..=4 {
            let digit = self.bytes.get(self.at + offset).and_then(|b| char::from(*b).to_digit(16));
            let Some(digit) = digit else {
                let detail = "\"\\u\" must be followed by four hexadecimal digits.".to_string();
                return Err(self.invalid(detail, self.at + offset + 1));
            };
            code = code * 16 + digit;
        }
        self.at += 5;
        Ok(code)
    }

    fn surrogate(&self, code: u32, high: &mut Option<u32>, out: &mut String) -> Result<()> {
        match (code, high.take()) {
            (0xd800..=0xdbff, None) => *high = Some(code),
            (0xd800..=0xdbff, Some(_)) => {
                let detail = "Unicode high surrogate must not follow a high surrogate.".to_string();
                return Err(self.invalid(detail, self.at));
            }
            (0xdc00..=0xdfff, Some(first)) => {
                let code = 0x10000 + ((first - 0xd800) << 10) + (code - 0xdc00);
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            (0xdc00..=0xdfff, None) | (_, Some(_)) => {
                let detail = "Unicode low surrogate must follow a high surrogate.".to_string();
                return Err(self.invalid(detail, self.at));
            }
            (0, None) => {
                return Err(self.error_at(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                    "\\u0000 cannot be converted to text.".to_string(),
                    self.at,
                ));
            }
            (_, None) => out.push(char::from_u32(code).unwrap_or('\u{fffd}')),
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// Checks and passes over one value without building it.
    pub(super) fn skip_value(&mut self) -> Result<()> {
        let build = std::mem::replace(&mut self.build, false);
        let result = self.value();
        self.build = build;
        result.map(|_| ())
    }
}
