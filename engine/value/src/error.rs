//! The one error type that travels from the disk to the client. Named by SQLSTATE, because that is what the
//! caller (a driver, an ORM, a person) acts on.

use std::fmt;

use crate::SqlState;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as PostgreSQL's ErrorResponse carries it. Boxed, so that `Result<Datum>` stays small.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Fields>);

/// Everything an ErrorResponse can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// 1-based character offset into the statement text.
    pub position: Option<usize>,
    /// The call stack of the error, outermost last ("COPY t, line 3, column a").
    pub context: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub data_type: Option<String>,
    pub constraint: Option<String>,
    /// FATAL: the session ends after this error.
    pub fatal: bool,
}

impl Error {
    pub fn new(state: SqlState, message: impl Into<String>) -> Error {
        Error(Box::new(Fields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
            fatal: false,
        }))
    }

    /// 0A000: `what` is not supported, `instead` says what to use.
    pub fn unsupported(what: impl fmt::Display, instead: impl Into<String>) -> Error {
        Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported")).hint(instead)
    }

    /// XX000: a broken invariant of ours. Never used for anything a user can cause.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(SqlState::INTERNAL_ERROR, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.0.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the position unless a deeper, more exact one is already there.
    pub fn at(mut self, position: Option<usize>) -> Error {
        self.0.position = self.0.position.or(position);
        self
    }

    /// Replaces the position: a statement's text was part of a longer one.
    pub fn set_position(mut self, position: Option<usize>) -> Error {
        self.0.position = position;
        self
    }

    /// The same error in other words.
    pub fn reworded(mut self, message: impl Into<String>) -> Error {
        self.0.message = message.into();
        self
    }

    pub fn context(mut self, context: impl Into<String>) -> Error {
        self.0.context = Some(context.into());
        self
    }

    pub fn table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Error {
        self.0.schema = Some(schema.into());
        self.0.table = Some(table.into());
        self
    }

    pub fn column(mut self, column: impl Into<String>) -> Error {
        self.0.column = Some(column.into());
        self
    }

    pub fn constraint(mut self, constraint: impl Into<String>) -> Error {
        self.0.constraint = Some(constraint.into());
        self
    }

    pub fn fatal(mut self) -> Error {
        self.0.fatal = true;
        self
    }

    pub fn state(&self) -> SqlState {
        self.0.state
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn fields(&self) -> &Fields {
        &self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.state, self.0.message)?;
        if let Some(detail) = &self.0.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        let state = match error.kind() {
            std::io::ErrorKind::StorageFull => SqlState::DISK_FULL,
            _ => SqlState::IO_ERROR,
        };
        Error::new(state, error.to_string())
    }
}
