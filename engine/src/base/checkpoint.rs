//! From one base to the next.
//!
//! The hard idea: what a change costs is decided by how many blocks it touches, not by how many rows. Changes
//! are taken group by group (8192 row ids). Spans (128 ids) of which a good part changed, and new ones, are
//! written as new blocks; scattered changes join the group's delta, one value however many there are. A delta
//! that has grown past an eighth of its group is folded: its spans are written anew and it is gone. That takes many times
//! what has changed; where the disk has no room for it, it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use value::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::block::{self, BLOB_PIECE, BlobRef, Block, Entry, INLINE, SPAN_ROWS};
use super::cache::Key;
use super::run::Deferred;
use super::store::{Keys, Table, Writer, key};
use super::{Base, BaseMeta, BaseOptions, CheckpointInput, Inner, RowChange, RowKeys, StorageState};
use crate::catalog::Change;
use crate::disk::room;
use crate::ids::{GROUP_ROWS, RowId};
use crate::row::RowBytes;
use crate::sync::{Arc, Mutex};

/// A span is written anew when this part of it changed (1 in n).
const SPAN_SHARE: u64 = 4;
/// A delta is folded when it holds this part of its group (1 in n), or more than so many bytes: it fits into a page of
/// 128 KiB then.
const GROUP_SHARE: u64 = 8;
const DELTA_BYTES: usize = 120 << 10;
const DELTA_PAGE: u64 = (128 << 10) - 64;
/// With room for the largest group there may be nothing needs to be reckoned.
const LARGEST_GROUP: u64 = GROUP_ROWS * INLINE as u64;
/// What is counted for a changed row beside its bytes, at least.
const ROW: u64 = 96;
/// What is lost at most where a block ends within a page.
const PAGE: u64 = 4096;
/// Entries that go with what is folded wait until they take this part of the cache (1 in n).
const GONE_SHARE: u64 = 8;
/// Index entries put at once.
const KEYS: usize = 8192;

/// META's document.
pub(super) fn document(meta: &BaseMeta) -> Result<Vec<u8>> {
    serde_json::to_vec(meta).map_err(|error| Error::internal(format!("META as JSON: {error}")))
}

/// See [`Base::checkpoint`].
pub(super) fn run(base: &Base, input: CheckpointInput<'_>) -> Result<Base> {
    let inner = &*base.0;
    if input.applied < inner.meta.applied {
        return Err(Error::internal("a checkpoint cannot go back"));
    }
    // The store latches every I/O error, so it must never meet a full disk.
    let BaseOptions { disk, directory, reserve, .. } = &inner.options;
    let spare = room::for_checkpoint(&**disk, directory, input.expected_bytes, *reserve)?;
    let mut meta = inner.meta.clone();
    meta.applied = input.applied;
    meta.next_oid = meta.next_oid.max(input.next_oid);
    meta.next_storage = meta.next_storage.max(input.next_storage);
    meta.generation += 1;
    for (index, progress) in &input.builds {
        match progress {
            Some(group) => meta.builds.insert(*index, *group),
            None => meta.builds.remove(index),
        };
    }
    meta.pending.extend(input.pending.iter().cloned());
    for piece in input.settled.iter().chain(&input.void) {
        meta.pending.remove(piece);
    }
    if input.changes.is_some() {
        meta.format_version = super::FORMAT_VERSION;
    }
    meta.index_pending();
    let is_folded = |id: &&u64| {
        let piece = inner.meta.pending.get(*id);
        piece.is_some_and(|piece| piece.changes && !input.dropped.contains(&piece.storage))
    };
    let folds = input.settled.iter().filter(is_folded).copied().collect();
    let (given, changed, buffer) = (BTreeMap::new(), Vec::new(), Vec::new());
    let aborted = input.aborted.clone();
    let gone = Deferred::new(inner.options.cache_size / GONE_SHARE);
    let mut pass = Pass { inner, meta, given, changed, buffer, folds, aborted, gone, spare };
    pass.given.extend(input.storages.iter().copied());
    let mut input = Some(input);
    inner.store.write(&mut |writer| {
        let input = input.take().ok_or_else(|| Error::internal("a checkpoint runs once"))?;
        pass.write(writer, input)
    })?;
    let Pass { meta, changed, .. } = pass;
    let reader = inner.store.read()?;
    inner.cache.advance(meta.generation, &changed);
    Ok(Base(Arc::new(Inner {
        store: Arc::clone(&inner.store),
        reader,
        meta,
        cache: Arc::clone(&inner.cache),
        last_keys: Mutex::default(),
        options: inner.options.clone(),
        metrics: Arc::clone(&inner.metrics),
    })))
}

