//! What is missing is told, with where it is missing, and is there again once the producer was asked.

use std::time::Duration;

use contrail::component::Component::{Clickhouse, Ingester, Producer, Registry};
use contrail::http::Request;
use contrail::{Component, Stack};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::whole::{TABLE, World, assert_clean, contrail, eventually, number, rows, sql, turn};

/// `contrail gaps`: its exit code and its report.
pub fn gaps(stack: &Stack, arguments: &[&str]) -> (i32, Value) {
    let mut all = vec!["gaps", "--json"];
    all.extend(arguments);
    let output = contrail(stack, &all);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "gaps printed no report ({error}): {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    println!("gaps {arguments:?}: {} s", seconds(&report));
    (output.status.code().unwrap_or(-1), report)
}

fn seconds(report: &Value) -> f64 {
    report["seconds"].as_f64().unwrap()
}

pub fn none(stack: &Stack, arguments: &[&str]) -> i64 {
    let (code, report) = gaps(stack, arguments);
    assert_eq!((code, &report["gaps"]), (0, &json!([])), "{report:#}");
    assert_eq!(report["sources"][0]["begin"], 0);
    number(&report["sources"][0]["checked_below"])
}

/// Has the producer send events again, by HTTP; how many there were.
pub fn replay(stack: &Stack, body: &Value) -> i64 {
    let token = std::fs::read_to_string(stack.context().layout.replay_token()).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let ask = |method, path: &str, body: &str| -> Value {
        let answer = Request {
            method,
            port: stack.port(Producer),
            path,
            headers: &[
                ("Authorization", &bearer),
                ("Content-Type", "application/json"),
            ],
            body,
            timeout: Duration::from_secs(30),
        };
        serde_json::from_str(&answer.send().unwrap().body).unwrap()
    };
    let mut replay = ask("POST", "/v1/replays", &body.to_string());
    let id = replay["id"].as_str().map(str::to_owned);
    let id = id.unwrap_or_else(|| panic!("{body}: {replay}"));
    eventually(Duration::from_secs(60), "the replay is over", || {
        replay = ask("GET", &format!("/v1/replays/{id}"), "");
        replay["state"] != "running"
    });
    assert_eq!(replay["state"], "done", "{replay}");
    number(&replay["sent"])
}

/// Deletes the first records of each partition that Kafka still has, as its retention would, up to this
/// share of what the ingester has not taken.
fn forget_in_kafka(stack: &Stack, share: i64) {
    let topic = "flight.positions";
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stack.brokers())
        .set("group.id", "flight-ingester");
    let consumer: BaseConsumer = config.create().unwrap();
    let limit = Duration::from_secs(15);
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, 5);
    let committed = consumer.committed_offsets(list, limit).unwrap();
    let mut until = TopicPartitionList::new();
    for element in committed.elements() {
        let Offset::Offset(offset) = element.offset() else {
            panic!("{element:?}");
        };
        let (_, end) = consumer
            .fetch_watermarks(topic, element.partition(), limit)
            .unwrap();
        let until_there = Offset::Offset(offset + (end - offset) * share / 100);
        until
            .add_partition_offset(topic, element.partition(), until_there)
            .unwrap();
    }
    drop(committed);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(admin.delete_records(&until, &AdminOptions::new()))
        .unwrap();
}

fn produce_for(stack: &Stack, time: Duration) {
    stack.start(Producer).unwrap();
    std::thread::sleep(time);
    stack.stop(Producer).unwrap();
}

pub fn delete(stack: &Stack, condition: &str) {
    sql(
        stack,
        &format!("ALTER TABLE {TABLE} DELETE WHERE {condition} SETTINGS mutations_sync = 1"),
    );
}

