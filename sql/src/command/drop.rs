//! DROP, and what depends on what.
//!
//! Dependencies are read off the catalog: views name the relations they read, foreign keys the table they refer to,
//! defaults the sequences they call; indexes and owned sequences belong to their table.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Catalog, Change, Column, ConstraintKind, Index, Object, Table};
use value::{Error, Oid, Result, SqlState};

use super::create_table::{columns_named, sequences_of};
use super::{find_relation, kind_of};
use crate::privilege;
use crate::scope::Scope;
use crate::session::{Outcome, Session};
use crate::statement::{Name, ObjectKind};

/// Something that stands in the way of a DROP, or goes with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependent {
    Object(Oid),
    Constraint { table: Oid, constraint: Oid },
    Default { table: Oid, column: i16 },
}

pub async fn run(
    session: &mut Session,
    kind: ObjectKind,
    names: &[Name],
    if_exists: bool,
    cascade: bool,
) -> Result<Outcome> {
    let tag = match kind {
        ObjectKind::Table => "DROP TABLE",
        ObjectKind::Index => "DROP INDEX",
        ObjectKind::View => "DROP VIEW",
        ObjectKind::Sequence => "DROP SEQUENCE",
        ObjectKind::Schema => "DROP SCHEMA",
        ObjectKind::Database => "DROP DATABASE",
        ObjectKind::Role => "DROP ROLE",
        ObjectKind::Extension => "DROP EXTENSION",
        ObjectKind::Type => "DROP TYPE",
        ObjectKind::Domain => "DROP DOMAIN",
        ObjectKind::Function => "DROP FUNCTION",
        ObjectKind::Trigger => "DROP TRIGGER",
        ObjectKind::Policy => "DROP POLICY",
        ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
        ObjectKind::ForeignTable => "DROP FOREIGN TABLE",
        ObjectKind::Other => {
            return Err(Error::unsupported("DROP of this object", "StartDB has no such object."));
        }
    };
    match kind {
        ObjectKind::Database => {
            for name in names {
                super::database::drop(session, &name.name, if_exists).await?;
            }
        }
        ObjectKind::Role => {
            for name in names {
                super::role::drop(session, &name.name, if_exists).await?;
            }
        }
        ObjectKind::Table
        | ObjectKind::Index
        | ObjectKind::View
        | ObjectKind::Sequence
        | ObjectKind::Schema => {
            objects(session, kind, names, if_exists, cascade).await?;
        }
        _ => {
            // None of these exist; IF EXISTS is how scripts ask.
            for name in names {
                let message = format!("{} \"{}\" does not exist", kind.noun(), name.name);
                if !if_exists {
                    let state = match kind {
                        ObjectKind::Function => SqlState::UNDEFINED_FUNCTION,
                        ObjectKind::MaterializedView | ObjectKind::ForeignTable => SqlState::UNDEFINED_TABLE,
                        _ => SqlState::UNDEFINED_OBJECT,
                    };
                    return Err(Error::new(state, message));
                }
                session.notice("NOTICE", SqlState::SUCCESSFUL_COMPLETION, format!("{message}, skipping"));
            }
        }
    }
    Ok(Outcome::Tag(tag.into()))
}

async fn objects(
    session: &mut Session,
    kind: ObjectKind,
    names: &[Name],
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let mut targets: Vec<Oid> = Vec::new();
    for name in names {
        // Somebody else may have dropped it, or made another, before it was ours.
        loop {
            let Some(found) = lock_target(session, kind, name, if_exists).await? else { break };
            let now = find(&*session.scope()?, session.shared.database, kind, name);
            if let Some(now) = now.filter(|now| now.oid() == found) {
                if let Object::Table(table) = &now {
                    session.must_be_settled(table, "DROP TABLE")?;
                }
                targets.push(found);
                break;
            }
        }
    }
    remove(session, &targets, cascade).await
}

fn find(scope: &Scope, database: Oid, kind: ObjectKind, name: &Name) -> Option<Object> {
    if kind == ObjectKind::Schema {
        return scope.catalog.schema_named(database, &name.name).cloned().map(Object::Schema);
    }
    find_relation(scope, name)
}

