//! The lock table: rows, unique keys, tables and advisory locks, with FIFO-fair queues and deadlock detection.
//!
//! The hard idea: every lock of every kind lives in one sharded map and every waiter of the process in one
//! small graph, so a deadlock is found in the moment the last wait of a cycle begins, not after a timeout.
//! The path without contention is one shard mutex and one map entry.
//!
//! Ordering of the mutexes inside: graph, then shard, then a waiter's state. Wakers are called outside all.
//! A request conflicts with holders (hard edges) and with queued requests ahead of it (soft edges). A cycle
//! with soft edges is broken by reordering queues where an order without cycles exists; otherwise the member
//! with the smallest `deadlock_timeout`, on a tie the youngest transaction, gets 40P01.
//!
//! As in PostgreSQL, a row lock that no holder is in the way of is granted past those who wait; who must wait
//! waits in line. Table and advisory locks always respect the line.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use value::{Error, Oid, Result, SqlState};

use crate::ids::RowId;
use crate::planted::{Bug, planted};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

// By their paths, since `engine/interleaving` reads this file from elsewhere.
#[path = "lock/covered.rs"]
mod covered;
#[cfg(test)]
#[path = "lock/tests.rs"]
mod tests;

pub(crate) use covered::Bits;
use covered::{Added, Covered};

/// PostgreSQL's eight table lock modes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableLockMode {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

/// Their names in `pg_locks`, in the same order.
pub const TABLE_LOCK_MODES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// The four row lock modes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowLockMode {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

/// What to do when a lock is held by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Block,
    /// 55P03 at once.
    NoWait,
    /// Tell the caller, who skips the row (or returns false from `pg_try_advisory_lock`).
    Skip,
}

/// An advisory key as `pg_locks` shows it: kind 1 is one bigint (class = high half), 2 is two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdvisoryKey {
    pub database: Oid,
    pub class: u32,
    pub object: u32,
    pub kind: u16,
}

impl AdvisoryKey {
    /// The key of `pg_advisory_lock(bigint)`.
    pub fn bigint(database: Oid, key: i64) -> AdvisoryKey {
        AdvisoryKey { database, class: (key as u64 >> 32) as u32, object: key as u32, kind: 1 }
    }

    /// The key of `pg_advisory_lock(int, int)`.
    pub fn pair(database: Oid, class: i32, object: i32) -> AdvisoryKey {
        AdvisoryKey { database, class: class as u32, object: object as u32, kind: 2 }
    }
}

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockTag {
    Row {
        storage: u32,
        row: u64,
    },
    /// A key of a unique index, by the index's storage and the full key bytes.
    Key {
        index: u32,
        key: Arc<[u8]>,
    },
    Table(Oid),
    Advisory(AdvisoryKey),
    /// The end of a transaction, or of what it has done since a savepoint (by number; 0 = since it began): waited for by
    /// those who meet a row that it has locked among very many, or a key of a row that it has put into the base early.
    Transaction {
        owner: u64,
        savepoint: u64,
    },
    /// A name of a schema's relations, while whoever gives it to one has not committed.
    Name {
        schema: Oid,
        name: Arc<str>,
    },
}

/// Who asks: `owner` is the transaction (or the session, for session-level advisory locks), `node` the session
/// in the wait-for graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    pub owner: u64,
    pub node: u64,
    pub pid: i32,
    pub database: Oid,
    /// When the transaction took its first lock, as a number that grows: tells the youngest of a deadlock.
    pub age: u64,
    /// The session's `deadlock_timeout` in milliseconds: tells who is to give way. Nobody waits that long.
    pub deadlock_timeout: u32,
    /// It is the only transaction of its session that has not ended.
    pub alone: bool,
}

/// One row of `pg_locks`.
#[derive(Clone, Debug)]
pub struct LockInfo {
    pub tag: LockTag,
    /// `RowExclusiveLock` and so on, as PostgreSQL names it.
    pub mode: &'static str,
    pub granted: bool,
    pub pid: i32,
    pub transaction: u64,
    /// When the wait began.
    pub since: Option<SystemTime>,
}

