//! The base: all committed rows and index entries as of one LSN, on disk.
//!
//! The hard idea: a [`Base`] is an immutable snapshot. A checkpoint takes the newest one and a sorted list of
//! changes and yields the next in one atomic commit that also records up to which LSN it holds everything, so
//! that recovery is "open the base, replay what is after it", exactly once, without page LSNs. Readers of the
//! old one go on undisturbed until they drop it.
//!
//! Rows live in blocks of 128 row ids (`block`); few changes to many blocks of a group of 8192 rows are kept as
//! one delta per group (`delta`) and folded into the blocks when it has grown. Behind it all stands a narrow
//! ordered key-value trait (`store`). The bytes are described in engine/README.md.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use value::{Error, Oid, Result, SqlState};

use crate::catalog::{Change, Object};
use crate::disk::Disk;
use crate::ids::{GROUP_ROWS, Lsn, RowId};
use crate::metrics::Metrics;
use crate::row::RowBytes;
use crate::sync::Arc;
use crate::wal::record::SequenceValue;

mod block;
mod cache;
mod checkpoint;
mod delta;
mod memory;
mod redb;
pub mod store;

use cache::BlockCache;
use store::{Reader, Store, Table, key};

/// Written into META and raised when an older program could not read what a newer one writes.
pub const FORMAT_VERSION: u32 = 1;

/// Where the base lives and what it may use.
#[derive(Clone, Debug)]
pub struct BaseOptions {
    pub disk: Arc<dyn Disk>,
    /// Directory of `meta.redb`; must exist.
    pub directory: PathBuf,
    /// Bytes of memory for pages and blocks together.
    pub cache_size: u64,
    /// Identity given to a base made by this open; `None` picks a random one.
    pub new_database_id: Option<u64>,
}

/// Index key range by encoded key bytes. Helpers to build one live beside the key encoding (crate::index).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub low: Bound<Vec<u8>>,
    pub high: Bound<Vec<u8>>,
}

/// Facts about a base, all as of [`BaseMeta::applied`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseMeta {
    pub format_version: u32,
    /// Drawn once when the base was made; the log's segments carry it too.
    pub database_id: u64,
    /// Everything committed up to and including this LSN is in the base, nothing after it.
    #[serde(rename = "applied", with = "lsn")]
    pub applied: Lsn,
    pub next_oid: Oid,
    pub next_storage: u32,
    /// Next id for an out-of-line row.
    pub next_blob: u64,
    /// Grows with every checkpoint.
    pub generation: u64,
    /// Per table storage; kept in a table of its own, not in the META document.
    #[serde(skip)]
    pub storages: BTreeMap<u32, StorageState>,
}

mod lsn {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(lsn: &crate::ids::Lsn, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(lsn.0)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<crate::ids::Lsn, D::Error> {
        u64::deserialize(from).map(crate::ids::Lsn)
    }
}

/// What is known about one table storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageState {
    /// Row ids below this may be or have been in use.
    pub next_row: u64,
    /// Live rows.
    pub rows: u64,
}

/// What one checkpoint adds to the base. Iterators are pulled once, in order, while writing.
pub struct CheckpointInput<'a> {
    /// Everything up to here is in the base afterwards.
    pub applied: Lsn,
    /// Sorted by (storage, row), each row once. `None` = deleted (also for a row that never was in the base).
    pub rows: &'a mut dyn Iterator<Item = Result<RowChange>>,
    /// Sorted by (storage, key, row), each entry once. Adding one that exists and removing one that does not
    /// are fine.
    pub indexes: &'a mut dyn Iterator<Item = Result<IndexChange>>,
    /// Storages (tables and indexes) whose contents go; they must not occur in `rows` and `indexes`.
    pub dropped: Vec<u32>,
    /// In commit order.
    pub catalog: Vec<Change>,
    /// `None` = forgotten.
    pub sequences: Vec<(Oid, Option<SequenceValue>)>,
    pub statistics: Vec<(Oid, Option<Vec<u8>>)>,
    /// New state of storages whose counters moved.
    pub storages: Vec<(u32, StorageState)>,
    pub next_oid: Oid,
    pub next_storage: u32,
}

