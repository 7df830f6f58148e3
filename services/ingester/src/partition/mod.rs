//! One partition, on a thread of its own, from assignment to revocation.

pub mod memory;
mod publish;
mod recover;
mod spans;
mod watermarks;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flight::admin::Readiness;
use flight::dead_letter::{DeadLetter, Place};
use flight::failpoint;
use flight::kafka::topics::topic_id;
use flight::registry::RegistryClient;
use flight::telemetry::{Contexts, TRACEPARENT};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::allocator;
use crate::batch::Batch;
use crate::consumer::GroupConsumer;
use crate::consumer::gaps::{Gaps, MARKER};
use crate::consumer::queue::{Message, PartitionQueue, Polled};
use crate::dead_letters::DeadLetters;
use crate::decode::{Decoders, OBSERVED_MS, Rejection, decode};
use crate::error::IngestError;
use crate::metrics::Metrics;
use crate::pulse::{Limits, Pulse, Pulses};
use crate::settings::{BatchSettings, Settings};
use crate::store::Store;
use memory::{Advice, Memory, Share};
use watermarks::Watermarks;

/// How long to wait for a record before looking at the clock and at [`Stop`].
const POLL: Duration = Duration::from_millis(50);
/// Records between two looks.
const RUN: usize = 1024;
/// How long to wait for others' memory, or for one's turn.
const TURN: Duration = Duration::from_millis(5);

/// A partition that rests gives memory back, if its batches have taken so much since it did that last.
const UNRETURNED_BYTES: usize = 4 << 20;

/// What the threads of all partitions share.
pub struct PartitionContext {
    /// Settings of the service.
    pub settings: Settings,
    /// ClickHouse.
    pub store: Store,
    /// The registry.
    pub registry: Arc<RegistryClient>,
    /// Where dead letters go.
    pub dead_letters: DeadLetters,
    /// What is counted.
    pub metrics: Metrics,
    /// What the service is waiting for.
    pub readiness: Readiness,
    /// What the threads of the partitions are at.
    pub pulses: Pulses,
    /// How long their steps may take.
    pub limits: Limits,
    /// Where asynchronous requests run.
    pub runtime: Handle,
    /// Set when the thread of a partition ends and nobody asked for it.
    pub failed: CancellationToken,
    /// Where batches lie.
    pub memory: Arc<Memory>,
    /// Held by the partition that redoes a range: ranges of many partitions at once might need more memory
    /// than there is, and none of them can be cut.
    pub redoing: Mutex<()>,
}

/// Tells a partition's thread to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    revoked: CancellationToken,
    draining: CancellationToken,
}

impl Stop {
    /// The partition is not ours any more: drop everything now. What is under way at the server is
    /// left to whoever has the partition next.
    pub fn revoke(&self) {
        self.revoked.cancel();
    }

    /// The service ends: publish what is there, then end.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// True once either was asked for.
    pub fn is_requested(&self) -> bool {
        self.revoked.is_cancelled() || self.draining.is_cancelled()
    }
}

/// A record that goes to the dead letters when its range is published.
#[derive(Debug)]
struct Letter {
    offset: i64,
    rejection: Rejection,
    schema_id: Option<u32>,
    observed_ms: Option<i64>,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Letter {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + headers
    }

    fn dead_letter(&self, topic: &str, partition: i32) -> DeadLetter<'_> {
        let identity = match &self.rejection {
            Rejection::Impossible { identity, .. } => Some(identity.clone()),
            _ => None,
        };
        DeadLetter {
            place: Place::Record {
                topic: topic.to_owned(),
                partition,
                offset: self.offset,
            },
            reason: self.rejection.code(),
            detail: self.rejection.to_string(),
            identity,
            schema_id: self.schema_id,
            observed_ms: self.observed_ms,
            original_key: self.key.as_deref(),
            original_headers: self.headers.clone(),
            payload: &self.payload,
        }
    }
}

/// The state of one assigned partition.
struct Partition {
    number: i32,
    consumer: Arc<GroupConsumer>,
    shared: Arc<PartitionContext>,
    stop: Stop,
    topic_id: String,
    decoders: Decoders,
    pulse: Pulse,
    share: Share,
    /// First offset that is not published.
    next: i64,
    /// What the group has committed, if it is closed: nothing is open and everything below is there.
    closed_at: Option<i64>,
    /// Highest offset of each source that may be in the tables: at or below it, ask first.
    watermarks: Watermarks,
    batch: Batch,
    letters: Vec<Letter>,
    letter_bytes: usize,
    /// Last offset in the batch or among its letters.
    last: Option<i64>,
    gaps: Gaps,
    began: Option<Instant>,
    /// What batches have taken since memory was given back.
    unreturned_bytes: usize,
    /// Trace contexts of the sampled batches in what was collected.
    traces: Contexts,
}

