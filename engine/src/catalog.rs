//! What exists: databases, schemas, tables, indexes, views, sequences, roles and what is granted.
//!
//! A [`Catalog`] is an immutable snapshot with a version. A transaction that changes it works on its own copy
//! ([`crate::Transaction::catalog`]); its changes are [`Change`]s by object id, logged with the commit
//! and applied to the newest published catalog, so two transactions that change different objects never
//! conflict. SQL expressions (defaults, checks, view bodies) are opaque text here: `sql` parses them.
//!
//! On disk every object is one JSON document under its oid (see engine/README.md), so a new field needs no
//! format change: it has a serde default.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use value::{Oid, Type};

/// Oids below this are fixed (built-in types, functions, system schemas and catalogs); objects of users get larger ones.
pub const FIRST_USER_OID: Oid = 16384;

/// Fixed oids, as in PostgreSQL.
pub mod oid {
    use value::Oid;
    pub const PG_CATALOG: Oid = 11;
    pub const PG_TOAST: Oid = 99;
    pub const PUBLIC: Oid = 2200;
    pub const INFORMATION_SCHEMA: Oid = 13000;
    pub const STARTDB_SCHEMA: Oid = 13001;
    pub const BOOTSTRAP_SUPERUSER: Oid = 10;
    pub const TEMPLATE1: Oid = 1;
    pub const POSTGRES_DATABASE: Oid = 5;
    pub const DEFAULT_TABLESPACE: Oid = 1663;
    pub const DEFAULT_COLLATION: Oid = 100;
    pub const C_COLLATION: Oid = 950;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    Database(Database),
    Schema(Schema),
    Table(Arc<Table>),
    Index(Arc<Index>),
    View(Arc<View>),
    Sequence(Arc<Sequence>),
    Role(Arc<Role>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    #[serde(default)]
    pub acl: Option<Acl>,
    /// ALTER DATABASE ... SET.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub is_template: bool,
    #[serde(default = "yes")]
    pub allow_connections: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub oid: Oid,
    pub database: Oid,
    pub name: String,
    pub owner: Oid,
    #[serde(default)]
    pub acl: Option<Acl>,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Persistence {
    Permanent,
    /// Known only to the session that made it; no WAL.
    Temporary,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub oid: Oid,
    pub database: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    /// Where its rows live. TRUNCATE and rewrites give a new one, so that an old snapshot keeps the old rows.
    pub storage: u32,
    pub persistence: Persistence,
    /// By attribute number: `columns[n].number == n + 1`. Dropped columns stay, marked.
    pub columns: Vec<Column>,
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    #[serde(default)]
    pub acl: Option<Acl>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Of temporary tables, which are never stored.
    #[serde(skip)]
    pub on_commit: OnCommit,
}

/// What becomes of a temporary table at the end of each transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCommit {
    #[default]
    PreserveRows,
    DeleteRows,
    Drop,
}

impl Table {
    /// The column of that name, dropped and hidden ones excluded, with its index in `columns`.
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, c)| !c.dropped && !c.hidden && c.name == name)
    }

    /// Whether that index stands for a deferrable constraint.
    pub fn is_deferrable(&self, index: Oid) -> bool {
        self.deferrable(index).is_some()
    }

    /// The deferrable constraint that an index stands for, if it does.
    pub fn deferrable(&self, index: Oid) -> Option<Oid> {
        let stands = |kind: &ConstraintKind| match kind {
            ConstraintKind::Primary { index: of } | ConstraintKind::Unique { index: of } => *of == index,
            ConstraintKind::Check { .. } | ConstraintKind::Foreign(_) => false,
        };
        self.constraints.iter().find(|c| c.deferrable && stands(&c.kind)).map(|c| c.oid)
    }

    /// Columns that `SELECT *` shows, with their index in `columns`.
    pub fn visible_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, c)| !c.dropped && !c.hidden)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// 1-based attribute number, never reused.
    pub number: i16,
    pub name: String,
    #[serde(rename = "type")]
    pub type_oid: Oid,
    pub typmod: i32,
    #[serde(default)]
    pub not_null: bool,
    /// SQL text of the default expression (for a generated column its expression).
    #[serde(default)]
    pub default: Option<String>,
    #[serde(default)]
    pub identity: Option<Identity>,
    #[serde(default)]
    pub generated: bool,
    #[serde(default)]
    pub dropped: bool,
    /// A stored key of an expression index or partial index: computed by `sql` on write, never shown.
    #[serde(default)]
    pub hidden: bool,
    /// Value of rows written before the column was added (text form of the type), NULL if none.
    #[serde(default)]
    pub missing: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    #[serde(default)]
    pub acl: Option<Acl>,
}

