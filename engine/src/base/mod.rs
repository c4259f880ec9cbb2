//! The base: all committed rows and index entries as of one LSN, on disk.
//!
//! The hard idea: a [`Base`] is an immutable snapshot. A checkpoint takes the newest one and a sorted list of
//! changes and yields the next in one atomic commit that also records up to which LSN it holds everything, so
//! that recovery is "open the base, replay what is after it", exactly once, without page LSNs. Readers of the
//! old one go on undisturbed until they drop it.
//!
//! Rows live in blocks of 128 row ids (`block`); few changes to many blocks of a group of 8192 rows are kept as
//! one delta per group (`checkpoint` decides) and folded into the blocks when it has grown. Behind it all stands a narrow
//! ordered key-value trait (`store`). The bytes are described in engine/README.md.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, Range};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use value::{Error, Oid, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{Change, Object};
use crate::disk::Disk;
use crate::disk::room::Cost;
use crate::ids::{GROUP_ROWS, Lsn, RowId};
pub use crate::index::KeyRange;
use crate::metrics::Metrics;
use crate::row::RowBytes;
use crate::sync::{Arc, Mutex};
use crate::wal::record::SequenceValue;

mod block;
mod cache;
mod changes;
mod checkpoint;
pub mod memory;
mod pages;
pub mod redb;
mod run;
pub mod store;

pub(crate) use redb::RedbStore;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use block::{BlobRef, Block, Entry, SPAN_ROWS};
use cache::{BlockCache, Blocks, Key};
pub(crate) use run::{Deferred, Packed, Packer, Run};
pub(crate) use store::Keys;
use store::{Reader, Store, Table, key};

/// Written into META and raised when an older program could not read what a newer one writes.
/// 2: pieces that change rows.
pub const FORMAT_VERSION: u32 = 2;

/// Where the base lives and what it may use.
#[derive(Clone, Debug)]
pub struct BaseOptions {
    pub disk: Arc<dyn Disk>,
    /// Directory of `meta.redb`; must exist.
    pub directory: PathBuf,
    /// Bytes of memory for pages, blocks and writes on their way to the disk together.
    pub cache_size: u64,
    /// Bytes of the disk of which a checkpoint leaves a quarter: see [`crate::disk::room`].
    pub reserve: u64,
    /// Identity given to a base made by this open; `None` picks a random one.
    pub new_database_id: Option<u64>,
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
    /// The next group to fill, of indexes that are built concurrently.
    #[serde(default)]
    pub builds: BTreeMap<Oid, u32>,
    /// Deltas that wait for room to be folded: storage, group, and what writing each anew takes beyond [`Cost::GROUP`].
    #[serde(default)]
    pub unfolded: Vec<(u32, u32, u64)>,
    /// What transactions have written that had not ended.
    #[serde(default)]
    pub pending: BTreeMap<u64, Piece>,
    /// Those that are groups of new rows, by group.
    #[serde(skip)]
    pub pending_groups: BTreeMap<(u32, u32), u64>,
    /// Those that change rows, by group; within it in the order in which they came.
    #[serde(skip)]
    pub changed_groups: BTreeMap<(u32, u32), Vec<u64>>,
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

/// Numbers of groups as JSON: neighbours as `[first, last]`, since a piece of scattered changes may touch all there are.
mod groups {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Item {
        One(u32),
        Run([u32; 2]),
    }

