//! information_schema: what the SQL standard shows of tables, columns and constraints.

use engine::catalog::{ConstraintKind, Identity, Object, ReferentialAction, Table};
use value::types::{self, oid};
use value::{Datum, Oid};

use super::objects::{each_table, visible};
use super::{Filled, maybe_text, role_name, text};
use crate::describe;
use crate::privilege::{self, AclKind};
use crate::scope::Scope;

fn yes(on: bool) -> Datum {
    text(if on { "YES" } else { "NO" })
}

pub fn rows(scope: &Scope, name: &str) -> Option<Filled> {
    let database = scope.shared.database_name.as_str();
    Some(match name {
        "information_schema_catalog_name" => {
            Filled { columns: &["catalog_name"], rows: vec![vec![text(database)]] }
        }
        "schemata" => {
            let mut rows: Vec<Vec<Datum>> = ["pg_catalog", "information_schema", "startdb"]
                .iter()
                .map(|n| vec![text(database), text(n), text(&role_name(scope, 10))])
                .collect();
            rows.extend(visible(scope).filter_map(|o| match o {
                Object::Schema(s) => {
                    Some(vec![text(database), text(&s.name), text(&role_name(scope, s.owner))])
                }
                _ => None,
            }));
            Filled { columns: &["catalog_name", "schema_name", "schema_owner"], rows }
        }
        "tables" => tables(scope, database),
        "columns" => columns(scope, database),
        "views" => Filled {
            columns: &[
                "table_catalog",
                "table_schema",
                "table_name",
                "view_definition",
                "check_option",
                "is_updatable",
                "is_insertable_into",
                "is_trigger_updatable",
                "is_trigger_deletable",
                "is_trigger_insertable_into",
            ],
            rows: visible(scope)
                .filter_map(|o| match o {
                    Object::View(v) => Some(vec![
                        text(database),
                        text(&scope.schema_name(v.schema)),
                        text(&v.name),
                        text(&format!(" {};", v.query)),
                        text("NONE"),
                        yes(false),
                        yes(false),
                        yes(false),
                        yes(false),
                        yes(false),
                    ]),
                    _ => None,
                })
                .collect(),
        },
        "sequences" => Filled {
            columns: &[
                "sequence_catalog",
                "sequence_schema",
                "sequence_name",
                "data_type",
                "numeric_precision",
                "numeric_precision_radix",
                "numeric_scale",
                "start_value",
                "minimum_value",
                "maximum_value",
                "increment",
                "cycle_option",
            ],
            rows: visible(scope)
                .filter_map(|o| match o {
                    Object::Sequence(s) => Some(vec![
                        text(database),
                        text(&scope.schema_name(s.schema)),
                        text(&s.name),
                        text(&types::format_type(s.type_oid, -1)),
                        Datum::Int4(match s.type_oid {
                            oid::INT2 => 16,
                            oid::INT4 => 32,
                            _ => 64,
                        }),
                        Datum::Int4(2),
                        Datum::Int4(0),
                        text(&s.start.to_string()),
                        text(&s.minimum.to_string()),
                        text(&s.maximum.to_string()),
                        text(&s.increment.to_string()),
                        yes(s.cycle),
                    ]),
                    _ => None,
                })
                .collect(),
        },
        "table_constraints" => table_constraints(scope, database),
        "key_column_usage" => key_columns(scope, database),
        "referential_constraints" => referential(scope, database),
        "constraint_column_usage" => constraint_columns(scope, database),
        "check_constraints" => Filled {
            columns: &["constraint_catalog", "constraint_schema", "constraint_name", "check_clause"],
            rows: each_table(scope)
                .flat_map(|t| {
                    t.constraints.iter().filter_map(|c| match &c.kind {
                        ConstraintKind::Check { expression } => Some(vec![
                            text(database),
                            text(&scope.schema_name(t.schema)),
                            text(&c.name),
                            text(&format!("(({expression}))")),
                        ]),
                        _ => None,
                    })
                })
                .collect(),
        },
        "table_privileges" | "role_table_grants" => table_privileges(scope, database),
        "enabled_roles" | "applicable_roles" => Filled {
            columns: if name == "enabled_roles" { &["role_name"] } else { &["grantee"] },
            rows: privilege::roles_of(&scope.catalog, scope.role, true)
                .into_iter()
                .map(|r| vec![text(&role_name(scope, r))])
                .collect(),
        },
        "character_sets" => Filled {
            columns: &[
                "character_set_name",
                "character_repertoire",
                "form_of_use",
                "default_collate_catalog",
            ],
            rows: vec![vec![text("UTF8"), text("UCS"), text("UTF8"), text(database)]],
        },
        _ => return None,
    })
}

