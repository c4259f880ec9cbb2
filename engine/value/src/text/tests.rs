use super::*;
use crate::types::{by_name, typmod_of_modifiers};

/// Each line is `type|text|answer`, the answer as PostgreSQL 15 gave it with TimeZone Europe/Berlin: `=` and the text
/// form, or `!` and SQLSTATE, message, detail and hint.
#[test]
fn input_and_output_as_postgres() {
    let style = Style { time_zone: datetime::parse_zone("Europe/Berlin").unwrap(), ..Style::default() };
    let mut wrong = Vec::new();
    for line in include_str!("cases.txt").lines() {
        let (name, rest) = line.split_once('|').unwrap();
        let (text, want) = rest.rsplit_once('|').unwrap();
        let (plain, modifiers) = match name.split_once('(') {
            Some((plain, rest)) => {
                let (inside, after) = rest.split_once(')').unwrap();
                let modifiers: Vec<i32> = inside.split(',').map(|m| m.parse().unwrap()).collect();
                (format!("{plain}{after}"), modifiers)
            }
            None => (name.to_string(), Vec::new()),
        };
        let oid = by_name(&plain).unwrap().oid;
        let ty = Type::with_typmod(oid, typmod_of_modifiers(oid, &modifiers).unwrap());
        let got = match input(ty, text, &style) {
            Ok(value) => format!("={}", output_string(&value, oid, &style)),
            Err(error) => {
                let fields = error.fields();
                let more =
                    |part: &Option<String>| part.as_ref().map(|p| format!(" / {p}")).unwrap_or_default();
                let (detail, hint) = (more(&fields.detail), more(&fields.hint));
                format!("!{} {}{detail}{hint}", fields.state, fields.message)
            }
        };
        // The reference trims its answers and puts blanks between the parts.
        let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if normal(&got) != normal(want) {
            wrong.push(format!("{name}|{text}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn shown(ty: Oid, text: &str, style: &Style) -> String {
    output_string(&input(Type::new(ty), text, style).unwrap(), ty, style)
}

#[test]
fn lengths() {
    let varchar = Type::with_typmod(oid::VARCHAR, 3 + 4);
    let style = Style::default();
    let error = input(varchar, "abcd", &style).unwrap_err();
    assert_eq!(error.message(), "value too long for type character varying(3)");
    assert_eq!(error.state(), SqlState::STRING_DATA_RIGHT_TRUNCATION);
    let text = |value: Datum| output_string(&value, oid::TEXT, &style);
    assert_eq!(text(input(varchar, "abc  ", &style).unwrap()), "abc");
    assert_eq!(
        text(apply_typmod(Datum::text("\u{e9}\u{e9}\u{e9}\u{e9}"), varchar, true).unwrap()),
        "\u{e9}\u{e9}\u{e9}"
    );
    assert_eq!(text(input(Type::with_typmod(oid::BPCHAR, 5 + 4), "ab", &style).unwrap()), "ab   ");
}

#[test]
fn styles() {
    let berlin = datetime::parse_zone("Europe/Berlin").unwrap();
    let table = [
        ("ISO, MDY", "2020-01-05 04:05:06.7+01", "2020-01-05"),
        ("SQL, MDY", "01/05/2020 04:05:06.7 CET", "01/05/2020"),
        ("SQL, DMY", "05/01/2020 04:05:06.7 CET", "05/01/2020"),
        ("Postgres, MDY", "Sun Jan 05 04:05:06.7 2020 CET", "01-05-2020"),
        ("Postgres, DMY", "Sun 05 Jan 04:05:06.7 2020 CET", "05-01-2020"),
        ("German, DMY", "05.01.2020 04:05:06.7 CET", "05.01.2020"),
    ];
    for (name, timestamptz, date) in table {
        let date_style = Style::default().date_style.parse(name).unwrap();
        assert_eq!(date_style.name(), name);
        let style = Style { date_style, time_zone: berlin.clone(), ..Style::default() };
        assert_eq!(shown(oid::TIMESTAMPTZ, "2020-01-05 04:05:06.7+01", &style), timestamptz);
        assert_eq!(shown(oid::DATE, "2020-01-05", &style), date);
        // What is written is read back.
        assert_eq!(shown(oid::TIMESTAMPTZ, timestamptz, &style), timestamptz);
        assert_eq!(shown(oid::DATE, date, &style), date);
    }
    let intervals = [
        (IntervalStyle::Postgres, "1 year 2 mons -3 days +04:05:06.7", "-1 years -2 mons", "00:00:00"),
        (
            IntervalStyle::PostgresVerbose,
            "@ 1 year 2 mons -3 days 4 hours 5 mins 6.7 secs",
            "@ 1 year 2 mons ago",
            "@ 0",
        ),
        (IntervalStyle::SqlStandard, "+1-2 -3 +4:05:06.7", "-1-2", "0"),
        (IntervalStyle::Iso8601, "P1Y2M-3DT4H5M6.7S", "P-1Y-2M", "PT0S"),
    ];
    for (interval_style, mixed, negative, zero) in intervals {
        let style = Style { interval_style, ..Style::default() };
        assert_eq!(shown(oid::INTERVAL, "1 year 2 mons -3 days 04:05:06.7", &style), mixed);
        assert_eq!(shown(oid::INTERVAL, "-1 year -2 mons", &style), negative);
        assert_eq!(shown(oid::INTERVAL, "0", &style), zero);
        assert_eq!(shown(oid::INTERVAL, mixed, &style), mixed);
    }
    let style = Style { now: Some(0), ..Style::default() };
    assert_eq!(shown(oid::TIMESTAMPTZ, "now", &style), "2000-01-01 00:00:00+00");
    assert_eq!(shown(oid::DATE, "tomorrow", &style), "2000-01-02");
    assert_eq!(shown(oid::TIMESTAMP, "yesterday 10:00", &style), "1999-12-31 10:00:00");
    let style = Style { extra_float_digits: 0, bytea_hex: false, ..Style::default() };
    assert_eq!(shown(oid::FLOAT8, "0.30000000000000004", &style), "0.3");
    assert_eq!(shown(oid::FLOAT8, "1e20", &style), "1e+20");
    assert_eq!(shown(oid::BYTEA, "\\x00415cff", &style), "\\000A\\\\\\377");
    assert_eq!(
        split_record("(1,\"a \"\"b\",,\"\")").unwrap(),
        [Some("1".to_string()), Some("a \"b".to_string()), None, Some(String::new())]
    );
}

/// Interval arithmetic as PostgreSQL 15 answered it.
#[test]
fn interval_arithmetic() {
    let parse = |text: &str| interval::parse_interval(text, -1, IntervalStyle::Postgres).unwrap();
    let show = |value: Result<crate::Interval>| interval_text(value.unwrap(), IntervalStyle::Postgres);
    assert_eq!(show(parse("1 month 15 days").multiply(1.5)), "1 mon 37 days 12:00:00");
    assert_eq!(show(parse("1 day").divide(3.0)), "08:00:00");
    assert_eq!(show(parse("1 year 2 mons").multiply(0.1)), "1 mon 12 days");
    assert_eq!(show(parse("1 mon -1 hour").justify()), "29 days 23:00:00");
    assert_eq!(show(parse("35 days 30 hours").justify()), "1 mon 6 days 06:00:00");
    let day = |text: &str| date_input::timestamp(text, &Style::default()).unwrap();
    assert_eq!(show(datetime::age(day("2024-02-29"), day("2024-03-31"))), "-1 mons -2 days");
    let age = datetime::age(day("2000-01-01"), day("2020-05-17 13:00"));
    assert_eq!(show(age), "-20 years -4 mons -16 days -13:00:00");
}
