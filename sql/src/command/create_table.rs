//! CREATE TABLE, and the parts of it that ALTER TABLE shares: columns, constraints, defaults, sequences of columns.

use std::collections::HashSet;
use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{
    Change, Column, Constraint, ConstraintKind, ForeignKey, Identity, Index, IndexKey, IndexKind, IndexState,
    Object, Persistence, Sequence, Table,
};
use resolve::Purpose;
use value::types::{self, oid};
use value::{Error, Oid, Result, SqlState, Type};

use super::{find_relation, free_name, must_be_free, persistence};
use crate::grammar::error_shifted;
use crate::lex::{self, Kind};
use crate::privilege;
use crate::rules;
use crate::scope::Scope;
use crate::session::{Outcome, Session};
use crate::statement::*;

/// Columns a table may have, as PostgreSQL's limit.
const MOST_COLUMNS: usize = 1600;

/// A table being made or altered, with everything that comes with it.
pub struct Builder {
    pub scope: Arc<Scope>,
    pub table: Table,
    /// New objects besides the table.
    pub objects: Vec<Object>,
    pub taken: HashSet<String>,
    /// Foreign keys wait until all columns and keys are known.
    foreign: Vec<TableConstraint>,
    /// Indexes made, in order.
    pub indexes: Vec<Index>,
}

/// What ON COMMIT says: 42P16 for a table that stays.
pub fn on_commit(asked: Option<OnCommit>, temporary: bool) -> Result<OnCommit> {
    if asked.is_some() && !temporary {
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "ON COMMIT can only be used on temporary tables",
        ));
    }
    Ok(asked.unwrap_or_default())
}

pub async fn run(session: &mut Session, statement: &CreateTable) -> Result<Outcome> {
    let done = Outcome::Tag("CREATE TABLE".into());
    let temporary = statement.temporary || statement.name.schema.as_deref() == Some("pg_temp");
    let on_commit = on_commit(statement.on_commit, temporary)?;
    let schema = session.schema_for(&statement.name, temporary).await?;
    let scope = session.scope()?;
    if let Some(existing) = scope.catalog.relation(schema, &statement.name.name) {
        if statement.if_not_exists {
            session.notice(
                "NOTICE",
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{}\" already exists, skipping", existing.name()),
            );
            return Ok(done);
        }
        must_be_free(&scope.catalog, schema, &statement.name.name)?;
    }
    let engine = session.database.engine.clone();
    let mut builder = Builder {
        table: Table {
            oid: engine.new_oid(),
            database: session.shared.database,
            schema,
            name: statement.name.name.clone(),
            owner: scope.role,
            storage: engine.new_storage_id(),
            persistence: persistence(&scope, schema),
            columns: Vec::new(),
            constraints: Vec::new(),
            acl: None,
            comment: None,
            options: statement.options.iter().cloned().collect(),
            on_commit,
        },
        scope: scope.clone(),
        objects: Vec::new(),
        taken: HashSet::from([statement.name.name.clone()]),
        foreign: Vec::new(),
        indexes: Vec::new(),
    };
    let mut constraints: Vec<TableConstraint> = Vec::new();
    let mut likes = Vec::new();
    for place in 0..=statement.columns.len() {
        for like in statement.like.iter().filter(|l| l.after == place) {
            let source = super::table(&scope, &like.name)?;
            privilege::check_table(&scope.catalog, scope.role, &source, 'r')?;
            builder.like(session, like, &source, &mut constraints)?;
            if like.indexes {
                likes.push(source);
            }
        }
        if let Some(column) = statement.columns.get(place) {
            builder.column(session, column)?;
            constraints.extend(column.constraints.iter().cloned());
        }
    }
    constraints.extend(statement.constraints.iter().cloned());
    // Keys come first: foreign keys of the table to itself need them.
    for constraint in constraints {
        builder.constraint(session, constraint)?;
    }
    for source in likes {
        builder.like_indexes(session, &source)?;
    }
    builder.foreign_keys(session).await?;
    builder.check_expressions()?;
    let changes = builder.changes();
    session.change_catalog(changes).await?;
    Ok(done)
}

