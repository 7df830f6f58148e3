//! One trace shows a batch from its source through Kafka into the insert, and whoever takes the traces is never
//! waited for.

#![allow(clippy::unwrap_used)]

mod receiver;
#[path = "../whole/mod.rs"]
mod whole;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use contrail::component::Component::{self, Clickhouse, Ingester, Mock, Producer};
use contrail::http;
use contrail::stack::Stack;
use receiver::{Receiver, Span, tree};
use serde_json::Value;
use whole::{World, assert_clean, eventually, rows, sql, turn};

/// `SPAN_KIND_SERVER`, `_CLIENT`, `_PRODUCER`, `_CONSUMER` of OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// A stack of which every batch is traced.
fn traced(endpoint: String) -> Stack {
    let builder = Stack::builder().free_ports().temporary_state();
    World::begun(Duration::from_secs(20), 300, 1000)
        .settle(builder)
        .configure(|settings| {
            settings.telemetry.otlp_endpoint = Some(endpoint);
            settings.telemetry.sample_ratio = Some(1.0);
        })
        .start()
        .unwrap()
}

/// The one span of a kind in a trace that is the child of another.
fn child<'a>(trace: &'a [Span], of: &Span, name: &str) -> &'a Span {
    trace
        .iter()
        .find(|span| span.parent == of.id && span.name == name)
        .unwrap_or_else(|| panic!("no child {name} of {}:\n{}", of.name, tree(trace)))
}

/// Whether all of a batch's way is there, into more than one partition: spans arrive when it suits each service.
fn is_whole(trace: &[Span]) -> bool {
    let has_child = |of: &Span, name: &str| {
        trace
            .iter()
            .find(|span| span.parent == of.id && span.name == name)
            .cloned()
    };
    let processed: Vec<_> = named(trace, "process flight.positions").collect();
    let events: i64 = named(trace, "emit")
        .map(|span| span.number("contrail.events"))
        .sum();
    let rows: i64 = processed
        .iter()
        .map(|span| span.number("contrail.rows"))
        .sum();
    processed.len() > 1
        && rows >= events
        && processed.iter().all(|process| {
            let insert = has_child(process, "INSERT flight_positions");
            insert.is_some_and(|insert| has_child(&insert, "query").is_some())
        })
        && named(trace, "commit transaction").count() == 1
        && named(trace, "emit").count() == 1
        && trace.iter().all(|span| !span.is_error)
}

fn named<'a>(trace: &'a [Span], name: &str) -> impl Iterator<Item = &'a Span> {
    trace.iter().filter(move |span| span.name == name)
}

#[test]
fn one_trace_shows_a_batch_from_its_source_into_the_insert() {
    let _turn = turn();
    let receiver = Receiver::start(0);
    let stack = traced(receiver.endpoint());
    let whole = || {
        receiver
            .traces()
            .into_values()
            .find(|trace| is_whole(trace))
    };
    eventually(Duration::from_secs(60), "a whole trace arrives", || {
        whole().is_some()
    });
    let trace = whole().unwrap();
    println!("{}", tree(&trace));
    the_spans_of_a_batch(&stack, &trace);
    log_lines_name_their_trace(&stack, &receiver);
    // Batches waited meanwhile.
    an_insert_of_many_batches_has_links(&receiver);
    assert_clean(&stack);

    // What is still held when a service ends is sent.
    let ended = |service: &str, name: &str| {
        let spans = receiver.spans();
        let of = |span: &&Span| span.service == service && span.name == name;
        spans.iter().filter(of).map(|span| span.end_ns).max()
    };
    let before = ended("flight-producer", "commit transaction");
    stack.stop(Producer).unwrap();
    let after = ended("flight-producer", "commit transaction");
    assert!(
        after > before,
        "the last transactions: {before:?} {after:?}"
    );
    stack.shut_down();
}

