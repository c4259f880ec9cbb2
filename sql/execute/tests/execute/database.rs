//! A database for tests: the engine on a temporary directory, with just enough DDL to make tables.

use std::sync::Arc;

use engine::catalog::*;
use engine::{Engine, Isolation, Options, TableStatistics, Transaction};
use execute::*;
use function::Environment;
use futures::executor::block_on;
use resolve::{Names, Parameters, SystemRelation, resolve_type};
use sqlparser::ast;
use value::text::Style;
use value::{Datum, Error, Oid, Result, text};

pub struct Database {
    pub engine: Engine,
    _directory: tempfile::TempDir,
}

pub struct Session {
    style: Style,
}

impl Environment for Session {
    fn style(&self) -> &Style {
        &self.style
    }
    fn transaction_time(&self) -> i64 {
        0
    }
    fn statement_time(&self) -> i64 {
        0
    }
    fn setting(&self, _name: &str) -> Option<String> {
        None
    }
    fn system(&self, function: &'static function::Function, _args: &[Datum]) -> Result<Datum> {
        Err(Error::internal(format!("{} in a test", function.name)))
    }
}

struct Scope {
    catalog: Arc<Catalog>,
    path: Vec<Oid>,
    session: Session,
}

impl Names for Scope {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }
    fn database(&self) -> Oid {
        oid::POSTGRES_DATABASE
    }
    fn search_path(&self) -> &[Oid] {
        &self.path
    }
    fn role(&self) -> Oid {
        oid::BOOTSTRAP_SUPERUSER
    }
    fn system_relation(&self, _schema: Option<&str>, _name: &str) -> Option<SystemRelation> {
        None
    }
    fn style(&self) -> &Style {
        self.session.style()
    }
    fn env(&self) -> &dyn Environment {
        &self.session
    }
}

fn scope(catalog: Arc<Catalog>) -> Scope {
    Scope { catalog, path: vec![oid::PG_CATALOG, oid::PUBLIC], session: Session { style: Style::default() } }
}

struct System {
    catalog: Arc<Catalog>,
}

fn slots(expr: resolve::tree::Expr) -> Result<resolve::tree::Expr> {
    match expr {
        resolve::tree::Expr::Column { column, ty, .. } => Ok(resolve::tree::Expr::Slot { index: column, ty }),
        other => plan::expr::map_children(other, &mut slots),
    }
}

impl SystemRelations for System {
    fn rows(&self, _schema: &str, name: &str, _columns: &[usize]) -> Result<Vec<Vec<Datum>>> {
        Err(Error::internal(format!("{name} in a test")))
    }

    fn rules(&self, table: &Arc<Table>) -> Result<Arc<TableRules>> {
        let scope = scope(self.catalog.clone());
        let mut rules = TableRules::default();
        let expression = |text: &str, purpose, target| {
            let parsed = resolve::parse_expression(text)?;
            let table = Some(table).filter(|_| purpose != resolve::Purpose::Default);
            slots(resolve::resolve_expression(
                &scope,
                &parsed,
                text,
                resolve::ExprScope { table, purpose },
                target,
            )?)
        };
        for (number, column) in table.columns.iter().enumerate() {
            if let Some(text) = &column.default {
                if column.generated {
                    let expr = expression(text, resolve::Purpose::Generated, Some(column.ty()))?;
                    rules.computed.push((number, expr));
                } else {
                    let expr = expression(text, resolve::Purpose::Default, Some(column.ty()))?;
                    rules.defaults.push((number, expr));
                }
            }
        }
        for constraint in &table.constraints {
            if let ConstraintKind::Check { expression: text } = &constraint.kind {
                let expr = expression(text, resolve::Purpose::Check, None)?;
                rules.checks.push(plan::ir::Check { name: constraint.name.clone(), expr });
            }
        }
        Ok(Arc::new(rules))
    }
}

/// What a statement gave.
#[derive(Debug)]
pub struct Answer {
    pub rows: Vec<String>,
    pub counters: Counters,
    pub deferred: Vec<DeferredCheck>,
}

/// The columns of `CREATE INDEX`.
struct NewIndex {
    name: String,
    columns: Vec<i16>,
    descending: Vec<bool>,
    unique: bool,
}

