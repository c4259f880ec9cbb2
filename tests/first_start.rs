//! The first start: scripts of initdb.d, what a container's main process refuses, what a failed start leaves behind; and the programs
//! around a server: health check, forgotten passwords, configuration.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Login;
use crate::programs::{self, have, said, succeed};
use crate::server::{PASSWORD, Server, binary, free_address, get};

/// A place for one server with scripts of its first start.
struct Place {
    folder: TempDir,
    listen: SocketAddr,
    http: SocketAddr,
}

impl Place {
    fn new(scripts: &[(&str, &str)]) -> Place {
        let folder = tempfile::Builder::new().prefix("startdb-first-").tempdir().expect("a directory");
        fs::create_dir(folder.path().join("initdb.d")).expect("made");
        let place = Place { folder, listen: free_address(), http: free_address() };
        for (name, text) in scripts {
            fs::write(place.script(name), text).expect("written");
        }
        place
    }

    fn script(&self, name: &str) -> PathBuf {
        self.folder.path().join("initdb.d").join(name)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Command {
        let mut command = binary();
        command
            .args(["start", "--listen", &self.listen.to_string(), "--http", &self.http.to_string()])
            .arg("--data-dir")
            .arg(self.data())
            .arg("-c")
            .arg(format!("init.directory={}", self.folder.path().join("initdb.d").display()))
            .env("POSTGRES_PASSWORD", PASSWORD)
            .env("STARTDB", env!("CARGO_BIN_EXE_startdb"))
            .env("PLACE", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn spawn(&self) -> Child {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        self.start().stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("the binary")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_ready(&self, child: &mut Child) {
        let begin = Instant::now();
        while get(self.http, "/readyz").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            assert!(child.try_wait().expect("a status").is_none(), "it ended\n{}", self.log());
            assert!(begin.elapsed() < Duration::from_secs(60), "not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn login(&self, user: &str, database: &str) -> Login {
        Login {
            address: self.listen,
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            database: database.to_owned(),
        }
    }

    fn health(&self) -> Option<i32> {
        health(&self.data()).status.code()
    }
}

fn health(data: &Path) -> Output {
    binary().arg("healthcheck").arg("--data-dir").arg(data).output().expect("the binary")
}

fn stop(child: &mut Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(child), signal).expect("signalled");
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a status") {
            return status.code();
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "still running after 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refused(command: &mut Command) -> String {
    let output = command.output().expect("the binary");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn scripts_run_once_before_the_first_client() {
    let place = Place::new(&[
        (
            "10-tables.sql",
            "CREATE TABLE steps (n serial, what text);\nINSERT INTO steps (what) VALUES ('sql');\nCOPY steps (what) FROM stdin;\ncopied\n\\.\n",
        ),
        (
            "30-source.sh",
            "\"$STARTDB\" sql -q -c \"INSERT INTO steps (what) VALUES ('sourced as $POSTGRES_USER')\"\n",
        ),
        (
            "40-run.sh",
            "#!/bin/sh\nset -e\n\"$STARTDB\" healthcheck --data-dir \"$PLACE/data\" 2>/dev/null && exit 7\n\
             \"$STARTDB\" sql -q -c \"INSERT INTO steps (what) VALUES ('run')\"\n\
             touch \"$PLACE/inside\"\nwhile [ -e \"$PLACE/inside\" ]; do sleep 0.02; done\n",
        ),
        ("50-other.txt", "not a script"),
    ]);
    fs::set_permissions(place.script("40-run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    for (name, program) in [("20-a.sql.gz", "gzip"), ("21-b.sql.xz", "xz"), ("22-c.sql.zst", "zstd")] {
        if have(&[program]) {
            let plain = place.script(name).with_extension("");
            fs::write(&plain, format!("INSERT INTO steps (what) VALUES ('{program}');\n")).expect("written");
            let packed = Command::new(program).arg("-c").arg(&plain).output().expect("packed");
            fs::write(place.script(name), packed.stdout).expect("written");
            fs::remove_file(plain).expect("removed");
        }
    }
    let mut command = place.start();
    command.env("POSTGRES_USER", "alice");
    let log = fs::File::create(place.folder.path().join("log")).expect("a log");
    let mut child =
        command.stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("the binary");
    let inside = place.folder.path().join("inside");
    let begin = Instant::now();
    while !inside.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the scripts do not run\n{}", place.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The port is closed, and the health check says so, until the last script is done.
    assert!(TcpStream::connect(place.listen).is_err());
    assert_eq!(place.health(), Some(4));
    // The HTTP port tells it lives, and is not ready.
    let answer = |path: &str| get(place.http, path).unwrap_or_default();
    let begin = Instant::now();
    while !answer("/readyz").starts_with("HTTP/1.1 503") {
        assert!(begin.elapsed() < Duration::from_secs(5), "{}", answer("/readyz"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(answer("/readyz").contains("the first start is not done"), "{}", answer("/readyz"));
    assert!(answer("/livez").starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(place.listen).is_err());
    fs::remove_file(&inside).expect("removed");
    place.wait_ready(&mut child);
    assert_eq!(place.health(), Some(0));
    let mut client = place.login("alice", "alice").connect();
    let steps = client.value("SELECT string_agg(what, ' ' ORDER BY n) FROM steps");
    let packed: Vec<&str> = ["gzip", "xz", "zstd"].into_iter().filter(|name| have(&[name])).collect();
    assert_eq!(steps, format!("sql copied {} sourced as alice run", packed.join(" ")).replace("  ", " "));
    assert_eq!(stop(&mut child, Signal::INT), Some(0));
    assert_eq!(place.health(), Some(4));
    let mut command = place.start();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
    place.wait_ready(&mut child);
    assert_eq!(
        place.login("alice", "alice").connect().value("SELECT count(*) FROM steps"),
        (4 + packed.len()).to_string()
    );
    stop(&mut child, Signal::TERM);
}

#[test]
fn a_broken_script_leaves_nothing() {
    for (name, text, parts) in [
        (
            "1.sql",
            "CREATE TABLE t (a int);\n\nSELECT a,\n  bb FROM t;\n",
            vec![
                "1.sql:4: ERROR 42703",
                "LINE 2:   bb FROM t;",
                "          ^",
                "1.sql\" of the first start failed",
            ],
        ),
        ("1.sql", "SELECT 'open\n", vec!["1.sql:1: ERROR", "quoted string"]),
        ("1.sql.gz", "not packed", vec!["1.sql.gz", "failed"]),
        ("1.sh", "exit 3\n", vec!["1.sh", "exit status: 3"]),
        ("1.sh", "no_such_command_at_all\n", vec!["1.sh", "failed"]),
    ] {
        let place = Place::new(&[(name, text)]);
        let text = refused(&mut place.start());
        for part in parts {
            assert!(text.contains(part), "{name}: {part:?} is not in\n{text}");
        }
        assert!(!place.data().exists(), "{name}: {text}");
    }
    // A directory that was there stays, with what was in it.
    let place = Place::new(&[("1.sql", "SELEC 1;")]);
    fs::create_dir_all(place.data().join("lost+found")).expect("made");
    refused(&mut place.start());
    let left: Vec<_> =
        fs::read_dir(place.data()).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lost+found"]);
    // And the next start, with the script put right, is a first start again.
    fs::write(place.script("1.sql"), "CREATE TABLE fine (a int);").expect("written");
    let mut child = place.spawn();
    place.wait_ready(&mut child);
    place.login("postgres", "postgres").connect().run("TABLE fine");
    stop(&mut child, Signal::INT);
}

#[test]
fn a_first_start_that_is_stopped_or_killed() {
    let script = "\"$STARTDB\" sql -q -c 'CREATE TABLE half (a int)'\ntouch \"$PLACE/inside\"\nsleep 60\n";
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new(&[("1.sh", script)]);
        let mut child = place.spawn();
        wait_for(&place.folder.path().join("inside"), &place);
        assert!(stop(&mut child, signal).is_some_and(|code| code > 128));
        assert!(!place.data().exists());
    }
    let place = Place::new(&[("1.sh", script)]);
    let mut child = place.spawn();
    wait_for(&place.folder.path().join("inside"), &place);
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(place.data().exists());
    fs::write(place.script("1.sh"), "true\n").expect("written");
    let mut child = place.spawn();
    place.wait_ready(&mut child);
    assert!(place.log().contains("begins anew"), "{}", place.log());
    let found = place
        .login("postgres", "postgres")
        .connect()
        .value("SELECT count(*) FROM pg_class WHERE relname = 'half'");
    assert_eq!(found, "0");
    stop(&mut child, Signal::INT);
}

fn wait_for(file: &Path, place: &Place) {
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "no {}\n{}", file.display(), place.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_container_needs_a_password_or_trust() {
    let place = Place::new(&[]);
    let text = refused(place.start().env_remove("POSTGRES_PASSWORD").env("STARTDB_CONTAINER", "1"));
    assert!(text.contains("POSTGRES_PASSWORD") && text.contains("POSTGRES_HOST_AUTH_METHOD=trust"), "{text}");
    assert!(!place.data().exists());
    let text = refused(place.start().env("POSTGRES_PASSWORD", "").env("STARTDB_CONTAINER", "1"));
    assert!(text.contains("POSTGRES_PASSWORD"), "{text}");
    let file = place.folder.path().join("secret");
    fs::write(&file, "from a file\n").expect("written");
    let text = refused(place.start().env("POSTGRES_PASSWORD_FILE", &file));
    assert!(text.contains("by POSTGRES_PASSWORD and by POSTGRES_PASSWORD_FILE"), "{text}");

    let mut command = place.start();
    command
        .env_remove("POSTGRES_PASSWORD")
        .env("POSTGRES_HOST_AUTH_METHOD", "trust")
        .env("STARTDB_CONTAINER", "1");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
    place.wait_ready(&mut child);
    assert_eq!(place.health(), Some(0));
    let output = binary()
        .args(["sql", "-t", "-o", "csv", "-c", "SELECT current_user"])
        .arg(format!("postgresql://postgres@{}/postgres", place.listen))
        .stdin(Stdio::null())
        .output()
        .expect("the binary");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "postgres\n", "{}", said(&output));
    stop(&mut child, Signal::TERM);
}

/// Needs the right to mount: a volume at PostgreSQL's place, and a disk that is full.
#[test]
fn volumes_and_full_disks() {
    let mounts = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !mounts.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: file systems cannot be mounted here");
        return;
    }
    let place = Place::new(&[]);
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]);
        let start = place.start();
        for (name, value) in start.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env("DATA", place.data())
            .env("LISTEN", place.listen.to_string())
            .env("HTTP", place.http.to_string());
        command
    };
    let start = "timeout 20 \"$STARTDB\" start --listen $LISTEN --http $HTTP --data-dir";
    let text = refused(
        inside(&format!("mkdir -p /var/lib/postgresql && mount -t tmpfs none /var/lib/postgresql && exec {start} \"$DATA\""))
            .env("STARTDB_CONTAINER", "1"),
    );
    assert!(text.contains("a volume is mounted at \"/var/lib/postgresql\" and would not be used"), "{text}");
    assert!(!place.data().exists());
    for size in ["4k", "40k", "400k", "4m"] {
        let script = format!(
            "mount -t tmpfs -o size={size} none /mnt && mkdir /mnt/lost+found && {start} /mnt; code=$?; ls -A /mnt; exit $code"
        );
        let output = inside(&script).output().expect("sh");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{size}: {}", said(&output));
        assert!(
            text.to_lowercase().contains("no space left") || text.contains("53100") || text.contains("room"),
            "{size}: {text}"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "lost+found", "{size}: {text}");
    }
}

#[test]
fn directories_that_cannot_be_used() {
    let place = Place::new(&[]);
    fs::write(place.data(), "a file").expect("written");
    assert!(refused(&mut place.start()).contains("is not a directory"));
    fs::remove_file(place.data()).expect("removed");

    // A port that is taken is known before anything is made.
    let taken = std::net::TcpListener::bind(place.listen).expect("the port");
    assert!(refused(&mut place.start()).contains("--listen 127.0.0.1:5433"));
    drop(taken);
    let taken = std::net::TcpListener::bind(place.http).expect("the port");
    assert!(refused(&mut place.start()).contains("--http"));
    drop(taken);
    assert!(!place.data().exists());

    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped the rest: only root can be another user");
        return;
    }
    // The program lies where others may not go; a link to it, where they may.
    let program = place.folder.path().join("startdb");
    if fs::hard_link(env!("CARGO_BIN_EXE_startdb"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_startdb"), &program).expect("copied");
    }
    let as_nobody = |place: &Place| {
        let start = place.start();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(start.get_args());
        for (name, value) in start.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    };
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let text = refused(&mut as_nobody(&place));
    assert!(
        text.contains("Permission denied") && text.contains("65534") && text.contains("--data-dir"),
        "{text}"
    );
    assert!(!place.data().exists());
    let mut child = place.spawn();
    place.wait_ready(&mut child);
    stop(&mut child, Signal::INT);
    let text = refused(&mut as_nobody(&place));
    assert!(text.contains("Permission denied") || text.contains("wrong ownership"), "{text}");
    std::os::unix::fs::chown(place.data().join("startdb.format"), Some(65534), Some(65534)).expect("chown");
    let text = refused(&mut place.start());
    assert!(text.contains("wrong ownership") && text.contains("65534"), "{text}");
}

#[test]
fn the_health_check_tells_the_truth() {
    let mut server = Server::start();
    let code = |server: &Server| health(&server.data()).status.code();
    assert_eq!(code(&server), Some(0));
    let file = server.data().join(".healthcheck");
    let before = fs::read_to_string(&file).expect("the file");
    assert_eq!(fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, 0o600);
    // The role runs SELECT 1 and nothing else, and only with the secret.
    let address = server.address;
    let login = |secret: &str| Login {
        address,
        user: "startdb_healthcheck".to_owned(),
        password: secret.to_owned(),
        database: "postgres".to_owned(),
    };
    let mut client = login(before.lines().next().expect("the secret")).connect();
    assert_eq!(client.value("SELECT 1"), "1");
    for text in ["SELECT 2", "SELECT 1; SELECT 1", "TABLE pg_authid", "SET role postgres", "BEGIN"] {
        assert_eq!(client.refusal(text).state(), "42501", "{text}");
    }
    assert!(client.extended("SELECT 1", &[]).is_err());
    assert!(login("guess").try_connect().is_err_and(|failure| failure.state() == "28P01"));
    server.kill();
    assert!(file.exists());
    assert_eq!(code(&server), Some(4));
    server.launch();
    let after = fs::read_to_string(&file).expect("the file");
    assert_ne!(before.lines().next(), after.lines().next());
    assert_eq!(code(&server), Some(0));
    assert!(login(before.lines().next().expect("the old secret")).try_connect().is_err());
    server.terminate();
    assert!(!file.exists());
    assert_eq!(code(&server), Some(4));
    let output = health(Path::new("/nowhere"));
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    // Another address than the one it listens on.
    server.launch();
    let output = binary()
        .args(["healthcheck", "--listen", &free_address().to_string(), "--data-dir"])
        .arg(server.data())
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
}

/// A server that is full of clients is well: the check gets a place of those kept for superusers.
#[test]
fn the_health_check_finds_a_place() {
    let server = Server::start_with(&["network.max_connections=4", "network.reserved_connections=1"]);
    server.connect().run("CREATE ROLE clerk LOGIN PASSWORD 'x'");
    let login = server.login().user("clerk", "x");
    let mut clients = Vec::new();
    let refusal = loop {
        match login.try_connect() {
            Ok(client) => clients.push(client),
            Err(failure) => break failure,
        }
        assert!(clients.len() <= 4);
    };
    assert_eq!(refusal.state(), "53300");
    assert_eq!(health(&server.data()).status.code(), Some(0));
}

/// The secret is of no use on another machine: whoever comes by another address than loopback is turned away.
#[test]
fn the_health_role_stays_at_home() {
    // Nothing is sent: the system only chooses the address it would send from.
    let own = std::net::UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()));
    let Some(own) = own.ok().map(|address| address.ip()).filter(|address| !address.is_loopback()) else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let mut place = Place::new(&[]);
    place.listen = SocketAddr::from(([0, 0, 0, 0], place.listen.port()));
    let mut child = place.spawn();
    place.wait_ready(&mut child);
    assert_eq!(place.health(), Some(0));
    let text = fs::read_to_string(place.data().join(".healthcheck")).expect("the file");
    let secret = text.lines().next().expect("the secret").to_owned();
    let ask = |host: &str, user: &str, password: &str| {
        let target = format!(
            "host={host} port={} user={user} password='{password}' dbname=postgres sslmode=require",
            place.listen.port()
        );
        binary().args(["sql", "-c", "SELECT 1", &target]).stdin(Stdio::null()).output().expect("the binary")
    };
    let near = ask("127.0.0.1", "startdb_healthcheck", &secret);
    assert!(near.status.success(), "{}", said(&near));
    let far = ask(&own.to_string(), "startdb_healthcheck", &secret);
    assert!(String::from_utf8_lossy(&far.stderr).contains("own machine only"), "{}", said(&far));
    let other = ask(&own.to_string(), "postgres", PASSWORD);
    assert!(other.status.success(), "{}", said(&other));
    stop(&mut child, Signal::INT);
}

#[test]
fn a_forgotten_password() {
    let mut server = Server::start();
    server.connect().run("CREATE ROLE clerk LOGIN PASSWORD 'old'");
    let passwd = |server: &Server, user: Option<&str>, new: &str| {
        let file = server.folder().join("new-password");
        fs::write(&file, format!("{new}\n")).expect("written");
        let mut command = binary();
        command.arg("passwd").arg("--data-dir").arg(server.data()).arg("--password-file").arg(file);
        if let Some(user) = user {
            command.args(["--user", user]);
        }
        command
    };
    let text = refused(&mut passwd(&server, None, "new"));
    assert!(text.contains("in use") && text.contains("ALTER ROLE"), "{text}");
    server.terminate();
    succeed(&mut passwd(&server, None, "new one"));
    succeed(&mut passwd(&server, Some("clerk"), "clerk's"));
    let text = refused(&mut passwd(&server, Some("nobody"), "x"));
    assert!(text.contains("nobody"), "{text}");
    server.launch();
    let admin = server.login();
    assert!(admin.try_connect().is_err());
    admin.user("postgres", "new one").connect().run("SELECT 1");
    admin.user("clerk", "clerk's").connect().run("SELECT 1");
    assert!(
        refused(binary().args(["passwd", "--data-dir", "/nowhere"]).stdin(Stdio::null()))
            .contains("password")
    );
}

#[test]
fn the_configuration_is_shown_and_checked() {
    let place = Place::new(&[]);
    fs::create_dir(place.data()).expect("made");
    let file = place.data().join("startdb.toml");
    fs::write(
        &file,
        format!(
            "[network]\nlisten = \"{}\"\nhttp = \"{}\"\n\n[sql]\nwork_mem = \"7MB\"\n",
            place.listen, place.http
        ),
    )
    .expect("written");
    let config = |arguments: &[&str]| {
        let mut command = binary();
        command.args(["config", arguments[0], "--data-dir"]).arg(place.data()).args(&arguments[1..]);
        command
    };
    let shown = succeed(
        config(&["show", "--origin", "-c", "wal.segment_size=1MB"]).env("STARTDB_SQL__TIMEZONE", "UTC"),
    );
    for (line, origin) in [
        (format!("network.listen = \"{}\"", place.listen), format!("# {}:2", file.display())),
        ("wal.segment_size = \"1MB\"".to_owned(), "# -c".to_owned()),
        ("work_mem = \"7MB\"".to_owned(), format!("# {}:6", file.display())),
        ("timezone = \"UTC\"".to_owned(), "# STARTDB_SQL__TIMEZONE".to_owned()),
        ("log.filter = \"info\"".to_owned(), "# built-in".to_owned()),
    ] {
        let found =
            shown.lines().find(|shown| shown.starts_with(&line)).unwrap_or_else(|| panic!("{line}\n{shown}"));
        assert!(found.ends_with(&origin), "{found}");
    }
    succeed(&mut config(&["check"]));
    // A server with nothing but the file, in a directory that holds nothing else.
    let mut child = binary()
        .arg("--data-dir")
        .arg(place.data())
        .env("POSTGRES_PASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary");
    place.wait_ready(&mut child);
    assert_eq!(place.login("postgres", "postgres").connect().value("SHOW work_mem"), "7MB");
    stop(&mut child, Signal::INT);
    fs::write(&file, "[network]\nlisen = \"x\"\n").expect("written");
    for command in [&mut config(&["check"]), &mut place.start()] {
        let text = refused(command);
        assert!(
            text.contains("startdb.toml:2:") && text.contains("did you mean \"network.listen\""),
            "{text}"
        );
    }
    assert_eq!(
        succeed(binary().args(["config", "default"])),
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/startdb.toml"))
            .expect("the sample")
    );
}

/// Completions load, and the manual page is one.
#[test]
fn completions_and_manual() {
    let folder = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        let text = succeed(binary().args(["completions", shell]));
        assert!(text.contains("healthcheck"), "{shell}: {text}");
        let file = folder.path().join(shell);
        fs::write(&file, text).expect("written");
        if programs::find(shell).is_some() {
            succeed(Command::new(shell).arg("-n").arg(&file));
        }
    }
    if have(&["bash"]) {
        let script = format!(
            ". {}/bash; COMP_WORDS=(startdb health); COMP_CWORD=1; _startdb startdb health startdb; echo \"${{COMPREPLY[@]}}\"",
            folder.path().display()
        );
        assert_eq!(succeed(Command::new("bash").args(["-c", &script])).trim(), "healthcheck");
    }
    succeed(binary().arg("man").arg(folder.path().join("man")));
    assert!(folder.path().join("man/startdb-sql.1").exists());
    let page = succeed(binary().arg("man"));
    assert!(page.contains(".TH startdb 1"), "{page}");
    if programs::find("mandoc").is_some() {
        let file = folder.path().join("startdb.1");
        fs::write(&file, page).expect("written");
        succeed(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&file));
    }
}

