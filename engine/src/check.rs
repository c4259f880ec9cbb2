//! `startdb check`: a closed directory, looked at as a whole, without changing a byte of it.
//!
//! The hard idea: everything is read through a disk that keeps changes to itself, so that opening, which repairs,
//! replays and writes, can be tried out on the very files in question. First the files are checked for
//! what each must be by itself, then the database is opened on top and asked what must be true between tables and
//! indexes, and, where the log still goes back to the first record, whether replaying all of it gives the same rows.

use std::path::Path;

use value::{Error, Result, SqlState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::verify::describe;
use crate::base::{self, Base, BaseOptions};
use crate::catalog::{Object, Persistence, Table};
use crate::disk::{Disk, OverlayDisk};
use crate::engine::{Engine, Options};
use crate::ids::RowId;
use crate::index::{self, KeyRange, KeyShape, may_repeat};
use crate::metrics::Metrics;
use crate::scan::{IndexScan, RowBatch};
use crate::snapshot::{Snapshot, Source};
use crate::sync::Arc;
use crate::wal::{self, WalOptions};

/// What a check looked at and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Row blocks and deltas of the base.
    pub blocks: u64,
    pub log_records: u64,
    pub tables: u64,
    pub rows: u64,
    pub indexes: u64,
    pub index_entries: u64,
    /// The log goes back to the first record, and was replayed from there.
    pub replayed: bool,
    /// What is wrong, each naming its file or table. Empty: nothing.
    pub findings: Vec<String>,
}

/// Findings after which it stops counting.
const MOST: usize = 1000;
/// A log up to this size is replayed from its first record.
const REPLAY: u64 = 256 << 20;

/// Checks the database in a directory that no server uses. Errors are what keeps it from looking at all (`55006`: a
/// server is running; `58030`); damage is in the report.
pub fn check(directory: &Path, disk: Arc<dyn Disk>) -> Result<CheckReport> {
    let overlay = Arc::new(OverlayDisk::new(Arc::clone(&disk)));
    let lock = disk.lock_directory(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::new(
            SqlState::OBJECT_IN_USE,
            format!("data directory \"{}\" is in use by another process", directory.display()),
        )
        .hint("Stop the server first."),
        _ => crate::disk::error("lock", directory, &error),
    })?;
    let mut report = CheckReport::default();
    let found = &mut |what: String, report: &mut CheckReport| {
        if report.findings.len() < MOST && !report.findings.contains(&what) {
            report.findings.push(what);
        }
    };
    let base_directory = directory.join("base");
    let file = base_directory.join(base::FILE);
    if !disk.exists(&file).map_err(|error| crate::disk::error("look at", &file, &error))? {
        return Err(Error::new(
            SqlState::UNDEFINED_FILE,
            format!("there is no database in \"{}\"", directory.display()),
        )
        .hint("Name its directory with --data-dir."));
    }
    // The base by itself.
    let options = BaseOptions {
        disk: overlay.clone(),
        directory: base_directory.clone(),
        cache_size: 64 << 20,
        reserve: 0,
        new_database_id: None,
    };
    match base::RedbStore::verify(overlay.clone(), &file) {
        Ok(true) => {}
        Ok(false) => found(
            format!("file \"{}\": its list of free pages had to be made anew", file.display()),
            &mut report,
        ),
        Err(error) => found(describe(&error), &mut report),
    }
    let mut applied = None;
    let mut database_id = 0;
    match Base::open(options, Arc::new(Metrics::default())) {
        Ok(base) => {
            let meta = base.meta();
            (applied, database_id) = (Some(meta.applied), meta.database_id);
            let mut list = Vec::new();
            let counts = base.verify(&mut |what| list.push(what))?;
            (report.blocks, report.index_entries) = (counts.blocks, counts.index_entries);
            for what in list {
                found(what, &mut report);
            }
            base.close()?;
        }
        Err(error) => found(describe(&error), &mut report),
    }
    let Some(applied) = applied else { return Ok(report) };
    // The log by itself.
    let wal_options = WalOptions::new(directory.join("wal"), database_id);
    let dynamic: Arc<dyn Disk> = overlay.clone();
    let log = match wal::verify(&dynamic, &wal_options, applied) {
        Ok(log) => Some(log),
        Err(error) => {
            found(describe(&error), &mut report);
            None
        }
    };
    if let Some(log) = &log {
        report.log_records = log.records;
    }
    if !report.findings.is_empty() {
        // What is built on damaged files says nothing new.
        return Ok(report);
    }
    // Both together.
    let mut options = Options::new(directory);
    options.cache_size = 64 << 20;
    options.threads = false;
    options.disk = overlay.clone();
    let engine = match Engine::open(options.clone()) {
        Ok(engine) => engine,
        Err(error) => {
            found(describe(&error), &mut report);
            return Ok(report);
        }
    };
    // Rows of transactions that had not ended are taken out, as the next start would.
    if let Err(error) = engine.checkpoint() {
        found(describe(&error), &mut report);
        return Ok(report);
    }
    let mut hashes = Vec::new();
    let snapshot = engine.snapshot();
    for table in tables(&engine) {
        let mut list = Vec::new();
        match table_rows(&engine, &snapshot, &table, &mut report, &mut |what| list.push(what)) {
            Ok(hash) => hashes.push((table.oid, hash)),
            Err(error) => list.push(describe(&error)),
        }
        for what in list {
            found(what, &mut report);
        }
    }
    drop(snapshot);
    let last = engine.last_lsn();
    drop(engine);
    if let Some(log) = log
        && log.complete
        && log.bytes <= REPLAY
        && report.findings.is_empty()
    {
        let alone = Arc::new(OverlayDisk::new(Arc::clone(&disk)));
        alone.remove(&file).map_err(|error| crate::disk::error("set aside", &file, &error))?;
        options.disk = alone;
        options.new_database_id = Some(database_id);
        let replayed = Engine::open(options);
        match replayed {
            Ok(engine) => {
                report.replayed = true;
                let snapshot = engine.snapshot();
                let again = tables(&engine)
                    .into_iter()
                    .map(|table| Ok((table.oid, hash_rows(&snapshot, &table)?.1)))
                    .collect::<Result<Vec<_>>>();
                match again {
                    Ok(again) if again == hashes && engine.last_lsn() == last => {}
                    Ok(again) => {
                        for (oid, hash) in &hashes {
                            if !again.contains(&(*oid, *hash)) {
                                let what = format!(
                                    "table {}: replaying the log from its first record gives other rows",
                                    name(&engine, *oid)
                                );
                                found(what, &mut report);
                            }
                        }
                        if again.len() != hashes.len() {
                            found(
                                "replaying the log from its first record gives other tables".to_owned(),
                                &mut report,
                            );
                        }
                    }
                    Err(error) => found(describe(&error), &mut report),
                }
            }
            Err(error) => {
                found(format!("replaying the log from its first record: {}", describe(&error)), &mut report)
            }
        }
    }
    drop(lock);
    Ok(report)
}

