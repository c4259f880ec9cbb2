//! Every SQL function, operator, cast, aggregate and window function, declared once.
//!
//! A declaration is one row of a table: PostgreSQL's oid, the name, argument and result types, and one thunk
//! that computes a value from values. Both executors call that thunk, `pg_proc` lists the rows, and
//! [`select_function`] and [`select_operator`] choose among them by the rules of the PostgreSQL manual's chapter
//! "Type Conversion". The tables stand in one file per family and are indexed by name once.
//!
//! Invariant: nothing here knows tables, sessions or locks. What does need them is declared here (so that
//! it resolves and shows up in `pg_proc`) and answered by [`Environment::system`].

use std::any::Any;
use std::fmt;

use value::text::Style;
use value::{Datum, Oid, Result, Type};

mod access_list;
mod aggregate;
mod arithmetic;
mod array;
mod boolean;
mod bytea;
mod casts;
mod comparison;
mod datetime;
mod declare;
mod json;
mod json_record;
mod jsonpath;
mod keyword;
mod numeric;
mod operators;
mod pattern;
mod random;
mod registry;
mod select;
mod set;
mod system;
mod text;
mod uuid;
mod window;

pub use pattern::like_prefix;
pub use random::{SeededRandom, unseeded_random};
pub use registry::{
    aggregate_by_oid, aggregates, cast_rows as casts, comparison, find_cast, function_by_oid, functions,
    functions_named, missing_operators, operator_by_oid, operators, set_functions, window_functions,
};
pub use select::{
    Callable, Place, Selected, can_coerce, operator_of, select_common_type, select_function,
    select_function_named, select_operator,
};
pub use system::{reg_input, reg_output};
pub use text::{is_reserved, quote_ident, quote_literal};

/// When a function may give different results for the same arguments (`pg_proc.provolatile`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Never.
    Immutable,
    /// Not within one statement.
    Stable,
    /// At any call; it may also have side effects.
    Volatile,
}

/// The actual types at one call site, polymorphic ones resolved.
#[derive(Clone, Debug)]
pub struct Signature {
    pub args: Vec<Type>,
    pub result: Type,
}

/// What a call site keeps between calls: a compiled regular expression, a parsed format. Starts as what
/// `prepare` made, or `None`.
pub type State = Option<Box<dyn Any + Send>>;

/// One evaluation of a function.
pub struct Call<'a> {
    pub env: &'a dyn Environment,
    pub signature: &'a Signature,
    pub state: &'a mut State,
}

/// What a function may ask of the session that calls it.
pub trait Environment: Send + Sync {
    fn style(&self) -> &Style;
    /// Start of the transaction: microseconds since 2000-01-01 UTC.
    fn transaction_time(&self) -> i64;
    /// Arrival of the statement: microseconds since 2000-01-01 UTC.
    fn statement_time(&self) -> i64;
    /// A setting as SHOW prints it; `None` when there is no such setting.
    fn setting(&self, name: &str) -> Option<String>;
    /// The next value of `random()`, in [0, 1). A session overrides it to keep a seed.
    fn random(&self) -> f64 {
        unseeded_random()
    }
    /// `setseed`, with a seed in [-1, 1].
    fn set_seed(&self, seed: f64) -> Result<()> {
        let _ = seed;
        Err(value::Error::unsupported("setseed without a session", "call it in a session"))
    }
    /// Carries out, once, a call that may take long: a session lets others have its thread meanwhile.
    fn aside(&self, work: &mut dyn FnMut()) {
        work();
    }
    /// Everything that needs the catalog, the session, sequences or locks, by `function.name`.
    fn system(&self, function: &'static Function, args: &[Datum]) -> Result<Datum>;
}

/// Bytes of a value from which on a call may take milliseconds.
const LONG_VALUE: usize = 64 << 10;

impl Function {
    /// Calls it; by [`Environment::aside`] when an argument is long.
    pub fn invoke(&self, call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
        let long = |arg: &Datum| match arg {
            Datum::Text(text) => text.len() >= LONG_VALUE,
            Datum::Bytea(bytes) => bytes.len() >= LONG_VALUE,
            _ => false,
        };
        if !args.iter().any(long) {
            return (self.call)(call, args);
        }
        let (env, mut result) = (call.env, None);
        env.aside(&mut || result = Some((self.call)(call, args)));
        result
            .unwrap_or_else(|| Err(value::Error::internal("a call that was to be carried out aside was not")))
    }
}

/// The thunk of a function. Arguments have the declared types (integers in exactly their width); for strict
/// functions none is NULL; for functions with defaults trailing ones may be missing; those of a VARIADIC
/// parameter stand one by one.
pub type Thunk = fn(&mut Call<'_>, &[Datum]) -> Result<Datum>;

/// A scalar function, also the one behind an operator or a cast.
#[derive(Clone, Copy)]
pub struct Function {
    /// PostgreSQL's `pg_proc.oid`; functions PostgreSQL lacks have 9000 and up.
    pub oid: Oid,
    pub name: &'static str,
    /// Declared types; polymorphic pseudo-types resolve per call site ([`Signature`]).
    pub args: &'static [Oid],
    /// Argument names, for `f(name => value)`; empty when none are declared.
    pub arg_names: &'static [&'static str],
    /// The last argument repeats (its declared type is the array of them, or `any`).
    pub variadic: bool,
    /// How many trailing arguments may be left out.
    pub defaults: usize,
    pub returns: Oid,
    /// NULL for any NULL argument, without a call.
    pub strict: bool,
    pub volatility: Volatility,
    /// May raise an error for arguments of the right types.
    pub fallible: bool,
    /// May have to wait (locks, sleep, a sequence record): lifted into an asynchronous projection.
    pub waits: bool,
    /// Builds the call site's state from the constant arguments (`None` for the others).
    pub prepare: Option<fn(&Signature, &[Option<Datum>]) -> Result<State>>,
    pub call: Thunk,
    /// Answered by [`Environment::system`].
    pub system: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.oid == other.oid
    }
}

