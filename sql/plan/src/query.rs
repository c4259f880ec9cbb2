//! One query level: FROM and WHERE at the bottom, then grouping, HAVING, windows, the target list, DISTINCT, ORDER BY,
//! row locks and LIMIT.
//!
//! Each step changes what the slots hold; `Scope` says where an expression finds its values: columns by the layout of
//! the join tree, and, above a grouping or a window, whole sub-expressions (group keys, aggregates, window
//! calls) that have become slots.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use function::Strategy;
use resolve::tree::{
    Call, Cte, Distinct, Expr, Frame, FrameBound, LockClause, Query, RelationKind, SetKind, SetOperation,
    SublinkKind, SubplanCall, SubplanKind, WindowCall,
};
use value::{Datum, Error, Result, Type, types::oid};

use crate::access::WantedOrder;
use crate::estimate::{Base, cost};
use crate::expr;
use crate::from::{Group, take_group};
use crate::ir::{
    self, AggregateStep, Aggregation, LockRows, Node, NodeKind, Order, Recheck, RowLockStep, TableLock,
    WindowStep, WindowStepCall,
};
use crate::{CteUse, Item, Level, OuterColumn, Part, Planner, flatten};

/// Where expressions find their values.
pub(crate) struct Scope<'s> {
    pub layout: &'s [Item],
    /// Expressions that are slots already; looked at before columns.
    pub computed: &'s [(Expr, usize)],
    /// Columns must not be looked up in `layout` any more (above a grouping).
    pub grouped: bool,
}

