//! What a generation keeps when the base holds it and only old snapshots still look at it.
//!
//! The hard idea: these snapshots are all known (whoever begins now looks at a newer base), so that of every row only the
//! versions at their timestamps count. As a rule that is next to nothing: what was committed after the snapshot began
//! fills the generation. An index entry is one that none of them can need when it came or went after all of them and
//! its row has no version left: had an earlier commit of this generation touched the entry, it would have touched the
//! row too. Only CREATE INDEX adds entries of rows that it does not touch: such an index keeps all of them.

use std::collections::{HashMap, HashSet};

use super::{Chain, GroupOverlay, IndexOverlay, Memtable, OVERHEAD, Version};
use crate::ids::{Lsn, RowId};
use crate::index;
use crate::sync::{Arc, Ordering};

impl Memtable {
    /// Something was taken away: newest versions are not to be looked for here.
    pub(crate) fn is_thinned(&self) -> bool {
        self.thinned.load(Ordering::SeqCst)
    }

    /// Takes away what no snapshot at one of `pins` (ascending) can see. Nobody else may begin to look at this
    /// generation. `rows_of`: the table storage of each index storage; indexes that are not there keep everything.
    pub(crate) fn thin_out(&self, pins: &[Lsn], rows_of: &HashMap<u32, u32>) {
        self.thinned.store(true, Ordering::SeqCst);
        let mut gone = 0;
        let mut left: HashMap<u32, HashSet<RowId>> = HashMap::new();
        let tables: Vec<_> = self.tables.read().iter().map(|(s, table)| (*s, table.clone())).collect();
        for (storage, table) in tables {
            let left = left.entry(storage).or_default();
            let groups: Vec<(u32, Arc<GroupOverlay>)> =
                table.groups.read().iter().map(|(number, group)| (*number, group.clone())).collect();
            for (number, group) in groups {
                // Patches are completed before a generation is saved; should there be one, it needs what is below it.
                if group.partial.load(Ordering::Acquire) {
                    left.extend(group.rows.read().keys().map(|offset| RowId::at(number, *offset)));
                    continue;
                }
                group.rows.write().retain(|offset, chain| {
                    let keep = thin(chain, pins, &mut gone);
                    if keep {
                        left.insert(RowId::at(number, *offset));
                    }
                    keep
                });
            }
        }
        let last = pins.last().copied().unwrap_or(Lsn(0));
        let indexes: Vec<_> = self.indexes.read().iter().map(|(s, index)| (*s, index.clone())).collect();
        for (storage, index) in indexes {
            if let Some(rows) = rows_of.get(&storage) {
                gone += index.thin_out(last, left.get(rows));
            }
        }
        self.bytes.fetch_sub(gone.min(self.bytes()), Ordering::Relaxed);
    }
}

impl IndexOverlay {
    /// `last`: the newest snapshot; `left`: rows that still have versions. Gives the bytes that are gone.
    fn thin_out(&self, last: Lsn, left: Option<&HashSet<RowId>>) -> u64 {
        if self.built.load(Ordering::Relaxed) {
            return 0;
        }
        let mut gone = 0;
        let entries = &mut *self.entries.write();
        entries.map.retain(|entry, state| {
            let row = index::split(entry).1;
            let later = state.ts > last && (state.fresh || !state.live);
            let keep = !later || left.is_some_and(|left| left.contains(&row));
            if !keep {
                gone += entry.len() as u64 + OVERHEAD;
            }
            keep
        });
        entries.dead.clear();
        gone
    }
}

fn bytes_of(version: &Version) -> u64 {
    version.row.as_ref().map_or(0, |row| row.len() as u64) + OVERHEAD
}

/// Leaves the versions that one of `pins` sees; `false`: none is left. A version is seen by the snapshots from its
/// timestamp up to that of the next newer one.
fn thin(chain: &mut Chain, pins: &[Lsn], gone: &mut u64) -> bool {
    let unlinked = Version { ts: Lsn(0), row: None, partial: false, older: None };
    let mut next = Some(Box::new(std::mem::replace(&mut chain.newest, unlinked)));
    let mut kept: Vec<Box<Version>> = Vec::new();
    // Pins below this one are seen by older versions only.
    let mut newer = Lsn(u64::MAX);
    while let Some(mut version) = next {
        next = version.older.take();
        let place = pins.partition_point(|pin| *pin < version.ts);
        let seen = pins.get(place).is_some_and(|pin| *pin < newer);
        newer = version.ts;
        if seen {
            kept.push(version);
        } else {
            *gone += bytes_of(&version);
        }
    }
    chain.len = kept.len() as u32;
    let mut older = None;
    while let Some(mut version) = kept.pop() {
        version.older = older.take();
        older = Some(version);
    }
    match older {
        Some(mut newest) => {
            // They have a drop of their own and cannot be taken apart.
            std::mem::swap(&mut chain.newest, &mut *newest);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowBytes;
    use crate::snapshot::Horizon;

    #[test]
    fn what_old_snapshots_see_stays_and_nothing_else() {
        let row = |n: u64| (!n.is_multiple_of(7)).then(|| RowBytes::from(n.to_le_bytes().to_vec()));
        let memtable = Memtable::default();
        let everyone: Vec<Lsn> = (1..=60).map(Lsn).collect();
        for ts in 1..=60u64 {
            let horizon = Horizon::fixed(Lsn(0), everyone.clone());
            // Row 1 changes all the time, row 2 at first, row 3 late.
            memtable.table_writer(1, Lsn(ts), &horizon).put(RowId(1), row(ts));
            match ts {
                ..=5 => memtable.table_writer(1, Lsn(ts), &horizon).put(RowId(2), row(ts)),
                50.. => memtable.table_writer(1, Lsn(ts), &horizon).put(RowId(3), row(ts)),
                _ => {}
            }
            let entry = index::entry(&ts.to_be_bytes(), RowId(if ts < 50 { 1 } else { 3 }));
            memtable.write_index(2, Lsn(ts), Lsn(0), std::iter::once((&entry[..], true)));
        }
        let pins = [Lsn(3), Lsn(14), Lsn(30)];
        let seen = |id: u64, pin: Lsn| {
            memtable
                .get(1, RowId(id), pin)
                .expect("no reading")
                .map(|(ts, row)| (ts, row.map(|row| row.to_vec())))
        };
        let before: Vec<_> = (1..=3).flat_map(|id| pins.map(|pin| seen(id, pin))).collect();
        let bytes = memtable.bytes();
        memtable.thin_out(&pins, &HashMap::from([(2, 1)]));
        assert!(memtable.is_thinned() && memtable.bytes() < bytes);
        let after: Vec<_> = (1..=3).flat_map(|id| pins.map(|pin| seen(id, pin))).collect();
        assert_eq!(before, after);
        // Versions 3, 14, 30 of row 1; 3 and 5 of row 2; none of row 3.
        assert!(memtable.get(1, RowId(3), Lsn(u64::MAX)).expect("no reading").is_none());
        assert_eq!(
            memtable.get(1, RowId(1), Lsn(u64::MAX)).expect("no reading").map(|(ts, _)| ts),
            Some(Lsn(30))
        );
        let overlay = memtable.index(2).expect("entries");
        // Those of row 3 came later and have no row left; of row 1 all stay, whose row has.
        assert_eq!(overlay.after(&std::ops::Bound::Unbounded, 100).len(), 49);
        // The last snapshot has gone.
        memtable.thin_out(&[], &HashMap::from([(2, 1)]));
        assert_eq!(memtable.bytes(), 0);
    }
}
