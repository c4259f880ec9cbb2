//! From expressions to [`Code`], once per execution: parameters are known, calls of stable functions over constants
//! become values, and call sites are prepared.

use std::sync::LazyLock;

use function::{Function, SetFunction, Signature, Strategy, Volatility};
use hashbrown::HashMap;
use resolve::tree::{Call, ConvertKind, Expr, SubplanCall, SubplanKind, Subscript};
use value::types::{self, Repr, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::code::*;
use crate::context::Context;
use crate::rows::{self, Index};

/// Deepest nesting of calls; chains of one operator do not count.
const MAX_DEPTH: usize = 1000;
/// Deeper ones than this are evaluated on a stack that is made sure to be large enough.
const DEEP: usize = 100;
/// Stack that must be left for 64 levels of compilation.
const STACK: usize = 512 * 1024;
/// Left-deep chains from this length on are unrolled.
const CHAIN: usize = 32;
/// IN lists of constants from this length on become a hash set.
const SET: usize = 9;

/// A set-returning call found in a target list; its values stand in a slot behind the input's.
pub(crate) struct SetSite {
    pub function: &'static SetFunction,
    pub args: Vec<Code>,
    pub signature: Signature,
    pub state: function::State,
}

/// Compiles expressions for one execution.
pub(crate) struct Compiler<'a> {
    context: &'a Context,
    depth: usize,
    deepest: usize,
    /// Calls of volatile functions remember what they gave: see [`crate::node::awaiting`].
    replaying: bool,
    /// Where set-returning calls go, and the slot of the first; `None`: they are not allowed here.
    sets: Option<(usize, Vec<SetSite>)>,
}

/// What the function of a comparison operator means: strategy and both declared types.
pub(crate) fn strategy_of(function: &Function) -> Option<(Strategy, Oid, Oid)> {
    static STRATEGIES: LazyLock<HashMap<Oid, (Strategy, Oid, Oid)>> = LazyLock::new(|| {
        function::operators()
            .filter_map(|op| Some((op.function.oid, (op.class?, op.left?, op.right))))
            .collect()
    });
    STRATEGIES.get(&function.oid).copied()
}

/// How to compare values of these two types without a call, if their representations allow it.
fn kind_of(left: Oid, right: Oid) -> Option<Kind> {
    let (a, b) = (types::repr(left), types::repr(right));
    let is_int = |repr| matches!(repr, Repr::Int2 | Repr::Int4 | Repr::Int8);
    let is_float = |repr| matches!(repr, Repr::Float4 | Repr::Float8);
    if is_int(a) && is_int(b) {
        return Some(Kind::Int);
    }
    if is_float(a) && is_float(b) {
        return Some(Kind::Float);
    }
    if a != b {
        return None;
    }
    match a {
        Repr::Oid | Repr::Date | Repr::Time | Repr::Timestamp | Repr::TimestampTz => Some(Kind::Int),
        Repr::Bool => Some(Kind::Bool),
        Repr::Text if left == oid::BPCHAR || right == oid::BPCHAR => {
            (left == right).then_some(Kind::Typed(oid::BPCHAR))
        }
        Repr::Text => Some(Kind::Text),
        Repr::None if left == oid::ANYARRAY => Some(Kind::Typed(left)),
        Repr::None => None,
        _ if left == right => Some(Kind::Typed(left)),
        _ => None,
    }
}

fn arithmetic_of(function: &Function) -> Option<(ArithmeticOp, ArithmeticKind)> {
    use ArithmeticKind::*;
    use ArithmeticOp::*;
    // Oids of pg_proc: int4pl and its kin.
    Some(match function.oid {
        177 => (Add, Int4),
        181 => (Subtract, Int4),
        141 => (Multiply, Int4),
        463 => (Add, Int8),
        464 => (Subtract, Int8),
        465 => (Multiply, Int8),
        218 => (Add, Float8),
        219 => (Subtract, Float8),
        216 => (Multiply, Float8),
        _ => return None,
    })
}

fn too_deep() -> Error {
    Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
        .hint("Split the expression into smaller ones.")
}

fn unplanned(what: &str) -> Error {
    Error::internal(format!("{what} in a planned expression"))
}

impl<'a> Compiler<'a> {
    pub fn new(context: &'a Context) -> Compiler<'a> {
        Compiler { context, depth: 0, deepest: 0, replaying: false, sets: None }
    }

    /// For expressions that are computed again after each wait in them.
    pub fn replaying(mut self) -> Compiler<'a> {
        self.replaying = true;
        self
    }

