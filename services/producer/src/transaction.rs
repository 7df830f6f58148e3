//! One transactional client of Kafka, used by one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flight::admin::Readiness;
use flight::kafka::{KafkaError, KafkaSettings, Trouble};
use flight::shutdown::Shutdown;
use rdkafka::Message;
use rdkafka::bindings as ffi;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::error::SessionError;
use crate::kafka_client::{MessageLimits, ProducerEvents, producer_config};
use crate::record::{RecordHeaders, TopicWriter};
use crate::service::Context;

/// One call into the client blocks for so long at most, so that a stop is noticed.
const SLICE: Duration = Duration::from_millis(500);
/// The same while records are being written.
const FLUSH: Duration = Duration::from_millis(50);
/// After the wish to stop, a commit may take so long; then it is given up.
const DRAIN_COMMIT: Duration = Duration::from_secs(6);
/// Without an answer for so long, Kafka counts as away.
const SILENCE: Duration = Duration::from_secs(2);
/// Time for an abort. Where it fails, the next session's beginning aborts.
const ABORT: Duration = Duration::from_secs(1);
/// Time for the broker to tell who we are.
const INIT: Duration = Duration::from_secs(30);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the client's queue.
    Queued,
    /// The client finds it larger than a message may be.
    TooLarge,
}

/// How long one record has waited for room.
#[derive(Default)]
struct Wait {
    full_since: Option<Instant>,
}

/// A producer that writes in transactions.
pub(crate) struct Transactor {
    producer: Arc<BaseProducer<ProducerEvents>>,
    positions: TopicWriter<ProducerEvents>,
    shutdown: Shutdown,
    readiness: Readiness,
    patience: Duration,
    needs: Needs,
}

/// What the cluster must let us do.
struct Needs {
    kafka: KafkaSettings,
    transactional_id: String,
    topics: String,
}

impl Needs {
    /// The error of a request that the cluster may have denied.
    fn error(&self, doing: &'static str, error: ClientError) -> SessionError {
        let right = || match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                format!("Write and Describe on each of the topics {}", self.topics)
            }
            _ => format!(
                "Write and Describe on transactional id {}",
                self.transactional_id
            ),
        };
        match KafkaError::denied(&self.kafka, &error, doing, right) {
            Some(denied) => SessionError::Topics(denied),
            None => SessionError::kafka(doing, error),
        }
    }
}

impl Transactor {
    /// A client. Nothing has been said to Kafka yet.
    pub(crate) fn new(
        cx: &Context,
        transactional_id: &str,
        limits: MessageLimits,
    ) -> Result<Self, SessionError> {
        let events = ProducerEvents {
            metrics: cx.metrics.clone(),
            readiness: cx.readiness.clone(),
            trouble: Trouble::new(&cx.settings.kafka),
        };
        let failed = |error| SessionError::kafka("making the Kafka client", error);
        let producer: BaseProducer<_> = producer_config(&cx.settings, transactional_id, limits)
            .create_with_context(events)
            .map_err(failed)?;
        let producer = Arc::new(producer);
        let topic = &cx.settings.topics.positions.name;
        let positions = TopicWriter::new(Arc::clone(&producer), topic).map_err(failed)?;
        let timeout_ms = cx.settings.commit.transaction_timeout_ms;
        Ok(Self {
            producer,
            positions,
            shutdown: cx.shutdown.clone(),
            readiness: cx.readiness.clone(),
            // Beyond the transaction's timeout the broker has aborted it.
            patience: Duration::from_millis(timeout_ms.into()) + Duration::from_secs(5),
            needs: Needs {
                kafka: cx.settings.kafka.clone(),
                transactional_id: transactional_id.to_owned(),
                topics: cx
                    .settings
                    .topics
                    .named()
                    .map(|(_, topic)| &*topic.name)
                    .join(", "),
            },
        })
    }

    /// Shuts out every older producer with our transactional id and settles its last transaction.
    pub(crate) fn init(&self) -> Result<(), SessionError> {
        let doing = "beginning transactions";
        let began = Instant::now();
        loop {
            self.poll();
            match self.producer.init_transactions(SLICE) {
                Ok(()) => return Ok(()),
                Err(_) if self.shutdown.is_requested() => return Err(SessionError::Stopped),
                Err(error) if !is_retriable(&error) => {
                    return Err(self.needs.error(doing, error));
                }
                Err(_) if began.elapsed() > INIT => {
                    return Err(SessionError::Timeout {
                        doing,
                        seconds: INIT.as_secs(),
                    });
                }
                Err(_) => self.note_silence(began),
            }
        }
    }

    pub(crate) fn begin(&self) -> Result<(), SessionError> {
        self.producer
            .begin_transaction()
            .map_err(|error| self.failed("beginning a transaction", error))
    }

    /// Queues a record of a position, waiting for room.
    pub(crate) fn send_position(
        &self,
        key: &[u8],
        payload: &[u8],
        headers: &RecordHeaders,
    ) -> Result<Sent, SessionError> {
        let mut wait = Wait::default();
        loop {
            match self.positions.produce(key, payload, headers) {
                Ok(()) => return Ok(Sent::Queued),
                Err(code) => match self.refused(ClientError::MessageProduction(code), &mut wait)? {
                    Some(sent) => return Ok(sent),
                    None => continue,
                },
            }
        }
    }

    /// Queues a record, waiting for room.
    pub(crate) fn send(
        &self,
        topic: &str,
        key: &[u8],
        payload: &[u8],
        headers: Option<OwnedHeaders>,
    ) -> Result<Sent, SessionError> {
        let mut record = BaseRecord::to(topic).key(key).payload(payload);
        record.headers = headers;
        self.enqueue(record)
    }

