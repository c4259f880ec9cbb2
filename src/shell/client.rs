//! A client of the server over the wire: blocking, one socket, the simple protocol. The drivers there are hide what a shell
//! has to show (column types of simple queries, notices in order, COPY among other statements), so messages are read here; those
//! sent, and SCRAM, come from `postgres-protocol`.
//!
//! Waiting is done in short reads: between two of them the client looks whether Ctrl-C was pressed, and then sends a
//! CancelRequest once per press and goes on reading, because the server answers a cancelled statement too.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Binding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use rustls::StreamOwned;

use super::target::{ChannelBinding, Endpoint, Host, SessionAttributes, SslMode, Target};
use super::tls;

/// Between two looks at Ctrl-C and the clock.
const TICK: Duration = Duration::from_millis(50);
/// A message longer than this is no message of a server.
const LONGEST_MESSAGE: usize = 1 << 30;
/// Data of a COPY goes out in pieces of about this size.
const COPY_PIECE: usize = 64 << 10;

/// Set by Ctrl-C, taken by whoever acts on it.
static INTERRUPTED: std::sync::LazyLock<Arc<AtomicBool>> = std::sync::LazyLock::new(Arc::default);

/// True while nothing runs that Ctrl-C could cancel.
static IDLE: std::sync::LazyLock<Arc<AtomicBool>> =
    std::sync::LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// From now on Ctrl-C is noted; with `end_when_idle` it still ends the process while no statement runs.
pub fn watch_interrupts(end_when_idle: bool) -> io::Result<()> {
    if end_when_idle {
        signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, IDLE.clone())?;
    }
    signal_hook::flag::register(signal_hook::consts::SIGINT, INTERRUPTED.clone()).map(drop)
}

/// Says whether a statement runs that Ctrl-C should cancel.
pub fn set_running(running: bool) {
    IDLE.store(!running, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed since the last call.
pub fn interrupted() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}

/// The fields of an ErrorResponse or NoticeResponse by their letter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report(BTreeMap<u8, String>);

impl Report {
    fn parse(body: &[u8]) -> Report {
        let fields = body.split(|byte| *byte == 0).filter_map(|field| {
            let (letter, text) = field.split_first()?;
            Some((*letter, String::from_utf8_lossy(text).into_owned()))
        });
        Report(fields.collect())
    }

    fn field(&self, letter: u8) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }

    pub fn severity(&self) -> &str {
        self.field(b'S')
    }
    pub fn state(&self) -> &str {
        self.field(b'C')
    }
    pub fn message(&self) -> &str {
        self.field(b'M')
    }
    pub fn detail(&self) -> &str {
        self.field(b'D')
    }
    pub fn hint(&self) -> &str {
        self.field(b'H')
    }
    pub fn context(&self) -> &str {
        self.field(b'W')
    }
    /// Where in the statement, in characters from 1.
    pub fn position(&self) -> Option<usize> {
        self.field(b'P').parse().ok().filter(|position| *position > 0)
    }
    /// Names of the objects it is about, for `\errverbose`.
    pub fn objects(&self) -> Vec<(&'static str, &str)> {
        [
            ("SCHEMA NAME", b's'),
            ("TABLE NAME", b't'),
            ("COLUMN NAME", b'c'),
            ("DATATYPE NAME", b'd'),
            ("CONSTRAINT NAME", b'n'),
        ]
        .into_iter()
        .map(|(label, letter)| (label, self.field(letter)))
        .filter(|(_, text)| !text.is_empty())
        .collect()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server says no; the connection may live on.
    Refused(Box<Report>),
    /// The connection is gone, or never was.
    Lost(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(report) => {
                write!(f, "{} {}: {}", report.severity(), report.state(), report.message())?;
                for (label, text) in [("DETAIL", report.detail()), ("HINT", report.hint())] {
                    if !text.is_empty() {
                        write!(f, "\n{label}:  {text}")?;
                    }
                }
                Ok(())
            }
            Failure::Lost(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Lost(match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                "the server closed the connection unexpectedly".to_owned()
            }
            _ => format!("the connection failed: {error}"),
        })
    }
}

