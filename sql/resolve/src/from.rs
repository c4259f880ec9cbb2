//! FROM: tables, views, subqueries, functions, joins; what names they leave behind.

use std::sync::Arc;

use engine::catalog::{Sequence, View};
use sqlparser::ast::{self, JoinConstraint, JoinOperator, TableFactor, TableWithJoins};
use sqlparser::tokenizer::Location;
use value::types::oid;
use value::{Datum, Error, Result, SqlState, Type};

use crate::names::{self, Found, database_and_schema, identifier, name_location};
use crate::parse::marker;
use crate::query::outputs;
use crate::scope::{Clause, Item, ItemColumn, Resolver, start};
use crate::tree::{
    Expr, FromItem, FunctionCallInFrom, Join, JoinKind, OutputColumn, Query, RelationKind, Target,
};
use crate::walk;

impl Resolver<'_> {
    /// The FROM list; its names enter the level's namespace.
    pub fn resolve_from(&mut self, list: &[TableWithJoins]) -> Result<Vec<FromItem>> {
        let (was_from, was_lateral) = (self.here().in_from, self.here().lateral);
        self.top().in_from = true;
        self.top().lateral = false;
        let mut items = Vec::with_capacity(list.len());
        for entry in list {
            let (item, scope) = self.table_with_joins(entry)?;
            let existing = self.here().namespace.clone();
            self.no_duplicates(&existing, &scope, start_of_factor(&entry.relation))?;
            self.top().namespace.extend(scope);
            items.push(item);
        }
        let level = self.top();
        level.in_from = was_from;
        level.lateral = was_lateral;
        Ok(items)
    }

    /// 42712 when two items have the same name.
    fn no_duplicates(&self, a: &[Item], b: &[Item], place: Location) -> Result<()> {
        for item in b.iter().filter(|item| item.relation_visible && !item.name.is_empty()) {
            let clash = a.iter().any(|other| {
                other.relation_visible && other.name == item.name && {
                    // The same name from two schemas is fine as long as neither has an alias.
                    !(other.schema.is_some() && item.schema.is_some() && other.schema != item.schema)
                }
            });
            if clash {
                return Err(self.error(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", item.name),
                    place,
                ));
            }
        }
        Ok(())
    }

    fn table_with_joins(&mut self, entry: &TableWithJoins) -> Result<(FromItem, Vec<Item>)> {
        crate::parse::level(|| {
            let (mut item, mut scope) = self.factor(&entry.relation)?;
            for join in &entry.joins {
                (item, scope) = self.join(item, scope, join)?;
            }
            Ok((item, scope))
        })
    }

    fn join(
        &mut self,
        left: FromItem,
        left_scope: Vec<Item>,
        join: &ast::Join,
    ) -> Result<(FromItem, Vec<Item>)> {
        let place = start_of_factor(&join.relation);
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
                (JoinKind::Inner, c)
            }
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
            JoinOperator::FullOuter(c) => (JoinKind::Full, c),
            _ => return Err(self.syntax("syntax error: this kind of join is not PostgreSQL's", place)),
        };
        let cross = matches!(join.join_operator, JoinOperator::CrossJoin(_));
        if !cross && matches!(constraint, JoinConstraint::None) {
            let end = match &join.relation {
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Derived { alias: Some(alias), .. } => alias.name.span.end,
                TableFactor::Table { name, .. } => match name.0.last() {
                    Some(ast::ObjectNamePart::Identifier(ident)) => ident.span.end,
                    _ => place,
                },
                _ => place,
            };
            return Err(self.expected_more(end));
        }
        // The left side is visible to LATERAL items of the right one.
        let before = self.here().namespace.len();
        let lateral_ok = matches!(kind, JoinKind::Inner | JoinKind::Left);
        if kind != JoinKind::Inner {
            self.top().outer_join = true;
        }
        let seen: Vec<Item> = left_scope
            .iter()
            .cloned()
            .map(|item| Item { lateral_ok: item.lateral_ok && lateral_ok, ..item })
            .collect();
        self.top().namespace.extend(seen);
        let right = self.factor(&join.relation);
        self.top().namespace.truncate(before);
        let (right, right_scope) = right?;
        self.no_duplicates(&left_scope, &right_scope, place)?;
        let mut scope = left_scope;
        let condition = match constraint {
            JoinConstraint::None => {
                scope.extend(right_scope);
                None
            }
            JoinConstraint::On(condition) => {
                scope.extend(right_scope);
                Some(self.join_condition(condition, &scope)?)
            }
            JoinConstraint::Using(columns) => {
                let mut wanted = Vec::with_capacity(columns.len());
                for name in columns {
                    let place = name_location(name);
                    let parts = names::split_name(name)?;
                    let [column] = parts.as_slice() else { return Err(self.syntax_at(".", place)) };
                    if wanted.iter().any(|(other, _)| other == column) {
                        return Err(self.error(
                            SqlState::DUPLICATE_COLUMN,
                            format!("column name \"{column}\" appears more than once in USING clause"),
                            place,
                        ));
                    }
                    wanted.push((column.clone(), place));
                }
                let (condition, merged) = self.using(kind, scope, right_scope, wanted, place)?;
                scope = merged;
                condition
            }
            JoinConstraint::Natural => {
                let mut wanted: Vec<(String, Location)> = Vec::new();
                for column in shown(&scope) {
                    if shown(&right_scope).any(|other| other.name == column.name)
                        && !wanted.iter().any(|(name, _)| *name == column.name)
                    {
                        wanted.push((column.name.clone(), place));
                    }
                }
                let (condition, merged) = self.using(kind, scope, right_scope, wanted, place)?;
                scope = merged;
                condition
            }
        };
        Ok((FromItem::Join(Box::new(Join { kind, left, right, condition })), scope))
    }

    /// ON sees the two sides of its join, and what is outside the query.
    fn join_condition(&mut self, condition: &ast::Expr, scope: &[Item]) -> Result<Expr> {
        let all_ok = scope.iter().cloned().map(|item| Item { lateral_ok: true, ..item }).collect();
        let level = self.top();
        let namespace = std::mem::replace(&mut level.namespace, all_ok);
        let was = (level.in_from, level.lateral);
        level.in_from = false;
        let result = self.in_clause(Clause::JoinOn, |this| this.condition(condition, "JOIN/ON"));
        let level = self.top();
        (level.in_from, level.lateral) = was;
        level.namespace = namespace;
        result
    }

    /// USING and NATURAL: the condition, and the scope with merged columns first.
    fn using(
        &mut self,
        kind: JoinKind,
        left: Vec<Item>,
        right: Vec<Item>,
        wanted: Vec<(String, Location)>,
        place: Location,
    ) -> Result<(Option<Expr>, Vec<Item>)> {
        let pick = |this: &Self, scope: &[Item], name: &str, side: &str, at: Location| -> Result<Expr> {
            let mut found = shown(scope).filter(|column| column.name == name);
            let Some(first) = found.next() else {
                return Err(this.error(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
                    at,
                ));
            };
            if found.next().is_some() {
                return Err(this.error(
                    SqlState::AMBIGUOUS_COLUMN,
                    format!("common column name \"{name}\" appears more than once in {side} table"),
                    at,
                ));
            }
            Ok(first.expr.clone())
        };
        let mut tests = Vec::with_capacity(wanted.len());
        let mut merged = Vec::with_capacity(wanted.len());
        for (name, at) in &wanted {
            let l = pick(self, &left, name, "left", *at)?;
            let r = pick(self, &right, name, "right", *at)?;
            for side in [&l, &r] {
                self.mark(side);
            }
            tests.push(self.operator("=", l.clone(), r.clone(), *at)?);
            let (mut pair, ty) = self.common(vec![l, r], "JOIN/USING", place)?;
            let expr = match kind {
                JoinKind::Inner | JoinKind::Left => pair.swap_remove(0),
                JoinKind::Right => pair.swap_remove(1),
                JoinKind::Full => Expr::Coalesce { args: pair, ty },
            };
            merged.push(ItemColumn { name: name.clone(), expr, hidden: false });
        }
        let is_merged = |name: &str| wanted.iter().any(|(other, _)| other == name);
        merged.extend(shown(&left).chain(shown(&right)).filter(|column| !is_merged(&column.name)).cloned());
        let mut scope = vec![Item {
            name: String::new(),
            schema: None,
            relation: None,
            columns: merged,
            relation_visible: false,
            columns_visible: true,
            lateral_ok: true,
        }];
        scope.extend(left.into_iter().chain(right).map(|item| Item { columns_visible: false, ..item }));
        scope.retain(|item| item.relation_visible || item.columns_visible);
        let condition = match tests.len() {
            0 => None,
            1 => tests.pop(),
            _ => Some(Expr::And(tests)),
        };
        Ok((condition, scope))
    }

    /// Notes that the columns in an expression of this level are read.
    pub fn mark(&mut self, expr: &Expr) {
        let mut columns = Vec::new();
        let mut stack = vec![expr];
        while let Some(next) = stack.pop() {
            if let Expr::Column { levels_up: 0, relation, column, .. } = next {
                columns.push((*relation, *column));
            }
            walk::children(next, &mut |child| stack.push(child));
        }
        let level = self.top();
        for (relation, column) in columns {
            let selected = &mut level.relations[relation].selected;
            if !selected.contains(&column) {
                selected.push(column);
            }
        }
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<(FromItem, Vec<Item>)> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                sample,
                with_ordinality,
                version,
                partitions,
                with_hints,
                json_path,
                ..
            } => {
                let place = name_location(name);
                if sample.is_some() {
                    return Err(Error::unsupported("TABLESAMPLE", "Use WHERE random() < fraction.")
                        .at(self.position(place)));
                }
                if version.is_some()
                    || !partitions.is_empty()
                    || !with_hints.is_empty()
                    || json_path.is_some()
                {
                    return Err(self.syntax("syntax error: this clause is not PostgreSQL's", place));
                }
                match args {
                    Some(args) => self.functions_in_from(name, &args.args, *with_ordinality, alias.as_ref()),
                    None => self.named_relation(name, alias.as_ref()),
                }
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.functions_in_from(name, args, *with_ordinality, alias.as_ref())
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, with_offset, .. } => {
                if *with_offset {
                    return Err(self.syntax_at("OFFSET", Location::empty()));
                }
                let mut calls = Vec::with_capacity(array_exprs.len());
                let place = array_exprs.first().map(start).unwrap_or(Location::empty());
                for array in array_exprs {
                    let name =
                        ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ast::Ident::new("unnest"))]);
                    let args = vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(array.clone()))];
                    calls.push(self.function_in_from(&name, &args)?);
                }
                self.function_relation(calls, *with_ordinality, alias.as_ref(), place)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if sample.is_some() {
                    return Err(Error::unsupported("TABLESAMPLE", "Use WHERE random() < fraction."));
                }
                let place = crate::scope::query_start(subquery);
                let Some(alias) = alias else {
                    let (what, example) = match &*subquery.body {
                        ast::SetExpr::Values(_) => ("VALUES", "(VALUES ...)"),
                        _ => ("subquery", "(SELECT ...)"),
                    };
                    return Err(self
                        .syntax(format!("{what} in FROM must have an alias"), place)
                        .hint(format!("For example, FROM {example} [AS] foo.")));
                };
                let was = std::mem::replace(&mut self.top().lateral, *lateral);
                let query = self.subquery(subquery);
                self.top().lateral = was;
                let query = query?;
                let columns = outputs(&query);
                let relation = self.add_relation(
                    RelationKind::Subquery(Box::new(query)),
                    identifier(&alias.name),
                    columns,
                );
                self.top().relations[relation].lateral = *lateral;
                let item = self.named_item(relation, None, Some(alias))?;
                Ok((FromItem::Relation(relation), vec![item]))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let (item, scope) = self.table_with_joins(table_with_joins)?;
                let Some(alias) = alias else { return Ok((item, scope)) };
                // The alias hides what is inside.
                let mut columns: Vec<ItemColumn> = shown(&scope).cloned().collect();
                let name = identifier(&alias.name);
                self.rename(&name, &mut columns, &alias.columns)?;
                let scope = vec![Item {
                    name,
                    schema: None,
                    relation: None,
                    columns,
                    relation_visible: true,
                    columns_visible: true,
                    lateral_ok: true,
                }];
                Ok((item, scope))
            }
            TableFactor::JsonTable { .. } => {
                Err(Error::unsupported("JSON_TABLE", "Use jsonb_array_elements and jsonb operators."))
            }
            _ => Err(self.syntax("syntax error: this item of FROM is not PostgreSQL's", Location::empty())),
        }
    }

    /// A table, view, system relation or CTE by name.
    pub fn named_relation(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
    ) -> Result<(FromItem, Vec<Item>)> {
        let place = name_location(name);
        let (schema, relation_name) = self.locate(database_and_schema(self.names, name), place)?;
        if schema.is_none()
            && let Some(relation) = self.cte_reference(&relation_name, place)?
        {
            let item = self.named_item(relation, None, alias)?;
            return Ok((FromItem::Relation(relation), vec![item]));
        }
        let Some(found) = names::lookup(self.names, schema.as_deref(), &relation_name) else {
            let error = self.hidden_cte(schema.as_deref(), &relation_name, place);
            return Err(error);
        };
        let own_name = alias.map(|alias| identifier(&alias.name));
        let (relation, shown_schema) = match found {
            Found::Table(table) => {
                let schema = self.names.catalog().schema(table.schema).map(|schema| schema.name.clone());
                (self.add_table(table, own_name), schema)
            }
            Found::View(view) => {
                let schema = self.names.catalog().schema(view.schema).map(|schema| schema.name.clone());
                (self.expand_view(&view, own_name)?, schema)
            }
            Found::System(system) => {
                let name = own_name.unwrap_or_else(|| system.name.to_owned());
                let kind = RelationKind::System { schema: system.schema, name: system.name, oid: system.oid };
                (self.add_relation(kind, name, system.columns), Some(system.schema.to_owned()))
            }
            Found::Sequence(sequence) => {
                let schema = self.names.catalog().schema(sequence.schema).map(|schema| schema.name.clone());
                (self.sequence_row(&sequence, own_name, place)?, schema)
            }
            Found::Index(index) => {
                return Err(self
                    .error(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("cannot open relation \"{}\"", index.name),
                        place,
                    )
                    .detail("This operation is not supported for indexes."));
            }
        };
        let shown_schema = if alias.is_some() { None } else { shown_schema };
        let item = self.named_item(relation, shown_schema, alias)?;
        Ok((FromItem::Relation(relation), vec![item]))
    }

    /// The namespace entry of a relation under its alias.
    fn named_item(
        &mut self,
        relation: usize,
        schema: Option<String>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Item> {
        let mut item = self.item_of(relation, schema);
        if let Some(alias) = alias {
            item.name = identifier(&alias.name);
            item.schema = None;
            let name = item.name.clone();
            self.rename(&name, &mut item.columns, &alias.columns)?;
            let entry = &mut self.top().relations[relation];
            entry.name = name;
            for column in &item.columns {
                if let Expr::Column { column: at, .. } = column.expr
                    && !matches!(entry.kind, RelationKind::Table(_))
                {
                    entry.columns[at].name = column.name.clone();
                }
            }
        }
        Ok(item)
    }

    fn rename(
        &self,
        name: &str,
        columns: &mut [ItemColumn],
        aliases: &[ast::TableAliasColumnDef],
    ) -> Result<()> {
        if aliases.len() > columns.len() {
            return Err(self.error(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!(
                    "table \"{name}\" has {} columns available but {} columns specified",
                    columns.len(),
                    aliases.len()
                ),
                aliases.first().map(|alias| alias.name.span.start).unwrap_or(Location::empty()),
            ));
        }
        for (column, alias) in columns.iter_mut().zip(aliases) {
            if alias.data_type.is_some() {
                return Err(self.error(
                    SqlState::SYNTAX_ERROR,
                    "a column definition list is only allowed for functions returning \"record\"",
                    alias.name.span.start,
                ));
            }
            column.name = identifier(&alias.name);
        }
        Ok(())
    }

    /// A sequence read as a table is one row about its state.
    fn sequence_row(&mut self, sequence: &Sequence, name: Option<String>, place: Location) -> Result<usize> {
        let argument = || vec![Expr::Const { value: Datum::Oid(sequence.oid), ty: Type::new(oid::REGCLASS) }];
        let last = self.plain_call("\u{1}sequence_value", argument(), place)?;
        let called = self.plain_call("\u{1}sequence_called", argument(), place)?;
        // Numbers are not fetched ahead of the log here.
        let ahead = Expr::Const { value: Datum::Int8(0), ty: Type::new(oid::INT8) };
        let mut query = crate::query::empty_query();
        query.targets = [("last_value", last), ("log_cnt", ahead), ("is_called", called)]
            .into_iter()
            .map(|(name, expr)| Target { expr, name: name.to_owned(), hidden: false })
            .collect();
        let columns = outputs(&query);
        let name = name.unwrap_or_else(|| sequence.name.clone());
        Ok(self.add_relation(RelationKind::Subquery(Box::new(query)), name, columns))
    }

    /// A view is its query, read with the rights of its owner.
    fn expand_view(&mut self, view: &Arc<View>, name: Option<String>) -> Result<usize> {
        let query = self.view_query(view)?;
        let columns = outputs(&query);
        let kind = RelationKind::View { view: view.clone(), query: Box::new(query) };
        Ok(self.add_relation(kind, name.unwrap_or_else(|| view.name.clone()), columns))
    }

    /// The query of a view, its outputs under the view's names.
    pub fn view_query(&mut self, view: &Arc<View>) -> Result<Query> {
        self.enter_view()?;
        let statements = crate::parse::statements(&view.query)?;
        let levels = std::mem::take(&mut self.levels);
        let rights = self.check_as.replace(view.owner);
        let result = match statements.first().map(|parsed| &*parsed.ast) {
            Some(ast::Statement::Query(query)) => self.subquery(query),
            _ => Err(Error::new(
                SqlState::DATA_CORRUPTED,
                format!("the definition of view \"{}\" is not a query", view.name),
            )),
        };
        self.check_as = rights;
        self.levels = levels;
        self.view_depth -= 1;
        let mut query = result.map_err(|error| error.context(format!("view \"{}\"", view.name)))?;
        // Later columns of `SELECT *` are not part of the view.
        let mut visible = 0;
        for target in query.targets.iter_mut().filter(|target| !target.hidden) {
            visible += 1;
            if let Some(column) = view.columns.get(visible - 1) {
                target.name = column.name.clone();
            } else {
                target.hidden = true;
            }
        }
        Ok(query)
    }

    fn functions_in_from(
        &mut self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
    ) -> Result<(FromItem, Vec<Item>)> {
        let place = name_location(name);
        let rows_from = matches!(name.0.as_slice(),
            [ast::ObjectNamePart::Identifier(ident)] if ident.value == marker::ROWS_FROM);
        let mut calls = Vec::new();
        if rows_from {
            for arg in args {
                let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Function(function))) =
                    arg
                else {
                    return Err(self.syntax("ROWS FROM takes function calls", place));
                };
                let ast::FunctionArguments::List(list) = &function.args else {
                    return Err(self.syntax("ROWS FROM takes function calls", place));
                };
                calls.push(self.function_in_from(&function.name, &list.args)?);
            }
        } else {
            calls.push(self.function_in_from(name, args)?);
        }
        // f(...) AS alias (column type, ...): the columns of a function that returns any record.
        if let ([(call, _)], Some(given)) = (calls.as_mut_slice(), alias)
            && let Expr::SetCall(set) = &mut call.call
            && set.function.columns.is_empty()
            && !given.columns.is_empty()
        {
            call.columns = self.defined_columns(set, &given.columns)?;
            let alias = ast::TableAlias { columns: Vec::new(), ..given.clone() };
            return self.function_relation(calls, ordinality, Some(&alias), place);
        }
        self.function_relation(calls, ordinality, alias, place)
    }

    /// Gives a call that returns any record its column definition list, as further arguments: the names, and a NULL of
    /// each type.
    fn defined_columns(
        &mut self,
        set: &mut crate::tree::SetCall,
        definitions: &[ast::TableAliasColumnDef],
    ) -> Result<Vec<OutputColumn>> {
        let mut columns = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let Some(data_type) = &definition.data_type else {
                return Err(self.error(
                    SqlState::SYNTAX_ERROR,
                    "a column definition list is required for functions returning \"record\"",
                    definition.name.span.start,
                ));
            };
            let ty =
                self.locate(crate::types::resolve_type(self.names, data_type), definition.name.span.start)?;
            columns.push(OutputColumn { name: identifier(&definition.name), ty: ty.ty });
        }
        let typed = function::functions_named(&format!("\u{1}{}", set.function.name)).first();
        let Some(function::Callable::Set(typed)) = typed else {
            return Err(Error::internal(format!("{} takes no column definitions", set.function.name)));
        };
        let names = columns.iter().map(|column| Datum::text(column.name.as_str())).collect();
        set.function = typed;
        set.args.push(Expr::Const {
            value: Datum::Array(Arc::new(value::Array::from_values(oid::TEXT, names))),
            ty: Type::new(oid::TEXT_ARRAY),
        });
        set.args.extend(columns.iter().map(|column| Expr::Const { value: Datum::Null, ty: column.ty }));
        Ok(columns)
    }

    /// One function call: its expression, its columns, and whether they may take the alias as their name.
    fn function_in_from(
        &mut self,
        name: &ast::ObjectName,
        args: &[ast::FunctionArg],
    ) -> Result<(FunctionCallInFrom, bool)> {
        let call = ast::Function {
            name: name.clone(),
            uses_odbc_syntax: false,
            parameters: ast::FunctionArguments::None,
            args: ast::FunctionArguments::List(ast::FunctionArgumentList {
                duplicate_treatment: None,
                args: args.to_vec(),
                clauses: Vec::new(),
            }),
            within_group: Vec::new(),
            filter: None,
            null_treatment: None,
            over: None,
        };
        let was = std::mem::replace(&mut self.top().lateral, true);
        let resolved = self.in_clause(Clause::FromFunction, |this| this.function(&call));
        self.top().lateral = was;
        let resolved = resolved?;
        let resolved = self.known(resolved)?;
        let plain = names::split_name(name)?.pop().unwrap_or_default();
        let (columns, nameless) = match &resolved {
            Expr::SetCall(set) if set.function.columns.len() > 1 => (
                set.columns()
                    .into_iter()
                    .map(|(name, ty)| OutputColumn { name: name.to_owned(), ty })
                    .collect(),
                false,
            ),
            Expr::SetCall(set) if set.function.columns.is_empty() => (Vec::new(), false),
            Expr::SetCall(set) => {
                let declared = set.function.columns.first().map_or("", |(name, _)| *name);
                let nameless = declared.is_empty() || declared == set.function.name;
                let name = if nameless { plain } else { declared.to_owned() };
                (vec![OutputColumn { name, ty: set.ty }], nameless)
            }
            other if other.ty().oid == oid::RECORD => {
                return Err(Error::unsupported(
                    format!("function {plain} in FROM"),
                    "Take its fields apart with jsonb operators.",
                )
                .at(self.position(name_location(name))));
            }
            other => (vec![OutputColumn { name: plain, ty: other.ty() }], true),
        };
        Ok((FunctionCallInFrom { call: resolved, columns }, nameless))
    }

    fn function_relation(
        &mut self,
        calls: Vec<(FunctionCallInFrom, bool)>,
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        place: Location,
    ) -> Result<(FromItem, Vec<Item>)> {
        if calls.iter().any(|(call, _)| call.columns.is_empty()) {
            return Err(self.error(
                SqlState::SYNTAX_ERROR,
                "a column definition list is required for functions returning \"record\"",
                place,
            ));
        }
        let single = calls.len() == 1;
        let nameless = single && calls.iter().all(|(_, nameless)| *nameless);
        let mut calls: Vec<FunctionCallInFrom> = calls.into_iter().map(|(call, _)| call).collect();
        let Some(first) = calls.first() else { return Err(self.syntax_at(")", place)) };
        let default_name = match &first.call {
            Expr::SetCall(call) => call.function.name.to_owned(),
            Expr::Call(call) => call.function.name.to_owned(),
            _ => first.columns.first().map(|column| column.name.clone()).unwrap_or_default(),
        };
        let name = alias.map_or(default_name, |alias| identifier(&alias.name));
        if let (true, Some(_)) = (nameless, alias)
            && let Some(column) = calls.first_mut().and_then(|call| call.columns.first_mut())
        {
            column.name = name.clone();
        }
        // Without the keyword, a function is LATERAL if it uses what stands before it.
        let lateral = calls.iter().any(|call| refers_here(&call.call, 0));
        let mut columns: Vec<OutputColumn> = calls.iter().flat_map(|call| call.columns.clone()).collect();
        if ordinality {
            columns.push(OutputColumn { name: "ordinality".to_owned(), ty: Type::new(oid::INT8) });
        }
        let relation = self.add_relation(RelationKind::Functions { calls, ordinality }, name, columns);
        self.top().relations[relation].lateral = lateral;
        let item = self.named_item(relation, None, alias)?;
        Ok((FromItem::Relation(relation), vec![item]))
    }
}

