//! The engine as a whole: opening and recovery, the commit pipeline, checkpoints, closing.
//!
//! The hard idea is the commit pipeline. One short mutex gives a commit its LSN, its place in the log's queue
//! and its memtable; the changes are applied outside of it, by many commits at once; a queue in LSN order then
//! moves `applied` over the prefix that is done. Whoever moves it releases the row and key locks of every
//! commit it passed, so that a lock is never free before its holder's changes can be seen. The same mutex
//! switches memtables, so that a checkpoint's boundary X falls between two commits.
//!
//! Order of mutexes: `checkpointing`, then `ddl`, then `pipeline`; the lock table's are never held with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::path::PathBuf;
use std::task::Waker;
use std::time::{Duration, Instant};

use value::{Error, Oid, Result, SqlState};

use crate::base::{Base, BaseOptions, CheckpointInput, IndexChange, RowChange, StorageState};
use crate::catalog::{Catalog, Change, FIRST_USER_OID, Index, Object, Table};
use crate::disk::{Directory, Disk, RealDisk};
use crate::ids::{GROUP_ROWS, Isolation, Lsn, RowId};
use crate::index::{self, KeyShape};
use crate::lock::{AdvisoryKey, EXCLUSIVE, LockManager, LockTag, Requester, SHARED};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::row::{self, Row, RowBytes, RowLayout};
use crate::sequence::Sequences;
use crate::serializable::Validation;
use crate::snapshot::{Horizon, Registry, Snapshot, SuperVersion};
use crate::statistics::TableStatistics;
use crate::sync::{
    Arc, ArcSwap, AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, Ordering, RwLock, Weak, thread,
};
use crate::transaction::{DurableFuture, Transaction};
use crate::wal::record::{Op, RecordBuilder, SequenceValue, decode};
use crate::wal::{Wal, WalOptions};

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `base/` and `wal/`; made when missing.
    pub directory: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// Bytes of memory for pages and blocks of the base.
    pub buffer_pool_size: u64,
    /// Bytes of memtable after which a checkpoint begins. At twice that, commits are slowed down.
    pub memtable_size: u64,
    pub wal_segment_size: u64,
    pub checkpoint_interval: Duration,
    pub checkpoint_wal_bytes: u64,
    /// `false`: log batches are written, not synced; a crash of the machine may lose acknowledged commits.
    pub synchronous: bool,
    /// No checkpointer thread: checkpoints happen only when asked for (tests, tools).
    pub manual_checkpoints: bool,
}

impl Options {
    /// The real disk and the defaults.
    pub fn new(directory: impl Into<PathBuf>) -> Options {
        Options {
            directory: directory.into(),
            disk: RealDisk::new(),
            buffer_pool_size: 256 << 20,
            memtable_size: 256 << 20,
            wal_segment_size: 100 << 20,
            checkpoint_interval: Duration::from_secs(30),
            checkpoint_wal_bytes: 256 << 20,
            synchronous: true,
            manual_checkpoints: false,
        }
    }
}

/// What outlives a transaction within a session: the floor below which its snapshots never go, its temporary
/// objects and their rows, its session-level advisory locks. One per session; clones share it.
#[derive(Clone)]
pub struct SessionState(pub(crate) Arc<SessionInner>);

pub(crate) struct SessionInner {
    pub(crate) node: u64,
    pub(crate) pid: i32,
    pub(crate) database: Oid,
    pub(crate) floor: AtomicU64,
    /// Milliseconds; chooses the victim of a deadlock.
    pub(crate) deadlock_timeout: AtomicU32,
    /// Rows of temporary tables: newest state only.
    pub(crate) rows: Arc<Memtable>,
    pub(crate) objects: Mutex<TemporaryObjects>,
    advisory: Mutex<HashMap<(AdvisoryKey, u8), u32>>,
    engine: Arc<Inner>,
}

#[derive(Default)]
pub(crate) struct TemporaryObjects {
    /// Changes with the set: part of the key of merged catalogs.
    pub(crate) version: u64,
    pub(crate) objects: BTreeMap<Oid, Object>,
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState").field("pid", &self.0.pid).finish()
    }
}

impl SessionState {
    /// Temporary tables, their indexes, views and sequences, by oid.
    pub fn temporary_objects(&self) -> Vec<Object> {
        self.0.objects.lock().objects.values().cloned().collect()
    }

    /// Sets `deadlock_timeout` (milliseconds). Deadlocks are found at once; of the sessions in one, the session with the
    /// smallest value is the victim, as it would be the one that looks first in PostgreSQL.
    pub fn set_deadlock_timeout(&self, milliseconds: u32) {
        self.0.deadlock_timeout.store(milliseconds, Ordering::Relaxed);
    }

    /// Every commit up to this one is part of what the session was told.
    pub fn floor(&self) -> Lsn {
        Lsn(self.0.floor.load(Ordering::Acquire))
    }

    /// Ready when everything the session saw is durable: an error or a result may leave then.
    pub fn settled(&self) -> DurableFuture {
        DurableFuture::until(&self.0.engine, self.floor())
    }

