//! Rewrites of the query tree that give the join planner more to work with:
//! - simple subqueries and views in FROM become part of the query around them, so that their tables take part in join
//!   ordering and conditions reach their indexes;
//! - what every arm of an OR asks for is asked once, outside of it;
//! - conditions on other subqueries move into them where that changes nothing;
//! - a correlated scalar aggregate in WHERE becomes a join with a grouped subquery (Kim's method, restricted to
//!   aggregates that are NULL over no rows, where a left join gives the same NULL).

use std::collections::BTreeMap;

use function::{OnEmpty, Strategy};
use resolve::tree::{
    Distinct, Expr, FromItem, Join, JoinKind, OutputColumn, Query, Relation, RelationKind, SublinkKind,
    Target,
};

use crate::expr::{self, Rewriter};
use crate::operator;

/// Applies all of them to `query` (not to the queries inside; they get their turn when they are planned).
pub fn flatten(query: &mut Query) {
    pull_up(query);
    if let Some(filter) = query.filter.take() {
        let (mut parts, mut factored) = (Vec::new(), Vec::new());
        expr::conjuncts(filter, &mut parts);
        parts.into_iter().for_each(|part| factor(part, &mut factored));
        query.filter = expr::and(factored);
    }
    decorrelate_scalars(query);
    push_into_subqueries(query);
}

/// Replaces columns of one relation by expressions, at any depth.
struct Substitute<'a> {
    relation: usize,
    by: &'a [Target],
}

impl Rewriter for Substitute<'_> {
    fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
        match expr {
            Expr::Column { levels_up, relation, column, .. }
                if *levels_up == level && *relation == self.relation =>
            {
                let mut target = self.by[*column].expr.clone();
                expr::raise(&mut target, level);
                *expr = target;
                false
            }
            Expr::WholeRow { levels_up, relation, ty }
                if *levels_up == level && *relation == self.relation =>
            {
                let fields = self.by.iter().filter(|target| !target.hidden).map(|target| {
                    let mut field = target.expr.clone();
                    expr::raise(&mut field, level);
                    field
                });
                *expr = Expr::Row { fields: fields.collect(), ty: *ty };
                false
            }
            _ => true,
        }
    }
}

/// Moves a query's contents one level up: its own relations get `offset` more, what referred to the query around it
/// now refers to its own level.
pub struct Lift {
    pub offset: usize,
}

impl Rewriter for Lift {
    fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
        match expr {
            Expr::Column { levels_up, relation, .. } | Expr::WholeRow { levels_up, relation, .. } => {
                if *levels_up == level {
                    *relation += self.offset;
                } else if *levels_up > level {
                    *levels_up -= 1;
                }
            }
            Expr::RowId { relation } if level == 0 => *relation += self.offset,
            _ => {}
        }
        true
    }

    fn relation(&mut self, kind: &mut RelationKind, level: usize) {
        if let RelationKind::Cte { levels_up, .. } = kind
            && *levels_up > level
        {
            *levels_up -= 1;
        }
    }
}

/// Nothing but a join of relations with a filter: its parts can stand in another query.
pub fn is_simple(query: &Query) -> bool {
    query.ctes.is_empty()
        && query.group_keys.is_empty()
        && query.grouping_sets.is_empty()
        && !query.has_aggregates
        && query.having.is_none()
        && query.windows.is_empty()
        && !query.has_set_functions
        && matches!(query.distinct, Distinct::No)
        && query.set_operation.is_none()
        && query.limit.is_none()
        && query.offset.is_none()
        && query.locks.is_empty()
        && query.modify.is_none()
        && !query
            .relations
            .iter()
            .any(|relation| matches!(relation.kind, RelationKind::Cte { levels_up: 0, .. }))
}

fn pull_up(query: &mut Query) {
    while let Some(number) = query.from.iter().find_map(|item| candidate(query, item, Place::Inner)) {
        pull_up_relation(query, number);
    }
}

