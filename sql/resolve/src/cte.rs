//! WITH.

use std::ops::ControlFlow;

use sqlparser::ast::{self, CteAsMaterialized, SetExpr, SetOperator, SetQuantifier};
use sqlparser::tokenizer::Location;
use value::types::format_type;
use value::{Error, Oid, Result, SqlState, Type};

use crate::names::{identifier, missing};
use crate::query::{Parts, outputs};
use crate::scope::{CteEntry, Resolver};
use crate::tree::{Cte, OutputColumn, Query, RecursiveCte, RelationKind};

impl Resolver<'_> {
    /// Resolves the queries of a WITH clause; they become visible one after the other.
    pub fn with(&mut self, with: &ast::With) -> Result<()> {
        for cte in &with.cte_tables {
            let name = identifier(&cte.alias.name);
            let place = cte.alias.name.span.start;
            if self.here().ctes.iter().any(|entry| entry.cte.name == name) {
                return Err(self.error(
                    SqlState::DUPLICATE_ALIAS,
                    format!("WITH query name \"{name}\" specified more than once"),
                    place,
                ));
            }
            let materialized = match cte.materialized {
                Some(CteAsMaterialized::Materialized) => Some(true),
                Some(CteAsMaterialized::NotMaterialized) => Some(false),
                None => None,
            };
            if with.recursive && mentions(&cte.query, &name) {
                self.recursive_cte(cte, name, materialized, place)?;
                continue;
            }
            let changes = matches!(
                &*cte.query.body,
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
            );
            if changes && self.levels.len() > 1 {
                return Err(self.error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "WITH clause containing a data-modifying statement must be at the top level",
                    place,
                ));
            }
            let query = self.subquery(&cte.query)?;
            let mut columns = outputs(&query);
            self.name_columns(&name, &mut columns, &cte.alias)?;
            let readable =
                !changes || query.modify.as_ref().is_some_and(|modify| !modify.returning.is_empty());
            self.top().ctes.push(CteEntry {
                cte: Cte {
                    name,
                    query: Box::new(query),
                    recursive: None,
                    materialized,
                    columns,
                    references: 0,
                },
                open: false,
                readable,
                visible: true,
            });
        }
        Ok(())
    }

    fn name_columns(&self, name: &str, columns: &mut [OutputColumn], alias: &ast::TableAlias) -> Result<()> {
        if alias.columns.len() > columns.len() {
            return Err(self.error(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!(
                    "WITH query \"{name}\" has {} columns available but {} columns specified",
                    columns.len(),
                    alias.columns.len()
                ),
                alias.name.span.start,
            ));
        }
        for (column, alias) in columns.iter_mut().zip(&alias.columns) {
            column.name = identifier(&alias.name);
        }
        Ok(())
    }

    /// `name AS (start UNION [ALL] step)`, where the step reads `name`.
    fn recursive_cte(
        &mut self,
        cte: &ast::Cte,
        name: String,
        materialized: Option<bool>,
        place: Location,
    ) -> Result<()> {
        let recursion =
            |this: &Self, message: String| this.error(SqlState::INVALID_RECURSION, message, place);
        let mut query = &*cte.query;
        while let SetExpr::Query(inner) = &*query.body {
            query = inner;
        }
        let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } = &*query.body
        else {
            return Err(recursion(
                self,
                format!(
                    "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
                ),
            ));
        };
        for (present, what) in [
            (query.order_by.is_some(), "ORDER BY"),
            (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT"),
            (!query.locks.is_empty(), "FOR UPDATE/SHARE"),
        ] {
            if present {
                return Err(self.error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("{what} in a recursive query is not implemented"),
                    place,
                ));
            }
        }
        if query.with.is_some() {
            return Err(self
                .error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "WITH inside a recursive query next to UNION is not supported",
                    place,
                )
                .hint("Put the inner WITH queries before the recursive one."));
        }
        if body_mentions(left, &name) {
            return Err(recursion(
                self,
                format!(
                    "recursive reference to query \"{name}\" must not appear within its non-recursive term"
                ),
            ));
        }
        let all = *set_quantifier == SetQuantifier::All;
        let base = self.arm_of(left, true)?;
        let mut columns = outputs(&base);
        self.name_columns(&name, &mut columns, &cte.alias)?;
        let index = self.here().ctes.len();
        self.top().ctes.push(CteEntry {
            cte: Cte {
                name: name.clone(),
                query: Box::new(base),
                recursive: None,
                materialized,
                columns: columns.clone(),
                references: 0,
            },
            open: true,
            readable: true,
            visible: true,
        });
        let step = self.arm_of(right, false)?;
        let step_columns = outputs(&step);
        if step_columns.len() != columns.len() {
            return Err(self.syntax("each UNION query must have the same number of columns", place));
        }
        for (at, (base, step)) in columns.iter().zip(&step_columns).enumerate() {
            let oids: [Oid; 2] = [base.ty.oid, step.ty.oid];
            let overall = self.locate(function::select_common_type(&oids, "UNION"), place)?;
            if overall != base.ty.oid {
                return Err(self
                    .error(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "recursive query \"{name}\" column {} has type {} in non-recursive term but type {} overall",
                            at + 1,
                            format_type(base.ty.oid, -1),
                            format_type(overall, -1)
                        ),
                        place,
                    )
                    .hint("Cast the output of the non-recursive term to the correct type."));
            }
        }
        if step.has_aggregates {
            return Err(recursion(
                self,
                "aggregate functions are not allowed in a recursive query's recursive term".to_owned(),
            ));
        }
        let types: Vec<Type> = columns.iter().map(|column| column.ty).collect();
        let step = self.coerce_outputs(step, &types)?;
        let entry = &mut self.top().ctes[index];
        entry.open = false;
        entry.cte.recursive = Some(RecursiveCte { recursive_arm: Box::new(step), all });
        Ok(())
    }

    /// An arm of UNION as a query of its own.
    fn arm_of(&mut self, body: &SetExpr, resolve_unknown: bool) -> Result<Query> {
        if let SetExpr::Query(inner) = body {
            return self.query_of(inner, resolve_unknown);
        }
        let parts =
            Parts { with: None, body, order_by: &[], limit: None, offset: None, fetch: None, locks: &[] };
        let query = self.arm(&parts)?;
        if !resolve_unknown {
            return Ok(query);
        }
        let types: Vec<Type> = outputs(&query)
            .iter()
            .map(|column| {
                if column.ty.oid == value::types::oid::UNKNOWN {
                    Type::new(value::types::oid::TEXT)
                } else {
                    column.ty
                }
            })
            .collect();
        self.coerce_outputs(query, &types)
    }

    /// Adds a reference to the CTE of that name, if one is visible.
    pub fn cte_reference(&mut self, name: &str, place: Location) -> Result<Option<usize>> {
        for level in (0..self.levels.len()).rev() {
            let Some(index) =
                self.levels[level].ctes.iter().position(|entry| entry.visible && entry.cte.name == name)
            else {
                continue;
            };
            let levels_up = self.levels.len() - 1 - level;
            let entry = &mut self.levels[level].ctes[index];
            if !entry.readable {
                return Err(self.error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("WITH query \"{name}\" does not have a RETURNING clause"),
                    place,
                ));
            }
            entry.cte.references += 1;
            let columns = entry.cte.columns.clone();
            return Ok(Some(self.add_relation(
                RelationKind::Cte { levels_up, index },
                name.to_owned(),
                columns,
            )));
        }
        Ok(None)
    }

    /// 42P01 for a relation that is neither a CTE nor in the catalog.
    pub fn hidden_cte(&self, schema: Option<&str>, name: &str, place: Location) -> Error {
        missing(self.names, schema, name).at(self.position(place))
    }
}

/// Whether a query reads a relation called `name` anywhere.
fn mentions(query: &ast::Query, name: &str) -> bool {
    visit(query, name)
}

fn body_mentions(body: &SetExpr, name: &str) -> bool {
    visit(body, name)
}

fn visit<V: ast::Visit>(node: &V, name: &str) -> bool {
    ast::visit_relations(node, |relation: &ast::ObjectName| match relation.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] if identifier(ident) == name => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}
