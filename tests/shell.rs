//! `startdb sql` as scripts and people use it: every way in and out, what it says when something is wrong, and (in tmux) the
//! keys a person presses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::Postgres;
use crate::programs::{self, have, said, succeed};
use crate::server::{PASSWORD, Server, binary, free_address};

/// The shell with the server in its environment, as libpq has it.
fn shell(server: &Server, arguments: &[&str]) -> Command {
    let mut command = binary();
    clean(&mut command);
    command
        .arg("sql")
        .args(arguments)
        .env("PGHOST", server.address.ip().to_string())
        .env("PGPORT", server.address.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
        .env("PGPASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .current_dir(server.folder());
    command
}

/// Nothing of the surroundings' own.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the shell")
}

fn out(command: &mut Command) -> String {
    succeed(command)
}

/// What it wrote to stderr, and its exit code.
fn refused(command: &mut Command) -> (String, i32) {
    let output = run(command);
    assert!(!output.status.success(), "{}", said(&output));
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap_or(-1))
}

fn with_input(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("ended")
}

#[test]
fn formats_for_programs_and_people() {
    let server = Server::start();
    const QUERY: &str = "SELECT 1 AS n, 'a,\"b' AS t, NULL AS x, true AS b UNION ALL SELECT 20, E'l1\\nl2', 'y', false ORDER BY 1";
    for (format, expected) in [
        ("csv", "n,t,x,b\n1,\"a,\"\"b\",,t\n20,\"l1\nl2\",y,f\n"),
        ("tsv", "n\tt\tx\tb\n1\ta,\"b\t\\N\tt\n20\tl1\\nl2\ty\tf\n"),
        (
            "json",
            "[\n {\"n\": 1, \"t\": \"a,\\\"b\", \"x\": null, \"b\": true},\n {\"n\": 20, \"t\": \"l1\\nl2\", \"x\": \"y\", \"b\": false}\n]\n",
        ),
        (
            "jsonl",
            "{\"n\": 1, \"t\": \"a,\\\"b\", \"x\": null, \"b\": true}\n{\"n\": 20, \"t\": \"l1\\nl2\", \"x\": \"y\", \"b\": false}\n",
        ),
        (
            "markdown",
            "| n | t | x | b |\n| ---: | --- | --- | --- |\n| 1 | a,\"b |  | t |\n| 20 | l1<br>l2 | y | f |\n",
        ),
    ] {
        assert_eq!(out(&mut shell(&server, &["-o", format, "-c", QUERY])), expected, "{format}");
    }
    // Tags are for people.
    assert_eq!(out(&mut shell(&server, &["-c", "CREATE TABLE t (a int)"])), "CREATE TABLE\n");
    assert_eq!(out(&mut shell(&server, &["-o", "csv", "-c", "INSERT INTO t VALUES (1)"])), "");
    assert_eq!(out(&mut shell(&server, &["-q", "-t", "-o", "unaligned", "-c", "TABLE t"])), "1\n");
    // Several -c and -f in their order; a large result streams.
    let script = server.folder().join("two.sql");
    fs::write(&script, "SELECT 2;").expect("written");
    let text =
        out(&mut shell(&server, &["-t", "-o", "csv", "-c", "SELECT 1", "-f", "two.sql", "-c", "SELECT 3"]));
    assert_eq!(text, "1\n2\n3\n");
    let text = out(&mut shell(&server, &["-o", "csv", "-c", "SELECT g FROM generate_series(1, 200000) g"]));
    assert_eq!(text.lines().count(), 200_001);
    let text =
        out(&mut shell(&server, &["-c", "SELECT g, repeat('x', 100) AS x FROM generate_series(1, 60000) g"]));
    assert_eq!(text.lines().count(), 60_004);
    assert!(text.trim_end().ends_with("(60000 rows)"));
}

