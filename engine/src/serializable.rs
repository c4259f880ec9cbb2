//! SERIALIZABLE: backward validation of what was read, at commit (precision locks, Neumann et al., SIGMOD 2015).
//!
//! The hard idea: under snapshot isolation the only thing missing for serial order is that nobody changed what a
//! transaction read between its snapshot and its commit. So reads are remembered as predicates (a row, a range
//! of an index, a whole table), and a commit compares them with the write sets committed since its snapshot.
//! If none is hit, the transaction could as well have run at the moment of its commit: commit order is the
//! serial order. Transactions that write nothing are as of their snapshot and never fail. As in PostgreSQL the
//! promise holds among serializable transactions; others are not looked at.
//!
//! Serializable commits get their LSNs one after the other, so that none slips in between another's check and its
//! LSN. But only the last few commits are compared inside that mutex: the rest are looked at before, outside.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::{Bound, RangeBounds};

use value::{Datum, Error, Oid, Result, SqlState, key};

use crate::ids::{Lsn, RowId};
use crate::index;
use crate::memtable::as_slice;
use crate::row::{Row, RowBytes, RowLayout};
use crate::sync::{Arc, Mutex};
use crate::write_set::{OwnTable, WriteSet};

/// More rows than this of one table are remembered as the whole table.
const ROWS: usize = 10_000;
/// More ranges than this of one index are remembered as the whole index.
const RANGES: usize = 1_000;
/// More keys than this of one index are remembered as the whole index.
const KEYS: usize = 10_000;
/// More conditions than this on one table are remembered as the whole table.
const FILTERS: usize = 100;
/// Bytes of write sets kept for validation; older transactions fail beyond it.
const KEPT: u64 = 64 << 20;
/// Commits that are compared while no other serializable commit can happen.
const INSIDE: usize = 64;

type EntryRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Conditions that a scan's rows must meet, all of them; rows that do not are not read. What a scan asks beyond
/// them is left out, which makes it read more. Each is met by any of some ranges of columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanFilter {
    conditions: Vec<Vec<ColumnRange>>,
}

/// Values of one column, in the order of its key form; NULL is in none.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnRange {
    column: usize,
    ty: Oid,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
}

impl ColumnRange {
    /// `ty`: the column's type, which the bounds have too.
    pub fn new(column: usize, ty: Oid, low: Bound<&Datum>, high: Bound<&Datum>) -> ColumnRange {
        let encode = |value: &Datum| {
            let mut bytes = Vec::new();
            key::encode(value, ty, false, false, &mut bytes);
            bytes
        };
        ColumnRange { column, ty, low: low.map(encode), high: high.map(encode) }
    }

    fn contains(&self, row: &Row, bytes: &mut Vec<u8>) -> bool {
        let value = row.get(self.column);
        if value.is_null() {
            return false;
        }
        bytes.clear();
        key::encode(&value, self.ty, false, false, bytes);
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (as_slice(&self.low), as_slice(&self.high));
        RangeBounds::<[u8]>::contains(&range, &bytes[..])
    }
}

impl ScanFilter {
    /// Adds a condition that any of the ranges meets.
    pub fn require(&mut self, any: Vec<ColumnRange>) {
        self.conditions.push(any);
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    fn accepts(&self, row: &Row) -> bool {
        let mut bytes = Vec::new();
        self.conditions.iter().all(|any| any.iter().any(|range| range.contains(row, &mut bytes)))
    }
}

/// What was read of a table by scans.
#[derive(Debug)]
enum Scanned {
    Whole,
    Filtered(Vec<ScanFilter>),
}

#[derive(Debug, Default)]
struct Predicates {
    tables: HashMap<u32, Scanned>,
    rows: HashMap<u32, HashSet<RowId>>,
    /// Whole keys, there or not.
    keys: HashMap<u32, HashSet<Box<[u8]>>>,
    ranges: HashMap<u32, Vec<EntryRange>>,
}

/// What one transaction has read; rolling back to a savepoint does not forget.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<Predicates>);

impl Reads {
    pub(crate) fn table(&self, storage: u32, filter: Option<&ScanFilter>) {
        let mut reads = self.0.lock();
        let whole = match (reads.tables.get_mut(&storage), filter.filter(|filter| !filter.is_empty())) {
            (Some(Scanned::Whole), _) => return,
            (Some(Scanned::Filtered(known)), Some(filter)) => {
                if !known.contains(filter) {
                    known.push(filter.clone());
                }
                known.len() > FILTERS
            }
            (None, Some(filter)) => {
                reads.tables.insert(storage, Scanned::Filtered(vec![filter.clone()]));
                false
            }
            (_, None) => true,
        };
        if whole {
            reads.tables.insert(storage, Scanned::Whole);
            reads.rows.remove(&storage);
        }
    }

    pub(crate) fn row(&self, storage: u32, row: RowId) {
        let mut reads = self.0.lock();
        if matches!(reads.tables.get(&storage), Some(Scanned::Whole)) {
            return;
        }
        let rows = reads.rows.entry(storage).or_default();
        rows.insert(row);
        if rows.len() > ROWS {
            reads.rows.remove(&storage);
            reads.tables.insert(storage, Scanned::Whole);
        }
    }

