//! The error type of `engine/value`, from its own source.

#[path = "../../../value/src/error.rs"]
pub mod error;
#[path = "../../../value/src/sqlstate.rs"]
pub mod sqlstate;

pub use error::{Error, Result};
pub use sqlstate::SqlState;

pub type Oid = u32;
