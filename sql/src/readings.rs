//! What a monitoring system asks of the database as a whole, taken when it asks: numbers by database, sessions by what they
//! do, locks by mode, the largest tables. Everything is bounded, whatever the number of objects or statements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::LockTag;
use engine::catalog::Object;
use engine::lock::TABLE_LOCK_MODES;
use value::{Oid, datetime};

use crate::database::Database;
use crate::setting;
use crate::system;

/// What the sessions of one database have counted since the start.
#[derive(Debug, Default)]
pub struct DatabaseCounts {
    pub commits: AtomicU64,
    pub rollbacks: AtomicU64,
    /// Rows that scans read, and of these the ones found by an index.
    pub returned: AtomicU64,
    pub fetched: AtomicU64,
    pub inserted: AtomicU64,
    pub updated: AtomicU64,
    pub deleted: AtomicU64,
    pub deadlocks: AtomicU64,
    pub sessions: AtomicU64,
}

/// One database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabaseReading {
    pub oid: Oid,
    pub name: String,
    pub is_template: bool,
    pub backends: u64,
    pub bytes: u64,
    pub commits: u64,
    pub rollbacks: u64,
    pub returned: u64,
    pub fetched: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub deadlocks: u64,
    pub sessions: u64,
}

/// Sessions of a database in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityReading {
    pub database: String,
    pub state: &'static str,
    pub count: u64,
    /// Age of their oldest transaction, in seconds.
    pub longest_transaction: f64,
}

/// Locks of one mode held or waited for in a database.
#[derive(Clone, Debug, PartialEq)]
pub struct LockReading {
    pub database: String,
    pub mode: &'static str,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TableReading {
    pub database: String,
    pub schema: String,
    pub name: String,
    pub live_rows: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The oldest ones, the template last.
    pub databases: Vec<DatabaseReading>,
    pub activity: Vec<ActivityReading>,
    pub locks: Vec<LockReading>,
    /// Requests for locks that wait.
    pub lock_waiters: u64,
    /// The largest ones of all databases.
    pub tables: Vec<TableReading>,
    /// Numeric settings of the server, in their base units.
    pub settings: Vec<(&'static str, f64)>,
    /// Seconds since 1970.
    pub started_at: f64,
}

/// States of pg_stat_activity.
const STATES: [&str; 4] = ["active", "idle", "idle in transaction", "idle in transaction (aborted)"];

/// Settings that alerts compare with.
const SETTINGS: [&str; 8] = [
    "max_connections",
    "superuser_reserved_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_worker_processes",
    "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_scale_factor",
    "work_mem",
];

const MOST_DATABASES: usize = 8;
const MOST_TABLES: usize = 20;

/// Microseconds between 1970 and 2000.
const EPOCH: i64 = 946_684_800_000_000;

impl Database {
    /// The counts that the sessions of a database share.
    pub(crate) fn counts_of(&self, database: Oid) -> Arc<DatabaseCounts> {
        self.counts.entry(database).or_default().clone()
    }

