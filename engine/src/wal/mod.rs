//! The write-ahead log: what has been committed, in order, until the base holds it.
//!
//! A commit hands over one encoded redo record and gets its [`Lsn`] (= commit timestamp, counting from 1). A
//! thread of its own writes what has queued as one batch with one sync; whatever queues meanwhile is the next
//! batch: group commit without sleeping. A write or sync that fails seals the log for good: what the disk holds
//! is then unknown, so nothing is retried and nothing is acknowledged any more.
//!
//! Space is claimed before an LSN is given ([`Wal::reserve`]): segments are prewritten one ahead, so that an
//! accepted commit never meets a full disk. Where the disk is short of room for a segment, one that is only kept for
//! looking back takes its place.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use value::{Error, Result};

use crate::disk::Disk;
use crate::disk::room::Room;
use crate::ids::Lsn;
use crate::metrics::Metrics;
use crate::sync::Arc;

pub mod archive;
mod reader;
pub mod record;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Records, Replay};

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// The directory of the segments, made when missing.
    pub directory: PathBuf,
    /// Binds segments to their database: segments of another one are refused.
    pub database_id: u64,
    /// Bytes per segment, a multiple of 4096, at least 64 KiB.
    pub segment_size: u64,
    /// Segments kept below the checkpoint, for looking back.
    pub retain: usize,
    /// Bytes that all segments may take. Fewer are kept below the checkpoint where that would be more; what the
    /// checkpoint or the archive still needs stays all the same, and shows in the metrics.
    pub max_size: u64,
    /// Where finished segments are copied before they are used again.
    pub archive: Option<Arc<dyn archive::Archive>>,
    /// What must stay free on the disk, where there is more than the log.
    pub room: Option<Arc<Room>>,
    /// Bytes that may queue for the writer before [`Wal::reserve`] waits.
    pub queue_limit: usize,
    /// Bytes of records that are kept from the look for the log's end until they are replayed; more are read again.
    pub replay_memory: usize,
    /// `false`: batches are written, not synced; a crash of the machine may lose acknowledged commits.
    pub synchronous: bool,
    /// `false`: no threads; whoever waits for the log does their work.
    pub threads: bool,
}

impl WalOptions {
    /// 100 MB segments, 10 kept, 4 GB at most, synchronous, no archive.
    pub fn new(directory: impl Into<PathBuf>, database_id: u64) -> WalOptions {
        WalOptions {
            directory: directory.into(),
            database_id,
            segment_size: 100 << 20,
            retain: 10,
            max_size: 4 << 30,
            archive: None,
            room: None,
            queue_limit: 64 << 20,
            replay_memory: 64 << 20,
            synchronous: true,
            threads: true,
        }
    }
}

/// An open log. Clones share it; [`Wal::close`] ends it in good order, dropping the last clone
/// writes what has queued and ends it without the closing mark.
#[derive(Clone, Debug)]
pub struct Wal(Arc<writer::Handle>);

impl Wal {
    /// Opens the log in `options.directory`, checks everything after `applied` (what the base holds) and
    /// prepares to append after the last whole record. The second part gives the records after `applied`, in
    /// order. A torn tail ends the log silently; anything else that is missing or damaged is `XX001`.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        applied: Lsn,
        metrics: Arc<Metrics>,
    ) -> Result<(Wal, Replay)> {
        let mut found = reader::scan(&disk, &options, applied)?;
        let replay = found.replay(Arc::clone(&disk), &options)?;
        let handle = writer::start(disk, options, found, applied, metrics)?;
        Ok((Wal(Arc::new(handle)), replay))
    }

    /// Claims log space for a record of `len` bytes; to be called before any commit mutex, since it may wait
    /// for the writer (queue full) or for a segment being prepared. `53100` when the disk is full: the commit
    /// is to be rolled back, later ones may succeed. Space not used comes back when the claim is dropped.
    pub fn reserve(&self, len: usize) -> Result<Reservation> {
        let bytes = self.0.shared.reserve(len)?;
        Ok(Reservation { wal: Arc::clone(&self.0.shared), bytes })
    }

    /// Gives the next LSN to `record` and queues it; never waits, copies nothing. Fails only when the log is
    /// sealed. Called inside the commit mutex, so that LSN order is the order of whatever else happens there.
    pub fn append(&self, mut reservation: Reservation, record: Vec<u8>) -> Result<Lsn> {
        debug_assert!(writer::claim(record.len()) <= reservation.bytes, "claim is large enough");
        let claimed = std::mem::take(&mut reservation.bytes);
        self.0.shared.append(claimed, record)
    }

    /// Every record up to and including this one is on disk.
    pub fn durable_lsn(&self) -> Lsn {
        self.0.shared.durable()
    }

    /// The newest LSN given out (durable or not).
    pub fn last_lsn(&self) -> Lsn {
        self.0.shared.last()
    }

    /// Ready when everything up to `lsn` is durable, or with the error that sealed the log.
    pub fn wait_durable(&self, lsn: Lsn) -> DurableFuture {
        DurableFuture { wal: Some(Arc::clone(&self.0.shared)), lsn }
    }

    /// [`Wal::wait_durable`], blocking the thread.
    pub fn wait_durable_blocking(&self, lsn: Lsn) -> Result<()> {
        self.0.shared.wait_blocking(lsn)
    }

    /// The error that sealed the log, if one did.
    pub fn failed(&self) -> Option<Error> {
        self.0.shared.failed()
    }

    /// Bytes appended since the log was opened, framing included: the difference of two readings is what was
    /// logged between them.
    pub fn bytes(&self) -> u64 {
        self.0.shared.bytes()
    }

    /// Bytes that the segments take on the disk, those prepared ahead included.
    pub fn size(&self) -> u64 {
        self.0.shared.size()
    }

    /// Segments that only hold records <= `below` may be reused; the newest [`WalOptions::retain`] of them stay as
    /// long as the disk has room for others, and those that are not in the archive yet in any case.
    pub fn recycle(&self, below: Lsn) -> Result<()> {
        self.0.shared.recycle(below)
    }

    /// Writes what has queued, marks the end of the log as complete and stops the threads. Later appends fail.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }
}

/// What [`verify`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    pub records: u64,
    /// Bytes of all used segments.
    pub bytes: u64,
    /// Every record from the first one ever on is there, with all it needs.
    pub complete: bool,
}

/// Checks every batch and record of every segment, also of those that the base does not need any more. `XX001`
/// names the first damage.
pub fn verify(disk: &Arc<dyn Disk>, options: &WalOptions, applied: Lsn) -> Result<LogFacts> {
    let found = reader::scan(disk, options, applied)?;
    reader::verify(disk, options, &found)
}

/// Log space claimed for one record.
#[derive(Debug)]
pub struct Reservation {
    wal: Arc<writer::Shared>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.wal.give_back(self.bytes);
        }
    }
}

/// Resolves when a place in the log is durable. Dropping it is fine at any time.
#[derive(Debug)]
#[must_use = "a commit is acknowledged only after this"]
pub struct DurableFuture {
    /// `None`: nothing to wait for.
    wal: Option<Arc<writer::Shared>>,
    lsn: Lsn,
}

impl DurableFuture {
    /// Already durable.
    pub fn ready() -> DurableFuture {
        DurableFuture { wal: None, lsn: Lsn(0) }
    }
}

impl Future for DurableFuture {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &self.wal {
            None => Poll::Ready(Ok(())),
            Some(wal) => wal.poll_durable(self.lsn, context),
        }
    }
}
