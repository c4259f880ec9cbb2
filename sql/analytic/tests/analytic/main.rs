//! Both executors over the same data: every query of `queries.sql` must give the same rows, or the same error.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../execute/tests/execute/database.rs"]
mod database;

use std::sync::Arc;
use std::time::{Duration, Instant};

use analytic::{Analytic, Options};
use database::Database;
use engine::Isolation;
use execute::{CancelReason, Context, MemoryAccount, Vectorised};
use futures::StreamExt;
use futures::executor::block_on;
use plan::ir::Plan;
use value::text::{Style, output_string};
use value::{Datum, Result, SqlState};

fn analytic(directory: &std::path::Path, cores: usize) -> Analytic {
    Analytic::new(Options { cores, ..Options::new(directory.join("spill")) }).unwrap()
}

fn text(file: &str) -> String {
    std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/analytic").join(file),
    )
    .unwrap()
}

fn filled() -> Database {
    let database = Database::new();
    for statement in text("data.sql").split(";\n").filter(|statement| !statement.trim().is_empty()) {
        database.run(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    database
}

/// The rows of the vectorised executor, as text; `None`: it does not accept the plan.
fn vectorised(database: &Database, analytic: &Analytic, sql: &str) -> Option<Result<Vec<String>>> {
    let mut tx = database.begin(Isolation::ReadCommitted);
    let parsed = resolve::parse::statements(sql).unwrap();
    let plan = match database.plan(&mut tx, &parsed[0], &[]) {
        Ok(plan) => plan,
        Err(error) => return Some(Err(error)),
    };
    if !analytic.accepts(&plan) {
        return None;
    }
    let context = database::context(&mut tx, &[]);
    let result = rows(analytic, &plan, context, sql);
    tx.rollback();
    Some(result)
}

fn rows(analytic: &Analytic, plan: &Arc<Plan>, context: Context, sql: &str) -> Result<Vec<String>> {
    let style = Style::default();
    let mut out = Vec::new();
    let result: Result<()> = block_on(async {
        let mut batches = analytic.run(plan.clone(), context)?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            assert_eq!(batch.num_columns(), plan.output.len(), "{sql}");
            let mut readers = Vec::new();
            for (array, column) in batch.columns().iter().zip(&plan.output) {
                readers.push((value::arrow_form::ColumnReader::new(&**array, column.ty)?, column.ty.oid));
            }
            for row in 0..batch.num_rows() {
                let mut cells = Vec::new();
                for (reader, ty) in &readers {
                    cells.push(match reader.get(row)? {
                        Datum::Null => "~".to_owned(),
                        value => output_string(&value, *ty, &style),
                    });
                }
                out.push(cells.join("|"));
            }
        }
        Ok(())
    });
    result.map(|()| out)
}

#[test]
fn same_answers() {
    let database = filled();
    let directory = tempfile::tempdir().unwrap();
    let analytic = analytic(directory.path(), 2);
    let split =
        Analytic::new(Options { cores: 3, split_build: 0.0, ..Options::new(directory.path().join("split")) });
    let split = split.unwrap();
    let mut failures = Vec::new();
    for query in text("queries.sql").split(";\n") {
        let query: String =
            query.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let query = query.trim();
        if query.is_empty() {
            continue;
        }
        let ordered = query.contains("order by");
        let expected = database.run(query).map(|answer| answer.rows);
        // Most joins with a hash table for each thread, those written as conditions with one for all.
        let executor = if query.contains("join") || query.contains("exists") { &split } else { &analytic };
        let Some(got) = vectorised(&database, executor, query) else {
            failures.push(format!("{query}\n   not accepted"));
            continue;
        };
        let sorted = |rows: Result<Vec<String>>| {
            rows.map(|mut rows| {
                if !ordered {
                    rows.sort();
                }
                rows
            })
            .map_err(|error| format!("{}: {}", error.state(), error.message()))
        };
        let (expected, got) = (sorted(expected), sorted(got));
        if expected != got {
            let show = |rows: &std::result::Result<Vec<String>, String>| match rows {
                Ok(rows) => format!("{} rows {:?}", rows.len(), &rows[..rows.len().min(6)]),
                Err(error) => error.clone(),
            };
            failures.push(format!("{query}\n   rows   {}\n   vector {}", show(&expected), show(&got)));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// Long chains and deep nesting are left to the row executor, which answers them; wide lists are not deep.
#[test]
fn deep() {
    // Parsing and planning recurse too; connections run on large stacks.
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep_queries).unwrap().join().unwrap();
}

fn deep_queries() {
    let database = Database::new();
    database.run("create table t (a int)").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let analytic = analytic(directory.path(), 1);
    let chain = format!("select count(*) from t where a{} > 0", " + 1".repeat(400));
    assert!(vectorised(&database, &analytic, &chain).is_none());
    let shorter = format!("select count(*) from t where a{} > 0", " + 1".repeat(200));
    assert_eq!(vectorised(&database, &analytic, &shorter).unwrap().unwrap(), ["0"]);
    let list: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let wide = format!("select count(*) from t where a in ({})", list.join(", "));
    assert_eq!(vectorised(&database, &analytic, &wide).unwrap().unwrap(), ["0"]);
    let arms: Vec<String> = (0..300).map(|number| format!("select a + {number} from t")).collect();
    assert!(vectorised(&database, &analytic, &arms.join(" union all ")).unwrap().unwrap().is_empty());
    let tests: Vec<String> = (0..2000).map(|number| format!("a = {number}")).collect();
    let either = format!("select count(*) from t where {}", tests.join(" or "));
    assert_eq!(vectorised(&database, &analytic, &either).unwrap().unwrap(), ["0"]);
}

/// A cancelled query answers within 100 ms, whatever it is doing, and gives its memory back.
#[test]
fn cancelled() {
    let database = Database::new();
    database.run("create table t (a int, b int)").unwrap();
    database.run("insert into t select i % 10, i from generate_series(1, 9000) as s(i)").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let analytic = analytic(directory.path(), 2);
    for sql in [
        "select count(*) from t x join t y on x.a = y.a join t z on z.a = y.a",
        "select count(*) from t x, t y, t z where x.b + y.b + z.b = 7",
        "select x.b, y.b from t x join t y on x.a = y.a order by x.b * y.b, 1",
        "select x.b, row_number() over (order by x.b) from t x join t y on x.a = y.a",
    ] {
        let mut tx = database.begin(Isolation::ReadCommitted);
        let parsed = resolve::parse::statements(sql).unwrap();
        let plan = database.plan(&mut tx, &parsed[0], &[]).unwrap();
        assert!(analytic.accepts(&plan), "{sql}");
        let context = database::context(&mut tx, &[]);
        let (cancel, memory) = (context.cancel.clone(), context.memory.clone());
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            cancel.cancel(CancelReason::User);
            Instant::now()
        });
        let error = rows(&analytic, &plan, context, sql).unwrap_err();
        let answered = Instant::now();
        assert_eq!(error.state(), SqlState::QUERY_CANCELED, "{sql}: {error}");
        assert!(answered - stopper.join().unwrap() < Duration::from_millis(100), "{sql}");
        let patience = Instant::now() + Duration::from_secs(20);
        while memory.used() > 0 {
            assert!(Instant::now() < patience, "{sql} keeps {} bytes", memory.used());
            std::thread::sleep(Duration::from_millis(20));
        }
        tx.rollback();
    }
}

/// Sorts and aggregations spill before they pass `work_mem`; a hash join past the statement's memory is 53200.
#[test]
fn memory() {
    let database = Database::new();
    database.run("create table t (a int, b text)").unwrap();
    database.run("insert into t select i, repeat('x', 1000) || (i * 7919 % 40000)::text from generate_series(1, 40000) as s(i)").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let analytic = Analytic::new(Options {
        cores: 2,
        spill_at: 1 << 20,
        ..Options::new(directory.path().join("spill"))
    })
    .unwrap();
    let run = |sql: &str, limit: u64| {
        let mut tx = database.begin(Isolation::ReadCommitted);
        let parsed = resolve::parse::statements(sql).unwrap();
        let plan = database.plan(&mut tx, &parsed[0], &[]).unwrap();
        let mut context = database::context(&mut tx, &[]);
        context.memory = MemoryAccount::new(limit, 1 << 20);
        let memory = context.memory.clone();
        let result = rows(&analytic, &plan, context, sql);
        let patience = Instant::now() + Duration::from_secs(20);
        while memory.used() > 0 {
            assert!(Instant::now() < patience, "{sql} keeps {} bytes", memory.used());
            std::thread::sleep(Duration::from_millis(10));
        }
        tx.rollback();
        result
    };
    let joined = "select count(*) from t x join t y on x.b = y.b";
    assert_eq!(run(joined, 1 << 30).unwrap(), ["40000"]);
    assert_eq!(run(joined, 8 << 20).unwrap_err().state(), SqlState::OUT_OF_MEMORY);
    let sorted = run("select a, b from t order by b, a", 1 << 30).unwrap();
    assert_eq!(sorted.len(), 40000);
    assert!(sorted.is_sorted_by_key(|row| row.split_once('|').unwrap().1.to_owned()));
    assert_eq!(
        run("select count(*) from (select b, count(*) from t group by b) q", 1 << 30).unwrap(),
        ["40000"]
    );
}

/// The queries of TPC-H over the files that `tpchgen-cli csv` made in the folder `TPCH_DATA`; prints what each takes in
/// both executors.
#[test]
#[ignore = "needs generated data in TPCH_DATA"]
fn tpch() {
    let data = std::path::PathBuf::from(std::env::var("TPCH_DATA").unwrap());
    let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tpch");
    let database = Database::new();
    let schema = std::fs::read_to_string(home.join("schema.sql")).unwrap();
    for statement in schema.split(";\n").filter(|statement| statement.starts_with("CREATE TABLE")) {
        database.run(statement).unwrap();
        let table = statement.split_whitespace().nth(2).unwrap();
        let file = std::fs::read_to_string(data.join(format!("{table}.csv"))).unwrap();
        let lines: Vec<&str> = file.lines().skip(1).collect();
        for chunk in lines.chunks(2000) {
            let rows: Vec<String> = chunk.iter().map(|line| format!("({})", cells(line).join(","))).collect();
            database.run(&format!("insert into {table} values {}", rows.join(","))).unwrap();
        }
    }
    database.engine.checkpoint().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let analytic = analytic(directory.path(), 2);
    let mut queries: Vec<_> =
        std::fs::read_dir(home.join("queries")).unwrap().flatten().map(|file| file.path()).collect();
    queries.sort();
    let mut failures = Vec::new();
    let (mut total_rows, mut total_vector) = (Duration::ZERO, Duration::ZERO);
    for path in queries {
        let query = std::fs::read_to_string(&path).unwrap();
        let query = query.trim().trim_end_matches(';');
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let start = Instant::now();
        let expected = database.run(query).map(|answer| answer.rows);
        let by_rows = start.elapsed();
        let start = Instant::now();
        let got = vectorised(&database, &analytic, query);
        let by_vector = start.elapsed();
        total_rows += by_rows;
        total_vector += by_vector;
        println!("{name} rows {by_rows:?} vector {by_vector:?} accepted {}", got.is_some());
        let Some(got) = got else { continue };
        let show = |rows: Result<Vec<String>>| rows.map_err(|error| error.to_string());
        let (expected, got) = (show(expected), show(got));
        if expected != got {
            let head = |rows: &std::result::Result<Vec<String>, String>| {
                format!("{:?}", rows.as_ref().map(|rows| &rows[..rows.len().min(3)]))
            };
            failures.push(format!("{name}\n   rows   {}\n   vector {}", head(&expected), head(&got)));
        }
    }
    println!("total rows {total_rows:?} vector {total_vector:?}");
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// The cells of one line of CSV as literals.
fn cells(line: &str) -> Vec<String> {
    let (mut out, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    out.push(cell);
    out.iter().map(|cell| format!("'{}'", cell.replace('\'', "''"))).collect()
}
