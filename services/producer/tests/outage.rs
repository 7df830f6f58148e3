//! Kafka goes away in the middle of the stream, in more than one way, and comes back.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::eventually;
use common::kafka::Kafka;
use common::ledger::{Ledger, checkpoint};
use common::process::Producer;
use common::registry::Registry;
use common::source::Source;
use flight_producer::{Settings, Transport};

/// Events of each source, all in all.
const END: i64 = 100_000;

async fn settings(kafka: &Kafka, transport: Transport) -> (Source, Settings) {
    let name = format!("outage-{}", transport.name());
    let source = Source::start(&name, 100).await;
    let mut settings = Settings::default();
    settings.source.url = source.url();
    settings.source.transport = transport;
    settings.kafka.brokers = kafka.brokers();
    settings.registry.url = Registry::start(0).await.url;
    // Shorter than the broker's absences below.
    settings.commit.transaction_timeout_ms = 5_000;
    settings.topics.positions.name = format!("{name}.positions");
    settings.topics.dead_letters.name = format!("{name}.dlq");
    settings.topics.checkpoints.name = format!("{name}.checkpoints");
    (source, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_kafka_freezes_crashes_and_is_away() {
    let mut kafka = Kafka::start();
    let mut runs = Vec::new();
    for transport in [Transport::Websocket, Transport::Sse] {
        let (source, settings) = settings(&kafka, transport).await;
        let producer = Producer::start(&settings);
        runs.push((source, settings, producer));
    }
    for (source, _, producer) in &runs {
        producer.wait_until_ready();
        source.grow_slowly(END, 2_000);
        producer.wait_until_committed(1_000);
    }

    kafka.freeze();
    for (.., producer) in &runs {
        eventually(
            "readiness says that Kafka is away",
            Duration::from_secs(14),
            || producer.readiness().1.contains("\"kafka\""),
        );
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    kafka.thaw();
    for (.., producer) in &runs {
        let next = producer.metric("source_checkpoint_offset") as i64;
        producer.wait_until_committed(END.min(next + 3_000));
        producer.wait_until_ready();
    }

    // A crash in the middle of the stream. The broker is away for longer than transactions may last:
    // when it comes back it aborts what was open, at a moment at which partitions have no leader.
    tokio::task::block_in_place(|| kafka.crash_and_restart(Duration::from_secs(6)));
    for (.., producer) in &runs {
        let next = producer.metric("source_checkpoint_offset") as i64;
        producer.wait_until_committed(END.min(next + 3_000));
        producer.wait_until_ready();
    }

    // A stop while Kafka is frozen: the process ends in time, and the next one goes on.
    kafka.freeze();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut stopped = Vec::new();
    for (source, settings, producer) in runs {
        eprintln!("--- log until the stop\n{}", producer.log());
        let began = Instant::now();
        let (code, _) = tokio::task::spawn_blocking(|| producer.stop())
            .await
            .unwrap();
        assert_eq!(code, Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        stopped.push((source, settings));
    }
    kafka.thaw();
    for (source, settings) in stopped {
        source.grow_to(END);
        let producer = Producer::start(&settings);
        producer.wait_until_committed(END);
        let name = format!("outage-{}", settings.source.transport.name());
        let last = checkpoint(&settings, &name).unwrap();
        assert_eq!((last.origin, last.next_offset), (100, END));
        Ledger::of(&settings, &name).assert_exactly_once(100..END);
        producer.stop();
    }
}
