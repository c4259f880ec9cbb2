//! The health check: proof through the server's own port that it answers queries.
//!
//! Each start writes a new secret to `DATA/.healthcheck` (0600) once clients may come, and removes the file when it stops. The
//! secret is the password of an internal role that exists in no catalog: it may log in from this machine only, and run `SELECT 1`
//! and nothing else. `startdb healthcheck` reads the file and does that; without the file, or with one of an earlier start, the
//! answer is "not ready".

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use async_trait::async_trait;
use bytes::Bytes;
use engine::Engine;
use session::{
    Column, Database, Fetched, Format, Login, Notice, Parameter, Peer, Session, Startup,
    StatementDescription, TransactionStatus,
};
use value::text::Style;
use value::{Error, Oid, Result, SqlState};

use crate::directory;
use crate::shell::{Client, Endpoint, Host, SslMode, Target};

const FILE: &str = ".healthcheck";
/// The role of the health check.
pub const ROLE: &str = "startdb_healthcheck";
/// A server that takes longer to answer is not well.
const PATIENCE: Duration = Duration::from_secs(4);
/// Exit code of `startdb healthcheck` for a server that cannot answer.
const NOT_READY: u8 = 4;

/// The secret of one start; the file goes with it.
pub struct Secret {
    file: PathBuf,
    text: String,
}

impl Secret {
    /// Makes a new one. A file of an earlier start is removed at once: its server is gone.
    pub fn new(data_dir: &Path) -> Secret {
        let file = data_dir.join(FILE);
        remove(&file);
        Secret { file, text: format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()) }
    }

    /// Lets health checks find the server that listens there.
    pub fn publish(&self, listen: SocketAddr) -> Result<()> {
        directory::write_private(&self.file, &format!("{}\n{listen}\n", self.text))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        remove(&self.file);
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "could not remove the file of the health check");
    }
}

/// A database with one more role: that of the health check.
pub struct Guarded {
    inner: Arc<sql::Database>,
    engine: Engine,
    verifier: String,
    /// Where the server listens: who comes from there is on this machine.
    own: Vec<IpAddr>,
}

impl Guarded {
    pub fn new(inner: Arc<sql::Database>, engine: Engine, secret: &Secret, listen: &[SocketAddr]) -> Guarded {
        Guarded {
            inner,
            engine,
            verifier: postgres_protocol::password::scram_sha_256(secret.text.as_bytes()),
            own: listen.iter().map(SocketAddr::ip).collect(),
        }
    }
}

#[async_trait]
impl Database for Guarded {
    fn login(&self, role: &str) -> Option<Login> {
        if role != ROLE {
            return self.inner.login(role);
        }
        Some(Login {
            verifier: Some(self.verifier.clone()),
            can_login: true,
            expired: false,
            // It gets a reserved place: a server that is full of clients is well.
            superuser: true,
        })
    }

    async fn open(&self, startup: Startup) -> Result<Box<dyn Session>> {
        if startup.user != ROLE {
            return self.inner.open(startup).await;
        }
        let near = match &startup.peer {
            Peer::Tcp { address, .. } => address.is_loopback() || self.own.contains(address),
            Peer::Unix | Peer::Internal => true,
        };
        if !near {
            return Err(Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                "the health check logs in from the server's own machine only",
            )
            .fatal());
        }
        if let Some(error) = self.engine.sealed() {
            return Err(error.fatal());
        }
        let session = self.inner.internal_session("template1").await?;
        Ok(Box::new(Narrow { inner: session }))
    }

    fn cancel(&self, process_id: i32, secret: &[u8]) {
        self.inner.cancel(process_id, secret);
    }

    fn installation_secret(&self) -> [u8; 32] {
        self.inner.installation_secret()
    }

    fn login_failed(&self, role: &str, peer: &Peer, error: &Error) {
        self.inner.login_failed(role, peer, error);
    }
}

/// A session that runs `SELECT 1`.
struct Narrow<S> {
    inner: S,
}

fn refused() -> Error {
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "the health check may run SELECT 1 and nothing else")
}

#[async_trait]
impl<S: Session> Session for Narrow<S> {
    fn process_id(&self) -> i32 {
        self.inner.process_id()
    }
    fn cancel_secret(&self) -> &[u8] {
        self.inner.cancel_secret()
    }
    fn reported_parameters(&self) -> Vec<(&'static str, String)> {
        self.inner.reported_parameters()
    }
    fn changed_parameters(&mut self) -> Vec<(&'static str, String)> {
        self.inner.changed_parameters()
    }
    fn notices(&mut self) -> Vec<Notice> {
        self.inner.notices()
    }
    fn transaction_status(&self) -> TransactionStatus {
        self.inner.transaction_status()
    }
    fn style(&self) -> Arc<Style> {
        self.inner.style()
    }

