//! `pg_cast`: each row names the function that converts by oid.

use value::Oid;

use crate::{CastContext, Function};

pub(crate) const RELABEL: Oid = 0;
pub(crate) const IN_OUT: Oid = 1;

/// source, target, function (or RELABEL, IN_OUT), context.
pub(crate) type CastRow = (Oid, Oid, Oid, CastContext);

pub(crate) static CASTS: &[CastRow] = &[];

pub(crate) static FUNCTIONS: &[Function] = &[];
