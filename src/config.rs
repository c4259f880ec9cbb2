//! What can be configured, and where from: built-in defaults < file < environment < flags.
//!
//! [`SETTINGS`] is the one table: a row is a key of the file, its flag and variables, its meaning, its default, how a value is taken and how
//! it is shown. The parser, `config show`, `config default` and the sample in deploy/ are made from it; to add a setting, add a row (and a
//! field that it sets).
//!
//! A flag and its `STARTDB_` variable are one name (the flag wins). The variables of the official postgres image are other
//! names for the same things; giving one thing under two names is an error that names both, because whichever won
//! would be a surprise.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{self, StartArgs};

/// Name of the configuration file in the data directory.
pub const FILE: &str = "startdb.toml";
/// Directory of more of them, beside the file.
pub const INCLUDED: &str = "conf.d";
/// Where the postgres image looks for scripts of the first start.
const INIT_DIRECTORY: &str = "/docker-entrypoint-initdb.d";

/// Everything the server needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub user: String,
    /// Clear text, from the environment or a file; only looked at when the directory is new.
    pub password: Option<String>,
    /// A database to make besides `postgres`.
    pub database: Option<String>,
    /// Scripts to run once, on the first start.
    pub init_directory: Option<PathBuf>,
    pub auth_method: AuthMethod,
    /// The process is a container's main process: nobody reads what it prints, and a volume must be where the data go.
    pub container: bool,
    pub server: ServerSettings,
    /// Settings of the SQL layer (`work_mem`, `TimeZone`).
    pub sql: Vec<(String, String)>,
    /// Variables of the postgres image that are set and mean nothing here.
    pub unused: Vec<&'static str>,
    origins: BTreeMap<String, Origin>,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM from everywhere, TLS from other machines.
    #[default]
    ScramWithTls,
    /// SCRAM from everywhere, TLS not demanded: what the postgres image means by scram-sha-256.
    Scram,
    /// Nobody proves anything.
    Trust,
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    BuiltIn,
    File(PathBuf, usize),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("built-in"),
            Origin::File(file, line) => write!(f, "{}:{line}", file.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Settings with a dot in their name.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub buffer_pool_size: u64,
    /// `None`: its part of the pool.
    pub memtable_size: Option<u64>,
    pub old_snapshot_memory: Option<u64>,
    pub disk_reserve: u64,
    pub wal_segment_size: u64,
    pub wal_keep_segments: usize,
    pub wal_max_size: u64,
    pub wal_archive_dir: Option<PathBuf>,
    pub checkpoint_wal_bytes: u64,
    pub checkpoint_interval: Duration,
    pub max_connections: usize,
    pub reserved_connections: usize,
    pub unix_directory: Option<PathBuf>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub query_memory: u64,
    pub log_filter: String,
}

/// One row of the table.
pub struct Setting {
    /// `section.key`
    pub key: &'static str,
    /// As it is written in the file; empty: no value.
    pub default: &'static str,
    pub what: &'static str,
    /// Its own flag and its own variables, besides `-c` and `STARTDB_SECTION__KEY`.
    pub other_names: &'static [&'static str],
    apply: fn(&mut Config, &str) -> Result<(), String>,
    show: fn(&Config) -> String,
}

