//! Compiled expressions.
//!
//! The hard idea: [`Expr`] says what, [`Code`] how. It is made once per execution of a plan, when parameters are
//! known, so a parameter is a constant, calls over constants are already values, and call sites have their
//! state (a compiled regular expression) prepared. What rows are filtered and summed by most (comparisons and
//! arithmetic of machine numbers, AND, OR) has its own arms that look at values by reference and never allocate;
//! everything else goes through the one thunk of its function.

use std::cmp::Ordering;
use std::sync::Arc;

use function::{Environment, Function, Signature, Strategy};
use resolve::tree::ConvertKind;
use value::array::Bounds;
use value::types::{self, Repr, oid};
use value::{Array, Datum, Error, Oid, Record, Result, SqlState, Type};

use crate::rows::{self, Index};
use crate::state::State;

/// A compiled expression over the slots of one row.
pub(crate) enum Code {
    Const(Datum),
    Slot(usize),
    Outer(usize),
    Compare(Box<Compare>),
    Arithmetic(Box<Arithmetic>),
    Call(Box<CallCode>),
    /// A volatile call in an expression that may have to be computed again: it is made once.
    Replayed(Box<CallCode>),
    /// A long left-deep chain `((a + b) + c) + ..`, so that its length costs no stack.
    Chain(Box<Chain>),
    And(Box<[Code]>),
    Or(Box<[Code]>),
    Not(Box<Code>),
    IsNull {
        input: Box<Code>,
        negated: bool,
    },
    /// IS NULL of a row value: true when every field is NULL (negated: when none is).
    IsNullRow {
        input: Box<Code>,
        negated: bool,
    },
    IsBool {
        input: Box<Code>,
        value: bool,
        negated: bool,
    },
    Distinct(Box<Distinct>),
    Case(Box<Case>),
    Coalesce(Box<[Code]>),
    Extreme {
        greatest: bool,
        ty: Oid,
        args: Box<[Code]>,
    },
    NullIf(Box<Distinct>),
    InList(Box<InList>),
    InSet(Box<InSet>),
    AnyArray(Box<AnyArray>),
    Array {
        element: Oid,
        nested: bool,
        elements: Box<[Code]>,
    },
    Row {
        types: Vec<Oid>,
        fields: Box<[Code]>,
    },
    Subscript(Box<SubscriptCode>),
    Field {
        input: Box<Code>,
        index: usize,
    },
    Convert(Box<ConvertCode>),
    Subplan(Box<SubplanCode>),
    /// Nested so deeply that it gets a stack of its own when little is left.
    Deep(Box<Code>),
}

/// Stack that the deepest expression the compiler admits can use.
const DEEP_STACK: usize = 8 * 1024 * 1024;

/// How two values are compared without calling the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that is an integer inside: int2/4/8, oid, date, time, timestamps.
    Int,
    Float,
    Text,
    Bool,
    /// By `value::compare`, both of this type.
    Typed(Oid),
}

