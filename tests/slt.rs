//! SQL in, rows out: every file below `slt/` runs statement by statement against StartDB, by the simple and by the
//! extended protocol, and against a real PostgreSQL 15, whose answers the files hold.
//!
//! A file is blocks with an empty line between them: a statement, `----`, what came back. Lines starting with `#` are
//! remarks; a first line starting with `@` says more about a block:
//!
//! - `@sort`: the order of the rows is not part of the answer;
//! - `@simple`: not for the extended protocol (several statements in one string);
//! - `@on NAME`: on a further connection of that name, logged in as the same user.
//!
//! An answer is `: ` and the names of the columns, then a line for each row with `|` between values; a command tag where
//! it says more than the rows; `NOTICE: ...`; or `ERROR sqlstate: message`. Each file gets a database of its own; roles
//! are for the whole server, so a file drops the ones it makes.
//!
//! Answers are never written by hand: `STARTDB_SLT=write cargo test --release slt_postgres` asks PostgreSQL.
//! `STARTDB_SLT_FILES=part-of-a-name` runs some of the files.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Answer, Client, Failure, Login};
use crate::postgres::Postgres;
use crate::server::{Server, source};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Protocol {
    Simple,
    Extended,
}

/// One statement of a file and what it answers.
struct Block {
    line: usize,
    /// Remarks and the `@` line, kept for writing the file again.
    head: Vec<String>,
    sql: String,
    expected: Vec<String>,
}

impl Block {
    fn asks(&self, word: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix('@')?.strip_prefix(word)).map(str::trim)
    }
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut block =
            Block { line: number + 1, head: Vec::new(), sql: String::new(), expected: Vec::new() };
        let mut next = Some(line);
        let mut answer = false;
        while let Some(line) = next {
            if answer {
                block.expected.push(line.to_owned());
            } else if line == "----" {
                answer = true;
            } else if block.sql.is_empty() && line.starts_with(['#', '@']) {
                block.head.push(line.to_owned());
            } else {
                if !block.sql.is_empty() {
                    block.sql.push('\n');
                }
                block.sql.push_str(line);
            }
            next = lines.next_if(|(_, line)| !line.is_empty()).map(|(_, line)| line);
        }
        blocks.push(block);
    }
    blocks
}

fn write(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        for line in &block.head {
            let _ = writeln!(out, "{line}");
        }
        if !block.sql.is_empty() {
            let _ = writeln!(out, "{}\n----", block.sql);
            for line in &block.expected {
                let _ = writeln!(out, "{line}");
            }
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn show(answers: &[Answer]) -> Vec<String> {
    let mut out = Vec::new();
    for answer in answers {
        for notice in &answer.notices {
            out.push(format!("{}: {}", notice.severity(), escape(notice.message())));
        }
        if !answer.columns.is_empty() {
            out.push(format!(": {}", answer.columns.join("|")));
            for row in &answer.rows {
                let values: Vec<String> =
                    row.iter().map(|value| value.as_deref().map_or("NULL".into(), escape)).collect();
                out.push(values.join("|"));
            }
        }
        let told = answer.tag.starts_with("SELECT") && !answer.columns.is_empty() || answer.tag == "SHOW";
        if !told && !answer.tag.is_empty() {
            out.push(answer.tag.clone());
        }
    }
    out
}

fn escape(value: &str) -> String {
    if value.is_empty() {
        return String::from("(empty)");
    }
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

/// Rows in no order: the lines behind the names of the columns.
fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    if let Some(start) = lines.iter().position(|line| line.starts_with(": ")) {
        lines[start + 1..].sort();
    }
    lines
}

/// Two parsers stumble over different words of the same wrong statement; that both refuse its syntax is what counts.
fn both_syntax(expected: &[String], got: &[String]) -> bool {
    [expected, got].iter().all(|lines| lines.len() == 1 && lines[0].starts_with("ERROR 42601"))
}

struct Run<'a> {
    login: &'a Login,
    protocol: Protocol,
    clients: HashMap<String, Client>,
}

impl Run<'_> {
    fn answer(&mut self, block: &Block) -> Vec<String> {
        let name = block.asks("on ").unwrap_or("");
        let client = self.clients.entry(name.to_owned()).or_insert_with(|| self.login.connect());
        let result = match self.protocol {
            Protocol::Simple => client.simple(&block.sql),
            Protocol::Extended => client.extended(&block.sql, &[]).map(|answer| vec![answer]),
        };
        match result {
            Ok(answers) => show(&answers),
            Err(Failure::Refused(fields)) => {
                vec![format!("ERROR {}: {}", fields.state(), escape(fields.message()))]
            }
            Err(Failure::Broken(error)) => {
                self.clients.remove(name);
                vec![format!("the connection broke: {error}")]
            }
        }
    }
}