impl Planner<'_> {
    pub(crate) fn statement(&mut self, query: &Query) -> Result<Node> {
        match &query.modify {
            Some(_) => self.modify(query),
            None => self.query(query),
        }
    }

    /// Plans a query; its slots are its visible targets.
    pub(crate) fn query(&mut self, original: &Query) -> Result<Node> {
        if original.modify.is_some() {
            return self.modify(original);
        }
        let mut query = original.clone();
        flatten::flatten(&mut query);
        let lockable = if query.locks.is_empty() { 0 } else { query.relations.len() };
        let group = take_group(&mut query);
        self.open_level(&query, &group, lockable, false);
        let node = self.query_in_level(&mut query, group, original);
        self.levels.pop();
        node
    }

    /// Makes `query` the innermost level. The first `lockable` relations, and those of semi joins beside them, carry their
    /// row ids; with `pinned` they are replaced by pinned rows.
    pub(crate) fn open_level(&mut self, query: &Query, group: &Group, lockable: usize, pinned: bool) {
        let id = self.next_level;
        self.next_level += 1;
        let join_columns: HashMap<usize, Vec<Expr>> = query
            .relations
            .iter()
            .enumerate()
            .filter_map(|(number, relation)| match &relation.kind {
                RelationKind::Join { columns } => Some((number, columns.clone())),
                _ => None,
            })
            .collect();
        let catalog = self.context.names.catalog();
        let bases: HashMap<usize, Base> = query
            .relations
            .iter()
            .enumerate()
            .filter_map(|(relation, entry)| match &entry.kind {
                RelationKind::Table(table) => Some((
                    relation,
                    Base {
                        relation,
                        table: table.clone(),
                        statistics: (self.context.statistics)(table),
                        indexes: crate::access::indexes(catalog, table),
                    },
                )),
                _ => None,
            })
            .collect();
        let types = query
            .relations
            .iter()
            .map(|relation| match &relation.kind {
                RelationKind::Table(table) => table.columns.iter().map(|column| column.ty()).collect(),
                _ => relation.columns.iter().map(|column| column.ty).collect(),
            })
            .collect();
        let mut needed: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        let mut row_ids = BTreeSet::new();
        let mut note = |node: &Expr, level: usize| match node {
            Expr::Column { levels_up, relation, column, .. } if *levels_up == level => {
                needed.entry(*relation).or_default().insert(*column);
            }
            Expr::WholeRow { levels_up, relation, .. } if *levels_up == level => {
                let columns = whole_row(query, *relation);
                needed.entry(*relation).or_default().extend(columns);
            }
            Expr::RowId { relation } if level == 0 => {
                row_ids.insert(*relation);
            }
            _ => {}
        };
        expr::visit_query(query, 0, &mut note);
        group.visit(&mut note);
        fn conditions<'e>(item: &'e resolve::tree::FromItem, note: &mut dyn FnMut(&'e Expr, usize)) {
            if let resolve::tree::FromItem::Join(join) = item {
                join.condition.iter().for_each(|condition| expr::visit(condition, 0, note));
                conditions(&join.left, note);
                conditions(&join.right, note);
            }
        }
        fn items<'e>(group: &'e Group, note: &mut dyn FnMut(&'e Expr, usize)) {
            group.items.iter().for_each(|item| conditions(item, note));
            group.semis.iter().for_each(|semi| items(&semi.group, note));
        }
        items(group, &mut note);
        row_ids.extend(bases.keys().filter(|relation| **relation < lockable));
        if lockable > 0 {
            row_ids.extend(group.pinned(lockable));
        }
        self.levels.push(Level {
            id,
            ctes: Vec::new(),
            join_columns,
            needed: needed
                .into_iter()
                .map(|(relation, columns)| (relation, columns.into_iter().collect()))
                .collect(),
            row_ids: row_ids.into_iter().collect(),
            types,
            bases,
            pinned,
        });
    }

    /// Decides how each CTE is run and plans those that are computed once.
    pub(crate) fn plan_ctes(&mut self, ctes: &[Cte]) -> Result<()> {
        let owner = self.levels.len() - 1;
        for (place, cte) in ctes.iter().enumerate() {
            let modifies = cte.query.modify.is_some();
            let volatile = {
                let mut found = false;
                expr::visit_query(&cte.query, 0, &mut |node, _| match node {
                    Expr::Call(call) => found |= call.function.volatility == function::Volatility::Volatile,
                    Expr::SetCall(call) => {
                        found |= call.function.volatility == function::Volatility::Volatile
                    }
                    _ => {}
                });
                found || !cte.query.locks.is_empty()
            };
            let inline = !modifies
                && !volatile
                && cte.recursive.is_none()
                && match cte.materialized {
                    Some(materialized) => !materialized,
                    None => cte.references <= 1,
                };
            let entry = if inline {
                CteUse::Inline(Arc::new(cte.clone()))
            } else {
                let root = self.cte_body(cte, owner, place)?;
                // What depends on an outer row cannot be computed once.
                if root.open_parameters(&self.subplans).is_empty() {
                    let rows = root.rows;
                    self.ctes.push(ir::Cte { name: cte.name.clone(), root, modifies });
                    CteUse::Shared { index: self.ctes.len() - 1, rows }
                } else {
                    CteUse::Inline(Arc::new(cte.clone()))
                }
            };
            self.levels[owner].ctes.push(entry);
        }
        Ok(())
    }

    /// `original`: the query as it was before it was taken apart, for the re-check.
    pub(crate) fn query_in_level(
        &mut self,
        query: &mut Query,
        group: Group,
        original: &Query,
    ) -> Result<Node> {
        self.plan_ctes(&query.ctes)?;
        let wanted = self.wanted_order(query);
        let (part, mut ordered) = match query.set_operation.take() {
            Some(operation) => (self.set_operation(query, &operation)?, false),
            None => self.group(&query.relations, group, wanted.as_ref())?,
        };
        let Part { mut node, layout } = part;
        let mut computed: Vec<(Expr, usize)> = Vec::new();
        let grouped = query.has_aggregates || !query.grouping_sets.is_empty() || query.having.is_some();
        if grouped {
            ordered = false;
            node = self.aggregate(query, node, &layout, &mut computed)?;
        }
        if !query.windows.is_empty() {
            ordered = false;
            node = self.windows(query, node, &layout, &mut computed, grouped)?;
        }
        // Targets, then the row ids that locks need.
        let scope = Scope { layout: &layout, computed: &computed, grouped };
        let mut exprs = Vec::with_capacity(query.targets.len());
        for target in &query.targets {
            exprs.push(self.convert_in(target.expr.clone(), &scope)?);
        }
        let targets = exprs.len();
        let lock_slots =
            if query.locks.is_empty() { Vec::new() } else { self.row_id_slots(&layout, &mut exprs) };
        node = if query.has_set_functions {
            let types = exprs.iter().map(Expr::ty).collect();
            let (rows, startup, total) =
                (node.rows * 10.0, node.startup_cost, node.total_cost + node.rows * 10.0 * cost::ROW);
            Node::new(NodeKind::ProjectSet { input: Box::new(node), exprs }, types, rows, startup, total)
        } else {
            node.project(exprs)
        };
        let slot = |node: &Node, index: usize| Expr::Slot { index, ty: node.types[index] };
        match &query.distinct {
            Distinct::No => {}
            Distinct::All => {
                ordered = false;
                let (types, rows) = (node.types.clone(), (node.rows * 0.5).max(1.0));
                let total = node.total_cost + node.rows * cost::HASH_BUILD;
                node = Node::new(NodeKind::Distinct { input: Box::new(node) }, types, rows, total, total);
            }
            Distinct::On(on) => {
                ordered = false;
                let mut keys: Vec<Order> = self.orders(query, &node);
                for place in on {
                    if !query.order_by.iter().any(|key| key.target == *place) {
                        keys.push(Order { expr: slot(&node, *place), descending: false, nulls_first: false });
                    }
                }
                node = node.sort(keys, None);
                let keys = on.iter().map(|place| slot(&node, *place)).collect();
                let (types, rows, startup, total) =
                    (node.types.clone(), node.rows * 0.5, node.startup_cost, node.total_cost);
                node = Node::new(
                    NodeKind::DistinctOn { input: Box::new(node), keys },
                    types,
                    rows,
                    startup,
                    total,
                );
            }
        }
        let limit = query.limit.clone().map(|expr| self.convert(expr, &[])).transpose()?;
        let offset = query.offset.clone().map(|expr| self.convert(expr, &[])).transpose()?;
        let keys = self.orders(query, &node);
        if !keys.is_empty() && !ordered && !matches!(query.distinct, Distinct::On(_)) {
            // A top-N heap is enough when nothing is skipped by locks or kept for ties.
            let top = match (&limit, &offset, query.with_ties || !query.locks.is_empty()) {
                (Some(limit), None, false) => Some(limit.clone()),
                (Some(limit), Some(offset), false) => sum(limit, offset),
                _ => None,
            };
            node = node.sort(keys.clone(), top);
        }
        if !query.locks.is_empty() {
            node = self.lock_rows(query, node, lock_slots, original)?;
        }
        if limit.is_some() || offset.is_some() {
            let number = |expr: &Option<Expr>| match expr {
                Some(Expr::Const { value: Datum::Int8(number), .. }) => Some((*number).max(0) as f64),
                _ => None,
            };
            let skipped = number(&offset).unwrap_or(0.0);
            let taken = number(&limit).unwrap_or(node.rows);
            let rows = (node.rows - skipped).min(taken).max(1.0);
            let share = ((skipped + rows) / node.rows).min(1.0);
            let total = node.startup_cost + (node.total_cost - node.startup_cost) * share;
            let (types, startup) = (node.types.clone(), node.startup_cost);
            let ties = query.with_ties.then_some(keys);
            node = Node::new(
                NodeKind::Limit { input: Box::new(node), limit, offset, ties },
                types,
                rows,
                startup,
                total,
            );
        }
        // Hidden targets and lock slots end here.
        let visible: Vec<Expr> = query
            .targets
            .iter()
            .enumerate()
            .filter(|(_, target)| !target.hidden)
            .map(|(index, _)| slot(&node, index))
            .collect();
        if visible.len() < targets || node.types.len() > targets {
            node = node.project(visible);
        }
        Ok(node)
    }

    fn orders(&self, query: &Query, node: &Node) -> Vec<Order> {
        query
            .order_by
            .iter()
            .map(|key| Order {
                expr: Expr::Slot { index: key.target, ty: node.types[key.target] },
                descending: key.descending,
                nulls_first: key.nulls_first,
            })
            .collect()
    }

    /// ORDER BY over plain columns, if an index could deliver it directly to the target list.
    fn wanted_order(&self, query: &Query) -> Option<WantedOrder> {
        let direct = !query.order_by.is_empty()
            && !query.has_aggregates
            && query.grouping_sets.is_empty()
            && query.windows.is_empty()
            && !query.has_set_functions
            && matches!(query.distinct, Distinct::No)
            && query.set_operation.is_none();
        if !direct {
            return None;
        }
        let keys: Option<Vec<(usize, bool, bool)>> = query
            .order_by
            .iter()
            .map(|key| {
                let (_, column) = expr::bare_column(&query.targets[key.target].expr)?;
                Some((column, key.descending, key.nulls_first))
            })
            .collect();
        let limit = match (&query.limit, &query.offset) {
            (Some(Expr::Const { value: Datum::Int8(limit), .. }), offset) => {
                let skipped = match offset {
                    Some(Expr::Const { value: Datum::Int8(skipped), .. }) => *skipped as f64,
                    _ => 0.0,
                };
                Some(*limit as f64 + skipped)
            }
            (Some(_), _) => Some(100.0),
            (None, _) => None,
        };
        Some(WantedOrder { keys: keys?, limit })
    }

    fn lock_rows(
        &mut self,
        query: &Query,
        input: Node,
        slots: Vec<(usize, usize)>,
        original: &Query,
    ) -> Result<Node> {
        let mut locks = Vec::new();
        for LockClause { relations, strength, wait } in &query.locks {
            for relation in relations {
                let Some(base) = self.base(*relation) else {
                    return Err(Error::unsupported(
                        "locking rows of something other than a table",
                        "Name the tables to lock with FOR UPDATE OF.",
                    ));
                };
                self.table_use(&base.table, query.relations[*relation].check_as).lock = TableLock::RowShare;
                let row_id = slots
                    .iter()
                    .find(|(other, _)| other == relation)
                    .map(|(_, slot)| *slot)
                    .ok_or_else(|| Error::internal("a locked relation without its row id"))?;
                locks.push(RowLockStep {
                    table: base.table,
                    relation: *relation,
                    row_id,
                    strength: *strength,
                    wait: *wait,
                });
            }
        }
        let mut bare = original.clone();
        bare.order_by.clear();
        bare.limit = None;
        bare.offset = None;
        bare.distinct = Distinct::No;
        let recheck = self.recheck(bare, slots, true)?;
        let (types, rows, startup, total) =
            (input.types.clone(), input.rows, input.startup_cost, input.total_cost + input.rows * cost::ROW);
        let lock = LockRows { input, locks, recheck };
        Ok(Node::new(NodeKind::LockRows(Box::new(lock)), types, rows, startup, total))
    }

    /// The query over pinned rows (rules 13): its targets, then (with `append_row_ids`) the row ids of its tables, the slots
    /// that the locking node's input has. `slots` says where that input has the row id of each table.
    pub(crate) fn recheck(
        &mut self,
        mut query: Query,
        slots: Vec<(usize, usize)>,
        append_row_ids: bool,
    ) -> Result<Recheck> {
        let pins = slots
            .into_iter()
            .map(|(relation, slot)| (relation, self.base(relation).map(|base| base.table), slot))
            .collect();
        if append_row_ids {
            flatten::flatten(&mut query);
        }
        let lockable = query.relations.len();
        let group = take_group(&mut query);
        // It stands where the query itself stands.
        let outside = self.levels.pop();
        self.open_level(&query, &group, lockable, true);
        let plan = self.recheck_in_level(&query, group, append_row_ids);
        self.levels.pop();
        self.levels.extend(outside);
        Ok(Recheck { plan: plan?, pins })
    }

    fn recheck_in_level(&mut self, query: &Query, group: Group, append_row_ids: bool) -> Result<Node> {
        self.plan_ctes(&query.ctes)?;
        let (Part { node, layout }, _) = self.group(&query.relations, group, None)?;
        let mut exprs = Vec::new();
        for target in &query.targets {
            exprs.push(self.convert(target.expr.clone(), &layout)?);
        }
        if append_row_ids {
            self.row_id_slots(&layout, &mut exprs);
        }
        Ok(node.project(exprs))
    }

    fn set_operation(&mut self, query: &Query, operation: &SetOperation) -> Result<Part> {
        let node = self.set_node(query, operation)?;
        // Column i of the result is column i of relation 0, wherever it came from.
        let layout = (0..node.types.len()).map(|column| Item::Column { relation: 0, column }).collect();
        Ok(Part { node, layout })
    }

    fn set_node(&mut self, query: &Query, operation: &SetOperation) -> Result<Node> {
        let (kind, all) = match operation {
            SetOperation::Leaf(relation) => {
                let (RelationKind::Subquery(subquery) | RelationKind::View { query: subquery, .. }) =
                    &query.relations[*relation].kind
                else {
                    return Err(Error::internal("an arm of a set operation is not a subquery"));
                };
                return self.query(subquery);
            }
            SetOperation::Node { kind, all, .. } => (*kind, *all),
        };
        if kind == SetKind::Union {
            // A chain of unions of one sort is one Append: thousands of arms do not nest.
            let mut arms = Vec::new();
            let mut pending = vec![operation];
            while let Some(next) = pending.pop() {
                match next {
                    SetOperation::Node { kind: SetKind::Union, all: same, left, right } if *same == all => {
                        pending.push(right);
                        pending.push(left);
                    }
                    other => arms.push(other),
                }
            }
            let mut inputs = Vec::with_capacity(arms.len());
            for arm in arms {
                inputs.push(self.set_node(query, arm)?);
            }
            let types = inputs.first().map(|input| input.types.clone()).unwrap_or_default();
            let rows: f64 = inputs.iter().map(|input| input.rows).sum();
            let total: f64 = inputs.iter().map(|input| input.total_cost).sum();
            let append = Node::new(NodeKind::Append { inputs }, types.clone(), rows, 0.0, total);
            if all {
                return Ok(append);
            }
            let total = total + rows * cost::HASH_BUILD;
            return Ok(Node::new(NodeKind::Distinct { input: Box::new(append) }, types, rows, total, total));
        }
        let SetOperation::Node { left, right, .. } = operation else {
            return Err(Error::internal("a set operation without arms"));
        };
        let (left, right) = (Box::new(self.set_node(query, left)?), Box::new(self.set_node(query, right)?));
        let (types, rows) = (left.types.clone(), left.rows);
        let total = left.total_cost + right.total_cost + (left.rows + right.rows) * cost::HASH_BUILD;
        Ok(Node::new(NodeKind::SetOperation { kind, all, left, right }, types, rows, total, total))
    }

    fn aggregate(
        &mut self,
        query: &mut Query,
        input: Node,
        layout: &[Item],
        computed: &mut Vec<(Expr, usize)>,
    ) -> Result<Node> {
        let below = Scope { layout, computed: &[], grouped: false };
        // Aggregates, each once; and columns that depend on a grouped primary key become keys themselves.
        let mut found: Vec<Expr> = Vec::new();
        let mut extra: Vec<Expr> = Vec::new();
        {
            let keys = &query.group_keys;
            let mut collect = |expr: &Expr| collect_grouped(expr, keys, 0, &mut found, &mut extra);
            query.targets.iter().for_each(|target| collect(&target.expr));
            query.having.iter().for_each(&mut collect);
            for window in &query.windows {
                window.partition_by.iter().for_each(&mut collect);
                window.order_by.iter().for_each(|order| collect(&order.expr));
            }
        }
        let mut sets = query.grouping_sets.clone();
        let mut key_exprs = query.group_keys.clone();
        for column in extra {
            if sets.is_empty() {
                return Err(Error::internal("a column outside of aggregates and groups"));
            }
            sets.iter_mut().for_each(|set| set.push(key_exprs.len()));
            key_exprs.push(column);
        }
        let mut keys = Vec::with_capacity(key_exprs.len());
        for key in &key_exprs {
            keys.push(self.convert_in(key.clone(), &below)?);
        }
        let mut aggregates = Vec::with_capacity(found.len());
        for call in &found {
            let Expr::Aggregate(call) = call else { continue };
            let mut all = |list: &[Expr]| -> Result<Vec<Expr>> {
                list.iter().map(|expr| self.convert_in(expr.clone(), &below)).collect()
            };
            let (args, direct_args) = (all(&call.args)?, all(&call.direct_args)?);
            let mut order_by = Vec::new();
            for order in &call.order_by {
                order_by.push(Order {
                    expr: self.convert_in(order.expr.clone(), &below)?,
                    descending: order.descending,
                    nulls_first: order.nulls_first,
                });
            }
            let filter = call.filter.clone().map(|filter| self.convert_in(filter, &below)).transpose()?;
            let distinct = call.distinct && call.aggregate.duplicates_matter;
            aggregates.push(AggregateStep {
                aggregate: call.aggregate,
                args,
                direct_args,
                distinct,
                order_by,
                filter,
                ty: call.ty,
            });
        }
        let mut types: Vec<Type> = keys.iter().map(Expr::ty).collect();
        types.extend(aggregates.iter().map(|step| step.ty));
        computed.extend(key_exprs.iter().cloned().enumerate().map(|(slot, key)| (key, slot)));
        let first = keys.len();
        computed.extend(found.into_iter().enumerate().map(|(i, call)| (call, first + i)));
        let set_slot = (sets.len() > 1).then(|| {
            types.push(Type::new(oid::INT4));
            types.len() - 1
        });
        let groups = if sets.is_empty() {
            1.0
        } else {
            let distinct: f64 = key_exprs
                .iter()
                .map(|key| {
                    expr::bare_column(key)
                        .and_then(|(relation, column)| Some(self.base(relation)?.distinct(column)))
                        .unwrap_or(200.0)
                })
                .product();
            distinct.min(input.rows).max(1.0) * sets.len() as f64
        };
        let total = input.total_cost
            + input.rows
                * (cost::HASH_PROBE + cost::OPERATOR * aggregates.len() as f64)
                * sets.len().max(1) as f64
            + groups * cost::ROW;
        // GROUPING(...) is a constant of each grouping set.
        if query_uses_grouping(query) {
            let map = |list: &[usize]| grouping(list, &sets, set_slot);
            query.targets.iter_mut().for_each(|target| replace_grouping(&mut target.expr, &map));
            query.having.iter_mut().for_each(|having| replace_grouping(having, &map));
        }
        let step = Aggregation { input, keys, sets, aggregates };
        let node = Node::new(NodeKind::Aggregate(Box::new(step)), types, groups, total, total);
        let scope = Scope { layout, computed, grouped: true };
        match query.having.take() {
            Some(having) => {
                let predicate = self.convert_in(having, &scope)?;
                Ok(node.filter(Some(predicate), 0.33))
            }
            None => Ok(node),
        }
    }

    fn windows(
        &mut self,
        query: &Query,
        mut node: Node,
        layout: &[Item],
        computed: &mut Vec<(Expr, usize)>,
        grouped: bool,
    ) -> Result<Node> {
        let mut found: Vec<WindowCall> = Vec::new();
        for target in &query.targets {
            expr::visit(&target.expr, 0, &mut |inner, level| {
                if let Expr::Window(call) = inner
                    && level == 0
                {
                    found.push((**call).clone());
                }
            });
        }
        for (number, window) in query.windows.iter().enumerate() {
            let calls: Vec<&WindowCall> = found.iter().filter(|call| call.window == number).collect();
            if calls.is_empty() {
                continue;
            }
            let scope = Scope { layout, computed: &computed.clone(), grouped };
            let mut partition_by = Vec::new();
            for key in &window.partition_by {
                partition_by.push(self.convert_in(key.clone(), &scope)?);
            }
            let mut order_by = Vec::new();
            for order in &window.order_by {
                order_by.push(Order {
                    expr: self.convert_in(order.expr.clone(), &scope)?,
                    descending: order.descending,
                    nulls_first: order.nulls_first,
                });
            }
            let mut bound = |bound: &FrameBound| -> Result<FrameBound> {
                Ok(match bound {
                    FrameBound::Preceding(expr) => {
                        FrameBound::Preceding(Box::new(self.convert_in((**expr).clone(), &scope)?))
                    }
                    FrameBound::Following(expr) => {
                        FrameBound::Following(Box::new(self.convert_in((**expr).clone(), &scope)?))
                    }
                    other => other.clone(),
                })
            };
            let frame = Frame {
                unit: window.frame.unit,
                start: bound(&window.frame.start)?,
                end: bound(&window.frame.end)?,
                exclude: window.frame.exclude,
            };
            let mut types = node.types.clone();
            let mut steps = Vec::new();
            for call in calls {
                let args: Result<Vec<Expr>> =
                    call.args.iter().map(|arg| self.convert_in(arg.clone(), &scope)).collect();
                let filter = call.filter.clone().map(|filter| self.convert_in(filter, &scope)).transpose()?;
                computed.push((Expr::Window(Box::new(call.clone())), types.len()));
                types.push(call.ty);
                steps.push(WindowStepCall { function: call.function, args: args?, filter, ty: call.ty });
            }
            let rows = node.rows;
            let total = node.total_cost + rows * (rows.max(2.0).log2() * cost::SORT_COMPARE + cost::ROW);
            let step = WindowStep { input: node, partition_by, order_by, frame, calls: steps };
            node = Node::new(NodeKind::Window(Box::new(step)), types, rows, total, total);
        }
        Ok(node)
    }

    // Expressions.

    pub(crate) fn convert(&mut self, expr: Expr, layout: &[Item]) -> Result<Expr> {
        self.convert_in(expr, &Scope { layout, computed: &[], grouped: false })
    }

    pub(crate) fn convert_all(&mut self, expr: Option<Expr>, layout: &[Item]) -> Result<Option<Expr>> {
        expr.map(|expr| self.convert(expr, layout)).transpose()
    }

    /// Turns columns into slots and correlation parameters, and sublinks into subplans.
    pub(crate) fn convert_in(&mut self, expr: Expr, scope: &Scope<'_>) -> Result<Expr> {
        for (pattern, slot) in scope.computed {
            let matches = match (&expr, pattern) {
                (Expr::Window(a), Expr::Window(b)) => same_window(a, b),
                (a, b) => expr::same(a, b),
            };
            if matches {
                return Ok(Expr::Slot { index: *slot, ty: expr.ty() });
            }
        }
        match expr {
            Expr::Column { levels_up: 0, relation, column, ty } => {
                if let Some(columns) = self.levels.last().and_then(|level| level.join_columns.get(&relation))
                {
                    let inner = columns[column].clone();
                    return self.convert_in(inner, scope);
                }
                let item = Item::Column { relation, column };
                self.slot_or_outer(item, ty, scope)
            }
            Expr::Column { levels_up, relation, column, ty } => {
                let depth = self.depth_of(levels_up)?;
                if let Some(columns) = self.levels[depth].join_columns.get(&relation) {
                    let mut inner = columns[column].clone();
                    expr::raise(&mut inner, levels_up);
                    return self.convert_in(inner, scope);
                }
                let index = self.outer_at(depth, Item::Column { relation, column });
                Ok(Expr::Outer { index, ty })
            }
            Expr::RowId { relation } => {
                let item = Item::RowId { relation };
                self.slot_or_outer(item, self.item_type(item), scope)
            }
            Expr::WholeRow { levels_up, relation, ty } => {
                let depth = self.depth_of(levels_up)?;
                let types = self.levels[depth].types[relation].clone();
                let visible: Vec<usize> = match self.levels[depth].bases.get(&relation) {
                    Some(base) => base.table.visible_columns().map(|(index, _)| index).collect(),
                    None => (0..types.len()).collect(),
                };
                let mut fields = Vec::new();
                for column in visible {
                    fields.push(self.convert_in(
                        Expr::Column { levels_up, relation, column, ty: types[column] },
                        scope,
                    )?);
                }
                Ok(Expr::Row { fields, ty })
            }
            Expr::Sublink(sublink) => {
                let sublink = *sublink;
                let kind = match sublink.kind {
                    SublinkKind::Exists => SubplanKind::Exists,
                    SublinkKind::Scalar => SubplanKind::Scalar,
                    SublinkKind::Array => SubplanKind::Array,
                    SublinkKind::Any { tests, functions } => {
                        SubplanKind::Any { tests: self.convert_list(tests, scope)?, functions }
                    }
                    SublinkKind::All { tests, functions } => {
                        SubplanKind::All { tests: self.convert_list(tests, scope)?, functions }
                    }
                };
                if self.levels.iter().any(|level| level.pinned)
                    && let Some(subplan) = self.independent.get(&sublink.id)
                {
                    let (subplan, bindings) = (*subplan, Vec::new());
                    return Ok(Expr::Subplan(Box::new(SubplanCall {
                        subplan,
                        kind,
                        bindings,
                        ty: sublink.ty,
                    })));
                }
                let root = self.query(&sublink.query)?;
                let parameters: Vec<usize> = root.open_parameters(&self.subplans).into_iter().collect();
                let mut bindings = Vec::new();
                let own = self.levels.last().map(|level| level.id);
                for parameter in &parameters {
                    let OuterColumn { level, item } = self.outers[*parameter];
                    if Some(level) == own {
                        let value = match item {
                            Item::Column { relation, column } => {
                                Expr::Column { levels_up: 0, relation, column, ty: self.item_type(item) }
                            }
                            Item::RowId { relation } => Expr::RowId { relation },
                        };
                        let value = self.convert_in(value, scope)?;
                        // A lateral parameter stays open: the same one is set further up.
                        if !matches!(value, Expr::Outer { index, .. } if index == *parameter) {
                            bindings.push((*parameter, value));
                        }
                    }
                }
                if parameters.is_empty() {
                    self.independent.insert(sublink.id, self.subplans.len());
                }
                self.subplans.push(ir::Subplan { root, parameters });
                let subplan = self.subplans.len() - 1;
                Ok(Expr::Subplan(Box::new(SubplanCall { subplan, kind, bindings, ty: sublink.ty })))
            }
            Expr::Aggregate(call) if call.levels_up > 0 => Err(Error::unsupported(
                format!("aggregate {}() of an outer query", call.aggregate.name),
                "Compute the aggregate in the outer query and refer to its result.",
            )),
            Expr::Aggregate(call) => Err(Error::internal(format!(
                "aggregate {}() where there is no grouping",
                call.aggregate.name
            ))),
            Expr::Window(_) => Err(Error::internal("a window function without its window")),
            other => expr::map_children(other, &mut |child| self.convert_in(child, scope)),
        }
    }

    fn convert_list(&mut self, list: Vec<Expr>, scope: &Scope<'_>) -> Result<Vec<Expr>> {
        list.into_iter().map(|expr| self.convert_in(expr, scope)).collect()
    }

    fn slot_or_outer(&mut self, item: Item, ty: Type, scope: &Scope<'_>) -> Result<Expr> {
        if scope.grouped {
            return Err(Error::internal("a column is used above its grouping"));
        }
        match scope.layout.iter().position(|other| *other == item) {
            Some(index) => Ok(Expr::Slot { index, ty }),
            // Not below this place: LATERAL. The nested loop that brings it in binds it.
            None => Ok(Expr::Outer { index: self.outer(item), ty }),
        }
    }

    fn depth_of(&self, levels_up: usize) -> Result<usize> {
        self.levels
            .len()
            .checked_sub(levels_up + 1)
            .ok_or_else(|| Error::internal("a column of no query level"))
    }

    /// The parameter for a column of the innermost level.
    pub(crate) fn outer(&mut self, item: Item) -> usize {
        self.outer_at(self.levels.len() - 1, item)
    }

    fn outer_at(&mut self, depth: usize, item: Item) -> usize {
        let level = self.levels[depth].id;
        if let Some(index) = self.outer_of.get(&(level, item)) {
            return *index;
        }
        self.outers.push(OuterColumn { level, item });
        let index = self.outers.len() - 1;
        self.outer_of.insert((level, item), index);
        index
    }

    /// Parameters of the innermost level that the node leaves open.
    pub(crate) fn open_own(&self, node: &Node) -> Vec<usize> {
        let own = self.levels.last().map(|level| level.id);
        node.open_parameters(&self.subplans)
            .into_iter()
            .filter(|parameter| Some(self.outers[*parameter].level) == own)
            .collect()
    }

    /// Relations of the innermost level that the node looks at sideways.
    pub(crate) fn open_own_relations(&self, node: &Node) -> BTreeSet<usize> {
        self.open_own(node).into_iter().map(|parameter| self.outers[parameter].item.relation()).collect()
    }

    pub(crate) fn needed(&self, relation: usize) -> Vec<usize> {
        self.levels.last().and_then(|level| level.needed.get(&relation)).cloned().unwrap_or_default()
    }

    pub(crate) fn carries_row_id(&self, relation: usize) -> bool {
        self.levels.last().is_some_and(|level| level.row_ids.contains(&relation))
    }

    pub(crate) fn item_type(&self, item: Item) -> Type {
        match item {
            Item::Column { relation, column } => self
                .levels
                .last()
                .and_then(|level| level.types.get(relation)?.get(column).copied())
                .unwrap_or(Type::new(oid::UNKNOWN)),
            Item::RowId { relation } => match self.base(relation) {
                Some(_) => Type::new(oid::INT8),
                None => Type::new(oid::RECORD),
            },
        }
    }

    /// Appends the row ids of a layout, by relation; gives (relation, place among the expressions).
    fn row_id_slots(&self, layout: &[Item], exprs: &mut Vec<Expr>) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = layout
            .iter()
            .enumerate()
            .filter_map(|(index, item)| match item {
                Item::RowId { relation } => Some((*relation, index)),
                Item::Column { .. } => None,
            })
            .collect();
        found.sort_unstable();
        for (_, index) in &mut found {
            exprs.push(Expr::Slot { index: *index, ty: self.item_type(layout[*index]) });
            *index = exprs.len() - 1;
        }
        found
    }
}

