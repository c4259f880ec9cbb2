//! The dispatch of utility statements, and what they give back.

use std::collections::VecDeque;
use std::sync::Arc;

use session::Column;
use value::types::oid;
use value::{Datum, Error, Result, SqlState};

use super::{Portal, PortalState, Prepared, Session, plain_column};
use crate::audit;
use crate::command;
use crate::setting::LogStatement;
use crate::statement::*;

/// What a utility statement gives.
pub enum Outcome {
    Tag(String),
    Rows {
        rows: Vec<Vec<Datum>>,
        tag: String,
    },
    /// The tag ends in the number of rows (FETCH).
    Counted {
        rows: VecDeque<Vec<Datum>>,
        tag: String,
    },
    /// Goes on as a query (EXECUTE).
    State(PortalState),
    CopyIn(Box<command::copy::CopyIn>),
    CopyOut(Box<command::copy::CopyOut>),
}

fn tag(text: &str) -> Result<Outcome> {
    Ok(Outcome::Tag(text.to_string()))
}

impl Session {
    /// The columns of a utility's rows, known before it runs.
    pub(crate) fn utility_columns(&mut self, statement: &Statement) -> Result<Option<Vec<Column>>> {
        Ok(match statement {
            Statement::Show(Some(name)) => {
                let name = crate::setting::find(name).map_or(name.as_str(), |s| s.name).to_string();
                Some(vec![plain_column(&name, oid::TEXT)])
            }
            Statement::Show(None) => {
                Some(["name", "setting", "description"].map(|n| plain_column(n, oid::TEXT)).to_vec())
            }
            Statement::Explain { options, .. } => {
                Some(vec![plain_column("QUERY PLAN", if options.json { oid::JSON } else { oid::TEXT })])
            }
            Statement::Execute { name, .. } => {
                let prepared = self.statements.get(name).ok_or_else(|| missing_statement(name))?;
                prepared.columns.as_ref().map(|c| c.to_vec())
            }
            Statement::Fetch { name, movement: false, .. } => {
                let portal = self.portals.get(name).ok_or_else(|| {
                    Error::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
                })?;
                portal.columns.as_ref().map(|c| c.to_vec())
            }
            _ => None,
        })
    }

