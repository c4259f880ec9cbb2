//! Expressions that call functions which wait (advisory locks, pg_sleep), computed a row at a time.
//!
//! Expressions are synchronous, and a wait cannot be resumed in the midst of one. So a call that waits unwinds to
//! the driver with a request, as a row lock does, and the expressions of the row are computed again from the start
//! with the results so far: what was waited for, and what else is volatile, is called once and then remembered.
//! Nodes whose expressions contain such calls are built with this step below them, so that nothing else has to know.

use plan::ir::{Aggregation, Node, NodeKind};
use resolve::tree::Expr;
use value::{Datum, Result};

use super::{
    BATCH, Builder, Input, Step, aggregate, hash_join, index_scan, nested_loop, once, project, scan,
};
use super::{append, system_scan};
use crate::code::Code;
use crate::compile::Compiler;
use crate::rows::Rows;
use crate::state::{Replay, State};
use crate::walk::each_expr;

/// Whether an expression calls something that waits, itself: subplans see to their own.
pub(crate) fn waits(expr: &Expr) -> bool {
    let mut found = false;
    each_expr(expr, &mut |expr| {
        if let Expr::Call(call) = expr {
            found |= call.function.waits;
        }
    });
    found
}

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
            // A subplan in the expression may have rows of its own to wait for.
            self.replay.at = 0;
            std::mem::swap(&mut state.replay, &mut self.replay);
            let result = code.eval(state, self.input.row());
            std::mem::swap(&mut state.replay, &mut self.replay);
            self.values.push(result?);
            self.replay.results.clear();
        }
        Ok(())
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
fn take<'e>(exprs: impl Iterator<Item = &'e mut Expr>, width: usize) -> Vec<Expr> {
    let mut taken = Vec::new();
    for expr in exprs {
        if waits(expr) {
            let slot = Expr::Slot { index: width + taken.len(), ty: expr.ty() };
            taken.push(std::mem::replace(expr, slot));
        }
    }
    taken
}

/// The parts of a condition that do not wait, and those that do.
fn split(condition: &Expr) -> (Option<Expr>, Option<Expr>) {
    fn all(mut parts: Vec<Expr>) -> Option<Expr> {
        if parts.len() < 2 { parts.pop() } else { Some(Expr::And(parts)) }
    }
    match condition {
        Expr::And(parts) => {
            let (waiting, quick) = parts.iter().cloned().partition(waits);
            (all(quick), all(waiting))
        }
        other => (None, Some(other.clone())),
    }
}

/// The step of a node whose own expressions wait; `None` for others, and where such calls cannot stand.
pub(crate) fn build(builder: &Builder<'_>, node: &Node) -> Result<Option<Box<dyn Step>>> {
    let width = node.types.len();
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
            let taken = take(exprs.iter_mut(), width);
            let below = appended(builder.input(input)?, width, &taken)?;
            Ok(Some(Box::new(project::Project::over(builder, below, width + taken.len(), &exprs)?)))
        }
        NodeKind::Filter { input, predicate } if waits(predicate) => {
            let (quick, waiting) = split(predicate);
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
                let (quick, waiting) = split(&filter);
                scan.filter = quick;
                waiting
            });
            filtered(Box::new(scan::TableScanStep::new(builder, &scan)?), width, waiting)
        }
        NodeKind::IndexScan(scan) if scan.filter.as_ref().is_some_and(waits) => {
            let mut scan = scan.clone();
            let waiting = scan.filter.take().and_then(|filter| {
                let (quick, waiting) = split(&filter);
                scan.filter = quick;
                waiting
            });
            filtered(Box::new(index_scan::IndexScanStep::new(builder, &scan)?), width, waiting)
        }
        NodeKind::SystemScan { schema, name, columns, filter: Some(filter), .. } if waits(filter) => {
            let (quick, waiting) = split(filter);
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
            let exprs = steps.flat_map(|step| step.args.iter_mut().chain(&mut step.filter));
            let taken = take(changed.keys.iter_mut().chain(exprs), width);
            let below = appended(builder.input(&aggregation.input)?, width, &taken)?;
            Ok(Some(Box::new(aggregate::Aggregate::over(builder, &changed, below)?)))
        }
        NodeKind::NestedLoop(join)
            if join.kind == plan::ir::JoinType::Inner && join.condition.as_ref().is_some_and(waits) =>
        {
            let mut join = join.clone();
            let (quick, waiting) = join.condition.take().map_or((None, None), |condition| split(&condition));
            join.condition = quick;
            filtered(Box::new(nested_loop::NestedLoopStep::new(builder, &join)?), width, waiting)
        }
        NodeKind::HashJoin(join)
            if join.kind == plan::ir::JoinType::Inner && join.condition.as_ref().is_some_and(waits) =>
        {
            let mut join = join.clone();
            let (quick, waiting) = join.condition.take().map_or((None, None), |condition| split(&condition));
            join.condition = quick;
            filtered(Box::new(hash_join::HashJoinStep::new(builder, &join)?), width, waiting)
        }
        _ => Ok(None),
    }
}
