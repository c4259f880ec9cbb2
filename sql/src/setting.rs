//! Settings: SET, RESET, SHOW, set_config, ParameterStatus and `pg_settings` all read one table, `settings.txt`.
//!
//! A row is `name|type|context|default|unit|min|max|values|category`. The names, types and bounds are PostgreSQL 15's, so
//! that whatever a driver, pg_dump or an ORM sets is accepted and checked. The few that change what StartDB does
//! are read from [`Effective`]; [`EFFECTS`] describes them.
//!
//! A session's values are layers of immutable maps: what RESET goes back to, what SET made, what SET LOCAL made. A
//! transaction or savepoint keeps the two upper ones and puts them back when it is undone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use value::datetime;
use value::text::{DateFormat, DateOrder, DateStyle, IntervalStyle, Style};
use value::{Error, Result, SqlState};

use crate::lex;

pub const SERVER_VERSION: &str = concat!("15.0 (StartDB ", env!("CARGO_PKG_VERSION"), ")");
pub const SERVER_VERSION_NUM: i32 = 150000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SettingType {
    Bool,
    Integer { unit: &'static str, min: i64, max: i64 },
    Real { unit: &'static str, min: f64, max: f64 },
    Enum,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Never changes.
    Internal,
    /// Set when the server starts, in its configuration.
    Server,
    /// A superuser may set it in a session.
    Superuser,
    /// Set at the start of a session only.
    Backend,
    User,
}

#[derive(Clone, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub ty: SettingType,
    pub context: Context,
    /// `pg_settings.context`.
    pub context_name: &'static str,
    pub default: String,
    pub values: Vec<&'static str>,
    pub category: &'static str,
}

/// Settings whose changes the client is told of, in PostgreSQL's order.
const REPORTED: &[&str] = &[
    "in_hot_standby",
    "integer_datetimes",
    "TimeZone",
    "IntervalStyle",
    "is_superuser",
    "application_name",
    "default_transaction_read_only",
    "DateStyle",
    "standard_conforming_strings",
    "session_authorization",
    "client_encoding",
    "server_version",
    "server_encoding",
    "search_path",
    "scram_iterations",
];

/// What StartDB does with a setting; all others are checked, remembered and shown.
pub const EFFECTS: &[(&str, &str)] = &[
    ("DateStyle", "How dates and timestamps are written, and the order of day, month and year in input."),
    ("IntervalStyle", "How intervals are written."),
    ("TimeZone", "The time zone in which timestamps with time zone are shown and read."),
    ("application_name", "A name the client gives itself, shown in pg_stat_activity."),
    ("bytea_output", "How bytea values are written as text."),
    ("client_min_messages", "The least severe messages that are sent to the client."),
    (
        "deadlock_timeout",
        "Deadlocks are found at once; of the sessions in one, the one with the smallest value gives way.",
    ),
    ("default_transaction_deferrable", "The default of DEFERRABLE, which no transaction has to wait for."),
    ("default_transaction_isolation", "The isolation level of transactions that do not name one."),
    ("default_transaction_read_only", "Whether transactions that do not say otherwise may only read."),
    ("extra_float_digits", "Digits of floating-point values beyond the shortest exact form."),
    ("idle_in_transaction_session_timeout", "A session idle in a transaction for longer is ended."),
    (
        "log_min_duration_statement",
        "Statements that take longer are logged, their literals left out; -1 logs none.",
    ),
    (
        "log_min_error_statement",
        "Whether statements that fail are logged, their literals left out: log, fatal and panic say no.",
    ),
    ("log_connections", "Whether a session that begins is logged."),
    ("log_disconnections", "Whether the end of a session is logged, with how long it lasted."),
    ("log_duration", "Whether the duration of every statement is logged."),
    (
        "log_statement",
        "Which statements are logged when they begin, their literals left out: ddl, mod or all.",
    ),
    ("idle_session_timeout", "A session idle outside of a transaction for longer is ended."),
    ("transaction_timeout", "A session whose transaction lasts longer is ended."),
    ("lock_timeout", "A statement that waits longer for a lock fails."),
    ("statement_timeout", "A statement that runs longer is cancelled."),
    ("search_path", "Schemas in which unqualified names are looked up."),
    ("synchronous_commit", "Whether COMMIT waits until the log is on disk."),
    ("work_mem", "Memory a sort or hash may use before another way is chosen."),
    ("role", "The role whose rights count."),
    ("session_authorization", "The role the session belongs to."),
    ("server_version", "The version of PostgreSQL whose behaviour StartDB follows."),
    ("startdb.plan_cache", "Whether plans of plain statements are kept and reused."),
    ("startdb.executor", "Which executor runs reads: auto chooses by estimated cost."),
    ("startdb.autotune", "What the optimizer may do by itself."),
    ("startdb.autotune_budget", "Disk space indexes made by the optimizer may take."),
];

static TABLE: LazyLock<Vec<Setting>> =
    LazyLock::new(|| include_str!("settings.txt").lines().filter_map(parse_row).collect());

static BY_NAME: LazyLock<HashMap<String, usize>> =
    LazyLock::new(|| TABLE.iter().enumerate().map(|(n, s)| (s.name.to_ascii_lowercase(), n)).collect());

fn parse_row(line: &'static str) -> Option<Setting> {
    let mut fields = line.split('|');
    let mut next = || fields.next();
    let (name, ty, context_name, default, unit) = (next()?, next()?, next()?, next()?, next()?);
    let (min, max, values, category) = (next()?, next()?, next()?, next()?);
    let ty = match ty {
        "bool" => SettingType::Bool,
        "integer" => SettingType::Integer {
            unit,
            min: min.parse().unwrap_or(i64::from(i32::MIN)),
            max: max.parse().unwrap_or(i64::from(i32::MAX)),
        },
        "real" => SettingType::Real {
            unit,
            min: min.parse().unwrap_or(f64::MIN),
            max: max.parse().unwrap_or(f64::MAX),
        },
        "enum" => SettingType::Enum,
        _ => SettingType::String,
    };
    let context = match context_name {
        "internal" => Context::Internal,
        "user" => Context::User,
        "superuser" => Context::Superuser,
        "backend" | "superuser-backend" => Context::Backend,
        _ => Context::Server,
    };
    let default = match name {
        "server_version" => SERVER_VERSION.to_string(),
        "server_version_num" => SERVER_VERSION_NUM.to_string(),
        "client_encoding" | "server_encoding" => "UTF8".to_string(),
        "TimeZone" | "log_timezone" => "UTC".to_string(),
        "lc_messages" => "C".to_string(),
        "default_text_search_config" => "pg_catalog.simple".to_string(),
        "max_stack_depth" => "2048".to_string(),
        "data_checksums" => "on".to_string(),
        "jit" => "off".to_string(),
        _ => default.to_string(),
    };
    let values = values.split(',').filter(|v| !v.is_empty()).collect();
    Some(Setting { name, ty, context, context_name, default, values, category })
}

/// All rows, in the order of their names.
pub fn all() -> &'static [Setting] {
    &TABLE
}

