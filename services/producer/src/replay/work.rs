//! One replay: reading the source, writing to Kafka, resting.

use std::time::{Duration, Instant};

use flight::avro::{POSITION_SCHEMA, SUBJECT};

use super::pace::Pace;
use super::sender::Sender;
use flight::offsets::Offsets;

use super::{Range, ReplayError};
use crate::encode::{Outcome, RecordEncoder};
use crate::error::SessionError;
use crate::kafka_client::MessageLimits;
use crate::service::Context;
use crate::session::{is_remote, now_ms, source_letter};
use crate::source::{Batch, Feed};

/// After so many events, Kafka is waited for.
const CHUNK: i64 = 20_000;
/// Events between two pieces that are rather not read.
const FAR: i64 = 200_000;
/// Longest wait for the source or the registry.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the process is to end.
const LOOK: Duration = Duration::from_millis(250);

/// Sends a range again. `progress` hears how many of its events are in Kafka.
pub(super) fn send(
    cx: &Context,
    range: &Range,
    mut progress: impl FnMut(u64),
) -> Result<(), ReplayError> {
    let limits = insist(cx, || cx.wait(MessageLimits::ask(&cx.settings)))?;
    let schema_id = insist(cx, || {
        cx.wait(cx.registry.register(SUBJECT, POSITION_SCHEMA))
    })?;
    let sender = Sender::new(cx, limits)?;
    let encoder = || RecordEncoder::new(schema_id, &range.source, limits.record);
    let pace = Pace {
        share: cx.settings.replay.share,
        max_events_per_s: cx.settings.replay.max_events_per_s,
    };
    let mut feed = Feed::start(cx, encoder(), range.first());
    let (mut next, mut acknowledged) = (range.first(), range.first());
    let (mut sent, mut written) = (0, 0);
    let mut pieces = range.pieces.as_slice();
    let mut began = Instant::now();
    while let Some(piece) = pieces.first() {
        if piece.first - next > FAR {
            feed = Feed::start(cx, encoder(), piece.first);
            acknowledged = piece.first;
        }
        let batch = self::next(cx, &mut feed, &range.source, PATIENCE)?;
        written += write(&sender, range, &mut pieces, &batch)?;
        next = batch.records.end();
        if next - acknowledged < CHUNK && !pieces.is_empty() {
            continue;
        }
        sender.flush()?;
        feed.acknowledge(next);
        acknowledged = next;
        let rest = pace.rest(written - sent, began.elapsed());
        sent = written;
        progress(sent);
        if !pieces.is_empty() {
            pause(cx, rest)?;
        }
        began = Instant::now();
    }
    Ok(())
}

/// Writes what a batch has of the pieces, which are cut by what is behind; how many events that was.
fn write(
    sender: &Sender<'_>,
    range: &Range,
    pieces: &mut &[Offsets],
    batch: &Batch,
) -> Result<u64, ReplayError> {
    let at_ms = batch.header.at_ms;
    let observed = is_remote(at_ms, now_ms()).then(|| at_ms.to_string());
    let headers = Sender::headers(observed.as_deref());
    let mut written = 0;
    for (offset, outcome) in batch.records.iter() {
        if pieces.first().is_some_and(|piece| piece.last < offset) {
            *pieces = &pieces[1..];
        }
        match pieces.first() {
            None => break,
            Some(piece) if offset < piece.first => continue,
            Some(_) => written += 1,
        }
        match outcome {
            Outcome::Position { key, value } => sender.position(key, value, &headers)?,
            Outcome::Rejected { line, rejection } => {
                sender.dead_letter(&source_letter(
                    &range.source,
                    offset,
                    line,
                    rejection,
                    at_ms,
                ))?;
            }
        }
    }
    if pieces
        .first()
        .is_some_and(|piece| piece.last < batch.records.end())
    {
        *pieces = &pieces[1..];
    }
    Ok(written)
}

/// The next batch of a feed, waiting while the source is away.
pub(super) fn next(
    cx: &Context,
    feed: &mut Feed,
    source: &str,
    patience: Duration,
) -> Result<Batch, ReplayError> {
    let began = Instant::now();
    loop {
        let batch = cx.runtime.block_on(async {
            tokio::select! {
                biased;
                () = cx.shutdown.requested() => Err(SessionError::Stopped),
                batch = tokio::time::timeout(LOOK, feed.next()) => Ok(batch),
            }
        })?;
        match batch {
            Ok(Some(batch)) => return Ok(batch),
            Ok(None) => {
                let why = cx.runtime.block_on(feed.ended()).to_string();
                return Err(ReplayError::SourceChanged {
                    expected: source.to_owned(),
                    why,
                });
            }
            Err(_) if began.elapsed() > patience => {
                let unmet = cx.readiness.unmet();
                let why = unmet.get("source").cloned();
                return Err(ReplayError::SourceAway {
                    seconds: patience.as_secs(),
                    why: why.unwrap_or_else(|| "it is connected and silent".into()),
                });
            }
            Err(_) => {}
        }
    }
}

/// Asks until there is an answer, or for too long.
fn insist<T>(cx: &Context, ask: impl Fn() -> Result<T, SessionError>) -> Result<T, ReplayError> {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(SessionError::Stopped) => return Err(SessionError::Stopped.into()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a replay waits");
                pause(cx, Duration::from_secs(1))?;
            }
        }
    }
}

/// Sleeps, unless the process is to end.
fn pause(cx: &Context, rest: Duration) -> Result<(), ReplayError> {
    let slept = async {
        tokio::time::sleep(rest).await;
        Ok::<(), SessionError>(())
    };
    Ok(cx.wait(slept)?)
}
