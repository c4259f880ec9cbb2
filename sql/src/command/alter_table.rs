//! ALTER TABLE (and the parts of ALTER INDEX, VIEW and SEQUENCE that share its grammar).
//!
//! Columns keep their attribute number for life. ADD COLUMN with a constant default writes nothing: old rows read the
//! column's `missing` value. A type change, or a default that differs per row, rewrites the rows into new storage.

use std::sync::Arc;

use engine::catalog::{Change, Column, ConstraintKind, Index, Object, Sequence, Table, View};
use engine::{RowBatch, TableLockMode};
use resolve::Purpose;
use resolve::tree::Expr;
use value::types;
use value::{Datum, Error, Oid, Result, SqlState, Type};

use super::create_table::{Builder, columns_named, default_text};
use super::create_table_as::query_inner;
use super::drop::{Dependent, column_dependents, constraint_index, describe, forget_column};
use super::{find_relation, kind_of, must_be_free, owner_of};
use crate::grammar::error_shifted;
use crate::lex::{self, quote_name};
use crate::privilege;
use crate::rules;
use crate::session::{Outcome, Session};
use crate::statement::*;

pub async fn run(
    session: &mut Session,
    kind: ObjectKind,
    name: &Name,
    if_exists: bool,
    actions: &[AlterAction],
) -> Result<Outcome> {
    let done = Outcome::Tag(format!("ALTER {}", kind.noun().to_uppercase()));
    let mode = lock_of(actions);
    // Another may have the name by the time it is locked.
    let found = loop {
        let Some(found) = find_to_alter(session, kind, name, if_exists)? else { return Ok(done) };
        let locked = if let Object::Index(index) = &found { index.table } else { found.oid() };
        session.lock(locked, mode).await?;
        if find_relation(&*session.scope()?, name).is_some_and(|now| now.oid() == found.oid()) {
            break found;
        }
    };
    if let Object::Table(table) = &found {
        session.must_be_settled(table, "ALTER TABLE")?;
    }
    for action in actions {
        let scope = session.scope()?;
        let Some(object) = scope.catalog.get(found.oid()).cloned() else {
            return Err(Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist", name.name),
            ));
        };
        if common(session, &object, action).await? {
            continue;
        }
        match object {
            Object::Table(table) => Box::pin(table_action(session, table, action)).await?,
            Object::View(view) => view_action(session, &view, action).await?,
            other => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "this action is not possible for {} \"{}\"",
                        kind_of(&other).noun(),
                        other.name()
                    ),
                ));
            }
        }
    }
    Ok(done)
}

/// What ALTER names, if it is of that kind and the session's to change; `None`: it is not there, which IF EXISTS allows.
fn find_to_alter(
    session: &mut Session,
    kind: ObjectKind,
    name: &Name,
    if_exists: bool,
) -> Result<Option<Object>> {
    let scope = session.scope()?;
    let Some(found) = find_relation(&scope, name) else {
        if if_exists {
            session.notice(
                "NOTICE",
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist, skipping", super::written(name)),
            );
            return Ok(None);
        }
        return Err(super::relation(&scope, name).err().unwrap_or_else(|| Error::internal("no relation")));
    };
    let actual = kind_of(&found);
    // ALTER TABLE may rename and move relations of every kind.
    if kind != actual && kind != ObjectKind::Table {
        let noun =
            if kind == ObjectKind::Index { "an index".to_string() } else { format!("a {}", kind.noun()) };
        return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not {noun}", name.name)));
    }
    privilege::must_own(&scope.catalog, scope.role, owner_of(&found), actual.noun(), found.name())?;
    Ok(Some(found))
}

/// The weakest lock under which the actions can be carried out.
fn lock_of(actions: &[AlterAction]) -> TableLockMode {
    let each = actions.iter().map(|action| match action {
        AlterAction::AddConstraint(constraint)
            if matches!(constraint.kind, ConstraintForm::Foreign { .. }) =>
        {
            TableLockMode::ShareRowExclusive
        }
        AlterAction::ValidateConstraint(_) => TableLockMode::ShareUpdateExclusive,
        _ => TableLockMode::AccessExclusive,
    });
    each.max().unwrap_or(TableLockMode::AccessExclusive)
}

