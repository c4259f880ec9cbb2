//! The steps of a running plan, one file for each kind.
//!
//! A step is pulled for up to `max` rows at a time, so that the cost of the call is shared by a batch while a LIMIT
//! above still reads no more than it needs. Every step keeps what it has got in itself: after an error that
//! carries a lock request it is called again and goes on where it was.

use std::sync::Arc;
use std::time::Instant;

use plan::ir::{Node, NodeKind, Order, Plan};
use resolve::tree::Expr;
use value::Result;

use crate::code::Code;
use crate::compile::Compiler;
use crate::context::Context;
use crate::rows::{KeyOrder, Rows};
use crate::state::State;
use crate::walk;

mod aggregate;
mod append;
pub(crate) mod awaiting;
mod cte_scan;
mod distinct;
mod distinct_on;
mod filter;
mod function_scan;
mod hash_join;
mod index_scan;
mod limit;
pub(crate) mod lock_rows;
mod nested_loop;
mod once;
mod pinned;
mod project;
mod project_set;
mod recursive_union;
mod scan;
mod set_operation;
mod sort;
mod system_scan;
mod values;
mod window;
mod work_table;

/// Rows asked for at a time.
pub(crate) const BATCH: usize = 256;

/// One running node.
pub(crate) trait Step: Send {
    /// Appends up to `max` rows to `out`, which is empty, and sets its number of columns. No rows: the end; calling
    /// again after the end gives no rows again.
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()>;

    /// Starts over, with correlation parameters as they are now.
    fn rescan(&mut self, state: &mut State) -> Result<()>;
}

/// An input with the batch that was pulled last, read row by row.
pub(crate) struct Input {
    step: Box<dyn Step>,
    pub batch: Rows,
    pub at: usize,
    ended: bool,
}

impl Input {
    pub fn new(step: Box<dyn Step>) -> Input {
        Input { step, batch: Rows::default(), at: 0, ended: false }
    }

    /// Whether there is a current row; pulls up to `max` more when the batch is used up.
    #[inline]
    pub fn fill(&mut self, state: &mut State, max: usize) -> Result<bool> {
        if self.at < self.batch.count {
            return Ok(true);
        }
        self.pull(state, max)
    }

    fn pull(&mut self, state: &mut State, max: usize) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.batch.clear();
        self.at = 0;
        self.step.next(state, max, &mut self.batch)?;
        self.ended = self.batch.is_empty();
        Ok(!self.ended)
    }

    #[inline]
    pub fn row(&self) -> &[value::Datum] {
        self.batch.row(self.at)
    }

    #[inline]
    pub fn advance(&mut self) {
        self.at += 1;
    }

    pub fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.batch.clear();
        self.at = 0;
        self.ended = false;
        self.step.rescan(state)
    }
}

/// Makes steps of plan nodes.
pub(crate) struct Builder<'a> {
    pub context: &'a Context,
    pub plan: &'a Arc<Plan>,
    /// What is built will be run more than once.
    pub rescans: bool,
}

impl<'a> Builder<'a> {
    pub fn compile(&self, expr: &Expr) -> Result<Code> {
        Compiler::new(self.context).compile(expr)
    }

    pub fn list(&self, exprs: &[Expr]) -> Result<Vec<Code>> {
        Compiler::new(self.context).list(exprs)
    }

    pub fn maybe(&self, expr: Option<&Expr>) -> Result<Option<Code>> {
        Compiler::new(self.context).maybe(expr)
    }

    pub fn orders(&self, orders: &[Order]) -> Result<(Vec<Code>, Vec<KeyOrder>)> {
        let mut codes = Vec::with_capacity(orders.len());
        let mut keys = Vec::with_capacity(orders.len());
        for order in orders {
            codes.push(self.compile(&order.expr)?);
            keys.push(KeyOrder {
                ty: order.expr.ty().oid,
                descending: order.descending,
                nulls_first: order.nulls_first,
            });
        }
        Ok((codes, keys))
    }

    /// The input of a node that keeps what it computes from it over rescans when nothing it reads can change.
    pub fn kept(&self, node: &Node) -> bool {
        if !self.rescans {
            return false;
        }
        let needs = walk::needs(self.plan, node);
        needs.outers.is_empty() && !needs.volatile && !needs.work_table && !needs.locks && !needs.pinned
    }

    pub fn input(&self, node: &Node) -> Result<Input> {
        Ok(Input::new(self.build(node)?))
    }

    /// As [`Builder::input`], for an input that its parent runs many times.
    pub fn repeated(&self, node: &Node) -> Result<Input> {
        let builder = Builder { context: self.context, plan: self.plan, rescans: true };
        Ok(Input::new(builder.build(node)?))
    }

