//! Finding out where a partition stands, and redoing what was open.

use std::sync::TryLockError;
use std::time::Duration;

use flight::backoff::Backoff;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::{POLL, Partition, TURN, Taken};
use crate::consumer::queue::PartitionQueue;
use crate::error::IngestError;
use crate::range::{Standing, standing};

/// Longest wait for one answer of the cluster. Short, so that a revocation is noticed.
const ANSWER: Duration = Duration::from_secs(5);

impl Partition {
    /// Reads the group's commit and the tables' watermarks, and redoes the range that was open.
    /// `afresh`: the commit means nothing any more, as when the log went back.
    pub(super) fn recover(
        &mut self,
        queue: &mut PartitionQueue,
        afresh: bool,
    ) -> Result<(), IngestError> {
        self.topic_id = self.insist("topic id", Self::ask_topic_id)?;
        let standing = match afresh {
            true => Standing::Fresh {
                reason: "the log went back",
            },
            false => self.insist("committed offset", Self::ask_standing)?,
        };
        // Every record at or below these is looked up before it is inserted. The commit alone would
        // say where to begin, but a commit can be set back: by an operator, or by a request that a
        // stalled broker executes late.
        let watermarks = self.insist("watermarks", |partition| {
            let (shared, pulse) = (&partition.shared, &partition.pulse);
            let each = || pulse.begin("watermarks", shared.limits.query);
            shared
                .runtime
                .block_on(shared.store.watermarks(each))
                .map_err(IngestError::from)
        })?;
        self.watermarks = watermarks.into();
        let low = self.insist("beginning of the log", Self::ask_low_watermark)?;
        tracing::info!(
            partition = self.number,
            ?standing,
            low,
            topic_id = self.topic_id,
            "recovering"
        );
        match standing {
            Standing::Fresh { reason } => {
                tracing::warn!(
                    partition = self.number,
                    reason,
                    "beginning at the log's beginning, each record by its identity"
                );
                self.seek(queue, Offset::Beginning)?;
                self.next = low;
            }
            Standing::Closed { next } => {
                self.note_expired(next, low);
                self.next = next.max(low);
                self.closed_at = Some(next);
            }
            Standing::Open { first, last } => {
                self.note_expired(first, low);
                self.next = first;
                self.redo(queue, last)?;
            }
        }
        Ok(())
    }

    /// Reads up to `last`, publishes that as the range it was, and checks that all of it is there.
    fn redo(&mut self, queue: &mut PartitionQueue, last: i64) -> Result<(), IngestError> {
        self.shared.metrics.ranges_redone.inc();
        let shared = self.shared.clone();
        let _turn = loop {
            if self.stop.is_requested() {
                return Err(IngestError::Revoked);
            }
            self.pulse.begin("turn", self.shared.limits.collect);
            match shared.redoing.try_lock() {
                Ok(turn) => break turn,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TURN),
            }
        };
        loop {
            if self.stop.is_requested() {
                return Err(IngestError::Revoked);
            }
            self.pulse.begin("redo", self.shared.limits.collect);
            // The log may end below `last`, where an operator deleted records: then that is the range.
            match self.take(queue, POLL, last)? {
                Taken::Record if self.last == Some(last) => break,
                Taken::End(offset) if offset > last => break,
                _ => {}
            }
        }
        // Even with nothing left of it, the range keeps its name: the token is made of it.
        self.last = Some(last);
        self.publish(true)
    }

    /// Makes sure that what was collected came from the topic that the partition was recovered for. A
    /// topic that is deleted and made again goes on at offsets that say nothing about the old one's, and
    /// where it grows faster than we look, no offset goes back. Ids never come back, so that asking after
    /// the reading is enough.
    pub(super) fn check_incarnation(&mut self) -> Result<(), IngestError> {
        let found = self.insist("topic id", Self::ask_topic_id)?;
        if found == self.topic_id {
            return Ok(());
        }
        Err(IngestError::TopicRemade {
            partition: self.number,
            was: std::mem::take(&mut self.topic_id),
            found,
            unpublished: self.batch.len() + self.letters.len(),
        })
    }

    fn ask_standing(&self) -> Result<Standing, IngestError> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(self.topic(), self.number);
        let committed = self
            .consumer
            .committed_offsets(partitions, ANSWER)
            .map_err(|source| IngestError::Kafka {
                action: "cannot read the committed offset".into(),
                source,
            })?;
        let elements = committed.elements();
        let element = elements.first();
        let offset = element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        let metadata = element.map_or("", |element| element.metadata());
        Ok(standing(offset, metadata, &self.topic_id))
    }

    fn ask_low_watermark(&self) -> Result<i64, IngestError> {
        let (low, _) = self
            .consumer
            .fetch_watermarks(self.topic(), self.number, ANSWER)
            .map_err(|source| IngestError::Kafka {
                action: "cannot read where the log begins".into(),
                source,
            })?;
        Ok(low)
    }

    /// Reads the partition from `offset` on.
    pub(super) fn seek(
        &mut self,
        queue: &mut PartitionQueue,
        offset: Offset,
    ) -> Result<(), IngestError> {
        self.insist("seek", |partition| {
            partition
                .consumer
                .seek(partition.topic(), partition.number, offset, ANSWER)
                .map_err(|source| IngestError::Kafka {
                    action: "cannot seek".into(),
                    source,
                })
        })?;
        queue.clear();
        Ok(())
    }

    /// Retention is the one way in which Kafka itself loses what was not ingested: never in silence.
    fn note_expired(&self, next: i64, low: i64) {
        if low > next {
            self.shared
                .metrics
                .offsets_expired
                .inc_by((low - next) as u64);
            tracing::error!(
                partition = self.number,
                first = next,
                last = low - 1,
                "Kafka has deleted records before they were ingested: replay these events from their source"
            );
        }
    }

    /// Asks until there is an answer, or the partition is taken away.
    pub(super) fn insist<T>(
        &mut self,
        what: &'static str,
        ask: impl Fn(&Self) -> Result<T, IngestError>,
    ) -> Result<T, IngestError> {
        let mut backoff = Backoff::default();
        loop {
            if self.stop.revoked.is_cancelled() {
                return Err(IngestError::Revoked);
            }
            self.pulse.begin(what, self.shared.limits.kafka);
            match ask(self) {
                Ok(answer) => {
                    self.shared.readiness.set("partitions", Ok(()));
                    return Ok(answer);
                }
                Err(IngestError::Revoked) => return Err(IngestError::Revoked),
                Err(error) => {
                    tracing::warn!(partition = self.number, what, %error, "waiting");
                    self.shared.readiness.set(
                        "partitions",
                        Err(format!("partition {}: {error}", self.number)),
                    );
                    if self.stop.draining.is_cancelled() {
                        return Err(IngestError::Revoked);
                    }
                    self.pause(backoff.next_delay());
                }
            }
        }
    }

    /// Sleeps, unless the partition is taken away or the service ends.
    pub(super) fn pause(&self, delay: Duration) {
        let stop = &self.stop;
        self.shared.runtime.block_on(async {
            tokio::select! {
                () = stop.revoked.cancelled() => {}
                () = stop.draining.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
        });
    }
}