/// The newest committed version of one row.
#[derive(Clone, Debug)]
pub struct RowChange {
    pub storage: u32,
    pub row: RowId,
    pub bytes: Option<RowBytes>,
}

/// One entry of an index that comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexChange {
    pub storage: u32,
    pub key: Vec<u8>,
    pub row: RowId,
    pub add: bool,
}

/// An immutable snapshot of everything committed up to [`BaseMeta::applied`]. Clones share it.
#[derive(Clone)]
pub struct Base(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    reader: Box<dyn Reader>,
    meta: BaseMeta,
    cache: Arc<BlockCache>,
    options: BaseOptions,
    metrics: Arc<Metrics>,
}

impl Base {
    /// Opens the base in `options.directory`, making an empty one when there is none (`meta().generation` is
    /// then 0). `0A000` for a newer format, `XX001` for a file that is damaged or not ours.
    pub fn open(options: BaseOptions, metrics: Arc<Metrics>) -> Result<Base> { todo!() }

    /// After an I/O error the store answers nothing any more: opens it again from disk. Whoever still uses the
    /// old one gets 58030. 
    pub fn reopen(&self) -> Result<Base> { todo!() }

    pub fn meta(&self) -> &BaseMeta {
        &self.0.meta
    }

    /// One row.
    pub fn get(&self, storage: u32, row: RowId) -> Result<Option<RowBytes>> { todo!() }

    /// Groups of a storage are numbered 0 to this, exclusive. Some of them may have no rows.
    pub fn groups(&self, storage: u32) -> u32 { todo!() }

    /// The rows of a group in id order, appended to `out`.
    pub fn read_group(&self, storage: u32, group: u32, out: &mut Vec<(RowId, RowBytes)>) -> Result<()> { todo!() }

    /// The rows with ids in `range`, in id order, appended to `out`. Reads whole blocks of 128 ids: best asked
    /// for at multiples of that.
    pub fn read_rows(&self, storage: u32, range: Range<RowId>, out: &mut Vec<(RowId, RowBytes)>) -> Result<()> { todo!() }

    /// The entries of an index in key order (ties by row id), or backwards, pulled in small steps.
    pub fn index_range(&self, storage: u32, range: &KeyRange, backward: bool) -> IndexRange { todo!() }

    /// Every catalog object, by oid.
    pub fn catalog_objects(&self) -> Result<Vec<Object>> { todo!() }

    pub fn sequences(&self) -> Result<Vec<(Oid, SequenceValue)>> { todo!() }

    pub fn statistics(&self) -> Result<Vec<(Oid, Vec<u8>)>> { todo!() }

    /// Applies `input` in one atomic, durable commit and gives the next base. The caller has made the log
    /// durable up to `input.applied`. One at a time, on the newest base. On an error this base still answers,
    /// unless the store failed: see [`Base::reopen`].
    pub fn checkpoint(&self, input: CheckpointInput<'_>) -> Result<Base> { checkpoint::run(self, input) }

    /// Ends the store cleanly; bases still held give errors afterwards.
    pub fn close(&self) -> Result<()> { todo!() }
}

/// Entries of one index. Either an iterator of owned entries, or pulled with [`IndexRange::peek`] and
/// [`IndexRange::advance`] without copying keys.
pub struct IndexRange { todo: () }

impl IndexRange {
    /// The entry it stands at, `None` at the end.
    pub fn peek(&mut self) -> Result<Option<(&[u8], RowId)>> { todo!() }

    /// To the next entry.
    pub fn advance(&mut self) { todo!() }
}

impl Iterator for IndexRange {
    type Item = Result<(Vec<u8>, RowId)>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
