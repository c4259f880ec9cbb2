//! Storage: catalog, MVCC, locks, WAL, the redb base, indexes, statistics.
//!
//! Life of a write (engine/README.md tells it in full):
//! 1. Statements write into the transaction's private write set ([`Transaction`]); row locks are in the lock table.
//! 2. Commit encodes one redo record, takes its LSN (= commit timestamp) and its place in the log in one short
//!    mutex, applies the write set to the active memtable, releases row locks, and only then waits until the log
//!    is durable up to its LSN.
//! 3. The WAL thread writes what has queued, one sync a batch.
//! 4. The checkpointer freezes the memtable at X, writes the changes into redb in one transaction that also
//!    records X, publishes the new base and recycles the log below X. Recovery = open redb, replay LSN > X.
//!
//! Invariant: no SQL text, no DataFusion, no tokio, no sockets. Calls are synchronous, except that waiting for
//! a lock and waiting for durability are plain futures that any runtime can poll.
//! Invariant: only `base/` names redb, only `wal/` names log files, only `disk` touches the operating system.

pub mod base;
mod bulk;
pub mod catalog;
mod check;
mod dead_run;
pub mod disk;
mod engine;
pub mod ids;
pub mod index;
mod index_build;
pub mod lock;
mod memtable;
pub mod metrics;
mod pipeline;
mod planted;
#[cfg(test)]
mod proof;
pub mod row;
pub mod scan;
mod sequence;
mod serializable;
pub mod snapshot;
mod stage;
pub mod statistics;
pub mod sync;
pub mod transaction;
mod validation;
pub mod wal;
mod write_set;

/// The name that the shared test fixtures know this crate by.
#[cfg(test)]
use crate as under_test;

pub use catalog::Catalog;
pub use check::{CheckReport, check};
pub use engine::{Engine, OpenProgress, Options, SessionState};
pub use ids::{CommandId, Isolation, Lsn, RowId, TableId};
pub use index::KeyRange;
pub use lock::{AdvisoryKey, LockInfo, LockManager, LockTag, RowLockMode, TableLockMode, Wait};
pub use metrics::Metrics;
pub use row::{Row, RowLayout};
pub use scan::{IndexScan, RowBatch, TableScan};
pub use serializable::{ColumnRange, Columns, ScanFilter};
pub use snapshot::Snapshot;
pub use statistics::{ColumnStatistics, CommonValue, StatisticsValue, TableStatistics};
pub use transaction::{
    AdvisoryScope, Commit, DurableFuture, Inserted, RowLock, Savepoint, Transaction, UniqueCheck, concurrent,
};
pub use wal::archive::{Archive, DirectoryArchive};
