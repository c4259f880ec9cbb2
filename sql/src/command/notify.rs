//! LISTEN, UNLISTEN, NOTIFY. The protocol's notification message is not part of a session's face yet, so these say
//! so instead of pretending.

use value::{Error, Result};

use crate::session::{Outcome, Session};

const INSTEAD: &str = "Poll a table; FOR UPDATE SKIP LOCKED makes a queue of it.";

pub fn listen(_: &mut Session, _: &str) -> Result<Outcome> {
    Err(Error::unsupported("LISTEN", INSTEAD))
}

/// Connection pools send UNLISTEN * to be sure; there is nothing to undo.
pub fn unlisten(_: &mut Session, _: Option<&str>) -> Result<Outcome> {
    Ok(Outcome::Tag("UNLISTEN".into()))
}

/// With nobody listening a notification reaches nobody, as in PostgreSQL.
pub fn notify(_: &mut Session, _: &str, _: Option<&str>) -> Result<Outcome> {
    Ok(Outcome::Tag("NOTIFY".into()))
}
