//! Entries of indexes in order, on their way into the base.
//!
//! The hard idea: what is put once need not be put again. Entries of many rows that come piece by piece are scattered
//! over the whole index, so that every piece would touch most of its pages. Those that nobody looks for meanwhile wait
//! instead, each piece's in order and packed (a few bytes an entry: what its key does not share with the one before, and
//! how far the row is from the one before), and are merged while they are put. The same goes for entries that are taken
//! out.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};

use value::Result;

use super::store::{Keys, Table, Writer};
use crate::ids::RowId;
use crate::index;
use crate::sync::{Arc, Mutex};
use crate::wal::record::{put_varint, take_byte, take_varint, unzigzag, zigzag};

/// Merged entries put at once.
const CHUNK: usize = 16_384;

/// Keys of INDEX, in order.
pub enum Run {
    /// `order`: where each is among them; `None`: they are in order themselves.
    Loose { keys: Arc<Keys>, order: Option<Vec<u32>> },
    /// To be merged; all of one index.
    Packed(Vec<Packed>),
}

impl Run {
    /// Of keys that are in order.
    pub fn sorted(keys: Keys) -> Run {
        Run::Loose { keys: Arc::new(keys), order: None }
    }

    /// The keys, where they are not packed.
    pub fn loose(&self) -> Option<&Keys> {
        match self {
            Run::Loose { keys, .. } => Some(keys),
            Run::Packed(_) => None,
        }
    }

    /// Bytes of all keys.
    pub fn bytes(&self) -> u64 {
        match self {
            Run::Loose { keys, .. } => keys.bytes() as u64,
            Run::Packed(runs) => runs.iter().map(|run| run.unpacked).sum(),
        }
    }

    /// Entries, at most.
    pub fn most(&self) -> u64 {
        match self {
            Run::Loose { order: Some(order), .. } => order.len() as u64,
            Run::Loose { keys, order: None } => keys.len() as u64,
            // None is shorter than that: its key has a byte.
            Run::Packed(_) => self.bytes() / (STORAGE + ROW + 1) as u64,
        }
    }

    pub(super) fn put(&self, writer: &mut dyn Writer) -> Result<()> {
        self.each(&mut |keys| writer.put_keys(Table::Index, keys))
    }

    pub(super) fn delete(&self, writer: &mut dyn Writer) -> Result<()> {
        self.each(&mut |keys| {
            for key in keys {
                writer.delete(Table::Index, key)?;
            }
            Ok(())
        })
    }

    /// Gives all keys in order, some at a time.
    fn each(&self, take: &mut dyn FnMut(&mut dyn Iterator<Item = &[u8]>) -> Result<()>) -> Result<()> {
        match self {
            Run::Loose { keys, order: None } => take(&mut keys.iter()),
            Run::Loose { keys, order: Some(order) } => {
                take(&mut order.iter().map_while(|place| keys.get(*place as usize)))
            }
            Run::Packed(runs) => {
                let mut merge = Merge::new(runs);
                let mut chunk = Keys::default();
                loop {
                    chunk.clear();
                    while chunk.len() < CHUNK && merge.next_into(&mut chunk) {}
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    take(&mut chunk.iter())?;
                }
            }
        }
    }
}

/// Entries of one index, in order, in little memory.
#[derive(Debug)]
pub struct Packed {
    /// The index, which all entries begin with.
    storage: [u8; STORAGE],
    bytes: Vec<u8>,
    unpacked: u64,
}

const STORAGE: usize = 4;
const ROW: usize = 8;
/// In the first byte of an entry: a number that did not fit follows.
const MORE: usize = 15;

impl Packed {
    /// Of keys of one index, in order.
    pub fn of(index: u32, keys: &Keys) -> Packed {
        let mut packer = Packer::new(index);
        keys.iter().for_each(|key| packer.push(index::entry_key(key), index::entry_row(key)));
        packer.finish()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Packs entries of one index, given in order.
pub struct Packer {
    packed: Packed,
    /// The entry before.
    key: Vec<u8>,
    row: u64,
}

impl Packer {
    pub fn new(index: u32) -> Packer {
        let packed = Packed { storage: index.to_be_bytes(), bytes: Vec::new(), unpacked: 0 };
        Packer { packed, key: Vec::new(), row: 0 }
    }

    pub fn push(&mut self, key: &[u8], row: RowId) {
        let shared = key.iter().zip(&self.key).take_while(|(a, b)| a == b).count();
        let tail = &key[shared..];
        let out = &mut self.packed.bytes;
        out.push((shared.min(MORE) << 4 | tail.len().min(MORE)) as u8);
        for number in [shared, tail.len()] {
            if number >= MORE {
                put_varint(out, (number - MORE) as u64);
            }
        }
        out.extend_from_slice(tail);
        put_varint(out, zigzag(row.0.wrapping_sub(self.row) as i64));
        self.packed.unpacked += (STORAGE + key.len() + ROW) as u64;
        self.key.truncate(shared);
        self.key.extend_from_slice(tail);
        self.row = row.0;
    }

    pub fn finish(mut self) -> Packed {
        self.packed.bytes.shrink_to_fit();
        self.packed
    }
}

/// Entries that wait, piece by piece, up to a limit: to be put, or to be taken out.
#[derive(Debug)]
pub struct Deferred {
    /// Bytes of memory.
    limit: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By index storage.
    runs: BTreeMap<u32, Vec<Packed>>,
    /// Of all of them.
    bytes: u64,
}

impl Deferred {
    pub fn new(limit: u64) -> Deferred {
        Deferred { limit, waiting: Mutex::default() }
    }

    pub fn add(&self, index: u32, run: Packed) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += run.bytes() as u64;
        waiting.runs.entry(index).or_default().push(run);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().runs.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.waiting.lock().bytes >= self.limit
    }

    /// All of them, which leaves none.
    pub fn take(&self) -> impl Iterator<Item = Run> {
        std::mem::take(&mut *self.waiting.lock()).runs.into_values().map(Run::Packed)
    }
}

/// An entry of a packed run, and what is behind it.
struct Head<'a> {
    entry: Vec<u8>,
    row: u64,
    rest: &'a [u8],
}

