//! Transactions: snapshots, locks, writes, savepoints, commit.
//!
//! The hard idea: nothing a transaction does is seen by others before its commit is applied to a memtable, and
//! the row and key locks it holds are released in the moment it may be seen, not when its caller is told. So
//! two transactions never meet half-done work, and the next writer of a hot row does not wait for a disk.
//! What must not be undone by a crash after somebody was told is covered by the session's floor: every answer
//! waits until the log is durable up to the newest commit it depends on.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::task::{Context, Poll};

use value::{Datum, Error, Oid, Result, SqlState};

use crate::bulk::{Own, OwnChanges, PieceFacts, Viewer};
use crate::catalog::{Catalog, Change, Index, IndexState, Object, Persistence, Sequence, Table};
use crate::engine::{Inner, SessionState};
use crate::ids::{CommandId, Isolation, Lsn, RowId};
use crate::index::{self, KeyShape, may_repeat};
use crate::lock::{
    AdvisoryKey, Attempt, EXCLUSIVE, LockTag, Requester, RowLockMode, SHARED, TableLockMode, Wait,
    not_available,
};
use crate::memtable::Memtable;
use crate::planted::{Bug, planted};
use crate::row::{self, Row, RowBytes, RowLayout};
use crate::scan::RowBatch;
use crate::serializable::{Columns, Reads};
use crate::snapshot::{Found, Horizon, Pin as SnapshotPin, Snapshot, SnapshotInner, SuperVersion, View};
use crate::sync::{Arc, Ordering};
use crate::validation;
use crate::wal;
use crate::wal::record::{RecordBuilder, SequenceValue};
use crate::write_set::{OwnState, Sets, Target, WriteSet};

mod bulk;

use bulk::Staging;

/// Bytes of changes from which on a commit takes milliseconds.
const LARGE: u64 = 1 << 20;

/// Bytes of changes that a commit may have which is let through to give room.
const SMALL: u64 = 64 << 10;

/// What became of a row lock.
#[derive(Clone, Debug)]
pub enum RowLock {
    /// Held; the row is as the snapshot saw it.
    Granted,
    /// Held, but a newer version was committed since the snapshot: the caller checks its condition again.
    Moved(Row),
    /// Deleted since the snapshot: there is nothing to lock.
    Deleted,
    /// Somebody else holds it ([`Wait::Skip`]).
    Skipped,
    /// The running command (or a later one of the same transaction) has changed the row already: UPDATE and
    /// DELETE pass over it, ON CONFLICT DO UPDATE raises 21000.
    AlreadyChanged,
}

/// What an insert with conflict detection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Row(RowId),
    /// Nothing was inserted: that row has the key already. It may be gone by the time it is locked
    /// ([`RowLock::Deleted`]): then insert again.
    Conflict {
        index: Oid,
        row: RowId,
    },
}

/// A key of a deferrable unique constraint that was written and not yet looked at.
#[derive(Clone, Debug)]
pub struct UniqueCheck {
    pub table: Oid,
    pub constraint: Oid,
    index: Oid,
    key: Box<[u8]>,
    row: RowId,
}

/// How long an advisory lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvisoryScope {
    Session,
    Transaction,
}

/// A point to roll back to: the n-th open savepoint of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(pub usize);

/// A commit that was accepted; `durable` is ready when its answer may leave.
#[must_use = "the answer may leave only when `durable` is ready"]
#[derive(Debug)]
pub struct Commit {
    /// `None`: nothing was logged.
    pub lsn: Option<Lsn>,
    pub durable: DurableFuture,
}

/// Ready when the log is durable up to a commit and every snapshot from then on sees it. With it go the locks
/// that must not be free earlier; dropping it early waits (only when there are such locks).
pub struct DurableFuture {
    engine: Option<Arc<Inner>>,
    log: Option<wal::DurableFuture>,
    lsn: Lsn,
    owner: u64,
    late: Vec<(LockTag, u8)>,
}

impl fmt::Debug for DurableFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableFuture").field("lsn", &self.lsn).finish()
    }
}

impl DurableFuture {
    pub(crate) fn until(engine: &Arc<Inner>, lsn: Lsn) -> DurableFuture {
        let log = (engine.wal.durable_lsn() < lsn).then(|| engine.wal.wait_durable(lsn));
        DurableFuture { engine: Some(engine.clone()), log, lsn, owner: 0, late: Vec::new() }
    }

    /// [`DurableFuture`], blocking the thread.
    pub fn wait(mut self) -> Result<()> {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let result = engine.wal.wait_durable_blocking(self.lsn);
        engine.wait_applied(self.lsn);
        self.release(&engine);
        result
    }

    fn release(&mut self, engine: &Inner) {
        for (tag, bits) in self.late.drain(..) {
            engine.locks.release(self.owner, &tag, bits);
        }
    }
}

impl Future for DurableFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let Some(engine) = this.engine.clone() else { return Poll::Ready(Ok(())) };
        let mut result = Ok(());
        if let Some(log) = &mut this.log {
            match Pin::new(log).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(done) => {
                    this.log = None;
                    result = done;
                }
            }
        }
        if result.is_ok() && !engine.poll_applied(this.lsn, context.waker()) {
            return Poll::Pending;
        }
        this.release(&engine);
        this.engine = None;
        Poll::Ready(result)
    }
}

impl Drop for DurableFuture {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take()
            && !self.late.is_empty()
        {
            // A failure has sealed the log and speaks for itself on every later commit.
            if engine.wal.wait_durable_blocking(self.lsn).is_ok() {
                engine.wait_applied(self.lsn);
            }
            self.release(&engine);
        }
    }
}

/// A lock to give back at the end, or on the way back to a savepoint.
struct Held {
    tag: LockTag,
    mode: u8,
}

impl Held {
    /// Table locks that let others change the table's rows or definition, and advisory locks: they speak of
    /// more than rows, so they are kept until the commit is durable.
    fn is_late(&self) -> bool {
        match self.tag {
            LockTag::Table(_) => self.mode >= TableLockMode::ShareUpdateExclusive as u8,
            LockTag::Advisory(_) | LockTag::Name { .. } => true,
            LockTag::Row { .. } | LockTag::Key { .. } | LockTag::Transaction { .. } => false,
        }
    }
}

#[derive(Clone)]
struct OwnChange {
    change: Change,
    /// Of the session only.
    temporary: bool,
}

#[derive(Clone, Copy)]
struct Mark {
    undo: usize,
    held: usize,
    changes: usize,
    number: u64,
    /// The last command before it.
    command: CommandId,
}

/// The catalog with the session's temporary objects and the own changes, and what it was made from.
struct Merged {
    published: u64,
    temporary: u64,
    changes: usize,
    outdated: bool,
    catalog: Arc<Catalog>,
}

/// One table's indexes as of one catalog.
struct Indexes {
    table: Oid,
    version: u64,
    columns: usize,
    layout: Arc<RowLayout>,
    list: Arc<[(Arc<Index>, KeyShape)]>,
}

