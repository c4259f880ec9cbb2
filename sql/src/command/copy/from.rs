//! COPY FROM: lines of text or CSV, or binary tuples, into a table.
//!
//! COPY FROM plans `INSERT INTO t (columns) VALUES (...)` once and takes every row through that plan's insert, as one
//! command, so that defaults, checks, keys and foreign keys are those of INSERT. Data arrives cut anywhere: lines are
//! put together across pieces, and a quoted CSV field may hold line ends.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::catalog::{Object, Table};
use plan::ir::{ModifyAction, NodeKind};
use session::CopyShape;
use value::text::Style;
use value::types::oid;
use value::{Datum, Error, Result, SqlState, Type};

use super::{Format, SIGNATURE, columns, file_error};
use crate::lex::quote_name;
use crate::privilege;
use crate::session::{Outcome, Session, copy_shape};
use crate::statement::{Copy, CopyEndpoint, CopyFormat, CopySource, Fragment, Statement};

/// Characters of the data that an error shows.
const SHOWN: usize = 100;

pub(super) async fn run(session: &mut Session, copy: &Copy) -> Result<Outcome> {
    let CopySource::Table(name) = &copy.source else {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "COPY FROM needs a table"));
    };
    let scope = session.scope()?;
    let table = match crate::command::relation(&scope, name)? {
        Object::Table(table) => table,
        other => {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy to {} \"{}\"", crate::command::kind_of(&other).noun(), other.name()),
            ));
        }
    };
    let places = columns(&table, &copy.columns)?;
    let names: Vec<String> = places.iter().map(|n| table.columns[*n].name.clone()).collect();
    let format = Format::new(&copy.options, &names)?;
    let list: Vec<String> = names.iter().map(|n| quote_name(n)).collect();
    let parameters: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
    let target = format!("{}.{}", quote_name(&scope.schema_name(table.schema)), quote_name(&table.name));
    // Identity columns take what the data says, as COPY does.
    let text = if names.is_empty() {
        format!("INSERT INTO {target} DEFAULT VALUES")
    } else {
        format!(
            "INSERT INTO {target} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            list.join(", "),
            parameters.join(", ")
        )
    };
    let declared: Vec<value::Oid> = places.iter().map(|n| table.columns[*n].type_oid).collect();
    let parsed = session.fragment(&Fragment { text, offset: 0 })?;
    let Statement::Query(query) = &*parsed.statement else {
        return Err(Error::internal("not an INSERT"));
    };
    let (scope, resolved, _) = session.resolve_query(&parsed, query, &declared, true, None)?;
    privilege::check_plan(&scope.catalog, scope.role, &resolved.plan)?;
    session.lock_plan(&resolved).await?;
    let NodeKind::Modify(modify) = &resolved.plan.root.kind else {
        return Err(Error::internal("COPY did not plan an INSERT"));
    };
    let ModifyAction::Insert { columns, .. } = &modify.action else {
        return Err(Error::internal("COPY did not plan an INSERT"));
    };
    // Slot i of the input is the value of column `columns[i]`; ours come in the order of `places`.
    let order: Vec<Option<usize>> =
        columns.iter().map(|column| places.iter().position(|place| place == column)).collect();
    let context = session.context(&scope, Arc::from([]), true, false)?;
    let filter = match &copy.filter {
        None => None,
        Some(filter) => {
            let expression = crate::rules::expression(
                &*scope,
                Some(&table),
                &filter.text,
                resolve::Purpose::Check,
                Some(Type::new(oid::BOOL)),
            )
            .map_err(|e| crate::grammar::error_shifted(e, filter.offset))?;
            Some(execute::Evaluator::new(std::slice::from_ref(&expression), &context)?)
        }
    };
    let inserter = execute::Inserter::open(modify, context, session.transaction()?.tx()?)?;
    let types = places.iter().map(|n| table.columns[*n].ty()).collect();
    let mut state = Box::new(CopyIn {
        inserter: Some(inserter),
        source: vec![Datum::Null; order.len()],
        order,
        table,
        places,
        names,
        types,
        format,
        style: scope.style.clone(),
        filter,
        pending: BytesMut::new(),
        scanned: 0,
        in_quotes: false,
        row: Vec::new(),
        line: 0,
        header_seen: false,
        ended: false,
        started: false,
    });
    if let CopyEndpoint::File(path) = &copy.endpoint {
        let mut file = std::fs::File::open(path).map_err(|error| file_error(path, "reading", &error))?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = std::io::Read::read(&mut file, &mut buffer)
                .map_err(|error| file_error(path, "reading", &error))?;
            if n == 0 {
                break;
            }
            state.data(session, Bytes::copy_from_slice(&buffer[..n])).await?;
        }
        return Ok(Outcome::Tag(state.done(session).await?));
    }
    Ok(Outcome::CopyIn(state))
}

