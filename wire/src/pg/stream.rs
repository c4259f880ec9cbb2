//! The two directions of one connection: bytes in ([`Reader`]), bytes out ([`Output`]), over TCP, TLS or a
//! Unix-domain socket. The hard part is when to write: answers gather until the input is drained, so that a
//! pipelined batch costs one system call; while the database works on a later statement of the pipeline,
//! what is already answered leaves on its own ([`Link::during`]).

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use value::{Error, Result, SqlState};

use super::frame::{Frame, Limits, Reader, Stage};
use super::socket::Socket;

/// Past this many bytes the answers are written without waiting for more.
pub const WRITE_AT: usize = 64 << 10;
/// An output buffer larger than this is given back after it was written.
const WRITE_KEEP: usize = 256 << 10;
/// How long finished answers wait for a later statement of the same pipeline before they leave alone.
const PATIENCE: Duration = Duration::from_millis(2);
/// How often a call that takes long looks whether its client is still there.
const PULSE: Duration = Duration::from_secs(1);
/// How long a closing connection is given to take its last message.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where the bytes go.
pub enum Stream {
    Tcp(Socket<TcpStream>),
    Tls(Box<TlsStream<Socket<TcpStream>>>),
    Unix(Socket<UnixStream>),
    /// Taken away for an upgrade that failed.
    Gone,
}

macro_rules! on_stream {
    ($self:expr, $inner:ident => $call:expr, $gone:expr) => {
        match $self.get_mut() {
            Stream::Tcp($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new($inner.as_mut());
                $call
            }
            Stream::Unix($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Gone => $gone,
        }
    };
}

impl Stream {
    /// Whether the client has closed its side and everything it sent has been read.
    fn hung_up(&self) -> bool {
        match self {
            Stream::Tcp(socket) => socket.hung_up(),
            Stream::Tls(stream) => stream.get_ref().0.hung_up(),
            Stream::Unix(socket) => socket.hung_up(),
            Stream::Gone => true,
        }
    }

    /// [`Socket::linger`].
    pub fn linger(&mut self) -> bool {
        match self {
            Stream::Tcp(socket) => socket.linger(),
            Stream::Tls(stream) => stream.get_mut().0.linger(),
            Stream::Unix(socket) => socket.linger(),
            Stream::Gone => false,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, inner => inner.poll_read(context, buffer), Poll::Ready(Ok(())))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, inner => inner.poll_write(context, bytes), Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, inner => inner.poll_flush(context), Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, inner => inner.poll_shutdown(context), Poll::Ready(Ok(())))
    }
}

/// What the server as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// No new connections; idle ones are closed, busy ones finish what they do.
    Draining,
    /// Running statements are broken off.
    Terminating,
}

/// Why a connection ends.
pub enum End {
    /// The client said so or hung up between messages.
    Done,
    /// The socket failed.
    Gone(io::Error),
    /// The client is told this error as FATAL, then the connection is closed.
    Fatal(Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Gone(error)
    }
}

/// Why a message could not be carried out.
pub enum Fail {
    /// The statement failed; the session goes on.
    Statement(Error),
    End(End),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        if error.fields().fatal { Fail::End(End::Fatal(error)) } else { Fail::Statement(error) }
    }
}

impl From<End> for Fail {
    fn from(end: End) -> Fail {
        Fail::End(end)
    }
}

/// 57P01.
pub fn shutdown_error() -> Error {
    Error::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command").fatal()
}

/// Messages on their way to the client.
#[derive(Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// Bytes at the front that are already written.
    written: usize,
    /// Everything before this may leave: it ends with ReadyForQuery.
    answered: usize,
    /// Everything before this is whole messages.
    complete: usize,
}

impl Output {
    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Marks the end of a message, so that a panic in the next one can be cut off.
    #[inline]
    pub fn end_message(&mut self) {
        self.complete = self.bytes.len();
    }

    /// Marks the end of an answer: what is in the buffer may leave before more is added.
    pub fn end_answer(&mut self) {
        self.end_message();
        self.answered = self.bytes.len();
    }

    /// Drops the part of a message that was never finished.
    pub fn cut_incomplete(&mut self) {
        self.bytes.truncate(self.complete.max(self.written));
    }

    fn reset(&mut self) {
        if self.bytes.capacity() > WRITE_KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        self.written = 0;
        self.answered = 0;
        self.complete = 0;
    }
}