/// Rename, owner, schema: for every kind. False: not one of these.
async fn common(session: &mut Session, object: &Object, action: &AlterAction) -> Result<bool> {
    let scope = session.scope()?;
    let schema = object.relation_schema().unwrap_or_default();
    let mut changes = Vec::new();
    match action {
        AlterAction::Rename(to) => {
            session.lock(schema, TableLockMode::RowExclusive).await?;
            let scope = session.scope()?;
            must_be_free(&scope.catalog, schema, to)?;
            views_forbid(&scope, object, "renaming")?;
            let mut changed = object.clone();
            match &mut changed {
                Object::Table(o) => Arc::make_mut(o).name = to.clone(),
                Object::Index(o) => {
                    // A constraint and its index go by one name.
                    if let Some(table) = scope.catalog.table(o.table)
                        && let Some(place) =
                            table.constraints.iter().position(|c| constraint_index(&c.kind) == Some(o.oid))
                    {
                        let mut table = (**table).clone();
                        table.constraints[place].name = to.clone();
                        changes.push(Change::Put(Object::Table(Arc::new(table))));
                    }
                    Arc::make_mut(o).name = to.clone();
                }
                Object::View(o) => Arc::make_mut(o).name = to.clone(),
                Object::Sequence(o) => Arc::make_mut(o).name = to.clone(),
                _ => {}
            }
            changes.push(Change::Put(changed));
        }
        AlterAction::Owner(owner) => {
            let owner = session.role_named(owner)?;
            if !privilege::is_member(&scope.catalog, scope.role, owner.oid) {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("must be member of role \"{}\"", owner.name),
                ));
            }
            for object in with_belongings(&scope.catalog, object) {
                let mut changed = object;
                match &mut changed {
                    Object::Table(o) => Arc::make_mut(o).owner = owner.oid,
                    Object::Index(o) => Arc::make_mut(o).owner = owner.oid,
                    Object::View(o) => Arc::make_mut(o).owner = owner.oid,
                    Object::Sequence(o) => Arc::make_mut(o).owner = owner.oid,
                    _ => {}
                }
                changes.push(Change::Put(changed));
            }
        }
        AlterAction::SetSchema(to) => {
            let Some(target) = scope.schema_oid(to) else {
                return Err(Error::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{to}\" does not exist"),
                ));
            };
            if matches!(object, Object::Index(_)) {
                return Err(Error::unsupported("moving an index alone", "Move its table."));
            }
            privilege::check_schema(&scope.catalog, scope.role, target, 'C')?;
            session.lock(target, TableLockMode::RowExclusive).await?;
            let scope = session.scope()?;
            views_forbid(&scope, object, "moving")?;
            for object in with_belongings(&scope.catalog, object) {
                must_be_free(&scope.catalog, target, object.name())?;
                let mut changed = object;
                match &mut changed {
                    Object::Table(o) => Arc::make_mut(o).schema = target,
                    Object::Index(o) => Arc::make_mut(o).schema = target,
                    Object::View(o) => Arc::make_mut(o).schema = target,
                    Object::Sequence(o) => Arc::make_mut(o).schema = target,
                    _ => {}
                }
                changes.push(Change::Put(changed));
            }
        }
        AlterAction::Ignored => return Ok(true),
        AlterAction::Unsupported { what, instead } => return Err(Error::unsupported(what, *instead)),
        _ => return Ok(false),
    }
    session.change_catalog(changes).await?;
    Ok(true)
}

/// Views keep their query as text with names in it.
fn views_forbid(scope: &crate::scope::Scope, object: &Object, doing: &str) -> Result<()> {
    let view = scope.catalog.objects().find_map(|o| match o {
        Object::View(view) if view.depends_on.contains(&object.oid()) => Some(view.name.clone()),
        _ => None,
    });
    match view {
        Some(view) => Err(Error::unsupported(
            format!("{doing} a relation that view {view} reads"),
            "Drop the view, change the relation, and create the view again.",
        )),
        None => Ok(()),
    }
}

/// An object with its indexes and the sequences its columns own.
fn with_belongings(catalog: &engine::Catalog, object: &Object) -> Vec<Object> {
    let mut all = vec![object.clone()];
    if let Object::Table(table) = object {
        all.extend(catalog.indexes(table.oid).map(|i| Object::Index(i.clone())));
        all.extend(
            catalog
                .objects()
                .filter(
                    |o| matches!(o, Object::Sequence(s) if s.owned_by.is_some_and(|(t, _)| t == table.oid)),
                )
                .cloned(),
        );
    }
    all
}

async fn view_action(session: &mut Session, view: &View, action: &AlterAction) -> Result<()> {
    match action {
        AlterAction::RenameColumn { from, to } => {
            let mut changed = view.clone();
            let Some(place) = changed.columns.iter().position(|c| c.name == *from) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{from}\" does not exist"),
                ));
            };
            if changed.columns.iter().any(|c| c.name == *to) {
                return Err(Error::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{to}\" of relation \"{}\" already exists", view.name),
                ));
            }
            changed.columns[place].name = to.clone();
            let names: Vec<String> = changed.columns.iter().map(|c| quote_name(&c.name)).collect();
            changed.query = format!("SELECT {0} FROM ({1}) AS v({0})", names.join(", "), view.query);
            session.change_catalog(vec![Change::Put(Object::View(Arc::new(changed)))]).await
        }
        AlterAction::SetOptions(_) => Ok(()),
        _ => Err(Error::unsupported("this change of a view", "Use CREATE OR REPLACE VIEW.")),
    }
}

fn no_column(table: &Table, column: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
    )
}

fn place_of(table: &Table, column: &str) -> Result<usize> {
    table.column(column).map(|(place, _)| place).ok_or_else(|| no_column(table, column))
}

