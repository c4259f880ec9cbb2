//! What `engine::sync` offers, over shuttle: every lock and atomic is a place where another thread may go on.

use std::ops::{Deref, DerefMut};
pub use std::sync::Arc;
use std::time::Duration;

pub use shuttle::sync::atomic::{AtomicU64, Ordering};
pub use shuttle::sync::mpsc;
pub use shuttle::thread;

/// As parking_lot's: no poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// Empty only while a [`Condvar`] waits with it.
pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("nobody looks while it is waited with")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nobody looks while it is waited with")
    }
}

/// As parking_lot's: waits on a guard in place.
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let owned = guard.0.take().expect("one wait at a time");
        guard.0 = Some(match self.0.wait(owned) {
            Ok(back) => back,
            Err(poisoned) => poisoned.into_inner(),
        });
    }

    /// Time does not pass here: only a notification ends it.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
        self.wait(guard);
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