/// Every sub-command's help has two examples, and they work.
#[test]
fn examples_of_the_help_run() {
    let mut server = Server::start();
    fs::write(server.folder().join("password.txt"), "made up\n").expect("written");
    server.connect().run("CREATE ROLE alice LOGIN");
    let run = |server: &Server, line: &str| {
        let bin = server.folder().join("bin");
        fs::create_dir_all(&bin).expect("made");
        let link = bin.join("startdb");
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_startdb"), &link);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(server.folder()).env("PATH", path).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            if name.starts_with("STARTDB_") || name.starts_with("POSTGRES_") || name == "PGDATA" {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", server.address.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .env("STARTDB_DATA_DIR", server.data());
        command.output().expect("sh")
    };
    let mut count = 0;
    for name in [
        "",
        "start",
        "sql",
        "healthcheck",
        "passwd",
        "config",
        "config show",
        "config check",
        "config default",
        "completions",
        "man",
    ] {
        let help = run(&server, &format!("startdb {name} --help"));
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        let examples: Vec<&str> = text
            .lines()
            .skip_while(|line| *line != "Examples:")
            .skip(1)
            .take_while(|line| line.starts_with("  startdb"))
            .map(str::trim)
            .collect();
        assert!(examples.len() >= 2, "{name}: {text}");
        for example in examples {
            // What stands behind two blanks explains.
            let line = example.split("  ").next().unwrap_or(example);
            let passwd = line.starts_with("startdb passwd");
            let line = match line.strip_prefix("startdb start").or_else(|| (line == "startdb").then_some(""))
            {
                // Starting is what every other test does; here the arguments count.
                Some(arguments) => format!("startdb config check {arguments}"),
                None if line == "startdb sql" => "echo 'select 1' | startdb sql".to_owned(),
                None => line.to_owned(),
            };
            // Directories of the examples are this server's.
            let line = line
                .replace(
                    "--data-dir /var/lib/startdb --listen 127.0.0.1:5432",
                    &format!("--listen {}", server.address),
                )
                .replace("--data-dir startdb-data", "");
            let line = if line.contains("config check") || line.contains("config show") {
                format!("unset STARTDB_DATA_DIR; {line}")
            } else {
                line
            };
            let output = if passwd {
                // A stopped server, and somebody who types.
                server.terminate();
                let output = run(&server, &format!("echo typed | {line}"));
                server.launch();
                output
            } else {
                run(&server, &line)
            };
            assert!(output.status.success(), "{line}\n{}", said(&output));
            count += 1;
        }
    }
    assert!(count >= 22, "{count}");
}

