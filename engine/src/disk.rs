//! The operating system's files behind a trait, so that one simulated disk with faults on demand can stand
//! under log and base alike.
//!
//! What may be relied on after a crash, on every implementation: bytes covered by a returned [`File::sync`] or
//! [`File::write_durable`]; names covered by a returned [`Disk::sync_directory`]. Anything else may be there,
//! be missing, or be there in part, 512 bytes at a time.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

// By their paths, since `engine/interleaving` reads this file from elsewhere.
#[path = "disk/overlay.rs"]
mod overlay;
#[path = "disk/real.rs"]
mod real;
#[path = "disk/room.rs"]
pub mod room;
#[path = "disk/simulated.rs"]
mod simulated;

pub use overlay::OverlayDisk;
pub use real::{RealDisk, set_thread_priority};
pub use simulated::{Fault, Operation, SimulatedDisk};

/// What a durable write must be aligned to: offset, length and address.
pub const BLOCK: usize = 4096;

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Must exist.
    Existing,
    /// Made when missing.
    Create,
    /// Must not exist.
    CreateNew,
}

/// A file system. Paths are as the caller gives them; directories must exist before files in them are opened.
pub trait Disk: Send + Sync + Debug {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    /// Opens for [`File::write_durable`], past the page cache where the file system can.
    fn open_log(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the directory, readable by the owner only, and its parents; fine when it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories in it, sorted.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Replaces `to` if it exists. Durable after `sync_directory`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// Takes the directory for this process until the lock is dropped; `WouldBlock` when another has it.
    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Directory>>;
    /// A number for the file system of that directory.
    fn file_system(&self, directory: &Path) -> io::Result<u64>;
    /// Bytes that can still be written to the file system of that directory.
    fn free_space(&self, directory: &Path) -> io::Result<u64>;
}

/// A directory held by this process, until dropped.
pub trait Directory: Send + Sync + Debug {}

/// See [`set_thread_priority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Log,
    Background,
}

/// What went wrong with which file, as an error for the client: `53100` for a full disk, else `58030`.
pub fn error(action: &str, path: &Path, error: &io::Error) -> value::Error {
    let state = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => value::SqlState::DISK_FULL,
        _ => value::SqlState::IO_ERROR,
    };
    value::Error::new(state, format!("could not {action} file \"{}\": {error}", path.display()))
}

/// An open file. All calls are positional and may come from several threads.
pub trait File: Send + Sync + Debug {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` or fails with `UnexpectedEof`.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes and returns when the bytes are durable. `offset`, length and address are multiples of [`BLOCK`]
    /// (see [`AlignedBuffer`]). The file's length must not change by it if it is to be fast.
    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// All earlier writes, and the file's length, become durable.
    fn sync(&self) -> io::Result<()>;
    /// Grows with zeroes (sparse) or cuts.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Bytes that it takes on the disk: holes take none.
    fn allocated(&self) -> io::Result<u64>;
    /// A hint that the range will be read soon.
    fn prefetch(&self, offset: u64, len: u64);
}

/// Zeroed memory whose address is a multiple of [`BLOCK`].
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> AlignedBuffer {
        let memory = vec![0; len + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        AlignedBuffer { memory, start, len }
    }

    /// Changes the length, keeping the memory when it is large enough. The contents are zero afterwards.
    pub fn reset(&mut self, len: usize) {
        if self.start + len > self.memory.len() {
            *self = AlignedBuffer::zeroed(len);
        } else {
            self.len = len;
            self.fill(0);
        }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
