//! OTLP over HTTP with protobuf: the messages (opentelemetry/proto/trace/v1, those fields that we fill), the queue that
//! sessions push finished spans into, and the thread that sends them in batches. Nothing here is in a statement's
//! way: a full queue drops spans, a collector that does not answer costs spans and one warning a minute.
//!
//! The environment is OpenTelemetry's: `OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT`, `..._HEADERS`, `..._TIMEOUT`,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER[_ARG]`, `OTEL_BSP_SCHEDULE_DELAY`,
//! `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, `OTEL_SDK_DISABLED`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;

use super::layer::Parent;

pub const KIND_INTERNAL: i32 = 1;
pub const KIND_SERVER: i32 = 2;
pub const STATUS_ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

impl KeyValue {
    fn new(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.to_string(), value: Some(AnyValue { value: Some(value) }) }
    }

    pub fn text(key: &str, value: &str) -> KeyValue {
        KeyValue::new(key, Value::Text(value.to_string()))
    }

    pub fn integer(key: &str, value: i64) -> KeyValue {
        KeyValue::new(key, Value::Integer(value))
    }

    pub fn truth(key: &str, value: bool) -> KeyValue {
        KeyValue::new(key, Value::Truth(value))
    }
}

/// Which statements are traced (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Do as the parent did, where there is one.
    follow_parent: bool,
    ratio: f64,
}

impl Sampler {
    fn named(name: &str, argument: Option<&str>) -> Result<Sampler, String> {
        let (follow_parent, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let ratio = match (kind, argument) {
            ("always_on", _) => 1.0,
            ("always_off", _) => 0.0,
            ("traceidratio", None) => 1.0,
            ("traceidratio", Some(text)) => {
                text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
                    format!("OTEL_TRACES_SAMPLER_ARG: \"{text}\" is not a number from 0 to 1")
                })?
            }
            _ => return Err(format!("OTEL_TRACES_SAMPLER: \"{name}\" is not a sampler")),
        };
        Ok(Sampler { follow_parent, ratio })
    }

    /// The trace of a statement with this `traceparent`, if it is to be traced.
    pub fn choose(&self, traceparent: Option<&str>) -> Option<[u8; 16]> {
        let parent = traceparent.and_then(Parent::parse);
        let wanted = match parent {
            Some(parent) if self.follow_parent => parent.sampled,
            _ => self.ratio >= 1.0 || (self.ratio > 0.0 && rand::random::<f64>() < self.ratio),
        };
        wanted.then(|| parent.map_or_else(rand::random, |parent| parent.trace))
    }
}