    pub fn serialize<S: Serializer>(groups: &[u32], out: S) -> Result<S::Ok, S::Error> {
        let runs = groups.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        out.collect_seq(runs.map(|run| match run {
            [one] => Item::One(*one),
            run => Item::Run([run[0], run[run.len() - 1]]),
        }))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u32>, D::Error> {
        let items = Vec::<Item>::deserialize(from)?;
        Ok(items
            .into_iter()
            .flat_map(|item| match item {
                Item::One(group) => group..=group,
                Item::Run([first, last]) => first..=last,
            })
            .collect())
    }
}

/// Groups of one storage, and the indexes that have entries for their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub storage: u32,
    /// Ascending.
    #[serde(with = "groups")]
    pub groups: Vec<u32>,
    /// Where it changes rows: those of whose entries it changes any.
    pub indexes: Vec<u32>,
    /// It changes rows of these groups, and lies in CHANGES; otherwise the groups are all its own.
    #[serde(default)]
    pub changes: bool,
    /// About what its changes take.
    #[serde(default)]
    pub bytes: u64,
    /// Index entries that come or go with them.
    #[serde(default)]
    pub entries: u64,
}

impl Piece {
    /// What it takes to make its changes part of the base.
    pub fn cost(&self) -> Cost {
        let groups = if self.changes { self.groups.len() as u64 * Cost::GROUP } else { 0 };
        Cost { bytes: self.bytes, touched: groups.saturating_add(self.entries.saturating_mul(Cost::ENTRY)) }
    }
}

impl BaseMeta {
    /// Bytes that writing all deltas anew that wait to be folded takes beyond what is counted for their groups.
    pub fn unfolded_room(&self) -> u64 {
        self.unfolded.iter().map(|(_, _, more)| more).sum()
    }

    fn index_pending(&mut self) {
        self.pending_groups.clear();
        self.changed_groups.clear();
        for (id, piece) in &self.pending {
            for group in &piece.groups {
                if piece.changes {
                    self.changed_groups.entry((piece.storage, *group)).or_default().push(*id);
                } else {
                    self.pending_groups.insert((piece.storage, *group), *id);
                }
            }
        }
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
    /// Further entries to add, in order within each run.
    pub runs: &'a [Run],
    /// What a piece of `pending` changes, sorted by row.
    pub changes: Option<(u64, &'a mut dyn Iterator<Item = Result<RowChange>>)>,
    /// Keys of rows, for the entries that go with what settled pieces have changed.
    pub keys: &'a dyn RowKeys,
    /// Storages (tables and indexes) whose contents go; they must not occur in `rows` and `indexes`.
    pub dropped: Vec<u32>,
    /// In commit order.
    pub catalog: Vec<Change>,
    /// `None` = forgotten.
    pub sequences: Vec<(Oid, Option<SequenceValue>)>,
    pub statistics: Vec<(Oid, Option<Vec<u8>>)>,
    /// How far indexes are filled; `None` = done, or dropped.
    pub builds: Vec<(Oid, Option<u32>)>,
    /// Groups that the rows above write before their transaction has ended.
    pub pending: Vec<(u64, Piece)>,
    /// Pieces that have ended, one way or the other. Of those that change rows the first become part of the base, under
    /// `rows`; `void` ones go as they are, their entries with `indexes`.
    pub settled: Vec<u64>,
    pub void: Vec<u64>,
    /// Pieces that have failed and are still there: nobody needs their entries.
    pub aborted: BTreeSet<u64>,
    /// New state of storages whose counters moved.
    pub storages: Vec<(u32, StorageState)>,
    pub next_oid: Oid,
    pub next_storage: u32,
    /// Bytes that it takes on the disk at worst ([`crate::disk::room::Cost`]): a checkpoint that would not fit is
    /// refused before it begins (53100).
    pub expected_bytes: u64,
}

/// Keys of rows in the indexes of their table.
pub trait RowKeys {
    /// The entries (index storage, key) that a row has in those of `indexes` that still exist.
    fn keys(&self, storage: u32, indexes: &[u32], row: &RowBytes) -> Result<Vec<(u32, Vec<u8>)>>;
}

/// Where nothing that changes rows is settled.
pub struct NoKeys;

impl RowKeys for NoKeys {
    fn keys(&self, _: u32, _: &[u32], _: &RowBytes) -> Result<Vec<(u32, Vec<u8>)>> {
        Err(Error::internal("keys are asked for where no rows were changed"))
    }
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
    /// The last key of indexes that were asked for.
    last_keys: Mutex<HashMap<u32, Option<Vec<u8>>>>,
    options: BaseOptions,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").field("meta", &self.0.meta).finish_non_exhaustive()
    }
}

/// File of the base in its directory.
pub const FILE: &str = "meta.redb";

impl Base {
    /// Opens the base in `options.directory`, making an empty one when there is none (`meta().generation` is
    /// then 0). `0A000` for a newer format, `XX001` for a file that is damaged or not ours.
    pub fn open(options: BaseOptions, metrics: Arc<Metrics>) -> Result<Base> {
        let store = redb::RedbStore::open(
            Arc::clone(&options.disk),
            &options.directory.join(FILE),
            options.cache_size / 5 * 2,
            Arc::clone(&metrics),
        )?;
        Base::on(Arc::new(store), options, metrics)
    }

