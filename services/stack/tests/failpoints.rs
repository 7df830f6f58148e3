//! Every process killed where it hurts most, again and again under load; afterwards each event is in
//! the tables once.
//!
//! The services are killed by themselves at named places, which takes programs that were built with
//! the feature `failpoints`. The engine is killed from here, at random moments of inserts that span
//! several days and so become several parts.

#![allow(clippy::unwrap_used)]

mod whole;

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use contrail::component::Component::{self, Clickhouse, Ingester, Producer};
use contrail::{Stack, State, Verb};
use flight_mock::Simulator;
use whole::{TABLE, World, assert_clean, eventually, now_ms, number, program, rows, try_sql, turn};

/// How often each place must have been deadly.
const KILLS: usize = 20;
/// A test that does not come to its kills within this time has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// Places, and how many of a hundred passes are deadly. Each is passed once a batch, a transaction or an
/// insert, however large that is.
const PRODUCER: [(&str, u32); 3] = [
    ("producer::in-transaction", 2),
    ("producer::before-commit", 20),
    ("producer::after-commit", 24),
];
const INGESTER: [(&str, u32); 3] = [
    ("ingester::after-range-commit", 8),
    ("ingester::in-the-body", 12),
    ("ingester::after-insert", 12),
];

/// The programs that can be killed at named places.
fn deadly_programs() -> PathBuf {
    let directory = program().parent().unwrap().with_file_name("failpoints");
    for component in Component::ALL {
        if let Some(name) = component.binary() {
            let path = directory.join(name);
            assert!(
                path.is_file(),
                "{} is missing: run `make failpoints`",
                path.display()
            );
        }
    }
    for (component, places) in [(Producer, PRODUCER), (Ingester, INGESTER)] {
        let path = directory.join(component.binary().unwrap());
        let program = std::fs::read(&path).unwrap();
        for (name, _) in places {
            let is_there = program
                .windows(name.len())
                .any(|bytes| bytes == name.as_bytes());
            assert!(
                is_there,
                "{} has no failpoint {name}: run `make failpoints`",
                path.display()
            );
        }
    }
    directory
}

fn failpoints(places: &[(&str, u32)]) -> String {
    let all: Vec<String> = places
        .iter()
        .map(|(name, percent)| format!("{name}={percent}%return"))
        .collect();
    all.join(";")
}

/// Starts what has died without the pause that the supervisor would make.
fn revive(stack: &Stack, components: &[Component]) {
    for &component in components {
        if stack.status(component).unwrap().state == State::Restarting {
            stack.ask(component, Verb::Start).unwrap();
        }
    }
}

/// The log of a component, older pieces included.
fn whole_log(stack: &Stack, component: Component) -> String {
    let path = stack.log(component);
    let mut text = String::new();
    for piece in ["3", "2", "1"] {
        let older = path.with_extension(format!("log.{piece}"));
        text.push_str(&std::fs::read_to_string(older).unwrap_or_default());
    }
    text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
    text
}

/// How often each place was deadly, by what the processes said last.
fn deaths(stack: &Stack) -> BTreeMap<&'static str, usize> {
    let mut deaths = BTreeMap::new();
    for (component, places) in [(Producer, PRODUCER), (Ingester, INGESTER)] {
        let log = whole_log(stack, component);
        for (name, _) in places {
            deaths.insert(
                name,
                log.matches(&format!("failpoint {name}: killed")).count(),
            );
        }
    }
    deaths
}

