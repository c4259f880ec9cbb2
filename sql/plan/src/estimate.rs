//! How many rows a condition lets through, from what ANALYZE found (PostgreSQL manual, "Row Estimation Examples").
//!
//! Without statistics the guesses are PostgreSQL's: equality 0.5 % (or one row through a unique index), a range a third, a
//! range closed on both sides 0.5 %.

use std::sync::Arc;

use engine::catalog::{Index, IndexKind, Table};
use engine::{ColumnStatistics, TableStatistics};
use function::Strategy;
use resolve::tree::Expr;
use value::{Datum, types};

use crate::expr::bare_column;
use crate::operator;

/// Costs, in PostgreSQL's unit (a sequential page read = 1), from measured proportions of this engine: following an index to a row
/// costs about ten times a row of a scan.
pub mod cost {
    pub const ROW: f64 = 0.01;
    pub const OPERATOR: f64 = 0.0025;
    pub const INDEX_DESCENT: f64 = 0.05;
    pub const INDEX_ROW: f64 = 0.1;
    pub const HASH_BUILD: f64 = 0.025;
    pub const HASH_PROBE: f64 = 0.012;
    pub const SORT_COMPARE: f64 = 0.006;
}

/// A base table of the query with what is known about it.
#[derive(Clone)]
pub struct Base {
    pub relation: usize,
    pub table: Arc<Table>,
    pub statistics: Arc<TableStatistics>,
    pub indexes: Vec<Arc<Index>>,
}

impl Base {
    pub fn rows(&self) -> f64 {
        (self.statistics.rows as f64).max(1.0)
    }

    fn column(&self, column: usize) -> Option<&ColumnStatistics> {
        self.statistics.columns.get(&((column + 1) as i16))
    }

    /// Distinct values of a column.
    pub fn distinct(&self, column: usize) -> f64 {
        if self.is_unique(column) {
            return self.rows();
        }
        let guess = self.rows().min(200.0);
        match self.column(column).map(|statistics| statistics.distinct) {
            Some(count) if count > 0.0 => count.min(self.rows()).max(1.0),
            Some(share) if share < 0.0 => (-share * self.rows()).max(1.0),
            _ => guess,
        }
    }

    fn is_unique(&self, column: usize) -> bool {
        let number = (column + 1) as i16;
        self.indexes.iter().any(|index| {
            index.unique
                && index.predicate.is_none()
                && matches!(&index.keys[..], [key] if key.column == number)
        })
    }

    fn equality(&self, column: usize, value: Option<&Datum>) -> f64 {
        let rows = self.rows();
        if self.is_unique(column) {
            return 1.0 / rows;
        }
        let Some(statistics) = self.column(column) else {
            return (1.0 / self.distinct(column)).max(1.0 / rows);
        };
        let known: f64 = statistics.most_common.iter().map(|common| common.frequency).sum();
        let rest = (1.0 - known - statistics.null_fraction).max(0.0);
        let others = (self.distinct(column) - statistics.most_common.len() as f64).max(1.0);
        if let Some(value) = value {
            let key = self.key(column, value);
            if let Some(common) = statistics.most_common.iter().find(|common| common.value.key == key) {
                return common.frequency;
            }
            return (rest / others).max(0.5 / rows);
        }
        ((1.0 - statistics.null_fraction) / self.distinct(column)).max(0.5 / rows)
    }

    fn key(&self, column: usize, value: &Datum) -> Vec<u8> {
        let mut key = Vec::new();
        value::key::encode(value, self.table.columns[column].type_oid, false, false, &mut key);
        key
    }

    /// Share of the rows below the value.
    fn below(&self, column: usize, value: &Datum) -> Option<f64> {
        let statistics = self.column(column)?;
        let key = self.key(column, value);
        let common: f64 = statistics
            .most_common
            .iter()
            .filter(|common| common.value.key < key)
            .map(|common| common.frequency)
            .sum();
        let known: f64 = statistics.most_common.iter().map(|common| common.frequency).sum();
        let rest = (1.0 - known - statistics.null_fraction).max(0.0);
        let bounds = &statistics.histogram;
        if bounds.len() < 2 {
            return (!statistics.most_common.is_empty()).then_some(common);
        }
        let place = bounds.partition_point(|bound| bound.key < key);
        let share = match place {
            0 => 0.0,
            n if n >= bounds.len() => 1.0,
            n => {
                (n as f64 - 1.0 + within(&bounds[n - 1].key, &bounds[n].key, &key))
                    / (bounds.len() - 1) as f64
            }
        };
        Some(common + rest * share)
    }

