//! The adviser sees what runs and says what would help, and nothing of it touches the queries themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::server::{Server, get};

#[test]
fn an_unindexed_filter_is_noticed_within_seconds() {
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE visits (id int PRIMARY KEY, visitor text, at timestamptz DEFAULT now())");
    client.run("INSERT INTO visits SELECT g, 'visitor ' || g % 5000 FROM generate_series(1, 20000) g");
    client.run("ANALYZE visits");
    for number in 0..50 {
        client.run(&format!("SELECT * FROM visits WHERE visitor = 'visitor {number}'"));
    }
    let begin = Instant::now();
    loop {
        let found = client.value(
            "SELECT count(*) FROM startdb.recommendations r WHERE r::text ILIKE '%CREATE INDEX%visits%visitor%'",
        );
        if found == "1" {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "no recommendation after ten seconds");
        std::thread::sleep(Duration::from_millis(100));
    }
    // One line for the fifty, the literal taken out.
    let seen = client.run("SELECT query, calls, rows_scanned FROM startdb.queries WHERE query ILIKE '%from visits where visitor%'");
    assert_eq!(seen.rows.len(), 1, "{:?}", seen.rows);
    assert_eq!(seen.rows[0][1].as_deref(), Some("50"));
    let text = seen.rows[0][0].clone().unwrap_or_default();
    assert!(!text.contains("visitor 7"), "a literal in {text}");
    // It proposes and applies nothing.
    assert_eq!(client.value("SELECT count(*) FROM pg_indexes WHERE tablename = 'visits'"), "1");
}

/// A panic of the task is its own: statements go on while it is down, and it comes back by itself.
#[test]
fn a_panic_leaves_queries_alone_and_is_followed_by_a_restart() {
    let server = Server::start_planted();
    let restarts = || {
        let metrics = get(server.http, "/metrics").expect("metrics");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("startdb_optimizer_restarts_total "))
            .expect("a line");
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(restarts(), 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|number| {
                let (stop, mut client) = (&stop, server.connect());
                scope.spawn(move || {
                    let mut done = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let text = format!("SELECT {number} + g FROM generate_series(1, 3) g");
                        assert_eq!(client.run(&text).rows.len(), 3);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut client = server.connect();
        client.run("SELECT 'optimizer_panic' AS optimizer_panic");
        let begin = Instant::now();
        while restarts() == 0 {
            assert!(begin.elapsed() < Duration::from_secs(10), "the optimizer has not panicked");
            std::thread::sleep(Duration::from_millis(20));
        }
        // It is back when it has taken a new text in.
        while client.value("SELECT count(*) FROM startdb.queries WHERE query LIKE '%generate_series%'") == "0"
        {
            assert!(begin.elapsed() < Duration::from_secs(20), "the optimizer has not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in load {
            assert!(thread.join().expect("no statement failed") > 0);
        }
    });
    assert!(server.log().contains("the optimizer panicked and starts again"));
}
