//! The command line as scripts and people use it: what it refuses, what it leaves behind, how it stops.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::programs::said;
use crate::server::{PASSWORD, Server, binary, free_address};

fn run(command: &mut Command) -> Output {
    command.output().expect("the server's binary")
}

/// A start that must be refused: exit code 1 and what it says on stderr.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fresh() -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command.args(["start", "--listen", &free_address().to_string(), "--http", &free_address().to_string()]);
    command.arg("--data-dir").arg(folder.path().join("data"));
    (folder, command)
}

#[test]
fn help_and_version() {
    let help = run(binary().arg("--help"));
    assert!(help.status.success());
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for option in [
        "--data-dir",
        "--listen",
        "--http",
        "--user",
        "--password-file",
        "-c <KEY=VALUE>",
        "STARTDB_DATA_DIR",
    ] {
        assert!(text.contains(option), "{option} is not in:\n{text}");
    }
    let version = run(binary().arg("--version"));
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("startdb 0."));
    assert!(refused(binary().arg("strat")).contains("start"));
}

#[test]
fn the_same_thing_twice_names_both() {
    let (_folder, mut command) = fresh();
    let text = refused(command.env("POSTGRES_USER", "a").env("STARTDB_USER", "b"));
    assert!(text.contains("POSTGRES_USER") && text.contains("STARTDB_USER"), "{text}");
    let (_folder, mut command) = fresh();
    command.env("POSTGRES_PASSWORD", "a").env("POSTGRES_PASSWORD_FILE", "/nowhere");
    let text = refused(&mut command);
    assert!(text.contains("by POSTGRES_PASSWORD and by POSTGRES_PASSWORD_FILE"), "{text}");
}

/// Wherever a name comes from, the nearest one is named, and nothing is made.
#[test]
fn unknown_names_get_the_nearest() {
    let (folder, mut command) = fresh();
    let text = refused(command.args(["-c", "nothing.here=1"]));
    assert!(text.contains("nothing.here"), "{text}");
    let (_folder, mut command) = fresh();
    let text = refused(command.args(["-c", "network.listn=127.0.0.1:1"]));
    assert!(text.contains("did you mean \"network.listen\"?"), "{text}");
    let (_folder, mut command) = fresh();
    let text = refused(command.env("STARTDB_WAL__SEGMENT_SIZ", "1MB"));
    assert!(text.contains("STARTDB_WAL__SEGMENT_SIZ") && text.contains("wal.segment_size"), "{text}");
    let (_folder, mut command) = fresh();
    let text = refused(command.args(["-c", "work_men=1MB"]));
    assert!(text.contains("work_mem"), "{text}");
    let text = String::from_utf8_lossy(&run(binary().args(["start", "--lisen", "x"])).stderr).into_owned();
    assert!(text.contains("'--listen'"), "{text}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command.args(["--listen", &address, "--http", &free_address().to_string()]);
    let text = refused(command.arg("--data-dir").arg(folder.path().join("data")));
    assert!(text.contains(&address) && text.contains("--listen 127.0.0.1:5433"), "{text}");
    let mut command = binary();
    command.args(["--http", &address, "--listen", &free_address().to_string()]);
    let text = refused(command.arg("--data-dir").arg(folder.path().join("data")));
    assert!(text.contains(&address) && text.contains("--http"), "{text}");
}

#[test]
fn directories_that_are_not_ours_are_left_alone() {
    let (folder, mut command) = fresh();
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("thesis.tex"), "years of work").expect("written");
    let text = refused(&mut command);
    assert!(text.contains("not a StartDB data directory"), "{text}");
    assert_eq!(fs::read_dir(&data).expect("still there").count(), 1);

    let (folder, mut command) = fresh();
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("startdb.format"), "999\n").expect("written");
    let text = refused(&mut command);
    assert!(text.contains("999"), "{text}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let server = Server::start();
    let mut second = binary();
    second.args(["start", "--listen", &free_address().to_string(), "--http", &free_address().to_string()]);
    let text = refused(second.arg("--data-dir").arg(server.data()));
    assert!(text.contains("in use") || text.contains("another"), "{text}");
    server.connect().run("SELECT 1");
}

