//! What clients get wrong, by accident or on purpose: refused or answered, while the server stays up and small.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::client::{Client, frame};
use crate::server::{Server, get};

/// How much resident memory may grow over all of a hostile test.
const GROWTH: u64 = 64 << 20;

#[test]
fn refusals_say_what_and_where() {
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, age int CHECK (age > 0))");
    client.run("CREATE TABLE orders (id int, customer int CONSTRAINT belongs REFERENCES customers)");
    client.run("INSERT INTO customers VALUES (1, 'a@b', 5)");

    let error = client.refusal("SELECT * FROM custommers");
    assert_eq!((error.state(), error.position()), ("42P01", "15"));
    assert_eq!(error.message(), "relation \"custommers\" does not exist");
    assert!(error.hint().contains("customers"), "the nearest name: {:?}", error.hint());

    let error = client.refusal("SELECT emial FROM customers");
    assert_eq!((error.state(), error.position()), ("42703", "8"));
    assert!(error.hint().contains("customers.email"), "{:?}", error.hint());

    let error = client.refusal("SELECT 1 FORM customers WHERE");
    assert_eq!(error.state(), "42601");
    let error = client.refusal("SELECT *\nFROM customers\nWHERE id == 1 AND (");
    assert_eq!(error.state(), "42601");
    assert_ne!(error.position(), "");
    let error = client.refusal("SELEKT 1");
    assert_eq!((error.state(), error.position()), ("42601", "1"));
    assert_eq!(error.message(), "syntax error at or near \"SELEKT\"");
    // Positions count characters, not bytes.
    let error = client.refusal("SELECT 'äöü', missing FROM customers");
    assert_eq!((error.state(), error.position()), ("42703", "15"));

    let error = client.refusal("INSERT INTO customers VALUES (1, 'x', 1)");
    assert_eq!((error.state(), error.constraint(), error.table()), ("23505", "customers_pkey", "customers"));
    assert_eq!(error.message(), "duplicate key value violates unique constraint \"customers_pkey\"");
    assert_eq!(error.detail(), "Key (id)=(1) already exists.");
    let error = client.refusal("INSERT INTO customers VALUES (2, 'a@b', 1)");
    assert_eq!(
        (error.constraint(), error.detail()),
        ("customers_email_key", "Key (email)=(a@b) already exists.")
    );
    let error = client.refusal("INSERT INTO customers VALUES (2, 'x', 0)");
    assert_eq!((error.state(), error.constraint()), ("23514", "customers_age_check"));
    assert_eq!(error.detail(), "Failing row contains (2, x, 0).");
    let error = client.refusal("INSERT INTO customers VALUES (NULL)");
    assert_eq!((error.state(), error.detail()), ("23502", "Failing row contains (null, null, null)."));
    let error = client.refusal("INSERT INTO orders VALUES (1, 9)");
    assert_eq!((error.state(), error.constraint()), ("23503", "belongs"));
    assert_eq!(error.detail(), "Key (customer)=(9) is not present in table \"customers\".");
    client.run("INSERT INTO orders VALUES (1, 1)");
    let error = client.refusal("DELETE FROM customers");
    assert_eq!(
        (error.state(), error.detail()),
        ("23503", "Key (id)=(1) is still referenced from table \"orders\".")
    );
    // Something unsupported says what to do instead.
    let error = client.refusal("CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION f()");
    assert_eq!(error.state(), "0A000");
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let server = Server::start();
    let login = server.login();
    let refused = |user: &str, password: &str| {
        let begin = Instant::now();
        let failure = login.user(user, password).try_connect().err().expect("refused");
        let fields = failure.fields().clone();
        assert_eq!(fields.state(), "28P01");
        (fields.message().replace(user, "USER"), begin.elapsed())
    };
    let known = refused("postgres", "wrong");
    let unknown = refused("nobody_here", "wrong");
    assert_eq!(known.0, unknown.0);
    assert_eq!(known.0, "password authentication failed for user \"USER\"");
    refused("postgres", "");
    // The audit log has them, without the password.
    std::thread::sleep(Duration::from_millis(200));
    let log = server.log();
    assert!(log.contains("nobody_here") && log.contains("28P01"), "{log}");
    let failure = login.database("missing").try_connect().err().expect("refused");
    assert_eq!(failure.state(), "3D000");
    login.connect().run("SELECT 1");
}

