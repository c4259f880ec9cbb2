//! `startdb.queries` and `startdb.recommendations`: what was seen and what is proposed, as relations.

use std::sync::Arc;

use parking_lot::Mutex;
use sql::{Database, OutputColumn};
use value::types::oid;
use value::{Datum, Type};

use crate::advisor::Recommendation;
use crate::aggregate::Aggregates;

/// What the relations show; the worker writes it, queries read it.
#[derive(Default)]
pub(crate) struct Shown {
    pub aggregates: Mutex<Aggregates>,
    pub recommendations: Mutex<Vec<Recommendation>>,
}

fn columns(list: &[(&str, value::Oid)]) -> Vec<OutputColumn> {
    list.iter().map(|(name, ty)| OutputColumn { name: (*name).to_owned(), ty: Type::new(*ty) }).collect()
}

/// Makes both relations known to the database.
pub(crate) fn register(database: &Database, shown: &Arc<Shown>) {
    let source = shown.clone();
    database.register_system_relation(
        "queries",
        columns(&[
            ("fingerprint", oid::TEXT),
            ("database", oid::OID),
            ("query", oid::TEXT),
            ("calls", oid::INT8),
            ("errors", oid::INT8),
            ("total_time_ms", oid::FLOAT8),
            ("mean_time_ms", oid::FLOAT8),
            ("min_time_ms", oid::FLOAT8),
            ("max_time_ms", oid::FLOAT8),
            ("p50_time_ms", oid::FLOAT8),
            ("p95_time_ms", oid::FLOAT8),
            ("p99_time_ms", oid::FLOAT8),
            ("planning_time_ms", oid::FLOAT8),
            ("rows_scanned", oid::INT8),
            ("rows_returned", oid::INT8),
            ("cache_hits", oid::INT8),
            ("first_seen", oid::TIMESTAMPTZ),
            ("last_seen", oid::TIMESTAMPTZ),
        ]),
        Arc::new(move || {
            let aggregates = source.aggregates.lock();
            Ok(aggregates
                .queries()
                .map(|query| {
                    let total = query.total();
                    let ms = |ns: u64| Datum::Float8(ns as f64 / 1e6);
                    let count = |count: u64| Datum::Int8(count as i64);
                    vec![
                        Datum::text(format!("{:016x}", query.fingerprint)),
                        Datum::Oid(query.database),
                        Datum::Text(query.text.clone()),
                        count(total.calls),
                        count(total.errors),
                        ms(total.total_ns),
                        Datum::Float8(total.total_ns as f64 / 1e6 / total.calls.max(1) as f64),
                        ms(total.minimum_ns),
                        ms(total.maximum_ns),
                        ms(total.quantile(0.5)),
                        ms(total.quantile(0.95)),
                        ms(total.quantile(0.99)),
                        ms(total.planning_ns),
                        count(total.rows_scanned),
                        count(total.rows_returned),
                        count(total.cache_hits),
                        Datum::TimestampTz(query.first_seen),
                        Datum::TimestampTz(query.last_seen),
                    ]
                })
                .collect())
        }),
    );
    let source = shown.clone();
    database.register_system_relation(
        "recommendations",
        columns(&[
            ("id", oid::INT8),
            ("kind", oid::TEXT),
            ("table_name", oid::TEXT),
            ("columns", oid::TEXT),
            ("reason", oid::TEXT),
            ("sql", oid::TEXT),
            ("undo_sql", oid::TEXT),
            ("saved_ms", oid::FLOAT8),
            ("speed_up", oid::FLOAT8),
            ("storage_bytes", oid::INT8),
            ("queries", oid::INT8),
        ]),
        Arc::new(move || {
            let recommendations = source.recommendations.lock();
            Ok(recommendations
                .iter()
                .enumerate()
                .map(|(number, advice)| {
                    vec![
                        Datum::Int8(number as i64 + 1),
                        Datum::text(advice.kind),
                        Datum::text(advice.table_name.as_str()),
                        Datum::text(advice.columns.join(", ")),
                        Datum::text(advice.reason.as_str()),
                        Datum::text(advice.sql.as_str()),
                        Datum::text(advice.undo_sql.as_str()),
                        Datum::Float8(advice.saved_ns / 1e6),
                        Datum::Float8(advice.speed_up),
                        Datum::Int8(advice.storage_bytes as i64),
                        Datum::Int8(advice.fingerprints.len() as i64),
                    ]
                })
                .collect())
        }),
    );
}
