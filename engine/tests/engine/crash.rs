//! Random transactions of several sessions against a model, with checkpoints and power cuts: what was
//! acknowledged is there, what is there is a prefix of what was committed, snapshots do not move, indexes and
//! rows agree.

use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context, Poll};

use engine::disk::{Fault, SimulatedDisk};
use engine::*;
use futures::task::noop_waker;

use crate::setup::*;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

type Rows = BTreeMap<i32, i32>;

struct Open {
    transaction: Transaction,
    /// What it has written.
    own: BTreeMap<i32, Option<i32>>,
    /// What its fixed snapshot saw.
    fixed: Option<Rows>,
    savepoint: Option<(Savepoint, BTreeMap<i32, Option<i32>>)>,
}

impl Open {
    fn view(&mut self, committed: &Rows) -> Rows {
        let mut rows = match self.transaction.isolation() {
            Isolation::ReadCommitted => committed.clone(),
            _ => self.fixed.get_or_insert_with(|| committed.clone()).clone(),
        };
        for (id, a) in &self.own {
            match a {
                Some(a) => rows.insert(*id, *a),
                None => rows.remove(id),
            };
        }
        rows
    }
}

/// Runs a statement that may have to wait; `None` if it would (it is given up then).
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn run(seed: u64, steps: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let disk = SimulatedDisk::new(seed);
    let mut engine = open(options(&disk));
    let mut t = Fixture::of(&engine);
    // Every state that was committed, in order, and how many of them are acknowledged.
    let mut history: Vec<Rows> = vec![Rows::new()];
    let mut acknowledged = 0;
    for life in 0..4 {
        if life < 3 {
            disk.fail(Fault::PowerCut(20 + random.below(400)));
        }
        let sessions: Vec<SessionState> = (0..3).map(|pid| engine.new_session(pid + 1, 5)).collect();
        let mut open_ones: Vec<Option<Open>> = (0..3).map(|_| None).collect();
        let mut kept: Vec<(Snapshot, Rows)> = Vec::new();
        for _ in 0..steps {
            if disk.is_off() {
                break;
            }
            let n = random.below(3) as usize;
            let committed = history.last().expect("never empty").clone();
            let Some(mut session) = open_ones[n].take() else {
                let isolation = match random.below(3) {
                    0 => Isolation::RepeatableRead,
                    _ => Isolation::ReadCommitted,
                };
                open_ones[n] = Some(Open {
                    transaction: engine.begin_for(&sessions[n], isolation, false),
                    own: BTreeMap::new(),
                    fixed: None,
                    savepoint: None,
                });
                continue;
            };
            let id = random.below(60) as i32;
            let a = random.below(1000) as i32;
            let step = random.below(16);
            // A fixed snapshot is taken by the first statement, not by what is none.
            let view = if step <= 10 { session.view(&committed) } else { Rows::new() };
            let transaction = &mut session.transaction;
            let mut alive = true;
            // A statement that fails ends the transaction; one that would wait is given up.
            let note = |result: Option<value::Result<bool>>, alive: &mut bool| match result {
                Some(Ok(done)) => done,
                Some(Err(_)) => {
                    *alive = false;
                    false
                }
                None => false,
            };
            match step {
                0..=3 => {
                    let result = once(t.insert(transaction, id, a)).map(|result| result.map(|_| true));
                    if note(result, &mut alive) {
                        // Under a fixed snapshot the key may be one that was deleted since: then it would
                        // see both rows, as PostgreSQL does; the model has no words for that.
                        let doubled = view.contains_key(&id);
                        assert!(!doubled || session.fixed.is_some(), "seed {seed}: {id} was there");
                        session.own.insert(id, Some(a));
                        alive = !doubled;
                    }
                }
                4..=6 => {
                    if note(once(t.set_a(transaction, id, |_| a)), &mut alive) {
                        session.own.insert(id, Some(a));
                        // And back again, now and then: the old index entry counts as before.
                        if let (0, Some(before)) = (random.below(3), view.get(&id))
                            && note(once(t.set_a(transaction, id, |_| *before)), &mut alive)
                        {
                            session.own.insert(id, Some(*before));
                        }
                    }
                }
                7 => {
                    let to = random.below(60) as i32;
                    if note(once(t.set_id(transaction, id, to)), &mut alive) && to != id {
                        let a = session.view(&committed).get(&id).copied();
                        session.own.insert(id, None);
                        session.own.insert(to, a);
                        alive = !view.contains_key(&to);
                    }
                }
                8..=9 => {
                    if note(once(t.delete(transaction, id)), &mut alive) {
                        session.own.insert(id, None);
                    }
                }
                10 => match transaction.statement_snapshot(true) {
                    Ok(snapshot) => {
                        assert_eq!(t.rows(&snapshot), view, "seed {seed}: a statement's view");
                        kept.push((snapshot, view));
                        if kept.len() > 5 {
                            let (snapshot, rows) = kept.swap_remove(random.below(5) as usize);
                            if !disk.is_off() {
                                assert_eq!(t.rows(&snapshot), rows, "seed {seed}: a snapshot moved");
                            }
                        }
                    }
                    Err(_) => alive = false,
                },
                11 => {
                    // Views are fixed by then, so that undoing does not undo the snapshot.
                    let savepoint = transaction.savepoint();
                    session.savepoint = Some((savepoint, session.own.clone()));
                }
                12 => {
                    if let Some((savepoint, own)) = session.savepoint.take() {
                        transaction.rollback_to(savepoint);
                        transaction.release(savepoint);
                        session.own = own;
                        // Snapshots of undone commands must not be looked at any more.
                        kept.clear();
                    }
                }
                13 => {
                    if random.below(2) == 0 && engine.checkpoint().is_err() {
                        assert!(disk.is_off(), "seed {seed}: a checkpoint failed");
                    }
                }
                14 => alive = false,
                _ => {
                    let Open { transaction, own, .. } = session;
                    let mut rows = committed.clone();
                    for (id, a) in own {
                        match a {
                            Some(a) => rows.insert(id, a),
                            None => rows.remove(&id),
                        };
                    }
                    match transaction.commit() {
                        Ok(commit) => {
                            if commit.lsn.is_some() {
                                history.push(rows);
                            }
                            let place = history.len() - 1;
                            if random.below(3) > 0 && commit.durable.wait().is_ok() {
                                acknowledged = place;
                            }
                        }
                        // Whether it reached the disk is open.
                        Err(_) => history.push(rows),
                    }
                    continue;
                }
            }
            if alive {
                open_ones[n] = Some(session);
            }
        }
        drop(kept);
        drop(open_ones);
        drop(sessions);
        let clean = life == 3;
        if clean {
            engine.close().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            acknowledged = history.len() - 1;
        }
        drop(engine);
        disk.crash();
        engine = open(options(&disk));
        t = Fixture::of(&engine);
        let found = t.rows(&engine.snapshot());
        let place = (acknowledged..history.len()).rev().find(|place| history[*place] == found);
        let Some(place) = place else {
            panic!("seed {seed}, life {life}: {found:?} is none of {:?}", &history[acknowledged..]);
        };
        assert_eq!(engine.statistics(&t.table).rows, found.len() as u64, "seed {seed}");
        history.truncate(place + 1);
        acknowledged = place;
    }
}

#[test]
fn acknowledged_commits_survive() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let first = std::env::var("SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in first..first + seeds {
        run(seed, 600);
    }
}
