//! Every type, one row each. Whatever is asked about a type (its oid, its array, how wide it is, which types
//! it prefers) is answered from [`TYPES`]; `pg_type` is computed from it.

use crate::{Error, Result, SqlState};

/// An object id. Types carry PostgreSQL's own numbers, so that drivers know them.
pub type Oid = u32;

/// A type with its modifier: length for varchar and bpchar (+4), precision and scale for numeric, -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    pub oid: Oid,
    pub typmod: i32,
}

impl Type {
    pub const fn new(oid: Oid) -> Type {
        Type { oid, typmod: -1 }
    }

    pub const fn with_typmod(oid: Oid, typmod: i32) -> Type {
        Type { oid, typmod }
    }
}

/// What `pg_type.typtype` (and `typcategory` for arrays) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    Base,
    Pseudo,
    Array,
}

/// The [`crate::Datum`] variant that values of a type live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// No values: pseudo-types of declarations.
    None,
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Jsonb,
    Array,
    Record,
}

/// One row of `pg_type` as far as it belongs to the type itself.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    pub oid: Oid,
    /// `pg_type.typname`, e.g. `int4`, `_int4`.
    pub name: &'static str,
    /// What `format_type` prints without a modifier, e.g. `integer`, `character varying[]`.
    pub sql_name: &'static str,
    /// The type of arrays of this type, 0 when there is none.
    pub array: Oid,
    /// The element type of an array type (also int2vector and oidvector), else 0.
    pub element: Oid,
    /// `pg_type.typcategory`.
    pub category: char,
    /// Preferred within its category when an operator or function is ambiguous.
    pub preferred: bool,
    /// `pg_type.typlen`: bytes, -1 varying, -2 a C string.
    pub len: i16,
    pub by_value: bool,
    /// `pg_type.typalign`.
    pub align: char,
    pub kind: TypeKind,
    pub repr: Repr,
}

impl TypeInfo {
    pub fn is_array(&self) -> bool {
        self.element != 0
    }
}

macro_rules! types {
    (
        with_array { $($oid:literal $array:literal $constant:ident $array_constant:ident $name:literal $sql:literal
            $category:literal $preferred:literal $len:literal $by_value:literal $align:literal
            $kind:ident $repr:ident $element:literal;)* }
        alone { $($oid2:literal $constant2:ident $name2:literal $sql2:literal
            $category2:literal $len2:literal $by_value2:literal $align2:literal $kind2:ident $repr2:ident;)* }
    ) => {
        /// The oid of each type as a constant.
        pub mod oid {
            use super::Oid;
            pub const INVALID: Oid = 0;
            $(pub const $constant: Oid = $oid; pub const $array_constant: Oid = $array;)*
            $(pub const $constant2: Oid = $oid2;)*
        }

        pub static TYPES: &[TypeInfo] = &[
            $(
                TypeInfo { oid: $oid, name: $name, sql_name: $sql, array: $array, element: $element,
                    category: $category, preferred: $preferred, len: $len, by_value: $by_value, align: $align,
                    kind: TypeKind::$kind, repr: Repr::$repr },
                TypeInfo { oid: $array, name: concat!("_", $name), sql_name: concat!($sql, "[]"), array: 0,
                    element: $oid, category: if matches!(TypeKind::$kind, TypeKind::Pseudo) { 'P' } else { 'A' },
                    preferred: false, len: -1, by_value: false,
                    align: if $align == 'd' { 'd' } else { 'i' }, kind: TypeKind::Array, repr: Repr::Array },
            )*
            $(
                TypeInfo { oid: $oid2, name: $name2, sql_name: $sql2, array: 0, element: 0,
                    category: $category2, preferred: false, len: $len2, by_value: $by_value2, align: $align2,
                    kind: TypeKind::$kind2, repr: Repr::$repr2 },
            )*
        ];
    };
}