async fn table_action(session: &mut Session, table: Arc<Table>, action: &AlterAction) -> Result<()> {
    let scope = session.scope()?;
    let put = |table: Table| vec![Change::Put(Object::Table(Arc::new(table)))];
    match action {
        AlterAction::AddColumn { column, if_not_exists } => {
            if table.column(&column.name).is_some() {
                let message =
                    format!("column \"{}\" of relation \"{}\" already exists", column.name, table.name);
                if *if_not_exists {
                    session.notice("NOTICE", SqlState::DUPLICATE_COLUMN, format!("{message}, skipping"));
                    return Ok(());
                }
                return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
            }
            add_column(session, &table, column).await
        }
        AlterAction::DropColumn { name, if_exists, cascade } => {
            let Ok(place) = place_of(&table, name) else {
                if *if_exists {
                    session.notice(
                        "NOTICE",
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{name}\" of relation \"{}\" does not exist, skipping", table.name),
                    );
                    return Ok(());
                }
                return Err(no_column(&table, name));
            };
            drop_column(session, &table, place, *cascade).await
        }
        AlterAction::SetType { column, ty, using } => {
            let TypeName::Known(ty) = ty else {
                return Err(Error::new(SqlState::UNDEFINED_OBJECT, "type \"serial\" does not exist"));
            };
            set_type(session, &table, column, *ty, using.as_ref()).await
        }
        AlterAction::SetDefault { column, default } => {
            let place = place_of(&table, column)?;
            let mut changed = (*table).clone();
            let target = &mut changed.columns[place];
            if target.identity.is_some() {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("column \"{column}\" of relation \"{}\" is an identity column", table.name),
                )
                .hint("Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead."));
            }
            if target.generated {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("column \"{column}\" of relation \"{}\" is a generated column", table.name),
                )
                .hint("Use ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION instead."));
            }
            target.default = match default {
                Some(text) => default_text(&scope, text, target.ty())?,
                None => None,
            };
            session.change_catalog(put(changed)).await
        }
        AlterAction::SetNotNull { column, not_null } => {
            let place = place_of(&table, column)?;
            if table.columns[place].not_null == *not_null {
                return Ok(());
            }
            if *not_null {
                no_nulls(session, &table, place).await?;
            } else {
                if primary_columns(&scope.catalog, &table).contains(&table.columns[place].number) {
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!("column \"{column}\" is in a primary key"),
                    ));
                }
                if table.columns[place].identity.is_some() {
                    return Err(Error::new(
                        SqlState::SYNTAX_ERROR,
                        format!("column \"{column}\" of relation \"{}\" is an identity column", table.name),
                    ));
                }
            }
            let mut changed = (*table).clone();
            changed.columns[place].not_null = *not_null;
            session.change_catalog(put(changed)).await
        }
        AlterAction::DropExpression { column, if_exists } => {
            let place = place_of(&table, column)?;
            let mut changed = (*table).clone();
            if !changed.columns[place].generated {
                let message = format!(
                    "column \"{column}\" of relation \"{}\" is not a stored generated column",
                    table.name
                );
                if *if_exists {
                    session.notice(
                        "NOTICE",
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!("{message}, skipping"),
                    );
                    return Ok(());
                }
                return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
            }
            changed.columns[place].generated = false;
            changed.columns[place].default = None;
            session.change_catalog(put(changed)).await
        }
        AlterAction::AddIdentity { column, identity, options } => {
            let place = place_of(&table, column)?;
            let mut target = table.columns[place].clone();
            if target.identity.is_some() {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!(
                        "column \"{column}\" of relation \"{}\" is already an identity column",
                        table.name
                    ),
                ));
            }
            if !target.not_null {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!(
                        "column \"{column}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
                        table.name
                    ),
                ));
            }
            if target.default.is_some() {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("column \"{column}\" of relation \"{}\" already has a default value", table.name),
                ));
            }
            let mut builder = Builder::of(&scope, &table);
            builder.add_identity(session, &mut target, *identity, options, false)?;
            builder.table.columns[place] = target;
            session.change_catalog(builder.changes()).await
        }
        AlterAction::SetIdentity { column, identity, options } => {
            let place = place_of(&table, column)?;
            let mut changed = (*table).clone();
            if changed.columns[place].identity.is_none() {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("column \"{column}\" of relation \"{}\" is not an identity column", table.name),
                ));
            }
            if let Some(identity) = identity {
                changed.columns[place].identity = Some(*identity);
                let number = changed.columns[place].number;
                session.change_catalog(put(changed)).await?;
                return identity_options(session, table.oid, number, options).await;
            }
            identity_options(session, table.oid, table.columns[place].number, options).await
        }
        AlterAction::DropIdentity { column, if_exists } => {
            let place = place_of(&table, column)?;
            let mut changed = (*table).clone();
            let target = &mut changed.columns[place];
            if target.identity.is_none() {
                let message =
                    format!("column \"{column}\" of relation \"{}\" is not an identity column", table.name);
                if *if_exists {
                    session.notice(
                        "NOTICE",
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!("{message}, skipping"),
                    );
                    return Ok(());
                }
                return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
            }
            target.identity = None;
            target.default = None;
            let number = target.number;
            let mut changes = put(changed);
            if let Some(sequence) = owned_sequence(&scope.catalog, table.oid, number) {
                changes.push(Change::Drop(sequence.oid));
            }
            session.change_catalog(changes).await
        }
        AlterAction::AddConstraint(constraint) => add_constraint(session, &table, constraint).await,
        AlterAction::DropConstraint { name, if_exists, cascade } => {
            let Some(constraint) = table.constraints.iter().find(|c| c.name == *name) else {
                let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
                if *if_exists {
                    session.notice("NOTICE", SqlState::UNDEFINED_OBJECT, format!("{message}, skipping"));
                    return Ok(());
                }
                return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
            };
            drop_constraint(session, &table, constraint.oid, *cascade).await
        }
        AlterAction::AlterConstraint { name, deferrable, initially_deferred } => {
            let mut changed = (*table).clone();
            let Some(constraint) = changed.constraints.iter_mut().find(|c| c.name == *name) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name),
                ));
            };
            if !matches!(constraint.kind, ConstraintKind::Foreign(_)) {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "constraint \"{name}\" of relation \"{}\" is not a foreign key constraint",
                        table.name
                    ),
                ));
            }
            constraint.deferrable = *deferrable;
            constraint.initially_deferred = *initially_deferred;
            session.change_catalog(put(changed)).await
        }
        AlterAction::ValidateConstraint(name) => {
            let mut changed = (*table).clone();
            let Some(place) = changed.constraints.iter().position(|c| c.name == *name) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name),
                ));
            };
            if !changed.constraints[place].validated {
                validate(session, &table, &changed.constraints[place].clone()).await?;
                changed.constraints[place].validated = true;
                session.change_catalog(put(changed)).await?;
            }
            Ok(())
        }
        AlterAction::RenameColumn { from, to } => rename_column(session, &table, from, to).await,
        AlterAction::RenameConstraint { from, to } => {
            let mut changed = (*table).clone();
            if changed.constraints.iter().any(|c| c.name == *to) {
                return Err(Error::new(
                    SqlState::DUPLICATE_OBJECT,
                    format!("constraint \"{to}\" for relation \"{}\" already exists", table.name),
                ));
            }
            let Some(constraint) = changed.constraints.iter_mut().find(|c| c.name == *from) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("constraint \"{from}\" for table \"{}\" does not exist", table.name),
                ));
            };
            constraint.name = to.clone();
            let index = constraint_index(&constraint.kind);
            let mut changes = put(changed);
            if let Some(index) = index.and_then(|i| scope.catalog.index(i)) {
                must_be_free(&scope.catalog, index.schema, to)?;
                changes.push(Change::Put(Object::Index(Arc::new(Index {
                    name: to.clone(),
                    ..(**index).clone()
                }))));
            }
            session.change_catalog(changes).await
        }
        AlterAction::SetOptions(options) => {
            let mut changed = (*table).clone();
            for (key, value) in options {
                if value.is_empty() {
                    changed.options.remove(key);
                } else {
                    changed.options.insert(key.clone(), value.clone());
                }
            }
            session.change_catalog(put(changed)).await
        }
        AlterAction::Rename(_)
        | AlterAction::SetSchema(_)
        | AlterAction::Owner(_)
        | AlterAction::Ignored
        | AlterAction::Unsupported { .. } => Ok(()),
    }
}

