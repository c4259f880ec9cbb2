//! UPDATE: lock, check again if the row has moved on, write.

use engine::{Row, RowId, RowLock, RowLockMode, Transaction, Wait};
use plan::ir::Recheck;
use value::{Datum, Error, Result};

use super::Target;
use super::foreign_key::Queue;
use crate::driver::{guarded, lock_row, settled};
use crate::node::Builder;
use crate::node::lock_rows::Rechecker;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Update {
    row_id: usize,
    /// (column, input slot).
    columns: Vec<(usize, usize)>,
    recheck: Rechecker,
    /// The target's relation number in the re-check.
    relation: Option<usize>,
    checked: Rows,
}

/// The relation whose row id stands in `slot`.
pub(super) fn target_relation(recheck: &Recheck, slot: usize) -> Option<usize> {
    recheck.pins.iter().find(|(_, _, pin)| *pin == slot).map(|(relation, ..)| *relation)
}

impl Update {
    pub fn new(
        builder: &Builder<'_>,
        row_id: usize,
        columns: &[(usize, usize)],
        recheck: &Recheck,
    ) -> Result<Update> {
        Ok(Update {
            row_id,
            columns: columns.to_vec(),
            relation: target_relation(recheck, row_id),
            recheck: Rechecker::new(builder, recheck)?,
            checked: Rows::default(),
        })
    }

    /// The new row: the old one with the assigned columns from the source row.
    fn assign(&self, old: &Row, source: &[Datum]) -> Vec<Datum> {
        let mut new = old.decode();
        for (column, slot) in &self.columns {
            new[*column] = source[*slot].clone();
        }
        new
    }

    pub async fn row(
        &mut self,
        target: &mut Target,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<()> {
        let Datum::Int8(id) = source[self.row_id] else { return Ok(()) };
        let id = RowId(id as u64);
        let table = target.table.clone();
        let snapshot = state.context.snapshot.clone();
        let Some(mut old) = snapshot.unvalidated_get(&table, id)? else {
            return Err(Error::internal("a row to update that its own snapshot does not see"));
        };
        let mut new = self.assign(&old, source);
        let mode = target.rules.lock_mode(&table, &|column| old.get(column), &new);
        let mut moved = None;
        match lock_row(&state.context, tx, &table, id, mode, Wait::Block, &snapshot).await? {
            RowLock::Granted => {}
            RowLock::Moved(row) => moved = Some(row),
            RowLock::Deleted | RowLock::Skipped | RowLock::AlreadyChanged => return Ok(()),
        }
        let mut checked = std::mem::take(&mut self.checked);
        if let Some(row) = moved {
            let newest: Vec<_> =
                self.relation.map(|relation| (relation, id, row.clone())).into_iter().collect();
            settled(state, tx, |state| self.recheck.run(state, source, &newest, &mut checked)).await?;
            if checked.is_empty() {
                self.checked = checked;
                return Ok(());
            }
            new = self.assign(&row, checked.row(0));
            old = row;
            let needed = target.rules.lock_mode(&table, &|column| old.get(column), &new);
            if needed == RowLockMode::Update && mode != RowLockMode::Update {
                let latest = tx.latest_snapshot();
                // Already held in the weaker mode: nobody can have changed the row since.
                lock_row(&state.context, tx, &table, id, needed, Wait::Block, &latest).await?;
            }
        }
        target.rules.apply(state, tx, &table, &mut new).await?;
        guarded(&state.context, tx.update(&table, id, &old, &new)).await?;
        queue.updated(&state.context, &target.rules, &table, id, &old, &new)?;
        let source = if checked.is_empty() { source } else { checked.row(0) };
        let result = target.done(state, tx, id, &new, source).await;
        checked.clear();
        self.checked = checked;
        result
    }
}
