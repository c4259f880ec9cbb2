//! The store on disk: redb over our own [`Disk`].
//!
//! The hard idea is the backend. redb writes one page at a time, in no order, and only needs them to be on disk
//! when it syncs. So writes are collected, sorted and merged into long runs when a sync comes (or when too
//! many have gathered), and reads look there first. Page numbers of a freshly grown file are neighbours, so that
//! thousands of 4 KiB writes become a few large ones. Below it every page gets its checksum (`pages`).
//! What is in the file is left to the operating system until the sync. Sending every 8 MB on to the disk at once
//! (sync_file_range, waited for or not) was measured beside checkpoints of 350 MB (`examples/checkpoint.rs`): log writes
//! of more than 20 ms went from three or four per checkpoint to one, those of more than a millisecond from 0.1 % to
//! 0.5 % of all, and the p99 of commits stayed.
//!
//! After any I/O error redb answers nothing any more. [`RedbStore::reopen`] then opens the file anew; the old
//! backend is revoked first, because its readers do not know which pages the new one gives away.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use value::{Error, Result, SqlState};

use super::pages::Pages;
use super::store::{Range, Reader, Store, Table, Visit, Writer, is_empty};
use crate::disk::{self, Disk, Mode};
use crate::metrics::Metrics;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, RwLock};

/// Bytes of writes collected before they go to the file without waiting for a sync: this part of the page cache (1 in
/// n), within these bounds. As many again may be on their way.
const COLLECT_SHARE: usize = 4;
const COLLECT: (usize, usize) = (1 << 20, 64 << 20);
/// Longest merged write.
const RUN: usize = 4 << 20;
/// Longest piece of memory that neighbours are collected in.
const PIECE: usize = 256 << 10;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

/// See the top of the file.
pub struct RedbStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cache_size: usize,
    metrics: Arc<Metrics>,
    database: RwLock<Option<Database>>,
    /// Bytes that the file takes on the disk.
    allocated: Arc<AtomicU64>,
    revoked: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl RedbStore {
    /// Opens the file, or makes it with all tables.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        cache_size: u64,
        metrics: Arc<Metrics>,
    ) -> Result<RedbStore> {
        let fail = |error| disk::error("open", path, &error);
        if !disk.exists(path).map_err(fail)? {
            // Made under another name first: a crash meanwhile leaves nothing that looks like a data file.
            let new = path.with_extension("new");
            if disk.exists(&new).map_err(fail)? {
                disk.remove(&new).map_err(fail)?;
            }
            disk.open(&new, Mode::CreateNew).map_err(fail)?;
            let store = RedbStore::open_existing(Arc::clone(&disk), &new, cache_size, Arc::clone(&metrics))?;
            store.close()?;
            disk.rename(&new, path).map_err(fail)?;
            if let Some(directory) = path.parent() {
                disk.sync_directory(directory).map_err(fail)?;
            }
        }
        RedbStore::open_existing(disk, path, cache_size, metrics)
    }

    /// Compares every page with the checksum that the page above it holds; `false`: the pages are right, the list of
    /// free ones was not.
    pub fn verify(disk: Arc<dyn Disk>, path: &Path) -> Result<bool> {
        let store = RedbStore::open_existing(disk, path, 16 << 20, Arc::default())?;
        let mut database = store.database.write().take().ok_or_else(closed)?;
        database.check_integrity().map_err(|error| failed(path, redb::Error::from(error)))
    }

    fn open_existing(
        disk: Arc<dyn Disk>,
        path: &Path,
        cache_size: u64,
        metrics: Arc<Metrics>,
    ) -> Result<RedbStore> {
        let fail = |error| disk::error("open", path, &error);
        let file = disk.open(path, Mode::Existing).map_err(fail)?;
        let damage = |error| failed(path, redb::Error::Io(error));
        let pages = Pages::open(file, Arc::clone(&metrics)).map_err(damage)?;
        let allocated = Arc::new(AtomicU64::new(pages.allocated().map_err(fail)?));
        let doubtful = pages.is_doubtful();
        let revoked = Arc::new(AtomicBool::new(false));
        let failed_flag = Arc::new(AtomicBool::new(false));
        let cache_size = usize::try_from(cache_size).unwrap_or(usize::MAX);
        let backend = Backend {
            collect: (cache_size / COLLECT_SHARE).clamp(COLLECT.0, COLLECT.1),
            len: AtomicU64::new(pages.len().map_err(fail)?),
            allocated: Arc::clone(&allocated),
            pages,
            pending: RwLock::new(Pending::default()),
            flushing: Mutex::default(),
            revoked: Arc::clone(&revoked),
            failed: Arc::clone(&failed_flag),
        };
        let mut database = redb::Builder::new()
            .set_cache_size(cache_size)
            .create_with_backend(backend)
            .map_err(|error| failed(path, redb::Error::from(error)))?;
        if doubtful {
            // Rare: the crash came just then, or the header rots. Every page is compared with the page above it.
            tracing::warn!(file = %path.display(), "one copy of the header does not pass; checking the whole file");
            let sound = database.check_integrity().map_err(|error| failed(path, redb::Error::from(error)))?;
            tracing::info!(sound, "file checked");
        }
        let store = RedbStore {
            disk,
            path: path.to_path_buf(),
            cache_size,
            metrics,
            database: RwLock::new(Some(database)),
            allocated,
            revoked,
            failed: failed_flag,
        };
        store.create_tables()?;
        Ok(store)
    }

    fn fail(&self, error: impl Into<redb::Error>) -> Error {
        failed(&self.path, error.into())
    }

    fn create_tables(&self) -> Result<()> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or_else(closed)?;
        let present = {
            let transaction = database.begin_read().map_err(|error| self.fail(error))?;
            transaction.list_tables().map_err(|error| self.fail(error))?.count()
        };
        if present >= Table::ALL.len() {
            return Ok(());
        }
        let mut transaction = database.begin_write().map_err(|error| self.fail(error))?;
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            transaction.open_table(definition(table)).map_err(|error| self.fail(error))?;
        }
        transaction.commit().map_err(|error| self.fail(error))
    }
}

