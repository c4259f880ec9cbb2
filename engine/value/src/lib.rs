//! Values: what a cell of a table or the result of an expression is, independent of any table or statement.
//!
//! One [`Datum`] is one value in memory; [`types`] is the one table that lists every type with its oid, sizes,
//! category, Arrow form and key form. [`text`] and [`binary`] are the two wire forms; [`key`] is the order-preserving byte form of
//! indexes; [`arrow_form`] the column form of the vectorised executor. Arithmetic lives with its type
//! ([`numeric`], [`datetime`], [`interval`], [`json`], [`mod@array`]).
//!
//! Invariant: this crate knows no catalog, no session and no SQL text. What a session can change about a
//! value's text form arrives as a [`text::Style`].

pub mod array;
pub mod arrow_form;
pub mod binary;
pub mod compare;
pub mod datetime;
mod datum;
pub mod error;
pub mod format;
pub mod interval;
pub mod json;
pub mod key;
pub mod numeric;
pub mod sqlstate;
pub mod text;
pub mod types;

#[cfg(test)]
mod tests;

pub use array::Array;
pub use datum::{Datum, Record};
pub use error::{Error, Result};
pub use interval::Interval;
pub use json::Jsonb;
pub use numeric::Numeric;
pub use sqlstate::SqlState;
pub use types::{Oid, Type};
