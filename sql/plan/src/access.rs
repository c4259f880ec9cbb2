//! How to read one table: a scan, or the index whose bounds leave the least to do.

use std::sync::Arc;

use engine::catalog::{Catalog, Index, IndexState, Table};
use function::{CastMethod, Strategy};
use resolve::tree::{Call, Convert, ConvertKind, Expr};
use value::{Datum, Type, types::oid};

use crate::estimate::{self, Base, cost};
use crate::expr::{self, bare_column};
use crate::ir::{Equal, RangeBound};
use crate::operator;

/// A way to read a base relation under some conditions.
#[derive(Clone)]
pub struct Path {
    pub index: Option<IndexPath>,
    /// Rows after all conditions.
    pub rows: f64,
    pub startup_cost: f64,
    pub cost: f64,
}

#[derive(Clone)]
pub struct IndexPath {
    pub index: Arc<Index>,
    pub equal: Vec<Equal>,
    pub low: Option<RangeBound>,
    pub high: Option<RangeBound>,
    pub any: Option<Vec<Expr>>,
    pub any_array: Option<Expr>,
    pub backward: bool,
    /// The conditions (by place in the list) that the bounds already guarantee.
    pub implied: Vec<usize>,
}

/// An order that would save a sort: columns with direction and NULL placement.
#[derive(Clone, Debug)]
pub struct WantedOrder {
    pub keys: Vec<(usize, bool, bool)>,
    /// How many rows will be taken, if that is known (LIMIT).
    pub limit: Option<f64>,
}

/// The indexes of a table that plans may use. The values of the others' hidden columns are not those of every row that a
/// statement may see.
pub(crate) fn indexes(catalog: &Catalog, table: &Table) -> Vec<Arc<Index>> {
    catalog.indexes(table.oid).filter(|index| index.state == IndexState::Ready).cloned().collect()
}

/// The cheapest path, and whether it delivers the wanted order. `conditions` are over this relation only; values in
/// them come from constants, parameters and correlation.
pub fn best_path(
    base: &Base,
    conditions: &[Expr],
    bases: &dyn Fn(usize) -> Option<Base>,
    order: Option<&WantedOrder>,
) -> (Path, bool) {
    let total = base.rows();
    let share = estimate::selectivity_of(conditions, bases);
    let rows = (total * share).max(1.0);
    let scan = Path {
        index: None,
        rows,
        startup_cost: 0.0,
        cost: total * (cost::ROW + cost::OPERATOR * conditions.len() as f64) + 0.1,
    };
    // What it costs in the end: an unordered path pays for the sort, an ordered one stops at the limit.
    let final_cost = |path: &Path, ordered: bool| match order {
        None => path.cost,
        Some(wanted) => {
            let taken = wanted.limit.map_or(1.0, |limit| (limit / path.rows).min(1.0));
            if ordered {
                path.startup_cost + (path.cost - path.startup_cost) * taken
            } else {
                path.cost + path.rows * (path.rows.max(2.0)).log2() * cost::SORT_COMPARE
            }
        }
    };
    let mut best = (final_cost(&scan, false), scan, false);
    for index in &base.indexes {
        if index.predicate.is_some() && !implies_predicate(index, conditions) {
            continue;
        }
        for backward in [false, true] {
            let Some((path, ordered)) = index_path(base, index, conditions, bases, rows, order, backward)
            else {
                continue;
            };
            let price = final_cost(&path, ordered);
            if price < best.0 {
                best = (price, path, ordered);
            }
        }
    }
    (best.1, best.2)
}

/// A partial index may be used when its predicate, as it stands in the query, is among the conditions. Its text is
/// resolved by the caller into the hidden column; here only `column` itself as a condition counts.
fn implies_predicate(index: &Index, conditions: &[Expr]) -> bool {
    let Some((column, _)) = &index.predicate else { return true };
    conditions.iter().any(|condition| {
        matches!(condition, Expr::Column { levels_up: 0, column: found, .. } if *found + 1 == *column as usize)
    })
}

