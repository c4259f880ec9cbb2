//! Assembly: directory, engine, database, optimizer, ports; and the same in reverse at the end.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::Engine;
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use value::{Error, Result, SqlState};

use crate::config::AuthMethod;
use crate::{Config, container, directory, health, init, memory, metrics, notify, telemetry};

/// How long clients may go on after SIGTERM, before they are ended as after SIGINT.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement that was cancelled may take to end at a shutdown before its connection is cut off. Together with the
/// other one less than the ten seconds after which containers are killed.
const GRACE: Duration = Duration::from_secs(3);

/// A running server. Dropping it without [`Server::stop`] is a crash, as far as the data is concerned: nothing
/// acknowledged is lost.
pub struct Server {
    runtime: Runtime,
    engine: Engine,
    database: Arc<sql::Database>,
    optimizer: Option<optimizer::Handle>,
    /// Goes on with what the last stop interrupted.
    resuming: tokio::task::JoinHandle<()>,
    pg: wire::Handle,
    http: wire::http::Handle,
    ready: Arc<AtomicBool>,
    health: health::Secret,
    /// Signals that ask for the end.
    ends: tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    first_password: Option<String>,
}

/// What a start has made before the engine is open.
struct Parts {
    runtime: Runtime,
    registry: Registry,
    network: wire::Options,
    listen: Vec<std::net::SocketAddr>,
    /// The port of a first start, closed until it is done.
    bound: Option<wire::Bound>,
    /// The port of a later start: clients are told to wait.
    early: Option<wire::Handle>,
    /// Answers those who ask for its health meanwhile.
    starting: Starting,
}

impl Server {
    /// Starts everything and returns when clients can connect. A first start that fails leaves nothing behind.
    pub fn start(config: &Config) -> Result<Server> {
        Server::start_watched(config, &Signals::default())
    }

    fn start_watched(config: &Config, signals: &Signals) -> Result<Server> {
        // What can be in somebody else's hands is looked at first, before anything is made.
        let bound =
            wire::bind(&[config.listen]).map_err(|error| port_hint(error, "--listen 127.0.0.1:5433"))?;
        http_port_is_free(config.http)?;
        if config.container {
            container::check_volumes(&config.data_dir)?;
        }
        let prepared = Arc::new(directory::prepare(&config.data_dir)?);
        signals.starting(&prepared);
        let started = Server::open(config, bound, &prepared, signals);
        if started.is_err() {
            prepared.undo();
        }
        started
    }

