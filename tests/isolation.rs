//! Sessions beside each other: who waits for whom, who sees what, who is the victim.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client, Failure};
use crate::server::Server;

/// A session on a thread of its own, so that a statement that waits does not stop the test.
struct Session {
    asked: mpsc::Sender<String>,
    answered: mpsc::Receiver<Result<Answer, Failure>>,
}

impl Session {
    fn new(server: &Server) -> Session {
        let (asked, questions) = mpsc::channel::<String>();
        let (answers, answered) = mpsc::channel();
        let mut client: Client = server.connect();
        std::thread::spawn(move || {
            for sql in questions {
                let answer = client.simple(&sql).map(|mut answers| answers.pop().unwrap_or_default());
                if answers.send(answer).is_err() {
                    break;
                }
            }
        });
        Session { asked, answered }
    }

    fn start(&self, sql: &str) {
        self.asked.send(sql.to_owned()).expect("a session");
    }

    fn finish(&self) -> Result<Answer, Failure> {
        self.answered.recv_timeout(Duration::from_secs(20)).expect("an answer within 20 s")
    }

    fn try_run(&self, sql: &str) -> Result<Answer, Failure> {
        self.start(sql);
        self.finish()
    }

    #[track_caller]
    fn run(&self, sql: &str) -> Answer {
        self.try_run(sql).unwrap_or_else(|failure| panic!("{sql}: {failure}"))
    }

    #[track_caller]
    fn value(&self, sql: &str) -> String {
        self.run(sql).rows[0][0].clone().unwrap_or_else(|| String::from("NULL"))
    }

    /// Starts a statement and makes sure that it waits.
    #[track_caller]
    fn waits(&self, sql: &str) {
        self.start(sql);
        let early = self.answered.recv_timeout(Duration::from_millis(150));
        assert!(early.is_err(), "{sql} did not wait: {early:?}");
    }
}

fn setup(sql: &str) -> (Server, Session, Session) {
    let server = Server::start();
    server.connect().run(sql);
    let (a, b) = (Session::new(&server), Session::new(&server));
    (server, a, b)
}

const ACCOUNTS: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)";

#[test]
fn nobody_sees_what_is_not_committed() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    a.run("UPDATE t SET v = 11 WHERE id = 1");
    a.run("INSERT INTO t VALUES (4, 40)");
    a.run("DELETE FROM t WHERE id = 2");
    assert_eq!(b.value("SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM t"), "1:10 2:20 3:30");
    assert_eq!(a.value("SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM t"), "1:11 3:30 4:40");
    a.run("COMMIT");
    assert_eq!(b.value("SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM t"), "1:11 3:30 4:40");
}

#[test]
fn writers_wait_and_look_again() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    a.run("UPDATE t SET v = v + 1 WHERE id = 1");
    b.waits("UPDATE t SET v = v * 10 WHERE id = 1 RETURNING v");
    a.run("COMMIT");
    // On the newest version, not on the one the statement began with.
    assert_eq!(b.finish().expect("updated").rows[0][0].as_deref(), Some("110"));
    // The condition is checked again, too.
    a.run("BEGIN");
    a.run("UPDATE t SET v = 0 WHERE id = 2");
    b.waits("UPDATE t SET v = -1 WHERE v = 20");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("nothing left").tag, "UPDATE 0");
    // A rollback leaves things as they were.
    a.run("BEGIN");
    a.run("DELETE FROM t WHERE id = 3");
    b.waits("UPDATE t SET v = v + 5 WHERE id = 3 RETURNING v");
    a.run("ROLLBACK");
    assert_eq!(b.finish().expect("updated").rows[0][0].as_deref(), Some("35"));
    a.run("BEGIN");
    a.run("DELETE FROM t WHERE id = 3");
    b.waits("DELETE FROM t WHERE id = 3");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("gone").tag, "DELETE 0");
    // A join is looked at again with the other side's pinned rows.
    a.run("BEGIN");
    a.run("UPDATE t SET v = 500 WHERE id = 1");
    b.waits("UPDATE t SET v = t.v + x.n FROM (VALUES (1, 7)) x(id, n) WHERE t.id = x.id RETURNING t.v");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("updated").rows[0][0].as_deref(), Some("507"));
}

