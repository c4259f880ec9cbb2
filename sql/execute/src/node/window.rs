//! Window functions: the input is read whole and sorted, then answered partition by partition.
//!
//! For each row a frame is a range of positions in its partition, less what EXCLUDE takes out. Ranges only move
//! forward, so an aggregate adds what comes in, and removes what falls out if it knows how; else it starts over.

use std::cmp::Ordering;

use function::{Accumulator, Signature, WindowKind};
use plan::ir::{WindowStep, WindowStepCall};
use resolve::tree::{FrameBound, FrameExclude, FrameUnit, WindowTarget};
use value::{Datum, Error, Numeric, Oid, Result, SqlState, datetime};

use super::sort::Sorter;
use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::context::Reserved;
use crate::rows::{self, KeyOrder, Rows};
use crate::state::State;

enum Bound {
    UnboundedPreceding,
    Preceding(Code),
    CurrentRow,
    Following(Code),
    UnboundedFollowing,
}

/// An offset of a frame bound, evaluated.
#[derive(Clone)]
enum Offset {
    None,
    Count(usize),
    Value(Datum),
}

struct Call {
    target: WindowTarget,
    args: Vec<Code>,
    filter: Option<Code>,
    signature: Signature,
}

pub(crate) struct WindowNode {
    input: Input,
    partition: Vec<Code>,
    order: Vec<Code>,
    order_types: Vec<KeyOrder>,
    unit: FrameUnit,
    start: Bound,
    end: Bound,
    exclude: FrameExclude,
    calls: Vec<Call>,
    sorter: Sorter,
    /// Row numbers in output order, and per call the value for each of them.
    sorted: Vec<u32>,
    results: Vec<Vec<Datum>>,
    memory: Reserved,
    built: bool,
    at: usize,
    keep: bool,
}

/// One partition while it is worked on: positions are `first..first + len` of the sorted rows.
struct Partition {
    first: usize,
    len: usize,
    /// For each position, the number of its peer group, and the start of each group (with the end as a sentinel).
    group: Vec<u32>,
    starts: Vec<usize>,
}

impl Partition {
    fn peers(&self, at: usize) -> (usize, usize) {
        let group = self.group[at] as usize;
        (self.starts[group], self.starts[group + 1])
    }
}

impl WindowNode {
    pub fn new(builder: &Builder<'_>, window: &WindowStep) -> Result<WindowNode> {
        WindowNode::over(builder, window, builder.input(&window.input)?, window.input.types.len())
    }

    /// Over an input of `width` slots, among them the window's own input's.
    pub fn over(
        builder: &Builder<'_>,
        window: &WindowStep,
        input: Input,
        width: usize,
    ) -> Result<WindowNode> {
        let bound = |bound: &FrameBound| -> Result<Bound> {
            Ok(match bound {
                FrameBound::UnboundedPreceding => Bound::UnboundedPreceding,
                FrameBound::Preceding(expr) => Bound::Preceding(builder.compile(expr)?),
                FrameBound::CurrentRow => Bound::CurrentRow,
                FrameBound::Following(expr) => Bound::Following(builder.compile(expr)?),
                FrameBound::UnboundedFollowing => Bound::UnboundedFollowing,
            })
        };
        let (order, order_types) = builder.orders(&window.order_by)?;
        let mut keys: Vec<KeyOrder> = window
            .partition_by
            .iter()
            .map(|expr| KeyOrder { ty: expr.ty().oid, descending: false, nulls_first: false })
            .collect();
        keys.extend(order_types.iter().copied());
        let calls = window.calls.iter().map(|call| Call::new(builder, call)).collect::<Result<Vec<_>>>()?;
        Ok(WindowNode {
            input,
            partition: builder.list(&window.partition_by)?,
            order,
            order_types,
            unit: window.frame.unit,
            start: bound(&window.frame.start)?,
            end: bound(&window.frame.end)?,
            exclude: window.frame.exclude,
            sorter: Sorter::new(width, keys, None),
            sorted: Vec::new(),
            results: Vec::new(),
            memory: Reserved::new(&builder.context.memory),
            built: false,
            at: 0,
            keep: builder.kept(&window.input),
            calls,
        })
    }

