//! An answer that ends a transaction must not tell of anything that a crash would take back: not only a COMMIT, also an error
//! or a rollback may rest on what somebody else has committed just now. The log stands on a disk whose writes can be held.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::disk::{Directory, Disk, File, Mode, RealDisk};
use parking_lot::{Condvar, Mutex};
use session::{Chunk, Database as _, Fetched, Peer, Session, Startup};

/// Closed, nothing becomes durable.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock();
        while *closed {
            self.opened.wait(&mut closed);
        }
    }
}

#[derive(Debug)]
struct HeldDisk {
    disk: Arc<dyn Disk>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct HeldFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Disk for HeldDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        self.disk.open(path, mode)
    }
    fn open_log(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(HeldFile { file: self.disk.open_log(path, mode)?, gate: self.gate.clone() }))
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Directory>> {
        self.disk.lock_directory(directory)
    }
    fn file_system(&self, directory: &Path) -> io::Result<u64> {
        self.disk.file_system(directory)
    }
    fn free_space(&self, directory: &Path) -> io::Result<u64> {
        self.disk.free_space(directory)
    }
}

impl File for HeldFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.gate.pass();
        self.file.write_durable(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
    fn prefetch(&self, offset: u64, len: u64) {
        self.file.prefetch(offset, len);
    }
}

/// A test that fails must not leave it closed: the log would never end.
struct OpenAtLast(Arc<Gate>);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

async fn open(database: &sql::Database) -> Box<dyn Session> {
    let startup = Startup {
        user: "postgres".into(),
        database: "postgres".into(),
        peer: Peer::Internal,
        parameters: Vec::new(),
    };
    database.open(startup).await.unwrap()
}

/// The SQLSTATE or the number of rows (or the tag) of a statement, when the session has answered it wholly.
async fn run(session: &mut dyn Session, text: &str) -> String {
    let mut answer = String::new();
    let count = match session.simple_start(text).await {
        Ok(count) => count,
        Err(error) => {
            answer = error.state().to_string();
            0
        }
    };
    for _ in 0..count {
        if let Err(error) = session.simple_next().await {
            answer = error.state().to_string();
            break;
        }
        let mut rows = 0;
        loop {
            match session.fetch("", 0).await {
                Ok(Fetched::Chunk(Chunk::Rows(chunk))) => rows += chunk.count,
                Ok(Fetched::Complete(tag)) => {
                    answer = if rows > 0 { format!("{rows} rows") } else { tag.to_string() };
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    answer = error.state().to_string();
                    break;
                }
            }
        }
    }
    match session.simple_end().await {
        Ok(()) => answer,
        Err(error) => error.state().to_string(),
    }
}

/// A database in a directory that goes with the first part, on such a disk.
fn held() -> (tempfile::TempDir, Arc<Gate>, engine::Engine, Arc<sql::Database>) {
    let home = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let mut options = engine::Options::new(home.path().join("data"));
    options.disk = Arc::new(HeldDisk { disk: RealDisk::new(), gate: gate.clone() });
    options.aside = sql::aside;
    let engine = engine::Engine::open(options).unwrap();
    let database = sql::Database::open(engine.clone(), sql::Options::default()).unwrap();
    (home, gate, engine, database)
}