/// A transaction; owned by one session. Dropping it rolls it back.
pub struct Transaction {
    engine: Arc<Inner>,
    session: SessionState,
    id: u64,
    /// When the first lock was asked for; 0 before that.
    age: u64,
    isolation: Isolation,
    read_only: bool,
    command: u32,
    writes: Arc<WriteSet>,
    /// Something was written.
    dirty: bool,
    held: Vec<Held>,
    /// Those on keys of unique indexes.
    held_keys: u64,
    /// Those on rows, about.
    held_rows: u64,
    /// The newest savepoint when row locks were last turned into bits (0 = none), unless it was rolled back to since.
    covering: Option<u64>,
    fixed: Option<Arc<SnapshotPin>>,
    /// SERIALIZABLE and not read-only: what was read, registered for validation with the fixed snapshot.
    reads: Option<Arc<Reads>>,
    changes: Vec<OwnChange>,
    /// Counts changes to `changes`, undone ones too.
    change_count: usize,
    merged: Option<Merged>,
    indexes: Option<Indexes>,
    savepoints: Vec<Mark>,
    /// Counts savepoints.
    savepoint_count: u64,
    /// Row ids taken, by storage.
    rows: HashMap<u32, Own>,
    /// New rows of the running command that are not in the write set.
    staging: Staging,
    /// What went to the base already, with the savepoint it came after.
    pieces: Vec<(PieceFacts, u64)>,
    /// The rows that some of them change.
    changed_rows: OwnChanges,
    /// When to look at the size of the write set again.
    next_look: u64,
    /// When to look again between two statements: some rows stayed because a statement was looking at them.
    retry_at: u64,
    changed: u64,
    /// Of the running statement.
    unique_checks: Vec<UniqueCheck>,
    finished: bool,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("id", &self.id).field("isolation", &self.isolation).finish()
    }
}

impl Transaction {
    pub(crate) fn new(
        engine: Arc<Inner>,
        session: SessionState,
        isolation: Isolation,
        read_only: bool,
    ) -> Transaction {
        let id = engine.new_owner();
        session.0.open.fetch_add(1, Ordering::Relaxed);
        Transaction {
            id,
            age: 0,
            next_look: engine.options.spill_size,
            retry_at: u64::MAX,
            engine,
            session,
            isolation,
            read_only,
            command: 0,
            writes: Arc::new(WriteSet::new(id)),
            dirty: false,
            held: Vec::new(),
            held_keys: 0,
            held_rows: 0,
            covering: None,
            fixed: None,
            reads: None,
            changes: Vec::new(),
            change_count: 0,
            merged: None,
            indexes: None,
            savepoints: Vec::new(),
            savepoint_count: 0,
            rows: HashMap::new(),
            staging: Staging::default(),
            pieces: Vec::new(),
            changed_rows: OwnChanges::default(),
            changed: 0,
            unique_checks: Vec::new(),
            finished: false,
        }
    }

    /// Unique among the transactions since the engine was opened.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// To be set before the first snapshot ([`Transaction::has_snapshot`]).
    pub fn set_isolation(&mut self, isolation: Isolation) {
        self.isolation = isolation;
    }

    /// What `sql` goes by; the engine itself takes writes of any transaction.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Whether a statement took a snapshot already.
    pub fn has_snapshot(&self) -> bool {
        self.command > 0
    }

    /// Whether rows or the catalog were changed.
    pub fn has_writes(&self) -> bool {
        self.dirty || !self.changes.is_empty()
    }

    /// The session this transaction belongs to.
    pub fn session(&self) -> &SessionState {
        &self.session
    }

    // ---- catalog ------------------------------------------------------------------------------------------

    /// The newest published catalog with the session's temporary objects and the own changes, at every
    /// isolation level. Its version is unlike any other's as soon as it differs from the published one.
    pub fn catalog(&mut self) -> Arc<Catalog> {
        let published = self.engine.catalog.load_full();
        let objects = self.session.0.objects.lock();
        let fixed = self.outdated_indexes();
        if self.changes.is_empty() && objects.objects.is_empty() && fixed.is_none() {
            return published;
        }
        if let Some(merged) = &self.merged
            && merged.published == published.version
            && merged.temporary == objects.version
            && merged.changes == self.change_count
            && merged.outdated == fixed.is_some()
        {
            return merged.catalog.clone();
        }
        let mut catalog = (*published).clone();
        // Indexes filled since the snapshot hold nothing of what was before.
        for index in fixed.iter().flat_map(|ts| self.engine.indexes_since(*ts)) {
            if let Some(index) = catalog.index(index).filter(|index| index.state == IndexState::Ready) {
                let hidden = Index { state: IndexState::Hidden, ..(**index).clone() };
                catalog.apply(&Change::Put(Object::Index(Arc::new(hidden))));
            }
        }
        for object in objects.objects.values() {
            catalog.apply(&Change::Put(object.clone()));
        }
        for own in &self.changes {
            catalog.apply(&own.change);
        }
        if self.fixed.is_some() {
            // Nor do those that this transaction has filled, from the newest rows.
            for own in &self.changes {
                if let Change::Put(Object::Index(index)) = &own.change
                    && catalog.index(index.oid).is_some_and(|index| index.state == IndexState::Ready)
                    && published.index(index.oid).is_none_or(|known| known.storage != index.storage)
                    && let Some(table) = published.table(index.table)
                    && catalog.table(index.table).is_some_and(|now| now.storage == table.storage)
                {
                    let hidden = Index { state: IndexState::Hidden, ..(**index).clone() };
                    catalog.apply(&Change::Put(Object::Index(Arc::new(hidden))));
                }
            }
        }
        catalog.version = self.engine.private_version();
        let catalog = Arc::new(catalog);
        self.merged = Some(Merged {
            published: published.version,
            temporary: objects.version,
            changes: self.change_count,
            outdated: fixed.is_some(),
            catalog: catalog.clone(),
        });
        catalog
    }

    /// The fixed snapshot's timestamp, if some index was filled since: it must not be read by that snapshot.
    fn outdated_indexes(&self) -> Option<Lsn> {
        let ts = self.fixed.as_ref()?.ts;
        (ts < self.engine.newest_index()).then_some(ts)
    }

    /// Whether [`Transaction::catalog`] is one that nobody else sees.
    pub fn has_private_catalog(&self) -> bool {
        !self.changes.is_empty() || self.outdated_indexes().is_some()
    }

    /// Changes definitions: seen by the own next [`Transaction::catalog`], published at commit. Temporary
    /// tables, and indexes, views and sequences that belong to them, stay with the session and are not logged.
    pub fn change_catalog(&mut self, changes: Vec<Change>) -> Result<()> {
        for mut change in changes {
            let catalog = self.catalog();
            // Hidden from this transaction only.
            if let Change::Put(Object::Index(index)) = &mut change
                && index.state == IndexState::Hidden
                && self.fixed.is_some()
            {
                let own = self.changes.iter().rev().find_map(|own| match &own.change {
                    Change::Put(Object::Index(own)) if own.oid == index.oid => Some(own.state),
                    _ => None,
                });
                let published = || self.engine.catalog.load().index(index.oid).map(|index| index.state);
                if let Some(state) = own.or_else(published) {
                    Arc::make_mut(index).state = state;
                }
            }
            let temporary_table =
                |oid| catalog.table(oid).is_some_and(|table| table.persistence == Persistence::Temporary);
            let temporary_object = |object: &Object| match object {
                Object::Table(table) => table.persistence == Persistence::Temporary,
                Object::Index(index) => temporary_table(index.table),
                Object::View(view) => view.persistence_temporary,
                Object::Sequence(sequence) => {
                    sequence.owned_by.is_some_and(|(table, _)| temporary_table(table))
                }
                Object::Database(_) | Object::Schema(_) | Object::Role(_) => false,
            };
            let temporary = match &change {
                Change::Put(object) => temporary_object(object),
                Change::Drop(oid) => match catalog.get(*oid) {
                    // A sequence may have been put before the temporary table that owns it.
                    Some(object) => match self.changes.iter().rev().find(|own| match &own.change {
                        Change::Put(put) => put.oid() == *oid,
                        Change::Drop(_) => false,
                    }) {
                        Some(own) => own.temporary,
                        None => temporary_object(object),
                    },
                    None => return Err(Error::internal(format!("drops object {oid}, which does not exist"))),
                },
            };
            self.changes.push(OwnChange { change, temporary });
            self.change_count += 1;
            self.indexes = None;
        }
        Ok(())
    }

