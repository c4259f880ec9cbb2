//! Large transactions: what keeps their memory within bounds.
//!
//! A command that inserts many rows appends them to a stage (`stage.rs`), which goes to the base piece by piece. Rows
//! that found their way into the write set all the same go there when it passes its bound, by whole groups.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use value::{Datum, Error, Result, SqlState};

use super::{BULK, Transaction};
use crate::base::{KeyRange, RowChange, Run};
use crate::bulk::{PieceFacts, Spill, Taken};
use crate::catalog::{Index, Object, Persistence, Table};
use crate::engine::Options;
use crate::ids::{CommandId, RowId};
use crate::index::{self, KeyShape, may_repeat};
use crate::lock::{Attempt, EXCLUSIVE, LockTag, SHARED, Wait};
use crate::row::{self, RowLayout};
use crate::stage::{Cargo, InFlight, Stage};
use crate::sync::Arc;

/// Full groups of rows a command inserts before it begins a stage: smaller ones are better off in the log.
const STAGED_AFTER: u64 = 2;

/// Rows inserted by the running command, and what it has staged of them.
#[derive(Debug, Default)]
pub(super) struct Staging {
    command: u32,
    rows: u64,
    stage: Option<Stage>,
    in_flight: Option<InFlight>,
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
        let (spill_size, limit) = (options.spill_size, options.write_set_limit);
        // A snapshot that stays reads a base from before, without these rows.
        if self.fixed.is_none() && self.writes.bytes() >= spill_size {
            self.spill()?;
        }
        self.changed = self.writes.bytes();
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
            if numbers.is_empty() || !self.hold_bulk(storage) {
                continue;
            }
            let Some(mut taken) = self.writes.spill(storage, &numbers) else { continue };
            self.release_keys(&taken);
            let (indexes, runs) = std::mem::take(&mut taken.entries)
                .into_iter()
                .map(|(index, keys)| (index, Run::sorted(keys)))
                .unzip::<_, _, Vec<_>, Vec<_>>();
            let id = self.engine.bulk.new_id();
            self.engine.bulk.begin(id, self.id, taken.last);
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
            if let Err(error) = self.engine.spill(id, spill) {
                // It may or may not have reached the base; the transaction cannot go on without its rows.
                self.engine.bulk.abort(id);
                return Err(error);
            }
            let inside = |group: &u32| taken.groups.contains_key(group);
            let savepoints =
                groups.iter().filter(|(group, _)| inside(group)).map(|(_, savepoint)| *savepoint);
            let savepoint = savepoints.min().unwrap_or(0);
            self.pieces.push((PieceFacts { id, storage, rows: taken.rows }, savepoint));
            if let Some(own) = self.rows.get_mut(&storage) {
                own.groups.retain(|group, _| !inside(group));
            }
        }
        Ok(())
    }

    /// Takes the lock that stands for all keys this transaction has in the base. `false`: not now.
    fn hold_bulk(&mut self, storage: u32) -> bool {
        let catalog = self.catalog();
        let indexes: Vec<u32> = catalog
            .objects()
            .filter_map(|object| match object {
                Object::Index(index) if index.unique => Some(index.clone()),
                _ => None,
            })
            .filter(|index| catalog.table(index.table).is_some_and(|table| table.storage == storage))
            .map(|index| index.storage)
            .collect();
        indexes.into_iter().all(|index| {
            let tag = LockTag::Key { index, key: BULK.into() };
            matches!(self.try_lock(tag, SHARED, Wait::Skip), Attempt::Granted(_))
        })
    }

    /// The keys of rows that are in the base now: who meets them waits for the one lock.
    fn release_keys(&mut self, taken: &Taken) {
        let mut keys: HashMap<u32, HashSet<&[u8]>> = HashMap::new();
        for (index, entries) in &taken.entries {
            keys.insert(*index, entries.iter().map(index::entry_key).collect());
        }
        let (engine, id, held_keys) = (&self.engine, self.id, &mut self.held_keys);
        self.held.retain(|held| {
            let gone = match &held.tag {
                LockTag::Key { index, key } => keys.get(index).is_some_and(|keys| keys.contains(&**key)),
                _ => false,
            };
            if gone {
                *held_keys -= 1;
                engine.locks.release(id, &held.tag, 1 << held.mode);
            }
            !gone
        });
    }

    /// Whether another transaction that has not ended has a row with that key in the base, or on its way there.
    pub(super) fn meets_pending(&self, shape: &KeyShape, key: &[u8]) -> Result<bool> {
        if self.engine.bulk.stages.has(shape.entries, key, self.id) {
            return Ok(true);
        }
        let version = self.engine.version.load_full();
        let base = &version.base;
        if base.meta().pending.is_empty() || shape.temporary || base.is_beyond(shape.entries, key)? {
            return Ok(false);
        }
        let range = KeyRange { low: Bound::Included(key.to_vec()), high: Bound::Included(key.to_vec()) };
        let mut entries = version.base.index_range(shape.entries, &range, false);
        while let Some((_, row)) = entries.peek()? {
            if let Some(piece) = version.base.pending(shape.rows, row.group())
                && self.engine.bulk.is_foreign(piece, self.id)
            {
                return Ok(true);
            }
            entries.advance();
        }
        Ok(false)
    }

    /// Waits until the transactions with rows in the base have ended.
    pub(super) async fn wait_for_bulk(&mut self, shape: &KeyShape) -> Result<()> {
        let tag = LockTag::Key { index: shape.entries, key: BULK.into() };
        let who = self.session.0.requester(self.id, self.age);
        // It may be held already, shared, for own rows.
        let granted = match self.engine.locks.acquire(&who, &tag, EXCLUSIVE, Wait::Block) {
            Attempt::Granted(new) => new,
            Attempt::Busy => false,
            Attempt::Wait(future) => {
                future.await?;
                true
            }
        };
        if granted {
            self.engine.locks.release(self.id, &tag, 1 << EXCLUSIVE);
        }
        self.depend_on_latest();
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
                || self.fixed.is_some()
                || table.persistence == Persistence::Temporary
                || indexes.iter().any(deferrable)
            {
                return Ok(None);
            }
            self.flush_stage()?;
            if !self.hold_bulk(table.storage) {
                return Ok(None);
            }
            let indexes = indexes.iter().map(|(index, shape)| (shape.entries, index.unique));
            let command = CommandId(self.command);
            self.staging.stage =
                Some(Stage::new(&self.engine.bulk, self.id, command, table.storage, indexes, spill_size));
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
                    if unique && (self.is_locked(shape, key) || self.meets_pending(shape, key)?) {
                        return Ok(false);
                    }
                    if unique && self.holder_of(shape, layout, key, None)?.is_some() {
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
        engine.bulk.begin(id, self.id, full.command);
        let threads = engine.options.threads;
        let write = move |cargo: Cargo| cargo.deliver(|spill| engine.spill(id, spill));
        self.staging.in_flight = Some(InFlight::start(id, full, last, threads, write));
        if threads { Ok(()) } else { self.land().map(|_| ()) }
    }

    /// Waits for the piece that is being written; gives its stage.
    fn land(&mut self) -> Result<Option<Stage>> {
        let Some(in_flight) = self.staging.in_flight.take() else { return Ok(None) };
        let piece = in_flight.piece;
        match in_flight.finish() {
            Ok(landed) => {
                self.pieces.push((piece, self.savepoint_count));
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
        if self.staging.stage.is_none() {
            return Ok(());
        }
        self.write_stage(true)?;
        self.land()?;
        self.staging.stage = None;
        Ok(())
    }

    /// [`Transaction::flush_stage`] where no error can be told: the commit will fail with it.
    pub(super) fn settle_stage(&mut self) {
        // Kept in `failed`.
        let _ = self.flush_stage();
    }

    /// Forgets what is staged: the command is undone.
    pub(super) fn drop_stage(&mut self) {
        // What cannot land is gone all the same.
        let _ = self.land();
        self.staging.stage = None;
    }
}
