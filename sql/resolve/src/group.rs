//! GROUP BY: keys, grouping sets, and the check that everything else is grouped or aggregated.

use engine::catalog::ConstraintKind;
use sqlparser::ast;
use sqlparser::tokenizer::Location;
use value::{Result, SqlState};

use crate::parse::marker;
use crate::same::same;
use crate::scope::{Clause, Resolver, start};
use crate::tree::{Expr, Query, RelationKind, Target};
use crate::walk;

/// As PostgreSQL: CUBE over 12 columns.
const MAX_SETS: usize = 4_096;

impl Resolver<'_> {
    /// The keys and, as indexes into them, the grouping sets; both empty without GROUP BY.
    pub fn group_by(
        &mut self,
        list: &[ast::Expr],
        targets: &mut [Target],
    ) -> Result<(Vec<Expr>, Vec<Vec<usize>>)> {
        let mut keys: Vec<Expr> = Vec::new();
        if list.is_empty() {
            return Ok((keys, Vec::new()));
        }
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let distinct = matches!(list.first(),
            Some(ast::Expr::Identifier(ident)) if ident.value == marker::GROUP_DISTINCT);
        for item in &list[usize::from(distinct)..] {
            let alternatives = self.grouping_item(item, targets, &mut keys)?;
            let mut product = Vec::with_capacity(sets.len() * alternatives.len());
            for set in &sets {
                for alternative in &alternatives {
                    let mut combined = set.clone();
                    combined.extend(alternative);
                    product.push(combined);
                }
            }
            sets = product;
            if sets.len() > MAX_SETS {
                return Err(self.error(
                    SqlState::STATEMENT_TOO_COMPLEX,
                    format!("too many grouping sets present (maximum {MAX_SETS})"),
                    start(item),
                ));
            }
        }
        for set in &mut sets {
            set.sort_unstable();
            set.dedup();
        }
        if distinct {
            let mut seen = std::collections::HashSet::new();
            sets.retain(|set| seen.insert(set.clone()));
        }
        Ok((keys, sets))
    }

    /// The sets that one item of GROUP BY stands for.
    fn grouping_item(
        &mut self,
        item: &ast::Expr,
        targets: &mut [Target],
        keys: &mut Vec<Expr>,
    ) -> Result<Vec<Vec<usize>>> {
        use ast::Expr as E;
        match item {
            E::GroupingSets(list) => {
                let mut sets = Vec::new();
                for set in list {
                    match set.as_slice() {
                        [one @ (E::Rollup(_) | E::Cube(_) | E::GroupingSets(_))] => {
                            sets.extend(self.grouping_item(one, targets, keys)?);
                        }
                        [E::Function(function)] if nested_kind(function).is_some() => {
                            let nested = self.nested(function, targets, keys)?;
                            sets.extend(nested);
                        }
                        columns => sets.push(self.group_columns(columns, targets, keys)?),
                    }
                }
                Ok(sets)
            }
            E::Rollup(list) => {
                let units = self.units(list, targets, keys)?;
                Ok(rollup(&units))
            }
            E::Cube(list) => {
                let units = self.units(list, targets, keys)?;
                if units.len() > 12 {
                    return Err(self.error(
                        SqlState::TOO_MANY_COLUMNS,
                        "CUBE is limited to 12 elements",
                        start(item),
                    ));
                }
                Ok(cube(&units))
            }
            E::Tuple(list) => Ok(vec![self.group_columns(list, targets, keys)?]),
            other => Ok(vec![vec![self.group_key(other, targets, keys)?]]),
        }
    }

    /// ROLLUP and CUBE inside GROUPING SETS are parsed as calls.
    fn nested(
        &mut self,
        function: &ast::Function,
        targets: &mut [Target],
        keys: &mut Vec<Expr>,
    ) -> Result<Vec<Vec<usize>>> {
        let mut list = Vec::new();
        if let ast::FunctionArguments::List(args) = &function.args {
            for arg in &args.args {
                match arg {
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Tuple(columns))) => {
                        list.push(columns.clone());
                    }
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => {
                        list.push(vec![expr.clone()])
                    }
                    _ => return Err(self.syntax_at("*", crate::names::name_location(&function.name))),
                }
            }
        }
        let units = self.units(&list, targets, keys)?;
        Ok(if nested_kind(function) == Some("cube") { cube(&units) } else { rollup(&units) })
    }

    fn units(
        &mut self,
        list: &[Vec<ast::Expr>],
        targets: &mut [Target],
        keys: &mut Vec<Expr>,
    ) -> Result<Vec<Vec<usize>>> {
        list.iter().map(|columns| self.group_columns(columns, targets, keys)).collect()
    }

    fn group_columns(
        &mut self,
        columns: &[ast::Expr],
        targets: &mut [Target],
        keys: &mut Vec<Expr>,
    ) -> Result<Vec<usize>> {
        let mut set = Vec::with_capacity(columns.len());
        for column in columns {
            match column {
                ast::Expr::Tuple(inner) => set.extend(self.group_columns(inner, targets, keys)?),
                other => set.push(self.group_key(other, targets, keys)?),
            }
        }
        Ok(set)
    }

    /// A key: an input column first, then an output name or ordinal, else an expression.
    fn group_key(&mut self, expr: &ast::Expr, targets: &mut [Target], keys: &mut Vec<Expr>) -> Result<usize> {
        let place = start(expr);
        let is_input = match expr {
            ast::Expr::Identifier(ident) => {
                let name = crate::names::identifier(ident);
                self.here()
                    .namespace
                    .iter()
                    .filter(|item| item.columns_visible)
                    .any(|item| item.columns.iter().any(|column| column.name == name))
            }
            _ => false,
        };
        let named = if is_input { None } else { self.named_target(expr, Clause::GroupBy, targets)? };
        let key = match named {
            Some(at) => targets[at].expr.clone(),
            None => self.in_clause(Clause::GroupBy, |this| this.expr(expr))?,
        };
        let key = self.known(key)?;
        if walk::any(&key, &|e| matches!(e, Expr::Aggregate(call) if call.levels_up == 0)) {
            return Err(self.error(
                SqlState::GROUPING_ERROR,
                "aggregate functions are not allowed in GROUP BY",
                place,
            ));
        }
        if walk::any(&key, &|e| matches!(e, Expr::Window(_))) {
            return Err(self.error(
                SqlState::WINDOWING_ERROR,
                "window functions are not allowed in GROUP BY",
                place,
            ));
        }
        let comparable = self.comparable(&key);
        self.locate(comparable, place)?;
        if let Some(found) = keys.iter().position(|other| same(other, &key)) {
            return Ok(found);
        }
        keys.push(key);
        Ok(keys.len() - 1)
    }

    /// GROUPING(a, b): the keys are not known yet, so it carries its arguments until [`Self::patch_grouping`].
    pub fn grouping(&mut self, args: Vec<Expr>, place: Location) -> Result<Expr> {
        let clause = self.here().clause;
        if !clause.allows_aggregates() {
            return Err(self.error(
                SqlState::GROUPING_ERROR,
                format!("grouping operations are not allowed in {}", clause.name()),
                place,
            ));
        }
        if args.len() > 31 {
            return Err(self.error(
                SqlState::TOO_MANY_ARGUMENTS,
                "GROUPING must have fewer than 32 arguments",
                place,
            ));
        }
        let level = self.top();
        level.groupings.push((args, place));
        Ok(Expr::Grouping(vec![level.groupings.len() - 1]))
    }

    /// Replaces what [`Self::grouping`] left by indexes of keys.
    pub fn patch_grouping(
        &mut self,
        targets: &mut [Target],
        having: &mut Option<Expr>,
        keys: &[Expr],
    ) -> Result<()> {
        let groupings = std::mem::take(&mut self.top().groupings);
        if groupings.is_empty() {
            return Ok(());
        }
        let mut indexes = Vec::with_capacity(groupings.len());
        for (args, place) in &groupings {
            let mut found = Vec::with_capacity(args.len());
            for arg in args {
                match keys.iter().position(|key| same(key, arg)) {
                    Some(at) => found.push(at),
                    None => {
                        return Err(self.error(
                            SqlState::GROUPING_ERROR,
                            "arguments to GROUPING must be grouping expressions of the associated query level",
                            *place,
                        ));
                    }
                }
            }
            indexes.push(found);
        }
        for target in targets {
            patch(&mut target.expr, &indexes);
        }
        if let Some(having) = having {
            patch(having, &indexes);
        }
        Ok(())
    }

    /// 42803 for a column that is neither grouped nor aggregated.
    pub fn check_grouping(
        &self,
        targets: &[Target],
        having: Option<&Expr>,
        keys: &[Expr],
        sets: &[Vec<usize>],
    ) -> Result<()> {
        let plain = sets.len() <= 1;
        let windows = self.here().windows.iter().flat_map(|window| {
            window.partition_by.iter().chain(window.order_by.iter().map(|order| &order.expr))
        });
        let exprs = targets.iter().map(|target| &target.expr).chain(having).chain(windows);
        for expr in exprs {
            self.check_expr(expr, 0, keys, plain)?;
        }
        Ok(())
    }

    fn check_expr(&self, expr: &Expr, depth: usize, keys: &[Expr], plain: bool) -> Result<()> {
        crate::parse::level(|| {
            let is_key = keys.iter().any(|key| {
                if depth == 0 {
                    return same(key, expr);
                }
                let mut key = key.clone();
                walk::deepen(&mut key, depth);
                same(&key, expr)
            });
            if is_key {
                return Ok(());
            }
            match expr {
                Expr::Aggregate(call) if call.levels_up >= depth => {
                    if call.levels_up == depth {
                        for arg in &call.direct_args {
                            self.check_expr(arg, depth, keys, plain)?;
                        }
                    }
                    return Ok(());
                }
                Expr::Column { levels_up, relation, column, .. }
                    if *levels_up == depth && *relation != usize::MAX =>
                {
                    return self.check_column(*relation, Some(*column), depth, keys, plain);
                }
                Expr::WholeRow { levels_up, relation, .. } if *levels_up == depth => {
                    return self.check_column(*relation, None, depth, keys, plain);
                }
                Expr::Sublink(sublink) => self.check_query(&sublink.query, depth + 1, keys, plain)?,
                _ => {}
            }
            let mut result = Ok(());
            walk::children(expr, &mut |child| {
                if result.is_ok() {
                    result = self.check_expr(child, depth, keys, plain);
                }
            });
            result
        })
    }

    fn check_query(&self, query: &Query, depth: usize, keys: &[Expr], plain: bool) -> Result<()> {
        let result = std::cell::RefCell::new(Ok(()));
        walk::query_parts(
            query,
            &mut |expr| {
                if result.borrow().is_ok() {
                    let checked = self.check_expr(expr, depth, keys, plain);
                    *result.borrow_mut() = checked;
                }
            },
            &mut |inner| {
                if result.borrow().is_ok() {
                    let checked = self.check_query(inner, depth + 1, keys, plain);
                    *result.borrow_mut() = checked;
                }
            },
        );
        result.into_inner()
    }

    fn check_column(
        &self,
        relation: usize,
        column: Option<usize>,
        depth: usize,
        keys: &[Expr],
        plain: bool,
    ) -> Result<()> {
        let level = self.here();
        let Some(entry) = level.relations.get(relation) else { return Ok(()) };
        // Grouping by the primary key groups by everything in the row.
        if plain && let RelationKind::Table(table) = &entry.kind {
            for constraint in &table.constraints {
                let ConstraintKind::Primary { index } = &constraint.kind else { continue };
                let Some(index) = self.names.catalog().index(*index) else { continue };
                if constraint.deferrable {
                    continue;
                }
                let determined = index.keys.iter().all(|key| {
                    let at = usize::try_from(key.column - 1).unwrap_or(usize::MAX);
                    keys.iter().any(|grouped| {
                        matches!(grouped, Expr::Column { levels_up: 0, relation: r, column: c, .. }
                            if *r == relation && *c == at)
                    })
                });
                if determined {
                    return Ok(());
                }
            }
        }
        let place = level
            .column_places
            .iter()
            .find(|(r, c, _)| *r == relation && column.is_none_or(|column| column == *c))
            .map(|(_, _, place)| *place)
            .unwrap_or(Location::empty());
        let name = match column {
            Some(column) => {
                // The alias of a column list wins over the column's own name.
                let item = level.namespace.iter().find(|item| item.relation == Some(relation));
                let shown = item.and_then(|item| {
                    item.columns
                        .iter()
                        .find(|c| matches!(c.expr, Expr::Column { column: at, .. } if at == column))
                });
                let own = entry.columns.get(column).map(|c| c.name.clone()).unwrap_or_default();
                format!("{}.{}", entry.name, shown.map_or(own, |c| c.name.clone()))
            }
            None => format!("{}.*", entry.name),
        };
        let message = if depth == 0 {
            format!(
                "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
            )
        } else {
            format!("subquery uses ungrouped column \"{name}\" from outer query")
        };
        Err(self.error(SqlState::GROUPING_ERROR, message, place))
    }
}

fn patch(expr: &mut Expr, indexes: &[Vec<usize>]) {
    if let Expr::Grouping(list) = expr {
        if let Some(found) = list.first().and_then(|at| indexes.get(*at)) {
            *list = found.clone();
        }
        return;
    }
    walk::children_mut(expr, &mut |child| patch(child, indexes));
}

fn nested_kind(function: &ast::Function) -> Option<&'static str> {
    let name = crate::names::split_name(&function.name).ok()?;
    match name.as_slice() {
        [one] if one == "rollup" => Some("rollup"),
        [one] if one == "cube" => Some("cube"),
        _ => None,
    }
}

/// All, all but the last, ..., none.
fn rollup(units: &[Vec<usize>]) -> Vec<Vec<usize>> {
    (0..=units.len()).rev().map(|count| units[..count].concat()).collect()
}

/// Every subset, larger ones first.
fn cube(units: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let all = (1usize << units.len()) - 1;
    (0..=all)
        .rev()
        .map(|mask| {
            let mut set = Vec::new();
            for (at, unit) in units.iter().enumerate() {
                if mask >> (units.len() - 1 - at) & 1 == 1 {
                    set.extend(unit);
                }
            }
            set
        })
        .collect()
}
