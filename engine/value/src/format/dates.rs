//! Date patterns: `YYYY-MM-DD HH24:MI:SS` and the rest of PostgreSQL's keywords. One table of keywords serves writing and
//! reading; the longest keyword wins, everything else stands for itself.

use crate::datetime::{
    self, TimeZone, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC, days_from_civil,
    is_finite_timestamp, iso_week, iso_week_start, timestamp_fields, timestamp_from_parts, timestamp_to_date,
    to_local, zone_abbreviation, zone_offset,
};
use crate::{Error, Interval, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Hour12,
    Hour24,
    Minute,
    Second,
    /// So many digits of the fraction.
    Fraction(u8),
    SecondOfDay,
    Meridian {
        dots: bool,
    },
    YearComma,
    /// The last so many digits.
    Year(u8),
    IsoYear(u8),
    Era {
        dots: bool,
    },
    MonthName,
    MonthShort,
    Month,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    WeekOfMonth,
    Week,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    RomanMonth,
    Zone,
    ZoneHour,
    ZoneMinute,
    Offset,
}

/// Keywords, longer ones before their prefixes. The case of names follows the keyword's own.
const KEYS: &[(&str, Key)] = &[
    ("HH24", Key::Hour24),
    ("HH12", Key::Hour12),
    ("HH", Key::Hour12),
    ("MI", Key::Minute),
    ("SSSSS", Key::SecondOfDay),
    ("SSSS", Key::SecondOfDay),
    ("SS", Key::Second),
    ("MS", Key::Fraction(3)),
    ("US", Key::Fraction(6)),
    ("FF1", Key::Fraction(1)),
    ("FF2", Key::Fraction(2)),
    ("FF3", Key::Fraction(3)),
    ("FF4", Key::Fraction(4)),
    ("FF5", Key::Fraction(5)),
    ("FF6", Key::Fraction(6)),
    ("A.M.", Key::Meridian { dots: true }),
    ("P.M.", Key::Meridian { dots: true }),
    ("AM", Key::Meridian { dots: false }),
    ("PM", Key::Meridian { dots: false }),
    ("Y,YYY", Key::YearComma),
    ("YYYY", Key::Year(4)),
    ("YYY", Key::Year(3)),
    ("YY", Key::Year(2)),
    ("Y", Key::Year(1)),
    ("IYYY", Key::IsoYear(4)),
    ("IYY", Key::IsoYear(3)),
    ("IY", Key::IsoYear(2)),
    ("IDDD", Key::IsoDayOfYear),
    ("ID", Key::IsoDayOfWeek),
    ("IW", Key::IsoWeek),
    ("I", Key::IsoYear(1)),
    ("B.C.", Key::Era { dots: true }),
    ("A.D.", Key::Era { dots: true }),
    ("BC", Key::Era { dots: false }),
    ("AD", Key::Era { dots: false }),
    ("MONTH", Key::MonthName),
    ("MON", Key::MonthShort),
    ("MM", Key::Month),
    ("DAY", Key::DayName),
    ("DDD", Key::DayOfYear),
    ("DD", Key::Day),
    ("DY", Key::DayShort),
    ("D", Key::DayOfWeek),
    ("WW", Key::Week),
    ("W", Key::WeekOfMonth),
    ("CC", Key::Century),
    ("J", Key::Julian),
    ("Q", Key::Quarter),
    ("RM", Key::RomanMonth),
    ("TZH", Key::ZoneHour),
    ("TZM", Key::ZoneMinute),
    ("TZ", Key::Zone),
    ("OF", Key::Offset),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Upper,
    Capital,
    Lower,
}

