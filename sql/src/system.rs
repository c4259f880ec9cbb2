//! Functions that need the session or the catalog, by name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::catalog::{Object, Sequence, oid as fixed};
use engine::{AdvisoryKey, AdvisoryScope, Transaction, Wait};
use function::Function;
use session::Peer;
use value::types::{self, oid};
use value::{Datum, Error, Oid, Result, SqlState, Type, datetime};

use crate::command::create_table::sequences_of;
use crate::database::Database;
use crate::pg_catalog::{array, text};
use crate::privilege::{self, AclKind};
use crate::scope::Scope;
use crate::shared::Pending;
use crate::statement::Name;
use crate::{describe, grammar, lex, pg_catalog, predefined, setting};

fn string(args: &[Datum], n: usize) -> &str {
    match args.get(n) {
        Some(Datum::Text(text)) => text,
        _ => "",
    }
}

fn number(args: &[Datum], n: usize) -> i64 {
    match args.get(n) {
        Some(Datum::Int2(v)) => i64::from(*v),
        Some(Datum::Int4(v)) => i64::from(*v),
        Some(Datum::Int8(v)) => *v,
        Some(Datum::Oid(v)) => i64::from(*v),
        _ => 0,
    }
}

fn oid_at(args: &[Datum], n: usize) -> Oid {
    number(args, n) as Oid
}

fn truth(args: &[Datum], n: usize) -> bool {
    matches!(args.get(n), Some(Datum::Bool(true)))
}

fn bool_of(on: bool) -> Result<Datum> {
    Ok(Datum::Bool(on))
}

fn some_text(value: Option<String>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::text))
}

fn void() -> Result<Datum> {
    Ok(text(""))
}

fn role_name(scope: &Scope, role: Oid) -> Datum {
    scope.catalog.role(role).map_or(Datum::Null, |r| text(&r.name))
}

