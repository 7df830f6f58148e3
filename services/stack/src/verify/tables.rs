//! What ClickHouse has. Every statement is bounded in memory: offsets are counted in buckets, and only
//! buckets that are not whole are looked into.

use clickhouse::{Client, Row};
use flight::offsets::{Offsets, append};
use flight::position::Position;
use serde::Deserialize;

use super::{PartitionReport, VerifyError, VerifySettings};

/// The rows of all tables together.
pub(crate) const ROWS: &str = "flight_data.flight_positions_all";
/// Offsets counted together.
const BUCKET: i64 = 1_000_000;
/// Most offsets of duplicates that are asked for in one bucket.
const DUPLICATES: usize = 10_000;

/// ClickHouse, as the account sees it.
pub(crate) struct Tables {
    client: Client,
    url: String,
}

#[derive(Row, Deserialize)]
struct Bucket {
    bucket: i64,
    seen: u64,
    distinct: u64,
}

/// A row as the comparison of contents needs it.
#[derive(Row, Deserialize)]
pub(crate) struct StoredRow {
    pub(crate) source_offset: u64,
    flight_id: String,
    callsign: String,
    longitude: f64,
    latitude: f64,
    altitude: i32,
    gspeed: f32,
    timestamp_ms: i64,
    icao24: Option<String>,
    track: Option<f32>,
    vertical_rate: Option<i32>,
    squawk: Option<String>,
    on_ground: Option<bool>,
}

impl StoredRow {
    pub(crate) fn into_position(self) -> Position {
        Position {
            flight_id: self.flight_id,
            callsign: self.callsign,
            longitude: self.longitude,
            latitude: self.latitude,
            altitude: self.altitude,
            gspeed: self.gspeed,
            timestamp: self.timestamp_ms,
            icao24: self.icao24,
            track: self.track,
            vertical_rate: self.vertical_rate,
            squawk: self.squawk,
            on_ground: self.on_ground,
        }
    }
}

impl Tables {
    pub(crate) fn new(settings: &VerifySettings) -> Result<Self, VerifyError> {
        let url = settings.clickhouse.url.clone();
        match settings.clickhouse.client("clickhouse") {
            Ok(client) => Ok(Self { client, url }),
            Err(reason) => Err(VerifyError::Clickhouse {
                url,
                what: "anything",
                reason,
            }),
        }
    }

    pub(crate) async fn ask<T>(&self, what: &'static str, sql: &str) -> Result<Vec<T>, VerifyError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.client
            .query_raw(sql)
            .fetch_all::<T>()
            .await
            .map_err(|source| self.failed(what, source))
    }

    /// Runs one statement that returns nothing.
    pub(crate) async fn execute(&self, what: &'static str, sql: &str) -> Result<(), VerifyError> {
        let done = self.client.query_raw(sql).execute().await;
        done.map_err(|source| self.failed(what, source))
    }

    fn failed(&self, what: &'static str, source: clickhouse::error::Error) -> VerifyError {
        VerifyError::Clickhouse {
            url: self.url.clone(),
            what,
            reason: match source {
                clickhouse::error::Error::BadResponse(answer) => answer.trim().to_owned(),
                other => flight::tls::explain(&other, &self.url, "clickhouse.tls.ca_file"),
            },
        }
    }

    /// Names of all sources.
    pub(crate) async fn sources(&self) -> Result<Vec<String>, VerifyError> {
        self.ask(
            "sources",
            &format!("SELECT DISTINCT toString(source) FROM {ROWS} ORDER BY 1"),
        )
        .await
    }

    async fn buckets(
        &self,
        source: &str,
        origin: i64,
        next: i64,
    ) -> Result<Vec<Bucket>, VerifyError> {
        let sql = format!(
            "SELECT toInt64(intDiv(source_offset, {BUCKET})) AS bucket, count() AS seen, \
             toUInt64(groupBitmap(toUInt32(source_offset % {BUCKET}))) AS distinct \
             FROM {ROWS} WHERE {} GROUP BY bucket ORDER BY bucket",
            within(source, origin, next)
        );
        self.ask("offsets by bucket", &sql).await
    }

