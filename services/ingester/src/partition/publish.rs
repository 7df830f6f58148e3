//! The protocol by which a range of a partition appears in ClickHouse exactly once.
//!
//! 1. Commit `offset = first` with the range's end in the metadata: whoever comes after us knows what
//!    may be there in part. The broker refuses this if we lost our place.
//! 2. Dead letters go out, and records that may be in the tables already are looked up.
//! 3. The rows are inserted as one block under a token made of the range.
//! 4. The next commit, or the one when the partition falls idle, closes the range.
//!
//! The engine writes its log of tokens before it makes a part visible. Killed in between, it remembers
//! the token and has lost the rows: repeating the insert then adds nothing. So after an insert that was
//! not acknowledged at the first try, and after a range that was redone, the identities are counted,
//! and what is missing is inserted under further tokens. The first token always goes first: an insert
//! of ours that is still on its way is then either this one or refused because of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use flight::backoff::Backoff;
use flight::failpoint;
use flight::kafka::KafkaError;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::{Partition, spans};
use crate::batch::{Identity, Row};
use crate::error::IngestError;
use crate::range::{RangeCommit, token};
use crate::store::now_ms;

impl Partition {
    /// Publishes what was collected, as the range from `next` to `last`. `redo`: the range was open
    /// when the partition came to us.
    pub(super) fn publish(&mut self, redo: bool) -> Result<(), IngestError> {
        let (first, Some(last)) = (self.next, self.last) else {
            return Ok(());
        };
        let span = self.publish_span(first, last, redo);
        let _entered = span.enter();

        self.share.publishing();
        self.check_incarnation()?;
        self.commit(first, Some(last))?;
        failpoint!("ingester::after-range-commit");
        self.send_letters()?;
        if !self.batch.is_empty() {
            self.batch.sort();
            let inserted = self.insert_batch(first, last, redo)?;
            span.record("contrail.inserted_rows", inserted);
        }
        failpoint!("ingester::after-insert");
        self.next = last + 1;
        self.closed_at = None;
        self.unreturned_bytes += self.bytes();
        self.forget_batch();
        Ok(())
    }

    /// Closes the last range: everything below `next` is in ClickHouse.
    pub(super) fn close(&mut self, next: i64) -> Result<(), IngestError> {
        if self.closed_at != Some(next) {
            self.commit(next, None)?;
            self.closed_at = Some(next);
        }
        Ok(())
    }

    fn commit(&mut self, offset: i64, end: Option<i64>) -> Result<(), IngestError> {
        let _span = self.commit_span(offset, end).entered();
        let metadata = RangeCommit::new(&self.topic_id, end).to_metadata();
        let commit = |partition: &Self| {
            let failed = |source| {
                partition.shared.metrics.commit_errors.inc();
                let action = format!("cannot commit offset {offset}");
                let settings = &partition.shared.settings;
                let right = || {
                    let (group, topic) = (&settings.group.id, &settings.topic);
                    format!("Read on group {group}, Read and Describe on topic {topic}")
                };
                match KafkaError::denied(&settings.kafka, &source, &action, right) {
                    Some(denied) => denied.into(),
                    None => IngestError::Kafka { action, source },
                }
            };
            let mut list = TopicPartitionList::with_capacity(1);
            let mut element = list.add_partition(partition.topic(), partition.number);
            element.set_metadata(&metadata);
            element.set_offset(Offset::Offset(offset)).map_err(failed)?;
            partition
                .consumer
                .commit(&list, CommitMode::Sync)
                .map_err(failed)
        };
        self.insist("commit", commit)
    }