/// Answers one call.
pub fn call(scope: &Scope, function: &'static Function, args: &[Datum]) -> Result<Datum> {
    let shared = &scope.shared;
    match function.name {
        "current_user" | "current_role" | "user" | "getpgusername" => Ok(role_name(scope, scope.role)),
        "session_user" => {
            let role = shared.roles.lock().session;
            Ok(role_name(scope, role))
        }
        "current_database" | "current_catalog" => Ok(text(&shared.database_name)),
        "current_schema" => {
            let found = scope.path.iter().find(|s| **s != fixed::PG_CATALOG && Some(**s) != scope.temporary);
            some_text(Some(scope.schema_name(*found.unwrap_or(&fixed::PG_CATALOG))))
        }
        "current_schemas" => {
            let implicit = truth(args, 0);
            let names = scope
                .path
                .iter()
                .filter(|s| implicit || !(matches!(**s, fixed::PG_CATALOG) || Some(**s) == scope.temporary))
                .map(|s| Datum::text(scope.schema_name(*s)))
                .collect();
            Ok(array(oid::NAME, names))
        }
        "current_query" => Ok(text(&shared.activity.lock().query)),
        "current_setting" => {
            let on = |on: bool| Ok(text(if on { "on" } else { "off" }));
            let (isolation, read_only, deferrable) = scope.modes;
            match setting::find(string(args, 0)).map_or("", |s| s.name) {
                "transaction_isolation" => return Ok(text(isolation)),
                "transaction_read_only" => return on(read_only),
                "transaction_deferrable" => return on(deferrable),
                _ => {}
            }
            let settings = shared.settings.lock();
            match settings.show(string(args, 0)) {
                Some(value) => Ok(text(&value)),
                None if truth(args, 1) => Ok(Datum::Null),
                None => settings.show_or_fail(string(args, 0)).map(Datum::text),
            }
        }
        "set_config" => set_config(scope, args),
        "version" => Ok(text(&format!(
            "PostgreSQL {} on {}-{}, compiled by rustc, {}-bit",
            setting::SERVER_VERSION,
            std::env::consts::ARCH,
            std::env::consts::OS,
            usize::BITS
        ))),
        "pg_backend_pid" => Ok(Datum::Int4(shared.pid)),
        "nextval" => nextval(scope, oid_at(args, 0)),
        "currval" => currval(scope, oid_at(args, 0)),
        "lastval" => {
            let last = shared.sequences.lock().last;
            match last {
                Some(sequence) => currval(scope, sequence),
                None => Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "lastval is not yet defined in this session",
                )),
            }
        }
        "setval" => setval(scope, oid_at(args, 0), number(args, 1), args.len() < 3 || truth(args, 2)),
        // What SELECT from a sequence shows.
        "\u{1}sequence_value" | "\u{1}sequence_called" => {
            let sequence = sequence(scope, oid_at(args, 0))?;
            may_use(scope, &sequence, "r")?;
            let (value, called) = sequence_state(scope, &sequence);
            Ok(if function.name.ends_with("value") { Datum::Int8(value) } else { Datum::Bool(called) })
        }
        "pg_sequence_last_value" => {
            let sequence = sequence(scope, oid_at(args, 0))?;
            let (value, called) = sequence_state(scope, &sequence);
            Ok(if called { Datum::Int8(value) } else { Datum::Null })
        }
        "pg_get_serial_sequence" => serial_sequence(scope, args),
        "format_type" => {
            if args.first().is_none_or(Datum::is_null) {
                return Ok(Datum::Null);
            }
            let typmod = if args.get(1).is_none_or(Datum::is_null) { -1 } else { number(args, 1) as i32 };
            let ty = oid_at(args, 0);
            Ok(text(&if ty == 0 {
                "-".to_string()
            } else if ty == oid::BPCHAR && args.get(1).is_none_or(Datum::is_null) {
                "character".into()
            } else {
                types::format_type(ty, typmod)
            }))
        }
        "pg_get_userbyid" => Ok(match scope.catalog.role(oid_at(args, 0)) {
            Some(role) => text(&role.name),
            None => text(&format!("unknown (OID={})", oid_at(args, 0))),
        }),
        "pg_get_indexdef" => {
            let Some(index) = scope.catalog.index(oid_at(args, 0)) else { return Ok(Datum::Null) };
            let column = number(args, 1);
            if args.len() > 1 && column > 0 {
                let Some(table) = scope.catalog.table(index.table) else { return Ok(Datum::Null) };
                return Ok(text(&describe::index_column(table, index, column as usize)));
            }
            Ok(text(&describe::index(scope, index, truth(args, 2))))
        }
        "pg_get_constraintdef" => {
            for table in tables(scope) {
                if let Some(constraint) = table.constraints.iter().find(|c| c.oid == oid_at(args, 0)) {
                    return Ok(text(&describe::constraint(scope, table, constraint, truth(args, 1))));
                }
            }
            Ok(Datum::Null)
        }
        "pg_get_expr" => Ok(text(&describe::expression(scope, string(args, 0)))),
        "pg_get_viewdef" => {
            let view = match args.first() {
                Some(Datum::Oid(oid)) => scope.catalog.view(*oid).cloned(),
                _ => match find_class(scope, string(args, 0))? {
                    Some(oid) => scope.catalog.view(oid).cloned(),
                    None => return Err(no_relation(string(args, 0))),
                },
            };
            Ok(view.map_or(Datum::Null, |v| text(&format!(" {};", v.query))))
        }
        "pg_get_ruledef" => {
            let view = scope.catalog.view(oid_at(args, 0) & !0x4000_0000);
            Ok(view.map_or(Datum::Null, |v| {
                text(&format!(
                    "CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {} DO INSTEAD {};",
                    scope.relation_text(v.schema, &v.name),
                    v.query
                ))
            }))
        }
        "pg_get_function_arguments" | "pg_get_function_identity_arguments" => {
            Ok(pg_catalog::signature(oid_at(args, 0)).map_or(Datum::Null, |(_, args, _)| {
                text(&args.iter().map(|t| types::format_type(*t, -1)).collect::<Vec<_>>().join(", "))
            }))
        }
        "pg_get_function_result" => Ok(pg_catalog::signature(oid_at(args, 0))
            .map_or(Datum::Null, |(_, _, returns)| text(&types::format_type(returns, -1)))),
        "oidvectortypes" => match args.first() {
            Some(Datum::Array(list)) => {
                let names: Vec<String> = list
                    .values
                    .iter()
                    .map(|v| types::format_type(oid_at(std::slice::from_ref(v), 0), -1))
                    .collect();
                Ok(text(&names.join(", ")))
            }
            _ => Ok(Datum::Null),
        },
        "pg_export_snapshot" => Err(Error::unsupported(
            "pg_export_snapshot",
            "Read all in one REPEATABLE READ transaction; pg_dump does so without -j.",
        )),
        "pg_get_functiondef" => function_definition(oid_at(args, 0)),
        "pg_get_function_arg_default"
        | "pg_get_function_sqlbody"
        | "pg_get_triggerdef"
        | "pg_get_partkeydef"
        | "pg_get_partition_constraintdef"
        | "pg_get_statisticsobjdef"
        | "pg_get_statisticsobjdef_columns"
        | "pg_get_statisticsobjdef_expressions"
        | "pg_get_replica_identity_index"
        | "pg_get_wal_replay_pause_state"
        | "pg_partition_root"
        | "pg_current_logfile"
        | "pg_collation_actual_version"
        | "pg_database_collation_actual_version"
        | "pg_settings_get_flags"
        | "inet_server_addr"
        | "inet_server_port"
        | "txid_status"
        | "pg_collation_for" => Ok(Datum::Null),
        "pg_table_is_visible" => bool_of(match scope.catalog.get(oid_at(args, 0)) {
            Some(object) => match object.relation_schema() {
                Some(schema) => {
                    scope.is_visible(schema, object.name())
                        && scope
                            .path
                            .iter()
                            .find_map(|s| scope.catalog.relation(*s, object.name()))
                            .is_none_or(|o| o.oid() == object.oid())
                }
                None => return Ok(Datum::Null),
            },
            None => match pg_catalog::by_oid(oid_at(args, 0)) {
                Some(relation) => relation.schema == "pg_catalog",
                None => return Ok(Datum::Null),
            },
        }),
        "pg_type_is_visible"
        | "pg_function_is_visible"
        | "pg_operator_is_visible"
        | "pg_opclass_is_visible"
        | "pg_opfamily_is_visible"
        | "pg_collation_is_visible"
        | "pg_conversion_is_visible"
        | "pg_statistics_obj_is_visible"
        | "pg_ts_config_is_visible"
        | "pg_ts_dict_is_visible"
        | "pg_ts_parser_is_visible"
        | "pg_ts_template_is_visible" => bool_of(true),
        "obj_description" | "shobj_description" => {
            let wanted = oid_at(args, 0);
            let class = if args.len() > 1 { string(args, 1) } else { "" };
            if class == "pg_constraint" {
                return some_text(
                    tables(scope)
                        .flat_map(|t| &t.constraints)
                        .find(|c| c.oid == wanted)
                        .and_then(|c| c.comment.clone()),
                );
            }
            some_text(scope.catalog.get(wanted).and_then(comment_of))
        }
        "col_description" => {
            let found = scope.catalog.table(oid_at(args, 0));
            some_text(
                found.and_then(|t| t.columns.get((number(args, 1) - 1).max(0) as usize)?.comment.clone()),
            )
        }
        "pg_describe_object" => some_text(
            scope
                .catalog
                .get(oid_at(args, 1))
                .map(|o| format!("{} {}", crate::command::kind_of(o).noun(), o.name())),
        ),
        "pg_relation_size" | "pg_table_size" | "pg_total_relation_size" | "pg_indexes_size" => {
            Ok(Datum::Int8(size(scope, function.name, oid_at(args, 0))))
        }
        "pg_database_size" => {
            let found = match args.first() {
                Some(Datum::Oid(oid)) => {
                    scope.catalog.get(*oid).filter(|o| matches!(o, Object::Database(_))).map(|o| o.oid())
                }
                _ => {
                    let name = string(args, 0);
                    let found = scope.catalog.database_named(name).map(|d| d.oid);
                    Some(found.ok_or_else(|| {
                        Error::new(
                            SqlState::INVALID_CATALOG_NAME,
                            format!("database \"{name}\" does not exist"),
                        )
                    })?)
                }
            };
            Ok(found.map_or(Datum::Null, |oid| Datum::Int8(database_size(&scope.database, oid))))
        }
        "pg_tablespace_size" => {
            let total: i64 = tables(scope).map(|t| size(scope, "pg_total_relation_size", t.oid)).sum();
            Ok(Datum::Int8(total))
        }
        "pg_relation_filenode" => Ok(Datum::Oid(oid_at(args, 0))),
        "pg_relation_filepath" | "pg_tablespace_location" => Ok(text("")),
        "pg_filenode_relation" => Ok(Datum::Oid(oid_at(args, 1))),
        "pg_encoding_to_char" => Ok(text(if number(args, 0) == 6 { "UTF8" } else { "SQL_ASCII" })),
        "pg_char_to_encoding" => {
            Ok(Datum::Int4(if string(args, 0).to_ascii_lowercase().replace('-', "") == "utf8" {
                6
            } else {
                -1
            }))
        }
        "pg_encoding_max_length" => Ok(Datum::Int4(4)),
        "getdatabaseencoding" | "pg_client_encoding" => Ok(text("UTF8")),
        "pg_is_in_recovery"
        | "pg_is_wal_replay_paused"
        | "pg_jit_available"
        | "pg_is_other_temp_schema"
        | "row_security_active"
        | "pg_relation_is_publishable"
        | "pg_reload_conf"
        | "pg_rotate_logfile"
        | "pg_log_backend_memory_contexts" => bool_of(false),
        "pg_relation_is_updatable" => {
            Ok(Datum::Int4(if scope.catalog.table(oid_at(args, 0)).is_some() { 28 } else { 0 }))
        }
        "pg_column_is_updatable" => bool_of(scope.catalog.table(oid_at(args, 0)).is_some()),
        "pg_index_column_has_property" => index_property(scope, args),
        "pg_index_has_property" => Ok(match string(args, 1) {
            "index_scan" | "backward_scan" => Datum::Bool(true),
            "clusterable" | "bitmap_scan" => Datum::Bool(false),
            _ => Datum::Null,
        }),
        "pg_indexam_has_property" => Ok(match string(args, 1) {
            "can_order" => Datum::Bool(oid_at(args, 0) == 403),
            "can_unique" | "can_multi_col" | "can_include" => Datum::Bool(oid_at(args, 0) == 403),
            "can_exclude" => Datum::Bool(false),
            _ => Datum::Null,
        }),
        "pg_my_temp_schema" => Ok(Datum::Oid(scope.temporary.unwrap_or(0))),
        "pg_postmaster_start_time" | "pg_conf_load_time" => Ok(Datum::TimestampTz(scope.database.started_at)),
        "pg_notification_queue_usage" => Ok(Datum::Float8(0.0)),
        "pg_trigger_depth" => Ok(Datum::Int4(0)),
        "pg_stat_clear_snapshot" | "pg_stat_reset" => void(),
        "pg_stat_get_live_tuples" => {
            let rows =
                scope.catalog.table(oid_at(args, 0)).map_or(0, |t| scope.database.engine.statistics(t).rows);
            Ok(Datum::Int8(rows as i64))
        }
        "pg_stat_get_dead_tuples" | "pg_stat_get_numscans" => Ok(Datum::Int8(0)),
        "txid_current" | "pg_current_xact_id" => {
            Ok(Datum::Int8(shared.transaction_id.load(Ordering::Relaxed) as i64))
        }
        "txid_current_if_assigned" | "pg_current_xact_id_if_assigned" => {
            Ok(Datum::Int8(shared.transaction_id.load(Ordering::Relaxed) as i64))
        }
        "age" => Ok(Datum::Int4(0)),
        "pg_current_wal_lsn" | "pg_current_wal_insert_lsn" => {
            Ok(Datum::Int8(scope.database.engine.last_lsn().0 as i64))
        }
        "pg_current_wal_flush_lsn" => Ok(Datum::Int8(scope.database.engine.durable_lsn().0 as i64)),
        // Nothing follows another server, so nothing was received from one.
        "pg_last_wal_receive_lsn" | "pg_last_wal_replay_lsn" | "pg_last_xact_replay_timestamp" => {
            Ok(Datum::Null)
        }
        "inet_client_addr" => Ok(match &shared.peer {
            Peer::Tcp { address, .. } => text(&address.to_string()),
            _ => Datum::Null,
        }),
        "inet_client_port" => Ok(match &shared.peer {
            Peer::Tcp { port, .. } => Datum::Int4(i32::from(*port)),
            _ => Datum::Null,
        }),
        "pg_cancel_backend" | "pg_terminate_backend" => signal(scope, function.name, number(args, 0) as i32),
        "pg_blocking_pids" => {
            let pids = scope.database.engine.locks().blocking_pids(number(args, 0) as i32);
            Ok(array(oid::INT4, pids.into_iter().map(Datum::Int4).collect()))
        }
        "pg_isolation_test_session_is_blocked" => {
            let pids = scope.database.engine.locks().blocking_pids(number(args, 0) as i32);
            let Some(Datum::Array(interesting)) = args.get(1) else { return bool_of(false) };
            let is_one =
                |pid: i32| interesting.values.iter().any(|v| matches!(v, Datum::Int4(v) if *v == pid));
            bool_of(pids.into_iter().any(is_one))
        }
        "pg_safe_snapshot_blocking_pids" => Ok(array(oid::INT4, Vec::new())),
        "pg_advisory_unlock" | "pg_advisory_unlock_shared" => {
            let shared_lock = function.name.ends_with("shared");
            let released = shared.state.unlock_advisory(advisory_key(scope, args), shared_lock);
            if !released {
                let mode = if shared_lock { "ShareLock" } else { "ExclusiveLock" };
                shared.notice(
                    "WARNING",
                    Error::new(SqlState::WARNING, format!("you don't own a lock of type {mode}")),
                );
            }
            bool_of(released)
        }
        "pg_advisory_unlock_all" => {
            shared.state.unlock_all_advisory();
            void()
        }
        // Where it could wait, it would not be called from here.
        name if function.waits => Err(Error::unsupported(
            format!("{name} here"),
            "Call it in the SELECT list, in WHERE or in FROM of a query.",
        )),
        "pg_notify" => {
            if string(args, 0).is_empty() {
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, "channel name cannot be empty"));
            }
            shared.pending.lock().push(Pending::Notify {
                channel: string(args, 0).to_string(),
                payload: string(args, 1).to_string(),
            });
            void()
        }
        "acldefault" => {
            let owner = oid_at(args, 1);
            let kind = match string(args, 0) {
                "r" => AclKind::Table,
                "s" => AclKind::Sequence,
                "n" => AclKind::Schema,
                "d" => AclKind::Database,
                _ => return Ok(array(oid::ACLITEM, Vec::new())),
            };
            let items = privilege::written_out(&None, owner, kind).0;
            Ok(array(
                oid::ACLITEM,
                items.iter().map(|i| Datum::text(privilege::item_text(&scope.catalog, i))).collect(),
            ))
        }
        "pg_has_role" => has_role(scope, function, args),
        name if name.starts_with("has_") => has_privilege(scope, function, args),
        "to_regclass" | "to_regtype" | "to_regnamespace" | "to_regrole" | "to_regproc"
        | "to_regprocedure" | "to_regoper" | "to_regoperator" | "to_regcollation" => {
            match reg_input(scope, function.returns, string(args, 0)) {
                Ok(found) => Ok(found),
                Err(error) if error.state() == SqlState::SYNTAX_ERROR => Err(error),
                Err(_) => Ok(Datum::Null),
            }
        }
        "regclass" | "regclassin" | "regtypein" | "regrolein" | "regnamespacein" | "regprocin"
        | "regprocedurein" | "regoperin" | "regoperatorin" => {
            reg_input(scope, function.returns, string(args, 0))
        }
        "regclassout" | "regtypeout" | "regroleout" | "regnamespaceout" | "regprocout"
        | "regprocedureout" | "regoperout" | "regoperatorout" => {
            let ty = function.args.first().copied().unwrap_or(0);
            Ok(text(&reg_output(scope, ty, oid_at(args, 0))))
        }
        other => Err(Error::unsupported(format!("function {other}"), "StartDB has nothing behind it.")),
    }
}

