//! What the ingester counts.

use flight::metrics::{Label, LargestGauges, Registrar};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::decode::Rejection;
use crate::latency::Latency;
use crate::store::StoreError;

/// Metrics of the ingester.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Rows inserted into ClickHouse.
    pub rows_inserted: IntCounter,
    /// Rows found by identity to be in ClickHouse already.
    pub rows_present: IntCounter,
    /// Rows inserted again after the server forgot them.
    pub rows_supplied: IntCounter,
    /// Ranges redone after an assignment.
    pub ranges_redone: IntCounter,
    /// Gaps among the offsets that were read again before they were believed.
    pub gaps_read_again: IntCounter,
    /// Dead letters by reason.
    pub dead_letters: IntCounterVec,
    /// Offsets that Kafka deleted before they were ingested.
    pub offsets_expired: IntCounter,
    /// Commits that failed and were tried again.
    pub commit_errors: IntCounter,
    /// Inserts that failed and were tried again.
    pub insert_errors: IntCounterVec,
    /// Errors while reading partitions.
    pub kafka_errors: IntCounter,
    /// Time of one insert, retries included.
    pub insert_seconds: Histogram,
    /// Rows of one batch.
    pub batch_rows: Histogram,
    /// Age of each row when it became queryable.
    pub latency: Latency,
    /// The newest event of each source that is queryable.
    pub newest: LargestGauges,
    /// Partitions that this ingester has.
    pub partitions_assigned: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new(to: &mut Registrar<'_>) -> Self {
        Self {
            rows_inserted: to.counter(
                "flight_ingester_rows_inserted_total",
                "rows",
                "Rows inserted into ClickHouse",
            ),
            rows_present: to.counter(
                "flight_ingester_rows_present_total",
                "rows",
                "Rows that were not inserted because their identity was in ClickHouse already",
            ),
            rows_supplied: to.counter(
                "flight_ingester_rows_supplied_total",
                "rows",
                "Rows inserted again because the server remembered their token and had lost them",
            ),
            ranges_redone: to.counter(
                "flight_ingester_ranges_redone_total",
                "ranges",
                "Ranges that were open when their partition was assigned",
            ),
            gaps_read_again: to.counter(
                "flight_ingester_gaps_read_again_total",
                "gaps",
                "Gaps among the offsets of a partition, longer than a transaction's marker, that were read again",
            ),
            dead_letters: to.counters(
                "flight_ingester_dead_letters_total",
                "records",
                "Records sent to the dead-letter topic",
                &[Label::one_of("reason", &Rejection::CODES)],
            ),
            offsets_expired: to.counter(
                "flight_ingester_offsets_expired_total",
                "offsets",
                "Kafka offsets that retention deleted before they were ingested",
            ),
            commit_errors: to.counter(
                "flight_ingester_commit_errors_total",
                "commits",
                "Offset commits that failed and were tried again",
            ),
            insert_errors: to.counters(
                "flight_ingester_insert_errors_total",
                "inserts",
                "Inserts that failed and were tried again: refused by the server, the server was away, or the settings do not let it be reached",
                &[Label::one_of("kind", &StoreError::KINDS)],
            ),
            kafka_errors: to.counter(
                "flight_ingester_kafka_errors_total",
                "errors",
                "Errors while reading partitions",
            ),
            insert_seconds: to.histogram(
                "flight_ingester_insert_seconds",
                "seconds",
                "From the first try of an insert until it was acknowledged",
                &[
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ],
            ),
            batch_rows: to.histogram(
                "flight_ingester_batch_rows",
                "rows",
                "Rows in one batch",
                &[
                    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0,
                ],
            ),
            latency: Latency::register(to),
            newest: to.by_source(
                "flight_ingester_newest_timestamp_seconds",
                "Unix time in seconds",
                "Timestamp of the newest event that this ingester made queryable; of the 64 sources with the newest events",
            ),
            partitions_assigned: to.gauge(
                "flight_ingester_partitions_assigned",
                "partitions",
                "Partitions that this ingester has",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_sources_makes_many_series() {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&mut Registrar::new(&registry));
        let series = || {
            let text = prometheus::TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap();
            text.lines().filter(|line| !line.starts_with('#')).count()
        };
        let before = series();
        for source in 0..20_000 {
            let name = format!("source-{source}");
            metrics.newest.raise(&name, f64::from(source));
        }
        assert_eq!(series(), before + flight::metrics::MAX_SOURCES);
        assert!(before < 100, "{before}");
    }
}