    /// Ranges of offsets that are in no row.
    pub(crate) async fn holes(
        &self,
        source: &str,
        origin: i64,
        next: i64,
    ) -> Result<Vec<Offsets>, VerifyError> {
        let mut holes: Vec<Offsets> = Vec::new();
        let mut due = origin;
        for bucket in self.buckets(source, origin, next).await? {
            let first = (bucket.bucket * BUCKET).max(origin);
            let end = ((bucket.bucket + 1) * BUCKET).min(next);
            if first > due {
                let last = first - 1;
                append(&mut holes, Offsets { first: due, last });
            }
            if (bucket.distinct as i64) < end - first {
                for hole in self.holes_within(source, first, end).await? {
                    append(&mut holes, hole);
                }
            }
            due = end;
        }
        if due < next {
            let last = next - 1;
            append(&mut holes, Offsets { first: due, last });
        }
        Ok(holes)
    }

    async fn holes_within(
        &self,
        source: &str,
        first: i64,
        end: i64,
    ) -> Result<Vec<Offsets>, VerifyError> {
        let sql = format!(
            "SELECT DISTINCT toInt64(source_offset) AS o FROM {ROWS} WHERE {} ORDER BY o",
            within(source, first, end)
        );
        let mut holes = Vec::new();
        let mut due = first;
        for offset in self.ask::<i64>("offsets", &sql).await? {
            if offset > due {
                holes.push(Offsets {
                    first: due,
                    last: offset - 1,
                });
            }
            due = offset + 1;
        }
        if due < end {
            holes.push(Offsets {
                first: due,
                last: end - 1,
            });
        }
        Ok(holes)
    }

    /// Offsets that are in more than one row.
    pub(crate) async fn duplicates(
        &self,
        source: &str,
        origin: i64,
        next: i64,
    ) -> Result<Vec<i64>, VerifyError> {
        let mut duplicates = Vec::new();
        for bucket in self.buckets(source, origin, next).await? {
            if bucket.seen == bucket.distinct {
                continue;
            }
            let first = (bucket.bucket * BUCKET).max(origin);
            let end = ((bucket.bucket + 1) * BUCKET).min(next);
            let sql = format!(
                "SELECT toInt64(source_offset) AS o FROM {ROWS} WHERE {} GROUP BY o HAVING count() > 1 ORDER BY o LIMIT {DUPLICATES}",
                within(source, first, end)
            );
            duplicates.extend(self.ask::<i64>("duplicates", &sql).await?);
        }
        Ok(duplicates)
    }

    /// Rows by the Kafka partition through which they came: the one that Kafka's own partitioner gives
    /// their key.
    pub(crate) async fn counts(
        &self,
        source: &str,
        origin: i64,
        next: i64,
        partitions: usize,
    ) -> Result<Vec<PartitionReport>, VerifyError> {
        let sql = format!(
            "SELECT toUInt32(bitAnd(kafkaMurmurHash(flight_id), 2147483647) % {}) AS partition, sum(rows), sum(distinct) FROM ( \
               SELECT flight_id, count() AS rows, uniqExact(source_offset) AS distinct FROM {ROWS} WHERE {} GROUP BY flight_id \
             ) GROUP BY partition ORDER BY partition",
            partitions.max(1),
            within(source, origin, next)
        );
        let rows = self
            .ask::<(u32, u64, u64)>("rows by partition", &sql)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(partition, seen, distinct)| PartitionReport {
                partition,
                seen,
                distinct,
            })
            .collect())
    }

    /// Rows at or above an offset.
    pub(crate) async fn beyond(&self, source: &str, next: i64) -> Result<u64, VerifyError> {
        let sql = format!(
            "SELECT count() FROM {ROWS} WHERE source = {} AND source_offset >= {next}",
            quoted(source)
        );
        Ok(self
            .ask::<u64>("rows beyond the checkpoint", &sql)
            .await?
            .first()
            .copied()
            .unwrap_or(0))
    }

    /// The rows of a condition on `source_offset`.
    pub(crate) async fn rows(
        &self,
        source: &str,
        condition: &str,
    ) -> Result<Vec<StoredRow>, VerifyError> {
        let sql = format!(
            "SELECT source_offset, toString(flight_id), toString(callsign), longitude, latitude, altitude, gspeed, \
             toUnixTimestamp64Milli(timestamp), CAST(icao24, 'Nullable(String)'), track, vertical_rate, \
             CAST(squawk, 'Nullable(String)'), on_ground FROM {ROWS} WHERE source = {} AND {condition}",
            quoted(source)
        );
        self.ask("rows", &sql).await
    }
}

fn within(source: &str, first: i64, end: i64) -> String {
    format!(
        "source = {} AND source_offset >= {first} AND source_offset < {end}",
        quoted(source)
    )
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