fn primary_columns(catalog: &engine::Catalog, table: &Table) -> Vec<i16> {
    catalog.indexes(table.oid).filter(|i| i.primary).flat_map(|i| i.keys.iter().map(|k| k.column)).collect()
}

fn owned_sequence(catalog: &engine::Catalog, table: Oid, column: i16) -> Option<Arc<Sequence>> {
    catalog.objects().find_map(|o| match o {
        Object::Sequence(s) if s.owned_by == Some((table, column)) => Some(s.clone()),
        _ => None,
    })
}

async fn identity_options(
    session: &mut Session,
    table: Oid,
    column: i16,
    options: &SequenceOptions,
) -> Result<()> {
    if *options == SequenceOptions::default() {
        return Ok(());
    }
    let scope = session.scope()?;
    match owned_sequence(&scope.catalog, table, column) {
        Some(sequence) => super::sequence::alter_sequence(session, &sequence, options).await,
        None => Err(Error::new(SqlState::UNDEFINED_OBJECT, "the identity column has no sequence")),
    }
}

fn full_name(session: &mut Session, table: &Table) -> Result<String> {
    let scope = session.scope()?;
    Ok(format!("{}.{}", quote_name(&scope.schema_name(table.schema)), quote_name(&table.name)))
}

async fn no_nulls(session: &mut Session, table: &Table, place: usize) -> Result<()> {
    let name = full_name(session, table)?;
    let column = &table.columns[place].name;
    let text = format!("SELECT 1 FROM {name} WHERE {} IS NULL LIMIT 1", quote_name(column));
    if query_inner(session, &text).await?.0.is_empty() {
        return Ok(());
    }
    let scope = session.scope()?;
    Err(Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("column \"{column}\" of relation \"{}\" contains null values", table.name),
    )
    .table(scope.schema_name(table.schema), &table.name)
    .column(column))
}