types! {
    with_array {
        16 1000 BOOL BOOL_ARRAY "bool" "boolean" 'B' true 1 true 'c' Base Bool 0;
        17 1001 BYTEA BYTEA_ARRAY "bytea" "bytea" 'U' false -1 false 'i' Base Bytea 0;
        18 1002 CHAR CHAR_ARRAY "char" "\"char\"" 'Z' false 1 true 'c' Base Text 0;
        19 1003 NAME NAME_ARRAY "name" "name" 'S' false 64 false 'c' Base Text 0;
        20 1016 INT8 INT8_ARRAY "int8" "bigint" 'N' false 8 true 'd' Base Int8 0;
        21 1005 INT2 INT2_ARRAY "int2" "smallint" 'N' false 2 true 's' Base Int2 0;
        22 1006 INT2VECTOR INT2VECTOR_ARRAY "int2vector" "int2vector" 'A' false -1 false 'i' Base Array 21;
        23 1007 INT4 INT4_ARRAY "int4" "integer" 'N' false 4 true 'i' Base Int4 0;
        24 1008 REGPROC REGPROC_ARRAY "regproc" "regproc" 'N' false 4 true 'i' Base Oid 0;
        25 1009 TEXT TEXT_ARRAY "text" "text" 'S' true -1 false 'i' Base Text 0;
        26 1028 OID OID_ARRAY "oid" "oid" 'N' true 4 true 'i' Base Oid 0;
        27 1010 TID TID_ARRAY "tid" "tid" 'U' false 6 false 's' Base Int8 0;
        28 1011 XID XID_ARRAY "xid" "xid" 'U' false 4 true 'i' Base Oid 0;
        29 1012 CID CID_ARRAY "cid" "cid" 'U' false 4 true 'i' Base Oid 0;
        30 1013 OIDVECTOR OIDVECTOR_ARRAY "oidvector" "oidvector" 'A' false -1 false 'i' Base Array 26;
        114 199 JSON JSON_ARRAY "json" "json" 'U' false -1 false 'i' Base Text 0;
        700 1021 FLOAT4 FLOAT4_ARRAY "float4" "real" 'N' false 4 true 'i' Base Float4 0;
        701 1022 FLOAT8 FLOAT8_ARRAY "float8" "double precision" 'N' true 8 true 'd' Base Float8 0;
        1033 1034 ACLITEM ACLITEM_ARRAY "aclitem" "aclitem" 'U' false 12 false 'i' Base Text 0;
        1042 1014 BPCHAR BPCHAR_ARRAY "bpchar" "character" 'S' false -1 false 'i' Base Text 0;
        1043 1015 VARCHAR VARCHAR_ARRAY "varchar" "character varying" 'S' false -1 false 'i' Base Text 0;
        1082 1182 DATE DATE_ARRAY "date" "date" 'D' false 4 true 'i' Base Date 0;
        1083 1183 TIME TIME_ARRAY "time" "time without time zone" 'D' false 8 true 'd' Base Time 0;
        1114 1115 TIMESTAMP TIMESTAMP_ARRAY "timestamp" "timestamp without time zone" 'D' false 8 true 'd' Base Timestamp 0;
        1184 1185 TIMESTAMPTZ TIMESTAMPTZ_ARRAY "timestamptz" "timestamp with time zone" 'D' true 8 true 'd' Base TimestampTz 0;
        1186 1187 INTERVAL INTERVAL_ARRAY "interval" "interval" 'T' true 16 false 'd' Base Interval 0;
        1266 1270 TIMETZ TIMETZ_ARRAY "timetz" "time with time zone" 'D' false 12 false 'd' Base None 0;
        1700 1231 NUMERIC NUMERIC_ARRAY "numeric" "numeric" 'N' false -1 false 'i' Base Numeric 0;
        2202 2207 REGPROCEDURE REGPROCEDURE_ARRAY "regprocedure" "regprocedure" 'N' false 4 true 'i' Base Oid 0;
        2203 2208 REGOPER REGOPER_ARRAY "regoper" "regoper" 'N' false 4 true 'i' Base Oid 0;
        2204 2209 REGOPERATOR REGOPERATOR_ARRAY "regoperator" "regoperator" 'N' false 4 true 'i' Base Oid 0;
        2205 2210 REGCLASS REGCLASS_ARRAY "regclass" "regclass" 'N' false 4 true 'i' Base Oid 0;
        2206 2211 REGTYPE REGTYPE_ARRAY "regtype" "regtype" 'N' false 4 true 'i' Base Oid 0;
        2950 2951 UUID UUID_ARRAY "uuid" "uuid" 'U' false 16 false 'c' Base Uuid 0;
        3220 3221 PG_LSN PG_LSN_ARRAY "pg_lsn" "pg_lsn" 'U' false 8 true 'd' Base Int8 0;
        3802 3807 JSONB JSONB_ARRAY "jsonb" "jsonb" 'U' false -1 false 'i' Base Jsonb 0;
        4072 4073 JSONPATH JSONPATH_ARRAY "jsonpath" "jsonpath" 'U' false -1 false 'i' Base Text 0;
        4089 4090 REGNAMESPACE REGNAMESPACE_ARRAY "regnamespace" "regnamespace" 'N' false 4 true 'i' Base Oid 0;
        4096 4097 REGROLE REGROLE_ARRAY "regrole" "regrole" 'N' false 4 true 'i' Base Oid 0;
        4191 4192 REGCOLLATION REGCOLLATION_ARRAY "regcollation" "regcollation" 'N' false 4 true 'i' Base Oid 0;
        5069 271 XID8 XID8_ARRAY "xid8" "xid8" 'U' false 8 true 'd' Base Int8 0;
        2249 2287 RECORD RECORD_ARRAY "record" "record" 'P' false -1 false 'd' Pseudo Record 0;
        2275 1263 CSTRING CSTRING_ARRAY "cstring" "cstring" 'P' false -2 false 'c' Pseudo Text 0;
    }
    alone {
        194 PG_NODE_TREE "pg_node_tree" "pg_node_tree" 'Z' -1 false 'i' Base Text;
        705 UNKNOWN "unknown" "unknown" 'X' -2 false 'c' Pseudo Text;
        2276 ANY "any" "\"any\"" 'P' 4 true 'i' Pseudo None;
        2277 ANYARRAY "anyarray" "anyarray" 'P' -1 false 'd' Pseudo Array;
        2278 VOID "void" "void" 'P' 4 true 'i' Pseudo Text;
        2279 TRIGGER "trigger" "trigger" 'P' 4 true 'i' Pseudo None;
        2281 INTERNAL "internal" "internal" 'P' 8 true 'd' Pseudo None;
        2283 ANYELEMENT "anyelement" "anyelement" 'P' 4 true 'i' Pseudo None;
        2776 ANYNONARRAY "anynonarray" "anynonarray" 'P' 4 true 'i' Pseudo None;
        3500 ANYENUM "anyenum" "anyenum" 'P' 4 true 'i' Pseudo None;
        5077 ANYCOMPATIBLE "anycompatible" "anycompatible" 'P' 4 true 'i' Pseudo None;
        5078 ANYCOMPATIBLEARRAY "anycompatiblearray" "anycompatiblearray" 'P' -1 false 'd' Pseudo Array;
        5079 ANYCOMPATIBLENONARRAY "anycompatiblenonarray" "anycompatiblenonarray" 'P' 4 true 'i' Pseudo None;
    }
}

