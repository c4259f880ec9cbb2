//! Who may do what: access lists, ownership, membership, and the 42501 that follows.
//!
//! The letters of an access list are PostgreSQL's. An object without a list has its default one: everything to the
//! owner, and to PUBLIC the right to connect to a database and to make temporary tables in it. Rights reach a
//! role through every role it inherits from; a superuser has all.

use std::collections::BTreeSet;

use engine::catalog::{Acl, AclItem, Catalog, Object, Schema, Table, View, oid};
use plan::ir::{Plan, TableUse};
use value::{Error, Oid, Result, SqlState};

use crate::{lex, predefined};

/// What an access list stands on; decides which letters it may have and what the default is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    Table,
    Sequence,
    Schema,
    Database,
    Column,
}

impl AclKind {
    /// Every letter such an object can grant.
    pub fn all(self) -> &'static str {
        match self {
            AclKind::Table => "arwdDxt",
            AclKind::Sequence => "rwU",
            AclKind::Schema => "UC",
            AclKind::Database => "CTc",
            AclKind::Column => "arwx",
        }
    }

    /// What PUBLIC has when nothing was granted.
    fn public(self) -> &'static str {
        match self {
            AclKind::Database => "Tc",
            _ => "",
        }
    }

    /// The letter of a privilege word for this kind of object.
    pub fn letter(self, word: &str) -> Option<char> {
        let letter = letter(word)?;
        self.all().contains(letter).then_some(letter)
    }
}

/// The letter of a privilege word in lower case.
pub fn letter(word: &str) -> Option<char> {
    Some(match word {
        "select" => 'r',
        "insert" => 'a',
        "update" => 'w',
        "delete" => 'd',
        "truncate" => 'D',
        "references" => 'x',
        "trigger" => 't',
        "usage" => 'U',
        "create" => 'C',
        "connect" => 'c',
        "temporary" | "temp" => 'T',
        "execute" => 'X',
        _ => return None,
    })
}

/// The word of a letter, as information_schema spells it.
pub fn word(letter: char) -> &'static str {
    match letter {
        'r' => "SELECT",
        'a' => "INSERT",
        'w' => "UPDATE",
        'd' => "DELETE",
        'D' => "TRUNCATE",
        'x' => "REFERENCES",
        't' => "TRIGGER",
        'U' => "USAGE",
        'C' => "CREATE",
        'c' => "CONNECT",
        'T' => "TEMPORARY",
        _ => "EXECUTE",
    }
}

/// The list as it works, with the default written out.
pub fn written_out(acl: &Option<Acl>, owner: Oid, kind: AclKind) -> Acl {
    match acl {
        Some(acl) => acl.clone(),
        None => {
            let mut items = Vec::new();
            if !kind.public().is_empty() {
                items.push(AclItem {
                    grantee: 0,
                    grantor: owner,
                    privileges: kind.public().to_string(),
                    grantable: String::new(),
                });
            }
            if kind != AclKind::Column {
                items.push(AclItem {
                    grantee: owner,
                    grantor: owner,
                    privileges: kind.all().to_string(),
                    grantable: String::new(),
                });
            }
            Acl(items)
        }
    }
}

pub fn is_superuser(catalog: &Catalog, role: Oid) -> bool {
    catalog.role(role).is_some_and(|r| r.superuser)
}

/// The role and every role whose rights it inherits (or, with `all`, it is a member of).
pub fn roles_of(catalog: &Catalog, role: Oid, all: bool) -> BTreeSet<Oid> {
    let mut seen = BTreeSet::from([role]);
    let mut open = vec![role];
    while let Some(next) = open.pop() {
        let Some(next) = catalog.role(next) else { continue };
        if !all && !next.inherit {
            continue;
        }
        for membership in &next.member_of {
            if seen.insert(membership.role) {
                open.push(membership.role);
            }
        }
    }
    seen
}

