//! The first row of each run of equal keys in a sorted input.

use plan::ir::Node;
use resolve::tree::Expr;
use value::{Datum, Oid, Result};

use super::{Builder, Input, Step};
use crate::code::Code;
use crate::rows::{self, Rows};
use crate::state::State;

pub(crate) struct DistinctOn {
    input: Input,
    keys: Vec<Code>,
    types: Vec<Oid>,
    columns: usize,
    last: Option<Vec<Datum>>,
}

impl DistinctOn {
    pub fn new(builder: &Builder<'_>, input: &Node, keys: &[Expr]) -> Result<DistinctOn> {
        Ok(DistinctOn {
            input: builder.input(input)?,
            types: keys.iter().map(|key| key.ty().oid).collect(),
            keys: builder.list(keys)?,
            columns: input.types.len(),
            last: None,
        })
    }
}

impl Step for DistinctOn {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        while out.is_empty() && self.input.fill(state, max)? {
            state.context.cancel.check()?;
            while out.count < max && self.input.at < self.input.batch.count {
                let row = self.input.batch.row(self.input.at);
                let keys =
                    self.keys.iter_mut().map(|code| code.eval(state, row)).collect::<Result<Vec<Datum>>>()?;
                let first = !self.last.as_ref().is_some_and(|last| rows::same_row(&self.types, last, &keys));
                if first {
                    out.push(row);
                    self.last = Some(keys);
                }
                self.input.at += 1;
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.last = None;
        self.input.rescan(state)
    }
}