fn files() -> Vec<PathBuf> {
    let part = std::env::var("STARTDB_SLT_FILES").unwrap_or_default();
    let mut found = Vec::new();
    let mut pending = vec![source("slt")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt")
                && path.to_string_lossy().contains(&part)
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files");
    found
}

/// What differs in one file, as text to read; with `keep`, the answers become the file's own.
fn run_file(path: &Path, login: &Login, protocol: Protocol, keep: bool) -> Vec<String> {
    let mut blocks = parse(&fs::read_to_string(path).expect("a file"));
    let name = path.strip_prefix(source("slt")).expect("below slt").with_extension("");
    let database = format!("slt_{}", name.to_string_lossy().replace('/', "_"));
    let mut admin = login.connect();
    admin.run(&format!("DROP DATABASE IF EXISTS {database}"));
    admin.run(&format!("CREATE DATABASE {database}"));
    let login = login.database(&database);
    let mut run = Run { login: &login, protocol, clients: HashMap::new() };
    let mut wrong = Vec::new();
    for block in blocks.iter_mut().filter(|block| !block.sql.is_empty()) {
        if protocol == Protocol::Extended && block.asks("simple").is_some() {
            continue;
        }
        let answer = run.answer(block);
        if keep {
            block.expected = answer;
        } else {
            let unordered = block.asks("sort").is_some();
            let (right, got) = if unordered {
                (sorted(&block.expected), sorted(&answer))
            } else {
                (block.expected.clone(), answer)
            };
            if right != got && !both_syntax(&right, &got) {
                wrong.push(format!(
                    "{}.slt:{}\n{}\n  expected:\n    {}\n  got:\n    {}\n",
                    name.display(),
                    block.line,
                    block.sql,
                    right.join("\n    "),
                    got.join("\n    ")
                ));
            }
        }
    }
    drop(run);
    if keep {
        fs::write(path, write(&blocks)).expect("written");
    }
    wrong
}

fn run_all(login: &Login, protocol: Protocol, keep: bool) {
    let (mut wrong, files) = (Vec::new(), files());
    for file in &files {
        wrong.extend(run_file(file, login, protocol, keep));
    }
    // All of it into a file; the screen gets what can be read there.
    let report = std::env::temp_dir().join(format!("startdb-slt-{protocol:?}-{}.txt", login.address.port()));
    if !wrong.is_empty() {
        fs::write(&report, wrong.join("\n")).expect("a report");
        let shown: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
        panic!("{} answers differ, all in {}\n{}", wrong.len(), report.display(), shown.join("\n"));
    }
}

#[test]
fn slt_postgres() {
    let Some(postgres) = Postgres::shared() else { return };
    if std::env::var("STARTDB_SLT").as_deref() == Ok("write") {
        run_all(&postgres.login(), Protocol::Simple, true);
    }
    run_all(&postgres.login(), Protocol::Simple, false);
    run_all(&postgres.login(), Protocol::Extended, false);
}

#[test]
fn slt_simple() {
    run_all(&Server::start().login(), Protocol::Simple, false);
}

#[test]
fn slt_extended() {
    run_all(&Server::start().login(), Protocol::Extended, false);
}
