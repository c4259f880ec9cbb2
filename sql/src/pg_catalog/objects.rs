//! Relations about tables and what belongs to them.

use engine::catalog::{
    ConstraintKind, IndexKind, Object, Persistence, ReferentialAction, Table, oid as fixed,
};
use value::types::{self, oid};
use value::{Datum, Oid};

use super::{Filled, acl, all, int2s, letter, maybe_text, role_name, text, texts, vector};
use crate::command::create_table::sequences_of;
use crate::describe;
use crate::scope::Scope;

pub fn rows(scope: &Scope, name: &str) -> Option<Filled> {
    Some(match name {
        "pg_namespace" => namespaces(scope),
        "pg_class" => classes(scope),
        "pg_attribute" => attributes(scope),
        "pg_index" => indexes(scope),
        "pg_constraint" => constraints(scope),
        "pg_attrdef" => defaults(scope),
        "pg_sequence" => sequences(scope),
        "pg_sequences" => sequences_view(scope),
        "pg_description" => descriptions(scope),
        "pg_depend" => depends(scope),
        "pg_tables" => tables(scope),
        "pg_views" => views(scope),
        "pg_indexes" => indexes_view(scope),
        "pg_rewrite" => rewrites(scope),
        "pg_extension" => extensions(),
        "pg_init_privs" => first_lists(scope),
        _ => return None,
    })
}

/// Objects of the session's database that it may see.
pub fn visible(scope: &Scope) -> impl Iterator<Item = &Object> {
    let database = scope.shared.database;
    scope.catalog.objects().filter(move |o| o.database() == Some(database))
}

fn namespaces(scope: &Scope) -> Filled {
    let system = [
        (fixed::PG_CATALOG, "pg_catalog"),
        (fixed::PG_TOAST, "pg_toast"),
        (fixed::INFORMATION_SCHEMA, "information_schema"),
        (fixed::STARTDB_SCHEMA, "startdb"),
    ];
    let owner = fixed::BOOTSTRAP_SUPERUSER;
    let mut rows: Vec<Vec<Datum>> = system
        .iter()
        .map(|(oid, name)| {
            let list = if *name == "pg_toast" { Datum::Null } else { system_list(scope) };
            vec![Datum::Oid(*oid), text(name), Datum::Oid(owner), list]
        })
        .collect();
    rows.extend(visible(scope).filter_map(|o| match o {
        Object::Schema(s) => {
            Some(vec![Datum::Oid(s.oid), text(&s.name), Datum::Oid(s.owner), acl(scope, &s.acl)])
        }
        _ => None,
    }));
    if let Some(temporary) = scope.temporary {
        rows.push(vec![
            Datum::Oid(temporary),
            text(&scope.schema_name(temporary)),
            Datum::Oid(owner),
            Datum::Null,
        ]);
    }
    Filled { columns: &["oid", "nspname", "nspowner", "nspacl"], rows }
}

/// The list a system schema starts with, and has.
fn system_list(scope: &Scope) -> Datum {
    let owner = role_name(scope, fixed::BOOTSTRAP_SUPERUSER);
    super::array(oid::ACLITEM, vec![text(&format!("{owner}=UC/{owner}")), text(&format!("=U/{owner}"))])
}

/// What is ours beside PostgreSQL's catalogs, the schema `startdb`, belongs to an extension: pg_dump leaves its members out, for they
/// are there in every database.
const EXTENSION: Oid = 13002;

fn extensions() -> Filled {
    Filled {
        columns: &["oid", "extname", "extowner", "extnamespace", "extrelocatable", "extversion"],
        rows: vec![vec![
            Datum::Oid(EXTENSION),
            text("startdb"),
            Datum::Oid(fixed::BOOTSTRAP_SUPERUSER),
            Datum::Oid(fixed::STARTDB_SCHEMA),
            Datum::Bool(false),
            text(env!("CARGO_PKG_VERSION")),
        ]],
    }
}

