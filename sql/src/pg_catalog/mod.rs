//! Relations that are computed: pg_catalog, information_schema and startdb.
//!
//! `relations.txt` lists every relation of PostgreSQL 15 with its oid and columns, so that whatever a tool selects or
//! joins exists; those StartDB has nothing to say for are empty. A relation with rows has a function in one of the files
//! here; it names the columns it fills, and the rest is NULL (or the type's zero where PostgreSQL says NOT NULL).

mod activity;
mod information;
mod objects;
mod roles;
mod types;

pub use types::{function_name, function_oid, signature};

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use engine::catalog::Acl;
use resolve::SystemRelation;
use resolve::tree::OutputColumn;
use value::array::Dimension;
use value::types::{self as value_types, oid};
use value::{Array, Datum, Error, Oid, Result, SqlState, Type};

use crate::scope::Scope;
use crate::{predefined, privilege};

/// One line of `relations.txt`.
pub struct Relation {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: Oid,
    /// 'r' or 'v'.
    pub kind: char,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub name: &'static str,
    pub ty: Oid,
    pub not_null: bool,
}

/// Rows with the names of the columns that are filled.
pub struct Filled {
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<Datum>>,
}

static RELATIONS: LazyLock<Vec<Relation>> =
    LazyLock::new(|| include_str!("relations.txt").lines().filter_map(parse).collect());

fn parse(line: &'static str) -> Option<Relation> {
    let mut words = line.split(' ');
    let (schema, name) = words.next()?.split_once('.')?;
    let oid = words.next()?.parse().ok()?;
    let kind = words.next()?.chars().next()?;
    let columns = words
        .filter_map(|word| {
            let (name, ty) = word.split_once(':')?;
            let not_null = ty.ends_with('!');
            let ty = ty.trim_end_matches('!');
            // anyarray columns hold text here: their element type differs per row.
            let ty = value_types::by_name(ty).filter(|t| t.oid != oid::ANYARRAY).map_or(oid::TEXT, |t| t.oid);
            Some(Column { name, ty, not_null })
        })
        .collect();
    Some(Relation { schema, name, oid, kind, columns })
}

pub fn all() -> &'static [Relation] {
    &RELATIONS
}

static FAST: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
    RELATIONS.iter().enumerate().map(|(n, r)| (format!("{}.{}", r.schema, r.name), n)).collect()
});

pub fn find(schema: &str, name: &str) -> Option<&'static Relation> {
    RELATIONS.get(*FAST.get(&format!("{schema}.{name}"))?)
}

pub fn by_oid(oid: Oid) -> Option<&'static Relation> {
    static BY_OID: LazyLock<HashMap<Oid, usize>> =
        LazyLock::new(|| RELATIONS.iter().enumerate().map(|(n, r)| (r.oid, n)).collect());
    RELATIONS.get(*BY_OID.get(&oid)?)
}

/// A relation as the resolver wants it, the registered ones of startdb included.
pub fn relation(scope: &Scope, schema: &str, name: &str) -> Option<SystemRelation> {
    if schema == "startdb" {
        return scope.database.registered.read().iter().find(|r| r.name == name).map(|r| SystemRelation {
            schema: "startdb",
            name: r.name,
            oid: r.oid,
            columns: r.columns.clone(),
        });
    }
    let found = find(schema, name)?;
    Some(SystemRelation {
        schema: found.schema,
        name: found.name,
        oid: found.oid,
        columns: found
            .columns
            .iter()
            .map(|c| OutputColumn { name: c.name.to_string(), ty: Type::new(c.ty) })
            .collect(),
    })
}

