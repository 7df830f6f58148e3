//! How far a source has been sent to Kafka. A checkpoint is committed in the same Kafka transaction
//! as the events below it, so neither can be there without the other.

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
    /// The first offset that has not been sent: everything from `origin` up to here is in Kafka.
    pub next_offset: i64,
    /// Which run of the producer wrote this. A producer that was fenced finds here who took over.
    pub session: String,
    /// Host of that run.
    pub host: String,
    /// When, in milliseconds UTC.
    pub committed_at_ms: i64,
}

impl SourceCheckpoint {
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
