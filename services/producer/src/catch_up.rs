//! Catching up beside live events.
//!
//! After a long outage the source has a backlog. Sent first, it would hold back what comes now. So a backlog
//! that is longer than a setting is passed over: the checkpoint jumps to the live edge and names the offsets
//! below it as a hole, and the hole is filled from a connection of its own, a chunk at a time, for no more
//! than a share of the time.
//!
//! Live events, what is filled, and the checkpoint that tells of both go in the same transactions. So a kill
//! at any moment leaves a checkpoint that is right: each event is in Kafka once, or in a hole, or above the
//! checkpoint. Records of a hole carry [`RESENT`](flight::avro::RESENT), because their offsets stand below
//! those around them; the ingester looks such records up by identity, as those of a replay.

use std::time::{Duration, Instant};

use flight::offsets::{Offsets, append, count};

use crate::encode::RecordEncoder;
use crate::replay::Pace;
use crate::service::Context;
use crate::settings::CatchUpSettings;
use crate::source::{Batch, Feed, SourceError};

/// Most holes of a source: with so many a backlog is sent first after all.
const MOST_HOLES: usize = 100;
/// Most events of a hole between two rests.
const MOST_IN_CHUNK: u64 = 20_000;
/// At a bounded rate, a chunk is about what may be sent in this time.
const CHUNK: Duration = Duration::from_millis(200);
/// After the source did not say where its live edge is, for so long no backlog is passed over.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The holes of a source, and their filling.
pub(crate) struct CatchUp {
    after_events: u64,
    pace: Pace,
    chunk_events: u64,
    /// As they will be once the open transaction is committed.
    holes: Vec<Offsets>,
    /// Reads the first hole.
    feed: Option<Feed>,
    /// Events of holes in the open transaction, and the time that writing them took.
    open: (u64, Duration),
    rests_until: Instant,
    asks_at: Instant,
}

impl CatchUp {
    /// What an earlier session left open.
    pub(crate) fn new(settings: &CatchUpSettings, holes: Vec<Offsets>) -> Self {
        let chunk_events = match settings.max_events_per_s {
            0 => MOST_IN_CHUNK,
            rate => ((f64::from(rate) * CHUNK.as_secs_f64()) as u64).clamp(1, MOST_IN_CHUNK),
        };
        let now = Instant::now();
        Self {
            after_events: settings.after_events,
            pace: Pace {
                share: settings.share,
                max_events_per_s: settings.max_events_per_s,
            },
            chunk_events,
            holes,
            feed: None,
            open: (0, Duration::ZERO),
            rests_until: now,
            asks_at: now,
        }
    }

    /// Whether a backlog of so many events is one to pass over.
    pub(crate) fn is_long(&self, backlog: i64) -> bool {
        self.after_events > 0
            && u64::try_from(backlog).is_ok_and(|backlog| backlog > self.after_events)
            && self.holes.len() < MOST_HOLES
            && Instant::now() >= self.asks_at
    }

    /// The source does not say where its live edge is: the backlog is sent first, for a while.
    pub(crate) fn ask_later(&mut self) {
        self.asks_at = Instant::now() + ASK_AGAIN;
    }

    /// Leaves offsets for later. They stand above all that was left before.
    pub(crate) fn pass_over(&mut self, hole: Offsets) {
        append(&mut self.holes, hole);
    }

    /// What the checkpoint of the open transaction must name.
    pub(crate) fn holes(&self) -> &[Offsets] {
        &self.holes
    }

    /// Number of events that are still to be sent.
    pub(crate) fn pending(&self) -> u64 {
        count(&self.holes)
    }

    /// From when on events of a hole may be written; `None` if there are none, or not in this transaction.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.holes.is_empty() && !self.is_chunk_full()).then_some(self.rests_until)
    }

    /// Whether the open transaction has its share of a hole: it is to be committed.
    pub(crate) fn is_chunk_full(&self) -> bool {
        self.open.0 >= self.chunk_events || self.open.0 > 0 && self.holes.is_empty()
    }

    /// Events of the first hole, if there are some now and they may be written. Within a Tokio runtime.
    pub(crate) fn ready(&mut self, cx: &Context, encoder: &RecordEncoder) -> Option<Batch> {
        self.due().filter(|due| *due <= Instant::now())?;
        let hole = self.holes.first()?;
        let chunk_events = self.chunk_events;
        let feed = self.feed.get_or_insert_with(|| {
            tracing::info!(
                first = hole.first,
                last = hole.last,
                "catching up beside live events"
            );
            Feed::beside(cx, encoder.clone(), hole.first, chunk_events)
        });
        feed.ready()
    }

    /// The next events of the first hole, when they come; `None` when the source has turned into another one.
    /// Without a connection, never.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        match &mut self.feed {
            Some(feed) => feed.next().await,
            None => std::future::pending().await,
        }
    }

    /// Why there is nothing more to be had.
    pub(crate) async fn ended(&mut self) -> SourceError {
        match &mut self.feed {
            Some(feed) => feed.ended().await,
            None => SourceError::Closed(": nothing was read".into()),
        }
    }

    /// The last offset that is to be written now.
    pub(crate) fn last(&self) -> Option<i64> {
        self.holes.first().map(|hole| hole.last)
    }

    /// Everything of the first hole below `next` is in the open transaction.
    pub(crate) fn written(&mut self, next: i64, took: Duration) {
        let Some(hole) = self.holes.first_mut() else {
            return;
        };
        self.open.0 += u64::try_from(next - hole.first).unwrap_or(0);
        self.open.1 += took;
        hole.first = next;
        if hole.first > hole.last {
            self.holes.remove(0);
            self.feed = None;
        }
    }

    /// The open transaction is committed, which took so long. How many events of holes were in it.
    pub(crate) fn committed(&mut self, took: Duration) -> u64 {
        let (events, spent) = std::mem::take(&mut self.open);
        if events > 0 {
            let rest = self.pace.rest(events, spent + took);
            self.rests_until = Instant::now() + rest;
            if let (Some(feed), Some(hole)) = (&self.feed, self.holes.first()) {
                feed.acknowledge(hole.first);
            }
        }
        events
    }
}

