//! Questions about a piece of a plan: does it read correlation parameters, does it call anything volatile.

use function::Volatility;
use plan::ir::*;
use resolve::tree::{Expr, FrameBound, SubplanKind, Subscript};

/// Calls `f` for every expression that stands directly in a node.
pub(crate) fn node_exprs<'a>(node: &'a Node, f: &mut dyn FnMut(&'a Expr)) {
    let orders =
        |orders: &'a [Order], f: &mut dyn FnMut(&'a Expr)| orders.iter().for_each(|order| f(&order.expr));
    match &node.kind {
        NodeKind::Once { condition } => condition.iter().for_each(f),
        NodeKind::Values { rows } => rows.iter().flatten().for_each(f),
        NodeKind::Scan(scan) => scan.filter.iter().for_each(f),
        NodeKind::IndexScan(scan) => {
            scan.equal.iter().for_each(|equal| f(&equal.value));
            scan.low.iter().chain(&scan.high).for_each(|bound| f(&bound.value));
            scan.any.iter().flatten().for_each(&mut *f);
            scan.any_array.iter().chain(&scan.filter).for_each(f);
        }
        NodeKind::SystemScan { filter, .. } => filter.iter().for_each(f),
        NodeKind::FunctionScan { calls, .. } => calls.iter().for_each(f),
        NodeKind::Filter { predicate, .. } => f(predicate),
        NodeKind::Project { exprs, .. } | NodeKind::ProjectSet { exprs, .. } => exprs.iter().for_each(f),
        NodeKind::NestedLoop(join) => {
            join.bindings.iter().for_each(|(_, expr)| f(expr));
            join.condition.iter().for_each(f);
        }
        NodeKind::HashJoin(join) => {
            join.keys.iter().for_each(|(left, right)| {
                f(left);
                f(right);
            });
            join.condition.iter().for_each(f);
        }
        NodeKind::Aggregate(aggregation) => {
            aggregation.keys.iter().for_each(&mut *f);
            for step in &aggregation.aggregates {
                step.args.iter().chain(&step.direct_args).chain(&step.filter).for_each(&mut *f);
                orders(&step.order_by, f);
            }
        }
        NodeKind::Window(window) => {
            window.partition_by.iter().for_each(&mut *f);
            orders(&window.order_by, f);
            for bound in [&window.frame.start, &window.frame.end] {
                if let FrameBound::Preceding(expr) | FrameBound::Following(expr) = bound {
                    f(expr);
                }
            }
            for call in &window.calls {
                call.args.iter().chain(&call.filter).for_each(&mut *f);
            }
        }
        NodeKind::Sort { keys, limit, .. } => {
            orders(keys, f);
            limit.iter().for_each(f);
        }
        NodeKind::Limit { limit, offset, ties, .. } => {
            limit.iter().chain(offset).for_each(&mut *f);
            if let Some(ties) = ties {
                orders(ties, f);
            }
        }
        NodeKind::DistinctOn { keys, .. } => keys.iter().for_each(f),
        NodeKind::Modify(modify) => {
            modify.returning.iter().flatten().for_each(&mut *f);
            modify.computed.iter().for_each(|(_, expr)| f(expr));
            modify.checks.iter().for_each(|check| f(&check.expr));
        }
        NodeKind::CteScan { .. }
        | NodeKind::WorkTable { .. }
        | NodeKind::Pinned { .. }
        | NodeKind::Distinct { .. }
        | NodeKind::SetOperation { .. }
        | NodeKind::Append { .. }
        | NodeKind::RecursiveUnion { .. }
        | NodeKind::LockRows(_) => {}
    }
}

/// Calls `f` for every input of a node, in order.
pub(crate) fn children<'a>(node: &'a Node, f: &mut dyn FnMut(&'a Node)) {
    match &node.kind {
        NodeKind::Filter { input, .. }
        | NodeKind::Project { input, .. }
        | NodeKind::ProjectSet { input, .. }
        | NodeKind::Sort { input, .. }
        | NodeKind::Limit { input, .. }
        | NodeKind::Distinct { input }
        | NodeKind::DistinctOn { input, .. } => f(input),
        NodeKind::NestedLoop(join) => {
            f(&join.left);
            f(&join.right);
        }
        NodeKind::HashJoin(join) => {
            f(&join.left);
            f(&join.right);
        }
        NodeKind::Aggregate(aggregation) => f(&aggregation.input),
        NodeKind::Window(window) => f(&window.input),
        NodeKind::SetOperation { left, right, .. } => {
            f(left);
            f(right);
        }
        NodeKind::Append { inputs } => inputs.iter().for_each(f),
        NodeKind::RecursiveUnion { initial, recursive, .. } => {
            f(initial);
            f(recursive);
        }
        NodeKind::LockRows(lock) => f(&lock.input),
        NodeKind::Modify(modify) => f(&modify.input),
        NodeKind::Once { .. }
        | NodeKind::Values { .. }
        | NodeKind::Scan(_)
        | NodeKind::IndexScan(_)
        | NodeKind::SystemScan { .. }
        | NodeKind::FunctionScan { .. }
        | NodeKind::CteScan { .. }
        | NodeKind::WorkTable { .. }
        | NodeKind::Pinned { .. } => {}
    }
}

