//! Holds every function against what PostgreSQL 15 gives: `expectations.txt` lists expressions with their results.
//! Functions and operators are chosen by the selection rules, arguments coerced as the resolver would, and every
//! aggregate is run three ways: row by row, in two halves that are merged, and with rows taken back.

use std::sync::Arc;

use function::{
    Accumulator, AggregateKind, Call, Callable, CastMethod, Environment, Function, Selected, Signature,
    find_cast, select_function, select_operator,
};
use value::text::Style;
use value::types::{by_name, element_of, oid};
use value::{Array, Datum, Error, Oid, Result, Type};

struct Session(Style);

impl Environment for Session {
    fn style(&self) -> &Style {
        &self.0
    }

    fn transaction_time(&self) -> i64 {
        0
    }

    fn statement_time(&self) -> i64 {
        0
    }

    fn setting(&self, _: &str) -> Option<String> {
        None
    }

    fn system(&self, function: &'static Function, _: &[Datum]) -> Result<Datum> {
        Err(Error::internal(format!("{function:?} needs a session")))
    }
}

#[derive(Clone, Debug)]
struct Operand {
    ty: Oid,
    value: Datum,
}

/// Operands and operators, in the order written.
#[derive(Debug)]
enum Token {
    Operand(Operand),
    Symbol(String),
    Open(String),
    Close,
    Comma,
}

fn tokens(text: &str, style: &Style) -> Result<Vec<Token>> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    let string = |at: &mut usize, escapes: bool| {
        let mut literal = String::new();
        *at += 1;
        loop {
            match chars[*at] {
                '\'' if chars.get(*at + 1) == Some(&'\'') => {
                    literal.push('\'');
                    *at += 2;
                }
                '\'' => {
                    *at += 1;
                    return literal;
                }
                '\\' if escapes && chars[*at + 1] == 'n' => {
                    literal.push('\n');
                    *at += 2;
                }
                c => {
                    literal.push(c);
                    *at += 1;
                }
            }
        }
    };
    while at < chars.len() {
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
        } else if c == ',' || c == ')' {
            out.push(if c == ',' { Token::Comma } else { Token::Close });
            at += 1;
        } else if c == '\'' {
            let literal = string(&mut at, false);
            out.push(Token::Operand(Operand { ty: oid::UNKNOWN, value: Datum::text(literal) }));
        } else if c.is_ascii_digit() || (c == '-' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) {
            let start = at;
            at += 1;
            while chars.get(at).is_some_and(|c| c.is_ascii_digit() || *c == '.') {
                at += 1;
            }
            let number: String = chars[start..at].iter().collect();
            let ty = if number.contains('.') {
                oid::NUMERIC
            } else if number.parse::<i32>().is_ok() {
                oid::INT4
            } else {
                oid::INT8
            };
            out.push(Token::Operand(Operand {
                ty,
                value: value::text::input(Type::new(ty), &number, style)?,
            }));
        } else if c.is_alphabetic() || c == '_' {
            let start = at;
            while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            let next = chars.get(at..).map(|rest| rest.iter().collect::<String>()).unwrap_or_default();
            if word == "E" && next.starts_with('\'') {
                let literal = string(&mut at, true);
                out.push(Token::Operand(Operand { ty: oid::UNKNOWN, value: Datum::text(literal) }));
            } else if next.starts_with('(') {
                at += 1;
                out.push(Token::Open(word));
            } else if word == "NULL" {
                let mut ty = oid::UNKNOWN;
                if let Some(name) = next.strip_prefix("::") {
                    let name: String =
                        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    at += 2 + name.len();
                    ty = by_name(&name).unwrap_or_else(|| panic!("type {name}")).oid;
                }
                out.push(Token::Operand(Operand { ty, value: Datum::Null }));
            } else if let (Some(info), true) =
                (by_name(&word), next.starts_with(" '") || next.starts_with(" E'"))
            {
                let escapes = next.starts_with(" E");
                at += if escapes { 2 } else { 1 };
                let literal = string(&mut at, escapes);
                let value = value::text::input(Type::new(info.oid), &literal, style)?;
                out.push(Token::Operand(Operand { ty: info.oid, value }));
            } else if word == "LIKE" {
                out.push(Token::Symbol("~~".to_string()));
            } else {
                panic!("{word} in {text}");
            }
        } else {
            let start = at;
            while chars.get(at).is_some_and(|c| !c.is_whitespace() && !c.is_alphanumeric() && *c != '\'') {
                at += 1;
            }
            out.push(Token::Symbol(chars[start..at].iter().collect()));
        }
    }
    Ok(out)
}

