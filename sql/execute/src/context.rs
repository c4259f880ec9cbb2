//! What a statement runs with: its snapshot, parameters, session, and the brakes (cancel, memory).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use engine::catalog::Table;
use engine::{Snapshot, Transaction};
use function::{Environment, Function};
use hashbrown::HashMap;
use plan::ir::Check;
use resolve::tree::Expr;
use value::{Datum, Error, Oid, Result, SqlState};

/// Everything one execution of a plan needs from its session.
#[derive(Clone)]
pub struct Context {
    /// The statement's snapshot. It never sees what the statement itself writes.
    pub snapshot: Snapshot,
    pub env: Arc<dyn Environment>,
    /// Values of `$1..`, already of the types the plan expects.
    pub params: Arc<[Datum]>,
    pub cancel: Arc<Cancel>,
    pub memory: Arc<MemoryAccount>,
    pub system: Arc<dyn SystemRelations>,
    /// SET CONSTRAINTS of the transaction.
    pub constraints: Arc<ConstraintModes>,
    /// Makes a future that is ready when `lock_timeout` has passed; `None`: no timeout.
    pub lock_timeout: Option<LockTimer>,
    /// Measure every node (EXPLAIN ANALYZE); see [`crate::Actual`].
    pub instrument: bool,
    /// What the vectorised executor's threads have read; a cursor has [`Counters`] of its own.
    pub tally: Arc<Tally>,
}

/// [`Counters`] that several threads add to.
#[derive(Debug, Default)]
pub struct Tally {
    rows_scanned: AtomicU64,
    indexes: Mutex<Vec<Oid>>,
}

impl Tally {
    /// Rows read from tables, before filters.
    pub fn scanned(&self, rows: u64) {
        self.rows_scanned.fetch_add(rows, Ordering::Relaxed);
    }

    /// Adds what a step of the row executor has read.
    pub fn add(&self, counters: &Counters) {
        self.scanned(counters.rows_scanned);
        let mut indexes = self.indexes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for index in &counters.indexes {
            if !indexes.contains(index) {
                indexes.push(*index);
            }
        }
    }

    pub fn counters(&self) -> Counters {
        let indexes = self.indexes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Counters { rows_scanned: self.rows_scanned.load(Ordering::Relaxed), indexes, rechecks: 0 }
    }
}

/// Starts the clock of one lock wait.
pub type LockTimer = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the executor asks of the crate above it.
pub trait SystemRelations: Send + Sync {
    /// The rows of a computed relation, restricted to `columns` (indexes into the relation's columns), in that order.
    fn rows(&self, schema: &str, name: &str, columns: &[usize]) -> Result<Vec<Vec<Datum>>>;

    /// The rules of a table that is changed by a foreign key's action (ON DELETE SET NULL and the like) and so does
    /// not stand in the plan.
    fn rules(&self, table: &Arc<Table>) -> Result<Arc<TableRules>>;

    /// Calls a function that waits. Dropping the future ends the wait.
    fn wait<'a>(
        &'a self,
        function: &'static Function,
        _args: &'a [Datum],
        _tx: &'a mut Transaction,
    ) -> Pin<Box<dyn Future<Output = Result<Datum>> + Send + 'a>> {
        let error = Error::internal(format!("nobody waits for {}", function.name));
        Box::pin(std::future::ready(Err(error)))
    }
}

/// A table's stored expressions, compiled by the planner; slots as in [`plan::ir::Modify`].
#[derive(Clone, Debug, Default)]
pub struct TableRules {
    /// Generated and hidden columns, in order, over the row's columns.
    pub computed: Vec<(usize, Expr)>,
    pub checks: Vec<Check>,
    /// Defaults of columns, expressions without slots; columns without one are NULL.
    pub defaults: Vec<(usize, Expr)>,
}

/// Which deferrable constraints are checked when. The default is as each constraint was declared.
#[derive(Clone, Debug, Default)]
pub struct ConstraintModes {
    /// SET CONSTRAINTS ALL: `Some(true)` deferred.
    pub all: Option<bool>,
    /// By constraint oid; later than `all`.
    pub by_oid: HashMap<Oid, bool>,
}

impl ConstraintModes {
    /// Whether a constraint is checked at commit.
    pub fn deferred(&self, constraint: &engine::catalog::Constraint) -> bool {
        constraint.deferrable
            && self.by_oid.get(&constraint.oid).copied().or(self.all).unwrap_or(constraint.initially_deferred)
    }
}

/// Why a statement is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    User,
    StatementTimeout,
    LockTimeout,
    /// pg_terminate_backend: the session ends.
    Terminate,
    /// The server stops.
    Shutdown,
    /// The client went away.
    Disconnected,
    /// The transaction is older than `transaction_timeout`: the session ends.
    TransactionTimeout,
}

impl CancelReason {
    /// Whether the session ends, not only the statement.
    pub fn ends_session(self) -> bool {
        !matches!(self, CancelReason::User | CancelReason::StatementTimeout | CancelReason::LockTimeout)
    }

