//! A row as bytes, so that one column is decoded without touching the others.
//!
//! ```text
//! row      = header u16: column count n (bits 0..11), bit 15 = wide
//!            null bitmap, ceil(n / 8) bytes, bit i of byte i/8 set = column i is NULL
//!            slots, one per column in column order:
//!              fixed-width type: its value, little endian (zero when NULL)
//!              any other type:   where its bytes end in the variable part: u16, or u32 when wide
//!            variable part: the values of variable columns, one after the other
//! ```
//! The place of slot i depends only on the types of the columns before it, and columns are only ever appended
//! to a table, so a [`RowLayout`] of the newest table reads every older row. A column the row does not have
//! takes its `missing` value.
//!
//! ```text
//! patch    = header u16: column count n of the new row
//!            changed bitmap, ceil(n / 8) bytes
//!            per changed column in order: tag varint (0 = NULL, else length + 1), bytes as in the row
//! ```
//! Columns that the old row does not have are always in the patch.

use value::types::Repr;
use value::{Datum, Error, Interval, Oid, Result, SqlState, Type};

use crate::catalog::Table;
pub use crate::ids::RowId;
use crate::sync::Arc;
use crate::wal::record::{put_varint, take_byte, take_varint};

#[cfg(test)]
mod tests;

const WIDE: u16 = 0x8000;
const COUNT: u16 = 0x07ff;

/// Most columns a table may have, as in PostgreSQL.
pub const MAX_COLUMNS: usize = 1600;
/// Most bytes that all values of a row together may have; a value alone may have as many in PostgreSQL.
pub const MAX_ROW: usize = 1 << 30;

/// Where the columns of a table stand in its rows.
#[derive(Debug)]
pub struct RowLayout {
    columns: Vec<Slot>,
    /// How many of them whoever reads knows.
    known: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    repr: Repr,
    ty: Oid,
    /// Bytes of a fixed-width value, 0 = variable.
    width: u8,
    /// Offset of the slot behind the null bitmap, in a narrow and in a wide row.
    narrow: u32,
    wide: u32,
    /// The variable column before this one, whose end is our start.
    previous: Option<u16>,
    missing: Datum,
}

impl Slot {
    fn offset(&self, wide: bool) -> usize {
        if wide { self.wide as usize } else { self.narrow as usize }
    }

    fn size(&self, wide: bool) -> usize {
        match (self.width, wide) {
            (0, false) => 2,
            (0, true) => 4,
            (width, _) => usize::from(width),
        }
    }
}

/// Bytes of a value in the fixed part; 0 = variable length.
fn fixed_width(repr: Repr) -> u8 {
    match repr {
        Repr::Bool => 1,
        Repr::Int2 => 2,
        Repr::Int4 | Repr::Oid | Repr::Float4 | Repr::Date => 4,
        Repr::Int8 | Repr::Float8 | Repr::Time | Repr::Timestamp | Repr::TimestampTz => 8,
        Repr::Interval | Repr::Uuid => 16,
        Repr::None | Repr::Numeric | Repr::Text | Repr::Bytea | Repr::Jsonb | Repr::Array | Repr::Record => 0,
    }
}

impl RowLayout {
    /// The layout of a table's rows, dropped and hidden columns included. Keep it as long as the table version
    /// lives: making one costs a parse per `missing` value. Fails when a `missing` text does not parse.
    pub fn of(table: &Table) -> Result<Arc<RowLayout>> {
        let style = value::text::Style::default();
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let missing = match &column.missing {
                Some(text) => value::text::input(column.ty(), text, &style)?,
                None => Datum::Null,
            };
            columns.push((column.ty(), missing));
        }
        Ok(Arc::new(RowLayout::new(columns)))
    }

    /// The layout of columns of these types, each with the value of rows that lack it.
    pub fn new(columns: impl IntoIterator<Item = (Type, Datum)>) -> RowLayout {
        let (mut narrow, mut wide, mut previous) = (0, 0, None);
        let mut slots = Vec::new();
        for (number, (ty, missing)) in columns.into_iter().enumerate() {
            let repr = value::types::repr(ty.oid);
            let width = fixed_width(repr);
            let slot = Slot { repr, ty: ty.oid, width, narrow, wide, previous, missing };
            narrow += slot.size(false) as u32;
            wide += slot.size(true) as u32;
            if width == 0 {
                previous = Some(number as u16);
            }
            slots.push(slot);
        }
        RowLayout { known: slots.len(), columns: slots }
    }

    /// The same for a statement that knows the first columns only: it does not see the others.
    pub(crate) fn known_to(self: &Arc<Self>, known: usize) -> Arc<RowLayout> {
        match known < self.columns.len() {
            true => Arc::new(RowLayout { columns: self.columns.clone(), known }),
            false => self.clone(),
        }
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    fn slots_size(&self, columns: usize, wide: bool) -> usize {
        match columns.checked_sub(1).and_then(|last| self.columns.get(last)) {
            Some(last) => last.offset(wide) + last.size(wide),
            None => 0,
        }
    }
}

