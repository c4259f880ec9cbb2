//! Relations about types, functions, operators and index methods: what is built in.

use std::collections::HashMap;
use std::sync::LazyLock;

use engine::catalog::oid as fixed;
use function::{CastContext, CastMethod, Volatility};
use value::types::{self, TYPES, TypeKind, oid};
use value::{Datum, Oid};

use super::{Filled, array, letter, text, texts, vector};
use crate::scope::Scope;

/// Oids of a type's functions, in the order of `type_io.txt`.
struct TypeIo {
    functions: [Oid; 7],
    storage: char,
    collation: Oid,
    subscript: Oid,
}

static TYPE_IO: LazyLock<HashMap<Oid, TypeIo>> = LazyLock::new(|| {
    include_str!("type_io.txt")
        .lines()
        .filter_map(|line| {
            let w: Vec<&str> = line.split(' ').collect();
            let number = |n: usize| w.get(n).and_then(|t| t.parse::<Oid>().ok()).unwrap_or(0);
            let functions = [number(1), number(2), number(3), number(4), number(5), number(6), number(7)];
            let storage = w.get(8).and_then(|t| t.chars().next()).unwrap_or('p');
            Some((
                w.first()?.parse().ok()?,
                TypeIo { functions, storage, collation: number(9), subscript: number(10) },
            ))
        })
        .collect()
});

struct IoFunction {
    oid: Oid,
    name: &'static str,
    returns: Oid,
    args: Vec<Oid>,
}

static IO_FUNCTIONS: LazyLock<Vec<IoFunction>> = LazyLock::new(|| {
    include_str!("io_functions.txt")
        .lines()
        .filter_map(|line| {
            let mut w = line.split(' ');
            Some(IoFunction {
                oid: w.next()?.parse().ok()?,
                name: w.next()?,
                returns: w.next()?.parse().ok()?,
                args: w.next().unwrap_or("").split(',').filter_map(|t| t.parse().ok()).collect(),
            })
        })
        .collect()
});

struct OpClass {
    oid: Oid,
    method: &'static str,
    name: &'static str,
    family: Oid,
    family_name: &'static str,
    ty: Oid,
    default: bool,
    key: Oid,
}

static OPCLASSES: LazyLock<Vec<OpClass>> = LazyLock::new(|| {
    include_str!("opclasses.txt")
        .lines()
        .filter_map(|line| {
            let w: Vec<&'static str> = line.split(' ').collect();
            Some(OpClass {
                oid: w.first()?.parse().ok()?,
                method: w.get(1)?,
                name: w.get(2)?,
                family: w.get(3)?.parse().ok()?,
                family_name: w.get(4)?,
                ty: w.get(5)?.parse().ok()?,
                default: *w.get(6)? == "t",
                key: w.get(7)?.parse().ok()?,
            })
        })
        .collect()
});

/// The collation of a type's columns: the default one for strings.
pub fn collation_of(ty: Oid) -> Oid {
    TYPE_IO.get(&ty).map_or(0, |io| io.collation)
}

pub fn storage_of(ty: Oid) -> char {
    TYPE_IO.get(&ty).map_or('p', |io| io.storage)
}

/// The default operator class of an index method for a type.
pub fn opclass_of(method: &str, ty: Oid) -> Oid {
    let wanted = match ty {
        oid::VARCHAR => oid::TEXT,
        ty if types::element_of(ty) != 0 => oid::ANYARRAY,
        ty => ty,
    };
    OPCLASSES.iter().find(|c| c.method == method && c.default && c.ty == wanted).map_or(0, |c| c.oid)
}

/// A function's name by oid, whoever declares it.
pub fn function_name(wanted: Oid) -> Option<&'static str> {
    if let Some(found) = function::function_by_oid(wanted) {
        return Some(found.name);
    }
    if let Some(found) = function::aggregate_by_oid(wanted) {
        return Some(found.name);
    }
    IO_FUNCTIONS.iter().find(|f| f.oid == wanted).map(|f| f.name)
}

/// A function's oid by name, the first one of that name.
pub fn function_oid(name: &str) -> Option<Oid> {
    function::functions()
        .find(|f| f.name == name)
        .map(|f| f.oid)
        .or_else(|| function::aggregates().find(|a| a.name == name).map(|a| a.oid))
        .or_else(|| IO_FUNCTIONS.iter().find(|f| f.name == name).map(|f| f.oid))
}

