//! Expressions over columns.
//!
//! The hard idea: a [`Vector`] never decides what SQL means, it only finds a faster road to what the function says. Kernels
//! exist for a short list (comparisons, checked arithmetic of integers and decimals, LIKE, IN, casts, parts of dates);
//! each either gives exactly the values its function gives, or refuses a batch ([`Failure::Kernel`]), and then the same
//! expression is evaluated row by row ([`Rows`]), which also finds the right error. Everything without a kernel goes there
//! in the first place. AND, OR and CASE look at their later parts only for the rows that still need them, so a part that
//! can fail never sees a row that an earlier part excluded.
//!
//! Numerics: a numeric whose precision is bounded is a Decimal128 with its display scale as the scale; `+ - *` keep it
//! so, as long as the result provably fits. Below an aggregate ([`Compiler::optimistic`]) they may stay decimal beyond what
//! is provable: an overflow there ([`Failure::Narrow`]) happens before the first row is sent, and the statement is
//! started over with wide numerics.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewBuilder, BooleanArray, Decimal128Array, PrimitiveArray, Scalar,
    StringViewArray, StringViewBuilder, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::kernels::{boolean, cmp, numeric, zip::zip};
use datafusion::arrow::compute::{cast, filter, interleave, is_not_null, is_null, take};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use execute::{Context, Evaluator};
use function::{Function, Strategy, Volatility};
use resolve::tree::{Call, ConvertKind, Expr, SubplanKind};
use value::arrow_form::{self, ColumnBuilder, ColumnReader, DECIMAL_NAN, Form};
use value::types::oid;
use value::{Datum, Error, Result, Type, datetime};

use crate::error::Failure;

/// The most digits of a decimal column.
const MAX_PRECISION: u8 = 38;
/// IN lists up to here are compared one by one.
const SHORT_LIST: usize = 6;

/// Values for some rows: one per row, or one for all of them.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Array(ArrayRef),
    Scalar(ArrayRef),
}

impl Column {
    /// One value per row.
    pub fn expand(self, rows: usize) -> Result<ArrayRef, Failure> {
        match self {
            Column::Array(array) => Ok(array),
            Column::Scalar(array) => {
                if array.is_null(0) {
                    return Ok(new_null_array(array.data_type(), rows));
                }
                Ok(take(&array, &UInt32Array::from(vec![0; rows]), None)?)
            }
        }
    }

    fn array(&self) -> &ArrayRef {
        match self {
            Column::Array(array) | Column::Scalar(array) => array,
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Column::Scalar(_))
    }

    fn map(self, f: impl FnOnce(&ArrayRef) -> Result<ArrayRef, Failure>) -> Result<Column, Failure> {
        Ok(match self {
            Column::Array(array) => Column::Array(f(&array)?),
            Column::Scalar(array) => Column::Scalar(f(&array)?),
        })
    }
}

/// A column that expressions can read.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub ty: Type,
    /// The Arrow type it really has: numerics may be decimals of another precision than their SQL type says.
    pub data_type: DataType,
}

/// What an uncorrelated subplan gave, for one execution.
#[derive(Clone, Debug)]
pub(crate) enum SubplanResult {
    Value(Datum),
    /// The first column of all rows.
    List(Vec<Datum>),
}

/// An expression ready to run.
pub(crate) struct Vector {
    op: Op,
    pub ty: Type,
    pub data_type: DataType,
    /// May raise an error (or refuse a batch).
    fallible: bool,
}

enum Op {
    Input(usize),
    Const(ArrayRef),
    Compare {
        strategy: Strategy,
        left: Box<Vector>,
        right: Box<Vector>,
    },
    Shape {
        shape: Shape,
        input: Box<Vector>,
    },
    Arithmetic {
        op: Arithmetic,
        left: Box<Vector>,
        right: Box<Vector>,
    },
    And(Vec<Vector>),
    Or(Vec<Vector>),
    Not(Box<Vector>),
    IsNull {
        input: Box<Vector>,
        negated: bool,
    },
    IsBool {
        input: Box<Vector>,
        value: bool,
        negated: bool,
    },
    Case {
        whens: Vec<(Vector, Vector)>,
        otherwise: Box<Vector>,
    },
    Like {
        input: Box<Vector>,
        pattern: Like,
        negated: bool,
    },
    InSet {
        input: Box<Vector>,
        set: Set,
        has_null: bool,
        negated: bool,
    },
    Part {
        part: DatePart,
        input: Box<Vector>,
    },
    /// The kernels of `fast`; where they refuse, `rows`.
    Guarded {
        fast: Box<Vector>,
        rows: Box<Rows>,
    },
    Rows(Box<Rows>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Changes of a column's form that keep its values.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Between integer widths (growing), or integers and float4 to float8.
    Cast(DataType),
    /// A decimal with that many more digits after the point.
    Rescale { by: u8 },
    /// An integer as a decimal without fraction.
    Decimal,
    /// A decimal as float8.
    DecimalToFloat { scale: i8 },
    /// Any numeric in the wide form.
    Wide,
    /// The order-preserving form of `arrow_form::group_key`.
    Key(Type),
    /// bpchar without its padding.
    Trim,
    /// A date as its first microsecond.
    Timestamp,
    /// The same values under another name (text as varchar).
    Relabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatePart {
    Year,
    Month,
    Day,
}

/// A LIKE pattern without `_` and escapes: pieces that stand one after the other.
#[derive(Clone, Debug)]
struct Like {
    pieces: Vec<String>,
    /// The first (last) piece must stand at the start (end).
    anchored_start: bool,
    anchored_end: bool,
}

#[derive(Debug)]
enum Set {
    Integers(HashSet<i64>),
    Texts(HashSet<Box<str>>),
}

impl Like {
    fn parse(pattern: &str) -> Option<Like> {
        if pattern.contains(['_', '\\']) {
            return None;
        }
        Some(Like {
            anchored_start: !pattern.starts_with('%'),
            anchored_end: !pattern.ends_with('%'),
            pieces: pattern.split('%').filter(|piece| !piece.is_empty()).map(str::to_owned).collect(),
        })
        .filter(|like| {
            like.pieces.len() > 1 || !(like.anchored_start && like.anchored_end) || !pattern.contains('%')
        })
    }

    fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return !(self.anchored_start && self.anchored_end) || text.is_empty();
        };
        let mut at = text;
        if self.anchored_start {
            let Some(tail) = at.strip_prefix(first.as_str()) else { return false };
            if rest.is_empty() {
                return !self.anchored_end || tail.is_empty();
            }
            at = tail;
        } else if rest.is_empty() {
            return if self.anchored_end {
                at.ends_with(first.as_str())
            } else {
                at.contains(first.as_str())
            };
        } else {
            let Some(found) = at.find(first.as_str()) else { return false };
            at = &at[found + first.len()..];
        }
        let Some((last, middle)) = rest.split_last() else { return true };
        for piece in middle {
            let Some(found) = at.find(piece.as_str()) else { return false };
            at = &at[found + piece.len()..];
        }
        if self.anchored_end { at.ends_with(last.as_str()) } else { at.contains(last.as_str()) }
    }
}

/// An expression evaluated value by value, by the row executor's code.
struct Rows {
    expr: Expr,
    context: Context,
    /// (input, its place in the row, its type).
    inputs: Vec<(usize, Type)>,
    width: usize,
    ty: Type,
    data_type: DataType,
    /// Idle evaluators: partitions run at the same time.
    idle: Mutex<Vec<Evaluator>>,
}

impl Rows {
    fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<Column, Failure> {
        let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let mut evaluator = match idle {
            Some(evaluator) => evaluator,
            None => Evaluator::new(std::slice::from_ref(&self.expr), &self.context)?,
        };
        let result = self.run(&mut evaluator, columns, rows);
        self.idle.lock().unwrap_or_else(|e| e.into_inner()).push(evaluator);
        result
    }