    /// Gives back one hold of a session-level advisory lock; `false` when the session has none (a warning in SQL).
    pub fn unlock_advisory(&self, key: AdvisoryKey, shared: bool) -> bool {
        let mode = if shared { SHARED } else { EXCLUSIVE };
        {
            let mut held = self.0.advisory.lock();
            let Some(count) = held.get_mut(&(key, mode)) else { return false };
            *count -= 1;
            if *count > 0 {
                return true;
            }
            held.remove(&(key, mode));
        }
        self.0.engine.locks.release(self.0.node, &LockTag::Advisory(key), 1 << mode);
        true
    }

    /// Gives back all session-level advisory locks.
    pub fn unlock_all_advisory(&self) {
        self.0.unlock_all();
    }
}

impl SessionInner {
    fn unlock_all(&self) {
        let held = std::mem::take(&mut *self.advisory.lock());
        for (key, mode) in held.into_keys() {
            self.engine.locks.release(self.node, &LockTag::Advisory(key), 1 << mode);
        }
    }

    pub(crate) fn count_advisory(&self, key: AdvisoryKey, mode: u8) {
        *self.advisory.lock().entry((key, mode)).or_insert(0) += 1;
    }

    pub(crate) fn raise_floor(&self, to: Lsn) {
        self.floor.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Who asks for a lock: `owner` is the transaction, or the session's node for locks that outlive it.
    pub(crate) fn requester(&self, owner: u64, age: u64) -> Requester {
        let deadlock_timeout = self.deadlock_timeout.load(Ordering::Relaxed);
        Requester { owner, node: self.node, pid: self.pid, database: self.database, age, deadlock_timeout }
    }
}

impl Drop for SessionInner {
    fn drop(&mut self) {
        self.unlock_all();
    }
}

/// What the base does not know yet and memtables do not hold.
#[derive(Default)]
pub(crate) struct Unsaved {
    pub(crate) catalog: Vec<Change>,
    pub(crate) sequences: BTreeMap<Oid, Option<SequenceValue>>,
    pub(crate) statistics: BTreeMap<Oid, Option<Vec<u8>>>,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.catalog.is_empty() && self.sequences.is_empty() && self.statistics.is_empty()
    }
}

/// A frozen memtable on its way into the base.
struct Generation {
    memtable: Arc<Memtable>,
    applied: Lsn,
    unsaved: Unsaved,
}

/// Held by whoever makes a checkpoint.
#[derive(Default)]
struct Checkpointing {
    /// The catalog as of the base.
    saved: Catalog,
    /// Frozen, oldest first; more than one only after a checkpoint failed.
    pending: VecDeque<Generation>,
    wal_bytes: u64,
}

/// Wakes the checkpointer thread.
#[derive(Default)]
struct Signal {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Signal {
    fn request(&self) {
        self.state.lock().0 = true;
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wal: Wal,
    pub(crate) version: ArcSwap<SuperVersion>,
    pub(crate) registry: Registry,
    pub(crate) locks: Arc<LockManager>,
    pub(crate) catalog: ArcSwap<Catalog>,
    pub(crate) sequences: Sequences,
    pub(crate) validation: Validation,
    pipeline: Pipeline<Unsaved>,
    /// Transactions and sessions are counted together: both own locks.
    owners: AtomicU64,
    /// Versions of catalogs that are not published: a transaction's own, a session's with temporary objects.
    private_versions: AtomicU64,
    next_oid: AtomicU32,
    next_storage: AtomicU32,
    row_ids: RwLock<HashMap<u32, Arc<AtomicU64>>>,
    statistics: RwLock<HashMap<Oid, Arc<TableStatistics>>>,
    layouts: RwLock<HashMap<u64, Arc<RowLayout>>>,
    /// Held while a commit with catalog changes logs, applies, gets durable and is published.
    ddl: Mutex<()>,
    checkpointing: Mutex<Checkpointing>,
    signal: Arc<Signal>,
    checkpointer: Mutex<Option<thread::JoinHandle<()>>>,
    directory_lock: Mutex<Option<Box<dyn Directory>>>,
    is_new: bool,
    closed: AtomicBool,
}

/// An open database directory. Clones share it.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("directory", &self.0.options.directory).finish()
    }
}

/// Private catalogs have versions above every published one.
const PRIVATE: u64 = 1 << 63;

impl Engine {
    /// The next number of a sequence, for a function that runs while the session's transaction is in use.
    pub fn sequence_next(&self, session: &SessionState, sequence: &crate::catalog::Sequence) -> Result<i64> {
        let (value, lsn) = self.0.sequences.next(&self.0, sequence)?;
        session.0.raise_floor(lsn);
        Ok(value)
    }

    /// `setval`, as [`crate::Transaction::sequence_set`].
    pub fn sequence_set(
        &self,
        session: &SessionState,
        sequence: &crate::catalog::Sequence,
        value: i64,
        is_called: bool,
    ) -> Result<()> {
        let lsn = self.0.sequences.set(&self.0, sequence, value, is_called)?;
        session.0.raise_floor(lsn);
        Ok(())
    }

    /// `last_value` and `is_called` of a sequence.
    pub fn sequence_state(&self, sequence: &crate::catalog::Sequence) -> (i64, bool) {
        self.0.sequences.current(sequence)
    }

