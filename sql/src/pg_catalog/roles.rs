//! Relations about roles and databases.

use engine::catalog::{Object, Role};
use value::types::oid;
use value::{Datum, Error, Result, SqlState};

use super::{Filled, acl, array, letter, maybe_text, text, texts};
use crate::database::public_settings;
use crate::scope::Scope;
use crate::{predefined, privilege};

fn each_role(scope: &Scope) -> impl Iterator<Item = &Role> {
    scope.catalog.objects().filter_map(|o| match o {
        Object::Role(r) => Some(&**r),
        _ => None,
    })
}

fn until(role: &Role) -> Datum {
    role.valid_until.map_or(Datum::Null, Datum::TimestampTz)
}

pub fn rows(scope: &Scope, name: &str) -> Result<Option<Filled>> {
    let secret = |what: &str| {
        if privilege::acts_as(&scope.catalog, scope.role, predefined::READ_ALL_DATA) {
            Ok(())
        } else {
            Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {what}")))
        }
    };
    Ok(Some(match name {
        "pg_authid" => {
            secret("table pg_authid")?;
            Filled {
                columns: &[
                    "oid",
                    "rolname",
                    "rolsuper",
                    "rolinherit",
                    "rolcreaterole",
                    "rolcreatedb",
                    "rolcanlogin",
                    "rolreplication",
                    "rolbypassrls",
                    "rolconnlimit",
                    "rolpassword",
                    "rolvaliduntil",
                ],
                rows: each_role(scope)
                    .map(|r| {
                        vec![
                            Datum::Oid(r.oid),
                            text(&r.name),
                            Datum::Bool(r.superuser),
                            Datum::Bool(r.inherit),
                            Datum::Bool(r.create_role),
                            Datum::Bool(r.create_db),
                            Datum::Bool(r.login),
                            Datum::Bool(r.replication),
                            Datum::Bool(r.bypass_rls),
                            Datum::Int4(r.connection_limit),
                            maybe_text(r.verifier.as_deref()),
                            until(r),
                        ]
                    })
                    .collect(),
            }
        }
        "pg_roles" => Filled {
            columns: &[
                "rolname",
                "rolsuper",
                "rolinherit",
                "rolcreaterole",
                "rolcreatedb",
                "rolcanlogin",
                "rolreplication",
                "rolconnlimit",
                "rolpassword",
                "rolvaliduntil",
                "rolbypassrls",
                "rolconfig",
                "oid",
            ],
            rows: each_role(scope)
                .map(|r| {
                    let config = if r.settings.is_empty() {
                        Datum::Null
                    } else {
                        texts(r.settings.iter().map(|(k, v)| format!("{k}={v}")))
                    };
                    vec![
                        text(&r.name),
                        Datum::Bool(r.superuser),
                        Datum::Bool(r.inherit),
                        Datum::Bool(r.create_role),
                        Datum::Bool(r.create_db),
                        Datum::Bool(r.login),
                        Datum::Bool(r.replication),
                        Datum::Int4(r.connection_limit),
                        text("********"),
                        until(r),
                        Datum::Bool(r.bypass_rls),
                        config,
                        Datum::Oid(r.oid),
                    ]
                })
                .collect(),
        },
        "pg_user" | "pg_shadow" => {
            let shadow = name == "pg_shadow";
            if shadow {
                secret("view pg_shadow")?;
            }
            Filled {
                columns: &[
                    "usename",
                    "usesysid",
                    "usecreatedb",
                    "usesuper",
                    "userepl",
                    "usebypassrls",
                    "passwd",
                    "valuntil",
                ],
                rows: each_role(scope)
                    .filter(|r| r.login)
                    .map(|r| {
                        vec![
                            text(&r.name),
                            Datum::Oid(r.oid),
                            Datum::Bool(r.create_db),
                            Datum::Bool(r.superuser),
                            Datum::Bool(r.replication),
                            Datum::Bool(r.bypass_rls),
                            if shadow { maybe_text(r.verifier.as_deref()) } else { text("********") },
                            until(r),
                        ]
                    })
                    .collect(),
            }
        }
        "pg_group" => Filled {
            columns: &["groname", "grosysid", "grolist"],
            rows: each_role(scope)
                .filter(|r| !r.login)
                .map(|r| {
                    let members = each_role(scope)
                        .filter(|m| m.member_of.iter().any(|g| g.role == r.oid))
                        .map(|m| Datum::Oid(m.oid))
                        .collect();
                    vec![text(&r.name), Datum::Oid(r.oid), array(oid::OID, members)]
                })
                .collect(),
        },
        "pg_auth_members" => Filled {
            columns: &["roleid", "member", "grantor", "admin_option"],
            rows: each_role(scope)
                .flat_map(|r| {
                    r.member_of.iter().map(|m| {
                        vec![
                            Datum::Oid(m.role),
                            Datum::Oid(r.oid),
                            Datum::Oid(m.grantor),
                            Datum::Bool(m.admin),
                        ]
                    })
                })
                .collect(),
        },
        "pg_database" => Filled {
            columns: &[
                "oid",
                "datname",
                "datdba",
                "encoding",
                "datlocprovider",
                "datistemplate",
                "datallowconn",
                "datconnlimit",
                "dattablespace",
                "datcollate",
                "datctype",
                "datacl",
            ],
            rows: scope
                .catalog
                .objects()
                .filter_map(|o| match o {
                    Object::Database(d) => Some(vec![
                        Datum::Oid(d.oid),
                        text(&d.name),
                        Datum::Oid(d.owner),
                        Datum::Int4(6),
                        letter('c'),
                        Datum::Bool(d.is_template),
                        Datum::Bool(d.allow_connections),
                        Datum::Int4(-1),
                        Datum::Oid(1663),
                        text("C"),
                        text("C"),
                        acl(scope, &d.acl),
                    ]),
                    _ => None,
                })
                .collect(),
        },
        "pg_tablespace" => Filled {
            columns: &["oid", "spcname", "spcowner"],
            rows: [(1663, "pg_default"), (1664, "pg_global")]
                .iter()
                .map(|(oid, name)| vec![Datum::Oid(*oid), text(name), Datum::Oid(10)])
                .collect(),
        },
        "pg_db_role_setting" => {
            let mut rows = Vec::new();
            for object in scope.catalog.objects() {
                let (database, role, settings) = match object {
                    Object::Database(d) => (d.oid, 0, &d.settings),
                    Object::Role(r) => (0, r.oid, &r.settings),
                    _ => continue,
                };
                let list: Vec<String> = public_settings(settings).map(|(k, v)| format!("{k}={v}")).collect();
                if !list.is_empty() {
                    rows.push(vec![Datum::Oid(database), Datum::Oid(role), texts(list)]);
                }
            }
            Filled { columns: &["setdatabase", "setrole", "setconfig"], rows }
        }
        "pg_shdescription" => {
            let mut rows = Vec::new();
            for object in scope.catalog.objects() {
                let (class, comment) = match object {
                    Object::Database(d) => (1262, &d.comment),
                    Object::Role(r) => (1260, &r.comment),
                    _ => continue,
                };
                if let Some(comment) = comment {
                    rows.push(vec![Datum::Oid(object.oid()), Datum::Oid(class), text(comment)]);
                }
            }
            Filled { columns: &["objoid", "classoid", "description"], rows }
        }
        _ => return Ok(None),
    }))
}
