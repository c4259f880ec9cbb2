//! Plans that only read.

use std::sync::Arc;

use function::Environment;
use hashbrown::HashMap;
use plan::ir::{Node, Plan};
use resolve::tree::Expr;
use value::{Datum, Result};

use crate::compile::Compiler;
use crate::context::{Context, Counters};
use crate::node::Step;
use crate::rows::Rows;
use crate::state::{Actual, State};

/// A running plan.
pub struct Cursor {
    state: State,
    root: Box<dyn Step>,
    batch: Rows,
    columns: usize,
    ended: bool,
}

/// Starts a plan that neither changes nor locks rows.
pub fn open(plan: &Arc<Plan>, context: Context) -> Result<Cursor> {
    let state = State::new(plan.clone(), context);
    let root = state.build(&plan.root, false)?;
    Ok(Cursor { state, root, batch: Rows::default(), columns: plan.output.len(), ended: false })
}

impl Cursor {
    /// Appends up to `max_rows` rows to `out`. `false`: there are no more, now or later.
    pub fn next(&mut self, max_rows: usize, out: &mut Rows) -> Result<bool> {
        out.columns = self.columns;
        if self.ended || max_rows == 0 {
            return Ok(!self.ended);
        }
        self.state.context.cancel.check()?;
        self.batch.clear();
        self.root.next(&mut self.state, max_rows, &mut self.batch)?;
        self.ended = self.batch.is_empty();
        output(&mut self.batch, self.columns, out);
        Ok(!self.ended)
    }

    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// What each node did, when the context asked for it. Nodes without an entry were never run.
    pub fn actuals(&self) -> Actuals<'_> {
        Actuals(&self.state.actuals)
    }
}

/// Measurements of a running plan.
pub struct Actuals<'a>(pub(crate) &'a HashMap<usize, Actual>);

impl Actuals<'_> {
    /// Those of a node of the very plan that was opened.
    pub fn of(&self, node: &Node) -> Option<Actual> {
        self.0.get(&(std::ptr::from_ref(node) as usize)).copied()
    }
}

/// Moves the first `columns` slots of each row behind what is in `out`.
pub(crate) fn output(batch: &mut Rows, columns: usize, out: &mut Rows) {
    if batch.columns == columns {
        out.values.append(&mut batch.values);
    } else {
        for row in 0..batch.count {
            out.values.extend(batch.row_mut(row)[..columns].iter_mut().map(std::mem::take));
        }
    }
    out.count += batch.count;
    batch.clear();
}

/// The value of an expression without slots: a default, an argument of EXECUTE, a USING constant. Subplans are not
/// possible in it.
pub fn evaluate(expr: &Expr, context: &Context) -> Result<Datum> {
    evaluate_over(expr, context, &[])
}

/// The value of an expression over the slots of one row.
pub fn evaluate_over(expr: &Expr, context: &Context, row: &[Datum]) -> Result<Datum> {
    let mut code = Compiler::new(context).compile(expr)?;
    let plan = Arc::new(empty_plan());
    let mut state = State::new(plan, context.clone());
    code.eval(&mut state, row)
}

pub(crate) fn empty_plan() -> Plan {
    Plan {
        root: Node {
            kind: plan::ir::NodeKind::Once { condition: None },
            types: Vec::new(),
            rows: 1.0,
            startup_cost: 0.0,
            total_cost: 0.0,
        },
        subplans: Vec::new(),
        ctes: Vec::new(),
        outers: 0,
        output: Vec::new(),
        tables: Vec::new(),
        views: Vec::new(),
        volatile: false,
    }
}

/// Many evaluations of the same expressions over rows of one shape: an index build, ALTER TABLE .. TYPE .. USING.
pub struct Evaluator {
    codes: Vec<crate::code::Code>,
    state: State,
}

impl Evaluator {
    pub fn new(exprs: &[Expr], context: &Context) -> Result<Evaluator> {
        let codes = Compiler::new(context).list(exprs)?;
        Ok(Evaluator { codes, state: State::new(Arc::new(empty_plan()), context.clone()) })
    }

    /// The value of expression `number` over `row`.
    pub fn value(&mut self, number: usize, row: &[Datum]) -> Result<Datum> {
        self.codes[number].eval(&mut self.state, row)
    }

    pub fn environment(&self) -> &dyn Environment {
        self.state.env()
    }
}
