//! The column form: how values of each type live in an Arrow array.
//!
//! | type | Arrow | stock equality and order |
//! |---|---|---|
//! | bool, int2/4/8 | native | right |
//! | float4/8 | native | not for -0 and NaN: [`group_key`] |
//! | oid and reg* | UInt32 | right |
//! | xid8, pg_lsn, tid | UInt64 | right |
//! | numeric(p<=38, 0<=s<=p) | Decimal128(p, s), NaN is `i128::MAX` | right |
//! | other numerics | BinaryView: sort key, then the display scale (2 bytes, big-endian) | order only: [`group_key`] |
//! | text, varchar, name, json, "char" | Utf8View | right (C collation) |
//! | bpchar | Utf8View with its padding | [`group_key`] |
//! | bytea | BinaryView | right |
//! | date | Date32, days since 2000-01-01 | right |
//! | time | Time64(us) | right |
//! | timestamp, timestamptz | Timestamp(us), microseconds since 2000-01-01; the zone is UTC | right |
//! | interval | FixedSizeBinary(16): microseconds, days, months, little-endian | [`group_key`] |
//! | uuid | FixedSizeBinary(16) | right |
//! | jsonb, arrays, records, catalog types | BinaryView: the stored form of [`crate::binary::store`] | [`group_key`] |
//!
//! Dates and timestamps count from *our* epoch, not Arrow's: only our own kernels read their parts.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BinaryViewBuilder, BooleanArray, BooleanBuilder, Date32Array,
    Date32Builder, Decimal128Array, Decimal128Builder, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    Float32Array, Float32Builder, Float64Array, Float64Builder, Int16Array, Int16Builder, Int32Array,
    Int32Builder, Int64Array, Int64Builder, StringViewArray, StringViewBuilder, Time64MicrosecondArray,
    Time64MicrosecondBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder, UInt32Array,
    UInt32Builder, UInt64Array, UInt64Builder,
};
use arrow::datatypes::{DataType, TimeUnit};

use crate::types::{self, Repr, Type, numeric_precision_scale, oid};
use crate::{Datum, Error, Interval, Numeric, Result, SqlState, binary, key};

/// How a column is laid out; what [`data_type`] and the readers and builders agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Bool,
    Int16,
    Int32,
    Int64,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Decimal { precision: u8, scale: i8 },
    WideNumeric,
    Stored,
}

/// NaN in a Decimal128 column: greater than every value of 38 digits.
pub const DECIMAL_NAN: i128 = i128::MAX;

impl Form {
    pub fn of(ty: Type) -> Form {
        match types::repr(ty.oid) {
            Repr::Bool => Form::Bool,
            Repr::Int2 => Form::Int16,
            Repr::Int4 => Form::Int32,
            Repr::Int8 if matches!(ty.oid, oid::XID8 | oid::PG_LSN | oid::TID) => Form::UInt64,
            Repr::Int8 => Form::Int64,
            Repr::Oid => Form::UInt32,
            Repr::Float4 => Form::Float32,
            Repr::Float8 => Form::Float64,
            Repr::Numeric => match numeric_precision_scale(ty.typmod) {
                Some((precision @ 1..=38, scale)) if (0..=precision).contains(&scale) => {
                    Form::Decimal { precision: precision as u8, scale: scale as i8 }
                }
                _ => Form::WideNumeric,
            },
            Repr::Text => Form::Text,
            Repr::Bytea => Form::Bytes,
            Repr::Date => Form::Date,
            Repr::Time => Form::Time,
            Repr::Timestamp => Form::Timestamp,
            Repr::TimestampTz => Form::TimestampTz,
            Repr::Interval => Form::Interval,
            Repr::Uuid => Form::Uuid,
            Repr::Jsonb | Repr::Array | Repr::Record | Repr::None => Form::Stored,
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            Form::Bool => DataType::Boolean,
            Form::Int16 => DataType::Int16,
            Form::Int32 => DataType::Int32,
            Form::Int64 => DataType::Int64,
            Form::UInt32 => DataType::UInt32,
            Form::UInt64 => DataType::UInt64,
            Form::Float32 => DataType::Float32,
            Form::Float64 => DataType::Float64,
            Form::Text => DataType::Utf8View,
            Form::Bytes | Form::WideNumeric | Form::Stored => DataType::BinaryView,
            Form::Date => DataType::Date32,
            Form::Time => DataType::Time64(TimeUnit::Microsecond),
            Form::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Form::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Form::Interval | Form::Uuid => DataType::FixedSizeBinary(16),
            Form::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        }
    }
}