/// Whether the role owns or holds any right on a relation, as information_schema asks.
fn shown(scope: &Scope, owner: Oid, acl: &Option<engine::catalog::Acl>) -> bool {
    privilege::owns(&scope.catalog, scope.role, owner)
        || !privilege::held(&scope.catalog, scope.role, owner, acl, AclKind::Table).0.is_empty()
}

fn tables(scope: &Scope, database: &str) -> Filled {
    let row = |schema: &str, name: &str, kind: &str, insertable: bool| {
        vec![text(database), text(schema), text(name), text(kind), yes(insertable), yes(false)]
    };
    let mut rows: Vec<Vec<Datum>> = super::all()
        .iter()
        .map(|r| row(r.schema, r.name, if r.kind == 'r' { "BASE TABLE" } else { "VIEW" }, false))
        .collect();
    for registered in scope.database.registered.read().iter() {
        rows.push(row("startdb", registered.name, "VIEW", false));
    }
    for object in visible(scope) {
        match object {
            Object::Table(t) if shown(scope, t.owner, &t.acl) => {
                let temporary = scope.temporary == Some(t.schema);
                let kind = if temporary { "LOCAL TEMPORARY" } else { "BASE TABLE" };
                rows.push(row(&scope.schema_name(t.schema), &t.name, kind, true));
            }
            Object::View(v) if shown(scope, v.owner, &v.acl) => {
                rows.push(row(&scope.schema_name(v.schema), &v.name, "VIEW", false));
            }
            _ => {}
        }
    }
    Filled {
        columns: &[
            "table_catalog",
            "table_schema",
            "table_name",
            "table_type",
            "is_insertable_into",
            "is_typed",
        ],
        rows,
    }
}

fn columns(scope: &Scope, database: &str) -> Filled {
    let names: &[&str] = &[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "column_default",
        "is_nullable",
        "data_type",
        "character_maximum_length",
        "character_octet_length",
        "numeric_precision",
        "numeric_precision_radix",
        "numeric_scale",
        "datetime_precision",
        "udt_catalog",
        "udt_schema",
        "udt_name",
        "dtd_identifier",
        "is_self_referencing",
        "is_identity",
        "identity_generation",
        "identity_start",
        "identity_increment",
        "identity_maximum",
        "identity_minimum",
        "identity_cycle",
        "is_generated",
        "generation_expression",
        "is_updatable",
    ];
    let mut rows = Vec::new();
    let mut add = |schema: &str,
                   table: &str,
                   name: &str,
                   number: i32,
                   ty: Oid,
                   typmod: i32,
                   not_null: bool,
                   extra: Extra| {
        let info = types::info(ty);
        let array = info.is_some_and(|i| i.element != 0);
        let data_type = if array {
            "ARRAY".to_string()
        } else {
            info.map_or("USER-DEFINED".into(), |i| {
                if ty == oid::BPCHAR { "character".into() } else { i.sql_name.to_string() }
            })
        };
        let length =
            matches!(ty, oid::VARCHAR | oid::BPCHAR).then(|| types::length_of_typmod(typmod)).flatten();
        let octets = match ty {
            oid::TEXT | oid::VARCHAR | oid::BPCHAR => {
                Datum::Int4(length.map_or(1 << 30, |l| l.saturating_mul(4)))
            }
            _ => Datum::Null,
        };
        let (precision, radix, scale) = match ty {
            oid::INT2 => (Some(16), Some(2), Some(0)),
            oid::INT4 => (Some(32), Some(2), Some(0)),
            oid::INT8 => (Some(64), Some(2), Some(0)),
            oid::FLOAT4 => (Some(24), Some(2), None),
            oid::FLOAT8 => (Some(53), Some(2), None),
            oid::NUMERIC => match types::numeric_precision_scale(typmod) {
                Some((p, s)) => (Some(p), Some(10), Some(s)),
                None => (None, Some(10), None),
            },
            _ => (None, None, None),
        };
        let number_or_null = |n: Option<i32>| n.map_or(Datum::Null, Datum::Int4);
        let time = match ty {
            oid::DATE => Datum::Int4(0),
            oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => {
                Datum::Int4(if typmod >= 0 { typmod } else { 6 })
            }
            oid::INTERVAL => Datum::Int4(types::interval_precision(typmod).unwrap_or(6)),
            _ => Datum::Null,
        };
        let [start, increment, maximum, minimum, cycle] = extra.sequence;
        rows.push(vec![
            text(database),
            text(schema),
            text(table),
            text(name),
            Datum::Int4(number),
            maybe_text(extra.default.as_deref()),
            yes(!not_null),
            text(&data_type),
            number_or_null(length),
            octets,
            number_or_null(precision),
            number_or_null(radix),
            number_or_null(scale),
            time,
            text(database),
            text("pg_catalog"),
            maybe_text(info.map(|i| i.name)),
            text(&number.to_string()),
            yes(false),
            yes(extra.identity.is_some()),
            match extra.identity {
                Some(Identity::Always) => text("ALWAYS"),
                Some(Identity::ByDefault) => text("BY DEFAULT"),
                None => Datum::Null,
            },
            start,
            increment,
            maximum,
            minimum,
            cycle,
            text(if extra.generated.is_some() { "ALWAYS" } else { "NEVER" }),
            maybe_text(extra.generated.as_deref()),
            yes(extra.updatable),
        ]);
    };
    for relation in super::all() {
        for (n, c) in relation.columns.iter().enumerate() {
            add(relation.schema, relation.name, c.name, n as i32 + 1, c.ty, -1, c.not_null, Extra::default());
        }
    }
    for object in visible(scope) {
        match object {
            Object::Table(t) if shown(scope, t.owner, &t.acl) => {
                for (_, c) in t.visible_columns() {
                    let mut extra = Extra { updatable: true, identity: c.identity, ..Extra::default() };
                    if let Some(text) = &c.default {
                        let shown = describe::expression(scope, text);
                        if c.generated {
                            extra.generated = Some(shown);
                        } else if c.identity.is_none() {
                            extra.default = Some(shown);
                        }
                    }
                    if c.identity.is_some() {
                        for o in visible(scope) {
                            if let Object::Sequence(s) = o
                                && s.owned_by == Some((t.oid, c.number))
                            {
                                extra.sequence = [
                                    text(&s.start.to_string()),
                                    text(&s.increment.to_string()),
                                    text(&s.maximum.to_string()),
                                    text(&s.minimum.to_string()),
                                    yes(s.cycle),
                                ];
                            }
                        }
                    } else {
                        extra.sequence[4] = yes(false);
                    }
                    add(
                        &scope.schema_name(t.schema),
                        &t.name,
                        &c.name,
                        i32::from(c.number),
                        c.type_oid,
                        c.typmod,
                        c.not_null,
                        extra,
                    );
                }
            }
            Object::View(v) if shown(scope, v.owner, &v.acl) => {
                for (n, c) in v.columns.iter().enumerate() {
                    add(
                        &scope.schema_name(v.schema),
                        &v.name,
                        &c.name,
                        n as i32 + 1,
                        c.type_oid,
                        c.typmod,
                        false,
                        Extra::default(),
                    );
                }
            }
            _ => {}
        }
    }
    Filled { columns: names, rows }
}

