//! The query tree: a statement after names have become tables and columns and every expression has a type.
//!
//! It is shaped like PostgreSQL's `Query`: a range table (`relations`), a join tree over it (`from`), a target
//! list, and clauses that point into the target list by index. Nothing in it depends on how it will be run.
//! The planner turns it into plan nodes and, in expressions, [`Expr::Column`] into [`Expr::Slot`].

use std::sync::Arc;

use engine::catalog::{Table, View};
use function::{Aggregate, Function, SetFunction, WindowFunction};
use value::types::{self, oid};
use value::{Datum, Oid, Type};

/// A statement that reads or changes rows.
#[derive(Clone, Debug)]
pub struct Query {
    pub ctes: Vec<Cte>,
    /// The range table. Relation 0 is the target for INSERT, UPDATE and DELETE.
    pub relations: Vec<Relation>,
    /// Items are joined by cross join. For UPDATE/DELETE the target relation is the first item.
    pub from: Vec<FromItem>,
    pub filter: Option<Expr>,
    /// Output columns first, in order; then, marked `hidden`, what only ORDER BY, GROUP BY or DISTINCT ON need.
    pub targets: Vec<Target>,
    /// GROUP BY: expressions, and the grouping sets as indexes into them. A plain GROUP BY has one set of all.
    /// Empty `sets`: no grouping (but aggregates may still be there: one group over everything).
    pub group_keys: Vec<Expr>,
    pub grouping_sets: Vec<Vec<usize>>,
    /// Aggregates occur in targets, HAVING or ORDER BY.
    pub has_aggregates: bool,
    pub having: Option<Expr>,
    pub windows: Vec<Window>,
    pub has_set_functions: bool,
    pub distinct: Distinct,
    /// When present, `targets` are columns of relation 0.. as laid out by the set operation: target i is its column i.
    pub set_operation: Option<SetOperation>,
    pub order_by: Vec<SortKey>,
    pub limit: Option<Expr>,
    pub offset: Option<Expr>,
    pub with_ties: bool,
    pub locks: Vec<LockClause>,
    pub modify: Option<Modify>,
}

#[derive(Clone, Debug)]
pub struct Cte {
    pub name: String,
    pub query: Box<Query>,
    /// `Some`: WITH RECURSIVE and it refers to itself; the recursive arm sees [`RelationKind::Cte`] with its own index.
    pub recursive: Option<RecursiveCte>,
    /// MATERIALIZED / NOT MATERIALIZED; `None` leaves it to the planner (inline when referenced once and free of side effects).
    pub materialized: Option<bool>,
    pub columns: Vec<OutputColumn>,
    /// How many times it is referenced.
    pub references: usize,
}

/// `query` of a recursive CTE is the non-recursive arm; this is the other.
#[derive(Clone, Debug)]
pub struct RecursiveCte {
    pub recursive_arm: Box<Query>,
    /// UNION ALL; otherwise duplicates are dropped.
    pub all: bool,
}

/// One entry of the range table.
#[derive(Clone, Debug)]
pub struct Relation {
    pub kind: RelationKind,
    /// The alias, or the relation's own name.
    pub name: String,
    /// For a table: one per `Table::columns` entry (dropped and hidden included, so that the index is the column's). Otherwise the output.
    pub columns: Vec<OutputColumn>,
    /// May refer to relations before it in the same FROM.
    pub lateral: bool,
    /// Whose rights reading it needs are checked against (the view's owner inside views); `None`: the current role.
    pub check_as: Option<Oid>,
    /// Columns read, for privilege checks (indexes into `columns`).
    pub selected: Vec<usize>,
}

#[derive(Clone, Debug)]
pub enum RelationKind {
    Table(Arc<Table>),
    /// A relation of pg_catalog, information_schema or startdb, computed by `sql`: (schema, name).
    System {
        schema: &'static str,
        name: &'static str,
        oid: Oid,
    },
    Subquery(Box<Query>),
    /// A view, already expanded; the view is kept for rights and for EXPLAIN.
    View {
        view: Arc<View>,
        query: Box<Query>,
    },
    /// `levels_up` queries above, entry `index` of its `ctes`.
    Cte {
        levels_up: usize,
        index: usize,
    },
    Values(Vec<Vec<Expr>>),
    /// Functions in FROM, run in lockstep (ROWS FROM); one alone is the usual case.
    Functions {
        calls: Vec<FunctionCallInFrom>,
        ordinality: bool,
    },
    /// The result of a join with an alias, or of USING: columns are expressions over the joined relations.
    Join {
        columns: Vec<Expr>,
    },
    /// EXCLUDED of ON CONFLICT DO UPDATE: the row that was to be inserted; columns as the target table's.
    Excluded,
}

