//! Large transactions: new rows go to the base before their transaction ends, in groups that nobody sees yet.
//!
//! The hard idea: visibility of a whole group. A transaction that inserts much takes row ids by whole groups of
//! 8192, so that a group is its own; past a limit it writes full groups and their index entries into the base, in
//! one commit of the store that also names them as pending, and forgets them. Readers of the base ask for a
//! pending group once whether its transaction has committed. The commit logs the names only. A group of a
//! transaction that failed, or that a crash left without its commit, is emptied by a later checkpoint.

use std::collections::{BTreeMap, HashMap};

use value::Result;

use crate::base::{Keys, RowChange, Run};
use crate::ids::{CommandId, GROUP_ROWS, Lsn, RowId};
use crate::row::RowBytes;
use crate::stage::Stages;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};

/// Groups `first .. first + count` of one storage, and the live rows in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceFacts {
    pub(crate) id: u64,
    pub(crate) storage: u32,
    pub(crate) rows: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Of this transaction, written by commands up to that one.
    Pending {
        owner: u64,
        last: CommandId,
    },
    /// The transaction's own snapshots may outlive it: they see its rows whatever their timestamp.
    Committed {
        at: Lsn,
        owner: u64,
        last: CommandId,
    },
    Aborted,
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

    pub(crate) fn begin(&self, id: u64, owner: u64, last: CommandId) {
        self.states.write().insert(id, State::Pending { owner, last });
    }

    pub(crate) fn commit(&self, id: u64, at: Lsn) {
        self.next.fetch_max(id, Ordering::Relaxed);
        let mut states = self.states.write();
        let (owner, last) = match states.get(&id) {
            Some(State::Pending { owner, last }) => (*owner, *last),
            _ => (0, CommandId(u32::MAX)),
        };
        states.insert(id, State::Committed { at, owner, last });
    }

    pub(crate) fn abort(&self, id: u64) {
        self.states.write().insert(id, State::Aborted);
        self.garbage.lock().push(id);
    }

    /// After recovery: what was not committed.
    pub(crate) fn collect_garbage(&self) {
        let states = self.states.read();
        let aborted = states.iter().filter(|(_, state)| matches!(state, State::Aborted));
        *self.garbage.lock() = aborted.map(|(id, _)| *id).collect();
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
        let own = |owner: u64, last: CommandId| {
            viewer.is_some_and(|viewer| viewer.owner == owner && last < viewer.command)
        };
        match self.states.read().get(&id) {
            Some(State::Committed { at, owner, last }) => *at <= ts || own(*owner, *last),
            Some(State::Pending { owner, last }) => own(*owner, *last),
            Some(State::Aborted) | None => false,
        }
    }

    /// Whether a piece is of another transaction that has not ended.
    pub(crate) fn is_foreign(&self, id: u64, owner: u64) -> bool {
        let states = self.states.read();
        matches!(states.get(&id), Some(State::Pending { owner: other, .. }) if *other != owner)
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

/// Whole groups taken out of a write set.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// By group, then offset.
    pub(crate) groups: BTreeMap<u32, Vec<(u16, RowBytes)>>,
    /// By index storage: keys of the base's INDEX, in order.
    pub(crate) entries: BTreeMap<u32, Keys>,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) last: CommandId,
}
