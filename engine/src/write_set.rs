//! What a transaction has written and nobody else sees.
//!
//! The hard idea: every change carries the command that made it, and a snapshot sees entries of commands before
//! its own. So the set is shared with the transaction's own snapshots as it is, under a lock, instead of being
//! copied for them: later commands add entries that earlier snapshots do not see, and rolling back to a
//! savepoint only takes away entries of commands that began after it. INSERT .. SELECT from itself and UPDATE
//! through the key it changes come out right because a statement never meets its own writes.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;

use crate::base::{Base, Keys};
use crate::bulk::{Added, Changed, Taken};
use crate::disk::room::Cost;
use crate::ids::{CommandId, RowId};
use crate::index::KeyShape;
use crate::memtable::as_slice;
use crate::row::{RowBytes, RowLayout};
use crate::sync::{Arc, Mutex, RwLock};

#[derive(Clone, Debug)]
pub(crate) struct OwnVersion {
    pub(crate) command: CommandId,
    /// `None`: deleted.
    pub(crate) row: Option<RowBytes>,
}

/// One row this transaction has touched.
#[derive(Debug)]
pub(crate) struct OwnRow {
    /// The committed row that the first change replaced; `None`: this transaction inserted the row.
    pub(crate) base: Option<RowBytes>,
    pub(crate) newest: OwnVersion,
    /// Earlier versions, oldest first.
    older: Vec<OwnVersion>,
}

impl OwnRow {
    fn at(&self, command: CommandId) -> Option<&OwnVersion> {
        if self.newest.command < command {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|version| version.command < command)
    }
}

/// How a row stands in the own writes, seen from a command.
#[derive(Debug)]
pub(crate) enum OwnState {
    Untouched,
    /// The newest version, its command, and whether the row is this transaction's own insert.
    Touched {
        command: CommandId,
        row: Option<RowBytes>,
        inserted: bool,
    },
}

#[derive(Debug)]
pub(crate) struct OwnTable {
    pub(crate) groups: BTreeMap<u32, BTreeMap<u16, OwnRow>>,
    /// Of the newest table version that was written through.
    pub(crate) layout: Arc<RowLayout>,
    /// Kept with the session, never logged.
    pub(crate) temporary: bool,
}

impl OwnTable {
    /// The rows that were touched and differ in the end from what others know: not those that came and went.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (RowId, &OwnRow)> {
        let rows = self
            .groups
            .iter()
            .flat_map(|(group, rows)| rows.iter().map(|(offset, row)| (RowId::at(*group, *offset), row)));
        rows.filter(|(_, row)| row.base.is_some() || row.newest.row.is_some())
    }
}

/// What became of an index entry within the transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnEntry {
    /// The last change added it.
    live: bool,
    /// The first change added it: it was not there before.
    fresh: bool,
}

impl OwnEntry {
    /// What others will find changed: added, removed, or nothing (a key that came back, or came and went).
    fn outcome(self) -> Option<bool> {
        (self.live == self.fresh).then_some(self.live)
    }
}

impl OwnIndex {
    /// Entries that the commit adds (true) or removes, in order.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.entries.iter().filter_map(|(entry, own)| Some((&entry[..], own.outcome()?)))
    }

    /// Whether the commit adds or removes an entry in that range.
    pub(crate) fn has_outcome(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
        self.entries.range::<[u8], _>(range).any(|(_, own)| own.outcome().is_some())
    }
}

#[derive(Debug, Default)]
pub(crate) struct OwnIndex {
    /// By `key ++ row id`.
    pub(crate) entries: BTreeMap<Box<[u8]>, OwnEntry>,
    /// Storage of the table.
    pub(crate) rows: u32,
    pub(crate) unique: bool,
    /// Filled by this transaction: replaying the log fills it anew, from the rows.
    pub(crate) built: bool,
    pub(crate) temporary: bool,
}

#[derive(Debug)]
enum Undo {
    /// A version was added (`replaced`: in place of one of the same command).
    Row {
        storage: u32,
        row: RowId,
        replaced: Option<OwnVersion>,
    },
    Entry {
        index: u32,
        entry: Box<[u8]>,
        previous: Option<OwnEntry>,
    },
    /// All entries of an index that was built.
    Built {
        index: u32,
    },
}

