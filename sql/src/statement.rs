//! What `grammar.rs` makes of statements that are not queries.
//!
//! Expressions and queries inside them stay text with their place: they are stored as text (defaults, checks, view
//! bodies) or handed to `resolve` as they are.

use std::sync::Arc;

pub use engine::catalog::OnCommit;
use value::Type;

/// A statement of a string, ready to run.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Arc<Statement>,
    pub text: Arc<str>,
    /// Characters of the string before this statement: added to the positions of its errors.
    pub shift: usize,
}

/// A possibly schema-qualified name and its 1-based character position.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
    pub position: usize,
}

/// SQL text inside a statement and its character offset in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    pub text: String,
    pub offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TypeName {
    Known(Type),
    /// smallserial, serial, bigserial: the integer type under it.
    Serial(Type),
}

#[derive(Clone, Debug)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE.
    Query(Arc<resolve::parse::Parsed>),
    /// With its tag: BEGIN or START TRANSACTION.
    Begin(Modes, &'static str),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    SetTransaction {
        modes: Modes,
        session: bool,
    },
    SetConstraints {
        names: Option<Vec<Name>>,
        deferred: bool,
    },
    /// `None`: DEFAULT.
    Set {
        name: String,
        local: bool,
        values: Option<Vec<String>>,
    },
    /// `None`: ALL.
    Reset(Option<String>),
    Show(Option<String>),
    /// `None`: NONE, DEFAULT.
    SetRole {
        role: Option<String>,
        local: bool,
    },
    SetSessionAuthorization {
        role: Option<String>,
        local: bool,
    },
    CreateTable(CreateTable),
    CreateTableAs {
        name: Name,
        columns: Vec<String>,
        temporary: bool,
        if_not_exists: bool,
        query: Fragment,
        data: bool,
        on_commit: Option<OnCommit>,
    },
    CreateIndex(CreateIndex),
    CreateView {
        name: Name,
        columns: Vec<String>,
        temporary: bool,
        or_replace: bool,
        query: Fragment,
    },
    CreateSequence {
        name: Name,
        temporary: bool,
        if_not_exists: bool,
        options: SequenceOptions,
    },
    CreateSchema {
        name: Option<String>,
        if_not_exists: bool,
        owner: Option<String>,
    },
    CreateDatabase {
        name: String,
        options: Vec<(String, String)>,
    },
    CreateRole {
        name: String,
        login: bool,
        options: RoleOptions,
    },
    CreateExtension {
        name: String,
        if_not_exists: bool,
    },
    AlterTable {
        kind: ObjectKind,
        name: Name,
        if_exists: bool,
        actions: Vec<AlterAction>,
    },
    AlterSequence {
        name: Name,
        if_exists: bool,
        options: SequenceOptions,
    },
    AlterRole {
        name: String,
        options: RoleOptions,
        rename: Option<String>,
    },
    /// SET or RESET for a role or database (`None` as the value resets; `None` as the name resets all).
    AlterSetting {
        role: bool,
        target: String,
        setting: Option<String>,
        values: Option<Vec<String>>,
    },
    AlterDatabase {
        name: String,
        action: SchemaAction,
    },
    AlterSchema {
        name: String,
        action: SchemaAction,
    },
    AlterSystem,
    AlterDefaultPrivileges,
    Drop {
        kind: ObjectKind,
        names: Vec<Name>,
        if_exists: bool,
        cascade: bool,
    },
    Truncate {
        names: Vec<Name>,
        restart_identity: bool,
        cascade: bool,
    },
    Comment {
        target: CommentTarget,
        text: Option<String>,
    },
    Grant(Grant),
    GrantRole {
        grant: bool,
        roles: Vec<String>,
        members: Vec<String>,
        admin: bool,
        option_only: bool,
    },
    Prepare {
        name: String,
        types: Vec<TypeName>,
        statement: Fragment,
    },
    Execute {
        name: String,
        arguments: Vec<Fragment>,
    },
    Deallocate(Option<String>),
    Explain {
        options: ExplainOptions,
        statement: Box<Parsed>,
    },
    Declare {
        name: String,
        hold: bool,
        scroll: Option<bool>,
        binary: bool,
        query: Fragment,
    },
    Fetch {
        name: String,
        direction: Direction,
        movement: bool,
    },
    Close(Option<String>),
    Copy(Copy),
    Lock {
        names: Vec<Name>,
        mode: String,
        no_wait: bool,
    },
    Listen(String),
    Unlisten(Option<String>),
    Notify {
        channel: String,
        payload: Option<String>,
    },
    Discard(String),
    Analyze {
        tables: Vec<(Name, Vec<String>)>,
    },
    Vacuum {
        tables: Vec<(Name, Vec<String>)>,
        analyze: bool,
    },
    Checkpoint,
    Reindex {
        kind: String,
        name: Option<Name>,
        concurrently: bool,
    },
    Cluster,
    DropOwned,
    ReassignOwned,
    /// Understood, not offered: what it is, and what to use.
    Unsupported {
        what: String,
        instead: &'static str,
    },
}