#[derive(Debug)]
enum Node {
    Key { key: Key, case: Case, fill: bool, ordinal: Option<Case> },
    Text(char),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// Cuts a pattern into keywords and literal characters; quoted parts are literal.
fn parse_pattern(pattern: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = pattern;
    let (mut fill, mut translated) = (true, false);
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let mut chars = rest[1..].chars();
            loop {
                match chars.next() {
                    None | Some('"') => break,
                    Some('\\') => nodes.extend(chars.next().map(Node::Text)),
                    Some(c) => nodes.push(Node::Text(c)),
                }
            }
            rest = chars.as_str();
            continue;
        }
        let starts = |word: &str| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        // FM switches blank padding off for the next keyword; so does TM for names, which it would translate.
        if starts("FM") {
            fill = false;
            rest = &rest[2..];
            continue;
        }
        if starts("FX") || starts("TM") {
            translated = starts("TM");
            rest = &rest[2..];
            continue;
        }
        let Some((word, key)) = KEYS.iter().find(|(word, _)| starts(word)) else {
            // A backslash outside quotes only protects a quote.
            if first == '\\' && rest[1..].starts_with('"') {
                nodes.push(Node::Text('"'));
                rest = &rest[2..];
                continue;
            }
            nodes.push(Node::Text(first));
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let written = &rest.as_bytes()[..word.len()];
        let case = if written[0].is_ascii_lowercase() {
            Case::Lower
        } else if written.get(1).is_some_and(u8::is_ascii_lowercase) {
            Case::Capital
        } else {
            Case::Upper
        };
        rest = &rest[word.len()..];
        let ordinal = match rest.get(..2) {
            Some("TH") => Some(Case::Upper),
            Some("th") => Some(Case::Lower),
            _ => None,
        };
        if ordinal.is_some() {
            rest = &rest[2..];
        }
        fill &= !(translated && matches!(key, Key::MonthName | Key::DayName));
        nodes.push(Node::Key { key: *key, case, fill, ordinal });
        (fill, translated) = (true, false);
    }
    nodes
}

fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_ascii_uppercase(),
        Case::Lower => text.to_ascii_lowercase(),
        Case::Capital => text.to_string(),
    }
}

fn ordinal_suffix(number: i64, case: Case) -> &'static str {
    let number = number.abs();
    let lower = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    match (case, lower) {
        (Case::Lower, _) => lower,
        (_, "st") => "ST",
        (_, "nd") => "ND",
        (_, "rd") => "RD",
        _ => "TH",
    }
}

/// What a pattern is filled from. For intervals the date parts are counts and there is no day number.
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    days: Option<i32>,
    zone: Option<(String, i32)>,
}

fn no_zone() -> Error {
    Error::new(SqlState::INVALID_DATETIME_FORMAT, "invalid format specification for an interval value")
        .hint("Intervals are not tied to specific calendar dates.")
}

