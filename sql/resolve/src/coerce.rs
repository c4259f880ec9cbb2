//! Making a value of one type be of another, and deciding which type several share.
//!
//! A quoted literal has no type until something asks for one: it is a constant of type `unknown`, and the
//! `typmod` of that type is an index into [`Resolver::literals`], where it stands in the text. Whatever is left
//! unknown at the end becomes text ([`Resolver::known`]).

use function::{CastContext, CastMethod};
use sqlparser::tokenizer::Location;
use value::types::{self, element_of, format_type, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::names;
use crate::scope::Resolver;
use crate::tree::{Call, Convert, ConvertKind, Expr};

impl Resolver<'_> {
    /// A literal that has no type yet.
    pub fn unknown(&mut self, value: Datum, location: Location) -> Expr {
        self.literals.push(location);
        let at = i32::try_from(self.literals.len() - 1).unwrap_or(i32::MAX);
        Expr::Const { value, ty: Type::with_typmod(oid::UNKNOWN, at) }
    }

    /// Where an unknown literal stands.
    fn literal_place(&self, ty: Type) -> Location {
        usize::try_from(ty.typmod)
            .ok()
            .and_then(|at| self.literals.get(at))
            .copied()
            .unwrap_or(Location::empty())
    }

    /// Unknown literals and parameters become text; anything else stays.
    pub fn known(&mut self, expr: Expr) -> Result<Expr> {
        if expr.ty().oid != oid::UNKNOWN {
            return Ok(expr);
        }
        match self.convert(expr, Type::new(oid::TEXT), CastContext::Implicit)? {
            Some(expr) => Ok(expr),
            None => Err(Error::internal("an unknown value could not become text")),
        }
    }

    /// As an argument of a function: no modifier, implicit casts only. The function was chosen so that this works.
    pub fn argument(&mut self, expr: Expr, target: Oid) -> Result<Expr> {
        let from = expr.ty();
        match self.convert(expr, Type::new(target), CastContext::Implicit)? {
            Some(expr) => Ok(expr),
            None => Err(Error::new(
                SqlState::CANNOT_COERCE,
                format!("cannot cast type {} to {}", format_type(from.oid, -1), format_type(target, -1)),
            )),
        }
    }

    /// As the new value of a column: assignment casts, the modifier checked. `None`: no such cast.
    pub fn assign(&mut self, expr: Expr, target: Type, location: Location) -> Result<Option<Expr>> {
        let result = self.convert(expr, target, CastContext::Assignment);
        self.locate(result, location)
    }

    /// `expr::target`. 42846.
    pub fn cast(&mut self, expr: Expr, target: Type, location: Location) -> Result<Expr> {
        let from = expr.ty();
        if let Expr::Row { .. } = expr
            && target.oid == oid::RECORD
        {
            return Ok(expr);
        }
        let result = self.convert(expr, target, CastContext::Explicit);
        match self.locate(result, location)? {
            Some(expr) => Ok(expr),
            None => Err(self.error(
                SqlState::CANNOT_COERCE,
                format!("cannot cast type {} to {}", format_type(from.oid, -1), format_type(target.oid, -1)),
                location,
            )),
        }
    }

    /// As a condition. 42804 `argument of WHERE must be type boolean, not type integer`.
    pub fn boolean(&mut self, expr: Expr, what: &str, location: Location) -> Result<Expr> {
        self.must_be(expr, oid::BOOL, what, location)
    }

    pub fn must_be(&mut self, expr: Expr, target: Oid, what: &str, location: Location) -> Result<Expr> {
        let from = expr.ty();
        if let Expr::SetCall(_) = expr {
            return Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {what} must not return a set"),
                location,
            ));
        }
        let result = self.convert(expr, Type::new(target), CastContext::Assignment);
        match self.locate(result, location)? {
            Some(expr) => Ok(expr),
            None => Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type {}, not type {}",
                    format_type(target, -1),
                    format_type(from.oid, -1)
                ),
                location,
            )),
        }
    }

    /// Coerces all to the type they share; the modifier survives if all have the same. `context` names the
    /// construct in the error (42804).
    pub fn common(
        &mut self,
        exprs: Vec<Expr>,
        context: &str,
        location: Location,
    ) -> Result<(Vec<Expr>, Type)> {
        let oids: Vec<Oid> = exprs.iter().map(|expr| expr.ty().oid).collect();
        let common = function::select_common_type(&oids, context);
        let common = self.locate(common, location)?;
        let mut target = Type::new(common);
        if let Some(first) = exprs.first().map(Expr::ty)
            && first.oid == common
            && exprs.iter().all(|expr| expr.ty() == first)
        {
            target = first;
        }
        let mut coerced = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let from = expr.ty();
            let result = self.convert(expr, Type::new(common), CastContext::Implicit);
            match self.locate(result, location)? {
                Some(expr) => coerced.push(expr),
                None => {
                    return Err(self.error(
                        SqlState::CANNOT_COERCE,
                        format!(
                            "{context} could not convert type {} to {}",
                            format_type(from.oid, -1),
                            format_type(common, -1)
                        ),
                        location,
                    ));
                }
            }
        }
        Ok((coerced, target))
    }

    /// The heart of it: `expr` as `target`, if `context` allows a cast. `None` if there is none.
    pub fn convert(&mut self, expr: Expr, target: Type, context: CastContext) -> Result<Option<Expr>> {
        let from = expr.ty();
        let explicit = context == CastContext::Explicit;
        if target.oid == oid::UNKNOWN || target.oid == oid::ANY {
            return Ok(Some(expr));
        }
        if from.oid == target.oid {
            return Ok(Some(with_typmod(expr, target, explicit)));
        }
        if from.oid == oid::UNKNOWN {
            match expr {
                Expr::Const { value: Datum::Null, .. } => {
                    return Ok(Some(Expr::Const { value: Datum::Null, ty: target }));
                }
                Expr::Const { value: Datum::Text(text), ty } => {
                    let place = self.literal_place(ty);
                    let literal = self.literal(&text, target);
                    let literal = self.locate(literal, place)?;
                    return Ok(Some(with_typmod(literal, target, explicit)));
                }
                Expr::Param { index, .. } => {
                    let inferred = self.params.infer(index, target.oid)?;
                    let param = Expr::Param { index, ty: Type::new(inferred) };
                    return Ok(Some(with_typmod(param, target, explicit)));
                }
                other => {
                    // A value that is text already and only has not been called so.
                    let text = relabel(other, Type::new(oid::TEXT));
                    return self.convert(text, target, CastContext::Explicit);
                }
            }
        }
        if types::info(target.oid).is_some_and(|info| {
            matches!(info.repr, types::Repr::None) && info.kind == types::TypeKind::Pseudo
        }) || matches!(target.oid, oid::ANYARRAY | oid::ANYCOMPATIBLEARRAY)
        {
            return Ok(Some(expr));
        }
        if !function::can_coerce(from.oid, target.oid, context) {
            return Ok(None);
        }
        let plain = Type::new(target.oid);
        let make = |input: Expr, kind: ConvertKind| {
            Expr::Convert(Box::new(Convert { input, from, to: plain, kind, explicit }))
        };
        let converted = match function::find_cast(from.oid, target.oid) {
            Some(cast) => match cast.method {
                CastMethod::Function(function) => {
                    let mut args = vec![expr];
                    // Cast functions with a length argument get "no length"; the modifier is applied after.
                    if function.args.len() > 1 && function.defaults == 0 {
                        args.push(Expr::Const { value: Datum::Int4(-1), ty: Type::new(oid::INT4) });
                    }
                    if function.args.len() > 2 && function.defaults == 0 {
                        args.push(Expr::Const { value: Datum::Bool(explicit), ty: Type::new(oid::BOOL) });
                    }
                    Expr::Call(Box::new(Call { function, args, ty: plain, position: None, operator: None }))
                }
                CastMethod::Relabel => make(expr, ConvertKind::Relabel),
                CastMethod::InOut => make(expr, ConvertKind::InOut),
            },
            None => {
                let (from_element, to_element) = (element_of(from.oid), element_of(target.oid));
                if from_element != 0 && to_element != 0 {
                    if from_element == to_element {
                        make(expr, ConvertKind::Relabel)
                    } else {
                        match function::find_cast(from_element, to_element).map(|cast| cast.method) {
                            Some(CastMethod::Function(function)) => {
                                make(expr, ConvertKind::ArrayElements(Some(function)))
                            }
                            Some(CastMethod::Relabel) => make(expr, ConvertKind::Relabel),
                            Some(CastMethod::InOut) | None => make(expr, ConvertKind::ArrayElements(None)),
                        }
                    }
                } else {
                    make(expr, ConvertKind::InOut)
                }
            }
        };
        Ok(Some(with_typmod(converted, target, explicit)))
    }

    /// The constant that a literal stands for as a value of `target`, its modifier not applied (but for intervals,
    /// whose fields decide how the text is read).
    fn literal(&self, text: &str, target: Type) -> Result<Expr> {
        let ty = if target.oid == oid::INTERVAL { target } else { Type::new(target.oid) };
        let value = match self.reg_literal(text, target.oid)? {
            Some(value) => value,
            None => value::text::input(ty, text, self.names.style())?,
        };
        Ok(Expr::Const { value, ty })
    }

    /// Literals of the reg* types name objects.
    fn reg_literal(&self, text: &str, ty: Oid) -> Result<Option<Datum>> {
        if !matches!(
            ty,
            oid::REGCLASS
                | oid::REGTYPE
                | oid::REGPROC
                | oid::REGPROCEDURE
                | oid::REGNAMESPACE
                | oid::REGROLE
                | oid::REGOPER
                | oid::REGOPERATOR
                | oid::REGCOLLATION
        ) {
            return Ok(None);
        }
        let text = text.trim();
        if text == "-" {
            return Ok(Some(Datum::Oid(0)));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(oid) => Ok(Some(Datum::Oid(oid))),
                Err(_) => Err(Error::new(
                    SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                    format!("value \"{text}\" is out of range for type oid"),
                )),
            };
        }
        let undefined = |what: &str, name: &str| {
            Error::new(SqlState::UNDEFINED_OBJECT, format!("{what} \"{name}\" does not exist"))
        };
        let catalog = self.names.catalog();
        let found = match ty {
            oid::REGCLASS => {
                let parts = split_identifiers(text)?;
                let (schema, relation) = match parts.as_slice() {
                    [relation] => (None, relation),
                    [schema, relation] | [_, schema, relation] => (Some(schema.as_str()), relation),
                    _ => return Err(Error::new(SqlState::INVALID_NAME, "invalid name syntax")),
                };
                match names::lookup(self.names, schema, relation) {
                    Some(found) => found.oid(),
                    None => return Err(names::missing(self.names, schema, relation)),
                }
            }
            oid::REGTYPE => {
                let lower = text.to_lowercase();
                let name = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
                match types::by_name(name) {
                    Some(info) => info.oid,
                    None => {
                        // Modifiers are allowed and ignored: varchar(10).
                        let parsed = crate::parse::expression(&format!("null::{text}"));
                        let resolved = match &parsed {
                            Ok(sqlparser::ast::Expr::Cast { data_type, .. }) => {
                                crate::resolve_type(self.names, data_type).ok()
                            }
                            _ => None,
                        };
                        match resolved {
                            Some(resolved) => resolved.ty.oid,
                            None => return Err(undefined("type", text)),
                        }
                    }
                }
            }
            oid::REGNAMESPACE => {
                let parts = split_identifiers(text)?;
                let name = parts.first().map(String::as_str).unwrap_or_default();
                let found = catalog.schema_named(self.names.database(), name).map(|schema| schema.oid);
                match (found, name) {
                    (Some(oid), _) => oid,
                    (None, "pg_catalog") => engine::catalog::oid::PG_CATALOG,
                    (None, "information_schema") => engine::catalog::oid::INFORMATION_SCHEMA,
                    (None, "startdb") => engine::catalog::oid::STARTDB_SCHEMA,
                    (None, name) => {
                        return Err(Error::new(
                            SqlState::INVALID_SCHEMA_NAME,
                            format!("schema \"{name}\" does not exist"),
                        ));
                    }
                }
            }
            oid::REGROLE => {
                let parts = split_identifiers(text)?;
                let name = parts.first().map(String::as_str).unwrap_or_default();
                match catalog.role_named(name) {
                    Some(role) => role.oid,
                    None => return Err(undefined("role", name)),
                }
            }
            oid::REGPROC | oid::REGPROCEDURE => {
                let (name, args) = match text.split_once('(') {
                    Some((name, args)) => (name.trim(), Some(args.trim_end_matches(')').trim())),
                    None => (text, None),
                };
                let parts = split_identifiers(name)?;
                let plain = parts.last().map(String::as_str).unwrap_or_default();
                let args: Option<Vec<Oid>> = match args {
                    Some("") => Some(Vec::new()),
                    Some(list) => Some(
                        list.split(',')
                            .map(|one| {
                                types::by_name(&one.trim().to_lowercase())
                                    .map(|info| info.oid)
                                    .ok_or_else(|| undefined("type", one.trim()))
                            })
                            .collect::<Result<_>>()?,
                    ),
                    None => None,
                };
                let mut candidates = function::functions_named(plain).iter().filter_map(|callable| {
                    let (oid, declared) = match callable {
                        function::Callable::Function(f) => (f.oid, f.args),
                        function::Callable::Aggregate(a) => (a.oid, a.args),
                        function::Callable::Window(w) => (w.oid, w.args),
                        function::Callable::Set(s) => (s.oid, s.args),
                        function::Callable::Coercion(_) => return None,
                    };
                    args.as_ref().is_none_or(|args| args == declared).then_some(oid)
                });
                let Some(oid) = candidates.next() else {
                    // Functions that nobody calls by name, as types' input functions, are known to the catalogs alone.
                    if let Some(input) = function::reg_input(ty) {
                        return self.names.env().system(input, &[Datum::text(text)]).map(Some);
                    }
                    return Err(Error::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("function \"{text}\" does not exist"),
                    ));
                };
                if args.is_none() && candidates.next().is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("more than one function named \"{text}\""),
                    ));
                }
                oid
            }
            oid::REGCOLLATION => match split_identifiers(text)?.last().map(String::as_str) {
                Some("C" | "POSIX") => engine::catalog::oid::C_COLLATION,
                Some("default") => engine::catalog::oid::DEFAULT_COLLATION,
                _ => return Err(undefined("collation", text)),
            },
            _ => {
                return Err(Error::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("operator does not exist: {text}"),
                ));
            }
        };
        Ok(Some(Datum::Oid(found)))
    }
}