    /// The error the client sees.
    pub fn error(self) -> Error {
        let cancelled = |message: &str| Error::new(SqlState::QUERY_CANCELED, message);
        match self {
            CancelReason::User => cancelled("canceling statement due to user request"),
            CancelReason::StatementTimeout => cancelled("canceling statement due to statement timeout"),
            CancelReason::LockTimeout => {
                Error::new(SqlState::LOCK_NOT_AVAILABLE, "canceling statement due to lock timeout")
            }
            CancelReason::Terminate | CancelReason::Shutdown => {
                Error::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
                    .fatal()
            }
            CancelReason::Disconnected => {
                Error::new(SqlState::CONNECTION_FAILURE, "connection to client lost").fatal()
            }
            CancelReason::TransactionTimeout => {
                Error::new(SqlState::TRANSACTION_TIMEOUT, "terminating connection due to transaction timeout")
                    .fatal()
            }
        }
    }
}

/// The flag that stops a statement. Checked by every loop at least every 1,000 rows, and awaited beside every lock.
#[derive(Debug, Default)]
pub struct Cancel {
    /// 0: run on; else 1 + the reason.
    reason: AtomicU8,
    wakers: Mutex<Vec<Waker>>,
}

impl Cancel {
    pub fn new() -> Arc<Cancel> {
        Arc::default()
    }

    /// Asks the statement to stop. The first reason wins, but one that ends the session wins over one that does not.
    pub fn cancel(&self, reason: CancelReason) {
        let code = 1 + reason as u8;
        let replaces = |now: u8| (now == 0 || (!ends(now) && ends(code))).then_some(code);
        if self.reason.fetch_update(Ordering::AcqRel, Ordering::Acquire, replaces).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(|e| e.into_inner()));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Makes the flag ready for the next statement. That the session is to end is not forgotten.
    pub fn reset(&self) {
        // An error says that there is nothing to reset.
        let _ =
            self.reason.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (!ends(now)).then_some(0));
        self.wakers.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    pub fn reason(&self) -> Option<CancelReason> {
        reason_of(self.reason.load(Ordering::Acquire))
    }

    /// The error of the reason once somebody has cancelled.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.reason.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.stopped()
    }

    #[cold]
    fn stopped(&self) -> Result<()> {
        self.reason().map_or(Ok(()), |reason| Err(reason.error()))
    }

    /// Ready when somebody cancels.
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled { cancel: self }
    }
}

fn reason_of(code: u8) -> Option<CancelReason> {
    Some(match code {
        0 => return None,
        1 => CancelReason::User,
        2 => CancelReason::StatementTimeout,
        3 => CancelReason::LockTimeout,
        4 => CancelReason::Terminate,
        5 => CancelReason::Shutdown,
        6 => CancelReason::Disconnected,
        _ => CancelReason::TransactionTimeout,
    })
}

/// Whether the reason with this code ends the session.
fn ends(code: u8) -> bool {
    reason_of(code).is_some_and(CancelReason::ends_session)
}

/// See [`Cancel::cancelled`].
pub struct Cancelled<'a> {
    cancel: &'a Cancel,
}

impl Future for Cancelled<'_> {
    type Output = CancelReason;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<CancelReason> {
        if let Some(reason) = self.cancel.reason() {
            return Poll::Ready(reason);
        }
        let mut wakers = self.cancel.wakers.lock().unwrap_or_else(|e| e.into_inner());
        // Looked at again under the mutex: `cancel` stores first and takes the wakers then.
        if let Some(reason) = self.cancel.reason() {
            return Poll::Ready(reason);
        }
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Bytes a statement (or a session, or all: accounts can be shared) may hold in its operators.
#[derive(Debug)]
pub struct MemoryAccount {
    limit: u64,
    /// What one sort or hash table should stay below (`work_mem`).
    work: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl MemoryAccount {
    /// `limit`: bytes after which the statement fails; `work`: bytes one operator should aim at.
    pub fn new(limit: u64, work: u64) -> Arc<MemoryAccount> {
        Arc::new(MemoryAccount { limit, work, used: AtomicU64::new(0), peak: AtomicU64::new(0) })
    }

    /// Takes `bytes`; 53200 when the limit would be passed.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .detail(format!("The statement needs more than {} kB of working memory.", self.limit / 1024))
                .hint("Add a filter or an index, or raise the memory limit of the server."));
        }
        self.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }

    /// Gives `bytes` back.
    pub fn shrink(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes);
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// `work_mem` in bytes.
    pub fn work(&self) -> u64 {
        self.work
    }
}

/// A share of a [`MemoryAccount`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    account: Arc<MemoryAccount>,
    bytes: u64,
    /// Counted but not yet taken from the account: taken in steps, so that the atomic is touched rarely.
    pending: u64,
}

const STEP: u64 = 64 * 1024;

impl Reserved {
    pub fn new(account: &Arc<MemoryAccount>) -> Reserved {
        Reserved { account: account.clone(), bytes: 0, pending: 0 }
    }

    /// Counts `bytes` more.
    #[inline]
    pub fn add(&mut self, bytes: usize) -> Result<()> {
        self.pending += bytes as u64;
        if self.pending < STEP {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.account.grow(pending)?;
        self.bytes += pending;
        Ok(())
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.account.shrink(self.bytes);
        self.bytes = 0;
        self.pending = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.shrink(self.bytes);
    }
}

/// What an execution has done so far, for the query log and EXPLAIN.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Rows read from tables, before filters.
    pub rows_scanned: u64,
    /// Indexes that were read, each once.
    pub indexes: Vec<Oid>,
    /// Rows that UPDATE, DELETE and locks had to check again because they had moved on.
    pub rechecks: u64,
}

impl Counters {
    pub(crate) fn used_index(&mut self, index: Oid) {
        if !self.indexes.contains(&index) {
            self.indexes.push(index);
        }
    }
}
