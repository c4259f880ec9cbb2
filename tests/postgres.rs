//! A real PostgreSQL 15 beside the server under test: what it answers is what is right.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::client::Login;
use crate::programs;
use crate::server::free_address;

/// What the cluster's own shell does: it serves until its stdin ends, which it does with the process that tests, however
/// that ends; then it takes the directory away.
const KEEPER: &str = r#"
set -e
trap '' INT TERM
"$BIN/initdb" -D "$DIR/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --lc-collate=C --no-sync >"$DIR/log" 2>&1
"$BIN/postgres" -D "$DIR/data" -c port="$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$DIR" \
    -c timezone=UTC -c log_timezone=UTC $OPTIONS >>"$DIR/log" 2>&1 &
pid=$!
cat >/dev/null
kill -QUIT $pid
wait $pid || true
rm -rf "$DIR"
"#;

pub struct Postgres {
    pub address: SocketAddr,
    keeper: Child,
}

impl Postgres {
    /// The cluster that all tests of this process share; none when PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Postgres> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        let start = || {
            programs::have(&["initdb", "postgres"])
                .then(|| Postgres::start("-c fsync=off -c max_connections=100 -c jit=off"))
        };
        SHARED.get_or_init(start).as_ref()
    }

    /// `options` as on the command line of `postgres`.
    pub fn start(options: &str) -> Postgres {
        let address = free_address();
        let directory = tempfile::Builder::new().prefix("startdb-pg-").tempdir().expect("a directory").keep();
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER])
            .env(
                "BIN",
                programs::find("initdb").and_then(|path| Some(path.parent()?.to_owned())).expect("initdb"),
            )
            .env("DIR", &directory)
            .env("PORT", address.port().to_string())
            .env("OPTIONS", options)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir(&directory)
            .stdin(Stdio::piped());
        // initdb refuses to run as root.
        if rustix::process::geteuid().is_root() {
            let user = owner();
            std::os::unix::fs::chown(&directory, Some(user), Some(user)).expect("given away");
            command.uid(user).gid(user);
        }
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).expect("private");
        let keeper = command.spawn().expect("a shell");
        let postgres = Postgres { address, keeper };
        let begin = Instant::now();
        while postgres.login().try_connect().is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "PostgreSQL did not start: {}",
                std::fs::read_to_string(directory.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        postgres
    }

    pub fn login(&self) -> Login {
        Login {
            address: self.address,
            user: String::from("postgres"),
            password: String::new(),
            database: String::from("postgres"),
        }
    }

    pub fn libpq(&self, program: &str) -> Command {
        let mut command = programs::command(program);
        command
            .env("PGHOST", self.address.ip().to_string())
            .env("PGPORT", self.address.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env_remove("PGPASSWORD")
            .env_remove("PGSSLMODE");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.keeper.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.keeper.wait();
    }
}

/// Any user that is not root: `postgres` where it exists.
fn owner() -> u32 {
    let mut text = String::new();
    std::fs::File::open("/etc/passwd")
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("/etc/passwd");
    text.lines()
        .find_map(|line| {
            let mut parts = line.split(':');
            (parts.next()? == "postgres").then(|| parts.nth(1)?.parse().ok())?
        })
        .unwrap_or(65_534)
}