    /// The engine and everything above it; the engine is closed again when that fails.
    fn open(
        config: &Config,
        bound: wire::Bound,
        prepared: &directory::Prepared,
        signals: &Signals,
    ) -> Result<Server> {
        let settings = &config.server;
        if prepared.fresh
            && config.password.is_none()
            && config.auth_method != AuthMethod::Trust
            && config.container
        {
            return Err(Error::new(
                SqlState::CONFIG_FILE_ERROR,
                "the data directory is empty and the superuser's password is not given",
            )
            .hint("Set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE; POSTGRES_HOST_AUTH_METHOD=trust lets everybody in without one."));
        }
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        // As many as can run: each more costs every statement switches between them. What takes long, or waits for the disk,
        // leaves its thread to others (`sql::aside`).
        let threads = cores.max(2);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("network")
            // Long flat expressions are deep trees; untouched stack costs address space only.
            .thread_stack_size(32 << 20)
            .on_thread_park(memory::before_park)
            // Threads that large statements were moved to give their memory back when they end, not when they idle.
            .thread_keep_alive(Duration::from_millis(100))
            .enable_all()
            .build()?;
        runtime.spawn(memory::watch(threads));
        let mut registry = Registry::default();
        let listen = bound.addresses().to_vec();
        let network = wire::Options {
            unix_directory: settings.unix_directory.clone().or_else(|| socket_directory(&config.data_dir)),
            unix_port: listen.first().map(std::net::SocketAddr::port),
            tls: Some(match (&settings.tls_certificate, &settings.tls_key) {
                (Some(certificate), Some(key)) => {
                    wire::tls::Files { certificate: certificate.clone(), key: key.clone() }
                }
                _ => wire::tls::ensure_certificate(&config.data_dir)?,
            }),
            max_connections: settings.max_connections,
            reserved_connections: settings.reserved_connections,
            rules: rules(config.auth_method)?,
            metrics: wire::Metrics::register(&mut registry),
            ..wire::Options::default()
        };
        // While the log is replayed clients are told so. A first start keeps its port closed until it is done.
        let (bound, early) = if prepared.fresh {
            (Some(bound), None)
        } else {
            let _entered = runtime.enter();
            (None, Some(bound.listen(network.clone())?))
        };

        let mut options = engine::Options::new(&config.data_dir);
        options.divide_memory(
            settings.buffer_pool_size,
            settings.memtable_size,
            settings.old_snapshot_memory,
        );
        options.aside = sql::aside;
        options.disk = engine::disk::RealDisk::reading_aside(sql::aside);
        options.disk_reserve = settings.disk_reserve;
        options.wal_segment_size = settings.wal_segment_size;
        options.wal_keep_segments = settings.wal_keep_segments;
        options.wal_max_size = settings.wal_max_size;
        if let Some(directory) = &settings.wal_archive_dir {
            let archive = engine::DirectoryArchive::new(options.disk.clone(), directory.clone())?;
            options.wal_archive = Some(Arc::new(archive));
        }
        options.checkpoint_wal_bytes = settings.checkpoint_wal_bytes;
        options.checkpoint_interval = settings.checkpoint_interval;
        let starting = Starting::announce(&runtime, config.http, options.progress.clone());
        let engine = Engine::open(options)?;
        starting.opened.store(true, Ordering::Release);
        let parts = Parts { runtime, registry, network, listen, bound, early, starting };
        let assembled = Server::assemble(config, &engine, parts, prepared, signals);
        if assembled.is_err()
            && let Err(error) = engine.close()
        {
            tracing::warn!(%error, "the engine did not close cleanly");
        }
        assembled
    }

    fn assemble(
        config: &Config,
        engine: &Engine,
        parts: Parts,
        prepared: &directory::Prepared,
        signals: &Signals,
    ) -> Result<Server> {
        let Parts { runtime, mut registry, network, listen, bound, early, starting } = parts;
        // From here on the directory is ours: a check with the secret of an earlier start must fail.
        let health = health::Secret::new(&config.data_dir);
        let mut first_password = None;
        if prepared.fresh {
            first_password = match (&config.password, config.auth_method) {
                (Some(password), _) => Some(password.clone()),
                (None, AuthMethod::Trust) => None,
                (None, _) => Some(random_password()),
            };
        } else if config.password.is_some() {
            tracing::info!("the data directory exists already: password options are ignored");
        }
        let database = sql::Database::open(
            engine.clone(),
            sql::Options {
                superuser: config.user.clone(),
                password: first_password.clone(),
                database: config.database.clone(),
                settings: shown_settings(config),
                max_connections: config.server.max_connections,
                reserved_connections: config.server.reserved_connections,
                memory_limit: config.server.query_memory,
            },
        )?;
        let vectorised = analytic::Analytic::new(analytic::Options::new(config.data_dir.join("spill")))?;
        database.set_vectorised(Arc::new(vectorised));
        if prepared.fresh {
            first_scripts(config, &runtime, &network, &database, first_password.as_deref())?;
            prepared.finish()?;
        }
        let optimizer =
            optimizer::start(runtime.handle(), database.clone(), &config.data_dir.join("optimizer"))?;
        registry.register_collector(Box::new(metrics::Readings {
            engine: engine.clone(),
            database: database.clone(),
            optimizer: optimizer.counters(),
            data_dir: config.data_dir.clone(),
        }));
        let ready = Arc::new(AtomicBool::new(false));
        let guarded = Arc::new(health::Guarded::new(database.clone(), engine.clone(), &health, &listen));
        let resuming = runtime.spawn(database.resume_indexes());
        // Who sees that it is ready may stop it at once, and that is a clean stop.
        let ends = signals.running();
        starting.end(&runtime);
        let (pg, http) = runtime.block_on(async {
            let readiness = {
                let (ready, engine) = (ready.clone(), engine.clone());
                Arc::new(move || match engine.sealed() {
                    Some(error) => Err(error.to_string()),
                    None if ready.load(Ordering::Acquire) => Ok(()),
                    None => Err(String::from("starting")),
                })
            };
            let http = wire::http::serve(wire::http::Options {
                listen: config.http,
                registry: Arc::new(registry),
                ready: readiness,
            })
            .await
            .map_err(|error| port_hint(error, HTTP_HINT))?;
            let pg = match (early, bound) {
                (Some(pg), _) => pg,
                (None, Some(bound)) => {
                    bound.listen(network).map_err(|error| port_hint(error, "--listen 127.0.0.1:5433"))?
                }
                (None, None) => return Err(Error::internal("there is no address to listen on")),
            };
            pg.open(guarded);
            Ok::<_, Error>((pg, http))
        })?;
        if let Some(address) = pg.address() {
            health.publish(address)?;
        }
        ready.store(true, Ordering::Release);
        if let (Some(password), None) = (&first_password, &config.password) {
            // A generated password must reach its owner, and never the log.
            if !std::io::stderr().is_terminal() {
                let file = config.data_dir.join("initial-password");
                directory::write_private(&file, &format!("{password}\n"))?;
            }
        }
        let optimizer = Some(optimizer);
        Ok(Server {
            runtime,
            engine: engine.clone(),
            database,
            optimizer,
            resuming,
            pg,
            http,
            ready,
            health,
            ends,
            first_password,
        })
    }

