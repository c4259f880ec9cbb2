//! Log lines about statements: those that begin (`log_statement`), those that fail (`log_min_error_statement`), those that take
//! long (`log_min_duration_statement`, `log_duration`); and about sessions (`log_connections`, `log_disconnections`). A
//! statement that is traced has its `trace_id` in each of its lines.
//!
//! Invariant: a literal of a statement never gets into the log, because any literal may be a secret. Statements are written
//! with `$n` in place of their literals, parameters are left out, and the messages of errors that repeat what
//! somebody wrote (a value that cannot be read, the word at which parsing stopped) lose what they quote.

use std::time::Duration;

use session::Peer;
use value::{Error, datetime};

use crate::database::peer_text;
use crate::lex;
use crate::setting::LogStatement;
use crate::shared::Shared;

/// Logs a statement that begins, if the session wants to see what is of its class.
pub fn begun(shared: &Shared, text: &str, class: LogStatement, trace: Option<&str>) {
    if class > shared.settings.lock().effective().log_statement {
        return;
    }
    let (user, application) = who(shared);
    tracing::info!(
        target: "statement",
        session = shared.pid,
        user,
        database = shared.database_name,
        application,
        address = peer_text(&shared.peer),
        trace_id = trace,
        statement = lex::normalised(text, false),
        "statement",
    );
}

/// Logs a statement that took longer than the session wants to bear in silence.
pub fn finished(shared: &Shared, text: &str, took: Duration, rows: u64, trace: Option<&str>) {
    let (least, always) = {
        let settings = shared.settings.lock();
        (settings.effective().log_min_duration, settings.effective().log_duration)
    };
    let long = least.is_some_and(|least| took >= least);
    if long || always {
        let milliseconds = milliseconds(took);
        let (user, application) = who(shared);
        tracing::info!(
            target: "statement",
            session = shared.pid,
            user,
            database = shared.database_name,
            application,
            address = peer_text(&shared.peer),
            sqlstate = "00000",
            duration_ms = milliseconds,
            rows,
            trace_id = trace,
            // `log_duration` alone says how long, not what.
            statement = long.then(|| lex::normalised(text, false)),
            "duration: {milliseconds:.3} ms",
        );
    }
}

/// Logs a statement that failed; `took` is unknown for one that never began.
pub fn failed(shared: &Shared, text: &str, took: Option<Duration>, error: &Error, trace: Option<&str>) {
    if !shared.settings.lock().effective().log_errors {
        return;
    }
    let (user, application) = who(shared);
    tracing::info!(
        target: "statement",
        session = shared.pid,
        user,
        database = shared.database_name,
        application,
        address = peer_text(&shared.peer),
        sqlstate = error.state().as_str(),
        duration_ms = took.map(milliseconds),
        trace_id = trace,
        statement = lex::normalised(text, false),
        "{}",
        redacted(error),
    );
}

/// Logs a session that begins.
pub fn connected(shared: &Shared) {
    let (user, application) = who(shared);
    tracing::info!(
        target: "session",
        session = shared.pid,
        user,
        database = shared.database_name,
        application,
        address = peer_text(&shared.peer),
        tls = matches!(shared.peer, Peer::Tcp { tls: true, .. }),
        "connection authorized",
    );
}

/// Logs the end of a session.
pub fn disconnected(shared: &Shared) {
    let (user, application) = who(shared);
    let lasted = datetime::now().saturating_sub(shared.started_at).max(0);
    tracing::info!(
        target: "session",
        session = shared.pid,
        user,
        database = shared.database_name,
        application,
        address = peer_text(&shared.peer),
        duration_ms = lasted as f64 / 1000.0,
        "disconnection",
    );
}

/// Whether the session is somebody's and has this setting on.
pub fn wanted(shared: &Shared, setting: &str) -> bool {
    shared.peer != Peer::Internal && shared.settings.lock().show(setting).as_deref() == Some("on")
}

/// To the microsecond.
fn milliseconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1000.0
}

fn who(shared: &Shared) -> (String, String) {
    let settings = shared.settings.lock();
    let show = |name| settings.show(name).unwrap_or_default();
    (show("session_authorization"), show("application_name"))
}

/// The message without what it quotes of the statement's values: those of data exceptions (class 22), of syntax
/// errors and of unknown settings' values do.
fn redacted(error: &Error) -> String {
    let state = error.state();
    let message = error.message();
    if !(state.as_str().starts_with("22") || state.as_str() == "42601") {
        return message.to_string();
    }
    // Quotes within a quoted value cannot be told from its end: everything from the first to the last goes.
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"***\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use value::SqlState;

    use super::*;

    #[test]
    fn messages_lose_values() {
        for (state, message, expected) in [
            (
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type integer: \"se\"cret\"",
                "invalid input syntax for type integer: \"***\"",
            ),
            (
                SqlState::SYNTAX_ERROR,
                "syntax error at or near \"'secret'\"",
                "syntax error at or near \"***\"",
            ),
            (SqlState::UNDEFINED_TABLE, "relation \"t\" does not exist", "relation \"t\" does not exist"),
            (SqlState::DIVISION_BY_ZERO, "division by zero", "division by zero"),
        ] {
            assert_eq!(redacted(&Error::new(state, message)), expected);
        }
    }
}
