//! Text to `sqlparser` statements.
//!
//! Three things stand between the text and the parser:
//! - a scan that counts nesting and the length of operator chains, so that hostile text is 54001 and never a stack
//!   overflow. The parser and everything after it run on stacks that grow; [`Ast`] is also *dropped* on one, since
//!   the tree of `a + b + c ...` is as deep as it is long;
//! - a rewriting of the few things the grammar of `sqlparser` cannot hold (`FOR NO KEY UPDATE OF a, b`, frame
//!   exclusion, conflict targets that are expressions, `OVERRIDING`, `BETWEEN SYMMETRIC`, `ROWS FROM`, `VARIADIC`,
//!   `SET a[1] = ...`): they travel inside identifiers that start with a control character no identifier of a user
//!   can start with ([`marker`]). What only has another spelling (`TABLE t`, `trim(leading from x)`) is respelled;
//! - error messages as PostgreSQL words them.

use std::ops::Deref;
use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word};
use value::{Error, Result, SqlState};

/// Parentheses, brackets and CASE may nest this deep.
pub const MAX_NESTING: usize = 1_000;
/// Operators that may follow each other in one flat expression, and arms of one set operation.
pub const MAX_CHAIN: usize = 250_000;

/// Prefixes of identifiers that carry what the grammar has no place for.
pub mod marker {
    /// `FOR ... OF "<LOCK>strength".a.b`.
    pub const LOCK: &str = "\u{1}lock:";
    /// Window name `"<EXCLUDE>what:name"`.
    pub const EXCLUDE: &str = "\u{1}exclude:";
    /// A conflict target column that is an expression: its text.
    pub const EXPRESSION: &str = "\u{1}expression:";
    /// The WHERE of a conflict target: its text.
    pub const PREDICATE: &str = "\u{1}predicate:";
    /// Last column of an INSERT list: `system` or `user`.
    pub const OVERRIDING: &str = "\u{1}overriding:";
    /// Function name standing for ROWS FROM.
    pub const ROWS_FROM: &str = "\u{1}rows_from";
    /// The only target of a SELECT that has none.
    pub const NOTHING: &str = "\u{1}nothing";
    /// First item of GROUP BY DISTINCT.
    pub const GROUP_DISTINCT: &str = "\u{1}group_distinct";
    /// Name of the argument that stood behind VARIADIC.
    pub const VARIADIC: &str = "\u{1}variadic";
    /// SET target that is an element or slice of a column: the column's name, a control character, its subscripts
    /// as they were written.
    pub const ELEMENT: &str = "\u{1}element:";
}

/// One statement of a string.
#[derive(Debug)]
pub struct Parsed {
    pub ast: Ast,
    /// The text of this statement alone, without the semicolon.
    pub text: String,
    /// Where `text` starts in `source`, in bytes.
    pub offset: usize,
    /// The whole string. Positions in errors count in it, so this is what [`crate::resolve`] wants as `text`.
    pub source: Arc<str>,
}

impl Parsed {
    /// SELECT and its kin, not INSERT, UPDATE or DELETE.
    pub fn is_query(&self) -> bool {
        matches!(*self.ast, ast::Statement::Query(_))
    }
}

/// A statement that is dropped without recursion trouble. Do not clone the statement inside: share the `Ast`.
#[derive(Debug)]
pub struct Ast {
    statement: Option<ast::Statement>,
    depth: usize,
}

impl Deref for Ast {
    type Target = ast::Statement;

    fn deref(&self) -> &ast::Statement {
        self.statement.as_ref().expect("the statement is only taken by drop")
    }
}

impl Drop for Ast {
    fn drop(&mut self) {
        let statement = self.statement.take();
        on_deep_stack(self.depth, move || drop(statement));
    }
}

/// Runs `work` where recursion of `depth` levels of generated code (drop, clone) has room.
pub(crate) fn on_deep_stack<R>(depth: usize, work: impl FnOnce() -> R) -> R {
    if depth > 500 { stacker::grow((depth + 1_000) * 1_024, work) } else { work() }
}

/// Runs one level of a recursion, on a new stack segment when this one runs out.
pub(crate) fn level<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(256 * 1_024, 4 * 1_024 * 1_024, work)
}

/// All statements of a string; none for an empty one or one of comments. 42601 with the position of the word
/// that does not fit; 54001 for text nested too deep.
pub fn statements(text: &str) -> Result<Vec<Parsed>> {
    let tokens = tokenize(text)?;
    let source: Arc<str> = Arc::from(text);
    let offsets = Offsets::new(text);
    let mut parsed = Vec::new();
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        let Some(first) = piece.iter().find(|t| !is_space(&t.token)) else { continue };
        let last = piece.iter().rfind(|t| !is_space(&t.token)).unwrap_or(first);
        let (start, end) = (offsets.byte(first.span.start), offsets.byte(last.span.end));
        let depth = measure(piece, text)?;
        let mut significant = significant(piece, text, &offsets)?;
        rewrite(&mut significant, text, &offsets);
        let end_of_text = significant.last().map_or_else(Location::empty, |t| t.span.end);
        let mut parser = parser(significant.clone());
        let statement = match level(|| parser.parse_statement()) {
            Ok(statement) => statement,
            Err(error) => return Err(syntax_error(error, &parser, &significant, text, end_of_text)),
        };
        let ast = Ast { statement: Some(statement), depth };
        if parser.peek_token_ref().token != Token::EOF {
            return Err(error_at_token(&parser.peek_token_ref().clone(), text));
        }
        parsed.push(Parsed { ast, text: text[start..end].to_owned(), offset: start, source: source.clone() });
    }
    Ok(parsed)
}

