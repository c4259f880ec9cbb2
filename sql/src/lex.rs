//! The words of a statement text, with their places.
//!
//! One small lexer serves four readers that must agree about where literals and statements begin and end: the
//! splitter of multi-statement strings, the grammar of utility statements (`grammar.rs`), the fingerprint of the
//! query log and the redaction of the audit log. Queries themselves are parsed by `resolve`.

use value::{Error, Result, SqlState};

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An identifier or keyword, folded to lower case unless it was quoted.
    Word {
        text: String,
        quoted: bool,
    },
    /// A string constant, its value.
    Text(String),
    Number,
    /// `$1`.
    Parameter,
    /// One of `( ) [ ] , ; . :` or a run of operator characters.
    Symbol,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    /// Byte range in the text.
    pub start: usize,
    pub end: usize,
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

/// 1-based character position of a byte offset.
pub fn position(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(text.len(), |head| head.chars().count()) + 1
}

/// Cuts a name to 63 bytes, as PostgreSQL does with every identifier.
pub fn truncate_name(name: &str) -> &str {
    if name.len() <= 63 {
        return name;
    }
    let mut end = 63;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// An expression without the parentheses around the whole of it.
pub fn inner(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let Ok(tokens) = tokens(text) else { return text };
        let mut depth = 0usize;
        let closes_first = tokens.iter().position(|token| {
            match text.get(token.start..token.end) {
                Some("(") => depth += 1,
                Some(")") => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        });
        let enclosed = text.starts_with('(') && tokens.len() > 2 && closes_first == Some(tokens.len() - 1);
        if !enclosed || !text.ends_with(')') {
            return text;
        }
        text = text[1..text.len() - 1].trim();
    }
}

/// All tokens of a text. 42601 for a literal, quoted name or comment that does not end.
pub fn tokens(text: &str) -> Result<Vec<Token>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 5 + 4);
    let mut at = 0;
    let unterminated = |what: &str, start: usize| {
        Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!("unterminated {what} at or near \"{}\"", &text[start..]),
        )
        .at(Some(position(text, start))))
    };
    while at < bytes.len() {
        let start = at;
        let c = text[at..].chars().next().unwrap_or(' ');
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if text[at..].starts_with("--") {
            at = text[at..].find('\n').map_or(bytes.len(), |n| at + n + 1);
        } else if text[at..].starts_with("/*") {
            let mut depth = 0;
            loop {
                if text.as_bytes()[at..].starts_with(b"/*") {
                    depth += 1;
                    at += 2;
                } else if text.as_bytes()[at..].starts_with(b"*/") {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                } else if at >= bytes.len() {
                    return unterminated("/* comment", start);
                } else {
                    at += 1;
                }
            }
        } else if c == '\'' || ((c == 'e' || c == 'E') && bytes.get(at + 1) == Some(&b'\'')) {
            let escapes = c != '\'';
            at += if escapes { 2 } else { 1 };
            let Some((value, end)) = quoted(text, at, b'\'', escapes) else {
                return unterminated("quoted string", start);
            };
            at = end;
            out.push(Token { kind: Kind::Text(value), start, end: at });
        } else if matches!(c, 'b' | 'B' | 'x' | 'X' | 'n' | 'N') && bytes.get(at + 1) == Some(&b'\'') {
            let Some((value, end)) = quoted(text, at + 2, b'\'', false) else {
                return unterminated("quoted string", start);
            };
            at = end;
            out.push(Token { kind: Kind::Text(value), start, end: at });
        } else if c == '"' {
            let Some((value, end)) = quoted(text, at + 1, b'"', false) else {
                return unterminated("quoted identifier", start);
            };
            at = end;
            if value.is_empty() {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    "zero-length delimited identifier at or near \"\"\"\"",
                )
                .at(Some(position(text, start))));
            }
            let kind = Kind::Word { text: truncate_name(&value).to_string(), quoted: true };
            out.push(Token { kind, start, end: at });
        } else if c == '$' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            out.push(Token { kind: Kind::Parameter, start, end: at });
        } else if c == '$' && dollar_tag(&text[at..]).is_some() {
            let tag = dollar_tag(&text[at..]).unwrap_or("$$");
            let body = at + tag.len();
            let Some(length) = text[body..].find(tag) else {
                return unterminated("dollar-quoted string", start);
            };
            at = body + length + tag.len();
            out.push(Token { kind: Kind::Text(text[body..body + length].to_string()), start, end: at });
        } else if c.is_ascii_digit() || (c == '.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)) {
            while let Some(&b) = bytes.get(at) {
                let exponent = matches!(b, b'e' | b'E')
                    && match bytes.get(at + 1) {
                        Some(b'+' | b'-') => bytes.get(at + 2).is_some_and(u8::is_ascii_digit),
                        other => other.is_some_and(u8::is_ascii_digit),
                    };
                if exponent {
                    at += 2;
                } else if b.is_ascii_digit() || b == b'.' {
                    at += 1;
                } else {
                    break;
                }
            }
            out.push(Token { kind: Kind::Number, start, end: at });
        } else if is_word_start(c) {
            while let Some(c) = text[at..].chars().next().filter(|c| is_word(*c)) {
                at += c.len_utf8();
            }
            let word = text[start..at].to_ascii_lowercase();
            out.push(Token {
                kind: Kind::Word { text: truncate_name(&word).to_string(), quoted: false },
                start,
                end: at,
            });
        } else {
            at += c.len_utf8();
            if "+-*/<>=~!@#%^&|`?".contains(c) {
                while let Some(next) = bytes.get(at) {
                    let comment = text[at..].starts_with("--") || text[at..].starts_with("/*");
                    if comment || !b"+-*/<>=~!@#%^&|`?".contains(next) {
                        break;
                    }
                    at += 1;
                }
            } else if c == ':' && bytes.get(at) == Some(&b':') {
                at += 1;
            }
            out.push(Token { kind: Kind::Symbol, start, end: at });
        }
    }
    Ok(out)
}

