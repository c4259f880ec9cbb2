//! A PostgreSQL client of our own: blocking, one socket, nothing hidden. Unlike the drivers it hands back what really
//! came over the wire (tags, notices, every field of an error), asks for text in the extended protocol too, and can be
//! told to misbehave.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

/// How long a test waits for any one message before it is given up as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub struct Login {
    pub address: SocketAddr,
    pub user: String,
    pub password: String,
    pub database: String,
}

impl Login {
    pub fn database(&self, name: &str) -> Login {
        Login { database: name.to_owned(), ..self.clone() }
    }

    pub fn user(&self, user: &str, password: &str) -> Login {
        Login { user: user.to_owned(), password: password.to_owned(), ..self.clone() }
    }

    pub fn connect(&self) -> Client {
        self.try_connect().unwrap_or_else(|error| panic!("{}@{}: {error}", self.user, self.address))
    }

    pub fn try_connect(&self) -> Result<Client, Failure> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client =
            Client { stream, pid: 0, secret: Vec::new(), parameters: BTreeMap::new(), status: b'I' };
        client.log_in(self)?;
        Ok(client)
    }
}

/// What a server says when it refuses: the fields of an ErrorResponse by their letter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorFields(BTreeMap<char, String>);

impl ErrorFields {
    fn field(&self, letter: char) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }
    pub fn state(&self) -> &str {
        self.field('C')
    }
    pub fn message(&self) -> &str {
        self.field('M')
    }
    pub fn detail(&self) -> &str {
        self.field('D')
    }
    pub fn hint(&self) -> &str {
        self.field('H')
    }
    pub fn position(&self) -> &str {
        self.field('P')
    }
    pub fn context(&self) -> &str {
        self.field('W')
    }
    pub fn constraint(&self) -> &str {
        self.field('n')
    }
    pub fn table(&self) -> &str {
        self.field('t')
    }
    pub fn severity(&self) -> &str {
        self.field('V')
    }

    fn parse(body: &[u8]) -> ErrorFields {
        let mut fields = BTreeMap::new();
        for field in body.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
            fields.insert(char::from(field[0]), String::from_utf8_lossy(&field[1..]).into_owned());
        }
        ErrorFields(fields)
    }
}

/// Why there is no answer: the server refused, or the connection broke.
#[derive(Debug)]
pub enum Failure {
    Refused(Box<ErrorFields>),
    Broken(io::Error),
}

impl Failure {
    /// The SQLSTATE, or `broken` for a connection that ended.
    pub fn state(&self) -> &str {
        match self {
            Failure::Refused(fields) => fields.state(),
            Failure::Broken(_) => "broken",
        }
    }

