//! Committed changes that the base does not hold yet.
//!
//! The hard idea: rows and index entries are shaped for what readers ask. A scan asks once per group of 8192
//! rows whether anything is newer than the base; a point read finds a short chain of versions, newest first; an
//! index overlay is an ordered set of entries whose *last* operation is known, so that a reader new enough
//! trusts it and an older one re-checks the row, and the checkpoint needs no look at old rows.
//!
//! Replaying the log puts updates of rows that only the base knows here as patches, so that it reads no base page;
//! whoever looks at such a group first completes them.
//!
//! Only committed versions come here, and the row lock of a row is held until its version is in: chains grow in
//! timestamp order without any coordination.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use value::{Error, Result, SqlState};

use crate::base::Base;
use crate::bulk::Bulk;
use crate::dead_run::Runs;
use crate::disk::room::Cost;
use crate::ids::{GROUP_ROWS, Lsn, RowId};
use crate::row::{self, RowBytes, RowLayout};
use crate::snapshot::{Horizon, SuperVersion};
use crate::sync::{Arc, AtomicBool, AtomicI64, AtomicU64, OnceLock, Ordering, RwLock};

mod retired;

/// One committed state of a row; `row` is `None` when the commit deleted it.
#[derive(Debug)]
struct Version {
    ts: Lsn,
    row: Option<RowBytes>,
    /// `row` is a patch of the base's row; only at the end of a chain.
    partial: bool,
    older: Option<Box<Version>>,
}

impl Drop for Version {
    /// Chains can be long while an old snapshot is alive; the default drop would recurse.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut version) = next {
            next = version.older.take();
        }
    }
}

/// Chains longer than this are looked through for versions that no snapshot can see.
const CHAIN: u32 = 4;
/// About what a version or entry costs beside its bytes.
const OVERHEAD: u64 = 96;

#[derive(Debug)]
struct Chain {
    newest: Version,
    len: u32,
}

/// A group's newer rows.
#[derive(Debug, Default)]
pub(crate) struct GroupOverlay {
    rows: RwLock<BTreeMap<u16, Chain>>,
    /// There are patches among them.
    partial: AtomicBool,
}

impl GroupOverlay {
    /// The newest version at or before `ts`: its timestamp, and the row unless it was deleted. `None`: this
    /// overlay has no say.
    pub(crate) fn get(&self, offset: u16, ts: Lsn) -> Option<(Lsn, Option<RowBytes>)> {
        let rows = self.rows.read();
        let mut version = &rows.get(&offset)?.newest;
        while version.ts > ts {
            version = version.older.as_deref()?;
        }
        Some((version.ts, version.row.clone()))
    }

    /// Every offset in `offsets` with a version at or before `ts`, in order.
    pub(crate) fn visible(
        &self,
        ts: Lsn,
        offsets: std::ops::Range<u32>,
        out: &mut Vec<(u16, Option<RowBytes>)>,
    ) {
        let rows = self.rows.read();
        for (offset, chain) in rows.range(offsets.start.min(65535) as u16..) {
            if u32::from(*offset) >= offsets.end {
                break;
            }
            let mut version = Some(&chain.newest);
            while let Some(v) = version {
                if v.ts <= ts {
                    out.push((*offset, v.row.clone()));
                    break;
                }
                version = v.older.as_deref();
            }
        }
    }
}

/// What patches are completed with.
#[derive(Debug)]
struct Below {
    base: Base,
    bulk: Arc<Bulk>,
    storage: u32,
    /// With all columns that the log has added so far.
    layout: RwLock<Arc<RowLayout>>,
    /// Of the memtable.
    bytes: Arc<AtomicU64>,
}

/// A storage's newer rows by group.
#[derive(Debug, Default)]
pub(crate) struct TableOverlay {
    groups: RwLock<BTreeMap<u32, Arc<GroupOverlay>>>,
    /// Rows inserted minus rows deleted.
    rows: AtomicI64,
    below: OnceLock<Below>,
    /// Of the memtable: see [`Cost::touched`].
    touched: Arc<AtomicU64>,
}

