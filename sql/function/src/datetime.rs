//! Functions of the datetime family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