/// Whether an expression uses columns of the query `depth` levels up.
pub(crate) fn refers_here(expr: &Expr, depth: usize) -> bool {
    crate::parse::level(|| {
        let mut found = match expr {
            Expr::Column { levels_up, relation, .. } => *levels_up == depth && *relation != usize::MAX,
            Expr::WholeRow { levels_up, .. } => *levels_up == depth,
            Expr::RowId { .. } => depth == 0,
            Expr::Sublink(sublink) => query_refers(&sublink.query, depth + 1),
            _ => false,
        };
        walk::children(expr, &mut |child| found = found || refers_here(child, depth));
        found
    })
}

/// Whether a query uses columns of the query `depth` levels above it.
pub(crate) fn query_refers(query: &crate::tree::Query, depth: usize) -> bool {
    let found = std::cell::Cell::new(false);
    walk::query_parts(query, &mut |expr| found.set(found.get() || refers_here(expr, depth)), &mut |inner| {
        found.set(found.get() || query_refers(inner, depth + 1))
    });
    found.get()
}

/// The columns that `*` and unqualified names see.
fn shown(scope: &[Item]) -> impl Iterator<Item = &ItemColumn> {
    scope
        .iter()
        .filter(|item| item.columns_visible)
        .flat_map(|item| &item.columns)
        .filter(|column| !column.hidden)
}

fn start_of_factor(factor: &TableFactor) -> Location {
    match factor {
        TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
            alias.as_ref().map_or_else(|| name_location(name), |alias| alias.name.span.start)
        }
        TableFactor::Derived { alias: Some(alias), .. } => alias.name.span.start,
        TableFactor::NestedJoin { table_with_joins, .. } => start_of_factor(&table_with_joins.relation),
        _ => Location::empty(),
    }
}
