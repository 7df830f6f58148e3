//! From times to offsets: a source places its events in its log in the order of their times, so looking
//! at some thirty of them finds any time.

use std::time::Duration;

use flight::calendar::format_instant_ms;

use super::range::Refusal;
use super::{ReplayError, work};
use crate::encode::RecordEncoder;
use crate::service::Context;
use crate::source::Feed;

/// Longest wait for one event.
const PATIENCE: Duration = Duration::from_secs(15);

/// A source's log, of which single events are looked at.
pub(super) struct Log<'a> {
    cx: &'a Context,
    source: &'a str,
}

impl<'a> Log<'a> {
    pub(super) fn new(cx: &'a Context, source: &'a str) -> Self {
        Self { cx, source }
    }

    /// The first and the last offset, between `origin` and below `end`, of events that were placed at
    /// these times. There is at least one event between the two.
    pub(super) fn offsets(
        &self,
        origin: i64,
        end: i64,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<(i64, i64), ReplayError> {
        let name = || self.source.to_owned();
        let begins_ms = self.placed_ms(origin)?;
        if from_ms < begins_ms {
            return Err(Refusal::BeforeBeginning {
                what: format_instant_ms(from_ms),
                name: name(),
                origin: format!("offset {origin}, of {}", format_instant_ms(begins_ms)),
                begins_at: origin,
            }
            .into());
        }
        let ends_ms = self.placed_ms(end - 1)?;
        if to_ms > ends_ms {
            return Err(Refusal::BeyondEnd {
                what: format_instant_ms(to_ms),
                name: name(),
                last: format!("offset {}, of {}", end - 1, format_instant_ms(ends_ms)),
            }
            .into());
        }
        let before = |at_ms| move |placed_ms| placed_ms < at_ms;
        let first = self.first_not(before(from_ms), origin, end)?;
        let beyond = self.first_not(before(to_ms.saturating_add(1)), first, end)?;
        if beyond <= first {
            return Err(Refusal::NothingThen {
                name: name(),
                from: format_instant_ms(from_ms),
                to: format_instant_ms(to_ms),
            }
            .into());
        }
        Ok((first, beyond - 1))
    }

    /// The first event from `low` to below `high` of whose time a condition does not hold.
    fn first_not(
        &self,
        is_so: impl Fn(i64) -> bool,
        low: i64,
        high: i64,
    ) -> Result<i64, ReplayError> {
        let look = |offset| self.placed_ms(offset).map(&is_so);
        partition_point(low, high, look)
    }

    /// When the source placed an event, in milliseconds UTC.
    fn placed_ms(&self, offset: i64) -> Result<i64, ReplayError> {
        let _runtime = self.cx.runtime.enter();
        // The records are not used: neither the schema's id nor the limit is of any matter.
        let encoder = RecordEncoder::new(0, self.source, usize::MAX);
        let mut feed = Feed::glance(self.cx, encoder, offset);
        let batch = work::next(self.cx, &mut feed, self.source, PATIENCE)?;
        Ok(batch.header.at_ms)
    }
}

/// The first of the numbers from `low` to below `high` of which `is_before` does not hold; `high` if it
/// holds of all.
fn partition_point<E>(
    mut low: i64,
    mut high: i64,
    is_before: impl Fn(i64) -> Result<bool, E>,
) -> Result<i64, E> {
    while low < high {
        let middle = low + (high - low) / 2;
        match is_before(middle)? {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn the_first_that_is_not_before_is_found() {
        let times = [10, 10, 20, 30, 30, 30, 40];
        let at_least = |time: i64| {
            partition_point(0, 7, |i| Ok::<_, Infallible>(times[i as usize] < time)).unwrap()
        };
        assert_eq!(
            [5, 10, 11, 20, 30, 31, 40, 41].map(at_least),
            [0, 0, 2, 2, 3, 6, 6, 7]
        );
        assert_eq!(partition_point(3, 3, |_| Ok::<_, Infallible>(true)), Ok(3));
    }
}
