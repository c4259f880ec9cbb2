//! Aggregates over columns.
//!
//! What analytic queries mostly ask (count, sum, avg, min, max of machine numbers, decimals, text) has typed states, one
//! vector per group column; any other aggregate runs its own [`function::Accumulator`], one per group, its state
//! travelling as bytes between the partial and the final step. Result types and errors are PostgreSQL's: sum(int4) is
//! int8 and checked, sum(int8) and avg of integers are numeric.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BinaryViewBuilder, BooleanArray,
    Decimal128Array, FixedSizeBinaryBuilder, Float32Array, Float64Array, Int64Array, PrimitiveArray,
    StringViewBuilder,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use execute::Context;
use function::Aggregate;
use value::arrow_form::{self, ColumnReader, DECIMAL_NAN, numeric_of_decimal};
use value::types::oid;
use value::{Datum, Error, Numeric, SqlState, Type};

use crate::error::Failure;
use crate::vector::Output;

type Result<T> = std::result::Result<T, Failure>;

/// How an aggregate is computed.
#[derive(Clone)]
pub(crate) enum Way {
    Count,
    /// sum(int2), sum(int4): int8.
    SumInteger,
    /// Sums of int8 (scale 0) and of decimals.
    SumDecimal {
        scale: i8,
    },
    SumFloat,
    /// Averages of integers (scale 0) and of decimals: a wide numeric.
    AverageDecimal {
        scale: i8,
    },
    AverageFloat,
    Extreme {
        max: bool,
    },
    /// Any one of the values: for keys that are grouped by another form of themselves.
    Any,
    /// The aggregate's own accumulator over values.
    Function {
        aggregate: &'static Aggregate,
        signature: Arc<function::Signature>,
    },
    /// Another way, each combination of arguments once per group. Only in one step: its state cannot travel.
    Distinct {
        inner: Box<Way>,
        types: Vec<Type>,
    },
}

/// An aggregate with the forms of its arguments and its result.
#[derive(Clone)]
pub(crate) struct Plan {
    pub way: Way,
    pub result: DataType,
    ty: Type,
    context: Context,
}

impl Plan {
    /// How `aggregate` is computed over arguments of these Arrow forms. `optimistic`: sums may be decimal even where an
    /// overflow is thinkable.
    pub fn of(
        aggregate: &'static Aggregate,
        signature: function::Signature,
        forms: &[DataType],
        optimistic: bool,
        context: &Context,
    ) -> Plan {
        let ty = signature.result;
        let text = signature.args.first().is_some_and(|ty| ty.oid != oid::BPCHAR);
        let (way, result) = match (aggregate.name, forms) {
            ("count", [] | [_]) => (Way::Count, DataType::Int64),
            ("sum", [DataType::Int16 | DataType::Int32]) => (Way::SumInteger, DataType::Int64),
            ("sum", [DataType::Int64]) => (Way::SumDecimal { scale: 0 }, DataType::Decimal128(38, 0)),
            ("sum", [DataType::Decimal128(precision, scale)]) if optimistic || *precision <= 19 => {
                (Way::SumDecimal { scale: *scale }, DataType::Decimal128(38, *scale))
            }
            ("avg", [DataType::Int16 | DataType::Int32 | DataType::Int64]) => {
                (Way::AverageDecimal { scale: 0 }, DataType::BinaryView)
            }
            ("avg", [DataType::Decimal128(precision, scale)]) if optimistic || *precision <= 19 => {
                (Way::AverageDecimal { scale: *scale }, DataType::BinaryView)
            }
            ("sum", [DataType::Float64]) => (Way::SumFloat, DataType::Float64),
            ("avg", [DataType::Float64]) => (Way::AverageFloat, DataType::Float64),
            (
                "min" | "max",
                [
                    form @ (DataType::Int16
                    | DataType::Int32
                    | DataType::Int64
                    | DataType::UInt32
                    | DataType::UInt64
                    | DataType::Float32
                    | DataType::Float64
                    | DataType::Date32
                    | DataType::Time64(TimeUnit::Microsecond)
                    | DataType::Timestamp(TimeUnit::Microsecond, _)
                    | DataType::Decimal128(..)),
                ],
            ) => (Way::Extreme { max: aggregate.name == "max" }, form.clone()),
            ("min" | "max", [DataType::Utf8View]) if text => {
                (Way::Extreme { max: aggregate.name == "max" }, DataType::Utf8View)
            }
            _ => {
                let result =
                    if ty.oid == oid::NUMERIC { DataType::BinaryView } else { arrow_form::data_type(ty) };
                (Way::Function { aggregate, signature: Arc::new(signature) }, result)
            }
        };
        Plan { way, result, ty, context: context.clone() }
    }

