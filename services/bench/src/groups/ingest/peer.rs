//! ClickHouse's own Kafka table engine drains the topic.

use std::time::{Duration, Instant};

use anyhow::Result;
use contrail::Stack;
use contrail::component::Component::{Clickhouse, Kafka};

use super::ask;
use super::backlog::{Backlog, TOPIC};
use super::drain::{check, settle};
use crate::cpu::Meter;
use crate::rounds::Run;
use crate::world::pid;

const COLUMNS: &str = "source String, source_offset Int64, flight_id String, callsign String, \
    longitude Float64, latitude Float64, altitude Int32, gspeed Float32, timestamp DateTime64(3, 'UTC'), \
    icao24 Nullable(String), track Nullable(Float32), vertical_rate Nullable(Int32), \
    squawk Nullable(String), on_ground Nullable(Bool)";
const NAMES: &str = "source, source_offset, flight_id, callsign, longitude, latitude, altitude, gspeed, \
    timestamp, icao24, track, vertical_rate, squawk, on_ground";

/// After so long it has shown how fast it is.
const ENOUGH: Duration = Duration::from_secs(25);

/// Drains the topic into the emptied table. The clock runs from the moment at which its view is there,
/// which makes it subscribe, until the last row is counted, or enough was seen.
pub fn by_kafka_engine(stack: &Stack, backlog: &Backlog, round: usize) -> Result<Run> {
    ask(stack, "TRUNCATE TABLE flight_data.flight_positions SYNC")?;
    ask(stack, "CREATE DATABASE IF NOT EXISTS peer")?;
    ask(
        stack,
        &format!(
            "CREATE TABLE peer.queue ({COLUMNS}) ENGINE = Kafka SETTINGS kafka_broker_list = '{}', \
             kafka_topic_list = '{TOPIC}', kafka_group_name = 'kafka-engine-{round}', \
             kafka_format = 'AvroConfluent', format_avro_schema_registry_url = '{}', \
             kafka_num_consumers = 2, kafka_thread_per_consumer = 1, kafka_max_block_size = 500000, \
             kafka_flush_interval_ms = 1000",
            stack.brokers(),
            stack.registry_url()
        ),
    )?;
    let meter = Meter::start([
        ("kafka", pid(stack, Kafka)?),
        ("clickhouse-embedded", pid(stack, Clickhouse)?),
    ])?;
    let begun = Instant::now();
    ask(
        stack,
        &format!(
            "CREATE MATERIALIZED VIEW peer.view TO flight_data.flight_positions AS SELECT {NAMES} FROM peer.queue"
        ),
    )?;
    let mut rows = 0;
    while rows < backlog.records && begun.elapsed() < ENOUGH {
        std::thread::sleep(Duration::from_millis(20));
        let count = ask(stack, "SELECT count() FROM flight_data.flight_positions")?;
        rows = count.parse()?;
    }
    let elapsed = begun.elapsed();
    let mut cpu = meter.stop()?;
    ask(stack, "DROP DATABASE peer SYNC")?;
    cpu.push(("merges afterwards".to_owned(), settle(stack)?));
    if rows >= backlog.records {
        check(stack, backlog)?;
    }
    Ok(Run {
        events: rows,
        elapsed,
        cpu,
    })
}
