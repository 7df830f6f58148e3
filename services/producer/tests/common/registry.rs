//! A schema registry of one schema, which can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};

/// The id that it gives.
pub const SCHEMA_ID: u32 = 7;

#[derive(Clone)]
pub struct Registry {
    pub url: String,
    faults: Arc<AtomicU32>,
    pub asked: Arc<AtomicU32>,
}

impl Registry {
    /// Answers the first `faults` requests with status 500.
    pub async fn start(faults: u32) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            url: format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap()),
            faults: Arc::new(AtomicU32::new(faults)),
            asked: Arc::default(),
        };
        let router = Router::new()
            .route(
                "/apis/ccompat/v7/subjects/{subject}/versions",
                post(register),
            )
            .route("/apis/ccompat/v7/config/{subject}", put(register))
            .with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }
}

async fn register(State(registry): State<Registry>) -> Response {
    registry.asked.fetch_add(1, Ordering::SeqCst);
    let spare = registry
        .faults
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if spare.is_ok() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response();
    }
    axum::Json(serde_json::json!({ "id": SCHEMA_ID, "compatibility": "BACKWARD" })).into_response()
}