/// Access lists that are as they were made; a dump leaves them out.
fn first_lists(scope: &Scope) -> Filled {
    Filled {
        columns: &["objoid", "classoid", "objsubid", "privtype", "initprivs"],
        rows: [fixed::PG_CATALOG, fixed::INFORMATION_SCHEMA, fixed::STARTDB_SCHEMA]
            .iter()
            .map(|schema| {
                vec![
                    Datum::Oid(*schema),
                    Datum::Oid(NAMESPACE),
                    Datum::Int4(0),
                    letter(if *schema == fixed::STARTDB_SCHEMA { 'e' } else { 'i' }),
                    system_list(scope),
                ]
            })
            .collect(),
    }
}

fn schema_of(name: &str) -> Oid {
    if name == "information_schema" { fixed::INFORMATION_SCHEMA } else { fixed::PG_CATALOG }
}

fn classes(scope: &Scope) -> Filled {
    let columns: &[&str] = &[
        "oid",
        "relname",
        "relnamespace",
        "reltype",
        "relowner",
        "relam",
        "relfilenode",
        "relpages",
        "reltuples",
        "relhasindex",
        "relpersistence",
        "relkind",
        "relnatts",
        "relchecks",
        "relhasrules",
        "relhastriggers",
        "relispopulated",
        "relreplident",
        "relacl",
        "reloptions",
    ];
    let engine = &scope.database.engine;
    let row = |oid: Oid,
               name: &str,
               schema: Oid,
               owner: Oid,
               am: Oid,
               kind: char,
               persistence: char,
               attributes: usize,
               rows: f32,
               extra: (bool, usize, bool, bool, Datum, Datum)| {
        let (has_index, checks, rules, triggers, list, options) = extra;
        vec![
            Datum::Oid(oid),
            text(name),
            Datum::Oid(schema),
            Datum::Oid(0),
            Datum::Oid(owner),
            Datum::Oid(am),
            Datum::Oid(if kind == 'v' { 0 } else { oid }),
            Datum::Int4(if rows > 0.0 { (rows / 100.0).ceil() as i32 } else { 0 }),
            Datum::Float4(rows),
            Datum::Bool(has_index),
            letter(persistence),
            letter(kind),
            Datum::Int2(attributes as i16),
            Datum::Int2(checks as i16),
            Datum::Bool(rules),
            Datum::Bool(triggers),
            Datum::Bool(true),
            letter(if schema == fixed::PG_CATALOG || kind != 'r' { 'n' } else { 'd' }),
            list,
            options,
        ]
    };
    let none = || (false, 0, false, false, Datum::Null, Datum::Null);
    let mut rows: Vec<Vec<Datum>> = all()
        .iter()
        .map(|r| {
            let am = if r.kind == 'r' { 2 } else { 0 };
            row(
                r.oid,
                r.name,
                schema_of(r.schema),
                fixed::BOOTSTRAP_SUPERUSER,
                am,
                r.kind,
                'p',
                r.columns.len(),
                -1.0,
                none(),
            )
        })
        .collect();
    for registered in scope.database.registered.read().iter() {
        rows.push(row(
            registered.oid,
            registered.name,
            fixed::STARTDB_SCHEMA,
            fixed::BOOTSTRAP_SUPERUSER,
            0,
            'v',
            'p',
            registered.columns.len(),
            -1.0,
            none(),
        ));
    }
    for object in visible(scope) {
        match object {
            Object::Table(t) => {
                let statistics = engine.statistics(t);
                let tuples = if statistics.analyzed_rows.is_some() || statistics.rows > 0 {
                    statistics.rows as f32
                } else {
                    -1.0
                };
                let checks =
                    t.constraints.iter().filter(|c| matches!(c.kind, ConstraintKind::Check { .. })).count();
                let foreign = t.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Foreign(_)))
                    || scope.catalog.referencing(t.oid).next().is_some();
                let options = if t.options.is_empty() {
                    Datum::Null
                } else {
                    texts(t.options.iter().map(|(k, v)| format!("{k}={v}")))
                };
                let persistence = if t.persistence == Persistence::Temporary { 't' } else { 'p' };
                let has_index = scope.catalog.indexes(t.oid).next().is_some();
                rows.push(row(
                    t.oid,
                    &t.name,
                    t.schema,
                    t.owner,
                    2,
                    'r',
                    persistence,
                    t.columns.iter().filter(|c| !c.hidden).count(),
                    tuples,
                    (has_index, checks, false, foreign, acl(scope, &t.acl), options),
                ));
            }
            Object::Index(i) => {
                let am = if i.kind == IndexKind::Hash { 405 } else { 403 };
                let persistence = if scope.temporary == Some(i.schema) { 't' } else { 'p' };
                let tuples = scope.catalog.table(i.table).map_or(0.0, |t| engine.statistics(t).rows as f32);
                rows.push(row(
                    i.oid,
                    &i.name,
                    i.schema,
                    i.owner,
                    am,
                    'i',
                    persistence,
                    i.keys.len() + i.include.len(),
                    tuples,
                    none(),
                ));
            }
            Object::View(v) => {
                rows.push(row(
                    v.oid,
                    &v.name,
                    v.schema,
                    v.owner,
                    0,
                    'v',
                    if v.persistence_temporary { 't' } else { 'p' },
                    v.columns.len(),
                    0.0,
                    (false, 0, true, false, acl(scope, &v.acl), Datum::Null),
                ));
            }
            Object::Sequence(s) => {
                let persistence = if scope.temporary == Some(s.schema) { 't' } else { 'p' };
                rows.push(row(
                    s.oid,
                    &s.name,
                    s.schema,
                    s.owner,
                    0,
                    'S',
                    persistence,
                    3,
                    1.0,
                    (false, 0, false, false, acl(scope, &s.acl), Datum::Null),
                ));
            }
            _ => {}
        }
    }
    Filled { columns, rows }
}