async fn add_column(session: &mut Session, table: &Arc<Table>, definition: &ColumnDefinition) -> Result<()> {
    let scope = session.scope()?;
    let mut builder = Builder::of(&scope, table);
    builder.column(session, definition)?;
    let place = builder.table.columns.len() - 1;
    for constraint in &definition.constraints {
        builder.constraint(session, constraint.clone())?;
    }
    builder.foreign_keys(session).await?;
    builder.check_expressions()?;
    let column = builder.table.columns[place].clone();
    let rows = has_rows(session, table)?;
    let mut per_row = None;
    if rows && let Some(text) = column.default.clone() {
        if column.generated {
            per_row = Some(text);
        } else {
            let expr = rules::expression(&*scope, None, &text, Purpose::Default, Some(column.ty()))?;
            if plan::expr::is_volatile(&expr) {
                per_row = Some(text);
            } else {
                let context = session.context(&scope, Arc::from([]), false, false)?;
                let value = execute::evaluate(&expr, &context)?;
                if !value.is_null() {
                    // The text must read back the same whatever a session's styles are.
                    let style = value::text::Style::default();
                    builder.table.columns[place].missing =
                        Some(value::text::output_string(&value, column.type_oid, &style));
                } else if column.not_null {
                    return Err(contains_nulls(&scope, table, &column.name));
                }
            }
        }
    } else if rows && column.not_null {
        return Err(contains_nulls(&scope, table, &column.name));
    }
    let indexes = std::mem::take(&mut builder.indexes);
    let constraints: Vec<_> = builder
        .table
        .constraints
        .iter()
        .filter(|c| !table.constraints.iter().any(|o| o.oid == c.oid))
        .cloned()
        .collect();
    let changed = Arc::new(builder.table.clone());
    session.change_catalog(builder.changes()).await?;
    if per_row.is_some() {
        let purpose = if column.generated { Purpose::Generated } else { Purpose::Default };
        let text = per_row.unwrap_or_default();
        let scope = session.scope()?;
        let target = column.generated.then_some(&changed);
        let expr = rules::expression(&*scope, target, &text, purpose, Some(column.ty()))?;
        rewrite(session, &changed, vec![(place, expr)]).await?;
    }
    for index in indexes {
        super::create_index::build(session, index).await?;
    }
    for constraint in constraints {
        if constraint.validated {
            validate(session, &changed, &constraint).await?;
        }
    }
    Ok(())
}

fn contains_nulls(scope: &crate::scope::Scope, table: &Table, column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("column \"{column}\" of relation \"{}\" contains null values", table.name),
    )
    .table(scope.schema_name(table.schema), &table.name)
    .column(column)
}

fn has_rows(session: &mut Session, table: &Arc<Table>) -> Result<bool> {
    let snapshot = session.transaction()?.tx()?.statement_snapshot(true)?;
    let mut scan = snapshot.scan(table, None)?;
    let mut batch = RowBatch::default();
    Ok(scan.next(&mut batch)? && !batch.rows.is_empty())
}

/// Writes all rows anew into new storage, with some columns computed over the old row; then builds the indexes.
async fn rewrite(session: &mut Session, table: &Arc<Table>, columns: Vec<(usize, Expr)>) -> Result<()> {
    let scope = session.scope()?;
    let engine = session.database.engine.clone();
    let old = scope.catalog.table(table.oid).cloned().unwrap_or_else(|| table.clone());
    let context = session.context(&scope, Arc::from([]), true, false)?;
    let snapshot = context.snapshot.clone();
    let expressions: Vec<Expr> = columns.iter().map(|(_, e)| e.clone()).collect();
    let mut evaluator = execute::Evaluator::new(&expressions, &context)?;
    let mut scan = snapshot.scan(&old, None)?;
    let fresh = Arc::new(Table { storage: engine.new_storage_id(), ..(**table).clone() });
    let mut changes = vec![Change::Put(Object::Table(fresh.clone()))];
    let indexes: Vec<Arc<Index>> = scope.catalog.indexes(table.oid).cloned().collect();
    // Indexes come back when the rows are there.
    changes.extend(indexes.iter().map(|i| Change::Drop(i.oid)));
    session.change_catalog(changes).await?;
    let mut batch = RowBatch::default();
    let shared = session.shared.clone();
    while scan.next(&mut batch)? {
        shared.cancel.check()?;
        for row in &batch.rows {
            let mut values = row.decode();
            values.resize(fresh.columns.len(), Datum::Null);
            let before = values.clone();
            for (n, (column, _)) in columns.iter().enumerate() {
                values[*column] = evaluator.value(n, &before)?;
                let target = &fresh.columns[*column];
                if target.not_null && values[*column].is_null() {
                    return Err(contains_nulls(&scope, table, &target.name));
                }
            }
            session.transaction()?.tx()?.insert(&fresh, &values).await?;
        }
        tokio::task::yield_now().await;
    }
    for index in indexes {
        let anew = Index { storage: engine.new_storage_id(), ..(*index).clone() };
        super::create_index::build(session, anew).await?;
    }
    Ok(())
}

