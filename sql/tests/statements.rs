//! Statements through a session over an engine in a temporary directory.
//!
//! A script is blocks of `> statement` lines followed by what must come back: rows as `a|b`, a tag as `= TAG`, an error
//! as `! SQLSTATE` (with the message behind it where it matters). What stands in the scripts was compared with
//! PostgreSQL 15.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use session::{Chunk, Database as _, Fetched, Peer, Session, Startup};

/// A database in a directory that goes with the first part.
fn new_database() -> (tempfile::TempDir, engine::Engine, Arc<sql::Database>) {
    new_database_with(|_| {})
}

fn new_database_with(
    set: impl FnOnce(&mut engine::Options),
) -> (tempfile::TempDir, engine::Engine, Arc<sql::Database>) {
    let home = tempfile::tempdir().unwrap();
    let mut options = engine::Options::new(home.path().join("data"));
    set(&mut options);
    let engine = engine::Engine::open(options).unwrap();
    let database = sql::Database::open(engine.clone(), sql::Options::default()).unwrap();
    (home, engine, database)
}

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
            let (_home, engine, database) = new_database();
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
        let (_home, engine, database) = new_database();
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

/// Asks until the answer is this one row.
async fn awaited(session: &mut dyn Session, question: &str, answer: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let got = run(session, question).await;
        if got[0] == answer {
            return;
        }
        assert!(Instant::now() < deadline, "{question}: {got:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A statement that changes or looks through many rows leaves the threads of the runtime to others, also while it waits for
/// what goes to the base. Here there is one thread.
#[test]
fn others_have_their_turn_beside_large_statements() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_home, engine, database) = new_database_with(|options| {
        options.spill_size = 4 << 20;
        options.aside = sql::aside;
    });
    let turns = Arc::new(AtomicU64::new(0));
    let (count, counted) = (turns.clone(), turns);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let statements = async move {
        let mut session = open(&database, "postgres").await;
        run(&mut *session, "CREATE TABLE parents (id int PRIMARY KEY, what text)").await;
        run(&mut *session, "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents)").await;
        for (statement, tag) in [
            (
                "INSERT INTO parents SELECT g, 'row ' || g FROM generate_series(1, 300000) g",
                "INSERT 0 300000",
            ),
            ("INSERT INTO children SELECT g, g FROM generate_series(1, 100000) g", "INSERT 0 100000"),
            ("UPDATE parents SET what = what || '!'", "UPDATE 300000"),
            ("UPDATE parents SET what = '' WHERE md5(md5(what)) = ''", "UPDATE 0"),
            ("CREATE INDEX ON parents (what)", "CREATE INDEX"),
            ("ALTER TABLE children ADD UNIQUE (parent) DEFERRABLE", "ALTER TABLE"),
            ("DELETE FROM parents WHERE id > 100000", "DELETE 200000"),
            ("UPDATE children SET parent = 100001 - parent", "UPDATE 100000"),
            ("ALTER TABLE parents ALTER what TYPE varchar USING md5(repeat(what, 200))", "ALTER TABLE"),
            ("CREATE TABLE hashed (hash bytea)", "CREATE TABLE"),
            // Single calls that take long.
            (
                "INSERT INTO hashed SELECT sha256(repeat('y', n)::bytea) FROM generate_series(99999999, 100000000) n",
                "INSERT 0 2",
            ),
            ("CREATE INDEX CONCURRENTLY ON parents (md5(repeat(what, 50)))", "CREATE INDEX"),
        ] {
            let (before, begun) = (counted.load(Ordering::SeqCst), Instant::now());
            assert_eq!(run(&mut *session, statement).await, [format!("= {tag}")]);
            let (had, took) = (counted.load(Ordering::SeqCst) - before, begun.elapsed());
            // What is over sooner kept nobody waiting.
            if took > Duration::from_millis(50) {
                assert!(u128::from(had) > took.as_millis() / 25, "{statement}: {had} turns in {took:?}");
            }
        }
    };
    runtime.block_on(runtime.spawn(statements)).unwrap();
    runtime.shutdown_background();
    engine.close().unwrap();
}

