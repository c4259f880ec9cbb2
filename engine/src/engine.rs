//! pending
use std::path::PathBuf;
use std::time::Duration;
use value::{Error, Oid, Result};
use crate::catalog::{Catalog, Table};
use crate::disk::Disk;
use crate::ids::{Isolation, Lsn};
use crate::lock::{AdvisoryKey, LockManager};
use crate::metrics::Metrics;
use crate::statistics::TableStatistics;
use crate::sync::Arc;
use crate::transaction::Transaction;
fn pending<T>() -> Result<T> { Err(Error::internal("pending")) }
/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// Bytes of memory for pages and blocks of the base.
    pub buffer_pool_size: u64,
    /// Bytes of memtable after which a checkpoint begins; commits are slowed down at a multiple of it.
    pub memtable_size: u64,
    pub wal_segment_size: u64,
    pub checkpoint_interval: Duration,
    pub checkpoint_wal_bytes: u64,
    /// false: log batches are written, not synced.
    pub synchronous: bool,
}
impl Options {
    pub fn new(directory: impl Into<PathBuf>) -> Options {
        Options { directory: directory.into(), disk: default_disk(), buffer_pool_size: 256 << 20, memtable_size: 256 << 20, wal_segment_size: 100 << 20, checkpoint_interval: Duration::from_secs(30), checkpoint_wal_bytes: 256 << 20, synchronous: true }
    }
}
/// What outlives a transaction within a session: its snapshot floor, temporary objects and their rows, session-level
/// advisory locks. One per session; clones share it.
#[derive(Clone, Debug)]
pub struct SessionState(Arc<()>);
impl SessionState {
    /// Temporary tables and their indexes and sequences known to this session.
    pub fn temporary_objects(&self) -> Vec<crate::catalog::Object> { Vec::new() }
}
#[derive(Clone)]
pub struct Engine(Arc<LockManager>);
impl std::fmt::Debug for Engine { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Engine") } }
impl Engine {
    pub fn open(_options: Options) -> Result<Engine> { pending() }
    pub fn is_new(&self) -> bool { false }
    pub fn close(&self) -> Result<()> { pending() }
    pub fn catalog(&self) -> Arc<Catalog> { Arc::new(Catalog::default()) }
    pub fn new_oid(&self) -> Oid { 0 }
    pub fn new_storage_id(&self) -> u32 { 0 }
    /// The state of a new session; `pid` names it in pg_locks and deadlock reports.
    pub fn new_session(&self, _pid: i32, _database: Oid) -> SessionState { SessionState(Arc::new(())) }
    /// A transaction of a session of its own.
    pub fn begin(&self, isolation: Isolation, read_only: bool) -> Transaction { self.begin_for(&self.new_session(0, 0), isolation, read_only) }
    pub fn begin_for(&self, _session: &SessionState, isolation: Isolation, read_only: bool) -> Transaction { Transaction { isolation, read_only } }
    pub fn checkpoint(&self) -> Result<()> { pending() }
    pub fn statistics(&self, _table: &Table) -> Arc<TableStatistics> { Arc::default() }
    pub fn store_statistics(&self, _table: Oid, _statistics: TableStatistics) -> Result<()> { pending() }
    pub fn metrics(&self) -> &Metrics { unreachable!() }
    pub fn durable_lsn(&self) -> Lsn { Lsn(0) }
    pub fn last_lsn(&self) -> Lsn { Lsn(0) }
    pub fn wal_bytes(&self) -> u64 { 0 }
    pub fn locks(&self) -> &LockManager { &self.0 }
    pub fn sealed(&self) -> Option<Error> { None }
    /// How long a committing session is to pause (asynchronously, before it commits) while memtables are over budget.
    pub fn commit_delay(&self) -> Option<Duration> { None }
    /// Gives back one hold of a session-level advisory lock; false (a warning in SQL) when the session has none.
    pub fn unlock_advisory(&self, _session: &SessionState, _key: AdvisoryKey, _shared: bool) -> bool { false }
    pub fn unlock_all_advisory(&self, _session: &SessionState) {}
    /// The oldest snapshot still in use.
    pub fn oldest_snapshot(&self) -> Option<Lsn> { None }
}
fn default_disk() -> Arc<dyn Disk> { unreachable!() }