/// A COPY FROM on its way.
pub struct CopyIn {
    /// `None` at the end.
    inserter: Option<execute::Inserter>,
    /// For each input slot of the insert, which of our columns it takes.
    order: Vec<Option<usize>>,
    source: Vec<Datum>,
    table: Arc<Table>,
    places: Vec<usize>,
    names: Vec<String>,
    types: Vec<Type>,
    format: Format,
    style: Style,
    filter: Option<execute::Evaluator>,
    pending: BytesMut,
    /// Bytes of `pending` already looked at for the end of a line; in binary data, whether the row at hand is counted.
    scanned: usize,
    in_quotes: bool,
    /// The row at hand, by `places`.
    row: Vec<Datum>,
    line: u64,
    header_seen: bool,
    /// `\.` or the binary trailer came.
    ended: bool,
    started: bool,
}

fn after_the_end() -> Error {
    Error::internal("a row after the end of COPY")
}

/// The fields of a line; `None` is NULL.
type Fields<'a> = Vec<Option<Cow<'a, str>>>;

fn bad_format(message: impl Into<String>) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

fn not_utf8(bytes: &[u8], error: &std::str::Utf8Error) -> Error {
    let bad = bytes.get(error.valid_up_to()).copied().unwrap_or(0);
    Error::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"),
    )
}

/// As much of the data as an error shows.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

impl CopyIn {
    pub fn shape(&self) -> CopyShape {
        copy_shape(self.format.kind == CopyFormat::Binary, self.types.len())
    }

    /// Says where in the data it went wrong; `line`: what the line holds.
    fn at_line(&self, error: Error, line: Option<&str>) -> Error {
        if error.fields().context.is_some() {
            return error;
        }
        let place = format!("COPY {}, line {}", self.table.name, self.line);
        error.context(match line {
            Some(line) => format!("{place}: \"{}\"", shown(line)),
            None => place,
        })
    }

    fn at_column(&self, error: Error, column: usize, text: Option<&str>) -> Error {
        let place = format!("COPY {}, line {}, column {}", self.table.name, self.line, self.names[column]);
        error.context(match text {
            Some(text) => format!("{place}: \"{}\"", shown(text)),
            None => place,
        })
    }

    /// An error in place of the next line.
    pub fn at_next_line(mut self, error: Error) -> Error {
        self.line += 1;
        self.at_line(error, None)
    }

