//! SERIALIZABLE: backward validation of what was read, at commit (precision locks, Neumann et al., SIGMOD 2015).
//!
//! The hard idea: under snapshot isolation the only thing missing for serial order is that nobody changed what a
//! transaction read between its snapshot and its commit. So reads are remembered as predicates (a row, a key that is there
//! or not, a range of an index, the rows of a table that meet conditions; each with the columns that were looked at), and
//! a commit compares them with the write sets committed since its snapshot. If none is hit, the transaction could as well
//! have run at the moment of its commit: commit order is the serial order. Transactions that write nothing are as of their
//! snapshot and never fail. As in PostgreSQL the promise holds among serializable transactions; others are not looked at.
//!
//! Constraint checks look at the newest state instead of the snapshot. What they rely on is held by locks to the end, and
//! needs no predicate; what they have found and do not hold (a key that is missing, a row that refers to another, whatever
//! rolling back to a savepoint lets go of) is remembered as read at that later moment, since only what is committed after
//! it contradicts it.
//!
//! Of a transaction that has put a part of its write set into the base (`transaction/bulk.rs`) only the groups of rows and
//! the span of index entries are known. It hits whoever has read anything there: some fail that need not, when they ran beside
//! a transaction that large.
//!
//! Against which commits, and when, is the matter of `validation.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, RangeBounds};

use value::{Datum, Oid, key};

use crate::ids::{Lsn, RowId};
use crate::index;
use crate::memtable::as_slice;
use crate::row::{self, Row, RowBytes, RowLayout};
use crate::sync::{Arc, Mutex};
use crate::write_set::{OwnRow, OwnTable, Sets, Spilled, WriteSet};

/// More rows than this of one table are remembered as the whole table.
const ROWS: usize = 10_000;
/// More ranges than this of one index are remembered as the whole index.
const RANGES: usize = 1_000;
/// More keys than this of one index are remembered as the whole index.
const KEYS: usize = 10_000;
/// More conditions than this on one table are remembered as the whole table.
const FILTERS: usize = 100;

/// Moments at which something was read; more of them are put together, as of the earlier one.
const MOMENTS: usize = 64;
/// Sets of columns by which rows of one table are told apart; more of them count as all columns.
const COLUMN_SETS: usize = 16;

type EntryRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Columns of a table that a reader looks at: an update that changes others is no concern of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Sorted; `None`: all.
    list: Option<Arc<[u16]>>,
}

impl Columns {
    pub fn all() -> Columns {
        Columns::default()
    }

    /// Their indexes in `Table::columns`.
    pub fn of(columns: impl IntoIterator<Item = usize>) -> Columns {
        let mut list: Vec<u16> = columns.into_iter().map(|column| column as u16).collect();
        list.sort_unstable();
        list.dedup();
        Columns { list: Some(list.into()) }
    }

    fn with(&self, other: &Columns) -> Columns {
        match (&self.list, &other.list) {
            (Some(a), Some(b)) => Columns::of(a.iter().chain(&**b).map(|column| usize::from(*column))),
            _ => Columns::all(),
        }
    }

    fn covers(&self, other: &Columns) -> bool {
        match (&self.list, &other.list) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => b.iter().all(|column| a.binary_search(column).is_ok()),
        }
    }

    /// Whether two images of a row differ in one of them.
    fn differ(&self, layout: &RowLayout, old: &RowBytes, new: &RowBytes) -> bool {
        match &self.list {
            None => old.bytes() != new.bytes(),
            Some(list) => list.iter().any(|column| !row::same_column(layout, old, new, usize::from(*column))),
        }
    }
}

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
        if self.column >= row.layout().len() {
            // Written before there was such a column.
            return true;
        }
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

    fn accepts(&self, row: &Row) -> bool {
        let mut bytes = Vec::new();
        self.conditions.iter().all(|any| any.iter().any(|range| range.contains(row, &mut bytes)))
    }
}

/// Rows of a table that were looked at by scanning it, and what of them.
#[derive(Clone, Debug)]
struct Scanned {
    filter: ScanFilter,
    columns: Columns,
}

impl Scanned {
    fn covers(&self, other: &Scanned) -> bool {
        (self.filter.conditions.is_empty() || self.filter == other.filter)
            && self.columns.covers(&other.columns)
    }

    fn finds<'r>(&self, row: &'r Option<Row>) -> Option<&'r Row> {
        row.as_ref().filter(|row| self.filter.accepts(row))
    }
}

