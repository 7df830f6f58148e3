//! Dead letters: what could not be decoded or cannot be true, whole, with headers that say why.
//!
//! A dead letter's key names the place it came from, so that one that is written twice (after a
//! crash) counts once. A payload that is larger than a broker takes is cut into chunks under one
//! key, numbered in their headers.

use rdkafka::message::{Header, Headers, OwnedHeaders};
use serde::{Deserialize, Serialize};

/// Default topic of dead letters.
pub const TOPIC: &str = "flight.positions.dlq";
/// Largest payload and headers of one dead-letter record together, in bytes: below Kafka's default of
/// 1 MiB a message.
pub const CHUNK_BYTES: usize = 900_000;
/// Smallest chunk of a payload, however large the headers are.
const LEAST_CHUNK_BYTES: usize = 10_000;

/// Header: why, as a short code.
pub const REASON: &str = "contrail-reason";
/// Header: why, for a person.
pub const DETAIL: &str = "contrail-detail";
/// Header: name of the source, where it is known.
pub const SOURCE: &str = "contrail-source";
/// Header: offset in the source, where it is known.
pub const SOURCE_OFFSET: &str = "contrail-source-offset";
/// Header: `topic:partition:offset` of the record, where it came from Kafka.
pub const ORIGIN: &str = "contrail-origin";
/// Header: id of the writer's schema, where the record has one.
pub const SCHEMA_ID: &str = "contrail-schema-id";
/// Header: when its source placed the event, in milliseconds UTC, or else when the record was made.
pub const OBSERVED_MS: &str = "contrail-letter-observed-ms";
/// Header of a record without a value: the dead letter of the same key was sent on its way again.
pub const REDRIVEN: &str = "contrail-redriven";
/// Header of a record without a value: the dead letter of the same key was given up, and why.
pub const DISCARDED: &str = "contrail-discarded";
/// Header: `I/N`, the I-th of N chunks, on payloads that had to be cut.
pub const CHUNK: &str = "contrail-chunk";
/// Prefix of the headers that the record had itself.
pub const ORIGINAL_PREFIX: &str = "original-";
/// Header: key of the original record, where it had one.
pub const ORIGINAL_KEY: &str = "contrail-original-key";

/// Where a dead letter came from. It is the dead letter's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// An event that its source sent malformed.
    Source {
        /// Name of the source.
        source: String,
        /// Offset in it.
        source_offset: i64,
    },
    /// A record of a topic.
    Record {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source {
                source,
                source_offset,
            } => write!(f, "source:{source}:{source_offset}"),
            Self::Record {
                topic,
                partition,
                offset,
            } => write!(f, "{topic}:{partition}:{offset}"),
        }
    }
}

/// One dead letter before it is written.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// Where it came from.
    pub place: Place,
    /// Why, as a short code from a fixed set.
    pub reason: &'a str,
    /// Why, for a person.
    pub detail: String,
    /// Source and offset in it, where they are known.
    pub identity: Option<(String, i64)>,
    /// Id of the writer's schema, where the record has one.
    pub schema_id: Option<u32>,
    /// When its source placed the event, or else when the record was made, in milliseconds UTC.
    pub observed_ms: Option<i64>,
    /// Key of the record.
    pub original_key: Option<&'a [u8]>,
    /// Headers of the record.
    pub original_headers: Vec<(String, Vec<u8>)>,
    /// The bytes as they came.
    pub payload: &'a [u8],
}

/// One Kafka record of a dead letter.
#[derive(Debug)]
pub struct DeadLetterRecord {
    /// Key: the [`Place`].
    pub key: Vec<u8>,
    /// The payload, or one chunk of it.
    pub payload: Vec<u8>,
    /// Why, and from where.
    pub headers: OwnedHeaders,
}

