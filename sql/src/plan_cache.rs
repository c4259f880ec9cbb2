//! What is kept by a statement's text for when it is sent again: how it parses ([`TextCache`] of `Parsed`), its resolved
//! plan, and plans with parameters in place of its literals (`session/template.rs`).
//!
//! A plan depends on the catalog, on what names mean (search path, role) and on a few settings; the latter two are
//! the scope key. Entries of an older catalog version are made anew in place. Statistics are compared from time to
//! time: a plan made for an empty table must not survive the table's growth.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use engine::Engine;
use engine::catalog::Table;
use plan::ir::{Node, NodeKind, Plan};
use resolve::ResultColumn;
use value::{Oid, datetime};

use crate::query_log;

/// Texts a cache keeps at most.
const CAPACITY: usize = 10_000;
/// How often an entry's table sizes are compared, in microseconds.
const CHECK_EVERY: i64 = 500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    Select,
    Insert,
    Update,
    Delete,
}

impl CommandKind {
    pub fn tag(self, rows: u64) -> String {
        match self {
            CommandKind::Select => format!("SELECT {rows}"),
            CommandKind::Insert => format!("INSERT 0 {rows}"),
            CommandKind::Update => format!("UPDATE {rows}"),
            CommandKind::Delete => format!("DELETE {rows}"),
        }
    }

    pub fn noun(self) -> &'static str {
        match self {
            CommandKind::Select => "SELECT",
            CommandKind::Insert => "INSERT",
            CommandKind::Update => "UPDATE",
            CommandKind::Delete => "DELETE",
        }
    }
}

/// A statement that is ready to run.
pub struct Resolved {
    pub plan: Arc<Plan>,
    pub columns: Vec<ResultColumn>,
    pub types: Arc<[Oid]>,
    pub kind: CommandKind,
    /// Returns rows (SELECT, RETURNING).
    pub returns_rows: bool,
    /// Has to run through the DML driver: changes or locks rows somewhere.
    pub drives: bool,
    /// May keep its thread for long.
    pub long: bool,
    pub catalog_version: u64,
    /// The session's own changes it was made under; 0: none.
    pub local_version: u64,
    pub scope: Arc<str>,
    pub statistics_epoch: u64,
    /// (table, rows when planned).
    sizes: Vec<(Arc<Table>, u64)>,
    checked_at: AtomicI64,
    /// Whether the vectorised executor takes the plan; asked once.
    vectorised: OnceLock<bool>,
    /// The columns as the wire describes them; made once.
    pub described: OnceLock<Arc<[session::Column]>>,
    /// The query log's name for the statement; made once.
    fingerprint: OnceLock<(u64, Arc<str>)>,
}

/// Plans that cost more than this run on the vectorised executor, where it takes them, or else on a thread of their own for the
/// length of a chunk: about 100,000 rows scanned.
pub const LONG: f64 = 1_200.0;

/// Whether a plan may compute for long before it gives a row: it costs much, or looks through much for a few rows.
fn takes_long(node: &Node) -> bool {
    let looks = match &node.kind {
        NodeKind::Scan(scan) => scan.filter.is_some(),
        NodeKind::Filter { .. } => true,
        _ => false,
    };
    (looks && node.total_cost > LONG) || node.inputs().into_iter().any(takes_long)
}

impl Resolved {
    /// Whether that executor can run the plan.
    pub fn accepted_by(&self, executor: &dyn execute::Vectorised) -> bool {
        *self.vectorised.get_or_init(|| executor.accepts(&self.plan))
    }

    /// The fingerprint and the normalised text of the statement, which was sent as `text` in `database`.
    pub fn fingerprint(&self, database: Oid, text: &str) -> &(u64, Arc<str>) {
        self.fingerprint.get_or_init(|| query_log::fingerprint(database, text))
    }

    pub fn new(
        engine: &Engine,
        plan: Plan,
        columns: Vec<ResultColumn>,
        types: Arc<[Oid]>,
        kind: CommandKind,
        catalog_version: u64,
        local_version: u64,
        scope: Arc<str>,
        statistics_epoch: u64,
    ) -> Resolved {
        let root_drives = matches!(plan.root.kind, NodeKind::Modify(_) | NodeKind::LockRows(_));
        let writes =
            matches!(plan.root.kind, NodeKind::Modify(_)) || plan.ctes.iter().any(|cte| cte.modifies);
        let drives = root_drives
            || writes
            || plan.tables.iter().any(|t| t.lock != plan::ir::TableLock::AccessShare)
            || execute::needs_driver(&plan);
        let sizes = plan.tables.iter().map(|t| (t.table.clone(), engine.statistics(&t.table).rows)).collect();
        Resolved {
            returns_rows: kind == CommandKind::Select || !columns.is_empty(),
            long: plan.root.total_cost > LONG || takes_long(&plan.root),
            plan: Arc::new(plan),
            columns,
            types,
            kind,
            drives,
            catalog_version,
            local_version,
            scope,
            statistics_epoch,
            sizes,
            vectorised: OnceLock::new(),
            described: OnceLock::new(),
            fingerprint: OnceLock::new(),
            checked_at: AtomicI64::new(datetime::now()),
        }
    }

    /// Whether the plan still fits the tables' sizes; looked at now and then only.
    pub fn fits(&self, engine: &Engine) -> bool {
        let now = datetime::now();
        if now - self.checked_at.load(Ordering::Relaxed) < CHECK_EVERY {
            return true;
        }
        self.checked_at.store(now, Ordering::Relaxed);
        self.sizes.iter().all(|(table, then)| {
            let rows = engine.statistics(table).rows;
            rows <= then * 4 + 200 && *then <= rows * 4 + 200
        })
    }
}

struct Entry<V> {
    scope: Arc<str>,
    text: Arc<str>,
    value: V,
    used: AtomicU64,
}

/// What was made of a text in a scope, for when it comes again. Bounded; what has not been used longest goes first.
pub struct TextCache<V> {
    entries: DashMap<u64, Entry<V>>,
    clock: AtomicU64,
    evictions: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<V: Clone> TextCache<V> {
    pub fn new() -> TextCache<V> {
        TextCache {
            entries: DashMap::new(),
            clock: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn key(scope: &str, text: &str) -> u64 {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        scope.hash(&mut hasher);
        text.hash(&mut hasher);
        hasher.finish()
    }

    /// What is kept for a text in a scope; of whatever age, the caller judges.
    pub fn get(&self, scope: &str, text: &str) -> Option<V> {
        let entry = self.entries.get(&Self::key(scope, text));
        let Some(entry) = entry.filter(|entry| *entry.scope == *scope && *entry.text == *text) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(entry.value.clone())
    }

    pub fn put(&self, scope: &Arc<str>, text: &Arc<str>, value: V) {
        if self.entries.len() >= CAPACITY {
            // The older half goes: cheap, rare, and what is in use stays.
            let horizon = self.clock.load(Ordering::Relaxed).saturating_sub(CAPACITY as u64 / 2);
            let before = self.entries.len();
            self.entries.retain(|_, entry| entry.used.load(Ordering::Relaxed) >= horizon);
            if self.entries.len() >= CAPACITY {
                self.entries.clear();
            }
            self.evictions.fetch_add((before - self.entries.len().min(before)) as u64, Ordering::Relaxed);
        }
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let entry = Entry { scope: scope.clone(), text: text.clone(), value, used };
        self.entries.insert(Self::key(scope, text), entry);
    }

    pub fn stats(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            entries: self.entries.len() as u64,
            evictions: read(&self.evictions),
        }
    }
}

/// What a cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub entries: u64,
    pub evictions: u64,
}
