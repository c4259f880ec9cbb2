//! The grammar of utility statements: everything that is not a query.
//!
//! A recursive-descent reader over the words of `lex.rs`. Queries inside (CREATE VIEW, EXPLAIN, COPY, DECLARE ...) and
//! expressions (DEFAULT, CHECK, USING) are cut out as text. A default ends where PostgreSQL's `b_expr` must end:
//! before the next column constraint at the same depth.

use std::sync::Arc;

use engine::Isolation;
use engine::catalog::{Identity, ReferentialAction};
use value::types::{self, oid};
use value::{Error, Result, SqlState, Type};

use crate::lex::{self, Kind, Token};
use crate::statement::*;

/// Every statement of a string, parsed before the first one runs, as PostgreSQL does.
pub fn parse(text: &str) -> Result<Vec<Parsed>> {
    let pieces = lex::split(text)?;
    let mut out = Vec::with_capacity(pieces.len());
    let mut shift = (0, 0);
    for (start, end, tokens) in pieces {
        shift = (shift.0 + text[shift.1..start].chars().count(), start);
        out.push(
            parse_piece(text, start, end, tokens, shift.0).map_err(|error| error_shifted(error, shift.0))?,
        );
    }
    Ok(out)
}

/// Moves an error's position from a statement to the string it stands in.
pub fn error_shifted(error: Error, shift: usize) -> Error {
    match error.fields().position {
        Some(position) if shift > 0 => error.set_position(Some(position + shift)),
        _ => error,
    }
}

