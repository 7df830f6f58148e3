//! The two-way channel: the client names a start, grants credit and acknowledges; batches go out as
//! credit and clock allow.
//!
//! One task serves one client. It holds one batch at a time, waits until the socket takes it, and
//! only then looks at the clock again.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use flight::source::{BatchHeader, ClientFrame, MAX_FRAME_BYTES, ServerFrame};
use flight::telemetry::traceparent_of;
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::Transport;
use super::refusal::Refusal;
use super::session::Session;
use super::{ClientGuard, Server, emit_span};
use crate::simulator::MAX_EVENT_BYTES;

/// Room for a batch's first line.
const HEADER_BYTES: usize = 512;
/// Most events in a frame, so that it stays below [`MAX_FRAME_BYTES`] whatever they are.
const MAX_FRAME_EVENTS: u32 = ((MAX_FRAME_BYTES - HEADER_BYTES) / (MAX_EVENT_BYTES + 1)) as u32;
/// Largest message from a client: its frames are a line each.
const MAX_CLIENT_BYTES: usize = 16 << 10;

/// `GET /v1/flights/ws`.
pub async fn upgrade(
    State(server): State<Arc<Server>>,
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            return server
                .refuse(Refusal::BadRequest(error.body_text()))
                .into_response();
        }
    };
    let guard = match server.admit(Transport::Websocket) {
        Ok(guard) => guard,
        Err(refusal) => return refusal.into_response(),
    };
    request
        .max_message_size(MAX_CLIENT_BYTES)
        .max_frame_size(MAX_CLIENT_BYTES)
        .on_upgrade(move |socket| async move {
            let shutdown = server.shutdown.clone();
            // Tracked, so that the end of the service waits for the farewell.
            let _ = shutdown.spawn(serve(socket, server, guard)).await;
        })
}

/// How a connection ends.
enum End {
    /// The client went away, or closed in good order.
    Gone,
    /// The server ends it and says why.
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn serve(socket: WebSocket, server: Arc<Server>, _guard: ClientGuard) {
    let patience = server.patience;
    let mut connection = Connection {
        socket,
        server,
        heard: Instant::now(),
    };
    match connection.run().await {
        End::Gone => {
            tracing::info!("client left");
            // Reading on answers the client's Close.
            let _ = timeout(patience.farewell, connection.drain()).await;
        }
        End::Refused(refusal) => {
            let refusal = connection.server.refuse(refusal);
            // A client that does not listen does not get to keep the place.
            let _ = timeout(patience.farewell, connection.farewell(&refusal)).await;
        }
    }
}

struct Connection {
    socket: WebSocket,
    server: Arc<Server>,
    /// When the client was last heard of.
    heard: Instant,
}

impl Connection {
    async fn run(&mut self) -> End {
        match self.start().await {
            Ok(session) => match self.batches(session).await {
                Ok(never) => match never {},
                Err(end) => end,
            },
            Err(end) => end,
        }
    }

    /// Waits for the client's `start` and answers it.
    async fn start(&mut self) -> Result<Session, End> {
        let deadline = Instant::now() + self.server.patience.start;
        let frame = tokio::select! {
            frame = first_frame(&mut self.socket) => frame?,
            () = sleep_until(deadline) => {
                let seconds = self.server.patience.start.as_secs();
                return Err(Refusal::BadRequest(format!("no start frame within {seconds} s")).into());
            }
            () = self.server.shutdown.requested() => return Err(Refusal::ShuttingDown.into()),
        };
        let ClientFrame::Start {
            from,
            credit,
            max_batch,
        } = frame
        else {
            return Err(
                Refusal::BadRequest("the first frame must be of type start".to_owned()).into(),
            );
        };
        self.heard = Instant::now();
        let session = Session::new(self.server.feed.start(from)?, credit, max_batch)?;
        let from = session.next();
        tracing::info!(from, credit, max_batch, "session begins");
        self.send(control(&ServerFrame::Hello {
            source: self.server.feed.descriptor(),
            from,
        }))
        .await?;
        Ok(session)
    }

