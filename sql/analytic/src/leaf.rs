//! Where batches come from: tables, and steps of the row executor.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use engine::catalog::Table;
use engine::{RowBatch, RowId, ScanFilter, TableScan};
use execute::{Cancel, Context, Rows, SystemRelations, TableRules};
use futures::{StreamExt, TryStreamExt, stream};
use plan::ir::Plan;
use value::arrow_form::{ColumnBuilder, ColumnReader};
use value::{Datum, Error, Result, Type};

use crate::compute::settled;
use crate::error::{broken, outward};
use crate::vector::{Output, Vector, certain};

/// Rows per batch.
pub(crate) const BATCH: usize = 8192;
/// Most groups of rows that a partition of a scan takes at a time.
const CHUNK_GROUPS: u64 = 16;
/// Rows per group: where scans can be cut without reading a block twice.
const GROUP: u64 = 8192;

/// A schema of nullable columns with these types.
pub(crate) fn schema(types: &[DataType]) -> SchemaRef {
    let fields =
        types.iter().enumerate().map(|(number, ty)| Field::new(format!("c{number}"), ty.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn properties(schema: &SchemaRef, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema.clone()),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// A batch, also of no columns.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> DfResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

macro_rules! leaf_plan {
    ($name:literal) => {
        fn name(&self) -> &str {
            $name
        }

        fn properties(&self) -> &Arc<PlanProperties> {
            &self.properties
        }

        fn apply_expressions(
            &self,
            _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
        ) -> DfResult<TreeNodeRecursion> {
            Ok(TreeNodeRecursion::Continue)
        }
    };
}

/// What a table scan reads.
pub(crate) struct TableLeaf {
    pub table: Arc<Table>,
    /// Indexes into `Table::columns`; one past them stands for the row id.
    pub columns: Vec<Option<usize>>,
    pub types: Vec<Type>,
    /// Condition, and the places in `columns` of its inputs.
    pub filter: Option<(Vector, Vec<usize>)>,
    /// Places in `columns` that the scan gives.
    pub output: Vec<usize>,
    /// What rows must meet to be looked at, as far as SERIALIZABLE can tell.
    pub conditions: ScanFilter,
    pub context: Context,
}

impl TableLeaf {
    fn scan(&self, range: Option<Range<RowId>>) -> Result<TableScan> {
        self.context.snapshot.scan_filtered(&self.table, range, &self.conditions)
    }
}

/// Reads a table in chunks of row ids; each partition takes the next chunk when it has finished one, so that no thread is
/// left with more than its share.
pub(crate) struct ScanExec {
    leaf: Arc<TableLeaf>,
    next: Arc<AtomicU64>,
    end: u64,
    chunk: u64,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    pub fn new(leaf: TableLeaf, partitions: usize) -> Result<ScanExec> {
        let types: Vec<DataType> =
            leaf.output.iter().map(|place| value::arrow_form::data_type(leaf.types[*place])).collect();
        let schema = schema(&types);
        let end = leaf.scan(None)?.bound().0;
        let groups = end.div_ceil(GROUP);
        let partitions = partitions.min(groups as usize).max(1);
        let chunk = (groups / (partitions as u64 * 4)).clamp(1, CHUNK_GROUPS) * GROUP;
        Ok(ScanExec {
            leaf: Arc::new(leaf),
            next: Arc::default(),
            end,
            chunk,
            properties: properties(&schema, partitions),
        })
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec {}", self.leaf.table.name)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")?;
        match &self.leaf.filter {
            Some((filter, _)) => write!(f, " where {filter:?}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ScanExec {
    leaf_plan!("ScanExec");

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let reader = Reader {
            leaf: self.leaf.clone(),
            next: self.next.clone(),
            end: self.end,
            chunk: self.chunk,
            schema: schema.clone(),
            scan: None,
            rows: RowBatch::new(),
        };
        let batches = stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next_batch()?.map(|batch| (batch, reader)))
        });
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed()))))
    }
}

