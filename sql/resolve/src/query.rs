//! Whole queries: WITH, the body, ORDER BY, LIMIT, locks; and small rewrites of finished ones.

use sqlparser::ast::{self, GroupByExpr, LimitClause, SetExpr, Statement};
use sqlparser::tokenizer::Location;
use value::types::{format_type, oid};
use value::{Datum, Error, Result, SqlState, Type};

use crate::Purpose;
use crate::call::order_options;
use crate::names::identifier;
use crate::parse::marker;
use crate::same::same;
use crate::scope::{Clause, Level, Resolver, query_start, start};
use crate::tree::{
    self, Distinct, Expr, FromItem, LockClause, LockStrength, LockWait, OutputColumn, Query, Relation,
    RelationKind, SortKey, Target,
};
use crate::walk;

/// A query with the parentheses around its body taken off: `(SELECT ...) ORDER BY x` is one query.
pub(crate) struct Parts<'q> {
    pub with: Option<&'q ast::With>,
    pub body: &'q SetExpr,
    pub order_by: &'q [ast::OrderByExpr],
    pub limit: Option<&'q ast::Expr>,
    pub offset: Option<&'q ast::Expr>,
    pub fetch: Option<&'q ast::Fetch>,
    pub locks: &'q [ast::LockClause],
}

/// Nothing but relations yet.
pub(crate) fn empty_query() -> Query {
    Query {
        ctes: Vec::new(),
        relations: Vec::new(),
        from: Vec::new(),
        filter: None,
        targets: Vec::new(),
        group_keys: Vec::new(),
        grouping_sets: Vec::new(),
        has_aggregates: false,
        having: None,
        windows: Vec::new(),
        has_set_functions: false,
        distinct: Distinct::No,
        set_operation: None,
        order_by: Vec::new(),
        limit: None,
        offset: None,
        with_ties: false,
        locks: Vec::new(),
        modify: None,
    }
}

/// What a query gives to the one around it.
pub(crate) fn outputs(query: &Query) -> Vec<OutputColumn> {
    let targets = match &query.modify {
        Some(modify) => &modify.returning,
        None => &query.targets,
    };
    targets
        .iter()
        .filter(|target| !target.hidden)
        .map(|target| OutputColumn { name: target.name.clone(), ty: target.expr.ty() })
        .collect()
}

/// `SELECT * FROM (query)`.
fn wrap(mut query: Query) -> Query {
    walk::deepen_query(&mut query);
    let columns = outputs(&query);
    let targets = columns
        .iter()
        .enumerate()
        .map(|(column, output)| Target {
            expr: Expr::Column { levels_up: 0, relation: 0, column, ty: output.ty },
            name: output.name.clone(),
            hidden: false,
        })
        .collect();
    let selected = (0..columns.len()).collect();
    let relation = Relation {
        kind: RelationKind::Subquery(Box::new(query)),
        name: "unnamed_subquery".to_owned(),
        columns,
        lateral: false,
        check_as: None,
        selected,
    };
    let mut outer = empty_query();
    outer.relations.push(relation);
    outer.from.push(FromItem::Relation(0));
    outer.targets = targets;
    outer
}

/// Only output column `at` of a query.
pub(crate) fn one_column(query: Query, at: usize) -> Query {
    let mut outer = wrap(query);
    let target = outer.targets.swap_remove(at);
    outer.targets = vec![target];
    outer
}

