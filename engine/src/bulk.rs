//! Large transactions: new rows go to the base before their transaction ends, in groups that nobody sees yet.
//!
//! The hard idea: visibility of a whole group. A transaction that inserts much takes row ids by whole groups of
//! 8192, so that a group is its own; past a limit it writes full groups and their index entries into the base, in
//! one commit of the store that also names them as pending, and forgets them. Readers of the base ask for a
//! pending group once whether its transaction has committed. The commit logs the names only. A group of a
//! transaction that failed, or that a crash left without its commit, is emptied by a later checkpoint.
//!
//! Changes of rows that were there before go the same way, as pieces beside these rows (`base/changes.rs`), if the
//! newest committed version of the row lies in the base: then every version in a memtable is newer than the piece, and
//! reading goes memtables, pieces from the newest on, base. Which rows its own pieces touch a transaction knows by bits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use value::Result;

use crate::base::{Base, Keys, RowChange, Run};
use crate::ids::{CommandId, GROUP_ROWS, Lsn, RowId};
use crate::lock::{Bits, LockTag};
use crate::row::RowBytes;
use crate::stage::Stages;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};

/// A piece of one storage, and by how many live rows there are more with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceFacts {
    pub(crate) id: u64,
    pub(crate) storage: u32,
    pub(crate) rows: i64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Written by commands up to that one.
    Pending {
        end: End,
        last: CommandId,
    },
    /// The transaction's own snapshots may outlive it: they see its rows whatever their timestamp.
    Committed {
        at: Lsn,
        end: End,
        last: CommandId,
    },
    Aborted,
}

/// A transaction, and the savepoint since which it has done something: when either ends, so do the locks and keys that
/// this stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) owner: u64,
    pub(crate) savepoint: u64,
}

impl End {
    /// What is held until then.
    pub(crate) fn tag(self) -> LockTag {
        LockTag::Transaction { owner: self.owner, savepoint: self.savepoint }
    }
}

impl State {
    /// Whether the piece is the viewer's own, by commands that it sees.
    fn is_own(&self, viewer: Viewer) -> bool {
        match self {
            State::Committed { end, last, .. } | State::Pending { end, last } => {
                end.owner == viewer.owner && *last < viewer.command
            }
            State::Aborted => false,
        }
    }
}

/// Who looks, for groups that are its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer {
    pub(crate) owner: u64,
    pub(crate) command: CommandId,
}

/// What became of the pieces that the base calls pending.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    states: RwLock<HashMap<u64, State>>,
    next: AtomicU64,
    /// Aborted, still in the base.
    garbage: Mutex<Vec<u64>>,
    /// What is on its way there.
    pub(crate) stages: Stages,
}

impl Bulk {
    /// Pieces that the base names; those that the log does not commit are garbage after recovery.
    pub(crate) fn recover(&self, pending: impl Iterator<Item = u64>) {
        for id in pending {
            self.next.fetch_max(id, Ordering::Relaxed);
            self.states.write().insert(id, State::Aborted);
        }
    }

    pub(crate) fn new_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn begin(&self, id: u64, end: End, last: CommandId) {
        self.states.write().insert(id, State::Pending { end, last });
    }

    pub(crate) fn commit(&self, id: u64, at: Lsn) {
        self.next.fetch_max(id, Ordering::Relaxed);
        let mut states = self.states.write();
        let (end, last) = match states.get(&id) {
            Some(State::Pending { end, last }) => (*end, *last),
            _ => (End::default(), CommandId(u32::MAX)),
        };
        states.insert(id, State::Committed { at, end, last });
    }

    pub(crate) fn abort(&self, id: u64) {
        self.states.write().insert(id, State::Aborted);
        self.garbage.lock().push(id);
    }

    /// After recovery: what was not committed.
    pub(crate) fn collect_garbage(&self) {
        let states = self.states.read();
        let aborted = states.iter().filter(|(_, state)| matches!(state, State::Aborted));
        let mut garbage: Vec<u64> = aborted.map(|(id, _)| *id).collect();
        garbage.sort_unstable();
        *self.garbage.lock() = garbage;
    }

    /// Whether a piece is one whose transaction has failed.
    pub(crate) fn is_aborted(&self, id: u64) -> bool {
        matches!(self.states.read().get(&id), Some(State::Aborted) | None)
    }

    pub(crate) fn has_garbage(&self) -> bool {
        !self.garbage.lock().is_empty()
    }

    pub(crate) fn take_garbage(&self) -> Vec<u64> {
        std::mem::take(&mut *self.garbage.lock())
    }

    pub(crate) fn put_garbage_back(&self, ids: &[u64]) {
        self.garbage.lock().extend_from_slice(ids);
    }

    /// Whether a piece's rows are there for a reader at `ts`.
    pub(crate) fn is_visible(&self, id: u64, ts: Lsn, viewer: Option<Viewer>) -> bool {
        self.visible_since(id, ts, viewer).is_some()
    }