pub(crate) struct Compare {
    pub strategy: Strategy,
    pub kind: Kind,
    pub left: Code,
    pub right: Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArithmeticKind {
    Int4,
    Int8,
    Float8,
}

pub(crate) struct Arithmetic {
    pub op: ArithmeticOp,
    pub kind: ArithmeticKind,
    pub left: Code,
    pub right: Code,
    /// What raises the error when the fast way overflows.
    pub call: CallSite,
}

/// A function with everything its call needs but the arguments.
pub(crate) struct CallSite {
    pub function: &'static Function,
    pub signature: Signature,
    pub state: function::State,
    pub position: Option<usize>,
}

impl CallSite {
    /// Calls the function; NULL without a call when it is strict and an argument is NULL.
    #[inline]
    pub fn invoke(&mut self, env: &dyn Environment, args: &[Datum]) -> Result<Datum> {
        if self.function.strict && args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        let mut call = function::Call { env, signature: &self.signature, state: &mut self.state };
        self.function.invoke(&mut call, args).map_err(|error| error.at(self.position))
    }
}

pub(crate) struct CallCode {
    pub site: CallSite,
    pub args: Box<[Code]>,
}

pub(crate) struct Chain {
    pub first: Code,
    pub steps: Vec<(CallSite, Code)>,
}

/// A boolean operator between two values, as in IN, ANY, DISTINCT.
pub(crate) enum Operator {
    Fast(Strategy, Kind),
    Call(Box<CallSite>),
}

pub(crate) struct Distinct {
    pub operator: Operator,
    pub left: Code,
    pub right: Code,
    pub negated: bool,
}

pub(crate) struct Case {
    pub whens: Vec<(Code, Code)>,
    pub otherwise: Option<Code>,
}

pub(crate) struct InList {
    pub operator: Operator,
    pub left: Code,
    pub list: Box<[Code]>,
    pub all: bool,
    pub negated: bool,
}

/// `left = ANY (constants)`, many of them.
pub(crate) struct InSet {
    pub left: Code,
    pub ty: Oid,
    pub values: Vec<Datum>,
    pub index: Index,
    pub has_null: bool,
    pub negated: bool,
}

pub(crate) struct AnyArray {
    pub operator: Operator,
    pub left: Code,
    pub array: Code,
    pub all: bool,
}

pub(crate) struct SubscriptCode {
    pub input: Code,
    /// One index, or the bounds of a slice.
    pub subscripts: Vec<SubscriptPart>,
}

pub(crate) enum SubscriptPart {
    Index(Code),
    Slice(Option<Code>, Option<Code>),
}

pub(crate) struct ConvertCode {
    pub input: Code,
    pub from: Type,
    pub to: Type,
    pub kind: ConvertStep,
    pub explicit: bool,
}

pub(crate) enum ConvertStep {
    Relabel,
    InOut,
    Typmod,
    Elements(Option<Box<CallSite>>),
}

pub(crate) struct SubplanCode {
    pub subplan: usize,
    pub bindings: Vec<(usize, Code)>,
    pub kind: SubplanTest,
    /// The expression is computed again after each wait: the subplan goes on where it was, and is run once.
    pub resumes: bool,
}

pub(crate) enum SubplanTest {
    Exists,
    Scalar,
    Array { element: Oid },
    Quantified(Box<Quantified>),
}

/// `tests op ANY|ALL (subplan)`.
pub(crate) struct Quantified {
    pub all: bool,
    pub tests: Vec<Code>,
    pub operators: Vec<Operator>,
    /// Types of the tests when every operator is `=` (ANY only): a hash set can answer.
    pub hashable: Option<Vec<Oid>>,
    pub set: Option<AnySet>,
}

/// The rows of an uncorrelated subplan, found by hash.
pub(crate) struct AnySet {
    /// The very rows it was made of, so that it is made again when the subplan was run again.
    pub source: Arc<rows::Rows>,
    pub index: Index,
    /// Rows with a NULL in them.
    pub nulls: Vec<usize>,
}

/// As an integer, for every type that is one inside.
#[inline(always)]
fn integer(datum: &Datum) -> Option<i64> {
    Some(match datum {
        Datum::Int4(v) => i64::from(*v),
        Datum::Int8(v) => *v,
        Datum::Int2(v) => i64::from(*v),
        Datum::Date(v) => i64::from(*v),
        Datum::Oid(v) => i64::from(*v),
        Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => *v,
        _ => return None,
    })
}

#[inline(always)]
fn float(datum: &Datum) -> Option<f64> {
    Some(match datum {
        Datum::Float8(v) => *v,
        Datum::Float4(v) => f64::from(*v),
        _ => return None,
    })
}

/// NaN equals itself and is greater than every number.
#[inline]
fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[inline(always)]
fn holds(strategy: Strategy, ordering: Ordering) -> bool {
    match strategy {
        Strategy::Lt => ordering.is_lt(),
        Strategy::Le => ordering.is_le(),
        Strategy::Eq => ordering.is_eq(),
        Strategy::Ge => ordering.is_ge(),
        Strategy::Gt => ordering.is_gt(),
        Strategy::Ne => ordering.is_ne(),
    }
}

#[inline]
fn compare(strategy: Strategy, kind: Kind, left: &Datum, right: &Datum) -> Option<bool> {
    let ordering = match kind {
        Kind::Int => match (integer(left), integer(right)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => return compare_rest(strategy, left, right),
        },
        Kind::Float => match (float(left), float(right)) {
            (Some(a), Some(b)) => float_order(a, b),
            _ => return compare_rest(strategy, left, right),
        },
        Kind::Text => match (left, right) {
            (Datum::Text(a), Datum::Text(b)) => {
                return Some(match strategy {
                    Strategy::Eq => a == b,
                    Strategy::Ne => a != b,
                    _ => holds(strategy, a.as_bytes().cmp(b.as_bytes())),
                });
            }
            _ => return compare_rest(strategy, left, right),
        },
        Kind::Bool => match (left, right) {
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            _ => return compare_rest(strategy, left, right),
        },
        Kind::Typed(ty) => {
            if left.is_null() || right.is_null() {
                return None;
            }
            value::compare::compare_typed(ty, left, right)
        }
    };
    Some(holds(strategy, ordering))
}

#[cold]
fn compare_rest(strategy: Strategy, left: &Datum, right: &Datum) -> Option<bool> {
    if left.is_null() || right.is_null() {
        return None;
    }
    Some(holds(strategy, value::compare::compare(left, right)))
}

impl Operator {
    /// `left op right`, three-valued.
    #[inline]
    pub fn apply(&mut self, state: &State, left: &Datum, right: &Datum) -> Result<Option<bool>> {
        match self {
            Operator::Fast(strategy, kind) => Ok(compare(*strategy, *kind, left, right)),
            Operator::Call(site) => boolean(site.invoke(state.env(), &[left.clone(), right.clone()])?),
        }
    }
}

fn boolean(datum: Datum) -> Result<Option<bool>> {
    match datum {
        Datum::Bool(value) => Ok(Some(value)),
        Datum::Null => Ok(None),
        other => Err(Error::internal(format!("a condition gave {other:?}"))),
    }
}

fn truth(value: Option<bool>) -> Datum {
    value.map_or(Datum::Null, Datum::Bool)
}

impl Code {
    /// The value, without a copy where it already stands somewhere.
    #[inline]
    pub fn get<'a>(
        &'a mut self,
        state: &mut State,
        row: &'a [Datum],
        spare: &'a mut Datum,
    ) -> Result<&'a Datum> {
        match self {
            Code::Slot(index) => Ok(&row[*index]),
            Code::Const(value) => Ok(value),
            other => {
                *spare = other.eval(state, row)?;
                Ok(spare)
            }
        }
    }

    /// Whether it is a constant, and which.
    pub fn constant(&self) -> Option<&Datum> {
        match self {
            Code::Const(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a condition: `None` is NULL.
    #[inline]
    pub fn test(&mut self, state: &mut State, row: &[Datum]) -> Result<Option<bool>> {
        match self {
            Code::Compare(compare_) => {
                let Compare { strategy, kind, left, right } = &mut **compare_;
                let (mut a, mut b) = (Datum::Null, Datum::Null);
                let left = left.get(state, row, &mut a)?;
                let right = right.get(state, row, &mut b)?;
                Ok(compare(*strategy, *kind, left, right))
            }
            Code::And(parts) => {
                let mut unknown = false;
                for part in parts {
                    match part.test(state, row)? {
                        Some(false) => return Ok(Some(false)),
                        Some(true) => {}
                        None => unknown = true,
                    }
                }
                Ok(if unknown { None } else { Some(true) })
            }
            Code::Or(parts) => {
                let mut unknown = false;
                for part in parts {
                    match part.test(state, row)? {
                        Some(true) => return Ok(Some(true)),
                        Some(false) => {}
                        None => unknown = true,
                    }
                }
                Ok(if unknown { None } else { Some(false) })
            }
            Code::Not(input) => Ok(input.test(state, row)?.map(|value| !value)),
            Code::IsNull { input, negated } => {
                let mut spare = Datum::Null;
                Ok(Some(input.get(state, row, &mut spare)?.is_null() != *negated))
            }
            Code::IsNullRow { input, negated } => {
                let mut spare = Datum::Null;
                Ok(Some(match input.get(state, row, &mut spare)? {
                    Datum::Null => !*negated,
                    Datum::Record(record) => record.fields.iter().all(|field| field.is_null() != *negated),
                    _ => *negated,
                }))
            }
            Code::IsBool { input, value, negated } => {
                Ok(Some((input.test(state, row)? == Some(*value)) != *negated))
            }
            Code::Distinct(distinct) => {
                let Distinct { operator, left, right, negated } = &mut **distinct;
                let (mut a, mut b) = (Datum::Null, Datum::Null);
                let left = left.get(state, row, &mut a)?;
                let right = right.get(state, row, &mut b)?;
                let different = match (left.is_null(), right.is_null()) {
                    (true, true) => false,
                    (false, false) => operator.apply(state, left, right)? != Some(true),
                    _ => true,
                };
                Ok(Some(different != *negated))
            }
            Code::InList(list) => list.test(state, row),
            Code::InSet(set) => set.test(state, row),
            Code::AnyArray(any) => any.test(state, row),
            Code::Slot(index) => match &row[*index] {
                Datum::Bool(value) => Ok(Some(*value)),
                Datum::Null => Ok(None),
                other => boolean(other.clone()),
            },
            other => boolean(other.eval(state, row)?),
        }
    }

    /// Whether the condition is true (NULL is not). Of an AND, what follows the first part that is not true is not
    /// evaluated, as in PostgreSQL's lists of conditions.
    #[inline]
    pub fn accepts(&mut self, state: &mut State, row: &[Datum]) -> Result<bool> {
        if let Code::And(parts) = self {
            for part in parts {
                if part.test(state, row)? != Some(true) {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        Ok(self.test(state, row)? == Some(true))
    }

    /// The value.
    pub fn eval(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        match self {
            Code::Const(value) => Ok(value.clone()),
            Code::Slot(index) => Ok(row[*index].clone()),
            Code::Outer(index) => Ok(state.outers[*index].clone()),
            Code::Compare(_)
            | Code::And(_)
            | Code::Or(_)
            | Code::Not(_)
            | Code::IsNull { .. }
            | Code::IsNullRow { .. }
            | Code::IsBool { .. }
            | Code::Distinct(_)
            | Code::InList(_)
            | Code::InSet(_)
            | Code::AnyArray(_) => Ok(truth(self.test(state, row)?)),
            Code::Arithmetic(arithmetic) => arithmetic.eval(state, row),
            Code::Call(call) => call.eval(state, row),
            Code::Replayed(call) => call.replay(state, row),
            Code::Chain(chain) => {
                let mut value = chain.first.eval(state, row)?;
                for (site, right) in &mut chain.steps {
                    let args = [value, right.eval(state, row)?];
                    value = site.invoke(state.env(), &args)?;
                }
                Ok(value)
            }
            Code::Case(case) => {
                for (condition, result) in &mut case.whens {
                    if condition.accepts(state, row)? {
                        return result.eval(state, row);
                    }
                }
                match &mut case.otherwise {
                    Some(otherwise) => otherwise.eval(state, row),
                    None => Ok(Datum::Null),
                }
            }
            Code::Coalesce(args) => {
                for arg in args {
                    let value = arg.eval(state, row)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Code::Extreme { greatest, ty, args } => {
                let wanted = if *greatest { Ordering::Greater } else { Ordering::Less };
                let mut best = Datum::Null;
                for arg in args {
                    let value = arg.eval(state, row)?;
                    if !value.is_null() && (best.is_null() || rows::order(*ty, &value, &best) == wanted) {
                        best = value;
                    }
                }
                Ok(best)
            }
            Code::NullIf(parts) => {
                let left = parts.left.eval(state, row)?;
                let right = parts.right.eval(state, row)?;
                if !left.is_null()
                    && !right.is_null()
                    && parts.operator.apply(state, &left, &right)? == Some(true)
                {
                    return Ok(Datum::Null);
                }
                Ok(left)
            }
            Code::Array { element, nested, elements } => {
                let mut values = Vec::with_capacity(elements.len());
                for code in elements {
                    values.push(code.eval(state, row)?);
                }
                array_of(*element, *nested, values)
            }
            Code::Row { types, fields } => {
                let mut values = Vec::with_capacity(fields.len());
                for code in fields {
                    values.push(code.eval(state, row)?);
                }
                Ok(Datum::Record(Arc::new(Record { types: types.clone(), fields: values, names: None })))
            }
            Code::Subscript(subscript) => subscript.eval(state, row),
            Code::Field { input, index } => {
                let mut spare = Datum::Null;
                match input.get(state, row, &mut spare)? {
                    Datum::Null => Ok(Datum::Null),
                    Datum::Record(record) => Ok(record.fields.get(*index).cloned().unwrap_or_default()),
                    other => Err(Error::internal(format!("a field of {other:?}"))),
                }
            }
            Code::Convert(convert) => {
                let value = convert.input.eval(state, row)?;
                convert.apply(state.env(), value)
            }
            Code::Subplan(subplan) => subplan.eval(state, row),
            Code::Deep(code) => stacker::maybe_grow(DEEP_STACK, DEEP_STACK, || code.eval(state, row)),
        }
    }
}

impl Arithmetic {
    #[inline]
    fn eval(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        let (mut a, mut b) = (Datum::Null, Datum::Null);
        let left = self.left.get(state, row, &mut a)?;
        let right = self.right.get(state, row, &mut b)?;
        let fast = match (self.kind, left, right) {
            (_, Datum::Null, _) | (_, _, Datum::Null) => return Ok(Datum::Null),
            (ArithmeticKind::Int4, Datum::Int4(a), Datum::Int4(b)) => match self.op {
                ArithmeticOp::Add => a.checked_add(*b),
                ArithmeticOp::Subtract => a.checked_sub(*b),
                ArithmeticOp::Multiply => a.checked_mul(*b),
            }
            .map(Datum::Int4),
            (ArithmeticKind::Int8, Datum::Int8(a), Datum::Int8(b)) => match self.op {
                ArithmeticOp::Add => a.checked_add(*b),
                ArithmeticOp::Subtract => a.checked_sub(*b),
                ArithmeticOp::Multiply => a.checked_mul(*b),
            }
            .map(Datum::Int8),
            (ArithmeticKind::Float8, Datum::Float8(a), Datum::Float8(b)) => {
                let value = match self.op {
                    ArithmeticOp::Add => a + b,
                    ArithmeticOp::Subtract => a - b,
                    ArithmeticOp::Multiply => a * b,
                };
                // Overflow and underflow have their own rules: the function knows them.
                (value.is_normal()).then_some(Datum::Float8(value))
            }
            _ => None,
        };
        match fast {
            Some(value) => Ok(value),
            None => self.call.invoke(state.env(), &[left.clone(), right.clone()]),
        }
    }
}

impl CallCode {
    /// As [`CallCode::eval`], once: the next time gives the same. A function that waits unwinds to the driver instead of
    /// being called, and is answered there.
    fn replay(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        let mut args = Vec::with_capacity(self.args.len());
        for arg in &mut self.args {
            args.push(arg.eval(state, row)?);
        }
        // Only now: calls in the arguments come before this one.
        let at = state.replay.at;
        if let Some(value) = state.replay.results.get(at) {
            state.replay.at += 1;
            return Ok(value.clone());
        }
        let skipped = self.site.function.strict && args.iter().any(Datum::is_null);
        let value = match state.answered.take() {
            Some(value) => value,
            None if self.site.function.waits && !skipped => {
                state.call = Some((self.site.function, args));
                return Err(crate::state::blocked());
            }
            None => self.site.invoke(state.env(), &args)?,
        };
        state.replay.results.push(value.clone());
        state.replay.at = state.replay.results.len();
        Ok(value)
    }

    #[inline]
    fn eval(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        match &mut *self.args {
            [] => self.site.invoke(state.env(), &[]),
            [a] => {
                // One argument that already stands somewhere need not be copied.
                let mut spare = Datum::Null;
                let arg = a.get(state, row, &mut spare)?;
                self.site.invoke(state.env(), std::slice::from_ref(arg))
            }
            [a, b] => {
                let args = [a.eval(state, row)?, b.eval(state, row)?];
                self.site.invoke(state.env(), &args)
            }
            [a, b, c] => {
                let args = [a.eval(state, row)?, b.eval(state, row)?, c.eval(state, row)?];
                self.site.invoke(state.env(), &args)
            }
            many => {
                let mut args = Vec::with_capacity(many.len());
                for arg in many {
                    args.push(arg.eval(state, row)?);
                }
                self.site.invoke(state.env(), &args)
            }
        }
    }
}

/// Folds the answers of one operator over several values, as ANY (`all == false`) or ALL.
struct Fold {
    all: bool,
    unknown: bool,
}

impl Fold {
    fn new(all: bool) -> Fold {
        Fold { all, unknown: false }
    }

    /// `Some` when the answer is known already.
    #[inline]
    fn add(&mut self, answer: Option<bool>) -> Option<bool> {
        match answer {
            Some(value) if value != self.all => Some(value),
            Some(_) => None,
            None => {
                self.unknown = true;
                None
            }
        }
    }

    fn end(self) -> Option<bool> {
        if self.unknown { None } else { Some(self.all) }
    }
}

impl InList {
    fn test(&mut self, state: &mut State, row: &[Datum]) -> Result<Option<bool>> {
        let InList { operator, left, list, all, negated } = self;
        let mut a = Datum::Null;
        let left = left.get(state, row, &mut a)?;
        let mut fold = Fold::new(*all);
        for item in list {
            let mut b = Datum::Null;
            let right = item.get(state, row, &mut b)?;
            if let Some(answer) = fold.add(operator.apply(state, left, right)?) {
                return Ok(Some(answer != *negated));
            }
        }
        Ok(fold.end().map(|answer| answer != *negated))
    }
}

impl InSet {
    fn test(&mut self, state: &mut State, row: &[Datum]) -> Result<Option<bool>> {
        let InSet { left, ty, values, index, has_null, negated } = self;
        let mut spare = Datum::Null;
        let left = left.get(state, row, &mut spare)?;
        if left.is_null() {
            return Ok(None);
        }
        let found =
            index.find(rows::hash_value(*ty, left), |entry| rows::same(*ty, left, &values[entry])).is_some();
        Ok(if found {
            Some(!*negated)
        } else if *has_null {
            None
        } else {
            Some(*negated)
        })
    }
}

impl AnyArray {
    fn test(&mut self, state: &mut State, row: &[Datum]) -> Result<Option<bool>> {
        let AnyArray { operator, left, array, all } = self;
        let (mut a, mut b) = (Datum::Null, Datum::Null);
        let left = left.get(state, row, &mut a)?;
        let array = match array.get(state, row, &mut b)? {
            Datum::Null => return Ok(None),
            Datum::Array(array) => array,
            other => return Err(Error::internal(format!("ANY over {other:?}"))),
        };
        let mut fold = Fold::new(*all);
        for right in &array.values {
            if let Some(answer) = fold.add(operator.apply(state, left, right)?) {
                return Ok(Some(answer));
            }
        }
        Ok(fold.end())
    }
}

/// An array of evaluated elements; of arrays with one more dimension when `nested`.
pub(crate) fn array_of(element: Oid, nested: bool, values: Vec<Datum>) -> Result<Datum> {
    if !nested {
        return Ok(Datum::Array(Arc::new(Array::from_values(element, values))));
    }
    let empty = Arc::new(Array::empty(element));
    let parts: Vec<Arc<Array>> = values
        .into_iter()
        .map(|value| match value {
            Datum::Array(array) => Ok(array),
            Datum::Null => Ok(empty.clone()),
            other => Err(Error::internal(format!("an array of arrays with {other:?}"))),
        })
        .collect::<Result<_>>()?;
    let parts: Vec<&Array> = parts.iter().map(|part| &**part).collect();
    Ok(Datum::Array(Arc::new(Array::from_arrays(element, &parts)?)))
}

impl SubscriptCode {
    fn eval(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        let array = match self.input.eval(state, row)? {
            Datum::Null => return Ok(Datum::Null),
            Datum::Array(array) => array,
            other => return Err(Error::internal(format!("a subscript of {other:?}"))),
        };
        let index = |code: &mut Code, state: &mut State| -> Result<Option<i32>> {
            match code.eval(state, row)? {
                Datum::Null => Ok(None),
                Datum::Int4(value) => Ok(Some(value)),
                other => integer(&other)
                    .and_then(|value| i32::try_from(value).ok())
                    .map(Some)
                    .ok_or_else(|| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range")),
            }
        };
        if self.subscripts.iter().all(|part| matches!(part, SubscriptPart::Index(_))) {
            let mut indexes = Vec::with_capacity(self.subscripts.len());
            for part in &mut self.subscripts {
                if let SubscriptPart::Index(code) = part {
                    match index(code, state)? {
                        Some(value) => indexes.push(value),
                        None => return Ok(Datum::Null),
                    }
                }
            }
            return Ok(array.subscript(&indexes));
        }
        let mut bounds: Vec<Bounds> = Vec::with_capacity(self.subscripts.len());
        for part in &mut self.subscripts {
            match part {
                // Among slices, a single index i means 1:i.
                SubscriptPart::Index(code) => match index(code, state)? {
                    Some(value) => bounds.push((Some(1), Some(value))),
                    None => return Ok(Datum::Null),
                },
                SubscriptPart::Slice(low, high) => {
                    let mut bound = |code: &mut Option<Code>| -> Result<Option<Option<i32>>> {
                        match code {
                            None => Ok(Some(None)),
                            Some(code) => Ok(index(code, state)?.map(Some)),
                        }
                    };
                    match (bound(low)?, bound(high)?) {
                        (Some(low), Some(high)) => bounds.push((low, high)),
                        _ => return Ok(Datum::Null),
                    }
                }
            }
        }
        Ok(Datum::Array(Arc::new(array.slice(&bounds))))
    }
}

impl ConvertCode {
    /// Converts one value.
    pub fn apply(&mut self, env: &dyn Environment, value: Datum) -> Result<Datum> {
        match &mut self.kind {
            ConvertStep::Relabel => Ok(relabel(value, self.to.oid)),
            ConvertStep::InOut => through_text(env, value, self.from, self.to, self.explicit),
            ConvertStep::Typmod => typmod(value, self.to, self.explicit),
            ConvertStep::Elements(function) => {
                let array = match value {
                    Datum::Null => return Ok(Datum::Null),
                    Datum::Array(array) => array,
                    other => return Err(Error::internal(format!("elements of {other:?}"))),
                };
                let from = Type::new(types::element_of(self.from.oid));
                let to = Type::with_typmod(types::element_of(self.to.oid), self.to.typmod);
                let mut values = Vec::with_capacity(array.values.len());
                for value in &array.values {
                    let value = match function {
                        _ if value.is_null() => Datum::Null,
                        Some(site) => site.invoke(env, std::slice::from_ref(value))?,
                        None if from.oid == to.oid => value.clone(),
                        None => through_text(env, value.clone(), from, to, self.explicit)?,
                    };
                    values.push(typmod(value, to, self.explicit)?);
                }
                Ok(Datum::Array(Arc::new(Array { element: to.oid, dims: array.dims.clone(), values })))
            }
        }
    }
}

fn typmod(value: Datum, to: Type, explicit: bool) -> Result<Datum> {
    if to.typmod < 0 || value.is_null() {
        return Ok(value);
    }
    value::text::apply_typmod(value, to, explicit)
}

/// The same bits as a value of another type: only what lives in another variant changes.
fn relabel(value: Datum, to: Oid) -> Datum {
    match (types::repr(to), value) {
        (Repr::Oid, Datum::Int4(v)) => Datum::Oid(v as u32),
        (Repr::Oid, Datum::Int8(v)) => Datum::Oid(v as u32),
        (Repr::Int4, Datum::Oid(v)) => Datum::Int4(v as i32),
        (Repr::Int8, Datum::Oid(v)) => Datum::Int8(i64::from(v)),
        (_, value) => value,
    }
}

/// Output function of one type, input function of the other.
fn through_text(env: &dyn Environment, value: Datum, from: Type, to: Type, explicit: bool) -> Result<Datum> {
    if value.is_null() {
        return Ok(value);
    }
    let style = env.style();
    let text: Arc<str> = match value {
        Datum::Text(text) if from.oid != oid::BPCHAR || types::repr(to.oid) != Repr::Text => text,
        // char(n) loses its padding on the way to other strings.
        Datum::Text(text) => text.trim_end_matches(' ').into(),
        other => value::text::output_string(&other, from.oid, style).into(),
    };
    let value = value::text::input(Type::new(to.oid), &text, style)?;
    typmod(value, to, explicit)
}

impl SubplanCode {
    fn eval(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        for (outer, code) in &mut self.bindings {
            let value = code.eval(state, row)?;
            state.outers[*outer] = value;
        }
        if !self.resumes {
            return self.test(state, row);
        }
        let mut tests = Vec::new();
        if let SubplanTest::Quantified(quantified) = &mut self.kind {
            tests = quantified.left(state, row)?;
        }
        // Only now: calls in what it is given come before it.
        let at = state.replay.at;
        if let Some(value) = state.replay.results.get(at) {
            state.replay.at += 1;
            return Ok(value.clone());
        }
        let value = match &mut self.kind {
            SubplanTest::Quantified(quantified) => {
                truth(quantified.fold(state, self.subplan, &tests, true)?)
            }
            _ => self.test(state, row)?,
        };
        state.replay.results.push(value.clone());
        state.replay.at = state.replay.results.len();
        Ok(value)
    }

    fn test(&mut self, state: &mut State, row: &[Datum]) -> Result<Datum> {
        let resumes = self.resumes;
        match &mut self.kind {
            SubplanTest::Exists => Ok(Datum::Bool(state.subplan_exists(self.subplan, resumes)?)),
            SubplanTest::Scalar => state.subplan_scalar(self.subplan, resumes),
            SubplanTest::Array { element } => {
                let rows = state.subplan_rows(self.subplan, resumes)?;
                let values: Vec<Datum> = rows.iter().map(|row| row[0].clone()).collect();
                // A column of arrays gives one dimension more, of the same array type.
                let nested = types::repr(*element) != Repr::Array
                    && values.iter().any(|value| matches!(value, Datum::Array(_)));
                array_of(*element, nested, values)
            }
            SubplanTest::Quantified(quantified) => {
                let tests = quantified.left(state, row)?;
                Ok(truth(quantified.fold(state, self.subplan, &tests, false)?))
            }
        }
    }
}

impl Quantified {
    fn left(&mut self, state: &mut State, row: &[Datum]) -> Result<Vec<Datum>> {
        let mut tests = Vec::with_capacity(self.tests.len());
        for test in &mut self.tests {
            tests.push(test.eval(state, row)?);
        }
        Ok(tests)
    }

    fn fold(
        &mut self,
        state: &mut State,
        subplan: usize,
        tests: &[Datum],
        resumes: bool,
    ) -> Result<Option<bool>> {
        let rows = state.subplan_rows(subplan, resumes)?;
        if rows.is_empty() {
            return Ok(Some(self.all));
        }
        if let Some(types) = &self.hashable
            && rows.count > 4
        {
            if !self.set.as_ref().is_some_and(|set| Arc::ptr_eq(&set.source, &rows)) {
                self.set = Some(AnySet::new(rows.clone(), types));
            }
            if let Some(set) = &self.set
                && !tests.iter().any(Datum::is_null)
            {
                let hash = rows::hash_row(types, tests);
                if set.index.find(hash, |entry| rows::same_row(types, tests, rows.row(entry))).is_some() {
                    return Ok(Some(true));
                }
                if set.nulls.is_empty() {
                    return Ok(Some(false));
                }
                let mut fold = Fold::new(false);
                for entry in &set.nulls {
                    let answer = compare_rows(&mut self.operators, state, tests, rows.row(*entry))?;
                    if let Some(answer) = fold.add(answer) {
                        return Ok(Some(answer));
                    }
                }
                return Ok(fold.end());
            }
        }
        let mut fold = Fold::new(self.all);
        for (number, candidate) in rows.iter().enumerate() {
            if number % 1024 == 1023 {
                state.context.cancel.check()?;
            }
            let answer = compare_rows(&mut self.operators, state, tests, candidate)?;
            if let Some(answer) = fold.add(answer) {
                return Ok(Some(answer));
            }
        }
        Ok(fold.end())
    }
}

/// Pairwise AND of the operators. Row comparisons other than `=` and `<>` are spelled out by the resolver.
fn compare_rows(
    operators: &mut [Operator],
    state: &State,
    left: &[Datum],
    right: &[Datum],
) -> Result<Option<bool>> {
    let mut unknown = false;
    // `(a, b) <> (c, d)` is true when any pair differs, everything else when all pairs agree.
    let differ = operators.len() > 1 && operators.iter().all(Operator::is_unequal);
    for (operator, (a, b)) in operators.iter_mut().zip(left.iter().zip(right)) {
        match operator.apply(state, a, b)? {
            Some(answer) if answer == differ => return Ok(Some(differ)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { None } else { Some(!differ) })
}

impl Operator {
    fn is_unequal(&self) -> bool {
        match self {
            Operator::Fast(strategy, _) => *strategy == Strategy::Ne,
            Operator::Call(site) => {
                crate::compile::strategy_of(site.function).is_some_and(|(s, ..)| s == Strategy::Ne)
            }
        }
    }
}

impl AnySet {
    fn new(source: Arc<rows::Rows>, types: &[Oid]) -> AnySet {
        let mut index = Index::default();
        let mut nulls = Vec::new();
        for (number, row) in source.iter().enumerate() {
            if row.iter().any(Datum::is_null) {
                nulls.push(number);
                index.push_unlinked();
            } else {
                index.push(rows::hash_row(types, row));
            }
        }
        AnySet { source, index, nulls }
    }
}

/// Which of our steps a conversion is; the function of [`ConvertKind::ArrayElements`] is compiled by the caller.
pub(crate) fn convert_step(kind: ConvertKind, elements: Option<Box<CallSite>>) -> ConvertStep {
    match kind {
        ConvertKind::Relabel => ConvertStep::Relabel,
        ConvertKind::InOut => ConvertStep::InOut,
        ConvertKind::Typmod => ConvertStep::Typmod,
        ConvertKind::ArrayElements(_) => ConvertStep::Elements(elements),
    }
}