/// Reads until the server hangs up; what it said.
fn until_closed(stream: &mut impl Read) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("the server neither answered nor hung up: {error}"),
        }
    }
}

#[test]
fn lying_frames_end_their_connection_only() {
    let mut server = Server::start();
    let mut other = server.connect();
    let before = server.memory();
    // Before login: a gigabyte announced, a length too small, plain garbage, an HTTP request.
    for opening in [
        [&(1_u32 << 30).to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat(),
        [&3_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()].concat(),
        [&u32::MAX.to_be_bytes()[..], &[0xff; 64]].concat(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ] {
        let mut stream = Client::raw(server.address);
        stream.write_all(&opening).expect("sent");
        until_closed(&mut stream);
    }
    // Bytes behind an SSLRequest, which an attacker in between could have put there, are never executed.
    let mut stream = Client::raw(server.address);
    let mut opening = [&8_u32.to_be_bytes()[..], &80_877_103_u32.to_be_bytes()].concat();
    opening.extend(frame(b'Q', b"DROP TABLE IF EXISTS x\0"));
    stream.write_all(&opening).expect("sent");
    until_closed(&mut stream);
    // After login: lengths that lie, tags that do not exist, text that is not UTF-8.
    for message in [
        [&b"Q"[..], &u32::MAX.to_be_bytes(), b"SELECT 1\0"].concat(),
        [&b"Q"[..], &2_u32.to_be_bytes()].concat(),
        [&b"Q"[..], &(2_u32 << 30).to_be_bytes()].concat(),
        frame(b'!', b"what"),
        frame(b'B', b"\0\0\0\x7f\xff"),
        frame(b'P', b"no end"),
    ] {
        let mut client = server.connect();
        client.send_raw(&message).expect("sent");
        client.send(b'S', b"").ok();
        // An ErrorResponse, or the end; never an answer.
        match client.receive() {
            Ok((tag, body)) => {
                assert_eq!(tag, b'E', "{message:?}: {}", String::from_utf8_lossy(&body));
            }
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{message:?}: hangs"),
        }
    }
    let mut client = server.connect();
    client.send(b'Q', b"SELECT '\xff\xfe'\0").expect("sent");
    assert_eq!(client.receive().expect("an answer").0, b'E');
    assert!(server.running());
    assert_eq!(other.value("SELECT 1"), "1");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < GROWTH, "{} MB", grown >> 20);
}

#[test]
fn long_and_deep_statements_are_answered_or_refused() {
    let mut server = Server::start();
    let mut client = server.connect();
    // The first statements also pay for what is made once (code pages, caches).
    for _ in 0..20 {
        client.run("SELECT count(*) FROM generate_series(1, 1000)");
    }
    let before = server.memory();
    let repeat = |count: usize, between: &str, one: &dyn Fn(usize) -> String| {
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    let term = |i: usize| format!("x={i}");
    let from = "FROM (SELECT 7 AS x) s WHERE";
    let statements = [
        ("parentheses", format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)), "1"),
        ("subqueries", format!("{}1{}", "SELECT (".repeat(5_000), ")".repeat(5_000)), "1"),
        ("NOT", format!("SELECT {}true", "NOT ".repeat(20_000)), "t"),
        ("minus", format!("SELECT {}1", "- ".repeat(20_000)), "1"),
        ("arrays", format!("SELECT {}1{}", "ARRAY[".repeat(10_000), "]".repeat(10_000)), ""),
        (
            "CASE in CASE",
            format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(10_000), " END".repeat(10_000)),
            "1",
        ),
        ("functions", format!("SELECT {}1{}", "abs(".repeat(10_000), ")".repeat(10_000)), "1"),
        ("casts", format!("SELECT 1{}", "::int".repeat(20_000)), "1"),
        ("OR", format!("SELECT count(*) {from} {}", repeat(100_000, " OR ", &term)), "1"),
        (
            "AND",
            format!("SELECT count(*) {from} {}", repeat(100_000, " AND ", &|i| format!("x<>{}", i + 10))),
            "1",
        ),
        ("+", format!("SELECT {}", repeat(100_000, "+", &|_| String::from("1"))), "100000"),
        ("||", format!("SELECT length({})", repeat(100_000, "||", &|_| String::from("'a'"))), "100000"),
        ("IN", format!("SELECT count(*) {from} x IN ({})", repeat(100_000, ",", &|i| i.to_string())), "1"),
        (
            "VALUES",
            format!("SELECT count(*) FROM (VALUES {}) v", repeat(100_000, ",", &|i| format!("({i})"))),
            "100000",
        ),
        (
            "UNION ALL",
            format!("SELECT count(*) FROM ({}) v", repeat(5_000, " UNION ALL ", &|i| format!("SELECT {i}"))),
            "5000",
        ),
        (
            "CASE",
            format!(
                "SELECT CASE {} END {from} true",
                repeat(10_000, " ", &|i| format!("WHEN x={} THEN {i}", i + 1))
            ),
            "6",
        ),
        ("columns", format!("SELECT {}", repeat(1_600, ",", &|i| i.to_string())), "0"),
        ("a string", format!("SELECT length('{}')", "x".repeat(5_000_000)), "5000000"),
        ("garbage", "((((((((((".repeat(50_000), ""),
        ("joins", format!("SELECT count(*) FROM {}", repeat(300, ",", &|i| format!("(SELECT 1) t{i}"))), "1"),
    ];
    for (name, sql, expected) in &statements {
        let begin = Instant::now();
        match client.simple(sql) {
            Ok(answers) => {
                let value = answers[0].rows[0][0].clone().unwrap_or_default();
                assert_eq!(&value, expected, "{name}");
            }
            Err(failure) => {
                let fields = failure.fields();
                let refused = ["54001", "54000", "42601", "54011"].contains(&fields.state());
                assert!(refused, "{name}: {failure}");
            }
        }
        eprintln!("{name}: {:?}, {} MB", begin.elapsed(), server.memory() >> 20);
        assert!(begin.elapsed() < Duration::from_secs(30), "{name} took {:?}", begin.elapsed());
    }
    assert!(server.running());
    assert_eq!(client.value("SELECT 1"), "1");
    drop(client);
    // The allocator gives pages back a moment later.
    let mut grown = u64::MAX;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(200));
        grown = server.memory().saturating_sub(before);
        if grown < GROWTH {
            break;
        }
        server.connect().run("SELECT 1");
    }
    assert!(grown < GROWTH, "resident memory grew by {} MB", grown >> 20);
}

