//! UNION, INTERSECT, EXCEPT. Arms are subqueries of the range table; all are brought to the types they share.

use sqlparser::ast;
use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};
use sqlparser::tokenizer::Location;
use value::types::oid;
use value::{Error, Oid, Result, SqlState, Type};

use crate::query::{Parts, outputs};
use crate::scope::{Clause, Resolver, query_start, start};
use crate::tree::{Expr, Query, RelationKind, SetKind, SetOperation, Target};

/// A set operation while its arms are resolved.
struct Tree {
    operation: SetOperation,
    types: Vec<Type>,
}

impl Resolver<'_> {
    pub(crate) fn set_operation(&mut self, parts: &Parts<'_>, resolve_unknown: bool) -> Result<Query> {
        let mut arms: Vec<Option<Query>> = Vec::new();
        let tree = self.set_tree(parts.body, &mut arms)?;
        let mut types = tree.types;
        for ty in &mut types {
            if ty.oid == oid::UNKNOWN && (resolve_unknown || arms.len() > 1) {
                *ty = Type::new(oid::TEXT);
            }
        }
        let names: Vec<String> = match arms.first() {
            Some(Some(first)) => outputs(first).into_iter().map(|column| column.name).collect(),
            _ => Vec::new(),
        };
        for arm in arms.into_iter().flatten() {
            let arm = self.coerce_outputs(arm, &types)?;
            let columns = outputs(&arm);
            let selected = (0..columns.len()).collect();
            let number = self.here().relations.len() + 1;
            let relation = self.add_relation(
                RelationKind::Subquery(Box::new(arm)),
                format!("*SELECT* {number}"),
                columns,
            );
            self.top().relations[relation].selected = selected;
        }
        let mut targets: Vec<Target> = names
            .into_iter()
            .zip(&types)
            .enumerate()
            .map(|(column, (name, ty))| Target {
                expr: Expr::Column { levels_up: 0, relation: 0, column, ty: *ty },
                name,
                hidden: false,
            })
            .collect();
        if needs_equality(&tree.operation) {
            for target in &targets {
                self.comparable(&target.expr)?;
            }
        }
        for item in parts.order_by {
            if self.named_target(&item.expr, Clause::OrderBy, &targets)?.is_none() {
                if let ast::Expr::Identifier(ident) = &item.expr {
                    // Not an output: PostgreSQL says the column does not exist.
                    self.column(ident)?;
                }
                return Err(self
                    .error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        start(&item.expr),
                    )
                    .detail("Only result column names can be used, not expressions or functions.")
                    .hint(
                        "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                    ));
            }
        }
        let order_by = self.order_by(parts.order_by, &mut targets)?;
        let (limit, offset, with_ties) = self.limit(parts)?;
        if with_ties && order_by.is_empty() {
            return Err(
                self.syntax("WITH TIES cannot be specified without ORDER BY clause", Location::empty())
            );
        }
        if !parts.locks.is_empty() {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT",
            ));
        }
        let mut query = self.close();
        query.set_operation = Some(tree.operation);
        query.targets = targets;
        query.order_by = order_by;
        query.limit = limit;
        query.offset = offset;
        query.with_ties = with_ties;
        Ok(query)
    }

    fn set_tree(&mut self, body: &SetExpr, arms: &mut Vec<Option<Query>>) -> Result<Tree> {
        crate::parse::level(|| {
            // Down the left spine with a loop: a UNION of thousands of arms is as deep as it is long.
            let mut pending = Vec::new();
            let mut next = body;
            while let SetExpr::SetOperation { left, op, set_quantifier, right } = next {
                pending.push((*op, *set_quantifier, &**right));
                next = left;
            }
            let mut tree = self.set_leaf(next, arms)?;
            while let Some((op, quantifier, right)) = pending.pop() {
                let place = body_start(right);
                let arm = right;
                let right = match right {
                    SetExpr::SetOperation { .. } => self.set_tree(right, arms)?,
                    leaf => self.set_leaf(leaf, arms)?,
                };
                let (kind, name) = match op {
                    SetOperator::Union => (SetKind::Union, "UNION"),
                    SetOperator::Intersect => (SetKind::Intersect, "INTERSECT"),
                    SetOperator::Except | SetOperator::Minus => (SetKind::Except, "EXCEPT"),
                };
                let all = match quantifier {
                    SetQuantifier::All => true,
                    SetQuantifier::Distinct | SetQuantifier::None => false,
                    SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => {
                        return Err(self.syntax_at("BY", place));
                    }
                };
                if tree.types.len() != right.types.len() {
                    return Err(
                        self.syntax(format!("each {name} query must have the same number of columns"), place)
                    );
                }
                let mut types = Vec::with_capacity(tree.types.len());
                for (at, (a, b)) in tree.types.iter().zip(&right.types).enumerate() {
                    types.push(self.set_type(*a, *b, name, column_place(arm, at).unwrap_or(place))?);
                }
                tree = Tree {
                    operation: SetOperation::Node {
                        kind,
                        all,
                        left: Box::new(tree.operation),
                        right: Box::new(right.operation),
                    },
                    types,
                };
            }
            Ok(tree)
        })
    }

    fn set_type(&self, a: Type, b: Type, name: &str, place: Location) -> Result<Type> {
        if a.oid == oid::UNKNOWN && b.oid == oid::UNKNOWN {
            return Ok(Type::new(oid::UNKNOWN));
        }
        if a == b {
            return Ok(a);
        }
        let oids: [Oid; 2] = [a.oid, b.oid];
        let common = self.locate(function::select_common_type(&oids, name), place)?;
        Ok(Type::new(common))
    }

    fn set_leaf(&mut self, body: &SetExpr, arms: &mut Vec<Option<Query>>) -> Result<Tree> {
        if let SetExpr::Query(inner) = body
            && let SetExpr::SetOperation { .. } = &*inner.body
            && inner.with.is_none()
            && inner.order_by.is_none()
            && inner.limit_clause.is_none()
            && inner.fetch.is_none()
            && inner.locks.is_empty()
        {
            return self.set_tree(&inner.body, arms);
        }
        let arm = match body {
            SetExpr::Query(inner) => self.query_of(inner, false)?,
            leaf => {
                let parts = Parts {
                    with: None,
                    body: leaf,
                    order_by: &[],
                    limit: None,
                    offset: None,
                    fetch: None,
                    locks: &[],
                };
                self.arm(&parts)?
            }
        };
        let types = outputs(&arm).iter().map(|column| column.ty).collect();
        arms.push(Some(arm));
        Ok(Tree { operation: SetOperation::Leaf(arms.len() - 1), types })
    }
}

