//! Ranges of offsets, sorted and apart from each other.

use std::collections::BTreeSet;

use flight::offsets::Offsets;

/// Ranges less the offsets that are accounted for elsewhere.
pub(crate) fn without(ranges: &[Offsets], accounted: &BTreeSet<i64>) -> Vec<Offsets> {
    let mut left = Vec::new();
    for range in ranges {
        let mut first = range.first;
        for offset in accounted.range(range.first..=range.last) {
            if *offset > first {
                left.push(Offsets {
                    first,
                    last: offset - 1,
                });
            }
            first = offset + 1;
        }
        if first <= range.last {
            left.push(Offsets {
                first,
                last: range.last,
            });
        }
    }
    left
}

/// What is in both.
pub(crate) fn common(left: &[Offsets], right: &[Offsets]) -> Vec<Offsets> {
    let mut common = Vec::new();
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        if first <= last {
            common.push(Offsets { first, last });
        }
        match a.last < b.last {
            true => drop(left.next()),
            false => drop(right.next()),
        }
    }
    common
}

/// What of the ranges is in none of the others.
pub(crate) fn less(ranges: &[Offsets], others: &[Offsets]) -> Vec<Offsets> {
    let mut rest = Vec::new();
    let mut others = others.iter().peekable();
    for range in ranges {
        let mut first = range.first;
        while let Some(other) = others.peek() {
            if other.first > range.last {
                break;
            }
            if first < other.first {
                rest.push(Offsets {
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
            rest.push(Offsets {
                first,
                last: range.last,
            });
        }
    }
    rest
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
    fn dead_letters_fill_holes() {
        let holes = [
            Offsets { first: 5, last: 9 },
            Offsets {
                first: 20,
                last: 20,
            },
        ];
        let left = without(&holes, &BTreeSet::from([5, 7, 20, 99]));
        assert_eq!(
            left,
            [Offsets { first: 6, last: 6 }, Offsets { first: 8, last: 9 }]
        );
        assert_eq!(without(&holes, &BTreeSet::new()), holes);
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
    fn what_is_in_one_and_not_in_the_other() {
        let left = ranges(&[(0, 9), (20, 29), (40, 40)]);
        let right = ranges(&[(5, 22), (25, 26), (29, 60)]);
        assert_eq!(less(&left, &right), ranges(&[(0, 4), (23, 24), (27, 28)]));
        assert_eq!(less(&left, &[]), left);
        assert_eq!(less(&left, &ranges(&[(0, 40)])), []);
        assert_eq!(
            less(&ranges(&[(5, 5)]), &ranges(&[(4, 4), (6, 6)])),
            ranges(&[(5, 5)])
        );
    }

    #[test]
    fn others_that_touch_no_range_or_many_take_what_is_theirs() {
        let all = ranges(&[(0, 9), (20, 29), (40, 40)]);
        let others = ranges(&[(3, 4), (8, 21), (25, 25), (29, 40), (50, 60)]);
        assert_eq!(
            less(&all, &others),
            ranges(&[(0, 2), (5, 7), (22, 24), (26, 28)])
        );
        assert_eq!(less(&all, &ranges(&[(0, 100)])), []);
    }
}
