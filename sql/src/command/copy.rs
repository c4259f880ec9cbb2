//! COPY FROM and TO: text, CSV and binary.
//!
//! COPY FROM plans `INSERT INTO t (columns) VALUES (...)` once and runs that plan over batches of rows, so that
//! defaults, checks, keys and foreign keys are those of INSERT. Data arrives cut anywhere: lines are put together
//! across pieces, and a quoted CSV field may hold line ends.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::catalog::{Object, Table};
use plan::ir::{ModifyAction, Node, NodeKind, Plan};
use resolve::tree::Expr;
use session::CopyShape;
use value::text::Style;
use value::types::oid;
use value::{Datum, Error, Result, SqlState, Type};

use crate::lex::quote_name;
use crate::plan_cache::Resolved;
use crate::session::{Outcome, Portal, Session, copy_shape};
use crate::statement::{Copy, CopyEndpoint, CopyFormat, CopyOptions, CopySource, Fragment};
use crate::{predefined, privilege};

/// Rows inserted by one run of the plan.
const BATCH: usize = 1000;
/// Bytes of output made before they are given away.
const PIECE: usize = 64 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Options with their defaults filled in.
#[derive(Clone, Debug)]
struct Format {
    kind: CopyFormat,
    delimiter: u8,
    null: String,
    header: bool,
    header_match: bool,
    quote: u8,
    escape: u8,
    force_quote: Vec<bool>,
    force_not_null: Vec<bool>,
    force_null: Vec<bool>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl Format {
    fn new(options: &CopyOptions, names: &[String]) -> Result<Format> {
        let csv = options.format == CopyFormat::Csv;
        let binary = options.format == CopyFormat::Binary;
        let one = |text: &Option<String>, default: u8, what: &str| -> Result<u8> {
            match text {
                None => Ok(default),
                Some(text) if text.len() == 1 => Ok(text.as_bytes()[0]),
                Some(_) => Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("COPY {what} must be a single one-byte character"),
                )),
            }
        };
        for (given, what) in [(options.delimiter.is_some(), "DELIMITER"), (options.null.is_some(), "NULL")] {
            if binary && given {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("cannot specify {what} in BINARY mode"),
                ));
            }
        }
        if binary && options.header {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "cannot specify HEADER in BINARY mode"));
        }
        if !csv && (options.quote.is_some() || options.escape.is_some() || options.force_quote.is_some()) {
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "COPY quote available only in CSV mode"));
        }
        if let Some(encoding) = &options.encoding {
            let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
            if !matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode" | "sqlascii") {
                return Err(Error::unsupported(
                    format!("encoding \"{encoding}\""),
                    "Convert the data to UTF8.",
                ));
            }
        }
        let marks = |list: &[String], what: &str| -> Result<Vec<bool>> {
            for name in list {
                if !names.contains(name) {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        format!("{what} column \"{name}\" not referenced by COPY"),
                    ));
                }
            }
            Ok(names.iter().map(|n| list.contains(n)).collect())
        };
        let delimiter = one(&options.delimiter, if csv { b',' } else { b'\t' }, "delimiter")?;
        if matches!(delimiter, b'\n' | b'\r')
            || (!csv && (delimiter == b'\\' || delimiter.is_ascii_alphanumeric()))
        {
            return Err(invalid(
                "COPY delimiter cannot be newline, carriage return or one of these characters",
            ));
        }
        let quote = one(&options.quote, b'"', "quote")?;
        if csv && delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        Ok(Format {
            kind: options.format,
            delimiter,
            null: options.null.clone().unwrap_or_else(|| if csv { String::new() } else { "\\N".into() }),
            header: options.header,
            header_match: options.header_match,
            quote,
            escape: one(&options.escape, quote, "escape")?,
            force_quote: match &options.force_quote {
                None => vec![false; names.len()],
                Some(list) if list.is_empty() => vec![true; names.len()],
                Some(list) => marks(list, "FORCE_QUOTE")?,
            },
            force_not_null: marks(&options.force_not_null, "FORCE_NOT_NULL")?,
            force_null: marks(&options.force_null, "FORCE_NULL")?,
        })
    }
}

