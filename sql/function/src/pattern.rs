//! LIKE and regular expressions.
//!
//! LIKE has its own matcher: a pattern without `_` is a list of pieces that have to occur one after the other, which
//! is what substring search is fastest at; anything else goes through a loop that remembers only the last `%`.
//! PostgreSQL's regular expressions (AREs) are translated to the syntax of the `regex` crate, or of `fancy-regex`
//! when they use back references or look-around. One difference remains: an alternation takes its first branch that
//! matches, not its longest.
//!
//! LIKE counts as infallible: its one error, an escape character at the end of the pattern, depends on the text anyway.
//! A call site keeps the compiled pattern in its state, so a constant pattern is compiled once.

use std::sync::Arc;

use value::types::oid::*;
use value::{Array, Datum, Error, Result, SqlState};

use crate::declare::{f, invalid_parameter, mismatch, text_of, thunk};
use crate::text::lower;
use crate::{Call, Function, State};

/// A LIKE pattern, compiled.
enum Like {
    /// Pieces between `%`s; the first must stand at the start, the last at the end (both may be empty). One piece: equal.
    Pieces(Vec<String>),
    /// With `_`.
    General(Vec<LikeToken>),
}

#[derive(Clone, Copy, PartialEq)]
enum LikeToken {
    Char(char),
    One,
    Many,
    /// An escape character that escapes nothing: an error, but only if the match gets there.
    Dangling,
}

struct LikeState {
    pattern: Arc<str>,
    like: Like,
}

fn like_tokens(pattern: &str) -> Vec<LikeToken> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '%' => LikeToken::Many,
            '_' => LikeToken::One,
            '\\' => chars.next().map_or(LikeToken::Dangling, LikeToken::Char),
            c => LikeToken::Char(c),
        });
    }
    tokens
}

impl Like {
    fn compile(pattern: &str) -> Like {
        let tokens = like_tokens(pattern);
        if tokens.iter().any(|token| matches!(token, LikeToken::One | LikeToken::Dangling)) {
            return Like::General(tokens);
        }
        let mut pieces = vec![String::new()];
        for token in tokens {
            match token {
                LikeToken::Char(c) => {
                    if let Some(last) = pieces.last_mut() {
                        last.push(c);
                    }
                }
                _ => pieces.push(String::new()),
            }
        }
        Like::Pieces(pieces)
    }

    fn matches(&self, text: &str) -> Result<bool> {
        match self {
            Like::Pieces(pieces) => Ok(match pieces.as_slice() {
                [] => text.is_empty(),
                [only] => text == only,
                [first, middle @ .., last] => {
                    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return Ok(false) };
                    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
                        match rest.find(piece.as_str()) {
                            Some(at) => rest = &rest[at + piece.len()..],
                            None => return Ok(false),
                        }
                    }
                    rest.ends_with(last.as_str())
                }
            }),
            Like::General(tokens) => matches_tokens(text, tokens),
        }
    }
}

/// What a LIKE pattern says to an index in byte order: the text every match starts with, and whether matches are
/// exactly that text. An empty prefix says nothing.
pub fn like_prefix(pattern: &str) -> (String, bool) {
    let mut prefix = String::new();
    for token in like_tokens(pattern) {
        match token {
            LikeToken::Char(c) => prefix.push(c),
            _ => return (prefix, false),
        }
    }
    (prefix, true)
}

fn dangling_escape() -> Error {
    Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "LIKE pattern must not end with escape character")
}

fn matches_tokens(text: &str, tokens: &[LikeToken]) -> Result<bool> {
    let (mut at, mut token) = (0, 0);
    // Where to go on after a mismatch: behind the last `%`, one character further in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let next = text[at..].chars().next();
        match (tokens.get(token), next) {
            (Some(LikeToken::Many), _) => {
                token += 1;
                retry = Some((token, at));
                continue;
            }
            (Some(LikeToken::One), Some(c)) => {
                at += c.len_utf8();
                token += 1;
                continue;
            }
            (Some(LikeToken::Char(wanted)), Some(c)) if *wanted == c => {
                at += c.len_utf8();
                token += 1;
                continue;
            }
            (None, None) => return Ok(true),
            (Some(LikeToken::Dangling), Some(_)) => return Err(dangling_escape()),
            _ => {}
        }
        let Some((back_token, back_at)) = retry else { return Ok(false) };
        let Some(skipped) = text[back_at..].chars().next() else { return Ok(false) };
        at = back_at + skipped.len_utf8();
        token = back_token;
        retry = Some((token, at));
    }
}

fn like(state: &mut State, text: &str, pattern: &Arc<str>, fold: bool) -> Result<bool> {
    let known = state
        .as_ref()
        .and_then(|state| state.downcast_ref::<LikeState>())
        .is_some_and(|known| Arc::ptr_eq(&known.pattern, pattern) || known.pattern == *pattern);
    if !known {
        let like = if fold { Like::compile(&lower(pattern)) } else { Like::compile(pattern) };
        *state = Some(Box::new(LikeState { pattern: pattern.clone(), like }));
    }
    let Some(known) = state.as_ref().and_then(|state| state.downcast_ref::<LikeState>()) else {
        return Err(Error::internal("the pattern just stored is gone"));
    };
    if fold { known.like.matches(&lower(text)) } else { known.like.matches(text) }
}

macro_rules! like {
    ($fold:literal, $wanted:literal) => {
        |call: &mut Call<'_>, args: &[Datum]| match args {
            [Datum::Text(text), Datum::Text(pattern)] => {
                Ok(Datum::Bool(like(call.state, text, pattern, $fold)? == $wanted))
            }
            _ => Err(mismatch(args)),
        }
    };
}

