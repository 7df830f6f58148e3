//! What ends a session, and what ends the process.

use flight::kafka::{KafkaError, KafkaSettings};
use flight::registry::RegistryError;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;
use thiserror::Error;

use crate::source::SourceError;

/// Exit code: there is no checkpoint, and beginning anywhere could lose or double events.
pub const EXIT_NO_CHECKPOINT: u8 = 3;
/// Exit code: a newer producer of the same source has taken over.
pub const EXIT_FENCED: u8 = 4;

/// The process must end: trying again does not help, or would do harm.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fatal {
    /// Records are there, and nothing says up to which event.
    #[error(
        "refusing to start: topic {checkpoints} has no checkpoint of any source, but topic {positions} has records, so source {name} may have been sent already and nothing says how far. Restore {checkpoints}, or set source.initial_offset = N to begin at offset N (its live edge is {live_edge}); records below N are then not sent again, records from N on are sent even if they are there"
    )]
    NoCheckpoint {
        /// Topic of checkpoints.
        checkpoints: String,
        /// Topic of positions.
        positions: String,
        /// Name of the source.
        name: String,
        /// The source's live edge.
        live_edge: i64,
    },
    /// The operator's beginning is before the first event that the source has.
    #[error(
        "refusing to start: source.initial_offset = {wanted}, but source {name} has forgotten what is before offset {origin}; set source.initial_offset to {origin} or later"
    )]
    BeforeOrigin {
        /// `source.initial_offset`.
        wanted: i64,
        /// Name of the source.
        name: String,
        /// The first offset that the source can give.
        origin: i64,
    },
    /// Another producer of the same source.
    #[error(
        "fenced by session {session} on host {host}: that producer took over source {name} and this one stops, so that they do not fight. Run one producer for each source; nothing is lost"
    )]
    Fenced {
        /// Name of the source.
        name: String,
        /// The other's session.
        session: String,
        /// The other's host.
        host: String,
    },
    /// The process has not what it needs.
    #[error("cannot start: {0}")]
    Start(String),
}

impl Fatal {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoCheckpoint { .. } | Self::BeforeOrigin { .. } => EXIT_NO_CHECKPOINT,
            Self::Fenced { .. } => EXIT_FENCED,
            Self::Start(_) => 1,
        }
    }
}

/// A session is over. Unless it is [`Fatal`](Self::Fatal), the next one begins after a while.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The process must end.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The process was told to stop.
    #[error("stopping")]
    Stopped,
    /// The source is away, or another one answers at its address.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry is away, or refuses the schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Topics cannot be made or described.
    #[error(transparent)]
    Topics(#[from] KafkaError),
    /// A topic takes only messages too small for what must go through it.
    #[error(
        "topic {topic} takes messages of {found} bytes at most and needs {needed}: raise its max.message.bytes"
    )]
    MessageLimit {
        /// Topic.
        topic: String,
        /// Its `max.message.bytes`.
        found: usize,
        /// What is needed.
        needed: usize,
    },
    /// Kafka does not do what was asked.
    #[error("{doing}: {error}")]
    Kafka {
        /// What was under way.
        doing: &'static str,
        /// What the client says.
        error: ClientError,
    },
    /// Kafka shut this producer out: a newer one is there, or a transaction took too long.
    #[error("{doing}: shut out by Kafka ({error})")]
    ShutOut {
        /// What was under way.
        doing: &'static str,
        /// What the client says.
        error: ClientError,
    },
    /// Kafka did not answer in time.
    #[error("{doing}: no answer from Kafka within {seconds} s")]
    Timeout {
        /// What was under way.
        doing: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The checkpoint topic could not be read to its end.
    #[error(
        "topic {topic} could not be read up to offset {end} within {seconds} s: another producer holds a transaction open there, or Kafka is slow"
    )]
    CheckpointsUnread {
        /// Topic of checkpoints.
        topic: String,
        /// The end that was to be reached.
        end: i64,
        /// How long was waited.
        seconds: u64,
    },
    /// A partition cannot be looked into.
    #[error(
        "topic {topic} partition {partition} is held back at offset {stable} of {end} for {seconds} s by a transaction of another producer: find it with Kafka's `kafka-transactions.sh find-hanging`, and abort it"
    )]
    HeldBack {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Its last stable offset.
        stable: i64,
        /// Its end.
        end: i64,
        /// How long was waited.
        seconds: u64,
    },
    /// The source's checkpoint is there and is not one.
    #[error(
        "topic {topic} offset {offset} is not a checkpoint of source {name}: {reason}. Write a right one with key {name}, or delete the record and set source.initial_offset"
    )]
    CheckpointUnreadable {
        /// Topic of checkpoints.
        topic: String,
        /// Offset of the record.
        offset: i64,
        /// Name of the source.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl SessionError {
    /// An error of the Kafka client, told apart by whether it shuts this producer out.
    pub(crate) fn kafka(doing: &'static str, error: ClientError) -> Self {
        if shuts_out(&error) {
            Self::ShutOut { doing, error }
        } else {
            Self::Kafka { doing, error }
        }
    }

    /// An error of reading a topic: it may be that we have no right to.
    pub(crate) fn reading(
        kafka: &KafkaSettings,
        topic: &str,
        doing: &'static str,
        error: ClientError,
    ) -> Self {
        let right = || format!("Read and Describe on topic {topic}");
        match KafkaError::denied(kafka, &error, doing, right) {
            Some(denied) => Self::Topics(denied),
            None => Self::kafka(doing, error),
        }
    }

    /// All that [`concerns`](Self::concerns) gives.
    pub(crate) const CONCERNS: [&'static str; 3] = ["source", "registry", "kafka"];

    /// The readiness condition that this error is about, and the label of its metric.
    pub(crate) fn concerns(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Registry(_) => "registry",
            _ => "kafka",
        }
    }
}

fn shuts_out(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn being_shut_out_is_told_from_other_errors() {
        let error = |code| SessionError::kafka("committing", ClientError::MessageProduction(code));
        assert!(matches!(
            error(RDKafkaErrorCode::InvalidProducerEpoch),
            SessionError::ShutOut { .. }
        ));
        assert!(matches!(
            error(RDKafkaErrorCode::QueueFull),
            SessionError::Kafka { .. }
        ));
    }
}
