//! Locks on very many rows: a bit per row instead of an entry of the lock table.
//!
//! The hard idea: whoever has many row locks marks the rows here, in bitmaps by group, takes one lock that stands for its
//! own end ([`super::LockTag::Transaction`]), and gives the entries back. Others take the entry of a row first and
//! look here afterwards; since the bits are set before entries are given back, one of the two always meets. Who
//! finds a bit in the way waits for the one lock. Bits go before that lock does.

use std::collections::{BTreeSet, HashMap};

use crate::ids::{GROUP_ROWS, RowId};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// One bit per row of a group.
#[derive(Clone)]
pub(crate) struct Bits(Box<[u64; (GROUP_ROWS / 64) as usize]>);

impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        f.debug_struct("Bits").field("set", &set).finish()
    }
}

impl Default for Bits {
    fn default() -> Bits {
        Bits(Box::new([0; (GROUP_ROWS / 64) as usize]))
    }
}

impl Bits {
    pub(crate) fn set(&mut self, offset: u16) {
        self.0[usize::from(offset / 64)] |= 1 << (offset % 64);
    }

    pub(crate) fn has(&self, offset: u16) -> bool {
        self.0[usize::from(offset / 64)] & (1 << (offset % 64)) != 0
    }
}

/// Rows of one group that one transaction has locked since one of its savepoints, by mode.
struct Cover {
    owner: u64,
    level: u64,
    modes: [Option<Bits>; 4],
}

impl Cover {
    /// Modes of the locks on a row, as bits.
    fn mask(&self, offset: u16) -> u8 {
        let held = |(mode, bits): (usize, &Option<Bits>)| {
            u8::from(bits.as_ref().is_some_and(|bits| bits.has(offset))) << mode
        };
        self.modes.iter().enumerate().map(held).sum()
    }
}

#[derive(Default)]
struct Maps {
    /// By storage and group.
    groups: HashMap<(u32, u32), Vec<Cover>>,
    /// Where each transaction has bits, by the savepoint they came after.
    places: HashMap<(u64, u64), Vec<(u32, u32)>>,
}

/// The row locks that are kept as bits.
#[derive(Default)]
pub(super) struct Covered {
    /// Transactions with bits: read without the mutex by those who have nothing to look for.
    count: AtomicU64,
    maps: Mutex<Maps>,
}

impl Covered {
    /// Marks rows (storage, row, mode) as locked by `owner` until [`Covered::remove`].
    pub(super) fn add(&self, owner: u64, level: u64, rows: impl Iterator<Item = (u32, RowId, u8)>) {
        let mut maps = self.maps.lock();
        let Maps { groups, places } = &mut *maps;
        let own = places.entry((owner, level)).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        });
        for (storage, row, mode) in rows {
            let covers = groups.entry((storage, row.group())).or_default();
            let mine = |cover: &Cover| cover.owner == owner && cover.level == level;
            let place = covers.iter().position(mine).unwrap_or_else(|| {
                own.push((storage, row.group()));
                covers.push(Cover { owner, level, modes: Default::default() });
                covers.len() - 1
            });
            covers[place].modes[usize::from(mode)].get_or_insert_default().set(row.offset());
        }
    }

    /// Storages in which `owner` has marked rows.
    pub(super) fn tables(&self, owner: u64, level: u64) -> BTreeSet<u32> {
        let maps = self.maps.lock();
        let places = maps.places.get(&(owner, level)).into_iter().flatten();
        places.map(|(storage, _)| *storage).collect()
    }

    pub(super) fn remove(&self, owner: u64, level: u64) {
        let mut maps = self.maps.lock();
        let Some(places) = maps.places.remove(&(owner, level)) else { return };
        self.count.fetch_sub(1, Ordering::SeqCst);
        for place in places {
            if let Some(covers) = maps.groups.get_mut(&place) {
                covers.retain(|cover| cover.owner != owner || cover.level != level);
                if covers.is_empty() {
                    maps.groups.remove(&place);
                }
            }
        }
    }

    /// Somebody else with a lock on the row in one of the modes `conflicts`: its transaction and savepoint.
    pub(super) fn in_the_way(
        &self,
        storage: u32,
        row: RowId,
        conflicts: u8,
        owner: u64,
    ) -> Option<(u64, u64)> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let maps = self.maps.lock();
        let covers = maps.groups.get(&(storage, row.group()))?;
        let other = |cover: &&Cover| cover.owner != owner && cover.mask(row.offset()) & conflicts != 0;
        covers.iter().find(other).map(|cover| (cover.owner, cover.level))
    }

    /// Whether `owner` has the row locked in `mode` or a stronger one.
    pub(super) fn has(&self, storage: u32, row: RowId, mode: u8, owner: u64) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let maps = self.maps.lock();
        let Some(covers) = maps.groups.get(&(storage, row.group())) else { return false };
        covers.iter().any(|cover| cover.owner == owner && cover.mask(row.offset()) >> mode != 0)
    }
}
