//! The other executor, as seen from here: plan nodes over Arrow batches. It stands behind a trait so that sessions
//! and commands compile and are tested without it.

use std::pin::Pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::Stream;
use plan::ir::Plan;
use value::Result;

use crate::Context;

/// Batches whose columns are the plan's output, in the forms of `value::arrow_form`. Dropping it cancels the work.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// An executor that works on columns. It must give the rows that [`crate::Cursor`] gives.
pub trait Vectorised: Send + Sync {
    /// Whether every node, expression and type of the plan can be run here. Looks at the plan only, so the answer can be kept
    /// with a cached plan. Whether it is worth it is for the caller to decide, by the plan's estimates.
    fn accepts(&self, plan: &Plan) -> bool;

    /// Starts the plan. Nothing is computed before the stream is polled. Errors: 53200 past the memory limit, 57014 when cancelled.
    fn run(&self, plan: Arc<Plan>, context: Context) -> Result<BatchStream>;
}
