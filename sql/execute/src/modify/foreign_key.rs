//! Foreign keys, and deferrable unique keys: queued while rows change, settled when the statement is through.
//!
//! Both sides look at the newest committed state plus the transaction's own writes, never at the statement's
//! snapshot. The referencing side locks the parent row FOR KEY SHARE, the referenced side holds the parent FOR
//! UPDATE (its key goes away), so the two exclude each other; whoever comes second sees the first.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use engine::catalog::{Catalog, ConstraintKind, Index, ReferentialAction, Table};
use engine::{
    ColumnRange, Columns, Isolation, KeyRange, Row, RowBatch, RowId, RowLock, RowLockMode, ScanFilter,
    Snapshot, Transaction, UniqueCheck, Wait, concurrent,
};
use hashbrown::HashMap;
use value::types::{self, Repr};
use value::{Datum, Error, Oid, Result, SqlState, Type, compare, text};

use super::compiler;
use super::constraint::{Link, Rules, column};
use crate::code::Code;
use crate::context::{Context, Reserved};
use crate::driver::{Turns, guarded, lock_row, locking, settled};
use crate::node::Builder;
use crate::rows::{self, Rows};
use crate::state::State;

/// A check that a deferred constraint has left for COMMIT (or SET CONSTRAINTS .. IMMEDIATE).
#[derive(Clone, Debug)]
pub struct DeferredCheck {
    child: Oid,
    constraint: Oid,
    what: Deferred,
}

impl DeferredCheck {
    /// The constraint it belongs to.
    pub fn constraint(&self) -> Oid {
        self.constraint
    }

