//! A disk in memory that loses what was not synced, and fails on demand.
//!
//! The hard idea: every file has two contents, what a reader sees now and what is durable, and the set of
//! 512-byte sectors in which they differ. A crash keeps a random subset of those sectors, so that every torn
//! state a real disk may show can occur. Names work alike: of the creations, renames and removals not yet
//! synced with their directory a crash keeps the first few, as a journal does, or any. Everything random comes
//! from one seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK, Directory, Disk, File, Mode};
use crate::sync::Mutex;

const SECTOR: usize = 512;

/// Kinds of calls that faults count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    /// Also the writing half of a durable write, `set_len`, creations, renames and removals.
    Write,
    /// Also the syncing half of a durable write, and `sync_directory`.
    Sync,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The n-th call of that kind from now (from 0) fails with this error, once, and changes nothing.
    Once(Operation, u64, io::ErrorKind),
    /// Calls of that kind fail from now on, until [`SimulatedDisk::heal`].
    Always(Operation, io::ErrorKind),
    /// The power goes at the n-th write or sync from now (from 0): that one happens without becoming durable,
    /// and everything after it fails until [`SimulatedDisk::crash`].
    PowerCut(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `current` that may differ from `durable`.
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync gave up: readers see them, no later sync writes them, a crash may lose them.
    given_up: BTreeSet<usize>,
    /// Blocks that were written: only these take room, the rest is a hole.
    blocks: BTreeSet<usize>,
}

impl Inode {
    /// Blocks that a write would take.
    fn missing(&self, offset: u64, len: usize) -> usize {
        let Some(last) = (offset as usize + len).checked_sub(1).filter(|_| len > 0) else { return 0 };
        let range = offset as usize / BLOCK..=last / BLOCK;
        range.clone().count() - self.blocks.range(range).count()
    }

    /// What lies behind its end takes no room.
    fn cut_blocks(&mut self) {
        self.blocks.split_off(&self.current.len().div_ceil(BLOCK));
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

#[derive(Clone, Debug)]
struct State {
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
    directories: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    /// After a power cut, until the crash.
    off: bool,
    /// Files opened before the last crash are dead.
    epoch: u64,
    operations: u64,
    trace: u64,
    random: u64,
    /// Bytes that files may take in all.
    capacity: Option<u64>,
    /// A directory that is a file system of its own, and what its files may take.
    apart: Option<(PathBuf, u64)>,
    /// The most that they took since somebody asked.
    most: u64,
    /// Durable writes are one call, as with O_DSYNC; otherwise a write and a sync.
    direct: bool,
}

/// What is to happen before the next sync of a file with that name.
struct Watch {
    name: String,
    run: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).finish_non_exhaustive()
    }
}

/// See the top of the file. Clones share the disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>, Arc<Mutex<Option<Watch>>>);

