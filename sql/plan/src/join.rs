//! The order of joins and how each is done.
//!
//! Up to ten leaves: dynamic programming over sets of leaves (Selinger), bushy trees allowed, cross products only where
//! nothing else connects. More: greedily the pair that yields the fewest rows (GOO). The tree decides only the order;
//! [`Planner::join_pair`] then picks hash join, index nested loop or plain nested loop by cost.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use function::Strategy;
use resolve::tree::Expr;
use value::{Error, Result, SqlState, types::oid};

use crate::access::{self, Path};
use crate::estimate::{self, Base, cost};
use crate::expr::{self, Rewriter};
use crate::ir::{HashJoin, JoinType, NestedLoop, Node, NodeKind};
use crate::{Item, Part, Planner, operator};

/// Leaves that are ordered by dynamic programming at most.
const EXHAUSTIVE: usize = 10;

/// A planned leaf of the join graph.
pub(crate) struct LeafPlan {
    pub part: Part,
    pub relations: BTreeSet<usize>,
    /// Set for a base table: it can also be reached through an index from the other side of a join.
    pub base: Option<(Base, String, Vec<Expr>)>,
    /// Relations of the same query whose values it needs (LATERAL).
    pub depends: BTreeSet<usize>,
}

/// A way through an index from the rows of the other side.
struct Probe {
    path: Path,
    conditions: Vec<Expr>,
}

enum Tree {
    Leaf(usize),
    Join(Rc<Tree>, Rc<Tree>),
}

#[derive(Clone)]
struct Candidate {
    tree: Rc<Tree>,
    mask: u128,
    cost: f64,
    rows: f64,
}

