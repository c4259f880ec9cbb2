//! The one integration test binary: whole-system tests against the real program, and tests about the tree itself.
//! `README.md` beside this file says what is where.

mod client;
mod postgres;
mod programs;
mod server;
mod slt;
mod tidy;
