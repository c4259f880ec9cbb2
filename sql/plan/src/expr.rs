//! Walking, rewriting and comparing expressions, one place for all rules.

use resolve::tree::{
    AggregateCall, ConflictAction, Expr, FromItem, Join, ModifyKind, Query, RelationKind, SublinkKind,
    SubplanKind, Subscript, WindowOrder,
};
use value::Result;

/// Calls `f` on every direct child. Subqueries are not entered; the tests of a sublink are children.
pub fn each_child<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    let all = |list: &'e [Expr], f: &mut dyn FnMut(&'e Expr)| list.iter().for_each(f);
    match expr {
        Expr::Const { .. }
        | Expr::Column { .. }
        | Expr::RowId { .. }
        | Expr::WholeRow { .. }
        | Expr::Param { .. }
        | Expr::Grouping(_)
        | Expr::Slot { .. }
        | Expr::Outer { .. } => {}
        Expr::Call(call) => all(&call.args, f),
        Expr::Convert(convert) => f(&convert.input),
        Expr::And(list) | Expr::Or(list) => all(list, f),
        Expr::Not(input) => f(input),
        Expr::IsNull { input, .. } | Expr::IsBool { input, .. } => f(input),
        Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left);
            f(right);
        }
        Expr::Case { whens, otherwise, .. } => {
            for (condition, result) in whens {
                f(condition);
                f(result);
            }
            if let Some(otherwise) = otherwise {
                f(otherwise);
            }
        }
        Expr::Coalesce { args, .. } | Expr::Extreme { args, .. } => all(args, f),
        Expr::InList { left, list, .. } => {
            f(left);
            all(list, f);
        }
        Expr::AnyArray { left, array, .. } => {
            f(left);
            f(array);
        }
        Expr::Array { elements, .. } => all(elements, f),
        Expr::Row { fields, .. } => all(fields, f),
        Expr::Subscript { input, subscripts, .. } => {
            f(input);
            for subscript in subscripts {
                match subscript {
                    Subscript::Index(index) => f(index),
                    Subscript::Slice(low, high) => {
                        low.iter().for_each(&mut *f);
                        high.iter().for_each(&mut *f);
                    }
                }
            }
        }
        Expr::Field { input, .. } => f(input),
        Expr::Aggregate(call) => {
            all(&call.args, f);
            all(&call.direct_args, f);
            call.order_by.iter().for_each(|order| f(&order.expr));
            call.filter.iter().for_each(f);
        }
        Expr::Window(call) => {
            all(&call.args, f);
            call.filter.iter().for_each(f);
        }
        Expr::SetCall(call) => all(&call.args, f),
        Expr::Sublink(sublink) => match &sublink.kind {
            SublinkKind::Any { tests, .. } | SublinkKind::All { tests, .. } => all(tests, f),
            SublinkKind::Exists | SublinkKind::Scalar | SublinkKind::Array => {}
        },
        Expr::Subplan(call) => {
            call.bindings.iter().for_each(|(_, value)| f(value));
            match &call.kind {
                SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } => all(tests, f),
                SubplanKind::Exists | SubplanKind::Scalar | SubplanKind::Array => {}
            }
        }
    }
}

/// Replaces every direct child by what `f` makes of it. As [`each_child`], subqueries are left alone.
pub fn map_children(mut expr: Expr, f: &mut dyn FnMut(Expr) -> Result<Expr>) -> Result<Expr> {
    each_child_mut(&mut expr, &mut |child| {
        *child = f(std::mem::replace(child, Expr::And(Vec::new())))?;
        Ok(())
    })?;
    Ok(expr)
}

