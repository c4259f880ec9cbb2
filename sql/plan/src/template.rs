//! Plans with parameters in place of literals: when one may stand in for the plan of the literals themselves.
//!
//! A literal may decide more than a value: constant conditions fold away, partial indexes are proved, estimates choose
//! scans and join orders. So a plan made with parameters is kept only when it has the same shape as the one made with
//! the literals ([`same_shape`]) and nothing in it could have been folded for other values ([`folds`]); and it is used for
//! other values only while the statistics promise about as many rows for them ([`Probe`]).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use engine::catalog::Table;
use function::Strategy;
use resolve::tree::Expr;
use resolve::walk;
use value::types::oid;
use value::{Datum, Type};

use crate::PlanContext;
use crate::estimate::Base;
use crate::ir::{IndexScan, ModifyAction, Node, NodeKind, Plan};
use crate::operator;

/// Whether two plans do the same, step by step, except for the values that constants and parameters have.
pub fn same_shape(a: &Plan, b: &Plan) -> bool {
    let shape = |plan: &Plan| {
        let mut hasher = DefaultHasher::new();
        (plan.subplans.len(), plan.ctes.len(), plan.outers, plan.tables.len(), plan.volatile)
            .hash(&mut hasher);
        for node in roots(plan) {
            hash_node(node, &mut hasher);
        }
        hasher.finish()
    };
    shape(a) == shape(b)
}

fn roots(plan: &Plan) -> impl Iterator<Item = &Node> {
    let subplans = plan.subplans.iter().map(|subplan| &subplan.root);
    std::iter::once(&plan.root).chain(subplans).chain(plan.ctes.iter().map(|cte| &cte.root))
}

/// Visits every node, those of re-check plans too.
fn each_node<'p>(node: &'p Node, f: &mut dyn FnMut(&'p Node)) {
    f(node);
    node.inputs().into_iter().for_each(|input| each_node(input, f));
    let recheck = match &node.kind {
        NodeKind::LockRows(lock) => Some(&lock.recheck),
        NodeKind::Modify(modify) => match &modify.action {
            ModifyAction::Update { recheck, .. } | ModifyAction::Delete { recheck, .. } => Some(recheck),
            ModifyAction::Insert { .. } => None,
        },
        _ => None,
    };
    if let Some(recheck) = recheck {
        each_node(&recheck.plan, f);
    }
}

fn hash_node(root: &Node, hasher: &mut DefaultHasher) {
    each_node(root, &mut |node| {
        discriminant(&node.kind).hash(hasher);
        hash_types(&node.types, hasher);
        match &node.kind {
            NodeKind::Values { rows } => rows.len().hash(hasher),
            NodeKind::Scan(scan) => (scan.table.oid, scan.filter.is_some()).hash(hasher),
            NodeKind::IndexScan(scan) => {
                (scan.table.oid, scan.index.oid, scan.equal.len(), scan.backward).hash(hasher);
                (scan.any.as_ref().map(Vec::len), scan.any_array.is_some()).hash(hasher);
                for bound in [&scan.low, &scan.high] {
                    bound.as_ref().map(|bound| bound.inclusive).hash(hasher);
                }
                scan.filter.is_some().hash(hasher);
            }
            NodeKind::SystemScan { oid, .. } => oid.hash(hasher),
            NodeKind::CteScan { cte } => cte.hash(hasher),
            NodeKind::NestedLoop(join) => {
                discriminant(&join.kind).hash(hasher);
                (join.bindings.len(), join.condition.is_some(), join.wide).hash(hasher);
            }
            NodeKind::HashJoin(join) => {
                discriminant(&join.kind).hash(hasher);
                (join.keys.len(), join.condition.is_some(), join.wide).hash(hasher);
            }
            NodeKind::Aggregate(step) => {
                (step.keys.len(), &step.sets, step.aggregates.len()).hash(hasher);
                for aggregate in &step.aggregates {
                    (aggregate.aggregate.name, aggregate.distinct).hash(hasher);
                }
            }
            NodeKind::Limit { limit, offset, .. } => (limit.is_some(), offset.is_some()).hash(hasher),
            NodeKind::SetOperation { kind, all, .. } => {
                discriminant(kind).hash(hasher);
                all.hash(hasher);
            }
            NodeKind::Modify(modify) => modify.table.oid.hash(hasher),
            _ => {}
        }
        let expressions = node.expressions();
        expressions.len().hash(hasher);
        expressions.into_iter().for_each(|expr| hash_expr(expr, hasher));
    });
}

