//! The simulator as a log that grows: what has happened by now, and the next of it in batches.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flight::source::SourceDescriptor;

use super::refusal::Refusal;
use crate::simulator::Simulator;

/// Most time between the first and the last event of a batch. A batch has one `at_ms`, against
/// which the events' clocks are judged downstream, so it must not span more than the judgement allows.
const MAX_BATCH_SPAN_MS: i64 = 10 * 60_000;

/// Longest sleep until the next event is due: the system's clock may be set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// A simulator and the clock that decides which of its events have happened.
#[derive(Debug, Clone)]
pub struct Feed {
    simulator: Arc<Simulator>,
}

impl Feed {
    /// A feed by the system's clock.
    pub fn new(simulator: Arc<Simulator>) -> Self {
        Self { simulator }
    }

    /// The log itself.
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// The first offset whose event has not happened yet.
    pub fn live_edge(&self) -> i64 {
        self.simulator.live_edge(now_ms())
    }

    /// The source as clients are told of it.
    pub fn descriptor(&self) -> SourceDescriptor {
        SourceDescriptor {
            name: self.simulator.source_name().to_owned(),
            origin: 0,
            next: self.live_edge(),
        }
    }

    /// Where a client that asks for `from` begins; at the live edge if it does not ask.
    ///
    /// # Errors
    /// The offset is before the first event or beyond the live edge.
    pub fn start(&self, from: Option<i64>) -> Result<i64, Refusal> {
        let next = self.live_edge();
        match from {
            None => Ok(next),
            Some(from) if from < 0 => Err(Refusal::BeforeOrigin(from)),
            Some(from) if from > next => Err(Refusal::BeyondEnd { from, next }),
            Some(from) => Ok(from),
        }
    }

    /// The next batch from an offset: at most `most` events, all of which have happened, and none
    /// long after the first. Empty if nothing is due.
    pub fn due(&self, from: i64, most: i64) -> Range<i64> {
        let end = self.live_edge().min(from.saturating_add(most));
        if end <= from {
            return from..from;
        }
        let first_ms = self.at_ms(from);
        from..end
            .min(self.simulator.live_edge(first_ms + MAX_BATCH_SPAN_MS))
            .max(from)
    }

    /// When the log placed an event: its timestamp. The offset must be below the live edge.
    pub fn at_ms(&self, offset: i64) -> i64 {
        self.simulator.timestamp(offset).unwrap_or_default()
    }

    /// Waits until the event at an offset is due; for ever if the log ends before it.
    pub async fn until_due(&self, offset: i64) {
        let Ok(due_ms) = self.simulator.timestamp(offset) else {
            return std::future::pending().await;
        };
        loop {
            let wait_ms = due_ms - now_ms();
            let Ok(wait_ms @ 1..) = u64::try_from(wait_ms) else {
                return;
            };
            tokio::time::sleep(Duration::from_millis(wait_ms).min(MAX_SLEEP)).await;
        }
    }

    /// Appends an event's JSON. The offset must be below the live edge, so that there is one.
    pub fn write_event(&self, offset: i64, out: &mut Vec<u8>) {
        if let Ok(event) = self.simulator.event(offset) {
            event.write_json(out);
        }
    }
}

/// The system's clock in milliseconds UTC.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Parameters;

    fn feed(fleet: u32, period_ms: u32, age_ms: i64) -> Feed {
        let parameters = Parameters {
            seed: 1,
            fleet,
            period_ms,
            epoch_ms: now_ms() - age_ms,
        };
        Feed::new(Arc::new(Simulator::new(parameters).unwrap()))
    }

    #[test]
    fn a_batch_ends_at_the_live_edge_at_the_limit_and_before_its_clock_is_wrong() {
        let long = feed(2, 60_000, 86_400_000);
        assert_eq!(long.due(0, 7), 0..7);
        assert_eq!(long.due(0, 1_000), 0..22, "ten minutes and the first tick");
        let edge = long.live_edge();
        assert_eq!(long.due(edge - 3, 1_000), edge - 3..edge);
        assert!(long.due(edge, 1_000).is_empty());
        assert!(long.due(edge + 100, 1_000).is_empty());
        // A period longer than the span: one tick at a time.
        assert_eq!(feed(3, 3_600_000, 86_400_000).due(3, 1_000), 3..6);
    }

    #[test]
    fn a_client_begins_between_the_origin_and_the_live_edge() {
        let feed = feed(10, 86_400_000, 1_000);
        assert_eq!(feed.start(None), Ok(10));
        assert_eq!(feed.start(Some(0)), Ok(0));
        assert_eq!(feed.start(Some(10)), Ok(10));
        assert_eq!(
            feed.start(Some(11)),
            Err(Refusal::BeyondEnd { from: 11, next: 10 })
        );
        assert_eq!(feed.start(Some(-1)), Err(Refusal::BeforeOrigin(-1)));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_event_is_due() {
        let feed = feed(1, 50, 0);
        let offset = feed.live_edge() + 2;
        feed.until_due(offset).await;
        assert!(feed.live_edge() > offset);
    }
}