    /// Takes a piece of the data.
    pub async fn data(&mut self, session: &mut Session, data: Bytes) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.pending.extend_from_slice(&data);
        if self.format.kind == CopyFormat::Binary {
            while self.binary_row()? {
                if !self.insert_now(session, None)? {
                    self.insert_later(session, None).await?;
                }
            }
            return Ok(());
        }
        while let Some(line) = self.next_line(false)? {
            if let Some(text) = self.line(&line)?
                && !self.insert_now(session, Some(text))?
            {
                self.insert_later(session, Some(text)).await?;
            }
            if self.ended {
                self.pending.clear();
                break;
            }
        }
        Ok(())
    }

    /// The end of the data: what is left is inserted, and foreign keys are checked. Gives the tag.
    pub async fn done(&mut self, session: &mut Session) -> Result<String> {
        if self.format.kind == CopyFormat::Binary {
            if !self.ended && (!self.pending.is_empty() || !self.started) {
                self.line += 1;
                return Err(self.at_line(bad_format("unexpected EOF in COPY data"), None));
            }
        } else if !self.ended
            && let Some(line) = self.next_line(true)?
            && let Some(text) = self.line(&line)?
            && !self.insert_now(session, Some(text))?
        {
            self.insert_later(session, Some(text)).await?;
        }
        let Some(inserter) = self.inserter.take() else { return Err(Error::internal("COPY ends twice")) };
        let count = inserter.affected();
        let block = session.transaction()?;
        let deferred = inserter.finish(block.tx()?).await?;
        block.put_off(deferred);
        Ok(format!("COPY {count}"))
    }

    /// The next whole line without its end; at the end of the data the rest is one.
    fn next_line(&mut self, last: bool) -> Result<Option<Bytes>> {
        let csv = self.format.kind == CopyFormat::Csv;
        while let Some(rest) = self.pending.get(self.scanned..)
            && !rest.is_empty()
        {
            let found = if csv {
                memchr::memchr3(b'\n', self.format.quote, self.format.escape, rest)
            } else {
                memchr::memchr2(b'\n', b'\\', rest)
            };
            let Some(found) = found else {
                self.scanned = self.pending.len();
                break;
            };
            let b = rest[found];
            let next = rest.get(found + 1).copied();
            self.scanned += found;
            if csv {
                if self.in_quotes && b == self.format.escape && self.format.escape != self.format.quote {
                    if next.is_none() && !last {
                        break;
                    }
                    self.scanned += 2;
                    continue;
                }
                if b == self.format.quote {
                    self.in_quotes = !self.in_quotes;
                }
            } else if b == b'\\' {
                if next.is_none() && !last {
                    break;
                }
                // A backslash before the line end continues the line.
                self.scanned += if next == Some(b'\n') || next == Some(b'\\') { 2 } else { 1 };
                continue;
            }
            if b == b'\n' && !self.in_quotes {
                let mut line = self.pending.split_to(self.scanned + 1).freeze();
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                self.scanned = 0;
                return Ok(Some(line));
            }
            self.scanned += 1;
        }
        self.scanned = self.scanned.min(self.pending.len());
        if last && !self.pending.is_empty() {
            self.scanned = 0;
            let mut line = self.pending.split().freeze();
            if self.in_quotes {
                self.line += 1;
                let text = String::from_utf8_lossy(&line);
                return Err(self.at_line(bad_format("unterminated CSV quoted field"), Some(&text)));
            }
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// Reads a line; gives its text if it holds a row.
    fn line<'a>(&mut self, line: &'a [u8]) -> Result<Option<&'a str>> {
        self.line += 1;
        let text = std::str::from_utf8(line).map_err(|error| self.at_line(not_utf8(line, &error), None))?;
        if text == "\\." {
            self.ended = true;
            return Ok(None);
        }
        let is_row = self.parse_line(text).map_err(|error| self.at_line(error, Some(text)))?;
        Ok(is_row.then_some(text))
    }

    /// Reads a line into `row`; `false`: it is the header.
    fn parse_line(&mut self, text: &str) -> Result<bool> {
        let fields = if self.format.kind == CopyFormat::Csv {
            self.csv_fields(text)?
        } else {
            self.text_fields(text)?
        };
        if self.format.header && !self.header_seen {
            self.header_seen = true;
            if self.format.header_match {
                for (n, name) in self.names.iter().enumerate() {
                    let found = fields.get(n).and_then(Option::as_deref);
                    if found != Some(name.as_str()) {
                        return Err(bad_format(format!(
                            "column name mismatch in header line field {}: got \"{}\", expected \"{name}\"",
                            n + 1,
                            found.unwrap_or("null")
                        )));
                    }
                }
            }
            return Ok(false);
        }
        let no_columns = self.types.is_empty() && fields.len() == 1 && text.is_empty();
        if fields.len() > self.types.len() && !no_columns {
            return Err(bad_format("extra data after last expected column"));
        }
        if fields.len() < self.types.len() {
            return Err(bad_format(format!("missing data for column \"{}\"", self.names[fields.len()])));
        }
        self.row.clear();
        for (n, (ty, field)) in self.types.iter().zip(&fields).enumerate() {
            let value = match field {
                None => Datum::Null,
                Some(text) => value::text::input(*ty, text, &self.style)
                    .map_err(|error| self.at_column(error, n, Some(text)))?,
            };
            self.row.push(value);
        }
        Ok(true)
    }

    /// Fields of a line in text format.
    fn text_fields<'a>(&self, line: &'a str) -> Result<Fields<'a>> {
        if self.types.is_empty() && line.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = line.as_bytes();
        let mut out = Vec::with_capacity(self.types.len());
        let (mut start, mut at) = (0, 0);
        let mut escaped = false;
        loop {
            match memchr::memchr2(self.format.delimiter, b'\\', bytes.get(at..).unwrap_or_default()) {
                Some(found) if bytes[at + found] == b'\\' => {
                    escaped = true;
                    at += found + 2;
                    continue;
                }
                Some(found) => at += found,
                None => at = bytes.len(),
            }
            let raw = &line[start..at];
            out.push(if raw == self.format.null {
                None
            } else if escaped {
                Some(Cow::Owned(unescaped(raw)?))
            } else {
                Some(Cow::Borrowed(raw))
            });
            if at >= bytes.len() {
                return Ok(out);
            }
            at += 1;
            start = at;
            escaped = false;
        }
    }

    fn csv_fields<'a>(&self, line: &'a str) -> Result<Fields<'a>> {
        let (quote, escape, delimiter) = (self.format.quote, self.format.escape, self.format.delimiter);
        let bytes = line.as_bytes();
        let mut out: Fields<'a> = Vec::with_capacity(self.types.len());
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            // Most fields hold no quote: they are taken as they stand.
            let plain = match memchr::memchr2(delimiter, quote, rest) {
                None => Some(rest.len()),
                Some(end) if rest[end] == delimiter => Some(end),
                Some(_) => None,
            };
            let (text, quoted) = match plain {
                Some(length) => {
                    let text = &line[at..at + length];
                    at += length;
                    (Cow::Borrowed(text), false)
                }
                None => {
                    let mut field = Vec::new();
                    let (mut quoted, mut inside) = (false, false);
                    while let Some(&b) = bytes.get(at) {
                        if inside {
                            if b == escape && bytes.get(at + 1).is_some_and(|n| *n == quote || *n == escape) {
                                field.push(bytes[at + 1]);
                                at += 2;
                                continue;
                            }
                            if b == quote {
                                inside = false;
                            } else {
                                field.push(b);
                            }
                        } else if b == delimiter {
                            break;
                        } else if b == quote {
                            (quoted, inside) = (true, true);
                        } else {
                            field.push(b);
                        }
                        at += 1;
                    }
                    if inside {
                        return Err(bad_format("unterminated CSV quoted field"));
                    }
                    let text = String::from_utf8(field)
                        .map_err(|error| not_utf8(error.as_bytes(), &error.utf8_error()))?;
                    (Cow::Owned(text), quoted)
                }
            };
            let n = out.len();
            let is_null = text == self.format.null.as_str()
                && if quoted {
                    self.format.force_null.get(n).copied().unwrap_or(false)
                } else {
                    !self.format.force_not_null.get(n).copied().unwrap_or(false)
                };
            out.push(if is_null { None } else { Some(text) });
            if at >= bytes.len() {
                return Ok(out);
            }
            at += 1;
        }
    }

    /// Reads the next row of binary data into `row`, if all of it is there.
    fn binary_row(&mut self) -> Result<bool> {
        if self.ended {
            self.pending.clear();
            return Ok(false);
        }
        if !self.started {
            if self.pending.len() < SIGNATURE.len() + 8 {
                return Ok(false);
            }
            if &self.pending[..SIGNATURE.len()] != SIGNATURE {
                return Err(bad_format("COPY file signature not recognized"));
            }
            let number = |at: usize, b: &[u8]| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let flags = number(SIGNATURE.len(), &self.pending);
            if flags & 0xffff_0000 != 0 {
                return Err(bad_format("unrecognized critical flags in COPY file header"));
            }
            let extension = number(SIGNATURE.len() + 4, &self.pending) as usize;
            if extension > 1 << 20 {
                return Err(bad_format("invalid COPY file header (wrong length)"));
            }
            if self.pending.len() < SIGNATURE.len() + 8 + extension {
                return Ok(false);
            }
            let _ = self.pending.split_to(SIGNATURE.len() + 8 + extension);
            self.started = true;
        }
        let Some(count) = self.pending.get(..2) else { return Ok(false) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.ended = true;
            self.pending.clear();
            return Ok(false);
        }
        self.line += u64::from(self.scanned == 0);
        self.scanned = 1;
        if count as usize != self.types.len() {
            let message = format!("row field count is {count}, expected {}", self.types.len());
            return Err(self.at_line(bad_format(message), None));
        }
        let mut at = 2;
        self.row.clear();
        for (n, ty) in self.types.iter().enumerate() {
            let Some(length) = self.pending.get(at..at + 4) else { return Ok(false) };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            at += 4;
            if length == -1 {
                self.row.push(Datum::Null);
                continue;
            }
            if !(0..=1 << 30).contains(&length) {
                return Err(self.at_line(bad_format("invalid field size"), None));
            }
            let Some(bytes) = self.pending.get(at..at + length as usize) else { return Ok(false) };
            let value = value::binary::receive(*ty, bytes).map_err(|error| self.at_column(error, n, None))?;
            self.row.push(value);
            at += length as usize;
        }
        let _ = self.pending.split_to(at);
        self.scanned = 0;
        Ok(true)
    }

    /// Inserts the row at hand; `line`: the text it was read from. `false`: it may have to wait, and
    /// [`CopyIn::insert_later`] does it.
    fn insert_now(&mut self, session: &mut Session, line: Option<&str>) -> Result<bool> {
        if let Some(filter) = &mut self.filter {
            let mut whole = vec![Datum::Null; self.table.columns.len()];
            for (place, value) in self.places.iter().zip(&self.row) {
                whole[*place] = value.clone();
            }
            let kept = filter.value(0, &whole).map_err(|error| self.at_line(error, line))?;
            if !matches!(kept, Datum::Bool(true)) {
                return Ok(true);
            }
        }
        for (slot, place) in self.source.iter_mut().zip(&self.order) {
            *slot = place.map_or(Datum::Null, |place| std::mem::take(&mut self.row[place]));
        }
        let Some(inserter) = &mut self.inserter else { return Err(after_the_end()) };
        let tx = session.transaction()?.tx()?;
        inserter.push_now(tx, &self.source).map_err(|error| self.at_row(error, line))
    }

    async fn insert_later(&mut self, session: &mut Session, line: Option<&str>) -> Result<()> {
        let Some(inserter) = &mut self.inserter else { return Err(after_the_end()) };
        let tx = session.transaction()?.tx()?;
        inserter.push_later(tx, &self.source).await.map_err(|error| self.at_row(error, line))
    }

    /// Of rows that clash with others the line is not shown, as in PostgreSQL.
    fn at_row(&self, error: Error, line: Option<&str>) -> Error {
        let clash = error.state() == SqlState::UNIQUE_VIOLATION;
        self.at_line(error, line.filter(|_| !clash))
    }
}