    /// Opens the base in a store; the options' disk and directory only serve to ask for free space.
    pub fn on(store: Arc<dyn Store>, options: BaseOptions, metrics: Arc<Metrics>) -> Result<Base> {
        if store.read()?.get(Table::Meta, key::META)?.is_none() {
            let meta = BaseMeta {
                format_version: FORMAT_VERSION,
                database_id: options.new_database_id.unwrap_or_else(random_id),
                applied: Lsn(0),
                next_oid: crate::catalog::FIRST_USER_OID,
                next_storage: 1,
                next_blob: 1,
                generation: 0,
                builds: BTreeMap::new(),
                unfolded: Vec::new(),
                pending: BTreeMap::new(),
                pending_groups: BTreeMap::new(),
                changed_groups: BTreeMap::new(),
                storages: BTreeMap::new(),
            };
            let document = checkpoint::document(&meta)?;
            store.write(&mut |writer| writer.put(Table::Meta, key::META, &document))?;
        }
        let reader = store.read()?;
        let meta = read_meta(&*store, &*reader)?;
        let cache =
            Arc::new(BlockCache::new(options.cache_size / 5 * 2, meta.generation, Arc::clone(&metrics)));
        let last_keys = Mutex::default();
        Ok(Base(Arc::new(Inner { store, reader, meta, cache, last_keys, options, metrics })))
    }

    /// After an I/O error the store answers nothing any more: opens it again from disk, in the state of its
    /// last commit that went through. Whoever still uses a base of the old store gets 58030. A store that is
    /// well is left alone.
    pub fn reopen(&self) -> Result<Base> {
        if !self.0.store.failed() {
            return Ok(self.clone());
        }
        let store = self.0.store.reopen()?;
        Base::on(store, self.0.options.clone(), Arc::clone(&self.0.metrics))
    }

    /// An I/O error has made the store useless: see [`Base::reopen`].
    pub fn failed(&self) -> bool {
        self.0.store.failed()
    }

    /// Bytes that it takes on the disk.
    pub fn size(&self) -> u64 {
        self.0.store.size()
    }

    /// Bytes of these that the next checkpoints can use again. Reads the whole file.
    pub fn unused(&self) -> Result<u64> {
        self.0.store.unused()
    }

    pub fn meta(&self) -> &BaseMeta {
        &self.0.meta
    }

    /// The piece a group belongs to, while its transaction has not ended as far as this base knows.
    pub fn pending(&self, storage: u32, group: u32) -> Option<u64> {
        let pending = &self.0.meta.pending_groups;
        if pending.is_empty() { None } else { pending.get(&(storage, group)).copied() }
    }

    /// One row. Pending groups are read like others: who may see them is for the caller to decide.
    pub fn get(&self, storage: u32, row: RowId) -> Result<Option<RowBytes>> {
        if self.0.next_row(storage) <= row.0 {
            return Ok(None);
        }
        let delta = self.0.delta(storage, row.group())?;
        let changed = delta.iter().find_map(|block| block.find(row.offset()));
        let entry = match changed {
            Some(entry) => Some(entry),
            None => {
                let span = self.0.span(storage, row.0 / SPAN_ROWS)?;
                span.iter().find_map(|block| block.find(row.offset()))
            }
        };
        match entry {
            Some(entry) => self.0.resolve(storage, entry),
            None => Ok(None),
        }
    }

    /// Groups of a storage are numbered 0 to this, exclusive. Some of them may have no rows.
    pub fn groups(&self, storage: u32) -> u32 {
        self.0.next_row(storage).div_ceil(GROUP_ROWS) as u32
    }

