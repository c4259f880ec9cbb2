//! Dates, times and timestamps as people write them.
//!
//! The text is cut into tokens (a date with separators, a clock time, a number, a word, a zone offset), and each token
//! fills the fields it can mean. What a bare number means depends on what is known already: that is the whole trick, and
//! why the fields are kept as "not seen yet".

use super::{DateOrder, Style, is_blank};
use crate::datetime::{
    self, DATE_INFINITY, DATE_NEG_INFINITY, POSTGRES_EPOCH_JULIAN, TIMESTAMP_INFINITY,
    TIMESTAMP_NEG_INFINITY, TimeZone, UNIX_TO_POSTGRES_DAYS, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE,
    USECS_PER_SEC,
};
use crate::{Error, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    /// Digits only, or digits with a fraction.
    Number(&'a str),
    /// Parts joined by `-`, `/` or `.`; months may be words.
    Date(&'a str),
    /// Parts joined by `:`.
    Clock(&'a str),
    Word(&'a str),
    /// A signed number: a zone offset.
    Offset(&'a str),
    /// `-infinity`.
    SignedWord(&'a str),
}

#[derive(Debug)]
enum Failure {
    Syntax,
    /// 22008
    Field,
    /// 22008: a real date, but out of the type's range.
    Range,
    /// 22008 with the hint about DateStyle.
    MonthOrDay,
    /// 22009
    Displacement,
    Zone(Error),
}

type Parsed<T> = std::result::Result<T, Failure>;

fn tokens(text: &str) -> Parsed<Vec<Token<'_>>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let alpha = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        if is_blank(char::from(byte)) || byte == b',' {
            at += 1;
        } else if byte.is_ascii_digit() {
            while digit(at) {
                at += 1;
            }
            match bytes.get(at) {
                Some(b':') => {
                    while digit(at) || matches!(bytes.get(at), Some(b':' | b'.')) {
                        at += 1;
                    }
                    found.push(Token::Clock(&text[start..at]));
                }
                Some(separator @ (b'-' | b'/' | b'.'))
                    if digit(at + 1) || (*separator != b'.' && alpha(at + 1)) =>
                {
                    let separator = *separator;
                    while digit(at) || alpha(at) || bytes.get(at) == Some(&separator) {
                        // The T of ISO 8601 ends the date.
                        if alpha(at) && digit(at - 1) {
                            break;
                        }
                        at += 1;
                    }
                    let token = &text[start..at];
                    let parts = token.matches(char::from(separator)).count();
                    if separator == b'.' && parts == 1 {
                        found.push(Token::Number(token));
                    } else {
                        found.push(Token::Date(token));
                    }
                }
                _ => found.push(Token::Number(&text[start..at])),
            }
        } else if byte == b'.' && digit(at + 1) {
            at += 1;
            while digit(at) {
                at += 1;
            }
            found.push(Token::Number(&text[start..at]));
        } else if byte.is_ascii_alphabetic() {
            while alpha(at) {
                at += 1;
            }
            match bytes.get(at) {
                // Month first: Jan-05-2020, Jan/5/2020.
                Some(separator @ (b'-' | b'/')) if digit(at + 1) && month(&text[start..at]).is_some() => {
                    let separator = *separator;
                    while digit(at) || bytes.get(at) == Some(&separator) {
                        at += 1;
                    }
                    found.push(Token::Date(&text[start..at]));
                }
                // Zone names: America/New_York, Etc/GMT+5, EST5EDT.
                Some(b'/' | b'_') => {
                    while bytes
                        .get(at)
                        .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'))
                    {
                        at += 1;
                    }
                    found.push(Token::Word(&text[start..at]));
                }
                Some(b'0'..=b'9') if at - start >= 3 && month(&text[start..at]).is_none() => {
                    while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                        at += 1;
                    }
                    found.push(Token::Word(&text[start..at]));
                }
                _ => found.push(Token::Word(&text[start..at])),
            }
        } else if byte == b'+' || byte == b'-' {
            at += 1;
            while bytes.get(at).is_some_and(|b| is_blank(char::from(*b))) {
                at += 1;
            }
            if digit(at) {
                while digit(at) || matches!(bytes.get(at), Some(b':' | b'.')) {
                    at += 1;
                }
                found.push(Token::Offset(&text[start..at]));
            } else if alpha(at) {
                while alpha(at) {
                    at += 1;
                }
                found.push(Token::SignedWord(&text[start..at]));
            } else {
                return Err(Failure::Syntax);
            }
        } else if byte.is_ascii_punctuation() {
            // Stray separators (a dot after a month) are skipped, as PostgreSQL does.
            at += 1;
        } else {
            return Err(Failure::Syntax);
        }
    }
    Ok(found)
}

fn month(word: &str) -> Option<i32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let lower = word.to_ascii_lowercase();
    if lower == "sept" {
        return Some(9);
    }
    let at =
        NAMES.iter().position(|name| lower == *name || (lower.len() == 3 && name.starts_with(&lower)))?;
    Some(at as i32 + 1)
}

fn is_weekday(word: &str) -> bool {
    matches!(
        word,
        "sun"
            | "sunday"
            | "mon"
            | "monday"
            | "tue"
            | "tues"
            | "tuesday"
            | "wed"
            | "weds"
            | "wednesday"
            | "thu"
            | "thur"
            | "thurs"
            | "thursday"
            | "fri"
            | "friday"
            | "sat"
            | "saturday"
    )
}

#[derive(Clone, Debug)]
enum Zone {
    Offset(i32),
    Named(TimeZone),
}

/// What was found. Infinities stand for themselves, everything else is fields.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i32>,
    /// Whether the year was written with one or two digits and means the window 1970-2069.
    short_year: bool,
    month: Option<i32>,
    day: Option<i32>,
    day_of_year: Option<i32>,
    /// A day given as a whole: julian days, today and so on.
    days: Option<i32>,
    /// Microseconds since midnight.
    time: Option<i64>,
    afternoon: Option<bool>,
    bc: bool,
    zone: Option<Zone>,
    infinity: Option<bool>,
    /// A moment that needs no zone: now, epoch.
    moment: Option<i64>,
}

