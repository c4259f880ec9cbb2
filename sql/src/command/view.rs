//! CREATE VIEW. The query is stored with every relation qualified by its schema, so that it means the same under
//! any search path; a `*` is pinned to the columns it stood for.

use std::ops::ControlFlow;
use std::sync::Arc;

use engine::catalog::{Change, Object, View, ViewColumn};
use sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, VisitMut, VisitorMut};
use value::types::{self, oid};
use value::{Error, Oid, Result, SqlState};

use super::{find_relation, must_be_free};
use crate::lex;
use crate::privilege;
use crate::scope::Scope;
use crate::session::{Outcome, Session};
use crate::statement::{Fragment, Name, Statement};

pub async fn create(
    session: &mut Session,
    name: &Name,
    columns: &[String],
    temporary: bool,
    or_replace: bool,
    query: &Fragment,
) -> Result<Outcome> {
    let parsed = session.fragment(query)?;
    let Statement::Query(tree) = &*parsed.statement else {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "a view is made of a query"));
    };
    let schema = session.schema_for(name, temporary || name.schema.as_deref() == Some("pg_temp")).await?;
    // What it reads may not change until it is there; what changed while that was waited for is looked up again.
    let scope = loop {
        let scope = session.scope()?;
        if let Ok((_, reads, _)) = qualified(&scope, tree, &[]) {
            for relation in reads {
                session.lock(relation, engine::TableLockMode::AccessShare).await?;
            }
        }
        let now = session.scope()?;
        if now.catalog.version == scope.catalog.version {
            break now;
        }
    };
    let prepared = session.prepare("", Some(parsed.clone()), &[])?;
    if !prepared.types.is_empty() {
        return Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
    }
    let Some(output) = &prepared.columns else {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "views must not contain data-modifying statements",
        ));
    };
    if columns.len() > output.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "CREATE VIEW specifies more column names than columns",
        ));
    }
    let mut made: Vec<ViewColumn> = Vec::new();
    for (n, column) in output.iter().enumerate() {
        let own = columns.get(n).unwrap_or(&column.name).clone();
        if made.iter().any(|c| c.name == own) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{own}\" specified more than once"),
            ));
        }
        let ty = if column.type_oid == oid::UNKNOWN { oid::TEXT } else { column.type_oid };
        made.push(ViewColumn { name: own, type_oid: ty, typmod: column.typmod });
    }
    let names: Vec<&str> = output.iter().map(|column| column.name.as_str()).collect();
    let (mut text, depends_on, star) = qualified(&scope, tree, &names)?;
    let renamed = !columns.is_empty();
    if star || renamed {
        let inner: Vec<String> = output.iter().map(|c| lex::quote_name(&c.name)).collect();
        let unique = inner.iter().collect::<std::collections::HashSet<_>>().len() == inner.len();
        if star && unique && !renamed {
            text = format!("SELECT {} FROM ({text}) AS v", inner.join(", "));
        } else if renamed {
            let mut names: Vec<String> = made.iter().map(|c| lex::quote_name(&c.name)).collect();
            names.truncate(output.len());
            text = format!("SELECT {0} FROM ({text}) AS v({0})", names.join(", "));
        }
    }
    let existing = scope.catalog.relation(schema, &name.name).cloned();
    let mut view = View {
        oid: session.database.engine.new_oid(),
        database: session.shared.database,
        schema,
        name: name.name.clone(),
        owner: scope.role,
        query: text,
        columns: made,
        acl: None,
        comment: None,
        depends_on,
        persistence_temporary: scope.temporary == Some(schema),
    };
    match existing {
        Some(Object::View(old)) if or_replace => {
            privilege::must_own(&scope.catalog, scope.role, old.owner, "view", &old.name)?;
            if view.columns.len() < old.columns.len() {
                return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, "cannot drop columns from view"));
            }
            for (before, now) in old.columns.iter().zip(&view.columns) {
                if before.name != now.name {
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!("cannot change name of view column \"{}\" to \"{}\"", before.name, now.name),
                    )
                    .hint("Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead."));
                }
                if (before.type_oid, before.typmod) != (now.type_oid, now.typmod) {
                    return Err(Error::new(
                        SqlState::INVALID_TABLE_DEFINITION,
                        format!(
                            "cannot change data type of view column \"{}\" from {} to {}",
                            before.name,
                            types::format_type(before.type_oid, before.typmod),
                            types::format_type(now.type_oid, now.typmod)
                        ),
                    ));
                }
            }
            session.lock(old.oid, engine::TableLockMode::AccessExclusive).await?;
            view.oid = old.oid;
            view.owner = old.owner;
            view.acl = old.acl.clone();
            view.comment = old.comment.clone();
        }
        Some(other) if or_replace => {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a view", other.name()),
            ));
        }
        _ => must_be_free(&scope.catalog, schema, &name.name)?,
    }
    session.change_catalog(vec![Change::Put(Object::View(Arc::new(view)))]).await?;
    Ok(Outcome::Tag("CREATE VIEW".into()))
}

