//! What all steps of one execution share: correlation parameters, subplans, CTEs, work tables, pinned rows.

use std::sync::Arc;
use std::time::Duration;

use engine::catalog::Table;
use engine::{Row, RowId, RowLock, RowLockMode, Wait};
use function::{Environment, Function};
use hashbrown::HashMap;
use plan::ir::{Node, Plan};
use value::{Datum, Error, Record, Result, SqlState};

use crate::context::{Context, Counters, Reserved};
use crate::node::{self, BATCH, Step};
use crate::rows::{self, Index, Rows};
use crate::walk;

/// Results of a correlated subplan that are remembered by the values of its parameters.
const MEMO: usize = 1024;

pub(crate) struct State {
    pub context: Context,
    pub plan: Arc<Plan>,
    pub outers: Vec<Datum>,
    pub subplans: Vec<Option<Box<SubplanState>>>,
    pub ctes: Vec<CteState>,
    /// Rows of the last round, by recursion.
    pub work: HashMap<usize, Arc<Rows>>,
    pub pins: HashMap<usize, Pin>,
    pub counters: Counters,
    /// Set, together with any error: not a failure, but a lock to be taken by the driver before going on.
    pub request: Option<LockRequest>,
    /// What came of the last request.
    pub answer: Option<RowLock>,
    /// As `request`: a function that waits, to be called by the driver.
    pub call: Option<(&'static Function, Vec<Datum>)>,
    /// What it gave.
    pub answered: Option<Datum>,
    /// Of the row whose waiting expressions are being computed.
    pub replay: Replay,
    /// By the address of the plan node.
    pub actuals: HashMap<usize, Actual>,
}

/// What a relation is bound to in a re-check.
#[derive(Clone, Debug)]
pub(crate) enum Pin {
    /// The outer side of a join had no row.
    Nothing,
    Row(RowId, Row),
    /// The row of something that is no table.
    Record(Arc<Record>),
}

/// What volatile calls in an expression gave so far, in the order they are made, and the next one.
#[derive(Default)]
pub(crate) struct Replay {
    pub results: Vec<Datum>,
    pub at: usize,
}

/// A row lock that a step needs; it unwinds to the driver, which can wait.
#[derive(Clone, Debug)]
pub(crate) struct LockRequest {
    pub table: Arc<Table>,
    pub row: RowId,
    pub mode: RowLockMode,
    pub wait: Wait,
}

/// What one plan node did (EXPLAIN ANALYZE). Times include the inputs'.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actual {
    pub rows: u64,
    pub loops: u64,
    /// Until the first row, of the first loop.
    pub startup: Duration,
    pub total: Duration,
}

pub(crate) struct SubplanState {
    /// Out while it runs.
    step: Option<Box<dyn Step>>,
    columns: usize,
    parameters: Vec<usize>,
    /// Remember results at all: correlated volatile ones are run each time.
    remember: bool,
    /// Parameter values, and the result for each.
    keys: Rows,
    index: Index,
    results: Vec<Outcome>,
    memory: Reserved,
    fresh: bool,
    /// Rows so far of a run that the driver interrupted.
    partial: Option<Rows>,
}

#[derive(Clone)]
enum Outcome {
    Exists(bool),
    Scalar(Datum),
    Rows(Arc<Rows>),
}

pub(crate) struct CteState {
    step: Option<Box<dyn Step>>,
    /// Built and not finished.
    started: bool,
    pub done: bool,
    rows: Rows,
    batch: Rows,
    memory: Reserved,
    /// Correlation parameters it reads, and their values when it was started.
    outers: Option<Vec<usize>>,
    stamp: Vec<Datum>,
}

/// The error that carries a [`LockRequest`] up to the driver.
pub(crate) fn blocked() -> Error {
    Error::internal("a wait outside of the driver that can wait")
}

fn exact(value: &Datum) -> bool {
    matches!(
        value,
        Datum::Null
            | Datum::Bool(_)
            | Datum::Int2(_)
            | Datum::Int4(_)
            | Datum::Int8(_)
            | Datum::Oid(_)
            | Datum::Text(_)
            | Datum::Bytea(_)
            | Datum::Date(_)
            | Datum::Time(_)
            | Datum::Timestamp(_)
            | Datum::TimestampTz(_)
            | Datum::Uuid(_)
    )
}

