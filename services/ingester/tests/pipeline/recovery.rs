//! Ranges that were open when their partition came: the server may have all of them, or some, or
//! remember their token and have lost the rows.

use flight_ingester::range::token;

use crate::common::case::Case;
use crate::common::ingester::Ingester;
use crate::common::table::ask;

const LAST: i64 = 399;

/// A case with one partition, 400 records in it, and the range of all of them open.
fn open_range(name: &'static str) -> Case {
    let case = Case::with_partitions(name, 1);
    // The tables are there before any ingester of this case is.
    Ingester::start(&case.settings).stop_when_ready();
    case.writer().write(case.events(0, 0..=LAST));
    case.group().leave_open(0, 0, LAST);
    case
}

impl Ingester {
    fn stop_when_ready(self) {
        self.wait_until_ready();
        self.stop();
    }
}

/// Runs an ingester until it is idle; how many rows it supplied.
fn redo(case: &Case) -> u64 {
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &case.events(0, 0..=LAST));
    assert_eq!(ingester.counted("ranges_redone"), 1);
    let supplied = ingester.counted("rows_supplied");
    ingester.stop();
    supplied
}

#[test]
fn a_range_that_was_not_inserted_is() {
    let case = open_range("open-nothing");
    assert_eq!(redo(&case), 0);
    // Once more, when all of it is there.
    case.group().leave_open(0, 0, LAST);
    assert_eq!(redo(&case), 0);
}

/// As the engine is after it was killed between its log of tokens and its parts: it remembers a token
/// and has no rows. (Rows cannot be taken away without their tokens in a way that is quick and certain,
/// so the tokens are given to rows of another source.)
fn remember(case: &Case, retries: u32) {
    let topic_id = case.group().topic_id();
    // Of the same day, so of the same part.
    let timestamp_ms = case.event(0, 0).position.timestamp;
    for retry in 0..retries {
        let sql = format!(
            "INSERT INTO flight_data.flight_positions (source, source_offset, flight_id, timestamp) \
             SETTINGS insert_deduplication_token = '{token}', async_insert = 0 \
             SELECT '{other}', {retry}, 'x', fromUnixTimestamp64Milli({timestamp_ms}, 'UTC')",
            token = token(&topic_id, 0, 0, LAST, retry),
            other = case.source(1)
        );
        ask(&case.stack, &sql).unwrap();
    }
    assert_eq!(case.count(1), retries as usize);
}

#[test]
fn rows_whose_token_is_remembered_are_supplied() {
    let case = open_range("open-lost");
    remember(&case, 1);
    assert_eq!(redo(&case), 400);
}

#[test]
fn rows_are_supplied_until_they_are_there() {
    let case = open_range("open-lost-twice");
    remember(&case, 2);
    // Under the supplement's token in vain, then under the next.
    assert_eq!(redo(&case), 800);
}

#[test]
fn a_range_that_is_there_in_part_is_completed() {
    let case = Case::with_partitions("open-part", 1);
    let ingester = Ingester::start(&case.settings);
    let writer = case.writer();
    writer.write(case.events(0, 0..=LAST));
    case.assert_rows(0, &case.events(0, 0..=LAST));
    ingester.stop();
    // The range as another member cut it: other tokens, rows of which some are there already.
    let end = case.group().standings()[0].1;
    writer.write(case.events(0, LAST + 1..=LAST + 200));
    case.group().leave_open(0, 100, end + 99);
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &case.events(0, 0..=LAST + 200));
    assert_eq!(ingester.counted("ranges_redone"), 1);
    assert_eq!(ingester.counted("rows_present"), 300);
    ingester.stop();
}
