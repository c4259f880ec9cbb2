//! `pg_operator`: each row names the function that computes it by oid.

use value::Oid;

/// oid, name, left (0: prefix), right, function, commutator ("": none), negator.
pub(crate) type OperatorRow = (Oid, &'static str, Oid, Oid, Oid, &'static str, &'static str);

pub(crate) static OPERATORS: &[OperatorRow] = &[];