fn hash_types(types: &[Type], hasher: &mut DefaultHasher) {
    types.iter().for_each(|ty| (ty.oid, ty.typmod).hash(hasher));
}

fn hash_expr(expr: &Expr, hasher: &mut DefaultHasher) {
    if is_value(expr) {
        // Folded or not: a value of this type.
        (0_u8, expr.ty().oid).hash(hasher);
        return;
    }
    (1_u8, discriminant(expr), expr.ty().oid, expr.ty().typmod).hash(hasher);
    match expr {
        Expr::Slot { index, .. } | Expr::Outer { index, .. } => index.hash(hasher),
        Expr::Column { relation, column, .. } => (relation, column).hash(hasher),
        Expr::Call(call) => (call.function.oid, call.args.len()).hash(hasher),
        Expr::Convert(convert) => {
            discriminant(&convert.kind).hash(hasher);
            convert.explicit.hash(hasher);
        }
        Expr::And(parts) | Expr::Or(parts) => parts.len().hash(hasher),
        Expr::IsNull { negated, .. } | Expr::IsBool { negated, .. } | Expr::Distinct { negated, .. } => {
            negated.hash(hasher);
        }
        Expr::Case { whens, otherwise, .. } => (whens.len(), otherwise.is_some()).hash(hasher),
        Expr::InList { function, list, all, negated, .. } => {
            (function.oid, list.len(), all, negated).hash(hasher);
        }
        Expr::AnyArray { function, all, .. } => (function.oid, all).hash(hasher),
        Expr::Field { index, .. } => index.hash(hasher),
        Expr::Extreme { greatest, .. } => greatest.hash(hasher),
        Expr::SetCall(call) => call.function.oid.hash(hasher),
        Expr::Subplan(call) => (call.subplan, discriminant(&call.kind)).hash(hasher),
        _ => {}
    }
    walk::children(expr, &mut |child| hash_expr(child, hasher));
}

/// Made of constants and parameters alone, by immutable functions: with literals it would have been folded.
fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Const { .. } | Expr::Param { .. } => true,
        Expr::Call(call) => {
            call.function.volatility == function::Volatility::Immutable
                && !call.function.waits
                && !call.function.system
                && !call.args.is_empty()
                && call.args.iter().all(is_value)
        }
        Expr::Convert(convert) => is_value(&convert.input),
        Expr::Not(input) | Expr::IsNull { input, .. } | Expr::IsBool { input, .. } => is_value(input),
        _ => false,
    }
}

fn has_parameter(expr: &Expr) -> bool {
    crate::expr::any(expr, &mut |node| matches!(node, Expr::Param { .. }))
}

/// Whether each of the `count` parameters still stands in the plan. One that was dropped with what it stood in (`... AND false`)
/// could have been an error of its own.
pub fn uses_all(plan: &Plan, count: usize) -> bool {
    let mut used = vec![false; count];
    for root in roots(plan) {
        each_node(root, &mut |node| {
            for expr in node.expressions() {
                crate::expr::visit(expr, 0, &mut |part, _| {
                    if let Expr::Param { index, .. } = part
                        && let Some(place) = used.get_mut(*index)
                    {
                        *place = true;
                    }
                });
            }
        });
    }
    used.into_iter().all(|used| used)
}

/// Whether other values of the parameters could have been folded into another plan, or into an error that must come
/// even if no row is read: a condition made of values alone, or a computation with them that may fail. Conversions to
/// the type of the other side are not meant: every value of a literal's type has one, or fails when it is bound.
pub fn folds(plan: &Plan) -> bool {
    let mut found = false;
    for root in roots(plan) {
        each_node(root, &mut |node| {
            for expr in node.expressions() {
                found = found || folds_in(expr);
            }
        });
    }
    found
}

