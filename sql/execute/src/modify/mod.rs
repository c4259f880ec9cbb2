//! INSERT, UPDATE and DELETE over the rows of an input.
//!
//! Rows are found by the statement's snapshot, which never sees what the statement writes, so reading and writing go
//! along in one pass. What must hold of a new row (NOT NULL, CHECK) is checked before it is written; unique keys are the
//! engine's; foreign keys are queued and settled when the statement is through.

use std::sync::Arc;

use engine::catalog::{Catalog, Table};
use engine::{RowId, Transaction};
use plan::ir::{Modify, ModifyAction};
use resolve::tree::Expr;
use value::{Datum, Error, Result};

use crate::code::Code;
use crate::compile::Compiler;
use crate::context::{Context, Reserved};
use crate::driver::{Turns, charge, fill, settled};
use crate::node::{BATCH, Builder, Input};
use crate::rows::Rows;
use crate::state::State;
use crate::walk;

mod constraint;
mod delete;
pub(crate) mod foreign_key;
mod insert;
mod update;

use constraint::Rules;
use foreign_key::Queue;

enum Action {
    Insert(insert::Insert),
    Update(update::Update),
    Delete(delete::Delete),
}

/// One running Modify node.
pub(crate) struct Change {
    input: Option<Input>,
    action: Action,
    target: Target,
}

/// The table that is changed, and what has been done to it.
pub(crate) struct Target {
    pub table: Arc<Table>,
    pub rules: Rules,
    returning: Option<Vec<Code>>,
    returning_waits: bool,
    returned: Rows,
    memory: Reserved,
    affected: u64,
    scratch: Vec<Datum>,
}

/// The compiler for expressions that are computed by [`settled`]: those that wait are computed again after each wait.
pub(crate) fn compiler<'a, 'e>(
    builder: &Builder<'a>,
    exprs: impl IntoIterator<Item = &'e Expr>,
) -> Compiler<'a> {
    let compiler = Compiler::new(builder.context);
    let waits = exprs.into_iter().any(|expr| walk::waits(builder.plan, expr));
    if waits { compiler.replaying() } else { compiler }
}

impl Target {
    /// Whether what a new row must satisfy, or its RETURNING list, may have to wait.
    fn waits(&self) -> bool {
        self.returning_waits || self.rules.waits
    }

    /// [`Target::done`] where nothing can wait.
    fn done_now(&mut self, state: &mut State, id: RowId, row: &[Datum], source: &[Datum]) -> Result<()> {
        self.affected += 1;
        let Some(returning) = &mut self.returning else { return Ok(()) };
        self.scratch.clear();
        self.scratch.extend_from_slice(row);
        self.scratch.push(Datum::Int8(id.0 as i64));
        self.scratch.extend_from_slice(source);
        let start = self.returned.values.len();
        for code in returning {
            let value = code.eval(state, &self.scratch)?;
            self.returned.values.push(value);
        }
        self.returned.count += 1;
        charge(&mut self.memory, &self.returned.values[start..])
    }

    /// Counts a changed row and keeps its RETURNING list. `row`: the table's columns.
    async fn done(
        &mut self,
        state: &mut State,
        tx: &mut Transaction,
        id: RowId,
        row: &[Datum],
        source: &[Datum],
    ) -> Result<()> {
        self.affected += 1;
        let Some(returning) = &mut self.returning else { return Ok(()) };
        self.scratch.clear();
        self.scratch.extend_from_slice(row);
        self.scratch.push(Datum::Int8(id.0 as i64));
        self.scratch.extend_from_slice(source);
        let start = self.returned.values.len();
        let (returned, scratch) = (&mut self.returned, &self.scratch);
        settled(state, tx, |state| {
            returned.values.truncate(start);
            for code in &mut *returning {
                let value = code.eval(state, scratch)?;
                returned.values.push(value);
            }
            Ok(())
        })
        .await?;
        self.returned.count += 1;
        charge(&mut self.memory, &self.returned.values[start..])
    }
}

impl Change {
    pub fn new(state: &State, modify: &Modify, tx: &mut Transaction) -> Result<Change> {
        let plan = state.plan.clone();
        let builder = Builder { context: &state.context, plan: &plan, rescans: false };
        let input = builder.input(&modify.input)?;
        Change::with_input(&builder, modify, &tx.catalog(), Some(input))
    }

