//! What can be configured, and where from: built-in defaults < environment < flags.
//!
//! A flag and its `STARTDB_` variable are one name (the flag wins). The variables of the official postgres image are other
//! names for the same things; giving one thing under two names is an error that names both, because whichever won
//! would be a surprise.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// A PostgreSQL-compatible database server for one machine.
#[derive(Parser, Debug)]
#[command(
    name = "startdb",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Examples:\n  startdb                                        start with the data in ./startdb-data\n  startdb start --listen 0.0.0.0:5433            start on another port, for other machines (TLS)\n  startdb start -c storage.buffer_pool_size=4GB  with a larger page cache"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Starts the server (the default).
    #[command(
        after_help = "Examples:\n  startdb start --data-dir /var/lib/startdb\n  startdb start --user alice --password-file /run/secrets/password"
    )]
    Start(StartArgs),
    /// Checks the data of a stopped server for damage: exit code 0 = none, 5 = damage, named on standard output.
    #[command(after_help = "Example:\n  startdb check --data-dir /var/lib/startdb")]
    Check(CheckArgs),
}

#[derive(Args, Clone, Debug)]
struct CheckArgs {
    /// Directory of the data [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args, Clone, Debug, Default)]
struct StartArgs {
    /// Directory of the data; made on the first start [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the PostgreSQL protocol [env: STARTDB_LISTEN] [default: 127.0.0.1:5432]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address of health checks and metrics [env: STARTDB_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Superuser to make on the first start [env: STARTDB_USER] [default: postgres]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the superuser's password, for the first start [env: STARTDB_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A setting, e.g. -c work_mem=64MB or -c storage.buffer_pool_size=4GB [env: STARTDB_<SECTION>__<KEY>]
    #[arg(short = 'c', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Everything the server needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub user: String,
    /// Clear text, from the environment or a file; only looked at when the directory is new.
    pub password: Option<String>,
    /// A database to make besides `postgres`.
    pub database: Option<String>,
    pub server: ServerSettings,
    /// Settings of the SQL layer (`work_mem`, `TimeZone`), checked when the database opens.
    pub sql: Vec<(String, String)>,
}

/// Settings with a dot in their name. One row here is the default, the parser and the documentation.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub buffer_pool_size: u64,
    pub memtable_size: u64,
    pub old_snapshot_memory: u64,
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

type Apply = fn(&mut ServerSettings, &str) -> Result<(), String>;

/// name, what it is, how a value is taken.
pub const SERVER_SETTINGS: &[(&str, &str, Apply)] = &[
    ("storage.buffer_pool_size", "memory for pages of the base (default: a quarter of the RAM)", |s, v| {
        bytes(v).map(|v| s.buffer_pool_size = v)
    }),
    (
        "storage.memtable_size",
        "memory for committed changes since the last checkpoint (default 256MB)",
        |s, v| bytes(v).map(|v| s.memtable_size = v),
    ),
    (
        "storage.old_snapshot_memory",
        "memory for what only old snapshots still see; beyond it the oldest end with 72000 (default 1GB)",
        |s, v| bytes(v).map(|v| s.old_snapshot_memory = v),
    ),
    ("wal.segment_size", "size of one log file (default 100MB)", |s, v| {
        bytes(v).map(|v| s.wal_segment_size = v)
    }),
    ("wal.keep_segments", "log files kept after they are no longer needed (default 10)", |s, v| {
        number(v).map(|v| s.wal_keep_segments = v)
    }),
    (
        "wal.max_size",
        "size of the log above which a checkpoint is made and a warning given (default 4GB)",
        |s, v| bytes(v).map(|v| s.wal_max_size = v),
    ),
    (
        "wal.archive_dir",
        "directory to which finished log files are copied before they are used again",
        |s, v| {
            s.wal_archive_dir = Some(PathBuf::from(v));
            Ok(())
        },
    ),
    ("checkpoint.wal_size", "log written before a checkpoint begins (default 256MB)", |s, v| {
        bytes(v).map(|v| s.checkpoint_wal_bytes = v)
    }),
    ("checkpoint.interval", "time between checkpoints (default 30s)", |s, v| {
        duration(v).map(|v| s.checkpoint_interval = v)
    }),
    ("network.max_connections", "client connections at once (default 100)", |s, v| {
        number(v).map(|v| s.max_connections = v)
    }),
    ("network.reserved_connections", "of these, kept for superusers (default 3)", |s, v| {
        number(v).map(|v| s.reserved_connections = v)
    }),
    (
        "network.unix_directory",
        "directory of the Unix-domain socket (default: the data directory)",
        |s, v| {
            s.unix_directory = Some(PathBuf::from(v));
            Ok(())
        },
    ),
    ("tls.certificate", "PEM file with the certificate chain (default: made on the first start)", |s, v| {
        s.tls_certificate = Some(PathBuf::from(v));
        Ok(())
    }),
    ("tls.key", "PEM file with its private key", |s, v| {
        s.tls_key = Some(PathBuf::from(v));
        Ok(())
    }),
    ("query.memory", "memory of all running statements together (default: a quarter of the RAM)", |s, v| {
        bytes(v).map(|v| s.query_memory = v)
    }),
    ("log.filter", "what is logged, e.g. info or info,audit=off (default info)", |s, v| {
        v.clone_into(&mut s.log_filter);
        Ok(())
    }),
];

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        let quarter = memory_total().unwrap_or(4 << 30) / 4;
        ServerSettings {
            buffer_pool_size: quarter,
            memtable_size: 256 << 20,
            old_snapshot_memory: 1 << 30,
            wal_segment_size: 100 << 20,
            wal_keep_segments: 10,
            wal_max_size: 4 << 30,
            wal_archive_dir: None,
            checkpoint_wal_bytes: 256 << 20,
            checkpoint_interval: Duration::from_secs(30),
            max_connections: 100,
            reserved_connections: 3,
            unix_directory: None,
            tls_certificate: None,
            tls_key: None,
            query_memory: quarter,
            log_filter: String::from("info"),
        }
    }
}