pub fn find(name: &str) -> Option<&'static Setting> {
    let place = match BY_NAME.get(name) {
        Some(place) => place,
        None => BY_NAME.get(&name.to_ascii_lowercase())?,
    };
    TABLE.get(*place)
}

/// Whether a server's configuration may give a setting that value: 42704 for a name that is not known, 22023 for a value it cannot have.
pub fn check_setting(name: &str, value: &str) -> Result<()> {
    Settings::new(true).set_configured(name, value)
}

fn unknown(name: &str) -> Error {
    let error =
        Error::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    let lower = name.to_ascii_lowercase();
    let nearest = BY_NAME
        .iter()
        .map(|(candidate, place)| (strsim::levenshtein(candidate, &lower), *place))
        .min()
        .filter(|(distance, _)| *distance <= 1 + lower.len() / 4);
    match nearest.and_then(|(_, place)| TABLE.get(place)) {
        Some(setting) => error.hint(format!("Perhaps you meant \"{}\".", setting.name)),
        None => error,
    }
}

/// Multiples of a base unit by suffix, the largest first.
fn units(unit: &str) -> &'static [(&'static str, i64)] {
    match unit {
        "B" => &[("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)],
        "kB" => &[("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10), ("kB", 1)],
        "8kB" => &[("TB", 1 << 27), ("GB", 1 << 17), ("MB", 1 << 7)],
        "MB" => &[("TB", 1 << 20), ("GB", 1 << 10), ("MB", 1)],
        "ms" => &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)],
        "s" => &[("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)],
        "min" => &[("d", 1440), ("h", 60), ("min", 1)],
        _ => &[],
    }
}

/// A number with an optional unit, in the base unit.
fn number(setting: &Setting, unit: &str, text: &str) -> Result<f64> {
    let text = text.trim();
    let split = text
        .char_indices()
        .find(|(n, c)| {
            c.is_ascii_alphabetic()
                && !(matches!(c, 'e' | 'E')
                    && text[n + 1..].starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        })
        .map_or(text.len(), |(n, _)| n);
    let (digits, suffix) = (text[..split].trim(), text[split..].trim());
    let invalid = || {
        Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{}\": \"{text}\"", setting.name),
        )
    };
    let value: f64 = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).map_err(|_| invalid())? as f64,
        None => digits.parse().map_err(|_| invalid())?,
    };
    if suffix.is_empty() {
        return Ok(value);
    }
    let factor = match (unit, suffix) {
        ("8kB", "kB") => Some(0.125),
        ("8kB", "B") => Some(1.0 / 8192.0),
        ("kB", "B") => Some(1.0 / 1024.0),
        ("ms", "us") => Some(0.001),
        ("s", "ms") => Some(0.001),
        ("min", "s") => Some(1.0 / 60.0),
        _ => units(unit).iter().find(|(name, _)| *name == suffix).map(|(_, factor)| *factor as f64),
    };
    match factor {
        Some(factor) => Ok(value * factor),
        None => Err(invalid().hint(match unit {
            "" => "This parameter has no unit.",
            "ms" | "s" | "min" => {
                "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
            }
            _ => "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".",
        })),
    }
}

pub fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    if "true".starts_with(&text) || "yes".starts_with(&text) || text == "on" || text == "1" {
        Some(true)
    } else if "false".starts_with(&text)
        || "no".starts_with(&text)
        || text == "off"
        || text == "of"
        || text == "0"
    {
        Some(false)
    } else {
        None
    }
}

