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

/// Waiting blocks no thread, wherever the waiting function stands.
#[test]
fn a_thousand_sessions_wait_and_nobody_else_does() {
    let server = Server::start_with(&["network.max_connections=1100"]);
    let holder = Session::new(&server);
    holder.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    holder.run("SELECT pg_advisory_lock(1)");
    let forms = [
        "SELECT pg_advisory_lock_shared(1)",
        "SELECT id, pg_advisory_lock_shared(id) FROM t",
        "SELECT count(*) FROM t WHERE pg_advisory_lock_shared(id) IS NOT NULL",
        "WITH l AS MATERIALIZED (SELECT pg_advisory_lock_shared(1)) SELECT count(*) FROM l",
        "SELECT CASE WHEN id = 1 THEN pg_advisory_lock_shared(1) END FROM t",
    ];
    let mut waiting: Vec<Client> = (0..1000).map(|_| server.connect()).collect();
    for (client, form) in waiting.iter_mut().zip(forms.iter().cycle()) {
        let mut body = form.as_bytes().to_vec();
        body.push(0);
        client.send(b'Q', &body).expect("sent");
    }
    let other = Session::new(&server);
    let begin = Instant::now();
    while other.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'") != "1000" {
        assert!(begin.elapsed() < Duration::from_secs(30), "they do not all wait");
    }
    let begin = Instant::now();
    for _ in 0..100 {
        assert_eq!(other.value("SELECT 1"), "1");
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "a hundred times SELECT 1: {:?}", begin.elapsed());
    holder.run("SELECT pg_advisory_unlock(1)");
    for client in &mut waiting {
        while client.receive().expect("an answer").0 != b'Z' {}
    }
}

#[test]
fn sessions_that_end_let_go() {
    let (server, a, b) = setup(ACCOUNTS);
    // Ended by another, while it does nothing.
    let mut idle = server.connect();
    let pid = idle.pid;
    idle.run("BEGIN; UPDATE t SET v = 0 WHERE id = 1");
    b.waits("UPDATE t SET v = 1 WHERE id = 1");
    assert_eq!(a.value(&format!("SELECT pg_terminate_backend({pid})")), "t");
    b.finish().expect("free");
    let mut end = idle.receive().expect("a last word");
    while end.0 != b'E' {
        end = idle.receive().expect("a last word");
    }
    assert!(String::from_utf8_lossy(&end.1).contains("57P01"));
    // Gone, while it waits for something itself.
    a.run("BEGIN; UPDATE t SET v = 2 WHERE id = 2");
    let mut gone = server.connect();
    gone.run("BEGIN; UPDATE t SET v = 0 WHERE id = 1");
    gone.send(b'Q', b"UPDATE t SET v = 0 WHERE id = 2\0").expect("sent");
    b.waits("UPDATE t SET v = 3 WHERE id = 1");
    drop(gone);
    b.finish().expect("free once the client is seen to be gone");
    a.run("ROLLBACK");
    assert_eq!(a.value("SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()"), "0");
}

#[test]
fn timeouts_end_sessions() {
    let (server, a, b) = setup(ACCOUNTS);
    for (setting, state) in [
        ("idle_in_transaction_session_timeout = '200ms'", "25P03"),
        ("transaction_timeout = '200ms'", "25P04"),
    ] {
        let mut client = server.connect();
        client.run(&format!("SET {setting}"));
        client.run("BEGIN; UPDATE t SET v = 0 WHERE id = 1");
        b.start("UPDATE t SET v = 1 WHERE id = 1");
        b.finish().expect("free after the timeout");
        let end = client.receive().expect("a last word");
        assert!(String::from_utf8_lossy(&end.1).contains(state), "{setting}");
    }
    // In the midst of a statement, too.
    let mut client = server.connect();
    client.run("SET transaction_timeout = '200ms'");
    client.send(b'Q', b"SELECT pg_sleep(10)\0").expect("sent");
    let mut end = client.receive().expect("a last word");
    while end.0 != b'E' {
        end = client.receive().expect("a last word");
    }
    assert!(String::from_utf8_lossy(&end.1).contains("25P04"));
    let mut client = server.connect();
    client.run("SET idle_session_timeout = '100ms'");
    let end = client.receive().expect("a last word");
    assert!(String::from_utf8_lossy(&end.1).contains("57P05"));
    // Who is not in a transaction is not ended by the others.
    let mut client = server.connect();
    client.run("SET idle_in_transaction_session_timeout = '50ms'; SET transaction_timeout = '50ms'");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.value("SELECT 1"), "1");
    assert_eq!(a.value("SELECT 1"), "1");
}

