//! The engine as a whole: opening, the commit pipeline, closing. Checkpoints, parts of large transactions, replay: `engine/`.
//!
//! The hard idea is the commit pipeline. One short mutex gives a commit its LSN, its place in the log's queue
//! and its memtable; the changes are applied outside of it, by many commits at once; a queue in LSN order then
//! moves `applied` over the prefix that is done. Whoever moves it releases the row and key locks of every
//! commit it passed, so that a lock is never free before its holder's changes can be seen. The same mutex
//! switches memtables, so that a checkpoint's boundary X falls between two commits.
//!
//! Order of mutexes: `checkpointing`, then `ddl`, then `pipeline`; the lock table's are never held with them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::task::Waker;
use std::time::{Duration, Instant};

use value::{Error, Oid, Result, SqlState};

use crate::base::{Base, BaseOptions};
use crate::bulk::Bulk;
use crate::catalog::{Catalog, Change, FIRST_USER_OID, Object, Table};
use crate::disk::room::{Ahead, Cost, Room, Taken};
use crate::disk::{Directory, Disk, RealDisk};
use crate::ids::{GROUP_ROWS, Isolation, Lsn, RowId};
use crate::lock::{AdvisoryKey, EXCLUSIVE, LockManager, LockTag, Requester, SHARED};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::row::RowLayout;
use crate::sequence::Sequences;
use crate::snapshot::{Registry, Snapshot, SuperVersion};
use crate::statistics::TableStatistics;
use crate::sync::{Arc, ArcSwap, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, RwLock, thread};
use crate::transaction::{DurableFuture, Transaction};
use crate::validation::Validation;
use crate::wal::archive::Archive;
use crate::wal::record::{RecordBuilder, SequenceValue};
use crate::wal::{Wal, WalOptions};
use crate::write_set::WriteSet;

mod checkpoint;
mod pieces;
mod recovery;

use checkpoint::{Checkpointing, Signal, checkpointer};
use recovery::Recovery;

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `base/` and `wal/`; made when missing.
    pub directory: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// Bytes of memory for pages and blocks of the base, writes on their way to the disk included.
    pub cache_size: u64,
    /// Bytes of memtable after which a checkpoint begins. At twice that, commits are slowed down.
    pub memtable_size: u64,
    pub wal_segment_size: u64,
    /// Log segments kept below the checkpoint, for archiving and for looking back.
    pub wal_keep_segments: usize,
    /// Bytes that the log may take: see [`WalOptions::max_size`].
    pub wal_max_size: u64,
    /// Where finished log segments are copied before they are used again.
    pub wal_archive: Option<Arc<dyn Archive>>,
    /// Bytes of the disk that commits leave alone, beside what the next checkpoint needs.
    pub disk_reserve: u64,
    pub checkpoint_interval: Duration,
    pub checkpoint_wal_bytes: u64,
    /// `false`: log batches are written, not synced; a crash of the machine may lose acknowledged commits.
    pub synchronous: bool,
    /// No checkpointer thread: checkpoints happen only when asked for (tests, tools).
    pub manual_checkpoints: bool,
    /// Tells how far the open has come.
    pub progress: Arc<OpenProgress>,
    /// Identity given to a database made by this open; `None` picks a random one.
    pub new_database_id: Option<u64>,
    /// Bytes of memory for what only old snapshots still see; beyond it the oldest get 72000.
    pub old_snapshot_memory: u64,
    /// Bytes of changes after which a transaction's new rows go to the base before its end.
    pub spill_size: u64,
    /// Rows that such a transaction puts into one group of 8192 (fewer in tests).
    pub spill_group: u64,
    /// Bytes of changes that a transaction may hold in memory: 53200 beyond.
    pub write_set_limit: u64,
    /// `false`: no threads at all (implies manual checkpoints): what they would do is done by whoever waits for
    /// it, in an order that only the caller decides.
    pub threads: bool,
    /// Carries out, once, what keeps its thread for long: a wait for a checkpoint, a part of a large transaction on its way to
    /// the disk. Where many transactions share few threads, others can have this one's other work meanwhile.
    pub aside: fn(&mut dyn FnMut()),
}