    pub fn build(&self, node: &Node) -> Result<Box<dyn Step>> {
        let step = match awaiting::build(self, node)? {
            Some(step) => step,
            None => self.plain(node)?,
        };
        if self.context.instrument {
            return Ok(Box::new(Instrument { step, node: std::ptr::from_ref(node) as usize }));
        }
        Ok(step)
    }

    /// The step of a node in whose own expressions nothing waits.
    fn plain(&self, node: &Node) -> Result<Box<dyn Step>> {
        let step: Box<dyn Step> = match &node.kind {
            NodeKind::Once { condition } => Box::new(once::Once::new(self, condition.as_ref())?),
            NodeKind::Values { rows } => Box::new(values::Values::new(self, rows, node.types.len())?),
            NodeKind::Scan(scan) => Box::new(scan::TableScanStep::new(self, scan)?),
            NodeKind::IndexScan(scan) => Box::new(index_scan::IndexScanStep::new(self, scan)?),
            NodeKind::SystemScan { schema, name, columns, filter, .. } => {
                Box::new(system_scan::SystemScan::new(self, schema, name, columns, filter.as_ref())?)
            }
            NodeKind::FunctionScan { calls, widths, ordinality } => {
                Box::new(function_scan::FunctionScan::new(self, calls, widths, *ordinality)?)
            }
            NodeKind::CteScan { cte } => Box::new(cte_scan::CteScan::new(*cte)),
            NodeKind::WorkTable { recursion } => Box::new(work_table::WorkTable::new(*recursion)),
            NodeKind::Pinned { relation, columns, row_id } => {
                Box::new(pinned::Pinned::new(*relation, columns, *row_id))
            }
            NodeKind::Filter { input, predicate } => Box::new(filter::Filter::new(self, input, predicate)?),
            NodeKind::Project { input, exprs } => Box::new(project::Project::new(self, input, exprs)?),
            NodeKind::ProjectSet { input, exprs } => {
                Box::new(project_set::ProjectSet::new(self, input, exprs)?)
            }
            NodeKind::NestedLoop(join) => Box::new(nested_loop::NestedLoopStep::new(self, join)?),
            NodeKind::HashJoin(join) => Box::new(hash_join::HashJoinStep::new(self, join)?),
            NodeKind::Aggregate(aggregation) => Box::new(aggregate::Aggregate::new(self, aggregation)?),
            NodeKind::Window(window) => Box::new(window::WindowNode::new(self, window)?),
            NodeKind::Sort { input, keys, limit } => {
                Box::new(sort::Sort::new(self, input, keys, limit.as_ref())?)
            }
            NodeKind::Limit { input, limit, offset, ties } => {
                Box::new(limit::Limit::new(self, input, limit.as_ref(), offset.as_ref(), ties.as_deref())?)
            }
            NodeKind::Distinct { input } => Box::new(distinct::Distinct::new(self, input)?),
            NodeKind::DistinctOn { input, keys } => {
                Box::new(distinct_on::DistinctOn::new(self, input, keys)?)
            }
            NodeKind::SetOperation { kind, all, left, right } => {
                Box::new(set_operation::SetOperation::new(self, *kind, *all, left, right)?)
            }
            NodeKind::Append { inputs } => Box::new(append::Append::new(self, inputs)?),
            NodeKind::RecursiveUnion { recursion, all, initial, recursive } => {
                Box::new(recursive_union::RecursiveUnion::new(self, *recursion, *all, initial, recursive)?)
            }
            NodeKind::LockRows(lock) => Box::new(lock_rows::LockRowsStep::new(self, lock)?),
            NodeKind::Modify(_) => {
                return Err(value::Error::internal("a data-modifying node outside of its driver"));
            }
        };
        Ok(step)
    }
}

/// Measures a step.
struct Instrument {
    step: Box<dyn Step>,
    /// The plan node's address: plans do not move while they run.
    node: usize,
}

impl Step for Instrument {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        let start = Instant::now();
        let result = self.step.next(state, max, out);
        let actual = state.actuals.entry(self.node).or_default();
        actual.total += start.elapsed();
        if actual.loops == 0 {
            actual.loops = 1;
        }
        if actual.rows == 0 && out.count > 0 {
            actual.startup = actual.total;
        }
        actual.rows += out.count as u64;
        result
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        let start = Instant::now();
        let result = self.step.rescan(state);
        let actual = state.actuals.entry(self.node).or_default();
        actual.total += start.elapsed();
        actual.loops += 1;
        result
    }
}
