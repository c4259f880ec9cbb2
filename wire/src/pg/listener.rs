//! The sockets: accepting, counting and stopping. One task accepts on each socket, one task serves each
//! connection; all of them watch one [`Phase`].

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use rustix::fs::{FlockOperation, flock};
use rustix::net::sockopt;
use session::{Database, Peer};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use value::{Error, Result, SqlState};

use super::auth::Rule;
use super::connection::{Connection, panic_error};
use super::frame::Limits;
use super::startup;
use super::stream::{End, Link, Phase, Stream};
use super::tls::{Files, Tls};
use crate::metrics::Metrics;

/// Connections that the system holds while the server is busy; as much as tokio's own default.
const BACKLOG: u32 = 1024;

/// How a listening server behaves; start from [`Options::default`].
#[derive(Clone)]
pub struct Options {
    /// TCP addresses for [`serve`]; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Where the Unix-domain socket `.s.PGSQL.<port>` goes; the port is that of the first TCP address, or 5432.
    pub unix_directory: Option<PathBuf>,
    /// Another port in the name of the Unix-domain socket.
    pub unix_port: Option<u16>,
    /// `None`: no TLS, and by the default rules no connections but local ones.
    pub tls: Option<Files>,
    pub max_connections: usize,
    /// Of `max_connections`, those only superusers get.
    pub reserved_connections: usize,
    pub limits: Limits,
    /// From accepting a connection to its proof.
    pub authentication_timeout: Duration,
    pub rules: Vec<Rule>,
    /// Iterations shown for roles without a password; the same as new passwords get, or the two kinds of role
    /// could be told apart.
    pub scram_iterations: usize,
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Vec::new(),
            unix_directory: None,
            unix_port: None,
            tls: None,
            max_connections: 100,
            reserved_connections: 3,
            limits: Limits::default(),
            authentication_timeout: Duration::from_secs(60),
            rules: Rule::defaults(),
            scram_iterations: 4096,
            metrics: Metrics::default(),
        }
    }
}

/// What all connections of a server have in common.
pub struct Shared {
    pub options: Options,
    /// Empty while the server starts: clients are told so by 57P03.
    database: OnceLock<Arc<dyn Database>>,
    /// New clients are told by 57P03 that the server ends.
    closing: AtomicBool,
    pub tls: Option<Tls>,
    pub slots: Arc<Slots>,
}

impl Shared {
    /// 57P03 for a client that comes when the server is about to end.
    pub fn admits(&self) -> Result<()> {
        if self.closing.load(Ordering::Acquire) {
            return Err(
                Error::new(SqlState::CANNOT_CONNECT_NOW, "the database system is shutting down").fatal()
            );
        }
        Ok(())
    }

    /// What is served; 57P03 while that is still starting.
    pub fn database(&self) -> Result<&dyn Database> {
        self.database.get().map(AsRef::as_ref).ok_or_else(|| {
            Error::new(SqlState::CANNOT_CONNECT_NOW, "the database system is starting up").fatal()
        })
    }
}

/// TCP addresses that belong to this process, but where nobody is answered yet: connections are refused.
pub struct Bound {
    sockets: Vec<TcpSocket>,
    addresses: Vec<SocketAddr>,
}

/// Takes addresses without listening on them, so that a port in use is found out before anything else is done. 55006 when one
/// is taken.
pub fn bind(listen: &[SocketAddr]) -> Result<Bound> {
    let mut bound = Bound { sockets: Vec::new(), addresses: Vec::new() };
    for address in listen {
        let failed = |error| bind_error(address, error);
        let socket =
            if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(*address).map_err(failed)?;
        bound.addresses.push(socket.local_addr().map_err(failed)?);
        bound.sockets.push(socket);
    }
    Ok(bound)
}

