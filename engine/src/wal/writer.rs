//! The two threads behind an open log: "wal" writes batches, "wal-prepare" keeps a prewritten segment ahead.
//!
//! Without threads ([`WalOptions::threads`]) whoever waits does their work, so that a test is one thread with one
//! order of events.
//!
//! Space is counted, not hoped for: `free` is what the active segment and the spares still hold, `claimed` what
//! reservations and queued records may need at worst. A reservation succeeds while it fits; else it waits for
//! the preparer, and fails when the preparer has met a full disk.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use value::{Error, Result, SqlState};

use super::reader::Found;
use super::segment::{
    BLOCK_BYTES, BatchHeader, CONTINUES, HEADER, PIECE, SegmentHeader, UNSYNCED, file_name,
};
use super::{Lsn, WalOptions};
use crate::disk::{self, AlignedBuffer, Disk, File, Mode, Priority, set_thread_priority};
use crate::metrics::Metrics;
use crate::planted::{Bug, planted};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, thread};

/// Most body bytes of one batch.
const BATCH: u64 = 4 << 20;
/// Recyclable segments kept for the preparer; more are removed.
const RECYCLABLE: usize = 2;
/// How long the preparer waits after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Log bytes that a record of `len` bytes takes at worst: its own batch, and every cut at the end of a batch or
/// segment costs a header and padding.
pub(super) fn claim(len: usize) -> u64 {
    let len = len as u64;
    len + 3 * BLOCK_BYTES + len / (32 << 10) * 2 * BLOCK_BYTES
}

#[derive(Debug)]
struct Queued {
    record: Vec<u8>,
    claim: u64,
}

#[derive(Debug)]
struct SegmentUse {
    number: u64,
    first: u64,
    inside: bool,
}

impl SegmentUse {
    fn first_whole(&self) -> u64 {
        self.first + u64::from(self.inside)
    }
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// The newest LSN given out.
    last: u64,
    free: u64,
    claimed: u64,
    /// Bytes the largest waiting reservation needs.
    wanted: u64,
    spares: VecDeque<u64>,
    next_number: u64,
    /// Every segment with records, oldest first; the last one is active.
    segments: VecDeque<SegmentUse>,
    recyclable: VecDeque<u64>,
    /// Records up to here are only kept for looking back.
    below: u64,
    /// Segments up to this one are in the archive.
    archived: u64,
    /// Why the preparer could not prepare, until it can.
    prepare_error: Option<Error>,
    sealed: Option<Error>,
    /// No further appends.
    closing: bool,
    /// Closed in good order: leave the closing mark.
    mark: bool,
    /// The writer thread has ended.
    ended: bool,
    waiters: Vec<(u64, Waker)>,
}

/// What sessions and the two threads share.
#[derive(Debug)]
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    options: WalOptions,
    metrics: Arc<Metrics>,
    durable: AtomicU64,
    bytes: AtomicU64,
    state: Mutex<State>,
    /// Something for the writer.
    work: Condvar,
    /// Something for the preparer.
    prepare: Condvar,
    /// A segment for the archive.
    archive: Condvar,
    /// Space, durability or the end: for threads that block.
    progress: Condvar,
    /// Without threads: the writer, used by whoever waits.
    inline: Mutex<Option<Writer>>,
}

