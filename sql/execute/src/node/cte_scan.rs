//! Reads a WITH query that is computed once, as far as somebody has asked for it.

use value::Result;

use super::Step;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct CteScan {
    cte: usize,
    at: usize,
}

impl CteScan {
    pub fn new(cte: usize) -> CteScan {
        CteScan { cte, at: 0 }
    }
}

impl Step for CteScan {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        state.context.cancel.check()?;
        state.cte_rows(self.cte, &mut self.at, max, out)
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.at = 0;
        state.rescan_cte(self.cte)
    }
}
