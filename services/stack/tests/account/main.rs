//! `contrail verify`, `gaps` and `dlq` on a real stack: clean where all is well, and not where it is not.

#![allow(clippy::unwrap_used)]

#[path = "../whole/mod.rs"]
mod whole;

mod catch_up;
mod gaps;
mod letters;
mod measured;

use std::time::Duration;

use contrail::Stack;
use contrail::component::Component::{Ingester, Producer};
use flight::dead_letter::{self, DeadLetter, Place};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use whole::{TABLE, World, assert_clean, eventually, number, rows, sql, turn, verify};

/// Where the rows are kept from which damage is mended.
const COPY: &str = "flight_data.flight_positions_copy";

struct Account {
    stack: Stack,
    source: String,
    checkpoint: i64,
}

impl Account {
    /// The report on a table that is not whole.
    fn faulty(&self) -> Value {
        let (code, report) = verify(&self.stack, &["--sample", "all", "--wait", "5"]);
        assert_eq!((code, &report["ok"]), (1, &json!(false)), "{report:#}");
        assert_eq!(
            report["problems"].as_array().unwrap().len(),
            1,
            "{report:#}"
        );
        report["sources"][0].clone()
    }

    fn delete(&self, condition: &str) {
        let statement =
            format!("ALTER TABLE {TABLE} DELETE WHERE {condition} SETTINGS mutations_sync = 1");
        sql(&self.stack, &statement);
    }

    /// Inserts rows of the copy; `columns` may say how they differ from it.
    fn insert(&self, columns: &str, condition: &str) {
        let statement = format!(
            "INSERT INTO {TABLE} SELECT {columns} FROM {COPY} WHERE {condition} SETTINGS insert_deduplicate = 0"
        );
        sql(&self.stack, &statement);
    }

    fn mend(&self, condition: &str) {
        self.delete(condition);
        self.insert("*", condition);
    }
}