/// One partition of a scan.
struct Reader {
    leaf: Arc<TableLeaf>,
    next: Arc<AtomicU64>,
    end: u64,
    chunk: u64,
    schema: SchemaRef,
    scan: Option<TableScan>,
    rows: RowBatch,
}

impl Reader {
    /// The next rows that pass the filter, of this chunk or the next free one.
    fn next_batch(&mut self) -> DfResult<Option<RecordBatch>> {
        let leaf = self.leaf.clone();
        let mut builders: Vec<ColumnBuilder> =
            leaf.output.iter().map(|place| ColumnBuilder::new(leaf.types[*place], BATCH)).collect();
        let mut count = 0;
        while count < BATCH - 1024 {
            leaf.context.cancel.check().map_err(outward)?;
            if self.scan.is_none() {
                let from = self.next.fetch_add(self.chunk, Ordering::Relaxed);
                if from >= self.end {
                    break;
                }
                let range = RowId(from)..RowId((from + self.chunk).min(self.end));
                self.scan = Some(leaf.scan(Some(range)).map_err(outward)?);
            }
            let Some(scan) = &mut self.scan else { break };
            if !scan.next(&mut self.rows).map_err(outward)? {
                self.scan = None;
                continue;
            }
            leaf.context.tally.scanned(self.rows.len() as u64);
            let mask = self.passes()?;
            for (builder, place) in builders.iter_mut().zip(&leaf.output) {
                self.append(builder, *place, mask.as_ref()).map_err(outward)?;
            }
            count += mask.map_or(self.rows.len(), |mask| mask.true_count());
        }
        if count == 0 {
            return Ok(None);
        }
        let columns = builders.iter_mut().map(ColumnBuilder::finish).collect();
        batch(&self.schema, columns, count).map(Some)
    }

    /// Which of the rows in hand pass; `None`: all.
    fn passes(&self) -> DfResult<Option<BooleanArray>> {
        let Some((filter, places)) = &self.leaf.filter else { return Ok(None) };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(places.len());
        for place in places {
            let mut builder = ColumnBuilder::new(self.leaf.types[*place], self.rows.len());
            self.append(&mut builder, *place, None).map_err(outward)?;
            columns.push(builder.finish());
        }
        let rows = self.rows.len();
        let truths =
            filter.evaluate(&columns, rows).and_then(|column| column.expand(rows)).map_err(settled)?;
        let truths = truths.as_boolean_opt().ok_or_else(|| broken("a filter that is not boolean"))?;
        Ok(Some(certain(truths)))
    }

    fn append(&self, builder: &mut ColumnBuilder, place: usize, mask: Option<&BooleanArray>) -> Result<()> {
        let mut append = |row: usize| match self.leaf.columns[place] {
            Some(column) => {
                let row = &self.rows.rows[row];
                // Texts go from the row into the column without a copy in between.
                match row.text(column) {
                    Some(text) if builder.append_text(text) => Ok(()),
                    _ => builder.append(&row.get(column)),
                }
            }
            None => builder.append(&Datum::Int8(self.rows.ids[row].0 as i64)),
        };
        match mask {
            None => (0..self.rows.len()).try_for_each(&mut append),
            Some(mask) => mask.values().set_indices().try_for_each(&mut append),
        }
    }
}

/// Names of the relations that stand for vectorised inputs of a step of the row executor.
pub(crate) const INPUTS: [&str; 8] =
    ["input 0", "input 1", "input 2", "input 3", "input 4", "input 5", "input 6", "input 7"];
/// Their schema.
pub(crate) const SCHEMA: &str = "vectorised input";

/// A step of the row executor with everything below it that is not vectorised. Its vectorised inputs are collected first.
pub(crate) struct RowsExec {
    plan: Arc<Plan>,
    types: Vec<Type>,
    context: Context,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    input_types: Vec<Vec<Type>>,
    properties: Arc<PlanProperties>,
}

