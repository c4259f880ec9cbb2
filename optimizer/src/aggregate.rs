//! Counters per fingerprint: how often, how long, how many rows. Bounded in fingerprints and in bytes: the least costly make
//! room. History is kept by day for a week.
//!
//! Quantiles come from a histogram with logarithmic buckets (factor 2^(1/4), so a quantile is off by at most 19 %), which adds
//! up over days without error and fits in a line of JSON.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use session::query_log::{Event, Record};
use value::Oid;

/// Fingerprints kept at most.
pub const MOST_FINGERPRINTS: usize = 10_000;
/// Bytes of saved state at most; texts are cut to fit.
pub const MOST_BYTES: usize = 64 << 20;
/// Characters of a statement's text that are kept.
const MOST_TEXT: usize = 2_000;
/// Days of history.
pub const DAYS: i64 = 7;
const DAY_MICROS: i64 = 86_400_000_000;

/// Everything known about all fingerprints.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Aggregates {
    queries: HashMap<u64, Query>,
}

/// One normalised statement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Query {
    pub fingerprint: u64,
    pub database: Oid,
    /// With its literals taken out.
    pub text: Arc<str>,
    /// As it was sent once.
    pub sample: Arc<str>,
    /// By day number since 2000-01-01.
    pub days: BTreeMap<i64, Day>,
    /// Indexes it was seen to read.
    pub indexes: Vec<Oid>,
    /// Microseconds since 2000-01-01 UTC.
    pub first_seen: i64,
    pub last_seen: i64,
}

/// What one statement did on one day, or over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    pub calls: u64,
    pub errors: u64,
    pub cache_hits: u64,
    pub total_ns: u64,
    pub minimum_ns: u64,
    pub maximum_ns: u64,
    pub planning_ns: u64,
    pub rows_scanned: u64,
    pub rows_returned: u64,
    /// Executions by logarithm of their time: bucket -> count.
    pub latencies: BTreeMap<u16, u64>,
}

impl Day {
    fn add(&mut self, record: &Record) {
        self.minimum_ns =
            if self.calls == 0 { record.execution_ns } else { self.minimum_ns.min(record.execution_ns) };
        self.maximum_ns = self.maximum_ns.max(record.execution_ns);
        self.calls += 1;
        self.errors += u64::from(record.failed);
        self.cache_hits += u64::from(record.cache_hit);
        self.total_ns = self.total_ns.saturating_add(record.execution_ns);
        self.planning_ns = self.planning_ns.saturating_add(record.planning_ns);
        self.rows_scanned = self.rows_scanned.saturating_add(record.rows_scanned);
        self.rows_returned = self.rows_returned.saturating_add(record.rows_returned);
        *self.latencies.entry(bucket(record.execution_ns)).or_default() += 1;
    }

    fn merge(&mut self, other: &Day) {
        self.minimum_ns = match (self.calls, other.calls) {
            (0, _) => other.minimum_ns,
            (_, 0) => self.minimum_ns,
            _ => self.minimum_ns.min(other.minimum_ns),
        };
        self.maximum_ns = self.maximum_ns.max(other.maximum_ns);
        self.calls += other.calls;
        self.errors += other.errors;
        self.cache_hits += other.cache_hits;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.planning_ns = self.planning_ns.saturating_add(other.planning_ns);
        self.rows_scanned = self.rows_scanned.saturating_add(other.rows_scanned);
        self.rows_returned = self.rows_returned.saturating_add(other.rows_returned);
        for (bucket, count) in &other.latencies {
            *self.latencies.entry(*bucket).or_default() += count;
        }
    }

    /// The time below which that share of executions stayed, in nanoseconds.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.calls as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in &self.latencies {
            seen += count;
            if seen >= wanted {
                return upper_bound(*bucket).min(self.maximum_ns);
            }
        }
        self.maximum_ns
    }
}

/// Quarter powers of two.
fn bucket(nanoseconds: u64) -> u16 {
    ((nanoseconds.max(1) as f64).log2() * 4.0) as u16
}

fn upper_bound(bucket: u16) -> u64 {
    2f64.powf((f64::from(bucket) + 1.0) / 4.0) as u64
}

impl Query {
    /// All days together.
    pub fn total(&self) -> Day {
        let mut total = Day::default();
        self.days.values().for_each(|day| total.merge(day));
        total
    }
}

