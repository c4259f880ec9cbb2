//! The language room: sessions, statements, rights, system catalogs.
//!
//! The way of a statement: `grammar` cuts a string into statements and parses those that are not queries;
//! `session` runs them in transactions; queries go through `resolve`, `plan` and `execute`, each its own crate; everything
//! else is a file of `command`. What functions and names see is a `scope`; `pg_catalog` computes the
//! relations tools read; `setting` is the one table of settings; `privilege` says who may do what.
//!
//! Invariant: no bytes of a protocol and no sockets: a way in speaks through the crate `session`.

mod advice;
mod audit;
mod command;
mod database;
mod describe;
mod explain;
mod grammar;
mod lex;
mod literal;
mod pg_catalog;
mod plan_cache;
mod predefined;
mod privilege;
mod query_log;
mod readings;
mod rules;
mod scope;
mod scram;
mod session;
mod setting;
mod shared;
mod statement;
mod statement_log;
mod system;
mod trace;

pub use ::resolve::tree::OutputColumn;
pub use advice::ScannedTable;
pub use database::{Counters, Database, DatabaseStats, Options, RowSource, SystemRelation};
/// A name as it must be written in SQL.
pub use function::quote_ident;
pub use query_log::{QueryLog, fingerprint};
pub use readings::{ActivityReading, DatabaseReading, LockReading, Readings, TableReading};
pub use session::{Session, aside};
pub use setting::{SERVER_VERSION, check_setting};
/// Spans for a tracer: their target, and who says which statements have any.
pub use trace::{Sampler, TARGET as TRACE_TARGET, set_trace_sampler};