impl Bound {
    /// The addresses, with the ports the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Listens. Until [`Handle::open`] every client is told by 57P03 that the server starts. Must be called within a tokio runtime.
    /// Errors: 55006 for a socket that is taken, F0000 for a certificate that cannot be used.
    pub fn listen(self, options: Options) -> Result<Handle> {
        let tls = options.tls.clone().map(Tls::load).transpose()?;
        let mut listeners = Vec::new();
        for (socket, address) in self.sockets.into_iter().zip(&self.addresses) {
            listeners.push(socket.listen(BACKLOG).map_err(|error| bind_error(address, error))?);
        }
        let port = options.unix_port.or_else(|| self.addresses.first().map(SocketAddr::port)).unwrap_or(5432);
        let unix =
            options.unix_directory.as_ref().map(|directory| UnixSocket::bind(directory, port)).transpose()?;
        let unix_path = unix.as_ref().map(|unix| unix.path.clone());
        let slots = Arc::new(Slots {
            used: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            max: options.max_connections,
            reserved: options.reserved_connections,
        });
        let shared = Arc::new(Shared {
            options,
            database: OnceLock::new(),
            closing: AtomicBool::new(false),
            tls,
            slots,
        });
        let (phase, watched) = watch::channel(Phase::Running);
        let (task, tasks) = mpsc::channel(1);
        for listener in listeners {
            tokio::spawn(accept_tcp(task.clone(), listener, shared.clone(), watched.clone()));
        }
        if let Some(unix) = unix {
            tokio::spawn(accept_unix(task.clone(), unix, shared.clone(), watched.clone()));
        }
        Ok(Handle { shared, addresses: self.addresses, unix_path, phase, tasks })
    }
}

/// A running server. Dropping it breaks off everything.
pub struct Handle {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    unix_path: Option<PathBuf>,
    phase: watch::Sender<Phase>,
    /// Closed when the last task of the server is gone.
    tasks: mpsc::Receiver<()>,
}

impl Handle {
    /// From now on clients are served by this database. A second call changes nothing.
    pub fn open(&self, database: Arc<dyn Database>) {
        if self.shared.database.set(database).is_err() {
            tracing::warn!("the server serves a database already");
        }
    }

    /// The TCP addresses it listens on, with the ports the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The first of them.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// The Unix-domain socket.
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix_path.as_deref()
    }

    /// Reads the certificate again; connections that are open keep the old one. F0000 leaves the old one in use.
    pub fn reload_tls(&self) -> Result<()> {
        match &self.shared.tls {
            Some(tls) => tls.reload(),
            None => Ok(()),
        }
    }

    /// Lets nobody in any more; those who are connected go on.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Clients that are connected.
    pub fn clients(&self) -> usize {
        self.shared.slots.used.load(Ordering::Acquire)
    }

    /// Stops: idle connections end at once with 57P01, busy ones have `grace` to finish what they do.
    pub async fn stop(mut self, grace: Duration) {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(grace, self.tasks.recv()).await.is_ok() {
            return;
        }
        self.phase.send_replace(Phase::Terminating);
        // Everything that waits listens to the phase; what computes comes to its next wait soon.
        if tokio::time::timeout(Duration::from_secs(10), self.tasks.recv()).await.is_err() {
            tracing::warn!("some connections did not end in time and are abandoned");
        }
    }
}

/// Says that an address cannot be listened on: 55006 when it is taken, 58030 otherwise.
pub fn bind_error(address: impl std::fmt::Display, error: std::io::Error) -> Error {
    let state = match error.kind() {
        std::io::ErrorKind::AddrInUse => SqlState::OBJECT_IN_USE,
        _ => SqlState::IO_ERROR,
    };
    Error::new(state, format!("could not listen on \"{address}\": {error}"))
}

/// Starts to serve `database`. Must be called within a tokio runtime. Errors: 55006 for an address that is
/// taken, F0000 for a certificate that cannot be used.
pub async fn serve(options: Options, database: Arc<dyn Database>) -> Result<Handle> {
    let handle = bind(&options.listen)?.listen(options)?;
    handle.open(database);
    Ok(handle)
}

async fn draining(phase: &mut watch::Receiver<Phase>) {
    // An error means that the handle is gone, which stops the server as well.
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
}

/// Out of descriptors or memory: what is open has to end first.
async fn accept_failed(error: std::io::Error) {
    tracing::warn!(%error, "could not accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// `task`, which [`Handle::stop`] waits for, comes first and so goes last: by then the port is closed.
async fn accept_tcp(
    task: mpsc::Sender<()>,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining(&mut phase) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Err(error) = tune(&stream) {
                    // The client is gone already.
                    tracing::trace!(%error, "a new connection could not be set up");
                    continue;
                }
                let peer =
                    Peer::Tcp { address: address.ip().to_canonical(), port: address.port(), tls: false };
                spawn(Stream::Tcp(super::socket::Socket::new(stream)), peer, &shared, &phase, &task);
            }
            Err(error) => accept_failed(error).await,
        }
    }
}

/// Answers leave at once; a peer that vanished without a word is noticed within some minutes.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(120))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

/// As [`accept_tcp`]; by then the socket is removed.
async fn accept_unix(
    task: mpsc::Sender<()>,
    unix: UnixSocket,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = unix.listener.accept() => accepted,
            () = draining(&mut phase) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                spawn(Stream::Unix(super::socket::Socket::new(stream)), Peer::Unix, &shared, &phase, &task);
            }
            Err(error) => accept_failed(error).await,
        }
    }
}

