//! Walking over expressions and queries: what every pass that looks for something shares.

use crate::tree::{
    ConflictAction, Expr, FrameBound, FromItem, ModifyKind, Query, RelationKind, SetOperation, SublinkKind,
    SubplanKind, Subscript,
};

/// Calls `f` for each direct part of an expression. The query of a sublink is not entered; its tests are.
pub fn children<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    match expr {
        Expr::Const { .. }
        | Expr::Column { .. }
        | Expr::RowId { .. }
        | Expr::WholeRow { .. }
        | Expr::Param { .. }
        | Expr::Grouping(_)
        | Expr::Slot { .. }
        | Expr::Outer { .. } => {}
        Expr::Call(call) => call.args.iter().for_each(f),
        Expr::Convert(convert) => f(&convert.input),
        Expr::And(list) | Expr::Or(list) => list.iter().for_each(f),
        Expr::Not(input)
        | Expr::IsNull { input, .. }
        | Expr::IsBool { input, .. }
        | Expr::Field { input, .. } => f(input),
        Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case { whens, otherwise, .. } => {
            for (when, then) in whens {
                f(when);
                f(then);
            }
            if let Some(otherwise) = otherwise {
                f(otherwise);
            }
        }
        Expr::Coalesce { args, .. } | Expr::Extreme { args, .. } => args.iter().for_each(f),
        Expr::InList { left, list, .. } => {
            f(left);
            list.iter().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::Array { elements, .. } => elements.iter().for_each(f),
        Expr::Row { fields, .. } => fields.iter().for_each(f),
        Expr::Subscript { input, subscripts, .. } => {
            f(input);
            for subscript in subscripts {
                match subscript {
                    Subscript::Index(index) => f(index),
                    Subscript::Slice(low, high) => low.iter().chain(high).for_each(&mut *f),
                }
            }
        }
        Expr::Aggregate(call) => {
            call.args.iter().for_each(&mut *f);
            call.direct_args.iter().for_each(&mut *f);
            call.order_by.iter().for_each(|order| f(&order.expr));
            if let Some(filter) = &call.filter {
                f(filter);
            }
        }
        Expr::Window(call) => {
            call.args.iter().for_each(&mut *f);
            if let Some(filter) = &call.filter {
                f(filter);
            }
        }
        Expr::SetCall(call) => call.args.iter().for_each(f),
        Expr::Sublink(sublink) => match &sublink.kind {
            SublinkKind::Any { tests, .. } | SublinkKind::All { tests, .. } => tests.iter().for_each(f),
            SublinkKind::Exists | SublinkKind::Scalar | SublinkKind::Array => {}
        },
        Expr::Subplan(call) => {
            call.bindings.iter().for_each(|(_, expr)| f(expr));
            match &call.kind {
                SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } => tests.iter().for_each(f),
                SubplanKind::Exists | SubplanKind::Scalar | SubplanKind::Array => {}
            }
        }
    }
}

/// As [`children`], to change them.
pub fn children_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Const { .. }
        | Expr::Column { .. }
        | Expr::RowId { .. }
        | Expr::WholeRow { .. }
        | Expr::Param { .. }
        | Expr::Grouping(_)
        | Expr::Slot { .. }
        | Expr::Outer { .. } => {}
        Expr::Call(call) => call.args.iter_mut().for_each(f),
        Expr::Convert(convert) => f(&mut convert.input),
        Expr::And(list) | Expr::Or(list) => list.iter_mut().for_each(f),
        Expr::Not(input)
        | Expr::IsNull { input, .. }
        | Expr::IsBool { input, .. }
        | Expr::Field { input, .. } => f(input),
        Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case { whens, otherwise, .. } => {
            for (when, then) in whens {
                f(when);
                f(then);
            }
            if let Some(otherwise) = otherwise {
                f(otherwise);
            }
        }
        Expr::Coalesce { args, .. } | Expr::Extreme { args, .. } => args.iter_mut().for_each(f),
        Expr::InList { left, list, .. } => {
            f(left);
            list.iter_mut().for_each(f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::Array { elements, .. } => elements.iter_mut().for_each(f),
        Expr::Row { fields, .. } => fields.iter_mut().for_each(f),
        Expr::Subscript { input, subscripts, .. } => {
            f(input);
            for subscript in subscripts {
                match subscript {
                    Subscript::Index(index) => f(index),
                    Subscript::Slice(low, high) => low.iter_mut().chain(high).for_each(&mut *f),
                }
            }
        }
        Expr::Aggregate(call) => {
            call.args.iter_mut().for_each(&mut *f);
            call.direct_args.iter_mut().for_each(&mut *f);
            call.order_by.iter_mut().for_each(|order| f(&mut order.expr));
            if let Some(filter) = &mut call.filter {
                f(filter);
            }
        }
        Expr::Window(call) => {
            call.args.iter_mut().for_each(&mut *f);
            if let Some(filter) = &mut call.filter {
                f(filter);
            }
        }
        Expr::SetCall(call) => call.args.iter_mut().for_each(f),
        Expr::Sublink(sublink) => match &mut sublink.kind {
            SublinkKind::Any { tests, .. } | SublinkKind::All { tests, .. } => tests.iter_mut().for_each(f),
            SublinkKind::Exists | SublinkKind::Scalar | SublinkKind::Array => {}
        },
        Expr::Subplan(call) => {
            call.bindings.iter_mut().for_each(|(_, expr)| f(expr));
            match &mut call.kind {
                SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } => {
                    tests.iter_mut().for_each(f)
                }
                SubplanKind::Exists | SubplanKind::Scalar | SubplanKind::Array => {}
            }
        }
    }
}

