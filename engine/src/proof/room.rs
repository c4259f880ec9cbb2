//! Room on the disk: what a checkpoint takes is never more than what was left for it, and a disk that is full is written to
//! again when enough was dropped.
//!
//! Random work of one thread, decided by a seed (`SEED`, otherwise `ROOM_SEEDS` of them).

use std::collections::BTreeMap;

use futures::executor::block_on;
use value::{Datum, Result, SqlState};

use super::crash::{Random, options};
use super::setup::{self, Fixture, int};
use crate::catalog::{Change, Object, Persistence};
use crate::disk::SimulatedDisk;
use crate::sync::Arc;
use crate::*;

/// A table and what must be in it: `a` and the length of `s` by id.
struct Known {
    t: Fixture,
    /// Longest `s`.
    longest: u64,
    rows: BTreeMap<i32, (i32, usize)>,
}

struct World {
    disk: SimulatedDisk,
    engine: Engine,
    random: Random,
    tables: Vec<Known>,
    next_id: i32,
    made: u32,
}

impl World {
    fn new(seed: u64, with: impl Fn(&SimulatedDisk) -> Options) -> World {
        let disk = SimulatedDisk::new(seed);
        let engine = setup::open(with(&disk));
        World { disk, engine, random: Random::new(seed), tables: Vec::new(), next_id: 0, made: 0 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// A length: mostly short, now and then up to the longest of the table.
    fn len(&mut self, place: usize) -> usize {
        let longest = match self.below(4) {
            0 => self.tables[place].longest,
            _ => self.tables[place].longest.min(60),
        };
        self.below(longest + 1) as usize
    }

    fn create(&mut self) -> Result<()> {
        self.made += 1;
        let table = setup::table(&self.engine, &format!("t{}", self.made), Persistence::Permanent);
        let key = setup::index(&self.engine, &table, &format!("t{}_pkey", self.made), &[1], true);
        let a = setup::index(&self.engine, &table, &format!("t{}_a", self.made), &[2], false);
        let (table, key, a) = (Arc::new(table), Arc::new(key), Arc::new(a));
        let mut objects =
            vec![Object::Table(table.clone()), Object::Index(key.clone()), Object::Index(a.clone())];
        for more in 0..self.below(3) {
            let name = format!("t{}_{more}", self.made);
            let index = setup::index(&self.engine, &table, &name, &[2, 1], false);
            objects.push(Object::Index(Arc::new(index)));
        }
        let mut transaction = self.engine.begin(Isolation::ReadCommitted, false);
        transaction.change_catalog(objects.into_iter().map(Change::Put).collect())?;
        transaction.commit()?.durable.wait()?;
        let longest = [60, 1500, 20_000][self.below(3) as usize];
        self.tables.push(Known { t: Fixture { table, key, a }, longest, rows: BTreeMap::new() });
        Ok(())
    }

    fn drop_table(&mut self, place: usize) -> Result<()> {
        let table = &self.tables[place].t.table;
        let catalog = self.engine.catalog();
        let mut oids: Vec<_> = catalog.indexes(table.oid).map(|index| index.oid).collect();
        oids.push(table.oid);
        let mut transaction = self.engine.begin(Isolation::ReadCommitted, false);
        transaction.change_catalog(oids.into_iter().map(Change::Drop).collect())?;
        transaction.commit()?.durable.wait()?;
        self.tables.swap_remove(place);
        Ok(())
    }

    /// One transaction of up to `most` rows; what it made of them is known only when it has committed.
    fn write(&mut self, most: u64) -> Result<()> {
        let place = self.below(self.tables.len() as u64) as usize;
        let kind = self.below(10);
        let mut rows = self.tables[place].rows.clone();
        let t = self.tables[place].t.clone();
        let mut transaction = self.engine.begin(Isolation::ReadCommitted, false);
        let text = |len: usize| Datum::text("x".repeat(len));
        for _ in 0..=self.below(most) {
            let (a, len) = (self.below(1000) as i32, self.len(place));
            let snapshot = transaction.statement_snapshot(true)?;
            if kind < 4 || rows.is_empty() {
                self.next_id += 1;
                let row = [Datum::Int4(self.next_id), Datum::Int4(a), text(len)];
                block_on(transaction.insert(&t.table, &row))?;
                rows.insert(self.next_id, (a, len));
                continue;
            }
            let from = self.below(self.next_id as u64) as i32;
            let Some((&id, &(old_a, old_len))) = rows.range(from..).next() else { continue };
            let (row, old) = t.find(&snapshot, id).expect("it is known");
            let lock = transaction.lock_row(&t.table, row, RowLockMode::Update, Wait::Block, &snapshot);
            assert!(matches!(block_on(lock)?, RowLock::Granted));
            let (a, len) = match kind {
                4 | 5 => (a, old_len),
                6 | 7 => (old_a, len),
                8 => (a, len),
                _ => {
                    block_on(transaction.delete(&t.table, row, &old))?;
                    rows.remove(&id);
                    continue;
                }
            };
            block_on(transaction.update(&t.table, row, &old, &[old.get(0), Datum::Int4(a), text(len)]))?;
            rows.insert(id, (a, len));
        }
        transaction.commit()?.durable.wait()?;
        self.tables[place].rows = rows;
        Ok(())
    }

    /// The table with the most text.
    fn largest(&self) -> usize {
        let size = |known: &Known| known.rows.values().map(|(_, len)| len + 50).sum::<usize>();
        (0..self.tables.len()).max_by_key(|place| size(&self.tables[*place])).unwrap_or(0)
    }

    /// The power goes and comes back.
    fn crash(&mut self, seed: u64, with: impl Fn(&SimulatedDisk) -> Options) {
        self.disk.crash();
        self.engine = Engine::open(with(&self.disk)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }

    fn verify(&self) {
        let snapshot = self.engine.snapshot();
        for known in &self.tables {
            let by_index = known.t.rows(&snapshot);
            let mut found = BTreeMap::new();
            let mut scan = snapshot.scan(&known.t.table, None).unwrap();
            let mut batch = RowBatch::new();
            while scan.next(&mut batch).unwrap() {
                for row in &batch.rows {
                    let Datum::Text(s) = row.get(2) else { panic!("a text") };
                    found.insert(int(&row.get(0)), (int(&row.get(1)), s.len()));
                }
            }
            assert_eq!(by_index.len(), found.len());
            assert!(found == known.rows, "table {}", known.t.table.name);
        }
    }
}

/// So many bytes in all; nobody believes any more that there are more.
fn fill_up(disk: &SimulatedDisk, capacity: u64) {
    disk.set_capacity(Some(capacity));
    std::thread::sleep(2 * crate::disk::room::LOOK);
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ROOM_SEEDS").unwrap_or(5)).collect(),
    }
}

/// Without a reserve. Every other seed spills nothing.
fn tight(disk: &SimulatedDisk, seed: u64) -> Options {
    let options = options(disk);
    let spill_size = if seed.is_multiple_of(2) { 64 << 20 } else { options.spill_size };
    Options { disk_reserve: 0, spill_size, ..options }
}

/// Each checkpoint has as many bytes as it was reckoned to take, and not one more.
#[test]
fn a_checkpoint_takes_no_more_than_was_left_for_it() {
    for seed in seeds() {
        let mut world = World::new(seed, |disk| tight(disk, seed));
        world.create().unwrap();
        // Who looks at an old base keeps its pages from being used again.
        let mut held = None;
        let large = [1, 20, 300][world.below(3) as usize];
        for round in 0..30 {
            match world.below(8) {
                0 | 1 => held = Some(world.engine.snapshot()),
                2 => held = None,
                _ => {}
            }
            for _ in 0..=world.below(12) {
                match world.below(30) {
                    0 if world.tables.len() < 4 => world.create().unwrap(),
                    1 if world.tables.len() > 1 => {
                        let place = world.below(world.tables.len() as u64) as usize;
                        world.drop_table(place).unwrap();
                    }
                    _ => world.write(large).unwrap(),
                }
            }
            let room = world.engine.0.checkpoint_room(0);
            world.disk.most_used();
            let before = world.disk.used();
            world.disk.set_capacity(Some(before + room));
            if let Err(error) = world.engine.checkpoint() {
                panic!("seed {seed}, round {round}: {room} bytes, {error}");
            }
            assert!(world.disk.most_used() <= before + room, "seed {seed}, round {round}");
            world.disk.set_capacity(None);
        }
        drop(held);
        world.verify();
    }
}

/// A small disk is filled until nothing more is accepted, then tables are dropped, again and again.
///
/// Checkpoints always go through; after drops, plain writes do; nothing is lost.
#[test]
fn a_full_disk_is_written_to_again_when_enough_was_dropped() {
    for seed in seeds() {
        let small = |disk: &SimulatedDisk| Options { disk_reserve: 1 << 20, ..tight(disk, seed) };
        let mut world = World::new(seed, small);
        let is_full = |error: &value::Error, what: &str| {
            assert_eq!(error.state(), SqlState::DISK_FULL, "seed {seed}, {what}: {error}");
        };
        let checkpoint = |world: &World, what: &str| {
            if let Err(error) = world.engine.checkpoint() {
                panic!("seed {seed}, a checkpoint {what}: {error}");
            }
        };
        for _ in 0..3 {
            world.create().unwrap();
        }
        checkpoint(&world, "at first");
        let capacity = world.disk.used() + (4 << 20) + world.below(8 << 20);
        fill_up(&world.disk, capacity);
        for round in 0..3 {
            // Full: refused, also after a checkpoint, several times in turn; in the end even single rows.
            for most in [40, 1] {
                let mut in_turn = 0;
                // Changes of what is there may go on for ever.
                for _ in 0..1500 {
                    let done = match world.below(40) {
                        0 if most > 1 && world.tables.len() < 6 => world.create(),
                        _ => world.write(most),
                    };
                    match done {
                        Ok(()) => in_turn = 0,
                        Err(error) => {
                            is_full(&error, "a write");
                            in_turn += 1;
                            checkpoint(&world, "of a full disk");
                        }
                    }
                    if in_turn > 4 {
                        break;
                    }
                    if world.below(50) == 0 {
                        checkpoint(&world, "in between");
                    }
                }
            }
            world.verify();
            if world.below(2) == 0 {
                world.crash(seed, small);
            }
            while world.tables.len() > 1 {
                let place = world.largest();
                // As a server does it: refused, it asks for a checkpoint and tries again.
                if let Err(error) = world.drop_table(place) {
                    is_full(&error, "a drop");
                    checkpoint(&world, "before a drop");
                    let done = world.drop_table(place);
                    done.unwrap_or_else(|error| panic!("seed {seed}, round {round}: a drop: {error}"));
                }
                checkpoint(&world, "after a drop");
            }
            for _ in 0..2 {
                world
                    .create()
                    .unwrap_or_else(|error| panic!("seed {seed}, round {round}: a new table: {error}"));
            }
            for n in 0..20 {
                if let Err(error) = world.write(1) {
                    is_full(&error, "a write after drops");
                    checkpoint(&world, "after a refusal");
                    world.write(1).unwrap_or_else(|error| panic!("seed {seed}, round {round}, {n}: {error}"));
                }
            }
            world.verify();
        }
        let World { disk, engine, .. } = world;
        engine.close().unwrap();
        drop(engine);
        let report = check(std::path::Path::new("/data"), Arc::new(disk)).unwrap();
        assert_eq!(report.findings, Vec::<String>::new(), "seed {seed}");
    }
}

/// The log has room of its own: when it is used up, that is what is said, and a checkpoint gives it back; the base may
/// be full without the log being refused a segment.
#[test]
fn the_log_lies_on_a_file_system_of_its_own() {
    let disk = SimulatedDisk::new(1);
    let log = std::path::Path::new("/data/wal");
    disk.set_apart(log, 1 << 20);
    let reserve = 256 << 10;
    let engine = setup::open(Options { disk_reserve: reserve, spill_size: 64 << 20, ..options(&disk) });
    let t = Fixture::of(&engine);
    let write = |id: i32| -> Result<()> {
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        transaction.statement_snapshot(true)?;
        block_on(
            transaction.insert(&t.table, &[Datum::Int4(id), Datum::Int4(0), Datum::text("x".repeat(1000))]),
        )?;
        transaction.commit()?.durable.wait()
    };
    let mut id = 0;
    for _ in 0..3 {
        let from = id;
        let error = loop {
            assert!(id < from + 10_000, "the log does not get full");
            match write(id) {
                Ok(()) => id += 1,
                Err(error) => break error,
            }
        };
        assert!(id > from + 100, "{} rows", id - from);
        assert_eq!(error.state(), SqlState::DISK_FULL);
        assert!(
            error.to_string().contains("a log segment") && error.to_string().contains("/data/wal"),
            "{error}"
        );
        engine.checkpoint().unwrap();
    }
    // Now the other one is full: it is the checkpoint that has no room.
    fill_up(&disk, reserve + disk.used());
    disk.set_apart(log, 64 << 20);
    let error = loop {
        assert!(id < 20_000, "the base does not get full");
        match write(id) {
            Ok(()) => id += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("/data/base"), "{error}");
    assert_eq!(t.rows(&engine.snapshot()).len(), id as usize);
}