fn tables(engine: &Engine) -> Vec<Arc<Table>> {
    let catalog = engine.catalog();
    let tables = catalog.objects().filter_map(|object| match object {
        Object::Table(table) if table.persistence == Persistence::Permanent => Some(table.clone()),
        _ => None,
    });
    tables.collect()
}

fn name(engine: &Engine, oid: u32) -> String {
    engine.catalog().get(oid).map_or_else(|| oid.to_string(), |object| format!("\"{}\"", object.name()))
}

/// Number of rows, and a hash over them.
fn hash_rows(snapshot: &Snapshot, table: &Table) -> Result<(u64, u64)> {
    let mut scan = snapshot.scan(table, None)?;
    let mut batch = RowBatch::new();
    let (mut count, mut hash) = (0, 0);
    while scan.next(&mut batch)? {
        for (id, row) in batch.ids.iter().zip(&batch.rows) {
            count += 1;
            hash = xxh3_64_with_seed(row.bytes(), hash ^ id.0);
        }
    }
    Ok((count, hash))
}

/// A table's rows and its indexes: every row has its entries, every entry its row, unique keys occur once.
fn table_rows(
    engine: &Engine,
    snapshot: &Snapshot,
    table: &Arc<Table>,
    report: &mut CheckReport,
    found: &mut dyn FnMut(String),
) -> Result<u64> {
    let catalog = engine.catalog();
    let (count, hash) = hash_rows(snapshot, table)?;
    report.tables += 1;
    report.rows += count;
    let counted = snapshot.row_estimate(table);
    if counted != count {
        found(format!("table \"{}\": {counted} rows are counted, {count} are there", table.name));
    }
    let indexes: Vec<_> = catalog.indexes(table.oid).cloned().collect();
    let shapes: Vec<KeyShape> = indexes.iter().map(|index| KeyShape::of(table, index)).collect();
    // How many rows belong into each index.
    let mut expected = vec![0u64; indexes.len()];
    let mut scan = snapshot.scan(table, None)?;
    let mut batch = RowBatch::new();
    while scan.next(&mut batch)? {
        for row in &batch.rows {
            for (shape, count) in shapes.iter().zip(&mut expected) {
                *count += u64::from(shape.key(row).is_some());
            }
        }
    }
    for ((index, shape), expected) in indexes.iter().zip(&shapes).zip(expected) {
        report.indexes += 1;
        if !index.state.is_full() {
            continue;
        }
        let mut scan = IndexScan::new(snapshot, table, index, KeyRange::all(), false)?;
        let (mut valid, mut stray, mut repeated) = (0u64, 0u64, 0u64);
        let mut first_stray: Option<RowId> = None;
        let mut before: Option<Vec<u8>> = None;
        while let Some((entry, source)) = scan.next_entry()? {
            let (key, id) = index::split(&entry);
            let row = snapshot.get(table, id)?;
            let same = row.as_ref().is_some_and(|row| shape.key(row).as_deref() == Some(key));
            match (same, row) {
                (true, Some(row)) => {
                    valid += 1;
                    if !may_repeat(shape, index, &row) && before.as_deref() == Some(key) {
                        repeated += 1;
                    }
                    before = Some(key.to_vec());
                }
                // Entries above the base may be out of date: readers compare them with their row.
                _ if source == Source::Overlay => {}
                _ => {
                    stray += 1;
                    first_stray.get_or_insert(id);
                }
            }
        }
        let mut bad = |what: String| {
            found(format!("table \"{}\", index \"{}\": {what}", table.name, index.name));
        };
        if let Some(id) = first_stray {
            bad(format!(
                "{stray} entries whose row is gone or has another key, the first one for row id {}",
                id.0
            ));
        }
        if valid < expected {
            bad(format!("{} of {expected} rows have no entry", expected - valid));
        }
        if valid > expected {
            bad(format!("{} entries too many", valid - expected));
        }
        if repeated > 0 {
            bad(format!("{repeated} keys occur more than once"));
        }
    }
    Ok(hash)
}
