//! Rows of expressions.

use resolve::tree::Expr;
use value::Result;

use super::{Builder, Step};
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Values {
    rows: Vec<Vec<Code>>,
    columns: usize,
    at: usize,
}

impl Values {
    pub fn new(builder: &Builder<'_>, rows: &[Vec<Expr>], columns: usize) -> Result<Values> {
        let rows = rows.iter().map(|row| builder.list(row)).collect::<Result<_>>()?;
        Ok(Values { rows, columns, at: 0 })
    }
}

impl Step for Values {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        state.context.cancel.check()?;
        while out.count < max && self.at < self.rows.len() {
            for code in &mut self.rows[self.at] {
                let value = code.eval(state, &[])?;
                out.values.push(value);
            }
            out.count += 1;
            self.at += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.at = 0;
        Ok(())
    }
}
