//! Dates, times and intervals. The calendar lives in `value::datetime`; here are the SQL faces of it, with the
//! session's zone and clock.

use value::datetime::{self as dt, TimeZone};
use value::types::oid::*;
use value::{Datum, Error, Interval, Numeric, Result, SqlState, format};

use crate::arithmetic::number;
use crate::declare::{f, invalid_parameter, mismatch, text_of, thunk};
use crate::{Call, Function, State};

/// The zone named by an argument, looked up again only when the name changes.
pub(crate) fn zone<'a>(state: &'a mut State, name: &str) -> Result<&'a TimeZone> {
    struct Known(String, TimeZone);
    let known = state.as_ref().and_then(|state| state.downcast_ref::<Known>()).is_some_and(|k| k.0 == name);
    if !known {
        *state = Some(Box::new(Known(name.to_string(), dt::parse_zone(name)?)));
    }
    match state.as_ref().and_then(|state| state.downcast_ref::<Known>()) {
        Some(known) => Ok(&known.1),
        None => Err(Error::internal("the zone just stored is gone")),
    }
}

/// The zone east of Greenwich by an interval without months and days.
fn zone_of_interval(interval: Interval) -> Result<i64> {
    if interval.months != 0 || interval.days != 0 {
        return Err(invalid_parameter("interval time zone must not include months or days"));
    }
    Ok(interval.micros)
}

fn is_infinite(timestamp: i64) -> bool {
    timestamp == dt::TIMESTAMP_INFINITY || timestamp == dt::TIMESTAMP_NEG_INFINITY
}

fn timestamp_out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

fn shift(timestamp: i64, micros: i64) -> Result<i64> {
    if is_infinite(timestamp) {
        return Ok(timestamp);
    }
    timestamp.checked_add(micros).ok_or_else(timestamp_out_of_range)
}

/// `date + time`.
fn date_and_time(date: i32, time: i64) -> Result<i64> {
    shift(dt::date_to_timestamp(date)?, time)
}

fn optional(value: Option<Numeric>) -> Result<Datum> {
    match value {
        Some(value) => number(value),
        None => Ok(Datum::Null),
    }
}

fn optional_float(value: Option<Numeric>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, |value| Datum::Float8(value.to_f64())))
}

/// Today in the session's zone, as a timestamp at midnight.
fn today(call: &Call<'_>) -> Result<i64> {
    let now = dt::to_local(call.env.transaction_time(), &call.env.style().time_zone)?;
    dt::date_to_timestamp(dt::timestamp_to_date(now))
}

fn local_now(call: &Call<'_>) -> Result<i64> {
    dt::to_local(call.env.transaction_time(), &call.env.style().time_zone)
}

fn unix_timestamp(seconds: f64) -> Result<i64> {
    if seconds.is_nan() {
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp cannot be NaN"));
    }
    if seconds.is_infinite() {
        return Ok(if seconds > 0.0 { dt::TIMESTAMP_INFINITY } else { dt::TIMESTAMP_NEG_INFINITY });
    }
    let out =
        || Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{seconds}\""));
    let epoch = f64::from(dt::UNIX_TO_POSTGRES_DAYS) * 86_400.0;
    let micros = ((seconds - epoch) * 1e6).round_ties_even();
    // 4714-11-24 BC to 294277 AD, as timestamps go.
    if !(-211_813_488_000_000_000.0..9_223_371_331_200_000_000.0).contains(&micros) {
        return Err(out());
    }
    Ok(micros as i64)
}

