//! flight-ingester, the program, drains the topic.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contrail::Stack;
use contrail::component::Component::{Clickhouse, Ingester, Kafka};
use contrail::supervisor::Verb;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::backlog::{Backlog, PARTITIONS};
use super::{ask, until};
use crate::cpu::{self, Meter};
use crate::rounds::Run;
use crate::world::{self, pid};

/// flight-ingester's default.
const GROUP: &str = "flight-ingester";

/// Drains everything into a new table, and gives the most megabytes that the ingester had resident. The
/// clock runs from the moment at which the ingester has all partitions until the last row is counted.
pub async fn by_ingester(stack: &Stack, backlog: &Backlog) -> Result<(Run, f64)> {
    forget(stack, backlog).await?;
    stack.ask(Ingester, Verb::Start)?;
    until(
        "the ingester has its partitions",
        Duration::from_secs(30),
        || Ok(metric(stack, "flight_ingester_partitions_assigned") == f64::from(PARTITIONS)),
    )?;
    let begun = Instant::now();
    let meter = Meter::start([
        ("kafka", pid(stack, Kafka)?),
        ("flight-ingester", pid(stack, Ingester)?),
        ("clickhouse-embedded", pid(stack, Clickhouse)?),
    ])?;
    until("the topic is drained", Duration::from_secs(120), || {
        let rows = metric(stack, "flight_ingester_rows_inserted_total");
        Ok(rows >= backlog.records as f64)
    })?;
    let elapsed = begun.elapsed();
    let mut used = meter.stop()?;
    let (_, peak_mb) = cpu::resident_mb(pid(stack, Ingester)?)?;
    used.push(("merges afterwards".to_owned(), settle(stack)?));
    check(stack, backlog)?;
    stack.stop(Ingester)?;
    let round = Run {
        events: backlog.records,
        elapsed,
        cpu: used,
    };
    Ok((round, peak_mb))
}

/// Removes the tables and what the group has committed.
async fn forget(stack: &Stack, backlog: &Backlog) -> Result<()> {
    ask(stack, "DROP DATABASE IF EXISTS flight_data SYNC")?;
    let admin: AdminClient<DefaultClientContext> =
        backlog.kafka.client_config("contrail-bench").create()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let deleted = admin.delete_groups(&[GROUP], &AdminOptions::new()).await?;
        match deleted.into_iter().next().context("no answer")? {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => return Ok(()),
            // The broker is still making the groups' topic, or the last member is just leaving.
            Err((group, code)) => ensure!(
                Instant::now() < deadline,
                "group {group} cannot be deleted: {code}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the engine merges no more, and gives the CPU seconds that it used meanwhile.
pub fn settle(stack: &Stack) -> Result<f64> {
    let engine = Meter::start([("engine", pid(stack, Clickhouse)?)])?;
    let mut quiet = 0;
    until("the engine is at rest", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(95));
        let merging = ask(stack, "SELECT count() FROM system.merges")? != "0";
        quiet = if merging { 0 } else { quiet + 1 };
        Ok(quiet >= 5)
    })?;
    Ok(engine.stop()?.iter().map(|(_, seconds)| seconds).sum())
}

/// Every event of the backlog is in the table once.
pub fn check(stack: &Stack, backlog: &Backlog) -> Result<()> {
    let found = ask(
        stack,
        "SELECT count(), uniqExact(source_offset), max(source_offset) FROM flight_data.flight_positions",
    )?;
    let n = backlog.records;
    let expected = format!("{n}\t{n}\t{}", n - 1);
    ensure!(
        found == expected,
        "the table has {found} (rows, different offsets, highest), not {expected}"
    );
    Ok(())
}

/// 0 while it is not told.
fn metric(stack: &Stack, name: &str) -> f64 {
    world::metric(Ingester, stack.port(Ingester), name).unwrap_or(0.0)
}
