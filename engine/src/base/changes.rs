//! Changes of rows that lie beside them until their transaction has ended, and how they become part of the base.
//!
//! The hard idea: a piece of changes is read like the base itself, in spans of 128 row ids, and whoever reads a row asks
//! for the newest piece that it may see first. So a transaction that updates or deletes more than fits into memory
//! puts its changes here, and its commit only names them. The next checkpoint folds what has been committed into the
//! rows, and only then takes the entries of the old keys out of the indexes: those who read the past need them. An entry
//! goes when neither the row as it is afterwards nor any piece that stays has its key.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use value::Result;

use super::block::{self, Block, Entry, SPAN_ROWS};
use super::cache::{Blocks, Key};
use super::checkpoint::Pass;
use super::run::Packer;
use super::store::{Table, Writer, key};
use super::{Base, Inner, RowChange, RowKeys};
use crate::ids::{GROUP_ROWS, RowId};
use crate::row::RowBytes;
use crate::sync::Arc;

impl Base {
    /// The pieces with changes of rows of a group, oldest first.
    pub fn changed(&self, storage: u32, group: u32) -> &[u64] {
        let changed = &self.0.meta.changed_groups;
        if changed.is_empty() { &[] } else { changed.get(&(storage, group)).map_or(&[], Vec::as_slice) }
    }

    /// What a piece makes of a row. Outer `None`: it leaves the row alone.
    pub fn change_of(&self, storage: u32, piece: u64, row: RowId) -> Result<Option<Option<RowBytes>>> {
        self.0.change_of(storage, piece, row)
    }

    /// What a piece makes of the rows with ids in `rows`, all of one group, by offset.
    pub fn changes_of(
        &self,
        storage: u32,
        piece: u64,
        rows: Range<u64>,
    ) -> Result<Vec<(u16, Option<RowBytes>)>> {
        let mut out = Vec::new();
        for (offset, entry) in self.0.change_entries(storage, piece, rows)? {
            out.push((offset, self.0.resolve(storage, entry)?));
        }
        Ok(out)
    }
}

impl Inner {
    /// See [`Base::change_of`].
    fn change_of(&self, storage: u32, piece: u64, row: RowId) -> Result<Option<Option<RowBytes>>> {
        let blocks = self.change_span(storage, piece, row.0 / SPAN_ROWS)?;
        match blocks.iter().find_map(|block| block.find(row.offset())) {
            Some(entry) => self.resolve(storage, entry).map(Some),
            None => Ok(None),
        }
    }

    /// The blocks of a span of a piece.
    fn change_span(&self, storage: u32, piece: u64, span: u64) -> Result<Blocks> {
        let cached = Key::Change(storage, piece, span);
        if let Some(blocks) = self.cache.get(cached, self.meta.generation) {
            return Ok(blocks);
        }
        let first = key::change(storage, piece, RowId(span * SPAN_ROWS));
        let blocks: Blocks = match self.reader.get(Table::Changes, &first)? {
            None => Arc::new([]),
            Some(bytes) => {
                let mut blocks = vec![self.parse(Table::Changes, &first, bytes)?];
                if !blocks[0].is_last() {
                    let end = key::change(storage, piece, RowId((span + 1) * SPAN_ROWS));
                    let range = (Bound::Excluded(&first[..]), Bound::Excluded(&end[..]));
                    self.scan_changes(range, &mut |block| blocks.push(block))?;
                }
                blocks.into()
            }
        };
        self.cache.put(cached, self.meta.generation, &blocks, false);
        Ok(blocks)
    }

