//! One input after the other.

use plan::ir::Node;
use value::Result;

use super::{Builder, Step};
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Append {
    inputs: Vec<Box<dyn Step>>,
    columns: usize,
    at: usize,
}

impl Append {
    pub fn new(builder: &Builder<'_>, inputs: &[Node]) -> Result<Append> {
        Ok(Append {
            columns: inputs.first().map_or(0, |input| input.types.len()),
            inputs: inputs.iter().map(|input| builder.build(input)).collect::<Result<_>>()?,
            at: 0,
        })
    }

    /// Over inputs that are steps already.
    pub fn over(inputs: Vec<Box<dyn Step>>, columns: usize) -> Append {
        Append { inputs, columns, at: 0 }
    }
}

impl Step for Append {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        while let Some(input) = self.inputs.get_mut(self.at) {
            input.next(state, max, out)?;
            if !out.is_empty() {
                return Ok(());
            }
            self.at += 1;
        }
        out.columns = self.columns;
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.at = 0;
        self.inputs.iter_mut().try_for_each(|input| input.rescan(state))
    }
}
