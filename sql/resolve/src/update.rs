//! UPDATE, and SET lists in general.

use std::sync::Arc;

use engine::catalog::{Identity, Table};
use sqlparser::ast::{self, AssignmentTarget, TableFactor, UpdateTableFromKind};
use sqlparser::tokenizer::{Location, Span};
use value::types::{self, oid};
use value::{Datum, Error, Result, SqlState, Type};

use crate::expr::strip;
use crate::insert::{Value, is_default};
use crate::names::{identifier, name_location};
use crate::parse::marker;
use crate::scope::{Clause, Resolver, start};
use crate::tree::{Expr, FromItem, Modify, ModifyKind, Query, Target};

/// What the names of the functions that replace a part of an array start with.
const PARTS: &str = "\u{1}array_set";

/// Column and subscripts of a target that parse.rs has packed into one identifier.
fn element_target(name: &ast::ObjectName) -> Option<(&str, &str)> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => {
            ident.value.strip_prefix(marker::ELEMENT)?.split_once('\u{1}')
        }
        _ => None,
    }
}

fn ident_span(name: &ast::ObjectName) -> Span {
    match name.0.first() {
        Some(ast::ObjectNamePart::Identifier(ident)) => ident.span,
        _ => Span::empty(),
    }
}

impl Resolver<'_> {
    /// UPDATE on the level that is open.
    pub fn update(&mut self, update: &ast::Update) -> Result<Query> {
        if update.or.is_some()
            || update.limit.is_some()
            || !update.order_by.is_empty()
            || update.output.is_some()
        {
            return Err(
                self.syntax("syntax error: this clause of UPDATE is not PostgreSQL's", Location::empty())
            );
        }
        let table = self.changed_table(&update.table, "update")?;
        let mut from = vec![FromItem::Relation(0)];
        let lists: &[ast::TableWithJoins] = match &update.from {
            Some(UpdateTableFromKind::AfterSet(list)) => list,
            Some(UpdateTableFromKind::BeforeSet(_)) => return Err(self.syntax_at("FROM", Location::empty())),
            None => &[],
        };
        from.extend(self.resolve_from(lists)?);
        let assignments = self.assignments(&table, &update.assignments)?;
        let filter = match &update.selection {
            Some(condition) => {
                Some(self.in_clause(Clause::Where, |this| this.condition(condition, "WHERE"))?)
            }
            None => None,
        };
        let filter = self.within_view(filter);
        let returning = self.returning(update.returning.as_ref())?;
        let computed = self.computed_of(&table)?;
        let checks = self.checks_of(&table)?;
        let mut query = self.close();
        query.from = from;
        query.filter = filter;
        let columns = assignments.iter().map(|(at, _)| *at).collect();
        query.targets = assignments
            .into_iter()
            .map(|(at, expr)| Target { expr, name: table.columns[at].name.clone(), hidden: false })
            .collect();
        query.modify = Some(Modify { kind: ModifyKind::Update { columns }, returning, computed, checks });
        Ok(query)
    }

    /// The table of UPDATE or DELETE, as relation 0 and in the namespace.
    pub fn changed_table(&mut self, entry: &ast::TableWithJoins, verb: &str) -> Result<Arc<Table>> {
        let TableFactor::Table { name, alias, args: None, .. } = &entry.relation else {
            return Err(self.syntax_at("(", Location::empty()));
        };
        if !entry.joins.is_empty() {
            return Err(self
                .syntax_at("JOIN", name_location(name))
                .hint("Name the other tables in FROM (UPDATE) or USING (DELETE)."));
        }
        let alias_name = alias.as_ref().map(|alias| identifier(&alias.name));
        let aliased = alias_name.is_some();
        let table = self.target_table(name, alias_name, verb)?;
        let item = self.changed_item(&table, aliased);
        self.top().namespace.push(item);
        Ok(table)
    }

    /// `SET a = x, (b, c) = (y, z), d = DEFAULT`: column and new value.
    pub fn assignments(
        &mut self,
        table: &Arc<Table>,
        list: &[ast::Assignment],
    ) -> Result<Vec<(usize, Expr)>> {
        let mut out: Vec<(usize, Expr)> = Vec::with_capacity(list.len());
        for assignment in list {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) if element_target(name).is_some() => {
                    self.set_element(table, name, &assignment.value, &mut out)?;
                }
                AssignmentTarget::ColumnName(name) => {
                    let place = start(&assignment.value);
                    let value = self.set_value(&assignment.value)?;
                    let at = self.target_column(table, name)?;
                    self.set(table, at, value, name_location(name), place, &mut out)?;
                }
                AssignmentTarget::Tuple(names) => {
                    let place = start(&assignment.value);
                    let values = self.tuple_values(&assignment.value, names.len())?;
                    if values.len() != names.len() {
                        return Err(self.syntax("number of columns does not match number of values", place));
                    }
                    for (name, value) in names.iter().zip(values) {
                        let at = self.target_column(table, name)?;
                        self.set(table, at, value, name_location(name), place, &mut out)?;
                    }
                }
            }
        }
        Ok(out)
    }

    /// `SET a[1] = x` and `SET a[1:2] = x`: the column's new value is its old one with a part replaced. Several such
    /// parts of one column follow each other.
    fn set_element(
        &mut self,
        table: &Arc<Table>,
        name: &ast::ObjectName,
        value: &ast::Expr,
        out: &mut Vec<(usize, Expr)>,
    ) -> Result<()> {
        let Some((column, written)) = element_target(name) else {
            return Err(Error::internal("not the target of an element"));
        };
        let (name_place, place) = (name_location(name), start(value));
        let ident = ast::Ident { value: column.to_owned(), quote_style: Some('"'), span: ident_span(name) };
        let at = self.target_column(table, &ast::ObjectName::from(vec![ident]))?;
        let ty = table.columns[at].ty();
        let element = types::element_of(ty.oid);
        if ty.oid == oid::JSONB {
            return Err(Error::unsupported("assignment to a part of jsonb", "Use jsonb_set.")
                .at(self.position(name_place)));
        }
        if element == 0 {
            return Err(self.error(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    types::format_type(ty.oid, -1)
                ),
                name_place,
            ));
        }
        let parsed = crate::parse::expression(&format!("x{written}"))?;
        let ast::Expr::CompoundFieldAccess { access_chain, .. } = &parsed else {
            return Err(self.syntax_at("[", name_place));
        };
        // The subscripts were cut out of the text, so places in them mean nothing.
        self.enter_view()?;
        let bounds = self.in_clause(Clause::UpdateSet, |this| this.assigned_bounds(access_chain, name_place));
        self.view_depth -= 1;
        let (slice, lowers, uppers) = bounds?;
        let Value::Expr(new) = self.set_value(value)? else {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot set an array element to DEFAULT",
                name_place,
            ));
        };
        let wanted = if slice { ty } else { Type::with_typmod(element, ty.typmod) };
        let from = new.ty().oid;
        let Some(new) = self.in_clause(Clause::UpdateSet, |this| this.assign(new, wanted, place))? else {
            return Err(self
                .error(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "subscripted assignment to \"{column}\" requires type {} but expression is of type {}",
                        types::format_type(wanted.oid, -1),
                        types::format_type(from, -1)
                    ),
                    place,
                )
                .hint("You will need to rewrite or cast the expression."));
        };
        let before = out.iter().position(|(other, _)| *other == at);
        let is_part = |expr: &Expr| matches!(expr, Expr::Call(call) if call.function.name.starts_with(PARTS));
        let old = match before {
            None => Expr::Column { levels_up: 0, relation: 0, column: at, ty },
            Some(before) if is_part(&out[before].1) => out.swap_remove(before).1,
            Some(_) => Expr::Const { value: Datum::Null, ty },
        };
        let numbers = |elements| Expr::Array { elements, ty: Type::new(oid::INT4_ARRAY) };
        let call = if slice {
            self.plain_call("\u{1}array_set_slice", vec![old, new, numbers(lowers), numbers(uppers)], place)?
        } else {
            self.plain_call("\u{1}array_set", vec![old, new, numbers(uppers)], place)?
        };
        self.set(table, at, Value::Expr(call), name_place, place, out)
    }

    /// Whether the subscripts make a slice, and their lower and upper bounds.
    fn assigned_bounds(
        &mut self,
        chain: &[ast::AccessExpr],
        place: Location,
    ) -> Result<(bool, Vec<Expr>, Vec<Expr>)> {
        let none = || Expr::Const { value: Datum::Null, ty: Type::new(oid::INT4) };
        let one = || Expr::Const { value: Datum::Int4(1), ty: Type::new(oid::INT4) };
        let (mut slice, mut lowers, mut uppers) = (false, Vec::new(), Vec::new());
        for access in chain {
            let ast::AccessExpr::Subscript(subscript) = access else {
                return Err(self.syntax_at(".", place));
            };
            match subscript {
                ast::Subscript::Index { index } => {
                    lowers.push(one());
                    uppers.push(self.subscript_index(index)?);
                }
                ast::Subscript::Slice { lower_bound, upper_bound, .. } => {
                    slice = true;
                    lowers
                        .push(lower_bound.as_ref().map_or_else(|| Ok(none()), |e| self.subscript_index(e))?);
                    uppers
                        .push(upper_bound.as_ref().map_or_else(|| Ok(none()), |e| self.subscript_index(e))?);
                }
            }
        }
        Ok((slice, lowers, uppers))
    }

    fn set_value(&mut self, expr: &ast::Expr) -> Result<Value> {
        if is_default(expr) {
            return Ok(Value::Default);
        }
        let resolved = self.in_clause(Clause::UpdateSet, |this| this.expr(expr))?;
        Ok(Value::Expr(resolved))
    }

    /// The right side of `(a, b) = ...`.
    fn tuple_values(&mut self, value: &ast::Expr, count: usize) -> Result<Vec<Value>> {
        let place = start(value);
        match value {
            ast::Expr::Tuple(list) => list.iter().map(|expr| self.set_value(expr)).collect(),
            ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
                let ast::FunctionArguments::List(list) = &function.args else {
                    return Err(self.syntax_at("ROW", place));
                };
                list.args
                    .iter()
                    .map(|arg| match arg {
                        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => self.set_value(expr),
                        _ => Err(self.syntax_at("*", place)),
                    })
                    .collect()
            }
            other => match strip(other) {
                ast::Expr::Subquery(query) => {
                    let columns =
                        self.in_clause(Clause::UpdateSet, |this| this.row_of_subquery(query, count, place))?;
                    Ok(columns.into_iter().map(Value::Expr).collect())
                }
                inner if count == 1 => Ok(vec![self.set_value(inner)?]),
                _ => Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
                )
                .at(self.position(place))),
            },
        }
    }

    fn set(
        &mut self,
        table: &Arc<Table>,
        at: usize,
        value: Value,
        name_place: Location,
        place: Location,
        out: &mut Vec<(usize, Expr)>,
    ) -> Result<()> {
        let column = &table.columns[at];
        if out.iter().any(|(other, _)| *other == at) {
            return Err(self.error(
                SqlState::SYNTAX_ERROR,
                format!("multiple assignments to same column \"{}\"", column.name),
                name_place,
            ));
        }
        let expr = match value {
            Value::Default if column.generated => return Ok(()),
            Value::Default => match self.default_of(table, at)? {
                Some(default) => default,
                None => Expr::Const { value: Datum::Null, ty: column.ty() },
            },
            Value::Expr(expr) => {
                let refuse = || {
                    Error::new(
                        SqlState::GENERATED_ALWAYS,
                        format!("column \"{}\" can only be updated to DEFAULT", column.name),
                    )
                };
                if column.generated {
                    return Err(refuse().detail(format!("Column \"{}\" is a generated column.", column.name)));
                }
                if column.identity == Some(Identity::Always) {
                    return Err(refuse().detail(format!(
                        "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                        column.name
                    )));
                }
                let clause = Clause::UpdateSet;
                self.in_clause(clause, |this| this.assign_column(table, at, expr, place))?
            }
        };
        out.push((at, expr));
        Ok(())
    }
}