/// Calls `expr` for the top of every expression that stands in a query itself, and `query` for every query
/// directly inside its range table and CTEs (those of sublinks belong to expressions). The flag of `query` says
/// how many levels deeper it stands: always 1.
pub fn query_parts<'a>(
    query: &'a Query,
    on_expr: &mut dyn FnMut(&'a Expr),
    on_query: &mut dyn FnMut(&'a Query),
) {
    for cte in &query.ctes {
        on_query(&cte.query);
        if let Some(recursive) = &cte.recursive {
            on_query(&recursive.recursive_arm);
        }
    }
    for relation in &query.relations {
        match &relation.kind {
            RelationKind::Subquery(inner) | RelationKind::View { query: inner, .. } => on_query(inner),
            RelationKind::Values(rows) => rows.iter().flatten().for_each(&mut *on_expr),
            RelationKind::Functions { calls, .. } => calls.iter().for_each(|call| on_expr(&call.call)),
            RelationKind::Join { columns } => columns.iter().for_each(&mut *on_expr),
            RelationKind::Table(_)
            | RelationKind::System { .. }
            | RelationKind::Cte { .. }
            | RelationKind::Excluded => {}
        }
    }
    query.from.iter().for_each(|item| conditions(item, on_expr));
    query.filter.iter().for_each(&mut *on_expr);
    query.targets.iter().for_each(|target| on_expr(&target.expr));
    query.group_keys.iter().for_each(&mut *on_expr);
    query.having.iter().for_each(&mut *on_expr);
    for window in &query.windows {
        window.partition_by.iter().for_each(&mut *on_expr);
        window.order_by.iter().for_each(|order| on_expr(&order.expr));
        for bound in [&window.frame.start, &window.frame.end] {
            if let FrameBound::Preceding(expr) | FrameBound::Following(expr) = bound {
                on_expr(expr);
            }
        }
    }
    query.limit.iter().chain(&query.offset).for_each(&mut *on_expr);
    if let Some(modify) = &query.modify {
        match &modify.kind {
            ModifyKind::Insert { defaults, on_conflict, .. } => {
                defaults.iter().for_each(|(_, expr)| on_expr(expr));
                if let Some(conflict) = on_conflict
                    && let ConflictAction::Update { assignments, filter, .. } = &conflict.action
                {
                    assignments.iter().for_each(|(_, expr)| on_expr(expr));
                    filter.iter().for_each(&mut *on_expr);
                }
            }
            ModifyKind::Update { .. } | ModifyKind::Delete => {}
        }
        modify.returning.iter().for_each(|target| on_expr(&target.expr));
        modify.computed.iter().for_each(|(_, expr)| on_expr(expr));
        modify.checks.iter().for_each(|(_, expr)| on_expr(expr));
    }
}

/// What [`query_parts_mut`] hands out.
pub enum Part<'a> {
    Expr(&'a mut Expr),
    /// A query one level deeper.
    Query(&'a mut Query),
}

/// As [`query_parts`], to change them.
pub fn query_parts_mut(query: &mut Query, f: &mut dyn FnMut(Part<'_>)) {
    for cte in &mut query.ctes {
        f(Part::Query(&mut cte.query));
        if let Some(recursive) = &mut cte.recursive {
            f(Part::Query(&mut recursive.recursive_arm));
        }
    }
    for relation in &mut query.relations {
        match &mut relation.kind {
            RelationKind::Subquery(inner) | RelationKind::View { query: inner, .. } => f(Part::Query(inner)),
            RelationKind::Values(rows) => rows.iter_mut().flatten().for_each(|expr| f(Part::Expr(expr))),
            RelationKind::Functions { calls, .. } => {
                calls.iter_mut().for_each(|call| f(Part::Expr(&mut call.call)));
            }
            RelationKind::Join { columns } => columns.iter_mut().for_each(|expr| f(Part::Expr(expr))),
            RelationKind::Table(_)
            | RelationKind::System { .. }
            | RelationKind::Cte { .. }
            | RelationKind::Excluded => {}
        }
    }
    query.from.iter_mut().for_each(|item| conditions_mut(item, f));
    query.filter.iter_mut().for_each(|expr| f(Part::Expr(expr)));
    query.targets.iter_mut().for_each(|target| f(Part::Expr(&mut target.expr)));
    query.group_keys.iter_mut().for_each(|expr| f(Part::Expr(expr)));
    query.having.iter_mut().for_each(|expr| f(Part::Expr(expr)));
    for window in &mut query.windows {
        window.partition_by.iter_mut().for_each(|expr| f(Part::Expr(expr)));
        window.order_by.iter_mut().for_each(|order| f(Part::Expr(&mut order.expr)));
        for bound in [&mut window.frame.start, &mut window.frame.end] {
            if let FrameBound::Preceding(expr) | FrameBound::Following(expr) = bound {
                f(Part::Expr(expr));
            }
        }
    }
    query.limit.iter_mut().chain(&mut query.offset).for_each(|expr| f(Part::Expr(expr)));
    if let Some(modify) = &mut query.modify {
        match &mut modify.kind {
            ModifyKind::Insert { defaults, on_conflict, .. } => {
                defaults.iter_mut().for_each(|(_, expr)| f(Part::Expr(expr)));
                if let Some(conflict) = on_conflict
                    && let ConflictAction::Update { assignments, filter, .. } = &mut conflict.action
                {
                    assignments.iter_mut().for_each(|(_, expr)| f(Part::Expr(expr)));
                    filter.iter_mut().for_each(|expr| f(Part::Expr(expr)));
                }
            }
            ModifyKind::Update { .. } | ModifyKind::Delete => {}
        }
        modify.returning.iter_mut().for_each(|target| f(Part::Expr(&mut target.expr)));
        modify.computed.iter_mut().for_each(|(_, expr)| f(Part::Expr(expr)));
        modify.checks.iter_mut().for_each(|(_, expr)| f(Part::Expr(expr)));
    }
}

fn conditions<'a>(item: &'a FromItem, f: &mut dyn FnMut(&'a Expr)) {
    if let FromItem::Join(join) = item {
        conditions(&join.left, f);
        conditions(&join.right, f);
        join.condition.iter().for_each(f);
    }
}

fn conditions_mut(item: &mut FromItem, f: &mut dyn FnMut(Part<'_>)) {
    if let FromItem::Join(join) = item {
        conditions_mut(&mut join.left, f);
        conditions_mut(&mut join.right, f);
        join.condition.iter_mut().for_each(|expr| f(Part::Expr(expr)));
    }
}

/// Moves an expression `by` queries deeper: columns that belong to queries outside it go that much further up.
pub fn deepen(expr: &mut Expr, by: usize) {
    if by > 0 {
        shift(expr, 0, by);
    }
}

/// Moves a whole query one level deeper: what it refers to outside itself is one further up.
pub fn deepen_query(query: &mut Query) {
    shift_query(query, 1, 1);
}

fn shift(expr: &mut Expr, depth: usize, by: usize) {
    crate::parse::level(|| {
        match expr {
            Expr::Column { levels_up, relation, .. } if *levels_up >= depth && *relation != usize::MAX => {
                *levels_up += by;
            }
            Expr::WholeRow { levels_up, .. } if *levels_up >= depth => *levels_up += by,
            Expr::Aggregate(call) if call.levels_up >= depth => call.levels_up += by,
            Expr::Sublink(sublink) => shift_query(&mut sublink.query, depth + 1, by),
            _ => {}
        }
        children_mut(expr, &mut |child| shift(child, depth, by));
    });
}

fn shift_query(query: &mut Query, depth: usize, by: usize) {
    for relation in &mut query.relations {
        if let RelationKind::Cte { levels_up, .. } = &mut relation.kind
            && *levels_up >= depth
        {
            *levels_up += by;
        }
    }
    query_parts_mut(query, &mut |part| match part {
        Part::Expr(expr) => shift(expr, depth, by),
        Part::Query(inner) => shift_query(inner, depth + 1, by),
    });
}

/// Whether `test` holds for an expression of this query level anywhere in `expr` (sublink queries not entered).
pub fn any(expr: &Expr, test: &dyn Fn(&Expr) -> bool) -> bool {
    crate::parse::level(|| {
        if test(expr) {
            return true;
        }
        let mut found = false;
        children(expr, &mut |child| found = found || any(child, test));
        found
    })
}

/// Whether an expression refers to columns of this query level or of those above (`volatile` or not).
pub fn has_columns(expr: &Expr) -> bool {
    any(expr, &|e| {
        matches!(e, Expr::Column { .. } | Expr::WholeRow { .. } | Expr::RowId { .. } | Expr::Sublink(_))
    })
}

/// The leaves of a set operation, left to right.
pub fn set_leaves(operation: &SetOperation) -> Vec<usize> {
    let mut leaves = Vec::new();
    let mut stack = vec![operation];
    while let Some(node) = stack.pop() {
        match node {
            SetOperation::Leaf(relation) => leaves.push(*relation),
            SetOperation::Node { left, right, .. } => {
                stack.push(right);
                stack.push(left);
            }
        }
    }
    leaves
}
