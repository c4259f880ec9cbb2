//! Set-returning functions. Each starts an iterator that owns what it needs, so that rows can be pulled one by one.

use std::sync::Arc;

use value::json::{raw_as_text, raw_elements, raw_members, raw_type_name};
use value::types::oid::*;
use value::{Array, Datum, Error, Interval, Jsonb, Numeric, Oid, Result, SqlState, datetime};

use crate::declare::{invalid_parameter, mismatch};
use crate::{Call, Rows, SetFunction, Volatility};

pub(crate) const fn s(
    oid: Oid,
    name: &'static str,
    args: &'static [Oid],
    returns: Oid,
    columns: &'static [(&'static str, Oid)],
    start: fn(&mut Call<'_>, &[Datum]) -> Result<Rows>,
) -> SetFunction {
    SetFunction {
        oid,
        name,
        args,
        variadic: false,
        defaults: 0,
        columns,
        returns,
        strict: true,
        volatility: Volatility::Immutable,
        rows: 100.0,
        start,
    }
}

impl SetFunction {
    pub(crate) const fn stable(mut self) -> SetFunction {
        self.volatility = Volatility::Stable;
        self
    }

    pub(crate) const fn nullable(mut self) -> SetFunction {
        self.strict = false;
        self
    }

    pub(crate) const fn variadic(mut self) -> SetFunction {
        self.variadic = true;
        self
    }
}

/// Rows of one column.
fn column(values: impl Iterator<Item = Datum> + Send + 'static) -> Result<Rows> {
    Ok(Box::new(values.map(|value| Ok(vec![value]))))
}

fn zero_step() -> Error {
    invalid_parameter("step size cannot equal zero")
}

/// `generate_series` of integers: stops where the type ends, without an error.
macro_rules! integer_series {
    ($variant:ident) => {
        |_: &mut Call<'_>, args: &[Datum]| {
            let (start, stop, step) = match args {
                [Datum::$variant(start), Datum::$variant(stop)] => (*start, *stop, 1),
                [Datum::$variant(start), Datum::$variant(stop), Datum::$variant(step)] => {
                    (*start, *stop, *step)
                }
                _ => return Err(mismatch(args)),
            };
            if step == 0 {
                return Err(zero_step());
            }
            let within = move |value: &_| if step > 0 { *value <= stop } else { *value >= stop };
            column(
                std::iter::successors(Some(start), move |value| value.checked_add(step))
                    .take_while(within)
                    .map(Datum::$variant),
            )
        }
    };
}

fn numeric_series(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let (start, stop, step) = match args {
        [Datum::Numeric(start), Datum::Numeric(stop)] => (start, stop, &Arc::new(Numeric::ONE)),
        [Datum::Numeric(start), Datum::Numeric(stop), Datum::Numeric(step)] => (start, stop, step),
        _ => return Err(mismatch(args)),
    };
    for (value, name) in [(start, "start value"), (stop, "stop value"), (step, "step size")] {
        if value.is_nan() {
            return Err(invalid_parameter(format!("{name} cannot be NaN")));
        }
        if value.is_infinite() {
            return Err(invalid_parameter(format!("{name} cannot be infinity")));
        }
    }
    if step.is_zero() {
        return Err(zero_step());
    }
    let (stop, step) = (stop.clone(), step.clone());
    let mut next = Some(start.clone());
    Ok(Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        if (step.signum() > 0 && *current > *stop) || (step.signum() < 0 && *current < *stop) {
            return None;
        }
        match current.add(&step) {
            Ok(following) => next = Some(Arc::new(following)),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(vec![Datum::Numeric(current)]))
    })))
}

/// Moments from `start` to `stop`, each `add`ed to by the step.
fn moments(
    start: i64,
    stop: i64,
    step: Interval,
    wrap: fn(i64) -> Datum,
    add: impl Fn(i64, Interval) -> Result<i64> + Send + 'static,
) -> Result<Rows> {
    let direction = step.cmp(&Interval::default());
    if direction.is_eq() {
        return Err(zero_step());
    }
    let mut next = Some(start);
    Ok(Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        if (direction.is_gt() && current > stop) || (direction.is_lt() && current < stop) {
            return None;
        }
        match add(current, step) {
            Ok(following) if following != current => next = Some(following),
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(vec![wrap(current)]))
    })))
}

