//! Large transactions: what keeps their memory within bounds.
//!
//! A command that inserts many rows appends them to a stage (`stage.rs`), which goes to the base piece by piece. Rows
//! that found their way into the write set all the same go there when it passes its bound, by whole groups; then changes
//! of rows that lie in the base, as pieces beside them. Locks on very many rows become bits (`lock/covered.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use value::{Datum, Error, Result, SqlState};

use super::Transaction;
use crate::base::{Deferred, KeyRange, Keys, Packed, RowChange, Run};
use crate::bulk::{Added, End, PieceFacts, Spill, Viewer};
use crate::catalog::{Index, Persistence, Table};
use crate::engine::Options;
use crate::ids::{CommandId, Lsn, RowId};
use crate::index::{self, KeyShape, may_repeat};
use crate::lock::{Attempt, EXCLUSIVE, LockTag, RowLockMode, SHARED, Wait};
use crate::row::{self, Row, RowBytes, RowLayout};
use crate::stage::{Cargo, Delivery, InFlight, Stage};
use crate::sync::Arc;

/// Row locks are kept as bits when a transaction has one for so many bytes of what it may write before it spills.
const LOCK: u64 = 2048;

/// Full groups of rows a command inserts before it begins a stage: smaller ones are better off in the log.
const STAGED_AFTER: u64 = 2;

/// Rows inserted by the running command, and what it has staged of them.
#[derive(Debug, Default)]
pub(super) struct Staging {
    command: u32,
    rows: u64,
    stage: Option<Stage>,
    in_flight: Option<InFlight>,
    /// Changes of rows that the command has made, on their way into the base, with the savepoint before them.
    changes: Option<(PieceFacts, u64, Delivery)>,
    /// Entries of rows that the command has spilled: nobody looks for them before it is through.
    deferred: Option<Deferred>,
    /// What went wrong where no error could be told; the commit does.
    failed: Option<Error>,
    /// Of the indexes of the stage's table: the keys of the row at hand.
    keys: Vec<(bool, Vec<u8>)>,
}

impl Staging {
    /// Whether the command has inserted more than it does without a stage.
    pub(super) fn is_much(&self, command: u32, options: &Options) -> bool {
        self.command == command && self.rows > STAGED_AFTER * options.spill_group
    }
}

impl Transaction {
    /// Keeps the write set within its bounds: new rows go to the base, too many other changes are 53200.
    pub(super) fn bound(&mut self) -> Result<()> {
        if self.changed < self.next_look {
            return Ok(());
        }
        let options = &self.engine.options;
        let (mut spill_size, limit) = (options.spill_size, options.write_set_limit);
        if self.staging.changes.is_some() {
            // The rest is what was taken last, on its way.
            spill_size /= 2;
        }
        if self.writes.memory() >= spill_size {
            self.spill()?;
            if self.writes.memory() >= spill_size / 2 {
                self.spill_changes()?;
            }
        }
        self.changed = self.writes.memory();
        self.retry_at = match self.changed >= spill_size {
            true => self.changed + spill_size / 64,
            false => u64::MAX,
        };
        // What could not be spilled is not looked at for every row.
        self.next_look = self.changed.max(spill_size) + spill_size / 4;
        if self.changed > limit {
            return Err(Error::new(
                SqlState::OUT_OF_MEMORY,
                format!("the transaction has changed more than {limit} bytes of rows"),
            )
            .hint("Change fewer rows in one transaction."));
        }
        Ok(())
    }

