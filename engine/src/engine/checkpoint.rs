//! Checkpoints: from frozen memtables to the next base.
//!
//! The hard idea: a checkpoint's boundary falls between two commits. The active memtable is frozen under the mutex that gives
//! commits their places, so that everything up to an LSN is in frozen ones and nothing else; when the base has it, one switch
//! of the layers takes it from there. What fails is tried again from where it was.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use value::{Result, SqlState};

use super::pieces::{BaseChange, TableKeys};
use super::{Inner, Unsaved};
use crate::base::{CheckpointInput, IndexChange, Piece, RowChange, StorageState};
use crate::catalog::{Catalog, Change, Object};
use crate::disk::room::{Ahead, Cost};
use crate::ids::{Lsn, RowId};
use crate::index;
use crate::memtable::Memtable;
use crate::planted::{Bug, planted};
use crate::row::RowBytes;
use crate::snapshot::SuperVersion;
use crate::sync::{Arc, Condvar, Mutex, Ordering, Weak, thread};

/// A frozen memtable on its way into the base.
pub(super) struct Generation {
    memtable: Arc<Memtable>,
    applied: Lsn,
    pub(super) unsaved: Unsaved,
    /// What the base held when it was tried, and failed, to write this.
    tried: std::cell::Cell<Option<Lsn>>,
}

/// Held by whoever makes a checkpoint.
#[derive(Default)]
pub(super) struct Checkpointing {
    /// The catalog as of the base.
    pub(super) saved: Catalog,
    /// Frozen, oldest first; more than one only after a checkpoint failed.
    pub(super) pending: VecDeque<Generation>,
    /// Memtables that are in the base, oldest first, with the newest commit in each: snapshots may still look at them.
    retired: VecDeque<(Weak<Memtable>, Lsn)>,
    pub(super) wal_bytes: u64,
    /// Bytes written to the base when it was last looked how much of it is unused; `None`: to be looked again.
    looked: Option<u64>,
}

impl Checkpointing {
    /// `saved`: the catalog as of the base.
    pub(super) fn of(saved: Catalog) -> Checkpointing {
        Checkpointing { saved, ..Checkpointing::default() }
    }
}

/// Wakes the checkpointer thread.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn request(&self) {
        self.state.lock().0 = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}
impl Inner {
    /// Freezes the active memtable and writes all frozen ones into the base.
    pub(super) fn checkpoint(&self, closing: bool) -> Result<()> {
        let result = self.make_checkpoint(closing);
        *self.checkpoint_error.lock() = result.as_ref().err().cloned();
        result
    }

    fn make_checkpoint(&self, closing: bool) -> Result<()> {
        let mut state = self.checkpointing.lock();
        while !state.pending.is_empty() {
            self.save(&mut state)?;
        }
        if closing {
            // Exact values instead of the ones logged ahead: a clean restart skips no numbers.
            let values = self.sequences.exact();
            self.pipeline.lock().unsaved.sequences.extend(values.into_iter().map(|(oid, v)| (oid, Some(v))));
        }
        {
            let mut pipeline = self.pipeline.lock();
            let version = self.version.load_full();
            let applied = pipeline.last();
            if applied == version.applied && pipeline.unsaved.is_empty() {
                drop(pipeline);
                self.look_for_unused(&mut state)?;
                return if self.bulk.has_garbage() { self.sweep() } else { Ok(()) };
            }
            let memtable = version.active.clone();
            let mut frozen = vec![memtable.clone()];
            frozen.extend(version.frozen.iter().cloned());
            self.version.store(Arc::new(SuperVersion {
                active: Arc::default(),
                frozen,
                base: version.base.clone(),
                applied: version.applied,
                bulk: self.bulk.clone(),
            }));
            let unsaved = std::mem::take(&mut pipeline.unsaved);
            self.aside[1].fetch_add(unsaved.room(), Ordering::Relaxed);
            self.aside[0].store(0, Ordering::Relaxed);
            state.pending.push_back(Generation { memtable, applied, unsaved, tried: Default::default() });
        }
        state.wal_bytes = self.wal.bytes();
        self.save(&mut state)
    }