impl Builder {
    /// For a table that exists: its columns and constraints may be added to.
    pub fn of(scope: &Arc<Scope>, table: &Table) -> Builder {
        Builder {
            scope: scope.clone(),
            table: table.clone(),
            objects: Vec::new(),
            taken: HashSet::new(),
            foreign: Vec::new(),
            indexes: Vec::new(),
        }
    }

    pub fn changes(self) -> Vec<Change> {
        let mut changes = vec![Change::Put(Object::Table(Arc::new(self.table)))];
        changes.extend(self.objects.into_iter().map(Change::Put));
        changes.extend(self.indexes.into_iter().map(|i| Change::Put(Object::Index(Arc::new(i)))));
        changes
    }

    fn column_number(&self) -> i16 {
        self.table.columns.len() as i16 + 1
    }

    /// Adds a column; its constraints are the caller's business.
    pub fn column(&mut self, session: &mut Session, definition: &ColumnDefinition) -> Result<()> {
        if self.table.column(&definition.name).is_some() {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", definition.name),
            ));
        }
        check_column_name(&definition.name)?;
        if self.table.columns.len() >= MOST_COLUMNS {
            return Err(Error::new(
                SqlState::TOO_MANY_COLUMNS,
                format!("tables can have at most {MOST_COLUMNS} columns"),
            ));
        }
        let (ty, serial) = match definition.ty {
            TypeName::Known(ty) => (ty, false),
            TypeName::Serial(ty) => (ty, true),
        };
        let info = types::info(ty.oid);
        if info.is_none_or(|i| i.kind == types::TypeKind::Pseudo || i.repr == types::Repr::None) {
            return Err(Error::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("column \"{}\" has pseudo-type {}", definition.name, types::format_type(ty.oid, -1)),
            ));
        }
        if definition.not_null && definition.null {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!(
                    "conflicting NULL/NOT NULL declarations for column \"{}\" of table \"{}\"",
                    definition.name, self.table.name
                ),
            ));
        }
        let mut column = Column {
            number: self.column_number(),
            name: definition.name.clone(),
            type_oid: ty.oid,
            typmod: ty.typmod,
            not_null: definition.not_null || serial || definition.identity.is_some(),
            default: None,
            identity: None,
            generated: false,
            dropped: false,
            hidden: false,
            missing: None,
            comment: None,
            acl: None,
        };
        if serial {
            if definition.default.is_some() {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!(
                        "multiple default values specified for column \"{}\" of table \"{}\"",
                        definition.name, self.table.name
                    ),
                ));
            }
            let options = SequenceOptions { ty: Some(ty), ..SequenceOptions::default() };
            let sequence = self.owned_sequence(session, &column, &options)?;
            column.default = Some(format!("nextval('{sequence}'::regclass)"));
        }
        if let Some(default) = &definition.default {
            column.default = default_text(&self.scope, default, ty)?;
        }
        if let Some((identity, options)) = &definition.identity {
            self.add_identity(session, &mut column, *identity, options, definition.default.is_some())?;
        }
        if let Some(generated) = &definition.generated {
            if column.default.is_some() || column.identity.is_some() {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!(
                        "both default and generation expression specified for column \"{}\" of table \"{}\"",
                        definition.name, self.table.name
                    ),
                ));
            }
            column.default = Some(generated.text.clone());
            column.generated = true;
        }
        self.table.columns.push(column);
        Ok(())
    }

    pub fn add_identity(
        &mut self,
        session: &mut Session,
        column: &mut Column,
        identity: Identity,
        options: &SequenceOptions,
        has_default: bool,
    ) -> Result<()> {
        if has_default {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!(
                    "both default and identity specified for column \"{}\" of table \"{}\"",
                    column.name, self.table.name
                ),
            ));
        }
        if !matches!(column.type_oid, oid::INT2 | oid::INT4 | oid::INT8) {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        let options = SequenceOptions { ty: Some(Type::new(column.type_oid)), ..options.clone() };
        let sequence = self.owned_sequence(session, column, &options)?;
        column.default = Some(format!("nextval('{sequence}'::regclass)"));
        column.identity = Some(identity);
        column.not_null = true;
        Ok(())
    }

    /// A sequence that lives and dies with a column.
    fn owned_sequence(
        &mut self,
        session: &mut Session,
        column: &Column,
        options: &SequenceOptions,
    ) -> Result<Oid> {
        let name = match &options.name {
            Some(name) => name.name.clone(),
            None => free_name(
                &self.scope.catalog,
                self.table.schema,
                &mut self.taken,
                &self.table.name,
                &column.name,
                "seq",
            ),
        };
        let mut sequence = Sequence {
            oid: session.database.engine.new_oid(),
            database: self.table.database,
            schema: self.table.schema,
            name,
            owner: self.table.owner,
            type_oid: options.ty.map_or(oid::INT8, |t| t.oid),
            start: 1,
            increment: 1,
            minimum: 1,
            maximum: i64::MAX,
            cache: 1,
            cycle: false,
            generation: 0,
            owned_by: Some((self.table.oid, column.number)),
            acl: None,
            comment: None,
        };
        super::sequence::apply(&mut sequence, options, true)?;
        let oid = sequence.oid;
        self.objects.push(Object::Sequence(Arc::new(sequence)));
        Ok(oid)
    }

    fn find_column(&self, name: &str) -> Result<i16> {
        match self.table.column(name) {
            Some((_, column)) => Ok(column.number),
            None => Err(Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" named in key does not exist"),
            )),
        }
    }

    fn constraint_name_free(&self, name: &str) -> Result<()> {
        if self.table.constraints.iter().any(|c| c.name == name) {
            return Err(Error::new(
                SqlState::DUPLICATE_OBJECT,
                format!("constraint \"{name}\" for relation \"{}\" already exists", self.table.name),
            ));
        }
        Ok(())
    }

    fn free_constraint_name(&mut self, column: &str, suffix: &str) -> String {
        let mut pass = 0;
        loop {
            let tail = if pass == 0 { suffix.to_string() } else { format!("{suffix}{pass}") };
            let name = super::made_name(&self.table.name, column, &tail);
            if self.constraint_name_free(&name).is_ok() {
                return name;
            }
            pass += 1;
        }
    }

    /// Adds a key or check; foreign keys are kept for [`Builder::foreign_keys`].
    pub fn constraint(&mut self, session: &mut Session, constraint: TableConstraint) -> Result<()> {
        if let Some(name) = &constraint.name {
            // A key is an index, too, and its name is taken as an index's.
            if let ConstraintForm::Unique { using_index: None, .. } = &constraint.kind {
                super::must_be_free(&session.scope()?.catalog, self.table.schema, name)?;
            }
            self.constraint_name_free(name)?;
        }
        let (deferrable, initially_deferred) = (constraint.deferrable, constraint.initially_deferred);
        match &constraint.kind {
            ConstraintForm::Foreign { .. } => {
                self.foreign.push(constraint);
                Ok(())
            }
            ConstraintForm::Check(fragment) => {
                let columns = columns_named(&self.table, &fragment.text);
                let base = match columns.as_slice() {
                    [one] => one.clone(),
                    _ => String::new(),
                };
                let name = match constraint.name {
                    Some(name) => name,
                    None => self.free_constraint_name(&base, "check"),
                };
                let table = Arc::new(self.table.clone());
                rules::expression(
                    &*self.scope,
                    Some(&table),
                    &fragment.text,
                    Purpose::Check,
                    Some(Type::new(oid::BOOL)),
                )
                .map_err(|e| error_shifted(e, fragment.offset))?;
                self.table.constraints.push(Constraint {
                    oid: session.database.engine.new_oid(),
                    name,
                    kind: ConstraintKind::Check { expression: lex::inner(&fragment.text).to_string() },
                    deferrable: false,
                    initially_deferred: false,
                    validated: !constraint.not_valid,
                    comment: None,
                });
                Ok(())
            }
            ConstraintForm::Unique { columns, include, primary, nulls_distinct, using_index } => {
                if *primary
                    && self.table.constraints.iter().any(|c| matches!(c.kind, ConstraintKind::Primary { .. }))
                {
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!("multiple primary keys for table \"{}\" are not allowed", self.table.name),
                    ));
                }
                if let Some(index) = using_index {
                    return self.constraint_from_index(session, &constraint, index, *primary);
                }
                let mut numbers = Vec::new();
                for column in columns {
                    let number = self.find_column(column)?;
                    if numbers.contains(&number) {
                        return Err(Error::new(
                            SqlState::DUPLICATE_COLUMN,
                            format!(
                                "column \"{column}\" appears twice in {} constraint",
                                if *primary { "primary key" } else { "unique" }
                            ),
                        ));
                    }
                    numbers.push(number);
                }
                let include: Vec<i16> = include.iter().map(|c| self.find_column(c)).collect::<Result<_>>()?;
                let name = match &constraint.name {
                    Some(name) => {
                        must_be_free(&self.scope.catalog, self.table.schema, name)?;
                        self.taken.insert(name.clone());
                        name.clone()
                    }
                    None => {
                        let (column, suffix) =
                            if *primary { (String::new(), "pkey") } else { (columns.join("_"), "key") };
                        free_name(
                            &self.scope.catalog,
                            self.table.schema,
                            &mut self.taken,
                            &self.table.name,
                            &column,
                            suffix,
                        )
                    }
                };
                for number in &numbers {
                    let column = &mut self.table.columns[*number as usize - 1];
                    if *primary {
                        column.not_null = true;
                    }
                    check_indexable(column.type_oid)?;
                }
                let index = Index {
                    oid: session.database.engine.new_oid(),
                    database: self.table.database,
                    schema: self.table.schema,
                    table: self.table.oid,
                    name: name.clone(),
                    owner: self.table.owner,
                    storage: session.database.engine.new_storage_id(),
                    kind: IndexKind::BTree,
                    keys: numbers
                        .iter()
                        .map(|number| IndexKey {
                            column: *number,
                            descending: false,
                            nulls_first: false,
                            expression: None,
                        })
                        .collect(),
                    include,
                    unique: true,
                    primary: *primary,
                    nulls_distinct: *nulls_distinct,
                    predicate: None,
                    state: IndexState::Ready,
                    comment: None,
                };
                let kind = if *primary {
                    ConstraintKind::Primary { index: index.oid }
                } else {
                    ConstraintKind::Unique { index: index.oid }
                };
                self.indexes.push(index);
                self.table.constraints.push(Constraint {
                    oid: session.database.engine.new_oid(),
                    name,
                    kind,
                    deferrable,
                    initially_deferred,
                    validated: true,
                    comment: None,
                });
                Ok(())
            }
        }
    }

    fn constraint_from_index(
        &mut self,
        session: &mut Session,
        constraint: &TableConstraint,
        index: &str,
        primary: bool,
    ) -> Result<()> {
        let found = self.scope.catalog.indexes(self.table.oid).find(|i| i.name == index).cloned();
        let Some(found) = found else {
            return Err(Error::new(SqlState::UNDEFINED_OBJECT, format!("index \"{index}\" does not exist")));
        };
        if !found.unique || found.predicate.is_some() || found.keys.iter().any(|k| k.expression.is_some()) {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{index}\" is not a plain unique index"),
            )
            .detail("Cannot create a primary key or unique constraint using such an index."));
        }
        let name = constraint.name.clone().unwrap_or_else(|| index.to_string());
        let mut changed = (*found).clone();
        changed.name = name.clone();
        changed.primary = primary;
        if primary {
            for key in &changed.keys {
                self.table.columns[key.column as usize - 1].not_null = true;
            }
        }
        let oid = changed.oid;
        self.objects.push(Object::Index(Arc::new(changed)));
        self.table.constraints.push(Constraint {
            oid: session.database.engine.new_oid(),
            name,
            kind: if primary {
                ConstraintKind::Primary { index: oid }
            } else {
                ConstraintKind::Unique { index: oid }
            },
            deferrable: constraint.deferrable,
            initially_deferred: constraint.initially_deferred,
            validated: true,
            comment: None,
        });
        Ok(())
    }

    /// Resolves the foreign keys that were kept. Gives the new constraints' names.
    pub async fn foreign_keys(&mut self, session: &mut Session) -> Result<Vec<String>> {
        let mut made = Vec::new();
        for constraint in std::mem::take(&mut self.foreign) {
            let ConstraintForm::Foreign { columns, table, referenced, match_full, on_update, on_delete } =
                &constraint.kind
            else {
                continue;
            };
            let itself = table.name == self.table.name
                && match &table.schema {
                    Some(schema) => self.scope.schema_oid(schema) == Some(self.table.schema),
                    None => find_relation(&self.scope, table).is_none_or(|o| o.oid() == self.table.oid),
                };
            let target =
                if itself { Arc::new(self.table.clone()) } else { super::table(&self.scope, table)? };
            if !itself {
                if (target.persistence == Persistence::Temporary)
                    != (self.table.persistence == Persistence::Temporary)
                {
                    let (own, other) = if self.table.persistence == Persistence::Temporary {
                        ("temporary", "temporary")
                    } else {
                        ("permanent", "permanent")
                    };
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!("constraints on {own} tables may reference only {other} tables"),
                    ));
                }
                privilege::check_table(&self.scope.catalog, self.scope.role, &target, 'x')?;
                session.lock(target.oid, TableLockMode::ShareRowExclusive).await?;
            }
            let mut own = Vec::new();
            for column in columns {
                let (_, column) = self.table.column(column).ok_or_else(|| {
                    Error::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{column}\" referenced in foreign key constraint does not exist"),
                    )
                })?;
                own.push((column.number, column.type_oid, column.name.clone()));
            }
            let indexes: Vec<Index> = if itself {
                self.indexes
                    .iter()
                    .cloned()
                    .chain(self.scope.catalog.indexes(self.table.oid).map(|i| (**i).clone()))
                    .collect()
            } else {
                self.scope.catalog.indexes(target.oid).map(|i| (**i).clone()).collect()
            };
            let numbers: Vec<i16> = if referenced.is_empty() {
                match indexes.iter().find(|i| i.primary) {
                    Some(primary) => primary.keys.iter().map(|k| k.column).collect(),
                    None => {
                        return Err(Error::new(
                            SqlState::UNDEFINED_OBJECT,
                            format!("there is no primary key for referenced table \"{}\"", target.name),
                        ));
                    }
                }
            } else {
                let mut numbers = Vec::new();
                for column in referenced {
                    let (_, column) = target.column(column).ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_COLUMN,
                            format!(
                                "column \"{column}\" referenced in foreign key constraint does not exist"
                            ),
                        )
                    })?;
                    numbers.push(column.number);
                }
                numbers
            };
            if numbers.len() != own.len() {
                return Err(Error::new(
                    SqlState::INVALID_FOREIGN_KEY,
                    "number of referencing and referenced columns for foreign key disagree",
                ));
            }
            let key = indexes.iter().find(|index| {
                index.unique
                    && index.predicate.is_none()
                    && index.keys.len() == numbers.len()
                    && index.keys.iter().all(|k| k.expression.is_none() && numbers.contains(&k.column))
            });
            let Some(key) = key else {
                return Err(Error::new(
                    SqlState::INVALID_FOREIGN_KEY,
                    format!(
                        "there is no unique constraint matching given keys for referenced table \"{}\"",
                        target.name
                    ),
                ));
            };
            if target.is_deferrable(key.oid) {
                let kind = if referenced.is_empty() { "primary key" } else { "unique constraint" };
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("cannot use a deferrable {kind} for referenced table \"{}\"", target.name),
                ));
            }
            let name = match &constraint.name {
                Some(name) => name.clone(),
                None => self.free_constraint_name(&columns.join("_"), "fkey"),
            };
            for ((_, ty, column), number) in own.iter().zip(&numbers) {
                let Some(other) = target.columns.get(*number as usize - 1) else { continue };
                let comparable = *ty == other.type_oid
                    || function::select_operator("=", Some(*ty), other.type_oid).is_ok();
                if !comparable {
                    return Err(Error::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!("foreign key constraint \"{name}\" cannot be implemented"),
                    )
                    .detail(format!(
                        "Key columns \"{column}\" and \"{}\" are of incompatible types: {} and {}.",
                        other.name,
                        types::format_type(*ty, -1),
                        types::format_type(other.type_oid, -1)
                    )));
                }
            }
            // In the order of the index's keys, which is how rows are looked up.
            let mut pairs: Vec<(i16, i16)> = own.iter().map(|(n, ..)| *n).zip(numbers).collect();
            pairs.sort_by_key(|(_, n)| key.keys.iter().position(|k| k.column == *n));
            self.table.constraints.push(Constraint {
                oid: session.database.engine.new_oid(),
                name: name.clone(),
                kind: ConstraintKind::Foreign(ForeignKey {
                    columns: pairs.iter().map(|p| p.0).collect(),
                    referenced_table: target.oid,
                    referenced_columns: pairs.iter().map(|p| p.1).collect(),
                    referenced_index: key.oid,
                    on_update: *on_update,
                    on_delete: *on_delete,
                    match_full: *match_full,
                }),
                deferrable: constraint.deferrable,
                initially_deferred: constraint.initially_deferred,
                validated: !constraint.not_valid,
                comment: None,
            });
            made.push(name);
        }
        Ok(made)
    }

    /// Generated columns are resolved when all columns are known.
    pub fn check_expressions(&self) -> Result<()> {
        let table = Arc::new(self.table.clone());
        for column in &self.table.columns {
            if column.generated
                && let Some(text) = &column.default
            {
                rules::expression(&*self.scope, Some(&table), text, Purpose::Generated, Some(column.ty()))?;
                for other in columns_named(&self.table, text) {
                    if self.table.column(&other).is_some_and(|(_, c)| c.generated) {
                        return Err(Error::new(
                            SqlState::INVALID_OBJECT_DEFINITION,
                            format!(
                                "cannot use generated column \"{other}\" in column generation expression"
                            ),
                        )
                        .detail("A generated column cannot reference another generated column."));
                    }
                }
            }
        }
        Ok(())
    }

    fn like(
        &mut self,
        session: &mut Session,
        like: &Like,
        source: &Table,
        constraints: &mut Vec<TableConstraint>,
    ) -> Result<()> {
        for (_, column) in source.visible_columns() {
            let mut copy = Column {
                number: self.column_number(),
                default: None,
                identity: None,
                generated: false,
                missing: None,
                acl: None,
                comment: column.comment.clone().filter(|_| like.comments),
                ..column.clone()
            };
            if column.generated {
                if like.generated {
                    copy.default = column.default.clone();
                    copy.generated = true;
                }
            } else if let Some(identity) = column.identity {
                if like.identity {
                    self.add_identity(session, &mut copy, identity, &SequenceOptions::default(), false)?;
                }
            } else if like.defaults {
                copy.default = column.default.clone();
            }
            if self.table.column(&copy.name).is_some() {
                return Err(Error::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", copy.name),
                ));
            }
            self.table.columns.push(copy);
        }
        if like.constraints {
            for constraint in &source.constraints {
                if let ConstraintKind::Check { expression } = &constraint.kind {
                    constraints.push(TableConstraint {
                        name: Some(constraint.name.clone()),
                        kind: ConstraintForm::Check(Fragment { text: expression.clone(), offset: 0 }),
                        deferrable: false,
                        initially_deferred: false,
                        not_valid: false,
                    });
                }
            }
        }
        Ok(())
    }

    fn like_indexes(&mut self, session: &mut Session, source: &Table) -> Result<()> {
        let names = |numbers: &mut dyn Iterator<Item = i16>| -> Vec<String> {
            numbers.filter_map(|n| source.columns.get(n as usize - 1)).map(|c| c.name.clone()).collect()
        };
        let indexes: Vec<Arc<Index>> = self.scope.catalog.indexes(source.oid).cloned().collect();
        for index in indexes {
            if index.keys.iter().any(|k| k.expression.is_some()) || index.predicate.is_some() {
                continue;
            }
            let columns = names(&mut index.keys.iter().map(|k| k.column));
            let include = names(&mut index.include.iter().copied());
            let constrained = source.constraints.iter().any(|c| {
                matches!(c.kind, ConstraintKind::Primary { index: i } | ConstraintKind::Unique { index: i } if i == index.oid)
            });
            if constrained {
                self.constraint(
                    session,
                    TableConstraint {
                        name: None,
                        kind: ConstraintForm::Unique {
                            columns,
                            include,
                            primary: index.primary,
                            nulls_distinct: index.nulls_distinct,
                            using_index: None,
                        },
                        deferrable: false,
                        initially_deferred: false,
                        not_valid: false,
                    },
                )?;
                continue;
            }
            let name = free_name(
                &self.scope.catalog,
                self.table.schema,
                &mut self.taken,
                &self.table.name,
                &columns.join("_"),
                "idx",
            );
            let number = |n: i16| -> i16 {
                source
                    .columns
                    .get(n as usize - 1)
                    .and_then(|c| self.table.column(&c.name))
                    .map_or(0, |(_, c)| c.number)
            };
            let copy = Index {
                oid: session.database.engine.new_oid(),
                storage: session.database.engine.new_storage_id(),
                table: self.table.oid,
                schema: self.table.schema,
                owner: self.table.owner,
                name,
                keys: index.keys.iter().map(|k| IndexKey { column: number(k.column), ..k.clone() }).collect(),
                include: index.include.iter().map(|n| number(*n)).collect(),
                ..(*index).clone()
            };
            self.indexes.push(copy);
        }
        Ok(())
    }
}

