//! Functions of the comparison family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
