//! Functions of the array family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