    fn run(&self, evaluator: &mut Evaluator, columns: &[ArrayRef], rows: usize) -> Result<Column, Failure> {
        let mut readers = Vec::with_capacity(self.inputs.len());
        for (input, ty) in &self.inputs {
            readers.push((*input, ColumnReader::new(&*columns[*input], *ty)?));
        }
        let constant = readers.is_empty();
        let count = if constant { rows.min(1) } else { rows };
        let mut row = vec![Datum::Null; self.width];
        let mut out = Output::new(self.ty, &self.data_type, count);
        for number in 0..count {
            if number % 256 == 255 {
                self.context.cancel.check()?;
            }
            for (input, reader) in &readers {
                row[*input] = reader.get(number)?;
            }
            out.append(&evaluator.value(0, &row)?)?;
        }
        let array = out.finish();
        Ok(if constant && rows > 0 { Column::Scalar(array) } else { Column::Array(array) })
    }
}

/// Builds a column of values in a given Arrow form.
pub(crate) enum Output {
    Form(ColumnBuilder),
    Decimal { values: Vec<i128>, nulls: Vec<bool>, scale: u16, data_type: DataType },
}

impl Output {
    pub fn new(ty: Type, data_type: &DataType, capacity: usize) -> Output {
        match data_type {
            DataType::Decimal128(_, scale) if arrow_form::data_type(ty) != *data_type => Output::Decimal {
                values: Vec::with_capacity(capacity),
                nulls: Vec::with_capacity(capacity),
                scale: *scale as u16,
                data_type: data_type.clone(),
            },
            // A numeric with a typmod whose column is wide all the same.
            DataType::BinaryView if ty.oid == oid::NUMERIC => {
                Output::Form(ColumnBuilder::new(Type::new(oid::NUMERIC), capacity))
            }
            _ => Output::Form(ColumnBuilder::new(ty, capacity)),
        }
    }

    pub fn append(&mut self, value: &Datum) -> Result<(), Failure> {
        match self {
            Output::Form(builder) => Ok(builder.append(value)?),
            Output::Decimal { values, nulls, scale, .. } => {
                let number = match value {
                    Datum::Null => None,
                    Datum::Numeric(number) if number.is_nan() => Some(DECIMAL_NAN),
                    Datum::Numeric(number) if number.scale() <= *scale => {
                        let fits = number.to_i128(*scale).filter(|value| *value != DECIMAL_NAN);
                        Some(fits.ok_or(Failure::Narrow)?)
                    }
                    Datum::Numeric(_) => return Err(Failure::Narrow),
                    other => return Err(Error::internal(format!("{other:?} in a decimal column")).into()),
                };
                values.push(number.unwrap_or_default());
                nulls.push(number.is_some());
                Ok(())
            }
        }
    }

    pub fn finish(self) -> ArrayRef {
        match self {
            Output::Form(mut builder) => builder.finish(),
            Output::Decimal { values, nulls, data_type, .. } => {
                let nulls = NullBuffer::from(nulls);
                Arc::new(Decimal128Array::new(values.into(), Some(nulls)).with_data_type(data_type))
            }
        }
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Op::Input(number) => write!(f, "#{number}"),
            Op::Const(_) => f.write_str("const"),
            Op::Compare { strategy, left, right } => write!(f, "({left:?} {strategy:?} {right:?})"),
            Op::Shape { shape, input } => write!(f, "{shape:?}({input:?})"),
            Op::Arithmetic { op, left, right } => write!(f, "({left:?} {op:?} {right:?})"),
            Op::And(parts) => write!(f, "and{parts:?}"),
            Op::Or(parts) => write!(f, "or{parts:?}"),
            Op::Not(input) => write!(f, "not({input:?})"),
            Op::IsNull { input, negated } => write!(f, "null({input:?}, {negated})"),
            Op::IsBool { input, value, negated } => write!(f, "is({input:?}, {value}, {negated})"),
            Op::Case { whens, otherwise } => write!(f, "case({whens:?}, {otherwise:?})"),
            Op::Like { input, pattern, .. } => write!(f, "like({input:?}, {:?})", pattern.pieces),
            Op::InSet { input, .. } => write!(f, "in({input:?})"),
            Op::Part { part, input } => write!(f, "{part:?}({input:?})"),
            Op::Guarded { fast, .. } => write!(f, "{fast:?}"),
            Op::Rows(rows) => write!(f, "rows({:?})", rows.inputs),
        }
    }
}

// ---------------------------------------------------------------------------------------------- evaluation

fn truths(column: Column, rows: usize) -> Result<BooleanArray, Failure> {
    let array = column.expand(rows)?;
    Ok(array.as_boolean_opt().ok_or_else(|| Error::internal("a condition that is not boolean"))?.clone())
}

/// True where the condition is true: not where it is false or NULL.
pub(crate) fn certain(truths: &BooleanArray) -> BooleanArray {
    match truths.nulls() {
        None => truths.clone(),
        Some(valid) => BooleanArray::new(truths.values() & valid.inner(), None),
    }
}

/// The rows of `mask` in every column that is one.
fn select(columns: &[ArrayRef], mask: &BooleanArray) -> Result<Vec<ArrayRef>, Failure> {
    columns.iter().map(|column| Ok(filter(column, mask)?)).collect()
}

fn compare(strategy: Strategy, left: &Column, right: &Column) -> Result<Column, Failure> {
    let run =
        |a: &dyn datafusion::arrow::array::Datum, b: &dyn datafusion::arrow::array::Datum| match strategy {
            Strategy::Lt => cmp::lt(a, b),
            Strategy::Le => cmp::lt_eq(a, b),
            Strategy::Eq => cmp::eq(a, b),
            Strategy::Ge => cmp::gt_eq(a, b),
            Strategy::Gt => cmp::gt(a, b),
            Strategy::Ne => cmp::neq(a, b),
        };
    let (a, b) = (left.array(), right.array());
    Ok(match (left.is_scalar(), right.is_scalar()) {
        (true, true) => Column::Scalar(Arc::new(run(a, b)?)),
        (false, false) => Column::Array(Arc::new(run(a, b)?)),
        (false, true) => Column::Array(Arc::new(run(a, &Scalar::new(b.clone()))?)),
        (true, false) => Column::Array(Arc::new(run(&Scalar::new(a.clone()), b)?)),
    })
}

/// Bits of the largest magnitude in a decimal column; `None` when there is a NaN.
fn magnitude(array: &Decimal128Array) -> Option<u32> {
    let mut bits = 0u128;
    let mut nan = false;
    for value in array.values() {
        nan |= *value == DECIMAL_NAN;
        bits |= value.unsigned_abs();
    }
    // NULL cells hold anything; a stray NaN pattern there only costs the fast way.
    (!nan).then_some(128 - bits.leading_zeros())
}

fn decimal_arithmetic(
    op: Arithmetic,
    left: &Column,
    right: &Column,
    out: &DataType,
) -> Result<Column, Failure> {
    let decimals =
        |column: &Column| column.array().as_primitive_opt::<Decimal128Type>().cloned().ok_or(Failure::Kernel);
    let (a, b) = (decimals(left)?, decimals(right)?);
    let (Some(a_bits), Some(b_bits)) = (magnitude(&a), magnitude(&b)) else { return Err(Failure::Kernel) };
    let bits = match op {
        Arithmetic::Multiply => a_bits + b_bits,
        _ => a_bits.max(b_bits) + 1,
    };
    // 10^38 and DECIMAL_NAN lie between 2^126 and 2^127.
    if bits > 126 {
        return Err(Failure::Kernel);
    }
    let run = |x: i128, y: i128| match op {
        Arithmetic::Add => x.wrapping_add(y),
        Arithmetic::Subtract => x.wrapping_sub(y),
        _ => x.wrapping_mul(y),
    };
    let narrow = a_bits < 64 && b_bits < 64 && op == Arithmetic::Multiply;
    let product = |x: i128, y: i128| i128::from(x as i64) * i128::from(y as i64);
    let finish = |array: Decimal128Array| -> ArrayRef { Arc::new(array.with_data_type(out.clone())) };
    Ok(match (left.is_scalar(), right.is_scalar()) {
        (_, true) => {
            if b.is_null(0) {
                return left.clone().map(|array| Ok(new_null_array(out, array.len())));
            }
            let y = b.value(0);
            let array = if narrow { a.unary(|x| product(x, y)) } else { a.unary(|x| run(x, y)) };
            let array = finish(array);
            if left.is_scalar() { Column::Scalar(array) } else { Column::Array(array) }
        }
        (true, false) => {
            if a.is_null(0) {
                return right.clone().map(|array| Ok(new_null_array(out, array.len())));
            }
            let x = a.value(0);
            Column::Array(finish(if narrow { b.unary(|y| product(x, y)) } else { b.unary(|y| run(x, y)) }))
        }
        (false, false) => {
            let nulls = NullBuffer::union(a.nulls(), b.nulls());
            let pairs = a.values().iter().zip(b.values());
            let values: Vec<i128> = if narrow {
                pairs.map(|(x, y)| product(*x, *y)).collect()
            } else {
                pairs.map(|(x, y)| run(*x, *y)).collect()
            };
            Column::Array(finish(Decimal128Array::new(values.into(), nulls)))
        }
    })
}

