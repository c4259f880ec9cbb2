//! The one integration test binary: whole-system tests against the real program, and tests about the tree itself.
//! `README.md` beside this file says what is where.

mod bad_input;
mod cli;
mod client;
mod clients;
mod copy;
mod crash;
mod deploy;
mod dump;
mod durability;
mod first_start;
mod history;
mod isolation;
mod isolationtester;
mod optimizer;
mod pgbench;
mod postgres;
mod programs;
mod psql;
mod readme;
mod server;
mod shell;
mod slt;
mod telemetry;
mod tidy;
mod tpch;
