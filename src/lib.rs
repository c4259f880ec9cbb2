//! The server as a library, so that tests start a real one inside their process.

pub mod config;
mod directory;
mod memory;
mod metrics;
mod notify;
mod pg_metrics;
mod server;
pub mod telemetry;

pub use config::Config;
pub use server::Server;