    /// Opens the directory (making it when missing), takes it for this process, replays the log and starts the
    /// log's and the checkpointer's threads. `55006` when another process has it, `0A000` for a newer format,
    /// `XX001` for damage.
    pub fn open(options: Options) -> Result<Engine> {
        let disk = options.disk.clone();
        disk.create_directory(&options.directory)?;
        let lock = disk.lock_directory(&options.directory).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::new(
                SqlState::OBJECT_IN_USE,
                format!("data directory \"{}\" is in use by another process", options.directory.display()),
            ),
            _ => Error::from(error),
        })?;
        let metrics = Arc::new(Metrics::default());
        let base_directory = options.directory.join("base");
        disk.create_directory(&base_directory)?;
        let base = Base::open(
            BaseOptions {
                disk: disk.clone(),
                directory: base_directory,
                cache_size: options.buffer_pool_size,
                new_database_id: None,
            },
            metrics.clone(),
        )?;
        let meta = base.meta();
        let applied = meta.applied;
        let (next_oid, next_storage) = (meta.next_oid.max(FIRST_USER_OID), meta.next_storage.max(1));
        let fresh = meta.generation == 0;
        let mut wal_options = WalOptions::new(options.directory.join("wal"), meta.database_id);
        wal_options.segment_size = options.wal_segment_size;
        wal_options.synchronous = options.synchronous;
        let (wal, replay) = Wal::open(disk, wal_options, applied, metrics.clone())?;
        let mut catalog = Catalog::default();
        for object in base.catalog_objects()? {
            catalog.apply(&Change::Put(object));
        }
        catalog.version = 1;
        let sequences = Sequences::default();
        for (oid, value) in base.sequences()? {
            sequences.restore(oid, value);
        }
        let mut statistics = HashMap::new();
        for (oid, bytes) in base.statistics()? {
            statistics.insert(oid, Arc::new(parse_statistics(&bytes)?));
        }
        let row_ids = meta
            .storages
            .iter()
            .map(|(storage, state)| (*storage, Arc::new(AtomicU64::new(state.next_row))))
            .collect();
        let version = SuperVersion { active: Arc::default(), frozen: Vec::new(), base, applied };
        let mut inner = Inner {
            metrics,
            wal,
            version: ArcSwap::from_pointee(version),
            registry: Registry::default(),
            locks: Arc::new(LockManager::new()),
            catalog: ArcSwap::from_pointee(catalog.clone()),
            sequences,
            validation: Validation::default(),
            pipeline: Pipeline::new(applied, Unsaved::default()),
            owners: AtomicU64::new(3),
            private_versions: AtomicU64::new(PRIVATE),
            next_oid: AtomicU32::new(next_oid),
            next_storage: AtomicU32::new(next_storage),
            row_ids: RwLock::new(row_ids),
            statistics: RwLock::new(statistics),
            layouts: RwLock::default(),
            ddl: Mutex::new(()),
            checkpointing: Mutex::new(Checkpointing { saved: catalog.clone(), ..Checkpointing::default() }),
            signal: Arc::default(),
            checkpointer: Mutex::new(None),
            directory_lock: Mutex::new(Some(lock)),
            is_new: false,
            closed: AtomicBool::new(false),
            options,
        };
        let started = Instant::now();
        let mut records = 0u64;
        let mut recovery = Recovery::new(catalog);
        for record in replay {
            let (lsn, bytes) = record?;
            recovery.apply(&inner, lsn, &bytes)?;
            records += 1;
        }
        if records > 0 {
            tracing::info!(records, elapsed_ms = started.elapsed().as_millis() as u64, "log replayed");
        }
        recovery.catalog.version = 1;
        inner.catalog.store(Arc::new(recovery.catalog));
        inner.pipeline.lock().first = inner.wal.last_lsn().0 + 1;
        inner.is_new = fresh && records == 0;
        let inner = Arc::new(inner);
        if !inner.options.manual_checkpoints {
            let (weak, signal) = (Arc::downgrade(&inner), inner.signal.clone());
            let interval = inner.options.checkpoint_interval;
            let thread = thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(move || checkpointer(weak, &signal, interval))?;
            *inner.checkpointer.lock() = Some(thread);
        }
        Ok(Engine(inner))
    }

    /// This open made the directory: the caller commits the bootstrap catalog.
    pub fn is_new(&self) -> bool {
        self.0.is_new
    }

    /// Makes a last checkpoint, stops the threads, gives the directory back. Nothing may be used afterwards.
    pub fn close(&self) -> Result<()> {
        let inner = &self.0;
        if inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        inner.signal.stop();
        if let Some(thread) = inner.checkpointer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpointer thread panicked");
        }
        let last = if inner.wal.failed().is_none() { inner.checkpoint(true) } else { Ok(()) };
        let wal = inner.wal.close();
        let base = inner.version.load().base.close();
        *inner.directory_lock.lock() = None;
        last.and(wal).and(base)
    }

    /// The newest published catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.catalog.load_full()
    }

    /// An oid that no object has or had.
    pub fn new_oid(&self) -> Oid {
        self.0.next_oid.fetch_add(1, Ordering::Relaxed)
    }

    /// A storage id for a table or an index, never used before.
    pub fn new_storage_id(&self) -> u32 {
        self.0.next_storage.fetch_add(1, Ordering::Relaxed)
    }

    /// The state of a new session; `pid` names it in `pg_locks` and deadlock reports.
    pub fn new_session(&self, pid: i32, database: Oid) -> SessionState {
        SessionState(Arc::new(SessionInner {
            node: self.0.new_owner(),
            pid,
            database,
            floor: AtomicU64::new(0),
            deadlock_timeout: AtomicU32::new(1000),
            rows: Arc::default(),
            objects: Mutex::default(),
            advisory: Mutex::default(),
            engine: self.0.clone(),
        }))
    }

    /// A transaction in a session of its own.
    pub fn begin(&self, isolation: Isolation, read_only: bool) -> Transaction {
        self.begin_for(&self.new_session(0, 0), isolation, read_only)
    }

    /// The next transaction of a session.
    pub fn begin_for(&self, session: &SessionState, isolation: Isolation, read_only: bool) -> Transaction {
        Transaction::new(self.0.clone(), session.clone(), isolation, read_only)
    }

    /// Brings the base up to the newest commit.
    pub fn checkpoint(&self) -> Result<()> {
        self.0.checkpoint(false)
    }

    /// The table's live row count and what the last ANALYZE stored.
    pub fn statistics(&self, table: &Table) -> Arc<TableStatistics> {
        let rows = self.0.live_rows(table.storage);
        let stored = self.0.statistics.read().get(&table.oid).cloned();
        match stored {
            // A planner does not care for the last row; copying histograms for it would cost more than it tells.
            Some(stored) if stored.rows.abs_diff(rows) <= rows / 64 => stored,
            Some(stored) => {
                let renewed = Arc::new(TableStatistics { rows, ..(*stored).clone() });
                self.0.statistics.write().insert(table.oid, renewed.clone());
                renewed
            }
            None => Arc::new(TableStatistics { rows, ..TableStatistics::default() }),
        }
    }

    /// Replaces what ANALYZE knows about a table; logged, outside transactions.
    pub fn store_statistics(&self, table: Oid, statistics: TableStatistics) -> Result<()> {
        let bytes = serde_json::to_vec(&statistics)
            .map_err(|error| Error::internal(format!("statistics as JSON: {error}")))?;
        let mut record = RecordBuilder::new();
        record.statistics(table, &bytes);
        self.0.statistics.write().insert(table, Arc::new(statistics));
        self.0.log_aside(record, |unsaved| {
            unsaved.statistics.insert(table, Some(bytes));
        })?;
        Ok(())
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Everything up to here survives a crash.
    pub fn durable_lsn(&self) -> Lsn {
        self.0.wal.durable_lsn()
    }

    /// The newest commit.
    pub fn last_lsn(&self) -> Lsn {
        self.0.wal.last_lsn()
    }

    /// Bytes logged since the engine was opened.
    pub fn wal_bytes(&self) -> u64 {
        self.0.wal.bytes()
    }

    /// Lock listing and blocking pids.
    pub fn locks(&self) -> &LockManager {
        &self.0.locks
    }

    /// The error of a failed log write: since then nothing commits any more.
    pub fn sealed(&self) -> Option<Error> {
        self.0.wal.failed()
    }

    /// How long a session is to pause (asynchronously) before it commits, while memtables are over budget:
    /// nothing up to twice [`Options::memtable_size`], then growing to a second at four times.
    pub fn commit_delay(&self) -> Option<Duration> {
        let size = self.0.options.memtable_size.max(1);
        let bytes: u64 = self.0.version.load().memtables().map(|memtable| memtable.bytes()).sum();
        let over = bytes.checked_sub(size * 2)?;
        let share = (over as f64 / (size * 2) as f64).min(1.0);
        Some(Duration::from_micros((share * share * 1e6) as u64))
    }

    /// The oldest snapshot in use.
    pub fn oldest_snapshot(&self) -> Option<Lsn> {
        self.0.registry.oldest()
    }

    /// Everything committed, outside any transaction.
    pub fn snapshot(&self) -> Snapshot {
        self.begin(Isolation::ReadCommitted, true).latest_snapshot()
    }
}

