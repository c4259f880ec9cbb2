//! One client's session: transactions, prepared statements, portals, and the two ways to run a string.
//!
//! A portal is a statement on its way: resolved when it is bound, started at its first `fetch`, and then pulled a
//! chunk at a time, so that nothing is computed that the client does not take. Starting a query follows rules.md 2: resolve
//! in the newest catalog, lock the tables, compare the catalog version, resolve again if it moved, and only then
//! take the snapshot.
//!
//! The transaction of a session is a [`Block`]: implicit (one statement, one simple string, or everything up to
//! Sync) or explicit (BEGIN). A failed explicit block without savepoints gives up its transaction, and with it
//! all locks, at once; only the memory of having failed stays until ROLLBACK.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use engine::catalog::{Catalog, Persistence, oid};
use engine::{Isolation, TableLockMode, Wait};
use execute::{BatchStream, CancelReason, SLICE};
use futures::StreamExt;
use plan::ir::TableLock;
use resolve::tree::LockStrength;
use session::{
    Chunk, Column, CopyShape, Fetched, Format, Notice, Parameter, Rows, StatementDescription,
    TransactionStatus,
};
use tracing::{Instrument, Span};
use value::text::Style;
use value::types::oid as type_oid;
use value::{Datum, Error, Oid, Result, SqlState, Type, datetime};

use crate::command::set::level;
use crate::database::Database;
use crate::grammar::{self, error_shifted};
use crate::literal::{self, Lifted};
use crate::plan_cache::{CommandKind, LONG, Resolved};
use crate::privilege;
use crate::query_log;
use crate::scope::Scope;
use crate::setting::{self, Executor, LogStatement};
use crate::shared::{PreparedInfo, Roles, Shared};
use crate::statement::{Fragment, Modes, Parsed, Statement};
use crate::statement_log;
use crate::trace::Trace;

mod cursor;
mod template;
mod transaction;
mod utility;

pub use cursor::SqlCursor;
pub use template::Template;
pub use transaction::Block;
pub use utility::Outcome;
pub(crate) use utility::missing_statement;

/// Rows made at once between looks at the clock and the client.
const CHUNK: usize = 512;
/// Bytes of text above which a plan is not kept for other statements: it would be large and unlikely to come again. It may take long
/// to make, too.
const LONGEST_CACHED: usize = 16 << 10;

pub struct Session {
    pub(crate) database: Arc<Database>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) block: Option<Block>,
    pub(crate) statements: HashMap<String, Arc<Prepared>>,
    pub(crate) portals: HashMap<String, Portal>,
    simple: VecDeque<Next>,
    /// The portal "" belongs to the simple string being run.
    in_simple: bool,
    /// Sync is awaited after an error.
    batch_failed: bool,
    /// A statement of this batch has run (for utilities that must stand alone).
    pub(crate) batch_statements: usize,
    reported: Vec<(&'static str, String)>,
    reported_generation: u64,
    scope: Option<CachedScope>,
    /// Grows with every change this session makes to the catalog.
    pub(crate) local_version: u64,
    pub(crate) copy: Option<Box<crate::command::copy::CopyIn>>,
    pub(crate) temporary: Option<Oid>,
    timer: Option<tokio::task::AbortHandle>,
    last_yield: Instant,
    /// Nothing was to be done since, and others had their turn.
    rested: bool,
    pub(crate) statement_time: i64,
    /// What COMMIT AND CHAIN carries over, and the idle-in-transaction clock.
    idle_since: Option<Instant>,
    /// Statements nested by EXECUTE and EXPLAIN.
    pub(crate) depth: usize,
    pub(crate) trace: Trace,
    /// What the client's message is about, and when it came: for the log.
    current: Option<(Arc<str>, Instant)>,
}

/// A statement of a simple string that waits for its turn.
enum Next {
    Parsed(Parsed),
    /// A single query with literals, which may have a template: not parsed yet.
    Lifted(Lifted, Arc<str>),
}

/// For the test that a panic ends one session only: a statement that says `statement_panic` panics.
static PANICS_ARE_PLANTED: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("STARTDB_TEST_PANIC").is_some());

/// The parse cache has no scope: a text parses alike for everybody.
static EVERYWHERE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

struct CachedScope {
    version: u64,
    local_version: u64,
    generation: u64,
    roles: (Oid, Oid),
    path: Arc<[Oid]>,
    superuser: bool,
    key: Arc<str>,
}

/// A prepared statement.
pub struct Prepared {
    pub name: String,
    /// `None`: the empty string.
    pub parsed: Option<Parsed>,
    pub declared: Vec<Oid>,
    pub types: Arc<[Oid]>,
    pub columns: Option<Arc<[Column]>>,
    pub resolved: parking_lot::Mutex<Option<Arc<Resolved>>>,
    /// The trace its text named as parent.
    pub traceparent: Option<Arc<str>>,
}

/// A statement on its way.
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub parameters: Arc<[Datum]>,
    pub columns: Option<Arc<[Column]>>,
    pub state: PortalState,
    /// Rows given since it was last suspended.
    pub given: usize,
    pub started: Option<Instant>,
    pub planning: Duration,
    pub cache_hit: bool,
    pub rows: u64,
    /// For the query log: rows scanned, indexes.
    pub counters: execute::Counters,
    pub cursor: Option<Box<SqlCursor>>,
    /// The text as it was sent, where `prepared` is a template for many.
    pub text: Option<Arc<str>>,
    /// Its execution, for a tracer.
    pub span: Span,
}

pub enum PortalState {
    New,
    /// A read-only plan, pulled.
    Reading {
        cursor: execute::Cursor,
        kind: CommandKind,
        long: bool,
    },
    /// A read-only plan on the vectorised executor.
    Streaming {
        batches: BatchStream,
        kind: CommandKind,
        /// What is left of the last batch, from that row on.
        rest: Option<(RecordBatch, usize)>,
        types: Vec<Type>,
        /// What its threads have read.
        tally: Arc<execute::Tally>,
    },
    /// A plan that writes or locks.
    Driving {
        driver: Box<execute::Driver>,
        kind: CommandKind,
        returns_rows: bool,
        long: bool,
    },
    /// Rows that are all there (SHOW, EXPLAIN, EXECUTE of those).
    Buffered {
        rows: VecDeque<Vec<Datum>>,
        tag: String,
        counted: bool,
    },
    CopyOut(Box<crate::command::copy::CopyOut>),
    CopyIn,
    Done,
}

impl Portal {
    pub fn new(prepared: Arc<Prepared>, parameters: Arc<[Datum]>, columns: Option<Arc<[Column]>>) -> Portal {
        Portal {
            prepared,
            parameters,
            columns,
            state: PortalState::New,
            given: 0,
            started: None,
            planning: Duration::ZERO,
            cache_hit: false,
            rows: 0,
            counters: execute::Counters::default(),
            cursor: None,
            text: None,
            span: Span::none(),
        }
    }

    /// The text of the statement as it was sent; `None` for the empty string.
    fn text(&self) -> Option<&Arc<str>> {
        self.text.as_ref().or_else(|| self.prepared.parsed.as_ref().map(|parsed| &parsed.text))
    }
}

/// Rows `first` up to `end` of a batch, as values. Errors: XX000 for a column that has not the form of its type.
fn rows_between(batch: &RecordBatch, types: &[Type], first: usize, end: usize) -> Result<Rows> {
    let mut readers = Vec::with_capacity(types.len());
    for (column, ty) in batch.columns().iter().zip(types) {
        readers.push(value::arrow_form::ColumnReader::new(column.as_ref(), *ty)?);
    }
    let mut values = Vec::with_capacity(readers.len() * (end - first));
    for row in first..end {
        for reader in &readers {
            values.push(reader.get(row)?);
        }
    }
    Ok(Rows { columns: types.len(), count: end - first, values })
}

