//! How long mending and looking take where there is much of it. docs/recovery.md has a run.
//!
//! `cargo test --release --workspace --test account measured -- --ignored --nocapture --test-threads 1`

use std::process::Command;
use std::time::{Duration, Instant};

use contrail::Stack;
use contrail::component::Component::{Mock, Producer};
use flight::checkpoint::{self, SourceCheckpoint};
use flight_mock::Parameters;
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

use crate::catch_up::age_ms;
use crate::gaps::{delete, gaps, none, replay};
use crate::send;
use crate::whole::{
    TABLE, World, assert_clean, eventually, number, program, rows, sql, turn, verify,
};

/// Live events a second, all the while.
const RATE: u32 = 5_000;
/// Longest wait for anything that is measured.
const LIMIT: Duration = Duration::from_secs(300);

/// Rows of a range of offsets.
fn there(stack: &Stack, first: i64, last: i64) -> i64 {
    let range = format!("source_offset BETWEEN {first} AND {last}");
    let count = sql(stack, &format!("SELECT count() FROM {TABLE} WHERE {range}"));
    count.parse().unwrap()
}

/// `flight-producer replay`, as an operator beside the stack runs it.
fn replay_by_command(stack: &Stack, first: i64, last: i64) {
    let output = Command::new(program().with_file_name("flight-producer"))
        .args([
            "replay",
            "--first",
            &first.to_string(),
            "--last",
            &last.to_string(),
        ])
        .env("FLIGHT_PRODUCER_SOURCE__URL", stack.url(Mock))
        .env("FLIGHT_PRODUCER_KAFKA__BROKERS", stack.brokers())
        .env("FLIGHT_PRODUCER_REGISTRY__URL", stack.registry_url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{last}");
}

/// Removes a range and has it sent again: from the request to the last row. Live events go on meanwhile.
fn mend(stack: &Stack, how: &str, (first, last): (i64, i64), ask: impl FnOnce() + Send) {
    let count = last - first + 1;
    delete(stack, &format!("source_offset BETWEEN {first} AND {last}"));
    let (code, report) = gaps(stack, &["--full", "--quick"]);
    assert_eq!((code, number(&report["missing"])), (1, count), "{report:#}");
    assert_eq!(there(stack, first, last), 0);
    let (mut began, mut in_kafka, mut oldest_ms) = (Instant::now(), None, 0);
    std::thread::scope(|scope| {
        began = Instant::now();
        let asking = scope.spawn(ask);
        eventually(LIMIT, "every row is there again", || {
            if asking.is_finished() && in_kafka.is_none() {
                in_kafka = Some(began.elapsed());
            }
            oldest_ms = oldest_ms.max(age_ms(stack));
            std::thread::sleep(Duration::from_millis(150));
            there(stack, first, last) == count
        });
    });
    let took = began.elapsed().as_secs_f64();
    println!(
        "{how}: {count} events: in Kafka after {:.1} s, the last row after {took:.1} s; live events were {:.1} s old at most",
        in_kafka.map_or(took, |in_kafka| in_kafka.as_secs_f64()),
        oldest_ms as f64 / 1000.0
    );
    none(stack, &[]);
}

#[test]
#[ignore = "measures: give it the machine"]
fn measured_replay_of_a_million_events() {
    let _turn = turn();
    let began = Duration::from_secs(240);
    let stack = World::begun(began, RATE, 1000)
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(LIMIT, "a million rows, and live", || {
        rows(&stack) > 1_100_000 && age_ms(&stack) < 3_000
    });
    let range = (10_000, 1_009_999);
    mend(&stack, "flight-producer replay", range, || {
        replay_by_command(&stack, range.0, range.1);
    });
    mend(&stack, "POST /v1/replays", range, || {
        let sent = replay(&stack, &json!({"first": range.0, "last": range.1}));
        assert_eq!(sent, 1_000_000);
    });
    stack.stop(Producer).unwrap();
    assert_clean(&stack);
    stack.shut_down();
}

/// Writes a checkpoint that says that everything below an offset was sent.
fn set_checkpoint(stack: &Stack, source: &str, next_offset: i64) {
    let checkpoint = SourceCheckpoint {
        source: source.to_owned(),
        origin: 0,
        next_offset,
        holes: Vec::new(),
        session: "measured".into(),
        host: "localhost".into(),
        committed_at_ms: crate::whole::now_ms(),
    };
    let value = checkpoint.to_json();
    let record = BaseRecord::to(checkpoint::TOPIC)
        .key(source.as_bytes())
        .payload(value.as_slice());
    send(stack, vec![record]);
}

/// Inserts rows of a source without Kafka: as many aircraft, at the times at which the source placed its
/// events, somewhere.
fn load(stack: &Stack, parameters: Parameters, first: i64, end: i64, without: &str) {
    const CHUNK: i64 = 5_000_000;
    let Parameters {
        fleet,
        period_ms,
        epoch_ms,
        ..
    } = parameters;
    let source = parameters.source_name();
    let mut from = first;
    while from < end {
        let count = CHUNK.min(end - from);
        sql(
            stack,
            &format!(
                "INSERT INTO {TABLE} (flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, source, source_offset) \
                 WITH number % {fleet} AS aircraft, intDiv(number, {fleet}) AS tick \
                 SELECT concat('F', toString(aircraft)), concat('CTR', toString(aircraft)), \
                   round(aircraft % 360 - 180 + tick % 10000 / 10000, 5), round(aircraft % 180 - 90 + tick % 10000 / 10000, 5), \
                   toInt32(30000 + tick % 1000), toFloat32(400 + aircraft % 100), \
                   fromUnixTimestamp64Milli(toInt64({epoch_ms} + tick * {period_ms}), 'UTC'), '{source}', number \
                 FROM numbers({from}, {count}) WHERE {without} \
                 SETTINGS max_block_size = 1000000, min_insert_block_size_rows = 1000000, max_threads = 1, max_insert_threads = 1"
            ),
        );
        from += count;
        println!("{from} rows");
    }
}

fn look(stack: &Stack, what: &str, arguments: &[&str]) -> Value {
    let began = Instant::now();
    let (code, report) = gaps(stack, arguments);
    assert!(code < 2, "{report:#}");
    println!(
        "{what}: {:.2} s, checked below {}, {} missing",
        began.elapsed().as_secs_f64(),
        report["sources"][0]["checked_below"],
        report["missing"]
    );
    report
}

#[test]
#[ignore = "measures: give it the machine, and 4 GB of disk"]
fn measured_gaps_among_a_hundred_million_rows() {
    const ROWS: i64 = 100_000_000;
    let _turn = turn();
    // By now it has as many events.
    let age = Duration::from_secs(ROWS as u64 / u64::from(RATE));
    let world = World::begun(age, RATE, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(LIMIT, "the first rows", || rows(&stack) > 10_000);
    stack.stop(Producer).unwrap();
    let (_, report) = verify(&stack, &["--wait", "60"]);
    let next = number(&report["sources"][0]["checkpoint"]);
    assert_eq!(none(&stack, &["--wait", "60"]), next);

    let parameters = world.parameters();
    let (first, last, another) = (ROWS / 2, ROWS / 2 + 99, ROWS / 4 * 3);
    let without = format!("number NOT BETWEEN {first} AND {last} AND number != {another}");
    load(&stack, parameters, next, ROWS, &without);
    set_checkpoint(&stack, &parameters.source_name(), ROWS);
    let bytes = "SELECT count(), formatReadableSize(sum(bytes_on_disk)) FROM system.parts WHERE active AND table = 'flight_positions'";
    println!("parts and bytes: {}", sql(&stack, bytes));

    let report = look(&stack, "the first look", &["--quick"]);
    assert_eq!(report["missing"], 101, "{report:#}");
    look(&stack, "the second", &["--quick"]);
    look(&stack, "and with their place", &[]);
    look(&stack, "everything anew", &["--full", "--quick"]);

    stack.start(Producer).unwrap();
    replay(
        &stack,
        &json!({"ranges": [[first, last], [another, another]]}),
    );
    eventually(LIMIT, "events are live", || age_ms(&stack) < 3_000);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(10));
        let report = look(&stack, "beside live events", &[]);
        assert_eq!(report["missing"], 0, "{report:#}");
    }
    let report = look(&stack, "everything anew, beside live events", &["--full"]);
    assert_eq!(report["missing"], 0, "{report:#}");
    println!("parts and bytes: {}", sql(&stack, bytes));
    stack.shut_down();
}
