//! Truth values.

use value::Datum;
use value::types::oid::*;

use crate::Function;
use crate::declare::{f, thunk};

pub(crate) static FUNCTIONS: &[Function] = &[
    f(
        2515,
        "booland_statefunc",
        &[BOOL, BOOL],
        BOOL,
        thunk!([Datum::Bool(a), Datum::Bool(b)] => Ok(Datum::Bool(*a && *b))),
    )
    .total(),
    f(
        2516,
        "boolor_statefunc",
        &[BOOL, BOOL],
        BOOL,
        thunk!([Datum::Bool(a), Datum::Bool(b)] => Ok(Datum::Bool(*a || *b))),
    )
    .total(),
    f(438, "num_nulls", &[ANY], INT4, |_, args| {
        Ok(Datum::Int4(args.iter().filter(|a| a.is_null()).count() as i32))
    })
    .variadic()
    .nullable()
    .total(),
    f(440, "num_nonnulls", &[ANY], INT4, |_, args| {
        Ok(Datum::Int4(args.iter().filter(|a| !a.is_null()).count() as i32))
    })
    .variadic()
    .nullable()
    .total(),
];