fn parse_statistics(bytes: &[u8]) -> Result<TableStatistics> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(SqlState::DATA_CORRUPTED, format!("stored statistics: {error}")))
}

impl Inner {
    pub(crate) fn new_owner(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn private_version(&self) -> u64 {
        self.private_versions.fetch_add(1, Ordering::Relaxed)
    }

    /// Every commit up to here is in memtables.
    pub(crate) fn applied_ts(&self) -> Lsn {
        self.pipeline.applied()
    }

    /// Every commit up to here is in memtables and survives a crash.
    pub(crate) fn durable_ts(&self) -> Lsn {
        self.wal.durable_lsn().min(self.applied_ts())
    }

    /// How the table's rows are laid out; made once per storage and set of columns.
    pub(crate) fn layout(&self, table: &Table) -> Result<Arc<RowLayout>> {
        let mut hasher = std::hash::DefaultHasher::new();
        table.storage.hash(&mut hasher);
        for column in &table.columns {
            (column.type_oid, column.typmod, &column.missing).hash(&mut hasher);
        }
        let key = hasher.finish();
        if let Some(layout) = self.layouts.read().get(&key) {
            return Ok(layout.clone());
        }
        let layout = RowLayout::of(table)?;
        let mut layouts = self.layouts.write();
        if layouts.len() > 10_000 {
            layouts.clear();
        }
        Ok(layouts.entry(key).or_insert(layout).clone())
    }

    fn row_counter(&self, storage: u32) -> Arc<AtomicU64> {
        if let Some(counter) = self.row_ids.read().get(&storage) {
            return counter.clone();
        }
        self.row_ids.write().entry(storage).or_default().clone()
    }

    pub(crate) fn new_row(&self, storage: u32) -> RowId {
        if let Some(counter) = self.row_ids.read().get(&storage) {
            return RowId(counter.fetch_add(1, Ordering::Relaxed));
        }
        RowId(self.row_counter(storage).fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn live_rows(&self, storage: u32) -> u64 {
        let version = self.version.load();
        let saved = version.base.meta().storages.get(&storage).map_or(0, |state| state.rows as i64);
        let recent: i64 = version
            .memtables()
            .filter_map(|memtable| memtable.table(storage))
            .map(|table| table.row_delta())
            .sum();
        (saved + recent).max(0) as u64
    }

    pub(crate) fn new_ids(&self) -> (Oid, u32) {
        (self.next_oid.load(Ordering::Relaxed), self.next_storage.load(Ordering::Relaxed))
    }

    /// Logs a commit: its LSN, and the memtable it is to be applied to, which stays open for it until
    /// [`Inner::finish`]. `note` runs in the same moment, for what checkpoints carry beside memtables.
    pub(crate) fn log_commit(
        &self,
        record: Vec<u8>,
        owner: u64,
        note: impl FnOnce(&mut Unsaved),
    ) -> Result<(Lsn, Arc<Memtable>)> {
        let reservation = self.wal.reserve(record.len())?;
        self.pipeline.enter(owner, |unsaved| {
            let lsn = self.wal.append(reservation, record)?;
            note(unsaved);
            let memtable = self.version.load().active.clone();
            memtable.enter();
            Ok((lsn, memtable))
        })
    }

    /// The commit is applied: lets snapshots see it as soon as all before it are, and hands the locks over.
    pub(crate) fn finish(&self, lsn: Lsn, memtable: &Memtable, locks: Vec<(LockTag, u8)>) {
        memtable.leave();
        if memtable.bytes() > self.options.memtable_size {
            self.signal.request();
        }
        self.metrics.commits.increment();
        self.pipeline.settle(lsn, locks, &self.locks);
    }

    /// Logs something that belongs to no transaction and changes no rows.
    pub(crate) fn log_aside(&self, record: RecordBuilder, note: impl FnOnce(&mut Unsaved)) -> Result<Lsn> {
        let (lsn, memtable) = self.log_commit(record.finish(), 0, note)?;
        memtable.leave();
        self.pipeline.settle(lsn, Vec::new(), &self.locks);
        Ok(lsn)
    }

    /// Blocks until every commit up to `lsn` is applied: microseconds, unless a large one is among them.
    pub(crate) fn wait_applied(&self, lsn: Lsn) {
        self.pipeline.wait(lsn);
    }

    /// Whether `lsn` is applied; if not, wakes `waker` when it is.
    pub(crate) fn poll_applied(&self, lsn: Lsn, waker: &Waker) -> bool {
        self.pipeline.poll(lsn, waker)
    }

    /// Runs a commit with catalog changes: durable first, then published, one after the other.
    pub(crate) fn with_ddl<T>(&self, commit: impl FnOnce() -> Result<T>) -> Result<T> {
        let _one_at_a_time = self.ddl.lock();
        commit()
    }

    /// Makes changes part of what everybody resolves against.
    pub(crate) fn publish(&self, changes: &[Change]) {
        let mut catalog = (*self.catalog.load_full()).clone();
        for change in changes {
            catalog.apply(change);
            if let Change::Drop(oid) = change {
                self.sequences.forget(*oid);
                self.statistics.write().remove(oid);
            }
        }
        catalog.version += 1;
        self.catalog.store(Arc::new(catalog));
    }

    /// Freezes the active memtable and writes all frozen ones into the base.
    fn checkpoint(&self, closing: bool) -> Result<()> {
        let mut state = self.checkpointing.lock();
        while !state.pending.is_empty() {
            self.save(&mut state)?;
        }
        if closing {
            // Exact values instead of the ones logged ahead: a clean restart skips no numbers.
            let values = self.sequences.exact();
            self.pipeline.lock().unsaved.sequences.extend(values.into_iter().map(|(oid, v)| (oid, Some(v))));
        }
        {
            let mut pipeline = self.pipeline.lock();
            let version = self.version.load_full();
            let applied = pipeline.last();
            if applied == version.applied && pipeline.unsaved.is_empty() {
                return Ok(());
            }
            let memtable = version.active.clone();
            let mut frozen = vec![memtable.clone()];
            frozen.extend(version.frozen.iter().cloned());
            self.version.store(Arc::new(SuperVersion {
                active: Arc::default(),
                frozen,
                base: version.base.clone(),
                applied: version.applied,
            }));
            let unsaved = std::mem::take(&mut pipeline.unsaved);
            state.pending.push_back(Generation { memtable, applied, unsaved });
        }
        state.wal_bytes = self.wal.bytes();
        self.save(&mut state)
    }

    /// Writes the oldest frozen memtable into the base and publishes the new super-version.
    fn save(&self, state: &mut Checkpointing) -> Result<()> {
        let started = Instant::now();
        let Some(generation) = state.pending.front() else { return Ok(()) };
        while !generation.memtable.is_quiet() {
            thread::sleep(Duration::from_micros(100));
        }
        // A base must never be newer than a snapshot that is about to begin.
        self.wait_applied(generation.applied);
        self.wal.wait_durable_blocking(generation.applied)?;
        let base = self.version.load().base.clone();
        let mut saved = state.saved.clone();
        let before = storages(&saved);
        for change in &generation.unsaved.catalog {
            saved.apply(change);
        }
        let after = storages(&saved);
        let memtable = &generation.memtable;
        let mut rows = RowChanges {
            memtable,
            storages: memtable.storages().into_iter().filter(|s| after.contains(s)).collect(),
            group: 0,
            rows: Vec::new().into_iter(),
            current: (0, 0),
        };
        let mut indexes = IndexChanges {
            memtable,
            storages: memtable.index_storages().into_iter().filter(|s| after.contains(s)).collect(),
            from: Bound::Unbounded,
            entries: VecDeque::new(),
            current: 0,
        };
        let counters = rows.storages.iter().map(|storage| {
            let saved = base.meta().storages.get(storage).map_or(0, |state| state.rows as i64);
            let delta = memtable.table(*storage).map_or(0, |table| table.row_delta());
            let next_row = self.row_counter(*storage).load(Ordering::Relaxed);
            (*storage, StorageState { next_row, rows: (saved + delta).max(0) as u64 })
        });
        let mut sequences = generation.unsaved.sequences.clone();
        let mut statistics = generation.unsaved.statistics.clone();
        for change in &generation.unsaved.catalog {
            if let Change::Drop(oid) = change {
                sequences.insert(*oid, None);
                statistics.insert(*oid, None);
            }
        }
        let (next_oid, next_storage) = self.new_ids();
        let input = CheckpointInput {
            applied: generation.applied,
            storages: counters.collect(),
            dropped: before.difference(&after).copied().collect(),
            catalog: generation.unsaved.catalog.clone(),
            sequences: sequences.into_iter().collect(),
            statistics: statistics.into_iter().collect(),
            next_oid,
            next_storage,
            expected_bytes: memtable.bytes(),
            rows: &mut rows,
            indexes: &mut indexes,
        };
        let base = match base.checkpoint(input) {
            Ok(base) => base,
            Err(error) => {
                tracing::error!(%error, "checkpoint failed");
                // The store answers nothing after an I/O error: open it anew, so that readers go on. It may
                // turn out that the commit did reach the disk.
                let reopened = base.reopen()?;
                if reopened.meta().applied < generation.applied {
                    let pipeline = self.pipeline.lock();
                    let version = self.version.load_full();
                    self.version.store(Arc::new(SuperVersion {
                        active: version.active.clone(),
                        frozen: version.frozen.clone(),
                        base: reopened,
                        applied: version.applied,
                    }));
                    drop(pipeline);
                    return Err(error);
                }
                reopened
            }
        };
        {
            let _switch = self.pipeline.lock();
            let version = self.version.load_full();
            let frozen = version.frozen.iter().filter(|other| !Arc::ptr_eq(other, memtable)).cloned();
            self.version.store(Arc::new(SuperVersion {
                active: version.active.clone(),
                frozen: frozen.collect(),
                base,
                applied: generation.applied,
            }));
        }
        let applied = generation.applied;
        self.row_ids.write().retain(|storage, _| !before.contains(storage) || after.contains(storage));
        state.saved = saved;
        state.pending.pop_front();
        self.metrics.checkpoints.increment();
        self.metrics.checkpoint.observe(started.elapsed());
        self.wal.recycle(applied)
    }

    fn checkpoint_due(&self) -> bool {
        let version = self.version.load();
        let bytes: u64 = version.memtables().map(|memtable| memtable.bytes()).sum();
        self.metrics.memtable_bytes.set(bytes);
        version.active.bytes() > self.options.memtable_size
            || self.checkpointing.try_lock().is_some_and(|state| {
                !state.pending.is_empty()
                    || self.wal.bytes().saturating_sub(state.wal_bytes) > self.options.checkpoint_wal_bytes
            })
    }
}

/// Storages that a catalog names.
fn storages(catalog: &Catalog) -> BTreeSet<u32> {
    catalog
        .objects()
        .filter_map(|object| match object {
            Object::Table(table) => Some(table.storage),
            Object::Index(index) => Some(index.storage),
            _ => None,
        })
        .collect()
}

/// The frozen memtable's rows in the order of the base.
struct RowChanges<'a> {
    memtable: &'a Memtable,
    storages: VecDeque<u32>,
    group: u32,
    rows: std::vec::IntoIter<(u16, Option<RowBytes>)>,
    current: (u32, u32),
}

impl Iterator for RowChanges<'_> {
    type Item = Result<RowChange>;

    fn next(&mut self) -> Option<Result<RowChange>> {
        loop {
            if let Some((offset, bytes)) = self.rows.next() {
                let (storage, group) = self.current;
                return Some(Ok(RowChange { storage, row: RowId::at(group, offset), bytes }));
            }
            let storage = *self.storages.front()?;
            match self.memtable.next_group(storage, self.group) {
                Some((group, rows)) => {
                    self.current = (storage, group);
                    self.group = group + 1;
                    self.rows = rows.into_iter();
                }
                None => {
                    self.storages.pop_front();
                    self.group = 0;
                }
            }
        }
    }
}

/// The frozen memtable's index entries in the order of the base.
struct IndexChanges<'a> {
    memtable: &'a Memtable,
    storages: VecDeque<u32>,
    from: Bound<Vec<u8>>,
    entries: VecDeque<(Box<[u8]>, bool)>,
    current: u32,
}