/// What was read as of one moment.
#[derive(Debug, Default)]
struct Predicates {
    tables: HashMap<u32, Vec<Scanned>>,
    rows: HashMap<u32, Vec<(Columns, HashSet<RowId>)>>,
    /// Whole keys, there or not.
    keys: HashMap<u32, HashSet<Box<[u8]>>>,
    ranges: HashMap<u32, Vec<EntryRange>>,
}

impl Predicates {
    fn table(&mut self, storage: u32, scanned: Scanned) {
        let known = self.tables.entry(storage).or_default();
        if known.iter().any(|other| other.covers(&scanned)) {
            return;
        }
        known.retain(|other| !scanned.covers(other));
        known.push(scanned);
        if known.len() > FILTERS {
            let columns = known.iter().fold(Columns::of([]), |all, one| all.with(&one.columns));
            *known = vec![Scanned { filter: ScanFilter::default(), columns }];
        }
    }

    fn row(&mut self, storage: u32, row: RowId, columns: &Columns) {
        let sets = self.rows.entry(storage).or_default();
        let place = match sets.iter().position(|(other, _)| other == columns) {
            Some(place) => place,
            None if sets.len() < COLUMN_SETS => {
                sets.push((columns.clone(), HashSet::new()));
                sets.len() - 1
            }
            None => {
                sets[0].0 = Columns::all();
                0
            }
        };
        let rows = &mut sets[place].1;
        rows.insert(row);
        if rows.len() > ROWS {
            let (columns, _) = sets.swap_remove(place);
            self.table(storage, Scanned { filter: ScanFilter::default(), columns });
        }
    }

    fn key(&mut self, index: u32, key: &[u8]) {
        let keys = self.keys.entry(index).or_default();
        if keys.len() < KEYS {
            keys.insert(key.into());
        } else {
            self.keys.remove(&index);
            self.range(index, (Bound::Unbounded, Bound::Unbounded));
        }
    }

    fn range(&mut self, index: u32, range: EntryRange) {
        let ranges = self.ranges.entry(index).or_default();
        // A scan going on: what it had read before is part of what it has read now.
        for known in ranges.iter_mut().rev() {
            if covers(known, &range) {
                return;
            }
            if covers(&range, known) {
                *known = range;
                return;
            }
        }
        if ranges.len() >= RANGES {
            *ranges = vec![(Bound::Unbounded, Bound::Unbounded)];
        } else {
            ranges.push(range);
        }
    }

    fn absorb(&mut self, other: Predicates) {
        for (storage, list) in other.tables {
            list.into_iter().for_each(|scanned| self.table(storage, scanned));
        }
        for (storage, sets) in other.rows {
            for (columns, rows) in sets {
                rows.into_iter().for_each(|row| self.row(storage, row, &columns));
            }
        }
        for (index, keys) in other.keys {
            keys.into_iter().for_each(|key| self.key(index, &key));
        }
        for (index, ranges) in other.ranges {
            ranges.into_iter().for_each(|range| self.range(index, range));
        }
    }

    fn is_hit_by_spilled(&self, spilled: &Spilled) -> bool {
        let rows = spilled.groups.iter().any(|(storage, groups)| {
            let mut sets = self.rows.get(storage).into_iter().flatten();
            self.tables.contains_key(storage)
                || sets.any(|(_, rows)| rows.iter().any(|row| groups.contains(&row.group())))
        });
        rows || spilled.entries.iter().any(|(index, (least, greatest))| {
            let mut ranges = self.ranges.get(index).into_iter().flatten();
            let mut keys = self.keys.get(index).into_iter().flatten();
            let (first, last) = (index::split(least).0, index::split(greatest).0);
            ranges.any(|range| meets(range, least, greatest))
                || keys.any(|key| first <= &**key && &**key <= last)
        })
    }

    fn is_hit(&self, sets: &Sets) -> bool {
        let of_table = |storage: &u32, own: &OwnTable| {
            let rows = self.rows.get(storage).is_some_and(|list| rows_are_hit(list, own));
            rows || self.tables.get(storage).is_some_and(|list| scans_are_hit(list, own))
        };
        self.is_hit_by_spilled(&sets.spilled)
            || sets.tables.iter().any(|(storage, own)| of_table(storage, own))
            || sets.indexes.iter().any(|(storage, own)| {
                let written = |(low, high): &EntryRange| own.has_outcome((as_slice(low), as_slice(high)));
                self.ranges.get(storage).is_some_and(|ranges| ranges.iter().any(written))
                    || self.keys.get(storage).is_some_and(|keys| {
                        own.outcomes().any(|(entry, _)| keys.contains(index::split(entry).0))
                    })
            })
    }
}

