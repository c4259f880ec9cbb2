//! Transaction blocks: implicit and explicit, savepoints, what happens at commit and after failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use engine::catalog::{Change, Object, OnCommit, Table};
use engine::{Isolation, Savepoint, Transaction};
use execute::ConstraintModes;
use value::{Error, Oid, Result, SqlState};

use super::{Portal, Session};
use crate::setting::Saved;
use crate::shared::{Pending, Roles};
use crate::statement::Modes;

/// The transaction of a session.
pub struct Block {
    /// `None` once it failed and nothing can bring it back.
    pub tx: Option<Transaction>,
    /// Begun by BEGIN: lives until COMMIT or ROLLBACK.
    pub explicit: bool,
    pub failed: bool,
    /// Microseconds since 2000-01-01 UTC.
    pub started: i64,
    pub begun: Instant,
    pub isolation: Isolation,
    pub uncommitted: bool,
    pub read_only: bool,
    pub deferrable: bool,
    pub saved: Saved,
    pub roles: Roles,
    savepoints: Vec<Frame>,
    /// What is to be checked at commit.
    checks: Checks,
    pub constraints: Arc<ConstraintModes>,
    pub notifications: Vec<(String, String)>,
    /// LISTEN and UNLISTEN as they stand if the transaction commits.
    pub listening: Option<Vec<String>>,
}

/// Deferred checks, each with the moment it came up: a number that grows with everything that happens to them.
#[derive(Default)]
struct Checks {
    pending: Vec<(u64, execute::DeferredCheck)>,
    /// Made already, by SET CONSTRAINTS: when they came up and when they were made. Rolling back to a savepoint in between
    /// puts them off again, since what satisfied them may be gone.
    made: Vec<(u64, u64, execute::DeferredCheck)>,
    moment: u64,
}

impl Checks {
    fn add(&mut self, checks: impl IntoIterator<Item = execute::DeferredCheck>) {
        self.moment += 1;
        self.pending.extend(checks.into_iter().map(|check| (self.moment, check)));
    }

    /// The checks that are made now.
    fn make(&mut self, due: impl Fn(&execute::DeferredCheck) -> bool) -> Vec<execute::DeferredCheck> {
        self.moment += 1;
        let now = self.moment;
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(_, check)| due(check));
        self.pending = rest;
        self.made.extend(due.iter().map(|(since, check)| (*since, now, check.clone())));
        due.into_iter().map(|(_, check)| check).collect()
    }

    /// A moment to come back to.
    fn mark(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn rollback(&mut self, mark: u64) {
        self.pending.retain(|(since, _)| *since < mark);
        let (undone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.made).into_iter().partition(|(_, made, _)| *made > mark);
        self.made = kept;
        let again = undone.into_iter().filter(|(since, ..)| *since < mark);
        self.pending.extend(again.map(|(since, _, check)| (since, check)));
    }
}

struct Frame {
    name: String,
    savepoint: Savepoint,
    saved: Saved,
    roles: Roles,
    checks: u64,
    notifications: usize,
    constraints: Arc<ConstraintModes>,
    /// READ ONLY as it was outside: it is so again when the savepoint is gone.
    read_only: bool,
}

impl Block {
    /// Checks that the transaction has to make before it commits.
    pub fn put_off(&mut self, checks: Vec<execute::DeferredCheck>) {
        if !checks.is_empty() {
            self.checks.add(checks);
        }
    }

    fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
        if let Some(tx) = &mut self.tx {
            tx.set_read_only(read_only);
        }
    }

    /// The transaction, which a failed block has lost.
    pub fn tx(&mut self) -> Result<&mut Transaction> {
        self.tx.as_mut().ok_or_else(|| {
            Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )
        })
    }
}

impl Session {
    /// The block, begun implicitly when there is none.
    pub(crate) fn transaction(&mut self) -> Result<&mut Block> {
        if self.block.is_none() {
            self.begin_block(Modes::default(), false);
        }
        self.block.as_mut().ok_or_else(|| Error::internal("no transaction"))
    }

    fn begin_block(&mut self, modes: Modes, explicit: bool) {
        let (isolation, read_only, deferrable) = self.modes(modes);
        let uncommitted = modes.isolation.map_or(self.effective().uncommitted, |_| modes.uncommitted);
        let tx = self.database.engine.begin_for(&self.shared.state, isolation, read_only);
        // now() is the arrival of the first statement.
        let started = self.statement_time;
        self.shared.transaction_started.store(started, Ordering::Relaxed);
        self.shared.transaction_id.store(tx.id(), Ordering::Relaxed);
        self.shared.activity.lock().transaction_start = Some(started);
        self.block = Some(Block {
            tx: Some(tx),
            explicit,
            failed: false,
            started,
            begun: Instant::now(),
            isolation,
            uncommitted,
            read_only,
            deferrable,
            saved: self.shared.settings.lock().save(),
            roles: *self.shared.roles.lock(),
            savepoints: Vec::new(),
            checks: Checks::default(),
            constraints: Arc::default(),
            notifications: Vec::new(),
            listening: None,
        });
    }

