//! What stays: restarts, checkpoints, definitions, sequences, temporary tables, indexes built later.

use std::sync::Arc;

use engine::catalog::{Change, Index, Object, Persistence, oid};
use engine::disk::{Fault, Operation, SimulatedDisk};
use engine::*;
use futures::executor::block_on;
use value::{Datum, SqlState, Type};

use crate::setup::*;

const RC: Isolation = Isolation::ReadCommitted;

#[test]
fn a_clean_restart_and_a_kill_keep_everything() {
    let disk = SimulatedDisk::new(3);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    let sequence = match engine.catalog().relation(oid::PUBLIC, "counter") {
        Some(Object::Sequence(sequence)) => sequence.clone(),
        _ => panic!("there is a sequence"),
    };
    fill(&engine, &t, (0..20_000).map(|id| (id, id % 100)));
    let mut transaction = engine.begin(RC, false);
    for n in 1..=5 {
        assert_eq!(transaction.sequence_next(&sequence).unwrap(), n);
    }
    commit(transaction);
    assert_eq!(engine.statistics(&t.table).rows, 20_000);
    engine.close().unwrap();
    drop(engine);

    let engine = open(options(&disk));
    assert!(!engine.is_new());
    assert_eq!(engine.snapshot().row_estimate(&t.table), 20_000);
    let mut transaction = engine.begin(RC, false);
    assert_eq!(transaction.sequence_state(&sequence), (5, true));
    assert_eq!(transaction.sequence_next(&sequence).unwrap(), 6);
    for id in (0..20_000).step_by(3) {
        block_on(t.set_a(&mut transaction, id, |a| a + 1000)).unwrap();
    }
    for id in (1..20_000).step_by(500) {
        block_on(t.delete(&mut transaction, id)).unwrap();
    }
    commit(transaction);
    let before = t.rows(&engine.snapshot());
    assert_eq!(before.len(), 20_000 - 40);
    drop(engine);
    disk.crash();

    let engine = open(options(&disk));
    assert_eq!(t.rows(&engine.snapshot()), before);
    assert_eq!(engine.statistics(&t.table).rows, 20_000 - 40);
    // Numbers may be skipped by a crash, never given again.
    let mut transaction = engine.begin(RC, false);
    assert!(transaction.sequence_next(&sequence).unwrap() > 6);
    commit(transaction);
    engine.checkpoint().unwrap();
    assert_eq!(t.rows(&engine.snapshot()), before);
    // Row ids go on where they were.
    let mut transaction = engine.begin(RC, false);
    let row = block_on(t.insert(&mut transaction, -1, 0)).unwrap();
    assert!(row >= RowId(20_000));
    commit(transaction);
}

#[test]
fn definitions_are_transactional() {
    let disk = SimulatedDisk::new(4);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..300).map(|id| (id, id / 2)));

    // A unique index over values that repeat.
    let mut transaction = engine.begin(RC, false);
    let twice = index(&engine, &t.table, "t_a_unique", &[2], true);
    transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(twice.clone())))]).unwrap();
    let error = transaction.build_index(&twice, &|| Ok(())).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.message(), "could not create unique index \"t_a_unique\"");
    assert_eq!(error.fields().detail.as_deref(), Some("Key (a)=(0) is duplicated."));
    drop(transaction);
    let version = engine.catalog().version;

    // One over (a, id), with rows of the same transaction.
    let both = index(&engine, &t.table, "t_a_id", &[2, 1], true);
    let mut transaction = engine.begin(RC, false);
    block_on(t.insert(&mut transaction, 1000, 7)).unwrap();
    transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(both.clone())))]).unwrap();
    let stopped = || Err(value::Error::new(SqlState::QUERY_CANCELED, "stopped"));
    let error = transaction.build_index(&both, &stopped).unwrap_err();
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    transaction.build_index(&both, &|| Ok(())).unwrap();
    block_on(t.insert(&mut transaction, 1001, 7)).unwrap();
    assert_eq!(engine.catalog().version, version, "nobody else sees it");
    assert!(transaction.catalog().index(both.oid).is_some());
    commit(transaction);
    assert!(engine.catalog().version > version);
    let seven = |snapshot: &Snapshot| {
        let prefix = Index::encode_prefix(&t.table, &both, &[Datum::Int4(7)]);
        let mut scan = snapshot.index_scan(&t.table, &both, KeyRange::prefix(prefix), true).unwrap();
        let mut batch = RowBatch::new();
        let mut found = Vec::new();
        while scan.next(&mut batch).unwrap() {
            found.extend(batch.rows.iter().map(|row| int(&row.get(0))));
        }
        found
    };
    assert_eq!(seven(&engine.snapshot()), [1001, 1000, 15, 14]);
    drop(engine);
    disk.crash();
    let engine = open(options(&disk));
    assert_eq!(seven(&engine.snapshot()), [1001, 1000, 15, 14]);
    engine.checkpoint().unwrap();
    assert_eq!(seven(&engine.snapshot()), [1001, 1000, 15, 14]);

    // TRUNCATE: new storages; rolled back once, then kept.
    for keep in [false, true] {
        let mut transaction = engine.begin(RC, false);
        let catalog = transaction.catalog();
        let mut table = (**catalog.table(t.table.oid).unwrap()).clone();
        table.storage = engine.new_storage_id();
        let mut changes = vec![Change::Put(Object::Table(Arc::new(table)))];
        for index in catalog.indexes(t.table.oid) {
            let index = Index { storage: engine.new_storage_id(), ..(**index).clone() };
            changes.push(Change::Put(Object::Index(Arc::new(index))));
        }
        transaction.change_catalog(changes).unwrap();
        let catalog = transaction.catalog();
        let table = catalog.table(t.table.oid).unwrap();
        transaction.statement_snapshot(true).unwrap();
        block_on(transaction.insert(table, &values(5, 5))).unwrap();
        if keep {
            commit(transaction);
        }
        let t = Fixture::of(&engine);
        let expected = if keep { 1 } else { 302 };
        assert_eq!(t.rows(&engine.snapshot()).len(), expected);
        assert_eq!(engine.statistics(&t.table).rows, expected as u64);
    }
    engine.checkpoint().unwrap();
    drop(engine);
    disk.crash();
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    assert_eq!(t.rows(&engine.snapshot()), [(5, 5)].into());

    // DROP.
    let mut transaction = engine.begin(RC, false);
    let changes = [t.table.oid, t.key.oid, t.a.oid, both.oid].map(Change::Drop);
    transaction.change_catalog(changes.to_vec()).unwrap();
    commit(transaction);
    assert!(engine.catalog().table(t.table.oid).is_none());
    engine.close().unwrap();
    drop(engine);
    let engine = open(options(&disk));
    assert!(engine.catalog().table(t.table.oid).is_none());
    assert!(engine.new_oid() > both.oid);
}