fn each_child_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr) -> Result<()>) -> Result<()> {
    fn all(list: &mut [Expr], f: &mut dyn FnMut(&mut Expr) -> Result<()>) -> Result<()> {
        list.iter_mut().try_for_each(f)
    }
    fn orders(list: &mut [WindowOrder], f: &mut dyn FnMut(&mut Expr) -> Result<()>) -> Result<()> {
        list.iter_mut().try_for_each(|order| f(&mut order.expr))
    }
    match expr {
        Expr::Const { .. }
        | Expr::Column { .. }
        | Expr::RowId { .. }
        | Expr::WholeRow { .. }
        | Expr::Param { .. }
        | Expr::Grouping(_)
        | Expr::Slot { .. }
        | Expr::Outer { .. } => Ok(()),
        Expr::Call(call) => all(&mut call.args, f),
        Expr::Convert(convert) => f(&mut convert.input),
        Expr::And(list) | Expr::Or(list) => all(list, f),
        Expr::Not(input) => f(input),
        Expr::IsNull { input, .. } | Expr::IsBool { input, .. } => f(input),
        Expr::Distinct { left, right, .. } | Expr::NullIf { left, right, .. } => {
            f(left)?;
            f(right)
        }
        Expr::Case { whens, otherwise, .. } => {
            for (condition, result) in whens {
                f(condition)?;
                f(result)?;
            }
            otherwise.iter_mut().try_for_each(|otherwise| f(otherwise))
        }
        Expr::Coalesce { args, .. } | Expr::Extreme { args, .. } => all(args, f),
        Expr::InList { left, list, .. } => {
            f(left)?;
            all(list, f)
        }
        Expr::AnyArray { left, array, .. } => {
            f(left)?;
            f(array)
        }
        Expr::Array { elements, .. } => all(elements, f),
        Expr::Row { fields, .. } => all(fields, f),
        Expr::Subscript { input, subscripts, .. } => {
            f(input)?;
            for subscript in subscripts {
                match subscript {
                    Subscript::Index(index) => f(index)?,
                    Subscript::Slice(low, high) => {
                        low.iter_mut().try_for_each(&mut *f)?;
                        high.iter_mut().try_for_each(&mut *f)?;
                    }
                }
            }
            Ok(())
        }
        Expr::Field { input, .. } => f(input),
        Expr::Aggregate(call) => {
            let AggregateCall { args, direct_args, order_by, filter, .. } = &mut **call;
            all(args, f)?;
            all(direct_args, f)?;
            orders(order_by, f)?;
            filter.iter_mut().try_for_each(f)
        }
        Expr::Window(call) => {
            all(&mut call.args, f)?;
            call.filter.iter_mut().try_for_each(f)
        }
        Expr::SetCall(call) => all(&mut call.args, f),
        Expr::Sublink(sublink) => match &mut sublink.kind {
            SublinkKind::Any { tests, .. } | SublinkKind::All { tests, .. } => all(tests, f),
            SublinkKind::Exists | SublinkKind::Scalar | SublinkKind::Array => Ok(()),
        },
        Expr::Subplan(call) => {
            call.bindings.iter_mut().try_for_each(|(_, value)| f(value))?;
            match &mut call.kind {
                SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } => all(tests, f),
                SubplanKind::Exists | SubplanKind::Scalar | SubplanKind::Array => Ok(()),
            }
        }
    }
}

/// Calls `f` on the expression and everything below it that belongs to the query at level 0: `f` gets each node
/// with the number of queries it is nested in (0: this one).
pub fn visit<'e>(expr: &'e Expr, level: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
    f(expr, level);
    each_child(expr, &mut |child| visit(child, level, f));
    if let Expr::Sublink(sublink) = expr {
        visit_query(&sublink.query, level + 1, f);
    }
}

/// [`visit`] for every expression of a query and of the queries in it.
pub fn visit_query<'e>(query: &'e Query, level: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
    for cte in &query.ctes {
        visit_query(&cte.query, level + 1, f);
        if let Some(recursive) = &cte.recursive {
            visit_query(&recursive.recursive_arm, level + 1, f);
        }
    }
    for relation in &query.relations {
        match &relation.kind {
            RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. } => {
                visit_query(subquery, level + 1, f)
            }
            RelationKind::Values(rows) => rows.iter().flatten().for_each(|expr| visit(expr, level, f)),
            RelationKind::Functions { calls, .. } => {
                calls.iter().for_each(|call| visit(&call.call, level, f))
            }
            RelationKind::Join { columns } => columns.iter().for_each(|expr| visit(expr, level, f)),
            RelationKind::Table(_)
            | RelationKind::System { .. }
            | RelationKind::Cte { .. }
            | RelationKind::Excluded => {}
        }
    }
    fn item<'e>(from: &'e FromItem, level: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
        if let FromItem::Join(join) = from {
            let Join { left, right, condition, .. } = &**join;
            item(left, level, f);
            item(right, level, f);
            condition.iter().for_each(|expr| visit(expr, level, f));
        }
    }
    query.from.iter().for_each(|from| item(from, level, f));
    let mut one = |expr: &'e Expr| visit(expr, level, f);
    query.filter.iter().for_each(&mut one);
    query.targets.iter().for_each(|target| one(&target.expr));
    query.group_keys.iter().for_each(&mut one);
    query.having.iter().for_each(&mut one);
    for window in &query.windows {
        window.partition_by.iter().for_each(&mut one);
        window.order_by.iter().for_each(|order| one(&order.expr));
        for bound in [&window.frame.start, &window.frame.end] {
            match bound {
                resolve::tree::FrameBound::Preceding(expr) | resolve::tree::FrameBound::Following(expr) => {
                    one(expr)
                }
                resolve::tree::FrameBound::UnboundedPreceding
                | resolve::tree::FrameBound::CurrentRow
                | resolve::tree::FrameBound::UnboundedFollowing => {}
            }
        }
    }
    query.limit.iter().for_each(&mut one);
    query.offset.iter().for_each(&mut one);
    if let Some(modify) = &query.modify {
        modify.returning.iter().for_each(|target| one(&target.expr));
        match &modify.kind {
            ModifyKind::Insert { defaults, on_conflict, .. } => {
                defaults.iter().for_each(|(_, expr)| one(expr));
                if let Some(ConflictAction::Update { assignments, filter, .. }) =
                    on_conflict.as_ref().map(|conflict| &conflict.action)
                {
                    assignments.iter().for_each(|(_, expr)| one(expr));
                    filter.iter().for_each(&mut one);
                }
            }
            ModifyKind::Update { .. } | ModifyKind::Delete => {}
        }
    }
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