fn folds_in(expr: &Expr) -> bool {
    let folds = match expr {
        Expr::Call(call) if is_value(expr) && has_parameter(expr) => {
            let conversion = call.args.len() == 1 && call.operator.is_none();
            call.ty.oid == oid::BOOL || call.function.fallible && !conversion
        }
        Expr::Not(_) | Expr::IsNull { .. } | Expr::IsBool { .. } => is_value(expr) && has_parameter(expr),
        Expr::Param { ty, .. } => ty.oid == oid::BOOL,
        // Arms that a constant decides go, or what is behind it.
        Expr::Coalesce { args, .. } => args.iter().any(|arg| is_value(arg) && has_parameter(arg)),
        _ => false,
    };
    let mut found = folds;
    walk::children(expr, &mut |child| found = found || folds_in(child));
    found
}

/// Whether an index of the table is chosen by what a condition says, not only by which columns it names.
pub fn has_conditional_index(table: &Table, context: &PlanContext<'_>) -> bool {
    let hidden = |column: i16| {
        usize::try_from(column - 1)
            .ok()
            .and_then(|place| table.columns.get(place))
            .is_none_or(|column| column.hidden)
    };
    context
        .names
        .catalog()
        .indexes(table.oid)
        .any(|index| index.predicate.is_some() || index.keys.iter().any(|key| hidden(key.column)))
}

/// How many rows one scan of a plan lets through, as far as that depends on the values of parameters.
pub struct Probe {
    base: Base,
    parts: Vec<Part>,
}

struct Part {
    column: usize,
    strategy: Strategy,
    /// Any of these parameters (IN), or the one.
    parameters: Vec<usize>,
}

/// The probes of a plan: none where the statistics say nothing that depends on a value. `None`: something depends on a
/// value in a way that no probe tells.
pub fn probes(plan: &Plan, context: &PlanContext<'_>) -> Option<Vec<Probe>> {
    let mut out = Vec::new();
    let mut clear = true;
    for root in roots(plan) {
        each_node(root, &mut |node| match &node.kind {
            NodeKind::Scan(scan) => {
                let base = base(&scan.table, scan.relation, context);
                let mut parts = Vec::new();
                clear &= filter_parts(&base, scan.filter.as_ref(), &scan.columns, &mut parts);
                finish(base, parts, &mut out);
            }
            NodeKind::IndexScan(scan) => {
                let base = base(&scan.table, scan.relation, context);
                let mut parts = Vec::new();
                clear &= index_parts(&base, scan, &mut parts)
                    && filter_parts(&base, scan.filter.as_ref(), &scan.columns, &mut parts);
                finish(base, parts, &mut out);
            }
            _ => {}
        });
    }
    clear.then_some(out)
}

fn base(table: &std::sync::Arc<Table>, relation: usize, context: &PlanContext<'_>) -> Base {
    Base {
        relation,
        table: table.clone(),
        statistics: (context.statistics)(table),
        indexes: crate::access::indexes(context.names.catalog(), table),
    }
}

fn finish(base: Base, parts: Vec<Part>, out: &mut Vec<Probe>) {
    if !parts.is_empty() {
        out.push(Probe { base, parts });
    }
}

/// The parameter that a value is, below conversions between widths of numbers.
fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Param { index, .. } => Some(*index),
        Expr::Convert(convert) => parameter(&convert.input),
        Expr::Call(call) if call.args.len() == 1 && call.operator.is_none() => parameter(&call.args[0]),
        _ => None,
    }
}

/// Adds a part if the estimate depends on its values; false when it does and they are not known.
fn add(base: &Base, column: usize, strategy: Strategy, values: &[&Expr], parts: &mut Vec<Part>) -> bool {
    if !base.depends_on_value(column, strategy) || !values.iter().any(|value| has_parameter(value)) {
        return true;
    }
    let parameters: Option<Vec<usize>> = values.iter().map(|value| parameter(value)).collect();
    match parameters {
        Some(parameters) => {
            parts.push(Part { column, strategy, parameters });
            true
        }
        None => false,
    }
}

