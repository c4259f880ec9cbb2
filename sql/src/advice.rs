//! What an adviser may ask: which tables a statement reads from end to end, and by which columns it then chooses.

use engine::catalog::Table;
use function::Strategy;
use plan::ir::{Node, NodeKind, Scan};
use resolve::tree::Expr;
use value::{Oid, Result};

use crate::scope::Scope;
use crate::session::Session;
use crate::statement::Statement;

/// A table that a plan scans under conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct ScannedTable {
    pub table: Oid,
    pub schema: String,
    pub name: String,
    /// Columns compared by `=` or IN with something known before the scan.
    pub equal: Vec<String>,
    /// Columns compared by `<`, `<=`, `>`, `>=`.
    pub range: Vec<String>,
    /// Live rows of the table.
    pub rows: f64,
    /// Rows the planner expects to pass the conditions.
    pub remaining: f64,
    /// Key columns of each of its indexes.
    pub indexes: Vec<Vec<String>>,
}

impl Session {
    /// Plans a query (nothing is run) and lists the scans with conditions in it; statements that are not queries have none.
    /// Errors: as planning it would give.
    pub fn scans_of(&mut self, text: &str) -> Result<Vec<ScannedTable>> {
        let mut found = Vec::new();
        for parsed in crate::grammar::parse(text)? {
            let Statement::Query(query) = &*parsed.statement else { continue };
            let (scope, resolved, _) = self.resolve_query(&parsed, query, &[], true, None)?;
            let plan = &resolved.plan;
            let roots = std::iter::once(&plan.root)
                .chain(plan.subplans.iter().map(|subplan| &subplan.root))
                .chain(plan.ctes.iter().map(|cte| &cte.root));
            roots.for_each(|root| walk(root, &scope, &mut found));
        }
        Ok(found)
    }
}

fn walk(node: &Node, scope: &Scope, found: &mut Vec<ScannedTable>) {
    if let NodeKind::Scan(scan) = &node.kind
        && let Some(filter) = &scan.filter
    {
        let (mut equal, mut range) = (Vec::new(), Vec::new());
        conditions(filter, scan, &mut equal, &mut range);
        if !equal.is_empty() || !range.is_empty() {
            let table = &scan.table;
            found.push(ScannedTable {
                table: table.oid,
                schema: scope.schema_name(table.schema),
                name: table.name.clone(),
                equal,
                range,
                rows: scope.database.engine.statistics(table).rows as f64,
                remaining: node.rows,
                indexes: scope
                    .catalog
                    .indexes(table.oid)
                    .map(|index| index.keys.iter().filter_map(|key| name_of(table, key.column)).collect())
                    .collect(),
            });
        }
    }
    node.inputs().into_iter().for_each(|input| walk(input, scope, found));
}

fn name_of(table: &Table, number: i16) -> Option<String> {
    table.columns.iter().find(|column| column.number == number).map(|column| column.name.clone())
}

/// Columns of the scan that its filter compares with values that do not come from the row.
fn conditions(expr: &Expr, scan: &Scan, equal: &mut Vec<String>, range: &mut Vec<String>) {
    let column = |expr: &Expr| match expr {
        Expr::Slot { index, .. } => {
            scan.columns.get(*index).map(|column| scan.table.columns[*column].name.clone())
        }
        Expr::Convert(convert) if convert.kind == resolve::tree::ConvertKind::Relabel => match &convert.input
        {
            Expr::Slot { index, .. } => {
                scan.columns.get(*index).map(|column| scan.table.columns[*column].name.clone())
            }
            _ => None,
        },
        _ => None,
    };
    let known = |expr: &Expr| !plan::expr::any(expr, &mut |node| matches!(node, Expr::Slot { .. }));
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| conditions(part, scan, equal, range)),
        Expr::Call(call) if call.args.len() == 2 => {
            let (left, right) = (&call.args[0], &call.args[1]);
            let name = match (column(left), column(right)) {
                (Some(name), None) if known(right) => name,
                (None, Some(name)) if known(left) => name,
                _ => return,
            };
            match plan::strategy(call.function) {
                Some(Strategy::Eq) => equal.push(name),
                Some(Strategy::Lt | Strategy::Le | Strategy::Gt | Strategy::Ge) => range.push(name),
                Some(Strategy::Ne) | None => {}
            }
        }
        Expr::InList { left, list, all: false, negated: false, .. } if list.iter().all(known) => {
            equal.extend(column(left));
        }
        _ => {}
    }
}
