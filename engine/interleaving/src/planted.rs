//! Mistakes that the scenarios must be able to find, made where the engine's own `planted` says nothing is wrong.

use std::sync::atomic::{AtomicU8, Ordering};

/// As in the engine's `planted.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    SkipSync = 1,
    AcknowledgeBeforeSync,
    NoCrc,
    RetrySync,
    NoDirectorySync,
    TruncateAtDamage,
    ReuseRecycled,
    RegisterLate,
    ForgetRunning,
    ValidateOutside,
    PassUnfinished,
    CoverBlindly,
    ForgetQueue,
    ForgetDurable,
}

/// Not the scheduler's: which mistake there is does not depend on an order of threads.
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// From now on that mistake is made everywhere in the process; `None`: none is.
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::SeqCst);
}

pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::SeqCst) == bug as u8
}
