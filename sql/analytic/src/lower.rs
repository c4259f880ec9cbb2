//! From plan nodes to DataFusion's operators.
//!
//! The planner has decided already what DataFusion's optimizers would: pushdown, join order, build sides. So each node
//! becomes its operator directly, with the repartitioning it needs, and only the columns that somebody above reads. What
//! has no operator with PostgreSQL's meaning (windows, set operations, DISTINCT ON, correlated subplans) is one step of
//! the row executor over vectorised inputs ([`RowsExec`]); index scans, system relations and lateral joins are whole
//! subtrees of the row executor.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::array::new_null_array;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{JoinSide, JoinType as DfJoin, NullEquality, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use engine::Columns;
use execute::{Cancel, Context};
use function::AggregateKind;
use futures::StreamExt;
use plan::ir::*;
use resolve::tree::{Expr, OutputColumn, SubplanKind};
use value::arrow_form::ColumnReader;
use value::types::oid;
use value::{Datum, Error, SqlState, Type};

use crate::Options;
use crate::aggregate;
use crate::compute::Compute;
use crate::error::{Failure, inward};
use crate::leaf::{self, BatchesExec, INPUTS, RowsExec, SCHEMA, ScanExec, TableLeaf, WatchExec};
use crate::vector::{self, Compiler, Input, SubplanResult, Vector};

type Exec = Arc<dyn ExecutionPlan>;
type Physical = Arc<dyn PhysicalExpr>;
type Outcome<T> = std::result::Result<T, Failure>;

/// A node's operator, and where the node's slots are in its output.
#[derive(Clone)]
pub(crate) struct Lowered {
    pub exec: Exec,
    /// All slots; of those that are not in the output, the form is a guess.
    slots: Vec<Input>,
    place: Vec<Option<usize>>,
}

/// A vector and the slots that its inputs are.
struct Bound {
    vector: Vector,
    used: Vec<usize>,
    cancel: Arc<Cancel>,
}

impl Bound {
    fn map(self, f: impl FnOnce(Vector) -> Outcome<Vector>) -> Outcome<Bound> {
        Ok(Bound { vector: f(self.vector)?, ..self })
    }
}

pub(crate) struct Lowering<'a> {
    plan: &'a Arc<Plan>,
    context: &'a Context,
    task: Arc<TaskContext>,
    partitions: usize,
    split_build: f64,
    /// Decimals may be tried where an overflow is thinkable.
    optimistic: bool,
    subplans: Vec<Option<SubplanResult>>,
    /// Subplans whose run failed: whether that matters is known only row by row.
    failed: Vec<bool>,
    ctes: HashMap<usize, Lowered>,
    /// Memory held by what was computed before the plan itself.
    held: Held,
}

/// Memory of results that are kept for the whole statement.
pub(crate) struct Held {
    context: Context,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.context.memory.shrink(self.bytes);
    }
}

fn df<T>(result: datafusion::common::Result<T>) -> Outcome<T> {
    result.map_err(|error| inward(&error))
}

/// Marks the slots an expression reads.
fn mark(expr: &Expr, needed: &mut [bool]) {
    plan::expr::visit(expr, 0, &mut |part, _| {
        if let Expr::Slot { index, .. } = part
            && let Some(flag) = needed.get_mut(*index)
        {
            *flag = true;
        }
    });
}

/// Expressions that stand directly in a node.
fn exprs(node: &Node) -> Vec<&Expr> {
    let mut out: Vec<&Expr> = Vec::new();
    match &node.kind {
        NodeKind::Once { condition } => out.extend(condition),
        NodeKind::Values { rows } => out.extend(rows.iter().flatten()),
        NodeKind::Scan(scan) => out.extend(&scan.filter),
        NodeKind::IndexScan(scan) => {
            out.extend(scan.equal.iter().map(|equal| &equal.value));
            out.extend(scan.low.iter().chain(&scan.high).map(|bound| &bound.value));
            out.extend(scan.any.iter().flatten().chain(&scan.any_array).chain(&scan.filter));
        }
        NodeKind::SystemScan { filter, .. } => out.extend(filter),
        NodeKind::FunctionScan { calls, .. } => out.extend(calls),
        NodeKind::Filter { predicate, .. } => out.push(predicate),
        NodeKind::Project { exprs, .. } | NodeKind::ProjectSet { exprs, .. } => out.extend(exprs),
        NodeKind::NestedLoop(join) => {
            out.extend(join.bindings.iter().map(|(_, expr)| expr));
            out.extend(&join.condition);
        }
        NodeKind::HashJoin(join) => {
            out.extend(join.keys.iter().flat_map(|(left, right)| [left, right]));
            out.extend(&join.condition);
        }
        NodeKind::Aggregate(aggregation) => {
            out.extend(&aggregation.keys);
            for step in &aggregation.aggregates {
                out.extend(step.args.iter().chain(&step.direct_args).chain(&step.filter));
                out.extend(step.order_by.iter().map(|order| &order.expr));
            }
        }
        NodeKind::Window(window) => {
            out.extend(&window.partition_by);
            out.extend(window.order_by.iter().map(|order| &order.expr));
            out.extend(window.calls.iter().flat_map(|call| call.args.iter().chain(&call.filter)));
        }
        NodeKind::Sort { keys, limit, .. } => {
            out.extend(keys.iter().map(|key| &key.expr));
            out.extend(limit);
        }
        NodeKind::Limit { limit, offset, ties, .. } => {
            out.extend(limit.iter().chain(offset));
            out.extend(ties.iter().flatten().map(|order| &order.expr));
        }
        NodeKind::DistinctOn { keys, .. } => out.extend(keys),
        _ => {}
    }
    out
}

fn is_lateral(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::NestedLoop(join) if !join.bindings.is_empty())
}

/// The inputs of a node that can be replaced by others ([`with_children`]).
fn children(node: &Node) -> Vec<&Node> {
    match &node.kind {
        NodeKind::Filter { input, .. }
        | NodeKind::Project { input, .. }
        | NodeKind::ProjectSet { input, .. }
        | NodeKind::Sort { input, .. }
        | NodeKind::Limit { input, .. }
        | NodeKind::Distinct { input }
        | NodeKind::DistinctOn { input, .. } => vec![input],
        NodeKind::NestedLoop(join) => match (join.bindings.is_empty(), is_lateral(&join.left)) {
            (true, _) => vec![&join.left, &join.right],
            // A chain of lateral joins is one step; what it starts from is its input.
            (false, true) => children(&join.left),
            (false, false) => vec![&join.left],
        },
        NodeKind::HashJoin(join) => vec![&join.left, &join.right],
        NodeKind::Aggregate(aggregation) => vec![&aggregation.input],
        NodeKind::Window(window) => vec![&window.input],
        NodeKind::SetOperation { left, right, .. } => vec![left, right],
        NodeKind::Append { inputs } => inputs.iter().collect(),
        _ => Vec::new(),
    }
}