/// The sessions' side; dropping the last one ends the threads.
#[derive(Debug)]
pub(super) struct Handle {
    pub shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) fn start(
    disk: Arc<dyn Disk>,
    options: WalOptions,
    found: Found,
    applied: Lsn,
    metrics: Arc<Metrics>,
) -> Result<Handle> {
    if options.segment_size < 16 * BLOCK_BYTES || !options.segment_size.is_multiple_of(BLOCK_BYTES) {
        return Err(Error::new(
            SqlState::CONFIG_FILE_ERROR,
            format!("log segment size {} is not a multiple of 4096 of at least 65536", options.segment_size),
        ));
    }
    // Copied in order, so the newest one that is there stands for all before it.
    let mut archived = 0;
    if let Some(archive) = &options.archive {
        for segment in &found.segments {
            let name = file_name(segment.number);
            let there =
                archive.contains(&name).map_err(|error| disk::error("look for", Path::new(&name), &error))?;
            if !there {
                break;
            }
            archived = segment.number;
        }
    }
    let state = State {
        archived,
        below: applied.0,
        last: found.last,
        free: found.spares.len() as u64 * (options.segment_size - BLOCK_BYTES),
        spares: found.spares.iter().copied().collect(),
        next_number: found.next_number,
        segments: found
            .segments
            .iter()
            .map(|segment| SegmentUse {
                number: segment.number,
                first: segment.first,
                inside: segment.inside,
            })
            .collect(),
        ..State::default()
    };
    let shared = Arc::new(Shared {
        disk,
        options,
        metrics,
        durable: AtomicU64::new(found.last),
        bytes: AtomicU64::new(0),
        state: Mutex::new(state),
        work: Condvar::new(),
        prepare: Condvar::new(),
        archive: Condvar::new(),
        progress: Condvar::new(),
        inline: Mutex::new(None),
    });
    if !shared.options.threads {
        *shared.inline.lock() = Some(Writer::new(&shared));
        return Ok(Handle { shared, threads: Mutex::default() });
    }
    let spawn = |name: &str, run: fn(&Arc<Shared>)| {
        let shared = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared)).map_err(|error| {
            Error::new(SqlState::SYSTEM_ERROR, format!("could not start thread {name}: {error}"))
        })
    };
    let writer = spawn("wal", |shared| Writer::new(shared).run());
    let preparer = spawn("wal-prepare", |shared| shared.prepare_segments());
    let archiver =
        shared.options.archive.is_some().then(|| spawn("wal-archive", |shared| shared.archive_segments()));
    let handle = Handle { shared: Arc::clone(&shared), threads: Mutex::new(Vec::new()) };
    handle.threads.lock().extend([writer?, preparer?]);
    handle.threads.lock().extend(archiver.transpose()?);
    Ok(handle)
}

impl Handle {
    pub fn close(&self) -> Result<()> {
        self.end(true);
        match self.shared.failed() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn end(&self, mark: bool) {
        {
            let mut state = self.shared.state.lock();
            state.mark |= mark && !state.closing;
            state.closing = true;
        }
        self.shared.work.notify_all();
        self.shared.prepare.notify_all();
        self.shared.archive.notify_all();
        self.shared.progress.notify_all();
        self.shared.drive();
        // It holds what holds it.
        *self.shared.inline.lock() = None;
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A waker run by the writer thread may drop the last handle.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a log thread ended by a panic");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(false);
    }
}

fn closed() -> Error {
    Error::new(SqlState::ADMIN_SHUTDOWN, "the write-ahead log is closed")
}

impl Shared {
    /// Waits until the record fits and gives what was claimed.
    pub fn reserve(&self, len: usize) -> Result<u64> {
        let need = claim(len);
        let mut state = self.state.lock();
        loop {
            if let Some(error) = &state.sealed {
                return Err(error.clone());
            }
            if state.closing {
                return Err(closed());
            }
            // A record larger than the limit may pass when it is alone.
            let crowded = state.queued_bytes > 0 && state.queued_bytes + len > self.options.queue_limit;
            if !crowded && state.free >= state.claimed + need {
                state.claimed += need;
                return Ok(need);
            }
            if !crowded && !self.options.threads {
                drop(state);
                if !self.prepare_next() {
                    return Err(self.state.lock().prepare_error.clone().unwrap_or_else(closed));
                }
                state = self.state.lock();
                continue;
            }
            if !crowded {
                if let Some(error) = &state.prepare_error {
                    return Err(error.clone());
                }
                state.wanted = state.wanted.max(state.claimed + need);
                self.prepare.notify_one();
            }
            if self.options.threads {
                self.progress.wait(&mut state);
                continue;
            }
            drop(state);
            self.drive();
            state = self.state.lock();
        }
    }

    /// Without threads: writes what has queued.
    fn drive(&self) {
        if let Some(writer) = &mut *self.inline.lock() {
            writer.run_once();
        }
    }

    pub fn give_back(&self, claim: u64) {
        let mut state = self.state.lock();
        state.claimed -= claim;
        drop(state);
        self.progress.notify_all();
    }

