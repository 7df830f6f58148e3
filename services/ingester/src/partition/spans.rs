//! What traces show of a batch: that it is processed, its commits of offsets, its inserts.
//!
//! Names of attributes are those of OpenTelemetry's conventions for messaging and databases where there is
//! one. A batch's span is a child of the first sampled batch of the producer's that it has records of, and
//! has links to others.

use tracing::Span;
use tracing::field::Empty;

use super::Partition;
use crate::store::{DATABASE, StoreError, TABLE};

impl Partition {
    /// The span of publishing the range from `first` to `last`.
    pub(super) fn publish_span(&self, first: i64, last: i64, redo: bool) -> Span {
        let topic = self.topic();
        let span = tracing::info_span!(
            "publish",
            otel.name = format!("process {topic}"),
            otel.kind = "consumer",
            messaging.system = "kafka",
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = topic,
            messaging.destination.partition.id = self.number,
            messaging.consumer.group.name = self.shared.settings.group.id,
            messaging.batch.message_count = self.batch.len() + self.letters.len(),
            contrail.source = self.source(),
            contrail.kafka.first_offset = first,
            contrail.kafka.last_offset = last,
            contrail.rows = self.batch.len(),
            contrail.dead_letters = self.letters.len(),
            contrail.redo = redo,
            contrail.inserted_rows = Empty,
        );
        self.traces.adopt(&span);
        span
    }

    /// The span of a commit: of a range that is opened, or of the end of what is closed.
    pub(super) fn commit_span(&self, offset: i64, end: Option<i64>) -> Span {
        tracing::info_span!(
            "commit",
            otel.name = "commit offset",
            otel.kind = "client",
            messaging.system = "kafka",
            messaging.operation.name = "commit",
            messaging.operation.r#type = "settle",
            messaging.destination.name = self.topic(),
            messaging.destination.partition.id = self.number,
            messaging.consumer.group.name = self.shared.settings.group.id,
            messaging.kafka.offset = offset,
            contrail.kafka.last_offset = end,
        )
    }

    /// The span of one try to insert.
    pub(super) fn insert_span(&self, rows: usize, token: &str) -> Span {
        tracing::info_span!(
            "insert",
            otel.name = format!("INSERT {TABLE}"),
            otel.kind = "client",
            otel.status_code = Empty,
            error.r#type = Empty,
            db.system.name = "clickhouse",
            db.namespace = DATABASE,
            db.collection.name = TABLE,
            db.operation.name = "INSERT",
            db.operation.batch.size = rows,
            messaging.destination.partition.id = self.number,
            contrail.rows = rows,
            contrail.bytes = Empty,
            contrail.token = token,
        )
    }

    /// The source of the batch's first record.
    fn source(&self) -> &str {
        self.batch
            .rows()
            .next()
            .map_or("", |row| self.batch.source(row.identity.0))
    }
}

/// Marks the span of a try that failed.
pub(super) fn failed(span: &Span, error: &StoreError) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error.kind());
}
