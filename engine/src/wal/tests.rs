use std::path::Path;

use proptest::prelude::*;
use value::SqlState;

use super::record::{Op, RecordBuilder, SequenceValue, decode};
use super::*;
use crate::catalog::Change;
use crate::disk::{Fault, Operation, SimulatedDisk};
use crate::ids::RowId;

const DATABASE: u64 = 77;

fn options(retain: usize) -> WalOptions {
    // Few records are replayed as they were found, more are read again.
    let replay_memory = 8 << 10;
    WalOptions { segment_size: 64 << 10, retain, replay_memory, ..WalOptions::new("/db/wal", DATABASE) }
}

fn open(disk: &SimulatedDisk, applied: u64, retain: usize) -> Result<(Wal, Vec<(Lsn, Vec<u8>)>)> {
    let (wal, replay) =
        Wal::open(Arc::new(disk.clone()), options(retain), Lsn(applied), Arc::new(Metrics::default()))?;
    Ok((wal, records(replay)?))
}

fn records(mut replay: Replay) -> Result<Vec<(Lsn, Vec<u8>)>> {
    let mut list = Vec::new();
    while let Some(records) = replay.next() {
        let records = records?;
        list.extend(records.iter().map(|(lsn, bytes)| (lsn, bytes.to_vec())));
        replay.give_back(records);
    }
    Ok(list)
}

fn append(wal: &Wal, record: &[u8]) -> Result<Lsn> {
    wal.append(wal.reserve(record.len())?, record.to_vec())
}

/// A record that says which one it is.
fn record(lsn: u64, len: usize) -> Vec<u8> {
    let mut bytes = lsn.to_le_bytes().to_vec();
    bytes.extend((0..len).map(|place| (lsn as usize * 31 + place * 7) as u8));
    bytes
}

fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) % bound
}

fn newest_segment(disk: &SimulatedDisk) -> std::path::PathBuf {
    // The spare behind it has no header.
    let names = disk.list(Path::new("/db/wal")).unwrap();
    let used = |path: &std::path::PathBuf| {
        segment::SegmentHeader::read(&disk.contents(path).unwrap())
            .is_some_and(|header| path.ends_with(segment::file_name(header.generation)))
    };
    names.iter().rev().map(|name| Path::new("/db/wal").join(name)).find(used).unwrap()
}

#[test]
fn what_was_appended_is_replayed() {
    let disk = SimulatedDisk::new(1);
    let mut expected = Vec::new();
    // Small ones, one larger than a segment, one larger than two; several lives.
    for life in 0..4 {
        let (wal, replayed) = open(&disk, 0, 1000).unwrap();
        assert_eq!(replayed, expected, "life {life}");
        for len in [0, 10, 5000, 70_000, 3, 200_000, 4000, 4036, 60_000, 1] {
            let lsn = Lsn(expected.len() as u64 + 1);
            let bytes = record(lsn.0, len);
            assert_eq!(append(&wal, &bytes).unwrap(), lsn);
            expected.push((lsn, bytes));
        }
        let last = Lsn(expected.len() as u64);
        assert_eq!(wal.last_lsn(), last);
        futures::executor::block_on(wal.wait_durable(last)).unwrap();
        assert!(wal.durable_lsn() >= last);
        if life % 2 == 0 {
            wal.close().unwrap();
            assert_eq!(append(&wal, b"late").unwrap_err().state(), SqlState::ADMIN_SHUTDOWN);
        }
    }
    for applied in 0..expected.len() {
        let (_, replayed) = open(&disk, applied as u64, 1000).unwrap();
        assert_eq!(replayed, expected[applied..], "after {applied}");
    }
}

