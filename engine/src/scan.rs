//! Reading many rows: tables in row id order, indexes in key order.
//!
//! The hard idea: a table scan goes group by group and asks each layer once whether it has anything in that
//! group; where none has, the base's blocks pass through untouched. An index scan merges the entries of all
//! layers in key order; one state of an entry is enough to skip it unseen, and only entries that a layer above
//! the base had a say in are compared with the row's key. Rows stay encoded, sharing the block they came from.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Bound, Range};

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use value::arrow_form::ColumnBuilder;
use value::{Error, Result, Type};

use crate::base::{Base, IndexRange, KeyRange};
use crate::bulk::merge;
use crate::catalog::{Index, Persistence, Table};
use crate::dead_run;
use crate::ids::{GROUP_ROWS, RowId};
use crate::index::{self, KeyShape};
use crate::memtable::{GroupOverlay, IndexOverlay, SeenEntry, TableOverlay};
use crate::row::{Row, RowBytes, RowLayout};
use crate::serializable::ScanFilter;
use crate::snapshot::{Snapshot, Source};
use crate::sync::Arc;

/// Most rows that one call of [`TableScan::next`] gives.
const TABLE_BATCH: usize = 1024;
/// Most rows that one call of [`IndexScan::next`] gives.
const INDEX_BATCH: usize = 256;
/// Row ids per block of the base: steps are whole blocks.
const BLOCK: u64 = 128;

/// Rows with their ids, as a scan hands them out.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    pub ids: Vec<RowId>,
    pub rows: Vec<Row>,
}

impl RowBatch {
    pub fn new() -> RowBatch {
        RowBatch::default()
    }

    pub fn clear(&mut self) {
        self.ids.clear();
        self.rows.clear();
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn push(&mut self, id: RowId, row: Row) {
        self.ids.push(id);
        self.rows.push(row);
    }
}

/// The layers above the base that have something in the current group.
#[derive(Default)]
struct GroupLayers {
    own: bool,
    overlays: Vec<Arc<GroupOverlay>>,
}

/// All rows of a table that a snapshot sees, in row id order.
pub struct TableScan {
    snapshot: Snapshot,
    layout: Arc<RowLayout>,
    storage: u32,
    /// Memtables that know the storage, newest first.
    overlays: Vec<Arc<TableOverlay>>,
    own: bool,
    base: bool,
    /// Where the own pieces are that the snapshot's base does not have.
    landed: Option<Base>,
    position: u64,
    end: u64,
    /// Row ids per step: small at first, so that a LIMIT reads little.
    step: u64,
    group: Option<(u32, GroupLayers)>,
    ready: VecDeque<(RowId, RowBytes)>,
    scratch: Vec<(RowId, RowBytes)>,
}

impl fmt::Debug for TableScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableScan").field("storage", &self.storage).field("position", &self.position).finish()
    }
}

impl TableScan {
    pub(crate) fn new(
        snapshot: &Snapshot,
        table: &Table,
        range: Range<RowId>,
        filter: Option<&ScanFilter>,
    ) -> Result<TableScan> {
        let inner = &snapshot.0;
        let temporary = table.persistence == Persistence::Temporary;
        if let Some(reads) = &inner.reads {
            reads.table(inner.pin.ts, table.storage, filter, &snapshot.1);
        }
        let overlays = if temporary {
            inner.temporary.table(table.storage).into_iter().collect()
        } else {
            inner.pin.version.memtables().filter_map(|memtable| memtable.table(table.storage)).collect()
        };
        Ok(TableScan {
            layout: inner.pin.engine.layout(table)?,
            storage: table.storage,
            overlays,
            own: inner.own.as_ref().is_some_and(|own| own.has_table(table.storage)),
            landed: inner.own.as_ref().filter(|_| !temporary).and_then(|own| own.landed()),
            base: !temporary,
            position: range.start.0,
            end: range.end.0,
            step: BLOCK,
            group: None,
            ready: VecDeque::new(),
            scratch: Vec::new(),
            snapshot: snapshot.clone(),
        })
    }

    /// An id above every row that the scan can give: where scans of parts of the table (`Snapshot::scan` with a
    /// range) may end.
    pub fn bound(&self) -> RowId {
        let mut groups = if self.base { self.snapshot.0.pin.version.base.groups(self.storage) } else { 0 };
        while let Some(group) = self.next_group(groups) {
            groups = group + 1;
        }
        RowId(u64::from(groups) * GROUP_ROWS).min(RowId(self.end))
    }

