//! Errors on their way through DataFusion and back: ours travel inside `External` and come out as they were.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use value::{Error, SqlState};

/// What goes wrong while columns are computed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The statement fails.
    Error(Error),
    /// A kernel met a value it leaves to the function itself (an overflow, a zero divisor): evaluate these rows one by one.
    Kernel,
    /// A numeric outgrew the decimal column planned for it: the statement starts over with wide numerics.
    Narrow,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Failure {
        Failure::Error(Error::internal(format!("column kernel: {error}")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => write!(f, "{error}"),
            Failure::Kernel => f.write_str("a kernel gave up"),
            Failure::Narrow => f.write_str("a decimal column is too narrow"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for DataFusionError {
    fn from(failure: Failure) -> DataFusionError {
        DataFusionError::External(Box::new(failure))
    }
}

/// One of our errors as DataFusion's.
pub(crate) fn outward(error: Error) -> DataFusionError {
    Failure::Error(error).into()
}

/// A violated expectation between us and DataFusion.
pub(crate) fn broken(what: impl fmt::Display) -> DataFusionError {
    outward(Error::internal(what.to_string()))
}

/// What came out of DataFusion, as ours. `Failure::Narrow` and `Failure::Error` come back unchanged.
pub(crate) fn inward(error: &DataFusionError) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut exhausted = None;
    while let Some(current) = source {
        if let Some(failure) = current.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(error) = current.downcast_ref::<Error>() {
            return Failure::Error(error.clone());
        }
        match current.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => {
                source = Some(&**inner);
                continue;
            }
            Some(DataFusionError::Shared(inner)) => {
                source = Some(&**inner);
                continue;
            }
            Some(DataFusionError::Collection(errors)) => {
                if let Some(first) = errors.first() {
                    source = Some(first);
                    continue;
                }
            }
            Some(DataFusionError::ResourcesExhausted(message)) => exhausted = Some(message.clone()),
            _ => {}
        }
        source = current.source();
    }
    if let Some(message) = exhausted {
        return Failure::Error(
            Error::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail(message)
                .hint("Add a filter, or raise the memory limit of the server."),
        );
    }
    let error = match error.find_root() {
        DataFusionError::NotImplemented(what) => {
            Error::unsupported(what, "Run it with SET startdb.analytic = off.")
        }
        other => Error::internal(format!("vectorised executor: {other}")),
    };
    Failure::Error(error)
}
