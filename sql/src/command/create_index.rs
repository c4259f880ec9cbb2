//! CREATE INDEX and REINDEX.
//!
//! The engine knows keys that are columns. An expression key or a predicate becomes a hidden stored column that is
//! computed on every write; rows that are there already get theirs before the index is built.
//!
//! CONCURRENTLY, nobody who writes is locked out. What is published comes first, then the wait for those who began before
//! it, then the work in steps, each a transaction of its own: values of hidden columns, then entries. REINDEX fills a second
//! index while writers keep both; then the two change places, and the old one is kept until those who may still read it have
//! ended. A crash or a shutdown interrupts a build; it is gone on with after the next start: with the entries by the engine,
//! with the values by [`resume`].

use std::collections::HashSet;
use std::sync::Arc;

use engine::catalog::{
    Catalog, Change, Column, Index, IndexKey, IndexKind, IndexState, Object, Persistence, Table,
};
use engine::{Engine, Isolation, Row, RowBatch, RowId, RowLock, RowLockMode, Snapshot, TableLockMode, Wait};
use execute::CancelReason;
use resolve::Purpose;
use value::types::oid;
use value::{Datum, Error, Oid, Result, SqlState, Type};

use super::create_table::check_indexable;
use super::drop::{forget_column, hidden_columns};
use super::{free_name, must_be_free};
use crate::Database;
use crate::grammar::error_shifted;
use crate::privilege;
use crate::rules;
use crate::session::{self, Outcome, Session};
use crate::statement::*;

