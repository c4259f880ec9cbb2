//! CREATE, ALTER ROLE, memberships, and settings of roles and databases.

use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Change, FIRST_USER_OID, Membership, Object, Role};
use value::types::oid;
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::scope::Scope;
use crate::session::{Outcome, Session};
use crate::statement::RoleOptions;
use crate::{predefined, privilege};
use crate::{scram, setting};

/// Held by whoever changes roles.
pub const LOCK: Oid = 1260;

fn apply(session: &Session, role: &mut Role, options: &RoleOptions) -> Result<()> {
    for (flag, place) in [
        (options.superuser, &mut role.superuser),
        (options.create_db, &mut role.create_db),
        (options.create_role, &mut role.create_role),
        (options.inherit, &mut role.inherit),
        (options.login, &mut role.login),
        (options.replication, &mut role.replication),
        (options.bypass_rls, &mut role.bypass_rls),
    ] {
        if let Some(on) = flag {
            *place = on;
        }
    }
    if let Some(limit) = options.connection_limit {
        role.connection_limit = limit;
    }
    match &options.password {
        None => {}
        Some(None) => role.verifier = None,
        Some(Some(password)) if password.is_empty() => {
            session.notice(
                "NOTICE",
                SqlState::WARNING,
                "empty string is not a valid password, clearing password",
            );
            role.verifier = None;
        }
        Some(Some(password)) => role.verifier = Some(scram::verifier_of(password)?),
    }
    if let Some(until) = &options.valid_until {
        let style = session.effective().style.clone();
        role.valid_until = match value::text::input(Type::new(oid::TIMESTAMPTZ), until, &style)? {
            Datum::TimestampTz(i64::MAX) => None,
            Datum::TimestampTz(at) => Some(at),
            _ => None,
        };
    }
    Ok(())
}

fn may_change(scope: &Scope, options: &RoleOptions, was_superuser: bool) -> Result<()> {
    if scope.superuser {
        return Ok(());
    }
    if was_superuser
        || options.superuser.is_some()
        || options.replication.is_some()
        || options.bypass_rls.is_some()
    {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "must be superuser to alter superuser, replication or bypassrls roles or change these attributes",
        ));
    }
    if scope.catalog.role(scope.role).is_some_and(|r| r.create_role) {
        return Ok(());
    }
    Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied"))
}

pub async fn create(
    session: &mut Session,
    name: &str,
    login: bool,
    options: &RoleOptions,
) -> Result<Outcome> {
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let scope = session.scope()?;
    if !scope.superuser && !scope.catalog.role(scope.role).is_some_and(|r| r.create_role) {
        return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied to create role"));
    }
    if options.superuser == Some(true) && !scope.superuser {
        return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "must be superuser to create superusers"));
    }
    predefined::not_reserved(name)?;
    if scope.catalog.role_named(name).is_some() {
        return Err(Error::new(SqlState::DUPLICATE_OBJECT, format!("role \"{name}\" already exists")));
    }
    let mut role = Role {
        oid: session.database.engine.new_oid(),
        name: name.to_string(),
        superuser: false,
        inherit: true,
        create_role: false,
        create_db: false,
        login,
        replication: false,
        bypass_rls: false,
        connection_limit: -1,
        verifier: None,
        valid_until: None,
        member_of: Vec::new(),
        settings: Default::default(),
        comment: None,
    };
    apply(session, &mut role, options)?;
    for group in &options.in_roles {
        let group = session.role_named(group)?;
        role.member_of.push(Membership { role: group.oid, admin: false, grantor: scope.role });
    }
    let own = role.oid;
    let mut changes = vec![Change::Put(Object::Role(Arc::new(role)))];
    for (members, admin) in [(&options.members, false), (&options.admins, true)] {
        for member in members {
            let mut member = (*session.role_named(member)?).clone();
            member.member_of.push(Membership { role: own, admin, grantor: scope.role });
            changes.push(Change::Put(Object::Role(Arc::new(member))));
        }
    }
    session.change_catalog(changes).await?;
    Ok(Outcome::Tag("CREATE ROLE".into()))
}