fn tables(scope: &Scope) -> impl Iterator<Item = &Arc<engine::catalog::Table>> {
    scope.catalog.objects().filter_map(|o| match o {
        Object::Table(t) if t.database == scope.shared.database => Some(t),
        _ => None,
    })
}

fn comment_of(object: &Object) -> Option<String> {
    match object {
        Object::Table(o) => o.comment.clone(),
        Object::Index(o) => o.comment.clone(),
        Object::View(o) => o.comment.clone(),
        Object::Sequence(o) => o.comment.clone(),
        Object::Schema(o) => o.comment.clone(),
        Object::Database(o) => o.comment.clone(),
        Object::Role(o) => o.comment.clone(),
    }
}

fn set_config(scope: &Scope, args: &[Datum]) -> Result<Datum> {
    let Some(Datum::Text(name)) = args.first() else {
        return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, "SET requires parameter name"));
    };
    let local = truth(args, 2);
    let known = setting::find(name).map_or("", |s| s.name);
    let value = string(args, 1);
    match known {
        "role" => scope
            .shared
            .pending
            .lock()
            .push(Pending::Role { role: (value != "none").then(|| value.to_string()), local }),
        "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {
            scope
                .shared
                .pending
                .lock()
                .push(Pending::Transaction { setting: known, value: value.to_string() });
        }
        _ => {
            let mut settings = scope.shared.settings.lock();
            if args.get(1).is_none_or(Datum::is_null) {
                settings.reset(name, local)?;
            } else {
                settings.set_text(name, value, local)?;
            }
            return Ok(settings.show(name).map_or(Datum::Null, Datum::text));
        }
    }
    Ok(text(value))
}

