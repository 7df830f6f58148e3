//! A topic full of positions, as a producer that ran for a while leaves it behind.

use std::time::Duration;

use anyhow::{Context, Result};
use contrail::Stack;
use flight::avro::{Encoder, POSITION_SCHEMA, Record, SUBJECT};
use flight::kafka::KafkaSettings;
use flight::kafka::topics::{self, TopicSettings};
use flight::registry::{RegistryClient, RegistrySettings};
use flight_mock::{Parameters, Simulator};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::world::now_ms;

/// The topic that is drained.
pub const TOPIC: &str = "flight.positions";
/// Its partitions: as many as flight-producer gives it.
pub const PARTITIONS: i32 = 6;
/// Aircraft, each with a position a second.
const FLEET: u32 = 20_000;
const PERIOD_MS: u32 = 1000;
/// Records of one transaction.
const TRANSACTION: u64 = 100_000;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Events of the simulator that wait in Kafka.
#[derive(Debug)]
pub struct Backlog {
    /// How to reach the cluster.
    pub kafka: KafkaSettings,
    /// How many records wait.
    pub records: u64,
    /// What determines the events.
    pub parameters: Parameters,
}

impl Backlog {
    /// Makes the topics and writes `records` positions, the last one of now, in transactions, with
    /// flight-producer's schema, keys and settings.
    ///
    /// # Errors
    /// Kafka or the registry refuses.
    pub async fn fill(stack: &Stack, records: u64) -> Result<Self> {
        let seconds = records.div_ceil(u64::from(FLEET)) as i64;
        let backlog = Self {
            kafka: KafkaSettings {
                brokers: stack.brokers(),
                ..KafkaSettings::default()
            },
            records,
            parameters: Parameters {
                seed: 42,
                fleet: FLEET,
                period_ms: PERIOD_MS,
                epoch_ms: now_ms() - seconds * 1000,
            },
        };
        let topic = |name: &str| TopicSettings {
            name: name.to_owned(),
            partitions: PARTITIONS,
            replication: 1,
            retention_ms: -1,
            compact: false,
            max_message_bytes: 1 << 20,
        };
        let (positions, letters) = (topic(TOPIC), topic(flight::dead_letter::TOPIC));
        let wanted = [("positions", &positions), ("letters", &letters)];
        topics::ensure(&backlog.kafka, &wanted).await?;
        let registry = RegistryClient::new(&RegistrySettings {
            url: stack.registry_url(),
            ..RegistrySettings::default()
        })?;
        let schema_id = registry.register(SUBJECT, POSITION_SCHEMA).await?;
        tokio::task::block_in_place(|| backlog.write(schema_id))?;
        Ok(backlog)
    }

    fn write(&self, schema_id: u32) -> Result<()> {
        let producer: BaseProducer = self
            .kafka
            .client_config("contrail-bench-fill")
            .set("transactional.id", "contrail-bench-fill")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "400000")
            .set("delivery.report.only.error", "true")
            .create()?;
        producer.init_transactions(TIMEOUT)?;
        let simulator = Simulator::new(self.parameters)?;
        let source = self.parameters.source_name();
        let encoder = Encoder::new(schema_id);
        let mut payload = Vec::new();
        for first in (0..self.records).step_by(TRANSACTION as usize) {
            producer.begin_transaction()?;
            for offset in first..(first + TRANSACTION).min(self.records) {
                let offset = offset as i64;
                let position = simulator.event(offset)?.position();
                payload.clear();
                encoder.encode(
                    &Record {
                        source: &source,
                        source_offset: offset,
                        position: position.by_ref(),
                    },
                    &mut payload,
                );
                send(&producer, position.flight_id.as_bytes(), &payload)?;
            }
            producer
                .commit_transaction(TIMEOUT)
                .context("filling the topic")?;
        }
        Ok(())
    }
}

fn send(producer: &BaseProducer, key: &[u8], payload: &[u8]) -> Result<()> {
    let mut record = BaseRecord::to(TOPIC).key(key).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                producer.poll(Duration::from_millis(2));
                record = refused;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}
