//! Much at once: transactions larger than memory may hold, rows of many megabytes, indexes built while others write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::catalog::{Change, Object};
use engine::catalog::{Index, IndexState, Persistence};
use engine::disk::{Disk, Fault, Operation, SimulatedDisk};
use engine::*;
use futures::executor::block_on;
use value::{Datum, SqlState};

use crate::setup::*;

const RC: Isolation = Isolation::ReadCommitted;
const SER: Isolation = Isolation::Serializable;

/// Small groups and an early spill.
fn spilling(disk: &SimulatedDisk) -> Options {
    let mut options = options(disk);
    options.spill_size = 16 << 10;
    options.spill_group = 64;
    options
}

/// What `startdb check` says of a closed directory, in which it finds no damage.
#[track_caller]
fn sound(disk: &SimulatedDisk) -> CheckReport {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = check(std::path::Path::new("/data"), shared).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    report
}

/// Rows that one command inserts: few, as a client's loop does it, or all of them, as COPY does, which stages them.
const COMMANDS: [usize; 2] = [10, usize::MAX];

fn insert(transaction: &mut Transaction, t: &Fixture, ids: std::ops::Range<i32>, command: usize) {
    let ids: Vec<i32> = ids.collect();
    for ids in ids.chunks(command) {
        let snapshot = transaction.statement_snapshot(true).unwrap();
        for id in ids {
            block_on(transaction.insert(&t.table, &values(*id, id % 10))).unwrap();
        }
        drop(snapshot);
    }
}

#[test]
fn a_large_transaction_is_seen_as_a_whole_or_not_at_all() {
    for isolation in [RC, Isolation::RepeatableRead, SER] {
        COMMANDS.into_iter().for_each(|command| seen_as_a_whole(command, isolation));
    }
}

fn seen_as_a_whole(command: usize, isolation: Isolation) {
    let disk = SimulatedDisk::new(31);
    let engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..50).map(|id| (id, id)));
    let before = t.rows(&engine.snapshot());
    let logged = engine.wal_bytes();
    let mut large = engine.begin(isolation, false);
    insert(&mut large, &t, 1000..3000, command);
    // The transaction sees its rows, others do not, also not through indexes, also not after a checkpoint.
    for checkpoint in [false, true] {
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        assert_eq!(t.rows(&large.latest_snapshot()).len(), 2050);
        let own = large.statement_snapshot(false).unwrap();
        assert_eq!(t.rows(&own).len(), 2050);
        assert!(t.find(&own, 1500).is_some());
        assert_eq!(t.rows(&engine.snapshot()), before);
        assert!(t.find(&engine.snapshot(), 1500).is_none());
    }
    // It changes and deletes rows that it has put there.
    assert!(block_on(t.set_a(&mut large, 1001, |_| 77)).unwrap());
    assert!(block_on(t.delete(&mut large, 1002)).unwrap());
    let error = block_on(t.insert(&mut large, 1003, 0)).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    let mut expected = t.rows(&large.latest_snapshot());
    assert_eq!(t.rows(&large.statement_snapshot(false).unwrap()), expected);
    assert_eq!((expected.len(), expected[&1001]), (2049, 77));
    // Somebody who wants one of its keys waits for it.
    let mut other = engine.begin(RC, false);
    other.statement_snapshot(true).unwrap();
    let new = values(1500, 1);
    let mut waiting = Box::pin(other.insert(&t.table, &new));
    let context = &mut std::task::Context::from_waker(futures::task::noop_waker_ref());
    assert!(waiting.as_mut().poll(context).is_pending());
    let snapshot = engine.snapshot();
    commit(large);
    assert_eq!(block_on(waiting).unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
    drop(other);
    assert_eq!(t.rows(&snapshot), before, "a snapshot does not move");
    drop(snapshot);
    assert_eq!(t.rows(&engine.snapshot()), expected);
    assert_eq!(engine.statistics(&t.table).rows, expected.len() as u64);
    assert!(engine.wal_bytes() - logged < 40_000, "the log names the rows only");
    // The log alone brings them back, and the base alone.
    disk.crash();
    drop(engine);
    let engine = open(spilling(&disk));
    assert_eq!(t.rows(&engine.snapshot()), expected);
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&engine.snapshot()), expected);
    assert!(block_on(t.set_a(&mut engine.begin(RC, false), 2500, |a| a)).unwrap());
    fill(&engine, &t, [(5000, 1)]);
    expected.insert(5000, 1);
    engine.close().unwrap();
    drop(engine);
    let report = sound(&disk);
    assert_eq!(report.rows, expected.len() as u64);
}

#[test]
fn an_index_that_replay_filled_serves_old_snapshots() {
    let disk = SimulatedDisk::new(39);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..20).map(|id| (id, id)));
    engine.checkpoint().unwrap();
    let mut transaction = engine.begin(RC, false);
    let anew = Index { storage: engine.new_storage_id(), ..(*t.a).clone() };
    transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(anew.clone())))]).unwrap();
    transaction.build_index(&anew, &|| Ok(())).unwrap();
    commit(transaction);
    disk.crash();
    drop(engine);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    let snapshot = engine.snapshot();
    let before = t.rows(&snapshot);
    let mut other = engine.begin(RC, false);
    assert!(block_on(t.set_a(&mut other, 5, |_| 500)).unwrap());
    commit(other);
    // The memtable with the entries of the index keeps what the snapshot needs.
    engine.checkpoint().unwrap();
    fill(&engine, &t, [(100, 100)]);
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&snapshot), before);
}

#[test]
fn a_table_that_came_and_went_leaves_nothing() {
    for crash in [false, true] {
        let disk = SimulatedDisk::new(38);
        let mut engine = open(spilling(&disk));
        let table = Arc::new(table(&engine, "passing", Persistence::Permanent));
        let index = Arc::new(index(&engine, &table, "passing_a", &[2], false));
        let put = |object| Change::Put(object);
        let objects = [Object::Table(table.clone()), Object::Index(index.clone())];
        let mut transaction = engine.begin(RC, false);
        transaction.change_catalog(objects.into_iter().map(put).collect()).unwrap();
        commit(transaction);
        let mut large = engine.begin(RC, false);
        large.statement_snapshot(true).unwrap();
        for id in 0..2000 {
            block_on(large.insert(&table, &values(id, id))).unwrap();
        }
        commit(large);
        let mut transaction = engine.begin(RC, false);
        transaction.change_catalog(vec![Change::Drop(index.oid), Change::Drop(table.oid)]).unwrap();
        commit(transaction);
        if crash {
            disk.crash();
            drop(engine);
            engine = open(spilling(&disk));
        }
        engine.close().unwrap();
        drop(engine);
        sound(&disk);
    }
}

