//! Room on the disk that is left for the checkpoint of what was committed.
//!
//! The hard idea: what is committed has yet to be written into the base, and as long as it is not, the log cannot be
//! used again. If commits and log segments took the last of a disk, nothing would ever free it. So whoever wants room
//! for something new first leaves what the checkpoint of everything in memory may need, and is refused (53100)
//! where there is less: then the checkpoint still goes through, and with the memory that it empties, and the log that it
//! sets free, commits go on. Each announces what it takes before it looks, so that of two neither is missed.
//!
//! What a checkpoint takes is not what it changes: an index entry takes the page it falls into, a few rows of a group the
//! group's delta. So these are counted beside the bytes ([`Cost`]). Folding deltas, which takes most, can wait: it only
//! uses room that nobody needs.
//!
//! The reserve is taken in three parts: ordinary commits leave all of it, those that drop things half, so that the room
//! they give can be reached, and a checkpoint the last quarter.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use value::{Error, Result, SqlState};

use super::Disk;
use crate::sync::{AtomicU64, Ordering};

/// How long a disk with room to spare is not looked at again.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// See the top of the file. Of one file system.
#[derive(Debug)]
pub struct Room {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    reserve: u64,
    /// What the checkpoint of the memtables takes, as of the last commit.
    memtables: AtomicU64,
    /// The same of commits on their way there.
    commits: AtomicU64,
    /// Bytes of log segments being made.
    segments: AtomicU64,
    opened: Instant,
    /// See [`Room::pressure`], in thousandths.
    pressure: AtomicU64,
    /// What was free when it was last looked, and until when (milliseconds since `opened`) that may do.
    known: AtomicU64,
    known_until: AtomicU64,
}

/// Room taken until it shows in another way; given back when dropped.
#[derive(Debug)]
#[must_use = "it is given back when dropped"]
pub struct Taken<'a> {
    from: &'a AtomicU64,
    bytes: u64,
}

impl<'a> Taken<'a> {
    fn take(from: &'a AtomicU64, bytes: u64) -> Taken<'a> {
        from.fetch_add(bytes, Ordering::SeqCst);
        Taken { from, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.from.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// What is counted of changes that have yet to be written into the base.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Rows and keys, with what they cost in memory.
    pub bytes: u64,
    /// What they may touch: [`Cost::ENTRY`] and [`Cost::GROUP`] added up.
    pub touched: u64,
}

impl Cost {
    /// An index entry: a page, and its part of those above.
    pub const ENTRY: u64 = 5 << 10;
    /// Rows of a group: its delta.
    pub const GROUP: u64 = 160 << 10;

    /// Both together.
    pub fn and(self, other: Cost) -> Cost {
        Cost {
            bytes: self.bytes.saturating_add(other.bytes),
            touched: self.touched.saturating_add(other.touched),
        }
    }

    /// Bytes that the checkpoint takes. A span of rows is written anew when a quarter of it has changed. More than all
    /// there is, `base` bytes, cannot be touched.
    pub fn room(self, base: u64) -> u64 {
        self.bytes.saturating_mul(4).saturating_add(self.touched.min(base))
    }
}

fn free(disk: &dyn Disk, directory: &Path) -> Result<u64> {
    disk.free_space(directory).map_err(|error| super::error("look at", directory, &error))
}

/// Refuses a checkpoint that takes `room` bytes, where there are not as many. Gives what is left beside them.
pub fn for_checkpoint(disk: &dyn Disk, directory: &Path, room: u64, reserve: u64) -> Result<u64> {
    let need = room.saturating_add(reserve / 4);
    let free = free(disk, directory)?;
    if let Some(left) = free.checked_sub(need) {
        return Ok(left);
    }
    Err(Error::new(
        SqlState::DISK_FULL,
        format!("a checkpoint needs {need} bytes in \"{}\", {free} are free", directory.display()),
    )
    .hint("Free space on the disk; the checkpoint is tried again."))
}

impl Room {
    /// `directory` is where the base lies.
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf, reserve: u64) -> Room {
        Room {
            disk,
            directory,
            reserve,
            memtables: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            opened: Instant::now(),
            pressure: AtomicU64::new(0),
            known: AtomicU64::new(0),
            known_until: AtomicU64::new(0),
        }
    }

    /// For a commit whose checkpoint takes so many bytes, beside that of the memtables: to be held until it is among
    /// them. `drops`: it is small and takes things away.
    pub fn for_commit(&self, memtables: u64, own: u64, drops: bool) -> Result<Taken<'_>> {
        let taken = Taken::take(&self.commits, own);
        self.memtables.store(memtables, Ordering::SeqCst);
        let reserve = if drops { self.reserve / 2 } else { self.reserve };
        self.check("a commit", reserve)?;
        Ok(taken)
    }

    /// For a log segment of `bytes`: to be held until it is there. `urgent`: somebody waits for it, who may be one that
    /// drops things.
    pub fn for_segment(&self, bytes: u64, urgent: bool) -> Result<Taken<'_>> {
        let taken = Taken::take(&self.segments, bytes);
        self.check("a log segment", if urgent { self.reserve / 2 } else { self.reserve })?;
        Ok(taken)
    }

    /// It will not be long before something is refused: time to do without what is only good to have.
    pub fn is_short(&self) -> bool {
        self.check("anything", self.reserve.saturating_mul(2)).is_err()
    }

    /// How near it is that commits are refused which a checkpoint would let through: from 0, less than half of what is free
    /// would be needed, to 1.
    pub fn pressure(&self) -> f64 {
        self.pressure.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// A checkpoint is done: the next commit looks again.
    pub fn relieved(&self) {
        self.pressure.store(0, Ordering::Relaxed);
    }

    /// Everything that is taken fits beside what the next checkpoint needs.
    fn check(&self, what: &str, reserve: u64) -> Result<()> {
        let (memtables, commits) =
            (self.memtables.load(Ordering::SeqCst), self.commits.load(Ordering::SeqCst));
        let leave = memtables.saturating_add(commits).saturating_add(reserve);
        let need = leave.saturating_add(self.segments.load(Ordering::SeqCst));
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = milliseconds(self.opened.elapsed());
        // Far from the edge the answer of a moment ago will do.
        if now < self.known_until.load(Ordering::Relaxed) && self.known.load(Ordering::Relaxed) / 2 >= need {
            self.pressure.store(0, Ordering::Relaxed);
            return Ok(());
        }
        let free = free(&*self.disk, &self.directory)?;
        let half = free / 2;
        let pressure = match memtables > leave / 2 && half > 0 {
            true => (u128::from(need.saturating_sub(half)) * 1000 / u128::from(half)).min(1000) as u64,
            false => 0,
        };
        self.pressure.store(pressure, Ordering::Relaxed);
        self.known.store(free, Ordering::Relaxed);
        self.known_until.store(now.saturating_add(milliseconds(LOOK)), Ordering::Relaxed);
        if free >= need {
            return Ok(());
        }
        Err(Error::new(
            SqlState::DISK_FULL,
            format!(
                "no room for {what}: {need} bytes must be free in \"{}\" for it and for the next checkpoint, {free} are",
                self.directory.display()
            ),
        )
        .hint("Free space on the disk; what can be given back by a checkpoint is given back by itself."))
    }
}