fn violation(what: &str) -> Failure {
    Failure::Lost(format!("the server does not follow the protocol: {what}"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
}

/// One row; NULL is `None`.
pub type Row = Vec<Option<Bytes>>;

/// What a server says in answer to a query.
pub enum Event {
    Columns(Vec<Column>),
    Row(Row),
    /// One statement is done: its command tag.
    Complete(String),
    /// An empty query string.
    Empty,
    Error(Box<Report>),
    Notice(Box<Report>),
    /// It waits for data, which [`Client::copy_data`] sends.
    CopyIn,
    CopyOut,
    CopyData(Bytes),
    CopyDone,
    Notification {
        channel: String,
        payload: String,
        process: i32,
    },
    /// All is answered.
    Ready,
}

/// A whole result kept in memory, for the shell's own questions.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Value `column` of row `row`, empty for NULL.
    pub fn text(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|row| row.get(column)?.as_deref()).unwrap_or_default()
    }
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<rustls::ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
            Stream::Unix(stream) => stream.flush(),
        }
    }
}

impl Stream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Tls(stream) => stream.sock.set_read_timeout(timeout),
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }
}

/// Asks a person (or whoever knows) for the password of a user; `None`: there is nobody to ask.
pub type AskPassword<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// Called while a statement runs, with the time since it was sent.
pub type Watcher = Box<dyn FnMut(Duration)>;

/// A session. Dropping it says goodbye.
pub struct Client {
    stream: Stream,
    input: BytesMut,
    endpoint: Endpoint,
    target: Target,
    process: i32,
    secret: i32,
    parameters: BTreeMap<String, String>,
    /// `I`dle, in a `T`ransaction, in a fail`E`d one.
    status: u8,
    begun: Instant,
    cancelled: bool,
    pub watcher: Option<Watcher>,
}