/// Finds what a DROP names and locks it; `None`: it is not there, which IF EXISTS allows.
async fn lock_target(
    session: &mut Session,
    kind: ObjectKind,
    name: &Name,
    if_exists: bool,
) -> Result<Option<Oid>> {
    let scope = session.scope()?;
    let Some(found) = find(&scope, session.shared.database, kind, name) else {
        let message = format!("{} \"{}\" does not exist", kind.noun(), super::written(name));
        if if_exists {
            session.notice("NOTICE", SqlState::SUCCESSFUL_COMPLETION, format!("{message}, skipping"));
            return Ok(None);
        }
        let of_system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if of_system
            && kind != ObjectKind::Schema
            && crate::pg_catalog::find("pg_catalog", &name.name).is_some()
        {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", name.name),
            ));
        }
        let state = match kind {
            ObjectKind::Index => SqlState::UNDEFINED_OBJECT,
            ObjectKind::Schema => SqlState::INVALID_SCHEMA_NAME,
            _ => SqlState::UNDEFINED_TABLE,
        };
        return Err(Error::new(state, message));
    };
    let actual = kind_of(&found);
    if actual != kind {
        let article = |kind: ObjectKind| if kind == ObjectKind::Index { "an index" } else { "" };
        let noun = |kind: ObjectKind| match article(kind) {
            "" => format!("a {}", kind.noun()),
            article => article.to_string(),
        };
        let hint = format!("Use DROP {} to remove {}.", actual.noun().to_uppercase(), noun(actual));
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not {}", name.name, noun(kind)),
        )
        .hint(hint));
    }
    let owner = privilege::acting_owner(&scope.catalog, &found);
    privilege::must_own(&scope.catalog, scope.role, owner, kind.noun(), found.name())?;
    if let Object::Index(index) = &found {
        session.lock(index.table, TableLockMode::AccessExclusive).await?;
        let scope = session.scope()?;
        if let Some(table) = scope.catalog.table(index.table)
            && let Some(constraint) =
                table.constraints.iter().find(|c| constraint_index(&c.kind) == Some(index.oid))
        {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop index {} because constraint {} on table {} requires it",
                    index.name, constraint.name, table.name
                ),
            )
            .hint(format!("You can drop constraint {} on table {} instead.", constraint.name, table.name)));
        }
    } else {
        session.lock(found.oid(), TableLockMode::AccessExclusive).await?;
    }
    Ok(Some(found.oid()))
}

/// The index behind a key constraint.
pub fn constraint_index(kind: &ConstraintKind) -> Option<Oid> {
    match kind {
        ConstraintKind::Primary { index } | ConstraintKind::Unique { index } => Some(*index),
        _ => None,
    }
}

/// Drops objects that are locked, with what depends on them, or fails with 2BP01.
pub async fn remove(session: &mut Session, targets: &[Oid], cascade: bool) -> Result<()> {
    let scope = session.scope()?;
    let catalog = &scope.catalog;
    let mut all: BTreeSet<Dependent> = targets.iter().map(|oid| Dependent::Object(*oid)).collect();
    // What belongs to a target goes silently; what depends on it needs CASCADE.
    let mut open: Vec<Dependent> = all.iter().cloned().collect();
    let mut reported: Vec<(Dependent, Dependent)> = Vec::new();
    while let Some(next) = open.pop() {
        let (owned, dependents) = dependents_of(catalog, &next);
        for item in owned {
            if all.insert(item.clone()) {
                open.push(item.clone());
            }
            reported.retain(|(d, _)| *d != item);
        }
        for item in dependents {
            if all.contains(&item) {
                continue;
            }
            // A constraint or default of a table that goes anyway is no obstacle.
            let inside = match &item {
                Dependent::Constraint { table, .. } | Dependent::Default { table, .. } => {
                    all.contains(&Dependent::Object(*table))
                }
                Dependent::Object(_) => false,
            };
            all.insert(item.clone());
            open.push(item.clone());
            if !inside {
                reported.push((item, next.clone()));
            }
        }
    }
    reported.retain(|(item, _)| match item {
        Dependent::Constraint { table, .. } | Dependent::Default { table, .. } => {
            !targets.contains(table) && !all.contains(&Dependent::Object(*table))
        }
        Dependent::Object(oid) => !targets.contains(oid),
    });
    if !reported.is_empty() {
        if !cascade {
            let what = match targets {
                [one] => describe(&scope, &Dependent::Object(*one)),
                _ => "desired object(s)".to_string(),
            };
            let detail: Vec<String> = reported
                .iter()
                .map(|(item, on)| format!("{} depends on {}", describe(&scope, item), describe(&scope, on)))
                .collect();
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {what} because other objects depend on it").replace(
                    "desired object(s) because other objects depend on it",
                    "desired object(s) because other objects depend on them",
                ),
            )
            .detail(detail.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let lines: Vec<String> =
            reported.iter().map(|(item, _)| format!("drop cascades to {}", describe(&scope, item))).collect();
        let notice = match lines.as_slice() {
            [one] => Error::new(SqlState::SUCCESSFUL_COMPLETION, one.clone()),
            many => Error::new(
                SqlState::SUCCESSFUL_COMPLETION,
                format!("drop cascades to {} other objects", many.len()),
            )
            .detail(many.join("\n")),
        };
        session.shared.notice("NOTICE", notice);
    }
    for item in &all {
        match item {
            Dependent::Object(oid) if !targets.contains(oid) => {
                session.lock(*oid, TableLockMode::AccessExclusive).await?;
            }
            Dependent::Constraint { table, .. } | Dependent::Default { table, .. } => {
                session.lock(*table, TableLockMode::AccessExclusive).await?;
            }
            Dependent::Object(_) => {}
        }
    }
    let scope = session.scope()?;
    let mut changes = Vec::new();
    let mut tables: Vec<Table> = Vec::new();
    let copy_of = |tables: &mut Vec<Table>, oid: Oid| -> Option<usize> {
        if all.contains(&Dependent::Object(oid)) {
            return None;
        }
        if let Some(place) = tables.iter().position(|t| t.oid == oid) {
            return Some(place);
        }
        tables.push((**scope.catalog.table(oid)?).clone());
        Some(tables.len() - 1)
    };
    for item in &all {
        match item {
            Dependent::Object(oid) => {
                changes.push(Change::Drop(*oid));
                // What was computed and stored for this index only goes with it.
                let Some(index) = scope.catalog.index(*oid) else { continue };
                let left =
                    scope.catalog.indexes(index.table).filter(|i| !all.contains(&Dependent::Object(i.oid)));
                let left: BTreeSet<i16> = left.flat_map(|index| columns_of(index)).collect();
                let Some(table) = scope.catalog.table(index.table) else { continue };
                let hidden = hidden_columns(table, index);
                for column in hidden.filter(|column| !left.contains(&table.columns[*column].number)) {
                    if let Some(place) = copy_of(&mut tables, index.table) {
                        forget_column(&mut tables[place].columns[column]);
                    }
                }
            }
            Dependent::Constraint { table, .. } | Dependent::Default { table, .. } => {
                let Some(place) = copy_of(&mut tables, *table) else { continue };
                let table = &mut tables[place];
                match item {
                    Dependent::Constraint { constraint, .. } => {
                        table.constraints.retain(|c| c.oid != *constraint)
                    }
                    Dependent::Default { column, .. } => {
                        if let Some(column) = table.columns.get_mut(*column as usize - 1) {
                            column.default = None;
                            column.identity = None;
                        }
                    }
                    Dependent::Object(_) => {}
                }
            }
        }
    }
    changes.extend(tables.into_iter().map(|t| Change::Put(Object::Table(Arc::new(t)))));
    session.change_catalog(changes).await
}