/// A lone expression, as stored for defaults, checks and index keys.
pub fn expression(text: &str) -> Result<ast::Expr> {
    let tokens = tokenize(text)?;
    let offsets = Offsets::new(text);
    // The caller holds a bare expression and drops it on an ordinary stack.
    if measure(&tokens, text)? > 5_000 {
        return Err(too_complex());
    }
    let mut significant = significant(&tokens, text, &offsets)?;
    rewrite(&mut significant, text, &offsets);
    let end_of_text = significant.last().map_or_else(Location::empty, |t| t.span.end);
    let mut parser = parser(significant.clone());
    let expression = match level(|| parser.parse_expr()) {
        Ok(expression) => expression,
        Err(error) => return Err(syntax_error(error, &parser, &significant, text, end_of_text)),
    };
    if parser.peek_token_ref().token != Token::EOF {
        return Err(error_at_token(&parser.peek_token_ref().clone(), text));
    }
    Ok(expression)
}

fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};
    Parser::new(&DIALECT)
        .with_recursion_limit(4 * MAX_NESTING)
        .with_options(ParserOptions::default())
        .with_tokens_with_locations(tokens)
}

fn is_space(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

/// The tokens without space. Literals that stand on lines of their own after a literal continue it; on the same line
/// they are an error, as is what is glued to a number.
fn significant(piece: &[TokenWithSpan], text: &str, offsets: &Offsets<'_>) -> Result<Vec<TokenWithSpan>> {
    let raw = |span: Span| &text[offsets.byte(span.start)..offsets.byte(span.end)];
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(piece.len());
    let mut comment = false;
    let mut at = 0;
    while at < piece.len() {
        let token = &piece[at];
        at += 1;
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(_)) => {
                comment = true;
                continue;
            }
            Token::Whitespace(_) => continue,
            Token::Number(_, long) => {
                let glued = match piece.get(at) {
                    Some(next) if matches!(&next.token, Token::Word(w) if w.quote_style.is_none()) => {
                        raw(next.span)
                    }
                    _ => "",
                };
                let number = raw(token.span);
                if *long || !glued.is_empty() || number.contains('_') {
                    return Err(junk(&format!("{number}{glued}")).at(position(text, token.span.start)));
                }
            }
            Token::HexStringLiteral(_) if raw(token.span).starts_with('0') => {
                return Err(junk(raw(token.span)).at(position(text, token.span.start)));
            }
            literal if is_string(literal) => {
                if let Some(before) = out.last_mut().filter(|before| is_string(&before.token)) {
                    let Token::SingleQuotedString(more) = literal else {
                        return Err(error_at_token(token, text));
                    };
                    if comment || before.span.end.line == token.span.start.line {
                        return Err(error_at_token(token, text));
                    }
                    match &mut before.token {
                        Token::SingleQuotedString(value) => value.push_str(more),
                        Token::EscapedStringLiteral(value) => {
                            // The continuation has escapes too.
                            match tokenize(&format!("E{}", raw(token.span)))?.first().map(|t| &t.token) {
                                Some(Token::EscapedStringLiteral(more)) => value.push_str(more),
                                _ => return Err(error_at_token(token, text)),
                            }
                        }
                        Token::UnicodeStringLiteral(value) => {
                            match tokenize(&format!("U&{}", raw(token.span)))?.first().map(|t| &t.token) {
                                Some(Token::UnicodeStringLiteral(more)) => value.push_str(more),
                                _ => return Err(error_at_token(token, text)),
                            }
                        }
                        _ => return Err(error_at_token(token, text)),
                    }
                    before.span.end = token.span.end;
                    continue;
                }
            }
            Token::Word(word)
                if word.value.eq_ignore_ascii_case("uescape")
                    && matches!(out.last().map(|t| &t.token), Some(Token::UnicodeStringLiteral(_))) =>
            {
                let next = piece.iter().enumerate().skip(at).find(|(_, t)| !is_space(&t.token));
                let (Some((found, escape)), Some(literal)) = (next, out.last_mut()) else {
                    return Err(error_at_token(token, text));
                };
                let mark = match &escape.token {
                    Token::SingleQuotedString(mark) => mark.chars().next().filter(|c| {
                        mark.chars().count() == 1
                            && !(c.is_ascii_hexdigit() || c.is_whitespace() || matches!(c, '+' | '\'' | '"'))
                    }),
                    _ => return Err(error_at_token(escape, text)),
                };
                let Some(mark) = mark else {
                    let near = raw(escape.span);
                    return Err(Error::new(
                        SqlState::SYNTAX_ERROR,
                        format!("invalid Unicode escape character at or near \"{near}\""),
                    )
                    .at(position(text, escape.span.start)));
                };
                let written = raw(literal.span);
                let inner = quoted(written.get(2..).unwrap_or_default());
                let place = position(text, literal.span.start);
                literal.token =
                    Token::SingleQuotedString(unescape(&inner, mark).map_err(|error| error.at(place))?);
                literal.span.end = escape.span.end;
                at = found + 1;
                continue;
            }
            Token::Word(word)
                if word.value.eq_ignore_ascii_case("operator") && word.quote_style.is_none() =>
            {
                if let Some((operator, next)) = quantified_operator(piece, at) {
                    comment = false;
                    out.push(piece[operator].clone());
                    at = next;
                    continue;
                }
            }
            _ => {}
        }
        comment = false;
        out.push(token.clone());
    }
    Ok(out)
}

