//! Bytes to messages. The hard part is to believe nothing: a length is checked against what the state of the
//! connection allows before a byte of it is waited for, memory grows with the bytes that really arrive, and the
//! fields inside a message are read through [`Body`], which cannot run past the end.

use bytes::{Buf, Bytes, BytesMut};
use session::{Format, Parameter};
use tokio::io::{AsyncRead, AsyncReadExt};
use value::{Error, Oid, Result, SqlState};

/// How long a message may be, in bytes, by the state of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The startup packet (PostgreSQL's own limit).
    pub startup: usize,
    /// Messages before the client has proved who it is.
    pub authentication: usize,
    /// Query, Parse, Bind, FunctionCall and CopyData.
    pub message: usize,
    /// Everything else after login.
    pub short_message: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { startup: 10_000, authentication: 64 << 10, message: 64 << 20, short_message: 64 << 10 }
    }
}

/// One message as it came: its type and what follows the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub body: Bytes,
}

/// Which messages are allowed just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Only password messages.
    Authentication,
    /// Everything a client may say to a session.
    Session,
}

/// First size of a connection's read buffer; an idle connection keeps this much.
const READ_BUFFER: usize = 8 << 10;
/// A read asks for at most this much at once, so that a slow sender of a big message holds what it sent, not
/// what it announced.
const READ_CHUNK: usize = 256 << 10;

/// Collects bytes and cuts them into frames.
pub struct Reader {
    buffer: BytesMut,
    /// Room made for the next read; grows while reads fill it, so that a bulk load takes few system calls.
    room: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { buffer: BytesMut::with_capacity(READ_BUFFER), room: READ_BUFFER }
    }
}

impl Reader {
    /// Bytes that came but belong to no frame handed out yet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Adds bytes as if they had been read.
    #[cfg(test)]
    fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Reads once from `stream`; 0 is the end. Safe to drop while it waits.
    pub async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
        if self.buffer.is_empty() && self.room == READ_BUFFER && self.buffer.capacity() > 2 * READ_BUFFER {
            // Gives back what a big message needed.
            self.buffer = BytesMut::with_capacity(READ_BUFFER);
        }
        if self.buffer.capacity() - self.buffer.len() < self.room / 2 {
            self.buffer.reserve(self.room);
        }
        let available = self.buffer.capacity() - self.buffer.len();
        let count = stream.read_buf(&mut self.buffer).await?;
        if count == available {
            self.room = (self.room * 2).min(READ_CHUNK);
        } else if count < self.room / 8 {
            self.room = READ_BUFFER;
        }
        Ok(count)
    }

    /// The next whole message, `None` while it is incomplete. Errors are FATAL: the place of the next message
    /// is lost.
    pub fn next(&mut self, limits: &Limits, stage: Stage) -> Result<Option<Frame>> {
        let Some(&kind) = self.buffer.first() else {
            return Ok(None);
        };
        let limit = match (stage, kind) {
            (Stage::Authentication, b'p') => limits.authentication,
            (Stage::Authentication, _) => {
                return Err(violation(format!("expected password response, got message type {kind}")).fatal());
            }
            (_, b'Q' | b'P' | b'B' | b'd' | b'F') => limits.message,
            (_, b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f') => limits.short_message,
            (_, _) => return Err(violation(format!("invalid frontend message type {kind}")).fatal()),
        };
        let Some(announced) = self.buffer.get(1..5) else {
            return Ok(None);
        };
        let length = length(announced, 4, limit)?;
        if self.buffer.len() < 1 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let body = self.buffer.split_to(length - 4).freeze();
        Ok(Some(Frame { kind, body }))
    }

    /// The startup packet without its length, `None` while it is incomplete.
    pub fn startup(&mut self, limits: &Limits) -> Result<Option<Bytes>> {
        let Some(announced) = self.buffer.get(..4) else {
            return Ok(None);
        };
        let length = length(announced, 8, limits.startup)
            .map_err(|_| violation("invalid length of startup packet").fatal())?;
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length - 4).freeze()))
    }
}

/// The announced length, which counts itself.
fn length(announced: &[u8], least: usize, limit: usize) -> Result<usize> {
    let mut announced = announced;
    let length = announced.get_u32() as usize;
    if length < least || length > i32::MAX as usize {
        return Err(violation("invalid message length").fatal());
    }
    if length > limit {
        return Err(violation("invalid message length")
            .detail(format!("The message announces {length} bytes; at most {limit} are accepted here."))
            .fatal());
    }
    Ok(length)
}

