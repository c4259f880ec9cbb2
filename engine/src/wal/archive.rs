//! Where finished segments are copied before they may be used again.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use crate::disk::{BLOCK, Disk, File, Mode};
use crate::sync::Arc;

/// A place that keeps finished segments: a directory, an object store.
pub trait Archive: Send + Sync + Debug {
    /// Keeps a copy of a segment under its name, durably, before it returns. Storing the same segment again is
    /// fine; another one under the same name is refused (`AlreadyExists`).
    fn store(&self, name: &str, segment: &dyn File) -> io::Result<()>;
    /// Whether a copy of that name is there, whole.
    fn contains(&self, name: &str) -> io::Result<bool>;
}

/// A directory, best on another disk.
#[derive(Clone, Debug)]
pub struct DirectoryArchive {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

/// Bytes copied at once.
const PIECE: u64 = 1 << 20;

impl DirectoryArchive {
    /// Makes the directory when it is missing.
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> io::Result<DirectoryArchive> {
        disk.create_directory(&directory)?;
        Ok(DirectoryArchive { disk, directory })
    }
}

impl Archive for DirectoryArchive {
    fn store(&self, name: &str, segment: &dyn File) -> io::Result<()> {
        let path = self.directory.join(name);
        if self.disk.exists(&path)? {
            // The header names database, segment and first record.
            let (mut there, mut here) = (vec![0; BLOCK], vec![0; BLOCK]);
            self.disk.open(&path, Mode::Existing)?.read_at(0, &mut there)?;
            segment.read_at(0, &mut here)?;
            if there == here {
                return Ok(());
            }
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("\"{}\" is another segment", path.display()),
            ));
        }
        // Under another name first: a name in the archive stands for a whole copy.
        let temporary = self.directory.join(format!("{name}.new"));
        if self.disk.exists(&temporary)? {
            self.disk.remove(&temporary)?;
        }
        let copy = self.disk.open(&temporary, Mode::CreateNew)?;
        let len = segment.len()?;
        let mut offset = 0;
        let mut piece = Vec::new();
        while offset < len {
            piece.resize((len - offset).min(PIECE) as usize, 0);
            segment.read_at(offset, &mut piece)?;
            copy.write_at(offset, &piece)?;
            offset += piece.len() as u64;
        }
        copy.sync()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_directory(&self.directory)
    }

    fn contains(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(&self.directory.join(name))
    }
}