    /// Clears `batch` and fills it with the next rows (at most 1024); false when there are none left.
    pub fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        batch.clear();
        while self.ready.is_empty() {
            if !self.fill()? {
                return Ok(false);
            }
        }
        let count = self.ready.len().min(TABLE_BATCH);
        for (id, bytes) in self.ready.drain(..count) {
            batch.push(id, Row::new(bytes, self.layout.clone()));
        }
        Ok(true)
    }

    /// At most `rows` rows as columns: `columns` are indexes into `Table::columns`, `types` their types; with
    /// `row_ids` a last column of unsigned 64-bit row ids. `None` at the end.
    pub fn next_arrow(
        &mut self,
        columns: &[usize],
        types: &[Type],
        rows: usize,
        row_ids: bool,
    ) -> Result<Option<RecordBatch>> {
        while self.ready.len() < rows && self.fill()? {}
        let count = self.ready.len().min(rows);
        if count == 0 {
            return Ok(None);
        }
        let mut ids = Vec::with_capacity(if row_ids { count } else { 0 });
        let mut list = Vec::with_capacity(count);
        for (id, bytes) in self.ready.drain(..count) {
            if row_ids {
                ids.push(id);
            }
            list.push(Row::new(bytes, self.layout.clone()));
        }
        to_arrow(&list, row_ids.then_some(&ids[..]), columns, types).map(Some)
    }

    /// The first group at or after `from` in which any layer may have rows.
    fn next_group(&self, from: u32) -> Option<u32> {
        let inner = &self.snapshot.0;
        let landed = self.landed.as_ref().map_or(0, |landed| landed.groups(self.storage));
        if self.base && from < inner.pin.version.base.groups(self.storage).max(landed) {
            return Some(from);
        }
        let own = self.own.then(|| inner.own.as_ref()?.next_group(self.storage, from)).flatten();
        self.overlays.iter().filter_map(|overlay| overlay.next_group(from)).chain(own).min()
    }

    /// Reads the next step into `ready`; false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.position >= self.end {
            return Ok(false);
        }
        let number = RowId(self.position).group();
        if self.group.as_ref().is_none_or(|(current, _)| *current != number) {
            let Some(next) = self.next_group(number) else {
                self.snapshot.0.pin.version.check_alive()?;
                self.position = self.end;
                return Ok(false);
            };
            if next != number {
                self.position = u64::from(next) * GROUP_ROWS;
                if self.position >= self.end {
                    return Ok(false);
                }
            }
            let own = self.own
                && self.snapshot.0.own.as_ref().and_then(|own| own.next_group(self.storage, next))
                    == Some(next);
            let overlays = self
                .overlays
                .iter()
                .filter_map(|overlay| overlay.group(next).transpose())
                .collect::<Result<_>>()?;
            self.group = Some((next, GroupLayers { own, overlays }));
        }
        let Some((number, layers)) = &self.group else { return Ok(false) };
        let first = u64::from(*number) * GROUP_ROWS;
        let from = self.position;
        // Whole blocks, within the group and the range.
        let to = ((from / BLOCK) * BLOCK + self.step).min(first + GROUP_ROWS).min(self.end);
        self.step = (self.step * 2).min(GROUP_ROWS / 4);
        let inner = &self.snapshot.0;
        let bulk = &inner.pin.version.bulk;
        self.scratch.clear();
        let own_pieces = self.landed.as_ref().zip(inner.viewer());
        if let Some((landed, viewer)) = own_pieces
            && bulk.has_put(landed, (self.storage, *number), viewer)
        {
            landed.read_rows(self.storage, RowId(from)..RowId(to), &mut self.scratch)?;
        } else if self.base
            && *number < inner.pin.version.base.groups(self.storage)
            && inner.shows(self.storage, *number)
        {
            inner.pin.version.base.read_rows(self.storage, RowId(from)..RowId(to), &mut self.scratch)?;
        }
        let offsets = (from - first) as u32..(to - first) as u32;
        let mut changes: Vec<(u16, Option<RowBytes>)> = Vec::new();
        if layers.own
            && let Some(own) = &inner.own
        {
            own.visible(self.storage, *number, inner.command, offsets.clone(), &mut changes);
        }
        if let Some((landed, viewer)) = own_pieces {
            changes = merge(changes, bulk.own_changes(landed, self.storage, from..to, viewer)?);
        }
        for overlay in &layers.overlays {
            let mut older = Vec::new();
            overlay.visible(inner.pin.ts, offsets.clone(), &mut older);
            changes = merge(changes, older);
        }
        if self.base && inner.shows(self.storage, *number) {
            changes = merge(changes, inner.changes_of(self.storage, from..to)?);
        }
        self.position = to;
        if changes.is_empty() {
            inner.pin.version.check_alive()?;
            self.ready.extend(self.scratch.drain(..));
            return Ok(true);
        }
        inner.pin.version.check_alive()?;
        let mut base = self.scratch.drain(..).peekable();
        for (offset, row) in changes {
            let id = RowId(first + u64::from(offset));
            while let Some(unchanged) = base.next_if(|(other, _)| *other < id) {
                self.ready.push_back(unchanged);
            }
            base.next_if(|(other, _)| *other == id);
            if let Some(bytes) = row {
                self.ready.push_back((id, bytes));
            }
        }
        self.ready.extend(base);
        Ok(true)
    }
}