#[test]
fn ten_million_rows_stream_through_little_memory() {
    let server = Server::start();
    let mut client = server.connect();
    server.reset_peak();
    let before = server.memory();
    let rows = client.count_rows("SELECT g FROM generate_series(1, 10000000) g").expect("rows");
    assert_eq!(rows, 10_000_000);
    let grown = server.peak_memory().saturating_sub(before);
    eprintln!("ten million rows: peak memory grew by {} MB", grown >> 20);
    assert!(grown < GROWTH, "peak memory grew by {} MB", grown >> 20);
}

#[test]
fn a_client_that_does_not_read_costs_little() {
    let server = Server::start();
    let mut client = server.connect();
    let before = server.memory();
    let mut lazy = server.connect();
    lazy.send(b'Q', b"SELECT repeat('x', 1000) FROM generate_series(1, 10000000)\0").expect("sent");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(client.value("SELECT 1"), "1");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < GROWTH, "{} MB for rows nobody reads", grown >> 20);
    lazy.cancel_request(server.address)();
    let begin = Instant::now();
    loop {
        let (tag, body) = lazy.receive().expect("an answer");
        if tag == b'E' {
            assert!(String::from_utf8_lossy(&body).contains("57014"));
        }
        if tag == b'Z' {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "still sending rows after the cancel");
    }
}