/// Where the operator of `OPERATOR(pg_catalog.=) ANY (...)` stands, and where ANY does: the parser knows ANY and ALL behind plain
/// operators only. `at` is behind the word OPERATOR.
fn quantified_operator(piece: &[TokenWithSpan], at: usize) -> Option<(usize, usize)> {
    let mut places = (at..piece.len()).filter(|place| !is_space(&piece[*place].token));
    let mut next = || places.next().map(|place| (place, &piece[place].token));
    let is_word = |token: &Token, names: &[&str]| matches!(token, Token::Word(word) if names.iter().any(|name| word.value.eq_ignore_ascii_case(name)));
    matches!(next()?.1, Token::LParen).then_some(())?;
    let (mut operator, token) = next()?;
    if is_word(token, &["pg_catalog"]) {
        matches!(next()?.1, Token::Period).then_some(())?;
        operator = next()?.0;
    }
    matches!(next()?.1, Token::RParen).then_some(())?;
    let (quantifier, token) = next()?;
    is_word(token, &["any", "all", "some"]).then_some((operator, quantifier))
}

/// What stands in the quotes of a literal and of those that continue it, quotes undoubled and nothing else decoded.
fn quoted(written: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if inside && chars.peek() == Some(&'\'') => {
                chars.next();
                out.push('\'');
            }
            '\'' => inside = !inside,
            _ if inside => out.push(c),
            '-' => while chars.next().is_some_and(|c| c != '\n') {},
            _ => {}
        }
    }
    out
}

fn junk(near: &str) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, format!("trailing junk after numeric literal at or near \"{near}\""))
}

fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::DollarQuotedString(_)
    )
}

fn invalid_unicode() -> Error {
    Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
        .hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
}

/// `U&'...'` with another escape character: `mark` and four digits, `mark` `+` and six, or `mark` twice.
fn unescape(text: &str, mark: char) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    // The first half of a character written as two UTF-16 units.
    let mut high: Option<u32> = None;
    while let Some(c) = rest.next() {
        if c != mark {
            if high.is_some() {
                return Err(Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode surrogate pair"));
            }
            out.push(c);
            continue;
        }
        let mut ahead = rest.clone();
        let digits = match ahead.next() {
            Some(next) if next == mark => {
                rest = ahead;
                out.push(mark);
                continue;
            }
            Some('+') => {
                rest = ahead;
                6
            }
            _ => 4,
        };
        let mut code = 0;
        for _ in 0..digits {
            let digit = rest.next().and_then(|c| c.to_digit(16)).ok_or_else(invalid_unicode)?;
            code = code * 16 + digit;
        }
        code = match (high.take(), code) {
            (Some(first), 0xDC00..=0xDFFF) => 0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00),
            (None, 0xD800..=0xDBFF) => {
                high = Some(code);
                continue;
            }
            (Some(_), _) | (None, 0xDC00..=0xDFFF) => {
                return Err(Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode surrogate pair"));
            }
            (None, code) => code,
        };
        out.push(
            char::from_u32(code)
                .filter(|c| *c != '\0')
                .ok_or_else(|| Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape value"))?,
        );
    }
    match high {
        Some(_) => Err(Error::new(SqlState::SYNTAX_ERROR, "invalid Unicode surrogate pair")),
        None => Ok(out),
    }
}

/// An `E'...'` that the tokenizer refuses although it ends: its bytes are not characters.
fn escaped_bytes(rest: &str) -> Option<Error> {
    let mut inner = rest.strip_prefix(['E', 'e'])?.strip_prefix('\'')?.bytes().peekable();
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        match inner.next()? {
            b'\'' if inner.peek() == Some(&b'\'') => {
                inner.next();
                bytes.push(b'\'');
            }
            b'\'' => break,
            b'\\' => {
                let kind = inner.next()?;
                let (radix, most) = match kind {
                    b'x' => (16, 2),
                    b'0'..=b'7' => (8, 2),
                    other => {
                        bytes.push(other);
                        continue;
                    }
                };
                let mut value = if radix == 8 { u32::from(kind - b'0') } else { 0 };
                for _ in 0..most {
                    let Some(digit) = inner.peek().and_then(|b| char::from(*b).to_digit(radix)) else {
                        break;
                    };
                    value = value * radix + digit;
                    inner.next();
                }
                bytes.push((value & 0xff) as u8);
            }
            other => bytes.push(other),
        }
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains('\0') => Some(Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        )),
        Ok(text) if text.is_ascii() => None,
        Ok(_) => Some(Error::unsupported(
            "characters written byte by byte in E'...'",
            "Write the character itself, or its number as \\uXXXX.",
        )),
        Err(error) => {
            let bad = &bytes[error.valid_up_to()..];
            let length = error.error_len().unwrap_or(bad.len()).max(1);
            let shown: Vec<String> = bad.iter().take(length).map(|b| format!("0x{b:02x}")).collect();
            Some(Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
            ))
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>> {
    if let Some(at) = text.find('\0') {
        return Err(Error::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        )
        .at(Some(text[..at].chars().count() + 1)));
    }
    let dialect = PostgreSqlDialect {};
    Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| {
        let position = position(text, error.location);
        let rest: String = text.chars().skip(position.unwrap_or(1).saturating_sub(1)).collect();
        if ["unicode encoded", "hex digit", "unicode character"].iter().any(|m| error.message.contains(m)) {
            let before = text.chars().take(position.unwrap_or(1)).collect::<Vec<char>>();
            let mark = before.iter().rposition(|c| *c == '\\').map(|at| at + 1);
            return invalid_unicode().at(mark.or(position));
        }
        if error.message.contains("Unterminated encoded string")
            && let Some(bad) = escaped_bytes(&rest)
        {
            return bad;
        }
        let what = match error.message.as_str() {
            m if m.contains("Unterminated string") || m.contains("Unterminated encoded string") => {
                "unterminated quoted string".to_owned()
            }
            m if m.contains("Unterminated dollar") => "unterminated dollar-quoted string".to_owned(),
            m if m.contains("close delimiter") || m.contains("quoted identifier") => {
                "unterminated quoted identifier".to_owned()
            }
            m if m.contains("multi-line comment") => "unterminated /* comment".to_owned(),
            _ => "syntax error".to_owned(),
        };
        Error::new(SqlState::SYNTAX_ERROR, format!("{what} at or near \"{}\"", rest.trim_end())).at(position)
    })
}

