//! Which function, operator or type is meant: the PostgreSQL manual's chapter "Type Conversion".
//!
//! The order of steps matters and is the manual's: exact match; candidates that the arguments can be coerced to
//! implicitly; most exact matches; most exact or preferred types; for unknown literals the string category if any
//! candidate takes it, else the one category all agree on; at last, unknown literals taken as the type of the
//! known ones. Polymorphic types accept anything at first and are checked for consistency on the winner.

use value::types::{self, TypeKind, array_of, element_of, info, oid};
use value::{Datum, Error, Oid, Result, SqlState};

use crate::registry::{self, find_cast, functions_named, operators_named};
use crate::{Aggregate, AggregateKind, CastContext, Function, Operator, SetFunction, WindowFunction};

/// What a name and argument types can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callable {
    Function(&'static Function),
    Aggregate(&'static Aggregate),
    Window(&'static WindowFunction),
    Set(&'static SetFunction),
    /// `date('...')`, `text(x)`: no function of that name fits, but it is the name of a type that the one
    /// argument can be cast to.
    Coercion(Oid),
}

/// The outcome of a selection.
#[derive(Clone, Debug)]
pub struct Selected<T> {
    pub target: T,
    /// What each argument is to be coerced to, polymorphic types resolved. Arguments left out stay left out.
    pub arg_types: Vec<Oid>,
    pub result: Oid,
}

/// Where the value of a declared parameter comes from, in a call with named arguments.
#[derive(Clone, Debug)]
pub enum Place {
    /// The argument with this number: positional ones first, then named ones in the order given.
    Argument(usize),
    /// Left out: the declaration's default.
    Default(Datum),
}

/// A callable seen as candidate for `count` arguments: variadic ones expanded, defaults cut.
struct Candidate<T> {
    target: T,
    args: Vec<Oid>,
    returns: Oid,
    variadic: bool,
}

struct Shape {
    args: &'static [Oid],
    variadic: bool,
    defaults: usize,
    returns: Oid,
}

fn shape(callable: &Callable) -> Shape {
    match *callable {
        Callable::Function(f) => {
            Shape { args: f.args, variadic: f.variadic, defaults: f.defaults, returns: f.returns }
        }
        Callable::Aggregate(a) => {
            Shape { args: a.args, variadic: a.variadic, defaults: 0, returns: a.returns }
        }
        Callable::Window(w) => Shape { args: w.args, variadic: false, defaults: 0, returns: w.returns },
        Callable::Set(s) => {
            Shape { args: s.args, variadic: s.variadic, defaults: s.defaults, returns: s.returns }
        }
        Callable::Coercion(target) => Shape { args: &[], variadic: false, defaults: 0, returns: target },
    }
}

/// The declared types for a call with `count` arguments, `None` when it cannot take so many.
fn expand(shape: &Shape, count: usize) -> Option<Vec<Oid>> {
    let declared = shape.args.len();
    if shape.variadic {
        // At least one argument for the variadic parameter.
        let fixed = declared - 1;
        if count <= fixed {
            return None;
        }
        let element = match shape.args[fixed] {
            oid::ANY => oid::ANY,
            oid::ANYARRAY => oid::ANYELEMENT,
            oid::ANYCOMPATIBLEARRAY => oid::ANYCOMPATIBLE,
            array => element_of(array),
        };
        let mut args = shape.args[..fixed].to_vec();
        args.resize(count, element);
        return Some(args);
    }
    if count > declared || count + shape.defaults < declared {
        return None;
    }
    Some(shape.args[..count].to_vec())
}

fn is_polymorphic(ty: Oid) -> bool {
    matches!(
        ty,
        oid::ANYELEMENT
            | oid::ANYARRAY
            | oid::ANYNONARRAY
            | oid::ANYENUM
            | oid::ANYCOMPATIBLE
            | oid::ANYCOMPATIBLEARRAY
            | oid::ANYCOMPATIBLENONARRAY
    )
}

/// Types outside the table (enums, domains, row types) are treated as user-defined ones.
fn category(ty: Oid) -> char {
    info(ty).map_or('U', |info| info.category)
}

fn is_preferred(category: char, ty: Oid) -> bool {
    info(ty).is_some_and(|info| info.category == category && info.preferred)
}

/// Whether a value of `source` can become `target` in `context`, by cast, relabelling or through text. Unknown
/// literals become anything; pseudo-types of declarations take anything that fits their kind.
pub fn can_coerce(source: Oid, target: Oid, context: CastContext) -> bool {
    if source == target || target == oid::ANY || source == oid::UNKNOWN || is_polymorphic(target) {
        return true;
    }
    if let Some(cast) = find_cast(source, target) {
        return context >= cast.context;
    }
    if target != oid::OIDVECTOR && target != oid::INT2VECTOR {
        let (from, to) = (element_of(source), element_of(target));
        if from != 0 && to != 0 && (from == to || can_coerce(from, to, context)) {
            return true;
        }
    }
    if info(source).is_some_and(|info| info.kind == TypeKind::Pseudo && info.oid != oid::RECORD) {
        return false;
    }
    if info(target).is_some_and(|info| info.kind == TypeKind::Pseudo) {
        return false;
    }
    (context >= CastContext::Assignment && category(target) == 'S')
        || (context >= CastContext::Explicit && category(source) == 'S')
}

/// Chooses among candidates; `Err(true)` says ambiguous, `Err(false)` that none fits.
fn choose<T: Copy>(candidates: Vec<Candidate<T>>, args: &[Oid]) -> Result<Candidate<T>, bool> {
    let mut rest = candidates;
    if let Some(at) = rest.iter().position(|candidate| candidate.args == args) {
        return Ok(rest.swap_remove(at));
    }
    rest.retain(|candidate| {
        candidate.args.iter().zip(args).all(|(&to, &from)| can_coerce(from, to, CastContext::Implicit))
            && resolve_polymorphic(&candidate.args, args, candidate.returns).is_some()
    });
    if rest.is_empty() {
        return Err(false);
    }
    // A plain declaration wins over the same one reached by repeating a variadic parameter.
    if rest.len() > 1 && rest.iter().any(|c| !c.variadic) {
        let plain: Vec<Vec<Oid>> = rest.iter().filter(|c| !c.variadic).map(|c| c.args.clone()).collect();
        rest.retain(|candidate| !candidate.variadic || !plain.contains(&candidate.args));
    }
    let keep_best = |rest: &mut Vec<Candidate<T>>, score: &dyn Fn(&Candidate<T>) -> usize| {
        let best = rest.iter().map(score).max().unwrap_or(0);
        if rest.len() > 1 {
            rest.retain(|candidate| score(candidate) == best);
        }
    };
    keep_best(&mut rest, &|candidate| {
        candidate.args.iter().zip(args).filter(|&(to, from)| *from != oid::UNKNOWN && to == from).count()
    });
    keep_best(&mut rest, &|candidate| {
        candidate
            .args
            .iter()
            .zip(args)
            .filter(|&(&to, &from)| from != oid::UNKNOWN && (to == from || is_preferred(category(from), to)))
            .count()
    });
    if rest.len() == 1 {
        return Ok(rest.swap_remove(0));
    }
    if !args.contains(&oid::UNKNOWN) {
        return Err(true);
    }
    if let Some(narrowed) = by_unknown_categories(&rest, args) {
        let mut at = 0;
        rest.retain(|_| {
            at += 1;
            narrowed[at - 1]
        });
        if rest.len() == 1 {
            return Ok(rest.swap_remove(0));
        }
    }
    // Last resort: unknown literals have the type of the known arguments, if those agree.
    let mut known = args.iter().copied().filter(|&arg| arg != oid::UNKNOWN);
    if let Some(first) = known.next()
        && known.all(|arg| arg == first)
    {
        rest.retain(|candidate| {
            candidate.args.iter().all(|&to| can_coerce(first, to, CastContext::Implicit))
                && resolve_polymorphic(&candidate.args, &vec![first; args.len()], candidate.returns).is_some()
        });
        if rest.len() == 1 {
            return Ok(rest.swap_remove(0));
        }
    }
    Err(true)
}

/// For each candidate, whether it survives the categories assigned to unknown arguments; `None` when no category
/// can be assigned.
fn by_unknown_categories<T>(rest: &[Candidate<T>], args: &[Oid]) -> Option<Vec<bool>> {
    let mut slots = Vec::new();
    for (at, _) in args.iter().enumerate().filter(|&(_, &arg)| arg == oid::UNKNOWN) {
        let mut chosen = category(rest[0].args[at]);
        let mut preferred = is_preferred(chosen, rest[0].args[at]);
        let mut conflict = false;
        for candidate in rest {
            let current = category(candidate.args[at]);
            let current_preferred = is_preferred(current, candidate.args[at]);
            if current == chosen {
                preferred |= current_preferred;
            } else if current == 'S' {
                chosen = 'S';
                preferred = current_preferred;
                conflict = false;
            } else if chosen != 'S' {
                conflict = true;
            }
        }
        if conflict && chosen != 'S' {
            return None;
        }
        slots.push((at, chosen, preferred));
    }
    let survives: Vec<bool> = rest
        .iter()
        .map(|candidate| {
            slots.iter().all(|&(at, chosen, preferred)| {
                let ty = candidate.args[at];
                category(ty) == chosen && (!preferred || is_preferred(chosen, ty))
            })
        })
        .collect();
    if survives.contains(&true) { Some(survives) } else { None }
}

/// Resolves the polymorphic types of a declaration for actual argument types: the types to coerce to and the
/// result. `None` when the arguments do not agree with each other.
fn resolve_polymorphic(declared: &[Oid], actual: &[Oid], returns: Oid) -> Option<(Vec<Oid>, Oid)> {
    if !is_polymorphic(returns) && !declared.iter().any(|&ty| is_polymorphic(ty)) {
        let args = declared
            .iter()
            .zip(actual)
            .map(|(&to, &from)| match (to, from) {
                (oid::ANY, oid::UNKNOWN) => oid::TEXT,
                (oid::ANY, from) => from,
                (to, _) => to,
            })
            .collect();
        return Some((args, returns));
    }
    let mut element = 0;
    let mut array = 0;
    let mut compatible = Vec::new();
    let mut seen_compatible_array = false;
    for (&to, &from) in declared.iter().zip(actual) {
        match to {
            oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM if from != oid::UNKNOWN => {
                if element != 0 && element != from {
                    return None;
                }
                element = from;
            }
            oid::ANYARRAY if from != oid::UNKNOWN => {
                if element_of(from) == 0 && from != oid::ANYARRAY || array != 0 && array != from {
                    return None;
                }
                array = from;
            }
            oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => compatible.push(from),
            oid::ANYCOMPATIBLEARRAY => {
                seen_compatible_array = true;
                if from != oid::UNKNOWN {
                    let from = element_of(from);
                    if from == 0 {
                        return None;
                    }
                    compatible.push(from);
                }
            }
            _ => {}
        }
    }
    if array != 0 {
        let of_array = if array == oid::ANYARRAY { oid::ANYELEMENT } else { element_of(array) };
        if element == 0 {
            element = of_array;
        } else if element != of_array {
            return None;
        }
    }
    let uses = |wanted: &[Oid]| declared.iter().any(|ty| wanted.contains(ty));
    if element == 0 && uses(&[oid::ANYELEMENT, oid::ANYARRAY, oid::ANYNONARRAY, oid::ANYENUM]) {
        element = oid::TEXT;
    }
    if uses(&[oid::ANYNONARRAY])
        && element_of(element) != 0
        && info(element).is_none_or(|i| i.category == 'A')
    {
        return None;
    }
    if uses(&[oid::ANYENUM]) && info(element).is_some() {
        return None;
    }
    if array == 0 && element != 0 {
        array = array_of(element);
        if array == 0 && (uses(&[oid::ANYARRAY]) || returns == oid::ANYARRAY) {
            return None;
        }
    }
    let mut common = 0;
    if !compatible.is_empty() || seen_compatible_array {
        if compatible.iter().all(|&ty| ty == oid::UNKNOWN) {
            common = oid::TEXT;
        } else {
            common = select_common_type(&compatible, "").ok()?;
            if !compatible.iter().all(|&ty| can_coerce(ty, common, CastContext::Implicit)) {
                return None;
            }
        }
        if uses(&[oid::ANYCOMPATIBLENONARRAY]) && category(common) == 'A' {
            return None;
        }
        if seen_compatible_array && array_of(common) == 0 {
            return None;
        }
    }
    let concrete = |ty: Oid, actual: Option<Oid>| match ty {
        oid::ANYELEMENT | oid::ANYNONARRAY | oid::ANYENUM => element,
        oid::ANYARRAY => array,
        oid::ANYCOMPATIBLE | oid::ANYCOMPATIBLENONARRAY => common,
        oid::ANYCOMPATIBLEARRAY => array_of(common),
        oid::ANY => match actual {
            Some(oid::UNKNOWN) | None => oid::TEXT,
            Some(actual) => actual,
        },
        other => other,
    };
    let args = declared.iter().zip(actual).map(|(&to, &from)| concrete(to, Some(from))).collect();
    let result = concrete(returns, None);
    if result == 0 { None } else { Some((args, result)) }
}

fn type_names(args: &[Oid]) -> String {
    args.iter().map(|&arg| types::format_type(arg, -1)).collect::<Vec<_>>().join(", ")
}

/// Finds what `name(args)` means. Names are in lower case, without a schema; literals of no type yet are `unknown`.
/// Errors: 42883 nothing fits, 42725 several fit equally well.
pub fn select_function(name: &str, args: &[Oid]) -> Result<Selected<Callable>> {
    let named = functions_named(name);
    let candidates: Vec<Candidate<Callable>> = named
        .iter()
        .filter_map(|callable| {
            let shape = shape(callable);
            let expanded = expand(&shape, args.len())?;
            Some(Candidate {
                target: *callable,
                args: expanded,
                returns: shape.returns,
                variadic: shape.variadic,
            })
        })
        .collect();
    let exact = candidates.iter().any(|candidate| candidate.args == args);
    if !exact && let Some(selected) = as_type_name(name, args) {
        return Ok(selected);
    }
    let chosen = match choose(candidates, args) {
        Ok(chosen) => chosen,
        Err(true) => {
            return Err(Error::new(
                SqlState::AMBIGUOUS_FUNCTION,
                format!("function {name}({}) is not unique", type_names(args)),
            )
            .hint("Could not choose a best candidate function. You might need to add explicit type casts."));
        }
        Err(false) => return Err(undefined_function(name, args, named)),
    };
    undetermined(&chosen.args, args)?;
    finish(chosen, args).ok_or_else(|| undefined_function(name, args, named))
}

/// 42804 when nothing says what `anyelement` and its family stand for.
fn undetermined(declared: &[Oid], args: &[Oid]) -> Result<()> {
    let mut family = declared
        .iter()
        .zip(args)
        .filter(|(ty, _)| matches!(**ty, oid::ANYELEMENT | oid::ANYARRAY | oid::ANYNONARRAY | oid::ANYENUM));
    let some = family.clone().next().is_some();
    if some && family.all(|(_, &arg)| arg == oid::UNKNOWN) {
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            "could not determine polymorphic type because input has type unknown",
        ));
    }
    Ok(())
}

/// A single argument and the name of a type: a cast, when it is one that changes no bits or goes through text,
/// or when the argument is a literal.
fn as_type_name(name: &str, args: &[Oid]) -> Option<Selected<Callable>> {
    let &[source] = args else { return None };
    let target = info(types::TYPES.iter().find(|info| info.name == name)?.oid)?;
    if target.kind == TypeKind::Pseudo {
        return None;
    }
    let allowed = source == oid::UNKNOWN
        || source == target.oid
        || match find_cast(source, target.oid) {
            // Integers and oids differ only in how we hold them.
            Some(cast) => match cast.method {
                crate::CastMethod::Function(function) => function.oid >= 9000,
                _ => true,
            },
            // Through text; not from rows, where `text(row)` may be a column.
            None => source != oid::RECORD && can_coerce(source, target.oid, CastContext::Explicit),
        };
    allowed.then(|| Selected {
        target: Callable::Coercion(target.oid),
        arg_types: vec![source],
        result: target.oid,
    })
}

/// [`select_function`] with named arguments (`f(1, days => 2)`): the types of the positional ones, then name and
/// type of the others. Gives the selection over the declared order and, for each declared position, which
/// argument or default goes there. 42883.
pub fn select_function_named(
    name: &str,
    positional: &[Oid],
    named: &[(&str, Oid)],
) -> Result<(Selected<Callable>, Vec<Place>)> {
    if named.is_empty() {
        let selected = select_function(name, positional)?;
        let places = (0..positional.len()).map(Place::Argument).collect();
        return Ok((selected, places));
    }
    let all: Vec<Oid> = positional.iter().copied().chain(named.iter().map(|&(_, ty)| ty)).collect();
    for callable in functions_named(name) {
        let Callable::Function(function) = callable else {
            continue;
        };
        if function.arg_names.is_empty() || all.len() > function.args.len() {
            continue;
        }
        let mut places: Vec<Option<usize>> = vec![None; function.args.len()];
        for (at, place) in places.iter_mut().enumerate().take(positional.len()) {
            *place = Some(at);
        }
        let fits = named.iter().enumerate().all(|(at, (wanted, _))| {
            match function.arg_names.iter().position(|have| have == wanted) {
                Some(place) if places[place].is_none() => {
                    places[place] = Some(positional.len() + at);
                    true
                }
                _ => false,
            }
        });
        let required = function.args.len() - function.defaults;
        if !fits || places.iter().take(required).any(Option::is_none) {
            continue;
        }
        let actual: Vec<Oid> = places
            .iter()
            .zip(function.args)
            .map(|(place, &declared)| place.map_or(declared, |at| all[at]))
            .collect();
        let coerces =
            actual.iter().zip(function.args).all(|(&from, &to)| can_coerce(from, to, CastContext::Implicit));
        if let (true, Some((arg_types, result))) =
            (coerces, resolve_polymorphic(function.args, &actual, function.returns))
        {
            let places = places
                .into_iter()
                .enumerate()
                .map(|(at, place)| match place {
                    Some(argument) => Place::Argument(argument),
                    None => Place::Default(default_of(function, at)),
                })
                .collect();
            return Ok((Selected { target: *callable, arg_types, result }, places));
        }
    }
    let shown = positional
        .iter()
        .map(|&ty| types::format_type(ty, -1))
        .chain(named.iter().map(|&(name, ty)| format!("{name} => {}", types::format_type(ty, -1))))
        .collect::<Vec<_>>()
        .join(", ");
    Err(Error::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({shown}) does not exist")).hint(
        "No function matches the given name and argument types. You might need to add explicit type casts.",
    ))
}