/// Argument types and result of a function.
pub fn signature(wanted: Oid) -> Option<(&'static str, Vec<Oid>, Oid)> {
    if let Some(found) = function::function_by_oid(wanted) {
        return Some((found.name, found.args.to_vec(), found.returns));
    }
    if let Some(found) = function::aggregate_by_oid(wanted) {
        return Some((found.name, found.args.to_vec(), found.returns));
    }
    if let Some(found) = function::set_functions().find(|f| f.oid == wanted) {
        return Some((found.name, found.args.to_vec(), found.returns));
    }
    if let Some(found) = function::window_functions().find(|f| f.oid == wanted) {
        return Some((found.name, found.args.to_vec(), found.returns));
    }
    IO_FUNCTIONS.iter().find(|f| f.oid == wanted).map(|f| (f.name, f.args.clone(), f.returns))
}

pub fn rows(_: &Scope, name: &str) -> Option<Filled> {
    Some(match name {
        "pg_type" => pg_type(),
        "pg_proc" => pg_proc(),
        "pg_operator" => pg_operator(),
        "pg_cast" => pg_cast(),
        "pg_aggregate" => pg_aggregate(),
        "pg_am" => Filled {
            columns: &["oid", "amname", "amhandler", "amtype"],
            rows: [(2, "heap", 't'), (403, "btree", 'i'), (405, "hash", 'i')]
                .iter()
                .map(|(oid, name, kind)| vec![Datum::Oid(*oid), text(name), Datum::Oid(0), letter(*kind)])
                .collect(),
        },
        "pg_language" => Filled {
            columns: &["oid", "lanname", "lanowner", "lanispl", "lanpltrusted"],
            rows: [(12, "internal", false), (13, "c", false), (14, "sql", true)]
                .iter()
                .map(|(oid, name, trusted)| {
                    vec![
                        Datum::Oid(*oid),
                        text(name),
                        Datum::Oid(10),
                        Datum::Bool(false),
                        Datum::Bool(*trusted),
                    ]
                })
                .collect(),
        },
        "pg_collation" => Filled {
            columns: &[
                "oid",
                "collname",
                "collnamespace",
                "collowner",
                "collprovider",
                "collisdeterministic",
                "collencoding",
                "collcollate",
                "collctype",
            ],
            rows: [
                (100, "default", 'd', ""),
                (950, "C", 'c', "C"),
                (951, "POSIX", 'c', "POSIX"),
                (12342, "ucs_basic", 'c', "C"),
            ]
            .iter()
            .map(|(oid, name, provider, locale)| {
                vec![
                    Datum::Oid(*oid),
                    text(name),
                    Datum::Oid(fixed::PG_CATALOG),
                    Datum::Oid(10),
                    letter(*provider),
                    Datum::Bool(true),
                    Datum::Int4(if *oid == 12342 { 6 } else { -1 }),
                    text(locale),
                    text(locale),
                ]
            })
            .collect(),
        },
        "pg_opclass" => Filled {
            columns: &[
                "oid",
                "opcmethod",
                "opcname",
                "opcnamespace",
                "opcowner",
                "opcfamily",
                "opcintype",
                "opcdefault",
                "opckeytype",
            ],
            rows: OPCLASSES
                .iter()
                .map(|c| {
                    vec![
                        Datum::Oid(c.oid),
                        Datum::Oid(if c.method == "hash" { 405 } else { 403 }),
                        text(c.name),
                        Datum::Oid(fixed::PG_CATALOG),
                        Datum::Oid(10),
                        Datum::Oid(c.family),
                        Datum::Oid(c.ty),
                        Datum::Bool(c.default),
                        Datum::Oid(c.key),
                    ]
                })
                .collect(),
        },
        "pg_opfamily" => {
            let mut seen = Vec::new();
            let mut rows = Vec::new();
            for c in OPCLASSES.iter() {
                if !seen.contains(&c.family) {
                    seen.push(c.family);
                    rows.push(vec![
                        Datum::Oid(c.family),
                        Datum::Oid(if c.method == "hash" { 405 } else { 403 }),
                        text(c.family_name),
                        Datum::Oid(fixed::PG_CATALOG),
                        Datum::Oid(10),
                    ]);
                }
            }
            Filled { columns: &["oid", "opfmethod", "opfname", "opfnamespace", "opfowner"], rows }
        }
        "pg_timezone_names" => timezones(),
        _ => return None,
    })
}

