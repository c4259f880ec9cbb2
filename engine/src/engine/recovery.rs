//! Replay: from the log to the memtable and the catalog.

use std::collections::{BTreeMap, BTreeSet};

use value::{Error, Result, SqlState};

use super::checkpoint::storages;
use super::{Inner, parse_statistics};
use crate::catalog::{Catalog, Change, Index, Object};
use crate::ids::{GROUP_ROWS, Lsn, RowId};
use crate::index::{self, KeyShape};
use crate::memtable::{ReplayWriter, Replayed};
use crate::row::{Row, RowBytes, RowLayout};
use crate::snapshot::SuperVersion;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::wal::record::{Op, decode};

/// Replays the log into the memtable, keeping the catalog as of each record.
pub(super) struct Recovery {
    pub(super) catalog: Catalog,
    /// What is replayed into: the newest super-version.
    version: Arc<SuperVersion>,
    /// By storage: what is needed to apply rows (`None`: the storage is gone). Made anew when the catalog or the
    /// memtable changes. Asked for every row: with a quick hash.
    tables: hashbrown::HashMap<u32, Option<Target>>,
    /// The last record applied.
    last: Option<Lsn>,
}

struct Target {
    layout: Arc<RowLayout>,
    indexes: Vec<KeyShape>,
    writer: ReplayWriter,
    counter: Arc<AtomicU64>,
}

impl Recovery {
    pub(super) fn new(engine: &Inner, catalog: Catalog) -> Recovery {
        Recovery {
            catalog,
            version: engine.version.load_full(),
            tables: hashbrown::HashMap::new(),
            last: None,
        }
    }

    fn target(&mut self, engine: &Inner, storage: u32) -> Result<Option<&mut Target>> {
        if !self.tables.contains_key(&storage) {
            let table = self.catalog.objects().find_map(|object| match object {
                Object::Table(table) if table.storage == storage => Some(table.clone()),
                _ => None,
            });
            let target = match table {
                None => None,
                Some(table) => {
                    let layout = engine.layout(&table)?;
                    let indexes = self.catalog.maintained_indexes(table.oid);
                    let indexes = indexes.map(|index| KeyShape::of(&table, index)).collect();
                    let mut writer = self.version.active.replay_writer(
                        storage,
                        (&self.version.base, &self.version.bulk),
                        &layout,
                    );
                    writer.set_layout(&layout);
                    Some(Target { layout, indexes, writer, counter: engine.row_counter(storage) })
                }
            };
            self.tables.insert(storage, target);
        }
        Ok(self.tables.get_mut(&storage).and_then(Option::as_mut))
    }

    /// Tells the engine how far replay has come: before anybody asks.
    pub(super) fn settle(&self, engine: &Inner) {
        if let Some(last) = self.last {
            engine.pipeline.start_at(last);
        }
    }