/// Holes, less what the source can give no more: that is missing from now on, and shows as such.
pub(crate) fn reachable(holes: Vec<Offsets>, origin: i64) -> Vec<Offsets> {
    let cut = |hole: Offsets| Offsets {
        first: hole.first.max(origin),
        ..hole
    };
    let left: Vec<Offsets> = holes
        .iter()
        .filter(|hole| hole.last >= origin)
        .map(|hole| cut(*hole))
        .collect();
    if left != holes {
        tracing::error!(
            events = count(&holes) - count(&left),
            origin,
            "the source has forgotten events that were passed over in an outage: they are missing"
        );
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(first: i64, last: i64) -> Offsets {
        Offsets { first, last }
    }

    fn catch_up(holes: Vec<Offsets>, max_events_per_s: u32) -> CatchUp {
        let settings = CatchUpSettings {
            after_events: 100,
            share: 0.5,
            max_events_per_s,
        };
        CatchUp::new(&settings, holes)
    }

    #[test]
    fn only_a_long_backlog_is_passed_over() {
        let mut long = catch_up(Vec::new(), 0);
        assert!(!long.is_long(-5) && !long.is_long(100));
        assert!(long.is_long(101));
        long.ask_later();
        assert!(!long.is_long(101), "the source does not answer");
        let many: Vec<Offsets> = (0..100).map(|i| hole(i * 10, i * 10)).collect();
        assert!(!catch_up(many, 0).is_long(101), "too many holes");
        let settings = CatchUpSettings {
            after_events: 0,
            ..CatchUpSettings::default()
        };
        assert!(!CatchUp::new(&settings, Vec::new()).is_long(i64::MAX));
    }

    #[test]
    fn holes_that_touch_are_one() {
        let mut holes = catch_up(vec![hole(5, 9)], 0);
        holes.pass_over(hole(10, 19));
        holes.pass_over(hole(30, 39));
        assert_eq!(holes.holes(), [hole(5, 19), hole(30, 39)]);
        assert_eq!(holes.pending(), 25);
    }

    #[test]
    fn a_hole_shrinks_by_what_is_written_and_rests_after_a_chunk() {
        // 50 events are a chunk.
        let mut filling = catch_up(vec![hole(0, 99), hole(200, 209)], 250);
        assert!(filling.due().is_some_and(|due| due <= Instant::now()));
        filling.written(30, Duration::from_millis(1));
        assert!(!filling.is_chunk_full());
        filling.written(60, Duration::from_millis(1));
        assert!(filling.is_chunk_full() && filling.due().is_none());
        assert_eq!(filling.holes(), [hole(60, 99), hole(200, 209)]);
        assert_eq!(filling.committed(Duration::from_millis(1)), 60);
        let due = filling.due().unwrap();
        assert!(
            due > Instant::now() + Duration::from_millis(100),
            "it rests"
        );
        assert_eq!(filling.committed(Duration::ZERO), 0);
        filling.written(100, Duration::ZERO);
        assert_eq!((filling.last(), filling.pending()), (Some(209), 10));
        filling.written(210, Duration::ZERO);
        assert!(filling.due().is_none() && filling.last().is_none());
        assert!(filling.is_chunk_full(), "the last of it is committed soon");
        assert_eq!(filling.committed(Duration::ZERO), 50);
        assert!(!filling.is_chunk_full());
    }

    #[test]
    fn no_more_than_the_share_of_the_time_is_taken() {
        let mut filling = catch_up(vec![hole(0, 1_000_000)], 0);
        filling.written(20_000, Duration::from_millis(700));
        let before = Instant::now();
        filling.committed(Duration::from_millis(300));
        assert!(filling.due().unwrap() >= before + Duration::from_secs(1));
    }

    #[test]
    fn what_the_source_forgot_is_pending_no_more() {
        let holes = vec![hole(5, 9), hole(20, 29), hole(40, 49)];
        assert_eq!(reachable(holes.clone(), 5), holes);
        assert_eq!(reachable(holes.clone(), 22), [hole(22, 29), hole(40, 49)]);
        assert_eq!(reachable(holes, 50), []);
    }
}