fn children_mut(node: &mut Node) -> Vec<&mut Node> {
    match &mut node.kind {
        NodeKind::Filter { input, .. }
        | NodeKind::Project { input, .. }
        | NodeKind::ProjectSet { input, .. }
        | NodeKind::Sort { input, .. }
        | NodeKind::Limit { input, .. }
        | NodeKind::Distinct { input }
        | NodeKind::DistinctOn { input, .. } => vec![input],
        NodeKind::NestedLoop(join) => {
            let NestedLoop { left, right, bindings, .. } = &mut **join;
            match (bindings.is_empty(), is_lateral(left)) {
                (true, _) => vec![left, right],
                (false, true) => children_mut(left),
                (false, false) => vec![left],
            }
        }
        NodeKind::HashJoin(join) => vec![&mut join.left, &mut join.right],
        NodeKind::Aggregate(aggregation) => vec![&mut aggregation.input],
        NodeKind::Window(window) => vec![&mut window.input],
        NodeKind::SetOperation { left, right, .. } => vec![left, right],
        NodeKind::Append { inputs } => inputs.iter_mut().collect(),
        _ => Vec::new(),
    }
}

/// How a node is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Vectorised,
    /// A step of the row executor over vectorised inputs.
    Step,
    /// The row executor, with everything below.
    Rows,
    /// Not at all.
    Refused,
}

fn manner(node: &Node, expressions: bool) -> Manner {
    let native = if expressions { Manner::Vectorised } else { Manner::Step };
    match &node.kind {
        NodeKind::Scan(_) if expressions => Manner::Vectorised,
        NodeKind::Scan(_)
        | NodeKind::Once { .. }
        | NodeKind::Values { .. }
        | NodeKind::IndexScan(_)
        | NodeKind::SystemScan { .. }
        | NodeKind::FunctionScan { .. }
        | NodeKind::RecursiveUnion { .. } => Manner::Rows,
        NodeKind::NestedLoop(join) if !join.bindings.is_empty() => {
            if only_reads(node) {
                Manner::Step
            } else {
                Manner::Refused
            }
        }
        NodeKind::NestedLoop(join) if join.kind == JoinType::NullAwareAnti => Manner::Step,
        NodeKind::Filter { .. }
        | NodeKind::Project { .. }
        | NodeKind::NestedLoop(_)
        | NodeKind::Sort { .. }
        | NodeKind::Distinct { .. }
        | NodeKind::Append { .. }
        | NodeKind::CteScan { .. } => native,
        NodeKind::HashJoin(join) => {
            let odd =
                join.kind == JoinType::NullAwareAnti && (join.keys.len() != 1 || join.condition.is_some());
            if odd || join.keys.is_empty() { Manner::Step } else { native }
        }
        NodeKind::Limit { ties, .. } if ties.is_none() => native,
        NodeKind::Aggregate(aggregation) => {
            let steps = aggregation.aggregates.iter().all(|step| {
                let sensitive = matches!(step.aggregate.name, "array_agg" | "string_agg")
                    || step.aggregate.name.starts_with("json");
                step.aggregate.kind == AggregateKind::Normal
                    && !(sensitive && (step.distinct || !step.order_by.is_empty()))
            });
            if steps && aggregation.sets.len() <= 1 { native } else { Manner::Step }
        }
        NodeKind::ProjectSet { .. }
        | NodeKind::Window(_)
        | NodeKind::Limit { .. }
        | NodeKind::DistinctOn { .. }
        | NodeKind::SetOperation { .. } => Manner::Step,
        NodeKind::WorkTable { .. }
        | NodeKind::Pinned { .. }
        | NodeKind::LockRows(_)
        | NodeKind::Modify(_) => Manner::Refused,
    }
}

/// Whether a subtree only reads.
fn only_reads(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Pinned { .. } | NodeKind::LockRows(_) | NodeKind::Modify(_) => false,
        NodeKind::RecursiveUnion { initial, recursive, .. } => only_reads(initial) && only_reads(recursive),
        NodeKind::NestedLoop(join) => only_reads(&join.left) && only_reads(&join.right),
        _ => children(node).into_iter().all(only_reads),
    }
}

/// Deepest nesting of nodes and of expressions; lowering recurses, and the row executor has a way with long chains.
const DEEPEST: usize = 250;

fn is_shallow(plan: &Plan) -> bool {
    let roots =
        plan.subplans.iter().map(|subplan| &subplan.root).chain(plan.ctes.iter().map(|cte| &cte.root));
    let mut open: Vec<(&Node, usize)> = roots.chain([&plan.root]).map(|root| (root, 0)).collect();
    while let Some((node, depth)) = open.pop() {
        if depth > DEEPEST || !exprs(node).into_iter().all(|expr| vector::is_shallow(expr, DEEPEST)) {
            return false;
        }
        match &node.kind {
            NodeKind::RecursiveUnion { initial, recursive, .. } => {
                open.push((initial, depth + 1));
                open.push((recursive, depth + 1));
            }
            NodeKind::NestedLoop(join) => {
                open.push((&join.left, depth + 1));
                open.push((&join.right, depth + 1));
            }
            _ => open.extend(children(node).into_iter().map(|child| (child, depth + 1))),
        }
    }
    true
}

/// Whether the plan can be run here, and some table of it is read in columns.
pub(crate) fn accepts(plan: &Plan) -> bool {
    fn visit(plan: &Plan, node: &Node, scans: &mut bool, seen: &mut Vec<usize>) -> bool {
        let native = exprs(node).into_iter().all(vector::accepts);
        match manner(node, native) {
            Manner::Refused => return false,
            Manner::Rows => return only_reads(node),
            Manner::Vectorised | Manner::Step => {}
        }
        match &node.kind {
            NodeKind::Scan(_) => *scans = true,
            NodeKind::CteScan { cte } if !seen.contains(cte) => {
                seen.push(*cte);
                let Some(cte) = plan.ctes.get(*cte) else { return false };
                if cte.modifies || !visit(plan, &cte.root, scans, seen) {
                    return false;
                }
            }
            _ => {}
        }
        children(node).into_iter().all(|child| visit(plan, child, scans, seen))
    }
    if plan.volatile || plan.ctes.iter().any(|cte| cte.modifies) || !is_shallow(plan) {
        return false;
    }
    let mut scans = false;
    visit(plan, &plan.root, &mut scans, &mut Vec::new())
        && plan.subplans.iter().all(|subplan| only_reads(&subplan.root))
        && scans
}

fn literal(value: ScalarValue) -> Physical {
    Arc::new(Literal::new(value))
}

