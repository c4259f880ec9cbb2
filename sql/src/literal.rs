//! Literals out of a statement's text: `... WHERE id = 42 AND name = 'x'` becomes `... WHERE id = $1 AND name = $2` and
//! the values, so that a plain statement finds the plan of its last run without being parsed (rules.md 20).
//!
//! One pass over the bytes, no tokens kept. Only literals where a parameter of the same type means the same are taken:
//! operands of common operators, both ends of BETWEEN, elements of IN lists and of VALUES rows. Everything else (LIMIT, typed
//! literals, type modifiers, function arguments, ordinals of ORDER BY, LIKE patterns ...) stays in the text and so is part of
//! the key. What remains to be judged, whether the plan depends on a value, `session/template.rs` judges from the plan.

use value::Oid;
use value::types::oid;

/// A statement with parameters in place of literals.
#[derive(Debug, PartialEq)]
pub struct Lifted {
    /// The text, with `$n`, single spaces and without comments; behind a NUL one letter for each value's type.
    pub key: String,
    /// Bytes of `key` that are the text.
    pub text_length: usize,
    pub values: Vec<Literal>,
}

/// A literal as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Fits int4 or int8 as its type says; with its sign.
    Integer(i64, Oid),
    Numeric(String),
    /// Of a type that its place decides.
    Text(String),
}

impl Literal {
    /// The type a parameter in its place is declared with; 0: open.
    pub fn declared(&self) -> Oid {
        match self {
            Literal::Integer(_, ty) => *ty,
            Literal::Numeric(_) => oid::NUMERIC,
            Literal::Text(_) => 0,
        }
    }

    fn letter(&self) -> char {
        match self {
            Literal::Integer(_, oid::INT4) => 'i',
            Literal::Integer(..) => 'l',
            Literal::Numeric(_) => 'n',
            Literal::Text(_) => 't',
        }
    }
}

impl Lifted {
    pub fn text(&self) -> &str {
        &self.key[..self.text_length]
    }
}

/// Longer statements are not looked at.
const LONGEST: usize = 16 << 10;
const MOST_VALUES: usize = 1_000;

/// What stood before a literal.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// An operator, BETWEEN, its AND: a literal here is lifted.
    Operand,
    /// `(` or `,` of a list; lifted if the list is one of IN or VALUES.
    Element,
    Values,
    In,
    /// A literal, which another would continue.
    Text,
    Other,
}

#[derive(Clone, Copy, PartialEq)]
enum List {
    Values,
    In,
    Other,
}

/// Operators whose operands may be parameters. Pattern matches are not here: their plans depend on the pattern.
const OPERATORS: &[&str] = &[
    "=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "%", "||", "->", "->>", "#>", "#>>", "@>",
    "<@", "&", "|",
];

