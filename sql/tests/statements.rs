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

/// Plain statements that differ in their literals share a plan, as long as no literal changes what the plan should be.
#[test]
fn literals_share_a_plan() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let home = tempfile::tempdir().unwrap();
        let engine = engine::Engine::open(engine::Options::new(home.path().join("data"))).unwrap();
        let database = sql::Database::open(engine.clone(), sql::Options::default()).unwrap();
        let mut session = open(&database, "postgres").await;
        run(&mut *session, "CREATE TABLE t (id int PRIMARY KEY, kind text, at date)").await;
        let fill = "INSERT INTO t SELECT g, CASE WHEN g % 100 = 0 THEN 'kind ' || g / 100 ELSE 'common' END, \
                    date '2020-01-01' + g % 1000 FROM generate_series(1, 20000) g";
        run(&mut *session, fill).await;
        run(&mut *session, "CREATE INDEX ON t (kind)").await;
        run(&mut *session, "CREATE INDEX ON t (at)").await;
        run(&mut *session, "ANALYZE t").await;
        // Whether the plan of the statement came from the cache, and its first row.
        let mut ask = async |sql: &str| {
            let before = database.stats();
            let answer = run(&mut *session, sql).await;
            let after = database.stats();
            (after.plan_cache_misses == before.plan_cache_misses, answer.first().cloned().unwrap_or_default())
        };
        let shared = [
            // The first is seen, the second planned twice, the others only look up.
            ("SELECT kind FROM t WHERE id = 100", "kind 1"),
            ("SELECT kind FROM t WHERE id = 200", "kind 2"),
            ("SELECT kind FROM t WHERE id = 300", "kind 3"),
            ("SELECT kind  FROM t WHERE  id = -1", "= SELECT 0"),
            ("UPDATE t SET kind = 'new' WHERE id = 1", "= UPDATE 1"),
            ("UPDATE t SET kind = 'new' WHERE id = 2", "= UPDATE 1"),
            ("UPDATE t SET kind = 'newer' WHERE id = 3", "= UPDATE 1"),
            ("INSERT INTO t VALUES (-1, 'x', '2020-01-01')", "= INSERT 0 1"),
            ("INSERT INTO t VALUES (-2, 'y', '2020-01-02')", "= INSERT 0 1"),
            ("INSERT INTO t VALUES (-3, 'z', '2020-01-03')", "= INSERT 0 1"),
            ("SELECT count(*) FROM t WHERE kind = 'kind 7'", "1"),
            ("SELECT count(*) FROM t WHERE kind = 'kind 8'", "1"),
            ("SELECT count(*) FROM t WHERE kind = 'kind 9'", "1"),
            ("SELECT count(*) FROM t WHERE at BETWEEN '2020-01-05' AND '2020-01-06'", "40"),
            ("SELECT count(*) FROM t WHERE at BETWEEN '2020-01-07' AND '2020-01-08'", "40"),
            ("SELECT count(*) FROM t WHERE at BETWEEN '2020-01-09' AND '2020-01-10'", "40"),
        ];
        let mut cached = Vec::new();
        for (sql, answer) in shared {
            let (hit, got) = ask(sql).await;
            assert_eq!(got, answer, "{sql}");
            cached.push(hit);
        }
        let third: Vec<bool> = [2, 3, 6, 9, 12, 15].iter().map(|n| cached[*n]).collect();
        assert_eq!(third, [true; 6], "{cached:?}");
        // Most rows, or a large part of the range: these want another plan.
        assert_eq!(ask("SELECT count(*) FROM t WHERE kind = 'common'").await, (false, "19797".into()));
        let wide = "SELECT count(*) FROM t WHERE at BETWEEN '2020-01-01' AND '2022-01-01'";
        assert_eq!(ask(wide).await, (false, "14643".into()));
        // What no value of the type is, is refused with its place in the text.
        assert!(ask("SELECT kind FROM t WHERE id = 'x'").await.1.starts_with("! 22P02"));
        assert!(ask("INSERT INTO t VALUES (-4, 'y', '2020-13-01')").await.1.starts_with("! 22008"));
        // Folded to an error for some values: no parameter may hide it.
        for divisor in [1, 2, 3] {
            assert_eq!(
                ask(&format!("SELECT 1 FROM t WHERE id = 100 / {divisor} AND false")).await.1,
                "= SELECT 0"
            );
        }
        assert!(ask("SELECT 1 FROM t WHERE id = 100 / 0 AND false").await.1.starts_with("! 22012"));
        drop(session);
        engine.close().unwrap();
    });
}
