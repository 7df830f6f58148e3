//! The protocol between a source of events and flight-producer.
//!
//! A source is a log: event 0, 1, 2 … without holes, each of which can be asked for by its offset.
//! The simulator speaks it; a receiver's spool will. Two transports carry it: a WebSocket on which
//! the client names a start, grants credit and acknowledges, and Server-Sent Events.
//!
//! On the WebSocket all frames are text. A batch is newline-delimited JSON: one [`BatchHeader`], then
//! one event a line, so that one malformed event does not make its neighbours unreadable.

use std::ops::Range;

use memchr::{memchr, memchr_iter};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Path of the source's description.
pub const DESCRIPTOR_PATH: &str = "/v1/source";
/// Path of the WebSocket.
pub const WEBSOCKET_PATH: &str = "/v1/flights/ws";
/// Path of the Server-Sent Events.
pub const SSE_PATH: &str = "/v1/flights/stream";
/// Path of random access: `?from=OFFSET&count=N`.
pub const EVENTS_PATH: &str = "/v1/flights";
/// Largest batch frame that a source sends, in bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// What a source is and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDescriptor {
    /// Name of the source. It includes what determines the source's events, so that two sources
    /// with one name have the same events.
    pub name: String,
    /// The first offset that the source can still give.
    pub origin: i64,
    /// The live edge: the first offset that has no event yet.
    pub next: i64,
}

/// What a client says on the WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// First frame: where to begin.
    Start {
        /// First offset wanted; `None` for the live edge.
        from: Option<i64>,
        /// How many events may be sent before more credit is granted.
        credit: u64,
        /// Most events in one batch.
        max_batch: u32,
    },
    /// More events may be sent.
    Credit {
        /// How many more.
        events: u64,
    },
    /// Everything below `next` is durable at the client.
    Ack {
        /// The first offset that is not durable yet.
        next: i64,
    },
}

/// What a source says on the WebSocket, other than a batch's events: the whole text of a frame, or
/// the first line of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// Answer to `start`.
    Hello {
        /// The source.
        source: SourceDescriptor,
        /// The first offset that will be sent.
        from: i64,
    },
    /// A batch follows, line by line.
    Batch(BatchHeader),
    /// The source cannot go on; it closes the connection.
    Error {
        /// `bad_request`, `before_origin`, `beyond_end`, `overloaded`.
        code: String,
        /// For a person.
        message: String,
    },
}

/// What is known of a batch besides its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// Offset of the first event.
    pub first: i64,
    /// Number of events, one a line.
    pub count: u32,
    /// When the source placed these events in its log, in milliseconds UTC.
    pub at_ms: i64,
    /// The live edge when the batch was made.
    pub next: i64,
    /// W3C trace context of the batch, where it is sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Data of the Server-Sent Event `batch`, which precedes each group of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SseBatch {
    /// See [`BatchHeader::at_ms`].
    pub at_ms: i64,
    /// See [`BatchHeader::next`].
    pub next: i64,
    /// See [`BatchHeader::traceparent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A frame that is not of the protocol.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first line is not one of [`ServerFrame`].
    #[error("frame is not of the source protocol: {0}")]
    NotAFrame(#[from] serde_json::Error),
    /// The number of lines is not what the header says.
    #[error("batch at offset {first} announces {announced} events and carries {found}")]
    WrongCount {
        /// Offset of the first event.
        first: i64,
        /// What the header says.
        announced: u32,
        /// What there is.
        found: usize,
    },
    /// An offset below zero, or so large that counting on would overflow.
    #[error("batch begins at offset {0}, which no source can have")]
    Offset(i64),
}

/// A frame from the source, taken apart without copying its events.
#[derive(Debug)]
pub enum Frame {
    /// See [`ServerFrame::Hello`] and [`ServerFrame::Error`].
    Control(ServerFrame),
    /// A batch, and where in the frame its lines are: line i is the event at offset
    /// `header.first + i`.
    Batch(BatchHeader, Vec<Range<usize>>),
}