fn too_complex() -> Error {
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .hint("Write the statement with less nesting, or split it into several.")
}

/// The depth the tree of these tokens may have. 54001 beyond the limits.
fn measure(tokens: &[TokenWithSpan], text: &str) -> Result<usize> {
    // Per open bracket: operators since the last comma, and set operations since it opened.
    let mut open: Vec<(usize, usize)> = vec![(0, 0)];
    let (mut sum, mut deepest, mut prefix_run, mut casts) = (0usize, 0usize, 0usize, 0usize);
    for token in tokens {
        if is_space(&token.token) {
            continue;
        }
        let mut prefix = false;
        match &token.token {
            Token::LParen | Token::LBracket => {
                open.push((0, 0));
                sum += 1;
            }
            Token::RParen | Token::RBracket => {
                if open.len() > 1
                    && let Some((chain, sets)) = open.pop()
                {
                    sum -= chain + sets + 1;
                }
                // Subscripts and calls chain on what stands before them.
                if let Some(top) = open.last_mut() {
                    top.0 += 1;
                    sum += 1;
                }
            }
            Token::Comma => {
                if let Some(top) = open.last_mut() {
                    sum -= top.0;
                    top.0 = 0;
                }
            }
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => {
                    open.push((0, 0));
                    sum += 1;
                }
                Keyword::END => {
                    if open.len() > 1
                        && let Some((chain, sets)) = open.pop()
                    {
                        sum -= chain + sets + 1;
                    }
                }
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE => {
                    if let Some(top) = open.last_mut() {
                        sum -= top.0;
                        top.0 = 0;
                    }
                }
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    if let Some(top) = open.last_mut() {
                        top.1 += 1;
                        sum += 1;
                    }
                }
                Keyword::NOT => {
                    prefix = true;
                    if let Some(top) = open.last_mut() {
                        top.0 += 1;
                        sum += 1;
                    }
                }
                Keyword::AND
                | Keyword::OR
                | Keyword::IS
                | Keyword::COLLATE
                | Keyword::LIKE
                | Keyword::BETWEEN => {
                    if let Some(top) = open.last_mut() {
                        top.0 += 1;
                        sum += 1;
                    }
                }
                _ => {}
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Word(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::SemiColon => {}
            _ => {
                prefix = matches!(token.token, Token::Minus | Token::Plus | Token::Tilde);
                if let Some(top) = open.last_mut() {
                    top.0 += 1;
                    sum += 1;
                }
            }
        }
        // x::a::b nests, unlike the flat chains.
        match &token.token {
            Token::DoubleColon => casts += 1,
            Token::Word(word) if matches!(word.keyword, Keyword::AND | Keyword::OR) => casts = 0,
            Token::Word(_) | Token::LParen | Token::RParen | Token::LBracket | Token::RBracket => {}
            Token::Number(..) | Token::Period => {}
            _ => casts = 0,
        }
        prefix_run = if prefix { prefix_run + 1 } else { 0 };
        deepest = deepest.max(sum);
        if open.len() > MAX_NESTING || sum > MAX_CHAIN || prefix_run.max(casts) > MAX_NESTING {
            return Err(too_complex().at(position(text, token.span.start)));
        }
    }
    Ok(deepest)
}

