//! A disk that reads another one and keeps every change to itself: for looking at a directory without touching it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BLOCK, Directory, Disk, File, Mode};
use crate::sync::Mutex;

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct OverlayDisk {
    below: Arc<dyn Disk>,
    /// Files that were opened, made, or (`None`) removed.
    files: Arc<Mutex<BTreeMap<PathBuf, Option<Arc<OverlayFile>>>>>,
    directories: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl OverlayDisk {
    pub fn new(below: Arc<dyn Disk>) -> OverlayDisk {
        OverlayDisk { below, files: Arc::default(), directories: Arc::default() }
    }
}

#[derive(Debug, Default)]
struct Changed {
    len: u64,
    /// Written blocks by number.
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// From here on the file below has been cut off.
    below_len: u64,
}

#[derive(Debug)]
struct OverlayFile {
    below: Option<Arc<dyn File>>,
    changed: Mutex<Changed>,
}

impl OverlayFile {
    fn new(below: Option<Arc<dyn File>>) -> io::Result<OverlayFile> {
        let len = match &below {
            Some(file) => file.len()?,
            None => 0,
        };
        Ok(OverlayFile {
            below,
            changed: Mutex::new(Changed { len, blocks: BTreeMap::new(), below_len: len }),
        })
    }

    /// What the file below has there, zero behind its end.
    fn below(&self, changed: &Changed, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let count = changed.below_len.saturating_sub(offset).min(out.len() as u64) as usize;
        match &self.below {
            Some(file) if count > 0 => file.read_at(offset, &mut out[..count]),
            _ => Ok(()),
        }
    }
}

impl File for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed.lock().len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed.lock();
        let end = offset + out.len() as u64;
        if end > changed.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(&changed, offset, out)?;
        for (number, block) in changed.blocks.range(offset / BLOCK as u64..end.div_ceil(BLOCK as u64)) {
            let start = number * BLOCK as u64;
            let (from, to) = (start.max(offset), (start + BLOCK as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let changed = &mut *self.changed.lock();
        let end = offset + bytes.len() as u64;
        for number in offset / BLOCK as u64..end.div_ceil(BLOCK as u64) {
            let start = number * BLOCK as u64;
            if !changed.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK];
                self.below(changed, start, &mut block)?;
                changed.blocks.insert(number, block.into());
            }
            let (from, to) = (start.max(offset), (start + BLOCK as u64).min(end));
            if let Some(block) = changed.blocks.get_mut(&number) {
                block[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        changed.len = changed.len.max(end);
        Ok(())
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed.lock();
        if len < changed.len {
            changed.below_len = changed.below_len.min(len);
            let first = len / BLOCK as u64;
            changed.blocks.retain(|number, _| *number <= first);
            if let Some(block) = changed.blocks.get_mut(&first) {
                block[(len % BLOCK as u64) as usize..].fill(0);
            }
        }
        changed.len = len;
        Ok(())
    }

    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn prefetch(&self, offset: u64, len: u64) {
        if let Some(file) = &self.below {
            file.prefetch(offset, len);
        }
    }
}

#[derive(Debug)]
struct Private;

impl Directory for Private {}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut files = self.files.lock();
        if let Some(Some(file)) = files.get(path) {
            return match mode {
                Mode::CreateNew => Err(io::ErrorKind::AlreadyExists.into()),
                Mode::Existing | Mode::Create => Ok(file.clone()),
            };
        }
        let below = !files.contains_key(path) && self.below.exists(path)?;
        let file = match (below, mode) {
            (true, Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (true, _) => OverlayFile::new(Some(self.below.open(path, Mode::Existing)?))?,
            (false, Mode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (false, _) => OverlayFile::new(None)?,
        };
        let file = Arc::new(file);
        files.insert(path.to_path_buf(), Some(file.clone()));
        Ok(file)
    }

    fn open_log(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        self.open(path, mode)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.files.lock().get(path) {
            Some(file) => Ok(file.is_some()),
            None => Ok(self.directories.lock().contains(path) || self.below.exists(path)?),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.directories.lock().insert(path.to_path_buf());
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = match self.below.list(directory) {
            Ok(names) => names.into_iter().collect(),
            Err(_) if self.directories.lock().contains(directory) => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        for (path, file) in &*self.files.lock() {
            if path.parent() == Some(directory)
                && let Some(name) = path.file_name()
            {
                let name = name.to_string_lossy().into_owned();
                match file {
                    Some(_) => names.insert(name),
                    None => names.remove(&name),
                };
            }
        }
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.open(from, Mode::Existing).map(|_| self.files.lock().remove(from).flatten())?;
        let mut files = self.files.lock();
        files.insert(from.to_path_buf(), None);
        files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.files.lock().insert(path.to_path_buf(), None);
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Nobody else can see what happens here.
    fn lock_directory(&self, _directory: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(Private))
    }

    fn file_system(&self, _directory: &Path) -> io::Result<u64> {
        Ok(0)
    }

    fn free_space(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}