/// The Arrow type that columns of `ty` have.
pub fn data_type(ty: Type) -> DataType {
    Form::of(ty).data_type()
}

enum Builder {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Fixed(FixedSizeBinaryBuilder),
    Decimal(Decimal128Builder),
}

macro_rules! each_builder {
    ($self:expr, $builder:ident => $body:expr) => {
        match $self {
            Builder::Bool($builder) => $body,
            Builder::Int16($builder) => $body,
            Builder::Int32($builder) => $body,
            Builder::Int64($builder) => $body,
            Builder::UInt32($builder) => $body,
            Builder::UInt64($builder) => $body,
            Builder::Float32($builder) => $body,
            Builder::Float64($builder) => $body,
            Builder::Text($builder) => $body,
            Builder::Bytes($builder) => $body,
            Builder::Date($builder) => $body,
            Builder::Time($builder) => $body,
            Builder::Timestamp($builder) => $body,
            Builder::Fixed($builder) => $body,
            Builder::Decimal($builder) => $body,
        }
    };
}

/// Builds one column value by value.
pub struct ColumnBuilder {
    ty: Type,
    form: Form,
    builder: Builder,
    scratch: Vec<u8>,
}

impl ColumnBuilder {
    pub fn new(ty: Type, capacity: usize) -> ColumnBuilder {
        let form = Form::of(ty);
        let builder = match form {
            Form::Bool => Builder::Bool(BooleanBuilder::with_capacity(capacity)),
            Form::Int16 => Builder::Int16(Int16Builder::with_capacity(capacity)),
            Form::Int32 => Builder::Int32(Int32Builder::with_capacity(capacity)),
            Form::Int64 => Builder::Int64(Int64Builder::with_capacity(capacity)),
            Form::UInt32 => Builder::UInt32(UInt32Builder::with_capacity(capacity)),
            Form::UInt64 => Builder::UInt64(UInt64Builder::with_capacity(capacity)),
            Form::Float32 => Builder::Float32(Float32Builder::with_capacity(capacity)),
            Form::Float64 => Builder::Float64(Float64Builder::with_capacity(capacity)),
            Form::Text => Builder::Text(StringViewBuilder::with_capacity(capacity)),
            Form::Bytes | Form::WideNumeric | Form::Stored => {
                Builder::Bytes(BinaryViewBuilder::with_capacity(capacity))
            }
            Form::Date => Builder::Date(Date32Builder::with_capacity(capacity)),
            Form::Time => Builder::Time(Time64MicrosecondBuilder::with_capacity(capacity)),
            Form::Timestamp | Form::TimestampTz => Builder::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(capacity).with_data_type(form.data_type()),
            ),
            Form::Interval | Form::Uuid => {
                Builder::Fixed(FixedSizeBinaryBuilder::with_capacity(capacity, 16))
            }
            Form::Decimal { .. } => {
                Builder::Decimal(Decimal128Builder::with_capacity(capacity).with_data_type(form.data_type()))
            }
        };
        ColumnBuilder { ty, form, builder, scratch: Vec::new() }
    }

    /// XX000 when the value is not of the column's type; 22003 when a numeric does not fit its Decimal128.
    #[inline]
    pub fn append(&mut self, value: &Datum) -> Result<()> {
        match (&mut self.builder, value) {
            (_, Datum::Null) => self.append_null(),
            (Builder::Int32(builder), Datum::Int4(value)) => builder.append_value(*value),
            (Builder::Int64(builder), Datum::Int8(value)) => builder.append_value(*value),
            (Builder::Text(builder), Datum::Text(value)) => builder.append_value(value),
            (Builder::Bool(builder), Datum::Bool(value)) => builder.append_value(*value),
            (Builder::Int16(builder), Datum::Int2(value)) => builder.append_value(*value),
            (Builder::UInt32(builder), Datum::Oid(value)) => builder.append_value(*value),
            (Builder::UInt64(builder), Datum::Int8(value)) => builder.append_value(*value as u64),
            (Builder::Float32(builder), Datum::Float4(value)) => builder.append_value(*value),
            (Builder::Float64(builder), Datum::Float8(value)) => builder.append_value(*value),
            (Builder::Date(builder), Datum::Date(value)) => builder.append_value(*value),
            (Builder::Time(builder), Datum::Time(value)) => builder.append_value(*value),
            (Builder::Timestamp(builder), Datum::Timestamp(value) | Datum::TimestampTz(value)) => {
                builder.append_value(*value);
            }
            (Builder::Decimal(builder), Datum::Numeric(value)) => {
                builder.append_value(decimal(value, self.ty, self.form)?);
            }
            (Builder::Fixed(builder), Datum::Uuid(bytes)) => append_fixed(builder, &bytes[..])?,
            (Builder::Fixed(builder), Datum::Interval(value)) => {
                append_fixed(builder, &interval_bytes(*value))?;
            }
            (Builder::Bytes(builder), value) => {
                self.scratch.clear();
                match (self.form, value) {
                    (Form::Bytes, Datum::Bytea(bytes)) => {
                        builder.append_value(bytes);
                        return Ok(());
                    }
                    (Form::WideNumeric, Datum::Numeric(value)) => wide(value, &mut self.scratch),
                    (Form::Stored, value) => binary::store(value, &mut self.scratch),
                    _ => return Err(mismatch(self.ty, value)),
                }
                builder.append_value(&self.scratch);
            }
            (_, value) => return Err(mismatch(self.ty, value)),
        }
        Ok(())
    }

    /// Appends a text without making a [`Datum`] of it; false (and nothing appended) when the column holds no text.
    #[inline]
    pub fn append_text(&mut self, text: &str) -> bool {
        match &mut self.builder {
            Builder::Text(builder) => {
                builder.append_value(text);
                true
            }
            _ => false,
        }
    }

    pub fn append_null(&mut self) {
        each_builder!(&mut self.builder, builder => builder.append_null());
    }

    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        each_builder!(&self.builder, builder => ArrayBuilder::len(builder))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        each_builder!(&mut self.builder, builder => Arc::new(builder.finish()))
    }
}