#[test]
fn errors_point_at_the_place() {
    let server = Server::start();
    let (text, code) = refused(&mut shell(&server, &["-c", "SELECT *\n  FROM pg_clas"]));
    assert_eq!(code, 3);
    assert!(
        text.starts_with(
            "ERROR 42P01: relation \"pg_clas\" does not exist\nLINE 2:   FROM pg_clas\n               ^"
        ),
        "{text}"
    );

    let script = server.folder().join("broken.sql");
    fs::write(
        &script,
        "CREATE TABLE a (x int);\n\nINSERT INTO a\n  VALUES (1, 2);\nCREATE TABLE never (x int);\n",
    )
    .expect("written");
    let (text, code) = refused(&mut shell(&server, &["-f", "broken.sql"]));
    assert_eq!(code, 3);
    assert!(text.contains("broken.sql:4: ERROR 42601"), "{text}");
    assert!(text.contains('^'), "{text}");
    assert_eq!(server.connect().value("SELECT count(*) FROM pg_class WHERE relname IN ('a', 'never')"), "1");
    let (text, _) = refused(&mut shell(&server, &["-1", "-c", "CREATE TABLE b (x int)", "-f", "broken.sql"]));
    assert!(text.contains("broken.sql:1: ERROR 42P07"), "{text}");
    assert_eq!(server.connect().value("SELECT count(*) FROM pg_class WHERE relname = 'b'"), "0");

    for (input, place) in [
        ("SELECT 1;\nSELECT 'x\n", "<stdin>:2: ERROR: the quoted string"),
        ("\\nothing\n", "<stdin>:1: \\nothing"),
        ("\\i missing.sql\nSELECT 1;", "missing.sql"),
        ("SELECT 1;\n\\copy t FROM missing.csv\n", "missing.csv"),
    ] {
        let output = with_input(shell(&server, &[]), input);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(place), "{input}: {text}");
    }
    // In psql's words a script may go on, and must not believe that it does not commit.
    let output = with_input(shell(&server, &["-t"]), "\\set ON_ERROR_STOP off\nSELECT 1/0;\nSELECT 7;\n");
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains('7'),
        "{}",
        said(&output)
    );
    let output = with_input(shell(&server, &[]), "\\set AUTOCOMMIT off\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("BEGIN"), "{}", said(&output));
    // Hints reach the person.
    let (text, _) = refused(&mut shell(&server, &["-c", "SET work_men = 1"]));
    assert!(text.contains("HINT:  Perhaps you meant \"work_mem\"."), "{text}");
}

