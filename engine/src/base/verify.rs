//! Everything the base holds, looked at: checksums, and what must be true between its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use value::Result;

use super::block::{self, Entry, SPAN_ROWS};
use super::store::{Table, key};
use super::{Base, Inner};
use crate::catalog::Object;
use crate::ids::{GROUP_ROWS, RowId};
use crate::sync::Arc;

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BaseCounts {
    pub blocks: u64,
    pub rows: u64,
    pub index_entries: u64,
}

/// Which storages there may be.
#[derive(Debug, Default)]
struct Known {
    tables: BTreeSet<u32>,
    indexes: BTreeSet<u32>,
    /// There may be others.
    is_partial: bool,
}

impl Base {
    /// Checks every table of the base and gives each finding, in words that name file, table and key, to `found`.
    pub fn verify(&self, found: &mut dyn FnMut(String)) -> Result<BaseCounts> {
        let mut counts = BaseCounts::default();
        let mut base = self.clone();
        let mut known = Known::default();
        match base.catalog_objects() {
            Ok(objects) => {
                for object in objects {
                    match object {
                        Object::Table(table) => drop(known.tables.insert(table.storage)),
                        Object::Index(index) => drop(known.indexes.insert(index.storage)),
                        _ => {}
                    }
                }
            }
            Err(error) => {
                // Without the catalog nothing can be said about storages.
                found(describe(&error));
                return Ok(counts);
            }
        }
        // Tables and indexes made by a transaction that had not ended are in no catalog.
        let pending = &base.meta().pending;
        known.tables.extend(pending.values().map(|piece| piece.storage));
        known.is_partial = !pending.is_empty();
        type Step = fn(&Inner, &Known, &mut BaseCounts, &mut dyn FnMut(String)) -> Result<()>;
        let steps: [Step; 4] = [numbers, rows, blobs, entries];
        for step in steps {
            if let Err(error) = step(&base.0, &known, &mut counts, found) {
                found(describe(&error));
                base = base.reopen()?;
            }
        }
        Ok(counts)
    }
}

/// An error as one line.
pub(crate) fn describe(error: &value::Error) -> String {
    match &error.fields().detail {
        Some(detail) => format!("{}: {detail}", error.message()),
        None => error.message().to_owned(),
    }
}

const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// Tables keyed by one number can be read, and storages are those of the catalog.
fn numbers(
    inner: &Inner,
    known: &Known,
    _counts: &mut BaseCounts,
    found: &mut dyn FnMut(String),
) -> Result<()> {
    let base = |table: Table, storage: u32, what: &str| finding(inner, table, storage, what);
    for storage in inner.meta.storages.keys() {
        if !known.tables.contains(storage) {
            found(base(Table::Storages, *storage, "no table has this storage"));
        }
    }
    inner.numbered(Table::Sequences, |bytes| (bytes.len() == 13).then_some(()))?;
    inner.numbered(Table::Statistics, |_| Some(()))?;
    Ok(())
}

fn finding(inner: &Inner, table: Table, storage: u32, what: &str) -> String {
    format!("file \"{}\": table {}, storage {storage}: {what}", inner.store.name(), table.name())
}

fn at(inner: &Inner, table: Table, key: &[u8], what: &str) -> String {
    describe(&block::corrupted(&inner.store.name(), table, key, what))
}