    pub fn append(&self, claim: u64, record: Vec<u8>) -> Result<Lsn> {
        let mut state = self.state.lock();
        if state.sealed.is_some() || state.closing {
            state.claimed -= claim;
            return Err(state.sealed.clone().unwrap_or_else(closed));
        }
        state.last += 1;
        let lsn = Lsn(state.last);
        self.bytes.fetch_add((record.len() + PIECE) as u64, Ordering::Relaxed);
        state.queued_bytes += record.len();
        let idle = state.queue.is_empty();
        state.queue.push_back(Queued { record, claim });
        drop(state);
        if idle {
            self.work.notify_one();
        }
        Ok(lsn)
    }

    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub fn last(&self) -> Lsn {
        Lsn(self.state.lock().last)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> Option<Error> {
        self.state.lock().sealed.clone()
    }

    /// Under the lock: whether `lsn` is durable, or will never be.
    fn outcome(&self, state: &State, lsn: Lsn) -> Option<Result<()>> {
        if self.durable() >= lsn {
            return Some(Ok(()));
        }
        match &state.sealed {
            Some(error) => Some(Err(error.clone())),
            None if state.ended => Some(Err(closed())),
            None => None,
        }
    }

    pub fn wait_blocking(&self, lsn: Lsn) -> Result<()> {
        self.drive();
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = self.outcome(&state, lsn) {
                return outcome;
            }
            self.progress.wait(&mut state);
        }
    }

    pub fn poll_durable(&self, lsn: Lsn, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.durable() >= lsn {
            return Poll::Ready(Ok(()));
        }
        self.drive();
        let mut state = self.state.lock();
        if let Some(outcome) = self.outcome(&state, lsn)
            && !planted(Bug::ForgetDurable)
        {
            return Poll::Ready(outcome);
        }
        let known = |(at, waker): &(u64, Waker)| *at == lsn.0 && waker.will_wake(context.waker());
        if !state.waiters.iter().any(known) {
            state.waiters.push((lsn.0, context.waker().clone()));
        }
        Poll::Pending
    }

    /// The oldest finished segment that is not in the archive.
    fn next_for_archive(state: &State) -> Option<u64> {
        let active = state.segments.len().saturating_sub(1);
        let finished = state.segments.iter().take(active);
        finished.map(|segment| segment.number).find(|number| *number > state.archived)
    }

    /// The archiver thread.
    fn archive_segments(&self) {
        set_thread_priority(Priority::Background);
        let mut state = self.state.lock();
        while !state.closing {
            match Shared::next_for_archive(&state) {
                None => self.archive.wait(&mut state),
                Some(number) => {
                    drop(state);
                    let done = self.archive_one(number);
                    state = self.state.lock();
                    if !done && !state.closing {
                        self.archive.wait_for(&mut state, RETRY);
                    }
                }
            }
        }
    }

    /// Copies a segment; `false`: it could not, and said why.
    fn archive_one(&self, number: u64) -> bool {
        let Some(archive) = &self.options.archive else { return true };
        let name = file_name(number);
        let copied =
            self.disk.open(&self.path(number), Mode::Existing).and_then(|file| archive.store(&name, &*file));
        match copied {
            Ok(()) => {
                self.metrics.wal_archived.increment();
                let mut state = self.state.lock();
                state.archived = state.archived.max(number);
                self.observe(&state);
                true
            }
            Err(error) => {
                self.metrics.wal_archive_failures.increment();
                tracing::error!(%error, segment = name, "could not archive a log segment; it stays and is tried again");
                false
            }
        }
    }

    pub fn size(&self) -> u64 {
        Shared::files(&self.state.lock()) * self.options.segment_size
    }

    fn files(state: &State) -> u64 {
        (state.segments.len() + state.spares.len() + state.recyclable.len()) as u64
    }

    /// Tells the metrics what there is.
    fn observe(&self, state: &State) {
        let size = Shared::files(state) * self.options.segment_size;
        let over = size.saturating_sub(self.options.max_size);
        if over > 0 && self.metrics.wal_over_limit.get() == 0 {
            tracing::warn!(
                size,
                limit = self.options.max_size,
                "the log is larger than wal.max_size: a checkpoint or the archive is behind"
            );
        }
        self.metrics.wal_size.set(size);
        self.metrics.wal_over_limit.set(over);
        let active = state.segments.len().saturating_sub(1);
        let waiting = match &self.options.archive {
            Some(_) => state.segments.iter().take(active).filter(|s| s.number > state.archived).count(),
            None => 0,
        };
        self.metrics.wal_unarchived.set(waiting as u64);
    }

