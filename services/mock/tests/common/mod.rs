//! A server of its own for each test, and clients for it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use flight::shutdown::Shutdown;
use flight::source::{ClientFrame, SourceDescriptor};
use flight_mock::server::{Patience, feed::now_ms, serve};
use flight_mock::settings::{Epoch, Settings};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub struct TestServer {
    pub address: SocketAddr,
    pub settings: Settings,
    pub shutdown: Shutdown,
}

/// Ten aircraft, an event of each every 100 ms, since an hour ago: 360,000 events and some.
pub fn an_hour() -> Settings {
    Settings {
        fleet: 10,
        period_ms: 100,
        epoch: Epoch(now_ms() - 3_600_000),
        ..Settings::default()
    }
}

/// Ten aircraft that sent their one event of the day a second ago: the live edge stays at 10.
pub fn ten_events() -> Settings {
    Settings {
        fleet: 10,
        period_ms: 86_400_000,
        epoch: Epoch(now_ms() - 1_000),
        ..Settings::default()
    }
}

pub async fn start(settings: Settings) -> TestServer {
    start_with(settings, impatient()).await
}

/// The usual patience, but tests that end with clients connected need not wait for their farewell.
pub fn impatient() -> Patience {
    Patience {
        farewell: Duration::from_millis(200),
        ..Patience::default()
    }
}

pub async fn start_with(settings: Settings, patience: Patience) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    {
        let (settings, shutdown) = (settings.clone(), shutdown.clone());
        shutdown.clone().spawn(async move {
            serve(&settings, patience, listener, shutdown)
                .await
                .unwrap()
        });
    }
    TestServer {
        address,
        settings,
        shutdown,
    }
}

impl TestServer {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(self.url(path)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn descriptor(&self) -> SourceDescriptor {
        serde_json::from_str(&self.get("/v1/source").await.1).unwrap()
    }

    /// Events by random access, one a line.
    pub async fn events(&self, from: i64, count: usize) -> Vec<String> {
        let (status, body) = self
            .get(&format!("/v1/flights?from={from}&count={count}"))
            .await;
        assert_eq!(status, 200, "{body}");
        body.lines().map(str::to_owned).collect()
    }

    /// The value of a metric, by its name with labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text
            .lines()
            .find(|line| line.rsplit_once(' ').is_some_and(|(key, _)| key == name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        for _ in 0..500 {
            if self.metric(name).await == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} is {}, not {value}", self.metric(name).await);
    }

    pub async fn websocket(&self) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/v1/flights/ws", self.address))
            .await
            .unwrap();
        Client { socket }
    }

    /// A WebSocket that has said `start` and read `hello`.
    pub async fn started(&self, from: Option<i64>, credit: u64, max_batch: u32) -> Client {
        let mut client = self.websocket().await;
        client
            .send(&ClientFrame::Start {
                from,
                credit,
                max_batch,
            })
            .await;
        let hello = client.text().await.unwrap();
        assert!(hello.starts_with("{\"type\":\"hello\""), "{hello}");
        client
    }

    pub async fn stop(self) {
        assert!(
            self.shutdown.drained(Duration::from_secs(10)).await,
            "the server drains"
        );
    }
}

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// A batch as it came.
#[derive(Debug)]
pub struct Batch {
    pub header: flight::source::BatchHeader,
    pub lines: Vec<String>,
    pub bytes: usize,
}

impl Client {
    pub async fn send(&mut self, frame: &ClientFrame) {
        self.say(&serde_json::to_string(frame).unwrap()).await;
    }

    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text, or None when the connection is closed.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next())
                .await
                .expect("an answer");
            match message {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn batch(&mut self) -> Batch {
        let text = self.text().await.expect("a batch");
        match flight::source::parse_frame(text.as_bytes()).unwrap() {
            flight::source::Frame::Batch(header, lines) => Batch {
                header,
                lines: lines
                    .into_iter()
                    .map(|line| text[line].to_owned())
                    .collect(),
                bytes: text.len(),
            },
            other => panic!("not a batch: {other:?}"),
        }
    }

    /// Batches until so many events have come.
    pub async fn collect(&mut self, events: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < events {
            lines.extend(self.batch().await.lines);
        }
        lines
    }

    /// True if nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.socket.next())
            .await
            .is_err()
    }

    /// The code of the error frame that must come, and then the Close.
    pub async fn refusal(&mut self) -> String {
        loop {
            let text = self.text().await.expect("an error frame before the end");
            let frame: serde_json::Value =
                serde_json::from_str(text.lines().next().unwrap()).unwrap();
            if frame["type"] == "error" {
                assert!(frame["message"].as_str().unwrap().len() > 10, "{frame}");
                assert_eq!(self.text().await, None, "closed after the error");
                return frame["code"].as_str().unwrap().to_owned();
            }
        }
    }
}

/// Reads Server-Sent Events until `events` positions have come: (id, data) of each, and the data of
/// each batch header.
pub async fn read_sse(
    mut answer: reqwest::Response,
    events: usize,
) -> (Vec<(i64, String)>, Vec<String>) {
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut positions, mut headers) = (Vec::new(), Vec::new());
    let mut text = String::new();
    loop {
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            match field("event: ") {
                Some("position") => {
                    positions.push((
                        field("id: ").unwrap().parse().unwrap(),
                        field("data: ").unwrap().to_owned(),
                    ));
                }
                Some("batch") => {
                    assert_eq!(field("id: "), None, "only positions have ids");
                    headers.push(field("data: ").unwrap().to_owned());
                }
                other => assert!(other.is_none() && block.starts_with(':'), "{block}"),
            }
            text = rest.to_owned();
            if positions.len() == events {
                return (positions, headers);
            }
        }
        let chunk = tokio::time::timeout(Duration::from_secs(10), answer.chunk())
            .await
            .expect("more events");
        text.push_str(std::str::from_utf8(&chunk.unwrap().expect("the stream goes on")).unwrap());
    }
}