/// Why there is nothing to start: help was asked for, or the arguments are wrong.
#[derive(Debug)]
pub enum Stop {
    /// What clap prints (help and version go to stdout with exit code 0).
    Usage(clap::Error),
    Invalid(String),
    /// The data of a stopped server is to be checked.
    Check(PathBuf),
}

impl Stop {
    pub fn exit(self) -> ExitCode {
        match self {
            Stop::Usage(error) => {
                // Nothing is left to do when even the terminal cannot be written to.
                let _ = error.print();
                if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
            }
            Stop::Invalid(message) => {
                eprintln!("startdb: {message}");
                ExitCode::FAILURE
            }
            Stop::Check(directory) => crate::check::run(&directory),
        }
    }
}

impl Config {
    /// From this process's arguments and environment.
    pub fn from_environment() -> Result<Config, Stop> {
        Config::from(std::env::args_os(), &|name| std::env::var(name).ok(), std::env::vars().collect())
    }

    /// From given arguments (the program's name first) and variables.
    pub fn from(
        args: impl IntoIterator<Item = OsString>,
        variable: &dyn Fn(&str) -> Option<String>,
        all: Vec<(String, String)>,
    ) -> Result<Config, Stop> {
        let matches = Cli::command().try_get_matches_from(args).map_err(Stop::Usage)?;
        let cli = Cli::from_arg_matches(&matches).map_err(Stop::Usage)?;
        let args = match cli.command {
            Some(Command::Start(args)) => args.over(cli.start),
            Some(Command::Check(args)) => {
                let named = args.data_dir.or(cli.start.data_dir).map(PathBuf::into_os_string);
                let directory = named.or_else(|| variable("STARTDB_DATA_DIR").map(OsString::from));
                let directory = directory.unwrap_or_else(|| OsString::from("./startdb-data"));
                return Err(Stop::Check(PathBuf::from(directory)));
            }
            None => cli.start,
        };
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let given = |flag: &Option<PathBuf>, flag_name: &'static str, name: &'static str| {
            flag.clone().map(|value| (flag_name, value)).or_else(|| path(name).map(|value| (name, value)))
        };
        let password_file = given(&args.password_file, "--password-file", "STARTDB_PASSWORD_FILE");
        let user = args
            .user
            .clone()
            .map(|value| ("--user", value))
            .or_else(|| variable("STARTDB_USER").map(|value| ("STARTDB_USER", value)));
        let user =
            one_of("superuser's name", user, secret(&variable, "POSTGRES_USER", "POSTGRES_USER_FILE")?)?;
        let password_file = match password_file {
            None => None,
            Some((name, file)) => Some((name, read_secret(name, &file)?)),
        };
        let password = one_of(
            "superuser's password",
            password_file,
            secret(&variable, "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE")?,
        )?;
        let database = secret(&variable, "POSTGRES_DB", "POSTGRES_DB_FILE")?.map(|(_, value)| value);
        let data_dir = given(&args.data_dir, "--data-dir", "STARTDB_DATA_DIR");
        let data_dir = one_of("data directory", data_dir, path("PGDATA").map(|value| ("PGDATA", value)))?;
        let address = |flag: &Option<String>, flag_name: &str, name: &str, default: &str| {
            let (source, text) = match (flag, variable(name)) {
                (Some(text), _) => (flag_name.to_owned(), text.clone()),
                (None, Some(text)) => (name.to_owned(), text),
                (None, None) => (flag_name.to_owned(), default.to_owned()),
            };
            resolve(&text).ok_or_else(|| {
                Stop::Invalid(format!("{source}: \"{text}\" is not an address like 127.0.0.1:5432"))
            })
        };
        let mut config = Config {
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("./startdb-data")),
            listen: address(&args.listen, "--listen", "STARTDB_LISTEN", "127.0.0.1:5432")?,
            http: address(&args.http, "--http", "STARTDB_HTTP", "127.0.0.1:8080")?,
            user: user.unwrap_or_else(|| String::from("postgres")),
            password,
            database,
            server: ServerSettings::default(),
            sql: Vec::new(),
        };
        let mut from_environment: Vec<(String, String)> = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("STARTDB_")?.to_owned(), value)))
            .filter(|(name, _)| name.contains("__"))
            .collect();
        from_environment.sort();
        for (name, value) in from_environment {
            let (section, key) = name.split_once("__").unwrap_or((&name, ""));
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            let setting = if section == "sql" { key } else { format!("{section}.{key}") };
            config
                .set(&setting, &value)
                .map_err(|error| Stop::Invalid(format!("STARTDB_{name}: {error}")))?;
        }
        for setting in &args.settings {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Stop::Invalid(format!("-c {setting}: expected KEY=VALUE")))?;
            config
                .set(name.trim(), value.trim())
                .map_err(|error| Stop::Invalid(format!("-c {setting}: {error}")))?;
        }
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if !name.contains('.') {
            self.sql.push((name.to_owned(), value.to_owned()));
            return Ok(());
        }
        if let Some((_, _, apply)) = SERVER_SETTINGS.iter().find(|(known, _, _)| *known == name) {
            return apply(&mut self.server, value);
        }
        let nearest = SERVER_SETTINGS
            .iter()
            .map(|(known, _, _)| (strsim::damerau_levenshtein(known, name), *known))
            .min()
            .map_or("", |(_, known)| known);
        Err(format!("unknown setting \"{name}\"; did you mean \"{nearest}\"?"))
    }
}