fn parse_piece(text: &str, start: usize, end: usize, mut tokens: Vec<Token>, shift: usize) -> Result<Parsed> {
    let own = &text[start..end];
    for token in &mut tokens {
        token.start -= start;
        token.end -= start;
    }
    let mut reader = Reader { text: own, tokens: &tokens, at: 0 };
    let statement = reader.statement()?;
    Ok(Parsed { statement: Arc::new(statement), text: Arc::from(own), shift })
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

/// Words that end a DEFAULT expression at its own depth.
const COLUMN_CONSTRAINTS: &[&str] = &[
    "constraint",
    "unique",
    "primary",
    "check",
    "references",
    "generated",
    "collate",
    "deferrable",
    "initially",
    "default",
    "storage",
    "compression",
];

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + ahead)
    }

    fn peek_is(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek(ahead), Some(Token { kind: Kind::Word { text, quoted: false }, .. }) if text == word)
    }

    fn is(&self, word: &str) -> bool {
        self.peek_is(0, word)
    }

    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn accept(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    fn accept_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, word)| self.peek_is(n, word));
        if found {
            self.at += words.len();
        }
        found
    }

    fn accept_one<'w>(&mut self, words: &[&'w str]) -> Option<&'w str> {
        let found = words.iter().copied().find(|word| self.is(word));
        self.at += usize::from(found.is_some());
        found
    }

    fn symbol_is(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek(ahead), Some(t) if t.kind == Kind::Symbol && &self.text[t.start..t.end] == symbol)
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.symbol_is(0, symbol);
        self.at += usize::from(found);
        found
    }

    fn error<T>(&self) -> Result<T> {
        Err(match self.peek(0) {
            Some(token) => Error::new(
                SqlState::SYNTAX_ERROR,
                format!("syntax error at or near \"{}\"", &self.text[token.start..token.end]),
            )
            .at(Some(lex::position(self.text, token.start))),
            None => Error::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
                .at(Some(self.text.chars().count() + 1)),
        })
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        if self.accept(word) { Ok(()) } else { self.error() }
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.symbol(symbol) { Ok(()) } else { self.error() }
    }

    fn end(&self) -> Result<()> {
        if self.done() { Ok(()) } else { self.error() }
    }

    fn position(&self) -> usize {
        self.peek(0).map_or(self.text.chars().count() + 1, |t| lex::position(self.text, t.start))
    }

    /// Any identifier, keywords too (labels, setting names).
    fn word(&mut self) -> Result<String> {
        match self.peek(0) {
            Some(Token { kind: Kind::Word { text, .. }, .. }) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => self.error(),
        }
    }

    /// An identifier that is not a reserved word.
    fn identifier(&mut self) -> Result<String> {
        match self.peek(0) {
            Some(Token { kind: Kind::Word { text, quoted }, .. })
                if *quoted || !lex::is_reserved(text) || NAMES_BUT_RESERVED.contains(&text.as_str()) =>
            {
                self.at += 1;
                Ok(text.clone())
            }
            _ => self.error(),
        }
    }

    fn name(&mut self) -> Result<Name> {
        let position = self.position();
        let mut parts = vec![self.identifier()?];
        while self.symbol(".") {
            parts.push(self.word()?);
        }
        let name = parts.pop().unwrap_or_default();
        // A database name in front may only be the current one; the session checks nothing more about it.
        let schema = parts.pop();
        Ok(Name { schema, name, position })
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut out = vec![item(self)?];
        while self.symbol(",") {
            out.push(item(self)?);
        }
        Ok(out)
    }

    fn parenthesised<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_symbol("(")?;
        let out = self.list(item)?;
        self.expect_symbol(")")?;
        Ok(out)
    }

    fn column_list(&mut self) -> Result<Vec<String>> {
        self.parenthesised(|r| r.identifier())
    }

    fn optional_column_list(&mut self) -> Result<Vec<String>> {
        if self.symbol_is(0, "(") { self.column_list() } else { Ok(Vec::new()) }
    }

    fn text_constant(&mut self) -> Result<String> {
        match self.peek(0) {
            Some(Token { kind: Kind::Text(text), .. }) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => self.error(),
        }
    }

    fn integer(&mut self) -> Result<i64> {
        let negative = self.symbol("-");
        if !negative {
            self.symbol("+");
        }
        match self.peek(0) {
            Some(token) if token.kind == Kind::Number => {
                let digits = &self.text[token.start..token.end];
                let signed = if negative { format!("-{digits}") } else { digits.to_string() };
                let number = signed.parse().map_err(|_| {
                    Error::new(
                        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                        format!("value \"{signed}\" is out of range for type bigint"),
                    )
                    .at(Some(lex::position(self.text, token.start)))
                })?;
                self.at += 1;
                Ok(number)
            }
            _ => self.error(),
        }
    }

    fn fragment(&self, from: usize, to: usize) -> Fragment {
        let (Some(first), Some(last)) = (self.tokens.get(from), self.tokens.get(to.wrapping_sub(1))) else {
            return Fragment { text: String::new(), offset: 0 };
        };
        Fragment {
            text: self.text[first.start..last.end].to_string(),
            offset: lex::position(self.text, first.start) - 1,
        }
    }

    /// Everything that is left.
    fn rest(&mut self) -> Result<Fragment> {
        if self.done() {
            return self.error();
        }
        let from = self.at;
        self.at = self.tokens.len();
        Ok(self.fragment(from, self.at))
    }

    /// The text between the parenthesis here and its partner.
    fn in_parentheses(&mut self) -> Result<Fragment> {
        self.expect_symbol("(")?;
        let from = self.at;
        let mut depth = 1;
        while let Some(token) = self.peek(0) {
            if token.kind == Kind::Symbol {
                match &self.text[token.start..token.end] {
                    "(" => depth += 1,
                    ")" => depth -= 1,
                    _ => {}
                }
            }
            if depth == 0 {
                if self.at == from {
                    return self.error();
                }
                let fragment = self.fragment(from, self.at);
                self.at += 1;
                return Ok(fragment);
            }
            self.at += 1;
        }
        self.error()
    }

    /// An expression that ends at a comma or closing parenthesis of its own depth, or where `stop` says.
    fn expression(&mut self, stop: impl Fn(&Self) -> bool) -> Result<Fragment> {
        let from = self.at;
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            if depth == 0 && self.at > from && stop(self) {
                break;
            }
            if token.kind == Kind::Symbol {
                match &self.text[token.start..token.end] {
                    "(" | "[" => depth += 1,
                    ")" | "]" if depth == 0 => break,
                    ")" | "]" => depth -= 1,
                    "," if depth == 0 => break,
                    _ => {}
                }
            }
            self.at += 1;
        }
        if self.at == from {
            return self.error();
        }
        Ok(self.fragment(from, self.at))
    }

    fn default_expression(&mut self) -> Result<Fragment> {
        self.expression(|r| {
            COLUMN_CONSTRAINTS.iter().any(|word| r.is(word))
                || (r.is("not")
                    && (r.peek_is(1, "null") || r.peek_is(1, "deferrable") || r.peek_is(1, "valid")))
                || r.is("null")
        })
    }

    /// A type with modifiers and array brackets.
    fn type_name(&mut self) -> Result<TypeName> {
        let position = self.position();
        let setof = self.accept("setof");
        let mut schema = None;
        let mut word = self.word()?;
        if self.symbol_is(0, ".") {
            self.at += 1;
            schema = Some(word);
            word = self.word()?;
        }
        let mut modifiers = Vec::new();
        let mut name = word.clone();
        match word.as_str() {
            "double" if self.accept("precision") => name = "float8".into(),
            "character" | "char" | "nchar" if schema.is_none() => {
                let quoted = matches!(
                    self.tokens.get(self.at - 1),
                    Some(Token { kind: Kind::Word { quoted: true, .. }, .. })
                );
                name = if quoted {
                    "char".into()
                } else if self.accept("varying") {
                    "varchar".into()
                } else {
                    "bpchar".into()
                };
                if name == "bpchar" && !self.symbol_is(0, "(") {
                    modifiers.push(1);
                }
            }
            "national" => {
                if self.accept_one(&["character", "char"]).is_none() {
                    return self.error();
                }
                name = if self.accept("varying") { "varchar".into() } else { "bpchar".into() };
            }
            "time" | "timestamp" => {
                if self.symbol_is(0, "(") {
                    modifiers = self.modifiers()?;
                }
                if self.accept_all(&["with", "time", "zone"]) {
                    name.push_str("tz");
                } else {
                    self.accept_all(&["without", "time", "zone"]);
                }
            }
            "interval" => {
                let mut fields = 0;
                let bit = |word: &str| match word {
                    "year" => types::interval_field::YEAR,
                    "month" => types::interval_field::MONTH,
                    "day" => types::interval_field::DAY,
                    "hour" => types::interval_field::HOUR,
                    "minute" => types::interval_field::MINUTE,
                    _ => types::interval_field::SECOND,
                };
                const FIELDS: &[&str] = &["year", "month", "day", "hour", "minute", "second"];
                if let Some(from) = self.accept_one(FIELDS) {
                    fields = bit(from);
                    if self.accept("to") {
                        let Some(to) = self.accept_one(FIELDS) else { return self.error() };
                        let span = FIELDS.iter().skip_while(|f| **f != from);
                        for field in span {
                            fields |= bit(field);
                            if *field == to {
                                break;
                            }
                        }
                    }
                }
                let precision =
                    if self.symbol_is(0, "(") { self.modifiers()?.first().copied() } else { None };
                if fields != 0 || precision.is_some() {
                    let fields = if fields == 0 { types::interval_field::FULL_RANGE } else { fields };
                    let typmod = types::interval_typmod(fields, precision);
                    return self.arrays(Type::with_typmod(oid::INTERVAL, typmod), position);
                }
            }
            "float" if self.symbol_is(0, "(") => {
                let bits = self.modifiers()?.first().copied().unwrap_or(53);
                name = if bits <= 24 { "float4".into() } else { "float8".into() };
            }
            _ => {}
        }
        if modifiers.is_empty() && self.symbol_is(0, "(") {
            modifiers = self.modifiers()?;
        }
        if schema.as_deref().is_none_or(|s| s == "pg_catalog") && !setof {
            let serial = match name.as_str() {
                "serial" | "serial4" => Some(oid::INT4),
                "bigserial" | "serial8" => Some(oid::INT8),
                "smallserial" | "serial2" => Some(oid::INT2),
                _ => None,
            };
            if let Some(oid) = serial {
                return Ok(TypeName::Serial(Type::new(oid)));
            }
            if let Some(info) = types::by_name(&name) {
                let typmod = if modifiers.is_empty() {
                    -1
                } else {
                    types::typmod_of_modifiers(info.oid, &modifiers).map_err(|e| e.at(Some(position)))?
                };
                return self.arrays(Type::with_typmod(info.oid, typmod), position);
            }
        }
        let full = schema.map_or(name.clone(), |schema| format!("{schema}.{name}"));
        let error = Error::new(SqlState::UNDEFINED_OBJECT, format!("type \"{full}\" does not exist"))
            .at(Some(position));
        let nearest = types::TYPES
            .iter()
            .filter(|t| !t.is_array())
            .map(|t| t.name)
            .min_by_key(|candidate| strsim::levenshtein(candidate, &name))
            .filter(|candidate| strsim::levenshtein(candidate, &name) <= 2);
        Err(match nearest {
            Some(nearest) => error.hint(format!("Perhaps you meant the type \"{nearest}\".")),
            None => error,
        })
    }

    fn arrays(&mut self, ty: Type, position: usize) -> Result<TypeName> {
        let mut array = self.accept("array");
        while self.symbol("[") {
            array = true;
            if !self.symbol_is(0, "]") {
                self.integer()?;
            }
            self.expect_symbol("]")?;
        }
        if !array {
            return Ok(TypeName::Known(ty));
        }
        match types::array_of(ty.oid) {
            0 => Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", types::format_type(ty.oid, -1)),
            )
            .at(Some(position))),
            array => Ok(TypeName::Known(Type::with_typmod(array, ty.typmod))),
        }
    }

    fn modifiers(&mut self) -> Result<Vec<i32>> {
        self.parenthesised(|r| Ok(r.integer()?.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32))
    }

    fn if_exists(&mut self) -> bool {
        self.accept_all(&["if", "exists"])
    }

    fn if_not_exists(&mut self) -> bool {
        self.accept_all(&["if", "not", "exists"])
    }

    fn cascade(&mut self) -> bool {
        let cascade = self.accept("cascade");
        if !cascade {
            self.accept("restrict");
        }
        cascade
    }

    fn role(&mut self) -> Result<String> {
        match self.accept_one(&["current_user", "current_role", "session_user"]) {
            Some("session_user") => Ok("\u{1}session_user".into()),
            Some(_) => Ok("\u{1}current_user".into()),
            None => self.identifier(),
        }
    }

    fn statement(&mut self) -> Result<Statement> {
        let Some(Token { kind: Kind::Word { text: first, quoted: false }, .. }) = self.peek(0) else {
            return self.query();
        };
        let statement = match first.as_str() {
            "select" | "values" | "table" | "insert" | "update" | "delete" | "with" | "merge" => {
                return self.query();
            }
            "begin" => {
                self.at += 1;
                self.accept_one(&["work", "transaction"]);
                Statement::Begin(self.modes()?, "BEGIN")
            }
            "start" => {
                self.at += 1;
                self.expect("transaction")?;
                Statement::Begin(self.modes()?, "START TRANSACTION")
            }
            "commit" | "end" => {
                self.at += 1;
                if self.accept("prepared") {
                    return self.unsupported(
                        "two-phase commit",
                        "Commit the transaction without PREPARE TRANSACTION.",
                    );
                }
                self.accept_one(&["work", "transaction"]);
                Statement::Commit { chain: self.chain()? }
            }
            "rollback" | "abort" => {
                self.at += 1;
                if self.accept("prepared") {
                    return self.unsupported("two-phase commit", "Use plain ROLLBACK.");
                }
                self.accept_one(&["work", "transaction"]);
                if self.accept("to") {
                    self.accept("savepoint");
                    Statement::RollbackTo(self.identifier()?)
                } else {
                    Statement::Rollback { chain: self.chain()? }
                }
            }
            "savepoint" => {
                self.at += 1;
                Statement::Savepoint(self.identifier()?)
            }
            "release" => {
                self.at += 1;
                self.accept("savepoint");
                Statement::Release(self.identifier()?)
            }
            "set" => self.set()?,
            "reset" => {
                self.at += 1;
                if self.accept("all") {
                    Statement::Reset(None)
                } else if self.accept_all(&["session", "authorization"]) {
                    Statement::Reset(Some("session_authorization".into()))
                } else {
                    Statement::Reset(Some(self.setting_name()?))
                }
            }
            "show" => {
                self.at += 1;
                if self.accept("all") {
                    Statement::Show(None)
                } else if self.accept_all(&["session", "authorization"]) {
                    Statement::Show(Some("session_authorization".into()))
                } else if self.accept_all(&["transaction", "isolation", "level"]) {
                    Statement::Show(Some("transaction_isolation".into()))
                } else {
                    Statement::Show(Some(self.setting_name()?))
                }
            }
            "create" => self.create()?,
            "alter" => self.alter()?,
            "drop" => self.drop()?,
            "truncate" => {
                self.at += 1;
                self.accept("table");
                let names = self.list(|r| {
                    r.accept("only");
                    let name = r.name()?;
                    r.symbol("*");
                    Ok(name)
                })?;
                let restart_identity = self.accept_all(&["restart", "identity"]);
                if !restart_identity {
                    self.accept_all(&["continue", "identity"]);
                }
                Statement::Truncate { names, restart_identity, cascade: self.cascade() }
            }
            "comment" => self.comment()?,
            "grant" => self.grant(true)?,
            "revoke" => self.grant(false)?,
            "prepare" => {
                self.at += 1;
                if self.accept("transaction") {
                    return self.unsupported("two-phase commit", "Use COMMIT.");
                }
                let name = self.identifier()?;
                let types =
                    if self.symbol_is(0, "(") { self.parenthesised(|r| r.type_name())? } else { Vec::new() };
                self.expect("as")?;
                Statement::Prepare { name, types, statement: self.rest()? }
            }
            "execute" => {
                self.at += 1;
                let name = self.identifier()?;
                let mut arguments = Vec::new();
                if self.symbol("(") && !self.symbol(")") {
                    arguments = self.list(|r| r.expression(|_| false))?;
                    self.expect_symbol(")")?;
                }
                Statement::Execute { name, arguments }
            }
            "deallocate" => {
                self.at += 1;
                self.accept("prepare");
                Statement::Deallocate(if self.accept("all") { None } else { Some(self.identifier()?) })
            }
            "explain" => self.explain()?,
            "declare" => {
                self.at += 1;
                let name = self.identifier()?;
                let (mut scroll, mut binary) = (None, false);
                loop {
                    if self.accept("binary") {
                        binary = true;
                    } else if self.accept_one(&["insensitive", "asensitive"]).is_some() {
                    } else if self.accept("scroll") {
                        scroll = Some(true);
                    } else if self.accept_all(&["no", "scroll"]) {
                        scroll = Some(false);
                    } else {
                        break;
                    }
                }
                self.expect("cursor")?;
                let hold = self.accept_all(&["with", "hold"]);
                if !hold {
                    self.accept_all(&["without", "hold"]);
                }
                self.expect("for")?;
                Statement::Declare { name, hold, scroll, binary, query: self.rest()? }
            }
            "fetch" | "move" => self.fetch(first == "move")?,
            "close" => {
                self.at += 1;
                Statement::Close(if self.accept("all") { None } else { Some(self.identifier()?) })
            }
            "copy" => self.copy()?,
            "lock" => {
                self.at += 1;
                self.accept("table");
                let names = self.list(|r| {
                    r.accept("only");
                    let name = r.name()?;
                    r.symbol("*");
                    Ok(name)
                })?;
                let mut mode = "access exclusive".to_string();
                if self.accept("in") {
                    let mut words = Vec::new();
                    while !self.is("mode") {
                        words.push(self.word()?);
                    }
                    self.expect("mode")?;
                    mode = words.join(" ");
                }
                Statement::Lock { names, mode, no_wait: self.accept("nowait") }
            }
            "listen" => {
                self.at += 1;
                Statement::Listen(self.identifier()?)
            }
            "unlisten" => {
                self.at += 1;
                Statement::Unlisten(if self.symbol("*") { None } else { Some(self.identifier()?) })
            }
            "notify" => {
                self.at += 1;
                let channel = self.identifier()?;
                let payload = if self.symbol(",") { Some(self.text_constant()?) } else { None };
                Statement::Notify { channel, payload }
            }
            "discard" => {
                self.at += 1;
                let Some(what) = self.accept_one(&["all", "plans", "sequences", "temp", "temporary"]) else {
                    return self.error();
                };
                Statement::Discard(what.to_string())
            }
            "analyze" | "analyse" => {
                self.at += 1;
                self.accept("verbose");
                if self.symbol_is(0, "(") {
                    self.parenthesised(|r| r.option())?;
                }
                Statement::Analyze { tables: self.relation_list()? }
            }
            "vacuum" => {
                self.at += 1;
                let mut analyze = false;
                if self.symbol_is(0, "(") {
                    for (key, value) in self.parenthesised(|r| r.option())? {
                        let on = !matches!(value.as_str(), "off" | "false" | "0");
                        match key.as_str() {
                            "analyze" | "analyse" => analyze = on,
                            _ => {}
                        }
                    }
                } else {
                    while let Some(word) =
                        self.accept_one(&["full", "freeze", "verbose", "analyze", "analyse"])
                    {
                        analyze |= word.starts_with("analy");
                    }
                }
                Statement::Vacuum { tables: self.relation_list()?, analyze }
            }
            "checkpoint" => {
                self.at += 1;
                Statement::Checkpoint
            }
            "reindex" => {
                self.at += 1;
                let options =
                    if self.symbol_is(0, "(") { self.parenthesised(|r| r.option())? } else { Vec::new() };
                let concurrently = options
                    .iter()
                    .any(|(key, value)| key == "concurrently" && !matches!(&**value, "off" | "false" | "0"));
                let Some(kind) = self.accept_one(&["index", "table", "schema", "database", "system"]) else {
                    return self.error();
                };
                let concurrently = self.accept("concurrently") || concurrently;
                let name = if self.done() { None } else { Some(self.name()?) };
                Statement::Reindex { kind: kind.to_string(), name, concurrently }
            }
            "cluster" => {
                self.at = self.tokens.len();
                Statement::Cluster
            }
            "reassign" => {
                self.at += 1;
                self.expect("owned")?;
                self.expect("by")?;
                self.list(|r| r.role())?;
                self.expect("to")?;
                self.role()?;
                Statement::ReassignOwned
            }
            "do" => return self.unsupported("DO", "Send the statements from the client, in a transaction."),
            "call" => return self.unsupported("CALL", "Use a function in SELECT."),
            "load" => return self.unsupported("LOAD", "Everything StartDB has is built in."),
            "refresh" => {
                return self.unsupported("REFRESH MATERIALIZED VIEW", "Use a view, or CREATE TABLE AS.");
            }
            "import" => return self.unsupported("IMPORT FOREIGN SCHEMA", "Load the data with COPY."),
            "security" => return self.unsupported("SECURITY LABEL", "Use GRANT and REVOKE."),
            _ => return self.error(),
        };
        self.end()?;
        Ok(statement)
    }

    fn unsupported(&mut self, what: &str, instead: &'static str) -> Result<Statement> {
        self.at = self.tokens.len();
        Ok(Statement::Unsupported { what: what.to_string(), instead })
    }

    fn query(&mut self) -> Result<Statement> {
        if let Some(statement) = self.select_into()? {
            return Ok(statement);
        }
        self.at = self.tokens.len();
        query_statement(self.text)
    }

    /// SELECT ... INTO [TEMP] name: CREATE TABLE AS under another name.
    fn select_into(&mut self) -> Result<Option<Statement>> {
        let mut depth = 0;
        for (n, token) in self.tokens.iter().enumerate() {
            match &token.kind {
                Kind::Symbol => match &self.text[token.start..token.end] {
                    "(" => depth += 1,
                    ")" => depth -= 1,
                    _ => {}
                },
                Kind::Word { text, quoted: false } if depth == 0 => match text.as_str() {
                    "insert" | "update" | "delete" | "merge" | "values" | "from" | "where" => {
                        return Ok(None);
                    }
                    "into" => {
                        self.at = n + 1;
                        let temporary = self.accept_one(&["temp", "temporary"]).is_some();
                        self.accept("unlogged");
                        self.accept("table");
                        let name = self.name()?;
                        let end = self.tokens.get(self.at - 1).map_or(token.end, |t| t.end);
                        let mut text = self.text.to_string();
                        // Blanks instead of the clause keep the positions of everything else.
                        text.replace_range(token.start..end, &" ".repeat(end - token.start));
                        self.at = self.tokens.len();
                        return Ok(Some(Statement::CreateTableAs {
                            name,
                            columns: Vec::new(),
                            temporary,
                            if_not_exists: false,
                            query: Fragment { text, offset: 0 },
                            data: true,
                            on_commit: None,
                        }));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(None)
    }

    fn relation_list(&mut self) -> Result<Vec<(Name, Vec<String>)>> {
        if self.done() {
            return Ok(Vec::new());
        }
        self.list(|r| Ok((r.name()?, r.optional_column_list()?)))
    }

    /// `key [value]` inside parentheses; a missing value is "on".
    fn option(&mut self) -> Result<(String, String)> {
        let key = self.word()?;
        self.symbol("=");
        let value = match self.peek(0) {
            Some(Token { kind: Kind::Word { text, .. } | Kind::Text(text), .. }) => {
                self.at += 1;
                text.clone()
            }
            Some(token) if token.kind == Kind::Number || self.symbol_is(0, "-") => {
                let start = token.start;
                self.integer_or_number()?;
                let end = self.tokens.get(self.at - 1).map_or(start, |t| t.end);
                self.text[start..end].to_string()
            }
            _ => "on".to_string(),
        };
        Ok((key, value))
    }

    fn integer_or_number(&mut self) -> Result<()> {
        self.symbol("-");
        match self.peek(0) {
            Some(token) if token.kind == Kind::Number => {
                self.at += 1;
                Ok(())
            }
            _ => self.error(),
        }
    }

    fn chain(&mut self) -> Result<bool> {
        if !self.accept("and") {
            return Ok(false);
        }
        let no = self.accept("no");
        self.expect("chain")?;
        Ok(!no)
    }

    fn modes(&mut self) -> Result<Modes> {
        let mut modes = Modes::default();
        loop {
            if self.accept_all(&["isolation", "level"]) {
                modes.isolation = Some(if self.accept("serializable") {
                    Isolation::Serializable
                } else if self.accept_all(&["repeatable", "read"]) {
                    Isolation::RepeatableRead
                } else if self.accept_all(&["read", "committed"]) {
                    Isolation::ReadCommitted
                } else if self.accept_all(&["read", "uncommitted"]) {
                    modes.uncommitted = true;
                    Isolation::ReadCommitted
                } else {
                    return self.error();
                });
            } else if self.accept_all(&["read", "only"]) {
                modes.read_only = Some(true);
            } else if self.accept_all(&["read", "write"]) {
                modes.read_only = Some(false);
            } else if self.accept_all(&["not", "deferrable"]) {
                modes.deferrable = Some(false);
            } else if self.accept("deferrable") {
                modes.deferrable = Some(true);
            } else if !self.symbol(",") {
                return Ok(modes);
            }
        }
    }

    fn setting_name(&mut self) -> Result<String> {
        let mut name = self.word()?;
        if name == "time" && self.accept("zone") {
            return Ok("timezone".into());
        }
        while self.symbol(".") {
            name = format!("{name}.{}", self.word()?);
        }
        Ok(name)
    }

    /// The values behind TO or `=`: `None` for DEFAULT.
    fn setting_values(&mut self) -> Result<Option<Vec<String>>> {
        if self.accept("default") {
            return Ok(None);
        }
        let values = self.list(|r| match r.peek(0) {
            Some(Token { kind: Kind::Word { text, .. } | Kind::Text(text), .. }) => {
                r.at += 1;
                Ok(text.clone())
            }
            Some(token) => {
                let start = token.start;
                if !r.symbol("+") {
                    r.symbol("-");
                }
                r.integer_or_number()?;
                let end = r.tokens.get(r.at - 1).map_or(start, |t| t.end);
                Ok(r.text[start..end].to_string())
            }
            None => r.error(),
        })?;
        Ok(Some(values))
    }

    fn set(&mut self) -> Result<Statement> {
        self.at += 1;
        if self.accept("constraints") {
            let names = if self.accept("all") { None } else { Some(self.list(|r| r.name())?) };
            let deferred = self.accept("deferred");
            if !deferred {
                self.expect("immediate")?;
            }
            return Ok(Statement::SetConstraints { names, deferred });
        }
        if self.accept("transaction") {
            if self.accept("snapshot") {
                return self.unsupported("SET TRANSACTION SNAPSHOT", "Use one session with REPEATABLE READ.");
            }
            return Ok(Statement::SetTransaction { modes: self.modes()?, session: false });
        }
        if self.accept_all(&["session", "characteristics", "as", "transaction"]) {
            return Ok(Statement::SetTransaction { modes: self.modes()?, session: true });
        }
        let local = self.accept("local");
        if self.accept_all(&["session", "authorization"])
            || self.accept_all(&["session", "session", "authorization"])
        {
            let role = if self.accept("default") { None } else { Some(self.role_or_text()?) };
            return Ok(Statement::SetSessionAuthorization { role, local });
        }
        if !local {
            self.accept("session");
        }
        if self.is("role") && !self.symbol_is(1, "=") && !self.peek_is(1, "to") {
            self.at += 1;
            let role = if self.accept_one(&["none", "default"]).is_some() {
                None
            } else {
                Some(self.role_or_text()?)
            };
            return Ok(Statement::SetRole { role, local });
        }
        if self.accept_all(&["time", "zone"]) {
            if self.accept_one(&["local", "default"]).is_some() {
                return Ok(Statement::Set { name: "timezone".into(), local, values: None });
            }
            if self.accept("interval") {
                let text = self.text_constant()?;
                self.at = self.tokens.len();
                return Ok(Statement::Set { name: "timezone".into(), local, values: Some(vec![text]) });
            }
            return Ok(Statement::Set { name: "timezone".into(), local, values: self.setting_values()? });
        }
        if self.accept("names") {
            let values =
                if self.done() || self.accept("default") { None } else { Some(vec![self.text_constant()?]) };
            return Ok(Statement::Set { name: "client_encoding".into(), local, values });
        }
        if self.accept("schema") {
            return Ok(Statement::Set {
                name: "search_path".into(),
                local,
                values: Some(vec![self.text_constant()?]),
            });
        }
        let name = self.setting_name()?;
        if !self.accept("to") && !self.symbol("=") {
            return self.error();
        }
        let values = self.setting_values()?;
        Ok(match name.as_str() {
            "role" => Statement::SetRole { role: single(values).filter(|r| r != "none"), local },
            "session_authorization" => Statement::SetSessionAuthorization { role: single(values), local },
            _ => Statement::Set { name, local, values },
        })
    }

    fn role_or_text(&mut self) -> Result<String> {
        match self.peek(0) {
            Some(Token { kind: Kind::Text(text), .. }) => {
                self.at += 1;
                Ok(text.clone())
            }
            _ => self.role(),
        }
    }

    fn create(&mut self) -> Result<Statement> {
        self.at += 1;
        let or_replace = self.accept_all(&["or", "replace"]);
        self.accept_one(&["global", "local"]);
        let temporary = self.accept_one(&["temp", "temporary"]).is_some();
        let unlogged = self.accept("unlogged");
        if self.accept("table") {
            return self.create_table(temporary);
        }
        let recursive = self.accept("recursive");
        if self.accept("view") {
            let name = self.name()?;
            let columns = self.optional_column_list()?;
            if self.accept("with") {
                self.parenthesised(|r| r.option())?;
            }
            self.expect("as")?;
            let mut query = self.rest()?;
            for ending in ["with check option", "with cascaded check option", "with local check option"] {
                if query.text.to_ascii_lowercase().ends_with(ending) {
                    return self.unsupported(
                        "WITH CHECK OPTION",
                        "Put the condition into a CHECK constraint of the table.",
                    );
                }
            }
            if recursive {
                let quoted = lex::quote_name(&name.name);
                let list = columns.iter().map(|c| lex::quote_name(c)).collect::<Vec<_>>().join(", ");
                query.text = format!(
                    "WITH RECURSIVE {quoted} ({list}) AS ({}) SELECT {list} FROM {quoted}",
                    query.text
                );
            }
            return Ok(Statement::CreateView { name, columns, temporary, or_replace, query });
        }
        if unlogged || recursive {
            return self.error();
        }
        if self.accept("materialized") {
            return self.unsupported("CREATE MATERIALIZED VIEW", "Use CREATE VIEW, or CREATE TABLE AS.");
        }
        let unique = self.accept("unique");
        if self.accept("index") {
            return self.create_index(unique);
        }
        let Some(what) = self.accept_one(&[
            "sequence",
            "schema",
            "database",
            "role",
            "user",
            "group",
            "extension",
            "function",
            "procedure",
            "trigger",
            "type",
            "domain",
            "aggregate",
            "operator",
            "cast",
            "rule",
            "policy",
            "publication",
            "subscription",
            "statistics",
            "foreign",
            "server",
            "tablespace",
            "collation",
            "conversion",
            "language",
            "event",
            "text",
            "access",
            "constraint",
            "trusted",
            "transform",
        ]) else {
            return self.error();
        };
        match what {
            "sequence" => {
                let if_not_exists = self.if_not_exists();
                let name = self.name()?;
                Ok(Statement::CreateSequence { name, temporary, if_not_exists, options: self.sequence_options()? })
            }
            "schema" => {
                let if_not_exists = self.if_not_exists();
                let name = if self.is("authorization") { None } else { Some(self.identifier()?) };
                let owner = if self.accept("authorization") { Some(self.role()?) } else { None };
                if !self.done() {
                    return self.unsupported("CREATE SCHEMA with objects in it", "Create the objects by their own statements.");
                }
                Ok(Statement::CreateSchema { name, if_not_exists, owner })
            }
            "database" => {
                let name = self.identifier()?;
                self.accept("with");
                Ok(Statement::CreateDatabase { name, options: self.options()? })
            }
            "role" | "user" | "group" => {
                if what == "user" && self.accept("mapping") {
                    return self.unsupported("CREATE USER MAPPING", "StartDB has no foreign servers.");
                }
                let name = self.identifier()?;
                self.accept("with");
                Ok(Statement::CreateRole { name, login: what == "user", options: self.role_options()? })
            }
            "extension" => {
                let if_not_exists = self.if_not_exists();
                let name = self.identifier()?;
                self.at = self.tokens.len();
                Ok(Statement::CreateExtension { name, if_not_exists })
            }
            "function" | "procedure" | "aggregate" | "trigger" | "constraint" | "language" | "trusted" | "event" | "rule" => {
                self.unsupported(
                    &format!("CREATE {}", what.to_ascii_uppercase()),
                    "Keep procedural code in the application; defaults, generated columns and constraints cover many triggers.",
                )
            }
            "type" | "domain" => self.unsupported(
                &format!("CREATE {}", what.to_ascii_uppercase()),
                "Use a built-in type with a CHECK constraint on the column.",
            ),
            "policy" => self.unsupported("CREATE POLICY", "Use views and GRANT."),
            "statistics" => self.unsupported("CREATE STATISTICS", "Run ANALYZE."),
            _ => self.unsupported(&format!("CREATE {}", what.to_ascii_uppercase()), "StartDB has no such object."),
        }
    }

    /// `[=] value` pairs without parentheses (CREATE DATABASE).
    fn options(&mut self) -> Result<Vec<(String, String)>> {
        let mut out = Vec::new();
        while !self.done() {
            let mut key = self.word()?;
            if key == "connection" && self.accept("limit") {
                key = "connection_limit".into();
            }
            self.symbol("=");
            let values = self.setting_values()?;
            out.push((key, single(values).unwrap_or_else(|| "default".into())));
        }
        Ok(out)
    }

    fn create_table(&mut self, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if self.accept_all(&["partition", "of"]) || self.accept("of") {
            return self
                .unsupported("CREATE TABLE ... OF", "Write the columns out; one table holds all rows.");
        }
        // A list of bare names before AS is CREATE TABLE AS.
        let mut columns_of_as = Vec::new();
        if self.symbol_is(0, "(") {
            let start = self.at;
            match self.column_list() {
                Ok(columns) if self.is("as") || self.is("with") || self.is("on") => columns_of_as = columns,
                _ => self.at = start,
            }
        }
        let mut table = CreateTable {
            name: name.clone(),
            temporary,
            on_commit: None,
            if_not_exists,
            columns: Vec::new(),
            constraints: Vec::new(),
            like: Vec::new(),
            options: Vec::new(),
        };
        if columns_of_as.is_empty() && self.symbol("(") {
            if !self.symbol(")") {
                self.list(|r| r.table_element(&mut table))?;
                self.expect_symbol(")")?;
            }
        } else if columns_of_as.is_empty()
            && !self.is("as")
            && !self.is("with")
            && !self.is("on")
            && !self.is("using")
        {
            return self.error();
        }
        loop {
            if self.accept("inherits") {
                return self
                    .unsupported("INHERITS", "Use one table with a column that tells the kinds apart.");
            } else if self.accept_all(&["partition", "by"]) {
                return self.unsupported(
                    "PARTITION BY",
                    "Use one table: StartDB keeps large tables in row groups by itself.",
                );
            } else if self.accept("using") {
                self.word()?;
            } else if self.accept("with") {
                table.options = self.parenthesised(|r| {
                    let mut key = r.word()?;
                    while r.symbol(".") {
                        key = format!("{key}.{}", r.word()?);
                    }
                    let value = if r.symbol("=") { single(r.one_value()?) } else { None };
                    Ok((key, value.unwrap_or_else(|| "true".into())))
                })?;
            } else if self.accept_all(&["without", "oids"]) {
            } else if self.accept_all(&["on", "commit"]) {
                table.on_commit = Some(if self.accept_all(&["preserve", "rows"]) {
                    OnCommit::PreserveRows
                } else if self.accept_all(&["delete", "rows"]) {
                    OnCommit::DeleteRows
                } else {
                    self.expect("drop")?;
                    OnCommit::Drop
                });
            } else if self.accept("tablespace") {
                self.identifier()?;
            } else {
                break;
            }
        }
        if self.accept("as") {
            let mut query = self.rest()?;
            let mut data = true;
            for (ending, with) in [("with no data", false), ("with data", true)] {
                if query.text.to_ascii_lowercase().ends_with(ending) {
                    query.text.truncate(query.text.len() - ending.len());
                    data = with;
                    break;
                }
            }
            return Ok(Statement::CreateTableAs {
                name,
                columns: columns_of_as,
                temporary,
                if_not_exists,
                query,
                data,
                on_commit: table.on_commit,
            });
        }
        Ok(Statement::CreateTable(table))
    }

    fn one_value(&mut self) -> Result<Option<Vec<String>>> {
        match self.peek(0) {
            Some(Token { kind: Kind::Word { text, .. } | Kind::Text(text), .. }) => {
                self.at += 1;
                Ok(Some(vec![text.clone()]))
            }
            Some(token) => {
                let start = token.start;
                self.integer_or_number()?;
                let end = self.tokens.get(self.at - 1).map_or(start, |t| t.end);
                Ok(Some(vec![self.text[start..end].to_string()]))
            }
            None => self.error(),
        }
    }

    fn table_element(&mut self, table: &mut CreateTable) -> Result<()> {
        if self.accept("like") {
            let mut like = Like {
                name: self.name()?,
                after: table.columns.len(),
                defaults: false,
                constraints: false,
                indexes: false,
                identity: false,
                generated: false,
                comments: false,
            };
            while let Some(word) = self.accept_one(&["including", "excluding"]) {
                let on = word == "including";
                let what = self.word()?;
                let all = what == "all";
                for (name, flag) in [
                    ("defaults", &mut like.defaults),
                    ("constraints", &mut like.constraints),
                    ("indexes", &mut like.indexes),
                    ("identity", &mut like.identity),
                    ("generated", &mut like.generated),
                    ("comments", &mut like.comments),
                ] {
                    if all || what == name {
                        *flag = on;
                    }
                }
            }
            table.like.push(like);
            return Ok(());
        }
        if let Some(constraint) = self.table_constraint()? {
            table.constraints.push(constraint);
            return Ok(());
        }
        let column = self.column_definition()?;
        table.columns.push(column);
        Ok(())
    }

    fn table_constraint(&mut self) -> Result<Option<TableConstraint>> {
        let start = self.at;
        let name = if self.accept("constraint") { Some(self.identifier()?) } else { None };
        let kind = if self.is("check") && self.symbol_is(1, "(") {
            self.at += 1;
            ConstraintForm::Check(self.in_parentheses()?)
        } else if self.is("unique") || self.accept_all(&["primary", "key"]) {
            let primary = !self.accept("unique");
            self.unique_constraint(primary, None)?
        } else if self.accept_all(&["foreign", "key"]) {
            let columns = self.column_list()?;
            self.expect("references")?;
            self.references(columns)?
        } else if self.is("exclude") {
            return Err(Error::unsupported("EXCLUDE", "Use a UNIQUE constraint."));
        } else {
            if name.is_some() {
                return self.error();
            }
            self.at = start;
            return Ok(None);
        };
        let mut constraint =
            TableConstraint { name, kind, deferrable: false, initially_deferred: false, not_valid: false };
        self.constraint_attributes(&mut constraint)?;
        Ok(Some(constraint))
    }

    fn unique_constraint(&mut self, primary: bool, column: Option<&str>) -> Result<ConstraintForm> {
        let mut nulls_distinct = true;
        if self.accept_all(&["nulls", "not", "distinct"]) {
            nulls_distinct = false;
        } else {
            self.accept_all(&["nulls", "distinct"]);
        }
        if self.accept_all(&["using", "index"]) && column.is_none() {
            let using_index = Some(self.identifier()?);
            return Ok(ConstraintForm::Unique {
                columns: Vec::new(),
                include: Vec::new(),
                primary,
                nulls_distinct,
                using_index,
            });
        }
        let columns = match column {
            Some(column) => vec![column.to_string()],
            None => self.column_list()?,
        };
        let include = if self.accept("include") { self.column_list()? } else { Vec::new() };
        if self.accept("with") {
            self.parenthesised(|r| r.option())?;
        }
        if self.accept_all(&["using", "index", "tablespace"]) {
            self.identifier()?;
        }
        Ok(ConstraintForm::Unique { columns, include, primary, nulls_distinct, using_index: None })
    }

    fn references(&mut self, columns: Vec<String>) -> Result<ConstraintForm> {
        let table = self.name()?;
        let referenced = self.optional_column_list()?;
        let mut match_full = false;
        if self.accept("match") {
            match self.accept_one(&["full", "simple", "partial"]) {
                Some("full") => match_full = true,
                Some("simple") => {}
                Some(_) => {
                    return Err(Error::unsupported("MATCH PARTIAL", "Use MATCH SIMPLE or MATCH FULL."));
                }
                None => return self.error(),
            }
        }
        let (mut on_update, mut on_delete) = (ReferentialAction::NoAction, ReferentialAction::NoAction);
        while self.accept("on") {
            let update = self.accept("update");
            if !update {
                self.expect("delete")?;
            }
            let action = if self.accept("cascade") {
                ReferentialAction::Cascade
            } else if self.accept("restrict") {
                ReferentialAction::Restrict
            } else if self.accept_all(&["no", "action"]) {
                ReferentialAction::NoAction
            } else if self.accept_all(&["set", "null"]) {
                ReferentialAction::SetNull
            } else if self.accept_all(&["set", "default"]) {
                ReferentialAction::SetDefault
            } else {
                return self.error();
            };
            if self.symbol_is(0, "(") {
                return Err(Error::unsupported(
                    "a column list in ON DELETE SET",
                    "Let the action set all columns of the key.",
                ));
            }
            if update {
                on_update = action;
            } else {
                on_delete = action;
            }
        }
        Ok(ConstraintForm::Foreign { columns, table, referenced, match_full, on_update, on_delete })
    }

    fn constraint_attributes(&mut self, constraint: &mut TableConstraint) -> Result<()> {
        loop {
            if self.accept_all(&["not", "valid"]) {
                constraint.not_valid = true;
            } else if self.accept_all(&["not", "deferrable"]) {
                constraint.deferrable = false;
            } else if self.accept("deferrable") {
                constraint.deferrable = true;
            } else if self.accept_all(&["initially", "deferred"]) {
                constraint.deferrable = true;
                constraint.initially_deferred = true;
            } else if self.accept_all(&["initially", "immediate"]) {
                constraint.initially_deferred = false;
            } else if !self.accept_all(&["no", "inherit"]) {
                return Ok(());
            }
        }
    }

    fn column_definition(&mut self) -> Result<ColumnDefinition> {
        let position = self.position();
        let name = self.identifier()?;
        let ty = self.type_name()?;
        let mut column = ColumnDefinition {
            name,
            ty,
            not_null: false,
            null: false,
            default: None,
            generated: None,
            identity: None,
            constraints: Vec::new(),
        };
        loop {
            let name = if self.accept("constraint") { Some(self.identifier()?) } else { None };
            let kind = if self.accept_all(&["not", "null"]) {
                column.not_null = true;
                continue;
            } else if self.accept("null") {
                column.null = true;
                continue;
            } else if self.accept("default") {
                if column.default.is_some() {
                    return Err(Error::new(
                        SqlState::SYNTAX_ERROR,
                        format!("multiple default values specified for column \"{}\"", column.name),
                    )
                    .at(Some(position)));
                }
                column.default = Some(self.default_expression()?);
                continue;
            } else if self.accept("collate") {
                let collation = self.name()?;
                crate::command::check_collation(&collation)?;
                continue;
            } else if self.accept("storage") || self.accept("compression") {
                self.word()?;
                continue;
            } else if self.accept("generated") {
                let always = self.accept("always");
                if !always {
                    self.expect("by")?;
                    self.expect("default")?;
                }
                self.expect("as")?;
                if self.accept("identity") {
                    let options = if self.symbol("(") {
                        let options = self.sequence_options()?;
                        self.expect_symbol(")")?;
                        options
                    } else {
                        SequenceOptions::default()
                    };
                    let identity = if always { Identity::Always } else { Identity::ByDefault };
                    column.identity = Some((identity, options));
                } else {
                    column.generated = Some(self.in_parentheses()?);
                    if !self.accept("stored") {
                        return self.error();
                    }
                }
                continue;
            } else if self.is("check") && self.symbol_is(1, "(") {
                self.at += 1;
                ConstraintForm::Check(self.in_parentheses()?)
            } else if self.accept("unique") {
                self.unique_constraint(false, Some(&column.name))?
            } else if self.accept_all(&["primary", "key"]) {
                self.unique_constraint(true, Some(&column.name))?
            } else if self.accept("references") {
                self.references(vec![column.name.clone()])?
            } else {
                if name.is_some() {
                    return self.error();
                }
                return Ok(column);
            };
            let mut constraint = TableConstraint {
                name,
                kind,
                deferrable: false,
                initially_deferred: false,
                not_valid: false,
            };
            self.constraint_attributes(&mut constraint)?;
            column.constraints.push(constraint);
        }
    }

    fn create_index(&mut self, unique: bool) -> Result<Statement> {
        let concurrently = self.accept("concurrently");
        let if_not_exists = self.if_not_exists();
        let name = if self.is("on") { None } else { Some(self.identifier()?) };
        self.expect("on")?;
        self.accept("only");
        let table = self.name()?;
        let method = if self.accept("using") { self.word()? } else { "btree".to_string() };
        let keys = self.parenthesised(|r| {
            let position = r.position();
            let mut key = IndexKeyForm {
                column: None,
                expression: None,
                descending: false,
                nulls_first: None,
                position,
            };
            let next_is_call = r.symbol_is(1, "(") || r.symbol_is(1, ".");
            if r.symbol_is(0, "(") {
                key.expression = Some(r.in_parentheses()?);
            } else if next_is_call {
                key.expression = Some(r.expression(|r| {
                    matches!(r.peek(0), Some(Token { kind: Kind::Word { .. }, .. })) && !r.symbol_is(0, ".")
                })?);
            } else {
                key.column = Some(r.identifier()?);
            }
            // COLLATE and an operator class: ours are the "C" collation and the default classes.
            if r.accept("collate") {
                let collation = r.name()?;
                crate::command::check_collation(&collation)?;
            }
            if !r.is("asc")
                && !r.is("desc")
                && !r.is("nulls")
                && matches!(r.peek(0), Some(Token { kind: Kind::Word { .. }, .. }))
            {
                r.name()?;
            }
            if r.accept("desc") {
                key.descending = true;
            } else {
                r.accept("asc");
            }
            if r.accept("nulls") {
                let first = r.accept("first");
                if !first {
                    r.expect("last")?;
                }
                key.nulls_first = Some(first);
            }
            Ok(key)
        })?;
        let include = if self.accept("include") { self.column_list()? } else { Vec::new() };
        let mut nulls_distinct = true;
        if self.accept_all(&["nulls", "not", "distinct"]) {
            nulls_distinct = false;
        } else {
            self.accept_all(&["nulls", "distinct"]);
        }
        if self.accept("with") {
            self.parenthesised(|r| r.option())?;
        }
        if self.accept("tablespace") {
            self.identifier()?;
        }
        let predicate = if self.accept("where") { Some(self.rest()?) } else { None };
        Ok(Statement::CreateIndex(CreateIndex {
            name,
            table,
            unique,
            if_not_exists,
            concurrently,
            method,
            keys,
            include,
            nulls_distinct,
            predicate,
        }))
    }

    fn sequence_options(&mut self) -> Result<SequenceOptions> {
        let mut options = SequenceOptions::default();
        loop {
            if self.accept("as") {
                match self.type_name()? {
                    TypeName::Known(ty) => options.ty = Some(ty),
                    TypeName::Serial(_) => return self.error(),
                }
            } else if self.accept("start") {
                self.accept("with");
                options.start = Some(self.integer()?);
            } else if self.accept("restart") {
                self.accept("with");
                let number =
                    matches!(self.peek(0), Some(t) if t.kind == Kind::Number) || self.symbol_is(0, "-");
                options.restart = Some(if number { Some(self.integer()?) } else { None });
            } else if self.accept("increment") {
                self.accept("by");
                options.increment = Some(self.integer()?);
            } else if self.accept("minvalue") {
                options.minimum = Some(Some(self.integer()?));
            } else if self.accept("maxvalue") {
                options.maximum = Some(Some(self.integer()?));
            } else if self.accept_all(&["no", "minvalue"]) {
                options.minimum = Some(None);
            } else if self.accept_all(&["no", "maxvalue"]) {
                options.maximum = Some(None);
            } else if self.accept_all(&["no", "cycle"]) {
                options.cycle = Some(false);
            } else if self.accept("cycle") {
                options.cycle = Some(true);
            } else if self.accept("cache") {
                options.cache = Some(self.integer()?);
            } else if self.accept_all(&["sequence", "name"]) {
                options.name = Some(self.name()?);
            } else if self.accept("logged") || self.accept("unlogged") {
            } else if self.accept_all(&["owned", "by"]) {
                if self.accept("none") {
                    options.owned_by = Some(None);
                } else {
                    let position = self.position();
                    let mut parts = vec![self.identifier()?];
                    while self.symbol(".") {
                        parts.push(self.word()?);
                    }
                    let column = parts.pop().unwrap_or_default();
                    let Some(table) = parts.pop() else {
                        return Err(Error::new(SqlState::SYNTAX_ERROR, "invalid OWNED BY option")
                            .hint("Specify OWNED BY table.column or OWNED BY NONE."));
                    };
                    options.owned_by =
                        Some(Some((Name { schema: parts.pop(), name: table, position }, column)));
                }
            } else {
                return Ok(options);
            }
        }
    }

    fn role_options(&mut self) -> Result<RoleOptions> {
        let mut o = RoleOptions::default();
        while !self.done() {
            if self.accept("encrypted") || self.accept("unencrypted") {
                if !self.is("password") {
                    return self.error();
                }
            } else if self.accept("password") {
                o.password = Some(if self.accept("null") { None } else { Some(self.text_constant()?) });
            } else if self.accept_all(&["connection", "limit"]) {
                o.connection_limit = Some(self.integer()?.clamp(-1, i64::from(i32::MAX)) as i32);
            } else if self.accept_all(&["valid", "until"]) {
                o.valid_until = Some(self.text_constant()?);
            } else if self.accept_all(&["in", "role"]) || self.accept_all(&["in", "group"]) {
                o.in_roles = self.list(|r| r.role())?;
            } else if self.accept("role") || self.accept("user") {
                o.members = self.list(|r| r.role())?;
            } else if self.accept("admin") {
                o.admins = self.list(|r| r.role())?;
            } else if self.accept("sysid") {
                self.integer()?;
            } else {
                let word = self.word()?;
                let (flag, on) = match word.strip_prefix("no") {
                    Some(rest) => (rest, false),
                    None => (word.as_str(), true),
                };
                let place = match flag {
                    "superuser" => &mut o.superuser,
                    "createdb" => &mut o.create_db,
                    "createrole" => &mut o.create_role,
                    "inherit" => &mut o.inherit,
                    "login" => &mut o.login,
                    "replication" => &mut o.replication,
                    "bypassrls" => &mut o.bypass_rls,
                    _ => {
                        self.at -= 1;
                        return Err(Error::new(
                            SqlState::SYNTAX_ERROR,
                            format!("unrecognized role option \"{word}\""),
                        )
                        .at(Some(self.position())));
                    }
                };
                *place = Some(on);
            }
        }
        Ok(o)
    }

    fn alter(&mut self) -> Result<Statement> {
        self.at += 1;
        let foreign = self.accept("foreign");
        let materialized = self.accept("materialized");
        if foreign || materialized {
            return self.unsupported(
                "ALTER of this object",
                "StartDB has no foreign tables and no materialized views.",
            );
        }
        let Some(what) = self.accept_one(&[
            "table",
            "index",
            "view",
            "sequence",
            "role",
            "user",
            "group",
            "database",
            "schema",
            "system",
            "default",
            "type",
            "domain",
            "function",
            "extension",
            "policy",
            "publication",
            "subscription",
            "server",
            "tablespace",
            "trigger",
            "procedure",
            "routine",
            "aggregate",
            "operator",
            "language",
            "collation",
            "statistics",
            "rule",
            "large",
            "text",
            "event",
            "conversion",
        ]) else {
            return self.error();
        };
        match what {
            "table" | "index" | "view" => {
                let kind = match what {
                    "table" => ObjectKind::Table,
                    "index" => ObjectKind::Index,
                    _ => ObjectKind::View,
                };
                if self.accept("all") {
                    return self.unsupported("ALTER ... ALL IN TABLESPACE", "StartDB has one tablespace.");
                }
                let if_exists = self.if_exists();
                self.accept("only");
                let name = self.name()?;
                self.symbol("*");
                let actions = self.list(|r| r.alter_action())?;
                Ok(Statement::AlterTable { kind, name, if_exists, actions })
            }
            "sequence" => {
                let if_exists = self.if_exists();
                let name = self.name()?;
                if self.is("rename") || self.is("owner") || self.is("set") {
                    let actions = vec![self.alter_action()?];
                    return Ok(Statement::AlterTable {
                        kind: ObjectKind::Sequence,
                        name,
                        if_exists,
                        actions,
                    });
                }
                Ok(Statement::AlterSequence { name, if_exists, options: self.sequence_options()? })
            }
            "role" | "user" | "group" => {
                let name = if self.accept("all") { "\u{1}all".to_string() } else { self.role()? };
                if what == "group" && (self.is("add") || self.is("drop")) {
                    let grant = self.accept("add");
                    if !grant {
                        self.expect("drop")?;
                    }
                    self.expect("user")?;
                    let members = self.list(|r| r.role())?;
                    return Ok(Statement::GrantRole {
                        grant,
                        roles: vec![name],
                        members,
                        admin: false,
                        option_only: false,
                    });
                }
                if self.accept_all(&["rename", "to"]) {
                    let rename = Some(self.identifier()?);
                    return Ok(Statement::AlterRole { name, options: RoleOptions::default(), rename });
                }
                if self.accept_all(&["in", "database"]) {
                    return self.unsupported(
                        "settings of a role in one database",
                        "Set them for the role or for the database.",
                    );
                }
                if self.is("set") || self.is("reset") {
                    return self.alter_setting(true, name);
                }
                self.accept("with");
                Ok(Statement::AlterRole { name, options: self.role_options()?, rename: None })
            }
            "database" => {
                let name = self.identifier()?;
                if self.is("set") || self.is("reset") {
                    if self.accept_all(&["set", "tablespace"]) {
                        return self.unsupported("SET TABLESPACE", "StartDB has one tablespace.");
                    }
                    return self.alter_setting(false, name);
                }
                if self.accept_all(&["refresh", "collation", "version"]) {
                    return Ok(Statement::AlterDatabase { name, action: SchemaAction::Options(Vec::new()) });
                }
                let action = match self.schema_action() {
                    Ok(action) => action,
                    Err(_) => {
                        self.accept("with");
                        SchemaAction::Options(self.options()?)
                    }
                };
                Ok(Statement::AlterDatabase { name, action })
            }
            "schema" => {
                let name = self.identifier()?;
                Ok(Statement::AlterSchema { name, action: self.schema_action()? })
            }
            "system" => {
                self.at = self.tokens.len();
                Ok(Statement::AlterSystem)
            }
            "default" => {
                self.expect("privileges")?;
                self.at = self.tokens.len();
                Ok(Statement::AlterDefaultPrivileges)
            }
            _ => self
                .unsupported(&format!("ALTER {}", what.to_ascii_uppercase()), "StartDB has no such object."),
        }
    }

    fn schema_action(&mut self) -> Result<SchemaAction> {
        if self.accept_all(&["rename", "to"]) {
            Ok(SchemaAction::Rename(self.identifier()?))
        } else if self.accept_all(&["owner", "to"]) {
            Ok(SchemaAction::Owner(self.role()?))
        } else {
            self.error()
        }
    }

    fn alter_setting(&mut self, role: bool, target: String) -> Result<Statement> {
        if self.accept("reset") {
            let setting = if self.accept("all") { None } else { Some(self.setting_name()?) };
            return Ok(Statement::AlterSetting { role, target, setting, values: None });
        }
        match self.set()? {
            Statement::Set { name, values, .. } => {
                Ok(Statement::AlterSetting { role, target, setting: Some(name), values })
            }
            _ => self.error(),
        }
    }

    fn alter_action(&mut self) -> Result<AlterAction> {
        if self.accept("add") {
            if let Some(constraint) = self.table_constraint()? {
                return Ok(AlterAction::AddConstraint(constraint));
            }
            self.accept("column");
            let if_not_exists = self.if_not_exists();
            return Ok(AlterAction::AddColumn { column: self.column_definition()?, if_not_exists });
        }
        if self.accept("drop") {
            if self.accept("constraint") {
                let if_exists = self.if_exists();
                let name = self.identifier()?;
                return Ok(AlterAction::DropConstraint { name, if_exists, cascade: self.cascade() });
            }
            self.accept("column");
            let if_exists = self.if_exists();
            let name = self.identifier()?;
            return Ok(AlterAction::DropColumn { name, if_exists, cascade: self.cascade() });
        }
        if self.accept("alter") {
            if self.accept("constraint") {
                let name = self.identifier()?;
                let mut constraint = TableConstraint {
                    name: None,
                    kind: ConstraintForm::Check(Fragment { text: String::new(), offset: 0 }),
                    deferrable: false,
                    initially_deferred: false,
                    not_valid: false,
                };
                self.constraint_attributes(&mut constraint)?;
                return Ok(AlterAction::AlterConstraint {
                    name,
                    deferrable: constraint.deferrable,
                    initially_deferred: constraint.initially_deferred,
                });
            }
            self.accept("column");
            let column = self.identifier()?;
            return self.alter_column(column);
        }
        if self.accept("validate") {
            self.expect("constraint")?;
            return Ok(AlterAction::ValidateConstraint(self.identifier()?));
        }
        if self.accept("rename") {
            if self.accept("to") {
                return Ok(AlterAction::Rename(self.identifier()?));
            }
            if self.accept("constraint") {
                let from = self.identifier()?;
                self.expect("to")?;
                return Ok(AlterAction::RenameConstraint { from, to: self.identifier()? });
            }
            self.accept("column");
            let from = self.identifier()?;
            self.expect("to")?;
            return Ok(AlterAction::RenameColumn { from, to: self.identifier()? });
        }
        if self.accept("owner") {
            self.expect("to")?;
            return Ok(AlterAction::Owner(self.role()?));
        }
        if self.accept("set") {
            if self.accept("schema") {
                return Ok(AlterAction::SetSchema(self.identifier()?));
            }
            if self.symbol_is(0, "(") {
                return Ok(AlterAction::SetOptions(self.parenthesised(|r| r.option())?));
            }
            if self.accept("tablespace") {
                self.identifier()?;
                return Ok(AlterAction::Ignored);
            }
            if self.accept_all(&["access", "method"]) {
                self.word()?;
                return Ok(AlterAction::Ignored);
            }
            if self.accept_one(&["logged", "unlogged"]).is_some()
                || self.accept_all(&["without", "cluster"])
                || self.accept_all(&["without", "oids"])
            {
                return Ok(AlterAction::Ignored);
            }
            return self.error();
        }
        if self.accept("reset") {
            let keys = self.parenthesised(|r| r.word())?;
            return Ok(AlterAction::SetOptions(keys.into_iter().map(|k| (k, String::new())).collect()));
        }
        if self.accept_all(&["cluster", "on"]) {
            self.identifier()?;
            return Ok(AlterAction::Ignored);
        }
        if self.accept_all(&["replica", "identity"]) {
            if self.accept_one(&["full", "nothing", "default"]).is_none() {
                self.expect("using")?;
                self.expect("index")?;
                self.identifier()?;
            }
            return Ok(AlterAction::Ignored);
        }
        let (what, instead): (&str, &'static str) =
            if self.is("inherit") || self.accept_all(&["no", "inherit"]) {
                ("table inheritance", "Use one table.")
            } else if self.is("attach") || self.is("detach") {
                ("partitioning", "Use one table.")
            } else if self.is("enable") || self.is("disable") {
                if self.peek_is(1, "row") || self.peek_is(2, "row") {
                    ("row-level security", "Use views and GRANT.")
                } else {
                    self.at += 2;
                    self.accept("all");
                    self.accept("user");
                    if !self.done() && !self.symbol_is(0, ",") {
                        self.word()?;
                    }
                    return Ok(AlterAction::Ignored);
                }
            } else if self.is("force") || self.is("no") {
                ("row-level security", "Use views and GRANT.")
            } else {
                return self.error();
            };
        let what = what.to_string();
        while !self.done() && !self.symbol_is(0, ",") {
            self.at += 1;
        }
        Ok(AlterAction::Unsupported { what, instead })
    }

    fn alter_column(&mut self, column: String) -> Result<AlterAction> {
        if self.accept("type") || self.accept_all(&["set", "data", "type"]) {
            let ty = self.type_name()?;
            if self.accept("collate") {
                let collation = self.name()?;
                crate::command::check_collation(&collation)?;
            }
            let using = if self.accept("using") { Some(self.expression(|_| false)?) } else { None };
            return Ok(AlterAction::SetType { column, ty, using });
        }
        if self.accept("set") {
            if self.accept("default") {
                return Ok(AlterAction::SetDefault { column, default: Some(self.expression(|_| false)?) });
            }
            if self.accept_all(&["not", "null"]) {
                return Ok(AlterAction::SetNotNull { column, not_null: true });
            }
            if self.accept("statistics") {
                self.integer()?;
                return Ok(AlterAction::Ignored);
            }
            if self.accept_one(&["storage", "compression"]).is_some() {
                self.word()?;
                return Ok(AlterAction::Ignored);
            }
            if self.symbol_is(0, "(") {
                self.parenthesised(|r| r.option())?;
                return Ok(AlterAction::Ignored);
            }
            self.at -= 1;
            return self.set_identity(column);
        }
        if self.is("restart") {
            return self.set_identity(column);
        }
        if self.accept("drop") {
            if self.accept("default") {
                return Ok(AlterAction::SetDefault { column, default: None });
            }
            if self.accept_all(&["not", "null"]) {
                return Ok(AlterAction::SetNotNull { column, not_null: false });
            }
            if self.accept("expression") {
                return Ok(AlterAction::DropExpression { column, if_exists: self.if_exists() });
            }
            self.expect("identity")?;
            return Ok(AlterAction::DropIdentity { column, if_exists: self.if_exists() });
        }
        if self.accept("add") {
            self.expect("generated")?;
            let always = self.accept("always");
            if !always {
                self.expect("by")?;
                self.expect("default")?;
            }
            self.expect("as")?;
            self.expect("identity")?;
            let options = if self.symbol("(") {
                let options = self.sequence_options()?;
                self.expect_symbol(")")?;
                options
            } else {
                SequenceOptions::default()
            };
            let identity = if always { Identity::Always } else { Identity::ByDefault };
            return Ok(AlterAction::AddIdentity { column, identity, options });
        }
        if self.accept("reset") {
            self.parenthesised(|r| r.option())?;
            return Ok(AlterAction::Ignored);
        }
        self.error()
    }

    fn set_identity(&mut self, column: String) -> Result<AlterAction> {
        let mut identity = None;
        let mut all = SequenceOptions::default();
        loop {
            if self.accept_all(&["set", "generated"]) {
                identity = Some(if self.accept("always") {
                    Identity::Always
                } else {
                    self.expect("by")?;
                    self.expect("default")?;
                    Identity::ByDefault
                });
                continue;
            }
            if !self.is("set") && !self.is("restart") {
                break;
            }
            self.accept("set");
            let before = self.at;
            let options = self.sequence_options()?;
            if self.at == before {
                return self.error();
            }
            all.start = options.start.or(all.start);
            all.restart = options.restart.or(all.restart);
            all.increment = options.increment.or(all.increment);
            all.minimum = options.minimum.or(all.minimum);
            all.maximum = options.maximum.or(all.maximum);
            all.cache = options.cache.or(all.cache);
            all.cycle = options.cycle.or(all.cycle);
        }
        Ok(AlterAction::SetIdentity { column, identity, options: all })
    }

    fn object_kind(&mut self) -> Result<ObjectKind> {
        let Some(word) = self.accept_one(&[
            "table",
            "index",
            "view",
            "materialized",
            "foreign",
            "sequence",
            "schema",
            "database",
            "role",
            "user",
            "group",
            "type",
            "domain",
            "function",
            "procedure",
            "routine",
            "aggregate",
            "extension",
            "trigger",
            "policy",
            "publication",
            "subscription",
            "server",
            "rule",
            "statistics",
            "operator",
            "cast",
            "collation",
            "conversion",
            "language",
            "tablespace",
            "event",
            "text",
            "access",
            "constraint",
            "column",
            "large",
            "transform",
        ]) else {
            return self.error();
        };
        Ok(match word {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "view" => ObjectKind::View,
            "materialized" => {
                self.expect("view")?;
                ObjectKind::MaterializedView
            }
            "foreign" => {
                if self.accept("table") {
                    ObjectKind::ForeignTable
                } else {
                    ObjectKind::Other
                }
            }
            "sequence" => ObjectKind::Sequence,
            "schema" => ObjectKind::Schema,
            "database" => ObjectKind::Database,
            "role" | "user" | "group" => ObjectKind::Role,
            "type" => ObjectKind::Type,
            "domain" => ObjectKind::Domain,
            "function" | "procedure" | "routine" | "aggregate" => ObjectKind::Function,
            "extension" => ObjectKind::Extension,
            "trigger" => ObjectKind::Trigger,
            "policy" => ObjectKind::Policy,
            _ => ObjectKind::Other,
        })
    }

    fn drop(&mut self) -> Result<Statement> {
        self.at += 1;
        if self.accept("owned") {
            self.expect("by")?;
            self.list(|r| r.role())?;
            self.cascade();
            return Ok(Statement::DropOwned);
        }
        let kind = self.object_kind()?;
        if kind == ObjectKind::Index {
            self.accept("concurrently");
        }
        let if_exists = self.if_exists();
        let names = match kind {
            ObjectKind::Function => self.list(|r| {
                let name = r.name()?;
                if r.symbol_is(0, "(") {
                    if r.symbol_is(1, ")") {
                        r.at += 2;
                    } else {
                        r.in_parentheses()?;
                    }
                }
                Ok(name)
            })?,
            ObjectKind::Trigger | ObjectKind::Policy => {
                let name = self.name()?;
                self.expect("on")?;
                self.name()?;
                vec![name]
            }
            ObjectKind::Role => self.list(|r| {
                let position = r.position();
                Ok(Name { schema: None, name: r.role()?, position })
            })?,
            ObjectKind::Other => {
                self.at = self.tokens.len();
                Vec::new()
            }
            _ => self.list(|r| r.name())?,
        };
        if kind == ObjectKind::Database && (self.accept("with") || self.symbol_is(0, "(")) {
            self.parenthesised(|r| r.option())?;
        }
        Ok(Statement::Drop { kind, names, if_exists, cascade: self.cascade() })
    }

    fn comment(&mut self) -> Result<Statement> {
        self.at += 1;
        self.expect("on")?;
        let target = if self.accept("column") {
            let position = self.position();
            let mut parts = vec![self.identifier()?];
            while self.symbol(".") {
                parts.push(self.word()?);
            }
            let column = parts.pop().unwrap_or_default();
            let Some(table) = parts.pop() else { return self.error() };
            CommentTarget::Column(Name { schema: parts.pop(), name: table, position }, column)
        } else if self.accept("constraint") {
            let name = self.identifier()?;
            self.expect("on")?;
            CommentTarget::Constraint { name, table: self.name()? }
        } else {
            match self.object_kind()? {
                kind @ (ObjectKind::Table | ObjectKind::Index | ObjectKind::View | ObjectKind::Sequence) => {
                    CommentTarget::Relation(kind, self.name()?)
                }
                ObjectKind::Schema => CommentTarget::Schema(self.identifier()?),
                ObjectKind::Database => CommentTarget::Database(self.identifier()?),
                ObjectKind::Role => CommentTarget::Role(self.identifier()?),
                kind => {
                    while !self.done() && !self.is("is") {
                        self.at += 1;
                    }
                    CommentTarget::Other(kind.noun().to_string())
                }
            }
        };
        self.expect("is")?;
        let text = if self.accept("null") { None } else { Some(self.text_constant()?) };
        Ok(Statement::Comment { target, text: text.filter(|t| !t.is_empty()) })
    }

    fn grant(&mut self, grant: bool) -> Result<Statement> {
        self.at += 1;
        let mut option_only = false;
        if !grant {
            option_only =
                self.accept_all(&["grant", "option", "for"]) || self.accept_all(&["admin", "option", "for"]);
        }
        // Without ON it is the membership form.
        let membership = !self.tokens[self.at..]
            .iter()
            .any(|t| matches!(&t.kind, Kind::Word { text, quoted: false } if text == "on"));
        if membership {
            let roles = self.list(|r| r.identifier())?;
            self.expect(if grant { "to" } else { "from" })?;
            let members = self.list(|r| {
                r.accept("group");
                r.role()
            })?;
            let admin = self.accept_all(&["with", "admin", "option"]);
            if self.accept_all(&["granted", "by"]) {
                self.role()?;
            }
            self.cascade();
            return Ok(Statement::GrantRole { grant, roles, members, admin, option_only });
        }
        let mut all_columns = Vec::new();
        let privileges = if self.accept("all") {
            self.accept("privileges");
            all_columns = self.optional_column_list()?;
            Vec::new()
        } else {
            self.list(|r| Ok((r.word()?, r.optional_column_list()?)))?
        };
        self.expect("on")?;
        let objects = if self.accept("all") {
            let kind = if self.accept("tables") {
                ObjectKind::Table
            } else if self.accept("sequences") {
                ObjectKind::Sequence
            } else if self.accept_one(&["functions", "procedures", "routines"]).is_some() {
                ObjectKind::Function
            } else {
                return self.error();
            };
            self.expect("in")?;
            self.expect("schema")?;
            GrantObjects::AllInSchema { kind, schemas: self.list(|r| r.identifier())? }
        } else if self.accept("schema") {
            GrantObjects::Schemas(self.list(|r| r.identifier())?)
        } else if self.accept("database") {
            GrantObjects::Databases(self.list(|r| r.identifier())?)
        } else if self.accept("sequence") {
            GrantObjects::Sequences(self.list(|r| r.name())?)
        } else if !self.is("table")
            && self
                .peek(1)
                .is_some_and(|t| matches!(&t.kind, Kind::Word { text, .. } if text != "to" && text != "from"))
        {
            while !self.done() && !self.is("to") && !self.is("from") {
                self.at += 1;
            }
            GrantObjects::Builtin
        } else {
            self.accept("table");
            GrantObjects::Relations(self.list(|r| r.name())?)
        };
        self.expect(if grant { "to" } else { "from" })?;
        let grantees = self.list(|r| {
            r.accept("group");
            if r.accept("public") { Ok(None) } else { r.role().map(Some) }
        })?;
        let grant_option = self.accept_all(&["with", "grant", "option"]);
        if self.accept_all(&["granted", "by"]) {
            self.role()?;
        }
        self.cascade();
        Ok(Statement::Grant(Grant {
            grant,
            privileges,
            all_columns,
            objects,
            grantees,
            grant_option,
            option_only,
        }))
    }

    fn explain(&mut self) -> Result<Statement> {
        self.at += 1;
        let mut options = ExplainOptions::default();
        if self.symbol_is(0, "(")
            && !self.peek_is(1, "select")
            && !self.peek_is(1, "values")
            && !self.peek_is(1, "with")
        {
            for (key, value) in self.parenthesised(|r| r.option())? {
                let on = !matches!(value.as_str(), "off" | "false" | "0");
                match key.as_str() {
                    "analyze" => options.analyze = on,
                    "verbose" => options.verbose = on,
                    "costs" => options.costs = on,
                    "timing" => options.timing = on,
                    "summary" => options.summary = Some(on),
                    "buffers" | "wal" | "settings" | "generic_plan" | "memory" | "serialize" => {}
                    "format" => match value.to_ascii_lowercase().as_str() {
                        "text" => options.json = false,
                        "json" => options.json = true,
                        other => {
                            return Err(Error::unsupported(
                                format!("EXPLAIN FORMAT {}", other.to_uppercase()),
                                "Use FORMAT JSON.",
                            ));
                        }
                    },
                    other => {
                        return Err(Error::new(
                            SqlState::SYNTAX_ERROR,
                            format!("unrecognized EXPLAIN option \"{other}\""),
                        ));
                    }
                }
            }
        } else {
            options.analyze = self.accept_one(&["analyze", "analyse"]).is_some();
            options.verbose = self.accept("verbose");
        }
        let start = self.at;
        let inner = self.rest()?;
        let mut tokens = self.tokens[start..].to_vec();
        let base = tokens.first().map_or(0, |t| t.start);
        for token in &mut tokens {
            token.start -= base;
            token.end -= base;
        }
        let mut reader = Reader { text: &inner.text, tokens: &tokens, at: 0 };
        let statement = reader.statement().map_err(|e| error_shifted(e, inner.offset))?;
        let parsed = Parsed {
            statement: Arc::new(statement),
            text: Arc::from(inner.text.as_str()),
            shift: inner.offset,
        };
        Ok(Statement::Explain { options, statement: Box::new(parsed) })
    }

    fn fetch(&mut self, movement: bool) -> Result<Statement> {
        self.at += 1;
        let number = |r: &Self| {
            matches!(r.peek(0), Some(t) if t.kind == Kind::Number)
                || r.symbol_is(0, "-")
                || r.symbol_is(0, "+")
        };
        let direction = if self.accept("next") {
            Direction::Relative(1)
        } else if self.accept("prior") {
            Direction::Relative(-1)
        } else if self.accept("first") {
            Direction::Absolute(1)
        } else if self.accept("last") {
            Direction::Absolute(-1)
        } else if self.accept("absolute") {
            Direction::Absolute(self.integer()?)
        } else if self.accept("relative") {
            Direction::Offset(self.integer()?)
        } else if self.accept("all") {
            Direction::Relative(i64::MAX)
        } else if number(self) {
            Direction::Relative(self.integer()?)
        } else if self.accept("forward") {
            if self.accept("all") {
                Direction::Relative(i64::MAX)
            } else if number(self) {
                Direction::Relative(self.integer()?)
            } else {
                Direction::Relative(1)
            }
        } else if self.accept("backward") {
            if self.accept("all") {
                Direction::Relative(-i64::MAX)
            } else if number(self) {
                Direction::Relative(-self.integer()?)
            } else {
                Direction::Relative(-1)
            }
        } else {
            Direction::Relative(1)
        };
        self.accept_one(&["from", "in"]);
        Ok(Statement::Fetch { name: self.identifier()?, direction, movement })
    }

    fn copy(&mut self) -> Result<Statement> {
        self.at += 1;
        let mut options = CopyOptions::default();
        if self.accept("binary") {
            options.format = CopyFormat::Binary;
        }
        let mut columns = Vec::new();
        let source = if self.symbol_is(0, "(") {
            CopySource::Query(self.in_parentheses()?)
        } else {
            let name = self.name()?;
            columns = self.optional_column_list()?;
            CopySource::Table(name)
        };
        let from = self.accept("from");
        if !from {
            self.expect("to")?;
        }
        if from && matches!(source, CopySource::Query(_)) {
            self.at -= 1;
            return self.error();
        }
        let endpoint = if self.accept_one(&["stdin", "stdout"]).is_some() {
            CopyEndpoint::Client
        } else if self.accept("program") {
            self.text_constant()?;
            CopyEndpoint::Program
        } else {
            CopyEndpoint::File(self.text_constant()?)
        };
        let with = self.accept("with");
        if self.symbol("(") {
            self.list(|r| r.copy_option(&mut options))?;
            self.expect_symbol(")")?;
        } else {
            let _ = with;
            self.old_copy_options(&mut options)?;
        }
        let filter = if from && self.accept("where") { Some(self.rest()?) } else { None };
        Ok(Statement::Copy(Copy { source, columns, from, endpoint, options, filter }))
    }

    fn copy_option(&mut self, options: &mut CopyOptions) -> Result<()> {
        let position = self.position();
        let key = self.word()?;
        let flag = |r: &mut Self| -> Result<bool> {
            if r.symbol_is(0, ",") || r.symbol_is(0, ")") {
                return Ok(true);
            }
            let value = single(r.one_value()?).unwrap_or_default();
            Ok(matches!(value.to_ascii_lowercase().as_str(), "true" | "on" | "1"))
        };
        let columns = |r: &mut Self| -> Result<Vec<String>> {
            if r.symbol("*") { Ok(Vec::new()) } else { r.column_list() }
        };
        match key.as_str() {
            "format" => {
                let position = self.position();
                let format = single(self.one_value()?).unwrap_or_default();
                options.format = match format.as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    other => {
                        return Err(Error::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!("COPY format \"{other}\" not recognized"),
                        )
                        .at(Some(position)));
                    }
                };
            }
            "delimiter" => options.delimiter = Some(self.text_constant()?),
            "null" => options.null = Some(self.text_constant()?),
            "quote" => options.quote = Some(self.text_constant()?),
            "escape" => options.escape = Some(self.text_constant()?),
            "encoding" => options.encoding = Some(self.text_constant()?),
            "header" => {
                if self.accept("match") {
                    options.header = true;
                    options.header_match = true;
                } else {
                    options.header = flag(self)?;
                }
            }
            "freeze" => options.freeze = flag(self)?,
            "force_quote" => options.force_quote = Some(columns(self)?),
            "force_not_null" => options.force_not_null = columns(self)?,
            "force_null" => options.force_null = columns(self)?,
            other => {
                return Err(Error::new(SqlState::SYNTAX_ERROR, format!("option \"{other}\" not recognized"))
                    .at(Some(position)));
            }
        }
        Ok(())
    }

    /// The option syntax before 9.0, which pgbench, psql and old tools still send.
    fn old_copy_options(&mut self, options: &mut CopyOptions) -> Result<()> {
        loop {
            if self.accept("binary") {
                options.format = CopyFormat::Binary;
            } else if self.accept("csv") {
                options.format = CopyFormat::Csv;
            } else if self.accept("freeze") {
                options.freeze = true;
            } else if self.accept("header") {
                options.header = true;
            } else if self.accept("delimiter") || self.accept("delimiters") {
                self.accept("as");
                options.delimiter = Some(self.text_constant()?);
            } else if self.accept("null") {
                self.accept("as");
                options.null = Some(self.text_constant()?);
            } else if self.accept("quote") {
                self.accept("as");
                options.quote = Some(self.text_constant()?);
            } else if self.accept("escape") {
                self.accept("as");
                options.escape = Some(self.text_constant()?);
            } else if self.accept("encoding") {
                options.encoding = Some(self.text_constant()?);
            } else if self.accept_all(&["force", "quote"]) {
                options.force_quote =
                    Some(if self.symbol("*") { Vec::new() } else { self.list(|r| r.identifier())? });
            } else if self.accept_all(&["force", "not", "null"]) {
                options.force_not_null = self.list(|r| r.identifier())?;
            } else if self.accept_all(&["force", "null"]) {
                options.force_null = self.list(|r| r.identifier())?;
            } else {
                return Ok(());
            }
        }
    }
}

/// Reserved for expressions, but fine where a table, column or role is named.
const NAMES_BUT_RESERVED: &[&str] = &[
    "authorization",
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "coalesce",
    "dec",
    "decimal",
    "exists",
    "extract",
    "float",
    "greatest",
    "grouping",
    "inout",
    "int",
    "integer",
    "interval",
    "least",
    "national",
    "nchar",
    "none",
    "normalize",
    "nullif",
    "numeric",
    "out",
    "overlay",
    "position",
    "precision",
    "real",
    "row",
    "setof",
    "smallint",
    "substring",
    "time",
    "timestamp",
    "treat",
    "trim",
    "values",
    "varchar",
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
    "between",
];

fn single(values: Option<Vec<String>>) -> Option<String> {
    values.map(|values| values.join(", "))
}

/// Parses the text of one query.
pub fn query_statement(text: &str) -> Result<Statement> {
    let mut parsed = resolve::parse::statements(text)?;
    match (parsed.pop(), parsed.is_empty()) {
        (Some(one), true) => Ok(Statement::Query(Arc::new(one))),
        _ => Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "cannot insert multiple commands into a prepared statement",
        )),
    }
}

