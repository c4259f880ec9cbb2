//! Aggregates: what each group remembers, how two halves of a group are put together, and what comes out.
//!
//! A partial state is a byte string of our own ([`Writer`], [`Reader`]); only the process that wrote it reads it.

use value::types::oid::*;
use value::{Datum, Error, Oid, Result};

use crate::{Accumulator, Aggregate, AggregateKind, Environment, OnEmpty, Signature};

mod basic;
mod collect;
mod ordered;
mod statistics;

pub(crate) static AGGREGATES: &[&[Aggregate]] =
    &[basic::AGGREGATES, collect::AGGREGATES, ordered::AGGREGATES, statistics::AGGREGATES];

/// A row for an aggregate that leaves out NULLs and is NULL over nothing; the methods change what differs.
const fn a(
    oid: Oid,
    name: &'static str,
    args: &'static [Oid],
    returns: Oid,
    start: fn(&Signature, &dyn Environment) -> Box<dyn Accumulator>,
) -> Aggregate {
    Aggregate {
        oid,
        name,
        args,
        variadic: false,
        returns,
        kind: AggregateKind::Normal,
        strict: true,
        on_empty: OnEmpty::Null,
        duplicates_matter: true,
        start,
    }
}

impl Aggregate {
    /// Rows with NULLs are added too.
    const fn nullable(mut self) -> Aggregate {
        self.strict = false;
        self
    }

    /// Zero over nothing.
    const fn zero(mut self) -> Aggregate {
        self.on_empty = OnEmpty::Zero;
        self
    }

    /// Adding a value twice changes nothing.
    const fn once(mut self) -> Aggregate {
        self.duplicates_matter = false;
        self
    }

    const fn ordered(mut self, direct: usize) -> Aggregate {
        self.kind = AggregateKind::OrderedSet { direct };
        self
    }
}

/// The type of the first argument at this call site.
fn first_type(signature: &Signature) -> Oid {
    signature.args.first().map_or(TEXT, |ty| ty.oid)
}

fn damaged() -> Error {
    Error::internal("a partial aggregate state is damaged")
}

/// Builds a partial state.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn i64(mut self, value: i64) -> Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn i128(mut self, value: i128) -> Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn f64(self, value: f64) -> Writer {
        self.i64(value.to_bits() as i64)
    }

    fn datum(mut self, value: &Datum) -> Writer {
        value::binary::store(value, &mut self.0);
        self
    }

    fn done(self) -> Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Reads a partial state in the order it was written.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn i64(&mut self) -> Result<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn i128(&mut self) -> Result<i128> {
        self.bytes().map(i128::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.i64()? as u64))
    }

    fn datum(&mut self, ty: Oid) -> Result<Datum> {
        let (value, length) = value::binary::load(ty, self.0)?;
        self.0 = self.0.get(length..).ok_or_else(damaged)?;
        Ok(value)
    }
}

/// Heap bytes of a value, roughly.
fn datum_size(value: &Datum) -> usize {
    match value {
        Datum::Text(text) => text.len() + 16,
        Datum::Bytea(bytes) => bytes.len() + 16,
        Datum::Numeric(_) => 48,
        Datum::Jsonb(json) => json_size(json),
        Datum::Array(array) => 64 + array.values.iter().map(|v| 24 + datum_size(v)).sum::<usize>(),
        Datum::Record(record) => 64 + record.fields.iter().map(|v| 28 + datum_size(v)).sum::<usize>(),
        Datum::Uuid(_) => 32,
        _ => 0,
    }
}

fn json_size(json: &value::Jsonb) -> usize {
    use value::Jsonb;
    48 + match json {
        Jsonb::String(text) => text.len(),
        Jsonb::Array(elements) => elements.iter().map(json_size).sum(),
        Jsonb::Object(members) => members.iter().map(|(key, value)| key.len() + 24 + json_size(value)).sum(),
        _ => 0,
    }
}
