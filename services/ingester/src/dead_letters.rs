//! Sends dead letters to their topic, and waits until they are durable.

use std::time::Duration;

use flight::dead_letter::DeadLetter;
use flight::kafka::{KafkaError, KafkaSettings, ReportingContext};
use futures_util::future::try_join_all;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::error::IngestError;

/// A producer of dead letters. They may be written twice after a crash; their key, the place they
/// came from, makes them one.
#[derive(Clone)]
pub struct DeadLetters {
    producer: FutureProducer<ReportingContext>,
    kafka: KafkaSettings,
    topic: String,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// A producer for `topic`.
    ///
    /// # Errors
    /// The client's settings are wrong.
    pub fn new(kafka: &KafkaSettings, topic: &str) -> Result<Self, IngestError> {
        let producer = kafka
            .client_config("flight-ingester-dead-letters")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "20000")
            .set("queue.buffering.max.kbytes", "32768")
            // A letter is a little larger than the largest record that the topic of positions takes
            // from librdkafka (1,000,000 bytes); the broker's own limit is 1,048,588.
            .set("message.max.bytes", "1048000")
            .create_with_context(ReportingContext::new(kafka))
            .map_err(|source| IngestError::Kafka {
                action: "cannot make the dead-letter producer".into(),
                source,
            })?;
        Ok(Self {
            producer,
            kafka: kafka.clone(),
            topic: topic.to_owned(),
        })
    }

    fn failed(&self, source: ClientError) -> IngestError {
        let action = format!("cannot write dead letters to {}", self.topic);
        let right = || format!("Write and Describe on topic {}", self.topic);
        match KafkaError::denied(&self.kafka, &source, &action, right) {
            Some(denied) => denied.into(),
            None => IngestError::Kafka { action, source },
        }
    }

    /// Sends dead letters; done when the cluster has them. `each` is called before every group of them.
    ///
    /// # Errors
    /// Some did not arrive: send all of them again.
    pub async fn send(
        &self,
        letters: &[DeadLetter<'_>],
        each: impl Fn(),
    ) -> Result<(), IngestError> {
        // In groups, so that the producer's queue takes them.
        for group in letters.chunks(32) {
            each();
            let records: Vec<_> = group.iter().flat_map(DeadLetter::records).collect();
            let deliveries = records.into_iter().map(|record| async move {
                let out = FutureRecord::to(&self.topic)
                    .key(&record.key)
                    .payload(&record.payload)
                    .headers(record.headers);
                self.producer
                    .send(out, Duration::from_secs(20))
                    .await
                    .map_err(|(source, _)| self.failed(source))
            });
            try_join_all(deliveries).await?;
        }
        Ok(())
    }
}
