//! Kafka as the tests see it: topics, a transactional writer, the group's offsets, dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use flight::kafka::topics::{self, TopicSettings};
use flight::kafka::{Inquiry, KafkaSettings};
use flight::position::Identified;
use flight_ingester::range::{RangeCommit, Standing, standing};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::events::{encode, now_ms, partition_of};
use super::{eventually, wait_for};

const TIMEOUT: Duration = Duration::from_secs(15);

pub fn admin(kafka: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    kafka.client_config("test-admin").create().unwrap()
}

pub fn create_topic(kafka: &KafkaSettings, name: &str, partitions: i32) {
    let topic = TopicSettings {
        name: name.to_owned(),
        partitions,
        replication: 1,
        retention_ms: -1,
        compact: false,
        max_message_bytes: 1 << 20,
    };
    wait_for(topics::ensure(kafka, &[("test", &topic)])).unwrap();
}

pub fn delete_topic(kafka: &KafkaSettings, name: &str) {
    let deleted = wait_for(admin(kafka).delete_topics(&[name], &AdminOptions::new())).unwrap();
    deleted[0].as_ref().unwrap();
    // The answer may come before the name is free.
    let inquiry = Inquiry::new(kafka, "test").unwrap();
    eventually("the topic is gone", TIMEOUT, || {
        inquiry.partitions(name).unwrap().is_none()
    });
}

pub fn delete_group(kafka: &KafkaSettings, group: &str) {
    eventually("the group can be deleted", TIMEOUT, || {
        let deleted = wait_for(admin(kafka).delete_groups(&[group], &AdminOptions::new())).unwrap();
        deleted[0].is_ok()
    });
}

/// Writes records in transactions.
pub struct Writer {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    partitions: i32,
    schema_id: u32,
}

impl Writer {
    pub fn new(kafka: &KafkaSettings, topic: &str, partitions: i32, schema_id: u32) -> Self {
        let producer: ThreadedProducer<DefaultProducerContext> = kafka
            .client_config("test-writer")
            .set(
                "transactional.id",
                format!("{topic}-{}", super::free_port()),
            )
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("compression.type", "lz4")
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(30)).unwrap();
        Self {
            producer,
            topic: topic.to_owned(),
            partitions,
            schema_id,
        }
    }

    pub fn begin(&self) {
        self.producer.begin_transaction().unwrap();
    }

    pub fn commit(&self) {
        self.producer.commit_transaction(TIMEOUT).unwrap();
    }

    pub fn abort(&self) {
        self.producer.flush(TIMEOUT).unwrap();
        self.producer.abort_transaction(TIMEOUT).unwrap();
    }

    /// Adds an event to the open transaction.
    pub fn put(&self, event: &Identified) {
        let payload = encode(event, self.schema_id);
        self.put_raw(&Raw {
            partition: partition_of(event, self.partitions),
            key: Some(event.position.flight_id.clone().into_bytes()),
            payload: Some(payload),
            ..Raw::default()
        });
    }

    /// Writes events as one transaction.
    pub fn write(&self, events: impl IntoIterator<Item = Identified>) {
        self.begin();
        events.into_iter().for_each(|event| self.put(&event));
        self.commit();
    }

    /// Adds a record, whatever it is, to the open transaction.
    pub fn put_raw(&self, raw: &Raw) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &raw.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(raw.partition)
            .timestamp(now_ms());
        if let Some(key) = &raw.key {
            record = record.key(key);
        }
        if let Some(payload) = &raw.payload {
            record = record.payload(payload);
        }
        if !raw.headers.is_empty() {
            record = record.headers(headers);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
}

/// A record as it stands in Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Everything that is in a topic now, committed.
pub fn read_all(kafka: &KafkaSettings, topic: &str) -> Vec<Raw> {
    let consumer: BaseConsumer = kafka
        .client_config("test-reader")
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    let count = Inquiry::new(kafka, "test")
        .unwrap()
        .partition_count(topic)
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..count as i32 {
        partitions
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let (mut found, mut ended) = (Vec::new(), 0);
    while ended < count {
        match consumer.poll(TIMEOUT).expect("Kafka answers") {
            Ok(message) => found.push(Raw {
                partition: message.partition(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                        .collect()
                }),
            }),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    found
}

/// A dead letter, its chunks put together.
#[derive(Debug, Clone, Default)]
pub struct Letter {
    pub headers: BTreeMap<String, Vec<u8>>,
    pub payload: Vec<u8>,
    pub chunks: usize,
}

impl Letter {
    pub fn text(&self, name: &str) -> String {
        let value = self.headers.get(name).map_or(&b""[..], Vec::as_slice);
        String::from_utf8(value.to_vec()).unwrap()
    }
}

/// The dead letters by their keys.
pub fn dead_letters(kafka: &KafkaSettings, topic: &str) -> BTreeMap<String, Letter> {
    let mut letters: BTreeMap<String, Letter> = BTreeMap::new();
    for raw in read_all(kafka, topic) {
        let letter = letters
            .entry(String::from_utf8(raw.key.unwrap()).unwrap())
            .or_default();
        letter.headers.extend(raw.headers);
        letter.payload.extend(raw.payload.unwrap_or_default());
        letter.chunks += 1;
    }
    letters
}

/// The offsets of one group on one topic, read and written from outside.
pub struct Group {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Group {
    pub fn new(kafka: &KafkaSettings, group: &str, topic: &str, partitions: i32) -> Self {
        Self {
            consumer: kafka
                .client_config("test-group")
                .set("group.id", group)
                .set("enable.auto.commit", "false")
                // The end of the log, not of its last transaction: a transaction's marker may be
                // written a little after the commit is answered.
                .set("isolation.level", "read_uncommitted")
                .create()
                .unwrap(),
            topic: topic.to_owned(),
            partitions,
        }
    }

    pub fn topic_id(&self) -> String {
        topics::topic_id(self.consumer.client(), &self.topic).unwrap()
    }

    /// Where each partition's ingestion stands, and where its log ends.
    pub fn standings(&self) -> Vec<(Standing, i64)> {
        let topic_id = self.topic_id();
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let mut answer = None;
        // A coordinator that has just begun refuses at first.
        eventually("the coordinator answers", TIMEOUT, || {
            answer = self.consumer.committed_offsets(list.clone(), TIMEOUT).ok();
            answer.is_some()
        });
        let committed = answer.unwrap();
        committed
            .elements()
            .iter()
            .map(|element| {
                let offset = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                let (_, end) = self
                    .consumer
                    .fetch_watermarks(&self.topic, element.partition(), TIMEOUT)
                    .unwrap();
                (standing(offset, element.metadata(), &topic_id), end)
            })
            .collect()
    }

    /// True once every partition's last range is closed at the end of its log.
    pub fn is_idle(&self) -> bool {
        self.standings()
            .iter()
            .all(|(standing, end)| match standing {
                Standing::Closed { next } => next == end,
                Standing::Fresh { .. } => *end == 0,
                Standing::Open { .. } => false,
            })
    }

    /// Commits a range as a member that was killed would have left it.
    pub fn leave_open(&self, partition: i32, first: i64, last: i64) {
        let metadata = RangeCommit::new(&self.topic_id(), Some(last)).to_metadata();
        eventually("the group has no members", TIMEOUT, || {
            let mut list = TopicPartitionList::new();
            let mut element = list.add_partition(&self.topic, partition);
            element.set_metadata(&metadata);
            element.set_offset(Offset::Offset(first)).unwrap();
            self.consumer.commit(&list, CommitMode::Sync).is_ok()
        });
    }
}