fn to_arrow(rows: &[Row], ids: Option<&[RowId]>, columns: &[usize], types: &[Type]) -> Result<RecordBatch> {
    let failed = |error: arrow::error::ArrowError| Error::internal(format!("record batch: {error}"));
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len() + 1);
    let mut fields = Vec::with_capacity(columns.len() + 1);
    for (column, ty) in columns.iter().zip(types) {
        let mut builder = ColumnBuilder::new(*ty, rows.len());
        for row in rows {
            builder.append(&row.get(*column))?;
        }
        let array = builder.finish();
        fields.push(Field::new(format!("c{column}"), array.data_type().clone(), true));
        arrays.push(array);
    }
    if let Some(ids) = ids {
        fields.push(Field::new("row_id", DataType::UInt64, false));
        arrays.push(Arc::new(UInt64Array::from_iter_values(ids.iter().map(|id| id.0))));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(failed)
}

/// One memtable's entries within the range, read in steps.
struct OverlayEntries {
    overlay: Arc<IndexOverlay>,
    entries: VecDeque<SeenEntry>,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    done: bool,
}

impl OverlayEntries {
    fn refill(&mut self, backward: bool, step: usize) {
        if self.entries.is_empty() && !self.done {
            self.overlay.range(&self.low, &self.high, backward, step, &mut self.entries);
            self.done = self.entries.len() < step;
            if let Some((last, _)) = self.entries.back() {
                narrow(&mut self.low, &mut self.high, last, backward);
            }
        }
    }
}

/// The own writes' entries within the range, read in steps.
struct OwnEntries {
    entries: VecDeque<Box<[u8]>>,
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    done: bool,
}

fn narrow(low: &mut Bound<Vec<u8>>, high: &mut Bound<Vec<u8>>, last: &[u8], backward: bool) {
    if backward {
        *high = Bound::Excluded(last.to_vec());
    } else {
        *low = Bound::Excluded(last.to_vec());
    }
}

/// Visible rows of an index range, in key order.
pub struct IndexScan {
    snapshot: Snapshot,
    shape: KeyShape,
    layout: Arc<RowLayout>,
    backward: bool,
    own: Option<OwnEntries>,
    /// Newest first.
    overlays: Vec<OverlayEntries>,
    base: Option<IndexRange>,
    /// With the entries of own pieces that the snapshot's base does not have.
    landed: Option<IndexRange>,
    /// Entries per refill and rows per batch, growing: a LIMIT 1 reads few.
    step: usize,
    batch: usize,
    /// SERIALIZABLE: the range of the scan, of which so much is remembered as read as it has come through.
    whole: Option<(Bound<Vec<u8>>, Bound<Vec<u8>>)>,
    /// As long as nothing alive has been met.
    dead: Option<DeadAhead>,
}

/// Entries at the beginning of a scan that are dead as of its snapshot.
struct DeadAhead {
    overlay: Arc<IndexOverlay>,
    from: Bound<Vec<u8>>,
    count: usize,
    last: Option<Box<[u8]>>,
}

impl fmt::Debug for IndexScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexScan").field("index", &self.shape.entries).finish()
    }
}