/// Transaction modes; `None` where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Modes {
    pub isolation: Option<engine::Isolation>,
    /// READ COMMITTED was called READ UNCOMMITTED, and is shown as that.
    pub uncommitted: bool,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    Index,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
    Schema,
    Database,
    Role,
    Type,
    Domain,
    Function,
    Extension,
    Trigger,
    Policy,
    Other,
}

impl ObjectKind {
    /// As messages spell it.
    pub fn noun(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::Index => "index",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::ForeignTable => "foreign table",
            ObjectKind::Sequence => "sequence",
            ObjectKind::Schema => "schema",
            ObjectKind::Database => "database",
            ObjectKind::Role => "role",
            ObjectKind::Type => "type",
            ObjectKind::Domain => "domain",
            ObjectKind::Function => "function",
            ObjectKind::Extension => "extension",
            ObjectKind::Trigger => "trigger",
            ObjectKind::Policy => "policy",
            ObjectKind::Other => "object",
        }
    }
}

#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: Name,
    pub temporary: bool,
    pub on_commit: Option<OnCommit>,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDefinition>,
    pub constraints: Vec<TableConstraint>,
    pub like: Vec<Like>,
    pub options: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Like {
    pub name: Name,
    /// How many columns were defined before it.
    pub after: usize,
    pub defaults: bool,
    pub constraints: bool,
    pub indexes: bool,
    pub identity: bool,
    pub generated: bool,
    pub comments: bool,
}

#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    pub name: String,
    pub ty: TypeName,
    pub not_null: bool,
    pub null: bool,
    pub default: Option<Fragment>,
    /// GENERATED ALWAYS AS (...) STORED.
    pub generated: Option<Fragment>,
    pub identity: Option<(engine::catalog::Identity, SequenceOptions)>,
    pub constraints: Vec<TableConstraint>,
}

#[derive(Clone, Debug)]
pub struct TableConstraint {
    pub name: Option<String>,
    pub kind: ConstraintForm,
    pub deferrable: bool,
    pub initially_deferred: bool,
    pub not_valid: bool,
}

#[derive(Clone, Debug)]
pub enum ConstraintForm {
    Check(Fragment),
    Unique {
        columns: Vec<String>,
        include: Vec<String>,
        primary: bool,
        nulls_distinct: bool,
        using_index: Option<String>,
    },
    Foreign {
        columns: Vec<String>,
        table: Name,
        referenced: Vec<String>,
        match_full: bool,
        on_update: engine::catalog::ReferentialAction,
        on_delete: engine::catalog::ReferentialAction,
    },
}

#[derive(Clone, Debug)]
pub struct CreateIndex {
    pub name: Option<String>,
    pub table: Name,
    pub unique: bool,
    pub if_not_exists: bool,
    pub concurrently: bool,
    pub method: String,
    pub keys: Vec<IndexKeyForm>,
    pub include: Vec<String>,
    pub nulls_distinct: bool,
    pub predicate: Option<Fragment>,
}

