//! One session: from finding out where the source stands in Kafka to the first error.
//!
//! The order matters. `init_transactions` shuts out whoever wrote before and settles what they left
//! open; only then does the checkpoint say what is in Kafka. The first transaction claims the source:
//! it carries the checkpoint under this session's name and nothing else. From then on each
//! transaction carries events together with the checkpoint behind them. What was passed over to be live
//! again goes in the same transactions, see [`catch_up`](crate::catch_up).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flight::avro::{POSITION_SCHEMA, RESENT, SUBJECT};
use flight::checkpoint::SourceCheckpoint;
use flight::dead_letter::{DeadLetter, Place};
use flight::kafka::topics::{self, TopicSettings};
use flight::offsets::Offsets;
use flight::source::BatchHeader;
use flight::telemetry::{Contexts, TRACEPARENT, span_with_parent, traceparent_of};

use crate::catch_up::{self, CatchUp};
use crate::checkpoints::{self, Checkpoints, Until, decide};
use crate::encode::{Outcome, RecordEncoder};
use crate::error::{Fatal, SessionError};
use crate::event::Rejection;
use crate::kafka_client::MessageLimits;
use crate::record::RecordHeaders;
use crate::service::{Context, Memory};
use crate::settle::{self, Inspector};
use crate::source::{Batch, Feed};
use crate::transaction::{Sent, Transactor};

pub use flight::avro::OBSERVED_MS;
/// From how far away [`OBSERVED_MS`] is given.
const OBSERVED_AFTER_MS: u64 = 15 * 60 * 1000;
/// How often an idle session looks around.
const IDLE: Duration = Duration::from_secs(1);
/// A producer that was shut out gives the newer one so long to claim the source.
const CLAIM_PATIENCE: Duration = Duration::from_secs(3);

/// Runs one session until the process is to stop (`Ok`) or something fails.
pub(crate) fn run(cx: &Context, memory: &mut Memory) -> Result<(), SessionError> {
    cx.metrics.sessions.inc();
    let descriptor = cx.wait(cx.origin.describe(&cx.http, &cx.settings.source))?;
    memory.turn_to(&descriptor.name);
    cx.wait(topics::ensure(
        &cx.settings.kafka,
        &cx.settings.topics.named(),
    ))?;
    let limits = cx.wait(MessageLimits::ask(&cx.settings))?;
    let schema_id = match memory.schema_id {
        // Ids never change: the registry may be away once it has told.
        Some(id) => id,
        None => cx.wait(cx.registry.register(SUBJECT, POSITION_SCHEMA))?,
    };
    memory.schema_id = Some(schema_id);
    cx.readiness.set("registry", Ok(()));

    // Before shutting anyone out: it may be that we are the older one.
    if memory.has_claimed() {
        let found = checkpoints::read(cx, &descriptor.name, Until::Stable)?;
        check_claim(memory, found.ours.as_ref())?;
    }
    let transactional_id = match &cx.settings.commit.transactional_id {
        Some(id) => id.clone(),
        None => format!("flight-producer-{}", descriptor.name),
    };
    let transactor = Transactor::new(cx, &transactional_id, limits)?;
    transactor.init()?;
    let found = settle(cx, &transactor, &descriptor.name)?;
    check_claim(memory, found.ours.as_ref())?;
    let start = decide(
        &found,
        || checkpoints::positions_are_empty(cx),
        &descriptor,
        &cx.settings,
    )?;
    memory.predecessor(found.ours.map(|checkpoint| checkpoint.session));
    if start.first {
        tracing::info!(
            source = descriptor.name,
            origin = start.origin,
            "first start of this source"
        );
    }

    let session = memory.next_session();
    tracing::info!(
        source = descriptor.name,
        session,
        next_offset = start.next,
        schema_id,
        transactional_id,
        "session begins"
    );
    let holes = catch_up::reachable(start.holes, descriptor.origin);
    let mut writer = Writer {
        cx,
        catch_up: CatchUp::new(&cx.settings.catch_up, holes),
        transactor,
        encoder: RecordEncoder::new(schema_id, &descriptor.name, limits.record),
        source: descriptor.name,
        session,
        origin: start.origin,
        next: start.next,
        live_edge: descriptor.next,
        record_limit: limits.record,
        open: None,
    };
    let result = writer.claim().and_then(|()| {
        cx.readiness.set("kafka", Ok(()));
        cx.readiness.set("flowing", Ok(()));
        writer.stream(memory)
    });
    if result.is_err() && writer.open.is_some() {
        let outcome = if writer.transactor.abort() {
            "aborted"
        } else {
            "unknown"
        };
        cx.metrics.transactions.with_label_values(&[outcome]).inc();
    }
    result
}

