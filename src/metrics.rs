//! What `/metrics` shows beyond what `wire` counts itself: readings of the engine, of `sql` and of the operating system,
//! taken when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Engine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::pg_metrics;

/// Reads everything at each scrape.
pub struct Readings {
    pub engine: Engine,
    pub database: Arc<sql::Database>,
    pub optimizer: Arc<optimizer::Counters>,
    pub data_dir: PathBuf,
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

type Labelled<T> = Vec<(&'static str, T)>;

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.database.stats();
        let engine = self.engine.metrics();
        let mut counter = |name: &str, help: &str, value: u64| {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)
        };
        counter("startdb_statements", "Statements begun", stats.statements)?;
        counter("startdb_wal_bytes", "Bytes written to the log", engine.wal_bytes.get())?;
        counter("startdb_disk_read_bytes", "Bytes read from files", engine.disk_read_bytes.get())?;
        counter("startdb_disk_written_bytes", "Bytes written to files", engine.disk_write_bytes.get())?;
        counter("startdb_lock_waits", "Requests for locks that had to wait", self.engine.locks().waits())?;
        counter("startdb_disk_reads", "Calls that read from files", engine.disk_reads.get())?;
        counter("startdb_disk_writes", "Calls that wrote to files", engine.disk_writes.get())?;
        counter(
            "startdb_wal_archive_failures",
            "Times a finished log file could not be archived",
            engine.wal_archive_failures.get(),
        )?;
        counter(
            "startdb_query_log_dropped",
            "Statements the optimizer did not hear of",
            stats.query_log_dropped,
        )?;
        counter(
            "startdb_optimizer_restarts",
            "Times the optimizer task was restarted",
            self.optimizer.restarts(),
        )?;
        let blocks = &engine.block_cache;
        let share = |hits: u64, misses: u64| {
            if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
        };
        gauge(
            &mut encoder,
            ("startdb_cache_hit_ratio", "Share of lookups a cache answered"),
            "cache",
            vec![
                ("block", share(blocks.hits.get(), blocks.misses.get())),
                ("plan", share(stats.plan_cache_hits, stats.plan_cache_misses)),
                ("parse", share(stats.parse_cache.hits, stats.parse_cache.misses)),
            ],
        )?;
        gauge(
            &mut encoder,
            ("startdb_cache_entries", "Entries a cache holds"),
            "cache",
            vec![
                ("block", blocks.entries.get() as f64),
                ("plan", stats.plan_cache_entries as f64),
                ("parse", stats.parse_cache.entries as f64),
            ],
        )?;
        counters(
            &mut encoder,
            ("startdb_cache_evictions", "Entries a cache gave up for others"),
            "cache",
            vec![
                ("block", blocks.evictions.get() as f64),
                ("plan", stats.plan_cache_evictions as f64),
                ("parse", stats.parse_cache.evictions as f64),
            ],
        )?;
        gauge(
            &mut encoder,
            ("startdb_memory_bytes", "Memory in use, by part"),
            "component",
            vec![
                ("process", resident_bytes() as f64),
                ("memtable", engine.memtable_bytes.get() as f64),
                ("block_cache", blocks.bytes.get() as f64),
                ("old_snapshots", engine.old_snapshot_bytes.get() as f64),
                ("statements", self.database.memory_in_use() as f64),
            ],
        )?;
        gauge(
            &mut encoder,
            ("startdb_memory_limit_bytes", "How storage.buffer_pool_size is divided, by part"),
            "component",
            self.engine.memory_limits().map(|(part, bytes)| (part, bytes as f64)).to_vec(),
        )?;
        gauge(
            &mut encoder,
            (
                "startdb_wal_files_bytes",
                "Size of the log's files; over_limit: by how much that is above wal.max_size",
            ),
            "part",
            vec![("all", engine.wal_size.get() as f64), ("over_limit", engine.wal_over_limit.get() as f64)],
        )?;
        gauge(
            &mut encoder,
            ("startdb_wal_files", "Finished log files that wait for the archive"),
            "state",
            vec![("unarchived", engine.wal_unarchived.get() as f64)],
        )?;
        counters(
            &mut encoder,
            ("startdb_cpu_seconds", "Processor time, by group of threads"),
            "component",
            cpu_seconds().into_iter().collect(),
        )?;
        counters(
            &mut encoder,
            ("startdb_transactions", "Transactions that ended"),
            "outcome",
            vec![("commit", stats.commits as f64), ("rollback", stats.rollbacks as f64)],
        )?;
        counters(
            &mut encoder,
            ("startdb_cache_hits", "Lookups a cache answered"),
            "cache",
            vec![("block", blocks.hits.get() as f64), ("plan", stats.plan_cache_hits as f64)],
        )?;
        counters(
            &mut encoder,
            ("startdb_cache_misses", "Lookups a cache could not answer"),
            "cache",
            vec![("block", blocks.misses.get() as f64), ("plan", stats.plan_cache_misses as f64)],
        )?;
        counters(
            &mut encoder,
            ("startdb_recommendations", "Recommendations of the optimizer, by what became of them"),
            "state",
            vec![("generated", self.optimizer.generated() as f64)],
        )?;
        let (wal, other) = file_bytes(&self.data_dir);
        gauge(
            &mut encoder,
            ("startdb_data_directory_bytes", "Space that files of the data directory take on disk"),
            "component",
            vec![("wal", wal as f64), ("base", other as f64)],
        )?;
        let readings = self.database.readings();
        let mut plain = |name: &str, help: &str, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        plain("startdb_lock_waiters", "Requests for locks that wait now", readings.lock_waiters as f64)?;
        if let Ok(disk) = rustix::fs::statvfs(&self.data_dir) {
            let free = disk.f_bavail as f64 * disk.f_frsize as f64;
            plain("startdb_disk_free_bytes", "Free space of the file system of the data directory", free)?;
        }
        gauge(
            &mut encoder,
            ("startdb_build_info", "Always 1; the label says which version runs"),
            "version",
            vec![(env!("CARGO_PKG_VERSION"), 1.0)],
        )?;
        histogram(
            &mut encoder,
            ("startdb_wal_sync_seconds", "Time of one durable write to the log"),
            &engine.wal_sync,
        )?;
        histogram(
            &mut encoder,
            ("startdb_checkpoint_seconds", "Time of one checkpoint"),
            &engine.checkpoint,
        )?;
        process(&mut encoder, readings.started_at)?;
        pg_metrics::encode(&mut encoder, &self.engine, &readings)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &str,
    values: Labelled<f64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&[(label, key)])?)?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &str,
    values: Labelled<f64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&[(label, key)])?)?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: &engine::metrics::Histogram,
) -> fmt::Result {
    let mut buckets = Vec::new();
    for (index, count) in values.counts().into_iter().enumerate() {
        buckets.push((engine::metrics::BUCKETS.get(index).copied().unwrap_or(f64::INFINITY), count));
    }
    let mut histogram = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    histogram.encode_histogram::<NoLabelSet>(values.sum(), values.count(), &buckets, None)
}

