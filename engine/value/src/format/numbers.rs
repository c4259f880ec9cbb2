//! Number patterns: `FM999,990.00`, `S9G999D99`, `9.99EEEE`, `RN` ...
//!
//! The value is rounded to the digits behind the point first; then the pattern is walked from left to right with the digits
//! right-aligned under its places. The sign floats: it is written directly before the first place that shows anything.

use crate::{Error, Numeric, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nine,
    Zero,
    Point,
    Group,
    Sign,
    Minus,
    Plus,
    PlusMinus,
    Ordinal { upper: bool },
    Text(char),
}

#[derive(Debug, Default)]
struct Pattern {
    parts: Vec<Part>,
    fill: bool,
    /// Places before and after the point.
    before: usize,
    after: usize,
    /// The first place before the point (from 0) that is a zero.
    zero_from: Option<usize>,
    /// The last place after the point (1-based) that must be shown under FM.
    zero_to: usize,
    /// Digits after V: the value is multiplied by ten as often.
    shift: usize,
    exponent: bool,
    roman: Option<bool>,
    brackets: bool,
    has_point: bool,
    has_sign: bool,
}

fn syntax(message: &str) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, message)
}

fn parse_pattern(pattern: &str) -> Result<Pattern> {
    let mut parsed = Pattern { fill: true, ..Pattern::default() };
    let mut rest = pattern;
    let mut after_v = false;
    while let Some(first) = rest.chars().next() {
        let starts = |word: &str| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        let mut length = 1;
        let part = match first.to_ascii_uppercase() {
            '"' => {
                let mut chars = rest[1..].chars();
                loop {
                    match chars.next() {
                        None | Some('"') => break,
                        Some('\\') => parsed.parts.extend(chars.next().map(Part::Text)),
                        Some(c) => parsed.parts.push(Part::Text(c)),
                    }
                }
                rest = chars.as_str();
                continue;
            }
            digit @ ('9' | '0') => {
                if parsed.has_point {
                    parsed.after += 1;
                    if digit == '0' {
                        parsed.zero_to = parsed.after;
                    }
                } else {
                    if digit == '0' && parsed.zero_from.is_none() {
                        parsed.zero_from = Some(parsed.before);
                    }
                    parsed.before += 1;
                    parsed.shift += usize::from(after_v);
                }
                Some(if digit == '9' { Part::Nine } else { Part::Zero })
            }
            '.' | 'D' => {
                if parsed.has_point {
                    return Err(syntax("multiple decimal points"));
                }
                if after_v {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                parsed.has_point = true;
                Some(Part::Point)
            }
            ',' | 'G' => Some(Part::Group),
            'V' => {
                if parsed.has_point {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                after_v = true;
                None
            }
            _ if starts("SG") => {
                (parsed.has_sign, length) = (true, 2);
                Some(Part::PlusMinus)
            }
            'S' => {
                if parsed.has_sign {
                    return Err(syntax("cannot use \"S\" twice"));
                }
                parsed.has_sign = true;
                Some(Part::Sign)
            }
            _ if starts("MI") => {
                (parsed.has_sign, length) = (true, 2);
                Some(Part::Minus)
            }
            _ if starts("PL") => {
                (parsed.has_sign, length) = (true, 2);
                Some(Part::Plus)
            }
            _ if starts("PR") => {
                (parsed.brackets, parsed.has_sign, length) = (true, true, 2);
                None
            }
            _ if starts("FM") => {
                (parsed.fill, length) = (false, 2);
                None
            }
            _ if starts("TH") => {
                length = 2;
                Some(Part::Ordinal { upper: rest.starts_with('T') })
            }
            _ if starts("EEEE") => {
                (parsed.exponent, length) = (true, 4);
                None
            }
            _ if starts("RN") => {
                (parsed.roman, length) = (Some(rest.starts_with('R')), 2);
                None
            }
            // The currency symbol of the C locale is a blank.
            'L' => Some(Part::Text(' ')),
            'B' => None,
            '\\' if rest[1..].starts_with('"') => {
                length = 2;
                Some(Part::Text('"'))
            }
            _ => {
                length = first.len_utf8();
                Some(Part::Text(first))
            }
        };
        parsed.parts.extend(part);
        rest = &rest[length..];
    }
    Ok(parsed)
}

fn roman(value: &Numeric, upper: bool, fill: bool) -> String {
    const STEPS: [(i32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut left = match value.to_i32() {
        Ok(number) if (1..=3999).contains(&number) => number,
        _ => return "#".repeat(15),
    };
    let mut text = String::new();
    for (step, letters) in STEPS {
        while left >= step {
            text.push_str(letters);
            left -= step;
        }
    }
    if !upper {
        text.make_ascii_lowercase();
    }
    if fill { format!("{text:>15}") } else { text }
}

/// `to_char(number, pattern)` for integers and numerics; 42601 for impossible patterns.
pub fn numeric_to_char(value: &Numeric, pattern: &str) -> Result<String> {
    let pattern = parse_pattern(pattern)?;
    if let Some(upper) = pattern.roman {
        return Ok(roman(value, upper, pattern.fill));
    }
    if pattern.exponent {
        return Ok(scientific(value, &pattern));
    }
    let shifted = if pattern.shift > 0 {
        value.mul(&Numeric::from_i128(10i128.pow(pattern.shift.min(38) as u32), 0))?
    } else {
        value.clone()
    };
    Ok(plain(&shifted.round(pattern.after as i32), &pattern))
}

/// `to_char(double precision, pattern)`: as the 15 digits a double has.
pub fn float_to_char(value: f64, pattern: &str) -> Result<String> {
    numeric_to_char(&Numeric::from_f64(value), pattern)
}

fn scientific(value: &Numeric, pattern: &Pattern) -> String {
    let blank = if pattern.fill { " " } else { "" };
    let places = pattern.after;
    if !value.is_finite() {
        return format!("{blank}#.{}", "#".repeat(places + 4));
    }
    let sign = if value.signum() < 0 {
        "-"
    } else if pattern.parts.contains(&Part::Sign) {
        "+"
    } else {
        blank
    };
    let (_, digits, scale) = value.decimal_digits().unwrap_or_default();
    let mut exponent = digits.len() as i32 - 1 - i32::from(scale);
    let mut mantissa = "0".to_string();
    if digits.is_empty() {
        exponent = 0;
    } else {
        // Round the digits as a number between 1 and 10; 9.99 may carry into the next power.
        let whole = Numeric::parse(&format!("{digits}e-{}", digits.len() - 1)).unwrap_or(Numeric::ZERO);
        let mut rounded = whole.round(places as i32);
        if rounded >= Numeric::from_i64(10) {
            exponent += 1;
            rounded = Numeric::ONE.round(places as i32);
        }
        mantissa = rounded.to_string();
    }
    if places > 0 && !mantissa.contains('.') {
        mantissa = format!("{mantissa}.{}", "0".repeat(places));
    }
    format!("{sign}{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn plain(value: &Numeric, pattern: &Pattern) -> String {
    let negative = value.signum() < 0;
    let text = value.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let overflow = whole.len() > pattern.before;
    let first_digit = pattern.before.saturating_sub(whole.len());
    let shown_from = if overflow { 0 } else { pattern.zero_from.unwrap_or(first_digit).min(first_digit) };
    let last_shown =
        if pattern.fill { pattern.after } else { pattern.zero_to.max(fraction.trim_end_matches('0').len()) };
    // Only "0" before the point: a blank when digits follow and no place asks for a zero.
    // Under FM a bare point would be left of a zero: its zero stays.
    let hide_zero =
        whole == "0" && pattern.after > 0 && pattern.zero_from.is_none() && (pattern.fill || last_shown > 0);
    let explicit_place = pattern.parts.iter().any(|p| matches!(p, Part::Minus | Part::PlusMinus));
    let last_digit = pattern.parts.iter().rposition(|p| matches!(p, Part::Nine | Part::Zero | Part::Point));
    let sign_place = pattern.parts.iter().position(|p| *p == Part::Sign);
    let trailing_sign = sign_place.is_some_and(|place| last_digit.is_some_and(|last| place > last));
    // What floats before the first shown digit.
    let floating = if pattern.brackets {
        if negative {
            "<"
        } else if pattern.fill {
            " "
        } else {
            ""
        }
    } else if sign_place.is_some() {
        match (trailing_sign, negative) {
            (true, _) => "",
            (false, true) => "-",
            (false, false) => "+",
        }
    } else if explicit_place {
        ""
    } else if negative {
        "-"
    } else if pattern.fill {
        " "
    } else {
        ""
    };
    let mut out = String::new();
    let mut started = false;
    let mut start = |out: &mut String| {
        if !started {
            out.push_str(floating);
            started = true;
        }
    };
    let (mut before, mut after, mut in_fraction, mut any_digit) = (0, 0, false, false);
    for (at, part) in pattern.parts.iter().enumerate() {
        match part {
            Part::Nine | Part::Zero if !in_fraction => {
                let place = before;
                before += 1;
                let hidden = place < shown_from || (hide_zero && !overflow && place + 1 == pattern.before);
                if hidden {
                    if pattern.fill {
                        out.push(' ');
                    }
                } else {
                    start(&mut out);
                    any_digit = true;
                    out.push(if overflow {
                        '#'
                    } else if place >= first_digit {
                        char::from(whole.as_bytes()[place - first_digit])
                    } else {
                        '0'
                    });
                }
            }
            Part::Nine | Part::Zero => {
                start(&mut out);
                after += 1;
                if after <= last_shown {
                    out.push(if overflow {
                        '#'
                    } else {
                        char::from(*fraction.as_bytes().get(after - 1).unwrap_or(&b'0'))
                    });
                }
            }
            Part::Point => {
                start(&mut out);
                in_fraction = true;
                out.push('.');
            }
            Part::Group => {
                if any_digit || in_fraction {
                    out.push(',');
                } else if pattern.fill {
                    out.push(' ');
                }
            }
            Part::Sign => {
                if trailing_sign {
                    out.push(if negative { '-' } else { '+' });
                }
            }
            Part::Minus if negative => out.push('-'),
            Part::Plus if !negative => out.push('+'),
            Part::Minus | Part::Plus => {
                if pattern.fill {
                    out.push(' ');
                }
            }
            Part::PlusMinus => out.push(if negative { '-' } else { '+' }),
            Part::Ordinal { upper } => {
                if !negative && !pattern.has_point && at > 0 && !overflow {
                    let suffix = ordinal(whole);
                    out.push_str(&if *upper { suffix.to_ascii_uppercase() } else { suffix.to_string() });
                }
            }
            Part::Text(c) => out.push(*c),
        }
    }
    if pattern.brackets {
        if negative {
            out.push('>');
        } else if pattern.fill {
            out.push(' ');
        }
    }
    out
}

fn ordinal(whole: &str) -> &'static str {
    let tens: u32 = whole[whole.len().saturating_sub(2)..].parse().unwrap_or(0);
    match (tens, tens % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

/// `to_number(text, pattern)`: the digits of the text under the pattern's places; signs and brackets are found anywhere.
/// 22P02 when there is no number, 0A000 for EEEE and RN.
pub fn to_number(text: &str, pattern: &str) -> Result<Numeric> {
    let parsed = parse_pattern(pattern)?;
    if parsed.exponent || parsed.roman.is_some() {
        return Err(Error::unsupported("\"EEEE\" or \"RN\" for input", "Cast the text to numeric."));
    }
    let negative = text.contains('-') || (parsed.brackets && text.contains('<'));
    let mut digits = String::new();
    let (mut before, mut after, mut point) = (0, 0, false);
    for c in text.chars() {
        match c {
            '0'..='9' if !point && before < parsed.before => {
                before += 1;
                digits.push(c);
            }
            '0'..='9' if point && after < parsed.after => {
                after += 1;
                digits.push(c);
            }
            '0'..='9' => break,
            '.' if parsed.has_point && !point => {
                point = true;
                digits.push('.');
            }
            '.' => break,
            _ => {}
        }
    }
    if before + after == 0 {
        return Err(Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type numeric: \"{}\"", text.trim()),
        ));
    }
    let value = Numeric::parse(digits.trim_end_matches('.'))?;
    let value = if parsed.shift > 0 {
        value.div(&Numeric::from_i128(10i128.pow(parsed.shift.min(38) as u32), 0))?
    } else {
        value
    };
    Ok(if negative { value.neg() } else { value })
}
