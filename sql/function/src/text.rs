//! Functions of the text family.

use crate::Function;

pub(crate) static FUNCTIONS: &[Function] = &[];