    pub fn has_catalog_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How the table's rows are laid out, and its indexes.
    fn indexes_of(&mut self, table: &Table) -> Result<(Arc<RowLayout>, Arc<[(Arc<Index>, KeyShape)]>)> {
        let catalog = self.catalog();
        if let Some(known) = &self.indexes
            && known.table == table.oid
            && known.version == catalog.version
            && known.columns == table.columns.len()
        {
            return Ok((known.layout.clone(), known.list.clone()));
        }
        let maintained = catalog.maintained_indexes(table.oid);
        let list: Arc<[_]> = maintained.map(|index| (index.clone(), KeyShape::of(table, index))).collect();
        let layout = self.engine.layout(table)?;
        self.indexes = Some(Indexes {
            table: table.oid,
            version: catalog.version,
            columns: table.columns.len(),
            layout: layout.clone(),
            list: list.clone(),
        });
        Ok((layout, list))
    }

    // ---- snapshots ----------------------------------------------------------------------------------------

    /// Begins a command and gives what it sees. READ COMMITTED: everything committed up to now, own writes of
    /// earlier commands included; otherwise what the first one saw, plus own writes. `for_writing`: the
    /// statement writes or locks rows, and should see commits that are applied but not yet durable.
    pub fn statement_snapshot(&mut self, for_writing: bool) -> Result<Snapshot> {
        let Some(command) = self.command.checked_add(1) else {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "cannot have more than 2^32-2 commands in a transaction",
            ));
        };
        self.flush_stage()?;
        // Between two statements nobody looks at what the earlier ones have written.
        if self.changed >= self.retry_at {
            self.next_look = 0;
        }
        self.bound()?;
        self.flush_changes()?;
        self.command = command;
        let pin = match &self.fixed {
            Some(pin) => pin.clone(),
            None => {
                let fixed = self.isolation != Isolation::ReadCommitted;
                let newest = for_writing || (fixed && !self.read_only);
                let validated = self.isolation == Isolation::Serializable && !self.read_only;
                let pin = if validated {
                    self.reads = Some(Arc::default());
                    self.engine.validation.begin(|| {
                        let pin = self.pin(newest);
                        (pin.ts, Arc::new(pin))
                    })
                } else {
                    Arc::new(self.pin(newest))
                };
                if fixed {
                    self.fixed = Some(pin.clone());
                }
                pin
            }
        };
        Ok(self.snapshot(pin, CommandId(command)))
    }

    /// Everything applied now, all own writes included: for constraint checks and re-checks. What is read by it is not
    /// validated in SERIALIZABLE: what counts of it is held by locks until the end.
    pub fn latest_snapshot(&mut self) -> Snapshot {
        self.settle_stage();
        let pin = Arc::new(self.pin(true));
        self.snapshot_with(pin, CommandId(u32::MAX), None)
    }

    /// As [`Transaction::latest_snapshot`], for what the transaction finds and does not hold: SERIALIZABLE remembers it as
    /// read now.
    pub fn checking_snapshot(&mut self) -> Snapshot {
        self.settle_stage();
        let pin = Arc::new(self.pin(true));
        self.snapshot_with(pin, CommandId(u32::MAX), self.reads.clone())
    }

    fn pin(&self, newest: bool) -> SnapshotPin {
        let floor = self.session.floor();
        self.engine.wait_applied(floor);
        let engine = &self.engine;
        let early = planted(Bug::PublishBeforeLog);
        let choose = || if newest || early { engine.applied_ts() } else { engine.durable_ts().max(floor) };
        let pin = SnapshotPin::take(engine, choose);
        if !early {
            self.session.0.raise_floor(pin.ts);
        }
        pin
    }

    fn snapshot(&self, pin: Arc<SnapshotPin>, command: CommandId) -> Snapshot {
        self.snapshot_with(pin, command, self.reads.clone())
    }

    fn snapshot_with(
        &self,
        pin: Arc<SnapshotPin>,
        command: CommandId,
        reads: Option<Arc<Reads>>,
    ) -> Snapshot {
        let own = self.dirty.then(|| self.writes.clone());
        if let Some(own) = &own {
            own.enter(command);
        }
        let temporary = self.session.0.rows.clone();
        Snapshot(Arc::new(SnapshotInner { pin, command, own, temporary, reads }), Columns::all())
    }

    /// What the transaction's fixed snapshot sees, with all own writes; `None` in READ COMMITTED, which has none.
    pub fn fixed_snapshot(&self) -> Option<Snapshot> {
        let pin = self.fixed.as_ref()?;
        Some(self.snapshot_with(pin.clone(), CommandId(u32::MAX), None))
    }

    /// 40001 for something that the fixed snapshot shows and that has gone since.
    pub fn outdated(&self) -> Error {
        match self.isolation {
            Isolation::Serializable => validation::failure("Canceled because what it relies on is gone"),
            Isolation::ReadCommitted | Isolation::RepeatableRead => concurrent("update"),
        }
    }

    /// An error for something that the newest state shows, or, in SERIALIZABLE, 40001 in its place when the transaction
    /// has read what was changed since: tried again it may well succeed.
    pub fn or_serialization(&self, error: Error) -> Error {
        let (Some(reads), Some(fixed)) = (&self.reads, &self.fixed) else { return error };
        self.validated(fixed.ts, reads).err().unwrap_or(error)
    }

    /// The newest applied state with all own writes. Not announced: only newest versions may be asked for.
    fn latest<'a>(&'a self, version: &'a SuperVersion) -> View<'a> {
        View {
            version,
            ts: Lsn(u64::MAX),
            command: CommandId(u32::MAX),
            own: self.dirty.then_some(&*self.writes),
            temporary: &self.session.0.rows,
        }
    }

    /// Looks at the newest layers, and again when they were thinned out for old snapshots meanwhile.
    fn with_latest<T>(&self, look: impl Fn(&Arc<SuperVersion>) -> Result<T>) -> Result<T> {
        loop {
            let version = self.engine.version.load_full();
            let found = look(&version);
            if !version.is_thinned() {
                return found;
            }
        }
    }

    /// The answer will depend on commits that may not be durable yet.
    fn depend_on_latest(&self) {
        self.session.0.raise_floor(self.engine.applied_ts());
    }

    // ---- locks --------------------------------------------------------------------------------------------

    fn requester(&mut self, owner: u64) -> Requester {
        if self.age == 0 {
            self.age = self.engine.new_owner();
        }
        self.session.0.requester(owner, self.age)
    }

    /// Takes the lock for this transaction and remembers to give it back, unless it has to be waited for.
    fn try_lock(&mut self, tag: LockTag, mode: u8, wait: Wait) -> Attempt {
        let who = self.requester(self.id);
        let attempt = self.engine.locks.acquire(&who, &tag, mode, wait);
        if let Attempt::Granted(true) = attempt {
            self.hold(tag, mode);
        }
        attempt
    }

    fn hold(&mut self, tag: LockTag, mode: u8) {
        self.held_keys += u64::from(tag.is_key());
        self.held_rows += u64::from(matches!(tag, LockTag::Row { .. }));
        self.held.push(Held { tag, mode });
    }

    /// `false`: somebody else has it and `wait` says not to wait.
    async fn lock(&mut self, tag: LockTag, mode: u8, wait: Wait) -> Result<bool> {
        match self.try_lock(tag.clone(), mode, wait) {
            Attempt::Granted(_) => Ok(true),
            Attempt::Busy => Ok(false),
            Attempt::Wait(future) => {
                future.await?;
                self.hold(tag, mode);
                Ok(true)
            }
        }
    }

    /// Locks a table until the end of the transaction. `false` with [`Wait::Skip`] when it is not free; 55P03
    /// with [`Wait::NoWait`]; 40P01 as a deadlock's victim.
    pub async fn lock_table(&mut self, table: Oid, mode: TableLockMode, wait: Wait) -> Result<bool> {
        if self.lock(LockTag::Table(table), mode as u8, wait).await? {
            return Ok(true);
        }
        if wait == Wait::NoWait {
            let catalog = self.catalog();
            let name = catalog.get(table).map_or("?", Object::name);
            return Err(not_available(&format!("relation \"{name}\"")));
        }
        Ok(false)
    }

    /// Waits until nobody else is about to give that name to a relation of the schema, and keeps it so.
    pub async fn lock_name(&mut self, schema: Oid, name: &str) -> Result<()> {
        self.lock(LockTag::Name { schema, name: name.into() }, EXCLUSIVE, Wait::Block).await.map(|_| ())
    }

    /// Takes an advisory lock; `false` with [`Wait::Skip`] when it is not free.
    pub async fn lock_advisory(
        &mut self,
        key: AdvisoryKey,
        shared: bool,
        scope: AdvisoryScope,
        wait: Wait,
    ) -> Result<bool> {
        let mode = if shared { SHARED } else { EXCLUSIVE };
        let tag = LockTag::Advisory(key);
        let granted = match scope {
            AdvisoryScope::Transaction => self.lock(tag, mode, wait).await?,
            AdvisoryScope::Session => {
                let session = self.session.0.clone();
                let who = self.requester(session.node);
                let granted = match self.engine.locks.acquire(&who, &tag, mode, wait) {
                    Attempt::Granted(_) => true,
                    Attempt::Busy => false,
                    Attempt::Wait(future) => {
                        future.await?;
                        true
                    }
                };
                if granted {
                    session.count_advisory(key, mode);
                }
                granted
            }
        };
        // Who had it before may have committed something that is not durable yet.
        self.depend_on_latest();
        Ok(granted)
    }

    /// Locks a row that `snapshot` saw, waiting as `wait` says, and tells what became of it meanwhile. In
    /// REPEATABLE READ and SERIALIZABLE a row changed since the snapshot is 40001.
    pub async fn lock_row(
        &mut self,
        table: &Table,
        row: RowId,
        mode: RowLockMode,
        wait: Wait,
        snapshot: &Snapshot,
    ) -> Result<RowLock> {
        let touched = match self.own_state(table, row, snapshot) {
            Ok(touched) => touched,
            Err(done) => return Ok(done),
        };
        if table.persistence == Persistence::Temporary {
            return Ok(RowLock::Granted);
        }
        let place = (table.storage, row);
        if !self.cover_row(place, mode) {
            self.cover_rows();
            let tag = LockTag::Row { storage: table.storage, row: row.0 };
            let busy = || match wait {
                Wait::NoWait => Err(not_available(&format!("row in relation \"{}\"", table.name))),
                Wait::Skip | Wait::Block => Ok(RowLock::Skipped),
            };
            loop {
                let mark = self.held.len();
                if !self.lock(tag.clone(), mode as u8, wait).await? {
                    return busy();
                }
                let Some(other) = self.engine.locks.covered_by_other(self.id, place, mode) else { break };
                self.unlock_to(mark);
                if wait != Wait::Block {
                    return busy();
                }
                self.wait_for_end(other).await?;
            }
        }
        if touched { Ok(RowLock::Granted) } else { self.check_locked(table, row, snapshot) }
    }

    /// [`Transaction::lock_row`] without a future; `None` = it would wait.
    pub fn lock_row_now(
        &mut self,
        table: &Table,
        row: RowId,
        mode: RowLockMode,
        snapshot: &Snapshot,
    ) -> Option<Result<RowLock>> {
        let touched = match self.own_state(table, row, snapshot) {
            Ok(touched) => touched,
            Err(done) => return Some(Ok(done)),
        };
        if table.persistence == Persistence::Temporary {
            return Some(Ok(RowLock::Granted));
        }
        let place = (table.storage, row);
        if !self.cover_row(place, mode) {
            self.cover_rows();
            let mark = self.held.len();
            let tag = LockTag::Row { storage: table.storage, row: row.0 };
            match self.try_lock(tag, mode as u8, Wait::Skip) {
                Attempt::Granted(_) => {}
                Attempt::Busy | Attempt::Wait(_) => return None,
            }
            if self.engine.locks.covered_by_other(self.id, place, mode).is_some() {
                self.unlock_to(mark);
                return None;
            }
        }
        Some(if touched { Ok(RowLock::Granted) } else { self.check_locked(table, row, snapshot) })
    }

    /// What the own writes say about locking a row: `Ok(true)` = changed by an earlier command, so nobody else
    /// can have changed it since; `Err` = nothing to lock.
    fn own_state(&self, table: &Table, row: RowId, snapshot: &Snapshot) -> Result<bool, RowLock> {
        if !self.dirty {
            return Ok(false);
        }
        match self.writes.state(table.storage, row) {
            OwnState::Untouched => match self.changed_rows.state(table.storage, row) {
                None => Ok(false),
                Some((last, _)) if last >= snapshot.0.command => Err(RowLock::AlreadyChanged),
                Some((_, true)) => Err(RowLock::Deleted),
                Some((_, false)) => Ok(true),
            },
            OwnState::Touched { command, .. } if command >= snapshot.0.command => {
                Err(RowLock::AlreadyChanged)
            }
            OwnState::Touched { row: None, .. } => Err(RowLock::Deleted),
            OwnState::Touched { inserted: true, .. } => Err(RowLock::Granted),
            OwnState::Touched { .. } => Ok(true),
        }
    }

    /// The lock is held: has the row changed since the snapshot?
    fn check_locked(&mut self, table: &Table, row: RowId, snapshot: &Snapshot) -> Result<RowLock> {
        let seen = &snapshot.0.pin;
        let (version, found) = self
            .with_latest(|version| Ok((version.clone(), version.get(table.storage, row, Lsn(u64::MAX))?)))?;
        let newest = match found {
            Found::Recent(since, _) if since <= seen.ts => return Ok(RowLock::Granted),
            Found::Recent(since, newest) => {
                self.session.0.raise_floor(since);
                newest
            }
            Found::Base(_) if version.applied <= seen.ts => return Ok(RowLock::Granted),
            Found::Base(newest) => {
                // A checkpoint since the snapshot took the timestamps: compare what the snapshot saw.
                self.session.0.raise_floor(version.applied);
                let before = seen.version.get(table.storage, row, seen.ts)?.row();
                if before.as_deref() == newest.as_deref() {
                    return Ok(RowLock::Granted);
                }
                newest
            }
        };
        if self.isolation != Isolation::ReadCommitted && self.fixed.as_ref().is_some_and(|f| f.ts == seen.ts)
        {
            let what = if newest.is_some() { "update" } else { "delete" };
            return Err(concurrent(what));
        }
        match newest {
            Some(bytes) => Ok(RowLock::Moved(Row::new(bytes, self.engine.layout(table)?))),
            None => Ok(RowLock::Deleted),
        }
    }

    // ---- writes -------------------------------------------------------------------------------------------

    /// The command that writes belong to.
    fn writing(&mut self) -> CommandId {
        self.dirty = true;
        CommandId(self.command)
    }

    fn put(
        &mut self,
        table: &Table,
        layout: &Arc<RowLayout>,
        row: RowId,
        base: Option<&RowBytes>,
        image: Option<RowBytes>,
    ) {
        let command = self.writing();
        let target =
            Target { storage: table.storage, layout, temporary: table.persistence == Persistence::Temporary };
        let size = |row: &RowBytes| row.len() as u64;
        self.changed += image.as_ref().map_or(0, size) + base.map_or(0, size) + 160;
        self.writes.write(&target, row, base, command, image, !self.savepoints.is_empty());
    }

    fn put_entry(&mut self, shape: &KeyShape, key: &[u8], row: RowId, live: bool) {
        self.dirty = true;
        self.changed += key.len() as u64 + 128;
        let entry = index::entry(key, row);
        self.writes.write_entry(shape, entry, live, !self.savepoints.is_empty());
    }

    async fn lock_key(&mut self, shape: &KeyShape, key: &[u8]) -> Result<()> {
        if !shape.temporary {
            self.lock(LockTag::Key { index: shape.entries, key: key.into() }, EXCLUSIVE, Wait::Block).await?;
        }
        Ok(())
    }

    /// Locks a key of which no large transaction of somebody else has a row that is neither committed nor gone.
    async fn lock_free_key(&mut self, shape: &KeyShape, layout: &Arc<RowLayout>, key: &[u8]) -> Result<()> {
        loop {
            let mark = self.held.len();
            self.lock_key(shape, key).await?;
            let other = match self.meets_pending(shape, layout, key)? {
                Some(other) => Some(other),
                None => self.meets_leaving(shape, layout, key)?,
            };
            let Some(other) = other else { return Ok(()) };
            // The other may be about to look for this very lock: it does not wait for one that waits for it.
            self.unlock_to(mark);
            self.wait_for_end(other).await?;
        }
    }

    /// Another live row with that key, by the newest state. The key is locked.
    fn holder_of(
        &self,
        shape: &KeyShape,
        layout: &Arc<RowLayout>,
        key: &[u8],
        except: Option<RowId>,
    ) -> Result<Option<(RowId, Row)>> {
        self.with_latest(|version| self.latest(version).find(shape, layout, key, |id| Some(id) != except))
    }

    /// Inserts a row: `row` has a value per column of the table (trailing ones may be missing). Unique keys are
    /// locked and checked, waiting for whoever is inserting or deleting the same key: 23505.
    pub async fn insert(&mut self, table: &Table, row: &[Datum]) -> Result<RowId> {
        if let Some(id) = self.insert_now(table, row)? {
            return Ok(id);
        }
        match self.insert_checked(table, row, None).await? {
            Inserted::Row(id) => Ok(id),
            Inserted::Conflict { .. } => Err(Error::internal("an insert without arbiters met a conflict")),
        }
    }

    /// Whether the running command has inserted so much that [`Transaction::insert_now`] is worth a try.
    pub fn inserts_much(&self) -> bool {
        self.staging.is_much(self.command, &self.engine.options)
    }

    /// [`Transaction::insert`] without a future, for one row of many; `None`: it may have to wait, or the command has not
    /// inserted much yet.
    pub fn insert_now(&mut self, table: &Table, row: &[Datum]) -> Result<Option<RowId>> {
        let (layout, indexes) = self.indexes_of(table)?;
        self.stage(table, row, &layout, &indexes)
    }

    /// Inserts unless a row with the same key exists in one of `arbiters` (unique indexes; empty = all of them).
    /// In REPEATABLE READ a conflict with a row the snapshot cannot see is 40001.
    pub async fn insert_or_conflict(
        &mut self,
        table: &Table,
        row: &[Datum],
        arbiters: &[Oid],
    ) -> Result<Inserted> {
        self.insert_checked(table, row, Some(arbiters)).await
    }

    async fn insert_checked(
        &mut self,
        table: &Table,
        row: &[Datum],
        arbiters: Option<&[Oid]>,
    ) -> Result<Inserted> {
        let (layout, indexes) = self.indexes_of(table)?;
        let mark = self.held.len();
        let mut keys: Vec<Option<Vec<u8>>> = Vec::with_capacity(indexes.len());
        let mut later: Vec<(Oid, Oid, Vec<u8>)> = Vec::new();
        for (index, shape) in indexes.iter() {
            let key = shape.key(row);
            if let Some(key) = &key
                && !may_repeat(shape, index, row)
                && let Some(constraint) = table.deferrable(index.oid)
            {
                if arbiters.is_some_and(|list| list.is_empty() || list.contains(&index.oid)) {
                    return Err(Error::new(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters",
                    )
                    .table(self.catalog().schema(table.schema).map_or("", |s| s.name.as_str()), &*table.name)
                    .constraint(&*index.name));
                }
                later.push((constraint, index.oid, key.clone()));
            } else if let Some(key) = &key
                && !may_repeat(shape, index, row)
            {
                self.lock_free_key(shape, &layout, key).await?;
                if self.has_staged(shape, key) {
                    return Err(index::unique_violation(&self.catalog(), table, index, row));
                }
                if let Some((holder, _)) = self.holder_of(shape, &layout, key, None)? {
                    self.depend_on_latest();
                    self.read_key(shape, key)?;
                    let arbiter = arbiters.is_some_and(|list| list.is_empty() || list.contains(&index.oid));
                    if !arbiter {
                        return Err(index::unique_violation(&self.catalog(), table, index, row));
                    }
                    self.check_visible(table, holder)?;
                    // Nothing was written under the key: others need not wait for this transaction's end.
                    self.unlock_to(mark);
                    return Ok(Inserted::Conflict { index: index.oid, row: holder });
                }
            }
            keys.push(key);
        }
        let mut bytes = Vec::with_capacity(64);
        row::encode(&layout, row, &mut bytes)?;
        let id = self.new_row(table);
        self.put(table, &layout, id, None, Some(bytes.into()));
        self.check_later(table, id, later);
        for ((_, shape), key) in indexes.iter().zip(&keys) {
            if let Some(key) = key {
                self.put_entry(shape, key, id, true);
            }
        }
        self.bound()?;
        Ok(Inserted::Row(id))
    }

    fn new_row(&mut self, table: &Table) -> RowId {
        let (engine, storage) = (&self.engine, table.storage);
        if table.persistence == Persistence::Temporary {
            return engine.new_row(storage);
        }
        let own = self.rows.entry(storage).or_default();
        let (single, group) = (|| engine.new_row(storage), || engine.new_group(storage));
        let large = self.changed >= engine.options.spill_size / 2;
        own.next(self.savepoint_count, large, single, group, engine.options.spill_group)
    }

    fn check_later(&mut self, table: &Table, row: RowId, keys: Vec<(Oid, Oid, Vec<u8>)>) {
        self.unique_checks.extend(keys.into_iter().map(|(constraint, index, key)| UniqueCheck {
            table: table.oid,
            constraint,
            index,
            key: key.into(),
            row,
        }));
    }

    /// Keys of deferrable unique constraints that were written since the last call: for [`Transaction::check_unique`], at
    /// the end of the statement or at the commit.
    pub fn take_unique_checks(&mut self) -> Vec<UniqueCheck> {
        std::mem::take(&mut self.unique_checks)
    }

    /// Whether a key that was written is the only one of its kind, if its row still has it; waits for others that are
    /// about to write or remove it. 23505.
    pub async fn check_unique(&mut self, check: &UniqueCheck) -> Result<()> {
        let catalog = self.catalog();
        let (Some(table), Some(index)) = (catalog.table(check.table), catalog.index(check.index)) else {
            return Ok(());
        };
        let shape = KeyShape::of(table, index);
        let layout = self.engine.layout(table)?;
        self.lock_free_key(&shape, &layout, &check.key).await?;
        let own = self.with_latest(|version| {
            self.latest(version).find(&shape, &layout, &check.key, |id| id == check.row)
        })?;
        let Some((_, row)) = own else { return Ok(()) };
        if self.holder_of(&shape, &layout, &check.key, Some(check.row))?.is_some() {
            self.depend_on_latest();
            self.read_key(&shape, &check.key)?;
            return Err(index::unique_violation(&catalog, table, index, &row));
        }
        Ok(())
    }

    /// SERIALIZABLE: a unique key, whose lock is held, was found to be there, which is an answer like any other. (That a
    /// key is not there is held by its lock.) 40001 when the transaction has read already what somebody has changed
    /// since, as the key itself.
    fn read_key(&self, shape: &KeyShape, key: &[u8]) -> Result<()> {
        let (Some(reads), Some(fixed)) = (&self.reads, &self.fixed) else { return Ok(()) };
        self.validated(fixed.ts, reads)?;
        reads.key(self.engine.applied_ts(), shape.entries, key);
        Ok(())
    }

    /// ON CONFLICT under a fixed snapshot must not act on a row it cannot see.
    fn check_visible(&self, table: &Table, row: RowId) -> Result<()> {
        let Some(fixed) = &self.fixed else { return Ok(()) };
        let own = Viewer { owner: self.id, command: CommandId(u32::MAX) };
        if let Some(landed) = self.writes.landed()
            && self.engine.bulk.has_put(&landed, (table.storage, row.group()), own)
        {
            return Ok(());
        }
        if self.dirty
            && (!matches!(self.writes.state(table.storage, row), OwnState::Untouched)
                || self.changed_rows.state(table.storage, row).is_some())
        {
            return Ok(());
        }
        match fixed.version.get(table.storage, row, fixed.ts)?.row() {
            Some(_) => Ok(()),
            None => Err(concurrent("update")),
        }
    }

    /// Replaces a row. The caller holds its lock ([`Transaction::lock_row`]); `old` is the version it locked,
    /// `new` has a value per column. Only indexes whose key changes are touched; new unique keys are locked and
    /// checked: 23505.
    pub async fn update(&mut self, table: &Table, row: RowId, old: &Row, new: &[Datum]) -> Result<()> {
        let (layout, indexes) = self.indexes_of(table)?;
        // Hidden columns that came after this version of the table are to be computed anew.
        let known = new.len();
        let wider = row::column_count(old.bytes()).filter(|count| *count > known).map(|count| {
            let mut values = new.to_vec();
            values.resize(count, Datum::Null);
            values
        });
        let new = wider.as_deref().unwrap_or(new);
        let mut moves: Vec<(usize, Option<Vec<u8>>, Option<Vec<u8>>)> = Vec::new();
        let mut later: Vec<(Oid, Oid, Vec<u8>)> = Vec::new();
        for (place, (index, shape)) in indexes.iter().enumerate() {
            let (before, after) = (shape.key(old), shape.key(new));
            if before == after {
                continue;
            }
            if let Some(key) = &before
                && !may_repeat(shape, index, old)
            {
                self.leave_key(shape, key, (table.storage, row)).await?;
            }
            if let Some(key) = &after
                && !may_repeat(shape, index, new)
                && let Some(constraint) = table.deferrable(index.oid)
            {
                later.push((constraint, index.oid, key.clone()));
            } else if let Some(key) = &after
                && !may_repeat(shape, index, new)
            {
                self.lock_free_key(shape, &layout, key).await?;
                if self.has_staged(shape, key) || self.holder_of(shape, &layout, key, Some(row))?.is_some() {
                    self.depend_on_latest();
                    self.read_key(shape, key)?;
                    return Err(index::unique_violation(&self.catalog(), table, index, new));
                }
            }
            moves.push((place, before, after));
        }
        let mut bytes = Vec::with_capacity(old.bytes().len() + 16);
        row::encode(&layout, new, &mut bytes)?;
        self.put(table, &layout, row, Some(old.shared()), Some(bytes.into()));
        self.check_later(table, row, later);
        for (place, before, after) in moves {
            let shape = &indexes[place].1;
            if let Some(key) = before {
                self.put_entry(shape, &key, row, false);
            }
            if let Some(key) = after {
                self.put_entry(shape, &key, row, true);
            }
        }
        self.bound()
    }

    /// Deletes a row. The caller holds its lock; `old` is the version it locked.
    pub async fn delete(&mut self, table: &Table, row: RowId, old: &Row) -> Result<()> {
        let (layout, indexes) = self.indexes_of(table)?;
        let mut keys = Vec::with_capacity(indexes.len());
        for (index, shape) in indexes.iter() {
            let key = shape.key(old);
            if let Some(key) = &key
                && !may_repeat(shape, index, old)
            {
                self.leave_key(shape, key, (table.storage, row)).await?;
            }
            keys.push(key);
        }
        self.put(table, &layout, row, Some(old.shared()), None);
        for ((_, shape), key) in indexes.iter().zip(&keys) {
            if let Some(key) = key {
                self.put_entry(shape, key, row, false);
            }
        }
        self.bound()
    }

    /// Fills an index of the own catalog from the table's rows, which the caller has locked against writers
    /// (SHARE). Blocks the thread for as long as it takes; `stop` is asked often, and its error ends the work. 23505 when a
    /// unique key occurs twice.
    pub fn build_index(&mut self, index: &Index, stop: &dyn Fn() -> Result<()>) -> Result<()> {
        let catalog = self.catalog();
        let Some(table) = catalog.table(index.table).cloned() else {
            return Err(Error::internal(format!("index \"{}\" is on no table", index.name)));
        };
        let shape = KeyShape::of(&table, index);
        let snapshot = self.latest_snapshot();
        let mut scan = snapshot.scan(&table, None)?;
        let mut batch = RowBatch::new();
        // Entries with whether the key may occur again.
        let mut entries: Vec<(Box<[u8]>, bool)> = Vec::new();
        while scan.next(&mut batch)? {
            stop()?;
            for (id, row) in batch.ids.iter().zip(&batch.rows) {
                if let Some(key) = shape.key(row) {
                    entries.push((index::entry(&key, *id), may_repeat(&shape, index, row)));
                }
            }
        }
        entries.sort_unstable();
        stop()?;
        if index.unique {
            for pair in entries.windows(2) {
                let (key, id) = index::split(&pair[0].0);
                if !pair[0].1 && key == index::split(&pair[1].0).0 {
                    let row = snapshot.get(&table, id)?;
                    let row = row.ok_or_else(|| Error::internal("an indexed row is gone"))?;
                    return Err(index::duplicated(&catalog, &table, index, &row));
                }
            }
        }
        drop(snapshot);
        self.dirty = true;
        let entries = entries.into_iter().map(|(entry, _)| entry).collect();
        self.writes.write_built(index.storage, shape.temporary, entries, !self.savepoints.is_empty());
        Ok(())
    }

    // ---- sequences ----------------------------------------------------------------------------------------

    /// The next number; never given twice, also not after a crash or a rollback. 2200H at the end.
    pub fn sequence_next(&mut self, sequence: &Sequence) -> Result<i64> {
        let (value, lsn) = self.engine.sequences.next(&self.engine, sequence)?;
        self.session.0.raise_floor(lsn);
        Ok(value)
    }

    /// `setval`: at once and for everybody, also if this transaction rolls back.
    pub fn sequence_set(&mut self, sequence: &Sequence, value: i64, is_called: bool) -> Result<()> {
        let lsn = self.engine.sequences.set(&self.engine, sequence, value, is_called)?;
        self.session.0.raise_floor(lsn);
        Ok(())
    }

    /// `last_value` and `is_called`.
    pub fn sequence_state(&self, sequence: &Sequence) -> (i64, bool) {
        self.engine.sequences.current(&self.engine, sequence)
    }

    // ---- savepoints ---------------------------------------------------------------------------------------

    /// Opens a savepoint inside those that are open.
    pub fn savepoint(&mut self) -> Savepoint {
        self.settle_stage();
        self.savepoint_count += 1;
        let mark = Mark {
            undo: self.writes.mark(),
            held: self.held.len(),
            changes: self.changes.len(),
            number: self.savepoint_count,
            command: CommandId(self.command),
        };
        self.savepoints.push(mark);
        Savepoint(self.savepoints.len() - 1)
    }

    /// Undoes everything since the savepoint and releases the locks taken since. Later savepoints are gone; this
    /// one stays open.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        let Some(mark) = self.savepoints.get(savepoint.0).copied() else { return };
        self.savepoints.truncate(savepoint.0 + 1);
        self.drop_stage();
        self.writes.rollback(mark.undo);
        self.remember_spilled(mark.number);
        let bulk = &self.engine.bulk;
        self.pieces.retain(|(piece, savepoint)| {
            let stays = *savepoint < mark.number;
            if !stays {
                bulk.abort(piece.id);
            }
            stays
        });
        if !self.changed_rows.is_empty() {
            let pieces = &self.pieces;
            self.changed_rows.keep(|id| pieces.iter().any(|(piece, _)| piece.id == id));
        }
        if self.changes.len() > mark.changes {
            self.abandon_sequences(mark.changes);
            self.changes.truncate(mark.changes);
            self.change_count += 1;
            self.indexes = None;
        }
        self.remember_released(mark.held);
        self.covering = None;
        self.unlock_to(mark.held);
    }

    /// Forgets where sequences have come to that were made or begun anew by changes from there on, which are rolled back.
    fn abandon_sequences(&self, mark: usize) {
        let sequence = |own: &OwnChange| match &own.change {
            Change::Put(Object::Sequence(sequence)) => Some(sequence.clone()),
            _ => None,
        };
        let (kept, undone) = self.changes.split_at(mark);
        for gone in undone.iter().filter_map(sequence) {
            let same = |kept: Arc<Sequence>| kept.oid == gone.oid && kept.generation == gone.generation;
            if !kept.iter().filter_map(sequence).any(same) {
                self.engine.sequences.abandon(&gone);
            }
        }
    }

    /// SERIALIZABLE: what constraint checks have found and locks have held so far (a key that was free, a row that is
    /// referred to) was read, when rolling back to a savepoint gives the locks back.
    fn remember_released(&self, mark: usize) {
        let Some(reads) = &self.reads else { return };
        let now = self.engine.applied_ts();
        for held in &self.held[mark..] {
            match &held.tag {
                LockTag::Key { index, key } => reads.key(now, *index, key),
                LockTag::Row { storage, row } if held.mode == RowLockMode::KeyShare as u8 => {
                    reads.row(now, *storage, RowId(*row), &Columns::all());
                }
                LockTag::Transaction { owner, savepoint } => {
                    // Of the rows locked as bits nobody knows any more which were only referred to.
                    for storage in self.engine.locks.covered_tables(*owner, *savepoint) {
                        reads.table(now, storage, None, &Columns::all());
                    }
                }
                _ => {}
            }
        }
    }

    /// The same for the keys of rows that were put into the base since the savepoint of that number, which are not locked
    /// one by one any more.
    fn remember_spilled(&self, savepoint: u64) {
        let Some(reads) = &self.reads else { return };
        let now = self.engine.applied_ts();
        let version = self.engine.version.load();
        let pending = &version.base.meta().pending;
        let undone = self.pieces.iter().filter(|(_, number)| *number >= savepoint);
        let indexes = undone.filter_map(|(piece, _)| pending.get(&piece.id)).flat_map(|piece| &piece.indexes);
        for index in indexes {
            reads.range(now, *index, (Bound::Unbounded, Bound::Unbounded));
        }
    }

    /// Forgets the savepoint and later ones; what was done since stays.
    pub fn release(&mut self, savepoint: Savepoint) {
        self.savepoints.truncate(savepoint.0);
        if self.savepoints.is_empty() {
            self.writes.forget_undo();
        }
    }

    fn unlock_to(&mut self, mark: usize) {
        for held in self.held.drain(mark..).rev() {
            self.held_keys -= u64::from(held.tag.is_key());
            if let LockTag::Row { .. } = held.tag {
                self.held_rows = self.held_rows.saturating_sub(1);
            }
            self.engine.locks.release(self.id, &held.tag, 1 << held.mode);
        }
    }

    // ---- end ----------------------------------------------------------------------------------------------

    /// Makes everything permanent. When it returns, others see it; the client may be told when
    /// [`Commit::durable`] is ready. With catalog changes it waits for durability itself, since only then they
    /// are published. An error means that nothing happened (53100: the log has no room; 58030: it is sealed).
    pub fn commit(mut self) -> Result<Commit> {
        let engine = self.engine.clone();
        if !self.changes.is_empty() {
            // It waits for its turn, and for the disk.
            engine.aside(|| engine.with_ddl(|| self.commit_inner()))
        } else if self.writes.memory() >= LARGE {
            engine.aside(|| self.commit_inner())
        } else {
            self.commit_inner()
        }
    }

    fn commit_inner(&mut self) -> Result<Commit> {
        self.flush_stage()?;
        let writes = self.writes.clone();
        let sets = writes.read();
        // Rows of tables that this transaction has dropped or truncated again need no log.
        let live = (!self.changes.is_empty()).then(|| live_storages(&self.catalog()));
        let lives = |storage: u32| live.as_ref().is_none_or(|live| live.contains(&storage));
        let published: Vec<Change> =
            self.changes.iter().filter(|own| !own.temporary).map(|own| own.change.clone()).collect();
        let mut record = RecordBuilder::new();
        let mut counters: Vec<(Oid, SequenceValue)> = Vec::new();
        if !published.is_empty() {
            let (oid, storage) = self.engine.new_ids();
            record.next_ids(oid, storage);
            for change in &published {
                record.catalog(change)?;
                if let Change::Put(Object::Sequence(sequence)) = change
                    && let Some(value) = self.engine.sequences.own(sequence)
                {
                    record.sequence(sequence.oid, value);
                    counters.push((sequence.oid, value));
                }
            }
        }
        let pieces = std::mem::take(&mut self.pieces);
        let (published_pieces, useless): (Vec<_>, Vec<_>) =
            pieces.into_iter().map(|(piece, _)| piece).partition(|piece| lives(piece.storage));
        for piece in useless {
            self.engine.bulk.abort(piece.id);
        }
        // Until the log has them they are to be taken back.
        self.pieces = published_pieces.iter().map(|piece| (*piece, 0)).collect();
        for piece in &published_pieces {
            record.publish(piece.id, piece.storage, piece.rows);
        }
        if self.dirty {
            encode_rows(&sets, &mut record, &lives)?;
        }
        let entries_only =
            sets.indexes.iter().any(|(s, own)| !own.temporary && lives(*s) && !own.entries.is_empty());
        let lsn = if record.is_empty() && !entries_only {
            None
        } else {
            let room =
                self.engine.admit(sets.cost(), self.gives_room(sets.bytes.max(record.len() as u64)))?;
            let log = || {
                self.engine.log_commit(record.finish(), self.id, |unsaved| {
                    unsaved.catalog.extend(published.iter().cloned());
                    unsaved.sequences.extend(counters.iter().map(|(oid, value)| (*oid, Some(*value))));
                    unsaved.published.extend(published_pieces.iter().map(|piece| piece.id));
                })
            };
            let (lsn, memtable) = match (&self.reads, &self.fixed) {
                (Some(reads), Some(fixed)) => {
                    let is_hit = |lsn, writes: &WriteSet| reads.is_hit(lsn, writes);
                    self.engine.validation.commit(fixed.ts, (&writes, sets.memory()), is_hit, log)?
                }
                _ => log()?,
            };
            self.finished = true;
            self.pieces.clear();
            let guard = AbortOnUnwind;
            for piece in &published_pieces {
                self.engine.bulk.commit(piece.id, lsn);
                let horizon = Horizon::newest_only();
                memtable.table_writer(piece.storage, lsn, &horizon).count(piece.rows);
            }
            apply(&self.engine, &sets, lsn, &memtable, &lives);
            std::mem::forget(guard);
            drop(room);
            let early = take_locks(&mut self.held, |tag| {
                matches!(tag, LockTag::Row { .. } | LockTag::Key { .. } | LockTag::Transaction { .. })
            });
            self.engine.finish(lsn, &memtable, early);
            self.session.0.raise_floor(lsn);
            Some(lsn)
        };
        self.finished = true;
        self.commit_temporary(&sets);
        drop(sets);
        let late: Vec<(LockTag, u8)> = {
            // Whoever waited for a table is to find the definitions that were made with it, also by its weakest lock.
            let defines = !published.is_empty();
            let is_late = |held: &Held| held.is_late() || (defines && matches!(held.tag, LockTag::Table(_)));
            let (late, rest): (Vec<Held>, Vec<Held>) = self.held.drain(..).partition(is_late);
            // With nothing logged there is nothing for others to see too early.
            let (late, rest) = if lsn.is_some() {
                (late, rest)
            } else {
                (Vec::new(), [late, rest].into_iter().flatten().collect())
            };
            for held in rest.into_iter().rev() {
                self.engine.locks.release(self.id, &held.tag, 1 << held.mode);
            }
            late.into_iter().map(|held| (held.tag, 1 << held.mode)).collect()
        };
        self.end_validation();
        self.fixed = None;
        let floor = self.session.floor();
        let mut durable = DurableFuture::until(&self.engine, floor);
        durable.owner = self.id;
        durable.late = late;
        if let Some(lsn) = lsn
            && !published.is_empty()
        {
            self.engine.wal.wait_durable_blocking(lsn)?;
            self.engine.wait_applied(lsn);
            self.engine.publish(lsn, &published);
        }
        Ok(Commit { lsn, durable })
    }

    /// Whether it does little but drop or empty things.
    fn gives_room(&self, bytes: u64) -> bool {
        let catalog = self.engine.catalog.load();
        let gives = |own: &OwnChange| match &own.change {
            Change::Drop(_) => true,
            Change::Put(Object::Table(table)) => {
                catalog.table(table.oid).is_some_and(|old| old.storage != table.storage)
            }
            Change::Put(_) => false,
        };
        bytes < SMALL && self.changes.iter().any(gives)
    }

    /// Temporary objects and rows go to the session.
    fn commit_temporary(&self, sets: &Sets) {
        let session = &self.session.0;
        if self.changes.iter().any(|own| own.temporary) {
            let mut state = session.objects.lock();
            for own in self.changes.iter().filter(|own| own.temporary) {
                let replaced = match &own.change {
                    Change::Put(object) => state.objects.insert(object.oid(), object.clone()),
                    Change::Drop(oid) => state.objects.remove(oid),
                };
                let current = match &own.change {
                    Change::Put(object) => object.storage(),
                    Change::Drop(_) => None,
                };
                if let Some(old) = replaced.as_ref().and_then(Object::storage)
                    && Some(old) != current
                {
                    session.rows.forget(old);
                }
            }
            state.version += 1;
        }
        let horizon = Horizon::newest_only();
        for (storage, own) in sets.tables.iter().filter(|(_, own)| own.temporary) {
            let mut writer = session.rows.table_writer(*storage, Lsn(0), &horizon);
            for (group, rows) in &own.groups {
                for (offset, row) in rows {
                    writer.count(i64::from(row.newest.row.is_some()) - i64::from(row.base.is_some()));
                    writer.put(RowId::at(*group, *offset), row.newest.row.clone());
                }
            }
        }
        for (storage, own) in sets.indexes.iter().filter(|(_, own)| own.temporary) {
            session.rows.write_index(*storage, Lsn(0), Lsn(u64::MAX), own.outcomes());
        }
    }

    /// SERIALIZABLE: whether the transaction could commit as things stand; 40001 early is better than at the end. Does
    /// nothing for one that has written nothing, which never fails.
    pub fn validate(&self) -> Result<()> {
        match (&self.reads, &self.fixed) {
            (Some(reads), Some(fixed)) if self.dirty => self.validated(fixed.ts, reads),
            _ => Ok(()),
        }
    }

    /// 40001 when somebody has committed a change of what was read.
    fn validated(&self, snapshot: Lsn, reads: &Reads) -> Result<()> {
        self.engine.validation.check(snapshot, |lsn, writes| reads.is_hit(lsn, writes))
    }

    /// Undoes everything. The error or result that told the client may leave when
    /// [`SessionState::settled`] is ready.
    pub fn rollback(mut self) {
        self.undo();
    }

    fn end_validation(&mut self) {
        if let (Some(_), Some(fixed)) = (self.reads.take(), &self.fixed) {
            self.engine.validation.end(fixed.ts, self.engine.applied_ts());
        }
    }

    fn undo(&mut self) {
        self.end_validation();
        self.drop_stage();
        for (piece, _) in std::mem::take(&mut self.pieces) {
            self.engine.bulk.abort(piece.id);
        }
        if !self.finished {
            self.finished = true;
            self.abandon_sequences(0);
            self.unlock_to(0);
            if self.has_writes() {
                self.engine.metrics.rollbacks.increment();
            }
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.undo();
        // Only after a commit that failed half-way, when the log is sealed.
        self.unlock_to(0);
        self.session.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The log has accepted a commit that is only half applied: nobody may see that, and later commits would wait
/// for it for ever. Starting again replays it whole.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        tracing::error!("a commit could not be applied; stopping so that it is replayed from the log");
        std::process::abort();
    }
}