/// Rewrites what the grammar cannot hold (see the top of the file). Positions are kept.
fn rewrite(tokens: &mut Vec<TokenWithSpan>, text: &str, offsets: &Offsets<'_>) {
    let mut at = 0;
    let mut windows: Vec<usize> = Vec::new(); // open brackets
    while at < tokens.len() {
        match &tokens[at].token {
            Token::LParen => windows.push(at),
            Token::RParen => {
                windows.pop();
            }
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::FOR => rewrite_lock(tokens, at),
                Keyword::SELECT if ends_targets(tokens, at + 1) => {
                    let span = tokens[at].span;
                    tokens.insert(at + 1, word_token(marker::NOTHING.to_owned(), span));
                }
                Keyword::TABLE if is_table_query(tokens, at) => {
                    let span = tokens[at].span;
                    let select = keyword_token("SELECT", Keyword::SELECT, span);
                    let star = TokenWithSpan { token: Token::Mul, span };
                    let from = keyword_token("FROM", Keyword::FROM, span);
                    tokens.splice(at..at + 1, [select, star, from]);
                }
                Keyword::TRIM if is_token(tokens, at + 1, &Token::LParen) => {
                    let sided = ["leading", "trailing", "both"].iter().any(|w| is_word(tokens, at + 2, w));
                    let from = if sided { at + 3 } else { at + 2 };
                    if is_word(tokens, from, "from") {
                        tokens.remove(from);
                    }
                }
                Keyword::SUBSTRING if is_token(tokens, at + 1, &Token::LParen) => {
                    rewrite_similar(tokens, at + 1);
                }
                Keyword::GROUP if is_word(tokens, at + 1, "by") => {
                    let more = !ends_targets(tokens, at + 3);
                    if is_word(tokens, at + 2, "distinct") && more {
                        let span = tokens[at + 2].span;
                        let comma = TokenWithSpan { token: Token::Comma, span };
                        let mark = word_token(marker::GROUP_DISTINCT.to_owned(), span);
                        tokens.splice(at + 2..at + 3, [mark, comma]);
                    } else if is_word(tokens, at + 2, "all") && more {
                        tokens.remove(at + 2);
                    }
                }
                Keyword::VARIADIC
                    if at > 0
                        && matches!(tokens[at - 1].token, Token::LParen | Token::Comma)
                        && in_call(tokens, &windows) =>
                {
                    let span = tokens[at].span;
                    let arrow = TokenWithSpan { token: Token::RArrow, span };
                    tokens.splice(at..at + 1, [word_token(marker::VARIADIC.to_owned(), span), arrow]);
                }
                Keyword::SET => rewrite_elements(tokens, at + 1, text, offsets),
                Keyword::ON
                    if is_word(tokens, at + 1, "conflict") && is_token(tokens, at + 2, &Token::LParen) =>
                {
                    rewrite_conflict(tokens, at + 2, text, offsets);
                }
                Keyword::ROWS
                    if is_word(tokens, at + 1, "from") && is_token(tokens, at + 2, &Token::LParen) =>
                {
                    let span = tokens[at].span;
                    tokens.splice(at..at + 2, [word_token(marker::ROWS_FROM.to_owned(), span)]);
                }
                Keyword::EXCLUDE => {
                    let what = if is_word(tokens, at + 1, "current") && is_word(tokens, at + 2, "row") {
                        Some(("current_row", 3))
                    } else if is_word(tokens, at + 1, "group") {
                        Some(("group", 2))
                    } else if is_word(tokens, at + 1, "ties") {
                        Some(("ties", 2))
                    } else if is_word(tokens, at + 1, "no") && is_word(tokens, at + 2, "others") {
                        Some(("no_others", 3))
                    } else {
                        None
                    };
                    if let (Some((what, length)), Some(&open)) = (what, windows.last())
                        && is_token(tokens, at + length, &Token::RParen)
                    {
                        tokens.drain(at..at + length);
                        // The base window's name, when there is one, moves into the marker.
                        let named = match tokens.get(open + 1).map(|t| &t.token) {
                            Some(Token::Word(word))
                                if word.quote_style.is_some()
                                    || !matches!(
                                        word.keyword,
                                        Keyword::PARTITION
                                            | Keyword::ORDER
                                            | Keyword::ROWS
                                            | Keyword::RANGE
                                            | Keyword::GROUPS
                                    ) =>
                            {
                                Some(if word.quote_style.is_some() {
                                    word.value.clone()
                                } else {
                                    word.value.to_lowercase()
                                })
                            }
                            _ => None,
                        };
                        let span = tokens[open].span;
                        let name = format!("{}{what}:{}", marker::EXCLUDE, named.clone().unwrap_or_default());
                        if named.is_some() {
                            tokens[open + 1] = word_token(name, span);
                        } else {
                            tokens.insert(open + 1, word_token(name, span));
                        }
                        continue;
                    }
                }
                Keyword::BETWEEN if is_word(tokens, at + 1, "symmetric") => {
                    let span = tokens[at + 1].span;
                    let not = keyword_token("NOT", Keyword::NOT, span);
                    tokens.splice(at + 1..at + 2, [not.clone(), not.clone(), not]);
                }
                Keyword::BETWEEN if is_word(tokens, at + 1, "asymmetric") => {
                    tokens.remove(at + 1);
                }
                Keyword::ONLY
                    if at > 0
                        && (is_word(tokens, at - 1, "from")
                            || is_word(tokens, at - 1, "join")
                            || is_word(tokens, at - 1, "update"))
                        && matches!(tokens.get(at + 1).map(|t| &t.token), Some(Token::Word(_))) =>
                {
                    // No table has children here, so ONLY changes nothing.
                    tokens.remove(at);
                    continue;
                }
                _ if word.value.eq_ignore_ascii_case("overriding") => {
                    let kind = if is_word(tokens, at + 1, "system") {
                        "system"
                    } else if is_word(tokens, at + 1, "user") {
                        "user"
                    } else {
                        ""
                    };
                    if !kind.is_empty() && is_word(tokens, at + 2, "value") && at > 0 {
                        let span = tokens[at].span;
                        let name = word_token(format!("{}{kind}", marker::OVERRIDING), span);
                        tokens.drain(at..at + 3);
                        if is_token(tokens, at - 1, &Token::RParen) {
                            let comma = TokenWithSpan { token: Token::Comma, span };
                            tokens.splice(at - 1..at - 1, [comma, name]);
                        } else {
                            let open = TokenWithSpan { token: Token::LParen, span };
                            let close = TokenWithSpan { token: Token::RParen, span };
                            tokens.splice(at..at, [open, name, close]);
                        }
                        continue;
                    }
                }
                _ if word.value.eq_ignore_ascii_case("isnull")
                    && at > 0
                    && !is_token(tokens, at - 1, &Token::Period) =>
                {
                    let span = tokens[at].span;
                    tokens.splice(
                        at..at + 1,
                        [keyword_token("IS", Keyword::IS, span), keyword_token("NULL", Keyword::NULL, span)],
                    );
                }
                _ if matches!(tokens.get(at + 1).map(|t| &t.token), Some(Token::SingleQuotedString(_)))
                    && is_literal_type(&word.value) =>
                {
                    // name 'x'  ->  'x'::name
                    let name = tokens.remove(at);
                    let cast = TokenWithSpan { token: Token::DoubleColon, span: name.span };
                    tokens.splice(at + 1..at + 1, [cast, name]);
                }
                _ => {}
            },
            Token::Word(word)
                if word.value == "char"
                    && matches!(tokens.get(at + 1).map(|t| &t.token), Some(Token::SingleQuotedString(_))) =>
            {
                let name = tokens.remove(at);
                let cast = TokenWithSpan { token: Token::DoubleColon, span: name.span };
                tokens.splice(at + 1..at + 1, [cast, name]);
            }
            _ => {}
        }
        at += 1;
    }
}

