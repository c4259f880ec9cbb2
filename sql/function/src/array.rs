//! Arrays. NULL arrays count as empty where PostgreSQL says so (append, concatenation).

use std::sync::Arc;

use value::array::Dimension;
use value::types::{element_of, oid::*};
use value::{Array, Datum, Error, Oid, Result, SqlState};

use crate::declare::{f, mismatch, text_of, thunk};
use crate::{Call, Function};

fn array(value: Array) -> Result<Datum> {
    Ok(Datum::Array(Arc::new(value)))
}

/// The element type of the result at this call site.
fn element(call: &Call<'_>) -> Oid {
    element_of(call.signature.result.oid)
}

fn append(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Null, value] => array(Array::from_values(element(call), vec![value.clone()])),
        [Datum::Array(a), value] => array(a.append(value.clone())?),
        _ => Err(mismatch(args)),
    }
}

fn prepend(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    match args {
        [value, Datum::Null] => array(Array::from_values(element(call), vec![value.clone()])),
        [value, Datum::Array(a)] => array(a.prepend(value.clone())?),
        _ => Err(mismatch(args)),
    }
}

fn cat(args: &[Datum]) -> Result<Datum> {
    match args {
        [Datum::Null, other] | [other, Datum::Null] => Ok(other.clone()),
        [Datum::Array(a), Datum::Array(b)] => array(a.concat(b)?),
        _ => Err(mismatch(args)),
    }
}

/// IS NOT DISTINCT FROM.
fn same(element: Oid, a: &Datum, b: &Datum) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => value::compare::equal_typed(element, a, b),
        _ => false,
    }
}

fn one_dimensional(array: &Array, what: &str) -> Result<()> {
    if array.dims.len() > 1 {
        return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, what));
    }
    Ok(())
}

const NO_SEARCH: &str = "searching for elements in multidimensional arrays is not supported";

fn position(args: &[Datum]) -> Result<Datum> {
    let (Some(Datum::Array(a)), Some(wanted)) = (args.first(), args.get(1)) else { return Ok(Datum::Null) };
    one_dimensional(a, NO_SEARCH)?;
    let lower = a.lower(1).unwrap_or(1);
    let start = match args.get(2) {
        None => lower,
        Some(Datum::Int4(start)) => *start,
        Some(_) => {
            return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "initial position must not be null"));
        }
    };
    for (at, value) in a.values.iter().enumerate() {
        let subscript = lower + at as i32;
        if subscript >= start && same(a.element, value, wanted) {
            return Ok(Datum::Int4(subscript));
        }
    }
    Ok(Datum::Null)
}

fn positions(args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(a), wanted] = args else { return Ok(Datum::Null) };
    one_dimensional(a, NO_SEARCH)?;
    let lower = a.lower(1).unwrap_or(1);
    let found = a
        .values
        .iter()
        .enumerate()
        .filter(|(_, value)| same(a.element, value, wanted))
        .map(|(at, _)| Datum::Int4(lower + at as i32))
        .collect();
    array(Array::from_values(INT4, found))
}

fn remove(args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(a), unwanted] = args else { return Ok(Datum::Null) };
    one_dimensional(a, "removing elements from multidimensional arrays is not supported")?;
    let values: Vec<Datum> = a.values.iter().filter(|v| !same(a.element, v, unwanted)).cloned().collect();
    if values.is_empty() {
        return array(Array::empty(a.element));
    }
    let dims = vec![Dimension { len: values.len() as i32, lower: a.lower(1).unwrap_or(1) }];
    array(Array::new(a.element, dims, values)?)
}

fn replace(args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(a), old, new] = args else { return Ok(Datum::Null) };
    let values =
        a.values.iter().map(|v| if same(a.element, v, old) { new.clone() } else { v.clone() }).collect();
    array(Array::new(a.element, a.dims.clone(), values)?)
}

/// Subscripts of an assignment; `None` for a bound that was left out.
fn subscripts(value: &Datum) -> Result<Vec<Option<i32>>> {
    let Datum::Array(list) = value else { return Err(mismatch(std::slice::from_ref(value))) };
    Ok(list.values.iter().map(|v| if let Datum::Int4(at) = v { Some(*at) } else { None }).collect())
}

fn null_subscript() -> Error {
    Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "array subscript in assignment must not be null")
}

/// `SET a[i][j] = value`: [array, value, subscripts]. A NULL array is an empty one.
fn set_element(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let [old, value, places] = args else { return Err(mismatch(args)) };
    let places: Option<Vec<i32>> = subscripts(places)?.into_iter().collect();
    let places = places.ok_or_else(null_subscript)?;
    match old {
        Datum::Array(old) => array(old.assign(&places, value.clone())?),
        _ => array(Array::empty(element(call)).assign(&places, value.clone())?),
    }
}

