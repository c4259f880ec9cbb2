//! Runs of index entries that are dead for everybody: where a queue was, and every new scan would walk over again.
//!
//! The hard idea: an entry of the base that was deleted stays in the base, and its tombstone in the memtable, until the next
//! checkpoint. A scan that has come over many of them leaves a note: from this key to that one nothing is alive, as of its
//! snapshot. Later snapshots begin behind it. The note lives in the memtable's index, under the lock under which entries
//! change: whoever adds an entry inside takes the note away before anybody may see the entry. It speaks of one
//! super-version, since another base may have other entries.

use std::ops::Bound;

use crate::ids::Lsn;
use crate::index::KeyRange;
use crate::snapshot::SuperVersion;
use crate::sync::{Arc, Weak};

/// A scan that has come over fewer dead entries than this leaves no note.
pub(crate) const WORTH: usize = 32;
/// Notes kept for one index; the oldest goes.
const RUNS: usize = 4;

#[derive(Debug)]
pub(crate) struct Run {
    version: Weak<SuperVersion>,
    /// Bounds of keys, both as low bounds: from the first on, and not yet from the second on.
    from: Bound<Vec<u8>>,
    upto: Bound<Vec<u8>>,
    /// Snapshots from here on may trust it.
    ts: Lsn,
}

#[derive(Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

/// Low bounds in the order of where they begin.
fn place(bound: &Bound<Vec<u8>>) -> Option<(&[u8], bool)> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(key) => Some((key, false)),
        Bound::Excluded(key) => Some((key, true)),
    }
}

impl Runs {
    /// Where a scan of that snapshot may begin instead of at `low`.
    pub(crate) fn skip(
        &self,
        version: &Arc<SuperVersion>,
        ts: Lsn,
        low: &Bound<Vec<u8>>,
    ) -> Option<&Bound<Vec<u8>>> {
        let fits = |run: &&Run| {
            run.ts <= ts
                && std::ptr::eq(run.version.as_ptr(), Arc::as_ptr(version))
                && place(&run.from) <= place(low)
                && place(low) < place(&run.upto)
        };
        self.0.iter().filter(fits).map(|run| &run.upto).max_by_key(|upto| place(upto))
    }

    /// A key has an entry (again).
    pub(crate) fn revive(&mut self, key: &[u8]) {
        let key = Some((key, false));
        self.0.retain(|run| !(place(&run.from) <= key && key < place(&run.upto)));
    }

    /// Notes that nothing is alive in `range` as of a snapshot. `is_dead` looks whether the memtable still says so of a
    /// part of it; the base does not change.
    pub(crate) fn note(
        &mut self,
        version: &Arc<SuperVersion>,
        ts: Lsn,
        (from, upto): (Bound<Vec<u8>>, Bound<Vec<u8>>),
        is_dead: impl FnOnce(&KeyRange) -> bool,
    ) {
        let mine = |run: &Run| std::ptr::eq(run.version.as_ptr(), Arc::as_ptr(version));
        // Of one that begins at the same key only what is new needs to be looked at.
        let known = self.0.iter().position(|run| mine(run) && run.ts <= ts && run.from == from);
        let start = match known.map(|known| &self.0[known].upto) {
            Some(known) if place(known) >= place(&upto) => return,
            Some(known) => known.clone(),
            None => from.clone(),
        };
        // A low bound of what follows is the other kind of high bound of what comes before.
        let end = match &upto {
            Bound::Included(key) => Bound::Excluded(key.clone()),
            Bound::Excluded(key) => Bound::Included(key.clone()),
            Bound::Unbounded => return,
        };
        if !is_dead(&KeyRange { low: start, high: end }) {
            return;
        }
        let run = Run { version: Arc::downgrade(version), from, upto, ts };
        match known {
            Some(known) => self.0[known] = run,
            None => {
                if self.0.len() >= RUNS {
                    self.0.remove(0);
                }
                self.0.push(run);
            }
        }
    }
}