    /// Some value of a column of this form per group.
    pub fn any(ty: Type, form: &DataType, context: &Context) -> Plan {
        Plan { way: Way::Any, result: form.clone(), ty, context: context.clone() }
    }

    /// The same over the distinct arguments of each group.
    pub fn distinct(mut self, types: Vec<Type>) -> Plan {
        self.way = Way::Distinct { inner: Box::new(self.way), types };
        self
    }

    fn states(&self) -> Vec<DataType> {
        match &self.way {
            Way::SumDecimal { scale } => vec![DataType::Decimal128(38, *scale)],
            Way::AverageDecimal { scale } => vec![DataType::Decimal128(38, *scale), DataType::Int64],
            Way::AverageFloat => vec![DataType::Float64, DataType::Int64],
            Way::Function { .. } => vec![DataType::BinaryView],
            _ => vec![self.result.clone()],
        }
    }

    fn start(&self) -> DfResult<Box<dyn Groups>> {
        self.start_way(&self.way)
    }

    fn start_way(&self, way: &Way) -> DfResult<Box<dyn Groups>> {
        Ok(match way {
            Way::Distinct { inner, types } => Box::new(Distinct {
                inner: self.start_way(inner)?,
                types: types.clone(),
                seen: HashSet::new(),
                bytes: 0,
            }),
            Way::Count => Box::<Count>::default(),
            Way::SumInteger => Box::<SumInteger>::default(),
            Way::SumDecimal { scale } => Box::new(SumDecimal { scale: *scale, ..SumDecimal::default() }),
            Way::AverageDecimal { scale } => {
                Box::new(SumDecimal { scale: *scale, average: true, ..SumDecimal::default() })
            }
            Way::SumFloat => Box::new(SumFloat { average: false, ..SumFloat::default() }),
            Way::AverageFloat => Box::new(SumFloat { average: true, ..SumFloat::default() }),
            Way::Extreme { max } => extreme(*max, &self.result),
            Way::Any => Box::new(AnyValue { data_type: self.result.clone(), values: Vec::new() }),
            Way::Function { aggregate, signature } => Box::new(Function {
                aggregate,
                signature: signature.clone(),
                ty: self.ty,
                result: self.result.clone(),
                context: self.context.clone(),
                groups: Vec::new(),
                bytes: 0,
            }),
        })
    }

