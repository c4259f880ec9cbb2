use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use value::SqlState;

use super::memory::MemoryStore;
use super::redb::RedbStore;
use super::store::{Keys, Writer, is_empty};
use super::*;
use crate::catalog::Schema;
use crate::disk::{Fault, Mode, Operation, SimulatedDisk};

fn options(disk: &SimulatedDisk) -> BaseOptions {
    BaseOptions {
        disk: Arc::new(disk.clone()),
        directory: PathBuf::from("/db"),
        cache_size: 4 << 20,
        reserve: 1 << 20,
        new_database_id: Some(5),
    }
}

fn simulated(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    disk.create_directory(Path::new("/db")).unwrap();
    disk
}

fn open(disk: &SimulatedDisk) -> Result<Base> {
    Base::open(options(disk), Arc::new(Metrics::default()))
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// Both stores, and what they must do alike.
fn stores() -> Vec<Arc<dyn Store>> {
    let disk = simulated(1);
    let file = Path::new("/db/test.redb");
    let redb = RedbStore::open(Arc::new(disk), file, 1 << 20, Arc::new(Metrics::default())).unwrap();
    vec![Arc::new(MemoryStore::new()), Arc::new(redb)]
}

#[test]
fn stores_do_what_an_ordered_map_does() {
    for store in stores() {
        let mut random = Random(11);
        let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for round in 0..40 {
            let before = store.read().unwrap();
            let mut next = model.clone();
            let fail = random.below(5) == 0;
            let result = store.write(&mut |writer| {
                for _ in 0..random.below(60) {
                    let table = Table::ALL[random.below(3) as usize + 5];
                    let key: Vec<u8> = (0..1 + random.below(3)).map(|_| random.below(4) as u8 * 80).collect();
                    match random.below(10) {
                        0 => {
                            let high: Vec<u8> = (0..2).map(|_| random.below(4) as u8 * 80).collect();
                            let range = (Bound::Included(&key[..]), Bound::Excluded(&high[..]));
                            writer.delete_range(table, range)?;
                            next.retain(|(other, at), _| *other != table || *at < key || *at >= high);
                        }
                        // Neighbours and scattered ones, some of which are there already.
                        1 => {
                            let mut keys = BTreeSet::from([key.clone()]);
                            for _ in 0..random.below(40) {
                                keys.insert([&key[..], &[random.below(30) as u8]].concat());
                                keys.insert(vec![random.below(250) as u8]);
                            }
                            let mut list = Keys::default();
                            keys.iter().for_each(|key| list.push(key));
                            writer.put_keys(table, &mut list.iter())?;
                            next.extend(keys.into_iter().map(|key| ((table, key), Vec::new())));
                        }
                        2..=3 => {
                            writer.delete(table, &key)?;
                            next.remove(&(table, key));
                        }
                        _ => {
                            let value = vec![round as u8; random.below(9000) as usize];
                            writer.put(table, &key, &value)?;
                            assert_eq!(writer.get(table, &key)?.as_deref(), Some(&value[..]));
                            next.insert((table, key), value);
                        }
                    }
                }
                if fail { Err(Error::internal("changed my mind")) } else { Ok(()) }
            });
            assert_eq!(result.is_err(), fail);
            // A reader sees the state it began with.
            same(&*before, &model, &mut random);
            if !fail {
                model = next;
            }
            same(&*store.read().unwrap(), &model, &mut random);
        }
        assert!(!store.failed());
        store.close().unwrap();
    }
}

fn same(reader: &dyn Reader, model: &BTreeMap<(Table, Vec<u8>), Vec<u8>>, random: &mut Random) {
    for table in [Table::Rows, Table::Delta, Table::Blobs] {
        for _ in 0..4 {
            let mut bound = || {
                let key = vec![random.below(4) as u8 * 80; random.below(3) as usize];
                match random.below(3) {
                    0 => Bound::Unbounded,
                    1 => Bound::Included(key),
                    _ => Bound::Excluded(key),
                }
            };
            let (low, high) = (bound(), bound());
            let range = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
            let backward = random.below(2) == 0;
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> = model
                .iter()
                .filter(|((other, key), _)| {
                    *other == table
                        && !is_empty(range)
                        && std::ops::RangeBounds::<[u8]>::contains(&range, &key[..])
                })
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            if backward {
                expected.reverse();
            }
            let limit = 1 + random.below(20) as usize;
            expected.truncate(limit);
            let mut found = Vec::new();
            reader
                .scan(table, range, backward, &mut |key, value| {
                    found.push((key.to_vec(), value.to_vec()));
                    found.len() < limit
                })
                .unwrap();
            assert!(found == expected, "{table:?} {range:?} backward {backward}");
            for (key, value) in &expected {
                assert_eq!(reader.get(table, key).unwrap().as_deref(), Some(&value[..]));
            }
        }
    }
}

/// What a base must hold.
#[derive(Clone, Default)]
struct Model {
    applied: u64,
    rows: BTreeMap<(u32, RowId), Vec<u8>>,
    entries: BTreeSet<(u32, Vec<u8>, RowId)>,
    schemas: BTreeMap<Oid, String>,
    sequences: BTreeMap<Oid, SequenceValue>,
    statistics: BTreeMap<Oid, Vec<u8>>,
    next_rows: BTreeMap<u32, u64>,
}

const INDEX: u32 = 100;

impl Model {
    /// A key that no other key is a prefix of.
    fn key(row: RowId, bytes: &[u8]) -> Vec<u8> {
        format!("{:03}.{}", bytes.len() % 300, row.0 % 7).into_bytes()
    }

    /// The next state, and the way there.
    fn advance(&mut self, random: &mut Random) -> Changes {
        let mut changes = Changes { dropped: Vec::new(), rows: BTreeMap::new(), before: self.clone() };
        self.applied += 1 + random.below(100);
        if random.below(12) == 0 {
            let storage = 1 + random.below(3) as u32;
            changes.dropped = vec![storage, storage + INDEX];
            self.rows.retain(|(other, _), _| *other != storage);
            self.entries.retain(|(other, _, _)| *other != storage + INDEX);
            self.next_rows.remove(&storage);
            changes.before.rows = self.rows.clone();
            changes.before.entries = self.entries.clone();
        }
        for storage in 1..=3 {
            if changes.dropped.contains(&storage) {
                continue;
            }
            let next = *self.next_rows.entry(storage).or_default();
            let appended = if random.below(3) == 0 { random.below(700) } else { random.below(20) };
            let mut touch: Vec<u64> = (next..next + appended).collect();
            self.next_rows.insert(storage, next + appended);
            if next > 0 {
                let (start, count) = (random.below(next), random.below(300));
                match random.below(4) {
                    // A run, scattered ones, or a few hot ones.
                    0 => touch.extend(start..(start + count).min(next)),
                    1 => touch.extend((0..count).map(|_| random.below(next))),
                    2 => touch.extend((0..5).map(|place| (start / 50 + place) % next)),
                    _ => {}
                }
            }
            for row in touch {
                let bytes = match random.below(20) {
                    0..=3 => None,
                    4 => Some(2000 + random.below(3000)),
                    5 if random.below(30) == 0 => Some(600_000),
                    _ => Some(3 + random.below(200)),
                };
                let fill = (random.below(256), self.applied);
                let bytes: Option<Vec<u8>> =
                    bytes.map(|len| (0..len).map(|at| (at * fill.0 + fill.1) as u8).collect());
                changes.rows.insert((storage, RowId(row)), bytes);
            }
        }
        for ((storage, row), bytes) in &changes.rows {
            if let Some(old) = self.rows.remove(&(*storage, *row)) {
                self.entries.remove(&(storage + INDEX, Model::key(*row, &old), *row));
            }
            if let Some(bytes) = bytes {
                self.rows.insert((*storage, *row), bytes.clone());
                self.entries.insert((storage + INDEX, Model::key(*row, bytes), *row));
            }
        }
        let oid = 20_000 + random.below(5) as u32;
        if random.below(2) == 0 {
            self.schemas.insert(oid, format!("schema {}", self.applied));
            self.statistics.insert(oid, vec![self.applied as u8; 30]);
            let value = SequenceValue {
                generation: self.applied as u32,
                value: -(self.applied as i64),
                called: random.below(2) == 0,
            };
            self.sequences.insert(oid, value);
        } else {
            self.schemas.remove(&oid);
            self.statistics.remove(&oid);
            self.sequences.remove(&oid);
        }
        changes
    }

    fn check(&self, base: &Base, random: &mut Random) {
        assert_eq!(base.meta().applied, Lsn(self.applied));
        for storage in 1..=3u32 {
            let mut found = Vec::new();
            for group in 0..base.groups(storage) {
                base.read_group(storage, group, &mut found).unwrap();
            }
            let mut expected = self.rows.range((storage, RowId(0))..(storage + 1, RowId(0)));
            for (row, bytes) in &found {
                let ((_, number), expected) = expected.next().expect("a row too many");
                assert_eq!((storage, *row), (storage, *number));
                assert!(bytes.bytes() == &expected[..], "row {row:?} of {storage}");
            }
            assert!(expected.next().is_none(), "rows are missing in {storage}");
            for _ in 0..20 {
                let row = RowId(random.below(3000));
                let found = base.get(storage, row).unwrap();
                assert_eq!(found.as_deref(), self.rows.get(&(storage, row)).map(Vec::as_slice));
            }
            let start = random.below(3000);
            let part = RowId(start)..RowId(start + random.below(1000));
            let mut found = Vec::new();
            base.read_rows(storage, part.clone(), &mut found).unwrap();
            let expected = self.rows.range((storage, part.start)..(storage, part.end));
            assert_eq!(found.len(), expected.count());

            let index = storage + INDEX;
            for backward in [false, true] {
                let mut bound = || {
                    let key = format!("{:03}.{}", random.below(300), random.below(7)).into_bytes();
                    match random.below(3) {
                        0 => Bound::Unbounded,
                        1 => Bound::Included(key),
                        _ => Bound::Excluded(key),
                    }
                };
                let range = KeyRange { low: bound(), high: bound() };
                let inside = |key: &[u8]| {
                    (match &range.low {
                        Bound::Unbounded => true,
                        Bound::Included(low) => key >= &low[..],
                        Bound::Excluded(low) => key > &low[..],
                    }) && match &range.high {
                        Bound::Unbounded => true,
                        Bound::Included(high) => key <= &high[..],
                        Bound::Excluded(high) => key < &high[..],
                    }
                };
                let mut expected: Vec<(Vec<u8>, RowId)> = self
                    .entries
                    .iter()
                    .filter(|(other, key, _)| *other == index && inside(key))
                    .map(|(_, key, row)| (key.clone(), *row))
                    .collect();
                if backward {
                    expected.reverse();
                }
                let found: Vec<_> = base.index_range(index, &range, backward).collect::<Result<_>>().unwrap();
                assert!(found == expected, "index {index} {range:?}: {} of {}", found.len(), expected.len());
            }
        }
        let schemas: BTreeMap<Oid, String> = base
            .catalog_objects()
            .unwrap()
            .iter()
            .map(|object| (object.oid(), object.name().to_owned()))
            .collect();
        assert_eq!(schemas, self.schemas);
        assert_eq!(base.sequences().unwrap().into_iter().collect::<BTreeMap<_, _>>(), self.sequences);
        assert_eq!(base.statistics().unwrap().into_iter().collect::<BTreeMap<_, _>>(), self.statistics);
    }
}

struct Changes {
    dropped: Vec<u32>,
    rows: BTreeMap<(u32, RowId), Option<Vec<u8>>>,
    /// After the drops.
    before: Model,
}

impl Changes {
    fn checkpoint(&self, base: &Base, after: &Model) -> Result<Base> {
        let mut entries: Vec<IndexChange> = Vec::new();
        for (add, gone) in [
            (false, self.before.entries.difference(&after.entries)),
            (true, after.entries.difference(&self.before.entries)),
        ] {
            entries.extend(gone.map(|(storage, key, row)| IndexChange {
                storage: *storage,
                key: key.clone(),
                row: *row,
                add,
            }));
        }
        entries.sort_by(|a, b| (a.storage, &a.key, a.row).cmp(&(b.storage, &b.key, b.row)));
        let schema = |oid: Oid, name: &str| {
            Object::Schema(Schema {
                oid,
                database: 5,
                name: name.to_owned(),
                owner: 10,
                acl: None,
                comment: None,
            })
        };
        let oids = 20_000..20_005;
        base.checkpoint(CheckpointInput {
            runs: &[],
            changes: None,
            keys: &NoKeys,
            void: Vec::new(),
            aborted: BTreeSet::new(),
            applied: Lsn(after.applied),
            rows: &mut self.rows.iter().map(|((storage, row), bytes)| {
                Ok(RowChange { storage: *storage, row: *row, bytes: bytes.clone().map(RowBytes::from) })
            }),
            indexes: &mut entries.into_iter().map(Ok),
            dropped: self.dropped.clone(),
            catalog: oids
                .clone()
                .map(|oid| match after.schemas.get(&oid) {
                    Some(name) => Change::Put(schema(oid, name)),
                    None => Change::Drop(oid),
                })
                .collect(),
            sequences: oids.clone().map(|oid| (oid, after.sequences.get(&oid).copied())).collect(),
            statistics: oids.map(|oid| (oid, after.statistics.get(&oid).cloned())).collect(),
            storages: after
                .next_rows
                .iter()
                .map(|(storage, next_row)| (*storage, StorageState { next_row: *next_row, rows: 1 }))
                .collect(),
            builds: Vec::new(),
            pending: Vec::new(),
            settled: Vec::new(),
            next_oid: 20_005,
            next_storage: 200,
            expected_bytes: 1 << 20,
        })
    }
}

#[test]
fn checkpoints_add_up() {
    for memory in [true, false] {
        for seed in 0..3 {
            println!("memory {memory}, seed {seed}");
            let disk = simulated(seed);
            let mut random = Random(seed * 31 + 7);
            let mut model = Model::default();
            let mut base = if memory {
                let metrics = Arc::new(Metrics::default());
                Base::on(Arc::new(MemoryStore::new()), options(&disk), metrics).unwrap()
            } else {
                open(&disk).unwrap()
            };
            let mut old: Vec<(Base, Model)> = Vec::new();
            for _ in 0..12 {
                let changes = model.advance(&mut random);
                base = changes.checkpoint(&base, &model).unwrap();
                model.check(&base, &mut random);
                old.push((base.clone(), model.clone()));
                // Older ones stay as they were.
                let (earlier, expected) = &old[random.below(old.len() as u64) as usize];
                expected.check(earlier, &mut random);
                if old.len() > 4 {
                    old.remove(0);
                }
            }
            drop(old);
            if !memory {
                base.close().unwrap();
                drop(base);
                let base = open(&disk).unwrap();
                assert_eq!(base.meta().database_id, 5);
                model.check(&base, &mut random);
            }
        }
    }
}

#[test]
fn a_crash_at_any_moment_leaves_one_checkpoint_or_the_next() {
    for seed in 0..60 {
        let disk = simulated(seed);
        let mut random = Random(seed * 17 + 3);
        let mut model = Model::default();
        let mut base = open(&disk).unwrap();
        for round in 0..4 {
            let mut next = model.clone();
            let changes = next.advance(&mut random);
            let cut = random.below(14);
            println!("seed {seed}, round {round}, cut {cut}");
            disk.fail(Fault::PowerCut(cut));
            let result = changes.checkpoint(&base, &next);
            let done = result.is_ok();
            drop((base, result));
            disk.crash();
            base = open(&disk).unwrap();
            if base.meta().applied == Lsn(next.applied) {
                model = next;
            } else {
                assert!(!done, "a checkpoint that returned is lost");
            }
            model.check(&base, &mut random);
        }
    }
}

#[test]
fn one_seed_is_one_history() {
    let run = || {
        let disk = simulated(8);
        let mut random = Random(8);
        let mut model = Model::default();
        let mut base = open(&disk).unwrap();
        for _ in 0..3 {
            base = model.advance(&mut random).checkpoint(&base, &model).unwrap();
        }
        (disk.operations(), disk.trace())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_crash_while_the_base_is_made_leaves_nothing_or_a_base() {
    for cut in 0..40 {
        let disk = simulated(cut);
        disk.fail(Fault::PowerCut(cut));
        let made = open(&disk).is_ok();
        disk.crash();
        let base = open(&disk).unwrap();
        assert!(!made || base.meta().database_id == 5);
        Model::default().check(&base, &mut Random(1));
    }
}

#[test]
fn what_is_no_data_file_is_refused() {
    let disk = simulated(1);
    drop(disk.open(Path::new("/db/meta.redb"), Mode::Create).unwrap());
    disk.set_contents(Path::new("/db/meta.redb"), &[7; 100_000]);
    assert_eq!(open(&disk).unwrap_err().state(), SqlState::DATA_CORRUPTED);
}

#[test]
fn the_real_disk_keeps_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let options = BaseOptions {
        disk: crate::disk::RealDisk::new(),
        directory: directory.path().to_path_buf(),
        cache_size: 4 << 20,
        reserve: 1 << 20,
        new_database_id: None,
    };
    let metrics = Arc::new(Metrics::default());
    let mut random = Random(21);
    let mut model = Model::default();
    let mut base = Base::open(options.clone(), Arc::clone(&metrics)).unwrap();
    let id = base.meta().database_id;
    for _ in 0..3 {
        base = model.advance(&mut random).checkpoint(&base, &model).unwrap();
    }
    base.close().unwrap();
    drop(base);
    let base = Base::open(options, Arc::clone(&metrics)).unwrap();
    assert_eq!(base.meta().database_id, id);
    model.check(&base, &mut random);
    assert!(metrics.disk_writes.get() > 0 && metrics.disk_reads.get() > 0);
}

#[test]
fn after_an_io_error_the_base_is_opened_anew() {
    for operation in [Operation::Write, Operation::Sync] {
        let disk = simulated(3);
        let mut random = Random(5);
        let mut model = Model::default();
        let mut base = open(&disk).unwrap();
        let changes = model.advance(&mut random);
        base = changes.checkpoint(&base, &model).unwrap();
        let mut next = model.clone();
        let changes = next.advance(&mut random);
        disk.fail(Fault::Once(operation, 0, std::io::ErrorKind::Other));
        let error = changes.checkpoint(&base, &next).unwrap_err();
        assert_eq!(error.state(), SqlState::IO_ERROR, "{error}");
        let old = base;
        base = old.reopen().unwrap();
        model.check(&base, &mut random);
        assert_eq!(old.statistics().unwrap_err().state(), SqlState::IO_ERROR);
        base = changes.checkpoint(&base, &next).unwrap();
        next.check(&base, &mut random);
        // A base that is well is not disturbed.
        let again = base.reopen().unwrap();
        next.check(&again, &mut random);
        next.check(&base, &mut random);
    }
}

#[test]
fn a_checkpoint_without_room_is_refused_before_it_begins() {
    let disk = simulated(4);
    let mut random = Random(6);
    let mut model = Model::default();
    let base = open(&disk).unwrap();
    let changes = model.advance(&mut random);
    disk.set_capacity(Some(disk.used() + 10_000));
    let error = changes.checkpoint(&base, &model).unwrap_err();
    assert_eq!(error.state(), SqlState::DISK_FULL);
    disk.set_capacity(None);
    model.check(&changes.checkpoint(&base.reopen().unwrap(), &model).unwrap(), &mut random);
}

#[test]
fn damage_names_file_table_and_key() {
    let store = Arc::new(MemoryStore::new());
    let disk = simulated(5);
    let base = Base::on(store.clone(), options(&disk), Arc::new(Metrics::default())).unwrap();
    let mut random = Random(9);
    let mut model = Model::default();
    model.next_rows.insert(1, 0);
    let base = loop {
        let changes = model.advance(&mut random);
        let base = changes.checkpoint(&base, &model).unwrap();
        if base.get(1, RowId(0)).unwrap().is_some() {
            break base;
        }
    };
    let key = key::rows(1, RowId(0));
    let mut bytes = store.read().unwrap().get(Table::Rows, &key).unwrap().unwrap().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 4;
    store.write(&mut |writer: &mut dyn Writer| writer.put(Table::Rows, &key, &bytes)).unwrap();
    drop(base);
    let base = Base::on(store, options(&disk), Arc::new(Metrics::default())).unwrap();
    let error = base.get(1, RowId(0)).unwrap_err();
    assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
    assert_eq!(
        error.fields().detail.as_deref(),
        Some("Table ROWS, key 000000010000000000000000: checksum mismatch.")
    );
    assert!(base.read_group(1, 0, &mut Vec::new()).is_err());
}

#[test]
fn a_newer_format_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let meta = format!("{{\"format_version\": {}, \"new\": 1}}", FORMAT_VERSION + 1);
    store.write(&mut |writer| writer.put(Table::Meta, key::META, meta.as_bytes())).unwrap();
    let error = Base::on(store, options(&simulated(1)), Arc::new(Metrics::default())).unwrap_err();
    assert_eq!(error.state(), SqlState::FEATURE_NOT_SUPPORTED);
}

#[test]
fn cached_blocks_serve_all_generations_they_are_right_for() {
    let cache = cache::BlockCache::new(2 << 20, 1, Arc::new(Metrics::default()));
    let span = |n: u64| cache::Key::Span(1, n);
    let blocks = |content: &[u8]| -> cache::Blocks {
        let mut bytes = Vec::new();
        block::encode(&[(0, Entry::Row(RowBytes::from(content)))], true, &mut bytes);
        Arc::new([Block::parse(bytes.into()).unwrap()])
    };
    let found = |n: u64, generation: u64| {
        cache.get(span(n), generation).map(|blocks| match blocks[0].entry(0) {
            Entry::Row(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        })
    };
    cache.put(span(0), 1, &blocks(b"same"), false);
    cache.put(span(1), 1, &blocks(b"old"), false);
    cache.advance(2, &[span(1), span(3)]);
    assert_eq!(found(0, 1), found(0, 2));
    assert_eq!(found(1, 2), None, "changed since");
    // Out of date for the newest.
    cache.put(span(1), 1, &blocks(b"old"), false);
    assert_eq!(found(1, 2), None);
    cache.put(span(1), 2, &blocks(b"new"), false);
    assert_eq!((found(1, 1), found(1, 2)), (None, Some(b"new".to_vec())));
    // Read by an older reader for everybody, and the other way round.
    cache.put(span(2), 1, &blocks(b"any"), false);
    assert_eq!(found(2, 2), Some(b"any".to_vec()));
    cache.put(span(4), 2, &blocks(b"any"), false);
    assert_eq!(found(4, 1), Some(b"any".to_vec()));
    // More changed than is remembered: what was read since is not for older ones.
    let many: Vec<cache::Key> = (100..30_000).map(span).collect();
    cache.advance(3, &many);
    assert_eq!(found(4, 1), None);
    assert_eq!((found(4, 2), found(4, 3)), (Some(b"any".to_vec()), Some(b"any".to_vec())));
    cache.put(span(5), 2, &blocks(b"any"), false);
    assert_eq!(found(5, 3), None);
}

#[test]
fn groups_of_pieces_as_json() {
    let groups = vec![0, 1, 2, 5, 7, 8, u32::MAX - 1, u32::MAX];
    let piece = Piece { storage: 3, groups, ..Piece::default() };
    let json = serde_json::to_string(&piece).unwrap();
    assert!(json.contains("\"groups\":[[0,2],5,[7,8],[4294967294,4294967295]]"), "{json}");
    assert_eq!(serde_json::from_str::<Piece>(&json).unwrap(), piece);
    // As format 1 has them.
    let plain = "{\"storage\":3,\"groups\":[0,1,2,5],\"indexes\":[]}";
    assert_eq!(serde_json::from_str::<Piece>(plain).unwrap().groups, [0, 1, 2, 5]);
}
