//! Closing transactions that Kafka forgot to close.
//!
//! A transaction's outcome is decided by its coordinator, which then writes a marker into every
//! partition. Kafka 4.3 can leave markers out: a partition that has no leader at that moment, as after
//! a crash of its broker, passes for deleted (KAFKA-20734). The records then stay undecided, readers
//! stop before them, and the next marker of the same producer decides them too, whichever way that
//! goes: records of an aborted transaction would come to light with the next commit.
//!
//! After `init_transactions` no transaction of ours is open. So where a partition's last stable offset
//! points at a record of our source, that record's marker is missing. What to do follows from the
//! checkpoint that readers can see: records that it covers belong to a transaction that was committed and
//! must come to light; those above it, or in one of its holes, will be sent again and must never be seen.
//! A transaction that touches the partition and ends the right way closes them.
//!
//! To commit, a record is needed: a copy of the first hidden one. So in that rarest case, a broker
//! killed between the decision and the markers of a commit, one event of a partition is in Kafka
//! twice, under the same source and source offset.

use std::time::{Duration, Instant};

use flight::avro::{Decoder, POSITION_SCHEMA, split_header};
use flight::checkpoint::SourceCheckpoint;
use flight::dead_letter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::error::SessionError;
use crate::kafka_client::reader_config;
use crate::service::Context;
use crate::transaction::Transactor;

/// Other sources' transactions end, at the latest, when the broker aborts them: after their timeout
/// (10 s) and the broker's next look (10 s).
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a partition that another source's transaction holds back.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for one answer.
const ASK: Duration = Duration::from_secs(10);

/// A record of ours that no marker decided: the first of its transaction in its partition.
#[derive(Debug)]
pub(crate) struct Undecided {
    record: OwnedMessage,
    /// Its offset in the source; `None` for a checkpoint.
    source_offset: Option<i64>,
}

/// How a transaction is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
}

impl Undecided {
    /// What the visible checkpoint says about it.
    fn end(&self, checkpoint: Option<&SourceCheckpoint>) -> End {
        match (self.source_offset, checkpoint) {
            (Some(offset), Some(checkpoint)) if checkpoint.covers(offset) => End::Commit,
            // A checkpoint that nobody saw, or events that no visible checkpoint covers.
            _ => End::Abort,
        }
    }
}

/// Looks for undecided records of one source.
pub(crate) struct Inspector<'a> {
    cx: &'a Context,
    source: &'a str,
    committed: BaseConsumer,
    all: BaseConsumer,
}

impl<'a> Inspector<'a> {
    pub(crate) fn new(cx: &'a Context, source: &'a str) -> Result<Self, SessionError> {
        let client = |isolation| {
            reader_config(&cx.settings, isolation)
                .set("fetch.wait.max.ms", "20")
                .create()
                .map_err(|error| SessionError::kafka(DOING, error))
        };
        Ok(Self {
            cx,
            source,
            committed: client("read_committed")?,
            all: client("read_uncommitted")?,
        })
    }

    /// The undecided records of one topic, one for each partition that has some. Waits while other
    /// sources' open transactions hide what is behind them.
    pub(crate) fn undecided(
        &self,
        topic: &str,
        partitions: i32,
    ) -> Result<Vec<Undecided>, SessionError> {
        let mut found = Vec::new();
        for partition in 0..partitions {
            let end = self.end(&self.all, topic, partition)?;
            found.extend(self.undecided_below(topic, partition, end)?);
        }
        Ok(found)
    }

