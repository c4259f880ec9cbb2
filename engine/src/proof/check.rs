//! What `check` must find: each kind of inconsistency made on purpose, on a directory whose checksums are all right.

use std::path::Path;

use futures::executor::block_on;

use super::crash::options;
use super::setup::{self, Fixture, fill};
use crate::base::RedbStore;
use crate::base::store::{Store, Table as Key};
use crate::disk::{Disk, SimulatedDisk};
use crate::sync::Arc;
use crate::*;

fn directory() -> SimulatedDisk {
    let disk = SimulatedDisk::new(21);
    let mut with = options(&disk);
    // All rows go through the log.
    with.spill_size = 1 << 30;
    with.spill_group = crate::ids::GROUP_ROWS;
    let engine = setup::open(with);
    let t = Fixture::of(&engine);
    fill(&engine, &t, (0..1000).map(|id| (id, id % 7)));
    engine.checkpoint().unwrap();
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    for id in (0..1000).step_by(50) {
        block_on(t.set_a(&mut transaction, id, |a| a + 1)).unwrap();
    }
    transaction.commit().unwrap().durable.wait().unwrap();
    engine.close().unwrap();
    drop(engine);
    disk.crash();
    disk
}

fn findings(disk: &SimulatedDisk) -> Vec<String> {
    let before: Vec<_> = disk.files().iter().map(|path| disk.contents(path)).collect();
    let report = check(Path::new("/data"), Arc::new(disk.clone())).unwrap();
    let after: Vec<_> = disk.files().iter().map(|path| disk.contents(path)).collect();
    assert!(before == after, "a check changes nothing");
    report.findings
}

/// Changes the base behind the engine's back, with right checksums.
fn tamper(disk: &SimulatedDisk, change: impl Fn(&mut dyn crate::base::store::Writer) -> value::Result<()>) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = RedbStore::open(shared, Path::new("/data/base/meta.redb"), 1 << 20, Arc::default()).unwrap();
    store.write(&mut |writer| change(writer)).unwrap();
    store.close().unwrap();
}

/// The keys of a table of the store, for one storage.
fn keys(disk: &SimulatedDisk, table: Key) -> Vec<Vec<u8>> {
    let shared: Arc<dyn Disk> = Arc::new(disk.fork());
    let store = RedbStore::open(shared, Path::new("/data/base/meta.redb"), 1 << 20, Arc::default()).unwrap();
    let mut keys = Vec::new();
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    store
        .read()
        .unwrap()
        .scan(table, all, false, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    keys
}

#[test]
fn a_sound_directory_has_no_findings() {
    let disk = directory();
    let report = check(Path::new("/data"), Arc::new(disk.clone())).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.tables, report.rows, report.indexes), (1, 1000, 2));
    println!("{report:?}");
    assert!(report.replayed, "the log goes back to the first record");
    // A crashed one as well.
    let engine = Engine::open(options(&disk)).unwrap();
    let t = Fixture::of(&engine);
    fill(&engine, &t, (2000..2100).map(|id| (id, id)));
    disk.crash();
    drop(engine);
    let report = check(Path::new("/data"), Arc::new(disk.clone())).unwrap();
    assert_eq!((report.findings.len(), report.rows), (0, 1100));
    // A server that runs.
    let engine = Engine::open(options(&disk)).unwrap();
    let error = check(Path::new("/data"), Arc::new(disk.clone())).unwrap_err();
    assert_eq!(error.state(), value::SqlState::OBJECT_IN_USE);
    drop(engine);
    assert!(check(Path::new("/nothing"), Arc::new(disk)).is_err());
}

#[test]
fn each_inconsistency_is_named() {
    let sound = directory();
    let case = |what: &str, change: &dyn Fn(&mut dyn crate::base::store::Writer) -> value::Result<()>| {
        let disk = sound.fork();
        tamper(&disk, change);
        let found = findings(&disk);
        assert!(found.iter().any(|finding| finding.contains(what)), "{what}: {found:?}");
    };
    let entries = keys(&sound, Key::Index);
    let blocks = keys(&sound, Key::Rows);
    case("rows have no entry", &|writer| writer.delete(Key::Index, &entries[5]));
    case("entries whose row is gone or has another key", &|writer| {
        let mut key = entries[5].clone();
        // The entry of another row id.
        let last = key.len() - 1;
        key[last] ^= 1;
        writer.put(Key::Index, &key, &[])
    });
    case("no index has this storage", &|writer| {
        writer.put(Key::Index, &[&[0, 0, 1, 0][..], &entries[5][4..]].concat(), &[])
    });
    case("rows are counted", &|writer| writer.delete(Key::Rows, &blocks[1]));
    case("checksum mismatch", &|writer| writer.put(Key::Rows, &blocks[1], b"nonsense that is long enough"));
    case("no table has this storage", &|writer| {
        let block = writer.get(Key::Rows, &blocks[1])?.unwrap();
        writer.put(Key::Rows, &[&[0, 0, 1, 0][..], &blocks[1][4..]].concat(), &block)
    });
    // The first blocks of two spans of one group.
    let id = |key: &[u8]| key[4..].iter().fold(0u64, |id, byte| id << 8 | u64::from(*byte));
    let pair = blocks.windows(2).find(|pair| {
        let (a, b) = (id(&pair[0]), id(&pair[1]));
        a.is_multiple_of(128) && b.is_multiple_of(128) && a / 8192 == b / 8192 && pair[0][..4] == pair[1][..4]
    });
    let pair = pair.expect("two spans");
    case("out of order or out of place", &|writer| {
        let block = writer.get(Key::Rows, &pair[1])?.unwrap();
        writer.put(Key::Rows, &pair[0], &block)
    });
    case("pieces are there", &|writer| {
        let mut key = blocks[0][..4].to_vec();
        key.extend_from_slice(&[0; 12]);
        writer.put(Key::Blobs, &key, b"somebody's")
    });
    // A whole row lost together with its entries: only the log knows.
    let disk = sound.fork();
    let log = disk.files().into_iter().find(|path| path.starts_with("/data/wal")).unwrap();
    let contents = disk.contents(&log).unwrap();
    disk.flip(&log, contents.iter().rposition(|byte| *byte != 0).unwrap() / 2, 1);
    assert!(!findings(&disk).is_empty(), "damage in the log");
}
