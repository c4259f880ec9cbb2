//! How long commits take while a large checkpoint runs: single-row updates one after the other, each waited for, first
//! with nothing beside them, then beside the checkpoint of 300,000 new rows.
//!
//! `cargo run --release -p engine --example checkpoint [directory] [rounds]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::catalog::{Change, Column, Index, IndexKey, IndexKind, IndexState, Object, Persistence, Table};
use engine::disk::{Priority, set_thread_priority};
use engine::metrics::BUCKETS;
use engine::{Engine, Isolation, Options, RowLockMode, SessionState, Wait};
use futures::executor::block_on;
use value::{Datum, Error, Result};

/// Rows that every checkpoint writes, in bytes about 200 MB with their two indexes.
const ROWS: i32 = 300_000;
/// Rows that are updated.
const HOT: i32 = 1000;

fn column(number: i16, name: &str, type_oid: u32) -> Column {
    Column {
        number,
        name: name.to_owned(),
        type_oid,
        typmod: -1,
        not_null: false,
        default: None,
        identity: None,
        generated: false,
        dropped: false,
        hidden: false,
        missing: None,
        comment: None,
        acl: None,
    }
}

fn index(engine: &Engine, table: &Table, name: &str, column: i16, unique: bool) -> Arc<Index> {
    Arc::new(Index {
        oid: engine.new_oid(),
        database: 5,
        schema: 2200,
        table: table.oid,
        name: name.to_owned(),
        owner: 10,
        storage: engine.new_storage_id(),
        kind: IndexKind::BTree,
        keys: vec![IndexKey { column, descending: false, nulls_first: false, expression: None }],
        include: Vec::new(),
        unique,
        primary: unique,
        nulls_distinct: true,
        predicate: None,
        state: IndexState::Ready,
        comment: None,
    })
}

struct Bench {
    engine: Engine,
    session: SessionState,
    table: Arc<Table>,
    key: Arc<Index>,
}

impl Bench {
    fn insert(&self, ids: std::ops::Range<i32>) -> Result<()> {
        let ids: Vec<i32> = ids.collect();
        for ids in ids.chunks(1000) {
            let mut transaction = self.engine.begin_for(&self.session, Isolation::ReadCommitted, false);
            transaction.statement_snapshot(true)?;
            for id in ids {
                let spread = (*id as u32).wrapping_mul(2_654_435_761) as i32;
                let row = [Datum::Int4(*id), Datum::Int4(spread), Datum::text(format!("{id:0500}"))];
                block_on(transaction.insert(&self.table, &row))?;
            }
            transaction.commit()?.durable.wait()?;
        }
        Ok(())
    }

    fn update(&self, id: i32) -> Result<()> {
        let mut transaction = self.engine.begin_for(&self.session, Isolation::ReadCommitted, false);
        let snapshot = transaction.statement_snapshot(true)?;
        let bytes = Index::encode_prefix(&self.table, &self.key, &[Datum::Int4(id)]);
        let Some((row, old)) = snapshot.index_get(&self.table, &self.key, &bytes)? else {
            return Err(Error::internal("a row is missing"));
        };
        block_on(transaction.lock_row(&self.table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot))?;
        let new = [old.get(0), old.get(1), Datum::text("new")];
        block_on(transaction.update(&self.table, row, &old, &new))?;
        drop(snapshot);
        transaction.commit()?.durable.wait()
    }

    /// Updates until told to stop; tells how long they took.
    fn commits(&self, what: &str, stop: impl Fn() -> bool) -> Result<()> {
        let mut times: Vec<Duration> = Vec::new();
        let before = self.engine.metrics().wal_sync.counts();
        while !stop() {
            let started = Instant::now();
            self.update(times.len() as i32 % HOT)?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let after = self.engine.metrics().wal_sync.counts();
        let syncs: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let slower = |seconds: f64| -> u64 {
            let above = BUCKETS.iter().position(|bound| *bound > seconds).unwrap_or(BUCKETS.len());
            syncs[above..].iter().sum()
        };
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        println!(
            "{what}: {} commits, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
            times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            times.last().copied().unwrap_or_default()
        );
        let parts = [0.0002, 0.001, 0.005, 0.02, 0.1].map(|seconds| (seconds, slower(seconds)));
        println!("  writes of the log: {}, slower than (seconds): {parts:?}", syncs.iter().sum::<u64>());
        Ok(())
    }
}

fn main() -> Result<()> {
    let directory = match std::env::args().nth(1) {
        Some(directory) => directory.into(),
        None => std::env::temp_dir().join(format!("startdb-checkpoint-{}", std::process::id())),
    };
    let rounds: i32 = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut options = Options::new(&directory);
    options.manual_checkpoints = true;
    options.memtable_size = 1 << 30;
    let engine = Engine::open(options)?;
    let table = Arc::new(Table {
        oid: engine.new_oid(),
        database: 5,
        schema: 2200,
        name: "t".to_owned(),
        owner: 10,
        storage: engine.new_storage_id(),
        persistence: Persistence::Permanent,
        on_commit: Default::default(),
        columns: vec![column(1, "id", 23), column(2, "spread", 23), column(3, "s", 25)],
        constraints: Vec::new(),
        acl: None,
        comment: None,
        options: BTreeMap::new(),
    });
    let key = index(&engine, &table, "t_pkey", 1, true);
    let spread = index(&engine, &table, "t_spread", 2, false);
    let session = engine.new_session(1, 5);
    let mut transaction = engine.begin_for(&session, Isolation::ReadCommitted, false);
    transaction.change_catalog(vec![
        Change::Put(Object::Table(table.clone())),
        Change::Put(Object::Index(key.clone())),
        Change::Put(Object::Index(spread)),
    ])?;
    transaction.commit()?.durable.wait()?;
    let bench = Bench { engine: engine.clone(), session, table, key };
    bench.insert(0..HOT)?;
    for round in 0..rounds {
        let first = HOT + round * ROWS;
        bench.insert(first..first + ROWS)?;
        let started = Instant::now();
        bench.commits("nothing beside them", || started.elapsed() > Duration::from_secs(2))?;
        let written = engine.metrics().disk_write_bytes.get() - engine.metrics().wal_bytes.get();
        let done = AtomicBool::new(false);
        let took = std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| {
                set_thread_priority(Priority::Background);
                let started = Instant::now();
                let result = engine.checkpoint();
                done.store(true, Ordering::Relaxed);
                result.map(|()| started.elapsed())
            });
            bench.commits("beside a checkpoint", || done.load(Ordering::Relaxed))?;
            checkpoint.join().map_err(|_| Error::internal("the checkpoint panicked"))?
        })?;
        let written = engine.metrics().disk_write_bytes.get() - engine.metrics().wal_bytes.get() - written;
        println!("checkpoint: {took:?}, {} MB written", written >> 20);
    }
    engine.close()
}
