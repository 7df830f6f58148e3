//! What the service counts.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

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
    ///
    /// # Errors
    /// The registry has metrics of these names already.
    pub fn register(
        registry: &Registry,
        live_edge: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> prometheus::Result<Self> {
        let metrics = Self {
            events: IntCounterVec::new(
                Opts::new(
                    "flight_mock_events_sent_total",
                    "Events handed to clients, by transport",
                ),
                &["transport"],
            )?,
            bytes: IntCounterVec::new(
                Opts::new(
                    "flight_mock_sent_bytes_total",
                    "Bytes of events and their headers handed to clients, by transport",
                ),
                &["transport"],
            )?,
            clients: IntGaugeVec::new(
                Opts::new(
                    "flight_mock_clients",
                    "Clients being served at this moment, by transport",
                ),
                &["transport"],
            )?,
            refusals: IntCounterVec::new(
                Opts::new(
                    "flight_mock_refusals_total",
                    "Clients not served, or no longer, by reason",
                ),
                &["code"],
            )?,
            acknowledged: IntGauge::new(
                "flight_mock_acknowledged_offset",
                "Highest offset below which a WebSocket client has declared every event durable",
            )?,
        };
        // Series that exist from the start can be alerted on before the first event.
        for transport in [Transport::Http, Transport::Sse, Transport::Websocket] {
            metrics.events.with_label_values(&[transport.label()]);
            metrics.bytes.with_label_values(&[transport.label()]);
            metrics.clients.with_label_values(&[transport.label()]);
        }
        for code in Refusal::CODES {
            metrics.refusals.with_label_values(&[code]);
        }
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.clients.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.acknowledged.clone()))?;
        registry.register(Box::new(LiveEdge {
            gauge: IntGauge::new(
                "flight_mock_live_edge_offset",
                "First offset whose event has not happened yet",
            )?,
            now: live_edge,
        }))?;
        Ok(metrics)
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
