//! From the query tree to plan nodes: views and sublinks rewritten, predicates moved to where they are cheapest,
//! joins ordered by estimated cost, access paths chosen.
//!
//! The road of one query level: `flatten` rewrites the tree; `from` turns FROM and WHERE into a join graph (inner
//! joins and cross joins melt into one set of leaves with a list of conditions; outer, semi and anti joins stay where
//! they are); `join` orders it; `query` puts grouping, windows, DISTINCT, ORDER BY and LIMIT on top; `modify`
//! wraps INSERT, UPDATE and DELETE around it, with the re-check plan of rules 13.
//!
//! Correlation: a column of a query further out becomes an [`resolve::tree::Expr::Outer`] parameter. Whoever runs the inner part once per
//! outer row (a subplan call, a nested loop) binds it. The same parameters serve LATERAL and index nested loops.

mod access;
mod estimate;
pub mod expr;
mod flatten;
mod from;
pub mod ir;
mod join;
mod modify;
mod node;
mod operator;
mod query;
pub mod template;

use std::collections::HashMap;
use std::sync::Arc;

use engine::TableStatistics;
use engine::catalog::{Table, View};
use resolve::Names;
use resolve::tree::{Expr, Query, RelationKind};
use value::Result;

pub use estimate::cost;
pub use operator::strategy;

/// What planning asks of its surroundings.
pub struct PlanContext<'a> {
    pub names: &'a dyn Names,
    /// Row counts and what ANALYZE found.
    pub statistics: &'a dyn Fn(&Table) -> Arc<TableStatistics>,
}

/// Plans a statement that reads or changes rows.
pub fn plan(query: &Query, context: &PlanContext<'_>) -> Result<ir::Plan> {
    let mut planner = Planner {
        context,
        subplans: Vec::new(),
        independent: HashMap::new(),
        ctes: Vec::new(),
        outers: Vec::new(),
        outer_of: HashMap::new(),
        recursions: 0,
        tables: Vec::new(),
        levels: Vec::new(),
        next_level: 0,
    };
    let mut views = Vec::new();
    collect_views(query, &mut views);
    let root = planner.statement(query)?;
    let output = match &query.modify {
        Some(modify) => output_of(&modify.returning),
        None => output_of(&query.targets),
    };
    let mut volatile = query.modify.is_some() || !query.locks.is_empty();
    expr::visit_query(query, 0, &mut |node, _| {
        volatile |= match node {
            Expr::Call(call) => call.function.volatility == function::Volatility::Volatile,
            Expr::SetCall(call) => call.function.volatility == function::Volatility::Volatile,
            _ => false,
        }
    });
    volatile |= planner.ctes.iter().any(|cte| cte.modifies);
    Ok(ir::Plan {
        root,
        subplans: planner.subplans,
        ctes: planner.ctes,
        outers: planner.outers.len(),
        output,
        tables: planner.tables,
        views,
        volatile,
    })
}

/// The views of a query and of all queries in it.
fn collect_views(query: &Query, out: &mut Vec<(Arc<View>, Option<value::Oid>)>) {
    for relation in &query.relations {
        if let RelationKind::View { view, .. } = &relation.kind
            && !out.iter().any(|(known, role)| known.oid == view.oid && *role == relation.check_as)
        {
            out.push((view.clone(), relation.check_as));
        }
    }
    let (mut exprs, mut queries) = (Vec::new(), Vec::new());
    resolve::walk::query_parts(query, &mut |expr| exprs.push(expr), &mut |inner| queries.push(inner));
    for expr in exprs {
        each_sublink(expr, &mut |inner| queries.push(inner));
    }
    queries.into_iter().for_each(|inner| collect_views(inner, out));
}

fn each_sublink<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Query)) {
    if let Expr::Sublink(sublink) = expr {
        f(&sublink.query);
    }
    resolve::walk::children(expr, &mut |child| each_sublink(child, f));
}

fn output_of(targets: &[resolve::tree::Target]) -> Vec<resolve::tree::OutputColumn> {
    targets
        .iter()
        .filter(|target| !target.hidden)
        .map(|target| resolve::tree::OutputColumn { name: target.name.clone(), ty: target.expr.ty() })
        .collect()
}

/// State of planning one statement.
struct Planner<'a> {
    context: &'a PlanContext<'a>,
    subplans: Vec<ir::Subplan>,
    /// The subplans of sublinks that depend on no row, for the re-check: it shares their results.
    independent: HashMap<u64, usize>,
    ctes: Vec<ir::Cte>,
    /// Correlation parameters: which column of which level each stands for.
    outers: Vec<OuterColumn>,
    outer_of: HashMap<(usize, Item), usize>,
    recursions: usize,
    tables: Vec<ir::TableUse>,
    /// The queries being planned, outermost first.
    levels: Vec<Level>,
    next_level: usize,
}

#[derive(Clone, Copy)]
struct OuterColumn {
    level: usize,
    item: Item,
}

/// One query being planned.
struct Level {
    /// Unique within the statement.
    id: usize,
    ctes: Vec<CteUse>,
    /// Columns of join aliases and USING, as expressions over base relations.
    join_columns: HashMap<usize, Vec<Expr>>,
    /// Columns read of each relation, ascending.
    needed: HashMap<usize, Vec<usize>>,
    /// Relations whose row id (of other things than tables: whose row, as a record) is carried along.
    row_ids: Vec<usize>,
    /// Types of the columns of each relation.
    types: Vec<Vec<value::Type>>,
    /// The base tables among the relations.
    bases: HashMap<usize, estimate::Base>,
    /// Those are replaced by pinned rows (rules 13).
    pinned: bool,
}

#[derive(Clone)]
enum CteUse {
    /// Entry of [`ir::Plan::ctes`].
    Shared { index: usize, rows: f64 },
    /// Planned anew at each reference.
    Inline(Arc<resolve::tree::Cte>),
    /// Inside its own recursive arm.
    WorkTable { recursion: usize, rows: f64 },
}

/// What a slot of a join tree holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    Column { relation: usize, column: usize },
    RowId { relation: usize },
}

/// A node and what its slots hold.
struct Part {
    node: ir::Node,
    layout: Vec<Item>,
}
