//! CREATE SEQUENCE and ALTER SEQUENCE.

use std::sync::Arc;

use engine::TableLockMode;
use engine::catalog::{Change, Object, Sequence};
use value::types::{self, oid};
use value::{Error, Oid, Result, SqlState};

use super::{find_relation, must_be_free};
use crate::privilege;
use crate::scope::Scope;
use crate::session::{Outcome, Session};
use crate::statement::{Name, SequenceOptions};

fn range(ty: Oid) -> (i64, i64) {
    match ty {
        oid::INT2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        oid::INT4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Applies options to a sequence and checks them. `new`: what was not said gets its default.
pub fn apply(sequence: &mut Sequence, options: &SequenceOptions, new: bool) -> Result<()> {
    let old_range = range(sequence.type_oid);
    if let Some(ty) = options.ty {
        if !matches!(ty.oid, oid::INT2 | oid::INT4 | oid::INT8) {
            return Err(invalid("sequence type must be smallint, integer, or bigint".into()));
        }
        sequence.type_oid = ty.oid;
    }
    let (lowest, highest) = range(sequence.type_oid);
    if let Some(increment) = options.increment {
        if increment == 0 {
            return Err(invalid("INCREMENT must not be zero".into()));
        }
        sequence.increment = increment;
    }
    let ascending = sequence.increment > 0;
    match options.maximum {
        Some(Some(maximum)) => sequence.maximum = maximum,
        other => {
            if new || other == Some(None) || (options.ty.is_some() && sequence.maximum == old_range.1) {
                sequence.maximum = if ascending { highest } else { -1 };
            }
        }
    }
    match options.minimum {
        Some(Some(minimum)) => sequence.minimum = minimum,
        other => {
            if new || other == Some(None) || (options.ty.is_some() && sequence.minimum == old_range.0) {
                sequence.minimum = if ascending { 1 } else { lowest };
            }
        }
    }
    let name = types::format_type(sequence.type_oid, -1);
    if sequence.maximum > highest || sequence.maximum < lowest {
        return Err(invalid(format!(
            "MAXVALUE ({}) is out of range for sequence data type {name}",
            sequence.maximum
        )));
    }
    if sequence.minimum > highest || sequence.minimum < lowest {
        return Err(invalid(format!(
            "MINVALUE ({}) is out of range for sequence data type {name}",
            sequence.minimum
        )));
    }
    if sequence.minimum >= sequence.maximum {
        return Err(invalid(format!(
            "MINVALUE ({}) must be less than MAXVALUE ({})",
            sequence.minimum, sequence.maximum
        )));
    }
    if let Some(start) = options.start {
        sequence.start = start;
    } else if new {
        sequence.start = if ascending { sequence.minimum } else { sequence.maximum };
    }
    if sequence.start < sequence.minimum {
        return Err(invalid(format!(
            "START value ({}) cannot be less than MINVALUE ({})",
            sequence.start, sequence.minimum
        )));
    }
    if sequence.start > sequence.maximum {
        return Err(invalid(format!(
            "START value ({}) cannot be greater than MAXVALUE ({})",
            sequence.start, sequence.maximum
        )));
    }
    if let Some(cache) = options.cache {
        if cache < 1 {
            return Err(invalid(format!("CACHE ({cache}) must be greater than zero")));
        }
        sequence.cache = cache;
    }
    if let Some(cycle) = options.cycle {
        sequence.cycle = cycle;
    }
    Ok(())
}

fn own(sequence: &mut Sequence, scope: &Scope, options: &SequenceOptions) -> Result<()> {
    match &options.owned_by {
        None => {}
        Some(None) => sequence.owned_by = None,
        Some(Some((table, column))) => {
            let table = super::table(scope, table)?;
            if table.owner != sequence.owner {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "sequence must have same owner as table it is linked to",
                ));
            }
            if table.schema != sequence.schema {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "sequence must be in same schema as table it is linked to",
                ));
            }
            let Some((_, column)) = table.column(column) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
                ));
            };
            sequence.owned_by = Some((table.oid, column.number));
        }
    }
    Ok(())
}

