//! `contrail verify`: accounts for every offset of every source, from where it began to where the
//! producer's checkpoint stands. Each must be in the tables once, or among the dead letters.
//!
//! The lower bound is the origin that the first checkpoint recorded, the upper bound is the last
//! checkpoint, so a tail that was cut off shows as missing. What the checkpoint says was passed over in an
//! outage, and is not there yet, is told apart as pending. Contents are compared with what the
//! simulator regenerates from the source's name.

mod contents;
pub(crate) mod kafka;
pub(crate) mod ranges;
mod report;
pub(crate) mod tables;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flight::checkpoint::SourceCheckpoint;
use flight::clickhouse::ClickhouseSettings;
use flight::kafka::KafkaSettings;
use flight::offsets;
use flight::registry::RegistrySettings;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::component::Component;
use crate::components::Context;

pub use contents::Sample;
pub use report::{Contents, PartitionLag, PartitionReport, Report, SourceReport};

use kafka::{Cluster, DeadLetterCensus};
use tables::Tables;

/// How many ranges and offsets a report lists of each kind; counts are always whole.
const LISTED: usize = 100;

/// What to verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySettings {
    /// The cluster.
    pub kafka: KafkaSettings,
    /// Topic of positions.
    pub topic: String,
    /// Topic of dead letters.
    pub dead_letter_topic: String,
    /// Topic of checkpoints.
    pub checkpoint_topic: String,
    /// Consumer group of the ingester.
    pub group: String,
    /// The schema registry.
    pub registry: RegistrySettings,
    /// ClickHouse.
    pub clickhouse: ClickhouseSettings,
    /// How long to wait until what the checkpoint covers has been ingested.
    pub wait: Duration,
    /// How many events of each source to compare with what the simulator regenerates.
    pub sample: Sample,
}

impl VerifySettings {
    /// What `contrail verify` asks of a stack: a wait of 30 s, a sample of 10,000 events.
    pub fn of(context: &Context) -> Self {
        let stack = &context.settings;
        // The services are configured by their environment, so names that were changed stand there.
        let named = |component: Component, variable: &str, default: &str| {
            let given = stack
                .env(component)
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(variable))
                .map(|(_, value)| value.clone());
            given
                .or_else(|| std::env::var(variable).ok())
                .unwrap_or_else(|| default.to_owned())
        };
        Self {
            kafka: context.kafka(),
            topic: named(
                Component::Ingester,
                "FLIGHT_INGESTER_TOPIC",
                "flight.positions",
            ),
            dead_letter_topic: named(
                Component::Ingester,
                "FLIGHT_INGESTER_DEAD_LETTER_TOPIC",
                flight::dead_letter::TOPIC,
            ),
            checkpoint_topic: named(
                Component::Producer,
                "FLIGHT_PRODUCER_TOPICS__CHECKPOINTS__NAME",
                flight::checkpoint::TOPIC,
            ),
            group: named(
                Component::Ingester,
                "FLIGHT_INGESTER_GROUP__ID",
                "flight-ingester",
            ),
            registry: context.registry(),
            clickhouse: context.clickhouse(),
            wait: Duration::from_secs(30),
            sample: Sample::Events(10_000),
        }
    }
}