fn sequence(scope: &Scope, oid: Oid) -> Result<Arc<Sequence>> {
    match scope.catalog.get(oid) {
        Some(Object::Sequence(sequence)) => Ok(sequence.clone()),
        Some(other) => {
            Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a sequence", other.name())))
        }
        None => Err(Error::new(SqlState::UNDEFINED_TABLE, format!("could not open relation with OID {oid}"))),
    }
}

fn may_use(scope: &Scope, sequence: &Sequence, letters: &str) -> Result<()> {
    let held =
        privilege::held(&scope.catalog, scope.role, sequence.owner, &sequence.acl, AclKind::Sequence).0;
    if letters.chars().any(|l| held.contains(l)) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for sequence {}", sequence.name),
    ))
}

/// The last value and whether it was handed out.
pub fn sequence_state(scope: &Scope, sequence: &Sequence) -> (i64, bool) {
    scope.database.engine.sequence_state(sequence)
}

/// 25006 in a read-only transaction, but for a temporary sequence.
fn may_advance(scope: &Scope, sequence: &Sequence, what: &str) -> Result<()> {
    let (_, read_only, _) = scope.modes;
    if read_only && Some(sequence.schema) != scope.temporary {
        return Err(Error::new(
            SqlState::READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {what}() in a read-only transaction"),
        ));
    }
    Ok(())
}

