//! New rows of a large INSERT or COPY on their way into the base.
//!
//! The hard idea: a command never sees what it writes itself. So while it runs, the rows it inserts need no order, no
//! versions and no index that could be searched; they are appended to buffers, by groups of row ids that are this
//! command's alone, and go to the base as one pending piece (`bulk.rs`) when a buffer is full and when the command is
//! through. Only unique keys are looked for: within the buffers, and by other transactions, who find them through
//! [`Stages`] and wait for the transaction's end. Each side makes its key known before it looks for the other's, so one
//! of the two meets.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::base::{Keys, RowChange, Run};
use crate::bulk::{End, PieceFacts, Spill};
use crate::ids::{CommandId, GROUP_ROWS, RowId};
use crate::index::entry_key;
use crate::row::RowBytes;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, RwLock, thread};

/// Entries of one index, for the rows of one stage.
#[derive(Debug)]
pub(crate) struct StagedIndex {
    holder: End,
    pub(crate) storage: u32,
    unique: bool,
    keys: Mutex<StagedKeys>,
}

#[derive(Debug, Default)]
struct StagedKeys {
    /// As the base keeps them, in the order they came.
    entries: Arc<Keys>,
    /// They did not come in order: `places` finds those of a unique index.
    mixed: bool,
    /// Bytes of the longest key.
    longest: usize,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl StagedKeys {
    fn key(&self, place: u32) -> &[u8] {
        self.entries.get(place as usize).map_or(&[], entry_key)
    }

    fn contains(&self, key: &[u8]) -> bool {
        if self.mixed {
            let hash = self.hasher.hash_one(key);
            return self.places.find(hash, |place| self.key(*place) == key).is_some();
        }
        let (mut low, mut high) = (0, self.entries.len() as u32);
        if high == 0 || self.key(high - 1) < key {
            return false;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    fn place(&mut self, place: u32) {
        let StagedKeys { entries, places, hasher, .. } = self;
        let hash = |place: u32| hasher.hash_one(entries.get(place as usize).map_or(&[][..], entry_key));
        places.insert_unique(hash(place), place, |place| hash(*place));
    }

    fn push(&mut self, storage: u32, key: &[u8], row: RowId, unique: bool) {
        let last = self.entries.len().checked_sub(1).and_then(|last| self.entries.get(last)).map(entry_key);
        let ascending = last.is_none_or(|last| last <= key);
        let entries = Arc::make_mut(&mut self.entries);
        entries.push_parts(&[&storage.to_be_bytes(), key, &row.0.to_be_bytes()]);
        if unique && self.mixed {
            self.place(self.entries.len() as u32 - 1);
        } else if unique && !ascending {
            for place in 0..self.entries.len() as u32 {
                self.place(place);
            }
        }
        self.mixed |= !ascending;
        self.longest = self.longest.max(key.len());
    }

    /// Empty, with the memory it has.
    fn clear(&mut self) {
        match Arc::get_mut(&mut self.entries) {
            Some(entries) => entries.clear(),
            None => self.entries = Arc::default(),
        }
        self.places.clear();
        self.mixed = false;
        self.longest = 0;
    }

    fn pop(&mut self) {
        let Some(last) = self.entries.len().checked_sub(1) else { return };
        if self.mixed {
            let hash = self.hasher.hash_one(self.key(last as u32));
            if let Ok(found) = self.places.find_entry(hash, |place| *place == last as u32) {
                found.remove();
            }
        }
        Arc::make_mut(&mut self.entries).pop();
    }
}

impl StagedIndex {
    /// Adds an entry. `unique`: no other row may have its key (of an index that is unique): `false` when one has, and
    /// nothing is added.
    pub(crate) fn push(&self, key: &[u8], row: RowId, unique: bool) -> bool {
        let mut keys = self.keys.lock();
        if unique && keys.contains(key) {
            return false;
        }
        keys.push(self.storage, key, row, self.unique);
        true
    }

    /// Takes the newest entry back.
    pub(crate) fn pop(&self) {
        self.keys.lock().pop();
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.lock().contains(key)
    }

    /// The entries in order; they stay to be found.
    fn run(&self) -> Run {
        let (entries, mixed, longest) = {
            let keys = self.keys.lock();
            (keys.entries.clone(), keys.mixed, keys.longest)
        };
        // Row ids grow, so that entries are in order when their keys are.
        if !mixed {
            return Run { keys: entries, order: None };
        }
        let order = if longest <= 8 { order::<8>(&entries, longest) } else { order::<16>(&entries, longest) };
        Run { keys: entries, order: Some(order) }
    }
}

/// The places of the entries in order. Their first `N` bytes of key decide almost always: they are compared without a
/// look elsewhere. Where keys are no longer than that, equal ones are in order as they stand: row ids grow, and no key
/// begins with another.
fn order<const N: usize>(entries: &Keys, longest: usize) -> Vec<u32> {
    let entry = |place: u32| entries.get(place as usize).unwrap_or_default();
    let head = |entry: &[u8]| {
        let mut head = [0; N];
        let key = entry_key(entry);
        let length = key.len().min(N);
        head[..length].copy_from_slice(&key[..length]);
        head
    };
    let mut order: Vec<([u8; N], u32)> =
        entries.iter().zip(0..).map(|(entry, place)| (head(entry), place)).collect();
    if longest <= N {
        order.sort_unstable();
    } else {
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| entry(a.1).cmp(entry(b.1))));
    }
    order.into_iter().map(|(_, place)| place).collect()
}

/// Unique keys of the stages of all transactions.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// Read without the lock by those who have nothing to look for.
    count: AtomicU64,
    list: RwLock<Vec<Arc<StagedIndex>>>,
}

