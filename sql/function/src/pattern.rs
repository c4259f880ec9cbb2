//! Functions of the pattern family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
