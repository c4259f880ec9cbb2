//! Programs from outside (PostgreSQL, psql, pgbench, drivers): found, or the test says why it did nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// PostgreSQL's own programs that only a server needs are not on the path.
const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";
/// Where Debian's postgresql-client-15 keeps the programs that extensions are tested with.
const POSTGRES_TEST: &str = "/usr/lib/postgresql/15/lib/pgxs/src/test/isolation";

/// Where Debian's libpostgresql-jdbc-java keeps the driver.
pub const JDBC: &str = "/usr/share/java/postgresql.jar";

/// True when every program is there. Without: a message, or with `STARTDB_TESTS=all` a failure.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let message = format!("not found: {}; tests/install-programs installs it", missing.join(", "));
    assert!(std::env::var("STARTDB_TESTS").as_deref() != Ok("all"), "{message}");
    eprintln!("skipped, {message}");
    false
}

/// Where a program is; `python` and `node-pg` are the ones that tests/install-programs makes.
pub fn find(name: &str) -> Option<PathBuf> {
    match name {
        "python" => Some(cache().join("python/bin/python")).filter(|path| path.exists()),
        // The program is run from its source, which takes a compiler.
        "java" => on_path("javac").and_then(|_| on_path("java")).filter(|_| Path::new(JDBC).exists()),
        "node-pg" => on_path("node").filter(|_| cache().join("node/node_modules/pg").exists()),
        "grafana-schema" => {
            on_path("node").filter(|_| cache().join("node/node_modules/@grafana/schema").exists())
        }
        "check-jsonschema" => Some(cache().join("python/bin/check-jsonschema")).filter(|path| path.exists()),
        // The collector's own program, within the package.
        "rotel" => fs::read_dir(cache().join("python/lib"))
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/rotel/rotel-agent")))
            .find(|path| path.exists()),
        "isolationtester" => Some(Path::new(POSTGRES_TEST).join(name)).filter(|path| path.exists()),
        "tpchgen-cli" => Some(cache().join("python/bin/tpchgen-cli")).filter(|path| path.exists()),
        _ => Some(Path::new(POSTGRES_BIN).join(name)).filter(|path| path.exists()).or_else(|| on_path(name)),
    }
}

pub fn command(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("{name} is not installed")))
}

/// Where drivers are installed and downloads are kept.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"))
        .join("startdb")
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Runs to the end; the output, or a panic with everything it said.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