    fn inequality(&self, column: usize, strategy: Strategy, value: Option<&Datum>) -> f64 {
        let nulls = self.column(column).map_or(0.0, |statistics| statistics.null_fraction);
        let Some(below) = value.and_then(|value| self.below(column, value)) else { return 1.0 / 3.0 };
        let share = match strategy {
            Strategy::Lt | Strategy::Le => below,
            Strategy::Gt | Strategy::Ge => 1.0 - nulls - below,
            Strategy::Eq => return self.equality(column, value),
            Strategy::Ne => return (1.0 - nulls - self.equality(column, value)).max(0.0),
        };
        share.clamp(0.0001, 1.0)
    }
}

/// For plans with parameters: which values change an estimate, and by how much.
impl Base {
    /// Whether ANALYZE has found anything about any column.
    pub fn is_unanalyzed(&self) -> bool {
        self.statistics.columns.is_empty()
    }

    /// Whether the share of a comparison with the column depends on the value.
    pub fn depends_on_value(&self, column: usize, strategy: Strategy) -> bool {
        let Some(statistics) = self.column(column) else { return false };
        match strategy {
            Strategy::Eq | Strategy::Ne => !self.is_unique(column) && !statistics.most_common.is_empty(),
            _ => statistics.histogram.len() >= 2 || !statistics.most_common.is_empty(),
        }
    }

    /// The share of rows that compare so with the value.
    pub fn share(&self, column: usize, strategy: Strategy, value: Option<&Datum>) -> f64 {
        self.inequality_or_equality(column, strategy, value)
    }

    /// The value in the form the column's statistics have, if it has one: integers of other widths.
    pub fn comparable(&self, column: usize, value: &Datum) -> Option<Datum> {
        let ty = self.table.columns[column].type_oid;
        let integer = match value {
            Datum::Int2(v) => Some(i64::from(*v)),
            Datum::Int4(v) => Some(i64::from(*v)),
            Datum::Int8(v) => Some(*v),
            _ => None,
        };
        let adapted = match (integer, ty) {
            (Some(v), types::oid::INT2) => i16::try_from(v).ok().map(Datum::Int2),
            (Some(v), types::oid::INT4) => i32::try_from(v).ok().map(Datum::Int4),
            (Some(v), types::oid::INT8) => Some(Datum::Int8(v)),
            _ => Some(value.clone()),
        };
        adapted.filter(|value| fits(ty, value) && !value.is_null())
    }
}

/// Where `key` lies between two bounds, 0 to 1, by the first eight bytes in which they differ.
fn within(low: &[u8], high: &[u8], key: &[u8]) -> f64 {
    let common = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    let number = |bytes: &[u8]| {
        (0..8).fold(0.0, |sum, i| sum * 256.0 + f64::from(bytes.get(common + i).copied().unwrap_or(0)))
    };
    let (low, high, key) = (number(low), number(high), number(key));
    if high <= low { 0.5 } else { ((key - low) / (high - low)).clamp(0.0, 1.0) }
}

/// The estimated share of rows (of the cross product of the relations it reads) that satisfy the condition.
pub fn selectivity(expr: &Expr, bases: &dyn Fn(usize) -> Option<Base>) -> f64 {
    let of = |expr: &Expr| selectivity(expr, bases);
    match expr {
        Expr::Const { value: Datum::Bool(true), .. } => 1.0,
        Expr::Const { .. } => 0.0001,
        Expr::And(parts) => conjunction(parts, bases),
        Expr::Or(parts) => 1.0 - parts.iter().map(|part| 1.0 - of(part)).product::<f64>(),
        Expr::Not(part) => 1.0 - of(part),
        Expr::IsNull { input, negated } => {
            let share = bare_column(input)
                .and_then(|(relation, column)| Some(bases(relation)?.column(column)?.null_fraction))
                .unwrap_or(0.005);
            if *negated { 1.0 - share } else { share }
        }
        Expr::InList { left, list, all: false, negated, function } => {
            let each = match (bare_column(left), operator::strategy(function)) {
                (Some((relation, column)), Some(Strategy::Eq)) => bases(relation)
                    .map(|base| list.iter().map(|value| base.equality(column, constant(value))).sum::<f64>()),
                _ => None,
            };
            let share = each.unwrap_or(0.005 * list.len() as f64).min(1.0);
            if *negated { 1.0 - share } else { share }
        }
        Expr::AnyArray { left, all: false, .. } => match bare_column(left) {
            Some((relation, column)) => {
                bases(relation).map_or(0.05, |base| (10.0 * base.equality(column, None)).min(0.5))
            }
            None => 0.05,
        },
        Expr::Call(call) => match (operator::comparison(expr), operator::strategy(call.function)) {
            (Some((_, left, right)), Some(strategy)) => compare(strategy, left, right, bases),
            _ => match call.operator {
                Some("~~" | "~~*" | "~" | "~*") => 0.05,
                Some("!~~" | "!~~*" | "!~" | "!~*") => 0.95,
                _ => 1.0 / 3.0,
            },
        },
        Expr::Column { .. } => 0.5,
        Expr::Sublink(_) | Expr::Subplan(_) => 0.5,
        _ => 1.0 / 3.0,
    }
}

