//! A hash table over the right rows, probed by the left ones.
//!
//! The table chains row numbers, so that rows stay where they were appended; what a kind of join must know at
//! the end (which right rows were never met) is one flag a row.

use plan::ir::{HashJoin, JoinType};
use value::{Datum, Oid, Result};

use super::awaiting::Condition;
use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::context::Reserved;
use crate::rows::{self, Index, Rows};
use crate::state::State;

pub(crate) struct HashJoinStep {
    kind: JoinType,
    left: Input,
    right: Input,
    left_keys: Vec<Code>,
    right_keys: Vec<Code>,
    /// When every right key is a slot, keys are read from the rows themselves.
    right_slots: Option<Vec<usize>>,
    types: Vec<Oid>,
    condition: Option<Condition>,
    /// The right row whose condition has not been answered yet.
    asked: Option<usize>,
    /// A semi join that gives the right row too.
    wide: bool,
    left_width: usize,
    right_width: usize,
    build: Rows,
    /// The right keys, where they are computed.
    keys: Rows,
    index: Index,
    matched_right: Vec<bool>,
    has_null: bool,
    built: bool,
    keep: bool,
    memory: Reserved,
    probe: Vec<Datum>,
    probing: bool,
    chain: Option<usize>,
    matched: bool,
    tail: Option<usize>,
    row: Vec<Datum>,
}

impl HashJoinStep {
    pub fn new(builder: &Builder<'_>, join: &HashJoin) -> Result<HashJoinStep> {
        let (mut left_keys, mut right_keys, mut types) = (Vec::new(), Vec::new(), Vec::new());
        for (left, right) in &join.keys {
            types.push(left.ty().oid);
            left_keys.push(builder.compile(left)?);
            right_keys.push(builder.compile(right)?);
        }
        let right_slots = right_keys
            .iter()
            .map(|code| match code {
                Code::Slot(index) => Some(*index),
                _ => None,
            })
            .collect();
        Ok(HashJoinStep {
            kind: join.kind,
            wide: join.wide,
            left: builder.input(&join.left)?,
            right: builder.input(&join.right)?,
            condition: Condition::new(builder, join.condition.as_ref())?,
            asked: None,
            left_width: join.left.types.len(),
            right_width: join.right.types.len(),
            build: Rows::new(join.right.types.len()),
            keys: Rows::new(types.len()),
            index: Index::default(),
            matched_right: Vec::new(),
            has_null: false,
            built: false,
            keep: builder.kept(&join.right),
            memory: Reserved::new(&builder.context.memory),
            probe: Vec::with_capacity(types.len()),
            probing: false,
            chain: None,
            matched: false,
            tail: None,
            row: Vec::new(),
            left_keys,
            right_keys,
            right_slots,
            types,
        })
    }

    fn tracked(&self) -> bool {
        matches!(self.kind, JoinType::Right | JoinType::Full)
    }

    fn build(&mut self, state: &mut State) -> Result<()> {
        while self.right.fill(state, BATCH)? {
            state.context.cancel.check()?;
            while self.right.at < self.right.batch.count {
                let row = self.right.batch.row(self.right.at);
                let mut null = false;
                let mut hash = 0;
                for (code, ty) in self.right_keys.iter_mut().zip(&self.types) {
                    let mut spare = Datum::Null;
                    let value = code.get(state, row, &mut spare)?;
                    null |= value.is_null();
                    hash = rows::combine(hash, rows::hash_value(*ty, value));
                    if self.right_slots.is_none() {
                        self.keys.values.push(value.clone());
                    }
                }
                self.memory.add(rows::row_size(row) + Index::ENTRY)?;
                self.has_null |= null;
                if null {
                    self.index.push_unlinked();
                } else {
                    self.index.push(hash);
                }
                self.keys.count += 1;
                let at = self.right.at;
                self.build.values.extend(self.right.batch.row_mut(at).iter_mut().map(std::mem::take));
                self.build.count += 1;
                self.right.advance();
            }
        }
        if self.tracked() {
            self.matched_right = vec![false; self.build.count];
        }
        self.built = true;
        Ok(())
    }

    /// The next right row of the chain with the very keys of the probe.
    #[inline]
    fn candidate(&mut self) -> Option<usize> {
        while let Some(entry) = self.chain {
            self.chain = self.index.after(entry);
            let equal = match &self.right_slots {
                Some(slots) => {
                    let row = self.build.row(entry);
                    slots
                        .iter()
                        .zip(&self.types)
                        .zip(&self.probe)
                        .all(|((slot, ty), probe)| rows::same(*ty, probe, &row[*slot]))
                }
                None => rows::same_row(&self.types, &self.probe, self.keys.row(entry)),
            };
            if equal {
                return Some(entry);
            }
        }
        None
    }

