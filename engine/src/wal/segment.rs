//! The bytes of a log segment: one header block, then batches, each a whole number of 4 KiB blocks.
//!
//! ```text
//! segment header (block 0; the rest of the block is zero)
//!   0  magic "SDBWAL\0\1"       8  version u32 = 1     12  flags u32 (1 = begins inside a record)
//!  16  database id u64         24  generation u64 (= the number in the file name)
//!  32  first lsn u64           40  durable lsn u64    48  segment size u64    56  crc32 u32 of bytes 0..56
//! batch
//!   0  magic "SDBB"             4  flags u32 (1 = begins inside a record, 2 = the log was closed here)
//!   8  database id u64         16  generation u64     24  first lsn u64       32  durable lsn u64
//!  40  length u32 of the body  44  pieces u32         48  crc32 u32 of the header with 0 here, and the body
//!  52  zero u32                56  body: pieces, then zeroes up to the next 4096
//! piece
//!   0  length u32, bit 31 = the record goes on in the next batch      4  bytes
//! ```
//! All numbers little endian. Durable lsn 2^64-1: the log was kept without syncing. A record longer than the rest of a batch goes on in the next one. A segment that
//! is used again gets a higher generation, and batches of another generation never pass.

use crate::disk::BLOCK;

pub(super) const HEADER: usize = 56;
pub(super) const PIECE: usize = 4;
pub(super) const CONTINUES: u32 = 1 << 31;
/// The durable LSN in headers of a log that is kept without syncing.
pub(super) const UNSYNCED: u64 = u64::MAX;
pub(super) const BLOCK_BYTES: u64 = BLOCK as u64;

const SEGMENT_MAGIC: [u8; 8] = *b"SDBWAL\0\x01";
const BATCH_MAGIC: [u8; 4] = *b"SDBB";
const VERSION: u32 = 1;
const INSIDE: u32 = 1;
const CLOSED: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub database_id: u64,
    pub generation: u64,
    /// LSN of the first piece.
    pub first: u64,
    /// The first piece goes on with a record that began in the segment before.
    pub inside: bool,
    pub durable: u64,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub database_id: u64,
    pub generation: u64,
    pub first: u64,
    pub inside: bool,
    /// Everything up to here was durable when this was written.
    pub durable: u64,
    /// The log was closed in good order behind this batch.
    pub closed: bool,
    pub len: usize,
    pub pieces: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl SegmentHeader {
    /// Into the first block of a segment, which is zero.
    pub fn write(&self, block: &mut [u8]) {
        block[0..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[12..16].copy_from_slice(&if self.inside { INSIDE } else { 0 }.to_le_bytes());
        block[16..24].copy_from_slice(&self.database_id.to_le_bytes());
        block[24..32].copy_from_slice(&self.generation.to_le_bytes());
        block[32..40].copy_from_slice(&self.first.to_le_bytes());
        block[40..48].copy_from_slice(&self.durable.to_le_bytes());
        block[48..56].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc32fast::hash(&block[0..56]);
        block[56..60].copy_from_slice(&crc.to_le_bytes());
    }

    /// `None`: no header, or a damaged one.
    pub fn read(block: &[u8]) -> Option<SegmentHeader> {
        if block.get(0..8)? != SEGMENT_MAGIC
            || u32_at(block, 56)? != crc32fast::hash(block.get(0..56)?)
            || u32_at(block, 8)? != VERSION
        {
            return None;
        }
        Some(SegmentHeader {
            database_id: u64_at(block, 16)?,
            generation: u64_at(block, 24)?,
            first: u64_at(block, 32)?,
            inside: u32_at(block, 12)? & INSIDE != 0,
            durable: u64_at(block, 40)?,
            size: u64_at(block, 48)?,
        })
    }
}

impl BatchHeader {
    /// Into the first bytes of `batch` (header and body); the CRC covers both.
    pub fn write(&self, batch: &mut [u8]) {
        let flags = if self.inside { INSIDE } else { 0 } | if self.closed { CLOSED } else { 0 };
        batch[0..4].copy_from_slice(&BATCH_MAGIC);
        batch[4..8].copy_from_slice(&flags.to_le_bytes());
        batch[8..16].copy_from_slice(&self.database_id.to_le_bytes());
        batch[16..24].copy_from_slice(&self.generation.to_le_bytes());
        batch[24..32].copy_from_slice(&self.first.to_le_bytes());
        batch[32..40].copy_from_slice(&self.durable.to_le_bytes());
        batch[40..44].copy_from_slice(&(self.len as u32).to_le_bytes());
        batch[44..48].copy_from_slice(&self.pieces.to_le_bytes());
        batch[48..HEADER].fill(0);
        let crc = crc32fast::hash(&batch[..HEADER + self.len]);
        batch[48..52].copy_from_slice(&crc.to_le_bytes());
    }

    /// The fields, without a look at the CRC. `None`: not the beginning of a batch.
    pub fn read(bytes: &[u8]) -> Option<BatchHeader> {
        if bytes.get(0..4)? != BATCH_MAGIC {
            return None;
        }
        let flags = u32_at(bytes, 4)?;
        Some(BatchHeader {
            database_id: u64_at(bytes, 8)?,
            generation: u64_at(bytes, 16)?,
            first: u64_at(bytes, 24)?,
            inside: flags & INSIDE != 0,
            durable: u64_at(bytes, 32)?,
            closed: flags & CLOSED != 0,
            len: u32_at(bytes, 40)? as usize,
            pieces: u32_at(bytes, 44)?,
        })
    }

    /// `batch` is header and body.
    pub fn intact(batch: &[u8]) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&batch[..48]);
        hasher.update(&[0; 8]);
        hasher.update(&batch[HEADER..]);
        u32_at(batch, 48) == Some(hasher.finalize()) && u32_at(batch, 52) == Some(0)
    }

    /// Bytes it takes in the segment.
    pub fn size(len: usize) -> u64 {
        ((HEADER + len) as u64).next_multiple_of(BLOCK_BYTES)
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("wal_{number:06}.log")
}

/// The number in a segment's file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal_")?.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