impl Database {
    pub fn new() -> Database {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path().join("data"));
        options.synchronous = false;
        let engine = Engine::open(options).unwrap();
        let mut tx = engine.begin(Isolation::ReadCommitted, false);
        let role = Role {
            oid: oid::BOOTSTRAP_SUPERUSER,
            name: "postgres".into(),
            superuser: true,
            inherit: true,
            create_role: true,
            create_db: true,
            login: true,
            replication: false,
            bypass_rls: true,
            connection_limit: -1,
            verifier: None,
            valid_until: None,
            member_of: Vec::new(),
            settings: Default::default(),
            comment: None,
        };
        let schema = |oid, name: &str| {
            Change::Put(Object::Schema(Schema {
                oid,
                database: oid::POSTGRES_DATABASE,
                name: name.into(),
                owner: oid::BOOTSTRAP_SUPERUSER,
                acl: None,
                comment: None,
            }))
        };
        tx.change_catalog(vec![
            Change::Put(Object::Role(Arc::new(role))),
            schema(oid::PUBLIC, "public"),
            schema(oid::PG_CATALOG, "pg_catalog"),
        ])
        .unwrap();
        tx.commit().unwrap().durable.wait().unwrap();
        Database { engine, _directory: directory }
    }

    pub fn begin(&self, isolation: Isolation) -> Transaction {
        self.engine.begin(isolation, false)
    }

    /// Runs statements, each in a transaction of its own, and gives the answer of the last.
    pub fn run(&self, sql: &str) -> Result<Answer> {
        let mut answer = None;
        for parsed in resolve::parse::statements(sql)? {
            let mut tx = self.begin(Isolation::ReadCommitted);
            let mut one = match self.statement(&mut tx, &parsed, &[]) {
                Ok(one) => one,
                Err(error) => {
                    tx.rollback();
                    return Err(error);
                }
            };
            let checks = std::mem::take(&mut one.deferred);
            let context = context(&mut tx, &[]);
            block_on(run_deferred(checks, &mut tx, context))?;
            tx.commit()?.durable.wait()?;
            answer = Some(one);
        }
        answer.ok_or_else(|| Error::internal("no statement"))
    }

    /// Runs one statement within a transaction.
    pub fn within(&self, tx: &mut Transaction, sql: &str) -> Result<Answer> {
        let parsed = resolve::parse::statements(sql)?;
        self.statement(tx, &parsed[0], &[])
    }

    pub fn statement(
        &self,
        tx: &mut Transaction,
        parsed: &resolve::Parsed,
        params: &[(Oid, Datum)],
    ) -> Result<Answer> {
        let none = || Answer { rows: Vec::new(), counters: Counters::default(), deferred: Vec::new() };
        match &*parsed.ast {
            ast::Statement::CreateTable(create) => {
                self.create_table(tx, create)?;
                return Ok(none());
            }
            ast::Statement::CreateIndex(create) => {
                self.create_index(tx, create)?;
                return Ok(none());
            }
            _ => {}
        }
        let plan = self.plan(tx, parsed, params)?;
        let values: Vec<Datum> = params.iter().map(|(_, value)| value.clone()).collect();
        let context = context(tx, &values);
        let mut out = Rows::default();
        let drives = plan.ctes.iter().any(|cte| cte.modifies)
            || plan.tables.iter().any(|table| table.lock != plan::ir::TableLock::AccessShare);
        let style = Style::default();
        let (counters, deferred);
        if drives {
            let mut driver = Driver::open(&plan, context)?;
            block_on(async {
                while driver.next(tx, 100, &mut out).await? {}
                Ok::<(), Error>(())
            })?;
            counters = driver.counters().clone();
            deferred = driver.take_deferred();
        } else {
            let mut cursor = open(&plan, context)?;
            while cursor.next(100, &mut out)? {}
            counters = cursor.counters().clone();
            deferred = Vec::new();
        }
        let rows = out
            .iter()
            .map(|row| {
                row.iter()
                    .zip(&plan.output)
                    .map(|(value, column)| match value {
                        Datum::Null => "~".to_owned(),
                        value => text::output_string(value, column.ty.oid, &style),
                    })
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect();
        Ok(Answer { rows, counters, deferred })
    }

    pub fn plan(
        &self,
        tx: &mut Transaction,
        parsed: &resolve::Parsed,
        params: &[(Oid, Datum)],
    ) -> Result<Arc<plan::ir::Plan>> {
        let scope = scope(tx.catalog());
        let types: Vec<Oid> = params.iter().map(|(ty, _)| *ty).collect();
        let mut parameters = Parameters::new(&types);
        let query = resolve::resolve(&scope, &parsed.ast, &parsed.source, &mut parameters)?;
        let engine = self.engine.clone();
        let statistics = move |table: &Table| -> Arc<TableStatistics> { engine.statistics(table) };
        Ok(Arc::new(plan::plan(&query, &plan::PlanContext { names: &scope, statistics: &statistics })?))
    }

    fn index(&self, table: &Table, new: NewIndex) -> Index {
        Index {
            oid: self.engine.new_oid(),
            database: table.database,
            schema: table.schema,
            table: table.oid,
            name: new.name.clone(),
            owner: table.owner,
            storage: self.engine.new_storage_id(),
            kind: IndexKind::BTree,
            keys: new
                .columns
                .iter()
                .zip(&new.descending)
                .map(|(column, descending)| IndexKey {
                    column: *column,
                    descending: *descending,
                    nulls_first: *descending,
                    expression: None,
                })
                .collect(),
            include: Vec::new(),
            unique: new.unique,
            primary: new.name.ends_with("_pkey"),
            nulls_distinct: true,
            predicate: None,
            state: IndexState::Ready,
            comment: None,
        }
    }

    fn create_index(&self, tx: &mut Transaction, create: &ast::CreateIndex) -> Result<()> {
        let catalog = tx.catalog();
        let name = create.table_name.to_string();
        let Some(Object::Table(table)) = catalog.relation(oid::PUBLIC, &name) else {
            return Err(Error::internal(name));
        };
        let (mut columns, mut descending) = (Vec::new(), Vec::new());
        for key in &create.columns {
            let text = key.column.expr.to_string();
            columns.push(table.column(&text).unwrap().1.number);
            descending.push(key.column.to_string().ends_with("DESC"));
        }
        let index = self.index(
            table,
            NewIndex {
                name: create.name.as_ref().unwrap().to_string(),
                columns,
                descending,
                unique: create.unique,
            },
        );
        tx.change_catalog(vec![Change::Put(Object::Index(Arc::new(index.clone())))])?;
        tx.build_index(&index, &|| Ok(()))
    }

    fn create_table(&self, tx: &mut Transaction, create: &ast::CreateTable) -> Result<()> {
        let catalog = tx.catalog();
        let scope = scope(catalog.clone());
        let name = create.name.to_string();
        let mut table = Table {
            oid: self.engine.new_oid(),
            database: oid::POSTGRES_DATABASE,
            schema: oid::PUBLIC,
            name: name.clone(),
            owner: oid::BOOTSTRAP_SUPERUSER,
            storage: self.engine.new_storage_id(),
            persistence: Persistence::Permanent,
            columns: Vec::new(),
            constraints: Vec::new(),
            acl: None,
            comment: None,
            options: Default::default(),
            on_commit: Default::default(),
        };
        let mut indexes = Vec::new();
        let mut constraints = Vec::new();
        for (n, definition) in create.columns.iter().enumerate() {
            let number = n as i16 + 1;
            let ty = resolve_type(&scope, &definition.data_type)?.ty;
            let mut column = Column {
                number,
                name: definition.name.value.clone(),
                type_oid: ty.oid,
                typmod: ty.typmod,
                not_null: false,
                default: None,
                identity: None,
                generated: false,
                dropped: false,
                hidden: false,
                missing: None,
                comment: None,
                acl: None,
            };
            for option in &definition.options {
                let own = &definition.name.value;
                match &option.option {
                    ast::ColumnOption::NotNull => column.not_null = true,
                    ast::ColumnOption::Default(expr) => column.default = Some(expr.to_string()),
                    ast::ColumnOption::Generated { generation_expr: Some(expr), .. } => {
                        column.default = Some(expr.to_string());
                        column.generated = true;
                    }
                    ast::ColumnOption::PrimaryKey(_) => {
                        column.not_null = true;
                        indexes.push((format!("{name}_pkey"), vec![own.clone()]));
                    }
                    ast::ColumnOption::Unique(_) => {
                        indexes.push((format!("{name}_{own}_key"), vec![own.clone()]))
                    }
                    ast::ColumnOption::Check(check) => constraints.push((
                        format!("{name}_{own}_check"),
                        ConstraintKind::Check { expression: check.expr.to_string() },
                        None,
                    )),
                    ast::ColumnOption::ForeignKey(key) => constraints.push((
                        format!("{name}_{own}_fkey"),
                        foreign_key(&catalog, &[number], key),
                        key.characteristics,
                    )),
                    _ => {}
                }
            }
            table.columns.push(column);
        }
        for constraint in &create.constraints {
            match constraint {
                ast::TableConstraint::PrimaryKey(key) => {
                    let columns: Vec<String> =
                        key.columns.iter().map(|c| c.column.expr.to_string()).collect();
                    for column in &mut table.columns {
                        column.not_null |= columns.contains(&column.name);
                    }
                    indexes.push((format!("{name}_pkey"), columns));
                }
                ast::TableConstraint::Unique(key) => {
                    let columns: Vec<String> =
                        key.columns.iter().map(|c| c.column.expr.to_string()).collect();
                    indexes.push((format!("{name}_{}_key", columns.join("_")), columns));
                }
                ast::TableConstraint::ForeignKey(key) => {
                    let columns: Vec<i16> =
                        key.columns.iter().map(|c| table.column(&c.value).unwrap().1.number).collect();
                    let names: Vec<&str> = key.columns.iter().map(|c| c.value.as_str()).collect();
                    constraints.push((
                        format!("{name}_{}_fkey", names.join("_")),
                        foreign_key(&catalog, &columns, key),
                        key.characteristics,
                    ));
                }
                _ => {}
            }
        }
        let mut changes = Vec::new();
        for (index_name, columns) in indexes {
            let numbers: Vec<i16> = columns.iter().map(|c| table.column(c).unwrap().1.number).collect();
            let descending = vec![false; numbers.len()];
            let index = self.index(
                &table,
                NewIndex { name: index_name.clone(), columns: numbers, descending, unique: true },
            );
            let kind = if index.primary {
                ConstraintKind::Primary { index: index.oid }
            } else {
                ConstraintKind::Unique { index: index.oid }
            };
            constraints.push((index_name, kind, None));
            changes.push(Change::Put(Object::Index(Arc::new(index))));
        }
        for (name, mut kind, characteristics) in constraints {
            // A table that refers to itself.
            if let ConstraintKind::Foreign(key) = &mut kind
                && key.referenced_table == 0
            {
                key.referenced_table = table.oid;
                let Some(Change::Put(Object::Index(index))) = changes.first() else { continue };
                key.referenced_index = index.oid;
                key.referenced_columns = index.keys.iter().map(|key| key.column).collect();
            }
            table.constraints.push(Constraint {
                oid: self.engine.new_oid(),
                name,
                kind,
                deferrable: characteristics
                    .is_some_and(|c: ast::ConstraintCharacteristics| c.deferrable == Some(true)),
                initially_deferred: characteristics
                    .is_some_and(|c| c.initially == Some(ast::DeferrableInitial::Deferred)),
                validated: true,
                comment: None,
            });
        }
        changes.insert(0, Change::Put(Object::Table(Arc::new(table))));
        tx.change_catalog(changes)
    }
}

fn foreign_key(catalog: &Catalog, columns: &[i16], key: &ast::ForeignKeyConstraint) -> ConstraintKind {
    let action = |action: &Option<ast::ReferentialAction>| match action {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    };
    let parent = match catalog.relation(oid::PUBLIC, &key.foreign_table.to_string()) {
        Some(Object::Table(table)) => Some(table.clone()),
        _ => None,
    };
    let index =
        parent.as_ref().and_then(|parent| catalog.indexes(parent.oid).find(|index| index.unique).cloned());
    ConstraintKind::Foreign(ForeignKey {
        columns: columns.to_vec(),
        referenced_table: parent.map_or(0, |parent| parent.oid),
        referenced_columns: index.iter().flat_map(|index| index.keys.iter().map(|key| key.column)).collect(),
        referenced_index: index.map_or(0, |index| index.oid),
        on_update: action(&key.on_update),
        on_delete: action(&key.on_delete),
        match_full: key.match_kind == Some(ast::ConstraintReferenceMatchKind::Full),
    })
}

pub fn context(tx: &mut Transaction, params: &[Datum]) -> Context {
    Context {
        snapshot: tx.statement_snapshot(true).unwrap(),
        env: Arc::new(Session { style: Style::default() }),
        params: params.into(),
        cancel: Cancel::new(),
        memory: MemoryAccount::new(1 << 30, 64 << 20),
        system: Arc::new(System { catalog: tx.catalog() }),
        constraints: Arc::default(),
        lock_timeout: None,
        instrument: false,
        tally: Arc::default(),
    }
}