    fn with_input(
        builder: &Builder<'_>,
        modify: &Modify,
        catalog: &Arc<Catalog>,
        input: Option<Input>,
    ) -> Result<Change> {
        let table = &modify.table;
        let action = match &modify.action {
            ModifyAction::Insert { columns, defaults, on_conflict } => {
                Action::Insert(insert::Insert::new(builder, columns, defaults, on_conflict.as_ref())?)
            }
            ModifyAction::Update { row_id, columns, recheck } => {
                Action::Update(update::Update::new(builder, *row_id, columns, recheck)?)
            }
            ModifyAction::Delete { row_id, recheck } => {
                Action::Delete(delete::Delete::new(builder, *row_id, recheck)?)
            }
        };
        let returning = match &modify.returning {
            Some(exprs) => Some(compiler(builder, exprs).list(exprs)?),
            None => None,
        };
        Ok(Change {
            input,
            action,
            target: Target {
                table: table.clone(),
                rules: Rules::new(builder, catalog, table, &modify.computed, &modify.checks)?,
                returned: Rows::new(returning.as_ref().map_or(0, Vec::len)),
                returning,
                returning_waits: modify
                    .returning
                    .iter()
                    .flatten()
                    .any(|expr| walk::waits(builder.plan, expr)),
                memory: Reserved::new(&builder.context.memory),
                affected: 0,
                scratch: Vec::new(),
            },
        })
    }

    /// Takes every row of the input through the change.
    pub async fn run(&mut self, state: &mut State, tx: &mut Transaction, queue: &mut Queue) -> Result<()> {
        let Some(mut input) = self.input.take() else { return Ok(()) };
        let mut turns = Turns::begin();
        while fill(&mut input, state, tx, BATCH).await? {
            turns.next(&state.context).await?;
            while input.at < input.batch.count {
                if !self.row_now(state, tx, queue, input.row())? {
                    self.row(state, tx, queue, input.row()).await?;
                }
                input.advance();
            }
        }
        Ok(())
    }

    /// Takes a row through the change if that cannot wait; `false`: [`Change::row`] does it.
    fn row_now(
        &mut self,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<bool> {
        match &mut self.action {
            Action::Insert(insert) => insert.row_now(&mut self.target, state, tx, queue, source),
            Action::Update(_) | Action::Delete(_) => Ok(false),
        }
    }

    async fn row(
        &mut self,
        state: &mut State,
        tx: &mut Transaction,
        queue: &mut Queue,
        source: &[Datum],
    ) -> Result<()> {
        match &mut self.action {
            Action::Insert(insert) => insert.row(&mut self.target, state, tx, queue, source).await,
            Action::Update(update) => update.row(&mut self.target, state, tx, queue, source).await,
            Action::Delete(delete) => delete.row(&mut self.target, state, tx, queue, source).await,
        }
    }

    pub fn affected(&self) -> u64 {
        self.target.affected
    }

    pub fn into_returned(self) -> (Rows, Reserved) {
        (self.target.returned, self.target.memory)
    }
}

/// Inserts rows that do not come from a plan: COPY FROM.
pub struct Inserter {
    state: State,
    change: Change,
    queue: Queue,
}

impl Inserter {
    /// `modify` must be an insert; its input is not run: [`Inserter::push_now`] gives the input rows.
    pub fn open(modify: &Modify, context: Context, tx: &mut Transaction) -> Result<Inserter> {
        if !matches!(modify.action, ModifyAction::Insert { .. }) {
            return Err(Error::internal("an inserter for another statement"));
        }
        let plan = Arc::new(crate::cursor::empty_plan());
        let builder = Builder { context: &context, plan: &plan, rescans: false };
        let change = Change::with_input(&builder, modify, &tx.catalog(), None)?;
        Ok(Inserter { change, state: State::new(plan.clone(), context), queue: Queue::default() })
    }

    /// Inserts one row, given as the input slots of the Modify node, if that needs no waiting; `false`:
    /// [`Inserter::push_later`] does it.
    pub fn push_now(&mut self, tx: &mut Transaction, source: &[Datum]) -> Result<bool> {
        self.state.context.cancel.check()?;
        self.change.row_now(&mut self.state, tx, &mut self.queue, source)
    }

    /// Inserts the row that [`Inserter::push_now`] did not.
    pub async fn push_later(&mut self, tx: &mut Transaction, source: &[Datum]) -> Result<()> {
        self.change.row(&mut self.state, tx, &mut self.queue, source).await
    }

    /// Rows inserted so far.
    pub fn affected(&self) -> u64 {
        self.change.affected()
    }

    /// Checks foreign keys; gives the checks that wait for COMMIT.
    pub async fn finish(mut self, tx: &mut Transaction) -> Result<Vec<foreign_key::DeferredCheck>> {
        std::mem::take(&mut self.queue).settle(&mut self.state, tx).await
    }
}