/// The metrics of a process that every Prometheus client library gives, by their usual names.
fn process(encoder: &mut DescriptorEncoder<'_>, started_at: f64) -> fmt::Result {
    let cpu = ConstCounter::new(cpu_seconds().values().sum::<f64>());
    cpu.encode(encoder.encode_descriptor(
        "process_cpu_seconds",
        "Processor time of the process",
        None,
        MetricType::Counter,
    )?)?;
    let mut plain = |name: &str, help: &str, value: f64| {
        ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    };
    plain("process_resident_memory_bytes", "Memory of the process in RAM", resident_bytes() as f64)?;
    plain("process_start_time_seconds", "When the process was started", started_at)?;
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        plain("process_open_fds", "Open file descriptors", open.count() as f64)?;
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        plain("process_max_fds", "Most file descriptors that may be open", most as f64)?;
    }
    Ok(())
}

/// Bytes on disk of the log, and of everything else in the data directory.
fn file_bytes(data_dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut wal, mut other) = (0, 0);
    let mut pending = vec![data_dir.to_owned()];
    while let Some(folder) = pending.pop() {
        // Files come and go; what is gone takes no space.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                // Counted as the file system does: a file that grows by doubling is sparse.
                let bytes = metadata.blocks() * 512;
                let log = folder.strip_prefix(data_dir).is_ok_and(|place| place.starts_with("wal"));
                *(if log { &mut wal } else { &mut other }) += bytes;
            }
        }
    }
    (wal, other)
}

pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Seconds of processor time of this process's threads, grouped by what their names begin with.
fn cpu_seconds() -> BTreeMap<&'static str, f64> {
    const GROUPS: [(&str, &str); 5] = [
        ("wal", "wal"),
        ("checkpoint", "checkpoint"),
        ("network", "network"),
        ("analytic", "analytic"),
        ("optimizer", "optimizer"),
    ];
    let mut sums: BTreeMap<&'static str, f64> =
        GROUPS.iter().map(|(group, _)| (*group, 0.0)).chain([("other", 0.0)]).collect();
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return sums };
    for thread in threads.flatten() {
        let Ok(text) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        // The name stands in parentheses and may hold anything; fields are counted from behind it.
        let (Some(open), Some(close)) = (text.find('('), text.rfind(')')) else { continue };
        let name = &text[open + 1..close];
        let fields: Vec<&str> = text[close + 1..].split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
        let group =
            GROUPS.iter().find(|(_, start)| name.starts_with(start)).map_or("other", |(group, _)| group);
        // Linux reports in hundredths of a second on every architecture it runs on here.
        *sums.entry(group).or_default() += ticks as f64 / 100.0;
    }
    sums
}
