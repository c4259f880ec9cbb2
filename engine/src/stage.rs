//! New rows of a large INSERT or COPY on their way into the base.
//!
//! The hard idea: a command never sees what it writes itself. So while it runs, the rows it inserts need no order, no
//! versions and no index that could be searched; they are appended to buffers, by groups of row ids that are this
//! command's alone, and go to the base as one pending piece (`bulk.rs`) when a buffer is full and when the command is
//! through. Entries of indexes that are not unique wait in memory for the last piece, packed: their keys are scattered,
//! and every piece would write most of the index again. Only unique keys are looked for: within the buffers, and by
//! other transactions, who find them through [`Stages`] and wait for the transaction's end. Each side makes its key known
//! before it looks for the other's, so one of the two meets.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::base::{Deferred, Keys, Packed, Packer, RowChange, Run};
use crate::bulk::{End, PieceFacts, Spill};
use crate::ids::{CommandId, GROUP_ROWS, RowId};
use crate::index::{entry_key, entry_row};
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

    /// The entries, and their order; they stay to be found.
    fn sorted(&self) -> (Arc<Keys>, Option<Vec<u32>>) {
        let (entries, mixed, longest) = {
            let keys = self.keys.lock();
            (keys.entries.clone(), keys.mixed, keys.longest)
        };
        // Row ids grow, so that entries are in order when their keys are.
        if !mixed {
            return (entries, None);
        }
        let order = match longest <= 8 {
            true => order(&entries, true, |key| u64::from_be_bytes(head(key))),
            false => order(&entries, longest <= 16, |key| u128::from_be_bytes(head(key))),
        };
        (entries, Some(order))
    }

    fn run(&self) -> Run {
        let (keys, order) = self.sorted();
        Run::Loose { keys, order }
    }

    fn packed(&self) -> Packed {
        let mut packer = Packer::new(self.storage);
        let (entries, mixed) = {
            let keys = self.keys.lock();
            (keys.entries.clone(), keys.mixed)
        };
        let key_length = entries.length().and_then(|length| length.checked_sub(4 + 8));
        if let Some(length @ 1..=8) = key_length
            && mixed
        {
            // Numbers: sorted with their row ids, no entry is looked for again.
            let mut list: Vec<(u64, RowId)> = entries
                .iter()
                .map(|entry| (u64::from_be_bytes(head(entry_key(entry))), entry_row(entry)))
                .collect();
            list.sort_unstable();
            for (key, row) in list {
                packer.push(&key.to_be_bytes()[..length], row);
            }
            return packer.finish();
        }
        let (entries, order) = self.sorted();
        let mut push = |entry| packer.push(entry_key(entry), entry_row(entry));
        match order {
            None => entries.iter().for_each(&mut push),
            Some(order) => order.iter().filter_map(|place| entries.get(*place as usize)).for_each(&mut push),
        }
        packer.finish()
    }
}

/// The first bytes of a key.
fn head<const N: usize>(key: &[u8]) -> [u8; N] {
    let mut head = [0; N];
    let length = key.len().min(N);
    head[..length].copy_from_slice(&key[..length]);
    head
}