    /// Runs a utility statement.
    pub(crate) async fn run_utility(
        &mut self,
        parsed: &super::Parsed,
        prepared: &Arc<Prepared>,
        parameters: Arc<[Datum]>,
    ) -> Result<Outcome> {
        let statement = &*parsed.statement;
        if let Some(what) = changes_something(statement)
            && self.block.as_ref().map_or_else(|| self.effective().read_only, |b| b.read_only)
        {
            return Err(Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {what} in a read-only transaction"),
            ));
        }
        let result = self.dispatch(parsed, prepared, parameters).await;
        if let Some(what) = changes_something(statement)
            && !matches!(statement, Statement::Copy(_))
        {
            audit::statement(self, what, &parsed.text, result.as_ref().err());
        }
        result
    }

    async fn dispatch(
        &mut self,
        parsed: &super::Parsed,
        prepared: &Arc<Prepared>,
        parameters: Arc<[Datum]>,
    ) -> Result<Outcome> {
        match &*parsed.statement {
            Statement::Query(_) => Err(Error::internal("a query is no utility statement")),
            Statement::Begin(modes, word) => {
                self.begin(*modes)?;
                tag(word)
            }
            Statement::Commit { chain } => Ok(Outcome::Tag(self.commit(*chain).await?)),
            Statement::Rollback { chain } => Ok(Outcome::Tag(self.rollback(*chain)?)),
            Statement::Savepoint(name) => {
                self.savepoint(name)?;
                tag("SAVEPOINT")
            }
            Statement::Release(name) => {
                self.release(name)?;
                tag("RELEASE")
            }
            Statement::RollbackTo(name) => {
                self.rollback_to(name)?;
                tag("ROLLBACK")
            }
            Statement::SetTransaction { modes, session } => {
                command::set::set_transaction(self, *modes, *session)
            }
            Statement::SetConstraints { names, deferred } => {
                command::set::set_constraints(self, names.as_deref(), *deferred).await
            }
            Statement::Set { name, local, values } => {
                command::set::set(self, name, *local, values.as_deref())
            }
            Statement::Reset(name) => command::set::reset(self, name.as_deref()),
            Statement::Show(name) => command::set::show(self, name.as_deref()),
            Statement::SetRole { role, local } => {
                self.set_role(role.as_deref(), *local).map_err(as_parameter)?;
                tag("SET")
            }
            Statement::SetSessionAuthorization { role, local } => {
                command::set::session_authorization(self, role.as_deref(), *local).map_err(as_parameter)
            }
            Statement::CreateTable(table) => command::create_table::run(self, table).await,
            Statement::CreateTableAs { .. } => command::create_table_as::run(self, &parsed.statement).await,
            Statement::CreateIndex(index) => command::create_index::run(self, index).await,
            Statement::CreateView { name, columns, temporary, or_replace, query } => {
                command::view::create(self, name, columns, *temporary, *or_replace, query).await
            }
            Statement::CreateSequence { name, temporary, if_not_exists, options } => {
                command::sequence::create(self, name, *temporary, *if_not_exists, options).await
            }
            Statement::CreateSchema { name, if_not_exists, owner, .. } => {
                command::schema::create(self, name.as_deref(), *if_not_exists, owner.as_deref()).await
            }
            Statement::CreateDatabase { name, options } => {
                command::database::create(self, name, options).await
            }
            Statement::CreateRole { name, login, options } => {
                command::role::create(self, name, *login, options).await
            }
            Statement::CreateExtension { name, if_not_exists } => {
                command::schema::create_extension(self, name, *if_not_exists)
            }
            Statement::AlterTable { kind, name, if_exists, actions } => {
                command::alter_table::run(self, *kind, name, *if_exists, actions).await
            }
            Statement::AlterSequence { name, if_exists, options } => {
                command::sequence::alter(self, name, *if_exists, options).await
            }
            Statement::AlterRole { name, options, rename } => {
                command::role::alter(self, name, options, rename.as_deref()).await
            }
            Statement::AlterSetting { role, target, setting, values } => {
                command::role::alter_setting(self, *role, target, setting.as_deref(), values.as_deref()).await
            }
            Statement::AlterDatabase { name, action } => command::database::alter(self, name, action).await,
            Statement::AlterSchema { name, action } => command::schema::alter(self, name, action).await,
            Statement::AlterSystem => Err(Error::unsupported(
                "ALTER SYSTEM",
                "Change the server's configuration file, or use ALTER ROLE or ALTER DATABASE ... SET.",
            )),
            Statement::AlterDefaultPrivileges => Err(Error::unsupported(
                "ALTER DEFAULT PRIVILEGES",
                "GRANT on the objects after creating them.",
            )),
            Statement::Drop { kind, names, if_exists, cascade } => {
                command::drop::run(self, *kind, names, *if_exists, *cascade).await
            }
            Statement::Truncate { names, restart_identity, cascade } => {
                command::truncate::run(self, names, *restart_identity, *cascade).await
            }
            Statement::Comment { target, text } => command::comment::run(self, target, text.as_deref()).await,
            Statement::Grant(grant) => command::grant::run(self, grant).await,
            Statement::GrantRole { grant, roles, members, admin, option_only } => {
                command::role::membership(self, *grant, roles, members, *admin, *option_only).await
            }
            Statement::Prepare { name, types, statement } => {
                command::prepare::prepare(self, name, types, statement)
            }
            Statement::Execute { name, arguments } => command::prepare::execute(self, name, arguments).await,
            Statement::Deallocate(name) => command::prepare::deallocate(self, name.as_deref()),
            Statement::Explain { options, statement } => {
                command::explain::run(self, *options, statement, prepared, parameters).await
            }
            Statement::Declare { name, hold, scroll, binary, query } => {
                self.declare(name, *hold, *scroll, *binary, query, &parsed.text).await
            }
            Statement::Fetch { name, direction, movement } => {
                self.fetch_cursor(name, *direction, *movement).await
            }
            Statement::Close(name) => self.close_cursor(name.as_deref()),
            Statement::Copy(copy) => command::copy::run(self, copy).await,
            Statement::Lock { names, mode, no_wait } => command::lock::run(self, names, mode, *no_wait).await,
            Statement::Listen(channel) => command::notify::listen(self, channel),
            Statement::Unlisten(channel) => command::notify::unlisten(self, channel.as_deref()),
            Statement::Notify { channel, payload } => {
                command::notify::notify(self, channel, payload.as_deref())
            }
            Statement::Discard(what) => command::set::discard(self, what).await,
            Statement::Analyze { tables, .. } => command::analyze::run(self, tables).await,
            Statement::Vacuum { tables, analyze, .. } => {
                command::analyze::vacuum(self, tables, *analyze).await
            }
            Statement::Checkpoint => command::analyze::checkpoint(self),
            Statement::Reindex { kind, name, concurrently } => {
                command::create_index::reindex(self, kind, name.as_ref(), *concurrently).await
            }
            Statement::Cluster => tag("CLUSTER"),
            Statement::DropOwned => {
                Err(Error::unsupported("DROP OWNED", "Drop the objects, and REVOKE, one by one."))
            }
            Statement::ReassignOwned => {
                Err(Error::unsupported("REASSIGN OWNED", "Use ALTER ... OWNER TO for each object."))
            }
            Statement::Unsupported { what, instead } => Err(Error::unsupported(what, *instead)),
        }
    }

    /// Runs a query to its end and gives all its rows.
    pub(crate) async fn collect(&mut self, portal: &mut Portal) -> Result<Vec<Vec<Datum>>> {
        let mut all = Vec::new();
        while let Some(rows) = self.rows_of(&mut portal.state, 1024).await? {
            let width = rows.columns;
            if width == 0 {
                all.extend(std::iter::repeat_n(Vec::new(), rows.count));
            } else {
                let mut values = rows.values.into_iter();
                for _ in 0..rows.count {
                    all.push(values.by_ref().take(width).collect());
                }
            }
            self.shared.cancel.check()?;
        }
        Ok(all)
    }
}

