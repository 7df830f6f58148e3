//! The source over Server-Sent Events: one way, the connection's own back-pressure for credit.

use std::convert::Infallible;
use std::ops::Range;

use flight::source::{BatchHeader, SSE_PATH, SseBatch};
use futures_util::StreamExt;
use memchr::memchr;
use serde::Deserialize;
use tokio::time::timeout;

use super::{CONNECT_TIMEOUT, MAX_FRAME_BYTES, Reader, SourceError, describe};
use flight::tls;

/// Most events that are handed on together.
const GROUP_EVENTS: usize = 5_000;

/// Reads one connection until it ends.
pub(super) async fn read(reader: &mut Reader) -> Result<Infallible, SourceError> {
    // The stream itself does not say whose it is.
    let descriptor = describe(&reader.http, &reader.settings).await?;
    reader.check_name(&descriptor.name)?;
    let url = reader.settings.address("http", SSE_PATH);
    let away = |error: reqwest::Error| SourceError::Away {
        url: url.clone(),
        reason: tls::explain(&error, &url, "source.tls.ca_file"),
    };
    let request = reader
        .http
        .get(format!("{url}?from={}", reader.expected))
        .send();
    let response = timeout(CONNECT_TIMEOUT, request)
        .await
        .map_err(|_| SourceError::Silent(CONNECT_TIMEOUT.as_secs()))?
        .map_err(away)?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    reader.connected();

    let idle = reader.settings.idle_timeout();
    let mut chunks = response.bytes_stream();
    let mut parser = Parser::default();
    let mut group = Group::new(reader.expected);
    loop {
        let chunk = timeout(idle, chunks.next())
            .await
            .map_err(|_| SourceError::Silent(idle.as_secs()))?
            .ok_or_else(|| SourceError::Closed(String::new()))?
            .map_err(away)?;
        parser.feed(&chunk);
        while let Some(event) = parser.next_event() {
            // A group with other data begins, or this one is large enough.
            if event.name == b"batch" || group.lines.len() >= GROUP_EVENTS {
                group.deliver(reader).await?;
            }
            group.take(event)?;
        }
        if parser.pending() > MAX_FRAME_BYTES {
            return Err(SourceError::Protocol(format!(
                "an event of more than {MAX_FRAME_BYTES} bytes"
            )));
        }
        group.deliver(reader).await?;
    }
}

async fn refusal(response: reqwest::Response) -> SourceError {
    #[derive(Deserialize)]
    struct Answer {
        error: Detail,
    }
    #[derive(Deserialize)]
    struct Detail {
        code: String,
        message: String,
    }
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice(&body) {
        Ok(Answer { error }) => SourceError::Refused {
            code: error.code,
            message: error.message,
        },
        Err(_) => SourceError::Refused {
            code: status.as_u16().to_string(),
            message: String::from_utf8_lossy(&body).chars().take(200).collect(),
        },
    }
}

/// Events that go on together: those of one chunk under one `batch`.
struct Group {
    about: Option<SseBatch>,
    first: i64,
    body: Vec<u8>,
    lines: Vec<Range<usize>>,
}

impl Group {
    fn new(first: i64) -> Self {
        Self {
            about: None,
            first,
            body: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn take(&mut self, event: &SseEvent) -> Result<(), SourceError> {
        match event.name.as_slice() {
            b"batch" => {
                let about = serde_json::from_slice(&event.data)
                    .map_err(|error| SourceError::Protocol(format!("event batch: {error}")))?;
                self.about = Some(about);
                Ok(())
            }
            b"position" => {
                if self.about.is_none() {
                    return Err(SourceError::Protocol("a position before any batch".into()));
                }
                let id = std::str::from_utf8(&event.id).unwrap_or_default();
                let found: i64 = id.parse().map_err(|_| {
                    SourceError::Protocol(format!("event id {id:?} is not an offset"))
                })?;
                super::check_sequence(self.first + self.lines.len() as i64, found)?;
                let start = self.body.len();
                self.body.extend_from_slice(&event.data);
                self.lines.push(start..self.body.len());
                Ok(())
            }
            // Events that a later version of the protocol may have.
            _ => Ok(()),
        }
    }

    async fn deliver(&mut self, reader: &mut Reader) -> Result<(), SourceError> {
        let Some(about) = &mut self.about else {
            return Ok(());
        };
        if self.lines.is_empty() {
            return Ok(());
        }
        let header = BatchHeader {
            first: self.first,
            count: self.lines.len() as u32,
            at_ms: about.at_ms,
            next: about.next,
            // One record of a batch carries it, however many groups the batch becomes.
            traceparent: about.traceparent.take(),
        };
        self.first += self.lines.len() as i64;
        reader.deliver(header, &self.body, &self.lines).await?;
        self.body.clear();
        self.lines.clear();
        Ok(())
    }
}

/// One event of the stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct SseEvent {
    name: Vec<u8>,
    id: Vec<u8>,
    data: Vec<u8>,
}

impl SseEvent {
    fn clear(&mut self) {
        self.name.clear();
        self.id.clear();
        self.data.clear();
    }
}

/// Cuts a stream of bytes into events (WHATWG HTML, "Parsing an event stream").
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    /// What of `buffer` has been read.
    read: usize,
    event: SseEvent,
    has_data: bool,
    /// `event` was given out: the next line begins another one.
    is_given: bool,
}

