//! Parts of large transactions in the base: written before their transaction ends, swept out when it fails.
//!
//! The hard idea: each is one commit of the base that leaves alone what the base's LSN stands for. So it may come between two
//! checkpoints, under their mutex, and a crash finds it named as pending, to be kept or swept as the log says.

use std::collections::{BTreeSet, HashMap};

use value::{Error, Result, SqlState};

use super::Inner;
use crate::base::{CheckpointInput, IndexChange, NoKeys, Piece, RowChange, RowKeys, Run, StorageState};
use crate::bulk::{Changed, Spill};
use crate::catalog::{Catalog, Object, Table};
use crate::disk::room::{Ahead, Cost};
use crate::ids::{GROUP_ROWS, RowId};
use crate::index::KeyShape;
use crate::row::{Row, RowBytes, RowLayout};
use crate::sync::Arc;

/// What changes in the base between two checkpoints.
pub(super) struct BaseChange<'a> {
    pub(super) rows: &'a mut dyn Iterator<Item = Result<RowChange>>,
    pub(super) indexes: &'a mut dyn Iterator<Item = Result<IndexChange>>,
    pub(super) runs: &'a [Run],
    /// Of a piece of `pending`.
    pub(super) changes: Option<(u64, &'a mut dyn Iterator<Item = Result<RowChange>>)>,
    pub(super) dropped: Vec<u32>,
    pub(super) storages: Vec<(u32, StorageState)>,
    pub(super) pending: Vec<(u64, Piece)>,
    pub(super) void: Vec<u64>,
    pub(super) expected_bytes: u64,
}

impl<'a> BaseChange<'a> {
    pub(super) fn none(
        rows: &'a mut dyn Iterator<Item = Result<RowChange>>,
        indexes: &'a mut dyn Iterator<Item = Result<IndexChange>>,
    ) -> BaseChange<'a> {
        BaseChange {
            rows,
            indexes,
            runs: &[],
            changes: None,
            dropped: Vec::new(),
            storages: Vec::new(),
            pending: Vec::new(),
            void: Vec::new(),
            expected_bytes: 0,
        }
    }
}

/// Keys of rows by the tables and indexes of one catalog.
pub(super) struct TableKeys {
    /// By table storage.
    tables: HashMap<u32, (Arc<RowLayout>, Vec<KeyShape>)>,
    failure: Option<Error>,
}

impl TableKeys {
    pub(super) fn new(engine: &Inner, catalog: &Catalog) -> TableKeys {
        let mut keys = TableKeys { tables: HashMap::new(), failure: None };
        for object in catalog.objects() {
            let Object::Table(table) = object else { continue };
            match engine.layout(table) {
                Ok(layout) => {
                    let indexes = catalog.maintained_indexes(table.oid);
                    let shapes = indexes.map(|index| KeyShape::of(table, index)).collect();
                    keys.tables.insert(table.storage, (layout, shapes));
                }
                Err(error) => keys.failure = Some(error),
            }
        }
        keys
    }
}

impl RowKeys for TableKeys {
    fn keys(&self, storage: u32, indexes: &[u32], row: &RowBytes) -> Result<Vec<(u32, Vec<u8>)>> {
        let Some((layout, shapes)) = self.tables.get(&storage) else {
            let gone = || Error::internal(format!("storage {storage} has changed rows and no table"));
            return Err(self.failure.clone().unwrap_or_else(gone));
        };
        let row = Row::new(row.clone(), layout.clone());
        let of = |shape: &KeyShape| Some((shape.entries, shape.key(&row)?));
        Ok(shapes.iter().filter(|shape| indexes.contains(&shape.entries)).filter_map(of).collect())
    }
}

/// What putting entries may touch: see [`Cost::touched`].
fn touched_by(runs: &[Run]) -> u64 {
    runs.iter().map(Run::most).sum::<u64>().saturating_mul(Cost::ENTRY)
}

impl Inner {
    /// Writes rows into the base whose transaction has not ended, under the name `piece`.
    pub(crate) fn spill(&self, piece: u64, spill: Spill<'_>) -> Result<()> {
        let storage = spill.storage;
        let end = spill.groups.last().map_or(0, |last| (u64::from(*last) + 1) * GROUP_ROWS);
        let pending = Piece { storage, groups: spill.groups, indexes: spill.indexes, ..Piece::default() };
        let cost = Cost { bytes: spill.bytes, touched: touched_by(spill.runs) };
        let _state = self.checkpointing.lock();
        // After a crash nobody may get row ids in these groups: they are taken out as a whole.
        let rows_now = self.version.load().base.meta().storages.get(&storage).map_or(0, |state| state.rows);
        self.change_base(BaseChange {
            rows: spill.rows,
            runs: spill.runs,
            storages: vec![(storage, StorageState { next_row: end, rows: rows_now })],
            pending: vec![(piece, pending)],
            expected_bytes: self.room_beside(cost, 1),
            ..BaseChange::none(&mut std::iter::empty(), &mut std::iter::empty())
        })
    }

