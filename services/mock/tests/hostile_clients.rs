//! Clients that send nonsense are told so and let go; the server serves on.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{an_hour, impatient, start, start_with, ten_events};
use flight_mock::server::Patience;
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const START: &str = r#"{"type":"start","from":0,"credit":5,"max_batch":5}"#;

#[tokio::test]
async fn frames_that_are_none_get_an_error_and_close() {
    let server = start(ten_events()).await;
    for (frames, code) in [
        (&["nonsense"][..], "bad_request"),
        (&[""], "bad_request"),
        (&["{}"], "bad_request"),
        (&["[1,2,3]"], "bad_request"),
        (&[r#"{"type":"stop"}"#], "bad_request"),
        (&[r#"{"type":"credit","events":1}"#], "bad_request"),
        (
            &[r#"{"type":"start","from":0,"credit":-1,"max_batch":5}"#],
            "bad_request",
        ),
        (
            &[r#"{"type":"start","from":0,"credit":1e99,"max_batch":5}"#],
            "bad_request",
        ),
        (
            &[r#"{"type":"start","from":0,"credit":1,"max_batch":0}"#],
            "bad_request",
        ),
        (
            &[r#"{"type":"start","from":0.5,"credit":1,"max_batch":5}"#],
            "bad_request",
        ),
        (
            &[r#"{"type":"start","from":0,"credit":1,"max_batch":5,"extra":1}"#],
            "bad_request",
        ),
        (
            &[r#"{"type":"start","from":-1,"credit":1,"max_batch":5}"#],
            "before_origin",
        ),
        (
            &[r#"{"type":"start","from":-9223372036854775808,"credit":1,"max_batch":5}"#],
            "before_origin",
        ),
        (
            &[r#"{"type":"start","from":11,"credit":1,"max_batch":5}"#],
            "beyond_end",
        ),
        (
            &[r#"{"type":"start","from":9223372036854775807,"credit":1,"max_batch":5}"#],
            "beyond_end",
        ),
        (&[START, START], "bad_request"),
        (&[START, r#"{"type":"ack","next":-1}"#], "bad_request"),
        (
            &[START, r#"{"type":"ack","next":9223372036854775807}"#],
            "bad_request",
        ),
        (
            &[START, r#"{"type":"credit","events":"many"}"#],
            "bad_request",
        ),
        (&[START, "\u{0}\u{1}\u{10ffff}"], "bad_request"),
    ] {
        let mut client = server.websocket().await;
        for frame in frames {
            client.say(frame).await;
        }
        assert_eq!(client.refusal().await, code, "{frames:?}");
    }
    server
        .metric_becomes("flight_mock_clients{transport=\"websocket\"}", 0.0)
        .await;
    assert_eq!(server.events(0, 10).await.len(), 10, "the server serves on");
    server.stop().await;
}

#[tokio::test]
async fn binary_and_oversized_messages_get_an_error_and_close() {
    let server = start(ten_events()).await;
    let mut client = server.websocket().await;
    client
        .socket
        .send(Message::binary(vec![0xff; 100]))
        .await
        .unwrap();
    assert_eq!(client.refusal().await, "bad_request");

    let mut client = server.websocket().await;
    client.say(&"x".repeat(17 << 10)).await;
    assert_eq!(client.refusal().await, "bad_request");
    server.stop().await;
}

/// Bytes that are no WebSocket frames at all, after a proper handshake.
#[tokio::test]
async fn garbage_on_the_wire_ends_the_connection() {
    // One of these is the beginning of a frame that never ends.
    let patience = Patience {
        start: Duration::from_millis(500),
        ..impatient()
    };
    let server = start_with(ten_events(), patience).await;
    for garbage in [
        &[0xff; 64][..],
        &[0x00; 64],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let handshake = "GET /v1/flights/ws HTTP/1.1\r\nHost: mock\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "closed, by end or by reset");
    }
    server
        .metric_becomes("flight_mock_clients{transport=\"websocket\"}", 0.0)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_starts_loses_its_place() {
    let patience = Patience {
        start: Duration::from_millis(100),
        ..impatient()
    };
    let server = start_with(ten_events(), patience).await;
    assert_eq!(server.websocket().await.refusal().await, "bad_request");
    server
        .metric_becomes("flight_mock_clients{transport=\"websocket\"}", 0.0)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn no_more_clients_than_allowed() {
    let server = start(flight_mock::Settings {
        max_clients: 2,
        ..an_hour()
    })
    .await;
    let first = server.started(None, 0, 1).await;
    let second = reqwest::get(server.url("/v1/flights/stream"))
        .await
        .unwrap();
    for path in ["/v1/flights/stream", "/v1/flights?from=0"] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 503, "{path}");
        assert!(
            body.contains("overloaded") && body.contains("max_clients"),
            "{body}"
        );
    }
    let refused =
        tokio_tungstenite::connect_async(format!("ws://{}/v1/flights/ws", server.address)).await;
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused.unwrap_err() else {
        panic!("a status")
    };
    assert_eq!(answer.status().as_u16(), 503);
    // What does not count as a client is answered all the same.
    assert_eq!(server.get("/healthz").await.0, 200);
    drop(first);
    server
        .metric_becomes("flight_mock_clients{transport=\"websocket\"}", 0.0)
        .await;
    assert_eq!(server.events(0, 1).await.len(), 1, "a place was given back");
    drop(second);
    server
        .metric_becomes("flight_mock_clients{transport=\"sse\"}", 0.0)
        .await;
    server.stop().await;
}
