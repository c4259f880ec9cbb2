//! Index keys: from rows to bytes whose order is the order of values.
//!
//! The hard idea: an index entry is (key bytes, row id), and it counts only if the visible version's key equals
//! the entry's bytes. Entries are therefore compared, merged and re-checked as bytes; nothing here evaluates
//! SQL. Key parts are self-delimiting (no key is a proper prefix of another key of the same index), so
//! `key ++ row id` sorts like the pair, and a range over the first columns is a range over a byte prefix.

use std::ops::Bound;

use value::{Datum, Error, Oid, SqlState};

use crate::catalog::{Catalog, Index, IndexKey, Persistence, Table};
use crate::row::{Row, RowId};

/// A range of encoded keys. The bounds compare with whole keys; use the constructors to bound leading columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub low: Bound<Vec<u8>>,
    pub high: Bound<Vec<u8>>,
}

impl KeyRange {
    /// The whole index.
    pub fn all() -> KeyRange {
        KeyRange { low: Bound::Unbounded, high: Bound::Unbounded }
    }

    /// Every key that starts with `prefix` (all of its columns, or the leading ones, encoded).
    pub fn prefix(prefix: Vec<u8>) -> KeyRange {
        let high = successor(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        KeyRange { low: Bound::Included(prefix), high }
    }

    /// Keys that start with `prefix` (the encoded first n columns) and whose next column lies between `low` and
    /// `high`, given in the order of the index's direction-free values: `low` is the smaller value. NULLs never
    /// lie in a range bounded on either side; bounded on neither side, they do.
    pub fn prefix_range(
        table: &Table,
        index: &Index,
        prefix: Vec<u8>,
        column: usize,
        low: Bound<&Datum>,
        high: Bound<&Datum>,
    ) -> KeyRange {
        let Some(part) = index.keys.get(column) else { return KeyRange::prefix(prefix) };
        if matches!((&low, &high), (Bound::Unbounded, Bound::Unbounded)) {
            return KeyRange::prefix(prefix);
        }
        let extend = |value: &Datum| {
            let mut key = prefix.clone();
            encode_part(table, part, value, &mut key);
            key
        };
        // A NULL bound compares with nothing: an empty range.
        let is_null = |bound: &Bound<&Datum>| match bound {
            Bound::Included(value) | Bound::Excluded(value) => value.is_null(),
            Bound::Unbounded => false,
        };
        if is_null(&low) || is_null(&high) {
            return KeyRange { low: Bound::Excluded(prefix.clone()), high: Bound::Excluded(prefix) };
        }
        // Descending columns are stored complemented: the byte order is reversed.
        let (first, last) = if part.descending { (high, low) } else { (low, high) };
        let null = extend(&Datum::Null);
        let whole = KeyRange::prefix(prefix.clone());
        let low = match first {
            Bound::Included(value) => Bound::Included(extend(value)),
            Bound::Excluded(value) => after(&extend(value)),
            Bound::Unbounded if part.nulls_first => after(&null),
            Bound::Unbounded => whole.low,
        };
        let high = match last {
            Bound::Included(value) => successor(&extend(value)).map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Excluded(value) => Bound::Excluded(extend(value)),
            Bound::Unbounded if !part.nulls_first => Bound::Excluded(null),
            Bound::Unbounded => whole.high,
        };
        KeyRange { low, high }
    }

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        match (&self.low, &self.high) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high))
            | (Bound::Excluded(low), Bound::Included(high)) => low >= high,
            _ => false,
        }
    }

    /// The same range over `key ++ row id`.
    pub(crate) fn entries(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let with = |key: &[u8], id: u64| {
            let mut entry = Vec::with_capacity(key.len() + 8);
            entry.extend_from_slice(key);
            entry.extend_from_slice(&id.to_be_bytes());
            entry
        };
        let low = match &self.low {
            Bound::Included(key) => Bound::Included(key.clone()),
            Bound::Excluded(key) => Bound::Excluded(with(key, u64::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let high = match &self.high {
            Bound::Included(key) => Bound::Included(with(key, u64::MAX)),
            Bound::Excluded(key) => Bound::Excluded(key.clone()),
            Bound::Unbounded => Bound::Unbounded,
        };
        (low, high)
    }
}

/// The smallest byte string greater than every string that starts with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=kept].to_vec();
    next[kept] += 1;
    Some(next)
}

/// The low bound that skips every key that starts with `prefix`. A prefix of 0xff bytes only has nothing after.
fn after(prefix: &[u8]) -> Bound<Vec<u8>> {
    match successor(prefix) {
        Some(next) => Bound::Included(next),
        None => Bound::Excluded([prefix, &[0xff; 16]].concat()),
    }
}

fn encode_part(table: &Table, part: &IndexKey, value: &Datum, out: &mut Vec<u8>) {
    let oid = column_of(table, part.column).map_or(0, |n| table.columns[n].type_oid);
    value::key::encode(value, oid, part.descending, part.nulls_first, out);
}

fn column_of(table: &Table, number: i16) -> Option<usize> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    (place < table.columns.len()).then_some(place)
}

