//! Whether offsets that did not come are not there.
//!
//! A transaction's marker has an offset and is never handed out, so one missing offset is the rule. More than
//! one are rare: a transaction that was aborted, two markers in a row, records that an operator deleted. They
//! are also what it looks like when the client leaves records out, which it does at a cooperative rebalance
//! (see [`queue`](super::queue)): then at least one record and the marker behind it are missing. So a gap of
//! more than one offset is believed only when it was seen twice, with a seek to its beginning between, and
//! no rebalance since.

use std::ops::Range;

/// Offsets that a transaction's marker takes: longest gap that needs no proof.
pub const MARKER: i64 = 1;

/// The gaps of one partition.
#[derive(Debug, Default)]
pub struct Gaps {
    /// The gap that was seen, and the number of rebalances then.
    seen: Option<(Range<i64>, u64)>,
}

impl Gaps {
    /// Whether everything from `expected` to below `found`, the offset that came, may be taken as not
    /// there. If not, the partition is to be read again from `expected`.
    pub fn believe(&mut self, expected: i64, found: i64, rebalances: u64) -> bool {
        if found - expected <= MARKER {
            return true;
        }
        let gap = Some((expected..found, rebalances));
        if self.seen == gap {
            self.seen = None;
            return true;
        }
        self.seen = gap;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_needs_no_proof() {
        let mut gaps = Gaps::default();
        assert!(gaps.believe(5, 5, 0) && gaps.believe(5, 6, 0) && gaps.believe(5, 4, 0));
    }

    #[test]
    fn a_longer_gap_is_believed_when_it_is_seen_again() {
        let mut gaps = Gaps::default();
        assert!(!gaps.believe(5, 7, 3));
        assert!(gaps.believe(5, 7, 3));
        assert!(!gaps.believe(5, 7, 3), "each is proved for itself");
    }

    #[test]
    fn another_gap_or_a_rebalance_between_proves_nothing() {
        let mut gaps = Gaps::default();
        assert!(!gaps.believe(5, 7, 3));
        assert!(!gaps.believe(5, 8, 3), "it ends elsewhere");
        assert!(!gaps.believe(5, 8, 4), "the partition was paused between");
        assert!(!gaps.believe(6, 8, 4), "it begins elsewhere");
        assert!(gaps.believe(6, 8, 4));
    }
}
