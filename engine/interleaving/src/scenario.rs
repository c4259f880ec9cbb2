//! What threads do with locks and commits, and what must hold in every order.

use shuttle::future::block_on;
use shuttle::thread;
use value::{Result, SqlState};

use crate::ids::{Lsn, RowId};
use crate::lock::{
    Attempt, EXCLUSIVE, LockManager, LockTag, Requester, RowLockMode, SHARED, TableLockMode, Wait,
};
use crate::pipeline::Pipeline;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

const UPDATE: u8 = 3;
const SHARE: u8 = 1;
const KEY_SHARE: u8 = 0;

fn who(n: u64) -> Requester {
    Requester { owner: n, node: n, pid: n as i32, database: 5, age: n, deadlock_timeout: 1000, alone: true }
}

fn row(n: u64) -> LockTag {
    LockTag::Row { storage: 1, row: n }
}

/// Takes a lock, waiting for it.
fn take(locks: &Arc<LockManager>, owner: u64, tag: &LockTag, mode: u8) -> Result<()> {
    match locks.acquire(&who(owner), tag, mode, Wait::Block) {
        Attempt::Granted(_) => Ok(()),
        Attempt::Wait(future) => block_on(future),
        Attempt::Busy => unreachable!("asked to wait"),
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("a thread");
    }
}

fn assert_free(locks: &LockManager) {
    assert!(locks.listing().is_empty(), "left behind: {:?}", locks.listing());
    assert!(format!("{locks:?}").contains("waiting: 0"), "somebody is still said to wait");
}

/// Whoever has a row exclusively is alone; everybody gets his turn.
pub fn exclusive_rows() {
    let locks = Arc::new(LockManager::new());
    let inside = Arc::new(AtomicU64::new(0));
    let threads = (1..=3)
        .map(|n| {
            let (locks, inside) = (locks.clone(), inside.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    take(&locks, n, &row(1), UPDATE).expect("no deadlock");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    locks.release(n, &row(1), 0xff);
                }
            })
        })
        .collect();
    join(threads);
    assert_free(&locks);
}

/// Readers share, a writer is alone, and none is forgotten.
pub fn shared_and_exclusive() {
    let locks = Arc::new(LockManager::new());
    let state = Arc::new(AtomicU64::new(0));
    let threads = (1..=4)
        .map(|n| {
            let (locks, state) = (locks.clone(), state.clone());
            thread::spawn(move || {
                let (mode, weight) = if n == 1 { (UPDATE, 100) } else { (SHARE, 1) };
                take(&locks, n, &row(1), mode).expect("no deadlock");
                let before = state.fetch_add(weight, Ordering::SeqCst);
                assert!(if weight == 100 { before == 0 } else { before < 100 }, "a writer beside somebody");
                thread::yield_now();
                state.fetch_sub(weight, Ordering::SeqCst);
                locks.release(n, &row(1), 0xff);
            })
        })
        .collect();
    join(threads);
    assert_free(&locks);
}

