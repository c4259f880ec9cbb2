//! The task: takes records as they come, looks for advice every few seconds, saves every minute.
//!
//! It runs on a thread of its own with the lowest priority it can get. A panic ends one run; the keeper around it
//! counts, waits (1 s, doubling to a minute) and starts the next with the same receiver and state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use session::query_log::Event;
use sql::Database;
use tokio::sync::mpsc::{Receiver, error::TryRecvError};
use value::{Error, Result};

use crate::relations::Shown;
use crate::{Counters, advisor, facts, relations};

/// Between two looks into an empty channel: short enough that advice follows the fiftieth execution within seconds.
const PAUSE: Duration = Duration::from_millis(200);
const ADVISE_EVERY: Duration = Duration::from_secs(3);
const SAVE_EVERY: Duration = Duration::from_secs(60);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// Records taken before others get the lock.
const BATCH: usize = 1_000;

/// The text of a statement that makes the task panic, when the environment variable STARTDB_TEST_PANIC is set: the
/// planted failure of the restart test.
const PLANTED: &str = "optimizer_panic";

/// A running optimizer.
pub struct Handle {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Ends the task; its state is saved first.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::warn!("the optimizer did not end by itself");
            }
        }
    }
}

pub(crate) fn start(
    runtime: &tokio::runtime::Handle,
    database: Arc<Database>,
    directory: &Path,
) -> Result<Handle> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join("queries.json");
    let shown = Arc::new(Shown::default());
    match crate::aggregate::Aggregates::load(&path) {
        Ok(saved) => *shown.aggregates.lock() = saved,
        // History is a convenience: a damaged file costs a week of counters, not the start.
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "the query history cannot be read; starting anew")
        }
    }
    relations::register(&database, &shown);
    let receiver = database
        .query_log()
        .subscribe()
        .ok_or_else(|| Error::internal("somebody else reads the query log"))?;
    let counters = Arc::new(Counters::default());
    let stop = Arc::new(AtomicBool::new(false));
    let task = Task {
        runtime: runtime.clone(),
        database,
        shown,
        path,
        stop: stop.clone(),
        counters: counters.clone(),
    };
    let thread = thread::Builder::new().name(String::from("optimizer")).spawn(move || task.keep(receiver))?;
    Ok(Handle { counters, stop, thread: Some(thread) })
}

struct Task {
    runtime: tokio::runtime::Handle,
    database: Arc<Database>,
    shown: Arc<Shown>,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Task {
    fn keep(self, mut receiver: Receiver<Event>) {
        // Best effort: without the right to be polite it competes like everybody else.
        if let Err(error) = rustix::process::nice(10) {
            tracing::debug!(%error, "the optimizer runs at normal priority");
        }
        let mut back_off = Duration::from_secs(1);
        loop {
            let started = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| self.run(&mut receiver))) {
                Ok(()) => break,
                Err(_) => {
                    self.counters.restarts.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        back_off_seconds = back_off.as_secs(),
                        "the optimizer panicked and starts again"
                    );
                    if started.elapsed() > LONGEST_BACK_OFF {
                        back_off = Duration::from_secs(1);
                    }
                    self.sleep(back_off);
                    back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
        self.save();
    }

    fn run(&self, receiver: &mut Receiver<Event>) {
        let planted = std::env::var_os("STARTDB_TEST_PANIC").is_some();
        let (mut advised, mut saved) = (Instant::now(), Instant::now());
        let mut seen_since_advice = false;
        while !self.stop.load(Ordering::Acquire) {
            let mut taken = 0;
            {
                let mut aggregates = self.shown.aggregates.lock();
                while taken < BATCH {
                    match receiver.try_recv() {
                        Ok(event) => {
                            if planted && matches!(&event, Event::Text { text, .. } if text.contains(PLANTED))
                            {
                                panic!("planted");
                            }
                            aggregates.take(event);
                            taken += 1;
                        }
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                    }
                }
            }
            seen_since_advice |= taken > 0;
            if seen_since_advice && advised.elapsed() >= ADVISE_EVERY {
                self.advise();
                advised = Instant::now();
                seen_since_advice = false;
            }
            if saved.elapsed() >= SAVE_EVERY {
                self.save();
                saved = Instant::now();
            }
            if taken < BATCH {
                thread::sleep(PAUSE);
            }
        }
    }

    fn advise(&self) {
        let costly = facts::costly(&self.shown.aggregates.lock());
        let facts = match self.runtime.block_on(facts::gather(&self.database, costly)) {
            Ok(facts) => facts,
            Err(error) => return tracing::debug!(%error, "no advice this time"),
        };
        let advice = advisor::advise(&facts);
        let mut shown = self.shown.recommendations.lock();
        let new = advice.iter().filter(|advice| !shown.iter().any(|known| known.sql == advice.sql)).count();
        self.counters.generated.fetch_add(new as u64, Ordering::Relaxed);
        *shown = advice;
    }

    fn save(&self) {
        let mut aggregates = self.shown.aggregates.lock();
        aggregates.expire(value::datetime::now());
        if let Err(error) = aggregates.save(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "the query history cannot be saved");
        }
    }

    fn sleep(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end && !self.stop.load(Ordering::Acquire) {
            thread::sleep(PAUSE.min(duration));
        }
    }
}