const TABLE_CONFLICTS: [u8; 8] =
    [0b1000_0000, 0b1100_0000, 0b1111_0000, 0b1111_1000, 0b1110_1100, 0b1111_1100, 0b1111_1110, 0b1111_1111];
const ROW_CONFLICTS: [u8; 4] = [0b1000, 0b1100, 0b1110, 0b1111];
const SIMPLE_CONFLICTS: [u8; 2] = [0b10, 0b11];

/// Modes of keys and advisory locks.
pub(crate) const SHARED: u8 = 0;
pub(crate) const EXCLUSIVE: u8 = 1;

impl LockTag {
    /// The modes (as bits) that conflict with `mode` on this kind of lock.
    fn conflicts(&self, mode: u8) -> u8 {
        match self {
            LockTag::Row { .. } => ROW_CONFLICTS[mode as usize],
            LockTag::Table(_) => TABLE_CONFLICTS[mode as usize],
            LockTag::Key { .. }
            | LockTag::Advisory(_)
            | LockTag::Transaction { .. }
            | LockTag::Name { .. } => SIMPLE_CONFLICTS[mode as usize],
        }
    }

    /// Whether holding `mask` makes asking for `mode` a no-op. Modes of tables and advisory locks are each kept: `pg_locks`
    /// lists them, and advisory ones are given back one by one.
    fn covers(&self, mask: u8, mode: u8) -> bool {
        match self {
            LockTag::Table(_) | LockTag::Advisory(_) => mask & (1 << mode) != 0,
            _ => mask >> mode != 0,
        }
    }

    pub(crate) fn is_key(&self) -> bool {
        matches!(self, LockTag::Key { .. })
    }