impl RowsExec {
    /// `plan` gives values of `types` and reads [`INPUTS`] i as `inputs[i]` with `input_types[i]`.
    pub fn new(
        plan: Plan,
        types: Vec<Type>,
        context: Context,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        input_types: Vec<Vec<Type>>,
    ) -> RowsExec {
        let forms: Vec<DataType> = types.iter().map(|ty| form(*ty)).collect();
        RowsExec {
            plan: Arc::new(plan),
            types,
            context,
            inputs,
            input_types,
            properties: properties(&schema(&forms), 1),
        }
    }
}

/// The form of values computed by rows: those of a numeric expression need not obey its typmod.
pub(crate) fn form(ty: Type) -> DataType {
    if ty.oid == value::types::oid::NUMERIC { DataType::BinaryView } else { value::arrow_form::data_type(ty) }
}

impl fmt::Debug for RowsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.plan.root.kind);
        write!(f, "RowsExec {}", name.split(['(', ' ', '{']).next().unwrap_or_default())
    }
}

impl DisplayAs for RowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl ExecutionPlan for RowsExec {
    leaf_plan!("RowsExec");

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(RowsExec {
            plan: self.plan.clone(),
            types: self.types.clone(),
            context: self.context.clone(),
            inputs: children,
            input_types: self.input_types.clone(),
            properties: self.properties.clone(),
        }))
    }

    fn execute(&self, _: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let mut inputs = Vec::new();
        for input in &self.inputs {
            inputs.push(input.execute(0, task.clone())?);
        }
        let (plan, types, mut context) = (self.plan.clone(), self.types.clone(), self.context.clone());
        let input_types = self.input_types.clone();
        let out = schema.clone();
        let batches = stream::once(async move {
            let mut charge = Charge { context: context.clone(), bytes: 0 };
            if !inputs.is_empty() {
                let mut relations = HashMap::new();
                for (number, input) in inputs.into_iter().enumerate() {
                    relations
                        .insert(INPUTS[number], collect(input, &input_types[number], &mut charge).await?);
                }
                context.system = Arc::new(Inputs { relations, inner: context.system.clone() });
            }
            let tally = context.tally.clone();
            let cursor = execute::open(&plan, context).map_err(outward)?;
            let state = (Counted { cursor, tally }, charge, types, out);
            Ok::<_, datafusion::common::DataFusionError>(stream::try_unfold(state, |state| async move {
                let (mut counted, charge, types, out) = state;
                let cursor = &mut counted.cursor;
                let mut rows = Rows::default();
                let mut builders: Vec<Output> =
                    types.iter().map(|ty| Output::new(*ty, &form(*ty), BATCH)).collect();
                let mut count = 0;
                let mut more = true;
                while more && count < BATCH {
                    rows.clear();
                    more = cursor.next(1024, &mut rows).map_err(outward)?;
                    count += rows.count;
                    for row in rows.iter() {
                        for (builder, value) in builders.iter_mut().zip(row) {
                            builder.append(value)?;
                        }
                    }
                }
                if count == 0 {
                    return Ok(None);
                }
                let columns = builders.into_iter().map(Output::finish).collect();
                Ok(Some((batch(&out, columns, count)?, (counted, charge, types, out))))
            }))
        })
        .try_flatten();
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed()))))
    }
}

/// A step of the row executor whose counters join the statement's at its end, however it ends.
struct Counted {
    cursor: execute::Cursor,
    tally: Arc<execute::Tally>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.add(self.cursor.counters());
    }
}

/// Memory taken from the statement's account, given back at the end.
struct Charge {
    context: Context,
    bytes: u64,
}

impl Charge {
    fn add(&mut self, bytes: usize) -> Result<()> {
        self.context.memory.grow(bytes as u64)?;
        self.bytes += bytes as u64;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.context.memory.shrink(self.bytes);
    }
}

