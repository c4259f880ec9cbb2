//! Window functions; aggregates are window functions too, but those stand in `aggregate`.

use value::types::oid::*;

use crate::{WindowFunction, WindowKind};

const fn w(
    oid: u32,
    name: &'static str,
    args: &'static [u32],
    returns: u32,
    kind: WindowKind,
) -> WindowFunction {
    WindowFunction { oid, name, args, returns, kind }
}

pub(crate) static WINDOW_FUNCTIONS: &[WindowFunction] = &[
    w(3100, "row_number", &[], INT8, WindowKind::RowNumber),
    w(3101, "rank", &[], INT8, WindowKind::Rank),
    w(3102, "dense_rank", &[], INT8, WindowKind::DenseRank),
    w(3103, "percent_rank", &[], FLOAT8, WindowKind::PercentRank),
    w(3104, "cume_dist", &[], FLOAT8, WindowKind::CumeDist),
    w(3105, "ntile", &[INT4], INT4, WindowKind::Ntile),
    w(3106, "lag", &[ANYELEMENT], ANYELEMENT, WindowKind::Lag),
    w(3107, "lag", &[ANYELEMENT, INT4], ANYELEMENT, WindowKind::Lag),
    w(3108, "lag", &[ANYCOMPATIBLE, INT4, ANYCOMPATIBLE], ANYCOMPATIBLE, WindowKind::Lag),
    w(3109, "lead", &[ANYELEMENT], ANYELEMENT, WindowKind::Lead),
    w(3110, "lead", &[ANYELEMENT, INT4], ANYELEMENT, WindowKind::Lead),
    w(3111, "lead", &[ANYCOMPATIBLE, INT4, ANYCOMPATIBLE], ANYCOMPATIBLE, WindowKind::Lead),
    w(3112, "first_value", &[ANYELEMENT], ANYELEMENT, WindowKind::FirstValue),
    w(3113, "last_value", &[ANYELEMENT], ANYELEMENT, WindowKind::LastValue),
    w(3114, "nth_value", &[ANYELEMENT, INT4], ANYELEMENT, WindowKind::NthValue),
];
