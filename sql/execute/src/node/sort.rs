//! Sorts its input in memory; with a limit it never keeps much more than that many rows.
//!
//! The hard idea: what is sorted is small entries that carry the first key as a number whose order is the key's order (a
//! prefix for text), so most comparisons touch no row at all.

use std::cmp::Ordering;

use plan::ir::{Node, Order};
use resolve::tree::Expr;
use value::types::{self, Repr, oid};
use value::{Datum, Oid, Result};

use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::context::Reserved;
use crate::rows::{self, KeyOrder, Rows};
use crate::state::State;

/// A row to be sorted: NULL class, abbreviated first key, number.
#[derive(Clone, Copy)]
struct Entry {
    class: u8,
    short: u64,
    row: u32,
}

/// Rows with their sort keys. Also what ordered aggregates and windows sort with.
pub(crate) struct Sorter {
    pub rows: Rows,
    /// Keys of each row; not used when `slots` is set.
    pub keys: Rows,
    /// Where the keys stand in the rows themselves, when all of them do.
    slots: Option<Vec<usize>>,
    orders: Vec<KeyOrder>,
}

impl Sorter {
    pub fn new(columns: usize, orders: Vec<KeyOrder>, slots: Option<Vec<usize>>) -> Sorter {
        Sorter { rows: Rows::new(columns), keys: Rows::new(orders.len()), slots, orders }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.keys.clear();
    }

    /// Types of the keys.
    pub fn key_types(&self) -> Vec<Oid> {
        self.orders.iter().map(|order| order.ty).collect()
    }

    #[inline]
    fn key(&self, row: usize, number: usize) -> &Datum {
        match &self.slots {
            Some(slots) => &self.rows.row(row)[slots[number]],
            None => &self.keys.row(row)[number],
        }
    }