/// 40001: the transaction's snapshot is too old for what it wants to do.
pub fn concurrent(what: &str) -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        format!("could not serialize access due to concurrent {what}"),
    )
}

fn take_locks(held: &mut Vec<Held>, which: impl Fn(&LockTag) -> bool) -> Vec<(LockTag, u8)> {
    let (taken, rest): (Vec<Held>, Vec<Held>) = held.drain(..).partition(|held| which(&held.tag));
    *held = rest;
    taken.into_iter().map(|held| (held.tag, 1 << held.mode)).collect()
}

fn live_storages(catalog: &Catalog) -> std::collections::HashSet<u32> {
    catalog.objects().filter_map(Object::storage).collect()
}

/// The redo image: for an update only the columns that changed.
fn encode_rows(sets: &Sets, record: &mut RecordBuilder, lives: &impl Fn(u32) -> bool) -> Result<()> {
    let mut patch = Vec::new();
    for (storage, own) in sets.tables.iter().filter(|(storage, own)| !own.temporary && lives(**storage)) {
        for (group, rows) in &own.groups {
            for (offset, row) in rows {
                let id = RowId::at(*group, *offset);
                match (&row.base, &row.newest.row) {
                    (None, None) => {}
                    (None, Some(new)) => record.insert(*storage, id, new),
                    (Some(_), None) => record.delete(*storage, id),
                    (Some(old), Some(new)) => {
                        patch.clear();
                        row::encode_patch(&own.layout, old, new, &mut patch)?;
                        record.update(*storage, id, &patch);
                    }
                }
            }
        }
    }
    // Replay does not look at old rows: it is told which entries they had.
    for (storage, own) in &sets.indexes {
        if own.temporary || own.built || !lives(*storage) {
            continue;
        }
        for (entry, live) in own.outcomes() {
            let (_, id) = index::split(entry);
            if sets.row(own.rows, id).is_some_and(|row| row.base.is_some()) {
                record.entry(*storage, entry, live);
            }
        }
    }
    Ok(())
}

/// Brings a logged commit into the memtable it was given.
fn apply(engine: &Inner, sets: &Sets, lsn: Lsn, memtable: &Memtable, lives: &impl Fn(u32) -> bool) {
    let horizon = Horizon::of(engine);
    for (storage, own) in sets.tables.iter().filter(|(storage, own)| !own.temporary && lives(**storage)) {
        let mut writer = memtable.table_writer(*storage, lsn, &horizon);
        let mut count = 0;
        for (group, rows) in &own.groups {
            for (offset, row) in rows {
                if row.base.is_none() && row.newest.row.is_none() {
                    continue;
                }
                count += i64::from(row.newest.row.is_some()) - i64::from(row.base.is_some());
                writer.put(RowId::at(*group, *offset), row.newest.row.clone());
            }
        }
        writer.count(count);
    }
    for (storage, own) in sets.indexes.iter().filter(|(storage, own)| !own.temporary && lives(**storage)) {
        if own.entries.is_empty() || (planted(Bug::ForgetIndexEntry) && lsn.0.is_multiple_of(8)) {
            continue;
        }
        if own.built {
            memtable.note_built(*storage);
        }
        memtable.write_index(*storage, lsn, horizon.safe(), own.outcomes());
    }
}
