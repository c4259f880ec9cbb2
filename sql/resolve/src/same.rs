//! Whether two expressions are the same expression: how grouping, DISTINCT and ORDER BY find their targets.

use value::Datum;
use value::compare::equal_typed;

use crate::tree::{Convert, Expr, Subscript, WindowOrder, WindowTarget};

/// Structural equality. A sublink equals its own copy only: the places in the text are part of it. A volatile call
/// equals itself (the caller knows whether that matters).
pub fn same(a: &Expr, b: &Expr) -> bool {
    crate::parse::level(|| compare(a, b))
}

fn compare(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Const { value: v, ty: t }, Expr::Const { value: w, ty: u }) => {
            t.oid == u.oid
                && match (v, w) {
                    (Datum::Null, Datum::Null) => true,
                    (Datum::Null, _) | (_, Datum::Null) => false,
                    // Numerics that differ in scale only are equal but print differently.
                    (Datum::Numeric(_), _) | (Datum::Float8(_), _) | (Datum::Float4(_), _) => {
                        format!("{v:?}") == format!("{w:?}")
                    }
                    (Datum::Text(v), Datum::Text(w)) => v == w,
                    _ => std::mem::discriminant(v) == std::mem::discriminant(w) && equal_typed(t.oid, v, w),
                }
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
        (Expr::Call(x), Expr::Call(y)) => x.function == y.function && x.ty == y.ty && all(&x.args, &y.args),
        (Expr::Convert(x), Expr::Convert(y)) => {
            let Convert { input, from, to, kind, explicit } = &**x;
            *from == y.from
                && *to == y.to
                && *kind == y.kind
                && *explicit == y.explicit
                && same(input, &y.input)
        }
        (Expr::Sublink(x), Expr::Sublink(y)) => {
            x.ty == y.ty && crate::parse::on_deep_stack(8_000, || format!("{x:?}") == format!("{y:?}"))
        }
        (Expr::And(x), Expr::And(y)) | (Expr::Or(x), Expr::Or(y)) => all(x, y),
        (Expr::Not(x), Expr::Not(y)) => same(x, y),
        (Expr::IsNull { input: x, negated: n }, Expr::IsNull { input: y, negated: m }) => {
            n == m && same(x, y)
        }
        (
            Expr::IsBool { input: x, value: v, negated: n },
            Expr::IsBool { input: y, value: w, negated: m },
        ) => v == w && n == m && same(x, y),
        (
            Expr::Distinct { equal: e, left: a, right: b, negated: n },
            Expr::Distinct { equal: f, left: c, right: d, negated: m },
        ) => e == f && n == m && same(a, c) && same(b, d),
        (Expr::Case { whens: x, otherwise: o, ty: t }, Expr::Case { whens: y, otherwise: p, ty: u }) => {
            t == u
                && x.len() == y.len()
                && x.iter().zip(y).all(|((a, b), (c, d))| same(a, c) && same(b, d))
                && option(o.as_deref(), p.as_deref())
        }
        (Expr::Coalesce { args: x, ty: t }, Expr::Coalesce { args: y, ty: u }) => t == u && all(x, y),
        (Expr::Extreme { greatest: g, args: x, ty: t }, Expr::Extreme { greatest: h, args: y, ty: u }) => {
            g == h && t == u && all(x, y)
        }
        (
            Expr::NullIf { equal: e, left: a, right: b, .. },
            Expr::NullIf { equal: f, left: c, right: d, .. },
        ) => e == f && same(a, c) && same(b, d),
        (
            Expr::InList { function: f, left: a, list: x, all: p, negated: n },
            Expr::InList { function: g, left: b, list: y, all: q, negated: m },
        ) => f == g && p == q && n == m && same(a, b) && all(x, y),
        (
            Expr::AnyArray { function: f, left: a, array: x, all: p },
            Expr::AnyArray { function: g, left: b, array: y, all: q },
        ) => f == g && p == q && same(a, b) && same(x, y),
        (Expr::Array { elements: x, ty: t }, Expr::Array { elements: y, ty: u }) => t == u && all(x, y),
        (Expr::Row { fields: x, .. }, Expr::Row { fields: y, .. }) => all(x, y),
        (
            Expr::Subscript { input: a, subscripts: x, .. },
            Expr::Subscript { input: b, subscripts: y, .. },
        ) => {
            same(a, b)
                && x.len() == y.len()
                && x.iter().zip(y).all(|(x, y)| match (x, y) {
                    (Subscript::Index(x), Subscript::Index(y)) => same(x, y),
                    (Subscript::Slice(a, b), Subscript::Slice(c, d)) => {
                        option(a.as_ref(), c.as_ref()) && option(b.as_ref(), d.as_ref())
                    }
                    _ => false,
                })
        }
        (Expr::Field { input: a, index: i, .. }, Expr::Field { input: b, index: j, .. }) => {
            i == j && same(a, b)
        }
        (Expr::Aggregate(x), Expr::Aggregate(y)) => {
            x.aggregate == y.aggregate
                && x.levels_up == y.levels_up
                && x.distinct == y.distinct
                && x.ty == y.ty
                && all(&x.args, &y.args)
                && all(&x.direct_args, &y.direct_args)
                && orders(&x.order_by, &y.order_by)
                && option(x.filter.as_ref(), y.filter.as_ref())
        }
        (Expr::Window(x), Expr::Window(y)) => {
            let target = match (x.function, y.function) {
                (WindowTarget::Function(f), WindowTarget::Function(g)) => f == g,
                (WindowTarget::Aggregate(f), WindowTarget::Aggregate(g)) => f == g,
                _ => false,
            };
            target
                && x.window == y.window
                && all(&x.args, &y.args)
                && option(x.filter.as_ref(), y.filter.as_ref())
        }
        (Expr::SetCall(x), Expr::SetCall(y)) => x.function == y.function && all(&x.args, &y.args),
        (Expr::Grouping(x), Expr::Grouping(y)) => x == y,
        (Expr::Slot { index: i, .. }, Expr::Slot { index: j, .. }) => i == j,
        (Expr::Outer { index: i, .. }, Expr::Outer { index: j, .. }) => i == j,
        _ => false,
    }
}

fn all(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

fn option(a: Option<&Expr>, b: Option<&Expr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}

pub(crate) fn orders(a: &[WindowOrder], b: &[WindowOrder]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.descending == b.descending && a.nulls_first == b.nulls_first && same(&a.expr, &b.expr)
        })
}