fn index_path(
    base: &Base,
    index: &Arc<Index>,
    conditions: &[Expr],
    bases: &dyn Fn(usize) -> Option<Base>,
    rows: f64,
    order: Option<&WantedOrder>,
    backward: bool,
) -> Option<(Path, bool)> {
    let ordered_index = estimate::is_ordered(index);
    let mut path = IndexPath {
        index: index.clone(),
        equal: Vec::new(),
        low: None,
        high: None,
        any: None,
        any_array: None,
        backward,
        implied: Vec::new(),
    };
    let mut used = Vec::new();
    let mut probes = 1.0;
    for key in &index.keys {
        let column = key.column as usize - 1;
        let ty = base.table.columns[column].ty();
        if let Some((place, equal)) = equality_on(base.relation, column, ty, conditions) {
            path.equal.push(equal);
            path.implied.push(place);
            used.push(place);
            continue;
        }
        if let Some((place, list)) = list_on(base.relation, column, ty, conditions) {
            match list {
                List::Values(values) => {
                    probes = values.len() as f64;
                    path.any = Some(values);
                }
                List::Array(array) => {
                    probes = 10.0;
                    path.any_array = Some(array);
                }
            }
            path.implied.push(place);
            used.push(place);
            break;
        }
        if ordered_index {
            for (place, condition) in conditions.iter().enumerate() {
                let Some(range) = range_on(base.relation, column, ty, condition) else { continue };
                let implied = range.exact;
                let mut took = false;
                if let Some(bound) = range.low
                    && path.low.is_none()
                {
                    path.low = Some(bound);
                    took = true;
                }
                if let Some(bound) = range.high
                    && path.high.is_none()
                {
                    path.high = Some(bound);
                    took = true;
                }
                if took {
                    used.push(place);
                    // A condition with two ends (LIKE 'x%') is implied only when both were taken and it says no more.
                    if implied {
                        path.implied.push(place);
                    }
                }
            }
        }
        break;
    }
    if !ordered_index && path.equal.len() < index.keys.len() {
        return None;
    }
    let bounded = !path.equal.is_empty()
        || path.low.is_some()
        || path.high.is_some()
        || probes > 1.0
        || path.any.is_some();
    let delivers =
        ordered_index && path.any.is_none() && path.any_array.is_none() && delivers_order(&path, order);
    if !delivers && (!bounded || backward) {
        return None;
    }
    let chosen: Vec<Expr> = used.iter().map(|place| conditions[*place].clone()).collect();
    let mut share = estimate::selectivity_of(&chosen, bases);
    if index.unique && path.equal.len() == index.keys.len() {
        share = share.min(1.0 / base.rows());
    }
    let touched = (base.rows() * share).max(if bounded { 1.0 } else { base.rows() }).min(base.rows());
    let startup_cost = cost::INDEX_DESCENT * probes;
    let total = startup_cost + touched * (cost::INDEX_ROW + cost::OPERATOR * conditions.len() as f64);
    let rows = rows.min(touched).max(1.0);
    Some((Path { index: Some(path), rows, startup_cost, cost: total }, delivers))
}

/// Whether reading the index in this direction yields the wanted order: after the columns fixed by equality, its key columns
/// are the wanted ones, all in their direction or all in the other.
fn delivers_order(path: &IndexPath, order: Option<&WantedOrder>) -> bool {
    let Some(order) = order else { return false };
    let mut keys = path.index.keys.iter().skip(path.equal.len());
    let fixed: Vec<usize> =
        path.index.keys.iter().take(path.equal.len()).map(|key| key.column as usize - 1).collect();
    order.keys.iter().filter(|(column, _, _)| !fixed.contains(column)).all(
        |(column, descending, nulls_first)| {
            keys.next().is_some_and(|key| {
                key.column as usize - 1 == *column
                    && (key.descending != path.backward) == *descending
                    && (key.nulls_first != path.backward) == *nulls_first
            })
        },
    )
}