fn shown_path(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// The one table of settings.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "storage.data_dir",
        default: "./startdb-data",
        what: "directory of the data, made on the first start; only in a file given by --config",
        other_names: &["--data-dir", "STARTDB_DATA_DIR", "PGDATA"],
        apply: |c, v| {
            c.data_dir = PathBuf::from(v);
            Ok(())
        },
        show: |c| c.data_dir.display().to_string(),
    },
    Setting {
        key: "storage.buffer_pool_size",
        default: "25%",
        what: "memory for all that the storage keeps: caches, recent changes, what old snapshots see; a size, or a share of the RAM",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.buffer_pool_size = v),
        show: |c| size(c.server.buffer_pool_size),
    },
    Setting {
        key: "storage.memtable_size",
        default: "",
        what: "changes in memory after which a checkpoint begins; empty: a sixteenth of the pool, at most 256MB",
        other_names: &[],
        apply: |c, v| optional_bytes(v).map(|v| c.server.memtable_size = v),
        show: |c| c.server.memtable_size.map(size).unwrap_or_default(),
    },
    Setting {
        key: "storage.old_snapshot_memory",
        default: "",
        what: "memory for what only old snapshots still see, beyond it the oldest end with 72000; empty: a quarter of the pool, at most 1GB",
        other_names: &[],
        apply: |c, v| optional_bytes(v).map(|v| c.server.old_snapshot_memory = v),
        show: |c| c.server.old_snapshot_memory.map(size).unwrap_or_default(),
    },
    Setting {
        key: "storage.disk_reserve",
        default: "64MB",
        what: "room on the disk that writes leave beside what the next checkpoint needs; dropping things may use half of it",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.disk_reserve = v),
        show: |c| size(c.server.disk_reserve),
    },
    Setting {
        key: "wal.segment_size",
        default: "100MB",
        what: "size of one log file",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.wal_segment_size = v),
        show: |c| size(c.server.wal_segment_size),
    },
    Setting {
        key: "wal.keep_segments",
        default: "10",
        what: "log files kept after they are no longer needed",
        other_names: &[],
        apply: |c, v| number(v).map(|v| c.server.wal_keep_segments = v),
        show: |c| c.server.wal_keep_segments.to_string(),
    },
    Setting {
        key: "wal.max_size",
        default: "4GB",
        what: "size of the log above which a checkpoint is made and a warning given",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.wal_max_size = v),
        show: |c| size(c.server.wal_max_size),
    },
    Setting {
        key: "wal.archive_dir",
        default: "",
        what: "directory to which finished log files are copied before they are used again; empty: none",
        other_names: &[],
        apply: |c, v| {
            c.server.wal_archive_dir = optional_path(v);
            Ok(())
        },
        show: |c| shown_path(c.server.wal_archive_dir.as_ref()),
    },
    Setting {
        key: "checkpoint.wal_size",
        default: "256MB",
        what: "log written before a checkpoint begins",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.checkpoint_wal_bytes = v),
        show: |c| size(c.server.checkpoint_wal_bytes),
    },
    Setting {
        key: "checkpoint.interval",
        default: "30s",
        what: "time between checkpoints",
        other_names: &[],
        apply: |c, v| duration(v).map(|v| c.server.checkpoint_interval = v),
        show: |c| time(c.server.checkpoint_interval),
    },
    Setting {
        key: "network.listen",
        default: "127.0.0.1:5432",
        what: "address of the PostgreSQL protocol; 0.0.0.0:5432 for other machines",
        other_names: &["--listen", "STARTDB_LISTEN"],
        apply: |c, v| address(v).map(|v| c.listen = v),
        show: |c| c.listen.to_string(),
    },
    Setting {
        key: "network.http",
        default: "127.0.0.1:8080",
        what: "address of health checks and metrics",
        other_names: &["--http", "STARTDB_HTTP"],
        apply: |c, v| address(v).map(|v| c.http = v),
        show: |c| c.http.to_string(),
    },
    Setting {
        key: "network.auth_method",
        default: "default",
        what: "default (password; TLS from other machines), scram-sha-256 (password; TLS if the client wants it) or trust (no password at all)",
        other_names: &["POSTGRES_HOST_AUTH_METHOD"],
        apply: |c, v| {
            c.auth_method = match v {
                "default" => AuthMethod::ScramWithTls,
                // As in PostgreSQL: with stored SCRAM verifiers, md5 means SCRAM.
                "scram-sha-256" | "md5" => AuthMethod::Scram,
                "trust" => AuthMethod::Trust,
                _ => return Err(format!("\"{v}\" is not supported; use default, scram-sha-256 or trust")),
            };
            Ok(())
        },
        show: |c| {
            match c.auth_method {
                AuthMethod::ScramWithTls => "default",
                AuthMethod::Scram => "scram-sha-256",
                AuthMethod::Trust => "trust",
            }
            .to_owned()
        },
    },
    Setting {
        key: "network.max_connections",
        default: "100",
        what: "client connections at once",
        other_names: &[],
        apply: |c, v| number(v).map(|v| c.server.max_connections = v),
        show: |c| c.server.max_connections.to_string(),
    },
    Setting {
        key: "network.reserved_connections",
        default: "3",
        what: "of these, kept for superusers",
        other_names: &[],
        apply: |c, v| number(v).map(|v| c.server.reserved_connections = v),
        show: |c| c.server.reserved_connections.to_string(),
    },
    Setting {
        key: "network.unix_directory",
        default: "",
        what: "directory of the Unix-domain socket; empty: the data directory",
        other_names: &[],
        apply: |c, v| {
            c.server.unix_directory = optional_path(v);
            Ok(())
        },
        show: |c| shown_path(c.server.unix_directory.as_ref()),
    },
    Setting {
        key: "tls.certificate",
        default: "",
        what: "PEM file with the certificate chain; empty: one is made on the first start",
        other_names: &[],
        apply: |c, v| {
            c.server.tls_certificate = optional_path(v);
            Ok(())
        },
        show: |c| shown_path(c.server.tls_certificate.as_ref()),
    },
    Setting {
        key: "tls.key",
        default: "",
        what: "PEM file with its private key",
        other_names: &[],
        apply: |c, v| {
            c.server.tls_key = optional_path(v);
            Ok(())
        },
        show: |c| shown_path(c.server.tls_key.as_ref()),
    },
    Setting {
        key: "query.memory",
        default: "25%",
        what: "memory of all running statements together; a size, or a share of the RAM",
        other_names: &[],
        apply: |c, v| bytes(v).map(|v| c.server.query_memory = v),
        show: |c| size(c.server.query_memory),
    },
    Setting {
        key: "log.filter",
        default: "info",
        what: "what is logged, e.g. info or info,audit=off",
        other_names: &[],
        apply: |c, v| {
            v.clone_into(&mut c.server.log_filter);
            Ok(())
        },
        show: |c| c.server.log_filter.clone(),
    },
    Setting {
        key: "init.user",
        default: "postgres",
        what: "superuser to make on the first start",
        other_names: &["--user", "STARTDB_USER", "POSTGRES_USER"],
        apply: |c, v| {
            v.clone_into(&mut c.user);
            Ok(())
        },
        show: |c| c.user.clone(),
    },
    Setting {
        key: "init.password_file",
        default: "",
        what: "file with that user's password, read on the first start; empty: a password is made at random",
        other_names: &[
            "--password-file",
            "STARTDB_PASSWORD_FILE",
            "POSTGRES_PASSWORD",
            "POSTGRES_PASSWORD_FILE",
        ],
        apply: |c, v| {
            if let Some(file) = optional_path(v) {
                c.password = Some(read_secret("init.password_file", &file).map_err(|stop| stop.to_string())?);
            }
            Ok(())
        },
        // What it says is nobody's business.
        show: |c| if c.password.is_some() { "(given)".to_owned() } else { String::new() },
    },
    Setting {
        key: "init.database",
        default: "",
        what: "database to make on the first start; empty: one named like the user",
        other_names: &["POSTGRES_DB"],
        apply: |c, v| {
            c.database = Some(v.to_owned()).filter(|v| !v.is_empty());
            Ok(())
        },
        show: |c| c.database.clone().unwrap_or_default(),
    },
    Setting {
        key: "init.directory",
        default: "/docker-entrypoint-initdb.d",
        what: "directory of scripts to run once, after the first start and before the first client: .sql .sql.gz .sql.xz .sql.zst .sh, by name",
        other_names: &[],
        apply: |c, v| {
            c.init_directory = optional_path(v);
            Ok(())
        },
        show: |c| shown_path(c.init_directory.as_ref()),
    },
];