fn timestamp_series(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let [Datum::Timestamp(start), Datum::Timestamp(stop), Datum::Interval(step)] = args else {
        return Err(mismatch(args));
    };
    moments(*start, *stop, *step, Datum::Timestamp, datetime::timestamp_plus_interval)
}

fn timestamptz_series(call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let [Datum::TimestampTz(start), Datum::TimestampTz(stop), Datum::Interval(step)] = args else {
        return Err(mismatch(args));
    };
    let zone = call.env.style().time_zone.clone();
    moments(*start, *stop, *step, Datum::TimestampTz, move |moment, step| {
        datetime::timestamptz_plus_interval(moment, step, &zone)
    })
}

fn array_of(args: &[Datum]) -> Result<Arc<Array>> {
    match args.first() {
        Some(Datum::Array(array)) => Ok(array.clone()),
        _ => Err(mismatch(args)),
    }
}

fn unnest(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let array = array_of(args)?;
    column((0..array.values.len()).map(move |at| array.values[at].clone()))
}

/// No table is a partition or has any.
fn no_partitions(_: &mut Call<'_>, _: &[Datum]) -> Result<Rows> {
    Ok(Box::new(std::iter::empty()))
}

/// Elements with their positions from 1 (`information_schema._pg_expandarray`).
fn expand_array(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let array = array_of(args)?;
    let rows =
        (0..array.values.len()).map(move |at| Ok(vec![array.values[at].clone(), Datum::Int4(at as i32 + 1)]));
    Ok(Box::new(rows))
}

fn generate_subscripts(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let array = array_of(args)?;
    let Some(Datum::Int4(dimension)) = args.get(1) else { return Err(mismatch(args)) };
    let (Some(lower), Some(upper)) = (array.lower(*dimension), array.upper(*dimension)) else {
        return column(std::iter::empty());
    };
    if matches!(args.get(2), Some(Datum::Bool(true))) {
        column((lower..=upper).rev().map(Datum::Int4))
    } else {
        column((lower..=upper).map(Datum::Int4))
    }
}

fn regexp_matches(call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let (text, pattern, flags) = crate::pattern::text_pattern_flags(args)?;
    let (pattern, global) = crate::pattern::compiled(call.state, pattern, flags)?;
    let found = pattern.find_all(text, 0, if global { usize::MAX } else { 1 })?;
    let rows: Vec<Datum> = found.iter().map(|groups| crate::pattern::groups_array(text, groups)).collect();
    column(rows.into_iter())
}

fn regexp_split(call: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    column(crate::pattern::split("regexp_split_to_table", call.state, args)?.into_iter())
}

fn string_to_table(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    column(crate::text::split(args)?.unwrap_or_default().into_iter())
}

fn json_of(args: &[Datum]) -> Result<&Arc<str>> {
    match args {
        [Datum::Text(json)] => Ok(json),
        _ => Err(mismatch(args)),
    }
}

fn jsonb_of(args: &[Datum]) -> Result<&Jsonb> {
    match args {
        [Datum::Jsonb(json)] => Ok(json),
        _ => Err(mismatch(args)),
    }
}

fn optional(text: Option<String>) -> Datum {
    text.map_or(Datum::Null, Datum::text)
}

/// A raw member as json or, for the `_text` variants, as text.
fn raw_value(raw: &str, as_text: bool) -> Result<Datum> {
    if as_text { Ok(optional(raw_as_text(raw)?)) } else { Ok(Datum::text(raw)) }
}

fn tree_value(value: &Jsonb, as_text: bool) -> Datum {
    if as_text { optional(value.as_text()) } else { Datum::Jsonb(Arc::new(value.clone())) }
}

fn json_elements(function: &str, args: &[Datum], as_text: bool) -> Result<Rows> {
    let json = json_of(args)?;
    match raw_type_name(json)? {
        "array" => {}
        "object" => return Err(invalid_parameter(format!("cannot call {function} on a non-array"))),
        _ => return Err(invalid_parameter(format!("cannot call {function} on a scalar"))),
    }
    let rows =
        raw_elements(json)?.into_iter().map(|raw| raw_value(raw, as_text)).collect::<Result<Vec<_>>>()?;
    column(rows.into_iter())
}

