//! What [`verify`](super::verify) found.

use std::time::Duration;

use flight::offsets::Offsets;
use serde::Serialize;

/// The whole account.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nothing is missing, doubled or changed, and the ingester has caught up.
    pub ok: bool,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Each source that has a checkpoint.
    pub sources: Vec<SourceReport>,
    /// Each partition of the topic.
    pub partitions: Vec<PartitionLag>,
    /// Sources in the tables that have no checkpoint.
    pub unknown_sources: Vec<String>,
    /// Dead letters that could not be decoded, so that no source offset is known of them.
    pub dead_letters_without_identity: u64,
    /// How long the account took, in seconds.
    pub seconds: f64,
}

/// The account of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceReport {
    /// Name of the source.
    pub source: String,
    /// First offset that was ever produced.
    pub origin: i64,
    /// First offset that has not been produced.
    pub checkpoint: i64,
    /// Offsets between the two.
    pub expected: i64,
    /// Rows with these offsets.
    pub seen: u64,
    /// Different offsets among them.
    pub distinct: u64,
    /// Offsets that the producer passed over in an outage and is sending beside live events: not there yet,
    /// and not missing.
    pub pending_count: u64,
    /// The first hundred ranges of them.
    pub pending: Vec<Offsets>,
    /// Offsets that are neither in the tables, nor among the dead letters, nor pending.
    pub missing_count: u64,
    /// The first hundred ranges of them.
    pub missing: Vec<Offsets>,
    /// Offsets that are in the tables more than once.
    pub duplicated_count: u64,
    /// The first hundred of them.
    pub duplicated: Vec<i64>,
    /// Offsets that are among the dead letters.
    pub dead_letters: u64,
    /// Those of them that somebody has given up, with `contrail dlq discard`.
    pub discarded: u64,
    /// Rows at or above the checkpoint: produced since the checkpoint was read.
    pub beyond_checkpoint: u64,
    /// Rows by Kafka partition.
    pub partitions: Vec<PartitionReport>,
    /// Comparison with what the simulator regenerates; absent for other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
}

/// Rows of one source that came through one Kafka partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Kafka partition.
    pub partition: u32,
    /// Rows.
    pub seen: u64,
    /// Different offsets among them.
    pub distinct: u64,
}

/// How far one partition has been ingested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionLag {
    /// Kafka partition.
    pub partition: i32,
    /// End of the log when the account began.
    pub end: i64,
    /// What the ingester has closed; absent if it has committed nothing.
    pub committed: Option<i64>,
    /// Offsets between the two.
    pub lag: i64,
}

/// Rows compared with what the simulator regenerates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Rows compared.
    pub checked: u64,
    /// Rows that differ.
    pub changed_count: u64,
    /// Offsets of the first hundred of them.
    pub changed: Vec<i64>,
}

impl Report {
    pub(super) fn new(
        sources: Vec<SourceReport>,
        partitions: Vec<PartitionLag>,
        unknown_sources: Vec<String>,
        dead_letters_without_identity: u64,
        took: Duration,
    ) -> Self {
        let mut problems = Vec::new();
        for source in &sources {
            let name = &source.source;
            if source.missing_count > 0 {
                problems.push(format!(
                    "{name}: {} offsets are missing",
                    source.missing_count
                ));
            }
            if source.duplicated_count > 0 {
                problems.push(format!(
                    "{name}: {} offsets are there more than once",
                    source.duplicated_count
                ));
            }
            if let Some(contents) = &source.contents
                && contents.changed_count > 0
            {
                problems.push(format!(
                    "{name}: {} rows differ from their events",
                    contents.changed_count
                ));
            }
        }
        let lag: i64 = partitions.iter().map(|partition| partition.lag).sum();
        if lag > 0 {
            problems.push(format!(
                "the ingester has not caught up: {lag} Kafka offsets are not closed"
            ));
        }
        Self {
            ok: problems.is_empty(),
            problems,
            sources,
            partitions,
            unknown_sources,
            dead_letters_without_identity,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_makes_the_report_not_ok() {
        let clean = SourceReport {
            source: "mock".into(),
            origin: 0,
            checkpoint: 10,
            expected: 10,
            seen: 10,
            distinct: 10,
            pending_count: 7,
            pending: vec![],
            missing_count: 0,
            missing: vec![],
            duplicated_count: 0,
            duplicated: vec![],
            dead_letters: 0,
            discarded: 0,
            beyond_checkpoint: 0,
            partitions: vec![],
            contents: None,
        };
        let report = |source: SourceReport, lag: i64| {
            let lag = PartitionLag {
                partition: 0,
                end: 10,
                committed: Some(10 - lag),
                lag,
            };
            Report::new(vec![source], vec![lag], vec![], 0, Duration::ZERO)
        };
        assert!(report(clean.clone(), 0).ok);
        assert!(!report(clean.clone(), 1).ok);
        assert!(
            !report(
                SourceReport {
                    missing_count: 1,
                    ..clean.clone()
                },
                0
            )
            .ok
        );
        assert!(
            !report(
                SourceReport {
                    duplicated_count: 1,
                    ..clean.clone()
                },
                0
            )
            .ok
        );
        let contents = Contents {
            checked: 10,
            changed_count: 1,
            changed: vec![3],
        };
        assert!(
            !report(
                SourceReport {
                    contents: Some(contents),
                    ..clean
                },
                0
            )
            .ok
        );
    }
}