/// An index whose values were being computed when its session vanished is invalid, nobody maintains it, and every way to complete
/// it or to be rid of it works.
#[test]
fn an_index_without_all_its_values() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (home, engine, database) = new_database();
        let mut session = open(&database, "postgres").await;
        let mut holder = open(&database, "postgres").await;
        let state = "SELECT indisvalid, indisready, indislive FROM pg_index WHERE indexrelid = \
                     (SELECT oid FROM pg_class WHERE relname = 't_some')";
        let make = "CREATE UNIQUE INDEX CONCURRENTLY t_some ON t (lower(word), (id / 1)) WHERE id > -9";
        for way in [
            "at the start",
            "REINDEX INDEX t_some",
            "REINDEX INDEX CONCURRENTLY t_some",
            "REINDEX TABLE t",
            "REINDEX TABLE CONCURRENTLY t",
            "DROP INDEX t_some",
            "ALTER TABLE t DROP COLUMN word",
            "TRUNCATE t",
            "DROP TABLE t",
        ] {
            run(&mut *session, "DROP TABLE IF EXISTS t").await;
            run(&mut *session, "CREATE TABLE t (id int PRIMARY KEY, word text)").await;
            let rows = "INSERT INTO t SELECT g, 'Word ' || g % 15000 FROM generate_series(1, 20000) g";
            run(&mut *session, rows).await;
            engine.checkpoint().unwrap();
            // The work stands still at this row, behind the first step.
            run(&mut *holder, "BEGIN").await;
            run(&mut *holder, "SELECT id FROM t WHERE id = 15000 FOR UPDATE").await;
            let mut builder = open(&database, "postgres").await;
            let building = tokio::spawn(async move { run(&mut *builder, make).await });
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'tuple' AND NOT granted";
            awaited(&mut *session, waiting, "1").await;
            let taken = run(&mut *session, "CREATE TABLE t_some (id int)").await;
            assert_eq!(taken, ["! 42P07 relation \"t_some\" already exists"]);
            building.abort();
            assert!(building.await.unwrap_err().is_cancelled());
            run(&mut *holder, "ROLLBACK").await;
            assert_eq!(run(&mut *session, state).await, ["f|f|t", "= SELECT 1"], "{way}");
            let write = "UPDATE t SET word = 'New' WHERE id IN (1, 12000); DELETE FROM t WHERE id IN (2, 12001); \
                         INSERT INTO t VALUES (-1, 'Word 3'), (-2, 'Word 3') ON CONFLICT DO NOTHING";
            let wrote = run(&mut *session, write).await;
            assert_eq!(wrote, ["= UPDATE 2", "= DELETE 2", "= INSERT 0 2"], "{way}");
            match way {
                "at the start" => {
                    let resumed = database.resume_indexes();
                    tokio::time::timeout(Duration::from_secs(60), resumed).await.unwrap();
                }
                way => {
                    let done = run(&mut *session, way).await;
                    assert!(done[0].starts_with("= "), "{way}: {done:?}");
                }
            }
            let index = run(&mut *session, state).await;
            if way.starts_with("DROP") || way.starts_with("ALTER") {
                assert_eq!(index, ["= SELECT 0"], "{way}");
                run(&mut *session, "INSERT INTO t VALUES (-3)").await;
                continue;
            }
            if way == "TRUNCATE t" {
                assert_eq!(index, ["f|f|t", "= SELECT 1"]);
                run(&mut *session, rows).await;
                let done = run(&mut *session, "REINDEX INDEX CONCURRENTLY t_some").await;
                assert_eq!(done, ["= REINDEX"]);
            }
            assert_eq!(run(&mut *session, state).await, ["t|t|t", "= SELECT 1"], "{way}");
            // Every row has its values.
            let catalog = engine.catalog();
            let table = catalog.objects().find_map(|object| match object {
                engine::catalog::Object::Table(table) if table.name == "t" => Some(table.clone()),
                _ => None,
            });
            let table = table.unwrap();
            let snapshot = engine.snapshot();
            let mut scan = snapshot.scan(&table, None).unwrap();
            let mut batch = engine::RowBatch::default();
            let mut count = 0;
            while scan.next(&mut batch).unwrap() {
                for row in &batch.rows {
                    count += 1;
                    let text = row.text(1).unwrap().to_lowercase();
                    assert_eq!(row.text(2), Some(text.as_str()), "{way}");
                    assert!((3..5).all(|column| !row.get(column).is_null()), "{way}");
                }
            }
            assert_eq!(count, 20_000, "{way}");
            let ask = "SELECT id FROM t WHERE lower(word) = 'word 14000' AND id > -9";
            let plan = run(&mut *session, &format!("EXPLAIN {ask}")).await;
            assert!(plan[0].contains("t_some"), "{way}: {plan:?}");
            assert_eq!(run(&mut *session, ask).await, ["14000", "= SELECT 1"], "{way}");
        }
        // An expression that fails, and one who does not want to wait, leave nothing of it.
        run(&mut *session, "CREATE TABLE t (id int PRIMARY KEY, word text)").await;
        run(&mut *session, "INSERT INTO t SELECT g, 'x' FROM generate_series(0, 9) g").await;
        let failed = run(&mut *session, "CREATE INDEX CONCURRENTLY t_some ON t ((1 / id))").await;
        assert_eq!(failed, ["! 22012 division by zero"]);
        assert_eq!(run(&mut *session, state).await, ["= SELECT 0"]);
        run(&mut *holder, "BEGIN").await;
        run(&mut *holder, "SELECT id FROM t WHERE id = 5 FOR UPDATE").await;
        run(&mut *session, "SET statement_timeout = 300").await;
        let cancelled = run(&mut *session, make).await;
        assert_eq!(cancelled, ["! 57014 canceling statement due to statement timeout"]);
        assert_eq!(run(&mut *session, state).await, ["= SELECT 0"]);
        run(&mut *holder, "ROLLBACK").await;
        let zero = run(&mut *session, "DELETE FROM t WHERE id = 0; INSERT INTO t VALUES (0)").await;
        assert_eq!(zero, ["= DELETE 1", "= INSERT 0 1"]);
        drop((session, holder, database));
        engine.close().unwrap();
        drop(engine);
        let shared = engine::disk::RealDisk::new();
        let report = engine::check(&home.path().join("data"), shared).unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
    });
}

