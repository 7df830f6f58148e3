//! A client that writes records again, in no transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flight::avro::{OBSERVED_MS, RESENT};
use flight::dead_letter::DeadLetter;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::ReplayError;
use crate::error::SessionError;
use crate::kafka_client::{self, MessageLimits, resending_config};
use crate::record::{RecordHeaders, TopicWriter};
use crate::service::Context;

/// Records that Kafka did not take.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    failed: AtomicU64,
    reason: Mutex<String>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka_client::log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client of a replay");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::SeqCst);
            let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            *reason = error.to_string();
        }
    }
}

/// Writes to the topics of positions and of dead letters.
pub(super) struct Sender<'a> {
    cx: &'a Context,
    producer: Arc<BaseProducer<Deliveries>>,
    positions: TopicWriter<Deliveries>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(cx: &'a Context, limits: MessageLimits) -> Result<Self, SessionError> {
        let failed = |error| SessionError::kafka("making the Kafka client of a replay", error);
        let producer: BaseProducer<_> = resending_config(&cx.settings, limits)
            .create_with_context(Deliveries::default())
            .map_err(failed)?;
        let producer = Arc::new(producer);
        let topic = &cx.settings.topics.positions.name;
        let positions = TopicWriter::new(Arc::clone(&producer), topic).map_err(failed)?;
        Ok(Self {
            cx,
            producer,
            positions,
        })
    }

    /// Headers of what was placed at a time that the record itself does not tell.
    pub(super) fn headers(observed_ms: Option<&str>) -> RecordHeaders {
        RecordHeaders::new([(OBSERVED_MS, observed_ms), (RESENT, Some("replay"))])
    }

    pub(super) fn position(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &RecordHeaders,
    ) -> Result<(), ReplayError> {
        loop {
            match self.positions.produce(key, value, headers) {
                Ok(()) => return Ok(()),
                Err(RDKafkaErrorCode::QueueFull) => self.make_room()?,
                Err(code) => return Err(failed(ClientError::MessageProduction(code))),
            }
        }
    }

    pub(super) fn dead_letter(&self, letter: &DeadLetter<'_>) -> Result<(), ReplayError> {
        let topic = &self.cx.settings.topics.dead_letters.name;
        for record in letter.records() {
            let mut out = BaseRecord::to(topic)
                .key(&record.key)
                .payload(&record.payload)
                .headers(record.headers);
            loop {
                match self.producer.send(out) {
                    Ok(()) => break,
                    Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                        out = refused;
                        self.make_room()?;
                    }
                    Err((error, _)) => return Err(failed(error)),
                }
            }
        }
        Ok(())
    }

    fn make_room(&self) -> Result<(), ReplayError> {
        self.producer.poll(Duration::from_millis(2));
        self.look()
    }

    /// Waits until Kafka has all of it. Kafka being away ends it: the client gives a record up after
    /// its time (`message.timeout.ms`).
    pub(super) fn flush(&self) -> Result<(), ReplayError> {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(5));
            self.look()?;
        }
        self.look()
    }

    fn look(&self) -> Result<(), ReplayError> {
        if self.cx.shutdown.is_requested() {
            return Err(SessionError::Stopped.into());
        }
        let deliveries = self.producer.context();
        match deliveries.failed.load(Ordering::SeqCst) {
            0 => Ok(()),
            records => Err(ReplayError::NotDelivered {
                records,
                reason: deliveries
                    .reason
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
            }),
        }
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        // What waits still is not worth waiting for: a replay that failed is asked for again.
        self.producer
            .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

fn failed(error: ClientError) -> ReplayError {
    SessionError::kafka("writing records again", error).into()
}