/// Whether a list of targets, or of grouping items, cannot go on here: the end, a bracket or the next clause.
fn ends_targets(tokens: &[TokenWithSpan], at: usize) -> bool {
    match tokens.get(at).map(|t| &t.token) {
        None | Some(Token::RParen) => true,
        Some(Token::Word(word)) if word.quote_style.is_none() => matches!(
            word.keyword,
            Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::WINDOW
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::ORDER
                | Keyword::LIMIT
                | Keyword::OFFSET
                | Keyword::FETCH
                | Keyword::FOR
        ),
        _ => false,
    }
}

/// Whether TABLE stands where a query may begin.
fn is_table_query(tokens: &[TokenWithSpan], at: usize) -> bool {
    if !matches!(tokens.get(at + 1).map(|t| &t.token), Some(Token::Word(_))) {
        return false;
    }
    let Some(before) = at.checked_sub(1).map(|at| &tokens[at].token) else { return true };
    match before {
        Token::LParen => true,
        Token::RParen => !is_word(tokens, 0, "create") && !is_word(tokens, 0, "grant"),
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::DISTINCT
            | Keyword::AS
            | Keyword::EXPLAIN
            | Keyword::ANALYZE
            | Keyword::VERBOSE => true,
            Keyword::ALL => {
                at >= 2 && ["union", "except", "intersect"].iter().any(|w| is_word(tokens, at - 2, w))
            }
            _ => is_word(tokens, 0, "insert") && at >= 3,
        },
        _ => false,
    }
}

/// Whether the innermost open bracket is that of a call: a name stands before it.
fn in_call(tokens: &[TokenWithSpan], open: &[usize]) -> bool {
    matches!(open.last().and_then(|at| at.checked_sub(1)).map(|at| &tokens[at].token), Some(Token::Word(_)))
        && !is_word(tokens, 0, "create")
}