impl Resolver<'_> {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE.
    pub fn statement(&mut self, statement: &Statement) -> Result<Query> {
        match statement {
            Statement::Query(query) => self.top_query(query),
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => {
                self.levels.push(Level::new(Clause::Targets));
                self.modify(statement)
            }
            other => Err(Error::internal(format!("not a query: {}", first_word(other)))),
        }
    }

    pub fn top_query(&mut self, query: &ast::Query) -> Result<Query> {
        self.query_of(query, true)
    }

    /// A query inside the current one, its unknown outputs made text.
    pub fn subquery(&mut self, query: &ast::Query) -> Result<Query> {
        self.query_of(query, true)
    }

    /// Resolves a query on a level of its own. Without `resolve_unknown`, literals among its outputs stay open.
    pub fn query_of(&mut self, query: &ast::Query, resolve_unknown: bool) -> Result<Query> {
        crate::parse::level(|| {
            if let Some(Clause::Stored(purpose)) = self.levels.last().map(|level| level.clause) {
                return Err(self.error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("cannot use subquery in {}", stored_name(purpose)),
                    query_start(query),
                ));
            }
            let parts = self.parts(query)?;
            self.levels.push(Level::new(Clause::Targets));
            if let Some(with) = parts.with {
                self.with(with)?;
            }
            self.body(&parts, resolve_unknown)
        })
    }

    /// Closes the innermost level into a query.
    pub fn close(&mut self) -> Query {
        let level = self.levels.pop().expect("a level is open while a query is resolved");
        let mut query = empty_query();
        query.ctes = level.ctes.into_iter().map(|entry| entry.cte).collect();
        query.relations = level.relations;
        query.has_aggregates = level.has_aggregates;
        query.has_set_functions = level.has_sets;
        query.windows = level.windows;
        query
    }

    fn parts<'q>(&self, query: &'q ast::Query) -> Result<Parts<'q>> {
        let mut parts = Parts {
            with: None,
            body: &query.body,
            order_by: &[],
            limit: None,
            offset: None,
            fetch: None,
            locks: &[],
        };
        let mut query = query;
        loop {
            let place = query_start(query);
            if let Some(with) = &query.with {
                if parts.with.is_some() {
                    return Err(self.syntax("multiple WITH clauses not allowed", place));
                }
                parts.with = Some(with);
            }
            if let Some(order) = &query.order_by {
                if !parts.order_by.is_empty() {
                    return Err(self.syntax("multiple ORDER BY clauses not allowed", place));
                }
                match &order.kind {
                    ast::OrderByKind::Expressions(list) => parts.order_by = list,
                    ast::OrderByKind::All(_) => return Err(self.syntax_at("ALL", place)),
                }
            }
            if let Some(limit) = &query.limit_clause {
                if parts.limit.is_some() || parts.offset.is_some() {
                    return Err(self.syntax("multiple LIMIT clauses not allowed", place));
                }
                match limit {
                    LimitClause::LimitOffset { limit, offset, limit_by } if limit_by.is_empty() => {
                        parts.limit = limit.as_ref();
                        parts.offset = offset.as_ref().map(|offset| &offset.value);
                    }
                    LimitClause::LimitOffset { .. } => return Err(self.syntax_at("BY", place)),
                    LimitClause::OffsetCommaLimit { .. } => {
                        return Err(self
                            .syntax("LIMIT #,# syntax is not supported", place)
                            .hint("Use separate LIMIT and OFFSET clauses."));
                    }
                }
            }
            if let Some(fetch) = &query.fetch {
                if parts.fetch.is_some() || parts.limit.is_some() {
                    return Err(self.syntax("multiple LIMIT clauses not allowed", place));
                }
                if fetch.percent {
                    return Err(self.syntax_at("PERCENT", place));
                }
                parts.fetch = Some(fetch);
            }
            if !query.locks.is_empty() {
                parts.locks = &query.locks;
            }
            if query.for_clause.is_some() || query.settings.is_some() || !query.pipe_operators.is_empty() {
                return Err(self.syntax("syntax error: this clause is not PostgreSQL's", place));
            }
            parts.body = &query.body;
            match &*query.body {
                SetExpr::Query(inner) => query = inner,
                _ => return Ok(parts),
            }
        }
    }

    /// An arm of a set operation, on a level of its own; unknown outputs stay open.
    pub fn arm(&mut self, parts: &Parts<'_>) -> Result<Query> {
        self.levels.push(Level::new(Clause::Targets));
        self.body(parts, false)
    }

    fn body(&mut self, parts: &Parts<'_>, resolve_unknown: bool) -> Result<Query> {
        match parts.body {
            SetExpr::Select(select) => self.select_body(select, parts, resolve_unknown),
            SetExpr::Values(values) => self.values(values, parts, resolve_unknown),
            SetExpr::SetOperation { .. } => self.set_operation(parts, resolve_unknown),
            SetExpr::Table(table) => self.table_body(table, parts),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.modify(statement),
            SetExpr::Query(_) => Err(Error::internal("parentheses were not taken off")),
        }
    }

    /// INSERT, UPDATE and DELETE on the level that is open.
    fn modify(&mut self, statement: &Statement) -> Result<Query> {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Merge(_) => Err(Error::unsupported(
                "MERGE",
                "Use INSERT ... ON CONFLICT, or UPDATE and INSERT in one transaction.",
            )),
            _ => Err(Error::internal("not a statement that changes rows")),
        }
    }

    fn select_body(
        &mut self,
        select: &ast::Select,
        parts: &Parts<'_>,
        resolve_unknown: bool,
    ) -> Result<Query> {
        let place = select.select_token.0.span.start;
        if select.top.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || select.exclude.is_some()
        {
            return Err(self.syntax("syntax error: this clause of SELECT is not PostgreSQL's", place));
        }
        let from = self.resolve_from(&select.from)?;
        self.named_windows(&select.named_window)?;
        let projection: &[ast::SelectItem] = match select.projection.as_slice() {
            [ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ident))]
                if ident.value == marker::NOTHING =>
            {
                &[]
            }
            list => list,
        };
        let mut targets = self.in_clause(Clause::Targets, |this| this.targets(projection, place))?;
        if resolve_unknown {
            for target in &mut targets {
                self.settle(target)?;
            }
        }
        let filter = match &select.selection {
            Some(condition) => {
                Some(self.in_clause(Clause::Where, |this| this.condition(condition, "WHERE"))?)
            }
            None => None,
        };
        let having = match &select.having {
            Some(condition) => {
                Some(self.in_clause(Clause::Having, |this| this.condition(condition, "HAVING"))?)
            }
            None => None,
        };
        let order_by = self.order_by(parts.order_by, &mut targets)?;
        let (keys, sets) = match &select.group_by {
            GroupByExpr::Expressions(list, modifiers) => {
                if !modifiers.is_empty() {
                    return Err(self.syntax_at("WITH", place));
                }
                self.group_by(list, &mut targets)?
            }
            GroupByExpr::All(_) => return Err(self.syntax_at("ALL", place)),
        };
        let distinct = self.distinct_of(select.distinct.as_ref(), &mut targets, &order_by)?;
        let (limit, offset, with_ties) = self.limit(parts)?;
        if with_ties && order_by.is_empty() {
            return Err(self.syntax("WITH TIES cannot be specified without ORDER BY clause", place));
        }
        let grouped = !sets.is_empty();
        let locks = self.locks(parts.locks, &from)?;
        let level = self.here();
        if !locks.is_empty() {
            let what = if !matches!(distinct, Distinct::No) {
                "DISTINCT clause"
            } else if grouped {
                "GROUP BY clause"
            } else if having.is_some() {
                "HAVING clause"
            } else if level.has_aggregates {
                "aggregate functions"
            } else if level.has_windows {
                "window functions"
            } else if level.has_sets {
                "set-returning functions in the target list"
            } else {
                ""
            };
            if !what.is_empty() {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("{} is not allowed with {what}", lock_name(locks[0].strength)),
                ));
            }
        }
        let mut having = having;
        if grouped || level.has_aggregates || having.is_some() {
            self.patch_grouping(&mut targets, &mut having, &keys)?;
            self.check_grouping(&targets, having.as_ref(), &keys, &sets)?;
        }
        let mut query = self.close();
        query.has_aggregates |= having.is_some() && !grouped;
        query.from = from;
        query.filter = filter;
        query.targets = targets;
        query.group_keys = keys;
        query.grouping_sets = sets;
        query.having = having;
        query.distinct = distinct;
        query.order_by = order_by;
        query.limit = limit;
        query.offset = offset;
        query.with_ties = with_ties;
        query.locks = locks;
        Ok(query)
    }

    /// An unknown output becomes text.
    fn settle(&mut self, target: &mut Target) -> Result<()> {
        if target.expr.ty().oid == oid::UNKNOWN {
            let expr = std::mem::replace(
                &mut target.expr,
                Expr::Const { value: Datum::Null, ty: Type::new(oid::TEXT) },
            );
            target.expr = self.known(expr)?;
        }
        Ok(())
    }

    /// The target that an ORDER BY or DISTINCT ON item means: an output name, an ordinal, or an expression, which
    /// is added as a hidden target if there is no such target yet.
    pub fn target_of(
        &mut self,
        expr: &ast::Expr,
        clause: Clause,
        targets: &mut Vec<Target>,
    ) -> Result<usize> {
        if let Some(found) = self.named_target(expr, clause, targets)? {
            self.settle(&mut targets[found])?;
            return Ok(found);
        }
        let resolved = self.in_clause(clause, |this| this.expr(expr))?;
        let resolved = self.known(resolved)?;
        Ok(match targets.iter().position(|target| same(&target.expr, &resolved)) {
            Some(found) => found,
            None => {
                targets.push(Target { expr: resolved, name: "?column?".to_owned(), hidden: true });
                targets.len() - 1
            }
        })
    }

    /// The target of that output name or ordinal.
    pub fn named_target(
        &self,
        expr: &ast::Expr,
        clause: Clause,
        targets: &[Target],
    ) -> Result<Option<usize>> {
        let place = start(expr);
        match expr {
            ast::Expr::Identifier(ident) => {
                let name = identifier(ident);
                let mut found: Option<usize> = None;
                for (at, target) in targets.iter().enumerate().filter(|(_, t)| !t.hidden && t.name == name) {
                    if let Some(before) = found
                        && !same(&targets[before].expr, &target.expr)
                    {
                        return Err(self.error(
                            SqlState::AMBIGUOUS_COLUMN,
                            format!("{} \"{name}\" is ambiguous", clause.name()),
                            place,
                        ));
                    }
                    found.get_or_insert(at);
                }
                Ok(found)
            }
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => {
                    let Ok(ordinal) = text.parse::<usize>() else {
                        return Err(self.syntax(format!("non-integer constant in {}", clause.name()), place));
                    };
                    let visible = targets.iter().filter(|target| !target.hidden).count();
                    if ordinal == 0 || ordinal > visible {
                        return Err(self.error(
                            SqlState::INVALID_COLUMN_REFERENCE,
                            format!("{} position {ordinal} is not in select list", clause.name()),
                            place,
                        ));
                    }
                    Ok(Some(ordinal - 1))
                }
                ast::Value::Placeholder(_) => Ok(None),
                _ => Err(self.syntax(format!("non-integer constant in {}", clause.name()), place)),
            },
            _ => Ok(None),
        }
    }

    pub fn order_by(&mut self, list: &[ast::OrderByExpr], targets: &mut Vec<Target>) -> Result<Vec<SortKey>> {
        let mut keys: Vec<SortKey> = Vec::with_capacity(list.len());
        for item in list {
            let place = start(&item.expr);
            let target = self.target_of(&item.expr, Clause::OrderBy, targets)?;
            let (descending, nulls_first) = self.locate(order_options(&item.options), place)?;
            self.orderable(&targets[target].expr, place)?;
            // A key that repeats an earlier one decides nothing.
            if keys.iter().all(|key| key.target != target) {
                keys.push(SortKey { target, descending, nulls_first });
            }
        }
        Ok(keys)
    }

    fn distinct_of(
        &mut self,
        distinct: Option<&ast::Distinct>,
        targets: &mut Vec<Target>,
        order_by: &[SortKey],
    ) -> Result<Distinct> {
        match distinct {
            None | Some(ast::Distinct::All) => Ok(Distinct::No),
            Some(ast::Distinct::Distinct) => {
                if order_by.iter().any(|key| targets[key.target].hidden) {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    ));
                }
                for target in targets.iter_mut().filter(|target| !target.hidden) {
                    self.settle(target)?;
                    self.comparable(&target.expr)?;
                }
                Ok(Distinct::All)
            }
            Some(ast::Distinct::On(list)) => {
                let mut on: Vec<usize> = Vec::with_capacity(list.len());
                for expr in list {
                    let target = self.target_of(expr, Clause::DistinctOn, targets)?;
                    self.orderable(&targets[target].expr, start(expr))?;
                    if !on.contains(&target) {
                        on.push(target);
                    }
                }
                // Rows with equal ON values must stand together, so ORDER BY must begin with them.
                if order_by.iter().take(on.len()).any(|key| !on.contains(&key.target)) {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                    )
                    .at(list.first().and_then(|expr| self.position(start(expr)))));
                }
                Ok(Distinct::On(on))
            }
        }
    }

    /// 42883 for a type without equality.
    pub fn comparable(&self, expr: &Expr) -> Result<()> {
        let ty = expr.ty().oid;
        if function::comparison(ty, function::Strategy::Eq).is_some()
            || ty == oid::RECORD
            || value::types::element_of(ty) != 0
        {
            return Ok(());
        }
        Err(Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("could not identify an equality operator for type {}", format_type(ty, -1)),
        ))
    }

    /// LIMIT, OFFSET, and whether ties are kept.
    pub fn limit(&mut self, parts: &Parts<'_>) -> Result<(Option<Expr>, Option<Expr>, bool)> {
        let mut with_ties = false;
        let mut limit = match parts.limit {
            // LIMIT ALL and LIMIT NULL are no limit; the executor knows NULL.
            Some(limit) => Some(self.row_count(limit, Clause::Limit)?),
            None => None,
        };
        if let Some(fetch) = parts.fetch {
            with_ties = fetch.with_ties;
            limit = Some(match &fetch.quantity {
                Some(quantity) => self.row_count(quantity, Clause::Limit)?,
                None => Expr::Const { value: Datum::Int8(1), ty: Type::new(oid::INT8) },
            });
        }
        let offset = match parts.offset {
            Some(offset) => Some(self.row_count(offset, Clause::Offset)?),
            None => None,
        };
        Ok((limit, offset, with_ties))
    }

    fn row_count(&mut self, expr: &ast::Expr, clause: Clause) -> Result<Expr> {
        let place = start(expr);
        let resolved = self.in_clause(clause, |this| this.expr(expr))?;
        if walk::any(&resolved, &|e| {
            matches!(e, Expr::Column { levels_up: 0, .. } | Expr::WholeRow { levels_up: 0, .. })
        }) {
            return Err(self.error(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("argument of {} must not contain variables", clause.name()),
                place,
            ));
        }
        self.must_be(resolved, oid::INT8, clause.name(), place)
    }

    /// FOR UPDATE and its like. Without OF, all tables of FROM, also those inside subqueries, which get a clause
    /// of their own.
    fn locks(&mut self, clauses: &[ast::LockClause], from: &[FromItem]) -> Result<Vec<LockClause>> {
        let mut locks = Vec::new();
        for clause in clauses {
            let mut names: Vec<(String, Location)> = Vec::new();
            let mut strength = match clause.lock_type {
                ast::LockType::Update => LockStrength::Update,
                ast::LockType::Share => LockStrength::Share,
            };
            if let Some(of) = &clause.of {
                for part in &of.0 {
                    let ast::ObjectNamePart::Identifier(ident) = part else { continue };
                    match ident.value.strip_prefix(marker::LOCK) {
                        Some("no_key_update") => strength = LockStrength::NoKeyUpdate,
                        Some("key_share") => strength = LockStrength::KeyShare,
                        Some("share") => strength = LockStrength::Share,
                        Some(_) => strength = LockStrength::Update,
                        None => names.push((identifier(ident), ident.span.start)),
                    }
                }
            }
            let wait = match clause.nonblock {
                None => LockWait::Block,
                Some(ast::NonBlock::Nowait) => LockWait::NoWait,
                Some(ast::NonBlock::SkipLocked) => LockWait::SkipLocked,
            };
            let mut relations = Vec::new();
            if names.is_empty() {
                let mut all = Vec::new();
                from.iter().for_each(|item| leaves(item, &mut all));
                relations = all;
            }
            for (name, place) in names {
                let level = self.here();
                let Some(found) =
                    level.namespace.iter().find(|item| item.name == name && item.relation_visible)
                else {
                    return Err(self.error(
                        SqlState::UNDEFINED_TABLE,
                        format!(
                            "relation \"{name}\" in {} clause not found in FROM clause",
                            lock_name(strength)
                        ),
                        place,
                    ));
                };
                let Some(relation) = found.relation else {
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        format!("{} cannot be applied to a join", lock_name(strength)),
                        place,
                    ));
                };
                let what = match &level.relations[relation].kind {
                    RelationKind::Functions { .. } => "a function",
                    RelationKind::Values(_) => "VALUES",
                    RelationKind::Cte { .. } => "a WITH query",
                    RelationKind::Join { .. } => "a join",
                    _ => "",
                };
                if !what.is_empty() {
                    return Err(self.error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        format!("{} cannot be applied to {what}", lock_name(strength)),
                        place,
                    ));
                }
                relations.push(relation);
            }
            let mut tables = Vec::new();
            for relation in relations {
                match &mut self.top().relations[relation].kind {
                    RelationKind::Table(_) => tables.push(relation),
                    RelationKind::Subquery(query) | RelationKind::View { query, .. } => {
                        lock_inside(query, strength, wait);
                    }
                    _ => {}
                }
            }
            locks.push(LockClause { relations: tables, strength, wait });
        }
        Ok(locks)
    }

    /// `VALUES (...), (...)` as a query of its own.
    fn values(&mut self, values: &ast::Values, parts: &Parts<'_>, resolve_unknown: bool) -> Result<Query> {
        let place = query_place(values);
        let rows = self.in_clause(Clause::Values, |this| this.value_rows(values))?;
        let width = rows.first().map_or(0, Vec::len);
        let mut rows = rows;
        let mut columns = Vec::with_capacity(width);
        for column in 0..width {
            let cells: Vec<Expr> = rows
                .iter_mut()
                .map(|row| {
                    std::mem::replace(
                        &mut row[column],
                        Expr::Const { value: Datum::Null, ty: Type::new(oid::TEXT) },
                    )
                })
                .collect();
            let all_unknown = cells.iter().all(|cell| cell.ty().oid == oid::UNKNOWN);
            let (cells, ty) = if all_unknown && !resolve_unknown && rows.len() == 1 {
                let ty = cells[0].ty();
                (cells, ty)
            } else {
                self.common(cells, "VALUES", place)?
            };
            for (row, cell) in rows.iter_mut().zip(cells) {
                row[column] = cell;
            }
            columns.push(OutputColumn { name: format!("column{}", column + 1), ty });
        }
        // One row needs no relation: its cells are the targets.
        let single = rows.len() == 1;
        let mut targets = Vec::with_capacity(width);
        let mut from = Vec::new();
        if single {
            for (cell, column) in rows.remove(0).into_iter().zip(&columns) {
                targets.push(Target { expr: cell, name: column.name.clone(), hidden: false });
            }
        } else {
            let relation = self.add_relation(RelationKind::Values(rows), "*VALUES*".to_owned(), columns);
            let item = self.item_of(relation, None);
            for column in &item.columns {
                targets.push(Target { expr: column.expr.clone(), name: column.name.clone(), hidden: false });
            }
            let count = targets.len();
            self.top().relations[relation].selected = (0..count).collect();
            self.top().namespace.push(item);
            from.push(FromItem::Relation(relation));
        }
        let order_by = self.order_by(parts.order_by, &mut targets)?;
        let (limit, offset, with_ties) = self.limit(parts)?;
        if !parts.locks.is_empty() {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "FOR UPDATE cannot be applied to VALUES",
            ));
        }
        let mut query = self.close();
        query.from = from;
        query.targets = targets;
        query.order_by = order_by;
        query.limit = limit;
        query.offset = offset;
        query.with_ties = with_ties;
        Ok(query)
    }

    /// The rows of VALUES, all of one length.
    fn value_rows(&mut self, values: &ast::Values) -> Result<Vec<Vec<Expr>>> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            if row.content.len() != width {
                return Err(self.syntax(
                    "VALUES lists must all be the same length",
                    row.content.first().map(start).unwrap_or(Location::empty()),
                ));
            }
            rows.push(self.exprs(&row.content)?);
        }
        Ok(rows)
    }

    /// `TABLE t`.
    fn table_body(&mut self, table: &ast::Table, parts: &Parts<'_>) -> Result<Query> {
        let ident = |name: &str| ast::ObjectNamePart::Identifier(ast::Ident::new(name));
        let mut names = Vec::new();
        names.extend(table.schema_name.as_deref().map(ident));
        names.extend(table.table_name.as_deref().map(ident));
        let (item, scope) = self.named_relation(&ast::ObjectName(names), None)?;
        self.top().namespace.extend(scope);
        let from = vec![item];
        let mut targets = self.star(Location::empty())?;
        let order_by = self.order_by(parts.order_by, &mut targets)?;
        let (limit, offset, with_ties) = self.limit(parts)?;
        let locks = self.locks(parts.locks, &from)?;
        let mut query = self.close();
        query.from = from;
        query.targets = targets;
        query.order_by = order_by;
        query.limit = limit;
        query.offset = offset;
        query.with_ties = with_ties;
        query.locks = locks;
        Ok(query)
    }

    /// Makes output column `at` of a finished query be of another type.
    pub fn coerce_output(&mut self, query: Query, at: usize, ty: Type) -> Result<Query> {
        let mut types: Vec<Type> = outputs(&query).iter().map(|column| column.ty).collect();
        types[at] = ty;
        self.coerce_outputs(query, &types)
    }

    /// Makes the output columns of a finished query be of these types. What sorts or compares its outputs goes
    /// on seeing the old ones.
    pub fn coerce_outputs(&mut self, query: Query, types: &[Type]) -> Result<Query> {
        let current = outputs(&query);
        if current.iter().zip(types).all(|(column, ty)| column.ty.oid == ty.oid) {
            return Ok(query);
        }
        let plain = query.set_operation.is_none()
            && matches!(query.distinct, Distinct::No)
            && query.order_by.is_empty()
            && query.modify.is_none();
        let mut query = if plain { query } else { wrap(query) };
        let mut at = 0;
        for target in &mut query.targets {
            if target.hidden {
                continue;
            }
            if target.expr.ty().oid != types[at].oid {
                let expr = std::mem::replace(
                    &mut target.expr,
                    Expr::Const { value: Datum::Null, ty: Type::new(oid::TEXT) },
                );
                let from = expr.ty();
                match self.convert(expr, Type::new(types[at].oid), function::CastContext::Implicit)? {
                    Some(expr) => target.expr = expr,
                    None => {
                        return Err(Error::new(
                            SqlState::CANNOT_COERCE,
                            format!(
                                "cannot cast type {} to {}",
                                format_type(from.oid, -1),
                                format_type(types[at].oid, -1)
                            ),
                        ));
                    }
                }
            }
            at += 1;
        }
        Ok(query)
    }
}

