//! Where names mean something: the stack of queries being resolved.
//!
//! Each query in progress is a [`Level`] with its range table and its namespace. A column reference looks through
//! the levels from the innermost outwards; `levels_up` in the tree is the distance. While FROM is being resolved,
//! what stands before an item is visible to it only if it is LATERAL.

use std::sync::Arc;

use engine::catalog::Table;
use sqlparser::ast;
use sqlparser::tokenizer::Location;
use value::types::oid;
use value::{Datum, Error, Result, SqlState, Type};

use crate::names::{identifier, nearest};
use crate::tree::{self, Expr, OutputColumn, Relation, RelationKind};
use crate::walk::deepen;
use crate::{ExprScope, Names, Parameters, Purpose};

/// Views may refer to views this deep.
const MAX_VIEW_DEPTH: usize = 100;

/// Resolves one statement.
pub(crate) struct Resolver<'a> {
    pub names: &'a dyn Names,
    /// The text positions count in.
    pub text: &'a str,
    pub params: &'a mut Parameters,
    pub levels: Vec<Level>,
    /// Where unknown literals stand; `typmod` of their type indexes it (see coerce.rs).
    pub literals: Vec<Location>,
    pub view_depth: usize,
    /// Whose rights apply inside the view being expanded.
    pub check_as: Option<value::Oid>,
}

/// Which part of a query is being resolved: decides whether aggregates, windows and sets may stand there, and
/// what the error calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    Targets,
    Where,
    Having,
    GroupBy,
    OrderBy,
    DistinctOn,
    Limit,
    Offset,
    FromFunction,
    JoinOn,
    Values,
    UpdateSet,
    Returning,
    WindowPartition,
    WindowOrder,
    WindowFrame,
    Filter,
    Stored(Purpose),
    ConflictWhere,
}

impl Clause {
    /// What PostgreSQL calls it in "... are not allowed in X".
    pub fn name(self) -> &'static str {
        match self {
            Clause::Targets => "SELECT",
            Clause::Where | Clause::ConflictWhere => "WHERE",
            Clause::Having => "HAVING",
            Clause::GroupBy => "GROUP BY",
            Clause::OrderBy => "ORDER BY",
            Clause::DistinctOn => "DISTINCT ON",
            Clause::Limit => "LIMIT",
            Clause::Offset => "OFFSET",
            Clause::FromFunction => "functions in FROM",
            Clause::JoinOn => "JOIN conditions",
            Clause::Values => "VALUES",
            Clause::UpdateSet => "UPDATE",
            Clause::Returning => "RETURNING",
            Clause::WindowPartition => "window PARTITION BY",
            Clause::WindowOrder => "window ORDER BY",
            Clause::WindowFrame => "window ROWS",
            Clause::Filter => "FILTER",
            Clause::Stored(Purpose::Default) => "DEFAULT expressions",
            Clause::Stored(Purpose::Check) => "check constraints",
            Clause::Stored(Purpose::Generated) => "column generation expressions",
            Clause::Stored(Purpose::IndexExpression) => "index expressions",
            Clause::Stored(Purpose::IndexPredicate) => "index predicates",
            Clause::Stored(Purpose::AlterUsing) => "transform expressions",
            Clause::Stored(Purpose::Argument) => "EXECUTE parameters",
        }
    }

    pub fn allows_aggregates(self) -> bool {
        matches!(
            self,
            Clause::Targets
                | Clause::Having
                | Clause::OrderBy
                | Clause::DistinctOn
                | Clause::WindowPartition
                | Clause::WindowOrder
        )
    }

    pub fn allows_windows(self) -> bool {
        matches!(self, Clause::Targets | Clause::OrderBy | Clause::DistinctOn)
    }

    pub fn allows_sets(self) -> bool {
        matches!(
            self,
            Clause::Targets
                | Clause::OrderBy
                | Clause::GroupBy
                | Clause::DistinctOn
                | Clause::FromFunction
                | Clause::WindowPartition
                | Clause::WindowOrder
        )
    }
}

