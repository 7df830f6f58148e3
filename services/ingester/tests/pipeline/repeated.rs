//! Events that come more than once.

use crate::common::case::Case;
use crate::common::ingester::Ingester;
use crate::common::kafka::{create_topic, delete_group, delete_topic};

#[test]
fn events_that_are_sent_again_are_found_by_their_identity() {
    let case = Case::new("replay");
    let mut settings = case.settings.clone();
    settings.batch.max_rows = 150;
    let ingester = Ingester::start(&settings);
    let writer = case.writer();
    writer.write(case.events(0, 0..3_000));
    case.wait_for_rows(0, 3_000);
    // The same range twice over, between events that are new.
    for slice in 0..30 {
        let (old, new) = (slice * 100, 3_000 + slice * 100);
        writer.begin();
        for offset in 0..100 {
            writer.put(&case.event(0, old + offset));
            writer.put(&case.event(0, new + offset));
            writer.put(&case.event(0, old + offset));
        }
        writer.commit();
    }
    case.assert_rows(0, &case.events(0, 0..6_000));
    assert_eq!(ingester.counted("rows_present"), 6_000);
    assert_eq!(ingester.counted("rows_inserted"), 6_000);

    // Far apart, and by a member that has inserted none of them.
    ingester.stop();
    let ingester = Ingester::start(&settings);
    writer.write(case.events(0, (0..6_000).rev().step_by(599)));
    writer.write(case.events(0, 6_000..6_100));
    case.assert_rows(0, &case.events(0, 0..6_100));
    assert_eq!(ingester.counted("rows_present"), 11);
    ingester.stop();
}

#[test]
fn a_group_without_offsets_begins_anew_and_doubles_nothing() {
    let case = Case::new("regroup");
    let writer = case.writer();
    let ingester = Ingester::start(&case.settings);
    writer.write(case.events(0, 0..2_000));
    case.assert_rows(0, &case.events(0, 0..2_000));
    ingester.stop();

    delete_group(case.kafka(), &case.settings.group.id);
    let ingester = Ingester::start(&case.settings);
    writer.write(case.events(0, 2_000..3_000));
    case.assert_rows(0, &case.events(0, 0..3_000));
    assert_eq!(ingester.counted("rows_present"), 2_000);
    ingester.stop();

    let mut case = case;
    case.settings.group.id = "group.regroup.2".into();
    let ingester = Ingester::start(&case.settings);
    writer.write(case.events(0, 3_000..3_100));
    case.assert_rows(0, &case.events(0, 0..3_100));
    assert_eq!(ingester.counted("rows_present"), 3_000);
    ingester.stop();
}

#[test]
fn a_topic_that_is_made_anew_is_ingested_from_its_beginning() {
    let case = Case::with_partitions("remade", 2);
    let remake = || {
        delete_topic(case.kafka(), &case.settings.topic);
        create_topic(case.kafka(), &case.settings.topic, case.partitions);
    };
    let ingester = Ingester::start(&case.settings);
    case.writer().write(case.events(0, 0..1_000));
    case.assert_rows(0, &case.events(0, 0..1_000));

    // Under a running member, and longer than the old one was: an offset says nothing any more.
    remake();
    case.writer().write(case.events(0, 1_000..4_000));
    case.assert_rows(0, &case.events(0, 0..4_000));

    // Shorter than the old one was.
    remake();
    case.writer().write(case.events(0, 4_000..4_500));
    case.assert_rows(0, &case.events(0, 0..4_500));
    ingester.stop();

    // While no member is there.
    remake();
    case.writer().write(case.events(0, 4_500..8_000));
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &case.events(0, 0..8_000));
    assert_eq!(ingester.counted("offsets_expired"), 0);
    ingester.stop();
}
