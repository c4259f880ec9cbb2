//! What a statement sees: a super-version, a timestamp, a command id and the own writes.
//!
//! The hard idea is the order of taking one. Load the super-version (active and frozen memtables, base), then
//! choose the timestamp, then look whether the super-version is still the current one. Without the last step a
//! memtable switch in between would hide commits at or before the timestamp. The timestamp is chosen and
//! announced in one step under the registry's mutex, and whoever prunes versions reads the registry under the
//! same mutex, so a version is never pruned from under a snapshot about to begin.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Bound, Range};

use value::{Error, Result, SqlState};

use crate::base::{Base, KeyRange};
use crate::bulk::{Bulk, Viewer};
use crate::catalog::{Index, Persistence, Table};
use crate::engine::Inner;
use crate::ids::{CommandId, Lsn, RowId};
use crate::index::{self, KeyShape};
use crate::memtable::Memtable;
use crate::row::{Row, RowBytes, RowLayout};
use crate::scan::{IndexScan, TableScan};
use crate::serializable::{Columns, Reads, ScanFilter};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::write_set::WriteSet;

/// Everything committed, in layers. Replaced as a whole when a memtable is frozen and when a checkpoint is done.
#[derive(Debug)]
pub(crate) struct SuperVersion {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) base: Base,
    /// Changes whenever `base` does: what the base holds.
    pub(crate) applied: Lsn,
    /// Who may see groups that the base calls pending.
    pub(crate) bulk: Arc<Bulk>,
}

/// The newest committed state of a row, or the state at a timestamp.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// In a memtable or a piece beside the base, since this timestamp; `None` = deleted then.
    Recent(Lsn, Option<RowBytes>),
    /// As in the base (`None`: there is no such row).
    Base(Option<RowBytes>),
}

impl Found {
    pub(crate) fn row(self) -> Option<RowBytes> {
        match self {
            Found::Recent(_, row) | Found::Base(row) => row,
        }
    }
}

impl SuperVersion {
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// The row as of `ts` ([`Lsn`] maximum: the newest applied version).
    pub(crate) fn get(&self, storage: u32, row: RowId, ts: Lsn) -> Result<Found> {
        self.get_for(storage, row, ts, None)
    }

    /// Memory behind this version was taken back: newest versions must be looked for in the version that is newest now.
    pub(crate) fn is_thinned(&self) -> bool {
        self.memtables().any(|memtable| memtable.is_thinned())
    }

    /// Every commit before the active memtable is applied; it stays so.
    pub(crate) fn is_settled(&self) -> bool {
        self.frozen.iter().all(|memtable| memtable.is_quiet())
    }

    /// 72000 when the memory behind this version was needed for others; to be asked after reading.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if !self.memtables().any(|memtable| memtable.is_evicted()) {
            return Ok(());
        }
        Err(Error::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
            .detail(
                "What it would still see has been given up, so that old snapshots stay within their memory.",
            )
            .hint("Keep transactions shorter, or raise storage.old_snapshot_memory."))
    }

    /// Whether a group of the base is there for a reader.
    pub(crate) fn shows(&self, storage: u32, group: u32, ts: Lsn, viewer: Option<Viewer>) -> bool {
        match self.base.pending(storage, group) {
            None => true,
            Some(piece) => self.bulk.is_visible(piece, ts, viewer),
        }
    }

    /// [`SuperVersion::get`], with the groups that `viewer` has written itself.
    pub(crate) fn get_for(&self, storage: u32, row: RowId, ts: Lsn, viewer: Option<Viewer>) -> Result<Found> {
        for memtable in self.memtables() {
            if let Some((since, row)) = memtable.get(storage, row, ts)? {
                return Ok(Found::Recent(since, row));
            }
        }
        self.check_alive()?;
        if !self.shows(storage, row.group(), ts, viewer) {
            return Ok(Found::Base(None));
        }
        if let Some((since, row)) = self.bulk.change_of(&self.base, (storage, row), ts, viewer)? {
            return Ok(Found::Recent(since, row));
        }
        Ok(Found::Base(self.base.get(storage, row)?))
    }
}

