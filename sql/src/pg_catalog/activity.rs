//! Relations about what goes on: sessions, locks, settings, statistics.

use engine::LockTag;
use session::Peer;
use value::types::oid;
use value::{Datum, datetime};

use super::objects::each_table;
use super::{Filled, array, maybe_text, role_name, text, texts};
use crate::command::set::description;
use crate::scope::Scope;
use crate::setting::{self, Context, SettingType};
use crate::{predefined, privilege};

pub fn rows(scope: &Scope, name: &str) -> Option<Filled> {
    Some(match name {
        "pg_settings" => settings(scope),
        "pg_stat_activity" => activity(scope),
        "pg_locks" => locks(scope),
        "pg_prepared_statements" => Filled {
            columns: &["name", "statement", "prepare_time", "parameter_types", "from_sql"],
            rows: scope
                .shared
                .prepared
                .lock()
                .iter()
                .map(|p| {
                    vec![
                        text(&p.name),
                        text(&p.text),
                        Datum::TimestampTz(p.prepared_at),
                        array(oid::REGTYPE, p.types.iter().map(|t| Datum::Oid(*t)).collect()),
                        Datum::Bool(p.from_sql),
                    ]
                })
                .collect(),
        },
        "pg_cursors" => Filled {
            columns: &["name", "statement", "is_holdable", "is_binary", "is_scrollable", "creation_time"],
            rows: scope
                .shared
                .cursors
                .lock()
                .iter()
                .map(|c| {
                    vec![
                        text(&c.name),
                        text(&c.text),
                        Datum::Bool(c.hold),
                        Datum::Bool(c.binary),
                        Datum::Bool(c.scroll),
                        Datum::TimestampTz(c.created_at),
                    ]
                })
                .collect(),
        },
        "pg_stat_user_tables"
        | "pg_stat_all_tables"
        | "pg_stat_xact_user_tables"
        | "pg_stat_xact_all_tables" => Filled {
            columns: &[
                "relid",
                "schemaname",
                "relname",
                "n_live_tup",
                "n_dead_tup",
                "last_analyze",
                "analyze_count",
            ],
            rows: each_table(scope)
                .map(|t| {
                    let statistics = scope.database.engine.statistics(t);
                    vec![
                        Datum::Oid(t.oid),
                        text(&scope.schema_name(t.schema)),
                        text(&t.name),
                        Datum::Int8(statistics.rows as i64),
                        Datum::Int8(0),
                        statistics.analyzed_at.map_or(Datum::Null, Datum::TimestampTz),
                        Datum::Int8(i64::from(statistics.analyzed_at.is_some())),
                    ]
                })
                .collect(),
        },
        "pg_statio_user_tables" | "pg_statio_all_tables" => Filled {
            columns: &["relid", "schemaname", "relname"],
            rows: each_table(scope)
                .map(|t| vec![Datum::Oid(t.oid), text(&scope.schema_name(t.schema)), text(&t.name)])
                .collect(),
        },
        "pg_stat_user_indexes"
        | "pg_stat_all_indexes"
        | "pg_statio_user_indexes"
        | "pg_statio_all_indexes" => Filled {
            columns: &["relid", "indexrelid", "schemaname", "relname", "indexrelname"],
            rows: each_table(scope)
                .flat_map(|t| {
                    scope.catalog.indexes(t.oid).map(|i| {
                        vec![
                            Datum::Oid(t.oid),
                            Datum::Oid(i.oid),
                            text(&scope.schema_name(t.schema)),
                            text(&t.name),
                            text(&i.name),
                        ]
                    })
                })
                .collect(),
        },
        "pg_stat_database" => databases(scope),
        "pg_stat_bgwriter" => background_writer(scope),
        "pg_stat_wal" => log_writer(scope),
        "pg_stat_archiver" => Filled {
            columns: &["archived_count", "failed_count", "stats_reset"],
            rows: vec![vec![Datum::Int8(0), Datum::Int8(0), Datum::TimestampTz(scope.database.started_at)]],
        },
        "pg_stat_ssl" => Filled {
            columns: &["pid", "ssl"],
            rows: scope
                .database
                .sessions
                .iter()
                .map(|s| vec![Datum::Int4(s.pid), Datum::Bool(matches!(s.peer, Peer::Tcp { tls: true, .. }))])
                .collect(),
        },
        "pg_stat_gssapi" => Filled {
            columns: &["pid", "gss_authenticated", "encrypted", "credentials_delegated"],
            rows: scope
                .database
                .sessions
                .iter()
                .map(|s| vec![Datum::Int4(s.pid), Datum::Bool(false), Datum::Bool(false), Datum::Bool(false)])
                .collect(),
        },
        "pg_stats" => statistics(scope),
        _ => return None,
    })
}

