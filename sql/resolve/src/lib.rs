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

mod names;
mod parameter;
pub mod parse;
pub mod tree;
mod types;

pub use names::{Found, database_and_schema, identifier, relation_name, split_name};
pub use parameter::Parameters;
pub use parse::{Ast, Parsed};
pub use types::{ResolvedType, Serial, resolve_type};


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
    /// The oid and columns a role's own temporary schema has; `None` before the first temporary object.
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

/// Parses a stored expression. 42601.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    parse::expression(text)
}

pub(crate) fn undefined_table(name: &str) -> Error {
    Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}
