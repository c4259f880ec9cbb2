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

use crate::{Config, directory, memory, metrics};

/// How long running statements may take to end at a shutdown before they are cut off.
const GRACE: Duration = Duration::from_secs(8);

/// A running server. Dropping it without [`Server::stop`] is a crash, as far as the data is concerned: nothing
/// acknowledged is lost.
pub struct Server {
    runtime: Runtime,
    engine: Engine,
    database: Arc<sql::Database>,
    optimizer: Option<optimizer::Handle>,
    pg: wire::Handle,
    http: wire::http::Handle,
    ready: Arc<AtomicBool>,
    first_password: Option<String>,
}

impl Server {
    /// Starts everything and returns when clients can connect.
    pub fn start(config: &Config) -> Result<Server> {
        directory::prepare(&config.data_dir)?;
        let settings = &config.server;
        let mut options = engine::Options::new(&config.data_dir);
        options.buffer_pool_size = settings.buffer_pool_size;
        options.memtable_size = settings.memtable_size;
        options.old_snapshot_memory = settings.old_snapshot_memory;
        options.wal_segment_size = settings.wal_segment_size;
        options.wal_keep_segments = settings.wal_keep_segments;
        options.wal_max_size = settings.wal_max_size;
        if let Some(directory) = &settings.wal_archive_dir {
            let archive = engine::DirectoryArchive::new(options.disk.clone(), directory.clone())?;
            options.wal_archive = Some(Arc::new(archive));
        }
        options.checkpoint_wal_bytes = settings.checkpoint_wal_bytes;
        options.checkpoint_interval = settings.checkpoint_interval;
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        // Page reads may block a thread (rules 22), so there are more threads than cores.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores * 2 + 2)
            .thread_name("network")
            // Long flat expressions are deep trees; untouched stack costs address space only.
            .thread_stack_size(32 << 20)
            .on_thread_park(memory::before_park)
            .enable_all()
            .build()?;
        runtime.spawn(memory::watch(cores * 2 + 2));
        let starting = Starting::announce(&runtime, config, options.progress.clone());
        let engine = Engine::open(options);
        starting.end(&runtime);
        let engine = engine?;
        let new = engine.catalog().role_named(&config.user).is_none() && engine.is_new();
        let mut first_password = None;
        if new {
            first_password = Some(config.password.clone().unwrap_or_else(random_password));
        } else if config.password.is_some() {
            tracing::info!("the data directory exists already: password options are ignored");
        }
        let database = sql::Database::open(
            engine.clone(),
            sql::Options {
                superuser: config.user.clone(),
                password: first_password.clone(),
                database: config.database.clone(),
                settings: config.sql.clone(),
                max_connections: settings.max_connections,
                reserved_connections: settings.reserved_connections,
                memory_limit: settings.query_memory,
            },
        )?;
        let vectorised = analytic::Analytic::new(analytic::Options::new(config.data_dir.join("spill")))?;
        database.set_vectorised(Arc::new(vectorised));
        let optimizer =
            optimizer::start(runtime.handle(), database.clone(), &config.data_dir.join("optimizer"))?;
        let mut registry = Registry::default();
        let wire_metrics = wire::Metrics::register(&mut registry);
        registry.register_collector(Box::new(metrics::Readings {
            engine: engine.clone(),
            database: database.clone(),
            optimizer: optimizer.counters(),
        }));
        let tls = match (&settings.tls_certificate, &settings.tls_key) {
            (Some(certificate), Some(key)) => {
                wire::tls::Files { certificate: certificate.clone(), key: key.clone() }
            }
            (None, None) => wire::tls::ensure_certificate(&config.data_dir)?,
            _ => {
                return Err(Error::new(
                    SqlState::CONFIG_FILE_ERROR,
                    "tls.certificate and tls.key must be given together",
                ));
            }
        };
        let unix_directory = settings.unix_directory.clone().or_else(|| socket_directory(&config.data_dir));
        let ready = Arc::new(AtomicBool::new(false));
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
            .map_err(|error| port_hint(error, "--http 127.0.0.1:8081"))?;
            let pg = wire::serve(
                wire::Options {
                    listen: vec![config.listen],
                    unix_directory,
                    tls: Some(tls),
                    max_connections: settings.max_connections,
                    reserved_connections: settings.reserved_connections,
                    metrics: wire_metrics,
                    ..wire::Options::default()
                },
                database.clone(),
            )
            .await
            .map_err(|error| port_hint(error, "--listen 127.0.0.1:5433"))?;
            Ok::<_, Error>((pg, http))
        })?;
        ready.store(true, Ordering::Release);
        if let (Some(password), None) = (&first_password, &config.password) {
            // A generated password must reach its owner, and never the log.
            if !std::io::stderr().is_terminal() {
                let file = config.data_dir.join("initial-password");
                directory::write_private(&file, &format!("{password}\n"))?;
            }
        }
        Ok(Server { runtime, engine, database, optimizer: Some(optimizer), pg, http, ready, first_password })
    }

    /// Runs until SIGINT or SIGTERM.
    pub fn run_until_signal(config: Config) -> Result<()> {
        let server = Server::start(&config)?;
        server.announce(&config);
        let caught = server.runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => return Ok::<_, std::io::Error>("SIGINT"),
                    _ = terminate.recv() => return Ok("SIGTERM"),
                    _ = hangup.recv() => match server.pg.reload_tls() {
                        Ok(()) => tracing::info!("certificate read again"),
                        Err(error) => tracing::error!(%error, "the certificate could not be read again; the old one stays"),
                    },
                }
            }
        })?;
        tracing::info!(signal = caught, "stopping");
        server.stop()
    }

    fn announce(&self, config: &Config) {
        let listen = self.address();
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

    /// Takes no more clients, lets running statements end, writes a last checkpoint.
    pub fn stop(mut self) -> Result<()> {
        self.ready.store(false, Ordering::Release);
        self.database.stop();
        self.runtime.block_on(async {
            self.pg.stop(GRACE).await;
            if let Some(optimizer) = self.optimizer.take() {
                optimizer.stop().await;
            }
            self.http.stop().await;
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        self.engine.close()
    }
}

/// Answers on the ports while the log is replayed, if that takes a while: 57P03 to clients, the progress on
/// `/readyz`.
struct Starting {
    end: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Starting {
    fn announce(runtime: &Runtime, config: &Config, progress: Arc<engine::OpenProgress>) -> Starting {
        let (listen, http) = (config.listen, config.http);
        let (end, ended) = tokio::sync::oneshot::channel();
        let detail: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(move || {
            let (records, megabytes) = (progress.records(), progress.bytes() >> 20);
            format!("Replaying the log: {records} records, {megabytes} MB so far.")
        });
        let task = runtime.spawn(async move {
            tokio::pin!(ended);
            // An ordinary start is over by then.
            if tokio::time::timeout(Duration::from_millis(300), &mut ended).await.is_ok() {
                return;
            }
            let ready = {
                let detail = detail.clone();
                Arc::new(move || Err(detail()))
            };
            let options = wire::http::Options { listen: http, registry: Arc::default(), ready };
            let health = wire::http::serve(options).await;
            tokio::select! {
                _ = &mut ended => {}
                // A port that is taken is reported by the server itself in a moment.
                Err(error) = wire::refuse(listen, detail) => tracing::warn!(%error, "not listening yet"),
            }
            if let Ok(health) = health {
                health.stop().await;
            }
        });
        Starting { end, task }
    }

    fn end(self, runtime: &Runtime) {
        // The task may have ended by itself.
        let _ = self.end.send(());
        if let Err(error) = runtime.block_on(self.task) {
            tracing::error!(%error, "answering clients during the start");
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