fn int(text: &str) -> Parsed<i32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::Syntax);
    }
    text.parse().map_err(|_| Failure::Field)
}

/// Microseconds of a fraction `.xxxxxxx`, rounded to even like PostgreSQL's rint.
fn fraction(digits: &str) -> Parsed<i64> {
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::Syntax);
    }
    let value: f64 = format!("0.{digits}").parse().map_err(|_| Failure::Syntax)?;
    Ok((value * 1e6).round_ties_even() as i64)
}

fn clock_micros(hour: i32, minute: i32, second: i32, micros: i64) -> Parsed<i64> {
    let time = i64::from(hour) * USECS_PER_HOUR
        + i64::from(minute) * USECS_PER_MINUTE
        + i64::from(second) * USECS_PER_SEC
        + micros;
    // 24:00:00 and a leap second are allowed, nothing past them.
    if hour > 24 || minute > 59 || second > 60 || time > USECS_PER_DAY {
        return Err(Failure::Field);
    }
    Ok(time)
}

fn clock(text: &str) -> Parsed<i64> {
    let (whole, fractional) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<&str> = whole.split(':').collect();
    match parts.as_slice() {
        [hour, minute] if fractional.is_empty() => clock_micros(int(hour)?, int(minute)?, 0, 0),
        // mm:ss.f
        [minute, second] => clock_micros(0, int(minute)?, int(second)?, fraction(fractional)?),
        [hour, minute, second] => {
            let second = if second.is_empty() { 0 } else { int(second)? };
            clock_micros(int(hour)?, int(minute)?, second, fraction(fractional)?)
        }
        _ => Err(Failure::Syntax),
    }
}

/// `+1`, `-03:30`, `+0530`, `+01:02:03`: seconds east.
fn offset(text: &str) -> Parsed<i32> {
    let negative = text.starts_with('-');
    let body = text[1..].trim_start_matches(is_blank);
    let (hours, minutes, seconds) = if body.contains(':') {
        let parts: Vec<&str> = body.split(':').collect();
        match parts.as_slice() {
            [hours, minutes] => (int(hours)?, int(minutes)?, 0),
            [hours, minutes, seconds] => (int(hours)?, int(minutes)?, int(seconds)?),
            _ => return Err(Failure::Syntax),
        }
    } else {
        let value = int(body)?;
        if body.len() > 2 { (value / 100, value % 100, 0) } else { (value, 0, 0) }
    };
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(Failure::Displacement);
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    Ok(if negative { -total } else { total })
}

