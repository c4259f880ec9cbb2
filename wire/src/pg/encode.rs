//! Answers to bytes, straight into the write buffer. Rows are the hot part: how a column is written is decided
//! once for a chunk ([`Cells`]) and not for each value, integers and text never pass through a temporary, and a
//! chunk is written in pieces of the size that leaves at once, so that rows of any width need little memory.

use arrow::array::{
    Array, BooleanArray, Decimal128Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::datatypes::DataType;
use session::{Column, CopyShape, Format, Rows, TransactionStatus};
use value::arrow_form::ColumnReader;
use value::text::Style;
use value::types::oid;
use value::{Datum, Error, Oid, Result, SqlState, Type};

use super::stream::Output;

/// Appends a message: its type, its length and what `body` writes.
#[inline]
pub fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn c_string(out: &mut Vec<u8>, text: &str) {
    // Names cannot hold a NUL; should one come all the same, it must not shift the fields behind it.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// Messages without a body: ParseComplete `1`, BindComplete `2`, CloseComplete `3`, NoData `n`,
/// PortalSuspended `s`, EmptyQueryResponse `I`, CopyDone `c`.
pub fn bare(out: &mut Vec<u8>, kind: u8) {
    out.extend_from_slice(&[kind, 0, 0, 0, 4]);
}

/// A message of pgwire, for the rare ones of the start of a session. XX000 if it is too long for the protocol.
pub fn rare(out: &mut Vec<u8>, message: &impl pgwire::messages::Message) -> Result<()> {
    let mut bytes = bytes::BytesMut::new();
    message.encode(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
    out.extend_from_slice(&bytes);
    Ok(())
}

pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InTransaction => b'T',
        TransactionStatus::Failed => b'E',
    };
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| c_string(out, tag));
}

pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        c_string(out, name);
        c_string(out, value);
    });
}

pub fn row_description(out: &mut Vec<u8>, columns: &[Column]) {
    message(out, b'T', |out| {
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for column in columns {
            c_string(out, &column.name);
            out.extend_from_slice(&column.table.to_be_bytes());
            out.extend_from_slice(&column.attribute.to_be_bytes());
            out.extend_from_slice(&column.type_oid.to_be_bytes());
            out.extend_from_slice(&column.type_size.to_be_bytes());
            out.extend_from_slice(&column.typmod.to_be_bytes());
            out.extend_from_slice(&(column.format as u16).to_be_bytes());
        }
    });
}