/// Checks a value and gives the form in which it is kept. 22023 for a value the setting cannot have.
fn canonical(setting: &Setting, text: &str, current: &str) -> Result<String> {
    let name = setting.name;
    let invalid = |text: &str| {
        Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"{name}\": \"{text}\""),
        )
    };
    match setting.ty {
        SettingType::Bool => match parse_bool(text) {
            Some(on) => Ok(if on { "on" } else { "off" }.to_string()),
            None => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{name}\" requires a Boolean value"),
            )),
        },
        SettingType::Integer { unit, min, max } => {
            let value = number(setting, unit, text)?.round();
            if value < min as f64 || value > max as f64 {
                let space = if unit.is_empty() || unit == "8kB" { String::new() } else { format!(" {unit}") };
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!(
                        "{value}{space} is outside the valid range for parameter \"{name}\" ({min} .. {max})"
                    ),
                ));
            }
            Ok((value as i64).to_string())
        }
        SettingType::Real { unit, min, max } => {
            let value = number(setting, unit, text)?;
            if !(min..=max).contains(&value) {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("{value} is outside the valid range for parameter \"{name}\" ({min} .. {max})"),
                ));
            }
            Ok(value.to_string())
        }
        SettingType::Enum => {
            let lower = text.trim().to_ascii_lowercase();
            if let Some(found) = setting.values.iter().find(|v| **v == lower) {
                return Ok((*found).to_string());
            }
            // on/off settings that grew more values still take every spelling of a Boolean.
            if let Some(on) = parse_bool(&lower)
                && let Some(found) = setting.values.iter().find(|v| **v == if on { "on" } else { "off" })
            {
                return Ok((*found).to_string());
            }
            Err(invalid(text).hint(format!("Available values: {}.", setting.values.join(", "))))
        }
        SettingType::String => match name {
            "DateStyle" => date_style(text, current).map(|s| s.1).ok_or_else(|| invalid(text)),
            "TimeZone" | "log_timezone" => zone_name(text).ok_or_else(|| invalid(text)),
            "client_encoding" => {
                let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
                match plain.to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" => Ok("UTF8".to_string()),
                    "sqlascii" => Ok("SQL_ASCII".to_string()),
                    _ => Err(invalid(text).hint("StartDB speaks UTF8.")),
                }
            }
            "application_name" => Ok(lex::truncate_name(text)
                .chars()
                .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
                .collect()),
            "search_path" => match split_path(text) {
                Some(_) => Ok(text.to_string()),
                None => Err(invalid(text).detail("List syntax is invalid.")),
            },
            _ => Ok(text.to_string()),
        },
    }
}

