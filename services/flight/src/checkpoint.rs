//! How far a source has been sent to Kafka. A checkpoint is committed in the same Kafka transaction
//! as the events that it covers, so neither can be there without the other.

use crate::offsets::Offsets;
use serde::{Deserialize, Serialize};

/// Compacted topic of checkpoints: key is the source's name, value is [`SourceCheckpoint`] as JSON.
pub const TOPIC: &str = "flight.source-checkpoints";

/// What the producer knows of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCheckpoint {
    /// Name of the source.
    pub source: String,
    /// The first offset that was ever sent: where the verifier begins to count.
    pub origin: i64,
    /// The next offset of those that are sent as they come: everything from `origin` up to here is in
    /// Kafka, but for `holes`.
    pub next_offset: i64,
    /// Offsets below `next_offset` that the producer passed over to be live again after an outage, and is
    /// sending beside what comes: in their order, apart from each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Offsets>,
    /// Which run of the producer wrote this. A producer that was fenced finds here who took over.
    pub session: String,
    /// Host of that run.
    pub host: String,
    /// When, in milliseconds UTC.
    pub committed_at_ms: i64,
}

impl SourceCheckpoint {
    /// Whether an event that was ever to be sent is in Kafka, by this checkpoint.
    pub fn covers(&self, offset: i64) -> bool {
        offset < self.next_offset && !self.holes.iter().any(|hole| hole.contains(offset))
    }

    /// What makes the offsets of this checkpoint senseless, if anything does.
    pub fn contradiction(&self) -> Option<String> {
        let (origin, next) = (self.origin, self.next_offset);
        if origin < 0 || next < origin {
            return Some(format!(
                "origin {origin} and next_offset {next} make no range"
            ));
        }
        let mut from = origin;
        for Offsets { first, last } in &self.holes {
            if *first < from || last < first || *last >= next {
                return Some(format!(
                    "the hole {first} to {last} is not between {from} and next_offset {next}"
                ));
            }
            from = last + 1;
        }
        None
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of strings and numbers is always JSON")
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// It is not a checkpoint.
    pub fn from_json(value: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(holes: &[(i64, i64)]) -> SourceCheckpoint {
        SourceCheckpoint {
            source: "mock".into(),
            origin: 10,
            next_offset: 100,
            holes: holes
                .iter()
                .map(|&(first, last)| Offsets { first, last })
                .collect(),
            session: "s".into(),
            host: "h".into(),
            committed_at_ms: 1,
        }
    }

    #[test]
    fn without_holes_it_is_written_as_ever() {
        let json = String::from_utf8(checkpoint(&[]).to_json()).unwrap();
        assert!(!json.contains("holes"), "{json}");
        let holes = checkpoint(&[(20, 29), (40, 40)]);
        for checkpoint in [checkpoint(&[]), holes] {
            let read = SourceCheckpoint::from_json(&checkpoint.to_json()).unwrap();
            assert_eq!(read, checkpoint);
        }
    }

    #[test]
    fn what_is_in_a_hole_is_not_covered() {
        let checkpoint = checkpoint(&[(20, 29), (40, 40)]);
        let covered = [10, 19, 30, 39, 41, 99];
        assert!(covered.iter().all(|offset| checkpoint.covers(*offset)));
        let open = [20, 29, 40, 100];
        assert!(open.iter().all(|offset| !checkpoint.covers(*offset)));
    }

    #[test]
    fn holes_that_cannot_be_are_named() {
        for holes in [&[][..], &[(10, 99)], &[(10, 10), (11, 12)], &[(99, 99)]] {
            assert_eq!(checkpoint(holes).contradiction(), None, "{holes:?}");
        }
        for holes in [
            &[(9, 12)][..],
            &[(20, 19)],
            &[(90, 100)],
            &[(20, 30), (30, 31)],
        ] {
            let why = checkpoint(holes).contradiction().unwrap();
            assert!(why.contains("hole"), "{holes:?}: {why}");
        }
    }
}
