//! Building nodes with their types and estimates, and asking them which correlation parameters they leave open.

use std::collections::BTreeSet;

use resolve::tree::Expr;
use value::Type;

use crate::estimate::cost;
use crate::expr;
use crate::ir::{Aggregation, ModifyAction, Node, NodeKind, Order, Subplan};

impl Node {
    pub(crate) fn new(
        kind: NodeKind,
        types: Vec<Type>,
        rows: f64,
        startup_cost: f64,
        total_cost: f64,
    ) -> Node {
        Node { kind, types, rows: rows.max(1.0), startup_cost, total_cost: total_cost.max(startup_cost) }
    }

    pub(crate) fn once(condition: Option<Expr>) -> Node {
        Node::new(NodeKind::Once { condition }, Vec::new(), 1.0, 0.0, cost::ROW)
    }

    pub(crate) fn filter(self, predicate: Option<Expr>, share: f64) -> Node {
        let Some(predicate) = predicate else { return self };
        let (types, rows, startup) = (self.types.clone(), self.rows * share, self.startup_cost);
        let total = self.total_cost + self.rows * cost::OPERATOR;
        Node::new(NodeKind::Filter { input: Box::new(self), predicate }, types, rows, startup, total)
    }

    /// A projection; two in a row become one when the lower only moves slots.
    pub(crate) fn project(self, exprs: Vec<Expr>) -> Node {
        let identity = exprs.len() == self.types.len()
            && exprs
                .iter()
                .enumerate()
                .all(|(i, expr)| matches!(expr, Expr::Slot { index, .. } if *index == i));
        if identity {
            return self;
        }
        let types = exprs.iter().map(Expr::ty).collect();
        let total = self.total_cost + self.rows * cost::OPERATOR;
        let (rows, startup) = (self.rows, self.startup_cost);
        Node::new(NodeKind::Project { input: Box::new(self), exprs }, types, rows, startup, total)
    }

    pub(crate) fn sort(self, keys: Vec<Order>, limit: Option<Expr>) -> Node {
        let compare = self.rows * self.rows.max(2.0).log2() * cost::SORT_COMPARE;
        let (types, rows) = (self.types.clone(), self.rows);
        let startup = self.total_cost + compare;
        let total = startup + rows * cost::OPERATOR;
        Node::new(NodeKind::Sort { input: Box::new(self), keys, limit }, types, rows, startup, total)
    }

    /// The direct inputs.
    pub fn inputs(&self) -> Vec<&Node> {
        match &self.kind {
            NodeKind::Once { .. }
            | NodeKind::Values { .. }
            | NodeKind::Scan(_)
            | NodeKind::IndexScan(_)
            | NodeKind::SystemScan { .. }
            | NodeKind::FunctionScan { .. }
            | NodeKind::CteScan { .. }
            | NodeKind::WorkTable { .. }
            | NodeKind::Pinned { .. } => Vec::new(),
            NodeKind::Filter { input, .. }
            | NodeKind::Project { input, .. }
            | NodeKind::ProjectSet { input, .. }
            | NodeKind::Sort { input, .. }
            | NodeKind::Limit { input, .. }
            | NodeKind::Distinct { input }
            | NodeKind::DistinctOn { input, .. } => vec![input],
            NodeKind::NestedLoop(join) => vec![&join.left, &join.right],
            NodeKind::HashJoin(join) => vec![&join.left, &join.right],
            NodeKind::Aggregate(step) => vec![&step.input],
            NodeKind::Window(step) => vec![&step.input],
            NodeKind::SetOperation { left, right, .. } => vec![left, right],
            NodeKind::Append { inputs } => inputs.iter().collect(),
            NodeKind::RecursiveUnion { initial, recursive, .. } => vec![initial, recursive],
            NodeKind::LockRows(lock) => vec![&lock.input],
            NodeKind::Modify(modify) => vec![&modify.input],
        }
    }