    pub fn recycle(&self, below: Lsn) -> Result<()> {
        if !self.options.threads {
            loop {
                let next = Shared::next_for_archive(&self.state.lock());
                if self.options.archive.is_none() || !next.is_some_and(|number| self.archive_one(number)) {
                    break;
                }
            }
        }
        let most = (self.options.max_size / self.options.segment_size).max(2) as usize - 1;
        let (mut retain, mut recyclable) = (self.options.retain.min(most).max(1), RECYCLABLE);
        if self.options.room.as_ref().is_some_and(|room| room.is_log_short()) {
            (retain, recyclable) = (1, 1);
        }
        let mut surplus = Vec::new();
        {
            let mut state = self.state.lock();
            state.below = below.0;
            while state.segments.len() > retain {
                let Some(segment) = self.take_oldest(&mut state) else { break };
                state.recyclable.push_back(segment.number);
            }
            while state.recyclable.len() > recyclable {
                surplus.extend(state.recyclable.pop_front());
            }
            self.observe(&state);
        }
        for number in surplus {
            let path = self.path(number);
            self.disk.remove(&path).map_err(|error| disk::error("remove", &path, &error))?;
        }
        // It may have been refused before.
        self.prepare.notify_one();
        Ok(())
    }

    /// The oldest segment, unless the base or the archive still needs it.
    fn take_oldest(&self, state: &mut State) -> Option<SegmentUse> {
        // All of a segment is <= below when the next one begins at or before below + 1.
        if state.segments.get(1)?.first_whole() > state.below + 1 {
            return None;
        }
        if self.options.archive.is_some() && state.segments.front()?.number > state.archived {
            return None;
        }
        state.segments.pop_front()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.options.directory.join(file_name(number))
    }

    /// Nothing is accepted or acknowledged from here on.
    fn seal(&self, error: Error) {
        tracing::error!(%error, "a log write failed; the database accepts no more changes");
        let mut state = self.state.lock();
        state.sealed.get_or_insert(error);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        self.progress.notify_all();
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The preparer thread. At ordinary priority: commits wait for it when it falls behind.
    fn prepare_segments(&self) {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                return;
            }
            if !state.spares.is_empty() && state.free >= state.wanted {
                state.wanted = 0;
                self.prepare.wait(&mut state);
                continue;
            }
            drop(state);
            let prepared = self.prepare_next();
            state = self.state.lock();
            if !prepared && !state.closing {
                self.prepare.wait_for(&mut state, RETRY);
            }
        }
    }

    /// Prepares one segment; `false`: it could not, and said why.
    fn prepare_next(&self) -> bool {
        let (number, mut recycled, urgent) = {
            let mut state = self.state.lock();
            let number = state.next_number;
            state.next_number += 1;
            (number, state.recyclable.pop_front(), state.wanted > state.free || !self.options.threads)
        };
        let mut room = Ok(None);
        if let (Some(of), None) = (&self.options.room, recycled) {
            room = of.for_segment(self.options.segment_size, urgent).map(Some);
            if room.is_err() {
                recycled = self.take_oldest(&mut self.state.lock()).map(|segment| segment.number);
            }
        }
        let result = match (room, recycled) {
            (Err(error), None) => Err(error),
            (_room, recycled) => self.prepare_segment(number, recycled),
        };
        let mut state = self.state.lock();
        let prepared = result.is_ok();
        match result {
            Ok(()) => {
                state.prepare_error = None;
                state.spares.push_back(number);
                state.free += self.options.segment_size - BLOCK_BYTES;
            }
            Err(error) => {
                tracing::warn!(%error, "could not prepare a log segment");
                state.prepare_error = Some(error);
            }
        }
        drop(state);
        self.progress.notify_all();
        self.work.notify_one();
        prepared
    }

    /// Makes an unused segment of full size, so that writing it later changes nothing but its bytes.
    fn prepare_segment(&self, number: u64, recycled: Option<u64>) -> Result<()> {
        let path = self.path(number);
        let directory = &self.options.directory;
        let sync = |_: ()| {
            if planted(Bug::NoDirectorySync) {
                return Ok(());
            }
            self.disk.sync_directory(directory).map_err(|error| disk::error("sync", directory, &error))
        };
        if let Some(old) = recycled {
            let from = self.path(old);
            // Its old batches carry the old generation: they never pass under the new number.
            return self
                .disk
                .rename(&from, &path)
                .map_err(|error| disk::error("rename", &from, &error))
                .and_then(sync);
        }
        let fill = |path: &Path| -> std::io::Result<()> {
            let file = self.disk.open(path, Mode::Create)?;
            let zeroes = vec![0; 1 << 20];
            let mut offset = 0;
            while offset < self.options.segment_size {
                let len = (self.options.segment_size - offset).min(zeroes.len() as u64);
                file.write_at(offset, &zeroes[..len as usize])?;
                offset += len;
            }
            file.sync()
        };
        match fill(&path) {
            Ok(()) => sync(()),
            Err(error) => {
                // Half a segment is of no use; if it cannot be removed the next open does.
                let _ = self.disk.remove(&path);
                Err(disk::error("prepare", &path, &error))
            }
        }
    }
}