/// What of a write set has gone to the base, as wide as it takes to say it in little: for the comparison with what others
/// have read.
#[derive(Debug, Default)]
pub(crate) struct Spilled {
    /// By table: groups of rows.
    pub(crate) groups: BTreeMap<u32, BTreeSet<u32>>,
    /// By index: the least and the greatest entry, `key ++ row id`.
    pub(crate) entries: BTreeMap<u32, (Box<[u8]>, Box<[u8]>)>,
}

impl Spilled {
    fn rows(&mut self, storage: u32, groups: impl Iterator<Item = u32>) {
        self.groups.entry(storage).or_default().extend(groups);
    }

    fn entry(&mut self, index: u32, entry: &[u8]) {
        match self.entries.get_mut(&index) {
            None => {
                self.entries.insert(index, (entry.into(), entry.into()));
            }
            Some((least, _)) if entry < &**least => *least = entry.into(),
            Some((_, greatest)) if entry > &**greatest => *greatest = entry.into(),
            Some(_) => {}
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) spilled: Spilled,
    pub(crate) tables: BTreeMap<u32, OwnTable>,
    pub(crate) indexes: BTreeMap<u32, OwnIndex>,
    undo: Vec<Undo>,
    /// Rows and entries changed, for the size of what a commit will write.
    pub(crate) bytes: u64,
    /// Rows as they were before, which are held beside them.
    replaced: u64,
}

impl Sets {
    /// What the checkpoint of it takes.
    pub(crate) fn cost(&self) -> Cost {
        let groups: usize = self.tables.values().map(|own| own.groups.len()).sum();
        let entries: usize = self.indexes.values().map(|own| own.entries.len()).sum();
        Cost { bytes: self.bytes, touched: groups as u64 * Cost::GROUP + entries as u64 * Cost::ENTRY }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> u64 {
        self.bytes + self.replaced
    }
}

/// Shared between a transaction and its snapshots.
#[derive(Debug, Default)]
pub(crate) struct WriteSet {
    /// The transaction.
    owner: u64,
    sets: RwLock<Sets>,
    /// Commands of the snapshots that look at it.
    readers: Mutex<BTreeMap<CommandId, u32>>,
    /// Where a transaction whose snapshot is fixed finds what it has put into the base since: its snapshot's is older.
    landed: RwLock<Option<Base>>,
}

/// Shows `take` every element, in order, and takes out those it wants. `all`: it wants all of them.
fn take_from<K: Ord, V>(map: &mut BTreeMap<K, V>, all: bool, mut take: impl FnMut(&K, &mut V) -> bool) {
    if all {
        for (key, mut value) in std::mem::take(map) {
            take(&key, &mut value);
        }
    } else {
        map.retain(|key, value| !take(key, value));
    }
}

/// What a row and an index entry cost beside their bytes.
const ROW: u64 = 160;
const ENTRY: u64 = 120;

fn length(row: &Option<RowBytes>) -> u64 {
    row.as_ref().map_or(0, |row| row.len() as u64)
}

impl WriteSet {
    pub(crate) fn new(owner: u64) -> WriteSet {
        WriteSet { owner, ..WriteSet::default() }
    }

