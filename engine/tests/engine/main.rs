//! The engine through its public face: transactions, isolation, recovery.

// Everything here is a test, helpers too.
#![allow(clippy::unwrap_used)]

mod crash;
mod isolation;
mod setup;
mod storage;
