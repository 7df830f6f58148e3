//! A registry that does as it is told: answers, or fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flight::avro::POSITION_SCHEMA;
use serde_json::json;

#[derive(Clone, Default)]
pub struct FakeRegistry {
    broken: Arc<AtomicBool>,
    failed: Arc<AtomicU32>,
}

impl FakeRegistry {
    /// Serves every id with the position's schema, on a port, from a thread of its own.
    pub fn serve(port: u16) -> Self {
        let fake = Self::default();
        let app = axum::Router::new()
            .route("/subjects", get(|fake| answer(fake, false, json!([]))))
            .route(
                "/schemas/ids/{id}",
                get(|fake| answer(fake, true, json!({ "schema": POSITION_SCHEMA }))),
            )
            .with_state(fake.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            super::wait_for(async move {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
                    .await
                    .unwrap();
                ready.send(()).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        fake
    }

    /// From now on it answers 500 to everything, or no more.
    pub fn set_broken(&self, broken: bool) {
        self.failed.store(0, Ordering::SeqCst);
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Schemas that were asked for and not given since it broke.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }
}

async fn answer(
    State(fake): State<FakeRegistry>,
    is_schema: bool,
    body: serde_json::Value,
) -> Response {
    if fake.broken.load(Ordering::SeqCst) {
        fake.failed
            .fetch_add(u32::from(is_schema), Ordering::SeqCst);
        return (StatusCode::INTERNAL_SERVER_ERROR, "the database is gone").into_response();
    }
    Json(body).into_response()
}