impl TableOverlay {
    /// The overlay of a group, its rows complete.
    pub(crate) fn group(&self, number: u32) -> Result<Option<Arc<GroupOverlay>>> {
        let Some(group) = self.groups.read().get(&number).cloned() else { return Ok(None) };
        if group.partial.load(Ordering::Acquire) {
            self.complete(number, &group)?;
        }
        Ok(Some(group))
    }

    /// Makes rows out of a group's patches. Nothing is locked while pages are read.
    #[cold]
    fn complete(&self, number: u32, group: &GroupOverlay) -> Result<()> {
        let Some(below) = self.below.get() else { return Ok(()) };
        let patches: Vec<(u16, RowBytes)> = {
            let rows = group.rows.read();
            let oldest = |chain: &Chain| {
                let mut version = &chain.newest;
                while let Some(older) = version.older.as_deref() {
                    version = older;
                }
                if version.partial { version.row.clone() } else { None }
            };
            rows.iter().filter_map(|(offset, chain)| Some((*offset, oldest(chain)?))).collect()
        };
        let mut known: Vec<(RowId, RowBytes)> = Vec::new();
        if patches.len() > 16 {
            below.base.read_group(below.storage, number, &mut known)?;
        } else {
            for (offset, _) in &patches {
                let id = RowId::at(number, *offset);
                known.extend(below.base.get(below.storage, id)?.map(|row| (id, row)));
            }
        }
        if !below.base.changed(below.storage, number).is_empty() {
            let first = RowId::at(number, 0).0;
            let rows = first..first + GROUP_ROWS;
            let changes = below.bulk.changes_of(&below.base, below.storage, rows, Lsn(u64::MAX), None)?;
            let mut newer: BTreeMap<RowId, RowBytes> = known.into_iter().collect();
            for (offset, row) in changes {
                let id = RowId::at(number, offset);
                match row {
                    Some(row) => newer.insert(id, row),
                    None => newer.remove(&id),
                };
            }
            known = newer.into_iter().collect();
        }
        let layout = below.layout.read().clone();
        let mut whole = Vec::with_capacity(patches.len());
        for (offset, patch) in patches {
            let id = RowId::at(number, offset);
            let Ok(place) = known.binary_search_by_key(&id, |(id, _)| *id) else {
                return Err(Error::new(
                    SqlState::DATA_CORRUPTED,
                    format!(
                        "the log changes row {} of storage {}, which the data file does not have",
                        id.0, below.storage
                    ),
                ));
            };
            let row = row::apply_patch(&layout, &known[place].1, &patch)?;
            whole.push((offset, row.len() as i64 - patch.len() as i64, RowBytes::from(row)));
        }
        let mut rows = group.rows.write();
        for (offset, more, row) in whole {
            let Some(chain) = rows.get_mut(&offset) else { continue };
            let mut version = &mut chain.newest;
            while let Some(older) = &mut version.older {
                version = older;
            }
            // Another one may have been here meanwhile.
            if version.partial {
                (version.row, version.partial) = (Some(row), false);
                below.bytes.fetch_add(more.max(0) as u64, Ordering::Relaxed);
            }
        }
        group.partial.store(false, Ordering::Release);
        Ok(())
    }

    /// The first group at or after `from` that has an overlay.
    pub(crate) fn next_group(&self, from: u32) -> Option<u32> {
        self.groups.read().range(from..).next().map(|(group, _)| *group)
    }

    fn group_or_new(&self, group: u32) -> Arc<GroupOverlay> {
        if let Some(found) = self.groups.read().get(&group) {
            return found.clone();
        }
        let new = || {
            self.touched.fetch_add(Cost::GROUP, Ordering::Relaxed);
            Arc::default()
        };
        self.groups.write().entry(group).or_insert_with(new).clone()
    }

