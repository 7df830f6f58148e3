//! Systems that are away, or do not let the ingester in: it waits and says why.

use std::time::Duration;

use flight::config::Secret;

use crate::common::case::Case;
use crate::common::ingester::Ingester;
use crate::common::registry::FakeRegistry;
use crate::common::{eventually, free_port};

#[test]
fn a_registry_that_is_away_or_fails_is_waited_for() {
    let mut case = Case::new("registry-away");
    let port = free_port();
    case.settings.registry.url = format!("http://127.0.0.1:{port}");
    case.settings.registry.attempts = 1;
    let writer = case.writer();
    writer.write(case.events(0, 0..500));

    let ingester = Ingester::start(&case.settings);
    ingester.wait_until_unready(&format!("schema registry http://127.0.0.1:{port} is away"));
    let fake = FakeRegistry::serve(port);
    fake.set_broken(true);
    // Each partition has asked and been refused.
    eventually("schemas are asked for", Duration::from_secs(30), || {
        fake.failed() >= 2 * case.partitions as u32
    });
    ingester.wait_until_unready("500 Internal Server Error");
    assert_eq!((case.count(0), case.letters().len()), (0, 0));
    fake.set_broken(false);
    case.assert_rows(0, &case.events(0, 0..500));
    ingester.wait_until_ready();

    // What is known is not asked for again; a new schema is, and waited for.
    fake.set_broken(true);
    writer.write(case.events(0, 500..1_000));
    case.assert_rows(0, &case.events(0, 0..1_000));
    assert_eq!(fake.failed(), 0);
    case.schema_id += 1;
    let writer = case.writer();
    writer.write(case.events(0, 1_000..1_500));
    eventually(
        "the new schema is asked for",
        Duration::from_secs(30),
        || fake.failed() > 0,
    );
    ingester.wait_until_unready("registry");
    fake.set_broken(false);
    case.assert_rows(0, &case.events(0, 0..1_500));
    ingester.wait_until_ready();
    assert_eq!(case.letters().len(), 0);
    assert_eq!(ingester.counted("rows_inserted"), 1_500);
    ingester.stop();
}

#[test]
fn a_wrong_password_is_named_and_loses_nothing() {
    let case = Case::new("password");
    case.writer().write(case.events(0, 0..500));
    let mut wrong = case.settings.clone();
    wrong.clickhouse.password = Secret::new("wrong");
    let ingester = Ingester::start(&wrong);
    ingester.wait_until_unready("clickhouse.user and clickhouse.password are not what it knows");
    assert!(
        !ingester.log().contains("\"wrong\""),
        "the password shows itself"
    );
    ingester.stop();
    assert_eq!(case.count(0), 0);

    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &case.events(0, 0..500));
    ingester.wait_until_ready();
    ingester.stop();
}

#[test]
fn a_topic_that_is_not_there_yet_is_waited_for() {
    let mut case = Case::new("late-topic");
    case.settings.topic = "positions.late-topic.2".into();
    let ingester = Ingester::start(&case.settings);
    ingester.wait_until_unready("positions.late-topic.2: does not exist");
    crate::common::kafka::create_topic(case.kafka(), &case.settings.topic, case.partitions);
    case.writer().write(case.events(0, 0..100));
    case.assert_rows(0, &case.events(0, 0..100));
    ingester.wait_until_ready();
    ingester.stop();
}
