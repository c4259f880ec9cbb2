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