    /// Queues a copy of a record, for the partition that it is in.
    pub(crate) fn send_again(&self, original: &OwnedMessage) -> Result<Sent, SessionError> {
        let mut record = BaseRecord::to(original.topic())
            .partition(original.partition())
            .key(original.key().unwrap_or_default())
            .payload(original.payload().unwrap_or_default());
        record.headers = original.headers().cloned();
        self.enqueue(record)
    }

    fn enqueue(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<Sent, SessionError> {
        let mut record = record;
        let mut wait = Wait::default();
        loop {
            let (error, refused) = match self.producer.send(record) {
                Ok(()) => return Ok(Sent::Queued),
                Err(refused) => refused,
            };
            if let Some(sent) = self.refused(error, &mut wait)? {
                return Ok(sent);
            }
            record = refused;
        }
    }

    /// What to do with a record that the client did not take: `None` to try it again.
    fn refused(&self, error: ClientError, wait: &mut Wait) -> Result<Option<Sent>, SessionError> {
        match error {
            ClientError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                let since = *wait.full_since.get_or_insert_with(Instant::now);
                self.note_silence(since);
                if self.shutdown.is_requested() && since.elapsed() > SILENCE {
                    return Err(SessionError::Stopped);
                }
                if since.elapsed() > self.patience {
                    return Err(SessionError::Timeout {
                        doing: "writing records",
                        seconds: self.patience.as_secs(),
                    });
                }
                self.producer.poll(Duration::from_millis(2));
                Ok(None)
            }
            ClientError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                Ok(Some(Sent::TooLarge))
            }
            error => Err(self.failed("writing records", error)),
        }
    }

    /// Waits until everything is written, and commits. After an error the outcome is unknown until
    /// the next session's [`init`](Self::init).
    pub(crate) fn commit(&self) -> Result<(), SessionError> {
        let doing = "committing a transaction";
        let began = Instant::now();
        let mut stop_asked: Option<Instant> = None;
        let mut expired = || {
            if self.shutdown.is_requested() {
                stop_asked.get_or_insert_with(Instant::now);
            }
            self.note_silence(began);
            began.elapsed() > self.patience
                || stop_asked.is_some_and(|asked| asked.elapsed() > DRAIN_COMMIT)
        };
        let timeout = || SessionError::Timeout {
            doing,
            seconds: began.elapsed().as_secs(),
        };
        if !self.flush(&mut expired) {
            return Err(timeout());
        }
        loop {
            match self.producer.commit_transaction(SLICE) {
                Ok(()) => return Ok(()),
                // Calling again resumes the same commit.
                Err(error) if is_retriable(&error) && !expired() => self.poll(),
                Err(error) if is_retriable(&error) => return Err(timeout()),
                Err(error) => return Err(self.failed(doing, error)),
            }
        }
    }

    /// Sends what is queued without its linger time, and waits until everything is written; false if that takes
    /// too long.
    fn flush(&self, mut expired: impl FnMut() -> bool) -> bool {
        let client = self.producer.client().native_ptr();
        let slice_ms = FLUSH.as_millis() as i32;
        // The same call of the Rust client, which its commit makes too, looks only each 100 ms whether all is
        // written: half of what a transaction may last. This one returns at once.
        // SAFETY: the client lives as long as `self`.
        while unsafe { ffi::rd_kafka_flush(client, slice_ms) }
            != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            // A record that failed counts until it was told of.
            self.poll();
            if expired() {
                return false;
            }
        }
        true
    }

    /// Waits until everything is written, and aborts: what is open of ours in the partitions that
    /// were written to ends with it.
    pub(crate) fn abort_written(&self) -> Result<(), SessionError> {
        let doing = "aborting a transaction";
        let began = Instant::now();
        if !self.flush(|| began.elapsed() > self.patience || self.shutdown.is_requested()) {
            return Err(SessionError::Timeout {
                doing,
                seconds: began.elapsed().as_secs(),
            });
        }
        self.producer
            .abort_transaction(self.patience)
            .map_err(|error| self.failed(doing, error))
    }

    /// Tries to abort what is open; true if Kafka says that it did.
    pub(crate) fn abort(&self) -> bool {
        if self.producer.client().fatal_error().is_some() {
            return false;
        }
        match self.producer.abort_transaction(ABORT) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "the transaction is left to the next session to abort");
                false
            }
        }
    }

    /// Takes what the client has to tell.
    pub(crate) fn poll(&self) {
        self.readiness.beat();
        self.producer.poll(Duration::ZERO);
    }

    /// Records that Kafka has not acknowledged.
    pub(crate) fn queued(&self) -> i64 {
        self.producer.in_flight_count().into()
    }

    /// Asks Kafka for a sign of life.
    pub(crate) fn answers(&self, topic: &str) -> bool {
        self.producer
            .client()
            .fetch_metadata(Some(topic), SLICE)
            .is_ok()
    }

    fn note_silence(&self, since: Instant) {
        if since.elapsed() > SILENCE {
            let why = format!("no answer for {} s", since.elapsed().as_secs());
            self.readiness.set("kafka", Err(why));
        }
    }

    /// The client may hide its true complaint behind "invalid state": a fatal error tells.
    fn failed(&self, doing: &'static str, error: ClientError) -> SessionError {
        match self.producer.client().fatal_error() {
            Some((code, reason)) => {
                tracing::debug!(%error, ?code, reason, doing);
                self.needs.error(doing, ClientError::Global(code))
            }
            None => self.needs.error(doing, error),
        }
    }
}

fn is_retriable(error: &ClientError) -> bool {
    match error {
        ClientError::Transaction(error) => error.is_retriable(),
        ClientError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}