#[test]
fn crashes_lose_nothing_acknowledged_and_invent_nothing() {
    for seed in 0..40u64 {
        println!("seed {seed}");
        let disk = SimulatedDisk::new(seed);
        let mut random_state = seed * 7919 + 1;
        let mut rand = |bound| random(&mut random_state, bound);
        // What was appended in any life and not yet known to be lost; `durable` of them are acknowledged.
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut durable = 0u64;
        let mut applied = 0u64;
        for life in 0..6 {
            let (wal, replayed) = loop {
                match open(&disk, applied, 2) {
                    Ok(opened) => break opened,
                    Err(error) if disk.is_off() => {
                        println!("  cut while opening: {error}");
                        disk.crash();
                    }
                    Err(error) => panic!("seed {seed}, life {life}: {error}"),
                }
            };
            let found = applied + replayed.len() as u64;
            assert!(found >= durable, "seed {seed}, life {life}: {found} of {durable} acknowledged");
            assert!(found <= written.len() as u64);
            for (place, (lsn, bytes)) in replayed.iter().enumerate() {
                assert_eq!(lsn.0, applied + 1 + place as u64);
                assert_eq!(*bytes, written[lsn.0 as usize - 1], "seed {seed}, life {life}, record {lsn:?}");
            }
            written.truncate(found as usize);
            durable = found;
            disk.fail(Fault::PowerCut(rand(60)));
            for _ in 0..rand(60) {
                let len = match rand(8) {
                    0 => rand(100_000),
                    1 => rand(9_000),
                    _ => rand(300),
                } as usize;
                let bytes = record(written.len() as u64 + 1 + life * 1_000_000, len);
                let Ok(lsn) = append(&wal, &bytes) else { break };
                written.push(bytes);
                assert_eq!(lsn.0, written.len() as u64);
                if rand(3) == 0 {
                    match wal.wait_durable_blocking(lsn) {
                        Ok(()) => durable = lsn.0,
                        Err(_) => break,
                    }
                }
                if rand(10) == 0 {
                    // The checkpoint holds what is durable.
                    applied = durable;
                    if wal.recycle(Lsn(applied)).is_err() {
                        break;
                    }
                }
            }
            drop(wal);
            disk.crash();
        }
    }
}

/// The newest segment with `count` batches of one record each, none closed; and where each batch begins.
fn sample(disk: &SimulatedDisk, count: u64) -> (std::path::PathBuf, Vec<u8>, Vec<usize>) {
    let (wal, _) = open(disk, 0, 10).unwrap();
    for lsn in 1..=count {
        let lsn = append(&wal, &record(lsn, 100 + lsn as usize * 900)).unwrap();
        wal.wait_durable_blocking(lsn).unwrap();
    }
    drop(wal);
    let path = newest_segment(disk);
    let bytes = disk.contents(&path).unwrap();
    let mut starts = vec![4096];
    while let Some(header) = segment::BatchHeader::read(&bytes[starts[starts.len() - 1]..]) {
        starts.push(starts[starts.len() - 1] + segment::BatchHeader::size(header.len) as usize);
    }
    assert_eq!(starts.len() as u64, count + 1);
    (path, bytes, starts)
}