async fn set_type(
    session: &mut Session,
    table: &Arc<Table>,
    column: &str,
    ty: Type,
    using: Option<&Fragment>,
) -> Result<()> {
    let scope = session.scope()?;
    let place = place_of(table, column)?;
    let old = table.columns[place].clone();
    if old.generated {
        return Err(Error::unsupported(
            "changing the type of a generated column",
            "Drop the column and add it with its new type.",
        ));
    }
    let blocking = column_dependents(&scope.catalog, table, old.number)
        .into_iter()
        .find(|d| matches!(d, Dependent::Object(_) | Dependent::Default { .. }));
    if let Some(blocking) = blocking {
        let what = match &blocking {
            Dependent::Object(_) => "a view or rule",
            _ => "a generated column",
        };
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot alter type of a column used by {what}"),
        )
        .detail(format!("{} depends on column \"{column}\"", describe(&scope, &blocking))));
    }
    let (text, offset) = match using {
        Some(using) => (using.text.clone(), using.offset),
        None => (quote_name(column), 0),
    };
    let expr = match rules::expression(&*scope, Some(table), &text, Purpose::AlterUsing, Some(ty)) {
        Ok(expr) => expr,
        Err(error) if using.is_none() && error.state() == SqlState::DATATYPE_MISMATCH => {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{column}\" cannot be cast automatically to type {}",
                    types::format_type(ty.oid, ty.typmod)
                ),
            )
            .hint(format!(
                "You might need to specify \"USING {}::{}\".",
                quote_name(column),
                types::format_type(ty.oid, ty.typmod)
            )));
        }
        Err(error) => return Err(error_shifted(error, offset)),
    };
    let mut changed = (**table).clone();
    let target = &mut changed.columns[place];
    target.type_oid = ty.oid;
    target.typmod = ty.typmod;
    target.missing = None;
    if let Some(default) = &old.default {
        let still = rules::expression(&*scope, None, default, Purpose::Default, Some(ty));
        if still.is_err() {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "default for column \"{column}\" cannot be cast automatically to type {}",
                    types::format_type(ty.oid, -1)
                ),
            ));
        }
    }
    if let Some(sequence) = old.identity.and_then(|_| owned_sequence(&scope.catalog, table.oid, old.number)) {
        let options = SequenceOptions { ty: Some(ty), ..SequenceOptions::default() };
        super::sequence::alter_sequence(session, &sequence, &options).await?;
    }
    let changed = Arc::new(changed);
    // Every stored expression must still make sense over the new type.
    scope.planning(|context| rules::of(context, &changed))?;
    let mut columns = vec![(place, expr)];
    if has_rows(session, table)? {
        // Hidden keys computed from the column change with it; they read the row as it was, so they go by
        // a second pass when any of them names the column.
        let names_it = |c: &Column| {
            c.hidden
                && !c.dropped
                && c.default.as_deref().is_some_and(|t| columns_named(table, t).contains(&old.name))
        };
        let hidden = changed.columns.iter().any(names_it);
        rewrite(session, &changed, std::mem::take(&mut columns)).await?;
        if hidden {
            let scope = session.scope()?;
            let now = scope.catalog.table(table.oid).cloned().unwrap_or(changed);
            let rules = scope.planning(|context| rules::of(context, &now))?;
            rewrite(session, &now, rules.computed.clone()).await?;
        }
        let scope = session.scope()?;
        if let Some(now) = scope.catalog.table(table.oid).cloned() {
            for constraint in &now.constraints {
                validate(session, &now, constraint).await?;
            }
        }
        return Ok(());
    }
    session.change_catalog(vec![Change::Put(Object::Table(changed))]).await
}