    /// Runs until SIGINT or SIGTERM.
    pub fn run_until_signal(config: Config) -> Result<()> {
        let signals = Signals::watch()?;
        let mut server = Server::start_watched(&config, &signals)?;
        server.announce(&config);
        notify::tell("READY=1");
        let first = std::process::id() == 1;
        let caught = server.runtime.block_on(async {
            let mut child = signal(SignalKind::child())?;
            let mut hangup = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    end = server.ends.recv() => return Ok::<_, std::io::Error>(end.unwrap_or("the end of signals")),
                    _ = child.recv(), if first => container::reap(),
                    _ = hangup.recv() => match server.pg.reload_tls() {
                        Ok(()) => tracing::info!("certificate read again"),
                        Err(error) => tracing::error!(%error, "the certificate could not be read again; the old one stays"),
                    },
                }
            }
        })?;
        tracing::info!(signal = caught, "stopping");
        notify::tell("STOPPING=1");
        if caught == "SIGTERM" {
            server.wait_for_clients();
        }
        let stopped = server.stop();
        telemetry::stop();
        stopped
    }

    fn announce(&self, config: &Config) {
        let listen = self.address();
        for name in &config.unused {
            tracing::warn!("{name} is not used: there is no initdb here");
        }
        if config.auth_method == AuthMethod::Trust {
            tracing::warn!(
                "network.auth_method is trust: everybody who reaches the port is in, as any user, without a password"
            );
        }
        if config.password.is_none()
            && let Some(password) = &self.first_password
        {
            if std::io::stderr().is_terminal() {
                eprintln!("password of \"{}\" (shown only now): {password}", config.user);
            } else {
                let file = config.data_dir.join("initial-password");
                tracing::info!(file = %file.display(), user = config.user, "a password was made");
            }
        }
        let host =
            if listen.ip().is_unspecified() { String::from("127.0.0.1") } else { listen.ip().to_string() };
        tracing::info!(
            listen = %listen,
            http = %self.http.address(),
            data = %config.data_dir.display(),
            "ready; connect with: psql \"host={host} port={} user={} dbname={}\"",
            listen.port(),
            config.user,
            config.database.as_deref().unwrap_or("postgres"),
        );
    }

    /// Where the PostgreSQL protocol is served.
    pub fn address(&self) -> std::net::SocketAddr {
        self.pg.address().unwrap_or_else(|| std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Where health checks and metrics are served.
    pub fn http_address(&self) -> std::net::SocketAddr {
        self.http.address()
    }

    /// Takes no more clients and gives those who are connected time to end by themselves, unless SIGINT comes.
    fn wait_for_clients(&mut self) {
        self.ready.store(false, Ordering::Release);
        self.pg.close();
        let until = tokio::time::Instant::now() + PATIENCE;
        self.runtime.block_on(async {
            while self.pg.clients() > 0 {
                tokio::select! {
                    end = self.ends.recv() => if end != Some("SIGTERM") { return },
                    () = tokio::time::sleep_until(until) => return,
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        });
    }

    /// Takes no more clients, ends those who are connected (57P01), writes a last checkpoint.
    pub fn stop(mut self) -> Result<()> {
        self.ready.store(false, Ordering::Release);
        drop(self.health);
        self.database.stop();
        self.runtime.block_on(async {
            self.pg.stop(GRACE).await;
            // It was cancelled like a client's statement; an index is gone on with at the next start.
            match tokio::time::timeout(GRACE, self.resuming).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "going on with indexes"),
                Err(_) => tracing::warn!("the work on an index did not end by itself"),
            }
            if let Some(optimizer) = self.optimizer.take() {
                optimizer.stop().await;
            }
            self.http.stop().await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        self.engine.close()
    }
}

const HTTP_HINT: &str = "--http 127.0.0.1:8081";

/// A port that is taken is better known before a directory is made. Another process may still take it in between; the start fails
/// then as well, a little later.
fn http_port_is_free(address: std::net::SocketAddr) -> Result<()> {
    wire::bind(&[address]).map(drop).map_err(|error| port_hint(error, HTTP_HINT))
}

/// Who proves what, as the configuration says it.
fn rules(method: AuthMethod) -> Result<Vec<wire::Rule>> {
    let lines: &[&str] = match method {
        AuthMethod::ScramWithTls => return Ok(wire::Rule::defaults()),
        AuthMethod::Scram => &["local all all scram-sha-256", "host all all all scram-sha-256"],
        AuthMethod::Trust => &["local all all trust", "host all all all trust"],
    };
    lines.iter().map(|line| wire::Rule::parse(line)).collect()
}

/// The scripts of a first start, over the Unix-domain socket alone.
fn first_scripts(
    config: &Config,
    runtime: &Runtime,
    network: &wire::Options,
    database: &Arc<sql::Database>,
    password: Option<&str>,
) -> Result<()> {
    let Some(directory) = &config.init_directory else { return Ok(()) };
    let scripts = init::scripts(directory)?;
    if scripts.is_empty() {
        return Ok(());
    }
    // A path too long for a socket gets a short one, for nobody but us.
    let short = format!("/tmp/.startdb-init-{}", std::process::id());
    let socket = match &network.unix_directory {
        Some(directory) => directory.clone(),
        None => {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().mode(0o700).create(&short)?;
            PathBuf::from(&short)
        }
    };
    let port = network.unix_port.filter(|port| *port > 0).unwrap_or(5432);
    let options = wire::Options {
        listen: Vec::new(),
        unix_directory: Some(socket.clone()),
        unix_port: Some(port),
        tls: None,
        metrics: wire::Metrics::default(),
        ..network.clone()
    };
    let inside = runtime.block_on(wire::serve(options, database.clone()))?;
    let ran = init::run(
        &scripts,
        &init::Surroundings {
            socket: &socket,
            port,
            user: &config.user,
            password,
            database: config.database.as_deref().unwrap_or("postgres"),
        },
    );
    runtime.block_on(inside.stop(Duration::from_secs(1)));
    if network.unix_directory.is_none()
        && let Err(error) = std::fs::remove_dir_all(&short)
    {
        tracing::warn!(%error, "could not remove \"{short}\"");
    }
    ran
}

/// SIGINT and SIGTERM, from the first moment on. Before the server runs there is nothing to stop cleanly, but a first process of a
/// container would not even hear them, and a first start must not leave half of itself behind. Afterwards they are handed to
/// whoever waits for the end; none is lost in between.
#[derive(Clone, Default)]
struct Signals(Arc<parking_lot::Mutex<Phase>>);

#[derive(Default)]
enum Phase {
    #[default]
    Before,
    Starting(Arc<directory::Prepared>),
    Running(tokio::sync::mpsc::UnboundedSender<&'static str>),
}

impl Signals {
    fn watch() -> Result<Signals> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let phase = Signals::default();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let watched = phase.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let phase = watched.0.lock();
                match &*phase {
                    Phase::Running(ends) => {
                        // Nobody waits any more when the server is stopping already.
                        let _ = ends.send(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                        continue;
                    }
                    Phase::Before => {}
                    Phase::Starting(prepared) => {
                        init::interrupt();
                        prepared.undo();
                    }
                }
                eprintln!("startdb: stopped by a signal before it was ready");
                std::process::exit(128 + signal);
            }
        })?;
        Ok(phase)
    }

    fn starting(&self, prepared: &Arc<directory::Prepared>) {
        *self.0.lock() = Phase::Starting(prepared.clone());
    }

    /// From now on signals come from the channel.
    fn running(&self) -> tokio::sync::mpsc::UnboundedReceiver<&'static str> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        *self.0.lock() = Phase::Running(sender);
        receiver
    }
}

