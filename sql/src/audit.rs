//! The audit log: every change of the catalog, of roles and of rights, and every failed login.

use value::Error;

use crate::database::peer_text;
use crate::lex;
use crate::session::Session;

/// Logs a statement with its literals left out.
pub fn statement(session: &Session, what: &str, text: &str, error: Option<&Error>) {
    let role = session
        .database
        .engine
        .catalog()
        .role(session.role())
        .map_or_else(|| session.role().to_string(), |r| r.name.clone());
    let sqlstate = error.map_or_else(|| "00000".to_string(), |e| e.state().to_string());
    tracing::info!(
        target: "audit",
        session = session.shared.pid,
        role,
        address = %peer_text(&session.shared.peer),
        database = %session.shared.database_name,
        sqlstate,
        command = what,
        statement = %lex::normalised(text, true),
    );
}
