//! What `engine::sync` offers, over shuttle: every lock and atomic is a place where another thread may go on.

pub use std::sync::Arc;

pub use shuttle::sync::atomic::{AtomicU64, Ordering};

/// As parking_lot's: no poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

pub type MutexGuard<'a, T> = shuttle::sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// As parking_lot's: waits on a guard in place.
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        // SAFETY: the guard is taken out for the wait and put back before anybody can see the hole. If `wait` unwinds (the
        // scheduler ends a failed run so), the process is about to end as well: nobody drops the guard twice.
        unsafe {
            let owned = std::ptr::read(guard);
            let back = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.0.wait(owned)));
            match back {
                Ok(Ok(back)) => std::ptr::write(guard, back),
                Ok(Err(poisoned)) => std::ptr::write(guard, poisoned.into_inner()),
                Err(_) => std::process::abort(),
            }
        }
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