    /// Writes changes of rows that lie in the base beside them, under the name `piece`: their transaction has not ended.
    /// `runs`: entries that go with them.
    pub(crate) fn spill_changes(
        &self,
        piece: u64,
        storage: u32,
        taken: &Changed,
        runs: &[Run],
    ) -> Result<()> {
        let mut indexes = taken.indexes.clone();
        let _state = self.checkpointing.lock();
        // Where its rows keep keys that an earlier piece has brought, it is this one that takes them out in the end.
        let base = self.version.load().base.clone();
        let earlier = taken.groups.keys().flat_map(|group| base.changed(storage, *group));
        let earlier: BTreeSet<u64> = earlier.copied().collect();
        let pieces = earlier.iter().filter_map(|id| base.meta().pending.get(id));
        indexes.extend(pieces.flat_map(|piece| piece.indexes.iter().copied()));
        let pending = Piece {
            storage,
            groups: taken.groups.keys().copied().collect(),
            indexes: indexes.into_iter().collect(),
            changes: true,
            bytes: taken.bytes,
            entries: taken.entries,
        };
        let cost = pending.cost();
        let mut rows = taken.groups.iter().flat_map(|(group, rows)| {
            rows.iter().map(|(offset, bytes)| {
                Ok(RowChange { storage, row: RowId::at(*group, *offset), bytes: bytes.clone() })
            })
        });
        self.change_base(BaseChange {
            runs,
            changes: Some((piece, &mut rows)),
            pending: vec![(piece, pending)],
            // It is written now, and again when it is folded.
            expected_bytes: self.room_beside(cost, 2),
            ..BaseChange::none(&mut std::iter::empty(), &mut std::iter::empty())
        })
    }

    /// Writes entries into the base of rows that pieces have brought there.
    pub(crate) fn spill_entries(&self, runs: &[Run]) -> Result<()> {
        let _state = self.checkpointing.lock();
        let cost = Cost { bytes: runs.iter().map(Run::bytes).sum(), touched: touched_by(runs) };
        self.change_base(BaseChange {
            runs,
            expected_bytes: self.room_beside(cost, 1),
            ..BaseChange::none(&mut std::iter::empty(), &mut std::iter::empty())
        })
    }

    /// Bytes that a change of the base takes, written so many times, beside the next checkpoint, which must still fit.
    fn room_beside(&self, cost: Cost, times: u64) -> u64 {
        let own = Ahead::of(self.version.load().base.size(), 0).then(cost).room;
        own.saturating_mul(times).saturating_add(self.checkpoint_room(own))
    }

    /// One commit of the base that changes nothing of what its LSN stands for. Under the checkpointing mutex.
    pub(super) fn change_base(&self, change: BaseChange<'_>) -> Result<()> {
        let base = self.version.load().base.clone();
        let (next_oid, next_storage) = self.new_ids();
        let input = CheckpointInput {
            applied: base.meta().applied,
            storages: change.storages,
            dropped: change.dropped,
            catalog: Vec::new(),
            sequences: Vec::new(),
            statistics: Vec::new(),
            builds: Vec::new(),
            pending: change.pending,
            settled: Vec::new(),
            void: change.void,
            aborted: BTreeSet::new(),
            next_oid,
            next_storage,
            expected_bytes: change.expected_bytes,
            rows: change.rows,
            indexes: change.indexes,
            runs: change.runs,
            changes: change.changes,
            keys: &NoKeys,
        };
        match base.checkpoint(input) {
            Ok(base) => {
                self.exchange_base(base);
                Ok(())
            }
            Err(error) => {
                self.exchange_base(base.reopen()?);
                Err(error)
            }
        }
    }

