//! The one door for concurrency primitives inside the engine: locks, atomics, threads.
//!
//! Whatever the engine waits on comes from here, so that a schedule explorer can stand in for all of it by
//! exchanging this file. Locks do not poison: a panic while one is held is a bug that the panicking thread
//! reports, and the state behind our locks is kept valid at every step.

pub use arc_swap::ArcSwap;
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Arc, OnceLock, Weak, mpsc};
pub use std::thread;