/// Names that PostgreSQL has for settings of ours: what compose files and scripts give with `-c`.
const POSTGRES_NAMES: &[(&str, &str)] = &[
    ("max_connections", "network.max_connections"),
    ("superuser_reserved_connections", "network.reserved_connections"),
    ("unix_socket_directories", "network.unix_directory"),
    ("ssl_cert_file", "tls.certificate"),
    ("ssl_key_file", "tls.key"),
];

/// Why there is nothing to start: help was asked for, or something is wrong.
#[derive(Debug)]
pub enum Stop {
    /// What clap prints (help and version go to stdout with exit code 0).
    Usage(clap::Error),
    Invalid(String),
    Failed(value::Error),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Usage(error) => error.fmt(f),
            Stop::Invalid(message) => f.write_str(message),
            Stop::Failed(error) => {
                let fields = error.fields();
                f.write_str(&fields.message)?;
                for (label, text) in [("detail", &fields.detail), ("hint", &fields.hint)] {
                    if let Some(text) = text {
                        write!(f, "\n  {label}: {text}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Stop {
    pub fn exit(self) -> ExitCode {
        if let Stop::Usage(error) = &self {
            // Nothing is left to do when even the terminal cannot be written to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        eprintln!("startdb: {self}");
        ExitCode::FAILURE
    }
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The data directory of a sub-command: its flag, else the variables, else the usual place. The configuration file has no say in it.
pub fn data_directory(flag: Option<PathBuf>, variable: Variable<'_>) -> Result<PathBuf, Stop> {
    let own = flag
        .map(|value| ("--data-dir", value))
        .or_else(|| variable("STARTDB_DATA_DIR").map(|value| ("STARTDB_DATA_DIR", PathBuf::from(value))));
    let other = variable("PGDATA").map(|value| ("PGDATA", PathBuf::from(value)));
    let given = one_of("data directory", own, other)?.map(|(_, directory)| directory);
    Ok(given.unwrap_or_else(|| PathBuf::from("./startdb-data")))
}

impl Config {
    /// From a start's arguments and this process's environment.
    pub fn of_process(args: &StartArgs) -> Result<Config, Stop> {
        Config::layered(args, &|name| std::env::var(name).ok(), std::env::vars().collect())
    }

    /// From given arguments (the program's name first) and variables.
    pub fn from(
        args: impl IntoIterator<Item = OsString>,
        variable: Variable<'_>,
        all: Vec<(String, String)>,
    ) -> Result<Config, Stop> {
        Config::layered(&cli::start_arguments(args)?, variable, all)
    }

    fn built_in() -> Result<Config, Stop> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            data_dir: PathBuf::new(),
            file: None,
            listen: nowhere,
            http: nowhere,
            user: String::new(),
            password: None,
            database: None,
            init_directory: None,
            auth_method: AuthMethod::default(),
            container: false,
            server: ServerSettings {
                buffer_pool_size: 0,
                memtable_size: None,
                wal_segment_size: 0,
                wal_keep_segments: 0,
                old_snapshot_memory: None,
                disk_reserve: 0,
                wal_max_size: 0,
                wal_archive_dir: None,
                checkpoint_wal_bytes: 0,
                checkpoint_interval: Duration::ZERO,
                max_connections: 0,
                reserved_connections: 0,
                unix_directory: None,
                tls_certificate: None,
                tls_key: None,
                query_memory: 0,
                log_filter: String::new(),
            },
            sql: Vec::new(),
            unused: Vec::new(),
            origins: BTreeMap::new(),
        };
        for setting in SETTINGS {
            (setting.apply)(&mut config, setting.default)
                .map_err(|error| Stop::Invalid(format!("the default of {}: {error}", setting.key)))?;
        }
        Ok(config)
    }

    fn layered(args: &StartArgs, variable: Variable<'_>, all: Vec<(String, String)>) -> Result<Config, Stop> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut config = Config::built_in()?;
        let given_file = args.config.clone().map(|file| ("--config".to_owned(), file)).or_else(|| {
            variable("STARTDB_CONFIG").map(|file| ("STARTDB_CONFIG".to_owned(), PathBuf::from(file)))
        });
        let directory_given = args.data_dir.is_some()
            || ["STARTDB_DATA_DIR", "PGDATA"].iter().any(|name| variable(name).is_some());
        let directory = data_directory(args.data_dir.clone(), &variable)?;
        match given_file {
            Some((name, file)) => {
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    Stop::Invalid(format!("{name}: could not read \"{}\": {error}", file.display()))
                })?;
                config.read_file(&file, &text, true)?;
                config.read_included(&file, true)?;
            }
            None => {
                let file = directory.join(FILE);
                match std::fs::read_to_string(&file) {
                    Ok(text) => config.read_file(&file, &text, false)?,
                    // A directory that cannot be entered is the start's business; it has the better words for it.
                    Err(error)
                        if matches!(
                            error.kind(),
                            std::io::ErrorKind::NotFound
                                | std::io::ErrorKind::NotADirectory
                                | std::io::ErrorKind::PermissionDenied
                        ) => {}
                    Err(error) => {
                        return Err(Stop::Invalid(format!("could not read \"{}\": {error}", file.display())));
                    }
                }
                config.read_included(&file, false)?;
            }
        }
        if directory_given || !config.origins.contains_key("storage.data_dir") {
            config.data_dir = directory;
            if directory_given {
                let origin = match &args.data_dir {
                    Some(_) => Origin::Flag("--data-dir".to_owned()),
                    None if variable("PGDATA").is_some() => Origin::Variable("PGDATA".to_owned()),
                    None => Origin::Variable("STARTDB_DATA_DIR".to_owned()),
                };
                config.origins.insert("storage.data_dir".to_owned(), origin);
            }
        }
        config.environment(&variable, all)?;
        config.names_of_the_image(args, &variable)?;
        for (key, flag, value) in
            [("network.listen", "--listen", &args.listen), ("network.http", "--http", &args.http)]
        {
            if let Some(value) = value {
                config
                    .set(key, value, Origin::Flag(flag.to_owned()))
                    .map_err(|error| Stop::Invalid(format!("{flag}: {error}")))?;
            }
        }
        for setting in &args.settings {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Stop::Invalid(format!("-c {setting}: expected KEY=VALUE")))?;
            config
                .set(name.trim(), value.trim(), Origin::Flag("-c".to_owned()))
                .map_err(|error| Stop::Invalid(format!("-c {setting}: {error}")))?;
        }
        // Options of initdb: there is none.
        config.unused = ["POSTGRES_INITDB_ARGS", "POSTGRES_INITDB_WALDIR"]
            .into_iter()
            .filter(|name| variable(name).is_some())
            .collect();
        config.container = variable("STARTDB_CONTAINER").is_some() || std::process::id() == 1;
        // As with the postgres image, and because clients ask for the database named like their user.
        if config.database.is_none() && config.user != "postgres" {
            config.database = Some(config.user.clone());
        }
        // A directory that nobody asked for need not be there.
        if config.init_directory.as_deref() == Some(Path::new(INIT_DIRECTORY))
            && !config.origins.contains_key("init.directory")
            && !Path::new(INIT_DIRECTORY).is_dir()
        {
            config.init_directory = None;
        }
        if config.server.tls_certificate.is_some() != config.server.tls_key.is_some() {
            return Err(Stop::Invalid("tls.certificate and tls.key must be given together".to_owned()));
        }
        Ok(config)
    }

    /// STARTDB_SECTION__KEY, and the variables with names of their own.
    fn environment(&mut self, variable: Variable<'_>, all: Vec<(String, String)>) -> Result<(), Stop> {
        for (key, name) in [("network.listen", "STARTDB_LISTEN"), ("network.http", "STARTDB_HTTP")] {
            if let Some(value) = variable(name) {
                self.set(key, &value, Origin::Variable(name.to_owned()))
                    .map_err(|error| Stop::Invalid(format!("{name}: {error}")))?;
            }
        }
        let mut sectioned: Vec<(String, String)> = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("STARTDB_")?.to_owned(), value)))
            .filter(|(name, _)| name.contains("__"))
            .collect();
        sectioned.sort();
        for (name, value) in sectioned {
            let (section, key) = name.split_once("__").unwrap_or((&name, ""));
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            let setting = if section == "sql" { key } else { format!("{section}.{key}") };
            self.set(&setting, &value, Origin::Variable(format!("STARTDB_{name}")))
                .map_err(|error| Stop::Invalid(format!("STARTDB_{name}: {error}")))?;
        }
        Ok(())
    }

    /// The first user, its password and database: flags, our variables, and those of the postgres image.
    fn names_of_the_image(&mut self, args: &StartArgs, variable: Variable<'_>) -> Result<(), Stop> {
        let origin = |name: &str| {
            if name.starts_with("--") {
                Origin::Flag(name.to_owned())
            } else {
                Origin::Variable(name.to_owned())
            }
        };
        let user = args
            .user
            .clone()
            .map(|value| ("--user", value))
            .or_else(|| variable("STARTDB_USER").map(|value| ("STARTDB_USER", value)));
        let user =
            one_of("superuser's name", user, secret(variable, "POSTGRES_USER", "POSTGRES_USER_FILE")?)?;
        if let Some((name, user)) = user {
            self.user = user;
            self.origins.insert("init.user".to_owned(), origin(name));
        }
        let password_file =
            args.password_file.clone().map(|value| ("--password-file", value)).or_else(|| {
                variable("STARTDB_PASSWORD_FILE").map(|value| ("STARTDB_PASSWORD_FILE", PathBuf::from(value)))
            });
        let password_file = match password_file {
            None => None,
            Some((name, file)) => Some((name, read_secret(name, &file)?)),
        };
        let password = one_of(
            "superuser's password",
            password_file,
            secret(variable, "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE")?,
        )?;
        if let Some((name, password)) = password {
            self.password = Some(password);
            self.origins.insert("init.password_file".to_owned(), origin(name));
        }
        if let Some((name, database)) = secret(variable, "POSTGRES_DB", "POSTGRES_DB_FILE")? {
            self.database = Some(database);
            self.origins.insert("init.database".to_owned(), origin(name));
        }
        if let Some(method) = variable("POSTGRES_HOST_AUTH_METHOD") {
            let name = "POSTGRES_HOST_AUTH_METHOD";
            self.set("network.auth_method", &method, Origin::Variable(name.to_owned()))
                .map_err(|error| Stop::Invalid(format!("{name}: {error}")))?;
        }
        Ok(())
    }

    /// The files `*.toml` of the directory `conf.d` beside a configuration file, in the order of their names: each wins over those
    /// before it.
    fn read_included(&mut self, file: &Path, chosen: bool) -> Result<(), Stop> {
        let directory = file.with_file_name(INCLUDED);
        let failed = |path: &Path, error: std::io::Error| {
            Stop::Invalid(format!("could not read \"{}\": {error}", path.display()))
        };
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound
                        | std::io::ErrorKind::NotADirectory
                        | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(failed(&directory, error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(&directory, error))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
        files.sort();
        let main = self.file.clone();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            self.read_file(&path, &text, chosen)?;
        }
        self.file = main;
        Ok(())
    }

    fn read_file(&mut self, path: &Path, text: &str, chosen: bool) -> Result<(), Stop> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let wrong = |line: usize, what: String| Stop::Invalid(format!("{}:{line}: {what}", path.display()));
        let document = toml::de::DeTable::parse(text).map_err(|error| {
            wrong(error.span().map_or(1, |span| line_of(span.start)), error.message().to_owned())
        })?;
        let mut pairs = Vec::new();
        for (section, value) in document.into_inner() {
            let line = line_of(section.span().start);
            match value.into_inner() {
                toml::de::DeValue::Table(table) => {
                    flatten(section.get_ref(), table, &mut pairs);
                }
                _ => {
                    let name = section.get_ref();
                    return Err(wrong(
                        line,
                        format!("\"{name}\" stands outside of a section; {}", nearest(name)),
                    ));
                }
            }
        }
        // In the order of the file, whatever the order of its sections.
        pairs.sort_by_key(|(_, offset, _)| *offset);
        for (key, offset, value) in pairs {
            let line = line_of(offset);
            let value = value.ok_or_else(|| {
                wrong(line, format!("\"{key}\": a value is a text, a number or true and false"))
            })?;
            if key == "storage.data_dir" && !chosen {
                return Err(wrong(
                    line,
                    "storage.data_dir cannot stand in a file inside the data directory".to_owned(),
                ));
            }
            let name = key.strip_prefix("sql.").unwrap_or(&key);
            self.set(name, &value, Origin::File(path.to_owned(), line))
                .map_err(|error| wrong(line, error))?;
        }
        self.file = Some(path.to_owned());
        Ok(())
    }

    /// One value from anywhere. A name without a dot, and `startdb.*`, is the SQL layer's.
    fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), String> {
        let name = POSTGRES_NAMES.iter().find(|(known, _)| *known == name).map_or(name, |(_, ours)| ours);
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) {
            (setting.apply)(self, value)?;
            self.origins.insert(name.to_owned(), origin);
            return Ok(());
        }
        if name.contains('.') && !name.starts_with("startdb.") {
            return Err(format!("unknown setting \"{name}\"; {}", nearest(name)));
        }
        sql::check_setting(name, value).map_err(|error| match &error.fields().hint {
            Some(hint) => format!("{} ({hint})", error.message()),
            None if error.state() == value::SqlState::UNDEFINED_OBJECT => {
                format!("{}; {}", error.message(), nearest(name))
            }
            None => error.message().to_owned(),
        })?;
        self.sql.retain(|(known, _)| known != name);
        self.sql.push((name.to_owned(), value.to_owned()));
        self.origins.insert(name.to_owned(), origin);
        Ok(())
    }

    /// Where a value comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }

    /// All settings as `key = value` lines, with their origin behind them if wanted.
    pub fn shown(&self, origin: bool) -> String {
        let own = SETTINGS.iter().map(|setting| (setting.key.to_owned(), (setting.show)(self)));
        let sql = self.sql.iter().cloned();
        let lines: Vec<(String, String)> =
            own.chain(sql).map(|(key, value)| (format!("{key} = {}", quoted(&value)), key)).collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        lines
            .iter()
            .map(|(line, key)| {
                if origin { format!("{line:<width$}  # {}\n", self.origin(key)) } else { format!("{line}\n") }
            })
            .collect()
    }
}