fn whole_row(query: &Query, relation: usize) -> Vec<usize> {
    match &query.relations[relation].kind {
        RelationKind::Table(table) => table.visible_columns().map(|(index, _)| index).collect(),
        _ => (0..query.relations[relation].columns.len()).collect(),
    }
}

/// limit + offset as one expression, when both are constants.
fn sum(limit: &Expr, offset: &Expr) -> Option<Expr> {
    match (limit, offset) {
        (Expr::Const { value: Datum::Int8(limit), ty }, Expr::Const { value: Datum::Int8(offset), .. }) => {
            Some(Expr::Const { value: Datum::Int8(limit.checked_add(*offset)?), ty: *ty })
        }
        _ => None,
    }
}

fn same_window(a: &WindowCall, b: &WindowCall) -> bool {
    let function = match (a.function, b.function) {
        (resolve::tree::WindowTarget::Function(a), resolve::tree::WindowTarget::Function(b)) => a == b,
        (resolve::tree::WindowTarget::Aggregate(a), resolve::tree::WindowTarget::Aggregate(b)) => a == b,
        _ => false,
    };
    function
        && a.window == b.window
        && a.args.len() == b.args.len()
        && a.args.iter().zip(&b.args).all(|(a, b)| expr::same(a, b))
        && match (&a.filter, &b.filter) {
            (None, None) => true,
            (Some(a), Some(b)) => expr::same(a, b),
            _ => false,
        }
}

