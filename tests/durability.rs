//! Durability from outside: `startdb check`, clients during a long start, indexes built while others write, large loads
//! in bounded memory, a full disk.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Failure, Login};
use crate::programs::{have, said, succeed};
use crate::server::{Server, binary, get};

fn check(server: &Server) -> (Option<i32>, String) {
    let output = binary().arg("check").arg("--data-dir").arg(server.data()).output().expect("the binary");
    (output.status.code(), said(&output))
}

#[test]
fn check_finds_damage_and_says_where() {
    let mut server = Server::start();
    server.connect().run("CREATE TABLE checked (id int PRIMARY KEY, name text)");
    server.connect().run("INSERT INTO checked SELECT i, 'name ' || i FROM generate_series(1, 20000) i");
    let (code, said) = check(&server);
    assert_eq!(code, Some(1), "a server is running: {said}");
    server.terminate();
    let (code, said) = check(&server);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no damage found"), "{said}");
    // A byte in the middle of a row.
    let file = server.data().join("base/meta.redb");
    let mut bytes = std::fs::read(&file).expect("the base");
    let at = bytes.windows(10).position(|part| part == b"name 12345").expect("a row");
    bytes[at + 5] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let (code, said) = check(&server);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("meta.redb") && said.contains("ROWS"), "{said}");
    // Other tables, and other rows, can still be read.
    server.launch();
    let mut client = server.connect();
    match client.simple("SELECT count(name) FROM checked") {
        Err(failure) => assert_eq!(failure.state(), "XX001"),
        Ok(_) => panic!("damage was served"),
    }
    client.run("SELECT count(*) FROM pg_class");
    client.run("CREATE TABLE unharmed (a int)");
}