    /// Change of the live row count since the base.
    pub(crate) fn row_delta(&self) -> i64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// What became last of an index entry in this generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryState {
    /// When. A snapshot at or after it may trust `live`; an older one re-checks the row.
    pub(crate) ts: Lsn,
    pub(crate) live: bool,
    /// This generation's first operation on the entry was adding it: removing it again leaves nothing to do.
    fresh: bool,
}

#[derive(Debug, Default)]
struct Entries {
    map: BTreeMap<Box<[u8]>, EntryState>,
    /// Fresh entries that were removed again, oldest first: they go as soon as no snapshot can need them, so
    /// that a queue's head stays short.
    dead: VecDeque<(Lsn, Box<[u8]>)>,
    /// Where nothing is alive, whatever stands there.
    runs: Runs,
}

/// An index's newer entries, ordered by `key ++ row id`.
#[derive(Debug, Default)]
pub(crate) struct IndexOverlay {
    entries: RwLock<Entries>,
    /// Some came with the index, for rows that this generation may not have: older snapshots use it too.
    built: AtomicBool,
}

/// An index entry handed to a reader.
pub(crate) type SeenEntry = (Box<[u8]>, EntryState);

impl IndexOverlay {
    /// Whether there are entries of that key or behind it.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        self.entries.read().map.last_key_value().is_some_and(|(last, _)| &last[..] >= key)
    }

    /// Up to `limit` entries of the range, in order (or from its end backwards), appended to `out`.
    pub(crate) fn range(
        &self,
        low: &Bound<Vec<u8>>,
        high: &Bound<Vec<u8>>,
        backward: bool,
        limit: usize,
        out: &mut VecDeque<SeenEntry>,
    ) {
        let entries = self.entries.read();
        let range = entries.map.range::<[u8], _>((as_slice(low), as_slice(high)));
        if backward {
            out.extend(range.rev().take(limit).map(|(entry, state)| (entry.clone(), *state)));
        } else {
            out.extend(range.take(limit).map(|(entry, state)| (entry.clone(), *state)));
        }
    }

    /// Where a scan of that snapshot may begin instead of at `low`: nothing is alive before.
    pub(crate) fn skip_dead(
        &self,
        version: &Arc<SuperVersion>,
        ts: Lsn,
        low: &Bound<Vec<u8>>,
    ) -> Option<Bound<Vec<u8>>> {
        self.entries.read().runs.skip(version, ts, low).cloned()
    }

    /// A scan of that snapshot has found nothing alive between two low bounds of keys.
    pub(crate) fn note_dead(
        &self,
        version: &Arc<SuperVersion>,
        ts: Lsn,
        run: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) {
        let mut entries = self.entries.write();
        let Entries { map, runs, .. } = &mut *entries;
        runs.note(version, ts, run, |range| {
            let (low, high) = range.entries();
            let mut inside = map.range::<[u8], _>((as_slice(&low), as_slice(&high)));
            range.is_empty() || inside.all(|(_, state)| !state.live && state.ts <= ts)
        });
    }

    /// Gives the bytes it takes; `more` counts entries that came, less those that went.
    fn record(&self, entry: &[u8], live: bool, ts: Lsn, safe: Lsn, more: &mut i64) -> u64 {
        let mut added = 0;
        let mut entries = self.entries.write();
        let entries = &mut *entries;
        if live {
            entries.runs.revive(crate::index::split(entry).0);
        }
        match entries.map.get_mut(entry) {
            Some(state) => {
                state.ts = ts;
                state.live = live;
                if state.fresh && !live {
                    entries.dead.push_back((ts, entry.into()));
                }
            }
            None => {
                added = entry.len() as u64 + OVERHEAD;
                *more += 1;
                entries.map.insert(entry.into(), EntryState { ts, live, fresh: live });
            }
        }
        while let Some((ts, _)) = entries.dead.front()
            && *ts <= safe
        {
            if let Some((ts, entry)) = entries.dead.pop_front()
                && entries.map.get(&entry).is_some_and(|state| !state.live && state.ts == ts)
            {
                entries.map.remove(&entry);
                *more -= 1;
            }
        }
        added
    }

    /// Takes those out of `list` about which this generation has said something.
    pub(crate) fn leave_out_known(&self, list: &mut Vec<Box<[u8]>>) {
        let entries = self.entries.read();
        list.retain(|entry| !entries.map.contains_key(entry));
    }

    /// Every entry, in order, for the checkpoint of a frozen generation: in steps, so that readers get between.
    pub(crate) fn after(&self, from: &Bound<Vec<u8>>, limit: usize) -> Vec<(Box<[u8]>, bool)> {
        let entries = self.entries.read();
        entries
            .map
            .range::<[u8], _>((as_slice(from), Bound::Unbounded))
            .take(limit)
            .map(|(entry, state)| (entry.clone(), state.live))
            .collect()
    }
}