    fn undecided_below(
        &self,
        topic: &str,
        partition: i32,
        end: i64,
    ) -> Result<Option<Undecided>, SessionError> {
        let began = Instant::now();
        loop {
            let stable = self.end(&self.committed, topic, partition)?;
            if stable >= end {
                return Ok(None);
            }
            let record = self.record_at(topic, partition, stable)?;
            if let Some(undecided) = record.and_then(|record| self.ours(record)) {
                return Ok(Some(undecided));
            }
            if self.cx.shutdown.is_requested() {
                return Err(SessionError::Stopped);
            }
            if began.elapsed() > PATIENCE {
                return Err(SessionError::HeldBack {
                    topic: topic.to_owned(),
                    partition,
                    stable,
                    end,
                    seconds: PATIENCE.as_secs(),
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    fn end(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
        partition: i32,
    ) -> Result<i64, SessionError> {
        let (_, high) = consumer
            .fetch_watermarks(topic, partition, ASK)
            .map_err(|error| SessionError::reading(&self.cx.settings.kafka, topic, DOING, error))?;
        Ok(high)
    }

    /// The record at an offset, decided or not; `None` if it cannot be had now.
    fn record_at(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<OwnedMessage>, SessionError> {
        let failed = |error| SessionError::kafka(DOING, error);
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(failed)?;
        self.all.assign(&place).map_err(failed)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if let Some(Ok(message)) = self.all.poll(Duration::from_millis(100)) {
                let here = (message.topic(), message.partition(), message.offset());
                return Ok((here == (topic, partition, offset)).then(|| message.detach()));
            }
        }
        Ok(None)
    }

    /// Whether a record is of our source.
    fn ours(&self, record: OwnedMessage) -> Option<Undecided> {
        let topics = &self.cx.settings.topics;
        let source_offset = if record.topic() == topics.checkpoints.name {
            (record.key()? == self.source.as_bytes()).then_some(None)?
        } else if record.topic() == topics.dead_letters.name {
            let headers = record.headers()?;
            let source = dead_letter::header(headers, dead_letter::SOURCE)?;
            let offset = dead_letter::header(headers, dead_letter::SOURCE_OFFSET)?;
            (source == self.source).then_some(Some(offset.parse().ok()?))?
        } else {
            let (schema_id, datum) = split_header(record.payload()).ok()?;
            // What another version wrote under another schema has the same first fields, and
            // resolving needs the registry: take the record for ours only if it can be read.
            let decoder = Decoder::new(schema_id, POSITION_SCHEMA).ok()?;
            let mut scratch = None;
            let decoded = decoder.decode(datum, &mut scratch).ok()?;
            (decoded.source == self.source).then_some(Some(decoded.source_offset))?
        };
        tracing::warn!(
            topic = record.topic(),
            partition = record.partition(),
            offset = record.offset(),
            source_offset,
            "a transaction of an earlier session has no end in this partition"
        );
        Some(Undecided {
            record,
            source_offset,
        })
    }
}

/// Decides what is undecided, by the checkpoint that readers see.
pub(crate) fn settle(
    transactor: &Transactor,
    undecided: &[Undecided],
    checkpoint: Option<&SourceCheckpoint>,
) -> Result<(), SessionError> {
    let (commit, abort): (Vec<_>, Vec<_>) = undecided
        .iter()
        .partition(|record| record.end(checkpoint) == End::Commit);
    if !abort.is_empty() {
        transactor.begin()?;
        for Undecided { record, .. } in &abort {
            transactor.send_again(record)?;
        }
        transactor.abort_written()?;
    }
    if !commit.is_empty() {
        transactor.begin()?;
        for Undecided { record, .. } in &commit {
            transactor.send_again(record)?;
        }
        transactor.commit()?;
    }
    if !undecided.is_empty() {
        tracing::warn!(
            committed = commit.len(),
            aborted = abort.len(),
            next_offset = checkpoint.map(|checkpoint| checkpoint.next_offset),
            "gave the transactions of earlier sessions their ends"
        );
    }
    Ok(())
}

const DOING: &str = "looking for transactions without an end";

#[cfg(test)]
mod tests {
    use super::*;
    use flight::offsets::Offsets;
    use rdkafka::Timestamp;

    fn undecided(source_offset: Option<i64>) -> Undecided {
        Undecided {
            record: OwnedMessage::new(None, None, "t".into(), Timestamp::NotAvailable, 0, 0, None),
            source_offset,
        }
    }

    #[test]
    fn what_a_visible_checkpoint_covers_is_committed_and_nothing_else() {
        let checkpoint = SourceCheckpoint {
            source: "mock".into(),
            origin: 0,
            next_offset: 100,
            holes: vec![Offsets {
                first: 40,
                last: 49,
            }],
            session: "s".into(),
            host: "h".into(),
            committed_at_ms: 1,
        };
        let end = |offset, checkpoint| undecided(offset).end(checkpoint);
        assert_eq!(end(Some(99), Some(&checkpoint)), End::Commit);
        assert_eq!(end(Some(39), Some(&checkpoint)), End::Commit);
        assert_eq!(end(Some(40), Some(&checkpoint)), End::Abort, "sent again");
        assert_eq!(end(Some(100), Some(&checkpoint)), End::Abort, "sent again");
        assert_eq!(end(Some(5), None), End::Abort, "nothing was sent yet");
        assert_eq!(
            end(None, Some(&checkpoint)),
            End::Abort,
            "a checkpoint nobody saw"
        );
    }
}