#[test]
fn an_index_is_built_while_others_write() {
    let server = Server::start_with(&["checkpoint.interval=1s"]);
    let mut client = server.connect();
    client.run("CREATE TABLE busy (id int PRIMARY KEY, a int)");
    client.run("INSERT INTO busy SELECT i, i % 1000 FROM generate_series(1, 100000) i");
    let stop = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (login, stop) = (server.login(), &stop);
                scope.spawn(move || {
                    let mut client = login.try_connect().expect("connects");
                    let (mut n, mut slowest) = (0, Duration::ZERO);
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let id = (n * 7919 + writer * 13) % 100_000 + 1;
                        let began = Instant::now();
                        let new = 1_000_000 * (writer + 1) + n;
                        for sql in [
                            format!("UPDATE busy SET a = a + 1 WHERE id = {id}"),
                            format!("INSERT INTO busy VALUES ({new}, {n})"),
                        ] {
                            // A unique index holds writers to it while it is being filled, as in PostgreSQL.
                            if let Err(failure) = client.simple(&sql) {
                                assert_eq!(failure.state(), "23505", "{sql}: {failure}");
                            }
                        }
                        slowest = slowest.max(began.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        let mut client = server.connect();
        client.run("CREATE INDEX CONCURRENTLY busy_a ON busy (a)");
        match client.simple("CREATE UNIQUE INDEX CONCURRENTLY busy_twice ON busy (a)") {
            Err(failure) => assert_eq!(failure.state(), "23505"),
            Ok(_) => panic!("values repeat"),
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("a writer")).max()
    });
    assert!(slowest < Some(Duration::from_secs(5)), "a writer waited {slowest:?}");
    let mut client = server.connect();
    let by_index = client.simple("SELECT count(*), sum(id) FROM busy WHERE a >= 0");
    client.run("DROP INDEX busy_a");
    let by_table = client.simple("SELECT count(*), sum(id) FROM busy WHERE a >= 0");
    assert_eq!(format!("{by_index:?}"), format!("{by_table:?}"));
    // Not usable, as in PostgreSQL; to be dropped or built again.
    client.run("DROP INDEX busy_twice");
    let mut server = server;
    server.terminate();
    let (code, said) = check(&server);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_load_larger_than_the_budget_stays_within_it() {
    let server = Server::start_with(&["storage.buffer_pool_size=32MB", "storage.memtable_size=32MB"]);
    let mut client = server.connect();
    client.run("CREATE TABLE large (id int PRIMARY KEY, a int, filler text)");
    let load = |from: i32, to: i32| {
        format!("INSERT INTO large SELECT i, i % 1000, repeat('x', 200) FROM generate_series({from}, {to}) i")
    };
    client.run(&load(1, 100_000));
    server.reset_peak();
    let before = server.memory();
    client.run(&load(100_001, 800_000));
    let peak = server.peak_memory();
    let grown = peak.saturating_sub(before) >> 20;
    println!("700,000 rows of 220 bytes in one statement: {grown} MB above {} MB", before >> 20);
    assert!(grown < 600, "{grown} MB more");
    let rows = format!("{:?}", client.simple("SELECT count(*) FROM large"));
    assert!(rows.contains("800000"), "{rows}");
}

#[test]
fn a_full_disk_is_53100_and_passes() {
    if !have(&["mkfs.ext4", "mount", "umount"]) || !rustix::process::geteuid().is_root() {
        println!("skipped: needs root, mkfs.ext4 and mount");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let (image, mounted) = (folder.path().join("image"), folder.path().join("mounted"));
    std::fs::create_dir(&mounted).expect("a directory");
    let file = std::fs::File::create(&image).expect("a file");
    file.set_len(400 << 20).expect("its size");
    succeed(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image));
    if !Command::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(&mounted)
        .status()
        .is_ok_and(|s| s.success())
    {
        println!("skipped: a file cannot be mounted here");
        return;
    }
    struct Unmount<'a>(&'a std::path::Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&mounted);
    // What will be taken away to make room.
    let ballast = mounted.join("ballast");
    std::fs::write(&ballast, vec![7; 240 << 20]).expect("it fits");
    let server = Server::start_in(
        &mounted.join("data"),
        &[
            "wal.segment_size=4MB",
            "wal.keep_segments=1",
            "checkpoint.interval=1s",
            "storage.memtable_size=16MB",
        ],
    );
    let mut client = server.connect();
    client.run("CREATE TABLE filling (id int PRIMARY KEY, filler text)");
    let mut rows = 0;
    let failure = loop {
        let sql = format!(
            "INSERT INTO filling SELECT i, repeat('x', 1000) FROM generate_series({}, {}) i",
            rows + 1,
            rows + 1000
        );
        let begun = Instant::now();
        let outcome = client.simple(&sql);
        // Whether it fits or not is known at once: nobody waits for room.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "a statement took {took:?} after {rows} rows");
        match outcome {
            Ok(_) => rows += 1000,
            Err(failure) => break failure,
        }
        assert!(rows < 1_000_000, "the disk does not fill up");
    };
    assert_eq!(failure.state(), "53100", "{failure}");
    let begun = Instant::now();
    match client.simple(&format!("INSERT INTO filling VALUES ({}, repeat('x', 20000000))", rows + 1)) {
        Err(failure) => assert_eq!(failure.state(), "53100", "{failure}"),
        Ok(_) => panic!("there was no room"),
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "refused after {:?}", begun.elapsed());
    // Reads go on, from this and from other sessions.
    let counted = format!("{:?}", server.connect().simple("SELECT count(*) FROM filling"));
    assert!(counted.contains(&rows.to_string()), "{counted} of {rows}");
    // Room comes back; so do writes, by themselves: the same server, the same session.
    let deadline = Instant::now() + Duration::from_secs(180);
    let mut client = server.connect();
    for sql in ["TRUNCATE filling", "INSERT INTO filling VALUES (1, 'again')"] {
        loop {
            match client.simple(sql) {
                Ok(_) => break,
                Err(Failure::Broken(what)) => panic!("{what}"),
                Err(failure) if Instant::now() < deadline => {
                    assert_eq!(failure.state(), "53100", "{failure}");
                    if ballast.exists() {
                        std::fs::remove_file(&ballast).expect("removed");
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(failure) => panic!("{failure}"),
            }
        }
    }
    assert_eq!(client.value("SELECT filler FROM filling"), "again");
}

#[test]
fn a_table_four_times_the_budget_loads_scans_and_updates() {
    let server = Server::start_with(&["storage.buffer_pool_size=64MB", "checkpoint.interval=5s"]);
    let mut client = server.connect();
    assert_eq!(client.value("SHOW shared_buffers"), "64MB");
    client.run("CREATE TABLE wide (id int PRIMARY KEY, a int, filler text)");
    let load = |part: i32| {
        let (from, to) = (part * 50_000 + 1, (part + 1) * 50_000);
        format!("INSERT INTO wide SELECT i, 0, repeat('x', 300) || i FROM generate_series({from}, {to}) i")
    };
    // 340 bytes a row: 16 parts are four times the budget.
    let parts = 16;
    client.run(&load(0));
    client.run(&load(1));
    server.reset_peak();
    let before = server.memory();
    let mut told = Vec::new();
    let mut look = |what: &str| {
        let grown = server.peak_memory().saturating_sub(before) >> 20;
        told.push(format!("{what}: {grown} MB"));
        server.reset_peak();
    };
    (2..parts).for_each(|part| {
        client.run(&load(part));
    });
    look("loading");
    for _ in 0..2 {
        let sums = format!("{:?}", client.simple("SELECT count(*), sum(length(filler)) FROM wide"));
        assert!(sums.contains("800000"), "{sums}");
    }
    look("scanning");
    for part in 0..parts * 5 {
        let (from, to) = (part * 10_000 + 1, (part + 1) * 10_000);
        client.run(&format!("UPDATE wide SET a = a + 1 WHERE id BETWEEN {from} AND {to}"));
    }
    look("updating");
    for n in 0..2000 {
        let id = n * 7919 % 800_000 + 1;
        assert_eq!(client.value(&format!("SELECT a FROM wide WHERE id = {id}")), "1");
    }
    look("looking rows up");
    client.run("UPDATE wide SET a = a + 1");
    look("updating all");
    client.run("BEGIN");
    client.run("UPDATE wide SET id = -id, a = 0");
    client.run("DELETE FROM wide");
    assert_eq!(client.value("SELECT count(*) FROM wide"), "0");
    client.run("ROLLBACK");
    look("updating and deleting all, and rolling back");
    let locked = "SELECT count(*) FROM (SELECT 1 FROM wide FOR UPDATE) locked";
    assert_eq!(client.value(locked), "800000");
    look("locking all");
    client.run("DELETE FROM wide WHERE id % 2 = 0");
    look("deleting half");
    assert_eq!(client.value("SELECT count(*) || ' ' || sum(a) FROM wide"), "400000 800000");
    println!("above {} MB: {}", before >> 20, told.join(", "));
    let most = told.iter().filter_map(|line| line.rsplit(' ').nth(1)?.parse::<u64>().ok()).max();
    // The storage keeps to its budget; the rest is what statements and checkpoints need while they run, and what the
    // allocator keeps. It does not grow with the table.
    // What there is at the start varies by as much as the caches hold: all of it counts.
    let whole = most.map(|most| (before >> 20) + most);
    assert!(
        whole < Some(430),
        "more than the budget and what statements need: {} MB and {told:?}",
        before >> 20
    );
    let metrics = get(server.http, "/metrics").unwrap_or_default();
    for part in ["caches", "memtable", "old_snapshots"] {
        assert!(metrics.contains(&format!("startdb_memory_limit_bytes{{component=\"{part}\"}}")), "{part}");
    }
}

#[test]
fn old_snapshots_see_what_they_saw_in_flat_memory() {
    // Larger caches would fill with pages of older states, as they may.
    let server = Server::start_with(&["storage.buffer_pool_size=64MB"]);
    let mut client = server.connect();
    client.run("CREATE TABLE seen (id int PRIMARY KEY, a int, filler text)");
    client.run("INSERT INTO seen SELECT i, i % 1000, repeat('x', 100) FROM generate_series(1, 20000) i");
    client.run("CHECKPOINT");
    let sums = "SELECT count(*), sum(a), min(filler), max(filler) FROM seen";
    let by_index = "SELECT count(*), sum(id) FROM seen WHERE a = 5";
    client.run("UPDATE seen SET a = a");
    let mut old = Vec::new();
    let mut before = 0;
    for round in 0..20 {
        let mut reader = server.connect();
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
        let saw = [sums, by_index].map(|sql| format!("{:?}", reader.simple(sql)));
        old.push((reader, saw));
        match round {
            // Snapshots from before it use it too.
            0 => client.run("CREATE INDEX seen_a ON seen (a)"),
            _ => client.run(&format!("UPDATE seen SET a = a + {round} % 2, filler = filler || '{round}'")),
        };
        client.run("CHECKPOINT");
        if round == 3 {
            server.reset_peak();
            before = server.memory();
        }
    }
    // What the last checkpoint needed for a moment goes back within seconds.
    let mut now = server.memory();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        now = now.min(server.memory());
        if now < before + (48 << 20) {
            break;
        }
    }
    let grown = now.saturating_sub(before) >> 20;
    println!("16 snapshots and checkpoints more: {grown} MB above {} MB", before >> 20);
    assert!(grown < 64, "{grown} MB more");
    for (reader, saw) in &mut old {
        assert_eq!([sums, by_index].map(|sql| format!("{:?}", reader.simple(sql))), *saw);
    }
}

#[test]
fn dropped_tables_give_their_space_back() {
    let server = Server::start();
    let mut client = server.connect();
    let file = server.data().join("base/meta.redb");
    let mut sizes = Vec::new();
    for round in 0..20 {
        client.run("CREATE TABLE passing (id int PRIMARY KEY, a int, filler text)");
        client
            .run("INSERT INTO passing SELECT i, i % 100, repeat('x', 200) FROM generate_series(1, 20000) i");
        client.run("CREATE INDEX passing_a ON passing (a, filler)");
        client.run("CHECKPOINT");
        match round % 2 {
            0 => client.run("DROP TABLE passing"),
            _ => {
                client.run("DROP INDEX passing_a");
                client.run("TRUNCATE passing");
                client.run("DROP TABLE passing")
            }
        };
        client.run("CHECKPOINT");
        sizes.push(std::fs::metadata(&file).expect("the base").len() >> 20);
    }
    println!("megabytes after each round: {sizes:?}");
    assert!(sizes[19] <= sizes[2], "the data file grows: {sizes:?}");
}

#[test]
fn expression_indexes_and_reindex_beside_writers() {
    let mut server = Server::start_with(&["checkpoint.interval=1s"]);
    let mut client = server.connect();
    client.run("CREATE TABLE busy (id int PRIMARY KEY, a int, name text)");
    client.run("INSERT INTO busy SELECT i, i % 1000, 'Name ' || i FROM generate_series(1, 30000) i");
    let stop = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (login, stop) = (server.login(), &stop);
                scope.spawn(move || {
                    let mut client = login.try_connect().expect("connects");
                    let (mut n, mut slowest) = (0, Duration::ZERO);
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        let id = (n * 7919 + writer * 13) % 30_000 + 1;
                        let new = 1_000_000 * (writer + 1) + n;
                        let begun = Instant::now();
                        for sql in [
                            format!("UPDATE busy SET a = a + 1, name = name || 'x' WHERE id = {id}"),
                            format!("INSERT INTO busy VALUES ({new}, {n}, 'New {n}')"),
                            format!("DELETE FROM busy WHERE id = {}", new - 100),
                        ] {
                            client.run(&sql);
                        }
                        slowest = slowest.max(begun.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        let mut client = server.connect();
        client.run("CREATE INDEX CONCURRENTLY busy_lower ON busy (lower(name))");
        client.run("CREATE INDEX CONCURRENTLY busy_some ON busy (name) WHERE a < 500");
        client.run("REINDEX INDEX CONCURRENTLY busy_lower");
        client.run("REINDEX TABLE CONCURRENTLY busy");
        for sql in ["BEGIN", "REINDEX TABLE CONCURRENTLY busy"] {
            if let Err(failure) = client.simple(sql) {
                assert_eq!(failure.state(), "25001", "{failure}");
            }
        }
        client.run("ROLLBACK");
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("a writer")).max()
    });
    assert!(slowest < Some(Duration::from_secs(5)), "a writer waited {slowest:?}");
    let names = "SELECT relname FROM pg_class WHERE relname LIKE 'busy%' ORDER BY 1";
    let named = format!("{:?}", client.simple(names));
    assert!(!named.contains("ccnew"), "{named}");
    let plan = format!("{:?}", client.simple("EXPLAIN SELECT id FROM busy WHERE lower(name) = 'name 77'"));
    assert!(plan.contains("busy_lower"), "{plan}");
    let asked = [
        "SELECT count(*), sum(id) FROM busy WHERE lower(name) >= 'name 2' AND lower(name) < 'name 3'",
        "SELECT count(*), sum(id) FROM busy WHERE name >= 'Name 2' AND name < 'Name 3' AND a < 500",
    ];
    let by_index: Vec<String> = asked.iter().map(|sql| format!("{:?}", client.simple(sql))).collect();
    server.terminate();
    let (code, said) = check(&server);
    assert_eq!(code, Some(0), "{said}");
    server.launch();
    let mut client = server.connect();
    client.run("DROP INDEX busy_lower");
    client.run("DROP INDEX busy_some");
    let by_table: Vec<String> = asked.iter().map(|sql| format!("{:?}", client.simple(sql))).collect();
    assert_eq!(by_index, by_table);
    // What was computed for them is computed no longer.
    client.run("INSERT INTO busy SELECT i, i, 'late' FROM generate_series(5000000, 5001000) i");
    server.terminate();
    let (code, said) = check(&server);
    assert_eq!(code, Some(0), "{said}");
}

/// Writers who go on until their server ends: they change, add and delete words.
fn write_words(login: &Login, writer: i32, round: i32) {
    let Ok(mut client) = login.try_connect() else { return };
    for n in 1.. {
        let id = (n * 7919 + round * 31 + writer * 13) % 100_000 + 1;
        let new = 1_000_000 * (writer + 1) + 100_000 * round + n;
        for sql in [
            format!("UPDATE words SET word = word || 'X' WHERE id = {id}"),
            format!("INSERT INTO words VALUES ({new}, 'New {new}')"),
            format!("DELETE FROM words WHERE id = {}", new - 5),
        ] {
            if let Err(failure) = client.simple(&sql) {
                assert!(["broken", "57P01"].contains(&failure.state()), "{sql}: {failure}");
                return;
            }
        }
    }
}

/// Waits for what a query says of an index: `true` for its being valid, and for its being kept up to date by writers.
fn await_index(client: &mut Client, name: &str, valid: bool, ready: bool) {
    let state = format!(
        "SELECT indisvalid = {valid} AND indisready = {ready} FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE relname = '{name}'"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while client.value(&state) != "t" {
        assert!(Instant::now() < deadline, "{name}: this does not come, or is over already: {state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Values of an expression are computed while others write, and three kills and a shutdown come in between: every start goes
/// on with it.
#[test]
fn a_kill_while_values_for_an_index_are_computed() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE words (id int PRIMARY KEY, word text)");
    client.run("INSERT INTO words SELECT i, 'Word ' || i FROM generate_series(1, 100000) i");
    // As `lower(word)`, but it takes its time.
    let key = "lower(right(repeat(word, 30000), length(word)))";
    let builder = |name: &'static str, unique: &str, login: Login| {
        let sql = format!("CREATE {unique} INDEX CONCURRENTLY {name} ON words ({key}) WHERE id > 0");
        // Its answer does not come.
        std::thread::spawn(move || drop(login.try_connect().expect("connects").simple(&sql)))
    };
    let building = builder("words_key", "", server.login());
    for round in 0..4 {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let login = server.login();
                std::thread::spawn(move || write_words(&login, writer, round))
            })
            .collect();
        await_index(&mut client, "words_key", false, false);
        std::thread::sleep(Duration::from_millis(50));
        match round {
            2 => drop(server.terminate()),
            _ => server.kill(),
        }
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        server.launch();
        client = server.connect();
    }
    building.join().expect("the one that builds");
    await_index(&mut client, "words_key", true, true);
    let said = server.log();
    assert_eq!(said.matches("going on with computing the values").count(), 4, "{said}");
    // By the index, in parts; then by the table.
    let mut found = Vec::new();
    for (number, from) in (0..1000).map(|n| (n, format!("word {n:03}"))).chain([(1000, String::from("x"))]) {
        let below = if number == 0 { String::new() } else { format!("word {:03}", number - 1) };
        let part =
            format!("SELECT id, word FROM words WHERE {key} >= '{below}' AND {key} < '{from}' AND id > 0");
        if number == 500 {
            let plan = format!("{:?}", client.simple(&format!("EXPLAIN {part}")));
            assert!(plan.contains("words_key"), "{plan}");
        }
        found.extend(client.run(&part).rows);
    }
    let mut there = client.run("SELECT id, word FROM words").rows;
    there.sort();
    found.sort();
    assert!(found == there, "{} rows by the index, {} in the table", found.len(), there.len());
    // A key that occurs twice is found after the start, and nobody goes on with that index any more.
    client.run("INSERT INTO words VALUES (999999, 'word 77'), (999998, 'word 77')");
    let building = builder("words_unique", "UNIQUE", server.login());
    await_index(&mut client, "words_unique", false, false);
    server.kill();
    building.join().expect("the one that builds");
    server.launch();
    client = server.connect();
    await_index(&mut client, "words_unique", false, true);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.log().contains("the index stays unfinished") {
        assert!(Instant::now() < deadline, "the duplicate is not found");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.terminate();
    server.launch();
    client = server.connect();
    await_index(&mut client, "words_unique", false, true);
    client.run("DELETE FROM words WHERE word = 'word 77'");
    client.run("REINDEX INDEX words_unique");
    await_index(&mut client, "words_unique", true, true);
    client.run("DROP INDEX words_unique");
    assert_eq!(server.log().matches("the index stays unfinished").count(), 1);
    server.terminate();
    let (code, said) = check(&server);
    assert_eq!(code, Some(0), "{said}");
}

/// `LARGE_ROW` (megabytes) makes it larger; 1 GB takes some minutes and several gigabytes of memory.
#[test]
fn long_rows_over_the_wire() {
    let megabytes: usize = std::env::var("LARGE_ROW").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE long (id int PRIMARY KEY, body text)");
    let size = megabytes << 20;
    let begun = Instant::now();
    let line = |id: usize| {
        let head = std::iter::once(format!("{id}\t").into_bytes());
        let body = (0..megabytes).map(|n| vec![b'a' + (n % 26) as u8; 1 << 20]);
        head.chain(body).chain(std::iter::once(b"\n".to_vec()))
    };
    client.copy_in("COPY long FROM STDIN", line(1)).expect("it fits");
    println!(
        "COPY of one row of {megabytes} MB: {:?}, peak {} MB",
        begun.elapsed(),
        server.peak_memory() >> 20
    );
    let begun = Instant::now();
    assert_eq!(client.value("SELECT length(body) FROM long"), size.to_string());
    let (rows, _) = client.copy_out("COPY long TO STDOUT").expect("it comes back");
    assert_eq!(rows.len(), size + 3);
    println!("out again: {:?}, peak {} MB", begun.elapsed(), server.peak_memory() >> 20);
    let sum = client.value("SELECT md5(body) FROM long");
    server.kill();
    server.launch();
    let mut client = server.connect();
    assert_eq!(client.value("SELECT md5(body) FROM long"), sum);
    client.run("CHECKPOINT");
    assert_eq!(client.value("SELECT md5(body) FROM long"), sum);
    println!("after a kill and a checkpoint: {:?}, peak {} MB", begun.elapsed(), server.peak_memory() >> 20);
    // Two values of 600 MB are one row of more than a gigabyte.
    let failure = client.simple("SELECT repeat('x', 1100000000)").expect_err("too long");
    assert_eq!(failure.state(), "54000", "{failure}");
    client.run("SELECT 1");
}

#[test]
fn archived_segments_are_whole() {
    let folder = tempfile::tempdir().expect("a directory");
    let archive = folder.path().join("archive");
    let setting = format!("wal.archive_dir={}", archive.display());
    let server = Server::start_with(&[
        &setting,
        "wal.segment_size=1MB",
        "wal.keep_segments=1",
        "checkpoint.interval=1s",
    ]);
    let mut client = server.connect();
    client.run("CREATE TABLE logged (a int, filler text)");
    for part in 0..20 {
        client.run(&format!(
            "INSERT INTO logged SELECT {part}, repeat('x', 500) FROM generate_series(1, 1000)"
        ));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let there = std::fs::read_dir(&archive).map_or(0, |files| files.count());
        let waiting = get(server.http, "/metrics").unwrap_or_default();
        if there > 5 && waiting.contains("startdb_wal_files{state=\"unarchived\"} 0") {
            break;
        }
        assert!(Instant::now() < deadline, "{there} segments are archived");
        std::thread::sleep(Duration::from_millis(200));
    }
    for file in std::fs::read_dir(&archive).expect("the archive") {
        let file = file.expect("a file");
        assert_eq!(file.metadata().expect("facts").len(), 1 << 20, "{:?}", file.file_name());
    }
}