fn spawn(
    stream: Stream,
    peer: Peer,
    shared: &Arc<Shared>,
    phase: &watch::Receiver<Phase>,
    task: &mpsc::Sender<()>,
) {
    let Some(socket) = shared.slots.socket() else {
        // Even clients that only hold sockets open leave room for the others.
        return;
    };
    let link = Link::new(stream, phase.clone(), shared.options.limits);
    let (shared, task) = (shared.clone(), task.clone());
    tokio::spawn(async move {
        let guard = shared.options.metrics.connection();
        if let Err(panic) = AssertUnwindSafe(converse(link, &shared, peer)).catch_unwind().await {
            tracing::error!(error = %panic_error(panic.as_ref()), "a connection failed");
        }
        drop((guard, socket, task));
    });
}

/// One connection from the first byte to the last.
async fn converse(mut link: Link, shared: &Shared, peer: Peer) {
    // Boxed: the states of the login would otherwise be kept by every idle connection.
    let end = match Box::pin(startup::run(&mut link, shared, peer)).await {
        Ok(Some(established)) => {
            let slot = established.slot;
            let end = Connection::new(&mut link, established.session, &shared.options.metrics).run().await;
            drop(slot);
            end
        }
        Ok(None) => End::Done,
        Err(end) => end,
    };
    match end {
        End::Done => link.close(None).await,
        End::Fatal(error) => {
            shared.options.metrics.error(&error);
            tracing::debug!(%error, "a connection is closed");
            link.close(Some(&error)).await;
        }
        End::Gone(error) => tracing::debug!(%error, "a client is gone"),
    }
}

/// Counts connections against the limit.
pub struct Slots {
    used: AtomicUsize,
    /// Every open socket, those of clients that have not said who they are included.
    sockets: AtomicUsize,
    max: usize,
    reserved: usize,
}

/// A place among the connections; given back when dropped.
pub struct Slot(Arc<Slots>);

struct Socket(Arc<Slots>);

impl Slots {
    /// 53300 when all are taken.
    pub fn take(self: &Arc<Self>) -> Result<Slot> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < self.max).then_some(used + 1));
        match taken {
            Ok(_) => Ok(Slot(self.clone())),
            Err(_) => {
                Err(Error::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already").fatal())
            }
        }
    }

    fn socket(self: &Arc<Self>) -> Option<Socket> {
        let most = self.max * 2 + 64;
        self.sockets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1))
            .ok()
            .map(|_| Socket(self.clone()))
    }
}

impl Slot {
    /// 53300 when only reserved places are left and the role is no superuser.
    pub fn admit(&self, superuser: bool) -> Result<()> {
        let open = self.0.max.saturating_sub(self.0.reserved);
        if superuser || self.0.used.load(Ordering::Relaxed) <= open {
            return Ok(());
        }
        let message = "remaining connection slots are reserved for non-replication superuser connections";
        Err(Error::new(SqlState::TOO_MANY_CONNECTIONS, message).fatal())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The Unix-domain socket with its lock file. The lock is the kernel's (flock), so one left behind by a crash
/// holds nobody up; another PostgreSQL does not take it, so the socket is tried as well.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl UnixSocket {
    fn bind(directory: &Path, port: u16) -> Result<UnixSocket> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        let lock_path = directory.join(format!(".s.PGSQL.{port}.lock"));
        let failed = |error: std::io::Error| bind_error(path.display(), error);
        let in_use = || {
            Error::new(
                SqlState::OBJECT_IN_USE,
                format!("lock file \"{}\" already exists", lock_path.display()),
            )
            .hint(format!("Is another server using socket file \"{}\"?", path.display()))
        };
        let mut lock = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&lock_path)
                .map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use()),
                Err(error) => return Err(failed(error.into())),
            }
            // The holder before us may have removed the file between our open and our lock.
            let held = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&lock_path).is_ok_and(|named| named.ino() == held) {
                break file;
            }
        };
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(in_use());
        }
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        lock.set_len(0).map_err(failed)?;
        lock.rewind().map_err(failed)?;
        let content =
            format!("{}\n{}\n{port}\n{}\n", std::process::id(), directory.display(), path.display());
        lock.write_all(content.as_bytes()).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
        Ok(UnixSocket { listener, path, lock_path, lock })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        for path in [&self.path, &self.lock_path] {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "could not remove a socket file");
            }
        }
        // The lock is held until its file has no name any more.
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::debug!(%error, "could not unlock a socket's lock file");
        }
    }
}