    /// As a function of DataFusion.
    pub fn udf(self, name: &str) -> Arc<AggregateUDF> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(AggregateUDF::from(Udf {
            plan: self,
            name: name.to_owned(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    }
}

struct Udf {
    plan: Plan,
    name: String,
    number: u64,
    signature: Signature,
}

impl fmt::Debug for Udf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.number == other.number
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl AggregateUDFImpl for Udf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.plan.result.clone())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        let states = self.plan.states().into_iter().enumerate();
        Ok(states
            .map(|(number, ty)| Arc::new(Field::new(format!("{}[{number}]", args.name), ty, true)))
            .collect())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        let mut groups = self.plan.start()?;
        groups.resize(1);
        Ok(Box::new(Single { groups: Mutex::new(groups) }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped { groups: self.plan.start()?, plan: self.plan.clone() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// States of one aggregate for many groups.
trait Groups: Send {
    /// Makes room for that many groups.
    fn resize(&mut self, groups: usize);
    /// Adds row i to group `index[i]`, where the filter is true.
    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()>;
    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()>;
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>>;
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef>;
    fn size(&self) -> usize;
}

struct Grouped {
    groups: Box<dyn Groups>,
    plan: Plan,
}

impl GroupsAccumulator for Grouped {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.groups.resize(total_num_groups);
        Ok(self.groups.update(values, group_indices, opt_filter)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        Ok(self.groups.evaluate(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(self.groups.state(emit_to)?)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.groups.resize(total_num_groups);
        Ok(self.groups.merge(values, group_indices)?)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |array| array.len());
        let index: Vec<usize> = (0..rows).collect();
        let mut groups = self.plan.start()?;
        groups.resize(rows);
        groups.update(values, &index, opt_filter)?;
        Ok(groups.state(EmitTo::All)?)
    }

    fn size(&self) -> usize {
        self.groups.size()
    }
}

/// The one group of an aggregation without keys.
struct Single {
    groups: Mutex<Box<dyn Groups>>,
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Single")
    }
}

impl Single {
    fn groups(&mut self) -> &mut Box<dyn Groups> {
        self.groups.get_mut().unwrap_or_else(|e| e.into_inner())
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let rows = values.first().map_or(0, |array| array.len());
        Ok(self.groups().update(values, &vec![0; rows], None)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let array = self.groups().evaluate(EmitTo::All)?;
        self.groups().resize(1);
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        self.groups.lock().unwrap_or_else(|e| e.into_inner()).size()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let arrays = self.groups().state(EmitTo::All)?;
        self.groups().resize(1);
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let rows = states.first().map_or(0, |array| array.len());
        Ok(self.groups().merge(states, &vec![0; rows])?)
    }
}

/// Calls `f(row, group)` for the rows that count: not NULL in `array`, true in the filter.
fn each(
    array: &dyn Array,
    index: &[usize],
    filter: Option<&BooleanArray>,
    mut f: impl FnMut(usize, usize) -> Result<()>,
) -> Result<()> {
    match (array.nulls().filter(|nulls| nulls.null_count() > 0), filter) {
        (None, None) => {
            for (row, group) in index.iter().enumerate() {
                f(row, *group)?;
            }
        }
        (nulls, filter) => {
            for (row, group) in index.iter().enumerate() {
                let valid = nulls.is_none_or(|nulls| nulls.is_valid(row));
                if valid && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                    f(row, *group)?;
                }
            }
        }
    }
    Ok(())
}

fn mismatch() -> Failure {
    Error::internal("an aggregate over a column of another form than planned").into()
}

fn primitive<T: ArrowPrimitiveType>(arrays: &[ArrayRef], number: usize) -> Result<&PrimitiveArray<T>> {
    arrays.get(number).and_then(|array| array.as_primitive_opt::<T>()).ok_or_else(mismatch)
}

#[derive(Default)]
struct Count {
    counts: Vec<i64>,
}

impl Groups for Count {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let counts = &mut self.counts;
        each(args.first().ok_or_else(mismatch)?, index, filter, |_, group| {
            counts[group] += 1;
            Ok(())
        })
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        let values = primitive::<Int64Type>(states, 0)?;
        let counts = &mut self.counts;
        each(values, index, None, |row, group| {
            counts[group] += values.value(row);
            Ok(())
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(emit.take_needed(&mut self.counts))))
    }

    fn size(&self) -> usize {
        self.counts.capacity() * 8
    }
}

#[derive(Default)]
struct SumInteger {
    sums: Vec<i64>,
    seen: Vec<bool>,
}

impl SumInteger {
    fn add<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        index: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()>
    where
        i64: From<T::Native>,
    {
        let (sums, seen) = (&mut self.sums, &mut self.seen);
        each(values, index, filter, |row, group| {
            let sum = sums[group].checked_add(i64::from(values.value(row)));
            sums[group] =
                sum.ok_or_else(|| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))?;
            seen[group] = true;
            Ok(())
        })
    }
}

impl Groups for SumInteger {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.seen.resize(groups, false);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        match args.first().map(|array| array.data_type()) {
            Some(DataType::Int16) => self.add(primitive::<Int16Type>(args, 0)?, index, filter),
            _ => self.add(primitive::<Int32Type>(args, 0)?, index, filter),
        }
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        self.add(primitive::<Int64Type>(states, 0)?, index, None)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let seen = NullBuffer::from(emit.take_needed(&mut self.seen));
        Ok(Arc::new(Int64Array::new(emit.take_needed(&mut self.sums).into(), Some(seen))))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * 9
    }
}

/// Sums and averages as 128-bit integers at a fixed scale.
#[derive(Default)]
struct SumDecimal {
    scale: i8,
    average: bool,
    sums: Vec<i128>,
    counts: Vec<i64>,
}

fn plus(sum: i128, value: i128) -> Result<i128> {
    if sum == DECIMAL_NAN || value == DECIMAL_NAN {
        return Ok(DECIMAL_NAN);
    }
    sum.checked_add(value).filter(|sum| *sum != DECIMAL_NAN).ok_or(Failure::Narrow)
}

impl SumDecimal {
    fn add<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        index: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()>
    where
        i128: From<T::Native>,
    {
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        each(values, index, filter, |row, group| {
            sums[group] = plus(sums[group], i128::from(values.value(row)))?;
            counts[group] += 1;
            Ok(())
        })
    }
}

impl Groups for SumDecimal {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        match args.first().map(|array| array.data_type()) {
            Some(DataType::Int16) => self.add(primitive::<Int16Type>(args, 0)?, index, filter),
            Some(DataType::Int32) => self.add(primitive::<Int32Type>(args, 0)?, index, filter),
            Some(DataType::Int64) => self.add(primitive::<Int64Type>(args, 0)?, index, filter),
            _ => self.add(primitive::<Decimal128Type>(args, 0)?, index, filter),
        }
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        let values = primitive::<Decimal128Type>(states, 0)?;
        let counts = if self.average { Some(primitive::<Int64Type>(states, 1)?) } else { None };
        let (sums, totals) = (&mut self.sums, &mut self.counts);
        each(values, index, None, |row, group| {
            sums[group] = plus(sums[group], values.value(row))?;
            totals[group] += counts.map_or(1, |counts| counts.value(row));
            Ok(())
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit.take_needed(&mut self.sums);
        let counts = emit.take_needed(&mut self.counts);
        let seen: NullBuffer = counts.iter().map(|count| *count > 0).collect();
        let sums = Decimal128Array::new(sums.into(), Some(seen))
            .with_data_type(DataType::Decimal128(38, self.scale));
        let mut state: Vec<ArrayRef> = vec![Arc::new(sums)];
        if self.average {
            state.push(Arc::new(Int64Array::from(counts)));
        }
        Ok(state)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        if !self.average {
            return self.state(emit)?.pop().ok_or_else(mismatch);
        }
        let sums = emit.take_needed(&mut self.sums);
        let counts = emit.take_needed(&mut self.counts);
        let mut out = Output::new(Type::new(oid::NUMERIC), &DataType::BinaryView, sums.len());
        for (sum, count) in sums.into_iter().zip(counts) {
            let value = if count == 0 {
                Datum::Null
            } else {
                let average = numeric_of_decimal(sum, self.scale).div(&Numeric::from_i64(count))?;
                Datum::Numeric(Arc::new(average))
            };
            out.append(&value)?;
        }
        Ok(out.finish())
    }

    fn size(&self) -> usize {
        self.sums.capacity() * 24
    }
}

#[derive(Default)]
struct SumFloat {
    average: bool,
    sums: Vec<f64>,
    counts: Vec<i64>,
}

fn plus_float(sum: f64, value: f64) -> Result<f64> {
    let total = sum + value;
    if total.is_infinite() && sum.is_finite() && value.is_finite() {
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow").into());
    }
    Ok(total)
}

impl Groups for SumFloat {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, 0.0);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let values = primitive::<Float64Type>(args, 0)?;
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        each(values, index, filter, |row, group| {
            sums[group] = plus_float(sums[group], values.value(row))?;
            counts[group] += 1;
            Ok(())
        })
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        let values = primitive::<Float64Type>(states, 0)?;
        let counts = if self.average { Some(primitive::<Int64Type>(states, 1)?) } else { None };
        let (sums, totals) = (&mut self.sums, &mut self.counts);
        each(values, index, None, |row, group| {
            sums[group] = plus_float(sums[group], values.value(row))?;
            totals[group] += counts.map_or(1, |counts| counts.value(row));
            Ok(())
        })
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit.take_needed(&mut self.sums);
        let counts = emit.take_needed(&mut self.counts);
        let seen: NullBuffer = counts.iter().map(|count| *count > 0).collect();
        let mut state: Vec<ArrayRef> = vec![Arc::new(Float64Array::new(sums.into(), Some(seen)))];
        if self.average {
            state.push(Arc::new(Int64Array::from(counts)));
        }
        Ok(state)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        if !self.average {
            return self.state(emit)?.pop().ok_or_else(mismatch);
        }
        let sums = emit.take_needed(&mut self.sums).into_iter();
        let counts = emit.take_needed(&mut self.counts);
        let averages = sums.zip(counts).map(|(sum, count)| (count > 0).then(|| sum / count as f64));
        Ok(Arc::new(Float64Array::from_iter(averages)))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * 16
    }
}

fn extreme(max: bool, form: &DataType) -> Box<dyn Groups> {
    macro_rules! of {
        ($ty:ty) => {
            Box::new(Extreme::<$ty> { max, data_type: form.clone(), values: Vec::new(), seen: Vec::new() })
        };
    }
    match form {
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::UInt32 => of!(UInt32Type),
        DataType::UInt64 => of!(UInt64Type),
        DataType::Float32 => of!(Float32Type),
        DataType::Float64 => of!(Float64Type),
        DataType::Date32 => of!(Date32Type),
        DataType::Time64(_) => of!(Time64MicrosecondType),
        DataType::Timestamp(..) => of!(TimestampMicrosecondType),
        DataType::Decimal128(..) => of!(Decimal128Type),
        _ => Box::new(ExtremeText { max, values: Vec::new(), bytes: 0 }),
    }
}

struct Extreme<T: ArrowPrimitiveType> {
    max: bool,
    data_type: DataType,
    values: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Groups for Extreme<T> {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::Native::default());
        self.seen.resize(groups, false);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let values = primitive::<T>(args, 0)?;
        let (best, seen, max) = (&mut self.values, &mut self.seen, self.max);
        each(values, index, filter, |row, group| {
            let value = values.value(row);
            let better = if max { value.is_gt(best[group]) } else { value.is_lt(best[group]) };
            if better || !seen[group] {
                best[group] = value;
                seen[group] = true;
            }
            Ok(())
        })
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        self.update(states, index, None)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let seen = NullBuffer::from(emit.take_needed(&mut self.seen));
        let values = PrimitiveArray::<T>::new(emit.take_needed(&mut self.values).into(), Some(seen));
        Ok(Arc::new(values.with_data_type(self.data_type.clone())))
    }