/// The announced snapshots.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By timestamp and by what the base that they look at holds: how many.
    pins: Mutex<BTreeMap<(Lsn, Lsn), u32>>,
    /// The oldest one, for readers who need no exact answer; 0 when there is none.
    oldest: AtomicU64,
}

impl Registry {
    /// Announces a snapshot at the timestamp that `choose` gives; `choose` runs inside the mutex.
    /// `base`: what the base of its super-version holds.
    pub(crate) fn announce(&self, base: Lsn, choose: impl FnOnce() -> Lsn) -> Lsn {
        let mut pins = self.pins.lock();
        let ts = choose();
        *pins.entry((ts, base)).or_insert(0) += 1;
        self.refresh(&pins);
        ts
    }

    pub(crate) fn withdraw(&self, ts: Lsn, base: Lsn) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&(ts, base)) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&(ts, base));
            }
        }
        self.refresh(&pins);
    }

    fn refresh(&self, pins: &BTreeMap<(Lsn, Lsn), u32>) {
        self.oldest.store(pins.keys().next().map_or(0, |(ts, _)| ts.0), Ordering::Relaxed);
    }

    /// Timestamps of the snapshots whose base does not hold everything up to `applied`, ascending.
    pub(crate) fn behind(&self, applied: Lsn) -> Vec<Lsn> {
        let pins = self.pins.lock();
        let mut list: Vec<Lsn> = pins.keys().filter(|(_, base)| *base < applied).map(|(ts, _)| *ts).collect();
        list.dedup();
        list
    }

    pub(crate) fn oldest(&self) -> Option<Lsn> {
        match self.oldest.load(Ordering::Relaxed) {
            0 => None,
            ts => Some(Lsn(ts)),
        }
    }
}

/// Which timestamps may still be asked for, found out when first needed.
pub(crate) struct Horizon<'a> {
    cell: OnceCell<(Lsn, Vec<Lsn>)>,
    /// `None`: only the newest state matters (temporary tables).
    source: Option<&'a Inner>,
}

impl<'a> Horizon<'a> {
    pub(crate) fn of(engine: &'a Inner) -> Horizon<'a> {
        Horizon { cell: OnceCell::new(), source: Some(engine) }
    }

    pub(crate) fn newest_only() -> Horizon<'static> {
        Horizon { cell: OnceCell::new(), source: None }
    }

    #[cfg(test)]
    pub(crate) fn fixed(new: Lsn, pinned: Vec<Lsn>) -> Horizon<'static> {
        Horizon { cell: OnceCell::from((new, pinned)), source: None }
    }

    /// Snapshots that begin from now on are at the first or later; the announced ones, ascending.
    pub(crate) fn get(&self) -> &(Lsn, Vec<Lsn>) {
        self.cell.get_or_init(|| match self.source {
            None => (Lsn(u64::MAX), Vec::new()),
            Some(engine) => {
                let pins = engine.registry.pins.lock();
                (engine.durable_ts(), pins.keys().map(|(ts, _)| *ts).collect())
            }
        })
    }

    /// No snapshot before this timestamp exists or will.
    pub(crate) fn safe(&self) -> Lsn {
        let (new, pinned) = self.get();
        pinned.first().map_or(*new, |first| (*first).min(*new))
    }
}

/// An announced timestamp with its super-version; withdrawn when dropped.
pub(crate) struct Pin {
    pub(crate) engine: Arc<Inner>,
    pub(crate) version: Arc<SuperVersion>,
    pub(crate) ts: Lsn,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.engine.registry.withdraw(self.ts, self.version.applied);
    }
}