fn settings(scope: &Scope) -> Filled {
    let settings = scope.shared.settings.lock();
    let rows = setting::all()
        .iter()
        .filter(|s| !matches!(s.name, "is_superuser" | "role" | "session_authorization"))
        .map(|s| {
            let (value, reset) = settings.kept(s);
            let (kind, unit, min, max) = match s.ty {
                SettingType::Bool => ("bool", "", Datum::Null, Datum::Null),
                SettingType::Integer { unit, min, max } => {
                    ("integer", unit, text(&min.to_string()), text(&max.to_string()))
                }
                SettingType::Real { unit, min, max } => {
                    ("real", unit, text(&min.to_string()), text(&max.to_string()))
                }
                SettingType::Enum => ("enum", "", Datum::Null, Datum::Null),
                SettingType::String => ("string", "", Datum::Null, Datum::Null),
            };
            vec![
                text(s.name),
                text(&value),
                if unit.is_empty() { Datum::Null } else { text(unit) },
                text(s.category),
                text(description(s.name)),
                text(if s.context == Context::Server && s.context_name.is_empty() {
                    "postmaster"
                } else {
                    s.context_name
                }),
                text(kind),
                text(settings.source(s)),
                min,
                max,
                if s.values.is_empty() { Datum::Null } else { texts(s.values.iter().copied()) },
                text(&s.default),
                text(&reset),
                Datum::Bool(false),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "name",
            "setting",
            "unit",
            "category",
            "short_desc",
            "context",
            "vartype",
            "source",
            "min_val",
            "max_val",
            "enumvals",
            "boot_val",
            "reset_val",
            "pending_restart",
        ],
        rows,
    }
}

fn activity(scope: &Scope) -> Filled {
    let all = privilege::acts_as(&scope.catalog, scope.role, predefined::READ_ALL_STATS);
    let own_roles = privilege::roles_of(&scope.catalog, scope.role, false);
    let rows = scope
        .database
        .sessions
        .iter()
        .map(|s| {
            let roles = *s.roles.lock();
            // Other people's queries are for those who may read statistics, or act as them.
            let mine = all || own_roles.contains(&roles.session);
            let activity = s.activity.lock().clone();
            let name = if s.pid == scope.shared.pid {
                scope.shared.settings.lock().show("application_name")
            } else {
                s.settings.lock().show("application_name")
            };
            let (address, port) = match &s.peer {
                Peer::Tcp { address, port, .. } => {
                    (text(&address.to_string()), Datum::Int4(i32::from(*port)))
                }
                Peer::Unix => (Datum::Null, Datum::Int4(-1)),
                Peer::Internal => (Datum::Null, Datum::Null),
            };
            let time = |t: Option<i64>| t.map_or(Datum::Null, Datum::TimestampTz);
            let event = match scope.database.engine.locks().waited_for(s.pid) {
                Some(tag) => Some(("Lock", lock_type(&tag))),
                None if activity.state.starts_with("idle") => Some(("Client", "ClientRead")),
                None => *s.waiting.lock(),
            };
            let hide = |value: Datum| if mine { value } else { Datum::Null };
            vec![
                Datum::Oid(s.database),
                text(&s.database_name),
                Datum::Int4(s.pid),
                Datum::Oid(roles.session),
                text(&role_name(scope, roles.session)),
                maybe_text(name.as_deref()),
                hide(address),
                hide(port),
                hide(Datum::TimestampTz(s.started_at)),
                hide(time(activity.transaction_start)),
                hide(time(activity.query_start)),
                hide(Datum::TimestampTz(activity.state_change)),
                hide(event.map_or(Datum::Null, |(kind, _)| text(kind))),
                hide(event.map_or(Datum::Null, |(_, name)| text(name))),
                hide(text(activity.state)),
                if mine { text(&activity.query) } else { text("<insufficient privilege>") },
                text("client backend"),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "datid",
            "datname",
            "pid",
            "usesysid",
            "usename",
            "application_name",
            "client_addr",
            "client_port",
            "backend_start",
            "xact_start",
            "query_start",
            "state_change",
            "wait_event_type",
            "wait_event",
            "state",
            "query",
            "backend_type",
        ],
        rows,
    }
}

/// What a wait for a lock is called. A row or a key is free when the transaction that has it ends: that is what PostgreSQL
/// names.
fn lock_type(tag: &LockTag) -> &'static str {
    match tag {
        LockTag::Table(_) => "relation",
        LockTag::Row { .. } | LockTag::Key { .. } | LockTag::Transaction { .. } | LockTag::Name { .. } => {
            "transactionid"
        }
        LockTag::Advisory(_) => "advisory",
    }
}

fn locks(scope: &Scope) -> Filled {
    let rows = scope
        .database
        .engine
        .locks()
        .listing()
        .into_iter()
        .map(|lock| {
            let mut row = vec![Datum::Null; 9];
            match &lock.tag {
                LockTag::Table(oid) => {
                    row[0] = text("relation");
                    row[1] = Datum::Oid(scope.catalog.get(*oid).and_then(|o| o.database()).unwrap_or(0));
                    row[2] = Datum::Oid(*oid);
                }
                LockTag::Row { storage, row: id } => {
                    row[0] = text("tuple");
                    row[1] = Datum::Oid(scope.shared.database);
                    let table = each_table(scope).find(|t| t.storage == *storage);
                    row[2] = table.map_or(Datum::Null, |t| Datum::Oid(t.oid));
                    row[3] = Datum::Int4((id >> 13) as i32);
                    row[4] = Datum::Int2((id & 0x1fff) as i16);
                }
                LockTag::Key { .. } | LockTag::Transaction { .. } | LockTag::Name { .. } => {
                    row[0] = text("transactionid");
                }
                LockTag::Advisory(key) => {
                    row[0] = text("advisory");
                    row[1] = Datum::Oid(key.database);
                    row[5] = Datum::Oid(key.class);
                    row[6] = Datum::Oid(key.object);
                    row[7] = Datum::Int2(key.kind as i16);
                }
            }
            row[8] = text(&format!("{}/{}", lock.pid, lock.transaction));
            row.extend([
                Datum::Int4(lock.pid),
                text(lock.mode),
                Datum::Bool(lock.granted),
                Datum::Bool(false),
                lock.since
                    .and_then(|t| t.elapsed().ok())
                    .map_or(Datum::Null, |d| Datum::TimestampTz(datetime::now() - d.as_micros() as i64)),
            ]);
            row
        })
        .collect();
    Filled {
        columns: &[
            "locktype",
            "database",
            "relation",
            "page",
            "tuple",
            "classid",
            "objid",
            "objsubid",
            "virtualtransaction",
            "pid",
            "mode",
            "granted",
            "fastpath",
            "waitstart",
        ],
        rows,
    }
}

fn databases(scope: &Scope) -> Filled {
    let database = &scope.database;
    // The cache is one for all databases; each row shows the whole, so that its hit ratio is right.
    let blocks = &database.engine.metrics().block_cache;
    let started = Datum::TimestampTz(database.started_at);
    let count = |n: u64| Datum::Int8(n as i64);
    let rows = scope
        .catalog
        .objects()
        .filter_map(|o| match o {
            engine::catalog::Object::Database(d) => Some(database.reading_of(d)),
            _ => None,
        })
        .map(|d| {
            vec![
                Datum::Oid(d.oid),
                text(&d.name),
                Datum::Int4(d.backends as i32),
                count(d.commits),
                count(d.rollbacks),
                count(blocks.misses.get()),
                count(blocks.hits.get()),
                count(d.returned),
                count(d.fetched),
                count(d.inserted),
                count(d.updated),
                count(d.deleted),
                // Nothing replays a log here, so nothing conflicts with it.
                count(0),
                count(d.deadlocks),
                count(d.sessions),
                started.clone(),
            ]
        })
        .collect();
    Filled {
        columns: &[
            "datid",
            "datname",
            "numbackends",
            "xact_commit",
            "xact_rollback",
            "blks_read",
            "blks_hit",
            "tup_returned",
            "tup_fetched",
            "tup_inserted",
            "tup_updated",
            "tup_deleted",
            "conflicts",
            "deadlocks",
            "sessions",
            "stats_reset",
        ],
        rows,
    }
}

/// Checkpoints are all timed or by size, never asked for by a client; pages are written by them alone.
fn background_writer(scope: &Scope) -> Filled {
    let engine = scope.database.engine.metrics();
    let count = |n: u64| Datum::Int8(n as i64);
    Filled {
        columns: &[
            "checkpoints_timed",
            "checkpoints_req",
            "checkpoint_write_time",
            "checkpoint_sync_time",
            "buffers_checkpoint",
            "buffers_clean",
            "maxwritten_clean",
            "buffers_backend",
            "buffers_backend_fsync",
            "buffers_alloc",
            "stats_reset",
        ],
        rows: vec![vec![
            count(engine.checkpoints.get()),
            count(0),
            Datum::Float8(engine.checkpoint.sum() * 1000.0),
            Datum::Float8(0.0),
            count(engine.disk_writes.get().saturating_sub(engine.wal_batches.get())),
            count(0),
            count(0),
            count(0),
            count(0),
            count(engine.block_cache.misses.get()),
            Datum::TimestampTz(scope.database.started_at),
        ]],
    }
}

fn log_writer(scope: &Scope) -> Filled {
    let engine = scope.database.engine.metrics();
    let count = |n: u64| Datum::Int8(n as i64);
    Filled {
        columns: &[
            "wal_records",
            "wal_fpi",
            "wal_bytes",
            "wal_buffers_full",
            "wal_write",
            "wal_sync",
            "wal_write_time",
            "wal_sync_time",
            "stats_reset",
        ],
        rows: vec![vec![
            count(engine.wal_records.get()),
            count(0),
            // Generated, as in PostgreSQL; what is written is more, by headers and padding.
            Datum::Numeric(value::Numeric::from_i64(scope.database.engine.wal_bytes() as i64).into()),
            count(0),
            count(engine.wal_batches.get()),
            count(engine.wal_sync.count()),
            Datum::Float8(0.0),
            Datum::Float8(engine.wal_sync.sum() * 1000.0),
            Datum::TimestampTz(scope.database.started_at),
        ]],
    }
}

fn statistics(scope: &Scope) -> Filled {
    let mut rows = Vec::new();
    for t in each_table(scope) {
        if crate::privilege::check_table(&scope.catalog, scope.role, t, 'r').is_err() {
            continue;
        }
        let all = scope.database.engine.statistics(t);
        for (_, column) in t.visible_columns() {
            let Some(s) = all.columns.get(&column.number) else { continue };
            let list = |values: Vec<&str>| {
                if values.is_empty() { Datum::Null } else { text(&array_text(&values)) }
            };
            rows.push(vec![
                text(&scope.schema_name(t.schema)),
                text(&t.name),
                text(&column.name),
                Datum::Bool(false),
                Datum::Float4(s.null_fraction as f32),
                Datum::Int4(s.average_width as i32),
                Datum::Float4(s.distinct as f32),
                list(s.most_common.iter().map(|v| v.value.text.as_str()).collect()),
                if s.most_common.is_empty() {
                    Datum::Null
                } else {
                    array(
                        oid::FLOAT4,
                        s.most_common.iter().map(|v| Datum::Float4(v.frequency as f32)).collect(),
                    )
                },
                list(s.histogram.iter().map(|v| v.text.as_str()).collect()),
                Datum::Float4(s.correlation as f32),
            ]);
        }
    }
    Filled {
        columns: &[
            "schemaname",
            "tablename",
            "attname",
            "inherited",
            "null_frac",
            "avg_width",
            "n_distinct",
            "most_common_vals",
            "most_common_freqs",
            "histogram_bounds",
            "correlation",
        ],
        rows,
    }
}

/// Texts as an array constant.
fn array_text(values: &[&str]) -> String {
    let value = texts(values.iter().copied());
    value::text::output_string(&value, oid::TEXT_ARRAY, &value::text::Style::default())
}