    fn compare_from(&self, first: usize, a: usize, b: usize) -> Ordering {
        for number in first..self.orders.len() {
            let ordering = self.orders[number].compare(self.key(a, number), self.key(b, number));
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }

    /// Row numbers in order; rows with equal keys stay as they came.
    pub fn sorted(&self) -> Vec<u32> {
        let count = self.rows.count;
        let Some(first) = self.orders.first() else {
            return (0..count as u32).collect();
        };
        let mut entries: Vec<Entry> = (0..count)
            .map(|row| {
                let value = self.key(row, 0);
                if value.is_null() {
                    return Entry { class: if first.nulls_first { 0 } else { 2 }, short: 0, row: row as u32 };
                }
                let short = abbreviate(first.ty, value);
                Entry { class: 1, short: if first.descending { !short } else { short }, row: row as u32 }
            })
            .collect();
        let from = usize::from(is_whole(first.ty));
        entries.sort_unstable_by(|a, b| {
            a.class
                .cmp(&b.class)
                .then_with(|| a.short.cmp(&b.short))
                .then_with(|| self.compare_from(from, a.row as usize, b.row as usize))
                .then_with(|| a.row.cmp(&b.row))
        });
        entries.into_iter().map(|entry| entry.row).collect()
    }

    /// Keeps only these rows, in this order.
    fn keep(&mut self, order: &[u32]) {
        let take = |rows: &mut Rows| {
            let mut kept = Rows::new(rows.columns);
            kept.values.reserve(order.len() * rows.columns);
            for row in order {
                kept.push_from(rows.row_mut(*row as usize).iter_mut().map(std::mem::take));
            }
            kept
        };
        self.rows = take(&mut self.rows);
        if self.slots.is_none() {
            self.keys = take(&mut self.keys);
        }
    }
}

/// Whether the abbreviation says everything about a value of this type.
fn is_whole(ty: Oid) -> bool {
    matches!(
        types::repr(ty),
        Repr::Int2
            | Repr::Int4
            | Repr::Int8
            | Repr::Oid
            | Repr::Date
            | Repr::Time
            | Repr::Timestamp
            | Repr::TimestampTz
            | Repr::Bool
    )
}

/// A number that orders like the value, as far as it goes; 0 for types it does not know.
fn abbreviate(ty: Oid, value: &Datum) -> u64 {
    let signed = |v: i64| (v as u64) ^ (1 << 63);
    match value {
        Datum::Bool(v) => u64::from(*v),
        Datum::Int2(v) => signed(i64::from(*v)),
        Datum::Int4(v) | Datum::Date(v) => signed(i64::from(*v)),
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => signed(*v),
        Datum::Oid(v) => signed(i64::from(*v)),
        Datum::Float8(v) => float(*v),
        Datum::Float4(v) => float(f64::from(*v)),
        Datum::Text(text) if ty != oid::BPCHAR => {
            let mut prefix = [0; 8];
            let bytes = text.as_bytes();
            let len = bytes.len().min(8);
            prefix[..len].copy_from_slice(&bytes[..len]);
            u64::from_be_bytes(prefix)
        }
        _ => 0,
    }
}

fn float(value: f64) -> u64 {
    // One NaN, above everything; one zero.
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

pub(crate) struct Sort {
    input: Input,
    codes: Vec<Code>,
    sorter: Sorter,
    limit: Option<Code>,
    /// Rows wanted; evaluated at the start.
    bound: Option<usize>,
    /// The keys that a new row must be below to matter, once there are enough rows.
    worst: Option<Vec<Datum>>,
    order: Vec<u32>,
    at: usize,
    opened: bool,
    sorted: bool,
    keep: bool,
    memory: Reserved,
}

impl Sort {
    pub fn new(builder: &Builder<'_>, input: &Node, keys: &[Order], limit: Option<&Expr>) -> Result<Sort> {
        let (codes, orders) = builder.orders(keys)?;
        let slots = codes
            .iter()
            .map(|code| match code {
                Code::Slot(index) => Some(*index),
                _ => None,
            })
            .collect();
        Ok(Sort {
            sorter: Sorter::new(input.types.len(), orders, slots),
            codes,
            limit: builder.maybe(limit)?,
            bound: None,
            worst: None,
            order: Vec::new(),
            at: 0,
            opened: false,
            sorted: false,
            keep: builder.kept(input),
            memory: Reserved::new(&builder.context.memory),
            input: builder.input(input)?,
        })
    }

    fn collect(&mut self, state: &mut State) -> Result<()> {
        if !self.opened {
            self.opened = true;
            if let Some(limit) = &mut self.limit {
                self.bound = match limit.eval(state, &[])? {
                    Datum::Int8(count) => usize::try_from(count).ok(),
                    Datum::Int4(count) => usize::try_from(count).ok(),
                    _ => None,
                };
            }
        }
        let compact_at = self.bound.map(|bound| (bound.saturating_mul(2)).max(2048));
        while self.input.fill(state, BATCH)? {
            state.context.cancel.check()?;
            while self.input.at < self.input.batch.count {
                let row = self.input.batch.row(self.input.at);
                let mut keys = Vec::new();
                if self.sorter.slots.is_none() {
                    keys.reserve_exact(self.codes.len());
                    for code in &mut self.codes {
                        keys.push(code.eval(state, row)?);
                    }
                }
                let at = self.input.at;
                self.input.advance();
                if let Some(worst) = &self.worst {
                    let row = self.input.batch.row(at);
                    let ordering = match &self.sorter.slots {
                        Some(slots) => self
                            .sorter
                            .orders
                            .iter()
                            .zip(slots.iter().zip(worst))
                            .map(|(order, (slot, worst))| order.compare(&row[*slot], worst))
                            .find(|ordering| ordering.is_ne())
                            .unwrap_or(Ordering::Equal),
                        None => rows::compare_keys(&self.sorter.orders, &keys, worst),
                    };
                    if ordering.is_ge() {
                        continue;
                    }
                }
                self.memory.add(rows::row_size(self.input.batch.row(at)) + rows::row_size(&keys) + 16)?;
                self.sorter.rows.push_from(self.input.batch.row_mut(at).iter_mut().map(std::mem::take));
                if self.sorter.slots.is_none() {
                    self.sorter.keys.push_from(keys);
                }
                if compact_at.is_some_and(|limit| self.sorter.rows.count >= limit) {
                    self.compact()?;
                }
            }
        }
        self.order = self.sorter.sorted();
        if let Some(bound) = self.bound {
            self.order.truncate(bound);
        }
        self.sorted = true;
        Ok(())
    }

    /// Drops all but the first `bound` rows.
    fn compact(&mut self) -> Result<()> {
        let Some(bound) = self.bound else { return Ok(()) };
        let mut order = self.sorter.sorted();
        order.truncate(bound);
        self.sorter.keep(&order);
        self.memory.clear();
        for row in self.sorter.rows.iter() {
            self.memory.add(rows::row_size(row) + 16)?;
        }
        if let Some(last) = self.sorter.rows.count.checked_sub(1) {
            self.worst =
                Some((0..self.sorter.orders.len()).map(|n| self.sorter.key(last, n).clone()).collect());
        }
        Ok(())
    }
}

impl Step for Sort {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.sorter.rows.columns;
        if !self.sorted {
            self.collect(state)?;
        }
        let end = self.order.len().min(self.at + max);
        for row in &self.order[self.at..end] {
            if self.keep {
                out.push(self.sorter.rows.row(*row as usize));
            } else {
                out.push_from(self.sorter.rows.row_mut(*row as usize).iter_mut().map(std::mem::take));
            }
        }
        self.at = end;
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.at = 0;
        if self.keep && self.sorted && self.limit.is_none() {
            return Ok(());
        }
        self.sorted = false;
        self.opened = false;
        self.worst = None;
        self.order.clear();
        self.sorter.clear();
        self.memory.clear();
        self.input.rescan(state)
    }
}