impl Stages {
    fn add(&self, indexes: &[Arc<StagedIndex>]) {
        let mut list = self.list.write();
        list.extend_from_slice(indexes);
        self.count.fetch_add(indexes.len() as u64, Ordering::SeqCst);
    }

    fn remove(&self, indexes: &[Arc<StagedIndex>]) {
        let mut list = self.list.write();
        list.retain(|known| !indexes.iter().any(|gone| Arc::ptr_eq(known, gone)));
        self.count.fetch_sub(indexes.len() as u64, Ordering::SeqCst);
    }

    /// Another transaction that is inserting a row with that key in a stage. The caller has made its own key known
    /// (locked it) before.
    pub(crate) fn find(&self, index: u32, key: &[u8], except: u64) -> Option<End> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let list = self.list.read();
        let other = |staged: &&Arc<StagedIndex>| {
            staged.storage == index && staged.holder.owner != except && staged.contains(key)
        };
        list.iter().find(other).map(|staged| staged.holder)
    }
}

/// Unique keys that others find as long as this lives.
#[derive(Debug)]
struct Known {
    bulk: Arc<crate::bulk::Bulk>,
    unique: Vec<Arc<StagedIndex>>,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.bulk.stages.remove(&self.unique);
    }
}

#[derive(Debug)]
struct Group {
    number: u32,
    bytes: Vec<u8>,
    /// Offset of each row in the group, and where it ends in `bytes`.
    rows: Vec<(u16, u32)>,
}

impl Group {
    fn changes(self, storage: u32) -> impl Iterator<Item = RowChange> {
        let buffer: Arc<[u8]> = self.bytes.into();
        let mut start = 0;
        self.rows.into_iter().map(move |(offset, end)| {
            let range = start..end as usize;
            start = end as usize;
            let bytes = Some(RowBytes::slice(buffer.clone(), range));
            RowChange { storage, row: RowId::at(self.number, offset), bytes }
        })
    }
}

/// What a stage holds, on its way into the base.
pub(crate) struct Cargo {
    storage: u32,
    groups: Vec<Group>,
    indexes: Vec<Arc<StagedIndex>>,
    bytes: u64,
}

impl Cargo {
    /// Hands it over in the order of the base.
    pub(crate) fn deliver(self, take: impl FnOnce(Spill<'_>) -> value::Result<()>) -> value::Result<()> {
        let runs: Vec<Run> = self.indexes.iter().map(|index| index.run()).collect();
        let indexes = self.indexes.iter().map(|index| index.storage).collect();
        let bytes = self.bytes + runs.iter().map(|run| run.keys.bytes() as u64).sum::<u64>();
        let groups = self.groups.iter().map(|group| group.number).collect();
        let storage = self.storage;
        // Group by group: only the one at hand is there twice.
        let mut rows = self.groups.into_iter().flat_map(|group| group.changes(storage)).map(Ok);
        take(Spill { storage, groups, rows: &mut rows, indexes, runs: &runs, bytes })
    }
}

/// What one command has inserted into one table since the last piece.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) storage: u32,
    pub(crate) command: CommandId,
    pub(crate) holder: End,
    /// One per index of the table, in its order.
    pub(crate) indexes: Vec<Arc<StagedIndex>>,
    known: Known,
    groups: Vec<Group>,
    next: u64,
    end: u64,
    bytes: u64,
}

/// What a row costs beside its bytes.
const ROW: u64 = 24;

impl Stage {
    /// `indexes`: the storage of each of the table's indexes, and whether it is unique.
    pub(crate) fn new(
        bulk: &Arc<crate::bulk::Bulk>,
        holder: End,
        command: CommandId,
        storage: u32,
        indexes: impl Iterator<Item = (u32, bool)>,
    ) -> Stage {
        let mut unique = Vec::new();
        let indexes = indexes
            .map(|(storage, is_unique)| {
                let staged =
                    Arc::new(StagedIndex { holder, storage, unique: is_unique, keys: Mutex::default() });
                if is_unique {
                    unique.push(staged.clone());
                }
                staged
            })
            .collect();
        bulk.stages.add(&unique);
        let known = Known { bulk: bulk.clone(), unique };
        Stage { storage, command, holder, indexes, known, groups: Vec::new(), next: 0, end: 0, bytes: 0 }
    }

