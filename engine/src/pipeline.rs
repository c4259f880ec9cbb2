//! The order of commits: between getting its LSN and being part of what snapshots may see.
//!
//! The hard idea: LSNs are given in order, but commits are applied to memtables beside each other and end in any order.
//! Snapshots may see a commit only when all before it are applied too. So each has a slot in a queue; whoever
//! finishes the oldest moves `applied` past all that are done, and hands their row and key locks over in the
//! same moment: the next writer of a row never sees it as it was before.

use std::collections::VecDeque;
use std::task::Waker;

use value::Result;

use crate::ids::Lsn;
use crate::lock::{LockManager, LockTag};
use crate::planted::{Bug, planted};
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// A commit that has its LSN and is not passed yet.
struct Slot {
    done: bool,
    owner: u64,
    /// Row and key locks, to be released when `applied` passes.
    locks: Vec<(LockTag, u8)>,
}

/// What one mutex keeps in order; `unsaved` (what the base does not know yet) changes in the same moments.
#[derive(Default)]
pub(crate) struct Queue<T> {
    slots: VecDeque<Slot>,
    /// LSN of the first slot.
    pub(crate) first: u64,
    waiters: Vec<(Lsn, Waker)>,
    pub(crate) unsaved: T,
}

impl<T> Queue<T> {
    /// The newest LSN that was given.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.first + self.slots.len() as u64 - 1)
    }
}

#[derive(Default)]
pub(crate) struct Pipeline<T> {
    queue: Mutex<Queue<T>>,
    applied: AtomicU64,
    changed: Condvar,
}

impl<T> Pipeline<T> {
    pub(crate) fn new(applied: Lsn, unsaved: T) -> Pipeline<T> {
        let queue = Queue { slots: VecDeque::new(), first: applied.0 + 1, waiters: Vec::new(), unsaved };
        Pipeline { queue: Mutex::new(queue), applied: AtomicU64::new(applied.0), changed: Condvar::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock()
    }

    /// Every commit up to here is applied.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// Sets where counting begins, before anybody commits.
    pub(crate) fn start_at(&self, applied: Lsn) {
        self.applied.store(applied.0, Ordering::Release);
        self.queue.lock().first = applied.0 + 1;
    }

    /// Gives a commit its place: `log` gives its LSN, which is the next one. What else it gives is handed on.
    pub(crate) fn enter<R>(
        &self,
        owner: u64,
        log: impl FnOnce(&mut T) -> Result<(Lsn, R)>,
    ) -> Result<(Lsn, R)> {
        let mut queue = self.queue.lock();
        let (lsn, more) = log(&mut queue.unsaved)?;
        debug_assert_eq!(lsn.0, queue.first + queue.slots.len() as u64, "LSNs are counted");
        queue.slots.push_back(Slot { done: false, owner, locks: Vec::new() });
        Ok((lsn, more))
    }

    /// The commit is applied. Its locks are released when all before it are, too.
    pub(crate) fn settle(&self, lsn: Lsn, locks: Vec<(LockTag, u8)>, manager: &LockManager) {
        let mut passed = Vec::new();
        let mut wake = Vec::new();
        {
            let mut queue = self.queue.lock();
            let queue = &mut *queue;
            if let Some(slot) = queue.slots.get_mut((lsn.0 - queue.first) as usize) {
                slot.done = true;
                slot.locks = locks;
            }
            while queue.slots.front().is_some_and(|slot| slot.done || planted(Bug::PassUnfinished)) {
                if let Some(slot) = queue.slots.pop_front() {
                    queue.first += 1;
                    if !slot.locks.is_empty() {
                        passed.push(slot);
                    }
                }
            }
            let applied = Lsn(queue.first - 1);
            if applied > self.applied() {
                self.applied.store(applied.0, Ordering::Release);
                self.changed.notify_all();
                queue.waiters.retain(|(lsn, waker)| {
                    let ready = *lsn <= applied;
                    if ready {
                        wake.push(waker.clone());
                    }
                    !ready
                });
            }
        }
        for slot in passed {
            for (tag, bits) in &slot.locks {
                manager.release(slot.owner, tag, *bits);
            }
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Blocks until every commit up to `lsn` is applied: microseconds, unless a large one is among them.
    pub(crate) fn wait(&self, lsn: Lsn) {
        for _ in 0..64 {
            if self.applied() >= lsn {
                return;
            }
            std::hint::spin_loop();
        }
        let mut queue = self.queue.lock();
        while self.applied() < lsn {
            self.changed.wait(&mut queue);
        }
    }

    /// Whether `lsn` is applied; if not, wakes `waker` when it is.
    pub(crate) fn poll(&self, lsn: Lsn, waker: &Waker) -> bool {
        if self.applied() >= lsn {
            return true;
        }
        let mut queue = self.queue.lock();
        if self.applied() >= lsn {
            return true;
        }
        queue.waiters.push((lsn, waker.clone()));
        false
    }
}
