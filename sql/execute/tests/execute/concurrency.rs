//! Two transactions that meet.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use engine::Isolation;

use crate::database::Database;

/// Runs `sql` in a transaction of another thread; gives the receiver of its rows (or SQLSTATE) and whether it waits.
fn elsewhere(
    database: &Arc<Database>,
    isolation: Isolation,
    sql: &'static str,
) -> mpsc::Receiver<Vec<String>> {
    let (sender, receiver) = mpsc::channel();
    let database = database.clone();
    std::thread::spawn(move || {
        let mut tx = database.begin(isolation);
        let answer = match database.within(&mut tx, sql) {
            Ok(answer) => {
                let _ = tx.commit().map(|commit| commit.durable.wait());
                answer.rows
            }
            Err(error) => vec![error.state().to_string()],
        };
        let _ = sender.send(answer);
    });
    receiver
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

fn two_rows() -> Arc<Database> {
    let database = Arc::new(Database::new());
    database
        .run("create table a (id int primary key, v int, g int); insert into a values (1, 10, 1), (2, 20, 1)")
        .unwrap();
    database
}

#[test]
fn an_update_waits_and_checks_again() {
    let database = two_rows();
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "update a set v = v + 5 where id = 1").unwrap();
    // Adds to the newest value, not to the one it had seen.
    let adds =
        elsewhere(&database, Isolation::ReadCommitted, "update a set v = v + 1 where id = 1 returning v");
    assert!(adds.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(adds.recv_timeout(LONG).unwrap(), ["16"]);

    // Does not match any more.
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "update a set v = 0 where id = 2").unwrap();
    let skips = elsewhere(&database, Isolation::ReadCommitted, "delete from a where v = 20 returning id");
    assert!(skips.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(skips.recv_timeout(LONG).unwrap(), Vec::<String>::new());

    // Joined rows stay the ones that joined before.
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "update a set v = 100").unwrap();
    let joins = elsewhere(
        &database,
        Isolation::ReadCommitted,
        "update a set v = a.v + b.v from a b where b.id = 2 and a.id = 1 returning a.v",
    );
    assert!(joins.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(joins.recv_timeout(LONG).unwrap(), ["100"]);

    // Every row is checked again with its own partners.
    database
        .run("create table c (k int, w int); insert into c values (1, 1000), (2, 2000), (3, 3000)")
        .unwrap();
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "update a set v = id").unwrap();
    let each = elsewhere(
        &database,
        Isolation::ReadCommitted,
        "with u as (update a set v = a.v + c.w from c where c.k = a.id returning a.v) select v from u order by v",
    );
    assert!(each.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(each.recv_timeout(LONG).unwrap(), ["1001", "2002"]);
}

#[test]
fn repeatable_read_gives_up() {
    let database = two_rows();
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "update a set v = v + 5 where id = 1").unwrap();
    let fails = elsewhere(&database, Isolation::RepeatableRead, "update a set v = v + 1 where id = 1");
    assert!(fails.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(fails.recv_timeout(LONG).unwrap(), ["40001"]);
}

#[test]
fn rows_are_locked_skipped_and_refused() {
    let database = two_rows();
    let mut first = database.begin(Isolation::ReadCommitted);
    assert_eq!(
        database.within(&mut first, "select id from a order by id limit 1 for update").unwrap().rows,
        ["1"]
    );
    let skips = elsewhere(
        &database,
        Isolation::ReadCommitted,
        "select id from a order by id limit 1 for update skip locked",
    );
    assert_eq!(skips.recv_timeout(LONG).unwrap(), ["2"]);
    let refused = elsewhere(&database, Isolation::ReadCommitted, "select id from a for update nowait");
    assert_eq!(refused.recv_timeout(LONG).unwrap(), ["55P03"]);
    let waits = elsewhere(
        &database,
        Isolation::ReadCommitted,
        "with x as (select id, v from a for share) select * from x",
    );
    assert!(waits.recv_timeout(SHORT).is_err());
    database.within(&mut first, "update a set v = 11 where id = 1").unwrap();
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(waits.recv_timeout(LONG).unwrap(), ["1|11", "2|20"]);
}

#[test]
fn parents_and_children_exclude_each_other() {
    let database = two_rows();
    database.run("create table c (id int primary key, a int references a)").unwrap();
    // A child keeps its parent.
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "insert into c values (1, 1)").unwrap();
    let other = elsewhere(&database, Isolation::ReadCommitted, "update a set v = 1 where id = 1 returning v");
    assert_eq!(other.recv_timeout(LONG).unwrap(), ["1"]);
    let parent = elsewhere(&database, Isolation::ReadCommitted, "delete from a where id = 1");
    assert!(parent.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(parent.recv_timeout(LONG).unwrap(), ["23503"]);
    // A parent that goes keeps children out.
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "delete from a where id = 2").unwrap();
    let child = elsewhere(&database, Isolation::ReadCommitted, "insert into c values (2, 2)");
    assert!(child.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(child.recv_timeout(LONG).unwrap(), ["23503"]);
}

#[test]
fn conflicts_wait_and_update_what_came_first() {
    let database = two_rows();
    let mut first = database.begin(Isolation::ReadCommitted);
    database.within(&mut first, "insert into a values (3, 30, 1)").unwrap();
    let updates = elsewhere(
        &database,
        Isolation::ReadCommitted,
        "insert into a values (3, 1, 1) on conflict (id) do update set v = a.v + excluded.v returning v",
    );
    assert!(updates.recv_timeout(SHORT).is_err());
    first.commit().unwrap().durable.wait().unwrap();
    assert_eq!(updates.recv_timeout(LONG).unwrap(), ["31"]);
}