impl Options {
    /// The real disk and the defaults.
    pub fn new(directory: impl Into<PathBuf>) -> Options {
        Options {
            directory: directory.into(),
            disk: RealDisk::new(),
            cache_size: 256 << 20,
            memtable_size: 256 << 20,
            wal_segment_size: 100 << 20,
            wal_keep_segments: 10,
            wal_max_size: 4 << 30,
            wal_archive: None,
            disk_reserve: 64 << 20,
            checkpoint_interval: Duration::from_secs(30),
            checkpoint_wal_bytes: 256 << 20,
            synchronous: true,
            manual_checkpoints: false,
            progress: Arc::default(),
            old_snapshot_memory: 1 << 30,
            spill_size: 64 << 20,
            spill_group: GROUP_ROWS,
            write_set_limit: 4 << 30,
            new_database_id: None,
            threads: true,
            aside: |work| work(),
        }
    }

    /// Divides one budget of memory among everything that the engine keeps: memtables (a sixteenth, twice: one fills
    /// while the other is written to the base), what old snapshots need (a quarter: as much as the layers of one
    /// snapshot can be, or a short statement might lose them), caches. Where the sizes of the first two are given, the caches
    /// get what is left, at least a quarter. A transaction spills at an eighth.
    pub fn divide_memory(&mut self, pool: u64, memtable: Option<u64>, old_snapshots: Option<u64>) {
        self.memtable_size = memtable.unwrap_or((pool / 16).clamp(1 << 20, 256 << 20));
        self.old_snapshot_memory = old_snapshots.unwrap_or((pool / 4).clamp(4 << 20, 1 << 30));
        let others = self.memtable_size.saturating_mul(2).saturating_add(self.old_snapshot_memory);
        self.cache_size = pool.saturating_sub(others).max(pool / 4);
        self.spill_size = (pool / 8).clamp(4 << 20, 64 << 20);
    }
}

/// How far an open has come, for whoever waits for it.
#[derive(Debug, Default)]
pub struct OpenProgress {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl OpenProgress {
    /// Log records replayed so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of these records.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How often a long replay says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

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
    /// Transactions that have not ended.
    pub(crate) open: AtomicU32,
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
        let alone = self.open.load(Ordering::Relaxed) <= 1;
        Requester {
            owner,
            node: self.node,
            pid: self.pid,
            database: self.database,
            age,
            deadlock_timeout,
            alone,
        }
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
    /// How far indexes are filled that are built concurrently; `None`: no more to do. Not logged.
    pub(crate) builds: BTreeMap<Oid, Option<u32>>,
    /// Pieces of the base whose transactions have committed.
    pub(crate) published: Vec<u64>,
}

impl Unsaved {
    /// Bytes of the disk that it takes.
    fn room(&self) -> u64 {
        let values = self.catalog.len() + self.sequences.len() + self.statistics.len() + self.builds.len();
        let statistics = self.statistics.values().flatten().map(|bytes| 2 * bytes.len() as u64).sum::<u64>();
        values as u64 * Cost::VALUE + statistics
    }