impl Parser {
    fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// Bytes of an event that has not ended.
    fn pending(&self) -> usize {
        self.buffer.len() - self.read + self.event.data.len()
    }

    /// The next event. It is valid until the next call: one place serves all events.
    fn next_event(&mut self) -> Option<&SseEvent> {
        loop {
            if std::mem::take(&mut self.is_given) {
                self.event.clear();
            }
            let rest = &self.buffer[self.read..];
            let end = memchr(b'\n', rest)?;
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            self.read += end + 1;
            if line.is_empty() {
                self.is_given = true;
                if std::mem::take(&mut self.has_data) {
                    return Some(&self.event);
                }
                continue;
            }
            let (field, value) = match memchr(b':', line) {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &[][..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    if self.has_data {
                        self.event.data.push(b'\n');
                    }
                    self.has_data = true;
                    self.event.data.extend_from_slice(value);
                }
                b"event" => set(&mut self.event.name, value),
                b"id" => set(&mut self.event.id, value),
                // A comment (an empty field) keeps the connection alive; others are not for us.
                _ => {}
            }
        }
    }
}

fn set(field: &mut Vec<u8>, value: &[u8]) {
    field.clear();
    field.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b": hello\n\nevent: batch\ndata: {\"at_ms\":1,\"next\":9}\n\nid: 7\r\nevent: position\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n:keep\n\nid: 8\nevent: position\ndata:\n\nid: 9\n\n";

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for chunk in STREAM.chunks(size) {
                parser.feed(chunk);
                while let Some(event) = parser.next_event() {
                    events.push(event.clone());
                }
            }
            assert_eq!(events.len(), 3, "chunks of {size}");
            assert_eq!(events[0].name, b"batch");
            assert_eq!(events[1].id, b"7");
            assert_eq!(events[1].data, b"{\"a\":\n1}");
            assert_eq!(events[2].data, b"");
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_out_as_it_went_in(
            events in proptest::collection::vec(("[a-z]{0,9}", "[0-9]{0,6}", "[ -~]{0,30}"), 0..20),
            size in 1usize..200,
        ) {
            let mut stream = Vec::new();
            for (name, id, data) in &events {
                stream.extend_from_slice(format!("id: {id}\n:\nevent: {name}\ndata: {data}\n\n").as_bytes());
            }
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in stream.chunks(size) {
                parser.feed(chunk);
                while let Some(event) = parser.next_event() {
                    found.push(event.clone());
                }
            }
            let expected: Vec<SseEvent> =
                events.iter().map(|(name, id, data)| event(name, id, data)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(parser.pending(), 0);
        }
    }

    fn event(name: &str, id: &str, data: &str) -> SseEvent {
        SseEvent {
            name: name.into(),
            id: id.into(),
            data: data.into(),
        }
    }

    #[test]
    fn offsets_are_checked_event_by_event() {
        let mut group = Group::new(7);
        assert!(
            group.take(&event("position", "7", "{}")).is_err(),
            "no batch yet"
        );
        group
            .take(&event("batch", "", r#"{"at_ms":1,"next":9}"#))
            .unwrap();
        group.take(&event("position", "7", "{}")).unwrap();
        assert!(matches!(
            group.take(&event("position", "9", "{}")),
            Err(SourceError::Ahead {
                expected: 8,
                found: 9
            })
        ));
        assert!(matches!(
            group.take(&event("position", "7", "{}")),
            Err(SourceError::Back { .. })
        ));
        assert!(group.take(&event("position", "", "{}")).is_err());
        assert!(group.take(&event("later", "", "x")).is_ok());
        assert!(group.take(&event("batch", "", "x")).is_err());
    }
}
