//! One opened database directory: its engine, sessions, caches and counters.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use base64::Engine as _;
use dashmap::DashMap;
use engine::catalog::{Acl, AclItem, Change, Object, Role, Schema, oid};
use engine::{Engine, Isolation};
use execute::CancelReason;
use parking_lot::{Mutex, RwLock};
use resolve::tree::OutputColumn;
use session::{Login, Peer, Startup};
use value::{Datum, Error, Oid, Result, SqlState, datetime};

use crate::plan_cache::{CacheStats, Resolved, TextCache};
use crate::query_log::QueryLog;
use crate::readings::DatabaseCounts;
use crate::session::Session;
use crate::shared::Shared;
use crate::statement::Parsed;
use crate::{predefined, scram, statement_log};

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the first superuser, made with a new directory.
    pub superuser: String,
    /// Its password in clear text, or a SCRAM verifier; `None`: it cannot log in by password.
    pub password: Option<String>,
    /// A database to make besides `postgres` and `template1`.
    pub database: Option<String>,
    /// Settings of the server's configuration, by name.
    pub settings: Vec<(String, String)>,
    pub max_connections: usize,
    /// Of these, how many are kept for superusers.
    pub reserved_connections: usize,
    /// Bytes all statements together may hold in their operators.
    pub memory_limit: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            superuser: "postgres".into(),
            password: None,
            database: None,
            settings: Vec::new(),
            max_connections: 100,
            reserved_connections: 3,
            memory_limit: 2 << 30,
        }
    }
}

/// Counters of all sessions since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub commits: AtomicU64,
    pub rollbacks: AtomicU64,
    pub statements: AtomicU64,
    pub rows_returned: AtomicU64,
    pub rows_written: AtomicU64,
    pub plan_cache_hits: AtomicU64,
    pub plan_cache_misses: AtomicU64,
}

/// A reading of what the database does, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DatabaseStats {
    pub sessions: u64,
    pub commits: u64,
    pub rollbacks: u64,
    pub statements: u64,
    pub plan_cache_hits: u64,
    pub plan_cache_misses: u64,
    pub plan_cache_entries: u64,
    pub plan_cache_evictions: u64,
    pub parse_cache: CacheStats,
    pub query_log_dropped: u64,
}

/// Computes the rows of a relation of the schema `startdb`.
pub type RowSource = Arc<dyn Fn() -> Result<Vec<Vec<Datum>>> + Send + Sync>;

/// A relation registered by another crate.
#[derive(Clone)]
pub struct SystemRelation {
    pub name: &'static str,
    pub oid: Oid,
    pub columns: Vec<OutputColumn>,
    pub rows: RowSource,
}

/// See the module.
pub struct Database {
    pub(crate) engine: Engine,
    pub(crate) options: Options,
    pub(crate) sessions: DashMap<i32, Arc<Shared>>,
    next_pid: AtomicI32,
    secret: [u8; 32],
    /// Plans by text and scope.
    pub(crate) plans: TextCache<Arc<Resolved>>,
    /// Plans with parameters in place of literals, by text without them and scope.
    pub(crate) templates: TextCache<crate::session::Template>,
    /// Parsed strings; no scope.
    pub(crate) parses: TextCache<Arc<[Parsed]>>,
    pub(crate) log: QueryLog,
    pub(crate) counters: Counters,
    /// Kept for the life of the process: a database's numbers do not fall when its last session leaves.
    pub(crate) counts: DashMap<Oid, Arc<DatabaseCounts>>,
    pub(crate) registered: RwLock<Vec<SystemRelation>>,
    /// Bumped by ANALYZE, so that cached plans are made anew.
    pub(crate) statistics_epoch: AtomicU64,
    /// Microseconds since 2000-01-01 UTC.
    pub(crate) started_at: i64,
    stopping: AtomicBool,
    me: Weak<Database>,
    /// Names of sessions' temporary schemas, by session.
    pub(crate) temporary_schemas: Mutex<std::collections::HashMap<i32, Oid>>,
    pub(crate) vectorised: OnceLock<Arc<dyn execute::Vectorised>>,
}

