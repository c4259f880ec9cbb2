//! Plan nodes: what will be done, step by step. Read-only for whoever runs them, so that a plan can be cached and
//! shared; running state sits in the executor's own tree.
//!
//! A node yields rows of slots. Its expressions are over the slots of its input ([`Expr::Slot`]), over correlation
//! parameters ([`Expr::Outer`]) that a node above sets, over statement parameters ([`Expr::Param`]), and may run
//! subplans ([`Expr::Subplan`]). The slots of a join are those of its left input followed by those of its right
//! (semi and anti joins: the left only).

use std::sync::Arc;

use engine::catalog::{Index, Table, View};
use function::{Aggregate, Function};
use resolve::tree::{Expr, Frame, LockStrength, LockWait, OutputColumn, SetKind, WindowTarget};
use value::{Oid, Type};

/// A whole statement.
#[derive(Clone, Debug)]
pub struct Plan {
    pub root: Node,
    /// What [`Expr::Subplan`] runs.
    pub subplans: Vec<Subplan>,
    /// CTEs that are computed once and read by [`NodeKind::CteScan`]; data-modifying ones run first, in order.
    pub ctes: Vec<Cte>,
    /// Number of correlation parameters in use.
    pub outers: usize,
    /// Names and types of the output, by the root's first slots.
    pub output: Vec<OutputColumn>,
    /// Every table read or written.
    pub tables: Vec<TableUse>,
    /// Every view read, with whose right to read it counts (`None`: the current role's).
    pub views: Vec<(Arc<View>, Option<Oid>)>,
    /// Calls something volatile or changes data: never cached as a result.
    pub volatile: bool,
}