/// A row lock that is kept as a bit excludes others like the entry that it replaced, also from those who come between,
/// and everybody gets his turn.
pub fn covered_rows() {
    let locks = Arc::new(LockManager::new());
    let inside = Arc::new(AtomicU64::new(0));
    let threads = (1..=3)
        .map(|n| {
            let (locks, inside) = (locks.clone(), inside.clone());
            thread::spawn(move || {
                for savepoint in 0..2 {
                    let end = LockTag::Transaction { owner: n, savepoint };
                    // As `Transaction::lock_row` does it, the second thread as one that has locked many rows before.
                    let mut covered = false;
                    if n == 2 {
                        take(&locks, n, &end, EXCLUSIVE).expect("nobody else takes it");
                        covered = locks.cover_row(n, savepoint, (1, RowId(1)), RowLockMode::Update);
                    }
                    while !covered {
                        take(&locks, n, &row(1), UPDATE).expect("no deadlock");
                        let other = locks.covered_by_other(n, (1, RowId(1)), RowLockMode::Update);
                        let Some(other) = other else { break };
                        locks.release(n, &row(1), 0xff);
                        take(&locks, n, &other, SHARED).expect("no deadlock");
                        locks.release(n, &other, 1 << SHARED);
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    if n != 3 && !covered {
                        // As `Transaction::cover_rows`.
                        take(&locks, n, &end, EXCLUSIVE).expect("nobody else takes it");
                        let rows = [(1, RowId(1), UPDATE)];
                        locks.cover(n, savepoint, rows.into_iter());
                        locks.release(n, &row(1), 0xff);
                    }
                    assert_eq!(locks.covers(n, (1, RowId(1)), RowLockMode::Share), n != 3);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let held = if n == 3 { row(1) } else { end };
                    locks.release(n, &held, 0xff);
                }
            })
        })
        .collect();
    join(threads);
    assert!(locks.covered_by_other(9, (1, RowId(1)), RowLockMode::KeyShare).is_none());
    assert_free(&locks);
}

/// Waits that are given up, granted or not, leave nothing behind and hold up nobody.
pub fn abandoned_waits() {
    let locks = Arc::new(LockManager::new());
    let threads = (1..=3)
        .map(|n| {
            let locks = locks.clone();
            thread::spawn(move || match locks.acquire(&who(n), &row(1), UPDATE, Wait::Block) {
                // Dropped at once: in the queue, or granted in between.
                Attempt::Wait(future) if n == 2 => drop(future),
                Attempt::Wait(future) => {
                    block_on(future).expect("no deadlock");
                    locks.release(n, &row(1), 0xff);
                }
                Attempt::Granted(_) => locks.release(n, &row(1), 0xff),
                Attempt::Busy => unreachable!("asked to wait"),
            })
        })
        .collect();
    join(threads);
    assert_free(&locks);
}

/// Who waited behind a wait that was given up goes on at once, while the lock is still shared.
pub fn abandoned_in_front() {
    let locks = Arc::new(LockManager::new());
    let table = LockTag::Table(1);
    let (share, exclusive) = (TableLockMode::Share as u8, TableLockMode::Exclusive as u8);
    take(&locks, 1, &table, share).expect("free");
    let threads = [(2, exclusive), (3, share)]
        .into_iter()
        .map(|(n, mode)| {
            let (locks, table) = (locks.clone(), table.clone());
            thread::spawn(move || {
                if mode == share {
                    take(&locks, n, &table, mode).expect("no deadlock");
                    locks.release(n, &table, 0xff);
                    return;
                }
                let attempt = locks.acquire(&who(n), &table, mode, Wait::Block);
                thread::yield_now();
                drop(attempt);
            })
        })
        .collect();
    join(threads);
    locks.release(1, &table, 0xff);
    assert_free(&locks);
}

/// A ring of transactions, each taking its own row and then its neighbour's: the ones that fail, fail with 40P01, and
/// at least one gets through; nobody waits for ever.
pub fn rings() {
    const SIZE: u64 = 3;
    let locks = Arc::new(LockManager::new());
    let done = Arc::new(AtomicU64::new(0));
    let threads = (0..SIZE)
        .map(|n| {
            let (locks, done) = (locks.clone(), done.clone());
            thread::spawn(move || {
                let (first, second) = (row(n), row((n + 1) % SIZE));
                let owner = n + 1;
                take(&locks, owner, &first, UPDATE).expect("a first lock closes no cycle");
                match take(&locks, owner, &second, UPDATE) {
                    Ok(()) => {
                        done.fetch_add(1, Ordering::SeqCst);
                        locks.release(owner, &second, 0xff);
                    }
                    Err(error) => assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED),
                }
                locks.release(owner, &first, 0xff);
            })
        })
        .collect();
    join(threads);
    assert!(done.load(Ordering::SeqCst) >= SIZE - 1, "more than one victim of one ring");
    assert_eq!(done.load(Ordering::SeqCst) + locks.deadlocks(), SIZE);
    assert_free(&locks);
}

/// Two holders of one share that both want more, beside a third that waits: one victim, everybody ends.
pub fn upgrades() {
    let locks = Arc::new(LockManager::new());
    for n in 1..=2 {
        take(&locks, n, &row(1), KEY_SHARE).expect("shared");
    }
    let threads = (1..=3)
        .map(|n| {
            let locks = locks.clone();
            thread::spawn(move || {
                if let Err(error) = take(&locks, n, &row(1), UPDATE) {
                    assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED);
                }
                locks.release(n, &row(1), 0xff);
            })
        })
        .collect();
    join(threads);
    assert!(locks.deadlocks() <= 1);
    assert_free(&locks);
}