    /// Sends batches and takes frames, until something ends it.
    async fn batches(&mut self, mut session: Session) -> Result<std::convert::Infallible, End> {
        loop {
            let due = self
                .server
                .feed
                .due(session.next(), session.allowance(MAX_FRAME_EVENTS));
            let patience = self.server.patience;
            let frame = tokio::select! {
                // Frames before batches: a client's acknowledgements are not starved by its own credit.
                biased;
                () = self.server.shutdown.requested() => return Err(Refusal::ShuttingDown.into()),
                frame = receive(&mut self.socket) => Some(frame?),
                () = std::future::ready(()), if !due.is_empty() => None,
                () = self.server.feed.until_due(session.next()), if session.has_credit() => continue,
                () = sleep_until(self.heard + patience.stalled) => {
                    return Err(Refusal::Stalled(patience.stalled.as_secs()).into());
                }
                () = tokio::time::sleep(patience.keep_alive) => {
                    self.send(Message::Ping(Default::default())).await?;
                    continue;
                }
            };
            if let Some(frame) = frame {
                self.heard = Instant::now();
                if let Some(frame) = frame
                    && let Some(next) = session.take(&frame)?
                {
                    self.server.metrics.acknowledged(next);
                }
                continue;
            }
            let count = (due.end - due.start) as u32;
            let batch = self.batch(due.start, count);
            let bytes = batch.len();
            session.sent(count);
            self.send(Message::Text(batch)).await?;
            // It took a batch: that, too, is a sign of life.
            self.heard = Instant::now();
            self.server
                .metrics
                .sent(Transport::Websocket, count as usize, bytes);
        }
    }

    /// A batch's frame: a header line, then an event a line.
    fn batch(&self, first: i64, count: u32) -> Utf8Bytes {
        let feed = &self.server.feed;
        let span = emit_span(feed, "websocket", first..first + i64::from(count));
        let _entered = span.enter();
        let header = ServerFrame::Batch(BatchHeader {
            first,
            count,
            at_ms: feed.at_ms(first),
            next: feed.live_edge(),
            traceparent: traceparent_of(&span),
        });
        let mut text = Vec::with_capacity(HEADER_BYTES + count as usize * (MAX_EVENT_BYTES + 1));
        // Writing numbers and short texts to memory cannot fail.
        let _ = serde_json::to_writer(&mut text, &header);
        for offset in first..first + i64::from(count) {
            text.push(b'\n');
            feed.write_event(offset, &mut text);
        }
        span.record("contrail.bytes", text.len());
        // All that is written is ASCII.
        Utf8Bytes::try_from(text).unwrap_or_default()
    }

    /// Sends a message, and waits until the socket has taken it.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        let stalled = self.server.patience.stalled;
        tokio::select! {
            sent = timeout(stalled, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => Err(Refusal::Stalled(stalled.as_secs()).into()),
            },
            () = self.server.shutdown.requested() => Err(Refusal::ShuttingDown.into()),
        }
    }

    /// Says why, closes, and reads on until the client has closed too: a connection that is dropped
    /// with something unread is reset, and the client would never read the reason.
    async fn farewell(&mut self, refusal: &Refusal) {
        let code = match refusal {
            Refusal::ShuttingDown => close_code::AWAY,
            _ => close_code::POLICY,
        };
        let close = CloseFrame {
            code,
            reason: refusal.code().into(),
        };
        if self.socket.send(control(&refusal.frame())).await.is_ok()
            && self.socket.send(Message::Close(Some(close))).await.is_ok()
        {
            self.drain().await;
        }
    }

    /// Reads and forgets, until the client has closed or the connection broke.
    async fn drain(&mut self) {
        while let Some(Ok(_)) = self.socket.recv().await {}
    }
}

fn control(frame: &ServerFrame) -> Message {
    // A struct of texts and numbers always has JSON.
    Message::Text(serde_json::to_string(frame).unwrap_or_default().into())
}

/// The client's first frame of the protocol.
async fn first_frame(socket: &mut WebSocket) -> Result<ClientFrame, End> {
    loop {
        if let Some(frame) = receive(socket).await? {
            return Ok(frame);
        }
    }
}

/// One message of the client's: a frame of the protocol, or None for a sign of life.
async fn receive(socket: &mut WebSocket) -> Result<Option<ClientFrame>, End> {
    match socket.recv().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).map(Some).map_err(|error| {
            Refusal::BadRequest(format!("not a frame of the protocol: {error}")).into()
        }),
        Some(Ok(Message::Binary(_))) => {
            Err(Refusal::BadRequest("frames are text, this one was binary".to_owned()).into())
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Close(_))) | None => Err(End::Gone),
        Some(Err(error)) => Err(broken(error)),
    }
}

/// What a failed read says of the client: it broke the protocol, or it is gone.
fn broken(error: axum::Error) -> End {
    let text = error.to_string();
    if is_io(&error) {
        return End::Gone;
    }
    Refusal::BadRequest(format!(
        "not a WebSocket message that is taken here: {text}"
    ))
    .into()
}

fn is_io(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