pub async fn run(session: &mut Session, statement: &CreateIndex) -> Result<Outcome> {
    let done = Outcome::Tag("CREATE INDEX".into());
    if statement.concurrently {
        session.must_stand_alone("CREATE INDEX CONCURRENTLY")?;
    }
    let kind = match statement.method.as_str() {
        "btree" => IndexKind::BTree,
        "hash" => IndexKind::Hash,
        "gin" | "gist" | "brin" | "spgist" => {
            return Err(Error::unsupported(
                format!("access method \"{}\"", statement.method),
                "Use btree or hash.",
            ));
        }
        other => {
            return Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("access method \"{other}\" does not exist"),
            ));
        }
    };
    if kind == IndexKind::Hash {
        if statement.unique {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "access method \"hash\" does not support unique indexes",
            ));
        }
        if statement.keys.len() > 1 {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "access method \"hash\" does not support multicolumn indexes",
            ));
        }
    }
    if statement.keys.len() + statement.include.len() > 32 {
        return Err(Error::new(SqlState::TOO_MANY_COLUMNS, "cannot use more than 32 columns in an index"));
    }
    // An expression or a predicate becomes a column that is computed for every row: nobody may write meanwhile, unless
    // it is done in steps.
    let plain = statement.predicate.is_none() && statement.keys.iter().all(|key| key.column.is_some());
    let in_steps = statement.concurrently;
    // Plain ones do not change the table, and others may make indexes at the same time.
    let mode = match (in_steps, plain) {
        (true, _) => TableLockMode::ShareUpdateExclusive,
        (false, true) => TableLockMode::Share,
        (false, false) => TableLockMode::ShareRowExclusive,
    };
    let (scope, table) = session.own_table(&statement.table, mode).await?;
    session.must_be_settled(&table, "CREATE INDEX")?;
    privilege::check_schema(&scope.catalog, scope.role, table.schema, 'C')?;
    // Temporary tables are nobody else's.
    let in_steps = in_steps && table.persistence == Persistence::Permanent;
    if !in_steps {
        session.lock(table.schema, TableLockMode::RowExclusive).await?;
    }
    let scope = session.scope()?;
    if let Some(name) = &statement.name
        && scope.catalog.relation(table.schema, name).is_some()
    {
        if statement.if_not_exists {
            session.notice(
                "NOTICE",
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists, skipping"),
            );
            return Ok(done);
        }
        must_be_free(&scope.catalog, table.schema, name)?;
    }
    let mut changed = (*table).clone();
    let shared = Arc::new((*table).clone());
    let mut keys = Vec::new();
    let mut names = Vec::new();
    let mut hidden = false;
    for (n, key) in statement.keys.iter().enumerate() {
        let nulls_first = key.nulls_first.unwrap_or(key.descending);
        if let Some(name) = &key.column {
            let Some((_, column)) = table.column(name) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" does not exist"),
                )
                .at(Some(key.position)));
            };
            check_indexable(column.type_oid)?;
            keys.push(IndexKey {
                column: column.number,
                descending: key.descending,
                nulls_first,
                expression: None,
            });
            names.push(name.clone());
            continue;
        }
        let Some(expression) = &key.expression else { continue };
        let resolved =
            rules::expression(&*scope, Some(&shared), &expression.text, Purpose::IndexExpression, None)
                .map_err(|e| error_shifted(e, expression.offset))?;
        let ty = match resolved.ty() {
            ty if ty.oid == oid::UNKNOWN => Type::new(oid::TEXT),
            ty => ty,
        };
        check_indexable(ty.oid)?;
        let number = changed.columns.len() as i16 + 1;
        changed.columns.push(hidden_column(number, ty, &expression.text));
        hidden = true;
        keys.push(IndexKey {
            column: number,
            descending: key.descending,
            nulls_first,
            expression: Some(expression.text.clone()),
        });
        let base = crate::describe::key_name(&expression.text);
        names.push(if n > 0 && names.contains(&base) { format!("{base}{n}") } else { base });
    }
    let predicate = match &statement.predicate {
        None => None,
        Some(text) => {
            rules::expression(
                &*scope,
                Some(&shared),
                &text.text,
                Purpose::IndexPredicate,
                Some(Type::new(oid::BOOL)),
            )
            .map_err(|e| error_shifted(e, text.offset))?;
            let number = changed.columns.len() as i16 + 1;
            changed.columns.push(hidden_column(number, Type::new(oid::BOOL), &text.text));
            hidden = true;
            Some((number, crate::lex::inner(&text.text).to_string()))
        }
    };
    let mut include = Vec::new();
    for name in &statement.include {
        let Some((_, column)) = table.column(name) else {
            return Err(Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")));
        };
        include.push(column.number);
    }
    let name = match &statement.name {
        Some(name) => name.clone(),
        None => {
            free_name(&scope.catalog, table.schema, &mut HashSet::new(), &table.name, &names.join("_"), "idx")
        }
    };
    let index = Index {
        oid: session.database.engine.new_oid(),
        database: table.database,
        schema: table.schema,
        table: table.oid,
        name,
        owner: table.owner,
        storage: session.database.engine.new_storage_id(),
        kind,
        keys,
        include,
        unique: statement.unique,
        primary: false,
        nulls_distinct: statement.nulls_distinct,
        predicate,
        state: match (in_steps, hidden) {
            (false, _) => IndexState::Ready,
            (true, false) => IndexState::WriteOnly,
            (true, true) => IndexState::Computing,
        },
        comment: None,
    };
    if in_steps {
        let (oid, first) = (index.oid, table.columns.len());
        let added = changed.columns.split_off(first);
        publish(session, table.schema, |catalog| {
            must_be_free(catalog, index.schema, &index.name)?;
            let mut changes = Vec::new();
            if !added.is_empty() {
                let mut newest = table_now(catalog, index.table)?;
                if newest.columns.len() != first {
                    return Err(Error::internal("columns came in spite of a lock"));
                }
                newest.columns.extend(added);
                changes.push(Change::Put(Object::Table(Arc::new(newest))));
            }
            changes.push(Change::Put(Object::Index(Arc::new(index))));
            Ok(changes)
        })
        .await?;
        complete(session, oid).await?;
        return Ok(done);
    }
    if hidden {
        session.lock(table.oid, TableLockMode::AccessExclusive).await?;
        let changed = Arc::new(changed);
        session.change_catalog(vec![Change::Put(Object::Table(changed.clone()))]).await?;
        compute_at_once(session, changed, &index).await?;
    }
    build(session, index).await?;
    Ok(done)
}

fn hidden_column(number: i16, ty: Type, text: &str) -> Column {
    Column {
        number,
        name: format!("..hidden.{number}"),
        type_oid: ty.oid,
        typmod: ty.typmod,
        not_null: false,
        default: Some(text.to_string()),
        identity: None,
        generated: false,
        dropped: false,
        hidden: true,
        missing: None,
        comment: None,
        acl: None,
    }
}

