//! The range that is being inserted, as it stands in the metadata of the group's committed offset.
//!
//! Before offsets a..=b are inserted, the group commits `offset = a` with a [`RangeCommit`] that ends
//! at b; afterwards `offset = b + 1` closes it. Whoever reads an open range redoes it under the same
//! token. Kafka allows 4096 bytes of metadata (`offset.metadata.max.bytes`).

use serde::{Deserialize, Serialize};

/// What is committed beside the offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeCommit {
    /// Version of this format.
    pub v: u8,
    /// Id of the topic: offsets of a topic that was deleted and made again mean something else.
    pub topic: String,
    /// Last offset of the range being inserted; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

impl RangeCommit {
    /// The version that this code writes and reads.
    pub const VERSION: u8 = 1;

    /// Metadata for a commit.
    pub fn new(topic_id: &str, end: Option<i64>) -> Self {
        Self {
            v: Self::VERSION,
            topic: topic_id.to_owned(),
            end,
        }
    }

    /// The metadata's text.
    pub fn to_metadata(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings and numbers is always JSON")
    }
}

/// Where a partition's ingestion stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing usable is committed: begin at the log's beginning.
    Fresh {
        /// Why, for the log.
        reason: &'static str,
    },
    /// Everything below `next` is in ClickHouse.
    Closed {
        /// First offset to read.
        next: i64,
    },
    /// Everything below `first` is in ClickHouse; `first..=last` may be, in part.
    Open {
        /// First offset of the range.
        first: i64,
        /// Last offset of the range.
        last: i64,
    },
}

/// Reads a commit: the offset, if there is one, and its metadata.
pub fn standing(offset: Option<i64>, metadata: &str, topic_id: &str) -> Standing {
    let Some(next) = offset else {
        return Standing::Fresh {
            reason: "the group has committed nothing for this partition",
        };
    };
    match serde_json::from_str::<RangeCommit>(metadata) {
        Ok(commit) if commit.v != RangeCommit::VERSION => Standing::Fresh {
            reason: "the commit is of another version of the ingester",
        },
        Ok(commit) if commit.topic != topic_id => Standing::Fresh {
            reason: "the topic was deleted and made again since the commit",
        },
        Ok(RangeCommit {
            end: Some(last), ..
        }) if last >= next => Standing::Open { first: next, last },
        Ok(_) => Standing::Closed { next },
        // Somebody else's tool moved the group: what lies before may be in ClickHouse or not.
        Err(_) => Standing::Fresh {
            reason: "the commit was not made by an ingester",
        },
    }
}

/// Token of the insert that publishes offsets `first..=last`. `retry` counts the further inserts that
/// supply what the first one should have left and did not.
pub fn token(topic_id: &str, partition: i32, first: i64, last: i64, retry: u32) -> String {
    match retry {
        0 => format!("{topic_id}/{partition}/{first}-{last}"),
        retry => format!("{topic_id}/{partition}/{first}-{last}:{retry}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_range_survives_the_way_through_kafka() {
        let metadata = RangeCommit::new("topic-id", Some(41)).to_metadata();
        assert_eq!(metadata, r#"{"v":1,"topic":"topic-id","end":41}"#);
        assert_eq!(
            standing(Some(10), &metadata, "topic-id"),
            Standing::Open {
                first: 10,
                last: 41
            }
        );
        let metadata = RangeCommit::new("topic-id", None).to_metadata();
        assert_eq!(
            standing(Some(42), &metadata, "topic-id"),
            Standing::Closed { next: 42 }
        );
    }

    #[test]
    fn what_cannot_be_trusted_begins_afresh() {
        let metadata = RangeCommit::new("old", Some(41)).to_metadata();
        assert!(matches!(
            standing(Some(10), &metadata, "new"),
            Standing::Fresh { .. }
        ));
        assert!(matches!(standing(None, "", "new"), Standing::Fresh { .. }));
        assert!(matches!(
            standing(Some(10), "", "new"),
            Standing::Fresh { .. }
        ));
        assert!(matches!(
            standing(Some(10), r#"{"v":2,"topic":"new"}"#, "new"),
            Standing::Fresh { .. }
        ));
    }

    #[test]
    fn tokens_differ_by_topic_partition_range_and_retry() {
        let tokens = [
            token("t", 0, 1, 9, 0),
            token("u", 0, 1, 9, 0),
            token("t", 1, 1, 9, 0),
            token("t", 0, 1, 8, 0),
            token("t", 0, 1, 9, 1),
        ];
        let distinct: std::collections::HashSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len());
    }
}