#[test]
fn the_first_start_makes_everything() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("deep/data");
    let (listen, http) = (free_address(), free_address());
    let log = fs::File::create(folder.path().join("log")).expect("a file");
    let mut child = binary()
        .args(["--listen", &listen.to_string(), "--http", &http.to_string(), "--user", "alice"])
        .arg("--data-dir")
        .arg(&data)
        .env("POSTGRES_DB", "shop")
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .spawn()
        .expect("the binary");
    let file = data.join("initial-password");
    let begin = Instant::now();
    while crate::server::get(http, "/readyz").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
        assert!(begin.elapsed() < Duration::from_secs(30), "not ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    let password = fs::read_to_string(&file).expect("the password's file").trim().to_owned();
    let mode = |path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&data)), (0o600, 0o700));
    let login = crate::client::Login {
        address: listen,
        user: String::from("alice"),
        password: password.clone(),
        database: String::from("shop"),
    };
    let mut client = login.connect();
    assert_eq!(client.value("SELECT current_user || ' ' || current_database()"), "alice shop");
    let databases = client.run("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
    let names: Vec<_> = databases.rows.iter().filter_map(|row| row[0].clone()).collect();
    assert_eq!(names, ["postgres", "shop", "template1"]);
    login.database("postgres").connect();
    let text = fs::read_to_string(folder.path().join("log")).expect("the log");
    assert!(text.contains("ready; connect with: psql"), "{text}");
    assert!(!text.contains(&password), "the password is in the log");
    // Not a terminal: every line of the log is JSON.
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
    child.kill().expect("killed");
    child.wait().expect("ended");
}

/// SIGINT ends those who are connected; SIGTERM waits for them, but not long.
#[test]
fn signals_stop_it_cleanly() {
    for signals in [&[Signal::INT][..], &[Signal::TERM], &[Signal::TERM, Signal::INT]] {
        let mut server = Server::start();
        let mut idle = server.connect();
        let mut busy = server.connect();
        busy.run("CREATE TABLE t (a int)");
        let begin = Instant::now();
        let busy = std::thread::spawn(move || busy.refusal("SELECT pg_sleep(60)"));
        std::thread::sleep(Duration::from_millis(200));
        for signal in signals {
            server.signal(*signal);
            std::thread::sleep(Duration::from_millis(300));
        }
        let status = server.wait(Duration::from_secs(15));
        let took = begin.elapsed();
        assert!(status.success(), "{status}\n{}", server.log());
        let (least, most) = if signals.contains(&Signal::INT) { (0, 4) } else { (5, 9) };
        assert!((least..most).contains(&took.as_secs()), "{signals:?}: {took:?}");
        // Clients are told why, not just cut off.
        assert_eq!(busy.join().expect("refused").state(), "57P01");
        if let Ok((tag, body)) = idle.receive() {
            assert_eq!(tag, b'E');
            assert!(String::from_utf8_lossy(&body).contains("57P01"));
        }
        server.launch();
        assert_eq!(server.connect().value("SELECT count(*) FROM t"), "0");
        // The second start says that passwords are no longer looked at.
        assert!(server.log().contains("password options are ignored"), "{}", server.log());
    }
}

/// After SIGTERM whoever is connected may end what was begun; nobody else gets in.
#[test]
fn a_transaction_ends_in_peace() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1)");
    let begin = Instant::now();
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    let refused = server.login().try_connect().err().expect("refused");
    assert_eq!(
        (refused.state(), refused.fields().message()),
        ("57P03", "the database system is shutting down")
    );
    assert!(
        crate::server::get(server.http, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503"))
    );
    client.run("INSERT INTO t VALUES (2); COMMIT");
    drop(client);
    assert!(server.wait(Duration::from_secs(4)).success());
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    server.launch();
    assert_eq!(server.connect().value("SELECT sum(a) FROM t"), "3");
    // With nobody there it ends at once.
    let begin = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait(Duration::from_secs(4)).success());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn settings_come_from_flags_and_environment() {
    let server = Server::start_with(&["work_mem=8MB", "TimeZone=Europe/Paris", "shared_buffers=256MB"]);
    let mut client = server.connect();
    assert_eq!(client.value("SHOW work_mem"), "8MB");
    assert_eq!(client.value("SHOW TimeZone"), "Europe/Paris");
    // What compose files give to PostgreSQL is taken and shown, though nothing depends on it here.
    assert_eq!(client.value("SHOW shared_buffers"), "256MB");
    client.run("SET work_mem = '9MB'; RESET work_mem");
    assert_eq!(client.value("SHOW work_mem"), "8MB");
    assert_eq!(server.login().password, PASSWORD);
}