#[test]
fn unique_keys_wait_for_the_first() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    a.run("INSERT INTO t VALUES (9, 1)");
    b.waits("INSERT INTO t VALUES (9, 2)");
    a.run("COMMIT");
    assert_eq!(b.finish().expect_err("a duplicate").state(), "23505");
    a.run("BEGIN");
    a.run("INSERT INTO t VALUES (10, 1)");
    b.waits("INSERT INTO t VALUES (10, 2)");
    a.run("ROLLBACK");
    assert_eq!(b.finish().expect("free").tag, "INSERT 0 1");
    a.run("BEGIN");
    a.run("DELETE FROM t WHERE id = 10");
    b.waits("INSERT INTO t VALUES (10, 3)");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("free again").tag, "INSERT 0 1");
    a.run("BEGIN");
    a.run("INSERT INTO t VALUES (11, 1)");
    b.waits("INSERT INTO t VALUES (11, 2) ON CONFLICT (id) DO UPDATE SET v = t.v + excluded.v RETURNING v");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("merged").rows[0][0].as_deref(), Some("3"));
}

#[test]
fn foreign_keys_hold_against_both_sides() {
    let (_server, a, b) = setup(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int, p int REFERENCES p); INSERT INTO p VALUES (1), (2)",
    );
    a.run("BEGIN");
    a.run("INSERT INTO c VALUES (1, 1)");
    b.waits("DELETE FROM p WHERE id = 1");
    a.run("COMMIT");
    assert_eq!(b.finish().expect_err("a child").state(), "23503");
    a.run("BEGIN");
    a.run("DELETE FROM p WHERE id = 2");
    b.waits("INSERT INTO c VALUES (2, 2)");
    a.run("COMMIT");
    assert_eq!(b.finish().expect_err("no parent").state(), "23503");
    // Children of one parent do not wait for each other, nor for a change that is not of the key.
    a.run("BEGIN");
    a.run("INSERT INTO c VALUES (3, 1)");
    b.run("INSERT INTO c VALUES (4, 1)");
    a.run("COMMIT");
}

#[test]
fn repeatable_read_keeps_its_snapshot() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(a.value("SELECT sum(v) FROM t"), "60");
    b.run("UPDATE t SET v = 100 WHERE id = 1; INSERT INTO t VALUES (4, 1)");
    assert_eq!(a.value("SELECT sum(v) FROM t"), "60");
    assert_eq!(a.try_run("UPDATE t SET v = 0 WHERE id = 1").expect_err("it moved").state(), "40001");
    a.run("ROLLBACK");
    assert_eq!(a.value("SELECT sum(v) FROM t"), "151");
    // Read committed moves with every statement.
    a.run("BEGIN");
    assert_eq!(a.value("SELECT sum(v) FROM t"), "151");
    b.run("DELETE FROM t WHERE id = 4");
    assert_eq!(a.value("SELECT sum(v) FROM t"), "150");
    a.run("COMMIT");
}

#[test]
fn row_locks() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    a.run("SELECT * FROM t WHERE id = 1 FOR UPDATE");
    assert_eq!(
        b.try_run("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT").expect_err("locked").state(),
        "55P03"
    );
    assert_eq!(b.value("SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"), "2");
    assert_eq!(b.value("SELECT v FROM t WHERE id = 1"), "10");
    b.run("SET lock_timeout = '100ms'");
    assert_eq!(b.try_run("UPDATE t SET v = 1 WHERE id = 1").expect_err("locked").state(), "55P03");
    b.run("RESET lock_timeout");
    b.waits("SELECT v FROM t WHERE id = 1 FOR SHARE");
    a.run("UPDATE t SET v = 12 WHERE id = 1");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("the newest").rows[0][0].as_deref(), Some("12"));
    // Two readers share.
    a.run("BEGIN");
    a.run("SELECT * FROM t WHERE id = 2 FOR SHARE");
    b.run("SELECT * FROM t WHERE id = 2 FOR SHARE");
    b.waits("UPDATE t SET v = 1 WHERE id = 2");
    a.run("ROLLBACK");
    b.finish().expect("updated");
}