    fn mode_name(&self, mode: u8) -> &'static str {
        match self {
            LockTag::Row { .. } => ["ForKeyShare", "ForShare", "ForNoKeyUpdate", "ForUpdate"][mode as usize],
            LockTag::Table(_) => TABLE_LOCK_MODES[mode as usize],
            LockTag::Key { .. }
            | LockTag::Advisory(_)
            | LockTag::Transaction { .. }
            | LockTag::Name { .. } => ["ShareLock", "ExclusiveLock"][mode as usize],
        }
    }

    /// Session-level and transaction-level advisory locks of one session do not conflict; everything else is
    /// the transaction's own (the session's previous transaction may still be handing its row locks back).
    fn own(&self, holder: &Holder, who: &Requester) -> bool {
        match self {
            LockTag::Advisory(_) => holder.node == who.node,
            _ => holder.owner == who.owner,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    owner: u64,
    node: u64,
    pid: i32,
    mask: u8,
}

/// Almost every lock has one holder; that one needs no allocation.
#[derive(Default)]
struct Holders {
    first: Option<Holder>,
    rest: Vec<Holder>,
}

impl Holders {
    fn iter(&self) -> impl Iterator<Item = &Holder> {
        self.first.iter().chain(self.rest.iter())
    }

    fn owned_by(&mut self, owner: u64) -> Option<&mut Holder> {
        self.first.iter_mut().chain(self.rest.iter_mut()).find(|holder| holder.owner == owner)
    }

    fn add(&mut self, who: &Requester, bit: u8) {
        if let Some(holder) = self.owned_by(who.owner) {
            holder.mask |= bit;
            return;
        }
        let holder = Holder { owner: who.owner, node: who.node, pid: who.pid, mask: bit };
        if self.first.is_none() {
            self.first = Some(holder);
        } else {
            self.rest.push(holder);
        }
    }

    fn remove(&mut self, owner: u64, bits: u8) {
        if let Some(first) = &mut self.first
            && first.owner == owner
        {
            first.mask &= !bits;
            if first.mask == 0 {
                self.first = self.rest.pop();
            }
            return;
        }
        if let Some(place) = self.rest.iter().position(|holder| holder.owner == owner) {
            self.rest[place].mask &= !bits;
            if self.rest[place].mask == 0 {
                self.rest.swap_remove(place);
            }
        }
    }
}

#[derive(Default)]
struct Entry {
    holders: Holders,
    queue: VecDeque<Arc<Waiter>>,
}

impl Entry {
    fn held_by_others(&self, tag: &LockTag, who: &Requester, conflicts: u8) -> bool {
        self.holders.iter().any(|holder| holder.mask & conflicts != 0 && !tag.own(holder, who))
    }

    /// Grants what can be granted, first come first served; a later request passes an earlier one only where
    /// the two do not conflict.
    fn promote(&mut self, tag: &LockTag, wake: &mut Vec<Waker>) {
        let mut ahead: Vec<(u64, u8)> = Vec::new();
        let mut place = 0;
        while place < self.queue.len() {
            let waiter = &self.queue[place];
            let conflicts = tag.conflicts(waiter.mode);
            let blocked = self.held_by_others(tag, &waiter.who, conflicts)
                || ahead.iter().any(|(node, mode)| conflicts & (1 << mode) != 0 && *node != waiter.who.node);
            if blocked {
                ahead.push((waiter.who.node, waiter.mode));
                place += 1;
                continue;
            }
            if let Some(waiter) = self.queue.remove(place) {
                self.holders.add(&waiter.who, 1 << waiter.mode);
                wake.extend(waiter.settle(Status::Granted));
            }
        }
    }

    fn is_free(&self) -> bool {
        self.holders.first.is_none() && self.queue.is_empty()
    }
}

enum Status {
    Waiting,
    Granted,
    Failed(Error),
    Done,
}

struct Waiter {
    who: Requester,
    tag: LockTag,
    mode: u8,
    since: SystemTime,
    state: Mutex<(Status, Option<Waker>)>,
}

impl Waiter {
    fn settle(&self, status: Status) -> Option<Waker> {
        let mut state = self.state.lock();
        state.0 = status;
        state.1.take()
    }
}

const SHARDS: usize = 64;
/// Soft edges turned round at once in the search for an order of queues without a cycle.
const REORDERINGS: usize = 4;

/// What one `acquire` led to.
pub(crate) enum Attempt {
    /// `true`: newly held, to be released once. `false`: the owner held it (or more) already.
    Granted(bool),
    /// Only for [`Wait::NoWait`] and [`Wait::Skip`].
    Busy,
    Wait(LockFuture),
}

/// Every lock of the process.
pub struct LockManager {
    shards: Box<[Mutex<hashbrown::HashMap<LockTag, Entry>>]>,
    hasher: hashbrown::DefaultHashBuilder,
    /// By session node: the one lock each waiting session waits for.
    waiting: Mutex<HashMap<u64, Arc<Waiter>>>,
    /// Locks on keys of unique indexes.
    keys: AtomicU64,
    covered: Covered,
    deadlocks: AtomicU64,
    waits: AtomicU64,
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager").field("waiting", &self.waiting.lock().len()).finish()
    }
}

impl Default for LockManager {
    fn default() -> Self {
        LockManager::new()
    }
}

/// One edge of a cycle: `waiter` waits, `blocker` (a session node, its pid, its transaction) is in the way.
struct Edge {
    waiter: Arc<Waiter>,
    blocker: u64,
    blocker_pid: i32,
    blocker_owner: u64,
    soft: bool,
}

impl Edge {
    /// Whether the lock in the way is held by an earlier transaction of a session whose present one is `who`. Waits for
    /// session-level locks do not tell which transaction they belong to.
    fn ended(&self, who: &Requester) -> bool {
        let other = self.blocker_owner != who.owner && self.blocker_owner != who.node;
        !self.soft && other && who.alone && who.owner != who.node
    }
}