/// Appends the row's bytes to `out`. `values` are the table's columns in order; trailing columns may be left
/// out, they then read as `missing`. A value of another kind than its column is XX000, a row of more than
/// [`MAX_ROW`] bytes 54000.
pub fn encode(layout: &RowLayout, values: &[Datum], out: &mut Vec<u8>) -> Result<()> {
    encode_within(MAX_ROW, layout, values, out)
}

fn encode_within(most: usize, layout: &RowLayout, values: &[Datum], out: &mut Vec<u8>) -> Result<()> {
    if values.len() > layout.len() || values.len() > MAX_COLUMNS {
        return Err(Error::internal(format!("{} values for {} columns", values.len(), layout.len())));
    }
    let start = out.len();
    // Most rows are narrow: written so at first, and again if the variable part turns out to be longer.
    if encode_as(usize::from(u16::MAX).min(most), layout, values, out, false)? {
        return Ok(());
    }
    out.truncate(start);
    // Gigabytes are counted before they are copied.
    let long = |value: &Datum| match value {
        Datum::Text(text) => text.len(),
        Datum::Bytea(bytes) => bytes.len(),
        _ => 0,
    };
    let size = values.iter().map(long).fold(0, usize::saturating_add);
    if size <= most && encode_as(most, layout, values, out, true)? {
        return Ok(());
    }
    out.truncate(start);
    Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "row is too big")
        .detail(format!("All values of a row together may have {most} bytes.")))
}

/// `false`: the variable part has more than `limit` bytes.
fn encode_as(
    limit: usize,
    layout: &RowLayout,
    values: &[Datum],
    out: &mut Vec<u8>,
    wide: bool,
) -> Result<bool> {
    let start = out.len();
    let count = values.len();
    let nulls = start + 2;
    let slots = nulls + count.div_ceil(8);
    let variable = slots + layout.slots_size(count, wide);
    out.extend_from_slice(&(count as u16 | if wide { WIDE } else { 0 }).to_le_bytes());
    out.resize(variable, 0);
    for (number, (slot, value)) in layout.columns.iter().zip(values).enumerate() {
        if value.is_null() {
            out[nulls + number / 8] |= 1 << (number % 8);
        }
        let place = slots + slot.offset(wide);
        if slot.width > 0 {
            if !value.is_null() {
                put_fixed(slot, value, &mut out[place..place + usize::from(slot.width)])?;
            }
            continue;
        }
        let left = limit - (out.len() - variable);
        match value {
            Datum::Null => {}
            Datum::Text(text) if slot.repr == Repr::Text => {
                if text.len() > left {
                    return Ok(false);
                }
                out.extend_from_slice(text.as_bytes());
            }
            Datum::Bytea(bytes) if slot.repr == Repr::Bytea => {
                if bytes.len() > left {
                    return Ok(false);
                }
                out.extend_from_slice(bytes);
            }
            Datum::Numeric(_) if slot.repr == Repr::Numeric => value::binary::store(value, out),
            Datum::Jsonb(_) if slot.repr == Repr::Jsonb => value::binary::store(value, out),
            Datum::Array(_) if slot.repr == Repr::Array => value::binary::store(value, out),
            Datum::Record(_) if slot.repr == Repr::Record => value::binary::store(value, out),
            _ => return Err(mismatch(slot, value)),
        }
        let end = out.len() - variable;
        if end > limit {
            return Ok(false);
        }
        if wide {
            out[place..place + 4].copy_from_slice(&(end as u32).to_le_bytes());
        } else {
            out[place..place + 2].copy_from_slice(&(end as u16).to_le_bytes());
        }
    }
    Ok(true)
}