/// Where an item stands: inner joins only above it; on the kept side of an outer join; on its NULL-extended side.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Inner,
    Kept,
    Nullable,
}

/// The first subquery below the item that can become part of the query.
fn candidate(query: &Query, item: &FromItem, place: Place) -> Option<usize> {
    match item {
        FromItem::Join(join) => {
            let (left, right) = match (join.kind, place) {
                (JoinKind::Inner, place) => (place, place),
                (JoinKind::Left, Place::Nullable) => (Place::Nullable, Place::Nullable),
                (JoinKind::Left, _) => (Place::Kept, Place::Nullable),
                (JoinKind::Right, Place::Nullable) => (Place::Nullable, Place::Nullable),
                (JoinKind::Right, _) => (Place::Nullable, Place::Kept),
                (JoinKind::Full, _) => (Place::Nullable, Place::Nullable),
            };
            candidate(query, &join.left, left).or_else(|| candidate(query, &join.right, right))
        }
        FromItem::Relation(number) => {
            let relation = &query.relations[*number];
            let (RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. }) =
                &relation.kind
            else {
                return None;
            };
            // A locked view or subquery keeps its shape: locks name relations by number.
            let fixed = relation.lateral
                || !is_simple(subquery)
                || subquery.from.is_empty()
                || query.locks.iter().any(|lock| lock.relations.contains(number));
            let opaque = |target: &Target| expr::is_volatile(&target.expr) || expr::has_sublink(&target.expr);
            if fixed || subquery.targets.iter().any(opaque) {
                return None;
            }
            let all_bare = subquery
                .targets
                .iter()
                .all(|target| matches!(target.expr, Expr::Column { levels_up: 0, .. }));
            let single = subquery.filter.is_none() && subquery.from.len() == 1;
            let allowed = match place {
                Place::Inner => true,
                Place::Kept => single,
                Place::Nullable => all_bare && single,
            };
            allowed.then_some(*number)
        }
    }
}

/// Puts the relations and the filter of a subquery into the query around it.
fn pull_up_relation(query: &mut Query, number: usize) {
    let gone = RelationKind::Values(Vec::new());
    let (RelationKind::Subquery(mut subquery) | RelationKind::View { query: mut subquery, .. }) =
        std::mem::replace(&mut query.relations[number].kind, gone)
    else {
        return;
    };
    let offset = query.relations.len();
    expr::rewrite_query(&mut subquery, 0, &mut Lift { offset });
    expr::rewrite_query(query, 0, &mut Substitute { relation: number, by: &subquery.targets });
    query.relations.append(&mut subquery.relations);
    let mut parts = subquery.from.into_iter().map(|mut part| {
        renumber(&mut part, offset);
        part
    });
    let Some(first) = parts.next() else { return };
    let merged = parts.fold(first, |left, right| {
        FromItem::Join(Box::new(Join { kind: JoinKind::Inner, left, right, condition: None }))
    });
    fn put(item: &mut FromItem, number: usize, merged: &FromItem) {
        match item {
            FromItem::Relation(other) if *other == number => *item = merged.clone(),
            FromItem::Relation(_) => {}
            FromItem::Join(join) => {
                put(&mut join.left, number, merged);
                put(&mut join.right, number, merged);
            }
        }
    }
    query.from.iter_mut().for_each(|item| put(item, number, &merged));
    if let Some(filter) = subquery.filter {
        let mut all = Vec::new();
        query.filter.take().into_iter().for_each(|filter| expr::conjuncts(filter, &mut all));
        expr::conjuncts(filter, &mut all);
        query.filter = expr::and(all);
    }
}

pub fn renumber(item: &mut FromItem, offset: usize) {
    match item {
        FromItem::Relation(number) => *number += offset,
        FromItem::Join(join) => {
            renumber(&mut join.left, offset);
            renumber(&mut join.right, offset);
        }
    }
}

