//! INSERT, and what INSERT, UPDATE and DELETE share: the target table, defaults, computed columns, RETURNING.
//!
//! Defaults, checks and generated columns are stored as text and resolved here, in a namespace of their own where
//! relation 0 is the table; it is relation 0 of the statement too, so the expressions fit as they are.

use std::sync::Arc;

use engine::catalog::{ConstraintKind, Identity, Index, Object, Table, View};
use sqlparser::ast::{self, ConflictTarget, OnConflictAction, OnInsert, SetExpr, TableObject};
use sqlparser::tokenizer::Location;
use value::types::{format_type, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type};

use crate::names::{self, Found, database_and_schema, identifier, name_location, split_name};
use crate::parse::marker;
use crate::query::outputs;
use crate::same::same;
use crate::scope::{ChangedView, Clause, Item, ItemColumn, Resolver, query_start, start};
use crate::tree::{
    ConflictAction, Distinct, Expr, FromItem, Modify, ModifyKind, OnConflict, OutputColumn, Query,
    RelationKind, Target,
};
use crate::{ExprScope, Purpose};

/// DEFAULT where a value is expected.
pub(crate) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident)
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn null(ty: Type) -> Expr {
    Expr::Const { value: Datum::Null, ty }
}

/// A value for a column: an expression, or DEFAULT.
pub(crate) enum Value {
    Default,
    Expr(Expr),
}