    pub(crate) fn owner(&self) -> u64 {
        self.owner
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> u64 {
        self.sets.read().memory()
    }

    /// The base with what the transaction has put there, if its snapshot's own does not have it.
    pub(crate) fn landed(&self) -> Option<Base> {
        self.landed.read().clone()
    }

    pub(crate) fn set_landed(&self, base: Base) {
        *self.landed.write() = Some(base);
    }

    /// Takes out the rows of whole groups, all inserted by this transaction, with their index entries. Groups of which a
    /// snapshot in use sees anything stay: it reads a base from before. `None`: nothing could be taken.
    pub(crate) fn spill(&self, storage: u32, groups: &[u32]) -> Option<Taken> {
        let mut sets = self.sets.write();
        let sets = &mut *sets;
        let readers: Vec<CommandId> = self.readers.lock().keys().copied().collect();
        let table = sets.tables.get_mut(&storage)?;
        let mut spill = Taken::default();
        for number in groups {
            let Some(rows) = table.groups.get(number) else { continue };
            let commands = || rows.values().map(|row| row.newest.command);
            let (Some(first), Some(last)) = (commands().min(), commands().max()) else { continue };
            // A snapshot sees commands before its own.
            let seen = readers.iter().any(|reader| first < *reader);
            if seen || rows.values().any(|row| row.base.is_some() || !row.older.is_empty()) {
                continue;
            }
            let Some(rows) = table.groups.remove(number) else { continue };
            spill.last = spill.last.max(last);
            let mut list = Vec::with_capacity(rows.len());
            for (offset, row) in rows {
                spill.bytes += ROW;
                if let Some(bytes) = row.newest.row {
                    spill.bytes += bytes.len() as u64;
                    list.push((offset, bytes));
                }
            }
            spill.rows += list.len() as u64;
            spill.groups.insert(*number, list);
        }
        if spill.groups.is_empty() {
            return None;
        }
        for (index, own) in sets.indexes.iter_mut().filter(|(_, own)| own.rows == storage && !own.temporary) {
            let list = spill.entries.entry(*index).or_insert_with(|| Added::new(own.unique));
            own.entries.retain(|entry, state| {
                let inside = spill.groups.contains_key(&crate::index::split(entry).1.group());
                if inside {
                    spill.bytes += entry.len() as u64 + ENTRY;
                    if state.outcome() == Some(true) {
                        sets.spilled.entry(*index, entry);
                        list.keys.push_parts(&[&index.to_be_bytes(), entry]);
                    }
                }
                !inside
            });
        }
        sets.spilled.rows(storage, spill.groups.keys().copied());
        sets.bytes = sets.bytes.saturating_sub(spill.bytes);
        Some(spill)
    }

    /// Takes out the last changes of rows that were there before, with their index entries: of rows that `is_settled`
    /// accepts and that no snapshot in use sees changed, written after command `after`. `mark`: where undoing such changes
    /// begins. `None`: nothing could be taken.
    pub(crate) fn spill_changes(
        &self,
        storage: u32,
        after: Option<CommandId>,
        mark: usize,
        is_settled: &mut dyn FnMut(RowId) -> value::Result<bool>,
    ) -> value::Result<Option<Changed>> {
        let newest_reader = self.readers.lock().keys().next_back().copied();
        let mut rows: Vec<RowId> = Vec::new();
        {
            let sets = self.sets.read();
            // Entries of an index that is filled by this very transaction are not those of changes.
            if sets.indexes.values().any(|own| own.built && !own.temporary) {
                return Ok(None);
            }
            let Some(table) = sets.tables.get(&storage).filter(|table| !table.temporary) else {
                return Ok(None);
            };
            for (group, list) in &table.groups {
                for (offset, row) in list {
                    let command = row.newest.command;
                    // A snapshot sees commands before its own.
                    let unseen = newest_reader.is_none_or(|reader| {
                        command >= reader && row.older.iter().all(|version| version.command >= reader)
                    });
                    let own = after.is_none_or(|after| {
                        command > after && row.older.iter().all(|version| version.command > after)
                    });
                    if row.base.is_some() && unseen && own {
                        rows.push(RowId::at(*group, *offset));
                    }
                }
            }
        }
        // Looked up without the lock; nobody else writes here.
        let mut taken: HashSet<RowId> = HashSet::with_capacity(rows.len());
        for row in rows {
            if is_settled(row)? {
                taken.insert(row);
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let mut sets = self.sets.write();
        let Sets { tables, indexes, undo, bytes, replaced, spilled } = &mut *sets;
        let Some(table) = tables.get_mut(&storage) else { return Ok(None) };
        let mut spill = Changed::default();
        // Everything, as a rule: then nothing is looked for one by one.
        let all = taken.len() == table.groups.values().map(BTreeMap::len).sum::<usize>();
        let taken = |row: RowId| all || taken.contains(&row);
        take_from(&mut table.groups, all, |group, list| {
            let mut out = Vec::new();
            take_from(list, all, |offset, row| {
                if !taken(RowId::at(*group, *offset)) {
                    return false;
                }
                spill.last = spill.last.max(row.newest.command);
                *replaced = replaced.saturating_sub(length(&row.base));
                let versions = std::iter::once(&row.newest).chain(&row.older);
                spill.bytes += versions.map(|version| ROW + length(&version.row)).sum::<u64>();
                spill.rows += i64::from(row.newest.row.is_some()) - 1;
                out.push((*offset, row.newest.row.take()));
                true
            });
            if !out.is_empty() {
                spill.groups.insert(*group, out);
            }
            list.is_empty()
        });
        for (index, own) in indexes.iter_mut().filter(|(_, own)| own.rows == storage && !own.temporary) {
            let (mut added, mut removed, mut count) = (Added::new(own.unique), Keys::default(), 0);
            let unique = own.unique;
            take_from(&mut own.entries, all, |entry, state| {
                let inside = taken(crate::index::split(entry).1);
                if inside {
                    spill.bytes += entry.len() as u64 + ENTRY;
                    let outcome = state.outcome();
                    if outcome.is_some() {
                        count += 1;
                        spilled.entry(*index, entry);
                    }
                    match outcome {
                        Some(true) => added.keys.push_parts(&[&index.to_be_bytes(), entry]),
                        Some(false) if unique => removed.push_parts(&[&index.to_be_bytes(), entry]),
                        Some(false) | None => {}
                    }
                }
                inside
            });
            if count > 0 {
                spill.indexes.insert(*index);
                spill.entries += count;
            }
            if !added.keys.is_empty() {
                spill.added.insert(*index, added);
            }
            if !removed.is_empty() {
                spill.removed.insert(*index, removed);
            }
        }
        let since_mark = undo.split_off(mark.min(undo.len()));
        undo.extend(since_mark.into_iter().filter(|step| match step {
            Undo::Row { storage: of, row, .. } => *of != storage || !taken(*row),
            Undo::Entry { index, entry, .. } => {
                let inside = indexes.get(index).is_some_and(|own| own.rows == storage);
                !inside || !taken(crate::index::split(entry).1)
            }
            Undo::Built { .. } => true,
        }));
        spilled.rows(storage, spill.groups.keys().copied());
        *bytes = bytes.saturating_sub(spill.bytes);
        Ok(Some(spill))
    }

    pub(crate) fn read(&self) -> crate::sync::RwLockReadGuard<'_, Sets> {
        self.sets.read()
    }

    /// Adds a version. `base` is the committed row it replaces, used when the row is touched for the first
    /// time. `undoable`: a savepoint is open.
    pub(crate) fn write(
        &self,
        target: &Target<'_>,
        row: RowId,
        base: Option<&RowBytes>,
        command: CommandId,
        image: Option<RowBytes>,
        undoable: bool,
    ) {
        let mut sets = self.sets.write();
        let sets = &mut *sets;
        let earlier = |command| self.readers.lock().range(..command).next().is_some();
        let size = |row: &Option<RowBytes>| ROW + length(row);
        sets.bytes += size(&image);
        let table = sets.tables.entry(target.storage).or_insert_with(|| OwnTable {
            groups: BTreeMap::new(),
            layout: target.layout.clone(),
            temporary: target.temporary,
        });
        if !Arc::ptr_eq(&table.layout, target.layout) {
            table.layout = target.layout.clone();
        }
        let version = OwnVersion { command, row: image };
        let group = table.groups.entry(row.group()).or_default();
        let mut replaced = None;
        match group.get_mut(&row.offset()) {
            None => {
                // A scan may have read a block for this row alone.
                sets.replaced += base.map_or(0, |row| row.len() as u64);
                let own = OwnRow { base: base.map(RowBytes::alone), newest: version, older: Vec::new() };
                group.insert(row.offset(), own);
            }
            Some(own) if own.newest.command == command => {
                let old = std::mem::replace(&mut own.newest, version);
                sets.bytes = sets.bytes.saturating_sub(size(&old.row));
                replaced = Some(old);
            }
            Some(own) => {
                let older = std::mem::replace(&mut own.newest, version);
                if !own.older.is_empty() && !undoable && !earlier(command) {
                    // Updated again and again: only what this command itself sees is still of use.
                    let gone: u64 = own.older.iter().map(|version| size(&version.row)).sum();
                    sets.bytes = sets.bytes.saturating_sub(gone);
                    own.older.clear();
                }
                own.older.push(older);
            }
        }
        if undoable {
            sets.undo.push(Undo::Row { storage: target.storage, row, replaced });
        }
    }

    /// Records the last change of an index entry.
    pub(crate) fn write_entry(&self, shape: &KeyShape, entry: Box<[u8]>, live: bool, undoable: bool) {
        let mut sets = self.sets.write();
        let sets = &mut *sets;
        let index = shape.entries;
        let own = sets.indexes.entry(index).or_default();
        (own.rows, own.temporary, own.unique) = (shape.rows, shape.temporary, shape.unique);
        let size = entry.len() as u64 + ENTRY;
        let undo = |entry: &[u8], previous| Undo::Entry { index, entry: entry.into(), previous };
        match own.entries.entry(entry) {
            MapEntry::Vacant(place) => {
                sets.bytes += size;
                if undoable {
                    sets.undo.push(undo(place.key(), None));
                }
                place.insert(OwnEntry { live, fresh: live });
            }
            // It came and went, and nobody has looked meanwhile.
            MapEntry::Occupied(place)
                if place.get().fresh && !live && !undoable && self.readers.lock().is_empty() =>
            {
                place.remove();
                sets.bytes = sets.bytes.saturating_sub(size);
            }
            MapEntry::Occupied(mut place) => {
                let previous = *place.get();
                if undoable {
                    sets.undo.push(undo(place.key(), Some(previous)));
                }
                place.insert(OwnEntry { live, fresh: previous.fresh });
            }
        }
    }

    /// Takes all entries of an index built by this transaction, sorted.
    pub(crate) fn write_built(&self, index: u32, temporary: bool, entries: Vec<Box<[u8]>>, undoable: bool) {
        let mut sets = self.sets.write();
        sets.bytes += entries.iter().map(|entry| entry.len() as u64 + ENTRY).sum::<u64>();
        let own = sets.indexes.entry(index).or_default();
        (own.built, own.temporary) = (true, temporary);
        let built = OwnEntry { live: true, fresh: true };
        if own.entries.is_empty() {
            own.entries = entries.into_iter().map(|entry| (entry, built)).collect();
        } else {
            own.entries.extend(entries.into_iter().map(|entry| (entry, built)));
        }
        if undoable {
            sets.undo.push(Undo::Built { index });
        }
    }

    pub(crate) fn state(&self, storage: u32, row: RowId) -> OwnState {
        let sets = self.sets.read();
        match sets.row(storage, row) {
            None => OwnState::Untouched,
            Some(own) => OwnState::Touched {
                command: own.newest.command,
                row: own.newest.row.clone(),
                inserted: own.base.is_none(),
            },
        }
    }

    /// The version that `command` sees. Outer `None`: ask the committed rows.
    pub(crate) fn get(&self, storage: u32, row: RowId, command: CommandId) -> Option<Option<RowBytes>> {
        let sets = self.sets.read();
        sets.row(storage, row)?.at(command).map(|version| version.row.clone())
    }

    /// The first touched group at or after `from`.
    pub(crate) fn next_group(&self, storage: u32, from: u32) -> Option<u32> {
        let sets = self.sets.read();
        sets.tables.get(&storage)?.groups.range(from..).next().map(|(group, _)| *group)
    }

    /// What `command` sees of a group, by offset.
    pub(crate) fn visible(
        &self,
        storage: u32,
        group: u32,
        command: CommandId,
        offsets: std::ops::Range<u32>,
        out: &mut Vec<(u16, Option<RowBytes>)>,
    ) {
        let sets = self.sets.read();
        let Some(rows) = sets.tables.get(&storage).and_then(|table| table.groups.get(&group)) else { return };
        for (offset, own) in rows.range(offsets.start.min(65535) as u16..) {
            if u32::from(*offset) >= offsets.end {
                break;
            }
            if let Some(version) = own.at(command) {
                out.push((*offset, version.row.clone()));
            }
        }
    }

    /// Whether an index has entries of that key or behind it, as [`crate::memtable::IndexOverlay::reaches`].
    pub(crate) fn reaches(&self, index: u32, key: &[u8]) -> bool {
        let sets = self.sets.read();
        let last = sets.indexes.get(&index).and_then(|own| own.entries.last_key_value());
        last.is_some_and(|(last, _)| &last[..] >= key)
    }

    /// Up to `limit` entries of an index range, as [`crate::memtable::IndexOverlay::range`].
    pub(crate) fn range(
        &self,
        index: u32,
        low: &Bound<Vec<u8>>,
        high: &Bound<Vec<u8>>,
        backward: bool,
        limit: usize,
        out: &mut VecDeque<Box<[u8]>>,
    ) {
        let sets = self.sets.read();
        let Some(own) = sets.indexes.get(&index) else { return };
        // Growing keys are beyond everything there is.
        let last = own.entries.last_key_value().map(|(last, _)| &last[..]);
        let beyond = match low {
            Bound::Included(low) | Bound::Excluded(low) => last.is_none_or(|last| last < &low[..]),
            Bound::Unbounded => false,
        };
        if beyond {
            return;
        }
        let range = own.entries.range::<[u8], _>((as_slice(low), as_slice(high)));
        if backward {
            out.extend(range.rev().take(limit).map(|(entry, _)| entry.clone()));
        } else {
            out.extend(range.take(limit).map(|(entry, _)| entry.clone()));
        }
    }

    pub(crate) fn has_index(&self, index: u32) -> bool {
        self.sets.read().indexes.contains_key(&index)
    }

    pub(crate) fn has_table(&self, storage: u32) -> bool {
        self.sets.read().tables.contains_key(&storage)
    }

    /// A snapshot of that command begins to look.
    pub(crate) fn enter(&self, command: CommandId) {
        *self.readers.lock().entry(command).or_insert(0) += 1;
    }

    /// And is done.
    pub(crate) fn leave(&self, command: CommandId) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&command) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&command);
            }
        }
    }

    /// A place to come back to with [`WriteSet::rollback`].
    pub(crate) fn mark(&self) -> usize {
        self.sets.read().undo.len()
    }

    /// Undoes everything after `mark`. Entries before it were recorded with `undoable` or precede the first mark.
    pub(crate) fn rollback(&self, mark: usize) {
        let mut sets = self.sets.write();
        let sets = &mut *sets;
        while sets.undo.len() > mark {
            match sets.undo.pop() {
                Some(Undo::Row { storage, row, replaced }) => {
                    let Some(group) =
                        sets.tables.get_mut(&storage).and_then(|table| table.groups.get_mut(&row.group()))
                    else {
                        continue;
                    };
                    let Some(own) = group.get_mut(&row.offset()) else { continue };
                    sets.bytes = sets.bytes.saturating_sub(ROW + length(&own.newest.row));
                    if let Some(version) = &replaced {
                        sets.bytes += ROW + length(&version.row);
                    }
                    match replaced.or_else(|| own.older.pop()) {
                        Some(version) => own.newest = version,
                        None => {
                            sets.replaced = sets.replaced.saturating_sub(length(&own.base));
                            group.remove(&row.offset());
                        }
                    }
                }
                Some(Undo::Entry { index, entry, previous }) => {
                    let Some(own) = sets.indexes.get_mut(&index) else { continue };
                    let size = entry.len() as u64 + ENTRY;
                    match previous {
                        Some(previous) => {
                            own.entries.insert(entry, previous);
                        }
                        None if own.entries.remove(&entry).is_some() => {
                            sets.bytes = sets.bytes.saturating_sub(size);
                        }
                        None => {}
                    }
                }
                Some(Undo::Built { index }) => {
                    let gone = sets.indexes.remove(&index);
                    let entries = gone.iter().flat_map(|own| own.entries.keys());
                    let size: u64 = entries.map(|entry| entry.len() as u64 + ENTRY).sum();
                    sets.bytes = sets.bytes.saturating_sub(size);
                }
                None => break,
            }
        }
    }

    /// No savepoint is open any more: nothing will be undone in part.
    pub(crate) fn forget_undo(&self) {
        self.sets.write().undo.clear();
    }
}

impl Sets {
    pub(crate) fn row(&self, storage: u32, row: RowId) -> Option<&OwnRow> {
        self.tables.get(&storage)?.groups.get(&row.group())?.get(&row.offset())
    }
}

/// Where a write goes.
pub(crate) struct Target<'a> {
    pub(crate) storage: u32,
    pub(crate) layout: &'a Arc<RowLayout>,
    pub(crate) temporary: bool,
}
