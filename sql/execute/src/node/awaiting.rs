//! Expressions that call functions which wait (advisory locks, pg_sleep), computed a row at a time.
//!
//! Expressions are synchronous, and a wait cannot be resumed in the midst of one. So a call that waits unwinds to
//! the driver with a request, as a row lock does, and the expressions of the row are computed again from the start
//! with the results so far: what was waited for, and what else is volatile, is called once and then remembered. A subplan
//! in the midst of which it unwinds goes on where it was.
//! Nodes whose expressions contain such calls are built with this step below them, so that nothing else has to know. Only
//! the conditions of outer joins, which say what becomes of a row that finds no partner, stay where they are.

use plan::ir::{Aggregation, Node, NodeKind, Plan, WindowStep};
use resolve::tree::Expr;
use value::{Datum, Result};

use super::{
    BATCH, Builder, Input, Step, aggregate, hash_join, index_scan, nested_loop, once, project, scan,
};
use super::{append, system_scan, window};
use crate::code::Code;
use crate::compile::Compiler;
use crate::rows::Rows;
use crate::state::{Replay, State};
use crate::walk;

enum Manner {
    /// Values of the expressions, behind the slots of the input.
    Append,
    /// Rows for which the one expression is true.
    Filter,
}

struct Awaiting {
    input: Input,
    codes: Vec<Code>,
    manner: Manner,
    width: usize,
    /// Values of the current row so far, and what was called for the next one.
    values: Vec<Datum>,
    replay: Replay,
}

impl Awaiting {
    fn new(
        builder: &Builder<'_>,
        input: Input,
        width: usize,
        exprs: &[Expr],
        manner: Manner,
    ) -> Result<Awaiting> {
        let codes = Compiler::new(builder.context).replaying().list(exprs)?;
        Ok(Awaiting { input, codes, manner, width, values: Vec::new(), replay: Replay::default() })
    }

    fn compute(&mut self, state: &mut State) -> Result<()> {
        while let Some(code) = self.codes.get_mut(self.values.len()) {
            let row = self.input.row();
            let value = state.replayed(&mut self.replay, |state| code.eval(state, row))?;
            self.values.push(value);
        }
        Ok(())
    }
}

/// A condition that may wait, of a join that keeps the pair of rows it is asked about until it is answered.
pub(crate) struct Condition {
    code: Code,
    /// Where it does wait.
    replay: Option<Replay>,
}

impl Condition {
    pub fn new(builder: &Builder<'_>, expr: Option<&Expr>) -> Result<Option<Condition>> {
        let Some(expr) = expr else { return Ok(None) };
        let waits = walk::waits(builder.plan, expr);
        let compiler = Compiler::new(builder.context);
        let mut compiler = if waits { compiler.replaying() } else { compiler };
        Ok(Some(Condition { code: compiler.compile(expr)?, replay: waits.then(Replay::default) }))
    }

    /// Whether it may unwind: rows that are ready go up first.
    pub fn waits(&self) -> bool {
        self.replay.is_some()
    }

    #[inline]
    pub fn accepts(&mut self, state: &mut State, row: &[Datum]) -> Result<bool> {
        match &mut self.replay {
            None => self.code.accepts(state, row),
            Some(replay) => {
                let code = &mut self.code;
                state.replayed(replay, |state| code.accepts(state, row))
            }
        }
    }

    /// The pair is given up.
    pub fn forget(&mut self) {
        if let Some(replay) = &mut self.replay {
            *replay = Replay::default();
        }
    }
}

impl Step for Awaiting {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        let appends = matches!(self.manner, Manner::Append);
        out.columns = if appends { self.width + self.codes.len() } else { self.width };
        // One row at a time: what has been waited for goes up before anything else is.
        while out.is_empty() && self.input.fill(state, max.clamp(1, BATCH))? {
            state.context.cancel.check()?;
            self.compute(state)?;
            if appends {
                out.values.extend_from_slice(self.input.row());
                out.values.append(&mut self.values);
                out.count = 1;
            } else if matches!(self.values.first(), Some(Datum::Bool(true))) {
                out.push(self.input.row());
            }
            self.values.clear();
            self.input.advance();
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.values.clear();
        self.replay = Replay::default();
        self.input.rescan(state)
    }
}