    /// The rows of a group in id order, appended to `out`.
    pub fn read_group(&self, storage: u32, group: u32, out: &mut Vec<(RowId, RowBytes)>) -> Result<()> {
        let first = RowId::at(group, 0);
        self.read_rows(storage, first..RowId(first.0 + GROUP_ROWS), out)
    }

    /// The rows with ids in `range`, in id order, appended to `out`. Reads whole blocks of 128 ids: best asked
    /// for at multiples of that.
    pub fn read_rows(
        &self,
        storage: u32,
        range: Range<RowId>,
        out: &mut Vec<(RowId, RowBytes)>,
    ) -> Result<()> {
        let end = range.end.0.min(self.0.next_row(storage));
        let mut at = range.start.0;
        while at < end {
            let group = RowId(at).group();
            let stop = end.min((u64::from(group) + 1) * GROUP_ROWS);
            self.0.read_in_group(storage, group, at..stop, out)?;
            at = stop;
        }
        Ok(())
    }

    /// The entries of an index in key order (ties by row id), or backwards, pulled in small steps.
    pub fn index_range(&self, storage: u32, range: &KeyRange, backward: bool) -> IndexRange {
        IndexRange {
            base: self.clone(),
            storage,
            range: range.clone(),
            backward,
            keys: Vec::new(),
            entries: Vec::new(),
            at: 0,
            step: FIRST_STEP,
            last: None,
            done: false,
        }
    }

    /// Whether a key lies behind the last one of an index: what growing keys are asked for, answered without a look
    /// at pages.
    pub fn is_beyond(&self, storage: u32, key: &[u8]) -> Result<bool> {
        let beyond = |last: &Option<Vec<u8>>| last.as_deref().is_none_or(|last| key > last);
        if let Some(last) = self.0.last_keys.lock().get(&storage) {
            return Ok(beyond(last));
        }
        let last = self.index_range(storage, &KeyRange::all(), true).peek()?.map(|(key, _)| key.to_vec());
        let answer = beyond(&last);
        self.0.last_keys.lock().insert(storage, last);
        Ok(answer)
    }

    /// Every catalog object, by oid.
    pub fn catalog_objects(&self) -> Result<Vec<Object>> {
        self.0
            .numbered(Table::Catalog, |bytes| serde_json::from_slice(bytes).ok())
            .map(|objects| objects.into_iter().map(|(_, object): (u32, Object)| object).collect())
    }

    /// Every sequence that was used, by oid.
    pub fn sequences(&self) -> Result<Vec<(Oid, SequenceValue)>> {
        self.0.numbered(Table::Sequences, |bytes| {
            Some(SequenceValue {
                generation: u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?),
                value: i64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?),
                called: *bytes.get(12)? != 0,
            })
        })
    }

    /// Every table's statistics, by oid.
    pub fn statistics(&self) -> Result<Vec<(Oid, Vec<u8>)>> {
        self.0.numbered(Table::Statistics, |bytes| Some(bytes.to_vec()))
    }

    /// Applies `input` in one atomic, durable commit and gives the next base. The caller has made the log
    /// durable up to `input.applied`. One at a time, on the newest base. On an error this base still answers,
    /// unless the store failed: see [`Base::reopen`].
    pub fn checkpoint(&self, input: CheckpointInput<'_>) -> Result<Base> {
        checkpoint::run(self, input)
    }

    /// Ends the store cleanly; bases still held give errors afterwards.
    pub fn close(&self) -> Result<()> {
        self.0.store.close()
    }
}

/// A number that no other database has, from the seed the system gives hash maps, and the time.
fn random_id() -> u64 {
    use std::hash::BuildHasher;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    std::hash::RandomState::new().hash_one((now.as_nanos(), std::process::id()))
}