fn closed() -> Error {
    Error::new(SqlState::IO_ERROR, "the data file is closed")
}

/// A redb error for the client: a full disk 53100, damage XX001, any other trouble of the file 58030.
fn failed(path: &Path, error: redb::Error) -> Error {
    let name = path.display();
    match error {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Error::new(SqlState::DATA_CORRUPTED, format!("file \"{name}\" is damaged or not a data file"))
                .detail(error.to_string())
        }
        redb::Error::Io(error) => disk::error("use", path, &error),
        redb::Error::Corrupted(what) => {
            Error::new(SqlState::DATA_CORRUPTED, format!("file \"{name}\" is damaged")).detail(what)
        }
        redb::Error::UpgradeRequired(version) => Error::unsupported(
            format_args!("file format {version} of \"{name}\""),
            "Use the version that wrote it.",
        ),
        redb::Error::PreviousIo => Error::new(
            SqlState::IO_ERROR,
            format!("file \"{name}\" cannot be used after an earlier I/O error"),
        ),
        error => Error::new(SqlState::IO_ERROR, format!("could not use file \"{name}\": {error}")),
    }
}

impl Store for RedbStore {
    fn read(&self) -> Result<Box<dyn Reader>> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or_else(closed)?;
        let transaction = database.begin_read().map_err(|error| self.fail(error))?;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(transaction.open_table(definition(table)).map_err(|error| self.fail(error))?);
        }
        Ok(Box::new(RedbReader {
            tables,
            path: self.path.clone(),
            revoked: Arc::clone(&self.revoked),
            _transaction: transaction,
        }))
    }

    fn write(&self, run: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or_else(closed)?;
        let mut transaction = database.begin_write().map_err(|error| self.fail(error))?;
        // Without it a crash makes the next open read the whole file.
        transaction.set_quick_repair(true);
        {
            let mut tables = Vec::with_capacity(Table::ALL.len());
            for table in Table::ALL {
                tables.push(transaction.open_table(definition(table)).map_err(|error| self.fail(error))?);
            }
            run(&mut RedbWriter { tables, path: &self.path })?;
        }
        transaction.commit().map_err(|error| self.fail(error))
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn reopen(&self) -> Result<Arc<dyn Store>> {
        self.revoked.store(true, Ordering::SeqCst);
        drop(self.database.write().take());
        let store = RedbStore::open(
            Arc::clone(&self.disk),
            &self.path,
            self.cache_size as u64,
            Arc::clone(&self.metrics),
        )?;
        Ok(Arc::new(store))
    }

    fn close(&self) -> Result<()> {
        match self.database.write().take() {
            Some(database) => database.close().map_err(|error| self.fail(redb::Error::from(error))),
            None => Ok(()),
        }
    }

    fn size(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    fn unused(&self) -> Result<u64> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or_else(closed)?;
        let transaction = database.begin_write().map_err(|error| self.fail(error))?;
        let pages = transaction.stats().map_err(|error| self.fail(error))?.allocated_pages();
        transaction.abort().map_err(|error| self.fail(error))?;
        Ok(self.size().saturating_sub(Pages::bytes_of(pages)))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

struct RedbReader {
    tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    path: PathBuf,
    revoked: Arc<AtomicBool>,
    _transaction: redb::ReadTransaction,
}

impl RedbReader {
    fn table(&self, table: Table) -> Result<&ReadOnlyTable<&'static [u8], &'static [u8]>> {
        // Pages it finds in the cache would still be right; those in the file may belong to others by now.
        if self.revoked.load(Ordering::SeqCst) {
            return Err(failed(&self.path, redb::Error::PreviousIo));
        }
        Ok(&self.tables[table as usize])
    }
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    path: &Path,
    range: Range<'_>,
    backward: bool,
    visit: Visit<'_>,
) -> Result<()> {
    if is_empty(range) {
        return Ok(());
    }
    let mut range = table.range::<&[u8]>(range).map_err(|error| failed(path, error.into()))?;
    while let Some(entry) = if backward { range.next_back() } else { range.next() } {
        let (key, value) = entry.map_err(|error| failed(path, error.into()))?;
        if !visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

/// Says in which table something that cannot be read was looked for.
fn in_table(table: Table, error: Error) -> Error {
    if error.state() != SqlState::DATA_CORRUPTED {
        return error;
    }
    let what = error.fields().detail.clone().unwrap_or_default();
    error
        .detail(format!("Table {}: {what}.", table.name()))
        .hint("Restore from a backup; other rows can still be read.")
}

impl Reader for RedbReader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let found = self.table(table)?.get(key);
        let value = found.map_err(|error| in_table(table, failed(&self.path, error.into())))?;
        Ok(value.map(|value| value.value().into()))
    }

    fn scan(&self, table: Table, range: Range<'_>, backward: bool, visit: Visit<'_>) -> Result<()> {
        scan(self.table(table)?, &self.path, range, backward, visit).map_err(|error| in_table(table, error))
    }
}

struct RedbWriter<'a> {
    tables: Vec<redb::Table<'a, &'static [u8], &'static [u8]>>,
    path: &'a Path,
}

impl Writer for RedbWriter<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        let value = self.tables[table as usize].get(key).map_err(|error| failed(self.path, error.into()))?;
        Ok(value.map(|value| value.value().into()))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        match self.tables[table as usize].insert(key, value) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(self.path, error.into())),
        }
    }

    /// Runs of new keys between two old ones go in through a cursor, several times faster than one by one; where
    /// they turn out to be scattered, the next ones go in one by one.
    fn put_keys(&mut self, table: Table, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<()> {
        const SHORT: usize = 4;
        let path = self.path;
        let table = &mut self.tables[table as usize];
        let fail = |error: redb::StorageError| failed(path, error.into());
        let mut keys = keys.peekable();
        while let Some(first) = keys.peek() {
            let mut run = 0;
            let mut cursor = table.lower_bound_mut(Bound::Included(*first)).map_err(fail)?;
            while let Some(key) = keys.peek() {
                match cursor.insert_before(*key, &[][..]) {
                    Ok(()) => run += 1,
                    Err(redb::CursorError::UnorderedKey) => break,
                    Err(redb::CursorError::Storage(error)) => return Err(fail(error)),
                    Err(error) => return Err(failed(path, error.into())),
                }
                keys.next();
            }
            cursor.close().map_err(fail)?;
            if run < SHORT {
                for key in keys.by_ref().take(8 * SHORT) {
                    table.insert(key, &[][..]).map_err(fail)?;
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        match self.tables[table as usize].remove(key) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(self.path, error.into())),
        }
    }

    fn delete_range(&mut self, table: Table, range: Range<'_>) -> Result<()> {
        if is_empty(range) {
            return Ok(());
        }
        self.tables[table as usize]
            .retain_in::<&[u8], _>(range, |_, _| false)
            .map_err(|error| failed(self.path, error.into()))
    }
}

/// Writes not yet in the file, by offset; they do not overlap.
#[derive(Default)]
struct Pending {
    /// What is being written to the file just now.
    going: Arc<BTreeMap<u64, Vec<u8>>>,
    waiting: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

struct Backend {
    pages: Pages,
    /// Bytes of writes after which they go to the file.
    collect: usize,
    /// Of the file, as redb knows it.
    len: AtomicU64,
    /// Bytes that the file takes on the disk, as of the last sync.
    allocated: Arc<AtomicU64>,
    pending: RwLock<Pending>,
    /// One at a time moves `waiting` to the file, by this memory.
    flushing: Mutex<Vec<u8>>,
    revoked: Arc<AtomicBool>,
    /// Set by the first I/O error; redb answers nothing from then on.
    failed: Arc<AtomicBool>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("pages", &self.pages).finish_non_exhaustive()
    }
}

/// How a range meets collected writes.
enum Meeting<'a> {
    Apart,
    /// One of them holds all of it.
    Inside(&'a [u8]),
    Across,
}

fn meeting(writes: &BTreeMap<u64, Vec<u8>>, offset: u64, len: usize) -> Meeting<'_> {
    let end = offset + len as u64;
    match writes.range(..end).next_back() {
        Some((start, bytes)) if start + bytes.len() as u64 > offset => {
            if *start <= offset && start + bytes.len() as u64 >= end {
                let at = (offset - start) as usize;
                Meeting::Inside(&bytes[at..at + len])
            } else {
                Meeting::Across
            }
        }
        _ => Meeting::Apart,
    }
}