#[test]
fn waits_can_be_watched_and_cancelled() {
    let (server, a, b) = setup(ACCOUNTS);
    let (pid_a, pid_b) = (a.value("SELECT pg_backend_pid()"), b.value("SELECT pg_backend_pid()"));
    let watch = Session::new(&server);
    a.run("BEGIN; UPDATE t SET v = 0 WHERE id = 1");
    b.waits("UPDATE t SET v = 1 WHERE id = 1");
    let event = |pid: &str| {
        watch.value(&format!(
            "SELECT coalesce(wait_event_type || ':' || wait_event, 'none') FROM pg_stat_activity WHERE pid = {pid}"
        ))
    };
    assert_eq!(event(&pid_b), "Lock:transactionid");
    assert_eq!(event(&pid_a), "Client:ClientRead");
    assert_eq!(watch.value(&format!("SELECT pg_blocking_pids({pid_b})")), format!("{{{pid_a}}}"));
    assert_eq!(watch.value(&format!("SELECT pg_blocking_pids({pid_a})")), "{}");
    let held = format!(
        "SELECT string_agg(mode || ' ' || granted, ', ' ORDER BY mode) FROM pg_locks \
         WHERE relation = 't'::regclass AND locktype = 'relation' AND pid = {pid_a}"
    );
    assert_eq!(watch.value(&held), "RowExclusiveLock true");
    assert_eq!(
        watch.value(&format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {pid_b}")),
        "1"
    );
    assert_eq!(watch.value(&format!("SELECT pg_cancel_backend({pid_b})")), "t");
    assert_eq!(b.finish().expect_err("cancelled").state(), "57014");
    b.run("BEGIN");
    b.start("LOCK TABLE t");
    while event(&pid_b) != "Lock:relation" {}
    assert_eq!(watch.value(&format!("SELECT pg_cancel_backend({pid_b})")), "t");
    assert_eq!(b.finish().expect_err("cancelled").state(), "57014");
    b.run("ROLLBACK");
    b.start("SELECT pg_sleep(30)");
    while event(&pid_b) != "Timeout:PgSleep" {}
    watch.run(&format!("SELECT pg_cancel_backend({pid_b})"));
    assert_eq!(b.finish().expect_err("cancelled").state(), "57014");
    // A cancel that comes while nothing runs does nothing.
    watch.run(&format!("SELECT pg_cancel_backend({pid_b})"));
    assert_eq!(b.value("SELECT 1"), "1");
    assert_eq!(watch.value("SELECT pg_cancel_backend(1)"), "f");
    a.run("ROLLBACK");
}

#[test]
fn a_deadlock_is_explained() {
    let (_server, a, b) = setup(ACCOUNTS);
    let (pid_a, pid_b) = (a.value("SELECT pg_backend_pid()"), b.value("SELECT pg_backend_pid()"));
    a.run("BEGIN; UPDATE t SET v = 1 WHERE id = 1");
    b.run("BEGIN; SET LOCAL deadlock_timeout = '10ms'; SELECT pg_advisory_xact_lock(7)");
    b.run("LOCK TABLE t IN ROW SHARE MODE");
    a.waits("SELECT pg_advisory_xact_lock(7)");
    let begin = Instant::now();
    let failure = b.try_run("UPDATE t SET v = 2 WHERE id = 1").expect_err("the victim");
    assert!(begin.elapsed() < Duration::from_millis(500), "found at once: {:?}", begin.elapsed());
    assert_eq!(failure.state(), "40P01");
    let lines: Vec<&str> = failure.fields().detail().lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("Process {pid_b} waits for ShareLock on transaction "))
            && lines[0].ends_with(&format!("; blocked by process {pid_a}.")),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!("Process {pid_a} waits for ExclusiveLock on advisory lock ["))
            && lines[1].ends_with(&format!(",0,7,1]; blocked by process {pid_b}.")),
        "{lines:?}"
    );
    a.finish().expect("goes on");
    a.run("COMMIT");
    assert_eq!(b.run("COMMIT").tag, "ROLLBACK");
}