/// How a plan locks rows, in words.
fn locking(node: &plan::ir::Node) -> Option<&'static str> {
    if let plan::ir::NodeKind::LockRows(lock) = &node.kind {
        return lock.locks.first().map(|step| match step.strength {
            LockStrength::KeyShare => "SELECT FOR KEY SHARE",
            LockStrength::Share => "SELECT FOR SHARE",
            LockStrength::NoKeyUpdate => "SELECT FOR NO KEY UPDATE",
            LockStrength::Update => "SELECT FOR UPDATE",
        });
    }
    node.inputs().into_iter().find_map(locking)
}

/// The name of a session's temporary schema.
pub fn temporary_name(schema: Oid) -> String {
    format!("pg_temp_{schema}")
}

/// A column of a utility's result.
pub fn plain_column(name: &str, ty: Oid) -> Column {
    Column {
        name: name.to_string(),
        table: 0,
        attribute: 0,
        type_oid: ty,
        type_size: value::types::info(ty).map_or(-1, |t| t.len),
        typmod: -1,
        format: Format::Text,
    }
}

fn columns_of(resolved: &Resolved) -> Option<Arc<[Column]>> {
    let describe = |columns: &[resolve::ResultColumn]| {
        columns
            .iter()
            .map(|c| {
                // What no context gave a type is text by the time it is sent.
                let ty = if c.ty.oid == type_oid::UNKNOWN { Type::new(type_oid::TEXT) } else { c.ty };
                Column {
                    name: c.name.clone(),
                    table: c.table,
                    attribute: c.attribute,
                    type_oid: ty.oid,
                    type_size: value::types::info(ty.oid).map_or(-1, |t| t.len),
                    typmod: ty.typmod,
                    format: Format::Text,
                }
            })
            .collect()
    };
    resolved.returns_rows.then(|| resolved.described.get_or_init(|| describe(&resolved.columns)).clone())
}

fn with_formats(columns: &Arc<[Column]>, formats: &[Format]) -> Result<Arc<[Column]>> {
    let format = |n: usize| match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(n).copied().unwrap_or(Format::Text),
    };
    if formats.len() > 1 && formats.len() != columns.len() {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message has {} result formats but query has {} columns",
                formats.len(),
                columns.len()
            ),
        ));
    }
    if formats.iter().all(|f| *f == Format::Text) {
        return Ok(columns.clone());
    }
    Ok(columns.iter().enumerate().map(|(n, c)| Column { format: format(n), ..c.clone() }).collect())
}

impl Session {
    pub(crate) fn new(database: Arc<Database>, shared: Arc<Shared>) -> Session {
        Session {
            database,
            shared,
            block: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            simple: VecDeque::new(),
            in_simple: false,
            batch_failed: false,
            batch_statements: 0,
            reported: Vec::new(),
            reported_generation: 0,
            scope: None,
            local_version: 0,
            copy: None,
            temporary: None,
            timer: None,
            last_yield: Instant::now(),
            rested: false,
            statement_time: datetime::now(),
            idle_since: None,
            depth: 0,
            trace: Trace::default(),
            current: None,
        }
    }

    pub(crate) fn role(&self) -> Oid {
        self.shared.roles.lock().current
    }

    pub(crate) fn notice(&self, severity: &'static str, state: SqlState, message: impl Into<String>) {
        self.shared.notice(severity, Error::new(state, message));
    }

    /// The scope of a statement that begins now, in the session's transaction.
    pub(crate) fn scope(&mut self) -> Result<Arc<Scope>> {
        let (catalog, started) = {
            let block = self.transaction()?;
            let started = block.started;
            (block.tx()?.catalog(), started)
        };
        self.scope_over(catalog, started)
    }

    fn scope_over(&mut self, catalog: Arc<Catalog>, started: i64) -> Result<Arc<Scope>> {
        let roles: Roles = *self.shared.roles.lock();
        let (generation, settings) = {
            let settings = self.shared.settings.lock();
            (settings.generation(), settings.effective().clone())
        };
        let now = (roles.session, roles.current);
        let fresh = self.scope.as_ref().is_some_and(|s| {
            s.version == catalog.version
                && s.local_version == self.local_version
                && s.generation == generation
                && s.roles == now
        });
        if !fresh {
            let role_name = catalog.role(roles.current).map(|r| r.name.clone()).unwrap_or_default();
            let superuser = privilege::is_superuser(&catalog, roles.current);
            let mut path = Vec::new();
            for name in &settings.search_path {
                let schema = match name.as_str() {
                    "$user" => catalog.schema_named(self.shared.database, &role_name).map(|s| s.oid),
                    "pg_catalog" => Some(oid::PG_CATALOG),
                    "information_schema" => Some(oid::INFORMATION_SCHEMA),
                    "startdb" => Some(oid::STARTDB_SCHEMA),
                    "pg_temp" => self.temporary,
                    _ => catalog.schema_named(self.shared.database, name).map(|s| s.oid),
                };
                if let Some(schema) = schema
                    && !path.contains(&schema)
                    && privilege::check_schema(&catalog, roles.current, schema, 'U').is_ok()
                {
                    path.push(schema);
                }
            }
            if !path.contains(&oid::PG_CATALOG) {
                path.insert(0, oid::PG_CATALOG);
            }
            if let Some(temporary) = self.temporary
                && !path.contains(&temporary)
            {
                path.insert(0, temporary);
            }
            let key = format!("{}\0{path:?}\0{}\0{}", self.shared.database, roles.current, settings.plan_key);
            self.scope = Some(CachedScope {
                version: catalog.version,
                local_version: self.local_version,
                generation,
                roles: now,
                path: path.into(),
                superuser,
                key: key.into(),
            });
        }
        let Some(cached) = &self.scope else { return Err(Error::internal("no scope")) };
        let style = Style { now: Some(started), ..(*settings.style).clone() };
        Ok(Arc::new(Scope {
            database: self.database.clone(),
            shared: self.shared.clone(),
            catalog,
            style,
            settings,
            path: cached.path.clone(),
            temporary: self.temporary,
            role: roles.current,
            superuser: cached.superuser,
            transaction_time: started,
            statement_time: self.statement_time,
            modes: match &self.block {
                Some(block) => (level(block.isolation, block.uncommitted), block.read_only, block.deferrable),
                None => {
                    let effective = self.effective();
                    let level = level(effective.isolation, effective.uncommitted);
                    (level, effective.read_only, effective.deferrable)
                }
            },
            key: cached.key.clone(),
        }))
    }