/// One query in progress.
pub(crate) struct Level {
    pub relations: Vec<Relation>,
    pub namespace: Vec<Item>,
    pub ctes: Vec<CteEntry>,
    /// A WITH RECURSIVE member is being resolved: its own name and columns, seen as a CTE.
    pub clause: Clause,
    /// FROM is being resolved: the namespace is visible to LATERAL items only.
    pub in_from: bool,
    pub lateral: bool,
    /// FROM holds an outer join: rows may be made up of NULLs.
    pub outer_join: bool,
    /// Inside the arguments of an aggregate of this level.
    pub in_aggregate: usize,
    pub has_aggregates: bool,
    pub has_windows: bool,
    pub has_sets: bool,
    pub windows: Vec<tree::Window>,
    pub window_names: Vec<(String, NamedWindow)>,
    /// Where columns of this level stand outside aggregates, for grouping errors.
    pub column_places: Vec<(usize, usize, Location)>,
    pub first_aggregate: Option<Location>,
    /// Arguments of GROUPING, until the keys are known.
    pub groupings: Vec<(Vec<Expr>, Location)>,
    /// The view that INSERT, UPDATE or DELETE named; relation 0 is the table below it.
    pub changed_view: Option<ChangedView>,
}

/// A view simple enough to be changed through: rows of one table, some of its columns.
pub(crate) struct ChangedView {
    pub name: String,
    /// The view's columns over relation 0; those that are not plain columns cannot be assigned.
    pub columns: Vec<ItemColumn>,
    /// The rows that the view shows.
    pub filter: Option<Expr>,
}

/// A window of the WINDOW clause, as later definitions see it.
#[derive(Clone)]
pub(crate) struct NamedWindow {
    pub window: tree::Window,
    pub has_frame: bool,
}

pub(crate) struct CteEntry {
    pub cte: tree::Cte,
    /// The recursive arm is being resolved right now; references are to the working table.
    pub open: bool,
    /// A data-modifying CTE without RETURNING has no columns to read.
    pub readable: bool,
    /// For a forward or self reference where it is not allowed.
    pub visible: bool,
}

impl Level {
    pub fn new(clause: Clause) -> Level {
        Level {
            relations: Vec::new(),
            namespace: Vec::new(),
            ctes: Vec::new(),
            clause,
            in_from: false,
            lateral: false,
            outer_join: false,
            in_aggregate: 0,
            has_aggregates: false,
            has_windows: false,
            has_sets: false,
            windows: Vec::new(),
            window_names: Vec::new(),
            column_places: Vec::new(),
            first_aggregate: None,
            groupings: Vec::new(),
            changed_view: None,
        }
    }
}

/// Something that FROM has put a name on.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub name: String,
    /// Schema of an unaliased table, so that `schema.table.column` works.
    pub schema: Option<String>,
    /// The range table entry behind it; `None` for the columns of a join.
    pub relation: Option<usize>,
    pub columns: Vec<ItemColumn>,
    /// `name.column` works.
    pub relation_visible: bool,
    /// `column` and `*` work.
    pub columns_visible: bool,
    /// LATERAL references are not allowed (the other side of a RIGHT or FULL join).
    pub lateral_ok: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ItemColumn {
    pub name: String,
    /// Over the level's own relations.
    pub expr: Expr,
    /// `*` leaves it out.
    pub hidden: bool,
}

impl<'a> Resolver<'a> {
    pub fn new(names: &'a dyn Names, text: &'a str, params: &'a mut Parameters) -> Resolver<'a> {
        Resolver {
            names,
            text,
            params,
            levels: Vec::new(),
            literals: Vec::new(),
            view_depth: 0,
            check_as: None,
        }
    }

    /// The 1-based character position of a place, `None` inside views (their text is not the user's).
    pub fn position(&self, location: Location) -> Option<usize> {
        if self.view_depth > 0 || self.text.is_empty() {
            return None;
        }
        crate::parse::position(self.text, location)
    }

    pub fn error(&self, state: SqlState, message: impl Into<String>, location: Location) -> Error {
        Error::new(state, message).at(self.position(location))
    }

    /// Adds the place to an error that has none.
    pub fn locate<T>(&self, result: Result<T>, location: Location) -> Result<T> {
        result.map_err(|error| error.at(self.position(location)))
    }

    pub fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("a level is open while a query is resolved")
    }

    pub fn here(&self) -> &Level {
        self.levels.last().expect("a level is open while a query is resolved")
    }

