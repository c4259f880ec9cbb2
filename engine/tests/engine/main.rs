//! The engine through its public face: transactions, isolation, recovery.

// Everything here is a test, helpers too.
#![allow(clippy::unwrap_used)]

/// The name that the shared fixtures know the engine by: the crate's own tests use them too.
use engine as under_test;

mod isolation;
mod large;
mod setup;
mod storage;