/// Gathers aggregates of this query (each once) and columns that stand outside of them and of the keys; from inside
/// subqueries only the columns.
fn collect_grouped(expr: &Expr, keys: &[Expr], level: usize, found: &mut Vec<Expr>, extra: &mut Vec<Expr>) {
    if level == 0 && keys.iter().any(|key| expr::same(key, expr)) {
        return;
    }
    match expr {
        Expr::Aggregate(call) if call.levels_up == level => {
            if level == 0 && !found.iter().any(|other| expr::same(other, expr)) {
                found.push(expr.clone());
            }
        }
        Expr::Column { levels_up, relation, column, ty } if *levels_up == level => {
            let own = Expr::Column { levels_up: 0, relation: *relation, column: *column, ty: *ty };
            if !keys.iter().chain(extra.iter()).any(|key| expr::same(key, &own)) {
                extra.push(own);
            }
        }
        other => {
            resolve::walk::children(other, &mut |child| collect_grouped(child, keys, level, found, extra));
            if let Expr::Sublink(sublink) = other {
                let mut columns = Vec::new();
                expr::visit_query(&sublink.query, level + 1, &mut |node, depth| {
                    if let Expr::Column { levels_up, relation, column, ty } = node
                        && *levels_up == depth
                    {
                        columns.push(Expr::Column {
                            levels_up: 0,
                            relation: *relation,
                            column: *column,
                            ty: *ty,
                        });
                    }
                });
                for column in columns {
                    if !keys.iter().chain(extra.iter()).any(|key| expr::same(key, &column)) {
                        extra.push(column);
                    }
                }
            }
        }
    }
}

