//! Rows in memory, and what operators do with their values: order, equality, hash, size.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::DefaultHashBuilder;
use value::types::oid;
use value::{Datum, Oid, compare};

/// Rows one after the other: value `c` of row `r` is `values[r * columns + c]`.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub columns: usize,
    /// Kept apart because rows may have no columns (`SELECT FROM t`).
    pub count: usize,
    pub values: Vec<Datum>,
}

impl Rows {
    pub fn new(columns: usize) -> Rows {
        Rows { columns, count: 0, values: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.values.clear();
        self.count = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub fn row(&self, index: usize) -> &[Datum] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }

    #[inline]
    pub fn row_mut(&mut self, index: usize) -> &mut [Datum] {
        &mut self.values[index * self.columns..(index + 1) * self.columns]
    }

    /// Appends a row by cloning it.
    #[inline]
    pub fn push(&mut self, row: &[Datum]) {
        debug_assert_eq!(row.len(), self.columns);
        self.values.extend_from_slice(row);
        self.count += 1;
    }

    /// Appends a row that the iterator yields, of exactly `columns` values.
    pub fn push_from(&mut self, row: impl IntoIterator<Item = Datum>) {
        self.values.extend(row);
        self.count += 1;
        debug_assert_eq!(self.values.len(), self.count * self.columns);
    }

    pub fn iter(&self) -> impl Iterator<Item = &[Datum]> {
        (0..self.count).map(|index| self.row(index))
    }
}

/// Bytes a row of values takes, with what it points to.
pub(crate) fn row_size(row: &[Datum]) -> usize {
    size_of_val(row) + row.iter().map(heap_size).sum::<usize>()
}

/// Bytes behind a value.
pub(crate) fn heap_size(datum: &Datum) -> usize {
    match datum {
        Datum::Text(text) => text.len() + 16,
        Datum::Bytea(bytes) => bytes.len() + 16,
        Datum::Numeric(_) => 48,
        Datum::Uuid(_) => 32,
        Datum::Array(array) => {
            64 + array.values.iter().map(|v| size_of::<Datum>() + heap_size(v)).sum::<usize>()
        }
        Datum::Record(record) => {
            64 + record.fields.iter().map(|v| size_of::<Datum>() + heap_size(v)).sum::<usize>()
        }
        Datum::Jsonb(json) => 32 + json_size(json),
        _ => 0,
    }
}

fn json_size(json: &value::Jsonb) -> usize {
    match json {
        value::Jsonb::Array(values) => 32 + values.iter().map(json_size).sum::<usize>(),
        value::Jsonb::Object(pairs) => {
            32 + pairs.iter().map(|(k, v)| k.len() + 16 + json_size(v)).sum::<usize>()
        }
        value::Jsonb::String(text) => text.len() + 48,
        _ => 48,
    }
}

/// SQL equality with NULLs alike; both of type `ty`.
#[inline]
pub(crate) fn same(ty: Oid, a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Null, Datum::Null) => true,
        (Datum::Null, _) | (_, Datum::Null) => false,
        (Datum::Int4(a), Datum::Int4(b)) => a == b,
        (Datum::Int8(a), Datum::Int8(b)) => a == b,
        (Datum::Date(a), Datum::Date(b)) => a == b,
        (Datum::Text(a), Datum::Text(b)) if ty != oid::BPCHAR => a == b,
        (a, b) => compare::equal_typed(ty, a, b),
    }
}

/// Btree order of two values of type `ty`; NULLs last.
#[inline]
pub(crate) fn order(ty: Oid, a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
        (Datum::Text(a), Datum::Text(b)) if ty != oid::BPCHAR => a.as_bytes().cmp(b.as_bytes()),
        (a, b) => compare::compare_typed(ty, a, b),
    }
}

static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