#[test]
fn a_large_transaction_that_fails_leaves_nothing() {
    COMMANDS.into_iter().for_each(leaves_nothing);
}

fn leaves_nothing(command: usize) {
    let disk = SimulatedDisk::new(32);
    let engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..50).map(|id| (id, id)));
    let before = t.rows(&engine.snapshot());
    // Rolled back, in part and in whole.
    let mut large = engine.begin(RC, false);
    insert(&mut large, &t, 1000..1600, command);
    let savepoint = large.savepoint();
    insert(&mut large, &t, 2000..3000, command);
    large.rollback_to(savepoint);
    assert_eq!(t.rows(&large.latest_snapshot()).len(), 650);
    insert(&mut large, &t, 2000..2500, command);
    assert_eq!(t.rows(&large.latest_snapshot()).len(), 1150);
    commit(large);
    assert_eq!(t.rows(&engine.snapshot()).len(), 1150);
    let kept = t.rows(&engine.snapshot());
    let mut large = engine.begin(RC, false);
    insert(&mut large, &t, 4000..5000, command);
    large.rollback();
    assert_eq!(t.rows(&engine.snapshot()), kept);
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&engine.snapshot()), kept);
    // Its keys are free again.
    fill(&engine, &t, [(4000, 4)]);
    // A crash in the middle.
    let mut large = engine.begin(RC, false);
    insert(&mut large, &t, 6000..7000, command);
    disk.crash();
    drop(large);
    drop(engine);
    let engine = open(spilling(&disk));
    let mut expected = kept.clone();
    expected.insert(4000, 4);
    assert_eq!(t.rows(&engine.snapshot()), expected);
    engine.checkpoint().unwrap();
    fill(&engine, &t, [(6000, 6)]);
    expected.insert(6000, 6);
    assert_eq!(t.rows(&engine.snapshot()), expected);
    assert!(before.len() < expected.len());
    engine.close().unwrap();
    drop(engine);
    sound(&disk);
}

#[test]
fn a_second_index_is_whole_when_the_command_is_through() {
    let disk = SimulatedDisk::new(39);
    let engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    let mut expected = BTreeMap::new();
    // Among so many sizes are those where the last piece has no rows left, and those of one piece.
    for (round, count) in (100..3000).step_by(64).enumerate() {
        let first = 10_000 * round as i32;
        let mut large = engine.begin(RC, false);
        insert(&mut large, &t, first..first + count, usize::MAX);
        let savepoint = large.savepoint();
        insert(&mut large, &t, first + 5000..first + 5000 + count, usize::MAX);
        if round % 3 == 0 {
            large.rollback_to(savepoint);
        }
        // `rows` compares what each index finds with the table.
        let seen = t.rows(&large.latest_snapshot());
        assert_eq!(seen.len(), expected.len() + count as usize * if round % 3 == 0 { 1 } else { 2 });
        assert_eq!(t.rows(&engine.snapshot()), expected);
        match round % 2 {
            0 => large.rollback(),
            _ => {
                commit(large);
                expected = seen;
            }
        }
        assert_eq!(t.rows(&engine.snapshot()), expected);
        if round % 7 == 0 {
            engine.checkpoint().unwrap();
        }
    }
    // With a piece in the base whose entries wait.
    let mut large = engine.begin(RC, false);
    large.statement_snapshot(true).unwrap();
    for id in 1_000_000..1_002_000 {
        block_on(large.insert(&t.table, &values(id, id * 7919 % 1000))).unwrap();
    }
    disk.crash();
    drop(large);
    drop(engine);
    let engine = open(spilling(&disk));
    assert_eq!(t.rows(&engine.snapshot()), expected);
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&engine.snapshot()), expected);
    engine.close().unwrap();
    drop(engine);
    let report = sound(&disk);
    assert_eq!(report.rows, expected.len() as u64);
}

/// The least that one future gives when it is polled once.
fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    future.poll(&mut std::task::Context::from_waker(futures::task::noop_waker_ref())).is_pending()
}

#[test]
fn keys_on_their_way_are_found() {
    let disk = SimulatedDisk::new(34);
    let mut with = spilling(&disk);
    // Nothing reaches the base before the command ends.
    with.spill_size = 1 << 20;
    let engine = open(with);
    let t = Fixture::of(&engine);
    fill(&engine, &t, [(900, 0)]);
    let mut large = engine.begin(RC, false);
    large.statement_snapshot(true).unwrap();
    // Upwards, then mixed.
    let ids = (1000..2000).chain((3000..4000).rev());
    for id in ids {
        block_on(large.insert(&t.table, &values(id, 1))).unwrap();
    }
    for taken in [1000, 1500, 1999, 3000, 3999, 900] {
        let error = block_on(large.insert(&t.table, &values(taken, 2))).unwrap_err();
        assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION, "{taken}");
    }
    // A refused row leaves no trace of itself.
    block_on(large.insert(&t.table, &values(5000, 1))).unwrap();
    // Somebody else waits for such a key, and only for such a key.
    fill(&engine, &t, [(2500, 0)]);
    let mut other = engine.begin(RC, false);
    other.statement_snapshot(true).unwrap();
    let new = values(3500, 1);
    let mut waiting = Box::pin(other.insert(&t.table, &new));
    assert!(is_pending(waiting.as_mut()));
    // The large one waits for a key of somebody who was there before.
    let mut third = engine.begin(RC, false);
    third.statement_snapshot(true).unwrap();
    block_on(third.insert(&t.table, &values(7000, 0))).unwrap();
    {
        let wanted = values(7000, 1);
        let mut blocked = Box::pin(large.insert(&t.table, &wanted));
        assert!(is_pending(blocked.as_mut()));
        third.rollback();
        block_on(blocked).unwrap();
    }
    large.rollback();
    block_on(waiting).unwrap();
    commit(other);
    let ids: Vec<i32> = t.rows(&engine.snapshot()).into_keys().collect();
    assert_eq!(ids, [900, 2500, 3500]);
}

