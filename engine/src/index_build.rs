//! CREATE INDEX CONCURRENTLY: an index filled in steps while writers go on.
//!
//! The hard idea: from the moment the index is in the catalog, write-only, every writer keeps its entries up to date,
//! and the fill adds those of rows that nobody touches. A step takes a snapshot, reads one group, and adds the
//! entries to the active memtable if no memtable has said anything about them and no checkpoint came between: then
//! nobody can have removed an entry that the step brings back. A memtable that is frozen while commits are still on
//! their way into it has not said everything yet: the step waits for them. Nothing of it is logged. How far the fill came goes
//! into the base with the same checkpoint as its entries, so that after a crash it goes on from there.
//!
//! The rest is waiting: for transactions that wrote before the index was there (their writes lack its entries), for
//! those that looked for duplicates before it was full, and for snapshots older than it.

use std::time::Duration;

use value::{Error, Oid, Result, SqlState};

use crate::catalog::{Change, Index, IndexState, Object, Table};
use crate::disk::room::Cost;
use crate::engine::{Engine, Inner};
use crate::ids::{GROUP_ROWS, Isolation, Lsn, RowId};
use crate::index::{self, KeyRange, KeyShape, may_repeat};
use crate::lock::{LockInfo, LockTag};
use crate::scan::{IndexScan, RowBatch};
use crate::sync::{Arc, thread};

/// A fill that will not be taken up again.
const GIVEN_UP: u32 = u32::MAX;
/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(5);
/// How long a commit takes to be applied, about.
const SETTLING: Duration = Duration::from_micros(100);
/// What an entry costs in memory beside its bytes.
const ENTRY: u64 = 120;

impl Engine {
    /// Fills an index that is in the published catalog in state write-only, and makes it ready. Blocks the thread
    /// for as long as it takes. `stop` is asked often; its error ends the work and is given back. After an error, also
    /// 23505 for a unique key that occurs twice, the index stays write-only: not used; the next open goes on with the fill
    /// unless it was given up.
    pub fn build_index_concurrently(&self, oid: Oid, stop: &dyn Fn() -> Result<()>) -> Result<()> {
        let inner = &self.0;
        let (mut table, mut index) = self.target(oid)?;
        if index.state != IndexState::WriteOnly {
            return Ok(());
        }
        let mut group = match inner.build_progress(oid) {
            GIVEN_UP => 0,
            group => group,
        };
        inner.note_build(oid, Some(group));
        self.wait_for_writers(&table, stop)?;
        let mut end = self.groups_of(&table)?;
        while group < end {
            stop()?;
            let (newest_table, newest_index) = self.target(oid)?;
            if newest_index.storage != index.storage || newest_table.storage != table.storage {
                // TRUNCATE, or another rewrite: it filled the new storage, or there was nothing to fill.
                (group, end) = (0, self.groups_of(&newest_table)?);
            }
            (table, index) = (newest_table, newest_index);
            if self.fill_group(&table, &index, group)? {
                group += 1;
            }
        }
        self.wait_for_writers(&table, stop)?;
        if index.unique {
            self.look_for_duplicates(oid, stop)?;
        }
        // Who sees the past must not look for it in an index that only knows the present.
        let full = inner.applied_ts();
        while self.oldest_snapshot().is_some_and(|oldest| oldest < full) {
            stop()?;
            thread::sleep(LOOK);
        }
        // What is replayed after the record that makes it ready finds the entries in the base.
        self.checkpoint()?;
        let mut transaction = self.begin(Isolation::ReadCommitted, false);
        let (_, index) = self.target(oid)?;
        let ready = Index { state: IndexState::Ready, ..(*index).clone() };
        transaction.change_catalog(vec![Change::Put(Object::Index(Arc::new(ready)))])?;
        transaction.commit()?.durable.wait()?;
        inner.note_build(oid, None);
        Ok(())
    }

    /// The fill of an index is not taken up again.
    pub fn give_up_build(&self, index: Oid) {
        self.0.note_build(index, Some(GIVEN_UP));
    }

    /// Indexes whose fill a crash or a shutdown has interrupted.
    pub fn interrupted_builds(&self) -> Vec<Oid> {
        let catalog = self.catalog();
        let unfinished = catalog.objects().filter_map(|object| match object {
            Object::Index(index) if index.state == IndexState::WriteOnly => Some(index.oid),
            _ => None,
        });
        unfinished.filter(|oid| self.0.build_progress(*oid) != GIVEN_UP).collect()
    }

    fn target(&self, index: Oid) -> Result<(Arc<Table>, Arc<Index>)> {
        let catalog = self.catalog();
        let gone =
            || Error::new(SqlState::UNDEFINED_OBJECT, "the index was dropped while it was being built");
        let index = catalog.index(index).cloned().ok_or_else(gone)?;
        let table = catalog.table(index.table).cloned().ok_or_else(gone)?;
        Ok((table, index))
    }

    /// Groups in which there may be rows by now.
    fn groups_of(&self, table: &Table) -> Result<u32> {
        let snapshot = self.newest_snapshot();
        let scan = snapshot.scan(table, None)?;
        Ok(scan.bound().0.div_ceil(GROUP_ROWS) as u32)
    }

    /// Waits until every transaction that has written to the table by now has ended. Blocks the thread.
    pub fn wait_for_writers(&self, table: &Table, stop: &dyn Fn() -> Result<()>) -> Result<()> {
        let writing = |lock: &LockInfo| {
            matches!(
                lock.mode,
                "RowExclusiveLock" | "ShareRowExclusiveLock" | "ExclusiveLock" | "AccessExclusiveLock"
            )
        };
        self.wait_for(table, &writing, stop)
    }