/// The statement with its literals lifted; `None` when there are none, when it is not a single query, or when it holds
/// anything that is better left to the parser.
pub fn lift(text: &str) -> Option<Lifted> {
    if text.len() > LONGEST {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out = Lifted { key: String::with_capacity(text.len() + 16), text_length: 0, values: Vec::new() };
    let mut before = Before::Other;
    let mut lists: Vec<List> = Vec::new();
    let mut depth_list = List::Other;
    // Behind `(...)` of a VALUES list another row may follow, at this depth.
    let mut rows_at: Option<usize> = None;
    let mut between: Vec<usize> = Vec::new();
    // LIMIT and OFFSET decide plans: nothing behind them is lifted.
    let mut frozen_at: Option<usize> = None;
    // The word just read, for `THEN -1`: the sign behind a keyword is no operator between two operands.
    let mut word_before = None;
    let mut space = false;
    let mut first = true;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let c = bytes[at];
        match c {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0c => {
                at += 1;
                space = true;
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = text[at..].find('\n').map_or(bytes.len(), |n| at + n + 1);
                space = true;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = comment_end(bytes, at)?;
                space = true;
                continue;
            }
            _ => {}
        }
        if first && !starts_query(&text[at..]) {
            return None;
        }
        first = false;
        if space && !out.key.is_empty() {
            out.key.push(' ');
        }
        space = false;
        let in_list = before == Before::Element && matches!(depth_list, List::Values | List::In);
        let lifts = (before == Before::Operand || in_list) && frozen_at.is_none();
        let behind_word: Option<&str> = word_before.take();
        match c {
            b'\'' => {
                let (value, end) = string(text, at + 1)?;
                at = end;
                if before == Before::Text {
                    return None;
                }
                if lifts {
                    push(&mut out, Literal::Text(value))?;
                } else {
                    out.key.push_str(&text[start..at]);
                }
                before = Before::Text;
            }
            b'0'..=b'9' | b'.' if c != b'.' || bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                at = number_end(bytes, at)?;
                if lifts {
                    push(&mut out, number(&text[start..at], false)?)?;
                } else {
                    out.key.push_str(&text[start..at]);
                }
                before = Before::Other;
            }
            b'"' => {
                at += 1;
                loop {
                    match (bytes.get(at)?, bytes.get(at + 1)) {
                        (b'"', Some(b'"')) => at += 2,
                        (b'"', _) => break,
                        _ => at += 1,
                    }
                }
                at += 1;
                out.key.push_str(&text[start..at]);
                before = Before::Other;
            }
            b'$' | 0 => return None,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                while bytes
                    .get(at)
                    .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || *b >= 0x80)
                {
                    at += 1;
                }
                // Prefixed strings (E'', B'', U&'') have rules of their own.
                if matches!(bytes.get(at), Some(b'\''))
                    || text[start..].starts_with("U&")
                    || text[start..].starts_with("u&")
                {
                    return None;
                }
                let word = &text[start..at];
                word_before = Some(word);
                out.key.push_str(word);
                let is = |other: &str| word.eq_ignore_ascii_case(other);
                before = if is("between") {
                    between.push(lists.len());
                    Before::Operand
                } else if is("and") && between.last() == Some(&lists.len()) {
                    between.pop();
                    Before::Operand
                } else if is("in") {
                    Before::In
                } else if is("values") {
                    Before::Values
                } else {
                    if is("limit") || is("offset") || is("fetch") {
                        frozen_at.get_or_insert(lists.len());
                    }
                    if before == Before::Element && (is("select") || is("with")) {
                        depth_list = List::Other;
                    }
                    Before::Other
                };
            }
            b'(' => {
                lists.push(depth_list);
                depth_list = match before {
                    Before::Values => List::Values,
                    Before::In => List::In,
                    Before::Element if rows_at == Some(lists.len() - 1) => List::Values,
                    _ => List::Other,
                };
                out.key.push('(');
                at += 1;
                before = Before::Element;
            }
            b')' => {
                let closed = depth_list;
                depth_list = lists.pop()?;
                rows_at = (closed == List::Values).then_some(lists.len());
                while between.last().is_some_and(|depth| *depth > lists.len()) {
                    between.pop();
                }
                if frozen_at.is_some_and(|depth| depth > lists.len()) {
                    frozen_at = None;
                }
                out.key.push(')');
                at += 1;
                before = Before::Other;
            }
            b',' => {
                if rows_at != Some(lists.len()) {
                    rows_at = None;
                }
                out.key.push(',');
                at += 1;
                before = Before::Element;
            }
            b';' => {
                // Only as the end; a comment behind it is left to the parser.
                if !text[at + 1..].bytes().all(|b| b.is_ascii_whitespace() || b == b';') {
                    return None;
                }
                break;
            }
            b'[' | b']' | b':' | b'.' => {
                at += 1;
                out.key.push(char::from(c));
                before = Before::Other;
            }
            _ if is_operator(c) => {
                at = operator_end(bytes, at);
                let sign = matches!(&text[start..at], "-" | "+");
                let digit = bytes.get(at).is_some_and(u8::is_ascii_digit);
                if sign && digit && lifts {
                    // A sign before a number belongs to it, unless a cast binds tighter.
                    let digits = at;
                    at = number_end(bytes, at)?;
                    if text[at..].trim_start().starts_with("::") {
                        return None;
                    }
                    push(&mut out, number(&text[digits..at], c == b'-')?)?;
                    before = Before::Other;
                    continue;
                }
                let operator = &text[start..at];
                out.key.push_str(operator);
                // `(-x`, `, -x`, `THEN -x`: a sign, not an operator between two operands.
                let operand_before = matches!(before, Before::Other | Before::Text)
                    && !(sign
                        && behind_word.is_some_and(|word| function::is_reserved(&word.to_ascii_lowercase())));
                before = if OPERATORS.contains(&operator) && (operand_before || !sign) {
                    Before::Operand
                } else {
                    Before::Other
                };
            }
            _ => return None,
        }
    }
    if out.values.is_empty() || !lists.is_empty() {
        return None;
    }
    out.text_length = out.key.len();
    out.key.push('\0');
    for value in &out.values {
        out.key.push(value.letter());
    }
    Some(out)
}

fn starts_query(text: &str) -> bool {
    ["select", "insert", "update", "delete", "with", "values"].iter().any(|word| {
        text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
            && text.as_bytes().get(word.len()).is_some_and(|b| !b.is_ascii_alphanumeric() && *b != b'_')
    })
}

fn push(out: &mut Lifted, value: Literal) -> Option<()> {
    use std::fmt::Write;
    if out.values.len() == MOST_VALUES {
        return None;
    }
    out.values.push(value);
    write!(out.key, "${}", out.values.len()).ok()
}

fn comment_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// The value of a string literal whose first character is at `at`, and where it ends.
fn string(text: &str, mut at: usize) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let mut value = String::new();
    let mut start = at;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => {
                value.push_str(&text[start..=at]);
                at += 2;
                start = at;
            }
            (b'\'', _) => {
                value.push_str(&text[start..at]);
                return Some((value, at + 1));
            }
            _ => at += 1,
        }
    }
}

/// Where a number ends; `None` when something stands right behind it that the parser should see.
fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut point = false;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'0'..=b'9' => at += 1,
            b'.' if !point && bytes.get(at + 1) != Some(&b'.') => {
                point = true;
                at += 1;
            }
            b'e' | b'E' => {
                let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
                if !bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
                    return None;
                }
                at += 2 + sign;
                while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                    at += 1;
                }
                break;
            }
            _ => break,
        }
    }
    let follows = bytes
        .get(at)
        .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.') || *b >= 0x80);
    (!follows).then_some(at)
}