    /// Since when a piece's rows are there, if they are for a reader at `ts`. (Of its own that it sees before their
    /// commit: since ever.)
    pub(crate) fn visible_since(&self, id: u64, ts: Lsn, viewer: Option<Viewer>) -> Option<Lsn> {
        let states = self.states.read();
        let state = states.get(&id)?;
        let own = viewer.is_some_and(|viewer| state.is_own(viewer));
        match state {
            State::Committed { at, .. } => (*at <= ts || own).then_some(*at),
            State::Pending { .. } => own.then_some(Lsn(0)),
            State::Aborted => None,
        }
    }

    fn is_own(&self, id: u64, viewer: Viewer) -> bool {
        self.states.read().get(&id).is_some_and(|state| state.is_own(viewer))
    }

    /// Whether the rows of a group have been put into `base` by the viewer itself.
    pub(crate) fn has_put(&self, base: &Base, (storage, group): (u32, u32), viewer: Viewer) -> bool {
        base.pending(storage, group).is_some_and(|piece| self.is_own(piece, viewer))
    }

    /// The row as the viewer's own pieces have it: put there or changed. `None`: they leave it alone.
    pub(crate) fn own_row(
        &self,
        base: &Base,
        (storage, row): (u32, RowId),
        viewer: Viewer,
    ) -> Result<Option<Option<RowBytes>>> {
        let own = |piece| self.is_own(piece, viewer).then_some(());
        if let Some(((), change)) = newest_change(base, (storage, row), own)? {
            return Ok(Some(change));
        }
        match self.has_put(base, (storage, row.group()), viewer) {
            true => base.get(storage, row).map(Some),
            false => Ok(None),
        }
    }

    /// What the viewer's own pieces make of the rows with ids in `rows`, all of one group, by offset.
    pub(crate) fn own_changes(
        &self,
        base: &Base,
        storage: u32,
        rows: Range<u64>,
        viewer: Viewer,
    ) -> Result<Vec<(u16, Option<RowBytes>)>> {
        all_changes(base, storage, rows, |piece| self.is_own(piece, viewer))
    }

    /// What the newest piece of changes that a reader may see makes of a row, and since when. `None`: there is none.
    pub(crate) fn change_of(
        &self,
        base: &Base,
        (storage, row): (u32, RowId),
        ts: Lsn,
        viewer: Option<Viewer>,
    ) -> Result<Option<(Lsn, Option<RowBytes>)>> {
        newest_change(base, (storage, row), |piece| self.visible_since(piece, ts, viewer))
    }

    /// What pieces of changes that a reader may see make of the rows with ids in `rows`, all of one group, by offset.
    pub(crate) fn changes_of(
        &self,
        base: &Base,
        storage: u32,
        rows: Range<u64>,
        ts: Lsn,
        viewer: Option<Viewer>,
    ) -> Result<Vec<(u16, Option<RowBytes>)>> {
        all_changes(base, storage, rows, |piece| self.is_visible(piece, ts, viewer))
    }

    /// What to wait for when a piece is of another transaction of which not everything is applied: it has not ended, or
    /// its commit is newer than `applied`.
    pub(crate) fn foreign(&self, id: u64, owner: u64, applied: Lsn) -> Option<End> {
        let end = match self.states.read().get(&id)? {
            State::Pending { end, .. } => *end,
            State::Committed { at, end, .. } if *at > applied => *end,
            State::Committed { .. } | State::Aborted => return None,
        };
        (end.owner != owner).then_some(end)
    }
}

/// What the newest piece of changes that counts makes of a row, with what `counts` says of it.
fn newest_change<T>(
    base: &Base,
    (storage, row): (u32, RowId),
    counts: impl Fn(u64) -> Option<T>,
) -> Result<Option<(T, Option<RowBytes>)>> {
    for piece in base.changed(storage, row.group()).iter().rev() {
        if let Some(what) = counts(*piece)
            && let Some(change) = base.change_of(storage, *piece, row)?
        {
            return Ok(Some((what, change)));
        }
    }
    Ok(None)
}

/// What the pieces of changes that count make of the rows with ids in `rows`, all of one group, by offset.
fn all_changes(
    base: &Base,
    storage: u32,
    rows: Range<u64>,
    counts: impl Fn(u64) -> bool,
) -> Result<Vec<(u16, Option<RowBytes>)>> {
    let mut changes = Vec::new();
    for piece in base.changed(storage, RowId(rows.start).group()).iter().rev() {
        if counts(*piece) {
            changes = merge(changes, base.changes_of(storage, *piece, rows.clone())?);
        }
    }
    Ok(changes)
}

/// Merges two lists by offset; where both have one, `newer` counts.
pub(crate) fn merge<T>(newer: Vec<(u16, T)>, older: Vec<(u16, T)>) -> Vec<(u16, T)> {
    if newer.is_empty() {
        return older;
    }
    let mut out = Vec::with_capacity(newer.len() + older.len());
    let mut older = older.into_iter().peekable();
    for (offset, row) in newer {
        while let Some(before) = older.next_if(|(other, _)| *other < offset) {
            out.push(before);
        }
        older.next_if(|(other, _)| *other == offset);
        out.push((offset, row));
    }
    out.extend(older);
    out
}

