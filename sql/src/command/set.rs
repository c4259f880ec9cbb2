//! SET, RESET, SHOW, SET ROLE, SET TRANSACTION, SET CONSTRAINTS, DISCARD.

use std::sync::Arc;

use engine::Isolation;
use engine::catalog::Object;
use value::{Datum, Error, Oid, Result, SqlState};

use crate::privilege;
use crate::session::{Outcome, Session};
use crate::setting;
use crate::shared::Roles;
use crate::statement::{Modes, Name};

fn done(tag: &str) -> Result<Outcome> {
    Ok(Outcome::Tag(tag.into()))
}

/// The modes that a transaction_* setting stands for.
pub fn transaction_modes(name: &str, value: &str) -> Result<Modes> {
    let invalid = || {
        Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{value}\""),
        )
    };
    let mut modes = Modes::default();
    match name {
        "transaction_isolation" => {
            modes.uncommitted = value.eq_ignore_ascii_case("read uncommitted");
            modes.isolation = Some(match value.to_ascii_lowercase().as_str() {
                "serializable" => Isolation::Serializable,
                "repeatable read" => Isolation::RepeatableRead,
                "read committed" | "read uncommitted" => Isolation::ReadCommitted,
                _ => return Err(invalid()),
            });
        }
        "transaction_read_only" => modes.read_only = Some(setting::parse_bool(value).ok_or_else(invalid)?),
        _ => modes.deferrable = Some(setting::parse_bool(value).ok_or_else(invalid)?),
    }
    Ok(modes)
}

/// A level's name. `uncommitted`: it was called READ UNCOMMITTED.
pub fn level(isolation: Isolation, uncommitted: bool) -> &'static str {
    match isolation {
        Isolation::ReadCommitted if uncommitted => "read uncommitted",
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    }
}

pub fn set(session: &mut Session, name: &str, local: bool, values: Option<&[String]>) -> Result<Outcome> {
    let known = setting::find(name).map_or("", |s| s.name);
    if matches!(known, "transaction_isolation" | "transaction_read_only" | "transaction_deferrable") {
        let value = values.and_then(|v| v.first()).map_or("", String::as_str);
        let modes = if values.is_none() { Modes::default() } else { transaction_modes(known, value)? };
        session.transaction()?;
        session.set_transaction(modes)?;
        return done("SET");
    }
    if local && !session.in_transaction() {
        session.notice(
            "WARNING",
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "SET LOCAL can only be used in transaction blocks",
        );
    }
    // So that a rollback finds what to go back to.
    session.transaction()?;
    let mut settings = session.shared.settings.lock();
    match values {
        Some(values) => settings.set(name, values, local)?,
        None => settings.reset(name, local)?,
    }
    done("SET")
}

pub fn reset(session: &mut Session, name: Option<&str>) -> Result<Outcome> {
    match name {
        Some("role") => {
            session.set_role(None, false)?;
            return done("RESET");
        }
        Some("session_authorization") => {
            session_authorization(session, None, false)?;
            return done("RESET");
        }
        _ => {}
    }
    session.transaction()?;
    let mut settings = session.shared.settings.lock();
    match name {
        None => settings.reset_all(),
        Some(name) => settings.reset(name, false)?,
    }
    done("RESET")
}

/// A setting's value for SHOW; those of the transaction are asked of it.
pub fn shown(session: &Session, name: &str) -> Result<String> {
    let effective = session.effective();
    let block = session.block.as_ref();
    let on = |on: bool| if on { "on" } else { "off" }.to_string();
    Ok(match setting::find(name).map_or("", |s| s.name) {
        "transaction_isolation" => match block {
            Some(block) => level(block.isolation, block.uncommitted),
            None => level(effective.isolation, effective.uncommitted),
        }
        .to_string(),
        "transaction_read_only" => on(block.map_or(effective.read_only, |b| b.read_only)),
        "transaction_deferrable" => on(block.is_some_and(|b| b.deferrable)),
        "server_version" => setting::SERVER_VERSION.to_string(),
        _ => session.shared.settings.lock().show_or_fail(name)?,
    })
}

pub fn show(session: &mut Session, name: Option<&str>) -> Result<Outcome> {
    let rows = match name {
        Some(name) => vec![vec![Datum::text(shown(session, name)?)]],
        None => setting::all()
            .iter()
            .filter(|s| !matches!(s.name, "role" | "session_authorization" | "is_superuser"))
            .map(|s| {
                let value = shown(session, s.name)?;
                Ok(vec![Datum::text(s.name), Datum::text(value), Datum::text(description(s.name))])
            })
            .collect::<Result<_>>()?,
    };
    Ok(Outcome::Rows { rows, tag: "SHOW".into() })
}

/// What a setting does here.
pub fn description(name: &str) -> &'static str {
    setting::EFFECTS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("Accepted and remembered for compatibility; StartDB does not act on it.", |(_, text)| text)
}