impl Fields {
    fn set_year(&mut self, text: &str) -> Parsed<()> {
        if self.year.is_some() {
            return Err(Failure::Syntax);
        }
        self.year = Some(int(text)?);
        self.short_year = text.len() <= 2;
        Ok(())
    }

    fn set(slot: &mut Option<i32>, value: i32) -> Parsed<()> {
        if slot.is_some() {
            return Err(Failure::Syntax);
        }
        *slot = Some(value);
        Ok(())
    }

    /// Three numbers (or two and a month's name) joined by separators.
    fn date(&mut self, text: &str, order: DateOrder) -> Parsed<()> {
        let separator = text.find(['-', '/', '.']).ok_or(Failure::Syntax)?;
        let separator = text.as_bytes()[separator];
        let parts: Vec<&str> = text.split(char::from(separator)).collect();
        let is_word = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic());
        if let Some(at) = parts.iter().position(|part| is_word(part)) {
            Self::set(&mut self.month, month(parts[at]).ok_or(Failure::Syntax)?)?;
            let numbers: Vec<&str> =
                parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, part)| *part).collect();
            return match numbers.as_slice() {
                [first, second] => {
                    // 2020-Jan-05, or 99-Jan-05 where years come first.
                    let year_first = first.len() >= 3 || (order == DateOrder::Ymd && at == 1);
                    let (year, day) = if year_first { (first, second) } else { (second, first) };
                    self.set_year(year)?;
                    Self::set(&mut self.day, int(day)?)
                }
                [single] => self.number(single, order),
                _ => Err(Failure::Syntax),
            };
        }
        match parts.as_slice() {
            [year, day] if year.len() >= 3 && day.len() == 3 => {
                self.set_year(year)?;
                Self::set(&mut self.day_of_year, int(day)?)
            }
            [first, second, third] => {
                let (year, month, day) = if first.len() >= 3 {
                    (first, second, third)
                } else {
                    match order {
                        DateOrder::Ymd if third.len() >= 3 => (third, first, second),
                        DateOrder::Ymd => (first, second, third),
                        DateOrder::Dmy => (third, second, first),
                        DateOrder::Mdy => (third, first, second),
                    }
                };
                self.set_year(year)?;
                Self::set(&mut self.month, int(month)?)?;
                Self::set(&mut self.day, int(day)?)
            }
            _ => Err(Failure::Syntax),
        }
    }

    fn has_date(&self) -> bool {
        self.days.is_some() || (self.year.is_some() && (self.day_of_year.is_some() || self.day.is_some()))
    }

    /// A number on its own, by what is missing.
    fn number(&mut self, text: &str, order: DateOrder) -> Parsed<()> {
        let (whole, fractional) = text.split_once('.').unwrap_or((text, ""));
        let pair = |at: usize| int(&whole[at..at + 2]);
        let has_fraction = text.contains('.');
        if whole.is_empty() {
            return Err(Failure::Syntax);
        }
        if self.has_date() && self.time.is_none() {
            // 040506, 0405, or an hour before am/pm.
            return match whole.len() {
                6 => {
                    self.time = Some(clock_micros(pair(0)?, pair(2)?, pair(4)?, fraction(fractional)?)?);
                    Ok(())
                }
                4 if !has_fraction => {
                    self.time = Some(clock_micros(pair(0)?, pair(2)?, 0, 0)?);
                    Ok(())
                }
                _ => Err(Failure::Syntax),
            };
        }
        let nothing = self.year.is_none() && self.month.is_none() && self.day.is_none();
        if nothing && !has_fraction && whole.len() == 8 {
            self.set_year(&whole[..4])?;
            self.month = Some(pair(4)?);
            self.day = Some(pair(6)?);
            return Ok(());
        }
        if nothing && !has_fraction && whole.len() == 6 {
            self.set_year(&whole[..2])?;
            self.month = Some(pair(2)?);
            self.day = Some(pair(4)?);
            return Ok(());
        }
        if nothing && !has_fraction && whole.len() == 7 {
            self.set_year(&whole[..4])?;
            self.day_of_year = Some(int(&whole[4..])?);
            return Ok(());
        }
        if has_fraction {
            // 1999.008: year and day of the year.
            if nothing && whole.len() >= 3 && fractional.len() == 3 {
                self.set_year(whole)?;
                self.day_of_year = Some(int(fractional)?);
                return Ok(());
            }
            return Err(Failure::Syntax);
        }
        if whole.len() >= 3 && self.year.is_none() {
            return self.set_year(whole);
        }
        if self.month.is_some() {
            return if self.day.is_none() {
                Self::set(&mut self.day, int(whole)?)
            } else {
                self.set_year(whole)
            };
        }
        match order {
            DateOrder::Ymd if self.year.is_none() => self.set_year(whole),
            DateOrder::Mdy => Self::set(&mut self.month, int(whole)?),
            // A day before its month's name.
            _ if self.day.is_none() => Self::set(&mut self.day, int(whole)?),
            _ => Self::set(&mut self.month, int(whole)?),
        }
    }

    fn word(&mut self, original: &str, style: &Style, local_now: &dyn Fn() -> i64) -> Parsed<()> {
        let word = original.to_ascii_lowercase();
        let today = || datetime::timestamp_to_date(local_now());
        match word.as_str() {
            "now" => self.moment = Some(style.now.unwrap_or_else(datetime::now)),
            "today" => self.days = Some(today()),
            "tomorrow" => self.days = Some(today() + 1),
            "yesterday" => self.days = Some(today() - 1),
            "epoch" => self.moment = Some(-i64::from(UNIX_TO_POSTGRES_DAYS) * USECS_PER_DAY),
            "infinity" | "+infinity" => self.infinity = Some(true),
            "allballs" => {
                self.time = Some(0);
                self.zone = Some(Zone::Offset(0));
            }
            "am" => self.afternoon = Some(false),
            "pm" => self.afternoon = Some(true),
            "bc" => self.bc = true,
            "ad" | "at" | "on" | "t" => {}
            _ if is_weekday(&word) => {}
            _ => {
                if let Some(month) = month(&word) {
                    // A number before the name was taken for the month: it is the day.
                    if let (Some(number), None) = (self.month, self.day) {
                        self.day = Some(number);
                        self.month = None;
                    }
                    return Self::set(&mut self.month, month);
                }
                if let Some(offset) = datetime::abbreviation_offset(&word) {
                    self.zone = Some(Zone::Offset(offset));
                    return Ok(());
                }
                match datetime::parse_zone(&word) {
                    Ok(zone) => self.zone = Some(Zone::Named(zone)),
                    // A path can only be a zone; a plain word may be anything.
                    Err(error) if original.contains('/') => return Err(Failure::Zone(error)),
                    Err(_) => return Err(Failure::Syntax),
                }
            }
        }
        Ok(())
    }

    fn read(text: &str, style: &Style) -> Parsed<Fields> {
        let tokens = tokens(text)?;
        if tokens.is_empty() {
            return Err(Failure::Syntax);
        }
        let local_now = || {
            let now = style.now.unwrap_or_else(datetime::now);
            datetime::to_local(now, &style.time_zone).unwrap_or(now)
        };
        let order = style.date_style.order;
        let mut fields = Fields::default();
        let mut at = 0;
        while at < tokens.len() {
            let token = tokens[at];
            at += 1;
            match token {
                Token::Date(text) => fields.date(text, order)?,
                Token::Clock(text) => {
                    if fields.time.is_some() {
                        return Err(Failure::Syntax);
                    }
                    fields.time = Some(clock(text)?);
                }
                Token::Number(text) => fields.number(text, order)?,
                Token::Word(word) => match (word.to_ascii_lowercase().as_str(), tokens.get(at)) {
                    ("j" | "jd" | "julian", Some(Token::Number(number))) => {
                        at += 1;
                        let (whole, fractional) = number.split_once('.').unwrap_or((number, ""));
                        fields.days =
                            Some(int(whole)?.checked_sub(POSTGRES_EPOCH_JULIAN).ok_or(Failure::Field)?);
                        if !fractional.is_empty() {
                            let part: f64 = format!("0.{fractional}").parse().map_err(|_| Failure::Syntax)?;
                            fields.time = Some((part * USECS_PER_DAY as f64) as i64);
                        }
                    }
                    ("t", Some(Token::Number(number))) if fields.time.is_none() => {
                        at += 1;
                        let (whole, fractional) = number.split_once('.').unwrap_or((number, ""));
                        let pair = |at: usize| int(whole.get(at..at + 2).unwrap_or(""));
                        fields.time = Some(match whole.len() {
                            6 => clock_micros(pair(0)?, pair(2)?, pair(4)?, fraction(fractional)?)?,
                            4 => clock_micros(pair(0)?, pair(2)?, 0, 0)?,
                            2 => clock_micros(pair(0)?, 0, 0, 0)?,
                            _ => return Err(Failure::Syntax),
                        });
                    }
                    // `UTC+3` and the like are zones with POSIX's sign.
                    (_, Some(Token::Offset(shift)))
                        if datetime::abbreviation_offset(word).is_some() && fields.zone.is_none() =>
                    {
                        at += 1;
                        let base = datetime::abbreviation_offset(word).unwrap_or(0);
                        fields.zone = Some(Zone::Offset(base - offset(shift)?));
                    }
                    _ => fields.word(word, style, &local_now)?,
                },
                Token::Offset(text) => {
                    if fields.zone.is_some() {
                        return Err(Failure::Syntax);
                    }
                    fields.zone = Some(Zone::Offset(offset(text)?));
                }
                Token::SignedWord(word) => {
                    if word[1..].trim_start_matches(is_blank).eq_ignore_ascii_case("infinity") {
                        fields.infinity = Some(word.starts_with('+'));
                    } else {
                        return Err(Failure::Syntax);
                    }
                }
            }
        }
        if let (Some(afternoon), Some(time)) = (fields.afternoon, fields.time) {
            let hour = time / USECS_PER_HOUR;
            if hour > 12 {
                return Err(Failure::Field);
            }
            fields.time = Some(match (afternoon, hour == 12) {
                (true, false) => time + 12 * USECS_PER_HOUR,
                (false, true) => time - 12 * USECS_PER_HOUR,
                _ => time,
            });
        }
        Ok(fields)
    }

    /// The day number; `None` when no date was given.
    fn day_number(&self) -> Parsed<Option<i32>> {
        if self.days.is_some() {
            return Ok(self.days);
        }
        if self.year.is_none() && self.month.is_none() && self.day.is_none() {
            return Ok(None);
        }
        let Some(mut year) = self.year else { return Err(Failure::Syntax) };
        if self.bc {
            if year == 0 {
                return Err(Failure::Field);
            }
            year = 1 - year;
        } else if self.short_year {
            year += if year < 70 { 2000 } else { 1900 };
        } else if year == 0 {
            return Err(Failure::Field);
        }
        if let Some(day) = self.day_of_year {
            if day < 1 || day > 365 + i32::from(datetime::is_leap_year(year)) {
                return Err(Failure::Field);
            }
            return match datetime::checked_date(year, 1, 1) {
                Some(first) => Ok(Some(first + day - 1)),
                None => Err(Failure::Field),
            };
        }
        let (Some(month), Some(day)) = (self.month, self.day) else { return Err(Failure::Syntax) };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Failure::MonthOrDay);
        }
        if day as u32 > datetime::days_in_month(year, month as u32) {
            return Err(Failure::Field);
        }
        datetime::checked_date(year, month, day).map(Some).ok_or(Failure::Range)
    }
}