impl Iterator for IndexChanges<'_> {
    type Item = Result<IndexChange>;

    fn next(&mut self) -> Option<Result<IndexChange>> {
        loop {
            if let Some((entry, add)) = self.entries.pop_front() {
                let (key, row) = index::split(&entry);
                return Some(Ok(IndexChange { storage: self.current, key: key.to_vec(), row, add }));
            }
            let storage = *self.storages.front()?;
            self.current = storage;
            if let Some(overlay) = self.memtable.index(storage) {
                self.entries = overlay.after(&self.from, 1024).into();
            }
            match self.entries.back() {
                Some((last, _)) => self.from = Bound::Excluded(last.to_vec()),
                None => {
                    self.storages.pop_front();
                    self.from = Bound::Unbounded;
                }
            }
        }
    }
}

/// The checkpointer thread: by time, by log bytes, by memtable size.
fn checkpointer(engine: Weak<Inner>, signal: &Signal, interval: Duration) {
    crate::disk::set_thread_priority(crate::disk::Priority::Background);
    let mut last = Instant::now();
    loop {
        {
            let mut state = signal.state.lock();
            if !state.0 && !state.1 {
                signal.changed.wait_for(&mut state, Duration::from_millis(200).min(interval));
            }
            if state.1 {
                return;
            }
            state.0 = false;
        }
        let Some(engine) = engine.upgrade() else { return };
        if engine.wal.failed().is_some() {
            return;
        }
        if last.elapsed() < interval && !engine.checkpoint_due() {
            continue;
        }
        if let Err(error) = engine.checkpoint(false) {
            tracing::error!(%error, "checkpoint failed; it will be tried again");
            thread::sleep(Duration::from_millis(500));
        }
        last = Instant::now();
    }
}