/// May act as `target` (SET ROLE, ALTER ... OWNER TO).
pub fn is_member(catalog: &Catalog, role: Oid, target: Oid) -> bool {
    role == target || is_superuser(catalog, role) || roles_of(catalog, role, true).contains(&target)
}

/// Owns an object, by itself or through a role it inherits from.
pub fn owns(catalog: &Catalog, role: Oid, owner: Oid) -> bool {
    role == owner || is_superuser(catalog, role) || roles_of(catalog, role, false).contains(&owner)
}

/// Superuser, or has the rights of one of the predefined roles.
pub fn acts_as(catalog: &Catalog, role: Oid, predefined: Oid) -> bool {
    is_superuser(catalog, role) || roles_of(catalog, role, false).contains(&predefined)
}

/// The owner an object's rights are measured by: pg_database_owner stands for whoever owns the object's database.
pub fn acting_owner(catalog: &Catalog, object: &Object) -> Oid {
    let owner = crate::command::owner_of(object);
    match object {
        Object::Schema(schema) if owner == predefined::DATABASE_OWNER => standing(catalog, schema).0,
        _ => owner,
    }
}

/// Owner and access list of a schema as they work: what pg_database_owner holds, the owner of its database holds.
pub fn standing(catalog: &Catalog, schema: &Schema) -> (Oid, Option<Acl>) {
    let Some(owner) = catalog.database(schema.database).map(|database| database.owner) else {
        return (schema.owner, schema.acl.clone());
    };
    let mut acl = schema.acl.clone();
    if let Some(acl) = &mut acl {
        let held: Vec<AclItem> =
            acl.0.iter().filter(|item| item.grantee == predefined::DATABASE_OWNER).cloned().collect();
        acl.0.extend(held.into_iter().map(|item| AclItem { grantee: owner, ..item }));
    }
    (if schema.owner == predefined::DATABASE_OWNER { owner } else { schema.owner }, acl)
}

/// What pg_read_all_data and pg_write_all_data give without any list.
fn given_by_role(roles: &BTreeSet<Oid>, kind: AclKind) -> &'static str {
    match (kind, roles.contains(&predefined::READ_ALL_DATA), roles.contains(&predefined::WRITE_ALL_DATA)) {
        (AclKind::Table, true, true) => "rawd",
        (AclKind::Table, true, false) => "r",
        (AclKind::Table, false, true) => "awd",
        (AclKind::Sequence, true, true) => "rw",
        (AclKind::Sequence, true, false) => "r",
        (AclKind::Sequence, false, true) => "w",
        (AclKind::Schema, true, _) | (AclKind::Schema, _, true) => "U",
        _ => "",
    }
}

/// The letters a role holds on an object, and those it may pass on.
pub fn held(catalog: &Catalog, role: Oid, owner: Oid, acl: &Option<Acl>, kind: AclKind) -> (String, String) {
    if is_superuser(catalog, role) {
        return (kind.all().to_string(), kind.all().to_string());
    }
    let roles = roles_of(catalog, role, false);
    let (mut letters, mut grantable) = (String::from(given_by_role(&roles, kind)), String::new());
    for item in written_out(acl, owner, kind).0 {
        if item.grantee == 0 || roles.contains(&item.grantee) {
            letters.push_str(&item.privileges);
            grantable.push_str(&item.grantable);
        }
    }
    if roles.contains(&owner) {
        // An owner may always grant, even what was revoked from it.
        grantable.push_str(kind.all());
    }
    (letters, grantable)
}

/// Whether a role holds one right.
pub fn has(catalog: &Catalog, role: Oid, owner: Oid, acl: &Option<Acl>, kind: AclKind, letter: char) -> bool {
    if acl.is_none() && role == owner {
        return kind.all().contains(letter);
    }
    held(catalog, role, owner, acl, kind).0.contains(letter)
}

fn denied(noun: &str, name: &str) -> Error {
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for {noun} {name}"))
}

pub fn must_own(catalog: &Catalog, role: Oid, owner: Oid, noun: &str, name: &str) -> Result<()> {
    if owns(catalog, role, owner) {
        Ok(())
    } else {
        Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("must be owner of {noun} {name}")))
    }
}