const HIGHEST: usize = 5079;
const ABSENT: u8 = u8::MAX;

/// Row number in [`TYPES`] by oid, so that `info` is one load.
static ROW_OF: [u8; HIGHEST + 1] = {
    let mut rows = [ABSENT; HIGHEST + 1];
    let mut row = 0;
    while row < TYPES.len() {
        rows[TYPES[row].oid as usize] = row as u8;
        row += 1;
    }
    rows
};

/// The row of `oid`, `None` for types that live in the catalog only (row types, enums, domains).
#[inline]
pub fn info(oid: Oid) -> Option<&'static TypeInfo> {
    match ROW_OF.get(oid as usize) {
        Some(&row) if row != ABSENT => Some(&TYPES[row as usize]),
        _ => None,
    }
}

/// How values of `oid` live in memory; [`Repr::None`] for types not in the table.
#[inline]
pub fn repr(oid: Oid) -> Repr {
    info(oid).map_or(Repr::None, |info| info.repr)
}

/// A type by its internal name (`int4`, `_int4`) or by the name SQL gives it (`integer`, `double precision`),
/// with `[]` for the array. The name is expected in lower case, without a schema.
pub fn by_name(name: &str) -> Option<&'static TypeInfo> {
    if let Some(element) = name.strip_suffix("[]") {
        return info(by_name(element.trim_end())?.array);
    }
    let name = match name {
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "real" => "float4",
        "double precision" | "float" => "float8",
        "decimal" | "dec" => "numeric",
        "boolean" => "bool",
        "character varying" | "char varying" => "varchar",
        "character" => "bpchar",
        "\"char\"" => "char",
        "\"any\"" => "any",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "time without time zone" => "time",
        "time with time zone" => "timetz",
        other => other,
    };
    TYPES.iter().find(|info| info.name == name)
}

/// The array type over `oid`, 0 when there is none.
pub fn array_of(oid: Oid) -> Oid {
    info(oid).map_or(0, |info| info.array)
}

/// The element type of an array type, 0 for anything else.
pub fn element_of(oid: Oid) -> Oid {
    info(oid).map_or(0, |info| info.element)
}

