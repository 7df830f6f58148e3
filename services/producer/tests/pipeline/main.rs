//! The producer between a source that misbehaves and a real Kafka.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod catch_up;
mod replay;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::eventually;
use common::kafka::Kafka;
use common::ledger::{Ledger, checkpoint, header, read_topic};
use common::process::Producer;
use common::registry::Registry;
use common::source::{Source, Trick, position};
use flight::checkpoint::SourceCheckpoint;
use flight::dead_letter;
use flight_producer::{OBSERVED_MS, Settings, Transport};
use nix::sys::signal::Signal;
use rdkafka::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

/// One broker for all tests of this file; each has topics of its own.
fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(Kafka::start)
}

/// Settings for one test.
async fn settings(test: &str, source: &Source) -> Settings {
    let registry = Registry::start(0).await;
    let mut settings = Settings::default();
    settings.source.url = source.url();
    settings.kafka.brokers = kafka().brokers();
    settings.registry.url = registry.url;
    settings.topics.positions.name = format!("{test}.positions");
    settings.topics.positions.partitions = 2;
    settings.topics.dead_letters.name = format!("{test}.dlq");
    settings.topics.dead_letters.partitions = 1;
    settings.topics.checkpoints.name = format!("{test}.checkpoints");
    settings.commit.interval_ms = 50;
    settings
}

