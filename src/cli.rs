//! The command line: every sub-command, its options, its help. Completions and the manual page come from the same definitions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{self, Config, Stop};
use crate::shell::{self, Action, Format};
use crate::{Server, check, health, passwd, telemetry};

/// A PostgreSQL-compatible database server for one machine.
#[derive(Parser, Debug)]
#[command(
    name = "startdb",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Examples:\n  startdb                                        start with the data in ./startdb-data\n  startdb start --listen 0.0.0.0:5433            start on another port, for other machines (TLS)\n  startdb start -c storage.buffer_pool_size=4GB  with a larger page cache\n  startdb sql                                    a shell of the server started here"
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
    // `postgres` is how compose files written for the postgres image call it.
    #[command(
        alias = "postgres",
        after_help = "Examples:\n  startdb start --data-dir /tmp/first-data\n  startdb start --user alice --password-file password.txt\n\nExit code: 0 after SIGINT or SIGTERM, 1 when it could not start."
    )]
    Start(StartArgs),
    /// A shell, and a runner of scripts, for any server that speaks PostgreSQL.
    #[command(
        after_help = "Examples:\n  startdb sql -c 'select version()'\n  startdb sql -o json -c \"select datname from pg_database\" postgres\n\nWithout a target and without PGHOST it connects to the server of ./startdb-data as postgres; the password that the\nfirst start wrote to DATA/initial-password is tried, then it is asked for on a terminal. PGHOST, PGPORT, PGUSER, PGPASSWORD,\nPGDATABASE, PGSSLMODE, PGPASSFILE (~/.pgpass), PGSERVICE and their kin mean what they mean to psql. Scripts stop at the first error.\n\nExit code: 0, 1 for wrong arguments and files, 2 without a connection, 3 after an error of SQL, 130 after Ctrl-C."
    )]
    Sql(SqlArgs),
    /// Says whether the server of a data directory can answer queries.
    #[command(
        after_help = "Examples:\n  startdb healthcheck\n  startdb healthcheck --data-dir /var/lib/startdb --listen 127.0.0.1:5432\n\nIt runs SELECT 1 through the server's port, as an internal role whose secret each start writes to DATA/.healthcheck.\nExit code: 0 ready, 4 not ready."
    )]
    Healthcheck(HealthArgs),
    /// Checks the data of a stopped server for damage.
    #[command(
        after_help = "Examples:\n  startdb check\n  startdb check --data-dir /var/lib/startdb\n\nExit code: 0 no damage, 5 damage, named on the standard output, 1 when it could not look."
    )]
    Check {
        /// Directory of the data [env: STARTDB_DATA_DIR] [default: ./startdb-data]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Sets the password of a user while the server is stopped.
    #[command(
        after_help = "Examples:\n  startdb passwd --data-dir startdb-data\n  startdb passwd --user alice --password-file password.txt\n\nWithout --password-file it asks on a terminal, or takes the first line of the standard input.\nExit code: 0, 1 when it could not be done."
    )]
    Passwd(PasswdArgs),
    /// Shows, checks or explains the configuration.
    #[command(
        after_help = "Examples:\n  startdb config show --origin\n  startdb config default > startdb.toml\n\nLater ones win: built-in values, DATA/startdb.toml (or --config FILE), the environment, flags."
    )]
    Config(ConfigArgs),
    /// Writes a completion script for a shell.
    #[command(
        after_help = "Examples:\n  startdb completions bash > startdb.bash\n  startdb completions zsh > _startdb"
    )]
    Completions {
        /// The shell to write for
        shell: clap_complete::Shell,
    },
    /// Writes the manual page, or all of them into a directory.
    #[command(after_help = "Examples:\n  startdb man > startdb.1\n  startdb man man1")]
    Man {
        /// Directory for the pages of all sub-commands; without, the main page goes to the standard output
        directory: Option<PathBuf>,
    },
}