fn unescaped(raw: &str) -> Result<String> {
    let mut out = Vec::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        at += 1;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some(&next) = bytes.get(at) else {
            out.push(b'\\');
            break;
        };
        at += 1;
        match next {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let mut value = u32::from(next - b'0');
                for _ in 0..2 {
                    match bytes.get(at) {
                        Some(d @ b'0'..=b'7') => {
                            value = value * 8 + u32::from(d - b'0');
                            at += 1;
                        }
                        _ => break,
                    }
                }
                out.push(value as u8);
            }
            b'x' => {
                let mut value = 0u32;
                let mut digits = 0;
                while digits < 2
                    && let Some(d) = bytes.get(at).and_then(|b| (*b as char).to_digit(16))
                {
                    value = value * 16 + d;
                    digits += 1;
                    at += 1;
                }
                out.push(if digits == 0 { b'x' } else { value as u8 });
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|error| not_utf8(error.as_bytes(), &error.utf8_error()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes() {
        for (raw, value) in
            [("a\\tb", "a\tb"), ("\\\\N", "\\N"), ("\\101", "A"), ("\\x41z", "Az"), ("\\q", "q")]
        {
            assert_eq!(super::unescaped(raw).unwrap(), value);
        }
        assert!(super::unescaped("\\xff").is_err());
    }
}
