//! Statements through a session over an engine in a temporary directory.
//!
//! A script is blocks of `> statement` lines followed by what must come back: rows as `a|b`, a tag as `= TAG`, an error
//! as `! SQLSTATE` (with the message behind it where it matters). What stands in the scripts was compared with
//! PostgreSQL 15.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use session::{Chunk, Database as _, Fetched, Peer, Session, Startup};

async fn open(database: &sql::Database, user: &str) -> Box<dyn Session> {
    database
        .open(Startup {
            user: user.into(),
            database: "postgres".into(),
            peer: Peer::Internal,
            parameters: Vec::new(),
        })
        .await
        .unwrap()
}

/// Runs one simple query and writes down what came back.
async fn run(session: &mut dyn Session, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let failed = |error: value::Error| format!("! {} {}", error.state(), error.message());
    let count = match session.simple_start(text).await {
        Ok(count) => count,
        Err(error) => {
            out.push(failed(error));
            0
        }
    };
    'statements: for _ in 0..count {
        let columns = match session.simple_next().await {
            Ok(columns) => columns,
            Err(error) => {
                out.push(failed(error));
                break;
            }
        };
        loop {
            match session.fetch("", 0).await {
                Ok(Fetched::Chunk(Chunk::Rows(rows))) => {
                    let columns = columns.as_deref().unwrap_or_default();
                    let style = session.style();
                    for row in 0..rows.count {
                        let values: Vec<String> = (0..rows.columns)
                            .map(|c| {
                                let value = &rows.values[row * rows.columns + c];
                                if value.is_null() {
                                    "NULL".into()
                                } else {
                                    value::text::output_string(value, columns[c].type_oid, &style)
                                }
                            })
                            .collect();
                        out.push(values.join("|"));
                    }
                }
                Ok(Fetched::Complete(tag)) => {
                    out.push(format!("= {tag}"));
                    break;
                }
                Ok(Fetched::CopyData(data)) => {
                    out.extend(String::from_utf8_lossy(&data).lines().map(str::to_string));
                }
                Ok(_) => {}
                Err(error) => {
                    out.push(failed(error));
                    break 'statements;
                }
            }
        }
    }
    if let Err(error) = session.simple_end().await {
        out.push(failed(error));
    }
    out
}

#[test]
fn scripts() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/statements");
        let mut wrong = Vec::new();
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let home = tempfile::tempdir().unwrap();
            let engine = engine::Engine::open(engine::Options::new(home.path().join("data"))).unwrap();
            let database = sql::Database::open(engine.clone(), sql::Options::default()).unwrap();
            let mut session = open(&database, "postgres").await;
            let script = std::fs::read_to_string(&path).unwrap();
            let mut lines = script.lines().peekable();
            while let Some(line) = lines.next() {
                let Some(statement) = line.strip_prefix("> ") else { continue };
                let mut expected = Vec::new();
                while let Some(line) = lines.next_if(|l| !l.starts_with("> ")) {
                    if !line.is_empty() && !line.starts_with('#') {
                        expected.push(line.to_string());
                    }
                }
                let found = run(&mut *session, statement).await;
                let same = found.len() == expected.len()
                    && found
                        .iter()
                        .zip(&expected)
                        .all(|(f, e)| f == e || (e.starts_with("! ") && f.starts_with(e.as_str())));
                if !same {
                    wrong.push(format!(
                        "{}: {statement}\n  expected {expected:?}\n  found    {found:?}",
                        path.display()
                    ));
                }
            }
            drop(session);
            engine.close().unwrap();
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