#[derive(Clone, Debug)]
pub struct IndexKeyForm {
    /// A column, or an expression.
    pub column: Option<String>,
    pub expression: Option<Fragment>,
    pub descending: bool,
    pub nulls_first: Option<bool>,
    pub position: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceOptions {
    pub ty: Option<Type>,
    pub start: Option<i64>,
    /// `Some(None)`: RESTART without a value.
    pub restart: Option<Option<i64>>,
    pub increment: Option<i64>,
    /// `Some(None)`: NO MINVALUE.
    pub minimum: Option<Option<i64>>,
    pub maximum: Option<Option<i64>>,
    pub cache: Option<i64>,
    pub cycle: Option<bool>,
    /// `Some(None)`: OWNED BY NONE; else (schema, table, column).
    pub owned_by: Option<Option<(Name, String)>>,
    pub name: Option<Name>,
}

#[derive(Clone, Debug, Default)]
pub struct RoleOptions {
    pub superuser: Option<bool>,
    pub create_db: Option<bool>,
    pub create_role: Option<bool>,
    pub inherit: Option<bool>,
    pub login: Option<bool>,
    pub replication: Option<bool>,
    pub bypass_rls: Option<bool>,
    pub connection_limit: Option<i32>,
    /// `Some(None)`: PASSWORD NULL.
    pub password: Option<Option<String>>,
    pub valid_until: Option<String>,
    pub in_roles: Vec<String>,
    pub members: Vec<String>,
    pub admins: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum AlterAction {
    AddColumn {
        column: ColumnDefinition,
        if_not_exists: bool,
    },
    DropColumn {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    SetType {
        column: String,
        ty: TypeName,
        using: Option<Fragment>,
    },
    /// `None` drops.
    SetDefault {
        column: String,
        default: Option<Fragment>,
    },
    SetNotNull {
        column: String,
        not_null: bool,
    },
    DropExpression {
        column: String,
        if_exists: bool,
    },
    AddIdentity {
        column: String,
        identity: engine::catalog::Identity,
        options: SequenceOptions,
    },
    SetIdentity {
        column: String,
        identity: Option<engine::catalog::Identity>,
        options: SequenceOptions,
    },
    DropIdentity {
        column: String,
        if_exists: bool,
    },
    AddConstraint(TableConstraint),
    DropConstraint {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    AlterConstraint {
        name: String,
        deferrable: bool,
        initially_deferred: bool,
    },
    ValidateConstraint(String),
    RenameColumn {
        from: String,
        to: String,
    },
    RenameConstraint {
        from: String,
        to: String,
    },
    Rename(String),
    SetSchema(String),
    Owner(String),
    SetOptions(Vec<(String, String)>),
    /// Accepted, without effect here (statistics target, storage, cluster, replica identity, tablespace, logged).
    Ignored,
    Unsupported {
        what: String,
        instead: &'static str,
    },
}

#[derive(Clone, Debug)]
pub enum SchemaAction {
    Rename(String),
    Owner(String),
    /// ALTER DATABASE options (connection limit, is template, allow connections).
    Options(Vec<(String, String)>),
}

#[derive(Clone, Debug)]
pub enum CommentTarget {
    /// Table, view, index, sequence.
    Relation(ObjectKind, Name),
    Column(Name, String),
    Constraint {
        name: String,
        table: Name,
    },
    Schema(String),
    Database(String),
    Role(String),
    Other(String),
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub grant: bool,
    /// Privilege words in lower case with their columns; empty: ALL.
    pub privileges: Vec<(String, Vec<String>)>,
    /// ALL [PRIVILEGES] (columns)
    pub all_columns: Vec<String>,
    pub objects: GrantObjects,
    /// `None`: PUBLIC.
    pub grantees: Vec<Option<String>>,
    pub grant_option: bool,
    /// REVOKE GRANT OPTION FOR.
    pub option_only: bool,
}

#[derive(Clone, Debug)]
pub enum GrantObjects {
    Relations(Vec<Name>),
    Sequences(Vec<Name>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    AllInSchema {
        kind: ObjectKind,
        schemas: Vec<String>,
    },
    /// Functions, languages, types, tablespaces: everybody may use the built-in ones.
    Builtin,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExplainOptions {
    pub analyze: bool,
    pub verbose: bool,
    pub costs: bool,
    pub timing: bool,
    pub summary: Option<bool>,
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Negative: backward. `i64::MAX`: all.
    Relative(i64),
    Absolute(i64),
    /// FETCH 0 and RELATIVE n: one row at an offset.
    Offset(i64),
}

#[derive(Clone, Debug)]
pub struct Copy {
    pub source: CopySource,
    pub columns: Vec<String>,
    pub from: bool,
    pub endpoint: CopyEndpoint,
    pub options: CopyOptions,
    /// WHERE of COPY FROM.
    pub filter: Option<Fragment>,
}

#[derive(Clone, Debug)]
pub enum CopySource {
    Table(Name),
    Query(Fragment),
}

#[derive(Clone, Debug)]
pub enum CopyEndpoint {
    Client,
    File(String),
    Program,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: Option<String>,
    pub null: Option<String>,
    pub header: bool,
    pub header_match: bool,
    pub quote: Option<String>,
    pub escape: Option<String>,
    /// `Some(empty)`: all columns.
    pub force_quote: Option<Vec<String>>,
    pub force_not_null: Vec<String>,
    pub force_null: Vec<String>,
    pub encoding: Option<String>,
    pub freeze: bool,
}

impl Default for ExplainOptions {
    fn default() -> ExplainOptions {
        ExplainOptions {
            analyze: false,
            verbose: false,
            costs: true,
            timing: true,
            summary: None,
            json: false,
        }
    }
}