impl State {
    pub fn new(plan: Arc<Plan>, context: Context) -> State {
        let ctes = plan
            .ctes
            .iter()
            .map(|cte| CteState {
                step: None,
                started: false,
                done: false,
                rows: Rows::new(cte.root.types.len()),
                batch: Rows::default(),
                memory: Reserved::new(&context.memory),
                outers: None,
                stamp: Vec::new(),
            })
            .collect();
        let mut subplans = Vec::new();
        subplans.resize_with(plan.subplans.len(), || None);
        State {
            outers: vec![Datum::Null; plan.outers],
            subplans,
            ctes,
            work: HashMap::new(),
            pins: HashMap::new(),
            counters: Counters::default(),
            request: None,
            answer: None,
            call: None,
            answered: None,
            replay: Replay::default(),
            actuals: HashMap::new(),
            context,
            plan,
        }
    }

    #[inline]
    pub fn env(&self) -> &dyn Environment {
        &*self.context.env
    }

    /// Builds the steps of a node of this plan. `rescans`: it will be run more than once.
    pub fn build(&self, node: &Node, rescans: bool) -> Result<Box<dyn Step>> {
        node::Builder { context: &self.context, plan: &self.plan, rescans }.build(node)
    }

    fn subplan(&mut self, number: usize) -> Result<&mut SubplanState> {
        if self.subplans[number].is_none() {
            let plan = self.plan.clone();
            let subplan = &plan.subplans[number];
            let step = self.build(&subplan.root, !subplan.parameters.is_empty())?;
            let volatile = !subplan.parameters.is_empty() && walk::needs(&plan, &subplan.root).volatile;
            self.subplans[number] = Some(Box::new(SubplanState {
                step: Some(step),
                columns: subplan.root.types.len(),
                parameters: subplan.parameters.clone(),
                remember: !volatile,
                keys: Rows::new(subplan.parameters.len()),
                index: Index::default(),
                results: Vec::new(),
                memory: Reserved::new(&self.context.memory),
                fresh: true,
                partial: None,
            }));
        }
        self.subplans[number].as_deref_mut().ok_or_else(|| Error::internal("a subplan that was not built"))
    }

    /// Runs `f` over a subplan's step, from its start unless a run was interrupted, and remembers the outcome.
    fn run_subplan(
        &mut self,
        number: usize,
        f: impl FnOnce(&mut State, &mut dyn Step, &mut Option<Rows>) -> Result<Outcome>,
    ) -> Result<Outcome> {
        self.subplan(number)?;
        let mut key = Vec::new();
        let mut hash = 0;
        let outers = std::mem::take(&mut self.outers);
        let result = self.subplan(number).map(|subplan| {
            key.extend(subplan.parameters.iter().map(|outer| outers[*outer].clone()));
            for value in &key {
                hash = rows::combine(hash, rows::hash_value(0, value));
            }
            subplan
                .index
                .find(hash, |entry| key.iter().zip(subplan.keys.row(entry)).all(|(a, b)| rows::same(0, a, b)))
                .map(|entry| subplan.results[entry].clone())
        });
        self.outers = outers;
        if let Some(outcome) = result? {
            return Ok(outcome);
        }
        let subplan = self.subplan(number)?;
        let Some(mut step) = subplan.step.take() else {
            return Err(Error::internal("a subplan inside itself"));
        };
        let mut partial = subplan.partial.take();
        let fresh = std::mem::replace(&mut subplan.fresh, false);
        let mut outcome = Ok(());
        if !fresh && partial.is_none() {
            outcome = step.rescan(self);
        }
        let outcome = outcome.and_then(|()| f(self, &mut *step, &mut partial));
        let subplan = self.subplan(number)?;
        subplan.step = Some(step);
        subplan.partial = partial;
        let outcome = outcome?;
        if subplan.remember && key.iter().all(exact) {
            if subplan.index.len() >= MEMO
                || (matches!(outcome, Outcome::Rows(_)) && subplan.index.len() >= 16)
            {
                subplan.index.clear();
                subplan.keys.clear();
                subplan.results.clear();
                subplan.memory.clear();
            }
            subplan.memory.add(rows::row_size(&key) + Index::ENTRY)?;
            subplan.index.push(hash);
            subplan.keys.push(&key);
            subplan.results.push(outcome.clone());
        }
        Ok(outcome)
    }