pub(crate) fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key.as_slice()),
        Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// One generation: everything committed between two checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    tables: RwLock<HashMap<u32, Arc<TableOverlay>>>,
    indexes: RwLock<HashMap<u32, Arc<IndexOverlay>>>,
    bytes: Arc<AtomicU64>,
    touched: Arc<AtomicU64>,
    /// Commits that have their LSN and are being applied.
    writers: AtomicU64,
    /// Emptied although snapshots still need it.
    evicted: AtomicBool,
    /// Only holds what old snapshots need: see [`retired`].
    thinned: AtomicBool,
}

impl Memtable {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What its checkpoint takes.
    pub(crate) fn cost(&self) -> Cost {
        Cost { bytes: self.bytes(), touched: self.touched.load(Ordering::Relaxed) }
    }

    /// Takes the memory back from snapshots that still look at it; whoever reads finds out by
    /// [`Memtable::is_evicted`], asked after reading.
    pub(crate) fn evict(&self) {
        self.thinned.store(true, Ordering::SeqCst);
        self.evicted.store(true, Ordering::SeqCst);
        self.tables.write().clear();
        self.indexes.write().clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.touched.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::SeqCst)
    }

    pub(crate) fn enter(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn leave(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.writers.load(Ordering::Acquire) == 0
    }

    pub(crate) fn table(&self, storage: u32) -> Option<Arc<TableOverlay>> {
        self.tables.read().get(&storage).cloned()
    }

    pub(crate) fn index(&self, storage: u32) -> Option<Arc<IndexOverlay>> {
        self.indexes.read().get(&storage).cloned()
    }

    /// Storages with newer rows, in order.
    pub(crate) fn storages(&self) -> Vec<u32> {
        let mut list: Vec<u32> = self.tables.read().keys().copied().collect();
        list.sort_unstable();
        list
    }

    /// Index storages with newer entries, in order.
    pub(crate) fn index_storages(&self) -> Vec<u32> {
        let mut list: Vec<u32> = self.indexes.read().keys().copied().collect();
        list.sort_unstable();
        list
    }

    /// Forgets a storage (temporary tables only).
    pub(crate) fn forget(&self, storage: u32) {
        self.tables.write().remove(&storage);
        self.indexes.write().remove(&storage);
    }

    fn table_or_new(&self, storage: u32) -> Arc<TableOverlay> {
        if let Some(found) = self.tables.read().get(&storage) {
            return found.clone();
        }
        let new = || Arc::new(TableOverlay { touched: self.touched.clone(), ..TableOverlay::default() });
        self.tables.write().entry(storage).or_insert_with(new).clone()
    }

    fn index_or_new(&self, storage: u32) -> Arc<IndexOverlay> {
        if let Some(found) = self.indexes.read().get(&storage) {
            return found.clone();
        }
        self.indexes.write().entry(storage).or_default().clone()
    }

    pub(crate) fn get(&self, storage: u32, row: RowId, ts: Lsn) -> Result<Option<(Lsn, Option<RowBytes>)>> {
        let group = {
            let tables = self.tables.read();
            let Some(table) = tables.get(&storage) else { return Ok(None) };
            let groups = table.groups.read();
            let Some(group) = groups.get(&row.group()) else { return Ok(None) };
            group.clone()
        };
        if group.partial.load(Ordering::Acquire)
            && let Some(table) = self.table(storage)
        {
            table.complete(row.group(), &group)?;
        }
        Ok(group.get(row.offset(), ts))
    }

    /// Where replay puts the rows of a storage. `base` is what lies under this generation.
    pub(crate) fn replay_writer(
        &self,
        storage: u32,
        (base, bulk): (&Base, &Arc<Bulk>),
        layout: &Arc<RowLayout>,
    ) -> ReplayWriter {
        let table = self.table_or_new(storage);
        let below = table.below.get_or_init(|| Below {
            base: base.clone(),
            bulk: bulk.clone(),
            storage,
            layout: RwLock::new(layout.clone()),
            bytes: self.bytes.clone(),
        });
        *below.layout.write() = layout.clone();
        ReplayWriter { table, layout: layout.clone(), group: None, bytes: self.bytes.clone() }
    }

    /// Begins applying one commit's changes to one storage.
    pub(crate) fn table_writer<'a>(
        &'a self,
        storage: u32,
        ts: Lsn,
        horizon: &'a Horizon<'a>,
    ) -> TableWriter<'a> {
        TableWriter { memtable: self, table: self.table_or_new(storage), group: None, ts, horizon, bytes: 0 }
    }

    /// Records what one commit did to entries of one index. `safe`: no snapshot before it exists or will.
    pub(crate) fn write_index<'a>(
        &self,
        storage: u32,
        ts: Lsn,
        safe: Lsn,
        entries: impl Iterator<Item = (&'a [u8], bool)>,
    ) {
        let index = self.index_or_new(storage);
        let mut bytes = 0;
        let mut more = 0;
        for (entry, live) in entries {
            bytes += index.record(entry, live, ts, safe, &mut more);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.touch(more);
    }

    /// So many index entries more, or fewer.
    fn touch(&self, entries: i64) {
        let cost = Cost::ENTRY * entries.unsigned_abs();
        if entries >= 0 {
            self.touched.fetch_add(cost, Ordering::Relaxed);
        } else {
            self.touched.fetch_sub(cost, Ordering::Relaxed);
        }
    }

    /// Entries of an index come with the index itself.
    pub(crate) fn note_built(&self, storage: u32) {
        self.index_or_new(storage).built.store(true, Ordering::Relaxed);
    }

    /// Adds entries of an index that is being filled, as of `ts`: those about which this generation has said nothing.
    pub(crate) fn add_built(&self, storage: u32, ts: Lsn, entries: &[Box<[u8]>]) {
        let overlay = self.index_or_new(storage);
        overlay.built.store(true, Ordering::Relaxed);
        let (mut bytes, mut more) = (0, 0);
        for entries in entries.chunks(256) {
            let mut own = overlay.entries.write();
            for entry in entries {
                if !own.map.contains_key(entry) {
                    bytes += entry.len() as u64 + OVERHEAD;
                    more += 1;
                    // The base may have it from an earlier fill: removing it again must reach the base.
                    own.map.insert(entry.clone(), EntryState { ts, live: true, fresh: false });
                }
            }
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.touch(more);
    }

    /// The newest version of each row of a storage from group `from` on: one group, in id order.
    pub(crate) fn next_group(&self, storage: u32, from: u32) -> Result<Option<GroupRows>> {
        let Some(table) = self.table(storage) else { return Ok(None) };
        let Some(number) = table.next_group(from) else { return Ok(None) };
        let mut rows = Vec::new();
        if let Some(group) = table.group(number)? {
            group.visible(Lsn(u64::MAX), 0..65536, &mut rows);
        }
        Ok(Some((number, rows)))
    }
}

/// A group's number and its rows by offset.
pub(crate) type GroupRows = (u32, Vec<(u16, Option<RowBytes>)>);

/// What a log record does to a row.
pub(crate) enum Replayed<'a> {
    Row(RowBytes),
    Patch(&'a [u8]),
    Deleted,
}

/// Applies log records to one storage, in order; nobody reads yet, so only the newest state counts.
pub(crate) struct ReplayWriter {
    table: Arc<TableOverlay>,
    layout: Arc<RowLayout>,
    group: Option<(u32, Arc<GroupOverlay>)>,
    bytes: Arc<AtomicU64>,
}

impl ReplayWriter {
    /// The storage's table has more columns now.
    pub(crate) fn set_layout(&mut self, layout: &Arc<RowLayout>) {
        self.layout = layout.clone();
    }

    pub(crate) fn put(&mut self, id: RowId, ts: Lsn, change: Replayed<'_>) -> Result<()> {
        let group = match &self.group {
            Some((number, group)) if *number == id.group() => group,
            _ => {
                let group = self.table.group_or_new(id.group());
                &self.group.insert((id.group(), group)).1
            }
        };
        let mut rows = group.rows.write();
        let chain = match rows.entry(id.offset()) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let (row, partial) = match change {
                    Replayed::Row(row) => (Some(row), false),
                    Replayed::Patch(patch) => (Some(RowBytes::from(patch)), true),
                    Replayed::Deleted => (None, false),
                };
                if partial {
                    group.partial.store(true, Ordering::Release);
                }
                let bytes = row.as_ref().map_or(0, |row| row.len() as u64) + OVERHEAD;
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                let newest = Version { ts, row, partial, older: None };
                place.insert(Chain { newest, len: 1 });
                return Ok(());
            }
        };
        let version = &mut chain.newest;
        version.ts = ts;
        let size = |row: &Option<RowBytes>| row.as_ref().map_or(0, |row| row.len() as u64);
        let old = size(&version.row);
        match (change, &mut version.row) {
            (Replayed::Row(row), _) => (version.row, version.partial) = (Some(row), false),
            (Replayed::Deleted, _) => (version.row, version.partial) = (None, false),
            // The same columns again, as a rule.
            (Replayed::Patch(patch), Some(older)) if version.partial && row::replaces(patch, older) => {
                older.replace(patch);
            }
            (Replayed::Patch(patch), Some(older)) if version.partial => {
                *older = row::merge_patches(older, patch)?.into();
            }
            (Replayed::Patch(patch), Some(row)) => {
                *row = row::apply_patch(&self.layout, row, patch)?.into();
            }
            (Replayed::Patch(_), None) => {
                return Err(Error::new(
                    SqlState::DATA_CORRUPTED,
                    "the log changes a row that it has deleted",
                ));
            }
        }
        self.bytes.fetch_add(size(&version.row).wrapping_sub(old), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn count(&self, inserted: i64) {
        self.table.rows.fetch_add(inserted, Ordering::Relaxed);
    }
}

/// Applies rows of one commit, keeping hold of the group between neighbours.
pub(crate) struct TableWriter<'a> {
    memtable: &'a Memtable,
    table: Arc<TableOverlay>,
    group: Option<(u32, Arc<GroupOverlay>)>,
    ts: Lsn,
    horizon: &'a Horizon<'a>,
    /// Added minus given back by pruning.
    bytes: i64,
}