/// The value of a quoted thing that starts at `at` (behind the quote), and where it ends.
fn quoted(text: &str, mut at: usize, quote: u8, escapes: bool) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let mut value = Vec::new();
    loop {
        let b = *bytes.get(at)?;
        if b == quote {
            if bytes.get(at + 1) == Some(&quote) {
                value.push(quote);
                at += 2;
                continue;
            }
            return Some((String::from_utf8_lossy(&value).into_owned(), at + 1));
        }
        if escapes && b == b'\\' {
            let next = *bytes.get(at + 1)?;
            value.push(match next {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'b' => 8,
                b'f' => 12,
                other => other,
            });
            at += 2;
            continue;
        }
        value.push(b);
        at += 1;
    }
}

fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let fine =
        tag.chars().enumerate().all(|(n, c)| if n == 0 { is_word_start(c) } else { is_word(c) && c != '$' });
    fine.then(|| &text[..=end])
}

/// The statements of a string: byte ranges without the semicolons, empty ones left out, with their tokens.
pub fn split(text: &str) -> Result<Vec<(usize, usize, Vec<Token>)>> {
    let mut out = Vec::new();
    let mut current: Vec<Token> = Vec::new();
    let mut depth = 0i32;
    for token in tokens(text)? {
        if token.kind == Kind::Symbol {
            match &text[token.start..token.end] {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                ";" if depth <= 0 => {
                    depth = 0;
                    if let (Some(first), Some(last)) = (current.first(), current.last()) {
                        out.push((first.start, last.end, std::mem::take(&mut current)));
                    }
                    continue;
                }
                _ => {}
            }
        }
        current.push(token);
    }
    if let (Some(first), Some(last)) = (current.first(), current.last()) {
        out.push((first.start, last.end, current));
    }
    Ok(out)
}

/// The text with every literal replaced by `$n` (the query log's normal form) or `'***'` (the audit log).
pub fn normalised(text: &str, redact: bool) -> String {
    let Ok(tokens) = tokens(text) else { return "(unreadable)".to_string() };
    let mut out = String::with_capacity(text.len());
    let mut parameters = 0;
    let mut previous: Option<&Token> = None;
    for token in &tokens {
        if previous.is_some_and(|p| p.end < token.start) {
            out.push(' ');
        }
        match &token.kind {
            Kind::Text(_) if redact => out.push_str("'***'"),
            Kind::Text(_) | Kind::Number if !redact => {
                parameters += 1;
                out.push_str(&format!("${parameters}"));
            }
            Kind::Word { text, quoted: false } => out.push_str(text),
            _ => out.push_str(&text[token.start..token.end]),
        }
        previous = Some(token);
    }
    out
}

/// How names and string constants are written in SQL, and which words are no names, `function` knows.
pub use function::{is_reserved, quote_ident as quote_name, quote_literal as quote_text};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_around_the_whole_go() {
        for (text, expected) in [
            ("((a > 0))", "a > 0"),
            ("(a > 0) AND (b > 0)", "(a > 0) AND (b > 0)"),
            ("((a > 0) AND (b > 0))", "(a > 0) AND (b > 0)"),
            ("(a = ')')", "a = ')'"),
            ("lower(a)", "lower(a)"),
            ("()", "()"),
        ] {
            assert_eq!(inner(text), expected, "{text}");
        }
    }

    #[test]
    fn statements_and_literals() {
        let text = "select 'a;b', $x$;$x$; -- c;\n insert into \"T;\" values (1); /* ; /* ; */ */ ;";
        let parts: Vec<&str> = split(text).unwrap().iter().map(|(a, b, _)| &text[*a..*b]).collect();
        assert_eq!(parts, ["select 'a;b', $x$;$x$", "insert into \"T;\" values (1)"]);
        assert_eq!(
            normalised("SELECT a FROM t WHERE b = 'x' AND c=10", false),
            "select a from t where b = $1 and c=$2"
        );
        assert_eq!(normalised("alter role x password 'secret'", true), "alter role x password '***'");
        assert!(tokens("select 'abc").is_err());
        assert_eq!(quote_name("order"), "\"order\"");
        assert_eq!(quote_name("a_1"), "a_1");
    }
}