/// Whether two expressions are the same computation, so that one can stand for the other. Subqueries never are.
pub fn same(a: &Expr, b: &Expr) -> bool {
    fn list(a: &[Expr], b: &[Expr]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
    }
    fn opt(a: &Option<Box<Expr>>, b: &Option<Box<Expr>>) -> bool {
        match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => same(a, b),
            _ => false,
        }
    }
    fn orders(a: &[WindowOrder], b: &[WindowOrder]) -> bool {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| {
                a.descending == b.descending && a.nulls_first == b.nulls_first && same(&a.expr, &b.expr)
            })
    }
    match (a, b) {
        (Expr::Const { value: v, ty: t }, Expr::Const { value: w, ty: u }) => {
            t == u
                && (v.is_null() && w.is_null() || !v.is_null() && !w.is_null() && value::compare::equal(v, w))
        }
        (
            Expr::Column { levels_up: l, relation: r, column: c, .. },
            Expr::Column { levels_up: m, relation: s, column: d, .. },
        ) => l == m && r == s && c == d,
        (Expr::RowId { relation: r }, Expr::RowId { relation: s }) => r == s,
        (
            Expr::WholeRow { levels_up: l, relation: r, .. },
            Expr::WholeRow { levels_up: m, relation: s, .. },
        ) => l == m && r == s,
        (Expr::Param { index: i, .. }, Expr::Param { index: j, .. }) => i == j,
        (Expr::Slot { index: i, .. }, Expr::Slot { index: j, .. }) => i == j,
        (Expr::Outer { index: i, .. }, Expr::Outer { index: j, .. }) => i == j,
        (Expr::Call(c), Expr::Call(d)) => c.function == d.function && c.ty == d.ty && list(&c.args, &d.args),
        (Expr::Convert(c), Expr::Convert(d)) => {
            c.to == d.to && c.kind == d.kind && c.explicit == d.explicit && same(&c.input, &d.input)
        }
        (Expr::And(a), Expr::And(b)) | (Expr::Or(a), Expr::Or(b)) => list(a, b),
        (Expr::Not(a), Expr::Not(b)) => same(a, b),
        (Expr::IsNull { input: a, negated: n }, Expr::IsNull { input: b, negated: m }) => {
            n == m && same(a, b)
        }
        (
            Expr::IsBool { input: a, value: v, negated: n },
            Expr::IsBool { input: b, value: w, negated: m },
        ) => v == w && n == m && same(a, b),
        (
            Expr::Distinct { equal: e, left: a, right: b, negated: n },
            Expr::Distinct { equal: f, left: c, right: d, negated: m },
        ) => e == f && n == m && same(a, c) && same(b, d),
        (Expr::NullIf { left: a, right: b, .. }, Expr::NullIf { left: c, right: d, .. }) => {
            same(a, c) && same(b, d)
        }
        (Expr::Case { whens: a, otherwise: o, .. }, Expr::Case { whens: b, otherwise: p, .. }) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((a, b), (c, d))| same(a, c) && same(b, d))
                && opt(o, p)
        }
        (Expr::Coalesce { args: a, .. }, Expr::Coalesce { args: b, .. }) => list(a, b),
        (Expr::Extreme { greatest: g, args: a, .. }, Expr::Extreme { greatest: h, args: b, .. }) => {
            g == h && list(a, b)
        }
        (
            Expr::InList { function: f, left: a, list: c, all: x, negated: n },
            Expr::InList { function: g, left: b, list: d, all: y, negated: m },
        ) => f == g && x == y && n == m && same(a, b) && list(c, d),
        (
            Expr::AnyArray { function: f, left: a, array: c, all: x },
            Expr::AnyArray { function: g, left: b, array: d, all: y },
        ) => f == g && x == y && same(a, b) && same(c, d),
        (Expr::Array { elements: a, ty: t }, Expr::Array { elements: b, ty: u }) => t == u && list(a, b),
        (Expr::Row { fields: a, .. }, Expr::Row { fields: b, .. }) => list(a, b),
        (
            Expr::Subscript { input: a, subscripts: s, .. },
            Expr::Subscript { input: b, subscripts: t, .. },
        ) => {
            same(a, b)
                && s.len() == t.len()
                && s.iter().zip(t).all(|(s, t)| match (s, t) {
                    (Subscript::Index(s), Subscript::Index(t)) => same(s, t),
                    _ => false,
                })
        }
        (Expr::Field { input: a, index: i, .. }, Expr::Field { input: b, index: j, .. }) => {
            i == j && same(a, b)
        }
        (Expr::Aggregate(c), Expr::Aggregate(d)) => {
            c.aggregate == d.aggregate
                && c.distinct == d.distinct
                && c.levels_up == d.levels_up
                && list(&c.args, &d.args)
                && list(&c.direct_args, &d.direct_args)
                && orders(&c.order_by, &d.order_by)
                && match (&c.filter, &d.filter) {
                    (None, None) => true,
                    (Some(c), Some(d)) => same(c, d),
                    _ => false,
                }
        }
        (Expr::Grouping(a), Expr::Grouping(b)) => a == b,
        _ => false,
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
    // The closure never fails.
    let _ = each_child_mut(expr, &mut |child| {
        rewrite(child, level, rewriter);
        Ok(())
    });
    if let Expr::Sublink(sublink) = expr {
        rewrite_query(&mut sublink.query, level + 1, rewriter);
    }
}