/// Ingests a partition until it is revoked or the service ends.
pub fn run(
    number: i32,
    consumer: Arc<GroupConsumer>,
    mut queue: PartitionQueue,
    shared: Arc<PartitionContext>,
    stop: Stop,
) {
    let decoders = Decoders::new(shared.registry.clone(), shared.runtime.clone());
    let pulse = shared.pulses.watch(number);
    let share = shared.memory.share(number);
    let mut partition = Partition {
        number,
        consumer,
        shared,
        stop,
        topic_id: String::new(),
        decoders,
        pulse,
        share,
        next: 0,
        closed_at: None,
        watermarks: Watermarks::default(),
        batch: Batch::default(),
        letters: Vec::new(),
        letter_bytes: 0,
        last: None,
        gaps: Gaps::default(),
        began: None,
        unreturned_bytes: 0,
        traces: Contexts::default(),
    };
    let mut ended = partition
        .recover(&mut queue, false)
        .and_then(|()| partition.ingest(&mut queue));
    while let Err(error @ (IngestError::LogWentBack { .. } | IngestError::TopicRemade { .. })) =
        ended
    {
        tracing::error!(partition = number, %error, "beginning again");
        partition.forget_batch();
        queue.clear();
        ended = partition
            .recover(&mut queue, true)
            .and_then(|()| partition.ingest(&mut queue));
    }
    match ended {
        Ok(()) => tracing::info!(
            partition = number,
            next = partition.next,
            "partition drained"
        ),
        Err(IngestError::Revoked) => tracing::info!(partition = number, "partition given up"),
        Err(error) => {
            tracing::error!(partition = number, %error, "partition stopped");
            partition.shared.readiness.set(
                "partitions",
                Err(format!("partition {number} stopped: {error}")),
            );
        }
    }
}

impl Partition {
    fn settings(&self) -> &BatchSettings {
        &self.shared.settings.batch
    }

    fn topic(&self) -> &str {
        &self.shared.settings.topic
    }