/// Starts that take a random time, ended in random ways: the health check says "ready" never before the last script is done and
/// always soon after. `HEALTH_ROUNDS=100` for the long form, `HEALTH_SEED` to repeat one.
#[test]
fn health_is_never_early() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("HEALTH_ROUNDS").unwrap_or(3);
    let seed = number("HEALTH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("HEALTH_SEED={seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..rounds {
        let pause = random(300);
        let place = Place::new(&[
            ("1.sql", "CREATE TABLE t (a int);"),
            ("2.sh", &format!("sleep 0.{pause:03}\ntouch \"$PLACE/done\"\n")),
        ]);
        let done = place.folder.path().join("done");
        let mut child = place.spawn();
        let begin = Instant::now();
        loop {
            let code = place.health();
            let after = done.exists();
            assert!(code != Some(0) || after, "round {round}: ready before the scripts were done");
            if code == Some(0) {
                break;
            }
            assert_eq!(code, Some(4));
            assert!(begin.elapsed() < Duration::from_secs(30), "round {round}: never ready\n{}", place.log());
        }
        place.login("postgres", "postgres").connect().run("TABLE t");
        // A second start has no scripts, but a log to replay after a kill.
        match random(3) {
            0 => {
                child.kill().expect("killed");
                child.wait().expect("ended");
            }
            1 => drop(stop(&mut child, Signal::TERM)),
            _ => drop(stop(&mut child, Signal::INT)),
        }
        assert_eq!(place.health(), Some(4), "round {round}");
        let mut child = place.spawn();
        let begin = Instant::now();
        while place.health() != Some(0) {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "round {round}: never ready again\n{}",
                place.log()
            );
        }
        place.login("postgres", "postgres").connect().run("TABLE t");
        stop(&mut child, Signal::INT);
    }
}

