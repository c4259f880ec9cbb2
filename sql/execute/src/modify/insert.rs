//! INSERT, with ON CONFLICT.

use engine::{Inserted, Isolation, RowId, RowLock, Transaction, Wait};
use hashbrown::HashSet;
use plan::ir::OnConflict;
use resolve::tree::Expr;
use value::{Datum, Error, Oid, Result, SqlState};

use super::Target;
use super::foreign_key::Queue;
use crate::code::Code;
use crate::driver::{guarded, lock_row};
use crate::node::Builder;
use crate::state::State;

pub(crate) struct Insert {
    columns: Vec<usize>,
    defaults: Vec<(usize, Code)>,
    conflict: Option<Conflict>,
    new: Vec<Datum>,
}

struct Conflict {
    arbiters: Vec<Oid>,
    update: Option<ConflictUpdate>,
    /// Rows this statement has inserted or updated.
    touched: HashSet<RowId>,
}

struct ConflictUpdate {
    assignments: Vec<(usize, Code)>,
    filter: Option<Code>,
}

impl Insert {
    pub fn new(
        builder: &Builder<'_>,
        columns: &[usize],
        defaults: &[(usize, Expr)],
        on_conflict: Option<&OnConflict>,
    ) -> Result<Insert> {
        let conflict = match on_conflict {
            None => None,
            Some(conflict) => Some(Conflict {
                arbiters: conflict.arbiters.clone(),
                touched: HashSet::new(),
                update: match &conflict.update {
                    None => None,
                    Some(update) => Some(ConflictUpdate {
                        assignments: update
                            .assignments
                            .iter()
                            .map(|(column, expr)| Ok((*column, builder.compile(expr)?)))
                            .collect::<Result<_>>()?,
                        filter: builder.maybe(update.filter.as_ref())?,
                    }),
                },
            }),
        };
        Ok(Insert {
            columns: columns.to_vec(),
            defaults: defaults
                .iter()
                .map(|(column, expr)| Ok((*column, builder.compile(expr)?)))
                .collect::<Result<_>>()?,
            conflict,
            new: Vec::new(),
        })
    }

    /// Makes the new row and inserts it if that needs no waiting; otherwise `false`, and [`Insert::later`] goes on.
    pub fn now(
        &mut self,
        target: &mut Target,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<bool> {
        let new = &mut self.new;
        new.clear();
        new.resize(target.table.columns.len(), Datum::Null);
        for (slot, column) in self.columns.iter().enumerate() {
            new[*column] = source[slot].clone();
        }
        for (column, code) in &mut self.defaults {
            new[*column] = code.eval(state, &[])?;
        }
        target.rules.apply(state, &target.table, new)?;
        if self.conflict.is_some() {
            return Ok(false);
        }
        let Some(id) = tx.insert_now(&target.table, new)? else { return Ok(false) };
        queue.inserted(&state.context, &target.rules, &target.table, id, new)?;
        target.done(state, id, new, source)?;
        Ok(true)
    }

    /// Inserts the row that [`Insert::now`] has made.
    pub async fn later(
        &mut self,
        target: &mut Target,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<()> {
        let new = std::mem::take(&mut self.new);
        let table = target.table.clone();
        match &mut self.conflict {
            None => {
                let id = guarded(&state.context, tx.insert(&table, &new)).await?;
                queue.inserted(&state.context, &target.rules, &table, id, &new)?;
                target.done(state, id, &new, source)?;
            }
            Some(conflict) => conflict.row(target, state, tx, queue, &new, source).await?,
        }
        self.new = new;
        Ok(())
    }
}

impl Conflict {
    async fn row(
        &mut self,
        target: &mut Target,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        new: &[Datum],
        source: &[Datum],
    ) -> Result<()> {
        let table = target.table.clone();
        loop {
            state.context.cancel.check()?;
            let id = match guarded(&state.context, tx.insert_or_conflict(&table, new, &self.arbiters)).await?
            {
                Inserted::Row(id) => {
                    self.touched.insert(id);
                    queue.inserted(&state.context, &target.rules, &table, id, new)?;
                    return target.done(state, id, new, source);
                }
                Inserted::Conflict { row, .. } => row,
            };
            let Some(update) = &mut self.update else {
                if tx.isolation() != Isolation::ReadCommitted
                    && !self.touched.contains(&id)
                    && state.context.snapshot.get(&table, id)?.is_none()
                {
                    return Err(concurrent_update());
                }
                return Ok(());
            };
            if self.touched.contains(&id) {
                return Err(second_time());
            }
            if tx.isolation() != Isolation::ReadCommitted && state.context.snapshot.get(&table, id)?.is_none()
            {
                return Err(concurrent_update());
            }
            // READ COMMITTED may update a row its snapshot does not see: look at the newest state.
            let latest = tx.latest_snapshot();
            let seen =
                if tx.isolation() == Isolation::ReadCommitted { &latest } else { &state.context.snapshot };
            let Some(mut existing) = seen.get(&table, id)? else { continue };
            let mut mode = engine::RowLockMode::NoKeyUpdate;
            if update.assignments.iter().any(|(column, _)| target.rules.keys.contains(column)) {
                mode = engine::RowLockMode::Update;
            }
            match lock_row(&state.context, tx, &table, id, mode, Wait::Block, seen).await? {
                RowLock::Granted => {}
                RowLock::AlreadyChanged => return Err(second_time()),
                // It has moved on: perhaps it does not conflict any more.
                RowLock::Moved(row) => {
                    let same_keys = target.rules.keys.iter().all(|key| {
                        crate::rows::same(table.columns[*key].type_oid, &row.get(*key), &existing.get(*key))
                    });
                    if !same_keys {
                        continue;
                    }
                    existing = row;
                }
                RowLock::Deleted | RowLock::Skipped => continue,
            }
            let mut row = existing.decode();
            let mut scope = row.clone();
            scope.push(Datum::Int8(id.0 as i64));
            scope.extend_from_slice(new);
            if let Some(filter) = &mut update.filter
                && !filter.accepts(state, &scope)?
            {
                return Ok(());
            }
            for (column, code) in &mut update.assignments {
                row[*column] = code.eval(state, &scope)?;
            }
            target.rules.apply(state, &table, &mut row)?;
            guarded(&state.context, tx.update(&table, id, &existing, &row)).await?;
            self.touched.insert(id);
            queue.updated(&state.context, &target.rules, &table, id, &existing, &row)?;
            return target.done(state, id, &row, source);
        }
    }
}

fn second_time() -> Error {
    Error::new(
        SqlState::CARDINALITY_VIOLATION,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

fn concurrent_update() -> Error {
    Error::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
}
