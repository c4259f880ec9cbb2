//! What must hold of a new row: computed columns, NOT NULL, CHECK; and which of its columns are keys.

use std::sync::Arc;

use engine::catalog::{Catalog, ConstraintKind, ForeignKey, Table};
use engine::{RowLockMode, Transaction};
use plan::ir::Check;
use resolve::tree::Expr;
use value::text::Style;
use value::{Datum, Error, Result, SqlState, text};

use crate::code::Code;
use crate::driver::settled;
use crate::node::Builder;
use crate::rows;
use crate::state::State;
use crate::walk;

/// A foreign key seen from one of its ends.
#[derive(Clone)]
pub(crate) struct Link {
    /// The referencing table, and which of its constraints it is.
    pub child: Arc<Table>,
    pub constraint: usize,
}

impl Link {
    pub fn key(&self) -> Result<&ForeignKey> {
        match self.child.constraints.get(self.constraint).map(|constraint| &constraint.kind) {
            Some(ConstraintKind::Foreign(key)) => Ok(key),
            _ => Err(Error::internal("a link that is not a foreign key")),
        }
    }

    pub fn constraint(&self) -> &engine::catalog::Constraint {
        &self.child.constraints[self.constraint]
    }
}

/// The compiled rules of one table.
pub(crate) struct Rules {
    computed: Vec<(usize, Code)>,
    checks: Vec<(String, Code)>,
    /// A computed column or a check may have to wait.
    pub waits: bool,
    not_null: Vec<usize>,
    /// Columns of unique indexes that a foreign key could refer to.
    pub keys: Vec<usize>,
    /// Its own foreign keys, and those that refer to it.
    pub outgoing: Vec<Link>,
    pub incoming: Vec<Link>,
    schema: String,
}

/// The index in `Table::columns` of an attribute number.
pub(crate) fn column(number: i16) -> usize {
    usize::try_from(number).unwrap_or(1).saturating_sub(1)
}

impl Rules {
    pub fn new(
        builder: &Builder<'_>,
        catalog: &Catalog,
        table: &Arc<Table>,
        computed: &[(usize, Expr)],
        checks: &[Check],
    ) -> Result<Rules> {
        let exprs = computed.iter().map(|(_, expr)| expr).chain(checks.iter().map(|check| &check.expr));
        let waits = exprs.clone().any(|expr| walk::waits(builder.plan, expr));
        let mut compiler = super::compiler(builder, exprs);
        let computed = computed
            .iter()
            .map(|(column, expr)| Ok((*column, compiler.compile(expr)?)))
            .collect::<Result<_>>()?;
        let mut checks = checks
            .iter()
            .map(|check| Ok((check.name.clone(), compiler.compile(&check.expr)?)))
            .collect::<Result<Vec<_>>>()?;
        // PostgreSQL checks them in the order of their names.
        checks.sort_by(|a, b| a.0.cmp(&b.0));
        let mut keys: Vec<usize> = catalog
            .indexes(table.oid)
            .filter(|index| {
                index.unique
                    && index.predicate.is_none()
                    && index.keys.iter().all(|key| key.expression.is_none())
            })
            .flat_map(|index| index.keys.iter().map(|key| column(key.column)))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let links = |child: &Arc<Table>, refers: &dyn Fn(&ForeignKey) -> bool| -> Vec<Link> {
            child
                .constraints
                .iter()
                .enumerate()
                .filter(
                    |(_, constraint)| matches!(&constraint.kind, ConstraintKind::Foreign(key) if refers(key)),
                )
                .map(|(constraint, _)| Link { child: child.clone(), constraint })
                .collect()
        };
        Ok(Rules {
            computed,
            checks,
            waits,
            not_null: table
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column.not_null && !column.dropped)
                .map(|(number, _)| number)
                .collect(),
            keys,
            outgoing: links(table, &|_| true),
            incoming: catalog
                .referencing(table.oid)
                .flat_map(|child| links(child, &|key| key.referenced_table == table.oid))
                .collect(),
            schema: catalog.schema(table.schema).map_or_else(String::new, |schema| schema.name.clone()),
        })
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Fills computed columns and checks the row. `row`: the table's columns.
    pub async fn apply(
        &mut self,
        state: &mut State,
        tx: &mut Transaction,
        table: &Table,
        row: &mut [Datum],
    ) -> Result<()> {
        if self.computed.is_empty() && self.checks.is_empty() {
            return self.test(state, table, row);
        }
        settled(state, tx, |state| self.test(state, table, row)).await
    }

    /// [`Rules::apply`] where nothing can wait ([`Rules::waits`]).
    pub fn test(&mut self, state: &mut State, table: &Table, row: &mut [Datum]) -> Result<()> {
        for (column, code) in &mut self.computed {
            let value = code.eval(state, row)?;
            row[*column] = value;
        }
        for number in &self.not_null {
            if row[*number].is_null() {
                let name = &table.columns[*number].name;
                return Err(Error::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{name}\" of relation \"{}\" violates not-null constraint",
                        table.name
                    ),
                )
                .detail(describe(table, row, state.env().style()))
                .table(self.schema.as_str(), table.name.as_str())
                .column(name.as_str()));
            }
        }
        for (name, code) in &mut self.checks {
            if code.test(state, row)? == Some(false) {
                return Err(Error::new(
                    SqlState::CHECK_VIOLATION,
                    format!("new row for relation \"{}\" violates check constraint \"{name}\"", table.name),
                )
                .detail(describe(table, row, state.env().style()))
                .table(self.schema.as_str(), table.name.as_str())
                .constraint(name.as_str()));
            }
        }
        Ok(())
    }

    /// The lock an update from `old` to `new` needs: the strong one when a key changes.
    pub fn lock_mode(&self, table: &Table, old: &dyn Fn(usize) -> Datum, new: &[Datum]) -> RowLockMode {
        let changed = self
            .keys
            .iter()
            .any(|number| !rows::same(table.columns[*number].type_oid, &old(*number), &new[*number]));
        if changed { RowLockMode::Update } else { RowLockMode::NoKeyUpdate }
    }
}

/// `Failing row contains (1, null, abc).`
fn describe(table: &Table, row: &[Datum], style: &Style) -> String {
    const LONGEST: usize = 64;
    let values: Vec<String> = table
        .visible_columns()
        .map(|(number, column)| {
            if row[number].is_null() {
                return "null".to_owned();
            }
            let mut text = text::output_string(&row[number], column.type_oid, style);
            if text.len() > LONGEST {
                let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                text.truncate(end);
                text.push_str("...");
            }
            text
        })
        .collect();
    format!("Failing row contains ({}).", values.join(", "))
}
