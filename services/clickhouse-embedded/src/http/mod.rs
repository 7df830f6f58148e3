//! ClickHouse's HTTP interface.

mod auth;
mod body;
mod compression;
pub mod format;
mod multipart;
mod params;
mod query;
mod response;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use flight::shutdown::Shutdown;
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::settings::Settings;
use body::Budget;

/// What the interface needs to answer.
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    accounts: Accounts,
    metrics: Metrics,
    /// Places on the engine.
    places: Arc<Semaphore>,
    budget: Budget,
    client_timeout: Duration,
    max_concurrent_queries: usize,
    max_materialized_result: u64,
    shutdown: Shutdown,
}

impl Server {
    /// An interface over an engine.
    pub fn new(
        settings: &Settings,
        engine: Arc<Engine>,
        accounts: Accounts,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Inner {
            engine,
            accounts,
            budget: Budget::new(settings.max_body_memory, metrics.body_bytes.clone()),
            metrics,
            places: Arc::new(Semaphore::new(settings.max_concurrent_queries)),
            client_timeout: Duration::from_secs(settings.client_timeout),
            max_concurrent_queries: settings.max_concurrent_queries,
            max_materialized_result: settings.max_materialized_result,
            shutdown,
        }))
    }
}

/// The routes of ClickHouse's interface.
pub fn router(server: Server) -> Router {
    Router::new()
        .route("/", get(query::handle).post(query::handle))
        .route("/ping", get(|| async { "Ok.\n" }))
        .route("/replicas_status", get(|| async { "Ok.\n" }))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "There is no handle for this path. Use / or /ping for health checks, and \
                 /?query=… for queries.\n",
            )
                .into_response()
        })
        .with_state(server)
}