fn nextval(scope: &Scope, oid: Oid) -> Result<Datum> {
    let sequence = sequence(scope, oid)?;
    may_advance(scope, &sequence, "nextval")?;
    may_use(scope, &sequence, "wU")?;
    let value = scope.database.engine.sequence_next(&scope.shared.state, &sequence)?;
    let mut memory = scope.shared.sequences.lock();
    memory.values.insert(oid, value);
    memory.last = Some(oid);
    Ok(Datum::Int8(value))
}

fn currval(scope: &Scope, oid: Oid) -> Result<Datum> {
    let sequence = sequence(scope, oid)?;
    may_use(scope, &sequence, "rU")?;
    match scope.shared.sequences.lock().values.get(&oid) {
        Some(value) => Ok(Datum::Int8(*value)),
        None => Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("currval of sequence \"{}\" is not yet defined in this session", sequence.name),
        )),
    }
}

fn setval(scope: &Scope, oid: Oid, value: i64, called: bool) -> Result<Datum> {
    let sequence = sequence(scope, oid)?;
    may_advance(scope, &sequence, "setval")?;
    may_use(scope, &sequence, "w")?;
    if value < sequence.minimum || value > sequence.maximum {
        return Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!(
                "setval: value {value} is out of bounds for sequence \"{}\" ({}..{})",
                sequence.name, sequence.minimum, sequence.maximum
            ),
        ));
    }
    scope.database.engine.sequence_set(&scope.shared.state, &sequence, value, called)?;
    if called {
        scope.shared.sequences.lock().values.insert(oid, value);
    }
    Ok(Datum::Int8(value))
}

fn no_relation(name: &str) -> Error {
    Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

fn serial_sequence(scope: &Scope, args: &[Datum]) -> Result<Datum> {
    let Some(oid) = find_class(scope, string(args, 0))? else { return Err(no_relation(string(args, 0))) };
    let Some(table) = scope.catalog.table(oid) else {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", string(args, 0)),
        ));
    };
    let Some((_, column)) = table.column(string(args, 1)) else {
        return Err(Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{}\" of relation \"{}\" does not exist", string(args, 1), table.name),
        ));
    };
    let owned = scope.catalog.objects().find_map(|o| match o {
        Object::Sequence(s) if s.owned_by == Some((oid, column.number)) => Some(s.clone()),
        _ => None,
    });
    let found = owned.or_else(|| {
        let default = column.default.as_deref()?;
        sequences_of(default)
            .first()
            .and_then(|s| scope.catalog.sequence(*s))
            .filter(|s| s.owned_by.is_some())
            .cloned()
    });
    some_text(
        found.map(|s| {
            format!("{}.{}", lex::quote_name(&scope.schema_name(s.schema)), lex::quote_name(&s.name))
        }),
    )
}

fn size(scope: &Scope, what: &str, relation: Oid) -> i64 {
    relation_size(&scope.database, &scope.catalog, what, relation)
}

fn relation_size(database: &Database, catalog: &engine::catalog::Catalog, what: &str, relation: Oid) -> i64 {
    let table_size = |t: &engine::catalog::Table| {
        let statistics = database.engine.statistics(t);
        let width = i64::from(statistics.row_width.max(16)) + 8;
        let bytes = statistics.rows as i64 * width;
        (bytes + 8191) / 8192 * 8192
    };
    let index_size = |i: &engine::catalog::Index| match catalog.table(i.table) {
        Some(t) => (database.engine.statistics(t).rows as i64 * 24 + 8191) / 8192 * 8192,
        None => 0,
    };
    match catalog.get(relation) {
        Some(Object::Table(t)) => {
            let indexes: i64 = catalog.indexes(t.oid).map(|i| index_size(i)).sum();
            match what {
                "pg_indexes_size" => indexes,
                "pg_total_relation_size" => table_size(t) + indexes,
                _ => table_size(t),
            }
        }
        Some(Object::Index(i)) if what != "pg_indexes_size" => index_size(i),
        Some(Object::Sequence(_)) => 8192,
        _ => 0,
    }
}

/// Bytes of all tables of a database with their indexes.
pub(crate) fn database_size(database: &Database, oid: Oid) -> i64 {
    let catalog = database.engine.catalog();
    let tables = catalog.objects().filter_map(|o| match o {
        Object::Table(t) if t.database == oid => Some(t.oid),
        _ => None,
    });
    tables.map(|table| relation_size(database, &catalog, "pg_total_relation_size", table)).sum()
}

