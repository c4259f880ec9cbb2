//! Sequence values: in memory, logged some numbers ahead, outside transactions.
//!
//! The hard idea: the log says "numbers up to here may have been handed out", so handing out the next ones
//! needs no record, and after a crash counting goes on behind the logged number: numbers may be skipped, never
//! given twice. The record is not waited for: whoever uses the number is acknowledged after the record, since
//! the session's floor is raised to it.

use std::collections::HashMap;

use value::{Error, Oid, Result, SqlState};

use crate::catalog::Sequence;
use crate::engine::Inner;
use crate::ids::Lsn;
use crate::sync::Mutex;
use crate::wal::record::{RecordBuilder, SequenceValue};

/// Numbers logged ahead, as PostgreSQL's SEQ_LOG_VALS.
const AHEAD: i64 = 32;

#[derive(Clone, Copy, Debug)]
struct State {
    generation: u32,
    value: i64,
    called: bool,
    /// Numbers that may be given out before the next record.
    left: i64,
    /// The record that covers them.
    logged: Lsn,
}

#[derive(Debug, Default)]
pub(crate) struct Sequences(Mutex<HashMap<Oid, State>>);

impl Sequences {
    /// What the log or the base says.
    pub(crate) fn restore(&self, oid: Oid, value: SequenceValue) {
        let SequenceValue { generation, value, called } = value;
        self.0.lock().insert(oid, State { generation, value, called, left: 0, logged: Lsn(0) });
    }

    pub(crate) fn forget(&self, oid: Oid) {
        self.0.lock().remove(&oid);
    }

    /// The values as they are, for a clean shutdown.
    pub(crate) fn exact(&self) -> Vec<(Oid, SequenceValue)> {
        let states = self.0.lock();
        states
            .iter()
            .map(|(oid, state)| {
                let State { generation, value, called, .. } = *state;
                (*oid, SequenceValue { generation, value, called })
            })
            .collect()
    }

    fn state(&self, sequence: &Sequence) -> State {
        let states = self.0.lock();
        match states.get(&sequence.oid) {
            Some(state) if state.generation == sequence.generation => *state,
            _ => initial(sequence),
        }
    }

    /// Last value and whether it was given out, as `SELECT last_value, is_called FROM seq` shows them.
    pub(crate) fn current(&self, sequence: &Sequence) -> (i64, bool) {
        let state = self.state(sequence);
        (state.value, state.called)
    }

    /// The next number, and the LSN that must be durable before anybody is told.
    pub(crate) fn next(&self, engine: &Inner, sequence: &Sequence) -> Result<(i64, Lsn)> {
        let mut states = self.0.lock();
        let state = states.entry(sequence.oid).or_insert_with(|| initial(sequence));
        if state.generation != sequence.generation {
            *state = initial(sequence);
        }
        let number = if state.called { step(sequence, state.value)? } else { state.value };
        if state.left == 0 {
            let mut ahead = number;
            let mut left = 0;
            // Not across a bound: after a crash an exhausted sequence must not look fresh.
            while left < AHEAD {
                match ahead.checked_add(sequence.increment) {
                    Some(next) if next >= sequence.minimum && next <= sequence.maximum => ahead = next,
                    _ => break,
                }
                left += 1;
            }
            let value = SequenceValue { generation: sequence.generation, value: ahead, called: true };
            let lsn = log(engine, sequence.oid, value)?;
            state.left = left + 1;
            state.logged = lsn;
        }
        state.left -= 1;
        state.value = number;
        state.called = true;
        Ok((number, state.logged))
    }

    /// `setval`: 22003 outside the bounds.
    pub(crate) fn set(&self, engine: &Inner, sequence: &Sequence, value: i64, called: bool) -> Result<Lsn> {
        if value < sequence.minimum || value > sequence.maximum {
            return Err(Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!(
                    "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                    sequence.name, sequence.minimum, sequence.maximum
                ),
            ));
        }
        let mut states = self.0.lock();
        let generation = sequence.generation;
        let lsn = log(engine, sequence.oid, SequenceValue { generation, value, called })?;
        states.insert(sequence.oid, State { generation, value, called, left: 0, logged: lsn });
        Ok(lsn)
    }
}

fn initial(sequence: &Sequence) -> State {
    State { generation: sequence.generation, value: sequence.start, called: false, left: 0, logged: Lsn(0) }
}

fn log(engine: &Inner, oid: Oid, value: SequenceValue) -> Result<Lsn> {
    let mut record = RecordBuilder::new();
    record.sequence(oid, value);
    engine.log_aside(record, |unsaved| {
        unsaved.sequences.insert(oid, Some(value));
    })
}

/// The number after `value`: 2200H at the end of a sequence that does not cycle.
fn step(sequence: &Sequence, value: i64) -> Result<i64> {
    let up = sequence.increment > 0;
    let next = value.checked_add(sequence.increment);
    match next {
        Some(next) if next <= sequence.maximum && next >= sequence.minimum => Ok(next),
        _ if sequence.cycle => Ok(if up { sequence.minimum } else { sequence.maximum }),
        _ => {
            let (which, bound) =
                if up { ("maximum", sequence.maximum) } else { ("minimum", sequence.minimum) };
            Err(Error::new(
                SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED,
                format!("nextval: reached {which} value of sequence \"{}\" ({bound})", sequence.name),
            ))
        }
    }
}
