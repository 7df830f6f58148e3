//! One insert is one block under one token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clickhouse::error::Error as ClientError;
use flight::telemetry::{TRACEPARENT, current_traceparent};

use super::{POSITIONS, Store, StoreError};
use crate::batch::{Block, INSERT_COLUMNS};

/// The insert statement. The first of its columns is the deadline after which the server refuses it.
pub(super) fn statement() -> String {
    let names = INSERT_COLUMNS.map(|(name, _)| name).join(", ");
    format!("INSERT INTO {POSITIONS} ({names}) FORMAT Native")
}

impl Store {
    /// Inserts rows as one block under a deduplication token. A token that was inserted before adds
    /// nothing, whatever the rows are. An acknowledged insert is durable.
    ///
    /// # Errors
    /// See [`StoreError`]. After [`StoreError::Away`] the rows may be there, or be there later.
    pub async fn insert(&self, block: &Block, token: &str) -> Result<(), StoreError> {
        let action = "insert";
        let seconds = self.insert_timeout.as_secs().max(1);
        // The server puts its part into the trace, if this is in one.
        let traced = current_traceparent().map(|context| {
            let client = self.client.clone();
            client.with_header(TRACEPARENT, context)
        });
        let mut insert = traced
            .as_ref()
            .unwrap_or(&self.client)
            .insert_formatted_with(self.insert_sql.clone())
            .with_timeouts(
                Some(self.insert_timeout),
                Some(self.insert_timeout + Duration::from_secs(2)),
            )
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            // An asynchronous insert is acknowledged before it is durable.
            .with_setting("async_insert", "0")
            // One block: nothing may cut the body up.
            .with_setting("max_insert_block_size", "1048576")
            .with_setting("min_insert_block_size_rows", "1048576")
            .with_setting("min_insert_block_size_bytes", "268435456")
            .with_setting("input_format_parallel_parsing", "0")
            .with_setting("max_insert_threads", "1")
            .with_setting("max_execution_time", seconds.to_string());
        let middle = block.pieces().count() / 2;
        let sent = async {
            for (index, piece) in block.pieces().enumerate() {
                insert.send(piece.clone()).await?;
                // Once an insert, however large it is.
                if index == middle {
                    flight::failpoint!("ingester::in-the-body");
                }
            }
            insert.end().await
        };
        sent.await
            .map_err(|error: ClientError| self.explain(action, error))
    }
}

/// Now, in milliseconds since the epoch, UTC.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