#[test]
fn a_cancel_ends_a_statement_at_once() {
    let server = Server::start();
    for sql in [
        "SELECT pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 100000000000) g",
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.a + b.b < 0",
    ] {
        let mut client = server.connect();
        let cancel = client.cancel_request(server.address);
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            cancel();
            Instant::now()
        });
        let failure = client.simple(sql).expect_err("cancelled");
        let asked = canceller.join().expect("sent");
        assert_eq!(failure.state(), "57014", "{sql}: {failure}");
        assert_eq!(failure.fields().message(), "canceling statement due to user request");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{sql}: {:?} from cancel to answer",
            asked.elapsed()
        );
        assert_eq!(client.value("SELECT 1"), "1");
    }
}

#[test]
fn too_many_connections_are_refused() {
    let server = Server::start_with(&["network.max_connections=6", "network.reserved_connections=2"]);
    let mut admin = server.connect();
    admin.run("CREATE ROLE plain LOGIN PASSWORD 'plain'");
    let plain = server.login().user("plain", "plain");
    let mut clients: Vec<Client> = (0..3).map(|_| plain.connect()).collect();
    let failure = plain.try_connect().err().expect("only reserved connections are left");
    assert_eq!(failure.state(), "53300");
    // A superuser still gets in.
    drop(server.connect());
    drop(clients.remove(0));
    let begin = Instant::now();
    while plain.try_connect().is_err() {
        assert!(begin.elapsed() < Duration::from_secs(5), "the place did not become free");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_and_metrics_over_http() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.run("SELECT 1");
    }
    client.run("CREATE TABLE m (a int); INSERT INTO m VALUES (1)");
    for path in ["/livez", "/readyz"] {
        let answer = get(server.http, path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert!(get(server.http, "/nothing").expect("an answer").starts_with("HTTP/1.1 404"));
    let metrics = get(server.http, "/metrics").expect("an answer");
    for name in [
        "type=\"select\"} 3",
        "startdb_query_duration_seconds_bucket{",
        "startdb_connections ",
        "startdb_transactions_total",
        "startdb_cache_hit_ratio{cache=\"",
        "startdb_cache_entries{cache=\"",
        "startdb_cache_evictions_total{cache=\"",
        "startdb_disk_reads_total",
        "startdb_disk_writes_total",
        "startdb_wal_sync_seconds_bucket",
        "startdb_memory_bytes{component=\"",
        "startdb_cpu_seconds_total{component=\"",
        "startdb_query_log_dropped_total",
        "startdb_optimizer_restarts_total",
    ] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    assert!(!metrics.contains("generate_series"), "query text in a label");
}

#[test]
fn a_panic_ends_its_statement_only() {
    let mut server = Server::start_planted();
    let mut other = server.connect();
    other.run("CREATE TABLE p (a int)");
    other.run("BEGIN; INSERT INTO p VALUES (1)");
    for _ in 0..3 {
        let mut client = server.connect();
        client.run("BEGIN; INSERT INTO p VALUES (2)");
        let failure = client.simple("SELECT 'statement_panic'").expect_err("a panic");
        assert_eq!(failure.state(), "XX000", "{failure}");
    }
    other.run("COMMIT");
    assert!(server.running());
    assert_eq!(server.connect().value("SELECT string_agg(a::text, ',') FROM p"), "1");
}
