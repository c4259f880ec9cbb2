//! CREATE, ALTER DATABASE.

use engine::TableLockMode;
use engine::catalog::{Change, Object};
use value::{Error, Oid, Result, SqlState};

use crate::database::database_objects;
use crate::privilege;
use crate::session::{Outcome, Session};
use crate::statement::SchemaAction;

/// Held by whoever makes, renames or drops a database.
const LOCK: Oid = 1262;

fn may_create(session: &mut Session) -> Result<()> {
    let scope = session.scope()?;
    if scope.superuser || scope.catalog.role(scope.role).is_some_and(|r| r.create_db) {
        return Ok(());
    }
    Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied to create database"))
}

pub async fn create(session: &mut Session, name: &str, options: &[(String, String)]) -> Result<Outcome> {
    session.must_stand_alone("CREATE DATABASE")?;
    may_create(session)?;
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    let mut owner = scope.role;
    let mut template = "template1".to_string();
    for (option, value) in options {
        match option.as_str() {
            "owner" => {
                let role = session.role_named(value)?;
                if !privilege::is_member(&scope.catalog, scope.role, role.oid) {
                    return Err(Error::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("must be member of role \"{value}\""),
                    ));
                }
                owner = role.oid;
            }
            "template" => template = value.clone(),
            "encoding" => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                if !matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode" | "default" | "6") {
                    return Err(Error::unsupported(format!("encoding \"{value}\""), "Use UTF8."));
                }
            }
            "lc_collate" | "lc_ctype" | "locale" | "locale_provider" | "icu_locale" | "tablespace"
            | "connection_limit" | "allow_connections" | "is_template" | "strategy" | "oid"
            | "collation_version" => {}
            other => {
                return Err(Error::new(SqlState::SYNTAX_ERROR, format!("option \"{other}\" not recognized")));
            }
        }
    }
    if scope.catalog.database_named(name).is_some() {
        return Err(Error::new(SqlState::DUPLICATE_DATABASE, format!("database \"{name}\" already exists")));
    }
    if !matches!(template.as_str(), "template0" | "template1" | "default") {
        let Some(source) = scope.catalog.database_named(&template) else {
            return Err(Error::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("template database \"{template}\" does not exist"),
            ));
        };
        let used = scope
            .catalog
            .objects()
            .any(|o| o.database() == Some(source.oid) && o.relation_schema().is_some());
        if used {
            return Err(Error::unsupported(
                "copying a database that has tables",
                "Create it empty and load a dump of the other one.",
            ));
        }
    }
    let engine = &session.database.engine;
    let objects = database_objects(name, engine.new_oid(), owner, engine.new_oid());
    session.change_catalog(objects.into_iter().map(Change::Put).collect()).await?;
    Ok(Outcome::Tag("CREATE DATABASE".into()))
}

pub async fn alter(session: &mut Session, name: &str, action: &SchemaAction) -> Result<Outcome> {
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    let Some(found) = scope.catalog.database_named(name) else {
        return Err(Error::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{name}\" does not exist"),
        ));
    };
    privilege::must_own(&scope.catalog, scope.role, found.owner, "database", name)?;
    let mut changed = found.clone();
    match action {
        SchemaAction::Rename(to) => {
            may_create(session)?;
            if found.oid == session.shared.database {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "current database cannot be renamed",
                ));
            }
            if scope.catalog.database_named(to).is_some() {
                return Err(Error::new(
                    SqlState::DUPLICATE_DATABASE,
                    format!("database \"{to}\" already exists"),
                ));
            }
            must_be_unused(session, found.oid, name)?;
            changed.name = to.clone();
        }
        SchemaAction::Owner(owner) => changed.owner = session.role_named(owner)?.oid,
        SchemaAction::Options(options) => {
            for (option, value) in options {
                let on = crate::setting::parse_bool(value).unwrap_or(true);
                match option.as_str() {
                    "is_template" => changed.is_template = on,
                    "allow_connections" => changed.allow_connections = on,
                    "connection_limit" => {}
                    other => {
                        return Err(Error::new(
                            SqlState::SYNTAX_ERROR,
                            format!("option \"{other}\" not recognized"),
                        ));
                    }
                }
            }
        }
    }
    session.change_catalog(vec![Change::Put(Object::Database(changed))]).await?;
    Ok(Outcome::Tag("ALTER DATABASE".into()))
}

fn must_be_unused(session: &Session, database: Oid, name: &str) -> Result<()> {
    let others = session
        .database
        .sessions
        .iter()
        .filter(|s| s.database == database && s.pid != session.shared.pid)
        .count();
    if others == 0 {
        return Ok(());
    }
    let sessions = if others == 1 { "is 1 other session" } else { "are other sessions" };
    Err(Error::new(SqlState::OBJECT_IN_USE, format!("database \"{name}\" is being accessed by other users"))
        .detail(format!("There {sessions} using the database.")))
}

/// DROP DATABASE.
pub async fn drop(session: &mut Session, name: &str, if_exists: bool) -> Result<()> {
    session.must_stand_alone("DROP DATABASE")?;
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    let Some(found) = scope.catalog.database_named(name) else {
        let message = format!("database \"{name}\" does not exist");
        if if_exists {
            session.notice("NOTICE", SqlState::INVALID_CATALOG_NAME, format!("{message}, skipping"));
            return Ok(());
        }
        return Err(Error::new(SqlState::INVALID_CATALOG_NAME, message));
    };
    privilege::must_own(&scope.catalog, scope.role, found.owner, "database", name)?;
    if found.oid == session.shared.database {
        return Err(Error::new(SqlState::OBJECT_IN_USE, "cannot drop the currently open database"));
    }
    if found.is_template {
        return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, "cannot drop a template database"));
    }
    must_be_unused(session, found.oid, name)?;
    let database = found.oid;
    let mut changes: Vec<Change> = scope
        .catalog
        .objects()
        .filter(|o| o.database() == Some(database))
        .map(|o| Change::Drop(o.oid()))
        .collect();
    changes.push(Change::Drop(database));
    session.change_catalog(changes).await
}