fn write(moment: &Moment, pattern: &str) -> Result<String> {
    let mut out = String::new();
    let shown_year = if moment.year <= 0 && moment.days.is_some() { 1 - moment.year } else { moment.year };
    for node in parse_pattern(pattern) {
        let (key, case, fill, ordinal) = match node {
            Node::Text(c) => {
                out.push(c);
                continue;
            }
            Node::Key { key, case, fill, ordinal } => (key, case, fill, ordinal),
        };
        let days = || moment.days.ok_or_else(no_zone);
        let hour12 = match moment.hour % 12 {
            0 => 12,
            hour => hour,
        };
        // Numbers are padded with zeros to their width, names with blanks; FM drops both.
        let number = |value: i64, width: usize| {
            let sign = if value < 0 { "-" } else { "" };
            let width = if fill { width } else { 0 };
            let mut text = format!("{sign}{:0width$}", value.unsigned_abs());
            if let Some(case) = ordinal {
                text.push_str(ordinal_suffix(value, case));
            }
            text
        };
        let name = |text: &str, width: usize| {
            let text = cased(text, case);
            if fill { format!("{text:<width$}") } else { text }
        };
        let last_digits = |year: i64, digits: u8| {
            if digits == 4 {
                return number(year, 4);
            }
            number(year % 10i64.pow(u32::from(digits)), usize::from(digits))
        };
        let text = match key {
            Key::Hour24 => number(moment.hour, 2),
            Key::Hour12 => number(hour12, 2),
            Key::Minute => number(moment.minute, 2),
            Key::Second => number(moment.second, 2),
            Key::Fraction(digits) => {
                let value = moment.micros.abs() / 10i64.pow(6 - u32::from(digits));
                format!("{value:0width$}", width = usize::from(digits))
            }
            Key::SecondOfDay => number(moment.hour * 3600 + moment.minute * 60 + moment.second, 0),
            Key::Meridian { dots } => {
                let text = match (moment.hour % 24 >= 12, dots) {
                    (false, false) => "AM",
                    (true, false) => "PM",
                    (false, true) => "A.M.",
                    (true, true) => "P.M.",
                };
                cased(text, if case == Case::Lower { Case::Lower } else { Case::Upper })
            }
            Key::YearComma => {
                let text = format!("{},{:03}", shown_year / 1000, (shown_year % 1000).abs());
                match ordinal {
                    Some(case) => text + ordinal_suffix(shown_year, case),
                    None => text,
                }
            }
            Key::Year(digits) => last_digits(shown_year, digits),
            Key::IsoYear(digits) => {
                let year = i64::from(iso_week(days()?).0);
                last_digits(if year <= 0 { 1 - year } else { year }, digits)
            }
            Key::Era { dots } => {
                days()?;
                let text = match (moment.year <= 0, dots) {
                    (false, false) => "AD",
                    (true, false) => "BC",
                    (false, true) => "A.D.",
                    (true, true) => "B.C.",
                };
                cased(text, if case == Case::Lower { Case::Lower } else { Case::Upper })
            }
            Key::MonthName | Key::MonthShort | Key::RomanMonth if moment.month == 0 => String::new(),
            Key::MonthName => name(MONTHS[month_index(moment.month)], 9),
            Key::MonthShort => cased(&MONTHS[month_index(moment.month)][..3], case),
            Key::RomanMonth => {
                let case = if case == Case::Lower { Case::Lower } else { Case::Upper };
                let text = cased(ROMAN[month_index(moment.month)], case);
                if fill { format!("{text:<4}") } else { text }
            }
            Key::Month => number(moment.month, 2),
            Key::DayName => name(DAYS[datetime::day_of_week(days()?) as usize], 9),
            Key::DayShort => cased(&DAYS[datetime::day_of_week(days()?) as usize][..3], case),
            Key::DayOfYear => match moment.days {
                Some(days) => number(i64::from(days - days_from_civil(moment.year as i32, 1, 1) + 1), 3),
                None => number(moment.year * 360 + moment.month * 30 + moment.day, 3),
            },
            Key::IsoDayOfYear => {
                let days = days()?;
                number(i64::from(days - iso_week_start(iso_week(days).0, 1) + 1), 3)
            }
            Key::Day => number(moment.day, 2),
            Key::DayOfWeek => number(i64::from(datetime::day_of_week(days()?) + 1), 0),
            Key::IsoDayOfWeek => number(i64::from((datetime::day_of_week(days()?) + 6) % 7 + 1), 0),
            Key::WeekOfMonth => number((moment.day - 1) / 7 + 1, 0),
            Key::Week => {
                let first = days_from_civil(moment.year as i32, 1, 1);
                number(i64::from((days()? - first) / 7 + 1), 2)
            }
            Key::IsoWeek => number(i64::from(iso_week(days()?).1), 2),
            Key::Century => {
                let year = moment.year;
                let century = if moment.days.is_none() {
                    year / 100
                } else if year > 0 {
                    (year - 1) / 100 + 1
                } else {
                    year / 100 - 1
                };
                number(century, if century.abs() <= 99 { 2 } else { 0 })
            }
            Key::Julian => number(i64::from(days()?) + i64::from(datetime::POSTGRES_EPOCH_JULIAN), 0),
            Key::Quarter if moment.month == 0 => String::new(),
            Key::Quarter => number((moment.month - 1) / 3 + 1, 0),
            Key::Zone | Key::ZoneHour | Key::ZoneMinute | Key::Offset => {
                days()?;
                let (zone, offset) = match &moment.zone {
                    Some((name, offset)) => (name.as_str(), *offset),
                    None => ("", 0),
                };
                let size = offset.unsigned_abs();
                let sign = if offset < 0 { '-' } else { '+' };
                match key {
                    Key::Zone => cased(zone, if case == Case::Lower { Case::Lower } else { Case::Upper }),
                    Key::ZoneHour => format!("{sign}{:02}", size / 3600),
                    Key::ZoneMinute => format!("{:02}", size / 60 % 60),
                    _ if size / 60 % 60 != 0 => format!("{sign}{:02}:{:02}", size / 3600, size / 60 % 60),
                    _ => format!("{sign}{:02}", size / 3600),
                }
            }
        };
        out.push_str(&text);
    }
    Ok(out)
}

/// The place of a month's name; intervals may have negative months.
fn month_index(month: i64) -> usize {
    (month - 1).rem_euclid(12) as usize
}

fn moment_of(local: i64, zone: Option<(String, i32)>) -> Moment {
    let fields = timestamp_fields(local);
    Moment {
        year: i64::from(fields.year),
        month: i64::from(fields.month),
        day: i64::from(fields.day),
        hour: i64::from(fields.hour),
        minute: i64::from(fields.minute),
        second: i64::from(fields.second),
        micros: i64::from(fields.micros),
        days: Some(timestamp_to_date(local)),
        zone,
    }
}

