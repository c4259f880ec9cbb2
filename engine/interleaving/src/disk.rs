//! The engine's disks; but the one thread that plays all threads keeps its priority.

pub use crate::files::*;

pub fn set_thread_priority(_: Priority) {}
