//! Functions of the json family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
