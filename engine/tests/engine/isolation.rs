//! What sessions see of each other: waiting, re-checking, unique keys, savepoints, the anomalies that each level
//! allows and forbids.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use engine::catalog::Index;
use engine::disk::SimulatedDisk;
use engine::*;
use futures::executor::block_on;
use futures::task::noop_waker;
use value::{Datum, SqlState};

use crate::setup::*;

fn database() -> (Engine, Fixture) {
    let engine = open(options(&SimulatedDisk::new(1)));
    let fixture = Fixture::of(&engine);
    fill(&engine, &fixture, [(1, 10), (2, 20)]);
    (engine, fixture)
}

fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    match future.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn begin(engine: &Engine, isolation: Isolation) -> Transaction {
    engine.begin(isolation, false)
}

const RC: Isolation = Isolation::ReadCommitted;
const RR: Isolation = Isolation::RepeatableRead;
const SER: Isolation = Isolation::Serializable;

#[test]
fn a_writer_waits_and_follows_the_newest_version() {
    let (engine, t) = database();
    let mut first = begin(&engine, RC);
    let mut second = begin(&engine, RC);
    block_on(t.set_a(&mut first, 1, |a| a + 1)).unwrap();
    {
        let mut waiting = Box::pin(t.set_a(&mut second, 1, |a| a * 2));
        assert!(poll(&mut waiting).is_none());
        commit(first);
        assert!(poll(&mut waiting).expect("woken").unwrap());
    }
    commit(second);
    assert_eq!(t.rows(&engine.snapshot())[&1], 22);

    // The key moved away: the re-check fails, nothing is updated.
    let mut first = begin(&engine, RC);
    let mut second = begin(&engine, RC);
    block_on(t.set_id(&mut first, 1, 7)).unwrap();
    {
        let mut waiting = Box::pin(t.set_a(&mut second, 1, |_| 0));
        assert!(poll(&mut waiting).is_none());
        commit(first);
        assert!(!poll(&mut waiting).expect("woken").unwrap());
    }
    drop(second);

    // A delete that is rolled back, then one that is committed.
    for rolled_back in [true, false] {
        let mut first = begin(&engine, RC);
        let mut second = begin(&engine, RC);
        block_on(t.delete(&mut first, 2)).unwrap();
        let mut waiting = Box::pin(t.set_a(&mut second, 2, |a| a + 1));
        assert!(poll(&mut waiting).is_none());
        if rolled_back {
            first.rollback()
        } else {
            commit(first)
        }
        assert_eq!(poll(&mut waiting).expect("woken").unwrap(), rolled_back);
    }
    assert_eq!(t.rows(&engine.snapshot()).into_iter().collect::<Vec<_>>(), [(7, 22)]);
}

#[test]
fn repeatable_read_is_first_updater_wins() {
    let (engine, t) = database();
    for delete in [false, true] {
        let mut first = begin(&engine, RR);
        let mut second = begin(&engine, RR);
        assert!(t.find(&second.statement_snapshot(false).unwrap(), 1).is_some());
        if delete {
            block_on(t.delete(&mut first, 1)).unwrap();
        } else {
            block_on(t.set_a(&mut first, 1, |a| a + 1)).unwrap();
        }
        let mut waiting = Box::pin(t.set_a(&mut second, 1, |a| a + 100));
        assert!(poll(&mut waiting).is_none());
        commit(first);
        let error = poll(&mut waiting).expect("woken").unwrap_err();
        assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
        let what = if delete { "delete" } else { "update" };
        assert_eq!(error.message(), format!("could not serialize access due to concurrent {what}"));
    }
    // After a checkpoint the timestamps are gone from memory; the conflict must still be seen.
    let mut first = begin(&engine, RR);
    first.statement_snapshot(false).unwrap();
    let mut other = begin(&engine, RC);
    block_on(t.set_a(&mut other, 2, |a| a + 1)).unwrap();
    commit(other);
    engine.checkpoint().unwrap();
    fill(&engine, &t, [(50, 50)]);
    engine.checkpoint().unwrap();
    let error = block_on(t.set_a(&mut first, 2, |a| a + 1)).unwrap_err();
    assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
}