/// Whether the range has an entry from `least` to `greatest`, or could have.
fn meets(range: &EntryRange, least: &[u8], greatest: &[u8]) -> bool {
    let begins = match &range.0 {
        Bound::Included(low) => &low[..] <= greatest,
        Bound::Excluded(low) => &low[..] < greatest,
        Bound::Unbounded => true,
    };
    let ends = match &range.1 {
        Bound::Included(high) => &high[..] >= least,
        Bound::Excluded(high) => &high[..] > least,
        Bound::Unbounded => true,
    };
    begins && ends
}

/// Whether the first range has all that the second has.
fn covers(a: &EntryRange, b: &EntryRange) -> bool {
    fn low(bound: &Bound<Vec<u8>>) -> Option<(&[u8], bool)> {
        match bound {
            Bound::Unbounded => None,
            Bound::Included(key) => Some((key, false)),
            Bound::Excluded(key) => Some((key, true)),
        }
    }
    fn high(bound: &Bound<Vec<u8>>) -> (bool, &[u8], bool) {
        match bound {
            Bound::Unbounded => (true, &[], true),
            Bound::Included(key) => (false, key, true),
            Bound::Excluded(key) => (false, key, false),
        }
    }
    low(&a.0) <= low(&b.0) && high(&a.1) >= high(&b.1)
}

fn rows_are_hit(list: &[(Columns, HashSet<RowId>)], own: &OwnTable) -> bool {
    let changed = |columns: &Columns, row: &OwnRow| match (&row.base, &row.newest.row) {
        (Some(old), Some(new)) => columns.differ(&own.layout, old, new),
        _ => true,
    };
    let count: usize = own.groups.values().map(BTreeMap::len).sum();
    list.iter().any(|(columns, rows)| {
        if count <= rows.len() {
            own.rows().any(|(id, row)| rows.contains(&id) && changed(columns, row))
        } else {
            rows.iter().any(|id| {
                let row = own.groups.get(&id.group()).and_then(|group| group.get(&id.offset()));
                row.is_some_and(|row| changed(columns, row))
            })
        }
    })
}

fn scans_are_hit(list: &[Scanned], own: &OwnTable) -> bool {
    own.rows().any(|(_, row)| {
        let image = |bytes: &Option<RowBytes>| {
            bytes.as_ref().map(|bytes| Row::new(bytes.clone(), own.layout.clone()))
        };
        let (old, new) = (image(&row.base), image(&row.newest.row));
        list.iter().any(|scanned| {
            match (scanned.finds(&old), scanned.finds(&new)) {
                (None, None) => false,
                // Found as it was, found as it is: another row only where the scan looks at it.
                (Some(old), Some(new)) => scanned.columns.differ(&own.layout, old.shared(), new.shared()),
                _ => true,
            }
        })
    })
}

/// What one transaction has read, by the moment as of which it was; rolling back to a savepoint does not forget.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<BTreeMap<Lsn, Predicates>>);

impl Reads {
    fn remember(&self, as_of: Lsn, add: impl FnOnce(&mut Predicates)) {
        let mut moments = self.0.lock();
        add(moments.entry(as_of).or_default());
        if moments.len() > MOMENTS {
            // The first is the transaction's snapshot, of which the most is known: it stays as it is.
            let mut times = moments.keys().skip(1).copied();
            if let (Some(earlier), Some(later)) = (times.next(), times.next())
                && let Some(more) = moments.remove(&later)
            {
                moments.entry(earlier).or_default().absorb(more);
            }
        }
    }

    pub(crate) fn table(&self, as_of: Lsn, storage: u32, filter: Option<&ScanFilter>, columns: &Columns) {
        let scanned = Scanned { filter: filter.cloned().unwrap_or_default(), columns: columns.clone() };
        self.remember(as_of, |reads| reads.table(storage, scanned));
    }

    pub(crate) fn row(&self, as_of: Lsn, storage: u32, row: RowId, columns: &Columns) {
        self.remember(as_of, |reads| reads.row(storage, row, columns));
    }

    /// A whole key of an index, whether it is there or not.
    pub(crate) fn key(&self, as_of: Lsn, index: u32, key: &[u8]) {
        self.remember(as_of, |reads| reads.key(index, key));
    }

    /// A range of `key ++ row id`, keys that are not there included. It takes the place of a part of it.
    pub(crate) fn range(&self, as_of: Lsn, index: u32, range: EntryRange) {
        self.remember(as_of, |reads| reads.range(index, range));
    }

    /// Whether a commit has changed any of it.
    pub(crate) fn is_hit(&self, lsn: Lsn, writes: &WriteSet) -> bool {
        let moments = self.0.lock();
        let sets = writes.read();
        moments.range(..lsn).any(|(_, reads)| reads.is_hit(&sets))
    }
}
