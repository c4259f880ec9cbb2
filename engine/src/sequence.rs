//! Sequence values: in memory, logged some numbers ahead, outside transactions.
//!
//! The hard idea: the log says "numbers up to here may have been handed out", so handing out the next ones
//! needs no record, and after a crash counting goes on behind the logged number: numbers may be skipped, never
//! given twice. The record is not waited for: whoever uses the number is acknowledged after the record, since
//! the session's floor is raised to it.
//!
//! ALTER SEQUENCE .. RESTART and TRUNCATE .. RESTART IDENTITY give a sequence a new generation, which counts anew and is
//! transactional: until it is committed it is its transaction's own, beside the one that others know. It logs nothing;
//! where it has come to goes into the commit's record.

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
pub(crate) struct Sequences(Mutex<States>);

#[derive(Debug, Default)]
struct States {
    published: HashMap<Oid, State>,
    /// Generations that are not in the published catalog: of a running transaction, or temporary.
    own: HashMap<(Oid, u32), State>,
}

impl Sequences {
    /// What the log or the base says.
    pub(crate) fn restore(&self, oid: Oid, value: SequenceValue) {
        let SequenceValue { generation, value, called } = value;
        let state = State { generation, value, called, left: 0, logged: Lsn(0) };
        self.0.lock().published.insert(oid, state);
    }

    pub(crate) fn forget(&self, oid: Oid) {
        self.0.lock().published.remove(&oid);
    }

    /// Where a generation that is not published yet has come to; `None`: it was not used.
    pub(crate) fn own(&self, sequence: &Sequence) -> Option<SequenceValue> {
        let states = self.0.lock();
        let State { generation, value, called, .. } =
            *states.own.get(&(sequence.oid, sequence.generation))?;
        Some(SequenceValue { generation, value, called })
    }

    /// A generation is about to be published: everybody goes on where it is.
    pub(crate) fn adopt(&self, sequence: &Sequence) {
        let mut states = self.0.lock();
        if let Some(state) = states.own.remove(&(sequence.oid, sequence.generation)) {
            states.published.insert(sequence.oid, State { left: 0, ..state });
        }
    }

    /// A generation is rolled back.
    pub(crate) fn abandon(&self, sequence: &Sequence) {
        self.0.lock().own.remove(&(sequence.oid, sequence.generation));
    }

    /// The values as they are, for a clean shutdown.
    pub(crate) fn exact(&self) -> Vec<(Oid, SequenceValue)> {
        let states = self.0.lock();
        states
            .published
            .iter()
            .map(|(oid, state)| {
                let State { generation, value, called, .. } = *state;
                (*oid, SequenceValue { generation, value, called })
            })
            .collect()
    }

    /// Last value and whether it was given out, as `SELECT last_value, is_called FROM seq` shows them.
    pub(crate) fn current(&self, engine: &Inner, sequence: &Sequence) -> (i64, bool) {
        let mut states = self.0.lock();
        let state = states.of(sequence, is_own(engine, sequence));
        (state.value, state.called)
    }

    /// The next number, and the LSN that must be durable before anybody is told.
    pub(crate) fn next(&self, engine: &Inner, sequence: &Sequence) -> Result<(i64, Lsn)> {
        let mut states = self.0.lock();
        let own = is_own(engine, sequence);
        let state = states.of(sequence, own);
        let number = if state.called { step(sequence, state.value)? } else { state.value };
        if own {
            (state.value, state.called) = (number, true);
            return Ok((number, Lsn(0)));
        }
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
            let value = SequenceValue { generation: state.generation, value: ahead, called: true };
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
        let own = is_own(engine, sequence);
        let state = states.of(sequence, own);
        let generation = state.generation;
        let lsn = match own {
            true => Lsn(0),
            false => log(engine, sequence.oid, SequenceValue { generation, value, called })?,
        };
        *state = State { generation, value, called, left: 0, logged: lsn };
        Ok(lsn)
    }
}

impl States {
    fn of(&mut self, sequence: &Sequence, own: bool) -> &mut State {
        if own {
            let key = (sequence.oid, sequence.generation);
            return self.own.entry(key).or_insert_with(|| initial(sequence));
        }
        let state = self.published.entry(sequence.oid).or_insert_with(|| initial(sequence));
        // One that is newer was published after the statement had looked.
        if state.generation < sequence.generation {
            *state = initial(sequence);
        }
        state
    }
}

/// Whether the generation is not known to others.
fn is_own(engine: &Inner, sequence: &Sequence) -> bool {
    let published = engine.catalog.load();
    published.sequence(sequence.oid).is_none_or(|published| published.generation < sequence.generation)
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