/// One side of OVERLAPS: two points, or a point and a length. NULL bounds are allowed as the standard says.
fn overlaps(a: (Datum, Datum), b: (Datum, Datum)) -> Datum {
    use value::compare::compare;
    // Ordered so that the smaller known bound comes first.
    let order = |(start, end): (Datum, Datum)| -> Option<(Datum, Datum)> {
        match (start.is_null(), end.is_null()) {
            (true, true) => None,
            (true, false) => Some((end, Datum::Null)),
            (false, true) => Some((start, Datum::Null)),
            (false, false) if compare(&start, &end).is_gt() => Some((end, start)),
            (false, false) => Some((start, end)),
        }
    };
    let (Some((start_a, end_a)), Some((start_b, end_b))) = (order(a), order(b)) else { return Datum::Null };
    let within = |later: &Datum, end_of_earlier: &Datum, end_of_later: &Datum| {
        if end_of_earlier.is_null() {
            return Datum::Null;
        }
        if compare(later, end_of_earlier).is_lt() {
            return Datum::Bool(true);
        }
        if end_of_later.is_null() { Datum::Null } else { Datum::Bool(false) }
    };
    match compare(&start_a, &start_b) {
        std::cmp::Ordering::Greater => within(&start_a, &end_b, &end_a),
        std::cmp::Ordering::Less => within(&start_b, &end_a, &end_b),
        std::cmp::Ordering::Equal if end_a.is_null() || end_b.is_null() => Datum::Null,
        std::cmp::Ordering::Equal => Datum::Bool(true),
    }
}

fn overlaps_call(call: &mut Call<'_>, args: &[Datum]) -> Result<Datum> {
    let [start_a, end_a, start_b, end_b] = args else { return Err(mismatch(args)) };
    let zone = &call.env.style().time_zone;
    let end = |start: &Datum, end: &Datum| -> Result<Datum> {
        Ok(match (start, end) {
            (_, Datum::Null) | (Datum::Null, Datum::Interval(_)) => Datum::Null,
            (Datum::Time(start), Datum::Interval(length)) => {
                Datum::Time(dt::time_plus_interval(*start, *length))
            }
            (Datum::Timestamp(start), Datum::Interval(length)) => {
                Datum::Timestamp(dt::timestamp_plus_interval(*start, *length)?)
            }
            (Datum::TimestampTz(start), Datum::Interval(length)) => {
                Datum::TimestampTz(dt::timestamptz_plus_interval(*start, *length, zone)?)
            }
            (_, end) => end.clone(),
        })
    };
    let a = (start_a.clone(), end(start_a, end_a)?);
    let b = (start_b.clone(), end(start_b, end_b)?);
    Ok(overlaps(a, b))
}

/// `make_interval` with any number of trailing parts left out.
fn make_interval(args: &[Datum]) -> Result<Datum> {
    let mut parts = [0; 6];
    let mut seconds = 0.0;
    for (at, arg) in args.iter().enumerate() {
        match arg {
            Datum::Int4(part) if at < 6 => parts[at] = *part,
            Datum::Float8(part) if at == 6 => seconds = *part,
            _ => return Err(mismatch(args)),
        }
    }
    let [years, months, weeks, days, hours, minutes] = parts;
    dt::make_interval(years, months, weeks, days, hours, minutes, seconds).map(Datum::Interval)
}

macro_rules! zoned {
    ($zone:ident; $($pattern:pat => $body:expr),+) => {
        |call: &mut Call<'_>, args: &[Datum]| { let $zone = &call.env.style().time_zone; match args { $($pattern => $body,)+ _ => Err(mismatch(args)) } }
    };
}