#[inline]
fn mix(value: u64) -> u64 {
    // Multiply and fold: a good spread in both halves for two instructions.
    let wide = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f_u128;
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// A hash of one value, equal for values that are [`same`] (integers of any width alike).
#[inline]
pub(crate) fn hash_value(ty: Oid, value: &Datum) -> u64 {
    match value {
        Datum::Null => 0x51_7c_c1_b7_27_22_0a_95,
        Datum::Int4(v) => mix(*v as i64 as u64),
        Datum::Int8(v) => mix(*v as u64),
        Datum::Int2(v) => mix(*v as i64 as u64),
        Datum::Date(v) => mix(*v as i64 as u64),
        Datum::Text(text) if ty != oid::BPCHAR => {
            let mut hasher = HASHER.build_hasher();
            hasher.write(text.as_bytes());
            hasher.finish()
        }
        other => {
            let mut hasher = HASHER.build_hasher();
            compare::hash_typed(ty, other, &mut hasher);
            hasher.finish()
        }
    }
}

/// Adds the hash of a further column.
#[inline]
pub(crate) fn combine(hash: u64, next: u64) -> u64 {
    mix(hash.rotate_left(23) ^ next)
}

/// The hash of a row of values with these types.
#[inline]
pub(crate) fn hash_row(types: &[Oid], row: &[Datum]) -> u64 {
    let mut hash = 0;
    for (ty, value) in types.iter().zip(row) {
        hash = combine(hash, hash_value(*ty, value));
    }
    hash
}

/// [`same`] for whole rows.
#[inline]
pub(crate) fn same_row(types: &[Oid], a: &[Datum], b: &[Datum]) -> bool {
    types.iter().zip(a.iter().zip(b)).all(|(ty, (a, b))| same(*ty, a, b))
}

/// How one column takes part in an order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyOrder {
    pub ty: Oid,
    pub descending: bool,
    pub nulls_first: bool,
}

impl KeyOrder {
    #[inline]
    pub fn compare(&self, a: &Datum, b: &Datum) -> Ordering {
        match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => {
                if self.nulls_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if self.nulls_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (false, false) => {
                let ordering = order(self.ty, a, b);
                if self.descending { ordering.reverse() } else { ordering }
            }
        }
    }
}

/// Order of two rows of keys.
#[inline]
pub(crate) fn compare_keys(orders: &[KeyOrder], a: &[Datum], b: &[Datum]) -> Ordering {
    for (order, (a, b)) in orders.iter().zip(a.iter().zip(b)) {
        let ordering = order.compare(a, b);
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

/// A map from keys to the numbers 0, 1, 2 .. in order of first appearance; the keys live with the caller. Chained
/// by index, so that growing moves no keys.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Entry number + 1, 0 = empty; a power of two of them.
    heads: Vec<u32>,
    next: Vec<u32>,
    hashes: Vec<u64>,
}

impl Index {
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    pub fn clear(&mut self) {
        self.heads.clear();
        self.next.clear();
        self.hashes.clear();
    }

    /// Bytes one more entry costs.
    pub const ENTRY: usize = 20;

    #[inline]
    fn slot(&self, hash: u64) -> usize {
        (hash as usize) & (self.heads.len() - 1)
    }

    /// The first entry with this hash at or after `from` in its chain; start with `from = None`.
    #[inline]
    pub fn first(&self, hash: u64) -> Option<usize> {
        if self.heads.is_empty() {
            return None;
        }
        self.walk(self.heads[self.slot(hash)], hash)
    }

    /// The next entry with the same hash.
    #[inline]
    pub fn after(&self, entry: usize) -> Option<usize> {
        self.walk(self.next[entry], self.hashes[entry])
    }

    #[inline]
    fn walk(&self, mut at: u32, hash: u64) -> Option<usize> {
        while at != 0 {
            let entry = at as usize - 1;
            if self.hashes[entry] == hash {
                return Some(entry);
            }
            at = self.next[entry];
        }
        None
    }

    /// The entry with this hash for which `equal` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut equal: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut at = self.first(hash);
        while let Some(entry) = at {
            if equal(entry) {
                return Some(entry);
            }
            at = self.after(entry);
        }
        None
    }

    /// Adds the next entry number, found by `hash` from now on.
    pub fn push(&mut self, hash: u64) -> usize {
        let entry = self.hashes.len();
        if entry >= self.heads.len() {
            self.grow();
        }
        let slot = self.slot(hash);
        self.hashes.push(hash);
        self.next.push(self.heads[slot]);
        self.heads[slot] = entry as u32 + 1;
        entry
    }

    /// Adds the next entry number without making it findable (a NULL key that never matches).
    pub fn push_unlinked(&mut self) -> usize {
        self.hashes.push(0);
        self.next.push(u32::MAX);
        self.hashes.len() - 1
    }

    fn grow(&mut self) {
        let size = (self.heads.len() * 2).max(64);
        self.heads.clear();
        self.heads.resize(size, 0);
        // In order, so that chains keep "newest first".
        for entry in 0..self.hashes.len() {
            if self.next[entry] == u32::MAX {
                continue;
            }
            let slot = self.slot(self.hashes[entry]);
            self.next[entry] = self.heads[slot];
            self.heads[slot] = entry as u32 + 1;
        }
    }
}