fn pg_type() -> Filled {
    let rows = TYPES
        .iter()
        .map(|t| {
            let io = TYPE_IO.get(&t.oid);
            let function = |n: usize| Datum::Oid(io.map_or(0, |io| io.functions[n]));
            vec![
                Datum::Oid(t.oid),
                text(t.name),
                Datum::Oid(fixed::PG_CATALOG),
                Datum::Oid(10),
                Datum::Int2(t.len),
                Datum::Bool(t.by_value),
                letter(if t.kind == TypeKind::Pseudo { 'p' } else { 'b' }),
                letter(t.category),
                Datum::Bool(t.preferred),
                Datum::Bool(true),
                letter(','),
                Datum::Oid(io.map_or(0, |io| io.subscript)),
                Datum::Oid(t.element),
                Datum::Oid(t.array),
                function(0),
                function(1),
                function(2),
                function(3),
                function(4),
                function(5),
                function(6),
                letter(t.align),
                letter(storage_of(t.oid)),
                Datum::Int4(-1),
                Datum::Oid(collation_of(t.oid)),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "oid",
            "typname",
            "typnamespace",
            "typowner",
            "typlen",
            "typbyval",
            "typtype",
            "typcategory",
            "typispreferred",
            "typisdefined",
            "typdelim",
            "typsubscript",
            "typelem",
            "typarray",
            "typinput",
            "typoutput",
            "typreceive",
            "typsend",
            "typmodin",
            "typmodout",
            "typanalyze",
            "typalign",
            "typstorage",
            "typtypmod",
            "typcollation",
        ],
        rows,
    }
}

struct Proc<'a> {
    oid: Oid,
    name: &'a str,
    args: &'a [Oid],
    arg_names: &'a [&'a str],
    returns: Oid,
    kind: char,
    strict: bool,
    set: bool,
    volatility: Volatility,
    variadic: bool,
    defaults: usize,
    rows: f32,
    columns: &'a [(&'static str, Oid)],
}

fn proc_row(p: Proc<'_>) -> Vec<Datum> {
    let oids = |list: &[Oid]| list.iter().map(|o| Datum::Oid(*o)).collect::<Vec<_>>();
    let variadic = match p.args.last() {
        Some(last) if p.variadic => {
            if *last == oid::ANY {
                oid::ANY
            } else {
                match types::element_of(*last) {
                    0 if *last == oid::ANYARRAY => oid::ANYELEMENT,
                    0 => oid::ANY,
                    element => element,
                }
            }
        }
        _ => 0,
    };
    let (mut all, mut modes, mut names) = (Datum::Null, Datum::Null, Datum::Null);
    if !p.columns.is_empty() && p.columns.len() > 1 {
        let types: Vec<Oid> = p.args.iter().copied().chain(p.columns.iter().map(|c| c.1)).collect();
        all = array(oid::OID, oids(&types));
        let letters = p.args.iter().map(|_| letter('i')).chain(p.columns.iter().map(|_| letter('o')));
        modes = array(oid::CHAR, letters.collect());
        let given = p.args.iter().enumerate().map(|(n, _)| p.arg_names.get(n).copied().unwrap_or(""));
        names = texts(given.chain(p.columns.iter().map(|c| c.0)));
    } else if !p.arg_names.is_empty() {
        names = texts(p.arg_names.iter().copied());
    }
    vec![
        Datum::Oid(p.oid),
        text(p.name),
        Datum::Oid(fixed::PG_CATALOG),
        Datum::Oid(10),
        Datum::Oid(12),
        Datum::Float4(1.0),
        Datum::Float4(p.rows),
        Datum::Oid(variadic),
        letter(p.kind),
        Datum::Bool(p.strict),
        Datum::Bool(p.set),
        letter(match p.volatility {
            Volatility::Immutable => 'i',
            Volatility::Stable => 's',
            Volatility::Volatile => 'v',
        }),
        letter('s'),
        Datum::Int2(p.args.len() as i16),
        Datum::Int2(p.defaults as i16),
        Datum::Oid(p.returns),
        vector(oid::OID, oids(p.args)),
        all,
        modes,
        names,
        text(p.name),
    ]
}

fn pg_proc() -> Filled {
    let base = Proc {
        oid: 0,
        name: "",
        args: &[],
        arg_names: &[],
        returns: 0,
        kind: 'f',
        strict: true,
        set: false,
        volatility: Volatility::Immutable,
        variadic: false,
        defaults: 0,
        rows: 0.0,
        columns: &[],
    };
    let mut rows = Vec::new();
    let mut seen = std::collections::HashSet::new();
    // What the resolver alone calls starts with a control character and is nobody's business.
    let public = |name: &str| !name.starts_with('\u{1}');
    for f in function::functions().filter(|f| public(f.name)) {
        seen.insert(f.oid);
        rows.push(proc_row(Proc {
            oid: f.oid,
            name: f.name,
            args: f.args,
            arg_names: f.arg_names,
            returns: f.returns,
            strict: f.strict,
            volatility: f.volatility,
            variadic: f.variadic,
            defaults: f.defaults,
            ..base
        }));
    }
    for a in function::aggregates() {
        rows.push(proc_row(Proc {
            oid: a.oid,
            name: a.name,
            args: a.args,
            returns: a.returns,
            kind: 'a',
            strict: false,
            variadic: a.variadic,
            ..base
        }));
    }
    for w in function::window_functions() {
        rows.push(proc_row(Proc {
            oid: w.oid,
            name: w.name,
            args: w.args,
            returns: w.returns,
            kind: 'w',
            ..base
        }));
    }
    for s in function::set_functions().filter(|s| public(s.name)) {
        rows.push(proc_row(Proc {
            oid: s.oid,
            name: s.name,
            args: s.args,
            returns: s.returns,
            set: true,
            strict: s.strict,
            volatility: s.volatility,
            variadic: s.variadic,
            defaults: s.defaults,
            rows: s.rows as f32,
            columns: s.columns,
            ..base
        }));
    }
    for f in IO_FUNCTIONS.iter().filter(|f| !seen.contains(&f.oid)) {
        rows.push(proc_row(Proc {
            oid: f.oid,
            name: f.name,
            args: &f.args,
            returns: f.returns,
            volatility: Volatility::Stable,
            ..base
        }));
    }
    Filled {
        columns: &[
            "oid",
            "proname",
            "pronamespace",
            "proowner",
            "prolang",
            "procost",
            "prorows",
            "provariadic",
            "prokind",
            "proisstrict",
            "proretset",
            "provolatile",
            "proparallel",
            "pronargs",
            "pronargdefaults",
            "prorettype",
            "proargtypes",
            "proallargtypes",
            "proargmodes",
            "proargnames",
            "prosrc",
        ],
        rows,
    }
}