impl Index {
    /// The key bytes of the first `values.len()` key columns, in the index's own order and NULL placement.
    pub fn encode_prefix(table: &Table, index: &Index, values: &[Datum]) -> Vec<u8> {
        let mut out = Vec::with_capacity(values.len() * 10);
        for (part, value) in index.keys.iter().zip(values) {
            encode_part(table, part, value, &mut out);
        }
        out
    }
}

/// Where a key's values come from.
pub(crate) trait Values {
    fn value(&self, column: usize) -> Datum;
}

impl Values for [Datum] {
    fn value(&self, column: usize) -> Datum {
        self.get(column).cloned().unwrap_or_default()
    }
}

impl Values for Row {
    fn value(&self, column: usize) -> Datum {
        if column < self.layout().len() { self.get(column) } else { Datum::Null }
    }
}

/// What of a table and an index is needed to read entries and compute keys; cheap to make, free of borrows.
#[derive(Clone, Debug)]
pub(crate) struct KeyShape {
    /// Of the table.
    pub(crate) rows: u32,
    /// Of the index.
    pub(crate) entries: u32,
    pub(crate) temporary: bool,
    pub(crate) unique: bool,
    predicate: Option<usize>,
    parts: Vec<KeyPart>,
}

#[derive(Clone, Copy, Debug)]
struct KeyPart {
    column: usize,
    ty: Oid,
    descending: bool,
    nulls_first: bool,
}

impl KeyShape {
    pub(crate) fn of(table: &Table, index: &Index) -> KeyShape {
        let column = |number: i16| column_of(table, number).unwrap_or(usize::MAX);
        let part = |part: &IndexKey| KeyPart {
            column: column(part.column),
            ty: column_of(table, part.column).map_or(0, |n| table.columns[n].type_oid),
            descending: part.descending,
            nulls_first: part.nulls_first,
        };
        KeyShape {
            rows: table.storage,
            entries: index.storage,
            temporary: table.persistence == Persistence::Temporary,
            unique: index.unique,
            predicate: index.predicate.as_ref().map(|(number, _)| column(*number)),
            parts: index.keys.iter().map(part).collect(),
        }
    }

    /// The key a row has; `None` when the index's predicate leaves it out.
    pub(crate) fn key<V: Values + ?Sized>(&self, row: &V) -> Option<Vec<u8>> {
        let mut key = Vec::with_capacity(self.parts.len() * 10);
        self.key_into(row, &mut key).then_some(key)
    }

