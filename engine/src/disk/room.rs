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
//! uses room that nobody needs; deltas that have grown too large meanwhile are counted on their own.
//!
//! The reserve is taken in three parts: ordinary commits leave all of it, those that drop things half, so that the room
//! they give can be reached, and a checkpoint the last quarter. What is dropped does not make the file of the base smaller, it
//! leaves pages in it that the next checkpoints use. How many of them lie where the file has a place on the disk is not
//! known beforehand (all but a few in a hundred, as a rule), so a checkpoint is never granted less for them; but where there
//! are some, ordinary commits leave only half of the reserve, and those that drop things three eighths.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use value::{Error, Result, SqlState};

use super::Disk;
use crate::sync::{AtomicU64, Ordering};

/// How long a disk with room to spare is not looked at again.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// See the top of the file.
#[derive(Debug)]
pub struct Room {
    disk: Arc<dyn Disk>,
    /// Where the base lies.
    directory: PathBuf,
    /// Where the log lies, if that is another file system: its segments only need room there.
    log: Option<PathBuf>,
    reserve: u64,
    /// What the checkpoint of the memtables takes, as of the last commit.
    memtables: AtomicU64,
    /// The same of commits on their way there.
    commits: AtomicU64,
    /// Bytes of the base that it can use again, as far as is known.
    unused: AtomicU64,
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
    /// An index entry: its page and the one above. (Those further up: [`Cost::fixed`].)
    pub const ENTRY: u64 = 9 << 10;
    /// Rows of a group: its delta, which may just have come to be too large for a page of 128 KiB and takes the next size, and
    /// the pages above.
    pub const GROUP: u64 = 272 << 10;
    /// A value that has a key of its own.
    pub const VALUE: u64 = 12 << 10;

    /// Both together.
    pub fn and(self, other: Cost) -> Cost {
        Cost {
            bytes: self.bytes.saturating_add(other.bytes),
            touched: self.touched.saturating_add(other.touched),
        }
    }

    /// Bytes that the checkpoint takes for it, over a base that takes `base` bytes: rows are written with neighbours of
    /// their size at most, into pages of at most twice theirs. More than all there is cannot be touched, and when it is, it
    /// may come to fill twice as many pages.
    pub fn room(self, base: u64) -> u64 {
        self.bytes.saturating_mul(4).saturating_add(self.touched.min(base.saturating_mul(2)))
    }

    /// Bytes that any change of a base takes: roots, what the store keeps about its pages (four bits of each, in a value that
    /// may take twice its size), pages high up in indexes (one of thousands).
    pub fn fixed(base: u64) -> u64 {
        (128 << 10) + base / 2048
    }
}

/// What the next checkpoints take, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// Bytes of the disk for all of them.
    pub room: u64,
    /// Bytes that the base takes after them, at most.
    base: u64,
    /// What writing deltas anew takes that wait to be folded.
    unfolded: u64,
    /// Bytes of changes so far.
    bytes: u64,
}

impl Ahead {
    /// Before the first one. `base`: bytes that it takes on the disk; `unfolded`: what writing deltas
    /// anew takes that wait to be folded.
    pub fn of(base: u64, unfolded: u64) -> Ahead {
        Ahead { room: 0, base, unfolded, bytes: 0 }
    }

    /// One more. What the one before has left in deltas is written once more by this one.
    pub fn then(self, cost: Cost) -> Ahead {
        let earlier = self.bytes.saturating_mul(2);
        let own = Cost::fixed(self.base).saturating_add(cost.room(self.base)).saturating_add(self.unfolded);
        let own = own.saturating_add(earlier);
        Ahead {
            room: self.room.saturating_add(own),
            base: self.base.saturating_add(own),
            bytes: self.bytes.saturating_add(cost.bytes),
            ..self
        }
    }

    /// Bytes that changes would add to the last of them.
    pub fn more(self, cost: Cost) -> u64 {
        cost.room(self.base)
    }
}