    /// Compiles a list in which set-returning calls are allowed: they become slots from `base` on.
    pub fn with_sets(mut self, base: usize, exprs: &[Expr]) -> Result<(Vec<Code>, Vec<SetSite>)> {
        self.sets = Some((base, Vec::new()));
        let codes = self.list(exprs)?;
        Ok((codes, self.sets.map(|(_, sites)| sites).unwrap_or_default()))
    }

    pub fn list(&mut self, exprs: &[Expr]) -> Result<Vec<Code>> {
        exprs.iter().map(|expr| self.compile(expr)).collect()
    }

    pub fn maybe(&mut self, expr: Option<&Expr>) -> Result<Option<Code>> {
        expr.map(|expr| self.compile(expr)).transpose()
    }

    pub fn compile(&mut self, expr: &Expr) -> Result<Code> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        self.deepest = self.deepest.max(self.depth);
        let code = if self.depth.is_multiple_of(64) {
            stacker::maybe_grow(STACK, 4 * STACK, || self.expr(expr))?
        } else {
            self.expr(expr)?
        };
        self.depth -= 1;
        if self.depth == 0 && std::mem::take(&mut self.deepest) > DEEP {
            return Ok(Code::Deep(Box::new(code)));
        }
        Ok(code)
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<Code>> {
        Ok(Box::new(self.compile(expr)?))
    }

