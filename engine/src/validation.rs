//! Which commits a serializable transaction is compared with, and in which moment.
//!
//! The hard idea: between a transaction's last look at what others have committed and its own place in the log nothing may
//! be committed, or it would be seen by neither. So serializable commits get their LSNs one after the other, under one
//! mutex; a transaction registers with its snapshot under it, too, so that no commit is forgotten that it has yet to be
//! compared with. But only the last few commits are compared inside the mutex: the rest are looked at before, outside.
//!
//! What a comparison is, [`Validation`] does not know: `W` is what a commit has written.

use std::collections::{BTreeMap, VecDeque};

use value::{Error, Result, SqlState};

use crate::ids::Lsn;
use crate::planted::{Bug, planted};
use crate::sync::{Arc, Mutex};

/// Bytes of write sets kept for validation; older transactions fail beyond it.
const KEPT: u64 = 64 << 20;
/// Commits that are compared while no other serializable commit can happen.
const INSIDE: usize = 64;

struct Committed<W> {
    lsn: Lsn,
    bytes: u64,
    writes: Arc<W>,
}

struct State<W> {
    /// Snapshots of running serializable transactions that may write.
    running: BTreeMap<Lsn, u32>,
    /// Write sets of serializable commits since the oldest of them.
    log: VecDeque<Committed<W>>,
    bytes: u64,
    /// Commits up to here have been dropped from the log although somebody might have needed them.
    forgotten: Lsn,
}

impl<W> State<W> {
    /// Commits after `checked`; 40001 when they are not all there any more.
    fn since(&self, checked: Lsn) -> Result<Vec<(Lsn, Arc<W>)>> {
        if checked < self.forgotten {
            return Err(failure("history of what was committed meanwhile is no longer kept"));
        }
        let start = self.log.partition_point(|commit| commit.lsn <= checked);
        Ok(self.log.range(start..).map(|commit| (commit.lsn, commit.writes.clone())).collect())
    }
}

pub(crate) fn failure(reason: &str) -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to read/write dependencies among transactions",
    )
    .detail(format!("Reason code: {reason}."))
    .hint("The transaction might succeed if retried.")
}

fn compare<W>(newer: &[(Lsn, Arc<W>)], is_hit: &impl Fn(Lsn, &W) -> bool) -> Result<()> {
    if newer.iter().any(|(lsn, writes)| is_hit(*lsn, writes)) {
        return Err(failure(
            "Canceled because what it read was changed by a transaction that committed first",
        ));
    }
    Ok(())
}

/// What serializable commits are validated against.
pub(crate) struct Validation<W> {
    state: Mutex<State<W>>,
    inside: usize,
}

impl<W> Default for Validation<W> {
    fn default() -> Validation<W> {
        Validation::new(INSIDE)
    }
}

impl<W> Validation<W> {
    /// `inside`: so many commits are compared under the mutex at most.
    pub(crate) fn new(inside: usize) -> Validation<W> {
        let state = State { running: BTreeMap::new(), log: VecDeque::new(), bytes: 0, forgotten: Lsn(0) };
        Validation { state: Mutex::new(state), inside }
    }

    /// Registers a transaction; `pin` takes its snapshot, with no serializable commit going on meanwhile.
    pub(crate) fn begin<T>(&self, pin: impl FnOnce() -> (Lsn, T)) -> T {
        if planted(Bug::RegisterLate) {
            let (ts, pinned) = pin();
            *self.state.lock().running.entry(ts).or_insert(0) += 1;
            return pinned;
        }
        let mut state = self.state.lock();
        let (ts, pinned) = pin();
        *state.running.entry(ts).or_insert(0) += 1;
        pinned
    }

    /// The transaction has ended. `applied`: snapshots that begin from now on are at it or later.
    pub(crate) fn end(&self, ts: Lsn, applied: Lsn) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(count) = state.running.get_mut(&ts) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&ts);
            }
        }
        let oldest = state.running.keys().next().copied().filter(|_| !planted(Bug::ForgetRunning));
        let needed = oldest.map_or(applied, |oldest| oldest.min(applied));
        while state.log.front().is_some_and(|commit| commit.lsn <= needed) {
            if let Some(commit) = state.log.pop_front() {
                state.bytes -= commit.bytes;
            }
        }
    }

    /// Whether a transaction with that snapshot could commit as things stand: 40001 when something it read was changed
    /// by a commit after its snapshot. Holds up nobody.
    pub(crate) fn check(&self, ts: Lsn, is_hit: impl Fn(Lsn, &W) -> bool) -> Result<()> {
        let newer = self.state.lock().since(ts)?;
        compare(&newer, &is_hit)
    }

    /// Commits a transaction with that snapshot: validates, then runs `log`, which gives its LSN. 40001 as
    /// [`Validation::check`]. `bytes`: the size of what it has written.
    pub(crate) fn commit<T>(
        &self,
        ts: Lsn,
        (writes, bytes): (&Arc<W>, u64),
        is_hit: impl Fn(Lsn, &W) -> bool,
        log: impl FnOnce() -> Result<(Lsn, T)>,
    ) -> Result<(Lsn, T)> {
        let mut checked = ts;
        loop {
            let mut state = self.state.lock();
            let newer = state.since(checked)?;
            if newer.len() > self.inside {
                drop(state);
                compare(&newer, &is_hit)?;
                checked = newer.last().map_or(checked, |(lsn, _)| *lsn);
                continue;
            }
            if planted(Bug::ValidateOutside) {
                drop(state);
                compare(&newer, &is_hit)?;
                state = self.state.lock();
            } else {
                compare(&newer, &is_hit)?;
            }
            let state = &mut *state;
            let (lsn, logged) = log()?;
            state.log.push_back(Committed { lsn, bytes, writes: writes.clone() });
            state.bytes += bytes;
            while state.bytes > KEPT
                && state.log.len() > 1
                && let Some(commit) = state.log.pop_front()
            {
                state.bytes -= commit.bytes;
                state.forgotten = commit.lsn;
            }
            return Ok((lsn, logged));
        }
    }
}
