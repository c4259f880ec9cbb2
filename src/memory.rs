//! Memory that was freed goes back to the operating system.
//!
//! The allocator keeps a heap per thread. What a thread has freed it gives back only when it allocates again, and what other
//! threads freed of its pages it takes in only then; a worker that did one large statement and went to sleep would keep
//! hundreds of megabytes. So: when resident memory has grown, a new epoch is called, and every thread that is about to park
//! collects its heap once. Idle threads are woken for it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Growth that is worth a collection.
const GROWTH: u64 = 16 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

static EPOCH: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

unsafe extern "C" {
    /// Of mimalloc, which is linked as the global allocator: frees what it can of the calling thread's heap.
    fn mi_collect(force: bool);
}

/// To be called by a thread of a runtime before it parks.
pub fn before_park() {
    let epoch = EPOCH.load(Ordering::Relaxed);
    if SEEN.replace(epoch) != epoch {
        // SAFETY: `mi_collect` touches only the calling thread's own heap and the allocator's shared lists, which are made for
        // concurrent use; it frees no block that is in use. It takes a `bool` by value, as declared in mimalloc.h.
        unsafe { mi_collect(true) }
    }
}

/// Watches resident memory for as long as the runtime lives; `threads` are its workers. Collections that free nothing
/// (the memory is in use: caches fill) become rare.
pub async fn watch(threads: usize) {
    let mut lowest = crate::metrics::resident_bytes();
    let mut last = lowest;
    let mut patience = LOOK_EVERY;
    let mut waited = Duration::ZERO;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
        let now = crate::metrics::resident_bytes();
        lowest = lowest.min(now);
        if now < lowest + GROWTH || (waited < patience && now < last + GROWTH) {
            continue;
        }
        EPOCH.fetch_add(1, Ordering::Relaxed);
        // A task for every worker wakes the sleeping ones; which worker takes which is up to the runtime, so there are
        // more tasks than workers, and another round with the next look if much is left.
        for _ in 0..threads * 2 {
            tokio::spawn(async { before_park() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
        last = crate::metrics::resident_bytes();
        patience = if last + GROWTH / 4 < now { LOOK_EVERY } else { (patience * 2).min(LONGEST_PAUSE) };
        waited = Duration::ZERO;
    }
}