pub async fn create(
    session: &mut Session,
    name: &Name,
    temporary: bool,
    if_not_exists: bool,
    options: &SequenceOptions,
) -> Result<Outcome> {
    let done = Outcome::Tag("CREATE SEQUENCE".into());
    let schema = session.schema_for(name, temporary).await?;
    let scope = session.scope()?;
    if scope.catalog.relation(schema, &name.name).is_some() && if_not_exists {
        session.notice(
            "NOTICE",
            SqlState::DUPLICATE_TABLE,
            format!("relation \"{}\" already exists, skipping", name.name),
        );
        return Ok(done);
    }
    must_be_free(&scope.catalog, schema, &name.name)?;
    let mut sequence = Sequence {
        oid: session.database.engine.new_oid(),
        database: session.shared.database,
        schema,
        name: name.name.clone(),
        owner: scope.role,
        type_oid: oid::INT8,
        start: 1,
        increment: 1,
        minimum: 1,
        maximum: i64::MAX,
        cache: 1,
        cycle: false,
        generation: 0,
        owned_by: None,
        acl: None,
        comment: None,
    };
    apply(&mut sequence, options, true)?;
    own(&mut sequence, &scope, options)?;
    session.change_catalog(vec![Change::Put(Object::Sequence(Arc::new(sequence)))]).await?;
    Ok(done)
}

pub async fn alter(
    session: &mut Session,
    name: &Name,
    if_exists: bool,
    options: &SequenceOptions,
) -> Result<Outcome> {
    let done = Outcome::Tag("ALTER SEQUENCE".into());
    let scope = session.scope()?;
    let Some(found) = find_relation(&scope, name) else {
        if if_exists {
            session.notice(
                "NOTICE",
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" does not exist, skipping", name.name),
            );
            return Ok(done);
        }
        return Err(super::relation(&scope, name).err().unwrap_or_else(|| Error::internal("no sequence")));
    };
    let Object::Sequence(sequence) = found else {
        return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a sequence", name.name)));
    };
    privilege::must_own(&scope.catalog, scope.role, sequence.owner, "sequence", &sequence.name)?;
    session.lock(sequence.oid, TableLockMode::ShareRowExclusive).await?;
    alter_sequence(session, &sequence, options).await?;
    Ok(done)
}

/// Applies options to an existing sequence; RESTART gives it a new counter in the same commit.
pub async fn alter_sequence(
    session: &mut Session,
    sequence: &Arc<Sequence>,
    options: &SequenceOptions,
) -> Result<()> {
    let scope = session.scope()?;
    // As it is now: somebody may have changed it while its lock was waited for.
    let sequence = scope.catalog.sequence(sequence.oid).unwrap_or(sequence);
    let mut changed = (**sequence).clone();
    let (value, called) = session.transaction()?.tx()?.sequence_state(sequence);
    apply(&mut changed, options, false)?;
    own(&mut changed, &scope, options)?;
    let restart = match options.restart {
        None => None,
        Some(None) => Some(changed.start),
        Some(Some(value)) => Some(value),
    };
    if let Some(value) = restart {
        if value < changed.minimum {
            return Err(invalid(format!(
                "RESTART value ({value}) cannot be less than MINVALUE ({})",
                changed.minimum
            )));
        }
        if value > changed.maximum {
            return Err(invalid(format!(
                "RESTART value ({value}) cannot be greater than MAXVALUE ({})",
                changed.maximum
            )));
        }
    } else if value < changed.minimum || value > changed.maximum {
        return Err(invalid(format!(
            "RESTART value ({value}) cannot be {} ({})",
            if value < changed.minimum { "less than MINVALUE" } else { "greater than MAXVALUE" },
            if value < changed.minimum { changed.minimum } else { changed.maximum }
        )));
    }
    if restart.is_some() {
        changed.generation += 1;
    }
    session.change_catalog(vec![Change::Put(Object::Sequence(Arc::new(changed.clone())))]).await?;
    if let Some(value) = restart {
        session.transaction()?.tx()?.sequence_set(&changed, value, false)?;
    }
    let _ = called;
    session.shared.sequences.lock().values.remove(&sequence.oid);
    Ok(())
}