#[test]
fn keys_are_held_until_their_rows_are_in_the_base() {
    // Inserted, moved to another key, deleted: by commands too small for a stage.
    for what in 0..3 {
        let disk = SimulatedDisk::new(37);
        let engine = Arc::new(open(spilling(&disk)));
        let t = Arc::new(Fixture::of(&engine));
        if what > 0 {
            fill(&engine, &t, (1000..1400).map(|id| (id, 0)));
            engine.checkpoint().unwrap();
        }
        let met = Arc::new(std::sync::Mutex::new(None));
        disk.before_sync("meta.redb", {
            let (engine, t, met) = (engine.clone(), t.clone(), met.clone());
            move || {
                let mut other = engine.begin(RC, false);
                other.statement_snapshot(true).unwrap();
                // Of the first piece: full groups, or what was changed first.
                let taken = values([1050, 5000, 1000][what], 1);
                let waits = is_pending(Box::pin(other.insert(&t.table, &taken)).as_mut());
                *met.lock().unwrap() = Some(waits);
            }
        });
        let mut large = engine.begin(RC, false);
        for id in 1000..1400 {
            match what {
                0 => drop(block_on(t.insert(&mut large, id, 1)).unwrap()),
                1 => assert!(block_on(t.set_id(&mut large, id, id + 4000)).unwrap()),
                _ => assert!(block_on(t.delete(&mut large, id)).unwrap()),
            }
        }
        assert_eq!(*met.lock().unwrap(), Some(true), "{what}");
        large.rollback();
    }
}

/// Rows that are deleted or get other keys, so many that their keys are not locked one by one: who wants such a key waits for
/// what becomes of them.
#[test]
fn keys_of_many_rows_that_leave_are_waited_for() {
    for moves in [false, true] {
        for end in ["commit", "rollback", "rollback to", "release"] {
            let disk = SimulatedDisk::new(38);
            let mut with = spilling(&disk);
            // Locks become bits, and nothing is spilled.
            with.spill_size = 64 << 10;
            let engine = open(with);
            let t = Fixture::of(&engine);
            fill(&engine, &t, (1000..1100).map(|id| (id, 0)));
            let mut many = engine.begin(RC, false);
            let savepoint = many.savepoint();
            let changed = block_on(change_all(&mut many, &t, |id, a| moves.then_some((id + 4000, a))));
            assert_eq!(changed.unwrap(), 100);
            let keys = engine.locks().listing();
            let keys = keys.iter().filter(|lock| matches!(lock.tag, LockTag::Key { .. })).count();
            assert!(keys < if moves { 150 } else { 50 }, "{keys} locked keys");
            // By one that inserts a row, and by one that inserts many.
            let mut others = [engine.begin(RC, false), engine.begin(RC, false)];
            let wanted = [values(1098, 1), values(1099, 1)];
            let mut waiting = Vec::new();
            for ((other, wanted), before) in others.iter_mut().zip(&wanted).zip([0, 200]) {
                other.statement_snapshot(true).unwrap();
                for n in 0..before {
                    block_on(other.insert(&t.table, &values(20_000 + n, 1))).unwrap();
                }
                let mut insert = Box::pin(other.insert(&t.table, wanted));
                assert!(is_pending(insert.as_mut()), "{end}");
                waiting.push(insert);
            }
            // What does not leave is a conflict at once.
            fill(&engine, &t, [(900, 0)]);
            let mut third = engine.begin(RC, false);
            third.statement_snapshot(true).unwrap();
            let taken = block_on(third.insert(&t.table, &values(900, 1))).unwrap_err();
            assert_eq!(taken.state(), SqlState::UNIQUE_VIOLATION);
            drop(third);
            let gone = match end {
                "commit" => {
                    commit(many);
                    true
                }
                "release" => {
                    many.release(savepoint);
                    waiting.iter_mut().for_each(|insert| assert!(is_pending(insert.as_mut())));
                    commit(many);
                    true
                }
                "rollback" => {
                    many.rollback();
                    false
                }
                _ => {
                    many.rollback_to(savepoint);
                    false
                }
            };
            for insert in waiting {
                match block_on(insert) {
                    Ok(_) => assert!(gone, "{end}"),
                    Err(error) => {
                        assert!(!gone, "{end}: {error}");
                        assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
                    }
                }
            }
            others.into_iter().for_each(|other| if gone { commit(other) } else { other.rollback() });
            let ids: Vec<i32> = t.rows(&engine.snapshot()).into_keys().collect();
            assert!(ids.contains(&1098), "{end}");
            assert_eq!(ids.contains(&5098), gone && moves, "{end}");
            assert!(engine.locks().listing().is_empty());
        }
    }
}