fn call(
    session: &Session,
    function: &'static Function,
    signature: &Signature,
    args: &[Datum],
) -> Result<Datum> {
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    (function.call)(&mut Call { env: session, signature, state: &mut None }, args)
}

/// What the resolver's coercion does.
fn coerce(session: &Session, operand: &Operand, to: Oid) -> Result<Datum> {
    let (from, value) = (operand.ty, operand.value.clone());
    if value.is_null() || from == to || to == oid::ANY {
        return Ok(value);
    }
    if from == oid::UNKNOWN {
        let Datum::Text(text) = &value else { panic!("{operand:?}") };
        return value::text::input(Type::new(to), text, &session.0);
    }
    match find_cast(from, to).map(|cast| cast.method) {
        Some(CastMethod::Relabel) => Ok(value),
        Some(CastMethod::Function(function)) => {
            let signature = Signature { args: vec![Type::new(from)], result: Type::new(to) };
            call(session, function, &signature, &[value])
        }
        Some(CastMethod::InOut) => value::text::input(
            Type::new(to),
            &value::text::output_string(&value, from, &session.0),
            &session.0,
        ),
        None => match value {
            Datum::Array(array) if element_of(to) != 0 => {
                let element = element_of(to);
                let values = array
                    .values
                    .iter()
                    .map(|v| coerce(session, &Operand { ty: array.element, value: v.clone() }, element))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Datum::Array(Arc::new(Array { element, dims: array.dims.clone(), values })))
            }
            _ => value::text::input(
                Type::new(to),
                &value::text::output_string(&value, from, &session.0),
                &session.0,
            ),
        },
    }
}

fn coerced<T>(
    session: &Session,
    selected: &Selected<T>,
    operands: &[Operand],
) -> Result<(Signature, Vec<Datum>)> {
    let args = operands
        .iter()
        .zip(&selected.arg_types)
        .map(|(operand, &ty)| coerce(session, operand, ty))
        .collect::<Result<Vec<_>>>()?;
    let signature = Signature {
        args: selected.arg_types.iter().map(|&ty| Type::new(ty)).collect(),
        result: Type::new(selected.result),
    };
    Ok((signature, args))
}

fn shown(session: &Session, value: &Datum, ty: Oid) -> String {
    match value {
        Datum::Null => "NULL".to_string(),
        value => value::text::output_string(value, ty, &session.0).replace('\\', "\\\\").replace('\n', "\\n"),
    }
}

fn operands_of(tokens: &[Token]) -> Vec<Operand> {
    tokens
        .iter()
        .filter_map(|token| match token {
            Token::Operand(operand) => Some(operand.clone()),
            _ => None,
        })
        .collect()
}

