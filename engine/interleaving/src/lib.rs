//! The lock manager, the order of commits, serializable validation and the log under a scheduler that tries orders of threads (shuttle, random and PCT).
//!
//! The modules are the engine's own files; only `sync`, the one door through which the engine gets its concurrency
//! primitives, is exchanged, and `planted`, so that mistakes can be made here. Scenarios are functions, so that `tests/` can run each in thousands of orders; a
//! failing one prints the schedule that repeats it.

mod catalog;
mod disk;
#[path = "../../src/disk.rs"]
#[allow(dead_code, unused_imports, reason = "what only the rest of the engine uses")]
mod files;
#[path = "../../src/ids.rs"]
#[allow(dead_code, reason = "what only the rest of the engine uses")]
mod ids;
#[path = "../../src/lock.rs"]
#[allow(dead_code, unused_imports, reason = "what only the rest of the engine uses")]
mod lock;
mod log;
#[path = "../../src/metrics.rs"]
#[allow(dead_code, reason = "what only the rest of the engine uses")]
mod metrics;
#[path = "../../src/pipeline.rs"]
#[allow(dead_code, reason = "what only the rest of the engine uses")]
mod pipeline;
mod planted;
mod scenario;
mod serializable;
mod sync;
#[path = "../../src/validation.rs"]
#[allow(dead_code, reason = "what only the rest of the engine uses")]
mod validation;
#[path = "../../src/wal/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what only the rest of the engine uses")]
mod wal;

pub use log::*;
pub use planted::{Bug, plant};
pub use scenario::*;
pub use serializable::*;