impl Planner<'_> {
    /// Joins all leaves by inner joins under the conditions (each with the leaves it touches).
    pub(crate) fn join_leaves(
        &mut self,
        leaves: Vec<LeafPlan>,
        between: Vec<(Expr, Vec<usize>)>,
    ) -> Result<Part> {
        let count = leaves.len();
        if count > 128 {
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, "too many relations in one FROM clause")
                .hint("Split the query with materialized CTEs; 128 relations can be joined in one FROM."));
        }
        let conditions: Vec<(Expr, u128)> = between
            .into_iter()
            .map(|(expr, places)| (expr, places.into_iter().fold(0, |mask, place| mask | 1u128 << place)))
            .collect();
        let shares: Vec<f64> = conditions
            .iter()
            .map(|(condition, _)| estimate::selectivity(condition, &|relation| self.base(relation)))
            .collect();
        let mut graph =
            JoinGraph { leaves: &leaves, conditions: &conditions, shares: &shares, probes: HashMap::new() };
        let order = if count <= EXHAUSTIVE { graph.exhaustive(self)? } else { graph.greedy(self)? };
        let mut slots: Vec<Option<LeafPlan>> = leaves.into_iter().map(Some).collect();
        let mut pending: Vec<Option<(Expr, u128)>> = conditions.into_iter().map(Some).collect();
        let (plan, _) = self.build(&order, &mut slots, &mut pending)?;
        Ok(plan.part)
    }

    fn build(
        &mut self,
        tree: &Tree,
        leaves: &mut [Option<LeafPlan>],
        pending: &mut [Option<(Expr, u128)>],
    ) -> Result<(LeafPlan, u128)> {
        match tree {
            Tree::Leaf(place) => {
                let leaf = leaves[*place].take().ok_or_else(|| Error::internal("a leaf joined twice"))?;
                Ok((leaf, 1u128 << place))
            }
            Tree::Join(left, right) => {
                let (left, left_mask) = self.build(left, leaves, pending)?;
                let (right, right_mask) = self.build(right, leaves, pending)?;
                let mask = left_mask | right_mask;
                let mut on = Vec::new();
                for slot in pending.iter_mut() {
                    if slot.as_ref().is_some_and(|(_, needs)| needs & !mask == 0)
                        && let Some((condition, _)) = slot.take()
                    {
                        on.push(condition);
                    }
                }
                let relations = left.relations.union(&right.relations).copied().collect();
                let depends: BTreeSet<usize> = left
                    .depends
                    .union(&right.depends)
                    .filter(|relation| !left.relations.contains(relation))
                    .copied()
                    .collect();
                let part = self.join_pair(JoinType::Inner, left.part, right, on)?;
                Ok((LeafPlan { part, relations, base: None, depends }, mask))
            }
        }
    }

    /// Joins two sides, by the cheapest method that can do it.
    pub(crate) fn join_pair(
        &mut self,
        kind: JoinType,
        left: Part,
        right: LeafPlan,
        on: Vec<Expr>,
    ) -> Result<Part> {
        let bases = |planner: &Self, relation: usize| planner.base(relation);
        let share = estimate::selectivity_of(&on, &|relation| bases(self, relation));
        let (left_rows, right_rows) = (left.node.rows, right.part.node.rows);
        let matches = left_rows * right_rows * share;
        let rows = match kind {
            JoinType::Inner => matches,
            JoinType::Left => matches.max(left_rows),
            JoinType::Right => matches.max(right_rows),
            JoinType::Full => matches.max(left_rows).max(right_rows),
            JoinType::Semi => left_rows * (right_rows * share).min(1.0),
            JoinType::Anti | JoinType::NullAwareAnti => left_rows * (1.0 - (right_rows * share).min(0.9)),
        }
        .max(1.0);
        let lateral = !right.depends.is_empty();
        let (keys, residual) =
            if lateral { (Vec::new(), on.clone()) } else { self.split_keys(&on, &right.relations) };
        let one_pass = !matches!(kind, JoinType::Right | JoinType::Full | JoinType::NullAwareAnti);
        let probe = if one_pass && !lateral { self.probe(&right, &on) } else { None };
        let hash_cost = left.node.total_cost
            + right.part.node.total_cost
            + right_rows * cost::HASH_BUILD
            + left_rows * cost::HASH_PROBE
            + rows * cost::ROW;
        let probe_cost = probe.as_ref().map(|probe| {
            left.node.total_cost + left_rows * (probe.path.cost + 2.0 * cost::ROW) + rows * cost::ROW
        });
        let swap = kind == JoinType::Inner
            && probe_cost.is_none_or(|price| price > hash_cost)
            && right_rows > left_rows;
        if let (Some(probe), Some(price)) = (probe, probe_cost)
            && (keys.is_empty() || price < hash_cost)
            && let Some((base, alias, _)) = &right.base
        {
            let node = self.read(base, alias, &probe.path, &probe.conditions)?;
            let right = Part { node, layout: right.part.layout };
            return self.nested_loop(kind, left, right, Vec::new(), rows, price);
        }
        if lateral || keys.is_empty() && kind != JoinType::NullAwareAnti {
            let price = left.node.total_cost
                + right.part.node.total_cost * if lateral { left_rows } else { 1.0 }
                + left_rows * right_rows * cost::OPERATOR;
            // The smaller side is the one kept in memory.
            if kind == JoinType::Inner
                && !lateral
                && right_rows > left_rows
                && self.open_own(&left.node).is_empty()
            {
                return self.nested_loop(kind, right.part, left, residual, rows, price);
            }
            return self.nested_loop(kind, left, right.part, residual, rows, price);
        }
        if kind == JoinType::NullAwareAnti && (keys.len() != 1 || !residual.is_empty()) {
            return Err(Error::internal("NOT IN became a join without its key"));
        }
        let right_side = right.part;
        let (left, right, keys) = if swap && self.open_own(&left.node).is_empty() {
            (right_side, left, keys.into_iter().map(|(a, b)| (b, a)).collect())
        } else {
            (left, right_side, keys)
        };
        let mut converted = Vec::with_capacity(keys.len());
        for (a, b) in keys {
            converted.push((self.convert(a, &left.layout)?, self.convert(b, &right.layout)?));
        }
        let mut both = left.layout.clone();
        both.extend(&right.layout);
        let condition = self.convert_all(expr::and(residual), &both)?;
        let wide = is_wide(kind, &right.layout);
        let layout = if one_sided(kind, wide) { left.layout.clone() } else { both };
        let types = layout.iter().map(|item| self.item_type(*item)).collect();
        let startup = right.node.total_cost + right.node.rows * cost::HASH_BUILD + left.node.startup_cost;
        let join = HashJoin { kind, left: left.node, right: right.node, keys: converted, condition, wide };
        let node = Node::new(NodeKind::HashJoin(Box::new(join)), types, rows, startup, hash_cost);
        Ok(Part { node, layout })
    }

    fn nested_loop(
        &mut self,
        kind: JoinType,
        left: Part,
        right: Part,
        on: Vec<Expr>,
        rows: f64,
        price: f64,
    ) -> Result<Part> {
        let mut bindings = Vec::new();
        for parameter in self.open_own(&right.node) {
            let item = self.outers[parameter].item;
            let Some(index) = left.layout.iter().position(|other| *other == item) else { continue };
            bindings.push((parameter, Expr::Slot { index, ty: self.item_type(item) }));
        }
        let mut both = left.layout.clone();
        both.extend(&right.layout);
        let condition = self.convert_all(expr::and(on), &both)?;
        let wide = is_wide(kind, &right.layout);
        let layout = if one_sided(kind, wide) { left.layout } else { both };
        let types = layout.iter().map(|item| self.item_type(*item)).collect();
        let startup = left.node.startup_cost + right.node.startup_cost;
        let join = NestedLoop { kind, left: left.node, right: right.node, bindings, condition, wide };
        Ok(Part {
            node: Node::new(NodeKind::NestedLoop(Box::new(join)), types, rows, startup, price),
            layout,
        })
    }

    /// Equalities between one expression of each side become hash keys (of one type); the rest stays a condition.
    fn split_keys(&self, on: &[Expr], right: &BTreeSet<usize>) -> (Vec<(Expr, Expr)>, Vec<Expr>) {
        let (mut keys, mut residual) = (Vec::new(), Vec::new());
        for condition in on {
            match self.key_pair(condition, right) {
                Some(pair) => keys.push(pair),
                None => residual.push(condition.clone()),
            }
        }
        (keys, residual)
    }

    fn key_pair(&self, condition: &Expr, right: &BTreeSet<usize>) -> Option<(Expr, Expr)> {
        let (function, a, b) = operator::comparison(condition)?;
        if operator::strategy(function) != Some(Strategy::Eq)
            || expr::is_volatile(condition)
            || expr::has_sublink(condition)
        {
            return None;
        }
        let (in_a, in_b) = (self.expanded_relations(a), self.expanded_relations(b));
        if in_a.is_empty() || in_b.is_empty() {
            return None;
        }
        let (left_side, right_side) = if in_b.is_subset(right) && in_a.is_disjoint(right) {
            (a, b)
        } else if in_a.is_subset(right) && in_b.is_disjoint(right) {
            (b, a)
        } else {
            return None;
        };
        let (left_type, right_type) = (left_side.ty(), right_side.ty());
        let same_form = left_type.oid == right_type.oid
            || matches!(
                (left_type.oid, right_type.oid),
                (oid::TEXT, oid::VARCHAR) | (oid::VARCHAR, oid::TEXT)
            );
        if left_type.oid == oid::BPCHAR || right_type.oid == oid::BPCHAR {
            // Equal when equal without trailing blanks: the cast to text drops them.
            let text = value::Type::new(oid::TEXT);
            return Some((
                access::convert(left_side.clone(), text)?,
                access::convert(right_side.clone(), text)?,
            ));
        }
        if same_form {
            return Some((left_side.clone(), right_side.clone()));
        }
        // Integers of different widths meet in the wider; other mixtures stay conditions.
        let width = |type_oid| match type_oid {
            oid::INT2 => Some(2),
            oid::INT4 => Some(4),
            oid::INT8 => Some(8),
            _ => None,
        };
        let wider = if width(left_type.oid)? > width(right_type.oid)? { left_type } else { right_type };
        let wider = value::Type::new(wider.oid);
        Some((access::convert(left_side.clone(), wider)?, access::convert(right_side.clone(), wider)?))
    }

    /// The index path into a base table when the join conditions, with the other side's columns as parameters, bound it.
    fn probe(&mut self, right: &LeafPlan, on: &[Expr]) -> Option<Probe> {
        let (base, _, own) = right.base.as_ref()?;
        if on.is_empty()
            || on.iter().any(|condition| expr::has_sublink(condition) || expr::is_volatile(condition))
        {
            return None;
        }
        let mut conditions = own.clone();
        for condition in on {
            let mut condition = condition.clone();
            self.parameterise(&mut condition, &right.relations);
            conditions.push(condition);
        }
        let (path, _) = access::best_path(base, &conditions, &|relation| self.base(relation), None);
        let index = path.index.as_ref()?;
        // Only worth it when a bound comes from the other side.
        let from_other_side = index.implied.iter().any(|place| *place >= own.len())
            || index.low.iter().chain(&index.high).any(|bound| matches!(bound.value, Expr::Outer { .. }));
        from_other_side.then_some(Probe { path, conditions })
    }

    /// Replaces columns of relations not in `keep` by parameters of this level.
    fn parameterise(&mut self, expr: &mut Expr, keep: &BTreeSet<usize>) {
        struct Swap<'s, 'p, 'c> {
            planner: &'s mut Planner<'c>,
            keep: &'p BTreeSet<usize>,
        }
        impl Rewriter for Swap<'_, '_, '_> {
            fn expr(&mut self, expr: &mut Expr, level: usize) -> bool {
                if let Expr::Column { levels_up: 0, relation, column, ty } = expr
                    && level == 0
                {
                    let joined = self
                        .planner
                        .levels
                        .last()
                        .and_then(|level| level.join_columns.get(relation))
                        .map(|columns| columns[*column].clone());
                    if let Some(mut replacement) = joined {
                        expr::rewrite(&mut replacement, 0, self);
                        *expr = replacement;
                        return false;
                    }
                    if !self.keep.contains(relation) {
                        let item = Item::Column { relation: *relation, column: *column };
                        let index = self.planner.outer(item);
                        *expr = Expr::Outer { index, ty: *ty };
                    }
                }
                true
            }
        }
        expr::rewrite(expr, 0, &mut Swap { planner: self, keep });
    }
}

