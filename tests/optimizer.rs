//! The adviser sees what runs and says what would help, and nothing of it touches the queries themselves.

use std::time::{Duration, Instant};

use crate::server::Server;

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
