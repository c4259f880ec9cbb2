//! to_char, to_date, to_timestamp, to_number: patterns for dates (`dates.rs`) and for numbers (`numbers.rs`).

mod dates;
mod numbers;

pub use dates::{interval_to_char, timestamp_to_char, timestamptz_to_char, to_date, to_timestamp};
pub use numbers::{float_to_char, numeric_to_char, to_number};

#[cfg(test)]
mod tests;