    /// Writes the oldest frozen memtable into the base and publishes the new super-version.
    fn save(&self, state: &mut Checkpointing) -> Result<()> {
        let started = Instant::now();
        let Some(generation) = state.pending.front() else { return Ok(()) };
        while !generation.memtable.is_quiet() {
            thread::sleep(Duration::from_micros(100));
        }
        // A base must never be newer than a snapshot that is about to begin.
        self.wait_applied(generation.applied);
        self.wal.wait_durable_blocking(generation.applied)?;
        let base = self.version.load().base.clone();
        let mut saved = state.saved.clone();
        // Also those that came and went since: a large transaction has put rows there.
        let mut before = storages(&saved);
        for change in &generation.unsaved.catalog {
            saved.apply(change);
            if let Change::Put(object) = change {
                before.extend(object.storage());
            }
        }
        let after = storages(&saved);
        let memtable = &generation.memtable;
        let mut rows = RowChanges {
            memtable,
            storages: memtable.storages().into_iter().filter(|s| after.contains(s)).collect(),
            group: 0,
            rows: Vec::new().into_iter(),
            current: (0, 0),
        };
        let mut indexes = IndexChanges {
            memtable,
            storages: memtable.index_storages().into_iter().filter(|s| after.contains(s)).collect(),
            from: Bound::Unbounded,
            entries: VecDeque::new(),
            current: 0,
        };
        let counters = rows.storages.iter().map(|storage| {
            let saved = base.meta().storages.get(storage).map_or(0, |state| state.rows as i64);
            let delta = memtable.table(*storage).map_or(0, |table| table.row_delta());
            let next_row = self.row_counter(*storage).load(Ordering::Relaxed);
            (*storage, StorageState { next_row, rows: (saved + delta).max(0) as u64 })
        });
        let mut sequences = generation.unsaved.sequences.clone();
        let mut statistics = generation.unsaved.statistics.clone();
        let mut builds = generation.unsaved.builds.clone();
        for change in &generation.unsaved.catalog {
            if let Change::Drop(oid) = change {
                sequences.insert(*oid, None);
                statistics.insert(*oid, None);
                builds.insert(*oid, None);
            }
        }
        let (next_oid, next_storage) = self.new_ids();
        let keys = TableKeys::new(self, &saved);
        let published = generation.unsaved.published.iter().filter_map(|id| base.meta().pending.get(id));
        let folded = published.map(Piece::cost).fold(Cost::default(), Cost::and);
        let off = u64::from(planted(Bug::CheckpointOffByOne));
        let input = CheckpointInput {
            applied: Lsn(generation.applied.0 + off),
            storages: counters.collect(),
            dropped: before.difference(&after).copied().collect(),
            catalog: generation.unsaved.catalog.clone(),
            sequences: sequences.into_iter().collect(),
            statistics: statistics.into_iter().collect(),
            builds: builds.into_iter().collect(),
            pending: Vec::new(),
            settled: generation.unsaved.published.clone(),
            void: Vec::new(),
            aborted: base.meta().pending.keys().copied().filter(|id| self.bulk.is_aborted(*id)).collect(),
            next_oid,
            next_storage,
            expected_bytes: Ahead::of(base.size(), base.meta().unfolded_room())
                .then(memtable.cost().and(folded))
                .room
                .saturating_add(generation.unsaved.room()),
            rows: &mut rows,
            indexes: &mut indexes,
            runs: &[],
            changes: None,
            keys: &keys,
        };
        // A try that failed may have reached the disk all the same. Where no commit came in between there is
        // nothing to count twice: it is written again.
        let done = generation.tried.get().is_some_and(|before| before < generation.applied)
            && base.meta().applied >= generation.applied;
        let before_applied = base.meta().applied;
        let base = match if done { Ok(base.clone()) } else { base.checkpoint(input) } {
            Ok(base) => base,
            Err(error) => {
                tracing::error!(%error, "checkpoint failed");
                generation.tried.set(Some(before_applied));
                // The store answers nothing after an I/O error: open it anew, so that readers go on. It may
                // turn out that the commit did reach the disk.
                let reopened = base.reopen()?;
                if reopened.meta().applied < generation.applied || before_applied == generation.applied {
                    self.exchange_base(reopened);
                    return Err(error);
                }
                reopened
            }
        };
        {
            let _switch = self.pipeline.lock();
            let version = self.version.load_full();
            let frozen = version.frozen.iter().filter(|other| !Arc::ptr_eq(other, memtable)).cloned();
            self.version.store(Arc::new(SuperVersion {
                active: version.active.clone(),
                frozen: frozen.collect(),
                base,
                applied: generation.applied,
                bulk: self.bulk.clone(),
            }));
        }
        let applied = generation.applied;
        self.row_ids.write().retain(|storage, _| !before.contains(storage) || after.contains(storage));
        state.saved = saved;
        if let Some(generation) = state.pending.pop_front() {
            self.aside[1].fetch_sub(generation.unsaved.room(), Ordering::Relaxed);
            state.retired.push_back((Arc::downgrade(&generation.memtable), applied));
        }
        self.room.relieved();
        self.bound_old_snapshots(&mut state.retired);
        self.metrics.checkpoints.increment();
        self.metrics.checkpoint.observe(started.elapsed());
        self.wal.recycle(applied)?;
        if before.iter().any(|storage| !after.contains(storage)) {
            state.looked = None;
        }
        self.look_for_unused(state)?;
        if self.bulk.has_garbage() { self.sweep() } else { Ok(()) }
    }

