//! How fast a replay may go, or a producer that catches up.

use std::time::Duration;

/// Bounds of the speed of what is sent beside live events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Most of the time that may be spent sending.
    pub(crate) share: f64,
    /// Most events a second; 0 for no bound.
    pub(crate) max_events_per_s: u32,
}

impl Pace {
    /// How long to rest after so many events, which took so long to send.
    pub(crate) fn rest(&self, events: u64, took: Duration) -> Duration {
        let for_share = took.mul_f64((1.0 - self.share) / self.share);
        let for_rate = match self.max_events_per_s {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(events as f64 / f64::from(rate)).saturating_sub(took),
        };
        for_share.max(for_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_bound_holds() {
        let pace = |share, max_events_per_s| Pace {
            share,
            max_events_per_s,
        };
        let took = Duration::from_millis(100);
        assert_eq!(pace(1.0, 0).rest(1000, took), Duration::ZERO);
        assert_eq!(pace(0.5, 0).rest(1000, took), took);
        assert_eq!(pace(0.25, 0).rest(1000, took), 3 * took);
        assert_eq!(pace(1.0, 5_000).rest(1000, took), took);
        assert_eq!(pace(0.5, 2_000).rest(1000, took), 4 * took);
        assert_eq!(pace(1.0, 100_000).rest(1000, took), Duration::ZERO);
    }
}