/// A type's name as PostgreSQL's `format_type` prints it, e.g. `numeric(10,2)`, `character varying(20)[]`.
/// A typmod of -1 prints none; unknown oids print `???`.
pub fn format_type(oid: Oid, typmod: i32) -> String {
    let Some(info) = info(oid) else { return "???".to_string() };
    if info.kind == TypeKind::Array {
        return format!("{}[]", format_type(info.element, typmod));
    }
    match (oid, typmod) {
        // PostgreSQL names the unconstrained type by its internal name: "character" would mean character(1).
        (oid::BPCHAR, -1) => "bpchar".to_string(),
        (_, -1) => info.sql_name.to_string(),
        (oid::BPCHAR | oid::VARCHAR, _) if typmod > 4 => format!("{}({})", info.sql_name, typmod - 4),
        (oid::NUMERIC, _) => match numeric_precision_scale(typmod) {
            Some((precision, scale)) => format!("numeric({precision},{scale})"),
            None => info.sql_name.to_string(),
        },
        (oid::TIME, _) => format!("time({typmod}) without time zone"),
        (oid::TIMETZ, _) => format!("time({typmod}) with time zone"),
        (oid::TIMESTAMP, _) => format!("timestamp({typmod}) without time zone"),
        (oid::TIMESTAMPTZ, _) => format!("timestamp({typmod}) with time zone"),
        (oid::INTERVAL, _) => {
            let fields = interval_fields_name(typmod);
            let space = if fields.is_empty() { "" } else { " " };
            match interval_precision(typmod) {
                Some(precision) => format!("interval{space}{fields}({precision})"),
                None => format!("interval{space}{fields}"),
            }
        }
        _ => info.sql_name.to_string(),
    }
}

/// The typmod of `varchar(length)` and `char(length)`.
pub const fn length_typmod(length: i32) -> i32 {
    length + 4
}

/// The length of a varchar or bpchar typmod in characters, `None` without one.
pub const fn length_of_typmod(typmod: i32) -> Option<i32> {
    if typmod < 4 { None } else { Some(typmod - 4) }
}

/// The typmod of `numeric(precision, scale)`; the scale may be negative.
pub const fn numeric_typmod(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}

/// Precision and scale of a numeric typmod, `None` when it is unbounded.
pub const fn numeric_precision_scale(typmod: i32) -> Option<(i32, i32)> {
    if typmod < 4 {
        return None;
    }
    let bits = typmod - 4;
    // The scale is an 11 bit two's complement number.
    Some(((bits >> 16) & 0xffff, ((bits & 0x7ff) ^ 1024) - 1024))
}

/// Bits of an interval typmod: which fields are kept, by PostgreSQL's field numbers.
pub mod interval_field {
    pub const YEAR: i32 = 1 << 2;
    pub const MONTH: i32 = 1 << 1;
    pub const DAY: i32 = 1 << 3;
    pub const HOUR: i32 = 1 << 10;
    pub const MINUTE: i32 = 1 << 11;
    pub const SECOND: i32 = 1 << 12;
    pub const FULL_RANGE: i32 = 0x7fff;
    pub const FULL_PRECISION: i32 = 0xffff;
}

/// The typmod of `interval <fields>(precision)`: `fields` is an or of [`interval_field`] bits or `FULL_RANGE`.
pub const fn interval_typmod(fields: i32, precision: Option<i32>) -> i32 {
    let precision = match precision {
        Some(precision) => precision,
        None => interval_field::FULL_PRECISION,
    };
    ((fields & 0x7fff) << 16) | (precision & 0xffff)
}

/// The fields an interval typmod keeps, `FULL_RANGE` for all.
pub const fn interval_fields(typmod: i32) -> i32 {
    if typmod < 0 { interval_field::FULL_RANGE } else { (typmod >> 16) & 0x7fff }
}

/// Digits of the fraction of a second that an interval typmod keeps.
pub const fn interval_precision(typmod: i32) -> Option<i32> {
    if typmod < 0 || (typmod & 0xffff) == interval_field::FULL_PRECISION {
        None
    } else {
        Some(typmod & 0xffff)
    }
}

/// Every `INTERVAL` field list SQL knows, with its bits.
pub const INTERVAL_FIELDS: &[(&str, i32)] = {
    use interval_field::*;
    &[
        ("year", YEAR),
        ("month", MONTH),
        ("day", DAY),
        ("hour", HOUR),
        ("minute", MINUTE),
        ("second", SECOND),
        ("year to month", YEAR | MONTH),
        ("day to hour", DAY | HOUR),
        ("day to minute", DAY | HOUR | MINUTE),
        ("day to second", DAY | HOUR | MINUTE | SECOND),
        ("hour to minute", HOUR | MINUTE),
        ("hour to second", HOUR | MINUTE | SECOND),
        ("minute to second", MINUTE | SECOND),
    ]
};