struct Attribute<'a> {
    relation: Oid,
    name: &'a str,
    ty: Oid,
    typmod: i32,
    number: i16,
    not_null: bool,
    has_default: bool,
    identity: &'a str,
    generated: &'a str,
    dropped: bool,
    acl: Datum,
}

fn attribute(a: Attribute<'_>) -> Vec<Datum> {
    let info = types::info(a.ty);
    let collation = info.map_or(0, |i| super::types::collation_of(i.oid));
    vec![
        Datum::Oid(a.relation),
        text(a.name),
        Datum::Oid(if a.dropped { 0 } else { a.ty }),
        Datum::Int4(-1),
        Datum::Int2(info.map_or(-1, |i| i.len)),
        Datum::Int2(a.number),
        Datum::Int4(i32::from(info.is_some_and(|i| i.element != 0))),
        Datum::Int4(-1),
        Datum::Int4(a.typmod),
        Datum::Bool(info.is_some_and(|i| i.by_value)),
        letter(info.map_or('i', |i| i.align)),
        letter(super::types::storage_of(a.ty)),
        text(""),
        Datum::Bool(a.not_null),
        Datum::Bool(a.has_default),
        text(a.identity),
        text(a.generated),
        Datum::Bool(a.dropped),
        Datum::Bool(true),
        Datum::Oid(collation),
        a.acl,
    ]
}