    /// Runs `work` as clause `clause` of the innermost query.
    pub fn in_clause<T>(&mut self, clause: Clause, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.top().clause, clause);
        let result = work(self);
        self.top().clause = before;
        result
    }

    /// Guards against views that contain themselves.
    pub fn enter_view(&mut self) -> Result<()> {
        if self.view_depth >= MAX_VIEW_DEPTH {
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "views are nested too deep"));
        }
        self.view_depth += 1;
        Ok(())
    }

    /// An expression outside any query (see [`crate::resolve_expression`]).
    pub fn lone_expression(
        &mut self,
        expression: &ast::Expr,
        scope: ExprScope<'_>,
        target: Option<Type>,
    ) -> Result<Expr> {
        self.levels.push(Level::new(Clause::Stored(scope.purpose)));
        if let Some(table) = scope.table {
            let relation = self.add_table(table.clone(), None);
            let item = self.item_of(relation, None);
            self.top().namespace.push(item);
        }
        let resolved = self.expr(expression)?;
        let resolved = match target {
            Some(target) => {
                let from = resolved.ty();
                let location = start(expression);
                match self.assign(resolved, target, location)? {
                    Some(done) => done,
                    None => {
                        let (to, from) = (
                            value::types::format_type(target.oid, -1),
                            value::types::format_type(from.oid, -1),
                        );
                        return Err(self.lone_mismatch(scope.purpose, &to, &from, location));
                    }
                }
            }
            None => self.known(resolved)?,
        };
        self.levels.pop();
        Ok(resolved)
    }

    fn lone_mismatch(&self, purpose: Purpose, to: &str, from: &str, location: Location) -> Error {
        let message = match purpose {
            Purpose::Check => format!("argument of CHECK must be type {to}, not type {from}"),
            Purpose::IndexPredicate => format!("argument of WHERE must be type {to}, not type {from}"),
            Purpose::AlterUsing => {
                format!("result of USING clause cannot be cast automatically to type {to}")
            }
            Purpose::Argument => {
                format!("parameter of type {from} cannot be coerced to the expected type {to}")
            }
            Purpose::Default | Purpose::Generated | Purpose::IndexExpression => {
                format!("column is of type {to} but default expression is of type {from}")
            }
        };
        self.error(SqlState::DATATYPE_MISMATCH, message, location)
            .hint("You will need to rewrite or cast the expression.")
    }

    /// Adds a table to the innermost range table.
    pub fn add_table(&mut self, table: Arc<Table>, alias: Option<String>) -> usize {
        let columns =
            table.columns.iter().map(|c| OutputColumn { name: c.name.clone(), ty: c.ty() }).collect();
        let name = alias.unwrap_or_else(|| table.name.clone());
        self.add_relation(RelationKind::Table(table), name, columns)
    }

    pub fn add_relation(&mut self, kind: RelationKind, name: String, columns: Vec<OutputColumn>) -> usize {
        let check_as = self.check_as;
        let level = self.top();
        level.relations.push(Relation {
            kind,
            name,
            columns,
            lateral: false,
            check_as,
            selected: Vec::new(),
        });
        level.relations.len() - 1
    }

    /// The namespace entry of a relation, all columns visible, renamed by a column alias list.
    pub fn item_of(&mut self, relation: usize, schema: Option<String>) -> Item {
        let entry = &self.here().relations[relation];
        let shown: Vec<usize> = match &entry.kind {
            RelationKind::Table(table) => table.visible_columns().map(|(at, _)| at).collect(),
            _ => (0..entry.columns.len()).collect(),
        };
        let columns = shown
            .into_iter()
            .map(|column| ItemColumn {
                name: entry.columns[column].name.clone(),
                expr: Expr::Column { levels_up: 0, relation, column, ty: entry.columns[column].ty },
                hidden: false,
            })
            .collect();
        Item {
            name: entry.name.clone(),
            schema,
            relation: Some(relation),
            columns,
            relation_visible: true,
            columns_visible: true,
            lateral_ok: true,
        }
    }

    /// Notes a use of a column for rights and grouping, and gives the expression as seen from the innermost query.
    fn use_column(&mut self, level: usize, mut expr: Expr, location: Location) -> Expr {
        let up = self.levels.len() - 1 - level;
        let target = &mut self.levels[level];
        let mut stack = vec![&expr];
        while let Some(next) = stack.pop() {
            if let Expr::Column { levels_up: 0, relation, column, .. } = next {
                let selected = &mut target.relations[*relation].selected;
                if !selected.contains(column) {
                    selected.push(*column);
                }
                if target.in_aggregate == 0 && !target.in_from {
                    target.column_places.push((*relation, *column, location));
                }
            }
            crate::walk::children(next, &mut |child| stack.push(child));
        }
        deepen(&mut expr, up);
        expr
    }

    /// `name` alone: a column, or the whole row of a relation of that name. 42703, 42702.
    pub fn column(&mut self, ident: &ast::Ident) -> Result<Expr> {
        let name = identifier(ident);
        let location = ident.span.start;
        self.locate(crate::names::refuse_reserved(ident), location)?;
        if let [Level { clause: Clause::Stored(Purpose::Default), .. }] = self.levels.as_slice() {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot use column reference in DEFAULT expression",
                location,
            ));
        }
        for level in (0..self.levels.len()).rev() {
            if let Some(expr) = self.column_at(level, &name, location)? {
                return Ok(self.use_column(level, expr, location));
            }
        }
        for level in (0..self.levels.len()).rev() {
            if let Some(expr) = self.whole_row_at(level, None, &name, location)? {
                return Ok(expr);
            }
        }
        for level in (0..self.levels.len()).rev() {
            if let Some(expr) = self.system_column(level, None, &name, location)? {
                return Ok(expr);
            }
        }
        Err(self.missing_column(None, &name, location))
    }

    fn column_at(&self, level: usize, name: &str, location: Location) -> Result<Option<Expr>> {
        let mut found: Option<Expr> = None;
        let state = &self.levels[level];
        if state.in_from && !state.lateral {
            return Ok(None);
        }
        for item in state.namespace.iter().filter(|item| item.columns_visible) {
            for column in item.columns.iter().filter(|column| column.name == name) {
                if found.is_some() {
                    return Err(self.error(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                        location,
                    ));
                }
                if state.in_from && !item.lateral_ok {
                    return Err(self.bad_lateral(&item.name, location));
                }
                found = Some(column.expr.clone());
            }
        }
        Ok(found)
    }

    fn bad_lateral(&self, name: &str, location: Location) -> Error {
        self.error(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!("invalid reference to FROM-clause entry for table \"{name}\""),
            location,
        )
        .detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference.")
    }

    /// The item `[schema.]name` of a level. 42P09 when two have the name.
    fn item_at(
        &self,
        level: usize,
        schema: Option<&str>,
        name: &str,
        location: Location,
    ) -> Result<Option<&Item>> {
        let state = &self.levels[level];
        if state.in_from && !state.lateral {
            return Ok(None);
        }
        let mut found = None;
        for item in state.namespace.iter().filter(|item| item.relation_visible && item.name == name) {
            if schema.is_some() && item.schema.as_deref() != schema {
                continue;
            }
            if found.is_some() {
                return Err(self.error(
                    SqlState::AMBIGUOUS_ALIAS,
                    format!("table reference \"{name}\" is ambiguous"),
                    location,
                ));
            }
            if state.in_from && !item.lateral_ok {
                return Err(self.bad_lateral(name, location));
            }
            found = Some(item);
        }
        Ok(found)
    }

    /// The level and item that `[schema.]name` means.
    pub fn find_item(
        &self,
        schema: Option<&str>,
        name: &str,
        location: Location,
    ) -> Result<Option<(usize, Item)>> {
        for level in (0..self.levels.len()).rev() {
            if let Some(item) = self.item_at(level, schema, name, location)? {
                return Ok(Some((level, item.clone())));
            }
        }
        Ok(None)
    }

    /// `[schema.]relation.column`. 42P01 for an unknown relation, 42703 for an unknown column.
    pub fn qualified_column(
        &mut self,
        schema: Option<&str>,
        relation: &str,
        ident: &ast::Ident,
        location: Location,
    ) -> Result<Expr> {
        let name = identifier(ident);
        let Some((level, item)) = self.find_item(schema, relation, location)? else {
            return Err(self.missing_from_entry(schema, relation, location));
        };
        let mut matching = item.columns.iter().filter(|column| column.name == name);
        if let Some(column) = matching.next() {
            if matching.next().is_some() {
                return Err(self.error(
                    SqlState::AMBIGUOUS_COLUMN,
                    format!("column reference \"{name}\" is ambiguous"),
                    location,
                ));
            }
            return Ok(self.use_column(level, column.expr.clone(), location));
        }
        if let Some(expr) = self.system_column(level, Some(relation), &name, location)? {
            return Ok(expr);
        }
        Err(self.missing_column(Some(relation), &name, location))
    }

    /// The row of a relation, by name.
    pub fn whole_row_at(
        &mut self,
        level: usize,
        schema: Option<&str>,
        name: &str,
        location: Location,
    ) -> Result<Option<Expr>> {
        let Some(item) = self.item_at(level, schema, name, location)? else { return Ok(None) };
        let item = item.clone();
        let up = self.levels.len() - 1 - level;
        let mut fields = Vec::new();
        for column in &item.columns {
            fields.push(self.use_column(level, column.expr.clone(), location));
        }
        let ty = Type::new(oid::RECORD);
        if let Some(relation) = item.relation {
            // A function with one column stands for its value.
            if let RelationKind::Functions { calls, ordinality: false } =
                &self.levels[level].relations[relation].kind
                && calls.len() == 1
                && fields.len() == 1
            {
                return Ok(fields.pop());
            }
            return Ok(Some(Expr::WholeRow { levels_up: up, relation, ty }));
        }
        Ok(Some(Expr::Row { fields, ty }))
    }

    /// ctid and tableoid of tables.
    fn system_column(
        &mut self,
        level: usize,
        relation: Option<&str>,
        name: &str,
        location: Location,
    ) -> Result<Option<Expr>> {
        if !matches!(name, "ctid" | "tableoid" | "xmin" | "xmax" | "cmin" | "cmax") {
            return Ok(None);
        }
        let state = &self.levels[level];
        if state.in_from && !state.lateral {
            return Ok(None);
        }
        let mut tables = state.namespace.iter().filter_map(|item| {
            let entry = item.relation?;
            if relation.is_some_and(|relation| relation != item.name) || !item.relation_visible {
                return None;
            }
            match &state.relations[entry].kind {
                RelationKind::Table(table) => Some((entry, table.oid)),
                RelationKind::System { oid, .. } => Some((entry, *oid)),
                _ => None,
            }
        });
        let Some((entry, table)) = tables.next() else { return Ok(None) };
        if tables.next().is_some() {
            return Err(self.error(
                SqlState::AMBIGUOUS_COLUMN,
                format!("column reference \"{name}\" is ambiguous"),
                location,
            ));
        }
        let is_table = matches!(state.relations[entry].kind, RelationKind::Table(_));
        match name {
            "tableoid" => Ok(Some(Expr::Const { value: Datum::Oid(table), ty: Type::new(oid::OID) })),
            "ctid" if is_table && level + 1 == self.levels.len() => {
                Ok(Some(Expr::Convert(Box::new(tree::Convert {
                    input: Expr::RowId { relation: entry },
                    from: Type::new(oid::INT8),
                    to: Type::new(oid::TID),
                    kind: tree::ConvertKind::Relabel,
                    explicit: true,
                }))))
            }
            _ => Err(Error::unsupported(
                format!("system column \"{name}\""),
                "Use a column of your own for versions of rows.",
            )
            .at(self.position(location))),
        }
    }

    /// 42P01 `missing FROM-clause entry`, or, when the table is there but may not be used here, why.
    pub fn missing_from_entry(&self, schema: Option<&str>, relation: &str, location: Location) -> Error {
        let full = match schema {
            Some(schema) => format!("{schema}.{relation}"),
            None => relation.to_owned(),
        };
        for state in self.levels.iter().rev() {
            for item in &state.namespace {
                // Present, but hidden by its alias or by FROM.
                if item.name == relation && item.relation_visible {
                    return self
                        .error(
                            SqlState::UNDEFINED_TABLE,
                            format!("invalid reference to FROM-clause entry for table \"{relation}\""),
                            location,
                        )
                        .hint(format!("There is an entry for table \"{relation}\", but it cannot be referenced from this part of the query."
                        ));
                }
                if let Some(entry) = item.relation
                    && let RelationKind::Table(table) = &state.relations[entry].kind
                    && table.name == relation
                {
                    return self
                        .error(
                            SqlState::UNDEFINED_TABLE,
                            format!("invalid reference to FROM-clause entry for table \"{relation}\""),
                            location,
                        )
                        .hint(format!("Perhaps you meant to reference the table alias \"{}\".", item.name));
                }
            }
        }
        self.error(
            SqlState::UNDEFINED_TABLE,
            format!("missing FROM-clause entry for table \"{full}\""),
            location,
        )
    }

    fn missing_column(&self, relation: Option<&str>, name: &str, location: Location) -> Error {
        let message = match relation {
            Some(relation) => format!("column {relation}.{name} does not exist"),
            None => format!("column \"{name}\" does not exist"),
        };
        let error = self.error(SqlState::UNDEFINED_COLUMN, message, location);
        // A column of that name that may not be used here.
        for state in self.levels.iter().rev() {
            for item in &state.namespace {
                let usable = item.relation_visible && (state.lateral || !state.in_from);
                if relation.is_none_or(|relation| relation == item.name)
                    && !usable
                    && item.relation.is_some()
                    && item.columns.iter().any(|column| column.name == name)
                {
                    return error.hint(format!("There is a column named \"{name}\" in table \"{}\", but it cannot be referenced from this part of the query.",
                        item.name
                    ));
                }
            }
        }
        let mut names: Vec<(String, String)> = Vec::new();
        for state in self.levels.iter().rev() {
            for item in state.namespace.iter().filter(|item| item.relation_visible) {
                if relation.is_none_or(|relation| relation == item.name) {
                    names.extend(item.columns.iter().map(|column| (item.name.clone(), column.name.clone())));
                }
            }
        }
        let Some(near) = nearest(name, names.iter().map(|(_, column)| column.as_str())) else { return error };
        match names.iter().find(|(_, column)| column == near) {
            Some((relation, column)) => {
                error.hint(format!("Perhaps you meant to reference the column \"{relation}.{column}\"."))
            }
            None => error,
        }
    }
}

