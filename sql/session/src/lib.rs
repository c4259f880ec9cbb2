//! The face of `sql`: what a way in (the PostgreSQL protocol, HTTP, the optimizer) may ask of the database.
//!
//! It is a crate of its own so that `wire` compiles beside `sql` and not after it, and so that the whole of what
//! they know about each other is on this one page. The life of a query through it:
//!
//! ```text
//! simple:    simple_start(text) -> n; n times { simple_next() -> columns; fetch("")* -> Complete }; simple_end()
//! extended:  parse(name, text, types); bind(portal, name, ..); describe_*(..); fetch(portal, max)*; sync()
//! copy in:   fetch -> CopyIn; copy_data(bytes)*; copy_done() or copy_fail(why)
//! copy out:  fetch -> CopyOut, then CopyData*, then Complete
//! ```
//!
//! After an error the way in skips to the next Sync (extended) or ends the string (simple) and calls
//! [`Session::sync`] or [`Session::simple_end`] all the same; the session has noted the failure itself.

pub mod query_log;

use std::net::IpAddr;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use value::{Datum, Error, Oid, Result, text::Style};

/// The database as seen by a way in.
#[async_trait]
pub trait Database: Send + Sync {
    /// What is needed to check a login, `None` for an unknown role. Never fails for lack of rights: the way in
    /// must answer unknown and known roles alike.
    fn login(&self, role: &str) -> Option<Login>;

    /// Opens a session for a role that has proved who it is. Errors (unknown database 3D000, no CONNECT right
    /// 42501, too many connections 53300, still starting 57P03) end the connection.
    async fn open(&self, startup: Startup) -> Result<Box<dyn Session>>;

    /// Cancels what the session with that key runs. Unknown keys are ignored, as the protocol demands.
    fn cancel(&self, process_id: i32, secret: &[u8]);

    /// 32 random bytes of this installation, stable over restarts: the source of mock SCRAM salts.
    fn installation_secret(&self) -> [u8; 32];

    /// Records a failed login in the audit log.
    fn login_failed(&self, role: &str, peer: &Peer, error: &Error);
}

#[derive(Clone, Debug)]
pub struct Login {
    /// SCRAM-SHA-256 verifier in PostgreSQL's text form; `None`: this role has no password.
    pub verifier: Option<String>,
    pub can_login: bool,
    /// The password is past its VALID UNTIL.
    pub expired: bool,
    pub superuser: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        address: IpAddr,
        port: u16,
        tls: bool,
    },
    Unix,
    /// A session inside this process (optimizer, tests).
    Internal,
}

#[derive(Clone, Debug)]
pub struct Startup {
    pub user: String,
    pub database: String,
    pub peer: Peer,
    /// The other startup parameters (application_name, client_encoding, options, any setting).
    pub parameters: Vec<(String, String)>,
}

