//! wire: every way into the database. `pg` speaks the PostgreSQL protocol over TCP, TLS and a Unix-domain
//! socket; `http` answers health checks and metrics.
//!
//! Invariant: nothing here knows SQL, not even SHOW. The database is what the crate `session` says, values are
//! written by the crate `value`.

pub mod http;
pub mod metrics;
mod pg;

pub use metrics::Metrics;
pub use pg::auth::{Kind, Method, Network, Rule};
pub use pg::frame::Limits;
pub use pg::listener::{Handle, Options, serve};
pub use pg::starting::refuse;
pub use pg::tls;
