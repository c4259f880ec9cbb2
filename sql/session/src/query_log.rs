//! What a session tells the optimizer about each finished statement.
//!
//! Records are fixed in size and go through a bounded channel; a full channel drops them and counts. A statement's
//! text travels once, when its fingerprint is seen for the first time.

use std::sync::Arc;

use value::Oid;

/// One finished statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Identifies the statement with its literals taken out, within one database.
    pub fingerprint: u64,
    pub database: Oid,
    /// Microseconds since 2000-01-01 UTC.
    pub start: i64,
    pub execution_ns: u64,
    pub planning_ns: u64,
    pub rows_scanned: u64,
    pub rows_returned: u64,
    /// The first indexes it read, by oid; 0 fills up.
    pub indexes: [Oid; 4],
    /// Its plan was in a plan cache.
    pub cache_hit: bool,
    pub failed: bool,
}

/// What travels through the channel.
#[derive(Clone, Debug)]
pub enum Event {
    /// A fingerprint's normalised text, before its first record.
    Text {
        fingerprint: u64,
        database: Oid,
        text: Arc<str>,
        /** One statement as it was sent, literals and all. */
        sample: Arc<str>,
    },
    Finished(Record),
}