fn report(failure: Failure, text: &str, type_name: &str) -> Error {
    let field = || {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        )
    };
    match failure {
        Failure::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        ),
        Failure::Field => field(),
        Failure::Range => {
            let kind = if type_name == "date" { "date" } else { "timestamp" };
            Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{kind} out of range: \"{text}\""))
        }
        Failure::MonthOrDay => field().hint("Perhaps you need a different \"datestyle\" setting."),
        Failure::Displacement => Error::new(
            SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
            format!("time zone displacement out of range: \"{text}\""),
        ),
        Failure::Zone(error) => error,
    }
}

/// Days since 2000-01-01. A time or zone in the text is checked and dropped.
pub(super) fn date(text: &str, style: &Style) -> Result<i32> {
    let fail = |failure| report(failure, text, "date");
    let fields = Fields::read(text, style).map_err(fail)?;
    match (fields.infinity, fields.moment) {
        (Some(positive), _) => Ok(if positive { DATE_INFINITY } else { DATE_NEG_INFINITY }),
        (None, Some(moment)) => {
            // The epoch is a UTC date, now is a local one.
            let zone = if fields_are_epoch(text) { &TimeZone::UTC } else { &style.time_zone };
            Ok(datetime::timestamp_to_date(datetime::to_local(moment, zone)?))
        }
        (None, None) => match fields.day_number().map_err(fail)? {
            Some(days) if (datetime::DATE_MIN..datetime::DATE_END).contains(&days) => Ok(days),
            Some(_) => {
                Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: \"{text}\"")))
            }
            None => Err(fail(Failure::Syntax)),
        },
    }
}