/// LIKE over bytes: `_` is one byte.
fn like_bytes(text: &[u8], pattern: &[u8]) -> Result<bool> {
    let (mut at, mut token) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(token), text.get(at)) {
            (Some(b'%'), _) => {
                token += 1;
                retry = Some((token, at));
                continue;
            }
            (Some(b'_'), Some(_)) => {
                at += 1;
                token += 1;
                continue;
            }
            (Some(&wanted), have) => {
                let (wanted, width) = match (wanted, have) {
                    (b'\\', Some(_)) => (*pattern.get(token + 1).ok_or_else(dangling_escape)?, 2),
                    (wanted, _) => (wanted, 1),
                };
                if have == Some(&wanted) {
                    at += 1;
                    token += width;
                    continue;
                }
            }
            (None, None) => return Ok(true),
            _ => {}
        }
        let Some((back_token, back_at)) = retry else { return Ok(false) };
        if back_at >= text.len() {
            return Ok(false);
        }
        at = back_at + 1;
        token = back_token;
        retry = Some((token, at));
    }
}

/// `LIKE pattern ESCAPE escape`: the same pattern with backslash as the escape character.
fn like_escape(pattern: &str, escape: &str) -> Result<String> {
    let mut chars = escape.chars();
    let (escape, more) = (chars.next(), chars.next());
    if more.is_some() {
        return Err(Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .hint("Escape string must be empty or one character."));
    }
    let mut out = String::with_capacity(pattern.len());
    let mut after_escape = false;
    for c in pattern.chars() {
        if Some(c) == escape && !after_escape {
            out.push('\\');
            after_escape = true;
            continue;
        }
        if c == '\\' && !after_escape {
            out.push('\\');
        }
        out.push(c);
        after_escape = false;
    }
    Ok(out)
}