fn the_spans_of_a_batch(stack: &Stack, trace: &[Span]) {
    let roots: Vec<_> = trace.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{}", tree(trace));
    let emit = roots[0];
    assert_eq!(
        (&*emit.service, &*emit.name, emit.kind),
        ("flight-mock", "emit", PRODUCER)
    );
    let source = sql(
        stack,
        "SELECT any(source) FROM flight_data.flight_positions",
    );
    let (first, last) = (
        emit.number("contrail.source.first_offset"),
        emit.number("contrail.source.last_offset"),
    );
    assert_eq!(emit.text("contrail.source"), source);
    assert_eq!(emit.number("contrail.events"), last - first + 1);
    assert!(emit.number("contrail.bytes") > 50 * (last - first + 1));

    let send = child(trace, emit, "send flight.positions");
    assert_eq!((&*send.service, send.kind), ("flight-producer", PRODUCER));
    assert_eq!(send.text("messaging.system"), "kafka");
    assert_eq!(send.text("messaging.destination.name"), "flight.positions");
    assert_eq!(
        send.number("messaging.batch.message_count"),
        last - first + 1
    );
    assert_eq!(send.text("contrail.source"), source);
    assert_eq!(send.number("contrail.source.first_offset"), first);
    assert_eq!(send.number("contrail.source.last_offset"), last);
    assert!(send.number("contrail.bytes") > 30 * (last - first + 1));
    let commit = child(trace, send, "commit transaction");
    assert_eq!((&*commit.service, commit.kind), ("flight-producer", CLIENT));
    assert!(commit.number("contrail.source.next_offset") > last);
    assert!(emit.start_ns <= send.start_ns && send.end_ns <= commit.start_ns);

    // Its records went to several partitions, and each inserts for itself.
    let processed: Vec<_> = named(trace, "process flight.positions").collect();
    let partitions: BTreeSet<_> = processed
        .iter()
        .map(|span| span.number("messaging.destination.partition.id"))
        .collect();
    assert!(partitions.len() > 1, "{partitions:?}");
    for process in processed {
        assert_eq!(
            (&*process.service, process.kind),
            ("flight-ingester", CONSUMER)
        );
        assert_eq!(process.parent, send.id);
        assert_eq!(
            process.text("messaging.consumer.group.name"),
            "flight-ingester"
        );
        assert_eq!(process.text("contrail.source"), source);
        let rows = process.number("contrail.rows");
        let range = process.number("contrail.kafka.last_offset")
            - process.number("contrail.kafka.first_offset")
            + 1;
        assert!(rows > 0 && rows <= range, "{rows} rows of {range} offsets");
        assert_eq!(process.number("contrail.inserted_rows"), rows);
        child(trace, process, "commit offset");

        let insert = child(trace, process, "INSERT flight_positions");
        assert_eq!(insert.kind, CLIENT);
        assert_eq!(insert.text("db.system.name"), "clickhouse");
        assert_eq!(insert.text("db.namespace"), "flight_data");
        assert_eq!(insert.number("db.operation.batch.size"), rows);
        assert!(insert.number("contrail.bytes") > 20 * rows);
        assert_eq!(
            insert.text("messaging.destination.partition.id"),
            process.text("messaging.destination.partition.id")
        );
        let query = child(trace, insert, "query");
        assert_eq!(
            (&*query.service, query.kind),
            ("clickhouse-embedded", SERVER)
        );
        assert_eq!(query.text("db.operation.name"), "INSERT");
        assert_eq!(query.number("contrail.written_rows"), rows);
        // The server is done with its own books a moment after it has answered.
        assert!(insert.start_ns <= query.start_ns && query.start_ns <= insert.end_ns);
        assert!(process.end_ns >= insert.end_ns && process.start_ns >= send.start_ns);
    }
}

/// Where an insert has records of several traced batches, it is in the trace of one and names the others.
fn an_insert_of_many_batches_has_links(receiver: &Receiver) {
    let linked = || {
        let spans = receiver.spans();
        let roots: BTreeSet<_> = spans
            .iter()
            .filter(|span| span.name == "emit")
            .map(|span| span.trace.clone())
            .collect();
        spans
            .into_iter()
            .find(|span| span.name == "process flight.positions" && !span.links.is_empty())
            .is_some_and(|span| {
                assert!(span.links.len() <= 32);
                assert!(!span.links.contains(&span.trace));
                span.links.iter().all(|trace| roots.contains(trace))
            })
    };
    eventually(
        Duration::from_secs(30),
        "an insert of several batches",
        linked,
    );
}