impl StartArgs {
    /// `startdb --listen A start` and `startdb start --listen A` are the same; behind the word wins.
    fn over(self, before: StartArgs) -> StartArgs {
        StartArgs {
            data_dir: self.data_dir.or(before.data_dir),
            listen: self.listen.or(before.listen),
            http: self.http.or(before.http),
            user: self.user.or(before.user),
            password_file: self.password_file.or(before.password_file),
            settings: before.settings.into_iter().chain(self.settings).collect(),
        }
    }
}

/// One of two sources of the same thing; both is an error.
fn one_of<T>(what: &str, a: Option<(&str, T)>, b: Option<(&str, T)>) -> Result<Option<T>, Stop> {
    match (a, b) {
        (Some((first, _)), Some((second, _))) => Err(Stop::Invalid(format!(
            "the {what} is given twice, by {first} and by {second}; remove one of them"
        ))),
        (Some((_, value)), None) | (None, Some((_, value))) => Ok(Some(value)),
        (None, None) => Ok(None),
    }
}

/// A value from a variable, or from the file that its twin with `_FILE` names.
fn secret(
    variable: &dyn Fn(&str) -> Option<String>,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<(&'static str, String)>, Stop> {
    let from_file = match variable(file_name) {
        Some(file) => Some((file_name, read_secret(file_name, &PathBuf::from(file))?)),
        None => None,
    };
    let value = variable(name).map(|value| (name, value));
    let source = if value.is_some() { name } else { file_name };
    Ok(one_of(&format!("value of {name}"), value, from_file)?.map(|value| (source, value)))
}

fn read_secret(name: &str, file: &PathBuf) -> Result<String, Stop> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Stop::Invalid(format!("{name}: could not read \"{}\": {error}", file.display())))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Stop::Invalid(format!("{name}: the file \"{}\" is empty", file.display())));
    }
    Ok(text.to_owned())
}

fn resolve(text: &str) -> Option<SocketAddr> {
    use std::net::ToSocketAddrs;
    text.parse().ok().or_else(|| text.to_socket_addrs().ok()?.next())
}

/// "64MB", "4GB", "8kB", or plain bytes; units as PostgreSQL's memory settings (powers of 1024).
fn bytes(text: &str) -> Result<u64, String> {
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
            Stop::Invalid(message) => message,
            Stop::Usage(error) => error.to_string(),
            Stop::Check(directory) => format!("check {}", directory.display()),
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
}