#[test]
fn what_is_missing_is_told_and_sent_again() {
    let _turn = turn();
    let stack = World::begun(Duration::from_secs(100), 500, 1000)
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(Duration::from_secs(60), "50,000 rows", || {
        rows(&stack) >= 50_000
    });
    // While events flow, too.
    let checked = none(&stack, &[]);
    assert!(checked >= 50_000, "{checked}");
    assert!(none(&stack, &[]) >= checked);

    // What was found is not looked for again, unless all is asked for.
    delete(&stack, "source_offset IN (0, 1, 2, 777)");
    none(&stack, &[]);
    let (code, report) = gaps(&stack, &["--full"]);
    let found = report["gaps"].as_array().unwrap();
    assert_eq!((code, found.len()), (1, 2), "{report:#}");
    let source = found[0]["source"].clone();
    assert_eq!(report["sources"][0]["source"], source);
    for (gap, (first, last)) in found.iter().zip([(0, 2), (777, 777)]) {
        let whole = json!({"source": source, "first": first, "last": last, "count": last - first + 1,
            "where": "clickhouse", "from": gap["from"], "to": gap["to"]});
        assert_eq!(*gap, whole);
        assert!(gap["to"].as_str().unwrap().starts_with("20"), "{gap}");
    }
    assert_eq!(
        (&found[0]["from"], found[1]["from"].is_string()),
        (&Value::Null, true)
    );
    // What was missing then is.
    assert_eq!(gaps(&stack, &[]).0, 1);
    // What is known to be lost is left out, if so asked, and Kafka is not read to tell the place.
    let name = source.as_str().unwrap();
    sql(
        &stack,
        &format!(
            "INSERT INTO flight_data.repairs (source, first, last, state, found_at, replay, detail) \
             VALUES ('{name}', 1, 5, 'lost', now64(3), '', '')"
        ),
    );
    let (code, report) = gaps(&stack, &["--skip-lost", "--quick"]);
    let found = report["gaps"].as_array().unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|gap| (number(&gap["first"]), number(&gap["last"]), &gap["where"]))
        .collect();
    assert_eq!(told, [(0, 0, &Value::Null), (777, 777, &Value::Null)]);
    assert_eq!((code, number(&report["missing"])), (1, 2));
    assert_eq!(replay(&stack, &json!({"first": 0, "last": 777})), 778);
    none(&stack, &[]);
    none(&stack, &["--full"]);

    // What is on its way is not missing.
    stack.stop(Producer).unwrap();
    assert_clean(&stack);
    let checked = none(&stack, &[]);
    stack.stop(Ingester).unwrap();
    produce_for(&stack, Duration::from_secs(3));
    assert_eq!(none(&stack, &["--wait", "1"]), checked);

    // Without the registry nobody knows what is on its way: it is not called missing.
    stack.stop(Registry).unwrap();
    let output = contrail(&stack, &["gaps", "--wait", "1"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("cannot ask the registry"), "{message}");
    stack.start(Registry).unwrap();
    assert_eq!(none(&stack, &["--wait", "1"]), checked);

    // Kafka forgets a part of it, and ClickHouse, later, other rows.
    forget_in_kafka(&stack, 40);
    stack.start(Ingester).unwrap();
    let (code, report) = gaps(&stack, &["--wait", "60"]);
    let forgotten = number(&report["missing"]);
    assert!(code == 1 && forgotten > 100, "{report:#}");
    let found = report["gaps"].as_array().unwrap();
    assert!(
        found.iter().all(|gap| gap["where"] == "kafka"),
        "{report:#}"
    );
    let counted: i64 = found.iter().map(|gap| number(&gap["count"])).sum();
    assert_eq!(counted, forgotten);
    let first = number(&found[0]["first"]);
    assert!(first >= checked, "{first} {checked}");
    produce_for(&stack, Duration::from_secs(3));
    // All of them are there when there are no more.
    let mut before = 0;
    eventually(Duration::from_secs(60), "the new rows", || {
        std::thread::sleep(Duration::from_secs(2));
        let now = rows(&stack);
        std::mem::replace(&mut before, now) == now
    });
    let newest: i64 = sql(&stack, &format!("SELECT max(source_offset) FROM {TABLE}"))
        .parse()
        .unwrap();
    assert!(newest - 400 > number(&found[found.len() - 1]["last"]));
    let (first, last) = (newest - 200, newest - 101);
    delete(&stack, &format!("source_offset BETWEEN {first} AND {last}"));
    let (code, report) = gaps(&stack, &["--wait", "60"]);
    assert_eq!(code, 1);
    assert_eq!(number(&report["missing"]), forgotten + 100, "{report:#}");
    let found = report["gaps"].as_array().unwrap();
    let here = |place: &str| found.iter().filter(|gap| gap["where"] == place).count();
    assert_eq!(here("clickhouse"), 1, "{report:#}");
    assert_eq!(here("kafka"), found.len() - 1);

    // All of it by times: what stands between the first and the last gap is there already.
    stack.start(Producer).unwrap();
    let (from, to) = (&found[0]["from"], &found[found.len() - 1]["to"]);
    let sent = replay(&stack, &json!({"from": from, "to": to}));
    assert!(sent > forgotten + 100, "{sent}");
    none(&stack, &["--wait", "60"]);
    // Asked twice, it adds nothing.
    assert_eq!(replay(&stack, &json!({"from": from, "to": to})), sent);
    none(&stack, &["--wait", "60", "--full"]);
    stack.stop(Producer).unwrap();
    assert_clean(&stack);

    stack.stop(Clickhouse).unwrap();
    let output = contrail(&stack, &["gaps", "--wait", "1"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("ClickHouse"), "{message}");
    stack.shut_down();
}

#[test]
fn where_nothing_was_produced_it_cannot_be_told() {
    let _turn = turn();
    let stack = Stack::builder()
        .only([Component::Kafka])
        .free_ports()
        .temporary_state()
        .start()
        .unwrap();
    let output = contrail(&stack, &["gaps"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("flight.source-checkpoints"), "{message}");
}