pub fn set_transaction(session: &mut Session, modes: Modes, characteristics: bool) -> Result<Outcome> {
    if characteristics {
        session.transaction()?;
        let mut settings = session.shared.settings.lock();
        if let Some(isolation) = modes.isolation {
            settings.set_text("default_transaction_isolation", level(isolation, modes.uncommitted), false)?;
        }
        if let Some(read_only) = modes.read_only {
            settings.set_text(
                "default_transaction_read_only",
                if read_only { "on" } else { "off" },
                false,
            )?;
        }
        if let Some(deferrable) = modes.deferrable {
            settings.set_text(
                "default_transaction_deferrable",
                if deferrable { "on" } else { "off" },
                false,
            )?;
        }
        return done("SET");
    }
    if !session.in_transaction() {
        session.notice(
            "WARNING",
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "SET TRANSACTION can only be used in transaction blocks",
        );
    }
    session.transaction()?;
    session.set_transaction(modes)?;
    done("SET")
}

pub async fn set_constraints(
    session: &mut Session,
    names: Option<&[Name]>,
    deferred: bool,
) -> Result<Outcome> {
    let scope = session.scope()?;
    let mut oids = Vec::new();
    for name in names.unwrap_or_default() {
        let before = oids.len();
        for object in scope.catalog.objects() {
            let Object::Table(table) = object else { continue };
            let schema = match &name.schema {
                Some(schema) => scope.schema_oid(schema) == Some(table.schema),
                None => scope.path.contains(&table.schema),
            };
            for constraint in table.constraints.iter().filter(|c| schema && c.name == name.name) {
                if !constraint.deferrable {
                    return Err(Error::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("constraint \"{}\" is not deferrable", constraint.name),
                    ));
                }
                oids.push(constraint.oid);
            }
        }
        if oids.len() == before {
            return Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("constraint \"{}\" does not exist", name.name),
            ));
        }
    }
    if !session.in_transaction() {
        session.notice(
            "WARNING",
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "SET CONSTRAINTS can only be used in transaction blocks",
        );
    }
    let block = session.transaction()?;
    let modes = Arc::make_mut(&mut block.constraints);
    if names.is_none() {
        modes.all = Some(deferred);
        modes.by_oid.clear();
    } else {
        for oid in &oids {
            modes.by_oid.insert(*oid, deferred);
        }
    }
    if !deferred {
        let due = session.due_checks(|check| names.is_none() || oids.contains(&check.constraint()));
        if !due.is_empty() {
            session.run_checks(due).await?;
        }
    }
    done("SET CONSTRAINTS")
}

impl Session {
    /// SET ROLE; `None` goes back to the session's own.
    pub(crate) fn set_role(&mut self, role: Option<&str>, local: bool) -> Result<()> {
        let now = *self.shared.roles.lock();
        let (current, name) = match role {
            None => (now.session, "none".to_string()),
            Some(name) => {
                let found = self.role_named(name)?;
                let scope = self.scope()?;
                if !privilege::is_member(&scope.catalog, now.session, found.oid) {
                    return Err(Error::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied to set role \"{}\"", found.name),
                    ));
                }
                (found.oid, found.name.clone())
            }
        };
        self.transaction()?;
        self.shared.settings.lock().set_unchecked("role", name, local);
        self.set_roles(Roles { current, ..now });
        Ok(())
    }
}

pub fn session_authorization(session: &mut Session, role: Option<&str>, local: bool) -> Result<Outcome> {
    let login = session.shared.login_role;
    let target = match role {
        None => {
            let scope = session.scope()?;
            scope.catalog.role(login).cloned().ok_or_else(|| Error::internal("the role is gone"))?
        }
        Some("default") => {
            let scope = session.scope()?;
            scope.catalog.role(login).cloned().ok_or_else(|| Error::internal("the role is gone"))?
        }
        Some(name) => session.role_named(name)?,
    };
    let scope = session.scope()?;
    if target.oid != login && !privilege::is_superuser(&scope.catalog, login) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "permission denied to set session authorization",
        ));
    }
    session.transaction()?;
    {
        let mut settings = session.shared.settings.lock();
        settings.set_unchecked("session_authorization", target.name.clone(), local);
        settings.set_unchecked("role", "none".into(), local);
    }
    session.set_roles(Roles { session: target.oid, current: target.oid });
    done("SET")
}

pub async fn discard(session: &mut Session, what: &str) -> Result<Outcome> {
    match what {
        "all" => {
            session.must_stand_alone("DISCARD ALL")?;
            session.discard_all();
            drop_temporary(session).await?;
            done("DISCARD ALL")
        }
        "plans" => {
            for prepared in session.statements.values() {
                *prepared.resolved.lock() = None;
            }
            done("DISCARD PLANS")
        }
        "sequences" => {
            *session.shared.sequences.lock() = Default::default();
            done("DISCARD SEQUENCES")
        }
        _ => {
            drop_temporary(session).await?;
            done("DISCARD TEMP")
        }
    }
}

/// Drops all temporary relations of the session, without a word about it.
async fn drop_temporary(session: &mut Session) -> Result<()> {
    let Some(temporary) = session.temporary else { return Ok(()) };
    let scope = session.scope()?;
    let relations = scope.catalog.objects().filter(|object| object.relation_schema() == Some(temporary));
    let oids: Vec<Oid> = relations.map(Object::oid).collect();
    if oids.is_empty() {
        return Ok(());
    }
    let said = session.shared.notices.lock().len();
    super::drop::remove(session, &oids, true).await?;
    session.shared.notices.lock().truncate(said);
    Ok(())
}