fn mismatch(slot: &Slot, value: &Datum) -> Error {
    Error::internal(format!("value {value:?} in a column of type {}", value::types::format_type(slot.ty, -1)))
}

fn put_fixed(slot: &Slot, value: &Datum, out: &mut [u8]) -> Result<()> {
    match (slot.repr, value) {
        (Repr::Bool, Datum::Bool(v)) => out[0] = u8::from(*v),
        (Repr::Int2, Datum::Int2(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Int4, Datum::Int4(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Int8, Datum::Int8(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Oid, Datum::Oid(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Float4, Datum::Float4(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Float8, Datum::Float8(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Date, Datum::Date(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Time, Datum::Time(v))
        | (Repr::Timestamp, Datum::Timestamp(v))
        | (Repr::TimestampTz, Datum::TimestampTz(v)) => out.copy_from_slice(&v.to_le_bytes()),
        (Repr::Interval, Datum::Interval(v)) => {
            out[0..4].copy_from_slice(&v.months.to_le_bytes());
            out[4..8].copy_from_slice(&v.days.to_le_bytes());
            out[8..16].copy_from_slice(&v.micros.to_le_bytes());
        }
        (Repr::Uuid, Datum::Uuid(v)) => out.copy_from_slice(&v[..]),
        _ => return Err(mismatch(slot, value)),
    }
    Ok(())
}

/// `bytes` is exactly the slot's width.
fn get_fixed(slot: &Slot, bytes: &[u8]) -> Option<Datum> {
    Some(match slot.repr {
        Repr::Bool => Datum::Bool(*bytes.first()? != 0),
        Repr::Int2 => Datum::Int2(i16::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Int4 => Datum::Int4(i32::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Int8 => Datum::Int8(i64::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Oid => Datum::Oid(u32::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Float4 => Datum::Float4(f32::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Float8 => Datum::Float8(f64::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Date => Datum::Date(i32::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Time => Datum::Time(i64::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Timestamp => Datum::Timestamp(i64::from_le_bytes(bytes.try_into().ok()?)),
        Repr::TimestampTz => Datum::TimestampTz(i64::from_le_bytes(bytes.try_into().ok()?)),
        Repr::Interval => Datum::Interval(Interval {
            months: i32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?),
            days: i32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?),
            micros: i64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
        }),
        Repr::Uuid => Datum::Uuid(Arc::new(bytes.try_into().ok()?)),
        Repr::None | Repr::Numeric | Repr::Text | Repr::Bytea | Repr::Jsonb | Repr::Array | Repr::Record => {
            return None;
        }
    })
}

/// A row's bytes taken apart as far as the header.
#[derive(Clone, Copy)]
struct Parts<'a> {
    bytes: &'a [u8],
    count: usize,
    wide: bool,
    slots: usize,
    variable: usize,
}

impl<'a> Parts<'a> {
    /// `None` when the bytes are no row of this layout.
    #[inline]
    fn of(layout: &RowLayout, bytes: &'a [u8]) -> Option<Parts<'a>> {
        let header = u16::from_le_bytes(bytes.get(0..2)?.try_into().ok()?);
        let count = usize::from(header & COUNT);
        let wide = header & WIDE != 0;
        if count > layout.len() {
            return None;
        }
        let slots = 2 + count.div_ceil(8);
        let variable = slots + layout.slots_size(count, wide);
        (variable <= bytes.len()).then_some(Parts { bytes, count, wide, slots, variable })
    }

    #[inline]
    fn is_null(&self, column: usize) -> bool {
        self.bytes[2 + column / 8] & (1 << (column % 8)) != 0
    }

    fn end(&self, slot: &Slot) -> Option<usize> {
        let place = self.slots + slot.offset(self.wide);
        Some(if self.wide {
            u32::from_le_bytes(self.bytes.get(place..place + 4)?.try_into().ok()?) as usize
        } else {
            usize::from(u16::from_le_bytes(self.bytes.get(place..place + 2)?.try_into().ok()?))
        })
    }

    /// The bytes of a column that is not NULL; `column < count`.
    #[inline]
    fn raw(&self, layout: &RowLayout, column: usize) -> Option<&'a [u8]> {
        let slot = &layout.columns[column];
        if slot.width > 0 {
            let place = self.slots + slot.offset(self.wide);
            return self.bytes.get(place..place + usize::from(slot.width));
        }
        let start = match slot.previous {
            Some(previous) => self.end(&layout.columns[usize::from(previous)])?,
            None => 0,
        };
        self.bytes.get(self.variable + start..self.variable + self.end(slot)?)
    }

    fn get(&self, layout: &RowLayout, column: usize) -> Option<Datum> {
        let slot = &layout.columns[column];
        if column >= self.count {
            return Some(slot.missing.clone());
        }
        if self.is_null(column) {
            return Some(Datum::Null);
        }
        let raw = self.raw(layout, column)?;
        match slot.repr {
            Repr::Text => Some(Datum::Text(std::str::from_utf8(raw).ok()?.into())),
            Repr::Bytea => Some(Datum::Bytea(raw.into())),
            Repr::Numeric | Repr::Jsonb | Repr::Array | Repr::Record => {
                value::binary::load(slot.ty, raw).ok().map(|(value, _)| value)
            }
            _ => get_fixed(slot, raw),
        }
    }
}

fn damaged() -> Error {
    Error::new(SqlState::DATA_CORRUPTED, "row bytes do not fit the table's columns")
}

/// Decodes one column of a row's bytes; `XX001` when the bytes are no row of this layout.
pub fn decode_column(layout: &RowLayout, bytes: &[u8], column: usize) -> Result<Datum> {
    if column >= layout.len() {
        return Err(Error::internal(format!("column {column} of {}", layout.len())));
    }
    Parts::of(layout, bytes).and_then(|parts| parts.get(layout, column)).ok_or_else(damaged)
}

/// Decodes every column of the layout.
pub fn decode(layout: &RowLayout, bytes: &[u8]) -> Result<Vec<Datum>> {
    let parts = Parts::of(layout, bytes).ok_or_else(damaged)?;
    (0..layout.len()).map(|column| parts.get(layout, column).ok_or_else(damaged)).collect()
}

/// Appends to `out` what makes `new` out of `old`: the columns that differ. `new` must have at least as many
/// columns as `old`.
pub fn encode_patch(layout: &RowLayout, old: &[u8], new: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let old = Parts::of(layout, old).ok_or_else(damaged)?;
    let new = Parts::of(layout, new).ok_or_else(damaged)?;
    if new.count < old.count {
        return Err(Error::internal("an update cannot take columns away"));
    }
    out.extend_from_slice(&(new.count as u16).to_le_bytes());
    let bitmap = out.len();
    out.resize(bitmap + new.count.div_ceil(8), 0);
    for column in 0..new.count {
        let null = new.is_null(column);
        let raw = if null { &[][..] } else { new.raw(layout, column).ok_or_else(damaged)? };
        if column < old.count {
            let same = match (old.is_null(column), null) {
                (true, true) => true,
                (false, false) => old.raw(layout, column).ok_or_else(damaged)? == raw,
                _ => false,
            };
            if same {
                continue;
            }
        }
        out[bitmap + column / 8] |= 1 << (column % 8);
        put_varint(out, if null { 0 } else { raw.len() as u64 + 1 });
        out.extend_from_slice(raw);
    }
    Ok(())
}

/// Whether a column is stored the same way in two rows. Rows that know nothing of it do not differ in it.
pub(crate) fn same_column(layout: &RowLayout, old: &[u8], new: &[u8], column: usize) -> bool {
    let (Some(old), Some(new)) = (Parts::of(layout, old), Parts::of(layout, new)) else { return false };
    match (column < old.count, column < new.count) {
        (false, false) => true,
        (true, true) => match (old.is_null(column), new.is_null(column)) {
            (true, true) => true,
            (false, false) => old.raw(layout, column) == new.raw(layout, column),
            _ => false,
        },
        _ => false,
    }
}

/// The row that `patch` makes out of `old`; `XX001` when they do not fit.
pub fn apply_patch(layout: &RowLayout, old: &[u8], patch: &[u8]) -> Result<Vec<u8>> {
    patched(layout, old, patch).ok_or_else(damaged)
}

/// The changed bitmap of a patch and the values behind it.
fn open_patch(patch: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let count = usize::from(u16::from_le_bytes(patch.get(0..2)?.try_into().ok()?));
    let (changed, rest) = patch[2..].split_at_checked(count.div_ceil(8))?;
    Some((count, changed, rest))
}

/// The next value of a patch as it stands there, its length included.
fn take_patched<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *rest;
    let len = usize::try_from(take_varint(rest)?.saturating_sub(1)).ok()?;
    *rest = rest.get(len..)?;
    Some(&all[..all.len() - rest.len()])
}

/// Whether `newer` sets every column that `older` sets: then nothing is left of `older`.
pub fn replaces(newer: &[u8], older: &[u8]) -> bool {
    match (open_patch(newer), open_patch(older)) {
        (Some((count, changed, _)), Some((old_count, old_changed, _))) => {
            count >= old_count && old_changed.iter().zip(changed).all(|(old, new)| old & !new == 0)
        }
        _ => false,
    }
}

/// The patch that does what `older` and then `newer` do; `XX001` when one of them is none.
pub fn merge_patches(older: &[u8], newer: &[u8]) -> Result<Vec<u8>> {
    merged(older, newer).ok_or_else(damaged)
}

fn merged(older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
    let (old_count, old_changed, mut old_rest) = open_patch(older)?;
    let (count, changed, mut rest) = open_patch(newer)?;
    if count < old_count {
        return None;
    }
    let mut out = Vec::with_capacity(older.len() + newer.len());
    out.extend_from_slice(&(count as u16).to_le_bytes());
    let bitmap = out.len();
    out.extend_from_slice(changed);
    for column in 0..count {
        let bit = 1 << (column % 8);
        let old = if column < old_count && old_changed[column / 8] & bit != 0 {
            Some(take_patched(&mut old_rest)?)
        } else {
            None
        };
        if changed[column / 8] & bit != 0 {
            out.extend_from_slice(take_patched(&mut rest)?);
        } else if let Some(old) = old {
            out[bitmap + column / 8] |= bit;
            out.extend_from_slice(old);
        }
    }
    Some(out)
}

fn patched(layout: &RowLayout, old: &[u8], patch: &[u8]) -> Option<Vec<u8>> {
    let old = Parts::of(layout, old)?;
    let count = usize::from(u16::from_le_bytes(patch.get(0..2)?.try_into().ok()?));
    if count > layout.len() || count < old.count {
        return None;
    }
    let (changed, mut rest) = patch[2..].split_at_checked(count.div_ceil(8))?;
    let mut values: Vec<Option<&[u8]>> = Vec::with_capacity(count);
    let mut variable = 0;
    for column in 0..count {
        let value = if changed[column / 8] & (1 << (column % 8)) != 0 {
            match take_varint(&mut rest)? {
                0 => None,
                tag => {
                    let (raw, tail) = rest.split_at_checked(usize::try_from(tag - 1).ok()?)?;
                    rest = tail;
                    Some(raw)
                }
            }
        } else if column >= old.count {
            return None;
        } else if old.is_null(column) {
            None
        } else {
            Some(old.raw(layout, column)?)
        };
        let width = usize::from(layout.columns[column].width);
        if let Some(raw) = value {
            if width == 0 {
                variable += raw.len();
            } else if raw.len() != width {
                return None;
            }
        }
        values.push(value);
    }
    let wide = variable > usize::from(u16::MAX);
    let slots = 2 + count.div_ceil(8);
    let start = slots + layout.slots_size(count, wide);
    let mut out = Vec::with_capacity(start + variable);
    out.extend_from_slice(&(count as u16 | if wide { WIDE } else { 0 }).to_le_bytes());
    out.resize(start, 0);
    for (column, value) in values.iter().enumerate() {
        let slot = &layout.columns[column];
        let place = slots + slot.offset(wide);
        match value {
            None => out[2 + column / 8] |= 1 << (column % 8),
            Some(raw) if slot.width > 0 => out[place..place + raw.len()].copy_from_slice(raw),
            Some(raw) => out.extend_from_slice(raw),
        }
        if slot.width == 0 {
            let end = out.len() - start;
            if wide {
                out[place..place + 4].copy_from_slice(&(end as u32).to_le_bytes());
            } else {
                out[place..place + 2].copy_from_slice(&(end as u16).to_le_bytes());
            }
        }
    }
    Some(out)
}

/// Bytes of one row inside a buffer that it shares with its block.
#[derive(Clone, Debug)]
pub struct RowBytes {
    buffer: Arc<[u8]>,
    start: u32,
    end: u32,
}

impl RowBytes {
    /// A buffer that is one row.
    pub fn new(buffer: Arc<[u8]>) -> RowBytes {
        let end = buffer.len() as u32;
        RowBytes { buffer, start: 0, end }
    }

    /// Part of a buffer; the range lies inside it.
    pub fn slice(buffer: Arc<[u8]>, range: std::ops::Range<usize>) -> RowBytes {
        debug_assert!(range.start <= range.end && range.end <= buffer.len());
        RowBytes { buffer, start: range.start as u32, end: range.end as u32 }
    }

    /// The same row in a buffer of its own: for those who keep it longer than the block it came in.
    pub fn alone(&self) -> RowBytes {
        if self.len() == self.buffer.len() { self.clone() } else { RowBytes::from(self.bytes()) }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }

    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Puts other bytes in place of these, in the same memory where they fit and nobody else looks at it.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        match Arc::get_mut(&mut self.buffer) {
            Some(own) if own.len() == bytes.len() => {
                own.copy_from_slice(bytes);
                (self.start, self.end) = (0, bytes.len() as u32);
            }
            _ => *self = RowBytes::from(bytes),
        }
    }
}

impl std::ops::Deref for RowBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<&[u8]> for RowBytes {
    fn from(bytes: &[u8]) -> RowBytes {
        RowBytes::new(bytes.into())
    }
}

impl From<Vec<u8>> for RowBytes {
    fn from(bytes: Vec<u8>) -> RowBytes {
        RowBytes::new(bytes.into())
    }
}

/// A row that decodes itself column by column. Cloning bumps two counters.
#[derive(Clone, Debug)]
pub struct Row {
    bytes: RowBytes,
    layout: Arc<RowLayout>,
}

impl Row {
    pub fn new(bytes: RowBytes, layout: Arc<RowLayout>) -> Row {
        Row { bytes, layout }
    }

    /// The value of a column, by its index in `Table::columns`; a column added later yields its `missing`
    /// value. Rows come from our own encoder or from checked blocks, so that bytes that do not decode are a
    /// broken invariant: a panic that ends the statement.
    #[inline]
    pub fn get(&self, column: usize) -> Datum {
        Parts::of(&self.layout, self.bytes.bytes())
            .and_then(|parts| parts.get(&self.layout, column))
            .expect("row bytes were written by the layout's own table")
    }

    /// The text of a text column where it stands; `None` for NULL, for other types, and for rows older than the
    /// column ([`Row::get`] knows those).
    #[inline]
    pub fn text(&self, column: usize) -> Option<&str> {
        let parts = Parts::of(&self.layout, self.bytes.bytes())?;
        if column >= parts.count || self.layout.columns[column].repr != Repr::Text || parts.is_null(column) {
            return None;
        }
        std::str::from_utf8(parts.raw(&self.layout, column)?).ok()
    }

    /// Whether the column is NULL, without decoding it.
    pub fn is_null(&self, column: usize) -> bool {
        let parts = Parts::of(&self.layout, self.bytes.bytes())
            .expect("row bytes were written by the layout's own table");
        if column < parts.count {
            parts.is_null(column)
        } else {
            self.layout.columns[column].missing.is_null()
        }
    }

    /// Every column that its reader knows.
    pub fn decode(&self) -> Vec<Datum> {
        (0..self.layout.known).map(|column| self.get(column)).collect()
    }

    /// The encoded bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }

    /// The bytes with the buffer they share.
    pub fn shared(&self) -> &RowBytes {
        &self.bytes
    }

    pub fn layout(&self) -> &Arc<RowLayout> {
        &self.layout
    }
}

/// The number of columns a row's bytes hold (later columns read as `missing`).
pub fn column_count(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let low = take_byte(&mut rest)?;
    let high = take_byte(&mut rest)?;
    Some(usize::from(u16::from_le_bytes([low, high]) & COUNT))
}