/// `to_char(timestamp, pattern)`. For infinities and the empty pattern SQL's answer is NULL: callers ask before, here
/// it is the empty string.
pub fn timestamp_to_char(timestamp: i64, pattern: &str) -> Result<String> {
    if !is_finite_timestamp(timestamp) {
        return Ok(String::new());
    }
    write(&moment_of(timestamp, None), pattern)
}

/// `to_char(timestamptz, pattern)` in the zone's local time; NULLs as [`timestamp_to_char`].
pub fn timestamptz_to_char(timestamptz: i64, pattern: &str, zone: &TimeZone) -> Result<String> {
    if !is_finite_timestamp(timestamptz) {
        return Ok(String::new());
    }
    let shown = (zone_abbreviation(zone, timestamptz), zone_offset(zone, timestamptz));
    write(&moment_of(to_local(timestamptz, zone)?, Some(shown)), pattern)
}

/// `to_char(interval, pattern)`: date parts are counts; 22007 for keywords that need a calendar.
pub fn interval_to_char(interval: Interval, pattern: &str) -> Result<String> {
    let moment = Moment {
        year: i64::from(interval.months / 12),
        month: i64::from(interval.months % 12),
        day: i64::from(interval.days),
        hour: interval.micros / USECS_PER_HOUR,
        minute: interval.micros / USECS_PER_MINUTE % 60,
        second: interval.micros / USECS_PER_SEC % 60,
        micros: interval.micros % USECS_PER_SEC,
        days: None,
        zone: None,
    };
    write(&moment, pattern)
}

/// What reading found; unset parts get their defaults at the end.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    iso_year: Option<i64>,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    afternoon: Option<bool>,
    twelve_hours: bool,
    second_of_day: Option<i64>,
    bc: bool,
    zone_sign: i64,
    zone_hour: Option<i64>,
    zone_minute: i64,
}

fn bad_value(text: &str, keyword: &str) -> Error {
    Error::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{text}\" for \"{keyword}\""))
}

fn keyword_of(key: Key) -> &'static str {
    KEYS.iter().find(|(_, other)| *other == key).map_or("", |(word, _)| word)
}

struct Source<'a>(&'a str);

impl Source<'_> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// Up to `width` digits (any number when another number cannot follow directly), with a sign.
    fn number(&mut self, width: usize, greedy: bool, key: Key) -> Result<i64> {
        self.skip_blanks();
        let signed = usize::from(self.0.starts_with(['-', '+']));
        let digits = self.0[signed..].bytes().take_while(u8::is_ascii_digit).count();
        let taken = if greedy { digits } else { digits.min(width) };
        let text = &self.0[..signed + taken];
        if taken == 0 {
            let shown: String = self.0.chars().take(width).collect();
            return Err(bad_value(&shown, keyword_of(key)).detail("Value must be an integer."));
        }
        // 32 bits leave room for all arithmetic on the parts.
        let value = text.parse::<i32>().map(i64::from).map_err(|_| {
            Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("value for \"{}\" in source string is out of range", keyword_of(key)),
            )
        })?;
        self.0 = &self.0[signed + taken..];
        Ok(value)
    }

    /// The place of the name that the text starts with; at least `least` letters long names may be given in full.
    fn name(&mut self, names: &[&str], length: Option<usize>, key: Key) -> Result<usize> {
        self.skip_blanks();
        let found = names.iter().position(|name| {
            let name = &name[..length.unwrap_or(name.len()).min(name.len())];
            self.0.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name))
        });
        let Some(at) = found else {
            let shown: String = self.0.chars().take_while(|c| !c.is_whitespace()).collect();
            return Err(bad_value(&shown, keyword_of(key))
                .detail("The given value did not match any of the allowed values for this field."));
        };
        self.0 = &self.0[length.unwrap_or(names[at].len()).min(names[at].len())..];
        Ok(at)
    }
}

