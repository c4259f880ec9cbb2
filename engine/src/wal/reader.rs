//! Reading the log back: which segments there are, where the log ends, and the records after the base's LSN.
//!
//! The hard idea is telling a torn tail, which is normal, from damage, which must not be passed over in silence.
//! One batch is in flight at a time, so only the last one can be torn. The log ends at the first batch that does
//! not pass (magic, database, generation, CRC, LSN in sequence). It is damage when a later batch of the same
//! generation passes, when any header says that more was durable, or when a later segment goes on beyond the gap.
//! Batches behind a torn one that a later segment has replaced are not looked at: that segment's header says
//! from which LSN on it counts.
//!
//! Opening goes through the log twice: [`scan`] finds its end before anything is changed, [`Replay`] gives the records
//! out. The second time a thread reads ahead, so that checksums and copies cost whoever applies the records nothing.

use std::path::{Path, PathBuf};

use value::{Error, Result, SqlState};

use super::record::Op;
use super::segment::{
    BLOCK_BYTES, BatchHeader, CONTINUES, HEADER, PIECE, SegmentHeader, UNSYNCED, file_name, number_of,
};
use super::{LogFacts, Lsn, WalOptions};
use crate::disk::{self, Disk, File, Mode};
use crate::planted::{Bug, planted};
use crate::sync::{Arc, mpsc, thread};

/// A segment with a valid header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub first: u64,
    pub inside: bool,
    size: u64,
    durable: u64,
}

impl Segment {
    /// The first LSN that begins in this segment or later.
    pub fn first_whole(&self) -> u64 {
        self.first + u64::from(self.inside)
    }
}

/// What [`scan`] learned.
#[derive(Debug)]
pub(super) struct Found {
    pub segments: Vec<Segment>,
    /// Prewritten, never used.
    pub spares: Vec<u64>,
    pub next_number: u64,
    /// The last whole record, or the base's LSN if that is larger.
    pub last: u64,
    applied: u64,
    /// The records, unless they are too many.
    kept: Option<Vec<Records>>,
}

impl Found {
    /// Once.
    pub fn replay(&mut self, disk: Arc<dyn Disk>, options: &WalOptions) -> Result<Replay> {
        if let Some(kept) = self.kept.take() {
            return Ok(Replay { source: Source::Kept(kept.into_iter()), done: false });
        }
        let walker = Walker::new(disk, options, self.segments.clone(), self.applied);
        if !options.threads || self.last == self.applied {
            return Ok(Replay { source: Source::Here(walker), done: false });
        }
        Replay::ahead(walker)
    }
}

fn corrupted(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::DATA_CORRUPTED,
        format!("the write-ahead log is damaged in file \"{}\"", path.display()),
    )
    .detail(what.to_string())
    .hint("Restore the file from a copy; what comes after the damage cannot be trusted.")
}