    /// The id of the next row; `group` gives the first of a whole group, of which `rows` are used.
    pub(crate) fn next_row(&mut self, group: impl FnOnce() -> RowId, rows: u64) -> RowId {
        if self.next == self.end {
            let first = group();
            (self.next, self.end) = (first.0, first.0 + rows.min(GROUP_ROWS));
            // As much as the one before, most likely.
            let (bytes, count) = self
                .groups
                .last()
                .map_or((0, 0), |last| (last.bytes.len() + last.bytes.len() / 32, last.rows.len()));
            self.groups.push(Group {
                number: first.group(),
                bytes: Vec::with_capacity(bytes),
                rows: Vec::with_capacity(count),
            });
        }
        self.next += 1;
        RowId(self.next - 1)
    }

    /// Appends a row; `encode` writes its bytes behind those that are there.
    pub(crate) fn push<E>(
        &mut self,
        row: RowId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(group) = self.groups.last_mut() else { return Ok(()) };
        let before = group.bytes.len();
        if let Err(error) = encode(&mut group.bytes) {
            group.bytes.truncate(before);
            return Err(error);
        }
        group.rows.push((row.offset(), group.bytes.len() as u32));
        self.bytes += (group.bytes.len() - before) as u64 + ROW;
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether it is to be written now: it has `limit` bytes and its last group is full, or far more.
    pub(crate) fn is_full(&self, limit: u64) -> bool {
        (self.bytes >= limit && self.next == self.end) || self.bytes >= limit.saturating_mul(2)
    }

    /// The same table and command, empty; and what there was.
    pub(crate) fn exchange(&mut self) -> Stage {
        let indexes = self.indexes.iter().map(|index| (index.storage, index.unique));
        let fresh = Stage::new(&self.known.bulk, self.holder, self.command, self.storage, indexes);
        // It will be about as large.
        for (new, old) in fresh.indexes.iter().zip(&self.indexes) {
            let old = &old.keys.lock().entries;
            let (keys, bytes) = (old.len() + old.len() / 16, old.bytes() + old.bytes() / 16);
            new.keys.lock().entries = Arc::new(Keys::with_capacity(keys, bytes));
        }
        std::mem::replace(self, fresh)
    }

    /// Another stage of the same table, which is in the base now, gives its memory.
    pub(crate) fn reuse(&self, landed: Stage) {
        for (own, old) in self.indexes.iter().zip(&landed.indexes) {
            let mut keys = own.keys.lock();
            if keys.entries.is_empty() {
                *keys = std::mem::take(&mut *old.keys.lock());
                keys.clear();
            }
        }
    }

    /// The rows and entries; the keys stay known.
    fn unload(&mut self) -> Cargo {
        Cargo {
            storage: self.storage,
            groups: std::mem::take(&mut self.groups),
            indexes: self.indexes.clone(),
            bytes: self.bytes,
        }
    }
}

/// A stage that is being written to the base, by a thread of its own where there are threads. Its keys are known until
/// it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) piece: PieceFacts,
    pub(crate) stage: Stage,
    thread: Option<thread::JoinHandle<value::Result<()>>>,
    done: value::Result<()>,
}

impl InFlight {
    /// `write` brings the piece into the base.
    pub(crate) fn start(
        piece: u64,
        mut stage: Stage,
        threads: bool,
        write: impl FnOnce(Cargo) -> value::Result<()> + Send + 'static,
    ) -> InFlight {
        let rows = stage.groups.iter().map(|group| group.rows.len() as i64).sum();
        let piece = PieceFacts { id: piece, storage: stage.storage, rows };
        let cargo = stage.unload();
        if !threads {
            return InFlight { piece, stage, thread: None, done: write(cargo) };
        }
        match thread::Builder::new().name("bulk".to_owned()).spawn(move || write(cargo)) {
            Ok(thread) => InFlight { piece, stage, thread: Some(thread), done: Ok(()) },
            Err(error) => {
                let done = Err(value::Error::internal(format!("no thread for a large insert: {error}")));
                InFlight { piece, stage, thread: None, done }
            }
        }
    }

    /// Waits until it is in the base, or has failed; gives the stage, emptied.
    pub(crate) fn finish(self) -> value::Result<Stage> {
        let done = match self.thread {
            None => self.done,
            Some(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(value::Error::internal("writing rows of a large insert panicked"))),
        };
        done.map(|()| self.stage)
    }
}