async fn drop_column(session: &mut Session, table: &Arc<Table>, place: usize, cascade: bool) -> Result<()> {
    let scope = session.scope()?;
    let column = table.columns[place].clone();
    let dependents = column_dependents(&scope.catalog, table, column.number);
    if !dependents.is_empty() && !cascade {
        let what =
            format!("column {} of table {}", column.name, scope.relation_text(table.schema, &table.name));
        let detail: Vec<String> =
            dependents.iter().map(|d| format!("{} depends on {what}", describe(&scope, d))).collect();
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {what} because other objects depend on it"),
        )
        .detail(detail.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    for dependent in dependents {
        session.shared.notice(
            "NOTICE",
            Error::new(
                SqlState::SUCCESSFUL_COMPLETION,
                format!("drop cascades to {}", describe(&scope, &dependent)),
            ),
        );
        match dependent {
            Dependent::Object(oid) => super::drop::remove(session, &[oid], true).await?,
            Dependent::Constraint { table: other, constraint } => {
                session.lock(other, TableLockMode::AccessExclusive).await?;
                let scope = session.scope()?;
                if let Some(other) = scope.catalog.table(other).cloned() {
                    drop_constraint(session, &other, constraint, true).await?;
                }
            }
            Dependent::Default { column, .. } => {
                let scope = session.scope()?;
                if let Some(now) = scope.catalog.table(table.oid).cloned() {
                    Box::pin(drop_column(session, &now, column as usize - 1, true)).await?;
                }
            }
        }
    }
    let scope = session.scope()?;
    let Some(now) = scope.catalog.table(table.oid) else { return Ok(()) };
    let mut changed = (**now).clone();
    let mut changes = Vec::new();
    // Its own indexes and constraints go silently.
    let mut gone = vec![column.number];
    let indexes: Vec<Arc<Index>> = scope.catalog.indexes(table.oid).cloned().collect();
    for index in &indexes {
        let uses = |number: i16| {
            number == column.number
                || changed.columns.get(number as usize - 1).is_some_and(|c| {
                    c.hidden
                        && c.default
                            .as_deref()
                            .is_some_and(|t| columns_named(&changed, t).contains(&column.name))
                })
        };
        let hit = index.keys.iter().any(|k| uses(k.column))
            || index.include.contains(&column.number)
            || index.predicate.as_ref().is_some_and(|(n, _)| uses(*n));
        if hit {
            changes.push(Change::Drop(index.oid));
            gone.extend(
                index.keys.iter().map(|k| k.column).filter(|n| changed.columns[*n as usize - 1].hidden),
            );
            gone.extend(index.predicate.iter().map(|(n, _)| *n));
            let oid = index.oid;
            changed.constraints.retain(|c| constraint_index(&c.kind) != Some(oid));
        }
    }
    let snapshot = changed.clone();
    changed.constraints.retain(|c| match &c.kind {
        ConstraintKind::Foreign(key) => !key.columns.contains(&column.number),
        ConstraintKind::Check { expression } => !columns_named(&snapshot, expression).contains(&column.name),
        _ => true,
    });
    if let Some(sequence) = owned_sequence(&scope.catalog, table.oid, column.number) {
        changes.push(Change::Drop(sequence.oid));
    }
    for number in gone {
        forget_column(&mut changed.columns[number as usize - 1]);
    }
    changes.push(Change::Put(Object::Table(Arc::new(changed))));
    session.change_catalog(changes).await
}

async fn add_constraint(
    session: &mut Session,
    table: &Arc<Table>,
    constraint: &TableConstraint,
) -> Result<()> {
    session.lock(table.schema, TableLockMode::RowExclusive).await?;
    let scope = session.scope()?;
    let mut builder = Builder::of(&scope, table);
    builder.constraint(session, constraint.clone())?;
    builder.foreign_keys(session).await?;
    let added: Vec<_> = builder
        .table
        .constraints
        .iter()
        .filter(|c| !table.constraints.iter().any(|o| o.oid == c.oid))
        .cloned()
        .collect();
    for (place, column) in builder.table.columns.iter().enumerate() {
        if column.not_null && !table.columns[place].not_null {
            no_nulls(session, table, place).await?;
        }
    }
    let indexes = std::mem::take(&mut builder.indexes);
    let changed = Arc::new(builder.table.clone());
    session.change_catalog(builder.changes()).await?;
    for index in indexes {
        super::create_index::build(session, index).await?;
    }
    for constraint in added {
        if constraint.validated {
            validate(session, &changed, &constraint).await?;
        }
    }
    Ok(())
}

/// Looks for a row that breaks a CHECK or FOREIGN KEY.
async fn validate(
    session: &mut Session,
    table: &Table,
    constraint: &engine::catalog::Constraint,
) -> Result<()> {
    let name = full_name(session, table)?;
    let scope = session.scope()?;
    match &constraint.kind {
        ConstraintKind::Check { expression } => {
            let text = format!("SELECT 1 FROM {name} WHERE NOT ({expression}) LIMIT 1");
            if !query_inner(session, &text).await?.0.is_empty() {
                return Err(Error::new(
                    SqlState::CHECK_VIOLATION,
                    format!(
                        "check constraint \"{}\" of relation \"{}\" is violated by some row",
                        constraint.name, table.name
                    ),
                )
                .table(scope.schema_name(table.schema), &table.name)
                .constraint(&constraint.name));
            }
        }
        ConstraintKind::Foreign(key) => {
            let Some(parent) = scope.catalog.table(key.referenced_table).cloned() else { return Ok(()) };
            let other = full_name(session, &parent)?;
            let column = |table: &Table, n: i16| quote_name(&table.columns[n as usize - 1].name);
            let own: Vec<String> = key.columns.iter().map(|n| column(table, *n)).collect();
            let theirs: Vec<String> = key.referenced_columns.iter().map(|n| column(&parent, *n)).collect();
            let join: Vec<String> = own.iter().zip(&theirs).map(|(a, b)| format!("c.{a} = p.{b}")).collect();
            let set: Vec<String> = own.iter().map(|a| format!("c.{a} IS NOT NULL")).collect();
            let list: Vec<String> = own.iter().map(|a| format!("c.{a}")).collect();
            let text = format!(
                "SELECT {} FROM {name} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {other} p WHERE {}) LIMIT 1",
                list.join(", "),
                set.join(" AND "),
                join.join(" AND ")
            );
            let (rows, _) = query_inner(session, &text).await?;
            if let Some(row) = rows.first() {
                let style = value::text::Style::default();
                let values: Vec<String> = row
                    .iter()
                    .zip(&key.columns)
                    .map(|(v, n)| {
                        value::text::output_string(v, table.columns[*n as usize - 1].type_oid, &style)
                    })
                    .collect();
                return Err(Error::new(
                    SqlState::FOREIGN_KEY_VIOLATION,
                    format!(
                        "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                        table.name, constraint.name
                    ),
                )
                .detail(format!(
                    "Key ({})=({}) is not present in table \"{}\".",
                    own.join(", "),
                    values.join(", "),
                    parent.name
                ))
                .table(scope.schema_name(table.schema), &table.name)
                .constraint(&constraint.name));
            }
        }
        _ => {}
    }
    Ok(())
}

async fn drop_constraint(
    session: &mut Session,
    table: &Arc<Table>,
    constraint: Oid,
    cascade: bool,
) -> Result<()> {
    let scope = session.scope()?;
    let Some(found) = table.constraints.iter().find(|c| c.oid == constraint).cloned() else { return Ok(()) };
    let mut changes = Vec::new();
    if let Some(index) = constraint_index(&found.kind) {
        for other in scope.catalog.referencing(table.oid) {
            let uses = |c: &engine::catalog::Constraint| matches!(&c.kind, ConstraintKind::Foreign(key) if key.referenced_index == index);
            let using: Vec<_> = other.constraints.iter().filter(|c| uses(c)).cloned().collect();
            if using.is_empty() {
                continue;
            }
            let this = format!(
                "constraint {} on table {}",
                quote_name(&found.name),
                scope.relation_text(table.schema, &table.name)
            );
            let lines: Vec<String> = using
                .iter()
                .map(|c| describe(&scope, &Dependent::Constraint { table: other.oid, constraint: c.oid }))
                .collect();
            if !cascade {
                return Err(Error::new(
                    SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!("cannot drop {this} because other objects depend on it"),
                )
                .detail(
                    lines
                        .iter()
                        .map(|l| format!("{l} depends on index {}", found.name))
                        .collect::<Vec<_>>()
                        .join("\n"),
                )
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            for line in lines {
                session.shared.notice(
                    "NOTICE",
                    Error::new(SqlState::SUCCESSFUL_COMPLETION, format!("drop cascades to {line}")),
                );
            }
            if other.oid != table.oid {
                session.lock(other.oid, TableLockMode::AccessExclusive).await?;
                let mut changed = (**other).clone();
                changed.constraints.retain(|c| !uses(c));
                changes.push(Change::Put(Object::Table(Arc::new(changed))));
            }
        }
        changes.push(Change::Drop(index));
    }
    let mut changed = (**table).clone();
    let index = constraint_index(&found.kind);
    changed.constraints.retain(|c| {
        c.oid != constraint
            && !matches!(&c.kind, ConstraintKind::Foreign(key) if Some(key.referenced_index) == index)
    });
    changes.push(Change::Put(Object::Table(Arc::new(changed))));
    session.change_catalog(changes).await
}

async fn rename_column(session: &mut Session, table: &Arc<Table>, from: &str, to: &str) -> Result<()> {
    let scope = session.scope()?;
    let Ok(place) = place_of(table, from) else {
        return Err(Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{from}\" does not exist")));
    };
    if table.column(to).is_some() {
        return Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{to}\" of relation \"{}\" already exists", table.name),
        ));
    }
    super::create_table::check_column_name(to)?;
    if column_dependents(&scope.catalog, table, table.columns[place].number)
        .iter()
        .any(|d| matches!(d, Dependent::Object(_)))
    {
        return Err(Error::unsupported(
            "renaming a column that a view reads",
            "Drop the view, rename the column, and create the view again.",
        ));
    }
    let mut changed = (**table).clone();
    changed.columns[place].name = to.to_string();
    // Stored expressions name columns by their names.
    for column in &mut changed.columns {
        if (column.generated || column.hidden)
            && let Some(text) = &column.default
        {
            column.default = Some(renamed(text, from, to));
        }
    }
    for constraint in &mut changed.constraints {
        if let ConstraintKind::Check { expression } = &mut constraint.kind {
            *expression = renamed(expression, from, to);
        }
    }
    let mut changes = vec![Change::Put(Object::Table(Arc::new(changed)))];
    for index in scope.catalog.indexes(table.oid) {
        let mut index = (**index).clone();
        let before = index.clone();
        for key in &mut index.keys {
            if let Some(text) = &key.expression {
                key.expression = Some(renamed(text, from, to));
            }
        }
        if let Some((_, text)) = &mut index.predicate {
            *text = renamed(text, from, to);
        }
        if index != before {
            changes.push(Change::Put(Object::Index(Arc::new(index))));
        }
    }
    session.change_catalog(changes).await
}

/// An expression's text with one column's name replaced.
fn renamed(text: &str, from: &str, to: &str) -> String {
    let mut out = text.to_string();
    let tokens = lex::tokens(text).unwrap_or_default();
    for (n, token) in tokens.iter().enumerate().rev() {
        let call = tokens.get(n + 1).is_some_and(|t| &text[t.start..t.end] == "(");
        if let lex::Kind::Word { text: word, .. } = &token.kind
            && word == from
            && !call
        {
            out.replace_range(token.start..token.end, &quote_name(to));
        }
    }
    out
}