/// One client's connection below the messages.
pub struct Link {
    pub stream: Stream,
    pub reader: Reader,
    pub output: Output,
    pub phase: watch::Receiver<Phase>,
    pub limits: Limits,
}

/// Writes up to `end`. Safe to drop while it waits: what went out is counted after every write.
async fn push(stream: &mut Stream, output: &mut Output, end: usize) -> io::Result<()> {
    while output.written < end {
        let count = stream.write(&output.bytes[output.written..end]).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        output.written += count;
    }
    stream.flush().await
}

/// Waits until the server gives up on running statements.
async fn terminated(phase: &mut watch::Receiver<Phase>) {
    // The sender lives as long as the server: an error means that it is gone, which ends everything as well.
    let _ = phase.wait_for(|phase| *phase == Phase::Terminating).await;
}

impl Link {
    pub fn new(stream: Stream, phase: watch::Receiver<Phase>, limits: Limits) -> Link {
        Link { stream, reader: Reader::default(), output: Output::default(), phase, limits }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Writes all that waits; a slow client makes this wait too.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.output.waiting() == 0 {
            return Ok(());
        }
        let end = self.output.bytes.len();
        {
            let mut write = pin!(push(&mut self.stream, &mut self.output, end));
            match poll!(write.as_mut()) {
                Poll::Ready(result) => result?,
                Poll::Pending => tokio::select! {
                    result = write => result?,
                    () = terminated(&mut self.phase) => return Err(End::Fatal(shutdown_error())),
                },
            }
        }
        self.output.reset();
        Ok(())
    }

    /// Runs a call of the session. It ends early when the server terminates or the client goes away, which lets go
    /// of all that the session holds; answers of earlier statements in the pipeline leave while it waits.
    pub async fn during<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T, Fail> {
        let mut call = pin!(call);
        if let Poll::Ready(result) = poll!(call.as_mut()) {
            return result.map_err(Fail::from);
        }
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        let mut pulse = pin!(tokio::time::sleep(PULSE));
        let mut waited = false;
        loop {
            let end = self.output.answered;
            let due = end > self.output.written;
            tokio::select! {
                biased;
                result = &mut call => return result.map_err(Fail::from),
                () = terminated(&mut self.phase) => return Err(Fail::End(End::Fatal(shutdown_error()))),
                () = &mut patience, if !waited && due => waited = true,
                () = &mut pulse => {
                    if self.stream.hung_up() {
                        return Err(Fail::End(End::Done));
                    }
                    pulse.as_mut().reset(tokio::time::Instant::now() + PULSE);
                }
                result = push(&mut self.stream, &mut self.output, end), if waited && due => result.map_err(End::from)?,
            }
        }
    }

    /// Reads once. `Ok(false)`: the client closed its side.
    pub async fn fill(&mut self) -> Result<bool, End> {
        let read = self.reader.fill(&mut self.stream);
        let count = tokio::select! {
            count = read => count?,
            () = terminated(&mut self.phase) => return Err(End::Fatal(shutdown_error())),
        };
        Ok(count > 0)
    }

    /// The next message, writing what waits before it blocks. Hanging up ends the connection.
    pub async fn frame(&mut self, stage: Stage) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.reader.next(&self.limits, stage).map_err(End::Fatal)? {
                return Ok(frame);
            }
            self.flush().await?;
            if !self.fill().await? {
                return Err(End::Done);
            }
        }
    }

    /// Says the last word and closes. Never waits long, whatever the client does.
    pub async fn close(&mut self, last_words: Option<&Error>) {
        if let Some(error) = last_words {
            self.output.cut_incomplete();
            super::error::respond(&mut self.output.bytes, error, true);
        }
        let farewell = async {
            let end = self.output.bytes.len();
            push(&mut self.stream, &mut self.output, end).await?;
            self.stream.shutdown().await?;
            // Unread input would make the kernel reset the connection and take our last message with it.
            let mut sink = [0; 4096];
            let mut budget: usize = 1 << 20;
            while last_words.is_some() && budget > 0 {
                let count = self.stream.read(&mut sink).await?;
                if count == 0 {
                    break;
                }
                budget = budget.saturating_sub(count);
            }
            io::Result::Ok(())
        };
        match tokio::time::timeout(FAREWELL, farewell).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::trace!(%error, "the client was gone before the connection was closed"),
        }
    }
}