/// The parts of a name list: unquoted ones folded to lower case. `None` for bad syntax.
pub fn split_path(text: &str) -> Option<Vec<String>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut out = Vec::new();
    for part in split_commas(text) {
        let part = part.trim();
        if let Some(inner) = part.strip_prefix('"') {
            out.push(inner.strip_suffix('"')?.replace("\"\"", "\""));
        } else if part.is_empty() || part.contains(char::is_whitespace) {
            return None;
        } else {
            out.push(lex::truncate_name(&part.to_ascii_lowercase()).to_string());
        }
    }
    Some(out)
}

fn split_commas(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut quoted) = (Vec::new(), 0, false);
    for (n, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                out.push(&text[start..n]);
                start = n + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn date_style(text: &str, current: &str) -> Option<(DateStyle, String)> {
    let mut style = DateStyle { format: DateFormat::Iso, order: DateOrder::Mdy };
    for (n, source) in [current, text].into_iter().enumerate() {
        for word in source.split(',') {
            match word.trim().to_ascii_lowercase().as_str() {
                "iso" => style.format = DateFormat::Iso,
                "sql" => style.format = DateFormat::Sql,
                "postgres" => style.format = DateFormat::Postgres,
                "german" => {
                    style.format = DateFormat::German;
                    style.order = DateOrder::Dmy;
                }
                "ymd" => style.order = DateOrder::Ymd,
                "dmy" | "euro" | "european" => style.order = DateOrder::Dmy,
                "mdy" | "us" | "noneuro" | "noneuropean" => style.order = DateOrder::Mdy,
                "default" => style = DateStyle { format: DateFormat::Iso, order: DateOrder::Mdy },
                "" if n == 0 => {}
                _ if n == 0 => {}
                _ => return None,
            }
        }
    }
    let format = match style.format {
        DateFormat::Iso => "ISO",
        DateFormat::Sql => "SQL",
        DateFormat::Postgres => "Postgres",
        DateFormat::German => "German",
    };
    let order = match style.order {
        DateOrder::Mdy => "MDY",
        DateOrder::Dmy => "DMY",
        DateOrder::Ymd => "YMD",
    };
    Some((style, format!("{format}, {order}")))
}

/// The name a zone is shown under; numbers are hours east of Greenwich, as SET TIME ZONE takes them.
fn zone_name(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<f64>() {
        let minutes = (hours * 60.0).round() as i64;
        let sign = if minutes < 0 { '-' } else { '+' };
        let (h, m) = (minutes.abs() / 60, minutes.abs() % 60);
        let shown = if m == 0 { format!("{sign}{h:02}") } else { format!("{sign}{h:02}:{m:02}") };
        // PostgreSQL shows such a zone in POSIX form, with the sign turned round.
        let posix = if sign == '-' { '+' } else { '-' };
        let posix = if m == 0 { format!("{posix}{h:02}") } else { format!("{posix}{h:02}:{m:02}") };
        return Some(format!("<{shown}>{posix}"));
    }
    datetime::parse_zone(text).ok()?;
    let canonical = jiff::tz::TimeZone::get(text).ok().and_then(|z| z.iana_name().map(str::to_string));
    Some(canonical.unwrap_or_else(|| text.to_string()))
}

/// How a kept value is printed by SHOW: integers in the largest unit that fits without a remainder.
fn shown(setting: &Setting, value: &str) -> String {
    match setting.ty {
        SettingType::Integer { unit, .. } if !unit.is_empty() => match value.parse::<i64>() {
            Ok(number) if number > 0 => {
                if unit == "8kB" && number % 128 != 0 {
                    return format!("{}kB", number * 8);
                }
                match units(unit).iter().find(|(_, factor)| number % factor == 0) {
                    Some((suffix, factor)) => format!("{}{suffix}", number / factor),
                    None => value.to_string(),
                }
            }
            _ => value.to_string(),
        },
        SettingType::Integer { .. }
            if setting.name.ends_with("_mode") || setting.name.ends_with("_permissions") =>
        {
            value.parse::<i64>().map_or(value.to_string(), |v| format!("{v:04o}"))
        }
        _ => value.to_string(),
    }
}

type Layer = Arc<BTreeMap<String, String>>;

/// The layers that a transaction or savepoint puts back.
#[derive(Clone, Debug)]
pub struct Saved {
    session: Layer,
    local: Layer,
}

/// The settings of one session.
#[derive(Clone, Debug)]
pub struct Settings {
    base: Layer,
    session: Layer,
    local: Layer,
    /// Grows with every change of any value.
    generation: u64,
    effective: Arc<Effective>,
    superuser: bool,
    is_superuser_now: bool,
}

/// Which statements `log_statement` asks for; each takes in those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogStatement {
    None,
    /// What changes the catalog.
    Ddl,
    /// What changes data.
    Mod,
    All,
}