/// Calls `f` for an expression and everything in it, without recursion (chains can be very long).
pub(crate) fn each_expr<'a>(root: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    let mut stack = vec![root];
    while let Some(expr) = stack.pop() {
        f(expr);
        match expr {
            Expr::Call(call) => stack.extend(&call.args),
            Expr::Convert(convert) => stack.push(&convert.input),
            Expr::And(parts) | Expr::Or(parts) => stack.extend(parts),
            Expr::Not(input)
            | Expr::IsNull { input, .. }
            | Expr::IsBool { input, .. }
            | Expr::Field { input, .. } => stack.push(input),
            Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
                stack.push(left);
                stack.push(right);
            }
            Expr::Case { whens, otherwise, .. } => {
                for (condition, result) in whens {
                    stack.push(condition);
                    stack.push(result);
                }
                stack.extend(otherwise.as_deref());
            }
            Expr::Coalesce { args, .. } | Expr::Extreme { args, .. } => stack.extend(args),
            Expr::InList { left, list, .. } => {
                stack.push(left);
                stack.extend(list);
            }
            Expr::AnyArray { left, array, .. } => {
                stack.push(left);
                stack.push(array);
            }
            Expr::Array { elements, .. } => stack.extend(elements),
            Expr::Row { fields, .. } => stack.extend(fields),
            Expr::Subscript { input, subscripts, .. } => {
                stack.push(input);
                for subscript in subscripts {
                    match subscript {
                        Subscript::Index(expr) => stack.push(expr),
                        Subscript::Slice(low, high) => stack.extend(low.iter().chain(high)),
                    }
                }
            }
            Expr::SetCall(call) => stack.extend(&call.args),
            Expr::Subplan(call) => {
                stack.extend(call.bindings.iter().map(|(_, expr)| expr));
                if let SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } = &call.kind {
                    stack.extend(tests);
                }
            }
            Expr::Const { .. }
            | Expr::Column { .. }
            | Expr::RowId { .. }
            | Expr::WholeRow { .. }
            | Expr::Param { .. }
            | Expr::Aggregate(_)
            | Expr::Window(_)
            | Expr::Grouping(_)
            | Expr::Sublink(_)
            | Expr::Slot { .. }
            | Expr::Outer { .. } => {}
        }
    }
}

/// What a piece of a plan depends on besides the snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// Correlation parameters it reads, sorted; without those that it sets for itself.
    pub outers: Vec<usize>,
    /// Calls something volatile.
    pub volatile: bool,
    /// Reads the work table of a recursion around it.
    pub work_table: bool,
    /// Locks rows, or calls a function that waits.
    pub locks: bool,
    /// Reads rows that a re-check has pinned, others each time.
    pub pinned: bool,
}

/// Whether an expression calls something that waits, itself or in a subplan that depends on the row around it. (Others
/// are run before everything else, by the driver.)
pub(crate) fn waits(plan: &Plan, expr: &Expr) -> bool {
    let mut found = false;
    each_expr(expr, &mut |expr| match expr {
        Expr::Call(call) => found |= call.function.waits,
        Expr::Subplan(call) if !found => {
            let subplan = &plan.subplans[call.subplan];
            found = !subplan.parameters.is_empty() && needs(plan, &subplan.root).locks;
        }
        _ => {}
    });
    found
}

/// Whether a plan locks rows or calls what waits somewhere: only a [`crate::Driver`] can run it.
pub fn needs_driver(plan: &Plan) -> bool {
    needs(plan, &plan.root).locks
}

/// See [`Needs`]. Follows subplans and CTEs.
pub(crate) fn needs(plan: &Plan, root: &Node) -> Needs {
    let mut needs = Needs::default();
    let mut read = Vec::new();
    let mut bound = Vec::new();
    let mut recursions = Vec::new();
    let mut tables = Vec::new();
    let mut nodes = vec![root];
    let mut seen_subplans = vec![false; plan.subplans.len()];
    let mut seen_ctes = vec![false; plan.ctes.len()];
    while let Some(node) = nodes.pop() {
        match &node.kind {
            NodeKind::NestedLoop(join) => bound.extend(join.bindings.iter().map(|(outer, _)| *outer)),
            NodeKind::CteScan { cte } => {
                if let Some(seen) = seen_ctes.get_mut(*cte)
                    && !std::mem::replace(seen, true)
                    && !plan.ctes[*cte].modifies
                {
                    nodes.push(&plan.ctes[*cte].root);
                }
            }
            NodeKind::WorkTable { recursion } => tables.push(*recursion),
            NodeKind::RecursiveUnion { recursion, .. } => recursions.push(*recursion),
            NodeKind::LockRows(_) => needs.locks = true,
            NodeKind::Pinned { .. } => needs.pinned = true,
            _ => {}
        }
        let mut subplans = Vec::new();
        node_exprs(node, &mut |root| {
            each_expr(root, &mut |expr| match expr {
                Expr::Outer { index, .. } => read.push(*index),
                Expr::Call(call) => {
                    needs.volatile |= call.function.volatility == Volatility::Volatile;
                    needs.locks |= call.function.waits;
                }
                Expr::SetCall(call) => needs.volatile |= call.function.volatility == Volatility::Volatile,
                Expr::Subplan(call) => {
                    bound.extend(call.bindings.iter().map(|(outer, _)| *outer));
                    subplans.push(call.subplan);
                }
                _ => {}
            });
        });
        for subplan in subplans {
            if let Some(seen) = seen_subplans.get_mut(subplan)
                && !std::mem::replace(seen, true)
            {
                nodes.push(&plan.subplans[subplan].root);
            }
        }
        children(node, &mut |child| nodes.push(child));
    }
    read.retain(|outer| !bound.contains(outer));
    read.sort_unstable();
    read.dedup();
    needs.outers = read;
    needs.work_table = tables.iter().any(|table| !recursions.contains(table));
    needs
}