#[derive(Args, Clone, Debug, Default)]
pub struct StartArgs {
    /// Directory of the data; made on the first start [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [env: STARTDB_CONFIG] [default: DIR/startdb.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the PostgreSQL protocol [env: STARTDB_LISTEN] [default: 127.0.0.1:5432]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of health checks and metrics [env: STARTDB_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Superuser to make on the first start [env: STARTDB_USER] [default: postgres]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the superuser's password, for the first start [env: STARTDB_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    // Not a comment of documentation: rustdoc would take the brackets for HTML.
    #[arg(
        short = 'c',
        value_name = "KEY=VALUE",
        help = "A setting, e.g. -c work_mem=64MB or -c storage.buffer_pool_size=4GB [env: STARTDB_<SECTION>__<KEY>]"
    )]
    pub settings: Vec<String>,
}

impl StartArgs {
    /// `startdb --listen A start` and `startdb start --listen A` are the same; behind the word wins.
    fn over(self, before: StartArgs) -> StartArgs {
        StartArgs {
            data_dir: self.data_dir.or(before.data_dir),
            config: self.config.or(before.config),
            listen: self.listen.or(before.listen),
            http: self.http.or(before.http),
            user: self.user.or(before.user),
            password_file: self.password_file.or(before.password_file),
            settings: before.settings.into_iter().chain(self.settings).collect(),
        }
    }
}

#[derive(Args, Debug)]
struct SqlArgs {
    /// postgresql://USER@HOST:PORT/DATABASE, "host=... dbname=...", or the name of a database
    #[arg(value_name = "URL")]
    target: Option<String>,
    /// Runs these statements (or one backslash command) and ends; may be given several times
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Runs a script and ends; - is the standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How results are written
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// All in one transaction
    #[arg(short = '1', long)]
    single_transaction: bool,
    /// Rows only: no headings, no counts
    #[arg(short = 't', long)]
    tuples_only: bool,
    /// Less is said: no command tags
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Sets a variable, used in statements as :NAME, :'NAME' or :"NAME"
    #[arg(short = 'v', long = "set", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Data directory of the server to connect to when no URL is given [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct HealthArgs {
    /// Directory of the data [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to ask [default: where the server says it listens]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

#[derive(Args, Debug)]
struct PasswdArgs {
    /// Directory of the data [env: STARTDB_DATA_DIR] [default: ./startdb-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whose password [default: the first superuser]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the new password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Shows the settings that a start would use.
    #[command(
        after_help = "Examples:\n  startdb config show\n  startdb config show --origin -c work_mem=64MB"
    )]
    Show {
        /// Says for each where it comes from
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        start: Box<StartArgs>,
    },
    /// Checks the configuration without starting.
    #[command(
        after_help = "Examples:\n  startdb config check\n  startdb config check --data-dir startdb-data\n\nExit code: 0, 1 when something is wrong."
    )]
    Check {
        #[command(flatten)]
        start: Box<StartArgs>,
    },
    /// Writes a configuration file with every setting, its meaning and its default.
    #[command(after_help = "Examples:\n  startdb config default\n  startdb config default > startdb.toml")]
    Default,
}

/// What the arguments ask for, of the server's own: options of a start. The name of the program comes first.
pub fn start_arguments(args: impl IntoIterator<Item = OsString>) -> Result<StartArgs, Stop> {
    let cli = parse(args)?.1;
    match cli.command {
        None => Ok(cli.start),
        Some(Command::Start(args)) => Ok(args.over(cli.start)),
        Some(_) => Err(Stop::Invalid("only options of a start are expected here".to_owned())),
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(clap::ArgMatches, Cli), Stop> {
    let matches = Cli::command().try_get_matches_from(args).map_err(Stop::Usage)?;
    let cli = Cli::from_arg_matches(&matches).map_err(Stop::Usage)?;
    Ok((matches, cli))
}

/// Does what the command line says; gives the exit code.
pub fn run() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(stop) => stop.exit(),
    }
}