fn expression(session: &Session, text: &str) -> Result<String> {
    let tokens = tokens(text, &session.0)?;
    let operands = operands_of(&tokens);
    match tokens.as_slice() {
        [Token::Open(name), .., Token::Close] => {
            let types: Vec<Oid> = operands.iter().map(|operand| operand.ty).collect();
            let selected = select_function(name, &types)?;
            let (signature, args) = coerced(session, &selected, &operands)?;
            let value = match selected.target {
                Callable::Function(function) => call(session, function, &signature, &args)?,
                Callable::Coercion(ty) => coerce(session, &operands[0], ty)?,
                Callable::Aggregate(aggregate) => {
                    let mut accumulator = (aggregate.start)(&signature, session);
                    accumulator.add(&args)?;
                    accumulator.finish()?
                }
                other => panic!("{other:?}"),
            };
            Ok(shown(session, &value, selected.result))
        }
        [Token::Open(name), Token::Close, Token::Symbol(symbol), Token::Operand(right)] => {
            let left = select_function(name, &[])?;
            let selected = select_operator(symbol, Some(left.result), right.ty)?;
            panic!("{selected:?}");
        }
        [Token::Symbol(symbol), Token::Operand(right)] => {
            let selected = select_operator(symbol, None, right.ty)?;
            let (signature, args) = coerced(session, &selected, &operands)?;
            let value = call(session, selected.target, &signature, &args)?;
            Ok(shown(session, &value, selected.result))
        }
        [Token::Operand(left), Token::Symbol(symbol), Token::Operand(right)] => {
            let selected = select_operator(symbol, Some(left.ty), right.ty)?;
            let (signature, args) = coerced(session, &selected, &operands)?;
            let value = call(session, selected.target, &signature, &args)?;
            Ok(shown(session, &value, selected.result))
        }
        other => panic!("{other:?} in {text}"),
    }
}

fn aggregate(session: &Session, text: &str) -> Result<String> {
    let (head, rows) = text.split_once(':').expect("a colon");
    let (name, types) = head.trim_end_matches(')').split_once('(').expect("types");
    let types: Vec<Oid> = types.split(',').map(|name| by_name(name).expect("a type").oid).collect();
    let mut selected = select_function(name, &types)?;
    let Callable::Aggregate(aggregate) = selected.target else { panic!("{name} is no aggregate") };
    if let AggregateKind::OrderedSet { direct } = aggregate.kind {
        assert!(direct <= types.len());
    }
    if selected.arg_types.is_empty() {
        selected.arg_types = types.clone();
    }
    let mut inputs = Vec::new();
    for row in rows.split('|').map(str::trim).filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = match types.len() {
            1 => vec![row],
            _ => row.splitn(types.len(), ' ').collect(),
        };
        let operands = cells
            .iter()
            .zip(&types)
            .map(|(cell, &ty)| {
                let value = match *cell {
                    "NULL" => Datum::Null,
                    cell => value::text::input(Type::new(ty), cell, &session.0)?,
                };
                Ok(Operand { ty, value })
            })
            .collect::<Result<Vec<_>>>()?;
        let (_, args) = coerced(session, &selected, &operands)?;
        if !aggregate.strict || !args.iter().any(Datum::is_null) {
            inputs.push(args);
        }
    }
    let signature = Signature {
        args: selected.arg_types.iter().map(|&ty| Type::new(ty)).collect(),
        result: Type::new(selected.result),
    };
    let start = || (aggregate.start)(&signature, session);
    let mut whole = start();
    for row in &inputs {
        whole.add(row)?;
    }
    let result = shown(session, &whole.finish()?, selected.result);

    let half = inputs.len() / 2;
    let (mut first, mut second) = (start(), start());
    for (at, row) in inputs.iter().enumerate() {
        if at < half { first.add(row)? } else { second.add(row)? }
    }
    first.merge(&second.state()?)?;
    let merged = shown(session, &first.finish()?, selected.result);
    let exact =
        !name.starts_with("json_agg") && !types.iter().any(|ty| [oid::FLOAT4, oid::FLOAT8].contains(ty));
    if exact {
        assert_eq!(merged, result, "{text}, merged from halves");
    }

    // The first row twice and taken back once is the first row once.
    if let Some(row) = inputs.first() {
        let mut moving: Box<dyn Accumulator> = start();
        moving.add(row)?;
        for row in &inputs {
            moving.add(row)?;
        }
        if moving.remove(row)? {
            assert_eq!(
                shown(session, &moving.finish()?, selected.result),
                result,
                "{text}, one row taken back"
            );
        }
        moving.reset();
        assert_eq!(
            shown(session, &moving.finish()?, selected.result),
            shown(session, &start().finish()?, selected.result),
            "{text}, reset"
        );
    }
    Ok(result)
}

