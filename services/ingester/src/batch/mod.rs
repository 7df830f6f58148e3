//! The rows of one range of one partition, encoded as they will be inserted, with the identity of
//! each, so that any part of them can be inserted again.

mod column;
mod dictionary;
mod indexes;
mod native;

use std::collections::HashSet;

use flight::avro::Record;

use native::Columns;
pub use native::{Block, INSERT_COLUMNS};

/// Most different days in one batch: the server refuses blocks with more than 100 partitions.
const MAX_DAYS: usize = 50;
const DAY_MS: i64 = 86_400_000;
/// Most different sources in one batch.
const MAX_SOURCES: usize = 10_000;

/// Identity of an event: an index for [`Batch::source`], and the offset in that source.
pub type Identity = (u32, i64);

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
}

/// Rows of consecutive offsets of one partition, in the order of the offsets until they are sorted.
#[derive(Debug, Default)]
pub struct Batch {
    columns: Columns,
    /// Rows that must be looked up before they are inserted, in their order.
    revisits: Vec<u32>,
    days: Vec<i64>,
    /// The day of the last row: most rows are of the same one.
    last_day: i64,
}

impl Batch {
    /// Adds a row.
    pub fn push(&mut self, record: &Record<'_>, revisit: bool) {
        let timestamp_ms = record.position.timestamp;
        let day = timestamp_ms.div_euclid(DAY_MS);
        if (day != self.last_day || self.days.is_empty()) && !self.days.contains(&day) {
            self.days.push(day);
        }
        self.last_day = day;
        if revisit {
            self.revisits.push(self.columns.rows() as u32);
        }
        self.columns.push(record);
    }

