//! DELETE.

use sqlparser::ast::{self, FromTable};
use sqlparser::tokenizer::Location;
use value::Result;

use crate::scope::{Clause, Resolver};
use crate::tree::{FromItem, Modify, ModifyKind, Query};

impl Resolver<'_> {
    /// DELETE on the level that is open.
    pub fn delete(&mut self, delete: &ast::Delete) -> Result<Query> {
        if !delete.tables.is_empty()
            || delete.limit.is_some()
            || !delete.order_by.is_empty()
            || delete.output.is_some()
        {
            return Err(
                self.syntax("syntax error: this clause of DELETE is not PostgreSQL's", Location::empty())
            );
        }
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
        let [target] = tables.as_slice() else { return Err(self.syntax_at(",", Location::empty())) };
        if let (FromTable::WithoutKeyword(_), ast::TableFactor::Table { name, .. }) =
            (&delete.from, &target.relation)
        {
            return Err(self.syntax_at(&name.to_string(), crate::names::name_location(name)));
        }
        self.changed_table(target, "delete from")?;
        let mut from = vec![FromItem::Relation(0)];
        if let Some(using) = &delete.using {
            from.extend(self.resolve_from(using)?);
        }
        let filter = match &delete.selection {
            Some(condition) => {
                Some(self.in_clause(Clause::Where, |this| this.condition(condition, "WHERE"))?)
            }
            None => None,
        };
        let filter = self.within_view(filter);
        let returning = self.returning(delete.returning.as_ref())?;
        let mut query = self.close();
        query.from = from;
        query.filter = filter;
        query.modify =
            Some(Modify { kind: ModifyKind::Delete, returning, computed: Vec::new(), checks: Vec::new() });
        Ok(query)
    }
}