/// A statement that writes while an index is published does not know its columns, and meets rows that have them; one that sees
/// the past finds no values in them.
#[test]
fn statements_that_are_older_than_an_index() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (home, engine, database) = new_database();
        let mut session = open(&database, "postgres").await;
        let mut holder = open(&database, "postgres").await;
        run(&mut *session, "CREATE TABLE t (id int PRIMARY KEY, word text)").await;
        run(&mut *session, "INSERT INTO t SELECT g, 'Word ' || g FROM generate_series(1, 3) g").await;
        let spawned = |text: &'static str| {
            let database = database.clone();
            tokio::spawn(async move { run(&mut *open(&database, "postgres").await, text).await })
        };
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'tuple' AND NOT granted";
        run(&mut *holder, "BEGIN").await;
        run(&mut *holder, "SELECT id FROM t WHERE id IN (2, 3) FOR UPDATE").await;
        let writer = spawned("UPDATE t SET word = word || 'u' WHERE id < 3 RETURNING *");
        awaited(&mut *session, waiting, "1").await;
        let insert = "INSERT INTO t AS o VALUES (3, 'i') ON CONFLICT (id) DO UPDATE SET word = o.word || excluded.word \
                      RETURNING *";
        let inserter = spawned(insert);
        awaited(&mut *session, waiting, "2").await;
        let builder = spawned("CREATE INDEX CONCURRENTLY t_lower ON t (lower(word), (id + 1))");
        awaited(&mut *session, "SELECT count(*) FROM pg_class WHERE relname = 't_lower'", "1").await;
        let both = "UPDATE t SET word = 'Held ' || id WHERE id IN (2, 3); COMMIT";
        assert_eq!(run(&mut *holder, both).await, ["= UPDATE 2", "= COMMIT"]);
        let within = Duration::from_secs(30);
        let done = tokio::time::timeout(within, writer).await.unwrap().unwrap();
        assert_eq!(done, ["1|Word 1u", "2|Held 2u", "= UPDATE 2"]);
        let done = tokio::time::timeout(within, inserter).await.unwrap().unwrap();
        assert_eq!(done, ["3|Held 3i", "= INSERT 0 1"]);
        let done = tokio::time::timeout(within, builder).await.unwrap().unwrap();
        assert_eq!(done, ["= CREATE INDEX"]);
        for (word, id) in [("word 1u", 1), ("held 2u", 2), ("held 3i", 3)] {
            let ask = format!("SELECT id FROM t WHERE lower(word) = '{word}'");
            assert_eq!(run(&mut *session, &ask).await, [id.to_string(), "= SELECT 1".into()]);
        }
        run(&mut *session, "CREATE TABLE other (id int)").await;
        run(&mut *holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT id FROM other").await;
        let done = run(&mut *session, "CREATE INDEX t_upper ON t (upper(word))").await;
        assert_eq!(done, ["= CREATE INDEX"]);
        for session in [&mut session, &mut holder] {
            let found = run(&mut **session, "SELECT id FROM t WHERE upper(word) = 'HELD 2U'").await;
            assert_eq!(found, ["2", "= SELECT 1"]);
        }
        drop((session, holder, database));
        engine.close().unwrap();
        drop(engine);
        let report = engine::check(&home.path().join("data"), engine::disk::RealDisk::new()).unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
    });
}