fn jsonb_elements(args: &[Datum], as_text: bool) -> Result<Rows> {
    match jsonb_of(args)? {
        Jsonb::Array(elements) => {
            let rows: Vec<Datum> = elements.iter().map(|value| tree_value(value, as_text)).collect();
            column(rows.into_iter())
        }
        Jsonb::Object(_) => Err(invalid_parameter("cannot extract elements from an object")),
        _ => Err(invalid_parameter("cannot extract elements from a scalar")),
    }
}

fn json_members(function: &str, args: &[Datum]) -> Result<Vec<(String, String)>> {
    let json = json_of(args)?;
    match raw_type_name(json)? {
        "object" => {}
        "array" => return Err(invalid_parameter(format!("cannot call {function} on an array"))),
        _ => return Err(invalid_parameter(format!("cannot call {function} on a scalar"))),
    }
    Ok(raw_members(json)?.into_iter().map(|(key, raw)| (key, raw.to_string())).collect())
}

fn json_each(function: &str, args: &[Datum], as_text: bool) -> Result<Rows> {
    let rows = json_members(function, args)?
        .into_iter()
        .map(move |(key, raw)| Ok(vec![Datum::text(key), raw_value(&raw, as_text)?]));
    Ok(Box::new(rows))
}

fn jsonb_members<'a>(function: &str, args: &'a [Datum]) -> Result<&'a [(Arc<str>, Jsonb)]> {
    match jsonb_of(args)? {
        Jsonb::Object(members) => Ok(members),
        Jsonb::Array(_) if function == "jsonb_object_keys" => {
            Err(invalid_parameter("cannot call jsonb_object_keys on an array"))
        }
        _ if function == "jsonb_object_keys" => {
            Err(invalid_parameter("cannot call jsonb_object_keys on a scalar"))
        }
        _ => Err(invalid_parameter(format!("cannot call {function} on a non-object"))),
    }
}

fn jsonb_each(function: &str, args: &[Datum], as_text: bool) -> Result<Rows> {
    let rows: Vec<Result<Vec<Datum>>> = jsonb_members(function, args)?
        .iter()
        .map(|(key, value)| Ok(vec![Datum::Text(key.clone()), tree_value(value, as_text)]))
        .collect();
    Ok(Box::new(rows.into_iter()))
}

/// `name=value` options as rows.
fn options(_: &mut Call<'_>, args: &[Datum]) -> Result<Rows> {
    let array = array_of(args)?;
    let rows = (0..array.values.len()).map(move |at| match &array.values[at] {
        Datum::Text(option) => Ok(match option.split_once('=') {
            Some((name, value)) => vec![Datum::text(name), Datum::text(value)],
            None => vec![Datum::Text(option.clone()), Datum::Null],
        }),
        _ => Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "null value in options array")),
    });
    Ok(Box::new(rows))
}

