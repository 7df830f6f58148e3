//! What the producer counts.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

/// Metrics of the producer. Label sets are fixed: nothing that a source sends becomes a label.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Events that were written as positions, committed or not.
    pub events_produced: IntCounter,
    /// Events that were committed, as positions or as dead letters.
    pub events_committed: IntCounter,
    /// Events that were written as dead letters, by reason.
    pub events_dead_lettered: IntCounterVec,
    /// Transactions by outcome: `committed`, `aborted`, `unknown`.
    pub transactions: IntCounterVec,
    /// From the wish to commit to Kafka's word that it is done.
    pub commit_seconds: Histogram,
    /// Events of the source that are not in Kafka yet.
    pub source_lag: IntGauge,
    /// The first offset that is not in Kafka yet.
    pub source_next_offset: IntGauge,
    /// Events that were passed over in an outage and are not in Kafka yet.
    pub catch_up_pending: IntGauge,
    /// Events that were passed over in an outage and were committed since.
    pub caught_up: IntCounter,
    /// Lost connections to the source.
    pub reconnects: IntCounterVec,
    /// Sessions that were begun.
    pub sessions: IntCounter,
    /// Sessions that ended by an error, by what the error concerned.
    pub session_errors: IntCounterVec,
    /// Frames that break the source protocol, by kind.
    pub protocol_errors: IntCounterVec,
    /// Errors that the Kafka client reported.
    pub kafka_errors: IntCounter,
    /// Times that a newer producer shut this one out.
    pub fenced: IntCounter,
    /// Partitions in which a transaction of an earlier session had no end.
    pub settled: IntCounter,
    /// Records that wait to be handed to the Kafka client.
    pub source_queue_bytes: IntGauge,
    /// Records that wait for Kafka.
    pub kafka_queue_records: IntGauge,
    /// When the last transaction was committed.
    pub last_commit_seconds: Gauge,
}

/// Reasons of dead letters.
pub const REASONS: [&str; 5] = [
    "malformed_json",
    "not_a_position",
    "empty_flight_id",
    "not_utf8",
    "too_large",
];

impl Metrics {
    /// Metrics, registered.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            events_produced: register(
                registry,
                IntCounter::with_opts(opts(
                    "events_produced_total",
                    "Events written to the topic of positions, whether their transaction was committed or not",
                )),
            ),
            events_committed: register(
                registry,
                IntCounter::with_opts(opts(
                    "events_committed_total",
                    "Events in committed transactions, as positions or dead letters",
                )),
            ),
            events_dead_lettered: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "events_dead_lettered_total",
                        "Events written to the topic of dead letters",
                    ),
                    &["reason"],
                ),
            ),
            transactions: register(
                registry,
                IntCounterVec::new(opts("transactions_total", "Transactions"), &["outcome"]),
            ),
            commit_seconds: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::from(opts(
                        "commit_duration_seconds",
                        "Time to flush and commit a transaction",
                    ))
                    .buckets(vec![
                        0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
                    ]),
                ),
            ),
            source_lag: register(
                registry,
                IntGauge::with_opts(opts(
                    "source_lag_events",
                    "Events up to the source's live edge that are not committed",
                )),
            ),
            source_next_offset: register(
                registry,
                IntGauge::with_opts(opts(
                    "source_checkpoint_offset",
                    "The first source offset that is not committed",
                )),
            ),
            catch_up_pending: register(
                registry,
                IntGauge::with_opts(opts(
                    "catch_up_pending_events",
                    "Events that were passed over in an outage and are not committed",
                )),
            ),
            caught_up: register(
                registry,
                IntCounter::with_opts(opts(
                    "catch_up_events_total",
                    "Events that were passed over in an outage and were committed since",
                )),
            ),
            reconnects: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "reconnects_total",
                        "Connections to the source that were lost or failed",
                    ),
                    &["transport"],
                ),
            ),
            sessions: register(
                registry,
                IntCounter::with_opts(opts("sessions_total", "Sessions begun")),
            ),
            session_errors: register(
                registry,
                IntCounterVec::new(
                    opts("session_errors_total", "Sessions ended by an error"),
                    &["concerns"],
                ),
            ),
            protocol_errors: register(
                registry,
                IntCounterVec::new(
                    opts("protocol_errors_total", "Violations of the source protocol"),
                    &["kind"],
                ),
            ),
            kafka_errors: register(
                registry,
                IntCounter::with_opts(opts(
                    "kafka_errors_total",
                    "Errors reported by the Kafka client, passing ones included",
                )),
            ),
            fenced: register(
                registry,
                IntCounter::with_opts(opts(
                    "fenced_total",
                    "Times a newer producer of the source took over",
                )),
            ),
            settled: register(
                registry,
                IntCounter::with_opts(opts(
                    "settled_partitions_total",
                    "Partitions in which a transaction of an earlier session had no end and was given one",
                )),
            ),
            source_queue_bytes: register(
                registry,
                IntGauge::with_opts(opts(
                    "source_queue_bytes",
                    "Records made of events that are not with the Kafka client yet, in bytes",
                )),
            ),
            kafka_queue_records: register(
                registry,
                IntGauge::with_opts(opts(
                    "kafka_queue_records",
                    "Records that Kafka has not acknowledged",
                )),
            ),
            last_commit_seconds: register(
                registry,
                Gauge::with_opts(opts(
                    "last_commit_timestamp_seconds",
                    "When the last transaction was committed, in Unix time",
                )),
            ),
        };
        // Every label value is there from the start: a rate over an absent series says nothing.
        for reason in REASONS {
            metrics.events_dead_lettered.with_label_values(&[reason]);
        }
        for outcome in ["committed", "aborted", "unknown"] {
            metrics.transactions.with_label_values(&[outcome]);
        }
        metrics
    }
}

pub(crate) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("flight_producer_{name}"), help)
}

pub(crate) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("a constant metric is well formed");
    // Twice in one registry: two producers in one process, as in tests; the first one counts.
    let _ = registry.register(Box::new(metric.clone()));
    metric
}