/// A client of the test's own that writes to topics.
fn client(settings: &Settings, transactional_id: Option<&str>) -> BaseProducer {
    let mut config = settings.kafka.client_config("test");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    config.create().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_resumes_where_it_was_killed() {
    let source = Source::start("killed", 1000).await;
    let settings = settings("killed", &source).await;
    let mut producer = Producer::start(&settings);
    // The live edge stands still until the source is claimed.
    producer.wait_until_committed(1000);
    source.grow_slowly(30_000, 10_000);
    for round in 0..5 {
        producer.wait_until_committed(producer_target(round));
        producer.kill();
        producer = Producer::start(&settings);
    }
    producer.wait_until_committed(30_000);
    let last = checkpoint(&settings, "killed").unwrap();
    assert_eq!(last.next_offset, 30_000);
    Ledger::of(&settings, "killed").assert_exactly_once(last.origin..30_000);
    assert_eq!(last.origin, 1000, "the live edge at the first start");
    eventually("the source hears of it", Duration::from_secs(5), || {
        source.acknowledged() == 30_000
    });
    let (code, took) = producer.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Kills come early and late, in the middle of a stream.
fn producer_target(round: i64) -> i64 {
    1 + round * 4_000
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_position_is_dead_lettered_and_its_neighbours_pass() {
    let source = Source::start("malformed", 0).await;
    let mut settings = settings("malformed", &source).await;
    settings.source.initial_offset = Some(0);
    let huge = position(31).replace("\"TST31\"", &format!("\"{}\"", "x".repeat(1_500_000)));
    let wrong = [
        (3, "not json".to_owned(), "malformed_json"),
        (4, position(4).replace("25.25277", "NaN"), "malformed_json"),
        (
            5,
            position(5).replace(r#""callsign":"TST5","#, ""),
            "not_a_position",
        ),
        (6, position(6).replace("F6", ""), "empty_flight_id"),
        (7, String::new(), "malformed_json"),
        (8, "[1,2]".into(), "not_a_position"),
        (31, huge, "too_large"),
        (299, "{".into(), "malformed_json"),
    ];
    for (offset, line, _) in &wrong {
        source.write(*offset, line);
    }
    let hostile = r#"\u0000'; DROP TABLE flight_positions; --\n\"💥"#;
    source.write(20, position(20).replace("TST20", hostile));
    source.write(21, position(21).replace("TST21", ""));
    source.write(22, position(22).replace("25.25277", "-95.0"));
    source.grow_to(300);

    let producer = Producer::start(&settings);
    producer.wait_until_committed(300);
    let ledger = Ledger::of(&settings, "malformed");
    ledger.assert_exactly_once(0..300);
    assert_eq!(
        ledger.dead_letters.keys().copied().collect::<Vec<_>>(),
        wrong.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>()
    );
    assert_eq!(
        ledger.values[&20].0,
        "\0'; DROP TABLE flight_positions; --\n\"💥"
    );
    assert_eq!(ledger.values[&21].0, "");

    let letters = read_topic(&settings, &settings.topics.dead_letters.name);
    for (offset, line, reason) in &wrong {
        let key = format!("source:malformed:{offset}");
        let chunks: Vec<_> = letters
            .iter()
            .filter(|letter| letter.key() == Some(key.as_bytes()))
            .collect();
        let whole: Vec<u8> = chunks
            .iter()
            .flat_map(|c| c.payload().unwrap().to_vec())
            .collect();
        assert_eq!(whole, line.as_bytes(), "{key}");
        assert_eq!(
            header(chunks[0], dead_letter::REASON).as_deref(),
            Some(*reason)
        );
        assert!(header(chunks[0], dead_letter::DETAIL).is_some());
    }
    assert_eq!(
        producer.metric(r#"events_dead_lettered_total{reason="malformed_json"}"#),
        4.0
    );
    assert_eq!(
        producer.metric(r#"events_dead_lettered_total{reason="too_large"}"#),
        1.0
    );
    assert_eq!(producer.metric("events_produced_total"), 292.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_topic_takes_is_dead_lettered() {
    let source = Source::start("small-topic", 0).await;
    let mut settings = settings("small-topic", &source).await;
    settings.source.initial_offset = Some(0);
    // Somebody made the topic with a limit below that of the settings.
    let mut small = settings.topics.positions.clone();
    small.max_message_bytes = 20_000;
    flight::kafka::topics::ensure(&settings.kafka, &[("topics.positions", &small)])
        .await
        .unwrap();
    for (offset, length) in [(10, 30_000), (11, 19_000), (12, 18_000)] {
        let callsign = "x".repeat(length);
        source.write(
            offset,
            position(offset).replace(&format!("TST{offset}"), &callsign),
        );
    }
    source.grow_to(2000);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(2000);
    let ledger = Ledger::of(&settings, "small-topic");
    ledger.assert_exactly_once(0..2000);
    assert_eq!(
        ledger.dead_letters.keys().copied().collect::<Vec<_>>(),
        [10, 11]
    );
    assert_eq!(producer.metric("sessions_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_jumps_or_raves_is_asked_again() {
    for transport in [Transport::Websocket, Transport::Sse] {
        let name = format!("raving-{}", transport.name());
        let source = Source::start(&name, 100).await;
        let mut settings = settings(&name, &source).await;
        settings.source.transport = transport;
        let producer = Producer::start(&settings);
        producer.wait_until_ready();
        source.play([
            Trick::Ahead,
            Trick::Back,
            Trick::Garbage,
            Trick::WrongCount,
            Trick::Binary,
            Trick::Close,
        ]);
        source.grow_slowly(5_000, 5_000);
        producer.wait_until_committed(5_000);
        assert_eq!(source.tricks_left(), 0);
        Ledger::of(&settings, &name).assert_exactly_once(100..5_000);
        let violations =
            |kind: &str| producer.metric(&format!("protocol_errors_total{{kind=\"{kind}\"}}"));
        assert_eq!((violations("ahead"), violations("back")), (1.0, 1.0));
        if transport == Transport::Websocket {
            assert_eq!((violations("frame"), violations("protocol")), (2.0, 1.0));
        }
        assert!(
            producer.log().contains("source jumped ahead to offset"),
            "{}",
            producer.log()
        );
        assert_eq!(
            producer.metric("sessions_total"),
            1.0,
            "the Kafka session goes on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_and_sse_bring_the_same_records() {
    let source = Source::start("either", 0).await;
    source.write(5, "no position");
    source.grow_to(3_000);
    let mut ledgers = Vec::new();
    for transport in [Transport::Websocket, Transport::Sse] {
        let mut settings = settings(&format!("either-{}", transport.name()), &source).await;
        settings.source.transport = transport;
        settings.source.initial_offset = Some(0);
        settings.commit.transactional_id = Some(format!("either-{}", transport.name()));
        let producer = Producer::start(&settings);
        producer.wait_until_committed(3_000);
        let ledger = Ledger::of(&settings, "either");
        ledger.assert_exactly_once(0..3_000);
        ledgers.push(ledger);
    }
    assert_eq!(ledgers[0].values, ledgers[1].values);
    assert_eq!(ledgers[0].dead_letters, ledgers[1].dead_letters);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_fails_is_waited_for() {
    let source = Source::start("registry", 100).await;
    let mut settings = settings("registry", &source).await;
    let registry = Registry::start(7).await;
    settings.registry.url = registry.url.clone();
    let producer = Producer::start(&settings);
    eventually(
        "readiness names the registry",
        Duration::from_secs(20),
        || {
            let (status, text) = producer.readiness();
            status == 503 && text.contains("schema registry") && text.contains("500")
        },
    );
    producer.wait_until_ready();
    source.grow_to(400);
    producer.wait_until_committed(400);
    let ledger = Ledger::of(&settings, "registry");
    ledger.assert_exactly_once(100..400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_goes_away_is_waited_for() {
    let mut source = Source::start("away", 100).await;
    source.vanish();
    let settings = settings("away", &source).await;
    let producer = Producer::start(&settings);
    eventually(
        "readiness names the source",
        Duration::from_secs(10),
        || producer.readiness().1.contains("is away"),
    );
    source.play([]);
    source.appear().await;
    producer.wait_until_ready();
    source.grow_to(500);
    producer.wait_until_committed(500);
    source.vanish();
    eventually(
        "readiness names the source again",
        Duration::from_secs(10),
        || producer.readiness().1.contains("\"source\""),
    );
    source.grow_to(900);
    source.appear().await;
    producer.wait_until_committed(900);
    producer.wait_until_ready();
    let last = checkpoint(&settings, "away").unwrap();
    assert_eq!(last.origin, 100);
    Ledger::of(&settings, "away").assert_exactly_once(100..900);
    assert!(producer.metric(r#"reconnects_total{transport="websocket"}"#) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_at_the_address_gets_a_session_of_its_own() {
    let source = Source::start("first", 100).await;
    let settings = settings("renamed", &source).await;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    source.grow_to(300);
    producer.wait_until_committed(300);
    source.rename("second");
    source.play([Trick::Close]);
    eventually("the second session", Duration::from_secs(20), || {
        producer.metric("sessions_total") == 2.0 && producer.readiness().0 == 200
    });
    source.grow_to(700);
    producer.wait_until_committed(700);
    Ledger::of(&settings, "first").assert_exactly_once(100..300);
    Ledger::of(&settings, "second").assert_exactly_once(300..700);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_producers_the_older_gives_way() {
    let source = Source::start("contested", 100).await;
    let settings = settings("contested", &source).await;
    let older = Producer::start(&settings);
    older.wait_until_ready();
    source.grow_slowly(20_000, 2_000);
    older.wait_until_committed(500);
    let newer = Producer::start(&settings);
    let (code, log) = older.wait_for_exit(Duration::from_secs(30));
    assert_eq!(code, Some(4), "{log}");
    let last = checkpoint(&settings, "contested").unwrap();
    let message = format!("fenced by session {} on host {}", last.session, last.host);
    assert!(log.contains(&message), "{message}: {log}");
    newer.wait_until_committed(20_000);
    Ledger::of(&settings, "contested").assert_exactly_once(100..20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_took_too_long_is_no_newer_producer() {
    let source = Source::start("stopped", 100).await;
    let mut settings = settings("stopped", &source).await;
    settings.commit.transaction_timeout_ms = 2_000;
    settings.commit.interval_ms = 500;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    source.grow_slowly(20_000, 2_000);
    producer.wait_until_committed(1_000);
    producer.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    producer.signal(Signal::SIGCONT);
    producer.wait_until_committed(20_000);
    assert!(
        producer.metric("sessions_total") >= 2.0,
        "{}",
        producer.log()
    );
    Ledger::of(&settings, "stopped").assert_exactly_once(100..20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_checkpoint_are_not_added_to() {
    let source = Source::start("orphan", 100).await;
    let mut settings = settings("orphan", &source).await;
    flight::kafka::topics::ensure(&settings.kafka, &settings.topics.named())
        .await
        .unwrap();
    let stranger = client(&settings, None);
    stranger
        .send(
            BaseRecord::to(&settings.topics.positions.name)
                .key("k")
                .payload("v"),
        )
        .unwrap();
    stranger.flush(Duration::from_secs(10)).unwrap();
    let producer = Producer::start(&settings);
    let (code, log) = producer.wait_for_exit(Duration::from_secs(30));
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("source.initial_offset = N"), "{log}");

    settings.source.initial_offset = Some(60);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(100);
    let last = checkpoint(&settings, "orphan").unwrap();
    assert_eq!((last.origin, last.next_offset), (60, 100));
    producer.stop();
    // Once there is a checkpoint the setting says nothing more.
    settings.source.initial_offset = Some(0);
    source.grow_to(200);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(200);
    let last = checkpoint(&settings, "orphan").unwrap();
    assert_eq!((last.origin, last.next_offset), (60, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_behind_another_source_s_open_transaction_is_found() {
    let source = Source::start("hidden", 100).await;
    let settings = settings("hidden", &source).await;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    // Another source's producer: its transaction stays open while ours go on behind it.
    let other = client(&settings, Some("other-source"));
    other.init_transactions(Duration::from_secs(10)).unwrap();
    other.begin_transaction().unwrap();
    let foreign = SourceCheckpoint {
        source: "other".into(),
        origin: 0,
        next_offset: 5,
        holes: Vec::new(),
        session: "other-1".into(),
        host: "elsewhere".into(),
        committed_at_ms: 0,
    };
    let topic = &settings.topics.checkpoints.name;
    other
        .send(
            BaseRecord::to(topic)
                .key("other")
                .payload(&foreign.to_json()),
        )
        .unwrap();
    other.flush(Duration::from_secs(10)).unwrap();
    source.grow_to(2_000);
    producer.wait_until_committed(2_000);
    producer.kill();
    let producer = Producer::start(&settings);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_ne!(
        producer.readiness().0,
        200,
        "it must not begin before it knows"
    );
    other.commit_transaction(Duration::from_secs(10)).unwrap();
    producer.wait_until_ready();
    source.grow_to(3_000);
    producer.wait_until_committed(3_000);
    Ledger::of(&settings, "hidden").assert_exactly_once(100..3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_carry_trace_and_time() {
    let source = Source::start("headers", 100).await;
    let settings = settings("headers", &source).await;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    source.grow_to(200);
    producer.wait_until_committed(200);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    source.trace(traceparent);
    source.age(Duration::from_secs(3600));
    source.grow_to(250);
    producer.wait_until_committed(250);
    let records = read_topic(&settings, &settings.topics.positions.name);
    assert_eq!(records.len(), 150);
    let with = |name: &str| records.iter().filter(|r| header(r, name).is_some()).count();
    assert_eq!(with(OBSERVED_MS), 50, "those of the late batch only");
    assert_eq!(with("traceparent"), 50, "those of the traced batch only");
    assert_eq!(
        records.iter().filter(|r| r.headers().is_none()).count(),
        100
    );
    let late = records.iter().find_map(|r| header(r, OBSERVED_MS)).unwrap();
    let now_ms = records[0].timestamp().to_millis().unwrap();
    let ago = now_ms - late.parse::<i64>().unwrap();
    assert!((3_500_000..3_700_000).contains(&ago), "{ago}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_bounds_what_is_under_way() {
    let source = Source::start("credit", 0).await;
    let mut settings = settings("credit", &source).await;
    settings.source.initial_offset = Some(0);
    settings.source.credit = 500;
    source.grow_to(10_000);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(10_000);
    assert!(source.most_ahead() <= 500, "{}", source.most_ahead());
    Ledger::of(&settings, "credit").assert_exactly_once(0..10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_commits_what_was_read() {
    let source = Source::start("drain", 100).await;
    let mut settings = settings("drain", &source).await;
    settings.commit.interval_ms = 4_000;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    source.grow_to(600);
    eventually("they are in a transaction", Duration::from_secs(5), || {
        producer.metric("events_produced_total") == 500.0
    });
    let began = Instant::now();
    let (code, _) = producer.stop();
    assert_eq!(code, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(checkpoint(&settings, "drain").unwrap().next_offset, 600);
    Ledger::of(&settings, "drain").assert_exactly_once(100..600);
}