impl Client {
    /// Tries the target's endpoints in their order; the error of the last one is given back, those of the others before it.
    pub fn connect(target: &Target, ask: AskPassword<'_>) -> Result<Client, Failure> {
        let mut failures = Vec::new();
        for endpoint in &target.endpoints {
            match Client::connect_endpoint(target, endpoint, ask) {
                Ok(mut client) => match client.suits(target.session) {
                    Ok(true) => return Ok(client),
                    Ok(false) => failures.push(format!(
                        "connection to {} failed: the session cannot do what target_session_attrs asks for",
                        endpoint.shown()
                    )),
                    Err(failure) => return Err(failure),
                },
                // What the server itself refused will not get better elsewhere; libpq goes on only for connection trouble.
                Err(Failure::Refused(report)) if !report.state().starts_with("57P0") => {
                    return Err(Failure::Refused(report));
                }
                Err(failure) if target.endpoints.len() == 1 => return Err(failure),
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        Err(Failure::Lost(failures.join("\n")))
    }

    fn suits(&mut self, wanted: SessionAttributes) -> Result<bool, Failure> {
        if wanted == SessionAttributes::Any {
            return Ok(true);
        }
        let read_only = self.rows("SHOW transaction_read_only")?.text(0, 0) == "on";
        Ok(read_only == (wanted == SessionAttributes::ReadOnly))
    }

    fn connect_endpoint(
        target: &Target,
        endpoint: &Endpoint,
        ask: AskPassword<'_>,
    ) -> Result<Client, Failure> {
        match Client::log_in(target, endpoint, target.ssl, ask) {
            // `allow`: plain first, and TLS when the server does not take that.
            Err(Failure::Refused(report)) if target.ssl == SslMode::Allow && report.state() == "28000" => {
                Client::log_in(target, endpoint, SslMode::Require, ask)
            }
            other => other,
        }
    }

    fn log_in(
        target: &Target,
        endpoint: &Endpoint,
        mode: SslMode,
        ask: AskPassword<'_>,
    ) -> Result<Client, Failure> {
        // Passwords are tried in the order of how deliberately they were given; only a person is asked after a failure.
        let mut passwords = Vec::new();
        match &target.password {
            Some(password) => passwords.push(password.clone()),
            None => {
                passwords.extend(target.remembered.clone());
                match target.password_from_file(endpoint) {
                    Ok(found) => passwords.extend(found),
                    Err(warning) => eprintln!("WARNING: {warning}"),
                }
                if let Some(file) = &target.initial_password
                    && let Ok(text) = fs::read_to_string(file)
                {
                    passwords.push(text.trim_end().to_owned());
                }
            }
        }
        let mut passwords: VecDeque<String> = passwords.into();
        let mut tried = None;
        let mut asked = false;
        loop {
            let (mut used, mut exhausted) = (None, false);
            let mut next = || {
                let found = passwords.pop_front();
                used.clone_from(&found);
                exhausted |= found.is_none();
                found
            };
            match Client::attempt(target, endpoint, mode, &mut next) {
                // One that was given outright and is wrong is an error, not a question.
                Err(Failure::Refused(report))
                    if report.state() == "28P01" && used.is_some() && !asked && target.password.is_none() =>
                {
                    tried = Some(report);
                }
                // A person takes longer than a server waits, so the connection is made anew with the answer.
                Err(lost) if exhausted && !asked => match ask(&target.user) {
                    Some(password) => {
                        asked = true;
                        passwords.push_back(password);
                    }
                    None => return Err(tried.map_or(lost, Failure::Refused)),
                },
                Ok(mut client) => {
                    client.target.remembered = used;
                    return Ok(client);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn attempt(
        target: &Target,
        endpoint: &Endpoint,
        mode: SslMode,
        password: &mut dyn FnMut() -> Option<String>,
    ) -> Result<Client, Failure> {
        let unreachable = |error: &dyn fmt::Display| {
            Failure::Lost(format!("could not connect to {}: {error}", endpoint.shown()))
        };
        let (stream, binding) = match &endpoint.host {
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", endpoint.port));
                let stream = UnixStream::connect(path).map_err(|error| unreachable(&error))?;
                (Stream::Unix(stream), None)
            }
            Host::Tcp { address, name } => {
                let plain = connect_tcp(address, endpoint.port, target.connect_timeout)
                    .map_err(|error| unreachable(&error))?;
                plain.set_nodelay(true)?;
                secure(plain, target, mode, name, &unreachable)?
            }
        };
        stream.set_read_timeout(Some(TICK))?;
        let mut client = Client {
            stream,
            input: BytesMut::new(),
            endpoint: endpoint.clone(),
            target: target.clone(),
            process: 0,
            secret: 0,
            parameters: BTreeMap::new(),
            status: b'I',
            begun: Instant::now(),
            cancelled: false,
            watcher: None,
        };
        client.authenticate(binding, password)?;
        Ok(client)
    }

    fn authenticate(
        &mut self,
        binding: Option<Vec<u8>>,
        password: &mut dyn FnMut() -> Option<String>,
    ) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        let parameters = [("user", self.target.user.clone()), ("database", self.target.database.clone())];
        let all = parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(self.target.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        frontend::startup_message(all, &mut out)?;
        self.send(&out)?;
        let required = self.target.channel_binding == ChannelBinding::Require;
        let mut bound = false;
        let mut scram: Option<ScramSha256> = None;
        let no_password = || Failure::Lost("the server asks for a password and none was given".to_owned());
        let deadline = self.target.connect_timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let (tag, mut body) = self.message(deadline)?;
            if tag == b'E' {
                return Err(Failure::Refused(Box::new(Report::parse(&body))));
            }
            if tag != b'R' {
                match self.aside(tag, &mut body)? {
                    // The server said that the login is good, and this is the greeting behind it.
                    Some(Event::Ready) => return Ok(()),
                    Some(Event::Notice(report)) => eprintln!("{}:  {}", report.severity(), report.message()),
                    _ => {}
                }
                continue;
            }
            if body.len() < 4 {
                return Err(violation("a short authentication message"));
            }
            out.clear();
            match body.get_u32() {
                0 if required && !bound => {
                    return Err(Failure::Lost(
                        "channel binding is required, but the server logged us in without it".to_owned(),
                    ));
                }
                0 => continue,
                _ if required && scram.is_none() && !offers(&body, SCRAM_SHA_256_PLUS) => {
                    return Err(Failure::Lost(
                        "channel binding is required, but the server does not offer it".to_owned(),
                    ));
                }
                3 => {
                    let password = password().ok_or_else(no_password)?;
                    frontend::password_message(password.as_bytes(), &mut out)?;
                }
                5 => {
                    let salt: [u8; 4] =
                        body[..].try_into().map_err(|_| violation("a salt of the wrong length"))?;
                    let password = password().ok_or_else(no_password)?;
                    let hash = postgres_protocol::authentication::md5_hash(
                        self.target.user.as_bytes(),
                        password.as_bytes(),
                        salt,
                    );
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                10 => {
                    let disabled = self.target.channel_binding == ChannelBinding::Disable;
                    let (mechanism, chosen) = match &binding {
                        Some(hash) if offers(&body, SCRAM_SHA_256_PLUS) && !disabled => {
                            bound = true;
                            (SCRAM_SHA_256_PLUS, Binding::tls_server_end_point(hash.clone()))
                        }
                        Some(_) if !disabled => (SCRAM_SHA_256, Binding::unrequested()),
                        _ => (SCRAM_SHA_256, Binding::unsupported()),
                    };
                    if !offers(&body, mechanism) {
                        return Err(violation("no way of authentication that is known here"));
                    }
                    let password = password().ok_or_else(no_password)?;
                    let exchange = ScramSha256::new(password.as_bytes(), chosen);
                    frontend::sasl_initial_response(mechanism, exchange.message(), &mut out)?;
                    scram = Some(exchange);
                }
                11 => {
                    let exchange = scram.as_mut().ok_or_else(|| violation("SCRAM out of order"))?;
                    exchange.update(&body)?;
                    frontend::sasl_response(exchange.message(), &mut out)?;
                }
                12 => {
                    let exchange = scram.as_mut().ok_or_else(|| violation("SCRAM out of order"))?;
                    exchange.finish(&body).map_err(|_| {
                        Failure::Lost(
                            "the server does not know this user's password: it may be an impostor".to_owned(),
                        )
                    })?;
                    continue;
                }
                other => {
                    return Err(Failure::Lost(format!(
                        "the server asks for authentication method {other}, which is not supported here"
                    )));
                }
            }
            self.send(&out)?;
        }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The protocol and cipher of TLS, when the connection has it.
    pub fn encryption(&self) -> Option<String> {
        let Stream::Tls(stream) = &self.stream else { return None };
        let version = stream.conn.protocol_version()?.as_str()?.replace('_', ".");
        let suite = stream.conn.negotiated_cipher_suite()?.suite();
        Some(format!("{version}, {}", suite.as_str()?))
    }

    /// A setting the server reports, empty if it does not.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    pub fn process_id(&self) -> i32 {
        self.process
    }

    /// `I`dle, in a `T`ransaction, in a fail`E`d one.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Sends a query string; its answer comes from [`Client::event`] up to `Event::Ready`.
    pub fn query(&mut self, text: &str) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        if text.contains('\0') {
            return Err(Failure::Lost("a statement cannot contain a zero byte".to_owned()));
        }
        frontend::query(text, &mut out)?;
        self.begun = Instant::now();
        self.send(&out)
    }

    /// Whether a person cancelled something since the last call.
    pub fn take_cancelled(&mut self) -> bool {
        std::mem::take(&mut self.cancelled)
    }

    /// Time since the last query was sent.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The next thing the server says.
    pub fn event(&mut self) -> Result<Event, Failure> {
        loop {
            let (tag, mut body) = self.message(None)?;
            if let Some(event) = self.aside(tag, &mut body)? {
                return Ok(event);
            }
        }
    }

    /// Runs one string to its end and keeps the rows of its last result. Notices are dropped.
    pub fn rows(&mut self, text: &str) -> Result<Rows, Failure> {
        self.query(text)?;
        let mut found = Rows::default();
        let mut error = None;
        loop {
            match self.event()? {
                Event::Columns(columns) => found = Rows { columns, rows: Vec::new() },
                Event::Row(row) => {
                    let text = |value: Option<Bytes>| {
                        value.map(|value| String::from_utf8_lossy(&value).into_owned())
                    };
                    found.rows.push(row.into_iter().map(text).collect());
                }
                Event::Error(report) => error = Some(report),
                Event::CopyIn => self.copy_fail("no data is sent here")?,
                Event::Ready => break,
                _ => {}
            }
        }
        match error {
            Some(report) => Err(Failure::Refused(report)),
            None => Ok(found),
        }
    }

    /// Data of a COPY FROM STDIN, cut anywhere.
    pub fn copy_data(&mut self, data: &[u8]) -> Result<(), Failure> {
        for piece in data.chunks(COPY_PIECE) {
            let mut out = BytesMut::with_capacity(piece.len() + 5);
            frontend::CopyData::new(piece)?.write(&mut out);
            self.send(&out)?;
        }
        Ok(())
    }

    /// The end of the data.
    pub fn copy_done(&mut self) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::copy_done(&mut out);
        self.send(&out)
    }

    /// No data after all; the statement fails with the reason.
    pub fn copy_fail(&mut self, reason: &str) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::copy_fail(reason, &mut out)?;
        self.send(&out)
    }

    /// Asks the server, over a connection of its own, to stop what this session runs.
    pub fn cancel(&self) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::cancel_request(self.process, self.secret, &mut out);
        let timeout = Some(Duration::from_secs(5));
        match &self.endpoint.host {
            Host::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", self.endpoint.port));
                UnixStream::connect(path)?.write_all(&out)?;
            }
            Host::Tcp { address, name } => {
                let plain = connect_tcp(address, self.endpoint.port, timeout)?;
                let unreachable = |error: &dyn fmt::Display| Failure::Lost(error.to_string());
                // The key deserves the protection that the session has.
                let (mut stream, _) = match self.stream {
                    Stream::Tls(_) => secure(plain, &self.target, SslMode::Require, name, &unreachable)?,
                    _ => (Stream::Tcp(plain), None),
                };
                stream.write_all(&out)?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| self.last_words().unwrap_or_else(|| error.into()))
    }

    /// What a server said before it closed the connection, if it said anything.
    fn last_words(&mut self) -> Option<Failure> {
        let deadline = Instant::now() + TICK;
        while let Ok((tag, mut body)) = self.message(Some(deadline)) {
            if let Err(failure) = self.aside(tag, &mut body) {
                return Some(failure);
            }
        }
        None
    }

    /// One whole message.
    fn message(&mut self, deadline: Option<Instant>) -> Result<(u8, Bytes), Failure> {
        loop {
            if self.input.len() >= 5 {
                let length =
                    u32::from_be_bytes([self.input[1], self.input[2], self.input[3], self.input[4]]) as usize;
                if !(4..=LONGEST_MESSAGE).contains(&length) {
                    return Err(violation("a message of impossible length"));
                }
                if self.input.len() > length {
                    let mut whole = self.input.split_to(length + 1).freeze();
                    let tag = whole.get_u8();
                    whole.advance(4);
                    return Ok((tag, whole));
                }
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        let mut piece = [0; 32 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => {
                    self.input.extend_from_slice(&piece[..count]);
                    self.look_around()?;
                    return Ok(());
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) =>
                {
                    self.look_around()?;
                    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                        return Err(Failure::Lost(format!(
                            "could not connect to {}: timeout expired",
                            self.endpoint.shown()
                        )));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ctrl-C and the watcher.
    fn look_around(&mut self) -> Result<(), Failure> {
        if interrupted() {
            // Before the key is known there is no statement to cancel: the person gave up the login.
            if self.process == 0 {
                return Err(Failure::Lost("interrupted".to_owned()));
            }
            self.cancelled = true;
            self.cancel()?;
        }
        let elapsed = self.begun.elapsed();
        if let Some(watcher) = &mut self.watcher {
            watcher(elapsed);
        }
        Ok(())
    }

    /// Turns a message into an event; `None` for those that only change what is known of the session.
    fn aside(&mut self, tag: u8, body: &mut Bytes) -> Result<Option<Event>, Failure> {
        Ok(Some(match tag {
            b'T' => Event::Columns(columns(body).ok_or_else(|| violation("a malformed RowDescription"))?),
            b'D' => Event::Row(row(body).ok_or_else(|| violation("a malformed DataRow"))?),
            b'C' => Event::Complete(text(body).ok_or_else(|| violation("a malformed CommandComplete"))?),
            b'I' => Event::Empty,
            b'E' => {
                let report = Report::parse(body);
                if report.severity() == "FATAL" || report.severity() == "PANIC" {
                    // Nothing follows but the end of the connection.
                    return Err(Failure::Lost(format!(
                        "{} {}: {}",
                        report.severity(),
                        report.state(),
                        report.message()
                    )));
                }
                Event::Error(Box::new(report))
            }
            b'N' => Event::Notice(Box::new(Report::parse(body))),
            b'G' => Event::CopyIn,
            b'H' => Event::CopyOut,
            b'd' => Event::CopyData(body.clone()),
            b'c' => Event::CopyDone,
            b'Z' => {
                self.status = body.first().copied().unwrap_or(b'I');
                Event::Ready
            }
            b'A' => {
                if body.len() < 4 {
                    return Err(violation("a malformed NotificationResponse"));
                }
                let process = body.get_i32();
                let channel = text(body).unwrap_or_default();
                let payload = text(body).unwrap_or_default();
                Event::Notification { channel, payload, process }
            }
            b'S' => {
                if let (Some(name), Some(value)) = (text(body), text(body)) {
                    self.parameters.insert(name, value);
                }
                return Ok(None);
            }
            b'K' => {
                if body.len() >= 8 {
                    self.process = body.get_i32();
                    self.secret = body.get_i32();
                }
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        // The goodbye is a courtesy; a connection that is gone needs none.
        let _ = self.stream.write_all(&out).and_then(|()| self.stream.flush());
    }
}

/// Whether a list of SASL mechanisms holds one.
fn offers(body: &[u8], mechanism: &str) -> bool {
    body.split(|byte| *byte == 0).any(|name| name == mechanism.as_bytes())
}

fn connect_tcp(address: &str, port: u16, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (address, port).to_socket_addrs()? {
        let connected = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// TLS as the mode asks for it; with it, the hash of the certificate for channel binding.
fn secure(
    mut plain: TcpStream,
    target: &Target,
    mode: SslMode,
    name: &str,
    unreachable: &dyn Fn(&dyn fmt::Display) -> Failure,
) -> Result<(Stream, Option<Vec<u8>>), Failure> {
    if matches!(mode, SslMode::Disable | SslMode::Allow) {
        return Ok((Stream::Tcp(plain), None));
    }
    plain.set_read_timeout(Some(target.connect_timeout.unwrap_or(Duration::from_secs(60))))?;
    if !target.ssl_direct {
        let mut out = BytesMut::new();
        frontend::ssl_request(&mut out);
        plain.write_all(&out)?;
        let mut answer = [0];
        plain.read_exact(&mut answer).map_err(|error| unreachable(&error))?;
        if answer[0] != b'S' {
            if mode == SslMode::Prefer {
                return Ok((Stream::Tcp(plain), None));
            }
            return Err(unreachable(&"the server does not support TLS, but sslmode asks for it"));
        }
    }
    let connection = tls::client(target, mode, name).map_err(|error| unreachable(&error))?;
    let mut stream = StreamOwned::new(connection, plain);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| unreachable(&error))?;
    }
    let hash = stream.conn.peer_certificates().and_then(|chain| tls::binding_hash(chain.first()?));
    Ok((Stream::Tls(Box::new(stream)), hash))
}

fn text(body: &mut Bytes) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = String::from_utf8_lossy(&body[..end]).into_owned();
    body.advance(end + 1);
    Some(text)
}

fn columns(body: &mut Bytes) -> Option<Vec<Column>> {
    let count = body.try_get_u16().ok()?;
    (0..count)
        .map(|_| {
            let name = text(body)?;
            if body.len() < 18 {
                return None;
            }
            body.advance(6);
            let type_oid = body.get_u32();
            body.advance(2);
            let typmod = body.get_i32();
            body.advance(2);
            Some(Column { name, type_oid, typmod })
        })
        .collect()
}

fn row(body: &mut Bytes) -> Option<Row> {
    let count = body.try_get_u16().ok()?;
    (0..count)
        .map(|_| {
            let length = body.try_get_i32().ok()?;
            match usize::try_from(length) {
                Err(_) => Some(None),
                Ok(length) if length <= body.len() => Some(Some(body.split_to(length))),
                Ok(_) => None,
            }
        })
        .collect()
}
