//! Ranges of offsets, sorted and apart from each other.

use flight::offsets::Offsets;

/// Ranges that are no farther apart than this are asked for together.
const NEAR: i64 = 1_000_000;

/// Ranges in groups of which each is one question.
pub(super) fn groups(ranges: &[Offsets]) -> impl Iterator<Item = &[Offsets]> {
    ranges.chunk_by(|before, next| next.first - before.last <= NEAR)
}

/// Whether an offset is in one of the ranges.
pub(super) fn contains(ranges: &[Offsets], offset: i64) -> bool {
    let next = ranges.partition_point(|range| range.last < offset);
    ranges.get(next).is_some_and(|range| range.first <= offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ends: &[(i64, i64)]) -> Vec<Offsets> {
        let range = |(first, last): &(i64, i64)| Offsets {
            first: *first,
            last: *last,
        };
        ends.iter().map(range).collect()
    }

    #[test]
    fn the_far_ones_are_asked_for_apart() {
        let ranges = ranges(&[(0, 1), (500_000, 500_001), (5_000_000, 5_000_001)]);
        let groups: Vec<_> = groups(&ranges).map(<[_]>::len).collect();
        assert_eq!(groups, [2, 1]);
    }

    #[test]
    fn an_offset_is_found_in_its_range() {
        let ranges = ranges(&[(2, 3), (7, 7)]);
        let found: Vec<_> = (0..9).filter(|o| contains(&ranges, *o)).collect();
        assert_eq!(found, [2, 3, 7]);
    }
}
