//! An index filled in steps, with a checkpoint and a commit in the most awkward moments.

use std::cell::{Cell, RefCell};

use super::setup::{self, Fixture, fill, options, publish, values, with_index};
use crate::disk::{Disk, SimulatedDisk};
use crate::memtable::Memtable;
use crate::row::{self, RowBytes};
use crate::snapshot::Horizon;
use crate::sync::{Arc, thread};
use crate::wal::record::RecordBuilder;
use crate::*;

/// A change of one row's `a` that has its LSN and its memtable, and is not applied.
struct Held {
    lsn: Lsn,
    memtable: Arc<Memtable>,
    id: RowId,
    row: RowBytes,
    /// By index storage: the entry that goes, the one that comes.
    entries: Vec<(u32, [Box<[u8]>; 2])>,
}

impl Held {
    fn log(engine: &Engine, t: &Fixture, indexes: &[&catalog::Index], id: i32, a: i32) -> Held {
        let layout = engine.0.layout(&t.table).unwrap();
        let (row_id, old) = t.find(&engine.snapshot(), id).unwrap();
        let (mut new, mut patch) = (Vec::new(), Vec::new());
        row::encode(&layout, &values(id, a), &mut new).unwrap();
        row::encode_patch(&layout, old.bytes(), &new, &mut patch).unwrap();
        let mut record = RecordBuilder::new();
        record.update(t.table.storage, row_id, &patch);
        let new = Row::new(new.into(), layout);
        let mut entries = Vec::new();
        for index in indexes {
            let shape = index::KeyShape::of(&t.table, index);
            let both = [&old, &new].map(|row| index::entry(&shape.key(row).unwrap(), row_id));
            record.entry(index.storage, &both[0], false);
            record.entry(index.storage, &both[1], true);
            entries.push((index.storage, both));
        }
        let (lsn, memtable) = engine.0.log_commit(record.finish(), 0, |_| {}).unwrap();
        Held { lsn, memtable, id: row_id, row: new.shared().clone(), entries }
    }

    fn apply(self, engine: &Engine, t: &Fixture) {
        let horizon = Horizon::of(&engine.0);
        self.memtable.table_writer(t.table.storage, self.lsn, &horizon).put(self.id, Some(self.row));
        for (storage, [goes, comes]) in &self.entries {
            let entries = [(&**goes, false), (&**comes, true)];
            self.memtable.write_index(*storage, self.lsn, horizon.safe(), entries.into_iter());
        }
        engine.0.finish(self.lsn, &self.memtable, Vec::new());
    }
}

/// The step reads the row as it was, and the memtable that will say so is not the active one any more.
#[test]
fn a_commit_on_its_way_into_a_frozen_memtable() {
    let disk = SimulatedDisk::new(41);
    let engine = setup::open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..10_000).map(|id| (id, id)));
    engine.checkpoint().unwrap();
    let index = publish(&engine, &t, "t_a_later", false);
    let (step, held, checkpoint) = (Cell::new(0), RefCell::new(None), RefCell::new(None));
    let between_steps = || {
        step.set(step.get() + 1);
        match step.get() {
            1 => {
                *held.borrow_mut() = Some(Held::log(&engine, &t, &[&t.a, &index], 5, 50_000));
                let other = engine.clone();
                *checkpoint.borrow_mut() = Some(thread::spawn(move || other.checkpoint()));
                while engine.0.version.load().frozen.is_empty() {
                    thread::yield_now();
                }
            }
            2 => held.take().unwrap().apply(&engine, &t),
            _ => {}
        }
        Ok(())
    };
    engine.build_index_concurrently(index.oid, &between_steps).unwrap();
    checkpoint.take().unwrap().join().unwrap().unwrap();
    let rows = with_index(&engine, &t, &index).rows(&engine.snapshot());
    assert_eq!(rows[&5], 50_000);
    engine.close().unwrap();
    drop(engine);
    let shared: Arc<dyn Disk> = Arc::new(disk);
    assert_eq!(check(std::path::Path::new("/data"), shared).unwrap().findings, Vec::<String>::new());
}