fn fields_are_epoch(text: &str) -> bool {
    text.trim_matches(is_blank).eq_ignore_ascii_case("epoch")
}

/// Microseconds since midnight.
pub(super) fn time(text: &str, style: &Style) -> Result<i64> {
    let fail = |failure| report(failure, text, "time");
    // Without a date, four and six digits are a clock time.
    let trimmed = text.trim_matches(is_blank);
    let digits = trimmed.split('.').next().unwrap_or("");
    let bare = matches!(digits.len(), 4 | 6)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && trimmed[digits.len()..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let prefixed;
    let shown = if bare {
        prefixed = format!("T{trimmed}");
        prefixed.as_str()
    } else {
        text
    };
    let fields = Fields::read(shown, style).map_err(fail)?;
    if let Some(moment) = fields.moment
        && !fields_are_epoch(text)
    {
        return Ok(datetime::timestamp_to_time(datetime::to_local(moment, &style.time_zone)?));
    }
    // A date beside it is allowed, but must be one.
    fields.day_number().map_err(fail)?;
    fields.time.ok_or_else(|| fail(Failure::Syntax))
}

/// Day and time of the fields, as a local timestamp.
fn local(fields: &Fields, text: &str, type_name: &str) -> Result<i64> {
    let fail = |failure| report(failure, text, type_name);
    let Some(days) = fields.day_number().map_err(fail)? else { return Err(fail(Failure::Syntax)) };
    datetime::timestamp_from_parts(days, fields.time.unwrap_or(0)).map_err(|_| {
        Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{text}\""))
    })
}

