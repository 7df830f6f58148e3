//! A source whose log, and whose misbehaviour, a test writes.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flight::source::{BatchHeader, ClientFrame, ServerFrame, SourceDescriptor, SseBatch};
use tokio::task::AbortHandle;

/// What it does once, in place of a right batch.
#[derive(Debug, Clone, Copy)]
pub enum Trick {
    /// A batch that begins too late.
    Ahead,
    /// A batch that begins too early.
    Back,
    /// A frame that is none.
    Garbage,
    /// A batch that lies about its length.
    WrongCount,
    /// A binary frame.
    Binary,
    /// No more connection.
    Close,
}

struct Log {
    name: Mutex<String>,
    /// The live edge.
    next: AtomicI64,
    special: Mutex<HashMap<i64, String>>,
    tricks: Mutex<VecDeque<Trick>>,
    traceparent: Mutex<Option<String>>,
    /// How long ago events were placed, in milliseconds.
    age_ms: AtomicI64,
    acknowledged: AtomicI64,
    connections: AtomicU64,
    /// Most events that were ever sent beyond what was acknowledged.
    most_ahead: AtomicI64,
}

#[derive(Clone)]
pub struct Source {
    address: SocketAddr,
    log: Arc<Log>,
    server: Arc<Mutex<Option<AbortHandle>>>,
}

const BATCH: i64 = 97;

