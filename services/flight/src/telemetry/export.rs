//! Sending spans without ever being in the way.
//!
//! Spans wait in a bounded queue, and a thread of its own sends them. Where that is slow or away, spans are
//! dropped: nothing else waits for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus::{IntCounterVec, Opts};

/// Longest time for one request to the collector.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

/// What became of spans that were to be sent. Those that found the queue full are not among them: the log
/// tells of the first, and at the end how many there were.
pub(crate) static SPANS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let spans = IntCounterVec::new(
        Opts::new(
            "flight_trace_spans_total",
            "Spans of traces by outcome: sent, or dropped because the OTLP endpoint is away or slow",
        ),
        &["outcome"],
    )
    .expect("a constant metric is well formed");
    for outcome in ["sent", "dropped"] {
        spans.with_label_values(&[outcome]);
    }
    spans
});

/// Counts what is sent and what is not, and says once that the collector is away, and once that it is back.
#[derive(Debug)]
pub(super) struct Watched<E> {
    pub(super) inner: E,
    pub(super) endpoint: String,
    is_away: AtomicBool,
}

impl<E> Watched<E> {
    pub(super) fn new(inner: E, endpoint: &str) -> Self {
        Self {
            inner,
            endpoint: endpoint.to_owned(),
            is_away: AtomicBool::new(false),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let (outcome, was_away) = match self.inner.export(batch).await {
            Ok(()) => ("sent", self.is_away.swap(false, Ordering::Relaxed)),
            Err(error) => {
                let was_away = self.is_away.swap(true, Ordering::Relaxed);
                if !was_away {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        %error,
                        "telemetry.otlp_endpoint does not take traces: they are dropped until it does"
                    );
                }
                ("dropped", was_away)
            }
        };
        if outcome == "sent" && was_away {
            tracing::info!(endpoint = self.endpoint, "traces are taken again");
        }
        SPANS.with_label_values(&[outcome]).inc_by(spans);
        // It has been told: whoever calls would tell it again, each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