fn query_uses_grouping(query: &Query) -> bool {
    let uses = |expr: &Expr| expr::any(expr, &mut |node| matches!(node, Expr::Grouping(_)));
    query.targets.iter().any(|target| uses(&target.expr)) || query.having.iter().any(uses)
}

fn replace_grouping(expr: &mut Expr, map: &dyn Fn(&[usize]) -> Expr) {
    struct Replace<'a>(&'a dyn Fn(&[usize]) -> Expr);
    impl expr::Rewriter for Replace<'_> {
        fn expr(&mut self, expr: &mut Expr, _level: usize) -> bool {
            if let Expr::Grouping(list) = expr {
                *expr = (self.0)(list);
                return false;
            }
            true
        }
    }
    expr::rewrite(expr, 0, &mut Replace(map));
}

/// GROUPING(a, b): one bit per argument, most significant first, set where the grouping set leaves it out.
fn grouping(list: &[usize], sets: &[Vec<usize>], set_slot: Option<usize>) -> Expr {
    let int4 = Type::new(oid::INT4);
    let bits = |set: &[usize]| list.iter().fold(0, |bits, key| bits << 1 | i32::from(!set.contains(key)));
    let constant = |number: i32| Expr::Const { value: Datum::Int4(number), ty: int4 };
    let (Some(slot), Some(equal)) = (set_slot, function::comparison(oid::INT4, Strategy::Eq)) else {
        return constant(sets.first().map_or(0, |set| bits(set)));
    };
    let whens = sets
        .iter()
        .enumerate()
        .map(|(number, set)| {
            let args = vec![Expr::Slot { index: slot, ty: int4 }, constant(number as i32)];
            let ty = Type::new(oid::BOOL);
            let condition =
                Expr::Call(Box::new(Call { function: equal, args, ty, position: None, operator: Some("=") }));
            (condition, constant(bits(set)))
        })
        .collect();
    Expr::Case { whens, otherwise: None, ty: int4 }
}