    pub(crate) fn in_block(&self) -> bool {
        self.block.as_ref().is_some_and(|b| b.explicit)
    }

    /// 25001 where the statement is not alone in its transaction.
    pub(crate) fn must_stand_alone(&self, what: &str) -> Result<()> {
        if self.in_transaction() {
            let place = match self.in_block() || self.in_simple {
                true => "run inside a transaction block",
                false => "be executed within a pipeline",
            };
            return Err(Error::new(SqlState::ACTIVE_SQL_TRANSACTION, format!("{what} cannot {place}")));
        }
        Ok(())
    }

    /// Whether the statement shares its transaction with others: of a block, or of the same string or pipeline.
    pub(crate) fn in_transaction(&self) -> bool {
        self.in_block() || self.batch_statements > 1 || (self.in_simple && !self.simple.is_empty())
    }

    /// 55006 while checks of the table's rows are put off to the end of the transaction.
    pub(crate) fn must_be_settled(&mut self, table: &Table, what: &str) -> Result<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        if block.checks.pending.is_empty() {
            return Ok(());
        }
        let catalog = block.tx()?.catalog();
        let mut pending = block.checks.pending.iter();
        if pending.any(|(_, check)| check.relation(&catalog) == Some(table.oid)) {
            return Err(Error::new(
                SqlState::OBJECT_IN_USE,
                format!("cannot {what} \"{}\" because it has pending trigger events", table.name),
            ));
        }
        Ok(())
    }

    pub(crate) fn begin(&mut self, modes: Modes) -> Result<()> {
        match &mut self.block {
            Some(block) if block.explicit => {
                self.notice(
                    "WARNING",
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "there is already a transaction in progress",
                );
                self.set_transaction(modes)
            }
            Some(block) => {
                // What the string did so far becomes part of the block.
                block.explicit = true;
                self.set_transaction(modes)
            }
            None => {
                self.begin_block(modes, true);
                Ok(())
            }
        }
    }

    /// SET TRANSACTION, and the modes of BEGIN in a transaction that runs.
    pub(crate) fn set_transaction(&mut self, modes: Modes) -> Result<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        let tx = block.tx.as_mut();
        let started = tx.as_ref().is_some_and(|t| t.has_snapshot());
        let nested = !block.savepoints.is_empty();
        let refuse = |message: &str| Err(Error::new(SqlState::ACTIVE_SQL_TRANSACTION, message));
        if let Some(isolation) = modes.isolation.filter(|isolation| *isolation != block.isolation) {
            if started {
                return refuse("SET TRANSACTION ISOLATION LEVEL must be called before any query");
            }
            if nested {
                return refuse("SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction");
            }
            block.isolation = isolation;
        }
        if let Some(read_only) = modes.read_only {
            if !read_only && block.read_only {
                if block.savepoints.last().is_some_and(|frame| frame.read_only) {
                    return refuse("cannot set transaction read-write mode inside a read-only transaction");
                }
                if started {
                    return refuse("transaction read-write mode must be set before any query");
                }
            }
            block.read_only = read_only;
        }
        if let Some(deferrable) = modes.deferrable {
            if nested {
                return refuse("SET TRANSACTION [NOT] DEFERRABLE cannot be called within a subtransaction");
            }
            if started {
                return refuse("SET TRANSACTION [NOT] DEFERRABLE must be called before any query");
            }
            block.deferrable = deferrable;
        }
        if modes.isolation.is_some() {
            block.uncommitted = modes.uncommitted;
        }
        let (isolation, read_only) = (block.isolation, block.read_only);
        if let Some(tx) = tx {
            if modes.isolation.is_some() {
                tx.set_isolation(isolation);
            }
            if modes.read_only.is_some() {
                tx.set_read_only(read_only);
            }
        }
        Ok(())
    }

    /// Commits an implicit transaction, if one is open.
    pub(crate) async fn commit_implicit(&mut self) -> Result<()> {
        match &self.block {
            Some(block) if !block.explicit => self.commit_block().await,
            _ => Ok(()),
        }
    }

    /// Commits the block and waits until that is durable.
    pub(crate) async fn commit_block(&mut self) -> Result<()> {
        if self.block.is_none() {
            return Ok(());
        }
        if let Err(error) = self.before_commit().await {
            self.rollback_block();
            return Err(error);
        }
        let Some(mut block) = self.block.take() else { return Ok(()) };
        let Some(tx) = block.tx.take() else {
            return Err(Error::internal("a failed transaction was committed"));
        };
        let changed = tx.has_catalog_changes();
        let span = if tx.has_writes() { self.trace.flush() } else { tracing::Span::none() };
        if tx.has_writes()
            && let Some(delay) = self.database.engine.commit_delay()
        {
            tokio::time::sleep(delay).await;
        }
        let asynchronous = !self.effective().synchronous_commit;
        let commit = match tx.commit() {
            Ok(commit) => commit,
            Err(error) => {
                self.undo_session_state(&block.saved, block.roles);
                self.ended(false);
                return Err(error);
            }
        };
        if changed {
            self.local_version += 1;
        }
        self.shared.settings.lock().end_local();
        self.restore_local_roles(&block);
        if let Some(listening) = block.listening.take() {
            *self.shared.listening.lock() = listening;
        }
        self.ended(true);
        if !asynchronous || changed {
            commit.durable.await?;
        }
        drop(span);
        Ok(())
    }

    async fn before_commit(&mut self) -> Result<()> {
        self.hold_cursors().await?;
        let Some(block) = &mut self.block else { return Ok(()) };
        let checks = block.checks.make(|_| true);
        if !checks.is_empty() {
            self.run_checks(checks).await?;
        }
        self.carry_out_on_commit().await
    }

    /// ON COMMIT of the session's temporary tables.
    async fn carry_out_on_commit(&mut self) -> Result<()> {
        let Some(temporary) = self.temporary else { return Ok(()) };
        let Some(tx) = self.block.as_mut().and_then(|block| block.tx.as_mut()) else { return Ok(()) };
        if !tx.has_writes() {
            return Ok(());
        }
        let catalog = tx.catalog();
        let (mut dropped, mut emptied) = (Vec::new(), Vec::new());
        for object in catalog.objects() {
            let Object::Table(table) = object else { continue };
            match table.on_commit {
                _ if table.schema != temporary => {}
                OnCommit::PreserveRows => {}
                OnCommit::DeleteRows => emptied.push(table.clone()),
                OnCommit::Drop => dropped.push(table.oid),
            }
        }
        if !dropped.is_empty() {
            // What goes along is not worth a word.
            let said = self.shared.notices.lock().len();
            crate::command::drop::remove(self, &dropped, true).await?;
            self.shared.notices.lock().truncate(said);
        }
        if !emptied.is_empty() {
            crate::command::truncate::empty(self, &emptied, false).await?;
        }
        Ok(())
    }

    /// Runs deferred checks now: at commit, or for SET CONSTRAINTS IMMEDIATE.
    pub(crate) async fn run_checks(&mut self, checks: Vec<execute::DeferredCheck>) -> Result<()> {
        let scope = self.scope()?;
        let context = self.context(&scope, Arc::from([]), true, false)?;
        let block = self.transaction()?;
        execute::run_deferred(checks, block.tx()?, context).await
    }

    /// The deferred checks that SET CONSTRAINTS .. IMMEDIATE makes now.
    pub(crate) fn due_checks(
        &mut self,
        due: impl Fn(&execute::DeferredCheck) -> bool,
    ) -> Vec<execute::DeferredCheck> {
        self.block.as_mut().map(|block| block.checks.make(due)).unwrap_or_default()
    }

    pub(crate) fn rollback_block(&mut self) {
        let Some(mut block) = self.block.take() else { return };
        if let Some(tx) = block.tx.take() {
            if tx.has_catalog_changes() {
                self.local_version += 1;
            }
            tx.rollback();
        } else {
            self.local_version += 1;
        }
        self.undo_session_state(&block.saved, block.roles);
        self.ended(false);
    }

    fn undo_session_state(&mut self, saved: &Saved, roles: Roles) {
        let mut settings = self.shared.settings.lock();
        settings.restore(saved);
        settings.end_local();
        drop(settings);
        self.set_roles(roles);
    }

    fn restore_local_roles(&mut self, block: &Block) {
        // SET LOCAL ROLE ends with the transaction: the setting tells which role is meant to stay.
        let shown = self.shared.settings.lock().show("role").unwrap_or_default();
        let now = *self.shared.roles.lock();
        let catalog = self.database.engine.catalog();
        let current = match shown.as_str() {
            "none" | "" => now.session,
            name => catalog.role_named(name).map_or(block.roles.current, |r| r.oid),
        };
        if current != now.current {
            self.set_roles(Roles { current, ..now });
        }
    }

    pub(crate) fn set_roles(&mut self, roles: Roles) {
        let mut now = self.shared.roles.lock();
        if now.session == roles.session && now.current == roles.current {
            return;
        }
        *now = roles;
        drop(now);
        let catalog = self.database.engine.catalog();
        self.shared.settings.lock().set_superuser(
            crate::privilege::is_superuser(&catalog, roles.session),
            crate::privilege::is_superuser(&catalog, roles.current),
        );
    }

    fn ended(&mut self, committed: bool) {
        self.portals
            .retain(|_, portal: &mut Portal| portal.cursor.as_ref().is_some_and(|c| c.survives(committed)));
        let names: Vec<String> = self.portals.keys().cloned().collect();
        self.shared.cursors.lock().retain(|c| names.contains(&c.name));
        self.shared.activity.lock().transaction_start = None;
        self.shared.transaction_id.store(0, Ordering::Relaxed);
        let counters = &self.database.counters;
        if committed { &counters.commits } else { &counters.rollbacks }.fetch_add(1, Ordering::Relaxed);
        let counts = &self.shared.counts;
        if committed { &counts.commits } else { &counts.rollbacks }.fetch_add(1, Ordering::Relaxed);
    }

    /// A statement failed: an implicit transaction is over; an explicit one waits for its end or a ROLLBACK TO.
    pub(crate) fn fail_block(&mut self, dead: bool) {
        let Some(block) = &mut self.block else { return };
        if !block.explicit || dead {
            self.rollback_block();
            return;
        }
        if block.failed {
            return;
        }
        block.failed = true;
        self.portals.retain(|_, portal: &mut Portal| portal.cursor.as_ref().is_some_and(|c| c.held()));
        let Some(block) = &mut self.block else { return };
        match block.savepoints.last() {
            // What the innermost savepoint did can only be undone now; its locks are free at once.
            Some(frame) => {
                let savepoint = frame.savepoint;
                if let Some(tx) = &mut block.tx {
                    tx.rollback_to(savepoint);
                }
                self.local_version += 1;
            }
            None => {
                if let Some(tx) = block.tx.take() {
                    if tx.has_catalog_changes() {
                        self.local_version += 1;
                    }
                    tx.rollback();
                }
            }
        }
    }

    /// COMMIT; gives the tag.
    pub(crate) async fn commit(&mut self, chain: bool) -> Result<String> {
        let Some(block) = &self.block else {
            self.no_transaction(chain, "COMMIT")?;
            return Ok("COMMIT".into());
        };
        let modes = chain_modes(block);
        let explicit = block.explicit;
        if block.failed {
            self.rollback_block();
            if chain {
                self.begin_block(modes, true);
            }
            return Ok("ROLLBACK".into());
        }
        if !explicit {
            self.no_transaction(chain, "COMMIT")?;
        }
        self.commit_block().await?;
        if chain {
            self.begin_block(modes, true);
        }
        Ok("COMMIT".into())
    }

    pub(crate) fn rollback(&mut self, chain: bool) -> Result<String> {
        let Some(block) = &self.block else {
            self.no_transaction(chain, "ROLLBACK")?;
            return Ok("ROLLBACK".into());
        };
        let modes = chain_modes(block);
        if !block.explicit {
            self.no_transaction(chain, "ROLLBACK")?;
        }
        self.rollback_block();
        if chain {
            self.begin_block(modes, true);
        }
        Ok("ROLLBACK".into())
    }

    fn no_transaction(&self, chain: bool, what: &str) -> Result<()> {
        if chain {
            return Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{what} AND CHAIN can only be used in transaction blocks"),
            ));
        }
        self.notice("WARNING", SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress");
        Ok(())
    }

    pub(crate) fn savepoint(&mut self, name: &str) -> Result<()> {
        self.needs_block("SAVEPOINT")?;
        let saved = self.shared.settings.lock().save();
        let roles = *self.shared.roles.lock();
        let block = self.transaction()?;
        let savepoint = block.tx()?.savepoint();
        block.savepoints.push(Frame {
            name: name.to_string(),
            savepoint,
            saved,
            roles,
            checks: block.checks.mark(),
            notifications: block.notifications.len(),
            constraints: block.constraints.clone(),
            read_only: block.read_only,
        });
        Ok(())
    }

    fn needs_block(&self, what: &str) -> Result<()> {
        if self.in_block() {
            return Ok(());
        }
        Err(Error::new(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            format!("{what} can only be used in transaction blocks"),
        ))
    }

    fn find_savepoint(&self, name: &str) -> Result<usize> {
        let frames = self.block.as_ref().map_or(&[][..], |b| &b.savepoints);
        frames.iter().rposition(|f| f.name == name).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                format!("savepoint \"{name}\" does not exist"),
            )
        })
    }

    pub(crate) fn release(&mut self, name: &str) -> Result<()> {
        self.needs_block("RELEASE SAVEPOINT")?;
        let place = self.find_savepoint(name)?;
        let block = self.transaction()?;
        let frames = block.savepoints.split_off(place);
        if let Some(frame) = frames.first() {
            block.tx()?.release(frame.savepoint);
            block.set_read_only(frame.read_only);
        }
        Ok(())
    }

    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<()> {
        self.needs_block("ROLLBACK TO SAVEPOINT")?;
        let place = self.find_savepoint(name)?;
        let block = self.transaction()?;
        block.savepoints.truncate(place + 1);
        let Some(frame) = block.savepoints.last() else { return Err(Error::internal("no savepoint")) };
        let (savepoint, saved, roles) = (frame.savepoint, frame.saved.clone(), frame.roles);
        block.checks.rollback(frame.checks);
        block.notifications.truncate(frame.notifications);
        block.constraints = frame.constraints.clone();
        let read_only = frame.read_only;
        block.tx()?.rollback_to(savepoint);
        block.set_read_only(read_only);
        block.failed = false;
        self.local_version += 1;
        self.shared.settings.lock().restore(&saved);
        self.set_roles(roles);
        Ok(())
    }

    /// Carries out what functions asked for while they could not reach the transaction.
    pub(crate) fn carry_out_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut *self.shared.pending.lock());
        for item in pending {
            match item {
                Pending::Notify { channel, payload } => {
                    let block = self.transaction()?;
                    if !block.notifications.contains(&(channel.clone(), payload.clone())) {
                        block.notifications.push((channel, payload));
                    }
                }
                Pending::Role { role, local } => self.set_role(role.as_deref(), local)?,
                Pending::Transaction { setting, value } => {
                    let modes = crate::command::set::transaction_modes(setting, &value)?;
                    self.transaction()?;
                    self.set_transaction(modes)?;
                }
            }
        }
        Ok(())
    }

    /// Waits for others that are about to give a relation one of the names that the changes give; 42P07 when one did.
    async fn claim_names(&mut self, changes: &[Change]) -> Result<()> {
        let shared = self.shared.clone();
        let temporary = self.temporary;
        let tx = self.transaction()?.tx()?;
        let catalog = tx.catalog();
        let mut claimed = Vec::new();
        for change in changes {
            let Change::Put(object) = change else { continue };
            let Some(schema) = object.relation_schema().filter(|schema| Some(*schema) != temporary) else {
                continue;
            };
            let known = catalog.get(object.oid());
            if !known.is_some_and(|k| k.relation_schema() == Some(schema) && k.name() == object.name()) {
                claimed.push((schema, object));
            }
        }
        for (schema, object) in &claimed {
            Session::interruptible(&shared, tx.lock_name(*schema, object.name())).await?;
        }
        let catalog = tx.catalog();
        for (schema, object) in claimed {
            let Some(other) = catalog.relation(schema, object.name()) else { continue };
            let gives_way = changes.iter().any(|change| match change {
                Change::Drop(oid) => *oid == other.oid(),
                Change::Put(put) => put.oid() == other.oid(),
            });
            if !gives_way {
                return Err(Error::new(
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{}\" already exists", object.name()),
                ));
            }
        }
        Ok(())
    }

    /// Publishes a catalog change of this statement.
    pub(crate) async fn change_catalog(&mut self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.claim_names(&changes).await?;
        self.local_version += 1;
        let block = self.transaction()?;
        block.tx()?.change_catalog(changes)
    }

    /// The schema of this session's temporary objects, made at first use.
    pub(crate) fn temporary_schema(&mut self) -> Oid {
        match self.temporary {
            Some(schema) => schema,
            None => {
                let schema = self.database.engine.new_oid();
                self.temporary = Some(schema);
                self.database.temporary_schemas.lock().insert(self.shared.pid, schema);
                self.local_version += 1;
                schema
            }
        }
    }
}

fn chain_modes(block: &Block) -> Modes {
    Modes {
        isolation: Some(block.isolation),
        uncommitted: block.uncommitted,
        read_only: Some(block.read_only),
        deferrable: Some(block.deferrable),
    }
}