#[test]
fn snapshots_are_stable_and_read_committed_moves_on() {
    let (engine, t) = database();
    let mut reader = begin(&engine, RC);
    let mut fixed = begin(&engine, RR);
    let old = reader.statement_snapshot(false).unwrap();
    let before = t.rows(&fixed.statement_snapshot(false).unwrap());
    for round in 0..20 {
        let mut writer = begin(&engine, RC);
        block_on(t.set_a(&mut writer, 1, |a| a + 1)).unwrap();
        block_on(t.set_id(&mut writer, 2 + round, 3 + round)).unwrap();
        commit(writer);
        if round % 7 == 3 {
            engine.checkpoint().unwrap();
        }
        assert_eq!(t.rows(&old), before);
        assert_eq!(t.rows(&fixed.statement_snapshot(false).unwrap()), before);
        let seen = t.rows(&reader.statement_snapshot(false).unwrap());
        assert_eq!(seen, [(1, 11 + round), (3 + round, 20)].into());
    }
}

#[test]
fn a_statement_does_not_meet_its_own_writes() {
    let (engine, t) = database();
    let mut transaction = begin(&engine, RC);
    // INSERT INTO t SELECT id + 10 FROM t, twice: 2, 4, 8 rows.
    for round in 1..=2 {
        let snapshot = transaction.statement_snapshot(true).unwrap();
        let mut scan = snapshot.scan(&t.table, None).unwrap();
        let mut batch = RowBatch::new();
        let mut seen = 0;
        while scan.next(&mut batch).unwrap() {
            for row in &batch.rows {
                seen += 1;
                let new = values(int(&row.get(0)) + 10 * round, int(&row.get(1)));
                block_on(transaction.insert(&t.table, &new)).unwrap();
            }
        }
        assert_eq!(seen, 1 << round);
    }
    // UPDATE t SET a = a + 5 WHERE a >= 10, through the index on a: every row once.
    let snapshot = transaction.statement_snapshot(true).unwrap();
    let range = KeyRange::prefix_range(
        &t.table,
        &t.a,
        Vec::new(),
        0,
        std::ops::Bound::Included(&Datum::Int4(10)),
        std::ops::Bound::Unbounded,
    );
    let mut scan = snapshot.index_scan(&t.table, &t.a, range, false).unwrap();
    let mut batch = RowBatch::new();
    let mut updated = 0;
    while scan.next(&mut batch).unwrap() {
        for (id, old) in batch.ids.clone().into_iter().zip(batch.rows.clone()) {
            let lock = transaction.lock_row_now(&t.table, id, RowLockMode::NoKeyUpdate, &snapshot);
            assert!(matches!(lock, Some(Ok(RowLock::Granted))));
            let new = [old.get(0), Datum::Int4(int(&old.get(1)) + 5), old.get(2)];
            block_on(transaction.update(&t.table, id, &old, &new)).unwrap();
            let again = transaction.lock_row_now(&t.table, id, RowLockMode::NoKeyUpdate, &snapshot);
            assert!(matches!(again, Some(Ok(RowLock::AlreadyChanged))));
            updated += 1;
        }
    }
    assert_eq!(updated, 8);
    assert_eq!(t.rows(&snapshot).values().filter(|a| **a == 10 || **a == 20).count(), 8);
    let after = t.rows(&transaction.statement_snapshot(false).unwrap());
    assert!(after.values().all(|a| *a == 15 || *a == 25), "{after:?}");
    assert_eq!(t.rows(&engine.snapshot()).len(), 2);
    commit(transaction);
    assert_eq!(t.rows(&engine.snapshot()), after);
}