/// 08P01.
pub fn violation(message: impl Into<String>) -> Error {
    Error::new(SqlState::PROTOCOL_VIOLATION, message)
}

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// A message of the client, decoded. Text borrows from the frame; parameters share its memory.
#[derive(Debug)]
pub enum Message<'a> {
    Query(&'a str),
    Parse {
        name: &'a str,
        text: &'a str,
        types: Vec<Oid>,
    },
    Bind {
        portal: &'a str,
        statement: &'a str,
        parameters: Vec<Parameter>,
        results: Vec<Format>,
    },
    Describe(Target, &'a str),
    Execute {
        portal: &'a str,
        max_rows: usize,
    },
    Close(Target, &'a str),
    Sync,
    Flush,
    Terminate,
    FunctionCall,
    /// The data is the body of the frame.
    CopyData,
    CopyDone,
    CopyFail(String),
}

/// Decodes one frame of a session. Errors are not fatal: the frame itself was whole.
pub fn decode(frame: &Frame) -> Result<Message<'_>> {
    let mut body = Body::new(&frame.body);
    let message = match frame.kind {
        b'Q' => Message::Query(body.text()?),
        b'P' => {
            let name = body.text()?;
            let text = body.text()?;
            let count = body.u16()?;
            let types = (0..count).map(|_| body.u32()).collect::<Result<_>>()?;
            Message::Parse { name, text, types }
        }
        b'B' => bind(&mut body)?,
        b'D' => Message::Describe(body.target("DESCRIBE")?, body.text()?),
        b'C' => Message::Close(body.target("CLOSE")?, body.text()?),
        b'E' => {
            let portal = body.text()?;
            let max_rows = body.u32()? as i32;
            // PostgreSQL reads zero and everything below as "all".
            Message::Execute { portal, max_rows: usize::try_from(max_rows).unwrap_or(0) }
        }
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        b'X' => return Ok(Message::Terminate),
        b'F' => return Ok(Message::FunctionCall),
        b'd' => return Ok(Message::CopyData),
        b'c' => Message::CopyDone,
        b'f' => {
            let reason = frame.body.strip_suffix(&[0]).unwrap_or(&frame.body);
            return Ok(Message::CopyFail(String::from_utf8_lossy(reason).into_owned()));
        }
        kind => return Err(violation(format!("invalid frontend message type {kind}")).fatal()),
    };
    body.end()?;
    Ok(message)
}

fn bind<'a>(body: &mut Body<'a>) -> Result<Message<'a>> {
    let portal = body.text()?;
    let statement = body.text()?;
    let formats = body.formats()?;
    let count = usize::from(body.u16()?);
    if formats.len() > 1 && formats.len() != count {
        return Err(violation(format!(
            "bind message has {} parameter formats but {count} parameters",
            formats.len()
        )));
    }
    // Each parameter takes at least its length word: a lying count cannot make us reserve more than was sent.
    let mut parameters = Vec::with_capacity(count.min(body.rest() / 4));
    for index in 0..count {
        let format = match formats.as_slice() {
            [] => Format::Text,
            [one] => *one,
            many => many.get(index).copied().unwrap_or_default(),
        };
        let bytes = match body.u32()? as i32 {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| violation("invalid message format"))?;
                Some(body.bytes(length)?)
            }
        };
        parameters.push(Parameter { format, bytes });
    }
    let results = body.formats()?;
    Ok(Message::Bind { portal, statement, parameters, results })
}

