//! A database of a dozen statements behind the face that `wire` speaks to, so that every turn of the protocol can
//! be asked for by name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use session::*;
use tokio::sync::Notify;
use value::text::Style;
use value::types::oid;
use value::{Datum, Error, Oid, Result, SqlState};

pub const PASSWORD: &str = "correct horse";

/// What tests look at and turn.
#[derive(Default)]
pub struct Seen {
    pub open_sessions: AtomicUsize,
    pub rows_made: AtomicUsize,
    pub copied: Mutex<Vec<u8>>,
    pub failed_logins: Mutex<Vec<(String, SqlState)>>,
    pub startups: Mutex<Vec<Startup>>,
    pub failures_noted: AtomicUsize,
}

#[derive(Default)]
struct Canceller {
    secret: Vec<u8>,
    wanted: AtomicBool,
    wake: Notify,
}

#[derive(Default)]
pub struct TestDatabase {
    pub seen: Arc<Seen>,
    next: AtomicI32,
    running: Arc<Mutex<HashMap<i32, Arc<Canceller>>>>,
    verifier: std::sync::OnceLock<String>,
}

#[async_trait]
impl Database for TestDatabase {
    fn login(&self, role: &str) -> Option<Login> {
        let verifier =
            self.verifier.get_or_init(|| postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes()));
        let login = |verifier: Option<&str>, can_login, expired, superuser| {
            Some(Login { verifier: verifier.map(str::to_string), can_login, expired, superuser })
        };
        match role {
            "alice" => login(Some(verifier), true, false, false),
            "root" => login(Some(verifier), true, false, true),
            "group" => login(Some(verifier), false, false, false),
            "expired" => login(Some(verifier), true, true, false),
            "nopassword" => login(None, true, false, false),
            _ => None,
        }
    }

    async fn open(&self, startup: Startup) -> Result<Box<dyn Session>> {
        if startup.database == "missing" {
            return Err(Error::new(SqlState::INVALID_CATALOG_NAME, "database \"missing\" does not exist"));
        }
        self.seen.startups.lock().expect("lock").push(startup);
        self.seen.open_sessions.fetch_add(1, Ordering::SeqCst);
        let process = self.next.fetch_add(1, Ordering::SeqCst) + 100;
        let canceller =
            Arc::new(Canceller { secret: (process * 7).to_be_bytes().to_vec(), ..Canceller::default() });
        self.running.lock().expect("lock").insert(process, canceller.clone());
        Ok(Box::new(TestSession {
            process,
            canceller,
            running: self.running.clone(),
            seen: self.seen.clone(),
            status: TransactionStatus::Idle,
            statements: HashMap::new(),
            portals: HashMap::new(),
            queue: Vec::new(),
            notices: Vec::new(),
            changed: Vec::new(),
            commit_fails: false,
            idle: None,
        }))
    }

    fn cancel(&self, process_id: i32, secret: &[u8]) {
        let canceller = self.running.lock().expect("lock").get(&process_id).cloned();
        if let Some(canceller) = canceller.filter(|canceller| canceller.secret == secret) {
            canceller.wanted.store(true, Ordering::SeqCst);
            canceller.wake.notify_one();
        }
    }

    fn installation_secret(&self) -> [u8; 32] {
        [42; 32]
    }

    fn login_failed(&self, role: &str, _peer: &Peer, error: &Error) {
        self.seen.failed_logins.lock().expect("lock").push((role.to_string(), error.state()));
    }
}

struct Portal {
    text: String,
    parameters: Vec<Parameter>,
    formats: Vec<Format>,
    sent: usize,
    since_suspended: usize,
}