/// Everything up to Sync is one transaction, BEGIN or not.
#[test]
fn a_pipeline_is_one_transaction() {
    let (server, a, _b) = setup(ACCOUNTS);
    let mut client = server.connect();
    let pipeline = |client: &mut Client, statements: &[&str]| {
        for sql in statements {
            let mut parse = vec![0];
            parse.extend_from_slice(sql.as_bytes());
            parse.extend_from_slice(&[0, 0, 0]);
            client.send(b'P', &parse).expect("sent");
            client.send(b'B', &[0, 0, 0, 0, 0, 0, 0, 0]).expect("sent");
            client.send(b'E', &[0, 0, 0, 0, 0]).expect("sent");
        }
        client.send(b'S', b"").expect("sent");
        let (mut errors, mut complete) = (0, 0);
        loop {
            match client.receive().expect("an answer").0 {
                b'E' => errors += 1,
                b'C' => complete += 1,
                b'Z' => return (complete, errors),
                _ => {}
            }
        }
    };
    let failing = ["INSERT INTO t VALUES (10, 1)", "SELECT 1 / 0", "INSERT INTO t VALUES (11, 1)"];
    assert_eq!(pipeline(&mut client, &failing), (1, 1));
    assert_eq!(a.value("SELECT count(*) FROM t WHERE id >= 10"), "0");
    let good = ["INSERT INTO t VALUES (10, 1)", "INSERT INTO t VALUES (11, 1)"];
    assert_eq!(pipeline(&mut client, &good), (2, 0));
    assert_eq!(a.value("SELECT count(*) FROM t WHERE id >= 10"), "2");
    let half = ["INSERT INTO t VALUES (12, 1)", "COMMIT", "INSERT INTO t VALUES (13, 1)", "SELECT 1 / 0"];
    assert_eq!(pipeline(&mut client, &half), (3, 1));
    assert_eq!(a.value("SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE id >= 12"), "12");
}

/// Numbers of a sequence are given once, whatever happens to who asked and to the server.
#[test]
fn sequences_give_no_number_twice() {
    let mut server = Server::start();
    server.connect().run("CREATE SEQUENCE s; CREATE SEQUENCE c CACHE 5");
    let mut seen = std::collections::HashSet::new();
    for round in 0..4 {
        let login = server.login();
        let numbers = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (login, numbers) = (&login, &numbers);
                scope.spawn(move || {
                    let mut client = login.connect();
                    loop {
                        // Half of them never commit.
                        if worker % 2 == 0 && client.simple("BEGIN").is_err() {
                            return;
                        }
                        let Ok(answers) = client.simple("SELECT nextval('s'), nextval('c')") else { return };
                        let row = &answers[0].rows[0];
                        let pair = (row[0].clone(), row[1].clone());
                        if worker % 2 == 0 && client.simple("ROLLBACK").is_err() {
                            return;
                        }
                        numbers.lock().expect("numbers").push(pair);
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(200 + 70 * round));
            server.kill();
        });
        for (s, c) in numbers.into_inner().expect("numbers") {
            assert!(seen.insert(('s', s.clone())), "round {round}: {s:?} of s came twice");
            assert!(seen.insert(('c', c.clone())), "round {round}: {c:?} of c came twice");
        }
        server.launch();
    }
    assert!(seen.len() > 100, "only {} numbers", seen.len());
}

