//! Twenty million records waiting in Kafka: nobody may need more memory for that.
//!
//! It takes minutes and gigabytes of disk, so it runs when asked for:
//! `cargo test --release -p contrail --test backlog -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

mod whole;

use std::time::{Duration, Instant};

use contrail::Stack;
use contrail::component::Component::{self, Clickhouse, Ingester, Kafka, Mock, Producer, Registry};
use whole::{World, clean, eventually, peak_rss_mb, rows, verify};

/// Records that wait.
const BACKLOG: u64 = 20_000_000;
/// Most resident memory of each of our own processes, in MB.
const LIMIT_MB: u64 = 250;

#[test]
#[ignore = "takes minutes and gigabytes of disk"]
fn a_backlog_of_twenty_millions_is_drained_in_bounded_memory() {
    const FLEET: u32 = 50_000;
    // As old as the backlog is long: the producer is through when it reaches the live edge.
    let age = Duration::from_secs(BACKLOG / u64::from(FLEET));
    let stack = World::begun(age, FLEET, 1000)
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    stack.stop(Ingester).unwrap();
    let before = rows(&stack);
    let begun = Instant::now();
    eventually(
        Duration::from_secs(900),
        "20 million events are in Kafka",
        || produced(&stack) >= BACKLOG as f64,
    );
    let peaks = [Mock, Producer].map(|component| (component, peak(&stack, component)));
    let seconds = begun.elapsed().as_secs_f64();
    let filled = produced(&stack);
    println!(
        "filled: {filled:.0} events in {seconds:.0} s, {:.0} a second",
        filled / seconds
    );
    stack.stop(Producer).unwrap();

    let begun = Instant::now();
    stack.start(Ingester).unwrap();
    eventually(Duration::from_secs(900), "they are in ClickHouse", || {
        rows(&stack) as f64 >= filled
    });
    let (seconds, drained) = (begun.elapsed().as_secs_f64(), rows(&stack) - before);
    println!(
        "drained: {drained} rows in {seconds:.0} s, {:.0} a second",
        drained as f64 / seconds
    );
    for component in [Kafka, Registry, Clickhouse] {
        println!(
            "{component}: at most {} MB resident",
            peak(&stack, component)
        );
    }
    let (code, report) = verify(&stack, &["--sample", "100000", "--wait", "60"]);
    clean(code, &report);
    for (component, peak) in peaks
        .into_iter()
        .chain([(Ingester, peak(&stack, Ingester))])
    {
        println!("{component}: at most {peak} MB resident");
        assert!(
            (1..=LIMIT_MB).contains(&peak),
            "{component} had {peak} MB, allowed are {LIMIT_MB}"
        );
    }
    stack.shut_down();
}

fn peak(stack: &Stack, component: Component) -> u64 {
    peak_rss_mb(stack.pid(component).unwrap())
}

/// Events that the producer has committed since it was started.
fn produced(stack: &Stack) -> f64 {
    metric(stack, Producer, "flight_producer_events_committed_total")
}

fn metric(stack: &Stack, component: Component, name: &str) -> f64 {
    let answer = contrail::http::get(stack.port(component), "/metrics", Duration::from_secs(5));
    let text = answer.map(|answer| answer.body).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0.0)
}
