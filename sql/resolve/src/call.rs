//! Calls: functions, aggregates, window functions, set-returning functions, and the constructs that look like
//! functions but are not (COALESCE, NULLIF, GREATEST, ROW, GROUPING, the keywords like CURRENT_DATE).

use function::{AggregateKind, Callable, Place};
use sqlparser::ast::{
    self, DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    NullTreatment,
};
use sqlparser::tokenizer::Location;
use value::types::{self, format_type, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::names::{identifier, name_location, split_name};
use crate::parse::marker;
use crate::same::same;
use crate::scope::{Clause, Resolver, start};
use crate::tree::{AggregateCall, Call, Expr, Query, SetCall, Window, WindowCall, WindowOrder, WindowTarget};
use crate::walk;

/// Nulls of a sort key: last ascending, first descending, unless said otherwise.
pub(crate) fn order_options(options: &ast::OrderByOptions) -> Result<(bool, bool)> {
    let descending = match &options.sort {
        None | Some(ast::OrderBySort::Asc) => false,
        Some(ast::OrderBySort::Desc) => true,
        Some(ast::OrderBySort::Using(name)) => match split_name(name)?.last().map(String::as_str) {
            Some("<") => false,
            Some(">") => true,
            other => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("operator {} is not a valid ordering operator", other.unwrap_or_default()),
                )
                .hint("Ordering operators must be \"<\" or \">\" members of btree operator families."));
            }
        },
    };
    Ok((descending, options.nulls_first.unwrap_or(descending)))
}