/// Cycles that only the order of queues closes: nobody fails.
pub fn soft_edges() {
    let locks = Arc::new(LockManager::new());
    let (a, b) = (LockTag::Table(1), LockTag::Table(2));
    let (share, exclusive) = (TableLockMode::AccessShare as u8, TableLockMode::AccessExclusive as u8);
    take(&locks, 1, &a, share).expect("free");
    take(&locks, 2, &b, share).expect("free");
    let threads = [(1, &b, share), (2, &a, share), (3, &a, exclusive), (4, &b, exclusive)]
        .into_iter()
        .map(|(n, tag, mode)| {
            let (locks, tag, first) =
                (locks.clone(), tag.clone(), if n == 1 { a.clone() } else { b.clone() });
            thread::spawn(move || {
                take(&locks, n, &tag, mode).expect("an order without a victim");
                locks.release(n, &tag, 0xff);
                if n <= 2 {
                    locks.release(n, &first, 0xff);
                }
            })
        })
        .collect();
    join(threads);
    assert_eq!(locks.deadlocks(), 0);
    assert_free(&locks);
}

/// Where commits go: the log's counter, which the pipeline keeps, and the versions of one row by LSN.
struct Store {
    locks: Arc<LockManager>,
    pipeline: Pipeline<u64>,
    versions: Mutex<Vec<(Lsn, u64)>>,
}

impl Store {
    fn new() -> Arc<Store> {
        Arc::new(Store {
            locks: Arc::new(LockManager::new()),
            pipeline: Pipeline::new(Lsn(0), 0),
            versions: Mutex::new(Vec::new()),
        })
    }

    /// Gets an LSN, applies, settles: as a commit does.
    fn commit(&self, owner: u64, value: Option<u64>, held: Vec<(LockTag, u8)>) -> Lsn {
        let (lsn, ()) = self
            .pipeline
            .enter(owner, |log| {
                *log += 1;
                Ok((Lsn(*log), ()))
            })
            .expect("a place in the log");
        thread::yield_now();
        self.versions.lock().push((lsn, value.unwrap_or(0)));
        self.pipeline.settle(lsn, held, &self.locks);
        lsn
    }
}

/// Writers of one row beside others: each reads what the one before it wrote, and a snapshot has no holes.
pub fn commits() {
    let store = Store::new();
    let mut threads: Vec<_> = (1..=2)
        .map(|n| {
            let store = store.clone();
            thread::spawn(move || {
                for round in 1..=2 {
                    // Every transaction is an owner of its own: the locks of the one before may still be being handed on.
                    let n = 10 * n + round;
                    take(&store.locks, n, &row(1), UPDATE).expect("no deadlock");
                    let ts = store.pipeline.applied();
                    // The newest version of the row that a snapshot taken now sees; other commits write 0.
                    let newest =
                        store.versions.lock().iter().filter(|(lsn, _)| *lsn <= ts).map(|(_, v)| *v).max();
                    let lsn = store.commit(n, Some(newest.unwrap_or(0) + 1), vec![(row(1), 1 << UPDATE)]);
                    store.pipeline.wait(lsn);
                    assert!(store.pipeline.applied() >= lsn);
                }
            })
        })
        .collect();
    threads.push({
        let store = store.clone();
        thread::spawn(move || {
            store.commit(3, None, Vec::new());
        })
    });
    threads.push({
        let store = store.clone();
        thread::spawn(move || {
            let mut before = Lsn(0);
            for _ in 0..3 {
                let ts = store.pipeline.applied();
                assert!(ts >= before, "snapshots go back");
                before = ts;
                let there = store.versions.lock().iter().filter(|(lsn, _)| *lsn <= ts).count() as u64;
                assert_eq!(there, ts.0, "a snapshot with a hole");
            }
        })
    });
    join(threads);
    let newest = store.versions.lock().iter().map(|(_, value)| *value).max();
    assert_eq!(newest, Some(4), "an update was lost");
    assert_eq!(store.pipeline.applied(), Lsn(5));
    assert_free(&store.locks);
}
