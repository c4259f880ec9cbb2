//! COPY FROM and TO: text, CSV and binary.
//!
//! What the two directions share is here: the options, and who may.

use engine::catalog::Table;
use value::{Error, Result, SqlState};

use crate::session::{Outcome, Session};
use crate::statement::{Copy, CopyEndpoint, CopyFormat, CopyOptions};
use crate::{predefined, privilege};

mod from;
mod to;

pub use from::CopyIn;
pub use to::CopyOut;

/// What binary data begins with.
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
    if copy.from { from::run(session, copy).await } else { to::run(session, copy).await }
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

fn file_error(path: &str, doing: &str, error: &std::io::Error) -> Error {
    let state = match error.kind() {
        std::io::ErrorKind::NotFound => SqlState::UNDEFINED_FILE,
        std::io::ErrorKind::PermissionDenied => SqlState::INSUFFICIENT_PRIVILEGE,
        _ => SqlState::IO_ERROR,
    };
    Error::new(state, format!("could not open file \"{path}\" for {doing}: {error}"))
}
