//! Logs: text for a person at a terminal, JSON lines for everything else. The target `audit` carries DDL, role changes and
//! failed logins.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Config;

/// Sends log lines to stderr. A second call in the same process (tests) changes nothing.
pub fn start(config: &Config) {
    let filter = EnvFilter::try_new(&config.server.log_filter).unwrap_or_else(|error| {
        eprintln!("startdb: log.filter: {error}; logging at level info");
        EnvFilter::new("info")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging had been set up before");
    }
}
