//! The Kafka clients of the producer: their settings, and what they report on their own.

use std::sync::atomic::{AtomicI64, Ordering};

use flight::admin::Readiness;
use flight::kafka::{KafkaError, REQUEST_TIMEOUT, Trouble};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;

use crate::error::SessionError;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// What a message takes on the wire besides key, value and headers: batch header, varints, and the
/// trace context and time that a record may carry.
const MESSAGE_OVERHEAD_BYTES: usize = 1024;
/// A chunk of a dead letter with its headers.
const DEAD_LETTER_BYTES: usize = flight::dead_letter::CHUNK_BYTES + 20_000;
/// Largest batch of records, in bytes.
const BATCH_BYTES: usize = 1_000_000;

/// What the topics take, as the brokers say: an existing topic need not be as the settings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageLimits {
    /// Most bytes of key and value of one position.
    pub(crate) record: usize,
    /// `batch.size`.
    batch: usize,
    /// `message.max.bytes` of the client.
    message: usize,
}

impl MessageLimits {
    fn new(positions: usize, dead_letters: usize) -> Self {
        let record = positions.saturating_sub(MESSAGE_OVERHEAD_BYTES).max(1);
        Self {
            record,
            batch: record.min(BATCH_BYTES),
            message: positions.max(dead_letters),
        }
    }

    /// Asks the brokers.
    pub(crate) async fn ask(settings: &Settings) -> Result<Self, SessionError> {
        let admin: AdminClient<DefaultClientContext> = settings
            .kafka
            .client_config("flight-producer-limits")
            .create()
            .map_err(KafkaError::Settings)?;
        let topics = [&settings.topics.positions, &settings.topics.dead_letters];
        let resources = topics.map(|topic| ResourceSpecifier::Topic(&topic.name));
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let answers = admin
            .describe_configs(&resources, &options)
            .await
            .map_err(|source| KafkaError::Request {
                action: "cannot ask for topics' max.message.bytes".into(),
                source,
            })?;
        let mut limits = topics.map(|topic| topic.max_message_bytes as usize);
        for (limit, answer) in limits.iter_mut().zip(answers) {
            // Who may write a topic need not be allowed to describe it: then the settings count.
            let found = answer.ok().and_then(|resource| {
                let entry = resource.get("max.message.bytes")?;
                entry.value.as_ref()?.parse().ok()
            });
            *limit = found.unwrap_or(*limit);
        }
        let [positions, dead_letters] = limits;
        if dead_letters < DEAD_LETTER_BYTES {
            return Err(SessionError::MessageLimit {
                topic: settings.topics.dead_letters.name.clone(),
                found: dead_letters,
                needed: DEAD_LETTER_BYTES,
            });
        }
        Ok(Self::new(positions, dead_letters))
    }
}

/// Settings of the transactional producer. What the operator may choose is set only where
/// `kafka.properties` does not.
pub(crate) fn producer_config(
    settings: &Settings,
    transactional_id: &str,
    limits: MessageLimits,
) -> ClientConfig {
    let mut config = settings.kafka.client_config("flight-producer");
    for (name, value) in [("compression.type", "lz4"), ("linger.ms", "5")] {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
        .set("transactional.id", transactional_id)
        .set("enable.idempotence", "true")
        // The same partition for a key as Java clients choose.
        .set("partitioner", "murmur2_random")
        .set("batch.size", limits.batch.to_string())
        .set("message.max.bytes", limits.message.to_string())
        .set(
            "transaction.timeout.ms",
            settings.commit.transaction_timeout_ms.to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            settings.memory.kafka_queue_kib.to_string(),
        )
        .set(
            "queue.buffering.max.messages",
            settings.memory.kafka_queue_records.to_string(),
        )
        // The commit tells of success: reports of each record would only cost.
        .set("delivery.report.only.error", "true");
    config
}

/// Settings of a client that writes records again: idempotent, and in no transaction.
pub(crate) fn resending_config(settings: &Settings, limits: MessageLimits) -> ClientConfig {
    let mut config = producer_config(settings, "", limits);
    config.remove("transactional.id");
    config.remove("transaction.timeout.ms");
    config.set("client.id", "flight-producer-replay");
    if config.get("message.timeout.ms").is_none() {
        config.set("message.timeout.ms", "60000");
    }
    config
}

/// Settings of a client that looks into topics and belongs to no group.
pub(crate) fn reader_config(settings: &Settings, isolation: &str) -> ClientConfig {
    let mut config = settings.kafka.client_config("flight-producer-reader");
    config
        // Required for assigning by hand; nothing is ever committed under it.
        .set("group.id", "flight-producer-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", isolation);
    config
}

/// What the producing client reports.
#[derive(Debug)]
pub(crate) struct ProducerEvents {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) trouble: Trouble,
}

impl ClientContext for ProducerEvents {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.metrics.kafka_errors.inc();
        if let Some(news) = self.trouble.note(&error, reason) {
            tracing::warn!("kafka: {news}");
            self.readiness.set("kafka", Err(news));
        }
        tracing::debug!(%error, reason, "Kafka client");
    }
}

impl ProducerContext for ProducerEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // The transaction fails with it: the session ends, and the event is asked for again.
        if let Err((error, _)) = result {
            self.metrics.kafka_errors.inc();
            tracing::debug!(%error, "record not delivered");
        }
    }
}

/// Learns from a consumer's statistics up to where it has read one partition.
#[derive(Debug)]
pub(crate) struct EndWatch {
    topic: String,
    end: AtomicI64,
}

impl EndWatch {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            end: AtomicI64::new(-1),
        }
    }

    /// The last offset at which the consumer found the partition's end.
    pub(crate) fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }
}

impl ClientContext for EndWatch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
    }

    fn stats(&self, statistics: Statistics) {
        let partition = statistics
            .topics
            .get(&self.topic)
            .and_then(|topic| topic.partitions.get(&0));
        if let Some(partition) = partition {
            self.end.fetch_max(partition.eof_offset, Ordering::AcqRel);
        }
    }
}

impl ConsumerContext for EndWatch {}

/// librdkafka is loud about connections that come and go; what matters comes back as errors.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "{message}");
        }
        _ => tracing::debug!(facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_fits_the_smaller_of_what_topic_and_client_take() {
        let limits = MessageLimits::new(20_000, 1_048_588);
        assert_eq!(limits.record, 20_000 - MESSAGE_OVERHEAD_BYTES);
        assert_eq!(
            limits.batch, limits.record,
            "a batch is one message to the broker"
        );
        assert_eq!(limits.message, 1_048_588, "dead letters must pass");
        assert_eq!(MessageLimits::new(5 << 20, 1 << 20).batch, BATCH_BYTES);
    }

    #[test]
    fn the_operator_chooses_compression_but_not_idempotence() {
        let mut settings = Settings::default();
        settings
            .kafka
            .properties
            .insert("compression.type".into(), "zstd".into());
        let config = producer_config(&settings, "id", MessageLimits::new(1 << 20, 1 << 20));
        assert_eq!(config.get("compression.type"), Some("zstd"));
        assert_eq!(config.get("linger.ms"), Some("5"));
        assert_eq!(config.get("enable.idempotence"), Some("true"));
        assert_eq!(config.get("transactional.id"), Some("id"));
    }
}
