//! From `tracing` spans to OpenTelemetry's. A root (`statement`) is a SERVER span named by what it does, with the
//! attributes of the database conventions; its parent is what its field `traceparent` says, or none. A child's parent is the
//! span it was made under. Every span is finished once, when its last handle is dropped, and goes into the queue.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::otlp::{self, KeyValue, Queue};

/// The identity of a span, as `traceparent` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub sampled: bool,
}

impl Parent {
    /// W3C Trace Context: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`. `None` for anything else, zeros included.
    pub fn parse(text: &str) -> Option<Parent> {
        let mut parts = text.split('-');
        let version = hex::<1>(parts.next()?)?;
        let (trace, span, flags) = (hex(parts.next()?)?, hex(parts.next()?)?, hex::<1>(parts.next()?)?);
        // A later version may have more parts.
        let whole = version[0] != 0xff && (version[0] != 0 || parts.next().is_none());
        let valid = whole && trace != [0; 16] && span != [0; 8];
        valid.then_some(Parent { trace, span, sampled: flags[0] & 1 == 1 })
    }
}

/// The identity of a trace as `traceparent` and the log spell it.
pub fn trace_text(trace: [u8; 16]) -> String {
    trace.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 || !digits.iter().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d)) {
        return None;
    }
    let mut out = [0; N];
    for (place, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// A span that has not ended.
struct Open {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    begun: SystemTime,
    clock: Instant,
    fields: Fields,
}

#[derive(Default)]
struct Fields {
    name: Option<String>,
    traceparent: Option<String>,
    trace: Option<[u8; 16]>,
    failed: Option<String>,
    attributes: Vec<KeyValue>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = Some(value.to_string()),
            "trace_id" => self.trace = hex(value),
            "traceparent" => self.traceparent = Some(value.to_string()),
            name => {
                if name == "error.type" {
                    self.failed = Some(value.to_string());
                }
                self.attributes.push(KeyValue::text(name, value));
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(KeyValue::integer(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attributes.push(KeyValue::integer(field.name(), i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(KeyValue::truth(field.name(), value));
    }
}

/// The layer; it sees the spans of one target only (see `start`).
pub struct Spans {
    queue: Queue,
}

impl Spans {
    pub fn new(queue: Queue) -> Spans {
        Spans { queue }
    }
}

impl<S> Layer<S> for Spans
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match span.parent() {
            Some(parent) => match parent.extensions().get::<Open>() {
                Some(open) => Some((open.trace, open.id)),
                None => return,
            },
            // A wait that belongs to no traced statement.
            None if attributes.metadata().name() != "statement" => return,
            None => fields.traceparent.as_deref().and_then(Parent::parse).map(|p| (p.trace, p.span)),
        };
        let open = Open {
            trace: parent.map(|(trace, _)| trace).or(fields.trace).unwrap_or_else(rand::random),
            id: rand::random(),
            parent: parent.map(|(_, span)| span),
            begun: SystemTime::now(),
            clock: Instant::now(),
            fields,
        };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let begun = open.begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let ended = begun + open.clock.elapsed().as_nanos();
        let nanoseconds = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let root = span.name() == "statement";
        self.queue.push(otlp::Span {
            trace_id: open.trace.to_vec(),
            span_id: open.id.to_vec(),
            parent_span_id: open.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: open.fields.name.unwrap_or_else(|| span.name().to_string()),
            kind: if root { otlp::KIND_SERVER } else { otlp::KIND_INTERNAL },
            start_time_unix_nano: nanoseconds(begun),
            end_time_unix_nano: nanoseconds(ended),
            attributes: open.fields.attributes,
            status: open.fields.failed.map(|state| otlp::Status { message: state, code: otlp::STATUS_ERROR }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_strictly() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::parse(text).expect("valid");
        assert_eq!((parent.trace[0], parent.span[7], parent.sampled), (0x0a, 0x31, true));
        assert!(Parent::parse(&text.replace("-01", "-00")).is_some_and(|parent| !parent.sampled));
        assert!(Parent::parse(&format!("{}-more", text.replacen("00", "01", 1))).is_some());
        for wrong in [
            String::new(),
            format!("{text}-more"),
            text.to_uppercase(),
            text.replacen("00", "ff", 1),
            text.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            text.replace("b7ad6b7169203331", "b7ad6b71692033"),
        ] {
            assert_eq!(Parent::parse(&wrong), None, "{wrong}");
        }
    }
}