    fn size(&self) -> usize {
        self.values.capacity() * (size_of::<T::Native>() + 1)
    }
}

struct ExtremeText {
    max: bool,
    values: Vec<Option<Box<str>>>,
    bytes: usize,
}

impl Groups for ExtremeText {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, None);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let texts = args.first().and_then(|array| array.as_string_view_opt()).ok_or_else(mismatch)?;
        let (best, bytes, max) = (&mut self.values, &mut self.bytes, self.max);
        each(texts, index, filter, |row, group| {
            let text = texts.value(row);
            let better = match &best[group] {
                None => true,
                Some(known) if max => text > &**known,
                Some(known) => text < &**known,
            };
            if better {
                *bytes += text.len();
                *bytes -= best[group].as_ref().map_or(0, |known| known.len());
                best[group] = Some(text.into());
            }
            Ok(())
        })
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        self.update(states, index, None)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let values = emit.take_needed(&mut self.values);
        let mut builder = StringViewBuilder::with_capacity(values.len());
        for value in &values {
            self.bytes -= value.as_ref().map_or(0, |text| text.len());
            builder.append_option(value.as_deref());
        }
        Ok(Arc::new(builder.finish()))
    }

    fn size(&self) -> usize {
        self.bytes + self.values.capacity() * 16
    }
}