#[test]
fn added_columns_read_as_their_default() {
    let disk = SimulatedDisk::new(5);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, [(1, 10), (2, 20)]);
    engine.checkpoint().unwrap();
    fill(&engine, &t, [(3, 30)]);
    let mut transaction = engine.begin(RC, false);
    let mut table = (*t.table).clone();
    let mut added = column(4, "extra", INT4);
    added.missing = Some("42".to_owned());
    table.columns.push(added);
    transaction.change_catalog(vec![Change::Put(Object::Table(Arc::new(table)))]).unwrap();
    commit(transaction);
    let t = Fixture::of(&engine);
    let snapshot = engine.snapshot();
    for id in 1..=3 {
        assert_eq!(int(&t.find(&snapshot, id).unwrap().1.get(3)), 42);
    }
    let mut transaction = engine.begin(RC, false);
    let snapshot = transaction.statement_snapshot(true).unwrap();
    let (row, old) = t.find(&snapshot, 2).unwrap();
    let _ = block_on(transaction.lock_row(&t.table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot));
    let new = [old.get(0), old.get(1), old.get(2), Datum::Int4(7)];
    block_on(transaction.update(&t.table, row, &old, &new)).unwrap();
    commit(transaction);
    assert_eq!(int(&t.find(&engine.snapshot(), 2).unwrap().1.get(3)), 7);
    // Replayed, the row has been changed with the new column, and others of the table without it.
    disk.crash();
    drop(engine);
    let engine = open(options(&disk));
    for (id, extra) in [(1, 42), (2, 7), (3, 42)] {
        assert_eq!(int(&t.find(&engine.snapshot(), id).unwrap().1.get(3)), extra);
    }
}

#[test]
fn temporary_tables_stay_with_their_session() {
    let disk = SimulatedDisk::new(6);
    let engine = open(options(&disk));
    let session = engine.new_session(1, 5);
    let logged = engine.wal_bytes();
    let mut transaction = engine.begin_for(&session, RC, false);
    let table = Arc::new(table(&engine, "temp", Persistence::Temporary));
    let key = Arc::new(index(&engine, &table, "temp_pkey", &[1], true));
    let changes = vec![Change::Put(Object::Table(table.clone())), Change::Put(Object::Index(key.clone()))];
    transaction.change_catalog(changes).unwrap();
    transaction.statement_snapshot(true).unwrap();
    for id in 0..100 {
        block_on(transaction.insert(&table, &values(id, id))).unwrap();
    }
    commit(transaction);
    assert_eq!(engine.wal_bytes(), logged, "nothing is logged");
    assert!(engine.catalog().table(table.oid).is_none());
    let temporary = Fixture { table: table.clone(), key: key.clone(), a: key.clone() };
    let mut transaction = engine.begin_for(&session, RC, false);
    assert!(transaction.catalog().table(table.oid).is_some());
    assert!(block_on(temporary.set_a(&mut transaction, 5, |a| a * 2)).unwrap());
    assert!(block_on(temporary.delete(&mut transaction, 6)).unwrap());
    let error = block_on(temporary.insert(&mut transaction, 7, 7)).unwrap_err();
    assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
    commit(transaction);
    engine.checkpoint().unwrap();
    let mut transaction = engine.begin_for(&session, RC, false);
    let snapshot = transaction.statement_snapshot(false).unwrap();
    assert_eq!(int(&temporary.find(&snapshot, 5).unwrap().1.get(1)), 10);
    assert!(temporary.find(&snapshot, 6).is_none());
    assert_eq!(snapshot.row_estimate(&table), 99);
    drop(snapshot);
    transaction.change_catalog(vec![Change::Drop(key.oid), Change::Drop(table.oid)]).unwrap();
    commit(transaction);
    assert!(session.temporary_objects().is_empty());
}

