//! Disks that fail: an error at every write, sync and read in turn, and no room left. Nothing acknowledged is lost;
//! a failed log write seals the engine; everything else gives its error to who asked and goes on.
//!
//! `FAULT_PLACES` writes and syncs in turn (250 by default), with O_DSYNC and without.

use futures::executor::block_on;
use value::{Datum, Result, SqlState};

use super::crash::options;
use super::setup::{self, Fixture, fill};
use crate::disk::{Fault, Operation, SimulatedDisk};
use crate::planted::{self, Bug};
use crate::*;

/// Commits one row per step, with a checkpoint now and then, until the steps are done or the log is sealed.
/// Gives the ids acknowledged.
fn load(engine: &Engine, t: &Fixture, from: i32, steps: i32) -> (Vec<i32>, Vec<value::Error>) {
    let mut acknowledged = Vec::new();
    let mut errors = Vec::new();
    let mut left = 20;
    for id in from..from + steps {
        // What comes after an error matters, but not for ever.
        if !errors.is_empty() {
            left -= 1;
        }
        if left == 0 {
            break;
        }
        let insert = || -> Result<()> {
            let mut transaction = engine.begin(Isolation::ReadCommitted, false);
            block_on(t.insert(&mut transaction, id, id % 10))?;
            transaction.commit()?.durable.wait()
        };
        match insert() {
            Ok(()) => acknowledged.push(id),
            Err(error) => errors.push(error),
        }
        if id % 10 == 9
            && let Err(error) = engine.checkpoint()
        {
            errors.push(error);
        }
        if engine.sealed().is_some() {
            break;
        }
    }
    (acknowledged, errors)
}

/// One run of so many steps with one fault; `false`: the fault was not reached.
fn one(operation: Operation, place: u64, direct: bool, steps: i32) -> bool {
    let what = format!("{operation:?} {place}, direct {direct}");
    let disk = SimulatedDisk::new(place);
    disk.set_direct(direct);
    let engine = setup::open(options(&disk));
    let t = Fixture::of(&engine);
    disk.fail(Fault::Once(operation, place, std::io::ErrorKind::Other));
    let (mut acknowledged, errors) = load(&engine, &t, 0, steps);
    let reached = !disk.is_faulty();
    disk.heal();
    for error in &errors {
        assert_eq!(error.state(), SqlState::IO_ERROR, "{what}: {error}");
    }
    if engine.sealed().is_some() {
        // Reads go on; nothing is written any more.
        t.rows(&engine.snapshot());
        assert!(load(&engine, &t, 10_000, 1).0.is_empty(), "{what}: acknowledged after a failed log write");
    } else {
        let (more, errors) = load(&engine, &t, 10_000, 25);
        assert!(errors.is_empty(), "{what}: {errors:?}");
        acknowledged.extend(more);
    }
    disk.crash();
    drop(engine);
    let engine = Engine::open(options(&disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let rows = t.rows(&engine.snapshot());
    for id in acknowledged {
        assert!(rows.contains_key(&id), "{what}: {id} was acknowledged and is gone");
    }
    reached
}

#[test]
fn an_error_at_every_write_and_sync() {
    let most = std::env::var("FAULT_PLACES").ok().and_then(|text| text.parse().ok()).unwrap_or(250);
    // With O_DSYNC only checkpoints sync: three times in ten steps, about.
    let steps = 5 * most as i32;
    for direct in [false, true] {
        for operation in [Operation::Sync, Operation::Write] {
            let mut places = 0;
            while places < most && one(operation, places, direct, steps) {
                places += 1;
            }
            println!("{operation:?}, direct {direct}: {places} places");
            assert_eq!(places, most, "the load is long enough");
        }
    }
}

#[test]
fn believing_a_second_sync_is_found() {
    let found = std::panic::catch_unwind(|| {
        planted::with(Some(Bug::RetrySync), || {
            // What the sync gave up is there or gone, as the crash wills. No checkpoint saves it.
            for seed in 0..50 {
                let disk = SimulatedDisk::new(seed);
                let engine = setup::open(options(&disk));
                let t = Fixture::of(&engine);
                disk.fail(Fault::Once(Operation::Sync, 3, std::io::ErrorKind::Other));
                let (acknowledged, _) = load(&engine, &t, 0, 8);
                disk.crash();
                drop(engine);
                let rows = t.rows(&Engine::open(options(&disk)).unwrap().snapshot());
                assert!(acknowledged.iter().all(|id| rows.contains_key(id)));
            }
        });
    });
    assert!(found.is_err());
}

/// Every read of the base in turn fails: who asked gets 58030, who comes later the rows.
#[test]
fn a_read_that_fails_is_one_statements_trouble() {
    let disk = SimulatedDisk::new(5);
    let mut with = options(&disk);
    with.cache_size = 0;
    let engine = setup::open(with);
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..3000).map(|id| (id, id % 10)));
    engine.checkpoint().unwrap();
    let look = || -> Result<usize> {
        let snapshot = engine.snapshot();
        let mut scan = snapshot.scan(&t.table, None)?;
        let (mut batch, mut count) = (RowBatch::new(), 0);
        while scan.next(&mut batch)? {
            count += batch.len();
        }
        Ok(count)
    };
    let mut failures = 0;
    for place in 0..200 {
        // One that looks at the old handle meanwhile.
        let old = engine.snapshot();
        disk.fail(Fault::Once(Operation::Read, place, std::io::ErrorKind::Other));
        let result = look();
        disk.heal();
        match result {
            Ok(count) => assert_eq!(count, 3000),
            Err(error) => {
                failures += 1;
                assert_eq!(error.state(), SqlState::IO_ERROR, "{error}");
                let stale = old.scan(&t.table, None).and_then(|mut scan| scan.next(&mut RowBatch::new()));
                if let Err(error) = stale {
                    assert_eq!(error.state(), SqlState::IO_ERROR);
                }
            }
        }
        drop(old);
        assert_eq!(look().unwrap(), 3000, "after a failed read {place}");
        assert!(engine.sealed().is_none());
    }
    assert!(failures > 0);
    // And writes.
    assert!(load(&engine, &t, 10_000, 20).1.is_empty());
}

