//! The narrow ordered key-value store that the base stands on: get, put, delete, scan, with one writer and
//! immutable readers. [`super::redb`] and [`super::memory`] implement it and pass the same tests.

use std::ops::Bound;

use value::Result;

use crate::sync::Arc;

/// The key spaces of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Meta,
    Catalog,
    Storages,
    Sequences,
    Statistics,
    Rows,
    Delta,
    Changes,
    Blobs,
    Index,
}

impl Table {
    pub const ALL: [Table; 10] = [
        Table::Meta,
        Table::Catalog,
        Table::Storages,
        Table::Sequences,
        Table::Statistics,
        Table::Rows,
        Table::Delta,
        Table::Changes,
        Table::Blobs,
        Table::Index,
    ];

    /// Its name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "META",
            Table::Catalog => "CATALOG",
            Table::Storages => "STORAGES",
            Table::Sequences => "SEQUENCES",
            Table::Statistics => "STATISTICS",
            Table::Rows => "ROWS",
            Table::Delta => "DELTA",
            Table::Changes => "CHANGES",
            Table::Blobs => "BLOBS",
            Table::Index => "INDEX",
        }
    }
}

/// Bounds of a scan, by bytes.
pub type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Called with each key and value; `false` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// Ordered tables of byte keys and values.
pub trait Store: Send + Sync {
    /// The state after the newest commit; it never changes.
    fn read(&self) -> Result<Box<dyn Reader>>;
    /// Runs `run` on a writer and makes all of it durable at once, or, when it or the commit fails, nothing.
    /// One at a time: others wait.
    fn write(&self, run: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()>;
    /// An I/O error has made this store useless.
    fn failed(&self) -> bool;
    /// Opens the same files again after an I/O error has made this store useless; its readers get 58030.
    fn reopen(&self) -> Result<Arc<dyn Store>>;
    /// No calls after this one; readers are to be dropped before.
    fn close(&self) -> Result<()>;
    /// Bytes that it takes on the disk, as of the last [`Store::write`].
    fn size(&self) -> u64;
    /// Bytes of the disk that it takes and has no use for now. Reads all of it.
    fn unused(&self) -> Result<u64>;
    /// Where it lives, for messages.
    fn name(&self) -> String;
}

/// One immutable state of a store.
pub trait Reader: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>>;
    /// Keys in order (descending when `backward`). A range that ends before it begins is empty.
    fn scan(&self, table: Table, range: Range<'_>, backward: bool, visit: Visit<'_>) -> Result<()>;
}

/// Changes of one commit. Reads see them.
pub trait Writer {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>>;
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
    /// Puts keys with empty values; ascending, which a store may make use of.
    fn put_keys(&mut self, table: Table, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<()> {
        for key in keys {
            self.put(table, key, &[])?;
        }
        Ok(())
    }
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()>;
    fn delete_range(&mut self, table: Table, range: Range<'_>) -> Result<()>;
}

/// Keys one after the other in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// With room for so many, of so many bytes in all.
    pub fn with_capacity(keys: usize, bytes: usize) -> Keys {
        Keys { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(keys) }
    }

    pub fn push(&mut self, key: &[u8]) {
        self.push_parts(&[key]);
    }

    /// A key in pieces.
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    /// Takes the last one away.
    pub fn pop(&mut self) {
        self.ends.pop();
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The n-th key, if there are so many.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// The length of every key, when they are all alike.
    pub fn length(&self) -> Option<usize> {
        let length = *self.ends.first()?;
        self.ends.iter().zip(1..).all(|(end, count)| *end == length * count).then_some(length)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|number| self.get(number))
    }
}

/// Whether no key can lie in the range.
pub(super) fn is_empty(range: Range<'_>) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
            low >= high
        }
        _ => false,
    }
}

/// The keys of the tables.
pub(super) mod key {
    use crate::ids::RowId;

    /// Of META's one document.
    pub const META: &[u8] = b"state";

    /// CATALOG, SEQUENCES, STATISTICS by oid; STORAGES by storage.
    pub fn number(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    /// ROWS: storage, first row id the block may hold.
    pub fn rows(storage: u32, first: RowId) -> [u8; 12] {
        wide(storage, first.0)
    }

    /// DELTA: storage, group.
    pub fn delta(storage: u32, group: u32) -> [u8; 8] {
        let mut key = [0; 8];
        key[..4].copy_from_slice(&storage.to_be_bytes());
        key[4..].copy_from_slice(&group.to_be_bytes());
        key
    }

    /// CHANGES: storage, piece, first row id the block may hold.
    pub fn change(storage: u32, piece: u64, first: RowId) -> [u8; 20] {
        let mut key = [0; 20];
        key[..12].copy_from_slice(&wide(storage, piece));
        key[12..].copy_from_slice(&first.0.to_be_bytes());
        key
    }

    /// BLOBS: storage, blob id, number of the piece.
    pub fn blob(storage: u32, id: u64, piece: u32) -> [u8; 16] {
        let mut key = [0; 16];
        key[..12].copy_from_slice(&wide(storage, id));
        key[12..].copy_from_slice(&piece.to_be_bytes());
        key
    }

    /// INDEX: storage, key bytes, row id.
    pub fn index(storage: u32, key: &[u8], row: RowId, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&storage.to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&row.0.to_be_bytes());
    }

    fn wide(storage: u32, number: u64) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&storage.to_be_bytes());
        key[4..].copy_from_slice(&number.to_be_bytes());
        key
    }
}