/// SERIALIZABLE: what counts as read, shown by what somebody else may change meanwhile.
#[test]
fn serializable_remembers_what_was_looked_at() {
    let (_server, a, b) = setup(
        "CREATE TABLE account (id int PRIMARY KEY, kind text, balance numeric, note text);
         INSERT INTO account VALUES (1, 'x', 20, 'a'), (2, 'y', 30, 'b'), (3, 'x', 5, 'c');
         CREATE TABLE parent (id int PRIMARY KEY, note text);
         CREATE TABLE child (p int REFERENCES parent);
         CREATE TABLE far (p int REFERENCES parent);
         CREATE INDEX ON far (p);
         INSERT INTO parent VALUES (1), (2), (3), (4);
         INSERT INTO child VALUES (2);
         INSERT INTO far VALUES (4);
         CREATE TABLE queue (id int PRIMARY KEY);
         INSERT INTO queue SELECT generate_series(1, 100);
         CREATE TABLE big AS SELECT g AS id, g % 10 AS kind, g % 1000 AS v, 'note' AS note
             FROM generate_series(1, 200000) g;
         ANALYZE big;
         CREATE TABLE log (n int)",
    );
    for session in [&a, &b] {
        session.run("SET default_transaction_isolation = 'serializable'");
    }
    let plan: Vec<String> = a
        .run("EXPLAIN SELECT kind, sum(v) FROM big WHERE v < 100 GROUP BY kind")
        .rows
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(plan.iter().any(|line| line.contains("vectorised")), "{plan:?}");
    const OK: &str = "";
    const FAILS: &str = "40001";
    // What the one reads or tries, what the other does meanwhile, and how the first one's COMMIT ends.
    let (all, some) = ("SELECT sum(balance) FROM account", "SELECT kind FROM account WHERE id = 1");
    let (both, first) = (
        "SELECT count(*) FROM account WHERE kind = 'x' AND balance > 10",
        "SELECT id FROM queue ORDER BY id LIMIT 1",
    );
    let either = "SELECT sum(balance) FROM account WHERE id = 1 OR id = 3";
    let sums = "SELECT kind, sum(v) FROM big WHERE v < 100 GROUP BY kind";
    let cases: &[(&[&str], &str, &str)] = &[
        (&[all], "UPDATE account SET note = 'n' WHERE id = 1", OK),
        (&[all], "UPDATE account SET balance = balance + 1 WHERE id = 1", FAILS),
        (&[all], "UPDATE account SET balance = balance WHERE id = 1", OK),
        (&[all], "INSERT INTO account VALUES (4, 'z', 1, '')", FAILS),
        (&[all], "DELETE FROM account WHERE id = 3", FAILS),
        (&["SELECT count(*) FROM account"], "UPDATE account SET balance = 1 WHERE id = 1", OK),
        (&["SELECT count(*) FROM account"], "INSERT INTO account VALUES (4, 'z', 1, '')", FAILS),
        (&["SELECT * FROM account"], "UPDATE account SET note = 'n' WHERE id = 2", FAILS),
        (&[some], "UPDATE account SET note = 'n', balance = 3 WHERE id = 1", OK),
        (&[some], "UPDATE account SET kind = 'z' WHERE id = 1", FAILS),
        (&[some], "UPDATE account SET kind = 'z' WHERE id = 2", OK),
        (&[some, all], "UPDATE account SET balance = 4 WHERE id = 2", FAILS),
        (&[both], "UPDATE account SET balance = 100 WHERE id = 2", OK),
        (&[both], "UPDATE account SET note = 'n' WHERE id = 1", OK),
        (&[both], "UPDATE account SET kind = 'x' WHERE id = 2", FAILS),
        (&[both], "UPDATE account SET balance = 11 WHERE id = 3", FAILS),
        (&[both], "INSERT INTO account VALUES (4, 'x', 10, '')", OK),
        (&[both], "INSERT INTO account VALUES (4, 'x', 10.5, '')", FAILS),
        (&[both], "INSERT INTO account VALUES (4, NULL, 100, '')", OK),
        (&[either], "UPDATE account SET balance = 0 WHERE id = 2", OK),
        (&[either], "UPDATE account SET balance = 0 WHERE id = 3", FAILS),
        (&["SELECT 1 FROM account WHERE id = 9"], "INSERT INTO account VALUES (9)", FAILS),
        (&["SELECT 1 FROM account WHERE id = 9"], "INSERT INTO account VALUES (8)", OK),
        (&[first], "INSERT INTO queue VALUES (101)", OK),
        (&[first], "INSERT INTO queue VALUES (0)", FAILS),
        (&[first], "DELETE FROM queue WHERE id = 1", FAILS),
        (&[first], "DELETE FROM queue WHERE id > 50", OK),
        (&["SELECT id FROM queue ORDER BY id DESC LIMIT 1"], "DELETE FROM queue WHERE id = 1", OK),
        (&["SELECT id FROM queue ORDER BY id DESC LIMIT 1"], "INSERT INTO queue VALUES (102)", FAILS),
        (&["SELECT count(*) FROM queue WHERE id BETWEEN 10 AND 20"], "DELETE FROM queue WHERE id = 21", OK),
        (
            &["SELECT count(*) FROM queue WHERE id BETWEEN 10 AND 20"],
            "DELETE FROM queue WHERE id = 20",
            FAILS,
        ),
        // The same where whole columns are read at once.
        (&[sums], "UPDATE big SET note = 'n' WHERE id = 5", OK),
        (&[sums], "UPDATE big SET v = 500 WHERE v = 400", OK),
        (&[sums], "UPDATE big SET v = 50 WHERE id = 400", FAILS),
        (&[sums], "DELETE FROM big WHERE id = 900", OK),
        (&[sums], "DELETE FROM big WHERE id = 90", FAILS),
        // What constraints have told, and nothing holds any more.
        (
            &["SAVEPOINT s", "INSERT INTO account VALUES (50)", "ROLLBACK TO s"],
            "INSERT INTO account VALUES (50)",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO account VALUES (50)", "ROLLBACK TO s"],
            "INSERT INTO account VALUES (51)",
            OK,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO account VALUES (1)", "ROLLBACK TO s"],
            "DELETE FROM account WHERE id = 1",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO account VALUES (1)", "ROLLBACK TO s"],
            "UPDATE account SET note = ''",
            OK,
        ),
        (
            &["INSERT INTO account VALUES (1) ON CONFLICT DO NOTHING"],
            "DELETE FROM account WHERE id = 1",
            FAILS,
        ),
        (&["INSERT INTO account VALUES (1) ON CONFLICT DO NOTHING"], "UPDATE account SET note = ''", OK),
        (
            &["SAVEPOINT s", "INSERT INTO child VALUES (1)", "ROLLBACK TO s"],
            "DELETE FROM parent WHERE id = 1",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO child VALUES (1)", "ROLLBACK TO s"],
            "DELETE FROM parent WHERE id = 3",
            OK,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO child VALUES (7)", "ROLLBACK TO s"],
            "INSERT INTO parent VALUES (7)",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "INSERT INTO child VALUES (7)", "ROLLBACK TO s"],
            "INSERT INTO parent VALUES (8)",
            OK,
        ),
        (
            &["SAVEPOINT s", "DELETE FROM parent WHERE id = 2", "ROLLBACK TO s"],
            "DELETE FROM child WHERE p = 2",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "DELETE FROM parent WHERE id = 4", "ROLLBACK TO s"],
            "DELETE FROM far WHERE p = 4",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "DELETE FROM parent WHERE id = 3", "ROLLBACK TO s"],
            "INSERT INTO child VALUES (3)",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "DELETE FROM parent WHERE id = 3", "ROLLBACK TO s"],
            "INSERT INTO far VALUES (3)",
            FAILS,
        ),
        (
            &["SAVEPOINT s", "DELETE FROM parent WHERE id = 3", "ROLLBACK TO s"],
            "INSERT INTO far VALUES (2)",
            OK,
        ),
        // What is held to the end is no reason to fail: others wait for it, or have come before.
        (&["INSERT INTO child VALUES (1)"], "UPDATE parent SET note = 'n' WHERE id = 1", OK),
        (&["SELECT 1 FROM log"], "INSERT INTO parent VALUES (9)", OK),
    ];
    for (tried, meanwhile, expected) in cases {
        a.run("BEGIN");
        for statement in *tried {
            let _told = a.try_run(statement);
        }
        b.run("BEGIN");
        b.run(meanwhile);
        b.run("COMMIT");
        let written = a.try_run(if meanwhile.ends_with("parent VALUES (9)") {
            "INSERT INTO child VALUES (9)"
        } else {
            "INSERT INTO far VALUES (1)"
        });
        let ended = written.and_then(|_| a.try_run("COMMIT"));
        let got = ended.map_or_else(|failure| failure.state().to_owned(), |_| String::new());
        assert_eq!(got, *expected, "{tried:?}, meanwhile {meanwhile}");
        a.run("ROLLBACK");
        // As it was.
        b.run(
            "BEGIN; DELETE FROM far; DELETE FROM child; DELETE FROM parent; DELETE FROM account; DELETE FROM queue;
             INSERT INTO account VALUES (1, 'x', 20, 'a'), (2, 'y', 30, 'b'), (3, 'x', 5, 'c');
             INSERT INTO parent VALUES (1), (2), (3), (4); INSERT INTO child VALUES (2); INSERT INTO far VALUES (4);
             INSERT INTO queue SELECT generate_series(1, 100); COMMIT",
        );
    }
}

