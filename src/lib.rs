//! The server as a library, so that tests start a real one inside their process.

pub mod check;
pub mod config;
mod directory;
mod memory;
mod metrics;
mod server;
pub mod telemetry;

pub use config::Config;
pub use server::Server;
