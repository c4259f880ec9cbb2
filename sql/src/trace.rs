//! Spans of a statement for a tracer: a root per statement (or per simple query string), and below it `parse`,
//! `plan`, `lock`, `execute` and `flush`.
//!
//! Only the `tracing` macros are used here; what becomes of the spans is the binary's business. It says which statements
//! are traced ([`set_trace_sampler`]); until it does, a statement costs one look at a static. Spans are entered only
//! while an execution is polled: that is how a wait for a row lock, deep in `execute`, finds its parent.
//!
//! A client names the parent of its statement by a comment, as SQLCommenter writes it:
//! `SELECT 1 /*traceparent='00-<trace id>-<span id>-01'*/`.

use std::sync::{Arc, OnceLock};

use session::Peer;
use tracing::Span;
use tracing::field::{Empty, display};
use value::Error;

use crate::database::peer_text;
use crate::lex::{self, Kind};
use crate::shared::Shared;

/// The target of every span here and in `execute`.
pub use execute::TRACE_TARGET as TARGET;

/// Longest `db.query.text` and `db.query.summary`, in bytes.
const LONGEST_TEXT: usize = 4096;
const LONGEST_SUMMARY: usize = 255;

/// The trace of what a session does now.
pub struct Trace {
    root: Span,
    /// It is decided whether the statement of this root is traced.
    decided: bool,
    /// The statement of this root has run: the next one gets its own.
    used: bool,
    traceparent: Option<Arc<str>>,
    /// Of a statement that is traced: 32 hexadecimal digits.
    id: Option<Arc<str>>,
}

/// Decides whether a statement is traced, given the `traceparent` of its comment; the id of its trace if it is.
pub type Sampler = Box<dyn Fn(Option<&str>) -> Option<String> + Send + Sync>;

static SAMPLER: OnceLock<Sampler> = OnceLock::new();

/// Turns tracing on for the process. The first sampler stays; false when there is one already.
pub fn set_trace_sampler(sampler: Sampler) -> bool {
    SAMPLER.set(sampler).is_ok()
}

macro_rules! child {
    ($self:expr, $name:literal) => {
        if $self.root.is_disabled() {
            Span::none()
        } else {
            tracing::info_span!(target: TARGET, parent: &$self.root, $name)
        }
    };
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { root: Span::none(), decided: false, used: false, traceparent: None, id: None }
    }
}

impl Trace {
    /// Begins the trace of a text, comments included.
    pub fn begin(&mut self, shared: &Shared, text: &str) {
        self.end();
        if SAMPLER.get().is_some() {
            self.traceparent = traceparent(text);
            self.open(shared, text);
        }
    }

    /// Begins the trace of a prepared statement that runs, unless the message that prepared it has just begun it.
    pub fn resume(&mut self, shared: &Shared, text: &str, traceparent: Option<&Arc<str>>) {
        if SAMPLER.get().is_some() && !self.fresh() {
            self.traceparent = traceparent.cloned();
            self.open(shared, text);
        }
    }

    /// Begins the trace of the next statement of a query string; the string's parent is the parent of all.
    pub fn following(&mut self, shared: &Shared, text: &str) {
        if SAMPLER.get().is_some() && self.used {
            self.open(shared, text);
        }
    }

    /// Begun (or decided not to be traced), and nothing has run in it.
    fn fresh(&self) -> bool {
        self.decided && !self.used
    }

    fn open(&mut self, shared: &Shared, text: &str) {
        self.used = false;
        self.decided = true;
        let id = SAMPLER.get().and_then(|sampler| sampler(self.traceparent.as_deref()));
        self.id = id.map(Arc::from);
        let Some(id) = self.id.as_deref() else {
            self.root = Span::none();
            return;
        };
        let summary = summary(text);
        let operation = summary.split(' ').next().unwrap_or_default();
        let settings = shared.settings.lock();
        let schema = settings.effective().search_path.iter().find(|name| *name != "$user").cloned();
        let user = settings.show("session_authorization").unwrap_or_default();
        let application = settings.show("application_name").unwrap_or_default();
        drop(settings);
        let (address, port) = match &shared.peer {
            Peer::Tcp { address, port, .. } => (address.to_string(), Some(u64::from(*port))),
            peer => (peer_text(peer), None),
        };
        let namespace = match schema {
            Some(schema) => format!("{}|{schema}", shared.database_name),
            None => shared.database_name.clone(),
        };
        self.root = tracing::info_span!(
            target: TARGET,
            parent: None,
            "statement",
            // The names below are OpenTelemetry's; these three say how to make a span of them.
            otel.name = summary,
            trace_id = id,
            traceparent = self.traceparent.as_deref(),
            db.system.name = "postgresql",
            db.namespace = namespace,
            db.operation.name = operation,
            db.query.summary = summary,
            db.query.text = cut(&lex::normalised(text, false), LONGEST_TEXT),
            db.response.status_code = Empty,
            db.response.returned_rows = Empty,
            error.type = Empty,
            client.address = address,
            client.port = port,
            session.id = shared.pid,
            user.name = user,
            application.name = application,
        );
    }