/// A right on a schema: 'U' to look names up in it, 'C' to create in it.
pub fn check_schema(catalog: &Catalog, role: Oid, schema: Oid, letter: char) -> Result<()> {
    let Some(schema) = catalog.schema(schema) else { return Ok(()) };
    // What everybody reads; nobody creates in them but through their own commands.
    let system = schema.oid < engine::catalog::FIRST_USER_OID && schema.oid != oid::PUBLIC;
    let (owner, acl) = standing(catalog, schema);
    if (system && letter == 'U') || has(catalog, role, owner, &acl, AclKind::Schema, letter) {
        Ok(())
    } else {
        Err(denied("schema", &schema.name))
    }
}

pub fn check_database(catalog: &Catalog, role: Oid, database: Oid, letter: char) -> Result<()> {
    let Some(database) = catalog.database(database) else { return Ok(()) };
    if has(catalog, role, database.owner, &database.acl, AclKind::Database, letter) {
        Ok(())
    } else {
        Err(denied("database", &database.name))
    }
}

pub fn check_table(catalog: &Catalog, role: Oid, table: &Table, letter: char) -> Result<()> {
    if has(catalog, role, table.owner, &table.acl, AclKind::Table, letter) {
        Ok(())
    } else {
        Err(denied("table", &table.name))
    }
}

/// Reading a view needs the right to read it; what it reads is checked as its owner.
fn check_view(catalog: &Catalog, role: Oid, view: &View) -> Result<()> {
    check_schema(catalog, role, view.schema, 'U')?;
    if has(catalog, role, view.owner, &view.acl, AclKind::Table, 'r') {
        Ok(())
    } else {
        Err(denied("view", &view.name))
    }
}

/// A right on some columns: the table's right is enough, else each column must grant it.
fn check_columns(catalog: &Catalog, role: Oid, table: &Table, letter: char, columns: &[usize]) -> Result<()> {
    if has(catalog, role, table.owner, &table.acl, AclKind::Table, letter) {
        return Ok(());
    }
    let granted = |n: &usize| {
        table.columns.get(*n).is_some_and(|column| {
            column.acl.is_some() && has(catalog, role, table.owner, &column.acl, AclKind::Column, letter)
        })
    };
    if !columns.is_empty() && columns.iter().all(granted) {
        Ok(())
    } else {
        Err(denied("table", &table.name))
    }
}

/// Every right a plan needs. 42501.
pub fn check_plan(catalog: &Catalog, role: Oid, plan: &Plan) -> Result<()> {
    for (view, check_as) in &plan.views {
        check_view(catalog, check_as.unwrap_or(role), view)?;
    }
    plan.tables.iter().try_for_each(|usage| check_use(catalog, role, usage))
}

/// Every right one table of a plan needs.
fn check_use(catalog: &Catalog, role: Oid, usage: &TableUse) -> Result<()> {
    let role = usage.check_as.unwrap_or(role);
    let table = &usage.table;
    if role == table.owner && table.acl.is_none() || is_superuser(catalog, role) {
        return Ok(());
    }
    check_schema(catalog, role, table.schema, 'U')?;
    if !usage.select.is_empty() {
        check_columns(catalog, role, table, 'r', &usage.select)?;
    } else if usage.select_any {
        // Any one column is enough to count rows.
        let some = table.columns.iter().any(|column| {
            column.acl.is_some() && has(catalog, role, table.owner, &column.acl, AclKind::Column, 'r')
        });
        if !some {
            check_table(catalog, role, table, 'r')?;
        }
    }
    if !usage.insert.is_empty() {
        check_columns(catalog, role, table, 'a', &usage.insert)?;
    }
    if !usage.update.is_empty() {
        check_columns(catalog, role, table, 'w', &usage.update)?;
    }
    if usage.delete {
        check_table(catalog, role, table, 'd')?;
    }
    Ok(())
}