impl Pin {
    /// Takes the newest super-version and the timestamp that `choose` gives.
    pub(crate) fn take(engine: &Arc<Inner>, choose: impl Fn() -> Lsn) -> Pin {
        if engine.version.load().base.failed() {
            engine.revive();
        }
        loop {
            let version = engine.version.load_full();
            let ts = engine.registry.announce(version.applied, &choose);
            let pin = Pin { engine: engine.clone(), version, ts };
            if Arc::ptr_eq(&*engine.version.load(), &pin.version) {
                debug_assert!(pin.version.applied <= ts, "a base newer than its reader");
                return pin;
            }
        }
    }
}

pub(crate) struct SnapshotInner {
    pub(crate) pin: Arc<Pin>,
    pub(crate) command: CommandId,
    /// `None`: the transaction has written nothing this snapshot could see.
    pub(crate) own: Option<Arc<WriteSet>>,
    /// Rows of the session's temporary tables.
    pub(crate) temporary: Arc<Memtable>,
    /// SERIALIZABLE: where reads are remembered.
    pub(crate) reads: Option<Arc<Reads>>,
}

impl Drop for SnapshotInner {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            own.leave(self.command);
        }
    }
}

/// What one statement sees, for as long as it is kept: cheap to clone, needs no transaction. Beside it the columns that
/// whoever reads by it looks at.
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<SnapshotInner>, pub(crate) Columns);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("ts", &self.0.pin.ts).field("command", &self.0.command).finish()
    }
}

impl Snapshot {
    /// Its timestamp: commits up to here are seen.
    pub fn timestamp(&self) -> Lsn {
        self.0.pin.ts
    }

    /// The command it belongs to: own writes of commands before it are seen.
    pub fn command(&self) -> CommandId {
        self.0.command
    }

    /// The row as this snapshot sees it.
    pub fn get(&self, table: &Table, row: RowId) -> Result<Option<Row>> {
        let layout = self.0.pin.engine.layout(table)?;
        let temporary = table.persistence == Persistence::Temporary;
        self.read_row(table.storage, row);
        let found = self.0.view().fetch(table.storage, temporary, row)?.1;
        Ok(found.map(|bytes| Row::new(bytes, layout)))
    }

    /// Rows in row id order, all or those with ids in `range`.
    pub fn scan(&self, table: &Table, range: Option<Range<RowId>>) -> Result<TableScan> {
        TableScan::new(self, table, range.unwrap_or(RowId(0)..RowId(u64::MAX)), None)
    }

    /// As [`Snapshot::scan`] for a reader that looks at nothing in rows that do not meet the filter, but to leave them out.
    pub fn scan_filtered(
        &self,
        table: &Table,
        range: Option<Range<RowId>>,
        filter: &ScanFilter,
    ) -> Result<TableScan> {
        TableScan::new(self, table, range.unwrap_or(RowId(0)..RowId(u64::MAX)), Some(filter))
    }

    /// Whether reads are remembered to be validated.
    pub fn is_validated(&self) -> bool {
        self.0.reads.is_some()
    }

    /// The same for a reader that looks at these columns only. (What it writes or locks is protected by locks.)
    pub fn of_columns(&self, columns: &Columns) -> Snapshot {
        Snapshot(self.0.clone(), columns.clone())
    }

    /// The same for a reader that has the row locked or is about to: nothing needs to be remembered.
    pub fn unvalidated_get(&self, table: &Table, row: RowId) -> Result<Option<Row>> {
        let layout = self.0.pin.engine.layout(table)?;
        let temporary = table.persistence == Persistence::Temporary;
        let found = self.0.view().fetch(table.storage, temporary, row)?.1;
        Ok(found.map(|bytes| Row::new(bytes, layout)))
    }

    pub(crate) fn read_row(&self, storage: u32, row: RowId) {
        if let Some(reads) = &self.0.reads {
            reads.row(self.0.pin.ts, storage, row, &self.1);
        }
    }

    /// Visible rows in key order (`backward`: in reverse); every entry is checked against the visible version's key.
    pub fn index_scan(
        &self,
        table: &Table,
        index: &Index,
        range: KeyRange,
        backward: bool,
    ) -> Result<IndexScan> {
        IndexScan::new(self, table, index, range, backward)
    }