/// Where an expression starts in the text. Goes down the left side without recursion.
pub(crate) fn start(expr: &ast::Expr) -> Location {
    use ast::Expr as E;
    let mut expr = expr;
    loop {
        expr = match expr {
            E::Identifier(ident) => return ident.span.start,
            E::CompoundIdentifier(parts) => {
                return parts.first().map(|i| i.span.start).unwrap_or(Location::empty());
            }
            E::Value(value) => return value.span.start,
            E::TypedString(typed) => return typed.value.span.start,
            E::Function(function) => return crate::names::name_location(&function.name),
            E::Case { case_token, .. } => return case_token.0.span.start,
            E::Wildcard(token) => return token.0.span.start,
            E::BinaryOp { left, .. } | E::AnyOp { left, .. } | E::AllOp { left, .. } => left,
            E::Nested(inner)
            | E::IsFalse(inner)
            | E::IsNotFalse(inner)
            | E::IsTrue(inner)
            | E::IsNotTrue(inner)
            | E::IsNull(inner)
            | E::IsNotNull(inner)
            | E::IsUnknown(inner)
            | E::IsNotUnknown(inner)
            | E::IsDistinctFrom(inner, _)
            | E::IsNotDistinctFrom(inner, _) => inner,
            E::CompoundFieldAccess { root, .. } => root,
            E::InList { expr, .. }
            | E::InSubquery { expr, .. }
            | E::Between { expr, .. }
            | E::Like { expr, .. }
            | E::ILike { expr, .. }
            | E::SimilarTo { expr, .. }
            | E::UnaryOp { expr, .. }
            | E::Cast { expr, .. }
            | E::Extract { expr, .. }
            | E::Ceil { expr, .. }
            | E::Floor { expr, .. }
            | E::Position { expr, .. }
            | E::Substring { expr, .. }
            | E::Trim { expr, .. }
            | E::Overlay { expr, .. }
            | E::Collate { expr, .. }
            | E::IsJson { expr, .. } => expr,
            E::AtTimeZone { timestamp, .. } => timestamp,
            E::Tuple(list) => match list.first() {
                Some(first) => first,
                None => return Location::empty(),
            },
            E::Array(array) => match array.elem.first() {
                Some(first) => first,
                None => return Location::empty(),
            },
            E::Interval(interval) => &interval.value,
            E::Subquery(query) | E::Exists { subquery: query, .. } => return query_start(query),
            _ => return Location::empty(),
        };
    }
}

/// Where a query starts.
pub(crate) fn query_start(query: &ast::Query) -> Location {
    if let Some(with) = &query.with {
        return with.with_token.0.span.start;
    }
    let mut body = &*query.body;
    loop {
        body = match body {
            ast::SetExpr::Select(select) => return select.select_token.0.span.start,
            ast::SetExpr::Query(query) => return query_start(query),
            ast::SetExpr::SetOperation { left, .. } => left,
            ast::SetExpr::Values(values) => {
                return values
                    .rows
                    .first()
                    .map(|row| row.opening_token.0.span.start)
                    .unwrap_or(Location::empty());
            }
            _ => return Location::empty(),
        };
    }
}