/// SIMILAR TO's pattern as a regular expression that must match the whole string.
fn similar_to_escape(pattern: &str, escape: Option<&str>) -> Result<String> {
    let escape = match escape {
        None => Some('\\'),
        Some(text) => {
            let mut chars = text.chars();
            let first = chars.next();
            if chars.next().is_some() {
                return Err(Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                    .hint("Escape string must be empty or one character."));
            }
            first
        }
    };
    let mut out = String::from("^(?:");
    let mut quotes = 0;
    let mut in_brackets = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some('"') if !in_brackets => {
                    out.push_str(match quotes {
                        0 => "){1,1}?(",
                        1 => "){1,1}(?:",
                        _ => {
                            return Err(Error::new(
                                SqlState(*b"2200C"),
                                "SQL regular expression may not contain more than two escape-double-quote separators",
                            ));
                        }
                    });
                    quotes += 1;
                }
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push_str("\\\\"),
            }
        } else if in_brackets {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            in_brackets = c != ']';
        } else {
            match c {
                '[' => {
                    out.push(c);
                    in_brackets = true;
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// A compiled regular expression.
pub(crate) enum Pattern {
    Plain(regex::Regex),
    Fancy(fancy_regex::Regex),
}

/// Byte ranges of the whole match (first) and of each group.
pub(crate) type Groups = Vec<Option<(usize, usize)>>;

/// What the flags argument of the regexp functions and `(?...)` at the start of a pattern can say.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    ignore_case: bool,
    expanded: bool,
    literal: bool,
    /// `.` and `[^...]` do not match a newline.
    newline_stops: bool,
    /// `^` and `$` match at newlines.
    newline_anchors: bool,
    pub(crate) global: bool,
}

impl Options {
    pub(crate) fn parse(flags: &str) -> Result<Options> {
        let mut options = Options {
            ignore_case: false,
            expanded: false,
            literal: false,
            newline_stops: false,
            newline_anchors: false,
            global: false,
        };
        for flag in flags.chars() {
            if flag == 'g' {
                options.global = true;
            } else if !options.apply(flag) {
                return Err(invalid_parameter(format!("invalid regular expression option: \"{flag}\"")));
            }
        }
        Ok(options)
    }

    fn apply(&mut self, flag: char) -> bool {
        match flag {
            'i' => self.ignore_case = true,
            'c' => self.ignore_case = false,
            'x' => self.expanded = true,
            't' => self.expanded = false,
            'q' => self.literal = true,
            'e' | 'b' => self.literal = false,
            'n' | 'm' => (self.newline_stops, self.newline_anchors) = (true, true),
            's' => (self.newline_stops, self.newline_anchors) = (false, false),
            'p' => (self.newline_stops, self.newline_anchors) = (true, false),
            'w' => (self.newline_stops, self.newline_anchors) = (false, true),
            _ => return false,
        }
        true
    }
}

fn invalid(reason: &str) -> Error {
    Error::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
}

/// Turns an ARE into the syntax of the regex crates, step by step over its characters.
struct Translator<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    options: Options,
    /// Needs back references or look-around.
    fancy: bool,
    groups: u32,
}

const BREAK_START: &str = "(?<!\\w)(?=\\w)";
const BREAK_END: &str = "(?<=\\w)(?!\\w)";

impl Translator<'_> {
    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() || c == ' ' || c == '#' {
            // Everything the regex crates give a meaning to, in any mode; an escaped space is one in expanded mode.
            match c {
                '<' | '>' | ' ' | '_' | '"' | '\'' | '`' | ',' | ';' | ':' | '@' | '%' | '!' | '=' | '/' => {
                    self.out.push(c);
                }
                c => {
                    self.out.push('\\');
                    self.out.push(c);
                }
            }
        } else {
            self.out.push(c);
        }
    }

    fn run(mut self) -> Result<(String, bool)> {
        let mut depth = 0_u32;
        // Whether there is something that a quantifier can apply to.
        let mut atom = false;
        while let Some(c) = self.chars.next() {
            let had_atom = std::mem::replace(&mut atom, true);
            match c {
                '\\' => atom = self.escape()?,
                '[' => atom = self.bracket()?,
                '.' => self.out.push_str(if self.options.newline_stops { "[^\\n]" } else { "(?s:.)" }),
                '^' => {
                    self.out.push_str(if self.options.newline_anchors { "(?m:^)" } else { "\\A" });
                    atom = false;
                }
                '$' => {
                    self.out.push_str(if self.options.newline_anchors { "(?m:$)" } else { "\\z" });
                    atom = false;
                }
                '(' => {
                    if self.open_group()? {
                        depth += 1;
                        atom = false;
                    } else {
                        atom = had_atom;
                    }
                    if depth > 1000 {
                        return Err(invalid("regular expression is too complex"));
                    }
                }
                ')' => {
                    depth = depth.checked_sub(1).ok_or_else(|| invalid("parentheses () not balanced"))?;
                    self.out.push(')');
                }
                '|' => {
                    self.out.push('|');
                    atom = false;
                }
                '*' | '+' | '?' => {
                    if !had_atom {
                        return Err(invalid("quantifier operand invalid"));
                    }
                    self.out.push(c);
                    self.lazy();
                    atom = false;
                }
                '{' if self.chars.peek().is_some_and(char::is_ascii_digit) => {
                    if !had_atom {
                        return Err(invalid("quantifier operand invalid"));
                    }
                    self.bound()?;
                    self.lazy();
                    atom = false;
                }
                c if self.options.expanded && c.is_whitespace() => atom = had_atom,
                '#' if self.options.expanded => {
                    for c in self.chars.by_ref() {
                        if c == '\n' {
                            break;
                        }
                    }
                    atom = had_atom;
                }
                c => self.literal(c),
            }
        }
        if depth > 0 {
            return Err(invalid("parentheses () not balanced"));
        }
        Ok((self.out, self.fancy))
    }

    fn lazy(&mut self) {
        if self.chars.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
    }

    /// Gives whether a group was opened; comments open none.
    fn open_group(&mut self) -> Result<bool> {
        if self.chars.next_if_eq(&'?').is_none() {
            self.groups += 1;
            self.out.push('(');
            return Ok(true);
        }
        match self.chars.next() {
            Some(':') => self.out.push_str("(?:"),
            Some(c @ ('=' | '!')) => {
                self.fancy = true;
                self.out.push_str("(?");
                self.out.push(c);
            }
            Some('<') => match self.chars.next() {
                Some(c @ ('=' | '!')) => {
                    self.fancy = true;
                    self.out.push_str("(?<");
                    self.out.push(c);
                }
                _ => return Err(invalid("quantifier operand invalid")),
            },
            Some('#') => {
                // A comment reaches to the next parenthesis.
                loop {
                    match self.chars.next() {
                        Some(')') => break,
                        Some(_) => {}
                        None => return Err(invalid("parentheses () not balanced")),
                    }
                }
                return Ok(false);
            }
            _ => return Err(invalid("quantifier operand invalid")),
        }
        Ok(true)
    }

    fn number(&mut self) -> Option<u32> {
        let mut value: Option<u32> = None;
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as u32 - '0' as u32));
        }
        value
    }

    fn bound(&mut self) -> Result<()> {
        let low = self.number().unwrap_or(0);
        let high = if self.chars.next_if_eq(&',').is_some() { self.number() } else { Some(low) };
        if self.chars.next() != Some('}') {
            return Err(invalid("braces {} not balanced"));
        }
        if low > 255 || high.is_some_and(|high| high > 255 || high < low) {
            return Err(invalid("invalid repetition count(s)"));
        }
        match high {
            Some(high) => self.out.push_str(&format!("{{{low},{high}}}")),
            None => self.out.push_str(&format!("{{{low},}}")),
        }
        Ok(())
    }

    /// A character given by `digits` hexadecimal digits.
    fn hex(&mut self, least: usize, most: usize) -> Result<char> {
        let mut text = String::new();
        while text.len() < most {
            match self.chars.next_if(char::is_ascii_hexdigit) {
                Some(digit) => text.push(digit),
                None => break,
            }
        }
        if text.len() < least {
            return Err(invalid("invalid escape \\ sequence"));
        }
        u32::from_str_radix(&text, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| invalid("invalid escape \\ sequence"))
    }

    /// An escape that stands for one character, also inside brackets; `None` for others.
    fn character_escape(&mut self, c: char) -> Result<Option<char>> {
        Ok(Some(match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'B' => '\\',
            'c' => match self.chars.next() {
                Some(c) => char::from_u32(c as u32 & 0x1f).unwrap_or('\0'),
                None => return Err(invalid("invalid escape \\ sequence")),
            },
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'u' => self.hex(4, 4)?,
            'U' => self.hex(8, 8)?,
            'x' => self.hex(1, 255)?,
            '0' => {
                let mut code = 0;
                for _ in 0..2 {
                    match self.chars.next_if(|c| ('0'..='7').contains(c)) {
                        Some(digit) => code = code * 8 + (digit as u32 - '0' as u32),
                        None => break,
                    }
                }
                char::from_u32(code).unwrap_or('\0')
            }
            c if !c.is_alphanumeric() => c,
            _ => return Ok(None),
        }))
    }

    /// Gives whether it is something that can be quantified.
    fn escape(&mut self) -> Result<bool> {
        let Some(c) = self.chars.next() else { return Err(invalid("invalid escape \\ sequence")) };
        match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'm' => {
                self.fancy = true;
                self.out.push_str(BREAK_START);
                return Ok(false);
            }
            'M' => {
                self.fancy = true;
                self.out.push_str(BREAK_END);
                return Ok(false);
            }
            'y' => {
                self.out.push_str("\\b");
                return Ok(false);
            }
            'Y' => {
                self.out.push_str("\\B");
                return Ok(false);
            }
            'A' => {
                self.out.push_str("\\A");
                return Ok(false);
            }
            'Z' => {
                self.out.push_str("\\z");
                return Ok(false);
            }
            '1'..='9' => {
                let mut number = c as u32 - '0' as u32;
                while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
                    number = number.saturating_mul(10).saturating_add(digit as u32 - '0' as u32);
                }
                if number > self.groups {
                    return Err(invalid("invalid backreference number"));
                }
                self.fancy = true;
                self.out.push_str(&format!("(?:\\{number})"));
            }
            c => match self.character_escape(c)? {
                Some(c) => self.literal(c),
                None => return Err(invalid("invalid escape \\ sequence")),
            },
        }
        Ok(true)
    }

    /// A bracket expression; the opening bracket is behind us.
    fn bracket(&mut self) -> Result<bool> {
        let unbalanced = || invalid("brackets [] not balanced");
        // Word boundaries in their old spelling.
        let rest: String = self.chars.clone().take(6).collect();
        for (spelling, boundary) in [("[:<:]]", BREAK_START), ("[:>:]]", BREAK_END)] {
            if rest == spelling {
                self.chars.by_ref().take(6).for_each(drop);
                self.fancy = true;
                self.out.push_str(boundary);
                return Ok(false);
            }
        }
        self.out.push('[');
        if self.chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
            if self.options.newline_stops {
                self.out.push_str("\\n");
            }
        }
        let mut first = true;
        // The character a range may start with.
        let mut previous: Option<char> = None;
        loop {
            let c = self.chars.next().ok_or_else(unbalanced)?;
            let member = match c {
                ']' if !first => break,
                '[' if matches!(self.chars.peek(), Some(':' | '.' | '=')) => {
                    let kind = self.chars.next().ok_or_else(unbalanced)?;
                    let mut name = String::new();
                    loop {
                        match self.chars.next().ok_or_else(unbalanced)? {
                            end if end == kind && self.chars.peek() == Some(&']') => {
                                self.chars.next();
                                break;
                            }
                            c => name.push(c),
                        }
                    }
                    if kind == ':' {
                        let class = match name.as_str() {
                            "alpha" => "\\p{Alphabetic}",
                            "digit" => "\\d",
                            "alnum" => "\\p{Alphabetic}\\d",
                            "upper" => "\\p{Uppercase}",
                            "lower" => "\\p{Lowercase}",
                            "space" => "\\s",
                            "blank" => " \\t",
                            "word" => "\\w",
                            "punct" => "\\p{P}\\p{S}",
                            "cntrl" => "\\p{Cc}",
                            "xdigit" => "0-9A-Fa-f",
                            "graph" => "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}",
                            "print" => "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S} ",
                            "ascii" => "\\x00-\\x7F",
                            _ => return Err(invalid("invalid character class")),
                        };
                        self.out.push_str(class);
                        None
                    } else {
                        let mut chars = name.chars();
                        match (chars.next(), chars.next()) {
                            (Some(c), None) => Some(c),
                            _ => return Err(invalid("invalid collating element")),
                        }
                    }
                }
                '\\' => match self.chars.next().ok_or_else(unbalanced)? {
                    c @ ('d' | 's' | 'w' | 'D' | 'S' | 'W') => {
                        self.out.push('\\');
                        self.out.push(c);
                        None
                    }
                    c => match self.character_escape(c)? {
                        Some(c) => Some(c),
                        None => return Err(invalid("invalid escape \\ sequence")),
                    },
                },
                '-' if !first && previous.is_some() && self.chars.peek().is_some_and(|&c| c != ']') => {
                    let mut end = self.chars.next().ok_or_else(unbalanced)?;
                    if end == '\\' {
                        let c = self.chars.next().ok_or_else(unbalanced)?;
                        end =
                            self.character_escape(c)?.ok_or_else(|| invalid("invalid escape \\ sequence"))?;
                    }
                    if previous.is_some_and(|start| start > end) {
                        return Err(invalid("invalid character range"));
                    }
                    self.out.push('-');
                    self.member(end);
                    previous = None;
                    first = false;
                    continue;
                }
                c => Some(c),
            };
            if let Some(c) = member {
                self.member(c);
            }
            previous = member;
            first = false;
        }
        self.out.push(']');
        Ok(true)
    }

    /// One character inside brackets.
    fn member(&mut self, c: char) {
        if c.is_ascii_punctuation() && c != '_' && c != '"' && c != '\'' {
            match c {
                '<' | '>' | '`' | ',' | ';' | ':' | '@' | '%' | '!' | '=' | '/' => self.out.push(c),
                c => {
                    self.out.push('\\');
                    self.out.push(c);
                }
            }
        } else {
            self.out.push(c);
        }
    }
}