#[test]
fn columns_and_rows_of_a_scan_agree() {
    let engine = open(options(&SimulatedDisk::new(7)));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..9000).map(|id| (id, id * 2)));
    engine.checkpoint().unwrap();
    let mut transaction = engine.begin(RC, false);
    block_on(t.set_a(&mut transaction, 8500, |_| -1)).unwrap();
    block_on(t.delete(&mut transaction, 10)).unwrap();
    commit(transaction);
    let snapshot = engine.snapshot();
    let mut scan = snapshot.scan(&t.table, Some(RowId(5)..RowId(8600))).unwrap();
    let mut rows = 0;
    while let Some(batch) = scan.next_arrow(&[1], &[Type::new(INT4)], 1000, true).unwrap() {
        let values = batch.column(0).as_any().downcast_ref::<arrow::array::Int32Array>().unwrap();
        let ids = batch.column(1).as_any().downcast_ref::<arrow::array::UInt64Array>().unwrap();
        assert!(batch.num_rows() <= 1000);
        for (value, id) in values.iter().zip(ids.iter()) {
            let expected = if id == Some(8500) { -1 } else { id.unwrap() as i32 * 2 };
            assert_eq!(value, Some(expected));
            rows += 1;
        }
    }
    assert_eq!(rows, 8600 - 5 - 1);
}

#[test]
fn a_queue_stays_flat() {
    // Enqueue and dequeue without a checkpoint: the head of the index must not fill with dead entries.
    let engine = open(options(&SimulatedDisk::new(8)));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..10).map(|id| (id, id)));
    let session = engine.new_session(1, 5);
    let round = |n: i32| {
        let mut transaction = engine.begin_for(&session, RC, false);
        let snapshot = transaction.statement_snapshot(true).unwrap();
        let mut scan = snapshot.index_scan(&t.table, &t.key, KeyRange::all(), false).unwrap();
        let mut batch = RowBatch::new();
        assert!(scan.next(&mut batch).unwrap());
        let (row, old) = (batch.ids[0], batch.rows[0].clone());
        assert_eq!(int(&old.get(0)), n);
        let lock = block_on(transaction.lock_row(&t.table, row, RowLockMode::Update, Wait::Skip, &snapshot));
        assert!(matches!(lock, Ok(RowLock::Granted)));
        block_on(transaction.delete(&t.table, row, &old)).unwrap();
        block_on(transaction.insert(&t.table, &values(n + 10, n))).unwrap();
        commit(transaction);
    };
    let time = |from: i32| {
        let started = std::time::Instant::now();
        (from..from + 500).for_each(round);
        started.elapsed()
    };
    let early = time(0);
    (500..6000).for_each(round);
    let late = time(6000);
    assert!(late < early * 5 + std::time::Duration::from_millis(50), "{early:?} became {late:?}");
}

#[test]
fn a_failed_log_write_seals_the_engine() {
    let disk = SimulatedDisk::new(9);
    let engine = open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, [(1, 1)]);
    disk.fail(Fault::Once(Operation::Sync, 0, std::io::ErrorKind::Other));
    let mut transaction = engine.begin(RC, false);
    block_on(t.insert(&mut transaction, 2, 2)).unwrap();
    let error = transaction.commit().and_then(|commit| commit.durable.wait()).unwrap_err();
    assert_eq!(error.state(), SqlState::IO_ERROR);
    disk.heal();
    let mut transaction = engine.begin(RC, false);
    block_on(t.insert(&mut transaction, 3, 3)).unwrap();
    assert!(transaction.commit().is_err());
    assert!(engine.sealed().is_some());
    drop(engine);
    disk.crash();
    let engine = open(options(&disk));
    let rows = Fixture::of(&engine).rows(&engine.snapshot());
    assert_eq!(rows.get(&1), Some(&1));
    assert!(!rows.contains_key(&3));
}
