//! COPY TO: the rows of a query as lines of text or CSV, or as binary tuples.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use engine::catalog::Object;
use session::CopyShape;
use value::text::Style;
use value::{Datum, Error, Result, SqlState};

use super::{Format, SIGNATURE, columns, file_error};
use crate::lex::quote_name;
use crate::session::{Outcome, Portal, Session, copy_shape};
use crate::statement::{Copy, CopyEndpoint, CopyFormat, CopySource, Fragment};

/// Bytes of output made before they are given away.
const PIECE: usize = 64 * 1024;

pub(super) async fn run(session: &mut Session, copy: &Copy) -> Result<Outcome> {
    let scope = session.scope()?;
    let text = match &copy.source {
        CopySource::Query(fragment) => fragment.clone(),
        CopySource::Table(name) => {
            let table = match crate::command::relation(&scope, name)? {
                Object::Table(table) => table,
                other => {
                    let error = Error::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!(
                            "cannot copy from {} \"{}\"",
                            crate::command::kind_of(&other).noun(),
                            other.name()
                        ),
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
