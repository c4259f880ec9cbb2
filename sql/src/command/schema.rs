//! CREATE, ALTER SCHEMA; CREATE EXTENSION for what is built in.

use engine::TableLockMode;
use engine::catalog::{Change, Object, Schema};
use value::{Error, Result, SqlState};

use crate::privilege;
use crate::session::{Outcome, Session};
use crate::statement::SchemaAction;

pub async fn create(
    session: &mut Session,
    name: Option<&str>,
    if_not_exists: bool,
    owner: Option<&str>,
) -> Result<Outcome> {
    let done = Outcome::Tag("CREATE SCHEMA".into());
    let scope = session.scope()?;
    let owner = match owner {
        Some(owner) => session.role_named(owner)?.oid,
        None => scope.role,
    };
    if !privilege::is_member(&scope.catalog, scope.role, owner) {
        let name = scope.catalog.role(owner).map(|r| r.name.clone()).unwrap_or_default();
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be member of role \"{name}\""),
        ));
    }
    let name = match name {
        Some(name) => name.to_string(),
        None => scope.catalog.role(owner).map(|r| r.name.clone()).unwrap_or_default(),
    };
    privilege::check_database(&scope.catalog, scope.role, session.shared.database, 'C')?;
    if name.starts_with("pg_") {
        return Err(Error::new(SqlState::RESERVED_NAME, format!("unacceptable schema name \"{name}\""))
            .detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    session.lock(session.shared.database, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    if scope.schema_oid(&name).is_some() {
        let message = format!("schema \"{name}\" already exists");
        if if_not_exists {
            session.notice("NOTICE", SqlState::DUPLICATE_SCHEMA, format!("{message}, skipping"));
            return Ok(done);
        }
        return Err(Error::new(SqlState::DUPLICATE_SCHEMA, message));
    }
    let schema = Schema {
        oid: session.database.engine.new_oid(),
        database: session.shared.database,
        name,
        owner,
        acl: None,
        comment: None,
    };
    session.change_catalog(vec![Change::Put(Object::Schema(schema))]).await?;
    Ok(done)
}

pub async fn alter(session: &mut Session, name: &str, action: &SchemaAction) -> Result<Outcome> {
    session.lock(session.shared.database, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    let Some(schema) = scope.catalog.schema_named(session.shared.database, name) else {
        return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")));
    };
    let owner = privilege::standing(&scope.catalog, schema).0;
    privilege::must_own(&scope.catalog, scope.role, owner, "schema", name)?;
    let mut schema = schema.clone();
    match action {
        SchemaAction::Rename(to) => {
            privilege::check_database(&scope.catalog, scope.role, session.shared.database, 'C')?;
            if scope.schema_oid(to).is_some() {
                return Err(Error::new(
                    SqlState::DUPLICATE_SCHEMA,
                    format!("schema \"{to}\" already exists"),
                ));
            }
            if to.starts_with("pg_") {
                return Err(Error::new(
                    SqlState::RESERVED_NAME,
                    format!("unacceptable schema name \"{to}\""),
                )
                .detail("The prefix \"pg_\" is reserved for system schemas."));
            }
            if let Some(view) = scope.catalog.objects().find_map(|o| match o {
                Object::View(view) if view.query.contains(&format!("\"{name}\".")) => Some(view.name.clone()),
                _ => None,
            }) {
                return Err(Error::unsupported(
                    format!("renaming a schema that view {view} refers to"),
                    "Drop the view, rename the schema, and create the view again.",
                ));
            }
            schema.name = to.clone();
        }
        SchemaAction::Owner(owner) => {
            let owner = session.role_named(owner)?;
            if !privilege::is_member(&scope.catalog, scope.role, owner.oid) {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("must be member of role \"{}\"", owner.name),
                ));
            }
            schema.owner = owner.oid;
        }
        SchemaAction::Options(_) => {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "a schema has no options"));
        }
    }
    session.change_catalog(vec![Change::Put(Object::Schema(schema))]).await?;
    Ok(Outcome::Tag("ALTER SCHEMA".into()))
}

/// What an extension would add is built in, or is not there.
pub fn create_extension(session: &mut Session, name: &str, if_not_exists: bool) -> Result<Outcome> {
    match name {
        "plpgsql" | "pgcrypto" | "uuid-ossp" => {
            if !if_not_exists && name == "plpgsql" {
                return Err(Error::new(SqlState::DUPLICATE_OBJECT, "extension \"plpgsql\" already exists"));
            }
            session.notice(
                "NOTICE",
                SqlState::DUPLICATE_OBJECT,
                format!("extension \"{name}\": what StartDB has of it is built in"),
            );
            Ok(Outcome::Tag("CREATE EXTENSION".into()))
        }
        _ => {
            Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("extension \"{name}\" is not available"))
                .hint("StartDB loads no extensions; see pg_proc for the functions it has."))
        }
    }
}