/// What PostgreSQL's predefined roles open to those who are no superusers.
#[test]
fn roles_that_watch_and_signal() {
    let server = Server::start();
    let mut admin = server.connect();
    admin.run("CREATE ROLE watcher LOGIN PASSWORD 'w'; CREATE ROLE worker LOGIN PASSWORD 'w'");
    let mut watcher = server.login().user("watcher", "w").connect();
    let mut worker = server.login().user("worker", "w").connect();
    admin.run("SELECT 'seen by the watcher'");
    worker.run("SELECT 'also seen'");
    let seen = |who: &Client| format!("SELECT query FROM pg_stat_activity WHERE pid = {}", who.pid);
    assert_eq!(watcher.value(&seen(&worker)), "<insufficient privilege>");
    let refused = watcher.refusal("SELECT query FROM startdb.queries");
    assert_eq!((refused.state(), refused.message()), ("42501", "permission denied for view queries"));
    assert!(refused.hint().contains("pg_read_all_stats"), "{}", refused.hint());
    assert_eq!(watcher.value("SELECT has_table_privilege('startdb.queries', 'select')"), "f");
    let (cancel, end) = (
        format!("SELECT pg_cancel_backend({})", worker.pid),
        format!("SELECT pg_terminate_backend({})", worker.pid),
    );
    assert_eq!(watcher.refusal(&cancel).state(), "42501");
    admin.run("GRANT pg_monitor, pg_signal_backend TO watcher");
    assert_eq!(watcher.value(&seen(&worker)), "SELECT 'also seen'");
    assert_eq!(watcher.value("SELECT has_table_privilege('startdb.queries', 'select')"), "t");
    watcher.run("SELECT query FROM startdb.queries");
    watcher.run("SELECT reason FROM startdb.recommendations");
    assert_eq!(watcher.value(&end), "t");
    // A superuser's session is not theirs to end.
    let refused = watcher.refusal(&format!("SELECT pg_terminate_backend({})", admin.pid));
    assert_eq!(refused.message(), "must be a superuser to terminate superuser process");
    assert_eq!(admin.value("SELECT 1"), "1");
}