fn dispatch() -> Result<ExitCode, Stop> {
    let (matches, cli) = parse(std::env::args_os())?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let directory = |given: Option<PathBuf>| config::data_directory(given, &variable);
    match cli.command {
        None => start(cli.start),
        Some(Command::Start(args)) => start(args.over(cli.start)),
        Some(Command::Sql(args)) => {
            let inner = matches.subcommand_matches("sql");
            let options = shell::Options {
                target: args.target,
                data_dir: directory(args.data_dir)?,
                actions: actions(inner, args.commands, args.files),
                format: args.format,
                quiet: args.quiet,
                single_transaction: args.single_transaction,
                tuples_only: args.tuples_only,
                variables: args
                    .variables
                    .into_iter()
                    .map(|text| match text.split_once('=') {
                        Some((name, value)) => (name.to_owned(), value.to_owned()),
                        None => (text, String::new()),
                    })
                    .collect(),
            };
            Ok(ExitCode::from(shell::run(options)))
        }
        Some(Command::Healthcheck(args)) => {
            Ok(ExitCode::from(health::check(&directory(args.data_dir)?, args.listen.as_deref())))
        }
        Some(Command::Check { data_dir }) => Ok(check::run(&directory(data_dir)?)),
        Some(Command::Passwd(args)) => {
            let password = passwd::new_password(args.password_file.as_deref())?;
            let done = passwd::set(&directory(args.data_dir)?, args.user.as_deref(), &password);
            done.map(|user| {
                eprintln!("the password of \"{user}\" is changed");
                ExitCode::SUCCESS
            })
            .map_err(Stop::Failed)
        }
        Some(Command::Config(ConfigArgs { command: ConfigCommand::Default })) => write(&config::sample()),
        Some(Command::Config(ConfigArgs { command: ConfigCommand::Show { origin, start } })) => {
            let config = Config::of_process(&start.over(cli.start))?;
            write(&config.shown(origin))
        }
        Some(Command::Config(ConfigArgs { command: ConfigCommand::Check { start } })) => {
            let config = Config::of_process(&start.over(cli.start))?;
            let file = config.file.as_ref().map(|file| format!(" ({})", file.display())).unwrap_or_default();
            write(&format!("the configuration is correct{file}\n"))
        }
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "startdb", &mut text);
            write(&String::from_utf8_lossy(&text))
        }
        Some(Command::Man { directory: None }) => {
            let mut text = Vec::new();
            let failed = |error| Stop::Invalid(format!("the page could not be written: {error}"));
            clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(failed)?;
            write(&String::from_utf8_lossy(&text))
        }
        Some(Command::Man { directory: Some(directory) }) => {
            let failed =
                |error: std::io::Error| Stop::Invalid(format!("\"{}\": {error}", directory.display()));
            std::fs::create_dir_all(&directory).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), &directory).map_err(failed)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn start(args: StartArgs) -> Result<ExitCode, Stop> {
    let config = Config::of_process(&args)?;
    telemetry::start(&config);
    Server::run_until_signal(config).map_err(Stop::Failed)?;
    Ok(ExitCode::SUCCESS)
}

/// `-c` and `-f` in the order in which they were given.
fn actions(matches: Option<&clap::ArgMatches>, commands: Vec<String>, files: Vec<PathBuf>) -> Vec<Action> {
    let places = |name: &str| -> Vec<usize> {
        matches.and_then(|matches| matches.indices_of(name)).map(Iterator::collect).unwrap_or_default()
    };
    let mut all: Vec<(usize, Action)> = places("commands")
        .into_iter()
        .zip(commands.into_iter().map(Action::Command))
        .chain(places("files").into_iter().zip(files.into_iter().map(Action::File)))
        .collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, action)| action).collect()
}

/// To the standard output; a reader that has gone is no error worth a message.
fn write(text: &str) -> Result<ExitCode, Stop> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
        Err(error) => Err(Stop::Invalid(format!("the output failed: {error}"))),
    }
}
