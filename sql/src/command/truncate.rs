//! TRUNCATE: the table and its indexes get new, empty storage in the commit.

use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Change, Index, Object, Table};
use value::{Error, Result, SqlState};

use crate::privilege;
use crate::session::{Outcome, Session};
use crate::statement::Name;

pub async fn run(session: &mut Session, names: &[Name], restart: bool, cascade: bool) -> Result<Outcome> {
    let mut tables: Vec<Arc<Table>> = Vec::new();
    for name in names {
        loop {
            let scope = session.scope()?;
            let table = super::table(&scope, name)?;
            privilege::check_table(&scope.catalog, scope.role, &table, 'D')?;
            session.lock(table.oid, TableLockMode::AccessExclusive).await?;
            let scope = session.scope()?;
            if let Ok(again) = super::table(&scope, name)
                && again.oid == table.oid
            {
                session.must_be_settled(&again, "TRUNCATE")?;
                if !tables.iter().any(|t| t.oid == again.oid) {
                    tables.push(again);
                }
                break;
            }
        }
    }
    let mut place = 0;
    while let Some(table) = tables.get(place).cloned() {
        place += 1;
        let scope = session.scope()?;
        let others: Vec<Arc<Table>> = scope.catalog.referencing(table.oid).cloned().collect();
        for other in others {
            if tables.iter().any(|t| t.oid == other.oid) {
                continue;
            }
            if !cascade {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cannot truncate a table referenced in a foreign key constraint",
                )
                .detail(format!("Table \"{}\" references \"{}\".", other.name, table.name))
                .hint(format!(
                    "Truncate table \"{}\" at the same time, or use TRUNCATE ... CASCADE.",
                    other.name
                )));
            }
            privilege::check_table(&scope.catalog, scope.role, &other, 'D')?;
            session.lock(other.oid, TableLockMode::AccessExclusive).await?;
            session.notice(
                "NOTICE",
                SqlState::SUCCESSFUL_COMPLETION,
                format!("truncate cascades to table \"{}\"", other.name),
            );
            let scope = session.scope()?;
            if let Some(again) = scope.catalog.table(other.oid) {
                tables.push(again.clone());
            }
        }
    }
    empty(session, &tables, restart).await?;
    Ok(Outcome::Tag("TRUNCATE TABLE".into()))
}

/// Gives tables that are locked, and their indexes, new storage; with `restart` their sequences begin anew.
pub async fn empty(session: &mut Session, tables: &[Arc<Table>], restart: bool) -> Result<()> {
    let scope = session.scope()?;
    let engine = session.database.engine.clone();
    let mut changes = Vec::new();
    for table in tables {
        let emptied = Table { storage: engine.new_storage_id(), ..(**table).clone() };
        changes.push(Change::Put(Object::Table(Arc::new(emptied))));
        for index in scope.catalog.indexes(table.oid) {
            let emptied = Index { storage: engine.new_storage_id(), ..(**index).clone() };
            changes.push(Change::Put(Object::Index(Arc::new(emptied))));
        }
        if restart {
            for object in scope.catalog.objects() {
                if let Object::Sequence(sequence) = object
                    && sequence.owned_by.is_some_and(|(t, _)| t == table.oid)
                {
                    let mut changed = (**sequence).clone();
                    changed.generation += 1;
                    changes.push(Change::Put(Object::Sequence(Arc::new(changed))));
                }
            }
        }
    }
    session.change_catalog(changes).await
}