fn attributes(scope: &Scope) -> Filled {
    let columns: &[&str] = &[
        "attrelid",
        "attname",
        "atttypid",
        "attstattarget",
        "attlen",
        "attnum",
        "attndims",
        "attcacheoff",
        "atttypmod",
        "attbyval",
        "attalign",
        "attstorage",
        "attcompression",
        "attnotnull",
        "atthasdef",
        "attidentity",
        "attgenerated",
        "attisdropped",
        "attislocal",
        "attcollation",
        "attacl",
    ];
    let plain = |relation: Oid, number: usize, name: &str, ty: Oid, typmod: i32, not_null: bool| {
        attribute(Attribute {
            relation,
            name,
            ty,
            typmod,
            number: number as i16 + 1,
            not_null,
            has_default: false,
            identity: "",
            generated: "",
            dropped: false,
            acl: Datum::Null,
        })
    };
    let mut rows = Vec::new();
    for relation in all() {
        for (n, column) in relation.columns.iter().enumerate() {
            rows.push(plain(relation.oid, n, column.name, column.ty, -1, column.not_null));
        }
    }
    for relation in scope.database.registered.read().iter() {
        for (n, column) in relation.columns.iter().enumerate() {
            rows.push(plain(relation.oid, n, &column.name, column.ty.oid, column.ty.typmod, false));
        }
    }
    for object in visible(scope) {
        match object {
            Object::Table(t) => {
                for (name, ty, number) in [("tableoid", oid::OID, -6i16), ("ctid", oid::TID, -1)] {
                    let mut row = plain(t.oid, 0, name, ty, -1, true);
                    row[5] = Datum::Int2(number);
                    rows.push(row);
                }
                for c in t.columns.iter().filter(|c| !c.hidden) {
                    rows.push(attribute(Attribute {
                        relation: t.oid,
                        name: &c.name,
                        ty: c.type_oid,
                        typmod: c.typmod,
                        number: c.number,
                        not_null: c.not_null,
                        has_default: c.default.is_some() && c.identity.is_none(),
                        identity: match c.identity {
                            Some(engine::catalog::Identity::Always) => "a",
                            Some(engine::catalog::Identity::ByDefault) => "d",
                            None => "",
                        },
                        generated: if c.generated { "s" } else { "" },
                        dropped: c.dropped,
                        acl: acl(scope, &c.acl),
                    }));
                }
            }
            Object::View(v) => {
                for (n, c) in v.columns.iter().enumerate() {
                    rows.push(plain(v.oid, n, &c.name, c.type_oid, c.typmod, false));
                }
            }
            Object::Index(i) => {
                let Some(table) = scope.catalog.table(i.table) else { continue };
                for (n, number) in
                    i.keys.iter().map(|k| k.column).chain(i.include.iter().copied()).enumerate()
                {
                    let Some(column) = table.columns.get(number as usize - 1) else { continue };
                    let expression = i.keys.get(n).and_then(|k| k.expression.as_deref());
                    let name = expression.map_or_else(|| column.name.clone(), crate::describe::key_name);
                    rows.push(plain(i.oid, n, &name, column.type_oid, column.typmod, false));
                }
            }
            Object::Sequence(s) => {
                for (n, (name, ty)) in
                    [("last_value", oid::INT8), ("log_cnt", oid::INT8), ("is_called", oid::BOOL)]
                        .iter()
                        .enumerate()
                {
                    rows.push(plain(s.oid, n, name, *ty, -1, true));
                }
            }
            _ => {}
        }
    }
    Filled { columns, rows }
}