    /// The table whose changed row is to be checked.
    pub fn relation(&self, catalog: &Catalog) -> Option<Oid> {
        match self.what {
            Deferred::Referencing(_) | Deferred::Unique(_) => Some(self.child),
            Deferred::Referenced(_) => {
                let constraints = &catalog.table(self.child)?.constraints;
                match &constraints.iter().find(|constraint| constraint.oid == self.constraint)?.kind {
                    ConstraintKind::Foreign(key) => Some(key.referenced_table),
                    _ => None,
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Deferred {
    /// A row of the referencing table was written: its key must be there.
    Referencing(RowId),
    /// This key of the referenced table has gone: nobody may refer to it.
    Referenced(Vec<Datum>),
    /// This key was written: it must be the only one of its kind. (`child` is its table.)
    Unique(UniqueCheck),
}

/// Keys of one foreign key that rows of this statement refer to, each once.
struct Wanted {
    link: Link,
    types: Vec<Oid>,
    keys: Rows,
    index: rows::Index,
    memory: Reserved,
}

/// A key that has gone from a referenced table.
struct Gone {
    link: Link,
    old: Vec<Datum>,
    /// The key that has taken its place (UPDATE).
    new: Option<Vec<Datum>>,
}

/// What a statement has to settle.
#[derive(Default)]
pub(crate) struct Queue {
    wanted: Vec<Wanted>,
    gone: VecDeque<Gone>,
    /// NO ACTION and RESTRICT, after all actions.
    orphans: Vec<Gone>,
    pending: Vec<DeferredCheck>,
}

fn values(numbers: &[i16], get: &dyn Fn(usize) -> Datum) -> Vec<Datum> {
    numbers.iter().map(|number| get(column(*number))).collect()
}

fn column_types(table: &Table, numbers: &[i16]) -> Vec<Type> {
    numbers.iter().map(|number| table.columns[column(*number)].ty()).collect()
}

fn same_values(types: &[Type], a: &[Datum], b: &[Datum]) -> bool {
    types.iter().zip(a.iter().zip(b)).all(|(ty, (a, b))| rows::same(ty.oid, a, b))
}

/// A value of one column as a value of the other side's type; `None` when that type has no such value.
fn convert(value: &Datum, from: Type, to: Type) -> Option<Datum> {
    let repr = types::repr(to.oid);
    if value.is_null() || types::repr(from.oid) == repr {
        return Some(value.clone());
    }
    let whole = match value {
        Datum::Int2(v) => Some(i64::from(*v)),
        Datum::Int4(v) => Some(i64::from(*v)),
        Datum::Int8(v) => Some(*v),
        _ => None,
    };
    match (whole, repr) {
        (Some(v), Repr::Int2) => i16::try_from(v).ok().map(Datum::Int2),
        (Some(v), Repr::Int4) => i32::try_from(v).ok().map(Datum::Int4),
        (Some(v), Repr::Int8) => Some(Datum::Int8(v)),
        _ => {
            let style = text::Style::default();
            text::input(Type::new(to.oid), &text::output_string(value, from.oid, &style), &style).ok()
        }
    }
}

impl Queue {
    /// A row was inserted into `table`.
    pub fn inserted(
        &mut self,
        context: &Context,
        rules: &Rules,
        table: &Arc<Table>,
        id: RowId,
        row: &[Datum],
    ) -> Result<()> {
        for link in &rules.outgoing {
            self.want(context, rules, table, link, id, &|column| row[column].clone())?;
        }
        Ok(())
    }

    /// A row was updated.
    pub fn updated(
        &mut self,
        context: &Context,
        rules: &Rules,
        table: &Arc<Table>,
        id: RowId,
        old: &Row,
        new: &[Datum],
    ) -> Result<()> {
        for link in &rules.outgoing {
            let columns = &link.key()?.columns;
            let before = values(columns, &|column| old.get(column));
            let after = values(columns, &|column| new[column].clone());
            if !same_values(&column_types(table, columns), &before, &after) {
                self.want(context, rules, table, link, id, &|column| new[column].clone())?;
            }
        }
        for link in &rules.incoming {
            let columns = &link.key()?.referenced_columns;
            let before = values(columns, &|column| old.get(column));
            let after = values(columns, &|column| new[column].clone());
            if !before.iter().any(Datum::is_null)
                && !same_values(&column_types(table, columns), &before, &after)
            {
                self.gone.push_back(Gone { link: link.clone(), old: before, new: Some(after) });
            }
        }
        Ok(())
    }

    /// A row was deleted.
    pub fn deleted(&mut self, rules: &Rules, _table: &Arc<Table>, old: &Row) -> Result<()> {
        for link in &rules.incoming {
            let before = values(&link.key()?.referenced_columns, &|column| old.get(column));
            if !before.iter().any(Datum::is_null) {
                self.gone.push_back(Gone { link: link.clone(), old: before, new: None });
            }
        }
        Ok(())
    }

    /// Notes that a row refers to a key.
    fn want(
        &mut self,
        context: &Context,
        rules: &Rules,
        table: &Arc<Table>,
        link: &Link,
        id: RowId,
        get: &dyn Fn(usize) -> Datum,
    ) -> Result<()> {
        let key = link.key()?;
        let wanted = values(&key.columns, get);
        if !refers(rules.schema(), link, &wanted)? {
            return Ok(());
        }
        if context.constraints.deferred(link.constraint()) {
            self.pending.push(DeferredCheck {
                child: table.oid,
                constraint: link.constraint().oid,
                what: Deferred::Referencing(id),
            });
            return Ok(());
        }
        let place = self
            .wanted
            .iter()
            .position(|other| other.link.child.oid == table.oid && other.link.constraint == link.constraint);
        let place = match place {
            Some(place) => place,
            None => {
                self.wanted.push(Wanted {
                    link: link.clone(),
                    types: column_types(table, &key.columns).iter().map(|ty| ty.oid).collect(),
                    keys: Rows::new(key.columns.len()),
                    index: rows::Index::default(),
                    memory: Reserved::new(&context.memory),
                });
                self.wanted.len() - 1
            }
        };
        let list = &mut self.wanted[place];
        let hash = rows::hash_row(&list.types, &wanted);
        if list.index.find(hash, |entry| rows::same_row(&list.types, &wanted, list.keys.row(entry))).is_none()
        {
            list.memory.add(rows::row_size(&wanted) + rows::Index::ENTRY)?;
            list.index.push(hash);
            list.keys.push(&wanted);
        }
        Ok(())
    }

    /// Carries out actions and makes the checks that are due; gives those that are deferred.
    pub async fn settle(mut self, state: &mut State, tx: &mut Transaction) -> Result<Vec<DeferredCheck>> {
        self.settle_unique(&state.context, tx).await?;
        if self.gone.is_empty() && self.wanted.is_empty() {
            return Ok(self.pending);
        }
        let mut turns = Turns::begin();
        let mut writers = HashMap::new();
        while let Some(gone) = self.gone.pop_front() {
            turns.next(&state.context).await?;
            let key = gone.link.key()?;
            let action = if gone.new.is_some() { key.on_update } else { key.on_delete };
            match action {
                ReferentialAction::NoAction if state.context.constraints.deferred(gone.link.constraint()) => {
                    self.pending.push(DeferredCheck {
                        child: gone.link.child.oid,
                        constraint: gone.link.constraint().oid,
                        what: Deferred::Referenced(gone.old),
                    });
                }
                ReferentialAction::NoAction | ReferentialAction::Restrict => self.orphans.push(gone),
                action => self.act(state, tx, &mut writers, gone, action).await?,
            }
        }
        let catalog = tx.catalog();
        for gone in std::mem::take(&mut self.orphans) {
            turns.next(&state.context).await?;
            let restrict = {
                let key = gone.link.key()?;
                let action = if gone.new.is_some() { key.on_update } else { key.on_delete };
                action == ReferentialAction::Restrict
            };
            check_referenced(&state.context, tx, &catalog, &gone.link, &gone.old, restrict).await?;
        }
        for wanted in std::mem::take(&mut self.wanted) {
            for key in wanted.keys.iter() {
                turns.next(&state.context).await?;
                check_referencing(&state.context, tx, &catalog, &wanted.link, key).await?;
            }
        }
        // Actions may have moved keys, too.
        self.settle_unique(&state.context, tx).await?;
        Ok(self.pending)
    }

    async fn settle_unique(&mut self, context: &Context, tx: &mut Transaction) -> Result<()> {
        let checks = tx.take_unique_checks();
        if checks.is_empty() {
            return Ok(());
        }
        let catalog = tx.catalog();
        let mut turns = Turns::begin();
        for check in checks {
            let table = catalog.table(check.table);
            let constraint = table.and_then(|t| t.constraints.iter().find(|c| c.oid == check.constraint));
            if constraint.is_some_and(|constraint| context.constraints.deferred(constraint)) {
                let (child, constraint) = (check.table, check.constraint);
                self.pending.push(DeferredCheck { child, constraint, what: Deferred::Unique(check) });
            } else {
                turns.next(context).await?;
                guarded(context, tx.check_unique(&check)).await?;
            }
        }
        Ok(())
    }

    /// CASCADE, SET NULL, SET DEFAULT.
    async fn act(
        &mut self,
        state: &mut State,
        tx: &mut Transaction,
        writers: &mut HashMap<Oid, Writer>,
        gone: Gone,
        action: ReferentialAction,
    ) -> Result<()> {
        let catalog = tx.catalog();
        let link = &gone.link;
        let key = link.key()?.clone();
        let Some(parent) = catalog.table(key.referenced_table).cloned() else { return Ok(()) };
        let child = link.child.clone();
        if !writers.contains_key(&child.oid) {
            let writer = Writer::new(state, &catalog, &child)?;
            writers.insert(child.oid, writer);
        }
        let Some(writer) = writers.get_mut(&child.oid) else { return Ok(()) };
        let latest = tx.checking_snapshot();
        // Under a fixed snapshot nothing may be changed that has changed since.
        let seen_by = tx.fixed_snapshot().unwrap_or_else(|| latest.clone());
        let found = children(&state.context, &latest, &catalog, link, &parent, &gone.old, usize::MAX)?;
        let mut turns = Turns::begin();
        for (id, seen) in found {
            turns.next(&state.context).await?;
            let deletes = action == ReferentialAction::Cascade && gone.new.is_none();
            let mut new = seen.decode();
            let mode = if deletes {
                RowLockMode::Update
            } else {
                for (place, number) in key.columns.iter().enumerate() {
                    let number = column(*number);
                    new[number] = match (&action, &gone.new) {
                        (ReferentialAction::Cascade, Some(to)) => {
                            let from = parent.columns[column(key.referenced_columns[place])].ty();
                            let value =
                                convert(&to[place], from, child.columns[number].ty()).ok_or_else(|| {
                                    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
                                })?;
                            value::text::apply_typmod(value, child.columns[number].ty(), false)?
                        }
                        (ReferentialAction::SetDefault, _) => writer.default(state, tx, number).await?,
                        _ => Datum::Null,
                    };
                }
                writer.rules.lock_mode(&child, &|column| seen.get(column), &new)
            };
            let locked = lock_row(&state.context, tx, &child, id, mode, Wait::Block, &seen_by).await;
            let old = match locked.map_err(locking)? {
                RowLock::Granted => seen,
                RowLock::Moved(row) => {
                    // Somebody else changed it meanwhile: only what still refers to the key is ours to touch.
                    let types = column_types(&child, &key.columns);
                    let now = values(&key.columns, &|column| row.get(column));
                    let before = values(&key.columns, &|column| seen.get(column));
                    if !same_values(&types, &now, &before) {
                        continue;
                    }
                    let changed: Vec<Datum> = key.columns.iter().map(|n| new[column(*n)].clone()).collect();
                    new = row.decode();
                    if !deletes {
                        for (number, value) in key.columns.iter().zip(changed) {
                            new[column(*number)] = value;
                        }
                    }
                    row
                }
                RowLock::Deleted | RowLock::Skipped | RowLock::AlreadyChanged => continue,
            };
            if deletes {
                guarded(&state.context, tx.delete(&child, id, &old)).await?;
                self.deleted(&writer.rules, &child, &old)?;
            } else {
                writer.rules.apply(state, tx, &child, &mut new).await?;
                guarded(&state.context, tx.update(&child, id, &old, &new)).await?;
                self.updated(&state.context, &writer.rules, &child, id, &old, &new)?;
            }
        }
        Ok(())
    }
}

/// What is needed to change rows of a table that is not in the plan.
struct Writer {
    rules: Rules,
    defaults: Vec<(usize, Code)>,
}

impl Writer {
    fn new(state: &State, catalog: &Arc<Catalog>, table: &Arc<Table>) -> Result<Writer> {
        let rules = state.context.system.rules(table)?;
        let builder = Builder { context: &state.context, plan: &state.plan, rescans: false };
        let mut compiler = compiler(&builder, rules.defaults.iter().map(|(_, expr)| expr));
        Ok(Writer {
            rules: Rules::new(&builder, catalog, table, &rules.computed, &rules.checks)?,
            defaults: rules
                .defaults
                .iter()
                .map(|(column, expr)| Ok((*column, compiler.compile(expr)?)))
                .collect::<Result<_>>()?,
        })
    }

    async fn default(&mut self, state: &mut State, tx: &mut Transaction, column: usize) -> Result<Datum> {
        match self.defaults.iter_mut().find(|(other, _)| *other == column) {
            Some((_, code)) => settled(state, tx, |state| code.eval(state, &[])).await,
            None => Ok(Datum::Null),
        }
    }
}

/// Whether a referencing key refers to anything: NULLs do not. 23503 for a mixed key of MATCH FULL.
fn refers(schema: &str, link: &Link, key: &[Datum]) -> Result<bool> {
    let nulls = key.iter().filter(|value| value.is_null()).count();
    if nulls == 0 {
        return Ok(true);
    }
    if link.key()?.match_full && nulls < key.len() {
        return Err(Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!(
                "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                link.child.name,
                link.constraint().name
            ),
        )
        .detail("MATCH FULL does not allow mixing of null and nonnull key values.")
        .table(schema, link.child.name.as_str())
        .constraint(link.constraint().name.as_str()));
    }
    Ok(false)
}

/// The index key of a referenced key, given in the order and the types of the referencing columns; `None`: the
/// referenced type has no such value.
fn parent_key(parent: &Table, index: &Index, link: &Link, key: &[Datum]) -> Result<Option<Vec<Datum>>> {
    let foreign = link.key()?;
    let mut parts = Vec::with_capacity(index.keys.len());
    for part in &index.keys {
        let Some(place) = foreign.referenced_columns.iter().position(|number| *number == part.column) else {
            return Err(Error::internal("a foreign key whose index has other columns"));
        };
        let from = link.child.columns[column(foreign.columns[place])].ty();
        let to = parent.columns[column(part.column)].ty();
        match convert(&key[place], from, to) {
            Some(value) => parts.push(value),
            None => return Ok(None),
        }
    }
    Ok(Some(parts))
}

/// The referencing side: the key must exist, and stays while we live.
async fn check_referencing(
    context: &Context,
    tx: &mut Transaction,
    catalog: &Arc<Catalog>,
    link: &Link,
    key: &[Datum],
) -> Result<()> {
    let foreign = link.key()?;
    let (Some(parent), Some(index)) =
        (catalog.table(foreign.referenced_table), catalog.index(foreign.referenced_index))
    else {
        return Ok(());
    };
    let Some(parts) = parent_key(parent, index, link, key)? else {
        return Err(missing(context, catalog, link, parent, key));
    };
    let bytes = Index::encode_prefix(parent, index, &parts);
    let mut waited = false;
    loop {
        context.cancel.check()?;
        let latest = tx.latest_snapshot();
        let Some((id, row)) = latest.index_get(parent, index, &bytes)? else {
            // What the own snapshot still shows has gone since: trying again tells the truth.
            if let Some(fixed) = tx.fixed_snapshot()
                && fixed.index_get(parent, index, &bytes)?.is_some()
            {
                return Err(if waited { concurrent("update") } else { tx.outdated() });
            }
            if tx.checking_snapshot().index_get(parent, index, &bytes)?.is_some() {
                continue;
            }
            return Err(tx.or_serialization(missing(context, catalog, link, parent, key)));
        };
        let locked = lock_row(context, tx, parent, id, RowLockMode::KeyShare, Wait::Block, &latest).await;
        match locked.map_err(locking)? {
            RowLock::Granted | RowLock::AlreadyChanged => return Ok(()),
            // Changed while it was waited for.
            RowLock::Moved(_) | RowLock::Deleted if tx.isolation() != Isolation::ReadCommitted => {
                return Err(concurrent("update"));
            }
            RowLock::Moved(newest) => {
                let same = foreign.referenced_columns.iter().all(|number| {
                    let number = column(*number);
                    rows::same(parent.columns[number].type_oid, &row.get(number), &newest.get(number))
                });
                if same {
                    return Ok(());
                }
            }
            RowLock::Deleted | RowLock::Skipped => {}
        }
        waited = true;
    }
}

/// The referenced side: nobody may refer to a key that has gone.
async fn check_referenced(
    context: &Context,
    tx: &mut Transaction,
    catalog: &Arc<Catalog>,
    link: &Link,
    old: &[Datum],
    restrict: bool,
) -> Result<()> {
    let foreign = link.key()?;
    let Some(parent) = catalog.table(foreign.referenced_table) else { return Ok(()) };
    let latest = tx.checking_snapshot();
    if children(context, &latest, catalog, link, parent, old, 1)?.is_empty() {
        return Ok(());
    }
    // NO ACTION is content when another row has taken the key.
    if !restrict && let Some(index) = catalog.index(foreign.referenced_index) {
        let parts: Vec<Datum> = index
            .keys
            .iter()
            .map(|part| {
                foreign
                    .referenced_columns
                    .iter()
                    .position(|number| *number == part.column)
                    .map_or(Datum::Null, |place| old[place].clone())
            })
            .collect();
        let bytes = Index::encode_prefix(parent, index, &parts);
        if latest.index_get(parent, index, &bytes)?.is_some() {
            return Ok(());
        }
    }
    let schema = catalog.schema(link.child.schema).map_or("", |schema| schema.name.as_str());
    let error = Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
            parent.name,
            link.constraint().name,
            link.child.name
        ),
    )
    .detail(format!(
        "Key {} is still referenced from table \"{}\".",
        describe(context, parent, &foreign.referenced_columns, old),
        link.child.name
    ))
    .table(schema, link.child.name.as_str())
    .constraint(link.constraint().name.as_str());
    Err(tx.or_serialization(error))
}

fn missing(context: &Context, catalog: &Catalog, link: &Link, parent: &Table, key: &[Datum]) -> Error {
    let schema = catalog.schema(link.child.schema).map_or("", |schema| schema.name.as_str());
    let columns = link.key().map(|key| key.columns.clone()).unwrap_or_default();
    Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            link.child.name,
            link.constraint().name
        ),
    )
    .detail(format!(
        "Key {} is not present in table \"{}\".",
        describe(context, &link.child, &columns, key),
        parent.name
    ))
    .table(schema, link.child.name.as_str())
    .constraint(link.constraint().name.as_str())
}