/// `SET a[l:u] = values`: [array, values, lower bounds, upper bounds].
fn set_slice(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let [old, new, lowers, uppers] = args else { return Err(mismatch(args)) };
    // PostgreSQL leaves the array as it is when what is assigned is NULL.
    let Datum::Array(new) = new else { return Ok(old.clone()) };
    let empty = Array::empty(element(call));
    let old: &Array = if let Datum::Array(old) = old { old } else { &empty };
    let wrong = |what: &str| Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, what);
    let mut bounds = Vec::new();
    for (at, (low, high)) in subscripts(lowers)?.into_iter().zip(subscripts(uppers)?).enumerate() {
        let dimension = at as i32 + 1;
        if (low.is_none() || high.is_none()) && old.dims.is_empty() {
            return Err(wrong("array slice subscript must provide both boundaries").detail(
                "When assigning to a slice of an empty array value, slice boundaries must be fully specified.",
            ));
        }
        let low = low.or_else(|| old.lower(dimension));
        let high = high.or_else(|| old.upper(dimension));
        let (Some(low), Some(high)) = (low, high) else {
            return Err(wrong("wrong number of array subscripts"));
        };
        bounds.push((low, high));
    }
    if bounds.iter().any(|(low, high)| low > high) {
        if old.dims.is_empty() {
            return array(old.clone());
        }
        return Err(wrong("upper bound cannot be less than lower bound"));
    }
    let mut count = 1usize;
    for (low, high) in &bounds {
        count = count.saturating_mul(usize::try_from(i64::from(*high) - i64::from(*low) + 1).unwrap_or(0));
    }
    if new.values.len() < count {
        return Err(wrong("source array too small"));
    }
    let lengths = bounds.iter().map(|(low, high)| Dimension { len: high - low + 1, lower: *low });
    if old.dims.is_empty() {
        return array(Array::new(element(call), lengths.collect(), new.values[..count].to_vec())?);
    }
    if bounds.len() == 1 && old.dims.len() == 1 {
        // One dimension grows at either end; what lies between is NULL.
        let (Some(first), Some(last)) = (old.lower(1), old.upper(1)) else {
            return Err(wrong("wrong number of array subscripts"));
        };
        let (low, high) = bounds[0];
        let (start, end) = (first.min(low), last.max(high));
        let total = usize::try_from(i64::from(end) - i64::from(start) + 1).unwrap_or(usize::MAX);
        if total > value::array::MAX_ELEMENTS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("array size exceeds the maximum allowed ({})", value::array::MAX_ELEMENTS),
            ));
        }
        let mut values = vec![Datum::Null; total];
        for (at, value) in old.values.iter().enumerate() {
            values[(i64::from(first) - i64::from(start)) as usize + at] = value.clone();
        }
        for (at, value) in new.values[..count].iter().enumerate() {
            values[(i64::from(low) - i64::from(start)) as usize + at] = value.clone();
        }
        return array(Array::new(
            element(call),
            vec![Dimension { len: total as i32, lower: start }],
            values,
        )?);
    }
    let mut result = old.clone();
    let mut place: Vec<i32> = bounds.iter().map(|(low, _)| *low).collect();
    for value in &new.values[..count] {
        result = result.assign(&place, value.clone())?;
        for at in (0..place.len()).rev() {
            if place[at] < bounds[at].1 {
                place[at] += 1;
                break;
            }
            place[at] = bounds[at].0;
        }
    }
    array(result)
}

fn fill(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let null = |what| Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, what);
    let (Some(value), Some(lengths)) = (args.first(), args.get(1)) else { return Err(mismatch(args)) };
    let numbers = |value: &Datum| -> Result<Vec<i32>> {
        let Datum::Array(a) = value else {
            return Err(null("dimension array or low bound array cannot be null"));
        };
        if a.dims.len() > 1 {
            return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts")
                .detail("Dimension array must be one dimensional."));
        }
        a.values
            .iter()
            .map(|value| match value {
                Datum::Int4(number) => Ok(*number),
                _ => Err(null("dimension values cannot be null")),
            })
            .collect()
    };
    let lengths = numbers(lengths)?;
    let lowers = match args.get(2) {
        Some(lowers) => numbers(lowers)?,
        None => vec![1; lengths.len()],
    };
    if lowers.len() != lengths.len() {
        return Err(Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "wrong number of array subscripts")
            .detail("Low bound array has different size than dimensions array."));
    }
    let mut count: usize = usize::from(!lengths.is_empty());
    for &length in &lengths {
        count = count.saturating_mul(usize::try_from(length).unwrap_or(0));
    }
    if count > value::array::MAX_ELEMENTS {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("array size exceeds the maximum allowed ({})", value::array::MAX_ELEMENTS),
        ));
    }
    let dims = lengths.iter().zip(&lowers).map(|(&len, &lower)| Dimension { len, lower }).collect();
    array(Array::new(element(call), dims, vec![value.clone(); count])?)
}