fn null_literal(data_type: &DataType) -> Outcome<Physical> {
    let array = new_null_array(data_type, 1);
    Ok(literal(df(ScalarValue::try_from_array(&array, 0))?))
}

fn column(number: usize) -> Physical {
    Arc::new(Column::new(&format!("c{number}"), number))
}

fn project(exec: Exec, exprs: Vec<Physical>) -> Outcome<Exec> {
    let exprs = exprs.into_iter().enumerate();
    let exprs: Vec<ProjectionExpr> =
        exprs.map(|(number, expr)| ProjectionExpr { expr, alias: format!("c{number}") }).collect();
    Ok(Arc::new(df(ProjectionExec::try_new(exprs, exec))?))
}

fn partitions(exec: &Exec) -> usize {
    exec.output_partitioning().partition_count()
}

fn gathered(exec: Exec) -> Exec {
    if partitions(&exec) == 1 { exec } else { Arc::new(CoalescePartitionsExec::new(exec)) }
}

impl Lowered {
    fn column(&self, slot: usize) -> Outcome<Physical> {
        let place = self.place.get(slot).copied().flatten();
        let place = place.ok_or_else(|| Error::internal(format!("slot {slot} was left out")))?;
        let schema = self.exec.schema();
        Ok(Arc::new(Column::new(schema.field(place).name(), place)))
    }

    fn physical(&self, bound: Bound) -> Outcome<Physical> {
        if let Some(input) = bound.vector.input() {
            return self.column(bound.used[input]);
        }
        let inputs = bound.used.iter().map(|slot| self.column(*slot)).collect::<Outcome<Vec<_>>>()?;
        Ok(Arc::new(Compute::new(bound.vector, inputs, bound.cancel)))
    }

    /// With an output of just these slots, in this order.
    fn exact(self, slots: usize) -> Outcome<Exec> {
        let width = self.exec.schema().fields().len();
        if width == slots && (0..slots).all(|slot| self.place.get(slot) == Some(&Some(slot))) {
            return Ok(self.exec);
        }
        let exprs = (0..slots).map(|slot| self.column(slot)).collect::<Outcome<Vec<_>>>()?;
        project(self.exec, exprs)
    }
}

