use std::task::{Context, Poll};

use futures::task::noop_waker;

use super::*;

fn who(n: u64) -> Requester {
    Requester { owner: n, node: n, pid: n as i32, database: 5, age: n, deadlock_timeout: 1000, alone: true }
}

fn row(n: u64) -> LockTag {
    LockTag::Row { storage: 1, row: n }
}

fn granted(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Granted(_))
}

fn future(attempt: Attempt) -> LockFuture {
    match attempt {
        Attempt::Wait(future) => future,
        Attempt::Granted(_) | Attempt::Busy => panic!("expected to wait"),
    }
}

fn poll(future: &mut LockFuture) -> Poll<Result<()>> {
    Pin::new(future).poll(&mut Context::from_waker(&noop_waker()))
}

fn ready(future: &mut LockFuture) -> bool {
    matches!(poll(future), Poll::Ready(Ok(())))
}

#[test]
fn conflicts_are_postgresqls() {
    // Rows: requested, held (KEY SHARE, SHARE, NO KEY UPDATE, UPDATE), as in the manual's table 13.3.
    let rows = ["---x", "--xx", "-xxx", "xxxx"];
    // Tables, as in the manual's table 13.2.
    let tables =
        ["-------x", "------xx", "----xxxx", "---xxxxx", "--xx-xxx", "--xxxxxx", "-xxxxxxx", "xxxxxxxx"];
    for (tag, matrix) in [(row(1), &rows[..]), (LockTag::Table(9), &tables[..])] {
        for (requested, line) in matrix.iter().enumerate() {
            for (held, mark) in line.bytes().enumerate() {
                let locks = Arc::new(LockManager::new());
                assert!(granted(&locks.acquire(&who(1), &tag, held as u8, Wait::Skip)));
                let second = granted(&locks.acquire(&who(2), &tag, requested as u8, Wait::Skip));
                let expected = mark != b'x';
                assert_eq!(second, expected, "{tag:?}: {requested} on {held}");
            }
        }
    }
    let key = LockTag::Advisory(AdvisoryKey::bigint(5, 1));
    let locks = Arc::new(LockManager::new());
    assert!(granted(&locks.acquire(&who(1), &key, SHARED, Wait::Skip)));
    assert!(granted(&locks.acquire(&who(2), &key, SHARED, Wait::Skip)));
    assert!(!granted(&locks.acquire(&who(3), &key, EXCLUSIVE, Wait::Skip)));
}

#[test]
fn queues_are_fair_and_upgrades_pass() {
    let locks = Arc::new(LockManager::new());
    let table = LockTag::Table(9);
    let (share, exclusive) = (TableLockMode::Share as u8, TableLockMode::Exclusive as u8);
    assert!(granted(&locks.acquire(&who(1), &table, share, Wait::Block)));
    assert!(granted(&locks.acquire(&who(2), &table, share, Wait::Block)));
    // A strong waiter is not starved by later readers.
    let mut writer = future(locks.acquire(&who(3), &table, exclusive, Wait::Block));
    let mut reader = future(locks.acquire(&who(4), &table, share, Wait::Block));
    assert!(!ready(&mut writer) && !ready(&mut reader));
    // The holder asks for more: it does not queue behind those who wait for it.
    locks.release(2, &table, 1 << share);
    assert!(granted(&locks.acquire(&who(1), &table, exclusive, Wait::Block)));
    locks.release(1, &table, 0xff);
    assert!(ready(&mut writer) && !ready(&mut reader));
    locks.release(3, &table, 0xff);
    assert!(ready(&mut reader));
    locks.release(4, &table, 0xff);
    assert!(locks.listing().is_empty());
}

#[test]
fn rows_are_given_past_those_who_wait() {
    let (key_share, no_key_update, update) = (0, 2, 3);
    let locks = Arc::new(LockManager::new());
    assert!(granted(&locks.acquire(&who(1), &row(1), key_share, Wait::Block)));
    let mut deleter = future(locks.acquire(&who(2), &row(1), update, Wait::Block));
    // Only the holder counts; who has to wait for it waits in line.
    assert!(granted(&locks.acquire(&who(3), &row(1), no_key_update, Wait::Block)));
    let mut fourth = future(locks.acquire(&who(4), &row(1), no_key_update, Wait::Block));
    locks.release(3, &row(1), 0xff);
    assert!(!ready(&mut deleter) && !ready(&mut fourth));
    locks.release(1, &row(1), 0xff);
    assert!(ready(&mut deleter) && !ready(&mut fourth));
    locks.release(2, &row(1), 0xff);
    assert!(ready(&mut fourth));
}