/// The writer thread's own state.
#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    /// LSN of the next piece, and whether it goes on with a record that has begun.
    next: u64,
    inside: bool,
    buffer: AlignedBuffer,
}

#[derive(Debug)]
struct Active {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    position: u64,
}

impl Writer {
    fn new(shared: &Arc<Shared>) -> Writer {
        Writer {
            shared: Arc::clone(shared),
            active: None,
            next: shared.durable().0 + 1,
            inside: false,
            buffer: AlignedBuffer::default(),
        }
    }

    fn run(mut self) {
        set_thread_priority(Priority::Log);
        loop {
            {
                let mut state = self.shared.state.lock();
                while state.queue.is_empty() && !state.closing {
                    self.shared.work.wait(&mut state);
                }
            }
            if !self.run_once() {
                break;
            }
        }
    }

    /// Writes what has queued; `false`: that was the end.
    fn run_once(&mut self) -> bool {
        let (queued, last) = {
            let mut state = self.shared.state.lock();
            if state.ended {
                return false;
            }
            (std::mem::take(&mut state.queue), state.closing)
        };
        let mut result = self.write(&queued);
        if result.is_ok() && !last {
            return true;
        }
        if result.is_ok() && queued.is_empty() {
            let mark = {
                let state = self.shared.state.lock();
                state.mark && state.sealed.is_none()
            };
            if mark && self.active.is_some() {
                result = self.write_batch(&[], 0, true).map(|_| ());
            }
        } else if result.is_ok() {
            return self.run_once();
        }
        if let Err(error) = result {
            self.shared.seal(error);
        }
        let mut state = self.shared.state.lock();
        state.ended = true;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        self.shared.progress.notify_all();
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        false
    }

    /// Writes the records as few batches as fit.
    fn write(&mut self, queued: &VecDeque<Queued>) -> Result<()> {
        // Pieces of the batch being put together, and what has been taken of the record at hand.
        let mut pieces: Vec<(&[u8], bool)> = Vec::new();
        let (mut claims, mut bytes, mut room, mut used) = (0, 0, 0, 0);
        for Queued { record, claim } in queued {
            let mut rest = &record[..];
            loop {
                if room == 0 {
                    room = self.room()?;
                    used = HEADER as u64;
                }
                let left = room - used;
                if left <= PIECE as u64 && !pieces.is_empty() {
                    self.finish(&mut pieces, &mut claims, &mut bytes)?;
                    room = 0;
                    continue;
                }
                let take = (left - PIECE as u64).min(rest.len() as u64) as usize;
                let (piece, tail) = rest.split_at(take);
                rest = tail;
                used += (PIECE + take) as u64;
                pieces.push((piece, !rest.is_empty()));
                if rest.is_empty() {
                    break;
                }
                self.finish(&mut pieces, &mut claims, &mut bytes)?;
                room = 0;
            }
            claims += claim;
            bytes += record.len();
        }
        self.finish(&mut pieces, &mut claims, &mut bytes)
    }

    /// Writes the pieces as one batch; `claims` and `bytes` belong to the records that end in it.
    fn finish(&mut self, pieces: &mut Vec<(&[u8], bool)>, claims: &mut u64, bytes: &mut usize) -> Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        if planted(Bug::AcknowledgeBeforeSync) {
            let whole = pieces.iter().filter(|(_, continues)| !continues).count() as u64;
            self.shared.durable.store(self.next + whole - 1, Ordering::Release);
        }
        let size = self.write_batch(pieces, pieces.len() as u32, false)?;
        let whole = pieces.iter().filter(|(_, continues)| !continues).count() as u64;
        self.next += whole;
        self.inside = pieces.last().is_some_and(|(_, continues)| *continues);
        pieces.clear();
        self.shared.metrics.wal_records.add(whole);
        self.shared.durable.store(self.next - 1, Ordering::Release);
        let mut state = self.shared.state.lock();
        state.free -= size;
        state.claimed -= std::mem::take(claims);
        state.queued_bytes -= std::mem::take(bytes);
        let mut woken = Vec::new();
        let durable = self.next - 1;
        state.waiters.retain_mut(|(lsn, waker)| {
            let wake = *lsn <= durable;
            if wake {
                woken.push(waker.clone());
            }
            !wake
        });
        drop(state);
        self.shared.progress.notify_all();
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Bytes that a batch may take at the current place, header included; takes the next segment when the
    /// active one is full.
    fn room(&mut self) -> Result<u64> {
        let size = self.shared.options.segment_size;
        if self.active.as_ref().is_none_or(|active| active.position >= size) {
            self.next_segment()?;
        }
        let position = self.active.as_ref().map_or(0, |active| active.position);
        Ok((size - position).min(BATCH))
    }