impl IndexScan {
    pub(crate) fn new(
        snapshot: &Snapshot,
        table: &Table,
        index: &Index,
        range: KeyRange,
        backward: bool,
    ) -> Result<IndexScan> {
        let inner = &snapshot.0;
        let shape = KeyShape::of(table, index);
        let temporary = shape.temporary;
        let whole = inner.reads.is_some().then(|| range.entries());
        // Dead entries in front can be walked over once for all: of one memtable, over the base.
        let version = &inner.pin.version;
        let single = (!temporary && !backward && version.frozen.is_empty())
            .then(|| version.active.index(index.storage))
            .flatten();
        let skipped = single.as_ref().and_then(|own| own.skip_dead(version, inner.pin.ts, &range.low));
        let landed = inner.own.as_ref().filter(|_| !temporary).and_then(|own| own.landed());
        let dead = single.filter(|_| landed.is_none()).map(|overlay| DeadAhead {
            overlay,
            from: range.low.clone(),
            count: 0,
            last: None,
        });
        let range = KeyRange { low: skipped.unwrap_or(range.low), high: range.high };
        let empty = range.is_empty();
        let (low, high) = range.entries();
        let entries = |overlay| OverlayEntries {
            overlay,
            entries: VecDeque::new(),
            low: low.clone(),
            high: high.clone(),
            done: empty,
        };
        let overlays = if temporary {
            inner.temporary.index(index.storage).into_iter().map(entries).collect()
        } else {
            let memtables = inner.pin.version.memtables();
            memtables.filter_map(|memtable| memtable.index(index.storage)).map(entries).collect()
        };
        let own = inner.own.as_ref().filter(|own| own.has_index(index.storage));
        Ok(IndexScan {
            own: own.map(|_| OwnEntries {
                entries: VecDeque::new(),
                low: low.clone(),
                high: high.clone(),
                done: empty,
            }),
            overlays,
            base: (!temporary && !empty)
                .then(|| inner.pin.version.base.index_range(index.storage, &range, backward)),
            landed: landed.filter(|_| !empty).map(|base| base.index_range(index.storage, &range, backward)),
            snapshot: snapshot.clone(),
            shape,
            layout: inner.pin.engine.layout(table)?,
            backward,
            step: 8,
            // What is not asked for is not read, as far as others are concerned.
            batch: if inner.reads.is_some() { 1 } else { 8 },
            whole,
            dead,
        })
    }

    /// Clears `batch` and fills it with the next rows (at most 256); false when there are none left.
    pub fn next(&mut self, batch: &mut RowBatch) -> Result<bool> {
        batch.clear();
        let limit = self.batch;
        self.batch = (self.batch * 4).min(INDEX_BATCH);
        self.fill(batch, limit)?;
        Ok(!batch.is_empty())
    }

    /// As [`TableScan::next_arrow`].
    pub fn next_arrow(
        &mut self,
        columns: &[usize],
        types: &[Type],
        rows: usize,
        row_ids: bool,
    ) -> Result<Option<RecordBatch>> {
        let mut batch = RowBatch::new();
        self.fill(&mut batch, rows)?;
        if batch.is_empty() {
            return Ok(None);
        }
        to_arrow(&batch.rows, row_ids.then_some(&batch.ids[..]), columns, types).map(Some)
    }

    fn fill(&mut self, batch: &mut RowBatch, limit: usize) -> Result<()> {
        let mut last = None;
        while batch.len() < limit {
            let Some((entry, source)) = self.next_entry()? else {
                last = None;
                self.snapshot.0.pin.version.check_alive()?;
                break;
            };
            let (key, id) = index::split(&entry);
            let view = self.snapshot.0.view();
            let row = view.fetch_entry(&self.shape, &self.layout, key, id, source)?;
            if let Some(row) = row {
                self.snapshot.read_row(self.shape.rows, id);
                batch.push(id, row);
            }
            if self.whole.is_some() {
                last = Some(entry);
            }
        }
        self.remember(last);
        Ok(())
    }

    /// The scan has come through as far as `last`, or to its end.
    fn remember(&self, last: Option<Box<[u8]>>) {
        let inner = &self.snapshot.0;
        let (Some(reads), Some((low, high))) = (&inner.reads, &self.whole) else { return };
        let range = match (last.map(Bound::Included), self.backward) {
            (None, _) => (low.clone(), high.clone()),
            (Some(last), false) => (low.clone(), last.map(Vec::from)),
            (Some(last), true) => (last.map(Vec::from), high.clone()),
        };
        reads.range(inner.pin.ts, self.shape.entries, range);
    }

