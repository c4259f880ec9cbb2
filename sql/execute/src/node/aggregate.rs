//! Grouping by hash, any number of grouping sets in one pass.
//!
//! A group's accumulators stand in one flat vector (`group * calls + call`). Counts and sums of machine integers are kept
//! in place; DISTINCT, ORDER BY and WITHIN GROUP collect their rows first and feed the accumulator at the end.

use function::{AggregateKind, Signature};
use plan::ir::{AggregateStep, Aggregation};
use value::types::oid;
use value::{Datum, Error, Oid, Result, SqlState};

use super::sort::Sorter;
use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::context::Reserved;
use crate::rows::{self, Index, KeyOrder, Rows};
use crate::state::State;

/// The state of one aggregate in one group.
enum Accumulator {
    Count(i64),
    /// sum(int4) and sum(int2): int8; `None` until a row came.
    Sum(Option<i64>),
    Boxed(Box<dyn function::Accumulator>),
    Collected(Box<Collected>),
}

/// Rows of arguments to be fed in order, each once for DISTINCT.
struct Collected {
    rows: Sorter,
    /// DISTINCT: arguments seen.
    seen: Index,
    /// Values of the direct arguments, from the group's first row.
    direct: Option<Vec<Datum>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Count,
    Sum,
    Boxed,
    Collected,
}

struct Call {
    aggregate: &'static function::Aggregate,
    way: Way,
    args: Vec<Code>,
    direct: Vec<Code>,
    distinct: bool,
    arg_types: Vec<Oid>,
    order: Vec<Code>,
    orders: Vec<KeyOrder>,
    /// The order of the collected rows matters.
    sorted: bool,
    within_group: bool,
    /// Its state grows with every row.
    grows: bool,
    filter: Option<Code>,
    signature: Signature,
}

impl Call {
    fn new(builder: &Builder<'_>, step: &AggregateStep) -> Result<Call> {
        let within_group = matches!(step.aggregate.kind, AggregateKind::OrderedSet { .. });
        let (order, mut orders) = builder.orders(&step.order_by)?;
        let arg_types: Vec<Oid> = step.args.iter().map(|arg| arg.ty().oid).collect();
        let mut types: Vec<value::Type> = step.direct_args.iter().map(resolve::tree::Expr::ty).collect();
        types.extend(step.args.iter().map(resolve::tree::Expr::ty));
        if within_group && step.args.is_empty() {
            types.extend(step.order_by.iter().map(|order| order.expr.ty()));
        }
        let distinct = step.distinct && step.aggregate.duplicates_matter;
        let name = step.aggregate.name;
        let sensitive =
            matches!(name, "array_agg" | "string_agg") || name.starts_with("json") || within_group;
        let sorted = sensitive && (distinct || !orders.is_empty());
        let way = if within_group || distinct || (sensitive && !orders.is_empty()) {
            Way::Collected
        } else if name == "count" && step.args.len() <= 1 {
            Way::Count
        } else if name == "sum" && matches!(arg_types[..], [oid::INT4] | [oid::INT2]) {
            Way::Sum
        } else {
            Way::Boxed
        };
        if distinct {
            // PostgreSQL sorts for DISTINCT: first as asked, then by the arguments themselves.
            orders.extend(arg_types.iter().map(|ty| KeyOrder {
                ty: *ty,
                descending: false,
                nulls_first: false,
            }));
        }
        Ok(Call {
            aggregate: step.aggregate,
            way,
            args: builder.list(&step.args)?,
            direct: builder.list(&step.direct_args)?,
            distinct,
            arg_types,
            order,
            orders,
            sorted,
            within_group,
            grows: sensitive,
            filter: builder.maybe(step.filter.as_ref())?,
            signature: Signature { args: types, result: step.ty },
        })
    }

    fn start(&self, state: &State) -> Accumulator {
        match self.way {
            Way::Count => Accumulator::Count(0),
            Way::Sum => Accumulator::Sum(None),
            Way::Boxed => Accumulator::Boxed((self.aggregate.start)(&self.signature, state.env())),
            Way::Collected => {
                let columns = if self.within_group { self.order.len() } else { self.args.len() };
                Accumulator::Collected(Box::new(Collected {
                    rows: Sorter::new(columns, self.orders.clone(), None),
                    seen: Index::default(),
                    direct: None,
                }))
            }
        }
    }