fn arithmetic(op: Arithmetic, left: &Column, right: &Column, out: &DataType) -> Result<Column, Failure> {
    if matches!(out, DataType::Decimal128(..)) {
        return decimal_arithmetic(op, left, right, out);
    }
    let run = |a: &dyn datafusion::arrow::array::Datum, b: &dyn datafusion::arrow::array::Datum| match op {
        Arithmetic::Add => numeric::add(a, b),
        Arithmetic::Subtract => numeric::sub(a, b),
        Arithmetic::Multiply => numeric::mul(a, b),
        Arithmetic::Divide => numeric::div(a, b),
    };
    let (a, b) = (left.array(), right.array());
    let (result, scalar) = match (left.is_scalar(), right.is_scalar()) {
        (true, true) => (run(a, b), true),
        (false, false) => (run(a, b), false),
        (false, true) => (run(a, &Scalar::new(b.clone())), false),
        (true, false) => (run(&Scalar::new(a.clone()), b), false),
    };
    // Overflow, division by zero: the function itself knows the error.
    let array = result.map_err(|_| Failure::Kernel)?;
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        // Overflow and underflow are errors; infinities and zeros can also be right. The function decides.
        let odd = match op {
            Arithmetic::Add | Arithmetic::Subtract => floats.values().iter().any(|value| !value.is_finite()),
            Arithmetic::Multiply | Arithmetic::Divide => {
                floats.values().iter().any(|value| !value.is_finite() || *value == 0.0)
            }
        };
        if odd {
            return Err(Failure::Kernel);
        }
    }
    Ok(if scalar { Column::Scalar(array) } else { Column::Array(array) })
}

