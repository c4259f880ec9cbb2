//! The engine through its public face: transactions, isolation, recovery.

mod crash;
mod isolation;
mod setup;
mod storage;
