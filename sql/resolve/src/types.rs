//! Type names of SQL to [`Type`]s.

use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, IntervalFields, ObjectNamePart,
    TimezoneInfo,
};
use value::types::{self, array_of, interval_field, interval_typmod, length_typmod, numeric_typmod, oid};
use value::{Error, Oid, Result, SqlState, Type};

use crate::{Names, names::identifier};

/// serial and its brothers: an integer with a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    Small,
    Plain,
    Big,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedType {
    pub ty: Type,
    pub serial: Option<Serial>,
}

fn undefined(name: &str) -> Error {
    Error::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
}

fn no_modifier(name: &str) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, format!("type modifier is not allowed for type \"{name}\""))
}

/// The type a name means. 42704 for an unknown one, 22023 for a modifier out of range.
pub fn resolve_type(names: &dyn Names, data_type: &DataType) -> Result<ResolvedType> {
    let plain = |oid: Oid| Ok(ResolvedType { ty: Type::new(oid), serial: None });
    let with = |oid: Oid, typmod: i32| Ok(ResolvedType { ty: Type::with_typmod(oid, typmod), serial: None });
    match data_type {
        DataType::Character(length) | DataType::Char(length) => {
            with(oid::BPCHAR, character_typmod("char", length, Some(1))?)
        }
        DataType::CharacterVarying(length)
        | DataType::CharVarying(length)
        | DataType::Varchar(length)
        | DataType::Nvarchar(length) => with(oid::VARCHAR, character_typmod("varchar", length, None)?),
        DataType::Uuid => plain(oid::UUID),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info),
        DataType::Float(info) => match info {
            ExactNumberInfo::None => plain(oid::FLOAT8),
            ExactNumberInfo::Precision(0) => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "precision for type float must be at least 1 bit",
            )),
            ExactNumberInfo::Precision(1..=24) => plain(oid::FLOAT4),
            ExactNumberInfo::Precision(25..=53) => plain(oid::FLOAT8),
            _ => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "precision for type float must be less than 54 bits",
            )),
        },
        DataType::SmallInt(None) | DataType::Int2(None) => plain(oid::INT2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => plain(oid::INT4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(oid::INT8),
        DataType::Real | DataType::Float4 => plain(oid::FLOAT4),
        DataType::DoublePrecision | DataType::Float8 => plain(oid::FLOAT8),
        DataType::Bool | DataType::Boolean => plain(oid::BOOL),
        DataType::Date => plain(oid::DATE),
        DataType::Time(precision, zone) => {
            let oid = if has_zone(zone) { oid::TIMETZ } else { oid::TIME };
            if oid == oid::TIMETZ {
                return Err(Error::unsupported(
                    "type time with time zone",
                    "Use timestamp with time zone, or time without time zone.",
                ));
            }
            with(oid, time_typmod(*precision))
        }
        DataType::Timestamp(precision, zone) => {
            with(if has_zone(zone) { oid::TIMESTAMPTZ } else { oid::TIMESTAMP }, time_typmod(*precision))
        }
        DataType::Interval { fields, precision } => {
            with(oid::INTERVAL, interval_type_typmod(fields.as_ref(), *precision))
        }
        DataType::JSON => plain(oid::JSON),
        DataType::JSONB => plain(oid::JSONB),
        DataType::Regclass => plain(oid::REGCLASS),
        DataType::Text => plain(oid::TEXT),
        DataType::Bytea => plain(oid::BYTEA),
        DataType::Trigger => plain(oid::TRIGGER),
        DataType::AnyType => plain(oid::ANY),
        DataType::Array(element) => match element {
            ArrayElemTypeDef::SquareBracket(element, _) => {
                let element = resolve_type(names, element)?;
                if element.serial.is_some() {
                    return Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "array of serial is not implemented",
                    ));
                }
                array_type(element.ty)
            }
            _ => Err(undefined(&data_type.to_string())),
        },
        DataType::Custom(name, modifiers) => custom(names, name, modifiers),
        DataType::Bit(_) | DataType::BitVarying(_) | DataType::VarBit(_) => {
            Err(Error::unsupported("type bit", "Use boolean, integer or bytea."))
        }
        DataType::SmallInt(Some(_)) | DataType::Int2(Some(_)) => Err(no_modifier("int2")),
        DataType::Int(Some(_)) | DataType::Integer(Some(_)) | DataType::Int4(Some(_)) => {
            Err(no_modifier("int4"))
        }
        DataType::BigInt(Some(_)) | DataType::Int8(Some(_)) => Err(no_modifier("int8")),
        DataType::TsVector | DataType::TsQuery => {
            Err(Error::unsupported(format!("type {data_type}"), "Use text with LIKE or regular expressions."))
        }
        DataType::GeometricType(_) => Err(Error::unsupported(
            format!("type {data_type}"),
            "Use numeric or double precision columns for the coordinates.",
        )),
        other => Err(undefined(&other.to_string().to_lowercase())),
    }
}