impl Pattern {
    pub(crate) fn compile(pattern: &str, mut options: Options) -> Result<Pattern> {
        let mut rest = pattern;
        if let Some(literal) = rest.strip_prefix("***=") {
            options.literal = true;
            rest = literal;
        } else if let Some(advanced) = rest.strip_prefix("***:") {
            rest = advanced;
        }
        if !options.literal {
            // Embedded options.
            if let Some(tail) = rest.strip_prefix("(?")
                && let Some(end) = tail.find(')')
            {
                let letters = &tail[..end];
                if !letters.is_empty() && letters.bytes().all(|c| c.is_ascii_lowercase()) {
                    for letter in letters.chars() {
                        if !options.apply(letter) {
                            return Err(invalid("invalid embedded option"));
                        }
                    }
                    rest = &tail[end + 1..];
                }
            }
        }
        let (translated, fancy) = if options.literal {
            (regex::escape(rest), false)
        } else {
            let translator = Translator {
                chars: rest.chars().peekable(),
                out: String::new(),
                options,
                fancy: false,
                groups: 0,
            };
            translator.run()?
        };
        let translated = if options.ignore_case { format!("(?i){translated}") } else { translated };
        if fancy {
            return fancy_regex::RegexBuilder::new(&translated)
                .build()
                .map(Pattern::Fancy)
                .map_err(|error| invalid(&error.to_string()));
        }
        match regex::RegexBuilder::new(&translated).size_limit(64 << 20).build() {
            Ok(compiled) => Ok(Pattern::Plain(compiled)),
            Err(regex::Error::CompiledTooBig(_)) => Err(invalid("regular expression is too complex")),
            Err(error) => Err(invalid(error.to_string().lines().last().unwrap_or("syntax error").trim())),
        }
    }