fn index_property(scope: &Scope, args: &[Datum]) -> Result<Datum> {
    let Some(index) = scope.catalog.index(oid_at(args, 0)) else { return Ok(Datum::Null) };
    let Some(key) = index.keys.get((number(args, 1) - 1).max(0) as usize) else { return Ok(Datum::Null) };
    let ordered = index.kind == engine::catalog::IndexKind::BTree;
    Ok(match string(args, 2) {
        "asc" => Datum::Bool(ordered && !key.descending),
        "desc" => Datum::Bool(ordered && key.descending),
        "nulls_first" => Datum::Bool(ordered && key.nulls_first),
        "nulls_last" => Datum::Bool(ordered && !key.nulls_first),
        "orderable" => Datum::Bool(ordered),
        "distance_orderable" => Datum::Bool(false),
        "returnable" | "search_array" | "search_nulls" => Datum::Bool(ordered),
        _ => Datum::Null,
    })
}

/// CREATE FUNCTION of a built-in function.
fn function_definition(wanted: Oid) -> Result<Datum> {
    if let Some(aggregate) = function::aggregate_by_oid(wanted) {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is an aggregate function", aggregate.name),
        ));
    }
    let Some(found) = function::function_by_oid(wanted) else { return Ok(Datum::Null) };
    let list: Vec<String> = found.args.iter().map(|ty| types::format_type(*ty, -1)).collect();
    let volatility = match found.volatility {
        function::Volatility::Immutable => " IMMUTABLE",
        function::Volatility::Stable => " STABLE",
        function::Volatility::Volatile => "",
    };
    let strict = if found.strict { " STRICT" } else { "" };
    Ok(text(&format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.{}({})\n RETURNS {}\n LANGUAGE internal\n{volatility} PARALLEL SAFE{strict}\nAS $function${}$function$\n",
        lex::quote_name(found.name),
        list.join(", "),
        types::format_type(found.returns, -1),
        found.name,
    )))
}

fn signal(scope: &Scope, name: &str, pid: i32) -> Result<Datum> {
    let target = scope.database.sessions.get(&pid).map(|s| s.roles.lock().session);
    let Some(role) = target else {
        scope.shared.notice(
            "WARNING",
            Error::new(SqlState::WARNING, format!("PID {pid} is not a PostgreSQL backend process")),
        );
        return bool_of(false);
    };
    if !scope.superuser && privilege::is_superuser(&scope.catalog, role) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "must be a superuser to terminate superuser process",
        ));
    }
    if !privilege::is_member(&scope.catalog, scope.role, role)
        && !privilege::acts_as(&scope.catalog, scope.role, predefined::SIGNAL_BACKEND)
    {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "must be a member of the role whose process is being terminated or member of pg_signal_backend",
        ));
    }
    bool_of(scope.database.signal(pid, name == "pg_terminate_backend"))
}

/// How long pg_sleep (seconds), pg_sleep_for (an interval) or pg_sleep_until (a time) is to wait.
pub fn sleep_time(args: &[Datum]) -> Duration {
    match args.first() {
        Some(Datum::Float8(seconds)) => {
            Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
        }
        Some(Datum::Interval(i)) => {
            let days = i64::from(i.days) + 30 * i64::from(i.months);
            Duration::from_micros(i.micros.saturating_add(days.saturating_mul(86_400_000_000)).max(0) as u64)
        }
        Some(Datum::TimestampTz(until)) => {
            Duration::from_micros(until.saturating_sub(datetime::now()).max(0) as u64)
        }
        _ => Duration::ZERO,
    }
}

/// Carries out a call that waits: pg_sleep and its kin, and those that take an advisory lock.
pub async fn wait(scope: &Scope, name: &str, args: &[Datum], tx: &mut Transaction) -> Result<Datum> {
    if name.starts_with("pg_sleep") {
        let _event = scope.shared.waits_for("Timeout", "PgSleep");
        // The clock takes no more than some years.
        tokio::time::sleep(sleep_time(args).min(Duration::from_secs(1 << 32))).await;
        return Ok(text(""));
    }
    if !name.contains("advisory") {
        return Err(Error::internal(format!("nobody waits for {name}")));
    }
    let held = if name.contains("xact") { AdvisoryScope::Transaction } else { AdvisoryScope::Session };
    let tries = name.starts_with("pg_try");
    let wait = if tries { Wait::Skip } else { Wait::Block };
    let got = tx.lock_advisory(advisory_key(scope, args), name.ends_with("shared"), held, wait).await?;
    match (tries, got) {
        (true, got) => bool_of(got),
        (false, true) => Ok(text("")),
        (false, false) => Err(Error::internal("an advisory lock was skipped")),
    }
}

/// The key of an advisory lock function's arguments.
pub fn advisory_key(scope: &Scope, args: &[Datum]) -> AdvisoryKey {
    match args {
        [Datum::Int4(class), Datum::Int4(object)] => {
            AdvisoryKey::pair(scope.shared.database, *class, *object)
        }
        _ => AdvisoryKey::bigint(scope.shared.database, number(args, 0)),
    }
}

fn find_class(scope: &Scope, name: &str) -> Result<Option<Oid>> {
    if let Ok(oid) = name.trim().parse::<u32>() {
        return Ok(Some(oid));
    }
    let mut parts = grammar::parse_name(name)?;
    let relation = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let wanted = Name { schema: schema.clone(), name: relation.clone(), position: 1 };
    // The temporary schema stands before pg_catalog, everything else behind it.
    if let Some(object) = crate::command::find_relation(scope, &wanted)
        && (schema.is_some() || object.relation_schema() == scope.temporary)
    {
        return Ok(Some(object.oid()));
    }
    if let Some(system) = pg_catalog::relation(scope, schema.as_deref().unwrap_or("pg_catalog"), &relation) {
        return Ok(Some(system.oid));
    }
    Ok(crate::command::find_relation(scope, &wanted).map(|o| o.oid()))
}