/// Computes the hidden columns of an index.
struct Computation {
    table: Arc<Table>,
    /// Where they are.
    columns: Vec<usize>,
    evaluator: execute::Evaluator,
    /// What the statement sees.
    snapshot: Snapshot,
}

impl Computation {
    fn new(session: &mut Session, table: Arc<Table>, index: &Index) -> Result<Computation> {
        let scope = session.scope()?;
        let rules = scope.planning(|context| rules::of(context, &table))?;
        let hidden: Vec<usize> = hidden_columns(&table, index).collect();
        let wanted = rules.computed.iter().filter(|(column, _)| hidden.contains(column)).cloned();
        let (columns, expressions): (Vec<_>, Vec<_>) = wanted.unzip();
        let context = session.context(&scope, Arc::from([]), true, false)?;
        let evaluator = execute::Evaluator::new(&expressions, &context)?;
        Ok(Computation { table, columns, evaluator, snapshot: context.snapshot.clone() })
    }

    /// The values of a row with the hidden ones; `None`: it has them already.
    fn completed(&mut self, row: &Row) -> Result<Option<Vec<Datum>>> {
        // What is not NULL was computed from the row as it is.
        if !self.columns.iter().any(|column| row.is_null(*column)) {
            return Ok(None);
        }
        let mut values = row.decode();
        values.resize(self.table.columns.len(), Datum::Null);
        let before = values.clone();
        let mut missing = false;
        for (place, column) in self.columns.iter().enumerate() {
            values[*column] = self.evaluator.value(place, &before)?;
            missing |= before[*column].is_null() && !values[*column].is_null();
        }
        Ok(missing.then_some(values))
    }
}

