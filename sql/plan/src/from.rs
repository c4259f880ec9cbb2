//! FROM and WHERE as a join graph: leaves, conditions over them, and semi and anti joins made of EXISTS and IN.
//!
//! Inner joins and commas melt into one list of leaves. An outer join is one leaf with two groups inside, unless a
//! condition above it throws away its NULL-extended rows anyway: then it is an inner join (or a left join, if it
//! was full). RIGHT is LEFT with the sides swapped: slots are found by what they hold, not by position.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::catalog::{IndexKey, Table};
use resolve::tree::{
    Call, ConvertKind, Expr, FromItem, JoinKind, OutputColumn, Query, Relation, RelationKind, SublinkKind,
};
use resolve::{ExprScope, Purpose};
use value::{Datum, Result, Type, types::oid};

use crate::access::{self, IndexPath, Path, WantedOrder};
use crate::estimate::{self, Base, cost};
use crate::expr::{self, Rewriter};
use crate::flatten;
use crate::ir::{IndexScan, JoinType, Node, NodeKind, Scan, TableLock, TableUse};
use crate::join::LeafPlan;
use crate::{CteUse, Item, Part, Planner};

/// EXISTS, IN and their negations, as a join.
pub(crate) struct SemiJoin {
    pub kind: JoinType,
    pub group: Group,
    /// Conditions between the query and the group.
    pub on: Vec<Expr>,
    /// As in PostgreSQL, where it becomes a join too: a re-check sticks to the row that was found. Otherwise it looks again.
    pub pinned: bool,
}

/// A set of things to join, and what must hold.
#[derive(Default)]
pub(crate) struct Group {
    pub items: Vec<FromItem>,
    pub conditions: Vec<Expr>,
    pub semis: Vec<SemiJoin>,
}

impl Group {
    /// Relations whose rows a re-check keeps: those in FROM (of the first `count` relations) and those whose rows were found
    /// for IN and EXISTS, ascending.
    pub fn pinned(&self, count: usize) -> BTreeSet<usize> {
        fn semis(group: &Group, out: &mut BTreeSet<usize>) {
            for semi in group.semis.iter().filter(|semi| semi.pinned && semi.kind == JoinType::Semi) {
                semi.group.items.iter().for_each(|item| relations_of(item, out));
                semis(&semi.group, out);
            }
        }
        let mut out = BTreeSet::new();
        self.items.iter().for_each(|item| relations_of(item, &mut out));
        out.retain(|relation| *relation < count);
        semis(self, &mut out);
        out
    }

    /// Every expression of the group and of the groups in it.
    pub fn visit<'e>(&'e self, f: &mut dyn FnMut(&'e Expr, usize)) {
        self.conditions.iter().for_each(|expr| expr::visit(expr, 0, f));
        for semi in &self.semis {
            semi.on.iter().for_each(|expr| expr::visit(expr, 0, f));
            semi.group.visit(f);
        }
    }
}

/// Takes FROM and WHERE out of the query; relations of subqueries that became joins are added to its range table.
pub(crate) fn take_group(query: &mut Query) -> Group {
    let mut conditions = Vec::new();
    query.filter.take().into_iter().for_each(|filter| expr::conjuncts(filter, &mut conditions));
    let items = std::mem::take(&mut query.from);
    let mut group = Group { items, ..Group::default() };
    // Without FROM there is nothing to join to.
    if group.items.is_empty() {
        group.conditions = conditions;
    } else {
        extract_semis(&mut query.relations, conditions, &mut group);
    }
    group
}

fn extract_semis(relations: &mut Vec<Relation>, conditions: Vec<Expr>, group: &mut Group) {
    for condition in conditions {
        match semi_join(relations, &condition) {
            Some(semi) => group.semis.push(semi),
            None => group.conditions.push(condition),
        }
    }
}