/// Finds the checkpoint, and gives transactions that Kafka forgot their ends, see [`settle`](crate::settle).
fn settle(
    cx: &Context,
    transactor: &Transactor,
    source: &str,
) -> Result<Checkpoints, SessionError> {
    let topics = &cx.settings.topics;
    let inspector = Inspector::new(cx, source)?;
    let undecided = |topic: &TopicSettings| inspector.undecided(&topic.name, topic.partitions);
    let mut all = undecided(&topics.checkpoints)?;
    let until = if all.is_empty() {
        Until::HighWatermark
    } else {
        // What is undecided there is about to be aborted.
        Until::Stable
    };
    let found = checkpoints::read(cx, source, until)?;
    all.extend(undecided(&topics.positions)?);
    all.extend(undecided(&topics.dead_letters)?);
    settle::settle(transactor, &all, found.ours.as_ref())?;
    cx.metrics.settled.inc_by(all.len() as u64);
    Ok(found)
}

/// After being shut out: waits for the newer producer's claim, so that the next session finds it.
pub(crate) fn wait_for_claim(cx: &Context) {
    let _ = cx.wait(async {
        tokio::time::sleep(CLAIM_PATIENCE).await;
        Ok::<(), SessionError>(())
    });
}

/// The source must be ours still, or be in the hands in which we found it.
fn check_claim(memory: &Memory, found: Option<&SourceCheckpoint>) -> Result<(), Fatal> {
    match found {
        Some(checkpoint) if memory.is_foreign(&checkpoint.session) => Err(Fatal::Fenced {
            name: checkpoint.source.clone(),
            session: checkpoint.session.clone(),
            host: checkpoint.host.clone(),
        }),
        _ => Ok(()),
    }
}

/// A transaction that gathers events.
struct Open {
    began: Instant,
    events: u64,
    /// Trace contexts of the sampled batches in it.
    traces: Contexts,
    dead_letters: u64,
    /// The first dead letter of it, for the log.
    example: Option<(i64, Rejection)>,
}

/// What comes next.
enum Next {
    Batch(Batch),
    /// Events of a hole.
    Missed(Batch),
    Nothing,
    SourceEnded,
    /// The source of a hole's events.
    MissedSourceEnded,
    Stop,
}

/// Writes a source's events.
struct Writer<'a> {
    cx: &'a Context,
    transactor: Transactor,
    encoder: RecordEncoder,
    catch_up: CatchUp,
    source: String,
    session: String,
    origin: i64,
    /// The first offset that is not in a transaction yet.
    next: i64,
    live_edge: i64,
    record_limit: usize,
    open: Option<Open>,
}