/// Process 1 hears signals only if it asked for them, and is the parent of everybody's orphans.
#[test]
fn as_the_first_process_of_a_container() {
    let possible = Command::new("unshare").args(["-p", "-f", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: process ids cannot be given anew here");
        return;
    }
    let place = Place::new(&[("1.sh", "sleep 0.3 &\nsetsid sh -c 'sleep 0.2; true' &\n")]);
    let inside = |place: &Place| {
        let start = place.start();
        let mut command = Command::new("unshare");
        command.args(["-p", "-f"]).arg(start.get_program()).args(start.get_args());
        for (name, value) in start.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        command
    };
    let text = refused(inside(&place).env_remove("POSTGRES_PASSWORD"));
    assert!(text.contains("POSTGRES_HOST_AUTH_METHOD=trust"), "{text}");
    for signal in [Signal::TERM, Signal::INT] {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(place.folder.path().join("log"))
            .expect("a log");
        let mut outer =
            inside(&place).stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("unshare");
        place.wait_ready(&mut outer);
        let children =
            |pid: String| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let server = children(outer.id().to_string()).trim().to_owned();
        let begin = Instant::now();
        while !children(server.clone()).trim().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(10), "orphans stay: {}", children(server.clone()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let begin = Instant::now();
        let pid = server.parse().ok().and_then(Pid::from_raw).expect("the server's process");
        kill_process(pid, signal).expect("signalled");
        assert!(outer.wait().expect("ended").success(), "{}", place.log());
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