/// A number of the type PostgreSQL gives it: the smallest of int4, int8, numeric that holds it without its sign.
fn number(digits: &str, negative: bool) -> Option<Literal> {
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Ok(value) = digits.parse::<i64>()
    {
        let ty = if value <= i64::from(i32::MAX) { oid::INT4 } else { oid::INT8 };
        return Some(Literal::Integer(if negative { -value } else { value }, ty));
    }
    Some(Literal::Numeric(if negative { format!("-{digits}") } else { digits.to_owned() }))
}

fn is_operator(c: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&c)
}

/// The longest operator, by PostgreSQL's rules: it ends before a comment, and not in + or - unless it holds one of
/// `~ ! @ # % ^ & | ` ?`.
fn operator_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    while let Some(&b) = bytes.get(end) {
        let comment = matches!((b, bytes.get(end + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
        if !is_operator(b) || comment {
            break;
        }
        end += 1;
    }
    let special = bytes[start..end].iter().any(|b| b"~!@#%^&|`?".contains(b));
    while !special && end - start > 1 && matches!(bytes[end - 1], b'+' | b'-') {
        end -= 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifted(text: &str) -> Option<(String, Vec<Literal>)> {
        lift(text).map(|l| (l.text().to_owned(), l.values))
    }

    fn int(value: i64) -> Literal {
        Literal::Integer(value, oid::INT4)
    }

    #[test]
    fn operands_lists_and_rows_are_lifted() {
        assert_eq!(
            lifted("SELECT abalance  FROM t\nWHERE aid = 42 AND n='it''s';"),
            Some((
                "SELECT abalance FROM t WHERE aid = $1 AND n=$2".into(),
                vec![int(42), Literal::Text("it's".into())]
            ))
        );
        assert_eq!(
            lifted("UPDATE t SET b = b + -7, c = -5 WHERE a = 3000000000"),
            Some((
                "UPDATE t SET b = b + $1, c = $2 WHERE a = $3".into(),
                vec![int(-7), int(-5), Literal::Integer(3_000_000_000, oid::INT8)]
            ))
        );
        assert_eq!(
            lifted("insert into t (a, b) values (1, 'x'), (-2.5, f(3, 'y')) returning a"),
            Some((
                "insert into t (a, b) values ($1, $2), ($3, f(3, 'y')) returning a".into(),
                vec![int(1), Literal::Text("x".into()), Literal::Numeric("-2.5".into())]
            ))
        );
        assert_eq!(
            lifted("SELECT 1 FROM t WHERE a IN (1, 2) AND b BETWEEN 3 AND 4 AND c AND 5 < d"),
            Some((
                "SELECT 1 FROM t WHERE a IN ($1, $2) AND b BETWEEN $3 AND $4 AND c AND 5 < d".into(),
                vec![int(1), int(2), int(3), int(4)]
            ))
        );
        assert_eq!(
            lifted(
                "SELECT a /* why */ FROM t WHERE x=-1 AND d > DATE '2020-01-01' - 1 ORDER BY 1 LIMIT 10 + 2"
            ),
            Some((
                "SELECT a FROM t WHERE x=$1 AND d > DATE '2020-01-01' - $2 ORDER BY 1 LIMIT 10 + 2".into(),
                vec![int(-1), int(1)]
            ))
        );
    }

    #[test]
    fn the_rest_is_left_to_the_parser() {
        for text in [
            "SELECT 1",
            "SELECT 'a' 'b'",
            "SELECT a FROM t WHERE b = 'x' 'y'",
            "SELECT a FROM t WHERE b = E'x'",
            "SELECT a FROM t WHERE b = $1 AND c = 5",
            "SELECT a FROM t WHERE b = $$x$$",
            "SELECT a FROM t WHERE b = 1; SELECT 2",
            "SELECT a FROM t WHERE b = 'x",
            "SELECT a FROM t WHERE b = 0x1f",
            "SELECT a FROM t WHERE b = 1_000",
            "SELECT a FROM t WHERE (b = 1",
            "SELECT a FROM t WHERE b = -5::int2",
            "SELECT a FROM t WHERE b LIKE 'x%'",
            "CREATE TABLE t AS SELECT a FROM t WHERE b = 1",
            "selection = 1",
            "",
        ] {
            assert_eq!(lifted(text), None, "{text}");
        }
        // A list of IN that is a query is none.
        assert_eq!(
            lifted("SELECT a FROM t WHERE b IN (SELECT x, 5 FROM u WHERE y = 6)").map(|l| l.1),
            Some(vec![int(6)])
        );
        // Types are part of the key, values are not.
        let key = |text: &str| lift(text).unwrap().key;
        assert_eq!(key("SELECT a FROM t WHERE b = 1"), key("SELECT a FROM t  WHERE b = 2"));
        assert_ne!(key("SELECT a FROM t WHERE b = 1"), key("SELECT a FROM t WHERE b = 3000000000"));
    }
}
