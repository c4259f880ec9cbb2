//! PostgreSQL's isolationtester over our own specs in `isolation/`: several sessions, their steps in the orders that a spec
//! names, who waits for whom, what each sees. Every spec runs on PostgreSQL, which says what is right, and on StartDB.
//!
//! A spec may name isolation levels in a comment (`# levels: read committed, serializable`); its sessions are then started
//! once at each. `NAME[.LEVEL].out` is PostgreSQL's output; `NAME[.LEVEL].startdb.out`, where it exists, is StartDB's,
//! and COMPAT.md says why it differs. `STARTDB_SLT=write` lets PostgreSQL write the former anew;
//! `STARTDB_ISOLATION=part-of-a-name` runs some of the specs.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::client::Login;
use crate::postgres::Postgres;
use crate::programs;
use crate::server::{Server, source};

/// Specs that run at the same time: they mostly wait.
const TOGETHER: usize = 4;

struct Case {
    spec: PathBuf,
    level: Option<String>,
}

impl Case {
    /// Where an output is kept; `of` is empty or `.startdb`.
    fn expected(&self, of: &str) -> PathBuf {
        let level =
            self.level.as_ref().map_or(String::new(), |level| format!(".{}", level.replace(' ', "-")));
        self.spec.with_file_name(format!("{}{level}{of}.out", self.stem()))
    }

    fn stem(&self) -> String {
        self.spec.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn name(&self) -> String {
        let stem = self.stem();
        self.level.as_ref().map_or(stem.clone(), |level| format!("{stem} ({level})"))
    }
}

/// Every spec at every level it asks for.
fn cases() -> Vec<Case> {
    let wanted = std::env::var("STARTDB_ISOLATION").unwrap_or_default();
    let mut specs: Vec<PathBuf> = fs::read_dir(source("isolation"))
        .expect("the folder of specs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spec"))
        .filter(|path| path.to_string_lossy().contains(&wanted))
        .collect();
    specs.sort();
    let mut cases = Vec::new();
    for spec in specs {
        let text = fs::read_to_string(&spec).expect("a spec");
        let levels = text.lines().find_map(|line| line.strip_prefix("# levels: "));
        match levels {
            None => cases.push(Case { spec, level: None }),
            Some(levels) => cases.extend(
                levels.split(", ").map(|level| Case { spec: spec.clone(), level: Some(level.to_owned()) }),
            ),
        }
    }
    assert!(!cases.is_empty(), "no spec has {wanted:?} in its name");
    cases
}

/// What isolationtester says about one case on one server, in a database of its own.
fn run(case: &Case, number: usize, login: &Login) -> String {
    let database = format!("isolation_{number}");
    login.connect().run(&format!("CREATE DATABASE {database}"));
    let mut command = Command::new(programs::find("isolationtester").expect("isolationtester"));
    command
        .arg(format!("dbname={database} connect_timeout=20"))
        .env("PGHOST", login.address.ip().to_string())
        .env("PGPORT", login.address.port().to_string())
        .env("PGUSER", &login.user)
        .env("PGPASSWORD", &login.password)
        .env("PGISOLATIONTIMEOUT", "30")
        .stdin(fs::File::open(&case.spec).expect("a spec"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(level) = &case.level {
        let level = level.replace(' ', "\\ ");
        command.env("PGOPTIONS", format!("-c default_transaction_isolation={level}"));
    }
    let output = command.output().expect("isolationtester runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let unused: Vec<&str> = errors.lines().filter(|line| line.starts_with("unused step name")).collect();
    assert!(unused.is_empty(), "{}: {unused:?}", case.name());
    // What it could not do belongs to the difference that is shown.
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&format!("{}\n{errors}", output.status));
    }
    text
}

/// The first lines that differ, with the permutation they stand in.
fn difference(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let same = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let start = expected[..same.min(expected.len())].iter().rposition(|line| line.starts_with("starting "));
    let from = start.unwrap_or(0);
    let part = |lines: &[&str]| {
        let end = (same + 6).min(lines.len());
        lines.get(from..end).unwrap_or_default().join("\n")
    };
    format!("--- expected\n{}\n--- got\n{}", part(&expected), part(&got))
}

/// Runs every case on a server and compares, or writes what is to be expected.
fn compare(login: &Login, startdb: bool) {
    let write = !startdb && std::env::var("STARTDB_SLT").as_deref() == Ok("write");
    let queue: Mutex<VecDeque<(usize, Case)>> = Mutex::new(cases().into_iter().enumerate().collect());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                loop {
                    let Some((number, case)) = queue.lock().expect("a queue").pop_front() else { return };
                    let mut got = run(&case, number, login);
                    let own = case.expected(".startdb");
                    let file = if startdb && own.exists() { own } else { case.expected("") };
                    if write {
                        fs::write(&file, got).expect("written");
                        continue;
                    }
                    let expected = read(&file);
                    // In PostgreSQL it is a race which of two that waited for an updated row comes first.
                    for again in 1..=5 {
                        if expected != got && !startdb {
                            got = run(&case, number + 1000 * again, login);
                        }
                    }
                    if expected != got {
                        let text = difference(&expected, &got);
                        failures.lock().expect("a list").push(format!("{}\n{text}", case.name()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a list");
    assert!(failures.is_empty(), "{} differ\n\n{}", failures.len(), failures.join("\n\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

#[test]
fn specs_hold_on_postgres() {
    if !programs::have(&["isolationtester"]) {
        return;
    }
    if let Some(postgres) = Postgres::shared() {
        compare(&postgres.login(), false);
    }
}

#[test]
fn specs_hold_on_startdb() {
    if !programs::have(&["isolationtester"]) {
        return;
    }
    let server = Server::start();
    compare(&server.login(), true);
}
