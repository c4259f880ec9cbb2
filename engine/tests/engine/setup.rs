//! A database with one table `t(id int4 primary key, a int4, s text)` and an index on `a`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::under_test::catalog::{
    Change, Column, Constraint, ConstraintKind, Database, Index, IndexKey, IndexKind, IndexState, Object,
    Persistence, Schema, Sequence, Table, oid,
};
use crate::under_test::disk::SimulatedDisk;
use crate::under_test::*;
use futures::executor::block_on;
use value::Datum;

pub const INT4: u32 = 23;
pub const TEXT: u32 = 25;

pub fn options(disk: &SimulatedDisk) -> Options {
    let mut options = Options::new(PathBuf::from("/data"));
    options.disk = Arc::new(disk.clone());
    options.wal_segment_size = 1 << 20;
    options.cache_size = 8 << 20;
    options.manual_checkpoints = true;
    options
}

pub fn column(number: i16, name: &str, type_oid: u32) -> Column {
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

pub fn index(engine: &Engine, table: &Table, name: &str, columns: &[i16], unique: bool) -> Index {
    Index {
        oid: engine.new_oid(),
        database: table.database,
        schema: table.schema,
        table: table.oid,
        name: name.to_owned(),
        owner: table.owner,
        storage: engine.new_storage_id(),
        kind: IndexKind::BTree,
        keys: columns
            .iter()
            .map(|column| IndexKey {
                column: *column,
                descending: false,
                nulls_first: false,
                expression: None,
            })
            .collect(),
        include: Vec::new(),
        unique,
        primary: unique,
        nulls_distinct: true,
        predicate: None,
        state: IndexState::Ready,
        comment: None,
    }
}

pub fn table(engine: &Engine, name: &str, persistence: Persistence) -> Table {
    Table {
        oid: engine.new_oid(),
        database: oid::POSTGRES_DATABASE,
        schema: oid::PUBLIC,
        name: name.to_owned(),
        owner: oid::BOOTSTRAP_SUPERUSER,
        storage: engine.new_storage_id(),
        persistence,
        columns: vec![column(1, "id", INT4), column(2, "a", INT4), column(3, "s", TEXT)],
        constraints: Vec::new(),
        acl: None,
        comment: None,
        options: BTreeMap::new(),
        on_commit: Default::default(),
    }
}

pub fn sequence(engine: &Engine) -> Sequence {
    Sequence {
        oid: engine.new_oid(),
        database: oid::POSTGRES_DATABASE,
        schema: oid::PUBLIC,
        name: "counter".to_owned(),
        owner: oid::BOOTSTRAP_SUPERUSER,
        type_oid: 20,
        start: 1,
        increment: 1,
        minimum: 1,
        maximum: i64::MAX,
        cache: 1,
        cycle: false,
        generation: 0,
        owned_by: None,
        acl: None,
        comment: None,
    }
}

/// Opens the database, making the catalog when it is new.
pub fn open(options: Options) -> Engine {
    let engine = Engine::open(options).expect("opens");
    if engine.is_new() {
        let mut table = table(&engine, "t", Persistence::Permanent);
        let key = index(&engine, &table, "t_pkey", &[1], true);
        let a = index(&engine, &table, "t_a", &[2], false);
        table.constraints.push(Constraint {
            oid: engine.new_oid(),
            name: "t_pkey".to_owned(),
            kind: ConstraintKind::Primary { index: key.oid },
            deferrable: false,
            initially_deferred: false,
            validated: true,
            comment: None,
        });
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        let objects = vec![
            Object::Database(Database {
                oid: oid::POSTGRES_DATABASE,
                name: "postgres".to_owned(),
                owner: oid::BOOTSTRAP_SUPERUSER,
                acl: None,
                settings: BTreeMap::new(),
                comment: None,
                is_template: false,
                allow_connections: true,
            }),
            Object::Schema(Schema {
                oid: oid::PUBLIC,
                database: oid::POSTGRES_DATABASE,
                name: "public".to_owned(),
                owner: oid::BOOTSTRAP_SUPERUSER,
                acl: None,
                comment: None,
            }),
            Object::Table(Arc::new(table)),
            Object::Index(Arc::new(key)),
            Object::Index(Arc::new(a)),
            Object::Sequence(Arc::new(sequence(&engine))),
        ];
        transaction.change_catalog(objects.into_iter().map(Change::Put).collect()).unwrap();
        transaction.commit().unwrap().durable.wait().unwrap();
    }
    engine
}

/// The table and its two indexes.
#[derive(Clone)]
pub struct Fixture {
    pub table: Arc<Table>,
    pub key: Arc<Index>,
    pub a: Arc<Index>,
}

impl Fixture {
    pub fn of(engine: &Engine) -> Fixture {
        let catalog = engine.catalog();
        let named = |name: &str| catalog.relation(oid::PUBLIC, name).cloned();
        match (named("t"), named("t_pkey"), named("t_a")) {
            (Some(Object::Table(table)), Some(Object::Index(key)), Some(Object::Index(a))) => {
                Fixture { table, key, a }
            }
            _ => panic!("the catalog is there"),
        }
    }

    pub fn find(&self, snapshot: &Snapshot, id: i32) -> Option<(RowId, Row)> {
        let key = Index::encode_prefix(&self.table, &self.key, &[Datum::Int4(id)]);
        snapshot.index_get(&self.table, &self.key, &key).unwrap()
    }

    /// `SET a = value WHERE id = ...` as READ COMMITTED and the others do it; whether a row was changed.
    pub async fn set_a(
        &self,
        transaction: &mut Transaction,
        id: i32,
        change: impl Fn(i32) -> i32,
    ) -> value::Result<bool> {
        let snapshot = transaction.statement_snapshot(true)?;
        let Some((row, mut old)) = self.find(&snapshot, id) else { return Ok(false) };
        match transaction.lock_row(&self.table, row, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot).await?
        {
            RowLock::Granted => {}
            RowLock::Moved(newest) => {
                // Re-check: the condition on the key still has to hold.
                if int(&newest.get(0)) != id {
                    return Ok(false);
                }
                old = newest;
            }
            RowLock::Deleted | RowLock::Skipped | RowLock::AlreadyChanged => return Ok(false),
        }
        let new = [old.get(0), Datum::Int4(change(int(&old.get(1)))), old.get(2)];
        transaction.update(&self.table, row, &old, &new).await?;
        Ok(true)
    }

    pub async fn set_id(&self, transaction: &mut Transaction, id: i32, to: i32) -> value::Result<bool> {
        let snapshot = transaction.statement_snapshot(true)?;
        let Some((row, mut old)) = self.find(&snapshot, id) else { return Ok(false) };
        match transaction.lock_row(&self.table, row, RowLockMode::Update, Wait::Block, &snapshot).await? {
            RowLock::Granted => {}
            RowLock::Moved(newest) if int(&newest.get(0)) == id => old = newest,
            _ => return Ok(false),
        }
        let new = [Datum::Int4(to), old.get(1), old.get(2)];
        transaction.update(&self.table, row, &old, &new).await?;
        Ok(true)
    }

    pub async fn delete(&self, transaction: &mut Transaction, id: i32) -> value::Result<bool> {
        let snapshot = transaction.statement_snapshot(true)?;
        let Some((row, mut old)) = self.find(&snapshot, id) else { return Ok(false) };
        match transaction.lock_row(&self.table, row, RowLockMode::Update, Wait::Block, &snapshot).await? {
            RowLock::Granted => {}
            RowLock::Moved(newest) if int(&newest.get(0)) == id => old = newest,
            _ => return Ok(false),
        }
        transaction.delete(&self.table, row, &old).await?;
        Ok(true)
    }

    pub async fn insert(&self, transaction: &mut Transaction, id: i32, a: i32) -> value::Result<RowId> {
        transaction.statement_snapshot(true)?;
        transaction.insert(&self.table, &values(id, a)).await
    }

    /// All rows as (id, a), by a table scan and by both indexes, which must agree.
    pub fn rows(&self, snapshot: &Snapshot) -> BTreeMap<i32, i32> {
        let mut rows = BTreeMap::new();
        let mut by_a = Vec::new();
        let mut scan = snapshot.scan(&self.table, None).unwrap();
        let mut batch = RowBatch::new();
        let mut last = None;
        while scan.next(&mut batch).unwrap() {
            for (id, row) in batch.ids.iter().zip(&batch.rows) {
                assert!(last < Some(*id), "row id order");
                last = Some(*id);
                assert!(rows.insert(int(&row.get(0)), int(&row.get(1))).is_none(), "a key occurs once");
                by_a.push((int(&row.get(1)), id.0));
            }
        }
        for backward in [false, true] {
            let mut keys: Vec<i32> = Vec::new();
            let mut scan = snapshot.index_scan(&self.table, &self.key, KeyRange::all(), backward).unwrap();
            while scan.next(&mut batch).unwrap() {
                keys.extend(batch.rows.iter().map(|row| int(&row.get(0))));
            }
            if backward {
                keys.reverse();
            }
            assert_eq!(keys, rows.keys().copied().collect::<Vec<_>>(), "primary key");
        }
        by_a.sort_unstable();
        let mut found = Vec::new();
        let mut scan = snapshot.index_scan(&self.table, &self.a, KeyRange::all(), false).unwrap();
        while scan.next(&mut batch).unwrap() {
            found.extend(batch.ids.iter().zip(&batch.rows).map(|(id, row)| (int(&row.get(1)), id.0)));
        }
        assert_eq!(found, by_a, "index on a");
        rows
    }
}

pub fn values(id: i32, a: i32) -> [Datum; 3] {
    [Datum::Int4(id), Datum::Int4(a), Datum::text(format!("row {id}"))]
}

pub fn int(value: &Datum) -> i32 {
    match value {
        Datum::Int4(value) => *value,
        other => panic!("an int4, not {other:?}"),
    }
}

/// Inserts rows in one committed transaction.
pub fn fill(engine: &Engine, fixture: &Fixture, rows: impl IntoIterator<Item = (i32, i32)>) {
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    transaction.statement_snapshot(true).unwrap();
    for (id, a) in rows {
        block_on(transaction.insert(&fixture.table, &values(id, a))).unwrap();
    }
    transaction.commit().unwrap().durable.wait().unwrap();
}

pub fn commit(transaction: Transaction) {
    transaction.commit().unwrap().durable.wait().unwrap();
}

/// Publishes an index on `a`, write-only.
pub fn publish(engine: &Engine, t: &Fixture, name: &str, unique: bool) -> Index {
    let mut index = index(engine, &t.table, name, &[2], unique);
    index.state = IndexState::WriteOnly;
    index.primary = false;
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(index.clone())))]).unwrap();
    commit(transaction);
    index
}

/// The index as a fixture whose rows are compared with the table's.
pub fn with_index(engine: &Engine, t: &Fixture, index: &Index) -> Fixture {
    let index = engine.catalog().index(index.oid).expect("there").clone();
    Fixture { a: index, ..t.clone() }
}