/// `(a, b)=(1, 2)`.
fn describe(context: &Context, table: &Table, columns: &[i16], key: &[Datum]) -> String {
    let names: Vec<&str> =
        columns.iter().map(|number| table.columns[column(*number)].name.as_str()).collect();
    let values: Vec<String> = columns
        .iter()
        .zip(key)
        .map(|(number, value)| {
            text::output_string(value, table.columns[column(*number)].type_oid, context.env.style())
        })
        .collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}

/// Up to `limit` rows that refer to a key of the referenced table, by an index on the referencing columns if there
/// is one, else by reading the table.
fn children(
    context: &Context,
    latest: &Snapshot,
    catalog: &Catalog,
    link: &Link,
    parent: &Table,
    key: &[Datum],
    limit: usize,
) -> Result<Vec<(RowId, Row)>> {
    let foreign = link.key()?;
    let child = &link.child;
    let mut wanted = Vec::with_capacity(key.len());
    for (place, value) in key.iter().enumerate() {
        let from = parent.columns[column(foreign.referenced_columns[place])].ty();
        let to = child.columns[column(foreign.columns[place])].ty();
        match convert(value, from, to) {
            Some(value) => wanted.push(value),
            None => return Ok(Vec::new()),
        }
    }
    let matches = |row: &Row| {
        foreign.columns.iter().zip(&wanted).all(|(number, value)| {
            let number = column(*number);
            let found = row.get(number);
            !found.is_null() && compare::equal_typed(child.columns[number].type_oid, &found, value)
        })
    };
    let usable = catalog.indexes(child.oid).find(|index| {
        index.state.is_full()
            && index.predicate.is_none()
            && index.kind == engine::catalog::IndexKind::BTree
            && index.keys.len() >= foreign.columns.len()
            && index.keys[..foreign.columns.len()].iter().all(|part| foreign.columns.contains(&part.column))
    });
    let latest = latest.of_columns(&Columns::of(foreign.columns.iter().map(|number| column(*number))));
    let mut found = Vec::new();
    let mut memory = Reserved::new(&context.memory);
    let mut batch = RowBatch::new();
    let mut take = |batch: &RowBatch, found: &mut Vec<(RowId, Row)>| -> Result<bool> {
        context.cancel.check()?;
        for (id, row) in batch.ids.iter().zip(&batch.rows) {
            if matches(row) {
                memory.add(48)?;
                found.push((*id, row.clone()));
                if found.len() >= limit {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    match usable {
        Some(index) => {
            let parts: Vec<Datum> = index.keys[..foreign.columns.len()]
                .iter()
                .map(|part| {
                    foreign
                        .columns
                        .iter()
                        .position(|number| *number == part.column)
                        .map_or(Datum::Null, |place| wanted[place].clone())
                })
                .collect();
            let range = KeyRange::prefix(Index::encode_prefix(child, index, &parts));
            let mut scan = latest.index_scan(child, index, range, false)?;
            while scan.next(&mut batch)? {
                if take(&batch, &mut found)? {
                    break;
                }
            }
        }
        None => {
            let mut filter = ScanFilter::default();
            for (number, value) in foreign.columns.iter().zip(&wanted) {
                let (number, bound) = (column(*number), Bound::Included(value));
                let ty = child.columns[number].type_oid;
                filter.require(vec![ColumnRange::new(number, ty, bound, bound)]);
            }
            let mut scan = latest.scan_filtered(child, None, &filter)?;
            while scan.next(&mut batch)? {
                if take(&batch, &mut found)? {
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// Makes checks that were deferred, at COMMIT or SET CONSTRAINTS .. IMMEDIATE. Rows are looked at as they are now; those
/// that have gone meanwhile need no check.
pub async fn run_deferred(checks: Vec<DeferredCheck>, tx: &mut Transaction, context: Context) -> Result<()> {
    let context = &context;
    let catalog = tx.catalog();
    let mut turns = Turns::begin();
    for check in &checks {
        turns.next(context).await?;
        let Some(child) = catalog.table(check.child) else { continue };
        let Some(number) = child.constraints.iter().position(|constraint| constraint.oid == check.constraint)
        else {
            continue;
        };
        let link = Link { child: child.clone(), constraint: number };
        match &check.what {
            Deferred::Referencing(id) => {
                let Some(row) = tx.latest_snapshot().get(child, *id)? else { continue };
                let key = values(&link.key()?.columns, &|column| row.get(column));
                let schema = catalog.schema(child.schema).map_or("", |schema| schema.name.as_str());
                if refers(schema, &link, &key)? {
                    check_referencing(context, tx, &catalog, &link, &key).await?;
                }
            }
            Deferred::Referenced(old) => {
                check_referenced(context, tx, &catalog, &link, old, false).await?;
            }
            Deferred::Unique(check) => guarded(context, tx.check_unique(check)).await?,
        }
    }
    Ok(())
}