/// Names and values of a table, with the names of tables inside before them.
fn flatten(name: &str, table: toml::de::DeTable<'_>, pairs: &mut Vec<(String, usize, Option<String>)>) {
    use toml::de::DeValue;
    for (key, value) in table {
        let (offset, key) = (key.span().start, format!("{name}.{}", key.get_ref()));
        let text = match value.into_inner() {
            DeValue::String(text) => Some(text.into_owned()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Integer(value) => Some(value.to_string()),
            DeValue::Float(value) => Some(value.to_string()),
            DeValue::Table(table) => {
                flatten(&key, table, pairs);
                continue;
            }
            DeValue::Array(_) | DeValue::Datetime(_) => None,
        };
        pairs.push((key, offset, text));
    }
}

/// A configuration file with every setting: its meaning, its default, its other names.
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of StartDB: DATA/startdb.toml, or a file given with --config. Lines show the defaults; remove the # to change one.\n# Files conf.d/*.toml beside this one are read after it, in the order of their names.\n# The environment (STARTDB_SECTION__KEY) and flags (-c section.key=value) win over this file.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (group, key) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if group != section {
            text.push_str(&format!("\n[{group}]\n"));
            section = group;
        }
        let names = if setting.other_names.is_empty() {
            String::new()
        } else {
            format!(" (also {})", setting.other_names.join(", "))
        };
        text.push_str(&format!("# {}{names}\n#{key} = {}\n", setting.what, quoted(setting.default)));
    }
    text.push_str(
        "\n# Settings of PostgreSQL that sessions begin with, by their names there.\n[sql]\n#work_mem = \"4MB\"\n#TimeZone = \"UTC\"\n",
    );
    text
}

