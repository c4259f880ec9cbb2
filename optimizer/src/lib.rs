//! The adviser: it reads what statements cost and proposes what would make them cheaper.
//!
//! 1. A session sends one record per finished statement through a bounded channel (crate `session`, `query_log`); a full
//!    channel drops and counts. Nothing here is in a query's way.
//! 2. [`aggregate`] keeps counters per fingerprint, bounded, saved every minute.
//! 3. Every few seconds `facts` gathers what the costly statements scan and which indexes there are.
//! 4. [`advisor`]s turn facts into [`Recommendation`]s; they are pure.
//! 5. `startdb.queries` and `startdb.recommendations` show the result. Nothing is applied.
//!
//! Invariant: this crate is one more client of `sql`; deleting it breaks nothing else. A panic in it restarts it with
//! back-off and touches no session.

pub mod advisor;
pub mod aggregate;
mod facts;
mod relations;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sql::Database;
use value::Result;

pub use advisor::{Facts, Recommendation, ScanFact};
pub use worker::Handle;

/// What the optimizer counts.
#[derive(Debug, Default)]
pub struct Counters {
    restarts: AtomicU64,
    generated: AtomicU64,
}

impl Counters {
    /// Times the task was started again after a panic.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Recommendations made since the start.
    pub fn generated(&self) -> u64 {
        self.generated.load(Ordering::Relaxed)
    }
}

/// Starts the optimizer over a database. Its state is kept in `directory`, which is made when missing. Errors: the
/// directory cannot be made.
pub fn start(runtime: &tokio::runtime::Handle, database: Arc<Database>, directory: &Path) -> Result<Handle> {
    worker::start(runtime, database, directory)
}