#[derive(Clone, Debug)]
pub struct FunctionCallInFrom {
    /// `Expr::SetCall`, or any scalar expression (one row).
    pub call: Expr,
    /// Column types of this function's part of the output.
    pub columns: Vec<OutputColumn>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    pub name: String,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub enum FromItem {
    /// Index into `relations`.
    Relation(usize),
    Join(Box<Join>),
}

#[derive(Clone, Debug)]
pub struct Join {
    pub kind: JoinKind,
    pub left: FromItem,
    pub right: FromItem,
    pub condition: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Clone, Debug)]
pub struct Target {
    pub expr: Expr,
    pub name: String,
    /// Not part of the output.
    pub hidden: bool,
}

#[derive(Clone, Debug)]
pub enum Distinct {
    No,
    All,
    /// DISTINCT ON, as indexes into `targets`.
    On(Vec<usize>),
}

#[derive(Clone, Debug)]
pub struct SortKey {
    /// Index into `targets`.
    pub target: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug)]
pub enum SetOperation {
    /// Index into `relations` (a Subquery), whose columns have been coerced to the common types.
    Leaf(usize),
    Node {
        kind: SetKind,
        all: bool,
        left: Box<SetOperation>,
        right: Box<SetOperation>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    Union,
    Intersect,
    Except,
}

#[derive(Clone, Debug)]
pub struct Window {
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<WindowOrder>,
    pub frame: Frame,
}

#[derive(Clone, Debug)]
pub struct WindowOrder {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub unit: FrameUnit,
    pub start: FrameBound,
    pub end: FrameBound,
    pub exclude: FrameExclude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameUnit {
    Rows,
    Range,
    Groups,
}

#[derive(Clone, Debug)]
pub enum FrameBound {
    UnboundedPreceding,
    Preceding(Box<Expr>),
    CurrentRow,
    Following(Box<Expr>),
    UnboundedFollowing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameExclude {
    NoOthers,
    CurrentRow,
    Group,
    Ties,
}

#[derive(Clone, Debug)]
pub struct LockClause {
    /// Indexes into `relations`; tables only.
    pub relations: Vec<usize>,
    pub strength: LockStrength,
    pub wait: LockWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockStrength {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    Block,
    NoWait,
    SkipLocked,
}

/// INSERT, UPDATE, DELETE on relation 0 (always a [`RelationKind::Table`]).
#[derive(Clone, Debug)]
pub struct Modify {
    pub kind: ModifyKind,
    /// RETURNING: expressions over relation 0 (new values; old for DELETE) and the other relations.
    pub returning: Vec<Target>,
    /// Columns computed from the row being written (relation 0, its new values), in this order: stored generated
    /// columns, then the hidden key and predicate columns of indexes. Empty for DELETE.
    pub computed: Vec<(usize, Expr)>,
    /// CHECK constraints: name and condition over relation 0; a row passes unless one is false. Empty for DELETE.
    pub checks: Vec<(String, Expr)>,
}

#[derive(Clone, Debug)]
pub enum ModifyKind {
    /// The source rows are the query's targets (its FROM, VALUES relation, or nothing for DEFAULT VALUES), one target per
    /// entry of `columns`, already coerced to the column types (assignment casts, typmod applied).
    Insert {
        /// Indexes into `Table::columns`: where each target goes.
        columns: Vec<usize>,
        /// For every other column that has one: its default (or nextval for identity, or NULL when absent from the list).
        defaults: Vec<(usize, Expr)>,
        on_conflict: Option<OnConflict>,
    },
    /// Target i of the query is the new value of column `columns[i]`.
    Update {
        columns: Vec<usize>,
    },
    Delete,
}

#[derive(Clone, Debug)]
pub struct OnConflict {
    /// Unique indexes that arbitrate; empty: all.
    pub arbiters: Vec<Oid>,
    pub action: ConflictAction,
}

#[derive(Clone, Debug)]
pub enum ConflictAction {
    Nothing,
    Update {
        /// Index of the [`RelationKind::Excluded`] relation.
        excluded: usize,
        /// (index into `Table::columns`, new value).
        assignments: Vec<(usize, Expr)>,
        filter: Option<Expr>,
    },
}

/// A typed expression.
#[derive(Clone, Debug)]
pub enum Expr {
    Const {
        value: Datum,
        ty: Type,
    },
    /// Column `column` of relation `relation` of the query `levels_up` levels above.
    Column {
        levels_up: usize,
        relation: usize,
        column: usize,
        ty: Type,
    },
    /// The hidden row id of a table relation (int8); `ctid` and rules 13.
    RowId {
        relation: usize,
    },
    /// A whole row of a relation, as a record.
    WholeRow {
        levels_up: usize,
        relation: usize,
        ty: Type,
    },
    /// Parameter `$index+1`.
    Param {
        index: usize,
        ty: Type,
    },
    /// A function or operator.
    Call(Box<Call>),
    /// A type conversion that is not a plain function call.
    Convert(Box<Convert>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        input: Box<Expr>,
        negated: bool,
    },
    /// IS `[NOT]` TRUE / FALSE; `IS UNKNOWN` is IsNull.
    IsBool {
        input: Box<Expr>,
        value: bool,
        negated: bool,
    },
    /// IS `[NOT]` DISTINCT FROM; `equal` is the `=` of the common type.
    Distinct {
        equal: &'static Function,
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    /// CASE; a simple CASE has its comparisons written out.
    Case {
        whens: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        ty: Type,
    },
    Coalesce {
        args: Vec<Expr>,
        ty: Type,
    },
    /// GREATEST or LEAST.
    Extreme {
        greatest: bool,
        args: Vec<Expr>,
        ty: Type,
    },
    NullIf {
        equal: &'static Function,
        left: Box<Expr>,
        right: Box<Expr>,
        ty: Type,
    },
    /// `left op ANY|ALL (list)`: IN lists too. `list` holds the elements.
    InList {
        function: &'static Function,
        left: Box<Expr>,
        list: Vec<Expr>,
        all: bool,
        negated: bool,
    },
    /// `left op ANY|ALL (array expression)`.
    AnyArray {
        function: &'static Function,
        left: Box<Expr>,
        array: Box<Expr>,
        all: bool,
    },
    /// ARRAY[...]; elements may be arrays (then dimensions grow).
    Array {
        elements: Vec<Expr>,
        ty: Type,
    },
    Row {
        fields: Vec<Expr>,
        ty: Type,
    },
    Subscript {
        input: Box<Expr>,
        subscripts: Vec<Subscript>,
        ty: Type,
    },
    Field {
        input: Box<Expr>,
        index: usize,
        ty: Type,
    },
    Aggregate(Box<AggregateCall>),
    Window(Box<WindowCall>),
    /// A set-returning function.
    SetCall(Box<SetCall>),
    /// GROUPING(...): indexes into `group_keys`.
    Grouping(Vec<usize>),
    Sublink(Box<Sublink>),

    // Made by the planner only:
    /// Column `index` of the input row.
    Slot {
        index: usize,
        ty: Type,
    },
    /// Correlation parameter `index`, set by the node that runs this one once per outer row.
    Outer {
        index: usize,
        ty: Type,
    },
    /// Subplan `index` of the plan, run for its value with the parameters it names.
    Subplan(Box<SubplanCall>),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub function: &'static Function,
    /// Coerced to the declared types. For VARIADIC functions the trailing arguments stand as they are.
    pub args: Vec<Expr>,
    pub ty: Type,
    /// 1-based character position in the statement, for run-time errors.
    pub position: Option<usize>,
    /// Name of the operator if it was written as one.
    pub operator: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Convert {
    pub input: Expr,
    pub from: Type,
    pub to: Type,
    pub kind: ConvertKind,
    /// An explicit cast truncates where an assignment raises 22001.
    pub explicit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertKind {
    /// Same bits, other type (text -> varchar).
    Relabel,
    /// Through the text form: output function of one, input function of the other.
    InOut,
    /// Same type, apply the modifier of `to` (length, precision).
    Typmod,
    /// Element by element for arrays, by the named function or through text.
    ArrayElements(Option<&'static Function>),
}

#[derive(Clone, Debug)]
pub enum Subscript {
    Index(Expr),
    Slice(Option<Expr>, Option<Expr>),
}

#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub aggregate: &'static Aggregate,
    pub args: Vec<Expr>,
    /// Direct arguments of an ordered-set aggregate; `order_by` then is WITHIN GROUP.
    pub direct_args: Vec<Expr>,
    pub distinct: bool,
    pub order_by: Vec<WindowOrder>,
    pub filter: Option<Expr>,
    /// The query it belongs to, counted from where it stands.
    pub levels_up: usize,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub struct WindowCall {
    pub function: WindowTarget,
    pub args: Vec<Expr>,
    pub filter: Option<Expr>,
    /// Index into `Query::windows`.
    pub window: usize,
    pub ty: Type,
}

#[derive(Clone, Copy, Debug)]
pub enum WindowTarget {
    Function(&'static WindowFunction),
    Aggregate(&'static Aggregate),
}

#[derive(Clone, Debug)]
pub struct SetCall {
    pub function: &'static SetFunction,
    pub args: Vec<Expr>,
    pub ty: Type,
}

impl SetCall {
    /// Names and types of the columns, polymorphic ones as the arguments make them.
    pub fn columns(&self) -> Vec<(&'static str, Type)> {
        let element = || {
            self.function.args.iter().zip(&self.args).find_map(|(declared, arg)| match *declared {
                oid::ANYARRAY => Some(types::element_of(arg.ty().oid)),
                oid::ANYELEMENT => Some(arg.ty().oid),
                _ => None,
            })
        };
        let actual = |declared: Oid| match declared {
            oid::ANYELEMENT => element().unwrap_or(declared),
            oid::ANYARRAY => element().map_or(declared, types::array_of),
            other => other,
        };
        self.function.columns.iter().map(|(name, ty)| (*name, Type::new(actual(*ty)))).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Sublink {
    /// Its copies have it too: what does not depend on the rows around it need be computed only once for all of them.
    pub id: u64,
    pub kind: SublinkKind,
    pub query: Query,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub enum SublinkKind {
    Exists,
    /// One row at most, one column; more rows are 21000.
    Scalar,
    /// ARRAY(SELECT ...).
    Array,
    /// `(tests) op ANY (SELECT ...)`; IN is ANY with `=`. `comparison` is over the test expressions, as they stand in the
    /// outer query, and `Expr::Column { relation: usize::MAX, column: i }` for column i of the subquery.
    Any {
        tests: Vec<Expr>,
        functions: Vec<&'static Function>,
    },
    All {
        tests: Vec<Expr>,
        functions: Vec<&'static Function>,
    },
}

#[derive(Clone, Debug)]
pub struct SubplanCall {
    /// Index into the plan's subplans.
    pub subplan: usize,
    pub kind: SubplanKind,
    /// Correlation parameters to set before running: (parameter index, value over the current row).
    pub bindings: Vec<(usize, Expr)>,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub enum SubplanKind {
    Exists,
    Scalar,
    Array,
    /// Tests against the subplan's columns, pairwise, with three-valued logic.
    Any {
        tests: Vec<Expr>,
        functions: Vec<&'static Function>,
    },
    All {
        tests: Vec<Expr>,
        functions: Vec<&'static Function>,
    },
}

impl Expr {
    /// The type of the value.
    pub fn ty(&self) -> Type {
        use value::types::oid;
        match self {
            Expr::Const { ty, .. }
            | Expr::Column { ty, .. }
            | Expr::WholeRow { ty, .. }
            | Expr::Param { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::Coalesce { ty, .. }
            | Expr::Extreme { ty, .. }
            | Expr::NullIf { ty, .. }
            | Expr::Array { ty, .. }
            | Expr::Row { ty, .. }
            | Expr::Subscript { ty, .. }
            | Expr::Field { ty, .. }
            | Expr::Slot { ty, .. }
            | Expr::Outer { ty, .. } => *ty,
            Expr::Call(call) => call.ty,
            Expr::Convert(convert) => convert.to,
            Expr::Aggregate(call) => call.ty,
            Expr::Window(call) => call.ty,
            Expr::SetCall(call) => call.ty,
            Expr::Sublink(sublink) => sublink.ty,
            Expr::Subplan(call) => call.ty,
            Expr::RowId { .. } => Type::new(oid::INT8),
            Expr::Grouping(_) => Type::new(oid::INT4),
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsBool { .. }
            | Expr::Distinct { .. }
            | Expr::InList { .. }
            | Expr::AnyArray { .. } => Type::new(oid::BOOL),
        }
    }
}