impl Resolver<'_> {
    /// A call of a scalar function that syntax stands for.
    pub fn plain_call(&mut self, name: &str, args: Vec<Expr>, place: Location) -> Result<Expr> {
        let oids: Vec<Oid> = args.iter().map(|arg| arg.ty().oid).collect();
        let selected = self.locate(function::select_function(name, &oids), place)?;
        match selected.target {
            Callable::Function(target) => {
                self.scalar_call(target, args, &selected.arg_types, selected.result)
            }
            _ => {
                Err(self.error(SqlState::WRONG_OBJECT_TYPE, format!("{name} is not a plain function"), place))
            }
        }
    }

    /// As [`Self::plain_call`] for SQL's own syntax (`extract(... from ...)`): errors name the schema.
    pub fn syntax_call(&mut self, name: &str, args: Vec<Expr>, place: Location) -> Result<Expr> {
        self.plain_call(name, args, place).map_err(|error| {
            if error.state() != SqlState::UNDEFINED_FUNCTION {
                return error;
            }
            let message = error.fields().message.replacen("function ", "function pg_catalog.", 1);
            error.reworded(message)
        })
    }

    fn scalar_call(
        &mut self,
        function: &'static function::Function,
        args: Vec<Expr>,
        types: &[Oid],
        result: Oid,
    ) -> Result<Expr> {
        if function.name == "pg_typeof"
            && let [arg] = args.as_slice()
            && arg.ty().oid == oid::UNKNOWN
        {
            return Ok(Expr::Const { value: Datum::Oid(oid::UNKNOWN), ty: Type::new(result) });
        }
        let args = self.arguments(args, types)?;
        Ok(Expr::Call(Box::new(Call {
            function,
            args,
            ty: Type::new(result),
            position: None,
            operator: None,
        })))
    }

    fn arguments(&mut self, args: Vec<Expr>, types: &[Oid]) -> Result<Vec<Expr>> {
        let mut coerced = Vec::with_capacity(args.len());
        for (at, arg) in args.into_iter().enumerate() {
            let target = types.get(at).copied().unwrap_or(oid::ANY);
            let arg = self.argument(arg, target)?;
            // "any" takes everything as it is, but nothing may stay without a type.
            coerced.push(self.known(arg)?);
        }
        Ok(coerced)
    }

    /// Keywords that are calls without parentheses. `precision` is that of CURRENT_TIMESTAMP(p).
    pub fn keyword(&mut self, name: &str, precision: Option<i32>, place: Location) -> Result<Option<Expr>> {
        let now = |this: &mut Self| this.plain_call("now", Vec::new(), place);
        let typmod = precision.unwrap_or(-1);
        let expr = match name {
            "current_timestamp" => {
                let now = now(self)?;
                self.cast(now, Type::with_typmod(oid::TIMESTAMPTZ, typmod), place)?
            }
            "localtimestamp" => {
                let now = now(self)?;
                self.cast(now, Type::with_typmod(oid::TIMESTAMP, typmod), place)?
            }
            "current_date" => {
                let now = now(self)?;
                self.cast(now, Type::new(oid::DATE), place)?
            }
            "localtime" => {
                let now = now(self)?;
                self.cast(now, Type::with_typmod(oid::TIME, typmod), place)?
            }
            "current_time" => {
                return Err(Error::unsupported(
                    "type time with time zone",
                    "Use LOCALTIME or CURRENT_TIMESTAMP.",
                )
                .at(self.position(place)));
            }
            "current_user" | "current_role" | "user" => self.plain_call("current_user", Vec::new(), place)?,
            "session_user" => self.plain_call("session_user", Vec::new(), place)?,
            "current_catalog" => self.plain_call("current_database", Vec::new(), place)?,
            "current_schema" => self.plain_call("current_schema", Vec::new(), place)?,
            "default" => {
                return Err(self.syntax("DEFAULT is not allowed in this context", place));
            }
            _ => return Ok(None),
        };
        Ok(Some(expr))
    }

    /// Any call.
    pub fn function(&mut self, function: &ast::Function) -> Result<Expr> {
        let place = name_location(&function.name);
        let (name, plain) = self.function_name(&function.name, place)?;
        if !matches!(function.parameters, FunctionArguments::None) {
            return Err(self.syntax_at("(", place));
        }
        let list = match &function.args {
            FunctionArguments::None => {
                if let Some(found) = self.keyword(&name, None, place)? {
                    return Ok(found);
                }
                return Err(self.syntax_at(&name, place));
            }
            FunctionArguments::Subquery(query) if plain && name == "array" => {
                return self.array_sublink(query);
            }
            FunctionArguments::Subquery(query) => {
                // f((SELECT ...)) written with one pair of parentheses.
                return Err(self.syntax_at("SELECT", crate::scope::query_start(query)));
            }
            FunctionArguments::List(list) => list,
        };
        if plain && let Some(found) = self.construct(&name, list, place)? {
            if function.over.is_some() || function.filter.is_some() {
                return Err(self.syntax_at(if function.over.is_some() { "OVER" } else { "FILTER" }, place));
            }
            return Ok(found);
        }
        self.general_call(&name, function, list, place)
    }

    /// The function's own name; pg_catalog may stand before it. The flag: written plain, without schema or quotes.
    fn function_name(&self, name: &ast::ObjectName, place: Location) -> Result<(String, bool)> {
        let parts = split_name(name)?;
        match parts.as_slice() {
            [one] => {
                let quoted = matches!(name.0.first(),
                    Some(ast::ObjectNamePart::Identifier(ident)) if ident.quote_style.is_some());
                Ok((one.clone(), !quoted))
            }
            [schema, one] if schema == "pg_catalog" => Ok((one.clone(), false)),
            [schema, one] => {
                let known = matches!(schema.as_str(), "information_schema" | "startdb")
                    || self.names.catalog().schema_named(self.names.database(), schema).is_some();
                if schema == "information_schema" && !function::functions_named(one).is_empty() {
                    return Ok((one.clone(), false));
                }
                if !known {
                    return Err(self.error(
                        SqlState::INVALID_SCHEMA_NAME,
                        format!("schema \"{schema}\" does not exist"),
                        place,
                    ));
                }
                Err(self
                    .error(SqlState::UNDEFINED_FUNCTION, format!("function {schema}.{one} does not exist"), place)
                    .hint("No function matches the given name and argument types. You might need to add explicit type casts."))
            }
            _ => Err(self.syntax(
                format!("improper qualified name (too many dotted names): {}", parts.join(".")),
                place,
            )),
        }
    }

    /// What is written like a function but has rules of its own.
    fn construct(
        &mut self,
        name: &str,
        list: &ast::FunctionArgumentList,
        place: Location,
    ) -> Result<Option<Expr>> {
        if !matches!(
            name,
            "coalesce"
                | "nullif"
                | "greatest"
                | "least"
                | "row"
                | "grouping"
                | "current_timestamp"
                | "localtimestamp"
                | "localtime"
                | "current_time"
                | "exists"
                | "\u{1}rows_from"
        ) {
            return Ok(None);
        }
        let mut args: Vec<&ast::Expr> = Vec::with_capacity(list.args.len());
        let mut row: Vec<Expr> = Vec::new();
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    if name == "row" {
                        let field = self.expr(expr)?;
                        row.push(field);
                    }
                    args.push(expr);
                }
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(relation)) if name == "row" => {
                    let columns = self.star_of(relation)?;
                    row.extend(columns.into_iter().map(|(_, expr)| expr));
                }
                _ => return Err(self.syntax_at("*", place)),
            }
        }
        let expr = match name {
            "row" => self.row(row)?,
            "coalesce" | "greatest" | "least" => {
                if args.is_empty() {
                    return Err(self.syntax_at(")", place));
                }
                let context = name.to_uppercase();
                let resolved = self.exprs(args)?;
                for arg in &resolved {
                    self.refuse_set(arg, &context, place)?;
                }
                let (args, ty) = self.common(resolved, &context, place)?;
                if name == "coalesce" {
                    Expr::Coalesce { args, ty }
                } else {
                    // The order of the type is needed to compare.
                    if function::comparison(ty.oid, function::Strategy::Lt).is_none() {
                        return Err(self.error(
                            SqlState::UNDEFINED_FUNCTION,
                            format!(
                                "could not identify a comparison function for type {}",
                                format_type(ty.oid, -1)
                            ),
                            place,
                        ));
                    }
                    Expr::Extreme { greatest: name == "greatest", args, ty }
                }
            }
            "nullif" => {
                let [left, right] = args[..] else { return Err(self.syntax_at(")", place)) };
                let right_place = start(right);
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                let test = self.operator("=", left, right, right_place)?;
                let Expr::Call(call) = test else {
                    return Err(self.error(SqlState::UNDEFINED_FUNCTION, "NULLIF needs plain values", place));
                };
                let Ok([left, right]) = <[Expr; 2]>::try_from(call.args) else {
                    return Err(Error::internal("= does not take two arguments"));
                };
                let ty = left.ty();
                Expr::NullIf { equal: call.function, left: Box::new(left), right: Box::new(right), ty }
            }
            "grouping" => {
                let resolved = self.exprs(args)?;
                self.grouping(resolved, place)?
            }
            "exists" => return Err(self.syntax_at("exists", place)),
            "\u{1}rows_from" => return Err(self.syntax_at("ROWS", place)),
            timestamp => {
                let precision = match args[..] {
                    [ast::Expr::Value(value)] => match &value.value {
                        ast::Value::Number(text, _) => text.parse::<i32>().ok().map(|p| p.min(6)),
                        _ => None,
                    },
                    _ => None,
                };
                if !args.is_empty() && precision.is_none() {
                    return Err(self.syntax_at("(", place));
                }
                return self.keyword(timestamp, precision, place);
            }
        };
        Ok(Some(expr))
    }

    fn general_call(
        &mut self,
        name: &str,
        function: &ast::Function,
        list: &ast::FunctionArgumentList,
        place: Location,
    ) -> Result<Expr> {
        let mut order: &[ast::OrderByExpr] = &[];
        let mut null_treatment = function.null_treatment;
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(list) => order = list,
                FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => null_treatment = Some(*treatment),
                _ => return Err(self.syntax("syntax error: this clause is not PostgreSQL's", place)),
            }
        }
        if null_treatment == Some(NullTreatment::IgnoreNulls) {
            return Err(
                Error::unsupported("IGNORE NULLS", "Filter NULLs in a subquery.").at(self.position(place))
            );
        }
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let aggregate = function::functions_named(name).iter().any(|c| matches!(c, Callable::Aggregate(_)));
        let windowed = function.over.is_some();
        // Arguments of an aggregate may not hold another; columns in them need not be grouped.
        if aggregate && !windowed {
            self.top().in_aggregate += 1;
        }
        let resolved = self.call_arguments(list, place);
        let (mut positional, named, star, spread) = match resolved {
            Ok(parts) => parts,
            Err(error) => {
                if aggregate && !windowed {
                    self.top().in_aggregate -= 1;
                }
                return Err(error);
            }
        };
        let result: Result<Vec<WindowOrder>> = (|| {
            let mut ordering = Vec::new();
            for one in order.iter().chain(&function.within_group) {
                let expr = self.expr(&one.expr)?;
                let expr = self.known(expr)?;
                let (descending, nulls_first) = self.locate(order_options(&one.options), place)?;
                self.orderable(&expr, start(&one.expr))?;
                ordering.push(WindowOrder { expr, descending, nulls_first });
            }
            Ok(ordering)
        })();
        if aggregate && !windowed {
            self.top().in_aggregate -= 1;
        }
        let ordering = result?;
        if star && name != "count" {
            return Err(self
                .error(SqlState::UNDEFINED_FUNCTION, format!("function {name}() does not exist"), place)
                .hint("No function matches the given name and argument types. You might need to add explicit type casts."));
        }
        if name == "count" && !star && positional.is_empty() && named.is_empty() {
            return Err(self.error(
                SqlState::WRONG_OBJECT_TYPE,
                "count(*) must be used to call a parameterless aggregate function",
                place,
            ));
        }
        if name == "pg_typeof"
            && let [Expr::Const { ty, .. }] = positional.as_slice()
            && ty.oid == oid::UNKNOWN
        {
            return Ok(Expr::Const { value: Datum::Oid(oid::UNKNOWN), ty: Type::new(oid::REGTYPE) });
        }
        let last = match list.args.last() {
            Some(FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. })
            | Some(FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. }) => start(expr),
            _ => place,
        };
        if spread && let Some(call) = self.spread(name, &mut positional, place, last)? {
            return Ok(call);
        }
        self.name_rows(name, &mut positional, place)?;
        let mut oids: Vec<Oid> = positional.iter().map(|arg| arg.ty().oid).collect();
        if !function.within_group.is_empty() {
            oids.extend(ordering.iter().map(|order| order.expr.ty().oid));
        }
        let (selected, args) = if named.is_empty() {
            (self.locate(function::select_function(name, &oids), place)?, positional)
        } else {
            self.named_arguments(name, positional, named, &oids, place)?
        };
        match selected.target {
            Callable::Function(target) => {
                self.only_aggregates(name, distinct, !order.is_empty(), function, place)?;
                self.scalar_call(target, args, &selected.arg_types, selected.result)
            }
            Callable::Coercion(target) => {
                let mut args = args;
                match args.pop() {
                    Some(arg) => self.cast(arg, Type::new(target), place),
                    None => Err(self.syntax_at(")", place)),
                }
            }
            Callable::Set(target) => {
                self.only_aggregates(name, distinct, !order.is_empty(), function, place)?;
                self.set_call(target, args, &selected.arg_types, selected.result, place)
            }
            Callable::Window(target) => {
                let Some(over) = &function.over else {
                    return Err(self.error(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("window function {name} requires an OVER clause"),
                        place,
                    ));
                };
                if distinct {
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "DISTINCT is not implemented for window functions",
                        place,
                    ));
                }
                if function.filter.is_some() {
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "FILTER is not implemented for non-aggregate window functions",
                        place,
                    ));
                }
                let args = self.arguments(args, &selected.arg_types)?;
                let ty = Type::new(selected.result);
                self.window_call(WindowTarget::Function(target), args, None, over, ty, place)
            }
            Callable::Aggregate(target) => {
                let ty = Type::new(selected.result);
                let ordered_set = matches!(target.kind, AggregateKind::OrderedSet { .. });
                if ordered_set && function.within_group.is_empty() {
                    return Err(self.error(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("WITHIN GROUP is required for ordered-set aggregate {name}"),
                        place,
                    ));
                }
                if !ordered_set && !function.within_group.is_empty() {
                    return Err(self.error(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP"),
                        place,
                    ));
                }
                let filter = match &function.filter {
                    Some(filter) => {
                        let filter =
                            self.in_clause(Clause::Filter, |this| this.condition(filter, "FILTER"))?;
                        Some(filter)
                    }
                    None => None,
                };
                if let Some(over) = &function.over {
                    if distinct {
                        return Err(self.error(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "DISTINCT is not implemented for window functions",
                            place,
                        ));
                    }
                    if !order.is_empty() {
                        return Err(self.error(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "aggregate ORDER BY is not implemented for window functions",
                            place,
                        ));
                    }
                    if ordered_set {
                        return Err(self.error(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            format!("OVER is not supported for ordered-set aggregate {name}"),
                            place,
                        ));
                    }
                    let args = self.arguments(args, &selected.arg_types)?;
                    return self.window_call(WindowTarget::Aggregate(target), args, filter, over, ty, place);
                }
                let (args, direct_args, order_by) = if ordered_set {
                    let count = args.len();
                    let direct = self.arguments(args, &selected.arg_types)?;
                    let mut order_by = Vec::with_capacity(ordering.len());
                    for (at, order) in ordering.into_iter().enumerate() {
                        let target = selected.arg_types.get(count + at).copied().unwrap_or(oid::ANY);
                        let expr = self.argument(order.expr, target)?;
                        order_by.push(WindowOrder { expr, ..order });
                    }
                    (Vec::new(), direct, order_by)
                } else {
                    (self.arguments(args, &selected.arg_types)?, Vec::new(), ordering)
                };
                if distinct {
                    if let Some(bad) = order_by.iter().find(|o| !args.iter().any(|arg| same(arg, &o.expr))) {
                        let _ = bad;
                        return Err(self.error(
                            SqlState::INVALID_COLUMN_REFERENCE,
                            "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                            place,
                        ));
                    }
                    for arg in &args {
                        self.orderable(arg, place)?;
                    }
                }
                self.aggregate(
                    AggregateCall {
                        aggregate: target,
                        args,
                        direct_args,
                        distinct,
                        order_by,
                        filter,
                        levels_up: 0,
                        ty,
                    },
                    place,
                )
            }
        }
    }

    /// `f(a, VARIADIC array)`: an array whose elements are known is written out as arguments; otherwise the functions
    /// for which something else does the same become that.
    fn spread(
        &mut self,
        name: &str,
        args: &mut Vec<Expr>,
        place: Location,
        array_place: Location,
    ) -> Result<Option<Expr>> {
        let variadic = function::functions_named(name).iter().any(|callable| match callable {
            Callable::Function(f) => f.variadic,
            Callable::Aggregate(a) => a.variadic,
            Callable::Set(s) => s.variadic,
            Callable::Window(_) | Callable::Coercion(_) => false,
        });
        if !variadic {
            let oids: Vec<Oid> = args.iter().map(|arg| arg.ty().oid).collect();
            let types: Vec<String> = oids.iter().map(|ty| format_type(*ty, -1)).collect();
            return Err(self
                .error(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function {name}({}) does not exist", types.join(", ")),
                    place,
                )
                .hint("No function matches the given name and argument types. You might need to add explicit type casts."));
        }
        let Some(mut array) = args.pop() else { return Ok(None) };
        crate::constant::fold_expr(&mut array, self.names.env(), true)?;
        let ty = array.ty();
        let element = types::element_of(ty.oid);
        match array {
            Expr::Array { elements, .. } if elements.iter().all(|e| e.ty().oid == element) => {
                args.extend(elements);
                return Ok(None);
            }
            Expr::Const { value: Datum::Array(list), .. } => {
                let ty = Type::with_typmod(element, ty.typmod);
                args.extend(list.values.iter().map(|value| Expr::Const { value: value.clone(), ty }));
                return Ok(None);
            }
            other => array = other,
        }
        if element == 0 && ty.oid != oid::UNKNOWN {
            return Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                "VARIADIC argument must be an array",
                array_place,
            ));
        }
        let mut whole = |name: &str, args: Vec<Expr>| self.plain_call(name, args, place).map(Some);
        match (name, std::mem::take(args).as_slice()) {
            ("concat", []) => {
                let nothing = Expr::Const { value: Datum::text(""), ty: Type::new(oid::TEXT) };
                whole("array_to_string", vec![array, nothing])
            }
            ("concat_ws", [separator]) => whole("array_to_string", vec![array, separator.clone()]),
            ("json_build_array", []) => whole("to_json", vec![array]),
            ("jsonb_build_array", []) => whole("to_jsonb", vec![array]),
            ("json_extract_path" | "jsonb_extract_path", [json]) => {
                self.operator("#>", json.clone(), array, place).map(Some)
            }
            ("json_extract_path_text" | "jsonb_extract_path_text", [json]) => {
                self.operator("#>>", json.clone(), array, place).map(Some)
            }
            _ => Err(Error::unsupported(
                format!("VARIADIC with an array computed per row, in {name}()"),
                "Write the arguments one by one.",
            )
            .at(self.position(place))),
        }
    }

    /// Resolves arguments: positional, named, whether it was `(*)`, and whether VARIADIC stands before the last.
    #[allow(clippy::type_complexity)]
    fn call_arguments(
        &mut self,
        list: &ast::FunctionArgumentList,
        place: Location,
    ) -> Result<(Vec<Expr>, Vec<(String, Expr)>, bool, bool)> {
        let (mut positional, mut named, mut star, mut spread) = (Vec::new(), Vec::new(), false, false);
        for (at, arg) in list.args.iter().enumerate() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    if !named.is_empty() {
                        return Err(
                            self.syntax("positional argument cannot follow named argument", start(expr))
                        );
                    }
                    positional.push(self.expr(expr)?);
                }
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_)) => {
                    star = true
                }
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    positional.push(self.whole_row(name)?);
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. }
                | FunctionArg::ExprNamed {
                    name: ast::Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } if name.value == marker::VARIADIC => {
                    if !named.is_empty() || at + 1 != list.args.len() {
                        return Err(self.syntax_at("VARIADIC", name.span.start));
                    }
                    spread = true;
                    positional.push(self.expr(expr)?);
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    named.push((identifier(name), self.expr(expr)?));
                }
                FunctionArg::ExprNamed {
                    name: ast::Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    named.push((identifier(name), self.expr(expr)?));
                }
                _ => return Err(self.syntax_at("=>", place)),
            }
        }
        if star && (!positional.is_empty() || !named.is_empty()) {
            return Err(self.syntax_at("*", place));
        }
        Ok((positional, named, star, spread))
    }

    fn named_arguments(
        &mut self,
        name: &str,
        positional: Vec<Expr>,
        named: Vec<(String, Expr)>,
        oids: &[Oid],
        place: Location,
    ) -> Result<(function::Selected<Callable>, Vec<Expr>)> {
        let types: Vec<(&str, Oid)> =
            named.iter().map(|(name, expr)| (name.as_str(), expr.ty().oid)).collect();
        let selected = function::select_function_named(name, oids, &types);
        let (selected, places) = self.locate(selected, place)?;
        let mut given: Vec<Option<Expr>> =
            positional.into_iter().chain(named.into_iter().map(|(_, expr)| expr)).map(Some).collect();
        let mut args = Vec::with_capacity(places.len());
        for (at, one) in places.into_iter().enumerate() {
            let ty = Type::new(selected.arg_types.get(at).copied().unwrap_or(oid::TEXT));
            args.push(match one {
                Place::Argument(index) => given
                    .get_mut(index)
                    .and_then(Option::take)
                    .ok_or_else(|| Error::internal("an argument is used twice"))?,
                Place::Default(value) => Expr::Const { value, ty },
            });
        }
        Ok((selected, args))
    }

    /// 42809 for aggregate syntax on something else.
    fn only_aggregates(
        &self,
        name: &str,
        distinct: bool,
        ordered: bool,
        function: &ast::Function,
        place: Location,
    ) -> Result<()> {
        let message = if distinct {
            format!("DISTINCT specified, but {name} is not an aggregate function")
        } else if !function.within_group.is_empty() {
            format!("WITHIN GROUP specified, but {name} is not an aggregate function")
        } else if ordered {
            format!("ORDER BY specified, but {name} is not an aggregate function")
        } else if function.filter.is_some() {
            format!("FILTER specified, but {name} is not an aggregate function")
        } else if function.over.is_some() {
            format!("OVER specified, but {name} is not a window function nor an aggregate function")
        } else {
            return Ok(());
        };
        Err(self.error(SqlState::WRONG_OBJECT_TYPE, message, place))
    }

    fn set_call(
        &mut self,
        target: &'static function::SetFunction,
        args: Vec<Expr>,
        types: &[Oid],
        result: Oid,
        place: Location,
    ) -> Result<Expr> {
        let clause = self.here().clause;
        if !clause.allows_sets() {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("set-returning functions are not allowed in {}", clause.name()),
                place,
            ));
        }
        let args = self.arguments(args, types)?;
        if clause != Clause::FromFunction {
            self.top().has_sets = true;
        } else if args.iter().any(|arg| walk::any(arg, &|e| matches!(e, Expr::SetCall(_)))) {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "set-returning functions must appear at top level of FROM",
                place,
            ));
        }
        Ok(Expr::SetCall(Box::new(SetCall { function: target, args, ty: Type::new(result) })))
    }

    /// 42883 when values of the type cannot be sorted.
    pub fn orderable(&self, expr: &Expr, place: Location) -> Result<()> {
        let ty = expr.ty().oid;
        if function::comparison(ty, function::Strategy::Lt).is_some()
            || ty == oid::RECORD
            || types::element_of(ty) != 0
            || ty == oid::UNKNOWN
        {
            return Ok(());
        }
        Err(self
            .error(
                SqlState::UNDEFINED_FUNCTION,
                format!("could not identify an ordering operator for type {}", format_type(ty, -1)),
                place,
            )
            .hint("Use an explicit ordering operator or modify the query."))
    }

    /// Puts an aggregate where it belongs: the innermost query whose columns it uses, or this one.
    fn aggregate(&mut self, mut call: AggregateCall, place: Location) -> Result<Expr> {
        let parts: Vec<&Expr> = call
            .args
            .iter()
            .chain(call.order_by.iter().map(|order| &order.expr))
            .chain(&call.filter)
            .collect();
        let mut lowest = None;
        for part in &parts {
            lowest = lowest_level(part, 0, lowest);
        }
        let up = lowest.unwrap_or(0);
        for part in parts.iter().copied().chain(&call.direct_args) {
            let nested = walk::any(part, &|e| matches!(e, Expr::Aggregate(inner) if inner.levels_up == up));
            if nested {
                return Err(self.error(
                    SqlState::GROUPING_ERROR,
                    "aggregate function calls cannot be nested",
                    place,
                ));
            }
            if walk::any(part, &|e| matches!(e, Expr::Window(_))) {
                return Err(self.error(
                    SqlState::GROUPING_ERROR,
                    "aggregate function calls cannot contain window function calls",
                    place,
                ));
            }
            if walk::any(part, &|e| matches!(e, Expr::SetCall(_))) {
                return Err(self
                    .error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "aggregate function calls cannot contain set-returning function calls",
                        place,
                    )
                    .hint("You might be able to move the set-returning function into a LATERAL FROM item."));
            }
        }
        call.levels_up = up;
        let level = self.levels.len() - 1 - up;
        let state = &self.levels[level];
        let clause = state.clause;
        if !clause.allows_aggregates() {
            let name = clause.name();
            let message = match clause {
                Clause::Limit | Clause::Offset => format!("aggregate functions are not allowed in {name}"),
                _ => format!("aggregate functions are not allowed in {name}"),
            };
            return Err(self.error(SqlState::GROUPING_ERROR, message, place));
        }
        let state = &mut self.levels[level];
        state.has_aggregates = true;
        state.first_aggregate.get_or_insert(place);
        Ok(Expr::Aggregate(Box::new(call)))
    }

    fn window_call(
        &mut self,
        function: WindowTarget,
        args: Vec<Expr>,
        filter: Option<Expr>,
        over: &ast::WindowType,
        ty: Type,
        place: Location,
    ) -> Result<Expr> {
        let clause = self.here().clause;
        if !clause.allows_windows() {
            return Err(self.error(
                SqlState::WINDOWING_ERROR,
                match clause {
                    Clause::WindowPartition | Clause::WindowOrder | Clause::WindowFrame => {
                        "window functions are not allowed in window definitions".to_owned()
                    }
                    _ => format!("window functions are not allowed in {}", clause.name()),
                },
                place,
            ));
        }
        for arg in args.iter().chain(&filter) {
            if walk::any(arg, &|e| matches!(e, Expr::Window(_))) {
                return Err(self.error(
                    SqlState::WINDOWING_ERROR,
                    "window function calls cannot be nested",
                    place,
                ));
            }
        }
        let window = self.window_of(over, place)?;
        let at = self.add_window(window);
        self.top().has_windows = true;
        Ok(Expr::Window(Box::new(WindowCall { function, args, filter, window: at, ty })))
    }

    /// The same window twice is one window.
    fn add_window(&mut self, window: Window) -> usize {
        let windows = &mut self.top().windows;
        match windows.iter().position(|other| crate::window::same_window(other, &window)) {
            Some(at) => at,
            None => {
                windows.push(window);
                windows.len() - 1
            }
        }
    }

    /// Functions that make JSON of a row need its field names, which whole-row values do not carry: such arguments
    /// become rows with the names written out.
    fn name_rows(&mut self, name: &str, args: &mut [Expr], place: Location) -> Result<()> {
        let makes_json = name == "array_agg"
            || name.strip_prefix("jsonb_").or_else(|| name.strip_prefix("json_")).is_some_and(|rest| {
                matches!(rest, "agg" | "build_object" | "build_array" | "object_agg" | "populate_record")
            })
            || matches!(name, "row_to_json" | "to_json" | "to_jsonb");
        if makes_json {
            for arg in args {
                if matches!(arg, Expr::WholeRow { .. }) {
                    *arg = self.named_row(arg.clone(), place)?;
                }
            }
        }
        Ok(())
    }

    fn named_row(&mut self, row: Expr, place: Location) -> Result<Expr> {
        let Expr::WholeRow { levels_up, relation, .. } = row else { return Ok(row) };
        let level = self.levels.len() - 1 - levels_up;
        let nullable = self.levels[level].outer_join;
        let item = self.levels[level].namespace.iter().find(|item| item.relation == Some(relation));
        let Some(item) = item else { return Err(Error::internal("a row of no relation")) };
        let constant = |value, ty| Expr::Const { value, ty: Type::new(ty) };
        let mut args = vec![constant(Datum::Bool(nullable), oid::BOOL)];
        for column in &item.columns {
            let mut field = column.expr.clone();
            walk::deepen(&mut field, levels_up);
            args.push(constant(Datum::text(column.name.as_str()), oid::TEXT));
            args.push(field);
        }
        if args.len() == 1 {
            return Ok(row);
        }
        self.plain_call("\u{1}named_row", args, place)
    }
}