/// One client's session. Dropping it rolls back and releases everything it held.
#[async_trait]
pub trait Session: Send {
    fn process_id(&self) -> i32;
    /// The secret that a CancelRequest must carry (4 bytes for protocol 3.0).
    fn cancel_secret(&self) -> &[u8];
    /// Settings reported in ParameterStatus, all of them, for the start of a session.
    fn reported_parameters(&self) -> Vec<(&'static str, String)>;
    /// Those that changed since the last call.
    fn changed_parameters(&mut self) -> Vec<(&'static str, String)>;
    /// Notices raised since the last call, in order.
    fn notices(&mut self) -> Vec<Notice>;
    fn transaction_status(&self) -> TransactionStatus;
    /// How values are written as text right now.
    fn style(&self) -> Arc<Style>;

    /// Parses a whole query string; gives the number of statements in it (0: empty query).
    async fn simple_start(&mut self, text: &str) -> Result<usize>;
    /// Resolves, plans and starts the next statement; its rows come from `fetch("")`.
    async fn simple_next(&mut self) -> Result<Option<Arc<[Column]>>>;
    /// Ends the string: commits the implicit transaction (or rolls it back after an error) and waits for durability.
    async fn simple_end(&mut self) -> Result<()>;

    /// Prepares a statement; `types[i] == 0` or 705 leaves parameter i to inference.
    async fn parse(&mut self, name: &str, text: &str, types: &[Oid]) -> Result<()>;
    /// Parameter types and, for statements that return rows, the columns.
    async fn describe_statement(&mut self, name: &str) -> Result<StatementDescription>;
    async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<Parameter>,
        result_formats: &[Format],
    ) -> Result<()>;
    /// Columns with the formats asked for in `bind`, `None` for statements without rows.
    async fn describe_portal(&mut self, portal: &str) -> Result<Option<Arc<[Column]>>>;
    fn close_statement(&mut self, name: &str);
    fn close_portal(&mut self, portal: &str);
    /// The next part of a portal's result; at most `max_rows` rows in all before `Suspended` (0: no limit).
    /// The limit counts from the previous `Suspended`. A chunk is small (up to some 1000 rows) and the next is made on demand.
    async fn fetch(&mut self, portal: &str, max_rows: usize) -> Result<Fetched>;
    /// Ends an extended-protocol batch: commits the implicit transaction, waits for durability.
    async fn sync(&mut self) -> Result<()>;

    /// Bytes of a running COPY FROM STDIN, cut anywhere.
    async fn copy_data(&mut self, data: Bytes) -> Result<()>;
    /// The end of the data; gives the command tag.
    async fn copy_done(&mut self) -> Result<String>;
    /// The client gave up: the statement fails with 57014 and the client's reason.
    fn copy_fail(&mut self, reason: &str) -> Error;

    /// The way in failed on its own in the midst of a batch (a malformed message, a row that cannot be sent): the
    /// transaction fails as after any other error. Called before the `sync` or `simple_end` that ends the batch.
    fn failed(&mut self, _error: &Error) {}

    /// Waits, while nothing runs, for something the client must hear of: `Ok` when notices or changed parameters
    /// wait to be fetched, an error to end the session with it (idle timeout, terminated by another). Must be
    /// safe to drop. Never ready by default.
    async fn idle(&mut self) -> Result<()> {
        std::future::pending().await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

/// A parameter as it arrived; the session decodes it by the statement's type.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub format: Format,
    /// `None` is NULL.
    pub bytes: Option<Bytes>,
}

/// One column of a result (RowDescription).
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// The table and attribute number it comes from, 0 if it is computed.
    pub table: Oid,
    pub attribute: i16,
    pub type_oid: Oid,
    pub type_size: i16,
    pub typmod: i32,
    pub format: Format,
}

#[derive(Clone, Debug)]
pub struct StatementDescription {
    pub parameters: Arc<[Oid]>,
    pub columns: Option<Arc<[Column]>>,
}

/// A part of a result. Both forms have the columns of the description, in order.
#[derive(Clone, Debug)]
pub enum Chunk {
    Rows(Rows),
    /// Columns in the forms of `value::arrow_form` for each column's type.
    Batch(RecordBatch),
}

/// Rows one after the other: value `c` of row `r` is `values[r * columns + c]`.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub columns: usize,
    /// Kept apart because a result may have no columns (`SELECT FROM t`).
    pub count: usize,
    pub values: Vec<Datum>,
}

#[derive(Clone, Debug)]
pub enum Fetched {
    Chunk(Chunk),
    CopyIn(CopyShape),
    CopyOut(CopyShape),
    /// One or more whole rows of a COPY TO STDOUT, already in the asked format.
    CopyData(Bytes),
    /// The portal gave `max_rows`; it can go on.
    Suspended,
    /// Done, with the command tag ("SELECT 3", "INSERT 0 1").
    Complete(String),
    /// An empty query string.
    Empty,
}

#[derive(Clone, Copy, Debug)]
pub struct CopyShape {
    pub format: Format,
    pub columns: usize,
}

#[derive(Clone, Debug)]
pub struct Notice {
    /// NOTICE, WARNING, INFO, LOG, DEBUG.
    pub severity: &'static str,
    pub error: Error,
}