struct JoinGraph<'g> {
    leaves: &'g [LeafPlan],
    conditions: &'g [(Expr, u128)],
    shares: &'g [f64],
    /// Cost of one probe into leaf by the conditions that become usable together (by their places).
    probes: HashMap<(usize, Vec<usize>), Option<f64>>,
}

impl JoinGraph<'_> {
    fn leaf(&self, place: usize) -> Candidate {
        let node = &self.leaves[place].part.node;
        Candidate {
            tree: Rc::new(Tree::Leaf(place)),
            mask: 1 << place,
            cost: node.total_cost,
            rows: node.rows,
        }
    }

    fn rows(&self, mask: u128) -> f64 {
        let mut rows = 1.0;
        for (place, leaf) in self.leaves.iter().enumerate() {
            if mask & (1 << place) != 0 {
                rows *= leaf.part.node.rows;
            }
        }
        for ((_, needs), share) in self.conditions.iter().zip(self.shares) {
            if needs & !mask == 0 {
                rows *= share;
            }
        }
        rows.max(1.0)
    }

    /// Conditions that become usable when the two sides meet.
    fn connecting(&self, left: u128, right: u128) -> Vec<usize> {
        let both = left | right;
        (0..self.conditions.len())
            .filter(|place| {
                let needs = self.conditions[*place].1;
                needs & !both == 0 && needs & left != 0 && needs & right != 0
            })
            .collect()
    }

    /// Whether the right side may come after the left: what it depends on is there already.
    fn allowed(&self, left: u128, right: u128) -> bool {
        let provides = |mask: u128, relation: &usize| {
            self.leaves
                .iter()
                .enumerate()
                .any(|(place, leaf)| mask & (1 << place) != 0 && leaf.relations.contains(relation))
        };
        let needs = |mask: u128| {
            self.leaves
                .iter()
                .enumerate()
                .filter(move |(place, _)| mask & (1 << place) != 0)
                .flat_map(|(_, leaf)| leaf.depends.iter())
        };
        // The left side stands alone; the right may look at the left.
        needs(left).all(|relation| provides(left, relation))
            && needs(right).all(|relation| provides(left, relation) || provides(right, relation))
    }

    fn depends(&self, left: u128, right: u128) -> bool {
        self.leaves.iter().enumerate().any(|(place, leaf)| {
            right & (1 << place) != 0
                && leaf.depends.iter().any(|relation| {
                    self.leaves
                        .iter()
                        .enumerate()
                        .any(|(other, leaf)| left & (1 << other) != 0 && leaf.relations.contains(relation))
                })
        })
    }

    fn pair(
        &mut self,
        planner: &mut Planner<'_>,
        left: &Candidate,
        right: &Candidate,
        cross: bool,
    ) -> Option<Candidate> {
        if !self.allowed(left.mask, right.mask) {
            return None;
        }
        let conditions = self.connecting(left.mask, right.mask);
        let lateral = self.depends(left.mask, right.mask);
        if conditions.is_empty() && !lateral && !cross {
            return None;
        }
        let mask = left.mask | right.mask;
        let rows = self.rows(mask);
        let equality = conditions.iter().any(|place| {
            operator::comparison(&self.conditions[*place].0)
                .is_some_and(|(function, _, _)| operator::strategy(function) == Some(Strategy::Eq))
        });
        let mut price = if lateral {
            left.cost + left.rows * right.cost
        } else if equality {
            left.cost + right.cost + right.rows * cost::HASH_BUILD + left.rows * cost::HASH_PROBE
        } else {
            left.cost + right.cost + left.rows * right.rows * cost::OPERATOR
        };
        if let Tree::Leaf(place) = &*right.tree
            && !conditions.is_empty()
            && !lateral
        {
            let key = (*place, conditions);
            let probe = match self.probes.get(&key) {
                Some(known) => *known,
                None => {
                    let on: Vec<Expr> = key.1.iter().map(|place| self.conditions[*place].0.clone()).collect();
                    let probe = planner.probe(&self.leaves[*place], &on).map(|probe| probe.path.cost);
                    self.probes.insert(key, probe);
                    probe
                }
            };
            if let Some(each) = probe {
                price = price.min(left.cost + left.rows * (each + 2.0 * cost::ROW));
            }
        }
        let tree = Rc::new(Tree::Join(left.tree.clone(), right.tree.clone()));
        Some(Candidate { tree, mask, cost: price + rows * cost::ROW, rows })
    }

    fn exhaustive(&mut self, planner: &mut Planner<'_>) -> Result<Rc<Tree>> {
        let count = self.leaves.len();
        let full: u128 = (1 << count) - 1;
        for cross in [false, true] {
            let mut best: HashMap<u128, Candidate> =
                (0..count).map(|place| (1 << place, self.leaf(place))).collect();
            for mask in 1..=full {
                if mask.count_ones() < 2 {
                    continue;
                }
                let mut part = (mask - 1) & mask;
                let mut found: Option<Candidate> = None;
                while part > 0 {
                    if let (Some(left), Some(right)) = (best.get(&part), best.get(&(mask & !part))) {
                        let (left, right) = (left.clone(), right.clone());
                        if let Some(candidate) = self.pair(planner, &left, &right, cross)
                            && found.as_ref().is_none_or(|best| candidate.cost < best.cost)
                        {
                            found = Some(candidate);
                        }
                    }
                    part = (part - 1) & mask;
                }
                if let Some(found) = found {
                    best.insert(mask, found);
                }
            }
            if let Some(found) = best.remove(&full) {
                return Ok(found.tree);
            }
        }
        Err(Error::internal("no join order satisfies the lateral references"))
    }

    fn greedy(&mut self, planner: &mut Planner<'_>) -> Result<Rc<Tree>> {
        let mut parts: Vec<Candidate> = (0..self.leaves.len()).map(|place| self.leaf(place)).collect();
        while parts.len() > 1 {
            let mut found: Option<(usize, usize, Candidate)> = None;
            for cross in [false, true] {
                for i in 0..parts.len() {
                    for j in 0..parts.len() {
                        if i == j {
                            continue;
                        }
                        let (left, right) = (parts[i].clone(), parts[j].clone());
                        if let Some(candidate) = self.pair(planner, &left, &right, cross)
                            && found.as_ref().is_none_or(|(_, _, best)| {
                                (candidate.rows, candidate.cost) < (best.rows, best.cost)
                            })
                        {
                            found = Some((i, j, candidate));
                        }
                    }
                }
                if found.is_some() {
                    break;
                }
            }
            let Some((i, j, candidate)) = found else {
                return Err(Error::internal("no join order satisfies the lateral references"));
            };
            parts.remove(i.max(j));
            parts.remove(i.min(j));
            parts.push(candidate);
        }
        parts.pop().map(|last| last.tree).ok_or_else(|| Error::internal("nothing to join"))
    }
}

impl Item {
    pub(crate) fn relation(self) -> usize {
        match self {
            Item::Column { relation, .. } | Item::RowId { relation } => relation,
        }
    }
}

/// A semi join whose right side carries what a re-check pins.
fn is_wide(kind: JoinType, right: &[Item]) -> bool {
    kind == JoinType::Semi && right.iter().any(|item| matches!(item, Item::RowId { .. }))
}

/// Whether a join yields the left slots only.
fn one_sided(kind: JoinType, wide: bool) -> bool {
    matches!(kind, JoinType::Semi | JoinType::Anti | JoinType::NullAwareAnti) && !wide
}