/// Rows of one group that a piece changes.
#[derive(Debug)]
struct Touched {
    piece: u64,
    last: CommandId,
    changed: Bits,
    deleted: Bits,
}

/// Rows that a transaction's own pieces change, by storage and group; of each group the newest piece last.
#[derive(Debug, Default)]
pub(crate) struct OwnChanges(HashMap<(u32, u32), Vec<Touched>>);

impl OwnChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, piece: u64, storage: u32, taken: &Changed) {
        for (group, rows) in &taken.groups {
            let (mut changed, mut deleted) = (Bits::default(), Bits::default());
            for (offset, row) in rows {
                changed.set(*offset);
                if row.is_none() {
                    deleted.set(*offset);
                }
            }
            let touched = Touched { piece, last: taken.last, changed, deleted };
            self.0.entry((storage, *group)).or_default().push(touched);
        }
    }

    /// Forgets pieces that are not among those.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(u64) -> bool) {
        self.0.retain(|_, list| {
            list.retain(|touched| is_kept(touched.piece));
            !list.is_empty()
        });
    }

    /// By which command the row was changed last, at the latest, and whether it was deleted.
    pub(crate) fn state(&self, storage: u32, row: RowId) -> Option<(CommandId, bool)> {
        if self.0.is_empty() {
            return None;
        }
        let list = self.0.get(&(storage, row.group()))?;
        let touched = list.iter().rev().find(|touched| touched.changed.has(row.offset()))?;
        Some((touched.last, touched.deleted.has(row.offset())))
    }
}

/// Row ids that a transaction has taken for itself in one storage.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Rows inserted with ids of the common counter.
    single: u64,
    next: u64,
    end: u64,
    /// Groups all of whose ids are this transaction's, with the savepoint that was the newest when they were taken.
    pub(crate) groups: BTreeMap<u32, u64>,
}

/// Rows after which a transaction takes ids by groups, if it did not before.
const MANY: u64 = 65_536;

impl Own {
    /// The next row id; `single` gives one of the common counter, `group` the first of a whole group, of which `rows`
    /// are used. `large`: the transaction has changed much already.
    pub(crate) fn next(
        &mut self,
        savepoint: u64,
        large: bool,
        single: impl FnOnce() -> RowId,
        group: impl FnOnce() -> RowId,
        rows: u64,
    ) -> RowId {
        if self.next == self.end {
            if self.single < MANY && !large {
                self.single += 1;
                return single();
            }
            let first = group();
            self.groups.insert(first.group(), savepoint);
            (self.next, self.end) = (first.0, first.0 + rows.min(GROUP_ROWS));
        }
        self.next += 1;
        RowId(self.next - 1)
    }

    /// Groups that get no further rows.
    pub(crate) fn full(&self) -> impl Iterator<Item = (u32, u64)> {
        let current = (self.next < self.end).then(|| RowId(self.next).group());
        self.groups
            .iter()
            .map(|(group, savepoint)| (*group, *savepoint))
            .filter(move |(group, _)| Some(*group) != current)
    }
}

/// Rows and index entries of one storage on their way into the base.
pub(crate) struct Spill<'a> {
    pub(crate) storage: u32,
    /// Ascending.
    pub(crate) groups: Vec<u32>,
    /// Of these groups, in order.
    pub(crate) rows: &'a mut dyn Iterator<Item = Result<RowChange>>,
    /// Storages of the indexes, and a run of entries for each.
    pub(crate) indexes: Vec<u32>,
    pub(crate) runs: &'a [Run],
    /// Of all of it, roughly.
    pub(crate) bytes: u64,
}

/// Entries of one index that come with a piece.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) unique: bool,
    /// Keys of the base's INDEX, in order.
    pub(crate) keys: Keys,
}

impl Added {
    pub(crate) fn new(unique: bool) -> Added {
        Added { unique, keys: Keys::default() }
    }
}

/// Changes of committed rows taken out of a write set.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// By group, then offset; `None` = deleted.
    pub(crate) groups: BTreeMap<u32, Vec<(u16, Option<RowBytes>)>>,
    /// By index storage.
    pub(crate) added: BTreeMap<u32, Added>,
    /// By storage of unique indexes: keys of the base's INDEX that go, in order.
    pub(crate) removed: BTreeMap<u32, Keys>,
    /// Indexes with entries that come or go, and how many do.
    pub(crate) indexes: BTreeSet<u32>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Live rows more.
    pub(crate) rows: i64,
    pub(crate) last: CommandId,
}

/// Whole groups taken out of a write set.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// By group, then offset.
    pub(crate) groups: BTreeMap<u32, Vec<(u16, RowBytes)>>,
    /// By index storage.
    pub(crate) entries: BTreeMap<u32, Added>,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) last: CommandId,
}