/// The array over a type, which keeps the element's modifier; arrays of arrays are arrays of the same type.
fn array_type(element: Type) -> Result<ResolvedType> {
    if types::info(element.oid).is_some_and(|info| info.category == 'A' && info.array == 0) {
        return Ok(ResolvedType { ty: element, serial: None });
    }
    match array_of(element.oid) {
        0 => Err(Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("could not find array type for data type {}", types::format_type(element.oid, -1)),
        )),
        array => Ok(ResolvedType { ty: Type::with_typmod(array, element.typmod), serial: None }),
    }
}

fn has_zone(zone: &TimezoneInfo) -> bool {
    matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz)
}

fn time_typmod(precision: Option<u64>) -> i32 {
    // PostgreSQL reduces larger precisions to 6 with a warning.
    precision.map_or(-1, |precision| precision.min(6) as i32)
}

fn character_typmod(name: &str, length: &Option<CharacterLength>, default: Option<i32>) -> Result<i32> {
    match length {
        None => Ok(default.map_or(-1, length_typmod)),
        Some(CharacterLength::Max) => Ok(-1),
        Some(CharacterLength::IntegerLength { length, .. }) => {
            let error = |message: String| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
            match i32::try_from(*length) {
                Ok(0) => Err(error(format!("length for type {name} must be at least 1"))),
                Ok(length) if length <= 10_485_760 => Ok(length_typmod(length)),
                _ => Err(error(format!("length for type {name} cannot exceed 10485760"))),
            }
        }
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<ResolvedType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(ResolvedType { ty: Type::new(oid::NUMERIC), serial: None }),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if !(1..=1000).contains(&precision) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("NUMERIC precision {precision} must be between 1 and 1000"),
        ));
    }
    if !(-1000..=1000).contains(&scale) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("NUMERIC scale {scale} must be between -1000 and 1000"),
        ));
    }
    let typmod = numeric_typmod(precision as i32, scale as i32);
    Ok(ResolvedType { ty: Type::with_typmod(oid::NUMERIC, typmod), serial: None })
}

/// The typmod of `interval [fields] [(precision)]`, -1 for a plain interval.
pub(crate) fn interval_type_typmod(fields: Option<&IntervalFields>, precision: Option<u64>) -> i32 {
    use interval_field::{DAY, FULL_RANGE, HOUR, MINUTE, MONTH, SECOND, YEAR};
    let precision = precision.map(|p| p.min(6) as i32);
    let fields = match fields {
        None if precision.is_none() => return -1,
        None => FULL_RANGE,
        Some(IntervalFields::Year) => YEAR,
        Some(IntervalFields::Month) => MONTH,
        Some(IntervalFields::Day) => DAY,
        Some(IntervalFields::Hour) => HOUR,
        Some(IntervalFields::Minute) => MINUTE,
        Some(IntervalFields::Second) => SECOND,
        Some(IntervalFields::YearToMonth) => YEAR | MONTH,
        Some(IntervalFields::DayToHour) => DAY | HOUR,
        Some(IntervalFields::DayToMinute) => DAY | HOUR | MINUTE,
        Some(IntervalFields::DayToSecond) => DAY | HOUR | MINUTE | SECOND,
        Some(IntervalFields::HourToMinute) => HOUR | MINUTE,
        Some(IntervalFields::HourToSecond) => HOUR | MINUTE | SECOND,
        Some(IntervalFields::MinuteToSecond) => MINUTE | SECOND,
    };
    interval_typmod(fields, precision)
}