/// The places of the entries in order. The first bytes of their keys, as a number, decide almost always: they are compared
/// without a look elsewhere. Where keys are no longer than that (`whole`), equal ones are in order as they stand: row ids
/// grow, and no key begins with another.
fn order<H: Copy + Ord>(entries: &Keys, whole: bool, head: impl Fn(&[u8]) -> H) -> Vec<u32> {
    let entry = |place: u32| entries.get(place as usize).unwrap_or_default();
    let mut order: Vec<(H, u32)> =
        entries.iter().zip(0..).map(|(entry, place)| (head(entry_key(entry)), place)).collect();
    if whole {
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
    /// Of indexes that are not unique, of all pieces that the command has written so far: nobody looks for these entries
    /// before it is through. They go to the base with its last piece, or when they are many.
    deferred: Arc<Deferred>,
    /// The command is through.
    last: bool,
    bytes: u64,
}

impl Cargo {
    /// Hands it over in the order of the base.
    pub(crate) fn deliver(self, take: impl FnOnce(Spill<'_>) -> value::Result<()>) -> value::Result<()> {
        let mut runs = Vec::with_capacity(self.indexes.len());
        let only = self.last && self.deferred.is_empty();
        for index in &self.indexes {
            if index.unique || only {
                runs.push(index.run());
            } else {
                self.deferred.add(index.storage, index.packed());
            }
        }
        if self.last || self.deferred.is_full() {
            runs.extend(self.deferred.take());
        }
        let indexes = self.indexes.iter().map(|index| index.storage).collect();
        let bytes = self.bytes + runs.iter().map(Run::bytes).sum::<u64>();
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
    deferred: Arc<Deferred>,
    groups: Vec<Group>,
    next: u64,
    end: u64,
    bytes: u64,
}

/// What a row costs beside its bytes.
const ROW: u64 = 24;

impl Stage {
    /// `indexes`: the storage of each of the table's indexes, and whether it is unique. `deferred`: bytes of entries of
    /// those that are not that may wait for the end of the command.
    pub(crate) fn new(
        bulk: &Arc<crate::bulk::Bulk>,
        holder: End,
        command: CommandId,
        storage: u32,
        indexes: impl Iterator<Item = (u32, bool)>,
        deferred: u64,
    ) -> Stage {
        let deferred = Arc::new(Deferred::new(deferred));
        Stage::with(bulk, holder, command, storage, indexes, deferred)
    }

    fn with(
        bulk: &Arc<crate::bulk::Bulk>,
        holder: End,
        command: CommandId,
        storage: u32,
        indexes: impl Iterator<Item = (u32, bool)>,
        deferred: Arc<Deferred>,
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
        Stage {
            storage,
            command,
            holder,
            indexes,
            known,
            deferred,
            groups: Vec::new(),
            next: 0,
            end: 0,
            bytes: 0,
        }
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

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether entries of earlier pieces are not in the base yet. Asked when no piece is on its way.
    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Whether it is to be written now: it has `limit` bytes and its last group is full, or far more.
    pub(crate) fn is_full(&self, limit: u64) -> bool {
        (self.bytes >= limit && self.next == self.end) || self.bytes >= limit.saturating_mul(2)
    }

    /// The same table and command, empty; and what there was.
    pub(crate) fn exchange(&mut self) -> Stage {
        let indexes = self.indexes.iter().map(|index| (index.storage, index.unique));
        let deferred = self.deferred.clone();
        let fresh = Stage::with(&self.known.bulk, self.holder, self.command, self.storage, indexes, deferred);
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

    fn facts(&self, id: u64) -> PieceFacts {
        let rows = self.groups.iter().map(|group| group.rows.len() as i64).sum();
        PieceFacts { id, storage: self.storage, rows }
    }

    /// The rows and entries; the keys stay known.
    fn unload(&mut self, last: bool) -> Cargo {
        Cargo {
            storage: self.storage,
            groups: std::mem::take(&mut self.groups),
            indexes: self.indexes.clone(),
            deferred: self.deferred.clone(),
            last,
            bytes: self.bytes,
        }
    }
}

/// What is being written to the base, by a thread of its own where there are threads.
#[derive(Debug)]
pub(crate) struct Delivery {
    thread: Option<thread::JoinHandle<value::Result<()>>>,
    done: value::Result<()>,
}

impl Delivery {
    pub(crate) fn start(write: impl FnOnce() -> value::Result<()> + Send + 'static) -> Delivery {
        match thread::Builder::new().name("bulk".to_owned()).spawn(write) {
            Ok(thread) => Delivery { thread: Some(thread), done: Ok(()) },
            Err(error) => Delivery::done(Err(value::Error::internal(format!(
                "no thread for a large transaction: {error}"
            )))),
        }
    }

    pub(crate) fn done(done: value::Result<()>) -> Delivery {
        Delivery { thread: None, done }
    }

    /// Waits until it is there, or has failed.
    pub(crate) fn finish(self) -> value::Result<()> {
        match self.thread {
            None => self.done,
            Some(thread) => thread.join().unwrap_or_else(|_| {
                Err(value::Error::internal("writing a part of a large transaction panicked"))
            }),
        }
    }
}

/// A stage that is being written to the base. Its keys are known until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) piece: PieceFacts,
    pub(crate) stage: Stage,
    delivery: Delivery,
}

impl InFlight {
    /// `write` brings the piece into the base; `last`: with it all that its command has inserted is there.
    pub(crate) fn start(
        piece: u64,
        mut stage: Stage,
        last: bool,
        threads: bool,
        write: impl FnOnce(Cargo) -> value::Result<()> + Send + 'static,
    ) -> InFlight {
        if !threads {
            return InFlight::start_here(piece, stage, last, write);
        }
        let (piece, cargo) = (stage.facts(piece), stage.unload(last));
        InFlight { piece, stage, delivery: Delivery::start(move || write(cargo)) }
    }

    fn start_here(
        piece: u64,
        mut stage: Stage,
        last: bool,
        write: impl FnOnce(Cargo) -> value::Result<()>,
    ) -> InFlight {
        let (piece, cargo) = (stage.facts(piece), stage.unload(last));
        InFlight { piece, stage, delivery: Delivery::done(write(cargo)) }
    }

    /// Waits until it is in the base, or has failed; gives the stage, emptied.
    pub(crate) fn finish(self) -> value::Result<Stage> {
        self.delivery.finish().map(|()| self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::Bulk;

    const UNIQUE: u32 = 1;
    const OTHER: u32 = 2;

    /// Inserts so many pieces of 100 rows; for each the bytes of the runs it brought. Keys are 8 bytes, entries 20.
    fn pieces(count: u64, deferred: u64) -> Vec<Vec<u64>> {
        let bulk = Arc::new(Bulk::default());
        let indexes = [(UNIQUE, true), (OTHER, false)].into_iter();
        let mut stage = Stage::new(&bulk, End::default(), CommandId(1), 7, indexes, deferred);
        let mut brought = Vec::new();
        for piece in 0..count {
            for n in 0..100 {
                let row = stage.next_row(|| RowId::at(piece as u32, 0), 100);
                let key = piece * 100 + n;
                assert!(stage.indexes[0].push(&key.to_be_bytes(), row, true));
                assert!(stage.indexes[1].push(&(key * 7919 % 1000).to_be_bytes(), row, false));
                stage
                    .push(row, |bytes| {
                        bytes.push(1);
                        Ok::<_, ()>(())
                    })
                    .unwrap();
            }
            let last = piece + 1 == count;
            let full = stage.exchange();
            let mut write = |cargo: Cargo| {
                cargo.deliver(|spill| {
                    // All of them, for whoever takes the piece out again.
                    assert_eq!(spill.indexes, [UNIQUE, OTHER]);
                    assert_eq!(spill.rows.filter(|row| row.is_ok()).count(), 100);
                    brought.push(spill.runs.iter().map(Run::bytes).collect());
                    Ok(())
                })
            };
            let in_flight = InFlight::start_here(piece, full, last, &mut write);
            stage.reuse(in_flight.finish().unwrap());
            assert_eq!(stage.has_deferred(), !last && deferred > 1);
        }
        brought
    }

    #[test]
    fn entries_that_nobody_looks_for_come_with_the_last_piece() {
        assert_eq!(pieces(3, 1 << 20), [vec![2000], vec![2000], vec![2000, 6000]]);
        assert_eq!(pieces(1, 1 << 20), [vec![2000, 2000]]);
    }

    #[test]
    fn entries_that_wait_have_a_bound() {
        assert_eq!(pieces(3, 1), [vec![2000, 2000], vec![2000, 2000], vec![2000, 2000]]);
    }
}