    pub(super) fn apply(&mut self, engine: &Inner, lsn: Lsn, record: &[u8]) -> Result<()> {
        // Definitions first: the record's rows may belong to tables it creates. And all of it is read before
        // any of it is applied.
        let mut built: Vec<Arc<Index>> = Vec::new();
        let mut known: Option<BTreeSet<u32>> = None;
        for op in decode(record) {
            match &op? {
                Op::Catalog(change) => {
                    // Storage that another index had is full: REINDEX CONCURRENTLY exchanges it.
                    if let Change::Put(Object::Index(index)) = &**change
                        && !known.get_or_insert_with(|| storages(&self.catalog)).contains(&index.storage)
                    {
                        built.push(index.clone());
                    }
                    self.catalog.apply(change);
                    self.tables.clear();
                    engine.pipeline.lock().unsaved.catalog.push((**change).clone());
                    if let Change::Drop(oid) = &**change {
                        engine.sequences.forget(*oid);
                    }
                }
                Op::Sequence { oid, value } => {
                    engine.sequences.restore(*oid, *value);
                    engine.pipeline.lock().unsaved.sequences.insert(*oid, Some(*value));
                }
                Op::Statistics { oid, bytes } => {
                    engine.statistics.write().insert(*oid, Arc::new(parse_statistics(bytes)?));
                    engine.pipeline.lock().unsaved.statistics.insert(*oid, Some(bytes.to_vec()));
                }
                Op::NextIds { oid, storage } => {
                    engine.next_oid.fetch_max(*oid, Ordering::Relaxed);
                    engine.next_storage.fetch_max(*storage, Ordering::Relaxed);
                }
                Op::Insert { .. }
                | Op::Update { .. }
                | Op::Delete { .. }
                | Op::Entry { .. }
                | Op::Publish { .. } => {}
            }
        }
        let memtable = self.version.active.clone();
        for op in decode(record) {
            match op? {
                Op::Insert { storage, row, bytes } => {
                    // Rows of a table that the same record drops again.
                    let Some(target) = self.target(engine, storage)? else { continue };
                    let bytes = RowBytes::from(bytes);
                    if !target.indexes.is_empty() {
                        let new = Row::new(bytes.clone(), target.layout.clone());
                        for shape in &target.indexes {
                            if let Some(key) = shape.key(&new) {
                                let entry = index::entry(&key, row);
                                let entry = std::iter::once((&*entry, true));
                                memtable.write_index(shape.entries, lsn, Lsn(0), entry);
                            }
                        }
                    }
                    target.writer.put(row, lsn, Replayed::Row(bytes))?;
                    target.writer.count(1);
                    target.counter.fetch_max(row.0 + 1, Ordering::Relaxed);
                }
                Op::Update { storage, row, patch } => {
                    if let Some(target) = self.target(engine, storage)? {
                        target.writer.put(row, lsn, Replayed::Patch(patch))?;
                    }
                }
                Op::Delete { storage, row } => {
                    if let Some(target) = self.target(engine, storage)? {
                        target.writer.put(row, lsn, Replayed::Deleted)?;
                        target.writer.count(-1);
                    }
                }
                Op::Publish { piece, storage, rows } => {
                    if !self.version.base.meta().pending.contains_key(&piece) {
                        return Err(Error::new(
                            SqlState::DATA_CORRUPTED,
                            format!(
                                "log record {} names piece {piece} of the data file, which is not there",
                                lsn.0
                            ),
                        ));
                    }
                    engine.bulk.commit(piece, lsn);
                    engine.with_unsaved(|unsaved| unsaved.published.push(piece));
                    if let Some(target) = self.target(engine, storage)? {
                        target.writer.count(rows);
                    }
                }
                // Of a table that the same record drops again: nobody asks for it.
                Op::Entry { storage, live, entry } => {
                    memtable.write_index(storage, lsn, Lsn(0), std::iter::once((entry, live)));
                }
                Op::Catalog(_) | Op::Sequence { .. } | Op::Statistics { .. } | Op::NextIds { .. } => {}
            }
        }
        for index in built {
            let version = self.version.clone();
            self.build(engine, &version, &index, lsn)?;
        }
        self.last = Some(lsn);
        if memtable.bytes() > engine.options.memtable_size {
            self.settle(engine);
            engine.checkpoint(false)?;
            self.version = engine.version.load_full();
            self.tables.clear();
        }
        Ok(())
    }

    /// The entries of an index that this record creates, from the rows as of this record.
    pub(super) fn build(
        &mut self,
        engine: &Inner,
        version: &SuperVersion,
        index: &Index,
        lsn: Lsn,
    ) -> Result<()> {
        let Some(table) = self.catalog.table(index.table).cloned() else { return Ok(()) };
        let layout = engine.layout(&table)?;
        let shape = KeyShape::of(&table, index);
        version.active.note_built(index.storage);
        let mut groups = version.base.groups(table.storage);
        for memtable in version.memtables() {
            let mut from = 0;
            while let Some(group) = memtable.table(table.storage).and_then(|rows| rows.next_group(from)) {
                groups = groups.max(group + 1);
                from = group + 1;
            }
        }
        for group in 0..groups {
            let mut rows: BTreeMap<u16, Option<RowBytes>> = BTreeMap::new();
            if group < version.base.groups(table.storage) && version.shows(table.storage, group, lsn, None) {
                let mut list = Vec::new();
                version.base.read_group(table.storage, group, &mut list)?;
                rows.extend(list.into_iter().map(|(id, bytes)| (id.offset(), Some(bytes))));
                let first = RowId::at(group, 0).0;
                let all = first..first + GROUP_ROWS;
                rows.extend(version.bulk.changes_of(&version.base, table.storage, all, lsn, None)?);
            }
            let memtables: Vec<_> = version.memtables().collect();
            for memtable in memtables.into_iter().rev() {
                let Some(table) = memtable.table(table.storage) else { continue };
                if let Some(overlay) = table.group(group)? {
                    let mut list = Vec::new();
                    overlay.visible(Lsn(u64::MAX), 0..GROUP_ROWS as u32, &mut list);
                    rows.extend(list);
                }
            }
            let entries: Vec<Box<[u8]>> = rows
                .into_iter()
                .filter_map(|(offset, bytes)| {
                    let key = shape.key(&Row::new(bytes?, layout.clone()))?;
                    Some(index::entry(&key, RowId::at(group, offset)))
                })
                .collect();
            let entries = entries.iter().map(|entry| (&entry[..], true));
            version.active.write_index(index.storage, lsn, Lsn(0), entries);
        }
        Ok(())
    }
}