impl DeadLetter<'_> {
    /// The records to write: one, or as many as there are chunks.
    pub fn records(&self) -> Vec<DeadLetterRecord> {
        let key = self.place.to_string().into_bytes();
        // Every chunk carries all the headers.
        let headers = self.original_headers.iter();
        let beside: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        let beside = beside + self.original_key.map_or(0, <[u8]>::len);
        let chunk_bytes = CHUNK_BYTES.saturating_sub(beside).max(LEAST_CHUNK_BYTES);
        let chunks: Vec<&[u8]> = match self.payload {
            [] => vec![&[]],
            payload => payload.chunks(chunk_bytes).collect(),
        };
        let total = chunks.len();
        let record = |(index, chunk): (usize, &[u8])| {
            let mut headers = self.headers();
            if total > 1 {
                headers = add(headers, CHUNK, format!("{}/{total}", index + 1).as_bytes());
            }
            DeadLetterRecord {
                key: key.clone(),
                payload: chunk.to_vec(),
                headers,
            }
        };
        chunks.into_iter().enumerate().map(record).collect()
    }

    fn headers(&self) -> OwnedHeaders {
        // The detail may quote the input: bound it, the payload has it whole.
        let detail: String = self.detail.chars().take(1000).collect();
        let mut headers = add(OwnedHeaders::new(), REASON, self.reason.as_bytes());
        headers = add(headers, DETAIL, detail.as_bytes());
        if let Some((source, offset)) = &self.identity {
            headers = add(headers, SOURCE, source.as_bytes());
            headers = add(headers, SOURCE_OFFSET, offset.to_string().as_bytes());
        }
        if let Place::Record { .. } = self.place {
            headers = add(headers, ORIGIN, self.place.to_string().as_bytes());
        }
        if let Some(id) = self.schema_id {
            headers = add(headers, SCHEMA_ID, id.to_string().as_bytes());
        }
        if let Some(observed_ms) = self.observed_ms {
            headers = add(headers, OBSERVED_MS, observed_ms.to_string().as_bytes());
        }
        if let Some(key) = self.original_key {
            headers = add(headers, ORIGINAL_KEY, key);
        }
        for (name, value) in &self.original_headers {
            headers = add(headers, &format!("{ORIGINAL_PREFIX}{name}"), value);
        }
        headers
    }
}

fn add(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header {
        key,
        value: Some(value),
    })
}

/// The text of a header, if it is there.
pub fn header<'a, H: Headers>(headers: &'a H, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|header| header.key == name)
        .and_then(|header| std::str::from_utf8(header.value?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: &[u8]) -> DeadLetter<'_> {
        DeadLetter {
            place: Place::Record {
                topic: "flight.positions".into(),
                partition: 3,
                offset: 17,
            },
            reason: "datum",
            detail: "it ends inside field callsign".into(),
            identity: Some(("mock".into(), 5)),
            schema_id: Some(2),
            observed_ms: Some(1_767_225_600_000),
            original_key: Some(b"FDB892-1"),
            original_headers: vec![("traceparent".into(), b"00-x".to_vec())],
            payload,
        }
    }

    #[test]
    fn a_dead_letter_says_where_from_and_why() {
        let records = letter(b"bytes").records();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key, b"flight.positions:3:17");
        assert_eq!(records[0].payload, b"bytes");
        let headers = &records[0].headers;
        assert_eq!(header(headers, REASON), Some("datum"));
        assert_eq!(header(headers, ORIGIN), Some("flight.positions:3:17"));
        assert_eq!(header(headers, SOURCE_OFFSET), Some("5"));
        assert_eq!(header(headers, OBSERVED_MS), Some("1767225600000"));
        assert_eq!(header(headers, "original-traceparent"), Some("00-x"));
        assert_eq!(header(headers, CHUNK), None);
    }

    #[test]
    fn a_large_payload_is_cut_and_can_be_put_together() {
        let payload: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
        let records = letter(&payload).records();
        let chunks: Vec<_> = records.iter().map(|r| header(&r.headers, CHUNK)).collect();
        assert_eq!(chunks, [Some("1/3"), Some("2/3"), Some("3/3")]);
        assert_eq!(
            records
                .iter()
                .flat_map(|r| r.payload.clone())
                .collect::<Vec<_>>(),
            payload
        );
        assert_eq!(
            letter(b"").records().len(),
            1,
            "an empty record is a record"
        );
        let mut letter = letter(&payload[..860_000]);
        letter
            .original_headers
            .push(("big".into(), vec![0; 139_000]));
        assert_eq!(letter.records().len(), 2, "headers need room too");
    }
}
