//! A client that does not read costs what the sockets hold, and no more.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{TestServer, an_hour, impatient, start, start_with};
use flight::source::ClientFrame;
use flight_mock::Settings;
use flight_mock::server::Patience;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// What the kernel may hold between two sockets of one machine, with much to spare; the log of these
/// tests is ten times as large.
const MOST_BYTES: f64 = 24e6;

fn a_long_backlog() -> Settings {
    Settings {
        fleet: 100,
        ..an_hour()
    }
}

/// The metric's value once it stays the same.
async fn settled(server: &TestServer, metric: &str) -> f64 {
    let mut before = -1.0;
    for _ in 0..100 {
        let now = server.metric(metric).await;
        if now == before && now > 0.0 {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{metric} never settles");
}

#[tokio::test]
async fn an_sse_client_that_does_not_read_stops_the_generation() {
    let patience = Patience {
        drain: Duration::from_millis(300),
        ..impatient()
    };
    let server = start_with(a_long_backlog(), patience).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /v1/flights/stream?from=0 HTTP/1.1\r\nHost: mock\r\n\r\n")
        .await
        .unwrap();
    let sent = settled(&server, "flight_mock_sent_bytes_total{transport=\"sse\"}").await;
    assert!(sent < MOST_BYTES, "{sent} bytes for nobody");
    // It goes on from there as soon as the client reads.
    let mut read = vec![0; 1 << 20];
    for _ in 0..(sent as usize >> 20) + 4 {
        stream.read_exact(&mut read).await.unwrap();
    }
    assert!(
        server
            .metric("flight_mock_sent_bytes_total{transport=\"sse\"}")
            .await
            > sent
    );
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_client_that_does_not_read_stops_the_generation() {
    let server = start(a_long_backlog()).await;
    let mut client = server.websocket().await;
    client
        .send(&ClientFrame::Start {
            from: Some(0),
            credit: u64::MAX,
            max_batch: u32::MAX,
        })
        .await;
    let metric = "flight_mock_sent_bytes_total{transport=\"websocket\"}";
    let sent = settled(&server, metric).await;
    assert!(sent < MOST_BYTES, "{sent} bytes for nobody");
    client.text().await.unwrap();
    let mut next = 0;
    for _ in 0..60 {
        let batch = client.batch().await;
        assert_eq!(batch.header.first, next, "nothing was skipped meanwhile");
        next += batch.lines.len() as i64;
    }
    assert!(server.metric(metric).await > sent);
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_client_that_never_reads_again_is_let_go() {
    let patience = Patience {
        stalled: Duration::from_millis(300),
        ..impatient()
    };
    let server = start_with(a_long_backlog(), patience).await;
    let mut client = server.websocket().await;
    client
        .send(&ClientFrame::Start {
            from: Some(0),
            credit: u64::MAX,
            max_batch: 1_000,
        })
        .await;
    server
        .metric_becomes("flight_mock_refusals_total{code=\"stalled\"}", 1.0)
        .await;
    server
        .metric_becomes("flight_mock_clients{transport=\"websocket\"}", 0.0)
        .await;
    server.stop().await;
}