    /// The next entry that may count, each once, and whether the base alone knows it.
    pub(crate) fn next_entry(&mut self) -> Result<Option<(Box<[u8]>, Source)>> {
        let backward = self.backward;
        loop {
            if let Some(own) = &mut self.own
                && own.entries.is_empty()
                && !own.done
                && let Some(writes) = &self.snapshot.0.own
            {
                let storage = self.shape.entries;
                writes.range(storage, &own.low, &own.high, backward, self.step, &mut own.entries);
                own.done = own.entries.len() < self.step;
                if let Some(last) = own.entries.back() {
                    narrow(&mut own.low, &mut own.high, last, backward);
                }
            }
            let mut refilled = false;
            for overlay in &mut self.overlays {
                refilled |= overlay.entries.is_empty();
                overlay.refill(backward, self.step);
            }
            if refilled {
                self.step = (self.step * 2).min(512);
            }
            // The first of the heads, in the direction of the scan.
            let own_head = self.own.as_ref().and_then(|own| own.entries.front()).map(|entry| &entry[..]);
            let mut first: Option<&[u8]> = own_head;
            let before = |a: &[u8], b: &[u8]| if backward { a > b } else { a < b };
            for overlay in &self.overlays {
                if let Some((head, _)) = overlay.entries.front()
                    && first.is_none_or(|first| before(head, first))
                {
                    first = Some(head);
                }
            }
            let mut put = None;
            if let Some(landed) = &mut self.landed
                && let Some((key, id)) = landed.peek()?
            {
                put = Some(index::entry(key, id));
            }
            if let Some(head) = &put
                && first.is_none_or(|first| before(head, first))
            {
                first = Some(head);
            }
            let base_head = match &mut self.base {
                Some(base) => base.peek()?,
                None => None,
            };
            let base_entry = match (base_head, first) {
                (None, None) => {
                    self.met(None);
                    return Ok(None);
                }
                (Some((key, id)), Some(first)) => match compare(key, id, first) {
                    std::cmp::Ordering::Equal => true,
                    std::cmp::Ordering::Less => !backward,
                    std::cmp::Ordering::Greater => backward,
                }
                .then(|| index::entry(key, id)),
                (Some((key, id)), None) => Some(index::entry(key, id)),
                (None, Some(_)) => None,
            };
            let in_base = base_entry.is_some();
            let entry: Box<[u8]> = match (base_entry, first) {
                (Some(entry), _) => entry,
                (None, Some(first)) => first.into(),
                (None, None) => return Ok(None),
            };
            // Take it off every layer that has it; the newest state that this snapshot may trust decides.
            let mut dead = None;
            let mut layered = false;
            let mut is_own = false;
            if put.as_ref() == Some(&entry)
                && let Some(landed) = &mut self.landed
            {
                landed.advance();
                is_own = true;
            }
            if let Some(own) = &mut self.own
                && own.entries.front() == Some(&entry)
            {
                own.entries.pop_front();
                is_own = true;
            }
            for overlay in &mut self.overlays {
                if overlay.entries.front().is_some_and(|(head, _)| *head == entry)
                    && let Some((_, state)) = overlay.entries.pop_front()
                {
                    layered = true;
                    if dead.is_none() && state.ts <= self.snapshot.0.pin.ts {
                        dead = Some(!state.live);
                    }
                }
            }
            if in_base && let Some(base) = &mut self.base {
                base.advance();
            }
            if dead == Some(true) && !is_own {
                if let Some(ahead) = &mut self.dead {
                    ahead.count += 1;
                    ahead.last = Some(entry);
                }
                continue;
            }
            // What only this transaction has is nobody else's business; what it has deleted is.
            if !is_own || in_base || layered {
                self.met(Some(&entry));
            }
            let source = if layered || is_own { Source::Overlay } else { Source::Base };
            return Ok(Some((entry, source)));
        }
    }
}

impl IndexScan {
    /// The first entry that may be alive, or the end: leaves a note about the dead ones before it.
    fn met(&mut self, entry: Option<&[u8]>) {
        let Some(ahead) = self.dead.take().filter(|ahead| ahead.count >= dead_run::WORTH) else { return };
        let key = |entry: &[u8]| index::split(entry).0.to_vec();
        let upto = match (entry, &ahead.last) {
            (Some(entry), _) => Bound::Included(key(entry)),
            (None, Some(last)) => Bound::Excluded(key(last)),
            (None, None) => return,
        };
        let pin = &self.snapshot.0.pin;
        ahead.overlay.note_dead(&pin.version, pin.ts, (ahead.from, upto));
    }
}

/// How (key, row id) stands to `key ++ row id`.
fn compare(key: &[u8], id: RowId, entry: &[u8]) -> std::cmp::Ordering {
    let (other, other_id) = index::split(entry);
    key.cmp(other).then(id.cmp(&other_id))
}
