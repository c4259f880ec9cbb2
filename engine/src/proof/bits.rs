//! Damage: the log cut anywhere, one bit wrong anywhere. Found and named, or harmless; never a wrong row.
//!
//! `FLIPS` bits in all (20,000 by default; `all`: one in every byte that is used).

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use value::{Datum, Result, SqlState};

use super::crash::{Random, options};
use super::setup::{self, Fixture, fill, int};
use crate::disk::SimulatedDisk;
use crate::planted::{self, Bug};
use crate::*;

type Rows = std::collections::BTreeMap<i32, (i32, String)>;

/// A directory with everything in it: blocks, deltas, long rows, an index, a log before and behind the
/// checkpoint. Gives what it held after each of the last commits.
fn directory(closed: bool) -> (SimulatedDisk, Vec<Rows>) {
    let disk = SimulatedDisk::new(11);
    let engine = setup::open(options(&disk));
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..400).map(|id| (id, id % 7)));
    let long = |id: i32| Datum::text(format!("long {id} ").repeat(700));
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    transaction.statement_snapshot(true).unwrap();
    for id in 400..410 {
        block_on(transaction.insert(&t.table, &[Datum::Int4(id), Datum::Int4(1), long(id)])).unwrap();
    }
    transaction.commit().unwrap().durable.wait().unwrap();
    engine.checkpoint().unwrap();
    for id in [3, 150, 300] {
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        block_on(t.set_a(&mut transaction, id, |_| 1000 + id)).unwrap();
        transaction.commit().unwrap().durable.wait().unwrap();
    }
    engine.checkpoint().unwrap();
    let mut states = Vec::new();
    for round in 0..6 {
        let mut transaction = engine.begin(Isolation::ReadCommitted, false);
        block_on(t.set_a(&mut transaction, round, |_| 2000)).unwrap();
        block_on(t.delete(&mut transaction, 20 + round)).unwrap();
        block_on(t.insert(&mut transaction, 500 + round, 5)).unwrap();
        transaction.commit().unwrap().durable.wait().unwrap();
        states.push(read(&engine).unwrap());
    }
    if closed {
        engine.close().unwrap();
    }
    // The power goes after everything was synced: nothing is lost by it.
    disk.crash();
    drop(engine);
    (disk, states)
}

/// All rows, by the table and by both indexes, which must agree.
fn read(engine: &Engine) -> Result<Rows> {
    let catalog = engine.catalog();
    let t =
        match (catalog.relation(catalog::oid::PUBLIC, "t"), catalog.relation(catalog::oid::PUBLIC, "t_pkey"))
        {
            (Some(_), Some(_)) => Fixture::of(engine),
            _ => panic!("a table is missing and nobody said so"),
        };
    let snapshot = engine.snapshot();
    let mut rows = Rows::new();
    let mut batch = RowBatch::new();
    let mut scan = snapshot.scan(&t.table, None)?;
    while scan.next(&mut batch)? {
        for row in &batch.rows {
            let text = match row.get(2) {
                Datum::Text(text) => text.to_string(),
                other => panic!("a text, not {other:?}"),
            };
            assert!(rows.insert(int(&row.get(0)), (int(&row.get(1)), text)).is_none());
        }
    }
    let mut by_key = Vec::new();
    let mut scan = snapshot.index_scan(&t.table, &t.key, KeyRange::all(), false)?;
    while scan.next(&mut batch)? {
        by_key.extend(batch.rows.iter().map(|row| int(&row.get(0))));
    }
    assert_eq!(by_key, rows.keys().copied().collect::<Vec<_>>(), "primary key");
    let mut by_a = Vec::new();
    let mut scan = snapshot.index_scan(&t.table, &t.a, KeyRange::all(), false)?;
    while scan.next(&mut batch)? {
        by_a.extend(batch.rows.iter().map(|row| int(&row.get(1))));
    }
    let mut expected: Vec<i32> = rows.values().map(|(a, _)| *a).collect();
    expected.sort_unstable();
    assert_eq!(by_a, expected, "index on a");
    Ok(rows)
}

fn open_and_read(disk: &SimulatedDisk) -> Result<Rows> {
    let engine = Engine::open(options(disk))?;
    let rows = read(&engine);
    disk.crash();
    rows
}

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    query: u64,
    harmless: u64,
    shorter: u64,
}

