//! Names of relations and where they are looked up.

use std::sync::Arc;

use engine::catalog::{Index, Object, Sequence, Table, View, oid};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use sqlparser::tokenizer::Location;
use value::{Error, Oid, Result, SqlState};

use crate::{Names, SystemRelation, undefined_table};

/// PostgreSQL keeps this many bytes of an identifier.
const MAX_IDENTIFIER: usize = 63;

/// What a relation name stands for.
#[derive(Clone, Debug)]
pub enum Found {
    Table(Arc<Table>),
    View(Arc<View>),
    Sequence(Arc<Sequence>),
    Index(Arc<Index>),
    System(SystemRelation),
}

impl Found {
    /// The relation's oid.
    pub fn oid(&self) -> Oid {
        match self {
            Found::Table(table) => table.oid,
            Found::View(view) => view.oid,
            Found::Sequence(sequence) => sequence.oid,
            Found::Index(index) => index.oid,
            Found::System(system) => system.oid,
        }
    }
}

/// An identifier as PostgreSQL reads it: folded to lower case unless quoted, cut to 63 bytes.
pub fn identifier(ident: &Ident) -> String {
    let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    if name.len() <= MAX_IDENTIFIER || name.starts_with('\u{1}') {
        return name;
    }
    let mut end = MAX_IDENTIFIER;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// 42601 for a key word that PostgreSQL reserves, written without quotes where a name is wanted.
pub(crate) fn refuse_reserved(ident: &Ident) -> Result<()> {
    if ident.quote_style.is_none() && is_reserved(&ident.value) {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!("syntax error at or near \"{}\"", ident.value),
        ));
    }
    Ok(())
}

/// PostgreSQL's reserved key words, without those that stand for a value (CURRENT_DATE ...).
fn is_reserved(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "column",
        "constraint",
        "create",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "fetch",
        "for",
        "foreign",
        "from",
        "grant",
        "group",
        "having",
        "in",
        "initially",
        "intersect",
        "into",
        "lateral",
        "leading",
        "limit",
        "not",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "placing",
        "primary",
        "references",
        "returning",
        "select",
        "some",
        "symmetric",
        "table",
        "then",
        "to",
        "trailing",
        "union",
        "unique",
        "using",
        "variadic",
        "when",
        "where",
        "window",
        "with",
    ];
    name.len() <= 10
        && WORDS
            .binary_search_by(|word| {
                word.as_bytes().iter().copied().cmp(name.bytes().map(|b| b.to_ascii_lowercase()))
            })
            .is_ok()
}

/// The parts of a dotted name.
pub fn split_name(name: &ObjectName) -> Result<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(identifier(ident)),
            ObjectNamePart::Function(_) => Err(Error::new(SqlState::SYNTAX_ERROR, "invalid name")),
        })
        .collect()
}

/// Where a dotted name starts in the text.
pub(crate) fn name_location(name: &ObjectName) -> Location {
    match name.0.first() {
        Some(ObjectNamePart::Identifier(ident)) => ident.span.start,
        _ => Location::empty(),
    }
}

/// Splits `[database.][schema.]name`. 0A000 when the database is another one, 42601 for more parts.
pub fn database_and_schema(names: &dyn Names, name: &ObjectName) -> Result<(Option<String>, String)> {
    if let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() {
        refuse_reserved(ident)?;
    }
    let mut parts = split_name(name)?;
    let relation = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    if let Some(database) = parts.pop() {
        let here = names.catalog().database(names.database()).map(|d| d.name.as_str());
        if here != Some(database.as_str()) || !parts.is_empty() {
            let full = split_name(name)?.join(".");
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cross-database references are not implemented: \"{full}\""),
            ));
        }
    }
    Ok((schema, relation))
}

/// Finds the relation a name means along the search path. 42P01 with the nearest name as a hint, 3F000 for an
/// unknown schema. The position is left to the caller, who has the text.
pub fn relation_name(names: &dyn Names, name: &ObjectName) -> Result<Found> {
    let (schema, relation) = database_and_schema(names, name)?;
    match lookup(names, schema.as_deref(), &relation) {
        Some(found) => Ok(found),
        None => Err(missing(names, schema.as_deref(), &relation)),
    }
}

/// As [`relation_name`] for names already split; `None` when there is no such relation.
pub(crate) fn lookup(names: &dyn Names, schema: Option<&str>, relation: &str) -> Option<Found> {
    let catalog = names.catalog();
    if let Some(schema) = schema {
        if let Some(temporary) = names.temporary_schema()
            && (schema == "pg_temp" || schema.strip_prefix("pg_temp_") == Some(&temporary.to_string()))
        {
            return in_schema(names, temporary, relation);
        }
        if let Some(system) = names.system_relation(Some(schema), relation) {
            return Some(Found::System(system));
        }
        let schema = catalog.schema_named(names.database(), schema)?;
        return in_schema(names, schema.oid, relation);
    }
    names.search_path().iter().find_map(|&schema| in_schema(names, schema, relation))
}

fn in_schema(names: &dyn Names, schema: Oid, relation: &str) -> Option<Found> {
    let system = match schema {
        oid::PG_CATALOG => Some("pg_catalog"),
        oid::INFORMATION_SCHEMA => Some("information_schema"),
        oid::STARTDB_SCHEMA => Some("startdb"),
        _ => None,
    };
    if let Some(system) = system
        && let Some(found) = names.system_relation(Some(system), relation)
    {
        return Some(Found::System(found));
    }
    match names.catalog().relation(schema, relation)? {
        Object::Table(table) => Some(Found::Table(table.clone())),
        Object::View(view) => Some(Found::View(view.clone())),
        Object::Sequence(sequence) => Some(Found::Sequence(sequence.clone())),
        Object::Index(index) => Some(Found::Index(index.clone())),
        Object::Database(_) | Object::Schema(_) | Object::Role(_) => None,
    }
}

/// 42P01 for a name that [`lookup`] did not find (3F000 never: PostgreSQL says relation here too).
pub(crate) fn missing(names: &dyn Names, schema: Option<&str>, relation: &str) -> Error {
    let full = match schema {
        Some(schema) => format!("{schema}.{relation}"),
        None => relation.to_owned(),
    };
    let error = undefined_table(&full);
    let catalog = names.catalog();
    let schemas: Vec<Oid> = match schema {
        Some(schema) => catalog.schema_named(names.database(), schema).map(|s| s.oid).into_iter().collect(),
        None => names.search_path().to_vec(),
    };
    let candidates = catalog
        .objects()
        .filter(|object| object.relation_schema().is_some_and(|schema| schemas.contains(&schema)))
        .filter(|object| matches!(object, Object::Table(_) | Object::View(_)))
        .map(Object::name);
    match nearest(relation, candidates) {
        Some(near) => error.hint(format!("Perhaps you meant the relation \"{near}\".")),
        None => error,
    }
}

/// The name closest to what was written, if it is close: at most half of it differs.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // As PostgreSQL: at most half of it differs, and not more than three characters.
    let limit = (name.chars().count() / 2).min(3);
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
