//! The tables of all families, indexed by oid, name and types once, at first use.

use std::collections::HashMap;
use std::sync::LazyLock;

use value::Oid;
use value::types::{oid, repr};

use crate::casts::{CASTS, IN_OUT, RELABEL};
use crate::operators::OPERATORS;
use crate::{
    Aggregate, Callable, Cast, CastMethod, Function, Operator, SetFunction, Strategy, WindowFunction,
};

static FAMILIES: &[&[Function]] = &[
    crate::arithmetic::FUNCTIONS,
    crate::array::FUNCTIONS,
    crate::boolean::FUNCTIONS,
    crate::bytea::FUNCTIONS,
    crate::casts::FUNCTIONS,
    crate::comparison::FUNCTIONS,
    crate::datetime::FUNCTIONS,
    crate::json::FUNCTIONS,
    crate::jsonpath::FUNCTIONS,
    crate::numeric::FUNCTIONS,
    crate::pattern::FUNCTIONS,
    crate::system::FUNCTIONS,
    crate::text::FUNCTIONS,
    crate::uuid::FUNCTIONS,
];

struct Registry {
    by_oid: HashMap<Oid, &'static Function>,
    by_name: HashMap<&'static str, Vec<Callable>>,
    operators: Vec<Operator>,
    casts: Vec<Cast>,
}

/// Positions in the registry's vectors, which are static once the registry is.
struct Indexes {
    operators_by_name: HashMap<&'static str, Vec<&'static Operator>>,
    casts: HashMap<(Oid, Oid), &'static Cast>,
    comparisons: HashMap<(Oid, Strategy), &'static Function>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut by_oid = HashMap::new();
    let mut by_name: HashMap<&'static str, Vec<Callable>> = HashMap::new();
    for function in functions() {
        by_oid.insert(function.oid, function);
        by_name.entry(function.name).or_default().push(Callable::Function(function));
    }
    for aggregate in aggregates() {
        by_name.entry(aggregate.name).or_default().push(Callable::Aggregate(aggregate));
    }
    for window in window_functions() {
        by_name.entry(window.name).or_default().push(Callable::Window(window));
    }
    for set in set_functions() {
        by_name.entry(set.name).or_default().push(Callable::Set(set));
    }
    let name = |name: &'static str| if name.is_empty() { None } else { Some(name) };
    let operators = OPERATORS
        .iter()
        .filter_map(|&(oid, symbol, left, right, function, commutator, negator)| {
            Some(Operator {
                oid,
                name: symbol,
                left: if left == 0 { None } else { Some(left) },
                right,
                function: by_oid.get(&function)?,
                commutator: name(commutator),
                negator: name(negator),
                class: strategy(symbol),
            })
        })
        .collect();
    let casts = CASTS
        .iter()
        .filter_map(|&(source, target, function, context)| {
            let method = match function {
                RELABEL => CastMethod::Relabel,
                IN_OUT => CastMethod::InOut,
                function => CastMethod::Function(by_oid.get(&function)?),
            };
            Some(Cast { source, target, context, method })
        })
        .collect();
    Registry { by_oid, by_name, operators, casts }
});

static INDEXES: LazyLock<Indexes> = LazyLock::new(|| {
    let mut operators_by_name: HashMap<&'static str, Vec<&'static Operator>> = HashMap::new();
    let mut comparisons = HashMap::new();
    for operator in &REGISTRY.operators {
        operators_by_name.entry(operator.name).or_default().push(operator);
        if let (Some(strategy), true) = (operator.class, operator.left == Some(operator.right)) {
            comparisons.insert((operator.right, strategy), operator.function);
        }
    }
    let casts = REGISTRY.casts.iter().map(|cast| ((cast.source, cast.target), cast)).collect();
    Indexes { operators_by_name, casts, comparisons }
});

fn strategy(symbol: &str) -> Option<Strategy> {
    Some(match symbol {
        "<" => Strategy::Lt,
        "<=" => Strategy::Le,
        "=" => Strategy::Eq,
        ">=" => Strategy::Ge,
        ">" => Strategy::Gt,
        "<>" => Strategy::Ne,
        _ => return None,
    })
}