impl Eq for Function {}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.name, self.args)
    }
}

/// How rows reach an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    Normal,
    /// WITHIN GROUP: [`Accumulator::add`] gets the direct arguments, then the ORDER BY values, row by row in that
    /// order. `direct` is the number of direct arguments; [`Aggregate::args`] lists both kinds.
    OrderedSet {
        direct: usize,
    },
}

/// The result over no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEmpty {
    Null,
    /// Zero (`count`, `regr_count`).
    Zero,
}

#[derive(Clone, Copy)]
pub struct Aggregate {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub variadic: bool,
    pub returns: Oid,
    pub kind: AggregateKind,
    /// Rows with a NULL argument are not added: the caller leaves them out.
    pub strict: bool,
    pub on_empty: OnEmpty,
    /// DISTINCT and ORDER BY do not change the result (min, max, bool_and ...), so DISTINCT may be dropped.
    pub duplicates_matter: bool,
    pub start: fn(&Signature, &dyn Environment) -> Box<dyn Accumulator>,
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Aggregate) -> bool {
        self.oid == other.oid
    }
}

impl Eq for Aggregate {}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.name, self.args)
    }
}

/// The running state of one group.
pub trait Accumulator: Send {
    fn add(&mut self, args: &[Datum]) -> Result<()>;
    /// Undoes an earlier `add` of the same arguments (moving window frames). `false`: not supported (nothing was
    /// changed), the caller starts over with the rows of the frame.
    fn remove(&mut self, args: &[Datum]) -> Result<bool>;
    /// The state as bytes, for [`Accumulator::merge`] in another accumulator of the same call site.
    fn state(&self) -> Result<Vec<u8>>;
    /// Adds what another accumulator has seen.
    fn merge(&mut self, state: &[u8]) -> Result<()>;
    /// The value so far. May be called several times, with `add` and `remove` in between.
    fn finish(&mut self) -> Result<Datum>;
    /// Bytes on the heap, roughly.
    fn size(&self) -> usize;
    /// Back to the start.
    fn reset(&mut self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    Ntile,
    Lag,
    Lead,
    FirstValue,
    LastValue,
    NthValue,
}

/// A pure window function; the executor implements each [`WindowKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowFunction {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub returns: Oid,
    pub kind: WindowKind,
}

/// Rows of a set-returning function: one value per column.
pub type Rows = Box<dyn Iterator<Item = Result<Vec<Datum>>> + Send>;

/// A set-returning function.
#[derive(Clone, Copy)]
pub struct SetFunction {
    pub oid: Oid,
    pub name: &'static str,
    pub args: &'static [Oid],
    pub variadic: bool,
    pub defaults: usize,
    /// Name and type of each column; one column means rows are plain values of [`SetFunction::returns`].
    pub columns: &'static [(&'static str, Oid)],
    /// The type of the call in a target list: the column's, or `record` for several.
    pub returns: Oid,
    /// No rows for any NULL argument, without a call.
    pub strict: bool,
    pub volatility: Volatility,
    /// About how many rows to expect, when the arguments do not tell.
    pub rows: f64,
    pub start: fn(&mut Call<'_>, &[Datum]) -> Result<Rows>,
}

impl PartialEq for SetFunction {
    fn eq(&self, other: &SetFunction) -> bool {
        self.oid == other.oid
    }
}

impl Eq for SetFunction {}

impl fmt::Debug for SetFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.name, self.args)
    }
}

/// What a comparison operator means to an ordered index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    Ne,
}

impl Strategy {
    /// The strategy with the sides swapped: `a < b` is `b > a`.
    pub fn commuted(self) -> Strategy {
        match self {
            Strategy::Lt => Strategy::Gt,
            Strategy::Le => Strategy::Ge,
            Strategy::Ge => Strategy::Le,
            Strategy::Gt => Strategy::Lt,
            other => other,
        }
    }

    /// The strategy that holds exactly when this one does not (for values that are not NULL).
    pub fn negated(self) -> Strategy {
        match self {
            Strategy::Lt => Strategy::Ge,
            Strategy::Le => Strategy::Gt,
            Strategy::Eq => Strategy::Ne,
            Strategy::Ge => Strategy::Lt,
            Strategy::Gt => Strategy::Le,
            Strategy::Ne => Strategy::Eq,
        }
    }
}

/// One row of `pg_operator`.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    pub oid: Oid,
    pub name: &'static str,
    /// `None` for prefix operators.
    pub left: Option<Oid>,
    pub right: Oid,
    pub function: &'static Function,
    /// The name of the operator with the sides swapped.
    pub commutator: Option<&'static str>,
    /// The name of the operator that is true exactly when this one is false.
    pub negator: Option<&'static str>,
    /// Set for the comparisons that ordered indexes know.
    pub class: Option<Strategy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    Implicit,
    Assignment,
    Explicit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastMethod {
    Function(&'static Function),
    /// Same value, other type.
    Relabel,
    /// Output function of one, input function of the other.
    InOut,
}

/// One row of `pg_cast`.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub source: Oid,
    pub target: Oid,
    /// Where it is applied without being asked for.
    pub context: CastContext,
    pub method: CastMethod,
}
