//! What the service counts.

use std::sync::Arc;

use flight::metrics::{Label, Registrar};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::refusal::Refusal;

/// How a client is served: the label of most metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Random access.
    Http,
    /// Server-Sent Events.
    Sse,
    /// The WebSocket.
    Websocket,
}

impl Transport {
    const LABELS: [&'static str; 3] = ["http", "sse", "websocket"];

    fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Websocket => "websocket",
        }
    }
}

/// The metrics of one server.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounterVec,
    bytes: IntCounterVec,
    clients: IntGaugeVec,
    refusals: IntCounterVec,
    acknowledged: IntGauge,
}

impl Metrics {
    /// Registers the metrics; `live_edge` is asked whenever they are read.
    pub fn register(to: &mut Registrar<'_>, live_edge: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        let transport = [Label::one_of("transport", &Transport::LABELS)];
        let edge = [
            "flight_mock_live_edge_offset",
            "offset",
            "First offset whose event has not happened yet",
        ];
        let gauge = IntGauge::new(edge[0], edge[2]);
        let now = live_edge;
        to.add(
            gauge.map(|gauge| LiveEdge { gauge, now }),
            "gauge",
            edge,
            &[],
            &[],
        );
        Self {
            events: to.counters(
                "flight_mock_events_sent_total",
                "events",
                "Events handed to clients",
                &transport,
            ),
            bytes: to.counters(
                "flight_mock_sent_bytes_total",
                "bytes",
                "Events and their headers handed to clients",
                &transport,
            ),
            clients: to.gauges(
                "flight_mock_clients",
                "clients",
                "Clients being served at this moment",
                &transport,
            ),
            refusals: to.counters(
                "flight_mock_refusals_total",
                "clients",
                "Clients not served, or no longer",
                &[Label::one_of("code", &Refusal::CODES)],
            ),
            acknowledged: to.gauge(
                "flight_mock_acknowledged_offset",
                "offset",
                "Highest offset below which a WebSocket client has declared every event durable",
            ),
        }
    }

    /// Counts what was handed to a client.
    pub fn sent(&self, transport: Transport, events: usize, bytes: usize) {
        self.events
            .with_label_values(&[transport.label()])
            .inc_by(events as u64);
        self.bytes
            .with_label_values(&[transport.label()])
            .inc_by(bytes as u64);
    }

    /// Counts a refusal.
    pub fn refused(&self, refusal: &Refusal) {
        self.refusals.with_label_values(&[refusal.code()]).inc();
    }

    /// Notes an acknowledgement; the gauge only rises.
    pub fn acknowledged(&self, next: i64) {
        if next > self.acknowledged.get() {
            self.acknowledged.set(next);
        }
    }

    /// The number of clients on a transport, to be raised and lowered.
    pub fn clients(&self, transport: Transport) -> IntGauge {
        self.clients.with_label_values(&[transport.label()])
    }
}

/// A gauge that is computed when it is read.
#[derive(Clone)]
struct LiveEdge {
    gauge: IntGauge,
    now: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Collector for LiveEdge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set((self.now)());
        self.gauge.collect()
    }
}
