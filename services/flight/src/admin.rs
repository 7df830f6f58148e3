//! The admin endpoint of every service: `/healthz` (the process answers), `/readyz` (it can do its
//! work, or why not) and `/metrics` (Prometheus text format).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Gauge, Registry, TextEncoder};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::metrics::Registrar;
use crate::shutdown::Shutdown;

/// Conditions that must all hold before a service says that it is ready, and the signs of life of the loop
/// that does its work.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
    beats: Arc<AtomicU64>,
}

impl Readiness {
    /// Declares a condition. It does not hold until [`set`](Self::set) says so.
    pub fn require(&self, condition: &'static str) {
        self.lock()
            .entry(condition)
            .or_insert_with(|| Err("not yet".to_owned()));
    }

    /// Says whether a condition holds, and if not, why.
    pub fn set(&self, condition: &'static str, state: Result<(), String>) {
        self.lock().insert(condition, state);
    }

    /// True if every declared condition holds.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Result::is_ok)
    }

    /// What does not hold, and why.
    pub fn unmet(&self) -> BTreeMap<&'static str, String> {
        let unmet = |(name, state): (&&'static str, &Result<(), String>)| {
            state.as_ref().err().map(|why| (*name, why.clone()))
        };
        self.lock().iter().filter_map(unmet).collect()
    }

    /// A sign of life: the loop that does the service's work came round.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How many signs of life there were.
    pub fn signs_of_life(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The admin surface of one service, apart from its work.
#[derive(Debug, Clone)]
pub struct Admin {
    registry: Registry,
    readiness: Readiness,
    ready: Gauge,
}

#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    unmet: BTreeMap<&'static str, String>,
}

impl Admin {
    /// An admin surface over a metrics registry, which gains the metrics of the process itself,
    /// `flight_ready` and `flight_trace_spans_total`.
    pub fn new(registry: Registry) -> Self {
        let ready = Registrar::new(&registry).gauge(
            "flight_ready",
            "",
            "1 while the service can do its work, as /readyz says",
        );
        let process = prometheus::process_collector::ProcessCollector::for_self();
        // Twice in one registry: two surfaces in one process, as in tests; the first one counts.
        let _ = registry.register(Box::new(process));
        let _ = registry.register(Box::new(crate::telemetry::SPANS.clone()));
        Self {
            registry,
            readiness: Readiness::default(),
            ready,
        }
    }

    /// Where the service registers its metrics.
    pub fn metrics(&self) -> Registrar<'_> {
        Registrar::new(&self.registry)
    }

    /// What is told at this moment.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.ready
            .set(f64::from(u8::from(self.readiness.is_ready())));
        self.registry.gather()
    }

    /// Where the service says what it is waiting for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The routes, for a service that has others besides.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self::new(Registry::new())
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let unmet = admin.readiness.unmet();
    let status = if unmet.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        axum::Json(ReadyAnswer {
            ready: unmet.is_empty(),
            unmet,
        }),
    )
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&admin.gather(), &mut text) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Serves routes until the shutdown begins, then lets requests under way finish.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
}

/// Binds a listener, with a message that says which setting and what to do.
///
/// # Errors
/// The address is in use, or not of this machine.
pub async fn bind(setting: &str, address: &str) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                ": another process listens there; stop it or change the setting"
            }
            _ => "",
        };
        std::io::Error::new(
            error.kind(),
            format!("{setting}: cannot listen on {address}: {error}{hint}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn ready_only_when_every_condition_holds() {
        let admin = Admin::default();
        admin.readiness().require("kafka");
        admin.readiness().require("source");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        shutdown.spawn(serve(listener, admin.router(), shutdown.clone()));

        assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
        admin.readiness().set("kafka", Ok(()));
        admin
            .readiness()
            .set("source", Err("connection refused".into()));
        let (status, body) = get(address, "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            body,
            r#"{"ready":false,"unmet":{"source":"connection refused"}}"#
        );
        admin.readiness().set("source", Ok(()));
        assert_eq!(get(address, "/readyz").await.0, 200);
        let (_, text) = get(address, "/metrics").await;
        assert!(text.contains("flight_ready 1"), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        assert!(shutdown.drained(crate::shutdown::DRAIN_LIMIT).await);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let message = bind("listen", &address).await.unwrap_err().to_string();
        assert!(
            message.contains("listen") && message.contains(&address),
            "{message}"
        );
    }
}