    /// Adds one input row.
    #[inline]
    fn add(
        &mut self,
        accumulator: &mut Accumulator,
        state: &mut State,
        row: &[Datum],
        memory: &mut Reserved,
    ) -> Result<()> {
        if let Some(filter) = &mut self.filter
            && !filter.accepts(state, row)?
        {
            return Ok(());
        }
        match accumulator {
            Accumulator::Count(count) => {
                let counts = match &mut self.args[..] {
                    [] => true,
                    [arg, ..] => {
                        let mut spare = Datum::Null;
                        !arg.get(state, row, &mut spare)?.is_null()
                    }
                };
                *count += i64::from(counts);
                Ok(())
            }
            Accumulator::Sum(sum) => {
                let mut spare = Datum::Null;
                let value = match self.args[0].get(state, row, &mut spare)? {
                    Datum::Int4(value) => i64::from(*value),
                    Datum::Int2(value) => i64::from(*value),
                    _ => return Ok(()),
                };
                let total = sum
                    .unwrap_or(0)
                    .checked_add(value)
                    .ok_or_else(|| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))?;
                *sum = Some(total);
                Ok(())
            }
            Accumulator::Boxed(boxed) => match &mut self.args[..] {
                [arg] => {
                    let mut spare = Datum::Null;
                    let value = arg.get(state, row, &mut spare)?;
                    if self.aggregate.strict && value.is_null() {
                        return Ok(());
                    }
                    if self.grows {
                        memory.add(rows::row_size(std::slice::from_ref(value)))?;
                    }
                    boxed.add(std::slice::from_ref(value))
                }
                args => {
                    let mut values = Vec::with_capacity(args.len());
                    for arg in args {
                        values.push(arg.eval(state, row)?);
                    }
                    if self.aggregate.strict && values.iter().any(Datum::is_null) {
                        return Ok(());
                    }
                    if self.grows {
                        memory.add(rows::row_size(&values))?;
                    }
                    boxed.add(&values)
                }
            },
            Accumulator::Collected(collected) => self.collect(collected, state, row, memory),
        }
    }

    fn collect(
        &mut self,
        collected: &mut Collected,
        state: &mut State,
        row: &[Datum],
        memory: &mut Reserved,
    ) -> Result<()> {
        if collected.direct.is_none() {
            let values =
                self.direct.iter_mut().map(|code| code.eval(state, row)).collect::<Result<Vec<Datum>>>()?;
            collected.direct = Some(values);
        }
        let evaluate = |codes: &mut [Code], state: &mut State| -> Result<Vec<Datum>> {
            codes.iter_mut().map(|code| code.eval(state, row)).collect()
        };
        let mut keys = evaluate(&mut self.order, state)?;
        let values = if self.within_group { keys.clone() } else { evaluate(&mut self.args, state)? };
        if self.aggregate.strict && values.iter().any(Datum::is_null) {
            return Ok(());
        }
        if self.distinct {
            let hash = rows::hash_row(&self.arg_types, &values);
            let known = collected
                .seen
                .find(hash, |entry| rows::same_row(&self.arg_types, &values, collected.rows.rows.row(entry)));
            if known.is_some() {
                return Ok(());
            }
            collected.seen.push(hash);
            keys.extend_from_slice(&values);
        }
        memory.add(rows::row_size(&values) + rows::row_size(&keys) + Index::ENTRY)?;
        collected.rows.rows.push_from(values);
        collected.rows.keys.push_from(keys);
        Ok(())
    }

    /// The value of a group.
    fn finish(&self, accumulator: &mut Accumulator, state: &State) -> Result<Datum> {
        match accumulator {
            Accumulator::Count(count) => Ok(Datum::Int8(*count)),
            Accumulator::Sum(sum) => Ok(sum.map_or(Datum::Null, Datum::Int8)),
            Accumulator::Boxed(boxed) => boxed.finish(),
            Accumulator::Collected(collected) => {
                let mut target = (self.aggregate.start)(&self.signature, state.env());
                let direct = collected.direct.take().unwrap_or_default();
                let mut args = direct.clone();
                let count = collected.rows.rows.count;
                let order: Vec<u32> =
                    if self.sorted { collected.rows.sorted() } else { (0..count as u32).collect() };
                for (number, row) in order.into_iter().enumerate() {
                    if number % 1024 == 1023 {
                        state.context.cancel.check()?;
                    }
                    let row = collected.rows.rows.row(row as usize);
                    if direct.is_empty() {
                        target.add(row)?;
                    } else {
                        args.truncate(direct.len());
                        args.extend_from_slice(row);
                        target.add(&args)?;
                    }
                }
                target.finish()
            }
        }
    }
}

/// The groups of one grouping set.
struct Groups {
    /// Which keys it groups by.
    set: Vec<usize>,
    types: Vec<Oid>,
    index: Index,
    keys: Rows,
    accumulators: Vec<Accumulator>,
    count: usize,
}

pub(crate) struct Aggregate {
    input: Input,
    keys: Vec<Code>,
    calls: Vec<Call>,
    groups: Vec<Groups>,
    /// More than one set: a last slot says which.
    numbered: bool,
    memory: Reserved,
    scratch: Vec<Datum>,
    built: bool,
    at: (usize, usize),
    keep: bool,
    /// Values already given, kept for rescans.
    given: Rows,
    replay: Option<usize>,
}

impl Aggregate {
    pub fn new(builder: &Builder<'_>, aggregation: &Aggregation) -> Result<Aggregate> {
        Aggregate::over(builder, aggregation, builder.input(&aggregation.input)?)
    }

