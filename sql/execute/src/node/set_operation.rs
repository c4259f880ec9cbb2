//! INTERSECT and EXCEPT: the right rows are counted by hash, then the left ones pass through.

use plan::ir::Node;
use resolve::tree::SetKind;
use value::{Error, Result};

use super::distinct::RowSet;
use super::{BATCH, Builder, Input, Step};
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct SetOperation {
    kind: SetKind,
    all: bool,
    left: Input,
    right: Input,
    set: RowSet,
    counts: Vec<u64>,
    built: bool,
}

impl SetOperation {
    pub fn new(
        builder: &Builder<'_>,
        kind: SetKind,
        all: bool,
        left: &Node,
        right: &Node,
    ) -> Result<SetOperation> {
        if kind == SetKind::Union {
            return Err(Error::internal("UNION is Append"));
        }
        let types = left.types.iter().map(|ty| ty.oid).collect();
        Ok(SetOperation {
            kind,
            all,
            left: builder.input(left)?,
            right: builder.input(right)?,
            set: RowSet::new(builder, types),
            counts: Vec::new(),
            built: false,
        })
    }

    /// Whether a left row is part of the result.
    fn passes(&mut self) -> Result<bool> {
        let row = self.left.batch.row(self.left.at);
        if self.kind == SetKind::Except && !self.all {
            // What was given once is in the set from then on, like the right rows.
            let (_, new) = self.set.insert(row)?;
            return Ok(new);
        }
        let count = match self.set.find(row) {
            Some(entry) => &mut self.counts[entry],
            None => return Ok(self.kind == SetKind::Except),
        };
        let present = *count > 0;
        if present {
            *count = if self.all { *count - 1 } else { 0 };
        }
        Ok(present == (self.kind == SetKind::Intersect))
    }
}

impl Step for SetOperation {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.set.rows.columns;
        if !self.built {
            while self.right.fill(state, BATCH)? {
                state.context.cancel.check()?;
                while self.right.at < self.right.batch.count {
                    let (entry, new) = self.set.insert(self.right.row())?;
                    if new {
                        self.counts.push(1);
                    } else {
                        self.counts[entry] += 1;
                    }
                    self.right.advance();
                }
            }
            self.built = true;
        }
        while out.is_empty() && self.left.fill(state, BATCH)? {
            state.context.cancel.check()?;
            while out.count < max && self.left.at < self.left.batch.count {
                if self.passes()? {
                    out.push(self.left.row());
                }
                self.left.advance();
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.built = false;
        self.set.clear();
        self.counts.clear();
        self.left.rescan(state)?;
        self.right.rescan(state)
    }
}