/// Finished spans on their way. Cloning shares it.
#[derive(Clone)]
pub struct Queue {
    sender: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

enum Item {
    Span(Span),
    /// Nothing follows.
    End,
}

impl Queue {
    /// Takes a span, or counts it as lost.
    pub fn push(&self, span: Span) {
        if self.sender.try_send(Item::Span(span)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the environment says about traces.
pub struct Settings {
    pub endpoint: Uri,
    pub sampler: Sampler,
    pub queue: Queue,
    receiver: Receiver<Item>,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: Vec<KeyValue>,
    timeout: Duration,
    delay: Duration,
    batch: usize,
}

impl Settings {
    /// `None`: no collector is named. Errors say which variable is wrong.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Settings>, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (name, endpoint) = match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            Some(endpoint) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint),
            None => match variable("OTEL_EXPORTER_OTLP_ENDPOINT") {
                Some(base) => {
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/v1/traces", base.trim_end_matches('/')))
                }
                None => return Ok(None),
            },
        };
        let uri: Uri = endpoint.parse().map_err(|error| format!("{name}: \"{endpoint}\": {error}"))?;
        match uri.scheme_str() {
            Some("http") if uri.host().is_some() => {}
            Some("https") => {
                return Err(format!(
                    "{name}: https is not supported; name a collector on this machine or network by http"
                ));
            }
            _ => return Err(format!("{name}: \"{endpoint}\" is not a URL like http://localhost:4318")),
        }
        // The variable for traces goes before the one for everything.
        let either = |suffix: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{suffix}")))
        };
        if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
            return Err(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL: \"{protocol}\" is not supported; it is http/protobuf, usually on port 4318"
            ));
        }
        let mut headers = Vec::new();
        for (key, value) in pairs("OTEL_EXPORTER_OTLP_HEADERS", &either("HEADERS").unwrap_or_default())? {
            let wrong = || format!("OTEL_EXPORTER_OTLP_HEADERS: \"{key}\" cannot be sent as a header");
            let mut text = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            text.set_sensitive(true);
            headers.push((key.parse().map_err(|_| wrong())?, text));
        }
        let given = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut resource = pairs("OTEL_RESOURCE_ATTRIBUTES", &given)?;
        if let Some(name) = variable("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push((String::from("service.name"), name));
        }
        for (key, value) in [("service.name", "startdb"), ("service.version", env!("CARGO_PKG_VERSION"))] {
            if !resource.iter().any(|(known, _)| known == key) {
                resource.push((key.to_string(), value.to_string()));
            }
        }
        let number = |name: &str, text: Option<String>, default: u64| match text {
            None => Ok(default),
            Some(text) => text
                .parse::<u64>()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("{name}: \"{text}\" is not a number above 0")),
        };
        let variable_number = |name: &str, default: u64| number(name, variable(name), default);
        let queue = variable_number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?.min(1 << 20) as usize;
        let (sender, receiver) = sync_channel(queue);
        let sampler =
            variable("OTEL_TRACES_SAMPLER").unwrap_or_else(|| String::from("parentbased_always_on"));
        Ok(Some(Settings {
            endpoint: uri,
            sampler: Sampler::named(&sampler, variable("OTEL_TRACES_SAMPLER_ARG").as_deref())?,
            queue: Queue { sender, dropped: Arc::default() },
            receiver,
            headers,
            resource: resource.iter().map(|(key, value)| KeyValue::text(key, value)).collect(),
            timeout: Duration::from_millis(number("OTEL_EXPORTER_OTLP_TIMEOUT", either("TIMEOUT"), 10_000)?),
            delay: Duration::from_millis(variable_number("OTEL_BSP_SCHEDULE_DELAY", 5000)?),
            batch: variable_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.min(1 << 16) as usize,
        }))
    }
}

/// `a=b,c=d` with percent-encoded values, as OpenTelemetry writes lists in variables.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{name}: a part has no \"=\""))?;
            let value = percent_decoded(value.trim())
                .ok_or_else(|| format!("{name}: the value of \"{}\" is not percent-encoded", key.trim()))?;
            Ok((key.trim().to_string(), value))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

struct Running {
    queue: Queue,
    thread: JoinHandle<()>,
}

fn running() -> MutexGuard<'static, Option<Running>> {
    static RUNNING: OnceLock<Mutex<Option<Running>>> = OnceLock::new();
    let lock = RUNNING.get_or_init(Mutex::default).lock();
    lock.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts the thread that sends.
pub fn start(settings: Settings) {
    let queue = settings.queue.clone();
    match std::thread::Builder::new().name(String::from("telemetry")).spawn(move || send_all(&settings)) {
        Ok(thread) => *running() = Some(Running { queue, thread }),
        Err(error) => tracing::warn!(%error, "traces are off: no thread for them"),
    }
}

/// Sends what waits, and ends the thread.
pub fn stop() {
    let Some(Running { queue, thread }) = running().take() else { return };
    // The thread makes room as long as it lives; an error means that it does not.
    let _ = queue.sender.send(Item::End);
    if thread.join().is_err() {
        tracing::warn!("the thread that sends traces failed");
    }
}

fn send_all(settings: &Settings) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::warn!(%error, "traces are off: no runtime for them");
            return;
        }
    };
    let mut reporter = Reporter { lost: 0, last: None };
    let mut ended = false;
    while !ended {
        let mut spans = Vec::new();
        let due = Instant::now() + settings.delay;
        while spans.len() < settings.batch && !ended {
            match settings.receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Item::Span(span)) => spans.push(span),
                Ok(Item::End) | Err(RecvTimeoutError::Disconnected) => ended = true,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        let dropped = settings.queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            reporter.lost(dropped, "more spans than the collector takes");
        }
        if spans.is_empty() {
            continue;
        }
        let count = spans.len() as u64;
        let request = Bytes::from(message(settings, spans).encode_to_vec());
        if let Err(error) = runtime.block_on(deliver(settings, request, ended)) {
            reporter.lost(count, &error);
        }
    }
}

