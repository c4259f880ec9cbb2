//! Reads a table in row id order. Columns that the filter needs are decoded first, the rest only for rows that pass.

use std::sync::Arc;

use engine::catalog::Table;
use engine::{Columns, Row, RowBatch, RowId, ScanFilter, TableScan};
use plan::ir::Scan;
use resolve::tree::Expr;
use value::{Datum, Result};

use super::{Builder, Step};
use crate::access;
use crate::code::Code;
use crate::conditions::conditions;
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

pub(crate) struct TableScanStep {
    table: Arc<Table>,
    filter: ScanFilter,
    columns: Columns,
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
            filter: conditions(builder.context, scan),
            columns: access::columns(builder.context, &scan.columns),
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
                    None => self.scan.insert(access::scan(state, &self.table, &self.filter, &self.columns)?),
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
