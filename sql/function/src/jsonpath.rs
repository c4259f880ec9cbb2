//! SQL/JSON path: `jsonb_path_query` and its kin, `@?`, `@@`.
//!
//! A path is parsed into a tree whose value over an item is a sequence of items. In lax mode arrays unfold by themselves
//! where a single item is wanted and missing members are no error; in strict mode both are. Inside a predicate an error
//! is not raised but makes the predicate unknown, which is why predicates have three values ([`Truth`]).

use std::sync::Arc;

use value::types::oid::*;
use value::{Datum, Error, Jsonb, Numeric, Result, SqlState};

use crate::declare::{f, invalid_parameter, mismatch};
use crate::pattern::{Options, Pattern};
use crate::{Call, Function, Rows, SetFunction, State};

const MAX_DEPTH: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Test {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Type,
    Size,
    Double,
    Ceiling,
    Floor,
    Abs,
    KeyValue,
}

enum Node {
    Root,
    Current,
    Last,
    Variable(String),
    Literal(Jsonb),
    Key(Box<Node>, String),
    AnyKey(Box<Node>),
    /// `.**`, from and to which depth.
    Deep(Box<Node>, u32, u32),
    AnyElement(Box<Node>),
    Elements(Box<Node>, Vec<(Node, Option<Node>)>),
    Filter(Box<Node>, Box<Node>),
    Method(Box<Node>, Method),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Plus(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    IsUnknown(Box<Node>),
    Exists(Box<Node>),
    Compare(Test, Box<Node>, Box<Node>),
    StartsWith(Box<Node>, Box<Node>),
    Regex(Box<Node>, Box<Pattern>),
}

impl Node {
    fn is_predicate(&self) -> bool {
        matches!(
            self,
            Node::And(..)
                | Node::Or(..)
                | Node::Not(_)
                | Node::IsUnknown(_)
                | Node::Exists(_)
                | Node::Compare(..)
                | Node::StartsWith(..)
                | Node::Regex(..)
        )
    }
}

struct Path {
    strict: bool,
    node: Node,
}

// ---- parsing

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Symbol(&'static str),
    /// A bare word: key, keyword or method name.
    Word(String),
    String(String),
    Variable(String),
    Number(String),
}

/// Longest first.
const SYMBOLS: &[&str] = &[
    "**", "&&", "||", "==", "!=", "<>", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", "{", "}", "?", "@",
    "$", ".", ",", "*", "+", "-", "/", "%",
];

fn syntax(near: Option<&str>) -> Error {
    Error::new(
        SqlState::SYNTAX_ERROR,
        match near {
            Some(near) => format!("syntax error at or near \"{near}\" of jsonpath input"),
            None => "syntax error at end of jsonpath input".to_string(),
        },
    )
}

fn hex(chars: &[char], at: usize, count: usize) -> Result<u32> {
    let digits: String = chars.get(at..at + count).ok_or_else(|| syntax(None))?.iter().collect();
    u32::from_str_radix(&digits, 16).map_err(|_| syntax(Some(&digits)))
}

/// A double-quoted string from behind its opening quote: the text, and where it ends.
fn quoted(chars: &[char], mut at: usize) -> Result<(String, usize)> {
    let mut out = String::new();
    loop {
        match chars.get(at) {
            None => return Err(syntax(None)),
            Some('"') => return Ok((out, at + 1)),
            Some('\\') => {
                at += 1;
                let escaped = *chars.get(at).ok_or_else(|| syntax(None))?;
                at += 1;
                let code = match escaped {
                    'b' => 8,
                    'f' => 12,
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'v' => 11,
                    'x' => {
                        at += 2;
                        hex(chars, at - 2, 2)?
                    }
                    'u' if chars.get(at) == Some(&'{') => {
                        let end = chars[at..].iter().position(|c| *c == '}').ok_or_else(|| syntax(None))?;
                        let code = hex(chars, at + 1, end - 1)?;
                        at += end + 1;
                        code
                    }
                    'u' => {
                        at += 4;
                        let high = hex(chars, at - 4, 4)?;
                        let pair = (0xd800..0xdc00).contains(&high)
                            && chars.get(at) == Some(&'\\')
                            && chars.get(at + 1) == Some(&'u');
                        if pair {
                            let low = hex(chars, at + 2, 4)?;
                            at += 6;
                            0x10000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00)
                        } else {
                            high
                        }
                    }
                    other => u32::from(other),
                };
                out.push(char::from_u32(code).ok_or_else(|| syntax(Some("\\u")))?);
            }
            Some(c) => {
                out.push(*c);
                at += 1;
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || (c as u32) > 127
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c.is_whitespace() {
            at += 1;
        } else if c == '/' && chars.get(at + 1) == Some(&'*') {
            let end = (at + 2..chars.len()).find(|&i| chars[i] == '*' && chars.get(i + 1) == Some(&'/'));
            at = end.ok_or_else(|| syntax(None))? + 2;
        } else if c == '"' {
            let (string, end) = quoted(&chars, at + 1)?;
            out.push(Token::String(string));
            at = end;
        } else if c == '$' && chars.get(at + 1) == Some(&'"') {
            let (name, end) = quoted(&chars, at + 2)?;
            out.push(Token::Variable(name));
            at = end;
        } else if c == '$' && chars.get(at + 1).is_some_and(|&c| is_word(c)) {
            let end = (at + 1..chars.len()).find(|&i| !is_word(chars[i])).unwrap_or(chars.len());
            out.push(Token::Variable(chars[at + 1..end].iter().collect()));
            at = end;
        } else if c.is_ascii_digit() || c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit) {
            let start = at;
            let digits = |at: &mut usize| {
                while chars.get(*at).is_some_and(char::is_ascii_digit) {
                    *at += 1;
                }
            };
            digits(&mut at);
            if chars.get(at) == Some(&'.')
                && chars.get(at + 1).is_none_or(|c| *c != '*' && !c.is_alphabetic())
            {
                at += 1;
                digits(&mut at);
            }
            if matches!(chars.get(at), Some('e' | 'E')) {
                let sign = usize::from(matches!(chars.get(at + 1), Some('+' | '-')));
                if chars.get(at + 1 + sign).is_some_and(char::is_ascii_digit) {
                    at += 1 + sign;
                    digits(&mut at);
                }
            }
            if chars.get(at).is_some_and(|&c| is_word(c)) {
                let number: String = chars[start..=at].iter().collect();
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("trailing junk after numeric literal at or near \"{number}\" of jsonpath input"),
                ));
            }
            out.push(Token::Number(chars[start..at].iter().collect()));
        } else if is_word(c) {
            let end = (at..chars.len()).find(|&i| !is_word(chars[i])).unwrap_or(chars.len());
            out.push(Token::Word(chars[at..end].iter().collect()));
            at = end;
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| {
                let mut rest = chars[at..].iter();
                symbol.chars().all(|c| rest.next() == Some(&c))
            });
            let Some(symbol) = symbol else { return Err(syntax(Some(&c.to_string()))) };
            out.push(Token::Symbol(symbol));
            at += symbol.len();
        }
    }
    Ok(out)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(found)) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self) -> Error {
        match self.peek() {
            None => syntax(None),
            Some(Token::Symbol(text)) => syntax(Some(text)),
            Some(Token::Word(text) | Token::Number(text)) => syntax(Some(text)),
            Some(Token::String(text)) => syntax(Some(&format!("\"{text}\""))),
            Some(Token::Variable(text)) => syntax(Some(&format!("${text}"))),
        }
    }

    fn or(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "jsonpath nests too deep"));
        }
        let mut left = self.and()?;
        while self.take("||") {
            left = Node::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Node> {
        let mut left = self.comparison()?;
        while self.take("&&") {
            left = Node::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Node> {
        if self.take("!") {
            if self.is_word("exists") {
                return Ok(Node::Not(Box::new(self.exists()?)));
            }
            self.expect("(")?;
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(Node::Not(Box::new(inner)));
        }
        if self.is_word("exists") {
            return self.exists();
        }
        let left = self.sum()?;
        let test = match self.peek() {
            Some(Token::Symbol("==")) => Test::Eq,
            Some(Token::Symbol("!=" | "<>")) => Test::Ne,
            Some(Token::Symbol("<")) => Test::Lt,
            Some(Token::Symbol("<=")) => Test::Le,
            Some(Token::Symbol(">")) => Test::Gt,
            Some(Token::Symbol(">=")) => Test::Ge,
            Some(Token::Word(word)) if word == "like_regex" => {
                self.at += 1;
                return self.regex(left);
            }
            Some(Token::Word(word)) if word == "starts" => {
                self.at += 1;
                if !self.take_word("with") {
                    return Err(self.unexpected());
                }
                let prefix = self.primary()?;
                return Ok(Node::StartsWith(Box::new(left), Box::new(prefix)));
            }
            _ => return Ok(left),
        };
        self.at += 1;
        Ok(Node::Compare(test, Box::new(left), Box::new(self.sum()?)))
    }

    fn exists(&mut self) -> Result<Node> {
        self.at += 1;
        self.expect("(")?;
        let inner = self.or()?;
        self.expect(")")?;
        Ok(Node::Exists(Box::new(inner)))
    }

    fn regex(&mut self, left: Node) -> Result<Node> {
        let Some(Token::String(pattern)) = self.peek().cloned() else { return Err(self.unexpected()) };
        self.at += 1;
        // XQuery's flags in the letters of our own expressions; its dot does not match a newline.
        let mut flags = String::from("p");
        if self.take_word("flag") {
            let Some(Token::String(given)) = self.peek().cloned() else { return Err(self.unexpected()) };
            self.at += 1;
            let mut lines = (false, false);
            let mut others = String::new();
            for flag in given.chars() {
                match flag {
                    'i' | 'q' => others.push(flag),
                    's' => lines.0 = true,
                    'm' => lines.1 = true,
                    'x' => {
                        return Err(Error::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "XQuery \"x\" flag (expanded regular expressions) is not implemented",
                        ));
                    }
                    other => {
                        return Err(Error::new(
                            SqlState::SYNTAX_ERROR,
                            "invalid input syntax for type jsonpath",
                        )
                        .detail(format!(
                            "Unrecognized flag character \"{other}\" in LIKE_REGEX predicate."
                        )));
                    }
                }
            }
            flags = match lines {
                (true, true) => "w",
                (true, false) => "s",
                (false, true) => "n",
                (false, false) => "p",
            }
            .to_string();
            if others.contains('q') {
                flags.clear();
            }
            flags.push_str(&others);
        }
        let pattern = Pattern::compile(&pattern, Options::parse(&flags)?)?;
        Ok(Node::Regex(Box::new(left), Box::new(pattern)))
    }

    fn sum(&mut self) -> Result<Node> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Symbol("+")) => Arithmetic::Add,
                Some(Token::Symbol("-")) => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Arithmetic(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Node> {
        let mut left = self.signed()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Symbol("*")) => Arithmetic::Mul,
                Some(Token::Symbol("/")) => Arithmetic::Div,
                Some(Token::Symbol("%")) => Arithmetic::Rem,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Arithmetic(operator, Box::new(left), Box::new(self.signed()?));
        }
    }

    fn signed(&mut self) -> Result<Node> {
        let mut signs = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Symbol("-")) => signs.push(true),
                Some(Token::Symbol("+")) => signs.push(false),
                _ => break,
            }
            self.at += 1;
            if signs.len() > MAX_DEPTH {
                return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "jsonpath nests too deep"));
            }
        }
        let mut node = self.accessors()?;
        for negative in signs.into_iter().rev() {
            node = match (negative, node) {
                (true, Node::Literal(Jsonb::Number(number))) => Node::Literal(Jsonb::Number(number.neg())),
                (true, node) => Node::Negate(Box::new(node)),
                (false, node) => Node::Plus(Box::new(node)),
            };
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node> {
        let Some(token) = self.peek().cloned() else { return Err(syntax(None)) };
        let node = match token {
            Token::Symbol("$") => Node::Root,
            Token::Symbol("@") => Node::Current,
            Token::Variable(name) => Node::Variable(name),
            Token::String(text) => Node::Literal(Jsonb::string(text)),
            Token::Number(text) => Node::Literal(Jsonb::Number(Numeric::parse(&text)?)),
            Token::Word(word) => match word.as_str() {
                "last" => Node::Last,
                "true" => Node::Literal(Jsonb::Bool(true)),
                "false" => Node::Literal(Jsonb::Bool(false)),
                "null" => Node::Literal(Jsonb::Null),
                _ => return Err(self.unexpected()),
            },
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.or()?;
                self.expect(")")?;
                if inner.is_predicate() && self.take_word("is") {
                    return if self.take_word("unknown") {
                        Ok(Node::IsUnknown(Box::new(inner)))
                    } else {
                        Err(self.unexpected())
                    };
                }
                return Ok(inner);
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(node)
    }

    fn accessors(&mut self) -> Result<Node> {
        let mut node = self.primary()?;
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > MAX_DEPTH {
                return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "jsonpath nests too deep"));
            }
            if self.take(".") {
                node = self.member(node)?;
            } else if self.take("[") {
                if self.take("*") {
                    self.expect("]")?;
                    node = Node::AnyElement(Box::new(node));
                    continue;
                }
                let mut parts = Vec::new();
                loop {
                    let from = self.sum()?;
                    let to = if self.take_word("to") { Some(self.sum()?) } else { None };
                    parts.push((from, to));
                    if !self.take(",") {
                        break;
                    }
                }
                self.expect("]")?;
                node = Node::Elements(Box::new(node), parts);
            } else if self.take("?") {
                self.expect("(")?;
                let filter = self.or()?;
                if !filter.is_predicate() {
                    return Err(self.unexpected());
                }
                self.expect(")")?;
                node = Node::Filter(Box::new(node), Box::new(filter));
            } else {
                return Ok(node);
            }
        }
    }

    fn level(&mut self) -> Result<u32> {
        if self.take_word("last") {
            return Ok(u32::MAX);
        }
        match self.peek() {
            Some(Token::Number(text)) => {
                let level = text.parse().map_err(|_| self.unexpected())?;
                self.at += 1;
                Ok(level)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn member(&mut self, node: Node) -> Result<Node> {
        let node = Box::new(node);
        if self.take("*") {
            return Ok(Node::AnyKey(node));
        }
        if self.take("**") {
            if !self.take("{") {
                return Ok(Node::Deep(node, 0, u32::MAX));
            }
            let from = self.level()?;
            let to = if self.take_word("to") { self.level()? } else { from };
            self.expect("}")?;
            return Ok(Node::Deep(node, from, to));
        }
        match self.peek().cloned() {
            Some(Token::String(key)) => {
                self.at += 1;
                Ok(Node::Key(node, key))
            }
            Some(Token::Word(word)) => {
                self.at += 1;
                if !self.is("(") {
                    return Ok(Node::Key(node, word));
                }
                let method = match word.as_str() {
                    "type" => Method::Type,
                    "size" => Method::Size,
                    "double" => Method::Double,
                    "ceiling" => Method::Ceiling,
                    "floor" => Method::Floor,
                    "abs" => Method::Abs,
                    "keyvalue" => Method::KeyValue,
                    "datetime" => {
                        return Err(Error::unsupported(
                            "the jsonpath method datetime()",
                            "Compare dates outside the path: cast ->> to a date or timestamp.",
                        ));
                    }
                    _ => return Err(self.unexpected()),
                };
                self.at += 1;
                self.expect(")")?;
                Ok(Node::Method(node, method))
            }
            _ => Err(self.unexpected()),
        }
    }
}

impl Path {
    fn parse(text: &str) -> Result<Path> {
        if text.trim().is_empty() {
            return Err(Error::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type jsonpath: \"{text}\""),
            ));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let strict = parser.take_word("strict");
        if !strict {
            parser.take_word("lax");
        }
        let node = parser.or()?;
        if parser.peek().is_some() {
            return Err(parser.unexpected());
        }
        check(&node, false, false)?;
        Ok(Path { strict, node })
    }
}

/// `@` stands in filters only, `last` in subscripts only.
fn check(node: &Node, in_filter: bool, in_subscript: bool) -> Result<()> {
    match node {
        Node::Current if !in_filter => {
            Err(Error::new(SqlState::SYNTAX_ERROR, "@ is not allowed in root expressions"))
        }
        Node::Last if !in_subscript => {
            Err(Error::new(SqlState::SYNTAX_ERROR, "LAST is allowed only in array subscripts"))
        }
        Node::Root | Node::Current | Node::Last | Node::Variable(_) | Node::Literal(_) => Ok(()),
        Node::Key(inner, _)
        | Node::AnyKey(inner)
        | Node::Deep(inner, ..)
        | Node::AnyElement(inner)
        | Node::Method(inner, _)
        | Node::Negate(inner)
        | Node::Plus(inner)
        | Node::Not(inner)
        | Node::IsUnknown(inner)
        | Node::Exists(inner)
        | Node::Regex(inner, _) => check(inner, in_filter, in_subscript),
        Node::Elements(inner, parts) => {
            check(inner, in_filter, in_subscript)?;
            parts.iter().try_for_each(|(from, to)| {
                check(from, in_filter, true)?;
                to.iter().try_for_each(|to| check(to, in_filter, true))
            })
        }
        Node::Filter(inner, filter) => {
            check(inner, in_filter, in_subscript)?;
            check(filter, true, in_subscript)
        }
        Node::Arithmetic(_, a, b)
        | Node::And(a, b)
        | Node::Or(a, b)
        | Node::Compare(_, a, b)
        | Node::StartsWith(a, b) => {
            check(a, in_filter, in_subscript)?;
            check(b, in_filter, in_subscript)
        }
    }
}

// ---- evaluation

#[derive(Clone, Copy, PartialEq)]
enum Truth {
    False,
    True,
    Unknown,
}

impl Truth {
    fn of(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

struct Run<'a> {
    strict: bool,
    root: &'a Jsonb,
    variables: &'a Jsonb,
}

/// The item `@` and the length of the array for `last`.
#[derive(Clone, Copy)]
struct Place<'a> {
    current: &'a Jsonb,
    length: usize,
}

impl Run<'_> {
    /// The items of a node; arrays unfold in lax mode if `unwrap` asks for it.
    fn items(&self, node: &Node, place: Place<'_>, unwrap: bool) -> Result<Vec<Jsonb>> {
        let found = self.eval(node, place)?;
        Ok(if unwrap && !self.strict { unfold(found) } else { found })
    }

    fn eval(&self, node: &Node, place: Place<'_>) -> Result<Vec<Jsonb>> {
        match node {
            Node::Root => Ok(vec![self.root.clone()]),
            Node::Current => Ok(vec![place.current.clone()]),
            Node::Last => Ok(vec![number(place.length as i64 - 1)]),
            Node::Literal(value) => Ok(vec![value.clone()]),
            Node::Variable(name) => match self.variables.field(name) {
                Some(value) => Ok(vec![value.clone()]),
                None => Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("could not find jsonpath variable \"{name}\""),
                )),
            },
            Node::Key(inner, key) => {
                let mut out = Vec::new();
                for item in self.items(inner, place, true)? {
                    match (&item, item.field(key)) {
                        (_, Some(value)) => out.push(value.clone()),
                        _ if !self.strict => {}
                        (Jsonb::Object(_), None) => {
                            return Err(Error::new(
                                SqlState::SQL_JSON_MEMBER_NOT_FOUND,
                                format!("JSON object does not contain key \"{key}\""),
                            ));
                        }
                        _ => {
                            return Err(Error::new(
                                SqlState::SQL_JSON_MEMBER_NOT_FOUND,
                                "jsonpath member accessor can only be applied to an object",
                            ));
                        }
                    }
                }
                Ok(out)
            }
            Node::AnyKey(inner) => {
                let mut out = Vec::new();
                for item in self.items(inner, place, true)? {
                    match item {
                        Jsonb::Object(members) => out.extend(members.into_iter().map(|(_, value)| value)),
                        _ if !self.strict => {}
                        _ => {
                            return Err(Error::new(
                                SqlState::SQL_JSON_OBJECT_NOT_FOUND,
                                "jsonpath wildcard member accessor can only be applied to an object",
                            ));
                        }
                    }
                }
                Ok(out)
            }
            Node::Deep(inner, from, to) => {
                let mut out = Vec::new();
                for item in self.items(inner, place, false)? {
                    descend(&item, 0, *from, *to, &mut out);
                }
                Ok(out)
            }
            Node::AnyElement(inner) => {
                let mut out = Vec::new();
                for item in self.items(inner, place, false)? {
                    match item {
                        Jsonb::Array(elements) => out.extend(elements),
                        item if !self.strict => out.push(item),
                        _ => {
                            return Err(Error::new(
                                SqlState::SQL_JSON_ARRAY_NOT_FOUND,
                                "jsonpath wildcard array accessor can only be applied to an array",
                            ));
                        }
                    }
                }
                Ok(out)
            }
            Node::Elements(inner, parts) => self.elements(inner, parts, place),
            Node::Filter(inner, filter) => {
                let mut out = Vec::new();
                for item in self.items(inner, place, true)? {
                    if self.truth(filter, Place { current: &item, ..place })? == Truth::True {
                        out.push(item);
                    }
                }
                Ok(out)
            }
            Node::Method(inner, method) => self.method(inner, *method, place),
            Node::Arithmetic(operator, left, right) => {
                let left = self.operand(left, "left", *operator, place)?;
                let right = self.operand(right, "right", *operator, place)?;
                let result = match operator {
                    Arithmetic::Add => left.add(&right)?,
                    Arithmetic::Sub => left.sub(&right)?,
                    Arithmetic::Mul => left.mul(&right)?,
                    Arithmetic::Div => left.div(&right)?,
                    Arithmetic::Rem => left.rem(&right)?,
                };
                Ok(vec![Jsonb::Number(result)])
            }
            Node::Negate(inner) | Node::Plus(inner) => {
                let negative = matches!(node, Node::Negate(_));
                self.items(inner, place, true)?
                    .into_iter()
                    .map(|item| match item {
                        Jsonb::Number(number) => {
                            Ok(Jsonb::Number(if negative { number.neg() } else { number }))
                        }
                        _ => Err(Error::new(
                            SqlState::SQL_JSON_NUMBER_NOT_FOUND,
                            format!(
                                "operand of unary jsonpath operator {} is not a numeric value",
                                if negative { '-' } else { '+' }
                            ),
                        )),
                    })
                    .collect()
            }
            predicate => Ok(vec![match self.truth(predicate, place)? {
                Truth::True => Jsonb::Bool(true),
                Truth::False => Jsonb::Bool(false),
                Truth::Unknown => Jsonb::Null,
            }]),
        }
    }

    fn elements(&self, inner: &Node, parts: &[(Node, Option<Node>)], place: Place<'_>) -> Result<Vec<Jsonb>> {
        let mut out = Vec::new();
        for item in self.items(inner, place, false)? {
            let elements = match item {
                Jsonb::Array(elements) => elements,
                item if !self.strict => vec![item],
                _ => {
                    return Err(Error::new(
                        SqlState::SQL_JSON_ARRAY_NOT_FOUND,
                        "jsonpath array accessor can only be applied to an array",
                    ));
                }
            };
            let inside = Place { length: elements.len(), ..place };
            for (from, to) in parts {
                let from = self.subscript(from, inside)?;
                let to = match to {
                    Some(to) => self.subscript(to, inside)?,
                    None => from,
                };
                let length = elements.len() as i64;
                if self.strict && (from < 0 || from > to || to >= length) {
                    return Err(Error::new(
                        SqlState::INVALID_SQL_JSON_SUBSCRIPT,
                        "jsonpath array subscript is out of bounds",
                    ));
                }
                if from <= to {
                    let range = from.max(0)..=to.min(length - 1);
                    out.extend(range.map(|at| elements[at as usize].clone()));
                }
            }
        }
        Ok(out)
    }

    fn subscript(&self, node: &Node, place: Place<'_>) -> Result<i64> {
        match self.eval(node, place)?.as_slice() {
            [Jsonb::Number(number)] => match number.trunc(0).to_i32() {
                Ok(at) => Ok(i64::from(at)),
                Err(_) => Err(Error::new(
                    SqlState::INVALID_SQL_JSON_SUBSCRIPT,
                    "jsonpath array subscript is out of integer range",
                )),
            },
            _ => Err(Error::new(
                SqlState::INVALID_SQL_JSON_SUBSCRIPT,
                "jsonpath array subscript is not a single numeric value",
            )),
        }
    }

    fn operand(&self, node: &Node, side: &str, operator: Arithmetic, place: Place<'_>) -> Result<Numeric> {
        match self.items(node, place, true)?.as_slice() {
            [Jsonb::Number(number)] => Ok(number.clone()),
            _ => {
                let symbol = match operator {
                    Arithmetic::Add => '+',
                    Arithmetic::Sub => '-',
                    Arithmetic::Mul => '*',
                    Arithmetic::Div => '/',
                    Arithmetic::Rem => '%',
                };
                Err(Error::new(
                    SqlState::SINGLETON_SQL_JSON_ITEM_REQUIRED,
                    format!("{side} operand of jsonpath operator {symbol} is not a single numeric value"),
                ))
            }
        }
    }

    fn method(&self, inner: &Node, method: Method, place: Place<'_>) -> Result<Vec<Jsonb>> {
        let unwrap = !matches!(method, Method::Type | Method::Size);
        let mut out = Vec::new();
        for item in self.items(inner, place, unwrap)? {
            match method {
                Method::Type => out.push(Jsonb::string(item.type_name())),
                Method::Size => match &item {
                    Jsonb::Array(elements) => out.push(number(elements.len() as i64)),
                    _ if !self.strict => out.push(number(1)),
                    _ => {
                        return Err(Error::new(
                            SqlState::SQL_JSON_ARRAY_NOT_FOUND,
                            "jsonpath item method .size() can only be applied to an array",
                        ));
                    }
                },
                Method::Double => {
                    let text = match &item {
                        Jsonb::Number(number) => number.to_string(),
                        Jsonb::String(text) => text.to_string(),
                        _ => {
                            return Err(Error::new(
                                SqlState::NON_NUMERIC_SQL_JSON_ITEM,
                                "jsonpath item method .double() can only be applied to a string or numeric value",
                            ));
                        }
                    };
                    let parsed = text.trim().parse::<f64>().ok().filter(|double| double.is_finite());
                    match parsed {
                        Some(double) => out.push(Jsonb::Number(Numeric::from_f64(double))),
                        None => {
                            return Err(Error::new(
                                SqlState::NON_NUMERIC_SQL_JSON_ITEM,
                                "string argument of jsonpath item method .double() is not a valid representation of a double precision number",
                            ));
                        }
                    }
                }
                Method::Ceiling | Method::Floor | Method::Abs => {
                    let Jsonb::Number(number) = &item else {
                        let name = match method {
                            Method::Ceiling => "ceiling",
                            Method::Floor => "floor",
                            _ => "abs",
                        };
                        return Err(Error::new(
                            SqlState::NON_NUMERIC_SQL_JSON_ITEM,
                            format!("jsonpath item method .{name}() can only be applied to a numeric value"),
                        ));
                    };
                    out.push(Jsonb::Number(match method {
                        Method::Ceiling => number.ceil(),
                        Method::Floor => number.floor(),
                        _ => number.abs(),
                    }));
                }
                Method::KeyValue => {
                    let Jsonb::Object(members) = item else {
                        return Err(Error::new(
                            SqlState::SQL_JSON_OBJECT_NOT_FOUND,
                            "jsonpath item method .keyvalue() can only be applied to an object",
                        ));
                    };
                    for (key, value) in members {
                        out.push(Jsonb::object(vec![
                            (Arc::from("key"), Jsonb::String(key)),
                            (Arc::from("value"), value),
                            (Arc::from("id"), number(0)),
                        ]));
                    }
                }
            }
        }
        Ok(out)
    }

    fn truth(&self, node: &Node, place: Place<'_>) -> Result<Truth> {
        Ok(match node {
            Node::And(left, right) => match self.truth(left, place)? {
                Truth::False => Truth::False,
                left => match self.truth(right, place)? {
                    Truth::True => left,
                    right => right,
                },
            },
            Node::Or(left, right) => match self.truth(left, place)? {
                Truth::True => Truth::True,
                left => match self.truth(right, place)? {
                    Truth::False => left,
                    right => right,
                },
            },
            Node::Not(inner) => match self.truth(inner, place)? {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                Truth::Unknown => Truth::Unknown,
            },
            Node::IsUnknown(inner) => Truth::of(self.truth(inner, place)? == Truth::Unknown),
            Node::Exists(inner) => match self.items(inner, place, false) {
                Ok(found) => Truth::of(!found.is_empty()),
                Err(error) => unknown(error)?,
            },
            Node::Compare(test, left, right) => {
                self.pairs(left, Some(right), place, |a, b| compare(*test, a, b))?
            }
            Node::StartsWith(left, right) => {
                self.pairs(left, Some(right), place, |text, prefix| match (text, prefix) {
                    (Jsonb::String(text), Jsonb::String(prefix)) => {
                        Ok(Truth::of(text.starts_with(&**prefix)))
                    }
                    _ => Ok(Truth::Unknown),
                })?
            }
            Node::Regex(left, pattern) => self.pairs(left, None, place, |text, _| match text {
                Jsonb::String(text) => pattern.is_match(text).map(Truth::of),
                _ => Ok(Truth::Unknown),
            })?,
            _ => return Err(Error::internal("a jsonpath value stands where a predicate should")),
        })
    }

    /// A predicate over each pair of items. Lax: true as soon as one pair is; strict: unknown if any pair is.
    fn pairs(
        &self,
        left: &Node,
        right: Option<&Node>,
        place: Place<'_>,
        test: impl Fn(&Jsonb, &Jsonb) -> Result<Truth>,
    ) -> Result<Truth> {
        let left = match self.items(left, place, true) {
            Ok(items) => items,
            Err(error) => return unknown(error),
        };
        let right = match right {
            None => vec![Jsonb::Null],
            Some(right) => match self.items(right, place, true) {
                Ok(items) => items,
                Err(error) => return unknown(error),
            },
        };
        let (mut found, mut failed) = (false, false);
        for a in &left {
            for b in &right {
                match test(a, b)? {
                    Truth::Unknown if self.strict => return Ok(Truth::Unknown),
                    Truth::Unknown => failed = true,
                    Truth::True if !self.strict => return Ok(Truth::True),
                    Truth::True => found = true,
                    Truth::False => {}
                }
            }
        }
        Ok(if found {
            Truth::True
        } else if failed {
            Truth::Unknown
        } else {
            Truth::False
        })
    }
}