    fn is_empty(&self) -> bool {
        self.catalog.is_empty()
            && self.sequences.is_empty()
            && self.statistics.is_empty()
            && self.builds.is_empty()
            && self.published.is_empty()
    }
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wal: Wal,
    room: Arc<Room>,
    pub(crate) version: ArcSwap<SuperVersion>,
    pub(crate) bulk: Arc<Bulk>,
    pub(crate) registry: Registry,
    pub(crate) locks: Arc<LockManager>,
    pub(crate) catalog: ArcSwap<Catalog>,
    /// When indexes were filled, for snapshots from before; and when the newest was.
    index_filled: Mutex<HashMap<Oid, Lsn>>,
    newest_index: AtomicU64,
    pub(crate) sequences: Sequences,
    pub(crate) validation: Validation<WriteSet>,
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
    /// Bytes that what is carried beside memtables takes: active and frozen.
    aside: [AtomicU64; 2],
    signal: Arc<Signal>,
    /// Something was refused for want of room, which a checkpoint may give, or somebody waits for rows to get from memtables
    /// into the base.
    checkpoint_wanted: AtomicBool,
    /// Why the last checkpoint failed.
    checkpoint_error: Mutex<Option<Error>>,
    /// The checkpointer, and fills of indexes that go on after a restart.
    workers: Mutex<Vec<thread::JoinHandle<()>>>,
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
        self.0.sequences.current(&self.0, sequence)
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
        let log = options.directory.join("wal");
        disk.create_directory(&log)?;
        let room =
            Arc::new(Room::new(disk.clone(), base_directory.clone(), log.clone(), options.disk_reserve)?);
        let base = Base::open(
            BaseOptions {
                disk: disk.clone(),
                directory: base_directory,
                cache_size: options.cache_size,
                reserve: options.disk_reserve,
                new_database_id: options.new_database_id,
            },
            metrics.clone(),
        )?;
        let meta = base.meta();
        let applied = meta.applied;
        let (next_oid, next_storage) = (meta.next_oid.max(FIRST_USER_OID), meta.next_storage.max(1));
        let fresh = meta.generation == 0;
        let mut wal_options = WalOptions::new(log, meta.database_id);
        wal_options.segment_size = options.wal_segment_size;
        wal_options.retain = options.wal_keep_segments;
        wal_options.max_size = options.wal_max_size;
        wal_options.archive = options.wal_archive.clone();
        wal_options.room = Some(room.clone());
        wal_options.synchronous = options.synchronous;
        wal_options.queue_limit =
            usize::try_from(options.memtable_size).map_or(64 << 20, |n| n.clamp(4 << 20, 64 << 20));
        wal_options.threads = options.threads;
        let (wal, mut replay) = Wal::open(disk, wal_options, applied, metrics.clone())?;
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
        let bulk = Arc::new(Bulk::default());
        bulk.recover(meta.pending.keys().copied());
        let version =
            SuperVersion { active: Arc::default(), frozen: Vec::new(), base, applied, bulk: bulk.clone() };
        let mut inner = Inner {
            metrics,
            wal,
            room,
            version: ArcSwap::from_pointee(version),
            bulk,
            registry: Registry::default(),
            locks: Arc::new(LockManager::new()),
            catalog: ArcSwap::from_pointee(catalog.clone()),
            index_filled: Mutex::default(),
            newest_index: AtomicU64::new(0),
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
            checkpointing: Mutex::new(Checkpointing::of(catalog.clone())),
            aside: Default::default(),
            signal: Arc::default(),
            checkpoint_wanted: AtomicBool::new(false),
            checkpoint_error: Mutex::new(None),
            workers: Mutex::default(),
            directory_lock: Mutex::new(Some(lock)),
            is_new: false,
            closed: AtomicBool::new(false),
            options,
        };
        let started = Instant::now();
        let (mut records, mut told) = (0u64, started);
        let progress = inner.options.progress.clone();
        let mut recovery = Recovery::new(&inner, catalog);
        while let Some(chunk) = replay.next() {
            let chunk = chunk?;
            for (lsn, record) in chunk.iter() {
                recovery.apply(&inner, lsn, record)?;
                records += 1;
                progress.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
            }
            progress.records.store(records, Ordering::Relaxed);
            replay.give_back(chunk);
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                tracing::info!(records, megabytes = progress.bytes() >> 20, "replaying the log");
            }
        }
        drop(replay);
        recovery.settle(&inner);
        recovery.catalog.version = 1;
        if records > 0 {
            let megabytes = progress.bytes() >> 20;
            tracing::info!(
                records,
                megabytes,
                elapsed_ms = started.elapsed().as_millis() as u64,
                "log replayed"
            );
        }
        let catalog = recovery.catalog;
        inner.bulk.collect_garbage();
        inner.catalog.store(Arc::new(catalog));
        inner.pipeline.lock().first = inner.wal.last_lsn().0 + 1;
        inner.is_new = fresh && records == 0;
        let inner = Arc::new(inner);
        if inner.options.threads && !inner.options.manual_checkpoints {
            let (weak, signal) = (Arc::downgrade(&inner), inner.signal.clone());
            let interval = inner.options.checkpoint_interval;
            let thread = thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(move || checkpointer(weak, &signal, interval))?;
            inner.workers.lock().push(thread);
        }
        let engine = Engine(inner);
        if engine.0.options.threads {
            engine.resume_builds()?;
        }
        Ok(engine)
    }

    /// Goes on with the fill of indexes that the last stop interrupted, in a thread of its own.
    fn resume_builds(&self) -> Result<()> {
        let interrupted = self.interrupted_builds();
        if interrupted.is_empty() {
            return Ok(());
        }
        let weak = Arc::downgrade(&self.0);
        let thread = thread::Builder::new().name("index-build".to_owned()).spawn(move || {
            crate::disk::set_thread_priority(crate::disk::Priority::Background);
            for index in interrupted {
                let Some(inner) = weak.upgrade() else { return };
                let engine = Engine(inner);
                let name = engine.catalog().index(index).map(|index| index.name.clone()).unwrap_or_default();
                tracing::info!(index = name, "going on with the fill of an index");
                let closing = || match engine.0.is_closed() {
                    true => Err(Error::new(SqlState::ADMIN_SHUTDOWN, "the engine is closing")),
                    false => Ok(()),
                };
                match engine.build_index_concurrently(index, &closing) {
                    Ok(()) => tracing::info!(index = name, "index ready"),
                    Err(_) if engine.0.is_closed() => {}
                    Err(error) => {
                        engine.give_up_build(index);
                        tracing::error!(index = name, %error, "the index stays unfinished");
                    }
                }
            }
        })?;
        self.0.workers.lock().push(thread);
        Ok(())
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
        for thread in std::mem::take(&mut *inner.workers.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
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
            open: AtomicU32::new(0),
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

    /// How the memory of the storage is divided: bytes by component.
    pub fn memory_limits(&self) -> [(&'static str, u64); 3] {
        let options = &self.0.options;
        [
            ("caches", options.cache_size),
            ("memtable", options.memtable_size.saturating_mul(2)),
            ("old_snapshots", options.old_snapshot_memory),
        ]
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
    /// nothing up to twice [`Options::memtable_size`], then growing to a second at four times; and the same while the
    /// room that the next checkpoint needs is more than half of what the disk has. Nothing, too, while
    /// checkpoints fail: waiting does not help then, and the commit is refused at once.
    pub fn commit_delay(&self) -> Option<Duration> {
        if self.0.checkpoint_error.lock().is_some() {
            return None;
        }
        let size = self.0.options.memtable_size.max(1);
        let over = self.0.memtable_bytes().saturating_sub(size * 2);
        let share = (over as f64 / (size * 2) as f64).max(self.0.room.pressure()).min(1.0);
        if share == 0.0 {
            return None;
        }
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

    /// Carries out what may keep its thread for long: see [`Options::aside`].
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        let (mut work, mut done) = (Some(work), None);
        (self.options.aside)(&mut || done = work.take().map(|work| work()));
        done.unwrap_or_else(|| unreachable!("what was to be carried out aside was not, or twice"))
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
        // Hidden columns come while statements go on that know the table without them, and meet rows that have them.
        let known = table.columns.len();
        let catalog = self.catalog.load();
        let newest = catalog.table(table.oid);
        let wider = newest.filter(|now| now.storage == table.storage && now.columns.len() > known);
        let table = wider.map_or(table, |now| &**now);
        let mut hasher = std::hash::DefaultHasher::new();
        (table.storage, known).hash(&mut hasher);
        for column in &table.columns {
            (column.type_oid, column.typmod, &column.missing).hash(&mut hasher);
        }
        let key = hasher.finish();
        if let Some(layout) = self.layouts.read().get(&key) {
            return Ok(layout.clone());
        }
        let layout = RowLayout::of(table)?.known_to(known);
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
        let reservation = self.wal.reserve(record.len()).inspect_err(|error| self.want_room(error))?;
        self.pipeline.enter(owner, |unsaved| {
            let lsn = self.wal.append(reservation, record)?;
            note(unsaved);
            self.aside[0].store(unsaved.room(), Ordering::Relaxed);
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

    /// Looks at or changes what the next checkpoint carries; between two commits.
    pub(crate) fn with_unsaved<T>(&self, run: impl FnOnce(&mut Unsaved) -> T) -> T {
        run(&mut self.pipeline.lock().unsaved)
    }

    /// What the base, or a checkpoint on its way there, knows about the fill of an index.
    pub(crate) fn saved_build(&self, index: Oid) -> Option<u32> {
        let state = self.checkpointing.lock();
        let pending = state.pending.iter().rev().find_map(|generation| generation.unsaved.builds.get(&index));
        match pending {
            Some(progress) => *progress,
            None => self.version.load().base.meta().builds.get(&index).copied(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// When the index that was filled last was committed.
    pub(crate) fn newest_index(&self) -> Lsn {
        Lsn(self.newest_index.load(Ordering::Acquire))
    }

    /// Indexes filled after `ts`.
    pub(crate) fn indexes_since(&self, ts: Lsn) -> Vec<Oid> {
        self.index_filled.lock().iter().filter(|(_, at)| **at > ts).map(|(oid, _)| *oid).collect()
    }

    /// Makes changes of the commit `at` part of what everybody resolves against.
    pub(crate) fn publish(&self, at: Lsn, changes: &[Change]) {
        let mut catalog = (*self.catalog.load_full()).clone();
        for change in changes {
            // Other snapshots must not look for the past in it. (One built in steps has waited for them.)
            if let Change::Put(Object::Index(index)) = change
                && index.state.is_full()
                && catalog.index(index.oid).is_none_or(|known| known.storage != index.storage)
            {
                self.index_filled.lock().insert(index.oid, at);
                self.newest_index.fetch_max(at.0, Ordering::AcqRel);
            }
            catalog.apply(change);
            match change {
                Change::Drop(oid) => {
                    self.index_filled.lock().remove(oid);
                    self.sequences.forget(*oid);
                    self.statistics.write().remove(oid);
                }
                Change::Put(Object::Sequence(sequence)) => self.sequences.adopt(sequence),
                Change::Put(_) => {}
            }
        }
        catalog.version += 1;
        self.catalog.store(Arc::new(catalog));
    }

    /// Refuses a commit while checkpoints fail and memory is full of what they should have written: with what
    /// they failed with (53100 for a full disk). Where they succeed, [`Engine::commit_delay`] slows commits down from
    /// the same point on. Also one whose changes would leave too little room on the disk for
    /// the next checkpoint (53100); `drops`: see [`Room::for_commit`]. What it gives is kept until they are applied.
    pub(crate) fn admit(&self, own: Cost, drops: bool) -> Result<Taken<'_>> {
        if self.memtable_bytes() > self.options.memtable_size.saturating_mul(2)
            && let Some(error) = self.checkpoint_error.lock().clone()
        {
            return Err(error);
        }
        let (ahead, aside) = self.ahead(0);
        let taken = self.room.for_commit(ahead.room.saturating_add(aside), ahead.more(own), drops);
        // Better early than with refusals.
        if self.room.pressure() > 0.0 && !self.checkpoint_wanted.swap(true, Ordering::AcqRel) {
            self.signal.request();
        }
        taken.inspect_err(|error| self.want_room(error))
    }

    /// The checkpoints of everything in memory, over a base that has come to take so many bytes more; and what they
    /// write beside memtables.
    fn ahead(&self, more: u64) -> (Ahead, u64) {
        let version = self.version.load();
        let meta = version.base.meta();
        // Those that have failed become no part of the base.
        let pieces = meta.pending.iter().filter(|(id, _)| !self.bulk.is_aborted(**id));
        let changes = pieces.map(|(_, piece)| piece.cost()).fold(Cost::default(), Cost::and);
        let mut ahead = Ahead::of(version.base.size().saturating_add(more), meta.unfolded_room());
        for memtable in version.frozen.iter().rev() {
            ahead = ahead.then(memtable.cost());
        }
        let aside = self.aside.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        (ahead.then(version.active.cost().and(changes)), aside)
    }

    /// Bytes that the checkpoints of everything in memory take on the disk: see [`Inner::ahead`].
    pub(crate) fn checkpoint_room(&self, more: u64) -> u64 {
        let (ahead, aside) = self.ahead(more);
        ahead.room.saturating_add(aside)
    }

    /// Asks for a checkpoint where that may help.
    fn want_room(&self, error: &Error) {
        if error.state() == SqlState::DISK_FULL {
            self.checkpoint_wanted.store(true, Ordering::Release);
            self.signal.request();
        }
    }

    /// Bytes of committed changes that the base does not hold.
    fn memtable_bytes(&self) -> u64 {
        self.version.load().memtables().map(|memtable| memtable.bytes()).sum()
    }

    /// The first row id of a group that nobody else gets ids of.
    pub(crate) fn new_group(&self, storage: u32) -> RowId {
        let counter = self.row_counter(storage);
        let mut known = counter.load(Ordering::Relaxed);
        loop {
            let first = known.next_multiple_of(GROUP_ROWS);
            match counter.compare_exchange(known, first + GROUP_ROWS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return RowId(first),
                Err(newer) => known = newer,
            }
        }
    }

    /// The same layers above another handle of the base.
    fn exchange_base(&self, base: Base) {
        let _switch = self.pipeline.lock();
        let version = self.version.load_full();
        self.version.store(Arc::new(SuperVersion {
            active: version.active.clone(),
            frozen: version.frozen.clone(),
            applied: version.applied.max(base.meta().applied),
            base,
            bulk: self.bulk.clone(),
        }));
    }

    /// After an I/O error the base answers nothing: opens it anew. Who still reads the old one gets 58030; those
    /// who begin now go on.
    pub(crate) fn revive(&self) {
        let _no_checkpoint = self.checkpointing.lock();
        let base = self.version.load().base.clone();
        if !base.failed() {
            return;
        }
        match base.reopen() {
            Ok(reopened) => {
                tracing::warn!("the data file was opened anew after an I/O error");
                self.exchange_base(reopened);
            }
            // The next one who begins tries again.
            Err(error) => tracing::error!(%error, "the data file could not be opened anew"),
        }
    }
}
