//! The backlog of a long outage is sent beside live events, each once, whatever is killed meanwhile.

use std::time::Duration;

use flight::avro::RESENT;
use flight::offsets::Offsets;
use flight_producer::Transport;

use crate::common::eventually;
use crate::common::ledger::{Ledger, checkpoint, header, read_topic};
use crate::common::process::Producer;
use crate::common::source::Source;
use crate::settings;

fn pending(producer: &Producer) -> i64 {
    producer.metric("catch_up_pending_events") as i64
}

fn wait_until_pending_below(producer: &Producer, limit: i64) {
    eventually("the hole is filled so far", Duration::from_secs(60), || {
        producer.readiness().0 == 200 && pending(producer) < limit
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn live_events_go_on_while_a_hole_is_filled_and_kills_double_nothing() {
    const OUTAGE: i64 = 100_000;
    let source = Source::start("catching", 100).await;
    source.write(50_000, "no position");
    let mut settings = settings("catching", &source).await;
    settings.catch_up.after_events = 5_000;
    settings.catch_up.max_events_per_s = 20_000;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    source.grow_to(1_000);
    producer.wait_until_committed(1_000);
    producer.kill();

    source.grow_to(OUTAGE);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(OUTAGE);
    let found = checkpoint(&settings, "catching").unwrap();
    assert_eq!((found.origin, found.next_offset), (100, OUTAGE));
    let [Offsets { first, last }] = found.holes[..] else {
        panic!("{found:?}");
    };
    assert!((1_000..OUTAGE).contains(&first), "{found:?}");
    assert_eq!(last, OUTAGE - 1);
    assert!(pending(&producer) > 0);
    // What comes is there long before what was passed over.
    source.grow_slowly(OUTAGE + 20_000, 2_000);
    producer.wait_until_committed(OUTAGE + 200);
    assert!(pending(&producer) > 20_000, "{}", pending(&producer));

    // Killed in the middle of it, stopped in the middle of it.
    wait_until_pending_below(&producer, 75_000);
    producer.kill();
    let producer = Producer::start(&settings);
    wait_until_pending_below(&producer, 50_000);
    assert_eq!(producer.stop().0, Some(0));
    let stopped = checkpoint(&settings, "catching").unwrap();
    assert!(!stopped.holes.is_empty(), "{stopped:?}");
    let producer = Producer::start(&settings);
    wait_until_pending_below(&producer, 25_000);
    producer.kill();
    let producer = Producer::start(&settings);
    wait_until_pending_below(&producer, 1);
    let caught_up = producer.metric("catch_up_events_total") as i64;
    assert!((1..OUTAGE).contains(&caught_up), "{caught_up}");
    producer.wait_until_committed(OUTAGE + 20_000);
    producer.stop();

    let last = checkpoint(&settings, "catching").unwrap();
    assert_eq!((last.next_offset, last.holes), (OUTAGE + 20_000, vec![]));
    let ledger = Ledger::of(&settings, "catching");
    ledger.assert_exactly_once(100..OUTAGE + 20_000);
    assert!(ledger.dead_letters.contains_key(&50_000));
    let late = read_topic(&settings, &settings.topics.positions.name)
        .iter()
        .filter(|record| header(record, RESENT).as_deref() == Some("catch-up"))
        .count();
    // All of them but the one that is a dead letter; perhaps more, where a start took its time.
    assert!(late as i64 >= OUTAGE - 1_000 - 1, "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_away_for_long_is_caught_up_within_the_session() {
    for transport in [Transport::Websocket, Transport::Sse] {
        let name = format!("late-{}", transport.name());
        let mut source = Source::start(&name, 100).await;
        let mut settings = settings(&name, &source).await;
        settings.source.transport = transport;
        settings.catch_up.after_events = 5_000;
        let producer = Producer::start(&settings);
        producer.wait_until_ready();
        for edge in [30_000, 60_000] {
            source.vanish();
            eventually("the source is away", Duration::from_secs(10), || {
                producer.readiness().1.contains("\"source\"")
            });
            source.grow_to(edge);
            source.appear().await;
            producer.wait_until_committed(edge);
            wait_until_pending_below(&producer, 1);
        }
        // A shorter one is sent first, as ever.
        source.grow_to(64_000);
        producer.wait_until_committed(64_000);
        assert_eq!(producer.metric("sessions_total"), 1.0, "{}", producer.log());
        let log = producer.log();
        assert!(log.contains("catch_up.after_events"), "{log}");
        producer.stop();
        Ledger::of(&settings, &name).assert_exactly_once(100..64_000);
    }
}
