//! (a) The producer with events from its own process, beside clients of Kafka that write the same bytes.

mod client;
mod events;
mod ours;
mod performance;

use std::sync::Arc;

use anyhow::Result;
use contrail::{Component, Stack};
use flight::kafka::KafkaSettings;
use flight::kafka::topics::{self, TopicSettings};
use tokio::runtime::Runtime;

use super::Group;
use crate::Plan;
use crate::report::{Line, Role, Target, Unit};
use crate::rounds::{Subject, interleaved};
use client::Mode;
use events::Events;

/// The group.
pub const GROUP: Group = Group {
    letter: 'a',
    title: "producer from memory, beside clients of Kafka",
    run,
};

/// Events of one run: whole transactions of 17 frames. What follows a source cannot know that nothing comes after
/// the last event, and would wait for the rest of its interval.
const EVENTS: u64 = 30 * 17 * 3_000;
/// Records before the first round, so that the broker's compiler has seen its hot path.
const WARM_UP: usize = 500_000;
/// What the rate must be of librdkafka's own.
const SHARE: f64 = 0.8;

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let stack = Stack::builder()
        .free_ports()
        .temporary_state()
        .only([Component::Kafka, Component::Registry])
        .start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let cluster = Cluster {
        stack: &stack,
        runtime: &runtime,
        kafka: KafkaSettings {
            brokers: stack.brokers(),
            ..KafkaSettings::default()
        },
    };
    let events = Arc::new(Events::generate(EVENTS)?);
    let names = Names::default();
    client::produce(
        &cluster,
        &names.next("warm"),
        &events,
        WARM_UP,
        Mode::Transactions,
    )?;

    let bytes = format!(
        "{:.0} bytes of key and value a record",
        events.record_bytes()
    );
    let line = |role, subject: &str, path: String| {
        Line::new('a', role, subject, path, Unit::PerSecond, Vec::new())
    };
    let mut lines = interleaved(
        plan.rounds,
        vec![
            Subject::new(
                line(
                    Role::Ours,
                    "flight-producer, from memory",
                    "frames of JSON lines in memory, parsed, as Avro to Kafka in transactions with the checkpoint (200 ms or 50,000 events), lz4, idempotent, acks=all, 6 partitions by key".into(),
                ),
                || ours::produce(&cluster, &names.next("ours"), &events),
            ),
            Subject::new(
                line(
                    Role::Peer,
                    "librdkafka, transactions",
                    format!("the same keys and values made beforehand, rd_kafka_produce in a loop, the same settings and transactions; {bytes}"),
                ),
                || client::produce(&cluster, &names.next("transactions"), &events, EVENTS as usize, Mode::Transactions),
            ),
            Subject::new(
                line(
                    Role::Limit,
                    "librdkafka, idempotent",
                    "the same without transactions".into(),
                ),
                || client::produce(&cluster, &names.next("idempotent"), &events, EVENTS as usize, Mode::Idempotent),
            ),
            Subject::new(
                line(
                    Role::Peer,
                    "Kafka's ProducerPerformance",
                    "the JSON of the events cut to the values' length, no keys, transactions of 200 ms, batch.size 1 MB, linger.ms 5, lz4, its first 500,000 records not counted".into(),
                ),
                || performance::produce(&cluster, &names.next("performance"), &events),
            ),
        ],
    )?;
    let shares = lines[0]
        .samples
        .iter()
        .zip(&lines[1].samples)
        .map(|(ours, peer)| ours / peer)
        .collect();
    let share = Line::new(
        'a',
        Role::Ours,
        "flight-producer / librdkafka",
        "both with transactions, round by round",
        Unit::Times,
        shares,
    );
    lines.insert(2, share.with_target(Target::AtLeast(SHARE)));
    Ok(lines)
}

/// Where everything writes to.
struct Cluster<'a> {
    stack: &'a Stack,
    runtime: &'a Runtime,
    kafka: KafkaSettings,
}

impl Cluster<'_> {
    /// Makes a topic as the producer makes its own.
    fn make(&self, name: &str) -> Result<TopicSettings> {
        let topic = TopicSettings {
            name: name.to_owned(),
            ..flight_producer::Topics::default().positions
        };
        self.runtime
            .block_on(topics::ensure(&self.kafka, &[("topic", &topic)]))?;
        Ok(topic)
    }

    fn kafka_pid(&self) -> Result<u32> {
        crate::world::pid(self.stack, Component::Kafka)
    }
}

/// Names of topics, each used once: every run begins with empty ones.
#[derive(Default)]
struct Names(std::cell::Cell<u32>);

impl Names {
    fn next(&self, subject: &str) -> String {
        self.0.set(self.0.get() + 1);
        format!("bench-{subject}-{}", self.0.get())
    }
}