fn interval_fields_name(typmod: i32) -> &'static str {
    let fields = interval_fields(typmod);
    INTERVAL_FIELDS.iter().find(|(_, bits)| *bits == fields).map_or("", |(name, _)| name)
}

/// The typmod for the numbers written in parentheses after a type name, with PostgreSQL's checks:
/// `numeric(p[,s])`, `varchar(n)`, `char(n)`, `time(p)`, `timestamp(p)`, `interval(p)`.
/// Errors: 22023 out of range, 42601 for a type that takes none.
pub fn typmod_of_modifiers(oid: Oid, modifiers: &[i32]) -> Result<i32> {
    let out_of_range = |message: String| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let element =
        if info(oid).is_some_and(|info| info.kind == TypeKind::Array) { element_of(oid) } else { oid };
    match (element, modifiers) {
        (_, []) => Ok(-1),
        (oid::BPCHAR | oid::VARCHAR, [length]) => {
            let name = if element == oid::BPCHAR { "char" } else { "varchar" };
            if *length < 1 {
                return Err(out_of_range(format!("length for type {name} must be at least 1")));
            }
            if *length > 10_485_760 {
                return Err(out_of_range(format!("length for type {name} cannot exceed 10485760")));
            }
            Ok(length_typmod(*length))
        }
        (oid::NUMERIC, [precision] | [precision, _]) => {
            let scale = modifiers.get(1).copied().unwrap_or(0);
            if !(1..=1000).contains(precision) {
                return Err(out_of_range(format!(
                    "NUMERIC precision {precision} must be between 1 and 1000"
                )));
            }
            if !(-1000..=1000).contains(&scale) {
                return Err(out_of_range(format!("NUMERIC scale {scale} must be between -1000 and 1000")));
            }
            Ok(numeric_typmod(*precision, scale))
        }
        (oid::NUMERIC, _) => Err(out_of_range("invalid NUMERIC type modifier".to_string())),
        (oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ, [precision]) => {
            let name = if matches!(element, oid::TIME | oid::TIMETZ) { "TIME" } else { "TIMESTAMP" };
            let zone = if matches!(element, oid::TIMETZ | oid::TIMESTAMPTZ) { " WITH TIME ZONE" } else { "" };
            if *precision < 0 {
                return Err(out_of_range(format!(
                    "{name}({precision}){zone} precision must not be negative"
                )));
            }
            Ok((*precision).min(6))
        }
        (oid::INTERVAL, [precision]) => {
            if *precision < 0 {
                return Err(out_of_range(format!("INTERVAL({precision}) precision must not be negative")));
            }
            Ok(interval_typmod(interval_field::FULL_RANGE, Some((*precision).min(6))))
        }
        (
            oid::BPCHAR
            | oid::VARCHAR
            | oid::TIME
            | oid::TIMETZ
            | oid::TIMESTAMP
            | oid::TIMESTAMPTZ
            | oid::INTERVAL,
            _,
        ) => Err(out_of_range("invalid type modifier".to_string())),
        _ => Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "type modifier is not allowed for type \"{}\"",
                info(oid).map_or("???", |info| info.name)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_modifiers() {
        for info in TYPES {
            assert_eq!(super::info(info.oid).map(|i| i.name), Some(info.name));
            if info.array != 0 {
                assert_eq!(element_of(info.array), info.oid);
            }
        }
        for (name, oid) in [
            ("integer", oid::INT4),
            ("int[]", oid::INT4_ARRAY),
            ("_text", oid::TEXT_ARRAY),
            ("character varying", oid::VARCHAR),
            ("timestamp with time zone", oid::TIMESTAMPTZ),
        ] {
            assert_eq!(by_name(name).map(|i| i.oid), Some(oid), "{name}");
        }
        assert!(by_name("nonsense").is_none());
        assert_eq!(format_type(oid::NUMERIC, numeric_typmod(10, -2)), "numeric(10,-2)");
        assert_eq!(format_type(oid::VARCHAR_ARRAY, 24), "character varying(20)[]");
        assert_eq!(format_type(oid::BPCHAR, -1), "bpchar");
        assert_eq!(format_type(oid::TIMESTAMPTZ, 3), "timestamp(3) with time zone");
        let typmod = interval_typmod(interval_field::DAY | interval_field::HOUR, None);
        assert_eq!(format_type(oid::INTERVAL, typmod), "interval day to hour");
        assert_eq!(numeric_precision_scale(numeric_typmod(1000, 1000)), Some((1000, 1000)));
    }
}