#[derive(Default)]
struct Extra {
    default: Option<String>,
    identity: Option<Identity>,
    generated: Option<String>,
    updatable: bool,
    sequence: [Datum; 5],
}

fn table_constraints(scope: &Scope, database: &str) -> Filled {
    let mut rows = Vec::new();
    for t in each_table(scope) {
        let schema = scope.schema_name(t.schema);
        let mut add = |name: &str, kind: &str, deferrable: bool, deferred: bool, distinct: Datum| {
            rows.push(vec![
                text(database),
                text(&schema),
                text(name),
                text(database),
                text(&schema),
                text(&t.name),
                text(kind),
                yes(deferrable),
                yes(deferred),
                yes(true),
                distinct,
            ]);
        };
        for c in &t.constraints {
            let (kind, distinct) = match &c.kind {
                ConstraintKind::Check { .. } => ("CHECK", Datum::Null),
                ConstraintKind::Primary { .. } => ("PRIMARY KEY", Datum::Null),
                ConstraintKind::Unique { index } => {
                    ("UNIQUE", yes(scope.catalog.index(*index).is_none_or(|i| i.nulls_distinct)))
                }
                ConstraintKind::Foreign(_) => ("FOREIGN KEY", Datum::Null),
            };
            add(&c.name, kind, c.deferrable, c.initially_deferred, distinct);
        }
        for (_, c) in t.visible_columns().filter(|(_, c)| c.not_null) {
            add(&format!("{}_{}_{}_not_null", t.schema, t.oid, c.number), "CHECK", false, false, Datum::Null);
        }
    }
    Filled {
        columns: &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
            "nulls_distinct",
        ],
        rows,
    }
}