    pub fn fields(&self) -> &ErrorFields {
        match self {
            Failure::Refused(fields) => fields,
            Failure::Broken(error) => panic!("the connection broke: {error}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(fields) => write!(f, "ERROR {}: {}", fields.state(), fields.message()),
            Failure::Broken(error) => write!(f, "connection broken: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Broken(error)
    }
}

pub type Row = Vec<Option<String>>;

/// The answer to one statement.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// The command tag; empty for an empty statement.
    pub tag: String,
    pub notices: Vec<ErrorFields>,
}

pub struct Client {
    stream: TcpStream,
    pub pid: u32,
    secret: Vec<u8>,
    pub parameters: BTreeMap<String, String>,
    /// `I`dle, in a `T`ransaction, or in one that failed, `E`.
    pub status: u8,
}

impl Client {
    /// A connection before login, to say anything on.
    pub fn raw(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("a listening server");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", &login.user, "database", &login.database, "application_name", "tests"] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut frame = (u32::try_from(body.len()).expect("short") + 4).to_be_bytes().to_vec();
        frame.extend(body);
        self.stream.write_all(&frame)?;
        let mut scram = None;
        loop {
            let (tag, body) = self.receive()?;
            match tag {
                b'R' => match u32::from_be_bytes(body[..4].try_into().expect("four bytes")) {
                    0 => {}
                    10 => {
                        assert!(body[4..].split(|b| *b == 0).any(|name| name == SCRAM_SHA_256.as_bytes()));
                        let state =
                            ScramSha256::new(login.password.as_bytes(), ChannelBinding::unsupported());
                        let mut out = SCRAM_SHA_256.as_bytes().to_vec();
                        out.push(0);
                        out.extend(u32::try_from(state.message().len()).expect("short").to_be_bytes());
                        out.extend(state.message());
                        self.send(b'p', &out)?;
                        scram = Some(state);
                    }
                    11 => {
                        let state = scram.as_mut().expect("a conversation");
                        state.update(&body[4..])?;
                        let out = state.message().to_vec();
                        self.send(b'p', &out)?;
                    }
                    12 => scram.as_mut().expect("a conversation").finish(&body[4..])?,
                    other => panic!("authentication {other} is not spoken here"),
                },
                b'K' => {
                    self.pid = u32::from_be_bytes(body[..4].try_into().expect("four bytes"));
                    self.secret = body[4..].to_vec();
                }
                b'E' => return Err(Failure::Refused(Box::new(ErrorFields::parse(&body)))),
                b'Z' => {
                    self.status = body[0];
                    return Ok(());
                }
                _ => self.aside(tag, &body, &mut Vec::new()),
            }
        }
    }

    /// Messages that may come at any time.
    fn aside(&mut self, tag: u8, body: &[u8], notices: &mut Vec<ErrorFields>) {
        match tag {
            b'S' => {
                let mut parts =
                    body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
                if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    self.parameters.insert(name, value);
                }
            }
            b'N' => notices.push(ErrorFields::parse(body)),
            _ => {}
        }
    }

    pub fn send(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(tag, body))
    }