/// Settings that change behaviour, in usable form.
#[derive(Clone, Debug)]
pub struct Effective {
    pub style: Arc<Style>,
    pub search_path: Vec<String>,
    pub statement_timeout: u64,
    pub lock_timeout: u64,
    pub idle_in_transaction_timeout: u64,
    pub idle_timeout: u64,
    pub transaction_timeout: u64,
    pub deadlock_timeout: u64,
    pub deferrable: bool,
    /// Bytes.
    pub work_mem: usize,
    pub synchronous_commit: bool,
    pub isolation: engine::Isolation,
    /// READ COMMITTED is called READ UNCOMMITTED.
    pub uncommitted: bool,
    pub read_only: bool,
    pub min_messages: usize,
    /// `log_min_duration_statement`; `None`: off.
    pub log_min_duration: Option<Duration>,
    /// `log_min_error_statement` takes in errors.
    pub log_errors: bool,
    /// `log_duration`.
    pub log_duration: bool,
    /// `log_statement`.
    pub log_statement: LogStatement,
    pub plan_cache: bool,
    pub executor: Executor,
    /// Stands for everything that a plan may depend on besides the catalog.
    pub plan_key: Arc<str>,
}

/// `startdb.executor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// By the plan's estimated cost.
    Auto,
    Row,
    /// Vectorised wherever it accepts the plan.
    Vector,
}

/// Severities from the least to the most severe, as client_min_messages orders them.
pub const SEVERITIES: &[&str] =
    &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];

