//! The same events twice: as frames of a source, and as the records that the producer makes of them.

use std::ops::Range;

use anyhow::Result;
use bytes::Bytes;
use flight::avro::{Encoder, Record};
use flight::source::{BatchHeader, ServerFrame};
use flight_mock::{Parameters, Simulator};

use crate::world::now_ms;

/// Events of one frame.
const FRAME_EVENTS: u64 = 3_000;
/// Any id: the registry gives ours.
const SCHEMA_ID: u32 = 1;

/// Events made beforehand.
pub struct Events {
    /// Name of the source that they are from.
    pub source: String,
    frames: Vec<Bytes>,
    records: Vec<u8>,
    /// Where in `records` each record's key begins, its value begins, and it ends.
    bounds: Vec<[u32; 3]>,
}

impl Events {
    /// The first `count` events of the simulator with 500 aircraft.
    pub fn generate(count: u64) -> Result<Self> {
        let now_ms = now_ms();
        let parameters = Parameters {
            seed: 42,
            fleet: 500,
            period_ms: 1000,
            epoch_ms: now_ms - 86_400_000,
        };
        let simulator = Simulator::new(parameters)?;
        let mut events = Self {
            source: parameters.source_name(),
            frames: Vec::new(),
            records: Vec::new(),
            bounds: Vec::with_capacity(count as usize),
        };
        let encoder = Encoder::new(SCHEMA_ID);
        for first in (0..count).step_by(FRAME_EVENTS as usize) {
            let end = count.min(first + FRAME_EVENTS);
            // As if they came just now: a record of an older batch has a header with its time.
            let header = ServerFrame::Batch(BatchHeader {
                first: first as i64,
                count: (end - first) as u32,
                at_ms: now_ms,
                next: count as i64,
                traceparent: None,
            });
            let mut frame = serde_json::to_vec(&header)?;
            for offset in first as i64..end as i64 {
                let event = simulator.event(offset)?;
                frame.push(b'\n');
                event.write_json(&mut frame);
                events.add(&encoder, offset, &event.position());
            }
            events.frames.push(frame.into());
        }
        Ok(events)
    }

    fn add(&mut self, encoder: &Encoder, offset: i64, position: &flight::position::Position) {
        let key = self.records.len();
        self.records
            .extend_from_slice(position.flight_id.as_bytes());
        let value = self.records.len();
        let record = Record {
            source: &self.source,
            source_offset: offset,
            position: position.by_ref(),
        };
        encoder.encode(&record, &mut self.records);
        self.bounds
            .push([key, value, self.records.len()].map(|at| at as u32));
    }

    /// The first offset behind the events.
    pub fn end(&self) -> i64 {
        self.bounds.len() as i64
    }

    /// The frame that begins at an offset, where one does.
    pub fn frame(&self, from: i64) -> Option<Bytes> {
        let from = u64::try_from(from).ok()?;
        let index = (from / FRAME_EVENTS) as usize;
        let begins = from % FRAME_EVENTS == 0;
        begins.then(|| self.frames.get(index).cloned()).flatten()
    }

    /// All frames.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// Key and value of each record.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |range: Range<u32>| &self.records[range.start as usize..range.end as usize];
        self.bounds
            .iter()
            .map(move |[key, value, end]| (part(*key..*value), part(*value..*end)))
    }

    /// Mean bytes of key and value.
    pub fn record_bytes(&self) -> f64 {
        self.records.len() as f64 / self.bounds.len().max(1) as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use flight::source::{Frame, parse_frame};

    #[test]
    fn frames_and_records_hold_the_same_events() {
        let events = Events::generate(7_000).unwrap();
        let mut records = events.records();
        let mut next = 0;
        for frame in events.frames() {
            assert_eq!(events.frame(next).as_ref(), Some(frame));
            let Frame::Batch(header, lines) = parse_frame(frame).unwrap() else {
                panic!("a batch");
            };
            assert_eq!(header.first, next);
            for line in lines {
                let position: flight::position::Position =
                    serde_json::from_slice(&frame[line]).unwrap();
                let (key, value) = records.next().unwrap();
                assert_eq!(key, position.flight_id.as_bytes());
                let record =
                    flight::avro::datum::read(&value[flight::avro::HEADER_BYTES..]).unwrap();
                assert_eq!(record.source_offset, next);
                assert_eq!(record.position.longitude, position.longitude);
                next += 1;
            }
        }
        assert_eq!(next, events.end());
        assert!(records.next().is_none() && events.frame(next).is_none());
    }
}
