//! Server-Sent Events: the whole log from an offset, at the pace of the client and then of the clock.
//!
//! The body is computed when the connection can take it: a client that does not read costs one
//! group of events.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use flight::source::SseBatch;
use flight::telemetry::traceparent_of;
use futures_util::stream;
use serde::Deserialize;

use super::metrics::Transport;
use super::refusal::Refusal;
use super::{ClientGuard, Server, emit_span};
use crate::simulator::{MAX_EVENT_BYTES, digits};

/// Most events in a group, which is what is held for a client.
const GROUP_EVENTS: i64 = 400;
/// Around each event: its id, its name and the line ends.
const EVENT_OVERHEAD_BYTES: usize = 56;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    from: Option<i64>,
}

/// `GET /v1/flights/stream?from=OFFSET`.
pub async fn stream(
    State(server): State<Arc<Server>>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.map_err(|error| server.refuse(Refusal::BadRequest(error.body_text())))?;
    let last = last_event_id(&headers).map_err(|refusal| server.refuse(refusal))?;
    let next = server
        .feed
        .start(last.or(query.from))
        .map_err(|refusal| server.refuse(refusal))?;
    let guard = server.admit(Transport::Sse)?;
    tracing::info!(from = next, "stream begins");
    let body = stream::unfold(
        Events {
            server,
            next,
            _guard: guard,
        },
        |mut events| async {
            let chunk = events.next().await?;
            Some((Ok::<_, std::convert::Infallible>(chunk), events))
        },
    );
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// The offset after the one that the client saw last, if it says so.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = headers
        .get("last-event-id")
        .filter(|value| !value.is_empty())
    else {
        return Ok(None);
    };
    let after = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<i64>().ok()?.checked_add(1));
    match after {
        Some(next) => Ok(Some(next)),
        None => Err(Refusal::BadRequest(format!(
            "Last-Event-ID {value:?} is not the id of an event: ids are offsets"
        ))),
    }
}

struct Events {
    server: Arc<Server>,
    next: i64,
    _guard: ClientGuard,
}

impl Events {
    /// The next group of events once one is due, or a comment that shows life; None at shutdown.
    async fn next(&mut self) -> Option<Bytes> {
        let silence = tokio::time::sleep(self.server.patience.keep_alive);
        tokio::pin!(silence);
        loop {
            if self.server.shutdown.is_requested() {
                return None;
            }
            if let Some(group) = self.group() {
                return Some(group);
            }
            tokio::select! {
                () = self.server.feed.until_due(self.next) => {}
                () = &mut silence => return Some(Bytes::from_static(b": alive\n\n")),
                () = self.server.shutdown.requested() => return None,
            }
        }
    }

    fn group(&mut self) -> Option<Bytes> {
        let feed = &self.server.feed;
        let due = feed.due(self.next, GROUP_EVENTS);
        if due.is_empty() {
            return None;
        }
        let count = (due.end - due.start) as usize;
        let span = emit_span(feed, "sse", due.clone());
        let _entered = span.enter();
        let header = SseBatch {
            at_ms: feed.at_ms(due.start),
            next: feed.live_edge(),
            traceparent: traceparent_of(&span),
        };
        let mut text = Vec::with_capacity(256 + count * (MAX_EVENT_BYTES + EVENT_OVERHEAD_BYTES));
        text.extend_from_slice(b"event: batch\ndata: ");
        // Writing numbers and short texts to memory cannot fail.
        let _ = serde_json::to_writer(&mut text, &header);
        text.extend_from_slice(b"\n\n");
        for offset in due.clone() {
            text.extend_from_slice(b"id: ");
            digits::integer(&mut text, offset);
            text.extend_from_slice(b"\nevent: position\ndata: ");
            feed.write_event(offset, &mut text);
            text.extend_from_slice(b"\n\n");
        }
        span.record("contrail.bytes", text.len());
        self.next = due.end;
        self.server.metrics.sent(Transport::Sse, count, text.len());
        Some(Bytes::from(text))
    }
}
