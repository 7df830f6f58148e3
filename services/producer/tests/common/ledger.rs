//! The account of what is in Kafka: each source offset once, as a position or as a dead letter.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use flight::avro::{Decoder, POSITION_SCHEMA, split_header};
use flight::checkpoint::SourceCheckpoint;
use flight::dead_letter;
use flight_producer::Settings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::registry::SCHEMA_ID;

/// How long to wait for transactions that are open: one of a producer that died is so for longer.
const OPEN: Duration = Duration::from_secs(5);

/// Everything that is committed in a topic, in the order of each partition.
pub fn read_topic(settings: &Settings, topic: &str) -> Vec<OwnedMessage> {
    let consumer = consumer(settings, "read_committed");
    let partitions = partitions(&consumer, topic);
    wait_until_decided(settings, &consumer, topic, &partitions);
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut open = partitions.len();
    let mut messages = Vec::new();
    while open > 0 {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => eprintln!("reading {topic}: {error}"),
            None => panic!("topic {topic} has no end"),
        }
    }
    messages
}

fn consumer(settings: &Settings, isolation: &str) -> BaseConsumer {
    settings
        .kafka
        .client_config("ledger")
        .set("group.id", "ledger")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .create()
        .unwrap()
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(10))
        .unwrap();
    let partitions = metadata.topics()[0].partitions();
    partitions.iter().map(|partition| partition.id()).collect()
}

/// The broker acknowledges a transaction before its markers are in every partition. Until then a partition
/// ends before the transaction for who reads what is committed.
fn wait_until_decided(
    settings: &Settings,
    committed: &BaseConsumer,
    topic: &str,
    partitions: &[i32],
) {
    let all = consumer(settings, "read_uncommitted");
    let end = |consumer: &BaseConsumer, partition| {
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, Duration::from_secs(10))
            .unwrap();
        end
    };
    let deadline = Instant::now() + OPEN;
    for &partition in partitions {
        let until = end(&all, partition);
        while end(committed, partition) < until && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Positions of one source: how often each offset is there.
#[derive(Debug, Default)]
pub struct Ledger {
    pub positions: BTreeMap<i64, u32>,
    /// Partition, offset and time of each record of a position, by its source offset.
    places: BTreeMap<i64, Vec<(i32, i64, Option<i64>)>>,
    pub dead_letters: BTreeMap<i64, u32>,
    /// Callsign, key and value by offset, for comparison.
    pub values: BTreeMap<i64, (String, Vec<u8>, Vec<u8>)>,
}

impl Ledger {
    pub fn of(settings: &Settings, source: &str) -> Self {
        let decoder = Decoder::new(SCHEMA_ID, POSITION_SCHEMA).unwrap();
        let mut ledger = Self::default();
        for message in read_topic(settings, &settings.topics.positions.name) {
            let (schema_id, datum) = split_header(message.payload()).unwrap();
            assert_eq!(schema_id, SCHEMA_ID);
            let mut scratch = None;
            let record = decoder.decode(datum, &mut scratch).unwrap();
            assert_eq!(message.key(), Some(record.position.flight_id.as_bytes()));
            if record.source == source {
                *ledger.positions.entry(record.source_offset).or_default() += 1;
                let place = (
                    message.partition(),
                    message.offset(),
                    message.timestamp().to_millis(),
                );
                ledger
                    .places
                    .entry(record.source_offset)
                    .or_default()
                    .push(place);
                let value = (
                    record.position.callsign.to_owned(),
                    message.key().unwrap().to_vec(),
                    message.payload().unwrap().to_vec(),
                );
                ledger.values.insert(record.source_offset, value);
            }
        }
        for message in read_topic(settings, &settings.topics.dead_letters.name) {
            let headers = message.headers().unwrap();
            let first_chunk = dead_letter::header(headers, dead_letter::CHUNK)
                .is_none_or(|chunk| chunk.starts_with("1/"));
            if dead_letter::header(headers, dead_letter::SOURCE) == Some(source) && first_chunk {
                let offset = dead_letter::header(headers, dead_letter::SOURCE_OFFSET).unwrap();
                *ledger
                    .dead_letters
                    .entry(offset.parse().unwrap())
                    .or_default() += 1;
            }
        }
        ledger
    }

    /// Every offset of the range is there once, and no other.
    pub fn assert_exactly_once(&self, range: Range<i64>) {
        let mut seen = self.positions.clone();
        for (offset, count) in &self.dead_letters {
            *seen.entry(*offset).or_default() += count;
        }
        let doubled: Vec<_> = seen
            .iter()
            .filter(|(_, count)| **count != 1)
            .map(|(offset, _)| (offset, self.places.get(offset)))
            .collect();
        assert!(
            doubled.is_empty(),
            "{} more than once: {:?}",
            doubled.len(),
            &doubled[..doubled.len().min(20)]
        );
        let missing: Vec<_> = range
            .clone()
            .filter(|offset| !seen.contains_key(offset))
            .collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
        assert_eq!(seen.len(), range.count(), "offsets outside the range");
    }
}

/// The last checkpoint of a source.
pub fn checkpoint(settings: &Settings, source: &str) -> Option<SourceCheckpoint> {
    read_topic(settings, &settings.topics.checkpoints.name)
        .iter()
        .filter(|message| message.key() == Some(source.as_bytes()))
        .map(|message| SourceCheckpoint::from_json(message.payload().unwrap()).unwrap())
        .next_back()
}

/// The text of a record's header.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message
        .headers()?
        .iter()
        .find(|header| header.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}
