//! The one integration test binary: whole-system tests against the real program, and tests about the tree itself.
//! `README.md` beside this file says what is where.

mod bad_input;
mod cli;
mod client;
mod clients;
mod copy;
mod crash;
mod durability;
mod isolation;
mod optimizer;
mod pgbench;
mod postgres;
mod programs;
mod psql;
mod server;
mod slt;
mod tidy;
mod tpch;
