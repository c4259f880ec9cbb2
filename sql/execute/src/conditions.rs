//! What SERIALIZABLE has to remember of a scan's condition: comparisons of a column with a value, which the engine can
//! compare with rows that others write. What else a condition asks is left out: then more counts as read.

use std::ops::Bound;

use engine::{ColumnRange, ScanFilter};
use function::Strategy;
use plan::ir::Scan;
use resolve::tree::Expr;
use value::types::oid;
use value::{Datum, Oid};

use crate::code::Code;
use crate::compile::{Compiler, strategy_of};
use crate::context::Context;

/// The conditions of a scan's filter that rows must meet to be looked at; none where nothing is to be remembered.
pub fn conditions(context: &Context, scan: &Scan) -> ScanFilter {
    let mut found = ScanFilter::default();
    if context.snapshot.is_validated()
        && let Some(filter) = &scan.filter
    {
        require(context, scan, filter, &mut found);
    }
    found
}

fn require(context: &Context, scan: &Scan, condition: &Expr, found: &mut ScanFilter) {
    if let Expr::And(parts) = condition {
        return parts.iter().for_each(|part| require(context, scan, part, found));
    }
    let mut any = Vec::new();
    if ranges(context, scan, condition, &mut any) {
        found.require(any);
    }
}

/// Adds the ranges of columns of which the expression says that a value lies in one; false when it says something else.
fn ranges(context: &Context, scan: &Scan, expr: &Expr, out: &mut Vec<ColumnRange>) -> bool {
    let value_of = |slot: usize, value: &Expr| {
        let column = *scan.columns.get(slot)?;
        let ty = scan.table.columns[column].ty().oid;
        let Ok(Code::Const(value)) = Compiler::new(context).compile(value) else { return None };
        Some((column, ty, as_column(&value, ty)?))
    };
    match expr {
        Expr::Or(parts) => parts.iter().all(|part| ranges(context, scan, part, out)),
        Expr::InList { left, list, all: false, negated: false, .. } => {
            let Expr::Slot { index, .. } = &**left else { return false };
            list.iter().all(|value| match value_of(*index, value) {
                Some((column, ty, value)) => {
                    out.push(ColumnRange::new(column, ty, Bound::Included(&value), Bound::Included(&value)));
                    true
                }
                None => false,
            })
        }
        Expr::Call(call) => {
            let Some((strategy, ..)) = strategy_of(call.function) else { return false };
            let (slot, value, strategy) = match &call.args[..] {
                [Expr::Slot { index, .. }, value] => (*index, value, strategy),
                [value, Expr::Slot { index, .. }] => (*index, value, strategy.commuted()),
                _ => return false,
            };
            let Some((column, ty, value)) = value_of(slot, value) else { return false };
            let (low, high) = match strategy {
                Strategy::Eq => (Bound::Included(&value), Bound::Included(&value)),
                Strategy::Lt => (Bound::Unbounded, Bound::Excluded(&value)),
                Strategy::Le => (Bound::Unbounded, Bound::Included(&value)),
                Strategy::Gt => (Bound::Excluded(&value), Bound::Unbounded),
                Strategy::Ge => (Bound::Included(&value), Bound::Unbounded),
                Strategy::Ne => return false,
            };
            out.push(ColumnRange::new(column, ty, low, high));
            true
        }
        // A boolean column stands for itself.
        Expr::Slot { index, .. } => {
            let truth = Expr::Const { value: Datum::Bool(true), ty: value::Type::new(oid::BOOL) };
            let Some((column, ty, value)) = value_of(*index, &truth) else { return false };
            out.push(ColumnRange::new(column, ty, Bound::Included(&value), Bound::Included(&value)));
            true
        }
        _ => false,
    }
}

/// The value in the column's type, where that says the same in a comparison.
fn as_column(value: &Datum, ty: Oid) -> Option<Datum> {
    let number = match value {
        Datum::Int2(n) => Some(i64::from(*n)),
        Datum::Int4(n) => Some(i64::from(*n)),
        Datum::Int8(n) => Some(*n),
        _ => None,
    };
    match (ty, number, value) {
        (oid::INT2, Some(n), _) => i16::try_from(n).ok().map(Datum::Int2),
        (oid::INT4, Some(n), _) => i32::try_from(n).ok().map(Datum::Int4),
        (oid::INT8, Some(n), _) => Some(Datum::Int8(n)),
        (oid::TEXT | oid::VARCHAR, None, Datum::Text(_))
        | (oid::NUMERIC, None, Datum::Numeric(_))
        | (oid::FLOAT4, None, Datum::Float4(_))
        | (oid::FLOAT8, None, Datum::Float8(_))
        | (oid::DATE, None, Datum::Date(_))
        | (oid::TIME, None, Datum::Time(_))
        | (oid::TIMESTAMP, None, Datum::Timestamp(_))
        | (oid::TIMESTAMPTZ, None, Datum::TimestampTz(_))
        | (oid::UUID, None, Datum::Uuid(_))
        | (oid::BYTEA, None, Datum::Bytea(_))
        | (oid::BOOL, None, Datum::Bool(_)) => Some(value.clone()),
        _ => None,
    }
}
