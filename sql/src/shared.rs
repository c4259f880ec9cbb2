//! The part of a session that others may look at: its functions, other sessions, pg_stat_activity.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use engine::SessionState;
use engine::catalog::{Database as DatabaseObject, Role};
use execute::Cancel;
use parking_lot::Mutex;
use session::{Notice, Peer, Startup};
use value::{Error, Oid, Result, datetime};

use crate::database::Database;
use crate::setting::{SEVERITIES, Settings};

pub struct Shared {
    pub pid: i32,
    secret: [u8; 32],
    pub database: Oid,
    pub database_name: String,
    pub peer: Peer,
    /// Who logged in, and whose session it is (SET SESSION AUTHORIZATION).
    pub login_role: Oid,
    pub roles: Mutex<Roles>,
    pub settings: Mutex<Settings>,
    pub sequences: Mutex<SequenceMemory>,
    pub activity: Mutex<Activity>,
    pub cancel: Arc<Cancel>,
    /// The account of the latest statement.
    pub memory: Mutex<std::sync::Weak<execute::MemoryAccount>>,
    pub terminate: AtomicBool,
    /// What it waits for besides locks: `pg_stat_activity.wait_event_type` and `wait_event`.
    pub waiting: Mutex<Option<(&'static str, &'static str)>>,
    pub notices: Mutex<Vec<Notice>>,
    pub state: SessionState,
    /// Microseconds since 2000-01-01 UTC.
    pub started_at: i64,
    /// Notifications waiting for delivery, and the channels listened to.
    pub listening: Mutex<Vec<String>>,
    pub prepared: Mutex<Vec<PreparedInfo>>,
    pub cursors: Mutex<Vec<CursorInfo>>,
    /// The state of `random()` once `setseed` has been called.
    pub seed: Mutex<Option<function::SeededRandom>>,
    pub transaction_started: AtomicI64,
    pub transaction_id: AtomicU64,
    /// Locale of an advisory lock or NOTIFY asked for by a function and not yet carried out.
    pub pending: Mutex<Vec<Pending>>,
}

/// Side effects that a function asked for and the session carries out when it holds its transaction again.
#[derive(Clone, Debug)]
pub enum Pending {
    Notify {
        channel: String,
        payload: String,
    },
    /// set_config('role', ...) and the like.
    Role {
        role: Option<String>,
        local: bool,
    },
    Transaction {
        setting: &'static str,
        value: String,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Roles {
    pub session: Oid,
    /// SET ROLE.
    pub current: Oid,
}

/// currval and lastval.
#[derive(Debug, Default)]
pub struct SequenceMemory {
    pub values: HashMap<Oid, i64>,
    pub last: Option<Oid>,
}

#[derive(Clone, Debug)]
pub struct Activity {
    pub state: &'static str,
    pub query: Arc<str>,
    pub query_start: Option<i64>,
    pub transaction_start: Option<i64>,
    pub state_change: i64,
}

/// A row of pg_prepared_statements.
#[derive(Clone, Debug)]
pub struct PreparedInfo {
    pub name: String,
    pub text: Arc<str>,
    pub prepared_at: i64,
    pub types: Vec<Oid>,
    pub from_sql: bool,
}

/// A row of pg_cursors.
#[derive(Clone, Debug)]
pub struct CursorInfo {
    pub name: String,
    pub text: Arc<str>,
    pub hold: bool,
    pub binary: bool,
    pub scroll: bool,
    pub created_at: i64,
}

impl Shared {
    pub(crate) fn new(
        database: &Arc<Database>,
        pid: i32,
        role: &Arc<Role>,
        object: &DatabaseObject,
        startup: Startup,
    ) -> Result<Shared> {
        let mut settings = Settings::new(role.superuser);
        for (name, value) in &database.options.settings {
            settings.set_base(name, value)?;
        }
        // What an administrator stored may have become invalid; that must not lock people out.
        for (name, value) in crate::database::public_settings(&object.settings).chain(role.settings.iter()) {
            if let Err(error) = settings.set_base(name, value) {
                tracing::warn!(setting = %name, %error, "a stored setting was left out");
            }
        }
        for (name, value) in &startup.parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in startup_options(value) {
                        settings.set_base(&name, &value)?;
                    }
                }
                _ if name.starts_with("_pq_.") => {}
                _ => settings.set_base(name, value)?,
            }
        }
        settings.set_unchecked("session_authorization", role.name.clone(), false);
        let now = datetime::now();
        Ok(Shared {
            pid,
            secret: rand::random(),
            database: object.oid,
            database_name: object.name.clone(),
            peer: startup.peer,
            login_role: role.oid,
            roles: Mutex::new(Roles { session: role.oid, current: role.oid }),
            settings: Mutex::new(settings),
            sequences: Mutex::default(),
            activity: Mutex::new(Activity {
                state: "idle",
                query: Arc::from(""),
                query_start: None,
                transaction_start: None,
                state_change: now,
            }),
            cancel: Cancel::new(),
            memory: Mutex::default(),
            terminate: AtomicBool::new(false),
            waiting: Mutex::default(),
            notices: Mutex::default(),
            state: database.engine.new_session(pid, object.oid),
            started_at: now,
            listening: Mutex::default(),
            seed: Mutex::default(),
            prepared: Mutex::default(),
            cursors: Mutex::default(),
            transaction_started: AtomicI64::new(0),
            transaction_id: AtomicU64::new(0),
            pending: Mutex::default(),
        })
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Compares a cancel request's key: the first four bytes for protocol 3.0, else all of it.
    pub fn secret_matches(&self, given: &[u8]) -> bool {
        let own = if given.len() == 4 { &self.secret[..4] } else { &self.secret[..] };
        own.len() == given.len() && own.iter().zip(given).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }

    pub fn is_active(&self) -> bool {
        self.activity.lock().state == "active"
    }

    /// Adds a notice unless client_min_messages hides it.
    pub fn notice(&self, severity: &'static str, error: Error) {
        let level = severity.to_ascii_lowercase();
        let least = self.settings.lock().effective().min_messages;
        let rank = SEVERITIES.iter().position(|s| *s == level).unwrap_or(usize::MAX);
        if severity == "INFO" || rank >= least {
            self.notices.lock().push(Notice { severity, error });
        }
    }

    /// Says what the session waits for, until the guard is dropped.
    pub fn waits_for(&self, kind: &'static str, event: &'static str) -> WaitEvent<'_> {
        *self.waiting.lock() = Some((kind, event));
        WaitEvent(self)
    }

    pub fn set_state(&self, state: &'static str) {
        let mut activity = self.activity.lock();
        activity.state = state;
        activity.state_change = datetime::now();
    }
}

/// See [`Shared::waits_for`].
pub struct WaitEvent<'a>(&'a Shared);

impl Drop for WaitEvent<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() = None;
    }
}

/// `-c name=value --name=value`, blanks escaped by backslashes.
fn startup_options(text: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => word.extend(characters.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--") {
            Some(rest) => rest.to_string(),
            None if word == "-c" => words.next().unwrap_or_default(),
            None => match word.strip_prefix("-c") {
                Some(rest) => rest.to_string(),
                None => continue,
            },
        };
        if let Some((name, value)) = pair.split_once('=') {
            out.push((name.replace('-', "_"), value.to_string()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn options_of_the_startup_message() {
        assert_eq!(
            super::startup_options(r"-c search_path=a\ b -cwork_mem=1MB --lock-timeout=5s"),
            [("search_path", "a b"), ("work_mem", "1MB"), ("lock_timeout", "5s")]
                .map(|(a, b)| (a.to_string(), b.to_string()))
        );
    }
}