const SECRET: &str = "startdb.installation_secret";

impl Database {
    /// Serves an engine. A new directory gets its first databases, schemas and superuser.
    pub fn open(engine: Engine, options: Options) -> Result<Arc<Database>> {
        if engine.catalog().database_named("template1").is_none() {
            bootstrap(&engine, &options)?;
        }
        // Roles also for a directory that was made before one of them existed.
        let mut changes: Vec<Change> =
            predefined::missing(&engine.catalog()).into_iter().map(Change::Put).collect();
        for change in crate::command::drop::without_orphans(&engine.catalog()) {
            if let Change::Put(object) = &change {
                tracing::warn!(
                    table = object.name(),
                    "CREATE INDEX CONCURRENTLY was interrupted while it computed values; run it again"
                );
            }
            changes.push(change);
        }
        if !changes.is_empty() {
            let mut transaction = engine.begin(Isolation::ReadCommitted, false);
            transaction.change_catalog(changes)?;
            transaction.commit()?.durable.wait()?;
        }
        let catalog = engine.catalog();
        let secret = catalog
            .database_named("template1")
            .and_then(|d| d.settings.get(SECRET))
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| Error::new(SqlState::DATA_CORRUPTED, "the installation secret is missing"))?;
        Ok(Arc::new_cyclic(|me| Database {
            engine,
            options,
            sessions: DashMap::new(),
            next_pid: AtomicI32::new(1000),
            secret,
            plans: TextCache::new(),
            templates: TextCache::new(),
            parses: TextCache::new(),
            log: QueryLog::new(),
            counters: Counters::default(),
            counts: DashMap::new(),
            registered: RwLock::new(Vec::new()),
            statistics_epoch: AtomicU64::new(0),
            started_at: datetime::now(),
            stopping: AtomicBool::new(false),
            me: me.clone(),
            temporary_schemas: Mutex::default(),
            vectorised: OnceLock::new(),
        }))
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Gives the database an executor for large reads. The first one stays.
    pub fn set_vectorised(&self, executor: Arc<dyn execute::Vectorised>) {
        if self.vectorised.set(executor).is_err() {
            tracing::warn!("the database has its vectorised executor already");
        }
    }

    /// The log of finished statements.
    pub fn query_log(&self) -> &QueryLog {
        &self.log
    }