#[cold]
fn mismatch(ty: Type, value: &Datum) -> Error {
    Error::internal(format!(
        "value {value:?} does not belong in a column of type {}",
        types::format_type(ty.oid, -1)
    ))
}

fn append_fixed(builder: &mut FixedSizeBinaryBuilder, bytes: &[u8]) -> Result<()> {
    builder.append_value(bytes).map_err(|error| Error::internal(error.to_string()))
}

fn interval_bytes(value: Interval) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&value.micros.to_le_bytes());
    bytes[8..12].copy_from_slice(&value.days.to_le_bytes());
    bytes[12..].copy_from_slice(&value.months.to_le_bytes());
    bytes
}

/// The 16 bytes of an interval column's cell.
pub fn interval_of_bytes(bytes: &[u8]) -> Result<Interval> {
    let damaged = || Error::internal("interval column with cells of a wrong width");
    let (micros, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let (days, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let months = rest.first_chunk().ok_or_else(damaged)?;
    Ok(Interval {
        micros: i64::from_le_bytes(*micros),
        days: i32::from_le_bytes(*days),
        months: i32::from_le_bytes(*months),
    })
}

fn decimal(value: &Numeric, ty: Type, form: Form) -> Result<i128> {
    if value.is_nan() {
        return Ok(DECIMAL_NAN);
    }
    let scale = match form {
        Form::Decimal { scale, .. } => scale as u16,
        _ => 0,
    };
    if let Some((coefficient, own)) = value.small()
        && own == scale
        && let Form::Decimal { precision, .. } = form
        && coefficient.unsigned_abs() < 10u128.pow(u32::from(precision))
    {
        return Ok(coefficient);
    }
    value
        .apply_typmod(ty.typmod)?
        .to_i128(scale)
        .ok_or_else(|| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow"))
}

/// Appends the wide form: sort key, then the display scale.
pub fn wide(value: &Numeric, out: &mut Vec<u8>) {
    key::encode_numeric(value, out);
    out.extend_from_slice(&value.scale().to_be_bytes());
}

/// Reads the wide form back.
pub fn numeric_of_wide(bytes: &[u8]) -> Result<Numeric> {
    let (key, scale) = bytes
        .split_last_chunk::<2>()
        .ok_or_else(|| Error::internal("numeric column with a cell that is too short"))?;
    Ok(key::decode_numeric(key, u16::from_be_bytes(*scale))?.0)
}

/// The number in a Decimal128 cell.
pub fn numeric_of_decimal(value: i128, scale: i8) -> Numeric {
    if value == DECIMAL_NAN {
        return Numeric::NAN;
    }
    if scale >= 0 {
        return Numeric::from_i128(value, scale as u16);
    }
    let factor = Numeric::from_i128(10i128.pow(u32::from(scale.unsigned_abs()).min(38)), 0);
    Numeric::from_i128(value, 0).mul(&factor).unwrap_or(Numeric::NAN)
}

enum Column<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt32(&'a UInt32Array),
    UInt64(&'a UInt64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringViewArray),
    Bytes(&'a BinaryViewArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Fixed(&'a FixedSizeBinaryArray),
    /// With the scale the array has, which may differ from the type's.
    Decimal(&'a Decimal128Array, i8),
    /// A column of NULLs whatever the type.
    Null,
}

/// Reads rows of one column; the downcast happens once.
pub struct ColumnReader<'a> {
    array: &'a dyn Array,
    column: Column<'a>,
    ty: Type,
    form: Form,
}

impl<'a> ColumnReader<'a> {
    /// XX000 when the array has not the form of `ty`. Decimal128 columns of any precision are read for every numeric,
    /// and NULL columns for every type.
    pub fn new(array: &'a dyn Array, ty: Type) -> Result<ColumnReader<'a>> {
        let mut form = Form::of(ty);
        let any = array.as_any();
        let column = match (form, array.data_type()) {
            (_, DataType::Null) => Some(Column::Null),
            (Form::Decimal { .. } | Form::WideNumeric, DataType::Decimal128(precision, scale)) => {
                form = Form::Decimal { precision: *precision, scale: *scale };
                any.downcast_ref().map(|array| Column::Decimal(array, *scale))
            }
            (Form::Decimal { .. } | Form::WideNumeric, DataType::BinaryView) => {
                form = Form::WideNumeric;
                any.downcast_ref().map(Column::Bytes)
            }
            (Form::Bool, _) => any.downcast_ref().map(Column::Bool),
            (Form::Int16, _) => any.downcast_ref().map(Column::Int16),
            (Form::Int32, _) => any.downcast_ref().map(Column::Int32),
            (Form::Int64, _) => any.downcast_ref().map(Column::Int64),
            (Form::UInt32, _) => any.downcast_ref().map(Column::UInt32),
            (Form::UInt64, _) => any.downcast_ref().map(Column::UInt64),
            (Form::Float32, _) => any.downcast_ref().map(Column::Float32),
            (Form::Float64, _) => any.downcast_ref().map(Column::Float64),
            (Form::Text, _) => any.downcast_ref().map(Column::Text),
            (Form::Bytes | Form::Stored, _) => any.downcast_ref().map(Column::Bytes),
            (Form::Date, _) => any.downcast_ref().map(Column::Date),
            (Form::Time, _) => any.downcast_ref().map(Column::Time),
            (Form::Timestamp | Form::TimestampTz, _) => any.downcast_ref().map(Column::Timestamp),
            (Form::Interval | Form::Uuid, _) => any.downcast_ref().map(Column::Fixed),
            _ => None,
        };
        let column = column.ok_or_else(|| {
            Error::internal(format!(
                "a column of type {} arrived as Arrow {}",
                types::format_type(ty.oid, ty.typmod),
                array.data_type()
            ))
        })?;
        Ok(ColumnReader { array, column, ty, form })
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.column, Column::Null) || self.array.is_null(row)
    }

    /// The value of a row (which must be in range); XX000 for damaged cells.
    #[inline]
    pub fn get(&self, row: usize) -> Result<Datum> {
        if self.is_null(row) {
            return Ok(Datum::Null);
        }
        Ok(match &self.column {
            Column::Null => Datum::Null,
            Column::Bool(array) => Datum::Bool(array.value(row)),
            Column::Int16(array) => Datum::Int2(array.value(row)),
            Column::Int32(array) => Datum::Int4(array.value(row)),
            Column::Int64(array) => Datum::Int8(array.value(row)),
            Column::UInt32(array) => Datum::Oid(array.value(row)),
            Column::UInt64(array) => Datum::Int8(array.value(row) as i64),
            Column::Float32(array) => Datum::Float4(array.value(row)),
            Column::Float64(array) => Datum::Float8(array.value(row)),
            Column::Text(array) => Datum::text(array.value(row)),
            Column::Date(array) => Datum::Date(array.value(row)),
            Column::Time(array) => Datum::Time(array.value(row)),
            Column::Timestamp(array) if self.form == Form::TimestampTz => {
                Datum::TimestampTz(array.value(row))
            }
            Column::Timestamp(array) => Datum::Timestamp(array.value(row)),
            Column::Decimal(array, scale) => {
                Datum::Numeric(Arc::new(numeric_of_decimal(array.value(row), *scale)))
            }
            Column::Fixed(array) if self.form == Form::Interval => {
                Datum::Interval(interval_of_bytes(array.value(row))?)
            }
            Column::Fixed(array) => {
                let bytes: [u8; 16] = array
                    .value(row)
                    .try_into()
                    .map_err(|_| Error::internal("uuid column with cells of a wrong width"))?;
                Datum::Uuid(Arc::new(bytes))
            }
            Column::Bytes(array) => {
                let bytes = array.value(row);
                match self.form {
                    Form::Bytes => Datum::Bytea(Arc::from(bytes)),
                    Form::WideNumeric => Datum::Numeric(Arc::new(numeric_of_wide(bytes)?)),
                    _ => binary::load(self.ty.oid, bytes)?.0,
                }
            }
        })
    }
}

/// One value of a column; for more than one use a [`ColumnReader`].
pub fn datum_at(array: &dyn Array, ty: Type, row: usize) -> Result<Datum> {
    ColumnReader::new(array, ty)?.get(row)
}

/// Whether stock kernels may compare, hash, group and sort columns of the type as they are.
pub fn is_plain(ty: Type) -> bool {
    !matches!(Form::of(ty), Form::Float32 | Form::Float64 | Form::WideNumeric | Form::Interval | Form::Stored)
        && ty.oid != oid::BPCHAR
}

/// The column that stock kernels group, join and sort by in place of `array`: itself where that is right
/// ([`is_plain`]), floats with one zero and one NaN, otherwise the key form (ascending) as BinaryView. NULLs stay NULL.
pub fn group_key(array: &ArrayRef, ty: Type) -> Result<ArrayRef> {
    if is_plain(ty) {
        return Ok(array.clone());
    }
    let any = array.as_any();
    if let Some(floats) = any.downcast_ref::<Float64Array>() {
        let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
        return Ok(Arc::new(floats.unary::<_, arrow::datatypes::Float64Type>(one)));
    }
    if let Some(floats) = any.downcast_ref::<Float32Array>() {
        let one = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
        return Ok(Arc::new(floats.unary::<_, arrow::datatypes::Float32Type>(one)));
    }
    let reader = ColumnReader::new(array.as_ref(), ty)?;
    let mut builder = BinaryViewBuilder::with_capacity(array.len());
    let mut scratch = Vec::new();
    for row in 0..array.len() {
        if reader.is_null(row) {
            builder.append_null();
            continue;
        }
        // The wide form begins with the key: no need to decode it.
        if let (Form::WideNumeric, Column::Bytes(cells)) = (reader.form, &reader.column) {
            let cell = cells.value(row);
            builder.append_value(&cell[..cell.len().saturating_sub(2)]);
            continue;
        }
        scratch.clear();
        key::encode_value(&reader.get(row)?, ty.oid, &mut scratch);
        builder.append_value(&scratch);
    }
    Ok(Arc::new(builder.finish()))
}
