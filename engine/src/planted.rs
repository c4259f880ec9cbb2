//! Mistakes that the crash tests must be able to find. Each is one line at the place where somebody could make
//! it; outside of the crate's own tests [`planted`] is `false` at compile time, so that nothing of it is built.

/// What could be done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Log batches are written, not synced.
    SkipSync,
    /// A commit is acknowledged before its batch is on the disk.
    AcknowledgeBeforeSync,
    /// Checksums of log batches are not looked at.
    NoCrc,
    /// A failed sync of the log is tried again, and the second answer believed.
    RetrySync,
    /// A new segment's name is not made durable.
    NoDirectorySync,
    /// Others see a commit, and act on it, before it is logged.
    PublishBeforeLog,
    /// Damage in the middle of the log is taken for its end.
    TruncateAtDamage,
    /// Batches of a segment's earlier life count.
    ReuseRecycled,
    /// The memtable's index is not told of changed keys.
    ForgetIndexEntry,
    /// The base claims to hold one record more than it does.
    CheckpointOffByOne,
    // Mistakes in the order of things, which `engine/interleaving` must be able to find.
    /// A serializable transaction takes its snapshot before it is registered.
    RegisterLate,
    /// Commits are forgotten although a running transaction has yet to be compared with them.
    ForgetRunning,
    /// A serializable commit gets its LSN after others may have been committed since it was compared.
    ValidateOutside,
    /// Snapshots may see a commit when it is applied, whatever became of those before it.
    PassUnfinished,
    /// A row gets its bit without a look at the entries.
    CoverBlindly,
    /// Whoever waits for a lock is not told that it is free.
    ForgetQueue,
    /// Whoever begins to wait for the log does not look again whether the wait is over already.
    ForgetDurable,
}

#[cfg(not(test))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Runs `body` with a mistake planted in this thread.
#[cfg(test)]
pub(crate) fn with<T>(bug: Option<Bug>, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<Bug>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _restore = Restore(PLANTED.replace(bug));
    body()
}

#[cfg(test)]
pub(crate) const ALL: [Bug; 10] = [
    Bug::SkipSync,
    Bug::AcknowledgeBeforeSync,
    Bug::NoCrc,
    Bug::RetrySync,
    Bug::NoDirectorySync,
    Bug::PublishBeforeLog,
    Bug::TruncateAtDamage,
    Bug::ReuseRecycled,
    Bug::ForgetIndexEntry,
    Bug::CheckpointOffByOne,
];