#[test]
fn unique_keys() {
    let (engine, t) = database();
    let mut first = begin(&engine, RC);
    let error = block_on(t.insert(&mut first, 1, 0)).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.message(), "duplicate key value violates unique constraint \"t_pkey\"");
    assert_eq!(error.fields().detail.as_deref(), Some("Key (id)=(1) already exists."));
    assert_eq!(error.fields().constraint.as_deref(), Some("t_pkey"));
    assert_eq!(error.fields().table.as_deref(), Some("t"));
    assert_eq!(error.fields().schema.as_deref(), Some("public"));
    first.rollback();

    // An inserter of the same key is waited for; what then happens depends on how it ends.
    for ends_well in [true, false] {
        let id = if ends_well { 5 } else { 6 };
        let mut first = begin(&engine, RC);
        let mut second = begin(&engine, RC);
        block_on(t.insert(&mut first, id, 0)).unwrap();
        let mut waiting = Box::pin(t.insert(&mut second, id, 1));
        assert!(poll(&mut waiting).is_none());
        if ends_well {
            commit(first);
            assert_eq!(poll(&mut waiting).expect("woken").unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
        } else {
            first.rollback();
            poll(&mut waiting).expect("woken").unwrap();
        }
    }
    // A deleter too.
    let mut first = begin(&engine, RC);
    let mut second = begin(&engine, RC);
    block_on(t.delete(&mut first, 2)).unwrap();
    {
        let mut waiting = Box::pin(t.insert(&mut second, 2, 77));
        assert!(poll(&mut waiting).is_none());
        commit(first);
        poll(&mut waiting).expect("woken").unwrap();
    }
    commit(second);
    assert_eq!(t.rows(&engine.snapshot()), [(1, 10), (2, 77), (5, 0)].into());
    // Within one transaction: delete and insert again; swap through a third key.
    let mut transaction = begin(&engine, RC);
    block_on(t.delete(&mut transaction, 1)).unwrap();
    block_on(t.insert(&mut transaction, 1, 11)).unwrap();
    assert!(block_on(t.insert(&mut transaction, 1, 12)).is_err());
    for (from, to) in [(1, 100), (2, 1), (100, 2)] {
        assert!(block_on(t.set_id(&mut transaction, from, to)).unwrap());
    }
    commit(transaction);
    assert_eq!(t.rows(&engine.snapshot()), [(1, 77), (2, 11), (5, 0)].into());
    // ON CONFLICT.
    let mut transaction = begin(&engine, RC);
    let snapshot = transaction.statement_snapshot(true).unwrap();
    let inserted = block_on(transaction.insert_or_conflict(&t.table, &values(2, 5), &[])).unwrap();
    let Inserted::Conflict { index, row } = inserted else { panic!("a conflict") };
    assert_eq!(index, t.key.oid);
    assert_eq!(int(&snapshot.get(&t.table, row).unwrap().unwrap().get(1)), 11);
    let inserted = block_on(transaction.insert_or_conflict(&t.table, &values(3, 5), &[t.key.oid])).unwrap();
    assert!(matches!(inserted, Inserted::Row(_)));
    assert!(!engine.locks().listing().iter().any(|lock| {
        matches!(&lock.tag, LockTag::Key { key, .. } if **key == *Index::encode_prefix(&t.table, &t.key, &[Datum::Int4(2)]))
    }));
}

