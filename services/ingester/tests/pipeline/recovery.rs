//! Ranges that were open when their partition came: the server may have all of them, or some, or
//! remember their token and have lost the rows.

use flight::position::Identified;
use flight_ingester::decode::OBSERVED_MS;
use flight_ingester::range::token;

use crate::common::case::Case;
use crate::common::events::encode;
use crate::common::ingester::Ingester;
use crate::common::kafka::Raw;
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
fn redo(case: &Case, events: &[Identified]) -> u64 {
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, events);
    assert_eq!(ingester.counted("ranges_redone"), 1);
    let supplied = ingester.counted("rows_supplied");
    ingester.stop();
    supplied
}

#[test]
fn a_range_that_was_not_inserted_is() {
    let case = open_range("open-nothing");
    let events = case.events(0, 0..=LAST);
    assert_eq!(redo(&case, &events), 0);
    // Once more, when all of it is there.
    case.group().leave_open(0, 0, LAST);
    assert_eq!(redo(&case, &events), 0);
}

#[test]
fn rows_that_the_server_lost_are_supplied_whatever_it_remembers() {
    const TABLE: &str = "flight_data.flight_positions";
    const DAY_MS: i64 = 86_400_000;
    let case = Case::with_partitions("open-lost", 1);
    Ingester::start(&case.settings).stop_when_ready();
    // On a day of their own: a day that is moved to another table takes its rows along, and leaves its
    // tokens behind.
    let mut events = case.events(0, 0..=LAST);
    let writer = case.writer();
    writer.begin();
    for event in &mut events {
        event.position.timestamp = 18_000 * DAY_MS + event.source_offset;
        let observed = event.position.timestamp.to_string().into_bytes();
        writer.put_raw(&Raw {
            payload: Some(encode(event, case.schema_id)),
            headers: vec![(OBSERVED_MS.to_owned(), observed)],
            ..Raw::default()
        });
    }
    writer.commit();
    case.group().leave_open(0, 0, LAST);
    assert_eq!(redo(&case, &events), 0);

    ask(
        &case.stack,
        &format!("CREATE TABLE flight_data.away AS {TABLE}"),
    )
    .unwrap();
    // Twice: the token of the range is remembered, and then that of the supplement too.
    for round in 1..=2 {
        let sql =
            format!("ALTER TABLE {TABLE} MOVE PARTITION '2019-04-14' TO TABLE flight_data.away");
        ask(&case.stack, &sql).unwrap();
        assert_eq!(case.count(0), 0, "round {round}");
        case.group().leave_open(0, 0, LAST);
        assert_eq!(redo(&case, &events), 400 * round, "round {round}");
    }
}

#[test]
fn a_token_with_other_rows_under_it_does_not_hide_ours() {
    let case = open_range("open-other");
    let token = token(&case.group().topic_id(), 0, 0, LAST, 0);
    // Of the same day, so of the same part.
    let timestamp_ms = case.event(0, 0).position.timestamp;
    let sql = format!(
        "INSERT INTO flight_data.flight_positions (source, source_offset, flight_id, timestamp) \
         SETTINGS insert_deduplication_token = '{token}', async_insert = 0 \
         SELECT '{other}', 1, 'x', fromUnixTimestamp64Milli({timestamp_ms}, 'UTC')",
        other = case.source(1)
    );
    ask(&case.stack, &sql).unwrap();
    assert_eq!(case.count(1), 1);
    assert_eq!(redo(&case, &case.events(0, 0..=LAST)), 400);
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
