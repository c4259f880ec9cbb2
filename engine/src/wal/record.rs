//! One commit as bytes: what it changed, in the order in which replay applies it.
//!
//! ```text
//! record   = version u8 (1), ops...
//! op       = kind u8, body
//!   1 insert      storage varint, row id varint, length varint, row bytes
//!   2 update      storage varint, row id varint, length varint, patch bytes (crate::row)
//!   3 delete      storage varint, row id varint
//!   4 catalog     length varint, JSON of one catalog::Change
//!   5 sequence    oid varint, generation varint, value zigzag varint, called u8
//!   6 statistics  oid varint, length varint, bytes
//!   7 next ids    next oid varint, next storage varint
//!   8 entry       index storage varint, live u8, length varint, key ++ row id: an index entry that an update or a
//!                 delete adds or removes. Those of inserts follow from the row.
//!   9 publish     piece varint, storage varint, rows varint: rows that lie in the base already become visible
//!  10 publish     the same with rows as a zigzag varint: changes of rows, with which there are fewer, as a rule
//! ```
//! Row ops of one storage usually follow each other, so storage and row id are written as the difference from
//! the op before (zigzag varints): one or two bytes each.

use value::{Error, Oid, Result, SqlState};

use crate::catalog::Change;
use crate::ids::RowId;

const VERSION: u8 = 1;

/// The state of a sequence as logged: numbers up to `value` may have been handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceValue {
    /// [`crate::catalog::Sequence::generation`] this value belongs to; values of older generations are void.
    pub generation: u32,
    pub value: i64,
    /// As PostgreSQL's `is_called`: false means `value` itself is the next number.
    pub called: bool,
}

/// One change of a commit, borrowed from the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Op<'a> {
    Insert {
        storage: u32,
        row: RowId,
        bytes: &'a [u8],
    },
    Update {
        storage: u32,
        row: RowId,
        patch: &'a [u8],
    },
    Delete {
        storage: u32,
        row: RowId,
    },
    Catalog(Box<Change>),
    Sequence {
        oid: Oid,
        value: SequenceValue,
    },
    Statistics {
        oid: Oid,
        bytes: &'a [u8],
    },
    /// Oids and storage ids below these may be in use.
    NextIds {
        oid: Oid,
        storage: u32,
    },
    /// Rows, or changes of rows, that the base holds as a pending piece become visible: there are `rows` more with it.
    Publish {
        piece: u64,
        storage: u32,
        rows: i64,
    },
    /// An index entry that comes (`live`) or goes with an update or a delete.
    Entry {
        storage: u32,
        live: bool,
        entry: &'a [u8],
    },
}

/// Builds a record.
#[derive(Clone, Debug)]
pub struct RecordBuilder {
    bytes: Vec<u8>,
    storage: u32,
    row: u64,
}

impl Default for RecordBuilder {
    fn default() -> RecordBuilder {
        RecordBuilder::new()
    }
}

impl RecordBuilder {
    pub fn new() -> RecordBuilder {
        RecordBuilder { bytes: vec![VERSION], storage: 0, row: 0 }
    }

