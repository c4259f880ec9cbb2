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
    /// Simple; what only reads runs again, with the same and with other literals, with and without the plan cache.
    Shuffled,
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
            Protocol::Simple | Protocol::Shuffled => client.simple(&block.sql),
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

/// Whether running a statement again changes nothing that later statements see.
fn only_reads(sql: &str) -> bool {
    let text = sql.to_ascii_lowercase();
    let reads = ["select", "values", "with"].iter().any(|word| text.starts_with(word));
    let acts = [
        "insert",
        "update",
        "delete",
        "nextval",
        "setval",
        "currval",
        "lastval",
        "random",
        "setseed",
        "set_config",
        "pg_sleep",
        "advisory",
        " for ",
        "notify",
        "clock_timestamp",
        "now(",
        "current_time",
        "txid",
        "pg_cancel",
        "pg_terminate",
        "statement_timestamp",
        "timeofday",
        "localtime",
        " into ",
        "gen_random",
        "pg_stat",
        ";",
    ];
    reads && !acts.iter().any(|word| text.contains(word))
}

/// The statement with its literals changed: whole numbers one larger, or every literal where the next of its kind stood.
fn with_other_literals(sql: &str, rotate: bool) -> String {
    let bytes = sql.as_bytes();
    let mut places: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
                at = (at + 1).min(bytes.len());
                let plain =
                    start == 0 || !(bytes[start - 1].is_ascii_alphanumeric() || bytes[start - 1] == quote);
                if quote == b'\'' && plain && bytes.get(at) != Some(&quote) {
                    places.push((start, at, true));
                }
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b == b'.' => {
                while bytes
                    .get(at)
                    .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.'))
                {
                    at += 1;
                }
                if bytes[start..at].iter().all(u8::is_ascii_digit) && at - start < 18 {
                    places.push((start, at, false));
                }
            }
            _ => at += 1,
        }
    }
    let mut out = String::new();
    let mut from = 0;
    for (n, (start, end, text)) in places.iter().enumerate() {
        out.push_str(&sql[from..*start]);
        let of_kind = || places.iter().filter(|place| place.2 == *text);
        if rotate {
            let place = places[..n].iter().filter(|place| place.2 == *text).count();
            if let Some((start, end, _)) = of_kind().cycle().nth(place + 1) {
                out.push_str(&sql[*start..*end]);
            }
        } else if *text {
            out.push_str(&sql[*start..*end]);
        } else {
            let number: u64 = sql[*start..*end].parse().unwrap_or(0);
            let _ = write!(out, "{}", number + 1);
        }
        from = *end;
    }
    out.push_str(&sql[from..]);
    out
}

impl Run<'_> {
    /// Runs variants of a statement that only reads until their plans come from the cache, and again without it.
    fn variants(&mut self, block: &Block) -> Vec<String> {
        let mut wrong = Vec::new();
        let variants = [
            block.sql.clone(),
            with_other_literals(&block.sql, false),
            with_other_literals(&block.sql, true),
        ];
        let answers = |setting: &str, run: &mut Run<'_>| -> Vec<Vec<String>> {
            let set = Block {
                sql: format!("SET startdb.plan_cache = {setting}"),
                head: block.head.clone(),
                line: 0,
                expected: Vec::new(),
            };
            run.answer(&set);
            variants
                .iter()
                .map(|sql| {
                    let variant =
                        Block { sql: sql.clone(), head: block.head.clone(), line: 0, expected: Vec::new() };
                    sorted(&run.answer(&variant))
                })
                .collect()
        };
        let first = answers("on", self);
        let second = answers("on", self);
        let without = answers("off", self);
        let third = answers("on", self);
        for (n, sql) in variants.iter().enumerate() {
            for got in [&first[n], &second[n], &third[n]] {
                if *got != without[n] {
                    wrong.push(format!(
                        "{sql}\n  without the plan cache:\n    {}\n  with it:\n    {}\n",
                        without[n].join("\n    "),
                        got.join("\n    ")
                    ));
                    break;
                }
            }
        }
        wrong
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
    let mut in_block = false;
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
            // Inside a transaction block a variant that fails would end it.
            let first = block.sql.split([' ', ';', '\n']).next().unwrap_or("").to_ascii_lowercase();
            match first.as_str() {
                "begin" | "start" => in_block = true,
                "commit" | "rollback" | "end" | "abort" => in_block = false,
                _ if protocol == Protocol::Shuffled && !in_block && only_reads(&block.sql) => {
                    wrong.extend(run.variants(block));
                }
                _ => {}
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

#[test]
fn slt_shuffled() {
    run_all(&Server::start().login(), Protocol::Shuffled, false);
}