    /// Computes something that is computed again after each wait in it: `replay` keeps what was called so far.
    pub fn replayed<T>(
        &mut self,
        replay: &mut Replay,
        compute: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        replay.at = 0;
        // A subplan in it may have rows of its own to wait for.
        std::mem::swap(&mut self.replay, replay);
        let result = compute(self);
        std::mem::swap(&mut self.replay, replay);
        if result.is_ok() {
            replay.results.clear();
        }
        result
    }

    /// Where nothing is computed again after a wait, nothing can wait.
    fn no_waiting(&mut self, error: Error) -> Error {
        let (request, call) = (self.request.take(), self.call.take());
        if let Some((function, _)) = call {
            return Error::unsupported(
                format!("{} in this subquery", function.name),
                "Call it in the outer query, or in a WITH query.",
            );
        }
        match request {
            None => error,
            Some(_) => Error::unsupported(
                "FOR UPDATE in this subquery",
                "Lock the rows in the outer query, or in a WITH query.",
            ),
        }
    }

    /// The last error was no failure: the driver has something to wait for.
    pub fn is_blocked(&self) -> bool {
        self.request.is_some() || self.call.is_some()
    }

    /// Of an error that comes out of a subplan: whoever computes the expression around it `resumes` after a wait.
    fn settled<T>(&mut self, result: Result<T>, resumes: bool) -> Result<T> {
        match resumes {
            true => result,
            false => result.map_err(|error| self.no_waiting(error)),
        }
    }

    /// EXISTS.
    pub fn subplan_exists(&mut self, number: usize, resumes: bool) -> Result<bool> {
        let outcome = self.run_subplan(number, |state, step, partial| {
            let mut out = partial.take().unwrap_or_default();
            if let Err(error) = step.next(state, 1, &mut out) {
                *partial = state.is_blocked().then_some(out);
                return Err(error);
            }
            Ok(Outcome::Exists(!out.is_empty()))
        });
        match self.settled(outcome, resumes)? {
            Outcome::Exists(found) => Ok(found),
            Outcome::Rows(rows) => Ok(!rows.is_empty()),
            Outcome::Scalar(_) => Err(Error::internal("a subplan of two kinds")),
        }
    }

    /// The one value, NULL without a row; 21000 for more rows.
    pub fn subplan_scalar(&mut self, number: usize, resumes: bool) -> Result<Datum> {
        let outcome = self.run_subplan(number, |state, step, partial| {
            let mut all = partial.take().unwrap_or_default();
            let mut more = Rows::default();
            loop {
                more.clear();
                if let Err(error) = step.next(state, 2 - all.count, &mut more) {
                    *partial = state.is_blocked().then_some(all);
                    return Err(error);
                }
                if more.is_empty() {
                    break;
                }
                all.columns = more.columns;
                all.count += more.count;
                all.values.append(&mut more.values);
                if all.count > 1 {
                    return Err(too_many_rows());
                }
            }
            Ok(Outcome::Scalar(all.values.first_mut().map(std::mem::take).unwrap_or_default()))
        });
        match self.settled(outcome, resumes)? {
            Outcome::Scalar(value) => Ok(value),
            Outcome::Rows(rows) if rows.count > 1 => Err(too_many_rows()),
            Outcome::Rows(rows) => Ok(rows.values.first().cloned().unwrap_or_default()),
            Outcome::Exists(_) => Err(Error::internal("a subplan of two kinds")),
        }
    }

    /// All rows.
    pub fn subplan_rows(&mut self, number: usize, resumes: bool) -> Result<Arc<Rows>> {
        let result = self.gather_subplan(number);
        self.settled(result, resumes)
    }

