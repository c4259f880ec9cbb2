//! A relation computed by the crate above: pg_catalog, information_schema, startdb.

use resolve::tree::Expr;
use value::{Datum, Result};

use super::{Builder, Step};
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct SystemScan {
    schema: &'static str,
    name: &'static str,
    columns: Vec<usize>,
    filter: Option<Code>,
    rows: Option<Vec<Vec<Datum>>>,
    at: usize,
}

impl SystemScan {
    pub fn new(
        builder: &Builder<'_>,
        schema: &'static str,
        name: &'static str,
        columns: &[usize],
        filter: Option<&Expr>,
    ) -> Result<SystemScan> {
        Ok(SystemScan {
            schema,
            name,
            columns: columns.to_vec(),
            filter: builder.maybe(filter)?,
            rows: None,
            at: 0,
        })
    }
}

impl Step for SystemScan {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns.len();
        let rows = match &self.rows {
            Some(rows) => rows,
            None => {
                let rows = state.context.system.rows(self.schema, self.name, &self.columns)?;
                state.counters.rows_scanned += rows.len() as u64;
                self.rows.insert(rows)
            }
        };
        while out.count < max && self.at < rows.len() {
            if self.at.is_multiple_of(1024) {
                state.context.cancel.check()?;
            }
            let row = &rows[self.at];
            self.at += 1;
            let passes = match &mut self.filter {
                Some(filter) => filter.accepts(state, row)?,
                None => true,
            };
            if passes {
                out.push(row);
            }
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        // The statement sees one state of the catalog: what was computed stays.
        self.at = 0;
        Ok(())
    }
}
