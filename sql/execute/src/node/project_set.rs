//! A target list with set-returning calls: for each input row they advance in lockstep until all have ended.

use std::sync::Arc;

use plan::ir::Node;
use resolve::tree::Expr;
use value::{Datum, Record, Result};

use super::{Builder, Input, Step};
use crate::code::Code;
use crate::compile::{Compiler, SetSite};
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct ProjectSet {
    input: Input,
    codes: Vec<Code>,
    sites: Vec<SetSite>,
    /// Input slots, then one for each call.
    row: Vec<Datum>,
    width: usize,
    running: Vec<Option<function::Rows>>,
    active: bool,
}

impl ProjectSet {
    pub fn new(builder: &Builder<'_>, input: &Node, exprs: &[Expr]) -> Result<ProjectSet> {
        let width = input.types.len();
        let (codes, sites) = Compiler::new(builder.context).with_sets(width, exprs)?;
        Ok(ProjectSet {
            input: builder.input(input)?,
            codes,
            row: Vec::new(),
            width,
            running: Vec::new(),
            active: false,
            sites,
        })
    }
}

impl Step for ProjectSet {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.codes.len();
        while out.count < max {
            if !self.active {
                let used_up = self.input.at >= self.input.batch.count;
                if (used_up && !out.is_empty()) || !self.input.fill(state, max)? {
                    return Ok(());
                }
                state.context.cancel.check()?;
                self.row.clear();
                self.row.extend_from_slice(self.input.row());
                self.row.resize(self.width + self.sites.len(), Datum::Null);
                self.input.advance();
                self.running.clear();
                for site in &mut self.sites {
                    self.running.push(site.start(state, &self.row[..self.width])?);
                }
                self.active = true;
            }
            let mut any = false;
            for (number, running) in self.running.iter_mut().enumerate() {
                let value = match running.as_mut().and_then(Iterator::next).transpose()? {
                    None => {
                        *running = None;
                        Datum::Null
                    }
                    Some(mut row) => {
                        any = true;
                        let site = &self.sites[number];
                        match row.len() {
                            1 => std::mem::take(&mut row[0]),
                            _ => Datum::Record(Arc::new(Record {
                                types: site.function.columns.iter().map(|(_, ty)| *ty).collect(),
                                fields: row,
                                names: Some(
                                    site.function.columns.iter().map(|(name, _)| Arc::from(*name)).collect(),
                                ),
                            })),
                        }
                    }
                };
                self.row[self.width + number] = value;
            }
            if !any {
                self.active = false;
                continue;
            }
            for code in &mut self.codes {
                let value = code.eval(state, &self.row)?;
                out.values.push(value);
            }
            out.count += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.active = false;
        self.running.clear();
        self.input.rescan(state)
    }
}