    fn expr(&mut self, expr: &Expr) -> Result<Code> {
        Ok(match expr {
            Expr::Const { value, .. } => Code::Const(value.clone()),
            Expr::Param { index, .. } => match self.context.params.get(*index) {
                Some(value) => Code::Const(value.clone()),
                None => {
                    return Err(Error::new(
                        SqlState::UNDEFINED_PARAMETER,
                        format!("no value found for parameter {}", index + 1),
                    ));
                }
            },
            Expr::Slot { index, .. } => Code::Slot(*index),
            Expr::Outer { index, .. } => Code::Outer(*index),
            Expr::Call(call) => self.call(call)?,
            Expr::Convert(convert) => {
                let input = self.compile(&convert.input)?;
                if convert.kind == ConvertKind::Relabel
                    && types::repr(convert.from.oid) == types::repr(convert.to.oid)
                {
                    return Ok(input);
                }
                let elements = match convert.kind {
                    ConvertKind::ArrayElements(Some(function)) => {
                        let signature = Signature {
                            args: vec![Type::new(types::element_of(convert.from.oid))],
                            result: Type::new(types::element_of(convert.to.oid)),
                        };
                        Some(Box::new(self.site(function, signature, &[None], None)?))
                    }
                    _ => None,
                };
                // The text of a reg* value is a name, which the catalog knows.
                let (input, from) = match function::reg_output(convert.from.oid) {
                    Some(output) if convert.kind == ConvertKind::InOut => {
                        let signature = Signature { args: vec![convert.from], result: Type::new(oid::TEXT) };
                        let site = self.site(output, signature, &[None], None)?;
                        let args = vec![input].into_boxed_slice();
                        (Code::Call(Box::new(CallCode { site, args })), Type::new(oid::TEXT))
                    }
                    _ => (input, convert.from),
                };
                let mut code = ConvertCode {
                    input,
                    from,
                    to: convert.to,
                    kind: convert_step(convert.kind, elements),
                    explicit: convert.explicit,
                };
                if let Code::Const(value) = &code.input {
                    let value = value.clone();
                    if let Ok(value) = code.apply(&*self.context.env, value) {
                        return Ok(Code::Const(value));
                    }
                }
                Code::Convert(Box::new(code))
            }
            Expr::And(parts) => Code::And(self.list(parts)?.into_boxed_slice()),
            Expr::Or(parts) => Code::Or(self.list(parts)?.into_boxed_slice()),
            Expr::Not(input) => Code::Not(self.boxed(input)?),
            Expr::IsNull { input, negated } => {
                let is_row = types::repr(input.ty().oid) == Repr::Record;
                let input = self.boxed(input)?;
                if is_row {
                    Code::IsNullRow { input, negated: *negated }
                } else {
                    Code::IsNull { input, negated: *negated }
                }
            }
            Expr::IsBool { input, value, negated } => {
                Code::IsBool { input: self.boxed(input)?, value: *value, negated: *negated }
            }
            Expr::Distinct { equal, left, right, negated } => Code::Distinct(Box::new(Distinct {
                operator: self.operator(equal, left.ty(), right.ty())?,
                left: self.compile(left)?,
                right: self.compile(right)?,
                negated: *negated,
            })),
            Expr::NullIf { equal, left, right, .. } => Code::NullIf(Box::new(Distinct {
                operator: self.operator(equal, left.ty(), right.ty())?,
                left: self.compile(left)?,
                right: self.compile(right)?,
                negated: false,
            })),
            Expr::Case { whens, otherwise, .. } => {
                let mut arms = Vec::with_capacity(whens.len());
                for (condition, result) in whens {
                    arms.push((self.compile(condition)?, self.compile(result)?));
                }
                let otherwise = match otherwise {
                    Some(expr) => Some(self.compile(expr)?),
                    None => None,
                };
                Code::Case(Box::new(Case { whens: arms, otherwise }))
            }
            Expr::Coalesce { args, .. } => Code::Coalesce(self.list(args)?.into_boxed_slice()),
            Expr::Extreme { greatest, args, ty } => {
                Code::Extreme { greatest: *greatest, ty: ty.oid, args: self.list(args)?.into_boxed_slice() }
            }
            Expr::InList { function, left, list, all, negated } => {
                self.in_list(function, left, list, *all, *negated)?
            }
            Expr::AnyArray { function, left, array, all } => {
                let element = Type::new(types::element_of(array.ty().oid));
                let operator = self.operator(function, left.ty(), element)?;
                let left_ty = left.ty();
                let left = self.compile(left)?;
                let array = self.compile(array)?;
                // An array that is a value by now is a list.
                if let (Code::Const(Datum::Array(values)), Operator::Fast(strategy, kind)) =
                    (&array, &operator)
                {
                    let items: Vec<Datum> = values.values.clone();
                    match (all, strategy) {
                        (false, Strategy::Eq) if items.len() >= SET => {
                            return Ok(set_of(left, left_ty.oid, *kind, items, false));
                        }
                        (true, Strategy::Ne) if items.len() >= SET => {
                            return Ok(set_of(left, left_ty.oid, *kind, items, true));
                        }
                        _ => {}
                    }
                }
                Code::AnyArray(Box::new(AnyArray { operator, left, array, all: *all }))
            }
            Expr::Array { elements, ty } => {
                let nested =
                    elements.first().is_some_and(|e| types::info(e.ty().oid).is_some_and(|i| i.is_array()))
                        && types::element_of(ty.oid) != elements[0].ty().oid;
                Code::Array {
                    element: types::element_of(ty.oid),
                    nested,
                    elements: self.list(elements)?.into_boxed_slice(),
                }
            }
            Expr::Row { fields, .. } => Code::Row {
                types: fields.iter().map(|field| field.ty().oid).collect(),
                fields: self.list(fields)?.into_boxed_slice(),
            },
            Expr::Subscript { input, subscripts, .. } => {
                let input = self.compile(input)?;
                let mut parts = Vec::with_capacity(subscripts.len());
                for subscript in subscripts {
                    parts.push(match subscript {
                        Subscript::Index(expr) => SubscriptPart::Index(self.compile(expr)?),
                        Subscript::Slice(low, high) => {
                            SubscriptPart::Slice(self.maybe(low.as_ref())?, self.maybe(high.as_ref())?)
                        }
                    });
                }
                Code::Subscript(Box::new(SubscriptCode { input, subscripts: parts }))
            }
            Expr::Field { input, index, .. } => Code::Field { input: self.boxed(input)?, index: *index },
            Expr::SetCall(call) => {
                if self.sets.is_none() {
                    return Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "set-returning functions are not allowed here",
                    )
                    .hint("Move the set-returning function into the FROM clause."));
                }
                let (base, before) = match &self.sets {
                    Some((base, sites)) => (*base, sites.len()),
                    None => (0, 0),
                };
                let args = self.list(&call.args)?;
                if self.sets.as_ref().is_some_and(|(_, sites)| sites.len() != before) {
                    return Err(Error::unsupported(
                        "a set-returning function as an argument of another in one select list",
                        "Call the inner one in FROM.",
                    ));
                }
                let signature = Signature { args: call.args.iter().map(Expr::ty).collect(), result: call.ty };
                let site = SetSite { function: call.function, args, signature, state: None };
                match &mut self.sets {
                    Some((_, sites)) => sites.push(site),
                    None => return Err(unplanned("a set-returning function")),
                }
                Code::Slot(base + before)
            }
            Expr::Subplan(call) => self.subplan(call)?,
            Expr::Column { .. } => return Err(unplanned("a column")),
            Expr::RowId { .. } => return Err(unplanned("a row id")),
            Expr::WholeRow { .. } => return Err(unplanned("a whole row")),
            Expr::Aggregate(_) => return Err(unplanned("an aggregate")),
            Expr::Window(_) => return Err(unplanned("a window function")),
            Expr::Grouping(_) => return Err(unplanned("GROUPING")),
            Expr::Sublink(_) => return Err(unplanned("a sublink")),
        })
    }

    /// A prepared call site. `constants`: the arguments that are known.
    fn site(
        &self,
        function: &'static Function,
        signature: Signature,
        constants: &[Option<Datum>],
        position: Option<usize>,
    ) -> Result<CallSite> {
        let state = match function.prepare {
            // A bad constant (a regular expression that does not parse) is an error only where the call is made.
            Some(prepare) => prepare(&signature, constants).unwrap_or_default(),
            None => None,
        };
        Ok(CallSite { function, signature, state, position })
    }

    fn operator(&self, function: &'static Function, left: Type, right: Type) -> Result<Operator> {
        if let Some((strategy, a, b)) = strategy_of(function)
            && let Some(kind) = kind_of(a, b)
        {
            return Ok(Operator::Fast(strategy, kind));
        }
        let signature = Signature { args: vec![left, right], result: Type::new(function.returns) };
        Ok(Operator::Call(Box::new(self.site(function, signature, &[None, None], None)?)))
    }

    fn call(&mut self, call: &Call) -> Result<Code> {
        if call.args.len() == 2 {
            let mut length = 0;
            let mut at = call;
            while let Some(Expr::Call(inner)) = at.args.first() {
                if inner.args.len() != 2 {
                    break;
                }
                length += 1;
                at = inner;
            }
            if length >= CHAIN {
                return self.chain(call);
            }
        }
        let args = self.list(&call.args)?;
        self.finish_call(call, args)
    }

    fn chain(&mut self, call: &Call) -> Result<Code> {
        let mut spine = vec![call];
        let first = loop {
            let at = spine[spine.len() - 1];
            match &at.args[0] {
                Expr::Call(inner) if inner.args.len() == 2 => spine.push(inner),
                other => break self.compile(other)?,
            }
        };
        let mut steps = Vec::with_capacity(spine.len());
        for call in spine.into_iter().rev() {
            let right = self.compile(&call.args[1])?;
            let signature = Signature { args: call.args.iter().map(Expr::ty).collect(), result: call.ty };
            let constants = [None, right.constant().cloned()];
            steps.push((self.site(call.function, signature, &constants, call.position)?, right));
        }
        Ok(Code::Chain(Box::new(Chain { first, steps })))
    }

    fn finish_call(&mut self, call: &Call, args: Vec<Code>) -> Result<Code> {
        let signature = Signature { args: call.args.iter().map(Expr::ty).collect(), result: call.ty };
        let constants: Vec<Option<Datum>> = args.iter().map(|arg| arg.constant().cloned()).collect();
        let mut site = self.site(call.function, signature, &constants, call.position)?;
        if call.function.volatility != Volatility::Volatile
            && !call.function.waits
            && constants.iter().all(Option::is_some)
        {
            let values: Vec<Datum> = constants.into_iter().flatten().collect();
            // An error is raised where the call is made: it may stand in a branch that is never taken.
            if let Ok(value) = site.invoke(&*self.context.env, &values) {
                return Ok(Code::Const(value));
            }
            return Ok(Code::Call(Box::new(CallCode { site, args: args.into_boxed_slice() })));
        }
        if self.replaying && call.function.volatility == Volatility::Volatile {
            return Ok(Code::Replayed(Box::new(CallCode { site, args: args.into_boxed_slice() })));
        }
        if args.len() == 2 {
            let mut args = args;
            if let Some((strategy, left, right)) = strategy_of(call.function)
                && let Some(kind) = kind_of(left, right)
                && let (Some(right), Some(left)) = (args.pop(), args.pop())
            {
                return Ok(Code::Compare(Box::new(Compare { strategy, kind, left, right })));
            }
            if let Some((op, kind)) = arithmetic_of(call.function)
                && let (Some(right), Some(left)) = (args.pop(), args.pop())
            {
                return Ok(Code::Arithmetic(Box::new(Arithmetic { op, kind, left, right, call: site })));
            }
            return Ok(Code::Call(Box::new(CallCode { site, args: args.into_boxed_slice() })));
        }
        Ok(Code::Call(Box::new(CallCode { site, args: args.into_boxed_slice() })))
    }

    fn in_list(
        &mut self,
        function: &'static Function,
        left: &Expr,
        list: &[Expr],
        all: bool,
        negated: bool,
    ) -> Result<Code> {
        let right_ty = list.first().map_or(left.ty(), Expr::ty);
        let operator = self.operator(function, left.ty(), right_ty)?;
        let left_ty = left.ty();
        let left = self.compile(left)?;
        let list = self.list(list)?;
        if let Operator::Fast(strategy, kind) = &operator
            && list.len() >= SET
            && matches!((strategy, all), (Strategy::Eq, false) | (Strategy::Ne, true))
            && list.iter().all(|item| item.constant().is_some())
        {
            let items = list.iter().filter_map(|item| item.constant().cloned()).collect();
            return Ok(set_of(left, left_ty.oid, *kind, items, negated != all));
        }
        Ok(Code::InList(Box::new(InList { operator, left, list: list.into_boxed_slice(), all, negated })))
    }

    fn subplan(&mut self, call: &SubplanCall) -> Result<Code> {
        let mut bindings = Vec::with_capacity(call.bindings.len());
        for (outer, expr) in &call.bindings {
            bindings.push((*outer, self.compile(expr)?));
        }
        let kind = match &call.kind {
            SubplanKind::Exists => SubplanTest::Exists,
            SubplanKind::Scalar => SubplanTest::Scalar,
            SubplanKind::Array => SubplanTest::Array { element: self.array_element(call.ty.oid) },
            SubplanKind::Any { tests, functions } | SubplanKind::All { tests, functions } => {
                let all = matches!(call.kind, SubplanKind::All { .. });
                let mut operators = Vec::with_capacity(functions.len());
                let mut types = Some(Vec::new());
                for (test, function) in tests.iter().zip(functions) {
                    let right = strategy_of(function).map_or(test.ty(), |(_, _, right)| Type::new(right));
                    let operator = self.operator(function, test.ty(), right)?;
                    match (&operator, &mut types) {
                        (Operator::Fast(Strategy::Eq, kind), Some(list)) => {
                            list.push(hash_type(test.ty().oid, *kind))
                        }
                        _ => types = None,
                    }
                    operators.push(operator);
                }
                SubplanTest::Quantified(Box::new(Quantified {
                    all,
                    tests: self.list(tests)?,
                    operators,
                    hashable: types.filter(|_| !all),
                    set: None,
                }))
            }
        };
        let resumes = self.replaying;
        Ok(Code::Subplan(Box::new(SubplanCode { subplan: call.subplan, bindings, kind, resumes })))
    }

    /// What stands in the rows of ARRAY(SELECT ...) of this array type: its elements, but arrays where the result
    /// has more dimensions; told apart when the first value is seen, so the element type is enough here.
    fn array_element(&self, array: Oid) -> Oid {
        types::element_of(array)
    }
}

/// The type by which values compared by `kind` are hashed.
fn hash_type(ty: Oid, kind: Kind) -> Oid {
    match kind {
        Kind::Typed(ty) => ty,
        // Not bpchar even if the column is: it was compared as text.
        Kind::Text => oid::TEXT,
        Kind::Float => oid::FLOAT8,
        _ => ty,
    }
}

fn set_of(left: Code, ty: Oid, kind: Kind, items: Vec<Datum>, negated: bool) -> Code {
    let ty = hash_type(ty, kind);
    let mut set = InSet {
        left,
        ty,
        values: Vec::with_capacity(items.len()),
        index: Index::default(),
        has_null: false,
        negated,
    };
    for item in items {
        if item.is_null() {
            set.has_null = true;
            continue;
        }
        let hash = rows::hash_value(ty, &item);
        if set.index.find(hash, |entry| rows::same(ty, &item, &set.values[entry])).is_none() {
            set.index.push(hash);
            set.values.push(item);
        }
    }
    Code::InSet(Box::new(set))
}