    /// The main loop: collect, publish, close when idle.
    fn ingest(&mut self, queue: &mut PartitionQueue) -> Result<(), IngestError> {
        let mut end = None;
        // Whether records came at the last look: then there may be more at once.
        let mut flowing = false;
        loop {
            if self.stop.revoked.is_cancelled() {
                return Err(IngestError::Revoked);
            }
            let draining = self.stop.draining.is_cancelled();
            let advice = self.share.collecting(self.bytes());
            let is_enough = self.is_due(queue) || self.is_full() || advice == Advice::Publish;
            if self.last.is_some() && (draining || is_enough) {
                self.publish(false)?;
                continue;
            }
            if draining {
                return self.close(self.next);
            }
            if advice == Advice::Wait {
                self.pulse.begin("memory", self.shared.limits.collect);
                std::thread::sleep(TURN);
                continue;
            }
            let timeout = if flowing { Duration::ZERO } else { POLL };
            flowing = false;
            self.pulse.begin("collect", self.shared.limits.collect);
            failpoint!("ingester::collect");
            // The clock and the wish to stop are looked at once in so many records.
            let (mut left, mut outcome, mut doubt) = (RUN, Ok(()), false);
            let seen = queue.drain(timeout, |polled| {
                left -= 1;
                match polled {
                    Polled::Record(message) => {
                        (end, flowing) = (None, true);
                        doubt = !self.believe_gap(message.offset());
                        if !doubt {
                            outcome = self.accept(&message);
                        }
                    }
                    Polled::Repeated => {}
                    Polled::End(offset) => {
                        doubt = !self.believe_gap(offset);
                        end = (!doubt).then_some(offset);
                    }
                    Polled::Error(code) => self.note_trouble(code),
                }
                match left == 0 || doubt || outcome.is_err() || self.is_full() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            outcome?;
            if doubt {
                self.shared.metrics.gaps_read_again.inc();
                self.seek(queue, Offset::Offset(self.expected()))?;
                continue;
            }
            // What was collected is published first, and the end remembered for afterwards.
            if seen == 0 && self.last.is_none() {
                self.rest(end.take())?;
            }
        }
    }

    /// The offset that should come next.
    fn expected(&self) -> i64 {
        self.last.map_or(self.next, |last| last + 1)
    }

    /// Whether what lies between the last record and `offset` may be taken as not there.
    fn believe_gap(&mut self, offset: i64) -> bool {
        let expected = self.expected();
        let context = self.consumer.context();
        self.gaps.believe(expected, offset, context.rebalances())
    }

    /// Closes what is open while nothing comes.
    fn rest(&mut self, end: Option<i64>) -> Result<(), IngestError> {
        // Transaction markers have offsets too: without this, an idle partition would show a lag for
        // ever.
        if let Some(offset) = end
            && offset >= self.next
        {
            self.next = offset;
            self.close(offset)?;
        } else if self.closed_at.is_none() {
            self.close(self.next)?;
        }
        if self.unreturned_bytes >= UNRETURNED_BYTES {
            self.unreturned_bytes = 0;
            allocator::give_back_now();
        }
        Ok(())
    }

    /// Whether the oldest record has waited long enough. While the log has more already, larger batches are
    /// worth a longer wait: they spare the server merges.
    fn is_due(&self, queue: &PartitionQueue) -> bool {
        let BatchSettings {
            linger_ms,
            backlog_linger_ms,
            ..
        } = *self.settings();
        let Some(waited) = self.began.map(|began| began.elapsed()) else {
            return false;
        };
        let is_behind = || {
            queue
                .end()
                .is_some_and(|end| end > self.expected() + MARKER)
        };
        waited >= Duration::from_millis(linger_ms)
            && (waited >= Duration::from_millis(backlog_linger_ms) || !is_behind())
    }

    fn is_full(&self) -> bool {
        let BatchSettings {
            max_rows,
            max_bytes,
            ..
        } = *self.settings();
        self.batch.is_full(max_rows, max_bytes)
            || self.letters.len() >= max_rows
            || self.bytes() >= max_bytes
    }

    /// Memory that what was collected takes, about.
    fn bytes(&self) -> usize {
        self.batch.bytes() + self.letter_bytes
    }

    /// Takes one message from the queue into the batch, unless its offset is above `limit`.
    fn take(
        &mut self,
        queue: &mut PartitionQueue,
        timeout: Duration,
        limit: i64,
    ) -> Result<Taken, IngestError> {
        match queue.next(timeout) {
            None => Ok(Taken::Nothing),
            Some(Polled::End(offset)) => Ok(Taken::End(offset)),
            Some(Polled::Repeated) => Ok(Taken::Again),
            Some(Polled::Error(code)) => {
                self.note_trouble(code);
                Ok(Taken::Nothing)
            }
            Some(Polled::Record(message)) if message.offset() > limit => {
                queue.unread();
                Ok(Taken::End(limit + 1))
            }
            Some(Polled::Record(message)) => self.accept(&message).map(|()| Taken::Record),
        }
    }

    fn note_trouble(&self, code: RDKafkaErrorCode) {
        self.shared.metrics.kafka_errors.inc();
        tracing::warn!(
            partition = self.number,
            ?code,
            "cannot read the partition at present"
        );
    }

    /// Takes a record into the batch, or among the letters.
    fn accept(&mut self, message: &Message<'_>) -> Result<(), IngestError> {
        let offset = message.offset();
        if offset < self.next || self.last.is_some_and(|last| offset <= last) {
            return Err(IngestError::LogWentBack {
                partition: self.number,
                expected: self.next,
                offset,
            });
        }
        // The decoder is borrowed while the rest of `self` is used beside it.
        let Self {
            decoders,
            pulse,
            batch,
            letters,
            watermarks,
            shared,
            stop,
            ..
        } = self;
        let headers = message.headers();
        if !headers.is_empty()
            && let Some(traceparent) = text_header(&headers, TRACEPARENT)
        {
            self.traces.add(traceparent);
        }
        let observed_ms = text_header(&headers, OBSERVED_MS)
            .and_then(|text| text.parse().ok())
            .or_else(|| message.timestamp_ms());
        let (readiness, limits) = (&shared.readiness, &shared.limits);
        let decoder = decoders.decoder(message.payload(), &stop.revoked, |away| {
            pulse.begin("registry", limits.collect);
            readiness.set(
                "registry",
                away.map_or(Ok(()), |error| Err(error.to_string())),
            );
        })?;
        let mut scratch = None;
        let decoded = decoder.and_then(|decoder| {
            decode(
                decoder,
                message.payload().unwrap_or_default(),
                observed_ms,
                &mut scratch,
            )
        });
        match decoded {
            Ok(record) => {
                let revisit = watermarks.raise(record.source, record.source_offset);
                batch.push(&record, revisit);
            }
            Err(rejection) => {
                shared
                    .metrics
                    .dead_letters
                    .with_label_values(&[rejection.code()])
                    .inc();
                tracing::warn!(partition = self.number, offset, reason = %rejection, "dead letter");
                let letter = letter(message, &headers, observed_ms, rejection);
                self.letter_bytes += letter.bytes();
                letters.push(letter);
            }
        }
        self.last = Some(offset);
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
        Ok(())
    }

    /// Drops what was taken and not published; it will be read again.
    fn forget_batch(&mut self) {
        self.batch.clear();
        self.letters.clear();
        self.letter_bytes = 0;
        self.last = None;
        self.began = None;
        self.traces.clear();
    }

    /// Asks the cluster which incarnation of the topic this is.
    fn ask_topic_id(&self) -> Result<String, IngestError> {
        Ok(topic_id(self.consumer.client(), self.topic())?)
    }
}

/// What [`Partition::take`] found.
enum Taken {
    Record,
    /// Everything below the offset has been taken.
    End(i64),
    /// The record that was taken last came again.
    Again,
    Nothing,
}

fn letter(
    message: &Message<'_>,
    headers: &[(&str, &[u8])],
    observed_ms: Option<i64>,
    rejection: Rejection,
) -> Letter {
    Letter {
        offset: message.offset(),
        rejection,
        schema_id: flight::avro::split_header(message.payload())
            .ok()
            .map(|(id, _)| id),
        observed_ms,
        key: message.key().map(<[u8]>::to_vec),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}

fn text_header<'a>(headers: &[(&str, &'a [u8])], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| std::str::from_utf8(value).ok())
}