pub(crate) static FUNCTIONS: &[Function] = &[
    f(1299, "now", &[], TIMESTAMPTZ, |call, _| Ok(Datum::TimestampTz(call.env.transaction_time()))).stable().total(),
    f(2647, "transaction_timestamp", &[], TIMESTAMPTZ, |call, _| Ok(Datum::TimestampTz(call.env.transaction_time()))).stable().total(),
    f(2648, "statement_timestamp", &[], TIMESTAMPTZ, |call, _| Ok(Datum::TimestampTz(call.env.statement_time()))).stable().total(),
    f(2649, "clock_timestamp", &[], TIMESTAMPTZ, |_, _| Ok(Datum::TimestampTz(dt::now()))).volatile().total(),
    f(274, "timeofday", &[], TEXT, |call, _| { let zone = &call.env.style().time_zone; to_char(0, || format::timestamptz_to_char(dt::now(), "Dy Mon DD HH24:MI:SS.US YYYY TZ", zone)) }).volatile(),
    f(9001, "current_timestamp", &[], TIMESTAMPTZ, |call, _| Ok(Datum::TimestampTz(call.env.transaction_time()))).stable().total(),
    f(9002, "current_date", &[], DATE, |call, _| Ok(Datum::Date(dt::timestamp_to_date(local_now(call)?)))).stable(),
    f(9003, "localtime", &[], TIME, |call, _| Ok(Datum::Time(dt::timestamp_to_time(local_now(call)?)))).stable(),
    f(9004, "localtimestamp", &[], TIMESTAMP, |call, _| local_now(call).map(Datum::Timestamp)).stable(),
    f(1141, "date_pli", &[DATE, INT4], DATE, thunk!([Datum::Date(a), Datum::Int4(b)] => dt::date_plus_days(*a, *b).map(Datum::Date))),
    f(2550, "integer_pl_date", &[INT4, DATE], DATE, thunk!([Datum::Int4(b), Datum::Date(a)] => dt::date_plus_days(*a, *b).map(Datum::Date))),
    f(1142, "date_mii", &[DATE, INT4], DATE, thunk!([Datum::Date(a), Datum::Int4(b)] => match b.checked_neg() { Some(b) => dt::date_plus_days(*a, b).map(Datum::Date), None => Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range")) })),
    f(1140, "date_mi", &[DATE, DATE], INT4, thunk!([Datum::Date(a), Datum::Date(b)] => dt::date_minus_date(*a, *b).map(Datum::Int4))),
    f(2071, "date_pl_interval", &[DATE, INTERVAL], TIMESTAMP, thunk!([Datum::Date(a), Datum::Interval(b)] => dt::timestamp_plus_interval(dt::date_to_timestamp(*a)?, *b).map(Datum::Timestamp))),
    f(2546, "interval_pl_date", &[INTERVAL, DATE], TIMESTAMP, thunk!([Datum::Interval(b), Datum::Date(a)] => dt::timestamp_plus_interval(dt::date_to_timestamp(*a)?, *b).map(Datum::Timestamp))),
    f(2072, "date_mi_interval", &[DATE, INTERVAL], TIMESTAMP, thunk!([Datum::Date(a), Datum::Interval(b)] => dt::timestamp_minus_interval(dt::date_to_timestamp(*a)?, *b).map(Datum::Timestamp))),
    f(1272, "datetime_pl", &[DATE, TIME], TIMESTAMP, thunk!([Datum::Date(a), Datum::Time(b)] => date_and_time(*a, *b).map(Datum::Timestamp))),
    f(2025, "timestamp", &[DATE, TIME], TIMESTAMP, thunk!([Datum::Date(a), Datum::Time(b)] => date_and_time(*a, *b).map(Datum::Timestamp))),
    f(1296, "timedate_pl", &[TIME, DATE], TIMESTAMP, thunk!([Datum::Time(b), Datum::Date(a)] => date_and_time(*a, *b).map(Datum::Timestamp))),
    f(1176, "timestamptz", &[DATE, TIME], TIMESTAMPTZ, zoned!(zone; [Datum::Date(a), Datum::Time(b)] => dt::from_local(date_and_time(*a, *b)?, zone).map(Datum::TimestampTz))).stable(),
    f(2032, "timestamp_pl_interval", &[TIMESTAMP, INTERVAL], TIMESTAMP, thunk!([Datum::Timestamp(a), Datum::Interval(b)] => dt::timestamp_plus_interval(*a, *b).map(Datum::Timestamp))),
    f(2548, "interval_pl_timestamp", &[INTERVAL, TIMESTAMP], TIMESTAMP, thunk!([Datum::Interval(b), Datum::Timestamp(a)] => dt::timestamp_plus_interval(*a, *b).map(Datum::Timestamp))),
    f(2033, "timestamp_mi_interval", &[TIMESTAMP, INTERVAL], TIMESTAMP, thunk!([Datum::Timestamp(a), Datum::Interval(b)] => dt::timestamp_minus_interval(*a, *b).map(Datum::Timestamp))),
    f(1189, "timestamptz_pl_interval", &[TIMESTAMPTZ, INTERVAL], TIMESTAMPTZ, zoned!(zone; [Datum::TimestampTz(a), Datum::Interval(b)] => dt::timestamptz_plus_interval(*a, *b, zone).map(Datum::TimestampTz))).stable(),
    f(2549, "interval_pl_timestamptz", &[INTERVAL, TIMESTAMPTZ], TIMESTAMPTZ, zoned!(zone; [Datum::Interval(b), Datum::TimestampTz(a)] => dt::timestamptz_plus_interval(*a, *b, zone).map(Datum::TimestampTz))).stable(),
    f(1190, "timestamptz_mi_interval", &[TIMESTAMPTZ, INTERVAL], TIMESTAMPTZ, zoned!(zone; [Datum::TimestampTz(a), Datum::Interval(b)] => dt::timestamptz_minus_interval(*a, *b, zone).map(Datum::TimestampTz))).stable(),
    f(2031, "timestamp_mi", &[TIMESTAMP, TIMESTAMP], INTERVAL, thunk!([Datum::Timestamp(a), Datum::Timestamp(b)] => dt::timestamp_minus_timestamp(*a, *b).map(Datum::Interval))),
    f(1188, "timestamptz_mi", &[TIMESTAMPTZ, TIMESTAMPTZ], INTERVAL, thunk!([Datum::TimestampTz(a), Datum::TimestampTz(b)] => dt::timestamp_minus_timestamp(*a, *b).map(Datum::Interval))),
    f(1747, "time_pl_interval", &[TIME, INTERVAL], TIME, thunk!([Datum::Time(a), Datum::Interval(b)] => Ok(Datum::Time(dt::time_plus_interval(*a, *b))))).total(),
    f(1848, "interval_pl_time", &[INTERVAL, TIME], TIME, thunk!([Datum::Interval(b), Datum::Time(a)] => Ok(Datum::Time(dt::time_plus_interval(*a, *b))))).total(),
    f(1748, "time_mi_interval", &[TIME, INTERVAL], TIME, thunk!([Datum::Time(a), Datum::Interval(b)] => Ok(Datum::Time(dt::time_plus_interval(*a, b.negate()?))))),
    f(1690, "time_mi_time", &[TIME, TIME], INTERVAL, thunk!([Datum::Time(a), Datum::Time(b)] => Ok(Datum::Interval(Interval::new(0, 0, a - b))))).total(),
    f(1169, "interval_pl", &[INTERVAL, INTERVAL], INTERVAL, thunk!([Datum::Interval(a), Datum::Interval(b)] => a.checked_add(*b).map(Datum::Interval))),
    f(1170, "interval_mi", &[INTERVAL, INTERVAL], INTERVAL, thunk!([Datum::Interval(a), Datum::Interval(b)] => a.checked_sub(*b).map(Datum::Interval))),
    f(1168, "interval_um", &[INTERVAL], INTERVAL, thunk!([Datum::Interval(a)] => a.negate().map(Datum::Interval))),
    f(1618, "interval_mul", &[INTERVAL, FLOAT8], INTERVAL, thunk!([Datum::Interval(a), Datum::Float8(b)] => a.multiply(*b).map(Datum::Interval))),
    f(1624, "mul_d_interval", &[FLOAT8, INTERVAL], INTERVAL, thunk!([Datum::Float8(b), Datum::Interval(a)] => a.multiply(*b).map(Datum::Interval))),
    f(1326, "interval_div", &[INTERVAL, FLOAT8], INTERVAL, thunk!([Datum::Interval(a), Datum::Float8(b)] => a.divide(*b).map(Datum::Interval))),
    f(1295, "justify_days", &[INTERVAL], INTERVAL, thunk!([Datum::Interval(a)] => a.justify_days().map(Datum::Interval))),
    f(1175, "justify_hours", &[INTERVAL], INTERVAL, thunk!([Datum::Interval(a)] => a.justify_hours().map(Datum::Interval))),
    f(2711, "justify_interval", &[INTERVAL], INTERVAL, thunk!([Datum::Interval(a)] => a.justify().map(Datum::Interval))),
    f(6199, "extract", &[TEXT, DATE], NUMERIC, thunk!([Datum::Text(field), Datum::Date(a)] => optional(dt::extract_date(field, *a)?))),
    f(6200, "extract", &[TEXT, TIME], NUMERIC, thunk!([Datum::Text(field), Datum::Time(a)] => optional(dt::extract_time(field, *a)?))),
    f(6202, "extract", &[TEXT, TIMESTAMP], NUMERIC, thunk!([Datum::Text(field), Datum::Timestamp(a)] => optional(dt::extract_timestamp(field, *a)?))),
    f(6203, "extract", &[TEXT, TIMESTAMPTZ], NUMERIC, zoned!(zone; [Datum::Text(field), Datum::TimestampTz(a)] => optional(dt::extract_timestamptz(field, *a, zone)?))).stable(),
    f(6204, "extract", &[TEXT, INTERVAL], NUMERIC, thunk!([Datum::Text(field), Datum::Interval(a)] => optional(dt::extract_interval(field, *a)?))),
    f(1384, "date_part", &[TEXT, DATE], FLOAT8, thunk!([Datum::Text(field), Datum::Date(a)] => optional_float(dt::extract_timestamp(field, dt::date_to_timestamp(*a)?)?))),
    f(1385, "date_part", &[TEXT, TIME], FLOAT8, thunk!([Datum::Text(field), Datum::Time(a)] => optional_float(dt::extract_time(field, *a)?))),
    f(2021, "date_part", &[TEXT, TIMESTAMP], FLOAT8, thunk!([Datum::Text(field), Datum::Timestamp(a)] => optional_float(dt::extract_timestamp(field, *a)?))),
    f(1171, "date_part", &[TEXT, TIMESTAMPTZ], FLOAT8, zoned!(zone; [Datum::Text(field), Datum::TimestampTz(a)] => optional_float(dt::extract_timestamptz(field, *a, zone)?))).stable(),
    f(1172, "date_part", &[TEXT, INTERVAL], FLOAT8, thunk!([Datum::Text(field), Datum::Interval(a)] => optional_float(dt::extract_interval(field, *a)?))),
    f(2020, "date_trunc", &[TEXT, TIMESTAMP], TIMESTAMP, thunk!([Datum::Text(field), Datum::Timestamp(a)] => dt::trunc_timestamp(field, *a).map(Datum::Timestamp))),
    f(1217, "date_trunc", &[TEXT, TIMESTAMPTZ], TIMESTAMPTZ, zoned!(zone; [Datum::Text(field), Datum::TimestampTz(a)] => dt::trunc_timestamptz(field, *a, zone).map(Datum::TimestampTz))).stable(),
    f(1284, "date_trunc", &[TEXT, TIMESTAMPTZ, TEXT], TIMESTAMPTZ, thunk!(call; [Datum::Text(field), Datum::TimestampTz(a), Datum::Text(name)] => dt::trunc_timestamptz(field, *a, zone(call.state, name)?).map(Datum::TimestampTz))).stable(),
    f(1218, "date_trunc", &[TEXT, INTERVAL], INTERVAL, thunk!([Datum::Text(field), Datum::Interval(a)] => dt::trunc_interval(field, *a).map(Datum::Interval))),
    f(6177, "date_bin", &[INTERVAL, TIMESTAMP, TIMESTAMP], TIMESTAMP, thunk!([Datum::Interval(stride), Datum::Timestamp(a), Datum::Timestamp(origin)] => dt::bin_timestamp(*stride, *a, *origin).map(Datum::Timestamp))),
    f(6178, "date_bin", &[INTERVAL, TIMESTAMPTZ, TIMESTAMPTZ], TIMESTAMPTZ, thunk!([Datum::Interval(stride), Datum::TimestampTz(a), Datum::TimestampTz(origin)] => dt::bin_timestamp(*stride, *a, *origin).map(Datum::TimestampTz))),
    f(2058, "age", &[TIMESTAMP, TIMESTAMP], INTERVAL, thunk!([Datum::Timestamp(a), Datum::Timestamp(b)] => dt::age(*a, *b).map(Datum::Interval))),
    f(1199, "age", &[TIMESTAMPTZ, TIMESTAMPTZ], INTERVAL, zoned!(zone; [Datum::TimestampTz(a), Datum::TimestampTz(b)] => dt::age(dt::to_local(*a, zone)?, dt::to_local(*b, zone)?).map(Datum::Interval))),
    f(2059, "age", &[TIMESTAMP], INTERVAL, thunk!(call; [Datum::Timestamp(a)] => dt::age(today(call)?, *a).map(Datum::Interval))).stable(),
    f(1386, "age", &[TIMESTAMPTZ], INTERVAL, thunk!(call; [Datum::TimestampTz(a)] => dt::age(today(call)?, dt::to_local(*a, &call.env.style().time_zone)?).map(Datum::Interval))).stable(),
    f(2069, "timezone", &[TEXT, TIMESTAMP], TIMESTAMPTZ, thunk!(call; [Datum::Text(name), Datum::Timestamp(a)] => dt::from_local(*a, zone(call.state, name)?).map(Datum::TimestampTz))),
    f(1159, "timezone", &[TEXT, TIMESTAMPTZ], TIMESTAMP, thunk!(call; [Datum::Text(name), Datum::TimestampTz(a)] => dt::to_local(*a, zone(call.state, name)?).map(Datum::Timestamp))),
    f(2070, "timezone", &[INTERVAL, TIMESTAMP], TIMESTAMPTZ, thunk!([Datum::Interval(offset), Datum::Timestamp(a)] => shift(*a, -zone_of_interval(*offset)?).map(Datum::TimestampTz))),
    f(1026, "timezone", &[INTERVAL, TIMESTAMPTZ], TIMESTAMP, thunk!([Datum::Interval(offset), Datum::TimestampTz(a)] => shift(*a, zone_of_interval(*offset)?).map(Datum::Timestamp))),
    f(1373, "isfinite", &[DATE], BOOL, thunk!([Datum::Date(a)] => Ok(Datum::Bool(*a != dt::DATE_INFINITY && *a != dt::DATE_NEG_INFINITY)))).total(),
    f(2048, "isfinite", &[TIMESTAMP], BOOL, thunk!([Datum::Timestamp(a)] => Ok(Datum::Bool(!is_infinite(*a))))).total(),
    f(1389, "isfinite", &[TIMESTAMPTZ], BOOL, thunk!([Datum::TimestampTz(a)] => Ok(Datum::Bool(!is_infinite(*a))))).total(),
    f(1390, "isfinite", &[INTERVAL], BOOL, |_, _| Ok(Datum::Bool(true))).total(),
    f(3846, "make_date", &[INT4, INT4, INT4], DATE, thunk!([Datum::Int4(y), Datum::Int4(m), Datum::Int4(d)] => dt::make_date(*y, *m, *d).map(Datum::Date))),
    f(3847, "make_time", &[INT4, INT4, FLOAT8], TIME, thunk!([Datum::Int4(h), Datum::Int4(m), Datum::Float8(s)] => dt::make_time(*h, *m, *s).map(Datum::Time))),
    f(3461, "make_timestamp", &[INT4, INT4, INT4, INT4, INT4, FLOAT8], TIMESTAMP, thunk!([Datum::Int4(y), Datum::Int4(mo), Datum::Int4(d), Datum::Int4(h), Datum::Int4(mi), Datum::Float8(s)] => dt::make_timestamp(*y, *mo, *d, *h, *mi, *s).map(Datum::Timestamp))),
    f(3462, "make_timestamptz", &[INT4, INT4, INT4, INT4, INT4, FLOAT8], TIMESTAMPTZ, zoned!(zone; [Datum::Int4(y), Datum::Int4(mo), Datum::Int4(d), Datum::Int4(h), Datum::Int4(mi), Datum::Float8(s)] => dt::make_timestamptz(*y, *mo, *d, *h, *mi, *s, zone).map(Datum::TimestampTz))).stable(),
    f(3463, "make_timestamptz", &[INT4, INT4, INT4, INT4, INT4, FLOAT8, TEXT], TIMESTAMPTZ, thunk!(call; [Datum::Int4(y), Datum::Int4(mo), Datum::Int4(d), Datum::Int4(h), Datum::Int4(mi), Datum::Float8(s), Datum::Text(name)] => dt::make_timestamptz(*y, *mo, *d, *h, *mi, *s, zone(call.state, name)?).map(Datum::TimestampTz))).stable(),
    f(3464, "make_interval", &[INT4, INT4, INT4, INT4, INT4, INT4, FLOAT8], INTERVAL, |_, args| make_interval(args)).defaults(7).names(&["years", "months", "weeks", "days", "hours", "mins", "secs"]),
    f(1158, "to_timestamp", &[FLOAT8], TIMESTAMPTZ, thunk!([Datum::Float8(a)] => unix_timestamp(*a).map(Datum::TimestampTz))),
    f(1778, "to_timestamp", &[TEXT, TEXT], TIMESTAMPTZ, zoned!(zone; [Datum::Text(text), Datum::Text(pattern)] => format::to_timestamp(text, pattern, zone).map(Datum::TimestampTz))).stable(),
    f(1780, "to_date", &[TEXT, TEXT], DATE, thunk!([Datum::Text(text), Datum::Text(pattern)] => format::to_date(text, pattern).map(Datum::Date))).stable(),
    f(2049, "to_char", &[TIMESTAMP, TEXT], TEXT, thunk!([Datum::Timestamp(a), Datum::Text(pattern)] => to_char(*a, || format::timestamp_to_char(*a, pattern)))).stable(),
    f(1770, "to_char", &[TIMESTAMPTZ, TEXT], TEXT, zoned!(zone; [Datum::TimestampTz(a), Datum::Text(pattern)] => to_char(*a, || format::timestamptz_to_char(*a, pattern, zone)))).stable(),
    f(1768, "to_char", &[INTERVAL, TEXT], TEXT, thunk!([Datum::Interval(a), Datum::Text(pattern)] => to_char(0, || format::interval_to_char(*a, pattern)))).stable(),
    f(1309, "overlaps", &[TIME, INTERVAL, TIME, INTERVAL], BOOL, overlaps_call).nullable(),
    f(1311, "overlaps", &[TIME, INTERVAL, TIME, TIME], BOOL, overlaps_call).nullable(),
    f(1310, "overlaps", &[TIME, TIME, TIME, INTERVAL], BOOL, overlaps_call).nullable(),
    f(1308, "overlaps", &[TIME, TIME, TIME, TIME], BOOL, overlaps_call).nullable(),
    f(2042, "overlaps", &[TIMESTAMP, INTERVAL, TIMESTAMP, INTERVAL], BOOL, overlaps_call).nullable(),
    f(2044, "overlaps", &[TIMESTAMP, INTERVAL, TIMESTAMP, TIMESTAMP], BOOL, overlaps_call).nullable(),
    f(2043, "overlaps", &[TIMESTAMP, TIMESTAMP, TIMESTAMP, INTERVAL], BOOL, overlaps_call).nullable(),
    f(2041, "overlaps", &[TIMESTAMP, TIMESTAMP, TIMESTAMP, TIMESTAMP], BOOL, overlaps_call).nullable(),
    f(1305, "overlaps", &[TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, INTERVAL], BOOL, overlaps_call).nullable().stable(),
    f(1307, "overlaps", &[TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ, TIMESTAMPTZ], BOOL, overlaps_call).nullable().stable(),
    f(1306, "overlaps", &[TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL], BOOL, overlaps_call).nullable().stable(),
    f(1304, "overlaps", &[TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ], BOOL, overlaps_call).nullable(),
];

/// NULL for an empty text and for infinite moments, which have no digits to format.
fn to_char<T: Into<Option<String>>>(timestamp: i64, text: impl FnOnce() -> Result<T>) -> Result<Datum> {
    if is_infinite(timestamp) {
        return Ok(Datum::Null);
    }
    text()?.into().filter(|text| !text.is_empty()).map_or(Ok(Datum::Null), text_of)
}