fn send(stack: &Stack, records: Vec<BaseRecord<'_, [u8], [u8]>>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.brokers())
        .create()
        .unwrap();
    for record in records {
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[test]
fn whatever_is_missing_doubled_or_changed_is_found() {
    let _turn = turn();
    let world = World::begun(Duration::from_secs(400), 500, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(Duration::from_secs(60), "200,000 rows", || {
        rows(&stack) >= 200_000
    });
    // While events flow, too.
    assert_clean(&stack);
    stack.stop(Producer).unwrap();
    let whole = assert_clean(&stack);
    assert_eq!(whole["origin"], 0);
    assert_eq!(whole["contents"]["checked"], whole["expected"]);
    assert_eq!(whole["beyond_checkpoint"], 0);
    assert_eq!(
        whole["partitions"].as_array().unwrap().len(),
        6,
        "{whole:#}"
    );
    sql(&stack, &format!("CREATE TABLE {COPY} AS {TABLE}"));
    sql(&stack, &format!("INSERT INTO {COPY} SELECT * FROM {TABLE}"));
    let account = Account {
        source: whole["source"].as_str().unwrap().to_owned(),
        checkpoint: number(&whole["checkpoint"]),
        stack,
    };

    a_deleted_row(&account);
    a_doubled_row(&account);
    changed_values(&account);
    a_cut_tail(&account);
    assert_clean(&account.stack);
    dead_letters(&account);
    what_waits_in_kafka(&account);
}

fn a_deleted_row(account: &Account) {
    account.delete("source_offset IN (0, 77777)");
    let source = account.faulty();
    assert_eq!(source["missing_count"], 2, "{source:#}");
    assert_eq!(
        source["missing"],
        json!([{"first": 0, "last": 0}, {"first": 77777, "last": 77777}])
    );
    account.mend("source_offset IN (0, 77777)");
}

fn a_doubled_row(account: &Account) {
    account.insert("*", "source_offset = 123456");
    let source = account.faulty();
    assert_eq!(source["duplicated"], json!([123_456]), "{source:#}");
    assert_eq!(
        (&source["missing_count"], &source["duplicated_count"]),
        (&json!(0), &json!(1))
    );
    // One there twice and one not there at all are as many rows as there should be.
    account.delete("source_offset = 5");
    let (code, report) = verify(&account.stack, &["--sample", "2", "--wait", "5"]);
    let source = &report["sources"][0];
    assert_eq!(code, 1);
    assert_eq!(
        (&source["missing_count"], &source["duplicated_count"]),
        (&json!(1), &json!(1))
    );
    account.mend("source_offset IN (5, 123456)");
}

fn changed_values(account: &Account) {
    // Every column that says something of the event, each in a row of its own.
    let changes = [
        "altitude + 1 AS altitude",
        "longitude + 0.00001 AS longitude",
        "latitude - 0.00001 AS latitude",
        "gspeed + toFloat32(0.1) AS gspeed",
        "timestamp + toIntervalMillisecond(1) AS timestamp",
        "concat(flight_id, 'x') AS flight_id",
        "concat(callsign, 'x') AS callsign",
        "'ABCDEF' AS icao24",
        "ifNull(track, 0) + toFloat32(0.5) AS track",
        "ifNull(vertical_rate, 0) + 64 AS vertical_rate",
        "'none' AS squawk",
        "NOT ifNull(on_ground, false) AS on_ground",
    ];
    let mut offsets = Vec::new();
    for (offset, change) in (100_000..).zip(changes) {
        let condition = format!("source_offset = {offset}");
        account.delete(&condition);
        account.insert(&format!("* REPLACE ({change})"), &condition);
        offsets.push(offset);
    }
    let source = account.faulty();
    assert_eq!(source["contents"]["changed"], json!(offsets), "{source:#}");
    account.mend("source_offset BETWEEN 100000 AND 100100");
}

fn a_cut_tail(account: &Account) {
    let first = account.checkpoint - 1000;
    account.delete(&format!("source_offset >= {first}"));
    let source = account.faulty();
    let last = account.checkpoint - 1;
    assert_eq!(
        source["missing"],
        json!([{"first": first, "last": last}]),
        "{source:#}"
    );
    account.mend(&format!("source_offset >= {first}"));
}

/// An event among the dead letters is not missing.
fn dead_letters(account: &Account) {
    account.delete("source_offset = 4242");
    let letter = DeadLetter {
        place: Place::Source {
            source: account.source.clone(),
            source_offset: 4242,
        },
        reason: "malformed",
        detail: "not JSON".into(),
        identity: Some((account.source.clone(), 4242)),
        schema_id: None,
        observed_ms: None,
        original_key: None,
        original_headers: Vec::new(),
        payload: b"{",
    };
    let letters = letter.records();
    send(
        &account.stack,
        letters
            .iter()
            .map(|letter| {
                BaseRecord::to(dead_letter::TOPIC)
                    .key(letter.key.as_slice())
                    .payload(letter.payload.as_slice())
                    .headers(letter.headers.clone())
            })
            .collect(),
    );
    let source = assert_clean(&account.stack);
    assert_eq!(source["dead_letters"], 1, "{source:#}");

    // A record that is none of ours, through the ingester: counted, and nothing is wrong.
    send(
        &account.stack,
        vec![
            BaseRecord::to("flight.positions")
                .key(b"k".as_slice())
                .payload(b"garbage".as_slice()),
        ],
    );
    let (code, report) = verify(&account.stack, &["--wait", "30"]);
    assert_eq!(
        (code, &report["dead_letters_without_identity"]),
        (0, &json!(1)),
        "{report:#}"
    );
}

/// Until the ingester is through, the account does not close.
fn what_waits_in_kafka(account: &Account) {
    let stack = &account.stack;
    stack.stop(Ingester).unwrap();
    stack.start(Producer).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    stack.stop(Producer).unwrap();
    let (code, report) = verify(stack, &["--wait", "1"]);
    assert_eq!(code, 1, "{report:#}");
    let problems = report["problems"].to_string();
    assert!(
        problems.contains("not caught up") && problems.contains("missing"),
        "{problems}"
    );
    stack.start(Ingester).unwrap();
    let source = assert_clean(stack);
    assert!(number(&source["checkpoint"]) > account.checkpoint);
}