fn indexes(scope: &Scope) -> Filled {
    let columns: &[&str] = &[
        "indexrelid",
        "indrelid",
        "indnatts",
        "indnkeyatts",
        "indisunique",
        "indnullsnotdistinct",
        "indisprimary",
        "indimmediate",
        "indisvalid",
        "indisready",
        "indislive",
        "indkey",
        "indcollation",
        "indclass",
        "indoption",
        "indexprs",
        "indpred",
    ];
    let rows = visible(scope)
        .filter_map(|o| match o {
            Object::Index(i) => Some(i),
            _ => None,
        })
        .filter_map(|i| {
            let table = scope.catalog.table(i.table)?;
            let method = if i.kind == IndexKind::Hash { "hash" } else { "btree" };
            let ty = |n: i16| table.columns.get(n as usize - 1).map_or(0, |c| c.type_oid);
            let mut keys: Vec<Datum> =
                i.keys.iter().map(|k| Datum::Int2(if k.expression.is_some() { 0 } else { k.column })).collect();
            keys.extend(i.include.iter().map(|n| Datum::Int2(*n)));
            let options = i
                .keys
                .iter()
                .map(|k| Datum::Int2(i16::from(k.descending) + 2 * i16::from(k.nulls_first)))
                .collect();
            let classes = i.keys.iter().map(|k| Datum::Oid(super::types::opclass_of(method, ty(k.column)))).collect();
            let collations =
                i.keys.iter().map(|k| Datum::Oid(super::types::collation_of(ty(k.column)))).collect();
            let expressions: Vec<&str> = i.keys.iter().filter_map(|k| k.expression.as_deref()).collect();
            let deferred = table.constraints.iter().any(|c| {
                c.deferrable
                    && matches!(c.kind, ConstraintKind::Primary { index } | ConstraintKind::Unique { index } if index == i.oid)
            });
            let maintained = i.state != engine::catalog::IndexState::Computing;
            Some(vec![
                Datum::Oid(i.oid),
                Datum::Oid(i.table),
                Datum::Int2((i.keys.len() + i.include.len()) as i16),
                Datum::Int2(i.keys.len() as i16),
                Datum::Bool(i.unique),
                Datum::Bool(!i.nulls_distinct),
                Datum::Bool(i.primary),
                Datum::Bool(!deferred),
                Datum::Bool(i.state.is_full()),
                Datum::Bool(maintained),
                Datum::Bool(true),
                vector(oid::INT2, keys),
                vector(oid::OID, collations),
                vector(oid::OID, classes),
                vector(oid::INT2, options),
                if expressions.is_empty() { Datum::Null } else { text(&expressions.join(", ")) },
                maybe_text(i.predicate.as_ref().map(|(_, t)| t.as_str())),
            ])
        })
        .collect();
    Filled { columns, rows }
}

fn action(action: ReferentialAction) -> Datum {
    letter(match action {
        ReferentialAction::NoAction => 'a',
        ReferentialAction::Restrict => 'r',
        ReferentialAction::Cascade => 'c',
        ReferentialAction::SetNull => 'n',
        ReferentialAction::SetDefault => 'd',
    })
}

/// Every table of the database.
pub fn each_table(scope: &Scope) -> impl Iterator<Item = &std::sync::Arc<Table>> {
    visible(scope).filter_map(|o| match o {
        Object::Table(t) => Some(t),
        _ => None,
    })
}

fn constraints(scope: &Scope) -> Filled {
    let columns: &[&str] = &[
        "oid",
        "conname",
        "connamespace",
        "contype",
        "condeferrable",
        "condeferred",
        "convalidated",
        "conrelid",
        "conindid",
        "confrelid",
        "confupdtype",
        "confdeltype",
        "confmatchtype",
        "conislocal",
        "connoinherit",
        "conkey",
        "confkey",
        "conbin",
    ];
    let mut rows = Vec::new();
    for t in each_table(scope) {
        for c in &t.constraints {
            let blank = || text(" ");
            let (kind, index, target, update, delete, matching, keys, theirs, expression) = match &c.kind {
                ConstraintKind::Check { expression } => {
                    let used: Vec<i16> = crate::command::create_table::columns_named(t, expression)
                        .iter()
                        .filter_map(|n| t.column(n).map(|(_, c)| c.number))
                        .collect();
                    ('c', 0, 0, blank(), blank(), blank(), int2s(&used), Datum::Null, text(expression))
                }
                ConstraintKind::Primary { index } | ConstraintKind::Unique { index } => {
                    let keys: Vec<i16> = scope
                        .catalog
                        .index(*index)
                        .map(|i| i.keys.iter().map(|k| k.column).collect())
                        .unwrap_or_default();
                    let kind = if matches!(c.kind, ConstraintKind::Primary { .. }) { 'p' } else { 'u' };
                    (kind, *index, 0, blank(), blank(), blank(), int2s(&keys), Datum::Null, Datum::Null)
                }
                ConstraintKind::Foreign(key) => (
                    'f',
                    key.referenced_index,
                    key.referenced_table,
                    action(key.on_update),
                    action(key.on_delete),
                    letter(if key.match_full { 'f' } else { 's' }),
                    int2s(&key.columns),
                    int2s(&key.referenced_columns),
                    Datum::Null,
                ),
            };
            rows.push(vec![
                Datum::Oid(c.oid),
                text(&c.name),
                Datum::Oid(t.schema),
                letter(kind),
                Datum::Bool(c.deferrable),
                Datum::Bool(c.initially_deferred),
                Datum::Bool(c.validated),
                Datum::Oid(t.oid),
                Datum::Oid(index),
                Datum::Oid(target),
                update,
                delete,
                matching,
                Datum::Bool(true),
                Datum::Bool(kind != 'c'),
                keys,
                theirs,
                expression,
            ]);
        }
    }
    Filled { columns, rows }
}

