//! Expressions: every form of `sqlparser`'s `Expr` to a typed [`Expr`].
//!
//! `a + b + c ...` is a tree as deep as it is long. Its left spine is walked with a loop; AND and OR become
//! n-ary; what recursion is left runs on stacks that grow.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CastKind, CeilFloorKind, DateTimeField, IntervalFields, TrimWhereField,
    UnaryOperator, Value,
};
use sqlparser::tokenizer::Location;
use value::types::{self, array_of, element_of, format_type, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::names::{identifier, split_name};
use crate::scope::{Resolver, query_start, start};
use crate::tree::{Call, Expr, Query, Relation, RelationKind, Sublink, SublinkKind, Subscript};
use crate::types::{interval_type_typmod, resolve_type};

/// Calls may stand inside each other this deep: what runs them recurses.
const MAX_DEPTH: usize = 2_000;

impl Resolver<'_> {
    /// Gives an expression its meaning.
    pub fn expr(&mut self, expr: &ast::Expr) -> Result<Expr> {
        crate::parse::level(|| self.any_expr(expr))
    }

    /// A condition. `what` is the clause in the error: `argument of WHERE must be type boolean`.
    pub fn condition(&mut self, expr: &ast::Expr, what: &str) -> Result<Expr> {
        let resolved = self.expr(expr)?;
        self.boolean(resolved, what, start(expr))
    }

    pub fn exprs<'e>(&mut self, list: impl IntoIterator<Item = &'e ast::Expr>) -> Result<Vec<Expr>> {
        list.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn any_expr(&mut self, expr: &ast::Expr) -> Result<Expr> {
        use ast::Expr as E;
        let place = start(expr);
        match expr {
            E::Identifier(ident) => {
                if ident.quote_style.is_none()
                    && let Some(found) = self.keyword(&ident.value.to_lowercase(), None, place)?
                {
                    return Ok(found);
                }
                self.column(ident)
            }
            E::CompoundIdentifier(parts) => self.compound(parts),
            E::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            E::Nested(inner) => self.expr(inner),
            E::Value(value) => self.value(value),
            E::IsTrue(inner) => self.is_bool(inner, true, false, "IS TRUE"),
            E::IsNotTrue(inner) => self.is_bool(inner, true, true, "IS NOT TRUE"),
            E::IsFalse(inner) => self.is_bool(inner, false, false, "IS FALSE"),
            E::IsNotFalse(inner) => self.is_bool(inner, false, true, "IS NOT FALSE"),
            E::IsUnknown(inner) | E::IsNotUnknown(inner) => {
                let negated = matches!(expr, E::IsNotUnknown(_));
                let what = if negated { "IS NOT UNKNOWN" } else { "IS UNKNOWN" };
                let input = self.condition(inner, what)?;
                Ok(Expr::IsNull { input: Box::new(input), negated })
            }
            E::IsNull(inner) | E::IsNotNull(inner) => {
                let input = self.expr(inner)?;
                self.is_null(input, matches!(expr, E::IsNotNull(_)))
            }
            E::IsDistinctFrom(left, right) => self.distinct_from(left, right, false),
            E::IsNotDistinctFrom(left, right) => self.distinct_from(left, right, true),
            E::InList { expr: left, list, negated } => self.in_list(left, list, *negated),
            E::InSubquery { expr: left, subquery, negated } => {
                let any = self.quantified(left, "=", subquery, false, true)?;
                Ok(if *negated { Expr::Not(Box::new(any)) } else { any })
            }
            E::Between { expr: tested, negated, low, high } => self.between(tested, *negated, low, high),
            E::BinaryOp { .. } => self.binary_chain(expr),
            E::UnaryOp { op, expr: inner } => self.unary(*op, inner, place),
            E::Like { negated, any, expr: tested, pattern, escape_char } => {
                let op = if *negated { "!~~" } else { "~~" };
                self.like(op, *any, tested, pattern, escape_char.as_deref(), "like_escape")
            }
            E::ILike { negated, any, expr: tested, pattern, escape_char } => {
                let op = if *negated { "!~~*" } else { "~~*" };
                self.like(op, *any, tested, pattern, escape_char.as_deref(), "like_escape")
            }
            E::SimilarTo { negated, expr: tested, pattern, escape_char } => {
                let left = self.expr(tested)?;
                let mut args = vec![self.expr(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(self.expr(escape)?);
                }
                let pattern = self.plain_call("similar_to_escape", args, place)?;
                self.operator(if *negated { "!~" } else { "~" }, left, pattern, place)
            }
            E::AnyOp { left, compare_op, right, .. } => self.any_all(left, compare_op, right, false),
            E::AllOp { left, compare_op, right } => self.any_all(left, compare_op, right, true),
            E::Cast { kind, expr: inner, data_type, format } => {
                if !matches!(kind, CastKind::Cast | CastKind::DoubleColon) || format.is_some() {
                    return Err(
                        self.syntax("syntax error: PostgreSQL has only CAST(x AS type) and x::type", place)
                    );
                }
                self.cast_to(inner, data_type, place)
            }
            E::TypedString(typed) => {
                let target = self.type_of(&typed.data_type, place)?;
                let Some(text) = string_of(&typed.value.value) else {
                    return Err(self.syntax("a typed literal must be a string", place));
                };
                let literal = self.unknown(Datum::text(text), typed.value.span.start);
                self.cast(literal, target, place)
            }
            E::Interval(interval) => self.interval(interval, place),
            E::AtTimeZone { timestamp, time_zone } => {
                let timestamp = self.expr(timestamp)?;
                let zone = self.expr(time_zone)?;
                self.syntax_call("timezone", vec![zone, timestamp], place)
            }
            E::Extract { field, expr: inner, .. } => {
                let field = field_name(field);
                let source = self.expr(inner)?;
                let field = self.unknown(Datum::text(field), place);
                self.syntax_call("extract", vec![field, source], place)
            }
            E::Ceil { expr: inner, field } | E::Floor { expr: inner, field } => {
                if !matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)) {
                    return Err(self.syntax("ceil and floor take one argument", place));
                }
                let input = self.expr(inner)?;
                let name = if matches!(expr, E::Ceil { .. }) { "ceil" } else { "floor" };
                self.plain_call(name, vec![input], place)
            }
            E::Position { expr: what, r#in } => {
                let what = self.expr(what)?;
                let text = self.expr(r#in)?;
                self.syntax_call("position", vec![text, what], place)
            }
            E::Substring { expr: text, substring_from, substring_for, shorthand, special } => {
                // `special` is the form with commas, an ordinary call.
                let special = !*special;
                let mut args = vec![self.expr(text)?];
                match (substring_from, substring_for) {
                    (Some(from), Some(length)) => {
                        args.push(self.expr(from)?);
                        args.push(self.expr(length)?);
                    }
                    (Some(from), None) => args.push(self.expr(from)?),
                    (None, Some(length)) => {
                        args.push(Expr::Const { value: Datum::Int4(1), ty: Type::new(oid::INT4) });
                        args.push(self.expr(length)?);
                    }
                    (None, None) => {}
                }
                match (shorthand, substring_from.is_some() || substring_for.is_some()) {
                    (true, _) => self.plain_call("substr", args, place),
                    (false, true) if !special => self.plain_call("substring", args, place),
                    _ => self.syntax_call("substring", args, place),
                }
            }
            E::Trim { trim_where, trim_what, expr: text, trim_characters } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "btrim",
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                };
                let mut args = vec![self.expr(text)?];
                if let Some(what) = trim_what {
                    args.push(self.expr(what)?);
                }
                if let Some(list) = trim_characters {
                    args.extend(self.exprs(list)?);
                }
                self.syntax_call(name, args, place)
            }
            E::Overlay { expr: text, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![self.expr(text)?, self.expr(overlay_what)?, self.expr(overlay_from)?];
                if let Some(length) = overlay_for {
                    args.push(self.expr(length)?);
                }
                self.syntax_call("overlay", args, place)
            }
            E::Collate { expr: inner, collation } => {
                let input = self.expr(inner)?;
                self.collate(input, collation, place)
            }
            E::Function(function) => self.function(function),
            E::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), place)
            }
            E::Exists { subquery, negated } => {
                let mut query = self.subquery(subquery)?;
                crate::query::only_existence(&mut query);
                let exists = sublink(SublinkKind::Exists, query, Type::new(oid::BOOL));
                Ok(if *negated { Expr::Not(Box::new(exists)) } else { exists })
            }
            E::Subquery(subquery) => self.scalar(subquery),
            E::Tuple(list) => {
                let fields = self.exprs(list)?;
                self.row(fields)
            }
            E::Array(array) => {
                let (expr, _) = self.array(array, None, place)?;
                Ok(expr)
            }
            E::Wildcard(token) => Err(self.syntax_at("*", token.0.span.start)),
            E::IsJson { .. } => {
                Err(Error::unsupported("IS JSON", "Cast to json and handle the error.")
                    .at(self.position(place)))
            }
            E::IsNormalized { expr, form, negated } => {
                let mut args = vec![self.expr(expr)?];
                if let Some(form) = form {
                    let value = Datum::text(form.to_string());
                    args.push(Expr::Const { value, ty: Type::new(oid::TEXT) });
                }
                let test = self.plain_call("is_normalized", args, place)?;
                Ok(if *negated { Expr::Not(Box::new(test)) } else { test })
            }
            other => Err(self.syntax(
                format!("syntax error: this form of expression is not PostgreSQL's: {other}"),
                place,
            )),
        }
    }

    pub fn syntax(&self, message: impl Into<String>, place: Location) -> Error {
        self.error(SqlState::SYNTAX_ERROR, message, place)
    }

    pub fn syntax_at(&self, near: &str, place: Location) -> Error {
        self.syntax(format!("syntax error at or near \"{near}\""), place)
    }

    /// A syntax error at what follows a place: the next word, or the end.
    pub fn expected_more(&self, end: Location) -> Error {
        let rest: String = match self.position(end) {
            Some(at) => self.text.chars().skip(at - 1).collect(),
            None => String::new(),
        };
        let next = rest.trim_start();
        let skipped = rest.chars().count() - next.chars().count();
        let at = self.position(end).map(|at| at + skipped);
        let word: String = match next.chars().next() {
            Some(c) if c.is_alphanumeric() || c == '_' => {
                next.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            }
            Some(c) => c.to_string(),
            None => {
                return Error::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
                    .at(self.position(end));
            }
        };
        Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{word}\"")).at(at)
    }

    /// A type name; serial is none here.
    pub fn type_of(&self, data_type: &ast::DataType, place: Location) -> Result<Type> {
        let place = type_place(data_type).unwrap_or(place);
        let resolved = self.locate(resolve_type(self.names, data_type), place)?;
        if resolved.serial.is_some() {
            return Err(self.error(
                SqlState::UNDEFINED_OBJECT,
                format!("type \"{}\" does not exist", data_type.to_string().to_lowercase()),
                place,
            ));
        }
        Ok(resolved.ty)
    }

    fn value(&mut self, value: &ast::ValueWithSpan) -> Result<Expr> {
        let place = value.span.start;
        match &value.value {
            Value::Number(text, _) => self.number(text, place),
            Value::Boolean(value) => Ok(Expr::Const { value: Datum::Bool(*value), ty: Type::new(oid::BOOL) }),
            Value::Null => Ok(self.unknown(Datum::Null, place)),
            Value::Placeholder(name) => {
                let Some(number) = name.strip_prefix('$') else { return Err(self.syntax_at(name, place)) };
                let reference = self.params.reference(number);
                let (index, ty) = self.locate(reference, place)?;
                Ok(Expr::Param { index, ty: Type::new(ty) })
            }
            Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
                Err(Error::unsupported("bit string literals", "Use '\\x...'::bytea.")
                    .at(self.position(place)))
            }
            other => match string_of(other) {
                Some(text) => Ok(self.unknown(Datum::text(text), place)),
                None => Err(self.syntax_at(&other.to_string(), place)),
            },
        }
    }

    /// The smallest of int4, int8 and numeric that holds it.
    fn number(&mut self, text: &str, place: Location) -> Result<Expr> {
        let digits = text.replace('_', "");
        let constant = |value, ty| Ok(Expr::Const { value, ty: Type::new(ty) });
        if let Ok(small) = digits.parse::<i32>() {
            return constant(Datum::Int4(small), oid::INT4);
        }
        if let Ok(large) = digits.parse::<i64>() {
            return constant(Datum::Int8(large), oid::INT8);
        }
        let value = value::text::input(Type::new(oid::NUMERIC), &digits, self.names.style());
        constant(self.locate(value, place)?, oid::NUMERIC)
    }

    fn is_bool(&mut self, inner: &ast::Expr, value: bool, negated: bool, what: &str) -> Result<Expr> {
        let input = self.condition(inner, what)?;
        Ok(Expr::IsBool { input: Box::new(input), value, negated })
    }

    /// IS [NOT] NULL; of a row, all fields must be (not) null.
    fn is_null(&mut self, input: Expr, negated: bool) -> Result<Expr> {
        if let Expr::Row { fields, .. } = input {
            let mut tests = Vec::with_capacity(fields.len());
            for field in fields {
                tests.push(Expr::IsNull { input: Box::new(self.known(field)?), negated });
            }
            return Ok(Expr::And(tests));
        }
        // An untyped NULL may be tested; a parameter must have a type.
        let input = if matches!(input, Expr::Const { .. }) { self.known(input)? } else { input };
        Ok(Expr::IsNull { input: Box::new(input), negated })
    }

    fn distinct_from(&mut self, left: &ast::Expr, right: &ast::Expr, negated: bool) -> Result<Expr> {
        let place = start(right);
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        if let (Expr::Row { fields: a, .. }, Expr::Row { fields: b, .. }) = (&left, &right) {
            if a.len() != b.len() {
                return Err(self.syntax("unequal number of entries in row expressions", place));
            }
            let mut tests = Vec::new();
            for (a, b) in a.clone().into_iter().zip(b.clone()) {
                tests.push(self.distinct(a, b, negated, place)?);
            }
            return Ok(if negated { Expr::And(tests) } else { Expr::Or(tests) });
        }
        self.distinct(left, right, negated, place)
    }

    fn distinct(&mut self, left: Expr, right: Expr, negated: bool, place: Location) -> Result<Expr> {
        let (equal, left, right) = self.select(place, "=", left, right)?;
        Ok(Expr::Distinct { equal, left: Box::new(left), right: Box::new(right), negated })
    }

    /// Chooses an operator and coerces both sides for it.
    fn select(
        &mut self,
        place: Location,
        name: &str,
        left: Expr,
        right: Expr,
    ) -> Result<(&'static function::Function, Expr, Expr)> {
        let selected = function::select_operator(name, Some(left.ty().oid), right.ty().oid);
        let selected = selected.map_err(|error| error.at(self.operator_position(name, place)))?;
        let [l, r] = selected.arg_types[..] else {
            return Err(Error::internal(format!("operator {name} does not take two arguments")));
        };
        Ok((selected.target, self.argument(left, l)?, self.argument(right, r)?))
    }

    /// Where an operator stands: before its right side, which starts at `right`.
    fn operator_position(&self, name: &str, right: Location) -> Option<usize> {
        let at = self.position(right)?;
        let before: String = self.text.chars().take(at - 1).collect();
        match before.rfind(name) {
            Some(found) if before.len() - found < name.len() + 64 => {
                Some(before[..found].chars().count() + 1)
            }
            _ => Some(at),
        }
    }

    /// `left name right` for operands that are resolved; rows are compared field by field.
    pub fn operator(&mut self, name: &str, left: Expr, right: Expr, place: Location) -> Result<Expr> {
        match (left, right) {
            (Expr::Row { fields: a, .. }, Expr::Row { fields: b, .. }) => {
                self.compare_rows(name, a, b, place)
            }
            (left, right) => self.scalar_operator(name, left, right, place),
        }
    }

    fn scalar_operator(&mut self, name: &str, left: Expr, right: Expr, place: Location) -> Result<Expr> {
        let types = (left.ty().oid, right.ty().oid);
        let selected = function::select_operator(name, Some(types.0), types.1);
        let selected = selected.map_err(|error| error.at(self.operator_position(name, place)))?;
        let [l, r] = selected.arg_types[..] else {
            return Err(Error::internal(format!("operator {name} does not take two arguments")));
        };
        let args = vec![self.argument(left, l)?, self.argument(right, r)?];
        let operator = function::operator_of(name, Some(types.0), types.1).map(|operator| operator.name);
        Ok(Expr::Call(Box::new(Call {
            function: selected.target,
            args,
            ty: Type::new(selected.result),
            position: None,
            operator,
        })))
    }

    /// `(a, b) op (c, d)` by PostgreSQL's rules for rows.
    fn compare_rows(&mut self, name: &str, a: Vec<Expr>, b: Vec<Expr>, place: Location) -> Result<Expr> {
        if a.len() != b.len() {
            return Err(self.syntax("unequal number of entries in row expressions", place));
        }
        if a.is_empty() {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot compare rows of zero length",
                place,
            ));
        }
        let strict = match name {
            "=" | "<>" => {
                let mut tests = Vec::with_capacity(a.len());
                for (a, b) in a.into_iter().zip(b) {
                    tests.push(self.operator(name, a, b, place)?);
                }
                return Ok(match (tests.len(), name) {
                    (1, _) => tests.remove(0),
                    (_, "=") => Expr::And(tests),
                    _ => Expr::Or(tests),
                });
            }
            "<" | "<=" => "<",
            ">" | ">=" => ">",
            _ => {
                return Err(self.error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("could not determine interpretation of row comparison operator {name}"),
                    place,
                ));
            }
        };
        // a1 < b1 OR (a1 = b1 AND (a2 < b2 OR ...)), the last field with the operator itself.
        let mut result: Option<Expr> = None;
        for (a, b) in a.into_iter().zip(b).rev() {
            result = Some(match result {
                None => self.operator(name, a, b, place)?,
                Some(rest) => {
                    let before = self.operator(strict, a.clone(), b.clone(), place)?;
                    let equal = self.operator("=", a, b, place)?;
                    Expr::Or(vec![before, Expr::And(vec![equal, rest])])
                }
            });
        }
        result.ok_or_else(|| Error::internal("rows of zero length"))
    }

    /// A chain of binary operators: down the left spine with a loop, then up again.
    fn binary_chain(&mut self, expr: &ast::Expr) -> Result<Expr> {
        let ast::Expr::BinaryOp { op, .. } = expr else { return self.any_expr(expr) };
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            let mut parts = Vec::new();
            let mut next = expr;
            while let ast::Expr::BinaryOp { left, op: inner, right } = next
                && inner == op
            {
                parts.push(&**right);
                next = left;
            }
            parts.push(next);
            let what = if *op == BinaryOperator::And { "AND" } else { "OR" };
            let mut list = Vec::with_capacity(parts.len());
            for part in parts.into_iter().rev() {
                list.push(self.condition(part, what)?);
            }
            return Ok(if *op == BinaryOperator::And { Expr::And(list) } else { Expr::Or(list) });
        }
        let mut rights = Vec::new();
        let mut next = expr;
        while let ast::Expr::BinaryOp { left, op, right } = next {
            if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
                break;
            }
            if let ast::Expr::BinaryOp { op: before, .. } = &**left
                && is_comparison(op)
                && is_comparison(before)
            {
                let name = op.to_string();
                let at = self.operator_position(&name, start(right));
                return Err(self.syntax_at(&name, Location::empty()).at(at));
            }
            rights.push((op, &**right));
            next = left;
        }
        let mut left = self.expr(next)?;
        let mut depth = 0;
        for (op, right) in rights.into_iter().rev() {
            left = self.binary(left, op, right)?;
            depth += 1;
            if depth % 200 == 0 {
                // Long chains of constants stay flat.
                crate::constant::fold_expr(&mut left, self.names.env(), true)?;
                if matches!(left, Expr::Const { .. }) {
                    depth = 0;
                } else if depth >= MAX_DEPTH {
                    return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                        .hint("Split the expression: it has too many operators in a row."));
                }
            }
        }
        Ok(left)
    }

    fn binary(&mut self, left: Expr, op: &BinaryOperator, right: &ast::Expr) -> Result<Expr> {
        let place = start(right);
        let name = self.operator_name(op, place)?;
        // (a, b) = (SELECT x, y ...)
        if let (Expr::Row { fields, .. }, ast::Expr::Subquery(query)) = (&left, strip(right)) {
            let count = fields.len();
            let columns = self.row_of_subquery(query, count, place)?;
            let right = Expr::Row { fields: columns, ty: Type::new(oid::RECORD) };
            return self.operator(&name, left, right, place);
        }
        let right = self.expr(right)?;
        if matches!(op, BinaryOperator::Overlaps) {
            if let (Expr::Row { fields: a, .. }, Expr::Row { fields: b, .. }) = (&left, &right)
                && a.len() == 2
                && b.len() == 2
            {
                let args = a.iter().chain(b).cloned().collect();
                return self.plain_call("overlaps", args, place);
            }
            return Err(self.syntax("wrong number of parameters on left side of OVERLAPS expression", place));
        }
        self.operator(&name, left, right, place)
    }

    fn operator_name(&self, op: &BinaryOperator, place: Location) -> Result<String> {
        let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return Ok(op.to_string()) };
        match parts.as_slice() {
            [name] => Ok(normal_operator(name)),
            [schema, name] if schema.trim_matches('"').eq_ignore_ascii_case("pg_catalog") => {
                Ok(normal_operator(name))
            }
            [schema, _] => Err(self
                .error(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("operator does not exist: {}", parts.join(".")),
                    place,
                )
                .hint(format!("There are no operators in schema {schema}."))),
            _ => Err(self.syntax(
                format!("improper qualified name (too many dotted names): {}", parts.join(".")),
                place,
            )),
        }
    }

    fn unary(&mut self, op: UnaryOperator, inner: &ast::Expr, place: Location) -> Result<Expr> {
        let name = match op {
            UnaryOperator::Not => {
                let input = self.condition(inner, "NOT")?;
                return Ok(Expr::Not(Box::new(input)));
            }
            UnaryOperator::Minus => {
                // A sign belongs to the literal: -2147483648 is an integer.
                if let ast::Expr::Value(value) = inner
                    && let Value::Number(text, _) = &value.value
                {
                    return self.number(&format!("-{text}"), place);
                }
                // Minus binds tighter than ^ in PostgreSQL, but not in the parser.
                if let ast::Expr::BinaryOp {
                    left,
                    op: BinaryOperator::PGExp | BinaryOperator::BitwiseXor,
                    right,
                } = inner
                {
                    let left = self.unary(op, left, place)?;
                    let right_place = start(right);
                    let right = self.expr(right)?;
                    return self.operator("^", left, right, right_place);
                }
                "-"
            }
            UnaryOperator::Plus => "+",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            UnaryOperator::PGAbs => "@",
            UnaryOperator::PGPrefixFactorial => "!!",
            other => return Err(self.syntax_at(&other.to_string(), place)),
        };
        let input = self.expr(inner)?;
        let from = input.ty().oid;
        let selected = function::select_operator(name, None, from);
        let selected = selected.map_err(|error| error.at(self.operator_position(name, place)))?;
        let Some(&target) = selected.arg_types.first() else {
            return Err(Error::internal(format!("operator {name} takes no argument")));
        };
        let args = vec![self.argument(input, target)?];
        let operator = function::operator_of(name, None, from).map(|operator| operator.name);
        Ok(Expr::Call(Box::new(Call {
            function: selected.target,
            args,
            ty: Type::new(selected.result),
            position: None,
            operator,
        })))
    }

    fn between(
        &mut self,
        tested: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
    ) -> Result<Expr> {
        let (low, symmetric) = symmetric(low);
        let value = self.expr(tested)?;
        let (low_place, high_place) = (start(low), start(high));
        let low = self.expr(low)?;
        let high = self.expr(high)?;
        let mut inside = |low: &Expr, high: &Expr| -> Result<Expr> {
            let (a, b) = if negated { ("<", ">") } else { (">=", "<=") };
            let parts = vec![
                self.operator(a, value.clone(), low.clone(), low_place)?,
                self.operator(b, value.clone(), high.clone(), high_place)?,
            ];
            Ok(if negated { Expr::Or(parts) } else { Expr::And(parts) })
        };
        let forward = inside(&low, &high)?;
        if !symmetric {
            return Ok(forward);
        }
        let parts = vec![forward, inside(&high, &low)?];
        Ok(if negated { Expr::And(parts) } else { Expr::Or(parts) })
    }

    fn in_list(&mut self, left: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Expr> {
        let place = list.first().map(start).unwrap_or(Location::empty());
        let left = self.expr(left)?;
        let list = self.exprs(list)?;
        let is_row = |expr: &Expr| matches!(expr, Expr::Row { .. });
        let mut oids: Vec<Oid> = vec![left.ty().oid];
        oids.extend(list.iter().map(|item| item.ty().oid));
        // All of one type: one node however long the list. Otherwise each item is compared on its own.
        let common = if list.iter().chain([&left]).any(is_row) || list.len() == 1 {
            None
        } else {
            function::select_common_type(&oids, "IN").ok()
        };
        if let Some(common) = common
            && let Ok(selected) = function::select_operator("=", Some(left.ty().oid), common)
            && let [l, r] = selected.arg_types[..]
        {
            let left = self.argument(left, l)?;
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                let item = self.argument(item, common)?;
                items.push(self.argument(item, r)?);
            }
            return Ok(Expr::InList {
                function: selected.target,
                left: Box::new(left),
                list: items,
                all: false,
                negated,
            });
        }
        let name = if negated { "<>" } else { "=" };
        let mut tests = Vec::with_capacity(list.len());
        for item in list {
            tests.push(self.operator(name, left.clone(), item, place)?);
        }
        Ok(match tests.len() {
            1 => tests.remove(0),
            _ if negated => Expr::And(tests),
            _ => Expr::Or(tests),
        })
    }

    fn like(
        &mut self,
        op: &str,
        any: bool,
        tested: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        escape_function: &str,
    ) -> Result<Expr> {
        let place = start(pattern);
        if any {
            return self.any_all_named(tested, op, pattern, false);
        }
        let left = self.expr(tested)?;
        let mut right = self.expr(pattern)?;
        if let Some(escape) = escape {
            let escape = self.expr(escape)?;
            right = self.plain_call(escape_function, vec![right, escape], place)?;
        }
        self.operator(op, left, right, place)
    }

    fn any_all(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        all: bool,
    ) -> Result<Expr> {
        let name = self.operator_name(op, start(right))?;
        self.any_all_named(left, &name, right, all)
    }

    fn any_all_named(&mut self, left: &ast::Expr, name: &str, right: &ast::Expr, all: bool) -> Result<Expr> {
        if let ast::Expr::Subquery(query) = strip(right) {
            return self.quantified(left, name, query, all, false);
        }
        let place = start(right);
        let left = self.expr(left)?;
        let mut array = self.expr(right)?;
        let array_type = array.ty().oid;
        let element = if array_type == oid::UNKNOWN {
            oid::UNKNOWN
        } else {
            match element_of(array_type) {
                0 => {
                    return Err(self.error(
                        SqlState::WRONG_OBJECT_TYPE,
                        "op ANY/ALL (array) requires array on right side",
                        place,
                    ));
                }
                element => element,
            }
        };
        let selected = function::select_operator(name, Some(left.ty().oid), element);
        let selected = selected.map_err(|error| error.at(self.operator_position(name, place)))?;
        if selected.result != oid::BOOL {
            return Err(self.error(
                SqlState::WRONG_OBJECT_TYPE,
                "op ANY/ALL (array) requires operator to yield boolean",
                place,
            ));
        }
        let [l, r] = selected.arg_types[..] else {
            return Err(Error::internal(format!("operator {name} does not take two arguments")));
        };
        let target = array_of(r);
        if target == 0 {
            return Err(self.error(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", format_type(r, -1)),
                place,
            ));
        }
        array = self.argument(array, target)?;
        Ok(Expr::AnyArray {
            function: selected.target,
            left: Box::new(self.argument(left, l)?),
            array: Box::new(array),
            all,
        })
    }

    /// `left op ANY|ALL (SELECT ...)`; IN is `= ANY`.
    fn quantified(
        &mut self,
        left: &ast::Expr,
        name: &str,
        subquery: &ast::Query,
        all: bool,
        is_in: bool,
    ) -> Result<Expr> {
        let place = query_start(subquery);
        let left = self.expr(left)?;
        let query = self.subquery(subquery)?;
        let tests = match left {
            Expr::Row { fields, .. } => fields,
            other => vec![other],
        };
        let columns: Vec<Type> =
            query.targets.iter().filter(|t| !t.hidden).map(|target| target.expr.ty()).collect();
        if tests.len() != columns.len() {
            let message = if tests.len() < columns.len() {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            };
            return Err(self.syntax(message, place));
        }
        if tests.len() > 1 && !matches!((name, all), ("=", false) | ("<>", true)) {
            return Err(self
                .error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "row comparison with {name} {} is not supported",
                        if all { "ALL" } else { "ANY" }
                    ),
                    place,
                )
                .hint("Compare column by column in an EXISTS subquery."));
        }
        let mut query = query;
        let (mut coerced, mut functions) = (Vec::new(), Vec::new());
        for (at, test) in tests.into_iter().enumerate() {
            let selected = function::select_operator(name, Some(test.ty().oid), columns[at].oid);
            let selected = selected.map_err(|error| {
                error.at(if is_in { self.position(place) } else { self.operator_position(name, place) })
            })?;
            let [l, r] = selected.arg_types[..] else {
                return Err(Error::internal(format!("operator {name} does not take two arguments")));
            };
            coerced.push(self.argument(test, l)?);
            functions.push(selected.target);
            if r != columns[at].oid {
                query = self.coerce_output(query, at, Type::new(r))?;
            }
        }
        let kind = if all {
            SublinkKind::All { tests: coerced, functions }
        } else {
            SublinkKind::Any { tests: coerced, functions }
        };
        Ok(sublink(kind, query, Type::new(oid::BOOL)))
    }

    fn scalar(&mut self, subquery: &ast::Query) -> Result<Expr> {
        let query = self.subquery(subquery)?;
        let mut columns = query.targets.iter().filter(|target| !target.hidden);
        let (first, more) = (columns.next().map(|target| target.expr.ty()), columns.next().is_some());
        match first {
            Some(ty) if !more => Ok(sublink(SublinkKind::Scalar, query, ty)),
            _ => Err(self.syntax("subquery must return only one column", query_start(subquery))),
        }
    }

    /// `ARRAY(SELECT ...)`.
    pub fn array_sublink(&mut self, subquery: &ast::Query) -> Result<Expr> {
        let query = self.subquery(subquery)?;
        let place = query_start(subquery);
        let mut columns = query.targets.iter().filter(|target| !target.hidden);
        let (first, more) = (columns.next().map(|target| target.expr.ty()), columns.next().is_some());
        let Some(element) = first.filter(|_| !more) else {
            return Err(self.syntax("subquery must return only one column", place));
        };
        let array = if element_of(element.oid) != 0 { element.oid } else { array_of(element.oid) };
        if array == 0 {
            return Err(self.error(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", format_type(element.oid, -1)),
                place,
            ));
        }
        Ok(sublink(SublinkKind::Array, query, Type::with_typmod(array, element.typmod)))
    }

    /// The columns of a one-row subquery as scalars: the query once per column, the others hidden.
    pub fn row_of_subquery(
        &mut self,
        subquery: &ast::Query,
        count: usize,
        place: Location,
    ) -> Result<Vec<Expr>> {
        let query = self.subquery(subquery)?;
        let columns: Vec<usize> = (0..query.targets.len()).filter(|&at| !query.targets[at].hidden).collect();
        if columns.len() != count && self.here().clause == crate::scope::Clause::UpdateSet {
            return Err(self.syntax("number of columns does not match number of values", place));
        }
        if columns.len() != count {
            let message = if columns.len() > count {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            };
            return Err(self.syntax(message, place));
        }
        Ok((0..columns.len())
            .map(|at| {
                let ty = query.targets[columns[at]].expr.ty();
                sublink(SublinkKind::Scalar, crate::query::one_column(query.clone(), at), ty)
            })
            .collect())
    }

    /// A row constructor.
    pub fn row(&mut self, fields: Vec<Expr>) -> Result<Expr> {
        Ok(Expr::Row { fields, ty: Type::new(oid::RECORD) })
    }

    fn cast_to(&mut self, inner: &ast::Expr, data_type: &ast::DataType, place: Location) -> Result<Expr> {
        let target = self.type_of(data_type, place)?;
        if let ast::Expr::Array(array) = strip(inner)
            && element_of(target.oid) != 0
        {
            let (expr, _) = self.array(array, Some(target), place)?;
            return Ok(expr);
        }
        let input = self.expr(inner)?;
        self.cast(input, target, place)
    }

    /// `ARRAY[...]`, possibly nested, with the type of the cast around it if there is one.
    fn array(&mut self, array: &ast::Array, target: Option<Type>, place: Location) -> Result<(Expr, Type)> {
        let nested = array.elem.iter().any(|elem| matches!(elem, ast::Expr::Array(_)));
        if array.elem.is_empty() {
            let Some(target) = target else {
                return Err(self
                    .error(SqlState::INDETERMINATE_DATATYPE, "cannot determine type of empty array", place)
                    .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
            };
            return Ok((Expr::Array { elements: Vec::new(), ty: target }, target));
        }
        let mut elements = Vec::with_capacity(array.elem.len());
        for elem in &array.elem {
            match elem {
                ast::Expr::Array(inner) if nested => elements.push(self.array(inner, target, place)?.0),
                other => elements.push(self.expr(other)?),
            }
        }
        if let Some(target) = target {
            let element = Type::with_typmod(element_of(target.oid), target.typmod);
            let mut cast = Vec::with_capacity(elements.len());
            for expr in elements {
                let to = if element_of(expr.ty().oid) != 0 && nested { target } else { element };
                cast.push(self.cast(expr, to, place)?);
            }
            return Ok((Expr::Array { elements: cast, ty: target }, target));
        }
        let (elements, common) = self.common(elements, "ARRAY", place)?;
        let is_array = types::info(common.oid).is_some_and(|info| info.kind == types::TypeKind::Array);
        let ty = if is_array { common } else { Type::with_typmod(array_of(common.oid), common.typmod) };
        if ty.oid == 0 {
            return Err(self.error(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", format_type(common.oid, -1)),
                place,
            ));
        }
        Ok((Expr::Array { elements, ty }, ty))
    }

    fn interval(&mut self, interval: &ast::Interval, place: Location) -> Result<Expr> {
        let text = match &*interval.value {
            ast::Expr::Value(value) => string_of(&value.value),
            _ => None,
        };
        let Some(text) = text else {
            return Err(self.syntax_at("interval", place));
        };
        let field = |field: &DateTimeField| match field {
            DateTimeField::Year | DateTimeField::Years => Some("year"),
            DateTimeField::Month | DateTimeField::Months => Some("month"),
            DateTimeField::Day | DateTimeField::Days => Some("day"),
            DateTimeField::Hour | DateTimeField::Hours => Some("hour"),
            DateTimeField::Minute | DateTimeField::Minutes => Some("minute"),
            DateTimeField::Second | DateTimeField::Seconds => Some("second"),
            _ => None,
        };
        let leading = interval.leading_field.as_ref().map(field);
        let last = interval.last_field.as_ref().map(field);
        let fields = match (leading, last) {
            (None, _) => None,
            (Some(Some("year")), None) => Some(IntervalFields::Year),
            (Some(Some("month")), None) => Some(IntervalFields::Month),
            (Some(Some("day")), None) => Some(IntervalFields::Day),
            (Some(Some("hour")), None) => Some(IntervalFields::Hour),
            (Some(Some("minute")), None) => Some(IntervalFields::Minute),
            (Some(Some("second")), None) => Some(IntervalFields::Second),
            (Some(Some("year")), Some(Some("month"))) => Some(IntervalFields::YearToMonth),
            (Some(Some("day")), Some(Some("hour"))) => Some(IntervalFields::DayToHour),
            (Some(Some("day")), Some(Some("minute"))) => Some(IntervalFields::DayToMinute),
            (Some(Some("day")), Some(Some("second"))) => Some(IntervalFields::DayToSecond),
            (Some(Some("hour")), Some(Some("minute"))) => Some(IntervalFields::HourToMinute),
            (Some(Some("hour")), Some(Some("second"))) => Some(IntervalFields::HourToSecond),
            (Some(Some("minute")), Some(Some("second"))) => Some(IntervalFields::MinuteToSecond),
            _ => return Err(self.syntax("invalid interval fields", place)),
        };
        let precision = interval.fractional_seconds_precision.or(interval.leading_precision);
        if fields.is_none() && precision.is_some() {
            return Err(self.syntax_at("(", place));
        }
        let target = Type::with_typmod(oid::INTERVAL, interval_type_typmod(fields.as_ref(), precision));
        let literal = self.unknown(Datum::text(text), place);
        self.cast(literal, target, place)
    }

    fn collate(&mut self, input: Expr, collation: &ast::ObjectName, place: Location) -> Result<Expr> {
        let parts = split_name(collation)?;
        let name = parts.last().map(String::as_str).unwrap_or_default();
        if !matches!(name, "C" | "POSIX" | "default" | "ucs_basic" | "C.UTF-8" | "C.utf8") {
            return Err(self
                .error(
                    SqlState::UNDEFINED_OBJECT,
                    format!("collation \"{}\" for encoding \"UTF8\" does not exist", parts.join(".")),
                    place,
                )
                .hint("Text is ordered by bytes: use COLLATE \"C\" or none."));
        }
        let input = self.known(input)?;
        let ty = input.ty();
        let element = element_of(ty.oid);
        let of_text = |ty: Oid| types::info(ty).is_some_and(|info| info.category == 'S');
        if !of_text(ty.oid) && !of_text(element) {
            return Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                format!("collations are not supported by type {}", format_type(ty.oid, -1)),
                place,
            ));
        }
        Ok(input)
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        place: Location,
    ) -> Result<Expr> {
        let operand = match operand {
            Some(operand) => {
                let resolved = self.expr(operand)?;
                Some(if matches!(resolved, Expr::Const { .. }) { self.known(resolved)? } else { resolved })
            }
            None => None,
        };
        let (mut whens, mut results) =
            (Vec::with_capacity(conditions.len()), Vec::with_capacity(conditions.len() + 1));
        for arm in conditions {
            let at = start(&arm.condition);
            let when = match &operand {
                Some(operand) => {
                    let value = self.expr(&arm.condition)?;
                    let test = self.operator("=", operand.clone(), value, at)?;
                    self.boolean(test, "CASE/WHEN", at)?
                }
                None => self.condition(&arm.condition, "CASE/WHEN")?,
            };
            whens.push(when);
            results.push(self.expr(&arm.result)?);
        }
        if let Some(otherwise) = otherwise {
            // PostgreSQL lets the ELSE branch decide first.
            results.insert(0, self.expr(otherwise)?);
        }
        for result in whens.iter().chain(&results) {
            self.refuse_set(result, "CASE", place)?;
        }
        let has_else = otherwise.is_some();
        let (mut results, ty) = self.common(results, "CASE", place)?;
        let otherwise = if has_else { Some(Box::new(results.remove(0))) } else { None };
        Ok(Expr::Case { whens: whens.into_iter().zip(results).collect(), otherwise, ty })
    }

    /// 0A000 for a set-returning function where it would run a varying number of times.
    pub fn refuse_set(&self, expr: &Expr, what: &str, place: Location) -> Result<()> {
        if !self.here().has_sets || !crate::walk::any(expr, &|e| matches!(e, Expr::SetCall(_))) {
            return Ok(());
        }
        Err(self
            .error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("set-returning functions are not allowed in {what}"),
                place,
            )
            .hint("You might be able to move the set-returning function into a LATERAL FROM item."))
    }

    /// `a.b`, `a.b.c`, `a.b.c.d`.
    fn compound(&mut self, parts: &[ast::Ident]) -> Result<Expr> {
        let place = parts.first().map(|ident| ident.span.start).unwrap_or(Location::empty());
        match parts {
            [column] => self.column(column),
            [relation, column] => {
                let relation = identifier(relation);
                self.qualified_column(None, &relation, column, place)
            }
            [schema, relation, column] => {
                let (schema, relation) = (identifier(schema), identifier(relation));
                self.qualified_column(Some(&schema), &relation, column, place)
            }
            [database, schema, relation, column] => {
                let database = identifier(database);
                let here = self.names.catalog().database(self.names.database()).map(|d| d.name.as_str());
                if here != Some(database.as_str()) {
                    let full: Vec<String> = parts.iter().map(identifier).collect();
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        format!("cross-database references are not implemented: {}", full.join(".")),
                        place,
                    ));
                }
                let (schema, relation) = (identifier(schema), identifier(relation));
                self.qualified_column(Some(&schema), &relation, column, place)
            }
            _ => {
                let full: Vec<String> = parts.iter().map(identifier).collect();
                Err(self.syntax(
                    format!("improper qualified name (too many dotted names): {}", full.join(".")),
                    place,
                ))
            }
        }
    }

    /// `root.field[subscript]...`.
    fn access(&mut self, root: &ast::Expr, chain: &[AccessExpr]) -> Result<Expr> {
        let place = start(root);
        let mut parts: Vec<ast::Ident> = match root {
            ast::Expr::Identifier(ident) => vec![ident.clone()],
            ast::Expr::CompoundIdentifier(parts) => parts.clone(),
            ast::Expr::Value(value) if !matches!(value.value, Value::Placeholder(_)) => {
                return Err(self.syntax_at("[", value.span.end));
            }
            _ => Vec::new(),
        };
        let mut chain = chain;
        let mut value = if parts.is_empty() {
            self.expr(root)?
        } else {
            while let [AccessExpr::Dot(ast::Expr::Identifier(ident)), rest @ ..] = chain {
                parts.push(ident.clone());
                chain = rest;
            }
            self.compound(&parts)?
        };
        while let [first, rest @ ..] = chain {
            match first {
                AccessExpr::Dot(field) => {
                    value = self.field(value, field, place)?;
                    chain = rest;
                }
                AccessExpr::Subscript(_) => {
                    let count = chain.iter().take_while(|a| matches!(a, AccessExpr::Subscript(_))).count();
                    let subscripts: Vec<&ast::Subscript> = chain[..count]
                        .iter()
                        .filter_map(|a| if let AccessExpr::Subscript(s) = a { Some(s) } else { None })
                        .collect();
                    value = self.subscript(value, &subscripts, place)?;
                    chain = &chain[count..];
                }
            }
        }
        Ok(value)
    }

    /// `(row).field`.
    fn field(&mut self, value: Expr, field: &ast::Expr, place: Location) -> Result<Expr> {
        let ast::Expr::Identifier(ident) = field else {
            return Err(self.syntax("a field name is expected after the dot", place));
        };
        let name = identifier(ident);
        let missing = |this: &Self, of: &str| {
            this.error(
                SqlState::UNDEFINED_COLUMN,
                format!("could not identify column \"{name}\" in {of}"),
                ident.span.start,
            )
        };
        match value {
            Expr::WholeRow { levels_up, relation, .. } => {
                let level = self.levels.len() - 1 - levels_up;
                let item = self.levels[level].namespace.iter().find(|item| item.relation == Some(relation));
                match item.and_then(|item| item.columns.iter().find(|column| column.name == name)) {
                    Some(column) => {
                        let mut expr = column.expr.clone();
                        crate::walk::deepen(&mut expr, levels_up);
                        Ok(expr)
                    }
                    None => Err(missing(self, "record data type")),
                }
            }
            Expr::Row { mut fields, .. } => {
                let at = name.strip_prefix('f').and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
                if at == 0 || at > fields.len() {
                    return Err(missing(self, "record data type"));
                }
                let field = fields.swap_remove(at - 1);
                self.known(field)
            }
            Expr::SetCall(call) if call.function.columns.len() > 1 => {
                let columns = call.columns();
                match columns.iter().position(|(column, _)| *column == name) {
                    Some(index) => {
                        Ok(Expr::Field { ty: columns[index].1, input: Box::new(Expr::SetCall(call)), index })
                    }
                    None => Err(missing(self, "record data type")),
                }
            }
            Expr::Column { levels_up, relation, ty, column } if ty.oid == oid::RECORD => {
                let level = self.levels.len() - 1 - levels_up;
                let relations = &self.levels[level].relations;
                let fields = relations.get(relation).and_then(|found| record_fields(found, column));
                let found =
                    fields.and_then(|fields| fields.into_iter().enumerate().find(|(_, f)| f.0 == name));
                match found {
                    Some((index, (_, field))) => Ok(Expr::Field { ty: field, input: Box::new(value), index }),
                    None => Err(missing(self, "record data type")),
                }
            }
            other if other.ty().oid == oid::RECORD => Err(missing(self, "record data type")),
            other => Err(self.error(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "column notation .{name} applied to type {}, which is not a composite type",
                    format_type(other.ty().oid, -1)
                ),
                place,
            )),
        }
    }

    fn subscript(&mut self, value: Expr, subscripts: &[&ast::Subscript], place: Location) -> Result<Expr> {
        let ty = value.ty();
        if ty.oid == oid::JSONB {
            let mut value = value;
            for subscript in subscripts {
                let ast::Subscript::Index { index } = subscript else {
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "jsonb subscript does not support slices",
                        place,
                    ));
                };
                let at = start(index);
                let index = self.expr(index)?;
                value = self.operator("->", value, index, at)?;
            }
            return Ok(value);
        }
        // A name is an array of characters from 0, without slices.
        if ty.oid == oid::NAME
            && let [ast::Subscript::Index { index }] = subscripts
        {
            let index = self.subscript_index(index)?;
            return self.plain_call("\u{1}name_at", vec![value, index], place);
        }
        let element = element_of(ty.oid);
        if element == 0 {
            return Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    format_type(ty.oid, -1)
                ),
                place,
            ));
        }
        let slices = subscripts.iter().any(|s| matches!(s, ast::Subscript::Slice { .. }));
        let mut list = Vec::with_capacity(subscripts.len());
        let one = || Expr::Const { value: Datum::Int4(1), ty: Type::new(oid::INT4) };
        for subscript in subscripts {
            list.push(match subscript {
                ast::Subscript::Index { index } if slices => {
                    Subscript::Slice(Some(one()), Some(self.subscript_index(index)?))
                }
                ast::Subscript::Index { index } => Subscript::Index(self.subscript_index(index)?),
                ast::Subscript::Slice { lower_bound, upper_bound, stride } => {
                    if stride.is_some() {
                        return Err(self.syntax_at(":", place));
                    }
                    let low = lower_bound.as_ref().map(|e| self.subscript_index(e)).transpose()?;
                    let high = upper_bound.as_ref().map(|e| self.subscript_index(e)).transpose()?;
                    Subscript::Slice(low, high)
                }
            });
        }
        let ty = if slices { ty } else { Type::with_typmod(element, ty.typmod) };
        Ok(Expr::Subscript { input: Box::new(value), subscripts: list, ty })
    }

    pub fn subscript_index(&mut self, index: &ast::Expr) -> Result<Expr> {
        let place = start(index);
        let resolved = self.expr(index)?;
        let target = Type::new(oid::INT4);
        let result = self.convert(resolved, target, function::CastContext::Assignment);
        match self.locate(result, place)? {
            Some(index) => Ok(index),
            None => {
                Err(self.error(SqlState::DATATYPE_MISMATCH, "array subscript must have type integer", place))
            }
        }
    }
}

