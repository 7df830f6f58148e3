//! `GET /v1/source` and `GET /v1/flights`.
#![allow(clippy::unwrap_used)]

mod common;

use common::{an_hour, start, ten_events};
use flight::position::Position;
use flight_mock::Simulator;

#[tokio::test]
async fn events_are_those_of_the_simulator_that_the_name_describes() {
    let server = start(an_hour()).await;
    let source = server.descriptor().await;
    assert_eq!(source.origin, 0);
    assert!(source.next >= 360_000, "{source:?}");
    let simulator = Simulator::from_source_name(&source.name).unwrap();
    let lines = server.events(12_340, 2_000).await;
    assert_eq!(lines.len(), 2_000);
    for (line, offset) in lines.iter().zip(12_340..) {
        let mut json = Vec::new();
        simulator.event(offset).unwrap().write_json(&mut json);
        assert_eq!(line.as_bytes(), json);
        assert_eq!(
            serde_json::from_str::<Position>(line).unwrap(),
            simulator.position(offset).unwrap()
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_given_before_it_has_happened() {
    let server = start(ten_events()).await;
    assert_eq!(server.descriptor().await.next, 10);
    assert_eq!(server.events(7, 100).await.len(), 3);
    assert_eq!(server.events(10, 100).await.len(), 0);
    assert_eq!(server.events(i64::MAX, 100_000).await.len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn senseless_requests_are_told_why() {
    let server = start(ten_events()).await;
    for (path, status, code) in [
        ("/v1/flights?from=-1&count=1", 400, "before_origin"),
        ("/v1/flights?from=0&count=100001", 400, "bad_request"),
        ("/v1/flights?from=0&count=-1", 400, "bad_request"),
        ("/v1/flights?from=x", 400, "bad_request"),
        ("/v1/flights?from=99999999999999999999", 400, "bad_request"),
        ("/v1/flights?count=1", 400, "bad_request"),
        ("/v1/flights?from=0&cuont=1", 400, "bad_request"),
        ("/v1/flights/stream?from=11", 400, "beyond_end"),
        ("/v1/flights/stream?from=-1", 400, "before_origin"),
        ("/v1/flights/stream?since=1", 400, "bad_request"),
        ("/v1/flights/ws", 400, "bad_request"),
        ("/v2", 404, "not_found"),
    ] {
        let (given, body) = server.get(path).await;
        let body: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
        assert_eq!(
            (given, body["error"]["code"].as_str().unwrap()),
            (status, code),
            "{path}: {body}"
        );
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(
        server
            .metric("flight_mock_refusals_total{code=\"before_origin\"}")
            .await,
        2.0
    );
    server.stop().await;
}

#[tokio::test]
async fn two_servers_of_one_name_give_the_same_bytes() {
    let settings = an_hour();
    let (one, two) = (start(settings.clone()).await, start(settings.clone()).await);
    assert_eq!(one.descriptor().await.name, two.descriptor().await.name);
    assert_eq!(
        one.events(1_000, 5_000).await,
        two.events(1_000, 5_000).await
    );

    let other = start(flight_mock::Settings {
        seed: settings.seed + 1,
        ..settings
    })
    .await;
    assert_ne!(other.descriptor().await.name, one.descriptor().await.name);
    assert_ne!(other.events(1_000, 100).await, one.events(1_000, 100).await);
    for server in [one, two, other] {
        server.stop().await;
    }
}