fn trim(args: &[Datum]) -> Result<Datum> {
    let [Datum::Array(a), Datum::Int4(count)] = args else { return Err(mismatch(args)) };
    let length = a.length(1).unwrap_or(0);
    if *count < 0 || *count > length {
        return Err(Error::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            format!("number of elements to trim must be between 0 and {length}"),
        ));
    }
    let lower = a.lower(1).unwrap_or(1);
    array(a.slice(&[(Some(lower), Some(lower + length - count - 1))]))
}

fn option(value: Option<i32>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::Int4))
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(378, "array_append", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE], ANYCOMPATIBLEARRAY, append).nullable(),
    f(379, "array_prepend", &[ANYCOMPATIBLE, ANYCOMPATIBLEARRAY], ANYCOMPATIBLEARRAY, prepend).nullable(),
    f(383, "array_cat", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLEARRAY], ANYCOMPATIBLEARRAY, |_, args| cat(args)).nullable(),
    f(2176, "array_length", &[ANYARRAY, INT4], INT4, thunk!([Datum::Array(a), Datum::Int4(n)] => option(a.length(*n)))).total(),
    f(2091, "array_lower", &[ANYARRAY, INT4], INT4, thunk!([Datum::Array(a), Datum::Int4(n)] => option(a.lower(*n)))).total(),
    f(2092, "array_upper", &[ANYARRAY, INT4], INT4, thunk!([Datum::Array(a), Datum::Int4(n)] => option(a.upper(*n)))).total(),
    f(748, "array_ndims", &[ANYARRAY], INT4, thunk!([Datum::Array(a)] => option(Some(a.dims.len() as i32).filter(|&n| n > 0)))).total(),
    f(747, "array_dims", &[ANYARRAY], TEXT, thunk!([Datum::Array(a)] => match a.dims_text() { Some(text) => text_of(text), None => Ok(Datum::Null) })).total(),
    f(3179, "cardinality", &[ANYARRAY], INT4, thunk!([Datum::Array(a)] => Ok(Datum::Int4(a.len() as i32)))).total(),
    f(3277, "array_position", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE], INT4, |_, args| position(args)).nullable(),
    f(3278, "array_position", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE, INT4], INT4, |_, args| position(args)).nullable(),
    f(3279, "array_positions", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE], INT4_ARRAY, |_, args| positions(args)).nullable(),
    f(3167, "array_remove", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE], ANYCOMPATIBLEARRAY, |_, args| remove(args)).nullable(),
    f(3168, "array_replace", &[ANYCOMPATIBLEARRAY, ANYCOMPATIBLE, ANYCOMPATIBLE], ANYCOMPATIBLEARRAY, |_, args| replace(args)).nullable(),
    f(1193, "array_fill", &[ANYELEMENT, INT4_ARRAY], ANYARRAY, fill).nullable(),
    f(1286, "array_fill", &[ANYELEMENT, INT4_ARRAY, INT4_ARRAY], ANYARRAY, fill).nullable(),
    f(9310, "\u{1}array_set", &[ANYARRAY, ANYELEMENT, INT4_ARRAY], ANYARRAY, set_element).nullable(),
    f(9311, "\u{1}array_set_slice", &[ANYARRAY, ANYARRAY, INT4_ARRAY, INT4_ARRAY], ANYARRAY, set_slice).nullable(),
    f(6172, "trim_array", &[ANYARRAY, INT4], ANYARRAY, |_, args| trim(args)),
    f(2748, "arraycontains", &[ANYARRAY, ANYARRAY], BOOL, thunk!([Datum::Array(a), Datum::Array(b)] => Ok(Datum::Bool(a.contains(b))))).total(),
    f(2749, "arraycontained", &[ANYARRAY, ANYARRAY], BOOL, thunk!([Datum::Array(a), Datum::Array(b)] => Ok(Datum::Bool(b.contains(a))))).total(),
    f(2747, "arrayoverlap", &[ANYARRAY, ANYARRAY], BOOL, thunk!([Datum::Array(a), Datum::Array(b)] => Ok(Datum::Bool(a.overlaps(b))))).total(),
];
