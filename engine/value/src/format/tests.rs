use super::*;
use crate::text::{Style, input, output_string};
use crate::types::{Type, oid};
use crate::{Datum, Error, Numeric, Result, datetime};

/// Each line is `kind|value|pattern|answer` as PostgreSQL 15 answered with TimeZone Europe/Berlin. Kinds: to_char of n(umeric),
/// t(imestamp), z (timestamptz), i(nterval); d to_date, s to_timestamp, m to_number. `!` marks an error.
#[test]
fn patterns_as_postgres() {
    let zone = datetime::parse_zone("Europe/Berlin").unwrap();
    let style = Style { time_zone: zone.clone(), ..Style::default() };
    let mut wrong = Vec::new();
    for line in include_str!("cases.txt").lines() {
        let parts: Vec<&str> = line.splitn(4, '|').collect();
        let (kind, text, pattern, want) = (parts[0], parts[1], parts[2], parts[3]);
        let read = |ty| input(Type::new(ty), text, &style);
        let got: Result<String> = (|| {
            Ok(match kind {
                "n" => numeric_to_char(&Numeric::parse(text)?, pattern)?,
                "t" => match read(oid::TIMESTAMP)? {
                    Datum::Timestamp(value) => timestamp_to_char(value, pattern)?,
                    _ => String::new(),
                },
                "z" => match read(oid::TIMESTAMPTZ)? {
                    Datum::TimestampTz(value) => timestamptz_to_char(value, pattern, &zone)?,
                    _ => String::new(),
                },
                "i" => match read(oid::INTERVAL)? {
                    Datum::Interval(value) => interval_to_char(value, pattern)?,
                    _ => String::new(),
                },
                "d" => output_string(&Datum::Date(to_date(text, pattern)?), oid::DATE, &style),
                "s" => {
                    let value = Datum::TimestampTz(to_timestamp(text, pattern, &zone)?);
                    output_string(&value, oid::TIMESTAMPTZ, &style)
                }
                _ => to_number(text, pattern)?.to_string(),
            })
        })();
        let got = got.map_or_else(
            |error: Error| format!("!{} {}", error.state(), error.message()),
            |text| format!("={text}"),
        );
        if got != want {
            wrong.push(format!("{kind}|{text}|{pattern}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_pattern_is_answered(
        text in "[-+0-9:./ ,a-zA-Z]{0,20}",
        pattern in "(HH|HH24|MI|SS|MS|US|YYYY|IYYY|IW|ID|MM|Mon|DD|DDD|J|CC|WW|W|AM|BC|TZH|TZM|TH|FM|[-9 0.,DGSVLBRN\"\\\\:x\u{e9}]|PR|MI|PL|SG|EEEE){0,8}",
        number in proptest::prelude::any::<i64>(),
        scale in 0u16..20,
    ) {
        let zone = datetime::TimeZone::UTC;
        let _ = to_date(&text, &pattern);
        let _ = to_timestamp(&text, &pattern, &zone);
        let _ = to_number(&text, &pattern);
        let _ = numeric_to_char(&Numeric::from_i128(number.into(), scale), &pattern);
        let _ = timestamptz_to_char(number, &pattern, &zone);
        let _ = interval_to_char(crate::Interval::new(number as i32, (number >> 32) as i32, number), &pattern);
    }
}