/// The disk fills up at every size: 53100 for who writes, reads go on, and it all resumes with room.
#[test]
fn a_full_disk_refuses_and_recovers() {
    // Without a reserve: it is the log that meets the end of the disk, or a checkpoint.
    let options = |disk: &SimulatedDisk| Options { disk_reserve: 0, ..options(disk) };
    let probe = SimulatedDisk::new(6);
    let engine = setup::open(options(&probe));
    let empty = probe.used();
    load(&engine, &Fixture::of(&engine), 0, 10);
    let room = (probe.used() - empty).max(256 << 10);
    for step in 0..40 {
        let disk = SimulatedDisk::new(6);
        let engine = setup::open(options(&disk));
        let t = Fixture::of(&engine);
        disk.set_capacity(Some(disk.used() + room * step / 40));
        let (mut acknowledged, errors) = load(&engine, &t, 0, 400);
        for error in &errors {
            assert_eq!(error.state(), SqlState::DISK_FULL, "step {step}: {error}");
        }
        assert!(engine.sealed().is_none(), "step {step}");
        let rows = t.rows(&engine.snapshot());
        assert_eq!(rows.len(), acknowledged.len(), "step {step}: reads go on");
        disk.set_capacity(None);
        let (more, errors) = load(&engine, &t, 1000, 30);
        assert!(errors.is_empty(), "step {step}: {errors:?}");
        acknowledged.extend(more);
        disk.crash();
        drop(engine);
        let engine = Engine::open(options(&disk)).unwrap();
        assert_eq!(t.rows(&engine.snapshot()).len(), acknowledged.len(), "step {step}");
    }
}

/// Checkpoints fail because somebody else takes the room just then: commits are refused before memory is full.
#[test]
fn memory_is_bounded_while_checkpoints_fail() {
    let disk = SimulatedDisk::new(7);
    let mut with = options(&disk);
    with.memtable_size = 20_000;
    let engine = setup::open(with);
    let t = Fixture::of(&engine);
    let insert = |id| -> Result<()> {
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        block_on(t.insert(&mut transaction, id, 0))?;
        transaction.commit()?.durable.wait()
    };
    let mut accepted = 0;
    let error = loop {
        if accepted % 50 == 49 {
            disk.set_capacity(Some(disk.used()));
            assert_eq!(engine.checkpoint().unwrap_err().state(), SqlState::DISK_FULL);
            disk.set_capacity(None);
        }
        match insert(accepted) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.state(), SqlState::DISK_FULL);
    assert!(accepted > 100 && accepted < 2_000, "{accepted} rows");
    assert_eq!(t.rows(&engine.snapshot()).len(), accepted as usize, "reads go on");
    assert!(insert(accepted).is_err(), "until a checkpoint has worked");
    engine.checkpoint().unwrap();
    insert(accepted).unwrap();
    assert_eq!(t.rows(&engine.snapshot()).len(), accepted as usize + 1);
}

