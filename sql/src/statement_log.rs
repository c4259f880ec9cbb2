//! Log lines about statements: those that fail (`log_min_error_statement`) and those that take long
//! (`log_min_duration_statement`).
//!
//! Invariant: a literal of a statement never gets into the log, because any literal may be a secret. Statements are written
//! with `$n` in place of their literals, parameters are left out, and the messages of errors that repeat what
//! somebody wrote (a value that cannot be read, the word at which parsing stopped) lose what they quote.

use std::time::Duration;

use value::Error;

use crate::database::peer_text;
use crate::lex;
use crate::shared::Shared;

/// Logs a statement that took longer than the session wants to bear in silence.
pub fn finished(shared: &Shared, text: &str, took: Duration, rows: u64) {
    let least = shared.settings.lock().effective().log_min_duration;
    if least.is_some_and(|least| took >= least) {
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
            statement = lex::normalised(text, false),
            "duration: {milliseconds:.3} ms",
        );
    }
}

/// Logs a statement that failed; `took` is unknown for one that never began.
pub fn failed(shared: &Shared, text: &str, took: Option<Duration>, error: &Error) {
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
        statement = lex::normalised(text, false),
        "{}",
        redacted(error),
    );
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