/// Reads the fields of a message in order; never past the end.
pub struct Body<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Body<'a> {
    pub fn new(whole: &'a Bytes) -> Body<'a> {
        Body { whole, at: 0 }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> usize {
        self.whole.len() - self.at
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.whole.len());
        let Some(end) = end else {
            return Err(violation("insufficient data left in message"));
        };
        let taken = &self.whole[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(self.take(2)?.get_u16())
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(self.take(4)?.get_u32())
    }

    /// Shares the memory of the message.
    pub fn bytes(&mut self, count: usize) -> Result<Bytes> {
        let start = self.at;
        self.take(count)?;
        Ok(self.whole.slice(start..self.at))
    }

    /// The bytes up to a NUL, which is skipped.
    pub fn c_string(&mut self) -> Result<&'a [u8]> {
        let rest = &self.whole[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(violation("invalid string in message"));
        };
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// A string up to a NUL that must be UTF-8 (22021).
    pub fn text(&mut self) -> Result<&'a str> {
        let bytes = self.c_string()?;
        std::str::from_utf8(bytes).map_err(|error| {
            let wrong = &bytes[error.valid_up_to()..];
            let length = error.error_len().unwrap_or(wrong.len()).min(wrong.len());
            let shown: Vec<String> = wrong[..length].iter().map(|byte| format!("0x{byte:02x}")).collect();
            Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
            )
        })
    }

    fn formats(&mut self) -> Result<Vec<Format>> {
        let count = self.u16()?;
        (0..count)
            .map(|_| match self.u16()? {
                0 => Ok(Format::Text),
                1 => Ok(Format::Binary),
                other => Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unsupported format code: {}", other as i16),
                )),
            })
            .collect()
    }

    fn target(&mut self, message: &str) -> Result<Target> {
        match self.take(1)? {
            b"S" => Ok(Target::Statement),
            b"P" => Ok(Target::Portal),
            other => Err(violation(format!("invalid {message} message subtype {}", other[0]))),
        }
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<()> {
        if self.rest() == 0 { Ok(()) } else { Err(violation("invalid message format")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn reader(bytes: &[u8]) -> Reader {
        let mut reader = Reader::default();
        reader.extend(bytes);
        reader
    }

    fn limits() -> Limits {
        Limits { message: 1 << 20, ..Limits::default() }
    }

    #[test]
    fn lengths_are_judged_before_their_bytes_are_waited_for() {
        // kind, announced length, stage, refused?
        for (kind, announced, stage, refused) in [
            (b'p', 1 << 30, Stage::Authentication, true),
            (b'Q', 5, Stage::Authentication, true),
            (b'p', 3, Stage::Authentication, true),
            (b'p', 64 << 10, Stage::Authentication, false),
            (b'Q', 0, Stage::Session, true),
            (b'Q', 3, Stage::Session, true),
            (b'Q', u32::MAX, Stage::Session, true),
            (b'Q', (1 << 20) + 1, Stage::Session, true),
            (b'Q', 1 << 20, Stage::Session, false),
            (b'S', 1 << 20, Stage::Session, true),
            (b'!', 4, Stage::Session, true),
        ] {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&u32::to_be_bytes(announced));
            let mut reader = reader(&bytes);
            let capacity = reader.buffer.capacity();
            match reader.next(&limits(), stage) {
                Err(error) => {
                    assert!(refused, "{kind} {announced}");
                    assert!(error.fields().fatal && error.state() == SqlState::PROTOCOL_VIOLATION);
                }
                Ok(found) => assert!(!refused && found.is_none(), "{kind} {announced}"),
            }
            assert_eq!(reader.buffer.capacity(), capacity);
        }
        for (announced, refused) in [(7, true), (8, false), (10_000, false), (10_001, true), (u32::MAX, true)]
        {
            let result = reader(&u32::to_be_bytes(announced)).startup(&limits());
            assert_eq!(result.is_err(), refused, "{announced}");
        }
    }

    #[test]
    fn bind_shares_and_counts() {
        let mut body = b"p\0s\0".to_vec();
        body.extend_from_slice(&[0, 1, 0, 1]); // one format, binary, for all
        body.extend_from_slice(&[0, 2, 0, 0, 0, 4, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]);
        body.extend_from_slice(&[0, 0]);
        let bytes = frame(b'B', &body);
        let frame = reader(&bytes).next(&limits(), Stage::Session).expect("valid").expect("whole");
        let Message::Bind { portal, statement, parameters, results } = decode(&frame).expect("valid") else {
            panic!("not a bind")
        };
        assert_eq!((portal, statement, results.len()), ("p", "s", 0));
        assert_eq!(parameters[0].format, Format::Binary);
        assert_eq!(parameters[0].bytes.as_deref(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(parameters[1].bytes, None);

        // Fields that lie about themselves.
        for (kind, body) in [
            (b'B', &b"\0\0\0\0\xff\xff"[..]),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'B', b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0"),
            (b'P', b"\0select 1\0\0\x09"),
            (b'Q', b"select 1"),
            (b'Q', b"select 1\0x"),
            (b'Q', b"select '\xff'\0"),
            (b'D', b"Z\0"),
            (b'D', b""),
            (b'E', b"p\0\0"),
            (b'S', b"x"),
        ] {
            let error = decode(&Frame { kind, body: Bytes::copy_from_slice(body) }).expect_err("refused");
            assert!(!error.fields().fatal && matches!(error.state().class(), "08" | "22"), "{error}");
        }
    }

    proptest! {
        /// Whatever arrives, in whatever pieces: frames, "incomplete" or an error; the same for every cut.
        #[test]
        fn never_panics(
            parts in prop::collection::vec((prop::sample::select(&b"QPBDECSHXFdcfpZ"[..]), prop::collection::vec(any::<u8>(), 0..40), any::<Option<u8>>()), 0..6),
            cut in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for (kind, body, lie) in &parts {
                let start = bytes.len();
                bytes.extend_from_slice(&frame(*kind, body));
                if let Some(lie) = lie {
                    bytes[start + 4] = *lie;
                }
            }
            let run = |cut: usize| {
                let mut reader = Reader::default();
                let mut seen = Vec::new();
                for piece in bytes.chunks(cut) {
                    reader.extend(piece);
                    loop {
                        match reader.next(&limits(), Stage::Session) {
                            Ok(Some(frame)) => {
                                let _ = decode(&frame).map_err(|error| error.to_string());
                                seen.push(frame);
                            }
                            Ok(None) => break,
                            Err(_) => return (seen, true),
                        }
                    }
                }
                (seen, false)
            };
            prop_assert_eq!(run(cut), run(bytes.len().max(1)));
            let mut startup = reader(&bytes);
            let _ = startup.startup(&limits()).map_err(|error| error.to_string());
        }
    }
}