/// Computes the hidden columns of an index for all rows of its table, which is locked against writers.
async fn compute_at_once(session: &mut Session, table: Arc<Table>, index: &Index) -> Result<()> {
    let mut computation = Computation::new(session, table.clone(), index)?;
    let snapshot = computation.snapshot.clone();
    let mut scan = snapshot.scan(&table, None)?;
    let mut batch = RowBatch::default();
    let shared = session.shared.clone();
    while scan.next(&mut batch)? {
        shared.cancel.check()?;
        for (id, row) in batch.ids.iter().zip(&batch.rows) {
            let Some(values) = computation.completed(row)? else { continue };
            let tx = session.transaction()?.tx()?;
            tx.lock_row(&table, *id, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot).await?;
            tx.update(&table, *id, row, &values).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Publishes an index and fills it from the rows that are there, unless their values are yet to be computed.
pub async fn build(session: &mut Session, index: Index) -> Result<()> {
    let index = Arc::new(index);
    session.change_catalog(vec![Change::Put(Object::Index(index.clone()))]).await?;
    if index.state == IndexState::Computing {
        return Ok(());
    }
    let shared = session.shared.clone();
    let tx = session.transaction()?.tx()?;
    session::blocking(|| tx.build_index(&index, &|| shared.cancel.check()))
}

/// Publishes changes at once, in a transaction beside the session's own, which only holds the lock that keeps other
/// definitions away. `changes` are made from the newest catalog.
async fn publish(
    session: &mut Session,
    schema: Oid,
    changes: impl FnOnce(&Catalog) -> Result<Vec<Change>>,
) -> Result<()> {
    let engine = &session.database.engine;
    let mut beside = engine.begin_for(&session.shared.state, Isolation::ReadCommitted, false);
    beside.lock_table(schema, TableLockMode::ShareUpdateExclusive, Wait::Block).await?;
    let changes = changes(&beside.catalog())?;
    beside.change_catalog(changes)?;
    beside.commit()?.durable.await
}

/// Runs what blocks a thread, until it is done or the statement is cancelled.
async fn blocking(
    session: &mut Session,
    work: impl FnOnce(&Engine, &dyn Fn() -> Result<()>) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (engine, shared) = (session.database.engine.clone(), session.shared.clone());
    let work = tokio::task::spawn_blocking(move || work(&engine, &|| shared.cancel.check()));
    work.await.map_err(|error| Error::internal(format!("building an index: {error}")))?
}

/// Completes an index that is published and not full; the session has locked its table with SHARE UPDATE EXCLUSIVE.
///
/// An error while values are computed takes the index away again, with its hidden columns: a row for which the expression
/// fails could not be written while they are there. Later ones leave it write-only. If the server stops, the index stays as
/// it is, for the next start.
async fn complete(session: &mut Session, oid: Oid) -> Result<()> {
    let index = index_now(&session.scope()?.catalog, oid)?;
    let to_be_resumed = |session: &Session| session.shared.cancel.reason() == Some(CancelReason::Shutdown);
    if index.state == IndexState::Computing {
        if let Err(error) = compute_in_steps(session, &index).await {
            if !to_be_resumed(session) {
                publish(session, index.schema, |catalog| {
                    let mut table = table_now(catalog, index.table)?;
                    let hidden: Vec<usize> = hidden_columns(&table, &index).collect();
                    hidden.into_iter().for_each(|column| forget_column(&mut table.columns[column]));
                    Ok(vec![Change::Put(Object::Table(Arc::new(table))), Change::Drop(oid)])
                })
                .await?;
            }
            return Err(error);
        }
        publish(session, index.schema, |catalog| {
            let computed = Index { state: IndexState::WriteOnly, ..index_now(catalog, oid)? };
            Ok(vec![Change::Put(Object::Index(Arc::new(computed)))])
        })
        .await?;
        // What was computed with held a snapshot, perhaps to the end of the transaction: filling the index waits
        // for snapshots.
        session.commit_block().await?;
    }
    let built = match session.lock(index.table, TableLockMode::ShareUpdateExclusive).await {
        Ok(()) => blocking(session, move |engine, stop| engine.build_index_concurrently(oid, stop)).await,
        Err(error) => Err(error),
    };
    if built.is_err() && !to_be_resumed(session) {
        session.database.engine.give_up_build(oid);
    }
    built
}

fn index_now(catalog: &Catalog, oid: Oid) -> Result<Index> {
    let gone = || Error::new(SqlState::UNDEFINED_OBJECT, "the index was dropped while it was being built");
    Ok((**catalog.index(oid).ok_or_else(gone)?).clone())
}

fn table_now(catalog: &Catalog, oid: Oid) -> Result<Table> {
    let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the table was dropped meanwhile");
    Ok((**catalog.table(oid).ok_or_else(gone)?).clone())
}

/// Rows that are looked at in one transaction.
const STEP: u64 = 8192;

/// Computes the hidden columns of an index for every row that is there; writers compute them from the publication on. A row
/// that somebody else has locked is waited for alone, with no other row locked: it takes part in no deadlock.
async fn compute_in_steps(session: &mut Session, index: &Index) -> Result<()> {
    let oid = index.table;
    let table = Arc::new(table_now(&session.scope()?.catalog, oid)?);
    let waited = table.clone();
    blocking(session, move |engine, stop| engine.wait_for_writers(&waited, stop)).await?;
    let mut computation = Computation::new(session, table.clone(), index)?;
    let end = computation.snapshot.scan(&table, None)?.bound();
    let (engine, shared) = (session.database.engine.clone(), session.shared.clone());
    let mut from = RowId(0);
    while from < end {
        shared.cancel.check()?;
        let to = RowId(from.0 + STEP);
        let mut held = Vec::new();
        {
            let mut step = engine.begin_for(&shared.state, Isolation::ReadCommitted, false);
            step.lock_table(oid, TableLockMode::RowExclusive, Wait::Block).await?;
            let snapshot = step.statement_snapshot(true)?;
            let mut scan = snapshot.scan(&table, Some(from..to))?;
            let mut batch = RowBatch::default();
            while scan.next(&mut batch)? {
                for (id, row) in batch.ids.iter().zip(&batch.rows) {
                    if computation.completed(row)?.is_none() {
                        continue;
                    }
                    let lock = step.lock_row(&table, *id, RowLockMode::NoKeyUpdate, Wait::Skip, &snapshot);
                    let current = match lock.await? {
                        RowLock::Granted => row.clone(),
                        RowLock::Moved(newest) => newest,
                        RowLock::Skipped => {
                            held.push(*id);
                            continue;
                        }
                        RowLock::Deleted | RowLock::AlreadyChanged => continue,
                    };
                    if let Some(values) = computation.completed(&current)? {
                        step.update(&table, *id, &current, &values).await?;
                    }
                }
            }
            step.commit()?.durable.await?;
        }
        for id in held {
            let mut alone = engine.begin_for(&shared.state, Isolation::ReadCommitted, false);
            alone.lock_table(oid, TableLockMode::RowExclusive, Wait::Block).await?;
            let snapshot = alone.statement_snapshot(true)?;
            let Some(row) = snapshot.get(&table, id)? else { continue };
            let lock = alone.lock_row(&table, id, RowLockMode::NoKeyUpdate, Wait::Block, &snapshot);
            let lock = tokio::select! {
                biased;
                lock = lock => lock?,
                reason = shared.cancel.cancelled() => return Err(reason.error()),
            };
            let current = match lock {
                RowLock::Granted => row,
                RowLock::Moved(newest) => newest,
                RowLock::Skipped | RowLock::Deleted | RowLock::AlreadyChanged => continue,
            };
            if let Some(values) = computation.completed(&current)? {
                alone.update(&table, id, &current, &values).await?;
            }
            alone.commit()?.durable.await?;
        }
        from = to;
    }
    Ok(())
}

/// REINDEX: indexes get new storage, filled anew.
pub async fn reindex(
    session: &mut Session,
    kind: &str,
    name: Option<&Name>,
    concurrently: bool,
) -> Result<Outcome> {
    let done = Outcome::Tag("REINDEX".into());
    if concurrently {
        session.must_stand_alone("REINDEX CONCURRENTLY")?;
        if kind == "system" {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot reindex system catalogs concurrently",
            ));
        }
    }
    let scope = session.scope()?;
    let mut tables = Vec::new();
    let mut only = None;
    match (kind, name) {
        ("index", Some(name)) => match super::relation(&scope, name)? {
            Object::Index(index) => {
                only = Some(index.oid);
                tables.push(index.table);
            }
            other => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not an index", other.name()),
                ));
            }
        },
        ("table", Some(name)) => tables.push(super::table(&scope, name)?.oid),
        ("schema", Some(name)) => {
            let schema = scope.schema_oid(&name.name).ok_or_else(|| {
                Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{}\" does not exist", name.name))
            })?;
            tables.extend(scope.catalog.objects().filter_map(|o| match o {
                Object::Table(t) if t.schema == schema => Some(t.oid),
                _ => None,
            }));
        }
        ("system", _) => return Ok(done),
        _ => tables.extend(scope.catalog.objects().filter_map(|o| match o {
            Object::Table(t) if t.database == session.shared.database => Some(t.oid),
            _ => None,
        })),
    }
    for table in tables {
        let Some(found) = scope.catalog.table(table) else { continue };
        privilege::must_own(&scope.catalog, scope.role, found.owner, "table", &found.name)?;
        let in_steps = concurrently && found.persistence == Persistence::Permanent;
        let mode = match in_steps {
            true => TableLockMode::ShareUpdateExclusive,
            false => TableLockMode::AccessExclusive,
        };
        session.lock(table, mode).await?;
        let scope = session.scope()?;
        let indexes: Vec<Oid> =
            scope.catalog.indexes(table).map(|i| i.oid).filter(|i| only.is_none_or(|o| o == *i)).collect();
        for index in indexes {
            // Those that are built in steps end the transaction in between.
            let scope = session.scope()?;
            let Some(index) = scope.catalog.index(index) else { continue };
            let Some(found) = scope.catalog.table(table) else { continue };
            match (in_steps, index.state) {
                (true, IndexState::Computing) => complete(session, index.oid).await?,
                (true, _) => reindex_in_steps(session, found, index).await?,
                (false, state) => {
                    if state == IndexState::Computing {
                        compute_at_once(session, found.clone(), index).await?;
                    }
                    let state = if state.is_full() { state } else { IndexState::Ready };
                    let storage = session.database.engine.new_storage_id();
                    build(session, Index { storage, state, ..(**index).clone() }).await?;
                }
            }
        }
    }
    Ok(done)
}

