//! What the producer counts.

use flight::metrics::{Label, Registrar};
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::error::SessionError;
use crate::settings::Transport;
use crate::source::SourceError;

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
    pub fn new(to: &mut Registrar<'_>) -> Self {
        Self {
events_produced: to.counter("flight_producer_events_produced_total","events","Events written to the topic of positions, whether their transaction was committed or not",),
events_committed: to.counter("flight_producer_events_committed_total","events","Events in committed transactions, as positions or dead letters",),
events_dead_lettered: to.counters("flight_producer_events_dead_lettered_total","events","Events written to the topic of dead letters",&[Label::one_of("reason", &REASONS)]),
transactions: to.counters("flight_producer_transactions_total","transactions","Transactions that ended; one of unknown outcome is settled by the next session",&[Label::one_of("outcome", &["committed", "aborted", "unknown"])]),
commit_seconds: to.histogram("flight_producer_commit_duration_seconds","seconds","Time to flush and commit a transaction",&[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
source_lag: to.gauge("flight_producer_source_lag_events","events","Events up to the source's live edge that are not committed",),
source_next_offset: to.gauge("flight_producer_source_checkpoint_offset","offset","The first source offset that is not committed",),
catch_up_pending: to.gauge("flight_producer_catch_up_pending_events","events","Events that were passed over in an outage and are not committed",),
caught_up: to.counter("flight_producer_catch_up_events_total","events","Events that were passed over in an outage and were committed since",),
reconnects: to.counters("flight_producer_reconnects_total","connections","Connections to the source that were lost or failed",&[Label::one_of("transport", &Transport::NAMES)]),
sessions: to.counter("flight_producer_sessions_total","sessions","Sessions begun",),
session_errors: to.counters("flight_producer_session_errors_total","sessions","Sessions ended by an error",&[Label::one_of("concerns", &SessionError::CONCERNS)]),
protocol_errors: to.counters("flight_producer_protocol_errors_total","violations","Violations of the source protocol",&[Label::one_of("kind", &SourceError::VIOLATIONS)]),
kafka_errors: to.counter("flight_producer_kafka_errors_total","errors","Errors reported by the Kafka client, passing ones included",),
fenced: to.counter("flight_producer_fenced_total","times","Times a newer producer of the source took over",),
settled: to.counter("flight_producer_settled_partitions_total","partitions","Partitions in which a transaction of an earlier session had no end and was given one",),
source_queue_bytes: to.gauge("flight_producer_source_queue_bytes","bytes","Records made of events that are not with the Kafka client yet",),
kafka_queue_records: to.gauge("flight_producer_kafka_queue_records","records","Records that Kafka has not acknowledged",),
last_commit_seconds: to.gauge("flight_producer_last_commit_timestamp_seconds","Unix time in seconds","When the last transaction was committed",),
        }
    }
}

/// Metrics of replays.
#[derive(Debug, Clone)]
pub struct ReplayMetrics {
    /// Events that replays have sent again.
    pub events: IntCounter,
    /// Replays that are over, by how they ended.
    pub replays: IntCounterVec,
    /// Replays that are sending or wait for their turn.
    pub running: IntGauge,
}

impl ReplayMetrics {
    /// Metrics, registered.
    pub fn new(to: &mut Registrar<'_>) -> Self {
        Self {
            events: to.counter(
                "flight_producer_replay_events_total",
                "events",
                "Events that replays have sent again",
            ),
            replays: to.counters(
                "flight_producer_replays_total",
                "replays",
                "Replays that are over",
                &[Label::one_of("state", &["done", "failed"])],
            ),
            running: to.gauge(
                "flight_producer_replays_running",
                "replays",
                "Replays that are sending or wait for their turn",
            ),
        }
    }
}