/// The default of an optional parameter: zero, or what the few functions with others say.
fn default_of(function: &Function, at: usize) -> Datum {
    match function.args[at] {
        oid::INT4 => Datum::Int4(0),
        oid::INT8 => Datum::Int8(0),
        oid::FLOAT8 => Datum::Float8(0.0),
        oid::BOOL => Datum::Bool(function.name != "jsonb_insert"),
        oid::TEXT => Datum::text("use_json_null"),
        _ => Datum::Null,
    }
}

fn finish<T: Copy>(chosen: Candidate<T>, args: &[Oid]) -> Option<Selected<T>> {
    let (arg_types, result) = resolve_polymorphic(&chosen.args, args, chosen.returns)?;
    Some(Selected { target: chosen.target, arg_types, result })
}

fn undefined_function(name: &str, args: &[Oid], named: &[Callable]) -> Error {
    let error = Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", type_names(args)),
    );
    if named.is_empty() {
        let nearest = registry::names()
            .map(|have| (strsim::damerau_levenshtein(name, have), have))
            .filter(|&(distance, have)| distance <= 2 && distance * 3 <= name.len().max(have.len()))
            .min();
        if let Some((_, nearest)) = nearest {
            return error.hint(format!(
                "No function matches the given name and argument types. Perhaps you meant \"{nearest}\"."
            ));
        }
    }
    let ordered_set = named
        .iter()
        .any(|c| matches!(c, Callable::Aggregate(a) if matches!(a.kind, AggregateKind::OrderedSet { .. })));
    if ordered_set {
        return error
            .hint("There is an ordered-set aggregate of that name: use WITHIN GROUP (ORDER BY ...).");
    }
    error.hint(
        "No function matches the given name and argument types. You might need to add explicit type casts.",
    )
}

