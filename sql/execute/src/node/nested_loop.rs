//! For each left row, the right rows: run again with bindings set (an index lookup, LATERAL), or read from memory
//! when the right side does not depend on the left.

use plan::ir::{JoinType, NestedLoop};
use value::{Datum, Error, Result};

use super::awaiting::Condition;
use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::context::Reserved;
use crate::rows::{self, Rows};
use crate::state::State;
use crate::walk;

pub(crate) struct NestedLoopStep {
    kind: JoinType,
    left: Input,
    right: Input,
    bindings: Vec<(usize, Code)>,
    /// Their values for the current left row: a parameter stands for a column, and whoever else is about that column (a
    /// subquery above, for an earlier row) may have set it to another value in between.
    bound: Vec<Datum>,
    condition: Option<Condition>,
    /// `row` is a pair whose condition has not been answered yet.
    asked: bool,
    /// A semi join that gives the right row too.
    wide: bool,
    left_width: usize,
    right_width: usize,
    /// Without bindings: the right rows, once they were read.
    stored: Rows,
    complete: bool,
    keep: bool,
    /// For each stored row (RIGHT, FULL).
    matched_right: Vec<bool>,
    memory: Reserved,
    /// A left row is being joined.
    active: bool,
    matched: bool,
    right_at: usize,
    /// Emitting unmatched right rows.
    tail: Option<usize>,
    row: Vec<Datum>,
    /// The right side may unwind to wait for a lock: hand up what there is before asking it.
    careful: bool,
}

impl NestedLoopStep {
    pub fn new(builder: &Builder<'_>, join: &NestedLoop) -> Result<NestedLoopStep> {
        let mut bindings = Vec::with_capacity(join.bindings.len());
        for (outer, expr) in &join.bindings {
            bindings.push((*outer, builder.compile(expr)?));
        }
        let tracked = matches!(join.kind, JoinType::Right | JoinType::Full);
        if join.kind == JoinType::NullAwareAnti || (tracked && !bindings.is_empty()) {
            return Err(Error::internal(format!("a nested loop of kind {:?} with bindings", join.kind)));
        }
        let repeated = !bindings.is_empty();
        Ok(NestedLoopStep {
            kind: join.kind,
            wide: join.wide,
            left: builder.input(&join.left)?,
            right: if repeated { builder.repeated(&join.right)? } else { builder.input(&join.right)? },
            condition: Condition::new(builder, join.condition.as_ref())?,
            asked: false,
            left_width: join.left.types.len(),
            right_width: join.right.types.len(),
            stored: Rows::new(join.right.types.len()),
            complete: false,
            keep: !repeated && builder.kept(&join.right),
            matched_right: Vec::new(),
            memory: Reserved::new(&builder.context.memory),
            bound: Vec::new(),
            active: false,
            matched: false,
            right_at: 0,
            tail: None,
            row: Vec::new(),
            careful: walk::needs(builder.plan, &join.right).locks,
            bindings,
        })
    }

    fn tracked(&self) -> bool {
        matches!(self.kind, JoinType::Right | JoinType::Full)
    }

    /// Reads the right side into memory.
    fn store(&mut self, state: &mut State) -> Result<()> {
        while self.right.fill(state, BATCH)? {
            state.context.cancel.check()?;
            for row in self.right.batch.iter() {
                self.memory.add(rows::row_size(row))?;
            }
            self.stored.count += self.right.batch.count;
            self.stored.values.append(&mut self.right.batch.values);
            self.right.batch.count = 0;
        }
        self.complete = true;
        if self.tracked() {
            self.matched_right = vec![false; self.stored.count];
        }
        Ok(())
    }

    fn bind(&self, state: &mut State) {
        for ((outer, _), value) in self.bindings.iter().zip(&self.bound) {
            state.outers[*outer] = value.clone();
        }
    }

    fn emit_left(&mut self, out: &mut Rows, nulls: bool) {
        out.values.extend_from_slice(self.left.row());
        if nulls {
            out.values.resize(out.values.len() + self.right_width, Datum::Null);
        }
        out.count += 1;
    }

    fn end_row(&mut self) {
        self.active = false;
        self.left.advance();
    }
}

