//! The server and the programs around it as a library, so that tests start a real one inside their process.

pub mod cli;
pub mod config;
mod container;
mod directory;
mod health;
mod init;
mod memory;
mod metrics;
mod passwd;
mod server;
pub mod shell;
pub mod telemetry;

pub use config::Config;
pub use server::Server;