    fn collect(&mut self, state: &mut State) -> Result<()> {
        while self.input.fill(state, BATCH)? {
            state.context.cancel.check()?;
            while self.input.at < self.input.batch.count {
                let row = self.input.batch.row(self.input.at);
                let mut keys = Vec::with_capacity(self.partition.len() + self.order.len());
                for code in self.partition.iter_mut().chain(&mut self.order) {
                    keys.push(code.eval(state, row)?);
                }
                self.memory.add(rows::row_size(row) + rows::row_size(&keys) + 8 + 24 * self.calls.len())?;
                let at = self.input.at;
                self.sorter.rows.push_from(self.input.batch.row_mut(at).iter_mut().map(std::mem::take));
                self.sorter.keys.push_from(keys);
                self.input.advance();
            }
        }
        self.sorted = self.sorter.sorted();
        Ok(())
    }

    /// The part of the keys of a sorted position that is ordered by.
    fn order_keys(&self, position: usize) -> &[Datum] {
        &self.sorter.keys.row(self.sorted[position] as usize)[self.partition.len()..]
    }

    fn partition_keys(&self, position: usize) -> &[Datum] {
        &self.sorter.keys.row(self.sorted[position] as usize)[..self.partition.len()]
    }

    fn same_partition(&self, types: &[Oid], a: usize, b: usize) -> bool {
        rows::same_row(types, self.partition_keys(a), self.partition_keys(b))
    }

    fn build(&mut self, state: &mut State) -> Result<()> {
        self.collect(state)?;
        let total = self.sorted.len();
        self.results = self.calls.iter().map(|_| Vec::with_capacity(total)).collect();
        let offsets = [
            Self::offset(&mut self.start, self.unit, state, "starting")?,
            Self::offset(&mut self.end, self.unit, state, "ending")?,
        ];
        let types: Vec<Oid> = self.sorter_types();
        let mut first = 0;
        while first < total {
            state.context.cancel.check()?;
            let mut end = first + 1;
            while end < total && self.same_partition(&types, first, end) {
                end += 1;
            }
            let mut partition = Partition { first, len: end - first, group: Vec::new(), starts: vec![0] };
            for at in 0..partition.len {
                if at > 0
                    && rows::compare_keys(
                        &self.order_types,
                        self.order_keys(first + at - 1),
                        self.order_keys(first + at),
                    )
                    .is_ne()
                {
                    partition.starts.push(at);
                }
                partition.group.push(partition.starts.len() as u32 - 1);
            }
            partition.starts.push(partition.len);
            self.answer(state, &partition, &offsets)?;
            first = end;
        }
        self.built = true;
        Ok(())
    }

    fn sorter_types(&self) -> Vec<Oid> {
        self.sorter.key_types()[..self.partition.len()].to_vec()
    }