fn keys(scope: &Scope, kind: &ConstraintKind) -> Vec<i16> {
    match kind {
        ConstraintKind::Primary { index } | ConstraintKind::Unique { index } => {
            scope.catalog.index(*index).map(|i| i.keys.iter().map(|k| k.column).collect()).unwrap_or_default()
        }
        ConstraintKind::Foreign(key) => key.columns.clone(),
        ConstraintKind::Check { .. } => Vec::new(),
    }
}

fn column_name(table: &Table, number: i16) -> Datum {
    maybe_text(table.columns.get(number as usize - 1).map(|c| c.name.as_str()))
}

fn key_columns(scope: &Scope, database: &str) -> Filled {
    let mut rows = Vec::new();
    for t in each_table(scope) {
        let schema = scope.schema_name(t.schema);
        for c in &t.constraints {
            for (n, number) in keys(scope, &c.kind).into_iter().enumerate() {
                let foreign = matches!(c.kind, ConstraintKind::Foreign(_));
                rows.push(vec![
                    text(database),
                    text(&schema),
                    text(&c.name),
                    text(database),
                    text(&schema),
                    text(&t.name),
                    column_name(t, number),
                    Datum::Int4(n as i32 + 1),
                    if foreign { Datum::Int4(n as i32 + 1) } else { Datum::Null },
                ]);
            }
        }
    }
    Filled {
        columns: &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "position_in_unique_constraint",
        ],
        rows,
    }
}

fn referential(scope: &Scope, database: &str) -> Filled {
    let rule = |action: ReferentialAction| {
        text(match action {
            ReferentialAction::NoAction => "NO ACTION",
            ReferentialAction::Restrict => "RESTRICT",
            ReferentialAction::Cascade => "CASCADE",
            ReferentialAction::SetNull => "SET NULL",
            ReferentialAction::SetDefault => "SET DEFAULT",
        })
    };
    let mut rows = Vec::new();
    for t in each_table(scope) {
        for c in &t.constraints {
            let ConstraintKind::Foreign(key) = &c.kind else { continue };
            let index = scope.catalog.index(key.referenced_index);
            rows.push(vec![
                text(database),
                text(&scope.schema_name(t.schema)),
                text(&c.name),
                text(database),
                index.map_or(Datum::Null, |i| text(&scope.schema_name(i.schema))),
                maybe_text(index.map(|i| i.name.as_str())),
                text(if key.match_full { "FULL" } else { "NONE" }),
                rule(key.on_update),
                rule(key.on_delete),
            ]);
        }
    }
    Filled {
        columns: &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ],
        rows,
    }
}

fn constraint_columns(scope: &Scope, database: &str) -> Filled {
    let mut rows = Vec::new();
    for t in each_table(scope) {
        for c in &t.constraints {
            let (table, numbers) = match &c.kind {
                ConstraintKind::Foreign(key) => match scope.catalog.table(key.referenced_table) {
                    Some(other) => (other, key.referenced_columns.clone()),
                    None => continue,
                },
                ConstraintKind::Check { expression } => {
                    let used = crate::command::create_table::columns_named(t, expression);
                    (t, used.iter().filter_map(|n| t.column(n).map(|(_, c)| c.number)).collect())
                }
                kind => (t, keys(scope, kind)),
            };
            for number in numbers {
                rows.push(vec![
                    text(database),
                    text(&scope.schema_name(table.schema)),
                    text(&table.name),
                    column_name(table, number),
                    text(database),
                    text(&scope.schema_name(t.schema)),
                    text(&c.name),
                ]);
            }
        }
    }
    Filled {
        columns: &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ],
        rows,
    }
}

fn table_privileges(scope: &Scope, database: &str) -> Filled {
    let mut rows = Vec::new();
    for object in visible(scope) {
        let (Object::Table(_) | Object::View(_)) = object else { continue };
        let Some((owner, acl, kind)) = privilege::access_of(object) else { continue };
        for item in privilege::written_out(acl, owner, kind).0 {
            for letter in item.privileges.chars() {
                rows.push(vec![
                    text(&role_name(scope, item.grantor)),
                    text(&if item.grantee == 0 {
                        "PUBLIC".to_string()
                    } else {
                        role_name(scope, item.grantee)
                    }),
                    text(database),
                    text(&scope.schema_name(object.relation_schema().unwrap_or(0))),
                    text(object.name()),
                    text(privilege::word(letter)),
                    yes(item.grantable.contains(letter) || item.grantee == owner),
                    yes(letter == 'r'),
                ]);
            }
        }
    }
    Filled {
        columns: &[
            "grantor",
            "grantee",
            "table_catalog",
            "table_schema",
            "table_name",
            "privilege_type",
            "is_grantable",
            "with_hierarchy",
        ],
        rows,
    }
}