    /// Bytes as they are, framed or not.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message: its tag and what follows the length.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        receive(&mut self.stream)
    }

    /// One or more statements by the simple protocol; the first failure ends it, as on the server.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<Answer>, Failure> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)?;
        self.answers()
    }

    /// One statement by Parse, Bind, Describe, Execute, Sync, all values as text.
    pub fn extended(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Answer, Failure> {
        let mut out = Vec::new();
        out.extend(frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()));
        let mut bind = b"\0\0\0\0".to_vec();
        bind.extend(u16::try_from(parameters.len()).expect("few").to_be_bytes());
        for parameter in parameters {
            match parameter {
                Some(text) => {
                    bind.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
                    bind.extend(text.as_bytes());
                }
                None => bind.extend((-1_i32).to_be_bytes()),
            }
        }
        bind.extend(b"\0\0");
        out.extend(frame(b'B', &bind));
        out.extend(frame(b'D', b"P\0"));
        out.extend(frame(b'E', b"\0\0\0\0\0"));
        out.extend(frame(b'S', b""));
        self.stream.write_all(&out)?;
        Ok(self.answers()?.into_iter().next().unwrap_or_default())
    }

    /// Everything up to ReadyForQuery.
    fn answers(&mut self) -> Result<Vec<Answer>, Failure> {
        let (mut answers, mut answer) = (Vec::new(), Answer::default());
        let mut failure: Option<ErrorFields> = None;
        loop {
            let (tag, body) = match (self.receive(), &failure) {
                (Ok(message), _) => message,
                // The last words of a session that ended.
                (Err(_), Some(fields)) => return Err(Failure::Refused(Box::new(fields.clone()))),
                (Err(error), None) => return Err(error.into()),
            };
            match tag {
                b'T' => answer.columns = columns(&body),
                b'D' => answer.rows.push(row(&body)),
                b'C' => {
                    answer.tag = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                    answers.push(std::mem::take(&mut answer));
                }
                b'I' => answers.push(std::mem::take(&mut answer)),
                b'E' => failure = failure.or(Some(ErrorFields::parse(&body))),
                // COPY data does not belong here; say so, and the statement fails.
                b'G' => self.send(b'f', b"no data\0")?,
                b'Z' => {
                    self.status = body[0];
                    return match failure {
                        Some(fields) => Err(Failure::Refused(Box::new(fields))),
                        None => Ok(answers),
                    };
                }
                _ => self.aside(tag, &body, &mut answer.notices),
            }
        }
    }

    /// For statements that must work.
    pub fn run(&mut self, sql: &str) -> Answer {
        match self.simple(sql) {
            Ok(mut answers) => answers.pop().unwrap_or_default(),
            Err(failure) => panic!("{failure}\n  {}", &sql[..sql.len().min(500)]),
        }
    }

    /// The single value a query gives.
    pub fn value(&mut self, sql: &str) -> String {
        let answer = self.run(sql);
        answer
            .rows
            .first()
            .and_then(|row| row.first().cloned())
            .flatten()
            .unwrap_or_else(|| String::from("NULL"))
    }

    /// What a statement that must be refused is refused with.
    pub fn refusal(&mut self, sql: &str) -> ErrorFields {
        match self.simple(sql) {
            Ok(_) => panic!("this was accepted: {}", &sql[..sql.len().min(500)]),
            Err(failure) => failure.fields().clone(),
        }
    }

    /// `COPY ... FROM STDIN` with this text.
    pub fn copy_in(&mut self, sql: &str, chunks: impl Iterator<Item = Vec<u8>>) -> Result<Answer, Failure> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)?;
        loop {
            let (tag, body) = self.receive()?;
            match tag {
                b'G' => break,
                b'E' => {
                    let fields = ErrorFields::parse(&body);
                    while self.receive()?.0 != b'Z' {}
                    return Err(Failure::Refused(Box::new(fields)));
                }
                _ => self.aside(tag, &body, &mut Vec::new()),
            }
        }
        for chunk in chunks {
            self.send(b'd', &chunk)?;
        }
        self.send(b'c', b"")?;
        Ok(self.answers()?.pop().unwrap_or_default())
    }

    /// `COPY ... TO STDOUT`: all the data, and the command tag.
    pub fn copy_out(&mut self, sql: &str) -> Result<(Vec<u8>, String), Failure> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)?;
        let (mut data, mut command, mut failure) = (Vec::new(), String::new(), None);
        loop {
            let (tag, body) = self.receive()?;
            match tag {
                b'd' => data.extend(body),
                b'C' => command = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned(),
                b'E' => failure = Some(ErrorFields::parse(&body)),
                b'Z' => {
                    return match failure {
                        Some(fields) => Err(Failure::Refused(Box::new(fields))),
                        None => Ok((data, command)),
                    };
                }
                _ => {}
            }
        }
    }

    /// A COPY that the client gives up.
    pub fn copy_fail(&mut self, sql: &str) -> Result<(), Failure> {
        self.simple(sql).map(|_| ())
    }

    /// Counts the rows of a query without keeping them.
    pub fn count_rows(&mut self, sql: &str) -> Result<u64, Failure> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)?;
        let mut reader = io::BufReader::with_capacity(1 << 18, self.stream.try_clone()?);
        let (mut count, mut failure) = (0, None);
        loop {
            let (tag, body) = receive(&mut reader)?;
            match tag {
                b'D' => count += 1,
                b'E' => failure = Some(ErrorFields::parse(&body)),
                b'Z' => return failure.map_or(Ok(count), |fields| Err(Failure::Refused(Box::new(fields)))),
                _ => {}
            }
        }
    }

    /// Asks the server, on a connection of its own, to cancel what this one is doing.
    pub fn cancel_request(&self, address: SocketAddr) -> impl FnOnce() + Send + use<> {
        let mut body = 80_877_102_u32.to_be_bytes().to_vec();
        body.extend(self.pid.to_be_bytes());
        body.extend(&self.secret);
        let mut out = (u32::try_from(body.len()).expect("short") + 4).to_be_bytes().to_vec();
        out.extend(body);
        move || {
            Client::raw(address).write_all(&out).expect("sent");
        }
    }
}

/// A message: tag, length, body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((u32::try_from(body.len()).expect("short") + 4).to_be_bytes());
    out.extend(body);
    out
}

fn receive(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let length = u32::from_be_bytes(header[1..].try_into().expect("four bytes")) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((header[0], body))
}

fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("a terminated name");
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    names
}

fn row(body: &[u8]) -> Row {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
        rest = &rest[4..];
        match usize::try_from(length) {
            Ok(length) => {
                values.push(Some(String::from_utf8_lossy(&rest[..length]).into_owned()));
                rest = &rest[length..];
            }
            Err(_) => values.push(None),
        }
    }
    values
}