/// The first value of each group, as bytes.
struct AnyValue {
    data_type: DataType,
    values: Vec<Option<Box<[u8]>>>,
}

impl Groups for AnyValue {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, None);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let array = args.first().ok_or_else(mismatch)?;
        let values = &mut self.values;
        macro_rules! keep {
            ($array:expr, $bytes:expr) => {{
                let array = $array.ok_or_else(mismatch)?;
                each(array, index, filter, |row, group| {
                    if values[group].is_none() {
                        values[group] = Some($bytes(array.value(row)).into());
                    }
                    Ok(())
                })
            }};
        }
        match &self.data_type {
            DataType::Utf8View => keep!(array.as_string_view_opt(), |text: &str| text.as_bytes().to_vec()),
            DataType::FixedSizeBinary(_) => {
                keep!(array.as_fixed_size_binary_opt(), |bytes: &[u8]| bytes.to_vec())
            }
            DataType::Float32 => {
                keep!(array.as_primitive_opt::<Float32Type>(), |value: f32| value.to_le_bytes().to_vec())
            }
            DataType::Float64 => {
                keep!(array.as_primitive_opt::<Float64Type>(), |value: f64| value.to_le_bytes().to_vec())
            }
            _ => keep!(array.as_binary_view_opt(), |bytes: &[u8]| bytes.to_vec()),
        }
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        self.update(states, index, None)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let values = emit.take_needed(&mut self.values);
        Ok(match &self.data_type {
            DataType::Utf8View => {
                let mut builder = StringViewBuilder::with_capacity(values.len());
                for value in &values {
                    let text = value.as_deref().map(std::str::from_utf8).transpose();
                    builder.append_option(text.map_err(|_| mismatch())?);
                }
                Arc::new(builder.finish())
            }
            DataType::FixedSizeBinary(width) => {
                let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), *width);
                for value in &values {
                    match value {
                        Some(bytes) => builder.append_value(bytes)?,
                        None => builder.append_null(),
                    }
                }
                Arc::new(builder.finish())
            }
            DataType::Float32 => {
                let floats =
                    values.iter().map(|value| Some(f32::from_le_bytes(value.as_deref()?.try_into().ok()?)));
                Arc::new(Float32Array::from_iter(floats))
            }
            DataType::Float64 => {
                let floats =
                    values.iter().map(|value| Some(f64::from_le_bytes(value.as_deref()?.try_into().ok()?)));
                Arc::new(Float64Array::from_iter(floats))
            }
            _ => {
                let mut builder = BinaryViewBuilder::with_capacity(values.len());
                for value in &values {
                    builder.append_option(value.as_deref());
                }
                Arc::new(builder.finish())
            }
        })
    }

    fn size(&self) -> usize {
        self.values.capacity() * 40
    }
}

