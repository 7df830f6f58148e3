//! Waiting longer after each failure, never in step with the others who failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential back-off with full jitter: each delay is drawn between half and all of a bound that
/// doubles up to a ceiling.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays begin around `first` and end around `ceiling`.
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self {
            first,
            ceiling,
            failures: 0,
        }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        // `RandomState` is seeded by the operating system: enough randomness for jitter.
        let draw = RandomState::new().hash_one(self.failures) % 1000;
        bound / 2 + bound.mul_f64(draw as f64 / 2000.0)
    }

    /// Failures since the last [`reset`](Self::reset).
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked: begin again at the first delay.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

impl Default for Backoff {
    /// From 200 ms to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for bound_ms in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!(
                (bound_ms / 2..=bound_ms).contains(&delay),
                "{delay} for {bound_ms}"
            );
        }
        for _ in 0..100 {
            assert!(
                backoff.next_delay() <= Duration::from_secs(1),
                "no overflow"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
