//! Ranges of offsets, sorted and apart from each other.

use crate::verify::Range;

/// Ranges that are no farther apart than this are asked for together.
const NEAR: i64 = 1_000_000;

/// Ranges in groups of which each is one question.
pub(super) fn groups(ranges: &[Range]) -> impl Iterator<Item = &[Range]> {
    ranges.chunk_by(|before, next| next.first - before.last <= NEAR)
}

/// What is in both.
pub(super) fn common(left: &[Range], right: &[Range]) -> Vec<Range> {
    let mut common = Vec::new();
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        if first <= last {
            common.push(Range { first, last });
        }
        match a.last < b.last {
            true => drop(left.next()),
            false => drop(right.next()),
        }
    }
    common
}

/// What of the ranges is in none of the others.
pub(super) fn outside(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let mut outside = Vec::new();
    let mut others = others.iter().peekable();
    for range in ranges {
        let mut first = range.first;
        while let Some(other) = others.peek() {
            if other.first > range.last {
                break;
            }
            if first < other.first {
                outside.push(Range {
                    first,
                    last: other.first - 1,
                });
            }
            first = first.max(other.last + 1);
            // One that reaches farther may meet the next range too.
            if other.last > range.last {
                break;
            }
            others.next();
        }
        if first <= range.last {
            outside.push(Range {
                first,
                last: range.last,
            });
        }
    }
    outside
}

/// Whether an offset is in one of the ranges.
pub(super) fn contains(ranges: &[Range], offset: i64) -> bool {
    let next = ranges.partition_point(|range| range.last < offset);
    ranges.get(next).is_some_and(|range| range.first <= offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ends: &[(i64, i64)]) -> Vec<Range> {
        let range = |(first, last): &(i64, i64)| Range {
            first: *first,
            last: *last,
        };
        ends.iter().map(range).collect()
    }

    #[test]
    fn what_is_in_both() {
        let left = ranges(&[(0, 9), (20, 29), (40, 40)]);
        let right = ranges(&[(5, 22), (25, 26), (29, 60)]);
        assert_eq!(
            common(&left, &right),
            ranges(&[(5, 9), (20, 22), (25, 26), (29, 29), (40, 40)])
        );
        assert_eq!(common(&left, &[]), []);
    }

    #[test]
    fn what_is_outside_of_others() {
        let all = ranges(&[(0, 9), (20, 29), (40, 40)]);
        assert_eq!(outside(&all, &[]), all);
        let others = ranges(&[(3, 4), (8, 21), (25, 25), (29, 40), (50, 60)]);
        assert_eq!(
            outside(&all, &others),
            ranges(&[(0, 2), (5, 7), (22, 24), (26, 28)])
        );
        assert_eq!(outside(&all, &ranges(&[(0, 100)])), []);
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
