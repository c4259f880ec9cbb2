//! The select list: stars, names of output columns, and where a column comes from.

use sqlparser::ast::{self, SelectItem, SelectItemQualifiedWildcardKind};
use sqlparser::tokenizer::Location;
use value::types::{self, oid};
use value::{Oid, Result, SqlState};

use crate::names::{identifier, name_location, split_name};
use crate::scope::{Resolver, start};
use crate::tree::{Expr, Query, RelationKind, Target};
use crate::types::resolve_type;

impl Resolver<'_> {
    /// Resolves a select list or RETURNING.
    pub fn targets(&mut self, list: &[SelectItem], place: Location) -> Result<Vec<Target>> {
        let mut targets = Vec::with_capacity(list.len());
        for item in list {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = self.output_name(expr);
                    let expr = self.expr(expr)?;
                    targets.push(Target { expr, name, hidden: false });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let expr = self.expr(expr)?;
                    targets.push(Target { expr, name: identifier(alias), hidden: false });
                }
                SelectItem::Wildcard(options) => {
                    self.plain_star(options)?;
                    targets.extend(self.star(options.wildcard_token.0.span.start)?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    self.plain_star(options)?;
                    for (name, expr) in self.star_of(name)? {
                        targets.push(Target { expr, name, hidden: false });
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options) => {
                    self.plain_star(options)?;
                    let at = start(expr);
                    let row = self.expr(expr)?;
                    for (name, expr) in self.fields_of(row, at)? {
                        targets.push(Target { expr, name, hidden: false });
                    }
                }
                SelectItem::ExprWithAliases { .. } => return Err(self.syntax_at("(", place)),
            }
        }
        if targets.len() > 1664 {
            return Err(self.error(
                SqlState::TOO_MANY_COLUMNS,
                "target lists can have at most 1664 entries",
                place,
            ));
        }
        Ok(targets)
    }

    fn plain_star(&self, options: &ast::WildcardAdditionalOptions) -> Result<()> {
        if options.opt_ilike.is_some()
            || options.opt_exclude.is_some()
            || options.opt_except.is_some()
            || options.opt_replace.is_some()
            || options.opt_rename.is_some()
            || options.opt_alias.is_some()
        {
            return Err(self.syntax(
                "syntax error: this option of * is not PostgreSQL's",
                options.wildcard_token.0.span.start,
            ));
        }
        Ok(())
    }

    /// `*`.
    pub fn star(&mut self, place: Location) -> Result<Vec<Target>> {
        let level = self.here();
        if level.namespace.is_empty() {
            return Err(self.syntax("SELECT * with no tables specified is not valid", place));
        }
        let targets: Vec<Target> = level
            .namespace
            .iter()
            .filter(|item| item.columns_visible)
            .flat_map(|item| &item.columns)
            .filter(|column| !column.hidden)
            .map(|column| Target { expr: column.expr.clone(), name: column.name.clone(), hidden: false })
            .collect();
        for target in &targets {
            self.mark(&target.expr);
            self.note_places(&target.expr, place);
        }
        Ok(targets)
    }

    fn note_places(&mut self, expr: &Expr, place: Location) {
        if let Expr::Column { levels_up: 0, relation, column, .. } = expr {
            self.top().column_places.push((*relation, *column, place));
        }
    }

    /// `t.*`: names and expressions, seen from the innermost query.
    pub fn star_of(&mut self, name: &ast::ObjectName) -> Result<Vec<(String, Expr)>> {
        let place = name_location(name);
        let parts = split_name(name)?;
        let (schema, relation) = match parts.as_slice() {
            [relation] => (None, relation),
            [schema, relation] | [_, schema, relation] => (Some(schema.as_str()), relation),
            _ => return Err(self.syntax_at("*", place)),
        };
        let Some((level, item)) = self.find_item(schema, relation, place)? else {
            return Err(self.missing_from_entry(schema, relation, place));
        };
        let up = self.levels.len() - 1 - level;
        let mut out = Vec::with_capacity(item.columns.len());
        for column in item.columns.iter().filter(|column| !column.hidden) {
            let mut expr = column.expr.clone();
            if up == 0 {
                self.mark(&expr);
                self.note_places(&expr, place);
            } else if let Expr::Column { relation, column, .. } = &expr {
                let selected = &mut self.levels[level].relations[*relation].selected;
                if !selected.contains(column) {
                    selected.push(*column);
                }
            }
            crate::walk::deepen(&mut expr, up);
            out.push((column.name.clone(), expr));
        }
        Ok(out)
    }

    /// `t` as a row (for `count(t.*)`).
    pub fn whole_row(&mut self, name: &ast::ObjectName) -> Result<Expr> {
        let place = name_location(name);
        let parts = split_name(name)?;
        let (schema, relation) = match parts.as_slice() {
            [relation] => (None, relation),
            [schema, relation] | [_, schema, relation] => (Some(schema.as_str()), relation),
            _ => return Err(self.syntax_at("*", place)),
        };
        for level in (0..self.levels.len()).rev() {
            if let Some(row) = self.whole_row_at(level, schema, relation, place)? {
                return Ok(row);
            }
        }
        Err(self.missing_from_entry(schema, relation, place))
    }

    /// `(row).*`.
    fn fields_of(&mut self, row: Expr, place: Location) -> Result<Vec<(String, Expr)>> {
        match row {
            Expr::WholeRow { levels_up, relation, .. } => {
                let level = self.levels.len() - 1 - levels_up;
                let item = self.levels[level].namespace.iter().find(|item| item.relation == Some(relation));
                let columns = item.map(|item| item.columns.clone()).unwrap_or_default();
                Ok(columns
                    .into_iter()
                    .map(|column| {
                        let mut expr = column.expr;
                        crate::walk::deepen(&mut expr, levels_up);
                        (column.name, expr)
                    })
                    .collect())
            }
            Expr::Row { fields, .. } => fields
                .into_iter()
                .enumerate()
                .map(|(at, field)| Ok((format!("f{}", at + 1), self.known(field)?)))
                .collect(),
            Expr::SetCall(call) if call.function.columns.len() > 1 => {
                let columns = call.columns();
                Ok(columns
                    .into_iter()
                    .enumerate()
                    .map(|(index, (name, ty))| {
                        let input = Box::new(Expr::SetCall(call.clone()));
                        (name.to_owned(), Expr::Field { input, index, ty })
                    })
                    .collect())
            }
            other => Err(self.error(
                SqlState::WRONG_OBJECT_TYPE,
                format!("type {} is not composite", types::format_type(other.ty().oid, -1)),
                place,
            )),
        }
    }

    /// The name an output column gets when it has no alias.
    pub fn output_name(&self, expr: &ast::Expr) -> String {
        self.figure_name(expr).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
    }

    /// A name and how good it is: 2 for columns and functions, 1 for types and CASE.
    fn figure_name(&self, expr: &ast::Expr) -> Option<(String, u8)> {
        use ast::Expr as E;
        let strong = |name: &str| Some((name.to_owned(), 2));
        let mut expr = expr;
        let mut cast: Option<(String, u8)> = None;
        loop {
            let found = match expr {
                E::Nested(inner) | E::Collate { expr: inner, .. } => {
                    expr = inner;
                    continue;
                }
                E::Cast { expr: inner, data_type, .. } => {
                    if cast.is_none() {
                        cast = self.type_name_of(data_type).map(|name| (name, 1));
                    }
                    expr = inner;
                    continue;
                }
                E::Identifier(ident) => Some((identifier(ident), 2)),
                E::CompoundIdentifier(parts) => parts.last().map(|ident| (identifier(ident), 2)),
                E::CompoundFieldAccess { root, access_chain } => {
                    let field = access_chain.iter().rev().find_map(|access| match access {
                        ast::AccessExpr::Dot(E::Identifier(ident)) => Some(identifier(ident)),
                        _ => None,
                    });
                    match field {
                        Some(name) => Some((name, 2)),
                        None => {
                            expr = root;
                            continue;
                        }
                    }
                }
                E::Function(function) => {
                    split_name(&function.name).ok().and_then(|mut parts| parts.pop()).map(|name| (name, 2))
                }
                E::Case { else_result, .. } => {
                    let inner = else_result.as_deref().and_then(|result| self.figure_name(result));
                    match inner {
                        Some((name, 2)) => Some((name, 2)),
                        _ => Some(("case".to_owned(), 1)),
                    }
                }
                E::Exists { negated: false, .. } => strong("exists"),
                E::Array(_) => strong("array"),
                E::Tuple(_) => strong("row"),
                E::Extract { .. } => strong("extract"),
                E::Position { .. } => strong("position"),
                E::Substring { shorthand, .. } => strong(if *shorthand { "substr" } else { "substring" }),
                E::Overlay { .. } => strong("overlay"),
                E::IsNormalized { negated: false, .. } => strong("is_normalized"),
                E::BinaryOp { op: ast::BinaryOperator::Overlaps, .. } => strong("overlaps"),
                E::Ceil { .. } => strong("ceil"),
                E::Floor { .. } => strong("floor"),
                E::AtTimeZone { .. } => strong("timezone"),
                E::Trim { trim_where, .. } => strong(match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                }),
                E::Subquery(query) => self.subquery_name(query),
                E::Interval(_) => Some(("interval".to_owned(), 1)),
                E::TypedString(typed) => self.type_name_of(&typed.data_type).map(|name| (name, 1)),
                _ => None,
            };
            return match (found, cast) {
                (Some((name, 2)), _) => Some((name, 2)),
                (_, Some(cast)) => Some(cast),
                (found, None) => found,
            };
        }
    }

    fn subquery_name(&self, query: &ast::Query) -> Option<(String, u8)> {
        let mut body = &*query.body;
        loop {
            body = match body {
                ast::SetExpr::Query(inner) => &inner.body,
                ast::SetExpr::SetOperation { left, .. } => left,
                ast::SetExpr::Values(_) => return Some(("column1".to_owned(), 2)),
                ast::SetExpr::Select(select) => {
                    return match select.projection.first()? {
                        SelectItem::ExprWithAlias { alias, .. } => Some((identifier(alias), 2)),
                        SelectItem::UnnamedExpr(expr) => self.figure_name(expr),
                        _ => None,
                    };
                }
                _ => return None,
            };
        }
    }

    fn type_name_of(&self, data_type: &ast::DataType) -> Option<String> {
        let ty = resolve_type(self.names, data_type).ok()?.ty;
        let info = types::info(ty.oid)?;
        let info = if info.kind == types::TypeKind::Array { types::info(info.element)? } else { info };
        Some(info.name.to_owned())
    }
}

