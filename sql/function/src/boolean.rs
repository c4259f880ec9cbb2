//! Functions of the boolean family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