/// [`rewrite`] over all expressions and relations of a query and of the queries in it.
pub fn rewrite_query(query: &mut Query, level: usize, rewriter: &mut dyn Rewriter) {
    for cte in &mut query.ctes {
        rewrite_query(&mut cte.query, level + 1, rewriter);
        if let Some(recursive) = &mut cte.recursive {
            rewrite_query(&mut recursive.recursive_arm, level + 1, rewriter);
        }
    }
    for relation in &mut query.relations {
        rewriter.relation(&mut relation.kind, level);
        match &mut relation.kind {
            RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. } => {
                rewrite_query(subquery, level + 1, rewriter)
            }
            RelationKind::Values(rows) => {
                rows.iter_mut().flatten().for_each(|expr| rewrite(expr, level, rewriter))
            }
            RelationKind::Functions { calls, .. } => {
                calls.iter_mut().for_each(|call| rewrite(&mut call.call, level, rewriter))
            }
            RelationKind::Join { columns } => {
                columns.iter_mut().for_each(|expr| rewrite(expr, level, rewriter))
            }
            RelationKind::Table(_)
            | RelationKind::System { .. }
            | RelationKind::Cte { .. }
            | RelationKind::Excluded => {}
        }
    }
    fn item(from: &mut FromItem, level: usize, rewriter: &mut dyn Rewriter) {
        if let FromItem::Join(join) = from {
            item(&mut join.left, level, rewriter);
            item(&mut join.right, level, rewriter);
            join.condition.iter_mut().for_each(|expr| rewrite(expr, level, rewriter));
        }
    }
    query.from.iter_mut().for_each(|from| item(from, level, rewriter));
    let mut one = |expr: &mut Expr| rewrite(expr, level, rewriter);
    query.filter.iter_mut().for_each(&mut one);
    query.targets.iter_mut().for_each(|target| one(&mut target.expr));
    query.group_keys.iter_mut().for_each(&mut one);
    query.having.iter_mut().for_each(&mut one);
    for window in &mut query.windows {
        window.partition_by.iter_mut().for_each(&mut one);
        window.order_by.iter_mut().for_each(|order| one(&mut order.expr));
        for bound in [&mut window.frame.start, &mut window.frame.end] {
            match bound {
                resolve::tree::FrameBound::Preceding(expr) | resolve::tree::FrameBound::Following(expr) => {
                    one(expr)
                }
                resolve::tree::FrameBound::UnboundedPreceding
                | resolve::tree::FrameBound::CurrentRow
                | resolve::tree::FrameBound::UnboundedFollowing => {}
            }
        }
    }
    query.limit.iter_mut().for_each(&mut one);
    query.offset.iter_mut().for_each(&mut one);
    if let Some(modify) = &mut query.modify {
        modify.returning.iter_mut().for_each(|target| one(&mut target.expr));
        match &mut modify.kind {
            ModifyKind::Insert { defaults, on_conflict, .. } => {
                defaults.iter_mut().for_each(|(_, expr)| one(expr));
                if let Some(ConflictAction::Update { assignments, filter, .. }) =
                    on_conflict.as_mut().map(|conflict| &mut conflict.action)
                {
                    assignments.iter_mut().for_each(|(_, expr)| one(expr));
                    filter.iter_mut().for_each(&mut one);
                }
            }
            ModifyKind::Update { .. } | ModifyKind::Delete => {}
        }
    }
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