    async fn simple_start(&mut self, text: &str) -> Result<usize> {
        if text != "SELECT 1" {
            return Err(refused());
        }
        self.inner.simple_start(text).await
    }
    async fn simple_next(&mut self) -> Result<Option<Arc<[Column]>>> {
        self.inner.simple_next().await
    }
    async fn simple_end(&mut self) -> Result<()> {
        self.inner.simple_end().await
    }
    async fn fetch(&mut self, portal: &str, max_rows: usize) -> Result<Fetched> {
        self.inner.fetch(portal, max_rows).await
    }
    async fn sync(&mut self) -> Result<()> {
        self.inner.sync().await
    }

    // The extended protocol prepares other statements; there is nothing in it for the health check.
    async fn parse(&mut self, _: &str, _: &str, _: &[Oid]) -> Result<()> {
        Err(refused())
    }
    async fn describe_statement(&mut self, _: &str) -> Result<StatementDescription> {
        Err(refused())
    }
    async fn bind(&mut self, _: &str, _: &str, _: Vec<Parameter>, _: &[Format]) -> Result<()> {
        Err(refused())
    }
    async fn describe_portal(&mut self, _: &str) -> Result<Option<Arc<[Column]>>> {
        Err(refused())
    }
    fn close_statement(&mut self, name: &str) {
        self.inner.close_statement(name);
    }
    fn close_portal(&mut self, portal: &str) {
        self.inner.close_portal(portal);
    }
    async fn copy_data(&mut self, _: Bytes) -> Result<()> {
        Err(refused())
    }
    async fn copy_done(&mut self) -> Result<String> {
        Err(refused())
    }
    fn copy_fail(&mut self, _: &str) -> Error {
        refused()
    }
    fn failed(&mut self, error: &Error) {
        self.inner.failed(error);
    }
    async fn idle(&mut self) -> Result<()> {
        self.inner.idle().await
    }
}

/// `startdb healthcheck`: 0 ready, 4 not.
pub fn check(data_dir: &Path, listen: Option<&str>) -> u8 {
    let (sender, receiver) = mpsc::channel();
    let (data_dir, listen) = (data_dir.to_owned(), listen.map(str::to_owned));
    // On a thread of its own, so that a server that hangs cannot hang the check; the process ends with it.
    thread::spawn(move || sender.send(ask(&data_dir, listen.as_deref())));
    let answer = receiver
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    match answer {
        Ok(()) => {
            println!("ready");
            0
        }
        Err(why) => {
            eprintln!("not ready: {why}");
            NOT_READY
        }
    }
}

fn ask(data_dir: &Path, listen: Option<&str>) -> std::result::Result<(), String> {
    let file = data_dir.join(FILE);
    let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if data_dir.exists() => {
            "the server does not run, or is still starting".to_owned()
        }
        _ => format!("\"{}\": {error}", file.display()),
    })?;
    let mut lines = text.lines();
    let (Some(secret), Some(known)) = (lines.next(), lines.next()) else {
        return Err(format!("\"{}\" is not complete yet", file.display()));
    };
    let known: SocketAddr = known.parse().map_err(|_| format!("\"{}\" names no address", file.display()))?;
    let (address, port) = match listen {
        Some(text) => match text.rsplit_once(':') {
            Some((host, port)) => (
                host.trim_matches(['[', ']']).to_owned(),
                port.parse().map_err(|_| format!("\"{text}\" is not an address like 127.0.0.1:5432"))?,
            ),
            None => return Err(format!("\"{text}\" is not an address like 127.0.0.1:5432")),
        },
        None => (known.ip().to_string(), known.port()),
    };
    // "Everywhere" is no place to connect to.
    let address = match address.as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        _ => address,
    };
    let name = address.clone();
    let target = Target {
        endpoints: vec![Endpoint { host: Host::Tcp { address, name }, port }],
        user: ROLE.to_owned(),
        database: "template1".to_owned(),
        password: Some(secret.to_owned()),
        ssl: if known.ip().is_loopback() || known.ip().is_unspecified() {
            SslMode::Disable
        } else {
            SslMode::Prefer
        },
        connect_timeout: Some(PATIENCE),
        parameters: vec![("application_name".to_owned(), "startdb healthcheck".to_owned())],
        ..Target::default()
    };
    let mut client = Client::connect(&target, &mut |_| None).map_err(|failure| failure.to_string())?;
    let rows = client.rows("SELECT 1").map_err(|failure| failure.to_string())?;
    if rows.text(0, 0) == "1" { Ok(()) } else { Err("SELECT 1 did not give 1".to_owned()) }
}