fn read_meta(store: &dyn Store, reader: &dyn Reader) -> Result<BaseMeta> {
    let damaged = |what: &str| block::corrupted(&store.name(), Table::Meta, key::META, what);
    let document = reader.get(Table::Meta, key::META)?.ok_or_else(|| damaged("missing"))?;
    // The version first: a newer format may have another document.
    let version: serde_json::Value =
        serde_json::from_slice(&document).map_err(|error| damaged(&error.to_string()))?;
    match version.get("format_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version > u64::from(FORMAT_VERSION) => {
            return Err(Error::unsupported(
                format_args!("data format {version} of \"{}\"", store.name()),
                format!("This program knows formats up to {FORMAT_VERSION}; use the one that wrote it."),
            ));
        }
        Some(_) => {}
        None => return Err(damaged("no format version")),
    }
    let mut meta: BaseMeta =
        serde_json::from_slice(&document).map_err(|error| damaged(&error.to_string()))?;
    let mut bad = None;
    reader.scan(Table::Storages, (Bound::Unbounded, Bound::Unbounded), false, &mut |key, value| {
        let state = || {
            let number = u32::from_be_bytes(key.try_into().ok()?);
            let next_row = u64::from_le_bytes(value.get(0..8)?.try_into().ok()?);
            let rows = u64::from_le_bytes(value.get(8..16)?.try_into().ok()?);
            Some((number, StorageState { next_row, rows }))
        };
        match state() {
            Some((number, state)) => {
                meta.storages.insert(number, state);
            }
            None => bad = Some(key.to_vec()),
        }
        true
    })?;
    meta.index_pending();
    match bad {
        Some(key) => Err(block::corrupted(&store.name(), Table::Storages, &key, "not a storage")),
        None => Ok(meta),
    }
}

impl Inner {
    fn next_row(&self, storage: u32) -> u64 {
        self.meta.storages.get(&storage).map_or(0, |state| state.next_row)
    }

    fn corrupted(&self, table: Table, key: &[u8], what: &str) -> Error {
        block::corrupted(&self.store.name(), table, key, what)
    }

    fn parse(&self, table: Table, key: &[u8], bytes: Arc<[u8]>) -> Result<Block> {
        Block::parse(bytes).map_err(|what| self.corrupted(table, key, what))
    }

