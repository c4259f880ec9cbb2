//! The roles that are there from the start, with PostgreSQL's names and oids: whoever is granted one may do what it stands
//! for, without being a superuser. What each allows is checked where it is done, by `privilege::acts_as`.

use std::sync::Arc;

use engine::catalog::{Catalog, Membership, Object, Role, oid};
use value::{Error, Oid, Result, SqlState};

pub const MONITOR: Oid = 3373;
pub const READ_ALL_SETTINGS: Oid = 3374;
pub const READ_ALL_STATS: Oid = 3375;
pub const STAT_SCAN_TABLES: Oid = 3377;
pub const SIGNAL_BACKEND: Oid = 4200;
pub const CHECKPOINT: Oid = 4544;
pub const READ_SERVER_FILES: Oid = 4569;
pub const WRITE_SERVER_FILES: Oid = 4570;
pub const EXECUTE_SERVER_PROGRAM: Oid = 4571;
/// Nobody is granted this one: its only member is the owner of the database one is in.
pub const DATABASE_OWNER: Oid = 6171;
pub const READ_ALL_DATA: Oid = 6181;
pub const WRITE_ALL_DATA: Oid = 6182;

const ROLES: &[(Oid, &str)] = &[
    (MONITOR, "pg_monitor"),
    (READ_ALL_SETTINGS, "pg_read_all_settings"),
    (READ_ALL_STATS, "pg_read_all_stats"),
    (STAT_SCAN_TABLES, "pg_stat_scan_tables"),
    (SIGNAL_BACKEND, "pg_signal_backend"),
    (CHECKPOINT, "pg_checkpoint"),
    (READ_SERVER_FILES, "pg_read_server_files"),
    (WRITE_SERVER_FILES, "pg_write_server_files"),
    (EXECUTE_SERVER_PROGRAM, "pg_execute_server_program"),
    (DATABASE_OWNER, "pg_database_owner"),
    (READ_ALL_DATA, "pg_read_all_data"),
    (WRITE_ALL_DATA, "pg_write_all_data"),
];

/// Those a catalog does not have yet: all of them when it is new.
pub fn missing(catalog: &Catalog) -> Vec<Object> {
    let absent = ROLES.iter().filter(|(role, _)| catalog.role(*role).is_none());
    absent
        .map(|(role, name)| {
            let groups: &[Oid] = match *role {
                MONITOR => &[READ_ALL_SETTINGS, READ_ALL_STATS, STAT_SCAN_TABLES],
                _ => &[],
            };
            let member_of = groups.iter().map(|group| Membership {
                role: *group,
                admin: false,
                grantor: oid::BOOTSTRAP_SUPERUSER,
            });
            Object::Role(Arc::new(Role {
                oid: *role,
                name: (*name).to_string(),
                superuser: false,
                inherit: true,
                create_role: false,
                create_db: false,
                login: false,
                replication: false,
                bypass_rls: false,
                connection_limit: -1,
                verifier: None,
                valid_until: None,
                member_of: member_of.collect(),
                settings: Default::default(),
                comment: None,
            }))
        })
        .collect()
}

/// 42939 for one of these, which stay as they are.
pub fn not_fixed(name: &str) -> Result<()> {
    if name.starts_with("pg_") {
        return Err(Error::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved"))
            .detail("Cannot alter reserved roles."));
    }
    Ok(())
}

/// 42939 for a name that only such a role may have.
pub fn not_reserved(name: &str) -> Result<()> {
    if name.starts_with("pg_") {
        return Err(Error::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved"))
            .detail("Role names starting with \"pg_\" are reserved."));
    }
    if matches!(name, "public" | "none") {
        return Err(Error::new(SqlState::RESERVED_NAME, format!("role name \"{name}\" is reserved")));
    }
    Ok(())
}