/// The query with qualified names, the relations it reads, and whether there is a `*` left in its outermost list. `output`: the
/// names of its columns.
fn qualified(
    scope: &Arc<Scope>,
    query: &Arc<resolve::parse::Parsed>,
    output: &[&str],
) -> Result<(String, Vec<Oid>, bool)> {
    let ast::Statement::Query(query) = &*query.ast else {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "a view is made of a query"));
    };
    let mut query = query.clone();
    let mut qualifier = Qualifier { scope, ctes: Vec::new(), depends_on: Vec::new() };
    let _: ControlFlow<()> = VisitMut::visit(&mut query, &mut qualifier);
    let depends_on = std::mem::take(&mut qualifier.depends_on);
    pin_star(&mut query.body, output);
    let star = fn_star(&query.body);
    Ok((query.to_string(), depends_on, star))
}

/// Writes the columns in the place of a `*` that stands for all there is: one relation, one `*`.
fn pin_star(body: &mut ast::SetExpr, output: &[&str]) {
    let ast::SetExpr::Select(select) = body else { return };
    let stars: Vec<usize> = (0..select.projection.len())
        .filter(|n| {
            matches!(
                select.projection[*n],
                ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
            )
        })
        .collect();
    let (&[star], [from]) = (stars.as_slice(), select.from.as_slice()) else { return };
    let length = (output.len() + 1).checked_sub(select.projection.len());
    let columns = length.and_then(|length| output.get(star..star + length));
    let (true, Some(columns)) = (from.joins.is_empty(), columns) else { return };
    if columns.iter().enumerate().any(|(n, name)| columns[..n].contains(name)) {
        return;
    }
    let named = columns.iter().map(|name| {
        let quoted = lex::quote_name(name);
        let ident = if quoted == **name { Ident::new(*name) } else { Ident::with_quote('"', *name) };
        ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ident))
    });
    select.projection.splice(star..=star, named);
}

fn fn_star(body: &ast::SetExpr) -> bool {
    match body {
        ast::SetExpr::Select(select) => select.projection.iter().any(|item| {
            matches!(item, ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..))
        }),
        ast::SetExpr::Query(query) => fn_star(&query.body),
        ast::SetExpr::SetOperation { left, .. } => fn_star(left),
        ast::SetExpr::Table(_) => true,
        _ => false,
    }
}

struct Qualifier<'a> {
    scope: &'a Arc<Scope>,
    /// Names of CTEs in force, a level per query.
    ctes: Vec<Vec<String>>,
    depends_on: Vec<Oid>,
}

impl VisitorMut for Qualifier<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let names = query
            .with
            .iter()
            .flat_map(|w| &w.cte_tables)
            .map(|c| resolve::identifier(&c.alias.name))
            .collect();
        self.ctes.push(names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<()> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let Ok(parts) = resolve::split_name(relation) else { return ControlFlow::Continue(()) };
        let (schema, name) = match parts.as_slice() {
            [name] => {
                if self.ctes.iter().any(|level| level.contains(name)) {
                    return ControlFlow::Continue(());
                }
                (None, name.clone())
            }
            [.., schema, name] => (Some(schema.clone()), name.clone()),
            [] => return ControlFlow::Continue(()),
        };
        let found =
            find_relation(self.scope, &Name { schema: schema.clone(), name: name.clone(), position: 1 });
        if let Some(found) = found {
            if !self.depends_on.contains(&found.oid()) {
                self.depends_on.push(found.oid());
            }
            if schema.is_none()
                && let Some(own) = found.relation_schema()
            {
                relation.0 = vec![
                    ObjectNamePart::Identifier(Ident::with_quote('"', self.scope.schema_name(own))),
                    ObjectNamePart::Identifier(Ident::with_quote('"', name)),
                ];
            }
        }
        ControlFlow::Continue(())
    }
}
