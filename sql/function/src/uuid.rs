//! UUIDs.

use std::sync::Arc;

use value::Datum;
use value::types::oid::*;

use crate::Function;
use crate::declare::f;

pub(crate) static FUNCTIONS: &[Function] = &[f(3432, "gen_random_uuid", &[], UUID, |_, _| {
    Ok(Datum::Uuid(Arc::new(uuid::Uuid::new_v4().into_bytes())))
})
.volatile()
.total()];