/// Parses the one statement in `text`.
pub fn parse_one(text: &str) -> Result<Parsed> {
    let mut all = parse(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Error::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")),
        _ => Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "cannot insert multiple commands into a prepared statement",
        )),
    }
}

/// A type by its SQL name, for PREPARE and regtype input; 42704 when there is none.
pub fn parse_type(text: &str) -> Result<Type> {
    let tokens = lex::tokens(text)?;
    let mut reader = Reader { text, tokens: &tokens, at: 0 };
    let ty = reader.type_name()?;
    reader.end()?;
    match ty {
        TypeName::Known(ty) | TypeName::Serial(ty) => Ok(ty),
    }
}

/// The parts of a possibly qualified name as it stands in text (`"A b".c`).
pub fn parse_name(text: &str) -> Result<Vec<String>> {
    let invalid = || Error::new(SqlState::INVALID_NAME, "invalid name syntax");
    let tokens = lex::tokens(text).map_err(|_| invalid())?;
    let mut parts = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Word { text, .. } if n % 2 == 0 => parts.push(text.clone()),
            Kind::Symbol if n % 2 == 1 && &text[token.start..token.end] == "." => {}
            _ => return Err(invalid()),
        }
    }
    if parts.is_empty() || tokens.len() % 2 == 0 { Err(invalid()) } else { Ok(parts) }
}