/// Ranges on one column (`a > 1 AND a < 5`) are not independent: both ends come off one whole.
fn conjunction(parts: &[Expr], bases: &dyn Fn(usize) -> Option<Base>) -> f64 {
    let mut result = 1.0;
    let mut lows: Vec<((usize, usize), f64)> = Vec::new();
    let mut highs: Vec<((usize, usize), f64)> = Vec::new();
    for part in parts {
        let share = selectivity(part, bases);
        let bound = operator::comparison(part).and_then(|(function, left, right)| {
            let strategy = operator::strategy(function)?;
            let (column, strategy) = match (bare_column(left), bare_column(right)) {
                (Some(column), None) => (column, strategy),
                (None, Some(column)) => (column, strategy.commuted()),
                _ => return None,
            };
            match strategy {
                Strategy::Gt | Strategy::Ge => Some((column, true)),
                Strategy::Lt | Strategy::Le => Some((column, false)),
                Strategy::Eq | Strategy::Ne => None,
            }
        });
        match bound {
            Some((column, true)) => lows.push((column, share)),
            Some((column, false)) => highs.push((column, share)),
            None => result *= share,
        }
    }
    for (column, low) in lows {
        match highs.iter().position(|(other, _)| *other == column) {
            Some(place) => {
                let (_, high) = highs.swap_remove(place);
                let guessed = (low - 1.0 / 3.0).abs() < 1e-9 && (high - 1.0 / 3.0).abs() < 1e-9;
                result *= if guessed { 0.005 } else { (low + high - 1.0).max(0.0005) };
            }
            None => result *= low,
        }
    }
    highs.into_iter().fold(result, |result, (_, high)| result * high)
}

/// The product over a list of conditions, as [`selectivity`] of their conjunction.
pub fn selectivity_of(parts: &[Expr], bases: &dyn Fn(usize) -> Option<Base>) -> f64 {
    conjunction(parts, bases)
}

fn compare(strategy: Strategy, left: &Expr, right: &Expr, bases: &dyn Fn(usize) -> Option<Base>) -> f64 {
    match (bare_column(left), bare_column(right)) {
        (Some((a, c)), Some((b, d))) if a != b => match strategy {
            Strategy::Eq => {
                let left = bases(a).map_or(200.0, |base| base.distinct(c));
                let right = bases(b).map_or(200.0, |base| base.distinct(d));
                1.0 / left.max(right).max(1.0)
            }
            Strategy::Ne => 0.99,
            _ => 1.0 / 3.0,
        },
        (Some((relation, column)), None) => match bases(relation) {
            Some(base) => base.inequality_or_equality(column, strategy, constant(right)),
            None => default(strategy),
        },
        (None, Some((relation, column))) => match bases(relation) {
            Some(base) => base.inequality_or_equality(column, strategy.commuted(), constant(left)),
            None => default(strategy),
        },
        _ => default(strategy),
    }
}

impl Base {
    fn inequality_or_equality(&self, column: usize, strategy: Strategy, value: Option<&Datum>) -> f64 {
        // Statistics are by the column's own type; another width of integer has other key bytes.
        let value = value.filter(|value| fits(self.table.columns[column].type_oid, value));
        match strategy {
            Strategy::Eq => self.equality(column, value),
            other => self.inequality(column, other, value),
        }
    }
}

fn default(strategy: Strategy) -> f64 {
    match strategy {
        Strategy::Eq => 0.005,
        Strategy::Ne => 0.995,
        _ => 1.0 / 3.0,
    }
}

fn constant(expr: &Expr) -> Option<&Datum> {
    match expr {
        Expr::Const { value, .. } if !value.is_null() => Some(value),
        Expr::Convert(convert) if convert.kind == resolve::tree::ConvertKind::Relabel => {
            constant(&convert.input)
        }
        _ => None,
    }
}

/// Whether the value has the form that columns of the type store.
pub fn fits(type_oid: value::Oid, value: &Datum) -> bool {
    use types::oid;
    match value {
        Datum::Bool(_) => type_oid == oid::BOOL,
        Datum::Int2(_) => type_oid == oid::INT2,
        Datum::Int4(_) => type_oid == oid::INT4,
        Datum::Int8(_) => type_oid == oid::INT8,
        Datum::Float4(_) => type_oid == oid::FLOAT4,
        Datum::Float8(_) => type_oid == oid::FLOAT8,
        Datum::Numeric(_) => type_oid == oid::NUMERIC,
        Datum::Date(_) => type_oid == oid::DATE,
        Datum::Timestamp(_) => type_oid == oid::TIMESTAMP,
        Datum::TimestampTz(_) => type_oid == oid::TIMESTAMPTZ,
        _ => true,
    }
}

/// Only a B-tree keeps an order; a hash index answers equality on its whole key.
pub fn is_ordered(index: &Index) -> bool {
    index.kind == IndexKind::BTree
}