fn custom(
    names: &dyn Names,
    name: &sqlparser::ast::ObjectName,
    modifiers: &[String],
) -> Result<ResolvedType> {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(identifier(ident)),
            ObjectNamePart::Function(_) => Err(undefined(&name.to_string())),
        })
        .collect::<Result<_>>()?;
    let quoted =
        matches!(name.0.last(), Some(ObjectNamePart::Identifier(ident)) if ident.quote_style.is_some());
    let full = parts.join(".");
    let base = match parts.as_slice() {
        [base] => base.as_str(),
        [schema, base] if schema == "pg_catalog" => base.as_str(),
        [schema, _] => {
            if names.catalog().schema_named(names.database(), schema).is_none() {
                return Err(Error::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{schema}\" does not exist"),
                ));
            }
            return Err(undefined(&full));
        }
        _ => return Err(undefined(&full)),
    };
    let serial = match base {
        _ if quoted || parts.len() > 1 => None,
        "serial" | "serial4" => Some(Serial::Plain),
        "bigserial" | "serial8" => Some(Serial::Big),
        "smallserial" | "serial2" => Some(Serial::Small),
        _ => None,
    };
    if let Some(serial) = serial {
        let oid = match serial {
            Serial::Small => oid::INT2,
            Serial::Plain => oid::INT4,
            Serial::Big => oid::INT8,
        };
        return Ok(ResolvedType { ty: Type::new(oid), serial: Some(serial) });
    }
    // A quoted or qualified name is the internal one ("char" is not char); others may be what SQL calls them.
    let info = types::TYPES
        .iter()
        .find(|info| info.name == base)
        .or_else(|| if quoted { None } else { types::by_name(base) });
    let Some(info) = info else {
        return Err(match base {
            "money" => Error::unsupported("type money", "Use numeric."),
            "xml" => Error::unsupported("type xml", "Use text."),
            "inet" | "cidr" | "macaddr" | "macaddr8" => {
                Error::unsupported(format!("type {base}"), "Use text.")
            }
            "hstore" => Error::unsupported("type hstore", "Use jsonb."),
            _ => undefined(&full),
        });
    };
    let modifier = |at: usize| -> Result<i64> {
        modifiers[at].trim().parse().map_err(|_| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "type modifiers must be simple constants or identifiers",
            )
        })
    };
    let typmod = match (info.oid, modifiers.len()) {
        (_, 0) => -1,
        (oid::BPCHAR | oid::VARCHAR, 1) => {
            let length = u64::try_from(modifier(0)?).unwrap_or(0);
            character_typmod(base, &Some(CharacterLength::IntegerLength { length, unit: None }), None)?
        }
        (oid::NUMERIC, 1) => {
            return numeric(&ExactNumberInfo::Precision(u64::try_from(modifier(0)?).unwrap_or(0)));
        }
        (oid::NUMERIC, 2) => {
            let precision = u64::try_from(modifier(0)?).unwrap_or(0);
            return numeric(&ExactNumberInfo::PrecisionAndScale(precision, modifier(1)?));
        }
        (oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ, 1) => time_typmod(u64::try_from(modifier(0)?).ok()),
        (oid::INTERVAL, 1) => interval_type_typmod(None, u64::try_from(modifier(0)?).ok()),
        _ => {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!("type modifier is not allowed for type \"{base}\""),
            ));
        }
    };
    Ok(ResolvedType { ty: Type::with_typmod(info.oid, typmod), serial: None })
}
