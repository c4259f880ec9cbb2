//! DELETE: lock, check again if the row has moved on, remove.

use engine::{RowId, RowLock, RowLockMode, Transaction, Wait};
use plan::ir::Recheck;
use value::{Datum, Error, Result};

use super::Target;
use super::foreign_key::Queue;
use super::update::target_relation;
use crate::driver::{guarded, lock_row, settled};
use crate::node::Builder;
use crate::node::lock_rows::Rechecker;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct Delete {
    row_id: usize,
    recheck: Rechecker,
    relation: Option<usize>,
    checked: Rows,
}

impl Delete {
    pub fn new(builder: &Builder<'_>, row_id: usize, recheck: &Recheck) -> Result<Delete> {
        Ok(Delete {
            row_id,
            relation: target_relation(recheck, row_id),
            recheck: Rechecker::new(builder, recheck)?,
            checked: Rows::default(),
        })
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
        let mut checked = std::mem::take(&mut self.checked);
        checked.clear();
        let old = match lock_row(&state.context, tx, &table, id, RowLockMode::Update, Wait::Block, &snapshot)
            .await?
        {
            RowLock::Granted => snapshot
                .unvalidated_get(&table, id)?
                .ok_or_else(|| Error::internal("a row to delete that its own snapshot does not see"))?,
            RowLock::Moved(row) => {
                let newest: Vec<_> =
                    self.relation.map(|relation| (relation, id, row.clone())).into_iter().collect();
                settled(state, tx, |state| self.recheck.run(state, source, &newest, &mut checked)).await?;
                if checked.is_empty() {
                    self.checked = checked;
                    return Ok(());
                }
                row
            }
            RowLock::Deleted | RowLock::Skipped | RowLock::AlreadyChanged => {
                self.checked = checked;
                return Ok(());
            }
        };
        guarded(&state.context, tx.delete(&table, id, &old)).await?;
        queue.deleted(&target.rules, &table, &old)?;
        let values = if target.returning.is_some() { old.decode() } else { Vec::new() };
        let source = if checked.is_empty() { source } else { checked.row(0) };
        let result = target.done(state, tx, id, &values, source).await;
        self.checked = checked;
        result
    }
}
