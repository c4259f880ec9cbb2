//! INSERT, with ON CONFLICT.

use engine::{Inserted, Isolation, RowId, RowLock, Transaction, Wait};
use hashbrown::HashSet;
use plan::ir::OnConflict;
use resolve::tree::Expr;
use value::{Datum, Error, Oid, Result, SqlState};

use super::foreign_key::Queue;
use super::{Target, compiler};
use crate::code::Code;
use crate::driver::{guarded, lock_row, settled};
use crate::node::Builder;
use crate::state::State;
use crate::walk;

pub(crate) struct Insert {
    columns: Vec<usize>,
    defaults: Vec<(usize, Code)>,
    /// A default may have to wait.
    waits: bool,
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
                    Some(update) => {
                        let assigned = update.assignments.iter().map(|(_, expr)| expr);
                        let mut compiler = compiler(builder, assigned.chain(&update.filter));
                        Some(ConflictUpdate {
                            assignments: update
                                .assignments
                                .iter()
                                .map(|(column, expr)| Ok((*column, compiler.compile(expr)?)))
                                .collect::<Result<_>>()?,
                            filter: compiler.maybe(update.filter.as_ref())?,
                        })
                    }
                },
            }),
        };
        let mut compiler = compiler(builder, defaults.iter().map(|(_, expr)| expr));
        Ok(Insert {
            columns: columns.to_vec(),
            defaults: defaults
                .iter()
                .map(|(column, expr)| Ok((*column, compiler.compile(expr)?)))
                .collect::<Result<_>>()?,
            waits: defaults.iter().any(|(_, expr)| walk::waits(builder.plan, expr)),
            conflict,
            new: Vec::new(),
        })
    }

    /// Inserts a row if nothing about it can wait; otherwise `false`, and nothing is done: [`Insert::row`] does it. A future
    /// for each row costs more than most inserts.
    pub fn row_now(
        &mut self,
        target: &mut Target,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<bool> {
        if self.waits || self.conflict.is_some() || target.waits() || !tx.inserts_much() {
            return Ok(false);
        }
        let mut new = self.given(target, source);
        for (column, code) in &mut self.defaults {
            new[*column] = code.eval(state, &[])?;
        }
        target.rules.test(state, &target.table, &mut new)?;
        let id = tx.insert_now(&target.table, &new)?;
        if let Some(id) = id {
            queue.inserted(&state.context, &target.rules, &target.table, id, &new)?;
            target.done_now(state, id, &new, source)?;
        }
        self.new = new;
        Ok(id.is_some())
    }

    /// The new row with what the input gives of it.
    fn given(&mut self, target: &Target, source: &[Datum]) -> Vec<Datum> {
        let mut new = std::mem::take(&mut self.new);
        new.clear();
        new.resize(target.table.columns.len(), Datum::Null);
        for (slot, column) in self.columns.iter().enumerate() {
            new[*column] = source[slot].clone();
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
        let mut new = self.given(target, source);
        if !self.defaults.is_empty() {
            let defaults = &mut self.defaults;
            settled(state, tx, |state| {
                for (column, code) in &mut *defaults {
                    new[*column] = code.eval(state, &[])?;
                }
                Ok(())
            })
            .await?;
        }
        target.rules.apply(state, tx, &target.table, &mut new).await?;
        let table = target.table.clone();
        match &mut self.conflict {
            None => {
                let id = guarded(&state.context, tx.insert(&table, &new)).await?;
                queue.inserted(&state.context, &target.rules, &table, id, &new)?;
                target.done(state, tx, id, &new, source).await?;
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
                    return target.done(state, tx, id, new, source).await;
                }
                Inserted::Conflict { row, .. } => row,
            };
            let Some(update) = &mut self.update else {
                if tx.isolation() != Isolation::ReadCommitted
                    && !self.touched.contains(&id)
                    && state.context.snapshot.unvalidated_get(&table, id)?.is_none()
                {
                    return Err(concurrent_update());
                }
                return Ok(());
            };
            if self.touched.contains(&id) {
                return Err(second_time());
            }
            if tx.isolation() != Isolation::ReadCommitted
                && state.context.snapshot.unvalidated_get(&table, id)?.is_none()
            {
                return Err(concurrent_update());
            }
            // READ COMMITTED may update a row its snapshot does not see: look at the newest state.
            let latest = tx.latest_snapshot();
            let seen =
                if tx.isolation() == Isolation::ReadCommitted { &latest } else { &state.context.snapshot };
            let Some(mut existing) = seen.unvalidated_get(&table, id)? else { continue };
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
            let accepted = settled(state, tx, |state| {
                if let Some(filter) = &mut update.filter
                    && !filter.accepts(state, &scope)?
                {
                    return Ok(false);
                }
                for (column, code) in &mut update.assignments {
                    row[*column] = code.eval(state, &scope)?;
                }
                Ok(true)
            });
            if !accepted.await? {
                return Ok(());
            }
            target.rules.apply(state, tx, &table, &mut row).await?;
            guarded(&state.context, tx.update(&table, id, &existing, &row)).await?;
            self.touched.insert(id);
            queue.updated(&state.context, &target.rules, &table, id, &existing, &row)?;
            return target.done(state, tx, id, &row, source).await;
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