/// Columns whose values an index holds or asks for.
fn columns_of(index: &Index) -> impl Iterator<Item = i16> {
    let predicate = index.predicate.as_ref().map(|(column, _)| *column);
    index.keys.iter().map(|key| key.column).chain(predicate)
}

/// Where a table has the hidden columns of one of its indexes.
pub fn hidden_columns(table: &Table, index: &Index) -> impl Iterator<Item = usize> {
    let places = columns_of(index).filter_map(|number| usize::try_from(number - 1).ok());
    places.filter(|place| table.columns.get(*place).is_some_and(|column| column.hidden))
}

/// Tables with hidden columns that belong to no index, without them: older versions published an index after its columns,
/// and a crash may have come in between.
pub fn without_orphans(catalog: &Catalog) -> Vec<Change> {
    let tables = catalog.objects().filter_map(|object| match object {
        Object::Table(table) if table.columns.iter().any(|c| c.hidden && !c.dropped) => Some(table),
        _ => None,
    });
    let without = |table: &Arc<Table>| {
        let used: BTreeSet<i16> = catalog.indexes(table.oid).flat_map(|index| columns_of(index)).collect();
        let is_orphan = |column: &Column| column.hidden && !column.dropped && !used.contains(&column.number);
        if !table.columns.iter().any(is_orphan) {
            return None;
        }
        let mut changed = (**table).clone();
        changed.columns.iter_mut().filter(|column| is_orphan(column)).for_each(forget_column);
        Some(Change::Put(Object::Table(Arc::new(changed))))
    };
    tables.filter_map(without).collect()
}

/// Makes a column one that was dropped: its number is never used again.
pub fn forget_column(column: &mut Column) {
    column.dropped = true;
    column.name = format!("........pg.dropped.{}........", column.number);
    column.not_null = false;
    column.default = None;
    column.identity = None;
    column.generated = false;
    column.comment = None;
    column.acl = None;
}

