//! Inside a recursive query: the rows of the last round.

use value::{Error, Result};

use super::Step;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct WorkTable {
    recursion: usize,
    at: usize,
}

impl WorkTable {
    pub fn new(recursion: usize) -> WorkTable {
        WorkTable { recursion, at: 0 }
    }
}

impl Step for WorkTable {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        let Some(rows) = state.work.get(&self.recursion) else {
            return Err(Error::internal("a work table outside of its recursion"));
        };
        out.columns = rows.columns;
        let count = max.min(rows.count - self.at.min(rows.count));
        out.values.extend_from_slice(&rows.values[self.at * rows.columns..(self.at + count) * rows.columns]);
        out.count = count;
        self.at += count;
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.at = 0;
        Ok(())
    }
}
