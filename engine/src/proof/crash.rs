//! Random transactions of several sessions against a model, with checkpoints, crashes and failing writes: what
//! was acknowledged is there, what is there is a prefix of what was committed, snapshots do not move, indexes and
//! rows agree.
//!
//! The hard idea: the engine runs without threads, so a seed decides everything that happens, and a power cut
//! "at the n-th write or sync" can be put at every one of them. What a crash leaves is decided by the simulated
//! disk, sector by sector. A crash may come while the last one is being recovered from.
//!
//! `CRASH_POINTS` crashes in all (2,000 by default), from `SEED` on; `TRACE=1` tells every step.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use futures::task::noop_waker;
use value::{Datum, SqlState};

use super::setup::{self, Fixture, index, int};
use crate::catalog::{Change, Index, Object, Persistence, Sequence, oid};
use crate::disk::{Fault, Operation, SimulatedDisk};
use crate::planted::{self, Bug};
use crate::sync::Arc;
use crate::*;

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

pub(super) fn options(disk: &SimulatedDisk) -> Options {
    let mut options = setup::options(disk);
    options.wal_segment_size = 64 << 10;
    options.wal_keep_segments = 2;
    options.cache_size = 1 << 20;
    options.spill_size = 6 << 10;
    options.spill_group = 16;
    options.threads = false;
    options.new_database_id = Some(77);
    options
}

/// What a row's third column holds: decided by the others, now and then longer than a sector, a block of the
/// log, a batch.
fn text(id: i32, a: i32) -> String {
    let seed = (id.wrapping_mul(31) ^ a.wrapping_mul(17)).unsigned_abs() as usize;
    let length = match seed % 64 {
        0 => 5000,
        1 if seed.is_multiple_of(3) => 70_000,
        2..=9 => 700,
        other => other,
    };
    let word = format!("{id}/{a};");
    word.repeat(length / word.len() + 1)
}

fn values(id: i32, a: i32) -> [Datum; 3] {
    [Datum::Int4(id), Datum::Int4(a), Datum::text(text(id, a))]
}

type Rows = BTreeMap<i32, i32>;
type Writes = BTreeMap<i32, Option<i32>>;

/// What is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    rows: Rows,
    /// Names of tables besides `t`.
    tables: BTreeSet<String>,
}

fn with(rows: &Rows, own: &Writes) -> Rows {
    let mut rows = rows.clone();
    for (id, a) in own {
        match a {
            Some(a) => rows.insert(*id, *a),
            None => rows.remove(id),
        };
    }
    rows
}

struct Open {
    transaction: Transaction,
    /// What it has written.
    own: Writes,
    /// What its fixed snapshot saw.
    fixed: Option<Rows>,
    savepoint: Option<(Savepoint, Writes)>,
}

impl Open {
    fn view(&mut self, committed: &Rows) -> Rows {
        let rows = match self.transaction.isolation() {
            Isolation::ReadCommitted => committed.clone(),
            _ => self.fixed.get_or_insert_with(|| committed.clone()).clone(),
        };
        with(&rows, &self.own)
    }
}

/// Runs a statement that may have to wait; `None` if it would (it is given up then).
pub(super) fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Rows by all ways of reading, which must agree, with their texts.
fn rows(t: &Fixture, snapshot: &Snapshot) -> Rows {
    let rows = t.rows(snapshot);
    let mut scan = snapshot.scan(&t.table, None).unwrap();
    let mut batch = RowBatch::new();
    while scan.next(&mut batch).unwrap() {
        for row in &batch.rows {
            let (id, a) = (int(&row.get(0)), int(&row.get(1)));
            let right = matches!(row.get(2), Datum::Text(found) if *found == *text(id, a));
            assert!(right, "the text of {id}");
        }
    }
    rows
}

/// Whether a snapshot can be read: after an I/O error those on the old handle of the base get 58030.
fn readable(t: &Fixture, snapshot: &Snapshot) -> bool {
    let look = || -> value::Result<()> {
        let mut batch = RowBatch::new();
        let mut scan = snapshot.scan(&t.table, None)?;
        while scan.next(&mut batch)? {}
        for index in [&t.key, &t.a] {
            let mut scan = snapshot.index_scan(&t.table, index, KeyRange::all(), false)?;
            while scan.next(&mut batch)? {}
        }
        Ok(())
    };
    match look() {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.state(), SqlState::IO_ERROR, "{error}");
            false
        }
    }
}

