//! WITH RECURSIVE: the recursive arm is run over the rows of the last round until a round adds none.

use std::sync::Arc;

use plan::ir::Node;
use value::Result;

use super::distinct::RowSet;
use super::{BATCH, Builder, Input, Step};
use crate::context::Reserved;
use crate::rows::{self, Rows};
use crate::state::State;

pub(crate) struct RecursiveUnion {
    recursion: usize,
    initial: Input,
    recursive: Input,
    /// UNION: every row given so far.
    seen: Option<RowSet>,
    columns: usize,
    /// What this round has added.
    next: Rows,
    memory: Reserved,
    /// The first arm is done.
    recursing: bool,
    done: bool,
}

impl RecursiveUnion {
    pub fn new(
        builder: &Builder<'_>,
        recursion: usize,
        all: bool,
        initial: &Node,
        recursive: &Node,
    ) -> Result<RecursiveUnion> {
        let columns = initial.types.len();
        let types = initial.types.iter().map(|ty| ty.oid).collect();
        Ok(RecursiveUnion {
            recursion,
            initial: builder.input(initial)?,
            recursive: builder.repeated(recursive)?,
            seen: (!all).then(|| RowSet::new(builder, types)),
            columns,
            next: Rows::new(columns),
            memory: Reserved::new(&builder.context.memory),
            recursing: false,
            done: false,
        })
    }

    fn pass(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<bool> {
        let input = if self.recursing { &mut self.recursive } else { &mut self.initial };
        while out.is_empty() {
            if !input.fill(state, max.min(BATCH))? {
                return Ok(false);
            }
            state.context.cancel.check()?;
            while out.count < max && input.at < input.batch.count {
                let row = input.batch.row(input.at);
                let new = match &mut self.seen {
                    Some(seen) => seen.insert(row)?.1,
                    None => true,
                };
                if new {
                    self.memory.add(rows::row_size(row))?;
                    self.next.push(row);
                    out.push(row);
                }
                input.at += 1;
            }
        }
        Ok(true)
    }
}

impl Step for RecursiveUnion {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        while !self.done {
            if self.pass(state, max, out)? {
                return Ok(());
            }
            // The round is over.
            if self.next.is_empty() {
                self.done = true;
                state.work.remove(&self.recursion);
                return Ok(());
            }
            self.recursing = true;
            let rows = std::mem::replace(&mut self.next, Rows::new(self.columns));
            self.memory.clear();
            state.work.insert(self.recursion, Arc::new(rows));
            self.recursive.rescan(state)?;
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.recursing = false;
        self.done = false;
        self.next.clear();
        self.memory.clear();
        if let Some(seen) = &mut self.seen {
            seen.clear();
        }
        state.work.remove(&self.recursion);
        self.initial.rescan(state)
    }
}