/// Passes on only the first row of each combination of arguments in each group.
struct Distinct {
    inner: Box<dyn Groups>,
    types: Vec<Type>,
    /// (group, key form of the arguments).
    seen: HashSet<(usize, Box<[u8]>)>,
    bytes: usize,
}

impl Groups for Distinct {
    fn resize(&mut self, groups: usize) {
        self.inner.resize(groups);
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let mut readers = Vec::with_capacity(args.len());
        for (array, ty) in args.iter().zip(&self.types) {
            readers.push((ColumnReader::new(&**array, *ty)?, ty.oid));
        }
        let mut first = vec![false; index.len()];
        let mut scratch = Vec::new();
        for (row, group) in index.iter().enumerate() {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            scratch.clear();
            for (reader, ty) in &readers {
                let value = reader.get(row)?;
                scratch.push(u8::from(value.is_null()));
                if !value.is_null() {
                    let start = scratch.len();
                    scratch.extend_from_slice(&[0; 4]);
                    value::key::encode_value(&value, *ty, &mut scratch);
                    let length = (scratch.len() - start - 4) as u32;
                    scratch[start..start + 4].copy_from_slice(&length.to_le_bytes());
                }
            }
            if self.seen.insert((*group, scratch.as_slice().into())) {
                first[row] = true;
                self.bytes += scratch.len() + 40;
            }
        }
        self.inner.update(args, index, Some(&BooleanArray::from(first)))
    }