#[test]
fn unique_keys_under_threads() {
    let (engine, t) = database();
    // 4 threads insert the same 300 keys, sometimes rolling back: each key ends up once, in one transaction.
    let inserted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (engine, t) = (&engine, &t);
                scope.spawn(move || {
                    let mut count = 0;
                    for id in 1000..1300 {
                        let mut transaction = begin(engine, RC);
                        match block_on(t.insert(&mut transaction, id, n)) {
                            Ok(_) if (id + n) % 5 == 0 => transaction.rollback(),
                            Ok(_) => {
                                commit(transaction);
                                count += 1;
                            }
                            Err(error) => assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION),
                        }
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(t.rows(&engine.snapshot()).len(), 2 + inserted);
    assert!(engine.locks().listing().is_empty());
}

#[test]
fn transfers_under_threads_keep_the_sum() {
    let (engine, t) = database();
    fill(&engine, &t, (10..20).map(|id| (id, 1000)));
    let total: i32 = t.rows(&engine.snapshot()).values().sum();
    std::thread::scope(|scope| {
        for n in 0..4u32 {
            let (engine, t) = (&engine, &t);
            scope.spawn(move || {
                let session = engine.new_session(n as i32 + 1, 5);
                let mut random = 12345 + n;
                let mut next = move || {
                    random = random.wrapping_mul(1664525).wrapping_add(1013904223);
                    10 + (random >> 16) as i32 % 10
                };
                for _ in 0..150 {
                    let (from, to, amount) = (next(), next(), next());
                    let mut transaction = engine.begin_for(&session, RC, false);
                    let moved = block_on(async {
                        t.set_a(&mut transaction, from, |a| a - amount).await?;
                        t.set_a(&mut transaction, to, |a| a + amount).await
                    });
                    match moved {
                        Ok(_) => commit(transaction),
                        Err(error) => assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED),
                    }
                }
            });
        }
        let (engine, t) = (&engine, &t);
        scope.spawn(move || {
            for round in 0..60 {
                let isolation = if round % 2 == 0 { RC } else { RR };
                let mut reader = engine.begin(isolation, true);
                let rows = t.rows(&reader.statement_snapshot(false).unwrap());
                assert_eq!(rows.values().sum::<i32>(), total);
                if round % 10 == 5 {
                    engine.checkpoint().unwrap();
                }
            }
        });
    });
    assert_eq!(t.rows(&engine.snapshot()).values().sum::<i32>(), total);
    assert!(engine.locks().listing().is_empty());
}

#[test]
fn savepoints_undo_rows_and_give_locks_back() {
    let (engine, t) = database();
    let mut transaction = begin(&engine, RC);
    block_on(t.set_a(&mut transaction, 1, |_| 11)).unwrap();
    let outer = transaction.savepoint();
    block_on(t.set_a(&mut transaction, 1, |_| 12)).unwrap();
    block_on(t.set_a(&mut transaction, 2, |_| 21)).unwrap();
    let inner = transaction.savepoint();
    block_on(t.delete(&mut transaction, 1)).unwrap();
    block_on(t.insert(&mut transaction, 1, 13)).unwrap();
    block_on(t.insert(&mut transaction, 9, 90)).unwrap();
    let rows = t.rows(&transaction.statement_snapshot(false).unwrap());
    assert_eq!(rows, [(1, 13), (2, 21), (9, 90)].into());
    transaction.rollback_to(inner);
    let rows = t.rows(&transaction.statement_snapshot(false).unwrap());
    assert_eq!(rows, [(1, 12), (2, 21)].into());
    transaction.release(inner);
    transaction.rollback_to(outer);
    let rows = t.rows(&transaction.statement_snapshot(false).unwrap());
    assert_eq!(rows, [(1, 11), (2, 20)].into());
    // Row 2 and key 9 are free again, row 1 is not.
    let mut other = begin(&engine, RC);
    assert!(poll(&mut Box::pin(t.set_a(&mut other, 2, |_| 22))).expect("free").unwrap());
    assert!(poll(&mut Box::pin(t.insert(&mut other, 9, 91))).expect("free").is_ok());
    assert!(poll(&mut Box::pin(t.set_a(&mut other, 1, |_| 0))).is_none());
    commit(other);
    transaction.release(outer);
    commit(transaction);
    assert_eq!(t.rows(&engine.snapshot()), [(1, 11), (2, 22), (9, 91)].into());
}

#[test]
fn deadlocks_between_transactions_end() {
    let (engine, t) = database();
    let session = |pid| engine.new_session(pid, 5);
    let (one, two) = (session(1), session(2));
    let mut first = engine.begin_for(&one, RC, false);
    let mut second = engine.begin_for(&two, RC, false);
    block_on(t.set_a(&mut first, 1, |a| a + 1)).unwrap();
    block_on(t.set_a(&mut second, 2, |a| a + 1)).unwrap();
    let mut waiting = Box::pin(t.set_a(&mut first, 2, |a| a + 1));
    assert!(poll(&mut waiting).is_none());
    assert_eq!(engine.locks().blocking_pids(1), [2]);
    let error = block_on(t.set_a(&mut second, 1, |a| a + 1)).unwrap_err();
    assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED);
    second.rollback();
    assert!(poll(&mut waiting).expect("woken").unwrap());
    drop(waiting);
    commit(first);
    assert_eq!(t.rows(&engine.snapshot()), [(1, 11), (2, 21)].into());
}

