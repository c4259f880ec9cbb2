//! Nanoseconds per operation on one thread: point reads through a unique index, with the row in the memtable and
//! in the base, row locks, and commits of single-row updates (waited for, and not).
//!
//! `cargo run --release -p engine --example point [directory]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use engine::catalog::{Change, Column, Index, IndexKey, IndexKind, IndexState, Object, Persistence, Table};
use engine::{Engine, Isolation, LockTag, Options, RowLock, RowLockMode, Wait};
use futures::executor::block_on;
use value::{Datum, Error, Result};

const ROWS: i32 = 100_000;

fn column(number: i16, name: &str) -> Column {
    Column {
        number,
        name: name.to_owned(),
        type_oid: 23,
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

fn measure(what: &str, count: u32, mut run: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let started = Instant::now();
    for n in 0..count {
        run(n)?;
    }
    println!("{what}: {} ns", started.elapsed().as_nanos() / u128::from(count));
    Ok(())
}

fn main() -> Result<()> {
    let directory = match std::env::args().nth(1) {
        Some(directory) => directory.into(),
        None => std::env::temp_dir().join(format!("startdb-point-{}", std::process::id())),
    };
    let engine = Engine::open(Options::new(&directory))?;
    let table = Arc::new(Table {
        oid: engine.new_oid(),
        database: 5,
        schema: 2200,
        name: "accounts".to_owned(),
        owner: 10,
        storage: engine.new_storage_id(),
        persistence: Persistence::Permanent,
        on_commit: Default::default(),
        columns: ["id", "branch", "balance"].iter().zip(1..).map(|(name, n)| column(n, name)).collect(),
        constraints: Vec::new(),
        acl: None,
        comment: None,
        options: BTreeMap::new(),
    });
    let key = Arc::new(Index {
        oid: engine.new_oid(),
        database: 5,
        schema: 2200,
        table: table.oid,
        name: "accounts_pkey".to_owned(),
        owner: 10,
        storage: engine.new_storage_id(),
        kind: IndexKind::BTree,
        keys: vec![IndexKey { column: 1, descending: false, nulls_first: false, expression: None }],
        include: Vec::new(),
        unique: true,
        primary: true,
        nulls_distinct: true,
        predicate: None,
        state: IndexState::Ready,
        comment: None,
    });
    let session = engine.new_session(1, 5);
    let mut transaction = engine.begin_for(&session, Isolation::ReadCommitted, false);
    transaction.change_catalog(vec![
        Change::Put(Object::Table(table.clone())),
        Change::Put(Object::Index(key.clone())),
    ])?;
    transaction.statement_snapshot(true)?;
    let started = Instant::now();
    for id in 0..ROWS {
        let row = [Datum::Int4(id), Datum::Int4(1), Datum::Int4(0)];
        block_on(transaction.insert(&table, &row))?;
    }
    transaction.commit()?.durable.wait()?;
    println!("insert: {} ns", started.elapsed().as_nanos() / ROWS as u128);

    let spread = |n: u32| (n.wrapping_mul(2_654_435_761) % ROWS as u32) as i32;
    let read = |n: u32| {
        let mut transaction = engine.begin_for(&session, Isolation::ReadCommitted, true);
        let snapshot = transaction.statement_snapshot(false)?;
        let bytes = Index::encode_prefix(&table, &key, &[Datum::Int4(spread(n))]);
        let found = snapshot.index_get(&table, &key, &bytes)?;
        found.map(|_| ()).ok_or_else(|| Error::internal("a row is missing"))
    };
    measure("point read, memtable", 200_000, read)?;
    engine.checkpoint()?;
    measure("point read, base", 200_000, read)?;

    let mut transaction = engine.begin_for(&session, Isolation::ReadCommitted, false);
    let snapshot = transaction.statement_snapshot(true)?;
    measure("row lock, first", ROWS as u32, |n| {
        let row = engine::RowId(u64::from(n));
        match transaction.lock_row_now(&table, row, RowLockMode::NoKeyUpdate, &snapshot) {
            Some(Ok(RowLock::Granted)) => Ok(()),
            _ => Err(Error::internal("a free row is not granted")),
        }
    })?;
    let held = engine.locks().listing().iter().filter(|lock| matches!(lock.tag, LockTag::Row { .. })).count();
    assert_eq!(held, ROWS as usize);
    drop(snapshot);
    let started = Instant::now();
    transaction.rollback();
    println!("row lock, release: {} ns", started.elapsed().as_nanos() / ROWS as u128);

    let update = |n: u32, wait: bool| {
        let mut transaction = engine.begin_for(&session, Isolation::ReadCommitted, false);
        let snapshot = transaction.statement_snapshot(true)?;
        let bytes = Index::encode_prefix(&table, &key, &[Datum::Int4(spread(n))]);
        let Some((row, old)) = snapshot.index_get(&table, &key, &bytes)? else {
            return Err(Error::internal("a row is missing"));
        };
        block_on(transaction.lock_row(&table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot))?;
        let new = [old.get(0), old.get(1), Datum::Int4(n as i32)];
        block_on(transaction.update(&table, row, &old, &new))?;
        drop(snapshot);
        let commit = transaction.commit()?;
        if wait { commit.durable.wait() } else { Ok(()) }
    };
    measure("update and commit, not waited for", 200_000, |n| update(n, false))?;
    measure("update and commit, durable", 2_000, |n| update(n, true))?;
    let scan = || {
        let snapshot = engine.snapshot();
        let mut scan = snapshot.scan(&table, None)?;
        let (mut batch, mut rows) = (engine::RowBatch::new(), 0);
        while scan.next(&mut batch)? {
            rows += batch.len();
        }
        Ok::<usize, Error>(rows)
    };
    let started = Instant::now();
    let rows = scan()?;
    println!(
        "scan over {rows} rows with changes above: {} ns a row",
        started.elapsed().as_nanos() / rows as u128
    );
    let started = Instant::now();
    engine.checkpoint()?;
    println!("checkpoint: {:?}", started.elapsed());
    let started = Instant::now();
    let rows = scan()?;
    println!("scan over {rows} rows of the base: {} ns a row", started.elapsed().as_nanos() / rows as u128);
    engine.close()
}