/// A name (or number) to a value of a reg type.
pub fn reg_input(scope: &Scope, ty: Oid, name: &str) -> Result<Datum> {
    let name = name.trim();
    if name == "-" {
        return Ok(Datum::Oid(0));
    }
    if let Ok(oid) = name.parse::<u32>() {
        return Ok(Datum::Oid(oid));
    }
    match ty {
        oid::REGCLASS => match find_class(scope, name)? {
            Some(found) => Ok(Datum::Oid(found)),
            None => Err(no_relation(name)),
        },
        oid::REGTYPE => {
            grammar::parse_type(name).map(|t: Type| Datum::Oid(t.oid)).map_err(|e| e.set_position(None))
        }
        oid::REGNAMESPACE => {
            let parts = grammar::parse_name(name)?;
            let schema = parts.first().cloned().unwrap_or_default();
            match scope.schema_oid(&schema) {
                Some(found) => Ok(Datum::Oid(found)),
                None => Err(Error::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{schema}\" does not exist"),
                )),
            }
        }
        oid::REGROLE => {
            let parts = grammar::parse_name(name)?;
            let role = parts.first().cloned().unwrap_or_default();
            match scope.catalog.role_named(&role) {
                Some(found) => Ok(Datum::Oid(found.oid)),
                None => {
                    Err(Error::new(SqlState::UNDEFINED_OBJECT, format!("role \"{role}\" does not exist")))
                }
            }
        }
        oid::REGPROC | oid::REGPROCEDURE => {
            let bare = name.split('(').next().unwrap_or_default();
            let parts = grammar::parse_name(bare)?;
            let function = parts.last().cloned().unwrap_or_default();
            match pg_catalog::function_oid(&function) {
                Some(found) => Ok(Datum::Oid(found)),
                None => Err(Error::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function \"{name}\" does not exist"),
                )),
            }
        }
        oid::REGOPER | oid::REGOPERATOR => {
            let bare = name.split('(').next().unwrap_or_default();
            let operator = bare.rsplit('.').next().unwrap_or_default();
            match function::operators().find(|o| o.name == operator) {
                Some(found) => Ok(Datum::Oid(found.oid)),
                None => {
                    Err(Error::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {name}")))
                }
            }
        }
        oid::REGCOLLATION => match name.trim_matches('"') {
            "default" => Ok(Datum::Oid(100)),
            "C" => Ok(Datum::Oid(950)),
            "POSIX" => Ok(Datum::Oid(951)),
            other => Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!("collation \"{other}\" for encoding \"UTF8\" does not exist"),
            )),
        },
        _ => Err(Error::unsupported("this reg type", "Use oid.")),
    }
}

/// A value of a reg type as text.
pub fn reg_output(scope: &Scope, ty: Oid, value: Oid) -> String {
    if value == 0 {
        return "-".into();
    }
    let found = match ty {
        oid::REGCLASS => match scope.catalog.get(value) {
            Some(object) => object.relation_schema().map(|s| scope.relation_text(s, object.name())),
            None => pg_catalog::by_oid(value).map(|r| {
                if r.schema == "pg_catalog" { r.name.to_string() } else { format!("{}.{}", r.schema, r.name) }
            }),
        },
        oid::REGTYPE => types::info(value).map(|_| {
            if value == oid::BPCHAR { "character".to_string() } else { types::format_type(value, -1) }
        }),
        oid::REGNAMESPACE => Some(lex::quote_name(&scope.schema_name(value))),
        oid::REGROLE => scope.catalog.role(value).map(|r| lex::quote_name(&r.name)),
        oid::REGPROC => pg_catalog::function_name(value).map(lex::quote_name),
        oid::REGPROCEDURE => pg_catalog::signature(value).map(|(name, args, _)| {
            let list: Vec<String> = args.iter().map(|t| types::format_type(*t, -1)).collect();
            format!("{name}({})", list.join(","))
        }),
        oid::REGOPER => function::operator_by_oid(value).map(|o| o.name.to_string()),
        oid::REGOPERATOR => function::operator_by_oid(value).map(|o| {
            let left = o.left.map_or_else(|| "NONE".to_string(), |t| types::format_type(t, -1));
            format!("{}({left},{})", o.name, types::format_type(o.right, -1))
        }),
        oid::REGCOLLATION => Some(
            if value == 950 {
                "\"C\""
            } else if value == 951 {
                "\"POSIX\""
            } else {
                "\"default\""
            }
            .to_string(),
        ),
        _ => None,
    };
    found.unwrap_or_else(|| value.to_string())
}

/// Splits the arguments of has_*_privilege into the role and the rest.
fn who<'a>(
    scope: &Scope,
    function: &Function,
    args: &'a [Datum],
    with_role: usize,
) -> Result<(Oid, &'a [Datum])> {
    if args.len() < with_role {
        return Ok((scope.role, args));
    }
    let role = match (&args[0], function.args.first()) {
        (Datum::Oid(oid), _) => *oid,
        (Datum::Text(name), _) if &**name == "public" => 0,
        (Datum::Text(name), _) => match scope.catalog.role_named(name) {
            Some(role) => role.oid,
            None => {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("role \"{name}\" does not exist"),
                ));
            }
        },
        _ => scope.role,
    };
    Ok((role, &args[1..]))
}

/// `SELECT, INSERT WITH GRANT OPTION` to letters with their option.
fn wanted(kind: AclKind, list: &str) -> Result<Vec<(char, bool)>> {
    list.split(',')
        .map(|word| {
            let word = word.trim().to_ascii_lowercase();
            let (word, option) = match word.strip_suffix("with grant option") {
                Some(word) => (word.trim().to_string(), true),
                None => (word, false),
            };
            kind.letter(&word).map(|l| (l, option)).ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unrecognized privilege type: \"{word}\""),
                )
            })
        })
        .collect()
}