impl Settings {
    /// `base`: values from the server's configuration, the database, the role and the startup message, in this order.
    pub fn new(superuser: bool) -> Settings {
        let empty: Layer = Arc::new(BTreeMap::new());
        let mut settings = Settings {
            base: empty.clone(),
            session: empty.clone(),
            local: empty,
            generation: 0,
            effective: Arc::new(Effective {
                style: Arc::new(Style::default()),
                search_path: Vec::new(),
                statement_timeout: 0,
                lock_timeout: 0,
                idle_in_transaction_timeout: 0,
                idle_timeout: 0,
                transaction_timeout: 0,
                deadlock_timeout: 1000,
                deferrable: false,
                work_mem: 4 << 20,
                synchronous_commit: true,
                isolation: engine::Isolation::ReadCommitted,
                uncommitted: false,
                read_only: false,
                min_messages: 6,
                log_min_duration: None,
                log_errors: true,
                log_duration: false,
                log_statement: LogStatement::None,
                plan_cache: true,
                executor: Executor::Auto,
                plan_key: Arc::from(""),
            }),
            superuser,
            is_superuser_now: superuser,
        };
        settings.refresh();
        settings
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn effective(&self) -> &Arc<Effective> {
        &self.effective
    }

    /// The kept form of a value.
    fn raw<'a>(&'a self, setting: &'a Setting) -> &'a str {
        if setting.name == "is_superuser" {
            return if self.is_superuser_now { "on" } else { "off" };
        }
        [&self.local, &self.session, &self.base]
            .into_iter()
            .find_map(|layer| layer.get(setting.name))
            .map_or(setting.default.as_str(), String::as_str)
    }

    /// A value as SHOW prints it, `None` for an unknown name.
    pub fn show(&self, name: &str) -> Option<String> {
        if let Some(setting) = find(name) {
            return Some(shown(setting, self.raw(setting)));
        }
        let name = name.to_ascii_lowercase();
        [&self.local, &self.session, &self.base].into_iter().find_map(|layer| layer.get(&name)).cloned()
    }

    /// As [`Settings::show`]; 42704 with the nearest name when there is none.
    pub fn show_or_fail(&self, name: &str) -> Result<String> {
        self.show(name).ok_or_else(|| unknown(name))
    }

    /// (kept value, value that RESET gives) for `pg_settings`.
    pub fn kept(&self, setting: &Setting) -> (String, String) {
        let reset = self.base.get(setting.name).map_or(setting.default.as_str(), String::as_str);
        (self.raw(setting).to_string(), reset.to_string())
    }

    /// "default", "session" or "client", as `pg_settings.source`.
    pub fn source(&self, setting: &Setting) -> &'static str {
        if self.local.contains_key(setting.name) || self.session.contains_key(setting.name) {
            "session"
        } else if self.base.contains_key(setting.name) {
            "client"
        } else {
            "default"
        }
    }