#[test]
fn keys_stay_unique_between_large_and_small_inserts() {
    let disk = SimulatedDisk::new(35);
    let engine = Arc::new(open(spilling(&disk)));
    let t = Arc::new(Fixture::of(&engine));
    let done = Arc::new(AtomicBool::new(false));
    let inserted = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let small = std::thread::spawn({
        let (engine, t, done, inserted) = (engine.clone(), t.clone(), done.clone(), inserted.clone());
        move || {
            let mut id = 7;
            while !done.load(Ordering::Relaxed) {
                id = (id * 1103 + 12345) % 20_000;
                let mut transaction = engine.begin(RC, false);
                transaction.statement_snapshot(true).unwrap();
                match block_on(transaction.insert(&t.table, &values(id, 0))) {
                    Ok(_) => {
                        commit(transaction);
                        inserted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION, "{error}"),
                }
            }
        }
    });
    // Each takes the whole range in another order, and gives up at the first key that is taken.
    for round in 0..30 {
        let mut transaction = engine.begin(RC, false);
        transaction.statement_snapshot(true).unwrap();
        let result = (0..2_000).try_for_each(|n| {
            let id = (n * 7 + round * 611) % 20_000;
            block_on(transaction.insert(&t.table, &values(id, 1))).map(|_| ())
        });
        match result {
            Ok(()) => {
                commit(transaction);
                inserted.fetch_add(2_000, Ordering::Relaxed);
            }
            Err(error) => assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION, "{error}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    small.join().unwrap();
    let mut ids = Vec::new();
    let snapshot = engine.snapshot();
    let mut scan = snapshot.scan(&t.table, None).unwrap();
    let mut batch = RowBatch::new();
    while scan.next(&mut batch).unwrap() {
        ids.extend(batch.rows.iter().map(|row| int(&row.get(0))));
    }
    assert_eq!(ids.len() as u64, inserted.load(Ordering::Relaxed));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "a key is there twice");
}

/// One UPDATE or DELETE of all rows: `new` gives the new (id, a), or nothing.
async fn change_all(
    transaction: &mut Transaction,
    t: &Fixture,
    new: impl Fn(i32, i32) -> Option<(i32, i32)>,
) -> value::Result<usize> {
    let snapshot = transaction.statement_snapshot(true)?;
    let mut scan = snapshot.scan(&t.table, None)?;
    let mut batch = RowBatch::new();
    let mut changed = 0;
    while scan.next(&mut batch)? {
        for (row, old) in batch.ids.iter().zip(&batch.rows) {
            let (id, a) = (int(&old.get(0)), int(&old.get(1)));
            let to = new(id, a);
            let same_key = to.is_some_and(|(to, _)| to == id);
            let mode = if same_key { RowLockMode::NoKeyUpdate } else { RowLockMode::Update };
            let lock = transaction.lock_row(&t.table, *row, mode, Wait::Block, &snapshot).await?;
            assert!(matches!(lock, RowLock::Granted), "{lock:?}");
            match to {
                Some((to, a)) => transaction.update(&t.table, *row, old, &values(to, a)).await?,
                None => transaction.delete(&t.table, *row, old).await?,
            }
            // Once more by the same command: passed over.
            let again = transaction.lock_row(&t.table, *row, mode, Wait::Block, &snapshot).await?;
            assert!(matches!(again, RowLock::AlreadyChanged), "{again:?}");
            changed += 1;
        }
    }
    Ok(changed)
}

/// How the lock on a row is for somebody else.
fn lock_of(engine: &Engine, t: &Fixture, id: i32, mode: RowLockMode) -> RowLock {
    let mut other = engine.begin(RC, false);
    let snapshot = other.statement_snapshot(true).unwrap();
    let (row, _) = t.find(&snapshot, id).unwrap();
    let lock = block_on(other.lock_row(&t.table, row, mode, Wait::Skip, &snapshot)).unwrap();
    let now = other.lock_row_now(&t.table, row, mode, &snapshot);
    assert_eq!(now.is_none(), matches!(lock, RowLock::Skipped));
    if now.is_none() {
        let error = block_on(other.lock_row(&t.table, row, mode, Wait::NoWait, &snapshot)).unwrap_err();
        assert_eq!(error.state(), SqlState::LOCK_NOT_AVAILABLE);
    }
    lock
}

#[test]
fn changes_of_many_rows_are_seen_as_a_whole_or_not_at_all() {
    [RC, Isolation::RepeatableRead, SER].into_iter().for_each(changes_seen_as_a_whole);
}

/// What a small transaction reads beside a large one, whose write set is in the base but for its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    /// The table as a whole.
    Scan,
    /// Rows, by their ids.
    Key(i32),
    /// By the other index.
    Range(i32, i32),
}

impl Look {
    fn at(self, t: &Fixture, transaction: &mut Transaction) {
        let snapshot = transaction.statement_snapshot(false).unwrap();
        let mut batch = RowBatch::new();
        match self {
            Look::Scan => {
                let mut scan = snapshot.scan(&t.table, None).unwrap();
                while scan.next(&mut batch).unwrap() {}
            }
            Look::Key(id) => drop(t.find(&snapshot, id)),
            Look::Range(low, high) => {
                let bound = |value: i32| Datum::Int4(value);
                let (low, high) = (bound(low), bound(high));
                let range = (std::ops::Bound::Included(&low), std::ops::Bound::Included(&high));
                let range = KeyRange::prefix_range(&t.table, &t.a, Vec::new(), 0, range.0, range.1);
                let mut scan = snapshot.index_scan(&t.table, &t.a, range, false).unwrap();
                while scan.next(&mut batch).unwrap() {}
            }
        }
    }
}

#[test]
fn large_serializable_transactions_are_compared_with_others() {
    // What is read by the one, what the other does (inserting 5000 to 6999 with `a` from 0 to 9, adding 100 to every `a`),
    // and whether that is a conflict.
    let cases = [
        (Look::Scan, true, true),
        (Look::Scan, false, true),
        (Look::Key(5500), true, true),
        (Look::Key(90_000), true, false),
        (Look::Key(90_000), false, false),
        (Look::Key(1500), false, true),
        (Look::Range(0, 5), true, true),
        (Look::Range(50, 90), true, false),
        (Look::Range(105, 106), false, true),
        (Look::Range(-9, -1), false, false),
    ];
    for ((look, inserts, conflict), first) in cases.into_iter().flat_map(|case| [(case, true), (case, false)])
    {
        let disk = SimulatedDisk::new(44);
        let mut with = spilling(&disk);
        with.write_set_limit = 256 << 10;
        let engine = open(with);
        let t = Fixture::of(&engine);
        fill(&engine, &t, (0..3000).map(|id| (id, id % 10)));
        engine.checkpoint().unwrap();
        let mut large = engine.begin(SER, false);
        large.statement_snapshot(true).unwrap();
        let mut small = engine.begin(SER, false);
        let work = |large: &mut Transaction| match inserts {
            true => insert(large, &t, 5000..7000, usize::MAX),
            false => assert_eq!(block_on(change_all(large, &t, |id, a| Some((id, a + 100)))).unwrap(), 3000),
        };
        // The other one is not in the way of the first by what it writes.
        let write = |small: &mut Transaction| block_on(t.insert(small, 200_000, 1_000)).unwrap();
        let result = if first {
            look.at(&t, &mut small);
            work(&mut large);
            write(&mut small);
            commit(large);
            small.commit().err()
        } else {
            // The large one has read what the small one writes; it is found at its end.
            Look::Key(200_000).at(&t, &mut large);
            look.at(&t, &mut small);
            write(&mut small);
            commit(small);
            work(&mut large);
            large.commit().err()
        };
        let state = result.map(|error| error.state());
        let expected = (conflict || !first).then_some(SqlState::SERIALIZATION_FAILURE);
        assert_eq!(state, expected, "{look:?}, inserts: {inserts}, commits first: {first}");
    }
}

