//! What the ingester counts.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    exponential_buckets,
};

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
    /// Age of the oldest row of a batch when it became queryable.
    pub latency_seconds: Histogram,
    /// Partitions that this ingester has.
    pub partitions_assigned: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("flight_ingester_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters =
                IntCounterVec::new(Opts::new(format!("flight_ingester_{name}"), help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let options =
                HistogramOpts::new(format!("flight_ingester_{name}"), help).buckets(buckets);
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let partitions_assigned = IntGauge::new(
            "flight_ingester_partitions_assigned",
            "Partitions that this ingester has",
        )?;
        registry.register(Box::new(partitions_assigned.clone()))?;
        Ok(Self {
            rows_inserted: counter("rows_inserted_total", "Rows inserted into ClickHouse")?,
            rows_present: counter(
                "rows_present_total",
                "Rows that were not inserted because their identity was in ClickHouse already",
            )?,
            rows_supplied: counter(
                "rows_supplied_total",
                "Rows inserted again because the server remembered their token and had lost them",
            )?,
            ranges_redone: counter(
                "ranges_redone_total",
                "Ranges that were open when their partition was assigned",
            )?,
            gaps_read_again: counter(
                "gaps_read_again_total",
                "Gaps among the offsets of a partition, longer than a transaction's marker, that were read again",
            )?,
            dead_letters: counters(
                "dead_letters_total",
                "Records sent to the dead-letter topic, by reason",
                "reason",
            )?,
            offsets_expired: counter(
                "offsets_expired_total",
                "Kafka offsets that retention deleted before they were ingested",
            )?,
            commit_errors: counter(
                "commit_errors_total",
                "Offset commits that failed and were tried again",
            )?,
            insert_errors: counters(
                "insert_errors_total",
                "Inserts that failed and were tried again: refused by the server, or the server was away",
                "kind",
            )?,
            kafka_errors: counter("kafka_errors_total", "Errors while reading partitions")?,
            insert_seconds: histogram(
                "insert_seconds",
                "Seconds from the first try of an insert until it was acknowledged",
                vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ],
            )?,
            batch_rows: histogram(
                "batch_rows",
                "Rows in one batch",
                exponential_buckets(1.0, 4.0, 10)?,
            )?,
            latency_seconds: histogram(
                "latency_seconds",
                "Seconds from the timestamp of the oldest row of a batch until the batch was queryable",
                vec![
                    0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
                ],
            )?,
            partitions_assigned,
        })
    }
}
