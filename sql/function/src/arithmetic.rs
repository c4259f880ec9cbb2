//! Functions of the arithmetic family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
