//! Plans for plain statements that differ from earlier ones only in their literals.
//!
//! The second time a text comes with other literals (`literal.rs` says which count), it is resolved and planned a second
//! time with parameters in their places. If that plan has the same shape and the same columns, and no value could have been
//! folded into something else, it becomes the template of all statements of that text: a lookup, the values' input
//! functions and a look at the statistics replace parsing, resolving and planning. Everything that is not so clear takes the
//! ordinary way, with the ordinary errors and their positions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use plan::template::Probe;
use value::{Datum, Result, Type};

use super::{Portal, Prepared, Session, columns_of};
use crate::grammar;
use crate::literal::{Lifted, Literal};
use crate::plan_cache::Resolved;
use crate::scope::Scope;
use crate::statement::Statement;

/// Above this cost making a plan is a small part of running it, and a plan of its own is worth more.
const MOST_COST: f64 = 1_000.0;

/// What is known of a text without its literals.
#[derive(Clone)]
pub enum Template {
    /// It has come once.
    Seen,
    /// Its plan depends on the literals, as far as this catalog and these statistics go.
    Refused {
        catalog_version: u64,
        statistics_epoch: u64,
    },
    Ready(Arc<Ready>),
}

pub struct Ready {
    prepared: Arc<Prepared>,
    resolved: Arc<Resolved>,
    /// With the rows of the literals that were planned for.
    probes: Vec<(Probe, f64)>,
}

impl Session {
    /// Makes the portal of a plain statement from its template, if there is one that fits. `Err` holds whether one is to
    /// be made from what the ordinary way will find.
    pub(super) fn open_template(
        &mut self,
        scope: &Arc<Scope>,
        lifted: &Lifted,
        text: &Arc<str>,
    ) -> std::result::Result<Portal, bool> {
        if !scope.settings.plan_cache || self.has_local_objects() {
            return Err(false);
        }
        match self.database.templates.get(&scope.key, &lifted.key) {
            None => {
                self.database.templates.put(&scope.key, &Arc::from(lifted.key.as_str()), Template::Seen);
                Err(false)
            }
            Some(Template::Seen) => Err(true),
            Some(Template::Refused { catalog_version, statistics_epoch }) => {
                let epoch = self.database.statistics_epoch.load(Ordering::Relaxed);
                Err(catalog_version != scope.catalog.version || statistics_epoch != epoch)
            }
            Some(Template::Ready(ready)) => {
                if !self.plan_fits(scope, &ready.resolved, 0) {
                    return Err(true);
                }
                // A value that its type refuses: the ordinary way says so, and where.
                let Ok(values) = self.values_of(lifted, &ready.prepared.types, scope) else {
                    return Err(false);
                };
                if !ready.probes.iter().all(|(probe, planned)| Probe::close(*planned, probe.rows(&values))) {
                    return Err(false);
                }
                let mut portal = Portal::new(ready.prepared.clone(), values.into(), None);
                portal.text = Some(text.clone());
                Ok(portal)
            }
        }
    }

    /// Makes a template for the text of a statement that has just been resolved the ordinary way.
    pub(super) fn learn_template(
        &mut self,
        scope: &Arc<Scope>,
        lifted: &Lifted,
        text: &str,
        exact: &Resolved,
    ) {
        let template = match self.make_template(scope, lifted, text, exact) {
            Some(ready) => Template::Ready(Arc::new(ready)),
            None => Template::Refused {
                catalog_version: scope.catalog.version,
                statistics_epoch: self.database.statistics_epoch.load(Ordering::Relaxed),
            },
        };
        self.database.templates.put(&scope.key, &Arc::from(lifted.key.as_str()), template);
    }

    fn make_template(
        &mut self,
        scope: &Arc<Scope>,
        lifted: &Lifted,
        text: &str,
        exact: &Resolved,
    ) -> Option<Ready> {
        let conditional = scope.planning(|context| {
            exact.plan.tables.iter().any(|used| plan::template::has_conditional_index(&used.table, context))
        });
        if conditional
            || exact.plan.root.total_cost > MOST_COST
            || exact.catalog_version != scope.catalog.version
        {
            return None;
        }
        let parsed = grammar::parse(lifted.text()).ok()?.pop()?;
        let Statement::Query(query) = &*parsed.statement else { return None };
        let declared: Vec<_> = lifted.values.iter().map(Literal::declared).collect();
        let resolved = Arc::new(self.make_plan(scope, query, &declared, true, 0).ok()?);
        let same = resolved.types.len() == declared.len()
            && resolved.columns == exact.columns
            && resolved.kind == exact.kind
            && plan::template::same_shape(&exact.plan, &resolved.plan)
            && !plan::template::folds(&resolved.plan)
            && plan::template::uses_all(&resolved.plan, declared.len());
        if !same {
            return None;
        }
        let values = self.values_of(lifted, &resolved.types, scope).ok()?;
        let probes = scope.planning(|context| plan::template::probes(&resolved.plan, context))?;
        let probes = probes
            .into_iter()
            .map(|probe| {
                let planned = probe.rows(&values);
                (probe, planned)
            })
            .collect();
        // Named in the query log as the statement that was sent.
        resolved.fingerprint(self.shared.database, text);
        let prepared = Prepared {
            name: String::new(),
            types: resolved.types.clone(),
            columns: columns_of(&resolved),
            resolved: parking_lot::Mutex::new(Some(resolved.clone())),
            parsed: Some(parsed),
            declared,
        };
        Some(Ready { prepared: Arc::new(prepared), resolved, probes })
    }

    /// The literals as values of the types their places gave them.
    fn values_of(&mut self, lifted: &Lifted, types: &[value::Oid], scope: &Scope) -> Result<Vec<Datum>> {
        use value::types::oid;
        let style = &scope.style;
        lifted
            .values
            .iter()
            .zip(types)
            .map(|(literal, ty)| match literal {
                Literal::Integer(value, oid::INT4) => Ok(Datum::Int4(*value as i32)),
                Literal::Integer(value, _) => Ok(Datum::Int8(*value)),
                Literal::Numeric(digits) => value::text::input(Type::new(oid::NUMERIC), digits, style),
                Literal::Text(text) if matches!(*ty, oid::TEXT | oid::VARCHAR) => {
                    Ok(Datum::text(text.as_str()))
                }
                Literal::Text(text) => self.input(Type::new(*ty), text, style),
            })
            .collect()
    }
}