#[test]
fn services_killed_at_every_named_place_lose_and_double_nothing() {
    let _turn = turn();
    let programs = deadly_programs();
    let state = tempfile::tempdir().unwrap();
    // 5,000 events a second, and a backlog of five million.
    let world = World::begun(Duration::from_secs(1000), 5000, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().state(state.path()))
        .binaries(&programs)
        .env(Producer, "FAILPOINTS", failpoints(&PRODUCER))
        .env(Ingester, "FAILPOINTS", failpoints(&INGESTER))
        .launch()
        .unwrap();
    let begun = Instant::now();
    let mut looked = Instant::now();
    loop {
        revive(&stack, &[Producer, Ingester]);
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            let deaths = deaths(&stack);
            if deaths.values().all(|&count| count >= KILLS) {
                break;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "after {PATIENCE:?} deaths are {deaths:?}"
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let deaths = deaths(&stack);
    let restarts = |component| stack.status(component).unwrap().restarts as usize;
    println!(
        "deaths after {:.0} s: {deaths:#?}",
        begun.elapsed().as_secs_f64()
    );
    for (component, places) in [(Producer, PRODUCER), (Ingester, INGESTER)] {
        let sum: usize = places.iter().map(|(name, _)| deaths[name]).sum();
        let restarts = restarts(component);
        println!("{component} was started again {restarts} times");
        assert!(
            restarts >= sum - 1,
            "{restarts} restarts after {sum} deaths"
        );
    }
    let lost = whole_log(&stack, Ingester)
        .matches("the server forgot rows")
        .count();
    println!(
        "{} rows by then; {lost} ranges had to be supplied again",
        rows(&stack)
    );
    stack.shut_down();

    let stack = world
        .settle(Stack::builder().free_ports().state(state.path()))
        .start()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    stack.stop(Producer).unwrap();
    let source = assert_clean(&stack);
    assert_eq!(source["origin"], 0);
    assert!(
        number(&source["expected"]) > 500_000,
        "too little to be called load: {source:#}"
    );
    stack.shut_down();
}

/// A thread of the ingester that hangs, beside others that work, is told of and ends the signs of life that
/// systemd's watchdog waits for.
#[test]
fn a_thread_that_hangs_ends_the_signs_of_life() {
    let _turn = turn();
    let programs = deadly_programs();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let world = World::begun(Duration::from_secs(10), 500, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .binaries(&programs)
        .env(Ingester, "NOTIFY_SOCKET", path.to_str().unwrap())
        .env(Ingester, "WATCHDOG_USEC", "8000000")
        // One of its threads, once, for longer than the test lasts.
        .env(Ingester, "FAILPOINTS", "ingester::collect=1*sleep(900000)")
        .env(Ingester, "FLIGHT_INGESTER_REGISTRY__TIMEOUT_MS", "1000")
        .launch()
        .unwrap();
    let hangs = "hangs: `collect` has taken ";
    let (mut signs, mut buffer) = (0, [0; 64]);
    let length = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    let begun = Instant::now();
    // Signs come each second, and end when the thread is past what its step may take.
    manager
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    while let Ok(length) = manager.recv(&mut buffer) {
        signs += usize::from(&buffer[..length] == b"WATCHDOG=1");
        assert!(
            begun.elapsed() < PATIENCE,
            "after {signs} signs of life there is no end"
        );
    }
    let log = whole_log(&stack, Ingester);
    assert_eq!(log.matches(hangs).count(), 1, "{log}");
    assert!(signs > 20, "only {signs} signs of life");
    assert!(rows(&stack) > 0, "the other threads went on");
    stack.shut_down();
}

const DAY_MS: i64 = 86_400_000;
const PARTITIONS: u32 = 6;

#[test]
fn the_engine_killed_during_inserts_of_several_days_loses_and_doubles_nothing() {
    let _turn = turn();
    // Six ticks a day: 5,000 rows a day in each partition, and batches of 7,000 rows.
    let world = World {
        fleet: 5000,
        period_ms: 4 * 60 * 60 * 1000,
        epoch_ms: (now_ms() / DAY_MS - 100) * DAY_MS,
    };
    let simulator = world.simulator();
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .env(Ingester, "FLIGHT_INGESTER_BATCH__MAX_ROWS", "7000")
        .env(Ingester, "FLIGHT_INGESTER_BATCH__LINGER_MS", "2000")
        .env(Ingester, "RUST_BACKTRACE", "0")
        .start()
        .unwrap();
    let begun = Instant::now();
    let (mut kills, mut between) = (0, 0);
    while kills < 2 * KILLS || between < KILLS {
        assert!(
            begun.elapsed() < PATIENCE,
            "after {PATIENCE:?}: {kills} kills, {between} of them between two parts of a batch"
        );
        let before = rows(&stack);
        eventually(
            Duration::from_secs(30),
            "an insert (are all events in the tables already?)",
            || {
                revive(&stack, &[Clickhouse]);
                rows(&stack) > before
            },
        );
        std::thread::sleep(Duration::from_millis(pseudo_random(kills) % 120));
        // The ingester stands still until it is known what it left.
        stack.ask(Clickhouse, Verb::Kill).unwrap();
        stack.ask(Ingester, Verb::Pause).unwrap();
        let died = stack.pid(Clickhouse);
        kills += 1;
        eventually(Duration::from_secs(30), "the engine is back", || {
            revive(&stack, &[Clickhouse]);
            let status = stack.status(Clickhouse).unwrap();
            status.pid != died && status.state == State::Ready
        });
        between += usize::from(is_between_days(&stack, &simulator));
        stack.resume(Ingester).unwrap();
    }
    let forgotten = whole_log(&stack, Ingester)
        .matches("the server forgot rows")
        .count();
    println!(
        "{kills} kills in {:.0} s, {between} of them between two parts of a batch, {forgotten} between \
         the log of tokens and the rename; {} rows by then",
        begun.elapsed().as_secs_f64(),
        rows(&stack)
    );
    assert_eq!(stack.status(Clickhouse).unwrap().restarts as usize, kills);
    stack.wait_ready(Ingester, Duration::from_secs(60)).unwrap();
    let source = assert_clean(&stack);
    assert_eq!(source["origin"], 0);
    stack.shut_down();
}

/// A different pause each time, the same ones in each run.
fn pseudo_random(round: usize) -> u64 {
    let mut x = (round as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40
}

/// Whether some Kafka partition ends, in the tables, exactly where a day does: the parts of a batch
/// are made one after another, so then the part of the next day was not made any more. (A batch that
/// ends there by itself is one of thousands.)
fn is_between_days(stack: &Stack, simulator: &Simulator) -> bool {
    let highest = try_sql(
        stack,
        &format!(
            "SELECT bitAnd(kafkaMurmurHash(toString(flight_id)), 2147483647) % {PARTITIONS} AS p, max(source_offset) \
             FROM {TABLE} GROUP BY p"
        ),
    )
    .unwrap();
    highest.lines().any(|line| {
        let (partition, offset) = line.split_once('\t').unwrap();
        let (partition, offset): (u32, i64) = (partition.parse().unwrap(), offset.parse().unwrap());
        let day = |offset| simulator.timestamp(offset).unwrap() / DAY_MS;
        (offset + 1..)
            .take_while(|&next| day(next) == day(offset))
            .all(|next| kafka_partition(&simulator.position(next).unwrap().flight_id) != partition)
    })
}

/// The partition of a key: murmur2 as Kafka's own partitioner computes it.
fn kafka_partition(key: &str) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let bytes = key.as_bytes();
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % PARTITIONS
}
