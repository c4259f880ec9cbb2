//! SERIALIZABLE: backward validation of what was read, at commit (precision locks, Neumann et al., SIGMOD 2015).
//!
//! The hard idea: under snapshot isolation the only thing missing for serial order is that nobody changed what a
//! transaction read between its snapshot and its commit. So reads are remembered as predicates (a row, a range
//! of an index, a whole table), and a commit compares them with the write sets committed since its snapshot.
//! If none is hit, the transaction could as well have run at the moment of its commit: commit order is the
//! serial order. Transactions that write nothing are as of their snapshot and never fail. As in PostgreSQL the
//! promise holds among serializable transactions; others are not looked at.
//!
//! Serializable commits validate one after the other, so that none slips in between another's check and LSN.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use value::{Error, Result, SqlState};

use crate::ids::{Lsn, RowId};
use crate::memtable::as_slice;
use crate::sync::{Arc, Mutex};
use crate::write_set::WriteSet;

/// More rows than this of one table are remembered as the whole table.
const ROWS: usize = 10_000;
/// More ranges than this of one index are remembered as the whole index.
const RANGES: usize = 1_000;
/// Bytes of write sets kept for validation; older transactions fail beyond it.
const KEPT: u64 = 64 << 20;

type EntryRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

#[derive(Debug, Default)]
struct Predicates {
    tables: HashSet<u32>,
    rows: HashMap<u32, HashSet<RowId>>,
    ranges: HashMap<u32, Vec<EntryRange>>,
}

/// What one transaction has read; rolling back to a savepoint does not forget.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<Predicates>);

impl Reads {
    pub(crate) fn table(&self, storage: u32) {
        let mut reads = self.0.lock();
        reads.tables.insert(storage);
        reads.rows.remove(&storage);
    }

    pub(crate) fn row(&self, storage: u32, row: RowId) {
        let mut reads = self.0.lock();
        if reads.tables.contains(&storage) {
            return;
        }
        let rows = reads.rows.entry(storage).or_default();
        rows.insert(row);
        if rows.len() > ROWS {
            reads.rows.remove(&storage);
            reads.tables.insert(storage);
        }
    }

    /// A range of `key ++ row id`, keys that are not there included.
    pub(crate) fn range(&self, index: u32, range: EntryRange) {
        let mut reads = self.0.lock();
        let ranges = reads.ranges.entry(index).or_default();
        if ranges.len() >= RANGES {
            *ranges = vec![(Bound::Unbounded, Bound::Unbounded)];
        } else if !ranges.contains(&range) {
            ranges.push(range);
        }
    }

    fn is_hit(&self, writes: &WriteSet) -> bool {
        let reads = self.0.lock();
        let sets = writes.read();
        for (storage, own) in &sets.tables {
            if reads.tables.contains(storage) && own.groups.values().any(|rows| !rows.is_empty()) {
                return true;
            }
            let Some(rows) = reads.rows.get(storage) else { continue };
            let written = |row: &RowId| {
                own.groups.get(&row.group()).is_some_and(|group| group.contains_key(&row.offset()))
            };
            if rows.iter().any(written) {
                return true;
            }
        }
        for (storage, own) in &sets.indexes {
            let Some(ranges) = reads.ranges.get(storage) else { continue };
            let written = |(low, high): &EntryRange| {
                own.entries.range::<[u8], _>((as_slice(low), as_slice(high))).next().is_some()
            };
            if ranges.iter().any(written) {
                return true;
            }
        }
        false
    }
}

#[derive(Default)]
struct State {
    /// Snapshots of running serializable transactions that may write.
    running: BTreeMap<Lsn, u32>,
    /// Write sets of serializable commits since the oldest of them.
    log: VecDeque<(Lsn, u64, Arc<WriteSet>)>,
    bytes: u64,
    /// Commits up to here have been dropped from the log although somebody might have needed them.
    forgotten: Lsn,
}

/// What serializable commits are validated against.
#[derive(Default)]
pub(crate) struct Validation(Mutex<State>);

impl Validation {
    /// Registers a transaction; `pin` takes its snapshot, with no serializable commit going on meanwhile.
    pub(crate) fn begin<T>(&self, pin: impl FnOnce() -> (Lsn, T)) -> T {
        let mut state = self.0.lock();
        let (ts, pinned) = pin();
        *state.running.entry(ts).or_insert(0) += 1;
        pinned
    }

    /// The transaction has ended. `applied`: snapshots that begin from now on are at it or later.
    pub(crate) fn end(&self, ts: Lsn, applied: Lsn) {
        let mut state = self.0.lock();
        let state = &mut *state;
        if let Some(count) = state.running.get_mut(&ts) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&ts);
            }
        }
        let needed = state.running.keys().next().copied().map_or(applied, |oldest| oldest.min(applied));
        while state.log.front().is_some_and(|(lsn, _, _)| *lsn <= needed) {
            if let Some((_, bytes, _)) = state.log.pop_front() {
                state.bytes -= bytes;
            }
        }
    }

    /// Commits a transaction with that snapshot: validates, then runs `log`, which gives its LSN. 40001 when
    /// something it read was changed by a commit after its snapshot.
    pub(crate) fn commit<T>(
        &self,
        ts: Lsn,
        reads: &Reads,
        writes: &Arc<WriteSet>,
        log: impl FnOnce() -> Result<(Lsn, T)>,
    ) -> Result<(Lsn, T)> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let newer = state.log.iter().rev().take_while(|(lsn, _, _)| *lsn > ts);
        if ts < state.forgotten || newer.into_iter().any(|(_, _, writes)| reads.is_hit(writes)) {
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to read/write dependencies among transactions",
            )
            .detail("Reason code: Canceled on identification as a pivot, during commit attempt.")
            .hint("The transaction might succeed if retried."));
        }
        let (lsn, logged) = log()?;
        let bytes = writes.read().bytes;
        state.log.push_back((lsn, bytes, writes.clone()));
        state.bytes += bytes;
        while state.bytes > KEPT
            && state.log.len() > 1
            && let Some((lsn, bytes, _)) = state.log.pop_front()
        {
            state.bytes -= bytes;
            state.forgotten = lsn;
        }
        Ok((lsn, logged))
    }
}
