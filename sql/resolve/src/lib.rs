//! From text to meaning: `sqlparser` statements become typed query trees by PostgreSQL's rules.
//!
//! The life of a statement here: [`parse`] cuts a string into statements; [`resolve`] looks names up (through
//! [`Names`], which the session implements), gives every expression a type, chooses functions, operators and
//! casts, checks grouping and windows, expands views, and folds constants. The result is [`tree::Query`].
//!
//! Nothing here reads rows or waits: it is a function of the statement, the catalog snapshot and the session's
//! search path and style.
//!
//! Positions in errors are 1-based characters of the text that was parsed.

use std::sync::Arc;

use engine::catalog::{Catalog, Table};
use sqlparser::ast;
use value::text::Style;
use value::{Error, Oid, Result, SqlState, Type};

mod call;
mod coerce;
mod constant;
mod cte;
mod delete;
mod expr;
mod from;
mod group;
mod insert;
mod names;
mod parameter;
pub mod parse;
mod query;
mod same;
mod scope;
mod set_operation;
mod target;
pub mod tree;
mod types;
mod update;
pub mod walk;
mod window;

pub use constant::relabel_value;
pub use names::{Found, database_and_schema, identifier, relation_name, split_name};
pub use parameter::Parameters;
pub use parse::{Ast, Parsed};
pub use same::same;
pub use types::{ResolvedType, Serial, resolve_type};

use tree::{Expr, Query};

/// What name resolution asks of the session.
pub trait Names: Send + Sync {
    fn catalog(&self) -> &Catalog;
    /// The database names are looked up in.
    fn database(&self) -> Oid;
    /// Schemas in the order they are searched: pg_catalog stands first unless the setting names it elsewhere, the
    /// temporary schema before it.
    fn search_path(&self) -> &[Oid];
    fn role(&self) -> Oid;
    /// A relation of pg_catalog, information_schema or startdb. Without a schema only pg_catalog is meant.
    fn system_relation(&self, schema: Option<&str>, name: &str) -> Option<SystemRelation>;
    fn style(&self) -> &Style;
    /// For folding immutable functions and for the input of reg* literals.
    fn env(&self) -> &dyn function::Environment;
    /// The session's own temporary schema, meant by `pg_temp`; `None` before the first temporary object.
    fn temporary_schema(&self) -> Option<Oid> {
        None
    }
}

/// A computed relation: where it stands and its columns.
#[derive(Clone, Debug)]
pub struct SystemRelation {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: Oid,
    pub columns: Vec<tree::OutputColumn>,
}

/// A column of a statement's result and, for a plain column, where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultColumn {
    pub name: String,
    pub ty: Type,
    /// Oid of the table (or system relation), 0 if computed.
    pub table: Oid,
    /// Attribute number in it, 0 if computed.
    pub attribute: i16,
}

/// Which names an expression outside a query may use.
#[derive(Clone, Copy, Debug)]
pub struct ExprScope<'a> {
    /// Its columns, as relation 0.
    pub table: Option<&'a Arc<Table>>,
    pub purpose: Purpose,
}

/// What a stored expression is for: decides what may not stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Default,
    Check,
    Generated,
    IndexExpression,
    IndexPredicate,
    /// USING of ALTER COLUMN TYPE.
    AlterUsing,
    /// EXECUTE arguments, CALL arguments and the like.
    Argument,
}

/// Gives a statement that reads or changes rows its meaning. `text` is the string it was parsed from
/// ([`Parsed::source`]); it serves error positions only. `params` learns the types of parameters.
///
/// Errors are PostgreSQL's: 42P01, 42703, 42883, 42804, 42803 ... with position and hint.
pub fn resolve(
    names: &dyn Names,
    statement: &ast::Statement,
    text: &str,
    params: &mut Parameters,
) -> Result<Query> {
    let mut resolver = scope::Resolver::new(names, text, params);
    let mut query = resolver.statement(statement)?;
    params.finish()?;
    constant::fold_query(&mut query, names.env(), false)?;
    Ok(query)
}

/// Resolves a query that stands inside another statement: CREATE VIEW, CREATE TABLE AS, COPY (query), cursors.
pub fn resolve_query(
    names: &dyn Names,
    query: &ast::Query,
    text: &str,
    params: &mut Parameters,
) -> Result<Query> {
    let mut resolver = scope::Resolver::new(names, text, params);
    let mut query = resolver.top_query(query)?;
    params.finish()?;
    constant::fold_query(&mut query, names.env(), false)?;
    Ok(query)
}

/// Resolves an expression outside a query. With `target` it is coerced as an assignment to that type, typmod
/// included (42804 otherwise); without, unknown literals become text.
pub fn resolve_expression(
    names: &dyn Names,
    expression: &ast::Expr,
    text: &str,
    scope: ExprScope<'_>,
    target: Option<Type>,
) -> Result<Expr> {
    let mut params = Parameters::none();
    let mut resolver = scope::Resolver::new(names, text, &mut params);
    let mut resolved = resolver.lone_expression(expression, scope, target)?;
    // A default may fail for every row and still be stored: errors wait until it is evaluated.
    constant::fold_expr(&mut resolved, names.env(), true)?;
    Ok(resolved)
}

/// Parses a stored expression. 42601.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    parse::expression(text)
}

/// The columns of a statement's result with their origin: RETURNING for changes, the visible targets otherwise.
pub fn output_columns(query: &Query) -> Vec<ResultColumn> {
    let targets = match &query.modify {
        Some(modify) => &modify.returning,
        None => &query.targets,
    };
    targets
        .iter()
        .filter(|target| !target.hidden)
        .map(|target| {
            let (table, attribute) = target::origin(query, &target.expr);
            ResultColumn { name: target.name.clone(), ty: target.expr.ty(), table, attribute }
        })
        .collect()
}

pub(crate) fn undefined_table(name: &str) -> Error {
    Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}
