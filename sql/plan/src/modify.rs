//! INSERT, UPDATE and DELETE: the source of rows below, what to do with each above.

use std::sync::Arc;

use engine::catalog::Table;
use resolve::tree::{ConflictAction, Expr, ModifyKind, Query, RelationKind, Target};
use value::{Error, Result, Type};

use crate::expr;
use crate::from::take_group;
use crate::ir::{Check, ConflictUpdate, Modify, ModifyAction, Node, NodeKind, OnConflict, TableLock};
use crate::query::Scope;
use crate::{Item, Planner, flatten};

impl Planner<'_> {
    pub(crate) fn modify(&mut self, original: &Query) -> Result<Node> {
        let mut query = original.clone();
        let modify = query.modify.take().ok_or_else(|| Error::internal("no modification to plan"))?;
        let RelationKind::Table(table) = &query.relations[0].kind else {
            return Err(Error::internal("a modification whose target is not a table"));
        };
        let table = table.clone();
        let values = query.targets.len();
        // Columns of other relations that RETURNING reads travel with the source rows.
        let mut carried: Vec<Expr> = Vec::new();
        for target in &modify.returning {
            expr::visit(&target.expr, 0, &mut |node, level| {
                if let Expr::Column { levels_up, relation, column, ty } = node
                    && *levels_up == level
                    && *relation != 0
                {
                    let own = Expr::Column { levels_up: 0, relation: *relation, column: *column, ty: *ty };
                    if !carried.iter().any(|other| expr::same(other, &own)) {
                        carried.push(own);
                    }
                }
            });
        }
        let plain = |expr: Expr| Target { expr, name: String::new(), hidden: false };
        query.targets.extend(carried.iter().cloned().map(plain));
        let is_insert = matches!(modify.kind, ModifyKind::Insert { .. });
        if !is_insert {
            flatten::flatten(&mut query);
        }
        let row_ids = query.targets.len();
        let mut pins = Vec::new();
        if !is_insert {
            // The target comes first: its row id is the one the change goes by.
            let count = query.relations.len();
            for relation in take_group(&mut query.clone()).pinned(count) {
                pins.push((relation, query.targets.len()));
                query.targets.push(plain(Expr::RowId { relation }));
            }
        }
        let lockable = if is_insert { 0 } else { query.relations.len() };
        let flattened = query.clone();
        let group = take_group(&mut query);
        self.open_level(&query, &group, lockable, false);
        let node =
            self.modify_in_level(query, group, flattened, modify, table, (values, row_ids), pins, carried);
        self.levels.pop();
        node
    }

    fn modify_in_level(
        &mut self,
        mut query: Query,
        group: crate::from::Group,
        flattened: Query,
        modify: resolve::tree::Modify,
        table: Arc<Table>,
        (values, row_id): (usize, usize),
        pins: Vec<(usize, usize)>,
        carried: Vec<Expr>,
    ) -> Result<Node> {
        let check_as = query.relations[0].check_as;
        let selected = query.relations[0].selected.clone();
        let input = self.query_in_level(&mut query, group, &flattened)?;
        let row_layout: Vec<Item> =
            (0..table.columns.len()).map(|column| Item::Column { relation: 0, column }).collect();
        let used = self.table_use(&table, check_as);
        used.lock = TableLock::RowExclusive;
        let action = match modify.kind {
            ModifyKind::Insert { columns, defaults, on_conflict } => {
                used.insert = columns.clone();
                let mut converted = Vec::new();
                for (column, default) in defaults {
                    converted.push((column, self.convert(default, &[])?));
                }
                let on_conflict = match on_conflict {
                    None => None,
                    Some(conflict) => {
                        let update = match conflict.action {
                            ConflictAction::Nothing => None,
                            ConflictAction::Update { excluded, assignments, filter } => {
                                let changed = assignments.iter().map(|(column, _)| *column).collect();
                                self.table_use(&table, check_as).update = changed;
                                let mut layout = row_layout.clone();
                                layout.push(Item::RowId { relation: 0 });
                                layout.extend(
                                    (0..table.columns.len())
                                        .map(|column| Item::Column { relation: excluded, column }),
                                );
                                let mut converted = Vec::new();
                                for (column, value) in assignments {
                                    converted.push((column, self.convert(value, &layout)?));
                                }
                                let filter = self.convert_all(filter, &layout)?;
                                Some(ConflictUpdate { assignments: converted, filter })
                            }
                        };
                        Some(OnConflict { arbiters: conflict.arbiters, update })
                    }
                };
                ModifyAction::Insert { columns, defaults: converted, on_conflict }
            }
            ModifyKind::Update { columns } => {
                used.update = columns.clone();
                let recheck = self.recheck(flattened, pins, false)?;
                let columns = columns.into_iter().zip(0..values).collect();
                ModifyAction::Update { row_id, columns, recheck }
            }
            ModifyKind::Delete => {
                used.delete = true;
                ModifyAction::Delete { row_id, recheck: self.recheck(flattened, pins, false)? }
            }
        };
        // Only what the statement names is read; the plans above read the row ids of the target without asking.
        let used = self.table_use(&table, check_as);
        used.select = selected;
        used.select_any = false;
        // RETURNING: the table's columns, the row id, the input's slots.
        let first = table.columns.len() + 1;
        let mut layout = row_layout.clone();
        layout.push(Item::RowId { relation: 0 });
        let computed: Vec<(Expr, usize)> =
            carried.into_iter().enumerate().map(|(i, column)| (column, first + values + i)).collect();
        let returning = if modify.returning.is_empty() {
            None
        } else {
            let scope = Scope { layout: &layout, computed: &computed, grouped: false };
            let mut exprs = Vec::new();
            for target in modify.returning {
                exprs.push(self.convert_in(target.expr, &scope)?);
            }
            Some(exprs)
        };
        let (mut computed, mut checks) = (Vec::new(), Vec::new());
        if !matches!(action, ModifyAction::Delete { .. }) {
            for (column, expr) in modify.computed {
                computed.push((column, self.convert(expr, &row_layout)?));
            }
            for (name, expr) in modify.checks {
                checks.push(Check { name, expr: self.convert(expr, &row_layout)? });
            }
        }
        let types: Vec<Type> = returning.iter().flatten().map(Expr::ty).collect();
        let (rows, startup, total) = (input.rows, input.startup_cost, input.total_cost + input.rows);
        let step = Modify { table, input, action, returning, computed, checks };
        Ok(Node::new(NodeKind::Modify(Box::new(step)), types, rows, startup, total))
    }
}