async fn collect(
    mut input: SendableRecordBatchStream,
    types: &[Type],
    charge: &mut Charge,
) -> DfResult<Vec<Vec<Datum>>> {
    let mut rows = Vec::new();
    while let Some(batch) = input.next().await {
        let batch = batch?;
        charge.context.cancel.check().map_err(outward)?;
        charge
            .add(batch.get_array_memory_size() + batch.num_rows() * (24 + 24 * types.len()))
            .map_err(outward)?;
        append_rows(&batch, types, &mut rows).map_err(outward)?;
    }
    Ok(rows)
}

/// The rows of a batch as values.
pub(crate) fn append_rows(batch: &RecordBatch, types: &[Type], rows: &mut Vec<Vec<Datum>>) -> Result<()> {
    let mut readers = Vec::with_capacity(types.len());
    for (array, ty) in batch.columns().iter().zip(types) {
        readers.push(ColumnReader::new(&**array as &dyn Array, *ty)?);
    }
    for row in 0..batch.num_rows() {
        rows.push(readers.iter().map(|reader| reader.get(row)).collect::<Result<_>>()?);
    }
    Ok(())
}

/// The system relations with the vectorised inputs among them.
struct Inputs {
    relations: HashMap<&'static str, Vec<Vec<Datum>>>,
    inner: Arc<dyn SystemRelations>,
}

impl SystemRelations for Inputs {
    fn rows(&self, schema: &str, name: &str, columns: &[usize]) -> Result<Vec<Vec<Datum>>> {
        if schema != SCHEMA {
            return self.inner.rows(schema, name, columns);
        }
        let rows = self.relations.get(name).ok_or_else(|| Error::internal(format!("no {name}")))?;
        Ok(rows.iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect())
    }

    fn rules(&self, table: &Arc<Table>) -> Result<Arc<TableRules>> {
        self.inner.rules(table)
    }
}

/// Batches that were computed before: a WITH query that is read in several places.
pub(crate) struct BatchesExec {
    batches: Arc<Vec<RecordBatch>>,
    partitions: usize,
    properties: Arc<PlanProperties>,
}

impl BatchesExec {
    pub fn new(batches: Arc<Vec<RecordBatch>>, schema: SchemaRef, partitions: usize) -> BatchesExec {
        let partitions = partitions.min(batches.len()).max(1);
        BatchesExec { batches, partitions, properties: properties(&schema, partitions) }
    }
}

impl fmt::Debug for BatchesExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchesExec {}", self.batches.len())
    }
}

impl DisplayAs for BatchesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl ExecutionPlan for BatchesExec {
    leaf_plan!("BatchesExec");

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let batches: Vec<RecordBatch> =
            self.batches.iter().skip(partition).step_by(self.partitions).cloned().collect();
        let batches = stream::iter(batches.into_iter().map(Ok::<_, datafusion::common::DataFusionError>));
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches))))
    }
}

/// Passes batches on, one look at the cancel flag each, and lets other tasks run now and then: joins can make any number
/// of batches out of one of a table.
pub(crate) struct WatchExec {
    input: Arc<dyn ExecutionPlan>,
    cancel: Arc<Cancel>,
}

impl WatchExec {
    pub fn new(input: Arc<dyn ExecutionPlan>, cancel: Arc<Cancel>) -> WatchExec {
        WatchExec { input, cancel }
    }
}

impl fmt::Debug for WatchExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchExec")
    }
}

impl DisplayAs for WatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl ExecutionPlan for WatchExec {
    fn name(&self) -> &str {
        "WatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| broken("a step without its input"))?;
        Ok(Arc::new(WatchExec { input, cancel: self.cancel.clone() }))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, task)?;
        let (schema, cancel) = (input.schema(), self.cancel.clone());
        let watched = input.map(move |batch| cancel.check().map_err(outward).and(batch));
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, watched))))
    }
}