/// Blocks and deltas: checksum, order, places, chains of a span's blocks, counts.
fn rows(inner: &Inner, known: &Known, counts: &mut BaseCounts, found: &mut dyn FnMut(String)) -> Result<()> {
    // The span whose blocks are being read, and whether its last block has come.
    let mut span: Option<(u32, u64, bool)> = None;
    inner.reader.scan(Table::Rows, ALL, false, &mut |key, value| {
        let mut bad = |what: &str| found(at(inner, Table::Rows, key, what));
        let split = key.split_first_chunk::<4>().zip(key.get(4..12)).filter(|_| key.len() == 12);
        let Some(((storage, _), row)) = split else {
            bad("not a row key");
            return true;
        };
        let storage = u32::from_be_bytes(*storage);
        let row = RowId(row.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)));
        if !known.tables.contains(&storage) {
            bad("no table has this storage");
        }
        let block = match block::Block::parse(Arc::from(value)) {
            Ok(block) => block,
            Err(what) => {
                bad(what);
                span = None;
                return true;
            }
        };
        counts.blocks += 1;
        let number = row.0 / SPAN_ROWS;
        match span {
            Some((s, n, true)) if (s, n) == (storage, number) => {
                bad("a block behind the last one of its span");
            }
            Some((s, n, false)) if (s, n) != (storage, number) => {
                bad("the span before it ends without its last block")
            }
            _ => {}
        }
        let new = span.is_none_or(|(s, n, _)| (s, n) != (storage, number));
        if new && !row.0.is_multiple_of(SPAN_ROWS) {
            bad("its span does not begin with its first block");
        }
        span = Some((storage, number, block.is_last()));
        let first = RowId(number * SPAN_ROWS).offset();
        let mut before = None;
        for (offset, entry) in block.entries() {
            if before >= Some(offset) || offset < first || u64::from(offset - first) >= SPAN_ROWS {
                bad("rows out of order or out of place");
                break;
            }
            if matches!(entry, Entry::Deleted) {
                bad("a deleted row in a block");
            }
            before = Some(offset);
        }
        true
    })?;
    if let Some((storage, _, false)) = span {
        found(finding(inner, Table::Rows, storage, "the last span ends without its last block"));
    }
    inner.reader.scan(Table::Delta, ALL, false, &mut |key, value| {
        let mut bad = |what: &str| found(at(inner, Table::Delta, key, what));
        let Some((storage, group)) = key.split_first_chunk::<4>() else {
            bad("not a delta key");
            return true;
        };
        let storage = u32::from_be_bytes(*storage);
        let group = group.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        let next = inner.next_row(storage);
        if !known.tables.contains(&storage) {
            bad("no table has this storage");
        } else if key.len() != 8 || group * GROUP_ROWS >= next {
            bad("no such group");
        }
        match block::Block::parse(Arc::from(value)) {
            Ok(block) => {
                counts.blocks += 1;
                let offsets: Vec<u16> = block.entries().map(|(offset, _)| offset).collect();
                if !offsets.is_sorted_by(|a, b| a < b) {
                    bad("rows out of order");
                }
            }
            Err(what) => bad(what),
        }
        true
    })?;
    inner.reader.scan(Table::Changes, ALL, false, &mut |key, value| {
        let mut bad = |what: &str| found(at(inner, Table::Changes, key, what));
        let number =
            |bytes: Option<&[u8]>| bytes.map(|b| b.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        let parts = (number(key.get(..4)), number(key.get(4..12)), number(key.get(12..)));
        let (Some(storage), Some(piece), Some(row), 20) = (parts.0, parts.1, parts.2, key.len()) else {
            bad("not a key of changes");
            return true;
        };
        let group = RowId(row).group();
        match inner.meta.pending.get(&piece).filter(|piece| u64::from(piece.storage) == storage) {
            Some(piece) if piece.changes && piece.groups.contains(&group) => {}
            _ => bad("no piece changes this group"),
        }
        match block::Block::parse(Arc::from(value)) {
            Ok(block) => {
                counts.blocks += 1;
                let offsets: Vec<u16> = block.entries().map(|(offset, _)| offset).collect();
                let span = |offset: &u16| RowId::at(group, *offset).0 / SPAN_ROWS == row / SPAN_ROWS;
                if !offsets.is_sorted_by(|a, b| a < b) || !offsets.iter().all(span) {
                    bad("rows out of order or out of place");
                }
            }
            Err(what) => bad(what),
        }
        true
    })?;
    for (storage, state) in &inner.meta.storages {
        let mut live = 0;
        let mut list = Vec::new();
        for group in 0..state.next_row.div_ceil(GROUP_ROWS) as u32 {
            list.clear();
            if inner.meta.pending_groups.contains_key(&(*storage, group)) {
                continue;
            }
            let first = u64::from(group) * GROUP_ROWS;
            inner.read_in_group(*storage, group, first..first + GROUP_ROWS, &mut list)?;
            live += list.len() as u64;
            if list.last().is_some_and(|(row, _)| row.0 >= state.next_row) {
                let what = format!("row ids at or above {}, which are not given out yet", state.next_row);
                found(finding(inner, Table::Rows, *storage, &what));
            }
        }
        counts.rows += live;
        if live != state.rows {
            let what = format!("{} rows are counted, {live} are there", state.rows);
            found(finding(inner, Table::Storages, *storage, &what));
        }
    }
    Ok(())
}

/// Pieces of rows out of line: each one is named by a row, whose reading has looked at their checksum.
fn blobs(
    inner: &Inner,
    known: &Known,
    _counts: &mut BaseCounts,
    found: &mut dyn FnMut(String),
) -> Result<()> {
    let mut pieces: BTreeMap<u32, u64> = BTreeMap::new();
    inner.reader.scan(Table::Blobs, ALL, false, &mut |key, _| {
        match key.first_chunk::<4>() {
            Some(storage) if key.len() == 16 => {
                *pieces.entry(u32::from_be_bytes(*storage)).or_default() += 1;
            }
            _ => found(at(inner, Table::Blobs, key, "not the key of a piece")),
        }
        true
    })?;
    let mut named: BTreeMap<u32, u64> = BTreeMap::new();
    for table in [Table::Rows, Table::Delta, Table::Changes] {
        inner.reader.scan(table, ALL, false, &mut |key, value| {
            if let (Some(storage), Ok(block)) =
                (key.first_chunk::<4>(), block::Block::parse(Arc::from(value)))
            {
                for (_, entry) in block.entries() {
                    if let Entry::Blob(blob) = entry {
                        *named.entry(u32::from_be_bytes(*storage)).or_default() += u64::from(blob.pieces());
                    }
                }
            }
            true
        })?;
    }
    for (storage, there) in &pieces {
        let named = named.get(storage).copied().unwrap_or(0);
        if !known.tables.contains(storage) {
            found(finding(inner, Table::Blobs, *storage, "no table has this storage"));
        } else if named != *there {
            let what = format!("{there} pieces are there, rows name {named}");
            found(finding(inner, Table::Blobs, *storage, &what));
        }
    }
    Ok(())
}

/// Index entries belong to an index of the catalog.
fn entries(
    inner: &Inner,
    known: &Known,
    counts: &mut BaseCounts,
    found: &mut dyn FnMut(String),
) -> Result<()> {
    let mut unknown = BTreeSet::new();
    inner.reader.scan(Table::Index, ALL, false, &mut |key, value| {
        counts.index_entries += 1;
        match key.first_chunk::<4>() {
            Some(storage) if key.len() >= 12 && value.is_empty() => {
                let storage = u32::from_be_bytes(*storage);
                if !known.is_partial && !known.indexes.contains(&storage) && unknown.insert(storage) {
                    found(finding(inner, Table::Index, storage, "no index has this storage"));
                }
            }
            _ => found(at(inner, Table::Index, key, "not an index entry")),
        }
        true
    })?;
    let state = inner.reader.get(Table::Meta, key::META)?;
    if state.is_none() {
        found(at(inner, Table::Meta, key::META, "missing"));
    }
    Ok(())
}