    fn merge(&mut self, _: &[ArrayRef], _: &[usize]) -> Result<()> {
        Err(Error::internal("a DISTINCT aggregate in two steps").into())
    }

    fn state(&mut self, _: EmitTo) -> Result<Vec<ArrayRef>> {
        // Asked for when memory is short.
        Err(Error::new(SqlState::OUT_OF_MEMORY, "out of memory")
            .detail("The values of a DISTINCT aggregate do not fit in memory.")
            .hint("Select the distinct values in a subquery and aggregate over it.")
            .into())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit)
    }

    fn size(&self) -> usize {
        self.bytes + self.inner.size()
    }
}

/// An aggregate's own accumulators.
struct Function {
    aggregate: &'static Aggregate,
    signature: Arc<function::Signature>,
    ty: Type,
    result: DataType,
    context: Context,
    groups: Vec<Box<dyn function::Accumulator>>,
    /// Heap bytes of the groups when last looked at.
    bytes: usize,
}

impl Function {
    fn measured(&mut self) {
        // Walking all groups is dear; a sample will do.
        let sample: usize = self.groups.iter().rev().take(64).map(|group| group.size() + 64).sum();
        let sampled = self.groups.len().clamp(1, 64);
        self.bytes = sample / sampled * self.groups.len();
    }
}

impl Groups for Function {
    fn resize(&mut self, groups: usize) {
        while self.groups.len() < groups {
            self.groups.push((self.aggregate.start)(&self.signature, &*self.context.env));
        }
    }

    fn update(&mut self, args: &[ArrayRef], index: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let mut readers = Vec::with_capacity(args.len());
        // An aggregate without arguments (count(*)) is still handed a column, to know how many rows there are.
        for (array, ty) in args.iter().zip(&self.signature.args) {
            readers.push(ColumnReader::new(&**array, *ty)?);
        }
        let mut values = vec![Datum::Null; readers.len()];
        for (row, group) in index.iter().enumerate() {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                continue;
            }
            if row % 1024 == 1023 {
                self.context.cancel.check()?;
            }
            for (value, reader) in values.iter_mut().zip(&readers) {
                *value = reader.get(row)?;
            }
            if self.aggregate.strict && values.iter().any(Datum::is_null) {
                continue;
            }
            self.groups[*group].add(&values)?;
        }
        self.measured();
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], index: &[usize]) -> Result<()> {
        let bytes = states.first().and_then(|array| array.as_binary_view_opt()).ok_or_else(mismatch)?;
        let groups = &mut self.groups;
        each(bytes, index, None, |row, group| Ok(groups[group].merge(bytes.value(row))?))?;
        self.measured();
        Ok(())
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit.take_needed(&mut self.groups);
        let mut builder = BinaryViewBuilder::with_capacity(groups.len());
        for group in &groups {
            builder.append_value(group.state()?);
        }
        self.measured();
        Ok(vec![Arc::new(builder.finish())])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = emit.take_needed(&mut self.groups);
        let mut out = Output::new(self.ty, &self.result, groups.len());
        for mut group in groups {
            out.append(&group.finish()?)?;
        }
        self.measured();
        Ok(out.finish())
    }

    fn size(&self) -> usize {
        self.bytes
    }
}