    /// Waits until every transaction of other sessions that has used the table in any way by now has ended. Blocks the
    /// thread.
    pub fn wait_for_others(&self, table: &Table, own: i32, stop: &dyn Fn() -> Result<()>) -> Result<()> {
        self.wait_for(table, &|lock| lock.pid != own, stop)
    }

    fn wait_for(
        &self,
        table: &Table,
        which: &dyn Fn(&LockInfo) -> bool,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let holders = || -> Vec<u64> {
            let here = |lock: &LockInfo| lock.granted && lock.tag == LockTag::Table(table.oid) && which(lock);
            self.0.locks.listing().into_iter().filter(here).map(|lock| lock.transaction).collect()
        };
        let mut before = holders();
        while !before.is_empty() {
            stop()?;
            thread::sleep(LOOK);
            let now = holders();
            before.retain(|holder| now.contains(holder));
        }
        // A commit gives its table locks back when it is applied; snapshots see it when all before it are, too.
        self.0.wait_applied(self.last_lsn());
        Ok(())
    }

    /// Adds the entries of one group; `false`: something came between, to be tried again.
    fn fill_group(&self, table: &Arc<Table>, index: &Index, group: u32) -> Result<bool> {
        let shape = KeyShape::of(table, index);
        let snapshot = self.newest_snapshot();
        if !snapshot.0.pin.version.is_settled() {
            drop(snapshot);
            thread::sleep(SETTLING);
            return Ok(false);
        }
        let first = RowId::at(group, 0);
        let mut scan = snapshot.scan(table, Some(first..RowId(first.0 + GROUP_ROWS)))?;
        let mut batch = RowBatch::new();
        let mut entries: Vec<Box<[u8]>> = Vec::new();
        while scan.next(&mut batch)? {
            for (id, row) in batch.ids.iter().zip(&batch.rows) {
                if let Some(key) = shape.key(row) {
                    entries.push(index::entry(&key, *id));
                }
            }
        }
        entries.sort_unstable();
        let pin = &snapshot.0.pin;
        // Frozen memtables are complete, and stay so while the version is the newest one, which is looked at below:
        // what is left of them after a checkpoint may have lost what no snapshot needs.
        for memtable in &pin.version.frozen {
            if let Some(overlay) = memtable.index(index.storage) {
                overlay.leave_out_known(&mut entries);
            }
        }
        let bytes = entries.iter().map(|entry| entry.len() as u64 + ENTRY).sum();
        let cost = Cost { bytes, touched: entries.len() as u64 * Cost::ENTRY };
        let Ok(_room) = self.0.admit(cost, false) else {
            drop(snapshot);
            self.checkpoint()?;
            // Where that was no help, nothing is.
            return self.0.admit(cost, false).map(|_| false);
        };
        Ok(self.0.add_built(&pin.version, index, pin.ts, group + 1, &entries))
    }

    fn look_for_duplicates(&self, oid: Oid, stop: &dyn Fn() -> Result<()>) -> Result<()> {
        let (table, index) = self.target(oid)?;
        let shape = KeyShape::of(&table, &index);
        let snapshot = self.newest_snapshot();
        let mut scan = IndexScan::new(&snapshot, &table, &index, KeyRange::all(), false)?;
        let mut before: Option<Vec<u8>> = None;
        let mut count = 0u32;
        while let Some((entry, _)) = scan.next_entry()? {
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) {
                stop()?;
            }
            let (key, id) = index::split(&entry);
            let Some(row) = snapshot.get(&table, id)? else { continue };
            if shape.key(&row).as_deref() != Some(key) || may_repeat(&shape, &index, &row) {
                continue;
            }
            if before.as_deref() == Some(key) {
                return Err(index::duplicated(&self.catalog(), &table, &index, &row));
            }
            before = Some(key.to_vec());
        }
        Ok(())
    }

    /// Everything applied, durable or not: entries of what is not durable go with it.
    fn newest_snapshot(&self) -> crate::Snapshot {
        self.begin(Isolation::ReadCommitted, false).latest_snapshot()
    }
}

impl Inner {
    /// The next group to fill of an index.
    fn build_progress(&self, index: Oid) -> u32 {
        let noted = self.with_unsaved(|unsaved| unsaved.builds.get(&index).copied());
        noted.unwrap_or_else(|| self.saved_build(index)).unwrap_or(0)
    }

    fn note_build(&self, index: Oid, progress: Option<u32>) {
        self.with_unsaved(|unsaved| unsaved.builds.insert(index, progress));
    }

    /// Adds entries as of `ts`, about which the frozen memtables of `version` say nothing, and that the fill goes on with
    /// group `next`, unless the layers changed since `version`.
    fn add_built(
        &self,
        version: &Arc<crate::snapshot::SuperVersion>,
        index: &Index,
        ts: Lsn,
        next: u32,
        entries: &[Box<[u8]>],
    ) -> bool {
        // A checkpoint that begins meanwhile waits for the memtable to be quiet, and takes the entries along.
        let entered = self.with_unsaved(|unsaved| {
            if !Arc::ptr_eq(&self.version.load_full(), version) {
                return false;
            }
            version.active.enter();
            unsaved.builds.insert(index.oid, Some(next));
            true
        });
        if entered {
            version.active.add_built(index.storage, ts, entries);
            version.active.leave();
        }
        entered
    }
}
