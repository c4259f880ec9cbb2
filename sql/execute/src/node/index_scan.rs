//! Reads a table through an index: one key range, or one probe for each value of a list, in index order.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use engine::catalog::{Index, Table};
use engine::{Columns, IndexScan as EngineScan, KeyRange, RowBatch};
use plan::ir::IndexScan;
use value::{Datum, Result};

use super::scan::Decoder;
use super::{Builder, Step};
use crate::access;
use crate::code::Code;
use crate::rows::Rows;
use crate::state::State;

pub(crate) struct IndexScanStep {
    table: Arc<Table>,
    index: Arc<Index>,
    /// `None`: IS NULL.
    equal: Vec<Option<Code>>,
    low: Option<(Code, bool)>,
    high: Option<(Code, bool)>,
    any: Option<Vec<Code>>,
    any_array: Option<Code>,
    backward: bool,
    columns: Columns,
    decoder: Decoder,
    opened: bool,
    probes: VecDeque<Probe>,
    scan: Option<EngineScan>,
    batch: RowBatch,
    at: usize,
}

enum Probe {
    /// The whole key of a unique index: at most one row.
    Key(Vec<u8>),
    Range(KeyRange),
}

impl IndexScanStep {
    pub fn new(builder: &Builder<'_>, scan: &IndexScan) -> Result<IndexScanStep> {
        let mut equal = Vec::with_capacity(scan.equal.len());
        for entry in &scan.equal {
            equal.push(if entry.is_null { None } else { Some(builder.compile(&entry.value)?) });
        }
        let bound = |bound: &Option<plan::ir::RangeBound>| -> Result<Option<(Code, bool)>> {
            match bound {
                Some(bound) => Ok(Some((builder.compile(&bound.value)?, bound.inclusive))),
                None => Ok(None),
            }
        };
        Ok(IndexScanStep {
            table: scan.table.clone(),
            index: scan.index.clone(),
            equal,
            low: bound(&scan.low)?,
            high: bound(&scan.high)?,
            any: match &scan.any {
                Some(list) => Some(builder.list(list)?),
                None => None,
            },
            any_array: builder.maybe(scan.any_array.as_ref())?,
            backward: scan.backward,
            columns: access::columns(builder.context, &scan.columns),
            decoder: Decoder::new(builder, &scan.columns, scan.row_id, scan.filter.as_ref())?,
            opened: false,
            probes: VecDeque::new(),
            scan: None,
            batch: RowBatch::new(),
            at: 0,
        })
    }

    /// Evaluates the bounds. NULLs compare with nothing: they leave no probe.
    fn open(&mut self, state: &mut State) -> Result<()> {
        self.opened = true;
        let mut prefix = Vec::with_capacity(self.equal.len() + 1);
        let mut has_null = false;
        for code in &mut self.equal {
            match code {
                None => {
                    has_null = true;
                    prefix.push(Datum::Null);
                }
                Some(code) => {
                    let value = code.eval(state, &[])?;
                    if value.is_null() {
                        return Ok(());
                    }
                    prefix.push(value);
                }
            }
        }
        let keys = self.index.keys.len();
        // Within a transaction a deferrable key may be there twice.
        let single = self.index.unique && !self.table.is_deferrable(self.index.oid);
        let whole = |columns: usize| single && columns == keys && !has_null;
        let list = match (&mut self.any, &mut self.any_array) {
            (Some(codes), _) => {
                let mut values = Vec::with_capacity(codes.len());
                for code in codes {
                    values.push(code.eval(state, &[])?);
                }
                Some(values)
            }
            (None, Some(code)) => match code.eval(state, &[])? {
                Datum::Array(array) => Some(array.values.clone()),
                Datum::Null => return Ok(()),
                other => return Err(value::Error::internal(format!("ANY over {other:?}"))),
            },
            (None, None) => None,
        };
        if let Some(values) = list {
            let single = whole(prefix.len() + 1);
            let mut encoded = Vec::with_capacity(values.len());
            for value in values {
                if value.is_null() {
                    continue;
                }
                prefix.push(value);
                encoded.push(Index::encode_prefix(&self.table, &self.index, &prefix));
                prefix.pop();
            }
            encoded.sort_unstable();
            encoded.dedup();
            if self.backward {
                encoded.reverse();
            }
            self.probes.extend(
                encoded
                    .into_iter()
                    .map(|key| if single { Probe::Key(key) } else { Probe::Range(KeyRange::prefix(key)) }),
            );
            return Ok(());
        }
        let columns = prefix.len();
        let bytes = Index::encode_prefix(&self.table, &self.index, &prefix);
        let (mut low, mut high) = (None, None);
        for (bound, value) in [(&mut self.low, &mut low), (&mut self.high, &mut high)] {
            if let Some((code, inclusive)) = bound {
                let datum = code.eval(state, &[])?;
                if datum.is_null() {
                    return Ok(());
                }
                *value = Some((datum, *inclusive));
            }
        }
        let as_bound = |value: &'_ Option<(Datum, bool)>| match value {
            None => Bound::Unbounded,
            Some((_, inclusive)) => {
                if *inclusive {
                    Bound::Included(())
                } else {
                    Bound::Excluded(())
                }
            }
        };
        self.probes.push_back(if low.is_none() && high.is_none() {
            if columns == 0 {
                Probe::Range(KeyRange::all())
            } else if whole(columns) {
                Probe::Key(bytes)
            } else {
                Probe::Range(KeyRange::prefix(bytes))
            }
        } else {
            let null = Datum::Null;
            let low_value = low.as_ref().map_or(&null, |(value, _)| value);
            let high_value = high.as_ref().map_or(&null, |(value, _)| value);
            Probe::Range(KeyRange::prefix_range(
                &self.table,
                &self.index,
                bytes,
                columns,
                as_bound(&low).map(|()| low_value),
                as_bound(&high).map(|()| high_value),
            ))
        });
        Ok(())
    }
}

impl Step for IndexScanStep {
    fn next(&mut self, state: &mut State, max: usize, out: &mut Rows) -> Result<()> {
        out.columns = self.decoder.width;
        if !self.opened {
            self.open(state)?;
        }
        while out.count < max {
            if self.at < self.batch.len() {
                let at = self.at;
                self.at += 1;
                self.decoder.emit(state, self.batch.ids[at], &self.batch.rows[at], out)?;
                continue;
            }
            state.context.cancel.check()?;
            self.at = 0;
            if let Some(scan) = &mut self.scan {
                if scan.next(&mut self.batch)? {
                    state.counters.rows_scanned += self.batch.len() as u64;
                } else {
                    self.scan = None;
                    self.batch.clear();
                }
                continue;
            }
            match self.probes.pop_front() {
                None => {
                    self.batch.clear();
                    return Ok(());
                }
                Some(Probe::Key(key)) => {
                    let place = (&*self.table, &*self.index);
                    if let Some((id, row)) = access::index_get(state, place, &self.columns, &key)? {
                        state.counters.rows_scanned += 1;
                        self.decoder.emit(state, id, &row, out)?;
                    }
                }
                Some(Probe::Range(range)) => {
                    if !range.is_empty() {
                        let place = (&*self.table, &*self.index);
                        let backward = self.backward;
                        self.scan = Some(access::index_scan(state, place, &self.columns, range, backward)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn rescan(&mut self, _state: &mut State) -> Result<()> {
        self.opened = false;
        self.probes.clear();
        self.scan = None;
        self.batch.clear();
        self.at = 0;
        Ok(())
    }
}