#[test]
fn a_large_serializable_transaction_remembers_what_it_lets_go() {
    for go_back in [true, false] {
        let disk = SimulatedDisk::new(45);
        let engine = open(spilling(&disk));
        let t = Fixture::of(&engine);
        fill(&engine, &t, [(1, 1)]);
        let mut large = engine.begin(SER, false);
        large.statement_snapshot(true).unwrap();
        let savepoint = large.savepoint();
        if go_back {
            insert(&mut large, &t, 5000..7000, usize::MAX);
        }
        large.rollback_to(savepoint);
        // That 5500 was not there is what the first has relied on.
        let mut other = engine.begin(SER, false);
        block_on(t.insert(&mut other, 5500, 0)).unwrap();
        commit(other);
        let end = block_on(t.insert(&mut large, 2, 2)).and_then(|_| large.commit());
        let state = end.err().map(|error| error.state());
        assert_eq!(state, go_back.then_some(SqlState::SERIALIZATION_FAILURE));
    }
}

fn changes_seen_as_a_whole(isolation: Isolation) {
    let disk = SimulatedDisk::new(41);
    let mut engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..3000).map(|id| (id, id % 7)));
    // What is in memory only cannot be changed beside it.
    engine.checkpoint().unwrap();
    let before = t.rows(&engine.snapshot());
    let context = &mut std::task::Context::from_waker(futures::task::noop_waker_ref());

    let logged = engine.wal_bytes();
    let mut large = engine.begin(isolation, false);
    assert_eq!(block_on(change_all(&mut large, &t, |id, a| Some((id, a + 100)))).unwrap(), 3000);
    let mut expected: std::collections::BTreeMap<i32, i32> =
        before.iter().map(|(id, a)| (*id, a + 100)).collect();
    for checkpoint in [false, true] {
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        assert_eq!(t.rows(&large.latest_snapshot()), expected);
        assert_eq!(t.rows(&large.statement_snapshot(false).unwrap()), expected);
        assert_eq!(t.rows(&engine.snapshot()), before);
    }
    // Others find the rows locked, as strongly as they are.
    assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::NoKeyUpdate), RowLock::Skipped));
    assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::KeyShare), RowLock::Granted));

    // Twice, three times, and back to a savepoint.
    block_on(change_all(&mut large, &t, |id, a| Some((id, a + 1)))).unwrap();
    let savepoint = large.savepoint();
    block_on(change_all(&mut large, &t, |id, a| (id % 2 == 0).then_some((id + 10_000, a)))).unwrap();
    assert_eq!(t.rows(&large.latest_snapshot()).len(), 1500);
    assert!(matches!(lock_of(&engine, &t, 4, RowLockMode::KeyShare), RowLock::Skipped));
    let mut other = engine.begin(RC, false);
    other.statement_snapshot(true).unwrap();
    let new = values(10_004, 0);
    let mut waiting = Box::pin(other.insert(&t.table, &new));
    assert!(waiting.as_mut().poll(context).is_pending(), "for a key that is about to come");
    large.rollback_to(savepoint);
    assert!(block_on(waiting).is_ok());
    drop(other);
    assert!(matches!(lock_of(&engine, &t, 4, RowLockMode::KeyShare), RowLock::Granted));
    assert!(matches!(lock_of(&engine, &t, 4, RowLockMode::Share), RowLock::Skipped));
    expected.values_mut().for_each(|a| *a += 1);
    assert_eq!(t.rows(&large.latest_snapshot()), expected);
    // Keys change, rows go, in more than one command; one comes back under a key that went.
    block_on(change_all(&mut large, &t, |id, a| (id % 3 != 0).then_some((id + 10_000, a)))).unwrap();
    block_on(large.insert(&t.table, &values(3, 33))).unwrap();
    let error = block_on(t.insert(&mut large, 10_001, 0)).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    expected = expected.into_iter().filter(|(id, _)| id % 3 != 0).map(|(id, a)| (id + 10_000, a)).collect();
    expected.insert(3, 33);
    assert_eq!(t.rows(&large.latest_snapshot()), expected);
    assert_eq!(t.rows(&large.statement_snapshot(false).unwrap()), expected);
    assert_eq!(t.rows(&engine.snapshot()), before);
    // Somebody waits for a row, somebody for a key that is about to go, somebody for one that comes.
    let mut updater = engine.begin(RC, false);
    let mut update = Box::pin(t.set_a(&mut updater, 1, |a| a));
    assert!(update.as_mut().poll(context).is_pending());
    let (mut first, mut second) = (engine.begin(RC, false), engine.begin(RC, false));
    first.statement_snapshot(true).unwrap();
    second.statement_snapshot(true).unwrap();
    let (gone, new) = (values(6, 66), values(10_001, 0));
    let mut inserted = Box::pin(first.insert(&t.table, &gone));
    let mut refused = Box::pin(second.insert(&t.table, &new));
    assert!(inserted.as_mut().poll(context).is_pending());
    assert!(refused.as_mut().poll(context).is_pending());
    let snapshot = engine.snapshot();
    commit(large);
    assert!(!block_on(update).unwrap(), "the row has another key now");
    assert!(block_on(inserted).is_ok());
    assert_eq!(block_on(refused).unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
    drop((updater, second));
    commit(first);
    expected.insert(6, 66);
    assert_eq!(t.rows(&snapshot), before, "a snapshot does not move");
    assert!(engine.wal_bytes() - logged < 100_000, "the log names the changes only");
    // On top of it, smaller ones; then in the base.
    fill(&engine, &t, [(20_000, 1)]);
    let mut small = engine.begin(RC, false);
    assert!(block_on(t.set_a(&mut small, 10_001, |_| 5)).unwrap());
    assert!(block_on(t.set_id(&mut small, 10_002, 2)).unwrap());
    assert!(block_on(t.delete(&mut small, 10_004)).unwrap());
    commit(small);
    expected.insert(20_000, 1);
    expected.insert(10_001, 5);
    let moved = expected.remove(&10_002).unwrap();
    expected.insert(2, moved);
    expected.remove(&10_004);
    assert_eq!(t.rows(&engine.snapshot()), expected);
    assert_eq!(t.rows(&snapshot), before);
    assert_eq!(engine.statistics(&t.table).rows, expected.len() as u64);
    drop(snapshot);
    for _ in 0..2 {
        // By the log alone, and by the base alone.
        disk.crash();
        drop(engine);
        engine = open(spilling(&disk));
        assert_eq!(t.rows(&engine.snapshot()), expected);
        engine.checkpoint().unwrap();
        assert_eq!(t.rows(&engine.snapshot()), expected);
        assert_eq!(engine.statistics(&t.table).rows, expected.len() as u64);
    }
    engine.close().unwrap();
    drop(engine);
    let report = sound(&disk);
    assert_eq!(report.index_entries, 2 * expected.len() as u64, "no entry of what was is left");
}

