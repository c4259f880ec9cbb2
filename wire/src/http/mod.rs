//! The HTTP port: `/livez` (the process runs), `/readyz` (it can serve queries) and `/metrics` (Prometheus).
//! It answers without the database, so that a stuck database is still seen from outside.

mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use value::{Error, Result, SqlState};

/// Says whether queries can be served; `Err` carries the reason shown to the asker.
pub type Ready = Arc<dyn Fn() -> std::result::Result<(), String> + Send + Sync>;

/// What the HTTP port serves.
pub struct Options {
    pub listen: SocketAddr,
    pub registry: Arc<Registry>,
    pub ready: Ready,
}

/// A running HTTP port.
pub struct Handle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Handle {
    /// The address it listens on, with the port the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and waits for those under way.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the HTTP port ended abnormally");
        }
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    ready: Ready,
}

/// Starts the HTTP port. 55006 when the address is taken.
pub async fn serve(options: Options) -> Result<Handle> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| crate::pg::listener::bind_error(options.listen, error))?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shared { registry: options.registry, ready: options.ready });
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let shutdown = async move {
            // An error means that the handle is gone, which asks to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
            tracing::error!(%error, "the HTTP port failed");
        }
    });
    Ok(Handle { address, stop, task })
}

async fn ready(State(shared): State<Shared>) -> Response {
    match (shared.ready)() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// In the form that the asker reads: OpenMetrics where it is named, as Prometheus does, else Prometheus's own text.
async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT);
    let open = accepted
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("application/openmetrics-text")));
    match encode(&shared.registry) {
        Ok(text) if open => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, form)], text).into_response()
        }
        Ok(text) => {
            let form = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, form)], exposition::classic(&text)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", error.message())).into_response(),
    }
}

fn encode(registry: &Registry) -> Result<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).map_err(|error| {
        Error::new(SqlState::INTERNAL_ERROR, format!("metrics cannot be written: {error}"))
    })?;
    Ok(text)
}