    /// Where the disk is short of room: looks how much of the base is unused, which lets commits use part of the reserve.
    /// That reads all of it, so only after a storage was dropped, or when a good part of it was written since.
    fn look_for_unused(&self, state: &mut Checkpointing) -> Result<()> {
        let written = || self.metrics.disk_write_bytes.get().saturating_sub(self.metrics.wal_bytes.get());
        if !self.room.is_short() {
            self.room.note_unused(0);
            state.looked = None;
            return Ok(());
        }
        let base = self.version.load().base.clone();
        if state.looked.is_some_and(|before| written().saturating_sub(before) < base.size() / 8) {
            return Ok(());
        }
        // What the last commit has given back can be used after the next one.
        let own = Cost::fixed(base.size());
        drop(base);
        let emptied = self.change_base(BaseChange {
            expected_bytes: own.saturating_add(self.checkpoint_room(own)),
            ..BaseChange::none(&mut std::iter::empty(), &mut std::iter::empty())
        });
        match emptied {
            Err(error) if error.state() == SqlState::DISK_FULL => return Ok(()),
            result => result?,
        }
        let unused = self.version.load().base.unused()?;
        tracing::info!(unused, "the disk is short of room; bytes of the data file that can be used again");
        self.room.note_unused(unused);
        state.looked = Some(written());
        Ok(())
    }

    /// Asks for a checkpoint soon.
    pub(crate) fn request_checkpoint(&self) {
        self.checkpoint_wanted.store(true, Ordering::Release);
        self.signal.request();
    }

    /// Old snapshots share one budget. Memtables that outlive a checkpoint for them are thinned out to what they can see;
    /// where that is still too much, the oldest lose what they look at.
    fn bound_old_snapshots(&self, retired: &mut VecDeque<(Weak<Memtable>, Lsn)>) {
        retired.retain(|(memtable, _)| memtable.strong_count() > 0);
        let alive: Vec<(Arc<Memtable>, Lsn)> =
            retired.iter().filter_map(|(memtable, applied)| Some((memtable.upgrade()?, *applied))).collect();
        let total = || alive.iter().map(|(memtable, _)| memtable.bytes()).sum::<u64>();
        let budget = self.options.old_snapshot_memory;
        let crowded = total() > budget;
        let catalog = self.catalog.load_full();
        let rows_of: HashMap<u32, u32> = catalog
            .objects()
            .filter_map(|object| match object {
                Object::Index(index) => Some((index.storage, catalog.table(index.table)?.storage)),
                _ => None,
            })
            .collect();
        // What was left behind just now is used by statements that are about to end, as a rule.
        let newest = self.version.load().applied;
        for (memtable, applied) in &alive {
            if crowded || (*applied < newest && !memtable.is_thinned()) {
                memtable.thin_out(&self.registry.behind(*applied), &rows_of);
            }
        }
        let mut bytes = total();
        for (memtable, _) in alive.iter().filter(|(_, applied)| *applied < newest) {
            if bytes <= budget {
                break;
            }
            let freed = memtable.bytes();
            tracing::warn!(bytes, budget, freed, "old snapshots need too much memory: the oldest are ended");
            memtable.evict();
            self.metrics.snapshots_ended.increment();
            bytes -= freed;
        }
        self.metrics.old_snapshot_bytes.set(bytes);
    }

