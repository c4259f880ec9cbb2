//! Logs and traces. Logs are text for a person at a terminal and JSON lines for everything else; the target `audit`
//! carries DDL, role changes and failed logins, the target `statement` what failed or took long. Traces go to an
//! OpenTelemetry collector if `OTEL_EXPORTER_OTLP_ENDPOINT` names one: [`layer`] makes OpenTelemetry's spans of ours,
//! [`otlp`] sends them.

mod layer;
mod otlp;

use std::io::IsTerminal;

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::Config;

/// Sends log lines to stderr, and spans to a collector if there is one. A second call in the same process (tests) changes nothing.
pub fn start(config: &Config) {
    let filter = EnvFilter::try_new(&config.server.log_filter).unwrap_or_else(|error| {
        eprintln!("startdb: log.filter: {error}; logging at level info");
        EnvFilter::new("info")
    });
    // Spans are for tracers, whatever the log's level; the parser would print what it parses, passwords included.
    let silent = |target: &str| target == sql::TRACE_TARGET || target.starts_with("sqlparser");
    let filter = filter_fn(move |metadata| !silent(metadata.target())).and(filter);
    let log = if std::io::stderr().is_terminal() {
        fmt::layer().with_target(false).with_writer(std::io::stderr).with_filter(filter).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_filter(filter).boxed()
    };
    let (settings, complaint) = match otlp::Settings::from_environment(&|name| std::env::var(name).ok()) {
        Ok(settings) => (settings, None),
        Err(complaint) => (None, Some(complaint)),
    };
    let traces = settings.as_ref().map(|settings| {
        let only = filter_fn(|metadata| metadata.target() == sql::TRACE_TARGET);
        layer::Spans::new(settings.queue.clone()).with_filter(only)
    });
    if tracing_subscriber::registry().with(log).with(traces).try_init().is_err() {
        tracing::debug!("logging had been set up before");
        return;
    }
    if let Some(complaint) = complaint {
        tracing::warn!("traces are off: {complaint}");
    }
    if let Some(settings) = settings {
        let sampler = settings.sampler;
        sql::set_trace_sampler(Box::new(move |parent| sampler.wants(parent)));
        tracing::info!(endpoint = settings.endpoint.to_string(), "statements are traced");
        otlp::start(settings);
    }
}

/// Sends what is left of the traces; at the end of the process.
pub fn stop() {
    otlp::stop();
}