/// As a TOML value: plain for numbers.
fn quoted(value: &str) -> String {
    if !value.is_empty() && value.len() < 10 && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn nearest(name: &str) -> String {
    let distance = |setting: &&Setting| {
        // Often the section is forgotten or wrong.
        let key = setting.key.split_once('.').map_or(setting.key, |(_, key)| key);
        let given = name.split_once('.').map_or(name, |(_, key)| key);
        strsim::damerau_levenshtein(setting.key, name).min(strsim::damerau_levenshtein(key, given) + 1)
    };
    let nearest = SETTINGS.iter().min_by_key(distance).map_or("", |setting| setting.key);
    format!("did you mean \"{nearest}\"?")
}

fn optional_path(text: &str) -> Option<PathBuf> {
    Some(text).filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// One of two sources of the same thing; both is an error.
fn one_of<T>(
    what: &str,
    a: Option<(&'static str, T)>,
    b: Option<(&'static str, T)>,
) -> Result<Option<(&'static str, T)>, Stop> {
    match (a, b) {
        (Some((first, _)), Some((second, _))) => Err(Stop::Invalid(format!(
            "the {what} is given twice, by {first} and by {second}; remove one of them"
        ))),
        (Some(given), None) | (None, Some(given)) => Ok(Some(given)),
        (None, None) => Ok(None),
    }
}

/// A value from a variable, or from the file that its twin with `_FILE` names.
fn secret(
    variable: &dyn Fn(&str) -> Option<String>,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<(&'static str, String)>, Stop> {
    let file = variable(file_name);
    // That there are two is said before the file is looked at: it may well not be there.
    let value = variable(name).map(|value| (name, value));
    let twin = file.clone().map(|file| (file_name, file));
    match (one_of(&format!("value of {name}"), value, twin)?, file) {
        (Some(_), Some(file)) => Ok(Some((file_name, read_secret(file_name, Path::new(&file))?))),
        (given, _) => Ok(given),
    }
}

pub(crate) fn read_secret(name: &str, file: &Path) -> Result<String, Stop> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Stop::Invalid(format!("{name}: could not read \"{}\": {error}", file.display())))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Stop::Invalid(format!("{name}: the file \"{}\" is empty", file.display())));
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    text.parse()
        .ok()
        .or_else(|| text.to_socket_addrs().ok()?.next())
        .ok_or_else(|| format!("\"{text}\" is not an address like 127.0.0.1:5432"))
}

/// "64MB", "4GB", "8kB", or plain bytes; units as PostgreSQL's memory settings (powers of 1024). "25%" is a share of the RAM.
fn bytes(text: &str) -> Result<u64, String> {
    if let Some(share) = text.strip_suffix('%') {
        let share: u64 = share.trim().parse().map_err(|_| format!("\"{text}\" is not a share like 25%"))?;
        if !(1..=90).contains(&share) {
            return Err(format!("\"{text}\" of the RAM is not possible; 1% to 90% are"));
        }
        return Ok(memory_total().unwrap_or(4 << 30) / 100 * share);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return Err(format!("\"{text}\" is not a size; units are B, kB, MB, GB and TB")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(factor))
        .ok_or_else(|| format!("\"{text}\" is not a size"))
}

/// Empty: none given.
fn optional_bytes(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() { Ok(None) } else { bytes(text).map(Some) }
}

/// The largest unit that shows a size exactly.
fn size(bytes: u64) -> String {
    [("TB", 40), ("GB", 30), ("MB", 20), ("kB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

fn time(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}s", duration.as_secs())
    }
}

/// "500ms", "30s", "5min", "1h"; plain numbers are seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let count: u64 = digits.parse().map_err(|_| format!("\"{text}\" is not a duration"))?;
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(count)),
        "" | "s" => Ok(Duration::from_secs(count)),
        "min" => Ok(Duration::from_secs(count.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(count.saturating_mul(3600))),
        _ => Err(format!("\"{text}\" is not a duration; units are ms, s, min and h")),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a number"))
}

/// Bytes of RAM, as far as this process may use them (control groups count).
fn memory_total() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let group =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    match (total, group) {
        (Some(total), Some(group)) => Some(total.min(group)),
        (total, group) => total.or(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let all: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let look = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let args = std::iter::once("startdb").chain(args.iter().copied()).map(OsString::from);
        Config::from(args, &look, all.clone()).map_err(|stop| match stop {
            Stop::Usage(error) => error.to_string(),
            other => other.to_string(),
        })
    }

    #[test]
    fn flags_win_over_their_variables() {
        let config = config(
            &["start", "--listen", "127.0.0.1:1", "-c", "wal.segment_size=1MB", "-c", "work_mem=8MB"],
            &[
                ("STARTDB_LISTEN", "127.0.0.1:2"),
                ("STARTDB_HTTP", "127.0.0.1:3"),
                ("STARTDB_WAL__SEGMENT_SIZE", "2MB"),
            ],
        )
        .expect("valid");
        assert_eq!((config.listen.port(), config.http.port()), (1, 3));
        assert_eq!(config.server.wal_segment_size, 1 << 20);
        assert_eq!(config.sql, [("work_mem".to_owned(), "8MB".to_owned())]);
        assert_eq!(config.user, "postgres");
    }

    #[test]
    fn one_thing_under_two_names_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "secret\n").expect("written");
        let path = file.path().to_str().expect("utf-8");
        for (args, variables, first, second) in [
            (vec!["--user", "a"], vec![("POSTGRES_USER", "b")], "--user", "POSTGRES_USER"),
            (vec![], vec![("STARTDB_USER", "a"), ("POSTGRES_USER", "b")], "STARTDB_USER", "POSTGRES_USER"),
            (
                vec!["--password-file", path],
                vec![("POSTGRES_PASSWORD", "b")],
                "--password-file",
                "POSTGRES_PASSWORD",
            ),
            (
                vec![],
                vec![("POSTGRES_PASSWORD", "b"), ("POSTGRES_PASSWORD_FILE", path)],
                "POSTGRES_PASSWORD",
                "POSTGRES_PASSWORD_FILE",
            ),
            (vec!["--data-dir", "x"], vec![("PGDATA", "y")], "--data-dir", "PGDATA"),
        ] {
            let error = config(&args, &variables).expect_err("refused");
            assert!(error.contains(first) && error.contains(second), "{error}");
        }
        assert_eq!(
            config(&["--password-file", path], &[]).expect("valid").password.as_deref(),
            Some("secret")
        );
    }

    #[test]
    fn wrong_values_name_the_nearest_right_one() {
        let error = config(&["-c", "wal.segmentsize=1MB"], &[]).expect_err("refused");
        assert!(error.contains("\"wal.segment_size\""), "{error}");
        assert!(
            config(&["-c", "wal.segment_size=1 potato"], &[]).expect_err("refused").contains("units are")
        );
        assert!(config(&["--lisen", "x"], &[]).expect_err("refused").contains("--listen"));
        assert!(config(&["--listen", "nowhere"], &[]).expect_err("refused").contains("nowhere"));
    }

    #[test]
    fn file_then_environment_then_flags() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join(FILE);
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        let directory = folder.path().to_str().expect("utf-8");
        write(
            "[wal]\nsegment_size = \"1MB\"\n[network]\nlisten = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\nmax_connections = 7\n[sql]\nwork_mem = \"9MB\"\n",
        );
        let config_of = |args: &[&str], variables: &[(&str, &str)]| {
            let all: Vec<&str> = ["--data-dir", directory].into_iter().chain(args.iter().copied()).collect();
            config(&all, variables)
        };
        let found = config_of(
            &["--http", "127.0.0.1:4"],
            &[("STARTDB_HTTP", "127.0.0.1:3"), ("STARTDB_WAL__SEGMENT_SIZE", "2MB")],
        )
        .expect("valid");
        assert_eq!((found.listen.port(), found.http.port(), found.server.max_connections), (1, 4, 7));
        assert_eq!(found.server.wal_segment_size, 2 << 20);
        assert_eq!(found.sql, [("work_mem".to_owned(), "9MB".to_owned())]);
        let shown = found.shown(true);
        for (line, origin) in [
            ("network.listen = \"127.0.0.1:1\"", format!("# {}:4", file.display())),
            ("network.http = \"127.0.0.1:4\"", "# --http".to_owned()),
            ("wal.segment_size = \"2MB\"", "# STARTDB_WAL__SEGMENT_SIZE".to_owned()),
            ("work_mem = \"9MB\"", format!("# {}:8", file.display())),
            ("log.filter = \"info\"", "# built-in".to_owned()),
        ] {
            let found = shown
                .lines()
                .find(|shown| shown.starts_with(line))
                .unwrap_or_else(|| panic!("{line}\n{shown}"));
            assert!(found.ends_with(&origin), "{found} {origin}");
        }
        for (text, parts) in [
            ("[wal]\nsegmentsize = 1\n", vec![":2:", "did you mean \"wal.segment_size\""]),
            ("\n[sql]\nwork_men = 1\n", vec![":3:", "work_mem"]),
            ("[sql]\nwork_mem = \"x\"\n", vec![":2:", "work_mem"]),
            ("max_connections = 1\n", vec![":1:", "outside of a section", "network.max_connections"]),
            ("[wal\n", vec![":1:"]),
            ("[network]\nlisten = [1]\n", vec![":2:", "network.listen"]),
            ("[storage]\ndata_dir = \"x\"\n", vec![":2:", "inside the data directory"]),
            ("[network]\nauth_method = \"ident\"\n", vec![":2:", "scram-sha-256"]),
        ] {
            write(text);
            let error = config_of(&[], &[]).expect_err(text);
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
        // What is in conf.d comes after the file, by name.
        write("[network]\nmax_connections = 7\n[sql]\nwork_mem = \"9MB\"\n");
        let included = folder.path().join(INCLUDED);
        std::fs::create_dir(&included).expect("made");
        for (name, text) in [
            ("20-more.toml", "[network]\nmax_connections = 9\n"),
            ("10-first.toml", "[network]\nmax_connections = 8\n[wal]\nsegment_size = \"1MB\"\n"),
            ("30-not.txt", "nonsense"),
        ] {
            std::fs::write(included.join(name), text).expect("written");
        }
        let found = config_of(&[], &[]).expect("valid");
        assert_eq!((found.server.max_connections, found.server.wal_segment_size), (9, 1 << 20));
        assert_eq!(found.sql, [("work_mem".to_owned(), "9MB".to_owned())]);
        assert!(found.origin("network.max_connections").to_string().ends_with("20-more.toml:2"));
        std::fs::write(included.join("20-more.toml"), "[network]\nmax_connection = 9\n").expect("written");
        let error = config_of(&[], &[]).expect_err("refused");
        assert!(error.contains("20-more.toml:2:") && error.contains("network.max_connections"), "{error}");
        std::fs::remove_dir_all(&included).expect("removed");
        let other = folder.path().join("other.toml");
        std::fs::write(&other, "[storage]\ndata_dir = \"/data\"\n").expect("written");
        let path = other.to_str().expect("utf-8");
        assert_eq!(config(&["--config", path], &[]).expect("valid").data_dir, PathBuf::from("/data"));
        assert_eq!(
            config(&["--data-dir", "/d"], &[("STARTDB_CONFIG", path)]).expect("valid").data_dir,
            PathBuf::from("/d")
        );
        assert!(config(&["--config", "/nowhere.toml"], &[]).expect_err("refused").contains("--config"));
    }

    #[test]
    fn the_sample_says_what_holds() {
        let text = sample();
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') && !rest.starts_with("data_dir") => rest,
                _ => line,
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let mut from_sample = Config::built_in().expect("defaults");
        from_sample.read_file(Path::new("sample"), &uncommented, false).expect("the sample is correct");
        let defaults = Config::built_in().expect("defaults");
        for setting in SETTINGS {
            assert_eq!((setting.show)(&from_sample), (setting.show)(&defaults), "{}", setting.key);
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/startdb.toml");
        assert_eq!(
            std::fs::read_to_string(&shipped).expect("deploy/startdb.toml"),
            text,
            "made by: startdb config default > deploy/startdb.toml"
        );
    }

    #[test]
    fn the_images_conventions() {
        let found = config(&[], &[("POSTGRES_USER", "alice"), ("POSTGRES_HOST_AUTH_METHOD", "trust")])
            .expect("valid");
        assert_eq!((found.user.as_str(), found.database.as_deref()), ("alice", Some("alice")));
        assert_eq!(found.auth_method, AuthMethod::Trust);
        assert_eq!(config(&[], &[]).expect("valid").database, None);
        let found = config(&["postgres", "-c", "max_connections=20", "-c", "shared_buffers=128MB"], &[])
            .expect("valid");
        assert_eq!(found.server.max_connections, 20);
        assert_eq!(found.sql, [("shared_buffers".to_owned(), "128MB".to_owned())]);
        assert!(
            config(&[], &[("POSTGRES_HOST_AUTH_METHOD", "peer")])
                .expect_err("refused")
                .contains("POSTGRES_HOST_AUTH_METHOD")
        );
    }
}
