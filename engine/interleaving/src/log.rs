//! The log: sessions that wait for durability, the thread that writes and the one that prepares.

use std::path::Path;

use shuttle::future::block_on;
use shuttle::thread;

use crate::disk::{Disk, SimulatedDisk};
use crate::ids::Lsn;
use crate::metrics::Metrics;
use crate::sync::Arc;
use crate::wal::record::RecordBuilder;
use crate::wal::{Wal, WalOptions};

fn open(disk: &SimulatedDisk, threads: bool) -> (Wal, u64) {
    let options = WalOptions { segment_size: 64 << 10, retain: 1, threads, ..WalOptions::new("/wal", 7) };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_directory(Path::new("/wal")).expect("a directory");
    let (wal, replay) =
        Wal::open(disk, options, Lsn(0), Arc::new(Metrics::default())).expect("a log that opens");
    let records = replay.map(|records| records.expect("whole records").iter().count() as u64).sum();
    (wal, records)
}

/// How many records a crash in this moment would leave.
fn after_a_crash(disk: &SimulatedDisk) -> u64 {
    let disk = disk.fork();
    disk.crash();
    let (wal, records) = open(&disk, false);
    drop(wal);
    records
}

/// Whoever is told that a record is durable finds it after a crash; everybody is told, also when the log is closed.
pub fn log() {
    let disk = SimulatedDisk::new(1);
    let (wal, _) = open(&disk, true);
    let threads: Vec<_> = (0..2_u32)
        .map(|n| {
            let (wal, disk) = (wal.clone(), disk.clone());
            thread::spawn(move || {
                for round in 0..2 {
                    // Large enough that segments are used up.
                    let mut record = RecordBuilder::new();
                    record.statistics(n, &vec![round; 20 << 10]);
                    let record = record.finish();
                    let room = wal.reserve(record.len()).expect("room");
                    let lsn = wal.append(room, record).expect("a place in the log");
                    match n {
                        0 => wal.wait_durable_blocking(lsn),
                        _ => block_on(wal.wait_durable(lsn)),
                    }
                    .expect("durable");
                    assert!(wal.durable_lsn() >= lsn);
                    assert!(after_a_crash(&disk) >= lsn.0, "an acknowledged record is gone");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
    wal.close().expect("closed");
    assert_eq!(after_a_crash(&disk), 4);
}

/// Appends beside a close are accepted and durable, or refused; nobody waits for ever.
pub fn closing() {
    let disk = SimulatedDisk::new(1);
    let (wal, _) = open(&disk, true);
    let threads: Vec<_> = (0..2_u32)
        .map(|n| {
            let (wal, disk) = (wal.clone(), disk.clone());
            thread::spawn(move || {
                let mut record = RecordBuilder::new();
                record.statistics(n, b"facts");
                let record = record.finish();
                let Ok(room) = wal.reserve(record.len()) else { return };
                let Ok(lsn) = wal.append(room, record) else { return };
                if block_on(wal.wait_durable(lsn)).is_ok() {
                    assert!(after_a_crash(&disk) >= lsn.0, "an acknowledged record is gone");
                }
            })
        })
        .collect();
    wal.close().expect("closed");
    for thread in threads {
        thread.join().expect("a thread");
    }
}