/// `x > (SELECT avg(y) FROM t WHERE t.k = outer.k)`: see the head of the file.
fn decorrelate_scalars(query: &mut Query) {
    if query.modify.is_some() || query.from.is_empty() || !query.locks.is_empty() {
        return;
    }
    let Some(mut filter) = query.filter.take() else { return };
    let mut found = Vec::new();
    struct Find<'a> {
        first_relation: usize,
        found: &'a mut Vec<(Query, Vec<(Expr, Expr)>)>,
    }
    impl Rewriter for Find<'_> {
        fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
            // Only where it is evaluated for every row anyway.
            if level > 0 || matches!(expr, Expr::Case { .. } | Expr::Coalesce { .. } | Expr::Or(_)) {
                return false;
            }
            if let Expr::Sublink(sublink) = expr
                && matches!(sublink.kind, SublinkKind::Scalar)
                && let Some((grouped, keys)) = grouped(&sublink.query)
            {
                let ty = sublink.ty;
                let relation = self.first_relation + self.found.len();
                self.found.push((grouped, keys));
                *expr = Expr::Column { levels_up: 0, relation, column: 0, ty };
                return false;
            }
            true
        }
    }
    let first_relation = query.relations.len();
    expr::rewrite(&mut filter, 0, &mut Find { first_relation, found: &mut found });
    query.filter = Some(filter);
    for (subquery, keys) in found {
        let number = query.relations.len();
        let columns: Vec<OutputColumn> = subquery
            .targets
            .iter()
            .map(|target| OutputColumn { name: target.name.clone(), ty: target.expr.ty() })
            .collect();
        let condition = keys
            .into_iter()
            .enumerate()
            .filter_map(|(i, (outer, template))| {
                let inner =
                    Expr::Column { levels_up: 0, relation: number, column: i + 1, ty: columns[i + 1].ty };
                operator::with_sides(template, outer, inner)
            })
            .collect();
        query.relations.push(Relation {
            kind: RelationKind::Subquery(Box::new(subquery)),
            name: String::from("subquery"),
            columns,
            lateral: false,
            check_as: None,
            selected: Vec::new(),
        });
        let mut items = std::mem::take(&mut query.from).into_iter();
        let mut left = items.next().unwrap_or(FromItem::Relation(number));
        for item in items {
            left =
                FromItem::Join(Box::new(Join { kind: JoinKind::Inner, left, right: item, condition: None }));
        }
        query.from = vec![FromItem::Join(Box::new(Join {
            kind: JoinKind::Left,
            left,
            right: FromItem::Relation(number),
            condition: expr::and(condition),
        }))];
    }
}

/// The subquery grouped by what it was correlated on, and per key the outer expression and the equality it came from.
fn grouped(query: &Query) -> Option<(Query, Vec<(Expr, Expr)>)> {
    let plain = query.ctes.is_empty()
        && query.group_keys.is_empty()
        && query.grouping_sets.is_empty()
        && query.has_aggregates
        && query.having.is_none()
        && query.windows.is_empty()
        && !query.has_set_functions
        && matches!(query.distinct, Distinct::No)
        && query.set_operation.is_none()
        && query.limit.is_none()
        && query.offset.is_none()
        && query.modify.is_none()
        && query.targets.len() == 1;
    if !plain || !null_over_nothing(&query.targets[0].expr) {
        return None;
    }
    let mut parts = Vec::new();
    expr::conjuncts(query.filter.clone()?, &mut parts);
    let (mut kept, mut keys) = (Vec::new(), Vec::new());
    for part in parts {
        if !refers_up(&part) {
            kept.push(part);
            continue;
        }
        let (function, left, right) = operator::comparison(&part)?;
        if operator::strategy(function)? != Strategy::Eq {
            return None;
        }
        let (inner, outer) = if refers_up(right) { (left, right) } else { (right, left) };
        if refers_up(inner) || !only_one_up(outer) || expr::has_sublink(inner) || expr::has_sublink(outer) {
            return None;
        }
        let mut lowered = outer.clone();
        lower(&mut lowered);
        keys.push((inner.clone(), lowered, part.clone()));
    }
    if keys.is_empty() {
        return None;
    }
    let mut grouped = query.clone();
    grouped.filter = expr::and(kept);
    // Nothing else may look outside.
    let mut elsewhere = false;
    expr::visit_query(&grouped, 0, &mut |node, level| {
        if let Expr::Column { levels_up, .. } | Expr::WholeRow { levels_up, .. } = node {
            elsewhere |= *levels_up > level;
        }
    });
    if elsewhere {
        return None;
    }
    grouped.grouping_sets = vec![(0..keys.len()).collect()];
    for (i, (inner, _, _)) in keys.iter().enumerate() {
        grouped.group_keys.push(inner.clone());
        grouped.targets.push(Target { expr: inner.clone(), name: format!("key{i}"), hidden: false });
    }
    Some((grouped, keys.into_iter().map(|(_, outer, template)| (outer, template)).collect()))
}

