//! `GET /v1/flights/stream`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{an_hour, impatient, read_sse, start, start_with, ten_events};
use flight::source::SseBatch;
use flight_mock::server::Patience;

#[tokio::test]
async fn the_stream_is_what_random_access_gives() {
    let server = start(an_hour()).await;
    let answer = reqwest::get(server.url("/v1/flights/stream?from=100"))
        .await
        .unwrap();
    let (positions, headers) = read_sse(answer, 3_000).await;
    let ids: Vec<i64> = positions.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ids,
        (100..3_100).collect::<Vec<_>>(),
        "every offset once, in order"
    );
    let lines: Vec<String> = positions.into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, server.events(100, 3_000).await);
    for header in headers {
        let header: SseBatch = serde_json::from_str(&header).unwrap();
        assert!(
            header.next >= 360_000 && header.at_ms >= server.settings.epoch.0,
            "{header:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn last_event_id_resumes_after_it_and_wins_over_from() {
    let server = start(an_hour()).await;
    let whole = reqwest::get(server.url("/v1/flights/stream?from=0"))
        .await
        .unwrap();
    let (whole, _) = read_sse(whole, 2_000).await;
    for last in [0usize, 7, 399, 1_500] {
        let request = reqwest::Client::new()
            .get(server.url("/v1/flights/stream?from=3"))
            .header("Last-Event-ID", last.to_string());
        let (rest, _) = read_sse(request.send().await.unwrap(), 1_999 - last).await;
        assert_eq!(rest, whole[last + 1..], "after {last}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_last_event_id_that_is_none_is_refused() {
    let server = start(ten_events()).await;
    for (id, code) in [
        ("x", "bad_request"),
        ("9223372036854775807", "bad_request"),
        ("10", "beyond_end"),
        ("-2", "before_origin"),
    ] {
        let request = reqwest::Client::new()
            .get(server.url("/v1/flights/stream"))
            .header("Last-Event-ID", id);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400);
        assert!(answer.text().await.unwrap().contains(code), "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_start_the_stream_begins_at_the_live_edge_and_keeps_its_pace() {
    let server = start(an_hour()).await;
    let before = server.descriptor().await.next;
    let started = Instant::now();
    let answer = reqwest::get(server.url("/v1/flights/stream"))
        .await
        .unwrap();
    let (positions, headers) = read_sse(answer, 100).await;
    let after = server.descriptor().await.next;
    assert!(positions[0].0 >= before && positions[99].0 < after);
    // Ten ticks of 100 ms, the first of which may be due at once.
    assert!(
        started.elapsed() >= Duration::from_millis(850),
        "{:?}",
        started.elapsed()
    );
    assert!(headers.len() >= 10, "a group a tick: {}", headers.len());
    server.stop().await;
}

#[tokio::test]
async fn an_idle_stream_shows_life() {
    let patience = Patience {
        keep_alive: Duration::from_millis(50),
        ..impatient()
    };
    let server = start_with(ten_events(), patience).await;
    let mut answer = reqwest::get(server.url("/v1/flights/stream"))
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(answer.chunk().await.unwrap().unwrap(), ": alive\n\n");
    }
    server.stop().await;
}