/// Errors of the data inside a predicate; others (a missing variable) are raised all the same.
fn unknown(error: Error) -> Result<Truth> {
    if is_silent(&error) { Ok(Truth::Unknown) } else { Err(error) }
}

/// What `silent` and the operators suppress: errors about the data.
fn is_silent(error: &Error) -> bool {
    error.state().class() == "22" && error.state() != SqlState::INVALID_PARAMETER_VALUE
}

fn number(value: i64) -> Jsonb {
    Jsonb::Number(Numeric::from_i64(value))
}

fn unfold(items: Vec<Jsonb>) -> Vec<Jsonb> {
    if !items.iter().any(|item| matches!(item, Jsonb::Array(_))) {
        return items;
    }
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Jsonb::Array(elements) => out.extend(elements),
            item => out.push(item),
        }
    }
    out
}

fn descend(item: &Jsonb, depth: u32, from: u32, to: u32, out: &mut Vec<Jsonb>) {
    // `last` as the first level: leaves only.
    if depth >= from && depth <= to || from == u32::MAX && item.is_scalar() {
        out.push(item.clone());
    }
    if depth < to {
        match item {
            Jsonb::Array(elements) => {
                elements.iter().for_each(|element| descend(element, depth + 1, from, to, out))
            }
            Jsonb::Object(members) => {
                members.iter().for_each(|(_, value)| descend(value, depth + 1, from, to, out))
            }
            _ => {}
        }
    }
}

