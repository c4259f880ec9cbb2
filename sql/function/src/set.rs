//! Set-returning functions.

use crate::SetFunction;

pub(crate) static SET_FUNCTIONS: &[SetFunction] = &[];