fn set(session: &Session, text: &str) -> Result<String> {
    let tokens = tokens(text, &session.0)?;
    let Some(Token::Open(name)) = tokens.first() else { panic!("{text}") };
    let operands = operands_of(&tokens);
    let types: Vec<Oid> = operands.iter().map(|operand| operand.ty).collect();
    let selected = select_function(name, &types)?;
    let Callable::Set(set) = selected.target else { panic!("{name} is no set-returning function") };
    let (signature, args) = coerced(session, &selected, &operands)?;
    let mut state = None;
    let rows = (set.start)(&mut Call { env: session, signature: &signature, state: &mut state }, &args)?;
    let mut lines = Vec::new();
    for row in rows {
        let cells: Vec<String> = row?
            .iter()
            .zip(set.columns)
            .map(|(value, (_, ty))| {
                let ty =
                    if set.columns.len() == 1 && set.returns != oid::RECORD { selected.result } else { *ty };
                shown(session, value, ty)
            })
            .collect();
        lines.push(cells.join(","));
    }
    Ok(lines.join("\\n"))
}

#[test]
fn functions_give_what_postgresql_gives() {
    let session = Session(Style::default());
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("expectations.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (text, expected) = line.rsplit_once(" => ").expect("an expectation");
        let outcome = if let Some(text) = text.strip_prefix("% ") {
            aggregate(&session, text)
        } else if let Some(text) = text.strip_prefix("$ ") {
            set(&session, text)
        } else {
            expression(&session, text)
        };
        let actual = match &outcome {
            Ok(text) => text.clone(),
            Err(error) => format!("!{}", error.state()),
        };
        count += 1;
        if actual != expected {
            let message = outcome.err().map(|error| format!(" ({error})")).unwrap_or_default();
            wrong.push(format!("{text}\n    expected {expected}\n    actual   {actual}{message}"));
        }
    }
    assert!(count > 500, "only {count} expectations");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The messages people see and drivers parse.
#[test]
fn selection_errors_read_like_postgresql() {
    let error = select_function("foo", &[oid::INT4, oid::UNKNOWN]).unwrap_err();
    assert_eq!(error.message(), "function foo(integer, unknown) does not exist");
    assert!(error.fields().hint.as_deref().is_some_and(|hint| hint.contains("explicit type casts")));
    let error = select_function("lenght", &[oid::TEXT]).unwrap_err();
    assert!(error.fields().hint.as_deref().is_some_and(|hint| hint.contains("\"length\"")));
    let error = select_operator("+", Some(oid::INT4), oid::BOOL).unwrap_err();
    assert_eq!(error.message(), "operator does not exist: integer + boolean");
    let error = select_operator("+", Some(oid::UNKNOWN), oid::UNKNOWN).unwrap_err();
    assert_eq!(error.message(), "operator is not unique: unknown + unknown");
    let error = select_operator("-", None, oid::TEXT).unwrap_err();
    assert_eq!(error.message(), "operator does not exist: - text");
    let error = function::select_common_type(&[oid::INT4, oid::TEXT], "CASE").unwrap_err();
    assert_eq!(error.message(), "CASE types integer and text cannot be matched");
}

/// Declarations agree with each other: oids are unique, rows of `pg_operator` and `pg_cast` have their functions.
#[test]
fn declarations_are_consistent() {
    let mut oids = std::collections::HashSet::new();
    let all = function::functions()
        .map(|f| (f.oid, f.name))
        .chain(function::aggregates().map(|a| (a.oid, a.name)))
        .chain(function::window_functions().map(|w| (w.oid, w.name)))
        .chain(function::set_functions().map(|s| (s.oid, s.name)));
    for (oid, name) in all {
        assert!(oids.insert(oid), "{name} repeats oid {oid}");
    }
    for operator in function::operators() {
        let args: Vec<Oid> = operator.left.into_iter().chain([operator.right]).collect();
        assert_eq!(operator.function.args, args, "{operator:?}");
        if let Some(commutator) = operator.commutator {
            let swapped = function::operator_of(commutator, Some(operator.right), args[0]);
            assert!(swapped.is_some(), "{operator:?} has no commutator");
        }
    }
    for cast in function::casts() {
        let result = match cast.method {
            CastMethod::Function(function) => function.returns,
            CastMethod::Relabel => cast.source,
            CastMethod::InOut => continue,
        };
        assert_eq!(value::types::repr(result), value::types::repr(cast.target), "{cast:?}");
    }
    for (ty, expected) in
        [(oid::INT4, true), (oid::VARCHAR, true), (oid::TEXT_ARRAY, true), (oid::JSON, false)]
    {
        assert_eq!(function::comparison(ty, function::Strategy::Lt).is_some(), expected);
    }
    // Operators PostgreSQL has for our types and we do not compute.
    assert_eq!(function::missing_operators(), Vec::<String>::new());
}

/// Selection over every combination of common types, as PostgreSQL chooses: `selection.txt`.
#[test]
fn selection_chooses_what_postgresql_chooses() {
    // Ambiguous there only because of types we do not have.
    let lenient = |name: &str, types: &[&str]| name == "trunc" && types == ["unknown"];
    let ty = |name: &str| by_name(name).unwrap_or_else(|| panic!("type {name}")).oid;
    let (mut types1, mut types2) = (Vec::new(), Vec::new());
    let (mut count, mut wrong) = (0, Vec::new());
    for line in include_str!("selection.txt").lines() {
        let (kind, rest) = line.split_once(' ').expect("a kind");
        match kind {
            "#" => {}
            "types1" => types1 = rest.split(' ').collect(),
            "types2" => types2 = rest.split(' ').collect(),
            _ => {
                let (name, rows) = rest.split_once(" :").expect("a name");
                let mut expected = std::collections::HashMap::new();
                for row in rows.split(';').map(str::trim).filter(|row| !row.is_empty()) {
                    let (args, result) = row.split_once(" -> ").expect("a result");
                    let (first, last) = args.split_once(' ').map_or((None, args), |(f, l)| (Some(f), l));
                    for last in last.split(',') {
                        let args: Vec<&str> = first.into_iter().chain([last]).collect();
                        expected.insert(args, result);
                    }
                }
                let combinations: Vec<Vec<&str>> = match kind {
                    "f1" => types1.iter().map(|a| vec![*a]).collect(),
                    "f2" => types2.iter().flat_map(|a| types2.iter().map(move |b| vec![*a, *b])).collect(),
                    _ => types1.iter().flat_map(|a| types1.iter().map(move |b| vec![*a, *b])).collect(),
                };
                for args in combinations {
                    let oids: Vec<Oid> = args.iter().map(|name| ty(name)).collect();
                    let selected = match kind {
                        "op" => select_operator(name, Some(oids[0]), oids[1]).map(|s| s.result),
                        _ => select_function(name, &oids).map(|s| s.result),
                    };
                    count += 1;
                    let actual = selected.ok();
                    let fits = match expected.get(&args) {
                        Some(&"?") => actual.is_some(),
                        Some(result) => actual == Some(ty(result)),
                        None => actual.is_none() || lenient(name, &args),
                    };
                    if !fits {
                        wrong.push(format!("{name} {args:?}: {:?}, not {actual:?}", expected.get(&args)));
                    }
                }
            }
        }
    }
    assert!(count > 15_000);
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn like_prefixes() {
    for (pattern, prefix, exact) in [
        ("abc%", "abc", false),
        ("abc", "abc", true),
        ("a\\%b_", "a%b", false),
        ("%", "", false),
        ("a\\", "a", false),
    ] {
        assert_eq!(function::like_prefix(pattern), (prefix.to_string(), exact), "{pattern}");
    }
}