    /// A reading of everything here. It takes time in proportion to the number of objects, sessions and locks.
    pub fn readings(&self) -> Readings {
        let catalog = self.engine().catalog();
        let mut databases: Vec<DatabaseReading> = catalog
            .objects()
            .filter_map(|object| match object {
                Object::Database(database) => Some(self.reading_of(database)),
                _ => None,
            })
            .collect();
        databases.sort_by_key(|database| (database.is_template, database.oid));
        databases.truncate(MOST_DATABASES);
        let name_of = |oid: Oid| databases.iter().find(|d| d.oid == oid).map(|d| d.name.clone());

        let now = datetime::now();
        let mut activity: Vec<ActivityReading> = databases
            .iter()
            .filter(|database| !database.is_template)
            .flat_map(|database| {
                STATES.map(|state| ActivityReading {
                    database: database.name.clone(),
                    state,
                    count: 0,
                    longest_transaction: 0.0,
                })
            })
            .collect();
        for session in &self.sessions {
            let (state, begun) = {
                let activity = session.activity.lock();
                (activity.state, activity.transaction_start)
            };
            let place = activity.iter_mut().find(|a| a.database == session.database_name && a.state == state);
            if let Some(place) = place {
                place.count += 1;
                let age = begun.map_or(0.0, |begun| (now - begun).max(0) as f64 / 1e6);
                place.longest_transaction = place.longest_transaction.max(age);
            }
        }

        let mut held: BTreeMap<(Oid, &'static str), u64> = BTreeMap::new();
        let mut lock_waiters = 0;
        for lock in self.engine().locks().listing() {
            lock_waiters += u64::from(!lock.granted);
            let database = match &lock.tag {
                LockTag::Table(oid) => catalog.get(*oid).and_then(|object| object.database()),
                LockTag::Advisory(key) => Some(key.database),
                LockTag::Name { schema, .. } => catalog.get(*schema).and_then(|object| object.database()),
                LockTag::Row { .. } | LockTag::Key { .. } | LockTag::Transaction { .. } => None,
            };
            // Row and key locks name storages; their holders say where they are.
            let database = database.or_else(|| self.sessions.get(&lock.pid).map(|s| s.database));
            if let (Some(database), Some(mode)) =
                (database, TABLE_LOCK_MODES.iter().find(|mode| **mode == lock.mode))
            {
                *held.entry((database, mode)).or_default() += 1;
            }
        }
        let locks = databases
            .iter()
            .filter(|database| !database.is_template)
            .flat_map(|database| {
                let held = &held;
                TABLE_LOCK_MODES.map(|mode| LockReading {
                    database: database.name.clone(),
                    mode,
                    count: held.get(&(database.oid, mode)).copied().unwrap_or(0),
                })
            })
            .collect();

        let mut tables: Vec<TableReading> = catalog
            .objects()
            .filter_map(|object| match object {
                Object::Table(table) => Some(TableReading {
                    database: name_of(table.database)?,
                    schema: catalog.schema(table.schema)?.name.clone(),
                    name: table.name.clone(),
                    live_rows: self.engine().statistics(table).rows,
                }),
                _ => None,
            })
            .collect();
        tables.sort_by(|a, b| b.live_rows.cmp(&a.live_rows).then_with(|| a.name.cmp(&b.name)));
        tables.truncate(MOST_TABLES);

        Readings {
            databases,
            activity,
            locks,
            lock_waiters,
            tables,
            settings: self.numeric_settings(),
            started_at: (self.started_at + EPOCH) as f64 / 1e6,
        }
    }

    pub(crate) fn reading_of(&self, database: &engine::catalog::Database) -> DatabaseReading {
        let counts = self.counts_of(database.oid);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatabaseReading {
            oid: database.oid,
            name: database.name.clone(),
            is_template: database.is_template,
            backends: self.sessions.iter().filter(|s| s.database == database.oid).count() as u64,
            bytes: system::database_size(self, database.oid) as u64,
            commits: read(&counts.commits),
            rollbacks: read(&counts.rollbacks),
            returned: read(&counts.returned),
            fetched: read(&counts.fetched),
            inserted: read(&counts.inserted),
            updated: read(&counts.updated),
            deleted: read(&counts.deleted),
            deadlocks: read(&counts.deadlocks),
            sessions: read(&counts.sessions),
        }
    }

    fn numeric_settings(&self) -> Vec<(&'static str, f64)> {
        let mut settings = setting::Settings::new(true);
        for (name, value) in &self.options.settings {
            // They were checked when the first session was opened; what is wrong keeps its default here.
            let _ = settings.set_base(name, value);
        }
        SETTINGS
            .into_iter()
            .filter_map(|name| {
                let value = match name {
                    "max_connections" => self.options.max_connections as f64,
                    "superuser_reserved_connections" => self.options.reserved_connections as f64,
                    _ => settings.kept(setting::find(name)?).0.parse().ok()?,
                };
                Some((name, value))
            })
            .collect()
    }
}