fn is_column(expr: &Expr, relation: usize, column: usize) -> bool {
    bare_column(expr) == Some((relation, column))
}

/// A value that does not depend on any row of this query level: also what a subquery gives that does not.
fn is_value(expr: &Expr) -> bool {
    if expr::is_volatile(expr) {
        return false;
    }
    let mut depends = false;
    expr::visit(expr, 0, &mut |node, level| {
        depends |= match node {
            Expr::Column { levels_up, .. } | Expr::WholeRow { levels_up, .. } => *levels_up == level,
            Expr::RowId { .. } | Expr::Slot { .. } => level == 0,
            _ => false,
        };
    });
    !depends
}

fn equality_on(relation: usize, column: usize, ty: Type, conditions: &[Expr]) -> Option<(usize, Equal)> {
    conditions.iter().enumerate().find_map(|(place, condition)| {
        match condition {
            Expr::IsNull { input, negated: false } if is_column(input, relation, column) => {
                let value = Expr::Const { value: Datum::Null, ty };
                return Some((place, Equal { value, is_null: true }));
            }
            // A boolean column stands for itself.
            Expr::Column { levels_up: 0, .. } if is_column(condition, relation, column) => {
                let value = Expr::Const { value: Datum::Bool(true), ty };
                return Some((place, Equal { value, is_null: false }));
            }
            Expr::Not(input) if is_column(input, relation, column) => {
                let value = Expr::Const { value: Datum::Bool(false), ty };
                return Some((place, Equal { value, is_null: false }));
            }
            _ => {}
        }
        let (strategy, value) = value_side(relation, column, condition)?;
        if strategy != Strategy::Eq {
            return None;
        }
        Some((place, Equal { value: of_type(value, ty)?, is_null: false }))
    })
}

/// For `column op value` or `value op column`: the comparison as seen from the column, and the value.
fn value_side(relation: usize, column: usize, condition: &Expr) -> Option<(Strategy, &Expr)> {
    let (function, left, right) = operator::comparison(condition)?;
    let strategy = operator::strategy(function)?;
    if is_column(left, relation, column) && is_value(right) {
        Some((strategy, right))
    } else if is_column(right, relation, column) && is_value(left) {
        Some((strategy.commuted(), left))
    } else {
        None
    }
}

enum List {
    Values(Vec<Expr>),
    Array(Expr),
}

fn list_on(relation: usize, column: usize, ty: Type, conditions: &[Expr]) -> Option<(usize, List)> {
    conditions.iter().enumerate().find_map(|(place, condition)| match condition {
        Expr::InList { function, left, list, all: false, negated: false }
            if operator::strategy(function) == Some(Strategy::Eq)
                && is_column(left, relation, column)
                && list.iter().all(is_value) =>
        {
            let values: Option<Vec<Expr>> = list.iter().map(|value| of_type(value, ty)).collect();
            Some((place, List::Values(values?)))
        }
        Expr::AnyArray { function, left, array, all: false }
            if operator::strategy(function) == Some(Strategy::Eq)
                && is_column(left, relation, column)
                && is_value(array)
                && value::types::element_of(array.ty().oid) == ty.oid =>
        {
            Some((place, List::Array((**array).clone())))
        }
        Expr::Or(parts) => Some((place, List::Values(alternatives(relation, column, ty, parts)?))),
        _ => None,
    })
}

/// The values of `column = a OR column = b OR ..`, which says the same as `column IN (a, b, ..)`.
fn alternatives(relation: usize, column: usize, ty: Type, parts: &[Expr]) -> Option<Vec<Expr>> {
    let value = |part: &Expr| match value_side(relation, column, part)? {
        (Strategy::Eq, value) => of_type(value, ty),
        _ => None,
    };
    parts.iter().map(value).collect()
}

struct Range {
    low: Option<RangeBound>,
    high: Option<RangeBound>,
    /// The bounds say all that the condition says.
    exact: bool,
}

