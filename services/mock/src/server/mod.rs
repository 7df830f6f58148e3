//! Serves the simulator by the protocol of [`flight::source`].
//!
//! Nothing is held for a client but the batch that it is being sent: events are computed when the
//! client takes them, so a slow client costs what a fast one does.

pub mod feed;
mod http;
pub mod metrics;
pub mod refusal;
pub mod session;
mod sse;
mod websocket;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use flight::admin::Admin;
use flight::shutdown::Shutdown;
use flight::source::{DESCRIPTOR_PATH, EVENTS_PATH, SSE_PATH, WEBSOCKET_PATH};
use flight::supervision;
use prometheus::IntGauge;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::Settings;
use crate::simulator::{Simulator, SimulatorError};
use feed::Feed;
use metrics::{Metrics, Transport};
use refusal::Refusal;

/// How patient the server is. Not settings: nobody needs to change them but tests.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the WebSocket's opening to its `start` frame.
    pub start: Duration,
    /// Between signs of life on an idle connection: comments on SSE, pings on the WebSocket.
    pub keep_alive: Duration,
    /// Without a sign of life from a WebSocket's client, or without it taking anything.
    pub stalled: Duration,
    /// For the last words to a WebSocket's client, and for its own.
    pub farewell: Duration,
    /// From the beginning of the shutdown until clients that do not read are left behind.
    pub drain: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            stalled: Duration::from_secs(60),
            farewell: Duration::from_secs(2),
            drain: Duration::from_secs(5),
        }
    }
}

/// The service cannot start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The simulator's settings.
    #[error("setting {0}")]
    Simulator(#[from] SimulatorError),
    /// The listener failed.
    #[error("serving: {0}")]
    Io(#[from] std::io::Error),
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    feed: Feed,
    metrics: Metrics,
    patience: Patience,
    max_clients: usize,
    places: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Server {
    /// A place for a client, until the guard is dropped.
    fn admit(&self, transport: Transport) -> Result<ClientGuard, Refusal> {
        if self.shutdown.is_requested() {
            return Err(self.refuse(Refusal::ShuttingDown));
        }
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| self.refuse(Refusal::Overloaded(self.max_clients)))?;
        let clients = self.metrics.clients(transport);
        clients.inc();
        Ok(ClientGuard {
            clients,
            _place: place,
        })
    }

    /// Counts and logs a refusal on its way to the client.
    fn refuse(&self, refusal: Refusal) -> Refusal {
        self.metrics.refused(&refusal);
        tracing::info!(code = refusal.code(), "client refused: {refusal}");
        refusal
    }
}

/// A connected client's place; given back when dropped.
#[derive(Debug)]
struct ClientGuard {
    clients: IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.clients.dec();
    }
}

/// Serves until the shutdown begins, then lets clients go.
///
/// # Errors
/// See [`ServerError`].
pub async fn serve(
    settings: &Settings,
    patience: Patience,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), ServerError> {
    let simulator = Arc::new(Simulator::new(settings.parameters())?);
    let feed = Feed::new(simulator);
    let admin = Admin::default();
    let edge = feed.clone();
    let metrics = Metrics::register(&mut admin.metrics(), Arc::new(move || edge.live_edge()));
    supervision::report_server(listener.local_addr()?, admin.readiness(), &shutdown)?;
    tracing::info!(
        source = feed.simulator().source_name(),
        address = %listener.local_addr()?,
        next = feed.live_edge(),
        "serving {}",
        feed.simulator()
    );

    admin.readiness().require("clock");
    shutdown.spawn(watch_clock(feed.clone(), admin.clone(), shutdown.clone()));

    let server = Arc::new(Server {
        feed,
        metrics,
        patience,
        max_clients: settings.max_clients,
        places: Arc::new(Semaphore::new(settings.max_clients)),
        shutdown: shutdown.clone(),
    });
    let router = Router::new()
        .route(DESCRIPTOR_PATH, get(http::source))
        .route(EVENTS_PATH, get(http::events))
        .route(SSE_PATH, get(sse::stream))
        .route(WEBSOCKET_PATH, get(websocket::upgrade))
        .fallback(http::not_found)
        .with_state(server)
        .merge(admin.router());
    let unread = async {
        shutdown.requested().await;
        tokio::time::sleep(patience.drain).await;
    };
    tokio::select! {
        served = flight::admin::serve(listener, router, shutdown.clone()) => served?,
        // An answer that its client does not read never ends by itself.
        () = unread => tracing::warn!("clients that do not read are left behind"),
    }
    Ok(())
}

/// The source has nothing to give while the machine's clock is before the epoch: not ready then.
async fn watch_clock(feed: Feed, admin: Admin, shutdown: Shutdown) {
    let epoch_ms = feed.simulator().parameters().epoch_ms;
    let epoch = flight::calendar::format_instant(epoch_ms);
    if feed::now_ms() < epoch_ms {
        let why = format!(
            "the log begins at {epoch}, which is to come: set the clock, or an earlier epoch"
        );
        tracing::warn!("{why}");
        admin.readiness().set("clock", Err(why));
        tokio::select! {
            () = feed.until_due(0) => {}
            () = shutdown.requested() => return,
        }
    }
    admin.readiness().set("clock", Ok(()));
}

/// The span of a batch that is made for a client: where its trace begins.
fn emit_span(feed: &Feed, protocol: &str, due: Range<i64>) -> tracing::Span {
    tracing::info_span!(
        "emit",
        otel.kind = "producer",
        network.protocol.name = protocol,
        contrail.source = feed.simulator().source_name(),
        contrail.source.first_offset = due.start,
        contrail.source.last_offset = due.end - 1,
        contrail.events = due.end - due.start,
        contrail.bytes = tracing::field::Empty,
    )
}