/// Fills a second index beside one that is in use, and puts its storage in the place of the old.
async fn reindex_in_steps(session: &mut Session, table: &Arc<Table>, index: &Arc<Index>) -> Result<()> {
    if table.deferrable(index.oid).is_some() {
        return Err(Error::unsupported(
            format_args!("REINDEX CONCURRENTLY of the deferrable constraint's index \"{}\"", index.name),
            "Use REINDEX.",
        ));
    }
    let (old, schema) = (index.oid, index.schema);
    let second = session.database.engine.new_oid();
    let storage = session.database.engine.new_storage_id();
    publish(session, schema, |catalog| {
        let mut name = format!("{}_ccnew", index.name);
        for number in 1.. {
            if catalog.relation(schema, &name).is_none() {
                break;
            }
            name = format!("{}_ccnew{number}", index.name);
        }
        let state = IndexState::WriteOnly;
        let index = Index { oid: second, storage, name, primary: false, state, ..(**index).clone() };
        Ok(vec![Change::Put(Object::Index(Arc::new(index)))])
    })
    .await?;
    let filled = blocking(session, move |engine, stop| engine.build_index_concurrently(second, stop)).await;
    if let Err(error) = filled {
        publish(session, schema, |_| Ok(vec![Change::Drop(second)])).await?;
        return Err(error);
    }
    publish(session, schema, |catalog| {
        let (before, new) = (index_now(catalog, old)?, index_now(catalog, second)?);
        let (storage, kept) = (new.storage, before.storage);
        let first = Index { storage, state: IndexState::Ready, ..before };
        // Writers keep the old storage for those who still read it.
        let second = Index { storage: kept, state: IndexState::WriteOnly, ..new };
        Ok([first, second].map(|index| Change::Put(Object::Index(Arc::new(index)))).to_vec())
    })
    .await?;
    let (waited, own) = (table.clone(), session.shared.pid);
    blocking(session, move |engine, stop| engine.wait_for_others(&waited, own, stop)).await?;
    publish(session, schema, |_| Ok(vec![Change::Drop(second)])).await
}