    /// No op was added: there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn insert(&mut self, storage: u32, row: RowId, bytes: &[u8]) {
        self.place(1, storage, row);
        self.blob(bytes);
    }

    pub fn update(&mut self, storage: u32, row: RowId, patch: &[u8]) {
        self.place(2, storage, row);
        self.blob(patch);
    }

    pub fn delete(&mut self, storage: u32, row: RowId) {
        self.place(3, storage, row);
    }

    /// XX000 if the change cannot be written as JSON.
    pub fn catalog(&mut self, change: &Change) -> Result<()> {
        let json = serde_json::to_vec(change)
            .map_err(|error| Error::internal(format!("catalog change as JSON: {error}")))?;
        self.bytes.push(4);
        self.blob(&json);
        Ok(())
    }

    pub fn sequence(&mut self, oid: Oid, value: SequenceValue) {
        self.bytes.push(5);
        put_varint(&mut self.bytes, u64::from(oid));
        put_varint(&mut self.bytes, u64::from(value.generation));
        put_varint(&mut self.bytes, zigzag(value.value));
        self.bytes.push(u8::from(value.called));
    }

    pub fn statistics(&mut self, oid: Oid, bytes: &[u8]) {
        self.bytes.push(6);
        put_varint(&mut self.bytes, u64::from(oid));
        self.blob(bytes);
    }

    pub fn next_ids(&mut self, oid: Oid, storage: u32) {
        self.bytes.push(7);
        put_varint(&mut self.bytes, u64::from(oid));
        put_varint(&mut self.bytes, u64::from(storage));
    }

    pub fn entry(&mut self, storage: u32, entry: &[u8], live: bool) {
        self.bytes.push(8);
        put_varint(&mut self.bytes, u64::from(storage));
        self.bytes.push(u8::from(live));
        self.blob(entry);
    }

    pub fn publish(&mut self, piece: u64, storage: u32, rows: i64) {
        let more = u64::try_from(rows);
        self.bytes.push(if more.is_ok() { 9 } else { 10 });
        put_varint(&mut self.bytes, piece);
        put_varint(&mut self.bytes, u64::from(storage));
        put_varint(&mut self.bytes, more.unwrap_or(zigzag(rows)));
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn place(&mut self, kind: u8, storage: u32, row: RowId) {
        self.bytes.push(kind);
        put_varint(&mut self.bytes, zigzag(i64::from(storage) - i64::from(self.storage)));
        put_varint(&mut self.bytes, zigzag(row.0.wrapping_sub(self.row) as i64));
        self.storage = storage;
        self.row = row.0;
    }

    fn blob(&mut self, bytes: &[u8]) {
        put_varint(&mut self.bytes, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

/// The ops of a record, in order. Damage is `XX001`; the iterator ends after an error.
pub fn decode(record: &[u8]) -> Ops<'_> {
    Ops { rest: record, begun: false, storage: 0, row: 0 }
}

/// Iterator of [`decode`].
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    rest: &'a [u8],
    begun: bool,
    storage: u32,
    row: u64,
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>>;

    fn next(&mut self) -> Option<Result<Op<'a>>> {
        if !self.begun {
            self.begun = true;
            match take_byte(&mut self.rest) {
                Some(VERSION) => {}
                _ => return self.damaged("unknown record version"),
            }
        }
        if self.rest.is_empty() {
            return None;
        }
        match self.op() {
            Some(Ok(op)) => Some(Ok(op)),
            Some(Err(message)) => self.damaged(&message),
            None => self.damaged("record ends inside an op"),
        }
    }
}

impl<'a> Ops<'a> {
    fn damaged(&mut self, message: &str) -> Option<Result<Op<'a>>> {
        self.rest = &[];
        Some(Err(Error::new(SqlState::DATA_CORRUPTED, format!("log record is damaged: {message}"))))
    }

    /// `None`: too short.
    fn op(&mut self) -> Option<Result<Op<'a>, String>> {
        let rest = &mut self.rest;
        Some(Ok(match take_byte(rest)? {
            kind @ 1..=3 => {
                let storage = i64::from(self.storage).wrapping_add(unzigzag(take_varint(rest)?));
                let Ok(storage) = u32::try_from(storage) else {
                    return Some(Err(format!("storage {storage} is out of range")));
                };
                self.storage = storage;
                self.row = self.row.wrapping_add(unzigzag(take_varint(rest)?) as u64);
                let row = RowId(self.row);
                match kind {
                    1 => Op::Insert { storage, row, bytes: take_blob(rest)? },
                    2 => Op::Update { storage, row, patch: take_blob(rest)? },
                    _ => Op::Delete { storage, row },
                }
            }
            4 => match serde_json::from_slice(take_blob(rest)?) {
                Ok(change) => Op::Catalog(Box::new(change)),
                Err(error) => return Some(Err(format!("catalog change: {error}"))),
            },
            5 => Op::Sequence {
                oid: take_u32(rest)?,
                value: SequenceValue {
                    generation: take_u32(rest)?,
                    value: unzigzag(take_varint(rest)?),
                    called: take_byte(rest)? != 0,
                },
            },
            6 => Op::Statistics { oid: take_u32(rest)?, bytes: take_blob(rest)? },
            7 => Op::NextIds { oid: take_u32(rest)?, storage: take_u32(rest)? },
            kind @ 9..=10 => {
                let (piece, storage, rows) = (take_varint(rest)?, take_u32(rest)?, take_varint(rest)?);
                let rows = if kind == 9 { rows as i64 } else { unzigzag(rows) };
                Op::Publish { piece, storage, rows }
            }
            8 => Op::Entry { storage: take_u32(rest)?, live: take_byte(rest)? != 0, entry: take_blob(rest)? },
            kind => return Some(Err(format!("unknown op {kind}"))),
        }))
    }
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// LEB128: seven bits a byte, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

pub(crate) fn take_blob<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (blob, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(blob)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(rest)?).ok()
}
