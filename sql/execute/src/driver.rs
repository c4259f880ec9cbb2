//! Plans that change or lock rows or call what waits: the one place that waits.
//!
//! Steps are synchronous; when one needs a row lock it unwinds to here with a request, the driver waits for it (beside the
//! cancel flag and `lock_timeout`), and calls the step again, which goes on where it was. Changes are made by
//! [`crate::modify`], whose loops are futures themselves.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use engine::catalog::Table;
use engine::{RowId, RowLock, RowLockMode, Snapshot, Transaction, Wait};
use plan::ir::{NodeKind, Plan};
use value::{Error, Result, SqlState};

use crate::context::{CancelReason, Context, Counters, LockTimer, Reserved};
use crate::cursor::{Actuals, output};
use crate::modify::Change;
use crate::modify::foreign_key::{DeferredCheck, Queue};
use crate::node::{Input, Step};
use crate::rows::{self, Rows};
use crate::state::{Replay, State};
use crate::walk;

/// The target of the spans of a statement (crate `sql`, `trace.rs`).
pub const TRACE_TARGET: &str = "startdb::trace";

/// What computes for longer lets other tasks of its thread run. Whoever drives it learns by this that it takes long, and can keep it
/// from being in their way.
pub const SLICE: Duration = Duration::from_millis(2);
/// From then on a turn of others only costs: the next thread has no memory of its own for the statement yet.
const LATER_SLICES: Duration = Duration::from_millis(500);

/// What a loop over many rows asks between them: whether the statement is cancelled, and whether it is the turn of others.
pub(crate) struct Turns {
    begun: Instant,
    slice: Duration,
}

impl Turns {
    pub fn begin() -> Turns {
        Turns { begun: Instant::now(), slice: SLICE }
    }

    /// Lets others run when the loop has had its time. 57014 and its kin when the statement is cancelled.
    pub async fn next(&mut self, context: &Context) -> Result<()> {
        context.cancel.check()?;
        if self.begun.elapsed() > self.slice {
            let mut over = false;
            poll_fn(|task| match std::mem::replace(&mut over, true) {
                true => Poll::Ready(()),
                false => {
                    task.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
            *self = Turns { begun: Instant::now(), slice: LATER_SLICES };
        }
        Ok(())
    }
}

/// Waits for a lock, a cancel or the lock timeout, whatever comes first. Nothing is registered when the lock is free.
pub(crate) async fn guarded<T>(
    context: &Context,
    future: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    limited(context, context.lock_timeout.as_ref(), future).await
}

/// [`guarded`] with another clock, or none.
async fn limited<T>(
    context: &Context,
    timeout: Option<&LockTimer>,
    future: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    let mut future = pin!(future);
    let mut cancelled = pin!(context.cancel.cancelled());
    let mut timer = None;
    let mut waiting = None;
    poll_fn(move |cx| {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if waiting.is_none() {
            // Ends with the wait.
            waiting = Some(tracing::info_span!(target: TRACE_TARGET, "lock"));
            timer = timeout.map(|start| start());
        }
        if let Poll::Ready(reason) = cancelled.as_mut().poll(cx) {
            return Poll::Ready(Err(reason.error()));
        }
        if let Some(timer) = &mut timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(CancelReason::LockTimeout.error()));
        }
        Poll::Pending
    })
    .await
}

/// Locks a row, without a future where that is possible.
pub(crate) async fn lock_row(
    context: &Context,
    tx: &mut Transaction,
    table: &Table,
    row: RowId,
    mode: RowLockMode,
    wait: Wait,
    snapshot: &Snapshot,
) -> Result<RowLock> {
    if let Some(result) = tx.lock_row_now(table, row, mode, snapshot) {
        return result;
    }
    guarded(context, tx.lock_row(table, row, mode, wait, snapshot)).await
}

/// What PostgreSQL says of a row that was to be locked and is gone: the same as of one that was changed.
pub(crate) fn locking(error: Error) -> Error {
    if error.state() == SqlState::SERIALIZATION_FAILURE && error.message().ends_with("concurrent delete") {
        return engine::concurrent("update");
    }
    error
}

/// Serves the lock request that came with an error; other errors are handed on.
pub(crate) async fn serve(state: &mut State, tx: &mut Transaction, error: Error) -> Result<()> {
    let context = &state.context;
    if let Some((function, args)) = state.call.take() {
        let system = context.system.clone();
        // Sleeping is no wait for a lock.
        let timeout = context.lock_timeout.as_ref().filter(|_| !function.name.starts_with("pg_sleep"));
        state.answered = Some(limited(context, timeout, system.wait(function, &args, tx)).await?);
        return Ok(());
    }
    let Some(request) = state.request.take() else { return Err(error) };
    let answer =
        lock_row(context, tx, &request.table, request.row, request.mode, request.wait, &context.snapshot)
            .await
            .map_err(locking)?;
    state.answer = Some(answer);
    Ok(())
}

/// Computes what may wait: again after each wait, with what was called so far remembered. Expressions in it that wait are
/// compiled for that ([`crate::compile::Compiler::replaying`]).
pub(crate) async fn settled<T>(
    state: &mut State,
    tx: &mut Transaction,
    mut compute: impl FnMut(&mut State) -> Result<T>,
) -> Result<T> {
    let mut replay = Replay::default();
    loop {
        match state.replayed(&mut replay, &mut compute) {
            Ok(value) => return Ok(value),
            Err(error) => serve(state, tx, error).await?,
        }
    }
}

/// [`Input::fill`] with waiting.
pub(crate) async fn fill(
    input: &mut Input,
    state: &mut State,
    tx: &mut Transaction,
    max: usize,
) -> Result<bool> {
    loop {
        match input.fill(state, max) {
            Ok(more) => return Ok(more),
            Err(error) => serve(state, tx, error).await?,
        }
    }
}

enum Root {
    /// Rows are pulled as they are asked for.
    Step(Box<dyn Step>),
    /// INSERT, UPDATE, DELETE: done at the first pull, RETURNING rows in memory.
    Change,
}

/// A running plan that changes or locks rows.
pub struct Driver {
    state: State,
    root: Root,
    started: bool,
    ended: bool,
    /// RETURNING rows of the root.
    returned: Rows,
    returned_at: usize,
    memory: Reserved,
    batch: Rows,
    columns: usize,
    affected: u64,
    pending: Vec<DeferredCheck>,
}

impl Driver {
    /// Prepares a plan of any kind. Nothing is changed or locked before the first [`Driver::next`].
    pub fn open(plan: &Arc<Plan>, context: Context) -> Result<Driver> {
        let memory = Reserved::new(&context.memory);
        let state = State::new(plan.clone(), context);
        let root = match &plan.root.kind {
            NodeKind::Modify(_) => Root::Change,
            _ => Root::Step(state.build(&plan.root, false)?),
        };
        Ok(Driver {
            state,
            root,
            started: false,
            ended: false,
            returned: Rows::default(),
            returned_at: 0,
            memory,
            batch: Rows::default(),
            columns: plan.output.len(),
            affected: 0,
            pending: Vec::new(),
        })
    }