impl<'a> Lowering<'a> {
    pub fn new(
        plan: &'a Arc<Plan>,
        context: &'a Context,
        task: Arc<TaskContext>,
        options: &Options,
        optimistic: bool,
    ) -> Lowering<'a> {
        Lowering {
            plan,
            context,
            task,
            partitions: options.cores,
            split_build: options.split_build,
            optimistic,
            subplans: vec![None; plan.subplans.len()],
            failed: vec![false; plan.subplans.len()],
            ctes: HashMap::new(),
            held: Held { context: context.clone(), bytes: 0 },
        }
    }

    /// The whole plan with exactly its output columns, and the memory of what was computed for it already.
    pub async fn run(mut self) -> Outcome<(Exec, Held)> {
        let plan = self.plan.clone();
        self.prepare(&plan.root).await?;
        let width = plan.output.len();
        let mut needed = vec![false; plan.root.types.len()];
        needed.iter_mut().take(width).for_each(|flag| *flag = true);
        let lowered = self.lower(&plan.root, &needed, false)?;
        let ordered = gathered(lowered.exact(width)?);
        Ok((ordered, self.held))
    }

    /// Computes the uncorrelated subplans and the WITH queries that vectorised nodes at or below `node` read.
    fn prepare<'s>(&'s mut self, node: &'s Node) -> Pin<Box<dyn Future<Output = Outcome<()>> + Send + 's>> {
        Box::pin(async move {
            match self.manner(node) {
                Manner::Rows | Manner::Refused => return Ok(()),
                Manner::Vectorised => {
                    for expr in exprs(node) {
                        let mut calls = Vec::new();
                        plan::expr::visit(expr, 0, &mut |part, _| {
                            if let Expr::Subplan(call) = part {
                                calls.push((call.subplan, call.kind.clone()));
                            }
                        });
                        for (number, kind) in calls {
                            self.prepare_subplan(number, &kind).await?;
                        }
                    }
                }
                Manner::Step => {}
            }
            if let NodeKind::CteScan { cte } = &node.kind {
                self.prepare_cte(*cte).await?;
            }
            for child in children(node) {
                self.prepare(child).await?;
            }
            Ok(())
        })
    }

    async fn prepare_subplan(&mut self, number: usize, kind: &SubplanKind) -> Outcome<()> {
        if self.subplans[number].is_some() || self.failed[number] {
            return Ok(());
        }
        let plan = self.plan.clone();
        let root = &plan.subplans[number].root;
        match self.subplan(root, kind).await {
            Ok(result) => self.subplans[number] = Some(result),
            Err(Failure::Error(error))
                if !matches!(error.state(), SqlState::QUERY_CANCELED | SqlState::OUT_OF_MEMORY)
                    && !error.fields().fatal =>
            {
                self.failed[number] = true;
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn subplan(&mut self, root: &Node, kind: &SubplanKind) -> Outcome<SubplanResult> {
        self.prepare(root).await?;
        let ty = root.types.first().copied();
        let width = usize::from(ty.is_some() && !matches!(kind, SubplanKind::Exists));
        let mut needed = vec![false; root.types.len()];
        needed.iter_mut().take(width).for_each(|flag| *flag = true);
        let exec = gathered(self.lower(root, &needed, false)?.exact(width)?);
        let limit = match kind {
            SubplanKind::Exists => Some(1),
            SubplanKind::Scalar => Some(2),
            _ => None,
        };
        let (batches, bytes) = self.collect(exec, limit).await?;
        self.held.bytes += bytes;
        if let SubplanKind::Exists = kind {
            let found = batches.iter().any(|batch| batch.num_rows() > 0);
            return Ok(SubplanResult::Value(Datum::Bool(found)));
        }
        let mut values = Vec::new();
        if let Some(ty) = ty {
            for batch in &batches {
                let reader = ColumnReader::new(&**batch.column(0), ty)?;
                for row in 0..batch.num_rows() {
                    values.push(reader.get(row)?);
                }
            }
        }
        Ok(match kind {
            SubplanKind::Scalar if values.len() > 1 => {
                return Err(Error::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                )
                .into());
            }
            SubplanKind::Scalar => SubplanResult::Value(values.pop().unwrap_or_default()),
            _ => SubplanResult::List(values),
        })
    }

    async fn prepare_cte(&mut self, number: usize) -> Outcome<()> {
        if self.ctes.contains_key(&number) {
            return Ok(());
        }
        let plan = self.plan.clone();
        let root = &plan.ctes[number].root;
        self.prepare(root).await?;
        let width = root.types.len();
        let lowered = self.lower(root, &vec![true; width], false)?;
        let slots = lowered.slots.clone();
        let exec = gathered(lowered.exact(width)?);
        let schema = exec.schema();
        let (batches, bytes) = self.collect(exec, None).await?;
        self.held.bytes += bytes;
        let exec = Arc::new(BatchesExec::new(Arc::new(batches), schema, self.partitions));
        self.ctes.insert(number, Lowered { exec, slots, place: (0..width).map(Some).collect() });
        Ok(())
    }

    /// Runs an operator to its end (or to `limit` rows); the bytes are charged to the statement.
    async fn collect(&mut self, exec: Exec, limit: Option<usize>) -> Outcome<(Vec<RecordBatch>, u64)> {
        let mut stream = df(exec.execute(0, self.task.clone()))?;
        let (mut batches, mut bytes, mut rows) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.next().await {
            let batch = df(batch)?;
            self.context.cancel.check()?;
            let size = batch.get_array_memory_size() as u64;
            self.context.memory.grow(size).inspect_err(|_| self.context.memory.shrink(bytes))?;
            bytes += size;
            rows += batch.num_rows();
            batches.push(batch);
            if limit.is_some_and(|limit| rows >= limit) {
                break;
            }
        }
        Ok((batches, bytes))
    }

    fn manner(&self, node: &Node) -> Manner {
        let native = exprs(node).into_iter().all(|expr| {
            vector::accepts(expr)
                && !plan::expr::any(expr, &mut |part| match part {
                    Expr::Subplan(call) => {
                        let known = self.plan.subplans.get(call.subplan);
                        self.failed.get(call.subplan).copied().unwrap_or(true)
                            || matches!(call.kind, SubplanKind::Array)
                            || known.is_none_or(|subplan| !subplan.parameters.is_empty())
                    }
                    _ => false,
                })
        });
        manner(node, native)
    }

    fn bind(&self, lowered: &Lowered, expr: &Expr, optimistic: bool) -> Outcome<Bound> {
        self.bind_slots(&lowered.slots, expr, optimistic, false)
    }

    fn bind_slots(
        &self,
        slots: &[Input],
        expr: &Expr,
        optimistic: bool,
        mixed_scales: bool,
    ) -> Outcome<Bound> {
        let mut compiler = Compiler {
            context: self.context,
            subplans: &self.subplans,
            slots,
            optimistic: optimistic && self.optimistic,
            mixed_scales: mixed_scales && self.optimistic,
            used: Vec::new(),
        };
        let vector = compiler.compile(expr)?;
        Ok(Bound { vector, used: compiler.used, cancel: self.context.cancel.clone() })
    }

    /// The operator of a node that gives (at least) the slots in `needed`. `below`: everything it gives is read before the
    /// statement's first row is sent.
    fn lower(&mut self, node: &Node, needed: &[bool], below: bool) -> Outcome<Lowered> {
        match self.manner(node) {
            Manner::Vectorised => {}
            Manner::Step => return self.step(node),
            Manner::Rows => return Ok(self.rows(node.clone(), Vec::new(), Vec::new())),
            Manner::Refused => {
                return Err(Error::unsupported(
                    "this step in the vectorised executor",
                    "Use the row executor.",
                )
                .into());
            }
        }
        match &node.kind {
            NodeKind::Scan(scan) => self.scan(scan, node, needed),
            NodeKind::CteScan { cte } => {
                let known = self.ctes.get(cte).cloned();
                known.ok_or_else(|| Error::internal("a WITH query that was not run").into())
            }
            NodeKind::Filter { input, predicate } => {
                let mut wanted = needed.to_vec();
                wanted.resize(input.types.len(), false);
                mark(predicate, &mut wanted);
                let mut lowered = self.lower(input, &wanted, below)?;
                let bound = self.bind(&lowered, predicate, below)?;
                let predicate = lowered.physical(bound)?;
                lowered.exec = Arc::new(df(FilterExec::try_new(predicate, lowered.exec))?);
                Ok(lowered)
            }
            NodeKind::Project { input, exprs } => {
                let mut wanted = vec![false; input.types.len()];
                for (expr, needed) in exprs.iter().zip(needed) {
                    if *needed {
                        mark(expr, &mut wanted);
                    }
                }
                let lowered = self.lower(input, &wanted, below)?;
                let mut out = Output::default();
                for (expr, needed) in exprs.iter().zip(needed) {
                    if !needed {
                        out.skip(expr.ty());
                        continue;
                    }
                    let bound = self.bind(&lowered, expr, below)?;
                    out.push(&lowered, bound, expr.ty())?;
                }
                out.project(lowered.exec)
            }
            NodeKind::HashJoin(join) => self.hash_join(join, needed, below),
            NodeKind::NestedLoop(join) => self.nested_loop(join, needed, below),
            NodeKind::Aggregate(aggregation) => self.aggregate(aggregation, node, needed, below),
            NodeKind::Distinct { input } => self.distinct(input, needed, below),
            NodeKind::Sort { input, keys, limit } => self.sort(input, keys, limit.as_ref(), needed, below),
            NodeKind::Limit { input, limit, offset, .. } => {
                let mut lowered = self.lower(input, needed, below)?;
                let offset = self
                    .count(offset.as_ref(), SqlState::INVALID_ROW_COUNT_IN_OFFSET, "OFFSET")?
                    .unwrap_or(0);
                let limit = self.count(limit.as_ref(), SqlState::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT")?;
                if limit == Some(0) {
                    lowered.exec = Arc::new(EmptyExec::new(lowered.exec.schema()));
                    return Ok(lowered);
                }
                if let Some(limit) = limit
                    && partitions(&lowered.exec) > 1
                {
                    lowered.exec = Arc::new(LocalLimitExec::new(lowered.exec, limit.saturating_add(offset)));
                }
                lowered.exec = Arc::new(GlobalLimitExec::new(gathered(lowered.exec), offset, limit));
                Ok(lowered)
            }
            NodeKind::Append { inputs } => self.append(inputs, node, needed, below),
            _ => Err(Error::internal("a plan node without an operator").into()),
        }
    }

    /// The value of a LIMIT or OFFSET.
    fn count(&self, expr: Option<&Expr>, state: SqlState, name: &str) -> Outcome<Option<usize>> {
        let Some(expr) = expr else { return Ok(None) };
        let value = self.constant(expr)?;
        let count = match value {
            Datum::Null => return Ok(None),
            Datum::Int8(count) => count,
            Datum::Int4(count) => i64::from(count),
            other => return Err(Error::internal(format!("a {name} of {other:?}")).into()),
        };
        let count =
            usize::try_from(count).map_err(|_| Error::new(state, format!("{name} must not be negative")))?;
        Ok(Some(count))
    }

    fn constant(&self, expr: &Expr) -> Outcome<Datum> {
        let bound = self.bind_slots(&[], expr, false, false)?;
        let array = bound
            .vector
            .evaluate(&[], 1)
            .and_then(|column| column.expand(1))
            .map_err(crate::compute::settled)?;
        Ok(value::arrow_form::datum_at(&*array, bound.vector.ty, 0)?)
    }

    fn scan(&mut self, scan: &Scan, node: &Node, needed: &[bool]) -> Outcome<Lowered> {
        let slots: Vec<Input> = node
            .types
            .iter()
            .map(|ty| Input { ty: *ty, data_type: value::arrow_form::data_type(*ty) })
            .collect();
        let filter = match &scan.filter {
            Some(filter) => {
                let bound = self.bind_slots(&slots, filter, false, false)?;
                Some((bound.vector, bound.used))
            }
            None => None,
        };
        let mut output: Vec<usize> = Vec::new();
        let mut place = vec![None; slots.len()];
        for (slot, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            place[slot] = Some(output.len());
            output.push(slot);
        }
        let mut columns: Vec<Option<usize>> = scan.columns.iter().map(|column| Some(*column)).collect();
        if scan.row_id {
            columns.push(None);
        }
        let mut context = self.context.clone();
        context.snapshot = context.snapshot.of_columns(&Columns::of(scan.columns.iter().copied()));
        let leaf = TableLeaf {
            table: scan.table.clone(),
            columns,
            types: node.types.clone(),
            filter,
            output,
            conditions: execute::conditions(self.context, scan),
            context,
        };
        Ok(Lowered { exec: Arc::new(ScanExec::new(leaf, self.partitions)?), slots, place })
    }

    /// A subtree of the row executor.
    fn rows(&self, root: Node, inputs: Vec<Exec>, input_types: Vec<Vec<Type>>) -> Lowered {
        let types = root.types.clone();
        let plan = Plan {
            output: types.iter().map(|ty| OutputColumn { name: String::new(), ty: *ty }).collect(),
            root,
            subplans: self.plan.subplans.clone(),
            ctes: self.plan.ctes.clone(),
            outers: self.plan.outers,
            tables: Vec::new(),
            views: Vec::new(),
            volatile: false,
        };
        let slots = types.iter().map(|ty| Input { ty: *ty, data_type: leaf::form(*ty) }).collect();
        let place = (0..types.len()).map(Some).collect();
        let exec = Arc::new(RowsExec::new(plan, types, self.context.clone(), inputs, input_types));
        Lowered { exec, slots, place }
    }

    /// A node as a step of the row executor over vectorised inputs.
    fn step(&mut self, node: &Node) -> Outcome<Lowered> {
        let mut root = node.clone();
        let (mut inputs, mut input_types) = (Vec::new(), Vec::new());
        if children(node).len() > INPUTS.len() {
            return Ok(self.rows(root, inputs, input_types));
        }
        for (number, child) in children(node).into_iter().enumerate() {
            let width = child.types.len();
            let lowered = self.lower(child, &vec![true; width], false)?;
            inputs.push(gathered(lowered.exact(width)?));
            input_types.push(child.types.clone());
            let scan = NodeKind::SystemScan {
                schema: SCHEMA,
                name: INPUTS[number],
                oid: oid::INVALID,
                columns: (0..width).collect(),
                filter: None,
            };
            if let Some(place) = children_mut(&mut root).into_iter().nth(number) {
                place.kind = scan;
            }
        }
        Ok(self.rows(root, inputs, input_types))
    }

    /// The output of a join: which columns of (DataFusion's left, its right) stand for the needed slots.
    fn joined(
        left: &Lowered,
        right: &Lowered,
        swapped: bool,
        one_sided: bool,
        needed: &[bool],
    ) -> (Vec<usize>, Vec<Input>, Vec<Option<usize>>) {
        let left_width = left.exec.schema().fields().len();
        let right_width = right.exec.schema().fields().len();
        let mut slots = left.slots.clone();
        let mut source: Vec<Option<usize>> = left
            .place
            .iter()
            .map(|place| place.map(|place| if swapped && !one_sided { right_width + place } else { place }))
            .collect();
        if !one_sided {
            slots.extend(right.slots.iter().cloned());
            source.extend(
                right
                    .place
                    .iter()
                    .map(|place| place.map(|place| if swapped { place } else { left_width + place })),
            );
        }
        let mut projection = Vec::new();
        let mut place = vec![None; slots.len()];
        for (slot, source) in source.into_iter().enumerate() {
            if let (Some(source), true) = (source, needed.get(slot).copied().unwrap_or(false)) {
                place[slot] = Some(projection.len());
                projection.push(source);
            }
        }
        if projection.is_empty() {
            projection.push(0);
        }
        (projection, slots, place)
    }

    /// What a join needs of its inputs.
    fn join_needs(left: usize, right: usize, needed: &[bool], both: &[&Expr]) -> (Vec<bool>, Vec<bool>) {
        let mut all = needed.to_vec();
        all.resize(left + right, false);
        for expr in both {
            mark(expr, &mut all);
        }
        let right = all.split_off(left);
        (all, right)
    }

    /// The condition of a join as DataFusion's filter. `swapped`: our right side is its left.
    fn join_filter(
        &self,
        left: &Lowered,
        right: &Lowered,
        swapped: bool,
        condition: Option<&Expr>,
        below: bool,
    ) -> Outcome<Option<JoinFilter>> {
        let Some(condition) = condition else { return Ok(None) };
        let slots: Vec<Input> = left.slots.iter().chain(&right.slots).cloned().collect();
        let bound = self.bind_slots(&slots, condition, below, false)?;
        let (mut indices, mut fields, mut inputs): (Vec<ColumnIndex>, Vec<Field>, Vec<Physical>) =
            Default::default();
        for slot in &bound.used {
            let (side, ours) =
                if *slot < left.slots.len() { (left, *slot) } else { (right, *slot - left.slots.len()) };
            let is_left = *slot < left.slots.len();
            let place = side.place.get(ours).copied().flatten();
            let index = place.ok_or_else(|| Error::internal("a slot of a join condition was left out"))?;
            indices.push(ColumnIndex {
                index,
                side: if is_left != swapped { JoinSide::Left } else { JoinSide::Right },
            });
            inputs.push(column(fields.len()));
            fields.push(Field::new(
                format!("c{}", fields.len()),
                side.exec.schema().field(index).data_type().clone(),
                true,
            ));
        }
        let expr: Physical = match bound.vector.input() {
            Some(input) => inputs[input].clone(),
            None => Arc::new(Compute::new(bound.vector, inputs, bound.cancel)),
        };
        Ok(Some(JoinFilter::new(expr, indices, Arc::new(Schema::new(fields)))))
    }

    fn hash_join(&mut self, join: &HashJoin, needed: &[bool], below: bool) -> Outcome<Lowered> {
        let one_sided = matches!(join.kind, JoinType::Semi | JoinType::Anti | JoinType::NullAwareAnti);
        let condition: Vec<&Expr> = join.condition.iter().collect();
        let (left_width, right_width) = (join.left.types.len(), join.right.types.len());
        let (mut left_needed, mut right_needed) =
            Self::join_needs(left_width, right_width, needed, &condition);
        for (left, right) in &join.keys {
            mark(left, &mut left_needed);
            mark(right, &mut right_needed);
        }
        let mut left = self.lower(&join.left, &left_needed, below)?;
        // The build side is read to its end before anything is given; but rows may have been given by then elsewhere.
        let mut right = self.lower(&join.right, &right_needed, below)?;
        let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
        for (a, b) in &join.keys {
            let (a, b) = (self.bind(&left, a, below)?, self.bind(&right, b, below)?);
            let (x, y) = vector::join_keys(a.vector, b.vector)?;
            left_keys.push(Bound { vector: x, used: a.used, cancel: a.cancel });
            right_keys.push(Bound { vector: y, used: b.used, cancel: b.cancel });
        }
        let left_on = with_keys(&mut left, left_keys)?;
        let right_on = with_keys(&mut right, right_keys)?;
        let swapped = join.kind != JoinType::NullAwareAnti;
        let kind = match join.kind {
            JoinType::Inner => DfJoin::Inner,
            JoinType::Left => DfJoin::Right,
            JoinType::Right => DfJoin::Left,
            JoinType::Full => DfJoin::Full,
            JoinType::Semi => DfJoin::RightSemi,
            JoinType::Anti => DfJoin::RightAnti,
            JoinType::NullAwareAnti => DfJoin::LeftAnti,
        };
        let filter = self.join_filter(&left, &right, swapped, join.condition.as_ref(), below)?;
        let (projection, slots, place) = Self::joined(&left, &right, swapped, one_sided, needed);
        let split = swapped && self.partitions > 1 && join.right.rows > self.split_build;
        let (build, probe, build_on, probe_on) = if swapped {
            (right.exec, left.exec, right_on, left_on)
        } else {
            (left.exec, gathered(right.exec), left_on, right_on)
        };
        let (build, probe, mode) = if split {
            let by = |exec: Exec, keys: &[Physical]| -> Outcome<Exec> {
                Ok(Arc::new(df(RepartitionExec::try_new(
                    exec,
                    Partitioning::Hash(keys.to_vec(), self.partitions),
                ))?))
            };
            (by(build, &build_on)?, by(probe, &probe_on)?, PartitionMode::Partitioned)
        } else {
            (gathered(build), probe, PartitionMode::CollectLeft)
        };
        let on = build_on.into_iter().zip(probe_on).collect();
        let exec = df(HashJoinExec::try_new(
            build,
            probe,
            on,
            filter,
            &kind,
            Some(projection),
            mode,
            NullEquality::NullEqualsNothing,
            join.kind == JoinType::NullAwareAnti,
        ))?;
        Ok(Lowered { exec: self.watched(Arc::new(exec)), slots, place })
    }

    fn nested_loop(&mut self, join: &NestedLoop, needed: &[bool], below: bool) -> Outcome<Lowered> {
        let one_sided = matches!(join.kind, JoinType::Semi | JoinType::Anti);
        let condition: Vec<&Expr> = join.condition.iter().collect();
        let (left_needed, right_needed) =
            Self::join_needs(join.left.types.len(), join.right.types.len(), needed, &condition);
        let left = self.lower(&join.left, &left_needed, below)?;
        let right = self.lower(&join.right, &right_needed, below)?;
        let (left, right) = (padded(left)?, padded(right)?);
        let kind = match join.kind {
            JoinType::Inner => DfJoin::Inner,
            JoinType::Left => DfJoin::Right,
            JoinType::Right => DfJoin::Left,
            JoinType::Full => DfJoin::Full,
            JoinType::Semi => DfJoin::RightSemi,
            JoinType::Anti => DfJoin::RightAnti,
            JoinType::NullAwareAnti => return Err(Error::internal("a nested loop for NOT IN").into()),
        };
        let filter = self.join_filter(&left, &right, true, join.condition.as_ref(), below)?;
        let (projection, slots, place) = Self::joined(&left, &right, true, one_sided, needed);
        let exec = df(NestedLoopJoinExec::try_new(
            gathered(right.exec),
            left.exec,
            filter,
            &kind,
            Some(projection),
        ))?;
        Ok(Lowered { exec: self.watched(Arc::new(exec)), slots, place })
    }

    fn watched(&self, exec: Exec) -> Exec {
        Arc::new(WatchExec::new(exec, self.context.cancel.clone()))
    }

    fn aggregate(
        &mut self,
        aggregation: &Aggregation,
        node: &Node,
        needed: &[bool],
        below: bool,
    ) -> Outcome<Lowered> {
        let keys = aggregation.keys.len();
        let mut wanted = vec![false; aggregation.input.types.len()];
        let set: Vec<usize> = aggregation.sets.first().cloned().unwrap_or_default();
        let is_needed = |slot: usize| needed.get(slot).copied().unwrap_or(false);
        set.iter().for_each(|key| mark(&aggregation.keys[*key], &mut wanted));
        for (number, step) in aggregation.aggregates.iter().enumerate() {
            if is_needed(keys + number) {
                step.args.iter().chain(&step.filter).for_each(|expr| mark(expr, &mut wanted));
            }
        }
        let input = self.lower(&aggregation.input, &wanted, true)?;
        let mut columns: Vec<Physical> = Vec::new();
        let mut known: Vec<(&Expr, bool, usize, Type, DataType)> = Vec::new();
        let mut groups: Vec<usize> = Vec::new();
        let mut carried: Vec<(usize, usize, aggregate::Plan)> = Vec::new();
        let mut slots: Vec<Input> =
            node.types.iter().map(|ty| Input { ty: *ty, data_type: leaf::form(*ty) }).collect();
        let mut place: Vec<Option<usize>> = vec![None; slots.len()];
        for key in &set {
            let expr = &aggregation.keys[*key];
            let bound = self.bind(&input, expr, below)?;
            let (ty, form) = (bound.vector.ty, bound.vector.data_type.clone());
            slots[*key] = Input { ty, data_type: form.clone() };
            if vector::is_plain(ty, &form) {
                place[*key] = Some(groups.len());
                groups.push(columns.len());
                columns.push(input.physical(bound)?);
                continue;
            }
            let key_vector = self.bind(&input, expr, below)?.map(|vector| Ok(vector.key()))?;
            groups.push(columns.len());
            columns.push(input.physical(key_vector)?);
            if is_needed(*key) {
                carried.push((*key, columns.len(), aggregate::Plan::any(ty, &form, self.context)));
                columns.push(input.physical(bound)?);
            }
        }
        let mut calls: Vec<(usize, aggregate::Plan, Vec<usize>, Option<usize>)> = Vec::new();
        let mut distinct = false;
        for (number, step) in aggregation.aggregates.iter().enumerate() {
            if !is_needed(keys + number) {
                continue;
            }
            let sums = matches!(step.aggregate.name, "sum" | "avg");
            let (mut args, mut types, mut forms) = (Vec::new(), Vec::new(), Vec::new());
            for arg in &step.args {
                let same =
                    known.iter().find(|(other, mixed, ..)| *mixed == sums && plan::expr::same(other, arg));
                if let Some((_, _, place, ty, form)) = same {
                    args.push(*place);
                    types.push(*ty);
                    forms.push(form.clone());
                    continue;
                }
                let bound = self.bind_slots(&input.slots, arg, true, sums)?;
                let (ty, form) = (bound.vector.ty, bound.vector.data_type.clone());
                known.push((arg, sums, columns.len(), ty, form.clone()));
                args.push(columns.len());
                types.push(ty);
                forms.push(form);
                columns.push(input.physical(bound)?);
            }
            let filter = match &step.filter {
                Some(filter) => {
                    let bound = self.bind(&input, filter, true)?;
                    columns.push(input.physical(bound)?);
                    Some(columns.len() - 1)
                }
                None => None,
            };
            let signature = function::Signature { args: types.clone(), result: step.ty };
            let mut plan =
                aggregate::Plan::of(step.aggregate, signature, &forms, self.optimistic, self.context);
            if step.distinct && step.aggregate.duplicates_matter {
                distinct = true;
                plan = plan.distinct(types);
            }
            slots[keys + number] = Input { ty: step.ty, data_type: plan.result.clone() };
            calls.push((keys + number, plan, args, filter));
        }
        if columns.is_empty() {
            columns.push(literal(ScalarValue::Boolean(Some(true))));
        }
        let exec = project(input.exec, columns)?;
        // Slots of the aggregates stand behind the group columns.
        let mut functions: Vec<(aggregate::Plan, Vec<Physical>, Option<Physical>)> = Vec::new();
        for (slot, source, plan) in carried {
            place[slot] = Some(groups.len() + functions.len());
            functions.push((plan, vec![column(source)], None));
        }
        for (slot, plan, args, filter) in calls {
            place[slot] = Some(groups.len() + functions.len());
            let mut args: Vec<Physical> = args.into_iter().map(column).collect();
            if args.is_empty() {
                args.push(literal(ScalarValue::Boolean(Some(true))));
            }
            functions.push((plan, args, filter.map(column)));
        }
        let exec = self.grouped(exec, &groups, functions, distinct, node.rows)?;
        let lowered = Lowered { exec, slots, place };
        // Keys outside of the one grouping set are NULL.
        let missing: Vec<usize> = (0..keys).filter(|key| is_needed(*key) && !set.contains(key)).collect();
        if missing.is_empty() {
            return Ok(lowered);
        }
        let width = lowered.exec.schema().fields().len();
        let mut columns: Vec<Physical> = Vec::with_capacity(width + missing.len());
        let schema = lowered.exec.schema();
        columns.extend(
            (0..width).map(|number| Arc::new(Column::new(schema.field(number).name(), number)) as Physical),
        );
        let mut place = lowered.place;
        for key in missing {
            place[key] = Some(columns.len());
            columns.push(null_literal(&lowered.slots[key].data_type)?);
        }
        Ok(Lowered { exec: project(lowered.exec, columns)?, slots: lowered.slots, place })
    }

    /// Aggregation by the columns `groups`: in one step, or by parts in each partition and then together.
    fn grouped(
        &self,
        exec: Exec,
        groups: &[usize],
        functions: Vec<(aggregate::Plan, Vec<Physical>, Option<Physical>)>,
        one_step: bool,
        rows: f64,
    ) -> Outcome<Exec> {
        let schema = exec.schema();
        let keys = PhysicalGroupBy::new_single(
            groups.iter().map(|place| (column(*place), format!("c{place}"))).collect(),
        );
        let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
        for (number, (plan, args, filter)) in functions.into_iter().enumerate() {
            let function = plan.udf(&format!("aggregate {number}"));
            let builder =
                AggregateExprBuilder::new(function, args).schema(schema.clone()).alias(format!("a{number}"));
            aggregates.push(Arc::new(df(builder.build())?));
            filters.push(filter);
        }
        let aggregate = |mode: AggregateMode, keys: PhysicalGroupBy, input: Exec| -> Outcome<Exec> {
            let exec = AggregateExec::try_new(
                mode,
                keys,
                aggregates.clone(),
                filters.clone(),
                input,
                schema.clone(),
            );
            Ok(Arc::new(df(exec)?))
        };
        if groups.is_empty() {
            if one_step || partitions(&exec) == 1 {
                return aggregate(AggregateMode::Single, keys, gathered(exec));
            }
            let partial = aggregate(AggregateMode::Partial, keys.clone(), exec)?;
            return aggregate(AggregateMode::Final, keys.as_final(), gathered(partial));
        }
        if partitions(&exec) == 1 {
            return aggregate(AggregateMode::Single, keys, exec);
        }
        let split = |exec: Exec, by: Vec<Physical>| -> Outcome<Exec> {
            Ok(Arc::new(df(RepartitionExec::try_new(exec, Partitioning::Hash(by, self.partitions)))?))
        };
        if one_step {
            let exec = split(exec, groups.iter().map(|place| column(*place)).collect())?;
            return aggregate(AggregateMode::SinglePartitioned, keys, exec);
        }
        let partial = aggregate(AggregateMode::Partial, keys.clone(), exec)?;
        let last = keys.as_final();
        if rows < 1000.0 {
            return aggregate(AggregateMode::Final, last, gathered(partial));
        }
        let by: Vec<Physical> = last.input_exprs().into_iter().take(groups.len()).collect();
        aggregate(AggregateMode::FinalPartitioned, last, split(partial, by)?)
    }

    fn distinct(&mut self, input: &Node, needed: &[bool], below: bool) -> Outcome<Lowered> {
        let width = input.types.len();
        let lowered = self.lower(input, &vec![true; width], below)?;
        if width == 0 {
            let exec = Arc::new(GlobalLimitExec::new(gathered(lowered.exec), 0, Some(1)));
            return Ok(Lowered { exec, ..lowered });
        }
        let slots = lowered.slots.clone();
        let mut columns: Vec<Physical> = Vec::new();
        let (mut groups, mut functions, mut place) = (Vec::new(), Vec::new(), vec![None; width]);
        let mut carried = Vec::new();
        for (slot, input) in slots.iter().enumerate() {
            let expr = Expr::Slot { index: slot, ty: input.ty };
            groups.push(columns.len());
            if vector::is_plain(input.ty, &input.data_type) {
                place[slot] = Some(groups.len() - 1);
                columns.push(lowered.column(slot)?);
                continue;
            }
            let bound = self.bind(&lowered, &expr, false)?;
            columns.push(lowered.physical(bound.map(|vector| Ok(vector.key()))?)?);
            if needed.get(slot).copied().unwrap_or(false) {
                carried.push((slot, columns.len()));
                columns.push(lowered.column(slot)?);
            }
        }
        for (slot, source) in carried {
            place[slot] = Some(groups.len() + functions.len());
            let plan = aggregate::Plan::any(slots[slot].ty, &slots[slot].data_type, self.context);
            functions.push((plan, vec![column(source)], None));
        }
        let exec = project(lowered.exec, columns)?;
        let exec = self.grouped(exec, &groups, functions, false, f64::MAX)?;
        Ok(Lowered { exec, slots, place })
    }

    fn sort(
        &mut self,
        input: &Node,
        keys: &[Order],
        limit: Option<&Expr>,
        needed: &[bool],
        below: bool,
    ) -> Outcome<Lowered> {
        let mut wanted = needed.to_vec();
        wanted.resize(input.types.len(), false);
        keys.iter().for_each(|key| mark(&key.expr, &mut wanted));
        let mut lowered = padded(self.lower(input, &wanted, below)?)?;
        let mut bounds = Vec::with_capacity(keys.len());
        for key in keys {
            let bound = self.bind(&lowered, &key.expr, below)?;
            bounds.push(bound.map(|vector| Ok(vector.key()))?);
        }
        let on = with_keys(&mut lowered, bounds)?;
        let orders = on.into_iter().zip(keys).map(|(expr, key)| {
            PhysicalSortExpr::new(
                expr,
                SortOptions { descending: key.descending, nulls_first: key.nulls_first },
            )
        });
        let fetch = self.count(limit, SqlState::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT")?;
        if fetch == Some(0) {
            lowered.exec = Arc::new(EmptyExec::new(lowered.exec.schema()));
            return Ok(lowered);
        }
        let Some(order) = LexOrdering::new(orders) else { return Ok(lowered) };
        let parallel = partitions(&lowered.exec) > 1;
        let sort =
            SortExec::new(order.clone(), lowered.exec).with_preserve_partitioning(parallel).with_fetch(fetch);
        lowered.exec = Arc::new(sort);
        if parallel {
            lowered.exec = Arc::new(SortPreservingMergeExec::new(order, lowered.exec).with_fetch(fetch));
        }
        Ok(lowered)
    }

    fn append(&mut self, inputs: &[Node], node: &Node, needed: &[bool], below: bool) -> Outcome<Lowered> {
        let mut arms = Vec::with_capacity(inputs.len());
        for input in inputs {
            arms.push(self.lower(input, needed, below)?);
        }
        let mut slots: Vec<Input> =
            node.types.iter().map(|ty| Input { ty: *ty, data_type: leaf::form(*ty) }).collect();
        for (slot, input) in slots.iter_mut().enumerate() {
            if !needed.get(slot).copied().unwrap_or(false) {
                continue;
            }
            let forms: Vec<&DataType> = arms.iter().map(|arm| &arm.slots[slot].data_type).collect();
            let common = vector::common_form(&forms, true);
            input.data_type = common.ok_or_else(|| Error::internal("arms of a UNION of different forms"))?;
        }
        let mut execs = Vec::with_capacity(arms.len());
        let mut place = vec![None; slots.len()];
        for arm in arms {
            let mut columns: Vec<Physical> = Vec::new();
            for (slot, input) in slots.iter().enumerate() {
                if !needed.get(slot).copied().unwrap_or(false) {
                    continue;
                }
                let bound = self.bind(&arm, &Expr::Slot { index: slot, ty: input.ty }, false)?;
                place[slot] = Some(columns.len());
                let bound = bound.map(|vector| Ok(vector.into_form(&input.data_type)?))?;
                columns.push(arm.physical(bound)?);
            }
            if columns.is_empty() {
                columns.push(literal(ScalarValue::Boolean(Some(true))));
            }
            execs.push(project(arm.exec, columns)?);
        }
        Ok(Lowered { exec: df(UnionExec::try_new(execs))?, slots, place })
    }
}

/// With a column at least: some operators lose count of rows without any.
fn padded(lowered: Lowered) -> Outcome<Lowered> {
    if !lowered.exec.schema().fields().is_empty() {
        return Ok(lowered);
    }
    Ok(Lowered { exec: project(lowered.exec, vec![literal(ScalarValue::Boolean(Some(true)))])?, ..lowered })
}

/// Key expressions as columns: those that are none yet are appended to the output.
fn with_keys(lowered: &mut Lowered, keys: Vec<Bound>) -> Outcome<Vec<Physical>> {
    let schema: SchemaRef = lowered.exec.schema();
    let width = schema.fields().len();
    let mut columns: Vec<Physical> = (0..width)
        .map(|number| Arc::new(Column::new(schema.field(number).name(), number)) as Physical)
        .collect();
    let mut on: Vec<Physical> = Vec::with_capacity(keys.len());
    let mut renamed = Vec::with_capacity(keys.len());
    for key in keys {
        if key.vector.input().is_some() {
            on.push(lowered.physical(key)?);
            renamed.push(None);
            continue;
        }
        renamed.push(Some(columns.len()));
        on.push(column(columns.len()));
        columns.push(lowered.physical(key)?);
    }
    if columns.len() == width {
        return Ok(on);
    }
    lowered.exec = project(lowered.exec.clone(), columns)?;
    // The projection gives every column a new name.
    Ok(on
        .into_iter()
        .zip(renamed)
        .map(|(expr, appended)| match (appended, (&*expr as &dyn std::any::Any).downcast_ref::<Column>()) {
            (None, Some(known)) => column(known.index()),
            _ => expr,
        })
        .collect())
}

/// The output of a projection, slot by slot.
#[derive(Default)]
struct Output {
    columns: Vec<Physical>,
    slots: Vec<Input>,
    place: Vec<Option<usize>>,
}

impl Output {
    fn skip(&mut self, ty: Type) {
        self.slots.push(Input { ty, data_type: leaf::form(ty) });
        self.place.push(None);
    }

    fn push(&mut self, input: &Lowered, bound: Bound, ty: Type) -> Outcome<()> {
        self.slots.push(Input { ty, data_type: bound.vector.data_type.clone() });
        self.place.push(Some(self.columns.len()));
        self.columns.push(input.physical(bound)?);
        Ok(())
    }

    fn project(mut self, exec: Exec) -> Outcome<Lowered> {
        if self.columns.is_empty() {
            self.columns.push(literal(ScalarValue::Boolean(Some(true))));
        }
        Ok(Lowered { exec: project(exec, self.columns)?, slots: self.slots, place: self.place })
    }
}
