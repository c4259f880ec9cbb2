//! The hook behind every finished statement: a record to the optimizer, without waiting for it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use session::query_log::{Event, Record};
use tokio::sync::mpsc;
use value::Oid;

use crate::lex;

/// Events that may wait for the optimizer.
const CAPACITY: usize = 65_536;
/// Fingerprints whose text is remembered as sent.
const MOST_FINGERPRINTS: usize = 20_000;

pub struct QueryLog {
    sender: mpsc::Sender<Event>,
    receiver: parking_lot::Mutex<Option<mpsc::Receiver<Event>>>,
    known: DashMap<u64, ()>,
    dropped: AtomicU64,
    enabled: std::sync::atomic::AtomicBool,
}

impl QueryLog {
    pub fn new() -> QueryLog {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        QueryLog {
            sender,
            receiver: parking_lot::Mutex::new(Some(receiver)),
            known: DashMap::new(),
            dropped: AtomicU64::new(0),
            enabled: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The receiving end, once; from then on statements are logged. `None` when somebody has it already.
    pub fn subscribe(&self) -> Option<mpsc::Receiver<Event>> {
        let receiver = self.receiver.lock().take();
        if receiver.is_some() {
            self.enabled.store(true, Ordering::Release);
        }
        receiver
    }

    /// Gives the receiving end back (its reader restarts).
    pub fn resubscribe(&self, receiver: mpsc::Receiver<Event>) {
        *self.receiver.lock() = Some(receiver);
    }

    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Events lost because the channel was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends a record, and the text with the first record of its fingerprint.
    pub fn finished(&self, record: Record, normalised: &Arc<str>, sample: &Arc<str>) {
        if !self.enabled() {
            return;
        }
        if !self.known.contains_key(&record.fingerprint) {
            if self.known.len() >= MOST_FINGERPRINTS {
                self.known.clear();
            }
            self.known.insert(record.fingerprint, ());
            self.send(Event::Text {
                fingerprint: record.fingerprint,
                database: record.database,
                text: normalised.clone(),
                sample: sample.clone(),
            });
        }
        self.send(Event::Finished(record));
    }

    fn send(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Default for QueryLog {
    fn default() -> QueryLog {
        QueryLog::new()
    }
}

/// The fingerprint of a statement and the text it is made of.
pub fn fingerprint(database: Oid, text: &str) -> (u64, Arc<str>) {
    let normalised = lex::normalised(text, false);
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    database.hash(&mut hasher);
    normalised.hash(&mut hasher);
    (hasher.finish(), Arc::from(normalised))
}