impl TableWriter<'_> {
    pub(crate) fn put(&mut self, id: RowId, row: Option<RowBytes>) {
        let group = match &self.group {
            Some((number, group)) if *number == id.group() => group,
            _ => {
                let group = self.table.group_or_new(id.group());
                &self.group.insert((id.group(), group)).1
            }
        };
        self.bytes += (row.as_ref().map_or(0, |row| row.len() as u64) + OVERHEAD) as i64;
        let mut rows = group.rows.write();
        match rows.entry(id.offset()) {
            Entry::Vacant(place) => {
                let newest = Version { ts: self.ts, row, partial: false, older: None };
                place.insert(Chain { newest, len: 1 });
            }
            Entry::Occupied(mut place) => {
                let chain = place.get_mut();
                debug_assert!(chain.newest.ts <= self.ts, "versions of a row arrive in commit order");
                let newest = Version { ts: self.ts, row, partial: false, older: None };
                let older = std::mem::replace(&mut chain.newest, newest);
                chain.newest.older = Some(Box::new(older));
                chain.len += 1;
                if chain.len > CHAIN {
                    let gone = prune(chain, self.horizon);
                    self.bytes -= gone as i64;
                }
            }
        }
    }

    pub(crate) fn count(&self, inserted: i64) {
        self.table.rows.fetch_add(inserted, Ordering::Relaxed);
    }
}

