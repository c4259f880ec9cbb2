//! The data file as pages that each carry their checksum.
//!
//! The hard idea: redb keeps checksums but does not look at them when it reads, and a wrong bit in a tree page is a
//! wrong answer. So every 4 KiB page lies in the file with its own checksum behind it and is verified when it
//! comes from the disk. A page is written with its checksum in one go, so that whatever a crash tears was torn for redb
//! too, and redb never reads pages that a crash may have torn; with one exception, its header, which it overwrites
//! in place. The header therefore lies in two copies that are written in turn: a crash leaves at least one.
//!
//! ```text
//!      0  header copy 0: 4096 bytes, sequence u64, xxh3-64 u64 (seed: the sequence), zero up to 8192
//!   8192  header copy 1, the same
//!  16384  page 1: 4096 bytes, xxh3-64 u64 (seed: the number of the page)
//!  20488  page 2, and so on
//! ```
//! Little endian. A page that is all zero, checksum included, was never written.

use std::io;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::File;
use crate::metrics::Metrics;
use crate::sync::{Arc, Mutex};

const PAGE: usize = 4096;
const SUM: usize = 8;
/// A page in the file.
const SLOT: usize = PAGE + SUM;
/// A copy of the header in the file, and both.
const COPY: u64 = 2 * PAGE as u64;
const HEADERS: u64 = 2 * COPY;

#[derive(Debug)]
struct Header {
    bytes: Box<[u8; PAGE]>,
    sequence: u64,
    /// The copy that holds the newest durable header.
    durable: u64,
    /// The other one was written since the last sync.
    unsynced: bool,
}

/// See the top of the file. Offsets and lengths are those that redb knows.
#[derive(Debug)]
pub(super) struct Pages {
    file: Arc<dyn File>,
    header: Mutex<Header>,
    doubtful: bool,
    metrics: Arc<Metrics>,
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn sum(page: u64, bytes: &[u8]) -> [u8; SUM] {
    xxh3_64_with_seed(bytes, page).to_le_bytes()
}

/// Where a page lies in the file.
fn place(page: u64) -> u64 {
    HEADERS + (page - 1) * SLOT as u64
}

/// `slot` is a page with its checksum.
fn verify(page: u64, slot: &[u8]) -> io::Result<&[u8]> {
    let (bytes, stored) = slot.split_at(PAGE);
    if stored != sum(page, bytes) && slot.iter().any(|byte| *byte != 0) {
        return Err(damaged(format!("page {page} at byte {}: checksum mismatch", place(page))));
    }
    Ok(bytes)
}

impl Pages {
    pub fn open(file: Arc<dyn File>, metrics: Arc<Metrics>) -> io::Result<Pages> {
        let mut header = Header { bytes: Box::new([0; PAGE]), sequence: 0, durable: 1, unsynced: false };
        let mut doubtful = false;
        let len = file.len()?;
        if len > 0 && len < HEADERS {
            return Err(damaged(format!("it has {len} bytes, not even a header")));
        }
        if len > 0 {
            let mut copies = vec![0; HEADERS as usize];
            file.read_at(0, &mut copies)?;
            let mut written = false;
            for (place, copy) in (0..).zip(copies.chunks_exact(COPY as usize)) {
                let number = |at: usize| copy[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
                let (sequence, stored) = (number(PAGE), number(PAGE + 8));
                if copy.iter().all(|byte| *byte == 0) {
                    continue;
                }
                written = true;
                if stored != xxh3_64_with_seed(&copy[..PAGE], sequence) {
                    doubtful = true;
                } else if sequence > header.sequence {
                    header.sequence = sequence;
                    header.durable = place;
                    header.bytes.copy_from_slice(&copy[..PAGE]);
                }
            }
            if written && header.sequence == 0 {
                return Err(damaged("both copies of the header: checksum mismatch".to_owned()));
            }
        }
        Ok(Pages { file, header: Mutex::new(header), doubtful, metrics })
    }

    /// One copy of the header did not pass. It may have been torn by a crash; if not, the other one is the state
    /// before, whose pages may be gone.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    pub fn len(&self) -> io::Result<u64> {
        match self.file.len()? {
            0 => Ok(0),
            len => Ok(PAGE as u64 + len.saturating_sub(HEADERS) / SLOT as u64 * PAGE as u64),
        }
    }

    /// Bytes that so many pages take.
    pub fn bytes_of(pages: u64) -> u64 {
        HEADERS + pages * SLOT as u64
    }

    /// Bytes that the file takes on the disk.
    pub fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let pages = len.div_ceil(PAGE as u64);
        self.file.set_len(if pages == 0 { 0 } else { place(pages) })
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        let header = &mut *self.header.lock();
        if std::mem::take(&mut header.unsynced) {
            header.durable = 1 - header.durable;
        }
        Ok(())
    }

