//! Rows for which the predicate is true.

use plan::ir::Node;
use resolve::tree::Expr;
use value::Result;

use super::{Builder, Input, Step};
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Filter {
    input: Input,
    predicate: Code,
    columns: usize,
}

impl Filter {
    pub fn new(builder: &Builder<'_>, input: &Node, predicate: &Expr) -> Result<Filter> {
        Ok(Filter {
            input: builder.input(input)?,
            predicate: builder.compile(predicate)?,
            columns: input.types.len(),
        })
    }
}

impl Step for Filter {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        // Rows already accepted go up before the input is asked again: asking may unwind to the driver.
        while out.is_empty() && self.input.fill(state, max)? {
            state.context.cancel.check()?;
            while out.count < max && self.input.at < self.input.batch.count {
                let row = self.input.batch.row_mut(self.input.at);
                let passes = self.predicate.accepts(state, row)?;
                self.input.at += 1;
                if passes {
                    out.values.extend(row.iter_mut().map(std::mem::take));
                    out.count += 1;
                }
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.input.rescan(state)
    }
}