/// The smallest number of levels up that a column in `expr` goes, seen from `depth` queries above it.
fn lowest_level(expr: &Expr, depth: usize, found: Option<usize>) -> Option<usize> {
    crate::parse::level(|| {
        let mut found = found;
        let mut note = |up: usize| {
            if let Some(up) = up.checked_sub(depth) {
                found = Some(found.map_or(up, |f: usize| f.min(up)));
            }
        };
        match expr {
            Expr::Column { levels_up, relation, .. } if *relation != usize::MAX => note(*levels_up),
            Expr::WholeRow { levels_up, .. } => note(*levels_up),
            Expr::RowId { .. } => note(0),
            Expr::Aggregate(call) => note(call.levels_up),
            Expr::Sublink(sublink) => found = lowest_in_query(&sublink.query, depth + 1, found),
            _ => {}
        }
        walk::children(expr, &mut |child| found = lowest_level(child, depth, found));
        found
    })
}

fn lowest_in_query(query: &Query, depth: usize, found: Option<usize>) -> Option<usize> {
    let found = std::cell::Cell::new(found);
    walk::query_parts(query, &mut |expr| found.set(lowest_level(expr, depth, found.get())), &mut |inner| {
        found.set(lowest_in_query(inner, depth + 1, found.get()))
    });
    found.get()
}
