//! What the planner may know about a table: live row counts, and what ANALYZE found in a sample.
//!
//! Values are kept as key bytes (value::key, ascending, NULLs last), so that a constant is compared with a
//! histogram bound by comparing bytes, and as text, as `pg_stats` shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A table's statistics. `rows` is always current; the rest is as of the last ANALYZE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatistics {
    /// Live rows by the newest commit (kept by the engine; not read back from disk).
    #[serde(skip)]
    pub rows: u64,
    /// Rows when last analyzed; `None`: never.
    #[serde(default)]
    pub analyzed_rows: Option<u64>,
    /// Microseconds since 2000-01-01 UTC.
    #[serde(default)]
    pub analyzed_at: Option<i64>,
    /// Average bytes of an encoded row.
    #[serde(default)]
    pub row_width: u32,
    /// By attribute number.
    #[serde(default)]
    pub columns: BTreeMap<i16, ColumnStatistics>,
}

/// One column's statistics, as PostgreSQL's pg_statistic holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Share of rows that are NULL, 0 to 1.
    pub null_fraction: f64,
    /// Average bytes of a value that is not NULL.
    pub average_width: u32,
    /// Distinct values that are not NULL: positive = a count, negative = a share of the rows, 0 = unknown.
    pub distinct: f64,
    /// The most common values, most frequent first.
    #[serde(default)]
    pub most_common: Vec<CommonValue>,
    /// Bounds of buckets that hold equally many of the values not in `most_common`, ascending.
    #[serde(default)]
    pub histogram: Vec<StatisticsValue>,
    /// Correlation of value order and row order, -1 to 1.
    #[serde(default)]
    pub correlation: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommonValue {
    pub value: StatisticsValue,
    /// Share of all rows.
    pub frequency: f64,
}

/// A value in a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatisticsValue {
    pub key: Vec<u8>,
    pub text: String,
}