    pub fn stats(&self) -> DatabaseStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatabaseStats {
            sessions: self.sessions.len() as u64,
            commits: read(&self.counters.commits),
            rollbacks: read(&self.counters.rollbacks),
            statements: read(&self.counters.statements),
            plan_cache_hits: read(&self.counters.plan_cache_hits),
            plan_cache_misses: read(&self.counters.plan_cache_misses),
            plan_cache_entries: self.plans.stats().entries + self.templates.stats().entries,
            plan_cache_evictions: self.plans.stats().evictions + self.templates.stats().evictions,
            parse_cache: self.parses.stats(),
            query_log_dropped: self.log.dropped(),
        }
    }

    /// Bytes that running statements hold in their operators.
    pub fn memory_in_use(&self) -> u64 {
        self.sessions.iter().filter_map(|s| s.memory.lock().upgrade()).map(|account| account.used()).sum()
    }

    /// Adds a relation to the schema `startdb`; one of the same name is replaced. `oid` 0 chooses one.
    pub fn register_system_relation(&self, name: &'static str, columns: Vec<OutputColumn>, rows: RowSource) {
        let mut registered = self.registered.write();
        registered.retain(|r| r.name != name);
        let oid = 13_800 + registered.iter().map(|r| r.oid.saturating_sub(13_799)).max().unwrap_or(0);
        registered.push(SystemRelation { name, oid, columns, rows });
    }

    /// Goes on with indexes that the last stop interrupted, while their values were computed; not to be called after clients
    /// have come.
    pub fn resume_indexes(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        crate::command::create_index::resume(self)
    }

    /// A session inside the process, as superuser. It waits as long as it must.
    pub async fn internal_session(&self, database: &str) -> Result<Session> {
        let user =
            self.engine.catalog().role(oid::BOOTSTRAP_SUPERUSER).map(|r| r.name.clone()).unwrap_or_default();
        self.session(Startup {
            user,
            database: database.to_string(),
            peer: Peer::Internal,
            parameters: [
                ("application_name", "startdb"),
                ("statement_timeout", "0"),
                ("lock_timeout", "0"),
                ("transaction_timeout", "0"),
                ("default_transaction_read_only", "off"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        })
        .await
    }

    /// Ends every session: their statements are cancelled with 57P01.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for session in &self.sessions {
            session.cancel.cancel(CancelReason::Shutdown);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Cancels (or, with `terminate`, ends) the session of a process id; false when there is none.
    pub(crate) fn signal(&self, pid: i32, terminate: bool) -> bool {
        let Some(session) = self.sessions.get(&pid) else { return false };
        if terminate {
            session.terminate.store(true, Ordering::Release);
            session.cancel.cancel(CancelReason::Terminate);
        } else if session.is_active() {
            session.cancel.cancel(CancelReason::User);
        }
        true
    }

    async fn session(&self, startup: Startup) -> Result<Session> {
        let Some(me) = self.me.upgrade() else { return Err(Error::internal("the database is gone")) };
        if self.is_stopping() {
            return Err(
                Error::new(SqlState::CANNOT_CONNECT_NOW, "the database system is shutting down").fatal()
            );
        }
        let catalog = self.engine.catalog();
        let Some(role) = catalog.role_named(&startup.user).cloned() else {
            return Err(Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" does not exist", startup.user),
            )
            .fatal());
        };
        if !role.login {
            return Err(Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" is not permitted to log in", startup.user),
            )
            .fatal());
        }
        let name =
            if startup.database.is_empty() { startup.user.as_str() } else { startup.database.as_str() };
        let Some(database) = catalog.database_named(name).cloned() else {
            return Err(Error::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{name}\" does not exist"),
            )
            .fatal());
        };
        if !database.allow_connections {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("database \"{name}\" is not currently accepting connections"),
            )
            .fatal());
        }
        if startup.peer != Peer::Internal {
            let free = self.options.max_connections.saturating_sub(self.sessions.len());
            if free == 0 {
                return Err(
                    Error::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already").fatal()
                );
            }
            if free <= self.options.reserved_connections && !role.superuser {
                return Err(Error::new(
                    SqlState::TOO_MANY_CONNECTIONS,
                    "remaining connection slots are reserved for non-replication superuser connections",
                )
                .fatal());
            }
            let own = self.sessions.iter().filter(|s| s.login_role == role.oid).count();
            if role.connection_limit >= 0 && own >= role.connection_limit as usize && !role.superuser {
                return Err(Error::new(
                    SqlState::TOO_MANY_CONNECTIONS,
                    format!("too many connections for role \"{}\"", role.name),
                )
                .fatal());
            }
            if crate::privilege::check_database(&catalog, role.oid, database.oid, 'c').is_err() {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied for database \"{name}\""),
                )
                .detail("User does not have CONNECT privilege.")
                .fatal());
            }
        }
        let pid = self.free_pid();
        let shared = Shared::new(&me, pid, &role, &database, startup).map_err(Error::fatal)?;
        let shared = Arc::new(shared);
        shared.counts.sessions.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(pid, shared.clone());
        if statement_log::wanted(&shared, "log_connections") {
            statement_log::connected(&shared);
        }
        Ok(Session::new(me, shared))
    }

    fn free_pid(&self) -> i32 {
        loop {
            let pid = self.next_pid.fetch_add(1, Ordering::Relaxed);
            if pid <= 0 || pid > i32::MAX - 10 {
                self.next_pid.store(1000, Ordering::Relaxed);
                continue;
            }
            if !self.sessions.contains_key(&pid) {
                return pid;
            }
        }
    }
}

#[async_trait]
impl session::Database for Database {
    fn login(&self, role: &str) -> Option<Login> {
        let catalog = self.engine.catalog();
        let role = catalog.role_named(role)?;
        Some(Login {
            verifier: role.verifier.clone(),
            can_login: role.login,
            expired: role.valid_until.is_some_and(|until| until <= datetime::now()),
            superuser: role.superuser,
        })
    }