    /// Over an input that is a step already.
    pub fn over(builder: &Builder<'_>, aggregation: &Aggregation, input: Input) -> Result<Aggregate> {
        let key_types: Vec<Oid> = aggregation.keys.iter().map(|key| key.ty().oid).collect();
        let sets = if aggregation.sets.is_empty() { vec![Vec::new()] } else { aggregation.sets.clone() };
        let groups: Vec<Groups> = sets
            .into_iter()
            .map(|set| Groups {
                types: set.iter().map(|key| key_types[*key]).collect(),
                index: Index::default(),
                keys: Rows::new(set.len()),
                accumulators: Vec::new(),
                count: 0,
                set,
            })
            .collect();
        let calls =
            aggregation.aggregates.iter().map(|step| Call::new(builder, step)).collect::<Result<Vec<_>>>()?;
        let numbered = groups.len() > 1;
        let columns = key_types.len() + calls.len() + usize::from(numbered);
        Ok(Aggregate {
            input,
            keys: builder.list(&aggregation.keys)?,
            calls,
            numbered,
            groups,
            memory: Reserved::new(&builder.context.memory),
            scratch: Vec::new(),
            built: false,
            at: (0, 0),
            keep: builder.kept(&aggregation.input),
            given: Rows::new(columns),
            replay: None,
        })
    }

    fn start_group(
        calls: &[Call],
        groups: &mut Groups,
        state: &State,
        memory: &mut Reserved,
    ) -> Result<usize> {
        memory.add(64 * calls.len() + Index::ENTRY)?;
        groups.accumulators.extend(calls.iter().map(|call| call.start(state)));
        groups.count += 1;
        Ok(groups.count - 1)
    }

    fn build(&mut self, state: &mut State) -> Result<()> {
        for groups in &mut self.groups {
            // Without keys there is one group, even over no rows.
            if groups.set.is_empty() && groups.count == 0 {
                Aggregate::start_group(&self.calls, groups, state, &mut self.memory)?;
            }
        }
        while self.input.fill(state, BATCH)? {
            state.context.cancel.check()?;
            while self.input.at < self.input.batch.count {
                let row = self.input.batch.row(self.input.at);
                self.input.at += 1;
                self.scratch.clear();
                for code in &mut self.keys {
                    let value = code.eval(state, row)?;
                    self.scratch.push(value);
                }
                for groups in &mut self.groups {
                    let group = if groups.set.is_empty() {
                        0
                    } else {
                        let mut hash = 0;
                        for (key, ty) in groups.set.iter().zip(&groups.types) {
                            hash = rows::combine(hash, rows::hash_value(*ty, &self.scratch[*key]));
                        }
                        let found = groups.index.find(hash, |entry| {
                            let row = groups.keys.row(entry);
                            groups
                                .set
                                .iter()
                                .zip(&groups.types)
                                .zip(row)
                                .all(|((key, ty), value)| rows::same(*ty, &self.scratch[*key], value))
                        });
                        match found {
                            Some(group) => group,
                            None => {
                                groups.index.push(hash);
                                groups
                                    .keys
                                    .push_from(groups.set.iter().map(|key| self.scratch[*key].clone()));
                                self.memory.add(rows::row_size(&self.scratch))?;
                                Aggregate::start_group(&self.calls, groups, state, &mut self.memory)?
                            }
                        }
                    };
                    let start = group * self.calls.len();
                    for (call, accumulator) in self.calls.iter_mut().zip(&mut groups.accumulators[start..]) {
                        call.add(accumulator, state, row, &mut self.memory)?;
                    }
                }
            }
        }
        self.built = true;
        Ok(())
    }
}

impl Step for Aggregate {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.given.columns;
        if !self.built {
            self.build(state)?;
        }
        if let Some(at) = &mut self.replay {
            while out.count < max && *at < self.given.count {
                out.push(self.given.row(*at));
                *at += 1;
            }
            if !out.is_empty() {
                return Ok(());
            }
        }
        while out.count < max {
            let (set, group) = self.at;
            let Some(groups) = self.groups.get_mut(set) else { break };
            if group >= groups.count {
                self.at = (set + 1, 0);
                continue;
            }
            let start = out.values.len();
            out.values.resize(start + self.keys.len(), Datum::Null);
            if !groups.set.is_empty() {
                for (key, value) in groups.set.iter().zip(groups.keys.row_mut(group)) {
                    out.values[start + key] = std::mem::take(value);
                }
            }
            let first = group * self.calls.len();
            for (call, accumulator) in self.calls.iter().zip(&mut groups.accumulators[first..]) {
                out.values.push(call.finish(accumulator, state)?);
            }
            if self.numbered {
                out.values.push(Datum::Int4(set as i32));
            }
            out.count += 1;
            if self.keep {
                self.given.push(&out.values[start..]);
                if let Some(at) = &mut self.replay {
                    *at = self.given.count;
                }
            }
            self.at.1 += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        if self.keep && self.built {
            // What was given is given again, then the rest.
            self.replay = Some(0);
            return Ok(());
        }
        self.built = false;
        self.at = (0, 0);
        for groups in &mut self.groups {
            groups.index.clear();
            groups.keys.clear();
            groups.accumulators.clear();
            groups.count = 0;
        }
        self.memory.clear();
        self.input.rescan(state)
    }
}