    pub(crate) fn is_match(&self, text: &str) -> Result<bool> {
        match self {
            Pattern::Plain(pattern) => Ok(pattern.is_match(text)),
            Pattern::Fancy(pattern) => pattern.is_match(text).map_err(failed),
        }
    }

    /// The first match at or after byte `start`.
    pub(crate) fn find(&self, text: &str, start: usize) -> Result<Option<Groups>> {
        Ok(match self {
            Pattern::Plain(pattern) => pattern
                .captures_at(text, start)
                .map(|found| found.iter().map(|group| group.map(|g| (g.start(), g.end()))).collect()),
            Pattern::Fancy(pattern) => pattern
                .captures_from_pos(text, start)
                .map_err(failed)?
                .map(|found| found.iter().map(|group| group.map(|g| (g.start(), g.end()))).collect()),
        })
    }

    /// Matches from left to right, at most `limit`. After an empty match the search goes on one character further.
    pub(crate) fn find_all(&self, text: &str, start: usize, limit: usize) -> Result<Vec<Groups>> {
        let mut found = Vec::new();
        let mut at = start;
        while found.len() < limit && at <= text.len() {
            let Some(groups) = self.find(text, at)? else { break };
            let Some((from, to)) = groups[0] else { break };
            at = if from == to { to + text[to..].chars().next().map_or(1, char::len_utf8) } else { to };
            found.push(groups);
        }
        Ok(found)
    }
}

fn failed(error: fancy_regex::Error) -> Error {
    Error::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("regular expression failed: {error}"))
}

struct RegexState {
    pattern: Arc<str>,
    flags: String,
    compiled: Arc<Pattern>,
    global: bool,
}

/// The compiled pattern of this call and whether the flags ask for all matches.
pub(crate) fn compiled(state: &mut State, pattern: &Arc<str>, flags: &str) -> Result<(Arc<Pattern>, bool)> {
    if let Some(known) = state.as_ref().and_then(|state| state.downcast_ref::<RegexState>())
        && (Arc::ptr_eq(&known.pattern, pattern) || known.pattern == *pattern)
        && known.flags == flags
    {
        return Ok((known.compiled.clone(), known.global));
    }
    let options = Options::parse(flags)?;
    let compiled = Arc::new(Pattern::compile(pattern, options)?);
    *state = Some(Box::new(RegexState {
        pattern: pattern.clone(),
        flags: flags.to_string(),
        compiled: compiled.clone(),
        global: options.global,
    }));
    Ok((compiled, options.global))
}

macro_rules! regex {
    ($flags:literal, $wanted:literal) => {
        |call: &mut Call<'_>, args: &[Datum]| match args {
            [Datum::Text(text), Datum::Text(pattern)] => {
                Ok(Datum::Bool(compiled(call.state, pattern, $flags)?.0.is_match(text)? == $wanted))
            }
            _ => Err(mismatch(args)),
        }
    };
}

/// `substring(text from pattern)`: the first group, or the whole match when there is none.
fn substring(state: &mut State, text: &str, pattern: &Arc<str>) -> Result<Datum> {
    let (pattern, _) = compiled(state, pattern, "")?;
    let Some(groups) = pattern.find(text, 0)? else { return Ok(Datum::Null) };
    let chosen = if groups.len() > 1 { groups[1] } else { groups[0] };
    Ok(chosen.map_or(Datum::Null, |(from, to)| Datum::text(&text[from..to])))
}

/// The groups of a match as `regexp_match` gives them; the whole match when there are none.
pub(crate) fn groups_array(text: &str, groups: &Groups) -> Datum {
    let chosen = if groups.len() > 1 { &groups[1..] } else { &groups[..1] };
    let values = chosen
        .iter()
        .map(|group| group.map_or(Datum::Null, |(from, to)| Datum::text(&text[from..to])))
        .collect();
    Datum::Array(Arc::new(Array::from_values(TEXT, values)))
}