/// Answers `/livez` and `/readyz` while the log is replayed and while the scripts of a first start run, if that takes a while. (Clients
/// of the database are answered by its own port, or not at all.)
struct Starting {
    end: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    /// The log is replayed.
    opened: Arc<AtomicBool>,
}

impl Starting {
    fn announce(
        runtime: &Runtime,
        http: std::net::SocketAddr,
        progress: Arc<engine::OpenProgress>,
    ) -> Starting {
        let (end, ended) = tokio::sync::oneshot::channel();
        let opened = Arc::new(AtomicBool::new(false));
        let now = opened.clone();
        let ready = Arc::new(move || {
            if now.load(Ordering::Acquire) {
                return Err(String::from("the first start is not done"));
            }
            let (records, megabytes) = (progress.records(), progress.bytes() >> 20);
            Err(format!("replaying the log: {records} records, {megabytes} MB so far"))
        });
        let task = runtime.spawn(async move {
            tokio::pin!(ended);
            // An ordinary start is over by then.
            if tokio::time::timeout(Duration::from_millis(300), &mut ended).await.is_ok() {
                return;
            }
            let options = wire::http::Options { listen: http, registry: Arc::default(), ready };
            match wire::http::serve(options).await {
                Ok(health) => {
                    // Ended or dropped: the start goes on, or has failed.
                    let _ = ended.await;
                    health.stop().await;
                }
                // A port that is taken is reported by the server itself in a moment.
                Err(error) => tracing::warn!(%error, "the progress cannot be told yet"),
            }
        });
        Starting { end, task, opened }
    }