pub(crate) static SET_FUNCTIONS: &[SetFunction] = &[
    s(1067, "generate_series", &[INT4, INT4], INT4, &[("generate_series", INT4)], integer_series!(Int4)),
    s(
        1066,
        "generate_series",
        &[INT4, INT4, INT4],
        INT4,
        &[("generate_series", INT4)],
        integer_series!(Int4),
    ),
    s(1069, "generate_series", &[INT8, INT8], INT8, &[("generate_series", INT8)], integer_series!(Int8)),
    s(
        1068,
        "generate_series",
        &[INT8, INT8, INT8],
        INT8,
        &[("generate_series", INT8)],
        integer_series!(Int8),
    ),
    s(3260, "generate_series", &[NUMERIC, NUMERIC], NUMERIC, &[("generate_series", NUMERIC)], numeric_series),
    s(
        3259,
        "generate_series",
        &[NUMERIC, NUMERIC, NUMERIC],
        NUMERIC,
        &[("generate_series", NUMERIC)],
        numeric_series,
    ),
    s(
        938,
        "generate_series",
        &[TIMESTAMP, TIMESTAMP, INTERVAL],
        TIMESTAMP,
        &[("generate_series", TIMESTAMP)],
        timestamp_series,
    ),
    s(
        939,
        "generate_series",
        &[TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL],
        TIMESTAMPTZ,
        &[("generate_series", TIMESTAMPTZ)],
        timestamptz_series,
    )
    .stable(),
    s(
        1192,
        "generate_subscripts",
        &[ANYARRAY, INT4],
        INT4,
        &[("generate_subscripts", INT4)],
        generate_subscripts,
    ),
    s(
        1191,
        "generate_subscripts",
        &[ANYARRAY, INT4, BOOL],
        INT4,
        &[("generate_subscripts", INT4)],
        generate_subscripts,
    ),
    s(2331, "unnest", &[ANYARRAY], ANYELEMENT, &[("unnest", ANYELEMENT)], unnest),
    s(3425, "pg_partition_ancestors", &[REGCLASS], REGCLASS, &[("relid", REGCLASS)], no_partitions).stable(),
    s(
        3423,
        "pg_partition_tree",
        &[REGCLASS],
        RECORD,
        &[("relid", REGCLASS), ("parentrelid", REGCLASS), ("isleaf", BOOL), ("level", INT4)],
        no_partitions,
    )
    .stable(),
    s(9201, "_pg_expandarray", &[ANYARRAY], RECORD, &[("x", ANYELEMENT), ("n", INT4)], expand_array),
    s(2763, "regexp_matches", &[TEXT, TEXT], TEXT_ARRAY, &[("regexp_matches", TEXT_ARRAY)], regexp_matches),
    s(
        2764,
        "regexp_matches",
        &[TEXT, TEXT, TEXT],
        TEXT_ARRAY,
        &[("regexp_matches", TEXT_ARRAY)],
        regexp_matches,
    ),
    s(2765, "regexp_split_to_table", &[TEXT, TEXT], TEXT, &[("regexp_split_to_table", TEXT)], regexp_split),
    s(
        2766,
        "regexp_split_to_table",
        &[TEXT, TEXT, TEXT],
        TEXT,
        &[("regexp_split_to_table", TEXT)],
        regexp_split,
    ),
    s(6160, "string_to_table", &[TEXT, TEXT], TEXT, &[("string_to_table", TEXT)], string_to_table).nullable(),
    s(6161, "string_to_table", &[TEXT, TEXT, TEXT], TEXT, &[("string_to_table", TEXT)], string_to_table)
        .nullable(),
    s(3955, "json_array_elements", &[JSON], JSON, &[("value", JSON)], |_, args| {
        json_elements("json_array_elements", args, false)
    }),
    s(3969, "json_array_elements_text", &[JSON], TEXT, &[("value", TEXT)], |_, args| {
        json_elements("json_array_elements_text", args, true)
    }),
    s(3219, "jsonb_array_elements", &[JSONB], JSONB, &[("value", JSONB)], |_, args| {
        jsonb_elements(args, false)
    }),
    s(3465, "jsonb_array_elements_text", &[JSONB], TEXT, &[("value", TEXT)], |_, args| {
        jsonb_elements(args, true)
    }),
    s(3958, "json_each", &[JSON], RECORD, &[("key", TEXT), ("value", JSON)], |_, args| {
        json_each("json_each", args, false)
    }),
    s(3959, "json_each_text", &[JSON], RECORD, &[("key", TEXT), ("value", TEXT)], |_, args| {
        json_each("json_each_text", args, true)
    }),
    s(3208, "jsonb_each", &[JSONB], RECORD, &[("key", TEXT), ("value", JSONB)], |_, args| {
        jsonb_each("jsonb_each", args, false)
    }),
    s(3932, "jsonb_each_text", &[JSONB], RECORD, &[("key", TEXT), ("value", TEXT)], |_, args| {
        jsonb_each("jsonb_each_text", args, true)
    }),
    s(3957, "json_object_keys", &[JSON], TEXT, &[("json_object_keys", TEXT)], |_, args| {
        column(json_members("json_object_keys", args)?.into_iter().map(|(key, _)| Datum::text(key)))
    }),
    s(3931, "jsonb_object_keys", &[JSONB], TEXT, &[("jsonb_object_keys", TEXT)], |_, args| {
        let keys: Vec<Datum> = jsonb_members("jsonb_object_keys", args)?
            .iter()
            .map(|(key, _)| Datum::Text(key.clone()))
            .collect();
        column(keys.into_iter())
    }),
    s(
        2289,
        "pg_options_to_table",
        &[TEXT_ARRAY],
        RECORD,
        &[("option_name", TEXT), ("option_value", TEXT)],
        options,
    )
    .stable(),
];
