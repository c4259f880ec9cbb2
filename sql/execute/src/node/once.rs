//! One row without columns: what a SELECT without FROM reads.

use resolve::tree::Expr;
use value::Result;

use super::{Builder, Step};
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Once {
    condition: Option<Code>,
    done: bool,
}

impl Once {
    pub fn new(builder: &Builder<'_>, condition: Option<&Expr>) -> Result<Once> {
        Ok(Once { condition: builder.maybe(condition)?, done: false })
    }
}

impl Step for Once {
    fn next(&mut self, state: &mut State, _max: usize, out: &mut Rows) -> Result<()> {
        out.columns = 0;
        if !self.done {
            let holds = match &mut self.condition {
                Some(condition) => condition.accepts(state, &[])?,
                None => true,
            };
            self.done = true;
            out.count = usize::from(holds);
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.done = false;
        Ok(())
    }
}