    /// The first visible row with exactly that whole key: the short way for a unique index.
    pub fn index_get(&self, table: &Table, index: &Index, key: &[u8]) -> Result<Option<(RowId, Row)>> {
        let layout = self.0.pin.engine.layout(table)?;
        let found = self.0.view().find(&KeyShape::of(table, index), &layout, key, |_| true)?;
        if let Some(reads) = &self.0.reads {
            reads.key(self.0.pin.ts, index.storage, key);
            if let Some((row, _)) = &found {
                self.read_row(table.storage, *row);
            }
        }
        Ok(found)
    }

    /// Live rows of the table by the newest commit.
    pub fn row_estimate(&self, table: &Table) -> u64 {
        match table.persistence {
            Persistence::Permanent => self.0.pin.engine.live_rows(table.storage),
            Persistence::Temporary => {
                self.0.temporary.table(table.storage).map_or(0, |rows| rows.row_delta().max(0) as u64)
            }
        }
    }
}

/// More than any key and row id: the end of the entries of one key is the key followed by this.
pub(crate) fn entry_bounds(key: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut last = Vec::with_capacity(key.len() + 8);
    last.extend_from_slice(key);
    last.extend_from_slice(&[0xff; 8]);
    (Bound::Included(key.to_vec()), Bound::Included(last))
}

/// Layers, a timestamp and own writes, borrowed: what reads are defined on.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) version: &'a SuperVersion,
    pub(crate) ts: Lsn,
    pub(crate) command: CommandId,
    pub(crate) own: Option<&'a WriteSet>,
    pub(crate) temporary: &'a Memtable,
}

impl SnapshotInner {
    /// Whether a group of the base is there for this snapshot.
    pub(crate) fn shows(&self, storage: u32, group: u32) -> bool {
        self.pin.version.shows(storage, group, self.pin.ts, self.viewer())
    }

    pub(crate) fn viewer(&self) -> Option<Viewer> {
        self.own.as_ref().map(|own| Viewer { owner: own.owner(), command: self.command })
    }

    /// What pieces beside the base make of rows of one group, for this snapshot.
    pub(crate) fn changes_of(&self, storage: u32, rows: Range<u64>) -> Result<Vec<(u16, Option<RowBytes>)>> {
        let version = &self.pin.version;
        version.bulk.changes_of(&version.base, storage, rows, self.pin.ts, self.viewer())
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            version: &self.pin.version,
            ts: self.pin.ts,
            command: self.command,
            own: self.own.as_deref(),
            temporary: &self.temporary,
        }
    }
}

/// Where an index entry was found: entries of the base are exact for rows of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Base,
    Overlay,
}