    /// Empties groups of the base whose transactions failed. Under the checkpointing mutex.
    pub(super) fn sweep(&self) -> Result<()> {
        let ids = self.bulk.take_garbage();
        match self.sweep_pieces(&ids) {
            Ok(later) => {
                self.bulk.put_garbage_back(&later);
                Ok(())
            }
            Err(error) => {
                self.bulk.put_garbage_back(&ids);
                // It can wait for room, or until what was committed has got there.
                if error.state() == SqlState::DISK_FULL { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Gives those that cannot go yet. Each piece of a table that is there goes by itself: one is in memory at a time.
    fn sweep_pieces(&self, ids: &[u64]) -> Result<Vec<u64>> {
        let base = self.version.load().base.clone();
        let catalog = self.catalog.load_full();
        let tables: HashMap<u32, Arc<Table>> = catalog
            .objects()
            .filter_map(|object| match object {
                Object::Table(table) => Some((table.storage, table.clone())),
                _ => None,
            })
            .collect();
        let pending = &base.meta().pending;
        let (mut gone, mut later, mut dropped) = (Vec::new(), Vec::new(), BTreeSet::new());
        for id in ids {
            // Not there: it never reached the base.
            let Some(piece) = pending.get(id) else { continue };
            if let Some(table) = tables.get(&piece.storage) {
                self.sweep_piece(*id, table, &catalog)?;
                continue;
            }
            // Of a table that the failed transaction made, or that was dropped since. The same transaction may
            // have gone on from a savepoint.
            let storage = piece.storage;
            if pending.iter().any(|(other, piece)| piece.storage == storage && !ids.contains(other)) {
                later.push(*id);
                continue;
            }
            dropped.insert(storage);
            dropped.extend(&piece.indexes);
            gone.push(*id);
        }
        if !gone.is_empty() {
            let own = Cost::fixed(base.size());
            self.change_base(BaseChange {
                expected_bytes: own.saturating_add(self.checkpoint_room(own)),
                dropped: dropped.into_iter().collect(),
                void: gone,
                ..BaseChange::none(&mut std::iter::empty(), &mut std::iter::empty())
            })?;
        }
        Ok(later)
    }

    /// Takes the rows of a failed piece, or what it changes, out of the base, and the entries that came with it.
    fn sweep_piece(&self, id: u64, table: &Table, catalog: &Catalog) -> Result<()> {
        let base = self.version.load().base.clone();
        let Some(piece) = base.meta().pending.get(&id) else { return Ok(()) };
        let storage = piece.storage;
        let known: BTreeSet<u32> = catalog.indexes(table.oid).map(|index| index.storage).collect();
        let dropped = piece.indexes.iter().filter(|index| !known.contains(index)).copied().collect();
        let keys = TableKeys::new(self, catalog);
        let indexes: Vec<u32> = known.into_iter().collect();
        let mut rows: Vec<RowChange> = Vec::new();
        let mut entries: Vec<IndexChange> = Vec::new();
        let mut remove = |row: RowId, list: Vec<(u32, Vec<u8>)>| {
            entries.extend(list.into_iter().map(|(storage, key)| IndexChange {
                storage,
                key,
                row,
                add: false,
            }));
        };
        for group in &piece.groups {
            if !piece.changes {
                let mut list = Vec::new();
                base.read_group(storage, *group, &mut list)?;
                for (row, bytes) in list {
                    remove(row, keys.keys(storage, &indexes, &bytes)?);
                    rows.push(RowChange { storage, row, bytes: None });
                }
                continue;
            }
            if piece.indexes.is_empty() {
                continue;
            }
            let first = RowId::at(*group, 0).0;
            for (offset, bytes) in base.changes_of(storage, id, first..first + GROUP_ROWS)? {
                let Some(bytes) = bytes else { continue };
                let row = RowId::at(*group, offset);
                let mut list = keys.keys(storage, &piece.indexes, &bytes)?;
                // The row itself, or another change of it, may have the same keys. Other failed ones do not need theirs: they
                // may not know them as theirs.
                let mut others = vec![base.get(storage, row)?];
                for other in
                    base.changed(storage, *group).iter().filter(|other| !self.bulk.is_aborted(**other))
                {
                    others.push(base.change_of(storage, *other, row)?.flatten());
                }
                for other in others.into_iter().flatten() {
                    let kept = keys.keys(storage, &piece.indexes, &other)?;
                    list.retain(|key| !kept.contains(key));
                }
                remove(row, list);
            }
        }
        entries.sort_by(|a, b| (a.storage, &a.key, a.row).cmp(&(b.storage, &b.key, b.row)));
        let touched = (piece.groups.len() as u64 * Cost::GROUP) + entries.len() as u64 * Cost::ENTRY;
        let own = Ahead::of(base.size(), 0).then(Cost { bytes: (rows.len() * 64) as u64, touched }).room;
        self.change_base(BaseChange {
            dropped,
            void: vec![id],
            expected_bytes: own.saturating_add(self.checkpoint_room(own)),
            ..BaseChange::none(&mut rows.into_iter().map(Ok), &mut entries.into_iter().map(Ok))
        })
    }
}