#[test]
fn answers_wait_for_what_they_rest_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_home, gate, engine, database) = held();
        let mut first = open(&database).await;
        run(&mut *first, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
        run(&mut *first, "CREATE TABLE child (t int REFERENCES t)").await;
        run(&mut *first, "INSERT INTO t VALUES (1, 1)").await;

        gate.set(true);
        let _open_at_last = OpenAtLast(gate.clone());
        let work = |before: &'static [&'static str], last: &'static str| {
            let database = database.clone();
            let (ready, begun) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                let mut session = open(&database).await;
                for statement in before {
                    run(&mut *session, statement).await;
                }
                ready.send(()).unwrap();
                run(&mut *session, last).await
            });
            (begun, task)
        };
        // It is committed and applied, and nobody has been told.
        let (begun, commit) = work(&[], "INSERT INTO t VALUES (2, 2)");
        begun.await.unwrap();
        while engine.last_lsn() <= engine.durable_lsn() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waiting = [
            ("23505", work(&[], "INSERT INTO t VALUES (2, 3)")),
            ("ROLLBACK", work(&["BEGIN", "SELECT v FROM t WHERE id = 2 FOR UPDATE"], "ROLLBACK")),
            ("ROLLBACK", work(&["BEGIN", "UPDATE t SET v = 9 WHERE id = 2"], "ROLLBACK")),
            ("ROLLBACK", work(&["BEGIN", "INSERT INTO child VALUES (2)"], "ROLLBACK")),
            ("INSERT 0 0", work(&[], "INSERT INTO t VALUES (2, 3) ON CONFLICT DO NOTHING")),
        ];
        let mut tasks = Vec::new();
        for (answer, (begun, task)) in waiting {
            begun.await.unwrap();
            tasks.push((answer, task));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!commit.is_finished(), "a commit was answered before it is durable");
        for (answer, task) in &tasks {
            assert!(!task.is_finished(), "{answer} was answered before what it rests on is durable");
        }
        // Whoever rests on nothing new is answered, and so is who said that waiting is not needed.
        assert_eq!(run(&mut *first, "SELECT * FROM t").await, "1 rows");
        assert_eq!(run(&mut *first, "BEGIN").await, "BEGIN");
        assert_eq!(run(&mut *first, "ROLLBACK").await, "ROLLBACK");
        let (_begun, careless) = work(&["SET synchronous_commit = off"], "INSERT INTO t VALUES (2, 4)");
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), careless).await.unwrap().unwrap(), "23505");

        gate.set(false);
        assert_eq!(commit.await.unwrap(), "INSERT 0 1");
        for (answer, task) in tasks {
            assert_eq!(task.await.unwrap(), answer);
        }
        drop(first);
        engine.close().unwrap();
    });
}

/// Definitions wait for the disk, and for each other's turn, without keeping a thread from others. Here there is one thread.
#[test]
fn definitions_wait_aside() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_home, gate, engine, database) = held();
    // Seen from outside: if the thread is kept, no clock of the runtime goes on either.
    let work = |text: &'static str| {
        let (tell, told) = std::sync::mpsc::channel();
        let database = database.clone();
        runtime.spawn(async move { tell.send(run(&mut *open(&database).await, text).await) });
        told
    };
    let soon = Duration::from_secs(20);
    assert_eq!(work("CREATE TABLE t AS SELECT 1 AS id").recv_timeout(soon).unwrap(), "SELECT 1");
    gate.set(true);
    let _open_at_last = OpenAtLast(gate.clone());
    let made = ["CREATE TABLE a (id int)", "CREATE TABLE b (id int)"].map(work);
    while engine.last_lsn() <= engine.durable_lsn() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(work("SELECT * FROM t").recv_timeout(soon).expect("an answer"), "1 rows");
    for made in &made {
        assert!(made.try_recv().is_err(), "a definition was answered before it is durable");
    }
    gate.set(false);
    for made in made {
        assert_eq!(made.recv_timeout(soon).unwrap(), "CREATE TABLE");
    }
    engine.close().unwrap();
}

/// Whoever waits for a table that a definition has locked, however weakly, finds that definition afterwards.
#[test]
fn definitions_keep_their_locks_until_they_are_seen() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let (_home, gate, engine, database) = held();
        let mut first = open(&database).await;
        let mut second = open(&database).await;
        run(&mut *first, "CREATE TABLE t (id int)").await;
        run(&mut *first, "BEGIN").await;
        run(&mut *first, "CREATE VIEW seen AS SELECT id FROM t").await;
        let renames = tokio::spawn(async move { run(&mut *second, "ALTER TABLE t RENAME TO renamed").await });
        while !engine.locks().listing().iter().any(|lock| !lock.granted) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate.set(true);
        let _open_at_last = OpenAtLast(gate.clone());
        let commits = tokio::spawn(async move { run(&mut *first, "COMMIT").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.set(false);
        assert_eq!(commits.await.unwrap(), "COMMIT");
        assert_eq!(renames.await.unwrap(), "0A000", "the view reads it");
        engine.close().unwrap();
    });
}