fn semi_join(relations: &mut Vec<Relation>, condition: &Expr) -> Option<SemiJoin> {
    let (sublink, negated) = match condition {
        Expr::Sublink(sublink) => (sublink, false),
        Expr::Not(input) => match &**input {
            Expr::Sublink(sublink) => (sublink, true),
            _ => return None,
        },
        _ => return None,
    };
    let mut query = sublink.query.clone();
    if query.modify.is_some() || !query.locks.is_empty() {
        return None;
    }
    let (tests, functions): (&[Expr], &[&'static function::Function]) = match &sublink.kind {
        SublinkKind::Exists => (&[], &[]),
        SublinkKind::Any { tests, functions } if !negated || tests.len() == 1 => (tests, functions),
        _ => return None,
    };
    if tests.iter().any(|test| expr::has_sublink(test) || expr::is_volatile(test)) {
        return None;
    }
    if query.targets.iter().any(|target| expr::is_volatile(&target.expr)) {
        return None;
    }
    let exists = tests.is_empty();
    if exists {
        // Only whether there are rows counts.
        query.order_by.clear();
        if query.is_plain_but_limited() {
            query.limit = None;
        }
        query.distinct = resolve::tree::Distinct::No;
    }
    flatten::flatten(&mut query);
    let correlated = refers_up(&query);
    let kind = match (exists, negated) {
        (_, false) => JoinType::Semi,
        (true, true) => JoinType::Anti,
        (false, true) => JoinType::NullAwareAnti,
    };
    if exists && !correlated {
        return None;
    }
    if kind == JoinType::NullAwareAnti && correlated {
        return None;
    }
    let offset = relations.len();
    if flatten::is_simple(&query) && !query.from.is_empty() && !relations_refer_up(&query) {
        query.order_by.clear();
        expr::rewrite_query(&mut query, 0, &mut flatten::Lift { offset });
        let mut group = Group::default();
        for mut item in std::mem::take(&mut query.from) {
            flatten::renumber(&mut item, offset);
            group.items.push(item);
        }
        relations.append(&mut query.relations);
        let mut parts = Vec::new();
        query.filter.take().into_iter().for_each(|filter| expr::conjuncts(filter, &mut parts));
        let (on, inside): (Vec<Expr>, Vec<Expr>) =
            parts.into_iter().partition(|part| own_relations(part).iter().any(|relation| *relation < offset));
        if kind == JoinType::NullAwareAnti && !on.is_empty() {
            return None;
        }
        extract_semis(relations, inside, &mut group);
        let mut on = on;
        for ((test, function), target) in tests.iter().zip(functions).zip(&query.targets) {
            on.push(comparison(function, test.clone(), target.expr.clone()));
        }
        return Some(SemiJoin { kind, group, on, pinned: exists || !correlated });
    }
    if correlated {
        return None;
    }
    let columns: Vec<OutputColumn> = query
        .targets
        .iter()
        .filter(|target| !target.hidden)
        .map(|target| OutputColumn { name: target.name.clone(), ty: target.expr.ty() })
        .collect();
    let mut on = Vec::new();
    for (i, (test, function)) in tests.iter().zip(functions).enumerate() {
        let column = Expr::Column { levels_up: 0, relation: offset, column: i, ty: columns[i].ty };
        on.push(comparison(function, test.clone(), column));
    }
    relations.push(Relation {
        kind: RelationKind::Subquery(Box::new(query)),
        name: String::from("subquery"),
        columns,
        lateral: false,
        check_as: None,
        selected: Vec::new(),
    });
    let group = Group { items: vec![FromItem::Relation(offset)], ..Group::default() };
    Some(SemiJoin { kind, group, on, pinned: true })
}

trait PlainButLimited {
    fn is_plain_but_limited(&self) -> bool;
}

impl PlainButLimited for Query {
    /// `EXISTS (... LIMIT 1)`: a constant limit above zero says nothing.
    fn is_plain_but_limited(&self) -> bool {
        self.offset.is_none()
            && matches!(&self.limit, Some(Expr::Const { value: Datum::Int8(count), .. }) if *count > 0)
    }
}

fn comparison(function: &'static function::Function, left: Expr, right: Expr) -> Expr {
    let ty = Type::new(oid::BOOL);
    Expr::Call(Box::new(Call { function, args: vec![left, right], ty, position: None, operator: Some("=") }))
}

fn refers_up(query: &Query) -> bool {
    let mut found = false;
    expr::visit_query(query, 0, &mut |node, level| match node {
        Expr::Column { levels_up, .. } | Expr::WholeRow { levels_up, .. } => found |= *levels_up > level,
        _ => {}
    });
    found
}

/// Whether something in FROM itself (a function's argument, a lateral subquery) looks outside.
fn relations_refer_up(query: &Query) -> bool {
    let mut only_relations = query.clone();
    only_relations.filter = None;
    only_relations.targets.clear();
    refers_up(&only_relations)
}

/// The relations of this query level that the expression reads, also from inside subqueries.
pub(crate) fn own_relations(expr: &Expr) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    expr::visit(expr, 0, &mut |node, level| match node {
        Expr::Column { levels_up, relation, .. } | Expr::WholeRow { levels_up, relation, .. }
            if *levels_up == level =>
        {
            found.insert(*relation);
        }
        Expr::RowId { relation } if level == 0 => {
            found.insert(*relation);
        }
        _ => {}
    });
    found
}

