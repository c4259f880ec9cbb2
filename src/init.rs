//! Scripts of the first start, as the postgres image has them: every file of a directory, by name, once, before any client is
//! let in over TCP. SQL runs in this process over the Unix-domain socket, each file in a session of its own, and ends at its first
//! error; a shell script gets the socket in its environment, so that `psql` or `startdb sql` in it needs no arguments.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use value::{Error, Result, SqlState};

use crate::shell::{Client, Endpoint, Host, Shell, SslMode, Target};

/// The process group of the shell script that runs now.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Ends a shell script that runs, because the server will not start.
pub fn interrupt() {
    if let Some(group) = Pid::from_raw(RUNNING.load(Ordering::Acquire)) {
        // It may have ended on its own just now.
        let _ = kill_process_group(group, Signal::TERM);
    }
}

/// What scripts need to know of the server.
pub struct Surroundings<'a> {
    /// Directory of the socket, and the port in its name.
    pub socket: &'a Path,
    pub port: u16,
    pub user: &'a str,
    pub password: Option<&'a str>,
    pub database: &'a str,
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sql,
    Gzip,
    Xz,
    Zstd,
    Shell,
}

fn kind(name: &str) -> Option<Kind> {
    [
        (".sql", Kind::Sql),
        (".sql.gz", Kind::Gzip),
        (".sql.xz", Kind::Xz),
        (".sql.zst", Kind::Zstd),
        (".sh", Kind::Shell),
    ]
    .into_iter()
    .find(|(end, _)| name.ends_with(end))
    .map(|(_, kind)| kind)
}

/// The files of a directory in the order of their names. 58030 for a directory that cannot be read.
pub fn scripts(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| {
        Error::new(SqlState::IO_ERROR, format!("init.directory \"{}\": {error}", directory.display()))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs them all; the first that fails ends it. What was wrong in a script is said on the standard error, with file, line and caret.
pub fn run(files: &[PathBuf], around: &Surroundings<'_>) -> Result<()> {
    for file in files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(kind) = kind(&name) else {
            tracing::info!(file = %file.display(), "ignored: its name ends neither in .sql, .sql.gz, .sql.xz, .sql.zst nor .sh");
            continue;
        };
        tracing::info!(file = %file.display(), "running");
        match kind {
            Kind::Shell => shell(file, around)?,
            _ => sql(file, kind, around)?,
        }
    }
    Ok(())
}

fn failed(file: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::CONFIG_FILE_ERROR,
        format!("the script \"{}\" of the first start failed: {what}", file.display()),
    )
    .hint("Correct it and start again; the data directory was not kept.")
}

fn sql(file: &Path, kind: Kind, around: &Surroundings<'_>) -> Result<()> {
    let reader = File::open(file).map_err(|error| failed(file, error))?;
    let reader: Box<dyn Read> = match kind {
        Kind::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Kind::Xz => Box::new(lzma_rust2::XzReader::new(reader, true)),
        Kind::Zstd => {
            Box::new(zstd::stream::read::Decoder::new(reader).map_err(|error| failed(file, error))?)
        }
        Kind::Sql | Kind::Shell => Box::new(reader),
    };
    let target = Target {
        endpoints: vec![Endpoint { host: Host::Unix(around.socket.to_owned()), port: around.port }],
        user: around.user.to_owned(),
        database: around.database.to_owned(),
        password: around.password.map(str::to_owned),
        ssl: SslMode::Disable,
        parameters: vec![
            ("application_name".to_owned(), "initdb.d".to_owned()),
            ("client_encoding".to_owned(), "UTF8".to_owned()),
            ("client_min_messages".to_owned(), "warning".to_owned()),
        ],
        ..Target::default()
    };
    let client = Client::connect(&target, &mut |_| None).map_err(|failure| failed(file, failure))?;
    let mut shell = Shell::new(client);
    shell.set_quiet();
    shell.run_script(reader, file).map_err(|_| failed(file, "see the error above"))
}

fn shell(file: &Path, around: &Surroundings<'_>) -> Result<()> {
    let executable =
        fs::metadata(file).map_err(|error| failed(file, error))?.permissions().mode() & 0o111 != 0;
    let mut command = if executable {
        Command::new(file)
    } else {
        // As the image does: a script that may not be executed is read by the shell, with what scripts there expect.
        let bash =
            ["/bin/bash", "/usr/bin/bash", "/bin/sh"].into_iter().find(|path| Path::new(path).exists());
        let Some(bash) = bash else {
            return Err(failed(file, "there is no shell here; use a .sql file, or an image with a shell"));
        };
        let prelude = if bash.ends_with("bash") {
            "set -Eeo pipefail; docker_process_sql() { psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc \"$@\"; }; . \"$0\""
        } else {
            "set -e; . \"$0\""
        };
        let mut command = Command::new(bash);
        command.arg("-c").arg(prelude).arg(file);
        command
    };
    command
        .env("PGHOST", around.socket)
        .env("PGPORT", around.port.to_string())
        .env("PGUSER", around.user)
        .env("PGDATABASE", around.database)
        .env("POSTGRES_USER", around.user)
        .env("POSTGRES_DB", around.database);
    if let Some(password) = around.password {
        command.env("PGPASSWORD", password);
    }
    // A group of its own, so that all of it can be ended.
    let mut child = command.process_group(0).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(file, "its interpreter (the program behind #!) is not there"),
        _ => failed(file, error),
    })?;
    RUNNING.store(child.id() as i32, Ordering::Release);
    let status = child.wait();
    RUNNING.store(0, Ordering::Release);
    let status = status.map_err(|error| failed(file, error))?;
    if status.success() { Ok(()) } else { Err(failed(file, format_args!("it ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_ends() {
        for (name, expected) in [
            ("1.sql", Some(Kind::Sql)),
            ("1.sql.gz", Some(Kind::Gzip)),
            ("1.sql.xz", Some(Kind::Xz)),
            ("1.sql.zst", Some(Kind::Zstd)),
            ("1.sh", Some(Kind::Shell)),
            ("1.sql.bak", None),
            ("README", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