    fn scan_changes(&self, range: super::store::Range<'_>, visit: &mut dyn FnMut(Block)) -> Result<()> {
        let mut failure = None;
        self.reader.scan(Table::Changes, range, false, &mut |key, value| {
            match self.parse(Table::Changes, key, value.into()) {
                Ok(block) => visit(block),
                Err(error) => failure = Some(error),
            }
            failure.is_none()
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn change_entries(&self, storage: u32, piece: u64, rows: Range<u64>) -> Result<Vec<(u16, Entry)>> {
        let mut out = Vec::new();
        let low = key::change(storage, piece, RowId(rows.start / SPAN_ROWS * SPAN_ROWS));
        let high = key::change(storage, piece, RowId(rows.end.div_ceil(SPAN_ROWS) * SPAN_ROWS));
        let base = rows.start / GROUP_ROWS * GROUP_ROWS;
        self.scan_changes((Bound::Included(&low), Bound::Excluded(&high)), &mut |block| {
            let inside = |(offset, _): &(u16, Entry)| rows.contains(&(base + u64::from(*offset)));
            out.extend(block.entries().filter(inside));
        })?;
        Ok(out)
    }
}

/// What settled pieces make of one group.
type Folded = BTreeMap<u16, Option<RowBytes>>;

impl Pass<'_> {
    /// Writes what a piece changes, in order of rows.
    pub(super) fn write_changes(
        &mut self,
        writer: &mut dyn Writer,
        piece: u64,
        changes: &mut dyn Iterator<Item = Result<RowChange>>,
    ) -> Result<()> {
        let mut span: Option<(u32, u64)> = None;
        let mut entries: Vec<(u16, Entry)> = Vec::new();
        for change in changes {
            let RowChange { storage, row, bytes } = change?;
            let place = (storage, row.0 / SPAN_ROWS);
            if span != Some(place) {
                self.change_span(writer, piece, span, &mut entries)?;
                span = Some(place);
            }
            entries.push((row.offset(), self.entry(writer, storage, bytes)?));
        }
        self.change_span(writer, piece, span, &mut entries)
    }

    fn change_span(
        &mut self,
        writer: &mut dyn Writer,
        piece: u64,
        span: Option<(u32, u64)>,
        entries: &mut Vec<(u16, Entry)>,
    ) -> Result<()> {
        let Some((storage, span)) = span else { return Ok(()) };
        let first = RowId(span * SPAN_ROWS);
        let blocks = block::cut(entries);
        for (number, block) in blocks.iter().enumerate() {
            let row = match block.first() {
                Some((offset, _)) if number > 0 => RowId::at(first.group(), *offset),
                _ => first,
            };
            block::encode(block, number + 1 == blocks.len(), &mut self.buffer);
            writer.put(Table::Changes, &key::change(storage, piece, row), &self.buffer)?;
        }
        entries.clear();
        Ok(())
    }

    /// The settled pieces among those of a group, oldest first, and those whose transactions have not ended.
    fn settled_of(&self, storage: u32, group: u32) -> (Vec<u64>, Vec<u64>) {
        let mut all = self.inner.meta.changed_groups.get(&(storage, group)).cloned().unwrap_or_default();
        all.retain(|piece| !self.aborted.contains(piece));
        all.into_iter().partition(|piece| self.folds.contains(piece))
    }

    /// Puts what settled pieces change in a group under `changes`, and takes out the entries that nobody needs any more.
    pub(super) fn fold(
        &mut self,
        writer: &mut dyn Writer,
        storage: u32,
        group: u32,
        keys: &dyn RowKeys,
        changes: &mut Vec<(u16, Option<RowBytes>)>,
    ) -> Result<()> {
        let inner = self.inner;
        let (settled, others) = self.settled_of(storage, group);
        let first = u64::from(group) * GROUP_ROWS;
        let rows = first..first + GROUP_ROWS;
        let mut folded = Folded::new();
        let mut earlier: Vec<(u16, RowBytes)> = Vec::new();
        let mut indexes: Vec<u32> = Vec::new();
        for piece in &settled {
            for (offset, entry) in inner.change_entries(storage, *piece, rows.clone())? {
                let blob = if let Entry::Blob(blob) = &entry { Some(*blob) } else { None };
                let row = inner.resolve(storage, entry)?;
                if let Some(Some(before)) = folded.insert(offset, row) {
                    earlier.push((offset, before));
                }
                if let Some(blob) = blob {
                    self.remove_blob(writer, storage, blob)?;
                }
            }
            let piece = inner.meta.pending.get(piece);
            indexes.extend(piece.iter().flat_map(|piece| piece.indexes.iter()));
        }
        indexes.sort_unstable();
        indexes.dedup();
        if !indexes.is_empty() {
            let mut before = Vec::new();
            inner.read_in_group(storage, group, rows, &mut before)?;
            let touched = |row: &RowId| folded.contains_key(&row.offset());
            earlier.extend(
                before.into_iter().filter(|(row, _)| touched(row)).map(|(row, bytes)| (row.offset(), bytes)),
            );
            // What `changes` replaces had its entries until now, too.
            for (offset, _) in changes.iter() {
                if let Some(Some(row)) = folded.get(offset) {
                    earlier.push((*offset, row.clone()));
                }
            }
            let after = |offset: u16| -> Option<RowBytes> {
                match changes.binary_search_by_key(&offset, |(offset, _)| *offset) {
                    Ok(place) => changes[place].1.clone(),
                    Err(_) => folded.get(&offset).cloned().flatten(),
                }
            };
            let mut gone: BTreeMap<u32, Vec<(Vec<u8>, RowId)>> = BTreeMap::new();
            for (offset, row) in earlier {
                let row_id = RowId::at(group, offset);
                let mut old = keys.keys(storage, &indexes, &row)?;
                let mut keep = |row: Option<RowBytes>| -> Result<()> {
                    if let (Some(row), false) = (row, old.is_empty()) {
                        let kept = keys.keys(storage, &indexes, &row)?;
                        old.retain(|key| !kept.contains(key));
                    }
                    Ok(())
                };
                keep(after(offset))?;
                for piece in &others {
                    keep(inner.change_of(storage, *piece, row_id)?.flatten())?;
                }
                for (index, key) in old {
                    gone.entry(index).or_default().push((key, row_id));
                }
            }
            for (index, mut keys) in gone {
                keys.sort_unstable();
                let mut packer = Packer::new(index);
                keys.iter().for_each(|(key, row)| packer.push(key, *row));
                self.gone.add(index, packer.finish());
            }
            if self.gone.is_full() {
                self.delete_gone(writer)?;
            }
        }
        for (offset, row) in std::mem::take(changes) {
            folded.insert(offset, row);
        }
        changes.extend(folded);
        Ok(())
    }

    /// Takes out the index entries that folding has left without a row, all in order: they are scattered over their indexes.
    pub(super) fn delete_gone(&mut self, writer: &mut dyn Writer) -> Result<()> {
        self.gone.take().try_for_each(|run| run.delete(writer))
    }

    /// Takes a piece's changes out of CHANGES; their long rows too, unless they were folded.
    pub(super) fn drop_changes(&mut self, writer: &mut dyn Writer, id: u64, folded: bool) -> Result<()> {
        let inner = self.inner;
        let Some(piece) = inner.meta.pending.get(&id).filter(|piece| piece.changes) else { return Ok(()) };
        let storage = piece.storage;
        for group in &piece.groups {
            let first = u64::from(*group) * GROUP_ROWS;
            if !folded {
                for (_, entry) in inner.change_entries(storage, id, first..first + GROUP_ROWS)? {
                    if let Entry::Blob(blob) = entry {
                        self.remove_blob(writer, storage, blob)?;
                    }
                }
            }
        }
        let low = key::change(storage, id, RowId(0));
        let high = key::change(storage, id + 1, RowId(0));
        writer.delete_range(Table::Changes, (Bound::Included(&low), Bound::Excluded(&high)))
    }
}