#[test]
fn skip_locked_nowait_and_strengths() {
    let (engine, t) = database();
    let mut first = begin(&engine, RC);
    let mut second = begin(&engine, RC);
    let snapshot = first.statement_snapshot(true).unwrap();
    let (row, _) = t.find(&snapshot, 1).unwrap();
    let lock = block_on(first.lock_row(&t.table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot));
    assert!(matches!(lock, Ok(RowLock::Granted)));
    // A foreign key check is not in the way of an update of other columns.
    let seen = second.statement_snapshot(true).unwrap();
    let lock = block_on(second.lock_row(&t.table, row, RowLockMode::KeyShare, Wait::NoWait, &seen));
    assert!(matches!(lock, Ok(RowLock::Granted)));
    let lock = block_on(second.lock_row(&t.table, row, RowLockMode::Share, Wait::Skip, &seen));
    assert!(matches!(lock, Ok(RowLock::Skipped)));
    let error =
        block_on(second.lock_row(&t.table, row, RowLockMode::Update, Wait::NoWait, &seen)).unwrap_err();
    assert_eq!(error.state(), SqlState::LOCK_NOT_AVAILABLE);
    assert_eq!(error.message(), "could not obtain lock on row in relation \"t\"");
    let error = block_on(async {
        first.lock_table(t.table.oid, TableLockMode::RowExclusive, Wait::Block).await.unwrap();
        second.lock_table(t.table.oid, TableLockMode::AccessExclusive, Wait::NoWait).await
    });
    assert_eq!(error.unwrap_err().message(), "could not obtain lock on relation \"t\"");
}

/// Sums `a` over an index range, as a statement that reads it would.
fn sum(t: &Fixture, transaction: &mut Transaction, range: KeyRange) -> i32 {
    let snapshot = transaction.statement_snapshot(false).unwrap();
    let mut scan = snapshot.index_scan(&t.table, &t.key, range, false).unwrap();
    let mut batch = RowBatch::new();
    let mut sum = 0;
    while scan.next(&mut batch).unwrap() {
        sum += batch.rows.iter().map(|row| int(&row.get(1))).sum::<i32>();
    }
    sum
}

#[test]
fn serializable_forbids_write_skew() {
    for (isolation, forbidden) in [(RR, false), (SER, true)] {
        // G2-item: each reads both rows and writes the other one.
        let (engine, t) = database();
        let mut first = begin(&engine, isolation);
        let mut second = begin(&engine, isolation);
        for transaction in [&mut first, &mut second] {
            assert_eq!(sum(&t, transaction, KeyRange::all()), 30);
        }
        block_on(t.set_a(&mut first, 1, |_| 11)).unwrap();
        block_on(t.set_a(&mut second, 2, |_| 21)).unwrap();
        commit(first);
        match second.commit() {
            Ok(_) => assert!(!forbidden),
            Err(error) => {
                assert!(forbidden);
                assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
            }
        }
        assert!(engine.locks().listing().is_empty());
        // G2: a row that was not there when the range was read.
        let (engine, t) = database();
        let range = || {
            let low = Index::encode_prefix(&t.table, &t.key, &[Datum::Int4(100)]);
            KeyRange { low: std::ops::Bound::Included(low), high: std::ops::Bound::Unbounded }
        };
        let mut first = begin(&engine, isolation);
        let mut second = begin(&engine, isolation);
        for transaction in [&mut first, &mut second] {
            assert_eq!(sum(&t, transaction, range()), 0);
        }
        block_on(t.insert(&mut first, 101, 1)).unwrap();
        block_on(t.insert(&mut second, 102, 1)).unwrap();
        commit(first);
        assert_eq!(second.commit().is_err(), forbidden);
    }
    // What does not overlap is let through, and a reader never fails.
    let (engine, t) = database();
    let mut first = begin(&engine, SER);
    let mut second = begin(&engine, SER);
    let mut reader = begin(&engine, SER);
    assert_eq!(sum(&t, &mut reader, KeyRange::all()), 30);
    block_on(t.set_a(&mut first, 1, |_| 11)).unwrap();
    block_on(t.set_a(&mut second, 2, |_| 21)).unwrap();
    commit(first);
    commit(second);
    assert_eq!(sum(&t, &mut reader, KeyRange::all()), 30);
    commit(reader);
}

