//! The source's description, and random access to its events.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use flight::source::SourceDescriptor;
use futures_util::stream;
use serde::Deserialize;

use super::Server;
use super::metrics::Transport;
use super::refusal::Refusal;
use crate::simulator::MAX_EVENT_BYTES;

/// Most events of one answer.
const MAX_COUNT: i64 = 100_000;
/// Events computed at a time while the client takes the answer.
const CHUNK_EVENTS: i64 = 512;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    from: i64,
    #[serde(default = "default_count")]
    count: i64,
}

fn default_count() -> i64 {
    100
}

/// `GET /v1/source`.
pub async fn source(State(server): State<Arc<Server>>) -> Json<SourceDescriptor> {
    Json(server.feed.descriptor())
}

/// `GET /v1/flights?from=OFFSET&count=N`: newline-delimited JSON of the events that have happened.
pub async fn events(
    State(server): State<Arc<Server>>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(EventsQuery { from, count }) =
        query.map_err(|error| server.refuse(Refusal::BadRequest(error.body_text())))?;
    if from < 0 {
        return Err(server.refuse(Refusal::BeforeOrigin(from)));
    }
    if !(0..=MAX_COUNT).contains(&count) {
        let message = format!("count must be between 0 and {MAX_COUNT}, not {count}");
        return Err(server.refuse(Refusal::BadRequest(message)));
    }
    let guard = server.admit(Transport::Http)?;
    let end = server.feed.live_edge().min(from.saturating_add(count));
    let chunks = stream::unfold(
        (server, guard, from),
        move |(server, guard, first)| async move {
            let next = end.min(first.saturating_add(CHUNK_EVENTS));
            if next <= first {
                return None;
            }
            let mut lines = Vec::with_capacity((next - first) as usize * MAX_EVENT_BYTES);
            for offset in first..next {
                server.feed.write_event(offset, &mut lines);
                lines.push(b'\n');
            }
            server
                .metrics
                .sent(Transport::Http, (next - first) as usize, lines.len());
            Some((
                Ok::<_, std::convert::Infallible>(Bytes::from(lines)),
                (server, guard, next),
            ))
        },
    );
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(chunks),
    )
        .into_response())
}

/// Every other path.
pub async fn not_found() -> Refusal {
    Refusal::NotFound
}
