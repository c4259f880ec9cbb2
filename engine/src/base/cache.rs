//! Row blocks and group deltas in memory, copied out of the store, checked, taken apart once.
//!
//! The hard idea: entries serve several generations of the base at once. An entry is right from the generation
//! it was read in until the checkpoint that changes its block, and that checkpoint removes it. Which blocks the last
//! generations changed is remembered, so that a reader of an older one may also use what was read since, and put in
//! what it has read, if nothing came between. Where that is not known any more, it only uses what is as old as itself.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::block::Block;
use crate::metrics::Metrics;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

const SHARDS: usize = 32;

/// What is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Storage, row id / 128.
    Span(u32, u64),
    /// Storage, group.
    Delta(u32, u32),
    /// Storage, piece, row id / 128.
    Change(u32, u64, u64),
}

/// The blocks of a span in row id order, or the one delta of a group; empty when there is none.
pub(super) type Blocks = Arc<[Block]>;

struct Slot {
    key: Key,
    blocks: Blocks,
    /// Generation it was read in.
    since: u64,
    bytes: usize,
    used: bool,
}

#[derive(Default)]
struct Shard {
    places: HashMap<Key, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    /// The newest generation that changed a block, of those after `known`.
    changed: HashMap<Key, u64>,
    known: u64,
}

impl Shard {
    /// Whether a block is the same in `generation` and in all since.
    fn is_unchanged_since(&self, key: &Key, generation: u64) -> bool {
        generation >= self.known && self.changed.get(key).is_none_or(|changed| *changed <= generation)
    }
}

pub(super) struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    /// Bytes per shard.
    limit: usize,
    hasher: DefaultHashBuilder,
    newest: AtomicU64,
    metrics: Arc<Metrics>,
}

/// Memory of an entry besides its bytes.
const OVERHEAD: usize = 160;
/// Of so many bytes of cache one changed block is remembered.
const CHANGED: usize = 256;

impl BlockCache {
    pub fn new(limit: u64, generation: u64, metrics: Arc<Metrics>) -> BlockCache {
        BlockCache {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard { known: generation, ..Shard::default() }))
                .collect(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX) / SHARDS,
            hasher: DefaultHashBuilder::default(),
            newest: AtomicU64::new(generation),
            metrics,
        }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    /// What a reader of `generation` may use.
    pub fn get(&self, key: Key, generation: u64) -> Option<Blocks> {
        let mut shard = self.shard(key).lock();
        let found = match shard.places.get(&key).copied() {
            Some(place)
                if shard.slots[place].since <= generation || shard.is_unchanged_since(&key, generation) =>
            {
                shard.slots[place].used = true;
                Some(Arc::clone(&shard.slots[place].blocks))
            }
            _ => None,
        };
        drop(shard);
        match found {
            Some(_) => self.metrics.block_cache.hits.increment(),
            None => self.metrics.block_cache.misses.increment(),
        }
        found
    }

    /// `once`: read by a scan that will not come back soon, kept only where there is room.
    pub fn put(&self, key: Key, generation: u64, blocks: &Blocks, once: bool) {
        let bytes = blocks.iter().map(Block::len).sum::<usize>() + OVERHEAD;
        let mut shard = self.shard(key).lock();
        // Under the lock: a checkpoint raises `newest` before it removes what it changed.
        let newest = generation == self.newest.load(Ordering::SeqCst);
        if !(newest || shard.is_unchanged_since(&key, generation))
            || bytes > self.limit / 4
            || (once && shard.bytes + bytes > self.limit)
            || shard.places.contains_key(&key)
        {
            return;
        }
        while shard.bytes + bytes > self.limit && !shard.slots.is_empty() {
            let place = shard.hand % shard.slots.len();
            if std::mem::take(&mut shard.slots[place].used) {
                shard.hand = place + 1;
                continue;
            }
            self.remove(&mut shard, place);
            self.metrics.block_cache.evictions.increment();
        }
        let place = shard.slots.len();
        shard.slots.push(Slot { key, blocks: Arc::clone(blocks), since: generation, bytes, used: false });
        shard.places.insert(key, place);
        shard.bytes += bytes;
        self.metrics.block_cache.entries.add(1);
        self.metrics.block_cache.bytes.add(bytes as u64);
    }

    fn remove(&self, shard: &mut Shard, place: usize) {
        let slot = shard.slots.swap_remove(place);
        shard.places.remove(&slot.key);
        if let Some(moved) = shard.slots.get(place) {
            shard.places.insert(moved.key, place);
        }
        shard.bytes -= slot.bytes;
        self.metrics.block_cache.entries.subtract(1);
        self.metrics.block_cache.bytes.subtract(slot.bytes as u64);
    }

    /// A checkpoint to `generation` has changed these.
    pub fn advance(&self, generation: u64, changed: &[Key]) {
        self.newest.store(generation, Ordering::SeqCst);
        for key in changed {
            let mut shard = self.shard(*key).lock();
            if shard.changed.len() >= self.limit / CHANGED {
                shard.changed.clear();
                shard.known = generation;
            }
            shard.changed.insert(*key, generation);
            if let Some(place) = shard.places.get(key).copied() {
                self.remove(&mut shard, place);
            }
        }
    }
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        for shard in &self.shards {
            let shard = shard.lock();
            self.metrics.block_cache.entries.subtract(shard.slots.len() as u64);
            self.metrics.block_cache.bytes.subtract(shard.bytes as u64);
        }
    }
}