/// The same value called `to`.
pub(crate) fn relabel(input: Expr, to: Type) -> Expr {
    let from = input.ty();
    Expr::Convert(Box::new(Convert { input, from, to, kind: ConvertKind::Relabel, explicit: false }))
}

/// Applies the modifier of `target`, if it has one the value does not have already.
fn with_typmod(expr: Expr, target: Type, explicit: bool) -> Expr {
    let from = expr.ty();
    if target.typmod < 0 || from.typmod == target.typmod {
        return expr;
    }
    if let Expr::Const { value: Datum::Null, .. } = expr {
        return Expr::Const { value: Datum::Null, ty: target };
    }
    Expr::Convert(Box::new(Convert { input: expr, from, to: target, kind: ConvertKind::Typmod, explicit }))
}

/// Splits `a."B".c` into names, folded. 42602.
pub(crate) fn split_identifiers(text: &str) -> Result<Vec<String>> {
    let invalid = || Error::new(SqlState::INVALID_NAME, "invalid name syntax");
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            let mut end = None;
            while let Some((at, c)) = chars.next() {
                if c != '"' {
                    name.push(c);
                } else if matches!(chars.peek(), Some((_, '"'))) {
                    chars.next();
                    name.push('"');
                } else {
                    end = Some(at + 1);
                    break;
                }
            }
            rest = &quoted[end.ok_or_else(invalid)?..];
            parts.push(name);
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let name = rest[..end].trim();
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '"') {
                return Err(invalid());
            }
            parts.push(name.to_lowercase());
            rest = &rest[end..];
        }
        rest = rest.trim_start();
        match rest.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(parts),
            None => return Err(invalid()),
        }
    }
}
