//! kill -9 under load, again and again: what was acknowledged is there, nothing is there by half, and the server is
//! back at once. `CRASH_ROUNDS=20` for the long form.

use std::fs::File;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::client::{Failure, Login};
use crate::pgbench::{assert_balanced, pgbench};
use crate::programs::{have, succeed};
use crate::server::Server;

/// Inserts until the server is gone; gives the keys whose commit was acknowledged. Every third transaction is one of
/// two statements, which must survive together.
fn insert_until_killed(login: &Login, next: &AtomicI64, stop: &AtomicBool) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    let Ok(mut client) = login.try_connect() else { return acknowledged };
    while !stop.load(Ordering::Relaxed) {
        let key = next.fetch_add(1, Ordering::Relaxed);
        let sql = if key % 3 == 0 {
            format!(
                "BEGIN; INSERT INTO acknowledged VALUES ({key}, 'first'); \
                 INSERT INTO acknowledged VALUES (-{key}, 'second'); COMMIT"
            )
        } else {
            format!("INSERT INTO acknowledged VALUES ({key}, 'alone')")
        };
        match client.simple(&sql) {
            Ok(_) => acknowledged.push(key),
            Err(Failure::Broken(_)) => break,
            Err(failure) if failure.state().starts_with("57P") => break,
            Err(failure) => panic!("{failure}"),
        }
    }
    acknowledged
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    if !have(&["pgbench"]) {
        return;
    }
    let rounds: usize = std::env::var("CRASH_ROUNDS").map_or(3, |text| text.parse().expect("a number"));
    // Small, so that rounds meet checkpoints and several log files.
    let mut server =
        Server::start_with(&["wal.segment_size=16MB", "checkpoint.wal_size=4MB", "checkpoint.interval=1s"]);
    succeed(&mut pgbench(&server, &["-i", "-q", "-s", "1"]));
    server.connect().run("CREATE TABLE acknowledged (key bigint PRIMARY KEY, how text)");
    let next = AtomicI64::new(1);
    let mut acknowledged: Vec<i64> = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let quiet = File::create(server.folder().join("pgbench.log")).expect("a file");
        let mut load = pgbench(&server, &["-n", "-c", "4", "-j", "2", "-T", "60", "-M", "prepared"])
            .stdout(Stdio::null())
            .stderr(quiet)
            .spawn()
            .expect("pgbench");
        let stop = AtomicBool::new(false);
        let login = server.login();
        std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| insert_until_killed(&login, &next, &stop))).collect();
            // Never the same moment twice: sometimes just after the start, sometimes well into the load.
            std::thread::sleep(Duration::from_millis(150 + 613 * (round as u64 * 7 % 5)));
            server.kill();
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                acknowledged.extend(writer.join().expect("a writer"));
            }
        });
        let _ = load.kill();
        let _ = load.wait();
        let took = server.launch();
        slowest = slowest.max(took);

        let mut client = server.connect();
        assert_balanced(&mut client);
        let found: std::collections::HashSet<i64> = client
            .run("SELECT key FROM acknowledged")
            .rows
            .iter()
            .map(|row| row[0].as_ref().and_then(|key| key.parse().ok()).expect("a key"))
            .collect();
        for key in &acknowledged {
            assert!(found.contains(key), "round {round}: acknowledged {key} is gone");
        }
        for key in found.iter().filter(|key| **key % 3 == 0) {
            assert!(found.contains(&-key), "round {round}: the transaction of {key} is there by half");
        }
        // The index and the table tell the same.
        let by_index = client.value("SELECT count(*) FROM acknowledged a WHERE key = (SELECT key FROM acknowledged b WHERE b.key = a.key)");
        assert_eq!(by_index, found.len().to_string(), "round {round}");
    }
    assert!(!acknowledged.is_empty(), "nothing was written");
    eprintln!("{rounds} rounds, {} commits acknowledged, slowest restart {slowest:?}", acknowledged.len());
    // Two seconds is the promise on an idle machine; tests share theirs.
    assert!(slowest < Duration::from_secs(6), "a restart took {slowest:?}");
}

#[test]
fn a_stop_loses_nothing_and_starts_again() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE kept (a int PRIMARY KEY, b text)");
    client.run("INSERT INTO kept SELECT g, 'row ' || g FROM generate_series(1, 10000) g");
    client.run("CREATE INDEX ON kept (b)");
    client.run("UPDATE kept SET b = upper(b) WHERE a % 3 = 0");
    client.run("DELETE FROM kept WHERE a % 5 = 0");
    let sum = "SELECT count(*) || ' ' || sum(a) || ' ' || md5(string_agg(b, ',' ORDER BY a)) FROM kept";
    let before = client.value(sum);
    drop(client);
    for round in 0..3 {
        let status = server.terminate();
        assert!(status.success(), "{status}");
        let took = server.launch();
        assert!(took < Duration::from_secs(6), "{took:?}");
        let mut client = server.connect();
        assert_eq!(client.value(sum), before);
        assert_eq!(client.value("SELECT a FROM kept WHERE b = 'ROW 9'"), "9");
        // Work between the stops that changes nothing in the end.
        client.run(&format!("INSERT INTO kept VALUES (-{round}, 'x')"));
        client.run(&format!("DELETE FROM kept WHERE a = -{round}"));
    }
}
