//! Rows of one block, or changed rows of one group: the same bytes for both.
//!
//! ```text
//!  0  xxh3-64 of everything behind it
//!  8  version u8 = 1     9  flags u8 (1 = the last block of its span)     10  count u16
//! 12  per entry, in order of row ids: offset in the group u16 (bits 0..12) with kind (bits 14..15), end u32
//!     kind 0 = row bytes, 1 = deleted (in deltas only), 2 = out of line: blob id u64, length u64, xxh3 u64
//!     then the bytes of the entries, one after the other; `end` counts from the first of them
//! ```
//! Row bytes are used where they lie: a row shares the buffer of its block.

use std::ops::Range;

use value::{Error, Result, SqlState};
use xxhash_rust::xxh3::xxh3_64;

use super::store::Table;
use crate::row::RowBytes;
use crate::sync::Arc;

/// Row ids per span: what is read for one row.
pub(super) const SPAN_ROWS: u64 = 128;
/// Longer rows lie out of line.
pub(super) const INLINE: usize = 2048;
/// Most bytes of a block: with key and page header it fills a 16 KiB page and not one byte more.
pub(super) const BLOCK_BYTES: usize = 4 * 4096 - 48;
/// Bytes of one piece of an out-of-line row; it fills a 256 KiB page.
pub(super) const BLOB_PIECE: usize = 64 * 4096 - 64;

const HEAD: usize = 12;
const ENTRY: usize = 6;
const VERSION: u8 = 1;
const LAST: u8 = 1;
const OFFSET: u16 = 0x1fff;
const DELETED: u16 = 1 << 14;
const BLOB: u16 = 2 << 14;
const KIND: u16 = 3 << 14;

/// Where an out-of-line row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobRef {
    pub id: u64,
    pub len: u64,
    pub hash: u64,
}

impl BlobRef {
    pub fn pieces(&self) -> u32 {
        self.len.div_ceil(BLOB_PIECE as u64) as u32
    }
}

/// One entry of a block.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Row(RowBytes),
    Deleted,
    Blob(BlobRef),
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Entry::Row(bytes) => bytes.len(),
            Entry::Deleted => 0,
            Entry::Blob(_) => 24,
        }
    }

    /// Bytes it takes in a block.
    pub fn size(&self) -> usize {
        ENTRY + self.len()
    }
}

/// A checked block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    buffer: Arc<[u8]>,
    count: usize,
}

/// Names what is damaged.
pub(super) fn corrupted(file: &str, table: Table, key: &[u8], what: &str) -> Error {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Error::new(SqlState::DATA_CORRUPTED, format!("file \"{file}\" is damaged"))
        .detail(format!("Table {}, key {key}: {what}.", table.name()))
        .hint("Restore from a backup; other rows can still be read.")
}

impl Block {
    /// Checks the bytes; the error says what is wrong with them.
    pub fn parse(buffer: Arc<[u8]>) -> Result<Block, &'static str> {
        let hash = buffer.get(0..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if buffer.len() < HEAD || hash != Some(xxh3_64(&buffer[8..])) {
            return Err("checksum mismatch");
        }
        if buffer[8] != VERSION {
            return Err("unknown version");
        }
        let count = usize::from(u16::from_le_bytes([buffer[10], buffer[11]]));
        let block = Block { buffer, count };
        let body = HEAD + count * ENTRY;
        let ends_well = match count.checked_sub(1) {
            Some(last) => body + block.end(last) == block.buffer.len(),
            None => body == block.buffer.len(),
        };
        if body > block.buffer.len() || !ends_well {
            return Err("wrong length");
        }
        Ok(block)
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn is_last(&self) -> bool {
        self.buffer[9] & LAST != 0
    }

    fn head(&self, entry: usize) -> u16 {
        let at = HEAD + entry * ENTRY;
        u16::from_le_bytes([self.buffer[at], self.buffer[at + 1]])
    }

    fn end(&self, entry: usize) -> usize {
        let at = HEAD + entry * ENTRY + 2;
        match self.buffer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => u32::from_le_bytes(bytes) as usize,
            None => usize::MAX / 2,
        }
    }

    /// The row's offset in its group.
    pub fn offset(&self, entry: usize) -> u16 {
        self.head(entry) & OFFSET
    }

    pub fn entry(&self, entry: usize) -> Entry {
        let body = HEAD + self.count * ENTRY;
        let start = if entry == 0 { 0 } else { self.end(entry - 1) };
        let range: Range<usize> = body + start..body + self.end(entry);
        match self.head(entry) & KIND {
            DELETED => Entry::Deleted,
            BLOB => {
                let number = |at: usize| {
                    let bytes = self.buffer.get(range.start + at..range.start + at + 8);
                    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
                };
                Entry::Blob(BlobRef { id: number(0), len: number(8), hash: number(16) })
            }
            _ => Entry::Row(RowBytes::slice(Arc::clone(&self.buffer), range)),
        }
    }

    /// The entry of a row by its offset in the group.
    pub fn find(&self, offset: u16) -> Option<Entry> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            match self.offset(middle).cmp(&offset) {
                std::cmp::Ordering::Equal => return Some(self.entry(middle)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// All entries with their offsets.
    pub fn entries(&self) -> impl Iterator<Item = (u16, Entry)> {
        (0..self.count).map(|entry| (self.offset(entry), self.entry(entry)))
    }
}

/// The bytes of a block with these entries, sorted by offset.
pub(super) fn encode(entries: &[(u16, Entry)], last: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 8]);
    out.push(VERSION);
    out.push(if last { LAST } else { 0 });
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    let mut end = 0;
    for (offset, entry) in entries {
        end += entry.len() as u32;
        let kind = match entry {
            Entry::Row(_) => 0,
            Entry::Deleted => DELETED,
            Entry::Blob(_) => BLOB,
        };
        out.extend_from_slice(&(offset | kind).to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
    }
    for (_, entry) in entries {
        match entry {
            Entry::Row(bytes) => out.extend_from_slice(bytes),
            Entry::Deleted => {}
            Entry::Blob(blob) => {
                out.extend_from_slice(&blob.id.to_le_bytes());
                out.extend_from_slice(&blob.len.to_le_bytes());
                out.extend_from_slice(&blob.hash.to_le_bytes());
            }
        }
    }
    let hash = xxh3_64(&out[8..]);
    out[..8].copy_from_slice(&hash.to_le_bytes());
}

/// Cuts the entries of a span into blocks that each fit [`BLOCK_BYTES`].
pub(super) fn cut(entries: &[(u16, Entry)]) -> Vec<&[(u16, Entry)]> {
    let mut blocks = Vec::new();
    let (mut start, mut size) = (0, HEAD);
    for (place, (_, entry)) in entries.iter().enumerate() {
        if size + entry.size() > BLOCK_BYTES && place > start {
            blocks.push(&entries[start..place]);
            (start, size) = (place, HEAD);
        }
        size += entry.size();
    }
    if start < entries.len() {
        blocks.push(&entries[start..]);
    }
    blocks
}