    /// Awaits a lock or anything else that may take long, and stops with the statement.
    pub(crate) async fn interruptible<T>(
        shared: &Arc<Shared>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let lock_timeout = shared.settings.lock().effective().lock_timeout;
        let timeout = async {
            match lock_timeout {
                0 => std::future::pending::<()>().await,
                ms => tokio::time::sleep(Duration::from_millis(ms)).await,
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            reason = shared.cancel.cancelled() => Err(reason.error()),
            () = timeout => Err(CancelReason::LockTimeout.error()),
        }
    }

    /// Resolves and plans a query, or takes a plan that fits from the statement or the shared cache.
    pub(crate) fn resolve_query(
        &mut self,
        parsed: &Parsed,
        query: &Arc<resolve::parse::Parsed>,
        declared: &[Oid],
        takes_parameters: bool,
        own: Option<&parking_lot::Mutex<Option<Arc<Resolved>>>>,
    ) -> Result<(Arc<Scope>, Arc<Resolved>, bool)> {
        let scope = self.scope()?;
        let local = self.has_local_objects();
        let local_version = if local { self.local_version } else { 0 };
        let kept = own.and_then(|own| own.lock().clone());
        if let Some(resolved) = kept.filter(|r| self.plan_fits(&scope, r, local_version)) {
            self.database.counters.plan_cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok((scope, resolved, true));
        }
        let span = self.trace.plan();
        // Declared types are part of what a text means.
        let shareable = !local
            && scope.settings.plan_cache
            && parsed.text.len() <= LONGEST_CACHED
            && declared.iter().all(|t| *t == 0);
        if shareable
            && let Some(resolved) = self.database.plans.get(&scope.key, &parsed.text)
            && self.plan_fits(&scope, &resolved, local_version)
            && (takes_parameters || resolved.types.is_empty())
        {
            self.database.counters.plan_cache_hits.fetch_add(1, Ordering::Relaxed);
            if let Some(own) = own {
                *own.lock() = Some(resolved.clone());
            }
            span.record("cache_hit", true);
            return Ok((scope, resolved, true));
        }
        self.database.counters.plan_cache_misses.fetch_add(1, Ordering::Relaxed);
        span.record("cache_hit", false);
        let make = || self.make_plan(&scope, query, declared, takes_parameters, local_version);
        let resolved = if parsed.text.len() > LONGEST_CACHED { blocking(make)? } else { make()? };
        let resolved = Arc::new(resolved);
        if let Some(own) = own {
            *own.lock() = Some(resolved.clone());
        }
        if shareable {
            self.database.plans.put(&scope.key, &parsed.text, resolved.clone());
        }
        Ok((scope, resolved, false))
    }

    /// Whether a plan made earlier may run in this scope.
    fn plan_fits(&self, scope: &Scope, resolved: &Resolved, local_version: u64) -> bool {
        resolved.catalog_version == scope.catalog.version
            && resolved.local_version == local_version
            && *resolved.scope == *scope.key
            && resolved.statistics_epoch == self.database.statistics_epoch.load(Ordering::Relaxed)
            && resolved.fits(&self.database.engine)
    }

    /// Resolves and plans a query.
    fn make_plan(
        &self,
        scope: &Scope,
        query: &resolve::parse::Parsed,
        declared: &[Oid],
        takes_parameters: bool,
        local_version: u64,
    ) -> Result<Resolved> {
        let epoch = self.database.statistics_epoch.load(Ordering::Relaxed);
        let mut parameters =
            if takes_parameters { resolve::Parameters::new(declared) } else { resolve::Parameters::none() };
        let tree = resolve::resolve(scope, &query.ast, &query.source, &mut parameters)?;
        let columns = resolve::output_columns(&tree);
        let kind = match tree.modify.as_ref().map(|m| &m.kind) {
            None => CommandKind::Select,
            Some(resolve::tree::ModifyKind::Insert { .. }) => CommandKind::Insert,
            Some(resolve::tree::ModifyKind::Update { .. }) => CommandKind::Update,
            Some(resolve::tree::ModifyKind::Delete) => CommandKind::Delete,
        };
        let plan = scope.plan(&tree)?;
        Ok(Resolved::new(
            &self.database.engine,
            plan,
            columns,
            parameters.types().into(),
            kind,
            scope.catalog.version,
            local_version,
            scope.key.clone(),
            epoch,
        ))
    }

    /// Every statement of a string, parsed; from the cache if the string has come before.
    fn parse_text(&self, text: &str) -> Result<Arc<[Parsed]>> {
        if text.len() > LONGEST_CACHED {
            return Ok(blocking(|| grammar::parse(text))?.into());
        }
        if let Some(known) = self.database.parses.get(&EVERYWHERE, text) {
            return Ok(known);
        }
        let parsed: Arc<[Parsed]> = grammar::parse(text)?.into();
        // Definitions do not come again, and some hold passwords.
        let repeats = |statement: &Statement| {
            matches!(
                statement,
                Statement::Query(_)
                    | Statement::Begin(..)
                    | Statement::Commit { .. }
                    | Statement::Rollback { .. }
            )
        };
        if parsed.iter().all(|p| repeats(&p.statement)) {
            self.database.parses.put(&EVERYWHERE, &Arc::from(text), parsed.clone());
        }
        Ok(parsed)
    }

    /// This session sees objects that others do not: its own uncommitted or temporary ones.
    fn has_local_objects(&self) -> bool {
        self.temporary.is_some()
            || self.block.as_ref().and_then(|b| b.tx.as_ref()).is_some_and(|tx| tx.has_private_catalog())
    }

    /// Starts a portal's query: locks, rights, snapshot, executor.
    async fn start_query(&mut self, portal: &mut Portal, query: &Arc<resolve::parse::Parsed>) -> Result<()> {
        let begun = Instant::now();
        let prepared = portal.prepared.clone();
        let Some(parsed) = &prepared.parsed else { return Err(Error::internal("a query without text")) };
        let state = self
            .open_query(parsed, query, &prepared, portal.parameters.clone(), portal.columns.as_ref())
            .await?;
        portal.planning = begun.elapsed();
        portal.span = self.trace.execute();
        portal.cache_hit = state.1;
        portal.state = state.0;
        Ok(())
    }

    /// Opens the executor for a query; the flag says whether its plan was cached.
    pub(crate) async fn open_query(
        &mut self,
        parsed: &Parsed,
        query: &Arc<resolve::parse::Parsed>,
        prepared: &Prepared,
        parameters: Arc<[Datum]>,
        columns: Option<&Arc<[Column]>>,
    ) -> Result<(PortalState, bool)> {
        let takes_parameters = !prepared.types.is_empty() || !prepared.declared.is_empty();
        let mut attempts = 0;
        let (scope, resolved, hit) = loop {
            let (scope, resolved, hit) = self.resolve_query(
                parsed,
                query,
                &prepared.types,
                takes_parameters,
                Some(&prepared.resolved),
            )?;
            privilege::check_plan(&scope.catalog, scope.role, &resolved.plan)?;
            self.check_read_only(&resolved)?;
            let span = self.trace.lock();
            self.lock_plan(&resolved).await?;
            drop(span);
            let version = self.transaction()?.tx()?.catalog().version;
            if version == resolved.catalog_version {
                break (scope, resolved, hit);
            }
            attempts += 1;
            if attempts > 50 {
                return Err(Error::new(
                    SqlState::OBJECT_IN_USE,
                    "the catalog keeps changing under the statement",
                ));
            }
        };
        if let Some(columns) = columns
            && let Some(now) = columns_of(&resolved)
        {
            let same = Arc::ptr_eq(&now, columns)
                || now.len() == columns.len()
                    && now
                        .iter()
                        .zip(columns.iter())
                        .all(|(a, b)| a.type_oid == b.type_oid && a.name == b.name);
            if !same {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cached plan must not change result type",
                ));
            }
        }
        let state = self.open_plan(&scope, &resolved, parameters, false)?;
        Ok((state, hit))
    }

    /// 25006 for a plan that writes or locks rows of more than temporary tables in a read-only transaction.
    pub(crate) fn check_read_only(&self, resolved: &Resolved) -> Result<()> {
        if !self.block.as_ref().is_some_and(|b| b.read_only) {
            return Ok(());
        }
        let changes = |table: &plan::ir::TableUse| {
            table.lock != TableLock::AccessShare && table.table.persistence != Persistence::Temporary
        };
        if !resolved.plan.tables.iter().any(changes) {
            return Ok(());
        }
        let what = match locking(&resolved.plan.root) {
            Some(strength) if resolved.kind == CommandKind::Select => strength,
            _ => resolved.kind.noun(),
        };
        Err(Error::new(
            SqlState::READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {what} in a read-only transaction"),
        ))
    }

    /// Takes the snapshot and opens the executor over a plan whose tables are locked.
    pub(crate) fn open_plan(
        &mut self,
        scope: &Arc<Scope>,
        resolved: &Arc<Resolved>,
        parameters: Arc<[Datum]>,
        instrument: bool,
    ) -> Result<PortalState> {
        let context = self.context(scope, parameters, resolved.drives, instrument)?;
        if resolved.drives {
            let driver = execute::Driver::open(&resolved.plan, context)?;
            return Ok(PortalState::Driving {
                driver: Box::new(driver),
                kind: resolved.kind,
                returns_rows: resolved.returns_rows,
                long: resolved.long,
            });
        }
        if !instrument && let Some(executor) = self.vectorised_for(scope, resolved) {
            let types = resolved.plan.output.iter().map(|column| column.ty).collect();
            let tally = context.tally.clone();
            let batches = executor.run(resolved.plan.clone(), context)?;
            return Ok(PortalState::Streaming { batches, kind: resolved.kind, rest: None, types, tally });
        }
        let cursor = execute::open(&resolved.plan, context)?;
        Ok(PortalState::Reading { cursor, kind: resolved.kind, long: resolved.long })
    }

    /// The vectorised executor, if a plan that only reads is to run there: by its cost, unless `startdb.executor` says otherwise.
    pub(crate) fn vectorised_for(
        &self,
        scope: &Scope,
        resolved: &Resolved,
    ) -> Option<&Arc<dyn execute::Vectorised>> {
        let wanted = match scope.settings.executor {
            Executor::Auto => resolved.plan.root.total_cost > LONG,
            Executor::Row => false,
            Executor::Vector => true,
        };
        let executor = self.database.vectorised.get().filter(|_| wanted && !resolved.drives)?;
        resolved.accepted_by(&**executor).then_some(executor)
    }

    /// An executor's context over a new statement snapshot.
    pub(crate) fn context(
        &mut self,
        scope: &Arc<Scope>,
        parameters: Arc<[Datum]>,
        writes: bool,
        instrument: bool,
    ) -> Result<execute::Context> {
        let work = scope.settings.work_mem as u64;
        let limit = self.database.options.memory_limit;
        let lock_timeout = scope.settings.lock_timeout;
        let block = self.transaction()?;
        let constraints = block.constraints.clone();
        let snapshot = block.tx()?.statement_snapshot(writes)?;
        let memory = execute::MemoryAccount::new(limit, work);
        *self.shared.memory.lock() = Arc::downgrade(&memory);
        Ok(execute::Context {
            snapshot,
            env: scope.clone(),
            params: parameters,
            cancel: self.shared.cancel.clone(),
            memory,
            system: scope.clone(),
            constraints,
            lock_timeout: (lock_timeout > 0).then(|| {
                let timer: execute::LockTimer =
                    Arc::new(move || Box::pin(tokio::time::sleep(Duration::from_millis(lock_timeout))));
                timer
            }),
            instrument,
            tally: Arc::default(),
        })
    }

    pub(crate) async fn lock_plan(&mut self, resolved: &Resolved) -> Result<()> {
        let shared = self.shared.clone();
        let tx = self.transaction()?.tx()?;
        for usage in &resolved.plan.tables {
            let mode = match usage.lock {
                TableLock::AccessShare => TableLockMode::AccessShare,
                TableLock::RowShare => TableLockMode::RowShare,
                TableLock::RowExclusive => TableLockMode::RowExclusive,
            };
            let locked =
                Session::interruptible(&shared, tx.lock_table(usage.table.oid, mode, Wait::Block)).await?;
            debug_assert!(locked);
        }
        Ok(())
    }

    /// Begins the bookkeeping of a statement.
    fn begin_statement(&mut self, text: &Arc<str>) -> Result<()> {
        if self.shared.terminate.load(Ordering::Acquire) {
            return Err(CancelReason::Terminate.error());
        }
        self.shared.cancel.reset();
        let now = datetime::now();
        self.statement_time = now;
        let effective = self.effective();
        self.shared.state.set_deadlock_timeout(effective.deadlock_timeout as u32);
        self.idle_since = None;
        {
            let mut activity = self.shared.activity.lock();
            activity.state = "active";
            activity.query = text.clone();
            activity.query_start = Some(now);
            activity.state_change = now;
        }
        self.stop_timer();
        let statement = match effective.statement_timeout {
            0 => None,
            ms => Some((Duration::from_millis(ms), CancelReason::StatementTimeout)),
        };
        let transaction = self.transaction_left().map(|left| (left, CancelReason::TransactionTimeout));
        if let Some((after, reason)) =
            statement.into_iter().chain(transaction).min_by_key(|(after, _)| *after)
        {
            let cancel = self.shared.cancel.clone();
            let task = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                cancel.cancel(reason);
            });
            self.timer = Some(task.abort_handle());
        }
        self.database.counters.statements.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How long the transaction may still last by `transaction_timeout`; all of it when none has begun.
    fn transaction_left(&self) -> Option<Duration> {
        match self.effective().transaction_timeout {
            0 => None,
            ms => {
                let spent = self.block.as_ref().map_or(Duration::ZERO, |block| block.begun.elapsed());
                Some(Duration::from_millis(ms).saturating_sub(spent))
            }
        }
    }

    fn stop_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }

    /// Waits until everything is durable that the end of a transaction tells of: also a rollback or an error may depend on
    /// what others have committed just now.
    async fn settle(&mut self) -> Result<()> {
        let ended = self.block.as_ref().is_none_or(|block| block.failed);
        if ended && self.effective().synchronous_commit {
            self.shared.state.settled().await?;
        }
        Ok(())
    }

    /// The client is to speak next.
    fn rest(&mut self) {
        self.stop_timer();
        let state = match &self.block {
            None => "idle",
            Some(block) if block.failed => "idle in transaction (aborted)",
            Some(_) => "idle in transaction",
        };
        self.idle_since = Some(Instant::now());
        self.current = None;
        self.trace.end();
        self.shared.set_state(state);
    }

    /// Starts a portal at its first fetch.
    async fn start(&mut self, portal: &mut Portal) -> Result<()> {
        let prepared = portal.prepared.clone();
        let Some(parsed) = &prepared.parsed else {
            portal.state = PortalState::Done;
            return Ok(());
        };
        self.begin_portal(portal, parsed)?;
        match &*parsed.statement {
            Statement::Query(query) => self.start_query(portal, query).await,
            _ => {
                portal.span = self.trace.execute();
                let mut long = utility::takes_long(&parsed.statement);
                let work = Box::pin(self.run_utility(parsed, &prepared, portal.parameters.clone()));
                let outcome = considerate(work, &mut long).await?;
                self.carry_out_pending()?;
                self.set_outcome(portal, outcome);
                Ok(())
            }
        }
    }

    fn begin_portal(&mut self, portal: &mut Portal, parsed: &Parsed) -> Result<()> {
        let text = portal.text.as_ref().unwrap_or(&parsed.text).clone();
        if !self.in_simple {
            self.trace.resume(&self.shared, &text, portal.prepared.traceparent.as_ref());
        }
        self.trace.running();
        self.begin_statement(&text)?;
        if self.effective().log_statement != LogStatement::None {
            let class = utility::log_class(&parsed.statement);
            statement_log::begun(&self.shared, &text, class, self.trace.id());
        }
        if *PANICS_ARE_PLANTED && text.contains("statement_panic") {
            panic!("planted");
        }
        let now = Instant::now();
        portal.started = Some(now);
        match &self.current {
            Some((current, _)) if *current == text => {}
            _ => self.current = Some((text, now)),
        }
        self.check_not_failed(&parsed.statement)?;
        self.batch_statements += 1;
        Ok(())
    }

    fn set_outcome(&mut self, portal: &mut Portal, outcome: Outcome) {
        portal.state = match outcome {
            Outcome::Tag(tag) => PortalState::Buffered { rows: VecDeque::new(), tag, counted: false },
            Outcome::Rows { rows, tag } => PortalState::Buffered { rows: rows.into(), tag, counted: false },
            Outcome::Counted { rows, tag } => PortalState::Buffered { rows, tag, counted: true },
            Outcome::State(state) => state,
            Outcome::CopyIn(copy) => {
                self.copy = Some(copy);
                PortalState::CopyIn
            }
            Outcome::CopyOut(copy) => PortalState::CopyOut(copy),
        };
    }

    /// 25P02 for anything but the end of a failed block.
    fn check_not_failed(&self, statement: &Statement) -> Result<()> {
        let ends = matches!(
            statement,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
        );
        if self.block.as_ref().is_some_and(|b| b.failed) && !ends {
            return Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// Gives other sessions a turn when this one has had the thread for long.
    async fn take_turns(&mut self) {
        if !std::mem::take(&mut self.rested) {
            if self.last_yield.elapsed() <= SLICE {
                return;
            }
            tokio::task::yield_now().await;
        }
        self.last_yield = Instant::now();
    }

    /// Pulls the next chunk of a portal.
    async fn pull(&mut self, portal: &mut Portal, max_rows: usize) -> Result<Fetched> {
        if matches!(portal.state, PortalState::New) {
            self.start(portal).await?;
            if portal.prepared.parsed.is_none() {
                return Ok(Fetched::Empty);
            }
            match (&portal.state, &self.copy) {
                (PortalState::CopyIn, Some(copy)) => return Ok(Fetched::CopyIn(copy.shape())),
                (PortalState::CopyOut(copy), _) => return Ok(Fetched::CopyOut(copy.shape())),
                _ => {}
            }
        }
        if max_rows > 0 && portal.given >= max_rows {
            portal.given = 0;
            return Ok(Fetched::Suspended);
        }
        let room = if max_rows > 0 { (max_rows - portal.given).min(CHUNK) } else { CHUNK };
        self.shared.cancel.check()?;
        self.take_turns().await;
        let span = portal.span.clone();
        if let Some(mut rows) = self.rows_of(&mut portal.state, room).instrument(span).await? {
            self.name_objects(portal.columns.as_deref(), &mut rows)?;
            portal.given += rows.count;
            portal.rows += rows.count as u64;
            return Ok(Fetched::Chunk(Chunk::Rows(rows)));
        }
        let tag = match &mut portal.state {
            PortalState::Reading { cursor, kind, .. } => {
                portal.counters = cursor.counters().clone();
                kind.tag(portal.given as u64)
            }
            PortalState::Streaming { kind, tally, .. } => {
                portal.counters = tally.counters();
                kind.tag(portal.given as u64)
            }
            PortalState::Driving { driver, kind, .. } => {
                portal.counters = driver.counters().clone();
                let block = self.transaction()?;
                block.put_off(driver.take_deferred());
                let affected = driver.affected();
                let kind = *kind;
                self.wrote(kind, affected);
                kind.tag(if kind == CommandKind::Select { portal.given as u64 } else { affected })
            }
            PortalState::Buffered { tag, counted, .. } => {
                if *counted {
                    format!("{tag} {}", portal.given)
                } else {
                    tag.clone()
                }
            }
            PortalState::CopyOut(copy) => {
                return match copy.next(self).await? {
                    Some(bytes) => Ok(Fetched::CopyData(bytes)),
                    None => {
                        let tag = format!("COPY {}", copy.rows());
                        portal.state = PortalState::Done;
                        self.finish(portal, tag).await
                    }
                };
            }
            PortalState::CopyIn => {
                return Err(Error::new(SqlState::PROTOCOL_VIOLATION, "COPY data is awaited"));
            }
            PortalState::New | PortalState::Done => match &portal.prepared.parsed {
                None => return Ok(Fetched::Empty),
                Some(_) => {
                    return Err(Error::new(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "portal cannot be run anymore",
                    ));
                }
            },
        };
        portal.state = PortalState::Done;
        self.finish(portal, tag).await
    }

    /// The next rows of a started portal, `None` when there are no more.
    pub(crate) async fn rows_of(&mut self, state: &mut PortalState, room: usize) -> Result<Option<Rows>> {
        match state {
            PortalState::Reading { cursor, long, .. } => {
                let mut out = execute::Rows::default();
                let more = considerate(async { cursor.next(room, &mut out) }, long).await?;
                if out.count == 0 && !more {
                    return Ok(None);
                }
                Ok(Some(Rows { columns: out.columns, count: out.count, values: out.values }))
            }
            PortalState::Streaming { batches, rest, types, .. } => {
                let (batch, first) = match rest.take() {
                    Some(left) => left,
                    None => loop {
                        match batches.next().await.transpose()? {
                            None => return Ok(None),
                            Some(batch) if batch.num_rows() == 0 => {}
                            Some(batch) => break (batch, 0),
                        }
                    },
                };
                let end = batch.num_rows().min(first + room);
                let rows = rows_between(&batch, types, first, end)?;
                if end < batch.num_rows() {
                    *rest = Some((batch, end));
                }
                Ok(Some(rows))
            }
            PortalState::Driving { driver, returns_rows, long, .. } => {
                let mut out = execute::Rows::default();
                let more = {
                    let tx = match self.block.as_mut() {
                        Some(block) => block.tx()?,
                        None => return Err(Error::internal("a statement lost its transaction")),
                    };
                    considerate(driver.next(tx, room, &mut out), long).await?
                };
                if !*returns_rows || (out.count == 0 && !more) {
                    return Ok(None);
                }
                Ok(Some(Rows { columns: out.columns, count: out.count, values: out.values }))
            }
            PortalState::Buffered { rows, .. } => {
                if rows.is_empty() {
                    return Ok(None);
                }
                let mut out = Rows::default();
                while out.count < room {
                    let Some(row) = rows.pop_front() else { break };
                    out.columns = row.len();
                    out.count += 1;
                    out.values.extend(row);
                }
                Ok(Some(out))
            }
            _ => Ok(None),
        }
    }

    /// Values of the reg types leave as names where text was asked for.
    fn name_objects(&mut self, columns: Option<&[Column]>, rows: &mut Rows) -> Result<()> {
        let Some(columns) = columns else { return Ok(()) };
        let is_name = |column: &Column| {
            column.format == Format::Text
                && matches!(
                    value::types::element_of(column.type_oid).max(
                        if value::types::element_of(column.type_oid) == 0 { column.type_oid } else { 0 }
                    ),
                    type_oid::REGCLASS
                        | type_oid::REGTYPE
                        | type_oid::REGNAMESPACE
                        | type_oid::REGROLE
                        | type_oid::REGPROC
                        | type_oid::REGPROCEDURE
                        | type_oid::REGOPER
                        | type_oid::REGOPERATOR
                        | type_oid::REGCOLLATION
                )
        };
        if rows.columns != columns.len() || !columns.iter().any(is_name) {
            return Ok(());
        }
        let scope = self.scope()?;
        for (n, column) in columns.iter().enumerate().filter(|(_, c)| is_name(c)) {
            for row in 0..rows.count {
                let place = &mut rows.values[row * rows.columns + n];
                match place {
                    Datum::Oid(oid) => {
                        *place = Datum::text(crate::system::reg_output(&scope, column.type_oid, *oid))
                    }
                    Datum::Array(array) => {
                        let element = value::types::element_of(column.type_oid);
                        let mut named = (**array).clone();
                        for value in &mut named.values {
                            if let Datum::Oid(oid) = value {
                                *value = Datum::text(crate::system::reg_output(&scope, element, *oid));
                            }
                        }
                        *place = Datum::Array(Arc::new(named));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A statement is done: side effects its functions asked for, commit if it is the last of an implicit
    /// transaction, the log.
    async fn finish(&mut self, portal: &mut Portal, tag: String) -> Result<Fetched> {
        portal.span = Span::none();
        self.trace.returned(portal.rows);
        self.carry_out_pending()?;
        if self.in_simple && self.simple.is_empty() {
            self.commit_implicit().await?;
        }
        self.log(portal, false);
        self.logged_in_time(portal.rows);
        portal.given = 0;
        Ok(Fetched::Complete(tag))
    }

    /// The statement is done, for the log of those that take long.
    fn logged_in_time(&mut self, rows: u64) {
        if let Some((text, begun)) = self.current.take() {
            statement_log::finished(&self.shared, &text, begun.elapsed(), rows, self.trace.id());
        }
    }

    /// Counts rows that a statement wrote.
    fn wrote(&self, kind: CommandKind, rows: u64) {
        self.database.counters.rows_written.fetch_add(rows, Ordering::Relaxed);
        let counts = &self.shared.counts;
        let count = match kind {
            CommandKind::Insert => &counts.inserted,
            CommandKind::Update => &counts.updated,
            CommandKind::Delete => &counts.deleted,
            CommandKind::Select => return,
        };
        count.fetch_add(rows, Ordering::Relaxed);
    }

    fn log(&self, portal: &Portal, failed: bool) {
        let Some(started) = portal.started else { return };
        self.database.counters.rows_returned.fetch_add(portal.rows, Ordering::Relaxed);
        let counts = &self.shared.counts;
        counts.returned.fetch_add(portal.counters.rows_scanned.max(portal.rows), Ordering::Relaxed);
        if !portal.counters.indexes.is_empty() {
            counts.fetched.fetch_add(portal.counters.rows_scanned, Ordering::Relaxed);
        }
        if !self.database.log.enabled() {
            return;
        }
        let Some(parsed) = &portal.prepared.parsed else { return };
        if !matches!(*parsed.statement, Statement::Query(_)) {
            return;
        }
        let Some(sample) = portal.text() else { return };
        let resolved = portal.prepared.resolved.lock().clone();
        let made;
        let (fingerprint, text) = match &resolved {
            Some(resolved) => resolved.fingerprint(self.shared.database, sample),
            None => {
                made = query_log::fingerprint(self.shared.database, sample);
                &made
            }
        };
        let mut indexes = [0; 4];
        for (place, index) in indexes.iter_mut().zip(&portal.counters.indexes) {
            *place = *index;
        }
        let record = session::query_log::Record {
            fingerprint: *fingerprint,
            database: self.shared.database,
            start: self.statement_time,
            execution_ns: started.elapsed().saturating_sub(portal.planning).as_nanos() as u64,
            planning_ns: portal.planning.as_nanos() as u64,
            rows_scanned: portal.counters.rows_scanned,
            rows_returned: portal.rows,
            indexes,
            cache_hit: portal.cache_hit,
            failed,
        };
        self.database.log.finished(record, text, sample);
    }

    async fn fetch_portal(&mut self, name: &str, max_rows: usize) -> Result<Fetched> {
        let Some(mut portal) = self.portals.remove(name) else {
            return Err(Error::new(
                SqlState::INVALID_CURSOR_NAME,
                format!("portal \"{name}\" does not exist"),
            ));
        };
        if portal.cursor.is_some() {
            // A cursor of DECLARE run through the protocol.
            let result = cursor::fetch_as_portal(self, &mut portal, max_rows).await;
            self.portals.insert(name.to_string(), portal);
            return result;
        }
        let result = self.pull(&mut portal, max_rows).await;
        match result {
            Ok(fetched) => {
                let ended = matches!(fetched, Fetched::Complete(_)) && self.block.is_none();
                if !(ended && name.is_empty()) {
                    self.portals.insert(name.to_string(), portal);
                }
                Ok(fetched)
            }
            Err(error) => {
                self.log(&portal, true);
                if portal.text.is_some() {
                    // It would count in the template's text. PostgreSQL gives none while rows are computed.
                    return Err(error.set_position(None));
                }
                let shift = portal.prepared.parsed.as_ref().map_or(0, |p| p.shift);
                Err(error_shifted(error, shift))
            }
        }
    }

    /// Prepares a statement's text: parses it, and for queries resolves it to know parameters and columns.
    pub(crate) fn prepare(
        &mut self,
        name: &str,
        parsed: Option<Parsed>,
        declared: &[Oid],
    ) -> Result<Prepared> {
        let mut prepared = Prepared {
            name: name.to_string(),
            parsed,
            declared: declared.to_vec(),
            types: Arc::from([]),
            columns: None,
            resolved: parking_lot::Mutex::new(None),
            traceparent: self.trace.traceparent(),
        };
        let Some(parsed) = prepared.parsed.clone() else { return Ok(prepared) };
        match &*parsed.statement {
            Statement::Query(query) => {
                let (_, resolved, _) =
                    self.resolve_query(&parsed, query, declared, true, Some(&prepared.resolved))?;
                prepared.types = resolved.types.clone();
                prepared.columns = columns_of(&resolved);
            }
            statement => {
                prepared.columns = self.utility_columns(statement)?.map(Arc::from);
            }
        }
        Ok(prepared)
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| {
            Error::new(
                SqlState::INVALID_SQL_STATEMENT_NAME,
                if name.is_empty() {
                    "unnamed prepared statement does not exist".to_string()
                } else {
                    format!("prepared statement \"{name}\" does not exist")
                },
            )
        })
    }

    pub(crate) fn remember_statement(&mut self, prepared: Prepared, from_sql: bool) -> Result<()> {
        let name = prepared.name.clone();
        if !name.is_empty() {
            if self.statements.contains_key(&name) {
                return Err(Error::new(
                    SqlState::DUPLICATE_PREPARED_STATEMENT,
                    format!("prepared statement \"{name}\" already exists"),
                ));
            }
            self.shared.prepared.lock().push(PreparedInfo {
                name: name.clone(),
                text: prepared.parsed.as_ref().map_or_else(|| Arc::from(""), |p| p.text.clone()),
                prepared_at: datetime::now(),
                types: prepared.types.to_vec(),
                from_sql,
            });
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    pub(crate) fn forget_statement(&mut self, name: &str) -> bool {
        self.shared.prepared.lock().retain(|p| p.name != name);
        self.statements.remove(name).is_some()
    }

    fn decode_parameters(&mut self, prepared: &Prepared, parameters: Vec<Parameter>) -> Result<Arc<[Datum]>> {
        if parameters.len() != prepared.types.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    parameters.len(),
                    prepared.name,
                    prepared.types.len()
                ),
            ));
        }
        let style = self.shared.settings.lock().effective().style.clone();
        parameters
            .into_iter()
            .zip(prepared.types.iter())
            .enumerate()
            .map(|(n, (parameter, ty))| {
                let Some(bytes) = parameter.bytes else { return Ok(Datum::Null) };
                let datum = match parameter.format {
                    Format::Binary => value::binary::receive(Type::new(*ty), &bytes),
                    Format::Text => match std::str::from_utf8(&bytes) {
                        Ok(text) if text.contains('\0') => Err(Error::new(
                            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                            "invalid byte sequence for encoding \"UTF8\": 0x00",
                        )),
                        Ok(text) => self.input(Type::new(*ty), text, &style),
                        Err(error) => {
                            let bad = bytes.get(error.valid_up_to()).copied().unwrap_or(0);
                            Err(Error::new(
                                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                                format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"),
                            ))
                        }
                    },
                };
                datum.map_err(|error| {
                    if error.fields().context.is_none() {
                        error.context(format!("unnamed portal parameter ${}", n + 1))
                    } else {
                        error
                    }
                })
            })
            .collect::<Result<Vec<_>>>()
            .map(Arc::from)
    }

    /// A value from text; names of objects are looked up for the reg types.
    fn input(&mut self, ty: Type, text: &str, style: &Style) -> Result<Datum> {
        match ty.oid {
            type_oid::REGCLASS
            | type_oid::REGTYPE
            | type_oid::REGNAMESPACE
            | type_oid::REGROLE
            | type_oid::REGPROC
            | type_oid::REGPROCEDURE
                if text.parse::<u32>().is_err() =>
            {
                let scope = self.scope_over(self.database.engine.catalog(), self.statement_time)?;
                crate::system::reg_input(&scope, ty.oid, text)
            }
            _ => value::text::input(ty, text, style),
        }
    }

    /// After an error: what the statement had begun is undone as its block demands.
    fn failed(&mut self, error: &Error) {
        self.trace.failed(error);
        if let Some((text, begun)) = self.current.take() {
            statement_log::failed(&self.shared, &text, Some(begun.elapsed()), error, self.trace.id());
        }
        if error.state() == SqlState::DEADLOCK_DETECTED {
            self.shared.counts.deadlocks.fetch_add(1, Ordering::Relaxed);
        }
        self.copy = None;
        self.stop_timer();
        self.shared.pending.lock().clear();
        let dead = error.fields().fatal;
        self.fail_block(dead);
        if !self.in_simple {
            self.batch_failed = true;
        }
    }

    pub(crate) fn fragment(&self, fragment: &Fragment) -> Result<Parsed> {
        let mut parsed = grammar::parse_one(&fragment.text).map_err(|e| error_shifted(e, fragment.offset))?;
        parsed.shift += fragment.offset;
        Ok(parsed)
    }

    /// Ends a portal that wrote: deferred checks go to the transaction; gives the number of rows it changed.
    pub(crate) fn finish_driver(&mut self, portal: &mut Portal) -> Result<u64> {
        let PortalState::Driving { driver, kind, .. } = &mut portal.state else { return Ok(0) };
        let kind = *kind;
        let (checks, affected) = (driver.take_deferred(), driver.affected());
        self.transaction()?.put_off(checks);
        self.wrote(kind, affected);
        Ok(affected)
    }

    /// Resets what a pooled connection expects to be gone: DISCARD ALL.
    pub(crate) fn discard_all(&mut self) {
        self.portals.clear();
        self.shared.cursors.lock().clear();
        self.statements.clear();
        self.shared.prepared.lock().clear();
        let mut roles = self.shared.roles.lock();
        *roles = Roles { session: self.shared.login_role, current: self.shared.login_role };
        drop(roles);
        self.shared.settings.lock().reset_all();
        self.shared.listening.lock().clear();
        self.shared.state.unlock_all_advisory();
        *self.shared.sequences.lock() = Default::default();
    }

    pub(crate) fn effective(&self) -> Arc<setting::Effective> {
        self.shared.settings.lock().effective().clone()
    }

    pub(crate) fn modes(&self, modes: Modes) -> (Isolation, bool, bool) {
        let effective = self.effective();
        (
            modes.isolation.unwrap_or(effective.isolation),
            modes.read_only.unwrap_or(effective.read_only),
            modes.deferrable.unwrap_or(effective.deferrable),
        )
    }
}

/// Awaits what computes between its waits. From the first time that takes long (`long`), or from the start, it does not starve
/// the other sessions of this thread.
async fn considerate<T>(work: impl Future<Output = T>, long: &mut bool) -> T {
    let mut work = pin!(work);
    poll_fn(move |task| {
        if *long {
            return blocking(|| work.as_mut().poll(task));
        }
        let begun = Instant::now();
        let polled = work.as_mut().poll(task);
        *long = begun.elapsed() > SLICE;
        polled
    })
    .await
}

/// For [`engine::Options::aside`], where sessions share the threads of a tokio runtime.
pub fn aside(work: &mut dyn FnMut()) {
    blocking(work);
}

/// Runs long synchronous work without starving the other sessions of this thread.
pub(crate) fn blocking<R>(work: impl FnOnce() -> R) -> R {
    let multi = tokio::runtime::Handle::try_current()
        .is_ok_and(|h| h.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if multi { tokio::task::block_in_place(work) } else { work() }
}

impl Session {
    /// Runs a statement whose answer nobody reads.
    pub async fn run(&mut self, text: &str) -> Result<()> {
        use session::Session as _;
        self.simple_start(text).await?;
        let ran = async {
            self.simple_next().await?;
            while !matches!(self.fetch("", 0).await?, Fetched::Complete(_)) {}
            Ok(())
        }
        .await;
        let ended = self.simple_end().await;
        ran.and(ended)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_timer();
        self.portals.clear();
        if let Some(block) = self.block.take()
            && let Some(tx) = block.tx
        {
            tx.rollback();
        }
        self.shared.state.unlock_all_advisory();
        self.database.temporary_schemas.lock().remove(&self.shared.pid);
        self.database.sessions.remove(&self.shared.pid);
        if statement_log::wanted(&self.shared, "log_disconnections") {
            statement_log::disconnected(&self.shared);
        }
    }
}

#[async_trait]
impl session::Session for Session {
    fn process_id(&self) -> i32 {
        self.shared.pid
    }

    fn cancel_secret(&self) -> &[u8] {
        self.shared.secret()
    }

    fn reported_parameters(&self) -> Vec<(&'static str, String)> {
        self.shared.settings.lock().reported()
    }

    fn changed_parameters(&mut self) -> Vec<(&'static str, String)> {
        let settings = self.shared.settings.lock();
        if settings.generation() == self.reported_generation {
            return Vec::new();
        }
        self.reported_generation = settings.generation();
        let now = settings.reported();
        drop(settings);
        let changed = if self.reported.is_empty() {
            Vec::new()
        } else {
            now.iter().filter(|pair| !self.reported.contains(pair)).cloned().collect()
        };
        self.reported = now;
        changed
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut *self.shared.notices.lock())
    }

    fn transaction_status(&self) -> TransactionStatus {
        match &self.block {
            Some(block) if block.explicit && block.failed => TransactionStatus::Failed,
            Some(block) if block.explicit => TransactionStatus::InTransaction,
            _ => TransactionStatus::Idle,
        }
    }

    fn style(&self) -> Arc<Style> {
        self.shared.settings.lock().effective().style.clone()
    }

    fn failed(&mut self, error: &Error) {
        Session::failed(self, error);
    }

    /// Ends the session when another one, or a timeout, says so. What it holds is let go with it.
    async fn idle(&mut self) -> Result<()> {
        let effective = self.effective();
        // None in the midst of a batch: the client has more to say.
        let since = self.idle_since;
        let left = |ms: u64| {
            let since = since.filter(|_| ms > 0)?;
            Some(Duration::from_millis(ms).saturating_sub(since.elapsed()))
        };
        let idle = if self.block.is_some() {
            left(effective.idle_in_transaction_timeout).map(|left| {
                let message = "terminating connection due to idle-in-transaction timeout";
                (left, Error::new(SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, message))
            })
        } else {
            left(effective.idle_timeout).map(|left| {
                let message = "terminating connection due to idle-session timeout";
                (left, Error::new(SqlState::IDLE_SESSION_TIMEOUT, message))
            })
        };
        let transaction = match self.block {
            Some(_) => self.transaction_left().map(|left| (left, CancelReason::TransactionTimeout.error())),
            None => None,
        };
        let first = idle.into_iter().chain(transaction).min_by_key(|(left, _)| *left);
        let timeout = async {
            match first {
                Some((left, error)) => {
                    tokio::time::sleep(left).await;
                    error.fatal()
                }
                None => std::future::pending().await,
            }
        };
        self.rested = true;
        // What cancelled the last statement is over.
        self.shared.cancel.reset();
        tokio::select! {
            biased;
            reason = self.shared.cancel.cancelled() => Err(reason.error()),
            error = timeout => Err(error),
        }
    }

    async fn simple_start(&mut self, text: &str) -> Result<usize> {
        if self.reported.is_empty() {
            self.changed_parameters();
        }
        self.in_simple = true;
        self.batch_statements = 0;
        // A simple query drops the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        self.trace.begin(&self.shared, text);
        let span = self.trace.parse();
        if let Some(lifted) = literal::lift(text) {
            drop(span);
            self.simple = VecDeque::from([Next::Lifted(lifted, Arc::from(text))]);
            return Ok(1);
        }
        let parsed = self.parse_text(text);
        drop(span);
        match parsed {
            Ok(parsed) => {
                self.simple = parsed.iter().cloned().map(Next::Parsed).collect();
                Ok(self.simple.len())
            }
            Err(error) => {
                self.current = Some((Arc::from(text), Instant::now()));
                self.failed(&error);
                Err(error)
            }
        }
    }

    async fn simple_next(&mut self) -> Result<Option<Arc<[Column]>>> {
        let (shift, result) = match self.simple.pop_front() {
            Some(Next::Parsed(parsed)) => (parsed.shift, self.simple_begin(parsed).await),
            Some(Next::Lifted(lifted, text)) => (0, self.simple_begin_lifted(&lifted, &text).await),
            None => return Err(Error::internal("no statement is left in the string")),
        };
        result.map_err(|error| {
            self.failed(&error);
            self.simple.clear();
            error_shifted(error, shift)
        })
    }

    async fn simple_end(&mut self) -> Result<()> {
        self.simple.clear();
        self.portals.remove("");
        let result = self.commit_implicit().await;
        self.in_simple = false;
        if let Err(error) = &result {
            self.failed(error);
        }
        let settled = self.settle().await;
        self.rest();
        result.and(settled)
    }

    async fn parse(&mut self, name: &str, text: &str, types: &[Oid]) -> Result<()> {
        if self.reported.is_empty() {
            self.changed_parameters();
        }
        self.trace.begin(&self.shared, text);
        let begun = Instant::now();
        let result = (|| {
            let span = self.trace.parse();
            let parsed = self.parse_text(text)?;
            drop(span);
            if parsed.len() > 1 {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
            if name.is_empty() {
                self.statements.remove("");
            }
            let parsed = parsed.first().cloned();
            let shift = parsed.as_ref().map_or(0, |p| p.shift);
            if let Some(parsed) = &parsed {
                self.statement_time = datetime::now();
                self.check_not_failed(&parsed.statement)?;
            }
            let prepared = self.prepare(name, parsed, types).map_err(|e| error_shifted(e, shift))?;
            self.remember_statement(prepared, false)
        })();
        if let Err(error) = &result {
            self.current = Some((Arc::from(text), begun));
            self.failed(error);
        }
        result
    }

    async fn describe_statement(&mut self, name: &str) -> Result<StatementDescription> {
        let prepared = self.statement(name).inspect_err(|e| self.failed_ref(e))?;
        Ok(StatementDescription { parameters: prepared.types.clone(), columns: prepared.columns.clone() })
    }

    async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<Parameter>,
        result_formats: &[Format],
    ) -> Result<()> {
        let result = (|| {
            let prepared = self.statement(statement)?;
            if let Some(parsed) = &prepared.parsed {
                self.current = Some((parsed.text.clone(), Instant::now()));
                self.check_not_failed(&parsed.statement)?;
            }
            if !portal.is_empty() && self.portals.contains_key(portal) {
                return Err(Error::new(
                    SqlState::DUPLICATE_CURSOR,
                    format!("cursor \"{portal}\" already exists"),
                ));
            }
            let values = self.decode_parameters(&prepared, parameters)?;
            let columns = match &prepared.columns {
                Some(columns) => Some(with_formats(columns, result_formats)?),
                None => None,
            };
            self.portals.insert(portal.to_string(), Portal::new(prepared, values, columns));
            Ok(())
        })();
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    async fn describe_portal(&mut self, portal: &str) -> Result<Option<Arc<[Column]>>> {
        match self.portals.get(portal) {
            Some(portal) => Ok(portal.columns.clone()),
            None => {
                let error =
                    Error::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{portal}\" does not exist"));
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn close_statement(&mut self, name: &str) {
        self.forget_statement(name);
    }

    fn close_portal(&mut self, portal: &str) {
        self.portals.remove(portal);
        self.shared.cursors.lock().retain(|c| c.name != portal);
    }

    async fn fetch(&mut self, portal: &str, max_rows: usize) -> Result<Fetched> {
        let result = self.fetch_portal(portal, max_rows).await;
        if let Err(error) = &result {
            self.failed(error);
            self.simple.clear();
        }
        result
    }

    async fn sync(&mut self) -> Result<()> {
        self.batch_failed = false;
        self.batch_statements = 0;
        let result = self.commit_implicit().await;
        if let Err(error) = &result {
            self.failed(error);
            self.batch_failed = false;
        }
        let settled = self.settle().await;
        self.rest();
        result.and(settled)
    }

    async fn copy_data(&mut self, data: Bytes) -> Result<()> {
        let Some(mut copy) = self.copy.take() else {
            return Err(Error::new(SqlState::PROTOCOL_VIOLATION, "no COPY is running"));
        };
        self.take_turns().await;
        match copy.data(self, data).await {
            Ok(()) => {
                self.copy = Some(copy);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                self.simple.clear();
                Err(error)
            }
        }
    }

    async fn copy_done(&mut self) -> Result<String> {
        let Some(mut copy) = self.copy.take() else {
            return Err(Error::new(SqlState::PROTOCOL_VIOLATION, "no COPY is running"));
        };
        let result = async {
            let tag = considerate(copy.done(self), &mut false).await?;
            for portal in self.portals.values_mut() {
                if matches!(portal.state, PortalState::CopyIn) {
                    portal.state = PortalState::Done;
                }
            }
            if self.in_simple && self.simple.is_empty() {
                self.commit_implicit().await?;
            }
            Ok(tag)
        }
        .await;
        match &result {
            Ok(_) => self.logged_in_time(0),
            Err(error) => {
                self.failed(error);
                self.simple.clear();
            }
        }
        result
    }

    fn copy_fail(&mut self, reason: &str) -> Error {
        let error = Error::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {reason}"));
        let error = match self.copy.take() {
            Some(copy) => copy.at_next_line(error),
            None => error,
        };
        self.failed(&error);
        self.simple.clear();
        error
    }
}

impl Session {
    fn failed_ref(&mut self, error: &Error) {
        self.failed(error);
    }

    /// A query whose literals may stand in a template's places.
    async fn simple_begin_lifted(
        &mut self,
        lifted: &Lifted,
        text: &Arc<str>,
    ) -> Result<Option<Arc<[Column]>>> {
        self.statement_time = datetime::now();
        self.current = Some((text.clone(), Instant::now()));
        let span = self.trace.plan();
        let mut learn = None;
        if !self.block.as_ref().is_some_and(|block| block.failed) {
            let scope = self.scope()?;
            match self.open_template(&scope, lifted, text) {
                Ok(portal) => {
                    span.record("cache_hit", true);
                    drop(span);
                    return self.simple_open(portal).await;
                }
                Err(true) => learn = Some(scope),
                Err(false) => {}
            }
        }
        drop(span);
        let span = self.trace.parse();
        let parsed = self.parse_text(text);
        drop(span);
        let parsed = parsed?;
        let Some(parsed) = parsed.first() else { return Err(Error::internal("a query without words")) };
        let shift = parsed.shift;
        let columns = self.simple_begin(parsed.clone()).await.map_err(|error| error_shifted(error, shift))?;
        if let Some(scope) = learn {
            let exact = self.portals.get("").and_then(|portal| portal.prepared.resolved.lock().clone());
            if let Some(exact) = exact {
                self.learn_template(&scope, lifted, text, &exact);
            }
        }
        Ok(columns)
    }

    async fn simple_begin(&mut self, parsed: Parsed) -> Result<Option<Arc<[Column]>>> {
        self.statement_time = datetime::now();
        self.current.get_or_insert_with(|| (parsed.text.clone(), Instant::now()));
        self.trace.following(&self.shared, &parsed.text);
        self.check_not_failed(&parsed.statement)?;
        let mut prepared = Prepared {
            name: String::new(),
            parsed: None,
            declared: Vec::new(),
            types: Arc::from([]),
            columns: None,
            resolved: parking_lot::Mutex::new(None),
            traceparent: None,
        };
        prepared.parsed = Some(parsed.clone());
        let Statement::Query(_) = &*parsed.statement else {
            let columns: Option<Arc<[Column]>> = self.utility_columns(&parsed.statement)?.map(Arc::from);
            prepared.columns = columns.clone();
            let portal = Portal::new(Arc::new(prepared), Arc::from([]), columns.clone());
            self.portals.insert(String::new(), portal);
            return Ok(columns);
        };
        self.simple_open(Portal::new(Arc::new(prepared), Arc::from([]), None)).await
    }

    /// Starts a query of a simple string and gives its columns: what they are is known when its tables are locked.
    async fn simple_open(&mut self, mut portal: Portal) -> Result<Option<Arc<[Column]>>> {
        let prepared = portal.prepared.clone();
        let Some(parsed) = &prepared.parsed else { return Err(Error::internal("a query without text")) };
        let Statement::Query(query) = &*parsed.statement else {
            return Err(Error::internal("only queries are started before they are described"));
        };
        self.begin_portal(&mut portal, parsed)?;
        if let Err(error) = self.start_query(&mut portal, query).await {
            self.log(&portal, true);
            // In a template's text it would count wrong.
            return Err(if portal.text.is_some() { error.set_position(None) } else { error });
        }
        let resolved = prepared.resolved.lock().clone();
        portal.columns = resolved.as_deref().and_then(columns_of);
        let columns = portal.columns.clone();
        self.portals.insert(String::new(), portal);
        Ok(columns)
    }
}

/// The shape of a COPY.
pub(crate) fn copy_shape(binary: bool, columns: usize) -> CopyShape {
    CopyShape { format: if binary { Format::Binary } else { Format::Text }, columns }
}