    /// True once the batch must be inserted before more is added.
    pub fn is_full(&self, max_rows: usize, max_bytes: usize) -> bool {
        self.len() >= max_rows
            || self.bytes() >= max_bytes
            || self.days.len() >= MAX_DAYS
            || self.columns.source().len() >= MAX_SOURCES
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.columns.rows()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that the rows take, about.
    pub fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// A row's timestamp in milliseconds UTC.
    pub fn timestamp_ms(&self, row: usize) -> i64 {
        self.columns.timestamp_ms(row)
    }

    /// The latest timestamp of each source, in milliseconds UTC.
    pub fn newest_ms(&self) -> Vec<(&str, i64)> {
        let source = self.columns.source();
        let mut newest: Vec<_> = (0..source.len() as u32)
            .map(|index| (source.text(index), i64::MIN))
            .collect();
        match newest.as_mut_slice() {
            // The rule, and no reason to look at each row's source.
            [(_, newest)] => {
                let times = (0..self.len()).map(|row| self.timestamp_ms(row));
                *newest = times.max().unwrap_or(i64::MIN);
            }
            newest => {
                for row in 0..self.len() {
                    let newest = &mut newest[source.index(row) as usize].1;
                    *newest = self.timestamp_ms(row).max(*newest);
                }
            }
        }
        newest
    }

    /// Name of a source, by the index in [`Identity`].
    pub fn source(&self, index: u32) -> &str {
        self.columns.source().text(index)
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let mut revisits = self.revisits.iter().copied().peekable();
        (0..self.len()).map(move |row| Row {
            revisit: revisits.next_if_eq(&(row as u32)).is_some(),
            ..self.row(row)
        })
    }

    /// The rows that must be looked up before they are inserted.
    pub fn revisits(&self) -> impl Iterator<Item = Row> {
        let rows = self.revisits.iter();
        rows.map(|row| Row {
            revisit: true,
            ..self.row(*row as usize)
        })
    }

    fn row(&self, row: usize) -> Row {
        Row {
            identity: (
                self.columns.source().index(row),
                self.columns.source_offset(row),
            ),
            timestamp_ms: self.timestamp_ms(row),
            revisit: false,
        }
    }

    /// True if some rows must be looked up before they are inserted.
    pub fn has_revisits(&self) -> bool {
        !self.revisits.is_empty()
    }

    /// Puts the rows into the table's order, as far as that is cheap: by callsign, and within one as they
    /// came, which is by time. The server has less to do then. Identities keep their rows.
    pub fn sort(&mut self) {
        let Some(order) = self.columns.sort_by_callsign() else {
            return;
        };
        if !self.revisits.is_empty() {
            let old = std::mem::take(&mut self.revisits);
            let moved = (0u32..).zip(&order);
            let still = moved.filter(|(_, was)| old.binary_search(was).is_ok());
            self.revisits = still.map(|(row, _)| row).collect();
        }
    }

    /// Empties the batch. The memory of a large one is given back.
    pub fn clear(&mut self) {
        self.columns.clear();
        self.revisits.clear();
        self.days.clear();
    }

    /// All rows as a block, with the deadline of the insert that they are about to be part of, in seconds
    /// since the epoch. Most of it is the batch's own memory, and no copy.
    pub fn block(&self, deadline: u32) -> Block {
        self.columns.block(None, deadline)
    }

    /// A copy of some rows as a block, with their insert's deadline.
    pub fn block_of(&self, rows: &[usize], deadline: u32) -> Block {
        self.columns.block(Some(rows), deadline)
    }

    /// Which rows to insert, given which of the looked-up identities are in the tables. Of rows with
    /// one identity the first is taken.
    pub fn rows_without(&self, present: &HashSet<Identity>) -> Vec<usize> {
        let mut taken = HashSet::with_capacity(self.len());
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
        self.rows()
            .enumerate()
            .filter(|(_, row)| wanted(row))
            .map(|(index, _)| index)
            .collect()
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
    fn each_source_has_its_newest_time() {
        let mut batch = Batch::default();
        for (offset, timestamp) in [(1, 5), (2, 9), (3, -7)] {
            batch.push(&record(offset, timestamp), false);
        }
        assert_eq!(batch.newest_ms(), [("mock", 9)]);
        for (offset, timestamp) in [(1, -3), (2, -4)] {
            let mut other = record(offset, timestamp);
            other.source = "other";
            batch.push(&other, false);
        }
        batch.sort();
        assert_eq!(batch.newest_ms(), [("mock", 9), ("other", -3)]);
    }

    fn bytes(block: &Block) -> Vec<u8> {
        block.pieces().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn sorted_rows_keep_their_identity_and_whether_they_are_looked_up() {
        let mut batch = Batch::default();
        let callsigns = ["C", "A", "B", "A", "C"];
        for (offset, callsign) in (0..).zip(callsigns) {
            let mut record = record(offset, 1000 + offset);
            record.position.callsign = callsign;
            batch.push(&record, [1, 4].contains(&offset));
        }
        batch.sort();
        let rows: Vec<_> = batch
            .rows()
            .map(|row| (row.identity.1, row.timestamp_ms, row.revisit))
            .collect();
        let expected = [(1, true), (3, false), (2, false), (0, false), (4, true)];
        assert_eq!(
            rows,
            expected.map(|(offset, revisit)| (offset, 1000 + offset, revisit))
        );
        let revisits: Vec<_> = batch.revisits().map(|row| row.identity.1).collect();
        assert_eq!(revisits, [1, 4]);
    }

    #[test]
    fn all_rows_are_the_same_block_copied_or_shared() {
        for rows in [0, 3, 40_000] {
            let rows: Vec<_> = (0..rows).map(|offset| (offset, offset == 2)).collect();
            let all: Vec<usize> = (0..rows.len()).collect();
            let batch = batch(&rows);
            let copied = bytes(&batch.block_of(&all, 7));
            let block = batch.block(7);
            assert_eq!(bytes(&block), copied);
            assert_eq!(block.bytes(), copied.len());
            let is_other = bytes(&batch.block(8)) != copied;
            assert_eq!(is_other, !rows.is_empty(), "the deadline is in it");
        }
    }

    #[test]
    fn a_cleared_batch_is_as_a_new_one() {
        for rows in [2, 40_000] {
            let rows: Vec<_> = (0..rows).map(|offset| (offset, true)).collect();
            let mut used = batch(&rows);
            used.clear();
            assert!(used.is_empty() && !used.has_revisits() && used.newest_ms().is_empty());
            used.push(&record(5, 3), false);
            let mut new = Batch::default();
            new.push(&record(5, 3), false);
            assert_eq!(bytes(&used.block(1)), bytes(&new.block(1)));
        }
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