struct TestSession {
    process: i32,
    canceller: Arc<Canceller>,
    running: Arc<Mutex<HashMap<i32, Arc<Canceller>>>>,
    seen: Arc<Seen>,
    status: TransactionStatus,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    queue: Vec<String>,
    notices: Vec<Notice>,
    changed: Vec<(&'static str, String)>,
    commit_fails: bool,
    /// What becomes of the next wait for a message.
    idle: Option<&'static str>,
}

impl Drop for TestSession {
    fn drop(&mut self) {
        self.running.lock().expect("lock").remove(&self.process);
        self.seen.open_sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

fn column(name: &str, type_oid: Oid, format: Format) -> Column {
    Column { name: name.to_string(), table: 0, attribute: 0, type_oid, type_size: -1, typmod: -1, format }
}

fn number(text: &str) -> usize {
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

impl TestSession {
    fn columns(&self, portal: &Portal) -> Option<Arc<[Column]>> {
        let format = |index: usize| match portal.formats.as_slice() {
            [] => Format::Text,
            [one] => *one,
            many => many.get(index).copied().unwrap_or_default(),
        };
        match word(&portal.text) {
            "select" if portal.text.contains("$1") => Some([column("echo", oid::TEXT, format(0))].into()),
            "select" => Some([column("n", oid::INT4, format(0))].into()),
            "rows" | "batch" => {
                Some([column("i", oid::INT4, format(0)), column("t", oid::TEXT, format(1))].into())
            }
            "wide" => Some([column("w", oid::TEXT, format(0))].into()),
            "nothing" => Some([].into()),
            _ => None,
        }
    }

    fn failure() -> Error {
        Error::new(SqlState::UNIQUE_VIOLATION, "duplicate key value violates unique constraint \"k\"")
            .detail("Key (a)=(1) already exists.")
            .hint("Try another.")
            .at(Some(8))
            .context("COPY t, line 3")
            .table("public", "t")
            .column("a")
            .constraint("k")
    }

    fn fail(&mut self, error: Error) -> Error {
        if self.status == TransactionStatus::InTransaction {
            self.status = TransactionStatus::Failed;
        }
        error
    }
}

#[async_trait]
impl Session for TestSession {
    fn process_id(&self) -> i32 {
        self.process
    }

    fn cancel_secret(&self) -> &[u8] {
        &self.canceller.secret
    }

    fn reported_parameters(&self) -> Vec<(&'static str, String)> {
        vec![("server_version", "15.0".to_string()), ("client_encoding", "UTF8".to_string())]
    }

    fn changed_parameters(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.changed)
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    fn style(&self) -> Arc<Style> {
        Arc::new(Style::default())
    }

    async fn simple_start(&mut self, text: &str) -> Result<usize> {
        self.queue =
            text.split(';').map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect();
        self.queue.reverse();
        Ok(self.queue.len())
    }

    async fn simple_next(&mut self) -> Result<Option<Arc<[Column]>>> {
        let text = self.queue.pop().expect("simple_start announced it");
        let portal =
            Portal { text, parameters: Vec::new(), formats: Vec::new(), sent: 0, since_suspended: 0 };
        let columns = self.columns(&portal);
        self.portals.insert(String::new(), portal);
        Ok(columns)
    }

    async fn simple_end(&mut self) -> Result<()> {
        self.sync().await
    }

    async fn parse(&mut self, name: &str, text: &str, _types: &[Oid]) -> Result<()> {
        if text.starts_with("bad") {
            return Err(self.fail(Error::new(SqlState::SYNTAX_ERROR, "syntax error").at(Some(1))));
        }
        self.statements.insert(name.to_string(), text.to_string());
        Ok(())
    }

    async fn describe_statement(&mut self, name: &str) -> Result<StatementDescription> {
        let text = self.statements.get(name).cloned().unwrap_or_default();
        let parameters = if text.contains("$1") { vec![oid::TEXT] } else { Vec::new() };
        let portal =
            Portal { text, parameters: Vec::new(), formats: Vec::new(), sent: 0, since_suspended: 0 };
        Ok(StatementDescription { parameters: parameters.into(), columns: self.columns(&portal) })
    }

    async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<Parameter>,
        result_formats: &[Format],
    ) -> Result<()> {
        let Some(text) = self.statements.get(statement).cloned() else {
            let message = format!("prepared statement \"{statement}\" does not exist");
            return Err(self.fail(Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)));
        };
        let formats = result_formats.to_vec();
        self.portals
            .insert(portal.to_string(), Portal { text, parameters, formats, sent: 0, since_suspended: 0 });
        Ok(())
    }

    async fn describe_portal(&mut self, portal: &str) -> Result<Option<Arc<[Column]>>> {
        match self.portals.get(portal) {
            Some(found) => Ok(self.columns(found)),
            None => {
                let message = format!("portal \"{portal}\" does not exist");
                Err(self.fail(Error::new(SqlState::INVALID_CURSOR_NAME, message)))
            }
        }
    }

    fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    fn close_portal(&mut self, portal: &str) {
        self.portals.remove(portal);
    }

    async fn fetch(&mut self, portal: &str, max_rows: usize) -> Result<Fetched> {
        if self.canceller.wanted.swap(false, Ordering::SeqCst) {
            return Err(
                self.fail(Error::new(SqlState::QUERY_CANCELED, "canceling statement due to user request"))
            );
        }
        let portal = self.portals.get_mut(portal).expect("described before");
        let total = number(&portal.text);
        let single = |portal: &mut Portal, value: Datum| {
            if portal.sent > 0 {
                return Ok(Fetched::Complete("SELECT 1".to_string()));
            }
            portal.sent = 1;
            Ok(Fetched::Chunk(Chunk::Rows(Rows { columns: 1, count: 1, values: vec![value] })))
        };
        match word(&portal.text.clone()) {
            "" => Ok(Fetched::Empty),
            "select" if portal.text.contains("$1") => {
                let bytes = portal.parameters.first().and_then(|parameter| parameter.bytes.clone());
                let value = bytes
                    .map_or(Datum::Null, |bytes| Datum::text(String::from_utf8_lossy(&bytes).into_owned()));
                single(portal, value)
            }
            "select" => single(portal, Datum::Int4(total as i32)),
            "nothing" => {
                if portal.sent > 0 {
                    return Ok(Fetched::Complete(format!("SELECT {total}")));
                }
                portal.sent = 1;
                Ok(Fetched::Chunk(Chunk::Rows(Rows { columns: 0, count: total, values: Vec::new() })))
            }
            kind @ ("rows" | "batch") => {
                if max_rows > 0 && portal.since_suspended == max_rows {
                    portal.since_suspended = 0;
                    return Ok(Fetched::Suspended);
                }
                let limit = if max_rows == 0 { usize::MAX } else { max_rows - portal.since_suspended };
                let count = (total - portal.sent).min(1000).min(limit);
                if count == 0 {
                    return Ok(Fetched::Complete(format!("SELECT {total}")));
                }
                let first = portal.sent;
                portal.sent += count;
                portal.since_suspended += count;
                self.seen.rows_made.fetch_add(count, Ordering::SeqCst);
                let numbers = (first..first + count).map(|row| row as i32);
                if kind == "rows" {
                    let values = numbers
                        .flat_map(|row| [Datum::Int4(row), Datum::text(format!("row {row}"))])
                        .collect();
                    return Ok(Fetched::Chunk(Chunk::Rows(Rows { columns: 2, count, values })));
                }
                let texts: Vec<Option<String>> =
                    numbers.clone().map(|row| (row % 10 != 3).then(|| format!("row {row}"))).collect();
                let columns: [(&str, ArrayRef); 2] = [
                    ("i", Arc::new(Int32Array::from_iter_values(numbers))),
                    ("t", Arc::new(StringArray::from(texts))),
                ];
                let batch = RecordBatch::try_from_iter_with_nullable(
                    columns.map(|(name, array)| (name, array, true)),
                );
                Ok(Fetched::Chunk(Chunk::Batch(batch.expect("columns of one length"))))
            }
            "wide" => {
                if portal.sent > 0 {
                    return Ok(Fetched::Complete("SELECT 100".to_string()));
                }
                portal.sent = 1;
                let text = Datum::text("x".repeat(total));
                Ok(Fetched::Chunk(Chunk::Rows(Rows { columns: 1, count: 100, values: vec![text; 100] })))
            }
            "error" => Err(self.fail(TestSession::failure())),
            "fatal" => Err(Error::new(SqlState::CRASH_SHUTDOWN, "the end").fatal()),
            "panic" => panic!("a planted panic"),
            "sleep" => {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(total as u64)) => Ok(Fetched::Complete("SLEEP".to_string())),
                    () = self.canceller.wake.notified() => {
                        self.canceller.wanted.store(false, Ordering::SeqCst);
                        Err(self.fail(Error::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")))
                    }
                }
            }
            "notice" => {
                let error = Error::new(SqlState::SUCCESSFUL_COMPLETION, portal.text.clone());
                self.notices.push(Notice { severity: "NOTICE", error });
                Ok(Fetched::Complete("DO".to_string()))
            }
            "set" => {
                self.changed.push(("application_name", portal.text.clone()));
                Ok(Fetched::Complete("SET".to_string()))
            }
            "begin" => {
                self.status = TransactionStatus::InTransaction;
                Ok(Fetched::Complete("BEGIN".to_string()))
            }
            "commit" => {
                self.status = TransactionStatus::Idle;
                Ok(Fetched::Complete("COMMIT".to_string()))
            }
            "remind" => {
                self.idle = Some("remind");
                Ok(Fetched::Complete("DO".to_string()))
            }
            "expire" => {
                self.idle = Some("expire");
                Ok(Fetched::Complete("DO".to_string()))
            }
            "failcommit" => {
                self.commit_fails = true;
                Ok(Fetched::Complete("INSERT 0 1".to_string()))
            }
            "copyin" => Ok(Fetched::CopyIn(CopyShape { format: Format::Text, columns: 2 })),
            "copyout" => {
                portal.sent += 1;
                match portal.sent {
                    1 => Ok(Fetched::CopyOut(CopyShape { format: Format::Text, columns: 1 })),
                    2 => {
                        let lines: String = (0..total).map(|line| format!("{line}\n")).collect();
                        Ok(Fetched::CopyData(Bytes::from(lines)))
                    }
                    _ => Ok(Fetched::Complete(format!("COPY {total}"))),
                }
            }
            other => {
                let message = format!("syntax error at or near \"{other}\"");
                Err(self.fail(Error::new(SqlState::SYNTAX_ERROR, message).at(Some(1))))
            }
        }
    }

    async fn sync(&mut self) -> Result<()> {
        if std::mem::take(&mut self.commit_fails) {
            return Err(Error::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access"));
        }
        Ok(())
    }

    async fn copy_data(&mut self, data: Bytes) -> Result<()> {
        if data.starts_with(b"poison") {
            return Err(self.fail(Error::new(SqlState::BAD_COPY_FILE_FORMAT, "extra data")));
        }
        self.seen.copied.lock().expect("lock").extend_from_slice(&data);
        Ok(())
    }

    async fn copy_done(&mut self) -> Result<String> {
        let lines = self.seen.copied.lock().expect("lock").iter().filter(|byte| **byte == b'\n').count();
        Ok(format!("COPY {lines}"))
    }

    fn copy_fail(&mut self, reason: &str) -> Error {
        self.fail(Error::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {reason}")))
    }

    fn failed(&mut self, _error: &Error) {
        self.seen.failures_noted.fetch_add(1, Ordering::SeqCst);
    }

    async fn idle(&mut self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        match self.idle.take() {
            Some("remind") => {
                let error = Error::new(SqlState::SUCCESSFUL_COMPLETION, "a reminder");
                self.notices.push(Notice { severity: "NOTICE", error });
                Ok(())
            }
            Some(_) => Err(Error::new(SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, "idle for too long")),
            None => std::future::pending().await,
        }
    }
}