fn index_parts(base: &Base, scan: &IndexScan, parts: &mut Vec<Part>) -> bool {
    let column = |place: usize| {
        scan.index.keys.get(place).and_then(|key| usize::try_from(key.column - 1).ok()).unwrap_or(0)
    };
    let mut clear = true;
    for (place, equal) in scan.equal.iter().enumerate() {
        clear &= equal.is_null || add(base, column(place), Strategy::Eq, &[&equal.value], parts);
    }
    let next = column(scan.equal.len());
    if let Some(low) = &scan.low {
        clear &= add(base, next, Strategy::Ge, &[&low.value], parts);
    }
    if let Some(high) = &scan.high {
        clear &= add(base, next, Strategy::Le, &[&high.value], parts);
    }
    if let Some(any) = &scan.any {
        clear &= add(base, next, Strategy::Eq, &any.iter().collect::<Vec<_>>(), parts);
    }
    clear
}

fn filter_parts(base: &Base, filter: Option<&Expr>, columns: &[usize], parts: &mut Vec<Part>) -> bool {
    let Some(filter) = filter else { return true };
    let slot = |expr: &Expr| -> Option<usize> {
        let mut expr = expr;
        while let Expr::Convert(convert) = expr {
            expr = &convert.input;
        }
        match expr {
            Expr::Slot { index, .. } => columns.get(*index).copied(),
            _ => None,
        }
    };
    match filter {
        Expr::And(all) => {
            let mut clear = true;
            for part in all {
                clear &= filter_parts(base, Some(part), columns, parts);
            }
            clear
        }
        Expr::InList { function, left, list, all: false, negated: false } => {
            match (slot(left), operator::strategy(function)) {
                (Some(column), Some(Strategy::Eq)) => {
                    add(base, column, Strategy::Eq, &list.iter().collect::<Vec<_>>(), parts)
                }
                _ => true,
            }
        }
        other => match operator::comparison(other) {
            Some((function, left, right)) => {
                let Some(strategy) = operator::strategy(function) else { return true };
                match (slot(left), slot(right)) {
                    (Some(column), None) => add(base, column, strategy, &[right], parts),
                    (None, Some(column)) => add(base, column, strategy.commuted(), &[left], parts),
                    _ => true,
                }
            }
            // Guesses that no value changes; OR is estimated from its arms, which values do change.
            None => {
                !(matches!(other, Expr::Or(_) | Expr::Not(_)) && has_parameter(other)) || base.is_unanalyzed()
            }
        },
    }
}

impl Probe {
    /// Rows for these values of the parameters.
    pub fn rows(&self, values: &[Datum]) -> f64 {
        let mut share = 1.0;
        let mut ranges: Vec<(usize, f64, bool)> = Vec::new();
        for part in &self.parts {
            let one = |parameter: &usize| {
                let value = values.get(*parameter).and_then(|v| self.base.comparable(part.column, v));
                self.base.share(part.column, part.strategy, value.as_ref())
            };
            let part_share = part.parameters.iter().map(one).sum::<f64>().min(1.0);
            match part.strategy {
                Strategy::Lt | Strategy::Le => ranges.push((part.column, part_share, false)),
                Strategy::Gt | Strategy::Ge => ranges.push((part.column, part_share, true)),
                Strategy::Eq | Strategy::Ne => share *= part_share,
            }
        }
        while let Some((column, first, low)) = ranges.pop() {
            // Both ends of a range come off one whole.
            let other = ranges.iter().position(|(c, _, other)| *c == column && *other != low);
            share *= match other {
                Some(place) => (first + ranges.swap_remove(place).1 - 1.0).max(0.0),
                None => first,
            };
        }
        self.base.rows() * share
    }

    /// Whether a plan made for `planned` rows is as good for `now`: within a factor of four, or few in both cases.
    pub fn close(planned: f64, now: f64) -> bool {
        const FEW: f64 = 100.0;
        let (low, high) = if planned < now { (planned, now) } else { (now, planned) };
        high <= FEW || high <= low.max(1.0) * 4.0
    }
}