    /// Writes full groups of new rows into the base, where nobody else sees them.
    fn spill(&mut self) -> Result<()> {
        let newest = self.savepoints.last().map_or(0, |mark| mark.number);
        let storages: Vec<u32> = self.rows.keys().copied().collect();
        for storage in storages {
            // Rolling back to a savepoint takes away whole pieces: none from before and after it.
            let Some(own) = self.rows.get(&storage) else { continue };
            let groups: Vec<(u32, u64)> = own.full().filter(|(_, savepoint)| *savepoint >= newest).collect();
            let numbers: Vec<u32> = groups.iter().map(|(group, _)| *group).collect();
            if numbers.is_empty() {
                continue;
            }
            let Some(end) = self.hold_end() else { return Ok(()) };
            let Some(mut taken) = self.writes.spill(storage, &numbers) else { continue };
            let indexes = taken.entries.keys().copied().collect();
            let runs = self.without_deferred(std::mem::take(&mut taken.entries));
            let id = self.engine.bulk.new_id();
            self.engine.bulk.begin(id, end, taken.last);
            let mut rows = taken.groups.iter().flat_map(|(group, rows)| {
                rows.iter().map(|(offset, bytes)| {
                    Ok(RowChange { storage, row: RowId::at(*group, *offset), bytes: Some(bytes.clone()) })
                })
            });
            let spill = Spill {
                storage,
                groups: taken.groups.keys().copied().collect(),
                rows: &mut rows,
                indexes,
                runs: &runs,
                bytes: taken.bytes,
            };
            if let Err(error) = self.engine.aside(|| self.engine.spill(id, spill)) {
                // It may or may not have reached the base; the transaction cannot go on without its rows.
                self.engine.bulk.abort(id);
                return Err(error);
            }
            let inside = |group: &u32| taken.groups.contains_key(group);
            let savepoints =
                groups.iter().filter(|(group, _)| inside(group)).map(|(_, savepoint)| *savepoint);
            let savepoint = savepoints.min().unwrap_or(0);
            self.note_landed();
            self.pieces.push((PieceFacts { id, storage, rows: taken.rows as i64 }, savepoint));
            self.release_keys(runs.iter().filter_map(Run::loose));
            if let Some(own) = self.rows.get_mut(&storage) {
                own.groups.retain(|group, _| !inside(group));
            }
        }
        Ok(())
    }