/// Relations of which a row of NULLs cannot satisfy the condition.
fn rejects_null(expr: &Expr) -> BTreeSet<usize> {
    fn strict_columns(expr: &Expr, out: &mut BTreeSet<usize>) {
        match expr {
            Expr::Column { levels_up: 0, relation, .. } => {
                out.insert(*relation);
            }
            Expr::Call(call) if call.function.strict => {
                call.args.iter().for_each(|arg| strict_columns(arg, out))
            }
            Expr::Convert(convert) if convert.kind != ConvertKind::InOut => {
                strict_columns(&convert.input, out)
            }
            _ => {}
        }
    }
    let mut out = BTreeSet::new();
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| out.extend(rejects_null(part))),
        Expr::Or(parts) => {
            let mut sets = parts.iter().map(rejects_null);
            if let Some(first) = sets.next() {
                out = sets.fold(first, |all, set| all.intersection(&set).copied().collect());
            }
        }
        Expr::Not(input) => match &**input {
            Expr::Call(_) | Expr::Column { .. } => strict_columns(input, &mut out),
            _ => {}
        },
        Expr::IsNull { input, negated: true } => strict_columns(input, &mut out),
        Expr::InList { left, negated: false, .. } | Expr::AnyArray { left, .. } => {
            strict_columns(left, &mut out)
        }
        other => strict_columns(other, &mut out),
    }
    out
}

enum Leaf {
    Relation(usize),
    Outer { kind: JoinType, left: FromItem, right: FromItem, on: Vec<Expr> },
}

fn relations_of(item: &FromItem, out: &mut BTreeSet<usize>) {
    match item {
        FromItem::Relation(relation) => {
            out.insert(*relation);
        }
        FromItem::Join(join) => {
            relations_of(&join.left, out);
            relations_of(&join.right, out);
        }
    }
}

/// Melts an item into leaves and conditions.
fn melt(item: FromItem, leaves: &mut Vec<Leaf>, conditions: &mut Vec<Expr>, rejecting: &BTreeSet<usize>) {
    let join = match item {
        FromItem::Relation(relation) => return leaves.push(Leaf::Relation(relation)),
        FromItem::Join(join) => *join,
    };
    let mut on = Vec::new();
    join.condition.into_iter().for_each(|condition| expr::conjuncts(condition, &mut on));
    let touches = |item: &FromItem| {
        let mut relations = BTreeSet::new();
        relations_of(item, &mut relations);
        !relations.is_disjoint(rejecting)
    };
    let (kind, left, right) = match join.kind {
        JoinKind::Inner => (JoinType::Inner, join.left, join.right),
        JoinKind::Left => (JoinType::Left, join.left, join.right),
        JoinKind::Right => (JoinType::Left, join.right, join.left),
        JoinKind::Full => match (touches(&join.left), touches(&join.right)) {
            (true, true) => (JoinType::Inner, join.left, join.right),
            (true, false) => (JoinType::Left, join.left, join.right),
            (false, true) => (JoinType::Left, join.right, join.left),
            (false, false) => (JoinType::Full, join.left, join.right),
        },
    };
    if kind == JoinType::Inner || kind == JoinType::Left && touches(&right) {
        // What its own condition rejects counts for the joins below it.
        let mut below = rejecting.clone();
        on.iter().for_each(|condition| below.extend(rejects_null(condition)));
        melt(left, leaves, conditions, &below);
        melt(right, leaves, conditions, &below);
        conditions.append(&mut on);
    } else {
        leaves.push(Leaf::Outer { kind, left, right, on });
    }
}