impl SimulatedDisk {
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk(
            Arc::new(Mutex::new(State {
                inodes: HashMap::new(),
                next_inode: 1,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending: Vec::new(),
                directories: BTreeSet::new(),
                locked: BTreeSet::new(),
                faults: Vec::new(),
                off: false,
                epoch: 0,
                operations: 0,
                trace: 0,
                random: seed,
                capacity: None,
                apart: None,
                most: 0,
                direct: false,
            })),
            Arc::default(),
        )
    }

    /// Runs something when a file of that name is synced the next time, before it is: for orders of events that are rare.
    pub fn before_sync(&self, name: &str, run: impl FnOnce() + Send + 'static) {
        *self.1.lock() = Some(Watch { name: name.to_owned(), run: Box::new(run) });
    }

    /// The power goes and comes back: what was not synced is there, gone, or there in part. Open files and
    /// directory locks are dead, faults are gone.
    pub fn crash(&self) {
        let state = &mut *self.0.lock();
        state.epoch += 1;
        state.off = false;
        state.faults.clear();
        state.locked.clear();
        let pending = std::mem::take(&mut state.pending);
        let first = below(&mut state.random, pending.len() as u64 + 1) as usize;
        let in_order = below(&mut state.random, 2) == 0;
        for (place, change) in pending.iter().enumerate() {
            let kept = if in_order { place < first } else { below(&mut state.random, 2) == 0 };
            if kept {
                apply_name(&mut state.durable_names, change);
            }
        }
        state.names = state.durable_names.clone();
        let linked: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|number, _| linked.contains(number));
        let mut numbers: Vec<u64> = state.inodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let chance = below(&mut state.random, 5);
            let Some(inode) = state.inodes.get_mut(&number) else { continue };
            let random = &mut state.random;
            let len = if below(random, 2) == 0 { inode.durable.len() } else { inode.current.len() };
            inode.durable.resize(len, 0);
            let given_up = std::mem::take(&mut inode.given_up);
            for sector in std::mem::take(&mut inode.dirty).into_iter().chain(given_up) {
                let keep = match chance {
                    0 => false,
                    1 => true,
                    _ => below(random, 2) == 0,
                };
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(len).min(inode.current.len());
                if keep && range.start < range.end {
                    inode.durable[range.clone()].copy_from_slice(&inode.current[range]);
                }
            }
            inode.current = inode.durable.clone();
            inode.cut_blocks();
        }
    }

    /// A disk of its own with the same contents, on which nothing is open.
    pub fn fork(&self) -> SimulatedDisk {
        let mut state = self.0.lock().clone();
        state.epoch += 1;
        state.locked.clear();
        state.faults.clear();
        SimulatedDisk(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// Bytes that all files together take.
    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// The most bytes that all files together took since this was asked last.
    pub fn most_used(&self) -> u64 {
        let state = &mut *self.0.lock();
        let used = state.used();
        std::mem::replace(&mut state.most, used).max(used)
    }

    /// Every file, in order of their paths.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Adds a fault.
    pub fn fail(&self, fault: Fault) {
        self.0.lock().faults.push(fault);
    }

    /// Takes all faults back (not a power cut that has happened).
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// The power goes now: whatever is called from here on fails, until [`SimulatedDisk::crash`].
    pub fn cut(&self) {
        self.0.lock().off = true;
    }

    /// Whether a fault is still to come.
    pub fn is_faulty(&self) -> bool {
        !self.0.lock().faults.is_empty()
    }

    /// Whether a [`Fault::PowerCut`] has struck.
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Writes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// A hash over every write and sync so far, in order: equal for two runs that did the same.
    pub fn trace(&self) -> u64 {
        self.0.lock().trace
    }

    /// Bytes that all files together may take, holes not counted; more is a full disk.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Makes a directory a file system of its own, whose files may take so many bytes. [`SimulatedDisk::set_capacity`]
    /// speaks of the others.
    pub fn set_apart(&self, directory: &Path, capacity: u64) {
        self.0.lock().apart = Some((directory.to_path_buf(), capacity));
    }

    /// Changes one byte of a file behind everybody's back, durably.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let state = &mut *self.0.lock();
        if let Some(inode) = state.names.get(path).and_then(|number| state.inodes.get_mut(number)) {
            for contents in [&mut inode.current, &mut inode.durable] {
                if let Some(byte) = contents.get_mut(offset) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// The current contents of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        Some(state.inodes.get(state.names.get(path)?)?.current.clone())
    }

    /// Replaces the contents of a file, durably.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) {
        let state = &mut *self.0.lock();
        if let Some(inode) = state.names.get(path).and_then(|number| state.inodes.get_mut(number)) {
            inode.current = bytes.to_vec();
            inode.durable = bytes.to_vec();
            inode.dirty.clear();
            inode.given_up.clear();
            inode.blocks = (0..bytes.len().div_ceil(BLOCK)).collect();
        }
    }

    /// Whether a durable write is one call that happens or not, as with O_DSYNC, or a write and a sync.
    pub fn set_direct(&self, direct: bool) {
        self.0.lock().direct = direct;
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let state = &mut *self.0.lock();
        let number = match (state.names.get(path), mode) {
            (Some(_), Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => *number,
            (None, Mode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, Mode::Create | Mode::CreateNew) => {
                if path.parent().is_some_and(|parent| !state.directories.contains(parent)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.begin(Operation::Write, path, 0, &[])?;
                let number = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(number, Inode::default());
                state.change_name(NameChange::Link(path.to_path_buf(), number));
                number
            }
        };
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            number,
            epoch: state.epoch,
        }))
    }
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, bound: u64) -> u64 {
    next_random(state) % bound
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Link(path, number) => {
            names.insert(path.clone(), *number);
        }
        NameChange::Rename(from, to, number) => {
            names.remove(from);
            names.insert(to.clone(), *number);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}

impl State {
    /// Counts a call and lets it fail if it is to; for a power cut the call itself still goes through.
    fn begin(&mut self, operation: Operation, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        let changes = operation != Operation::Read;
        if changes {
            self.operations += 1;
            self.trace = xxh3_64_with_seed(path.as_os_str().as_encoded_bytes(), self.trace ^ offset);
            self.trace = xxh3_64_with_seed(bytes, self.trace);
        }
        let mut failure = None;
        let mut off = false;
        self.faults.retain_mut(|fault| match fault {
            Fault::Once(kind, countdown, error) if *kind == operation => {
                if *countdown == 0 {
                    failure = Some(*error);
                    return false;
                }
                *countdown -= 1;
                true
            }
            Fault::Always(kind, error) if *kind == operation => {
                failure = Some(*error);
                true
            }
            Fault::PowerCut(countdown) if changes => {
                if *countdown == 0 {
                    off = true;
                    return false;
                }
                *countdown -= 1;
                true
            }
            _ => true,
        });
        self.off |= off;
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// What a call that may have met the power cut returns.
    fn end(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Bytes that all files take.
    fn used(&self) -> u64 {
        let inodes = self.names.values().filter_map(|number| self.inodes.get(number));
        inodes.map(|inode| (inode.blocks.len() * BLOCK) as u64).sum()
    }

    /// Whether a path lies on the file system of its own.
    fn is_apart(&self, path: &Path) -> bool {
        self.apart.as_ref().is_some_and(|(directory, _)| path.starts_with(directory))
    }

    /// Bytes that can still be written where `path` lies.
    fn free(&self, path: &Path) -> u64 {
        let is_apart = self.is_apart(path);
        let capacity = match &self.apart {
            Some((_, capacity)) if is_apart => Some(*capacity),
            _ => self.capacity,
        };
        let Some(capacity) = capacity else { return u64::MAX };
        let here = self.names.iter().filter(|(path, _)| self.is_apart(path) == is_apart);
        let inodes = here.filter_map(|(_, number)| self.inodes.get(number));
        capacity.saturating_sub(inodes.map(|inode| (inode.blocks.len() * BLOCK) as u64).sum())
    }

    /// Whether there is room for a write.
    fn fits(&self, path: &Path, number: u64, offset: u64, len: usize) -> io::Result<()> {
        let more = self.inodes.get(&number).map_or(0, |inode| inode.missing(offset, len) * BLOCK) as u64;
        if more > 0 && more > self.free(path) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.pending.push(change);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    number: u64,
    epoch: u64,
}

impl SimulatedFile {
    fn with<T>(
        &self,
        operation: Operation,
        offset: u64,
        bytes: &[u8],
        run: impl FnOnce(&mut Inode, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = &mut *self.disk.0.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::other("the file was opened before a crash"));
        }
        if operation == Operation::Write {
            state.fits(&self.path, self.number, offset, bytes.len())?;
        }
        if let Err(error) = state.begin(operation, &self.path, offset, bytes) {
            // As Linux does: pages that could not be written are clean afterwards.
            if operation == Operation::Sync
                && !state.off
                && let Some(inode) = state.inodes.get_mut(&self.number)
            {
                let dirty = std::mem::take(&mut inode.dirty);
                inode.given_up.extend(dirty);
            }
            return Err(error);
        }
        let off = state.off;
        let inode = state.inodes.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        let result = run(inode, off)?;
        if operation == Operation::Write {
            state.most = state.most.max(state.used());
        }
        state.end()?;
        Ok(result)
    }
}

fn write(inode: &mut Inode, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    let end = start + bytes.len();
    if inode.current.len() < end {
        inode.current.resize(end, 0);
    }
    inode.current[start..end].copy_from_slice(bytes);
    if !bytes.is_empty() {
        let sectors = start / SECTOR..=(end - 1) / SECTOR;
        // Written again, they are dirty again.
        inode.given_up.retain(|sector| !sectors.contains(sector));
        inode.dirty.extend(sectors);
        inode.blocks.extend(start / BLOCK..=(end - 1) / BLOCK);
    }
}

fn sync(inode: &mut Inode) {
    let len = inode.current.len();
    inode.durable.resize(len, 0);
    for sector in std::mem::take(&mut inode.dirty) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(len);
        if range.start < range.end {
            inode.durable[range.clone()].copy_from_slice(&inode.current[range]);
        }
    }
}

impl File for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        self.with(Operation::Read, 0, &[], |inode, _| Ok(inode.current.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(Operation::Read, offset, &[], |inode, _| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let bytes = start
                .checked_add(out.len())
                .and_then(|end| inode.current.get(start..end))
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(Operation::Write, offset, bytes, |inode, _| {
            write(inode, offset, bytes);
            Ok(())
        })
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let aligned = [offset as usize, bytes.len(), bytes.as_ptr().addr()];
        if aligned.iter().any(|place| place % BLOCK != 0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let direct = self.disk.0.lock().direct;
        self.with(Operation::Write, offset, bytes, |inode, off| {
            write(inode, offset, bytes);
            if direct && !off {
                sync(inode);
            }
            Ok(())
        })?;
        if direct {
            return Ok(());
        }
        // One file is written durably by one writer only, so syncing all of it is the same.
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let watch = self.disk.1.lock().take_if(|watch| self.path.ends_with(&watch.name));
        if let Some(watch) = watch {
            (watch.run)();
        }
        self.with(Operation::Sync, 0, &[], |inode, off| {
            if !off {
                sync(inode);
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Operation::Write, len, &[], |inode, _| {
            let len = len as usize;
            let old = inode.current.len();
            inode.current.resize(len, 0);
            inode.cut_blocks();
            if len > old {
                // What was there before an earlier cut must not shine through.
                let stale = old / SECTOR..inode.durable.len().min(len).div_ceil(SECTOR);
                inode.dirty.extend(stale);
            }
            Ok(())
        })
    }

    fn allocated(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        Ok(state.inodes.get(&self.number).map_or(0, |inode| (inode.blocks.len() * BLOCK) as u64))
    }

    fn prefetch(&self, _offset: u64, _len: u64) {}
}

#[derive(Debug)]
struct Lock {
    disk: SimulatedDisk,
    path: PathBuf,
    epoch: u64,
}

impl Directory for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.epoch == self.epoch {
            state.locked.remove(&self.path);
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        SimulatedDisk::open(self, path, mode)
    }

    fn open_log(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        SimulatedDisk::open(self, path, mode)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.0.lock();
        Ok(state.names.contains_key(path) || state.directories.contains(path))
    }

    /// Directories are durable at once: what is tested is what happens inside them.
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.directories.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        if !state.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = state.names.keys().chain(&state.directories);
        let mut names: Vec<String> = paths
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        let number = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.begin(Operation::Write, to, 1, &[])?;
        state.change_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf(), number));
        state.end()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.begin(Operation::Write, path, 2, &[])?;
        state.change_name(NameChange::Remove(path.to_path_buf()));
        state.end()
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.begin(Operation::Sync, directory, 3, &[])?;
        state.end()?;
        let here = |path: &PathBuf| path.parent() == Some(directory);
        for change in std::mem::take(&mut state.pending) {
            let synced = match &change {
                NameChange::Link(path, _) | NameChange::Remove(path) => here(path),
                NameChange::Rename(from, to, _) => here(from) || here(to),
            };
            if synced {
                apply_name(&mut state.durable_names, &change);
            } else {
                state.pending.push(change);
            }
        }
        Ok(())
    }

    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Directory>> {
        let mut state = self.0.lock();
        if !state.locked.insert(directory.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), path: directory.to_path_buf(), epoch: state.epoch }))
    }

    fn file_system(&self, directory: &Path) -> io::Result<u64> {
        Ok(u64::from(self.0.lock().is_apart(directory)))
    }

    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        Ok(self.0.lock().free(directory))
    }
}