/// The table and attribute number a target is a plain column of, zeros if it is computed.
pub(crate) fn origin(query: &Query, expr: &Expr) -> (Oid, i16) {
    let Expr::Column { levels_up: 0, relation, column, .. } = expr else { return (oid::INVALID, 0) };
    if query.set_operation.is_some() {
        return (oid::INVALID, 0);
    }
    let Some(relation) = query.relations.get(*relation) else { return (oid::INVALID, 0) };
    let plain = |at: usize| i16::try_from(at + 1).unwrap_or(0);
    match &relation.kind {
        RelationKind::Table(table) => (table.oid, table.columns.get(*column).map_or(0, |c| c.number)),
        RelationKind::System { oid, .. } => (*oid, plain(*column)),
        RelationKind::View { view, .. } => (view.oid, plain(*column)),
        RelationKind::Subquery(inner) => output_origin(inner, *column),
        RelationKind::Cte { levels_up: 0, index } => match query.ctes.get(*index) {
            Some(cte) if cte.recursive.is_none() => output_origin(&cte.query, *column),
            _ => (oid::INVALID, 0),
        },
        _ => (oid::INVALID, 0),
    }
}

fn output_origin(query: &Query, column: usize) -> (Oid, i16) {
    let targets = match &query.modify {
        Some(modify) => &modify.returning,
        None => &query.targets,
    };
    match targets.iter().filter(|target| !target.hidden).nth(column) {
        Some(target) => origin(query, &target.expr),
        None => (oid::INVALID, 0),
    }
}