#[test]
fn connections_as_libpq_makes_them() {
    let server = Server::start();
    let (port, data) = (server.address.port(), server.data());
    let bare = || {
        let mut command = binary();
        clean(&mut command);
        command.arg("sql").stdin(Stdio::null()).current_dir(server.folder());
        command
    };
    let who = ["-t", "-o", "csv", "-c", "SELECT current_user || ' ' || current_database()"];
    let url = format!("postgresql://postgres:correct%20horse@127.0.0.1:{port}/template1?application_name=x");
    assert_eq!(out(bare().arg(&url).args(who)), "postgres template1\n");
    let words = format!("host=localhost port={port} user=postgres password='{PASSWORD}' dbname=postgres");
    assert_eq!(out(bare().arg(&words).args(who)), "postgres postgres\n");
    // The local server, by its socket: no arguments at all but the password.
    assert_eq!(
        out(bare().env("PGPASSWORD", PASSWORD).arg("--data-dir").arg(&data).args(who)),
        "postgres postgres\n"
    );

    let passfile = server.folder().join("pgpass");
    fs::write(&passfile, format!("127.0.0.1:{port}:*:postgres:{PASSWORD}\n")).expect("written");
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).expect("chmod");
    let services = server.folder().join("services");
    fs::write(&services, format!("[shop]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname=template1\n"))
        .expect("written");
    let mut command = bare();
    command.env("PGSERVICE", "shop").env("PGSERVICEFILE", &services).env("PGPASSFILE", &passfile);
    assert_eq!(out(command.args(who)), "postgres template1\n");

    // TLS: what each mode checks.
    let root = data.join("server.crt");
    let tls = |mode: &str, host: &str, more: &str| {
        let mut command = bare();
        command
            .arg(format!("host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres sslmode={mode} {more}"))
            .args(["-t", "-o", "csv", "-c", "\\conninfo"])
            .env("PGPASSWORD", PASSWORD);
        command
    };
    let verified = format!("sslrootcert='{}'", root.display());
    for (mode, host, more) in [
        ("prefer", "anything", ""),
        ("require", "anything", "channel_binding=require"),
        ("verify-ca", "anything", verified.as_str()),
        ("verify-full", "localhost", verified.as_str()),
        ("require", "localhost", "sslnegotiation=direct"),
    ] {
        let text = out(&mut tls(mode, host, more));
        assert!(text.contains("TLS connection (TLSv1.3"), "{mode}: {text}");
    }
    assert!(!out(&mut tls("disable", "localhost", "")).contains("TLS"));
    for (mode, host, more, part) in [
        ("verify-full", "wrong.example", verified.as_str(), "could not connect"),
        ("verify-full", "localhost", "", "sslrootcert"),
        ("verify-ca", "localhost", "sslrootcert=/nowhere", "/nowhere"),
    ] {
        let (text, code) = refused(&mut tls(mode, host, more));
        assert!(code == 2 && text.contains(part), "{mode}: {code} {text}");
    }

    let closed = free_address();
    for (arguments, code, part) in [
        (vec![format!("postgresql://a:b@{closed}/x")], 2, "startdb start"),
        (vec![format!("postgresql://postgres:wrong@127.0.0.1:{port}/x")], 2, "28P01"),
        (vec![format!("postgresql://postgres:correct%20horse@127.0.0.1:{port}/missing")], 2, "3D000"),
        (vec![format!("postgresql://postgres@127.0.0.1:{port}/postgres")], 2, "PGPASSWORD"),
        (vec!["postgresql://h/x?sslmod=require".to_owned()], 1, "did you mean \"sslmode\""),
        (vec!["host=h sslcert=x".to_owned()], 1, "not supported"),
        (vec!["--outptu".to_owned(), "csv".to_owned()], 1, "--output"),
        (vec!["-o".to_owned(), "xml".to_owned()], 1, "markdown"),
    ] {
        let mut command = bare();
        // Without a controlling terminal nobody is asked for a password.
        command.args(&arguments).args(["-c", "SELECT 1"]);
        let (text, got) = refused(&mut without_terminal(command));
        assert!(got == code && text.contains(part), "{arguments:?}: {got} {text}");
    }
}

/// In a session of its own, so that there is no terminal to ask at.
fn without_terminal(command: Command) -> Command {
    let mut detached = Command::new("setsid");
    detached.arg("--wait").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => detached.env(name, value),
            None => detached.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        detached.current_dir(folder);
    }
    detached.stdin(Stdio::null());
    detached
}

