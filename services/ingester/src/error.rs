//! What can go wrong in the ingester.

use thiserror::Error;

/// An error of the ingester.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The partition was taken from us, or the service is ending: what was under way is left to
    /// whoever is assigned the partition next.
    #[error("the partition is no longer ours")]
    Revoked,
    /// The log has gone back: the topic was made anew, or the cluster lost the end of it.
    #[error(
        "partition {partition} gives offset {offset} where {expected} or later was due: the topic was made anew, or lost its end; reading it again from its beginning, each record by its identity"
    )]
    LogWentBack {
        /// Partition.
        partition: i32,
        /// First offset that was due.
        expected: i64,
        /// What came.
        offset: i64,
    },
    /// The topic was deleted and made again under its name: offsets mean something else now.
    #[error(
        "partition {partition}: the topic was made anew, its id was {was} and is {found}; {unpublished} records of the old one that were not in ClickHouse yet went with it (replay them from their source); reading the new one from its beginning, each record by its identity"
    )]
    TopicRemade {
        /// Partition.
        partition: i32,
        /// Id of the topic that was being read.
        was: String,
        /// Id of the topic there is.
        found: String,
        /// Records that were read and not published.
        unpublished: usize,
    },
    /// Kafka refuses or does not answer.
    #[error("{action}: {source}")]
    Kafka {
        /// What was asked.
        action: String,
        /// What the client says.
        source: rdkafka::error::KafkaError,
    },
    /// See [`flight::kafka::KafkaError`].
    #[error(transparent)]
    Cluster(#[from] flight::kafka::KafkaError),
    /// See [`flight::registry::RegistryError`].
    #[error(transparent)]
    Registry(#[from] flight::registry::RegistryError),
    /// See [`crate::store::StoreError`].
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// See [`crate::migrate::MigrateError`].
    #[error(transparent)]
    Migrate(#[from] crate::migrate::MigrateError),
    /// The thread of a partition ended, by a fault in the program.
    #[error("the thread of a partition ended; its log line says why; restart the ingester")]
    PartitionEnded,
    /// Another process has this member's name.
    #[error(
        "fenced: another ingester has joined group {group} as group.instance_id {instance}; give each its own name"
    )]
    Fenced {
        /// Consumer group.
        group: String,
        /// Name of the member.
        instance: String,
    },
    /// The admin endpoint cannot listen.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
