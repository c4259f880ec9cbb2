//! What people watch a server by: metrics as Prometheus and PostgreSQL's exporter take them, logs that keep secrets, traces
//! that arrive at a real collector.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::programs::{self, command, have};
use crate::server::{Server, create, free_address};

/// A GET without chunks (HTTP/1.0): status line and headers, body.
pub fn fetch(address: SocketAddr, path: &str, header: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{header}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// A program that runs beside the test and ends with it.
pub struct Beside(pub Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until it gives something; the panic after `patience` says what was awaited.
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begin.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Lines of the log that are JSON objects of a target.
fn log_lines(server: &Server, target: &str) -> Vec<Value> {
    let lines = server.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == target).collect()
}

#[test]
fn metrics_are_clean_and_bounded() {
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE t (a int PRIMARY KEY, b text)");
    let ask = |header: &str| fetch(server.http, "/metrics", header).expect("an answer");
    let count = || ask("").1.lines().filter(|line| !line.starts_with('#')).count();
    let before = count();
    // Statements with nothing in common, tables, failures of many kinds: none of it makes series without end.
    let statements: u64 = std::env::var("METRICS_STATEMENTS").map_or(3000, |n| n.parse().expect("a number"));
    for first in (0..statements).step_by(100) {
        let some = first..statements.min(first + 100);
        let text: String =
            some.map(|n| format!("SELECT a AS c{n} FROM t WHERE b = 'x{n}' AND a + {n} > {n};")).collect();
        client.simple(&text).expect("statements");
    }
    for n in 0..40 {
        client.run(&format!("CREATE TABLE more_{n} (a int)"));
        client.run(&format!("CREATE DATABASE db_{n}"));
    }
    for wrong in ["SELECT 1/0", "SELECT nothing", "SELEC", "INSERT INTO t VALUES (1), (1)", "SELECT 'x'::int"]
    {
        client.refusal(wrong);
    }
    let (head, text) = ask("");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let after = count();
    assert!(after <= 500 && before <= after, "{before} series, then {after}");
    println!("{after} series after {statements} distinct statements");
    for name in [
        "startdb_query_duration_seconds_bucket{le=\"0.0001\",type=\"select\"}",
        "startdb_wal_sync_seconds_bucket{le=\"+Inf\"}",
        "startdb_errors_total{class=\"22\"} 2",
        "startdb_errors_total{class=\"42\"} 2",
        "startdb_errors_total{class=\"23\"} 1",
        "startdb_transactions_total{outcome=\"rollback\"}",
        "startdb_cache_hits_total{cache=\"plan\"}",
        "startdb_build_info{version=",
        "process_resident_memory_bytes",
        "pg_up 1",
        "pg_stat_database_xact_commit{",
        "pg_stat_database_blks_hit{",
        "pg_stat_bgwriter_checkpoints_timed_total",
        "pg_stat_activity_count{datname=\"postgres\",state=\"active\"}",
        "pg_stat_activity_max_tx_duration{",
        "pg_locks_count{datname=\"postgres\",mode=\"accessexclusivelock\"}",
        "pg_settings_max_connections 100",
        "pg_database_size_bytes{datname=\"postgres\"}",
        "pg_stat_user_tables_n_live_tup{",
        "pg_postmaster_start_time_seconds",
    ] {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
    assert!(!text.contains("x17"), "query text in a label");
    let (head, text) = ask("Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(head.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{head}");
    if have(&["promtool"]) {
        let mut lint = command("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool");
        lint.stdin.take().expect("a pipe").write_all(ask("").1.as_bytes()).expect("written");
        let said = lint.wait_with_output().expect("ended");
        assert!(said.status.success() && said.stdout.is_empty(), "{}", programs::said(&said));
    }
}

/// Counts that belong to what was done, by database.
#[test]
fn postgres_names_count_what_happens() {
    let server = Server::start();
    let mut client = server.connect();
    let value = |name: &str| {
        let (_, text) = fetch(server.http, "/metrics", "").expect("an answer");
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    let of = |name: &str| format!("pg_stat_database_{name}{{datid=\"5\",datname=\"postgres\"}}");
    let oid = client.value("SELECT oid FROM pg_database WHERE datname = 'postgres'");
    let of = |name: &str| of(name).replace("datid=\"5\"", &format!("datid=\"{oid}\""));
    client.run("CREATE TABLE t (a int PRIMARY KEY)");
    let before: Vec<f64> = ["tup_inserted", "tup_updated", "tup_deleted", "xact_commit", "xact_rollback"]
        .map(|n| value(&of(n)))
        .into();
    client.run("INSERT INTO t SELECT generate_series(1, 10)");
    client.run("UPDATE t SET a = a + 100");
    client.run("DELETE FROM t WHERE a < 104");
    client.refusal("INSERT INTO t VALUES (110)");
    let after: Vec<f64> = ["tup_inserted", "tup_updated", "tup_deleted", "xact_commit", "xact_rollback"]
        .map(|n| value(&of(n)))
        .into();
    let grown: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    assert_eq!(grown, [10.0, 10.0, 3.0, 3.0, 1.0]);
    assert_eq!(
        client.value(
            "SELECT xact_commit > 0 AND tup_inserted = 10 FROM pg_stat_database WHERE datname = 'postgres'"
        ),
        "t"
    );
    client.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    assert_eq!(value("pg_locks_count{datname=\"postgres\",mode=\"accessexclusivelock\"}"), 1.0);
    std::thread::sleep(Duration::from_millis(20));
    let idle = "{datname=\"postgres\",state=\"idle in transaction\"}";
    assert_eq!(value(&format!("pg_stat_activity_count{idle}")), 1.0);
    assert!(value(&format!("pg_stat_activity_max_tx_duration{idle}")) >= 0.02);
    assert!(value("pg_database_size_bytes{datname=\"postgres\"}") > 0.0);
}

/// PostgreSQL's own exporter finds all it looks for.
#[test]
fn the_exporter_of_postgres_works() {
    if !have(&["prometheus-postgres-exporter"]) {
        return;
    }
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE t (a int PRIMARY KEY)");
    client.run("INSERT INTO t VALUES (1), (2)");
    // The exporter cannot read a password with a blank.
    client.run("CREATE ROLE exporter SUPERUSER LOGIN PASSWORD 'plain'");
    let address = free_address();
    // The package's own examples: tables, indexes, sizes, replication. Those about statements need an extension.
    let sample = server.folder().join("queries.yaml");
    let examples = "/usr/share/doc/prometheus-postgres-exporter/examples/queries.yaml";
    if let Ok(examples) = fs::read_to_string(examples) {
        let end = examples.find("pg_stat_statements:").unwrap_or(examples.len());
        let rest = examples.find("pg_process_idle:").unwrap_or(examples.len());
        fs::write(&sample, [&examples[..end], &examples[rest..]].concat()).expect("written");
    }
    let log = server.folder().join("exporter.log");
    let file = create(&log);
    let exporter = command("prometheus-postgres-exporter")
        .arg(format!("--web.listen-address={address}"))
        .args(sample.exists().then(|| format!("--extend.query-path={}", sample.display())))
        .env("DATA_SOURCE_URI", format!("{}/postgres?sslmode=require", server.address))
        .env("DATA_SOURCE_USER", "exporter")
        .env("DATA_SOURCE_PASS", "plain")
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .spawn();
    let _exporter = Beside(exporter.expect("the exporter"));
    let text = wait_for("the exporter's answer", Duration::from_secs(20), || {
        fetch(address, "/metrics", "").map(|(_, body)| body)
    });
    let said = fs::read_to_string(&log).unwrap_or_default();
    for line in ["pg_up 1", "pg_exporter_last_scrape_error 0"] {
        assert!(
            text.lines().any(|l| l == line),
            "{line} is not in what the exporter shows; it said:\n{said}"
        );
    }
    // Everything the usual dashboard (14114) and the alerts of the mixin read.
    for name in [
        "pg_stat_database_numbackends",
        "pg_stat_database_xact_commit",
        "pg_stat_database_xact_rollback",
        "pg_stat_database_blks_read",
        "pg_stat_database_blks_hit",
        "pg_stat_database_tup_returned",
        "pg_stat_database_tup_fetched",
        "pg_stat_database_tup_inserted",
        "pg_stat_database_tup_updated",
        "pg_stat_database_tup_deleted",
        "pg_stat_database_conflicts",
        "pg_stat_database_deadlocks",
        "pg_stat_bgwriter_buffers_alloc",
        "pg_stat_bgwriter_checkpoints_timed",
        "pg_stat_activity_count",
        "pg_stat_activity_max_tx_duration",
        "pg_stat_archiver_archived_count",
        "pg_locks_count",
        "pg_database_size_bytes",
        "pg_postmaster_start_time_seconds",
        "pg_replication_lag",
        "pg_settings_max_connections",
        "pg_static",
        "pg_stat_user_tables_n_live_tup",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in:\n{text}\n{said}");
    }
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("level=error")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn logs_say_who_what_and_how_long() {
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE people (id int PRIMARY KEY, name text)");
    client.run("SET application_name = 'the tests'");
    client.run("SET log_min_duration_statement = '30ms'");
    client.run("SELECT pg_sleep(0.05), 'not to be seen'");
    client.run("SELECT 1");
    client.extended("SELECT pg_sleep($1::float8)", &[Some("0.06")]).expect("slow");
    client.refusal("INSERT INTO people VALUES (1, 'not to be seen'), (1, 'twice')");
    client.refusal("SELECT 'not to be seen'::int");
    client.refusal("SELECT 'not to be seen' 'not to be seen'");
    client.refusal("SELECT 'not to be seen");
    client.run("SET log_min_error_statement = 'panic'");
    client.refusal("SELECT quiet");
    let lines = wait_for("six lines", Duration::from_secs(5), || {
        Some(log_lines(&server, "statement")).filter(|lines| lines.len() >= 6)
    });
    let shown: Vec<(String, String)> = lines
        .iter()
        .map(|line| {
            (
                line["sqlstate"].as_str().unwrap_or("?").into(),
                line["statement"].as_str().unwrap_or("?").into(),
            )
        })
        .collect();
    let expected = [
        ("00000", "select pg_sleep($1), $2"),
        ("00000", "select pg_sleep($1::float8)"),
        ("23505", "insert into people values ($1, $2), ($3, $4)"),
        ("22P02", "select $1::int"),
        ("42601", "select $1 $2"),
        ("42601", "(unreadable)"),
    ];
    assert_eq!(shown, expected.map(|(state, statement)| (state.to_string(), statement.to_string())));
    let first = &lines[0];
    assert_eq!(
        (first["user"].as_str(), first["database"].as_str()),
        (Some("postgres"), Some("postgres")),
        "{first}"
    );
    assert_eq!(first["application"], "the tests");
    assert_eq!(first["session"].as_u64(), Some(u64::from(client.pid)));
    assert!(first["duration_ms"].as_f64().is_some_and(|ms| (50.0..2000.0).contains(&ms)), "{first}");
    assert_eq!(first["rows"], 1);
    assert!(!server.log().contains("not to be seen"), "a literal is in the log");
}

/// What PostgreSQL's settings ask for is in the log, without a literal.
#[test]
fn logs_hold_what_settings_ask_for() {
    let server = Server::start_with(&["log_connections=on", "log_disconnections=on"]);
    let lines = |target: &str, message: &str| -> Vec<Value> {
        log_lines(&server, target).into_iter().filter(|line| line["message"] == message).collect()
    };
    let mut client = server.connect();
    let pid = u64::from(client.pid);
    let authorized = wait_for("the connection", Duration::from_secs(5), || {
        lines("session", "connection authorized")
            .into_iter()
            .find(|line| line["session"].as_u64() == Some(pid))
    });
    assert_eq!((&authorized["user"], &authorized["database"]), (&"postgres".into(), &"postgres".into()));
    let statements = || -> Vec<String> {
        let all = lines("statement", "statement");
        all.iter().map(|line| line["statement"].as_str().unwrap_or("?").to_string()).collect()
    };
    client.run("CREATE TABLE quiet (a int)");
    client.run("SET log_statement = 'ddl'");
    client.run("CREATE TABLE t (a text DEFAULT 'not to be seen')");
    client.run("INSERT INTO t VALUES ('not to be seen')");
    client.run("SET log_statement = 'mod'");
    client.run("INSERT INTO t VALUES ('not to be seen')");
    client.run("SELECT 'not to be seen'");
    client.run("SET log_statement = 'all'");
    client.extended("SELECT a FROM t WHERE a = $1", &[Some("not to be seen")]).expect("rows");
    client.run("SET log_statement = 'none'");
    client.run("SELECT 'unlogged'");
    client.run("SET log_duration = on");
    client.run("SELECT 'not to be seen'");
    client.run("SET log_duration = off");
    drop(client);
    let ended = wait_for("the disconnection", Duration::from_secs(5), || {
        lines("session", "disconnection").into_iter().find(|line| line["session"].as_u64() == Some(pid))
    });
    assert!(ended["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{ended}");
    assert_eq!(
        statements(),
        [
            "create table t (a text default $1)",
            "insert into t values ($1)",
            "select a from t where a = $1",
            "set log_statement = $1",
        ]
    );
    let durations: Vec<Value> = log_lines(&server, "statement")
        .into_iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with("duration: ")))
        .collect();
    // Of the SELECT and of the two SETs around it; it says how long, not what.
    assert!(
        durations.len() >= 2 && durations.iter().all(|line| line["statement"].is_null()),
        "{durations:?}"
    );
    assert!(!server.log().contains("not to be seen"), "a literal is in the log");
}

/// Passwords, keys and values go through every way in and every failure, and none comes out in the log.
#[test]
fn secrets_stay_out_of_the_log() {
    const CANARY: &str = "c4n4ry";
    let server =
        Server::start_with_environment(&["log.filter=trace"], &[("POSTGRES_PASSWORD", "c4n4ry-superuser")]);
    let mut login = server.login();
    login.password = String::from("c4n4ry-superuser");
    let mut client = login.connect();
    client.run("SET log_min_duration_statement = 0");
    client.run("CREATE TABLE t (a text PRIMARY KEY)");
    for sql in [
        "CREATE ROLE one LOGIN PASSWORD 'c4n4ry-1'",
        "ALTER ROLE one PASSWORD $$c4n4ry-2$$",
        "ALTER ROLE one PASSWORD E'c4n4ry\\x2d3'",
        "CREATE ROLE one PASSWORD 'c4n4ry-4'",
        "CREATE ROLE two PASSWORD 'c4n4ry-5' NONSENSE",
        "CREATE ROLE two 'c4n4ry-6'",
        "ALTER ROLE one PASSWORD 'c4n4ry-7",
        "INSERT INTO t VALUES ('c4n4ry-8')",
        "INSERT INTO t VALUES ('c4n4ry-8')",
        "SELECT 'c4n4ry-9'::int",
        "SELECT date 'c4n4ry-10'",
        "SELECT * FROM t WHERE a = 'c4n4ry-11' /* c4n4ry-12 */ -- c4n4ry-13",
        "PREPARE p AS SELECT 'c4n4ry-14'::text",
        "EXECUTE p",
        "SELECT set_config('my.secret', 'c4n4ry-15', false)",
        "SET my.secret = 'c4n4ry-16'",
        "SET work_mem = 'c4n4ry-17'",
        "COPY t FROM STDIN",
        "DECLARE c CURSOR FOR SELECT 'c4n4ry-18'",
        "COMMENT ON TABLE t IS 'c4n4ry-19'",
    ] {
        // Some of them fail, which is the point.
        let _ = client.simple(sql);
    }
    let _ = client.extended("SELECT $1::int", &[Some("c4n4ry-20")]);
    let _ = client.extended("INSERT INTO t VALUES ($1)", &[Some("c4n4ry-8")]);
    let _ = client.copy_in("COPY t FROM STDIN", std::iter::once(b"c4n4ry-8\nc4n4ry-21\n".to_vec()));
    for password in ["c4n4ry-22", "c4n4ry-superuser-not"] {
        let mut wrong = server.login();
        wrong.password = password.to_owned();
        assert!(wrong.try_connect().is_err());
    }
    drop(client);
    let log = server.log();
    assert!(log.lines().filter(|line| line.contains("\"statement\"")).count() > 20, "{log}");
    let leaks: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// A collector of the OpenTelemetry protocol that writes what it gets.
struct Collector {
    http: SocketAddr,
    log: std::path::PathBuf,
    _child: Beside,
}

impl Collector {
    fn start(server_folder: &std::path::Path) -> Collector {
        let (http, grpc) = (free_address(), free_address());
        let log = server_folder.join("collector.log");
        let file = create(&log);
        let child = Command::new(programs::find("rotel").expect("rotel"))
            .args([
                "start",
                "--exporter",
                "blackhole",
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
            ])
            .args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()])
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("rotel");
        let child = Beside(child);
        wait_for("the collector", Duration::from_secs(20), || TcpStream::connect(http).ok());
        Collector { http, log, _child: child }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// From a client's span down to the flush of the log.
#[test]
fn traces_reach_a_collector() {
    if !have(&["rotel"]) {
        return;
    }
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";
    let folder = tempfile::tempdir().expect("a folder");
    let collector = Collector::start(folder.path());
    let endpoint = format!("http://{}", collector.http);
    let server = Server::start_with_environment(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_SERVICE_NAME", "shop-db"),
        ],
    );
    let mut client = server.connect();
    client.run("CREATE TABLE orders (id int PRIMARY KEY, customer text)");
    client.run("SELECT 'untraced' FROM orders");
    client.run(&format!(
        "INSERT INTO orders VALUES (1, 'not to be seen') /*db_driver='x',traceparent='00-{TRACE}-{PARENT}-01'*/"
    ));
    let text = wait_for("the flush", Duration::from_secs(15), || {
        Some(collector.text()).filter(|text| text.contains("flush") && text.contains("INSERT orders"))
    });
    for part in [
        TRACE,
        PARENT,
        "shop-db",
        "INSERT orders",
        "parse",
        "plan",
        "execute",
        "flush",
        "db.system.name",
        "db.query.text",
        "insert into orders values ($1, $2)",
        "db.namespace",
        "postgres|public",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains("not to be seen") && !text.contains("untraced"), "{text}");
    // The log names the trace too.
    client.run("SET log_statement = 'all'");
    client.run(&format!("SELECT 1 AS traced /*traceparent='00-{TRACE}-{PARENT}-01'*/"));
    client.run("SET log_statement = 'none'");
    let line = wait_for("the line", Duration::from_secs(5), || {
        let all = log_lines(&server, "statement");
        all.into_iter().find(|line| line["statement"].as_str().is_some_and(|text| text.contains("traced")))
    });
    assert_eq!(line["trace_id"], TRACE);
    // A failure, by the extended protocol, and a wait for a row lock.
    let mut other = server.connect();
    other.run("BEGIN; UPDATE orders SET customer = 'x' WHERE id = 1");
    let waiter = std::thread::spawn(move || {
        let sql =
            format!("UPDATE orders SET customer = 'y' WHERE id = 1 /*traceparent='00-{TRACE}-{PARENT}-01'*/");
        client.extended(&sql, &[]).expect("updated");
        let sql = format!("SELECT 1/0 FROM orders /*traceparent='00-{TRACE}-{PARENT}-01'*/");
        client.extended(&sql, &[]).expect_err("a failure");
    });
    std::thread::sleep(Duration::from_millis(300));
    other.run("COMMIT");
    waiter.join().expect("done");
    let text = wait_for("the failure", Duration::from_secs(15), || {
        Some(collector.text()).filter(|text| text.contains("22012") && text.contains("UPDATE orders"))
    });
    let names: BTreeSet<&str> = ["lock", "UPDATE orders", "SELECT orders"].into();
    for name in names {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
    // What waits is sent before the end.
    let before = collector.text().matches("flush").count();
    let mut client = server.connect();
    client.run(&format!("INSERT INTO orders VALUES (2, 'z') /*traceparent='00-{TRACE}-{PARENT}-01'*/"));
    let mut server = server;
    server.terminate();
    wait_for("the last flush", Duration::from_secs(10), || {
        (collector.text().matches("flush").count() > before).then_some(())
    });
}

/// A collector that is not there costs a warning, and no statement waits for it.
#[test]
fn a_missing_collector_is_no_obstacle() {
    let endpoint = format!("http://{}", free_address());
    let server = Server::start_with_environment(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ],
    );
    let mut client = server.connect();
    for _ in 0..300 {
        client.run("SELECT 1");
    }
    wait_for("a warning", Duration::from_secs(10), || {
        server.log().contains("traces were lost").then_some(())
    });
    let refused =
        Server::start_with_environment(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318")]);
    assert!(refused.log().contains("https is not supported"), "{}", refused.log());
}