pub fn parameter_description(out: &mut Vec<u8>, types: &[Oid]) {
    message(out, b't', |out| {
        out.extend_from_slice(&(types.len() as u16).to_be_bytes());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// CopyInResponse (`G`) or CopyOutResponse (`H`).
pub fn copy_response(out: &mut Vec<u8>, kind: u8, shape: CopyShape) {
    message(out, kind, |out| {
        out.push(shape.format as u8);
        out.extend_from_slice(&(shape.columns as u16).to_be_bytes());
        for _ in 0..shape.columns {
            out.extend_from_slice(&(shape.format as u16).to_be_bytes());
        }
    });
}

/// How a column's values are written, by its type and format; anything not listed takes the general way.
#[derive(Clone, Copy)]
enum Way {
    /// int2, int4, int8 and oid in decimal.
    IntegerText,
    /// The same, big-endian in the width of the type.
    IntegerBinary,
    /// Types whose text and binary form are their bytes.
    Bytes,
    BoolText,
    GeneralText,
    GeneralBinary,
}

fn way(column: &Column) -> Way {
    match (column.type_oid, column.format) {
        (oid::INT2 | oid::INT4 | oid::INT8 | oid::OID, Format::Text) => Way::IntegerText,
        (oid::INT2 | oid::INT4 | oid::INT8 | oid::OID, Format::Binary) => Way::IntegerBinary,
        (oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON | oid::UNKNOWN, _) => Way::Bytes,
        (oid::BOOL, Format::Text) => Way::BoolText,
        (_, Format::Text) => Way::GeneralText,
        (_, Format::Binary) => Way::GeneralBinary,
    }
}

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

#[inline]
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[inline]
fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    sized(out, itoa::Buffer::new().format(value).as_bytes());
}

/// A value that writes itself, its length filled in afterwards.
#[inline]
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[inline]
fn cell(out: &mut Vec<u8>, way: Way, value: &Datum, oid: Oid, style: &Style) {
    match (way, value) {
        (_, Datum::Null) => out.extend_from_slice(&NULL),
        (Way::IntegerText, Datum::Int4(value)) => integer(out, *value),
        (Way::IntegerText, Datum::Int8(value)) => integer(out, *value),
        (Way::IntegerText, Datum::Int2(value)) => integer(out, *value),
        (Way::IntegerText, Datum::Oid(value)) => integer(out, *value),
        (Way::IntegerBinary, Datum::Int4(value)) => sized(out, &value.to_be_bytes()),
        (Way::IntegerBinary, Datum::Int8(value)) => sized(out, &value.to_be_bytes()),
        (Way::IntegerBinary, Datum::Int2(value)) => sized(out, &value.to_be_bytes()),
        (Way::IntegerBinary, Datum::Oid(value)) => sized(out, &value.to_be_bytes()),
        (Way::Bytes, Datum::Text(text)) => sized(out, text.as_bytes()),
        (Way::BoolText, Datum::Bool(value)) => sized(out, if *value { b"t" } else { b"f" }),
        (Way::IntegerBinary | Way::GeneralBinary, value) => {
            measured(out, |out| value::binary::send(value, oid, out))
        }
        (_, value) => measured(out, |out| value::text::output(value, oid, style, out)),
    }
}

/// Starts a DataRow; gives the place of its length.
#[inline]
fn start_row(out: &mut Vec<u8>, columns: usize) -> usize {
    out.push(b'D');
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(columns as u16).to_be_bytes());
    start
}

/// Ends it. 54000 for a row that the protocol has no length for.
#[inline]
fn end_row(output: &mut Output, start: usize) -> Result<()> {
    let length = output.bytes.len() - start;
    if length > 0x3fff_ffff {
        output.bytes.truncate(start - 1);
        return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a row of the result is longer than 1 GB"));
    }
    output.bytes[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    output.end_message();
    Ok(())
}

fn shape_error(found: usize, described: usize) -> Error {
    Error::internal(format!("a result chunk has {found} columns where {described} were described"))
}

/// Writes DataRows for `rows` from row `from` until all are written or `limit` bytes wait; gives the next row.
pub fn rows(
    output: &mut Output,
    columns: &[Column],
    style: &Style,
    rows: &Rows,
    from: usize,
    limit: usize,
) -> Result<usize> {
    if rows.columns != columns.len() || rows.values.len() < rows.columns * rows.count {
        return Err(shape_error(rows.columns, columns.len()));
    }
    if columns.is_empty() {
        return without_columns(output, from, rows.count, limit);
    }
    let ways: Vec<Way> = columns.iter().map(way).collect();
    let mut next = from;
    for values in rows.values.chunks_exact(rows.columns).take(rows.count).skip(from) {
        let out = &mut output.bytes;
        let start = start_row(out, columns.len());
        for ((value, way), column) in values.iter().zip(&ways).zip(columns) {
            cell(out, *way, value, column.type_oid, style);
        }
        end_row(output, start)?;
        next += 1;
        if output.waiting() >= limit {
            break;
        }
    }
    Ok(next)
}

fn without_columns(output: &mut Output, from: usize, count: usize, limit: usize) -> Result<usize> {
    let mut next = from;
    while next < count && output.waiting() < limit {
        let start = start_row(&mut output.bytes, 0);
        end_row(output, start)?;
        next += 1;
    }
    Ok(next)
}

/// The values of one column of a batch, downcast once.
enum Values<'a> {
    Int2(&'a Int16Array),
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Text(&'a StringArray),
    TextView(&'a StringViewArray),
    Bool(&'a BooleanArray),
    /// Text form of bounded numerics. The reader is for what no 38 digits say (NaN).
    Decimal(&'a Decimal128Array, u32, ColumnReader<'a>),
    General(ColumnReader<'a>),
}

struct Cells<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
    has_nulls: bool,
    way: Way,
    oid: Oid,
}

impl<'a> Cells<'a> {
    fn new(column: &Column, array: &'a dyn Array) -> Result<Cells<'a>> {
        let any = array.as_any();
        let way = way(column);
        let reader = || ColumnReader::new(array, Type::with_typmod(column.type_oid, column.typmod));
        let typed = match (way, array.data_type()) {
            (Way::IntegerText | Way::IntegerBinary, DataType::Int16) => any.downcast_ref().map(Values::Int2),
            (Way::IntegerText | Way::IntegerBinary, DataType::Int32) if column.type_oid == oid::INT4 => {
                any.downcast_ref().map(Values::Int4)
            }
            (Way::IntegerText | Way::IntegerBinary, DataType::Int64) if column.type_oid == oid::INT8 => {
                any.downcast_ref().map(Values::Int8)
            }
            (Way::Bytes, DataType::Utf8) => any.downcast_ref().map(Values::Text),
            (Way::Bytes, DataType::Utf8View) => any.downcast_ref().map(Values::TextView),
            (Way::BoolText, DataType::Boolean) => any.downcast_ref().map(Values::Bool),
            (Way::GeneralText, DataType::Decimal128(_, scale)) if column.type_oid == oid::NUMERIC => {
                match (any.downcast_ref(), u32::try_from(*scale)) {
                    (Some(decimals), Ok(scale)) => Some(Values::Decimal(decimals, scale, reader()?)),
                    _ => None,
                }
            }
            _ => None,
        };
        let values = match typed {
            Some(values) => values,
            None => Values::General(reader()?),
        };
        Ok(Cells { array, values, has_nulls: array.null_count() > 0, way, oid: column.type_oid })
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>, row: usize, style: &Style) -> Result<()> {
        if self.has_nulls && self.array.is_null(row) {
            out.extend_from_slice(&NULL);
            return Ok(());
        }
        let binary = matches!(self.way, Way::IntegerBinary);
        match &self.values {
            Values::Int4(array) if binary => sized(out, &array.value(row).to_be_bytes()),
            Values::Int4(array) => integer(out, array.value(row)),
            Values::Int8(array) if binary => sized(out, &array.value(row).to_be_bytes()),
            Values::Int8(array) => integer(out, array.value(row)),
            Values::Int2(array) if binary => sized(out, &array.value(row).to_be_bytes()),
            Values::Int2(array) => integer(out, array.value(row)),
            Values::Text(array) => sized(out, array.value(row).as_bytes()),
            Values::TextView(array) => sized(out, array.value(row).as_bytes()),
            Values::Bool(array) => sized(out, if array.value(row) { b"t" } else { b"f" }),
            Values::Decimal(array, scale, reader) => match array.value(row) {
                value if value.unsigned_abs() < DECIMAL_END => {
                    measured(out, |out| decimal(out, value, *scale))
                }
                _ => cell(out, self.way, &reader.get(row)?, self.oid, style),
            },
            Values::General(reader) => cell(out, self.way, &reader.get(row)?, self.oid, style),
        }
        Ok(())
    }
}

/// Coefficients of 38 digits and less are numbers.
const DECIMAL_END: u128 = 10_u128.pow(38);

/// `coefficient * 10^-scale` in digits, as numeric prints it.
fn decimal(out: &mut Vec<u8>, coefficient: i128, scale: u32) {
    if coefficient < 0 {
        out.push(b'-');
    }
    let magnitude = coefficient.unsigned_abs();
    let mut digits = itoa::Buffer::new();
    // Most coefficients fit 64 bits, where division is a tenth of the price.
    let digits = match u64::try_from(magnitude) {
        Ok(small) => digits.format(small),
        Err(_) => digits.format(magnitude),
    }
    .as_bytes();
    let scale = scale as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        if scale > 0 {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

/// As [`rows`], for columns.
pub fn batch(
    output: &mut Output,
    columns: &[Column],
    style: &Style,
    batch: &RecordBatch,
    from: usize,
    limit: usize,
) -> Result<usize> {
    if batch.num_columns() != columns.len() {
        return Err(shape_error(batch.num_columns(), columns.len()));
    }
    let cells: Vec<Cells<'_>> = columns
        .iter()
        .zip(batch.columns())
        .map(|(column, array)| Cells::new(column, array.as_ref()))
        .collect::<Result<_>>()?;
    let mut next = from;
    while next < batch.num_rows() {
        let start = start_row(&mut output.bytes, columns.len());
        for column in &cells {
            column.write(&mut output.bytes, next, style)?;
        }
        end_row(output, start)?;
        next += 1;
        if output.waiting() >= limit {
            break;
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    fn column(type_oid: Oid, format: Format) -> Column {
        Column { name: "c".to_string(), table: 0, attribute: 0, type_oid, type_size: -1, typmod: -1, format }
    }

    #[test]
    fn decimals_as_numeric_prints_them() {
        for (coefficient, scale, expected) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (-100, 2, "-1.00"),
            (7, 0, "7"),
            (
                -99_999_999_999_999_999_999_999_999_999_999_999_999,
                38,
                "-0.99999999999999999999999999999999999999",
            ),
            (10_000_000_000_000_000_000_000, 1, "1000000000000000000000.0"),
        ] {
            let mut out = Vec::new();
            decimal(&mut out, coefficient, scale);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn pieces_end_at_the_limit_and_bad_shapes_are_refused() {
        let style = Style::default();
        let columns = [column(oid::INT4, Format::Text), column(oid::TEXT, Format::Binary)];
        let values = (0..100).flat_map(|row| [Datum::Int4(row), Datum::text("x".repeat(50))]).collect();
        let chunk = Rows { columns: 2, count: 100, values };
        let whole = {
            let mut output = Output::default();
            assert_eq!(rows(&mut output, &columns, &style, &chunk, 0, usize::MAX).expect("rows"), 100);
            output.bytes
        };
        let mut output = Output::default();
        let mut next = 0;
        let mut pieces = 0;
        while next < 100 {
            let limit = output.waiting() + 1000;
            next = rows(&mut output, &columns, &style, &chunk, next, limit).expect("rows");
            pieces += 1;
        }
        assert_eq!(output.bytes, whole);
        assert!((6..=9).contains(&pieces), "{pieces}");
        let error = rows(&mut output, &columns[..1], &style, &chunk, 0, 1).expect_err("refused");
        assert_eq!(error.state(), SqlState::INTERNAL_ERROR);
    }

    /// Rows and columns of every type give the same bytes, in both formats; the text is the one that was read.
    #[test]
    fn columns_are_written_as_rows_are() {
        use value::arrow_form::ColumnBuilder;
        use value::types::numeric_typmod;

        let style = Style::default();
        for (type_oid, typmod, texts) in [
            (oid::BOOL, -1, &["t", "f"][..]),
            (oid::INT2, -1, &["-32768", "7"]),
            (oid::INT4, -1, &["-2147483648", "0"]),
            (oid::INT8, -1, &["9223372036854775807", "-1"]),
            (oid::OID, -1, &["4294967295"]),
            (oid::FLOAT4, -1, &["0.1", "NaN", "1e+20"]),
            (oid::FLOAT8, -1, &["-0", "Infinity", "1e-300"]),
            (oid::NUMERIC, numeric_typmod(12, 2), &["0.05", "-1234567890.12", "NaN", "0.00"]),
            (oid::NUMERIC, numeric_typmod(38, 0), &["99999999999999999999999999999999999999"]),
            (oid::NUMERIC, -1, &["1.00", "1.0", "-0.000001", "NaN", "Infinity"]),
            (oid::TEXT, -1, &["", "grüße"]),
            (oid::VARCHAR, -1, &["a, \"b\""]),
            (oid::BPCHAR, 9, &["ab   "]),
            (oid::NAME, -1, &["pg_class"]),
            (oid::BYTEA, -1, &["\\x00ff"]),
            (oid::DATE, -1, &["2026-11-22", "0044-03-15 BC", "infinity"]),
            (oid::TIME, -1, &["23:59:59.999999"]),
            (oid::TIMESTAMP, -1, &["2026-11-22 14:05:11.5", "-infinity"]),
            (oid::TIMESTAMPTZ, -1, &["2026-11-22 14:05:11+00"]),
            (oid::INTERVAL, -1, &["1 year 2 mons -3 days +04:05:06.7"]),
            (oid::UUID, -1, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            (oid::JSON, -1, &["{\"a\":  1}"]),
            (oid::JSONB, -1, &["{\"a\": [1, null]}"]),
            (oid::INT4_ARRAY, -1, &["{1,NULL,3}", "{}"]),
            (oid::TEXT_ARRAY, -1, &["{{a,\"b c\"},{\"\",\"NULL\"}}"]),
        ] {
            let ty = Type::with_typmod(type_oid, typmod);
            let mut values = vec![Datum::Null];
            values.extend(texts.iter().map(|text| value::text::input(ty, text, &style).expect(text)));
            let mut builder = ColumnBuilder::new(ty, values.len());
            for value in &values {
                builder.append(value).expect("a value of the type");
            }
            let array =
                RecordBatch::try_from_iter_with_nullable([("c", builder.finish(), true)]).expect("a batch");
            let chunk = Rows { columns: 1, count: values.len(), values };
            for format in [Format::Text, Format::Binary] {
                let columns = [Column { typmod, ..column(type_oid, format) }];
                let (mut by_rows, mut by_columns) = (Output::default(), Output::default());
                rows(&mut by_rows, &columns, &style, &chunk, 0, usize::MAX).expect("rows");
                batch(&mut by_columns, &columns, &style, &array, 0, usize::MAX).expect("columns");
                assert_eq!(by_rows.bytes, by_columns.bytes, "{type_oid} {texts:?} {format:?}");
                if format == Format::Text {
                    let mut expected = Vec::new();
                    message(&mut expected, b'D', |out| out.extend_from_slice(b"\0\x01\xff\xff\xff\xff"));
                    for text in texts {
                        message(&mut expected, b'D', |out| {
                            out.extend_from_slice(b"\0\x01");
                            sized(out, text.as_bytes());
                        });
                    }
                    let (found, expected) =
                        (String::from_utf8_lossy(&by_rows.bytes), String::from_utf8_lossy(&expected));
                    assert_eq!(found, expected, "{type_oid}");
                }
            }
        }
    }

    /// Not a test: prints how many rows of int + text a core writes in a second, from rows and from columns.
    #[test]
    #[ignore = "a measurement"]
    fn rate() {
        const ROWS: usize = 1000;
        let style = Style::default();
        let columns = [column(oid::INT4, Format::Text), column(oid::TEXT, Format::Text)];
        let texts: Vec<String> = (0..ROWS).map(|row| format!("customer {row:08}")).collect();
        let values = texts
            .iter()
            .zip(0..)
            .flat_map(|(text, row)| [Datum::Int4(row * 1000), Datum::text(text.as_str())]);
        let chunk = Rows { columns: 2, count: ROWS, values: values.collect() };
        let arrays: [(&str, arrow::array::ArrayRef); 2] = [
            ("i", Arc::new(Int32Array::from_iter_values((0..ROWS as i32).map(|row| row * 1000)))),
            ("t", Arc::new(StringArray::from_iter_values(&texts))),
        ];
        let arrays = RecordBatch::try_from_iter(arrays).expect("columns of one length");
        let measure = |name: &str, write: &dyn Fn(&mut Output)| {
            let mut output = Output::default();
            let start = Instant::now();
            const ROUNDS: usize = 2000;
            for _ in 0..ROUNDS {
                output.bytes.clear();
                write(&mut output);
            }
            let rate = (ROUNDS * ROWS) as f64 / start.elapsed().as_secs_f64();
            println!("{name}: {:.1} M rows/s", rate / 1e6);
        };
        measure("rows", &|output| {
            rows(output, &columns, &style, &chunk, 0, usize::MAX).expect("rows");
        });
        measure("columns", &|output| {
            batch(output, &columns, &style, &arrays, 0, usize::MAX).expect("rows");
        });
    }
}