/// What belongs to something (and goes with it), and what merely depends on it.
fn dependents_of(catalog: &Catalog, item: &Dependent) -> (Vec<Dependent>, Vec<Dependent>) {
    let (mut owned, mut dependents) = (Vec::new(), Vec::new());
    let Dependent::Object(oid) = item else {
        if let Dependent::Constraint { table, constraint } = item
            && let Some(table) = catalog.table(*table)
            && let Some(constraint) = table.constraints.iter().find(|c| c.oid == *constraint)
            && let Some(index) = constraint_index(&constraint.kind)
        {
            owned.push(Dependent::Object(index));
            dependents.extend(foreign_keys_on(catalog, table.oid, Some(index)));
        }
        return (owned, dependents);
    };
    for object in catalog.objects() {
        match object {
            Object::Index(index) if index.table == *oid => owned.push(Dependent::Object(index.oid)),
            Object::Sequence(sequence) if sequence.owned_by.is_some_and(|(table, _)| table == *oid) => {
                owned.push(Dependent::Object(sequence.oid));
            }
            Object::View(view) if view.depends_on.contains(oid) && view.oid != *oid => {
                dependents.push(Dependent::Object(view.oid));
            }
            _ => {}
        }
        if object.relation_schema() == Some(*oid) && !matches!(object, Object::Index(_)) {
            dependents.push(Dependent::Object(object.oid()));
        }
    }
    match catalog.get(*oid) {
        Some(Object::Table(_)) => dependents.extend(foreign_keys_on(catalog, *oid, None)),
        Some(Object::Sequence(_)) => {
            for object in catalog.objects() {
                let Object::Table(table) = object else { continue };
                for column in table.columns.iter().filter(|c| !c.dropped) {
                    if column.default.as_deref().is_some_and(|text| sequences_of(text).contains(oid)) {
                        dependents.push(Dependent::Default { table: table.oid, column: column.number });
                    }
                }
            }
        }
        _ => {}
    }
    (owned, dependents)
}

fn foreign_keys_on(catalog: &Catalog, table: Oid, index: Option<Oid>) -> Vec<Dependent> {
    let mut out = Vec::new();
    for other in catalog.referencing(table) {
        for constraint in &other.constraints {
            if let ConstraintKind::Foreign(key) = &constraint.kind
                && key.referenced_table == table
                && index.is_none_or(|index| index == key.referenced_index)
            {
                out.push(Dependent::Constraint { table: other.oid, constraint: constraint.oid });
            }
        }
    }
    out
}

/// What depends on one column of a table, besides its own indexes and constraints.
pub fn column_dependents(catalog: &Catalog, table: &Table, column: i16) -> Vec<Dependent> {
    let mut out = Vec::new();
    let Some(name) = table.columns.get(column as usize - 1).map(|c| c.name.clone()) else { return out };
    for object in catalog.objects() {
        if let Object::View(view) = object
            && view.depends_on.contains(&table.oid)
            && crate::lex::tokens(&view.query)
                .unwrap_or_default()
                .iter()
                .any(|t| matches!(&t.kind, crate::lex::Kind::Word { text, .. } if *text == name))
        {
            out.push(Dependent::Object(view.oid));
        }
    }
    for other in &table.columns {
        if other.generated
            && !other.dropped
            && other.number != column
            && other.default.as_deref().is_some_and(|text| columns_named(table, text).contains(&name))
        {
            out.push(Dependent::Default { table: table.oid, column: other.number });
        }
    }
    for other in catalog.referencing(table.oid) {
        for constraint in &other.constraints {
            if let ConstraintKind::Foreign(key) = &constraint.kind
                && key.referenced_table == table.oid
                && key.referenced_columns.contains(&column)
                && !(other.oid == table.oid && key.columns.contains(&column))
            {
                out.push(Dependent::Constraint { table: other.oid, constraint: constraint.oid });
            }
        }
    }
    out
}

/// As messages name it.
pub fn describe(scope: &Scope, item: &Dependent) -> String {
    let catalog = &scope.catalog;
    let relation = |object: &Object| {
        let name = match object.relation_schema() {
            Some(schema) => scope.relation_text(schema, object.name()),
            None => crate::lex::quote_name(object.name()),
        };
        format!("{} {name}", kind_of(object).noun())
    };
    match item {
        Dependent::Object(oid) => catalog.get(*oid).map_or_else(|| oid.to_string(), relation),
        Dependent::Constraint { table, constraint } => match catalog.table(*table) {
            Some(table) => {
                let name =
                    table.constraints.iter().find(|c| c.oid == *constraint).map_or("?", |c| c.name.as_str());
                format!(
                    "constraint {} on table {}",
                    crate::lex::quote_name(name),
                    scope.relation_text(table.schema, &table.name)
                )
            }
            None => "constraint".into(),
        },
        Dependent::Default { table, column } => match catalog.table(*table) {
            Some(table) => {
                let found = table.columns.get(*column as usize - 1);
                let name = found.map_or("?", |c| c.name.as_str());
                let what =
                    if found.is_some_and(|c| c.generated) { "column" } else { "default value for column" };
                format!("{what} {name} of table {}", scope.relation_text(table.schema, &table.name))
            }
            None => "default value".into(),
        },
    }
}
