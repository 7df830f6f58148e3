//! The query log: what ran, for whom, and what it cost. A table of the engine's own, written by a
//! thread of its own, which no query waits for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use prometheus::IntCounter;
use serde::Serialize;

use crate::engine::Engine;
use crate::exception::Exception;

/// Where the log is. `system.query_log` is a view of it.
const DATABASE: &str = "system_log";
/// So many entries wait to be written; more are dropped, and counted.
const WAITING: usize = 16_384;
/// Entries are written when there are so many, or after so long.
const BATCH: usize = 4096;
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// A statement is logged up to this length, in bytes.
const MAX_STATEMENT: usize = 16 << 10;

/// One query. Names are those of ClickHouse's `system.query_log`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Entry {
    /// `QueryFinish`, or `ExceptionWhileProcessing`.
    #[serde(rename = "type")]
    pub outcome: &'static str,
    /// When it began, microseconds since 1970.
    pub query_start_time_microseconds: u64,
    /// When it ended, microseconds since 1970.
    pub event_time_microseconds: u64,
    /// How long it took, from its connection to its last row.
    pub query_duration_ms: u64,
    /// Rows read from tables.
    pub read_rows: u64,
    /// Bytes read from tables.
    pub read_bytes: u64,
    /// Rows inserted.
    pub written_rows: u64,
    /// Bytes inserted.
    pub written_bytes: u64,
    /// Rows of the result.
    pub result_rows: u64,
    /// Bytes of the result.
    pub result_bytes: u64,
    /// Its id.
    pub query_id: String,
    /// The first word: `Select`, `Insert`, …
    pub query_kind: String,
    /// Who asked.
    pub user: String,
    /// From where.
    pub address: String,
    /// With what.
    pub http_user_agent: String,
    /// The database that unqualified names were of.
    pub current_database: String,
    /// ClickHouse's code of what went wrong; 0 where nothing did.
    pub exception_code: u32,
    /// What went wrong.
    pub exception: String,
    /// The statement, without rows. Only its shape and hash are kept.
    pub statement: String,
}

impl Entry {
    /// As much of a statement as is logged.
    pub fn shorten(statement: &[u8]) -> String {
        let end = statement.len().min(MAX_STATEMENT);
        String::from_utf8_lossy(&statement[..end]).into_owned()
    }
}

/// Microseconds since 1970.
pub fn microseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}

#[derive(Debug)]
enum Message {
    Entry(Box<Entry>),
    Flush(SyncSender<()>),
}

/// Takes entries and never waits.
#[derive(Debug, Clone)]
pub struct QueryLog {
    sender: Option<SyncSender<Message>>,
    dropped: IntCounter,
}

impl QueryLog {
    /// Makes the table and starts the thread that writes it. `days` 0 keeps no log.
    ///
    /// # Errors
    /// The table cannot be made, or the thread.
    pub fn start(engine: &Arc<Engine>, days: u32, dropped: IntCounter) -> Result<Self, Exception> {
        if days == 0 {
            return Ok(Self {
                sender: None,
                dropped,
            });
        }
        prepare(engine, days)?;
        let (sender, receiver) = sync_channel(WAITING);
        let engine = Arc::clone(engine);
        std::thread::Builder::new()
            .name("query-log".to_owned())
            .spawn(move || write(&engine, &receiver))
            .map_err(|error| Exception::from_engine(&error.to_string()))?;
        Ok(Self {
            sender: Some(sender),
            dropped,
        })
    }

    /// Logs a query. Where too many wait to be written, it is dropped and counted.
    pub fn add(&self, entry: Entry) {
        if let Some(sender) = &self.sender
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                sender.try_send(Message::Entry(Box::new(entry)))
        {
            self.dropped.inc();
        }
    }

    /// Waits until what was logged before is in the table, for `limit` at most.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.try_send(Message::Flush(done)).is_ok()
        {
            let _ = wait.recv_timeout(limit);
        }
    }
}

fn prepare(engine: &Arc<Engine>, days: u32) -> Result<(), Exception> {
    let connection = engine.connect("")?;
    let table = format!(
        "CREATE TABLE IF NOT EXISTS {DATABASE}.query_log (\
         type Enum8('QueryFinish' = 2, 'ExceptionWhileProcessing' = 4), \
         event_date Date DEFAULT toDate(event_time), \
         event_time DateTime DEFAULT toDateTime(event_time_microseconds), \
         event_time_microseconds DateTime64(6), \
         query_start_time DateTime DEFAULT toDateTime(query_start_time_microseconds), \
         query_start_time_microseconds DateTime64(6), \
         query_duration_ms UInt64, read_rows UInt64, read_bytes UInt64, written_rows UInt64, \
         written_bytes UInt64, result_rows UInt64, result_bytes UInt64, query_id String, \
         query_kind LowCardinality(String), user LowCardinality(String), \
         address LowCardinality(String), http_user_agent LowCardinality(String), \
         current_database LowCardinality(String), exception_code Int32, exception String, \
         statement String EPHEMERAL, \
         query String DEFAULT normalizeQuery(statement), \
         normalized_query_hash UInt64 DEFAULT normalizedQueryHash(statement)) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(event_date) \
         ORDER BY (event_date, event_time) TTL event_date + INTERVAL {days} DAY"
    );
    for sql in [
        format!("CREATE DATABASE IF NOT EXISTS {DATABASE}"),
        table,
        format!("ALTER TABLE {DATABASE}.query_log MODIFY TTL event_date + INTERVAL {days} DAY"),
        // Lives in memory, so anew at every start.
        format!("CREATE OR REPLACE VIEW system.query_log AS SELECT * FROM {DATABASE}.query_log"),
    ] {
        connection.query(sql.as_bytes(), "Null", &[])?;
    }
    Ok(())
}

fn write(engine: &Arc<Engine>, receiver: &Receiver<Message>) {
    let mut entries = Vec::new();
    let mut flushed = Instant::now();
    loop {
        let left = FLUSH_EVERY.saturating_sub(flushed.elapsed());
        let mut waiting = None;
        match receiver.recv_timeout(left) {
            Ok(Message::Entry(entry)) => {
                entries.push(entry);
                if entries.len() < BATCH && !left.is_zero() {
                    continue;
                }
            }
            Ok(Message::Flush(done)) => waiting = Some(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !entries.is_empty()
            && let Err(error) = insert(engine, &entries)
        {
            tracing::warn!(%error, entries = entries.len(), "cannot write the query log");
        }
        entries.clear();
        flushed = Instant::now();
        // Whoever waited may have given up.
        if let Some(done) = waiting {
            let _ = done.try_send(());
        }
    }
}

fn insert(engine: &Arc<Engine>, entries: &[Box<Entry>]) -> Result<(), Exception> {
    let mut rows = Vec::new();
    for entry in entries {
        let row = serde_json::to_vec(entry)
            .map_err(|error| Exception::from_engine(&error.to_string()))?;
        rows.extend_from_slice(&row);
        rows.push(b'\n');
    }
    let sql = format!(
        "INSERT INTO {DATABASE}.query_log (type, query_start_time_microseconds, \
         event_time_microseconds, query_duration_ms, read_rows, read_bytes, written_rows, \
         written_bytes, result_rows, result_bytes, query_id, query_kind, user, address, \
         http_user_agent, current_database, exception_code, exception, statement)"
    );
    let connection = engine.connect("")?;
    let mut stream = connection.insert(sql.as_bytes(), "JSONEachRow", &[])?;
    stream.append(&rows)?;
    stream.commit().map(drop)
}