pub async fn alter(
    session: &mut Session,
    name: &str,
    options: &RoleOptions,
    rename: Option<&str>,
) -> Result<Outcome> {
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let role = session.role_named(name)?;
    let scope = session.scope()?;
    let mut changed = (*role).clone();
    if let Some(to) = rename {
        predefined::not_reserved(name)?;
        predefined::not_reserved(to)?;
        may_change(&scope, options, role.superuser)?;
        if role.oid == session.shared.login_role {
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "session user cannot be renamed"));
        }
        if scope.catalog.role_named(to).is_some() {
            return Err(Error::new(SqlState::DUPLICATE_OBJECT, format!("role \"{to}\" already exists")));
        }
        changed.name = to.to_string();
    } else {
        predefined::not_fixed(name)?;
        // Everybody may change the own password.
        let only_password = options.password.is_some()
            && [options.superuser, options.create_db, options.create_role, options.inherit, options.login]
                .iter()
                .all(Option::is_none)
            && options.replication.is_none()
            && options.bypass_rls.is_none()
            && options.connection_limit.is_none()
            && options.valid_until.is_none();
        if !(only_password && role.oid == scope.role) {
            may_change(&scope, options, role.superuser)?;
        }
        if options.superuser == Some(false) && role.oid == engine::catalog::oid::BOOTSTRAP_SUPERUSER {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "the bootstrap user must have the SUPERUSER attribute",
            ));
        }
        apply(session, &mut changed, options)?;
    }
    session.change_catalog(vec![Change::Put(Object::Role(Arc::new(changed)))]).await?;
    Ok(Outcome::Tag("ALTER ROLE".into()))
}

/// ALTER ROLE or DATABASE ... SET / RESET.
pub async fn alter_setting(
    session: &mut Session,
    role: bool,
    target: &str,
    name: Option<&str>,
    values: Option<&[String]>,
) -> Result<Outcome> {
    session.lock(if role { LOCK } else { 1262 }, TableLockMode::ShareUpdateExclusive).await?;
    if let (Some(name), Some(values)) = (name, values) {
        // Checked as SET would check it.
        let mut probe = setting::Settings::new(true);
        probe.set(name, values, false)?;
    }
    let change = |settings: &mut std::collections::BTreeMap<String, String>| match (name, values) {
        (None, _) => settings.retain(|name, _| name == "startdb.installation_secret"),
        (Some(name), None) => {
            let known = setting::find(name).map_or(name, |s| s.name);
            settings.remove(known);
        }
        (Some(name), Some(values)) => {
            let known = setting::find(name).map_or(name, |s| s.name);
            let mut probe = setting::Settings::new(true);
            if probe.set(name, values, false).is_ok()
                && let Some(value) = probe.show(name)
            {
                settings.insert(known.to_string(), value);
            }
        }
    };
    if role {
        if target == "\u{1}all" {
            return Err(Error::unsupported("ALTER ROLE ALL SET", "Use ALTER DATABASE ... SET."));
        }
        let found = session.role_named(target)?;
        predefined::not_fixed(&found.name)?;
        let scope = session.scope()?;
        if found.oid != scope.role {
            may_change(&scope, &RoleOptions::default(), found.superuser)?;
        }
        let mut changed = (*found).clone();
        change(&mut changed.settings);
        session.change_catalog(vec![Change::Put(Object::Role(Arc::new(changed)))]).await?;
        return Ok(Outcome::Tag("ALTER ROLE".into()));
    }
    let scope = session.scope()?;
    let Some(found) = scope.catalog.database_named(target) else {
        return Err(Error::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{target}\" does not exist"),
        ));
    };
    privilege::must_own(&scope.catalog, scope.role, found.owner, "database", target)?;
    let mut changed = found.clone();
    change(&mut changed.settings);
    session.change_catalog(vec![Change::Put(Object::Database(changed))]).await?;
    Ok(Outcome::Tag("ALTER DATABASE".into()))
}