#[test]
fn the_smallest_deadlock_timeout_gives_way() {
    let locks = Arc::new(LockManager::new());
    let hasty = Requester { deadlock_timeout: 10, ..who(1) };
    assert!(granted(&locks.acquire(&hasty, &row(1), 3, Wait::Block)));
    assert!(granted(&locks.acquire(&who(2), &row(2), 3, Wait::Block)));
    let mut first = future(locks.acquire(&hasty, &row(2), 3, Wait::Block));
    let mut second = future(locks.acquire(&who(2), &row(1), 3, Wait::Block));
    assert!(matches!(poll(&mut first), Poll::Ready(Err(_))), "although the other is younger");
    assert!(!ready(&mut second));
}

#[test]
fn orders_of_several_queues_are_tried() {
    // 1 holds A, 2 holds B, both shared; 3 waits for A and 4 for B, exclusively. 1 wants B behind 4, 2 wants A behind 3:
    // one of the two has to pass.
    let locks = Arc::new(LockManager::new());
    let (a, b) = (LockTag::Table(1), LockTag::Table(2));
    assert!(granted(&locks.acquire(&who(1), &a, 0, Wait::Block)));
    assert!(granted(&locks.acquire(&who(2), &b, 0, Wait::Block)));
    let mut third = future(locks.acquire(&who(3), &a, 7, Wait::Block));
    let mut fourth = future(locks.acquire(&who(4), &b, 7, Wait::Block));
    let mut first = future(locks.acquire(&who(1), &b, 0, Wait::Block));
    let mut second = future(locks.acquire(&who(2), &a, 0, Wait::Block));
    // The one whose turning the search from the last waiter reaches first: as PostgreSQL chooses.
    assert!(ready(&mut first) && !ready(&mut second));
    assert!(!ready(&mut third) && !ready(&mut fourth));
    locks.release(1, &a, 0xff);
    locks.release(1, &b, 0xff);
    assert!(ready(&mut third));
    locks.release(3, &a, 0xff);
    assert!(ready(&mut second));
    assert_eq!(locks.deadlocks(), 0);
}

#[test]
fn dropped_waits_leave_nothing_behind() {
    let locks = Arc::new(LockManager::new());
    assert!(granted(&locks.acquire(&who(1), &row(1), 3, Wait::Block)));
    let first = future(locks.acquire(&who(2), &row(1), 3, Wait::Block));
    let mut second = future(locks.acquire(&who(3), &row(1), 3, Wait::Block));
    assert_eq!(locks.blocking_pids(3), [1, 2]);
    drop(first);
    locks.release(1, &row(1), 0xff);
    assert!(ready(&mut second));
    // Granted, but dropped before it was taken.
    let third = future(locks.acquire(&who(4), &row(1), 3, Wait::Block));
    locks.release(3, &row(1), 0xff);
    drop(third);
    assert!(locks.listing().is_empty());
    assert!(locks.waiting.lock().is_empty());
}

#[test]
fn the_youngest_of_a_cycle_is_the_victim() {
    let locks = Arc::new(LockManager::new());
    for n in 1..=3 {
        assert!(granted(&locks.acquire(&who(n), &row(n), 3, Wait::Block)));
    }
    let mut second = future(locks.acquire(&who(2), &row(3), 3, Wait::Block));
    let mut third = future(locks.acquire(&who(3), &row(1), 3, Wait::Block));
    assert!(!ready(&mut second) && !ready(&mut third));
    // The first closes the cycle; the third began last.
    let mut first = future(locks.acquire(&who(1), &row(2), 3, Wait::Block));
    let Poll::Ready(Err(error)) = poll(&mut third) else { panic!("the victim is told") };
    assert_eq!(error.state(), SqlState::DEADLOCK_DETECTED);
    assert_eq!(
        error.fields().detail.as_deref(),
        Some(
            "Process 3 waits for ShareLock on transaction 1; blocked by process 1.\n\
             Process 1 waits for ShareLock on transaction 2; blocked by process 2.\n\
             Process 2 waits for ShareLock on transaction 3; blocked by process 3."
        )
    );
    assert!(!ready(&mut first) && !ready(&mut second));
    locks.release(3, &row(3), 0xff);
    assert!(ready(&mut second));
    locks.release(2, &row(2), 0xff);
    locks.release(2, &row(3), 0xff);
    assert!(ready(&mut first));
    assert_eq!(locks.deadlocks(), 1);
}

