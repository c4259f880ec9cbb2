//! Cancel, memory, long expressions, speed of a plain scan.

use std::time::Instant;

use execute::{Cancel, CancelReason, Driver, MemoryAccount, Rows, open};
use futures::executor::block_on;

use crate::database::{Database, context};

fn series(database: &Database, rows: usize) {
    database.run("create table s (a int, b int, c text)").unwrap();
    database
        .run(&format!("insert into s select i, i % 100, 'row ' || i from generate_series(1, {rows}) as g(i)"))
        .unwrap();
}

fn stopped(sql: &str, limit: u64, cancel: Option<CancelReason>) -> String {
    let database = Database::new();
    series(&database, 2000);
    let mut tx = database.begin(engine::Isolation::ReadCommitted);
    let parsed = resolve::parse::statements(sql).unwrap();
    let plan = database.plan(&mut tx, &parsed[0], &[]).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut context = context(&mut tx, &[]);
    context.memory = MemoryAccount::new(limit, limit);
    context.cancel = Cancel::new();
    if let Some(reason) = cancel {
        context.cancel.cancel(reason);
    }
    let memory = context.memory.clone();
    let mut out = Rows::default();
    let error = if sql.starts_with("select") {
        let mut cursor = open(&plan, context).unwrap();
        loop {
            match cursor.next(1000, &mut out) {
                Ok(true) => out.clear(),
                Ok(false) => return "no error".to_owned(),
                Err(error) => break error,
            }
        }
    } else {
        let mut driver = Driver::open(&plan, context).unwrap();
        match block_on(driver.next(&mut tx, 1000, &mut out)) {
            Ok(_) => return "no error".to_owned(),
            Err(error) => error,
        }
    };
    assert_eq!(memory.used(), 0, "{sql}");
    error.state().to_string()
}

#[test]
fn memory_and_cancel_stop_every_kind_of_loop() {
    for sql in [
        "select x.a from s x, s y order by x.c, y.c",
        "select count(*) from (select distinct x.c, y.c from s x, s y) q",
        "select array_agg(x.c) from s x, s y",
        "select x.c from s x, s y, s z where x.b < y.b and y.b < z.b group by x.c, y.c, z.c",
        "select sum(x.a) over (order by x.b) from s x, s y",
        "select count(*) from (select y.a from s y, s z offset 0) q full join (select y.a from s y, s z offset 0) r on q.a = r.a",
        "select * from (with recursive r(n) as (select 1::numeric union all select n + 1 from r) select * from r) q",
    ] {
        assert_eq!(stopped(sql, 4 << 20, None), "53200", "{sql}");
    }
    for sql in [
        "select count(*) from s x, s y, s z, s w",
        "select count(*) from generate_series(1, 1000000000000)",
        "update s set a = a + 1",
        "insert into s select * from s",
    ] {
        assert_eq!(stopped(sql, 1 << 30, Some(CancelReason::User)), "57014", "{sql}");
        assert_eq!(stopped(sql, 1 << 30, Some(CancelReason::StatementTimeout)), "57014", "{sql}");
    }
}

/// Threads that run statements have large stacks; this is one of them.
#[test]
fn long_expressions_are_answered_or_refused() {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(long_expressions).unwrap();
    thread.join().unwrap();
}

fn long_expressions() {
    let database = Database::new();
    database.run("create table n (a int); insert into n values (5), (200000)").unwrap();
    let check = |sql: String, expected: &str| match database.run(&sql) {
        Ok(answer) => assert_eq!(answer.rows, [expected]),
        Err(error) => assert_eq!(error.state().as_str(), "54001"),
    };
    check(format!("select {}", vec!["1"; 100_000].join(" + ")), "100000");
    check(format!("select {} from n where a = 5", vec!["a"; 3_000].join(" + ")), "15000");
    check(format!("select {}a{} from n where a = 5", "abs(".repeat(900), ")".repeat(900)), "5");
    let numbers: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    check(format!("select a from n where a = {}", numbers.join(" or a = ")), "5");
    check(format!("select a from n where a not in ({})", numbers.join(", ")), "200000");
}

#[test]
fn only_what_is_needed_is_read() {
    let database = Database::new();
    series(&database, 5000);
    database.run("create index s_a on s (a)").unwrap();
    let one = database.run("select c from s where a = 77").unwrap();
    assert_eq!(
        (one.rows, one.counters.rows_scanned, one.counters.indexes.len()),
        (vec!["row 77".to_owned()], 1, 1)
    );
    let first = database.run("select a from s order by a limit 3").unwrap();
    assert_eq!(first.rows, ["1", "2", "3"]);
    assert!(first.counters.rows_scanned <= 256);
    let list = database.run("select a from s where a in (9, 3, 9, null, 6) order by a").unwrap();
    assert_eq!(
        (list.rows, list.counters.rows_scanned),
        (vec!["3".to_owned(), "6".to_owned(), "9".to_owned()], 3)
    );
}

/// Not a measurement, only a guard against a scan that has become slow by an order.
#[test]
fn a_scan_keeps_its_pace() {
    let database = Database::new();
    let rows = if cfg!(debug_assertions) { 20_000 } else { 600_000 };
    series(&database, rows);
    let start = Instant::now();
    let answer =
        database.run("select count(*), sum(a), sum(b), max(b) from s where b < 50 and a > 10").unwrap();
    assert_eq!(answer.counters.rows_scanned, rows as u64);
    let elapsed = start.elapsed();
    eprintln!("{rows} rows filtered and summed in {elapsed:?}");
    assert!(elapsed.as_secs() < 10, "{elapsed:?}");
}