/// A queue: dead entries pile up in front, scans learn to begin behind them, and nothing that comes back is overlooked, by
/// snapshots of any age.
#[test]
fn scans_skip_what_is_dead_and_nothing_else() {
    let engine = open(options(&SimulatedDisk::new(1)));
    let t = Fixture::of(&engine);
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut model: std::collections::BTreeMap<i32, i32> = (0..400).map(|n| (n, n)).collect();
    fill(&engine, &t, model.clone());
    engine.checkpoint().unwrap();
    let mut next = 400;
    // Snapshots and what they must see for ever.
    let mut kept: Vec<(Snapshot, std::collections::BTreeMap<i32, i32>)> = Vec::new();
    for round in 0..60 {
        let mut writer = begin(&engine, RC);
        // From the front, as many as are worth a note.
        let front: Vec<i32> = model.keys().copied().take(40).collect();
        for id in &front {
            assert!(block_on(t.delete(&mut writer, *id)).unwrap());
        }
        // What a transaction has deleted itself is there for the others: a scan of its own must not tell them otherwise.
        let own = writer.statement_snapshot(false).unwrap();
        let left: std::collections::BTreeMap<i32, i32> =
            model.iter().filter(|(id, _)| !front.contains(id)).map(|(id, a)| (*id, *a)).collect();
        assert_eq!(t.rows(&own), left, "round {round}, own");
        drop(own);
        assert_eq!(t.rows(&engine.snapshot()), model, "round {round}, others");
        if random(4) == 0 {
            writer.rollback();
        } else {
            commit(writer);
            model = left;
        }
        let snapshot = engine.snapshot();
        // Twice: the first scan leaves a note, the second goes by it.
        for _ in 0..2 {
            assert_eq!(t.rows(&snapshot), model, "round {round}");
        }
        if random(3) == 0 {
            kept.push((snapshot, model.clone()));
        }
        // New ones at the end, and some among the dead.
        let mut writer = begin(&engine, RC);
        for _ in 0..40 {
            block_on(t.insert(&mut writer, next, next)).unwrap();
            model.insert(next, next);
            next += 1;
        }
        for _ in 0..random(3) {
            let id = random(next as u64) as i32;
            if let std::collections::btree_map::Entry::Vacant(place) = model.entry(id) {
                block_on(t.insert(&mut writer, id, next + 1)).unwrap();
                place.insert(next + 1);
            }
        }
        commit(writer);
        assert_eq!(t.rows(&engine.snapshot()), model, "round {round}, with new ones");
        for (snapshot, then) in &kept {
            assert_eq!(t.rows(snapshot), *then, "round {round}, an old snapshot");
        }
        if random(5) == 0 {
            kept.clear();
        }
        if random(6) == 0 {
            engine.checkpoint().unwrap();
        }
    }
}

/// ALTER SEQUENCE .. RESTART: a new generation counts for its transaction alone until that commits, also across a crash.
#[test]
fn a_sequence_begins_anew_with_the_commit() {
    let disk = SimulatedDisk::new(1);
    let engine = open(options(&disk));
    let published = |engine: &Engine| {
        let catalog = engine.catalog();
        match catalog.relation(catalog::oid::PUBLIC, "counter").cloned() {
            Some(catalog::Object::Sequence(sequence)) => sequence,
            _ => panic!("the sequence is there"),
        }
    };
    let sequence = published(&engine);
    let mut other = begin(&engine, RC);
    let first = other.sequence_next(&sequence).unwrap();
    assert_eq!(other.sequence_next(&sequence).unwrap(), first + 1);
    let restarted = |transaction: &mut Transaction| {
        let mut changed = (*published(&engine)).clone();
        changed.generation += 1;
        let changed = std::sync::Arc::new(changed);
        let put = catalog::Change::Put(catalog::Object::Sequence(changed.clone()));
        transaction.change_catalog(vec![put]).unwrap();
        changed
    };
    // Rolled back, it was never there; again, it begins at its start again.
    for _ in 0..2 {
        let mut transaction = begin(&engine, RC);
        let own = restarted(&mut transaction);
        assert_eq!(transaction.sequence_next(&own).unwrap(), first);
        assert_eq!(transaction.sequence_next(&own).unwrap(), first + 1);
        transaction.rollback();
    }
    assert_eq!(other.sequence_next(&sequence).unwrap(), first + 2);
    // Committed, everybody goes on where it is.
    let mut transaction = begin(&engine, RC);
    let own = restarted(&mut transaction);
    for n in 0..5 {
        assert_eq!(transaction.sequence_next(&own).unwrap(), first + n);
    }
    assert_eq!(other.sequence_next(&sequence).unwrap(), first + 3);
    commit(transaction);
    // Also who has looked before.
    assert_eq!(other.sequence_next(&sequence).unwrap(), first + 5);
    assert_eq!(other.sequence_next(&published(&engine)).unwrap(), first + 6);
    commit(other);
    drop(engine);
    disk.crash();
    let engine = open(options(&disk));
    let mut after = begin(&engine, RC);
    assert!(after.sequence_next(&published(&engine)).unwrap() > first + 6, "a number was given twice");
}