/// Every scalar function.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// Every aggregate.
pub fn aggregates() -> impl Iterator<Item = &'static Aggregate> {
    crate::aggregate::AGGREGATES.iter().flat_map(|family| family.iter())
}

/// Every window function that is not an aggregate.
pub fn window_functions() -> impl Iterator<Item = &'static WindowFunction> {
    crate::window::WINDOW_FUNCTIONS.iter()
}

/// Every set-returning function.
pub fn set_functions() -> impl Iterator<Item = &'static SetFunction> {
    crate::set::SET_FUNCTIONS
        .iter()
        .chain(crate::json_record::SET_FUNCTIONS)
        .chain(crate::access_list::SET_FUNCTIONS)
        .chain(crate::keyword::SET_FUNCTIONS)
        .chain(crate::jsonpath::SET_FUNCTIONS)
}

/// Every operator.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    REGISTRY.operators.iter()
}

/// Every cast that `pg_cast` lists.
pub fn cast_rows() -> impl Iterator<Item = &'static Cast> {
    REGISTRY.casts.iter()
}

/// The scalar function with this oid.
pub fn function_by_oid(oid: Oid) -> Option<&'static Function> {
    REGISTRY.by_oid.get(&oid).copied()
}

/// The aggregate with this oid.
pub fn aggregate_by_oid(oid: Oid) -> Option<&'static Aggregate> {
    aggregates().find(|aggregate| aggregate.oid == oid)
}

/// The operator with this oid.
pub fn operator_by_oid(oid: Oid) -> Option<&'static Operator> {
    operators().find(|operator| operator.oid == oid)
}

/// Everything that can be called by `name` (lower case).
pub fn functions_named(name: &str) -> &'static [Callable] {
    REGISTRY.by_name.get(name).map_or(&[], Vec::as_slice)
}

/// Names that exist, for hints.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.by_name.keys().copied()
}

pub(crate) fn operators_named(name: &str) -> &'static [&'static Operator] {
    INDEXES.operators_by_name.get(name).map_or(&[], Vec::as_slice)
}

/// The row of `pg_cast` from `source` to `target`, if any.
pub fn find_cast(source: Oid, target: Oid) -> Option<&'static Cast> {
    INDEXES.casts.get(&(source, target)).copied()
}

/// The type whose comparison operators values of `ty` use: text for varchar and unknown, oid for reg* types,
/// anyarray for arrays.
pub(crate) fn comparison_type(ty: Oid) -> Oid {
    match ty {
        oid::VARCHAR | oid::UNKNOWN | oid::PG_NODE_TREE => oid::TEXT,
        oid::OIDVECTOR | oid::INT2VECTOR => oid::ANYARRAY,
        oid::CID => oid::XID,
        oid::TID | oid::PG_LSN | oid::XID => ty,
        _ if repr(ty) == value::types::Repr::Oid => oid::OID,
        _ if repr(ty) == value::types::Repr::Array => oid::ANYARRAY,
        _ => ty,
    }
}

/// The function that compares two values of `ty` by `strategy`: what sorts, merges and index bounds use.
/// `None` for types without an order (json).
pub fn comparison(ty: Oid, strategy: Strategy) -> Option<&'static Function> {
    INDEXES.comparisons.get(&(comparison_type(ty), strategy)).copied()
}

/// Rows of the operator and cast tables whose function is not declared; they are left out of the registry.
pub fn missing_operators() -> Vec<String> {
    let operators = OPERATORS
        .iter()
        .filter(|row| !REGISTRY.by_oid.contains_key(&row.4))
        .map(|row| format!("{} {} {}: function {}", row.2, row.1, row.3, row.4));
    let casts = CASTS
        .iter()
        .filter(|row| row.2 > IN_OUT && !REGISTRY.by_oid.contains_key(&row.2))
        .map(|row| format!("cast {} to {}: function {}", row.0, row.1, row.2));
    operators.chain(casts).collect()
}