fn no_global(function: &str, hint: Option<&str>) -> Error {
    let error = invalid_parameter(format!("{function}() does not support the \"global\" option"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn regexp_match(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern, flags) = text_pattern_flags(args)?;
    let (pattern, global) = compiled(call.state, pattern, flags)?;
    if global {
        return Err(no_global("regexp_match", Some("Use the regexp_matches function instead.")));
    }
    Ok(pattern.find(text, 0)?.map_or(Datum::Null, |groups| groups_array(text, &groups)))
}

pub(crate) fn text_pattern_flags(args: &[Datum]) -> Result<(&Arc<str>, &Arc<str>, &str)> {
    match args {
        [Datum::Text(text), Datum::Text(pattern)] => Ok((text, pattern, "")),
        [Datum::Text(text), Datum::Text(pattern), Datum::Text(flags)] => Ok((text, pattern, flags)),
        _ => Err(mismatch(args)),
    }
}

fn regexp_like(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern, flags) = text_pattern_flags(args)?;
    let (pattern, global) = compiled(call.state, pattern, flags)?;
    if global {
        return Err(no_global("regexp_like", None));
    }
    pattern.is_match(text).map(Datum::Bool)
}

/// Appends the replacement for one match: `\1` to `\9`, `\&` and `\\`.
fn expand(out: &mut String, replacement: &str, text: &str, groups: &Groups) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let mut group = |at: usize| {
            if let Some(Some((from, to))) = groups.get(at) {
                out.push_str(&text[*from..*to]);
            }
        };
        match chars.next() {
            Some('&') => group(0),
            Some(digit @ '1'..='9') => group(digit as usize - '0' as usize),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

/// Replaces the `nth` match (0: all) at or after byte `start`.
fn replace(pattern: &Pattern, text: &Arc<str>, replacement: &str, start: usize, nth: usize) -> Result<Datum> {
    let found = pattern.find_all(text, start, if nth == 0 { usize::MAX } else { nth })?;
    let chosen = if nth == 0 { &found[..] } else { found.get(nth - 1..).unwrap_or(&[]) };
    if chosen.is_empty() {
        return Ok(Datum::Text(text.clone()));
    }
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for groups in chosen {
        if let Some((from, to)) = groups[0] {
            out.push_str(&text[copied..from]);
            expand(&mut out, replacement, text, groups);
            copied = to;
        }
    }
    out.push_str(&text[copied..]);
    text_of(out)
}

fn regexp_replace(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Text(text), Datum::Text(pattern), Datum::Text(new)] => {
            let (pattern, _) = compiled(call.state, pattern, "")?;
            replace(&pattern, text, new, 0, 1)
        }
        [Datum::Text(text), Datum::Text(pattern), Datum::Text(new), Datum::Text(flags)] => {
            if flags.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(invalid_parameter(format!(
                    "invalid regular expression option: \"{}\"",
                    flags.chars().next().unwrap_or(' ')
                ))
                .hint("If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly."));
            }
            let (pattern, global) = compiled(call.state, pattern, flags)?;
            replace(&pattern, text, new, 0, usize::from(!global))
        }
        [Datum::Text(text), Datum::Text(pattern), Datum::Text(new), Datum::Int4(start), rest @ ..] => {
            let (nth, flags) = match rest {
                [] => (1, ""),
                [Datum::Int4(nth)] => (*nth, ""),
                [Datum::Int4(nth), Datum::Text(flags)] => (*nth, &**flags),
                _ => return Err(mismatch(args)),
            };
            let start = start_offset(text, *start)?;
            let nth = at_least("n", nth, 0)?;
            let (pattern, _) = compiled(call.state, pattern, flags)?;
            replace(&pattern, text, new, start, nth)
        }
        _ => Err(mismatch(args)),
    }
}

fn at_least(name: &str, value: i32, least: i32) -> Result<usize> {
    if value < least {
        return Err(invalid_parameter(format!("invalid value for parameter \"{name}\": {value}")));
    }
    Ok(value as usize)
}

/// The byte offset of a 1-based character position; behind the end when it is.
fn start_offset(text: &str, start: i32) -> Result<usize> {
    let start = at_least("start", start, 1)? - 1;
    Ok(text.char_indices().nth(start).map_or_else(
        || if crate::text::char_count(text) == start { text.len() } else { text.len() + 1 },
        |(byte, _)| byte,
    ))
}

fn regexp_count(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (text, pattern, start, flags) = match args {
        [Datum::Text(text), Datum::Text(pattern)] => (text, pattern, 1, ""),
        [Datum::Text(text), Datum::Text(pattern), Datum::Int4(start)] => (text, pattern, *start, ""),
        [Datum::Text(text), Datum::Text(pattern), Datum::Int4(start), Datum::Text(flags)] => {
            (text, pattern, *start, &**flags)
        }
        _ => return Err(mismatch(args)),
    };
    let start = start_offset(text, start)?;
    let (pattern, global) = compiled(call.state, pattern, flags)?;
    if global {
        return Err(no_global("regexp_count", None));
    }
    Ok(Datum::Int4(pattern.find_all(text, start, usize::MAX)?.len() as i32))
}

/// The optional arguments of `regexp_instr` and `regexp_substr` behind string and pattern.
struct Nth<'a> {
    start: usize,
    nth: usize,
    flags: &'a str,
    group: usize,
}