/// bpchar cells without trailing blanks.
pub(crate) fn trimmed(array: &ArrayRef) -> Result<ArrayRef, Failure> {
    let texts = array.as_string_view_opt().ok_or_else(|| Error::internal("bpchar that is no text column"))?;
    let trim = |text: &str| text.len() - text.trim_end_matches(' ').len();
    if texts.iter().flatten().all(|text| trim(text) == 0) {
        return Ok(array.clone());
    }
    let mut builder = StringViewBuilder::with_capacity(texts.len());
    for text in texts {
        match text {
            Some(text) => builder.append_value(text.trim_end_matches(' ')),
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn reshape(shape: &Shape, out: &DataType, array: &ArrayRef) -> Result<ArrayRef, Failure> {
    Ok(match shape {
        Shape::Relabel => array.clone(),
        Shape::Cast(to) => cast(array, to)?,
        Shape::Rescale { by } => {
            let factor = 10i128.pow(u32::from(*by));
            let decimals = array.as_primitive_opt::<Decimal128Type>().ok_or(Failure::Kernel)?;
            if *by == 0 {
                return Ok(Arc::new(decimals.clone().with_data_type(out.clone())));
            }
            match magnitude(decimals) {
                // 10^by has fewer bits than 4 * by.
                Some(bits) if bits + 4 * u32::from(*by) <= 126 => Arc::new(
                    decimals
                        .unary::<_, Decimal128Type>(|value| value.wrapping_mul(factor))
                        .with_data_type(out.clone()),
                ),
                _ => {
                    let values: PrimitiveArray<Decimal128Type> = decimals.try_unary(|value| {
                        if value == DECIMAL_NAN {
                            return Ok(value);
                        }
                        value.checked_mul(factor).filter(|value| *value != DECIMAL_NAN).ok_or(Failure::Narrow)
                    })?;
                    Arc::new(values.with_data_type(out.clone()))
                }
            }
        }
        Shape::Decimal => {
            let integers = cast(array, &DataType::Int64)?;
            let integers = integers.as_primitive::<Int64Type>();
            Arc::new(integers.unary::<_, Decimal128Type>(i128::from).with_data_type(out.clone()))
        }
        Shape::DecimalToFloat { scale } => {
            let decimals = array.as_primitive_opt::<Decimal128Type>().ok_or(Failure::Kernel)?;
            // Both operands of the division are exact: the quotient is the nearest float.
            if *scale > 22 || magnitude(decimals).is_none_or(|bits| bits > 53) {
                return Err(Failure::Kernel);
            }
            let divisor = 10f64.powi(i32::from(*scale));
            Arc::new(decimals.unary::<_, Float64Type>(|value| value as f64 / divisor))
        }
        Shape::Wide => wide(array)?,
        Shape::Key(ty) => key(array, *ty)?,
        Shape::Trim => trimmed(array)?,
        Shape::Timestamp => {
            let dates = array.as_primitive_opt::<Date32Type>().ok_or(Failure::Kernel)?;
            let stamps: TimestampMicrosecondArray =
                dates.try_unary::<_, TimestampMicrosecondType, Error>(datetime::date_to_timestamp)?;
            Arc::new(stamps)
        }
    })
}

/// Any numeric column in the wide form.
pub(crate) fn wide(array: &ArrayRef) -> Result<ArrayRef, Failure> {
    let DataType::Decimal128(_, scale) = array.data_type() else { return Ok(array.clone()) };
    let decimals = array.as_primitive::<Decimal128Type>();
    let mut builder = BinaryViewBuilder::with_capacity(array.len());
    let mut scratch = Vec::new();
    for value in decimals {
        match value {
            None => builder.append_null(),
            Some(value) => {
                scratch.clear();
                arrow_form::wide(&arrow_form::numeric_of_decimal(value, *scale), &mut scratch);
                builder.append_value(&scratch);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Whether DataFusion may group, join and sort by the column as it is.
pub(crate) fn is_plain(ty: Type, data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..)) || arrow_form::is_plain(ty)
}

/// The type of [`key`]'s column.
pub(crate) fn key_type(ty: Type, data_type: &DataType) -> DataType {
    match data_type {
        DataType::Decimal128(..) | DataType::Float32 | DataType::Float64 => data_type.clone(),
        _ if ty.oid == oid::BPCHAR => DataType::Utf8View,
        _ if arrow_form::is_plain(ty) => data_type.clone(),
        _ => DataType::BinaryView,
    }
}

/// The column to group, join and sort by.
pub(crate) fn key(array: &ArrayRef, ty: Type) -> Result<ArrayRef, Failure> {
    if matches!(array.data_type(), DataType::Decimal128(..)) {
        return Ok(array.clone());
    }
    if ty.oid == oid::BPCHAR {
        return trimmed(array);
    }
    if Form::of(ty) != Form::WideNumeric
        && array.data_type() == &DataType::BinaryView
        && ty.oid == oid::NUMERIC
    {
        // The SQL type is bounded, the column is not.
        return Ok(arrow_form::group_key(array, Type::new(oid::NUMERIC))?);
    }
    Ok(arrow_form::group_key(array, ty)?)
}

impl Vector {
    /// Values for `rows` rows of `columns`.
    pub fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<Column, Failure> {
        match &self.op {
            Op::Input(number) => Ok(Column::Array(columns[*number].clone())),
            Op::Const(array) => Ok(Column::Scalar(array.clone())),
            Op::Compare { strategy, left, right } => {
                compare(*strategy, &left.evaluate(columns, rows)?, &right.evaluate(columns, rows)?)
            }
            Op::Shape { shape, input } => {
                input.evaluate(columns, rows)?.map(|array| reshape(shape, &self.data_type, array))
            }
            Op::Arithmetic { op, left, right } => {
                let left = left.evaluate(columns, rows)?;
                let right = right.evaluate(columns, rows)?;
                arithmetic(*op, &left, &right, &self.data_type)
            }
            Op::And(parts) => self.connect(parts, false, columns, rows),
            Op::Or(parts) => self.connect(parts, true, columns, rows),
            Op::Not(input) => {
                input.evaluate(columns, rows)?.map(|array| Ok(Arc::new(boolean::not(array.as_boolean())?)))
            }
            Op::IsNull { input, negated } => input
                .evaluate(columns, rows)?
                .map(|array| Ok(Arc::new(if *negated { is_not_null(array)? } else { is_null(array)? }))),
            Op::IsBool { input, value, negated } => input.evaluate(columns, rows)?.map(|array| {
                let truths = certain(&same_truth(array.as_boolean(), *value));
                Ok(Arc::new(if *negated { boolean::not(&truths)? } else { truths }))
            }),
            Op::Case { whens, otherwise } => self.case(whens, otherwise, columns, rows),
            Op::Like { input, pattern, negated } => input.evaluate(columns, rows)?.map(|array| {
                let texts = array.as_string_view_opt().ok_or(Failure::Kernel)?;
                Ok(Arc::new(over_texts(texts, |text| pattern.matches(text) != *negated)))
            }),
            Op::InSet { input, set, has_null, negated } => input.evaluate(columns, rows)?.map(|array| {
                let found = match set {
                    Set::Integers(values) => {
                        let array = cast(array, &DataType::Int64)?;
                        let integers = array.as_primitive::<Int64Type>();
                        let bits = BooleanBuffer::collect_bool(integers.len(), |row| {
                            values.contains(&integers.value(row))
                        });
                        BooleanArray::new(bits, integers.nulls().cloned())
                    }
                    Set::Texts(values) => {
                        let texts = array.as_string_view_opt().ok_or(Failure::Kernel)?;
                        over_texts(texts, |text| values.contains(text))
                    }
                };
                // Not found in a list with a NULL in it: unknown.
                let found = if *has_null {
                    let nulls = NullBuffer::new(found.values().clone());
                    BooleanArray::new(found.values().clone(), NullBuffer::union(found.nulls(), Some(&nulls)))
                } else {
                    found
                };
                Ok(Arc::new(if *negated { boolean::not(&found)? } else { found }))
            }),
            Op::Part { part, input } => input.evaluate(columns, rows)?.map(|array| {
                let dates = array.as_primitive_opt::<Date32Type>().ok_or(Failure::Kernel)?;
                let values: PrimitiveArray<Decimal128Type> = dates.try_unary(|date| {
                    if !datetime::is_finite_date(date) {
                        return Err(Failure::Kernel);
                    }
                    let (year, month, day) = datetime::civil_from_days(date);
                    Ok(match part {
                        // There is no year zero: 1 BC is -1.
                        DatePart::Year => i128::from(if year <= 0 { year - 1 } else { year }),
                        DatePart::Month => i128::from(month),
                        DatePart::Day => i128::from(day),
                    })
                })?;
                Ok(Arc::new(values.with_data_type(self.data_type.clone())))
            }),
            Op::Guarded { fast, rows: slow } => match fast.evaluate(columns, rows) {
                Err(Failure::Kernel) => slow.evaluate(columns, rows),
                other => other,
            },
            Op::Rows(code) => code.evaluate(columns, rows),
        }
    }

    /// AND (`stop` = false) or OR (`stop` = true) of parts, three-valued, left to right.
    fn connect(
        &self,
        parts: &[Vector],
        stop: bool,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Column, Failure> {
        let mut so_far: Option<BooleanArray> = None;
        for part in parts {
            let Some(known) = so_far else {
                so_far = Some(truths(part.evaluate(columns, rows)?, rows)?);
                continue;
            };
            // Rows that are not decided yet: neither false for AND nor true for OR.
            let decided = certain(&same_truth(&known, stop));
            let open = rows - decided.true_count();
            if open == 0 {
                return Ok(Column::Array(Arc::new(known)));
            }
            let selective = open < rows && (part.fallible || open < rows / 4);
            let next = if selective {
                let mask = boolean::not(&decided)?;
                let values = truths(part.evaluate(&select(columns, &mask)?, open)?, open)?;
                scatter(&mask, &values)
            } else {
                truths(part.evaluate(columns, rows)?, rows)?
            };
            so_far = Some(if stop {
                boolean::or_kleene(&known, &next)?
            } else {
                boolean::and_kleene(&known, &next)?
            });
        }
        Ok(match so_far {
            Some(known) => Column::Array(Arc::new(known)),
            None => Column::Scalar(Arc::new(BooleanArray::from(vec![!stop]))),
        })
    }

    fn case(
        &self,
        whens: &[(Vector, Vector)],
        otherwise: &Vector,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Column, Failure> {
        let fallible = whens.iter().any(|(when, then)| when.fallible || then.fallible) || otherwise.fallible;
        if let ([(when, then)], false) = (whens, fallible) {
            let mask = certain(&truths(when.evaluate(columns, rows)?, rows)?);
            let (a, b) = (then.evaluate(columns, rows)?, otherwise.evaluate(columns, rows)?);
            let (x, y) = (a.array().clone(), b.array().clone());
            return Ok(Column::Array(match (a.is_scalar(), b.is_scalar()) {
                (true, true) => zip(&mask, &Scalar::new(x), &Scalar::new(y))?,
                (true, false) => zip(&mask, &Scalar::new(x), &y)?,
                (false, true) => zip(&mask, &x, &Scalar::new(y))?,
                (false, false) => zip(&mask, &x, &y)?,
            }));
        }
        let mut arms: Vec<ArrayRef> = Vec::new();
        let mut place = vec![(0usize, 0usize); rows];
        let mut open: Vec<u32> = (0..rows as u32).collect();
        let give =
            |value: &Vector, chosen: &[u32], arms: &mut Vec<ArrayRef>, place: &mut [(usize, usize)]| {
                if chosen.is_empty() {
                    return Ok::<(), Failure>(());
                }
                let result = value.evaluate(&pick(columns, chosen, rows)?, chosen.len())?;
                for (number, row) in chosen.iter().enumerate() {
                    place[*row as usize] = (arms.len(), if result.is_scalar() { 0 } else { number });
                }
                arms.push(result.array().clone());
                Ok(())
            };
        for (when, then) in whens {
            if open.is_empty() {
                break;
            }
            let truth = truths(when.evaluate(&pick(columns, &open, rows)?, open.len())?, open.len())?;
            let truth = certain(&truth);
            let mut numbers = 0..;
            let is_hit = |_: &u32| numbers.next().is_some_and(|number| truth.value(number));
            let (hits, rest): (Vec<u32>, Vec<u32>) = open.into_iter().partition(is_hit);
            open = rest;
            give(then, &hits, &mut arms, &mut place)?;
        }
        give(otherwise, &open, &mut arms, &mut place)?;
        if arms.is_empty() {
            return Ok(Column::Array(new_null_array(&self.data_type, rows)));
        }
        let arms: Vec<&dyn Array> = arms.iter().map(|arm| &**arm).collect();
        Ok(Column::Array(interleave(&arms, &place)?))
    }
}

/// Rows `chosen` of every column.
fn pick(columns: &[ArrayRef], chosen: &[u32], rows: usize) -> Result<Vec<ArrayRef>, Failure> {
    if chosen.len() == rows {
        return Ok(columns.to_vec());
    }
    let chosen = UInt32Array::from(chosen.to_vec());
    columns.iter().map(|column| Ok(take(column, &chosen, None)?)).collect()
}

/// True where the value is `value`, NULL where it is NULL.
fn same_truth(array: &BooleanArray, value: bool) -> BooleanArray {
    if value { array.clone() } else { BooleanArray::new(!array.values(), array.nulls().cloned()) }
}

/// `values` in the rows of `mask`, NULL elsewhere.
fn scatter(mask: &BooleanArray, values: &BooleanArray) -> BooleanArray {
    let mut bits = vec![false; mask.len()];
    let mut valid = vec![false; mask.len()];
    for (number, row) in mask.values().set_indices().enumerate() {
        bits[row] = values.value(number);
        valid[row] = values.is_valid(number);
    }
    BooleanArray::new(BooleanBuffer::from(bits), Some(NullBuffer::from(valid)))
}

fn over_texts(texts: &StringViewArray, test: impl Fn(&str) -> bool) -> BooleanArray {
    let bits = BooleanBuffer::collect_bool(texts.len(), |row| texts.is_valid(row) && test(texts.value(row)));
    BooleanArray::new(bits, texts.nulls().cloned())
}

// ---------------------------------------------------------------------------------------------- compilation

/// Makes [`Vector`]s of expressions over given columns.
pub(crate) struct Compiler<'a> {
    pub context: &'a Context,
    /// Results of the uncorrelated subplans, by number.
    pub subplans: &'a [Option<SubplanResult>],
    /// What slot i of the input row is.
    pub slots: &'a [Input],
    /// Numerics may stay decimal beyond what provably fits.
    pub optimistic: bool,
    /// The arms of a CASE may get the scale of the widest: right below a sum, whose scale that is.
    pub mixed_scales: bool,
    /// Slots in use, in the order of the compiled expression's inputs.
    pub used: Vec<usize>,
}

fn boolean_type() -> Type {
    Type::new(oid::BOOL)
}

/// Which kernel a function has, by PostgreSQL's oid.
fn arithmetic_of(function: &Function) -> Option<Arithmetic> {
    Some(match function.oid {
        // int2, int4, int8, float8, numeric.
        176 | 177 | 463 | 218 | 1724 => Arithmetic::Add,
        180 | 181 | 464 | 219 | 1725 => Arithmetic::Subtract,
        152 | 141 | 465 | 216 | 1726 => Arithmetic::Multiply,
        153 | 154 | 467 | 217 => Arithmetic::Divide,
        _ => return None,
    })
}

impl Vector {
    fn new(op: Op, ty: Type, data_type: DataType, fallible: bool) -> Vector {
        Vector { op, ty, data_type, fallible }
    }

    fn truth(op: Op, fallible: bool) -> Vector {
        Vector::new(op, boolean_type(), DataType::Boolean, fallible)
    }

    fn shaped(self, shape: Shape, data_type: DataType) -> Vector {
        // Rescaling can outgrow the decimal; only a constant is known to fit.
        let fallible = self.fallible || matches!(shape, Shape::DecimalToFloat { .. } | Shape::Timestamp);
        let ty = self.ty;
        Vector::new(Op::Shape { shape, input: Box::new(self) }, ty, data_type, fallible)
    }

    fn constant(&self) -> Option<&ArrayRef> {
        match &self.op {
            Op::Const(array) => Some(array),
            _ => None,
        }
    }

    fn is_null_constant(&self) -> bool {
        self.constant().is_some_and(|array| array.is_null(0))
    }

    /// The column it only passes on.
    pub fn input(&self) -> Option<usize> {
        match &self.op {
            Op::Input(number) => Some(*number),
            _ => None,
        }
    }

    /// The same values as a column that DataFusion can group, join and sort by.
    pub fn key(self) -> Vector {
        let (ty, data_type) = (self.ty, key_type(self.ty, &self.data_type));
        if is_plain(ty, &self.data_type) {
            return self;
        }
        self.shaped(Shape::Key(ty), data_type)
    }

    /// The same values in the Arrow form `data_type`; a numeric can only grow.
    pub fn into_form(self, data_type: &DataType) -> Result<Vector> {
        if self.data_type == *data_type {
            return Ok(self);
        }
        if self.is_null_constant() {
            let ty = self.ty;
            return Ok(Vector::new(Op::Const(new_null_array(data_type, 1)), ty, data_type.clone(), false));
        }
        match (&self.data_type, data_type) {
            (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if from <= to => {
                let by = (*to - *from) as u8;
                let data_type = data_type.clone();
                Ok(self.shaped(Shape::Rescale { by }, data_type))
            }
            (DataType::Decimal128(..), DataType::BinaryView) => {
                Ok(self.shaped(Shape::Wide, DataType::BinaryView))
            }
            (from, to) => Err(Error::internal(format!("a column of Arrow type {from} is needed as {to}"))),
        }
    }
}

/// The Arrow form that columns of these forms can share: themselves, or what numerics grow to.
pub(crate) fn common_form(forms: &[&DataType], exact_scale: bool) -> Option<DataType> {
    let (first, rest) = forms.split_first()?;
    let mut common = (*first).clone();
    for form in rest {
        if common == **form {
            continue;
        }
        common = match (&common, form) {
            (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) if !exact_scale || s == t => {
                let scale = *s.max(t);
                let whole = (*p as i8 - s).max(*q as i8 - t);
                let precision = whole as i16 + i16::from(scale);
                if precision > i16::from(MAX_PRECISION) {
                    DataType::BinaryView
                } else {
                    DataType::Decimal128(precision.max(1) as u8, scale)
                }
            }
            (
                DataType::Decimal128(..) | DataType::BinaryView,
                DataType::Decimal128(..) | DataType::BinaryView,
            ) => DataType::BinaryView,
            _ => return None,
        };
    }
    Some(common)
}

impl Compiler<'_> {
    /// Compiles an expression. XX000 for expressions that [`accepts`] refuses.
    pub fn compile(&mut self, expr: &Expr) -> Result<Vector> {
        let expr = self.substituted(expr)?;
        self.guarded(&expr)
    }

    /// Compiles a call with its kernels, and a way out for when they refuse.
    fn guarded(&mut self, expr: &Expr) -> Result<Vector> {
        let known = self.used.len();
        let Some(vector) = self.kernel(expr)? else {
            self.used.truncate(known);
            return self.rows(expr, None);
        };
        if !vector.fallible || !matches!(expr, Expr::Call(_) | Expr::Convert(_)) {
            return Ok(vector);
        }
        let rows = Box::new(self.row_code(expr, &vector.data_type)?);
        let (ty, data_type) = (vector.ty, vector.data_type.clone());
        Ok(Vector::new(Op::Guarded { fast: Box::new(vector), rows }, ty, data_type, true))
    }

    fn list(&mut self, exprs: &[Expr]) -> Result<Vec<Vector>> {
        exprs.iter().map(|expr| self.guarded(expr)).collect()
    }

    fn input(&mut self, slot: usize) -> usize {
        match self.used.iter().position(|known| *known == slot) {
            Some(place) => place,
            None => {
                self.used.push(slot);
                self.used.len() - 1
            }
        }
    }

    /// The expression with subplans and parameters as constants.
    fn substituted(&self, expr: &Expr) -> Result<Expr> {
        Ok(match expr {
            Expr::Param { index, ty } => {
                let value = self.context.params.get(*index).cloned();
                Expr::Const {
                    value: value.ok_or_else(|| Error::internal("a parameter without a value"))?,
                    ty: *ty,
                }
            }
            Expr::Subplan(call) => {
                let result = self.subplans.get(call.subplan).and_then(Option::as_ref);
                match (&call.kind, result) {
                    (
                        SubplanKind::Scalar | SubplanKind::Exists | SubplanKind::Array,
                        Some(SubplanResult::Value(value)),
                    ) => Expr::Const { value: value.clone(), ty: call.ty },
                    (
                        SubplanKind::Any { tests, functions } | SubplanKind::All { tests, functions },
                        Some(SubplanResult::List(list)),
                    ) => {
                        let (Some(test), Some(function)) = (tests.first(), functions.first()) else {
                            return Err(Error::internal("a subplan without tests"));
                        };
                        let ty = Type::new(function.args.get(1).copied().unwrap_or(test.ty().oid));
                        Expr::InList {
                            function,
                            left: Box::new(self.substituted(test)?),
                            list: list.iter().map(|value| Expr::Const { value: value.clone(), ty }).collect(),
                            all: matches!(call.kind, SubplanKind::All { .. }),
                            negated: false,
                        }
                    }
                    _ => return Err(Error::internal("a subplan that was not run")),
                }
            }
            Expr::Const { .. } | Expr::Slot { .. } => expr.clone(),
            other => plan::expr::map_children(other.clone(), &mut |child| self.substituted(&child))?,
        })
    }

    fn row_code(&mut self, expr: &Expr, data_type: &DataType) -> Result<Rows> {
        let mut inputs: Vec<(usize, Type)> = Vec::new();
        let expr = self.remapped(expr.clone(), &mut inputs)?;
        let width = inputs.iter().map(|(input, _)| input + 1).max().unwrap_or(0);
        Ok(Rows {
            ty: expr.ty(),
            expr,
            context: self.context.clone(),
            inputs,
            width,
            data_type: data_type.clone(),
            idle: Mutex::default(),
        })
    }

    /// The expression over inputs instead of slots.
    fn remapped(&mut self, expr: Expr, inputs: &mut Vec<(usize, Type)>) -> Result<Expr> {
        match expr {
            Expr::Slot { index, ty } => {
                let input = self.input(index);
                if !inputs.iter().any(|(known, _)| *known == input) {
                    inputs.push((input, self.slots.get(index).map_or(ty, |slot| slot.ty)));
                }
                Ok(Expr::Slot { index: input, ty })
            }
            other => plan::expr::map_children(other, &mut |child| self.remapped(child, inputs)),
        }
    }

    fn rows(&mut self, expr: &Expr, data_type: Option<&DataType>) -> Result<Vector> {
        let ty = expr.ty();
        let data_type = match data_type {
            Some(data_type) => data_type.clone(),
            // Values of a numeric expression need not obey its typmod until a cast says so.
            None if ty.oid == oid::NUMERIC => DataType::BinaryView,
            None => arrow_form::data_type(ty),
        };
        let fallible = plan::expr::is_fallible(expr);
        let code = self.row_code(expr, &data_type)?;
        Ok(Vector::new(Op::Rows(Box::new(code)), ty, data_type, fallible))
    }

    fn constant(&self, value: &Datum, ty: Type) -> Result<Vector> {
        if let Datum::Numeric(number) = value {
            if let Some((coefficient, scale)) = number.small()
                && scale <= u16::from(MAX_PRECISION)
                && coefficient.unsigned_abs() < 10u128.pow(u32::from(MAX_PRECISION))
            {
                let digits = coefficient.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1) as u8;
                let data_type = DataType::Decimal128(digits.max(scale as u8).max(1), scale as i8);
                let array = Decimal128Array::from(vec![coefficient]).with_data_type(data_type.clone());
                return Ok(Vector::new(Op::Const(Arc::new(array)), ty, data_type, false));
            }
            let ty = Type::new(oid::NUMERIC);
            let mut builder = ColumnBuilder::new(ty, 1);
            builder.append(value)?;
            return Ok(Vector::new(Op::Const(builder.finish()), ty, DataType::BinaryView, false));
        }
        let mut builder = ColumnBuilder::new(ty, 1);
        builder.append(value)?;
        Ok(Vector::new(Op::Const(builder.finish()), ty, arrow_form::data_type(ty), false))
    }

    /// The expression by kernels at its top; `None`: it has none.
    fn kernel(&mut self, expr: &Expr) -> Result<Option<Vector>> {
        Ok(Some(match expr {
            Expr::Const { value, ty } => self.constant(value, *ty)?,
            Expr::Slot { index, .. } => {
                let slot =
                    self.slots.get(*index).ok_or_else(|| Error::internal("a slot that is not there"))?;
                let (ty, data_type) = (slot.ty, slot.data_type.clone());
                Vector::new(Op::Input(self.input(*index)), ty, data_type, false)
            }
            Expr::And(parts) | Expr::Or(parts) => {
                let parts = self.list(parts)?;
                let fallible = parts.iter().any(|part| part.fallible);
                Vector::truth(
                    if matches!(expr, Expr::And(_)) { Op::And(parts) } else { Op::Or(parts) },
                    fallible,
                )
            }
            Expr::Not(input) => {
                let input = Box::new(self.guarded(input)?);
                let fallible = input.fallible;
                Vector::truth(Op::Not(input), fallible)
            }
            Expr::IsNull { input, negated } if Form::of(input.ty()) != Form::Stored => {
                let input = Box::new(self.guarded(input)?);
                let fallible = input.fallible;
                Vector::truth(Op::IsNull { input, negated: *negated }, fallible)
            }
            Expr::IsBool { input, value, negated } => {
                let input = Box::new(self.guarded(input)?);
                let fallible = input.fallible;
                Vector::truth(Op::IsBool { input, value: *value, negated: *negated }, fallible)
            }
            Expr::Case { whens, otherwise, ty } => {
                return self.compile_case(whens, otherwise.as_deref(), *ty);
            }
            Expr::Coalesce { args, ty } => {
                let Some((last, first)) = args.split_last() else { return Ok(None) };
                if plan::expr::is_fallible(expr) {
                    return Ok(None);
                }
                let mut whens = Vec::with_capacity(first.len());
                for arg in first {
                    whens.push((Expr::IsNull { input: Box::new(arg.clone()), negated: true }, arg.clone()));
                }
                return self.compile_case(&whens, Some(last), *ty);
            }
            Expr::InList { function, left, list, all, negated } => {
                return self.in_list(function, left, list, *all, *negated);
            }
            Expr::Convert(convert) if convert.kind == ConvertKind::Relabel => {
                let Some(input) = self.kernel(&convert.input)? else { return Ok(None) };
                if input.data_type != arrow_form::data_type(convert.to) {
                    return Ok(None);
                }
                let data_type = input.data_type.clone();
                let mut vector = input.shaped(Shape::Relabel, data_type);
                vector.ty = convert.to;
                vector
            }
            Expr::Call(call) => return self.call(call),
            _ => return Ok(None),
        }))
    }

    fn compile_case(
        &mut self,
        whens: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        ty: Type,
    ) -> Result<Option<Vector>> {
        let mut arms = Vec::with_capacity(whens.len());
        for (when, then) in whens {
            arms.push((self.guarded(when)?, self.guarded(then)?));
        }
        let otherwise = match otherwise {
            Some(expr) => self.guarded(expr)?,
            None => self.constant(&Datum::Null, ty)?,
        };
        let mut forms: Vec<&DataType> = Vec::new();
        for value in arms.iter().map(|(_, then)| then).chain([&otherwise]) {
            if !value.is_null_constant() {
                forms.push(&value.data_type);
            }
        }
        let form = if forms.is_empty() {
            Some(arrow_form::data_type(ty))
        } else {
            common_form(&forms, !self.mixed_scales)
        };
        let Some(form) = form else { return Ok(None) };
        let mut fallible = false;
        let mut shaped = Vec::with_capacity(arms.len());
        for (when, then) in arms {
            let then = then.into_form(&form)?;
            fallible |= when.fallible || then.fallible;
            shaped.push((when, then));
        }
        let otherwise = Box::new(otherwise.into_form(&form)?);
        fallible |= otherwise.fallible;
        Ok(Some(Vector::new(Op::Case { whens: shaped, otherwise }, ty, form, fallible)))
    }

    fn in_list(
        &mut self,
        function: &'static Function,
        left: &Expr,
        list: &[Expr],
        all: bool,
        negated: bool,
    ) -> Result<Option<Vector>> {
        let negated = match (plan::strategy(function), all) {
            (Some(Strategy::Eq), false) => negated,
            (Some(Strategy::Ne), true) => !negated,
            _ => return Ok(None),
        };
        let mut constants = Vec::with_capacity(list.len());
        for item in list {
            let Expr::Const { value, ty } = item else { return Ok(None) };
            constants.push((value, *ty));
        }
        let left_ty = left.ty();
        if constants.len() > SHORT_LIST
            && let Some(set) = set_of(left_ty, &constants)
        {
            let mut input = self.guarded(left)?;
            if left_ty.oid == oid::BPCHAR {
                input = input.shaped(Shape::Trim, DataType::Utf8View);
            }
            let fallible = input.fallible;
            let has_null = constants.iter().any(|(value, _)| value.is_null());
            return Ok(Some(Vector::truth(
                Op::InSet { input: Box::new(input), set, has_null, negated },
                fallible,
            )));
        }
        if constants.len() > SHORT_LIST * 4 {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(constants.len());
        for (value, ty) in constants {
            let input = self.guarded(left)?;
            if input.fallible {
                return Ok(None);
            }
            let constant = self.constant(value, ty)?;
            let Some(part) = self.comparison(Strategy::Eq, input, constant)? else { return Ok(None) };
            parts.push(part);
        }
        let any = Vector::truth(Op::Or(parts), false);
        Ok(Some(if negated { Vector::truth(Op::Not(Box::new(any)), false) } else { any }))
    }

    /// A comparison by Arrow's kernels, after both sides got one form in which their order is SQL's.
    fn comparison(&mut self, strategy: Strategy, left: Vector, right: Vector) -> Result<Option<Vector>> {
        let Some((left, right)) = align(left, right, strategy)? else { return Ok(None) };
        let fallible = left.fallible || right.fallible;
        let op = Op::Compare { strategy, left: Box::new(left), right: Box::new(right) };
        Ok(Some(Vector::truth(op, fallible)))
    }

    fn call(&mut self, call: &Call) -> Result<Option<Vector>> {
        let function = call.function;
        if function.volatility == Volatility::Volatile {
            return Ok(None);
        }
        if let (Some(strategy), [left, right]) = (plan::strategy(function), &call.args[..]) {
            // A comparison whose sides must be evaluated by rows is better done by rows as a whole.
            let Some(left) = self.operand(left)? else { return Ok(None) };
            let Some(right) = self.operand(right)? else { return Ok(None) };
            return self.comparison(strategy, left, right);
        }
        if let (Some(op), [left, right]) = (arithmetic_of(function), &call.args[..]) {
            let Some(left) = self.operand(left)? else { return Ok(None) };
            let Some(right) = self.operand(right)? else { return Ok(None) };
            return self.arithmetic(op, left, right, call.ty);
        }
        match (function.oid, &call.args[..]) {
            // LIKE and NOT LIKE of text, bpchar and name.
            (
                850 | 851 | 1631 | 1632 | 858 | 859,
                [text, Expr::Const { value: Datum::Text(pattern), .. }],
            ) => {
                let Some(pattern) = Like::parse(pattern) else { return Ok(None) };
                let input = self.guarded(text)?;
                if input.data_type != DataType::Utf8View {
                    return Ok(None);
                }
                let fallible = input.fallible;
                let negated = matches!(function.oid, 851 | 1632 | 859);
                Ok(Some(Vector::truth(Op::Like { input: Box::new(input), pattern, negated }, fallible)))
            }
            // extract(field from date).
            (6199, [Expr::Const { value: Datum::Text(field), .. }, date]) => {
                let part = match &**field {
                    "year" => DatePart::Year,
                    "month" => DatePart::Month,
                    "day" => DatePart::Day,
                    _ => return Ok(None),
                };
                let Some(input) = self.operand(date)? else { return Ok(None) };
                if input.data_type != DataType::Date32 {
                    return Ok(None);
                }
                let op = Op::Part { part, input: Box::new(input) };
                Ok(Some(Vector::new(op, call.ty, DataType::Decimal128(10, 0), true)))
            }
            // Growing integers, integers and float4 to float8, integers to numeric.
            (313 | 754 | 481 | 235 | 316 | 482 | 311 | 1782 | 1740 | 1781 | 1746, [input]) => {
                let Some(input) = self.operand(input)? else { return Ok(None) };
                let from = input.data_type.clone();
                let (shape, data_type) = match (function.oid, &from) {
                    (313, DataType::Int16) => (Shape::Cast(DataType::Int32), DataType::Int32),
                    (754, DataType::Int16) | (481, DataType::Int32) => {
                        (Shape::Cast(DataType::Int64), DataType::Int64)
                    }
                    (235, DataType::Int16)
                    | (316, DataType::Int32)
                    | (482, DataType::Int64)
                    | (311, DataType::Float32) => (Shape::Cast(DataType::Float64), DataType::Float64),
                    (1782, DataType::Int16) => (Shape::Decimal, DataType::Decimal128(5, 0)),
                    (1740, DataType::Int32) => (Shape::Decimal, DataType::Decimal128(10, 0)),
                    (1781, DataType::Int64) => (Shape::Decimal, DataType::Decimal128(19, 0)),
                    (1746, DataType::Decimal128(_, scale)) => {
                        (Shape::DecimalToFloat { scale: *scale }, DataType::Float64)
                    }
                    _ => return Ok(None),
                };
                let mut vector = input.shaped(shape, data_type);
                vector.ty = call.ty;
                Ok(Some(vector))
            }
            _ => Ok(None),
        }
    }

    /// An argument of a kernel: by kernels itself, because its failures are repaired together with the caller's.
    fn operand(&mut self, expr: &Expr) -> Result<Option<Vector>> {
        match expr {
            // Parts of these are guarded one by one.
            Expr::Call(_) | Expr::Convert(_) => match self.kernel(expr)? {
                Some(vector) => Ok(Some(vector)),
                None => self.rows(expr, None).map(Some),
            },
            _ => self.guarded(expr).map(Some),
        }
    }

    fn arithmetic(
        &mut self,
        op: Arithmetic,
        left: Vector,
        right: Vector,
        ty: Type,
    ) -> Result<Option<Vector>> {
        let build = |left: Vector, right: Vector, data_type: DataType| {
            let op = Op::Arithmetic { op, left: Box::new(left), right: Box::new(right) };
            Ok(Some(Vector::new(op, ty, data_type, true)))
        };
        let (a, b) = (left.data_type.clone(), right.data_type.clone());
        match (&a, &b) {
            (DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float64, _) if a == b => {
                build(left, right, a)
            }
            (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) if op != Arithmetic::Divide => {
                let (p, q, s, t) = (i16::from(*p), i16::from(*q), i16::from(*s), i16::from(*t));
                let (precision, scale) = match op {
                    Arithmetic::Multiply => (p + q, s + t),
                    _ => ((p - s).max(q - t) + s.max(t) + 1, s.max(t)),
                };
                if scale > i16::from(MAX_PRECISION)
                    || (precision > i16::from(MAX_PRECISION) && !self.optimistic)
                {
                    return Ok(None);
                }
                let data_type =
                    DataType::Decimal128(precision.clamp(1, i16::from(MAX_PRECISION)) as u8, scale as i8);
                if op == Arithmetic::Multiply {
                    return build(left, right, data_type);
                }
                let widen = |vector: Vector, own: i16| {
                    if own == scale {
                        return vector;
                    }
                    let form = DataType::Decimal128(MAX_PRECISION, scale as i8);
                    vector.shaped(Shape::Rescale { by: (scale - own) as u8 }, form)
                };
                build(widen(left, s), widen(right, t), data_type)
            }
            _ => Ok(None),
        }
    }
}

fn set_of(left: Type, constants: &[(&Datum, Type)]) -> Option<Set> {
    match Form::of(left) {
        Form::Int16 | Form::Int32 | Form::Int64 | Form::Date => {
            let mut set = HashSet::new();
            for (value, _) in constants {
                match (Form::of(left), value) {
                    (_, Datum::Null) => {}
                    (Form::Date, Datum::Date(value)) => {
                        set.insert(i64::from(*value));
                    }
                    (Form::Date, _) => return None,
                    (_, Datum::Int2(value)) => {
                        set.insert(i64::from(*value));
                    }
                    (_, Datum::Int4(value)) => {
                        set.insert(i64::from(*value));
                    }
                    (_, Datum::Int8(value)) => {
                        set.insert(*value);
                    }
                    _ => return None,
                }
            }
            Some(Set::Integers(set))
        }
        Form::Text => {
            let mut set = HashSet::new();
            for (value, ty) in constants {
                match value {
                    Datum::Null => {}
                    Datum::Text(_) if (ty.oid == oid::BPCHAR) != (left.oid == oid::BPCHAR) => return None,
                    Datum::Text(text) if left.oid == oid::BPCHAR => {
                        set.insert(text.trim_end_matches(' ').into());
                    }
                    Datum::Text(text) => {
                        set.insert((&**text).into());
                    }
                    _ => return None,
                }
            }
            Some(Set::Texts(set))
        }
        _ => None,
    }
}

/// Brings two sides of a comparison into one form that Arrow orders as SQL does; `None`: there is none.
fn align(left: Vector, right: Vector, strategy: Strategy) -> Result<Option<(Vector, Vector)>> {
    let (a, b) = (left.data_type.clone(), right.data_type.clone());
    if left.ty.oid == oid::BPCHAR || right.ty.oid == oid::BPCHAR {
        if left.ty.oid != right.ty.oid || a != DataType::Utf8View || b != DataType::Utf8View {
            return Ok(None);
        }
        // A column of one length against a constant: padding the constant is cheaper than trimming the column.
        let exact = matches!(strategy, Strategy::Eq | Strategy::Ne);
        let length = |vector: &Vector| {
            value::types::length_of_typmod(vector.ty.typmod).filter(|_| vector.input().is_some())
        };
        if exact && let (Some(n), Some(text)) = (length(&left), text_constant(&right)) {
            return Ok(Some((left, padded(&text, n as usize))));
        }
        if exact && let (Some(n), Some(text)) = (length(&right), text_constant(&left)) {
            return Ok(Some((padded(&text, n as usize), right)));
        }
        let trim = |vector: Vector| vector.shaped(Shape::Trim, DataType::Utf8View);
        return Ok(Some((trim(left), trim(right))));
    }
    let same_time = |ty: &DataType| matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, None));
    Ok(match (&a, &b) {
        (DataType::Float32 | DataType::Float64, DataType::Float32 | DataType::Float64) => {
            let float = |vector: Vector| {
                let vector = if vector.data_type == DataType::Float32 && a != b {
                    let mut vector = vector.shaped(Shape::Cast(DataType::Float64), DataType::Float64);
                    vector.ty = Type::new(oid::FLOAT8);
                    vector
                } else {
                    vector
                };
                vector.key_of_float()
            };
            Some((float(left), float(right)))
        }
        (
            DataType::Int16 | DataType::Int32 | DataType::Int64,
            DataType::Int16 | DataType::Int32 | DataType::Int64,
        ) => {
            let long = |vector: Vector| {
                if a == b { vector } else { vector.shaped(Shape::Cast(DataType::Int64), DataType::Int64) }
            };
            Some((long(left), long(right)))
        }
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => {
            let scale = *s.max(t);
            let grown = |precision: u8, own: i8| i16::from(precision) + i16::from(scale - own);
            if grown(*p, *s) > i16::from(MAX_PRECISION) || grown(*q, *t) > i16::from(MAX_PRECISION) {
                return Ok(Some((wide_key(left), wide_key(right))));
            }
            let form = DataType::Decimal128(MAX_PRECISION, scale);
            Some((left.into_form(&form)?, right.into_form(&form)?))
        }
        _ if left.ty.oid == oid::NUMERIC && right.ty.oid == oid::NUMERIC => {
            Some((wide_key(left), wide_key(right)))
        }
        (DataType::Date32, other) if same_time(other) => {
            Some((left.shaped(Shape::Timestamp, other.clone()), right))
        }
        (other, DataType::Date32) if same_time(other) => {
            let form = other.clone();
            Some((left, right.shaped(Shape::Timestamp, form)))
        }
        (
            DataType::Boolean
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..),
            _,
        ) if a == b => Some((left, right)),
        _ if a == b && left.ty.oid == right.ty.oid && matches!(left.ty.oid, oid::UUID | oid::BYTEA) => {
            Some((left, right))
        }
        _ => None,
    })
}

impl Vector {
    fn key_of_float(self) -> Vector {
        let (ty, data_type) = (self.ty, self.data_type.clone());
        self.shaped(Shape::Key(ty), data_type)
    }
}

/// Any numeric as the bytes that order like it.
fn wide_key(vector: Vector) -> Vector {
    let wide = if vector.data_type == DataType::BinaryView {
        vector
    } else {
        vector.shaped(Shape::Wide, DataType::BinaryView)
    };
    let mut key = wide.shaped(Shape::Key(Type::new(oid::NUMERIC)), DataType::BinaryView);
    key.ty = Type::new(oid::BYTEA);
    key
}

fn text_constant(vector: &Vector) -> Option<String> {
    let array = vector.constant()?.as_string_view_opt()?;
    array.is_valid(0).then(|| array.value(0).to_owned())
}

/// `text` as a bpchar of `length` characters.
fn padded(text: &str, length: usize) -> Vector {
    let mut text = text.trim_end_matches(' ').to_owned();
    let missing = length.saturating_sub(text.chars().count());
    text.extend(std::iter::repeat_n(' ', missing));
    let array = StringViewArray::from_iter_values([text]);
    Vector::new(Op::Const(Arc::new(array)), Type::new(oid::BPCHAR), DataType::Utf8View, false)
}

/// Keys of a join: both sides in one form that Arrow compares as SQL does.
pub(crate) fn join_keys(left: Vector, right: Vector) -> Result<(Vector, Vector)> {
    if left.ty.oid == oid::NUMERIC && left.data_type != right.data_type {
        if let Some(form @ DataType::Decimal128(..)) =
            common_form(&[&left.data_type, &right.data_type], false)
        {
            return Ok((left.into_form(&form)?, right.into_form(&form)?));
        }
        return Ok((wide_key(left), wide_key(right)));
    }
    Ok((left.key(), right.key()))
}

/// Whether every part of the expression can be evaluated here, given that uncorrelated subplans are values.
pub(crate) fn accepts(expr: &Expr) -> bool {
    !plan::expr::any(expr, &mut |part| match part {
        Expr::Call(call) => call.function.volatility == Volatility::Volatile || call.function.waits,
        Expr::Subplan(call) => {
            !call.bindings.is_empty()
                || match &call.kind {
                    SubplanKind::Any { tests, .. } | SubplanKind::All { tests, .. } => tests.len() != 1,
                    _ => false,
                }
        }
        Expr::Outer { .. }
        | Expr::Column { .. }
        | Expr::RowId { .. }
        | Expr::WholeRow { .. }
        | Expr::Aggregate(_)
        | Expr::Window(_)
        | Expr::SetCall(_)
        | Expr::Grouping(_)
        | Expr::Sublink(_) => true,
        _ => false,
    })
}

/// Whether an expression nests at most `limit` deep. Does not recurse itself.
pub(crate) fn is_shallow(expr: &Expr, limit: usize) -> bool {
    let mut open = vec![(expr, 0)];
    while let Some((expr, depth)) = open.pop() {
        if depth > limit {
            return false;
        }
        resolve::walk::children(expr, &mut |child| open.push((child, depth + 1)));
    }
    true
}