/// Flips bits all over a directory; `closed`: after it not even the last commit may be missing.
fn flips(closed: bool, count: Option<u64>) -> Tally {
    let (disk, states) = directory(closed);
    let newest = states.last().unwrap();
    assert_eq!(&open_and_read(&disk.fork()).unwrap(), newest);
    // Parts of 64 bytes in which there is anything, of the base and of the log.
    let used = |folder: &str| -> Vec<(PathBuf, usize)> {
        let files = disk.files().into_iter().filter(|path| path.starts_with(folder));
        files
            .flat_map(|path| {
                let bytes = disk.contents(&path).unwrap_or_default();
                let parts =
                    bytes.chunks(64).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0));
                parts.map(|(number, _)| (path.clone(), number * 64)).collect::<Vec<_>>()
            })
            .collect()
    };
    let (base, log) = (used("/data/base"), used("/data/wal"));
    let every = 64 * (base.len() + log.len()) as u64;
    let mut random = Random::new(99);
    let mut tally = Tally::default();
    for n in 0..count.unwrap_or(every) {
        // The log is the smaller part and the more interesting one.
        let (part, at) = match count {
            None => (base.iter().chain(&log).nth(n as usize / 64).unwrap(), n as usize % 64),
            Some(_) => {
                let parts = if random.below(2) == 0 { &base } else { &log };
                (&parts[random.below(parts.len() as u64) as usize], random.below(64) as usize)
            }
        };
        let (path, at) = (&part.0, part.1 + at);
        let bit = random.below(8) as u8;
        let damaged = disk.fork();
        damaged.flip(path, at, 1 << bit);
        let place = format!("{} byte {at} bit {bit}", path.display());
        match Engine::open(options(&damaged)) {
            Err(error) => {
                named(&error, &place);
                tally.refused += 1;
            }
            Ok(engine) => {
                match read(&engine) {
                    Ok(rows) if &rows == newest => tally.harmless += 1,
                    Ok(rows) => {
                        let torn = !closed && states.contains(&rows) && path.starts_with("/data/wal");
                        assert!(torn, "{place}: wrong rows");
                        assert_eq!(
                            rows,
                            states[states.len() - 2],
                            "{place}: more than the last batch is gone"
                        );
                        tally.shorter += 1;
                    }
                    Err(error) => {
                        named(&error, &place);
                        tally.query += 1;
                    }
                }
                damaged.crash();
            }
        }
    }
    tally
}

/// Damage is called that, and where it is.
fn named(error: &value::Error, place: &str) {
    let known = [SqlState::DATA_CORRUPTED, SqlState::FEATURE_NOT_SUPPORTED];
    assert!(known.contains(&error.state()), "{place}: {error:?}");
    let text = format!("{} {}", error.message(), error.fields().detail.as_deref().unwrap_or_default());
    assert!(text.contains("/data/") || text.contains("record"), "{place}: {text}");
}

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let count = match std::env::var("FLIPS") {
        Ok(text) if text == "all" => None,
        Ok(text) => Some(text.parse().expect("a number of flips")),
        Err(_) => Some(20_000),
    };
    for closed in [true, false] {
        let tally = flips(closed, count.map(|count| count / 2));
        println!("closed {closed}: {tally:?}");
        assert!(tally.refused > 0 && tally.harmless > 0);
    }
}

#[test]
fn damage_passed_over_in_silence_is_found() {
    let found = std::panic::catch_unwind(|| {
        planted::with(Some(Bug::TruncateAtDamage), || flips(false, Some(5_000)));
    });
    assert!(found.is_err());
}

/// The last 64 KiB of the log's used part, cut at every byte: a prefix of what was committed, and all of it that
/// was whole.
const SEGMENT: u64 = 256 << 10;

#[test]
fn the_log_cut_anywhere_leaves_a_prefix() {
    let disk = SimulatedDisk::new(12);
    let mut with = options(&disk);
    with.wal_segment_size = SEGMENT;
    let engine = setup::open(with.clone());
    let t = Fixture::of(&engine);
    engine.checkpoint().unwrap();
    // Batches of one block and of several.
    let mut states = vec![read(&engine).unwrap().len()];
    for round in 0..24 {
        fill(&engine, &t, (0..1 + (round % 6) * 40).map(|n| (round * 1000 + n, n)));
        states.push(states[states.len() - 1] + 1 + (round % 6) as usize * 40);
    }
    disk.crash();
    drop(engine);
    let log = disk.files().into_iter().rfind(|path| {
        path.starts_with("/data/wal")
            && disk.contents(path).is_some_and(|bytes| bytes.iter().any(|b| *b != 0))
    });
    let log = log.unwrap();
    let bytes = disk.contents(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(used > 64 << 10, "{used} bytes of log");
    // The log alone says how far it goes; one in a hundred is opened as a database too.
    let alone = SimulatedDisk::new(13);
    let folder = Path::new("/data/wal");
    crate::disk::Disk::create_directory(&alone, folder).unwrap();
    let file = |path: &Path| {
        drop(crate::disk::Disk::open(&alone, path, crate::disk::Mode::Create).unwrap());
    };
    file(&log);
    crate::disk::Disk::sync_directory(&alone, folder).unwrap();
    let mut last = 0;
    for cut in used - (64 << 10)..=used {
        let mut left = bytes.clone();
        left[cut..].fill(0);
        let found = if cut % 97 == 0 || cut == used {
            let torn = disk.fork();
            torn.set_contents(&log, &left);
            let engine = Engine::open(Options { disk: std::sync::Arc::new(torn.clone()), ..with.clone() });
            let engine = engine.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let rows = read(&engine).unwrap().len();
            torn.crash();
            let place = states.iter().position(|state| *state == rows);
            place.unwrap_or_else(|| panic!("cut at {cut}: {rows} rows")) as u64
        } else {
            alone.set_contents(&log, &left);
            let options =
                wal::WalOptions { segment_size: SEGMENT, threads: false, ..wal::WalOptions::new(folder, 77) };
            let disk = std::sync::Arc::new(alone.clone());
            let (wal, replay) = wal::Wal::open(disk, options, Lsn(1), Default::default()).unwrap();
            let found = replay.map(|records| records.unwrap().iter().count() as u64).sum::<u64>();
            alone.crash();
            drop(wal);
            found
        };
        assert!(found >= last, "cut at {cut}: {found} after {last}");
        last = found;
    }
    assert_eq!(last as usize, states.len() - 1, "all of it");
}