/// Replays the log into the memtable, keeping the catalog as of each record.
struct Recovery {
    catalog: Catalog,
    /// By storage: what is needed to apply rows. Made anew when the catalog changes.
    tables: HashMap<u32, Target>,
}

struct Target {
    layout: Arc<RowLayout>,
    indexes: Vec<KeyShape>,
}

impl Recovery {
    fn new(catalog: Catalog) -> Recovery {
        Recovery { catalog, tables: HashMap::new() }
    }

    fn target(&mut self, engine: &Inner, storage: u32) -> Result<Option<&Target>> {
        if !self.tables.contains_key(&storage) {
            let table = self.catalog.objects().find_map(|object| match object {
                Object::Table(table) if table.storage == storage => Some(table.clone()),
                _ => None,
            });
            let Some(table) = table else { return Ok(None) };
            let layout = engine.layout(&table)?;
            let indexes = self.catalog.indexes(table.oid).map(|index| KeyShape::of(&table, index)).collect();
            self.tables.insert(storage, Target { layout, indexes });
        }
        Ok(self.tables.get(&storage))
    }

    fn apply(&mut self, engine: &Inner, lsn: Lsn, record: &[u8]) -> Result<()> {
        let damaged =
            |what: &str| Error::new(SqlState::DATA_CORRUPTED, format!("log record {}: {what}", lsn.0));
        let ops: Vec<Op<'_>> = decode(record).collect::<Result<_>>()?;
        // Definitions first: the record's rows may belong to tables it creates.
        let mut built: Vec<Arc<Index>> = Vec::new();
        for op in &ops {
            match op {
                Op::Catalog(change) => {
                    if let Change::Put(Object::Index(index)) = &**change {
                        let known = self.catalog.index(index.oid).map(|known| known.storage);
                        if known != Some(index.storage) {
                            built.push(index.clone());
                        }
                    }
                    self.catalog.apply(change);
                    self.tables.clear();
                    engine.pipeline.lock().unsaved.catalog.push((**change).clone());
                    if let Change::Drop(oid) = &**change {
                        engine.sequences.forget(*oid);
                    }
                }
                Op::Sequence { oid, value } => {
                    engine.sequences.restore(*oid, *value);
                    engine.pipeline.lock().unsaved.sequences.insert(*oid, Some(*value));
                }
                Op::Statistics { oid, bytes } => {
                    engine.statistics.write().insert(*oid, Arc::new(parse_statistics(bytes)?));
                    engine.pipeline.lock().unsaved.statistics.insert(*oid, Some(bytes.to_vec()));
                }
                Op::NextIds { oid, storage } => {
                    engine.next_oid.fetch_max(*oid, Ordering::Relaxed);
                    engine.next_storage.fetch_max(*storage, Ordering::Relaxed);
                }
                Op::Insert { .. } | Op::Update { .. } | Op::Delete { .. } => {}
            }
        }
        let version = engine.version.load_full();
        let memtable = &version.active;
        let horizon = Horizon::newest_only();
        let newest = Lsn(u64::MAX);
        for op in &ops {
            let (storage, row) = match op {
                Op::Insert { storage, row, .. }
                | Op::Update { storage, row, .. }
                | Op::Delete { storage, row } => (*storage, *row),
                _ => continue,
            };
            // Rows of a table that the same record drops again.
            let Some(target) = self.target(engine, storage)? else { continue };
            let layout = &target.layout;
            let old = match op {
                Op::Insert { .. } => None,
                _ => Some(
                    version
                        .get(storage, row, newest)?
                        .row()
                        .ok_or_else(|| damaged("changes a row that does not exist"))?,
                ),
            };
            let new: Option<RowBytes> = match (op, &old) {
                (Op::Insert { bytes, .. }, _) => Some(bytes.to_vec().into()),
                (Op::Update { patch, .. }, Some(old)) => Some(row::apply_patch(layout, old, patch)?.into()),
                _ => None,
            };
            let old_row = old.map(|bytes| Row::new(bytes, layout.clone()));
            let new_row = new.clone().map(|bytes| Row::new(bytes, layout.clone()));
            for shape in &target.indexes {
                let old_key = old_row.as_ref().and_then(|row| shape.key(row));
                let new_key = new_row.as_ref().and_then(|row| shape.key(row));
                if old_key == new_key {
                    continue;
                }
                let changes = [(old_key, false), (new_key, true)];
                let entries: Vec<(Box<[u8]>, bool)> = changes
                    .into_iter()
                    .filter_map(|(key, live)| Some((index::entry(&key?, row), live)))
                    .collect();
                let entries = entries.iter().map(|(entry, live)| (&entry[..], *live));
                memtable.write_index(shape.entries, lsn, Lsn(0), entries);
            }
            let mut writer = memtable.table_writer(storage, lsn, &horizon);
            writer.count(i64::from(new.is_some()) - i64::from(old_row.is_some()));
            writer.put(row, new);
            if matches!(op, Op::Insert { .. }) {
                engine.row_counter(storage).fetch_max(row.0 + 1, Ordering::Relaxed);
            }
        }
        for index in built {
            self.build(engine, &version, &index, lsn)?;
        }
        engine.pipeline.start_at(lsn);
        let mut pipeline = engine.pipeline.lock();
        pipeline.first = lsn.0 + 1;
        drop(pipeline);
        if version.active.bytes() > engine.options.memtable_size {
            engine.checkpoint(false)?;
        }
        Ok(())
    }

