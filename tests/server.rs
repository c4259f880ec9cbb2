//! A StartDB of the test's own: the real binary in its own directory on free ports.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, Login};
use crate::programs;

pub const PASSWORD: &str = "correct horse";

/// The server is stopped (hard) and its directory removed when this is dropped.
pub struct Server {
    directory: TempDir,
    /// Where the data is, if not in `directory`.
    place: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    pub address: SocketAddr,
    pub http: SocketAddr,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// With settings, each `key=value`.
    pub fn start_with(settings: &[&str]) -> Server {
        Server::start_at(None, settings, &[])
    }

    /// With settings, and with variables in its environment.
    pub fn start_with_environment(settings: &[&str], environment: &[(&str, &str)]) -> Server {
        Server::start_at(None, settings, environment)
    }

    /// With the data in a directory that the test provides.
    pub fn start_in(place: &Path, settings: &[&str]) -> Server {
        Server::start_at(Some(place.to_path_buf()), settings, &[])
    }

    fn start_at(place: Option<PathBuf>, settings: &[&str], environment: &[(&str, &str)]) -> Server {
        let directory = tempfile::Builder::new().prefix("startdb-test-").tempdir().expect("a directory");
        let arguments =
            settings.iter().flat_map(|setting| [String::from("-c"), (*setting).to_owned()]).collect();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (address, http) = (free_address(), free_address());
        let mut server = Server { directory, place, arguments, environment, child: None, address, http };
        server.launch();
        server
    }

    /// One in which `statement_panic` and `optimizer_panic` in a statement's text make the session or the optimizer panic.
    pub fn start_planted() -> Server {
        Server::start_with_environment(&[], &[("STARTDB_TEST_PANIC", "1")])
    }

    /// The command that starts this server.
    pub fn command(&self) -> Command {
        let mut command = binary();
        command
            .args(["start", "--listen", &self.address.to_string(), "--http", &self.http.to_string()])
            .arg("--data-dir")
            .arg(self.data())
            .args(&self.arguments)
            .env("POSTGRES_PASSWORD", PASSWORD)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the process and waits until it takes connections; how long that took.
    pub fn launch(&mut self) -> Duration {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let begin = Instant::now();
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server's binary");
        self.child = Some(child);
        while get(self.http, "/readyz").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            let ended = self.child.as_mut().expect("a child").try_wait().expect("a status");
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", self.log());
            assert!(begin.elapsed() < Duration::from_secs(60), "not ready after a minute:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }

    pub fn data(&self) -> PathBuf {
        self.place.clone().unwrap_or_else(|| self.directory.path().join("data"))
    }

    /// A place for files of the test, removed with the server.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn login(&self) -> Login {
        Login {
            address: self.address,
            user: String::from("postgres"),
            password: PASSWORD.to_owned(),
            database: String::from("postgres"),
        }
    }

    pub fn connect(&self) -> Client {
        self.login().connect()
    }

    /// For libpq programs: where and as whom.
    pub fn libpq(&self, program: &str) -> Command {
        let mut command = programs::command(program);
        command
            .env("PGHOST", self.address.ip().to_string())
            .env("PGPORT", self.address.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "20")
            .env_remove("PGSSLMODE");
        command
    }

    /// Ends it cleanly, clients or not, and gives what it ended with.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait(Duration::from_secs(30))
    }

    /// The end nobody prepares for.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(30));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a running server");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a running server"))
    }

    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let begin = Instant::now();
        let mut child = self.child.take().expect("a running server");
        loop {
            if let Some(status) = child.try_wait().expect("a status") {
                return status;
            }
            if begin.elapsed() > patience {
                child.kill().expect("killed");
                child.wait().expect("ended");
                panic!("still running after {patience:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status_line("VmRSS:")
    }

    /// Forgets the highest resident memory so far, so that `peak_memory` means "since now".
    pub fn reset_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.pid().as_raw_nonzero());
        fs::write(file, "5").expect("Linux with /proc");
    }

    pub fn peak_memory(&self) -> u64 {
        self.status_line("VmHWM:")
    }

    fn status_line(&self, name: &str) -> u64 {
        let text =
            fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).expect("/proc");
        let line = text.lines().find(|line| line.starts_with(name)).expect("the line");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number")
            * 1024
    }

    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a status").is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("--- the server's last words");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// The program under test, without a surrounding's settings.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_startdb"));
    for (name, _) in std::env::vars() {
        let prefixes = ["STARTDB_", "POSTGRES_", "OTEL_"];
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "PGDATA" {
            command.env_remove(name);
        }
    }
    command
}

/// A port that nobody listens on, from below those that the system gives to outgoing connections: with thousands of clients
/// at once one of theirs could be the port that was free a moment ago.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).expect("below 65,536");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A plain HTTP GET; none while nobody listens.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A file of this folder of tests.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// Makes an empty file to write into.
pub fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