    /// [`KeyShape::key`] into a buffer that is used again; `false` = none.
    pub(crate) fn key_into<V: Values + ?Sized>(&self, row: &V, key: &mut Vec<u8>) -> bool {
        key.clear();
        if let Some(column) = self.predicate
            && !matches!(row.value(column), Datum::Bool(true))
        {
            return false;
        }
        for part in &self.parts {
            let value = row.value(part.column);
            value::key::encode(&value, part.ty, part.descending, part.nulls_first, key);
        }
        true
    }

    fn has_null<V: Values + ?Sized>(&self, row: &V) -> bool {
        self.parts.iter().any(|part| row.value(part.column).is_null())
    }
}

/// Whether two rows with this one's key may both exist: the index is not unique, or a NULL under NULLS DISTINCT.
pub(crate) fn may_repeat<V: Values + ?Sized>(shape: &KeyShape, index: &Index, row: &V) -> bool {
    !index.unique || (index.nulls_distinct && shape.has_null(row))
}

/// `key ++ row id`.
pub(crate) fn entry(key: &[u8], row: RowId) -> Box<[u8]> {
    let mut entry = Vec::with_capacity(key.len() + 8);
    entry.extend_from_slice(key);
    entry.extend_from_slice(&row.0.to_be_bytes());
    entry.into_boxed_slice()
}

/// The key in an entry of the base's INDEX.
pub(crate) fn entry_key(entry: &[u8]) -> &[u8] {
    entry.get(4..entry.len().saturating_sub(8)).unwrap_or_default()
}

/// Its index's storage.
pub(crate) fn entry_index(entry: &[u8]) -> u32 {
    entry.first_chunk::<4>().map_or(0, |storage| u32::from_be_bytes(*storage))
}

/// The row of such an entry.
pub(crate) fn entry_row(entry: &[u8]) -> RowId {
    RowId(entry.last_chunk::<8>().map_or(0, |row| u64::from_be_bytes(*row)))
}

/// Takes `key ++ row id` apart.
pub(crate) fn split(entry: &[u8]) -> (&[u8], RowId) {
    let (key, id) = entry.split_at(entry.len().saturating_sub(8));
    (key, RowId(id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))))
}

/// 23505 with the detail, constraint, schema and table that PostgreSQL reports.
pub(crate) fn unique_violation<V: Values + ?Sized>(
    catalog: &Catalog,
    table: &Table,
    index: &Index,
    row: &V,
) -> Error {
    let schema = catalog.schema(table.schema).map_or("", |schema| schema.name.as_str());
    Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{}\"", index.name),
    )
    .detail(format!("Key {} already exists.", describe(table, index, row)))
    .constraint(index.name.as_str())
    .table(schema, table.name.as_str())
}

/// 23505 of a CREATE UNIQUE INDEX over rows that repeat a key.
pub(crate) fn duplicated<V: Values + ?Sized>(
    catalog: &Catalog,
    table: &Table,
    index: &Index,
    row: &V,
) -> Error {
    let schema = catalog.schema(table.schema).map_or("", |schema| schema.name.as_str());
    Error::new(SqlState::UNIQUE_VIOLATION, format!("could not create unique index \"{}\"", index.name))
        .detail(format!("Key {} is duplicated.", describe(table, index, row)))
        .constraint(index.name.as_str())
        .table(schema, table.name.as_str())
}

/// `(a, b)=(1, 2)`.
fn describe<V: Values + ?Sized>(table: &Table, index: &Index, row: &V) -> String {
    let style = value::text::Style::default();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for part in &index.keys {
        let column = column_of(table, part.column);
        let name = column.map_or("?", |column| table.columns[column].name.as_str());
        names.push(part.expression.as_deref().unwrap_or(name).to_owned());
        let value = column.map_or(Datum::Null, |column| row.value(column));
        values.push(match (&value, column) {
            (Datum::Null, _) | (_, None) => "null".to_owned(),
            (value, Some(column)) => {
                value::text::output_string(value, table.columns[column].type_oid, &style)
            }
        });
    }
    format!("({})=({})", names.join(", "), values.join(", "))
}