    fn end(self, runtime: &Runtime) {
        // The task may have ended by itself.
        let _ = self.end.send(());
        if let Err(error) = runtime.block_on(self.task) {
            tracing::error!(%error, "answering health checks during the start");
        }
    }
}

fn port_hint(error: Error, other: &str) -> Error {
    if error.state() == SqlState::OBJECT_IN_USE {
        error.hint(format!("Another server uses this port; choose one with {other}."))
    } else {
        error
    }
}

/// The data directory, if a socket's name there is not too long for the operating system (108 bytes with the NUL).
fn socket_directory(data_dir: &Path) -> Option<PathBuf> {
    let full = std::path::absolute(data_dir).ok()?;
    if full.as_os_str().len() + "/.s.PGSQL.65535".len() > 107 {
        tracing::warn!(directory = %full.display(), "the path is too long for a Unix-domain socket; none is made");
        return None;
    }
    Some(full)
}

/// 24 characters without look-alikes: about 138 bits.
fn random_password() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    (0..24).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// What SHOW says: the server's own settings under the names that PostgreSQL has for them, then what the configuration
/// gives for statements, which may name them too.
fn shown_settings(config: &Config) -> Vec<(String, String)> {
    let own = [
        // In pages of 8 kB, at least as many as PostgreSQL allows.
        ("shared_buffers", (config.server.buffer_pool_size >> 13).clamp(16, 1_073_741_823)),
        ("max_connections", config.server.max_connections as u64),
        ("superuser_reserved_connections", config.server.reserved_connections as u64),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
    own.chain(config.sql.iter().cloned()).collect()
}
