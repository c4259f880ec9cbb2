//! Advice is computed, not done: plain facts in, plain recommendations out, ranked by what they would save.

mod missing_index;

use value::Oid;

/// What the advisers look at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Costly statements with what they scan.
    pub statements: Vec<Statement>,
}

/// One fingerprint.
#[derive(Clone, Debug)]
pub struct Statement {
    pub fingerprint: u64,
    pub text: String,
    pub calls: u64,
    /// Mean over the kept history.
    pub mean_ns: f64,
    pub total_ns: u64,
    pub rows_scanned: u64,
    pub rows_returned: u64,
    pub scans: Vec<ScanFact>,
}

/// A table read from end to end by a plan, and the conditions on it that an index could serve.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanFact {
    pub table: Oid,
    pub schema: String,
    pub name: String,
    /// Columns compared by `=` (or IN) with something known before the scan.
    pub equal: Vec<String>,
    /// Columns compared by `<`, `<=`, `>`, `>=`.
    pub range: Vec<String>,
    /// Rows of the table.
    pub rows: f64,
    /// Rows the planner expects to remain.
    pub remaining: f64,
    /// Key columns of the table's indexes.
    pub indexes: Vec<Vec<String>>,
}

/// Something that would make statements cheaper.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    pub kind: &'static str,
    pub table: Oid,
    pub table_name: String,
    pub columns: Vec<String>,
    /// Why, in plain words.
    pub reason: String,
    /// The statement to run, and the one that takes it back.
    pub sql: String,
    pub undo_sql: String,
    /// Nanoseconds that the history's executions would have saved in all.
    pub saved_ns: f64,
    /// How many times faster the statements would be.
    pub speed_up: f64,
    /// Bytes the new object would take, about.
    pub storage_bytes: f64,
    pub fingerprints: Vec<u64>,
}

type Advisor = fn(&Facts, &mut Vec<Recommendation>);

/// Every adviser, in alphabetical order.
const ALL: &[Advisor] = &[missing_index::missing_index];

/// All advice, most valuable first.
pub fn advise(facts: &Facts) -> Vec<Recommendation> {
    let mut advice = Vec::new();
    for advisor in ALL {
        advisor(facts, &mut advice);
    }
    advice.sort_by(|a, b| b.saved_ns.total_cmp(&a.saved_ns));
    advice
}