    /// The entries of an index that this record creates, from the rows as of this record.
    fn build(&mut self, engine: &Inner, version: &SuperVersion, index: &Index, lsn: Lsn) -> Result<()> {
        let Some(table) = self.catalog.table(index.table).cloned() else { return Ok(()) };
        let layout = engine.layout(&table)?;
        let shape = KeyShape::of(&table, index);
        let mut groups = version.base.groups(table.storage);
        for memtable in version.memtables() {
            let mut from = 0;
            while let Some(group) = memtable.table(table.storage).and_then(|rows| rows.next_group(from)) {
                groups = groups.max(group + 1);
                from = group + 1;
            }
        }
        for group in 0..groups {
            let mut rows: BTreeMap<u16, Option<RowBytes>> = BTreeMap::new();
            if group < version.base.groups(table.storage) {
                let mut list = Vec::new();
                version.base.read_group(table.storage, group, &mut list)?;
                rows.extend(list.into_iter().map(|(id, bytes)| (id.offset(), Some(bytes))));
            }
            let memtables: Vec<_> = version.memtables().collect();
            for memtable in memtables.into_iter().rev() {
                let overlay = memtable.table(table.storage).and_then(|rows| rows.group(group));
                if let Some(overlay) = overlay {
                    let mut list = Vec::new();
                    overlay.visible(Lsn(u64::MAX), 0..GROUP_ROWS as u32, &mut list);
                    rows.extend(list);
                }
            }
            let entries: Vec<Box<[u8]>> = rows
                .into_iter()
                .filter_map(|(offset, bytes)| {
                    let key = shape.key(&Row::new(bytes?, layout.clone()))?;
                    Some(index::entry(&key, RowId::at(group, offset)))
                })
                .collect();
            let entries = entries.iter().map(|entry| (&entry[..], true));
            version.active.write_index(index.storage, lsn, Lsn(0), entries);
        }
        Ok(())
    }
}
