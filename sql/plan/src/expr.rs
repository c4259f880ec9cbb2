//! Questions about expressions, and rewriting them across query levels. The plain walkers are `resolve::walk`.

use resolve::tree::{Expr, Query, RelationKind};
use resolve::walk::{self, Part};
use value::Result;

pub use resolve::same;

/// Replaces every direct child by what `f` makes of it; the first error stays. Subqueries are left alone.
pub fn map_children(mut expr: Expr, f: &mut dyn FnMut(Expr) -> Result<Expr>) -> Result<Expr> {
    let mut failed = None;
    walk::children_mut(&mut expr, &mut |child| {
        if failed.is_none() {
            match f(std::mem::replace(child, Expr::And(Vec::new()))) {
                Ok(new) => *child = new,
                Err(error) => failed = Some(error),
            }
        }
    });
    match failed {
        None => Ok(expr),
        Some(error) => Err(error),
    }
}

/// Calls `f` on the expression and everything below it that belongs to the query at level 0: `f` gets each node
/// with the number of queries it is nested in (0: this one).
pub fn visit<'e>(expr: &'e Expr, level: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
    f(expr, level);
    walk::children(expr, &mut |child| visit(child, level, f));
    if let Expr::Sublink(sublink) = expr {
        visit_query(&sublink.query, level + 1, f);
    }
}

/// [`visit`] for every expression of a query and of the queries in it.
pub fn visit_query<'e>(query: &'e Query, level: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
    let (mut exprs, mut queries) = (Vec::new(), Vec::new());
    walk::query_parts(query, &mut |expr| exprs.push(expr), &mut |inner| queries.push(inner));
    exprs.into_iter().for_each(|expr| visit(expr, level, f));
    queries.into_iter().for_each(|inner| visit_query(inner, level + 1, f));
}

/// Whether any node of the expression (subqueries included) satisfies `f`.
pub fn any(expr: &Expr, f: &mut dyn FnMut(&Expr) -> bool) -> bool {
    let mut found = false;
    visit(expr, 0, &mut |node, _| found = found || f(node));
    found
}

/// Gives different values for the same row (or changes something): never moved, duplicated or cached.
pub fn is_volatile(expr: &Expr) -> bool {
    any(expr, &mut |node| match node {
        Expr::Call(call) => call.function.volatility == function::Volatility::Volatile,
        Expr::SetCall(call) => call.function.volatility == function::Volatility::Volatile,
        Expr::Sublink(sublink) => sublink.query.modify.is_some(),
        _ => false,
    })
}

/// May raise an error for some values: never evaluated on rows that an earlier condition excludes (rules 18).
pub fn is_fallible(expr: &Expr) -> bool {
    any(expr, &mut |node| match node {
        Expr::Call(call) => call.function.fallible,
        Expr::Convert(convert) => convert.kind != resolve::tree::ConvertKind::Relabel,
        Expr::Sublink(_) | Expr::Subplan(_) | Expr::Subscript { .. } => true,
        _ => false,
    })
}

pub fn has_sublink(expr: &Expr) -> bool {
    any(expr, &mut |node| matches!(node, Expr::Sublink(_)))
}

/// Splits nested ANDs into their parts.
pub fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::And(list) => list.into_iter().for_each(|part| conjuncts(part, out)),
        other => out.push(other),
    }
}

/// The conjunction of the parts; `None` for no parts.
pub fn and(mut parts: Vec<Expr>) -> Option<Expr> {
    match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(Expr::And(parts)),
    }
}

/// The column below binary-compatible conversions (text over varchar), if that is all there is.
pub fn bare_column(expr: &Expr) -> Option<(usize, usize)> {
    match expr {
        Expr::Column { levels_up: 0, relation, column, .. } => Some((*relation, *column)),
        Expr::Convert(convert) if convert.kind == resolve::tree::ConvertKind::Relabel => {
            bare_column(&convert.input)
        }
        _ => None,
    }
}

/// What [`rewrite`] does at each place. `level` is the number of queries between the place and the start.
pub trait Rewriter {
    /// Gets every expression before its children; `false` leaves the children alone.
    fn expr(&mut self, expr: &mut Expr, level: usize) -> bool;
    /// Gets every relation of the queries below.
    fn relation(&mut self, _kind: &mut RelationKind, _level: usize) {}
}

/// Runs a rewriter over an expression and the subqueries in it.
pub fn rewrite(expr: &mut Expr, level: usize, rewriter: &mut dyn Rewriter) {
    if !rewriter.expr(expr, level) {
        return;
    }
    walk::children_mut(expr, &mut |child| rewrite(child, level, rewriter));
    if let Expr::Sublink(sublink) = expr {
        rewrite_query(&mut sublink.query, level + 1, rewriter);
    }
}

/// [`rewrite`] over all expressions and relations of a query and of the queries in it.
pub fn rewrite_query(query: &mut Query, level: usize, rewriter: &mut dyn Rewriter) {
    for relation in &mut query.relations {
        rewriter.relation(&mut relation.kind, level);
    }
    walk::query_parts_mut(query, &mut |part| match part {
        Part::Expr(expr) => rewrite(expr, level, rewriter),
        Part::Query(inner) => rewrite_query(inner, level + 1, rewriter),
    });
}

/// Raises every reference that leaves the expression by `by` levels: it is about to stand that much deeper.
pub fn raise(expr: &mut Expr, by: usize) {
    struct Raise(usize);
    impl Rewriter for Raise {
        fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
            match expr {
                Expr::Column { levels_up, .. } | Expr::WholeRow { levels_up, .. } if *levels_up >= level => {
                    *levels_up += self.0
                }
                _ => {}
            }
            true
        }
        fn relation(&mut self, kind: &mut RelationKind, level: usize) {
            if let RelationKind::Cte { levels_up, .. } = kind
                && *levels_up >= level
            {
                *levels_up += self.0;
            }
        }
    }
    if by > 0 {
        rewrite(expr, 0, &mut Raise(by));
    }
}