fn read(text: &str, pattern: &str) -> Result<Read> {
    let nodes = parse_pattern(pattern);
    let mut source = Source(text);
    let mut found = Read { zone_sign: 1, ..Read::default() };
    for (at, node) in nodes.iter().enumerate() {
        let (key, ordinal) = match node {
            Node::Text(c) => {
                // Blanks and separators match any one separator, letters match anything.
                source.0 = if c.is_whitespace() {
                    source.0.trim_start()
                } else if c.is_ascii_punctuation() {
                    let trimmed = source.0.trim_start();
                    match trimmed.chars().next() {
                        Some(next)
                            if next.is_ascii_punctuation() && !matches!(next, '+' | '-' if *c != next) =>
                        {
                            &trimmed[next.len_utf8()..]
                        }
                        _ => trimmed,
                    }
                } else {
                    source.0.get(source.0.chars().next().map_or(0, char::len_utf8)..).unwrap_or("")
                };
                continue;
            }
            Node::Key { key, ordinal, .. } => (*key, *ordinal),
        };
        source.skip_blanks();
        if source.0.is_empty() {
            break;
        }
        // A number takes all digits there are unless the next keyword continues right after it.
        let greedy = !matches!(nodes.get(at + 1), Some(Node::Key { .. }));
        match key {
            Key::Hour24 => found.hour = source.number(2, greedy, key)?,
            Key::Hour12 => {
                found.hour = source.number(2, greedy, key)?;
                found.twelve_hours = true;
                if !(1..=12).contains(&found.hour) {
                    return Err(Error::new(
                        SqlState::INVALID_DATETIME_FORMAT,
                        format!("hour \"{}\" is invalid for the 12-hour clock", found.hour),
                    )
                    .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
                }
            }
            Key::Minute => found.minute = source.number(2, greedy, key)?,
            Key::Second => found.second = source.number(2, greedy, key)?,
            Key::SecondOfDay => found.second_of_day = Some(source.number(5, greedy, key)?),
            Key::Fraction(digits) => {
                let before = source.0;
                let value = source.number(usize::from(digits), greedy, key)?;
                let length = (before.len() - source.0.len()).min(6) as u32;
                let value = value / 10i64.pow(((before.len() - source.0.len()) as u32 - length).min(18));
                found.micros = value * 10i64.pow(6 - length);
            }
            Key::Meridian { dots } => {
                let names: &[&str] = if dots { &["A.M.", "P.M."] } else { &["AM", "PM"] };
                found.afternoon = Some(source.name(names, None, key)? == 1);
            }
            Key::Era { dots } => {
                let names: &[&str] = if dots { &["A.D.", "B.C."] } else { &["AD", "BC"] };
                found.bc = source.name(names, None, key)? == 1;
            }
            Key::YearComma => {
                let thousands = source.number(9, true, key)?;
                source.0 = source.0.strip_prefix(',').unwrap_or(source.0);
                found.year = Some(thousands * 1000 + source.number(3, false, key)?);
            }
            Key::Year(digits) | Key::IsoYear(digits) => {
                let before = source.0.len();
                let value = source.number(usize::from(digits), greedy, key)?;
                let length = before - source.0.len();
                // Short years lie nearest to 2020.
                let year = match (digits, length) {
                    (4, _) => value,
                    _ if value >= 1000 => value,
                    _ if value < 70 => value + 2000,
                    _ if value < 100 => value + 1900,
                    _ if value < 520 => value + 2000,
                    _ => value + 1000,
                };
                if matches!(key, Key::Year(_)) {
                    found.year = Some(year);
                } else {
                    found.iso_year = Some(year);
                }
            }
            Key::MonthName => found.month = Some(source.name(&MONTHS, None, key)? as i64 + 1),
            Key::MonthShort => found.month = Some(source.name(&MONTHS, Some(3), key)? as i64 + 1),
            Key::RomanMonth => {
                // Longest first: VIII before VII before V.
                let at = (0..12)
                    .filter(|at| {
                        source
                            .0
                            .get(..ROMAN[*at].len())
                            .is_some_and(|head| head.eq_ignore_ascii_case(ROMAN[*at]))
                    })
                    .max_by_key(|at| ROMAN[*at].len());
                let Some(at) = at else { return Err(bad_value(source.0, "RM")) };
                source.0 = &source.0[ROMAN[at].len()..];
                found.month = Some(at as i64 + 1);
            }
            Key::Month => found.month = Some(source.number(2, greedy, key)?),
            Key::DayName => {
                source.name(&DAYS, None, key)?;
            }
            Key::DayShort => {
                source.name(&DAYS, Some(3), key)?;
            }
            Key::Day => found.day = Some(source.number(2, greedy, key)?),
            Key::DayOfYear => found.day_of_year = Some(source.number(3, greedy, key)?),
            Key::DayOfWeek => {
                source.number(1, greedy, key)?;
            }
            Key::IsoDayOfWeek => found.iso_day = Some(source.number(1, greedy, key)?),
            Key::Week => found.week = Some(source.number(2, greedy, key)?),
            Key::IsoWeek => found.iso_week = Some(source.number(2, greedy, key)?),
            Key::Century => found.century = Some(source.number(2, greedy, key)?),
            Key::Julian => found.julian = Some(source.number(9, true, key)?),
            Key::WeekOfMonth | Key::Quarter | Key::IsoDayOfYear => {
                source.number(3, greedy, key)?;
            }
            Key::ZoneHour => {
                found.zone_sign = if source.0.starts_with('-') { -1 } else { 1 };
                found.zone_hour = Some(source.number(2, false, key)?.abs());
            }
            Key::ZoneMinute => found.zone_minute = source.number(2, greedy, key)?,
            Key::Zone | Key::Offset => {
                return Err(Error::unsupported(
                    format!("formatting field \"{}\" in to_date and to_timestamp", keyword_of(key)),
                    "Use TZH and TZM, or cast the text to timestamp with time zone.",
                ));
            }
        }
        if ordinal.is_some() {
            source.0 = source.0.get(2..).unwrap_or("");
        }
    }
    Ok(found)
}

impl Read {
    fn days(&self, text: &str) -> Result<i32> {
        let out_of_range = || {
            Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            )
        };
        let small = |value: i64| i32::try_from(value).map_err(|_| out_of_range());
        if let Some(julian) = self.julian {
            return small(julian - i64::from(datetime::POSTGRES_EPOCH_JULIAN));
        }
        if let (Some(year), Some(week)) = (self.iso_year, self.iso_week) {
            if !(1..=53).contains(&week) || !(-4713..=294_276).contains(&year) {
                return Err(out_of_range());
            }
            let day = self.iso_day.unwrap_or(1);
            if !(1..=7).contains(&day) {
                return Err(out_of_range());
            }
            return Ok(iso_week_start(year as i32, week as i32) + day as i32 - 1);
        }
        let mut year = match (self.year.or(self.iso_year), self.century) {
            (Some(year), Some(century)) if year < 100 => (century - 1) * 100 + year,
            (Some(year), _) => year,
            (None, Some(century)) => (century - 1) * 100 + 1,
            // PostgreSQL's default date is the first of year 1 BC.
            (None, None) => 0,
        };
        if self.bc && year > 0 {
            year = 1 - year;
        } else if year < 0 {
            year += 1;
        }
        let year = small(year)?;
        if let Some(day) = self.day_of_year {
            if !(1..=366).contains(&day) {
                return Err(out_of_range());
            }
            return datetime::checked_date(year, 1, 1)
                .map(|first| first + day as i32 - 1)
                .ok_or_else(out_of_range);
        }
        if let (Some(week), None) = (self.week, self.month) {
            if !(1..=53).contains(&week) {
                return Err(out_of_range());
            }
            let first = datetime::checked_date(year, 1, 1).ok_or_else(out_of_range)?;
            return Ok(first + small((week - 1) * 7)?);
        }
        datetime::checked_date(year, small(self.month.unwrap_or(1))?, small(self.day.unwrap_or(1))?)
            .ok_or_else(out_of_range)
    }

    fn time(&self, text: &str) -> Result<i64> {
        let mut hour = self.hour;
        if self.twelve_hours || self.afternoon.is_some() {
            match self.afternoon {
                Some(true) if hour < 12 => hour += 12,
                Some(false) if hour == 12 => hour = 0,
                _ => {}
            }
        }
        let (minute, second) = (self.minute, self.second);
        if let Some(seconds) = self.second_of_day {
            return Ok(seconds.clamp(0, 86_400) * USECS_PER_SEC + self.micros);
        }
        let time = hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE + second * USECS_PER_SEC + self.micros;
        let valid = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        if !valid || time > USECS_PER_DAY {
            return Err(Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{text}\""),
            ));
        }
        Ok(time)
    }
}

/// `to_date(text, pattern)`: days. 22007 for values that do not fit the pattern, 22008 out of range.
pub fn to_date(text: &str, pattern: &str) -> Result<i32> {
    datetime::date_plus_days(read(text, pattern)?.days(text)?, 0)
}

/// `to_timestamp(text, pattern)`: a timestamptz; without TZH in the pattern the text is in `zone`.
pub fn to_timestamp(text: &str, pattern: &str, zone: &TimeZone) -> Result<i64> {
    let found = read(text, pattern)?;
    let local = timestamp_from_parts(found.days(text)?, found.time(text)?)?;
    match found.zone_hour {
        Some(hour) => {
            Ok(local - found.zone_sign * (hour * USECS_PER_HOUR + found.zone_minute * USECS_PER_MINUTE))
        }
        None => datetime::from_local(local, zone),
    }
}