impl Source {
    pub async fn start(name: &str, next: i64) -> Self {
        let log = Log {
            name: Mutex::new(name.into()),
            next: AtomicI64::new(next),
            special: Mutex::default(),
            tricks: Mutex::default(),
            traceparent: Mutex::default(),
            age_ms: AtomicI64::new(0),
            acknowledged: AtomicI64::new(0),
            connections: AtomicU64::new(0),
            most_ahead: AtomicI64::new(0),
        };
        let mut source = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            log: Arc::new(log),
            server: Arc::default(),
        };
        source.appear().await;
        source
    }

    /// Serves, on the port that it had before.
    pub async fn appear(&mut self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/source", get(describe))
            .route("/v1/flights/ws", get(websocket))
            .route("/v1/flights/stream", get(events))
            .with_state(self.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        *self.server.lock().unwrap() = Some(task.abort_handle());
    }

    /// Stops listening and breaks every connection.
    pub fn vanish(&self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
        self.play([Trick::Close]);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn rename(&self, name: &str) {
        *self.log.name.lock().unwrap() = name.into();
    }

    /// Moves the live edge.
    pub fn grow_to(&self, next: i64) {
        self.log.next.store(next, Ordering::SeqCst);
    }

    /// Moves the live edge, a bit at a time.
    pub fn grow_slowly(&self, to: i64, events_per_second: i64) {
        let log = self.log.clone();
        tokio::spawn(async move {
            let step = (events_per_second / 100).max(1);
            while log.next.load(Ordering::SeqCst) < to {
                let next = log.next.load(Ordering::SeqCst);
                log.next.store((next + step).min(to), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    /// Puts a line of the test's own at an offset.
    pub fn write(&self, offset: i64, line: impl Into<String>) {
        self.log.special.lock().unwrap().insert(offset, line.into());
    }

    pub fn play(&self, tricks: impl IntoIterator<Item = Trick>) {
        self.log.tricks.lock().unwrap().extend(tricks);
    }

    pub fn tricks_left(&self) -> usize {
        self.log.tricks.lock().unwrap().len()
    }

    pub fn trace(&self, traceparent: &str) {
        *self.log.traceparent.lock().unwrap() = Some(traceparent.into());
    }

    pub fn age(&self, age: Duration) {
        let age_ms = age.as_millis() as i64;
        self.log.age_ms.store(age_ms, Ordering::SeqCst);
    }

    pub fn acknowledged(&self) -> i64 {
        self.log.acknowledged.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub fn most_ahead(&self) -> i64 {
        self.log.most_ahead.load(Ordering::SeqCst)
    }

    fn descriptor(&self) -> SourceDescriptor {
        SourceDescriptor {
            name: self.log.name.lock().unwrap().clone(),
            origin: 0,
            next: self.edge(),
        }
    }

    fn edge(&self) -> i64 {
        self.log.next.load(Ordering::SeqCst)
    }

    fn line(&self, offset: i64) -> String {
        let special = self.log.special.lock().unwrap().get(&offset).cloned();
        special.unwrap_or_else(|| position(offset))
    }

    fn header(&self, first: i64, count: i64) -> BatchHeader {
        BatchHeader {
            first,
            count: count as u32,
            at_ms: now_ms() - self.log.age_ms.load(Ordering::SeqCst),
            next: self.edge(),
            traceparent: self.log.traceparent.lock().unwrap().clone(),
        }
    }

    fn frame(&self, first: i64, count: i64) -> String {
        let mut text =
            serde_json::to_string(&ServerFrame::Batch(self.header(first, count))).unwrap();
        for offset in first..first + count {
            write!(text, "\n{}", self.line(offset)).unwrap();
        }
        text
    }

    fn next_trick(&self) -> Option<Trick> {
        self.log.tricks.lock().unwrap().pop_front()
    }

    async fn talk(self, mut socket: WebSocket) -> Option<()> {
        self.log.connections.fetch_add(1, Ordering::SeqCst);
        let ClientFrame::Start {
            from,
            credit,
            max_batch,
        } = client_frame(socket.recv().await)??
        else {
            return None;
        };
        let mut cursor = from.unwrap_or(self.edge());
        let mut credit = credit as i64;
        let hello = ServerFrame::Hello {
            source: self.descriptor(),
            from: cursor,
        };
        let hello = serde_json::to_string(&hello).unwrap();
        socket.send(Message::text(hello)).await.ok()?;
        loop {
            let count = BATCH
                .min(credit)
                .min(max_batch.into())
                .min(self.edge() - cursor);
            if count > 0 || self.tricks_left() > 0 && cursor > 10 {
                if let Some(trick) = self.next_trick() {
                    let message = match trick {
                        Trick::Ahead => Message::text(self.frame(cursor + 5, 3)),
                        Trick::Back => Message::text(self.frame(cursor - 5, 10)),
                        Trick::Garbage => Message::text("}{"),
                        Trick::WrongCount => Message::text(self.frame(cursor, 5) + "\n{}"),
                        Trick::Binary => Message::binary(self.frame(cursor, 5)),
                        Trick::Close => return None,
                    };
                    socket.send(message).await.ok()?;
                    // It goes on as if nothing had been: the client must not take any of it.
                    let frame = self.frame(cursor + 8, 3);
                    socket.send(Message::text(frame)).await.ok()?;
                    while let Some(Ok(_)) = socket.recv().await {}
                    return None;
                }
                socket
                    .send(Message::text(self.frame(cursor, count)))
                    .await
                    .ok()?;
                cursor += count;
                credit -= count;
                let ahead = cursor - self.acknowledged().max(from.unwrap_or(0));
                self.log.most_ahead.fetch_max(ahead, Ordering::SeqCst);
            }
            let wait = Duration::from_millis(if count > 0 { 0 } else { 2 });
            if let Ok(message) = tokio::time::timeout(wait, socket.recv()).await {
                match client_frame(message)? {
                    Some(ClientFrame::Credit { events }) => credit += events as i64,
                    Some(ClientFrame::Ack { next }) => {
                        self.log.acknowledged.fetch_max(next, Ordering::SeqCst);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// `None` when the connection is over, `Some(None)` for what is no frame of the protocol.
fn client_frame(message: Option<Result<Message, axum::Error>>) -> Option<Option<ClientFrame>> {
    match message?.ok()? {
        Message::Text(text) => Some(Some(serde_json::from_str(&text).expect("a client frame"))),
        Message::Close(_) => None,
        _ => Some(None),
    }
}

async fn describe(State(source): State<Source>) -> Response {
    axum::Json(source.descriptor()).into_response()
}

async fn websocket(State(source): State<Source>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |socket| {
        source.talk(socket).await;
    })
}

async fn events(
    State(source): State<Source>,
    Query(query): Query<HashMap<String, i64>>,
) -> Response {
    source.log.connections.fetch_add(1, Ordering::SeqCst);
    let first = query.get("from").copied().unwrap_or(source.edge());
    let stream = futures_util::stream::unfold(Some((source, first)), |place| async move {
        // After a trick it goes silent: the client must not stay.
        let Some((source, cursor)) = place else {
            return std::future::pending().await;
        };
        loop {
            let count = BATCH.min(source.edge() - cursor);
            if count == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
                if source.tricks_left() == 0 {
                    continue;
                }
            }
            let (begin, count, next) = match source.next_trick() {
                None => (cursor, count, Some((source.clone(), cursor + count))),
                Some(Trick::Ahead) => (cursor + 5, 3, None),
                Some(Trick::Back) => (cursor - 5, 3, None),
                Some(_) => return None,
            };
            let header = source.header(begin, count);
            let about = SseBatch {
                at_ms: header.at_ms,
                next: header.next,
                traceparent: header.traceparent,
            };
            let about = serde_json::to_string(&about).unwrap();
            let mut text = format!(": keep-alive\n\nevent: batch\ndata: {about}\n\n");
            for offset in begin..begin + count {
                let line = source.line(offset);
                write!(text, "id: {offset}\nevent: position\ndata: {line}\n\n").unwrap();
            }
            return Some((Ok::<_, Infallible>(text), next));
        }
    });
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(stream),
    )
        .into_response()
}

/// The event that stands at an offset, where a test puts no other there.
pub fn position(offset: i64) -> String {
    let timestamp = 1_767_225_600_000 + offset;
    format!(
        r#"{{"flight_id":"F{}","callsign":"TST{}","longitude":{}.5,"latitude":25.25277,"altitude":{},"gspeed":447.3,"timestamp":{timestamp},"icao24":"896451","track":112.4,"on_ground":false}}"#,
        offset % 50,
        offset % 50,
        offset % 180,
        offset % 40_000,
    )
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}
