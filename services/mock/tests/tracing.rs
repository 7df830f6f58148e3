//! Batches carry a trace context when tracing is on. A process of its own: tracing is global.
#![allow(clippy::unwrap_used)]

mod common;

use common::{an_hour, read_sse, start};
use flight::source::SseBatch;
use flight::telemetry::TelemetrySettings;

fn is_sampled_context(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == 4
        && parts[0] == "00"
        && parts[1].len() == 32
        && parts[2].len() == 16
        && parts[3] == "01"
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sampled_batch_begins_a_trace() {
    let settings = TelemetrySettings {
        log: "off".to_owned(),
        // Nobody listens there: traces are made all the same.
        otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
        sample_ratio: 1.0,
        ..TelemetrySettings::default()
    };
    let _guard = flight::telemetry::init("flight-mock", &settings).unwrap();
    let server = start(an_hour()).await;

    let mut client = server.started(Some(0), 20, 10).await;
    let contexts =
        [client.batch().await, client.batch().await].map(|b| b.header.traceparent.unwrap());
    assert!(
        contexts.iter().all(|c| is_sampled_context(c)),
        "{contexts:?}"
    );
    assert_ne!(contexts[0], contexts[1], "a trace for each batch");

    let answer = reqwest::get(server.url("/v1/flights/stream?from=0"))
        .await
        .unwrap();
    let (_, headers) = read_sse(answer, 10).await;
    let header: SseBatch = serde_json::from_str(&headers[0]).unwrap();
    assert!(is_sampled_context(&header.traceparent.unwrap()));
    server.stop().await;
}
