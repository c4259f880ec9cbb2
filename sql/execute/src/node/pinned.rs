//! A relation bound to one row, in a re-check.

use value::{Datum, Result};

use super::Step;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Pinned {
    relation: usize,
    columns: Vec<usize>,
    row_id: bool,
    done: bool,
}

impl Pinned {
    pub fn new(relation: usize, columns: &[usize], row_id: bool) -> Pinned {
        Pinned { relation, columns: columns.to_vec(), row_id, done: false }
    }
}

impl Step for Pinned {
    fn next(&mut self, state: &mut State, _max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns.len() + usize::from(self.row_id);
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        if let Some((id, row)) = state.pins.get(&self.relation).and_then(|pin| pin.row.as_ref()) {
            out.values.extend(self.columns.iter().map(|column| row.get(*column)));
            if self.row_id {
                out.values.push(Datum::Int8(id.0 as i64));
            }
            out.count = 1;
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.done = false;
        Ok(())
    }
}