    fn checked(&self, name: &str, value: &str, starting: bool) -> Result<(String, String)> {
        let Some(setting) = find(name) else {
            let lower = name.to_ascii_lowercase();
            let custom = lower.split_once('.').is_some_and(|(a, b)| {
                [a, b].iter().all(|p| {
                    !p.is_empty() && p.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
                })
            });
            return if custom { Ok((lower, value.to_string())) } else { Err(unknown(name)) };
        };
        let denied = match setting.context {
            Context::Internal => Some((
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be changed", setting.name),
            )),
            Context::Server => Some((
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be changed without restarting the server", setting.name),
            )),
            Context::Backend if !starting => Some((
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be set after connection start", setting.name),
            )),
            Context::Superuser if !self.superuser && !self.is_superuser_now => Some((
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set parameter \"{}\"", setting.name),
            )),
            _ => None,
        };
        if let Some((state, message)) = denied {
            return Err(Error::new(state, message));
        }
        let value = canonical(setting, value, self.raw(setting))?;
        Ok((setting.name.to_string(), value))
    }

    /// The same from the server's configuration, which may also give what cannot change while the server runs.
    pub fn set_configured(&mut self, name: &str, value: &str) -> Result<()> {
        let (name, value) = match find(name) {
            Some(setting) if setting.context == Context::Server => {
                (setting.name.to_string(), canonical(setting, value, self.raw(setting))?)
            }
            _ => self.checked(name, value, true)?,
        };
        Arc::make_mut(&mut self.base).insert(name, value);
        self.refresh();
        Ok(())
    }

    /// Sets the value that RESET goes back to: configuration, role, database, startup message.
    pub fn set_base(&mut self, name: &str, value: &str) -> Result<()> {
        let (name, value) = self.checked(name, value, true)?;
        Arc::make_mut(&mut self.base).insert(name, value);
        self.refresh();
        Ok(())
    }

    /// SET and SET LOCAL; several values are joined as PostgreSQL joins lists.
    pub fn set(&mut self, name: &str, values: &[String], local: bool) -> Result<()> {
        let list = find(name).is_some_and(|s| {
            matches!(s.name, "search_path" | "DateStyle" | "temp_tablespaces" | "session_preload_libraries")
        });
        if values.len() > 1 && !list {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("SET {name} takes only one argument"),
            ));
        }
        let quote = find(name).is_some_and(|s| s.name == "search_path");
        let text = values
            .iter()
            .map(|v| if quote { lex::quote_name(v) } else { v.clone() })
            .collect::<Vec<_>>()
            .join(", ");
        self.set_text(name, &text, local)
    }

    /// set_config: the value as one text.
    pub fn set_text(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        let (name, value) = self.checked(name, value, false)?;
        if local {
            Arc::make_mut(&mut self.local).insert(name, value);
        } else {
            if self.local.contains_key(&name) {
                Arc::make_mut(&mut self.local).remove(&name);
            }
            Arc::make_mut(&mut self.session).insert(name, value);
        }
        self.refresh();
        Ok(())
    }

    /// RESET, SET ... TO DEFAULT.
    pub fn reset(&mut self, name: &str, local: bool) -> Result<()> {
        let default = match find(name) {
            Some(setting) => {
                let reset = self.base.get(setting.name).cloned().unwrap_or_else(|| setting.default.clone());
                let (name, _) = self.checked(setting.name, &reset, false)?;
                (name, reset)
            }
            None => {
                let lower = name.to_ascii_lowercase();
                if !lower.contains('.') {
                    return Err(unknown(name));
                }
                (lower, String::new())
            }
        };
        if local {
            Arc::make_mut(&mut self.local).insert(default.0, default.1);
        } else {
            Arc::make_mut(&mut self.local).remove(&default.0);
            Arc::make_mut(&mut self.session).remove(&default.0);
        }
        self.refresh();
        Ok(())
    }

    pub fn reset_all(&mut self) {
        let keep = |layer: &Layer| -> Layer {
            Arc::new(
                layer
                    .iter()
                    .filter(|(k, _)| {
                        matches!(
                            k.as_str(),
                            "role"
                                | "session_authorization"
                                | "transaction_isolation"
                                | "transaction_read_only"
                        )
                    })
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            )
        };
        self.session = keep(&self.session);
        self.local = keep(&self.local);
        self.refresh();
    }

    /// What SET must not check: the session's own names for role, isolation and so on.
    pub fn set_unchecked(&mut self, name: &'static str, value: String, local: bool) {
        let layer = if local { &mut self.local } else { &mut self.session };
        Arc::make_mut(layer).insert(name.to_string(), value);
        self.refresh();
    }

    pub fn set_superuser(&mut self, session: bool, current: bool) {
        self.superuser = session;
        self.is_superuser_now = current;
        self.generation += 1;
    }

    pub fn save(&self) -> Saved {
        Saved { session: self.session.clone(), local: self.local.clone() }
    }

    /// Puts both layers back: ROLLBACK, ROLLBACK TO.
    pub fn restore(&mut self, saved: &Saved) {
        if Arc::ptr_eq(&self.session, &saved.session) && Arc::ptr_eq(&self.local, &saved.local) {
            return;
        }
        self.session = saved.session.clone();
        self.local = saved.local.clone();
        self.refresh();
    }

    /// The end of a transaction: SET LOCAL is over.
    pub fn end_local(&mut self) {
        if !self.local.is_empty() {
            self.local = Arc::new(BTreeMap::new());
            self.refresh();
        }
    }

    /// All reported settings with their values.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        REPORTED.iter().map(|name| (*name, self.show(name).unwrap_or_default())).collect()
    }

    fn refresh(&mut self) {
        self.generation += 1;
        let text = |name: &str| find(name).map_or("", |s| self.raw(s)).to_string();
        let on = |name: &str| text(name) == "on";
        let integer = |name: &str| text(name).parse::<i64>().unwrap_or(0).max(0) as u64;
        let date_style = date_style(&text("DateStyle"), "")
            .map_or(DateStyle { format: DateFormat::Iso, order: DateOrder::Mdy }, |s| s.0);
        let zone = text("TimeZone");
        let time_zone = datetime::parse_zone(&zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let style = Style {
            date_style,
            interval_style: match text("IntervalStyle").as_str() {
                "postgres_verbose" => IntervalStyle::PostgresVerbose,
                "sql_standard" => IntervalStyle::SqlStandard,
                "iso_8601" => IntervalStyle::Iso8601,
                _ => IntervalStyle::Postgres,
            },
            time_zone,
            extra_float_digits: text("extra_float_digits").parse().unwrap_or(1),
            bytea_hex: text("bytea_output") == "hex",
            now: None,
        };
        let plan_key = format!(
            "{}\0{}\0{zone}\0{}\0{}\0{}",
            text("search_path"),
            text("role"),
            text("DateStyle"),
            text("IntervalStyle"),
            [
                "enable_hashjoin",
                "enable_indexscan",
                "enable_nestloop",
                "enable_seqscan",
                "enable_sort",
                "enable_hashagg"
            ]
            .iter()
            .map(|n| if on(n) { '1' } else { '0' })
            .collect::<String>(),
        );
        self.effective = Arc::new(Effective {
            style: Arc::new(style),
            search_path: split_path(&text("search_path")).unwrap_or_default(),
            statement_timeout: integer("statement_timeout"),
            lock_timeout: integer("lock_timeout"),
            idle_in_transaction_timeout: integer("idle_in_transaction_session_timeout"),
            idle_timeout: integer("idle_session_timeout"),
            transaction_timeout: integer("transaction_timeout"),
            deadlock_timeout: integer("deadlock_timeout"),
            deferrable: on("default_transaction_deferrable"),
            work_mem: (integer("work_mem") as usize) << 10,
            synchronous_commit: text("synchronous_commit") != "off",
            uncommitted: text("default_transaction_isolation") == "read uncommitted",
            isolation: match text("default_transaction_isolation").as_str() {
                "serializable" => engine::Isolation::Serializable,
                "repeatable read" => engine::Isolation::RepeatableRead,
                _ => engine::Isolation::ReadCommitted,
            },
            read_only: on("default_transaction_read_only"),
            min_messages: SEVERITIES.iter().position(|s| *s == text("client_min_messages")).unwrap_or(6),
            log_min_duration: text("log_min_duration_statement").parse().ok().map(Duration::from_millis),
            log_errors: !matches!(text("log_min_error_statement").as_str(), "log" | "fatal" | "panic"),
            log_duration: on("log_duration"),
            log_statement: match text("log_statement").as_str() {
                "ddl" => LogStatement::Ddl,
                "mod" => LogStatement::Mod,
                "all" => LogStatement::All,
                _ => LogStatement::None,
            },
            plan_cache: on("startdb.plan_cache"),
            executor: match text("startdb.executor").as_str() {
                "row" => Executor::Row,
                "vector" => Executor::Vector,
                _ => Executor::Auto,
            },
            plan_key: Arc::from(plan_key),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &mut Settings, name: &str, value: &str) -> Result<()> {
        settings.set(name, &[value.to_string()], false)
    }

    #[test]
    fn values_and_units() {
        let mut s = Settings::new(true);
        for (name, value, shown) in [
            ("work_mem", "64MB", "64MB"),
            ("work_mem", "1048576", "1GB"),
            ("statement_timeout", "5s", "5s"),
            ("statement_timeout", "1500", "1500ms"),
            ("DateStyle", "german", "German, DMY"),
            ("enable_seqscan", "false", "off"),
            ("synchronous_commit", "0", "off"),
            ("client_encoding", "'utf-8'", "UTF8"),
            ("my.own", "x", "x"),
        ] {
            set(&mut s, name, value).unwrap();
            assert_eq!(s.show(name).unwrap(), shown, "{name} = {value}");
        }
        for (name, value, state) in [
            ("work_mem", "x", "22023"),
            ("statment_timeout", "1", "42704"),
            ("server_version", "1", "55P02"),
            ("shared_buffers", "1", "55P02"),
            ("client_encoding", "latin1", "22023"),
        ] {
            assert_eq!(set(&mut s, name, value).unwrap_err().state().as_str(), state, "{name}");
        }
        let hint = set(&mut s, "statment_timeout", "1").unwrap_err();
        assert_eq!(hint.fields().hint.as_deref(), Some("Perhaps you meant \"statement_timeout\"."));
    }

    #[test]
    fn layers_follow_transactions() {
        let mut s = Settings::new(false);
        let before = s.save();
        s.set("search_path", &["a".into(), "B c".into()], false).unwrap();
        assert_eq!(s.show("search_path").unwrap(), "a, \"B c\"");
        s.set("search_path", &["local".into()], true).unwrap();
        assert_eq!(s.effective().search_path, ["local"]);
        s.end_local();
        assert_eq!(s.effective().search_path, ["a", "B c"]);
        s.restore(&before);
        assert_eq!(s.show("search_path").unwrap(), "\"$user\", public");
    }
}