impl Drop for TableWriter<'_> {
    fn drop(&mut self) {
        if self.bytes >= 0 {
            self.memtable.bytes.fetch_add(self.bytes as u64, Ordering::Relaxed);
        } else {
            self.memtable.bytes.fetch_sub(self.bytes.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// Unlinks versions that no announced and no later snapshot can see; gives the bytes they took.
fn prune(chain: &mut Chain, horizon: &Horizon<'_>) -> u64 {
    let (oldest_new, pinned) = horizon.get();
    let mut gone = 0;
    let mut len = 1;
    // Going down the chain, a version is the one that snapshots in [its ts, ts of the newer one) see.
    let mut newer = chain.newest.ts;
    let mut link = &mut chain.newest.older;
    while let Some(ts) = link.as_deref().map(|version| version.ts) {
        // Future snapshots have timestamps from `oldest_new` on.
        let seen = newer > *oldest_new || {
            let place = pinned.partition_point(|pin| *pin < ts);
            pinned.get(place).is_some_and(|pin| *pin < newer)
        };
        if seen {
            newer = ts;
            len += 1;
            match link {
                Some(version) => link = &mut version.older,
                None => break,
            }
        } else {
            // Its place in time is nobody's: `newer` stays, as what is below is seen only below `ts`.
            newer = ts;
            let Some(mut version) = link.take() else { break };
            gone += version.row.as_ref().map_or(0, |row| row.len() as u64) + OVERHEAD;
            *link = version.older.take();
        }
    }
    chain.len = len;
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> Option<RowBytes> {
        (!n.is_multiple_of(7)).then(|| n.to_le_bytes().to_vec().into())
    }

    #[test]
    fn pruning_keeps_what_snapshots_see() {
        let memtable = Memtable::default();
        let id = RowId(9000);
        // Snapshots at 10, 11 and 500 stay; new ones begin at most 3 behind the newest commit.
        let pinned = [10, 11, 500];
        for ts in 1..=1000u64 {
            let pins = pinned.iter().filter(|pin| **pin <= ts).map(|pin| Lsn(*pin)).collect();
            let horizon = Horizon::fixed(Lsn(ts.saturating_sub(3)), pins);
            memtable.table_writer(1, Lsn(ts), &horizon).put(id, row(ts));
        }
        for seen in pinned.into_iter().chain(997..=1000) {
            let (ts, bytes) = memtable.get(1, id, Lsn(seen)).expect("no reading").expect("a version");
            assert_eq!((ts, bytes.as_deref()), (Lsn(seen), row(seen).as_deref()));
        }
        assert!(memtable.bytes() < 16 * (OVERHEAD + 8), "{} bytes", memtable.bytes());
    }

    #[test]
    fn entries_that_came_and_went_are_forgotten() {
        let memtable = Memtable::default();
        for n in 0..1000u64 {
            let entry = n.to_be_bytes();
            memtable.write_index(2, Lsn(2 * n), Lsn(2 * n), [(&entry[..], true)].into_iter());
            memtable.write_index(2, Lsn(2 * n + 1), Lsn(2 * n), [(&entry[..], false)].into_iter());
        }
        // One that an older generation has is remembered as removed.
        memtable.write_index(2, Lsn(5000), Lsn(4000), [(&[0xff; 8][..], false)].into_iter());
        let index = memtable.index(2).expect("entries");
        let left = index.after(&Bound::Unbounded, 100);
        assert_eq!(left, [(Box::from(&[0xff; 8][..]), false)]);
    }
}