fn operator_candidates(name: &str, left: Option<Oid>) -> impl Iterator<Item = &'static Operator> {
    operators_named(name).iter().copied().filter(move |operator| operator.left.is_some() == left.is_some())
}

/// The operator row that [`select_operator`] would choose.
pub fn operator_of(name: &str, left: Option<Oid>, right: Oid) -> Option<&'static Operator> {
    choose_operator(name, left, right).ok().map(|candidate| candidate.target)
}

fn choose_operator(name: &str, left: Option<Oid>, right: Oid) -> Result<Candidate<&'static Operator>, bool> {
    let args: Vec<Oid> = left.into_iter().chain([right]).collect();
    let candidates: Vec<Candidate<&'static Operator>> = operator_candidates(name, left)
        .map(|operator| Candidate {
            target: operator,
            args: operator.left.into_iter().chain([operator.right]).collect(),
            returns: operator.function.returns,
            variadic: false,
        })
        .collect();
    // One unknown side is first tried as the type of the other.
    if let Some(left) = left {
        let both = match (left, right) {
            (oid::UNKNOWN, oid::UNKNOWN) => None,
            (oid::UNKNOWN, known) | (known, oid::UNKNOWN) => Some(known),
            _ => None,
        };
        if let Some(known) = both
            && let Some(at) = candidates.iter().position(|candidate| candidate.args == [known, known])
        {
            let mut candidates = candidates;
            return Ok(candidates.swap_remove(at));
        }
    }
    choose(candidates, &args)
}

