//! The metrics that PostgreSQL's exporter gives, by its names and labels, so that the dashboards and alerts made for
//! PostgreSQL work without an exporter.
//!
//! The exporter's counters have no `_total` in their names, which a counter of OpenMetrics must have; they are of type
//! unknown here, and rate() does not care. The number of series is bounded by [`sql::Readings`].

use std::fmt;

use engine::Engine;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use sql::{DatabaseReading, Readings};

/// Writes all of them.
pub fn encode(encoder: &mut DescriptorEncoder<'_>, engine: &Engine, readings: &Readings) -> fmt::Result {
    let metrics = engine.metrics();
    let mut plain = |name: &str, help: &str, value: f64| {
        ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    };
    plain("pg_up", "Whether the database answers: it does, or this would not be read", 1.0)?;
    plain("pg_exporter_last_scrape_error", "Whether reading these numbers failed", 0.0)?;
    plain("pg_postmaster_start_time_seconds", "When the server was started", readings.started_at)?;
    plain("pg_replication_is_replica", "Whether the server follows another one", 0.0)?;
    plain("pg_replication_lag", "Seconds behind the server it follows", 0.0)?;
    plain("pg_replication_lag_seconds", "Seconds behind the server it follows", 0.0)?;
    for (name, value) in &readings.settings {
        plain(&format!("pg_settings_{name}"), "A setting of the server", *value)?;
    }

    let writes = metrics.disk_writes.get().saturating_sub(metrics.wal_batches.get());
    for (name, help, value) in [
        ("pg_stat_bgwriter_checkpoints_timed", "Checkpoints", metrics.checkpoints.get()),
        ("pg_stat_bgwriter_checkpoints_req", "Checkpoints that a client asked for", 0),
        ("pg_stat_bgwriter_buffers_checkpoint", "Writes to the base, all of them by checkpoints", writes),
        ("pg_stat_bgwriter_buffers_clean", "Writes to the base by a background writer", 0),
        ("pg_stat_bgwriter_buffers_backend", "Writes to the base by sessions", 0),
        ("pg_stat_bgwriter_buffers_backend_fsync", "Syncs of the base by sessions", 0),
        (
            "pg_stat_bgwriter_buffers_alloc",
            "Blocks brought into the block cache",
            metrics.block_cache.misses.get(),
        ),
    ] {
        let value = prometheus_client::metrics::counter::ConstCounter::new(value);
        value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
    }

    let blocks = &metrics.block_cache;
    let (hits, misses) = (blocks.hits.get(), blocks.misses.get());
    type Value = fn(&DatabaseReading) -> u64;
    let counters: [(&str, &str, Value); 9] = [
        ("xact_commit", "Transactions committed", |d| d.commits),
        ("xact_rollback", "Transactions rolled back", |d| d.rollbacks),
        ("tup_returned", "Rows read by scans", |d| d.returned),
        ("tup_fetched", "Rows found by indexes", |d| d.fetched),
        ("tup_inserted", "Rows inserted", |d| d.inserted),
        ("tup_updated", "Rows updated", |d| d.updated),
        ("tup_deleted", "Rows deleted", |d| d.deleted),
        ("conflicts", "Statements cancelled by the replay of a log", |_| 0),
        ("deadlocks", "Deadlocks found", |d| d.deadlocks),
    ];
    let by_database = |encoder: &mut DescriptorEncoder<'_>,
                       name: &str,
                       help: &str,
                       kind: MetricType,
                       value: &dyn Fn(&DatabaseReading) -> f64| {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for database in &readings.databases {
            let oid = database.oid.to_string();
            let labels = [("datid", oid.as_str()), ("datname", database.name.as_str())];
            ConstGauge::new(value(database)).encode(family.encode_family(&labels)?)?;
        }
        fmt::Result::Ok(())
    };
    let unknown = MetricType::Unknown;
    for (name, help, value) in counters {
        by_database(encoder, &format!("pg_stat_database_{name}"), help, unknown, &|d| value(d) as f64)?;
    }
    let help = "Blocks found in the block cache, which all databases share: each shows the whole";
    by_database(encoder, "pg_stat_database_blks_hit", help, unknown, &|_| hits as f64)?;
    let help = "Blocks read past the block cache, which all databases share: each shows the whole";
    by_database(encoder, "pg_stat_database_blks_read", help, unknown, &|_| misses as f64)?;
    let help = "Sessions of the database now";
    by_database(encoder, "pg_stat_database_numbackends", help, MetricType::Gauge, &|d| d.backends as f64)?;

    let mut family = encoder.encode_descriptor(
        "pg_database_size_bytes",
        "Size of the tables and indexes of a database",
        None,
        MetricType::Gauge,
    )?;
    for database in &readings.databases {
        let size = ConstGauge::new(database.bytes as f64);
        size.encode(family.encode_family(&[("datname", database.name.as_str())])?)?;
    }

    // "_count" is reserved for histograms in other types than this one.
    let help = "Sessions of a database in a state";
    let mut family = encoder.encode_descriptor("pg_stat_activity_count", help, None, unknown)?;
    for activity in &readings.activity {
        let labels = [("datname", activity.database.as_str()), ("state", activity.state)];
        ConstGauge::new(activity.count).encode(family.encode_family(&labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "pg_stat_activity_max_tx_duration",
        "Age in seconds of the oldest transaction of a database in a state",
        None,
        MetricType::Gauge,
    )?;
    for activity in &readings.activity {
        let labels = [("datname", activity.database.as_str()), ("state", activity.state)];
        ConstGauge::new(activity.longest_transaction).encode(family.encode_family(&labels)?)?;
    }
    let help = "Locks on tables and advisory locks of a database, by mode";
    let mut family = encoder.encode_descriptor("pg_locks_count", help, None, unknown)?;
    for lock in &readings.locks {
        let mode = lock.mode.to_ascii_lowercase();
        let labels = [("datname", lock.database.as_str()), ("mode", mode.as_str())];
        ConstGauge::new(lock.count).encode(family.encode_family(&labels)?)?;
    }

    // Versions are kept apart from rows and unlinked as soon as nobody can see them: no table has dead rows.
    for (name, help, dead) in [
        ("pg_stat_user_tables_n_live_tup", "Rows of a table; the largest tables only", false),
        ("pg_stat_user_tables_n_dead_tup", "Dead rows of a table; the largest tables only", true),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for table in &readings.tables {
            let labels = [
                ("datname", table.database.as_str()),
                ("schemaname", table.schema.as_str()),
                ("relname", table.name.as_str()),
            ];
            let rows = if dead { 0 } else { table.live_rows };
            ConstGauge::new(rows).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
