//! Prometheus metrics.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::execute::JobKind;

/// Handles of this server's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    queries: IntCounterVec,
    seconds: HistogramVec,
    /// Queries on the engine now.
    pub running: IntGauge,
    /// Bytes of request bodies in memory now.
    pub body_bytes: IntGauge,
    /// Entries of the query log that were dropped, because too many waited to be written.
    pub log_entries_dropped: IntCounter,
    rows_written: IntCounter,
    rows_read: IntCounter,
    insert_rows: Histogram,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            queries: IntCounterVec::new(
                Opts::new(
                    "clickhouse_embedded_queries_total",
                    "Queries that ended, by kind (select, insert, command) and outcome (ok, error)",
                ),
                &["kind", "outcome"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "clickhouse_embedded_query_seconds",
                    "Time on the engine, from its connection to its last row, in seconds",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    60.0,
                ]),
                &["kind"],
            )?,
            running: IntGauge::new(
                "clickhouse_embedded_queries_running",
                "Queries on the engine now",
            )?,
            body_bytes: IntGauge::new(
                "clickhouse_embedded_body_bytes",
                "Bytes of request bodies held in memory now",
            )?,
            log_entries_dropped: IntCounter::new(
                "clickhouse_embedded_query_log_dropped_total",
                "Entries of the query log that were dropped, because too many waited to be written",
            )?,
            rows_written: IntCounter::new(
                "clickhouse_embedded_written_rows_total",
                "Rows that acknowledged inserts brought, deduplicated ones included",
            )?,
            rows_read: IntCounter::new(
                "clickhouse_embedded_read_rows_total",
                "Rows that queries read from tables",
            )?,
            insert_rows: Histogram::with_opts(
                HistogramOpts::new(
                    "clickhouse_embedded_insert_rows",
                    "Rows of an acknowledged insert",
                )
                .buckets(vec![
                    1.0,
                    10.0,
                    100.0,
                    1_000.0,
                    10_000.0,
                    100_000.0,
                    1_000_000.0,
                ]),
            )?,
        };
        registry.register(Box::new(metrics.queries.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.body_bytes.clone()))?;
        registry.register(Box::new(metrics.log_entries_dropped.clone()))?;
        registry.register(Box::new(metrics.rows_written.clone()))?;
        registry.register(Box::new(metrics.rows_read.clone()))?;
        registry.register(Box::new(metrics.insert_rows.clone()))?;
        Ok(metrics)
    }

    /// Counts a query that ended.
    pub fn ended(&self, kind: JobKind, seconds: f64, stats: Option<&crate::engine::Stats>) {
        let kind_label = match kind {
            JobKind::Select => "select",
            JobKind::Insert => "insert",
            JobKind::Command => "command",
        };
        let outcome = if stats.is_some() { "ok" } else { "error" };
        self.queries.with_label_values(&[kind_label, outcome]).inc();
        self.seconds
            .with_label_values(&[kind_label])
            .observe(seconds);
        if let Some(stats) = stats {
            self.rows_read.inc_by(stats.read_rows);
            if kind == JobKind::Insert {
                self.rows_written.inc_by(stats.written_rows);
                self.insert_rows.observe(stats.written_rows as f64);
            }
        }
    }
}