async fn change(
    t: &Fixture,
    transaction: &mut Transaction,
    id: i32,
    to: Option<(i32, i32)>,
) -> value::Result<bool> {
    let snapshot = transaction.statement_snapshot(true)?;
    let key = Index::encode_prefix(&t.table, &t.key, &[Datum::Int4(id)]);
    let Some((row, mut old)) = snapshot.index_get(&t.table, &t.key, &key)? else { return Ok(false) };
    let mode =
        if to.is_some_and(|(to, _)| to == id) { RowLockMode::NoKeyUpdate } else { RowLockMode::Update };
    match transaction.lock_row(&t.table, row, mode, Wait::Block, &snapshot).await? {
        RowLock::Granted => {}
        RowLock::Moved(newest) if int(&newest.get(0)) == id => old = newest,
        _ => return Ok(false),
    }
    match to {
        Some((to, a)) => transaction.update(&t.table, row, &old, &values(to, a)).await?,
        None => transaction.delete(&t.table, row, &old).await?,
    }
    Ok(true)
}

/// New storages for the table and its indexes (TRUNCATE), or for one index (REINDEX).
fn replace_storages(engine: &Engine, t: &Fixture, transaction: &mut Transaction, truncate: bool) {
    let mut changes = Vec::new();
    let mut built = Vec::new();
    if truncate {
        let mut table = (*t.table).clone();
        table.storage = engine.new_storage_id();
        changes.push(Change::Put(Object::Table(Arc::new(table))));
    }
    for old in [&t.key, &t.a] {
        if truncate || Arc::ptr_eq(old, &t.a) {
            let anew = Index { storage: engine.new_storage_id(), ..(**old).clone() };
            built.push(anew.clone());
            changes.push(Change::Put(Object::Index(Arc::new(anew))));
        }
    }
    transaction.change_catalog(changes).unwrap();
    if !truncate {
        for index in &built {
            transaction.build_index(index, &|| Ok(())).unwrap();
        }
    }
}

fn extra_tables(engine: &Engine) -> BTreeSet<String> {
    let catalog = engine.catalog();
    let names = catalog.objects().filter_map(|object| match object {
        Object::Table(table) if table.name != "t" => Some(table.name.clone()),
        _ => None,
    });
    names.collect()
}

fn sequence(engine: &Engine) -> Arc<Sequence> {
    match engine.catalog().relation(oid::PUBLIC, "counter") {
        Some(Object::Sequence(sequence)) => sequence.clone(),
        _ => panic!("there is a sequence"),
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) crashes: u64,
    pub(super) in_recovery: u64,
    pub(super) errors: u64,
    pub(super) commits: u64,
    /// A hash over everything that was written, in order.
    pub(super) trace: u64,
}

