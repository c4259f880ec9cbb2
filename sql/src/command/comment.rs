//! COMMENT ON.

use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Change, Object};
use value::{Error, Result, SqlState};

use super::kind_of;
use crate::privilege;
use crate::session::{Outcome, Session};
use crate::statement::{CommentTarget, ObjectKind};

pub async fn run(session: &mut Session, target: &CommentTarget, text: Option<&str>) -> Result<Outcome> {
    let scope = session.scope()?;
    let text = text.map(str::to_string);
    let object = match target {
        CommentTarget::Relation(kind, name) => {
            let found = super::relation(&scope, name)?;
            if kind_of(&found) != *kind {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a {}", name.name, kind.noun()),
                ));
            }
            found
        }
        CommentTarget::Column(table, _) | CommentTarget::Constraint { table, .. } => {
            super::relation(&scope, table)?
        }
        CommentTarget::Schema(name) => scope
            .catalog
            .schema_named(session.shared.database, name)
            .cloned()
            .map(Object::Schema)
            .ok_or_else(|| {
                Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
            })?,
        CommentTarget::Database(name) => {
            scope.catalog.database_named(name).cloned().map(Object::Database).ok_or_else(|| {
                Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist"))
            })?
        }
        CommentTarget::Role(name) => Object::Role(session.role_named(name)?),
        CommentTarget::Other(noun) => {
            // pg_dump comments on extensions it created; there is nothing to keep it on.
            if noun == ObjectKind::Extension.noun() {
                return Ok(Outcome::Tag("COMMENT".into()));
            }
            return Err(Error::unsupported(
                format!("COMMENT ON this kind of object ({noun})"),
                "StartDB has none of them.",
            ));
        }
    };
    let kind = kind_of(&object);
    if kind == ObjectKind::Role {
        if !scope.superuser && !scope.catalog.role(scope.role).is_some_and(|r| r.create_role) {
            return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied"));
        }
    } else {
        let owner = privilege::acting_owner(&scope.catalog, &object);
        privilege::must_own(&scope.catalog, scope.role, owner, kind.noun(), object.name())?;
    }
    session.lock(object.oid(), TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    let Some(mut changed) = scope.catalog.get(object.oid()).cloned() else {
        return Err(Error::new(SqlState::UNDEFINED_OBJECT, "the object is gone"));
    };
    match (target, &mut changed) {
        (CommentTarget::Column(_, column), Object::Table(table)) => {
            let table = Arc::make_mut(table);
            let Some((place, _)) = table.column(column) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
                ));
            };
            table.columns[place].comment = text;
        }
        (CommentTarget::Column(..), _) => {
            return Err(Error::unsupported("COMMENT ON COLUMN of a view", "Comment on the view."));
        }
        (CommentTarget::Constraint { name, .. }, Object::Table(table)) => {
            let table = Arc::make_mut(table);
            match table.constraints.iter_mut().find(|c| c.name == *name) {
                Some(constraint) => constraint.comment = text,
                None => {
                    return Err(Error::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("constraint \"{name}\" for table \"{}\" does not exist", table.name),
                    ));
                }
            }
        }
        (_, Object::Table(o)) => Arc::make_mut(o).comment = text,
        (_, Object::Index(o)) => Arc::make_mut(o).comment = text,
        (_, Object::View(o)) => Arc::make_mut(o).comment = text,
        (_, Object::Sequence(o)) => Arc::make_mut(o).comment = text,
        (_, Object::Role(o)) => Arc::make_mut(o).comment = text,
        (_, Object::Schema(o)) => o.comment = text,
        (_, Object::Database(o)) => o.comment = text,
    }
    session.change_catalog(vec![Change::Put(changed)]).await?;
    Ok(Outcome::Tag("COMMENT".into()))
}
