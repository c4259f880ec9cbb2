//! Functions of the bytea family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