pub(crate) fn missing_statement(name: &str) -> Error {
    Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
}

/// A role that is not there is a wrong value of a setting here (22023), not a missing object.
fn as_parameter(error: Error) -> Error {
    if error.state() == SqlState::UNDEFINED_OBJECT {
        Error::new(SqlState::INVALID_PARAMETER_VALUE, error.message())
    } else {
        error
    }
}

/// Whether it goes over all rows of a table with nothing in between that gives others their turn for certain.
pub(super) fn takes_long(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateIndex(_) | Statement::Reindex { .. } | Statement::AlterTable { .. })
}

/// What `log_statement` counts a statement as.
pub(super) fn log_class(statement: &Statement) -> LogStatement {
    match statement {
        Statement::Query(query) if query.is_query() => LogStatement::All,
        Statement::Query(_) => LogStatement::Mod,
        Statement::Copy(copy) if copy.from => LogStatement::Mod,
        Statement::Truncate { .. } => LogStatement::Mod,
        Statement::Reindex { .. } => LogStatement::All,
        other if changes_something(other).is_some() => LogStatement::Ddl,
        _ => LogStatement::All,
    }
}

/// The words of a statement that changes the catalog or data: for read-only transactions and the audit log.
fn changes_something(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::CreateTableAs { .. } => "CREATE TABLE AS",
        Statement::CreateIndex(_) => "CREATE INDEX",
        Statement::CreateView { .. } => "CREATE VIEW",
        Statement::CreateSequence { .. } => "CREATE SEQUENCE",
        Statement::CreateSchema { .. } => "CREATE SCHEMA",
        Statement::CreateDatabase { .. } => "CREATE DATABASE",
        Statement::CreateRole { .. } => "CREATE ROLE",
        Statement::CreateExtension { .. } => "CREATE EXTENSION",
        Statement::AlterTable { .. } => "ALTER TABLE",
        Statement::AlterSequence { .. } => "ALTER SEQUENCE",
        Statement::AlterRole { .. } => "ALTER ROLE",
        Statement::AlterSetting { role: true, .. } => "ALTER ROLE",
        Statement::AlterSetting { .. } | Statement::AlterDatabase { .. } => "ALTER DATABASE",
        Statement::AlterSchema { .. } => "ALTER SCHEMA",
        Statement::Drop { kind, .. } => match kind {
            ObjectKind::Table => "DROP TABLE",
            ObjectKind::Index => "DROP INDEX",
            ObjectKind::View => "DROP VIEW",
            ObjectKind::Sequence => "DROP SEQUENCE",
            ObjectKind::Schema => "DROP SCHEMA",
            ObjectKind::Database => "DROP DATABASE",
            ObjectKind::Role => "DROP ROLE",
            _ => "DROP",
        },
        Statement::Truncate { .. } => "TRUNCATE TABLE",
        Statement::Comment { .. } => "COMMENT",
        Statement::Grant(grant) => {
            if grant.grant {
                "GRANT"
            } else {
                "REVOKE"
            }
        }
        Statement::GrantRole { grant, .. } => {
            if *grant {
                "GRANT ROLE"
            } else {
                "REVOKE ROLE"
            }
        }
        Statement::Reindex { .. } => "REINDEX",
        Statement::Copy(copy) if copy.from => "COPY FROM",
        _ => return None,
    })
}