    /// Offsets have no columns in them: one value for all rows.
    fn offset(bound: &mut Bound, unit: FrameUnit, state: &mut State, which: &str) -> Result<Offset> {
        let (Bound::Preceding(code) | Bound::Following(code)) = bound else { return Ok(Offset::None) };
        let value = code.eval(state, &[])?;
        if value.is_null() {
            return Err(Error::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                format!("frame {which} offset must not be null"),
            ));
        }
        if unit == FrameUnit::Range {
            let negative = match &value {
                Datum::Int2(v) => *v < 0,
                Datum::Int4(v) => *v < 0,
                Datum::Int8(v) => *v < 0,
                Datum::Float8(v) => *v < 0.0 || v.is_nan(),
                Datum::Float4(v) => *v < 0.0 || v.is_nan(),
                Datum::Numeric(v) => v.signum() < 0 || v.is_nan(),
                Datum::Interval(v) => v.comparison_key() < 0,
                _ => false,
            };
            if negative {
                return Err(Error::new(
                    SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
                    "invalid preceding or following size in window function",
                ));
            }
            return Ok(Offset::Value(value));
        }
        let count = match value {
            Datum::Int8(v) => v,
            Datum::Int4(v) => i64::from(v),
            other => return Err(Error::internal(format!("a frame offset of {other:?}"))),
        };
        let count = u64::try_from(count).map_err(|_| {
            Error::new(
                SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
                format!("frame {which} offset must not be negative"),
            )
        })?;
        Ok(Offset::Count(usize::try_from(count).unwrap_or(usize::MAX)))
    }

    /// The frame of a position, as positions within the partition, before EXCLUDE.
    fn frame(&self, partition: &Partition, at: usize, offsets: &[Offset; 2]) -> Result<(usize, usize)> {
        let start = self.edge(partition, at, &self.start, &offsets[0], false)?;
        let end = self.edge(partition, at, &self.end, &offsets[1], true)?;
        Ok((start, end.max(start)))
    }

    /// Where a bound lies: the first position of the frame, or the one after its last.
    fn edge(
        &self,
        partition: &Partition,
        at: usize,
        bound: &Bound,
        offset: &Offset,
        end: bool,
    ) -> Result<usize> {
        let len = partition.len;
        let (forward, count) = match (bound, offset) {
            (Bound::UnboundedPreceding, _) => return Ok(0),
            (Bound::UnboundedFollowing, _) => return Ok(len),
            (Bound::CurrentRow, _) => {
                if self.unit == FrameUnit::Rows {
                    return Ok(at + usize::from(end));
                }
                let (first, last) = partition.peers(at);
                return Ok(if end { last } else { first });
            }
            (Bound::Preceding(_), Offset::Value(value)) => {
                return self.range_edge(partition, at, value, false, end);
            }
            (Bound::Following(_), Offset::Value(value)) => {
                return self.range_edge(partition, at, value, true, end);
            }
            (Bound::Preceding(_), Offset::Count(count)) => (false, *count),
            (Bound::Following(_), Offset::Count(count)) => (true, *count),
            (_, Offset::None) => return Err(Error::internal("a frame bound without its offset")),
        };
        Ok(match self.unit {
            FrameUnit::Rows => {
                let position = if forward {
                    at.saturating_add(count).saturating_add(usize::from(end))
                } else {
                    (at + usize::from(end)).saturating_sub(count)
                };
                position.min(len)
            }
            _ => {
                let group = partition.group[at] as usize;
                let groups = partition.starts.len() - 1;
                let target = if forward { group.checked_add(count) } else { group.checked_sub(count) };
                match target {
                    Some(target) if target < groups => partition.starts[target + usize::from(end)],
                    Some(_) => len,
                    None if forward => len,
                    None => 0,
                }
            }
        })
    }

    /// A bound `value PRECEDING/FOLLOWING` of RANGE: by the one ORDER BY key.
    fn range_edge(
        &self,
        partition: &Partition,
        at: usize,
        offset: &Datum,
        forward: bool,
        end: bool,
    ) -> Result<usize> {
        let key = &self.order_keys(partition.first + at)[0];
        let order = self.order_types[0];
        if key.is_null() {
            // NULLs are a frame of their own.
            let (first, last) = partition.peers(at);
            return Ok(if end { last } else { first });
        }
        // In a descending order "preceding" means larger.
        let limit = shift(key, offset, forward != order.descending)?;
        let is_null = |position: usize| self.order_keys(partition.first + position)[0].is_null();
        // NULLs stand at one end: search among the rest.
        let (mut low, mut high) = (0, partition.len);
        if order.nulls_first {
            low = partition_point(low, high, is_null);
        } else {
            high = partition_point(low, high, |position| !is_null(position));
        }
        let mut failure = None;
        let found = partition_point(low, high, |position| {
            let ordering = match limit.compare(&self.order_keys(partition.first + position)[0]) {
                Ok(ordering) => ordering.reverse(),
                Err(error) => {
                    failure.get_or_insert(error);
                    Ordering::Equal
                }
            };
            let ordering = if order.descending { ordering.reverse() } else { ordering };
            // Before the edge: rows less than the limit, for an end the equal ones too.
            if end { ordering.is_le() } else { ordering.is_lt() }
        });
        low = found;
        match failure {
            Some(error) => Err(error),
            None => Ok(low),
        }
    }

    /// Whether EXCLUDE takes a position out of the frame of row `at`.
    fn excluded(&self, partition: &Partition, at: usize, position: usize) -> bool {
        match self.exclude {
            FrameExclude::NoOthers => false,
            FrameExclude::CurrentRow => position == at,
            FrameExclude::Group => partition.group[position] == partition.group[at],
            FrameExclude::Ties => position != at && partition.group[position] == partition.group[at],
        }
    }

    fn answer(&mut self, state: &mut State, partition: &Partition, offsets: &[Offset; 2]) -> Result<()> {
        let mut calls = std::mem::take(&mut self.calls);
        let mut outcome = Ok(());
        for (number, call) in calls.iter_mut().enumerate() {
            let mut values = std::mem::take(&mut self.results[number]);
            outcome = match call.target {
                WindowTarget::Function(function) => {
                    self.function(state, call, function.kind, partition, offsets, &mut values)
                }
                WindowTarget::Aggregate(aggregate) => {
                    self.aggregate(state, call, aggregate, partition, offsets, &mut values)
                }
            };
            self.results[number] = values;
            if outcome.is_err() {
                break;
            }
        }
        self.calls = calls;
        outcome
    }

    fn row(&self, position: usize) -> &[Datum] {
        self.sorter.rows.row(self.sorted[position] as usize)
    }

    fn function(
        &self,
        state: &mut State,
        call: &mut Call,
        kind: WindowKind,
        partition: &Partition,
        offsets: &[Offset; 2],
        values: &mut Vec<Datum>,
    ) -> Result<()> {
        let len = partition.len;
        let mut buckets = None;
        for at in 0..len {
            if at % 1024 == 1023 {
                state.context.cancel.check()?;
            }
            let position = partition.first + at;
            let value = match kind {
                WindowKind::RowNumber => Datum::Int8(at as i64 + 1),
                WindowKind::Rank => Datum::Int8(partition.peers(at).0 as i64 + 1),
                WindowKind::DenseRank => Datum::Int8(i64::from(partition.group[at]) + 1),
                WindowKind::PercentRank => {
                    Datum::Float8(if len > 1 { partition.peers(at).0 as f64 / (len - 1) as f64 } else { 0.0 })
                }
                WindowKind::CumeDist => Datum::Float8(partition.peers(at).1 as f64 / len as f64),
                WindowKind::Ntile => {
                    if buckets.is_none() {
                        buckets = Some(self.eval(state, call, 0, position)?);
                    }
                    match buckets.as_ref().map(whole) {
                        Some(Some(buckets)) if buckets > 0 => Datum::Int4(ntile(at, len, buckets as usize)),
                        Some(Some(_)) => {
                            return Err(Error::new(
                                SqlState::INVALID_ARGUMENT_FOR_NTILE,
                                "argument of ntile must be greater than zero",
                            ));
                        }
                        _ => Datum::Null,
                    }
                }
                WindowKind::Lag | WindowKind::Lead => {
                    let distance = if call.args.len() > 1 {
                        whole(&self.eval(state, call, 1, position)?)
                    } else {
                        Some(1)
                    };
                    match distance {
                        None => Datum::Null,
                        Some(distance) => {
                            let distance = if kind == WindowKind::Lag { -distance } else { distance };
                            let target = at as i64 + distance;
                            if (0..len as i64).contains(&target) {
                                self.eval(state, call, 0, partition.first + target as usize)?
                            } else if call.args.len() > 2 {
                                self.eval(state, call, 2, position)?
                            } else {
                                Datum::Null
                            }
                        }
                    }
                }
                WindowKind::FirstValue | WindowKind::LastValue | WindowKind::NthValue => {
                    let mut skip = 0;
                    if kind == WindowKind::NthValue {
                        match whole(&self.eval(state, call, 1, position)?) {
                            None => {
                                values.push(Datum::Null);
                                continue;
                            }
                            Some(n) if n > 0 => skip = n as usize - 1,
                            Some(_) => {
                                return Err(Error::new(
                                    SqlState::INVALID_ARGUMENT_FOR_NTH_VALUE,
                                    "argument of nth_value must be greater than zero",
                                ));
                            }
                        }
                    }
                    let (start, end) = self.frame(partition, at, offsets)?;
                    let target = if self.exclude == FrameExclude::NoOthers {
                        match kind {
                            WindowKind::LastValue => end.checked_sub(1).filter(|last| *last >= start),
                            _ => start.checked_add(skip).filter(|target| *target < end),
                        }
                    } else {
                        let mut kept =
                            (start..end).filter(|position| !self.excluded(partition, at, *position));
                        match kind {
                            WindowKind::LastValue => kept.next_back(),
                            _ => kept.nth(skip),
                        }
                    };
                    match target {
                        Some(target) => self.eval(state, call, 0, partition.first + target)?,
                        None => Datum::Null,
                    }
                }
            };
            values.push(value);
        }
        Ok(())
    }

    fn eval(&self, state: &mut State, call: &mut Call, arg: usize, position: usize) -> Result<Datum> {
        match call.args.get_mut(arg) {
            Some(code) => code.eval(state, self.row(position)),
            None => Ok(Datum::Null),
        }
    }

    /// The arguments of the aggregate for a row; `None`: the row is filtered out or has a NULL.
    fn arguments(
        &self,
        state: &mut State,
        call: &mut Call,
        aggregate: &function::Aggregate,
        position: usize,
    ) -> Result<Option<Vec<Datum>>> {
        let row = self.row(position);
        if let Some(filter) = &mut call.filter
            && !filter.accepts(state, row)?
        {
            return Ok(None);
        }
        let mut args = Vec::with_capacity(call.args.len());
        for code in &mut call.args {
            args.push(code.eval(state, row)?);
        }
        Ok(if aggregate.strict && args.iter().any(Datum::is_null) { None } else { Some(args) })
    }

    fn aggregate(
        &self,
        state: &mut State,
        call: &mut Call,
        aggregate: &'static function::Aggregate,
        partition: &Partition,
        offsets: &[Offset; 2],
        values: &mut Vec<Datum>,
    ) -> Result<()> {
        let mut accumulator: Box<dyn Accumulator> = (aggregate.start)(&call.signature, state.env());
        // Positions start..end are in the accumulator.
        let (mut start, mut end) = (0, 0);
        let mut last: Option<Datum> = None;
        let mut removable = true;
        let mut added: usize = 0;
        for at in 0..partition.len {
            if at % 256 == 255 {
                state.context.cancel.check()?;
            }
            let (first, past) = self.frame(partition, at, offsets)?;
            if self.exclude != FrameExclude::NoOthers {
                accumulator.reset();
                for position in first..past {
                    if !self.excluded(partition, at, position)
                        && let Some(args) =
                            self.arguments(state, call, aggregate, partition.first + position)?
                    {
                        accumulator.add(&args)?;
                    }
                }
                values.push(accumulator.finish()?);
                continue;
            }
            if first == start
                && past == end
                && let Some(value) = &last
            {
                values.push(value.clone());
                continue;
            }
            let mut restart = first < start || past < end || first >= end;
            if !restart && first > start {
                // What has fallen out of the frame.
                while removable && start < first {
                    if let Some(args) = self.arguments(state, call, aggregate, partition.first + start)? {
                        removable = accumulator.remove(&args)?;
                        added -= usize::from(removable);
                    }
                    if removable {
                        start += 1;
                    }
                }
                restart = start < first || added == 0;
            }
            if restart {
                accumulator.reset();
                added = 0;
                start = first;
                end = first;
            }
            while end < past {
                if end % 1024 == 1023 {
                    state.context.cancel.check()?;
                }
                if let Some(args) = self.arguments(state, call, aggregate, partition.first + end)? {
                    accumulator.add(&args)?;
                    added += 1;
                }
                end += 1;
            }
            let value = accumulator.finish()?;
            values.push(value.clone());
            last = Some(value);
        }
        Ok(())
    }
}