/// Finds the function behind `left name right` (or prefix `name right`). Errors as [`select_function`].
pub fn select_operator(name: &str, left: Option<Oid>, right: Oid) -> Result<Selected<&'static Function>> {
    let shown = || match left {
        Some(left) => {
            format!("operator {} {name} {}", types::format_type(left, -1), types::format_type(right, -1))
                .replacen("operator ", "", 1)
        }
        None => format!("{name} {}", types::format_type(right, -1)),
    };
    let undefined = || {
        Error::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {}", shown())).hint(
            if left.is_some() {
                "No operator matches the given name and argument types. You might need to add explicit type casts."
            } else {
                "No operator matches the given name and argument type. You might need to add an explicit type cast."
            },
        )
    };
    let chosen = match choose_operator(name, left, right) {
        Ok(chosen) => chosen,
        Err(true) => {
            return Err(Error::new(
                SqlState::AMBIGUOUS_FUNCTION,
                format!("operator is not unique: {}", shown()),
            )
            .hint("Could not choose a best candidate operator. You might need to add explicit type casts."));
        }
        Err(false) => return Err(undefined()),
    };
    let args: Vec<Oid> = left.into_iter().chain([right]).collect();
    // Unknown next to a known type on the exact path: both sides have that type.
    let selected = finish(chosen, &args).ok_or_else(undefined)?;
    Ok(Selected { target: selected.target.function, arg_types: selected.arg_types, result: selected.result })
}

