use super::*;
use proptest::prelude::*;

fn at(y: i32, mo: u32, d: u32, h: u32, mi: u32, s: u32) -> i64 {
    let fields = Fields { year: y, month: mo, day: d, hour: h, minute: mi, second: s, micros: 0 };
    timestamp_from_fields(&fields).unwrap()
}

#[test]
fn calendar() {
    assert_eq!(days_from_civil(2000, 1, 1), 0);
    assert_eq!(civil_from_days(DATE_MIN), (-4713, 11, 24));
    assert_eq!(civil_from_days(DATE_END - 1), (5_874_897, 12, 31));
    assert_eq!(timestamp_fields(TIMESTAMP_MIN).year, -4713);
    assert_eq!(timestamp_fields(TIMESTAMP_END - 1).year, 294_276);
    assert_eq!(day_of_week(0), 6);
    assert_eq!(iso_week(days_from_civil(2021, 1, 3)), (2020, 53));
    assert_eq!(iso_week_start(2021, 1), days_from_civil(2021, 1, 4));
    assert!(make_date(2023, 2, 29).is_err());
    assert!(make_date(0, 1, 1).is_err());
    assert_eq!(make_date(-1, 1, 1).unwrap(), days_from_civil(0, 1, 1));
}

#[test]
fn zones() {
    let berlin = parse_zone("europe/berlin").unwrap();
    let noon = at(2024, 7, 1, 12, 0, 0);
    assert_eq!(to_local(noon, &berlin).unwrap(), at(2024, 7, 1, 14, 0, 0));
    assert_eq!(zone_abbreviation(&berlin, noon), "CEST");
    // The gap of spring counts as winter time, the doubled hour of autumn too.
    assert_eq!(from_local(at(2024, 3, 31, 2, 30, 0), &berlin).unwrap(), at(2024, 3, 31, 1, 30, 0));
    assert_eq!(from_local(at(2024, 10, 27, 2, 30, 0), &berlin).unwrap(), at(2024, 10, 27, 1, 30, 0));
    // Far beyond what the zone library knows the rules go on.
    assert_eq!(zone_offset(&berlin, at(20_024, 7, 1, 12, 0, 0)), 7200);
    assert_eq!(zone_offset(&berlin, at(20_024, 1, 1, 12, 0, 0)), 3600);
    assert_eq!(local_offset(&berlin, at(200_024, 7, 1, 12, 0, 0)), 7200);
    assert_eq!(zone_offset(&parse_zone("UTC+3").unwrap(), 0), -10_800);
    assert_eq!(zone_offset(&parse_zone("+03:30").unwrap(), 0), -12_600);
    assert_eq!(zone_offset(&parse_zone_setting("3").unwrap(), 0), 10_800);
    assert_eq!(zone_offset(&parse_zone("EST").unwrap(), 0), -18_000);
    assert_eq!(
        parse_zone("Mars/Olympus").unwrap_err().message(),
        "time zone \"Mars/Olympus\" not recognized"
    );
    let day = Interval::new(0, 1, 0);
    let before = from_local(at(2024, 3, 30, 12, 0, 0), &berlin).unwrap();
    assert_eq!(timestamptz_plus_interval(before, day, &berlin).unwrap() - before, 23 * USECS_PER_HOUR);
}

#[test]
fn arithmetic() {
    let month = Interval::new(1, 0, 0);
    assert_eq!(timestamp_plus_interval(at(2024, 1, 31, 1, 2, 3), month).unwrap(), at(2024, 2, 29, 1, 2, 3));
    let text = |a, b| {
        let age = age(a, b).unwrap();
        (age.months, age.days, age.micros / USECS_PER_HOUR)
    };
    assert_eq!(text(at(2001, 4, 10, 0, 0, 0), at(1957, 6, 13, 0, 0, 0)), (43 * 12 + 9, 27, 0));
    assert_eq!(text(at(2024, 3, 1, 0, 0, 0), at(2024, 1, 31, 12, 0, 0)), (1, 0, 12));
    let difference = timestamp_minus_timestamp(at(2024, 3, 1, 0, 0, 0), at(2024, 3, 2, 1, 0, 0)).unwrap();
    assert_eq!((difference.days, difference.micros), (-1, -USECS_PER_HOUR));
    assert!(timestamp_plus_interval(TIMESTAMP_END - 1, month).is_err());
    assert_eq!(
        bin_timestamp(
            Interval::new(0, 0, 15 * USECS_PER_MINUTE),
            at(2020, 2, 11, 15, 44, 17),
            at(2001, 1, 1, 0, 0, 0)
        )
        .unwrap(),
        at(2020, 2, 11, 15, 30, 0)
    );
}

#[test]
fn extraction() {
    let t = at(2001, 2, 16, 20, 38, 40) + 120_000;
    for (field, want) in [
        ("century", "21"),
        ("millennium", "3"),
        ("decade", "200"),
        ("doy", "47"),
        ("dow", "5"),
        ("isodow", "5"),
        ("second", "40.120000"),
        ("milliseconds", "40120.000"),
        ("microseconds", "40120000"),
        ("epoch", "982355920.120000"),
        ("quarter", "1"),
        ("week", "7"),
    ] {
        assert_eq!(extract_timestamp(field, t).unwrap().unwrap().to_string(), want, "{field}");
    }
    assert_eq!(extract_timestamp("hour", TIMESTAMP_INFINITY).unwrap(), None);
    assert_eq!(extract_timestamp("year", TIMESTAMP_INFINITY).unwrap(), Some(Numeric::INFINITY));
    assert_eq!(extract_date("hour", 0).unwrap_err().message(), "unit \"hour\" not supported for type date");
    let interval = Interval::new(14, 3, 4 * USECS_PER_HOUR + 5 * USECS_PER_MINUTE + 6_700_000);
    assert_eq!(extract_interval("epoch", interval).unwrap().unwrap().to_string(), "37015506.700000");
    assert_eq!(trunc_timestamp("week", t).unwrap(), at(2001, 2, 12, 0, 0, 0));
    assert_eq!(trunc_timestamp("decade", t).unwrap(), at(2000, 1, 1, 0, 0, 0));
    assert_eq!(trunc_timestamp("century", t).unwrap(), at(2001, 1, 1, 0, 0, 0));
}

use crate::Numeric;

proptest! {
    #[test]
    fn days_round_trip(days in DATE_MIN..DATE_END) {
        let (y, m, d) = civil_from_days(days);
        prop_assert!((1..=12).contains(&m) && d >= 1 && d <= days_in_month(y, m));
        prop_assert_eq!(days_from_civil(y, m, d), days);
    }

    #[test]
    fn age_brings_back(a in TIMESTAMP_MIN..TIMESTAMP_END, b in TIMESTAMP_MIN..TIMESTAMP_END) {
        prop_assume!(a > b);
        let _ = age(a, b);
        let fields = timestamp_fields(a);
        prop_assert_eq!(timestamp_from_fields(&fields).unwrap(), a);
    }
}