fn nth_group(pattern: &Pattern, text: &str, nth: &Nth<'_>) -> Result<Option<(usize, usize)>> {
    let found = pattern.find_all(text, nth.start, nth.nth)?;
    Ok(found.get(nth.nth - 1).and_then(|groups| groups.get(nth.group).copied().flatten()))
}

fn int(args: &[Datum], at: usize, default: i32) -> Result<i32> {
    match args.get(at) {
        None => Ok(default),
        Some(Datum::Int4(value)) => Ok(*value),
        Some(_) => Err(mismatch(args)),
    }
}

fn regexp_instr(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (Some(Datum::Text(text)), Some(Datum::Text(pattern))) = (args.first(), args.get(1)) else {
        return Err(mismatch(args));
    };
    let end = int(args, 4, 0)?;
    if end != 0 && end != 1 {
        return Err(invalid_parameter(format!("invalid value for parameter \"endoption\": {end}")));
    }
    let flags = match args.get(5) {
        Some(Datum::Text(flags)) => &**flags,
        _ => "",
    };
    let nth = Nth {
        start: start_offset(text, int(args, 2, 1)?)?,
        nth: at_least("n", int(args, 3, 1)?, 1)?,
        flags,
        group: at_least("subexpr", int(args, 6, 0)?, 0)?,
    };
    let (pattern, global) = compiled(call.state, pattern, nth.flags)?;
    if global {
        return Err(no_global("regexp_instr", None));
    }
    Ok(Datum::Int4(nth_group(&pattern, text, &nth)?.map_or(0, |(from, to)| {
        crate::text::char_count(&text[..if end == 1 { to } else { from }]) as i32 + 1
    })))
}

fn regexp_substr(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let (Some(Datum::Text(text)), Some(Datum::Text(pattern))) = (args.first(), args.get(1)) else {
        return Err(mismatch(args));
    };
    let flags = match args.get(4) {
        Some(Datum::Text(flags)) => &**flags,
        _ => "",
    };
    let nth = Nth {
        start: start_offset(text, int(args, 2, 1)?)?,
        nth: at_least("n", int(args, 3, 1)?, 1)?,
        flags,
        group: at_least("subexpr", int(args, 5, 0)?, 0)?,
    };
    let (pattern, global) = compiled(call.state, pattern, nth.flags)?;
    if global {
        return Err(no_global("regexp_substr", None));
    }
    Ok(nth_group(&pattern, text, &nth)?.map_or(Datum::Null, |(from, to)| Datum::text(&text[from..to])))
}

/// The pieces between matches, for `regexp_split_to_array` and `regexp_split_to_table`. Empty matches at the end or
/// right behind the one before do not split.
pub(crate) fn split(function: &str, state: &mut State, args: &[Datum]) -> Result<Vec<Datum>> {
    let (text, pattern, flags) = text_pattern_flags(args)?;
    let (pattern, global) = compiled(state, pattern, flags)?;
    if global {
        return Err(no_global(function, None));
    }
    let mut pieces = Vec::new();
    let mut copied = 0;
    for groups in pattern.find_all(text, 0, usize::MAX)? {
        let Some((from, to)) = groups[0] else { continue };
        if from >= text.len() || to <= copied {
            continue;
        }
        pieces.push(Datum::text(&text[copied..from]));
        copied = to;
    }
    pieces.push(Datum::text(&text[copied..]));
    Ok(pieces)
}