/// The expression is NULL when all its aggregates are: strict operations over aggregates that are NULL over no rows.
fn null_over_nothing(expr: &Expr) -> bool {
    fn strict(expr: &Expr) -> bool {
        match expr {
            Expr::Aggregate(call) => call.aggregate.on_empty == OnEmpty::Null && call.levels_up == 0,
            Expr::Const { .. } | Expr::Param { .. } => true,
            Expr::Call(call) => call.function.strict && call.args.iter().all(strict),
            Expr::Convert(convert) => strict(&convert.input),
            _ => false,
        }
    }
    strict(expr) && expr::any(expr, &mut |node| matches!(node, Expr::Aggregate(_)))
}

fn refers_up(expr: &Expr) -> bool {
    let mut found = false;
    expr::visit(expr, 0, &mut |node, level| {
        if let Expr::Column { levels_up, .. } | Expr::WholeRow { levels_up, .. } = node {
            found |= *levels_up > level;
        }
    });
    found
}

/// Every column is of the query directly around.
fn only_one_up(expr: &Expr) -> bool {
    let mut fine = true;
    expr::visit(expr, 0, &mut |node, level| match node {
        Expr::Column { levels_up, .. } => fine &= *levels_up == level + 1,
        Expr::WholeRow { .. } => fine = false,
        _ => {}
    });
    fine
}

/// Takes an expression over the query around to stand in that query.
fn lower(expr: &mut Expr) {
    struct Lower;
    impl Rewriter for Lower {
        fn expr(&mut self, expr: &mut Expr, _level: usize) -> bool {
            if let Expr::Column { levels_up, .. } = expr {
                *levels_up -= 1;
            }
            true
        }
    }
    expr::rewrite(expr, 0, &mut Lower);
}

/// A condition on the output of one subquery filters its input instead, where it means the same: no LIMIT, no windows, no
/// DISTINCT ON, no set-returning targets; with grouping only conditions on group keys; into every arm of a UNION ALL.
fn push_into_subqueries(query: &mut Query) {
    let Some(filter) = query.filter.take() else { return };
    let mut top: Vec<usize> = Vec::new();
    fn inner_relations(item: &FromItem, out: &mut Vec<usize>) {
        match item {
            FromItem::Relation(number) => out.push(*number),
            FromItem::Join(join) => match join.kind {
                JoinKind::Inner => {
                    inner_relations(&join.left, out);
                    inner_relations(&join.right, out);
                }
                JoinKind::Left => inner_relations(&join.left, out),
                JoinKind::Right => inner_relations(&join.right, out),
                JoinKind::Full => {}
            },
        }
    }
    query.from.iter().for_each(|item| inner_relations(item, &mut top));
    let (mut parts, mut kept) = (Vec::new(), Vec::new());
    expr::conjuncts(filter, &mut parts);
    let mut pushed: BTreeMap<usize, Vec<Expr>> = BTreeMap::new();
    for part in parts {
        let target = only_relation(&part)
            .filter(|number| top.contains(number) && !expr::is_volatile(&part) && !expr::has_sublink(&part));
        let inner = target.and_then(|number| match &query.relations[number].kind {
            RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. } => {
                Some((number, pushable(subquery, number, &part)?))
            }
            _ => None,
        });
        match inner {
            Some((number, inner)) => pushed.entry(number).or_default().push(inner),
            None => kept.push(part),
        }
    }
    for (number, mut inner) in pushed {
        if let RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. } =
            &mut query.relations[number].kind
        {
            let mut all = Vec::new();
            subquery.filter.take().into_iter().for_each(|filter| expr::conjuncts(filter, &mut all));
            all.append(&mut inner);
            subquery.filter = expr::and(all);
        }
    }
    query.filter = expr::and(kept);
}