/// The account cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Kafka does not answer.
    #[error("cannot {action} at {brokers}: {source}")]
    Kafka {
        /// What was asked.
        action: String,
        /// The cluster.
        brokers: String,
        /// What the client says.
        source: Box<rdkafka::error::KafkaError>,
    },
    /// Kafka cannot be reached, or does not let us do what is needed.
    #[error("kafka at {brokers}: {source}")]
    Cluster {
        /// The cluster.
        brokers: String,
        /// Why.
        source: Box<flight::kafka::KafkaError>,
    },
    /// ClickHouse does not answer, or refuses.
    #[error("cannot ask ClickHouse at {url} for {what}: {reason}")]
    Clickhouse {
        /// The server.
        url: String,
        /// What was asked.
        what: &'static str,
        /// What it, or the client, says.
        reason: String,
    },
    /// The registry cannot be asked.
    #[error("cannot ask the registry at {url}: {reason}")]
    Registry {
        /// The registry.
        url: String,
        /// Why.
        reason: String,
    },
    /// There is nothing to account for.
    #[error("topic {0} has no checkpoint: nothing was ever produced, or the topic was deleted")]
    NoCheckpoint(String),
    /// A checkpoint is not one.
    #[error("topic {topic} has a record that is not a checkpoint: {source}")]
    Checkpoint {
        /// The topic.
        topic: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Makes the account.
///
/// # Errors
/// See [`VerifyError`]. What the account finds is in the report, not an error.
pub async fn verify(settings: &VerifySettings) -> Result<Report, VerifyError> {
    let began = Instant::now();
    let (cluster, checkpoints, partitions) = settled(settings).await?;
    let letters = cluster
        .clone()
        .blocking(|cluster| cluster.dead_letters())
        .await?;
    let tables = Tables::new(settings)?;
    let mut sources = Vec::new();
    for checkpoint in &checkpoints {
        sources.push(account(&tables, checkpoint, &letters, partitions.len(), settings).await?);
    }
    let known: BTreeSet<&str> = checkpoints.iter().map(|c| c.source.as_str()).collect();
    let unknown_sources = tables
        .sources()
        .await?
        .into_iter()
        .filter(|source| !known.contains(source.as_str()))
        .collect();
    Ok(Report::new(
        sources,
        partitions,
        unknown_sources,
        letters.without_identity,
        began.elapsed(),
    ))
}

/// The cluster, its checkpoints, and what the ingester has not closed of what they cover after it was
/// waited for.
pub(crate) async fn settled(
    settings: &VerifySettings,
) -> Result<(Cluster, Vec<SourceCheckpoint>, Vec<PartitionLag>), VerifyError> {
    let cluster = Cluster::new(settings)?;
    cluster.clone().blocking(|cluster| cluster.reach()).await?;
    // The checkpoints first: all that they cover was committed to Kafka before they could be read.
    let checkpoints = cluster
        .clone()
        .blocking(|cluster| cluster.checkpoints())
        .await?;
    if checkpoints.is_empty() {
        return Err(VerifyError::NoCheckpoint(settings.checkpoint_topic.clone()));
    }
    let lags = wait_until_ingested(&cluster, settings.wait).await?;
    Ok((cluster, checkpoints, lags))
}

/// Waits until the ingester has closed everything that was in Kafka when this began.
async fn wait_until_ingested(
    cluster: &Cluster,
    wait: Duration,
) -> Result<Vec<PartitionLag>, VerifyError> {
    let ends = cluster.clone().blocking(|cluster| cluster.ends()).await?;
    let deadline = Instant::now() + wait;
    loop {
        let ends = ends.clone();
        let lags = cluster
            .clone()
            .blocking(move |cluster| cluster.lags(&ends))
            .await?;
        if lags.iter().all(|lag| lag.lag == 0) || Instant::now() >= deadline {
            return Ok(lags);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The account of one source.
async fn account(
    tables: &Tables,
    checkpoint: &SourceCheckpoint,
    letters: &DeadLetterCensus,
    partitions: usize,
    settings: &VerifySettings,
) -> Result<SourceReport, VerifyError> {
    let (origin, next) = (checkpoint.origin, checkpoint.next_offset);
    let empty = BTreeSet::new();
    let dead = letters.by_source.get(&checkpoint.source).unwrap_or(&empty);
    let discarded = letters.discarded.get(&checkpoint.source).unwrap_or(&empty);
    let holes = tables.holes(&checkpoint.source, origin, next).await?;
    let absent = ranges::without(&holes, dead);
    let pending = ranges::common(&absent, &checkpoint.holes);
    let missing = ranges::less(&absent, &checkpoint.holes);
    let duplicates = tables.duplicates(&checkpoint.source, origin, next).await?;
    let counts = tables
        .counts(&checkpoint.source, origin, next, partitions)
        .await?;
    // What was redriven may have been mended: it need not be what the source said at first.
    let redriven = letters.redriven.get(&checkpoint.source).unwrap_or(&empty);
    let mended = dead.union(redriven).copied().collect();
    let contents = contents::compare(tables, checkpoint, &mended, settings.sample).await?;
    Ok(SourceReport {
        source: checkpoint.source.clone(),
        origin,
        checkpoint: next,
        expected: next - origin,
        seen: counts.iter().map(|p| p.seen).sum(),
        distinct: counts.iter().map(|p| p.distinct).sum(),
        pending_count: offsets::count(&pending),
        pending: pending.into_iter().take(LISTED).collect(),
        missing_count: offsets::count(&missing),
        missing: missing.into_iter().take(LISTED).collect(),
        duplicated_count: duplicates.len() as u64,
        duplicated: duplicates.into_iter().take(LISTED).collect(),
        dead_letters: dead.range(origin..next).count() as u64,
        discarded: discarded.range(origin..next).count() as u64,
        beyond_checkpoint: tables.beyond(&checkpoint.source, next).await?,
        partitions: counts,
        contents,
    })
}