fn free(disk: &dyn Disk, directory: &Path) -> Result<u64> {
    disk.free_space(directory).map_err(|error| super::error("look at", directory, &error))
}

fn no_room(message: String) -> Error {
    Error::new(SqlState::DISK_FULL, message)
        .hint("Free space on the disk; what can be given back by a checkpoint is given back by itself.")
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
    /// `directory` is where the base lies, `log` where the log does; both are there.
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf, log: PathBuf, reserve: u64) -> Result<Room> {
        let file_system = |directory: &Path| {
            disk.file_system(directory).map_err(|error| super::error("look at", directory, &error))
        };
        let log = (file_system(&directory)? != file_system(&log)?).then_some(log);
        Ok(Room {
            disk,
            directory,
            log,
            reserve,
            memtables: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            unused: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            opened: Instant::now(),
            pressure: AtomicU64::new(0),
            known: AtomicU64::new(0),
            known_until: AtomicU64::new(0),
        })
    }

    /// For a commit whose checkpoint takes so many bytes, beside that of the memtables: to be held until it is among
    /// them. `drops`: it is small and takes things away.
    pub fn for_commit(&self, memtables: u64, own: u64, drops: bool) -> Result<Taken<'_>> {
        let taken = Taken::take(&self.commits, own);
        self.memtables.store(memtables, Ordering::SeqCst);
        self.check("a commit", self.leave(drops))?;
        Ok(taken)
    }

    /// For a log segment of `bytes`: to be held until it is there. `urgent`: somebody waits for it, who may be one that
    /// drops things.
    pub fn for_segment(&self, bytes: u64, urgent: bool) -> Result<Taken<'_>> {
        let taken = Taken::take(&self.segments, bytes);
        match &self.log {
            None => self.check("a log segment", self.leave(urgent))?,
            Some(log) => self.check_log(log, if urgent { self.reserve / 2 } else { self.reserve })?,
        }
        Ok(taken)
    }

    /// Bytes of the reserve that are left alone. What can be used again of the base counts half.
    fn leave(&self, drops: bool) -> u64 {
        let unused = (self.unused.load(Ordering::Relaxed) / 2).min(self.reserve / 2);
        if drops { self.reserve / 2 - unused / 4 } else { self.reserve - unused }
    }

    /// So many bytes of the base can be used again.
    pub fn note_unused(&self, bytes: u64) {
        self.unused.store(bytes, Ordering::Relaxed);
    }

    /// It will not be long before something is refused: time to do without what is only good to have.
    pub fn is_short(&self) -> bool {
        self.check("anything", self.reserve.saturating_mul(2)).is_err()
    }

    /// The same for the log.
    pub fn is_log_short(&self) -> bool {
        match &self.log {
            None => self.is_short(),
            Some(log) => self.check_log(log, self.reserve.saturating_mul(2)).is_err(),
        }
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

    /// The segments being made fit where the log lies by itself.
    fn check_log(&self, log: &Path, reserve: u64) -> Result<()> {
        let need = self.segments.load(Ordering::SeqCst).saturating_add(reserve);
        let free = free(&*self.disk, log)?;
        if free >= need {
            return Ok(());
        }
        let place = log.display();
        Err(no_room(format!(
            "no room for a log segment: {need} bytes must be free in \"{place}\", {free} are"
        )))
    }

    /// Everything that is taken fits beside what the next checkpoint needs.
    fn check(&self, what: &str, reserve: u64) -> Result<()> {
        let (memtables, commits) =
            (self.memtables.load(Ordering::SeqCst), self.commits.load(Ordering::SeqCst));
        let leave = memtables.saturating_add(commits).saturating_add(reserve);
        let segments = if self.log.is_none() { self.segments.load(Ordering::SeqCst) } else { 0 };
        let need = leave.saturating_add(segments);
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
        let place = self.directory.display();
        Err(no_room(format!(
            "no room for {what}: {need} bytes must be free in \"{place}\" for it and for the next checkpoint, {free} are"
        )))
    }
}