/// One row of about a kilobyte.
fn insert_long(engine: &Engine, t: &Fixture, id: i32) -> Result<()> {
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    transaction.statement_snapshot(true)?;
    let row = [Datum::Int4(id), Datum::Int4(id % 10), Datum::text(format!("{id:01000}"))];
    block_on(transaction.insert(&t.table, &row))?;
    transaction.commit()?.durable.wait()
}

fn change(engine: &Engine, t: &Fixture, id: i32) -> Result<()> {
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    block_on(t.set_a(&mut transaction, id, |a| a + 1))?;
    transaction.commit()?.durable.wait()
}

/// Leaves so much room, and waits until nobody believes any more that there is more.
fn fill_up(disk: &SimulatedDisk, free: u64) {
    disk.set_capacity(Some(disk.used() + free));
    std::thread::sleep(2 * crate::disk::room::LOOK);
}

/// However large the disk: commits are refused while the checkpoint of what was accepted still fits, and go on after
/// it with what it has given. What drops things goes through even then.
#[test]
fn commits_leave_room_for_the_checkpoint() {
    let mut most_rounds = 0;
    for step in 0..4 {
        let disk = SimulatedDisk::new(step);
        let mut with = options(&disk);
        (with.wal_segment_size, with.wal_keep_segments) = (64 << 10, 4);
        with.disk_reserve = 512 << 10;
        let engine = setup::open(with.clone());
        let t = Fixture::of(&engine);
        engine.checkpoint().unwrap();
        fill_up(&disk, with.disk_reserve + step * (400 << 10));
        let (mut accepted, mut rounds) = (0, 0);
        loop {
            let before = accepted;
            let error = loop {
                // Old rows change as well.
                match insert_long(&engine, &t, accepted) {
                    Ok(()) => accepted += 1,
                    Err(error) => break error,
                }
                if let Err(error) = change(&engine, &t, accepted * 7 % 50) {
                    break error;
                }
            };
            assert_eq!(error.state(), SqlState::DISK_FULL, "step {step}: {error}");
            assert_eq!(t.rows(&engine.snapshot()).len(), accepted as usize, "step {step}: reads go on");
            engine.checkpoint().unwrap_or_else(|error| panic!("step {step}, round {rounds}: {error}"));
            if accepted == before {
                break;
            }
            rounds += 1;
        }
        most_rounds = most_rounds.max(rounds);
        // Opening it again needs no more room either.
        disk.crash();
        drop(engine);
        let engine = Engine::open(with).unwrap();
        assert_eq!(t.rows(&engine.snapshot()).len(), accepted as usize, "step {step}");
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        let all = [t.table.oid, t.key.oid, t.a.oid];
        transaction.change_catalog(all.map(catalog::Change::Drop).to_vec()).unwrap();
        transaction.commit().unwrap().durable.wait().unwrap();
        engine.checkpoint().unwrap();
    }
    assert!(most_rounds > 5, "writes go on after a checkpoint: {most_rounds} rounds");
}