fn pg_operator() -> Filled {
    let find = |name: Option<&str>, left: Option<Oid>, right: Oid| -> Oid {
        let Some(name) = name else { return 0 };
        function::operators()
            .find(|o| o.name == name && o.left == left && o.right == right)
            .map_or(0, |o| o.oid)
    };
    let rows = function::operators()
        .map(|o| {
            vec![
                Datum::Oid(o.oid),
                text(o.name),
                Datum::Oid(fixed::PG_CATALOG),
                Datum::Oid(10),
                letter(if o.left.is_some() { 'b' } else { 'l' }),
                Datum::Bool(o.class == Some(function::Strategy::Eq)),
                Datum::Bool(o.class == Some(function::Strategy::Eq)),
                Datum::Oid(o.left.unwrap_or(0)),
                Datum::Oid(o.right),
                Datum::Oid(o.function.returns),
                Datum::Oid(o.left.map_or(0, |left| find(o.commutator, Some(o.right), left))),
                Datum::Oid(find(o.negator, o.left, o.right)),
                Datum::Oid(o.function.oid),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "oid",
            "oprname",
            "oprnamespace",
            "oprowner",
            "oprkind",
            "oprcanmerge",
            "oprcanhash",
            "oprleft",
            "oprright",
            "oprresult",
            "oprcom",
            "oprnegate",
            "oprcode",
        ],
        rows,
    }
}

fn pg_cast() -> Filled {
    let rows = function::casts()
        .enumerate()
        .map(|(n, c)| {
            let (method, function) = match c.method {
                CastMethod::Function(f) => ('f', f.oid),
                CastMethod::Relabel => ('b', 0),
                CastMethod::InOut => ('i', 0),
            };
            vec![
                Datum::Oid(10_100 + n as Oid),
                Datum::Oid(c.source),
                Datum::Oid(c.target),
                Datum::Oid(function),
                letter(match c.context {
                    CastContext::Implicit => 'i',
                    CastContext::Assignment => 'a',
                    CastContext::Explicit => 'e',
                }),
                letter(method),
            ]
        })
        .collect();
    Filled { columns: &["oid", "castsource", "casttarget", "castfunc", "castcontext", "castmethod"], rows }
}

fn pg_aggregate() -> Filled {
    let rows = function::aggregates()
        .map(|a| {
            let (kind, direct) = match a.kind {
                function::AggregateKind::Normal => ('n', 0),
                function::AggregateKind::OrderedSet { direct } => ('o', direct),
            };
            vec![Datum::Oid(a.oid), letter(kind), Datum::Int2(direct as i16), letter('r'), letter('r')]
        })
        .collect();
    Filled {
        columns: &["aggfnoid", "aggkind", "aggnumdirectargs", "aggfinalmodify", "aggmfinalmodify"],
        rows,
    }
}

fn timezones() -> Filled {
    let now = value::datetime::now();
    let rows = jiff::tz::db()
        .available()
        .filter_map(|name| {
            let name = name.to_string();
            let zone = value::datetime::parse_zone(&name).ok()?;
            let offset = value::datetime::zone_offset(&zone, now);
            Some(vec![
                text(&name),
                text(&value::datetime::zone_abbreviation(&zone, now)),
                Datum::Interval(value::Interval {
                    months: 0,
                    days: 0,
                    micros: i64::from(offset) * 1_000_000,
                }),
                Datum::Bool(false),
            ])
        })
        .collect();
    Filled { columns: &["name", "abbrev", "utc_offset", "is_dst"], rows }
}