    fn checkpoint_due(&self) -> bool {
        let version = self.version.load();
        self.metrics.memtable_bytes.set(self.memtable_bytes());
        // Until they are folded in, changes are read beside their rows, and take room twice.
        let changes = version.base.meta().pending.values().filter(|piece| piece.changes);
        let unfolded = changes.map(|piece| piece.bytes).sum::<u64>() > self.options.memtable_size
            && !self.pipeline.lock().unsaved.published.is_empty();
        version.active.bytes() > self.options.memtable_size
            || unfolded
            || self.checkpoint_wanted.swap(false, Ordering::AcqRel)
            || self.bulk.has_garbage()
            || self.checkpointing.try_lock().is_some_and(|state| {
                !state.pending.is_empty()
                    || self.wal.bytes().saturating_sub(state.wal_bytes) > self.options.checkpoint_wal_bytes
                    || (self.wal.size() > self.options.wal_max_size && self.wal.bytes() > state.wal_bytes)
            })
    }
}

/// Storages that a catalog names.
pub(super) fn storages(catalog: &Catalog) -> BTreeSet<u32> {
    catalog.objects().filter_map(Object::storage).collect()
}

/// The frozen memtable's rows in the order of the base.
struct RowChanges<'a> {
    memtable: &'a Memtable,
    storages: VecDeque<u32>,
    group: u32,
    rows: std::vec::IntoIter<(u16, Option<RowBytes>)>,
    current: (u32, u32),
}

impl Iterator for RowChanges<'_> {
    type Item = Result<RowChange>;

    fn next(&mut self) -> Option<Result<RowChange>> {
        loop {
            if let Some((offset, bytes)) = self.rows.next() {
                let (storage, group) = self.current;
                return Some(Ok(RowChange { storage, row: RowId::at(group, offset), bytes }));
            }
            let storage = *self.storages.front()?;
            match self.memtable.next_group(storage, self.group) {
                Err(error) => return Some(Err(error)),
                Ok(Some((group, rows))) => {
                    self.current = (storage, group);
                    self.group = group + 1;
                    self.rows = rows.into_iter();
                }
                Ok(None) => {
                    self.storages.pop_front();
                    self.group = 0;
                }
            }
        }
    }
}

/// The frozen memtable's index entries in the order of the base.
struct IndexChanges<'a> {
    memtable: &'a Memtable,
    storages: VecDeque<u32>,
    from: Bound<Vec<u8>>,
    entries: VecDeque<(Box<[u8]>, bool)>,
    current: u32,
}

impl Iterator for IndexChanges<'_> {
    type Item = Result<IndexChange>;

    fn next(&mut self) -> Option<Result<IndexChange>> {
        loop {
            if let Some((entry, add)) = self.entries.pop_front() {
                let (key, row) = index::split(&entry);
                return Some(Ok(IndexChange { storage: self.current, key: key.to_vec(), row, add }));
            }
            let storage = *self.storages.front()?;
            self.current = storage;
            if let Some(overlay) = self.memtable.index(storage) {
                self.entries = overlay.after(&self.from, 1024).into();
            }
            match self.entries.back() {
                Some((last, _)) => self.from = Bound::Excluded(last.to_vec()),
                None => {
                    self.storages.pop_front();
                    self.from = Bound::Unbounded;
                }
            }
        }
    }
}

/// The checkpointer thread: by time, by log bytes, by memtable size.
pub(super) fn checkpointer(engine: Weak<Inner>, signal: &Signal, interval: Duration) {
    crate::disk::set_thread_priority(crate::disk::Priority::Background);
    let mut last = Instant::now();
    loop {
        {
            let mut state = signal.state.lock();
            if !state.0 && !state.1 {
                signal.changed.wait_for(&mut state, Duration::from_millis(200).min(interval));
            }
            if state.1 {
                return;
            }
            state.0 = false;
        }
        let Some(engine) = engine.upgrade() else { return };
        if engine.wal.failed().is_some() {
            return;
        }
        if last.elapsed() < interval && !engine.checkpoint_due() {
            continue;
        }
        if let Err(error) = engine.checkpoint(false) {
            tracing::error!(%error, "checkpoint failed; it will be tried again");
            thread::sleep(Duration::from_millis(500));
        }
        last = Instant::now();
    }
}
