//! GRANT and REVOKE on relations, sequences, schemas and databases.

use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Acl, Change, Object};
use value::{Error, Oid, Result, SqlState};

use crate::privilege::{self, AclKind};
use crate::session::{Outcome, Session};
use crate::statement::{Grant, GrantObjects, ObjectKind};

pub async fn run(session: &mut Session, grant: &Grant) -> Result<Outcome> {
    let done = Outcome::Tag(if grant.grant { "GRANT" } else { "REVOKE" }.into());
    let mut grantees = Vec::new();
    for grantee in &grant.grantees {
        grantees.push(match grantee {
            None => 0,
            Some(name) => session.role_named(name)?.oid,
        });
    }
    if grant.grant_option && grantees.contains(&0) {
        return Err(Error::new(SqlState::INVALID_GRANTOR, "grant options can only be granted to roles"));
    }
    let scope = session.scope()?;
    let database = session.shared.database;
    let mut targets: Vec<Oid> = Vec::new();
    let schema_of = |name: &str| {
        scope.schema_oid(name).ok_or_else(|| {
            Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
        })
    };
    match &grant.objects {
        GrantObjects::Builtin => return Ok(done),
        GrantObjects::Relations(names) => {
            for name in names {
                match super::relation(&scope, name) {
                    Ok(object) => targets.push(object.oid()),
                    // Everybody reads the system catalogs; granting it again changes nothing.
                    Err(error) if error.state() == SqlState::INSUFFICIENT_PRIVILEGE && scope.superuser => {}
                    Err(error) => return Err(error),
                }
            }
        }
        GrantObjects::Sequences(names) => {
            for name in names {
                match super::relation(&scope, name)? {
                    Object::Sequence(sequence) => targets.push(sequence.oid),
                    other => {
                        return Err(Error::new(
                            SqlState::WRONG_OBJECT_TYPE,
                            format!("\"{}\" is not a sequence", other.name()),
                        ));
                    }
                }
            }
        }
        GrantObjects::Schemas(names) => {
            for name in names {
                targets.push(schema_of(name)?);
            }
        }
        GrantObjects::Databases(names) => {
            for name in names {
                let found = scope.catalog.database_named(name).ok_or_else(|| {
                    Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist"))
                })?;
                targets.push(found.oid);
            }
        }
        GrantObjects::AllInSchema { kind, schemas } => {
            for name in schemas {
                let schema = schema_of(name)?;
                targets.extend(scope.catalog.objects().filter_map(|object| {
                    match object {
                        Object::Table(_) | Object::View(_) if *kind == ObjectKind::Table => object
                            .relation_schema()
                            .filter(|s| *s == schema && object.database() == Some(database))
                            .map(|_| object.oid()),
                        Object::Sequence(s) if *kind == ObjectKind::Sequence && s.schema == schema => {
                            Some(s.oid)
                        }
                        _ => None,
                    }
                }));
            }
        }
    }
    for target in targets {
        session.lock(target, TableLockMode::ShareUpdateExclusive).await?;
        let scope = session.scope()?;
        let Some(object) = scope.catalog.get(target).cloned() else { continue };
        let changed = change(session, grant, &object, &grantees)?;
        if let Some(changed) = changed {
            session.change_catalog(vec![Change::Put(changed)]).await?;
        }
    }
    Ok(done)
}

fn change(session: &mut Session, grant: &Grant, object: &Object, grantees: &[Oid]) -> Result<Option<Object>> {
    let scope = session.scope()?;
    let Some((owner, acl, kind)) = privilege::access_of(object) else {
        return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is an index", object.name())));
    };
    let acting = privilege::acting_owner(&scope.catalog, object);
    let (_, grantable) = privilege::held(&scope.catalog, scope.role, acting, acl, kind);
    // Rights given by a superuser or a member of the owner count as the owner's.
    let as_owner = privilege::owns(&scope.catalog, scope.role, acting);
    let grantor = if as_owner { owner } else { scope.role };
    let noun = super::kind_of(object).noun();
    let mut letters = String::new();
    let mut columns: Vec<(char, Vec<String>)> = Vec::new();
    if grant.privileges.is_empty() {
        if grant.all_columns.is_empty() {
            letters.push_str(kind.all());
        } else {
            columns.extend(AclKind::Column.all().chars().map(|l| (l, grant.all_columns.clone())));
        }
    }
    for (word, on) in &grant.privileges {
        let Some(letter) = privilege::letter(word) else {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!("unrecognized privilege type \"{word}\""),
            ));
        };
        if on.is_empty() {
            if kind.letter(word).is_none() {
                return Err(Error::new(
                    SqlState::INVALID_GRANTOR,
                    format!("invalid privilege type {} for {noun}", word.to_uppercase()),
                ));
            }
            letters.push(letter);
        } else {
            if kind != AclKind::Table || AclKind::Column.letter(word).is_none() {
                return Err(Error::new(
                    SqlState::INVALID_GRANTOR,
                    format!("invalid privilege type {} for column", word.to_uppercase()),
                ));
            }
            columns.push((letter, on.clone()));
        }
    }
    if !as_owner {
        let before = letters.len() + columns.len();
        letters.retain(|l| grantable.contains(l));
        columns.retain(|(l, _)| grantable.contains(*l));
        let after = letters.len() + columns.len();
        if after == 0 && before > 0 {
            let held = privilege::held(&scope.catalog, scope.role, owner, acl, kind).0;
            if held.is_empty() {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied for {noun} {}", object.name()),
                ));
            }
            let what =
                if grant.grant { "no privileges were granted" } else { "no privileges could be revoked" };
            session.notice("WARNING", SqlState::WARNING, format!("{what} for \"{}\"", object.name()));
            return Ok(None);
        }
        if after < before {
            let what = if grant.grant {
                "not all privileges were granted"
            } else {
                "not all privileges could be revoked"
            };
            session.notice("WARNING", SqlState::WARNING, format!("{what} for \"{}\"", object.name()));
        }
    }
    let apply = |acl: &Option<Acl>, kind: AclKind, letters: &str| -> Option<Acl> {
        let mut list = privilege::written_out(acl, owner, kind);
        for grantee in grantees {
            privilege::change(
                &mut list,
                grant.grant,
                *grantee,
                grantor,
                letters,
                grant.grant_option,
                grant.option_only,
            );
        }
        if kind == AclKind::Column && list.0.is_empty() { None } else { Some(list) }
    };
    let mut changed = object.clone();
    if !letters.is_empty() {
        let new = apply(acl, kind, &letters);
        match &mut changed {
            Object::Table(o) => Arc::make_mut(o).acl = new,
            Object::View(o) => Arc::make_mut(o).acl = new,
            Object::Sequence(o) => Arc::make_mut(o).acl = new,
            Object::Schema(o) => o.acl = new,
            Object::Database(o) => o.acl = new,
            Object::Index(_) | Object::Role(_) => {}
        }
    }
    for (letter, names) in columns {
        let Object::Table(table) = &mut changed else {
            return Err(Error::unsupported("column privileges on this object", "Grant on the whole of it."));
        };
        let table = Arc::make_mut(table);
        for name in names {
            let Some((place, _)) = table.column(&name) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" of relation \"{}\" does not exist", table.name),
                ));
            };
            let column = &mut table.columns[place];
            column.acl = apply(&column.acl, AclKind::Column, &letter.to_string());
        }
    }
    Ok(Some(changed))
}
