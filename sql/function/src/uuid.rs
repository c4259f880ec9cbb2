//! Functions of the uuid family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