    /// Appends up to `max_rows` rows to `out`; `false`: there are no more. The first call makes all changes of the
    /// statement and checks its constraints.
    pub async fn next(&mut self, tx: &mut Transaction, max_rows: usize, out: &mut Rows) -> Result<bool> {
        out.columns = self.columns;
        if !self.started {
            self.start(tx).await?;
            self.started = true;
        }
        if self.ended || max_rows == 0 {
            return Ok(!self.ended);
        }
        self.state.context.cancel.check()?;
        match &mut self.root {
            Root::Change => {
                let end = self.returned.count.min(self.returned_at + max_rows);
                for row in self.returned_at..end {
                    out.values
                        .extend(self.returned.row_mut(row)[..self.columns].iter_mut().map(std::mem::take));
                    out.count += 1;
                }
                self.returned_at = end;
                self.ended = end >= self.returned.count;
                if self.ended {
                    self.returned = Rows::default();
                    self.memory.clear();
                }
            }
            Root::Step(step) => {
                // A chunk is filled over several pulls: locking steps give one row each.
                let mut left = max_rows;
                while left > 0 && !self.ended {
                    self.batch.clear();
                    match step.next(&mut self.state, left, &mut self.batch) {
                        Ok(()) => {
                            self.ended = self.batch.is_empty();
                            left -= self.batch.count.min(left);
                            output(&mut self.batch, self.columns, out);
                        }
                        Err(error) => serve(&mut self.state, tx, error).await?,
                    }
                }
            }
        }
        Ok(!self.ended)
    }

    async fn start(&mut self, tx: &mut Transaction) -> Result<()> {
        let plan = self.state.plan.clone();
        let mut queue = Queue::default();
        for (number, cte) in plan.ctes.iter().enumerate() {
            if let NodeKind::Modify(modify) = &cte.root.kind {
                let mut change = Change::new(&self.state, modify, tx)?;
                change.run(&mut self.state, tx, &mut queue).await?;
                let (rows, memory) = change.into_returned();
                self.state.set_cte(number, rows, memory);
            } else if cte.modifies {
                return Err(Error::internal("a data-modifying WITH query that is not a Modify node"));
            }
        }
        for (number, subplan) in plan.subplans.iter().enumerate() {
            if subplan.parameters.is_empty() && walk::needs(&plan, &subplan.root).locks {
                while let Err(error) = self.state.gather_subplan(number) {
                    serve(&mut self.state, tx, error).await?;
                }
            }
        }
        if let NodeKind::Modify(modify) = &plan.root.kind {
            let mut change = Change::new(&self.state, modify, tx)?;
            change.run(&mut self.state, tx, &mut queue).await?;
            self.affected = change.affected();
            (self.returned, self.memory) = change.into_returned();
        }
        self.pending = queue.settle(&mut self.state, tx).await?;
        // What cannot be committed any more is better told now.
        tx.validate()
    }

    /// Rows inserted, updated or deleted by the statement itself (not by its WITH queries or foreign keys).
    pub fn affected(&self) -> u64 {
        self.affected
    }

    /// Checks that wait for COMMIT; the session gives them to [`crate::run_deferred`].
    pub fn take_deferred(&mut self) -> Vec<DeferredCheck> {
        std::mem::take(&mut self.pending)
    }

    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// See [`crate::Cursor::actuals`].
    pub fn actuals(&self) -> Actuals<'_> {
        Actuals(&self.state.actuals)
    }
}

/// Bytes of RETURNING rows.
pub(crate) fn charge(memory: &mut Reserved, row: &[value::Datum]) -> Result<()> {
    memory.add(rows::row_size(row))
}