#[test]
fn changes_of_many_rows_that_fail_leave_nothing() {
    for crash in [false, true] {
        let disk = SimulatedDisk::new(42);
        let mut engine = open(spilling(&disk));
        let t = Fixture::of(&engine);
        fill(&engine, &t, (0..3000).map(|id| (id, id % 7)));
        engine.checkpoint().unwrap();
        let before = t.rows(&engine.snapshot());
        let mut large = engine.begin(RC, false);
        block_on(change_all(&mut large, &t, |id, a| (id % 3 != 0).then_some((id + 10_000, a + 1)))).unwrap();
        if crash {
            disk.crash();
            std::mem::forget(large);
            engine = open(spilling(&disk));
        } else {
            drop(large);
        }
        assert_eq!(t.rows(&engine.snapshot()), before);
        assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::Update), RowLock::Granted));
        fill(&engine, &t, [(10_001, 1)]);
        let mut after = before.clone();
        after.insert(10_001, 1);
        engine.checkpoint().unwrap();
        assert_eq!(t.rows(&engine.snapshot()), after);
        engine.close().unwrap();
        let report = sound(&disk);
        assert_eq!(report.index_entries, 2 * after.len() as u64);
    }
}

#[test]
fn deferred_keys_of_large_transactions_are_found() {
    let disk = SimulatedDisk::new(44);
    let engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    let mut table = (*t.table).clone();
    table.constraints.iter_mut().for_each(|constraint| constraint.deferrable = true);
    let mut change = engine.begin(RC, false);
    change.change_catalog(vec![Change::Put(Object::Table(Arc::new(table)))]).unwrap();
    commit(change);
    let t = Fixture::of(&engine);
    let insert = |transaction: &mut Transaction, ids: std::ops::Range<i32>| {
        transaction.statement_snapshot(true).unwrap();
        for id in ids {
            block_on(transaction.insert(&t.table, &values(id, 0))).unwrap();
        }
        transaction.take_unique_checks()
    };
    let mut large = engine.begin(RC, false);
    for part in 0..40 {
        for check in insert(&mut large, part * 50..(part + 1) * 50) {
            block_on(large.check_unique(&check)).unwrap();
        }
    }
    // Rows that were looked at go to the base, and their keys are given back.
    large.statement_snapshot(true).unwrap();
    let entries = engine.locks().listing().len();
    assert!(entries < 1000, "{entries} entries");
    let context = &mut std::task::Context::from_waker(futures::task::noop_waker_ref());
    let mut others: Vec<(Transaction, UniqueCheck)> = (0..2000)
        .step_by(40)
        .map(|id| {
            let mut other = engine.begin(RC, false);
            let checks = insert(&mut other, id..id + 1);
            (other, checks[0].clone())
        })
        .collect();
    let mut waiting: Vec<_> =
        others.iter_mut().map(|(other, check)| Box::pin(other.check_unique(check))).collect();
    assert!(waiting.iter_mut().all(|check| check.as_mut().poll(context).is_pending()));
    commit(large);
    for check in waiting {
        assert_eq!(block_on(check).unwrap_err().state(), SqlState::UNIQUE_VIOLATION);
    }
}

#[test]
fn locks_on_many_rows_take_little() {
    let disk = SimulatedDisk::new(43);
    let engine = open(spilling(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..3000).map(|id| (id, 0)));
    let mut many = engine.begin(RC, false);
    let lock_all = |transaction: &mut Transaction, mode| {
        let snapshot = transaction.statement_snapshot(true).unwrap();
        let mut scan = snapshot.scan(&t.table, None).unwrap();
        let mut batch = RowBatch::new();
        while scan.next(&mut batch).unwrap() {
            for row in &batch.ids {
                let lock = transaction.lock_row_now(&t.table, *row, mode, &snapshot).unwrap().unwrap();
                assert!(matches!(lock, RowLock::Granted));
            }
        }
    };
    lock_all(&mut many, RowLockMode::Share);
    let savepoint = many.savepoint();
    lock_all(&mut many, RowLockMode::Update);
    let entries = engine.locks().listing().len();
    assert!(entries < 100, "{entries} entries for 3000 rows");
    assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::KeyShare), RowLock::Skipped));
    many.rollback_to(savepoint);
    assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::Share), RowLock::Granted));
    assert!(matches!(lock_of(&engine, &t, 5, RowLockMode::NoKeyUpdate), RowLock::Skipped));
    // Who waits for one of them goes on when they are released, and is part of a deadlock like any other.
    let mut other = engine.begin(RC, false);
    let mut blocked = engine.begin(RC, false);
    fill(&engine, &t, [(9000, 0)]);
    assert!(block_on(t.set_a(&mut other, 9000, |a| a)).unwrap());
    let mut waits = Box::pin(t.set_a(&mut other, 5, |a| a + 1));
    let context = &mut std::task::Context::from_waker(futures::task::noop_waker_ref());
    assert!(waits.as_mut().poll(context).is_pending());
    let mut behind = Box::pin(t.set_a(&mut blocked, 6, |a| a + 1));
    assert!(behind.as_mut().poll(context).is_pending());
    let error = {
        let mut closes = Box::pin(t.set_a(&mut many, 9000, |a| a));
        match closes.as_mut().poll(context) {
            std::task::Poll::Ready(done) => done.err(),
            std::task::Poll::Pending => block_on(&mut waits).err(),
        }
    };
    assert_eq!(error.map(|error| error.state()), Some(SqlState::DEADLOCK_DETECTED));
    drop(many);
    assert!(block_on(behind).unwrap());
}

#[test]
fn what_cannot_be_spilled_has_a_bound() {
    let disk = SimulatedDisk::new(33);
    let mut with = options(&disk);
    with.write_set_limit = 1_000_000;
    with.spill_size = 50_000;
    let engine = open(with);
    let t = Fixture::of(&engine);
    for part in 0..20 {
        fill(&engine, &t, (part * 500..(part + 1) * 500).map(|id| (id, id)));
    }
    // The same rows again and again take no more room.
    let mut transaction = engine.begin(RC, false);
    for n in 0..2_000 {
        assert!(block_on(t.set_a(&mut transaction, n % 100, |a| a + 1)).unwrap());
    }
    let error =
        (0..10_000).find_map(|id| block_on(t.set_a(&mut transaction, id, |a| a + 1)).err()).expect("a bound");
    assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
    drop(transaction);
    assert_eq!(t.rows(&engine.snapshot()).len(), 10_000);
}

