//! The memory of DataFusion's operators, charged to the statement's account.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use execute::MemoryAccount;

/// A pool over one [`MemoryAccount`]. Operators that can spill are turned down past `spill_at` bytes each, so that they
/// write to disk before the statement runs out of memory.
pub(crate) struct AccountPool {
    account: Arc<MemoryAccount>,
    spill_at: usize,
    used: AtomicU64,
    /// Taken by operators that cannot be refused after the account was full; not in the account.
    excess: AtomicU64,
}

impl AccountPool {
    pub fn new(account: Arc<MemoryAccount>, spill_at: usize) -> AccountPool {
        AccountPool { account, spill_at, used: AtomicU64::new(0), excess: AtomicU64::new(0) }
    }
}

impl fmt::Debug for AccountPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountPool").field("used", &self.used).finish()
    }
}

impl fmt::Display for AccountPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement({} bytes)", self.used.load(Ordering::Relaxed))
    }
}

impl MemoryPool for AccountPool {
    fn name(&self) -> &str {
        "statement"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional as u64, Ordering::Relaxed);
        if self.account.grow(additional as u64).is_err() {
            self.excess.fetch_add(additional as u64, Ordering::Relaxed);
        }
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        let shrink = shrink as u64;
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        // What never went into the account leaves first.
        let taken = self
            .excess
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |excess| Some(excess.saturating_sub(shrink)));
        let outside = taken.map_or(0, |excess| excess.min(shrink));
        self.account.shrink(shrink - outside);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let consumer = reservation.consumer();
        // What is nothing yet cannot be made less by spilling: a single batch always fits.
        let held = reservation.size();
        if consumer.can_spill() && held > 0 && held + additional > self.spill_at {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} reached the {} kB one operator should stay below",
                consumer.name(),
                self.spill_at / 1024
            )));
        }
        match self.account.grow(additional as u64) {
            Ok(()) => {
                self.used.fetch_add(additional as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(DataFusionError::ResourcesExhausted(
                error.fields().detail.clone().unwrap_or_else(|| error.to_string()),
            )),
        }
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Unknown
    }
}

impl Drop for AccountPool {
    fn drop(&mut self) {
        // Operators of a cancelled statement may be dropped in any order; their reservations are gone by now.
        let left = self.used.load(Ordering::Relaxed).saturating_sub(self.excess.load(Ordering::Relaxed));
        if left > 0 {
            self.account.shrink(left);
        }
    }
}