/// Changes that need no more room in the end go on for ever on a disk that is all but full: the checkpointer is called
/// for, and log segments that are only kept for looking back are used again.
#[test]
fn writes_go_on_by_themselves_when_a_checkpoint_gives_room() {
    let disk = SimulatedDisk::new(8);
    let mut with = options(&disk);
    (with.wal_segment_size, with.wal_keep_segments) = (64 << 10, 100);
    (with.disk_reserve, with.manual_checkpoints, with.threads) = (256 << 10, false, true);
    with.checkpoint_interval = std::time::Duration::from_secs(3600);
    let engine = setup::open(with.clone());
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..100).map(|id| (id, 0)));
    engine.checkpoint().unwrap();
    fill_up(&disk, with.disk_reserve + (800 << 10));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut refused = 0;
    for n in 0..3000 {
        while let Err(error) = change(&engine, &t, n % 100) {
            assert_eq!(error.state(), SqlState::DISK_FULL, "{error}");
            assert!(std::time::Instant::now() < deadline, "change {n}: {error}");
            refused += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    assert!(refused > 0 && engine.metrics().checkpoints.get() > 3);
    assert!(t.rows(&engine.snapshot()).values().all(|a| *a == 30));
}

/// A few changes in every group make the deltas large enough to be folded, which takes many times what was left for the
/// checkpoint: on a disk that is short of room it waits.
#[test]
fn deltas_are_folded_where_there_is_room() {
    let written = |short: bool| {
        let disk = SimulatedDisk::new(9);
        let engine = setup::open(setup::options(&disk));
        let t = Fixture::of(&engine);
        fill(&engine, &t, (0..40_000).map(|id| (id, id)));
        engine.checkpoint().unwrap();
        let update = |ids: std::iter::StepBy<std::ops::Range<i32>>| {
            let mut transaction = engine.begin(Isolation::ReadCommitted, false);
            let snapshot = transaction.statement_snapshot(true).unwrap();
            for id in ids {
                let (row, old) = t.find(&snapshot, id).unwrap();
                let lock =
                    transaction.lock_row(&t.table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot);
                assert!(matches!(block_on(lock).unwrap(), RowLock::Granted));
                let new = [old.get(0), old.get(1), Datum::text("new")];
                block_on(transaction.update(&t.table, row, &old, &new)).unwrap();
            }
            drop(snapshot);
            transaction.commit().unwrap().durable.wait().unwrap();
        };
        update((0..40_000).step_by(7));
        if short {
            // Enough for what the changes take, too little for folding them.
            let reserve = Options::new("/data").disk_reserve;
            fill_up(&disk, reserve / 4 + engine.0.checkpoint_room(0) + (300 << 10));
        }
        let count = || engine.metrics().disk_write_bytes.get() - engine.metrics().wal_bytes.get();
        let before = count();
        engine.checkpoint().unwrap();
        let first = count() - before;
        let rows = t.rows(&engine.snapshot());
        // The next one makes up for it.
        disk.set_capacity(None);
        update((3..40_000).step_by(8192));
        let before = count();
        engine.checkpoint().unwrap();
        let second = count() - before;
        assert_eq!(t.rows(&engine.snapshot()), rows);
        (first, second)
    };
    let (at_once, little) = written(false);
    let (short, later) = written(true);
    assert!(
        at_once > 2 * little && short < at_once / 2 && later > at_once / 2,
        "{:?}",
        [at_once, little, short, later]
    );
}

/// The file of the base meets a full disk in the middle of a checkpoint, at every write: the checkpoint is given
/// up, nothing else is.
#[test]
fn a_checkpoint_that_meets_a_full_disk_is_tried_again() {
    for place in 0..60 {
        let disk = SimulatedDisk::new(place);
        let engine = setup::open(options(&disk));
        let t = Fixture::of(&engine);
        fill(&engine, &t, (0..500).map(|id| (id, id)));
        disk.fail(Fault::Once(Operation::Write, place, std::io::ErrorKind::StorageFull));
        let first = engine.checkpoint();
        disk.heal();
        if let Err(error) = &first {
            assert!(
                [SqlState::DISK_FULL, SqlState::IO_ERROR].contains(&error.state()),
                "write {place}: {error}"
            );
        }
        assert_eq!(t.rows(&engine.snapshot()).len(), 500, "write {place}");
        fill(&engine, &t, (500..510).map(|id| (id, id)));
        engine.checkpoint().unwrap();
        assert_eq!(t.rows(&engine.snapshot()).len(), 510, "write {place}");
        assert_eq!(engine.statistics(&t.table).rows, 510, "write {place}: counted once");
        disk.crash();
        drop(engine);
        let engine = Engine::open(options(&disk)).unwrap();
        assert_eq!(t.rows(&engine.snapshot()).len(), 510, "write {place}");
        if first.is_ok() {
            assert!(place > 1);
            return;
        }
    }
}