#[test]
fn old_snapshots_share_a_budget() {
    // What came after a snapshot is given up, and all of them go on; what they see themselves is not, and is too much.
    for (before, ended) in [(true, 0..1), (false, 6..20)] {
        let ends = old_snapshots(before);
        assert!(ended.contains(&ends), "{ends} of 20 ended");
    }
}

/// Takes 20 snapshots `before` or after as many rounds of changes, each followed by a checkpoint; gives how many ended.
fn old_snapshots(before: bool) -> usize {
    let disk = SimulatedDisk::new(39);
    let mut with = options(&disk);
    with.old_snapshot_memory = 1_000_000;
    let engine = open(with);
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..1000).map(|id| (id, 0)));
    let mut old = Vec::new();
    for round in 1..=20 {
        let mut take = |sees: i32| {
            let mut transaction = engine.begin(Isolation::RepeatableRead, true);
            let snapshot = transaction.statement_snapshot(false).unwrap();
            old.push((transaction, snapshot, sees));
        };
        if before {
            take(round - 1);
        }
        let mut transaction = engine.begin(RC, false);
        for id in 0..1000 {
            assert!(block_on(t.set_a(&mut transaction, id, |_| round)).unwrap());
        }
        commit(transaction);
        if !before {
            take(round);
        }
        engine.checkpoint().unwrap();
        assert!(engine.metrics().old_snapshot_bytes.get() <= 1_000_000);
    }
    let look = |snapshot: &Snapshot| -> value::Result<Vec<i32>> {
        let mut scan = snapshot.scan(&t.table, None)?;
        let (mut batch, mut found) = (RowBatch::new(), Vec::new());
        while scan.next(&mut batch)? {
            found.extend(batch.rows.iter().map(|row| int(&row.get(1))));
        }
        Ok(found)
    };
    let key = Index::encode_prefix(&t.table, &t.key, &[Datum::Int4(5)]);
    let mut ended = 0;
    for (_, snapshot, sees) in &old {
        // The right rows or 72000, never others.
        match look(snapshot) {
            Ok(rows) => {
                assert!(rows.len() == 1000 && rows.iter().all(|a| a == sees), "{sees}");
                let (_, row) = snapshot.index_get(&t.table, &t.key, &key).unwrap().expect("a row");
                assert_eq!(int(&row.get(1)), *sees);
            }
            Err(error) => {
                assert_eq!(error.state(), SqlState::SNAPSHOT_TOO_OLD);
                assert!(snapshot.index_get(&t.table, &t.key, &key).is_err());
                assert!(snapshot.get(&t.table, RowId(5)).is_err());
                ended += 1;
                let mut scan = match snapshot.index_scan(&t.table, &t.key, KeyRange::all(), false) {
                    Ok(scan) => scan,
                    Err(_) => continue,
                };
                assert!(scan.next(&mut RowBatch::new()).is_err());
            }
        }
    }
    assert!(look(&engine.snapshot()).unwrap().iter().all(|a| *a == 20));
    ended
}

#[test]
fn replay_reads_no_page() {
    let disk = SimulatedDisk::new(34);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..30_000).map(|id| (id, 0)));
    engine.checkpoint().unwrap();
    for round in 1..4 {
        let mut transaction = engine.begin(RC, false);
        for id in (0..30_000).step_by(97) {
            block_on(t.set_a(&mut transaction, id, |a| a + round)).unwrap();
        }
        for id in (1..30_000).step_by(1000) {
            assert!(block_on(t.delete(&mut transaction, id + round)).unwrap());
        }
        commit(transaction);
    }
    let expected = t.rows(&engine.snapshot());
    disk.crash();
    drop(engine);
    // What opening reads with nothing to replay, and with all of it.
    let with = options(&disk);
    let engine = open(with.clone());
    let reads = engine.metrics().disk_reads.get();
    assert_eq!(t.rows(&engine.snapshot()), expected);
    assert!(engine.metrics().disk_reads.get() > reads + 50, "rows are completed when they are looked at");
    assert!(reads < 60, "{reads} reads while opening");
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&engine.snapshot()), expected);
    disk.crash();
    drop(engine);
    // The checkpoint completes them as well.
    let engine = open(with);
    assert_eq!(t.rows(&engine.snapshot()), expected);
}

#[test]
fn replay_past_the_budget_checkpoints_on_the_way() {
    let disk = SimulatedDisk::new(35);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    for round in 0..40 {
        fill(&engine, &t, (round * 500..(round + 1) * 500).map(|id| (id, round)));
        let mut transaction = engine.begin(RC, false);
        for id in (0..round * 500).step_by(53) {
            assert!(block_on(t.set_id(&mut transaction, id, id + 1_000_000)).unwrap());
            assert!(block_on(t.set_id(&mut transaction, id + 1_000_000, id)).unwrap());
        }
        commit(transaction);
    }
    let expected = t.rows(&engine.snapshot());
    disk.crash();
    drop(engine);
    let mut small = options(&disk);
    small.memtable_size = 100_000;
    let engine = open(small);
    assert!(engine.metrics().checkpoints.get() > 5);
    assert_eq!(t.rows(&engine.snapshot()), expected);
}

#[test]
fn long_rows_there_and_back() {
    let disk = SimulatedDisk::new(36);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    let long = |fill: &str, len: usize| Datum::text(fill.repeat(len / fill.len()));
    let mut transaction = engine.begin(RC, false);
    transaction.statement_snapshot(true).unwrap();
    for (id, len) in [(1, 2_000), (2, 100_000), (3, 20_000_000)] {
        let row = [Datum::Int4(id), Datum::Int4(0), long("abcdefg ", len)];
        block_on(transaction.insert(&t.table, &row)).unwrap();
    }
    commit(transaction);
    let look = |engine: &Engine| -> Vec<usize> {
        let snapshot = engine.snapshot();
        let length = |id| match t.find(&snapshot, id).unwrap().1.get(2) {
            Datum::Text(text) => text.len(),
            other => panic!("{other:?}"),
        };
        (1..=3).map(length).collect()
    };
    assert_eq!(look(&engine), [2_000, 100_000, 20_000_000]);
    engine.checkpoint().unwrap();
    assert_eq!(look(&engine), [2_000, 100_000, 20_000_000]);
    let mut transaction = engine.begin(RC, false);
    assert!(block_on(t.set_a(&mut transaction, 3, |_| 5)).unwrap());
    commit(transaction);
    engine.close().unwrap();
    drop(engine);
    let engine = open(options(&disk));
    assert_eq!(look(&engine), [2_000, 100_000, 20_000_000]);
}