impl View<'_> {
    fn viewer(&self) -> Option<Viewer> {
        self.own.map(|own| Viewer { owner: own.owner(), command: self.command })
    }

    /// The visible row, and where it was found.
    pub(crate) fn fetch(
        &self,
        storage: u32,
        temporary: bool,
        row: RowId,
    ) -> Result<(Source, Option<RowBytes>)> {
        if let Some(own) = self.own
            && let Some(found) = own.get(storage, row, self.command)
        {
            return Ok((Source::Overlay, found));
        }
        if let (Some(own), Some(viewer)) = (self.own, self.viewer())
            && let Some(landed) = own.landed()
            && let Some(found) = self.version.bulk.own_row(&landed, (storage, row), viewer)?
        {
            return Ok((Source::Overlay, found));
        }
        if temporary {
            let found = self.temporary.get(storage, row, Lsn(u64::MAX))?;
            return Ok((Source::Overlay, found.and_then(|(_, row)| row)));
        }
        match self.version.get_for(storage, row, self.ts, self.viewer())? {
            Found::Recent(_, row) => Ok((Source::Overlay, row)),
            // Changes that this view does not see have entries in the base, too.
            Found::Base(bytes) => match self.version.base.changed(storage, row.group()) {
                [] => Ok((Source::Base, bytes)),
                _ => Ok((Source::Overlay, bytes)),
            },
        }
    }

    /// The visible row of an entry, if it (still) has that key.
    pub(crate) fn fetch_entry(
        &self,
        shape: &KeyShape,
        layout: &Arc<RowLayout>,
        key: &[u8],
        id: RowId,
        source: Source,
    ) -> Result<Option<Row>> {
        let (found, bytes) = self.fetch(shape.rows, shape.temporary, id)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let row = Row::new(bytes, layout.clone());
        let exact = source == Source::Base && found == Source::Base;
        let counts = exact || shape.key(&row).as_deref() == Some(key);
        Ok(counts.then_some(row))
    }

    /// Calls `visit` for each entry of one key, in no order and possibly more than once, until it says true.
    /// Entries known to be dead for this view are left out.
    pub(crate) fn entries_of(
        &self,
        shape: &KeyShape,
        key: &[u8],
        mut visit: impl FnMut(RowId, Source) -> Result<bool>,
    ) -> Result<()> {
        // Growing keys are beyond everything there is: no range is needed to see that.
        let bounds = OnceCell::new();
        let bounds = || bounds.get_or_init(|| entry_bounds(key));
        if let Some(own) = self.own
            && own.reaches(shape.entries, key)
        {
            let (low, high) = bounds();
            let mut entries = VecDeque::new();
            own.range(shape.entries, low, high, false, usize::MAX, &mut entries);
            for entry in entries {
                if visit(index::split(&entry).1, Source::Overlay)? {
                    return Ok(());
                }
            }
        }
        let range = KeyRange { low: Bound::Included(key.to_vec()), high: Bound::Included(key.to_vec()) };
        if let Some(landed) = self.own.and_then(WriteSet::landed).filter(|_| !shape.temporary) {
            let mut entries = landed.index_range(shape.entries, &range, false);
            while let Some((_, id)) = entries.peek()? {
                if visit(id, Source::Overlay)? {
                    return Ok(());
                }
                entries.advance();
            }
        }
        let mut dead = Vec::new();
        let mut recent = VecDeque::new();
        let mut look = |memtable: &Memtable, dead: &mut Vec<RowId>| -> Result<bool> {
            let Some(overlay) = memtable.index(shape.entries) else { return Ok(false) };
            if !overlay.reaches(key) {
                return Ok(false);
            }
            let (low, high) = bounds();
            overlay.range(low, high, false, usize::MAX, &mut recent);
            for (entry, state) in recent.drain(..) {
                let id = index::split(&entry).1;
                if dead.contains(&id) {
                    continue;
                }
                if state.ts <= self.ts && !state.live {
                    dead.push(id);
                } else if visit(id, Source::Overlay)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        if shape.temporary {
            look(self.temporary, &mut dead)?;
            return Ok(());
        }
        for memtable in self.version.memtables() {
            if look(memtable, &mut dead)? {
                return Ok(());
            }
        }
        if self.version.base.is_beyond(shape.entries, key)? {
            return self.version.check_alive();
        }
        let mut entries = self.version.base.index_range(shape.entries, &range, false);
        while let Some((_, id)) = entries.peek()? {
            if !dead.contains(&id) && visit(id, Source::Base)? {
                return Ok(());
            }
            entries.advance();
        }
        self.version.check_alive()
    }

    /// The first visible row with exactly that key that `accept` takes.
    pub(crate) fn find(
        &self,
        shape: &KeyShape,
        layout: &Arc<RowLayout>,
        key: &[u8],
        accept: impl Fn(RowId) -> bool,
    ) -> Result<Option<(RowId, Row)>> {
        let mut found = None;
        self.entries_of(shape, key, |id, source| {
            if accept(id) {
                found = self.fetch_entry(shape, layout, key, id, source)?.map(|row| (id, row));
            }
            Ok(found.is_some())
        })?;
        Ok(found)
    }
}