/// One seed: several lives, each ended by a power cut or after an I/O error, the last one closed in good order.
fn run(seed: u64) -> Report {
    let mut random = Random::new(seed);
    let disk = SimulatedDisk::new(seed);
    disk.set_direct(seed.is_multiple_of(2));
    let mut report = Report::default();
    // Made without faults: what happens while a directory is made is another test.
    let mut engine = setup::open(options(&disk));
    let mut t = Fixture::of(&engine);
    // Every state that was committed, in order, and how many of them are acknowledged.
    let mut history: Vec<State> = vec![State::default()];
    let mut acknowledged = 0;
    let mut largest_number = 0;
    let mut largest_id = 1000;
    let trace = variable("TRACE", 0) > 0;
    for life in 0..5 {
        let last = life == 4;
        let mut failing = false;
        if !last {
            match random.below(4) {
                0 => {
                    let operation = if random.below(2) == 0 { Operation::Sync } else { Operation::Write };
                    disk.fail(Fault::Once(operation, random.below(60), std::io::ErrorKind::Other));
                    failing = true;
                }
                _ => {
                    let most = if random.below(2) == 0 { 40 } else { 200 };
                    disk.fail(Fault::PowerCut(random.below(most)));
                }
            }
        }
        let sessions: Vec<SessionState> = (0..3).map(|pid| engine.new_session(pid + 1, 5)).collect();
        let mut open_ones: Vec<Option<Open>> = (0..3).map(|_| None).collect();
        let mut kept: Vec<(Snapshot, Rows)> = Vec::new();
        // Values handed out whose statement was answered.
        let numbers = sequence(&engine);
        for _ in 0..300 {
            if disk.is_off() || engine.sealed().is_some() {
                break;
            }
            let n = random.below(3) as usize;
            let committed = history.last().expect("never empty").clone();
            let Some(mut session) = open_ones[n].take() else {
                if open_ones.iter().all(Option::is_none) && random.below(4) == 0 {
                    // Definitions, with nobody else about.
                    let mut transaction = engine.begin_for(&sessions[n], Isolation::ReadCommitted, false);
                    let mut state = committed;
                    match random.below(4) {
                        0 => {
                            replace_storages(&engine, &t, &mut transaction, true);
                            state.rows.clear();
                            let catalog = transaction.catalog();
                            let table = catalog.table(t.table.oid).unwrap().clone();
                            let id = random.below(60) as i32;
                            transaction.statement_snapshot(true).unwrap();
                            once(transaction.insert(&table, &values(id, 1))).unwrap().unwrap();
                            state.rows.insert(id, 1);
                        }
                        1 => replace_storages(&engine, &t, &mut transaction, false),
                        _ => {
                            let name = format!("extra{}", random.below(3));
                            let known = engine.catalog().relation(oid::PUBLIC, &name).cloned();
                            let changes = match known {
                                Some(Object::Table(table)) => {
                                    state.tables.remove(&name);
                                    let indexes = engine.catalog();
                                    let indexes =
                                        indexes.indexes(table.oid).map(|index| Change::Drop(index.oid));
                                    indexes.chain([Change::Drop(table.oid)]).collect()
                                }
                                _ => {
                                    state.tables.insert(name.clone());
                                    let table = setup::table(&engine, &name, Persistence::Permanent);
                                    let key = index(&engine, &table, &format!("{name}_pkey"), &[1], true);
                                    let put = vec![
                                        Change::Put(Object::Table(Arc::new(table.clone()))),
                                        Change::Put(Object::Index(Arc::new(key))),
                                    ];
                                    transaction.change_catalog(put).unwrap();
                                    transaction.statement_snapshot(true).unwrap();
                                    once(transaction.insert(&table, &values(1, 1))).unwrap().unwrap();
                                    Vec::new()
                                }
                            };
                            transaction.change_catalog(changes).unwrap();
                        }
                    }
                    history.push(state);
                    match transaction.commit().and_then(|commit| commit.durable.wait()) {
                        Ok(()) => acknowledged = history.len() - 1,
                        Err(error) => {
                            assert!(disk.is_off() || failing, "seed {seed}: a definition failed: {error}");
                            if !disk.is_off() && engine.sealed().is_none() {
                                history.pop();
                            }
                        }
                    }
                    kept.clear();
                    t = Fixture::of(&engine);
                    continue;
                }
                let isolation = match random.below(3) {
                    0 => Isolation::RepeatableRead,
                    _ => Isolation::ReadCommitted,
                };
                open_ones[n] = Some(Open {
                    transaction: engine.begin_for(&sessions[n], isolation, false),
                    own: Writes::new(),
                    fixed: None,
                    savepoint: None,
                });
                continue;
            };
            let id = random.below(60) as i32;
            let a = random.below(1000) as i32;
            let step = random.below(20);
            // A fixed snapshot is taken by the first statement, not by what is none.
            let view = if step <= 10 { session.view(&committed.rows) } else { Rows::new() };
            if trace {
                let isolation = session.transaction.isolation();
                println!("life {life} session {n} {isolation:?} step {step} id {id} a {a}");
            }
            let transaction = &mut session.transaction;
            let mut alive = true;
            // A statement that fails ends the transaction; one that would wait is given up.
            let note = |result: Option<value::Result<bool>>, alive: &mut bool| match result {
                Some(Ok(done)) => done,
                Some(Err(_)) => {
                    *alive = false;
                    false
                }
                None => false,
            };
            match step {
                0..=3 => {
                    let result = once(async {
                        transaction.statement_snapshot(true)?;
                        transaction.insert(&t.table, &values(id, a)).await.map(|_| true)
                    });
                    if note(result, &mut alive) {
                        // Under a fixed snapshot the key may be one that was deleted since: then it would
                        // see both rows, as PostgreSQL does; the model has no words for that.
                        let doubled = view.contains_key(&id);
                        assert!(!doubled || session.fixed.is_some(), "seed {seed}: {id} was there");
                        session.own.insert(id, Some(a));
                        alive = !doubled;
                    }
                }
                4..=6 => {
                    if note(once(change(&t, transaction, id, Some((id, a)))), &mut alive) {
                        session.own.insert(id, Some(a));
                        // And back again, now and then: the old index entry counts as before.
                        if let (0, Some(before)) = (random.below(3), view.get(&id))
                            && note(once(change(&t, transaction, id, Some((id, *before)))), &mut alive)
                        {
                            session.own.insert(id, Some(*before));
                        }
                    }
                }
                7 => {
                    let to = random.below(60) as i32;
                    if note(once(change(&t, transaction, id, Some((to, a)))), &mut alive) {
                        session.own.insert(id, None);
                        session.own.insert(to, Some(a));
                        alive = to == id || !view.contains_key(&to);
                    }
                }
                8..=9 => {
                    if note(once(change(&t, transaction, id, None)), &mut alive) {
                        session.own.insert(id, None);
                    }
                }
                10 => match transaction.statement_snapshot(true) {
                    Ok(snapshot) if failing && !readable(&t, &snapshot) => alive = false,
                    Ok(snapshot) => {
                        assert_eq!(rows(&t, &snapshot), view, "seed {seed}: a statement's view");
                        kept.push((snapshot, view));
                        if kept.len() > 5 {
                            let (snapshot, then) = kept.swap_remove(random.below(5) as usize);
                            if !disk.is_off() && !failing {
                                assert_eq!(rows(&t, &snapshot), then, "seed {seed}: a snapshot moved");
                            }
                        }
                    }
                    Err(_) => alive = false,
                },
                11 => {
                    // Views are fixed by then, so that undoing does not undo the snapshot.
                    let savepoint = transaction.savepoint();
                    session.savepoint = Some((savepoint, session.own.clone()));
                }
                12 => {
                    if let Some((savepoint, own)) = session.savepoint.take() {
                        transaction.rollback_to(savepoint);
                        transaction.release(savepoint);
                        session.own = own;
                        // Snapshots of undone commands must not be looked at any more.
                        kept.clear();
                    }
                }
                13 => {
                    if random.below(2) == 0
                        && let Err(error) = engine.checkpoint()
                    {
                        assert!(disk.is_off() || failing, "seed {seed}: a checkpoint failed: {error}");
                        // Who looks at the old base is told so.
                        kept.clear();
                    }
                }
                14 => alive = false,
                15 => {
                    // Somebody reads and is answered: what was seen must not be undone.
                    let reader = engine.new_session(9, 5);
                    let mut looking = engine.begin_for(&reader, Isolation::ReadCommitted, true);
                    let snapshot = looking.statement_snapshot(false).unwrap();
                    // It began after any error, so it reads the base that was opened anew.
                    let seen = rows(&t, &snapshot);
                    let place = history.iter().rposition(|state| state.rows == seen);
                    let place = place.unwrap_or_else(|| panic!("seed {seed}: a reader saw {seen:?}"));
                    drop((snapshot, looking));
                    if let Some(Ok(())) = once(reader.settled()) {
                        // The oldest state that looks like it: equal ones cannot be told apart.
                        let place = history[..=place]
                            .iter()
                            .rposition(|state| state.rows != seen)
                            .map_or(0, |before| before + 1);
                        acknowledged = acknowledged.max(place);
                    }
                }
                19 => {
                    // Many rows, most of which go to the base before the end.
                    if random.below(3) == 0 && committed.rows.len() < 250 {
                        // A command for each, or one for all, which stages them.
                        let one = random.below(2) == 0;
                        for n in 0..1 + random.below(119) as i32 {
                            largest_id += 1;
                            let id = largest_id;
                            let result = once(async {
                                if n == 0 || !one {
                                    transaction.statement_snapshot(true)?;
                                }
                                transaction.insert(&t.table, &values(id, n)).await.map(|_| true)
                            });
                            if !note(result, &mut alive) {
                                alive = false;
                                break;
                            }
                            session.own.insert(id, Some(n));
                        }
                        if session.fixed.is_none() && transaction.isolation() != Isolation::ReadCommitted {
                            // The first statement took the snapshot.
                            session.fixed = Some(committed.rows.clone());
                        }
                    }
                }
                16 => {
                    if let Ok(number) = transaction.sequence_next(&numbers) {
                        assert!(number > largest_number, "seed {seed}: {number} was given out before");
                        if let Some(Ok(())) = once(sessions[n].settled()) {
                            largest_number = number;
                        }
                    }
                }
                _ => {
                    let Open { transaction, own, .. } = session;
                    let state = State { rows: with(&committed.rows, &own), ..committed };
                    match transaction.commit() {
                        Ok(commit) => {
                            // Nothing logged: nothing acknowledged but what the session saw.
                            let logged = commit.lsn.is_some();
                            if logged {
                                history.push(state);
                                report.commits += 1;
                            }
                            let place = history.len() - 1;
                            if random.below(3) > 0 && commit.durable.wait().is_ok() && logged {
                                acknowledged = acknowledged.max(place);
                            }
                        }
                        // Whether it reached the disk is open when it failed after it was logged.
                        Err(error) => {
                            assert_ne!(error.state(), SqlState::INTERNAL_ERROR, "seed {seed}: {error}");
                            if disk.is_off() || engine.sealed().is_some() {
                                history.push(state);
                            }
                        }
                    }
                    continue;
                }
            }
            if alive {
                open_ones[n] = Some(session);
            } else {
                // Rows of a transaction that is undone are gone for its own snapshots too.
                kept.clear();
            }
        }
        drop(kept);
        drop(open_ones);
        if last {
            engine.close().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            acknowledged = history.len() - 1;
        } else {
            report.errors += u64::from(failing);
            report.crashes += 1;
        }
        // First the power, then the process with all that belongs to it: nothing it does on its way out counts.
        disk.cut();
        drop((sessions, engine));
        disk.crash();
        let mut cuts = if last { 0 } else { random.below(4) };
        engine = loop {
            if cuts > 0 {
                disk.fail(Fault::PowerCut(random.below(25)));
            }
            match Engine::open(options(&disk)) {
                Ok(engine) if !disk.is_off() => {
                    disk.heal();
                    break engine;
                }
                Ok(engine) => {
                    disk.cut();
                    drop(engine);
                    disk.crash();
                }
                Err(error) => {
                    assert!(disk.is_off(), "seed {seed}, life {life}: {error}");
                    disk.crash();
                }
            }
            cuts -= 1;
            report.crashes += 1;
            report.in_recovery += 1;
        };
        t = Fixture::of(&engine);
        let found = State { rows: rows(&t, &engine.snapshot()), tables: extra_tables(&engine) };
        let place = (acknowledged..history.len()).rev().find(|place| history[*place] == found);
        let Some(place) = place else {
            panic!("seed {seed}, life {life}: {found:?} is none of {:?}", &history[acknowledged..]);
        };
        assert_eq!(engine.statistics(&t.table).rows, found.rows.len() as u64, "seed {seed}: row count");
        history.truncate(place + 1);
        acknowledged = place;
    }
    report.trace = disk.trace();
    report
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn acknowledged_commits_survive() {
    let points = variable("CRASH_POINTS", 2000);
    let first = variable("SEED", 1);
    let mut total = Report::default();
    let mut seed = first;
    while total.crashes < points {
        let report = catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
            println!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        total.crashes += report.crashes;
        total.in_recovery += report.in_recovery;
        total.errors += report.errors;
        total.commits += report.commits;
        seed += 1;
    }
    println!(
        "seeds {first} to {}: {} crashes, {} of them during recovery, {} after an I/O error; {} commits",
        seed - 1,
        total.crashes,
        total.in_recovery,
        total.errors,
        total.commits
    );
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 4, 5] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// The seeds it takes to find a mistake; `None`: not found.
fn hunt(bug: Bug) -> Option<u64> {
    (1..=400).find(|seed| catch_unwind(AssertUnwindSafe(|| planted::with(Some(bug), || run(*seed)))).is_err())
}

#[test]
fn planted_mistakes_are_found() {
    // What a crash of the simulated disk cannot bring about is found by damage (`bits`) and by failing disks.
    let elsewhere = [Bug::TruncateAtDamage];
    let mut missed = Vec::new();
    for bug in planted::ALL {
        match hunt(bug) {
            Some(seeds) => println!("{bug:?}: found after {seeds} seeds"),
            None if elsewhere.contains(&bug) => {}
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
