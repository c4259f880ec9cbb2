//! What names, functions and system relations of one statement see: the catalog of its transaction, the session's
//! settings and role, the times of transaction and statement.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use engine::Transaction;
use engine::catalog::{Catalog, Table, oid};
use execute::{SystemRelations, TableRules};
use function::{Environment, Function};
use plan::PlanContext;
use plan::ir::Plan;
use resolve::{Names, SystemRelation};
use value::text::Style;
use value::{Datum, Oid, Result};

use crate::database::Database;
use crate::pg_catalog;
use crate::setting::Effective;
use crate::shared::Shared;

#[derive(Clone)]
pub struct Scope {
    pub database: Arc<Database>,
    pub shared: Arc<Shared>,
    pub catalog: Arc<Catalog>,
    pub settings: Arc<Effective>,
    pub style: Style,
    /// Schemas that are searched, pg_catalog and the temporary one included.
    pub path: Arc<[Oid]>,
    pub temporary: Option<Oid>,
    pub role: Oid,
    pub superuser: bool,
    pub transaction_time: i64,
    pub statement_time: i64,
    /// Of the transaction: the isolation level's name, READ ONLY, DEFERRABLE.
    pub modes: (&'static str, bool, bool),
    /// Everything but the catalog that the meaning of a text depends on.
    pub key: Arc<str>,
}

impl Scope {
    pub fn plan_context<'a>(
        &'a self,
        statistics: &'a dyn Fn(&Table) -> Arc<engine::TableStatistics>,
    ) -> PlanContext<'a> {
        PlanContext { names: self, statistics }
    }

    /// Runs `work` with a planner's context.
    pub fn planning<R>(&self, work: impl FnOnce(&PlanContext<'_>) -> R) -> R {
        let engine = self.database.engine.clone();
        let statistics = move |table: &Table| engine.statistics(table);
        work(&self.plan_context(&statistics))
    }

    pub fn plan(&self, query: &resolve::tree::Query) -> Result<Plan> {
        self.planning(|context| plan::plan(query, context))
    }

    /// The schema new objects go to: the first of the path that is not a system one.
    pub fn creation_schema(&self) -> Option<Oid> {
        self.path
            .iter()
            .copied()
            .find(|s| Some(*s) != self.temporary && !matches!(*s, oid::PG_CATALOG | oid::INFORMATION_SCHEMA))
    }

    /// A schema's name, also of those that are no objects.
    pub fn schema_name(&self, schema: Oid) -> String {
        schema_name(&self.catalog, schema, self.temporary)
    }

    /// The oid of a schema by name in this database.
    pub fn schema_oid(&self, name: &str) -> Option<Oid> {
        match name {
            "pg_catalog" => Some(oid::PG_CATALOG),
            "information_schema" => Some(oid::INFORMATION_SCHEMA),
            "startdb" => Some(oid::STARTDB_SCHEMA),
            "pg_toast" => Some(oid::PG_TOAST),
            "pg_temp" => self.temporary,
            _ => match self.catalog.schema_named(self.shared.database, name) {
                Some(schema) => Some(schema.oid),
                None => self.temporary.filter(|t| crate::session::temporary_name(*t) == name),
            },
        }
    }

    /// Whether a name without a schema finds this relation.
    pub fn is_visible(&self, schema: Oid, name: &str) -> bool {
        for candidate in self.path.iter() {
            if *candidate == schema {
                return true;
            }
            if self.catalog.relation(*candidate, name).is_some()
                || (*candidate == oid::PG_CATALOG && pg_catalog::find("pg_catalog", name).is_some())
            {
                return false;
            }
        }
        false
    }

    /// A relation's name as it must be written here: with its schema only when it would not be found without.
    pub fn relation_text(&self, schema: Oid, name: &str) -> String {
        if self.is_visible(schema, name) {
            crate::lex::quote_name(name)
        } else {
            format!("{}.{}", crate::lex::quote_name(&self.schema_name(schema)), crate::lex::quote_name(name))
        }
    }
}

pub fn schema_name(catalog: &Catalog, schema: Oid, temporary: Option<Oid>) -> String {
    match schema {
        oid::PG_CATALOG => "pg_catalog".into(),
        oid::INFORMATION_SCHEMA => "information_schema".into(),
        oid::STARTDB_SCHEMA => "startdb".into(),
        oid::PG_TOAST => "pg_toast".into(),
        _ => match catalog.schema(schema) {
            Some(found) => found.name.clone(),
            None if Some(schema) == temporary => crate::session::temporary_name(schema),
            None => schema.to_string(),
        },
    }
}

impl Names for Scope {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn database(&self) -> Oid {
        self.shared.database
    }

    fn search_path(&self) -> &[Oid] {
        &self.path
    }

    fn role(&self) -> Oid {
        self.role
    }

    fn system_relation(&self, schema: Option<&str>, name: &str) -> Option<SystemRelation> {
        pg_catalog::relation(self, schema.unwrap_or("pg_catalog"), name)
    }

    fn style(&self) -> &Style {
        &self.style
    }

    fn env(&self) -> &dyn Environment {
        self
    }

    fn temporary_schema(&self) -> Option<Oid> {
        self.temporary
    }
}

impl Environment for Scope {
    fn style(&self) -> &Style {
        &self.style
    }

    fn transaction_time(&self) -> i64 {
        self.transaction_time
    }

    fn statement_time(&self) -> i64 {
        self.statement_time
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.shared.settings.lock().show(name)
    }

    fn random(&self) -> f64 {
        match self.shared.seed.lock().as_mut() {
            Some(seeded) => seeded.next(),
            None => function::unseeded_random(),
        }
    }

    fn set_seed(&self, seed: f64) -> Result<()> {
        *self.shared.seed.lock() = Some(function::SeededRandom::new(seed));
        Ok(())
    }

    fn aside(&self, work: &mut dyn FnMut()) {
        crate::aside(work);
    }

    fn system(&self, function: &'static Function, args: &[Datum]) -> Result<Datum> {
        crate::system::call(self, function, args)
    }
}

impl SystemRelations for Scope {
    fn rows(&self, schema: &str, name: &str, columns: &[usize]) -> Result<Vec<Vec<Datum>>> {
        pg_catalog::rows(self, schema, name, columns)
    }

    fn rules(&self, table: &Arc<Table>) -> Result<Arc<TableRules>> {
        self.planning(|context| crate::rules::of(context, table))
    }

    fn wait<'a>(
        &'a self,
        function: &'static Function,
        args: &'a [Datum],
        tx: &'a mut Transaction,
    ) -> Pin<Box<dyn Future<Output = Result<Datum>> + Send + 'a>> {
        Box::pin(crate::system::wait(self, function.name, args, tx))
    }
}