fn split_to_array(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let pieces = split("regexp_split_to_array", call.state, args)?;
    Ok(Datum::Array(Arc::new(Array::from_values(TEXT, pieces))))
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(850, "textlike", &[TEXT, TEXT], BOOL, like!(false, true)).total(),
    f(851, "textnlike", &[TEXT, TEXT], BOOL, like!(false, false)).total(),
    f(1633, "texticlike", &[TEXT, TEXT], BOOL, like!(true, true)).total(),
    f(1634, "texticnlike", &[TEXT, TEXT], BOOL, like!(true, false)).total(),
    f(858, "namelike", &[NAME, TEXT], BOOL, like!(false, true)).total(),
    f(859, "namenlike", &[NAME, TEXT], BOOL, like!(false, false)).total(),
    f(1635, "nameiclike", &[NAME, TEXT], BOOL, like!(true, true)).total(),
    f(1636, "nameicnlike", &[NAME, TEXT], BOOL, like!(true, false)).total(),
    f(1631, "bpcharlike", &[BPCHAR, TEXT], BOOL, like!(false, true)).total(),
    f(1632, "bpcharnlike", &[BPCHAR, TEXT], BOOL, like!(false, false)).total(),
    f(1660, "bpchariclike", &[BPCHAR, TEXT], BOOL, like!(true, true)).total(),
    f(1661, "bpcharicnlike", &[BPCHAR, TEXT], BOOL, like!(true, false)).total(),
    f(1569, "like", &[TEXT, TEXT], BOOL, like!(false, true)).total(),
    f(1570, "notlike", &[TEXT, TEXT], BOOL, like!(false, false)).total(),
    f(
        2005,
        "bytealike",
        &[BYTEA, BYTEA],
        BOOL,
        thunk!([Datum::Bytea(a), Datum::Bytea(b)] => like_bytes(a, b).map(Datum::Bool)),
    ),
    f(
        2006,
        "byteanlike",
        &[BYTEA, BYTEA],
        BOOL,
        thunk!([Datum::Bytea(a), Datum::Bytea(b)] => like_bytes(a, b).map(|found| Datum::Bool(!found))),
    ),
    f(
        1637,
        "like_escape",
        &[TEXT, TEXT],
        TEXT,
        thunk!([Datum::Text(pattern), Datum::Text(escape)] => text_of(like_escape(pattern, escape)?)),
    ),
    f(
        1987,
        "similar_to_escape",
        &[TEXT],
        TEXT,
        thunk!([Datum::Text(pattern)] => text_of(similar_to_escape(pattern, None)?)),
    ),
    f(
        1986,
        "similar_to_escape",
        &[TEXT, TEXT],
        TEXT,
        thunk!([Datum::Text(pattern), Datum::Text(escape)] => text_of(similar_to_escape(pattern, Some(escape))?)),
    ),
    f(1254, "textregexeq", &[TEXT, TEXT], BOOL, regex!("", true)),
    f(1256, "textregexne", &[TEXT, TEXT], BOOL, regex!("", false)),
    f(1238, "texticregexeq", &[TEXT, TEXT], BOOL, regex!("i", true)),
    f(1239, "texticregexne", &[TEXT, TEXT], BOOL, regex!("i", false)),
    f(79, "nameregexeq", &[NAME, TEXT], BOOL, regex!("", true)),
    f(1252, "nameregexne", &[NAME, TEXT], BOOL, regex!("", false)),
    f(1240, "nameicregexeq", &[NAME, TEXT], BOOL, regex!("i", true)),
    f(1241, "nameicregexne", &[NAME, TEXT], BOOL, regex!("i", false)),
    f(1658, "bpcharregexeq", &[BPCHAR, TEXT], BOOL, regex!("", true)),
    f(1659, "bpcharregexne", &[BPCHAR, TEXT], BOOL, regex!("", false)),
    f(1656, "bpcharicregexeq", &[BPCHAR, TEXT], BOOL, regex!("i", true)),
    f(1657, "bpcharicregexne", &[BPCHAR, TEXT], BOOL, regex!("i", false)),
    f(
        2073,
        "substring",
        &[TEXT, TEXT],
        TEXT,
        thunk!(call; [Datum::Text(text), Datum::Text(pattern)] => substring(call.state, text, pattern)),
    ),
    f(
        2074,
        "substring",
        &[TEXT, TEXT, TEXT],
        TEXT,
        thunk!(call; [Datum::Text(text), Datum::Text(pattern), Datum::Text(escape)] => substring(call.state, text, &Arc::from(similar_to_escape(pattern, Some(escape))?))),
    ),
    f(3396, "regexp_match", &[TEXT, TEXT], TEXT_ARRAY, regexp_match),
    f(3397, "regexp_match", &[TEXT, TEXT, TEXT], TEXT_ARRAY, regexp_match),
    f(6263, "regexp_like", &[TEXT, TEXT], BOOL, regexp_like),
    f(6264, "regexp_like", &[TEXT, TEXT, TEXT], BOOL, regexp_like),
    f(2284, "regexp_replace", &[TEXT, TEXT, TEXT], TEXT, regexp_replace),
    f(2285, "regexp_replace", &[TEXT, TEXT, TEXT, TEXT], TEXT, regexp_replace),
    f(6253, "regexp_replace", &[TEXT, TEXT, TEXT, INT4], TEXT, regexp_replace),
    f(6252, "regexp_replace", &[TEXT, TEXT, TEXT, INT4, INT4], TEXT, regexp_replace),
    f(6251, "regexp_replace", &[TEXT, TEXT, TEXT, INT4, INT4, TEXT], TEXT, regexp_replace),
    f(6254, "regexp_count", &[TEXT, TEXT], INT4, regexp_count),
    f(6255, "regexp_count", &[TEXT, TEXT, INT4], INT4, regexp_count),
    f(6256, "regexp_count", &[TEXT, TEXT, INT4, TEXT], INT4, regexp_count),
    f(6257, "regexp_instr", &[TEXT, TEXT], INT4, regexp_instr),
    f(6258, "regexp_instr", &[TEXT, TEXT, INT4], INT4, regexp_instr),
    f(6259, "regexp_instr", &[TEXT, TEXT, INT4, INT4], INT4, regexp_instr),
    f(6260, "regexp_instr", &[TEXT, TEXT, INT4, INT4, INT4], INT4, regexp_instr),
    f(6261, "regexp_instr", &[TEXT, TEXT, INT4, INT4, INT4, TEXT], INT4, regexp_instr),
    f(6262, "regexp_instr", &[TEXT, TEXT, INT4, INT4, INT4, TEXT, INT4], INT4, regexp_instr),
    f(6265, "regexp_substr", &[TEXT, TEXT], TEXT, regexp_substr),
    f(6266, "regexp_substr", &[TEXT, TEXT, INT4], TEXT, regexp_substr),
    f(6267, "regexp_substr", &[TEXT, TEXT, INT4, INT4], TEXT, regexp_substr),
    f(6268, "regexp_substr", &[TEXT, TEXT, INT4, INT4, TEXT], TEXT, regexp_substr),
    f(6269, "regexp_substr", &[TEXT, TEXT, INT4, INT4, TEXT, INT4], TEXT, regexp_substr),
    f(2767, "regexp_split_to_array", &[TEXT, TEXT], TEXT_ARRAY, split_to_array),
    f(2768, "regexp_split_to_array", &[TEXT, TEXT, TEXT], TEXT_ARRAY, split_to_array),
];