impl Resolver<'_> {
    /// The table that a statement changes, as relation 0. `verb` is what it wants to do.
    pub fn target_table(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<String>,
        verb: &str,
    ) -> Result<Arc<Table>> {
        let place = name_location(name);
        let (schema, relation) = self.locate(database_and_schema(self.names, name), place)?;
        let Some(found) = names::lookup(self.names, schema.as_deref(), &relation) else {
            return Err(self.hidden_cte(schema.as_deref(), &relation, place));
        };
        match found {
            Found::Table(table) => {
                self.add_table(table.clone(), alias);
                Ok(table)
            }
            Found::View(view) => match self.table_of_view(&view, alias)? {
                Some(table) => Ok(table),
                None => Err(self
                    .error(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!("cannot {verb} view \"{}\"", view.name),
                        place,
                    )
                    .hint("Change the tables it reads.")),
            },
            Found::System(system) => Err(self.error(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", system.name),
                place,
            )),
            Found::Sequence(sequence) => Err(self.error(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot change sequence \"{}\"", sequence.name),
                place,
            )),
            Found::Index(index) => Err(self
                .error(SqlState::WRONG_OBJECT_TYPE, format!("cannot open relation \"{}\"", index.name), place)
                .detail("This operation is not supported for indexes.")),
        }
    }

    /// Makes the table below a simple view relation 0 and notes the view. `None`: it is not that simple.
    ///
    /// The rights that count are those of the current role on the table, never more than it has without the view.
    fn table_of_view(&mut self, view: &Arc<View>, alias: Option<String>) -> Result<Option<Arc<Table>>> {
        let query = self.view_query(view)?;
        let [relation] = query.relations.as_slice() else { return Ok(None) };
        let RelationKind::Table(table) = &relation.kind else { return Ok(None) };
        let simple = matches!(query.from.as_slice(), [FromItem::Relation(0)])
            && query.set_operation.is_none()
            && query.modify.is_none()
            && query.ctes.is_empty()
            && query.group_keys.is_empty()
            && query.grouping_sets.is_empty()
            && query.having.is_none()
            && !query.has_aggregates
            && !query.has_set_functions
            && query.windows.is_empty()
            && matches!(query.distinct, Distinct::No)
            && query.limit.is_none()
            && query.offset.is_none()
            && query.locks.is_empty();
        if !simple {
            return Ok(None);
        }
        let table = table.clone();
        let name = alias.unwrap_or_else(|| view.name.clone());
        let at = self.add_table(table.clone(), Some(name));
        if let Some(filter) = &query.filter {
            let selected = &mut self.top().relations[at].selected;
            let mut stack = vec![filter];
            while let Some(next) = stack.pop() {
                if let Expr::Column { levels_up: 0, relation: 0, column, .. } = next
                    && !selected.contains(column)
                {
                    selected.push(*column);
                }
                crate::walk::children(next, &mut |child| stack.push(child));
            }
        }
        let columns = query
            .targets
            .into_iter()
            .filter(|target| !target.hidden)
            .map(|target| ItemColumn { name: target.name, expr: target.expr, hidden: false })
            .collect();
        self.top().changed_view =
            Some(ChangedView { name: view.name.clone(), columns, filter: query.filter });
        Ok(Some(table))
    }

    /// The namespace entry of the table that a statement changes, or of the view it was named by.
    pub fn changed_item(&mut self, table: &Table, aliased: bool) -> Item {
        let mut item = self.item_of(0, None);
        let level = self.here();
        if let Some(view) = &level.changed_view {
            item.columns = view.columns.clone();
        }
        if !aliased {
            item.schema = self.names.catalog().schema(table.schema).map(|schema| schema.name.clone());
        }
        item
    }

    /// A condition together with that of the view which is changed through.
    pub fn within_view(&mut self, filter: Option<Expr>) -> Option<Expr> {
        let own = self.top().changed_view.as_mut().and_then(|view| view.filter.take());
        match (own, filter) {
            (Some(own), Some(filter)) => Some(Expr::And(vec![own, filter])),
            (own, filter) => own.or(filter),
        }
    }

    /// The table's column behind a column of the view. 0A000 when it is computed.
    fn view_column(&self, view: &ChangedView, at: usize, place: Location) -> Result<usize> {
        match view.columns.get(at).map(|column| &column.expr) {
            Some(Expr::Column { levels_up: 0, relation: 0, column, .. }) => Ok(*column),
            _ => Err(self
                .error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "cannot change column \"{}\" of view \"{}\"",
                        view.columns.get(at).map_or("", |column| column.name.as_str()),
                        view.name
                    ),
                    place,
                )
                .detail("View columns that are not columns of their base relation are not updatable.")),
        }
    }

    /// A stored expression over a table, coerced to `target`.
    fn stored(
        &mut self,
        text: &str,
        table: &Arc<Table>,
        purpose: Purpose,
        target: Option<Type>,
    ) -> Result<Expr> {
        let parsed = crate::parse::expression(text)?;
        self.enter_view()?;
        let levels = std::mem::take(&mut self.levels);
        let result = self.lone_expression(&parsed, ExprScope { table: Some(table), purpose }, target);
        self.levels = levels;
        self.view_depth -= 1;
        result
    }

    /// The default of a column; `None` when it has none (NULL) or is generated.
    pub fn default_of(&mut self, table: &Arc<Table>, at: usize) -> Result<Option<Expr>> {
        let column = &table.columns[at];
        if column.generated || column.dropped || column.hidden {
            return Ok(None);
        }
        if let Some(default) = &column.default {
            return self.stored(default, table, Purpose::Default, Some(column.ty())).map(Some);
        }
        if column.identity.is_none() {
            return Ok(None);
        }
        let owned = Some((table.oid, column.number));
        let sequence = self.names.catalog().objects().find_map(|object| match object {
            Object::Sequence(sequence) if sequence.owned_by == owned => Some(sequence.oid),
            _ => None,
        });
        let Some(sequence) = sequence else {
            return Err(Error::new(
                SqlState::DATA_CORRUPTED,
                format!("identity column \"{}\" of table \"{}\" has no sequence", column.name, table.name),
            ));
        };
        let argument = Expr::Const { value: Datum::Oid(sequence), ty: Type::new(oid::REGCLASS) };
        let next = self.plain_call("nextval", vec![argument], Location::empty())?;
        self.assign(next, column.ty(), Location::empty())
    }

    /// Stored generated columns, then hidden index columns.
    pub fn computed_of(&mut self, table: &Arc<Table>) -> Result<Vec<(usize, Expr)>> {
        let mut computed = Vec::new();
        for (at, column) in table.columns.iter().enumerate() {
            if column.generated
                && !column.dropped
                && let Some(text) = &column.default
            {
                computed.push((at, self.stored(text, table, Purpose::Generated, Some(column.ty()))?));
            }
        }
        let indexes: Vec<Arc<Index>> = self.names.catalog().indexes(table.oid).cloned().collect();
        for index in indexes {
            let keys = index.keys.iter().filter_map(|key| {
                key.expression.as_deref().map(|text| (key.column, text, Purpose::IndexExpression))
            });
            let predicate = index
                .predicate
                .iter()
                .map(|(column, text)| (*column, text.as_str(), Purpose::IndexPredicate));
            for (number, text, purpose) in keys.chain(predicate) {
                let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
                let Some(column) = table.columns.get(at) else { continue };
                if computed.iter().all(|(other, _)| *other != at) {
                    computed.push((at, self.stored(text, table, purpose, Some(column.ty()))?));
                }
            }
        }
        Ok(computed)
    }

    pub fn checks_of(&mut self, table: &Arc<Table>) -> Result<Vec<(String, Expr)>> {
        let mut checks = Vec::new();
        for constraint in &table.constraints {
            if let ConstraintKind::Check { expression } = &constraint.kind {
                let check = self.stored(expression, table, Purpose::Check, Some(Type::new(oid::BOOL)))?;
                checks.push((constraint.name.clone(), check));
            }
        }
        Ok(checks)
    }

    /// The column a SET list or column list names. 42703.
    pub fn target_column(&self, table: &Table, name: &ast::ObjectName) -> Result<usize> {
        let place = name_location(name);
        let parts = split_name(name)?;
        let (Some(first), true) = (parts.first(), parts.len() == 1) else {
            return Err(self.error(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    parts.first().map(String::as_str).unwrap_or_default(),
                    table.name
                ),
                place,
            ));
        };
        if let Some(view) = &self.here().changed_view {
            return match view.columns.iter().position(|column| column.name == *first) {
                Some(at) => self.view_column(view, at, place),
                None => Err(self.error(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{first}\" of relation \"{}\" does not exist", view.name),
                    place,
                )),
            };
        }
        match table.column(first) {
            Some((at, _)) => Ok(at),
            None => {
                let error = self.error(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{first}\" of relation \"{}\" does not exist", table.name),
                    place,
                );
                let near =
                    names::nearest(first, table.visible_columns().map(|(_, column)| column.name.as_str()));
                Err(match near {
                    Some(near) => error.hint(format!(
                        "Perhaps you meant to reference the column \"{}.{near}\".",
                        table.name
                    )),
                    None => error,
                })
            }
        }
    }

    /// A value as the new value of a column. 42804.
    pub fn assign_column(&mut self, table: &Table, at: usize, expr: Expr, place: Location) -> Result<Expr> {
        let column = &table.columns[at];
        let from = expr.ty();
        let is_set = matches!(expr, Expr::SetCall(_)) && self.here().clause == Clause::UpdateSet;
        if is_set {
            return Err(self.error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "set-returning functions are not allowed in UPDATE",
                place,
            ));
        }
        match self.assign(expr, column.ty(), place)? {
            Some(expr) => Ok(expr),
            None => Err(self
                .error(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{}\" is of type {} but expression is of type {}",
                        column.name,
                        format_type(column.type_oid, -1),
                        format_type(from.oid, -1)
                    ),
                    place,
                )
                .hint("You will need to rewrite or cast the expression.")),
        }
    }

    /// RETURNING.
    pub fn returning(&mut self, list: Option<&Vec<ast::SelectItem>>) -> Result<Vec<Target>> {
        let Some(list) = list else { return Ok(Vec::new()) };
        let mut targets = self.in_clause(Clause::Returning, |this| this.targets(list, Location::empty()))?;
        for target in &mut targets {
            if target.expr.ty().oid == oid::UNKNOWN {
                let expr = std::mem::replace(&mut target.expr, null(Type::new(oid::TEXT)));
                target.expr = self.known(expr)?;
            }
        }
        Ok(targets)
    }

    /// INSERT on the level that is open.
    pub fn insert(&mut self, insert: &ast::Insert) -> Result<Query> {
        if insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || insert.replace_into
            || insert.partitioned.is_some()
            || !insert.assignments.is_empty()
            || insert.priority.is_some()
            || !insert.after_columns.is_empty()
            || insert.insert_alias.is_some()
            || insert.output.is_some()
        {
            return Err(
                self.syntax("syntax error: this clause of INSERT is not PostgreSQL's", Location::empty())
            );
        }
        let TableObject::TableName(name) = &insert.table else {
            return Err(self.syntax_at("(", Location::empty()));
        };
        if !insert.into {
            return Err(self.syntax_at(&name.to_string(), name_location(name)));
        }
        let alias = insert.table_alias.as_ref().map(|alias| identifier(&alias.alias));
        let table = self.target_table(name, alias, "insert into")?;
        let (columns, overriding, explicit) = self.insert_columns(&table, &insert.columns)?;
        let mut query_from = Vec::new();
        let (columns, targets) = match &insert.source {
            None => (Vec::new(), Vec::new()),
            Some(source) => match plain_values(source) {
                Some(values) => self.insert_values(
                    &table,
                    values,
                    columns,
                    explicit,
                    overriding.as_deref(),
                    &mut query_from,
                )?,
                None => self.insert_query(
                    &table,
                    source,
                    columns,
                    explicit,
                    overriding.as_deref(),
                    &mut query_from,
                )?,
            },
        };
        let mut defaults = Vec::new();
        for at in 0..table.columns.len() {
            if !columns.contains(&at)
                && let Some(default) = self.default_of(&table, at)?
            {
                defaults.push((at, default));
            }
        }
        let target_item = self.changed_item(&table, insert.table_alias.is_some());
        self.top().namespace = vec![target_item];
        if let (Some(view), Some(_)) = (&self.here().changed_view, &insert.on) {
            return Err(Error::unsupported(
                format!("ON CONFLICT on view \"{}\"", view.name),
                "Insert into the table it reads.",
            )
            .at(self.position(name_location(name))));
        }
        let on_conflict = match &insert.on {
            None => None,
            Some(OnInsert::OnConflict(conflict)) => Some(self.on_conflict(&table, conflict)?),
            Some(_) => return Err(self.syntax_at("ON", Location::empty())),
        };
        // RETURNING does not see EXCLUDED.
        self.top().namespace.truncate(1);
        let returning = self.returning(insert.returning.as_ref())?;
        let computed = self.computed_of(&table)?;
        let checks = self.checks_of(&table)?;
        let mut query = self.close();
        query.from = query_from;
        query.targets = targets;
        query.modify = Some(Modify {
            kind: ModifyKind::Insert { columns, defaults, on_conflict },
            returning,
            computed,
            checks,
        });
        Ok(query)
    }

    /// The column list (all visible columns without one), OVERRIDING, and whether there was a list.
    fn insert_columns(
        &self,
        table: &Table,
        list: &[ast::ObjectName],
    ) -> Result<(Vec<usize>, Option<String>, bool)> {
        let (mut columns, mut overriding, mut explicit) = (Vec::new(), None, false);
        for name in list {
            if let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice()
                && let Some(kind) = ident.value.strip_prefix(marker::OVERRIDING)
            {
                overriding = Some(kind.to_owned());
                continue;
            }
            explicit = true;
            let at = self.target_column(table, name)?;
            if columns.contains(&at) {
                return Err(self.error(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", table.columns[at].name),
                    name_location(name),
                ));
            }
            columns.push(at);
        }
        if !explicit && let Some(view) = &self.here().changed_view {
            // Values may be given for the leading columns alone, so a computed one is no error yet.
            for at in 0..view.columns.len() {
                match self.view_column(view, at, Location::empty()) {
                    Ok(column) => columns.push(column),
                    Err(_) => break,
                }
            }
        } else if !explicit {
            columns = table.visible_columns().map(|(at, _)| at).collect();
        }
        Ok((columns, overriding, explicit))
    }

    fn check_width(
        &self,
        width: usize,
        columns: &mut Vec<usize>,
        explicit: bool,
        place: Location,
    ) -> Result<()> {
        if width > columns.len() {
            return Err(self.syntax("INSERT has more expressions than target columns", place));
        }
        if width < columns.len() {
            if explicit {
                return Err(self.syntax("INSERT has more target columns than expressions", place));
            }
            columns.truncate(width);
        }
        Ok(())
    }

    /// 428C9 for a value where only the default may stand.
    fn may_insert(&self, table: &Table, at: usize, overriding: Option<&str>) -> Result<()> {
        let column = &table.columns[at];
        let message = || {
            Error::new(
                SqlState::GENERATED_ALWAYS,
                format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name),
            )
        };
        if column.generated {
            return Err(message().detail(format!("Column \"{}\" is a generated column.", column.name)));
        }
        if column.identity == Some(Identity::Always) && overriding.is_none() {
            return Err(message()
                .detail(format!(
                    "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                    column.name
                ))
                .hint("Use OVERRIDING SYSTEM VALUE to override."));
        }
        Ok(())
    }

    fn insert_values(
        &mut self,
        table: &Arc<Table>,
        values: &ast::Values,
        mut columns: Vec<usize>,
        explicit: bool,
        overriding: Option<&str>,
        from: &mut Vec<FromItem>,
    ) -> Result<(Vec<usize>, Vec<Target>)> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let first =
            values.rows.first().and_then(|row| row.content.get(columns.len()).or(row.content.first()));
        self.check_width(width, &mut columns, explicit, first.map(start).unwrap_or(Location::empty()))?;
        let mut rows: Vec<Vec<Value>> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            if row.content.len() != width {
                return Err(self.syntax(
                    "VALUES lists must all be the same length",
                    row.content.first().map(start).unwrap_or(Location::empty()),
                ));
            }
            let mut cells = Vec::with_capacity(width);
            for (expr, &at) in row.content.iter().zip(&columns) {
                // OVERRIDING USER VALUE: what is given for identity columns is ignored.
                let ignored = overriding == Some("user") && table.columns[at].identity.is_some();
                if is_default(expr) {
                    cells.push(Value::Default);
                    continue;
                }
                if !ignored {
                    self.may_insert(table, at, overriding)?;
                }
                let place = start(expr);
                let resolved = self.in_clause(Clause::Values, |this| this.expr(expr))?;
                if ignored {
                    cells.push(Value::Default);
                    continue;
                }
                let resolved = self.assign_column(table, at, resolved, place)?;
                cells.push(Value::Expr(resolved));
            }
            rows.push(cells);
        }
        // A column that is DEFAULT everywhere is not given at all.
        let keep: Vec<bool> =
            (0..width).map(|at| rows.iter().any(|row| matches!(row[at], Value::Expr(_)))).collect();
        let mut defaults: Vec<Option<Expr>> = vec![None; width];
        for at in 0..width {
            if keep[at] && rows.iter().any(|row| matches!(row[at], Value::Default)) {
                defaults[at] = self.default_of(table, columns[at])?;
            }
        }
        let single = rows.len() == 1;
        let mut plain_rows: Vec<Vec<Expr>> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut cells = Vec::with_capacity(width);
            for (at, value) in row.into_iter().enumerate() {
                if !keep[at] {
                    continue;
                }
                cells.push(match value {
                    Value::Expr(expr) => expr,
                    Value::Default => {
                        defaults[at].clone().unwrap_or_else(|| null(table.columns[columns[at]].ty()))
                    }
                });
            }
            plain_rows.push(cells);
        }
        let mut flags = keep.iter();
        columns.retain(|_| flags.next().copied().unwrap_or(false));
        let output =
            |at: usize| OutputColumn { name: table.columns[at].name.clone(), ty: table.columns[at].ty() };
        if single {
            let cells = plain_rows.pop().unwrap_or_default();
            let targets = cells
                .into_iter()
                .zip(&columns)
                .map(|(expr, &at)| Target { expr, name: output(at).name, hidden: false })
                .collect();
            return Ok((columns, targets));
        }
        let outputs: Vec<OutputColumn> = columns.iter().map(|&at| output(at)).collect();
        let targets = self.source_targets(RelationKind::Values(plain_rows), "*VALUES*", outputs, from);
        Ok((columns, targets))
    }

    /// Adds the source as relation 1, read whole.
    fn source_targets(
        &mut self,
        kind: RelationKind,
        name: &str,
        columns: Vec<OutputColumn>,
        from: &mut Vec<FromItem>,
    ) -> Vec<Target> {
        let relation = self.add_relation(kind, name.to_owned(), columns.clone());
        self.top().relations[relation].selected = (0..columns.len()).collect();
        from.push(FromItem::Relation(relation));
        columns
            .into_iter()
            .enumerate()
            .map(|(column, output)| Target {
                expr: Expr::Column { levels_up: 0, relation, column, ty: output.ty },
                name: output.name,
                hidden: false,
            })
            .collect()
    }

    fn insert_query(
        &mut self,
        table: &Arc<Table>,
        source: &ast::Query,
        mut columns: Vec<usize>,
        explicit: bool,
        overriding: Option<&str>,
        from: &mut Vec<FromItem>,
    ) -> Result<(Vec<usize>, Vec<Target>)> {
        let place = query_start(source);
        let query = self.query_of(source, false)?;
        let given = outputs(&query);
        self.check_width(given.len(), &mut columns, explicit, place)?;
        let types: Vec<Type> = given
            .iter()
            .zip(&columns)
            .map(|(output, &at)| {
                if output.ty.oid == oid::UNKNOWN { Type::new(table.columns[at].type_oid) } else { output.ty }
            })
            .collect();
        let query = self.coerce_outputs(query, &types)?;
        let given = outputs(&query);
        let sources = self.source_targets(RelationKind::Subquery(Box::new(query)), "*SELECT*", given, from);
        let (mut kept, mut targets) = (Vec::new(), Vec::new());
        for (target, at) in sources.into_iter().zip(columns) {
            if overriding == Some("user") && table.columns[at].identity.is_some() {
                continue;
            }
            self.may_insert(table, at, overriding)?;
            let expr = self.assign_column(table, at, target.expr, place)?;
            kept.push(at);
            targets.push(Target { expr, name: table.columns[at].name.clone(), hidden: false });
        }
        Ok((kept, targets))
    }

    fn on_conflict(&mut self, table: &Arc<Table>, conflict: &ast::OnConflict) -> Result<OnConflict> {
        let arbiters = match &conflict.conflict_target {
            None => Vec::new(),
            Some(ConflictTarget::OnConstraint(name)) => {
                let wanted = split_name(name)?.pop().unwrap_or_default();
                let found = table.constraints.iter().find(|constraint| constraint.name == wanted);
                match found.map(|constraint| &constraint.kind) {
                    Some(ConstraintKind::Primary { index } | ConstraintKind::Unique { index }) => {
                        vec![*index]
                    }
                    Some(_) => {
                        return Err(Error::new(
                            SqlState::WRONG_OBJECT_TYPE,
                            "constraint in ON CONFLICT clause has no associated index",
                        ));
                    }
                    None => {
                        return Err(self.error(
                            SqlState::UNDEFINED_OBJECT,
                            format!("constraint \"{wanted}\" for table \"{}\" does not exist", table.name),
                            name_location(name),
                        ));
                    }
                }
            }
            Some(ConflictTarget::Columns(columns)) => self.infer_arbiters(table, columns)?,
        };
        let action = match &conflict.action {
            OnConflictAction::DoNothing => ConflictAction::Nothing,
            OnConflictAction::DoUpdate(update) => {
                if conflict.conflict_target.is_none() {
                    return Err(self
                        .syntax(
                            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                            Location::empty(),
                        )
                        .hint("For example, ON CONFLICT (column_name)."));
                }
                let columns: Vec<OutputColumn> = table
                    .columns
                    .iter()
                    .map(|column| OutputColumn { name: column.name.clone(), ty: column.ty() })
                    .collect();
                let excluded = self.add_relation(RelationKind::Excluded, "excluded".to_owned(), columns);
                let mut item = self.item_of(excluded, None);
                let shown: Vec<usize> = table.visible_columns().map(|(at, _)| at).collect();
                item.columns = item
                    .columns
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| shown.contains(at))
                    .map(|(_, column)| column)
                    .collect();
                self.top().namespace.push(item);
                let assignments = self.assignments(table, &update.assignments)?;
                let filter = match &update.selection {
                    Some(condition) => Some(
                        self.in_clause(Clause::ConflictWhere, |this| this.condition(condition, "WHERE"))?,
                    ),
                    None => None,
                };
                ConflictAction::Update { excluded, assignments, filter }
            }
        };
        Ok(OnConflict { arbiters, action })
    }

    /// The unique indexes over exactly these columns and expressions. 42P10.
    fn infer_arbiters(&mut self, table: &Arc<Table>, target: &[ast::Ident]) -> Result<Vec<Oid>> {
        let (mut columns, mut expressions, mut predicate) = (Vec::new(), Vec::new(), None);
        for ident in target {
            if let Some(text) = ident.value.strip_prefix(marker::EXPRESSION) {
                expressions.push(self.stored(text, table, Purpose::IndexExpression, None)?);
            } else if let Some(text) = ident.value.strip_prefix(marker::PREDICATE) {
                predicate =
                    Some(self.stored(text, table, Purpose::IndexPredicate, Some(Type::new(oid::BOOL)))?);
            } else {
                let name = identifier(ident);
                match table.column(&name) {
                    Some((at, _)) => columns.push(at),
                    None => {
                        return Err(self.error(
                            SqlState::UNDEFINED_COLUMN,
                            format!("column \"{name}\" does not exist"),
                            ident.span.start,
                        ));
                    }
                }
            }
        }
        // A plain column in parentheses is the column.
        let mut index = 0;
        while index < expressions.len() {
            if let Expr::Column { column, .. } = expressions[index] {
                columns.push(column);
                expressions.remove(index);
            } else {
                index += 1;
            }
        }
        let indexes: Vec<Arc<Index>> = self
            .names
            .catalog()
            .indexes(table.oid)
            .filter(|index| index.unique && index.state.is_full())
            .cloned()
            .collect();
        let mut arbiters = Vec::new();
        for index in indexes {
            let deferrable = table.constraints.iter().any(|constraint| {
                constraint.deferrable
                    && matches!(&constraint.kind,
                        ConstraintKind::Primary { index: i } | ConstraintKind::Unique { index: i } if *i == index.oid)
            });
            let mut own_columns = Vec::new();
            let mut own_expressions = Vec::new();
            for key in &index.keys {
                match &key.expression {
                    Some(text) => {
                        own_expressions.push(self.stored(text, table, Purpose::IndexExpression, None)?)
                    }
                    None => own_columns.push(usize::try_from(key.column - 1).unwrap_or(usize::MAX)),
                }
            }
            let columns_match = columns.iter().all(|at| own_columns.contains(at))
                && own_columns.iter().all(|at| columns.contains(at));
            let expressions_match = expressions.iter().all(|e| own_expressions.iter().any(|o| same(e, o)))
                && own_expressions.iter().all(|o| expressions.iter().any(|e| same(e, o)));
            let predicate_matches = match &index.predicate {
                None => true,
                Some((_, text)) => {
                    let own =
                        self.stored(text, table, Purpose::IndexPredicate, Some(Type::new(oid::BOOL)))?;
                    predicate.as_ref().is_some_and(|given| implies(given, &own))
                }
            };
            if columns_match && expressions_match && predicate_matches {
                if deferrable {
                    return Err(Error::new(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters",
                    ));
                }
                arbiters.push(index.oid);
            }
        }
        if arbiters.is_empty() {
            return Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            ));
        }
        Ok(arbiters)
    }
}

/// Whether `given` is `wanted` or a conjunction that holds it.
fn implies(given: &Expr, wanted: &Expr) -> bool {
    let parts = |expr: &Expr| match expr {
        Expr::And(list) => list.clone(),
        other => vec![other.clone()],
    };
    let given = parts(given);
    parts(wanted).iter().all(|one| given.iter().any(|other| same(one, other)))
}

/// The source of `INSERT ... VALUES`, when nothing but VALUES is there.
fn plain_values(source: &ast::Query) -> Option<&ast::Values> {
    let plain = source.with.is_none()
        && source.order_by.is_none()
        && source.limit_clause.is_none()
        && source.fetch.is_none()
        && source.locks.is_empty();
    match &*source.body {
        SetExpr::Values(values) if plain => Some(values),
        SetExpr::Query(inner) if plain => plain_values(inner),
        _ => None,
    }
}