#[test]
fn a_deadlock_has_one_victim() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    b.run("BEGIN");
    a.run("UPDATE t SET v = 1 WHERE id = 1");
    b.run("UPDATE t SET v = 2 WHERE id = 2");
    a.waits("UPDATE t SET v = 1 WHERE id = 2");
    b.start("UPDATE t SET v = 2 WHERE id = 1");
    let begin = Instant::now();
    let second = b.finish();
    let outcome = match second {
        Err(failure) => {
            assert_eq!(failure.state(), "40P01");
            b.run("ROLLBACK");
            a.finish()
        }
        Ok(_) => a.finish(),
    };
    if let Err(failure) = outcome {
        assert_eq!(failure.state(), "40P01");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn tables_are_locked_against_changes_of_shape() {
    let (_server, a, b) = setup(ACCOUNTS);
    a.run("BEGIN");
    a.run("SELECT * FROM t");
    b.waits("ALTER TABLE t ADD COLUMN w int DEFAULT 5");
    a.run("COMMIT");
    b.finish().expect("altered");
    assert_eq!(a.value("SELECT w FROM t WHERE id = 1"), "5");
    a.run("BEGIN");
    a.run("TRUNCATE t");
    b.waits("SELECT count(*) FROM t");
    a.run("INSERT INTO t VALUES (1, 1)");
    a.run("COMMIT");
    assert_eq!(b.finish().expect("counted").rows[0][0].as_deref(), Some("1"));
}

#[test]
fn advisory_locks_wait_without_costing_a_thread() {
    let server = Server::start();
    let holder = Session::new(&server);
    holder.run("SELECT pg_advisory_lock(1)");
    let mut waiting: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send(b'Q', b"SELECT pg_advisory_lock_shared(1)\0").expect("sent");
    }
    let other = Session::new(&server);
    let begin = Instant::now();
    assert_eq!(other.value("SELECT count(*) FROM generate_series(1, 1000)"), "1000");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    holder.run("SELECT pg_advisory_unlock(1)");
    for client in &mut waiting {
        while client.receive().expect("an answer").0 != b'Z' {}
    }
}

/// Money moves between accounts from many sessions at once; the total is the same at every look and in the end.
#[test]
fn totals_hold_under_load() {
    let server = Server::start();
    server.connect().run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 100 FROM generate_series(1, 20) g");
    let login = server.login();
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for worker in 0..6_u64 {
            let login = &login;
            scope.spawn(move || {
                let mut client = login.connect();
                let mut seed = worker + 1;
                while Instant::now() < end {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (from, to) = (seed >> 33 & 15, seed >> 40 & 15);
                    let level = if worker % 2 == 0 { "READ COMMITTED" } else { "REPEATABLE READ" };
                    let result = client.simple(&format!(
                        "BEGIN ISOLATION LEVEL {level}; UPDATE t SET v = v - 1 WHERE id = {}; \
                         UPDATE t SET v = v + 1 WHERE id = {}; COMMIT",
                        from + 1,
                        to + 1
                    ));
                    if let Err(failure) = result {
                        assert!(["40001", "40P01"].contains(&failure.state()), "{failure}");
                        client.run("ROLLBACK");
                    }
                }
            });
        }
        let mut reader = server.connect();
        while Instant::now() < end {
            assert_eq!(reader.value("SELECT sum(v) FROM t"), "2000");
        }
    });
    assert_eq!(server.connect().value("SELECT sum(v) FROM t"), "2000");
}
