//! Questions to the cluster, whose answer says why there is none.

use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;

use super::{KafkaError, KafkaSettings, REQUEST_TIMEOUT, ReportingContext};

/// Between two looks at what the client reports while it waits.
const SLICE: Duration = Duration::from_secs(1);

/// How long the client is listened to. Without any time, it would be heard to its first log line.
const DRAIN: Duration = Duration::from_millis(50);

/// A client that asks and changes nothing. A consumer that is in no group: of a producer's questions, a
/// cluster that makes topics on its own would make the topic that is asked about.
pub struct Inquiry {
    consumer: BaseConsumer<ReportingContext>,
    kafka: KafkaSettings,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry")
            .field("brokers", &self.kafka.brokers)
            .finish_non_exhaustive()
    }
}

impl Inquiry {
    /// A client. Nothing is asked yet.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn new(kafka: &KafkaSettings, client_id: &str) -> Result<Self, KafkaError> {
        let consumer = kafka
            .client_config(client_id)
            .create_with_context(ReportingContext::new(kafka))
            .map_err(KafkaError::Settings)?;
        Ok(Self {
            consumer,
            kafka: kafka.clone(),
        })
    }

    /// The client itself.
    pub fn client(&self) -> &Client<ReportingContext> {
        self.consumer.client()
    }

    /// Asks for a sign of life, as the user of the settings.
    ///
    /// # Errors
    /// No broker answers, or none lets us in.
    pub fn ping(&self) -> Result<(), KafkaError> {
        // Metadata of no topic: a name that cannot exist is not looked up anywhere.
        self.metadata("cannot reach the cluster", None).map(drop)
    }

    /// The number of partitions of a topic; `None` if there is no such topic. Blocks.
    ///
    /// # Errors
    /// No broker answers, none lets us in, or we have no right to know.
    pub fn partitions(&self, topic: &str) -> Result<Option<usize>, KafkaError> {
        let action = format!("cannot describe topic {topic}");
        let metadata = self.metadata(&action, Some(topic))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
            return Ok(None);
        };
        if let Some(code) = found.error().map(RDKafkaErrorCode::from) {
            let error = ClientError::MetadataFetch(code);
            let right = || format!("Describe on topic {topic}");
            if let Some(denied) = KafkaError::denied(&self.kafka, &error, &action, right) {
                return Err(denied);
            }
        }
        Ok(Some(found.partitions().len()).filter(|partitions| *partitions > 0))
    }

    /// The number of partitions of a topic that must be there. Blocks.
    ///
    /// # Errors
    /// As [`partitions`](Self::partitions), or there is no such topic.
    pub fn partition_count(&self, topic: &str) -> Result<usize, KafkaError> {
        self.partitions(topic)?.ok_or_else(|| KafkaError::Topic {
            topic: topic.to_owned(),
            reason: "does not exist; flight-producer makes it at its first start".into(),
        })
    }

    fn metadata(&self, action: &str, topic: Option<&str>) -> Result<Metadata, KafkaError> {
        let trouble = &self.consumer.context().trouble;
        let began = Instant::now();
        loop {
            let source = match self.consumer.fetch_metadata(topic, SLICE) {
                Ok(metadata) => {
                    trouble.over();
                    return Ok(metadata);
                }
                Err(source) => source,
            };
            // What the client has to tell waits until it is polled for, behind what it has to log.
            while self.consumer.poll(DRAIN).is_some() {}
            if trouble.is_certain() || began.elapsed() > REQUEST_TIMEOUT {
                return Err(trouble.request_error(action, source));
            }
        }
    }
}
