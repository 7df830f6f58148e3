//! Where to begin: the checkpoint topic, read to its true end, and what follows from it.

use std::time::{Duration, Instant};

use flight::checkpoint::SourceCheckpoint;
use flight::offsets::Offsets;
use flight::source::SourceDescriptor;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::error::{Fatal, SessionError};
use crate::kafka_client::{EndWatch, reader_config};
use crate::service::Context;

/// Longest time for reading the topic. Another source's transaction may hold its end back until
/// the broker aborts it, which takes up to its timeout (10 s) and the broker's next look (10 s).
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one small answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a poll waits before the queue counts as empty.
const POLL: Duration = Duration::from_millis(50);

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// What is decided now. Enough to see whether somebody else has taken over.
    Stable,
    /// Everything that is in the topic now, waiting until each transaction in it is decided.
    /// After `init_transactions`, which decides our own, nothing of ours can come after it.
    HighWatermark,
}

/// What the topic holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoints {
    /// The last word on our source.
    pub(crate) ours: Option<SourceCheckpoint>,
    /// Whether any source has a checkpoint.
    pub(crate) any: bool,
}

/// Reads the checkpoint topic, committed records only.
///
/// A consumer with `read_committed` is told that a partition ends at its last stable offset, before
/// the first transaction that is open, anyone's. Our last checkpoint may stand behind that. So the
/// end is asked for without isolation first (`fetch_watermarks` answers by the isolation level of its
/// own client), and the reading goes on until the end that the consumer itself has met is there.
/// Neither the position of the last record nor a single end-of-partition event says that: the log may
/// end in transaction markers, which are not shown, and the event names no offset; the consumer's
/// statistics do.
pub(crate) fn read(cx: &Context, source: &str, until: Until) -> Result<Checkpoints, SessionError> {
    let topic = &cx.settings.topics.checkpoints.name;
    let end = match until {
        Until::Stable => watermark(cx, topic, 0, "read_committed")?,
        Until::HighWatermark => watermark(cx, topic, 0, "read_uncommitted")?,
    };
    let doing = "reading checkpoints";
    let failed = |error| SessionError::reading(&cx.settings.kafka, topic, doing, error);
    let consumer: BaseConsumer<EndWatch> = reader_config(&cx.settings, "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("statistics.interval.ms", "50")
        // An idle partition answers after this wait, and only then is its end known.
        .set("fetch.wait.max.ms", "20")
        .create_with_context(EndWatch::new(topic))
        .map_err(failed)?;
    let mut partitions = TopicPartitionList::new();
    partitions
        .add_partition_offset(topic, 0, Offset::Beginning)
        .map_err(failed)?;
    consumer.assign(&partitions).map_err(failed)?;

    let began = Instant::now();
    let mut found = Checkpoints::default();
    loop {
        cx.readiness.beat();
        if cx.shutdown.is_requested() {
            return Err(SessionError::Stopped);
        }
        if began.elapsed() > READ_TIMEOUT {
            return Err(SessionError::CheckpointsUnread {
                topic: topic.clone(),
                end,
                seconds: READ_TIMEOUT.as_secs(),
            });
        }
        // Before the poll: what was read up to that end is in the queue, and then has been taken.
        let met = consumer.context().end() >= end;
        match consumer.poll(POLL) {
            Some(Ok(message)) => found.take(source, topic, &message)?,
            Some(Err(ClientError::PartitionEOF(_))) => {}
            Some(Err(error)) if is_denied(&error) => return Err(failed(error)),
            Some(Err(error)) => tracing::debug!(%error, doing),
            None if met => return Ok(found),
            None => {}
        }
    }
}

impl Checkpoints {
    fn take<M: Message>(
        &mut self,
        source: &str,
        topic: &str,
        message: &M,
    ) -> Result<(), SessionError> {
        let ours = message.key() == Some(source.as_bytes());
        let Some(value) = message.payload() else {
            // A tombstone: somebody took the checkpoint away on purpose.
            if ours {
                self.ours = None;
            }
            return Ok(());
        };
        self.any = true;
        if ours {
            let unreadable = |reason: String| SessionError::CheckpointUnreadable {
                topic: topic.to_owned(),
                offset: message.offset(),
                name: source.to_owned(),
                reason,
            };
            let checkpoint = SourceCheckpoint::from_json(value)
                .map_err(|error| unreadable(error.to_string()))?;
            if let Some(why) = checkpoint.contradiction() {
                return Err(unreadable(why));
            }
            self.ours = Some(checkpoint);
        }
        Ok(())
    }
}

/// Not to be read. That the group cannot be used is of no matter: this client is in none.
fn is_denied(error: &ClientError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// True if nothing was ever written to the topic of positions.
pub(crate) fn positions_are_empty(cx: &Context) -> Result<bool, SessionError> {
    let topic = &cx.settings.topics.positions;
    for partition in 0..topic.partitions {
        // High above zero and no records: they were there, and have expired.
        if watermark(cx, &topic.name, partition, "read_uncommitted")? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn watermark(
    cx: &Context,
    topic: &str,
    partition: i32,
    isolation: &str,
) -> Result<i64, SessionError> {
    let doing = "asking for the end of a topic";
    let failed = |error| SessionError::reading(&cx.settings.kafka, topic, doing, error);
    let consumer: BaseConsumer = reader_config(&cx.settings, isolation)
        .create()
        .map_err(failed)?;
    let (_, high) = consumer
        .fetch_watermarks(topic, partition, ASK_TIMEOUT)
        .map_err(failed)?;
    Ok(high)
}

/// Where a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first offset that was ever sent.
    pub(crate) origin: i64,
    /// The first offset to send.
    pub(crate) next: i64,
    /// What was passed over below that.
    pub(crate) holes: Vec<Offsets>,
    /// True if there was no checkpoint.
    pub(crate) first: bool,
}

/// What the checkpoints, and the records that are there, say about where to begin.
pub(crate) fn decide(
    found: &Checkpoints,
    positions_empty: impl FnOnce() -> Result<bool, SessionError>,
    descriptor: &SourceDescriptor,
    settings: &crate::settings::Settings,
) -> Result<Start, SessionError> {
    let first = |offset| Start {
        origin: offset,
        next: offset,
        holes: Vec::new(),
        first: true,
    };
    if let Some(checkpoint) = &found.ours {
        return Ok(Start {
            origin: checkpoint.origin,
            next: checkpoint.next_offset,
            holes: checkpoint.holes.clone(),
            first: false,
        });
    }
    if let Some(wanted) = settings.source.initial_offset {
        if wanted < descriptor.origin {
            return Err(Fatal::BeforeOrigin {
                wanted,
                name: descriptor.name.clone(),
                origin: descriptor.origin,
            }
            .into());
        }
        return Ok(first(wanted));
    }
    // Other sources' checkpoints account for the records, and ours would be among them.
    if found.any || positions_empty()? {
        return Ok(first(descriptor.next));
    }
    Err(Fatal::NoCheckpoint {
        checkpoints: settings.topics.checkpoints.name.clone(),
        positions: settings.topics.positions.name.clone(),
        name: descriptor.name.clone(),
        live_edge: descriptor.next,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    fn descriptor() -> SourceDescriptor {
        SourceDescriptor {
            name: "mock".into(),
            origin: 10,
            next: 500,
        }
    }

    fn checkpoint(source: &str, next_offset: i64) -> SourceCheckpoint {
        SourceCheckpoint {
            source: source.into(),
            origin: 100,
            next_offset,
            holes: vec![Offsets {
                first: 150,
                last: 160,
            }],
            session: "s".into(),
            host: "h".into(),
            committed_at_ms: 1,
        }
    }

    fn message(key: &str, value: Option<Vec<u8>>) -> OwnedMessage {
        OwnedMessage::new(
            value,
            Some(key.into()),
            "t".into(),
            Timestamp::NotAvailable,
            0,
            7,
            None,
        )
    }

    fn starts(
        found: &Checkpoints,
        empty: bool,
        initial: Option<i64>,
    ) -> Result<Start, SessionError> {
        let mut settings = Settings::default();
        settings.source.initial_offset = initial;
        decide(found, || Ok(empty), &descriptor(), &settings)
    }

    #[test]
    fn a_checkpoint_counts_above_all() {
        let found = Checkpoints {
            ours: Some(checkpoint("mock", 300)),
            any: true,
        };
        for (empty, initial) in [(true, None), (false, None), (false, Some(42))] {
            let start = starts(&found, empty, initial).unwrap();
            assert_eq!((start.origin, start.next, start.first), (100, 300, false));
            assert_eq!(start.holes.len(), 1, "what was passed over is kept");
        }
    }

    #[test]
    fn the_first_start_is_at_the_live_edge() {
        let start = starts(&Checkpoints::default(), true, None).unwrap();
        assert_eq!((start.origin, start.next, start.first), (500, 500, true));
        let others = Checkpoints {
            ours: None,
            any: true,
        };
        assert_eq!(starts(&others, false, None).unwrap().next, 500);
    }

    #[test]
    fn records_without_any_checkpoint_are_not_added_to() {
        let error = starts(&Checkpoints::default(), false, None).unwrap_err();
        let SessionError::Fatal(fatal) = error else {
            panic!("{error}");
        };
        assert_eq!(fatal.exit_code(), crate::error::EXIT_NO_CHECKPOINT);
        assert!(
            fatal.to_string().contains("source.initial_offset"),
            "{fatal}"
        );
    }

    #[test]
    fn the_operator_s_word_counts_where_there_is_no_checkpoint() {
        let start = starts(&Checkpoints::default(), false, Some(42)).unwrap();
        assert_eq!((start.origin, start.next), (42, 42));
        let error = starts(&Checkpoints::default(), true, Some(9)).unwrap_err();
        assert!(error.to_string().contains("forgotten"), "{error}");
    }

    #[test]
    fn the_last_word_on_our_source_is_kept() {
        let mut found = Checkpoints::default();
        let mut take = |key: &str, value| found.take("mock", "t", &message(key, value));
        take("mock", Some(checkpoint("mock", 200).to_json())).unwrap();
        take("other", Some(b"not json".to_vec())).unwrap();
        take("mock", Some(checkpoint("mock", 300).to_json())).unwrap();
        assert_eq!(found.ours.as_ref().unwrap().next_offset, 300);
        found.take("mock", "t", &message("mock", None)).unwrap();
        assert_eq!(found.ours, None);
        assert!(found.any);
    }

    #[test]
    fn a_checkpoint_that_is_none_is_named_and_never_passed_over() {
        let mut found = Checkpoints::default();
        for value in [b"x".to_vec(), checkpoint("mock", 50).to_json()] {
            let error = found
                .take("mock", "t", &message("mock", Some(value)))
                .unwrap_err();
            let text = error.to_string();
            assert!(text.contains("topic t offset 7"), "{text}");
        }
    }
}