impl Backend {
    fn alive(&self) -> io::Result<()> {
        if self.revoked.load(Ordering::SeqCst) {
            return Err(io::Error::other("the file was opened anew"));
        }
        Ok(())
    }

    /// Writes everything collected to the file, in long runs.
    fn flush(&self) -> io::Result<()> {
        let mut slots = self.flushing.lock();
        let going = {
            let mut pending = self.pending.write();
            pending.going = Arc::new(std::mem::take(&mut pending.waiting));
            pending.bytes = 0;
            Arc::clone(&pending.going)
        };
        // Neighbours.
        let mut run: Vec<&[u8]> = Vec::new();
        let (mut start, mut end) = (0, 0);
        for (&offset, bytes) in going.iter() {
            let next = offset + bytes.len() as u64;
            // The header is not written as other pages are.
            if !run.is_empty() && (start == 0 || end != offset || next - start > RUN as u64) {
                self.pages.write_run(start, &run, &mut slots)?;
                run.clear();
            }
            if run.is_empty() {
                start = offset;
            }
            run.push(bytes);
            end = next;
        }
        if !run.is_empty() {
            self.pages.write_run(start, &run, &mut slots)?;
        }
        drop(going);
        self.pending.write().going = Arc::default();
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch(self.read_from(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch(self.resize(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch(self.alive().and_then(|()| self.flush()).and_then(|()| self.pages.sync()))?;
        if let Ok(allocated) = self.pages.allocated() {
            self.allocated.store(allocated, Ordering::Release);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch(self.collect(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        if self.revoked.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.watch(self.flush())
    }
}

impl Backend {
    fn watch(&self, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        result
    }

    fn read_from(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.alive()?;
        {
            let pending = self.pending.read();
            match meeting(&pending.waiting, offset, out.len()) {
                Meeting::Inside(bytes) => {
                    out.copy_from_slice(bytes);
                    return Ok(());
                }
                Meeting::Across => {
                    drop(pending);
                    self.flush()?;
                }
                Meeting::Apart => match meeting(&pending.going, offset, out.len()) {
                    Meeting::Inside(bytes) => {
                        out.copy_from_slice(bytes);
                        return Ok(());
                    }
                    Meeting::Across => {
                        drop(pending);
                        // Whoever writes them is done when the lock is free.
                        drop(self.flushing.lock());
                    }
                    Meeting::Apart => {}
                },
            }
        }
        self.pages.read(offset, out)
    }

    fn resize(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        // Writes beyond the new end must not come back after it.
        if len < self.len.load(Ordering::Acquire) {
            self.flush()?;
        }
        self.pages.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn collect(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?;
        let end = offset + data.len() as u64;
        if end > self.len.load(Ordering::Acquire) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        loop {
            let mut pending = self.pending.write();
            match meeting(&pending.waiting, offset, data.len()) {
                Meeting::Across => {
                    drop(pending);
                    self.flush()?;
                    continue;
                }
                Meeting::Inside(_) => {
                    if let Some((start, bytes)) = pending.waiting.range_mut(..=offset).next_back() {
                        let at = (offset - start) as usize;
                        bytes[at..at + data.len()].copy_from_slice(data);
                    }
                }
                Meeting::Apart => {
                    pending.bytes += data.len();
                    // Pages mostly come one behind the other.
                    match pending.waiting.range_mut(..offset).next_back() {
                        Some((start, bytes))
                            if start + bytes.len() as u64 == offset && bytes.len() + data.len() <= PIECE =>
                        {
                            bytes.extend_from_slice(data);
                        }
                        _ => {
                            pending.waiting.insert(offset, data.to_vec());
                        }
                    }
                }
            }
            let full = pending.bytes > self.collect;
            drop(pending);
            return if full { self.flush() } else { Ok(()) };
        }
    }
}