/// Says that spans were lost, at most once a minute.
struct Reporter {
    lost: u64,
    last: Option<Instant>,
}

impl Reporter {
    fn lost(&mut self, spans: u64, why: &str) {
        self.lost += spans;
        if self.last.is_none_or(|last| last.elapsed() > Duration::from_secs(60)) {
            tracing::warn!(spans = self.lost, "traces were lost: {why}");
            self.lost = 0;
            self.last = Some(Instant::now());
        }
    }
}

fn message(settings: &Settings, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: String::from("startdb"),
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: settings.resource.clone() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }],
    }
}

/// Posts a batch; tries again while the collector says that it might help, but not when the server is about to end.
async fn deliver(settings: &Settings, body: Bytes, last: bool) -> Result<(), String> {
    let mut pause = Duration::from_secs(1);
    loop {
        let posted = tokio::time::timeout(settings.timeout, post(settings, body.clone())).await;
        let (error, again) = match posted {
            Ok(Ok(status)) if status.is_success() => return Ok(()),
            Ok(Ok(status)) => {
                (format!("the collector answered {status}"), matches!(status.as_u16(), 429 | 502 | 503 | 504))
            }
            Ok(Err(error)) => (error, false),
            Err(_) => (String::from("the collector did not answer in time"), false),
        };
        if !again || last || pause > Duration::from_secs(4) {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn post(settings: &Settings, body: Bytes) -> Result<StatusCode, String> {
    let say = |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", settings.endpoint);
    let host = settings.endpoint.host().unwrap_or_default();
    let port = settings.endpoint.port_u16().unwrap_or(80);
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port);
    let stream = TcpStream::connect(address).await.map_err(|error| say("no connection to", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| say("no HTTP with", &error))?;
    let driver = tokio::spawn(connection);
    let path = settings.endpoint.path_and_query().map_or("/", |path| path.as_str());
    let authority = settings.endpoint.authority().map_or(host, |authority| authority.as_str());
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(body))
        .map_err(|error| say("no request for", &error))?;
    request.headers_mut().extend(settings.headers.iter().cloned());
    let response = sender.send_request(request).await.map_err(|error| say("no answer from", &error))?;
    let status = response.status();
    // Read to its end, so that the collector sees a whole conversation; what it says matters to nobody.
    let read = Limited::new(response.into_body(), 1 << 20).collect().await;
    drop(sender);
    driver.abort();
    read.map(|_| status).map_err(|error| say("no whole answer from", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        Settings::from_environment(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/");

    #[test]
    fn the_environment_decides() {
        assert!(settings(&[]).expect("fine").is_none());
        assert!(settings(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]).expect("fine").is_none());
        let full = settings(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"),
            ("OTEL_SERVICE_NAME", "shop-db"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,zone=a"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ]);
        let full = full.expect("fine").expect("on");
        assert_eq!(full.endpoint.to_string(), "http://localhost:4318/v1/traces");
        assert_eq!(full.headers[0].1.to_str().expect("text"), "a b");
        assert!(full.resource.contains(&KeyValue::text("service.name", "shop-db")));
        assert!(full.resource.contains(&KeyValue::text("zone", "a")));
        assert!(full.sampler.choose(None).is_none());
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x"),
        ] {
            let error = settings(&[ENDPOINT, (name, value)]).err().expect("refused");
            assert!(error.contains(name) || error.contains("OTEL_"), "{error}");
        }
    }

    #[test]
    fn parents_decide_for_their_children() {
        let parent = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let follow = Sampler::named("parentbased_always_off", None).expect("a sampler");
        let trace = follow.choose(Some(&parent("01"))).expect("traced");
        assert_eq!(trace[..2], [0x0a, 0xf7]);
        assert!(follow.choose(Some(&parent("00"))).is_none() && follow.choose(None).is_none());
        let always = Sampler::named("always_on", None).expect("a sampler");
        assert_eq!(always.choose(Some(&parent("00"))), Some(trace));
        assert!(always.choose(None).is_some() && always.choose(Some("nonsense")).is_some());
    }
}
