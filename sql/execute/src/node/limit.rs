//! LIMIT, OFFSET, FETCH FIRST .. WITH TIES. Asks its input for no more rows than it needs.

use plan::ir::{Node, Order};
use resolve::tree::Expr;
use value::{Datum, Error, Result, SqlState};

use super::{BATCH, Builder, Input, Step};
use crate::code::Code;
use crate::rows::{self, KeyOrder, Rows};
use crate::state::State;

pub(crate) struct Limit {
    input: Input,
    limit: Option<Code>,
    offset: Option<Code>,
    ties: Option<(Vec<Code>, Vec<KeyOrder>)>,
    columns: usize,
    /// Rows still to be skipped and still to be given; `None`: not evaluated yet.
    counts: Option<(u64, u64)>,
    /// Keys of the last row within the limit.
    last: Option<Vec<Datum>>,
}

impl Limit {
    pub fn new(
        builder: &Builder<'_>,
        input: &Node,
        limit: Option<&Expr>,
        offset: Option<&Expr>,
        ties: Option<&[Order]>,
    ) -> Result<Limit> {
        Ok(Limit {
            input: builder.input(input)?,
            limit: builder.maybe(limit)?,
            offset: builder.maybe(offset)?,
            ties: ties.map(|ties| builder.orders(ties)).transpose()?,
            columns: input.types.len(),
            counts: None,
            last: None,
        })
    }

    fn count(code: &mut Option<Code>, state: &mut State) -> Result<Option<i64>> {
        let Some(code) = code else { return Ok(None) };
        match code.eval(state, &[])? {
            Datum::Null => Ok(None),
            Datum::Int8(count) => Ok(Some(count)),
            Datum::Int4(count) => Ok(Some(i64::from(count))),
            other => Err(Error::internal(format!("a LIMIT of {other:?}"))),
        }
    }

    fn open(&mut self, state: &mut State) -> Result<(u64, u64)> {
        if let Some(counts) = self.counts {
            return Ok(counts);
        }
        let offset = match Limit::count(&mut self.offset, state)? {
            Some(count) => u64::try_from(count).map_err(|_| {
                Error::new(SqlState::INVALID_ROW_COUNT_IN_OFFSET, "OFFSET must not be negative")
            })?,
            None => 0,
        };
        let limit = match Limit::count(&mut self.limit, state)? {
            Some(count) => u64::try_from(count).map_err(|_| {
                Error::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT, "LIMIT must not be negative")
            })?,
            None if self.ties.is_some() => {
                return Err(Error::new(
                    SqlState::INVALID_ROW_COUNT_IN_LIMIT,
                    "row count cannot be null in FETCH FIRST ... WITH TIES clause",
                ));
            }
            None => u64::MAX,
        };
        self.counts = Some((offset, limit));
        Ok((offset, limit))
    }

    fn keys(ties: &mut (Vec<Code>, Vec<KeyOrder>), state: &mut State, row: &[Datum]) -> Result<Vec<Datum>> {
        ties.0.iter_mut().map(|code| code.eval(state, row)).collect()
    }
}

impl Step for Limit {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.columns;
        let (mut skip, mut left) = self.open(state)?;
        while left > 0 && out.count < max {
            if self.input.at >= self.input.batch.count && !out.is_empty() {
                break;
            }
            let want = skip.saturating_add(left).min(max.max(BATCH.min(skip as usize)) as u64) as usize;
            if !self.input.fill(state, want)? {
                return Ok(());
            }
            let available = (self.input.batch.count - self.input.at) as u64;
            if skip > 0 {
                let skipped = available.min(skip);
                self.input.at += skipped as usize;
                skip -= skipped;
                self.counts = Some((skip, left));
                continue;
            }
            let given = available.min(left).min((max - out.count) as u64) as usize;
            let (start, end) = (self.input.at * self.columns, (self.input.at + given) * self.columns);
            out.values.extend(self.input.batch.values[start..end].iter_mut().map(std::mem::take));
            out.count += given;
            self.input.at += given;
            left -= given as u64;
            self.counts = Some((skip, left));
            if left == 0
                && let Some(ties) = &mut self.ties
            {
                self.last = Some(Limit::keys(ties, state, out.row(out.count - 1))?);
            }
        }
        if left > 0 || !out.is_empty() {
            return Ok(());
        }
        let (Some(ties), Some(last)) = (&mut self.ties, &self.last) else { return Ok(()) };
        if self.input.fill(state, max)? {
            let row = self.input.batch.row(self.input.at);
            let keys = Limit::keys(ties, state, row)?;
            if rows::compare_keys(&ties.1, &keys, last).is_eq() {
                out.push(row);
                self.input.advance();
            } else {
                self.last = None;
            }
        }
        Ok(())
    }

    fn rescan(&mut self, state: &mut State) -> Result<()> {
        self.counts = None;
        self.last = None;
        self.input.rescan(state)
    }
}
