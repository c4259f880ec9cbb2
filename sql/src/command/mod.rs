//! Utility statements, a family a file: each has a `run` (or a function per statement) that checks rights, takes
//! locks, and hands changes of the catalog to the transaction.
//!
//! Whoever makes a name holds the schema's own lock until its transaction ends, so that two sessions cannot make the
//! same name; whoever changes or drops a relation holds ACCESS EXCLUSIVE on it, and looks it up again behind
//! the lock.

pub mod alter_table;
pub mod analyze;
pub mod comment;
pub mod copy;
pub mod create_index;
pub mod create_table;
pub mod create_table_as;
pub mod database;
pub mod drop;
pub mod explain;
pub mod grant;
pub mod lock;
pub mod notify;
pub mod prepare;
pub mod role;
pub mod schema;
pub mod sequence;
pub mod set;
pub mod truncate;
pub mod view;

use std::collections::HashSet;
use std::sync::Arc;

use engine::catalog::{Catalog, Object, Role, Table, oid};
use engine::{TableLockMode, Wait};
use value::{Error, Oid, Result, SqlState};

use crate::privilege;
use crate::scope::Scope;
use crate::session::Session;
use crate::statement::{Name, ObjectKind};

/// 42704 for a collation that is not there: StartDB sorts by bytes.
pub fn check_collation(name: &Name) -> Result<()> {
    let lower = name.name.to_ascii_lowercase();
    if matches!(lower.as_str(), "c" | "posix" | "default" | "ucs_basic" | "c.utf-8" | "c.utf8") {
        return Ok(());
    }
    Err(Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("collation \"{}\" for encoding \"UTF8\" does not exist", name.name),
    )
    .hint("Strings are sorted by their bytes: use \"C\".")
    .at(Some(name.position)))
}

pub fn kind_of(object: &Object) -> ObjectKind {
    match object {
        Object::Table(_) => ObjectKind::Table,
        Object::Index(_) => ObjectKind::Index,
        Object::View(_) => ObjectKind::View,
        Object::Sequence(_) => ObjectKind::Sequence,
        Object::Schema(_) => ObjectKind::Schema,
        Object::Database(_) => ObjectKind::Database,
        Object::Role(_) => ObjectKind::Role,
    }
}

pub fn owner_of(object: &Object) -> Oid {
    match object {
        Object::Table(o) => o.owner,
        Object::Index(o) => o.owner,
        Object::View(o) => o.owner,
        Object::Sequence(o) => o.owner,
        Object::Schema(o) => o.owner,
        Object::Database(o) => o.owner,
        Object::Role(o) => o.oid,
    }
}

/// A name as it was written, for messages.
pub fn written(name: &Name) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

/// The relation a name means, `None` when there is none. 3F000 for an unknown schema.
pub fn find_relation(scope: &Scope, name: &Name) -> Option<Object> {
    match &name.schema {
        Some(schema) => scope.catalog.relation(scope.schema_oid(schema)?, &name.name).cloned(),
        None => scope.path.iter().find_map(|schema| scope.catalog.relation(*schema, &name.name).cloned()),
    }
}

/// As [`find_relation`]; 42P01 with the nearest name when it is missing, 42809 for a system relation.
pub fn relation(scope: &Scope, name: &Name) -> Result<Object> {
    if let Some(found) = find_relation(scope, name) {
        return Ok(found);
    }
    let schema = name.schema.as_deref().unwrap_or("pg_catalog");
    if crate::pg_catalog::relation(scope, schema, &name.name).is_some() {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied: \"{}\" is a system catalog", name.name),
        ));
    }
    let error =
        Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", written(name)))
            .at(Some(name.position));
    let nearest = scope
        .catalog
        .objects()
        .filter(|o| o.relation_schema().is_some_and(|s| scope.path.contains(&s)))
        .map(|o| (strsim::damerau_levenshtein(o.name(), &name.name), o.name()))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.name.len() / 4);
    Err(match nearest {
        Some((_, near)) => error.hint(format!("Perhaps you meant the relation \"{near}\".")),
        None => error,
    })
}

/// The table a name means; 42809 for anything else.
pub fn table(scope: &Scope, name: &Name) -> Result<Arc<Table>> {
    match relation(scope, name)? {
        Object::Table(table) => Ok(table),
        other => Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a table", other.name()))),
    }
}

impl Session {
    /// Locks a table (or whatever an oid stands for) until the transaction ends.
    pub(crate) async fn lock(&mut self, oid: Oid, mode: TableLockMode) -> Result<()> {
        let shared = self.shared.clone();
        let tx = self.transaction()?.tx()?;
        Session::interruptible(&shared, tx.lock_table(oid, mode, Wait::Block)).await.map(|_| ())
    }

