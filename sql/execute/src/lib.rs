//! Runs plans: the row executor.
//!
//! ```text
//! open(plan, context)          -> Cursor    plans that only read; next() pulls rows, synchronously
//! Driver::open(plan, context)  -> Driver    plans that change or lock rows; next() is a future, because it may wait
//! evaluate(expr, ..)           -> value     a default, an argument of EXECUTE
//! ```
//! A plan node becomes a step (`node`); steps pull batches of rows from each other. Expressions become
//! `code` once per execution. What waits (row locks, unique keys, foreign keys) is done only by [`Driver`]: a step
//! that needs a lock unwinds to it with a request, and goes on with the answer.
//!
//! Invariant: every loop over rows looks at [`Cancel`] and charges [`MemoryAccount`] for what it keeps.

mod access;
mod code;
mod compile;
mod conditions;
mod context;
mod cursor;
mod driver;
mod modify;
mod node;
mod rows;
mod state;
mod vectorised;
mod walk;

pub use conditions::conditions;
pub use context::{
    Cancel, CancelReason, Cancelled, ConstraintModes, Context, Counters, LockTimer, MemoryAccount,
    SystemRelations, TableRules, Tally,
};
pub use cursor::{Actuals, Cursor, Evaluator, evaluate, evaluate_over, open};
pub use driver::{Driver, SLICE, TRACE_TARGET};
pub use modify::Inserter;
pub use modify::foreign_key::{DeferredCheck, run_deferred};
pub use rows::Rows;
pub use state::Actual;
pub use vectorised::{BatchStream, Vectorised};
pub use walk::needs_driver;