/// Takes out what waits: the expressions with slots behind `width` in the place of those that wait, and these.
fn take<'e>(plan: &Plan, exprs: impl Iterator<Item = &'e mut Expr>, width: usize) -> Vec<Expr> {
    let mut taken = Vec::new();
    for expr in exprs {
        if walk::waits(plan, expr) {
            let slot = Expr::Slot { index: width + taken.len(), ty: expr.ty() };
            taken.push(std::mem::replace(expr, slot));
        }
    }
    taken
}

/// The parts of a condition that do not wait, and those that do.
fn split(plan: &Plan, condition: &Expr) -> (Option<Expr>, Option<Expr>) {
    fn all(mut parts: Vec<Expr>) -> Option<Expr> {
        if parts.len() < 2 { parts.pop() } else { Some(Expr::And(parts)) }
    }
    match condition {
        Expr::And(parts) => {
            let (waiting, quick) = parts.iter().cloned().partition(|part| walk::waits(plan, part));
            (all(quick), all(waiting))
        }
        other => (None, Some(other.clone())),
    }
}

/// The step of a node whose own expressions wait; `None` for others, and where such calls cannot stand.
pub(crate) fn build(builder: &Builder<'_>, node: &Node) -> Result<Option<Box<dyn Step>>> {
    let width = node.types.len();
    let plan: &Plan = builder.plan;
    let waits = |expr: &Expr| walk::waits(plan, expr);
    let filtered =
        |step: Box<dyn Step>, width: usize, predicate: Option<Expr>| -> Result<Option<Box<dyn Step>>> {
            let exprs: Vec<Expr> = predicate.into_iter().collect();
            let input = Input::new(step);
            Ok(Some(Box::new(Awaiting::new(builder, input, width, &exprs, Manner::Filter)?)))
        };
    let appended = |input: Input, width: usize, exprs: &[Expr]| -> Result<Input> {
        Ok(Input::new(Box::new(Awaiting::new(builder, input, width, exprs, Manner::Append)?)))
    };
    match &node.kind {
        NodeKind::Project { input, exprs } if exprs.iter().any(waits) => {
            let mut exprs = exprs.clone();
            let width = input.types.len();
            let taken = take(plan, exprs.iter_mut(), width);
            let below = appended(builder.input(input)?, width, &taken)?;
            Ok(Some(Box::new(project::Project::over(builder, below, width + taken.len(), &exprs)?)))
        }
        NodeKind::Filter { input, predicate } if waits(predicate) => {
            let (quick, waiting) = split(plan, predicate);
            let step = match quick {
                Some(predicate) => {
                    Box::new(super::filter::Filter::new(builder, input, &predicate)?) as Box<dyn Step>
                }
                None => builder.build(input)?,
            };
            filtered(step, width, waiting)
        }
        NodeKind::Scan(scan) if scan.filter.as_ref().is_some_and(waits) => {
            let mut scan = scan.clone();
            let waiting = scan.filter.take().and_then(|filter| {
                let (quick, waiting) = split(plan, &filter);
                scan.filter = quick;
                waiting
            });
            filtered(Box::new(scan::TableScanStep::new(builder, &scan)?), width, waiting)
        }
        NodeKind::IndexScan(scan) if scan.filter.as_ref().is_some_and(waits) => {
            let mut scan = scan.clone();
            let waiting = scan.filter.take().and_then(|filter| {
                let (quick, waiting) = split(plan, &filter);
                scan.filter = quick;
                waiting
            });
            filtered(Box::new(index_scan::IndexScanStep::new(builder, &scan)?), width, waiting)
        }
        NodeKind::SystemScan { schema, name, columns, filter: Some(filter), .. } if waits(filter) => {
            let (quick, waiting) = split(plan, filter);
            let step = system_scan::SystemScan::new(builder, schema, name, columns, quick.as_ref())?;
            filtered(Box::new(step), width, waiting)
        }
        NodeKind::Once { condition: Some(condition) } if waits(condition) => {
            filtered(Box::new(once::Once::new(builder, None)?), width, Some(condition.clone()))
        }
        NodeKind::Values { rows } if rows.iter().flatten().any(waits) => {
            let mut inputs: Vec<Box<dyn Step>> = Vec::with_capacity(rows.len());
            for row in rows {
                let once = Input::new(Box::new(once::Once::new(builder, None)?));
                inputs.push(Box::new(Awaiting::new(builder, once, 0, row, Manner::Append)?));
            }
            Ok(Some(Box::new(append::Append::over(inputs, width))))
        }
        // Functions that are no sets, in FROM: one row.
        NodeKind::FunctionScan { calls, ordinality, .. }
            if calls.iter().any(waits) && !calls.iter().any(|call| matches!(call, Expr::SetCall(_))) =>
        {
            let mut exprs = calls.clone();
            if *ordinality {
                exprs.push(Expr::Const { value: Datum::Int8(1), ty: node.types[width - 1] });
            }
            let step = Awaiting::new(
                builder,
                Input::new(Box::new(once::Once::new(builder, None)?)),
                0,
                &exprs,
                Manner::Append,
            )?;
            Ok(Some(Box::new(step)))
        }
        NodeKind::Aggregate(aggregation) if node.expressions().into_iter().any(waits) => {
            let mut changed: Aggregation = (**aggregation).clone();
            let width = aggregation.input.types.len();
            let steps = changed.aggregates.iter_mut();
            let exprs = steps.flat_map(|step| {
                let orders = step.order_by.iter_mut().map(|order| &mut order.expr);
                step.args.iter_mut().chain(&mut step.direct_args).chain(&mut step.filter).chain(orders)
            });
            let taken = take(plan, changed.keys.iter_mut().chain(exprs), width);
            let below = appended(builder.input(&aggregation.input)?, width, &taken)?;
            Ok(Some(Box::new(aggregate::Aggregate::over(builder, &changed, below)?)))
        }
        NodeKind::Window(step) if node.expressions().into_iter().any(waits) => {
            let mut changed: WindowStep = (**step).clone();
            let width = step.input.types.len();
            let orders = changed.order_by.iter_mut().map(|order| &mut order.expr);
            let calls =
                changed.calls.iter_mut().flat_map(|call| call.args.iter_mut().chain(&mut call.filter));
            let taken = take(plan, changed.partition_by.iter_mut().chain(orders).chain(calls), width);
            let below = appended(builder.input(&step.input)?, width, &taken)?;
            let extended = width + taken.len();
            let above = window::WindowNode::over(builder, &changed, below, extended)?;
            // What was computed below stands between the input's slots and the results.
            let exprs: Vec<Expr> = (0..width)
                .chain(extended..extended + step.calls.len())
                .zip(&node.types)
                .map(|(index, ty)| Expr::Slot { index, ty: *ty })
                .collect();
            let width = extended + step.calls.len();
            Ok(Some(Box::new(project::Project::over(builder, Input::new(Box::new(above)), width, &exprs)?)))
        }
        NodeKind::NestedLoop(join)
            if join.kind == plan::ir::JoinType::Inner && join.condition.as_ref().is_some_and(waits) =>
        {
            let mut join = join.clone();
            let (quick, waiting) =
                join.condition.take().map_or((None, None), |condition| split(plan, &condition));
            join.condition = quick;
            filtered(Box::new(nested_loop::NestedLoopStep::new(builder, &join)?), width, waiting)
        }
        NodeKind::HashJoin(join)
            if join.kind == plan::ir::JoinType::Inner && join.condition.as_ref().is_some_and(waits) =>
        {
            let mut join = join.clone();
            let (quick, waiting) =
                join.condition.take().map_or((None, None), |condition| split(plan, &condition));
            join.condition = quick;
            filtered(Box::new(hash_join::HashJoinStep::new(builder, &join)?), width, waiting)
        }
        _ => Ok(None),
    }
}
