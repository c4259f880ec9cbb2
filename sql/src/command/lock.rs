//! LOCK TABLE.

use engine::catalog::Object;
use engine::{TableLockMode, Wait};
use value::{Error, Result, SqlState};

use crate::privilege;
use crate::session::{Outcome, Session};
use crate::statement::Name;

pub async fn run(session: &mut Session, names: &[Name], mode: &str, no_wait: bool) -> Result<Outcome> {
    if !session.in_transaction() {
        return Err(Error::new(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "LOCK TABLE can only be used in transaction blocks",
        ));
    }
    let mode = match mode {
        "access share" => TableLockMode::AccessShare,
        "row share" => TableLockMode::RowShare,
        "row exclusive" => TableLockMode::RowExclusive,
        "share update exclusive" => TableLockMode::ShareUpdateExclusive,
        "share" => TableLockMode::Share,
        "share row exclusive" => TableLockMode::ShareRowExclusive,
        "exclusive" => TableLockMode::Exclusive,
        "access exclusive" => TableLockMode::AccessExclusive,
        other => {
            return Err(Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\"")));
        }
    };
    for name in names {
        let scope = session.scope()?;
        let oids = match super::relation(&scope, name)? {
            Object::Table(table) => {
                let letters: &[char] = match mode {
                    TableLockMode::AccessShare => &['r', 'w', 'd', 'D', 'a'],
                    TableLockMode::RowShare | TableLockMode::RowExclusive => &['a', 'w', 'd', 'D'],
                    _ => &['w', 'd', 'D'],
                };
                if !letters
                    .iter()
                    .any(|l| privilege::check_table(&scope.catalog, scope.role, &table, *l).is_ok())
                {
                    return Err(Error::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied for table {}", table.name),
                    ));
                }
                vec![table.oid]
            }
            // The view, and what it reads, through other views.
            Object::View(view) => {
                let mut oids = vec![view.oid];
                let mut place = 0;
                while let Some(oid) = oids.get(place).copied() {
                    place += 1;
                    if let Some(view) = scope.catalog.view(oid) {
                        let more: Vec<_> =
                            view.depends_on.iter().filter(|oid| !oids.contains(oid)).copied().collect();
                        oids.extend(more);
                    }
                }
                oids
            }
            other => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("cannot lock relation \"{}\"", other.name()),
                )
                .detail(match other {
                    Object::Sequence(_) => "This operation is not supported for sequences.",
                    _ => "This operation is not supported for indexes.",
                }));
            }
        };
        for oid in oids {
            let shared = session.shared.clone();
            let tx = session.transaction()?.tx()?;
            let wait = if no_wait { Wait::NoWait } else { Wait::Block };
            Session::interruptible(&shared, tx.lock_table(oid, mode, wait)).await.map_err(|error| {
                if no_wait && error.state() == SqlState::LOCK_NOT_AVAILABLE {
                    Error::new(
                        SqlState::LOCK_NOT_AVAILABLE,
                        format!("could not obtain lock on relation \"{}\"", name.name),
                    )
                } else {
                    error
                }
            })?;
        }
    }
    Ok(Outcome::Tag("LOCK TABLE".into()))
}