    fn next_segment(&mut self) -> Result<()> {
        let number = {
            let mut state = self.shared.state.lock();
            loop {
                if let Some(number) = state.spares.pop_front() {
                    break number;
                }
                // Records are only accepted within prepared space.
                if let Some(error) = &state.prepare_error {
                    return Err(error.clone());
                }
                state.wanted = state.wanted.max(1);
                self.shared.prepare.notify_one();
                self.shared.work.wait(&mut state);
            }
        };
        self.shared.prepare.notify_one();
        let options = &self.shared.options;
        let path = self.shared.path(number);
        let open = if options.synchronous { Disk::open_log } else { Disk::open };
        let file = open(&*self.shared.disk, &path, Mode::Existing)
            .map_err(|error| disk::error("open", &path, &error))?;
        let header = SegmentHeader {
            database_id: options.database_id,
            generation: number,
            first: self.next,
            inside: self.inside,
            durable: if options.synchronous { self.next - 1 } else { UNSYNCED },
            size: options.segment_size,
        };
        self.buffer.reset(BLOCK_BYTES as usize);
        header.write(&mut self.buffer);
        self.shared.put(&file, &path, 0, &self.buffer)?;
        let first = SegmentUse { number, first: self.next, inside: self.inside };
        {
            let mut state = self.shared.state.lock();
            state.segments.push_back(first);
            self.shared.observe(&state);
        }
        self.shared.archive.notify_one();
        self.active = Some(Active { file, path, number, position: BLOCK_BYTES });
        Ok(())
    }

    /// Gives the bytes it took.
    fn write_batch(&mut self, pieces: &[(&[u8], bool)], count: u32, closed: bool) -> Result<u64> {
        let options = &self.shared.options;
        let len = pieces.iter().map(|(bytes, _)| PIECE + bytes.len()).sum::<usize>();
        let size = BatchHeader::size(len);
        let Some(active) = &mut self.active else { return Err(Error::internal("no active log segment")) };
        if active.position + size > options.segment_size {
            // Only the closing mark has no room of its own; the log ends well without it.
            return Ok(0);
        }
        self.buffer.reset(size as usize);
        let mut at = HEADER;
        for (bytes, continues) in pieces {
            let head = bytes.len() as u32 | if *continues { CONTINUES } else { 0 };
            self.buffer[at..at + PIECE].copy_from_slice(&head.to_le_bytes());
            at += PIECE;
            self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        let header = BatchHeader {
            database_id: options.database_id,
            generation: active.number,
            first: self.next,
            inside: self.inside,
            durable: if options.synchronous { self.next - 1 } else { UNSYNCED },
            closed,
            len,
            pieces: count,
        };
        header.write(&mut self.buffer);
        self.shared.put(&active.file, &active.path, active.position, &self.buffer)?;
        active.position += size;
        Ok(size)
    }
}

impl Shared {
    fn put(&self, file: &Arc<dyn File>, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = Instant::now();
        let result = if self.options.synchronous && !planted(Bug::SkipSync) {
            match file.write_durable(offset, bytes) {
                Err(_) if planted(Bug::RetrySync) => file.sync(),
                result => result,
            }
        } else {
            file.write_at(offset, bytes)
        };
        result.map_err(|error| disk::error("write", path, &error))?;
        self.metrics.wal_sync.observe(start.elapsed());
        self.metrics.wal_batches.increment();
        self.metrics.wal_bytes.add(bytes.len() as u64);
        self.metrics.disk_writes.increment();
        self.metrics.disk_write_bytes.add(bytes.len() as u64);
        Ok(())
    }
}
