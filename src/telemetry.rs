//! Logs and traces. Logs are text for a person at a terminal and JSON lines for everything else; the target `audit`
//! carries DDL, role changes and failed logins, the target `statement` what failed or took long. Traces go to an
//! OpenTelemetry collector if `OTEL_EXPORTER_OTLP_ENDPOINT` names one: `layer` makes OpenTelemetry's spans of ours,
//! `otlp` sends them.

mod layer;
mod otlp;

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::Config;

/// Sends log lines to stderr, and spans to a collector if there is one. A second call in the same process (tests) changes nothing.
pub fn start(config: &Config) {
    let filter = EnvFilter::try_new(&config.server.log_filter).unwrap_or_else(|error| {
        eprintln!("startdb: log.filter: {error}; logging at level info");
        EnvFilter::new("info")
    });
    let filter = for_log(filter);
    let log = if std::io::stderr().is_terminal() {
        fmt::layer().with_target(false).with_writer(std::io::stderr).with_filter(filter).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_filter(filter).boxed()
    };
    let (settings, complaint) = match otlp::Settings::from_environment(&|name| std::env::var(name).ok()) {
        Ok(settings) => (settings, None),
        Err(complaint) => (None, Some(complaint)),
    };
    let traces =
        settings.as_ref().map(|settings| layer::Spans::new(settings.queue.clone()).with_filter(for_traces()));
    if tracing_subscriber::registry().with(log).with(traces).try_init().is_err() {
        tracing::debug!("logging had been set up before");
        return;
    }
    if let Some(complaint) = complaint {
        tracing::warn!("traces are off: {complaint}");
    }
    if let Some(settings) = settings {
        let sampler = settings.sampler;
        sql::set_trace_sampler(Box::new(move |parent| sampler.choose(parent).map(layer::trace_text)));
        tracing::info!(endpoint = settings.endpoint.to_string(), "statements are traced");
        otlp::start(settings);
    }
}

/// What the log takes of what `wanted` asks for: not the spans, which are for tracers, and nothing of the parser, which would
/// print what it parses, passwords included. (A filter that does not say how far it goes would switch every `debug!` of
/// every crate on, and the log would cost more than the statements.)
fn for_log<S: Subscriber>(wanted: EnvFilter) -> impl Filter<S> {
    let silent = |target: &str| target == sql::TRACE_TARGET || target.starts_with("sqlparser");
    filter_fn(move |metadata| !silent(metadata.target())).with_max_level_hint(LevelFilter::TRACE).and(wanted)
}

/// The spans of statements are of level INFO, so that they do not raise the level of everything else.
fn for_traces<S: Subscriber>() -> impl Filter<S> {
    filter_fn(|metadata| metadata.target() == sql::TRACE_TARGET && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO)
}

/// Sends what is left of the traces; at the end of the process.
pub fn stop() {
    otlp::stop();
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Registry;

    use super::*;

    #[test]
    fn logs_and_traces_go_no_deeper_than_asked() {
        for (wanted, level) in [("info", LevelFilter::INFO), ("warn,sql=debug", LevelFilter::DEBUG)] {
            let filter = EnvFilter::try_new(wanted).expect("a filter");
            assert_eq!(Filter::<Registry>::max_level_hint(&for_log::<Registry>(filter)), Some(level));
        }
        assert_eq!(Filter::<Registry>::max_level_hint(&for_traces::<Registry>()), Some(LevelFilter::INFO));
        // Without a collector, as most run.
        let settings = otlp::Settings::from_environment(&|_| None).expect("no complaint");
        let traced = tracing_subscriber::registry()
            .with(fmt::layer().with_filter(for_log(EnvFilter::new("info"))))
            .with(settings.map(|settings| layer::Spans::new(settings.queue).with_filter(for_traces())));
        assert_eq!(traced.max_level_hint(), Some(LevelFilter::INFO));
    }
}