    async fn open(&self, startup: Startup) -> Result<Box<dyn session::Session>> {
        Ok(Box::new(self.session(startup).await?))
    }

    fn cancel(&self, process_id: i32, secret: &[u8]) {
        if let Some(session) = self.sessions.get(&process_id)
            && session.secret_matches(secret)
            && session.is_active()
        {
            session.cancel.cancel(CancelReason::User);
        }
    }

    fn installation_secret(&self) -> [u8; 32] {
        self.secret
    }

    fn login_failed(&self, role: &str, peer: &Peer, error: &Error) {
        tracing::warn!(target: "audit", role, address = %peer_text(peer), sqlstate = %error.state(), "login failed");
    }
}

/// A peer's address for logs and views.
pub(crate) fn peer_text(peer: &Peer) -> String {
    match peer {
        Peer::Tcp { address: IpAddr::V4(address), port, .. } => format!("{address}:{port}"),
        Peer::Tcp { address: IpAddr::V6(address), port, .. } => format!("[{address}]:{port}"),
        Peer::Unix => "local".into(),
        Peer::Internal => "internal".into(),
    }
}

/// What every new database starts with.
pub(crate) fn database_objects(name: &str, database: Oid, owner: Oid, public_schema: Oid) -> Vec<Object> {
    vec![
        Object::Database(engine::catalog::Database {
            oid: database,
            name: name.to_string(),
            owner,
            acl: None,
            settings: Default::default(),
            comment: None,
            is_template: name == "template1",
            allow_connections: true,
        }),
        Object::Schema(Schema {
            oid: public_schema,
            database,
            name: "public".into(),
            owner: predefined::DATABASE_OWNER,
            // As in PostgreSQL 15: everybody may use it, only the database's owner creates in it.
            acl: Some(Acl([(predefined::DATABASE_OWNER, "UC"), (0, "U")]
                .map(|(grantee, letters)| AclItem {
                    grantee,
                    grantor: predefined::DATABASE_OWNER,
                    privileges: letters.into(),
                    grantable: String::new(),
                })
                .to_vec())),
            comment: Some("standard public schema".into()),
        }),
    ]
}

fn bootstrap(engine: &Engine, options: &Options) -> Result<()> {
    let owner = oid::BOOTSTRAP_SUPERUSER;
    let verifier = options.password.as_deref().map(scram::verifier_of).transpose()?;
    let mut objects = vec![Object::Role(Arc::new(Role {
        oid: owner,
        name: options.superuser.clone(),
        superuser: true,
        inherit: true,
        create_role: true,
        create_db: true,
        login: true,
        replication: true,
        bypass_rls: true,
        connection_limit: -1,
        verifier,
        valid_until: None,
        member_of: Vec::new(),
        settings: Default::default(),
        comment: None,
    }))];
    objects.extend(database_objects("postgres", oid::POSTGRES_DATABASE, owner, oid::PUBLIC));
    let mut template = database_objects("template1", oid::TEMPLATE1, owner, engine.new_oid());
    if let Some(Object::Database(database)) = template.first_mut() {
        let secret: [u8; 32] = rand::random();
        database.settings.insert(SECRET.into(), base64::engine::general_purpose::STANDARD.encode(secret));
        database.comment = Some("default template for new databases".into());
    }
    objects.extend(template);
    if let Some(name) = options.database.as_deref().filter(|n| !matches!(*n, "postgres" | "template1")) {
        objects.extend(database_objects(name, engine.new_oid(), owner, engine.new_oid()));
    }
    let mut transaction = engine.begin(Isolation::ReadCommitted, false);
    transaction.change_catalog(objects.into_iter().map(Change::Put).collect())?;
    transaction.commit()?.durable.wait()
}

/// Settings of a database or role that are shown to people: the internal ones are left out.
pub(crate) fn public_settings(
    settings: &std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> {
    settings.iter().filter(|(name, _)| name.as_str() != SECRET)
}