fn range_on(relation: usize, column: usize, ty: Type, condition: &Expr) -> Option<Range> {
    if let Some((strategy, value)) = value_side(relation, column, condition) {
        let value = of_type(value, ty)?;
        let bound = |inclusive| Some(RangeBound { value: value.clone(), inclusive });
        return match strategy {
            Strategy::Gt => Some(Range { low: bound(false), high: None, exact: true }),
            Strategy::Ge => Some(Range { low: bound(true), high: None, exact: true }),
            Strategy::Lt => Some(Range { low: None, high: bound(false), exact: true }),
            Strategy::Le => Some(Range { low: None, high: bound(true), exact: true }),
            Strategy::Eq | Strategy::Ne => None,
        };
    }
    // LIKE 'abc%': the bytes between 'abc' and 'abd' (text is ordered by bytes).
    let Expr::Call(call) = condition else { return None };
    if call.operator != Some("~~")
        || !matches!(ty.oid, oid::TEXT | oid::VARCHAR)
        || !is_column(&call.args[0], relation, column)
    {
        return None;
    }
    let Expr::Const { value: Datum::Text(pattern), .. } = &call.args[1] else { return None };
    let end = pattern.find(['%', '_', '\\'])?;
    let prefix = &pattern[..end];
    let text = |value: &str| Expr::Const { value: Datum::text(value), ty: Type::new(ty.oid) };
    let mut successor = prefix.to_owned();
    let last = successor.pop()?;
    let next = char::from_u32(last as u32 + 1)?;
    successor.push(next);
    Some(Range {
        low: Some(RangeBound { value: text(prefix), inclusive: true }),
        high: Some(RangeBound { value: text(&successor), inclusive: false }),
        exact: false,
    })
}

/// The value as one of exactly the column's type, if it can be so without changing what is compared: the same type, a
/// binary-compatible one, a narrower integer, or an integer constant that fits.
pub fn of_type(value: &Expr, ty: Type) -> Option<Expr> {
    let from = value.ty().oid;
    if from == ty.oid || matches!((from, ty.oid), (oid::TEXT, oid::VARCHAR) | (oid::VARCHAR, oid::TEXT)) {
        return Some(value.clone());
    }
    if let Expr::Convert(convert) = value
        && convert.kind == ConvertKind::Relabel
        && convert.from.oid == ty.oid
    {
        return Some(convert.input.clone());
    }
    let rank = |type_oid| match type_oid {
        oid::INT2 => Some(2),
        oid::INT4 => Some(4),
        oid::INT8 => Some(8),
        _ => None,
    };
    let (narrow, wide) = (rank(from)?, rank(ty.oid)?);
    if let Expr::Const { value: datum, .. } = value {
        let number = match datum {
            Datum::Int2(number) => i64::from(*number),
            Datum::Int4(number) => i64::from(*number),
            Datum::Int8(number) => *number,
            _ => return None,
        };
        let value = match ty.oid {
            oid::INT2 => Datum::Int2(i16::try_from(number).ok()?),
            oid::INT4 => Datum::Int4(i32::try_from(number).ok()?),
            _ => Datum::Int8(number),
        };
        return Some(Expr::Const { value, ty: Type::new(ty.oid) });
    }
    if narrow < wide { convert(value.clone(), ty) } else { None }
}

/// A cast by function or relabelling, as `pg_cast` has it.
pub fn convert(value: Expr, ty: Type) -> Option<Expr> {
    let from = value.ty();
    if from.oid == ty.oid {
        return Some(value);
    }
    let target = Type::new(ty.oid);
    match function::find_cast(from.oid, ty.oid)?.method {
        CastMethod::Function(function) => Some(Expr::Call(Box::new(Call {
            function,
            args: vec![value],
            ty: target,
            position: None,
            operator: None,
        }))),
        CastMethod::Relabel => Some(Expr::Convert(Box::new(Convert {
            input: value,
            from,
            to: target,
            kind: ConvertKind::Relabel,
            explicit: false,
        }))),
        CastMethod::InOut => None,
    }
}