#[test]
fn a_tail_cut_anywhere_ends_the_log_there() {
    let disk = SimulatedDisk::new(3);
    let (path, bytes, starts) = sample(&disk, 5);
    for cut in starts[3]..starts[5] {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        disk.set_contents(&path, &torn);
        let found = reader::scan(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &options(10), Lsn(0)).unwrap();
        let used = |batch: usize| {
            let header = segment::BatchHeader::read(&bytes[starts[batch]..]).unwrap();
            starts[batch] + segment::HEADER + header.len
        };
        // A batch whose used bytes are all there counts; the padding does not matter.
        let whole = (0..5).filter(|batch| cut >= used(*batch)).count() as u64;
        let zero_tail =
            (0..5).filter(|batch| torn[starts[*batch]..used(*batch)] == bytes[starts[*batch]..used(*batch)]);
        assert!(found.last == whole || found.last == zero_tail.count() as u64, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_damage_unless_it_is_the_tail() {
    let disk = SimulatedDisk::new(4);
    let (path, bytes, starts) = sample(&disk, 4);
    let scan = |applied| reader::scan(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &options(10), Lsn(applied));
    for batch in 0..4 {
        let header = segment::BatchHeader::read(&bytes[starts[batch]..]).unwrap();
        for at in starts[batch]..starts[batch] + segment::HEADER + header.len {
            disk.flip(&path, at, 1 << (at % 8));
            let result = scan(0);
            disk.flip(&path, at, 1 << (at % 8));
            if batch < 3 {
                let error = result.expect_err("damage before the tail");
                assert_eq!(error.state(), SqlState::DATA_CORRUPTED, "byte {at}");
            } else {
                assert_eq!(result.unwrap().last, 3, "byte {at}");
            }
        }
    }
    // The header of the segment, and a segment of another database.
    disk.flip(&path, 20, 1);
    assert_eq!(scan(0).unwrap_err().state(), SqlState::DATA_CORRUPTED);
    disk.flip(&path, 20, 1);
    let other = WalOptions { database_id: 78, ..options(10) };
    let error = reader::scan(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &other, Lsn(0)).unwrap_err();
    assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
    assert_eq!(scan(0).unwrap().last, 4);
    // After a close in good order even the last batch is known to have been there.
    let (wal, _) = open(&disk, 0, 10).unwrap();
    append(&wal, b"one more").unwrap();
    wal.close().unwrap();
    let path = newest_segment(&disk);
    disk.flip(&path, 4096 + segment::HEADER, 1);
    assert_eq!(scan(0).unwrap_err().state(), SqlState::DATA_CORRUPTED);
}

#[test]
fn a_missing_segment_is_damage() {
    let disk = SimulatedDisk::new(5);
    let (wal, _) = open(&disk, 0, 100).unwrap();
    for lsn in 1..=20 {
        append(&wal, &record(lsn, 20_000)).unwrap();
    }
    wal.close().unwrap();
    disk.remove(Path::new("/db/wal/wal_000003.log")).unwrap();
    assert_eq!(open(&disk, 0, 100).unwrap_err().state(), SqlState::DATA_CORRUPTED);
    disk.remove(Path::new("/db/wal/wal_000001.log")).unwrap();
    assert_eq!(open(&disk, 0, 100).unwrap_err().state(), SqlState::DATA_CORRUPTED);
    // What the base holds need not be in the log.
    assert_eq!(open(&disk, 15, 100).unwrap().1.len(), 5);
}

#[test]
fn recycled_segments_never_show_old_records() {
    let disk = SimulatedDisk::new(6);
    let mut last = 0;
    for life in 0..20 {
        let (wal, replayed) = open(&disk, last, 1).unwrap();
        assert!(replayed.is_empty(), "life {life}");
        for _ in 0..30 {
            last = append(&wal, &record(last + 1, 9_000)).unwrap().0;
        }
        wal.wait_durable_blocking(Lsn(last)).unwrap();
        wal.recycle(Lsn(last)).unwrap();
        let segments = disk.list(Path::new("/db/wal")).unwrap().len();
        assert!(segments < 16, "{segments} segments are left");
    }
}

#[test]
fn segments_wait_for_the_archive() {
    let disk = SimulatedDisk::new(14);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let archive = archive::DirectoryArchive::new(shared.clone(), PathBuf::from("/archive")).unwrap();
    let with = WalOptions {
        archive: Some(Arc::new(archive)),
        threads: false,
        max_size: 8 * (64 << 10),
        ..options(1)
    };
    let metrics = Arc::new(Metrics::default());
    let mut last = 0;
    let mut stored: Vec<String> = Vec::new();
    for life in 0..3 {
        let (wal, _) = Wal::open(shared.clone(), with.clone(), Lsn(last), metrics.clone()).unwrap();
        let mut load = |wal: &Wal| {
            for _ in 0..30 {
                last = append(wal, &record(last + 1, 9_000)).unwrap().0;
            }
            wal.wait_durable_blocking(Lsn(last)).unwrap();
            wal.recycle(Lsn(last)).unwrap();
        };
        if life == 1 {
            // The archive is out of order: nothing is used again, and the metrics say so.
            let fault = Fault::Always(Operation::Sync, std::io::ErrorKind::PermissionDenied);
            for _ in 0..2 {
                for _ in 0..30 {
                    last = append(&wal, &record(last + 1, 9_000)).unwrap().0;
                }
                wal.wait_durable_blocking(Lsn(last)).unwrap();
                disk.fail(fault);
                wal.recycle(Lsn(last)).unwrap();
                disk.heal();
            }
            assert!(metrics.wal_unarchived.get() > 5);
            let over = metrics.wal_over_limit.get();
            assert!(over > 0);
            assert!(metrics.wal_archive_failures.get() > 0);
            wal.recycle(Lsn(last)).unwrap();
            assert_eq!(metrics.wal_unarchived.get(), 0);
            assert!(metrics.wal_over_limit.get() < over);
        } else {
            load(&wal);
        }
        let there = disk.list(Path::new("/archive")).unwrap();
        assert!(stored.iter().all(|name| there.contains(name)) && there.len() > stored.len());
        assert!(there.iter().all(|name| segment::number_of(name).is_some()), "{there:?}");
        stored = there;
        wal.close().unwrap();
    }
    // Every record is in the archive or the log, once.
    for name in &stored {
        let from = disk.contents(&Path::new("/archive").join(name)).unwrap();
        let to = Path::new("/db/wal").join(name);
        if disk.contents(&to).is_none() {
            drop(shared.open(&to, crate::disk::Mode::CreateNew).unwrap());
            disk.set_contents(&to, &from);
        }
    }
    let (_, all) = open(&disk, 0, 1000).unwrap();
    assert_eq!(all.len() as u64, last);
    // Somebody else's segment is not overwritten.
    disk.set_contents(&Path::new("/archive").join(&stored[0]), &[1; 64 << 10]);
    let file = shared.open(&Path::new("/db/wal").join(&stored[0]), crate::disk::Mode::Existing).unwrap();
    let archive = with.archive.as_ref().unwrap();
    assert_eq!(archive.store(&stored[0], &*file).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn a_failed_write_seals_the_log() {
    for (operation, countdown) in [(Operation::Write, 0), (Operation::Sync, 0)] {
        let disk = SimulatedDisk::new(7);
        let (wal, _) = open(&disk, 0, 10).unwrap();
        let lsn = append(&wal, b"first").unwrap();
        wal.wait_durable_blocking(lsn).unwrap();
        // The preparer is done when there is a spare.
        while disk.list(Path::new("/db/wal")).unwrap().len() < 2 {
            crate::sync::thread::yield_now();
        }
        crate::sync::thread::sleep(std::time::Duration::from_millis(50));
        disk.fail(Fault::Once(operation, countdown, std::io::ErrorKind::Other));
        let lsn = append(&wal, b"second").unwrap();
        let error = futures::executor::block_on(wal.wait_durable(lsn)).unwrap_err();
        assert_eq!(error.state(), SqlState::IO_ERROR);
        assert_eq!(wal.failed(), Some(error.clone()));
        assert_eq!(append(&wal, b"third").unwrap_err(), error);
        assert_eq!(wal.durable_lsn(), Lsn(1));
        assert_eq!(wal.close().unwrap_err(), error);
    }
}

#[test]
fn a_full_disk_refuses_before_it_accepts() {
    let disk = SimulatedDisk::new(8);
    let (wal, _) = open(&disk, 0, 10).unwrap();
    let lsn = append(&wal, b"first").unwrap();
    wal.wait_durable_blocking(lsn).unwrap();
    while disk.list(Path::new("/db/wal")).unwrap().len() < 2 {
        crate::sync::thread::yield_now();
    }
    // No new files, while writing into those that are there goes on.
    let mut accepted = 1;
    disk.set_capacity(Some(2 * (64 << 10)));
    let error = loop {
        match append(&wal, &record(accepted + 1, 10_000)) {
            Ok(lsn) => accepted = lsn.0,
            Err(error) => break error,
        }
    };
    assert_eq!(error.state(), SqlState::DISK_FULL);
    wal.wait_durable_blocking(Lsn(accepted)).unwrap();
    assert!(wal.failed().is_none());
    disk.set_capacity(None);
    loop {
        match append(&wal, &record(accepted + 1, 10_000)) {
            Ok(lsn) => break assert_eq!(lsn.0, accepted + 1),
            Err(_) => crate::sync::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
    wal.close().unwrap();
    assert_eq!(open(&disk, 0, 10).unwrap().1.len() as u64, accepted + 1);
}

#[test]
fn the_real_disk_keeps_the_log() {
    let directory = tempfile::tempdir().unwrap();
    for synchronous in [true, false] {
        let options = WalOptions {
            segment_size: 256 << 10,
            synchronous,
            ..WalOptions::new(directory.path().join(format!("wal-{synchronous}")), DATABASE)
        };
        let mut last = 0;
        for _ in 0..3 {
            let disk = crate::disk::RealDisk::new();
            let (wal, replay) = Wal::open(disk, options.clone(), Lsn(0), Arc::default()).unwrap();
            assert_eq!(records(replay).unwrap().last().map_or(0, |(lsn, _)| lsn.0), last);
            for _ in 0..100 {
                last = append(&wal, &record(last + 1, 7_000)).unwrap().0;
            }
            wal.close().unwrap();
            assert_eq!(wal.durable_lsn(), Lsn(last));
        }
    }
}

#[test]
fn many_threads_share_syncs() {
    let disk = SimulatedDisk::new(9);
    let (wal, _) = open(&disk, 0, 10).unwrap();
    crate::sync::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let lsn = append(&wal, b"transfer").unwrap();
                    futures::executor::block_on(wal.wait_durable(lsn)).unwrap();
                }
            });
        }
    });
    assert_eq!(wal.durable_lsn(), Lsn(4000));
    wal.close().unwrap();
    assert_eq!(open(&disk, 0, 10).unwrap().1.len(), 4000);
}

#[derive(Clone, Debug)]
enum Sample {
    Insert(u32, u64, Vec<u8>),
    Update(u32, u64, Vec<u8>),
    Delete(u32, u64),
    Drop(u32),
    Sequence(u32, SequenceValue),
    Statistics(u32, Vec<u8>),
    NextIds(u32, u32),
    Entry(u32, bool, Vec<u8>),
    Publish(u64, u32, i64),
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let sequence = any::<(u32, i64, bool)>().prop_map(|(generation, value, called)| SequenceValue {
        generation,
        value,
        called,
    });
    prop::collection::vec(
        prop_oneof![
            (any::<u32>(), any::<u64>(), bytes()).prop_map(|(s, r, b)| Sample::Insert(s, r, b)),
            (any::<u32>(), any::<u64>(), bytes()).prop_map(|(s, r, b)| Sample::Update(s, r, b)),
            any::<(u32, u64)>().prop_map(|(s, r)| Sample::Delete(s, r)),
            any::<u32>().prop_map(Sample::Drop),
            (any::<u32>(), sequence).prop_map(|(o, v)| Sample::Sequence(o, v)),
            (any::<u32>(), bytes()).prop_map(|(o, b)| Sample::Statistics(o, b)),
            any::<(u32, u32)>().prop_map(|(o, s)| Sample::NextIds(o, s)),
            (any::<u32>(), any::<bool>(), bytes()).prop_map(|(s, l, b)| Sample::Entry(s, l, b)),
            any::<(u64, u32, i64)>().prop_map(|(p, s, r)| Sample::Publish(p, s, r)),
        ],
        0..20,
    )
}

proptest! {
    #[test]
    fn records_round_trip_and_damage_never_panics(samples in samples(), cut in any::<usize>(), flip in any::<usize>()) {
        let mut builder = RecordBuilder::new();
        for sample in &samples {
            match sample {
                Sample::Insert(storage, row, bytes) => builder.insert(*storage, RowId(*row), bytes),
                Sample::Update(storage, row, bytes) => builder.update(*storage, RowId(*row), bytes),
                Sample::Delete(storage, row) => builder.delete(*storage, RowId(*row)),
                Sample::Drop(oid) => builder.catalog(&Change::Drop(*oid)).unwrap(),
                Sample::Sequence(oid, value) => builder.sequence(*oid, *value),
                Sample::Statistics(oid, bytes) => builder.statistics(*oid, bytes),
                Sample::NextIds(oid, storage) => builder.next_ids(*oid, *storage),
                Sample::Entry(storage, live, bytes) => builder.entry(*storage, bytes, *live),
                Sample::Publish(piece, storage, rows) => builder.publish(*piece, *storage, *rows),
            }
        }
        prop_assert_eq!(builder.is_empty(), samples.is_empty());
        let mut bytes = builder.finish();
        let ops = decode(&bytes).collect::<Result<Vec<_>>>().unwrap();
        let expected: Vec<Op<'_>> = samples
            .iter()
            .map(|sample| match sample {
                Sample::Insert(storage, row, bytes) => Op::Insert { storage: *storage, row: RowId(*row), bytes },
                Sample::Update(storage, row, patch) => Op::Update { storage: *storage, row: RowId(*row), patch },
                Sample::Delete(storage, row) => Op::Delete { storage: *storage, row: RowId(*row) },
                Sample::Drop(oid) => Op::Catalog(Box::new(Change::Drop(*oid))),
                Sample::Sequence(oid, value) => Op::Sequence { oid: *oid, value: *value },
                Sample::Statistics(oid, bytes) => Op::Statistics { oid: *oid, bytes },
                Sample::NextIds(oid, storage) => Op::NextIds { oid: *oid, storage: *storage },
                Sample::Entry(storage, live, entry) => Op::Entry { storage: *storage, live: *live, entry },
                Sample::Publish(piece, storage, rows) => {
                    Op::Publish { piece: *piece, storage: *storage, rows: *rows }
                }
            })
            .collect();
        prop_assert_eq!(ops, expected);
        let at = flip % bytes.len();
        bytes[at] ^= 1 << (flip % 8);
        let _ = decode(&bytes).collect::<Vec<_>>();
        let _ = decode(&bytes[..cut % (bytes.len() + 1)]).collect::<Vec<_>>();
    }
}