    pub fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        if offset < PAGE as u64 {
            let header = self.header.lock();
            let start = offset as usize;
            let count = out.len().min(PAGE - start);
            let (head, rest) = out.split_at_mut(count);
            head.copy_from_slice(&header.bytes[start..start + count]);
            (offset, out) = (PAGE as u64, rest);
        }
        if out.is_empty() {
            return Ok(());
        }
        let first = offset / PAGE as u64;
        let last = (offset + out.len() as u64 - 1) / PAGE as u64;
        let mut slots = vec![0; (last - first + 1) as usize * SLOT];
        self.metrics.disk_reads.increment();
        self.metrics.disk_read_bytes.add(slots.len() as u64);
        self.file.read_at(place(first), &mut slots)?;
        let mut skip = (offset % PAGE as u64) as usize;
        for (page, slot) in (first..).zip(slots.chunks_exact(SLOT)) {
            let bytes = &verify(page, slot)?[skip..];
            let count = bytes.len().min(out.len());
            let (head, rest) = out.split_at_mut(count);
            head.copy_from_slice(&bytes[..count]);
            (skip, out) = (0, rest);
        }
        Ok(())
    }

    pub fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        if offset < PAGE as u64 {
            let count = data.len().min(PAGE - offset as usize);
            self.write_header(offset as usize, &data[..count])?;
            (offset, data) = (PAGE as u64, &data[count..]);
        }
        if data.is_empty() {
            return Ok(());
        }
        // Whole pages, as a rule; what is left over at either end keeps what lies there.
        let first = offset / PAGE as u64;
        let (before, end) = ((offset % PAGE as u64) as usize, offset + data.len() as u64);
        let after = (PAGE - (end % PAGE as u64) as usize) % PAGE;
        let mut data = std::borrow::Cow::Borrowed(data);
        if before > 0 || after > 0 {
            let mut whole = vec![0; before + data.len() + after];
            self.read(first * PAGE as u64, &mut whole[..PAGE])?;
            if after > 0 {
                let at = whole.len() - PAGE;
                self.read(end - (PAGE - after) as u64, &mut whole[at..])?;
            }
            whole[before..before + data.len()].copy_from_slice(&data);
            data = whole.into();
        }
        let mut slots = Vec::with_capacity(data.len() / PAGE * SLOT);
        for (page, bytes) in (first..).zip(data.chunks_exact(PAGE)) {
            slots.extend_from_slice(bytes);
            slots.extend_from_slice(&sum(page, bytes));
        }
        self.put(place(first), &slots)
    }

    /// [`Pages::write`] of what lies in several pieces. `slots`: memory for it.
    pub fn write_run(&self, offset: u64, pieces: &[&[u8]], slots: &mut Vec<u8>) -> io::Result<()> {
        let whole = |bytes: u64| bytes.is_multiple_of(PAGE as u64);
        if offset == 0 || !whole(offset) || !pieces.iter().all(|piece| whole(piece.len() as u64)) {
            let mut at = offset;
            for piece in pieces {
                self.write(at, piece)?;
                at += piece.len() as u64;
            }
            return Ok(());
        }
        slots.clear();
        let first = offset / PAGE as u64;
        for (page, bytes) in (first..).zip(pieces.iter().flat_map(|piece| piece.chunks_exact(PAGE))) {
            slots.extend_from_slice(bytes);
            slots.extend_from_slice(&sum(page, bytes));
        }
        self.put(place(first), slots)
    }

    fn write_header(&self, start: usize, data: &[u8]) -> io::Result<()> {
        let header = &mut *self.header.lock();
        header.bytes[start..start + data.len()].copy_from_slice(data);
        header.sequence += 1;
        // Until a sync the durable one must stay as it is.
        header.unsynced = true;
        let copy = 1 - header.durable;
        let mut bytes = vec![0; COPY as usize];
        bytes[..PAGE].copy_from_slice(&header.bytes[..]);
        bytes[PAGE..PAGE + 8].copy_from_slice(&header.sequence.to_le_bytes());
        let sum = xxh3_64_with_seed(&header.bytes[..], header.sequence);
        bytes[PAGE + 8..PAGE + 16].copy_from_slice(&sum.to_le_bytes());
        self.put(copy * COPY, &bytes)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.metrics.disk_writes.increment();
        self.metrics.disk_write_bytes.add(bytes.len() as u64);
        self.file.write_at(at, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, Mode, SimulatedDisk};

    #[test]
    fn runs_are_written_as_their_pieces_would_be() {
        const LEN: usize = 64 * PAGE;
        let disk = SimulatedDisk::new(1);
        disk.create_directory(Path::new("/db")).unwrap();
        let file = disk.open(Path::new("/db/pages"), Mode::CreateNew).unwrap();
        let pages = Pages::open(file, Arc::default()).unwrap();
        pages.set_len(LEN as u64).unwrap();
        let mut model = vec![0; LEN];
        let mut slots = Vec::new();
        // Whole pages, with the header, and neither whole nor at a page's beginning.
        let runs: [(usize, &[usize]); 5] = [
            (PAGE, &[PAGE, 3 * PAGE, PAGE]),
            (20 * PAGE, &[30 * PAGE]),
            (0, &[PAGE, 2 * PAGE]),
            (9 * PAGE + 100, &[50, 5000, PAGE]),
            (40 * PAGE, &[PAGE, 700]),
        ];
        for (byte, (offset, lengths)) in (1..).zip(runs) {
            let pieces: Vec<Vec<u8>> =
                (0u8..).zip(lengths).map(|(n, len)| vec![byte * 10 + n; *len]).collect();
            let run: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            pages.write_run(offset as u64, &run, &mut slots).unwrap();
            let bytes = pieces.concat();
            model[offset..offset + bytes.len()].copy_from_slice(&bytes);
            let mut found = vec![0; LEN];
            pages.read(0, &mut found).unwrap();
            assert!(found == model, "after run {byte}");
        }
    }
}