impl Planner<'_> {
    /// Plans a group. `order`: the order wanted of it, and whether it was delivered comes back.
    pub(crate) fn group(
        &mut self,
        relations: &[Relation],
        group: Group,
        order: Option<&WantedOrder>,
    ) -> Result<(Part, bool)> {
        let Group { items, mut conditions, semis } = group;
        if items.is_empty() {
            let layout = Vec::new();
            let condition = self.convert_all(expr::and(conditions), &layout)?;
            return Ok((Part { node: Node::once(condition), layout }, false));
        }
        let mut rejecting = BTreeSet::new();
        conditions.iter().for_each(|condition| rejecting.extend(rejects_null(condition)));
        let mut leaves = Vec::new();
        for item in items {
            melt(item, &mut leaves, &mut conditions, &rejecting);
        }
        let sets: Vec<BTreeSet<usize>> = leaves
            .iter()
            .map(|leaf| {
                let mut set = BTreeSet::new();
                match leaf {
                    Leaf::Relation(relation) => {
                        set.insert(*relation);
                    }
                    Leaf::Outer { left, right, .. } => {
                        relations_of(left, &mut set);
                        relations_of(right, &mut set);
                    }
                }
                set
            })
            .collect();
        let places = |expr: &Expr| -> Vec<usize> {
            let used = self.expanded_relations(expr);
            (0..sets.len()).filter(|place| !sets[*place].is_disjoint(&used)).collect()
        };
        let mut of_leaf: Vec<Vec<Expr>> = leaves.iter().map(|_| Vec::new()).collect();
        let (mut between, mut rest) = (Vec::new(), Vec::new());
        for condition in conditions {
            match &places(&condition)[..] {
                [] => rest.push(condition),
                _ if expr::is_volatile(&condition) => rest.push(condition),
                [one] => of_leaf[*one].push(condition),
                many => between.push((condition, many.to_vec())),
            }
        }
        let mut of_leaf_semis: Vec<Vec<SemiJoin>> = leaves.iter().map(|_| Vec::new()).collect();
        let mut top_semis = Vec::new();
        for semi in semis {
            let mut used: BTreeSet<usize> = BTreeSet::new();
            semi.on.iter().for_each(|condition| used.extend(places(condition)));
            match used.into_iter().collect::<Vec<_>>()[..] {
                [one] if semi.on.iter().all(|condition| !expr::has_sublink(condition)) => {
                    of_leaf_semis[one].push(semi)
                }
                _ => top_semis.push(semi),
            }
        }
        let alone = leaves.len() == 1 && of_leaf_semis[0].is_empty() && top_semis.is_empty();
        let mut ordered = false;
        let mut plans = Vec::new();
        for (((leaf, conditions), semis), set) in leaves.into_iter().zip(of_leaf).zip(of_leaf_semis).zip(sets)
        {
            let wanted = if alone { order } else { None };
            let mut plan = match leaf {
                Leaf::Relation(relation) => {
                    let (plan, delivered) = self.relation(relations, relation, conditions, wanted)?;
                    ordered = delivered;
                    plan
                }
                Leaf::Outer { kind, left, right, on } => {
                    let part = self.outer_join(relations, kind, left, right, on, conditions)?;
                    LeafPlan { part, relations: set, base: None, depends: BTreeSet::new() }
                }
            };
            for semi in semis {
                let part = self.apply_semi(relations, plan.part, semi)?;
                plan = LeafPlan { part, base: None, ..plan };
            }
            plans.push(plan);
        }
        let mut part = self.join_leaves(plans, between)?;
        for semi in top_semis {
            part = self.apply_semi(relations, part, semi)?;
        }
        if !rest.is_empty() {
            let share = estimate::selectivity_of(&rest, &|_| None);
            let predicate = self.convert_all(expr::and(rest), &part.layout)?;
            part.node = part.node.filter(predicate, share);
        }
        Ok((part, ordered))
    }

    /// The relations an expression reads, with join aliases replaced by what they stand for.
    pub(crate) fn expanded_relations(&self, expr: &Expr) -> BTreeSet<usize> {
        let mut out = BTreeSet::new();
        let Some(level) = self.levels.last() else { return out };
        expr::visit(expr, 0, &mut |node, depth| match node {
            Expr::Column { levels_up, relation, column, .. } if *levels_up == depth => {
                match level.join_columns.get(relation) {
                    Some(columns) => out.extend(self.expanded_relations(&columns[*column])),
                    None => {
                        out.insert(*relation);
                    }
                }
            }
            Expr::WholeRow { levels_up, relation, .. } if *levels_up == depth => {
                match level.join_columns.get(relation) {
                    Some(columns) => {
                        columns.iter().for_each(|column| out.extend(self.expanded_relations(column)))
                    }
                    None => {
                        out.insert(*relation);
                    }
                }
            }
            Expr::RowId { relation } if depth == 0 => {
                out.insert(*relation);
            }
            _ => {}
        });
        out
    }

    fn outer_join(
        &mut self,
        relations: &[Relation],
        kind: JoinType,
        left: FromItem,
        right: FromItem,
        on: Vec<Expr>,
        above: Vec<Expr>,
    ) -> Result<Part> {
        let (mut left_set, mut right_set) = (BTreeSet::new(), BTreeSet::new());
        relations_of(&left, &mut left_set);
        relations_of(&right, &mut right_set);
        let (mut left_conditions, mut after) = (Vec::new(), Vec::new());
        for condition in above {
            let only_left = self.expanded_relations(&condition).is_subset(&left_set);
            if kind == JoinType::Left && only_left {
                left_conditions.push(condition)
            } else {
                after.push(condition)
            }
        }
        let (mut right_conditions, mut join_conditions) = (Vec::new(), Vec::new());
        for condition in on {
            let used = self.expanded_relations(&condition);
            let only_right = !used.is_empty() && used.is_subset(&right_set) && !expr::is_volatile(&condition);
            if kind == JoinType::Left && only_right {
                right_conditions.push(condition)
            } else {
                join_conditions.push(condition)
            }
        }
        let left_group = Group { items: vec![left], conditions: left_conditions, semis: Vec::new() };
        let (left, _) = self.group(relations, left_group, None)?;
        let right = match right {
            FromItem::Relation(relation) => self.relation(relations, relation, right_conditions, None)?.0,
            item => {
                let group = Group { items: vec![item], conditions: right_conditions, semis: Vec::new() };
                let (part, _) = self.group(relations, group, None)?;
                LeafPlan { part, relations: right_set, base: None, depends: BTreeSet::new() }
            }
        };
        let mut part = self.join_pair(kind, left, right, join_conditions)?;
        if !after.is_empty() {
            let share = estimate::selectivity_of(&after, &|relation| self.base(relation));
            let predicate = self.convert_all(expr::and(after), &part.layout)?;
            part.node = part.node.filter(predicate, share);
        }
        Ok(part)
    }

    fn apply_semi(&mut self, relations: &[Relation], left: Part, semi: SemiJoin) -> Result<Part> {
        let SemiJoin { mut kind, group, on, pinned } = semi;
        if self.levels.last().is_some_and(|level| level.pinned) {
            match kind {
                // What was not there is pinned at not being there.
                JoinType::Anti => return Ok(left),
                JoinType::Semi if pinned => kind = JoinType::Inner,
                _ => {}
            }
        }
        let single = match (&group.items[..], group.semis.is_empty()) {
            ([FromItem::Relation(relation)], true) => Some(*relation),
            _ => None,
        };
        let right = match single {
            Some(relation) => self.relation(relations, relation, group.conditions, None)?.0,
            None => {
                let mut set = BTreeSet::new();
                group.items.iter().for_each(|item| relations_of(item, &mut set));
                let (part, _) = self.group(relations, group, None)?;
                LeafPlan { part, relations: set, base: None, depends: BTreeSet::new() }
            }
        };
        self.join_pair(kind, left, right, on)
    }

    /// What is known about a base table of the query.
    pub(crate) fn base(&self, relation: usize) -> Option<Base> {
        self.levels.last()?.bases.get(&relation).cloned()
    }

    /// Plans one relation of the range table under conditions on it alone.
    pub(crate) fn relation(
        &mut self,
        relations: &[Relation],
        number: usize,
        mut conditions: Vec<Expr>,
        order: Option<&WantedOrder>,
    ) -> Result<(LeafPlan, bool)> {
        let relation = &relations[number];
        let columns = self.needed(number);
        let with_row_id = self.carries_row_id(number);
        let mut layout: Vec<Item> =
            columns.iter().map(|column| Item::Column { relation: number, column: *column }).collect();
        if with_row_id {
            layout.push(Item::RowId { relation: number });
        }
        let types: Vec<Type> = layout.iter().map(|item| self.item_type(*item)).collect();
        if with_row_id && self.levels.last().is_some_and(|level| level.pinned) {
            if let RelationKind::Table(table) = &relation.kind {
                self.use_table(table, relation);
            }
            let kind = NodeKind::Pinned { relation: number, columns, row_id: true };
            let predicate = self.convert_all(expr::and(conditions), &layout)?;
            let node = Node::new(kind, types, 1.0, 0.0, cost::ROW).filter(predicate, 1.0);
            let (relations, depends) = (BTreeSet::from([number]), BTreeSet::new());
            return Ok((LeafPlan { part: Part { node, layout }, relations, base: None, depends }, false));
        }
        let mut base = None;
        let mut delivered = false;
        // Whole-output relations: planned, then narrowed to the needed columns.
        let narrow = |node: Node| {
            let exprs = columns
                .iter()
                .map(|column| Expr::Slot { index: *column, ty: node.types[*column] })
                .collect::<Vec<_>>();
            node.project(exprs)
        };
        let node = match &relation.kind {
            RelationKind::Table(table) => {
                self.use_table(table, relation);
                let known = self
                    .base(number)
                    .ok_or_else(|| value::Error::internal("a table relation without a table"))?;
                self.use_stored_keys(&known, &mut conditions)?;
                let (path, ordered) = access::best_path(&known, &conditions, &|r| self.base(r), order);
                delivered = ordered;
                let node = self.read(&known, &relation.name, &path, &conditions)?;
                base = Some((known, relation.name.clone(), conditions));
                node
            }
            RelationKind::System { schema, name, oid } => {
                let filter = self.convert_all(expr::and(conditions), &layout)?;
                let types = types[..columns.len()].to_vec();
                let kind = NodeKind::SystemScan { schema, name, oid: *oid, columns: columns.clone(), filter };
                Node::new(kind, types, 100.0, 0.0, 10.0)
            }
            RelationKind::Subquery(query) | RelationKind::View { query, .. } => {
                let node = narrow(self.query(query)?);
                let share = estimate::selectivity_of(&conditions, &|_| None);
                let predicate = self.convert_all(expr::and(conditions), &layout)?;
                node.filter(predicate, share)
            }
            RelationKind::Cte { levels_up, index } => {
                let node = narrow(self.cte(*levels_up, *index, &relation.columns)?);
                let share = estimate::selectivity_of(&conditions, &|_| None);
                let predicate = self.convert_all(expr::and(conditions), &layout)?;
                node.filter(predicate, share)
            }
            RelationKind::Values(rows) => {
                let mut converted = Vec::with_capacity(rows.len());
                for row in rows {
                    let row: Result<Vec<Expr>> =
                        row.iter().map(|expr| self.convert(expr.clone(), &[])).collect();
                    converted.push(row?);
                }
                let all_types = relation.columns.iter().map(|column| column.ty).collect();
                let count = converted.len() as f64;
                let node =
                    Node::new(NodeKind::Values { rows: converted }, all_types, count, 0.0, count * cost::ROW);
                let predicate = self.convert_all(expr::and(conditions), &layout)?;
                narrow(node).filter(predicate, 0.5)
            }
            RelationKind::Functions { calls, ordinality } => {
                let widths = calls.iter().map(|call| call.columns.len()).collect();
                let rows = calls.iter().map(|call| set_rows(&call.call)).fold(1.0, f64::max);
                let calls: Result<Vec<Expr>> =
                    calls.iter().map(|call| self.convert(call.call.clone(), &[])).collect();
                let all_types = relation.columns.iter().map(|column| column.ty).collect();
                let kind = NodeKind::FunctionScan { calls: calls?, widths, ordinality: *ordinality };
                let node = Node::new(kind, all_types, rows, 0.0, rows * cost::ROW);
                let predicate = self.convert_all(expr::and(conditions), &layout)?;
                narrow(node).filter(predicate, 0.33)
            }
            RelationKind::Join { .. } | RelationKind::Excluded => {
                return Err(value::Error::internal("a join alias stands in FROM as a relation"));
            }
        };
        let node = if with_row_id && base.is_none() { with_record(node, relation, &columns) } else { node };
        let depends = self.open_own_relations(&node);
        let set = BTreeSet::from([number]);
        Ok((LeafPlan { part: Part { node, layout }, relations: set, base, depends }, delivered))
    }

    /// Conditions that compute what an expression index stores become conditions on its stored key column; a partial
    /// index's predicate likewise.
    fn use_stored_keys(&mut self, base: &Base, conditions: &mut [Expr]) -> Result<()> {
        let names = self.context.names;
        let mut stored: Vec<(Expr, usize)> = Vec::new();
        let mut add = |text: &str, number: i16, table: &Arc<Table>, purpose: Purpose| -> Result<()> {
            let ast = resolve::parse_expression(text)?;
            let scope = ExprScope { table: Some(table), purpose };
            let mut resolved = resolve::resolve_expression(names, &ast, text, scope, None)?;
            struct Move(usize);
            impl Rewriter for Move {
                fn expr(&mut self, expr: &mut Expr, _level: usize) -> bool {
                    if let Expr::Column { relation, .. } = expr {
                        *relation = self.0;
                    }
                    true
                }
            }
            expr::rewrite(&mut resolved, 0, &mut Move(base.relation));
            stored.push((resolved, number as usize - 1));
            Ok(())
        };
        for index in &base.indexes {
            for IndexKey { column, expression, .. } in &index.keys {
                if let Some(text) = expression {
                    add(text, *column, &base.table, Purpose::IndexExpression)?;
                }
            }
            if let Some((column, text)) = &index.predicate {
                add(text, *column, &base.table, Purpose::IndexPredicate)?;
            }
        }
        if stored.is_empty() {
            return Ok(());
        }
        struct Replace<'a> {
            stored: &'a [(Expr, usize)],
            base: &'a Base,
        }
        impl Rewriter for Replace<'_> {
            fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
                if level > 0 {
                    return false;
                }
                for (pattern, column) in self.stored {
                    if expr::same(pattern, expr) {
                        let ty = self.base.table.columns[*column].ty();
                        *expr =
                            Expr::Column { levels_up: 0, relation: self.base.relation, column: *column, ty };
                        return false;
                    }
                }
                true
            }
        }
        for condition in conditions.iter_mut() {
            expr::rewrite(condition, 0, &mut Replace { stored: &stored, base });
        }
        Ok(())
    }

    /// The scan or index scan of a path, with what its bounds do not guarantee as its filter.
    pub(crate) fn read(
        &mut self,
        base: &Base,
        alias: &str,
        path: &Path,
        conditions: &[Expr],
    ) -> Result<Node> {
        let columns = {
            let mut columns = self.needed(base.relation);
            // Stored keys come into conditions only here.
            for condition in conditions {
                expr::visit(condition, 0, &mut |node, level| {
                    if let Expr::Column { levels_up, relation, column, .. } = node
                        && *levels_up == level
                        && *relation == base.relation
                        && !columns.contains(column)
                    {
                        columns.push(*column);
                    }
                });
            }
            columns
        };
        let wanted = self.needed(base.relation).len();
        let with_row_id = self.carries_row_id(base.relation);
        let mut layout: Vec<Item> =
            columns.iter().map(|column| Item::Column { relation: base.relation, column: *column }).collect();
        if with_row_id {
            layout.push(Item::RowId { relation: base.relation });
        }
        let types: Vec<Type> = layout.iter().map(|item| self.item_type(*item)).collect();
        let implied: &[usize] = path.index.as_ref().map_or(&[], |index| &index.implied);
        let rest: Vec<Expr> = conditions
            .iter()
            .enumerate()
            .filter(|(place, _)| !implied.contains(place))
            .map(|(_, condition)| condition.clone())
            .collect();
        let filter = self.convert_all(expr::and(rest), &layout)?;
        let (table, relation, alias) = (base.table.clone(), base.relation, alias.to_owned());
        let kind = match &path.index {
            None => NodeKind::Scan(Scan {
                table,
                relation,
                alias,
                columns: columns.clone(),
                row_id: with_row_id,
                filter,
            }),
            Some(IndexPath { index, equal, low, high, any, any_array, backward, .. }) => {
                let mut value = |expr: &Expr| self.convert(expr.clone(), &[]);
                let mut equal = equal.clone();
                for one in &mut equal {
                    one.value = value(&one.value)?;
                }
                let mut bound =
                    |bound: &Option<crate::ir::RangeBound>| -> Result<Option<crate::ir::RangeBound>> {
                        bound
                            .as_ref()
                            .map(|bound| {
                                Ok(crate::ir::RangeBound {
                                    value: value(&bound.value)?,
                                    inclusive: bound.inclusive,
                                })
                            })
                            .transpose()
                    };
                let (low, high) = (bound(low)?, bound(high)?);
                let any = any
                    .as_ref()
                    .map(|list| {
                        list.iter().map(|expr| self.convert(expr.clone(), &[])).collect::<Result<Vec<_>>>()
                    })
                    .transpose()?;
                let any_array =
                    any_array.as_ref().map(|array| self.convert(array.clone(), &[])).transpose()?;
                NodeKind::IndexScan(IndexScan {
                    table,
                    index: index.clone(),
                    relation,
                    alias,
                    columns: columns.clone(),
                    row_id: with_row_id,
                    equal,
                    low,
                    high,
                    any,
                    any_array,
                    backward: *backward,
                    filter,
                })
            }
        };
        let node = Node::new(kind, types.clone(), path.rows, path.startup_cost, path.cost);
        if columns.len() == wanted {
            return Ok(node);
        }
        // Drop the stored keys again: the layout of a relation is the same whichever path reads it.
        let mut exprs: Vec<Expr> = (0..wanted).map(|index| Expr::Slot { index, ty: types[index] }).collect();
        if with_row_id {
            let index = columns.len();
            exprs.push(Expr::Slot { index, ty: types[index] });
        }
        Ok(node.project(exprs))
    }

    /// Notes that the statement reads the table.
    fn use_table(&mut self, table: &Arc<Table>, relation: &Relation) {
        let used = self.table_use(table, relation.check_as);
        if relation.selected.is_empty() {
            used.select_any = true;
        }
        for column in &relation.selected {
            if !used.select.contains(column) {
                used.select.push(*column);
            }
        }
    }

    pub(crate) fn table_use(&mut self, table: &Arc<Table>, check_as: Option<value::Oid>) -> &mut TableUse {
        let place =
            self.tables.iter().position(|used| used.table.oid == table.oid && used.check_as == check_as);
        let place = place.unwrap_or_else(|| {
            self.tables.push(TableUse {
                table: table.clone(),
                lock: TableLock::AccessShare,
                check_as,
                select: Vec::new(),
                select_any: false,
                insert: Vec::new(),
                update: Vec::new(),
                delete: false,
            });
            self.tables.len() - 1
        });
        &mut self.tables[place]
    }

    /// A CTE's rows, by the way it was decided to run it.
    fn cte(&mut self, levels_up: usize, index: usize, columns: &[OutputColumn]) -> Result<Node> {
        let owner = self
            .levels
            .len()
            .checked_sub(levels_up + 1)
            .ok_or_else(|| value::Error::internal("a CTE of no query level"))?;
        let types: Vec<Type> = columns.iter().map(|column| column.ty).collect();
        match self.levels[owner].ctes[index].clone() {
            CteUse::Shared { index, rows } => {
                Ok(Node::new(NodeKind::CteScan { cte: index }, types, rows, 0.0, rows * cost::ROW))
            }
            CteUse::WorkTable { recursion, rows } => {
                Ok(Node::new(NodeKind::WorkTable { recursion }, types, rows, 0.0, rows * cost::ROW))
            }
            CteUse::Inline(cte) => {
                // It stands one level below its owner, wherever it is referenced.
                let deeper = self.levels.split_off(owner + 1);
                let node = self.cte_body(&cte, owner, index);
                self.levels.extend(deeper);
                node
            }
        }
    }

    /// Plans a CTE's query, as a child of the query that owns it (the innermost level right now).
    pub(crate) fn cte_body(&mut self, cte: &resolve::tree::Cte, owner: usize, index: usize) -> Result<Node> {
        let Some(recursive) = &cte.recursive else { return self.query(&cte.query) };
        let initial = self.query(&cte.query)?;
        let recursion = self.recursions;
        self.recursions += 1;
        let before = self.levels[owner].ctes.get(index).cloned();
        let work = CteUse::WorkTable { recursion, rows: initial.rows };
        match before {
            Some(_) => self.levels[owner].ctes[index] = work,
            None => self.levels[owner].ctes.push(work),
        }
        let arm = self.query(&recursive.recursive_arm);
        match before {
            Some(before) => self.levels[owner].ctes[index] = before,
            None => {
                self.levels[owner].ctes.pop();
            }
        }
        let arm = arm?;
        let types = initial.types.clone();
        let rows = initial.rows + arm.rows * 10.0;
        let (startup, total) = (initial.startup_cost, initial.total_cost + arm.total_cost * 10.0);
        let kind = NodeKind::RecursiveUnion {
            recursion,
            all: recursive.all,
            initial: Box::new(initial),
            recursive: Box::new(arm),
        };
        Ok(Node::new(kind, types, rows, startup, total))
    }
}

