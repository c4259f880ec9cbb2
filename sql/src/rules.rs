//! A table's stored expressions (generated columns, checks, defaults), resolved and turned to slots of its rows.

use std::sync::Arc;

use engine::catalog::{ConstraintKind, Table};
use execute::TableRules;
use plan::PlanContext;
use plan::ir::Check;
use resolve::tree::Expr;
use resolve::{ExprScope, Names, Purpose};
use value::{Result, Type};

/// Columns of relation 0 become slots of the same number.
pub fn slots(expr: Expr) -> Result<Expr> {
    match expr {
        Expr::Column { levels_up: 0, relation: 0, column, ty } => Ok(Expr::Slot { index: column, ty }),
        other => plan::expr::map_children(other, &mut slots),
    }
}

/// Resolves a stored expression over a table's row, to slots.
pub fn expression(
    names: &dyn Names,
    table: Option<&Arc<Table>>,
    text: &str,
    purpose: Purpose,
    target: Option<Type>,
) -> Result<Expr> {
    let parsed = resolve::parse_expression(text)?;
    slots(resolve::resolve_expression(names, &parsed, text, ExprScope { table, purpose }, target)?)
}

/// All of a table's rules.
pub fn of(context: &PlanContext<'_>, table: &Arc<Table>) -> Result<Arc<TableRules>> {
    let mut rules = TableRules::default();
    for (n, column) in table.columns.iter().enumerate() {
        if column.dropped {
            continue;
        }
        let Some(text) = &column.default else { continue };
        if column.generated {
            let expr = expression(context.names, Some(table), text, Purpose::Generated, Some(column.ty()))?;
            rules.computed.push((n, expr));
        } else if column.hidden {
            let expr =
                expression(context.names, Some(table), text, Purpose::IndexExpression, Some(column.ty()))?;
            rules.computed.push((n, expr));
        } else {
            rules
                .defaults
                .push((n, expression(context.names, None, text, Purpose::Default, Some(column.ty()))?));
        }
    }
    for constraint in &table.constraints {
        if let ConstraintKind::Check { expression: text } = &constraint.kind {
            let expr = expression(
                context.names,
                Some(table),
                text,
                Purpose::Check,
                Some(Type::new(value::types::oid::BOOL)),
            )?;
            rules.checks.push(Check { name: constraint.name.clone(), expr });
        }
    }
    Ok(Arc::new(rules))
}
