//! From the lines of a batch to the records that are made of them, while the batch before waits for its
//! commit.

use std::ops::Range;

use flight::avro::{Encoder, Record};

use crate::event::{self, Rejection};

/// Makes records of one source's events.
#[derive(Debug, Clone)]
pub(crate) struct RecordEncoder {
    avro: Encoder,
    source: String,
    /// Most bytes of key and value.
    limit: usize,
}

impl RecordEncoder {
    pub(crate) fn new(schema_id: u32, source: &str, limit: usize) -> Self {
        Self {
            avro: Encoder::new(schema_id),
            source: source.to_owned(),
            limit,
        }
    }

    /// Name of the source.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Makes a record of each line, of which the first is the event at offset `first`.
    pub(crate) fn encode(&self, first: i64, body: &[u8], lines: &[Range<usize>]) -> Records {
        let mut records = Records {
            first,
            // A record is smaller than the text that it is made of, but for odd ones.
            bytes: Vec::with_capacity(body.len()),
            ends: Vec::with_capacity(lines.len()),
            rejections: Vec::new(),
        };
        for (offset, line) in (first..).zip(lines) {
            self.add(offset, &body[line.clone()], &mut records);
        }
        records
    }

    fn add(&self, offset: i64, line: &[u8], records: &mut Records) {
        let start = records.bytes.len();
        let rejection = match event::read(line) {
            Ok(event) => {
                let position = event.position();
                records
                    .bytes
                    .extend_from_slice(position.flight_id.as_bytes());
                let key_end = records.bytes.len();
                let record = Record {
                    source: &self.source,
                    source_offset: offset,
                    position,
                };
                self.avro.encode(&record, &mut records.bytes);
                let size = records.bytes.len() - start;
                if size <= self.limit {
                    records.ends.push([key_end, records.bytes.len()]);
                    return;
                }
                records.bytes.truncate(start);
                Rejection {
                    reason: "too_large",
                    detail: format!(
                        "{size} bytes of key and value, the topic takes {}",
                        self.limit
                    ),
                }
            }
            Err(rejection) => rejection,
        };
        records.rejections.push((records.ends.len(), rejection));
        records.bytes.extend_from_slice(line);
        records.ends.push([start, records.bytes.len()]);
    }
}

/// One event, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    /// A record of a position.
    Position {
        /// The flight.
        key: &'a [u8],
        /// Avro.
        value: &'a [u8],
    },
    /// A dead letter.
    Rejected {
        /// The event as it came.
        line: &'a [u8],
        /// Why.
        rejection: &'a Rejection,
    },
}

/// The records of a batch, one for each event, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Records {
    first: i64,
    bytes: Vec<u8>,
    /// Where each record's key ends, and where its value does. It begins where the one before ends.
    ends: Vec<[usize; 2]>,
    /// By their index. The line is the value.
    rejections: Vec<(usize, Rejection)>,
}

impl Records {
    /// Offset of each event, and what became of it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, Outcome<'_>)> {
        let mut start = 0;
        let mut rejections = self.rejections.iter().peekable();
        (self.first..).zip(self.ends.iter().enumerate()).map(
            move |(offset, (index, [key_end, end]))| {
                let (key, value) = (&self.bytes[start..*key_end], &self.bytes[*key_end..*end]);
                start = *end;
                let rejected = rejections.next_if(|(rejected, _)| *rejected == index);
                let outcome = match rejected {
                    Some((_, rejection)) => Outcome::Rejected {
                        line: value,
                        rejection,
                    },
                    None => Outcome::Position { key, value },
                };
                (offset, outcome)
            },
        )
    }

    /// The first offset behind them.
    pub(crate) fn end(&self) -> i64 {
        self.first + self.ends.len() as i64
    }

    /// Bytes that they take.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.len() * size_of::<[usize; 2]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flight::avro::HEADER_BYTES;
    use flight::avro::datum;

    const GOOD: &str = r#"{"flight_id":"FDB892-1","callsign":"FDB892","longitude":55.36441,"latitude":25.25277,"altitude":35000,"gspeed":447.3,"timestamp":1767225600000}"#;

    fn lines(body: &str) -> Vec<Range<usize>> {
        let mut start = 0;
        body.split('\n')
            .map(|line| {
                let range = start..start + line.len();
                start = range.end + 1;
                range
            })
            .collect()
    }

    #[test]
    fn each_event_keeps_its_offset_whatever_its_neighbours_are() {
        let long = GOOD.replace("FDB892-1", &"x".repeat(200));
        let body = [GOOD, "not json", "", &long, GOOD].join("\n");
        let encoder = RecordEncoder::new(7, "mock", 150);
        let records = encoder.encode(5, body.as_bytes(), &lines(&body));
        assert_eq!(records.end(), 10);
        let mut reasons = Vec::new();
        for ((offset, outcome), line) in records.iter().zip(body.split('\n')) {
            match outcome {
                Outcome::Position { key, value } => {
                    assert_eq!(key, b"FDB892-1");
                    assert_eq!(value[..HEADER_BYTES], [0, 0, 0, 0, 7]);
                    let record = datum::read(&value[HEADER_BYTES..]).unwrap();
                    assert_eq!((record.source, record.source_offset), ("mock", offset));
                    assert_eq!(record.position.longitude, 55.36441);
                }
                Outcome::Rejected {
                    line: kept,
                    rejection,
                } => {
                    assert_eq!(kept, line.as_bytes(), "whole");
                    reasons.push((offset, rejection.reason));
                }
            }
        }
        assert_eq!(
            reasons,
            [
                (6, "malformed_json"),
                (7, "malformed_json"),
                (8, "too_large")
            ]
        );
    }

    #[test]
    fn a_batch_of_nothing_ends_where_it_begins() {
        let records = RecordEncoder::new(7, "mock", 150).encode(3, b"", &[]);
        assert_eq!((records.end(), records.iter().count()), (3, 0));
    }
}