    /// Computes the left row's keys and finds its chain.
    fn start_probe(&mut self, state: &mut State) -> Result<()> {
        self.probe.clear();
        let mut null = false;
        let mut hash = 0;
        for (code, ty) in self.left_keys.iter_mut().zip(&self.types) {
            let value = code.eval(state, self.left.batch.row(self.left.at))?;
            null |= value.is_null();
            hash = rows::combine(hash, rows::hash_value(*ty, &value));
            self.probe.push(value);
        }
        self.chain = if null { None } else { self.index.first(hash) };
        self.probing = true;
        self.matched = false;
        if self.kind == JoinType::NullAwareAnti && self.build.count > 0 {
            // Unknown is not true: with a NULL on either side nothing passes.
            self.matched = null || self.has_null;
        }
        Ok(())
    }

    fn emit_left(&mut self, out: &mut Rows, nulls: bool) {
        out.values.extend_from_slice(self.left.row());
        if nulls {
            out.values.resize(out.values.len() + self.right_width, Datum::Null);
        }
        out.count += 1;
    }

    fn end_row(&mut self) {
        self.probing = false;
        self.left.advance();
    }
}

impl Step for HashJoinStep {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        let one_sided = matches!(self.kind, JoinType::Semi | JoinType::Anti | JoinType::NullAwareAnti);
        let left_only = one_sided && !self.wide;
        out.columns = if left_only { self.left_width } else { self.left_width + self.right_width };
        if !self.built {
            self.build(state)?;
        }
        if self.build.count == 0 && matches!(self.kind, JoinType::Inner | JoinType::Semi | JoinType::Right) {
            return Ok(());
        }
        let mut steps = 0;
        while out.count < max {
            if let Some(at) = self.tail {
                let Some(found) = (at..self.build.count).find(|at| !self.matched_right[*at]) else {
                    self.tail = Some(self.build.count);
                    return Ok(());
                };
                out.values.resize(out.values.len() + self.left_width, Datum::Null);
                out.values.extend_from_slice(self.build.row(found));
                out.count += 1;
                self.tail = Some(found + 1);
                continue;
            }
            if !self.probing {
                if self.left.at >= self.left.batch.count && !out.is_empty() {
                    return Ok(());
                }
                if !self.left.fill(state, BATCH)? {
                    if self.tracked() {
                        self.tail = Some(0);
                        continue;
                    }
                    return Ok(());
                }
                self.start_probe(state)?;
            }
            steps += 1;
            if steps % 1024 == 0 {
                state.context.cancel.check()?;
            }
            let Some(entry) = self.asked.take().or_else(|| self.candidate()) else {
                if !self.matched {
                    match self.kind {
                        JoinType::Left | JoinType::Full => self.emit_left(out, true),
                        JoinType::Anti | JoinType::NullAwareAnti => self.emit_left(out, false),
                        _ => {}
                    }
                }
                self.end_row();
                continue;
            };
            if self.condition.as_ref().is_some_and(Condition::waits) {
                // Asked about again, should it unwind.
                self.asked = Some(entry);
                if !out.is_empty() {
                    return Ok(());
                }
            }
            if left_only {
                let passes = match &mut self.condition {
                    None => true,
                    Some(condition) => {
                        self.row.clear();
                        self.row.extend_from_slice(self.left.batch.row(self.left.at));
                        self.row.extend_from_slice(self.build.row(entry));
                        condition.accepts(state, &self.row)?
                    }
                };
                self.asked = None;
                if passes {
                    if self.kind == JoinType::Semi {
                        self.emit_left(out, false);
                    }
                    self.end_row();
                }
                continue;
            }
            let start = out.values.len();
            out.values.extend_from_slice(self.left.batch.row(self.left.at));
            out.values.extend_from_slice(self.build.row(entry));
            if let Some(condition) = &mut self.condition {
                let passes = condition.accepts(state, &out.values[start..])?;
                self.asked = None;
                if !passes {
                    out.values.truncate(start);
                    continue;
                }
            }
            out.count += 1;
            self.matched = true;
            if let Some(matched) = self.matched_right.get_mut(entry) {
                *matched = true;
            }
            if self.wide {
                self.end_row();
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.asked = None;
        self.condition.iter_mut().for_each(Condition::forget);
        self.probing = false;
        self.tail = None;
        self.left.rescan(state)?;
        if self.built && self.keep {
            self.matched_right.iter_mut().for_each(|matched| *matched = false);
            return Ok(());
        }
        self.built = false;
        self.has_null = false;
        self.build.clear();
        self.keys.clear();
        self.index.clear();
        self.memory.clear();
        self.right.rescan(state)
    }
}