/// Names and types of the fields of a record that a subquery's column holds, as far as the subquery shows where it comes from.
fn record_fields(relation: &Relation, column: usize) -> Option<Vec<(String, Type)>> {
    let (RelationKind::Subquery(query) | RelationKind::View { query, .. }) = &relation.kind else {
        return None;
    };
    match &query.targets.get(column)?.expr {
        Expr::SetCall(call) if call.function.columns.len() > 1 => {
            Some(call.columns().into_iter().map(|(name, ty)| (name.to_string(), ty)).collect())
        }
        Expr::Row { fields, .. } => {
            Some(fields.iter().enumerate().map(|(n, field)| (format!("f{}", n + 1), field.ty())).collect())
        }
        Expr::Column { levels_up: 0, relation, column, .. } => {
            record_fields(query.relations.get(*relation)?, *column)
        }
        _ => None,
    }
}

/// The text of any of the string literals PostgreSQL has.
pub(crate) fn string_of(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text)
        | Value::NationalStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

/// Without the parentheses around it.
pub(crate) fn strip(mut expr: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

fn sublink(kind: SublinkKind, query: Query, ty: Type) -> Expr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Expr::Sublink(Box::new(Sublink { id: NEXT.fetch_add(1, Ordering::Relaxed), kind, query, ty }))
}

/// Where a type's name stands, when the tree says.
fn type_place(data_type: &ast::DataType) -> Option<Location> {
    match data_type {
        ast::DataType::Custom(name, _) => Some(crate::names::name_location(name)),
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(element, _)) => type_place(element),
        _ => None,
    }
}

/// The operators that do not chain: `1 < 2 < 3` is an error.
fn is_comparison(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// `!=` is `<>`.
fn normal_operator(name: &str) -> String {
    if name == "!=" { "<>".to_owned() } else { name.to_owned() }
}

/// BETWEEN SYMMETRIC travels as three NOTs (parse.rs).
fn symmetric(low: &ast::Expr) -> (&ast::Expr, bool) {
    let mut inner = low;
    for _ in 0..3 {
        match inner {
            ast::Expr::UnaryOp { op: UnaryOperator::Not, expr } => inner = expr,
            _ => return (low, false),
        }
    }
    (inner, true)
}

/// The name of an EXTRACT field.
fn field_name(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Custom(ident) => ident.value.to_lowercase(),
        other => other.to_string().trim_matches('\'').to_lowercase(),
    }
}