/// `substring(a SIMILAR b ESCAPE c)` is `substring(a, b, c)`.
fn rewrite_similar(tokens: &mut [TokenWithSpan], open: usize) {
    let (mut depth, mut similar) = (0usize, false);
    for token in &mut tokens[open..] {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            Token::Word(word) if depth == 1 && word.quote_style.is_none() => {
                let second = similar && word.keyword == Keyword::ESCAPE;
                if second || (!similar && word.keyword == Keyword::SIMILAR) {
                    similar = true;
                    token.token = Token::Comma;
                }
            }
            _ => {}
        }
    }
}

/// `SET a[1] = x, b[2:3] = y`: the targets with subscripts, from `at` on.
fn rewrite_elements(tokens: &mut Vec<TokenWithSpan>, mut at: usize, text: &str, offsets: &Offsets<'_>) {
    let mut depth = 0usize;
    let mut start = true;
    while let Some(token) = tokens.get(at) {
        if std::mem::take(&mut start)
            && let Token::Word(word) = &token.token
            && is_token(tokens, at + 1, &Token::LBracket)
        {
            let (mut end, mut open) = (at + 1, 0usize);
            while let Some(token) = tokens.get(end) {
                match token.token {
                    Token::LBracket => open += 1,
                    Token::RBracket => open = open.saturating_sub(1),
                    _ if open == 0 => break,
                    _ => {}
                }
                end += 1;
            }
            if is_token(tokens, end, &Token::Eq) {
                let name =
                    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                let first = offsets.byte(tokens[at + 1].span.start);
                let last = offsets.byte(tokens[end - 1].span.end);
                let value = format!("{}{name}\u{1}{}", marker::ELEMENT, &text[first..last]);
                let span = token.span;
                tokens.splice(at..end, [word_token(value, span)]);
            }
        }
        match &tokens[at].token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 0 => return,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Comma if depth == 0 => start = true,
            Token::Word(word)
                if depth == 0
                    && word.quote_style.is_none()
                    && matches!(word.keyword, Keyword::WHERE | Keyword::FROM | Keyword::RETURNING) =>
            {
                return;
            }
            _ => {}
        }
        at += 1;
    }
}

/// Types whose literals (`oid '1'`) the parser does not know as types.
fn is_literal_type(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "name",
        "oid",
        "regproc",
        "regprocedure",
        "regtype",
        "regrole",
        "regnamespace",
        "xid",
        "xid8",
        "cid",
        "tid",
        "pg_lsn",
        "bpchar",
        "timetz",
        "int2vector",
        "oidvector",
        "cstring",
    ];
    NAMES.iter().any(|n| name.eq_ignore_ascii_case(n))
}

/// `FOR {UPDATE|NO KEY UPDATE|SHARE|KEY SHARE} [OF a, b]` -> `FOR UPDATE OF "marker".a.b`.
fn rewrite_lock(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let (strength, length) = if is_word(tokens, at + 1, "update") {
        ("update", 2)
    } else if is_word(tokens, at + 1, "share") {
        ("share", 2)
    } else if is_word(tokens, at + 1, "no")
        && is_word(tokens, at + 2, "key")
        && is_word(tokens, at + 3, "update")
    {
        ("no_key_update", 4)
    } else if is_word(tokens, at + 1, "key") && is_word(tokens, at + 2, "share") {
        ("key_share", 3)
    } else {
        return;
    };
    let span = tokens[at].span;
    let mut new = vec![
        tokens[at].clone(),
        keyword_token("UPDATE", Keyword::UPDATE, span),
        keyword_token("OF", Keyword::OF, span),
        word_token(format!("{}{strength}", marker::LOCK), span),
    ];
    let mut end = at + length;
    if is_word(tokens, end, "of") {
        end += 1;
        while let Some(Token::Word(_)) = tokens.get(end).map(|t| &t.token) {
            new.push(TokenWithSpan { token: Token::Period, span: tokens[end].span });
            new.push(tokens[end].clone());
            end += 1;
            // A qualified name is refused later; keep it visible as one name.
            if !is_token(tokens, end, &Token::Comma) {
                break;
            }
            end += 1;
        }
    }
    // FOR UPDATE may stand before LIMIT and OFFSET; the parser wants it after.
    if is_word(tokens, end, "nowait") {
        new.push(tokens[end].clone());
        end += 1;
    } else if is_word(tokens, end, "skip") && is_word(tokens, end + 1, "locked") {
        new.extend_from_slice(&tokens[end..end + 2]);
        end += 2;
    }
    let mut after = end;
    if is_word(tokens, end, "limit") || is_word(tokens, end, "offset") || is_word(tokens, end, "fetch") {
        let mut depth = 0usize;
        while let Some(token) = tokens.get(after) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 0 => break,
                Token::RParen => depth -= 1,
                Token::Word(word) if depth == 0 && word.keyword == Keyword::FOR => break,
                _ => {}
            }
            after += 1;
        }
    }
    let mut moved: Vec<TokenWithSpan> = tokens[end..after].to_vec();
    moved.extend(new);
    tokens.splice(at..after, moved);
}