#[test]
fn scripts_with_commands() {
    let server = Server::start();
    let folder = server.folder();
    fs::create_dir(folder.join("parts")).expect("made");
    fs::write(folder.join("parts/table.sql"), "CREATE TABLE :\"name\" (id int, note text);\n\\ir rows.sql\n")
        .expect("written");
    fs::write(
        folder.join("parts/rows.sql"),
        "COPY items FROM stdin;\n1\tone; 'quoted\n2\t\\N\n\\.\n\\copy items FROM more.csv WITH (FORMAT csv)\n",
    )
    .expect("written");
    fs::write(folder.join("more.csv"), "3,\"th,ree\"\n4,\n").expect("written");
    fs::write(
        folder.join("main.sql"),
        r#"\set name items
\i parts/table.sql
\pset format csv
\t on
SELECT count(*) FROM :"name"; SELECT :'name';
SELECT max(id) AS biggest FROM items \gset
\echo biggest is :biggest
SELECT format('SELECT %s + 1', biggest) FROM (SELECT :biggest AS biggest) x \gexec
\copy (SELECT * FROM items ORDER BY id) TO out.csv CSV HEADER
\copy items TO program 'sort -r > sorted.txt'
SELECT 'kept' \g kept.txt
\o rest.txt
SELECT 'rest';
\o
SELECT 1 \watch 0.01 c=2
SELECT 'last'
"#,
    )
    .expect("written");
    let text = out(&mut shell(&server, &["-q", "-f", "main.sql"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, ["4", "items", "biggest is 4", "5", "1", "1", "last"], "{text}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
    assert_eq!(read("out.csv"), "id,note\n1,one; 'quoted\n2,\n3,\"th,ree\"\n4,\n");
    assert_eq!(read("sorted.txt"), "4\t\\N\n3\tth,ree\n2\t\\N\n1\tone; 'quoted\n");
    assert_eq!((read("kept.txt").as_str(), read("rest.txt").as_str()), ("kept\n", "rest\n"));
    // Standard input, variables from the command line, another database.
    server.connect().run("CREATE DATABASE other");
    let output = with_input(
        shell(&server, &["-q", "-t", "-o", "csv", "-v", "limit=2"]),
        "SELECT id FROM items ORDER BY id LIMIT :limit;\n\\c other\nSELECT current_database();\n",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\nother\n", "{}", said(&output));
    // A reader that leaves early ends it without noise.
    let pipe = format!(
        "{} sql -o csv -c 'SELECT g FROM generate_series(1, 10000000) g' | head -1",
        env!("CARGO_BIN_EXE_startdb")
    );
    let begin = Instant::now();
    let mut command = Command::new("sh");
    clean(&mut command);
    command.args(["-c", &pipe]).env("PGHOST", "127.0.0.1").env("PGPORT", server.address.port().to_string());
    let output = run(command.env("PGUSER", "postgres").env("PGPASSWORD", PASSWORD));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "g\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// Parts of a script that depend on a value, and several commands on a line, are as in psql.
#[test]
fn conditions_are_those_of_psql() {
    if !have(&["psql"]) {
        return;
    }
    let server = Server::start();
    let file = server.folder().join("if.sql");
    let script = r#"\if true
select 1 as a;
\elif true
select 2;
\else
select 3;
\endif
\if off
select 4;
\elif yes
select 5;
\endif
select
\if 0
 6
\else
 7
\endif
;
\if maybe
\echo no
\else
\echo else
\endif
\set x 1
\if :{?x} \echo defined \else \echo undefined \endif
\if :{?y} \echo defined \else \echo undefined \endif
select 9 as n, 'it''s' as q \gset \echo :n
\set y 5 \\ select :y, :'q';
\if false
\if true
\echo inner
\else
\echo other
\endif
\echo :nothing
select 'a;
b';
\! echo never
\endif
\echo 'a \\ b' done \x \\ select 1 as one, 2 as two;
"#;
    fs::write(&file, script).expect("written");
    let theirs = succeed(server.libpq("psql").args(["-X", "-q", "-f"]).arg(&file));
    let output = run(shell(&server, &["-q", "-f"]).arg(&file));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), theirs);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("if.sql:20: unrecognized value \"maybe\" for \"\\if expression\""), "{said}");
    for (text, line, message) in [
        ("\\else\n", 1, "\\else: no matching \\if"),
        ("\\if 1\n\\else\n\\elif 1\n\\endif\n", 3, "\\elif: cannot occur after \\else"),
        ("\n\\if 1\n", 2, "the file ends before \\endif"),
    ] {
        fs::write(&file, text).expect("written");
        let (said, code) = refused(shell(&server, &["-q", "-f"]).arg(&file));
        assert!(code == 3 && said.contains(&format!("if.sql:{line}:")) && said.contains(message), "{said}");
    }
}

const SCHEMA: &str = r"
CREATE SCHEMA shop;
CREATE TABLE shop.customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(40) NOT NULL, email text UNIQUE,
  credit numeric(10,2) DEFAULT 0.00 NOT NULL CHECK (credit >= 0.00), tags text[]);
CREATE TABLE shop.purchase (id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES shop.customer ON DELETE CASCADE,
  amount numeric NOT NULL, CONSTRAINT sane CHECK (amount > 0.0));
CREATE INDEX purchase_big ON shop.purchase (amount) WHERE amount > 100.0;
CREATE VIEW shop.spent AS SELECT c.name, sum(p.amount) AS total FROM shop.customer c JOIN shop.purchase p ON p.customer = c.id GROUP BY c.name;
CREATE SEQUENCE shop.numbers START 100 INCREMENT 5;
CREATE ROLE clerk LOGIN CONNECTION LIMIT 5;
CREATE TABLE here (a int, b text);
INSERT INTO shop.customer (name, email, tags) VALUES ('Ann', 'ann@x', '{a,b}'), (E'two\nlines', NULL, NULL), ('日本', 'x', '{}');
";

/// Where psql and this shell show the same.
const SAME: &[&str] = &[
    "SELECT * FROM shop.customer ORDER BY id;",
    "SELECT 1 AS \"a long heading\", 'x' AS y, NULL AS z;",
    "SELECT;",
    "SELECT 1 AS x WHERE false;",
    "INSERT INTO here VALUES (1, 'x'), (2, E'tab\\tbell\\x07') RETURNING a;",
    "UPDATE here SET a = a + 1;",
    "TABLE here;",
    "\\x\nSELECT * FROM shop.customer ORDER BY id;\nSELECT 1 AS x WHERE false;\n\\x",
    "\\x\nSELECT 1 AS a;\nSELECT 1 AS a, 'four' AS second;\n\\x",
    "\\t\nSELECT 1, 2;\n\\t",
    "\\a\nSELECT 1 AS a, 'x' AS b;\n\\a",
    "\\pset null (null)\nSELECT NULL AS a;\n\\pset null ''",
    "\\pset border 2\nSELECT 1 AS a, E'x\\ny' AS b;\n\\pset border 0\nSELECT 1 AS a, 'x' AS b, 3 AS c;\n\\pset border 1",
    "SELECT 1 AS one, 'x' AS two \\gx",
    "\\d shop.customer",
    "\\d shop.purchase",
    "\\d shop.spent",
    "\\d+ shop.spent",
    "\\d shop.purchase_big",
    "\\d shop.customer_pkey",
    "\\d shop.numbers",
    "\\d shop.customer_id_seq",
    "\\d",
    "\\dt",
    "\\dt shop.*",
    "\\di shop.*",
    "\\dv shop.*",
    "\\ds shop.*",
    "\\dtv shop.*",
    "\\dn",
    "\\du clerk",
    "\\db",
    "\\dconfig work_mem",
    "ALTER ROLE clerk SET work_mem = '1MB';\n\\drds\n\\drds nobody",
    "\\sv shop.spent",
    "\\sf pg_catalog.upper(text)",
    "\\echo a 'b c' :x",
    "\\set x 5\nSELECT :x AS x, :'x' AS t;",
];

#[test]
fn results_look_as_in_psql() {
    if !have(&["psql"]) {
        return;
    }
    let server = Server::start();
    out(shell(&server, &["-q", "-c", SCHEMA]).env("PGCLIENTENCODING", "UTF8"));
    let file = server.folder().join("same.sql");
    let mut different = Vec::new();
    for text in SAME {
        fs::write(&file, format!("{text}\n")).expect("written");
        let reset = "UPDATE here SET a = 1 WHERE false; DELETE FROM here; INSERT INTO here VALUES (1, 'x')";
        server.connect().run(reset);
        let theirs = run(server.libpq("psql").args(["-X", "-P", "pager=off", "-f"]).arg(&file));
        server.connect().run(reset);
        let ours = run(shell(&server, &["-f"]).arg(&file));
        let (theirs, ours) = (String::from_utf8_lossy(&theirs.stdout), String::from_utf8_lossy(&ours.stdout));
        if theirs != ours {
            different.push(format!("==== {text}\n---- psql\n{theirs}---- startdb sql\n{ours}"));
        }
    }
    assert!(different.is_empty(), "{} of {} differ\n{}", different.len(), SAME.len(), different.join("\n"));
}

#[test]
fn a_dump_of_pg_dump_is_a_script() {
    if !have(&["pg_dump"]) {
        return;
    }
    let Some(postgres) = Postgres::shared() else { return };
    let mut admin = postgres.login().connect();
    admin.run("DROP DATABASE IF EXISTS dumped");
    admin.run("CREATE DATABASE dumped");
    let mut source = postgres.login().database("dumped").connect();
    source.run(&SCHEMA.replace("CREATE ROLE clerk LOGIN CONNECTION LIMIT 5;", ""));
    let dump = succeed(postgres.libpq("pg_dump").args(["--no-owner", "--dbname", "dumped"]));
    assert!(dump.contains("FROM stdin;"), "{dump}");
    let server = Server::start();
    let file = server.folder().join("dump.sql");
    fs::write(&file, dump).expect("written");
    out(shell(&server, &["-q", "-t", "-f"]).arg(&file));
    for rows in [
        "SELECT count(*) || ' ' || max(name) FROM shop.customer",
        "SELECT last_value FROM shop.customer_id_seq",
    ] {
        assert_eq!(server.connect().value(rows), source.value(rows));
    }
}

#[test]
fn ctrl_c_cancels_the_statement() {
    let server = Server::start();
    let child = shell(&server, &["-c", "SELECT pg_sleep(60)"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell");
    let mut watcher = server.connect();
    let begin = Instant::now();
    while watcher.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()") == "0" {
        assert!(begin.elapsed() < Duration::from_secs(20), "the statement does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).expect("signalled");
    let output = child.wait_with_output().expect("ended");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("57014"), "{}", said(&output));
}

/// A terminal of its own, as a person has it.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn open(server: &Server, arguments: &str) -> Terminal {
        let terminal = Terminal { socket: format!("startdb-test-{}", server.address.port()) };
        let command = format!(
            "env -i PATH={} HOME={} TERM=screen PAGER='less' PGPASSWORD='{PASSWORD}' {} sql {arguments}; echo ended with $?; sleep 60",
            std::env::var("PATH").unwrap_or_default(),
            server.folder().display(),
            env!("CARGO_BIN_EXE_startdb"),
        );
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        succeed(programs::command("tmux").args(["-L", &self.socket]).args(arguments))
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"][..], keys].concat());
    }

    /// Types a text and presses Enter.
    fn line(&self, text: &str) {
        // A semicolon at the end would be tmux's own.
        let text = text.strip_suffix(';').map_or(text.to_owned(), |text| format!("{text}\\;"));
        self.tmux(&["send-keys", "-l", &text]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait_for(&self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "no {text:?} on\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn clear(&self) {
        self.keys(&["C-l"]);
        self.wait_for("startdb[");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = programs::command("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

#[test]
fn a_person_at_a_terminal() {
    if !have(&["tmux"]) {
        return;
    }
    let server = Server::start();
    server.connect().run("CREATE TABLE orders (id int, status text, total numeric)");
    server.connect().run("CREATE DATABASE shop");
    let terminal = Terminal::open(
        &server,
        &format!("postgresql://postgres@127.0.0.1:{}/postgres", server.address.port()),
    );
    terminal.wait_for("startdb[postgres]>");

    // Time per statement; statements of several lines; tags.
    terminal.line("select 1");
    terminal.line("  as one;");
    let screen = terminal.wait_for("(1 row)");
    assert!(screen.contains(" one\n-----\n   1"), "{screen}");
    assert!(screen.contains("OK ("), "{screen}");
    // Completion from the catalog: a relation behind FROM, its columns behind WHERE.
    terminal.clear();
    terminal.tmux(&["send-keys", "-l", "select * from ord"]);
    terminal.keys(&["Tab"]);
    terminal.wait_for("from orders");
    terminal.tmux(&["send-keys", "-l", " where sta"]);
    terminal.keys(&["Tab"]);
    terminal.wait_for("where status");
    // Colours while typing.
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(coloured.contains("\u{1b}[34mselect"), "{coloured:?}");
    terminal.line(" = 'x';");
    terminal.wait_for("(0 rows)");
    // An error with its caret, and a failed transaction in the prompt.
    terminal.clear();
    terminal.line("begin;");
    terminal.wait_for("startdb[postgres]*>");
    terminal.line("select * from ordrs;");
    let screen = terminal.wait_for("startdb[postgres]!>");
    assert!(screen.contains("ERROR 42P01") && screen.contains("LINE 1: select * from ordrs;"), "{screen}");
    let lines: Vec<&str> = screen.lines().collect();
    let place = lines.iter().position(|line| line.starts_with("LINE 1")).expect("the line");
    assert_eq!(lines[place + 1].find('^'), lines[place].find("ordrs"), "{screen}");
    terminal.line("rollback;");
    terminal.wait_for("ROLLBACK");
    // Progress of a long statement, and Ctrl-C that cancels it and nothing more.
    terminal.clear();
    terminal.line("select pg_sleep(50);");
    terminal.wait_for("running for");
    terminal.keys(&["C-c"]);
    terminal.wait_for("57014");
    terminal.wait_for("startdb[postgres]>");
    // Commands: another database, \d without a name, \x.
    terminal.clear();
    terminal.line("\\c shop");
    terminal.wait_for("startdb[shop]>");
    terminal.line("\\c postgres");
    terminal.wait_for("connected to database \"postgres\"");
    terminal.wait_for("\nstartdb[postgres]>");
    terminal.line("\\d");
    terminal.wait_for("orders");
    // What is typed while a statement runs is not lost.
    terminal.clear();
    terminal.line("select pg_sleep(0.3);");
    terminal.line("select 'typed ' || 'ahead';");
    terminal.wait_for("typed ahead");
    // The pager comes only for what does not fit.
    terminal.clear();
    if have(&["less"]) {
        terminal.line("select g from generate_series(1, 500) g;");
        terminal.wait_for("\n:");
        terminal.keys(&["q"]);
        terminal.wait_for("startdb[postgres]>");
        terminal.clear();
    }
    // History keeps a statement of several lines whole.
    terminal.line("select 41");
    terminal.line(" + 1 as answer;");
    terminal.wait_for("42");
    terminal.clear();
    terminal.keys(&["Up"]);
    terminal.wait_for("+ 1 as answer;");
    terminal.keys(&["Enter"]);
    terminal.wait_for("42");
    terminal.line("create role r password 'secret-word';");
    terminal.wait_for("CREATE ROLE");
    terminal.line("\\q");
    terminal.wait_for("ended with 0");
    let history = fs::read_to_string(server.folder().join(".startdb_history")).expect("a history");
    assert!(history.contains("answer") && !history.contains("secret-word"), "{history}");
    assert_eq!(mode(&server.folder().join(".startdb_history")), 0o600);
}

#[test]
fn a_lost_connection_says_why_and_comes_back() {
    if !have(&["tmux"]) {
        return;
    }
    let mut server = Server::start();
    let terminal = Terminal::open(
        &server,
        &format!("postgresql://postgres@127.0.0.1:{}/postgres", server.address.port()),
    );
    terminal.wait_for("startdb[postgres]>");
    server.terminate();
    terminal.line("select 1;");
    let screen = terminal.wait_for("startdb[not connected]>");
    assert!(screen.contains("57P01"), "{screen}");
    server.launch();
    terminal.line("\\c");
    terminal.wait_for("You are now connected");
    terminal.line("select 40 + 2;");
    terminal.wait_for("42");
}

#[test]
fn the_password_is_asked_for() {
    if !have(&["tmux"]) {
        return;
    }
    let server = Server::start();
    let arguments = format!("\"user=postgres host=127.0.0.1 port={}\"", server.address.port());
    let terminal = Terminal { socket: format!("startdb-ask-{}", server.address.port()) };
    let command = format!(
        "env -i HOME=/nonexistent TERM=screen {} sql {arguments}; echo ended with $?; sleep 60",
        env!("CARGO_BIN_EXE_startdb")
    );
    terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
    terminal.wait_for("Password for user postgres:");
    terminal.line(PASSWORD);
    let screen = terminal.wait_for("startdb[postgres]>");
    assert!(!screen.contains(PASSWORD), "{screen}");
    terminal.line("quit");
    terminal.wait_for("ended with 0");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}