impl LockManager {
    pub fn new() -> LockManager {
        LockManager {
            shards: (0..SHARDS).map(|_| Mutex::new(hashbrown::HashMap::new())).collect(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            waiting: Mutex::new(HashMap::new()),
            keys: AtomicU64::new(0),
            covered: Covered::default(),
            deadlocks: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }

    fn shard(&self, tag: &LockTag) -> &Mutex<hashbrown::HashMap<LockTag, Entry>> {
        &self.shards[(self.hasher.hash_one(tag) >> 48) as usize % SHARDS]
    }

    /// Deadlocks resolved by an error since the start.
    pub fn deadlocks(&self) -> u64 {
        self.deadlocks.load(Ordering::Relaxed)
    }

    /// Lock requests that had to wait since the start.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Keys of unique indexes that are locked, by anybody.
    pub(crate) fn locked_keys(&self) -> u64 {
        self.keys.load(Ordering::SeqCst)
    }

    /// Whether somebody else holds it, in any mode.
    pub(crate) fn is_held_by_others(&self, owner: u64, tag: &LockTag) -> bool {
        let shard = self.shard(tag).lock();
        shard.get(tag).is_some_and(|entry| entry.holders.iter().any(|holder| holder.owner != owner))
    }

    /// Takes the lock if nobody is in the way, else queues (for [`Wait::Block`]).
    pub(crate) fn acquire(self: &Arc<Self>, who: &Requester, tag: &LockTag, mode: u8, wait: Wait) -> Attempt {
        let bit = 1 << mode;
        let waiter = {
            let mut shard = self.shard(tag).lock();
            let Some(entry) = shard.get_mut(tag) else {
                let mut entry = Entry::default();
                entry.holders.add(who, bit);
                if tag.is_key() {
                    self.keys.fetch_add(1, Ordering::SeqCst);
                }
                shard.insert(tag.clone(), entry);
                return Attempt::Granted(true);
            };
            let held = entry.holders.owned_by(who.owner).map_or(0, |holder| holder.mask);
            if tag.covers(held, mode) {
                return Attempt::Granted(false);
            }
            let conflicts = tag.conflicts(mode);
            // Whoever holds a part of the lock already is not made to queue behind those who wait for it.
            let part = entry.holders.iter().any(|holder| tag.own(holder, who));
            let passes = part || matches!(tag, LockTag::Row { .. });
            let queued = !passes
                && entry.queue.iter().any(|w| conflicts & (1 << w.mode) != 0 && w.who.node != who.node);
            if !queued && !entry.held_by_others(tag, who, conflicts) {
                entry.holders.add(who, bit);
                return Attempt::Granted(true);
            }
            if wait != Wait::Block {
                return Attempt::Busy;
            }
            let waiter = Arc::new(Waiter {
                who: *who,
                tag: tag.clone(),
                mode,
                since: SystemTime::now(),
                state: Mutex::new((Status::Waiting, None)),
            });
            if !part {
                entry.queue.push_back(waiter.clone());
            } else {
                entry.queue.push_front(waiter.clone());
            }
            waiter
        };
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.detect(&waiter);
        Attempt::Wait(LockFuture { manager: self.clone(), waiter })
    }

    /// Keeps locks that `who` holds on rows (storage, row, mode) as bits, until the lock on
    /// [`LockTag::Transaction`], which it holds too, is released. Its entries of the table are to be released afterwards.
    pub(crate) fn cover(&self, owner: u64, savepoint: u64, rows: impl Iterator<Item = (u32, RowId, u8)>) {
        self.covered.add(owner, savepoint, rows);
    }

    /// Locks a row as a bit at once, for one that has called [`LockManager::cover`] since `savepoint`. `false`: somebody may
    /// be in the way.
    pub(crate) fn cover_row(
        &self,
        owner: u64,
        savepoint: u64,
        place: (u32, RowId),
        mode: RowLockMode,
    ) -> bool {
        let conflicts = ROW_CONFLICTS[mode as usize];
        match self.covered.try_add((owner, savepoint), place, mode as u8, conflicts) {
            Added::Before => return true,
            Added::Busy => return false,
            Added::Now => {}
        }
        let tag = LockTag::Row { storage: place.0, row: place.1.0 };
        let entry = !planted(Bug::CoverBlindly) && {
            let shard = self.shard(&tag).lock();
            let conflicting = |holder: &Holder| holder.owner != owner && holder.mask & conflicts != 0;
            shard.get(&tag).is_some_and(|entry| entry.holders.iter().any(conflicting))
        };
        // An entry may just have become a bit.
        let met = entry || self.covered.in_the_way(place.0, place.1, conflicts, owner).is_some();
        if met {
            self.covered.take_back((owner, savepoint), place, mode as u8);
        }
        !met
    }

    /// Whether anybody has locks that are kept as bits.
    pub(crate) fn has_covered(&self) -> bool {
        self.covered.any()
    }

    /// Says that a row, which `owner` has locked and which is to be deleted or to lose a unique key, may go with the
    /// transaction: in place of locks on its keys.
    pub(crate) fn set_leaving(&self, owner: u64, savepoint: u64, place: (u32, RowId)) {
        self.covered.set_leaving((owner, savepoint), place);
    }

    /// What to wait for until it is certain whether a row stays that another than `owner` has named in
    /// [`LockManager::set_leaving`].
    pub(crate) fn leaving(&self, owner: u64, place: (u32, RowId)) -> Option<LockTag> {
        let (owner, savepoint) = self.covered.leaving(place, owner)?;
        Some(LockTag::Transaction { owner, savepoint })
    }

    /// What to wait for before a row, whose entry `owner` holds, is really locked: another's lock that is kept as a bit.
    pub(crate) fn covered_by_other(
        &self,
        owner: u64,
        (storage, row): (u32, RowId),
        mode: RowLockMode,
    ) -> Option<LockTag> {
        let conflicts = ROW_CONFLICTS[mode as usize];
        let (owner, savepoint) = self.covered.in_the_way(storage, row, conflicts, owner)?;
        Some(LockTag::Transaction { owner, savepoint })
    }

    /// Storages of the tables in which a transaction has locked rows as bits since that savepoint.
    pub(crate) fn covered_tables(&self, owner: u64, savepoint: u64) -> BTreeSet<u32> {
        self.covered.tables(owner, savepoint)
    }

    /// Whether `owner` has the row locked, in that mode or a stronger one, as a bit.
    pub(crate) fn covers(&self, owner: u64, (storage, row): (u32, RowId), mode: RowLockMode) -> bool {
        self.covered.has(storage, row, mode as u8, owner)
    }

    /// Gives back `bits` of what `owner` holds on `tag` and grants to those who waited.
    pub(crate) fn release(&self, owner: u64, tag: &LockTag, bits: u8) {
        if let LockTag::Transaction { savepoint, .. } = tag
            && bits & (1 << EXCLUSIVE) != 0
        {
            self.covered.remove(owner, *savepoint);
        }
        let mut wake = Vec::new();
        {
            let mut shard = self.shard(tag).lock();
            if let Some(entry) = shard.get_mut(tag) {
                entry.holders.remove(owner, bits);
                if !entry.queue.is_empty() && !planted(Bug::ForgetQueue) {
                    entry.promote(tag, &mut wake);
                }
                if entry.is_free() {
                    self.forget(&mut shard, tag);
                }
            }
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Nobody holds it and nobody waits for it.
    fn forget(&self, shard: &mut hashbrown::HashMap<LockTag, Entry>, tag: &LockTag) {
        if tag.is_key() {
            self.keys.fetch_sub(1, Ordering::SeqCst);
        }
        shard.remove(tag);
    }

    /// Takes a waiter out of its queue, as one that no longer wants the lock.
    fn withdraw(&self, waiter: &Arc<Waiter>, wake: &mut Vec<Waker>) {
        let mut shard = self.shard(&waiter.tag).lock();
        if let Some(entry) = shard.get_mut(&waiter.tag) {
            entry.queue.retain(|other| !Arc::ptr_eq(other, waiter));
            entry.promote(&waiter.tag, wake);
            if entry.is_free() {
                self.forget(&mut shard, &waiter.tag);
            }
        }
    }

    /// Registers the wait in the graph and resolves every cycle that it closes.
    fn detect(&self, waiter: &Arc<Waiter>) {
        let mut wake = Vec::new();
        {
            let mut waiting = self.waiting.lock();
            waiting.insert(waiter.who.node, waiter.clone());
            while let Some(cycle) = self.cycle(&waiting, waiter) {
                let mut moved = Vec::new();
                if cycle.iter().any(|edge| edge.soft)
                    && self.reorder(&waiting, vec![waiter.clone()], REORDERINGS, &mut moved)
                {
                    for tag in moved {
                        self.promote(&tag, &mut wake);
                    }
                    continue;
                }
                let rank = |n: &usize| {
                    let who = &cycle[*n].waiter.who;
                    (std::cmp::Reverse(who.deadlock_timeout), who.age, who.owner)
                };
                let Some(place) = (0..cycle.len()).max_by_key(rank) else { break };
                let victim = cycle[place].waiter.clone();
                self.deadlocks.fetch_add(1, Ordering::Relaxed);
                waiting.remove(&victim.who.node);
                self.withdraw(&victim, &mut wake);
                wake.extend(victim.settle(Status::Failed(deadlock_error(&cycle, place))));
                if Arc::ptr_eq(&victim, waiter) {
                    break;
                }
            }
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Looks for an order of queues in which none of `starts` is in a cycle, turning one soft edge after the
    /// other round, the deepest first. Gives the locks whose queues it changed; without success they are as before.
    fn reorder(
        &self,
        waiting: &HashMap<u64, Arc<Waiter>>,
        starts: Vec<Arc<Waiter>>,
        depth: usize,
        moved: &mut Vec<LockTag>,
    ) -> bool {
        let Some(cycle) = starts.iter().find_map(|start| self.cycle(waiting, start)) else { return true };
        if depth == 0 {
            return false;
        }
        for edge in cycle.iter().rev().filter(|edge| edge.soft) {
            let Some(before) = self.move_ahead(edge) else { continue };
            // Everybody in that queue may have got new neighbours.
            let mut next = starts.clone();
            next.extend(before.iter().filter(|w| !starts.iter().any(|s| Arc::ptr_eq(s, w))).cloned());
            moved.push(edge.waiter.tag.clone());
            if self.reorder(waiting, next, depth - 1, moved) {
                return true;
            }
            moved.pop();
            self.put_back(&edge.waiter.tag, &before);
        }
        false
    }

    /// Moves the waiter of a soft edge in front of the one it waits behind; gives the queue as it was.
    fn move_ahead(&self, edge: &Edge) -> Option<Vec<Arc<Waiter>>> {
        let mut shard = self.shard(&edge.waiter.tag).lock();
        let queue = &mut shard.get_mut(&edge.waiter.tag)?.queue;
        let from = queue.iter().position(|w| Arc::ptr_eq(w, &edge.waiter))?;
        let to = queue.iter().position(|w| w.who.node == edge.blocker).filter(|to| *to < from)?;
        let before = queue.iter().cloned().collect();
        let waiter = queue.remove(from)?;
        queue.insert(to, waiter);
        Some(before)
    }

    /// Restores an order; who has come since stays at the end, who has gone is left out.
    fn put_back(&self, tag: &LockTag, before: &[Arc<Waiter>]) {
        let mut shard = self.shard(tag).lock();
        let Some(entry) = shard.get_mut(tag) else { return };
        let place = |w: &Arc<Waiter>| before.iter().position(|b| Arc::ptr_eq(b, w)).unwrap_or(usize::MAX);
        entry.queue.make_contiguous().sort_by_key(place);
    }

    fn promote(&self, tag: &LockTag, wake: &mut Vec<Waker>) {
        if let Some(entry) = self.shard(tag).lock().get_mut(tag) {
            entry.promote(tag, wake);
        }
    }

    /// Who is in the way of a queued waiter: holders first, then the queue ahead of it. Empty once granted.
    fn blockers(&self, waiter: &Arc<Waiter>) -> Vec<Edge> {
        let shard = self.shard(&waiter.tag).lock();
        let Some(entry) = shard.get(&waiter.tag) else { return Vec::new() };
        if !entry.queue.iter().any(|other| Arc::ptr_eq(other, waiter)) {
            return Vec::new();
        }
        let conflicts = waiter.tag.conflicts(waiter.mode);
        let mut edges: Vec<Edge> = Vec::new();
        for holder in entry.holders.iter() {
            if holder.mask & conflicts != 0 && holder.node != waiter.who.node {
                edges.push(Edge {
                    waiter: waiter.clone(),
                    blocker: holder.node,
                    blocker_pid: holder.pid,
                    blocker_owner: holder.owner,
                    soft: false,
                });
            }
        }
        for other in entry.queue.iter().take_while(|other| !Arc::ptr_eq(other, waiter)) {
            let node = other.who.node;
            if conflicts & (1 << other.mode) != 0
                && node != waiter.who.node
                && !edges.iter().any(|edge| edge.blocker == node)
            {
                edges.push(Edge {
                    waiter: waiter.clone(),
                    blocker: node,
                    blocker_pid: other.who.pid,
                    blocker_owner: other.who.owner,
                    soft: true,
                });
            }
        }
        edges
    }

    /// A cycle through `start`, as its edges in order, if there is one. Depth first, each session once.
    fn cycle(&self, waiting: &HashMap<u64, Arc<Waiter>>, start: &Arc<Waiter>) -> Option<Vec<Edge>> {
        let mut seen = std::collections::HashSet::from([start.who.node]);
        let mut stack = vec![self.blockers(start)];
        let mut path: Vec<Edge> = Vec::new();
        while let Some(edges) = stack.last_mut() {
            let Some(edge) = edges.pop() else {
                stack.pop();
                path.pop();
                continue;
            };
            // A transaction that has ended hands its locks back by itself, whatever its session waits for now.
            if waiting.get(&edge.blocker).is_some_and(|next| edge.ended(&next.who)) {
                continue;
            }
            if edge.blocker == start.who.node {
                path.push(edge);
                return Some(path);
            }
            if !seen.insert(edge.blocker) {
                continue;
            }
            if let Some(next) = waiting.get(&edge.blocker) {
                stack.push(self.blockers(next));
                path.push(edge);
            }
        }
        None
    }

    /// Every lock held or waited for, for `pg_locks`. Row and key locks are included; the caller may leave them out.
    pub fn listing(&self) -> Vec<LockInfo> {
        let mut list = Vec::new();
        for shard in &self.shards {
            for (tag, entry) in shard.lock().iter() {
                for holder in entry.holders.iter() {
                    for mode in (0..8).filter(|mode| holder.mask & (1 << mode) != 0) {
                        list.push(LockInfo {
                            tag: tag.clone(),
                            mode: tag.mode_name(mode),
                            granted: true,
                            pid: holder.pid,
                            transaction: holder.owner,
                            since: None,
                        });
                    }
                }
                for waiter in &entry.queue {
                    list.push(LockInfo {
                        tag: tag.clone(),
                        mode: tag.mode_name(waiter.mode),
                        granted: false,
                        pid: waiter.who.pid,
                        transaction: waiter.who.owner,
                        since: Some(waiter.since),
                    });
                }
            }
        }
        list
    }

    /// The sessions that the session with that pid waits for (`pg_blocking_pids`), each once, in order.
    pub fn blocking_pids(&self, pid: i32) -> Vec<i32> {
        let waiters: Vec<_> =
            self.waiting.lock().values().filter(|waiter| waiter.who.pid == pid).cloned().collect();
        let mut pids: Vec<i32> =
            waiters.iter().flat_map(|waiter| self.blockers(waiter)).map(|edge| edge.blocker_pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// What the session with that pid waits for now.
    pub fn waited_for(&self, pid: i32) -> Option<LockTag> {
        let waiting = self.waiting.lock();
        let waiter = waiting.values().find(|waiter| waiter.who.pid == pid)?;
        matches!(waiter.state.lock().0, Status::Waiting).then(|| waiter.tag.clone())
    }
}

/// 40P01 with PostgreSQL's detail: one line per member, the victim (`first`) first.
fn deadlock_error(cycle: &[Edge], first: usize) -> Error {
    let mut lines = Vec::new();
    for n in 0..cycle.len() {
        let edge = &cycle[(first + n) % cycle.len()];
        let waiter = &edge.waiter;
        let (mode, object) = match &waiter.tag {
            LockTag::Table(oid) => (
                waiter.tag.mode_name(waiter.mode),
                format!("relation {oid} of database {}", waiter.who.database),
            ),
            LockTag::Advisory(key) => (
                waiter.tag.mode_name(waiter.mode),
                format!("advisory lock [{},{},{},{}]", key.database, key.class, key.object, key.kind),
            ),
            // A row, key or name is free when the transaction that holds it ends: that is what PostgreSQL names.
            LockTag::Row { .. }
            | LockTag::Key { .. }
            | LockTag::Transaction { .. }
            | LockTag::Name { .. } => ("ShareLock", format!("transaction {}", edge.blocker_owner)),
        };
        lines.push(format!(
            "Process {} waits for {mode} on {object}; blocked by process {}.",
            waiter.who.pid, edge.blocker_pid
        ));
    }
    Error::new(SqlState::DEADLOCK_DETECTED, "deadlock detected")
        .detail(lines.join("\n"))
        .hint("See server log for query details.")
}

/// A place in a lock's queue. Ready when granted, or with 40P01 as a deadlock's victim; dropping it leaves the
/// queue (and gives back a lock that was granted but not yet taken).
pub(crate) struct LockFuture {
    manager: Arc<LockManager>,
    waiter: Arc<Waiter>,
}

impl Future for LockFuture {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.waiter.state.lock();
        match std::mem::replace(&mut state.0, Status::Done) {
            Status::Waiting => {
                state.0 = Status::Waiting;
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
            Status::Granted => {
                drop(state);
                self.forget();
                Poll::Ready(Ok(()))
            }
            Status::Failed(error) => {
                drop(state);
                self.forget();
                Poll::Ready(Err(error))
            }
            Status::Done => Poll::Ready(Err(Error::internal("a lock wait was polled after it ended"))),
        }
    }
}

impl LockFuture {
    /// Leaves the wait-for graph.
    fn forget(&self) {
        let mut waiting = self.manager.waiting.lock();
        if waiting.get(&self.waiter.who.node).is_some_and(|other| Arc::ptr_eq(other, &self.waiter)) {
            waiting.remove(&self.waiter.who.node);
        }
    }
}

impl Drop for LockFuture {
    fn drop(&mut self) {
        if matches!(self.waiter.state.lock().0, Status::Done) {
            return;
        }
        self.forget();
        let mut wake = Vec::new();
        self.manager.withdraw(&self.waiter, &mut wake);
        wake.into_iter().for_each(Waker::wake);
        // Out of the queue, nobody can grant it any more: what it says now is final.
        if matches!(self.waiter.state.lock().0, Status::Granted) {
            self.manager.release(self.waiter.who.owner, &self.waiter.tag, 1 << self.waiter.mode);
        }
    }
}

/// 55P03 for NOWAIT.
pub(crate) fn not_available(what: &str) -> Error {
    Error::new(SqlState::LOCK_NOT_AVAILABLE, format!("could not obtain lock on {what}"))
}
