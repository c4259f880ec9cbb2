//! FOR UPDATE and friends: locks the rows it passes on, and checks those again that have moved on since the snapshot.
//!
//! Waiting is not done here: a request unwinds to the driver, which can, and the step goes on with the answer.

use std::sync::Arc;

use engine::catalog::Table;
use engine::{Row, RowId, RowLock, RowLockMode, Wait};
use plan::ir::{LockRows, Recheck};
use resolve::tree::{LockStrength, LockWait};
use value::{Datum, Result};

use super::{BATCH, Builder, Input, Step};
use crate::rows::Rows;
use crate::state::{LockRequest, Pin, State, blocked};

/// The query again, with every relation bound to one row.
pub(crate) struct Rechecker {
    step: Box<dyn Step>,
    pins: Vec<(usize, Option<Arc<Table>>, usize)>,
    /// Something in it waits.
    running: bool,
}

impl Rechecker {
    pub fn new(builder: &Builder<'_>, recheck: &Recheck) -> Result<Rechecker> {
        let builder = Builder { context: builder.context, plan: builder.plan, rescans: true };
        Ok(Rechecker { step: builder.build(&recheck.plan)?, pins: recheck.pins.clone(), running: false })
    }

    /// Runs it for one input row. `newest`: rows of relations that are not as in the snapshot. Appends the
    /// new input row to `out`, or nothing when it does not qualify any more.
    pub fn run(
        &mut self,
        state: &mut State,
        row: &[Datum],
        newest: &[(usize, RowId, Row)],
        out: &mut Rows,
    ) -> Result<()> {
        // Called again after a wait in the midst of it.
        if !std::mem::replace(&mut self.running, true) {
            self.start(state, row, newest)?;
        }
        out.clear();
        self.step.next(state, 1, out)?;
        self.running = false;
        Ok(())
    }

    fn start(&mut self, state: &mut State, row: &[Datum], newest: &[(usize, RowId, Row)]) -> Result<()> {
        state.counters.rechecks += 1;
        state.pins.clear();
        for (relation, table, slot) in &self.pins {
            let pin = match (table, row.get(*slot)) {
                (Some(table), Some(Datum::Int8(id))) => {
                    let id = RowId(*id as u64);
                    state.context.snapshot.get(table, id)?.map_or(Pin::Nothing, |row| Pin::Row(id, row))
                }
                (None, Some(Datum::Record(record))) => Pin::Record(record.clone()),
                _ => Pin::Nothing,
            };
            state.pins.insert(*relation, pin);
        }
        for (relation, id, row) in newest {
            state.pins.insert(*relation, Pin::Row(*id, row.clone()));
        }
        self.step.rescan(state)
    }
}

struct Lock {
    table: Arc<Table>,
    relation: usize,
    slot: usize,
    mode: RowLockMode,
    wait: Wait,
}

pub(crate) struct LockRowsStep {
    input: Input,
    locks: Vec<Lock>,
    recheck: Rechecker,
    columns: usize,
    /// Rows asked of the input at a time: grows, so that LIMIT 1 reads little and SKIP LOCKED does not crawl.
    ask: usize,
    /// The lock of the current row that is next, and whether it was asked for.
    at: usize,
    asked: bool,
    newest: Vec<(usize, RowId, Row)>,
    checked: Rows,
}

impl LockRowsStep {
    pub fn new(builder: &Builder<'_>, lock: &LockRows) -> Result<LockRowsStep> {
        let locks = lock
            .locks
            .iter()
            .map(|step| Lock {
                table: step.table.clone(),
                relation: step.relation,
                slot: step.row_id,
                mode: match step.strength {
                    LockStrength::KeyShare => RowLockMode::KeyShare,
                    LockStrength::Share => RowLockMode::Share,
                    LockStrength::NoKeyUpdate => RowLockMode::NoKeyUpdate,
                    LockStrength::Update => RowLockMode::Update,
                },
                wait: match step.wait {
                    LockWait::Block => Wait::Block,
                    LockWait::NoWait => Wait::NoWait,
                    LockWait::SkipLocked => Wait::Skip,
                },
            })
            .collect();
        Ok(LockRowsStep {
            input: builder.input(&lock.input)?,
            locks,
            recheck: Rechecker::new(builder, &lock.recheck)?,
            columns: lock.input.types.len(),
            ask: 0,
            at: 0,
            asked: false,
            newest: Vec::new(),
            checked: Rows::default(),
        })
    }

    fn end_row(&mut self) {
        self.at = 0;
        self.asked = false;
        self.newest.clear();
        self.input.advance();
    }
}

impl Step for LockRowsStep {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        'rows: while out.is_empty() {
            if self.input.at >= self.input.batch.count {
                self.ask = (self.ask * 2).clamp(max.clamp(1, BATCH), BATCH);
            }
            if !self.input.fill(state, self.ask)? {
                return Ok(());
            }
            while let Some(lock) = self.locks.get(self.at) {
                let Datum::Int8(id) = self.input.row()[lock.slot] else {
                    // The outer side of a join: nothing to lock.
                    self.at += 1;
                    continue;
                };
                let id = RowId(id as u64);
                if !self.asked {
                    self.asked = true;
                    state.answer = None;
                    state.request = Some(LockRequest {
                        table: lock.table.clone(),
                        row: id,
                        mode: lock.mode,
                        wait: lock.wait,
                    });
                    return Err(blocked());
                }
                let Some(answer) = state.answer.take() else { return Err(blocked()) };
                self.asked = false;
                match answer {
                    RowLock::Granted => {}
                    RowLock::Moved(row) => self.newest.push((lock.relation, id, row)),
                    RowLock::Deleted | RowLock::Skipped | RowLock::AlreadyChanged => {
                        self.end_row();
                        continue 'rows;
                    }
                }
                self.at += 1;
            }
            if self.newest.is_empty() {
                out.push(self.input.row());
            } else {
                let mut checked = std::mem::take(&mut self.checked);
                self.recheck.run(state, self.input.row(), &self.newest, &mut checked)?;
                if !checked.is_empty() {
                    out.push(checked.row(0));
                }
                self.checked = checked;
            }
            self.end_row();
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.at = 0;
        self.asked = false;
        self.newest.clear();
        self.input.rescan(state)
    }
}