/// The one relation of this query that the expression reads, if it is one.
fn only_relation(expr: &Expr) -> Option<usize> {
    let (mut one, mut fine) = (None, true);
    expr::visit(expr, 0, &mut |node, level| match node {
        Expr::Column { levels_up, relation, .. } if *levels_up == level => match one {
            None => one = Some(*relation),
            Some(other) => fine &= other == *relation,
        },
        // References further out would need raising; left alone.
        Expr::Column { .. } | Expr::WholeRow { .. } | Expr::RowId { .. } => fine = false,
        _ => {}
    });
    one.filter(|_| fine)
}

/// The condition as one inside the subquery, if it may stand there.
fn pushable(subquery: &Query, number: usize, part: &Expr) -> Option<Expr> {
    let closed = subquery.limit.is_none()
        && subquery.offset.is_none()
        && subquery.windows.is_empty()
        && !subquery.has_set_functions
        && !matches!(subquery.distinct, Distinct::On(_))
        && subquery.locks.is_empty()
        && subquery.modify.is_none()
        && subquery.set_operation.is_none();
    if !closed {
        return None;
    }
    let grouped = !subquery.grouping_sets.is_empty() || subquery.has_aggregates;
    if grouped && subquery.grouping_sets.len() != 1 {
        return None;
    }
    let mut columns = Vec::new();
    expr::visit(part, 0, &mut |node, _| {
        if let Expr::Column { column, .. } = node {
            columns.push(*column);
        }
    });
    let fits = columns.iter().all(|column| {
        let target = &subquery.targets[*column].expr;
        let is_key = || subquery.group_keys.iter().any(|key| expr::same(key, target));
        !expr::is_volatile(target) && !expr::has_sublink(target) && (!grouped || is_key())
    });
    if !fits {
        return None;
    }
    let mut part = part.clone();
    expr::rewrite(&mut part, 0, &mut Substitute { relation: number, by: &subquery.targets });
    Some(part)
}

/// `(a AND b) OR (a AND c)` is `a AND (b OR c)`: what all arms ask for can then be a join key or an index bound. An arm that
/// asks for nothing else makes the rest of the OR true.
fn factor(part: Expr, out: &mut Vec<Expr>) {
    let Expr::Or(arms) = part else { return out.push(part) };
    if arms.len() > MOST_ARMS || !arms.iter().all(|arm| matches!(arm, Expr::And(_))) {
        return out.push(Expr::Or(arms));
    }
    let mut split: Vec<Vec<Expr>> = arms
        .into_iter()
        .map(|arm| {
            let mut parts = Vec::new();
            expr::conjuncts(arm, &mut parts);
            parts
        })
        .collect();
    let common: Vec<Expr> = split[0]
        .iter()
        .filter(|part| !expr::is_volatile(part) && !expr::is_fallible(part))
        .filter(|part| split[1..].iter().all(|arm| arm.iter().any(|other| expr::same(part, other))))
        .cloned()
        .collect();
    for arm in &mut split {
        arm.retain(|part| !common.iter().any(|shared| expr::same(shared, part)));
    }
    out.extend(common);
    if split.iter().all(|arm| !arm.is_empty()) {
        out.push(Expr::Or(split.into_iter().filter_map(expr::and).collect()));
    }
}

/// Arms of an OR that are searched for common parts; longer ones are lists, not join conditions.
const MOST_ARMS: usize = 100;
