//! Computes a list of expressions. A slot that only one of them reads is moved, not copied.

use plan::ir::Node;
use resolve::tree::Expr;
use value::{Datum, Result};

use super::{Builder, Input, Step};
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;
use crate::walk::each_expr;

pub(crate) struct Project {
    input: Input,
    /// What is computed, in order; `None` for slots that are moved afterwards.
    codes: Vec<Option<Code>>,
    /// (output, input slot).
    moves: Vec<(usize, usize)>,
}

impl Project {
    pub fn new(builder: &Builder<'_>, input: &Node, exprs: &[Expr]) -> Result<Project> {
        Project::over(builder, builder.input(input)?, input.types.len(), exprs)
    }

    /// Over an input of that many slots that is a step already.
    pub fn over(builder: &Builder<'_>, input: Input, slots: usize, exprs: &[Expr]) -> Result<Project> {
        let mut uses = vec![0; slots];
        for expr in exprs {
            each_expr(expr, &mut |expr| {
                if let Expr::Slot { index, .. } = expr {
                    uses[*index] += 1;
                }
            });
        }
        let mut codes = Vec::with_capacity(exprs.len());
        let mut moves = Vec::new();
        for (number, expr) in exprs.iter().enumerate() {
            match expr {
                Expr::Slot { index, .. } if uses[*index] == 1 => {
                    moves.push((number, *index));
                    codes.push(None);
                }
                expr => codes.push(Some(builder.compile(expr)?)),
            }
        }
        Ok(Project { input, codes, moves })
    }
}

impl Step for Project {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.codes.len();
        if !self.input.fill(state, max)? {
            return Ok(());
        }
        while out.count < max && self.input.at < self.input.batch.count {
            let row = self.input.batch.row_mut(self.input.at);
            let start = out.values.len();
            for code in &mut self.codes {
                let value = match code {
                    Some(code) => code.eval(state, row)?,
                    None => Datum::Null,
                };
                out.values.push(value);
            }
            for (output, slot) in &self.moves {
                out.values[start + output] = std::mem::take(&mut row[*slot]);
            }
            out.count += 1;
            self.input.at += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.input.rescan(state)
    }
}