/// A conflict target whose items are not all plain columns, or that has a WHERE.
fn rewrite_conflict(tokens: &mut Vec<TokenWithSpan>, open: usize, text: &str, offsets: &Offsets<'_>) {
    let Some(close) = matching(tokens, open) else { return };
    let slice = |tokens: &[TokenWithSpan]| match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => {
            text[offsets.byte(first.span.start)..offsets.byte(last.span.end)].to_owned()
        }
        _ => String::new(),
    };
    let mut items: Vec<TokenWithSpan> = Vec::new();
    let (mut start, mut depth) = (open + 1, 0usize);
    for at in open + 1..=close {
        match &tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen if at < close => depth -= 1,
            _ => {}
        }
        if at == close || (depth == 0 && tokens[at].token == Token::Comma) {
            let item = &tokens[start..at];
            let span = tokens[start].span;
            if !items.is_empty() {
                items.push(TokenWithSpan { token: Token::Comma, span });
            }
            match item {
                [only] if matches!(only.token, Token::Word(_)) => items.push(only.clone()),
                // A column with COLLATE or an operator class stands for the column.
                [first, next, ..]
                    if matches!((&first.token, &next.token), (Token::Word(_), Token::Word(_))) =>
                {
                    items.push(first.clone());
                }
                _ => items.push(word_token(format!("{}{}", marker::EXPRESSION, slice(item)), span)),
            }
            start = at + 1;
        }
    }
    let mut end = close + 1;
    if is_word(tokens, end, "where") {
        let from = end + 1;
        let mut depth = 0usize;
        end = from;
        while let Some(token) = tokens.get(end) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen if depth == 0 => break,
                Token::RParen => depth -= 1,
                Token::Word(word) if depth == 0 && word.keyword == Keyword::DO => break,
                _ => {}
            }
            end += 1;
        }
        if from < end {
            let span = tokens[from].span;
            items.push(TokenWithSpan { token: Token::Comma, span });
            items.push(word_token(format!("{}{}", marker::PREDICATE, slice(&tokens[from..end])), span));
        }
    }
    let close_token = tokens[close].clone();
    items.push(close_token);
    tokens.splice(open + 1..end, items);
}

fn matching(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn is_word(tokens: &[TokenWithSpan], at: usize, word: &str) -> bool {
    matches!(tokens.get(at).map(|t| &t.token),
        Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn is_token(tokens: &[TokenWithSpan], at: usize, token: &Token) -> bool {
    tokens.get(at).is_some_and(|t| &t.token == token)
}

fn word_token(value: String, span: Span) -> TokenWithSpan {
    TokenWithSpan {
        token: Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword }),
        span,
    }
}

fn keyword_token(value: &str, keyword: Keyword, span: Span) -> TokenWithSpan {
    TokenWithSpan { token: Token::Word(Word { value: value.to_owned(), quote_style: None, keyword }), span }
}

fn error_at_token(token: &TokenWithSpan, text: &str) -> Error {
    let offsets = Offsets::new(text);
    let (start, end) = (offsets.byte(token.span.start), offsets.byte(token.span.end));
    let near = text.get(start..end).unwrap_or_default();
    Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{near}\""))
        .at(position(text, token.span.start))
}

fn syntax_error(
    error: ParserError,
    parser: &Parser<'_>,
    tokens: &[TokenWithSpan],
    text: &str,
    end: Location,
) -> Error {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_complex(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    // "... at Line: 1, Column: 8"; an error at the end of the text has no place.
    let location = message.rsplit_once(" at Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some(Location { line: line.parse().ok()?, column: digits.parse().ok()? })
    });
    let place = location.filter(|l| l.line > 0).or_else(|| {
        let token = parser.peek_token_ref();
        (token.token != Token::EOF && !message.contains("found: EOF")).then_some(token.span.start)
    });
    match place.and_then(|place| tokens.iter().find(|t| t.span.start == place)) {
        Some(token) => error_at_token(token, text),
        None => {
            let end = position(text, end);
            Error::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").at(end)
        }
    }
}

/// The 1-based character position of a place in `text`.
pub fn position(text: &str, location: Location) -> Option<usize> {
    if location.line == 0 {
        return None;
    }
    let mut before = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number as u64 + 1 == location.line {
            return Some(before + location.column as usize);
        }
        before += line.chars().count();
    }
    Some(before + location.column as usize)
}

/// Line starts, to find bytes by line and column.
struct Offsets<'a> {
    text: &'a str,
    lines: Vec<usize>,
    ascii: bool,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Offsets<'a> {
        let mut lines = vec![0];
        lines.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Offsets { text, lines, ascii: text.is_ascii() }
    }

    fn byte(&self, location: Location) -> usize {
        let line = (location.line as usize).saturating_sub(1);
        let column = (location.column as usize).saturating_sub(1);
        let Some(&start) = self.lines.get(line) else { return self.text.len() };
        if self.ascii {
            return (start + column).min(self.text.len());
        }
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(at, _)| start + at)
    }
}