/// Under EXISTS what is selected, and in which order, does not matter: as in PostgreSQL it is not even folded.
pub(crate) fn only_existence(query: &mut Query) {
    let plain = query.set_operation.is_none()
        && query.modify.is_none()
        && !query.has_aggregates
        && !query.has_set_functions
        && query.group_keys.is_empty()
        && query.grouping_sets.is_empty()
        && query.having.is_none()
        && query.limit.is_none()
        && query.offset.is_none()
        && query.windows.is_empty()
        && query.locks.is_empty();
    if plain {
        query.targets.clear();
        query.order_by.clear();
        query.distinct = Distinct::No;
    }
}

/// What PostgreSQL calls a stored expression that may not hold a subquery.
fn stored_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Default => "DEFAULT expression",
        Purpose::Check => "check constraint",
        Purpose::Generated => "column generation expression",
        Purpose::IndexExpression => "index expression",
        Purpose::IndexPredicate => "index predicate",
        Purpose::AlterUsing => "transform expression",
        Purpose::Argument => "EXECUTE parameter",
    }
}

fn query_place(values: &ast::Values) -> Location {
    values.rows.first().and_then(|row| row.content.first()).map(start).unwrap_or(Location::empty())
}

fn leaves(item: &FromItem, out: &mut Vec<usize>) {
    match item {
        FromItem::Relation(relation) => out.push(*relation),
        FromItem::Join(join) => {
            leaves(&join.left, out);
            leaves(&join.right, out);
        }
    }
}

/// A lock on a subquery is one on the tables inside it.
fn lock_inside(query: &mut Query, strength: LockStrength, wait: LockWait) {
    let mut all = Vec::new();
    query.from.iter().for_each(|item| leaves(item, &mut all));
    let mut tables = Vec::new();
    for relation in all {
        match &mut query.relations[relation].kind {
            RelationKind::Table(_) => tables.push(relation),
            RelationKind::Subquery(inner) | RelationKind::View { query: inner, .. } => {
                lock_inside(inner, strength, wait);
            }
            _ => {}
        }
    }
    if !tables.is_empty() && query.grouping_sets.is_empty() && !query.has_aggregates {
        query.locks.push(tree::LockClause { relations: tables, strength, wait });
    }
}

fn lock_name(strength: LockStrength) -> &'static str {
    match strength {
        LockStrength::KeyShare => "FOR KEY SHARE",
        LockStrength::Share => "FOR SHARE",
        LockStrength::NoKeyUpdate => "FOR NO KEY UPDATE",
        LockStrength::Update => "FOR UPDATE",
    }
}

fn first_word(statement: &Statement) -> String {
    statement.to_string().split_whitespace().next().unwrap_or_default().to_owned()
}