pub async fn run(session: &mut Session, copy: &Copy) -> Result<Outcome> {
    match &copy.endpoint {
        CopyEndpoint::Client => {}
        CopyEndpoint::Program => {
            return Err(Error::unsupported(
                "COPY ... PROGRAM",
                "Pipe the data through the client: \\copy or COPY FROM STDIN.",
            ));
        }
        CopyEndpoint::File(_) => {
            let scope = session.scope()?;
            let needed =
                if copy.from { predefined::READ_SERVER_FILES } else { predefined::WRITE_SERVER_FILES };
            if !privilege::acts_as(&scope.catalog, scope.role, needed) {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!(
                        "must be superuser or have privileges of the {} role to COPY {} a file",
                        if copy.from { "pg_read_server_files" } else { "pg_write_server_files" },
                        if copy.from { "from" } else { "to" }
                    ),
                )
                .hint(
                    "Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.",
                ));
            }
        }
    }
    if copy.from { copy_from(session, copy).await } else { copy_to(session, copy).await }
}

/// The columns a COPY of a table moves: those named, or all that are not generated.
fn columns(table: &Table, named: &[String]) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok(table.visible_columns().filter(|(_, c)| !c.generated).map(|(n, _)| n).collect());
    }
    let mut out = Vec::new();
    for name in named {
        let Some((place, column)) = table.column(name) else {
            return Err(Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation \"{}\" does not exist", table.name),
            ));
        };
        if column.generated {
            return Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("column \"{name}\" is a generated column"),
            )
            .detail("Generated columns cannot be used in COPY."));
        }
        if out.contains(&place) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        out.push(place);
    }
    Ok(out)
}

