//! Consecutive offsets.

use serde::{Deserialize, Serialize};

/// Consecutive offsets, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
}

impl Offsets {
    /// Number of offsets: 0 if the last is before the first.
    pub fn count(self) -> u64 {
        u64::try_from(self.last.saturating_sub(self.first).saturating_add(1)).unwrap_or(0)
    }

    /// Whether an offset is among them.
    pub fn contains(self, offset: i64) -> bool {
        (self.first..=self.last).contains(&offset)
    }
}

/// Number of offsets in a list.
pub fn count(list: &[Offsets]) -> u64 {
    list.iter().map(|offsets| offsets.count()).sum()
}

/// Adds offsets to a list that is in ascending order, none of which begins behind them. They are one with the
/// last of it if they overlap, or have nothing between them.
pub fn append(list: &mut Vec<Offsets>, next: Offsets) {
    match list.last_mut() {
        Some(before) if next.first <= before.last.saturating_add(1) => {
            before.last = before.last.max(next.last);
        }
        _ => list.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets((first, last): (i64, i64)) -> Offsets {
        Offsets { first, last }
    }

    #[test]
    fn both_ends_count() {
        assert_eq!(offsets((5, 5)).count(), 1);
        assert_eq!(offsets((5, 9)).count(), 5);
        assert_eq!(offsets((5, 4)).count(), 0);
        assert_eq!(offsets((i64::MIN, i64::MAX)).count(), i64::MAX as u64);
        let found = [4, 5, 9, 10].map(|offset| offsets((5, 9)).contains(offset));
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn what_touches_or_overlaps_becomes_one() {
        let mut list = Vec::new();
        for next in [
            (0, 4),
            (5, 5),
            (3, 4),
            (7, 9),
            (9, i64::MAX),
            (i64::MAX, i64::MAX),
        ] {
            append(&mut list, offsets(next));
        }
        assert_eq!(list, [(0, 5), (7, i64::MAX)].map(offsets));
    }
}