/// The rows of a relation, restricted to `columns`.
pub fn rows(scope: &Scope, schema: &str, name: &str, columns: &[usize]) -> Result<Vec<Vec<Datum>>> {
    if schema == "startdb" {
        let source = scope.database.registered.read().iter().find(|r| r.name == name).map(|r| r.rows.clone());
        let Some(source) = source else { return Err(Error::internal(format!("no relation startdb.{name}"))) };
        // They show what everybody runs, as pg_stat_statements does.
        if !privilege::acts_as(&scope.catalog, scope.role, predefined::READ_ALL_STATS) {
            let denied = format!("permission denied for view {name}");
            return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, denied)
                .hint("It is for superusers and members of pg_read_all_stats."));
        }
        let mut all = source()?;
        for row in &mut all {
            let picked = columns.iter().map(|c| row.get(*c).cloned().unwrap_or(Datum::Null)).collect();
            *row = picked;
        }
        return Ok(all);
    }
    let Some(relation) = find(schema, name) else {
        return Err(Error::internal(format!("no relation {schema}.{name}")));
    };
    let filled =
        if schema == "information_schema" { information::rows(scope, name) } else { catalog(scope, name)? };
    let Some(filled) = filled else { return Ok(Vec::new()) };
    enum Source {
        From(usize),
        Constant(Datum),
    }
    let sources: Vec<Source> = columns
        .iter()
        .map(|c| {
            let Some(column) = relation.columns.get(*c) else { return Source::Constant(Datum::Null) };
            match filled.columns.iter().position(|n| *n == column.name) {
                Some(place) => Source::From(place),
                None if column.not_null => Source::Constant(zero(column.ty)),
                None => Source::Constant(Datum::Null),
            }
        })
        .collect();
    Ok(filled
        .rows
        .into_iter()
        .map(|row| {
            sources
                .iter()
                .map(|source| match source {
                    Source::From(place) => row.get(*place).cloned().unwrap_or(Datum::Null),
                    Source::Constant(value) => value.clone(),
                })
                .collect()
        })
        .collect())
}

fn catalog(scope: &Scope, name: &str) -> Result<Option<Filled>> {
    if let Some(filled) = objects::rows(scope, name) {
        return Ok(Some(filled));
    }
    if let Some(filled) = types::rows(scope, name) {
        return Ok(Some(filled));
    }
    if let Some(filled) = roles::rows(scope, name)? {
        return Ok(Some(filled));
    }
    Ok(activity::rows(scope, name))
}

fn zero(ty: Oid) -> Datum {
    match ty {
        oid::BOOL => Datum::Bool(false),
        oid::INT2 => Datum::Int2(0),
        oid::INT4 => Datum::Int4(0),
        oid::INT8 => Datum::Int8(0),
        oid::FLOAT4 => Datum::Float4(0.0),
        oid::FLOAT8 => Datum::Float8(0.0),
        oid::TEXT | oid::NAME | oid::CHAR | oid::VARCHAR | oid::PG_NODE_TREE => text(""),
        oid::INT2VECTOR => vector(oid::INT2, Vec::new()),
        oid::OIDVECTOR => vector(oid::OID, Vec::new()),
        _ if value_types::repr(ty) == value_types::Repr::Oid => Datum::Oid(0),
        _ => Datum::Null,
    }
}

pub(crate) fn text(text: &str) -> Datum {
    Datum::text(text)
}

pub(crate) fn maybe_text(value: Option<&str>) -> Datum {
    value.map_or(Datum::Null, Datum::text)
}

pub(crate) fn letter(letter: char) -> Datum {
    Datum::text(letter.to_string())
}

/// An int2vector or oidvector: subscripts from 0.
pub(crate) fn vector(element: Oid, values: Vec<Datum>) -> Datum {
    let dims =
        if values.is_empty() { Vec::new() } else { vec![Dimension { len: values.len() as i32, lower: 0 }] };
    Datum::Array(Arc::new(Array { element, dims, values }))
}

pub(crate) fn array(element: Oid, values: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(Array::from_values(element, values)))
}

pub(crate) fn texts<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Datum {
    array(oid::TEXT, values.into_iter().map(|v| Datum::text(v.as_ref())).collect())
}

pub(crate) fn int2s(values: &[i16]) -> Datum {
    array(oid::INT2, values.iter().map(|v| Datum::Int2(*v)).collect())
}

/// An access list as an aclitem[], NULL for the default.
pub(crate) fn acl(scope: &Scope, acl: &Option<Acl>) -> Datum {
    match acl {
        None => Datum::Null,
        Some(acl) => array(
            oid::ACLITEM,
            acl.0.iter().map(|item| Datum::text(privilege::item_text(&scope.catalog, item))).collect(),
        ),
    }
}

/// The name of a role, "unknown (OID=n)" when it is gone.
pub(crate) fn role_name(scope: &Scope, role: Oid) -> String {
    scope.catalog.role(role).map_or_else(|| format!("unknown (OID={role})"), |r| r.name.clone())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_line_is_a_relation() {
        assert_eq!(super::all().len(), include_str!("relations.txt").lines().count());
        let class = super::find("pg_catalog", "pg_class").unwrap();
        assert_eq!((class.oid, class.columns.len(), class.columns[0].name), (1259, 33, "oid"));
    }
}
