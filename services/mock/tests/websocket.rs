//! The WebSocket's protocol, as a client in good faith meets it.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{an_hour, impatient, start, start_with, ten_events};
use flight::source::{ClientFrame, MAX_FRAME_BYTES, ServerFrame};
use flight_mock::server::Patience;

const QUIET: Duration = Duration::from_millis(150);

#[tokio::test]
async fn hello_names_the_source_and_the_start() {
    let server = start(an_hour()).await;
    let mut client = server.websocket().await;
    client
        .send(&ClientFrame::Start {
            from: Some(5),
            credit: 0,
            max_batch: 1,
        })
        .await;
    let hello: ServerFrame = serde_json::from_str(&client.text().await.unwrap()).unwrap();
    let ServerFrame::Hello { source, from } = hello else {
        panic!("{hello:?}")
    };
    assert_eq!((source.name, from), (server.descriptor().await.name, 5));

    let mut client = server.websocket().await;
    client
        .send(&ClientFrame::Start {
            from: None,
            credit: 0,
            max_batch: 1,
        })
        .await;
    let hello: ServerFrame = serde_json::from_str(&client.text().await.unwrap()).unwrap();
    let ServerFrame::Hello { source, from } = hello else {
        panic!("{hello:?}")
    };
    assert!(
        (source.next - from).abs() <= 1_000,
        "without a start: the live edge"
    );
    server.stop().await;
}

#[tokio::test]
async fn batches_are_what_random_access_gives() {
    let server = start(an_hour()).await;
    let expected = server.events(1_234, 20_000).await;
    for max_batch in [1, 7, 1_000, u32::MAX] {
        let count = if max_batch == 1 { 300 } else { 20_000 };
        let mut client = server.started(Some(1_234), count as u64, max_batch).await;
        let mut got = Vec::new();
        while got.len() < count {
            let batch = client.batch().await;
            assert_eq!(batch.header.first, 1_234 + got.len() as i64);
            assert!(
                batch.header.count <= max_batch && batch.bytes < MAX_FRAME_BYTES,
                "{:?}",
                batch.header
            );
            let first: serde_json::Value = serde_json::from_str(&batch.lines[0]).unwrap();
            assert_eq!(first["timestamp"], batch.header.at_ms);
            got.extend(batch.lines);
        }
        assert_eq!(got, expected[..count]);
    }
    server.stop().await;
}

#[tokio::test]
async fn no_event_is_sent_without_credit() {
    let server = start(an_hour()).await;
    let mut client = server.started(Some(0), 0, 100).await;
    assert!(client.is_silent(QUIET).await, "no credit yet");
    client.send(&ClientFrame::Credit { events: 250 }).await;
    let sizes = [
        client.batch().await,
        client.batch().await,
        client.batch().await,
    ]
    .map(|b| b.lines.len());
    assert_eq!(sizes, [100, 100, 50]);
    assert!(client.is_silent(QUIET).await, "credit is used up");
    client.send(&ClientFrame::Credit { events: 1 }).await;
    client.send(&ClientFrame::Credit { events: 0 }).await;
    let batch = client.batch().await;
    assert_eq!((batch.header.first, batch.lines.len()), (250, 1));
    assert!(client.is_silent(QUIET).await);
    // More than can be counted is as good as all.
    client.send(&ClientFrame::Credit { events: u64::MAX }).await;
    client.send(&ClientFrame::Credit { events: u64::MAX }).await;
    assert_eq!(client.batch().await.header.first, 251);
    server.stop().await;
}

#[tokio::test]
async fn acknowledgements_are_noted_and_rise() {
    let server = start(an_hour()).await;
    let mut client = server.started(Some(0), 1_000, 100).await;
    client.collect(1_000).await;
    client.send(&ClientFrame::Ack { next: 600 }).await;
    client.send(&ClientFrame::Ack { next: 500 }).await;
    client.send(&ClientFrame::Credit { events: 10 }).await;
    client.collect(10).await;
    assert_eq!(
        server.metric("flight_mock_acknowledged_offset").await,
        600.0
    );
    assert_eq!(
        server
            .metric("flight_mock_events_sent_total{transport=\"websocket\"}")
            .await,
        1_010.0
    );
    server.stop().await;
}

#[tokio::test]
async fn at_the_live_edge_events_come_when_they_are_due() {
    let server = start(an_hour()).await;
    let mut client = server.started(None, 1_000, 1_000).await;
    for _ in 0..5 {
        let batch = client.batch().await;
        let late_ms = flight_mock::server::feed::now_ms() - batch.header.at_ms;
        assert!((0..5_000).contains(&late_ms), "{late_ms} ms");
        assert_eq!(batch.lines.len() % 10, 0, "whole ticks");
        let end = batch.header.first + batch.lines.len() as i64;
        assert!(batch.header.next >= end, "{:?}", batch.header);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idle_client_that_answers_pings_stays_and_one_that_is_dead_goes() {
    let patience = Patience {
        keep_alive: Duration::from_millis(50),
        stalled: Duration::from_millis(400),
        ..impatient()
    };
    let server = start_with(ten_events(), patience).await;
    let mut alive = server.started(None, 1, 1).await;
    let dead = server.started(None, 1, 1).await;
    // Reading answers pings.
    let silence = tokio::time::timeout(Duration::from_secs(1), alive.text()).await;
    assert!(silence.is_err(), "still connected");
    assert_eq!(
        server
            .metric("flight_mock_refusals_total{code=\"stalled\"}")
            .await,
        1.0
    );
    let silence = tokio::time::timeout(Duration::from_secs(1), alive.text()).await;
    assert!(silence.is_err(), "still connected");
    drop(dead);
    server.stop().await;
}

#[tokio::test]
async fn shutting_down_is_said_and_done() {
    let server = start(an_hour()).await;
    let mut idle = server.started(None, 0, 1).await;
    let mut busy = server.started(Some(0), u64::MAX, 100).await;
    busy.batch().await;
    let shutdown = server.shutdown.clone();
    shutdown.trigger();
    assert_eq!(idle.refusal().await, "shutting_down");
    assert_eq!(busy.refusal().await, "shutting_down");
    server.stop().await;
}