/// Takes a frame apart. The lines of a batch are not looked into: each is judged on its own.
///
/// # Errors
/// See [`FrameError`]: the frame cannot be trusted at all, not even its offsets.
pub fn parse_frame(frame: &[u8]) -> Result<Frame, FrameError> {
    let header_end = memchr(b'\n', frame).unwrap_or(frame.len());
    let header = match serde_json::from_slice(&frame[..header_end])? {
        ServerFrame::Batch(header) => header,
        control => return Ok(Frame::Control(control)),
    };
    if header.first < 0 || header.first.checked_add(i64::from(header.count)).is_none() {
        return Err(FrameError::Offset(header.first));
    }
    let mut lines = Vec::with_capacity(header.count.min(1 << 16) as usize);
    if header_end < frame.len() {
        let mut start = header_end + 1;
        for end in memchr_iter(b'\n', &frame[start..]) {
            let end = header_end + 1 + end;
            lines.push(start..end);
            start = end + 1;
        }
        // What follows the last line break: nothing, where each line ends with one.
        if start < frame.len() || lines.len() < header.count as usize {
            lines.push(start..frame.len());
        }
    }
    if lines.len() != header.count as usize {
        return Err(FrameError::WrongCount {
            first: header.first,
            announced: header.count,
            found: lines.len(),
        });
    }
    Ok(Frame::Batch(header, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_keeps_malformed_lines_apart() {
        let text = "{\"type\":\"batch\",\"first\":7,\"count\":2,\"at_ms\":1,\"next\":9}\n{\"ok\":1}\nnot json\n";
        let Frame::Batch(header, lines) = parse_frame(text.as_bytes()).unwrap() else {
            panic!("a batch");
        };
        assert_eq!((header.first, header.next), (7, 9));
        let lines: Vec<&str> = lines.into_iter().map(|line| &text[line]).collect();
        assert_eq!(lines, ["{\"ok\":1}", "not json"]);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        for text in [
            "",
            "{}",
            "{\"type\":\"batch\",\"first\":7,\"count\":3,\"at_ms\":1,\"next\":9}\n1\n2",
            "{\"type\":\"batch\",\"first\":-1,\"count\":0,\"at_ms\":1,\"next\":9}",
            "{\"type\":\"batch\",\"first\":9223372036854775807,\"count\":1,\"at_ms\":1,\"next\":9}\n1",
        ] {
            assert!(parse_frame(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn client_frames_are_tagged_json() {
        let start = ClientFrame::Start {
            from: Some(3),
            credit: 10,
            max_batch: 5,
        };
        let json = serde_json::to_string(&start).unwrap();
        assert_eq!(
            json,
            r#"{"type":"start","from":3,"credit":10,"max_batch":5}"#
        );
        assert_eq!(serde_json::from_str::<ClientFrame>(&json).unwrap(), start);
    }

    proptest! {
        #[test]
        fn lines_are_those_between_line_breaks(body in "[a\n]{0,12}", count in 0usize..12) {
            let text = format!(
                "{{\"type\":\"batch\",\"first\":0,\"count\":{count},\"at_ms\":1,\"next\":9}}\n{body}"
            );
            let mut expected: Vec<&str> = body.split('\n').collect();
            // A line break at the end ends the last line, or there is one more, empty line: the count tells.
            if expected.len() == count + 1 && expected.last() == Some(&"") {
                expected.pop();
            }
            match parse_frame(text.as_bytes()) {
                Ok(Frame::Batch(_, lines)) => {
                    let lines: Vec<&str> = lines.into_iter().map(|line| &text[line]).collect();
                    prop_assert_eq!(&lines, &expected);
                    prop_assert_eq!(lines.len(), count);
                }
                Ok(Frame::Control(frame)) => prop_assert!(false, "{frame:?}"),
                Err(_) => prop_assert_ne!(expected.len(), count),
            }
        }

        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_frame(&bytes);
        }
    }
}