impl Aggregates {
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        self.queries.values()
    }

    /// Takes in what a session sent.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Text { fingerprint, database, text, sample } => {
                if self.queries.len() >= MOST_FINGERPRINTS && !self.queries.contains_key(&fingerprint) {
                    self.make_room();
                }
                let query = self.queries.entry(fingerprint).or_insert_with(|| Query {
                    fingerprint,
                    database,
                    text: cut(&text),
                    sample: Arc::from(""),
                    days: BTreeMap::new(),
                    indexes: Vec::new(),
                    first_seen: i64::MAX,
                    last_seen: i64::MIN,
                });
                // A statement too long to keep whole cannot be planned again: no sample then.
                query.sample = if sample.chars().count() <= MOST_TEXT { sample } else { Arc::from("") };
            }
            Event::Finished(record) => {
                // A record whose text was dropped has nothing to be shown under.
                let Some(query) = self.queries.get_mut(&record.fingerprint) else { return };
                query.first_seen = query.first_seen.min(record.start);
                query.last_seen = query.last_seen.max(record.start);
                for index in record.indexes.into_iter().filter(|index| *index != 0) {
                    if !query.indexes.contains(&index) && query.indexes.len() < 32 {
                        query.indexes.push(index);
                    }
                }
                query.days.entry(record.start.div_euclid(DAY_MICROS)).or_default().add(&record);
            }
        }
    }

    /// Drops the tenth of the fingerprints that cost the least time.
    fn make_room(&mut self) {
        let mut by_cost: Vec<(u64, u64)> =
            self.queries.values().map(|query| (query.total().total_ns, query.fingerprint)).collect();
        by_cost.sort_unstable();
        for (_, fingerprint) in by_cost.into_iter().take(MOST_FINGERPRINTS / 10) {
            self.queries.remove(&fingerprint);
        }
    }

    /// Forgets days older than a week before `now` (microseconds since 2000-01-01 UTC).
    pub fn expire(&mut self, now: i64) {
        let oldest = now.div_euclid(DAY_MICROS) - DAYS;
        self.queries.retain(|_, query| {
            query.days.retain(|day, _| *day > oldest);
            !query.days.is_empty() || query.first_seen == i64::MAX
        });
    }

    /// Writes the state beside `path` and renames it there, so that a crash leaves the old or the new. Errors: as of
    /// the file system.
    pub fn save(&mut self, path: &Path) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        while bytes.len() > MOST_BYTES && !self.queries.is_empty() {
            self.make_room();
            bytes = serde_json::to_vec(self)?;
        }
        let next = path.with_extension("next");
        let mut file = std::fs::File::create(&next)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    }

    /// Reads what [`Aggregates::save`] wrote; a missing file is an empty state.
    pub fn load(path: &Path) -> std::io::Result<Aggregates> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Aggregates::default()),
            Err(error) => Err(error),
        }
    }
}

fn cut(text: &Arc<str>) -> Arc<str> {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => Arc::from(&text[..end]),
        None => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fingerprint: u64) -> Event {
        Event::Text { fingerprint, database: 5, text: "select $1".into(), sample: "select 1".into() }
    }

    fn record(fingerprint: u64, start: i64, execution_ns: u64) -> Event {
        Event::Finished(Record {
            fingerprint,
            database: 5,
            start,
            execution_ns,
            planning_ns: 10,
            rows_scanned: 100,
            rows_returned: 1,
            indexes: [77, 0, 0, 0],
            cache_hit: true,
            failed: false,
        })
    }

    #[test]
    fn counts_quantiles_and_days() {
        let mut all = Aggregates::default();
        all.take(record(1, 0, 1));
        assert!(all.is_empty(), "a record without its text");
        all.take(text(1));
        for n in 1..=100 {
            all.take(record(1, n * DAY_MICROS / 50, n as u64 * 1_000_000));
        }
        let total = all.queries().next().expect("one").total();
        assert_eq!(
            (total.calls, total.rows_scanned, total.minimum_ns, total.maximum_ns),
            (100, 10_000, 1_000_000, 100_000_000)
        );
        let median = total.quantile(0.5) as f64;
        assert!((50e6..=60e6).contains(&median), "{median}");
        assert_eq!(total.quantile(1.0), 100_000_000);
        all.expire(9 * DAY_MICROS);
        assert!(all.is_empty());
    }

    #[test]
    fn stays_within_bounds() {
        let mut all = Aggregates::default();
        for fingerprint in 0..(MOST_FINGERPRINTS as u64 + 5) {
            all.take(text(fingerprint));
            all.take(record(fingerprint, 0, fingerprint));
        }
        assert!(all.len() <= MOST_FINGERPRINTS);
        assert!(all.queries().all(|query| query.fingerprint >= 1_000), "the cheapest went first");
    }

    #[test]
    fn survives_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("queries.json");
        let mut all = Aggregates::load(&path).expect("an empty state");
        all.take(text(u64::MAX));
        all.take(record(u64::MAX, 7, 5));
        all.save(&path).expect("saved");
        let again = Aggregates::load(&path).expect("read");
        assert_eq!(again.queries().next().expect("one").total(), all.queries().next().expect("one").total());
        std::fs::write(&path, "{").expect("written");
        assert!(Aggregates::load(&path).is_err());
    }
}
