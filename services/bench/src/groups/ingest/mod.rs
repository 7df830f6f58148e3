//! (c) A full topic is drained into ClickHouse.
//!
//! Kafka, the registry and the engine are contrail's own stack on the cores of this machine; the topic
//! was filled before. In each round the same topic is drained by flight-ingester and by ClickHouse's own
//! Kafka table engine into the same table, made anew each time, and the parts of the work are done alone.

mod backlog;
mod drain;
mod limits;
mod peer;

use std::time::Duration;

use anyhow::{Result, ensure};
use contrail::Stack;
use contrail::component::Component::{Clickhouse, Ingester, Kafka, Registry};

use crate::Plan;
use crate::groups::Group;
use crate::report::{Line, Role, Target, Unit};
use crate::rounds::Run;
use backlog::Backlog;
pub use drain::settle;

/// Records in the topic.
const RECORDS: u64 = 6_000_000;

/// The group.
pub const GROUP: Group = Group {
    letter: 'c',
    title: "from a full topic into ClickHouse, 6 million positions of 20,000 aircraft in 6 partitions",
    run,
};

/// CPU seconds a million rows of the processes whose names `counts` accepts.
fn cpu_per_million(run: &Run, counts: impl Fn(&str) -> bool) -> f64 {
    let used = run.cpu.iter().filter(|(name, _)| counts(name));
    used.map(|(_, seconds)| seconds).sum::<f64>() * 1e6 / run.events as f64
}

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(plan))
}

async fn measure(plan: &Plan) -> Result<Vec<Line>> {
    let stack = Stack::builder()
        .only([Kafka, Registry, Clickhouse, Ingester])
        .free_ports()
        .temporary_state()
        .launch()?;
    for component in [Kafka, Registry, Clickhouse] {
        stack.wait_ready(component, Duration::from_secs(90))?;
    }
    stack.stop(Ingester)?;
    let backlog = Backlog::fill(&stack, RECORDS).await?;

    let (mut ours, mut resident) = (Vec::new(), Vec::new());
    let mut peers = Vec::new();
    let (mut raw, mut decoded, mut inserted) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        eprintln!("  round {} of {}", round + 1, plan.rounds);
        let (drained, peak_mb) = drain::by_ingester(&stack, &backlog).await?;
        eprintln!("    flight-ingester {:.0} rows/s", drained.rate());
        ours.push(drained);
        resident.push(peak_mb);
        let drained = peer::by_kafka_engine(&stack, &backlog, round)?;
        eprintln!("    Kafka engine {:.0} rows/s", drained.rate());
        peers.push(drained);
        raw.push(limits::consume(&stack, &backlog, limits::Work::Nothing)?);
        decoded.push(limits::consume(&stack, &backlog, limits::Work::Decode)?);
        inserted.push(limits::insert(&stack, &backlog).await?);
    }
    stack.shut_down();
    lines(&ours, resident, &peers, [&raw, &decoded, &inserted])
}

fn lines(
    ours: &[Run],
    resident: Vec<f64>,
    peers: &[Run],
    [raw, decoded, inserted]: [&[Run]; 3],
) -> Result<Vec<Line>> {
    ensure!(ours.len() == peers.len(), "rounds are missing");
    let rates = |rounds: &[Run]| rounds.iter().map(Run::rate).collect::<Vec<_>>();
    let cpu = |rounds: &[Run]| {
        let taken = rounds.iter().map(|run| (run.events, run.cpu.clone()));
        taken.collect::<Vec<_>>()
    };
    let line = |role, subject: &str, path: &str, rounds: &[Run]| {
        Line::new('c', role, subject, path, Unit::PerSecond, rates(rounds)).with_cpu(&cpu(rounds))
    };
    let service = |name: &str| name == "flight-ingester" || name == "clickhouse-embedded";
    let paired = ours.iter().zip(peers);
    Ok(vec![
        line(
            Role::Ours,
            "flight-ingester",
            "Kafka → librdkafka → decode, judge → Native blocks → HTTP → clickhouse-embedded → \
             flight_positions, exactly once",
            ours,
        )
        .with_target(Target::AtLeast(1_000_000.0)),
        Line::new(
            'c',
            Role::Ours,
            "ingester and engine together",
            "the same; merges that go on after the last row are shown above and not counted here",
            Unit::CpuSecondsPerMillion,
            ours.iter()
                .map(|run| cpu_per_million(run, service))
                .collect(),
        )
        .with_target(Target::AtMost(1.5)),
        Line::new(
            'c',
            Role::Ours,
            "flight-ingester, most resident",
            "the same",
            Unit::Megabytes,
            resident,
        )
        .with_target(Target::AtMost(250.0)),
        line(
            Role::Peer,
            "ClickHouse's Kafka engine",
            "Kafka → libchdb's Kafka table, AvroConfluent, 2 consumers, blocks of 500,000, flush 1 s → \
             materialized view → flight_positions, at least once",
            peers,
        ),
        Line::new(
            'c',
            Role::Ours,
            "times the Kafka engine",
            "the two rates of one round",
            Unit::Times,
            paired.map(|(our, peer)| our.rate() / peer.rate()).collect(),
        )
        .with_target(Target::AtLeast(3.0)),
        line(
            Role::Limit,
            "raw consume",
            "Kafka → librdkafka, all partitions on one thread, 4096 records at a time, nothing done",
            raw,
        ),
        line(
            Role::Limit,
            "decode only",
            "Kafka → librdkafka → decode, judge, encode as a block, thrown away",
            decoded,
        ),
        line(
            Role::Limit,
            "insert only",
            "blocks made before → HTTP → clickhouse-embedded → flight_positions",
            inserted,
        ),
    ])
}

/// Waits until something is so.
fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + limit;
    while !is_so()? {
        ensure!(
            std::time::Instant::now() < deadline,
            "not within {limit:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ask(stack: &Stack, sql: &str) -> Result<String> {
    stack
        .warehouse()
        .query(sql, &[], "TabSeparated", Duration::from_secs(60))
        .map(|answer| answer.trim().to_owned())
        .map_err(|error| anyhow::anyhow!("{sql}: {error}"))
}
