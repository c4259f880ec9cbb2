//! A client's socket, which for a moment can be read past the reactor.
//!
//! The hard idea: a client that talks to the database without thinking sends its next message some microseconds after the
//! last answer. To wait for that in the reactor, the thread would go to sleep and be woken from another processor, which takes
//! longer than many a statement. So [`Socket::linger`] gives up the processor once, for the client may be about to run on it,
//! and looks at the socket itself; where only few clients talk like that, it goes on looking for a moment. What looks cost that
//! went wrong, since the client thinks or others need the processor, is spread over the answers that follow without one.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long to look, where processors are free: longer than a client on this machine takes for its next message.
const LOOK: Duration = Duration::from_micros(25);
/// A look that took this long went wrong, whatever came of it: others need the processor.
const TOO_LONG: Duration = Duration::from_micros(500);
/// Looks that go wrong may cost every answer so much in the mean.
const COST: Duration = Duration::from_micros(2);
/// After so many looks in vain in a row, the next comes after 2 to the power of that many answers.
const MOST_IN_VAIN: u32 = 8;
/// What a look can take in; a message is shorter, as a rule.
const READ: usize = 2048;

/// Sockets whose last look was not in vain.
static TALKATIVE: AtomicUsize = AtomicUsize::new(0);
/// So many of them leave processors free.
static FEW: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1));

/// A TCP or Unix-domain socket.
pub struct Socket<S> {
    stream: S,
    /// What was read past the reactor and nobody has asked for yet.
    ahead: Vec<u8>,
    /// Looks in vain since the last that was not.
    in_vain: u32,
    talkative: bool,
    /// Answers until the next look.
    pause: u32,
}

impl<S: AsFd> Socket<S> {
    pub fn new(stream: S) -> Socket<S> {
        Socket { stream, ahead: Vec::new(), in_vain: 0, talkative: false, pause: 0 }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// To be called when an answer has left: whether the client's next message, or a part of it, can be read at once. Blocks
    /// the thread for some microseconds.
    pub fn linger(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        let begun = Instant::now();
        let came = self.look(begun);
        let took = begun.elapsed();
        let well = came && took < TOO_LONG;
        if well != self.talkative {
            self.talkative = well;
            if well {
                TALKATIVE.fetch_add(1, Ordering::Relaxed)
            } else {
                TALKATIVE.fetch_sub(1, Ordering::Relaxed)
            };
        }
        if well {
            self.in_vain = 0;
        } else {
            self.in_vain = (self.in_vain + 1).min(MOST_IN_VAIN);
            self.pause = (1 << self.in_vain).max((took.as_nanos() / COST.as_nanos()) as u32);
        }
        came
    }

    fn look(&mut self, begun: Instant) -> bool {
        let mut bytes = [0; READ];
        loop {
            std::thread::yield_now();
            match recv(&self.stream, &mut bytes, RecvFlags::DONTWAIT) {
                // The end, and errors, are for whoever reads in earnest.
                Ok((_, 0)) => return false,
                Ok((_, count)) => {
                    self.ahead.extend_from_slice(&bytes[..count]);
                    return true;
                }
                Err(Errno::AGAIN | Errno::INTR)
                    if TALKATIVE.load(Ordering::Relaxed) <= *FEW && begun.elapsed() < LOOK => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether the client has closed its side and everything it sent has been read.
    pub fn hung_up(&self) -> bool {
        if !self.ahead.is_empty() {
            return false;
        }
        match recv(&self.stream, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, count)) => count == 0,
            Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.talkative {
            TALKATIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let count = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..count]);
        this.ahead.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_was_read_past_the_reactor_comes_first() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut server = Socket::new(server);
        let mut bytes = [0; 8];
        assert!(!server.linger(), "nothing has come");
        // Each look in vain is followed by a longer pause.
        let mut pauses = Vec::new();
        while pauses.len() < 4 {
            pauses.push(server.pause);
            (0..server.pause).for_each(|_| assert!(!server.linger()));
            assert_eq!(server.pause, 0);
            assert!(!server.linger());
        }
        assert!(pauses.iter().zip(1..).all(|(pause, n)| *pause >= 1 << n), "{pauses:?}");
        client.write_all(b"first").await.unwrap();
        server.pause = 0;
        assert!(server.linger());
        assert!(!server.hung_up());
        client.write_all(b"second").await.unwrap();
        assert!(server.linger(), "what is there already");
        assert_eq!(server.read(&mut bytes[..3]).await.unwrap(), 3);
        assert_eq!(server.read(&mut bytes[3..]).await.unwrap(), 2);
        assert_eq!(&bytes[..5], b"first");
        server.read_exact(&mut bytes[..6]).await.unwrap();
        assert_eq!(&bytes[..6], b"second");
        // More than a look takes in, and the end after it.
        let much: Vec<u8> = (0..READ * 3).map(|n| n as u8).collect();
        client.write_all(&much).await.unwrap();
        drop(client);
        server.pause = 0;
        assert!(server.linger());
        assert!(!server.hung_up(), "not everything has been read");
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, much);
        server.pause = 0;
        assert!(!server.linger(), "the end is no message");
        assert!(server.hung_up());
        assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
    }
}