impl Writer<'_> {
    /// Says whose the source is now.
    fn claim(&mut self) -> Result<(), SessionError> {
        self.begin()?;
        self.commit()
    }

    /// Writes what the source sends until the process is to stop.
    fn stream(&mut self, memory: &mut Memory) -> Result<(), SessionError> {
        let cx = self.cx;
        let mut feed = Feed::start(cx, self.encoder.clone(), self.next);
        loop {
            cx.readiness.beat();
            match self.wait(&mut feed) {
                Next::Batch(batch) => match self.passes_over(&batch)? {
                    Some(live_edge) => {
                        // Of two feeds only the one that follows has something to say of the source.
                        drop(feed);
                        feed = self.go_live(live_edge)?;
                    }
                    None => self.produce(&batch)?,
                },
                Next::Missed(batch) => self.produce_missed(&batch)?,
                Next::Nothing => self.look_around(),
                Next::MissedSourceEnded => {
                    self.finish(&feed)?;
                    return Err(cx.runtime.block_on(self.catch_up.ended()).into());
                }
                Next::SourceEnded => {
                    self.finish(&feed)?;
                    return Err(cx.runtime.block_on(feed.ended()).into());
                }
                Next::Stop => return self.finish(&feed),
            }
            if self.is_due() {
                self.commit()?;
                feed.acknowledge(self.next);
                memory.made_progress();
            }
        }
    }

    /// The next batch, or whatever comes first.
    fn wait(&mut self, feed: &mut Feed) -> Next {
        if self.cx.shutdown.is_requested() {
            return Next::Stop;
        }
        // First: what it takes is bounded, and it gets that even where live events never let up.
        if let Some(batch) = self.catch_up.ready(self.cx, &self.encoder) {
            return Next::Missed(batch);
        }
        if let Some(batch) = feed.ready() {
            return Next::Batch(batch);
        }
        let interval = self.cx.settings.commit.interval();
        let wait = match &self.open {
            Some(open) => interval.saturating_sub(open.began.elapsed()),
            None => IDLE,
        };
        let rest = self
            .catch_up
            .due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let fills = rest.is_some_and(|rest| rest.is_zero());
        let wait = rest.filter(|_| !fills).map_or(wait, |rest| rest.min(wait));
        let shutdown = &self.cx.shutdown;
        let catch_up = &mut self.catch_up;
        self.cx.runtime.block_on(async {
            tokio::select! {
                biased;
                () = shutdown.requested() => Next::Stop,
                batch = feed.next() => batch.map_or(Next::SourceEnded, Next::Batch),
                batch = catch_up.next(), if fills => batch.map_or(Next::MissedSourceEnded, Next::Missed),
                () = tokio::time::sleep(wait) => Next::Nothing,
            }
        })
    }

    fn is_due(&self) -> bool {
        let limits = &self.cx.settings.commit;
        self.open.as_ref().is_some_and(|open| {
            open.events >= limits.max_events
                || open.began.elapsed() >= limits.interval()
                || self.catch_up.is_chunk_full()
        })
    }

    /// Commits what is open, at the end of a session.
    fn finish(&mut self, feed: &Feed) -> Result<(), SessionError> {
        if self.open.is_some() {
            self.commit()?;
            feed.acknowledge(self.next);
        }
        Ok(())
    }

    /// While nothing is written nothing tells that Kafka is back: ask.
    fn look_around(&self) {
        self.transactor.poll();
        let metrics = &self.cx.metrics;
        metrics.kafka_queue_records.set(self.transactor.queued());
        if self.open.is_none()
            && self.cx.readiness.unmet().contains_key("kafka")
            && self
                .transactor
                .answers(&self.cx.settings.topics.positions.name)
        {
            self.cx.readiness.set("kafka", Ok(()));
        }
    }

    fn begin(&mut self) -> Result<(), SessionError> {
        if self.open.is_none() {
            self.transactor.begin()?;
            self.open = Some(Open {
                began: Instant::now(),
                events: 0,
                traces: Contexts::default(),
                dead_letters: 0,
                example: None,
            });
        }
        Ok(())
    }

    /// The live edge, if a batch begins so far below it that what is between is left for later.
    fn passes_over(&mut self, batch: &Batch) -> Result<Option<i64>, SessionError> {
        let (cx, begin) = (self.cx, batch.header.first);
        if !self.catch_up.is_long(batch.header.next - begin) {
            return Ok(None);
        }
        // Too much follows from it to take one batch's word.
        let asked = cx.wait(cx.origin.describe(&cx.http, &cx.settings.source));
        match asked {
            Ok(source) if source.name == self.source => {
                let edge = source.next.min(batch.header.next);
                Ok(self.catch_up.is_long(edge - begin).then_some(edge))
            }
            Err(SessionError::Stopped) => Err(SessionError::Stopped),
            // The feed notices by itself that the source is another one, or away.
            Ok(_) | Err(_) => {
                self.catch_up.ask_later();
                Ok(None)
            }
        }
    }

    /// Leaves what comes before the live edge for later, and reads from there on.
    fn go_live(&mut self, live_edge: i64) -> Result<Feed, SessionError> {
        // With the next commit, whether events come by then or not.
        self.begin()?;
        let hole = Offsets {
            first: self.next,
            last: live_edge - 1,
        };
        tracing::warn!(
            first = hole.first,
            last = hole.last,
            events = hole.count(),
            "the backlog is longer than catch_up.after_events: live events go on, it is sent beside them"
        );
        self.catch_up.pass_over(hole);
        (self.next, self.live_edge) = (live_edge, live_edge);
        Ok(Feed::start(self.cx, self.encoder.clone(), live_edge))
    }

    /// Writes a batch of live events into the open transaction.
    fn produce(&mut self, batch: &Batch) -> Result<(), SessionError> {
        self.next = self.write(batch, None, i64::MAX)?;
        self.live_edge = batch.header.next;
        Ok(())
    }

    /// Writes what a batch has of a hole into the open transaction.
    fn produce_missed(&mut self, batch: &Batch) -> Result<(), SessionError> {
        let Some(last) = self.catch_up.last() else {
            return Ok(());
        };
        let began = Instant::now();
        let next = self.write(batch, Some("catch-up"), last)?;
        self.catch_up.written(next, began.elapsed());
        Ok(())
    }

    /// Writes a batch up to an offset into the open transaction. Gives the offset that comes next.
    fn write(
        &mut self,
        batch: &Batch,
        resent: Option<&str>,
        last: i64,
    ) -> Result<i64, SessionError> {
        self.begin()?;
        let span = self.send_span(batch);
        if let Some(parent) = &batch.header.traceparent {
            span_with_parent(&span, parent);
        }
        let _entered = span.enter();
        // Without an exporter of our own the source's context is handed on as it is.
        let traceparent = traceparent_of(&span).or_else(|| batch.header.traceparent.clone());
        let observed =
            is_remote(batch.header.at_ms, now_ms()).then(|| batch.header.at_ms.to_string());

        // Each record of a sampled batch carries its trace: they go to many partitions.
        let headers = record_headers(traceparent.as_deref(), observed.as_deref(), resent);
        let half = batch.header.count / 2;
        let mut next = batch.header.first;
        for (index, (offset, outcome)) in (0u32..).zip(batch.records.iter()) {
            if offset > last {
                break;
            }
            next = offset + 1;
            match outcome {
                Outcome::Position { key, value } => {
                    self.write_position(key, value, &headers)?;
                }
                Outcome::Rejected { line, rejection } => {
                    self.write_dead_letter(offset, line, rejection, batch.header.at_ms)?;
                }
            }
            if index == half {
                flight::failpoint!("producer::in-transaction");
            }
        }
        if let Some(open) = &mut self.open {
            open.events += u64::try_from(next - batch.header.first).unwrap_or(0);
            if let Some(traceparent) = &traceparent {
                open.traces.add(traceparent);
            }
        }
        self.transactor.poll();
        self.cx
            .metrics
            .kafka_queue_records
            .set(self.transactor.queued());
        Ok(next)
    }

    /// The span of a batch on its way into Kafka.
    fn send_span(&self, batch: &Batch) -> tracing::Span {
        let topic = &*self.cx.settings.topics.positions.name;
        let BatchHeader { first, count, .. } = batch.header;
        tracing::info_span!(
            "send",
            otel.name = format!("send {topic}"),
            otel.kind = "producer",
            messaging.system = "kafka",
            messaging.operation.name = "send",
            messaging.operation.r#type = "send",
            messaging.destination.name = topic,
            messaging.batch.message_count = count,
            contrail.source = self.source,
            contrail.source.first_offset = first,
            contrail.source.last_offset = first + i64::from(count) - 1,
            contrail.bytes = batch.records.size(),
        )
    }

    /// The span of a transaction's end.
    fn commit_span(&self, open: &Open) -> tracing::Span {
        tracing::info_span!(
            "commit",
            otel.name = "commit transaction",
            otel.kind = "client",
            messaging.system = "kafka",
            messaging.operation.name = "commit",
            messaging.operation.r#type = "settle",
            contrail.source = self.source,
            contrail.source.next_offset = self.next,
            contrail.events = open.events,
            contrail.dead_letters = open.dead_letters,
        )
    }

    fn write_position(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &RecordHeaders,
    ) -> Result<(), SessionError> {
        match self.transactor.send_position(key, value, headers)? {
            Sent::Queued => {
                self.cx.metrics.events_produced.inc();
                Ok(())
            }
            // It is within what the topic takes, and the client was told to take that.
            Sent::TooLarge => Err(SessionError::MessageLimit {
                topic: self.cx.settings.topics.positions.name.clone(),
                found: self.record_limit,
                needed: key.len() + value.len(),
            }),
        }
    }

    fn write_dead_letter(
        &mut self,
        offset: i64,
        line: &[u8],
        rejection: &Rejection,
        at_ms: i64,
    ) -> Result<(), SessionError> {
        let letter = source_letter(&self.source, offset, line, rejection, at_ms);
        let topic = &self.cx.settings.topics.dead_letters;
        for record in letter.records() {
            let sent = self.transactor.send(
                &topic.name,
                &record.key,
                &record.payload,
                Some(record.headers),
            )?;
            if sent == Sent::TooLarge {
                return Err(SessionError::MessageLimit {
                    topic: topic.name.clone(),
                    found: topic.max_message_bytes as usize,
                    needed: record.key.len() + record.payload.len(),
                });
            }
        }
        self.cx
            .metrics
            .events_dead_lettered
            .with_label_values(&[rejection.reason])
            .inc();
        if let Some(open) = &mut self.open {
            open.dead_letters += 1;
            open.example
                .get_or_insert_with(|| (offset, rejection.clone()));
        }
        Ok(())
    }

    /// Commits the open transaction with the checkpoint behind its events.
    fn commit(&mut self) -> Result<(), SessionError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let span = self.commit_span(open);
        open.traces.adopt(&span);
        let _entered = span.enter();
        let checkpoint = SourceCheckpoint {
            source: self.source.clone(),
            origin: self.origin,
            next_offset: self.next,
            holes: self.catch_up.holes().to_vec(),
            session: self.session.clone(),
            host: self.cx.host.clone(),
            committed_at_ms: now_ms(),
        };
        let began = Instant::now();
        self.transactor.send(
            &self.cx.settings.topics.checkpoints.name,
            self.source.as_bytes(),
            &checkpoint.to_json(),
            None,
        )?;
        flight::failpoint!("producer::before-commit");
        self.transactor.commit()?;
        flight::failpoint!("producer::after-commit");
        self.committed(began);
        Ok(())
    }

    /// Tells what was committed.
    fn committed(&mut self, began: Instant) {
        let metrics = &self.cx.metrics;
        metrics
            .commit_seconds
            .observe(began.elapsed().as_secs_f64());
        metrics.transactions.with_label_values(&["committed"]).inc();
        metrics.source_next_offset.set(self.next);
        metrics.source_lag.set((self.live_edge - self.next).max(0));
        metrics
            .caught_up
            .inc_by(self.catch_up.committed(began.elapsed()));
        metrics
            .catch_up_pending
            .set(i64::try_from(self.catch_up.pending()).unwrap_or(i64::MAX));
        metrics.last_commit_seconds.set(now_ms() as f64 / 1000.0);
        metrics.kafka_queue_records.set(self.transactor.queued());
        self.cx.readiness.set("kafka", Ok(()));
        let Some(open) = self.open.take() else {
            return;
        };
        metrics.events_committed.inc_by(open.events);
        // One line for a transaction, however hostile the source is.
        if let Some((offset, example)) = open.example {
            tracing::warn!(
                dead_letters = open.dead_letters,
                first_offset = offset,
                reason = example.reason,
                detail = example.detail.chars().take(200).collect::<String>(),
                "events that are not positions went to the dead letters"
            );
        }
    }
}