/// The type that CASE, UNION, VALUES, ARRAY, GREATEST ... give branches of these types. `context` names the
/// construct in the error (42804 `CASE types integer and text cannot be matched`). All unknown gives text.
pub fn select_common_type(types: &[Oid], context: &str) -> Result<Oid> {
    let Some(&first) = types.first() else {
        return Ok(oid::TEXT);
    };
    if first != oid::UNKNOWN && types.iter().all(|&ty| ty == first) {
        return Ok(first);
    }
    let mut chosen = first;
    for &ty in &types[1..] {
        if ty == oid::UNKNOWN || ty == chosen {
            continue;
        }
        if chosen == oid::UNKNOWN {
            chosen = ty;
            continue;
        }
        if category(ty) != category(chosen) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "{context} types {} and {} cannot be matched",
                    types::format_type(chosen, -1),
                    types::format_type(ty, -1)
                ),
            ));
        }
        // Take the new type if the chosen one can become it but not the other way round.
        if !is_preferred(category(chosen), chosen)
            && can_coerce(chosen, ty, CastContext::Implicit)
            && !can_coerce(ty, chosen, CastContext::Implicit)
        {
            chosen = ty;
        }
    }
    Ok(if chosen == oid::UNKNOWN { oid::TEXT } else { chosen })
}