/// A table in a plan, how it must be locked and what the role must be allowed to do.
#[derive(Clone, Debug)]
pub struct TableUse {
    pub table: Arc<Table>,
    /// Read only (ACCESS SHARE), locked rows (ROW SHARE) or written (ROW EXCLUSIVE).
    pub lock: TableLock,
    /// Whose rights count, `None`: the current role.
    pub check_as: Option<Oid>,
    pub select: Vec<usize>,
    /// Any column at all is enough (SELECT count(*)).
    pub select_any: bool,
    pub insert: Vec<usize>,
    pub update: Vec<usize>,
    pub delete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableLock {
    AccessShare,
    RowShare,
    RowExclusive,
}

#[derive(Clone, Debug)]
pub struct Subplan {
    pub root: Node,
    /// Correlation parameters it reads: it must be run again when one changes; empty: once per statement.
    pub parameters: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Cte {
    pub name: String,
    pub root: Node,
    pub modifies: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: NodeKind,
    /// Types of its slots.
    pub types: Vec<Type>,
    /// Estimated rows it yields.
    pub rows: f64,
    /// Estimated cost to the first and to the last row, in PostgreSQL's units (1 = a sequential page read).
    pub startup_cost: f64,
    pub total_cost: f64,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    /// One row without slots, or none when the condition is not true.
    Once {
        condition: Option<Expr>,
    },
    Values {
        rows: Vec<Vec<Expr>>,
    },
    Scan(Scan),
    IndexScan(IndexScan),
    /// A relation computed from the catalog or from statistics: pg_catalog, information_schema, startdb.
    SystemScan {
        schema: &'static str,
        name: &'static str,
        oid: Oid,
        columns: Vec<usize>,
        filter: Option<Expr>,
    },
    /// Functions in lockstep; each contributes `widths[i]` slots, then the ordinality (int8).
    FunctionScan {
        calls: Vec<Expr>,
        widths: Vec<usize>,
        ordinality: bool,
    },
    /// Reads `Plan::ctes[cte]`.
    CteScan {
        cte: usize,
    },
    /// Inside the recursive arm: the rows of the last round of recursion `recursion`.
    WorkTable {
        recursion: usize,
    },
    /// Re-check (rules 13): the one pinned row of query relation `relation`, or nothing; slots as the relation it stands for.
    Pinned {
        relation: usize,
        columns: Vec<usize>,
        row_id: bool,
    },
    Filter {
        input: Box<Node>,
        predicate: Expr,
    },
    Project {
        input: Box<Node>,
        exprs: Vec<Expr>,
    },
    /// Like Project; set-returning calls anywhere in `exprs` advance in lockstep, shorter ones yield NULL.
    ProjectSet {
        input: Box<Node>,
        exprs: Vec<Expr>,
    },
    NestedLoop(Box<NestedLoop>),
    HashJoin(Box<HashJoin>),
    Aggregate(Box<Aggregation>),
    Window(Box<WindowStep>),
    Sort {
        input: Box<Node>,
        keys: Vec<Order>,
        limit: Option<Expr>,
    },
    /// `ties`: WITH TIES, the order that defines them. The executor checks for negative values (2201W, 2201X).
    Limit {
        input: Box<Node>,
        limit: Option<Expr>,
        offset: Option<Expr>,
        ties: Option<Vec<Order>>,
    },
    /// Distinct rows over all slots (SQL equality, NULLs alike), by hash.
    Distinct {
        input: Box<Node>,
    },
    /// The first row of each run of equal `keys` in an input that is sorted by them.
    DistinctOn {
        input: Box<Node>,
        keys: Vec<Expr>,
    },
    /// INTERSECT or EXCEPT, with ALL by counting.
    SetOperation {
        kind: SetKind,
        all: bool,
        left: Box<Node>,
        right: Box<Node>,
    },
    Append {
        inputs: Vec<Node>,
    },
    RecursiveUnion {
        recursion: usize,
        all: bool,
        initial: Box<Node>,
        recursive: Box<Node>,
    },
    LockRows(Box<LockRows>),
    Modify(Box<Modify>),
}

/// Reads a table in row id order.
#[derive(Clone, Debug)]
pub struct Scan {
    pub table: Arc<Table>,
    /// Its number in the query's range table (for re-check and EXPLAIN).
    pub relation: usize,
    pub alias: String,
    /// Slots: these columns (indexes into `Table::columns`), then the row id (int8) if asked for.
    pub columns: Vec<usize>,
    pub row_id: bool,
    /// Over the slots.
    pub filter: Option<Expr>,
}

/// Reads a table through an index, in key order.
#[derive(Clone, Debug)]
pub struct IndexScan {
    pub table: Arc<Table>,
    pub index: Arc<Index>,
    pub relation: usize,
    pub alias: String,
    pub columns: Vec<usize>,
    pub row_id: bool,
    /// Equality on the first key columns, in order; expressions without slots, of exactly the column's type. A NULL
    /// value finds nothing unless the entry says `is_null`.
    pub equal: Vec<Equal>,
    /// Bounds on the next key column, in the order of values (not of the index, which may be descending).
    pub low: Option<RangeBound>,
    pub high: Option<RangeBound>,
    /// `column = ANY (list)` on the key column after `equal`: one probe per distinct value, in index order.
    pub any: Option<Vec<Expr>>,
    /// `column = ANY (array)`: as `any`, with the elements of an array value.
    pub any_array: Option<Expr>,
    pub backward: bool,
    /// Everything that was asked of the table and is not implied by the bounds; over the slots.
    pub filter: Option<Expr>,
}

#[derive(Clone, Debug)]
pub struct Equal {
    pub value: Expr,
    /// `IS NULL` on the key column; `value` is then not looked at.
    pub is_null: bool,
}

#[derive(Clone, Debug)]
pub struct RangeBound {
    pub value: Expr,
    pub inclusive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinType {
    Inner,
    Left,
    Right,
    Full,
    /// Left rows with at least one match, once.
    Semi,
    /// Left rows without a match.
    Anti,
    /// `NOT IN`: like Anti, but nothing passes once the right side holds a NULL key, and a NULL left key passes only
    /// against an empty right side. One key pair, no condition.
    NullAwareAnti,
}

#[derive(Clone, Debug)]
pub struct NestedLoop {
    pub kind: JoinType,
    pub left: Node,
    pub right: Node,
    /// Set before the right side is run for a left row: (parameter, expression over the left slots). Empty: the
    /// right side does not depend on the left and is kept in memory after its first run.
    pub bindings: Vec<(usize, Expr)>,
    /// Over the left slots followed by the right.
    pub condition: Option<Expr>,
    /// A semi join that yields the slots of the matching right row too: a re-check needs to know it.
    pub wide: bool,
}

#[derive(Clone, Debug)]
pub struct HashJoin {
    pub kind: JoinType,
    pub left: Node,
    /// The side the table is built of.
    pub right: Node,
    /// Pairs of keys, over the left and over the right slots, of one type; compared by `value::compare`.
    pub keys: Vec<(Expr, Expr)>,
    /// What else must hold, over the left slots followed by the right.
    pub condition: Option<Expr>,
    /// See [`NestedLoop::wide`].
    pub wide: bool,
}

/// Slots: keys, then aggregates, then (with more than one grouping set) the grouping set's index (int4).
#[derive(Clone, Debug)]
pub struct Aggregation {
    pub input: Node,
    pub keys: Vec<Expr>,
    /// Grouping sets, as indexes into `keys`; keys outside the set are NULL. No sets: one group, also of an empty input.
    pub sets: Vec<Vec<usize>>,
    pub aggregates: Vec<AggregateStep>,
}

#[derive(Clone, Debug)]
pub struct AggregateStep {
    pub aggregate: &'static Aggregate,
    pub args: Vec<Expr>,
    pub direct_args: Vec<Expr>,
    pub distinct: bool,
    pub order_by: Vec<Order>,
    pub filter: Option<Expr>,
    pub ty: Type,
}

/// Slots: the input's, then one per call. The input need not be sorted.
#[derive(Clone, Debug)]
pub struct WindowStep {
    pub input: Node,
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<Order>,
    pub frame: Frame,
    pub calls: Vec<WindowStepCall>,
}

#[derive(Clone, Debug)]
pub struct WindowStepCall {
    pub function: WindowTarget,
    pub args: Vec<Expr>,
    pub filter: Option<Expr>,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

/// FOR UPDATE and friends. Slots: the input's.
#[derive(Clone, Debug)]
pub struct LockRows {
    pub input: Node,
    pub locks: Vec<RowLockStep>,
    pub recheck: Recheck,
}

#[derive(Clone, Debug)]
pub struct RowLockStep {
    pub table: Arc<Table>,
    pub relation: usize,
    /// Slot of its row id (NULL on the outer side of a join: nothing to lock).
    pub row_id: usize,
    pub strength: LockStrength,
    pub wait: LockWait,
}

/// The same query with every base relation bound to one row: run when a locked row turns out to have a newer version. `plan`
/// yields rows with the input's slots; relations not among the locked ones are pinned at the row their `pins` slot names:
/// for a table its row id, for anything else the row itself, as a record.
#[derive(Clone, Debug)]
pub struct Recheck {
    pub plan: Node,
    /// (relation, its table if it is one, slot of its row id or record in the input; NULL on the outer side of a join).
    pub pins: Vec<(usize, Option<Arc<Table>>, usize)>,
}

/// INSERT, UPDATE or DELETE. Slots: the RETURNING list, or none.
#[derive(Clone, Debug)]
pub struct Modify {
    pub table: Arc<Table>,
    pub input: Node,
    pub action: ModifyAction,
    /// Over the table's columns (slot i = `Table::columns[i]`, new values; old for DELETE), then the row id, then the input's slots.
    pub returning: Option<Vec<Expr>>,
    /// Generated columns and hidden key columns: computed over the new row's columns, in order, before checks.
    pub computed: Vec<(usize, Expr)>,
    /// CHECK constraints over the new row's columns: NULL passes, false is 23514.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug)]
pub struct Check {
    pub name: String,
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub enum ModifyAction {
    Insert {
        /// Input slot i is the value of column `columns[i]`.
        columns: Vec<usize>,
        /// Columns that get a default: expressions without slots.
        defaults: Vec<(usize, Expr)>,
        on_conflict: Option<OnConflict>,
    },
    Update {
        row_id: usize,
        /// (column, input slot of its new value).
        columns: Vec<(usize, usize)>,
        recheck: Recheck,
    },
    Delete {
        row_id: usize,
        recheck: Recheck,
    },
}

#[derive(Clone, Debug)]
pub struct OnConflict {
    /// Unique indexes that arbitrate; empty: all.
    pub arbiters: Vec<Oid>,
    /// `None`: DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// Expressions over the existing row's columns, its row id, then the proposed row's columns.
#[derive(Clone, Debug)]
pub struct ConflictUpdate {
    pub assignments: Vec<(usize, Expr)>,
    pub filter: Option<Expr>,
}

/// The `=` of a hash join's or a distinct's keys, kept for EXPLAIN.
pub type Equality = &'static Function;