/// The dead letter of an event that is no position, or too large a one.
pub(crate) fn source_letter<'a>(
    source: &str,
    offset: i64,
    line: &'a [u8],
    rejection: &Rejection,
    at_ms: i64,
) -> DeadLetter<'a> {
    DeadLetter {
        place: Place::Source {
            source: source.to_owned(),
            source_offset: offset,
        },
        reason: rejection.reason,
        detail: rejection.detail.clone(),
        identity: Some((source.to_owned(), offset)),
        schema_id: None,
        observed_ms: Some(at_ms),
        original_key: None,
        original_headers: Vec::new(),
        payload: line,
    }
}

/// True if the time at which a source placed a batch cannot be told from the Kafka record's.
pub(crate) fn is_remote(at_ms: i64, now_ms: i64) -> bool {
    at_ms.abs_diff(now_ms) > OBSERVED_AFTER_MS
}

fn record_headers(
    traceparent: Option<&str>,
    observed_ms: Option<&str>,
    resent: Option<&str>,
) -> RecordHeaders {
    RecordHeaders::new([
        (TRACEPARENT, traceparent),
        (OBSERVED_MS, observed_ms),
        (RESENT, resent),
    ])
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_now_needs_no_header_for_its_time() {
        let now = 1_767_225_600_000;
        assert!(!is_remote(now - 60_000, now));
        assert!(is_remote(now - 16 * 60_000, now));
        assert!(is_remote(now + 16 * 60_000, now));
        assert!(is_remote(i64::MIN, now), "no overflow");
    }
}