impl Column {
    pub fn ty(&self) -> Type {
        Type::with_typmod(self.type_oid, self.typmod)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    Always,
    ByDefault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    pub oid: Oid,
    pub name: String,
    pub kind: ConstraintKind,
    #[serde(default)]
    pub deferrable: bool,
    #[serde(default)]
    pub initially_deferred: bool,
    #[serde(default = "yes")]
    pub validated: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConstraintKind {
    /// SQL text of the condition.
    Check {
        expression: String,
    },
    Primary {
        index: Oid,
    },
    Unique {
        index: Oid,
    },
    Foreign(ForeignKey),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Attribute numbers in the referencing table.
    pub columns: Vec<i16>,
    pub referenced_table: Oid,
    pub referenced_columns: Vec<i16>,
    /// The unique index of the referenced table that holds the key.
    pub referenced_index: Oid,
    pub on_update: ReferentialAction,
    pub on_delete: ReferentialAction,
    #[serde(default)]
    pub match_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferentialAction {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexKind {
    BTree,
    Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexState {
    /// Values of its hidden columns are being computed for the rows that are there. Writers compute them, too; nobody
    /// maintains entries yet.
    Computing,
    /// Writers maintain it; no query reads it yet (being built).
    WriteOnly,
    Ready,
    /// Maintained, but the planner does not see it unless asked.
    Hidden,
}

impl IndexState {
    /// Whether every row has its entry.
    pub fn is_full(self) -> bool {
        matches!(self, IndexState::Ready | IndexState::Hidden)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub oid: Oid,
    pub database: Oid,
    pub schema: Oid,
    pub table: Oid,
    pub name: String,
    pub owner: Oid,
    /// Where its entries live; REINDEX and TRUNCATE give a new one.
    pub storage: u32,
    pub kind: IndexKind,
    pub keys: Vec<IndexKey>,
    /// INCLUDE columns, as attribute numbers.
    #[serde(default)]
    pub include: Vec<i16>,
    #[serde(default)]
    pub unique: bool,
    #[serde(default)]
    pub primary: bool,
    #[serde(default = "yes")]
    pub nulls_distinct: bool,
    /// Attribute number of the hidden boolean column that holds the predicate, and its SQL text.
    #[serde(default)]
    pub predicate: Option<(i16, String)>,
    pub state: IndexState,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexKey {
    /// Attribute number of the key column; hidden when the key is an expression.
    pub column: i16,
    #[serde(default)]
    pub descending: bool,
    /// PostgreSQL's default: NULLS LAST ascending, NULLS FIRST descending.
    #[serde(default)]
    pub nulls_first: bool,
    /// SQL text when the key is an expression.
    #[serde(default)]
    pub expression: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub oid: Oid,
    pub database: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    /// The SELECT, with every name schema-qualified as it was resolved when created.
    pub query: String,
    pub columns: Vec<ViewColumn>,
    #[serde(default)]
    pub acl: Option<Acl>,
    #[serde(default)]
    pub comment: Option<String>,
    /// Oids of the relations it reads, for DROP ... RESTRICT.
    #[serde(default)]
    pub depends_on: Vec<Oid>,
    #[serde(default)]
    pub persistence_temporary: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub type_oid: Oid,
    pub typmod: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    pub oid: Oid,
    pub database: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    /// int2, int4 or int8.
    pub type_oid: Oid,
    pub start: i64,
    pub increment: i64,
    pub minimum: i64,
    pub maximum: i64,
    pub cache: i64,
    pub cycle: bool,
    /// Bumped by RESTART, so that the counter starts anew in the same commit as the ALTER.
    #[serde(default)]
    pub generation: u32,
    /// (table, attribute number): dropped together with the column.
    #[serde(default)]
    pub owned_by: Option<(Oid, i16)>,
    #[serde(default)]
    pub acl: Option<Acl>,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub oid: Oid,
    pub name: String,
    pub superuser: bool,
    pub inherit: bool,
    pub create_role: bool,
    pub create_db: bool,
    pub login: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    /// -1: no limit.
    pub connection_limit: i32,
    /// SCRAM-SHA-256 verifier in PostgreSQL's text form; never a password.
    #[serde(default)]
    pub verifier: Option<String>,
    /// Microseconds since 2000-01-01 UTC.
    #[serde(default)]
    pub valid_until: Option<i64>,
    /// Roles this one is a member of, with admin option.
    #[serde(default)]
    pub member_of: Vec<Membership>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    pub role: Oid,
    pub admin: bool,
    pub grantor: Oid,
}

/// Access rights: who may do what, granted by whom. `None` where an `Option<Acl>` stands means the default
/// rights (everything to the owner).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Acl(pub Vec<AclItem>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AclItem {
    /// 0 is PUBLIC.
    pub grantee: Oid,
    pub grantor: Oid,
    /// PostgreSQL's letters: r SELECT, a INSERT, w UPDATE, d DELETE, D TRUNCATE, x REFERENCES, t TRIGGER,
    /// U USAGE, C CREATE, c CONNECT, T TEMPORARY, X EXECUTE.
    pub privileges: String,
    /// The subset of `privileges` held with grant option.
    #[serde(default)]
    pub grantable: String,
}

fn yes() -> bool {
    true
}

impl Object {
    pub fn oid(&self) -> Oid {
        match self {
            Object::Database(o) => o.oid,
            Object::Schema(o) => o.oid,
            Object::Table(o) => o.oid,
            Object::Index(o) => o.oid,
            Object::View(o) => o.oid,
            Object::Sequence(o) => o.oid,
            Object::Role(o) => o.oid,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Object::Database(o) => &o.name,
            Object::Schema(o) => &o.name,
            Object::Table(o) => &o.name,
            Object::Index(o) => &o.name,
            Object::View(o) => &o.name,
            Object::Sequence(o) => &o.name,
            Object::Role(o) => &o.name,
        }
    }

    /// Where the rows or entries of a table or an index are.
    pub fn storage(&self) -> Option<u32> {
        match self {
            Object::Table(table) => Some(table.storage),
            Object::Index(index) => Some(index.storage),
            _ => None,
        }
    }

    /// Tables, indexes, views and sequences share one namespace per schema (`pg_class`); this is the schema.
    pub fn relation_schema(&self) -> Option<Oid> {
        match self {
            Object::Table(o) => Some(o.schema),
            Object::Index(o) => Some(o.schema),
            Object::View(o) => Some(o.schema),
            Object::Sequence(o) => Some(o.schema),
            Object::Database(_) | Object::Schema(_) | Object::Role(_) => None,
        }
    }

    pub fn database(&self) -> Option<Oid> {
        match self {
            Object::Schema(o) => Some(o.database),
            Object::Table(o) => Some(o.database),
            Object::Index(o) => Some(o.database),
            Object::View(o) => Some(o.database),
            Object::Sequence(o) => Some(o.database),
            Object::Database(_) | Object::Role(_) => None,
        }
    }
}

/// What one transaction does to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Create or replace.
    Put(Object),
    Drop(Oid),
}

/// Everything that exists at one moment. Cloned on write; objects are shared.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Grows with every published change; plans are keyed by it.
    pub version: u64,
    objects: BTreeMap<Oid, Object>,
    /// (schema, name) -> oid of a table, index, view or sequence.
    relations: HashMap<(Oid, String), Oid>,
    /// (database, name) -> schema.
    schemas: HashMap<(Oid, String), Oid>,
    databases: HashMap<String, Oid>,
    roles: HashMap<String, Oid>,
    indexes_of: HashMap<Oid, Vec<Oid>>,
    /// Referenced table -> tables with a foreign key to it.
    referencing: HashMap<Oid, Vec<Oid>>,
}

impl Catalog {
    pub fn get(&self, oid: Oid) -> Option<&Object> {
        self.objects.get(&oid)
    }

    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    pub fn table(&self, oid: Oid) -> Option<&Arc<Table>> {
        match self.objects.get(&oid) {
            Some(Object::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub fn index(&self, oid: Oid) -> Option<&Arc<Index>> {
        match self.objects.get(&oid) {
            Some(Object::Index(index)) => Some(index),
            _ => None,
        }
    }

    pub fn view(&self, oid: Oid) -> Option<&Arc<View>> {
        match self.objects.get(&oid) {
            Some(Object::View(view)) => Some(view),
            _ => None,
        }
    }

    pub fn sequence(&self, oid: Oid) -> Option<&Arc<Sequence>> {
        match self.objects.get(&oid) {
            Some(Object::Sequence(sequence)) => Some(sequence),
            _ => None,
        }
    }

    pub fn schema(&self, oid: Oid) -> Option<&Schema> {
        match self.objects.get(&oid) {
            Some(Object::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    pub fn database(&self, oid: Oid) -> Option<&Database> {
        match self.objects.get(&oid) {
            Some(Object::Database(database)) => Some(database),
            _ => None,
        }
    }

    pub fn role(&self, oid: Oid) -> Option<&Arc<Role>> {
        match self.objects.get(&oid) {
            Some(Object::Role(role)) => Some(role),
            _ => None,
        }
    }

    pub fn database_named(&self, name: &str) -> Option<&Database> {
        self.database(*self.databases.get(name)?)
    }

    pub fn role_named(&self, name: &str) -> Option<&Arc<Role>> {
        self.role(*self.roles.get(name)?)
    }

    pub fn schema_named(&self, database: Oid, name: &str) -> Option<&Schema> {
        self.schema(*self.schemas.get(&(database, name.to_owned()))?)
    }

    /// The table, index, view or sequence of that name in that schema.
    pub fn relation(&self, schema: Oid, name: &str) -> Option<&Object> {
        self.objects.get(self.relations.get(&(schema, name.to_owned()))?)
    }

    /// The indexes of a table, in creation order.
    pub fn indexes(&self, table: Oid) -> impl Iterator<Item = &Arc<Index>> {
        self.indexes_of.get(&table).into_iter().flatten().filter_map(|oid| self.index(*oid))
    }

    /// The indexes of a table whose entries are kept up to date.
    pub(crate) fn maintained_indexes(&self, table: Oid) -> impl Iterator<Item = &Arc<Index>> {
        self.indexes(table).filter(|index| index.state != IndexState::Computing)
    }

    /// Tables that have a foreign key to `table` (itself included where it refers to itself).
    pub fn referencing(&self, table: Oid) -> impl Iterator<Item = &Arc<Table>> {
        self.referencing.get(&table).into_iter().flatten().filter_map(|oid| self.table(*oid))
    }

    /// Applies one change; the caller has checked names and rights.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(object) => {
                self.unlink(object.oid());
                self.link(object);
                self.objects.insert(object.oid(), object.clone());
            }
            Change::Drop(oid) => {
                self.unlink(*oid);
                self.objects.remove(oid);
            }
        }
    }

    fn link(&mut self, object: &Object) {
        let (oid, name) = (object.oid(), object.name().to_owned());
        if let Some(schema) = object.relation_schema() {
            self.relations.insert((schema, name.clone()), oid);
        }
        match object {
            Object::Database(_) => {
                self.databases.insert(name, oid);
            }
            Object::Schema(schema) => {
                self.schemas.insert((schema.database, name), oid);
            }
            Object::Role(_) => {
                self.roles.insert(name, oid);
            }
            Object::Index(index) => {
                let list = self.indexes_of.entry(index.table).or_default();
                if let Err(place) = list.binary_search(&oid) {
                    list.insert(place, oid);
                }
            }
            Object::Table(table) => {
                for constraint in &table.constraints {
                    if let ConstraintKind::Foreign(key) = &constraint.kind {
                        let list = self.referencing.entry(key.referenced_table).or_default();
                        if let Err(place) = list.binary_search(&oid) {
                            list.insert(place, oid);
                        }
                    }
                }
            }
            Object::View(_) | Object::Sequence(_) => {}
        }
    }

    fn unlink(&mut self, oid: Oid) {
        let Some(object) = self.objects.get(&oid) else { return };
        let name = object.name().to_owned();
        if let Some(schema) = object.relation_schema() {
            self.relations.remove(&(schema, name.clone()));
        }
        match object {
            Object::Database(_) => {
                self.databases.remove(&name);
            }
            Object::Schema(schema) => {
                let key = (schema.database, name);
                self.schemas.remove(&key);
            }
            Object::Role(_) => {
                self.roles.remove(&name);
            }
            Object::Index(index) => {
                let table = index.table;
                if let Some(list) = self.indexes_of.get_mut(&table) {
                    list.retain(|other| *other != oid);
                }
            }
            Object::Table(_) => {
                for list in self.referencing.values_mut() {
                    list.retain(|other| *other != oid);
                }
            }
            Object::View(_) | Object::Sequence(_) => {}
        }
    }
}