/// Goes on with indexes whose values were being computed when the server stopped last, one after the other. What it finds when
/// it is called is taken for interrupted: nobody may build indexes yet.
pub fn resume(database: &Arc<Database>) -> impl Future<Output = ()> + Send + use<> {
    let catalog = database.engine.catalog();
    let interrupted = catalog.objects().filter_map(|object| match object {
        Object::Index(index) if index.state == IndexState::Computing => Some(index.clone()),
        _ => None,
    });
    let interrupted: Vec<Arc<Index>> = interrupted.collect();
    let database = database.clone();
    async move {
        for index in interrupted {
            let name = &index.name;
            tracing::info!(index = name, "going on with computing the values of an index");
            let result = resume_one(&database, index.oid).await;
            let state = database.engine.catalog().index(index.oid).map(|index| index.state);
            match (result, state) {
                (Err(_), Some(_)) if database.is_stopping() => return,
                (Ok(()), Some(_)) => tracing::info!(index = name, "index ready"),
                (Ok(()), None) => tracing::info!(index = name, "the index was dropped meanwhile"),
                (Err(error), Some(_)) => {
                    tracing::error!(index = name, %error, "the index stays unfinished");
                }
                (Err(error), None) => tracing::error!(index = name, %error, "the index is gone"),
            }
        }
    }
}

/// As a statement: it can be seen and cancelled as one.
async fn resume_one(database: &Database, index: Oid) -> Result<()> {
    let catalog = database.engine.catalog();
    let Some(index) = catalog.index(index).filter(|index| index.state == IndexState::Computing) else {
        return Ok(());
    };
    let (Some(schema), Some(home)) = (catalog.schema(index.schema), catalog.database(index.database)) else {
        return Err(Error::internal(format!("index \"{}\" is in no schema", index.name)));
    };
    let [schema, name] = [&schema.name, &index.name].map(|name| crate::quote_ident(name));
    let mut session = database.internal_session(&home.name).await?;
    session.run(&format!("REINDEX INDEX CONCURRENTLY {schema}.{name}")).await
}