pub(super) struct Pass<'a> {
    pub(super) inner: &'a Inner,
    /// Of the next base.
    meta: BaseMeta,
    given: BTreeMap<u32, StorageState>,
    pub(super) changed: Vec<Key>,
    pub(super) buffer: Vec<u8>,
    /// Pieces of changes that become part of the base.
    pub(super) folds: BTreeSet<u64>,
    pub(super) aborted: BTreeSet<u64>,
    /// Entries that go with what is folded.
    pub(super) gone: Deferred,
    /// Bytes of the disk that may be used for what could wait.
    spare: u64,
}

impl Pass<'_> {
    fn write(&mut self, writer: &mut dyn Writer, input: CheckpointInput<'_>) -> Result<()> {
        for storage in &input.dropped {
            self.drop_storage(writer, *storage)?;
        }
        let (mut stored, mut added) = (Vec::new(), Keys::default());
        for change in input.indexes {
            let change = change?;
            key::index(change.storage, &change.key, change.row, &mut stored);
            if change.add {
                added.push(&stored);
                if added.len() == KEYS {
                    writer.put_keys(Table::Index, &mut added.iter())?;
                    added.clear();
                }
            } else {
                writer.delete(Table::Index, &stored)?;
            }
        }
        writer.put_keys(Table::Index, &mut added.iter())?;
        for run in input.runs {
            run.put(writer)?;
        }
        if let Some((piece, changes)) = input.changes {
            self.write_changes(writer, piece, changes)?;
        }
        // After the entries above: some that they add may be of rows that are changed by what is folded in.
        let mut folds: BTreeSet<(u32, u32)> = BTreeSet::new();
        for piece in self.folds.iter().filter_map(|id| self.inner.meta.pending.get(id)) {
            folds.extend(piece.groups.iter().map(|group| (piece.storage, *group)));
        }
        let mut group: Vec<(u16, Option<RowBytes>)> = Vec::new();
        let mut place: Option<(u32, u32)> = None;
        for change in input.rows {
            let RowChange { storage, row, bytes } = change?;
            let next = (storage, row.group());
            if place != Some(next) {
                if let Some(place) = place {
                    self.group_of(writer, place, &mut folds, input.keys, &mut group)?;
                }
                while let Some(first) = folds.first().copied().filter(|first| *first < next) {
                    self.group_of(writer, first, &mut folds, input.keys, &mut group)?;
                }
                place = Some(next);
            }
            if group.last().is_some_and(|(offset, _)| *offset >= row.offset()) {
                return Err(Error::internal("checkpoint rows are not in order"));
            }
            group.push((row.offset(), bytes));
        }
        if let Some(place) = place {
            self.group_of(writer, place, &mut folds, input.keys, &mut group)?;
        }
        while let Some(first) = folds.first().copied() {
            self.group_of(writer, first, &mut folds, input.keys, &mut group)?;
        }
        self.delete_gone(writer)?;
        for (pieces, is_settled) in [(&input.settled, true), (&input.void, false)] {
            for piece in pieces {
                let folded = is_settled && self.folds.contains(piece);
                self.drop_changes(writer, *piece, folded)?;
            }
        }
        for change in &input.catalog {
            match change {
                Change::Put(object) => {
                    let json = serde_json::to_vec(object)
                        .map_err(|error| Error::internal(format!("catalog object as JSON: {error}")))?;
                    writer.put(Table::Catalog, &key::number(object.oid()), &json)?;
                }
                Change::Drop(oid) => writer.delete(Table::Catalog, &key::number(*oid))?,
            }
        }
        for (oid, value) in &input.sequences {
            match value {
                Some(value) => {
                    let mut bytes = [0; 13];
                    bytes[0..4].copy_from_slice(&value.generation.to_le_bytes());
                    bytes[4..12].copy_from_slice(&value.value.to_le_bytes());
                    bytes[12] = u8::from(value.called);
                    writer.put(Table::Sequences, &key::number(*oid), &bytes)?;
                }
                None => writer.delete(Table::Sequences, &key::number(*oid))?,
            }
        }
        for (oid, bytes) in &input.statistics {
            match bytes {
                Some(bytes) => writer.put(Table::Statistics, &key::number(*oid), bytes)?,
                None => writer.delete(Table::Statistics, &key::number(*oid))?,
            }
        }
        for (storage, given) in std::mem::take(&mut self.given) {
            let state = self.meta.storages.entry(storage).or_default();
            state.rows = given.rows;
            state.next_row = state.next_row.max(given.next_row);
        }
        for (storage, state) in &self.meta.storages {
            if self.inner.meta.storages.get(storage) != Some(state) {
                let mut bytes = [0; 16];
                bytes[0..8].copy_from_slice(&state.next_row.to_le_bytes());
                bytes[8..16].copy_from_slice(&state.rows.to_le_bytes());
                writer.put(Table::Storages, &key::number(*storage), &bytes)?;
            }
        }
        writer.put(Table::Meta, key::META, &document(&self.meta)?)
    }

    fn drop_storage(&mut self, writer: &mut dyn Writer, storage: u32) -> Result<()> {
        let low = storage.to_be_bytes();
        let high = storage.checked_add(1).map(u32::to_be_bytes);
        let high = high.as_ref().map_or(Bound::Unbounded, |high| Bound::Excluded(&high[..]));
        for table in [Table::Rows, Table::Delta, Table::Changes, Table::Blobs, Table::Index] {
            writer.delete_range(table, (Bound::Included(&low), high))?;
        }
        // Its blocks in the cache are found by nobody any more: storage numbers are not used again.
        self.given.remove(&storage);
        self.meta.unfolded.retain(|(other, _, _)| *other != storage);
        if self.meta.storages.remove(&storage).is_some() {
            writer.delete(Table::Storages, &key::number(storage))?;
        }
        Ok(())
    }

    /// [`Pass::group`], over what is folded into it.
    fn group_of(
        &mut self,
        writer: &mut dyn Writer,
        place: (u32, u32),
        folds: &mut BTreeSet<(u32, u32)>,
        keys: &dyn RowKeys,
        changes: &mut Vec<(u16, Option<RowBytes>)>,
    ) -> Result<()> {
        let (storage, group) = place;
        if folds.remove(&place) {
            self.fold(writer, storage, group, keys, changes)?;
        }
        self.group(writer, storage, group, changes)
    }

    /// Applies the changes of one group, sorted by offset, and empties them.
    fn group(
        &mut self,
        writer: &mut dyn Writer,
        storage: u32,
        group: u32,
        changes: &mut Vec<(u16, Option<RowBytes>)>,
    ) -> Result<()> {
        let first_row = u64::from(group) * GROUP_ROWS;
        let old_next = self.inner.next_row(storage);
        let largest = changes.last().map_or(0, |(offset, _)| first_row + u64::from(*offset) + 1);
        let given = self.given.get(&storage).map_or(0, |state| state.next_row);
        let next_row = old_next.max(largest).max(given);
        let state = self.meta.storages.entry(storage).or_default();
        state.next_row = state.next_row.max(next_row);
        // Row ids that can exist in a range starting there.
        let capacity = |start: u64, rows: u64| rows.min(next_row.saturating_sub(start)).max(1);

        let old_delta = self.inner.delta(storage, group)?;
        let mut delta: BTreeMap<u16, Entry> = old_delta.iter().flat_map(Block::entries).collect();
        let mut rewrite: BTreeMap<u64, Vec<(u16, Entry)>> = BTreeMap::new();
        // Its memory serves the next group.
        let mut rest = changes.drain(..).peekable();
        while let Some((offset, _)) = rest.peek() {
            let span = u64::from(*offset) / SPAN_ROWS;
            let mut entries = Vec::new();
            while let Some((offset, bytes)) =
                rest.next_if(|(offset, _)| u64::from(*offset) / SPAN_ROWS == span)
            {
                entries.push((offset, self.entry(writer, storage, bytes)?));
            }
            let start = first_row + span * SPAN_ROWS;
            let appended =
                entries.first().is_some_and(|(offset, _)| first_row + u64::from(*offset) >= old_next);
            let worth = appended || entries.len() as u64 * SPAN_SHARE >= capacity(start, SPAN_ROWS);
            let counted = 4 * entries.iter().map(|(_, entry)| entry.size() as u64 + ROW).sum::<u64>();
            if worth && self.has_room(storage, first_row / SPAN_ROWS + span, &entries, counted)? {
                rewrite.insert(span, entries);
            } else {
                for (offset, entry) in entries {
                    if let Some(Entry::Blob(blob)) = delta.insert(offset, entry) {
                        self.remove_blob(writer, storage, blob)?;
                    }
                }
            }
        }
        let bytes = delta.values().map(Entry::size).sum::<usize>();
        let grown = bytes > DELTA_BYTES || delta.len() as u64 * GROUP_SHARE > capacity(first_row, GROUP_ROWS);
        if grown && self.can_fold(storage, first_row / SPAN_ROWS, &delta)? {
            for offset in delta.keys() {
                rewrite.entry(u64::from(*offset) / SPAN_ROWS).or_default();
            }
        }
        for (span, entries) in rewrite {
            self.span(writer, storage, first_row / SPAN_ROWS + span, &mut delta, entries)?;
        }
        let key = key::delta(storage, group);
        self.meta.unfolded.retain(|(s, g, _)| (*s, *g) != (storage, group));
        if !delta.is_empty() {
            let entries: Vec<(u16, Entry)> = delta.into_iter().collect();
            block::encode(&entries, true, &mut self.buffer);
            writer.put(Table::Delta, &key, &self.buffer)?;
            // In a page of up to twice its size; and its neighbour may have to move.
            let beyond = 4 * (self.buffer.len() as u64).saturating_sub(DELTA_PAGE);
            if beyond > 0 {
                self.meta.unfolded.push((storage, group, beyond));
            }
        } else if !old_delta.is_empty() {
            writer.delete(Table::Delta, &key)?;
        }
        self.changed.push(Key::Delta(storage, group));
        Ok(())
    }

    /// Bytes that the blocks of a span take now.
    fn span_bytes(&self, storage: u32, span: u64) -> Result<u64> {
        if span * SPAN_ROWS >= self.inner.next_row(storage) {
            return Ok(0);
        }
        Ok(self.inner.span(storage, span)?.iter().map(|block| block.len() as u64).sum())
    }

    /// Whether a span can be written anew: with what was counted for its changes, where what it holds is not many times as
    /// much, or else with what is to spare.
    fn has_room(&self, storage: u32, span: u64, changes: &[(u16, Entry)], counted: u64) -> Result<bool> {
        if self.spare >= LARGEST_GROUP {
            return Ok(true);
        }
        let new = changes.iter().map(|(_, entry)| entry.size() as u64).sum::<u64>();
        let takes = 2 * (self.span_bytes(storage, span)? + new) + PAGE;
        Ok(takes <= counted.max(self.spare))
    }

    /// Whether there is room to spare for folding a delta. `first`: span where its group begins.
    fn can_fold(&self, storage: u32, first: u64, delta: &BTreeMap<u16, Entry>) -> Result<bool> {
        if self.spare >= LARGEST_GROUP {
            return Ok(true);
        }
        let mut takes = 0;
        let mut last = None;
        for (offset, entry) in delta {
            let span = first + u64::from(*offset) / SPAN_ROWS;
            takes += 2 * entry.size() as u64;
            if last.replace(span) != Some(span) {
                takes += 2 * self.span_bytes(storage, span)? + PAGE;
            }
            if takes > self.spare {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a span anew: what it held, under what the delta says (taken out of it), under `changes`.
    fn span(
        &mut self,
        writer: &mut dyn Writer,
        storage: u32,
        span: u64,
        delta: &mut BTreeMap<u16, Entry>,
        changes: Vec<(u16, Entry)>,
    ) -> Result<()> {
        let first = RowId(span * SPAN_ROWS);
        let old = if first.0 < self.inner.next_row(storage) {
            self.inner.span(storage, span)?
        } else {
            Arc::new([])
        };
        let low = first.offset();
        let in_delta: Vec<u16> =
            delta.range(low..=low + (SPAN_ROWS - 1) as u16).map(|(offset, _)| *offset).collect();
        let rows: Vec<(u16, Entry)> = if old.is_empty() && in_delta.is_empty() {
            // New rows only, as a rule.
            changes.into_iter().filter(|(_, entry)| !matches!(entry, Entry::Deleted)).collect()
        } else {
            let mut rows: BTreeMap<u16, Entry> = old.iter().flat_map(Block::entries).collect();
            let earlier =
                in_delta.into_iter().filter_map(|offset| delta.remove_entry(&offset)).collect::<Vec<_>>();
            for (offset, entry) in earlier.into_iter().chain(changes) {
                let replaced = match entry {
                    Entry::Deleted => rows.remove(&offset),
                    entry => rows.insert(offset, entry),
                };
                if let Some(Entry::Blob(blob)) = replaced {
                    self.remove_blob(writer, storage, blob)?;
                }
            }
            rows.into_iter().collect()
        };
        let group = u64::from(first.group()) * GROUP_ROWS;
        let key_of = |number: usize, entries: &[(u16, Entry)]| {
            let row = match entries.first() {
                Some((offset, _)) if number > 0 => RowId(group + u64::from(*offset)),
                _ => first,
            };
            key::rows(storage, row)
        };
        let blocks = block::cut(&rows);
        let keys: Vec<[u8; 12]> =
            blocks.iter().enumerate().map(|(number, entries)| key_of(number, entries)).collect();
        for (number, block) in old.iter().enumerate() {
            let head = if block.count() > 0 { &[(block.offset(0), Entry::Deleted)][..] } else { &[] };
            let key = key_of(number, head);
            if !keys.contains(&key) {
                writer.delete(Table::Rows, &key)?;
            }
        }
        for (number, entries) in blocks.iter().enumerate() {
            block::encode(entries, number + 1 == blocks.len(), &mut self.buffer);
            writer.put(Table::Rows, &keys[number], &self.buffer)?;
            self.spare = self.spare.saturating_sub(2 * self.buffer.len() as u64 + PAGE);
        }
        self.changed.push(Key::Span(storage, span));
        Ok(())
    }

    /// A changed row as an entry; long ones are put out of line.
    pub(super) fn entry(
        &mut self,
        writer: &mut dyn Writer,
        storage: u32,
        bytes: Option<RowBytes>,
    ) -> Result<Entry> {
        let Some(bytes) = bytes else { return Ok(Entry::Deleted) };
        if bytes.len() <= INLINE {
            return Ok(Entry::Row(bytes));
        }
        let id = self.meta.next_blob;
        self.meta.next_blob += 1;
        for (piece, part) in bytes.chunks(BLOB_PIECE).enumerate() {
            writer.put(Table::Blobs, &key::blob(storage, id, piece as u32), part)?;
        }
        Ok(Entry::Blob(BlobRef { id, len: bytes.len() as u64, hash: xxh3_64(&bytes) }))
    }

    pub(super) fn remove_blob(&mut self, writer: &mut dyn Writer, storage: u32, blob: BlobRef) -> Result<()> {
        for piece in 0..blob.pieces() {
            writer.delete(Table::Blobs, &key::blob(storage, blob.id, piece))?;
        }
        Ok(())
    }
}
