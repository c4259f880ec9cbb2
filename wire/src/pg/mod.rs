//! The PostgreSQL protocol, versions 3.0 and 3.2.
//!
//! ```text
//! listener -> startup (tls, auth) -> connection { socket -> frame -> dispatch -> session; encode, copy }
//! ```

pub mod auth;
mod cancel;
mod connection;
mod copy;
pub mod encode;
mod error;
pub mod frame;
pub mod listener;
mod socket;
mod startup;
mod stream;
pub mod tls;