    fn send_letters(&mut self) -> Result<(), IngestError> {
        if self.letters.is_empty() {
            return Ok(());
        }
        self.insist("dead letters", |partition| {
            let letters: Vec<_> = partition
                .letters
                .iter()
                .map(|letter| letter.dead_letter(partition.topic(), partition.number))
                .collect();
            let (shared, stop, pulse) = (&partition.shared, &partition.stop, &partition.pulse);
            let each = || pulse.begin("dead letters", shared.limits.kafka);
            shared.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.revoked.cancelled() => Err(IngestError::Revoked),
                    sent = shared.dead_letters.send(&letters, each) => sent,
                }
            })
        })
    }

    /// Inserts the batch, and returns how many rows that added as far as can be known.
    fn insert_batch(&mut self, first: i64, last: i64, redo: bool) -> Result<usize, IngestError> {
        let began = Instant::now();
        let name = token(&self.topic_id, self.number, first, last, 0);
        let rows = if self.batch.has_revisits() {
            let present = self.present(true)?;
            Rows::Some(self.batch.rows_without(&present))
        } else {
            Rows::All
        };
        let total = self.batch.len();
        let mut inserted = rows.count(total);
        self.shared
            .metrics
            .rows_present
            .inc_by((total - inserted) as u64);
        let at_once = self.insert_until_acknowledged(&rows, &name)?;
        if redo || !at_once {
            inserted += self.supply_missing(first, last)?;
        }
        let metrics = &self.shared.metrics;
        metrics.rows_inserted.inc_by(inserted as u64);
        metrics
            .insert_seconds
            .observe(began.elapsed().as_secs_f64());
        metrics.batch_rows.observe(total as f64);
        let (now, time) = (now_ms(), |row| self.batch.timestamp_ms(row));
        match &rows {
            Rows::All => metrics.latency.observe(now, (0..total).map(time)),
            Rows::Some(rows) => metrics.latency.observe(now, rows.iter().copied().map(time)),
        }
        for (source, newest_ms) in self.batch.newest_ms() {
            // A clock that is ahead must not hide later that nothing comes.
            metrics
                .newest
                .raise(source, newest_ms.min(now) as f64 / 1000.0);
        }
        Ok(inserted)
    }

    /// Counts the batch's identities in the tables and inserts what is missing, until nothing is.
    fn supply_missing(&mut self, first: i64, last: i64) -> Result<usize, IngestError> {
        let mut supplied = 0;
        for retry in 1.. {
            let present = self.present(false)?;
            let missing = self.batch.rows_missing_from(&present);
            let rows = missing.len();
            if rows == 0 {
                break;
            }
            tracing::warn!(
                partition = self.number,
                first,
                last,
                rows,
                retry,
                "the server forgot rows of an insert whose token it remembers; inserting them again"
            );
            self.shared.metrics.rows_supplied.inc_by(rows as u64);
            let name = token(&self.topic_id, self.number, first, last, retry);
            self.insert_until_acknowledged(&Rows::Some(missing), &name)?;
            supplied += rows;
        }
        Ok(supplied)
    }

    /// The batch's identities that are in the tables: all of them, or only those that must be looked
    /// up before the insert.
    fn present(&mut self, only_revisits: bool) -> Result<HashSet<Identity>, IngestError> {
        self.insist("identities", |partition| {
            let (shared, stop, batch) = (&partition.shared, &partition.stop, &partition.batch);
            let each = || partition.pulse.begin("identities", shared.limits.query);
            let rows: Box<dyn Iterator<Item = Row>> = match only_revisits {
                true => Box::new(batch.revisits()),
                false => Box::new(batch.rows()),
            };
            shared.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.revoked.cancelled() => Err(IngestError::Revoked),
                    present = shared.store.present(|source| batch.source(source), rows, each) => Ok(present?),
                }
            })
        })
    }

    /// Repeats an insert until the server acknowledges it; true if it did so at the first try. The
    /// same token makes repeating harmless, whether or not an earlier try was executed.
    fn insert_until_acknowledged(&mut self, rows: &Rows, token: &str) -> Result<bool, IngestError> {
        if rows.count(self.batch.len()) == 0 {
            return Ok(true);
        }
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let span = self.insert_span(rows.count(self.batch.len()), token);
            let entered = span.enter();
            let deadline = deadline(now_ms());
            let block = match rows {
                Rows::All => self.batch.block(deadline),
                Rows::Some(rows) => self.batch.block_of(rows, deadline),
            };
            span.record("contrail.bytes", block.bytes());
            let (shared, stop) = (&self.shared, &self.stop);
            self.pulse
                .begin("insert", shared.limits.insert(block.bytes()));
            let answer = shared.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.revoked.cancelled() => None,
                    answer = shared.store.insert(&block, token) => Some(answer),
                }
            });
            let shared = &self.shared;
            let error = match answer {
                None => return Err(IngestError::Revoked),
                Some(Ok(())) => {
                    shared.readiness.set("clickhouse", Ok(()));
                    return Ok(backoff.failures() == 0);
                }
                Some(Err(error)) => error,
            };
            shared
                .metrics
                .insert_errors
                .with_label_values(&[error.kind()])
                .inc();
            shared.readiness.set("clickhouse", Err(error.to_string()));
            tracing::warn!(partition = self.number, token, %error, "insert will be repeated");
            spans::failed(&span, &error);
            drop(entered);
            if self.stop.is_requested() {
                return Err(IngestError::Revoked);
            }
            self.pause(backoff.next_delay());
        }
    }
}

/// Which rows of a batch an insert has.
enum Rows {
    All,
    Some(Vec<usize>),
}

impl Rows {
    fn count(&self, total: usize) -> usize {
        match self {
            Self::All => total,
            Self::Some(rows) => rows.len(),
        }
    }
}

/// How long an insert may be on its way. The server remembers the tokens of 100,000 blocks: at a hundred
/// blocks a second, more than this. Long enough for clocks that disagree.
const DEADLINE_S: i64 = 600;

/// The last second in which an insert that is sent now may execute.
fn deadline(now_ms: i64) -> u32 {
    u32::try_from(now_ms / 1000 + DEADLINE_S).unwrap_or(u32::MAX)
}