/// Local microseconds; a zone in the text is dropped.
pub(super) fn timestamp(text: &str, style: &Style) -> Result<i64> {
    const NAME: &str = "timestamp";
    let fields = Fields::read(text, style).map_err(|failure| report(failure, text, NAME))?;
    match (fields.infinity, fields.moment) {
        (Some(positive), _) => Ok(if positive { TIMESTAMP_INFINITY } else { TIMESTAMP_NEG_INFINITY }),
        (None, Some(moment)) if fields_are_epoch(text) => Ok(moment),
        (None, Some(moment)) => datetime::to_local(moment, &style.time_zone),
        (None, None) => local(&fields, text, NAME),
    }
}

/// UTC microseconds; without a zone in the text the session's counts.
pub(super) fn timestamptz(text: &str, style: &Style) -> Result<i64> {
    const NAME: &str = "timestamp with time zone";
    let fields = Fields::read(text, style).map_err(|failure| report(failure, text, NAME))?;
    match (fields.infinity, fields.moment) {
        (Some(positive), _) => Ok(if positive { TIMESTAMP_INFINITY } else { TIMESTAMP_NEG_INFINITY }),
        (None, Some(moment)) => Ok(moment),
        (None, None) => {
            let local = local(&fields, text, NAME)?;
            let result = match &fields.zone {
                Some(Zone::Offset(seconds)) => Ok(local - i64::from(*seconds) * USECS_PER_SEC),
                Some(Zone::Named(zone)) => datetime::from_local(local, zone),
                None => datetime::from_local(local, &style.time_zone),
            };
            result.map_err(|_| {
                Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("timestamp out of range: \"{text}\""))
            })
        }
    }
}