    /// The statement runs.
    pub fn running(&mut self) {
        self.used = true;
    }

    /// The id of the trace, for the log.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What the comment said, for a statement that is kept.
    pub fn traceparent(&self) -> Option<Arc<str>> {
        self.traceparent.clone()
    }

    pub fn parse(&self) -> Span {
        child!(self, "parse")
    }

    pub fn plan(&self) -> Span {
        if self.root.is_disabled() {
            return Span::none();
        }
        tracing::info_span!(target: TARGET, parent: &self.root, "plan", cache_hit = Empty)
    }

    pub fn lock(&self) -> Span {
        child!(self, "lock")
    }

    pub fn execute(&self) -> Span {
        child!(self, "execute")
    }

    /// Waiting until a commit is durable.
    pub fn flush(&self) -> Span {
        child!(self, "flush")
    }

    pub fn returned(&self, rows: u64) {
        self.root.record("db.response.returned_rows", rows);
    }

    pub fn failed(&self, error: &Error) {
        self.root.record("db.response.status_code", display(error.state()));
        self.root.record("error.type", display(error.state()));
    }

    /// The client has its answer.
    pub fn end(&mut self) {
        if self.decided {
            *self = Trace::default();
        }
    }
}

/// The value of `traceparent='...'` in a comment of the text. It is checked where it is used.
fn traceparent(text: &str) -> Option<Arc<str>> {
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        let body = &rest[at + 2..];
        let end = body.find("*/")?;
        for pair in body[..end].split(',') {
            if let Some((name, value)) = pair.split_once('=')
                && name.trim() == "traceparent"
            {
                let value = value.trim().trim_matches('\'');
                return Some(Arc::from(value)).filter(|_| value.len() <= 64);
            }
        }
        rest = &body[end + 2..];
    }
    None
}

/// What a statement does, in a few words with few values: `SELECT orders customers`.
fn summary(whole: &str) -> String {
    let Ok(tokens) = lex::tokens(whole) else { return "unreadable".to_string() };
    let word = |n: usize| match tokens.get(n).map(|token| &token.kind) {
        Some(Kind::Word { text, quoted }) => Some((text.as_str(), *quoted)),
        _ => None,
    };
    let mut out = String::new();
    let mut expecting = false;
    for n in 0..tokens.len() {
        let Some((text, quoted)) = word(n) else {
            // FROM (SELECT ...) names nothing here; the inner FROM does.
            expecting = expecting && tokens.get(n).is_some_and(|t| t.kind != Kind::Symbol);
            continue;
        };
        let operation = !quoted
            && matches!(
                text,
                "select"
                    | "insert"
                    | "update"
                    | "delete"
                    | "merge"
                    | "copy"
                    | "truncate"
                    | "create"
                    | "alter"
                    | "drop"
            );
        let add = |out: &mut String, part: &str| {
            if out.len() + part.len() < LONGEST_SUMMARY {
                if !out.is_empty() {
                    out.push(' ');
                }
                out.push_str(part);
            }
        };
        if out.is_empty() || operation && !expecting {
            // FOR UPDATE and ON CONFLICT DO UPDATE are parts of what was named already.
            let part_of = n > 0 && matches!(word(n - 1), Some(("for" | "do", false)));
            if !part_of {
                add(&mut out, &text.to_ascii_uppercase());
            }
            expecting = matches!(text, "update" | "copy" | "truncate") && !part_of;
        } else if !quoted && matches!(text, "from" | "join" | "into" | "table") {
            expecting = true;
        } else if !quoted && matches!(text, "only" | "if" | "not" | "exists" | "lateral") {
        } else if expecting {
            let mut name = text.to_string();
            let dot = tokens.get(n + 1).is_some_and(|t| whole.get(t.start..t.end) == Some("."));
            if dot && let Some((last, _)) = word(n + 2) {
                name = format!("{name}.{last}");
            }
            add(&mut out, &name);
            expecting = false;
        }
    }
    out
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_name_operations_and_targets() {
        for (text, expected) in [
            (
                "SELECT * FROM orders o JOIN shop.customers c ON true WHERE a = 'x'",
                "SELECT orders shop.customers",
            ),
            ("insert into t select a from s for update", "INSERT t SELECT s"),
            ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", "INSERT t"),
            ("update t set a = 1", "UPDATE t"),
            ("delete from only t", "DELETE t"),
            ("create table if not exists x (a int)", "CREATE x"),
            ("begin", "BEGIN"),
            ("select 1", "SELECT"),
            ("select 'abc", "unreadable"),
            ("", ""),
        ] {
            assert_eq!(summary(text), expected, "{text}");
        }
    }

    #[test]
    fn the_parent_stands_in_a_comment() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for text in [
            format!("select 1 /*traceparent='{parent}'*/"),
            format!("/* hello */ select 1 /*db_driver='x',traceparent='{parent}'*/;"),
        ] {
            assert_eq!(traceparent(&text).as_deref(), Some(parent), "{text}");
        }
        assert_eq!(traceparent("select 1 /* traceparent */"), None);
        assert_eq!(traceparent("select 1 /* open"), None);
    }
}
