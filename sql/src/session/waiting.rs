//! Functions that wait: advisory locks and pg_sleep.
//!
//! Expressions are computed synchronously. A query without FROM whose outputs are such calls, which is how they are used,
//! is lifted here: the calls are made one after the other, awaited, and their results put in their places.

use std::sync::Arc;
use std::time::Duration;

use engine::{AdvisoryScope, Wait};
use plan::ir::{NodeKind, Plan};
use resolve::tree::{Call, Expr};
use value::{Datum, Error, Result};

use super::Session;
use crate::scope::Scope;
use crate::system;

/// Whether a function is awaited here.
fn lifts(call: &Call) -> bool {
    let name = call.function.name;
    matches!(name, "pg_sleep" | "pg_sleep_for" | "pg_sleep_until")
        || name.starts_with("pg_try_advisory")
        || (name.starts_with("pg_advisory") && !name.contains("unlock"))
}

fn outputs(plan: &Plan) -> Option<&[Expr]> {
    let NodeKind::Project { input, exprs } = &plan.root.kind else { return None };
    matches!(input.kind, NodeKind::Once { condition: None }).then_some(exprs)
}

/// Whether a plan must go through [`Session::lift`] before it is opened.
pub(super) fn needs_lift(plan: &Plan) -> bool {
    outputs(plan).is_some_and(|exprs| exprs.iter().any(|e| matches!(e, Expr::Call(call) if lifts(call))))
}

impl Session {
    /// The plan with its waiting calls carried out.
    pub(super) async fn lift(
        &mut self,
        scope: &Arc<Scope>,
        plan: &Plan,
        parameters: &Arc<[Datum]>,
    ) -> Result<Plan> {
        let mut plan = plan.clone();
        let NodeKind::Project { exprs, .. } = &mut plan.root.kind else { return Ok(plan) };
        for expr in exprs {
            let Expr::Call(call) = expr else { continue };
            if !lifts(call) {
                continue;
            }
            let context = self.context(scope, parameters.clone(), false, false)?;
            let args =
                call.args.iter().map(|a| execute::evaluate(a, &context)).collect::<Result<Vec<_>>>()?;
            drop(context);
            let ty = call.ty;
            let value = if args.iter().any(Datum::is_null) {
                Datum::Null
            } else {
                self.wait_for(scope, call.function.name, &args).await?
            };
            *expr = Expr::Const { value, ty };
        }
        Ok(plan)
    }

    async fn wait_for(&mut self, scope: &Arc<Scope>, name: &str, args: &[Datum]) -> Result<Datum> {
        let shared = self.shared.clone();
        if name.starts_with("pg_sleep") {
            let duration = system::sleep_time(args);
            return tokio::select! {
                () = tokio::time::sleep(duration.min(Duration::from_secs(1 << 32))) => Ok(Datum::text("")),
                reason = shared.cancel.cancelled() => Err(reason.error()),
            };
        }
        let key = system::advisory_key(scope, args);
        let held = if name.contains("xact") { AdvisoryScope::Transaction } else { AdvisoryScope::Session };
        let tries = name.starts_with("pg_try");
        let mode_shared = name.ends_with("shared");
        let tx = self.transaction()?.tx()?;
        let wait = if tries { Wait::Skip } else { Wait::Block };
        let got = Session::interruptible(&shared, tx.lock_advisory(key, mode_shared, held, wait)).await?;
        match (tries, got) {
            (true, got) => Ok(Datum::Bool(got)),
            (false, true) => Ok(Datum::text("")),
            (false, false) => Err(Error::internal("an advisory lock was skipped")),
        }
    }
}
