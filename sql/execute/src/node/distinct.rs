//! Each row once, by hash, in order of first appearance.

use plan::ir::Node;
use value::{Oid, Result};

use super::{Builder, Input, Step};
use crate::context::Reserved;
use crate::rows::{self, Index, Rows};
use crate::state::State;

/// A set of rows.
pub(crate) struct RowSet {
    pub rows: Rows,
    pub index: Index,
    types: Vec<Oid>,
    memory: Reserved,
}

impl RowSet {
    pub fn new(builder: &Builder<'_>, types: Vec<Oid>) -> RowSet {
        RowSet {
            rows: Rows::new(types.len()),
            index: Index::default(),
            types,
            memory: Reserved::new(&builder.context.memory),
        }
    }

    /// The number of a row that is in the set.
    pub fn find(&self, row: &[value::Datum]) -> Option<usize> {
        let hash = rows::hash_row(&self.types, row);
        self.index.find(hash, |entry| rows::same_row(&self.types, row, self.rows.row(entry)))
    }

    /// Adds a row; its number, and whether it is new.
    pub fn insert(&mut self, row: &[value::Datum]) -> Result<(usize, bool)> {
        let hash = rows::hash_row(&self.types, row);
        if let Some(entry) =
            self.index.find(hash, |entry| rows::same_row(&self.types, row, self.rows.row(entry)))
        {
            return Ok((entry, false));
        }
        self.memory.add(rows::row_size(row) + Index::ENTRY)?;
        self.rows.push(row);
        Ok((self.index.push(hash), true))
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.index.clear();
        self.memory.clear();
    }
}

pub(crate) struct Distinct {
    input: Input,
    set: RowSet,
}

impl Distinct {
    pub fn new(builder: &Builder<'_>, input: &Node) -> Result<Distinct> {
        let types = input.types.iter().map(|ty| ty.oid).collect();
        Ok(Distinct { input: builder.input(input)?, set: RowSet::new(builder, types) })
    }
}

impl Step for Distinct {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.set.rows.columns;
        while out.is_empty() && self.input.fill(state, max)? {
            state.context.cancel.check()?;
            while out.count < max && self.input.at < self.input.batch.count {
                let row = self.input.batch.row(self.input.at);
                if self.set.insert(row)?.1 {
                    out.push(row);
                }
                self.input.at += 1;
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.set.clear();
        self.input.rescan(state)
    }
}
