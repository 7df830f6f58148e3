//! ClickHouse's HTTP interface.

mod auth;
mod blocks;
mod body;
mod coding;
pub mod format;
mod multipart;
mod params;
mod query;
mod respond;
mod response;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::ListenerExt;
use flight::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::execute::Core;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::settings::Settings;
use body::Budget;

/// What the interface needs to answer.
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Core,
    accounts: Accounts,
    sessions: Sessions,
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
        core: Core,
        accounts: Accounts,
        sessions: Sessions,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Inner {
            core,
            accounts,
            sessions,
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

/// Serves until shutdown is requested, then until requests under way are answered.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    // An answer in two parts must not wait for the first one to be acknowledged.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
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