#[test]
fn an_index_is_filled_while_others_write() {
    let disk = SimulatedDisk::new(37);
    let mut with = options(&disk);
    with.manual_checkpoints = false;
    with.checkpoint_interval = std::time::Duration::from_millis(20);
    let engine = open(with);
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..40_000).map(|id| (id, id)));
    let stop = AtomicBool::new(false);
    let index = std::thread::scope(|scope| {
        for writer in 0..3 {
            let (engine, t, stop) = (engine.clone(), t.clone(), &stop);
            scope.spawn(move || {
                let mut n: i32 = writer * 1_000_000 + 100_000;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let mut transaction = engine.begin(RC, false);
                    let mode = TableLockMode::RowExclusive;
                    block_on(transaction.lock_table(t.table.oid, mode, Wait::Block)).unwrap();
                    let id = (n.wrapping_mul(7919)).rem_euclid(40_000);
                    block_on(t.set_a(&mut transaction, id, |a| a ^ n)).unwrap();
                    block_on(t.insert(&mut transaction, n, n)).unwrap();
                    if n % 3 == 0 {
                        block_on(t.delete(&mut transaction, (id + 1) % 40_000)).unwrap();
                    }
                    if n % 5 == 0 {
                        transaction.rollback();
                    } else {
                        transaction.commit().unwrap().durable.wait().unwrap();
                    }
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
        let index = publish(&engine, &t, "t_a_later", false);
        engine.build_index_concurrently(index.oid, &|| Ok(())).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        index
    });
    let later = with_index(&engine, &t, &index);
    assert_eq!(later.a.state, IndexState::Ready);
    let rows = later.rows(&engine.snapshot());
    assert!(rows.len() > 30_000);
    engine.close().unwrap();
    drop(engine);
    sound(&disk);
    let engine = open(options(&disk));
    assert_eq!(later.rows(&engine.snapshot()), rows);
}

#[test]
fn a_fill_goes_on_after_a_crash_and_stops_when_told() {
    let disk = SimulatedDisk::new(38);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..50_000).map(|id| (id, id % 1000)));
    let index = publish(&engine, &t, "t_a_later", false);
    // The power goes somewhere in the middle, with a checkpoint before.
    let steps = std::cell::Cell::new(0);
    let crash = || {
        steps.set(steps.get() + 1);
        if steps.get() == 4 {
            engine.checkpoint()?;
            disk.fail(Fault::Always(Operation::Write, std::io::ErrorKind::Other));
        }
        if steps.get() == 5 { Err(value::Error::new(SqlState::QUERY_CANCELED, "stop")) } else { Ok(()) }
    };
    let error = engine.build_index_concurrently(index.oid, &crash).unwrap_err();
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    disk.crash();
    drop(engine);
    // Opening goes on with it.
    let engine = open(options(&disk));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let ready = |engine: &Engine| engine.catalog().index(index.oid).unwrap().state == IndexState::Ready;
    while !ready(&engine) {
        assert!(std::time::Instant::now() < deadline, "it does not get ready");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(with_index(&engine, &t, &index).rows(&engine.snapshot()).len(), 50_000);
    // One that was given up is not taken up again.
    let stopped = publish(&engine, &t, "t_a_stopped", false);
    let cancel = || Err(value::Error::new(SqlState::QUERY_CANCELED, "stop"));
    assert!(engine.build_index_concurrently(stopped.oid, &cancel).is_err());
    engine.give_up_build(stopped.oid);
    let unique = publish(&engine, &t, "t_a_unique", true);
    let error = engine.build_index_concurrently(unique.oid, &|| Ok(())).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(engine.interrupted_builds(), [unique.oid]);
    engine.give_up_build(unique.oid);
    assert!(engine.interrupted_builds().is_empty());
    engine.close().unwrap();
    drop(engine);
    let engine = open(options(&disk));
    assert!(engine.interrupted_builds().is_empty());
    assert_eq!(engine.catalog().index(unique.oid).unwrap().state, IndexState::WriteOnly);
}

/// While values of its columns are computed an index has no entries: none are kept, nobody is held to its keys, nothing is
/// taken up again. Then it is filled like any other.
#[test]
fn an_index_that_waits_for_its_values() {
    let disk = SimulatedDisk::new(39);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..10_000).map(|id| (id, id)));
    let put = |engine: &Engine, index: &Index| {
        let mut transaction = engine.begin(RC, false);
        transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(index.clone())))]).unwrap();
        commit(transaction);
    };
    let index = Index { state: IndexState::Computing, ..publish(&engine, &t, "t_a_later", true) };
    put(&engine, &index);
    fill(&engine, &t, (10_000..20_000).map(|id| (id, id)));
    fill(&engine, &t, [(20_000, 7)]);
    disk.crash();
    drop(engine);
    let engine = open(options(&disk));
    assert!(engine.interrupted_builds().is_empty());
    assert_eq!(engine.catalog().index(index.oid).unwrap().state, IndexState::Computing);
    fill(&engine, &t, [(20_001, 8)]);
    let mut transaction = engine.begin(RC, false);
    block_on(t.delete(&mut transaction, 20_000)).unwrap();
    block_on(t.set_a(&mut transaction, 20_001, |_| 20_001)).unwrap();
    commit(transaction);
    engine.checkpoint().unwrap();
    put(&engine, &Index { state: IndexState::WriteOnly, ..index.clone() });
    engine.build_index_concurrently(index.oid, &|| Ok(())).unwrap();
    let later = with_index(&engine, &t, &index);
    assert_eq!(later.a.state, IndexState::Ready);
    assert_eq!(later.rows(&engine.snapshot()).len(), 20_001);
    engine.close().unwrap();
    drop(engine);
    sound(&disk);
}
