//! Locks on very many rows: a bit per row instead of an entry of the lock table.
//!
//! The hard idea: whoever has many row locks marks the rows here, in bitmaps by group, takes one lock that stands for its
//! own end ([`super::LockTag::Transaction`]), and gives the entries back. Others take the entry of a row first and
//! look here afterwards; since the bits are set before entries are given back, one of the two always meets. Who
//! finds a bit in the way waits for the one lock. Bits go before that lock does.
//!
//! From then on its rows get their bits at once, without an entry: the bit first, then a look at the entries, and then at the
//! bits again, since entries become bits. Whoever is met may have seen the bit, too: the bit is taken back, and the row locked
//! like that of anybody else.

use std::collections::BTreeSet;

use hashbrown::HashMap;

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

    fn unset(&mut self, offset: u16) {
        self.0[usize::from(offset / 64)] &= !(1 << (offset % 64));
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
    /// Rows that it deletes, or takes a unique key away from.
    leaving: Option<Bits>,
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

impl Maps {
    /// The bits of one transaction and savepoint in a group, made when there are none. `count`: see [`Covered`].
    fn cover(&mut self, (owner, level): (u64, u64), place: (u32, u32), count: &AtomicU64) -> &mut Cover {
        let covers = self.groups.entry(place).or_default();
        let mine = |cover: &Cover| cover.owner == owner && cover.level == level;
        let at = covers.iter().position(mine).unwrap_or_else(|| {
            let places = self.places.entry((owner, level)).or_insert_with(|| {
                count.fetch_add(1, Ordering::SeqCst);
                Vec::new()
            });
            places.push(place);
            covers.push(Cover { owner, level, modes: Default::default(), leaving: None });
            covers.len() - 1
        });
        &mut covers[at]
    }
}

/// What became of marking one row.
pub(super) enum Added {
    Now,
    /// It was marked so, or more strongly, by the same transaction.
    Before,
    /// Somebody else's mark is in the way.
    Busy,
}

/// The row locks that are kept as bits.
#[derive(Default)]
pub(super) struct Covered {
    /// Transactions with bits: read without the mutex by those who have nothing to look for.
    count: AtomicU64,
    maps: Mutex<Maps>,
}

impl Covered {
    /// Whether there is any bit.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }

    /// Marks rows (storage, row, mode) as locked by `owner` until [`Covered::remove`].
    pub(super) fn add(&self, owner: u64, level: u64, rows: impl Iterator<Item = (u32, RowId, u8)>) {
        let mut maps = self.maps.lock();
        for (storage, row, mode) in rows {
            let cover = maps.cover((owner, level), (storage, row.group()), &self.count);
            cover.modes[usize::from(mode)].get_or_insert_default().set(row.offset());
        }
    }

    /// Marks one row like [`Covered::add`], unless somebody else has marked it in one of the modes `conflicts`.
    pub(super) fn try_add(
        &self,
        (owner, level): (u64, u64),
        (storage, row): (u32, RowId),
        mode: u8,
        conflicts: u8,
    ) -> Added {
        let mut maps = self.maps.lock();
        let place = (storage, row.group());
        for cover in maps.groups.get(&place).into_iter().flatten() {
            let mask = cover.mask(row.offset());
            if cover.owner != owner && mask & conflicts != 0 {
                return Added::Busy;
            }
            if cover.owner == owner && mask >> mode != 0 {
                return Added::Before;
            }
        }
        let cover = maps.cover((owner, level), place, &self.count);
        cover.modes[usize::from(mode)].get_or_insert_default().set(row.offset());
        Added::Now
    }

    /// Takes back what gave [`Added::Now`].
    pub(super) fn take_back(&self, (owner, level): (u64, u64), (storage, row): (u32, RowId), mode: u8) {
        let mut maps = self.maps.lock();
        let cover = maps.cover((owner, level), (storage, row.group()), &self.count);
        if let Some(bits) = &mut cover.modes[usize::from(mode)] {
            bits.unset(row.offset());
        }
    }

    /// Marks a row as one that `owner` deletes, or takes a unique key away from.
    pub(super) fn set_leaving(&self, (owner, level): (u64, u64), (storage, row): (u32, RowId)) {
        let mut maps = self.maps.lock();
        let cover = maps.cover((owner, level), (storage, row.group()), &self.count);
        cover.leaving.get_or_insert_default().set(row.offset());
    }

    /// Somebody else who has marked the row with [`Covered::set_leaving`]: its transaction and savepoint.
    pub(super) fn leaving(&self, (storage, row): (u32, RowId), owner: u64) -> Option<(u64, u64)> {
        if !self.any() {
            return None;
        }
        let maps = self.maps.lock();
        let other = |cover: &&Cover| {
            cover.owner != owner && cover.leaving.as_ref().is_some_and(|bits| bits.has(row.offset()))
        };
        let found = maps.groups.get(&(storage, row.group()))?.iter().find(other)?;
        Some((found.owner, found.level))
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
        if !self.any() {
            return None;
        }
        let maps = self.maps.lock();
        let covers = maps.groups.get(&(storage, row.group()))?;
        let other = |cover: &&Cover| cover.owner != owner && cover.mask(row.offset()) & conflicts != 0;
        covers.iter().find(other).map(|cover| (cover.owner, cover.level))
    }

    /// Whether `owner` has the row locked in `mode` or a stronger one.
    pub(super) fn has(&self, storage: u32, row: RowId, mode: u8, owner: u64) -> bool {
        if !self.any() {
            return false;
        }
        let maps = self.maps.lock();
        let Some(covers) = maps.groups.get(&(storage, row.group())) else { return false };
        covers.iter().any(|cover| cover.owner == owner && cover.mask(row.offset()) >> mode != 0)
    }
}