/// Where the expression of an arm's column stands, when no star hides it.
fn column_place(arm: &SetExpr, at: usize) -> Option<Location> {
    match arm {
        SetExpr::Select(select) => {
            let mut places = Vec::with_capacity(at + 1);
            for item in select.projection.iter().take(at + 1) {
                match item {
                    ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
                        places.push(start(expr));
                    }
                    _ => return None,
                }
            }
            places.pop()
        }
        SetExpr::Values(values) => values.rows.first().and_then(|row| row.content.get(at)).map(start),
        SetExpr::Query(inner) => column_place(&inner.body, at),
        _ => None,
    }
}

fn needs_equality(operation: &SetOperation) -> bool {
    let mut stack = vec![operation];
    while let Some(node) = stack.pop() {
        if let SetOperation::Node { kind, all, left, right } = node {
            if !(*all && *kind == SetKind::Union) {
                return true;
            }
            stack.push(left);
            stack.push(right);
        }
    }
    false
}

fn body_start(body: &SetExpr) -> Location {
    let mut body = body;
    loop {
        body = match body {
            SetExpr::Select(select) => return select.select_token.0.span.start,
            SetExpr::Query(query) => return query_start(query),
            SetExpr::SetOperation { left, .. } => left,
            SetExpr::Values(values) => {
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