    /// As [`State::subplan_rows`], but a lock request stays: the driver serves it and calls again.
    pub fn gather_subplan(&mut self, number: usize) -> Result<Arc<Rows>> {
        let columns = self.subplan(number)?.columns;
        let outcome = self.run_subplan(number, |state, step, partial| {
            let mut memory = Reserved::new(&state.context.memory);
            let mut all = partial.take().unwrap_or_else(|| Rows::new(columns));
            let mut batch = Rows::default();
            loop {
                batch.clear();
                if let Err(error) = step.next(state, BATCH, &mut batch) {
                    if state.is_blocked() {
                        *partial = Some(all);
                    }
                    return Err(error);
                }
                if batch.is_empty() {
                    return Ok(Outcome::Rows(Arc::new(all)));
                }
                for row in batch.iter() {
                    memory.add(rows::row_size(row))?;
                }
                all.count += batch.count;
                all.values.append(&mut batch.values);
            }
        });
        match outcome? {
            Outcome::Rows(rows) => Ok(rows),
            _ => Err(Error::internal("a subplan of two kinds")),
        }
    }

    /// Appends up to `max` rows of a CTE from row `at` on, running it as far as needed.
    pub fn cte_rows(&mut self, number: usize, at: &mut usize, max: usize, out: &mut Rows) -> Result<()> {
        if *at >= self.ctes[number].rows.count && !self.ctes[number].done {
            self.advance_cte(number, max)?;
        }
        let cte = &self.ctes[number];
        out.columns = cte.rows.columns;
        let count = max.min(cte.rows.count.saturating_sub(*at));
        let width = cte.rows.columns;
        out.values.extend_from_slice(&cte.rows.values[*at * width..(*at + count) * width]);
        out.count += count;
        *at += count;
        Ok(())
    }

    fn advance_cte(&mut self, number: usize, max: usize) -> Result<()> {
        if !self.ctes[number].started {
            let plan = self.plan.clone();
            let node = &plan.ctes[number].root;
            if plan.ctes[number].modifies {
                return Err(Error::internal("a data-modifying WITH query outside of its driver"));
            }
            let needs = walk::needs(&plan, node);
            let step = self.build(node, !needs.outers.is_empty())?;
            let stamp = needs.outers.iter().map(|outer| self.outers[*outer].clone()).collect();
            let cte = &mut self.ctes[number];
            cte.step = Some(step);
            cte.started = true;
            cte.stamp = stamp;
            cte.outers = Some(needs.outers);
        }
        let cte = &mut self.ctes[number];
        let Some(mut step) = cte.step.take() else {
            return Err(Error::internal("a WITH query inside itself"));
        };
        let mut batch = std::mem::take(&mut cte.batch);
        batch.clear();
        let result = step.next(self, max, &mut batch);
        let cte = &mut self.ctes[number];
        cte.step = Some(step);
        if result.is_ok() {
            if batch.is_empty() {
                cte.done = true;
            }
            for row in batch.iter() {
                cte.memory.add(rows::row_size(row))?;
            }
            cte.rows.count += batch.count;
            cte.rows.values.append(&mut batch.values);
        }
        cte.batch = batch;
        result
    }

    /// A scan of the CTE starts over: it is computed again only if a parameter it reads has changed.
    pub fn rescan_cte(&mut self, number: usize) -> Result<()> {
        let cte = &mut self.ctes[number];
        let Some(outers) = &cte.outers else { return Ok(()) };
        if outers.is_empty() {
            return Ok(());
        }
        let stamp: Vec<Datum> = outers.iter().map(|outer| self.outers[*outer].clone()).collect();
        if stamp.iter().zip(&cte.stamp).all(|(a, b)| exact(a) && rows::same(0, a, b)) {
            return Ok(());
        }
        cte.stamp = stamp;
        cte.rows.clear();
        cte.memory.clear();
        cte.done = false;
        let Some(mut step) = cte.step.take() else { return Ok(()) };
        let result = step.rescan(self);
        self.ctes[number].step = Some(step);
        result
    }

    /// Stores the rows of a data-modifying CTE.
    pub fn set_cte(&mut self, number: usize, rows: Rows, memory: Reserved) {
        let cte = &mut self.ctes[number];
        cte.rows = rows;
        cte.memory = memory;
        cte.started = true;
        cte.done = true;
        cte.outers = Some(Vec::new());
    }
}

fn too_many_rows() -> Error {
    Error::new(
        SqlState::CARDINALITY_VIOLATION,
        "more than one row returned by a subquery used as an expression",
    )
}
