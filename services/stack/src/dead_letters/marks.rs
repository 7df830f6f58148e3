//! What is written about dead letters: records without a value under the letter's key, each in a
//! transaction with what was done.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Letter, RedriveError};
use crate::verify::VerifySettings;

/// Letters in one transaction.
pub(super) const GROUP: usize = 500;
/// Of two that redrive or discard at the same time, the later one shuts the other out.
const TRANSACTIONAL_ID: &str = "contrail-redrive";
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A client that writes about letters. On a thread of a Tokio runtime that has several.
pub(super) struct Marker<'a> {
    producer: BaseProducer,
    settings: &'a VerifySettings,
}

impl<'a> Marker<'a> {
    /// Shuts out whoever was at work: what another one has done is marked by then, or never will be.
    pub(super) fn new(settings: &'a VerifySettings) -> Result<Self, RedriveError> {
        let failed = |action| {
            move |source| RedriveError::Kafka {
                action,
                brokers: settings.kafka.brokers.clone(),
                source: Box::new(source),
            }
        };
        let producer: BaseProducer = settings
            .kafka
            .client_config("contrail-redrive")
            .set("transactional.id", TRANSACTIONAL_ID)
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            // The broker says what a topic takes.
            .set("message.max.bytes", "16000000")
            .create()
            .map_err(failed("make a client"))?;
        tokio::task::block_in_place(|| producer.init_transactions(LIMIT))
            .map_err(failed("begin transactions"))?;
        Ok(Self { producer, settings })
    }

    /// Writes in one transaction.
    pub(super) fn transaction(
        &self,
        write: impl FnOnce() -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        match write().and_then(|()| self.producer.commit_transaction(LIMIT)) {
            Ok(()) => Ok(()),
            Err(error) => {
                // Where it cannot be said now, the broker aborts it when its time is over.
                let _ = self.producer.abort_transaction(LIMIT);
                Err(error)
            }
        }
    }

    /// Says something of a letter, within a transaction.
    pub(super) fn mark(
        &self,
        letter: &Letter,
        header: &str,
        value: &str,
    ) -> Result<(), KafkaError> {
        let said = OwnedHeaders::new().insert(Header {
            key: header,
            value: Some(value.as_bytes()),
        });
        let record = BaseRecord::<[u8], [u8]>::to(&self.settings.dead_letter_topic)
            .key(letter.key.as_bytes())
            // Behind the letter, however its writer chose the partition.
            .partition(letter.partition)
            .headers(said);
        self.send(record)
    }

    /// Queues a record, within a transaction.
    pub(super) fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        use rdkafka::types::RDKafkaErrorCode::QueueFull;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(QueueFull), refused)) => {
                    record = refused;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}
