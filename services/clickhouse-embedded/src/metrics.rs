//! Prometheus metrics.

use flight::metrics::{Label, Registrar};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

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
    pub fn register(to: &mut Registrar<'_>) -> Self {
        let kind = Label::one_of("kind", &["select", "insert", "command"]);
        let outcome = Label::one_of("outcome", &["ok", "error"]);
        Self {
            queries: to.counters(
                "clickhouse_embedded_queries_total",
                "queries",
                "Queries that ended",
                &[kind, outcome],
            ),
            seconds: to.histograms(
                "clickhouse_embedded_query_seconds",
                "seconds",
                "Time of a query on the engine, from its connection to its last row",
                &[kind],
                &[
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    60.0,
                ],
            ),
            running: to.gauge(
                "clickhouse_embedded_queries_running",
                "queries",
                "Queries on the engine now",
            ),
            body_bytes: to.gauge(
                "clickhouse_embedded_body_bytes",
                "bytes",
                "Request bodies held in memory now",
            ),
            log_entries_dropped: to.counter(
                "clickhouse_embedded_query_log_dropped_total",
                "entries",
                "Entries of the query log that were dropped, because too many waited to be written",
            ),
            rows_written: to.counter(
                "clickhouse_embedded_written_rows_total",
                "rows",
                "Rows that acknowledged inserts brought, deduplicated ones included",
            ),
            rows_read: to.counter(
                "clickhouse_embedded_read_rows_total",
                "rows",
                "Rows that queries read from tables",
            ),
            insert_rows: to.histogram(
                "clickhouse_embedded_insert_rows",
                "rows",
                "Rows of an acknowledged insert",
                &[1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0],
            ),
        }
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