/// 42701 for the names of system columns.
pub fn check_column_name(name: &str) -> Result<()> {
    if matches!(name, "tableoid" | "xmin" | "xmax" | "cmin" | "cmax" | "ctid") {
        return Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column name \"{name}\" conflicts with a system column name"),
        ));
    }
    Ok(())
}

/// 42704 for types without an order.
pub fn check_indexable(ty: Oid) -> Result<()> {
    if matches!(ty, oid::JSON) {
        return Err(Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("data type {} has no default operator class for access method \"btree\"", types::format_type(ty, -1)),
        )
        .hint("You must specify an operator class for the index or define a default operator class for the data type."));
    }
    Ok(())
}

/// The table's columns whose names occur in an expression.
pub fn columns_named(table: &Table, text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for token in lex::tokens(text).unwrap_or_default() {
        if let Kind::Word { text, .. } = token.kind
            && table.column(&text).is_some()
            && !out.contains(&text)
        {
            out.push(text);
        }
    }
    out
}

/// Checks a default and gives the text that is stored: sequences by oid, bare strings with their type. `None` for
/// DEFAULT NULL.
pub fn default_text(scope: &Arc<Scope>, fragment: &Fragment, ty: Type) -> Result<Option<String>> {
    rules::expression(&**scope, None, &fragment.text, Purpose::Default, Some(ty))
        .map_err(|e| error_shifted(e, fragment.offset))?;
    let tokens = lex::tokens(&fragment.text)?;
    if let [token] = tokens.as_slice() {
        match &token.kind {
            Kind::Text(text) => {
                let name = types::format_type(ty.oid, -1);
                return Ok(Some(format!("{}::{name}", lex::quote_text(text))));
            }
            Kind::Word { text, quoted: false } if text == "null" => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(with_sequence_oids(scope, &fragment.text)?))
}

/// Sequence names inside nextval and its kin become oids, so that a rename does not break them.
fn with_sequence_oids(scope: &Scope, text: &str) -> Result<String> {
    let tokens = lex::tokens(text)?;
    let mut out = text.to_string();
    for window in (0..tokens.len().saturating_sub(2)).rev() {
        let (call, open, literal) = (&tokens[window], &tokens[window + 1], &tokens[window + 2]);
        let Kind::Word { text: function, .. } = &call.kind else { continue };
        let Kind::Text(name) = &literal.kind else { continue };
        if !matches!(function.as_str(), "nextval" | "currval" | "setval")
            || &text[open.start..open.end] != "("
        {
            continue;
        }
        if name.parse::<u32>().is_ok() {
            continue;
        }
        let mut parts = crate::grammar::parse_name(name)?;
        let relation = parts.pop().unwrap_or_default();
        let name = Name { schema: parts.pop(), name: relation, position: 1 };
        let sequence = super::relation(scope, &name)?.oid();
        let cast = tokens.get(window + 3).is_some_and(|t| &text[t.start..t.end] == "::");
        let replacement = if cast { format!("'{sequence}'") } else { format!("'{sequence}'::regclass") };
        out.replace_range(literal.start..literal.end, &replacement);
    }
    Ok(out)
}

/// Sequences a stored default uses.
pub fn sequences_of(text: &str) -> Vec<Oid> {
    let mut out = Vec::new();
    for (n, _) in text.match_indices("'::regclass") {
        if let Some(start) = text[..n].rfind('\'')
            && let Ok(oid) = text[start + 1..n].parse()
        {
            out.push(oid);
        }
    }
    out
}