fn has_any(
    scope: &Scope,
    role: Oid,
    owner: Oid,
    acl: &Option<engine::catalog::Acl>,
    kind: AclKind,
    list: &str,
) -> Result<bool> {
    let (held, grantable) = privilege::held(&scope.catalog, role, owner, acl, kind);
    Ok(wanted(kind, list)?
        .into_iter()
        .any(|(letter, option)| if option { grantable.contains(letter) } else { held.contains(letter) }))
}

fn has_privilege(scope: &Scope, function: &Function, args: &[Datum]) -> Result<Datum> {
    let columns = function.name == "has_column_privilege";
    let (role, rest) = who(scope, function, args, if columns { 4 } else { 3 })?;
    let list = string(rest, rest.len() - 1);
    let class = |datum: &Datum| -> Result<Option<Oid>> {
        match datum {
            Datum::Text(name) => match find_class(scope, name)? {
                Some(oid) => Ok(Some(oid)),
                None => Err(no_relation(name)),
            },
            Datum::Oid(oid) => Ok(Some(*oid)),
            _ => Ok(None),
        }
    };
    match function.name {
        "has_table_privilege"
        | "has_any_column_privilege"
        | "has_column_privilege"
        | "has_sequence_privilege" => {
            let Some(oid) = class(&rest[0])? else { return Ok(Datum::Null) };
            if pg_catalog::by_oid(oid).is_some()
                || scope.database.registered.read().iter().any(|r| r.oid == oid)
            {
                let needed = if pg_catalog::by_oid(oid).is_none() {
                    Some(predefined::READ_ALL_STATS)
                } else if matches!(oid, 1260 | 12005) {
                    Some(predefined::READ_ALL_DATA)
                } else {
                    None
                };
                let may_read = needed.is_none_or(|needed| privilege::acts_as(&scope.catalog, role, needed));
                return bool_of(
                    privilege::is_superuser(&scope.catalog, role)
                        || (may_read && list.to_ascii_lowercase().contains("select")),
                );
            }
            let Some(object) = scope.catalog.get(oid) else { return Ok(Datum::Null) };
            let Some((owner, acl, kind)) = privilege::access_of(object) else { return Ok(Datum::Null) };
            let kind = if function.name == "has_sequence_privilege" { AclKind::Sequence } else { kind };
            if columns || function.name == "has_any_column_privilege" {
                let letters = wanted(AclKind::Column, list)?;
                let (held, _) = privilege::held(&scope.catalog, role, owner, acl, kind);
                if letters.iter().any(|(l, _)| held.contains(*l)) {
                    return bool_of(true);
                }
                let Object::Table(table) = object else { return bool_of(false) };
                let chosen: Vec<&engine::catalog::Column> = match (columns, &rest[1]) {
                    (true, Datum::Text(name)) => match table.column(name) {
                        Some((_, column)) => vec![column],
                        None => {
                            return Err(Error::new(
                                SqlState::UNDEFINED_COLUMN,
                                format!("column \"{name}\" of relation \"{}\" does not exist", table.name),
                            ));
                        }
                    },
                    (true, other) => table
                        .columns
                        .get((number(std::slice::from_ref(other), 0) - 1).max(0) as usize)
                        .into_iter()
                        .collect(),
                    _ => table.columns.iter().collect(),
                };
                return bool_of(chosen.iter().any(|c| {
                    c.acl.is_some()
                        && letters.iter().any(|(l, _)| {
                            privilege::has(&scope.catalog, role, owner, &c.acl, AclKind::Column, *l)
                        })
                }));
            }
            bool_of(has_any(scope, role, owner, acl, kind, list)?)
        }
        "has_schema_privilege" => {
            let oid = match &rest[0] {
                Datum::Text(name) => scope.schema_oid(name).ok_or_else(|| {
                    Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
                })?,
                other => oid_at(std::slice::from_ref(other), 0),
            };
            match scope.catalog.schema(oid) {
                Some(schema) => {
                    let (owner, acl) = privilege::standing(&scope.catalog, schema);
                    bool_of(has_any(scope, role, owner, &acl, AclKind::Schema, list)?)
                }
                None => bool_of(
                    privilege::is_superuser(&scope.catalog, role)
                        || list.to_ascii_lowercase().contains("usage"),
                ),
            }
        }
        "has_database_privilege" => {
            let database = match &rest[0] {
                Datum::Text(name) => scope.catalog.database_named(name),
                other => scope.catalog.database(oid_at(std::slice::from_ref(other), 0)),
            };
            match database {
                Some(d) => bool_of(has_any(scope, role, d.owner, &d.acl, AclKind::Database, list)?),
                None => Ok(Datum::Null),
            }
        }
        "has_parameter_privilege" => bool_of(privilege::is_superuser(&scope.catalog, role)),
        "has_tablespace_privilege" => bool_of(true),
        // Functions, types and languages are built in, and open to all.
        _ => bool_of(true),
    }
}

fn has_role(scope: &Scope, function: &Function, args: &[Datum]) -> Result<Datum> {
    let (role, rest) = who(scope, function, args, 3)?;
    let target = match &rest[0] {
        Datum::Text(name) => match scope.catalog.role_named(name) {
            Some(role) => role.oid,
            None => {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("role \"{name}\" does not exist"),
                ));
            }
        },
        other => oid_at(std::slice::from_ref(other), 0),
    };
    let usage = string(rest, 1).to_ascii_lowercase().contains("usage");
    let owner = scope.catalog.database(scope.shared.database).map(|database| database.owner);
    let roles = privilege::roles_of(&scope.catalog, role, !usage);
    bool_of(
        privilege::is_superuser(&scope.catalog, role)
            || roles.contains(&target)
            || (target == predefined::DATABASE_OWNER && owner.is_some_and(|owner| roles.contains(&owner))),
    )
}