impl Step for NestedLoopStep {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        let left_only = matches!(self.kind, JoinType::Semi | JoinType::Anti) && !self.wide;
        out.columns = if left_only { self.left_width } else { self.left_width + self.right_width };
        if self.bindings.is_empty() && !self.complete && self.tracked() {
            self.store(state)?;
        }
        let mut steps = 0;
        while out.count < max {
            if let Some(at) = self.tail {
                let Some(found) = (at..self.stored.count).find(|at| !self.matched_right[*at]) else {
                    self.tail = Some(self.stored.count);
                    return Ok(());
                };
                out.values.resize(out.values.len() + self.left_width, Datum::Null);
                out.values.extend_from_slice(self.stored.row(found));
                out.count += 1;
                self.tail = Some(found + 1);
                continue;
            }
            if !self.active {
                if self.left.at >= self.left.batch.count && !out.is_empty() {
                    return Ok(());
                }
                if !self.left.fill(state, max)? {
                    if self.tracked() {
                        self.tail = Some(0);
                        continue;
                    }
                    return Ok(());
                }
                if self.bindings.is_empty() {
                    if !self.complete {
                        self.store(state)?;
                    }
                } else {
                    self.bound.clear();
                    for (_, code) in &mut self.bindings {
                        self.bound.push(code.eval(state, self.left.batch.row(self.left.at))?);
                    }
                    self.bind(state);
                    self.right.rescan(state)?;
                }
                self.right_at = 0;
                self.active = true;
                self.matched = false;
                self.row.clear();
                self.row.extend_from_slice(self.left.row());
            }
            steps += 1;
            if steps % 1024 == 0 {
                state.context.cancel.check()?;
            }
            // The next right row, behind the left one in `row`.
            let found = if self.asked {
                true
            } else if self.bindings.is_empty() {
                self.row.truncate(self.left_width);
                let found = self.right_at < self.stored.count;
                if found {
                    self.row.extend_from_slice(self.stored.row(self.right_at));
                    self.right_at += 1;
                }
                found
            } else {
                self.row.truncate(self.left_width);
                if self.careful && !out.is_empty() && self.right.at >= self.right.batch.count {
                    return Ok(());
                }
                let ask = if left_only && self.condition.is_none() { 1 } else { BATCH.min(max.max(16)) };
                if self.right.at >= self.right.batch.count {
                    self.bind(state);
                }
                let found = self.right.fill(state, ask)?;
                if found {
                    self.row.extend(self.right.batch.row_mut(self.right.at).iter_mut().map(std::mem::take));
                    self.right.advance();
                }
                found
            };
            if !found {
                if !self.matched {
                    match self.kind {
                        JoinType::Left | JoinType::Full => self.emit_left(out, true),
                        JoinType::Anti => self.emit_left(out, false),
                        _ => {}
                    }
                }
                self.end_row();
                continue;
            }
            if let Some(condition) = &mut self.condition {
                self.asked = true;
                if condition.waits() && !out.is_empty() {
                    return Ok(());
                }
                if !condition.accepts(state, &self.row)? {
                    self.asked = false;
                    continue;
                }
                self.asked = false;
            }
            self.matched = true;
            match self.kind {
                JoinType::Semi => {
                    if self.wide {
                        out.values.extend_from_slice(&self.row);
                        out.count += 1;
                    } else {
                        self.emit_left(out, false);
                    }
                    self.end_row();
                }
                JoinType::Anti => self.end_row(),
                _ => {
                    if self.tracked() {
                        self.matched_right[self.right_at - 1] = true;
                    }
                    out.values.extend_from_slice(&self.row);
                    out.count += 1;
                }
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.active = false;
        self.asked = false;
        self.condition.iter_mut().for_each(Condition::forget);
        self.tail = None;
        self.left.rescan(state)?;
        if self.bindings.is_empty() {
            if self.keep && self.complete {
                self.matched_right.iter_mut().for_each(|matched| *matched = false);
            } else {
                self.complete = false;
                self.stored.clear();
                self.memory.clear();
                self.right.rescan(state)?;
            }
        }
        Ok(())
    }
}