    /// A table behind an exclusive lock, as it is then. 42501 unless the role owns it.
    pub(crate) async fn own_table(
        &mut self,
        name: &Name,
        mode: TableLockMode,
    ) -> Result<(Arc<Scope>, Arc<Table>)> {
        loop {
            let scope = self.scope()?;
            let found = table(&scope, name)?;
            privilege::must_own(&scope.catalog, scope.role, found.owner, "table", &found.name)?;
            self.lock(found.oid, mode).await?;
            let scope = self.scope()?;
            if let Some(Object::Table(again)) = find_relation(&scope, name)
                && again.oid == found.oid
            {
                return Ok((scope, again));
            }
        }
    }

    /// The schema for a new object: named or the first of the path; locked against others that make names in it.
    pub(crate) async fn schema_for(&mut self, name: &Name, temporary: bool) -> Result<Oid> {
        if temporary {
            if let Some(schema) = &name.schema
                && schema != "pg_temp"
                && !schema.starts_with("pg_temp_")
            {
                return Err(Error::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    "cannot create temporary relation in non-temporary schema",
                ));
            }
            let scope = self.scope()?;
            privilege::check_database(&scope.catalog, scope.role, self.shared.database, 'T').map_err(
                |_| {
                    Error::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!(
                            "permission denied to create temporary tables in database \"{}\"",
                            self.shared.database_name
                        ),
                    )
                },
            )?;
            return Ok(self.temporary_schema());
        }
        let scope = self.scope()?;
        let schema = match &name.schema {
            Some(schema) => scope.schema_oid(schema).ok_or_else(|| {
                Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist"))
                    .at(Some(name.position))
            })?,
            None => scope.creation_schema().ok_or_else(|| {
                Error::new(SqlState::INVALID_SCHEMA_NAME, "no schema has been selected to create in")
                    .at(Some(name.position))
            })?,
        };
        if matches!(schema, oid::PG_CATALOG | oid::INFORMATION_SCHEMA | oid::STARTDB_SCHEMA | oid::PG_TOAST) {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to create \"{}.{}\"", scope.schema_name(schema), name.name),
            )
            .detail("System catalog modifications are currently disallowed."));
        }
        privilege::check_schema(&scope.catalog, scope.role, schema, 'C')
            .map_err(|e| e.at(Some(name.position)))?;
        self.lock(schema, TableLockMode::RowExclusive).await?;
        Ok(schema)
    }

    /// The role a name means (CURRENT_USER and SESSION_USER too).
    pub(crate) fn role_named(&mut self, name: &str) -> Result<Arc<Role>> {
        let scope = self.scope()?;
        let found = match name {
            "\u{1}current_user" => scope.catalog.role(scope.role),
            "\u{1}session_user" => {
                let session = self.shared.roles.lock().session;
                scope.catalog.role(session)
            }
            name => scope.catalog.role_named(name),
        };
        found
            .cloned()
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")))
    }
}

/// 42P07 when a name is taken in a schema.
pub fn must_be_free(catalog: &Catalog, schema: Oid, name: &str) -> Result<()> {
    if catalog.relation(schema, name).is_some() {
        return Err(Error::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists")));
    }
    Ok(())
}

/// A name made of parts as PostgreSQL makes them: `table_column_suffix`, parts cut so that it has at most 63 bytes.
pub fn made_name(table: &str, column: &str, suffix: &str) -> String {
    let overhead = suffix.len() + 1 + usize::from(!column.is_empty());
    let (mut first, mut second) = (table.len(), column.len());
    while first + second + overhead > 63 {
        if first > second {
            first -= 1;
        } else {
            second -= 1;
        }
    }
    let cut = |text: &str, mut end: usize| {
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_string()
    };
    let (table, column) = (cut(table, first), cut(column, second));
    if column.is_empty() { format!("{table}_{suffix}") } else { format!("{table}_{column}_{suffix}") }
}

/// A made name that neither the schema nor `taken` has yet.
pub fn free_name(
    catalog: &Catalog,
    schema: Oid,
    taken: &mut HashSet<String>,
    table: &str,
    column: &str,
    suffix: &str,
) -> String {
    for pass in 0.. {
        let tail = if pass == 0 { suffix.to_string() } else { format!("{suffix}{pass}") };
        let name = made_name(table, column, &tail);
        if catalog.relation(schema, &name).is_none() && taken.insert(name.clone()) {
            return name;
        }
    }
    unreachable!("names are not exhausted")
}

/// The temporary-or-not of a schema.
pub fn persistence(scope: &Scope, schema: Oid) -> engine::catalog::Persistence {
    if scope.temporary == Some(schema) {
        engine::catalog::Persistence::Temporary
    } else {
        engine::catalog::Persistence::Permanent
    }
}