/// A guess of the rows a set-returning call yields: exact for `generate_series` over integer constants.
fn set_rows(call: &Expr) -> f64 {
    let Expr::SetCall(call) = call else { return 1.0 };
    let number = |expr: &Expr| match expr {
        Expr::Const { value: Datum::Int4(number), .. } => Some(f64::from(*number)),
        Expr::Const { value: Datum::Int8(number), .. } => Some(*number as f64),
        _ => None,
    };
    if call.function.name == "generate_series"
        && let (Some(start), Some(stop)) =
            (call.args.first().and_then(number), call.args.get(1).and_then(number))
    {
        let step = call.args.get(2).map_or(Some(1.0), number).unwrap_or(1.0);
        if step != 0.0 {
            return ((stop - start) / step).floor().max(0.0) + 1.0;
        }
    }
    call.function.rows
}

/// A relation that is no table with its whole row as a record behind its columns; what is not read is NULL in it.
fn with_record(node: Node, relation: &Relation, columns: &[usize]) -> Node {
    let slot = |index: usize| Expr::Slot { index, ty: node.types[index] };
    let fields = relation.columns.iter().enumerate().map(|(column, output)| {
        match columns.iter().position(|needed| *needed == column) {
            Some(index) => slot(index),
            None => Expr::Const { value: Datum::Null, ty: output.ty },
        }
    });
    let record = Expr::Row { fields: fields.collect(), ty: Type::new(oid::RECORD) };
    let exprs = (0..columns.len()).map(slot).chain([record]).collect();
    node.project(exprs)
}
