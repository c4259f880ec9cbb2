//! Aggregates.

use crate::Aggregate;

pub(crate) static AGGREGATES: &[&[Aggregate]] = &[];