/// pg_attrdef has oids of its own; ours are made of the table's and the column's numbers.
fn default_oid(table: Oid, column: i16) -> Oid {
    0x8000_0000 | ((table << 8) ^ column as u32)
}

fn defaults(scope: &Scope) -> Filled {
    let mut rows = Vec::new();
    for t in each_table(scope) {
        for c in t.columns.iter().filter(|c| !c.dropped && !c.hidden && c.identity.is_none()) {
            if let Some(default) = &c.default {
                rows.push(vec![
                    Datum::Oid(default_oid(t.oid, c.number)),
                    Datum::Oid(t.oid),
                    Datum::Int2(c.number),
                    text(default),
                ]);
            }
        }
    }
    Filled { columns: &["oid", "adrelid", "adnum", "adbin"], rows }
}

fn each_sequence(scope: &Scope) -> impl Iterator<Item = &std::sync::Arc<engine::catalog::Sequence>> {
    visible(scope).filter_map(|o| match o {
        Object::Sequence(s) => Some(s),
        _ => None,
    })
}

fn sequences(scope: &Scope) -> Filled {
    let rows = each_sequence(scope)
        .map(|s| {
            vec![
                Datum::Oid(s.oid),
                Datum::Oid(s.type_oid),
                Datum::Int8(s.start),
                Datum::Int8(s.increment),
                Datum::Int8(s.maximum),
                Datum::Int8(s.minimum),
                Datum::Int8(s.cache),
                Datum::Bool(s.cycle),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "seqrelid",
            "seqtypid",
            "seqstart",
            "seqincrement",
            "seqmax",
            "seqmin",
            "seqcache",
            "seqcycle",
        ],
        rows,
    }
}

fn sequences_view(scope: &Scope) -> Filled {
    let rows = each_sequence(scope)
        .map(|s| {
            let (value, called) = crate::system::sequence_state(scope, s);
            vec![
                text(&scope.schema_name(s.schema)),
                text(&s.name),
                text(&role_name(scope, s.owner)),
                Datum::Oid(s.type_oid),
                Datum::Int8(s.start),
                Datum::Int8(s.minimum),
                Datum::Int8(s.maximum),
                Datum::Int8(s.increment),
                Datum::Bool(s.cycle),
                Datum::Int8(s.cache),
                if called { Datum::Int8(value) } else { Datum::Null },
            ]
        })
        .collect();
    Filled {
        columns: &[
            "schemaname",
            "sequencename",
            "sequenceowner",
            "data_type",
            "start_value",
            "min_value",
            "max_value",
            "increment_by",
            "cycle",
            "cache_size",
            "last_value",
        ],
        rows,
    }
}

const CLASS: Oid = 1259;
const CONSTRAINT: Oid = 2606;
const NAMESPACE: Oid = 2615;
const ATTRDEF: Oid = 2604;
const REWRITE: Oid = 2618;
const EXTENSION_CLASS: Oid = 3079;

fn descriptions(scope: &Scope) -> Filled {
    let mut rows = Vec::new();
    let mut add = |object: Oid, class: Oid, part: i16, comment: &Option<String>| {
        if let Some(comment) = comment {
            rows.push(vec![
                Datum::Oid(object),
                Datum::Oid(class),
                Datum::Int4(i32::from(part)),
                text(comment),
            ]);
        }
    };
    for object in visible(scope) {
        match object {
            Object::Table(t) => {
                add(t.oid, CLASS, 0, &t.comment);
                for c in t.columns.iter().filter(|c| !c.dropped) {
                    add(t.oid, CLASS, c.number, &c.comment);
                }
                for c in &t.constraints {
                    add(c.oid, CONSTRAINT, 0, &c.comment);
                }
            }
            Object::Index(i) => add(i.oid, CLASS, 0, &i.comment),
            Object::View(v) => add(v.oid, CLASS, 0, &v.comment),
            Object::Sequence(s) => add(s.oid, CLASS, 0, &s.comment),
            Object::Schema(s) => add(s.oid, NAMESPACE, 0, &s.comment),
            _ => {}
        }
    }
    add(EXTENSION, EXTENSION_CLASS, 0, &Some(String::from("what StartDB tells of itself")));
    Filled { columns: &["objoid", "classoid", "objsubid", "description"], rows }
}

fn depends(scope: &Scope) -> Filled {
    let mut rows = Vec::new();
    let mut add = |class: Oid, object: Oid, part: i16, on_class: Oid, on: Oid, on_part: i16, kind: char| {
        rows.push(vec![
            Datum::Oid(class),
            Datum::Oid(object),
            Datum::Int4(i32::from(part)),
            Datum::Oid(on_class),
            Datum::Oid(on),
            Datum::Int4(i32::from(on_part)),
            letter(kind),
        ]);
    };
    add(NAMESPACE, fixed::STARTDB_SCHEMA, 0, EXTENSION_CLASS, EXTENSION, 0, 'e');
    for relation in scope.database.registered.read().iter() {
        add(CLASS, relation.oid, 0, EXTENSION_CLASS, EXTENSION, 0, 'e');
    }
    for object in visible(scope) {
        if let Some(schema) = object.relation_schema() {
            add(CLASS, object.oid(), 0, NAMESPACE, schema, 0, 'n');
        }
        match object {
            Object::Table(t) => {
                for c in t.columns.iter().filter(|c| !c.dropped && !c.hidden) {
                    let Some(default) = &c.default else { continue };
                    if c.identity.is_some() {
                        continue;
                    }
                    let own = default_oid(t.oid, c.number);
                    add(ATTRDEF, own, 0, CLASS, t.oid, c.number, 'a');
                    for sequence in sequences_of(default) {
                        add(ATTRDEF, own, 0, CLASS, sequence, 0, 'n');
                    }
                }
                for c in &t.constraints {
                    match &c.kind {
                        ConstraintKind::Primary { index } | ConstraintKind::Unique { index } => {
                            add(CLASS, *index, 0, CONSTRAINT, c.oid, 0, 'i');
                            if let Some(index) = scope.catalog.index(*index) {
                                for key in &index.keys {
                                    add(CONSTRAINT, c.oid, 0, CLASS, t.oid, key.column, 'a');
                                }
                            }
                        }
                        ConstraintKind::Foreign(key) => {
                            for column in &key.columns {
                                add(CONSTRAINT, c.oid, 0, CLASS, t.oid, *column, 'a');
                            }
                            for column in &key.referenced_columns {
                                add(CONSTRAINT, c.oid, 0, CLASS, key.referenced_table, *column, 'n');
                            }
                            add(CONSTRAINT, c.oid, 0, CLASS, key.referenced_index, 0, 'n');
                        }
                        ConstraintKind::Check { .. } => add(CONSTRAINT, c.oid, 0, CLASS, t.oid, 0, 'a'),
                    }
                }
            }
            Object::Index(i) => {
                for key in &i.keys {
                    add(
                        CLASS,
                        i.oid,
                        0,
                        CLASS,
                        i.table,
                        if key.expression.is_some() { 0 } else { key.column },
                        'a',
                    );
                }
            }
            Object::Sequence(s) => {
                if let Some((table, column)) = s.owned_by {
                    let identity = scope
                        .catalog
                        .table(table)
                        .and_then(|t| t.columns.get(column as usize - 1))
                        .is_some_and(|c| c.identity.is_some());
                    add(CLASS, s.oid, 0, CLASS, table, column, if identity { 'i' } else { 'a' });
                }
            }
            Object::View(v) => {
                let rule = v.oid | 0x4000_0000;
                add(REWRITE, rule, 0, CLASS, v.oid, 0, 'i');
                for on in &v.depends_on {
                    add(REWRITE, rule, 0, CLASS, *on, 0, 'n');
                }
            }
            _ => {}
        }
    }
    Filled {
        columns: &["classid", "objid", "objsubid", "refclassid", "refobjid", "refobjsubid", "deptype"],
        rows,
    }
}

fn rewrites(scope: &Scope) -> Filled {
    let rows = visible(scope)
        .filter_map(|o| match o {
            Object::View(v) => Some(vec![
                Datum::Oid(v.oid | 0x4000_0000),
                text("_RETURN"),
                Datum::Oid(v.oid),
                letter('1'),
                letter('O'),
                Datum::Bool(true),
                text(""),
                text(&v.query),
            ]),
            _ => None,
        })
        .collect();
    Filled {
        columns: &[
            "oid",
            "rulename",
            "ev_class",
            "ev_type",
            "ev_enabled",
            "is_instead",
            "ev_qual",
            "ev_action",
        ],
        rows,
    }
}

fn tables(scope: &Scope) -> Filled {
    let mut rows: Vec<Vec<Datum>> = all()
        .iter()
        .filter(|r| r.kind == 'r')
        .map(|r| {
            vec![
                text(r.schema),
                text(r.name),
                text(&role_name(scope, fixed::BOOTSTRAP_SUPERUSER)),
                Datum::Bool(true),
                Datum::Bool(false),
                Datum::Bool(false),
                Datum::Bool(false),
            ]
        })
        .collect();
    rows.extend(each_table(scope).map(|t| {
        vec![
            text(&scope.schema_name(t.schema)),
            text(&t.name),
            text(&role_name(scope, t.owner)),
            Datum::Bool(scope.catalog.indexes(t.oid).next().is_some()),
            Datum::Bool(false),
            Datum::Bool(
                t.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Foreign(_)))
                    || scope.catalog.referencing(t.oid).next().is_some(),
            ),
            Datum::Bool(false),
        ]
    }));
    Filled {
        columns: &[
            "schemaname",
            "tablename",
            "tableowner",
            "hasindexes",
            "hasrules",
            "hastriggers",
            "rowsecurity",
        ],
        rows,
    }
}

fn views(scope: &Scope) -> Filled {
    let rows = visible(scope)
        .filter_map(|o| match o {
            Object::View(v) => Some(vec![
                text(&scope.schema_name(v.schema)),
                text(&v.name),
                text(&role_name(scope, v.owner)),
                text(&format!(" {};", v.query)),
            ]),
            _ => None,
        })
        .collect();
    Filled { columns: &["schemaname", "viewname", "viewowner", "definition"], rows }
}

fn indexes_view(scope: &Scope) -> Filled {
    let rows = visible(scope)
        .filter_map(|o| match o {
            Object::Index(i) => Some(vec![
                text(&scope.schema_name(i.schema)),
                maybe_text(scope.catalog.table(i.table).map(|t| t.name.as_str())),
                text(&i.name),
                text(&describe::index(scope, i, false)),
            ]),
            _ => None,
        })
        .collect();
    Filled { columns: &["schemaname", "tablename", "indexname", "indexdef"], rows }
}