/// Owner, access list and kind of anything that has a list.
pub fn access_of(object: &Object) -> Option<(Oid, &Option<Acl>, AclKind)> {
    match object {
        Object::Table(o) => Some((o.owner, &o.acl, AclKind::Table)),
        Object::View(o) => Some((o.owner, &o.acl, AclKind::Table)),
        Object::Sequence(o) => Some((o.owner, &o.acl, AclKind::Sequence)),
        Object::Schema(o) => Some((o.owner, &o.acl, AclKind::Schema)),
        Object::Database(o) => Some((o.owner, &o.acl, AclKind::Database)),
        Object::Index(_) | Object::Role(_) => None,
    }
}

/// One entry as `aclitem` prints it.
pub fn item_text(catalog: &Catalog, item: &AclItem) -> String {
    let name = |oid: Oid| match oid {
        0 => String::new(),
        oid => catalog.role(oid).map_or_else(|| oid.to_string(), |r| lex::quote_name(&r.name)),
    };
    let mut letters = String::new();
    for letter in "arwdDxtXUCTc".chars().filter(|l| item.privileges.contains(*l)) {
        letters.push(letter);
        if item.grantable.contains(letter) {
            letters.push('*');
        }
    }
    format!("{}={letters}/{}", name(item.grantee), name(item.grantor))
}

/// Adds or takes rights. `letters` held by `grantee` afterwards come from `grantor`; an entry without letters goes.
pub fn change(
    acl: &mut Acl,
    grant: bool,
    grantee: Oid,
    grantor: Oid,
    letters: &str,
    option: bool,
    option_only: bool,
) {
    let place = acl.0.iter().position(|item| item.grantee == grantee && item.grantor == grantor);
    let place = match place {
        Some(place) => place,
        None if grant => {
            acl.0.push(AclItem { grantee, grantor, privileges: String::new(), grantable: String::new() });
            acl.0.len() - 1
        }
        None => return,
    };
    let item = &mut acl.0[place];
    for letter in letters.chars() {
        if grant {
            if !item.privileges.contains(letter) {
                item.privileges.push(letter);
            }
            if option && !item.grantable.contains(letter) {
                item.grantable.push(letter);
            }
        } else {
            item.grantable.retain(|l| l != letter);
            if !option_only {
                item.privileges.retain(|l| l != letter);
            }
        }
    }
    if item.privileges.is_empty() {
        acl.0.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::catalog::{Change, Membership, Role};
    use std::sync::Arc;

    fn role(oid: Oid, name: &str, member_of: &[Oid]) -> Change {
        Change::Put(Object::Role(Arc::new(Role {
            oid,
            name: name.into(),
            superuser: false,
            inherit: true,
            create_role: false,
            create_db: false,
            login: true,
            replication: false,
            bypass_rls: false,
            connection_limit: -1,
            verifier: None,
            valid_until: None,
            member_of: member_of.iter().map(|r| Membership { role: *r, admin: false, grantor: 10 }).collect(),
            settings: Default::default(),
            comment: None,
        })))
    }

    #[test]
    fn grants_reach_members() {
        let mut catalog = Catalog::default();
        for change in [role(100, "boss", &[]), role(101, "staff", &[]), role(102, "ann", &[101])] {
            catalog.apply(&change);
        }
        let mut acl = written_out(&None, 100, AclKind::Table);
        change(&mut acl, true, 101, 100, "ra", false, false);
        let mut list = acl.clone();
        let acl = Some(acl);
        assert!(has(&catalog, 102, 100, &acl, AclKind::Table, 'r'));
        assert!(!has(&catalog, 102, 100, &acl, AclKind::Table, 'd'));
        assert!(has(&catalog, 100, 100, &acl, AclKind::Table, 'd'));
        assert_eq!(item_text(&catalog, &list.0[1]), "staff=ar/boss");
        change(&mut list, false, 101, 100, "ra", false, false);
        assert_eq!(list.0.len(), 1);
        assert!(has(&catalog, 102, 100, &None, AclKind::Database, 'c'));
    }
}
