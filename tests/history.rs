//! Histories: many sessions work at once, everything they did and saw is written down, and afterwards it is decided whether
//! that could have happened at the isolation level they asked for.
//!
//! The hard idea (Kingsbury and Alvaro, Elle, VLDB 2020): if every write is recognisable and keeps what it replaced, the
//! order of a key's versions can be read off the data. From it follow the dependencies between transactions: ww (one wrote
//! over the other), wr (one read the other), rw (one wrote over what the other had read), and rt (one was acknowledged
//! before the other began). A cycle of them is an anomaly, and its kind says which level forbids it.
//!
//! Each test prints its seed; `HISTORY_SEED=n` repeats a choice of operations (not of schedules), `HISTORY_SECONDS=n` runs longer.

mod check;
mod workload;

use std::time::Duration;

use check::{Anomaly, check};
use workload::{Kind, Level, predicates, record};

use crate::server::Server;

fn seed() -> u64 {
    let seed = match std::env::var("HISTORY_SEED") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |now| now.as_nanos() as u64),
    };
    eprintln!("HISTORY_SEED={seed}");
    seed
}

fn length() -> Duration {
    Duration::from_secs(std::env::var("HISTORY_SECONDS").map_or(3, |text| text.parse().expect("a number")))
}

/// Runs a workload and gives the anomalies of its history; `kill`: the server dies and comes back in the midst of it.
fn anomalies(kind: Kind, level: Level, kill: bool) -> Vec<Anomaly> {
    let mut server = Server::start();
    let history = record(&mut server, kind, level, seed(), length(), kill);
    let committed = history.transactions.iter().filter(|t| t.committed()).count();
    eprintln!(
        "{kind:?} at {level:?}: {} transactions, {committed} committed, {} unknown",
        history.transactions.len(),
        history.transactions.iter().filter(|t| t.unknown()).count()
    );
    assert!(committed > 100, "only {committed} transactions were committed");
    check(&history)
}

#[track_caller]
fn assert_only(found: &[Anomaly], allowed: &[&str]) {
    let bad: Vec<&Anomaly> = found.iter().filter(|anomaly| !allowed.contains(&anomaly.kind)).collect();
    assert!(bad.is_empty(), "{} anomalies, the first: {:#?}", bad.len(), bad[0]);
}

#[test]
fn serializable_histories_are_serial() {
    for kind in [Kind::Append, Kind::Register] {
        assert_only(&anomalies(kind, Level::Serializable, false), &[]);
    }
}

#[test]
fn serializable_histories_survive_kill_9() {
    for kind in [Kind::Append, Kind::Register] {
        assert_only(&anomalies(kind, Level::Serializable, true), &[]);
    }
}

#[test]
fn repeatable_read_is_snapshot_isolation() {
    for kind in [Kind::Append, Kind::Register] {
        assert_only(&anomalies(kind, Level::RepeatableRead, false), &["G2-item"]);
    }
}

#[test]
fn read_committed_never_reads_what_was_not_committed() {
    for kind in [Kind::Append, Kind::Register] {
        let found = anomalies(kind, Level::ReadCommitted, true);
        assert_only(&found, &["G-single", "G2-item"]);
    }
}

/// The negative control: a level that allows anomalies shows some, so the checker can see them.
#[test]
fn read_committed_shows_anomalies() {
    for kind in [Kind::Append, Kind::Register] {
        let found = anomalies(kind, Level::ReadCommitted, false);
        assert!(found.iter().any(|anomaly| anomaly.kind == "G-single"), "no read skew in {kind:?}");
    }
    let found = anomalies(Kind::Append, Level::RepeatableRead, false);
    assert!(found.iter().any(|anomaly| anomaly.kind == "G2-item"), "no write skew at repeatable read");
}

#[test]
fn predicate_histories_equal_a_serial_order() {
    let server = Server::start();
    let failures = predicates(&server, Level::Serializable, seed(), length());
    assert!(failures.found.is_empty(), "of {} histories:\n{}", failures.histories, failures.found.join("\n"));
    assert!(failures.histories > 50, "only {} histories", failures.histories);
    // The control: at REPEATABLE READ some history equals none.
    let failures = predicates(&server, Level::RepeatableRead, seed(), length());
    assert!(!failures.found.is_empty(), "{} histories without a write skew", failures.histories);
}
