//! What the engine counts about itself. Plain atomics: writing one never waits, reading them is a snapshot
//! that need not be consistent across counters.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Never goes below zero by more than what was added: callers subtract only what they added.
    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of [`Histogram`], in seconds; the last bucket has none.
pub const BUCKETS: [f64; 14] =
    [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Observations per bucket, not cumulated; one more entry than [`BUCKETS`].
    pub fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed))
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// All observations added up, in seconds.
    pub fn sum(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// One cache: how often it answered, what it holds.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    pub hits: Counter,
    pub misses: Counter,
    pub evictions: Counter,
    pub entries: Gauge,
    pub bytes: Gauge,
}

/// Everything the engine counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Seconds per durable log write (one per batch).
    pub wal_sync: Histogram,
    pub wal_batches: Counter,
    pub wal_records: Counter,
    /// Bytes written to the log, headers and padding included.
    pub wal_bytes: Counter,
    /// Bytes of all log segments.
    pub wal_size: Gauge,
    /// By how much that is more than it should be: a checkpoint or the archive is behind.
    pub wal_over_limit: Gauge,
    /// Finished segments not archived yet.
    pub wal_unarchived: Gauge,
    pub wal_archived: Counter,
    pub wal_archive_failures: Counter,
    /// Calls that read from, and wrote to, files.
    pub disk_reads: Counter,
    pub disk_writes: Counter,
    pub disk_read_bytes: Counter,
    pub disk_write_bytes: Counter,
    /// The cache of row blocks and group deltas above the base.
    pub block_cache: CacheMetrics,
    /// Bytes of the active and the frozen memtables.
    pub memtable_bytes: Gauge,
    /// Bytes of memtables that only old snapshots still see, as of the last checkpoint.
    pub old_snapshot_bytes: Gauge,
    /// Memtables taken away from old snapshots.
    pub snapshots_ended: Counter,
    pub checkpoints: Counter,
    /// Seconds per checkpoint.
    pub checkpoint: Histogram,
    pub commits: Counter,
    pub rollbacks: Counter,
    pub deadlocks: Counter,
}