impl Head<'_> {
    /// To the next entry; `None` at the end.
    fn advance(&mut self) -> Option<()> {
        let first = take_byte(&mut self.rest)? as usize;
        let (mut shared, mut tail) = (first >> 4, first & 15);
        for number in [&mut shared, &mut tail] {
            if *number == MORE {
                *number += usize::try_from(take_varint(&mut self.rest)?).ok()?;
            }
        }
        let (tail, rest) = self.rest.split_at_checked(tail)?;
        self.rest = rest;
        self.row = self.row.wrapping_add(unzigzag(take_varint(&mut self.rest)?) as u64);
        self.entry.truncate(STORAGE + shared);
        self.entry.extend_from_slice(tail);
        self.entry.extend_from_slice(&self.row.to_be_bytes());
        Some(())
    }
}

impl Ord for Head<'_> {
    /// The heap gives the greatest one first: that is the one whose entry comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.entry.cmp(&self.entry)
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl Eq for Head<'_> {}

/// The entries of several runs in one order.
struct Merge<'a>(BinaryHeap<Head<'a>>);

impl<'a> Merge<'a> {
    fn new(runs: &'a [Packed]) -> Merge<'a> {
        let heads = runs.iter().filter_map(|run| {
            let mut head = Head { entry: run.storage.to_vec(), row: 0, rest: &run.bytes };
            head.advance().map(|()| head)
        });
        Merge(heads.collect())
    }

    fn next_into(&mut self, out: &mut Keys) -> bool {
        let Some(mut head) = self.0.peek_mut() else { return false };
        out.push(&head.entry);
        if head.advance().is_none() {
            PeekMut::pop(head);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStore;
    use super::super::store::{Store, key};
    use super::*;
    use std::ops::Bound;

    fn entry(key: &[u8], row: u64) -> Vec<u8> {
        let mut out = Vec::new();
        key::index(77, key, RowId(row), &mut out);
        out
    }

    fn packed(entries: &[Vec<u8>]) -> Packed {
        let mut packer = Packer::new(77);
        for entry in entries {
            let row = entry[entry.len() - ROW..].try_into().unwrap();
            packer.push(&entry[STORAGE..entry.len() - ROW], RowId(u64::from_be_bytes(row)));
        }
        packer.finish()
    }

    /// What the store holds after a run was put.
    fn put(run: &Run) -> Vec<Vec<u8>> {
        let store = MemoryStore::new();
        store.write(&mut |writer| run.put(writer)).unwrap();
        let mut found = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut visit = |key: &[u8], _: &[u8]| {
            found.push(key.to_vec());
            true
        };
        store.read().unwrap().scan(Table::Index, all, false, &mut visit).unwrap();
        found
    }

    #[test]
    fn packed_runs_are_merged_into_what_was_packed() {
        let mut seed = 5u64;
        let mut random = move |bound: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        // Short keys that repeat, and long ones that share much; row ids near and far.
        let mut all = Vec::new();
        let mut runs = Vec::new();
        for number in 0..7 {
            let mut entries: Vec<Vec<u8>> = (0..number * 900)
                .map(|n| {
                    let mut key = vec![b'a'; random(3) as usize * random(40) as usize];
                    key.extend_from_slice(&random(50).to_be_bytes()[5..]);
                    let row = if n % 100 == 0 { u64::MAX - number * 10_000 - n } else { number * 10_000 + n };
                    entry(&key, row)
                })
                .collect();
            entries.sort();
            runs.push(packed(&entries));
            all.append(&mut entries);
        }
        all.sort();
        let bytes = all.iter().map(|entry| entry.len() as u64).sum::<u64>();
        let run = Run::Packed(runs);
        assert_eq!(run.bytes(), bytes);
        assert!(put(&run) == all, "not what was packed");
    }

    #[test]
    fn numbers_take_a_few_bytes() {
        let mut entries: Vec<Vec<u8>> =
            (0..10_000u64).map(|row| entry(&(row * 7919 % 1000).to_be_bytes()[3..], row)).collect();
        entries.sort();
        let packed = packed(&entries);
        assert!(packed.bytes() < 5 * entries.len(), "{} bytes", packed.bytes());
    }

    #[test]
    fn loose_keys_go_in_their_order() {
        let (mut keys, entries) = (Keys::default(), [entry(b"b", 1), entry(b"a", 2), entry(b"c", 0)]);
        entries.iter().for_each(|entry| keys.push(entry));
        let run = Run::Loose { keys: Arc::new(keys), order: Some(vec![1, 0, 2]) };
        assert_eq!(put(&run), [entries[1].clone(), entries[0].clone(), entries[2].clone()]);
        assert!(put(&Run::Packed(Vec::new())).is_empty());
    }
}