    /// Writes changes of rows that lie in the base beside them, where nobody else sees them. The command goes on meanwhile,
    /// unless it may look for what is written: a unique key.
    fn spill_changes(&mut self) -> Result<()> {
        let (after, number, mark) = match self.savepoints.last() {
            Some(mark) => (Some(mark.command), mark.number, mark.undo),
            None => (None, 0, 0),
        };
        let storages: Vec<u32> = {
            let sets = self.writes.read();
            sets.tables.iter().filter(|(_, own)| !own.temporary).map(|(storage, _)| *storage).collect()
        };
        let Some(end) = self.hold_end() else { return Ok(()) };
        let mut left = false;
        for storage in storages {
            self.land_changes()?;
            // Held by this transaction, so that nobody else brings a newer version into a memtable.
            let version = self.engine.version.load_full();
            let mut is_settled = |row: RowId| -> Result<bool> {
                for memtable in version.memtables() {
                    if memtable.get(storage, row, Lsn(u64::MAX))?.is_some() {
                        left = true;
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            let taken = self.writes.spill_changes(storage, after, mark, &mut is_settled)?;
            let Some(mut taken) = taken else { continue };
            let id = self.engine.bulk.new_id();
            self.engine.bulk.begin(id, end, taken.last);
            let runs = self.without_deferred(std::mem::take(&mut taken.added));
            self.changed_rows.add(id, storage, &taken);
            let piece = PieceFacts { id, storage, rows: taken.rows };
            let unique = !taken.removed.is_empty() || runs.iter().any(|run| run.loose().is_some());
            if self.engine.options.threads && !unique {
                let engine = self.engine.clone();
                let write = move || engine.spill_changes(id, storage, &taken, &runs);
                self.staging.changes = Some((piece, number, Delivery::start(write)));
                continue;
            }
            let done = self.engine.aside(|| self.engine.spill_changes(id, storage, &taken, &runs));
            self.staging.changes = Some((piece, number, Delivery::done(done)));
            self.land_changes()?;
            self.release_keys(runs.iter().filter_map(Run::loose).chain(taken.removed.values()));
        }
        if left {
            // What a checkpoint brings into the base can follow it there.
            self.engine.request_checkpoint();
        }
        Ok(())
    }

    /// Waits for the changes that are being written.
    fn land_changes(&mut self) -> Result<()> {
        let Some((piece, savepoint, delivery)) = self.staging.changes.take() else { return Ok(()) };
        if let Err(error) = self.engine.aside(|| delivery.finish()) {
            // They may or may not have reached the base; the transaction cannot go on without them.
            self.engine.bulk.abort(piece.id);
            self.staging.failed = Some(error.clone());
            return Err(error);
        }
        self.pieces.push((piece, savepoint));
        self.note_landed();
        Ok(())
    }

    /// A snapshot that stays reads a base from before what was put there just now.
    fn note_landed(&self) {
        if self.fixed.is_some() {
            self.writes.set_landed(self.engine.version.load().base.clone());
        }
    }

    /// Where what was done since the newest savepoint begins in `held`.
    fn held_mark(&self) -> usize {
        self.savepoints.last().map_or(0, |mark| mark.held)
    }

    /// Keeps row locks as bits when there are very many.
    pub(super) fn cover_rows(&mut self) {
        if self.held_rows < self.engine.options.spill_size / LOCK {
            return;
        }
        let Some(end) = self.hold_end() else { return };
        self.held_rows = 0;
        let mark = self.held_mark();
        let (rows, rest): (Vec<_>, Vec<_>) =
            self.held.drain(mark..).partition(|held| matches!(held.tag, LockTag::Row { .. }));
        self.held.extend(rest);
        let locks = &self.engine.locks;
        let covered = rows.iter().filter_map(|held| match held.tag {
            LockTag::Row { storage, row } => Some((storage, RowId(row), held.mode)),
            _ => None,
        });
        locks.cover(end.owner, end.savepoint, covered);
        for held in &rows {
            locks.release(self.id, &held.tag, 1 << held.mode);
        }
        self.covering = Some(end.savepoint);
    }

    /// Where bits of row locks belong when such locks go straight there: many were taken since the newest savepoint.
    fn covering(&self) -> Option<u64> {
        let newest = self.savepoints.last().map_or(0, |mark| mark.number);
        self.covering.filter(|savepoint| *savepoint == newest)
    }

    /// Whether the row is locked as a bit, now if not before.
    pub(super) fn cover_row(&self, place: (u32, RowId), mode: RowLockMode) -> bool {
        match self.covering() {
            Some(savepoint) => self.engine.locks.cover_row(self.id, savepoint, place, mode),
            None => self.engine.locks.covers(self.id, place, mode),
        }
    }

    /// Locks a unique key that a row has and is about to lose. Where very many rows do, the row says so in its place: whoever
    /// wants the key meets the row.
    pub(super) async fn leave_key(
        &mut self,
        shape: &KeyShape,
        key: &[u8],
        place: (u32, RowId),
    ) -> Result<()> {
        match self.covering() {
            Some(savepoint) if !shape.temporary => {
                self.engine.locks.set_leaving(self.id, savepoint, place);
                Ok(())
            }
            _ => self.lock_key(shape, key).await,
        }
    }

    /// Takes the lock that stands for the end of this transaction, or for going back to its newest savepoint. `None`: not
    /// now, since somebody who has waited for it is just being told.
    fn hold_end(&mut self) -> Option<End> {
        let savepoint = self.savepoints.last().map_or(0, |mark| mark.number);
        let end = End { owner: self.id, savepoint };
        matches!(self.try_lock(end.tag(), EXCLUSIVE, Wait::Skip), Attempt::Granted(_)).then_some(end)
    }

    /// Waits for the end of another transaction that stands for locks on very many rows, or for rows of the base.
    pub(super) async fn wait_for_end(&mut self, end: LockTag) -> Result<()> {
        let who = self.requester(self.id);
        if let Attempt::Wait(future) = self.engine.locks.acquire(&who, &end, SHARED, Wait::Block) {
            future.await?;
        }
        self.engine.locks.release(self.id, &end, 1 << SHARED);
        self.depend_on_latest();
        Ok(())
    }

    /// The keys of rows that are in the base now: who meets them there waits for the end of this transaction.
    fn release_keys<'a>(&mut self, taken: impl Iterator<Item = &'a Keys>) {
        if self.held_keys == 0 {
            return;
        }
        let mut keys: HashMap<u32, HashSet<&[u8]>> = HashMap::new();
        for entry in taken.flat_map(Keys::iter) {
            keys.entry(index::entry_index(entry)).or_default().insert(index::entry_key(entry));
        }
        if keys.is_empty() {
            return;
        }
        // Those from before the newest savepoint stay where savepoints expect them.
        let later = self.held.split_off(self.held_mark());
        let (engine, id, held_keys) = (&self.engine, self.id, &mut self.held_keys);
        self.held.extend(later.into_iter().filter(|held| {
            let gone = match &held.tag {
                LockTag::Key { index, key } => keys.get(index).is_some_and(|keys| keys.contains(&**key)),
                _ => false,
            };
            if gone {
                *held_keys -= 1;
                engine.locks.release(id, &held.tag, 1 << held.mode);
            }
            !gone
        }));
    }

    /// What to wait for when the row that has the key is one of very many that another transaction, which has not ended,
    /// deletes or gives other keys.
    pub(super) fn meets_leaving(
        &self,
        shape: &KeyShape,
        layout: &Arc<RowLayout>,
        key: &[u8],
    ) -> Result<Option<LockTag>> {
        if shape.temporary || !self.engine.locks.has_covered() {
            return Ok(None);
        }
        let holder = self.holder_of(shape, layout, key, None)?;
        Ok(holder.and_then(|(row, _)| self.engine.locks.leaving(self.id, (shape.rows, row))))
    }

    /// What to wait for when another transaction that has not ended has a row with that key in the base, or on its way
    /// there.
    pub(super) fn meets_pending(
        &self,
        shape: &KeyShape,
        layout: &Arc<RowLayout>,
        key: &[u8],
    ) -> Result<Option<LockTag>> {
        let bulk = &self.engine.bulk;
        if let Some(end) = bulk.stages.find(shape.entries, key, self.id) {
            return Ok(Some(end.tag()));
        }
        let version = self.engine.version.load_full();
        let base = &version.base;
        if base.meta().pending.is_empty() || shape.temporary || base.is_beyond(shape.entries, key)? {
            return Ok(None);
        }
        let range = KeyRange { low: Bound::Included(key.to_vec()), high: Bound::Included(key.to_vec()) };
        let mut entries = version.base.index_range(shape.entries, &range, false);
        while let Some((_, row)) = entries.peek()? {
            let foreign = |piece: u64| bulk.foreign(piece, self.id, self.engine.applied_ts());
            if let Some(end) = base.pending(shape.rows, row.group()).and_then(foreign) {
                return Ok(Some(end.tag()));
            }
            let pieces = base.changed(shape.rows, row.group());
            if !pieces.is_empty() {
                // Of the changes of the row one by one: which bring the key, or take it away.
                let has = |version: Option<RowBytes>| {
                    let key_of = |bytes| shape.key(&Row::new(bytes, layout.clone()));
                    version.and_then(key_of).as_deref() == Some(key)
                };
                let mut had = has(base.get(shape.rows, row)?);
                let mut found = None;
                for piece in pieces {
                    let end = foreign(*piece);
                    let own = Viewer { owner: self.id, command: CommandId(u32::MAX) };
                    if end.is_none() && !bulk.is_visible(*piece, Lsn(u64::MAX), Some(own)) {
                        continue;
                    }
                    let Some(version) = base.change_of(shape.rows, *piece, row)? else { continue };
                    let has = has(version);
                    if has != had {
                        found = end.or(found);
                    }
                    had = has;
                }
                if let Some(end) = found {
                    return Ok(Some(end.tag()));
                }
            }
            entries.advance();
        }
        Ok(None)
    }

    // ---- entries that wait --------------------------------------------------------------------------------

    /// What of the entries that come with a piece goes with it; those of indexes that are not unique wait. When too many do,
    /// all go.
    fn without_deferred(&mut self, added: BTreeMap<u32, Added>) -> Vec<Run> {
        let mut runs = Vec::new();
        let limit = self.engine.options.spill_size;
        let deferred = self.staging.deferred.get_or_insert_with(|| Deferred::new(limit));
        for (index, Added { unique, keys }) in added {
            if unique {
                runs.push(Run::sorted(keys));
            } else if !keys.is_empty() {
                deferred.add(index, Packed::of(index, &keys));
            }
        }
        if deferred.is_full() {
            runs.extend(deferred.take());
        }
        runs
    }

    /// Brings what the command has changed into the base, with the entries that wait, where later commands see it.
    pub(super) fn flush_changes(&mut self) -> Result<()> {
        self.land_changes()?;
        let Some(deferred) = self.staging.deferred.take() else { return Ok(()) };
        let runs: Vec<Run> = deferred.take().collect();
        if runs.is_empty() {
            return Ok(());
        }
        // Their rows are there: it cannot go on without them.
        let done = self.engine.aside(|| self.engine.spill_entries(&runs));
        done.inspect_err(|error| self.staging.failed = Some(error.clone()))?;
        self.note_landed();
        Ok(())
    }

    // ---- stages -------------------------------------------------------------------------------------------

    /// Appends a new row to the stage of the running command. `None`: there is none, or somebody may be in the way, which
    /// the caller finds out row by row. 23505.
    pub(super) fn stage(
        &mut self,
        table: &Table,
        row: &[Datum],
        layout: &Arc<RowLayout>,
        indexes: &Arc<[(Arc<Index>, KeyShape)]>,
    ) -> Result<Option<RowId>> {
        if self.staging.command != self.command {
            self.flush_stage()?;
            (self.staging.command, self.staging.rows) = (self.command, 0);
        }
        self.staging.rows += 1;
        let options = &self.engine.options;
        let (spill_size, group_rows) = (options.spill_size, options.spill_group);
        if self.staging.stage.as_ref().is_none_or(|stage| stage.storage != table.storage) {
            let deferrable = |(index, _): &(Arc<Index>, KeyShape)| table.deferrable(index.oid).is_some();
            if !self.staging.is_much(self.command, options)
                || self.reads.is_some()
                || table.persistence == Persistence::Temporary
                || indexes.iter().any(deferrable)
            {
                return Ok(None);
            }
            self.flush_stage()?;
            let Some(end) = self.hold_end() else { return Ok(None) };
            let indexes = indexes.iter().map(|(index, shape)| (shape.entries, index.unique));
            let command = CommandId(self.command);
            self.staging.stage =
                Some(Stage::new(&self.engine.bulk, end, command, table.storage, indexes, spill_size));
            self.dirty = true;
        }
        let Some(mut stage) = self.staging.stage.take() else { return Ok(None) };
        let staged = self.stage_row(&mut stage, table, row, layout, indexes, group_rows);
        let full = stage.is_full(spill_size);
        self.staging.stage = Some(stage);
        if full {
            self.write_stage(false)?;
        }
        staged
    }

    fn stage_row(
        &mut self,
        stage: &mut Stage,
        table: &Table,
        row: &[Datum],
        layout: &Arc<RowLayout>,
        indexes: &[(Arc<Index>, KeyShape)],
        group_rows: u64,
    ) -> Result<Option<RowId>> {
        let id = stage.next_row(|| self.engine.new_group(table.storage), group_rows);
        let mut keys = std::mem::take(&mut self.staging.keys);
        keys.resize_with(indexes.len(), Default::default);
        let mut done = 0;
        let mut entries = || -> Result<bool> {
            for (((index, shape), staged), (has_key, key)) in
                indexes.iter().zip(&stage.indexes).zip(&mut keys)
            {
                *has_key = shape.key_into(row, key);
                if *has_key {
                    let unique = !may_repeat(shape, index, row);
                    if unique && self.is_locked(shape, key) {
                        return Ok(false);
                    }
                    let repeated = unique && self.in_flight_has(shape.entries, key);
                    if repeated || !staged.push(key, id, unique) {
                        return Err(index::unique_violation(&self.catalog(), table, index, row));
                    }
                    done += 1;
                    if unique
                        && (self.is_locked(shape, key) || self.meets_pending(shape, layout, key)?.is_some())
                    {
                        return Ok(false);
                    }
                    if unique && let Some((holder, _)) = self.holder_of(shape, layout, key, None)? {
                        if self.engine.locks.leaving(self.id, (table.storage, holder)).is_some() {
                            return Ok(false);
                        }
                        self.depend_on_latest();
                        return Err(index::unique_violation(&self.catalog(), table, index, row));
                    }
                } else {
                    done += 1;
                }
            }
            Ok(true)
        };
        let free = entries();
        let result = match free {
            Ok(true) => stage.push(id, |bytes| row::encode(layout, row, bytes)).map(|()| Some(id)),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(result, Ok(Some(_))) {
            for (staged, (has_key, _)) in stage.indexes.iter().zip(&keys).take(done) {
                if *has_key {
                    staged.pop();
                }
            }
        }
        self.staging.keys = keys;
        result
    }

    /// Whether another transaction holds a key. Keys of the own are not looked for.
    fn is_locked(&self, shape: &KeyShape, key: &[u8]) -> bool {
        self.engine.locks.locked_keys() > self.held_keys
            && self
                .engine
                .locks
                .is_held_by_others(self.id, &LockTag::Key { index: shape.entries, key: key.into() })
    }

    fn in_flight_has(&self, index: u32, key: &[u8]) -> bool {
        let Some(in_flight) = &self.staging.in_flight else { return false };
        in_flight.stage.indexes.iter().any(|staged| staged.storage == index && staged.contains(key))
    }

    /// Whether the running command has staged a row with that key.
    pub(super) fn has_staged(&self, shape: &KeyShape, key: &[u8]) -> bool {
        let staged = self.staging.stage.as_ref().is_some_and(|stage| {
            stage.indexes.iter().any(|staged| staged.storage == shape.entries && staged.contains(key))
        });
        staged || self.in_flight_has(shape.entries, key)
    }

    /// Begins to write what is staged; the command goes on meanwhile, unless this is the last of it.
    fn write_stage(&mut self, last: bool) -> Result<()> {
        let landed = self.land()?;
        let Some(stage) = &mut self.staging.stage else { return Ok(()) };
        // The last piece brings all entries that wait, be it without rows.
        if stage.is_empty() && !(last && stage.has_deferred()) {
            return Ok(());
        }
        let full = stage.exchange();
        if let Some(landed) = landed {
            stage.reuse(landed);
        }
        let engine = self.engine.clone();
        let id = engine.bulk.new_id();
        engine.bulk.begin(id, full.holder, full.command);
        let threads = engine.options.threads;
        let write = move |cargo: Cargo| cargo.deliver(|spill| engine.spill(id, spill));
        self.staging.in_flight = Some(InFlight::start(id, full, last, threads, write));
        if threads { Ok(()) } else { self.land().map(|_| ()) }
    }

    /// Waits for the piece that is being written; gives its stage.
    fn land(&mut self) -> Result<Option<Stage>> {
        let Some(in_flight) = self.staging.in_flight.take() else { return Ok(None) };
        let piece = in_flight.piece;
        match self.engine.aside(|| in_flight.finish()) {
            Ok(landed) => {
                self.pieces.push((piece, self.savepoint_count));
                self.note_landed();
                Ok(Some(landed))
            }
            Err(error) => {
                // It may or may not have reached the base; the transaction cannot go on without its rows.
                self.engine.bulk.abort(piece.id);
                self.staging.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Brings everything staged into the base, where the transaction's later commands see it.
    pub(super) fn flush_stage(&mut self) -> Result<()> {
        if let Some(error) = &self.staging.failed {
            return Err(error.clone());
        }
        if self.staging.stage.is_some() {
            self.write_stage(true)?;
            self.land()?;
            self.staging.stage = None;
        }
        self.flush_changes()
    }

    /// [`Transaction::flush_stage`] where no error can be told: the commit will fail with it.
    pub(super) fn settle_stage(&mut self) {
        // Kept in `failed`.
        let _ = self.flush_stage();
    }

    /// Forgets what is staged: the command is undone.
    pub(super) fn drop_stage(&mut self) {
        // What cannot land is gone all the same.
        let _ = (self.land(), self.land_changes());
        (self.staging.stage, self.staging.deferred) = (None, None);
    }
}