impl Call {
    fn new(builder: &Builder<'_>, call: &WindowStepCall) -> Result<Call> {
        Ok(Call {
            target: call.function,
            args: builder.list(&call.args)?,
            filter: builder.maybe(call.filter.as_ref())?,
            signature: Signature {
                args: call.args.iter().map(resolve::tree::Expr::ty).collect(),
                result: call.ty,
            },
        })
    }
}

fn whole(value: &Datum) -> Option<i64> {
    match value {
        Datum::Int4(v) => Some(i64::from(*v)),
        Datum::Int8(v) => Some(*v),
        Datum::Int2(v) => Some(i64::from(*v)),
        _ => None,
    }
}

/// The bucket (from 1) of position `at`: the first `len % buckets` buckets have one row more.
fn ntile(at: usize, len: usize, buckets: usize) -> i32 {
    let (size, larger) = (len / buckets, len % buckets);
    let bucket = if at < larger * (size + 1) {
        at / (size + 1)
    } else {
        larger + (at - larger * (size + 1)) / size.max(1)
    };
    bucket as i32 + 1
}

/// The first position in `low..high` for which `before` is false; it is true for a prefix.
fn partition_point(mut low: usize, mut high: usize, mut before: impl FnMut(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A key moved by an offset. Integers do not overflow here: a limit may lie outside of the type.
enum Limit {
    Whole(i128),
    Float(f64),
    Numeric(Numeric),
    Value(Datum),
}

impl Limit {
    /// How the limit compares with a key.
    fn compare(&self, key: &Datum) -> Result<Ordering> {
        Ok(match (self, key) {
            (Limit::Whole(limit), key) => limit.cmp(&i128::from(whole(key).unwrap_or_default())),
            (Limit::Float(limit), Datum::Float8(key)) => float_order(*limit, *key),
            (Limit::Float(limit), Datum::Float4(key)) => float_order(*limit, f64::from(*key)),
            (Limit::Numeric(limit), Datum::Numeric(key)) => limit.cmp(key),
            // A date moved by an interval is a timestamp.
            (Limit::Value(Datum::Timestamp(limit)), Datum::Date(key)) => {
                limit.cmp(&datetime::date_to_timestamp(*key)?)
            }
            (Limit::Value(limit), key) => value::compare::compare(limit, key),
            (_, key) => return Err(Error::internal(format!("a RANGE frame over {key:?}"))),
        })
    }
}

fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn shift(key: &Datum, offset: &Datum, up: bool) -> Result<Limit> {
    let sign = |value: f64| if up { value } else { -value };
    Ok(match (key, offset) {
        (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_), offset) if whole(offset).is_some() => {
            let (key, offset) =
                (i128::from(whole(key).unwrap_or_default()), i128::from(whole(offset).unwrap_or_default()));
            Limit::Whole(if up { key + offset } else { key - offset })
        }
        (Datum::Float8(key), Datum::Float8(offset)) => Limit::Float(key + sign(*offset)),
        (Datum::Float4(key), Datum::Float8(offset)) => Limit::Float(f64::from(*key) + sign(*offset)),
        (Datum::Float4(key), Datum::Float4(offset)) => {
            Limit::Float(f64::from(*key) + sign(f64::from(*offset)))
        }
        (Datum::Numeric(key), Datum::Numeric(offset)) => {
            Limit::Numeric(if up { key.add(offset)? } else { key.sub(offset)? })
        }
        (key, Datum::Interval(interval)) => {
            let interval = if up { *interval } else { interval.negate()? };
            Limit::Value(match key {
                Datum::Date(date) => Datum::Timestamp(datetime::timestamp_plus_interval(
                    datetime::date_to_timestamp(*date)?,
                    interval,
                )?),
                Datum::Timestamp(time) => {
                    Datum::Timestamp(datetime::timestamp_plus_interval(*time, interval)?)
                }
                Datum::TimestampTz(time) => Datum::TimestampTz(datetime::timestamptz_plus_interval(
                    *time,
                    interval,
                    &datetime::TimeZone::UTC,
                )?),
                Datum::Time(time) => {
                    // Without wrapping around midnight: the edge of the day is the edge of the frame.
                    let moved = time.saturating_add(interval.micros);
                    Datum::Time(moved)
                }
                Datum::Interval(value) => Datum::Interval(value.checked_add(interval)?),
                other => return Err(range_unsupported(other)),
            })
        }
        (key, _) => return Err(range_unsupported(key)),
    })
}

fn range_unsupported(key: &Datum) -> Error {
    Error::unsupported(
        format!("RANGE with offset PRECEDING/FOLLOWING over {key:?} with this type of offset"),
        "Cast the offset value to an appropriate type.",
    )
}

impl Step for WindowNode {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.sorter.rows.columns + self.calls.len();
        if !self.built {
            self.build(state)?;
        }
        while out.count < max && self.at < self.sorted.len() {
            let row = self.sorted[self.at] as usize;
            if self.keep {
                out.values.extend_from_slice(self.sorter.rows.row(row));
                out.values.extend(self.results.iter().map(|values| values[self.at].clone()));
            } else {
                out.values.extend(self.sorter.rows.row_mut(row).iter_mut().map(std::mem::take));
                out.values.extend(self.results.iter_mut().map(|values| std::mem::take(&mut values[self.at])));
            }
            out.count += 1;
            self.at += 1;
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.at = 0;
        if self.keep && self.built {
            return Ok(());
        }
        self.built = false;
        self.sorter.clear();
        self.sorted.clear();
        self.results.clear();
        self.memory.clear();
        self.input.rescan(state)
    }
}
