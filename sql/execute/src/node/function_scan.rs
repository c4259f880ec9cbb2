//! Functions in FROM, in lockstep: the longest decides, shorter ones give NULLs.

use function::Signature;
use resolve::tree::Expr;
use value::types::oid;
use value::{Datum, Result};

use super::{Builder, Step};
use crate::code::Code;
use crate::compile::SetSite;
use crate::rows::Rows;
use crate::state::State;

impl SetSite {
    /// Compiles a set-returning call that stands alone.
    pub fn new(builder: &Builder<'_>, call: &resolve::tree::SetCall) -> Result<SetSite> {
        Ok(SetSite {
            function: call.function,
            args: builder.list(&call.args)?,
            signature: Signature { args: call.args.iter().map(Expr::ty).collect(), result: call.ty },
            state: None,
        })
    }

    /// Starts it over `row`; `None`: no rows, because a strict function met a NULL.
    pub fn start(&mut self, state: &mut State, row: &[Datum]) -> Result<Option<function::Rows>> {
        let mut args = Vec::with_capacity(self.args.len());
        for arg in &mut self.args {
            args.push(arg.eval(state, row)?);
        }
        if self.function.strict && args.iter().any(Datum::is_null) {
            return Ok(None);
        }
        let mut call =
            function::Call { env: state.env(), signature: &self.signature, state: &mut self.state };
        Ok(Some((self.function.start)(&mut call, &args)?))
    }
}

enum Source {
    Set(SetSite),
    Scalar { code: Code, record: bool },
}

enum Running {
    Set(function::Rows),
    /// The one row of a scalar.
    Row(Vec<Datum>),
    Ended,
}

pub(crate) struct FunctionScan {
    sources: Vec<(Source, usize)>,
    ordinality: bool,
    width: usize,
    running: Option<Vec<Running>>,
    number: i64,
}

impl FunctionScan {
    pub fn new(
        builder: &Builder<'_>,
        calls: &[Expr],
        widths: &[usize],
        ordinality: bool,
    ) -> Result<FunctionScan> {
        let mut sources = Vec::with_capacity(calls.len());
        for (call, width) in calls.iter().zip(widths) {
            let source = match call {
                Expr::SetCall(call) => Source::Set(SetSite::new(builder, call)?),
                scalar => Source::Scalar {
                    code: builder.compile(scalar)?,
                    record: scalar.ty().oid == oid::RECORD || *width != 1,
                },
            };
            sources.push((source, *width));
        }
        Ok(FunctionScan {
            width: widths.iter().sum::<usize>() + usize::from(ordinality),
            sources,
            ordinality,
            running: None,
            number: 0,
        })
    }
}

impl Step for FunctionScan {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.width;
        state.context.cancel.check()?;
        if self.running.is_none() {
            let mut running = Vec::with_capacity(self.sources.len());
            for (source, _) in &mut self.sources {
                running.push(match source {
                    Source::Set(site) => site.start(state, &[])?.map_or(Running::Ended, Running::Set),
                    Source::Scalar { code, record } => match code.eval(state, &[])? {
                        Datum::Record(fields) if *record => Running::Row(fields.fields.clone()),
                        value => Running::Row(vec![value]),
                    },
                });
            }
            self.running = Some(running);
            self.number = 0;
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        while out.count < max {
            let start = out.values.len();
            let mut any = false;
            for (running, (_, width)) in running.iter_mut().zip(&self.sources) {
                let row = match running {
                    Running::Set(rows) => rows.next().transpose()?,
                    Running::Row(row) => Some(std::mem::take(row)),
                    Running::Ended => None,
                };
                let end = out.values.len() + width;
                match row {
                    Some(mut row) => {
                        any = true;
                        // A composite result in one value, asked for by columns.
                        if *width > 1
                            && let [Datum::Record(record)] = &row[..]
                        {
                            row = record.fields.clone();
                        }
                        out.values.extend(row.into_iter().take(*width));
                        if matches!(running, Running::Row(_)) {
                            *running = Running::Ended;
                        }
                    }
                    None => *running = Running::Ended,
                }
                out.values.resize(end, Datum::Null);
            }
            if !any {
                out.values.truncate(start);
                return Ok(());
            }
            if self.ordinality {
                self.number += 1;
                out.values.push(Datum::Int8(self.number));
            }
            out.count += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.running = None;
        Ok(())
    }
}
