//! Serializable transactions: snapshots, validation and the order of commits together.

use shuttle::thread;
use value::SqlState;

use crate::ids::Lsn;
use crate::lock::LockManager;
use crate::pipeline::Pipeline;
use crate::sync::{Arc, Mutex};
use crate::validation::Validation;

/// What a transaction has read or written: a key and the value.
type Values = Vec<(usize, u64)>;

struct Database {
    locks: LockManager,
    pipeline: Pipeline<u64>,
    validation: Validation<Values>,
    versions: Mutex<Vec<(Lsn, usize, u64)>>,
}

impl Database {
    fn new(inside: usize) -> Database {
        Database {
            locks: LockManager::new(),
            pipeline: Pipeline::new(Lsn(0), 0),
            validation: Validation::new(inside),
            versions: Mutex::new(Vec::new()),
        }
    }

    /// The value of a key at a moment; 0 when it has none.
    fn at(&self, ts: Lsn, key: usize) -> u64 {
        let versions = self.versions.lock();
        let seen = versions.iter().filter(|(lsn, other, _)| *lsn <= ts && *other == key);
        seen.max_by_key(|(lsn, ..)| *lsn).map_or(0, |(.., value)| *value)
    }

    /// Reads keys, gives what `write` makes of the values, and commits; `None`: 40001.
    fn transact(&self, keys: &[usize], write: impl FnOnce(&[u64]) -> Values) -> Option<Lsn> {
        let ts = self.validation.begin(|| {
            let ts = self.pipeline.applied();
            thread::yield_now();
            (ts, ts)
        });
        let seen: Vec<u64> = keys.iter().map(|key| self.at(ts, *key)).collect();
        thread::yield_now();
        let written = Arc::new(write(&seen));
        let log = || {
            self.pipeline.enter(1, |log| {
                *log += 1;
                Ok((Lsn(*log), ()))
            })
        };
        let is_hit = |_, other: &Values| other.iter().any(|(key, _)| keys.contains(key));
        let outcome = self.validation.commit(ts, (&written, 1), is_hit, log);
        let committed = match outcome {
            Ok((lsn, ())) => {
                thread::yield_now();
                self.versions.lock().extend(written.iter().map(|(key, value)| (lsn, *key, *value)));
                self.pipeline.settle(lsn, Vec::new(), &self.locks);
                Some(lsn)
            }
            Err(error) => {
                assert_eq!(error.state(), SqlState::SERIALIZATION_FAILURE);
                None
            }
        };
        self.validation.end(ts, self.pipeline.applied());
        committed
    }
}

fn run(
    inside: usize,
    threads: usize,
    body: impl Fn(&Database, usize) + Send + Sync + 'static,
) -> Arc<Database> {
    let database = Arc::new(Database::new(inside));
    let body = Arc::new(body);
    let threads: Vec<_> = (0..threads)
        .map(|n| {
            let (database, body) = (database.clone(), body.clone());
            thread::spawn(move || body(&database, n))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
    database
}

/// Each looks at the other's key and takes its own only if that is free: at most one may succeed, in every order.
pub fn write_skew() {
    let database = run(64, 2, |database, n| {
        database.transact(&[0, 1], |seen| if seen[1 - n] == 0 { vec![(n, 1)] } else { vec![(2, 1)] });
    });
    let end = Lsn(u64::MAX);
    assert!(database.at(end, 0) + database.at(end, 1) < 2, "both took what only one may have");
}

/// Counting without locks: as many as were committed have counted, and somebody always is.
pub fn counters() {
    let committed = Arc::new(Mutex::new(0));
    let count = committed.clone();
    let database = run(1, 3, move |database, _| {
        for _ in 0..2 {
            if database.transact(&[0], |seen| vec![(0, seen[0] + 1)]).is_some() {
                *count.lock() += 1;
            }
        }
    });
    let committed = *committed.lock();
    assert_eq!(database.at(Lsn(u64::MAX), 0), committed, "an update was lost");
    assert!(committed > 0, "everybody failed because of somebody who failed");
}

/// One that takes long beside several short ones that come and go: none of them is forgotten before it has ended.
pub fn long_and_short() {
    let database = run(64, 3, |database, n| match n {
        0 => {
            // Relies on the first key, which the others count up.
            database.transact(&[0], |seen| vec![(1, seen[0] + 1)]);
        }
        _ => {
            database.transact(&[0], |seen| vec![(0, seen[0] + 1)]);
            database.transact(&[2 + n], |_| vec![(2 + n, 1)]);
        }
    });
    // What the long one has seen was so at its place in the order of commits.
    let versions = database.versions.lock().clone();
    if let Some((lsn, _, value)) = versions.iter().find(|(_, key, _)| *key == 1) {
        assert_eq!(*value, database.at(*lsn, 0) + 1, "committed on what was no longer so");
    }
}
