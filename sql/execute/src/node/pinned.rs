//! A relation bound to one row, in a re-check.

use value::{Datum, Result};

use super::Step;
use crate::rows::Rows;
use crate::state::{Pin, State};

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
        let id = match state.pins.get(&self.relation) {
            None | Some(Pin::Nothing) => return Ok(()),
            Some(Pin::Row(id, row)) => {
                out.values.extend(self.columns.iter().map(|column| row.get(*column)));
                Datum::Int8(id.0 as i64)
            }
            Some(Pin::Record(record)) => {
                let field = |column: &usize| record.fields.get(*column).cloned().unwrap_or_default();
                out.values.extend(self.columns.iter().map(field));
                Datum::Record(record.clone())
            }
        };
        if self.row_id {
            out.values.push(id);
        }
        out.count = 1;
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.done = false;
        Ok(())
    }
}
