//! What `wire` counts: connections, and how long statements take by kind.
//!
//! The histograms are looked up once per kind at start, so that a finished statement costs one `observe`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use value::{Error, SqlState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatementLabels {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    class: String,
}

const TYPES: [&str; 6] = ["select", "insert", "update", "delete", "ddl", "other"];

/// Seconds: from a point read in the cache to a report.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The metrics of this crate. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    connections: Gauge,
    errors: Family<ErrorLabels, Counter>,
    durations: [Histogram; TYPES.len()],
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let connections = Gauge::default();
        registry.register(
            "startdb_connections",
            "Open client connections, those still logging in included",
            connections.clone(),
        );
        let errors = Family::<ErrorLabels, Counter>::default();
        // Present from the start, so that the first of their kind is an increase.
        for state in [
            SqlState::UNIQUE_VIOLATION,
            SqlState::SYNTAX_ERROR,
            SqlState::SERIALIZATION_FAILURE,
            SqlState::INSUFFICIENT_RESOURCES,
            SqlState::INTERNAL_ERROR,
        ] {
            drop(errors.get_or_create(&ErrorLabels { class: state.class().to_string() }));
        }
        registry.register(
            "startdb_errors",
            "Errors sent to clients, by class of SQLSTATE (its first two characters)",
            errors.clone(),
        );
        let family: Family<StatementLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "startdb_query_duration_seconds",
            "Time from the start of a statement to its command tag, by kind of statement",
            family.clone(),
        );
        let durations = TYPES.map(|r#type| family.get_or_create(&StatementLabels { r#type }).clone());
        Metrics { connections, errors, durations }
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    /// Counts an error that a client is told. The classes are those of the manual, some forty.
    pub(crate) fn error(&self, error: &Error) {
        self.errors.get_or_create(&ErrorLabels { class: error.state().class().to_string() }).inc();
    }

    /// Records a finished statement by its command tag ("INSERT 0 1").
    pub(crate) fn statement(&self, tag: &str, took: Duration) {
        self.durations[kind_of(tag)].observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    /// Metrics nobody reads.
    fn default() -> Metrics {
        Metrics::register(&mut Registry::default())
    }
}

/// Index into [`TYPES`].
fn kind_of(tag: &str) -> usize {
    let word = tag.split(' ').next().unwrap_or_default();
    match word {
        // Cursors and TABLE or VALUES answer with these tags as well.
        "SELECT" | "FETCH" => 0,
        "INSERT" => 1,
        "UPDATE" => 2,
        "DELETE" => 3,
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "COMMENT" | "GRANT" | "REVOKE" | "REINDEX" => 4,
        _ => 5,
    }
}

pub(crate) struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let guard = metrics.connection();
        for (tag, kind) in [
            ("SELECT 3", "select"),
            ("INSERT 0 1", "insert"),
            ("UPDATE 0", "update"),
            ("DELETE 7", "delete"),
            ("CREATE TABLE", "ddl"),
            ("COPY 5", "other"),
            ("", "other"),
        ] {
            assert_eq!(TYPES[kind_of(tag)], kind, "{tag}");
            metrics.statement(tag, Duration::from_millis(2));
        }
        metrics.error(&Error::new(SqlState::UNIQUE_VIOLATION, "duplicate"));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        assert!(text.contains("startdb_connections 1\n"), "{text}");
        assert!(text.contains("startdb_query_duration_seconds_count{type=\"other\"} 2\n"), "{text}");
        assert!(
            text.contains("startdb_query_duration_seconds_bucket{le=\"0.0025\",type=\"select\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("startdb_errors_total{class=\"23\"} 1\n"), "{text}");
        drop(guard);
        assert_eq!(metrics.connections.get(), 0);
    }
}