/// Lists the segments, checks everything after `applied` and finds the end of the log.
pub(super) fn scan(disk: &Arc<dyn Disk>, options: &WalOptions, applied: Lsn) -> Result<Found> {
    let directory = &options.directory;
    disk.create_directory(directory).map_err(|error| disk::error("create", directory, &error))?;
    let names = disk.list(directory).map_err(|error| disk::error("list", directory, &error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let mut segments: Vec<Segment> = Vec::new();
    let mut spares = Vec::new();
    for &number in &numbers {
        let path = directory.join(file_name(number));
        let fail = |error| disk::error("read", &path, &error);
        let file = disk.open(&path, Mode::Existing).map_err(fail)?;
        let len = file.len().map_err(fail)?;
        let mut blocks = vec![0; len.min(2 * BLOCK_BYTES) as usize];
        file.read_at(0, &mut blocks).map_err(fail)?;
        match SegmentHeader::read(&blocks) {
            Some(header) if header.database_id != options.database_id => {
                return Err(corrupted(&path, "it belongs to another database"));
            }
            Some(header) if header.generation == number => segments.push(Segment {
                number,
                first: header.first,
                inside: header.inside,
                size: header.size.min(len),
                durable: if header.durable == UNSYNCED { 0 } else { header.durable },
            }),
            // Recycled under a new name, not used under it yet.
            Some(_) => spares.push((number, len)),
            // The header is durable before the first batch is written.
            None if batch_of(&blocks, options, number) => {
                return Err(corrupted(&path, "its header is damaged, but a batch follows it"));
            }
            None => spares.push((number, len)),
        }
    }
    let newest = segments.last().map_or(0, |segment| segment.number);
    let next_number = numbers.last().copied().unwrap_or(0) + 1;
    let mut usable = Vec::new();
    for (number, len) in spares {
        if number > newest && len == options.segment_size {
            usable.push(number);
        } else {
            let path = directory.join(file_name(number));
            disk.remove(&path).map_err(|error| disk::error("remove", &path, &error))?;
        }
    }
    let mut found =
        Found { segments, spares: usable, next_number, last: applied.0, applied: applied.0, kept: None };
    let mut walker = Walker::new(Arc::clone(disk), options, found.segments.clone(), applied.0);
    // Batches of few clients are mostly padding: what is read to find the end is not read again.
    let (mut kept, mut bytes) = (Some(Vec::new()), 0);
    loop {
        let records = walker.fill(CHUNK)?;
        if records.is_empty() {
            break;
        }
        bytes += records.memory();
        match &mut kept {
            Some(list) if bytes <= options.replay_memory => list.push(records),
            _ => (walker.keep, kept) = (false, None),
        }
    }
    (found.last, found.kept) = (walker.last, kept);
    // What was read may still be in the page cache only; new records must not become durable before it.
    if let Some(segment) = found.segments.last() {
        let path = directory.join(file_name(segment.number));
        let file = disk.open(&path, Mode::Existing).map_err(|error| disk::error("open", &path, &error))?;
        file.sync().map_err(|error| disk::error("sync", &path, &error))?;
    }
    Ok(found)
}

/// See [`super::verify`].
pub(super) fn verify(disk: &Arc<dyn Disk>, options: &WalOptions, found: &Found) -> Result<LogFacts> {
    let mut facts =
        LogFacts { complete: found.segments.first().is_none_or(|s| s.first == 1), ..LogFacts::default() };
    // Where the next segment begins if nothing is missing.
    let mut end: Option<u64> = None;
    for segment in &found.segments {
        let path = options.directory.join(file_name(segment.number));
        let fail = |error| disk::error("read", &path, &error);
        let file = disk.open(&path, Mode::Existing).map_err(fail)?;
        // What lay behind the end that a recovery found was replaced by the segment that it began.
        facts.complete &= end.is_none_or(|end| segment.first <= end);
        let mut walker = Walker::new(Arc::clone(disk), options, vec![*segment], 0);
        walker.file = Some(Window { file, len: segment.size, start: 0, bytes: Vec::new() });
        (walker.next, walker.partial) = (segment.first, segment.inside.then(Vec::new));
        // Its first piece may end a record that began in the segment before: that is not looked into.
        let mut skip = segment.inside;
        while walker.batch(segment).map_err(fail)? {
            let records = std::mem::take(&mut walker.ready);
            for (Lsn(lsn), bytes) in records.iter() {
                if std::mem::take(&mut skip) {
                    continue;
                }
                facts.records += 1;
                for op in super::record::decode(bytes) {
                    match op {
                        // Its rows are in the base only.
                        Ok(Op::Publish { .. }) => facts.complete = false,
                        Ok(_) => {}
                        Err(error) => {
                            return Err(corrupted(&path, format_args!("record {lsn}: {}", error.message())));
                        }
                    }
                }
            }
        }
        let Some(file) = &mut walker.file else { continue };
        let later = file.later_batch(walker.position, options.database_id, segment.number).map_err(fail)?;
        if later.is_some_and(|header| header.durable != UNSYNCED) {
            let (next, position) = (walker.next, walker.position);
            return Err(corrupted(
                &path,
                format_args!("record {next} at byte {position} is missing or does not pass its checksum"),
            ));
        }
        facts.bytes += walker.position;
        end = Some(walker.next);
    }
    Ok(facts)
}

/// Whether the block after the header begins with a batch of this generation.
fn batch_of(blocks: &[u8], options: &WalOptions, generation: u64) -> bool {
    blocks
        .get(BLOCK_BYTES as usize..)
        .and_then(BatchHeader::read)
        .is_some_and(|header| header.database_id == options.database_id && header.generation == generation)
}

/// Records that follow one another, in one piece of memory.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// LSN of each, and where it ends in `bytes`.
    ends: Vec<(u64, usize)>,
}

impl Records {
    pub fn iter(&self) -> impl Iterator<Item = (Lsn, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(starts).map(|((lsn, end), start)| (Lsn(*lsn), &self.bytes[start..*end]))
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<(u64, usize)>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, lsn: u64, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push((lsn, self.bytes.len()));
    }
}

/// Bytes of records given out at once, and how many times that may be read ahead.
const CHUNK: usize = 256 << 10;
const AHEAD: usize = 8;

/// The records after the base's LSN, in order. Ends where the log ends; damage is an error.
#[derive(Debug)]
pub struct Replay {
    source: Source,
    done: bool,
}

#[derive(Debug)]
enum Source {
    Kept(std::vec::IntoIter<Records>),
    Here(Walker),
    /// Both are there until the drop. Memory goes back through the third.
    Thread(Option<mpsc::Receiver<Result<Records>>>, Option<thread::JoinHandle<()>>, mpsc::Sender<Records>),
}

impl Replay {
    fn ahead(mut walker: Walker) -> Result<Replay> {
        let (sender, receiver) = mpsc::sync_channel(AHEAD);
        let (give, given) = mpsc::channel();
        walker.given = Some(given);
        let thread = thread::Builder::new().name("wal-replay".to_owned()).spawn(move || {
            loop {
                let records = walker.fill(CHUNK);
                let last = records.as_ref().map_or(true, Records::is_empty);
                // Nobody there any more: the open was given up.
                if sender.send(records).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Replay { source: Source::Thread(Some(receiver), Some(thread), give), done: false })
    }

    /// Takes the memory of records that are done with, for those that come.
    pub fn give_back(&self, records: Records) {
        // Fresh memory costs more than what is read into it. A long record's is not kept.
        if let Source::Thread(_, _, give) = &self.source
            && records.bytes.capacity() <= 4 * CHUNK
        {
            // When the thread has read all there is, it goes.
            let _ = give.send(records);
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Records>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let records = match &mut self.source {
            Source::Kept(list) => Ok(list.next().unwrap_or_default()),
            Source::Here(walker) => walker.fill(CHUNK),
            Source::Thread(receiver, ..) => match receiver.as_ref().map(mpsc::Receiver::recv) {
                Some(Ok(records)) => records,
                _ => Err(Error::internal("the thread that reads the log has ended")),
            },
        };
        self.done = records.as_ref().map_or(true, Records::is_empty);
        match records {
            Ok(records) if records.is_empty() => None,
            records => Some(records),
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Source::Thread(receiver, thread, _) = &mut self.source {
            *receiver = None;
            if thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("the thread that reads the log panicked");
            }
        }
    }
}

/// Goes through the segments batch by batch.
#[derive(Debug)]
struct Walker {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    database_id: u64,
    segments: Vec<Segment>,
    /// The segment being read.
    index: usize,
    file: Option<Window>,
    /// Where the next batch begins.
    position: u64,
    /// LSN of the next piece.
    next: u64,
    /// The beginning of record `next`, when it began in an earlier batch.
    partial: Option<Vec<u8>>,
    /// Whole records not given out yet.
    ready: Records,
    /// Memory for others.
    given: Option<mpsc::Receiver<Records>>,
    /// `false`: nobody wants the records, only to know where they end.
    keep: bool,
    /// The last whole record, or `applied`.
    last: u64,
    applied: u64,
    durable: u64,
}

impl Walker {
    fn new(disk: Arc<dyn Disk>, options: &WalOptions, segments: Vec<Segment>, applied: u64) -> Walker {
        let index =
            segments.iter().rposition(|segment| segment.first_whole() <= applied + 1).unwrap_or_default();
        let durable = segments.iter().map(|segment| segment.durable).max().unwrap_or(0);
        let start = segments.get(index);
        Walker {
            disk,
            directory: options.directory.clone(),
            database_id: options.database_id,
            index,
            file: None,
            position: BLOCK_BYTES,
            next: start.map_or(applied + 1, |segment| segment.first),
            partial: start.is_some_and(|segment| segment.inside).then(Vec::new),
            ready: Records::default(),
            given: None,
            keep: true,
            last: applied,
            applied,
            durable,
            segments,
        }
    }

    fn path(&self, segment: &Segment) -> PathBuf {
        self.directory.join(file_name(segment.number))
    }

    fn take(&mut self) -> Records {
        let mut next = self.given.as_ref().and_then(|given| given.try_recv().ok()).unwrap_or_default();
        next.clear();
        std::mem::replace(&mut self.ready, next)
    }

    /// Reads on until there are records of `enough` bytes; nothing at the end of the log.
    fn fill(&mut self, enough: usize) -> Result<Records> {
        loop {
            // A long record whose end is yet to come is not copied behind others.
            if !self.ready.is_empty() && (self.ready.bytes.len() >= enough || self.partial.is_some()) {
                return Ok(self.take());
            }
            let Some(segment) = self.segments.get(self.index).copied() else {
                return Ok(self.take());
            };
            if self.file.is_none() {
                let path = self.path(&segment);
                if self.index == 0 && segment.first_whole() > self.applied + 1 {
                    return Err(corrupted(
                        &path,
                        format_args!(
                            "the log begins with record {}, the checkpoint ends with {}",
                            segment.first_whole(),
                            self.applied
                        ),
                    ));
                }
                let file = self
                    .disk
                    .open(&path, Mode::Existing)
                    .map_err(|error| disk::error("open", &path, &error))?;
                self.file = Some(Window { file, len: segment.size, start: 0, bytes: Vec::new() });
                self.position = BLOCK_BYTES;
            }
            match self.batch(&segment) {
                Ok(true) => {}
                Ok(false) => self.end_of_segment(&segment)?,
                Err(error) => return Err(disk::error("read", &self.path(&segment), &error)),
            }
        }
    }

    /// Reads the batch at `position`; `false` when none passes there.
    fn batch(&mut self, segment: &Segment) -> std::io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        // Records from here on were replaced by a later segment.
        let limit = self.segments.get(self.index + 1).map_or(u64::MAX, |next| next.first);
        let Some((header, bytes)) = file.batch(self.position, self.database_id, segment.number)? else {
            return Ok(false);
        };
        if header.first != self.next || header.inside != self.partial.is_some() {
            return Ok(false);
        }
        let body = &bytes[HEADER..];
        let mut rest = body;
        if (0..header.pieces).any(|_| take_piece(&mut rest).is_none()) {
            return Ok(false);
        }
        let mut rest = body;
        for _ in 0..header.pieces {
            let Some((piece, continues)) = take_piece(&mut rest) else { return Ok(false) };
            let wanted = self.next > self.applied && self.next < limit;
            let piece = if self.keep { piece } else { &[] };
            let begun = self.partial.take().map(|mut begun| {
                begun.extend_from_slice(piece);
                begun
            });
            if continues {
                self.partial = Some(begun.unwrap_or_else(|| piece.to_vec()));
                continue;
            }
            if wanted {
                self.last = self.next;
            }
            match begun {
                _ if !wanted || !self.keep => {}
                // It may be very long.
                Some(begun) if self.ready.is_empty() => {
                    self.ready.ends.push((self.next, begun.len()));
                    self.ready.bytes = begun;
                }
                begun => self.ready.push(self.next, begun.as_deref().unwrap_or(piece)),
            }
            self.next += 1;
        }
        if header.durable != UNSYNCED {
            self.durable = self.durable.max(header.durable);
        }
        self.position += BatchHeader::size(header.len);
        Ok(true)
    }

    /// No further batch in this segment: on to the next one, if that fits.
    fn end_of_segment(&mut self, segment: &Segment) -> Result<()> {
        let (position, path) = (self.position, self.path(segment));
        let damaged = |next: u64| {
            corrupted(
                &path,
                format_args!("record {next} at byte {position} is missing or does not pass its checksum"),
            )
        };
        if let Some(following) = self.segments.get(self.index + 1) {
            let fits = following.first == self.next && following.inside == self.partial.is_some();
            // A recovery ended here before and dropped what was behind.
            let replaced = following.first <= self.next && !following.inside;
            // What is missing is in the base.
            let passed = following.first_whole() <= self.applied + 1;
            if !fits && !replaced && !passed && !planted(Bug::TruncateAtDamage) {
                return Err(damaged(self.next));
            }
            if !fits {
                self.partial = following.inside.then(Vec::new);
            }
            self.next = following.first;
        } else {
            let later = {
                let Some(file) = &mut self.file else { return Ok(()) };
                file.later_batch(position, self.database_id, segment.number)
                    .map_err(|error| disk::error("read", &path, &error))?
            };
            // A log kept without syncing promises no order.
            let later = later.is_some_and(|header| header.durable != UNSYNCED);
            let missing = later || self.durable >= self.next.max(self.applied + 1);
            if missing && !planted(Bug::TruncateAtDamage) {
                return Err(damaged(self.next));
            }
            self.partial = None;
        }
        self.file = None;
        self.index += 1;
        Ok(())
    }
}

fn take_piece<'a>(body: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let (head, rest) = body.split_at_checked(PIECE)?;
    let head = u32::from_le_bytes(head.try_into().ok()?);
    let (piece, rest) = rest.split_at_checked((head & !CONTINUES) as usize)?;
    *body = rest;
    Some((piece, head & CONTINUES != 0))
}

/// A file read in large pieces.
#[derive(Debug)]
struct Window {
    file: Arc<dyn File>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

const WINDOW: u64 = 1 << 20;

impl Window {
    /// `None`: the file is shorter.
    fn bytes(&mut self, position: u64, len: u64) -> std::io::Result<Option<&[u8]>> {
        let Some(end) = position.checked_add(len).filter(|end| *end <= self.len) else { return Ok(None) };
        if position < self.start || end > self.start + self.bytes.len() as u64 {
            self.bytes.resize(len.max(WINDOW).min(self.len - position) as usize, 0);
            self.start = position;
            if let Err(error) = self.file.read_at(position, &mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
            self.file.prefetch(position + self.bytes.len() as u64, WINDOW);
        }
        let offset = (position - self.start) as usize;
        Ok(self.bytes.get(offset..offset + len as usize))
    }

    /// The batch at `position` (header and body) if it passes everything but the sequence of LSNs.
    fn batch(
        &mut self,
        position: u64,
        database_id: u64,
        generation: u64,
    ) -> std::io::Result<Option<(BatchHeader, &[u8])>> {
        let Some(bytes) = self.bytes(position, BLOCK_BYTES)? else { return Ok(None) };
        let Some(header) = BatchHeader::read(bytes) else { return Ok(None) };
        let another = header.generation != generation && !planted(Bug::ReuseRecycled);
        if header.database_id != database_id || another || header.first == 0 {
            return Ok(None);
        }
        let Some(bytes) = self.bytes(position, (HEADER + header.len) as u64)? else { return Ok(None) };
        let intact = BatchHeader::intact(bytes) || planted(Bug::NoCrc);
        Ok(intact.then_some((header, bytes)))
    }

    /// The last batch behind `position` that passes.
    fn later_batch(
        &mut self,
        mut position: u64,
        database_id: u64,
        generation: u64,
    ) -> std::io::Result<Option<BatchHeader>> {
        let mut later = None;
        while position < self.len {
            if let Some((header, _)) = self.batch(position, database_id, generation)? {
                later = Some(header);
            }
            position += BLOCK_BYTES;
        }
        Ok(later)
    }
}