    /// Every expression that stands in this node itself.
    pub fn expressions(&self) -> Vec<&Expr> {
        fn orders(keys: &[Order]) -> impl Iterator<Item = &Expr> {
            keys.iter().map(|key| &key.expr)
        }
        let mut all: Vec<&Expr> = Vec::new();
        match &self.kind {
            NodeKind::Once { condition } => all.extend(condition),
            NodeKind::Values { rows } => all.extend(rows.iter().flatten()),
            NodeKind::Scan(scan) => all.extend(&scan.filter),
            NodeKind::IndexScan(scan) => {
                all.extend(scan.equal.iter().map(|equal| &equal.value));
                all.extend(scan.low.iter().chain(&scan.high).map(|bound| &bound.value));
                all.extend(scan.any.iter().flatten());
                all.extend(&scan.any_array);
                all.extend(&scan.filter);
            }
            NodeKind::SystemScan { filter, .. } => all.extend(filter),
            NodeKind::FunctionScan { calls, .. } => all.extend(calls),
            NodeKind::CteScan { .. }
            | NodeKind::WorkTable { .. }
            | NodeKind::Pinned { .. }
            | NodeKind::Distinct { .. }
            | NodeKind::SetOperation { .. }
            | NodeKind::Append { .. }
            | NodeKind::RecursiveUnion { .. }
            | NodeKind::LockRows(_) => {}
            NodeKind::Filter { predicate, .. } => all.push(predicate),
            NodeKind::Project { exprs, .. } | NodeKind::ProjectSet { exprs, .. } => all.extend(exprs),
            NodeKind::NestedLoop(join) => {
                all.extend(join.bindings.iter().map(|(_, value)| value));
                all.extend(&join.condition);
            }
            NodeKind::HashJoin(join) => {
                all.extend(join.keys.iter().flat_map(|(left, right)| [left, right]));
                all.extend(&join.condition);
            }
            NodeKind::Aggregate(step) => {
                let Aggregation { keys, aggregates, .. } = &**step;
                all.extend(keys);
                for aggregate in aggregates {
                    all.extend(&aggregate.args);
                    all.extend(&aggregate.direct_args);
                    all.extend(orders(&aggregate.order_by));
                    all.extend(&aggregate.filter);
                }
            }
            NodeKind::Window(step) => {
                all.extend(&step.partition_by);
                all.extend(orders(&step.order_by));
                for bound in [&step.frame.start, &step.frame.end] {
                    if let resolve::tree::FrameBound::Preceding(expr)
                    | resolve::tree::FrameBound::Following(expr) = bound
                    {
                        all.push(expr);
                    }
                }
                for call in &step.calls {
                    all.extend(&call.args);
                    all.extend(&call.filter);
                }
            }
            NodeKind::Sort { keys, limit, .. } => {
                all.extend(orders(keys));
                all.extend(limit);
            }
            NodeKind::Limit { limit, offset, ties, .. } => {
                all.extend(limit);
                all.extend(offset);
                all.extend(ties.iter().flat_map(|ties| orders(ties)));
            }
            NodeKind::DistinctOn { keys, .. } => all.extend(keys),
            NodeKind::Modify(modify) => {
                all.extend(modify.returning.iter().flatten());
                all.extend(modify.computed.iter().map(|(_, expr)| expr));
                all.extend(modify.checks.iter().map(|check| &check.expr));
                if let ModifyAction::Insert { defaults, on_conflict, .. } = &modify.action {
                    all.extend(defaults.iter().map(|(_, expr)| expr));
                    if let Some(update) = on_conflict.as_ref().and_then(|conflict| conflict.update.as_ref()) {
                        all.extend(update.assignments.iter().map(|(_, expr)| expr));
                        all.extend(&update.filter);
                    }
                }
            }
        }
        all
    }

    /// Correlation parameters that somebody above must set.
    pub(crate) fn open_parameters(&self, subplans: &[Subplan]) -> BTreeSet<usize> {
        let mut open = BTreeSet::new();
        match &self.kind {
            NodeKind::NestedLoop(join) => {
                open.extend(join.right.open_parameters(subplans));
                for (parameter, _) in &join.bindings {
                    open.remove(parameter);
                }
                open.extend(join.left.open_parameters(subplans));
            }
            _ => self.inputs().into_iter().for_each(|input| open.extend(input.open_parameters(subplans))),
        }
        for expr in self.expressions() {
            open_in(expr, subplans, &mut open);
        }
        open
    }
}

/// Correlation parameters that the expression reads.
pub(crate) fn open_in(expr: &Expr, subplans: &[Subplan], open: &mut BTreeSet<usize>) {
    expr::visit(expr, 0, &mut |node, _| match node {
        Expr::Outer { index, .. } => {
            open.insert(*index);
        }
        Expr::Subplan(call) => {
            let bound: BTreeSet<usize> = call.bindings.iter().map(|(parameter, _)| *parameter).collect();
            open.extend(
                subplans[call.subplan].parameters.iter().filter(|parameter| !bound.contains(parameter)),
            );
        }
        _ => {}
    });
}