async fn copy_from(session: &mut Session, copy: &Copy) -> Result<Outcome> {
    let CopySource::Table(name) = &copy.source else {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "COPY FROM needs a table"));
    };
    let scope = session.scope()?;
    let table = match super::relation(&scope, name)? {
        Object::Table(table) => table,
        other => {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy to {} \"{}\"", super::kind_of(&other).noun(), other.name()),
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
    let crate::statement::Statement::Query(query) = &*parsed.statement else {
        return Err(Error::internal("not an INSERT"));
    };
    let (scope, resolved, _) = session.resolve_query(&parsed, query, &declared, true, None)?;
    privilege::check_plan(&scope.catalog, scope.role, &resolved.plan)?;
    session.lock_plan(&resolved).await?;
    let filter = match &copy.filter {
        None => None,
        Some(filter) => Some(
            crate::rules::expression(
                &*scope,
                Some(&table),
                &filter.text,
                resolve::Purpose::Check,
                Some(Type::new(oid::BOOL)),
            )
            .map_err(|e| crate::grammar::error_shifted(e, filter.offset))?,
        ),
    };
    let types = places.iter().map(|n| table.columns[*n].ty()).collect();
    let mut state = Box::new(CopyIn {
        table,
        places,
        names,
        types,
        template: resolved,
        format,
        style: scope.style.clone(),
        filter,
        pending: BytesMut::new(),
        scanned: 0,
        in_quotes: false,
        rows: Vec::new(),
        line: 0,
        count: 0,
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

fn file_error(path: &str, doing: &str, error: &std::io::Error) -> Error {
    let state = match error.kind() {
        std::io::ErrorKind::NotFound => SqlState::UNDEFINED_FILE,
        std::io::ErrorKind::PermissionDenied => SqlState::INSUFFICIENT_PRIVILEGE,
        _ => SqlState::IO_ERROR,
    };
    Error::new(state, format!("could not open file \"{path}\" for {doing}: {error}"))
}

/// A COPY FROM on its way.
pub struct CopyIn {
    table: Arc<Table>,
    places: Vec<usize>,
    names: Vec<String>,
    types: Vec<Type>,
    template: Arc<Resolved>,
    format: Format,
    style: Style,
    filter: Option<Expr>,
    pending: BytesMut,
    /// Bytes of `pending` already looked at for the end of a line.
    scanned: usize,
    in_quotes: bool,
    rows: Vec<Vec<Datum>>,
    line: u64,
    count: u64,
    header_seen: bool,
    /// `\.` or the binary trailer came.
    ended: bool,
    started: bool,
}

impl CopyIn {
    pub fn shape(&self) -> CopyShape {
        copy_shape(self.format.kind == CopyFormat::Binary, self.types.len())
    }

    fn at_line(&self, error: Error) -> Error {
        if error.fields().context.is_some() {
            return error;
        }
        error.context(format!("COPY {}, line {}", self.table.name, self.line))
    }

    /// Takes a piece of the data.
    pub async fn data(&mut self, session: &mut Session, data: Bytes) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.pending.extend_from_slice(&data);
        if self.format.kind == CopyFormat::Binary {
            while let Some(row) = self.binary_row()? {
                self.take(session, row).await?;
            }
            return Ok(());
        }
        while let Some(line) = self.next_line(false)? {
            self.text_line(session, &line).await?;
            if self.ended {
                self.pending.clear();
                break;
            }
        }
        Ok(())
    }

    /// The end of the data: what is left is inserted. Gives the tag.
    pub async fn done(&mut self, session: &mut Session) -> Result<String> {
        if self.format.kind == CopyFormat::Binary {
            if !self.ended && (!self.pending.is_empty() || !self.started) {
                self.line += 1;
                return Err(
                    self.at_line(Error::new(SqlState::BAD_COPY_FILE_FORMAT, "unexpected EOF in COPY data"))
                );
            }
        } else if !self.ended
            && let Some(line) = self.next_line(true)?
        {
            self.text_line(session, &line).await?;
        }
        self.flush(session).await?;
        Ok(format!("COPY {}", self.count))
    }

    /// The next whole line without its end; at the end of the data the rest is one.
    fn next_line(&mut self, last: bool) -> Result<Option<Bytes>> {
        let csv = self.format.kind == CopyFormat::Csv;
        while self.scanned < self.pending.len() {
            let b = self.pending[self.scanned];
            if csv {
                if self.in_quotes && b == self.format.escape && self.format.escape != self.format.quote {
                    if self.scanned + 1 >= self.pending.len() && !last {
                        break;
                    }
                    self.scanned += 2;
                    continue;
                }
                if b == self.format.quote {
                    self.in_quotes = !self.in_quotes;
                }
            } else if b == b'\\' {
                if self.scanned + 1 >= self.pending.len() && !last {
                    break;
                }
                // A backslash before the line end continues the line.
                let next = self.pending.get(self.scanned + 1).copied();
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
            if self.in_quotes {
                self.line += 1;
                return Err(
                    self.at_line(Error::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field"))
                );
            }
            self.scanned = 0;
            let mut line = self.pending.split().freeze();
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    async fn text_line(&mut self, session: &mut Session, line: &[u8]) -> Result<()> {
        self.line += 1;
        let text = std::str::from_utf8(line).map_err(|error| {
            let bad = line.get(error.valid_up_to()).copied().unwrap_or(0);
            self.at_line(Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"),
            ))
        })?;
        if text == "\\." {
            self.ended = true;
            return Ok(());
        }
        let fields =
            if self.format.kind == CopyFormat::Csv { self.csv_fields(text)? } else { self.text_fields(text) };
        if self.format.header && !self.header_seen {
            self.header_seen = true;
            if self.format.header_match {
                for (n, name) in self.names.iter().enumerate() {
                    let found = fields.get(n).and_then(Option::as_deref);
                    if found != Some(name.as_str()) {
                        return Err(self.at_line(Error::new(
                            SqlState::BAD_COPY_FILE_FORMAT,
                            format!(
                                "column name mismatch in header line field {}: got \"{}\", expected \"{name}\"",
                                n + 1,
                                found.unwrap_or("null")
                            ),
                        )));
                    }
                }
            }
            return Ok(());
        }
        let no_columns = self.types.is_empty() && fields.len() == 1 && text.is_empty();
        if fields.len() > self.types.len() && !no_columns {
            return Err(self.at_line(Error::new(
                SqlState::BAD_COPY_FILE_FORMAT,
                "extra data after last expected column",
            )));
        }
        if fields.len() < self.types.len() {
            return Err(self.at_line(Error::new(
                SqlState::BAD_COPY_FILE_FORMAT,
                format!("missing data for column \"{}\"", self.names[fields.len()]),
            )));
        }
        let mut row = Vec::with_capacity(self.types.len());
        for (n, ty) in self.types.iter().enumerate() {
            row.push(match fields.get(n).and_then(Option::as_deref) {
                None => Datum::Null,
                Some(text) => value::text::input(*ty, text, &self.style).map_err(|error| {
                    error.context(format!(
                        "COPY {}, line {}, column {}: \"{}\"",
                        self.table.name,
                        self.line,
                        self.names[n],
                        text.chars().take(100).collect::<String>()
                    ))
                })?,
            });
        }
        self.take(session, row).await
    }

    /// Fields of a line in text format; `None` is NULL.
    fn text_fields(&self, line: &str) -> Vec<Option<String>> {
        if self.types.is_empty() && line.is_empty() {
            return Vec::new();
        }
        let bytes = line.as_bytes();
        let mut out = Vec::with_capacity(self.types.len());
        let mut start = 0;
        let mut at = 0;
        loop {
            if at >= bytes.len() || bytes[at] == self.format.delimiter {
                let raw = &line[start..at.min(bytes.len())];
                out.push(if raw == self.format.null { None } else { Some(unescaped(raw)) });
                if at >= bytes.len() {
                    return out;
                }
                at += 1;
                start = at;
            } else if bytes[at] == b'\\' {
                at += 2;
            } else {
                at += 1;
            }
        }
    }

    fn csv_fields(&self, line: &str) -> Result<Vec<Option<String>>> {
        let (quote, escape, delimiter) = (self.format.quote, self.format.escape, self.format.delimiter);
        let bytes = line.as_bytes();
        let mut out: Vec<Option<String>> = Vec::with_capacity(self.types.len());
        let mut at = 0;
        loop {
            let mut field = Vec::new();
            let mut quoted = false;
            let mut inside = false;
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
                    quoted = true;
                    inside = true;
                } else {
                    field.push(b);
                }
                at += 1;
            }
            if inside {
                return Err(
                    self.at_line(Error::new(SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field"))
                );
            }
            let text = String::from_utf8_lossy(&field).into_owned();
            let n = out.len();
            let is_null = text == self.format.null
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

    /// The next row of binary data, if all of it is there.
    fn binary_row(&mut self) -> Result<Option<Vec<Datum>>> {
        let bad = |message: &str| Error::new(SqlState::BAD_COPY_FILE_FORMAT, message);
        if self.ended {
            self.pending.clear();
            return Ok(None);
        }
        if !self.started {
            if self.pending.len() < SIGNATURE.len() + 8 {
                return Ok(None);
            }
            if &self.pending[..SIGNATURE.len()] != SIGNATURE {
                return Err(bad("COPY file signature not recognized"));
            }
            let number = |at: usize, b: &[u8]| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let flags = number(SIGNATURE.len(), &self.pending);
            if flags & 0xffff_0000 != 0 {
                return Err(bad("unrecognized critical flags in COPY file header"));
            }
            let extension = number(SIGNATURE.len() + 4, &self.pending) as usize;
            if extension > 1 << 20 {
                return Err(bad("invalid COPY file header (wrong length)"));
            }
            if self.pending.len() < SIGNATURE.len() + 8 + extension {
                return Ok(None);
            }
            let _ = self.pending.split_to(SIGNATURE.len() + 8 + extension);
            self.started = true;
        }
        let Some(count) = self.pending.get(..2) else { return Ok(None) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.ended = true;
            self.pending.clear();
            return Ok(None);
        }
        self.line += u64::from(self.scanned == 0);
        self.scanned = 1;
        if count as usize != self.types.len() {
            return Err(
                self.at_line(bad(&format!("row field count is {count}, expected {}", self.types.len())))
            );
        }
        let mut at = 2;
        let mut row = Vec::with_capacity(self.types.len());
        for (n, ty) in self.types.iter().enumerate() {
            let Some(length) = self.pending.get(at..at + 4) else { return Ok(None) };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            at += 4;
            if length == -1 {
                row.push(Datum::Null);
                continue;
            }
            if !(0..=1 << 30).contains(&length) {
                return Err(self.at_line(bad("invalid field size")));
            }
            let Some(bytes) = self.pending.get(at..at + length as usize) else { return Ok(None) };
            row.push(value::binary::receive(*ty, bytes).map_err(|error| {
                error.context(format!(
                    "COPY {}, line {}, column {}",
                    self.table.name, self.line, self.names[n]
                ))
            })?);
            at += length as usize;
        }
        let _ = self.pending.split_to(at);
        self.scanned = 0;
        Ok(Some(row))
    }

    async fn take(&mut self, session: &mut Session, row: Vec<Datum>) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() >= BATCH {
            self.flush(session).await?;
        }
        Ok(())
    }

    /// Inserts the rows at hand.
    async fn flush(&mut self, session: &mut Session) -> Result<()> {
        session.shared.cancel.check()?;
        let mut rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let scope = session.scope()?;
        if let Some(filter) = &self.filter {
            let context = session.context(&scope, Arc::from([]), false, false)?;
            let mut evaluator = execute::Evaluator::new(std::slice::from_ref(filter), &context)?;
            let mut kept = Vec::with_capacity(rows.len());
            for row in rows {
                let mut whole = vec![Datum::Null; self.table.columns.len()];
                for (place, value) in self.places.iter().zip(&row) {
                    whole[*place] = value.clone();
                }
                if matches!(evaluator.value(0, &whole)?, Datum::Bool(true)) {
                    kept.push(row);
                }
            }
            rows = kept;
        }
        let count = rows.len() as u64;
        let first_line = self.line.saturating_sub(count) + 1;
        let plan = self.plan_over(rows)?;
        let context = session.context(&scope, Arc::from([]), true, false)?;
        let mut driver = execute::Driver::open(&Arc::new(plan), context)?;
        let mut out = execute::Rows::default();
        let block = session.transaction()?;
        let result = async {
            while driver.next(block.tx()?, BATCH, &mut out).await? {}
            Ok(())
        }
        .await;
        result.map_err(|error: Error| {
            if error.fields().context.is_some() {
                error
            } else {
                let line = if count == 1 {
                    format!("line {}", self.line)
                } else {
                    format!("lines {first_line} to {}", self.line)
                };
                error.context(format!("COPY {}, {line}", self.table.name))
            }
        })?;
        let deferred = driver.take_deferred();
        session.transaction()?.checks.extend(deferred);
        self.count += count;
        Ok(())
    }

    /// The template's plan over a batch of rows instead of `VALUES ($1, ...)`.
    fn plan_over(&self, rows: Vec<Vec<Datum>>) -> Result<Plan> {
        let template = &self.template.plan;
        let NodeKind::Modify(modify) = &template.root.kind else {
            return Err(Error::internal("COPY did not plan an INSERT"));
        };
        let ModifyAction::Insert { columns, .. } = &modify.action else {
            return Err(Error::internal("COPY did not plan an INSERT"));
        };
        // Slot i of the input is the value of column `columns[i]`; ours come in the order of `places`.
        let order: Vec<Option<usize>> =
            columns.iter().map(|column| self.places.iter().position(|place| place == column)).collect();
        let types: Vec<Type> = columns.iter().map(|c| self.table.columns[*c].ty()).collect();
        let count = rows.len() as f64;
        let rows = rows
            .into_iter()
            .map(|mut row| {
                order
                    .iter()
                    .zip(&types)
                    .map(|(place, ty)| {
                        let value = place.map_or(Datum::Null, |p| std::mem::take(&mut row[p]));
                        Expr::Const { value, ty: *ty }
                    })
                    .collect()
            })
            .collect();
        let mut modify = (**modify).clone();
        modify.input = Node {
            kind: NodeKind::Values { rows },
            types,
            rows: count,
            startup_cost: 0.0,
            total_cost: count * 0.01,
        };
        Ok(Plan {
            root: Node { kind: NodeKind::Modify(Box::new(modify)), ..template.root.clone() },
            subplans: template.subplans.clone(),
            ctes: template.ctes.clone(),
            outers: template.outers,
            output: Vec::new(),
            tables: template.tables.clone(),
            views: Vec::new(),
            volatile: true,
        })
    }
}

fn unescaped(raw: &str) -> String {
    if !raw.contains('\\') {
        return raw.to_string();
    }
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
    String::from_utf8_lossy(&out).into_owned()
}

async fn copy_to(session: &mut Session, copy: &Copy) -> Result<Outcome> {
    let scope = session.scope()?;
    let text = match &copy.source {
        CopySource::Query(fragment) => fragment.clone(),
        CopySource::Table(name) => {
            let table = match super::relation(&scope, name)? {
                Object::Table(table) => table,
                other => {
                    let error = Error::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("cannot copy from {} \"{}\"", super::kind_of(&other).noun(), other.name()),
                    );
                    return Err(if matches!(other, Object::View(_)) {
                        error.hint("Try the COPY (SELECT ...) TO variant.")
                    } else {
                        error
                    });
                }
            };
            let list: Vec<String> =
                columns(&table, &copy.columns)?.iter().map(|n| quote_name(&table.columns[*n].name)).collect();
            let target =
                format!("{}.{}", quote_name(&scope.schema_name(table.schema)), quote_name(&table.name));
            Fragment { text: format!("SELECT {} FROM {target}", list.join(", ")), offset: 0 }
        }
    };
    let parsed = session.fragment(&text)?;
    let crate::statement::Statement::Query(query) = &*parsed.statement else {
        return Err(Error::unsupported("COPY of this statement", "Use a query, or DML with RETURNING."));
    };
    let query = query.clone();
    let prepared = Arc::new(session.prepare("", Some(parsed.clone()), &[])?);
    let Some(output) = prepared.columns.clone() else {
        return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "COPY query must have a RETURNING clause"));
    };
    let names: Vec<String> = output.iter().map(|c| c.name.clone()).collect();
    let format = Format::new(&copy.options, &names)?;
    let (state, _) = session.open_query(&parsed, &query, &prepared, Arc::from([]), None).await?;
    let mut portal = Portal::new(prepared, Arc::from([]), None);
    portal.state = state;
    let style = session.scope()?.style.clone();
    let mut out = Box::new(CopyOut {
        portal,
        types: output.iter().map(|c| c.type_oid).collect(),
        names,
        format,
        style,
        count: 0,
        begun: false,
        ended: false,
        queue: VecDeque::new(),
    });
    if let CopyEndpoint::File(path) = &copy.endpoint {
        let mut file = std::fs::File::create(path).map_err(|error| file_error(path, "writing", &error))?;
        while let Some(piece) = out.next(session).await? {
            file.write_all(&piece).map_err(|error| file_error(path, "writing", &error))?;
        }
        return Ok(Outcome::Tag(format!("COPY {}", out.rows())));
    }
    Ok(Outcome::CopyOut(out))
}

/// A COPY TO on its way.
pub struct CopyOut {
    portal: Portal,
    types: Vec<value::Oid>,
    names: Vec<String>,
    format: Format,
    style: Style,
    count: u64,
    begun: bool,
    ended: bool,
    queue: VecDeque<Bytes>,
}

impl CopyOut {
    pub fn shape(&self) -> CopyShape {
        copy_shape(self.format.kind == CopyFormat::Binary, self.types.len())
    }

    pub fn rows(&self) -> u64 {
        self.count
    }

    /// The next rows; `None` at the end. Text and CSV come a line at a time in one piece, as clients expect whole rows.
    pub async fn next(&mut self, session: &mut Session) -> Result<Option<Bytes>> {
        loop {
            if let Some(piece) = self.queue.pop_front() {
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            let mut out = Vec::with_capacity(PIECE);
            if !self.begun {
                self.begun = true;
                if self.format.kind == CopyFormat::Binary {
                    out.extend_from_slice(SIGNATURE);
                    out.extend_from_slice(&[0; 8]);
                } else if self.format.header {
                    let names: Vec<Option<String>> = self.names.iter().cloned().map(Some).collect();
                    self.write_line(&names, true, &mut out);
                }
            }
            match session.rows_of(&mut self.portal.state, 512).await? {
                None => {
                    self.ended = true;
                    session.finish_driver(&mut self.portal)?;
                    if self.format.kind == CopyFormat::Binary {
                        out.extend_from_slice(&(-1i16).to_be_bytes());
                    }
                }
                Some(rows) => {
                    self.count += rows.count as u64;
                    for row in rows.values.chunks(rows.columns.max(1)).take(rows.count) {
                        self.write_row(row, &mut out);
                    }
                    if rows.columns == 0 {
                        for _ in 0..rows.count {
                            self.write_row(&[], &mut out);
                        }
                    }
                }
            }
            if !out.is_empty() {
                self.queue.push_back(Bytes::from(out));
            }
        }
    }

    fn write_row(&self, row: &[Datum], out: &mut Vec<u8>) {
        if self.format.kind == CopyFormat::Binary {
            out.extend_from_slice(&(row.len() as i16).to_be_bytes());
            for (value, ty) in row.iter().zip(&self.types) {
                if value.is_null() {
                    out.extend_from_slice(&(-1i32).to_be_bytes());
                    continue;
                }
                let at = out.len();
                out.extend_from_slice(&[0; 4]);
                value::binary::send(value, *ty, out);
                let length = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            return;
        }
        let texts: Vec<Option<String>> = row
            .iter()
            .zip(&self.types)
            .map(|(value, ty)| {
                (!value.is_null()).then(|| value::text::output_string(value, *ty, &self.style))
            })
            .collect();
        self.write_line(&texts, false, out);
    }

    fn write_line(&self, fields: &[Option<String>], header: bool, out: &mut Vec<u8>) {
        let csv = self.format.kind == CopyFormat::Csv;
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                out.push(self.format.delimiter);
            }
            match field {
                None => out.extend_from_slice(self.format.null.as_bytes()),
                Some(text) if csv => {
                    let special = |b: u8| {
                        b == self.format.delimiter || b == self.format.quote || matches!(b, b'\n' | b'\r')
                    };
                    let forced = !header && self.format.force_quote.get(n).copied().unwrap_or(false);
                    let alone = fields.len() == 1 && text == "\\.";
                    if forced || alone || *text == self.format.null || text.bytes().any(special) {
                        out.push(self.format.quote);
                        for b in text.bytes() {
                            if b == self.format.quote || b == self.format.escape {
                                out.push(self.format.escape);
                            }
                            out.push(b);
                        }
                        out.push(self.format.quote);
                    } else {
                        out.extend_from_slice(text.as_bytes());
                    }
                }
                Some(text) => {
                    for b in text.bytes() {
                        match b {
                            b'\\' => out.extend_from_slice(b"\\\\"),
                            b'\n' => out.extend_from_slice(b"\\n"),
                            b'\r' => out.extend_from_slice(b"\\r"),
                            b'\t' => out.extend_from_slice(b"\\t"),
                            8 => out.extend_from_slice(b"\\b"),
                            12 => out.extend_from_slice(b"\\f"),
                            11 => out.extend_from_slice(b"\\v"),
                            b if b == self.format.delimiter => {
                                out.push(b'\\');
                                out.push(b);
                            }
                            b => out.push(b),
                        }
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes() {
        for (raw, value) in
            [("a\\tb", "a\tb"), ("\\\\N", "\\N"), ("\\101", "A"), ("\\x41z", "Az"), ("\\q", "q")]
        {
            assert_eq!(super::unescaped(raw), value);
        }
    }
}