    /// All entries of a table keyed by one number.
    fn numbered<T>(&self, table: Table, read: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<(u32, T)>> {
        let mut found = Vec::new();
        let mut bad = None;
        self.reader.scan(table, (Bound::Unbounded, Bound::Unbounded), false, &mut |key, value| {
            match key.try_into().ok().map(u32::from_be_bytes).zip(read(value)) {
                Some(entry) => found.push(entry),
                None => bad = Some(key.to_vec()),
            }
            true
        })?;
        match bad {
            Some(key) => Err(self.corrupted(table, &key, "cannot be read")),
            None => Ok(found),
        }
    }

    /// The delta of a group: one block, or none.
    fn delta(&self, storage: u32, group: u32) -> Result<Blocks> {
        let cached = Key::Delta(storage, group);
        if let Some(blocks) = self.cache.get(cached, self.meta.generation) {
            return Ok(blocks);
        }
        let key = key::delta(storage, group);
        let blocks: Blocks = match self.reader.get(Table::Delta, &key)? {
            Some(bytes) => Arc::new([self.parse(Table::Delta, &key, bytes)?]),
            None => Arc::new([]),
        };
        self.cache.put(cached, self.meta.generation, &blocks, false);
        Ok(blocks)
    }

    /// The blocks of a span.
    fn span(&self, storage: u32, span: u64) -> Result<Blocks> {
        let cached = Key::Span(storage, span);
        if let Some(blocks) = self.cache.get(cached, self.meta.generation) {
            return Ok(blocks);
        }
        let first = key::rows(storage, RowId(span * SPAN_ROWS));
        let blocks: Blocks = match self.reader.get(Table::Rows, &first)? {
            None => Arc::new([]),
            Some(bytes) => {
                let mut blocks = vec![self.parse(Table::Rows, &first, bytes)?];
                if !blocks[0].is_last() {
                    let end = key::rows(storage, RowId((span + 1) * SPAN_ROWS));
                    self.scan_rows((Bound::Excluded(&first), Bound::Excluded(&end)), &mut |_, block| {
                        blocks.push(block);
                    })?;
                }
                blocks.into()
            }
        };
        self.cache.put(cached, self.meta.generation, &blocks, false);
        Ok(blocks)
    }

    /// Blocks by key, each with the first row id of its key.
    fn scan_rows(&self, range: store::Range<'_>, visit: &mut dyn FnMut(RowId, Block)) -> Result<()> {
        let mut failure = None;
        self.reader.scan(Table::Rows, range, false, &mut |key, value| {
            let first = key.get(4..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
            match (first, self.parse(Table::Rows, key, value.into())) {
                (Some(first), Ok(block)) => visit(RowId(first), block),
                (None, _) => failure = Some(self.corrupted(Table::Rows, key, "not a row key")),
                (_, Err(error)) => failure = Some(error),
            }
            failure.is_none()
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// `rows` lie in one group.
    fn read_in_group(
        &self,
        storage: u32,
        group: u32,
        rows: Range<u64>,
        out: &mut Vec<(RowId, RowBytes)>,
    ) -> Result<()> {
        let spans = rows.start / SPAN_ROWS..rows.end.div_ceil(SPAN_ROWS);
        let mut found: Vec<Option<Blocks>> = spans
            .clone()
            .map(|span| self.cache.get(Key::Span(storage, span), self.meta.generation))
            .collect();
        let mut place = 0;
        while place < found.len() {
            if found[place].is_some() {
                place += 1;
                continue;
            }
            let missing = found[place..].iter().take_while(|blocks| blocks.is_none()).count();
            let mut read: Vec<Vec<Block>> = vec![Vec::new(); missing];
            let from = spans.start + place as u64;
            let low = key::rows(storage, RowId(from * SPAN_ROWS));
            let high = key::rows(storage, RowId((from + missing as u64) * SPAN_ROWS));
            self.scan_rows((Bound::Included(&low), Bound::Excluded(&high)), &mut |first, block| {
                read[(first.0 / SPAN_ROWS - from) as usize].push(block);
            })?;
            for (number, blocks) in read.into_iter().enumerate() {
                let blocks: Blocks = blocks.into();
                self.cache.put(Key::Span(storage, from + number as u64), self.meta.generation, &blocks, true);
                found[place + number] = Some(blocks);
            }
            place += missing;
        }
        let delta = self.delta(storage, group)?;
        let mut changes = delta.iter().flat_map(Block::entries).peekable();
        let base = u64::from(group) * GROUP_ROWS;
        let mut emit = |offset: u16, entry: Entry| -> Result<()> {
            let row = RowId(base + u64::from(offset));
            if rows.contains(&row.0)
                && let Some(bytes) = self.resolve(storage, entry)?
            {
                out.push((row, bytes));
            }
            Ok(())
        };
        for (offset, entry) in
            found.iter().flatten().flat_map(|blocks| blocks.iter()).flat_map(Block::entries)
        {
            while let Some((changed, entry)) = changes.next_if(|(changed, _)| *changed < offset) {
                emit(changed, entry)?;
            }
            match changes.next_if(|(changed, _)| *changed == offset) {
                Some((changed, entry)) => emit(changed, entry)?,
                None => emit(offset, entry)?,
            }
        }
        for (changed, entry) in changes {
            emit(changed, entry)?;
        }
        Ok(())
    }

    /// The row an entry stands for.
    fn resolve(&self, storage: u32, entry: Entry) -> Result<Option<RowBytes>> {
        match entry {
            Entry::Row(bytes) => Ok(Some(bytes)),
            Entry::Deleted => Ok(None),
            Entry::Blob(blob) => self.blob(storage, blob).map(Some),
        }
    }

    fn blob(&self, storage: u32, blob: BlobRef) -> Result<RowBytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(blob.len).unwrap_or_default());
        for piece in 0..blob.pieces() {
            let key = key::blob(storage, blob.id, piece);
            match self.reader.get(Table::Blobs, &key)? {
                Some(piece) => bytes.extend_from_slice(&piece),
                None => return Err(self.corrupted(Table::Blobs, &key, "missing")),
            }
        }
        if bytes.len() as u64 != blob.len || xxh3_64(&bytes) != blob.hash {
            let key = key::blob(storage, blob.id, 0);
            return Err(self.corrupted(Table::Blobs, &key, "checksum mismatch"));
        }
        Ok(bytes.into())
    }
}

const FIRST_STEP: usize = 32;
const LARGEST_STEP: usize = 1024;

/// Entries of one index. Either an iterator of owned entries, or pulled with [`IndexRange::peek`] and
/// [`IndexRange::advance`] without copying keys.
#[derive(Debug)]
pub struct IndexRange {
    base: Base,
    storage: u32,
    range: KeyRange,
    backward: bool,
    /// Key bytes of `entries`, one after the other.
    keys: Vec<u8>,
    /// End of the key in `keys`, row id.
    entries: Vec<(usize, RowId)>,
    at: usize,
    /// Entries to pull next time.
    step: usize,
    /// The last entry pulled, as it stands in the store.
    last: Option<Vec<u8>>,
    done: bool,
}

impl IndexRange {
    /// The entry it stands at, `None` at the end.
    pub fn peek(&mut self) -> Result<Option<(&[u8], RowId)>> {
        if self.at == self.entries.len() && !self.done {
            self.fill()?;
        }
        let Some((end, row)) = self.entries.get(self.at) else { return Ok(None) };
        let start = self.at.checked_sub(1).map_or(0, |before| self.entries[before].0);
        Ok(Some((&self.keys[start..*end], *row)))
    }

    /// To the next entry; `peek` comes first.
    pub fn advance(&mut self) {
        if self.at < self.entries.len() {
            self.at += 1;
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.at = 0;
        self.keys.clear();
        self.entries.clear();
        let storage = self.storage.to_be_bytes();
        let full = |key: &[u8], tail: &[u8]| [&storage[..], key, tail].concat();
        // Stored keys end in the row id: an included upper bound takes every row id with it.
        let low = match (&self.last, &self.range.low) {
            (Some(last), _) if !self.backward => Bound::Excluded(last.clone()),
            (_, Bound::Included(key) | Bound::Excluded(key)) => Bound::Included(full(key, &[])),
            (_, Bound::Unbounded) => Bound::Included(storage.to_vec()),
        };
        let high = match (&self.last, &self.range.high) {
            (Some(last), _) if self.backward => Bound::Excluded(last.clone()),
            (_, Bound::Included(key)) => Bound::Included(full(key, &[0xff; 8])),
            (_, Bound::Excluded(key)) => Bound::Excluded(full(key, &[])),
            (_, Bound::Unbounded) => match self.storage.checked_add(1) {
                Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
                None => Bound::Unbounded,
            },
        };
        let (step, inner) = (self.step, Arc::clone(&self.base.0));
        let mut bad = None;
        let borrowed = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        let mut last = None;
        inner.reader.scan(Table::Index, borrowed, self.backward, &mut |stored, _| {
            let split = stored.len().checked_sub(8).filter(|at| *at >= 4);
            let row = split.and_then(|at| stored[at..].try_into().ok()).map(u64::from_be_bytes);
            match (split, row) {
                (Some(at), Some(row)) => {
                    let key = &stored[4..at];
                    let inside = match &self.range.low {
                        Bound::Excluded(low) => key > &low[..],
                        Bound::Included(_) | Bound::Unbounded => true,
                    } && match &self.range.high {
                        Bound::Included(high) => key <= &high[..],
                        Bound::Excluded(_) | Bound::Unbounded => true,
                    };
                    if inside {
                        self.keys.extend_from_slice(key);
                        self.entries.push((self.keys.len(), RowId(row)));
                    }
                }
                _ => bad = Some(stored.to_vec()),
            }
            if self.entries.len() >= step || bad.is_some() {
                last = Some(stored.to_vec());
                return false;
            }
            true
        })?;
        if let Some(stored) = bad {
            return Err(inner.corrupted(Table::Index, &stored, "not an index entry"));
        }
        self.done = last.is_none();
        self.last = last;
        self.step = (self.step * 4).min(LARGEST_STEP);
        Ok(())
    }
}

impl Iterator for IndexRange {
    type Item = Result<(Vec<u8>, RowId)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.peek() {
            Ok(entry) => entry.map(|(key, row)| (key.to_vec(), row)),
            Err(error) => {
                self.done = true;
                return Some(Err(error));
            }
        };
        self.advance();
        entry.map(Ok)
    }
}
