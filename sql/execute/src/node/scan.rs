//! Reads a table in row id order. Columns that the filter needs are decoded first, the rest only for rows that pass.

use std::ops::Bound;
use std::sync::Arc;

use engine::catalog::Table;
use engine::{ColumnRange, Row, RowBatch, RowId, ScanFilter, TableScan};
use function::Strategy;
use plan::ir::Scan;
use resolve::tree::Expr;
use value::types::oid;
use value::{Datum, Oid, Result};

use super::{Builder, Step};
use crate::access;
use crate::code::Code;
use crate::compile::strategy_of;
use crate::rows::Rows;
use crate::state::State;
use crate::walk::each_expr;

/// From stored rows to slots.
pub(crate) struct Decoder {
    filter: Option<Code>,
    /// (slot, column) the filter reads, and the others.
    early: Vec<(usize, usize)>,
    late: Vec<(usize, usize)>,
    /// The slot of the row id, and whether the filter reads it does not matter: it costs nothing.
    row_id: Option<usize>,
    pub width: usize,
}

impl Decoder {
    pub fn new(
        builder: &Builder<'_>,
        columns: &[usize],
        row_id: bool,
        filter: Option<&Expr>,
    ) -> Result<Decoder> {
        let mut needed = vec![false; columns.len() + 1];
        if let Some(filter) = filter {
            each_expr(filter, &mut |expr| {
                if let Expr::Slot { index, .. } = expr
                    && let Some(needed) = needed.get_mut(*index)
                {
                    *needed = true;
                }
            });
        }
        let slots = columns.iter().copied().enumerate();
        let (early, late) = slots.partition(|(slot, _)| needed[*slot]);
        Ok(Decoder {
            filter: builder.maybe(filter)?,
            early,
            late,
            row_id: row_id.then_some(columns.len()),
            width: columns.len() + usize::from(row_id),
        })
    }

    /// Appends the row's slots if it passes the filter.
    #[inline]
    pub fn emit(&mut self, state: &mut State, id: RowId, row: &Row, out: &mut Rows) -> Result<()> {
        let start = out.values.len();
        out.values.resize(start + self.width, Datum::Null);
        let slots = &mut out.values[start..];
        if let Some(slot) = self.row_id {
            slots[slot] = Datum::Int8(id.0 as i64);
        }
        for (slot, column) in &self.early {
            slots[*slot] = row.get(*column);
        }
        if let Some(filter) = &mut self.filter {
            match filter.accepts(state, slots) {
                Ok(true) => {}
                Ok(false) => {
                    out.values.truncate(start);
                    return Ok(());
                }
                Err(error) => {
                    out.values.truncate(start);
                    return Err(error);
                }
            }
        }
        for (slot, column) in &self.late {
            slots[*slot] = row.get(*column);
        }
        out.count += 1;
        Ok(())
    }
}

/// What SERIALIZABLE has to remember of a filter: the comparisons of a column with a value. `columns`: of the slots.
fn scan_filter(builder: &Builder<'_>, scan: &Scan) -> Result<ScanFilter> {
    let mut found = ScanFilter::default();
    let Some(filter) = scan.filter.as_ref().filter(|_| builder.context.snapshot.is_validated()) else {
        return Ok(found);
    };
    let parts = match filter {
        Expr::And(parts) => &parts[..],
        one => std::slice::from_ref(one),
    };
    for part in parts {
        let list = match part {
            Expr::Or(list) => &list[..],
            one => std::slice::from_ref(one),
        };
        let mut any = Vec::new();
        if list.iter().all(|expr| ranges(builder, scan, expr, &mut any)) {
            found.require(any);
        }
    }
    Ok(found)
}

/// Adds the ranges of a column of which the expression says that its value lies in one; false when it says something
/// else.
fn ranges(builder: &Builder<'_>, scan: &Scan, expr: &Expr, out: &mut Vec<ColumnRange>) -> bool {
    let value_of = |slot: usize, value: &Expr| {
        let column = *scan.columns.get(slot)?;
        let ty = scan.table.columns[column].ty().oid;
        let Ok(Code::Const(value)) = builder.compile(value) else { return None };
        Some((column, ty, as_column(&value, ty)?))
    };
    match expr {
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
        | (oid::DATE, None, Datum::Date(_))
        | (oid::TIMESTAMP, None, Datum::Timestamp(_))
        | (oid::TIMESTAMPTZ, None, Datum::TimestampTz(_))
        | (oid::UUID, None, Datum::Uuid(_))
        | (oid::BOOL, None, Datum::Bool(_)) => Some(value.clone()),
        _ => None,
    }
}

pub(crate) struct TableScanStep {
    table: Arc<Table>,
    filter: ScanFilter,
    decoder: Decoder,
    scan: Option<TableScan>,
    batch: RowBatch,
    at: usize,
    ended: bool,
}

impl TableScanStep {
    pub fn new(builder: &Builder<'_>, scan: &Scan) -> Result<TableScanStep> {
        Ok(TableScanStep {
            table: scan.table.clone(),
            filter: scan_filter(builder, scan)?,
            decoder: Decoder::new(builder, &scan.columns, scan.row_id, scan.filter.as_ref())?,
            scan: None,
            batch: RowBatch::new(),
            at: 0,
            ended: false,
        })
    }
}

impl Step for TableScanStep {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.decoder.width;
        while out.count < max {
            if self.at >= self.batch.len() {
                // A full enough batch goes up before the next block is read.
                if self.ended {
                    return Ok(());
                }
                state.context.cancel.check()?;
                let scan = match &mut self.scan {
                    Some(scan) => scan,
                    None => self.scan.insert(access::scan(state, &self.table, &self.filter)?),
                };
                self.at = 0;
                if !scan.next(&mut self.batch)? {
                    self.ended = true;
                    self.scan = None;
                    self.batch.clear();
                    return Ok(());
                }
                state.counters.rows_scanned += self.batch.len() as u64;
            }
            let at = self.at;
            self.at += 1;
            self.decoder.emit(state, self.batch.ids[at], &self.batch.rows[at], out)?;
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.scan = None;
        self.batch.clear();
        self.at = 0;
        self.ended = false;
        Ok(())
    }
}