    /// A whole key of an index, whether it is there or not.
    pub(crate) fn key(&self, index: u32, key: &[u8]) {
        let mut reads = self.0.lock();
        let keys = reads.keys.entry(index).or_default();
        if keys.len() < KEYS {
            keys.insert(key.into());
        } else {
            reads.keys.remove(&index);
            reads.ranges.insert(index, vec![(Bound::Unbounded, Bound::Unbounded)]);
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
        let of_tables = sets.tables.iter().any(|(storage, own)| reads.table_is_hit(*storage, own));
        of_tables
            || sets.indexes.iter().any(|(storage, own)| {
                let by_range = reads.ranges.get(storage).is_some_and(|ranges| {
                    let written = |(low, high): &EntryRange| {
                        own.entries.range::<[u8], _>((as_slice(low), as_slice(high))).next().is_some()
                    };
                    ranges.iter().any(written)
                });
                let by_key = || {
                    let keys = reads.keys.get(storage);
                    keys.is_some_and(|keys| {
                        own.entries.keys().any(|entry| keys.contains(index::split(entry).0))
                    })
                };
                by_range || by_key()
            })
    }
}

impl Predicates {
    fn table_is_hit(&self, storage: u32, own: &OwnTable) -> bool {
        let written = || {
            own.groups
                .iter()
                .flat_map(|(group, rows)| rows.iter().map(|(offset, row)| (RowId::at(*group, *offset), row)))
        };
        let filters = match self.tables.get(&storage) {
            Some(Scanned::Whole) => return written().next().is_some(),
            Some(Scanned::Filtered(filters)) => &filters[..],
            None => &[],
        };
        if let Some(rows) = self.rows.get(&storage) {
            let count: usize = own.groups.values().map(BTreeMap::len).sum();
            let hit = if count <= rows.len() {
                written().any(|(id, _)| rows.contains(&id))
            } else {
                let group = |row: &RowId| own.groups.get(&row.group());
                rows.iter().any(|row| group(row).is_some_and(|group| group.contains_key(&row.offset())))
            };
            if hit {
                return true;
            }
        }
        // As it was, or as it is: both ways it is a row that the scan would have found another way.
        !filters.is_empty()
            && written().any(|(_, row)| {
                let images = [row.base.as_ref(), row.newest.row.as_ref()];
                images.into_iter().flatten().any(|image| accepted(filters, image, &own.layout))
            })
    }
}

fn accepted(filters: &[ScanFilter], image: &RowBytes, layout: &Arc<RowLayout>) -> bool {
    let row = Row::new(image.clone(), layout.clone());
    filters.iter().any(|filter| filter.accepts(&row))
}

#[derive(Clone)]
struct Committed {
    lsn: Lsn,
    bytes: u64,
    writes: Arc<WriteSet>,
}

#[derive(Default)]
struct State {
    /// Snapshots of running serializable transactions that may write.
    running: BTreeMap<Lsn, u32>,
    /// Write sets of serializable commits since the oldest of them.
    log: VecDeque<Committed>,
    bytes: u64,
    /// Commits up to here have been dropped from the log although somebody might have needed them.
    forgotten: Lsn,
}

impl State {
    /// Commits after `checked`; 40001 when they are not all there any more.
    fn since(&self, checked: Lsn) -> Result<Vec<Committed>> {
        if checked < self.forgotten {
            return Err(failure("history of what was committed meanwhile is no longer kept"));
        }
        let start = self.log.partition_point(|commit| commit.lsn <= checked);
        Ok(self.log.range(start..).cloned().collect())
    }
}

pub(crate) fn failure(reason: &str) -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to read/write dependencies among transactions",
    )
    .detail(format!("Reason code: {reason}."))
    .hint("The transaction might succeed if retried.")
}

fn compare(reads: &Reads, newer: &[Committed]) -> Result<()> {
    if newer.iter().any(|commit| reads.is_hit(&commit.writes)) {
        return Err(failure(
            "Canceled because what it read was changed by a transaction that committed first",
        ));
    }
    Ok(())
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
        while state.log.front().is_some_and(|commit| commit.lsn <= needed) {
            if let Some(commit) = state.log.pop_front() {
                state.bytes -= commit.bytes;
            }
        }
    }

    /// Whether a transaction with that snapshot could commit as things stand: 40001 when something it read was changed
    /// by a commit after its snapshot. Holds up nobody.
    pub(crate) fn check(&self, ts: Lsn, reads: &Reads) -> Result<()> {
        let newer = self.0.lock().since(ts)?;
        compare(reads, &newer)
    }

    /// Commits a transaction with that snapshot: validates, then runs `log`, which gives its LSN. 40001 as
    /// [`Validation::check`].
    pub(crate) fn commit<T>(
        &self,
        ts: Lsn,
        reads: &Reads,
        writes: &Arc<WriteSet>,
        log: impl FnOnce() -> Result<(Lsn, T)>,
    ) -> Result<(Lsn, T)> {
        let mut checked = ts;
        loop {
            let mut state = self.0.lock();
            let newer = state.since(checked)?;
            if newer.len() > INSIDE {
                drop(state);
                compare(reads, &newer)?;
                checked = newer.last().map_or(checked, |commit| commit.lsn);
                continue;
            }
            compare(reads, &newer)?;
            let state = &mut *state;
            let (lsn, logged) = log()?;
            let bytes = writes.read().bytes;
            state.log.push_back(Committed { lsn, bytes, writes: writes.clone() });
            state.bytes += bytes;
            while state.bytes > KEPT
                && state.log.len() > 1
                && let Some(commit) = state.log.pop_front()
            {
                state.bytes -= commit.bytes;
                state.forgotten = commit.lsn;
            }
            return Ok((lsn, logged));
        }
    }
}
