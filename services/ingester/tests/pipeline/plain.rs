//! Records as they should be.

use crate::common::case::{Case, register};
use crate::common::events::{PARTITIONS, encode, now_ms, partition_of};
use crate::common::ingester::Ingester;
use crate::common::kafka::Raw;
use flight::avro::POSITION_SCHEMA;
use flight_ingester::decode::OBSERVED_MS;

#[test]
fn committed_records_become_rows_and_aborted_ones_do_not() {
    let case = Case::new("plain");
    let ingester = Ingester::start(&case.settings);
    let writer = case.writer();
    // Three sources side by side, a transaction's markers after each forty events of each.
    let (per_source, step) = (2_000, 40);
    for first in (0..per_source).step_by(step) {
        writer.begin();
        for offset in first..first + step as i64 {
            for source in 0..3 {
                writer.put(&case.event(source, offset));
            }
        }
        writer.commit();
        if first == 1_000 {
            writer.begin();
            for offset in 500_000..500_600 {
                writer.put(&case.event(0, offset));
            }
            writer.abort();
        }
    }
    for source in 0..3 {
        case.assert_rows(source, &case.events(source, 0..per_source));
    }
    ingester.wait_until_ready();
    assert_eq!(ingester.counted("rows_inserted"), 3 * per_source as u64);
    assert_eq!(ingester.counted("rows_present"), 0);
    assert_eq!(ingester.partitions(), PARTITIONS as u64);
    assert_eq!(case.letters().len(), 0);
    // What was aborted looks like records that the client left out.
    assert!(ingester.counted("gaps_read_again") > 0);
    ingester.stop();
}

#[test]
fn a_record_of_an_earlier_schema_is_read_as_a_position() {
    let case = Case::new("earlier-schema");
    let last_field = POSITION_SCHEMA
        .rfind(",\n    {\"name\": \"on_ground\"")
        .unwrap();
    let earlier = format!("{}\n  ]\n}}", &POSITION_SCHEMA[..last_field]);
    let subject = "flight.positions-earlier-value";
    let earlier_id = register(&case.settings.registry, subject, &earlier);
    assert_ne!(earlier_id, case.schema_id);

    let writer = case.writer();
    writer.begin();
    let mut expected = case.events(0, 0..600);
    for event in &mut expected {
        // Records of both schemas side by side.
        if event.source_offset % 3 == 0 {
            event.position.on_ground = None;
            let mut payload = encode(event, earlier_id);
            assert_eq!(payload.pop(), Some(0), "the field that the schema lacks");
            writer.put_raw(&Raw {
                partition: partition_of(event, case.partitions),
                payload: Some(payload),
                ..Raw::default()
            });
        } else {
            writer.put(event);
        }
    }
    writer.commit();
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &expected);
    assert_eq!(case.letters().len(), 0);
    ingester.stop();
}

#[test]
fn a_batch_over_many_days_arrives_whole() {
    const DAY_MS: i64 = 86_400_000;
    let case = Case::with_partitions("days", 1);
    let writer = case.writer();
    let put = |source: u32, offset: i64, day: i64| {
        let mut event = case.event(source, offset);
        event.position.timestamp = now_ms() / DAY_MS * DAY_MS - day * DAY_MS;
        writer.put_raw(&Raw {
            payload: Some(encode(&event, case.schema_id)),
            // Sent again long after the event.
            headers: vec![(
                OBSERVED_MS.to_owned(),
                event.position.timestamp.to_string().into_bytes(),
            )],
            ..Raw::default()
        });
        event
    };
    writer.begin();
    let two: Vec<_> = (0..1_000).map(|n| put(0, n, n % 2)).collect();
    // More than the server takes in one block, each day coming back again and again.
    let many: Vec<_> = (0..1_000).map(|n| put(1, n, n % 200)).collect();
    writer.commit();
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &two);
    case.assert_rows(1, &many);
    assert_eq!(ingester.counted("insert_errors"), 0);
    let batches = ingester.metric("flight_ingester_batch_rows_count");
    assert!((20.0..40.0).contains(&batches), "{batches} batches");
    ingester.stop();
}
