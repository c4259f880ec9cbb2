//! The operating system's files.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FlockOperation, OFlags};

use super::{AlignedBuffer, BLOCK, Directory, Disk, File, Mode};

/// Files of this machine. New files are readable by the owner only.
#[derive(Debug)]
pub struct RealDisk(Arc<Reads>);

impl RealDisk {
    #[expect(clippy::new_ret_no_self, reason = "a disk is only ever used shared")]
    pub fn new() -> Arc<dyn Disk> {
        RealDisk::reading_aside(|work| work())
    }

    /// With reads carried out by `aside` ([`crate::Options::aside`]) while they take long: while what is read is not in
    /// the system's memory.
    pub fn reading_aside(aside: fn(&mut dyn FnMut())) -> Arc<dyn Disk> {
        Arc::new(RealDisk(Arc::new(Reads { aside, mean: AtomicU64::new(0) })))
    }
}

/// To leave a thread to others and have another in its place takes about a third of this.
const LONG_READ: Duration = Duration::from_micros(30);

/// How long the reads of a disk take.
#[derive(Debug)]
struct Reads {
    aside: fn(&mut dyn FnMut()),
    /// Nanoseconds, of about the last eight.
    mean: AtomicU64,
}

impl Reads {
    fn carry_out(&self, mut read: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let mean = self.mean.load(Ordering::Relaxed);
        let (mut result, mut took) = (Ok(()), 0);
        let mut timed = || {
            let begun = Instant::now();
            result = read();
            took = begun.elapsed().as_nanos() as u64;
        };
        if u128::from(mean) < LONG_READ.as_nanos() {
            timed();
        } else {
            (self.aside)(&mut timed);
        }
        // Of two at a time one may be forgotten.
        self.mean.store(mean - mean / 8 + took / 8, Ordering::Relaxed);
        result
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// Opened so that every write returns when it is durable.
    durable: bool,
    reads: Arc<Reads>,
}

#[derive(Debug)]
struct Lock {
    _directory: fs::File,
}

impl Directory for Lock {}

fn open(path: &Path, mode: Mode, flags: OFlags) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(flags.bits() as i32);
    match mode {
        Mode::Existing => {}
        Mode::Create => {
            options.create(true);
        }
        Mode::CreateNew => {
            options.create_new(true);
        }
    }
    options.open(path)
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = open(path, mode, OFlags::empty())?;
        Ok(Arc::new(RealFile { file, durable: false, reads: self.0.clone() }))
    }

    fn open_log(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        // Some file systems refuse O_DIRECT when opening, some only when used: both mean the page cache and
        // fdatasync. The file is made by the first open, so the others must not insist on making it.
        let plain = open(path, mode, OFlags::empty())?;
        if let Ok(file) = open(path, Mode::Existing, OFlags::DIRECT | OFlags::DSYNC) {
            // Reading nothing at the end of an empty file is fine; what counts is that it is not refused.
            let mut probe = AlignedBuffer::zeroed(BLOCK);
            if file.read_at(&mut probe, 0).is_ok() {
                return Ok(Arc::new(RealFile { file, durable: true, reads: self.0.clone() }));
            }
        }
        Ok(Arc::new(RealFile { file: plain, durable: false, reads: self.0.clone() }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // The new names must outlive a crash as what will be in them does.
        for made in missing {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync_directory(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Directory>> {
        let file = fs::File::open(directory)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(Lock { _directory: file })),
            Err(error) => Err(error.into()),
        }
    }

    fn file_system(&self, directory: &Path) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::dev(&fs::metadata(directory)?))
    }

    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(directory)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.durable {
            // The log is read when it is replayed, past the system's memory.
            return self.file.read_exact_at(out, offset);
        }
        self.reads.carry_out(|| self.file.read_exact_at(out, offset))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        if self.durable { Ok(()) } else { self.file.sync_data() }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocated(&self) -> io::Result<u64> {
        // Its unit is 512 bytes, whatever the file system's.
        Ok(std::os::unix::fs::MetadataExt::blocks(&self.file.metadata()?).saturating_mul(512))
    }

    fn prefetch(&self, offset: u64, len: u64) {
        // A hint: a file system without it costs a later wait, nothing else.
        let _ = rustix::fs::fadvise(&self.file, offset, std::num::NonZeroU64::new(len), Advice::WillNeed);
    }
}

/// Moves the calling thread ahead of others (the log: everybody waits for it) or behind them (checkpoints).
/// Where the system does not permit it, nothing changes.
///
/// A thread that has waited for the disk must run at once: on busy processors it otherwise waits for the next
/// tick, 4 ms instead of 50 us per commit. Niceness helps only against threads of the same control group, the
/// lowest real-time priority against all. The log thread sleeps after every batch, so it starves nobody.
pub fn set_thread_priority(priority: super::Priority) {
    let nice = match priority {
        super::Priority::Log if real_time() => return,
        super::Priority::Log => -20,
        super::Priority::Background => 10,
    };
    // On Linux the "process" of setpriority is the thread.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
}

/// Gives the calling thread the lowest real-time priority; `false` when that is not permitted.
fn real_time() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, and the call only reads the parameter, which lives until it returns.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ASIDE: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn reads_go_aside_while_they_take_long() {
        let aside = |work: &mut dyn FnMut()| {
            ASIDE.fetch_add(1, Ordering::Relaxed);
            work();
        };
        let reads = Reads { aside, mean: AtomicU64::new(0) };
        let slow = || {
            std::thread::sleep(Duration::from_millis(5));
            Err(io::Error::other("broken"))
        };
        assert_eq!(reads.carry_out(slow).unwrap_err().to_string(), "broken");
        assert_eq!(ASIDE.load(Ordering::Relaxed), 0, "nobody could know");
        assert_eq!(reads.carry_out(slow).unwrap_err().to_string(), "broken");
        assert_eq!(ASIDE.load(Ordering::Relaxed), 1);
        // Read from memory again.
        (0..10_000).for_each(|_| reads.carry_out(|| Ok(())).unwrap());
        let before = ASIDE.load(Ordering::Relaxed);
        assert!((2..5_000).contains(&before), "{before}");
        (0..100).for_each(|_| reads.carry_out(|| Ok(())).unwrap());
        assert!(ASIDE.load(Ordering::Relaxed) < before + 100);
    }
}