/// GRANT role TO role, REVOKE role FROM role.
pub async fn membership(
    session: &mut Session,
    grant: bool,
    roles: &[String],
    members: &[String],
    admin: bool,
    option_only: bool,
) -> Result<Outcome> {
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    for member_name in members {
        for role_name in roles {
            let group = session.role_named(role_name)?;
            let member = session.role_named(member_name)?;
            let scope = session.scope()?;
            if group.oid == predefined::DATABASE_OWNER {
                return Err(Error::internal(format!("role \"{}\" cannot have explicit members", group.name)));
            }
            if member.oid == predefined::DATABASE_OWNER {
                return Err(Error::internal(format!(
                    "role \"{}\" cannot be a member of any role",
                    member.name
                )));
            }
            let administers = scope.superuser
                || scope.catalog.role(scope.role).is_some_and(|r| {
                    (r.create_role && !group.superuser)
                        || r.member_of.iter().any(|m| m.role == group.oid && m.admin)
                });
            if !administers {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("must have admin option on role \"{}\"", group.name),
                ));
            }
            let mut changed = (*member).clone();
            let place = changed.member_of.iter().position(|m| m.role == group.oid);
            match (grant, place) {
                (true, Some(place)) => {
                    if changed.member_of[place].admin || !admin {
                        session.notice(
                            "NOTICE",
                            SqlState::WARNING,
                            format!(
                                "role \"{}\" is already a member of role \"{}\"",
                                member.name, group.name
                            ),
                        );
                        continue;
                    }
                    changed.member_of[place].admin = true;
                }
                (true, None) => {
                    if group.oid == member.oid
                        || privilege::roles_of(&scope.catalog, group.oid, true).contains(&member.oid)
                    {
                        return Err(Error::new(
                            SqlState::INVALID_GRANTOR,
                            format!("role \"{}\" is a member of role \"{}\"", group.name, member.name),
                        ));
                    }
                    changed.member_of.push(Membership { role: group.oid, admin, grantor: scope.role });
                }
                (false, Some(place)) if option_only => changed.member_of[place].admin = false,
                (false, Some(place)) => {
                    changed.member_of.remove(place);
                }
                (false, None) => {
                    session.notice(
                        "WARNING",
                        SqlState::WARNING,
                        format!("role \"{}\" is not a member of role \"{}\"", member.name, group.name),
                    );
                    continue;
                }
            }
            session.change_catalog(vec![Change::Put(Object::Role(Arc::new(changed)))]).await?;
        }
    }
    Ok(Outcome::Tag(if grant { "GRANT ROLE" } else { "REVOKE ROLE" }.into()))
}

/// DROP ROLE.
pub async fn drop(session: &mut Session, name: &str, if_exists: bool) -> Result<()> {
    session.lock(LOCK, TableLockMode::ShareUpdateExclusive).await?;
    let role = match session.role_named(name) {
        Ok(role) => role,
        Err(error) if if_exists => {
            session.notice("NOTICE", SqlState::UNDEFINED_OBJECT, format!("{}, skipping", error.message()));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let scope = session.scope()?;
    let creator = scope.catalog.role(scope.role).is_some_and(|r| r.create_role);
    if !(scope.superuser || creator && !role.superuser) {
        return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, "permission denied to drop role"));
    }
    if role.oid < FIRST_USER_OID {
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop role {} because it is required by the database system", role.name),
        ));
    }
    if role.oid == scope.role {
        return Err(Error::new(SqlState::OBJECT_IN_USE, "current user cannot be dropped"));
    }
    if role.oid == session.shared.login_role {
        return Err(Error::new(SqlState::OBJECT_IN_USE, "session user cannot be dropped"));
    }
    let mut reasons = Vec::new();
    for object in scope.catalog.objects() {
        let noun = super::kind_of(object).noun();
        if !matches!(object, Object::Role(_) | Object::Index(_)) && super::owner_of(object) == role.oid {
            reasons.push(format!("owner of {noun} {}", object.name()));
        } else if let Some((_, Some(acl), _)) = privilege::access_of(object)
            && acl.0.iter().any(|item| item.grantee == role.oid)
        {
            reasons.push(format!("privileges for {noun} {}", object.name()));
        }
    }
    if !reasons.is_empty() {
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("role \"{}\" cannot be dropped because some objects depend on it", role.name),
        )
        .detail(reasons.join("\n")));
    }
    let mut changes = vec![Change::Drop(role.oid)];
    for object in scope.catalog.objects() {
        if let Object::Role(other) = object
            && other.member_of.iter().any(|m| m.role == role.oid)
        {
            let mut changed = (**other).clone();
            changed.member_of.retain(|m| m.role != role.oid);
            changes.push(Change::Put(Object::Role(Arc::new(changed))));
        }
    }
    session.change_catalog(changes).await
}
