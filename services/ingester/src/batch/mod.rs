//! The rows of one range of one partition, encoded as they will be inserted, with the identity of
//! each, so that any part of them can be inserted again.

mod row;

use std::collections::HashSet;

use bytes::Bytes;
use flight::avro::Record;

pub use row::INSERT_COLUMNS;

/// Most different days in one batch: the server refuses blocks with more than 100 partitions.
const MAX_DAYS: usize = 50;
const DAY_MS: i64 = 86_400_000;

/// Identity of an event: an index into [`Batch::sources`], and the offset in that source.
pub type Identity = (u16, i64);

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Identity of the event.
    pub identity: Identity,
    /// The event's timestamp in milliseconds UTC.
    pub timestamp_ms: i64,
    /// True if the event may be in the tables already: it stands at or below the watermark of its
    /// source, so it is looked up before it is inserted.
    pub revisit: bool,
    start: u32,
    end: u32,
}

/// Rows of consecutive offsets of one partition.
#[derive(Debug, Default)]
pub struct Batch {
    body: Vec<u8>,
    rows: Vec<Row>,
    sources: Vec<String>,
    days: Vec<i64>,
    revisits: usize,
}

impl Batch {
    /// Adds a row.
    pub fn push(&mut self, record: &Record<'_>, revisit: bool) {
        let start = self.body.len() as u32;
        row::encode(record, &mut self.body);
        let day = record.position.timestamp.div_euclid(DAY_MS);
        if !self.days.contains(&day) {
            self.days.push(day);
        }
        self.revisits += usize::from(revisit);
        let source = self.source_index(record.source);
        self.rows.push(Row {
            identity: (source, record.source_offset),
            timestamp_ms: record.position.timestamp,
            revisit,
            start,
            end: self.body.len() as u32,
        });
    }

    fn source_index(&mut self, name: &str) -> u16 {
        // The last one first: records of one source come together.
        if let Some(index) = self.sources.iter().rposition(|source| source == name) {
            return index as u16;
        }
        self.sources.push(name.to_owned());
        (self.sources.len() - 1) as u16
    }

    /// True once the batch must be inserted before more is added.
    pub fn is_full(&self, max_rows: usize, max_bytes: usize) -> bool {
        self.rows.len() >= max_rows
            || self.body.len() >= max_bytes
            || self.days.len() >= MAX_DAYS
            || self.sources.len() >= usize::from(u16::MAX)
    }

    /// Rows in order of their offsets.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Names of sources, by the index in [`Identity`].
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// True if some rows must be looked up before they are inserted.
    pub fn has_revisits(&self) -> bool {
        self.revisits > 0
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.rows.clear();
        self.sources.clear();
        self.days.clear();
        self.revisits = 0;
    }

    /// Gives all rows the deadline of the insert that they are about to be part of, in seconds since
    /// the epoch.
    pub fn stamp(&mut self, deadline: u32) {
        for row in &self.rows {
            row::stamp(&mut self.body[row.start as usize..], deadline);
        }
    }

    /// Takes the encoded rows out, all of them, without a copy. [`restore`](Self::restore) puts them
    /// back.
    pub fn take_body(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.body))
    }

    /// Puts back what [`take_body`](Self::take_body) took, if nobody else holds it.
    pub fn restore(&mut self, body: Bytes) {
        self.body = body.into();
    }

    /// Which rows to insert, given which of the looked-up identities are in the tables. Of rows with
    /// one identity the first is taken.
    pub fn rows_without(&self, present: &HashSet<Identity>) -> Vec<usize> {
        let mut taken = HashSet::with_capacity(self.rows.len());
        self.select(|row| {
            taken.insert(row.identity) && !(row.revisit && present.contains(&row.identity))
        })
    }

    /// The rows whose identities are not among `present`, whether or not they were expected to be
    /// there. Of rows with one identity the first is taken.
    pub fn rows_missing_from(&self, present: &HashSet<Identity>) -> Vec<usize> {
        let mut taken = HashSet::new();
        self.select(|row| !present.contains(&row.identity) && taken.insert(row.identity))
    }

    fn select(&self, mut wanted: impl FnMut(&Row) -> bool) -> Vec<usize> {
        self.rows
            .iter()
            .enumerate()
            .filter(|(_, row)| wanted(row))
            .map(|(index, _)| index)
            .collect()
    }

    /// A copy of some encoded rows.
    pub fn body_of(&self, rows: &[usize]) -> Bytes {
        let mut body = Vec::new();
        for row in rows.iter().map(|index| &self.rows[*index]) {
            body.extend_from_slice(&self.body[row.start as usize..row.end as usize]);
        }
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flight::position::PositionRef;

    fn record(source_offset: i64, timestamp: i64) -> Record<'static> {
        Record {
            source: "mock",
            source_offset,
            position: PositionRef {
                flight_id: "FDB892-1",
                callsign: "FDB892",
                longitude: 1.5,
                latitude: 2.5,
                altitude: 100,
                gspeed: 3.5,
                timestamp,
                icao24: Some("896451"),
                track: None,
                vertical_rate: Some(-64),
                squawk: None,
                on_ground: Some(false),
            },
        }
    }

    fn batch(rows: &[(i64, bool)]) -> Batch {
        let mut batch = Batch::default();
        for (offset, revisit) in rows {
            batch.push(&record(*offset, 0), *revisit);
        }
        batch
    }

    #[test]
    fn rows_that_are_there_are_left_out_only_if_they_were_looked_up() {
        let batch = batch(&[(1, true), (2, true), (3, false)]);
        let present = HashSet::from([(0, 1), (0, 3)]);
        // Row 3 is new by its watermark: what the tables hold of it came from this very range, and
        // the token takes care of it.
        assert_eq!(batch.rows_without(&present), [1, 2]);
        assert_eq!(batch.rows_missing_from(&present), [1]);
    }

    #[test]
    fn one_identity_twice_is_one_row() {
        let batch = batch(&[(7, false), (7, true), (7, true)]);
        assert_eq!(batch.rows_without(&HashSet::new()), [0]);
        assert_eq!(batch.rows_missing_from(&HashSet::new()), [0]);
    }

    #[test]
    fn the_whole_body_is_the_rows_one_after_another() {
        let mut batch = batch(&[(1, false), (2, false)]);
        batch.stamp(0x0102_0304);
        let parts = batch.body_of(&[0, 1]);
        assert_eq!(parts[..4], [4, 3, 2, 1], "the deadline is the first column");
        let whole = batch.take_body();
        assert_eq!(parts, whole);
        batch.restore(whole);
        assert_eq!(batch.bytes(), parts.len());
    }

    #[test]
    fn a_batch_is_full_by_rows_bytes_or_days() {
        let two = batch(&[(1, false), (2, false)]);
        assert!(!two.is_full(3, 1000) && two.is_full(2, 1000) && two.is_full(3, 10));
        let mut days = Batch::default();
        for day in 0..MAX_DAYS as i64 {
            assert!(!days.is_full(1000, 1 << 20));
            days.push(&record(day, day * DAY_MS), false);
        }
        assert!(days.is_full(1000, 1 << 20), "too many days for one block");
    }
}
