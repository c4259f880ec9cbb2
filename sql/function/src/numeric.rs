//! Functions of the numeric family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
