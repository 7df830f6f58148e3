//! Rows for questions to be asked of: the simulator's log over a span that ends now.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clickhouse::Client;
use flight::avro::Record;
use flight_ingester::batch::{Batch, INSERT_COLUMNS};
use flight_mock::{Parameters, Simulator};

/// Rows of one insert. One block of the server, so one part for each day in it.
const BLOCK_ROWS: usize = 500_000;
const DAY_MS: u64 = 86_400_000;

/// A span of the simulator's log.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What determines the events.
    pub parameters: Parameters,
    /// Events, from the first one on.
    pub events: u64,
}

impl Dataset {
    /// `events` positions of `fleet` aircraft, spread over the `days` that end at `end_ms`
    /// (milliseconds UTC).
    pub fn over_days(events: u64, fleet: u32, days: u64, end_ms: i64) -> Self {
        let ticks = events.div_ceil(u64::from(fleet)).max(1);
        let period_ms = (days * DAY_MS / ticks).max(1) as u32;
        Self::with_period(events, fleet, period_ms, end_ms)
    }

    /// `events` positions of `fleet` aircraft, each aircraft every `period_ms`, the last one before
    /// `end_ms`.
    pub fn with_period(events: u64, fleet: u32, period_ms: u32, end_ms: i64) -> Self {
        let ticks = events.div_ceil(u64::from(fleet)).max(1);
        let span_ms = (ticks * u64::from(period_ms)) as i64;
        Self {
            parameters: Parameters {
                seed: 42,
                fleet,
                period_ms,
                epoch_ms: end_ms - span_ms,
            },
            events,
        }
    }

    /// Inserts all of it into `table`, which has the columns of `flight_data.flight_positions`, in blocks
    /// of at most 50 days. `progress` hears the rows inserted so far.
    ///
    /// # Errors
    /// ClickHouse refuses, or is away.
    pub async fn load(
        &self,
        client: &Client,
        table: &str,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        let simulator = Simulator::new(self.parameters)?;
        let source = self.parameters.source_name();
        let names = INSERT_COLUMNS.map(|(name, _)| name).join(", ");
        let sql = format!("INSERT INTO {table} ({names}) FORMAT Native");
        let mut batch = Batch::default();
        for offset in 0..self.events {
            let offset = i64::try_from(offset).context("more events than offsets")?;
            let event = simulator.event(offset)?;
            let position = event.position();
            batch.push(
                &Record {
                    source: &source,
                    source_offset: offset,
                    position: position.by_ref(),
                },
                false,
            );
            if batch.is_full(BLOCK_ROWS, usize::MAX) {
                insert(client, &sql, &mut batch).await?;
                progress(offset as u64 + 1);
            }
        }
        insert(client, &sql, &mut batch).await?;
        progress(self.events);
        Ok(())
    }
}

/// `events` positions of 1,000 aircraft, the last ones before `end_ms`, as a table looks that has been
/// written to for a week: four fifths of them spread over the days, and the last hour as densely as
/// receivers send. For 20,000,000 events these are a position every 38 s, and one each second.
pub fn week(events: u64, end_ms: i64) -> [Dataset; 2] {
    const FLEET: u32 = 1_000;
    let dense = Dataset::with_period(events / 5, FLEET, 1_000, end_ms);
    let began = dense.parameters.epoch_ms;
    [
        Dataset::over_days(events - dense.events, FLEET, 7, began),
        dense,
    ]
}

async fn insert(client: &Client, sql: &str, batch: &mut Batch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let rows = batch.len();
    ensure!(rows < 1_000_000, "{rows} rows are more than one block");
    let block = batch.block(u32::MAX);
    let mut insert = client
        .insert_formatted_with(sql)
        .with_timeouts(None, Some(Duration::from_secs(120)))
        .with_setting("max_insert_block_size", "1048576")
        .with_setting("min_insert_block_size_rows", "1048576")
        .with_setting("min_insert_block_size_bytes", "268435456")
        .with_setting("input_format_parallel_parsing", "0");
    for piece in block.pieces() {
        insert.send(piece.clone()).await?;
    }
    insert.end().await.context("inserting generated rows")?;
    batch.clear();
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_week_ends_when_it_is_told_to_and_has_all_events() {
        let end_ms = 1_790_000_000_000;
        let [sparse, dense] = week(1_000_000, end_ms);
        assert_eq!(sparse.events + dense.events, 1_000_000);
        let time = |set: &Dataset, offset: u64| {
            let simulator = Simulator::new(set.parameters).unwrap();
            simulator.event(offset as i64).unwrap().timestamp
        };
        assert_eq!(time(&dense, dense.events - 1), end_ms - 1_000);
        assert!(time(&sparse, sparse.events - 1) < time(&dense, 0));
        let span = time(&dense, 0) - time(&sparse, 0);
        assert!(
            (span - 7 * DAY_MS as i64).abs() < DAY_MS as i64 / 10,
            "{span}"
        );
    }
}