#[test]
fn cycles_cross_kinds_of_locks() {
    let locks = Arc::new(LockManager::new());
    let table = LockTag::Table(16384);
    assert!(granted(&locks.acquire(&who(1), &row(1), 3, Wait::Block)));
    assert!(granted(&locks.acquire(&who(2), &table, 7, Wait::Block)));
    let mut first = future(locks.acquire(&who(1), &table, 2, Wait::Block));
    let mut second = future(locks.acquire(&who(2), &row(1), 2, Wait::Block));
    let Poll::Ready(Err(error)) = poll(&mut second) else { panic!("deadlock") };
    assert_eq!(
        error.fields().detail.as_deref(),
        Some(
            "Process 2 waits for ShareLock on transaction 1; blocked by process 1.\n\
             Process 1 waits for RowExclusiveLock on relation 16384 of database 5; blocked by process 2."
        )
    );
    assert!(!ready(&mut first));
}

#[test]
fn a_queue_is_reordered_before_anybody_fails() {
    // 1 holds A shared; 2 queues for A exclusively, holding B; 3 ... wants A shared behind 2 while 2 waits
    // for 1 and 1 waits for 3: only the queue's order closes the cycle.
    let locks = Arc::new(LockManager::new());
    let (a, b) = (LockTag::Table(1), LockTag::Table(2));
    assert!(granted(&locks.acquire(&who(1), &a, 0, Wait::Block)));
    assert!(granted(&locks.acquire(&who(3), &b, 7, Wait::Block)));
    let mut second = future(locks.acquire(&who(2), &a, 7, Wait::Block));
    let mut third = future(locks.acquire(&who(3), &a, 0, Wait::Block));
    assert!(!ready(&mut third));
    let mut first = future(locks.acquire(&who(1), &b, 0, Wait::Block));
    assert!(ready(&mut third), "moved ahead of the exclusive waiter");
    assert!(!ready(&mut first) && !ready(&mut second));
    locks.release(3, &a, 0xff);
    locks.release(3, &b, 0xff);
    assert!(ready(&mut first));
    locks.release(1, &a, 0xff);
    assert!(ready(&mut second));
    assert_eq!(locks.deadlocks(), 0);
}

#[test]
fn session_and_transaction_share_advisory_locks() {
    let locks = Arc::new(LockManager::new());
    let key = LockTag::Advisory(AdvisoryKey::pair(5, 1, 2));
    let session = Requester { owner: 10, pid: 1, ..who(10) };
    let transaction = Requester { owner: 11, ..session };
    assert!(granted(&locks.acquire(&session, &key, EXCLUSIVE, Wait::Block)));
    assert!(granted(&locks.acquire(&transaction, &key, EXCLUSIVE, Wait::Block)));
    locks.release(11, &key, 0xff);
    assert!(!granted(&locks.acquire(&who(2), &key, SHARED, Wait::Skip)));
}

#[test]
fn locks_of_an_ended_transaction_close_no_cycle() {
    // With synchronous_commit off a session goes on before its last commit has handed its locks back.
    let of = |owner: u64, node: u64| Requester { owner, node, ..who(node) };
    let locks = Arc::new(LockManager::new());
    let exclusive = 3;
    assert!(granted(&locks.acquire(&of(101, 1), &row(1), exclusive, Wait::Block)));
    assert!(granted(&locks.acquire(&of(201, 2), &row(2), exclusive, Wait::Block)));
    let mut second = future(locks.acquire(&of(201, 2), &row(1), exclusive, Wait::Block));
    // Transaction 101 has committed; 102 is the next one of its session.
    let mut first = future(locks.acquire(&of(102, 1), &row(2), exclusive, Wait::Block));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    locks.release(101, &row(1), 1 << exclusive);
    assert!(ready(&mut second));
    locks.release(201, &row(2), 1 << exclusive);
    assert!(ready(&mut first));
    assert_eq!(locks.deadlocks(), 0);
    // A cycle of two that have not ended is one; so is one through another transaction of the session.
    let second = future(locks.acquire(&of(201, 2), &row(2), exclusive, Wait::Block));
    let first = locks.acquire(&of(102, 1), &row(1), exclusive, Wait::Block);
    drop((first, second));
    assert_eq!(locks.deadlocks(), 1);
    let helper = Requester { alone: false, ..of(103, 1) };
    let second = future(locks.acquire(&of(201, 2), &row(2), exclusive, Wait::Block));
    let first = locks.acquire(&helper, &row(1), exclusive, Wait::Block);
    drop((first, second));
    assert_eq!(locks.deadlocks(), 2);
}