fn compare(test: Test, a: &Jsonb, b: &Jsonb) -> Result<Truth> {
    let order = match (a, b) {
        (Jsonb::Null, Jsonb::Null) => std::cmp::Ordering::Equal,
        // null differs from everything and is neither less nor greater.
        (Jsonb::Null, b) if b.is_scalar() => return Ok(Truth::of(test == Test::Ne)),
        (a, Jsonb::Null) if a.is_scalar() => return Ok(Truth::of(test == Test::Ne)),
        (Jsonb::Bool(a), Jsonb::Bool(b)) if matches!(test, Test::Eq | Test::Ne) => a.cmp(b),
        (Jsonb::Number(a), Jsonb::Number(b)) => a.cmp(b),
        (Jsonb::String(a), Jsonb::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        _ => return Ok(Truth::Unknown),
    };
    Ok(Truth::of(match test {
        Test::Eq => order.is_eq(),
        Test::Ne => order.is_ne(),
        Test::Lt => order.is_lt(),
        Test::Le => order.is_le(),
        Test::Gt => order.is_gt(),
        Test::Ge => order.is_ge(),
    }))
}

// ---- functions

struct Compiled {
    text: Arc<str>,
    path: Arc<Path>,
}

fn compiled(state: &mut State, text: &Arc<str>) -> Result<Arc<Path>> {
    if let Some(known) = state.as_ref().and_then(|state| state.downcast_ref::<Compiled>())
        && (Arc::ptr_eq(&known.text, text) || known.text == *text)
    {
        return Ok(known.path.clone());
    }
    let path = Arc::new(Path::parse(text)?);
    *state = Some(Box::new(Compiled { text: text.clone(), path: path.clone() }));
    Ok(path)
}

/// The items of `(target, path [, vars [, silent]])`; the operators are always silent. `None`: an error was silenced.
fn query(call: &mut Call<'_>, args: &[Datum], operator: bool) -> Result<Option<(Vec<Jsonb>, Arc<Path>)>> {
    let [Datum::Jsonb(root), Datum::Text(path), rest @ ..] = args else { return Err(mismatch(args)) };
    let path = compiled(call.state, path)?;
    let empty = Jsonb::Object(Vec::new());
    let variables = match rest.first() {
        Some(Datum::Jsonb(variables)) => variables,
        _ => &empty,
    };
    if !matches!(variables, Jsonb::Object(_)) {
        return Err(invalid_parameter("\"vars\" argument is not an object")
            .detail("Jsonpath parameters should be encoded as key-value pairs of \"vars\" object."));
    }
    let silent = operator || matches!(rest.get(1), Some(Datum::Bool(true)));
    let run = Run { strict: path.strict, root, variables };
    match run.eval(&path.node, Place { current: root, length: 0 }) {
        Ok(found) => Ok(Some((found, path))),
        Err(error) if silent && is_silent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn exists(call: &mut Call<'_>, args: &[Datum], operator: bool) -> Result<Datum> {
    Ok(query(call, args, operator)?.map_or(Datum::Null, |(found, _)| Datum::Bool(!found.is_empty())))
}

fn matches(call: &mut Call<'_>, args: &[Datum], operator: bool) -> Result<Datum> {
    let Some((found, _)) = query(call, args, operator)? else { return Ok(Datum::Null) };
    match found.as_slice() {
        [Jsonb::Bool(value)] => Ok(Datum::Bool(*value)),
        [Jsonb::Null] => Ok(Datum::Null),
        _ if operator || matches!(args.get(3), Some(Datum::Bool(true))) => Ok(Datum::Null),
        _ => Err(Error::new(SqlState::SINGLETON_SQL_JSON_ITEM_REQUIRED, "single boolean result is expected")),
    }
}

fn query_array(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let found = query(call, args, false)?.map_or(Vec::new(), |(found, _)| found);
    crate::json::jsonb(Jsonb::Array(found))
}

fn query_first(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let found = query(call, args, false)?.and_then(|(found, _)| found.into_iter().next());
    found.map_or(Ok(Datum::Null), crate::json::jsonb)
}

fn query_rows(call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let found = query(call, args, false)?.map_or(Vec::new(), |(found, _)| found);
    Ok(Box::new(found.into_iter().map(|item| Ok(vec![Datum::Jsonb(Arc::new(item))]))))
}

/// Checks a path and gives it back (the input of the type jsonpath).
fn input(_: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Text(text)] => Path::parse(text).map(|_| Datum::Text(text.clone())),
        _ => Err(mismatch(args)),
    }
}

const NAMES: &[&str] = &["target", "path", "vars", "silent"];
const ARGS: &[value::Oid] = &[JSONB, JSONPATH, JSONB, BOOL];

pub(crate) static FUNCTIONS: &[Function] = &[
    f(4005, "jsonb_path_exists", ARGS, BOOL, |call, args| exists(call, args, false)).defaults(2).names(NAMES),
    f(4009, "jsonb_path_match", ARGS, BOOL, |call, args| matches(call, args, false)).defaults(2).names(NAMES),
    f(4007, "jsonb_path_query_array", ARGS, JSONB, query_array).defaults(2).names(NAMES),
    f(4008, "jsonb_path_query_first", ARGS, JSONB, query_first).defaults(2).names(NAMES),
    f(1177, "jsonb_path_exists_tz", ARGS, BOOL, |call, args| exists(call, args, false))
        .defaults(2)
        .names(NAMES)
        .stable(),
    f(2030, "jsonb_path_match_tz", ARGS, BOOL, |call, args| matches(call, args, false))
        .defaults(2)
        .names(NAMES)
        .stable(),
    f(1180, "jsonb_path_query_array_tz", ARGS, JSONB, query_array).defaults(2).names(NAMES).stable(),
    f(2023, "jsonb_path_query_first_tz", ARGS, JSONB, query_first).defaults(2).names(NAMES).stable(),
    f(4010, "jsonb_path_exists_opr", &[JSONB, JSONPATH], BOOL, |call, args| exists(call, args, true)),
    f(4011, "jsonb_path_match_opr", &[JSONB, JSONPATH], BOOL, |call, args| matches(call, args, true)),
    f(4001, "jsonpath_in", &[TEXT], JSONPATH, input),
];

pub(crate) static SET_FUNCTIONS: &[SetFunction] =
    &[path_set(4006, "jsonb_path_query"), path_set(1179, "jsonb_path_query_tz")];

const fn path_set(oid: value::Oid, name: &'static str) -> SetFunction {
    let mut function = crate::set::s(oid, name, ARGS, JSONB, &[("jsonb_path_query", JSONB)], query_rows);
    function.defaults = 2;
    function
}