/// ClickHouse is away for a moment: the ingester's log says which batches wait, and the traces show their tries.
fn log_lines_name_their_trace(stack: &Stack, receiver: &Receiver) {
    stack.stop(Clickhouse).unwrap();
    let mut line = Value::Null;
    eventually(Duration::from_secs(30), "the log names a trace", || {
        line = lines(&stack.log(Ingester))
            .into_iter()
            .find(|line| line["message"] == "insert will be repeated")
            .unwrap_or_default();
        line["trace_id"].is_string()
    });
    stack.start(Clickhouse).unwrap();
    println!("{line}");
    eventually(Duration::from_secs(30), "the span of the log line", || {
        receiver.spans().iter().any(|span| {
            line["trace_id"] == *span.trace
                && line["span_id"] == *span.id
                && span.name == "INSERT flight_positions"
                && span.is_error
                && span.text("error.type") == "away"
        })
    });
}

/// The lines of a log that are JSON.
fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok())
        .collect()
}

#[test]
fn a_receiver_that_is_stuck_or_away_holds_nothing_up() {
    let _turn = turn();
    let receiver = Receiver::start(0);
    receiver.get_stuck();
    let port = receiver.port;
    let stack = traced(receiver.endpoint());
    let services = [Mock, Producer, Ingester];
    let all = |outcome: &str, least: f64| {
        services
            .iter()
            .all(|service| spans_that_were(&stack, *service, outcome) >= least)
    };
    eventually(Duration::from_secs(60), "spans are dropped", || {
        all("dropped", 1.0)
    });
    let before = rows(&stack);
    eventually(Duration::from_secs(20), "rows come all the same", || {
        rows(&stack) >= before + 2_000
    });

    // From stuck to away: still nothing to wait for.
    drop(receiver);
    let dropped: f64 = services
        .iter()
        .map(|s| spans_that_were(&stack, *s, "dropped"))
        .sum();
    eventually(Duration::from_secs(30), "more are dropped", || {
        services
            .iter()
            .map(|s| spans_that_were(&stack, *s, "dropped"))
            .sum::<f64>()
            > dropped + 20.0
    });
    for service in services {
        let told = |text: &str| {
            lines(&stack.log(service))
                .into_iter()
                .filter(|line| line["message"].as_str().is_some_and(|m| m.contains(text)))
                .count()
        };
        assert_eq!(
            told("telemetry.otlp_endpoint does not take traces"),
            1,
            "{service}"
        );
    }
    // Whoever ends while it is away does not wait for it.
    let begun = Instant::now();
    stack.stop(Mock).unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    stack.start(Mock).unwrap();

    let receiver = Receiver::start(port);
    eventually(Duration::from_secs(60), "spans are taken again", || {
        all("sent", 1.0)
    });
    let taken = lines(&stack.log(Ingester))
        .into_iter()
        .filter(|line| line["message"] == "traces are taken again");
    assert_eq!(taken.count(), 1);

    // Nor does whoever ends while it is stuck, with spans that it would have to send.
    receiver.get_stuck();
    std::thread::sleep(Duration::from_secs(6));
    for service in [Producer, Ingester, Clickhouse] {
        let begun = Instant::now();
        stack.stop(service).unwrap();
        let took = begun.elapsed();
        println!("{service} ended after {:.1} s", took.as_secs_f64());
        assert!(took < Duration::from_secs(10), "{service}: {took:?}");
        stack.start(service).unwrap();
    }
    assert_clean(&stack);
    stack.shut_down();
}

/// Spans of a service that were `sent` or `dropped`.
fn spans_that_were(stack: &Stack, component: Component, outcome: &str) -> f64 {
    let answer = http::get(stack.port(component), "/metrics", Duration::from_secs(5));
    let name = format!("flight_trace_spans_total{{outcome=\"{outcome}\"}}");
    let text = answer.map(|answer| answer.body).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(&*name)?.trim().parse().ok())
        .unwrap_or(0.0)
}
