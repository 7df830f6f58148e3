//! Dead letters, from the place that they came from and back to it.

use std::time::Duration;

use contrail::Stack;
use contrail::component::Component::Producer;
use flight::avro::{Encoder, POSITION_SCHEMA, Record, SUBJECT};
use flight::dead_letter::{self, DeadLetter, Place};
use flight::registry::{RegistryClient, RegistrySettings};
use flight_mock::Simulator;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

use crate::send;
use crate::whole::{TABLE, World, assert_clean, contrail, eventually, number, rows, sql, turn};

const TOPIC: &str = "flight.positions";

/// `contrail dlq`, which must succeed; its answer.
fn dlq(stack: &Stack, arguments: &[&str]) -> Value {
    let (code, answer, message) = try_dlq(stack, arguments);
    assert_eq!(code, 0, "{arguments:?}: {message}");
    serde_json::from_str(&answer).unwrap()
}

fn try_dlq(stack: &Stack, arguments: &[&str]) -> (i32, String, String) {
    let mut all = vec!["dlq"];
    all.extend(arguments);
    let output = contrail(stack, &all);
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Keys of the letters that wait, by reason.
fn waiting(stack: &Stack) -> Vec<(String, String)> {
    let list = dlq(stack, &["list", "--json"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut letters: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| (text(&letter["reason"]), text(&letter["key"])))
        .collect();
    letters.sort();
    letters
}

/// Waits until these letters wait, by their reasons.
fn wait_for(stack: &Stack, reasons: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    eventually(Duration::from_secs(60), "the letters are there", || {
        found = waiting(stack);
        let all: Vec<&str> = found.iter().map(|(reason, _)| reason.as_str()).collect();
        all == reasons
    });
    found
}

fn key_of<'a>(letters: &'a [(String, String)], reason: &str) -> &'a str {
    let found = letters.iter().find(|(found, _)| found == reason);
    &found.unwrap().1
}

/// An event of the source as a record of a schema.
fn record(simulator: &Simulator, offset: i64, schema_id: u32) -> Vec<u8> {
    let position = simulator.position(offset).unwrap();
    let mut payload = Vec::new();
    let record = Record {
        source: simulator.source_name(),
        source_offset: offset,
        position: position.by_ref(),
    };
    Encoder::new(schema_id).encode(&record, &mut payload);
    payload
}

fn register(stack: &Stack, subject: &str, schema: &str) -> u32 {
    let settings = RegistrySettings {
        url: stack.registry_url(),
        ..RegistrySettings::default()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = RegistryClient::new(&settings).unwrap();
        client.register(subject, schema).await.unwrap()
    })
}

/// A letter as a service writes it.
fn write(stack: &Stack, letter: &DeadLetter<'_>) {
    let records = letter.records();
    let records = records.iter().map(|record| {
        BaseRecord::to(dead_letter::TOPIC)
            .key(record.key.as_slice())
            .payload(record.payload.as_slice())
            .headers(record.headers.clone())
    });
    send(stack, records.collect());
}

fn count(stack: &Stack, offset: i64) -> String {
    sql(
        stack,
        &format!("SELECT count() FROM {TABLE} WHERE source_offset = {offset}"),
    )
}

#[test]
fn letters_are_shown_whole_and_go_back_once() {
    let _turn = turn();
    let world = World::begun(Duration::from_secs(30), 500, 1000);
    let stack = world
        .settle(Stack::builder().free_ports().temporary_state())
        .start()
        .unwrap();
    eventually(Duration::from_secs(60), "15,000 rows", || {
        rows(&stack) >= 15_000
    });
    stack.stop(Producer).unwrap();
    assert_clean(&stack);
    let simulator = world.simulator();
    assert_eq!(dlq(&stack, &["list", "--json"]), json!([]));
    // Two events that are not there: one comes as a record of a schema that nobody has registered yet, the
    // other as a line that the producer of some former version could not read.
    sql(
        &stack,
        &format!(
            "ALTER TABLE {TABLE} DELETE WHERE source_offset IN (4242, 4243) SETTINGS mutations_sync = 1"
        ),
    );
    let probe = register(
        &stack,
        "probe-value",
        r#"{"type":"record","name":"Probe","fields":[]}"#,
    );
    let mut early = record(&simulator, 4242, probe + 1);
    early.push(0);
    let key = simulator.position(4242).unwrap().flight_id;
    send(
        &stack,
        vec![
            BaseRecord::to(TOPIC)
                .key(key.as_bytes())
                .payload(early.as_slice())
                .partition(4)
                .headers(OwnedHeaders::new().insert(Header {
                    key: "traceparent",
                    value: Some("00-x"),
                })),
            BaseRecord::to(TOPIC)
                .key(b"k".as_slice())
                .payload(b"garbage".as_slice()),
        ],
    );
    let line = line_of(&simulator, 4243);
    let source_letter = |offset: i64, payload| DeadLetter {
        place: Place::Source {
            source: simulator.source_name().to_owned(),
            source_offset: offset,
        },
        reason: "malformed_json",
        detail: "of a former version".into(),
        identity: Some((simulator.source_name().to_owned(), offset)),
        schema_id: None,
        observed_ms: Some(simulator.timestamp(offset).unwrap()),
        original_key: None,
        original_headers: Vec::new(),
        payload,
    };
    write(&stack, &source_letter(4243, line.as_bytes()));
    // Twice, as after a crash: it is one.
    write(&stack, &source_letter(4243, line.as_bytes()));
    let letters = wait_for(
        &stack,
        &["malformed_json", "not_wire_format", "unknown_schema"],
    );

    shown(&stack, key_of(&letters, "unknown_schema"), &early, &key);
    refused(&stack, &letters);

    // The cause is there still: the letter comes back, from another place, and is there once.
    let old = key_of(&letters, "unknown_schema");
    let done = dlq(&stack, &["redrive", old, "--json"]);
    assert_eq!(done, json!({"sent": [old], "kept": []}));
    eventually(Duration::from_secs(30), "it comes back", || {
        let now = waiting(&stack);
        now.len() == 3 && key_of(&now, "unknown_schema") != old
    });
    let (code, _, message) = try_dlq(&stack, &["redrive", old]);
    assert!(
        code != 0 && message.contains("redriven already"),
        "{message}"
    );

    // It is mended: both events are where they belong, and the third letter stays one.
    assert_eq!(
        register(&stack, SUBJECT, &evolve(POSITION_SCHEMA)),
        probe + 1
    );
    let both = ["unknown_schema", "malformed_json"].map(|reason| {
        std::thread::scope(|scope| {
            // Two at the same time: one is shut out, or finds nothing left.
            let one = || try_dlq(&stack, &["redrive", "--reason", reason, "--json"]);
            let other = scope.spawn(one);
            [one(), other.join().unwrap()]
        })
    });
    for pair in &both {
        let sent: usize = pair
            .iter()
            .filter(|(code, ..)| *code == 0)
            .map(|(_, answer, _)| {
                let done: Value = serde_json::from_str(answer).unwrap();
                done["sent"].as_array().unwrap().len()
            })
            .sum();
        assert_eq!(sent, 1, "{pair:?}");
    }
    eventually(Duration::from_secs(30), "both are there", || {
        count(&stack, 4242) == "1" && count(&stack, 4243) == "1"
    });
    assert_eq!(waiting(&stack).len(), 1);
    let source = assert_clean(&stack);
    assert_eq!(number(&source["dead_letters"]), 0, "{source:#}");

    // What is in the tables already is not added again.
    let there = line_of(&simulator, 4244);
    write(&stack, &source_letter(4244, there.as_bytes()));
    wait_for(&stack, &["malformed_json", "not_wire_format"]);
    dlq(&stack, &["redrive", "--reason", "malformed_json", "--json"]);
    assert_clean(&stack);
    assert_eq!(count(&stack, 4244), "1");
    // A line that is no position still stays, and says why.
    write(&stack, &source_letter(15, b"{"));
    wait_for(&stack, &["malformed_json", "not_wire_format"]);
    let (code, answer, _) = try_dlq(&stack, &["redrive", "--reason", "malformed_json", "--json"]);
    let done: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &done["sent"]), (1, &json!([])), "{done}");
    assert!(
        done["kept"][0]["why"]
            .as_str()
            .unwrap()
            .contains("malformed_json"),
        "{done}"
    );
    let all = dlq(&stack, &["list", "--all", "--json"]);
    let redriven = |letter: &&Value| !letter["redriven"].is_null();
    assert_eq!(
        all.as_array().unwrap().iter().filter(redriven).count(),
        4,
        "{all:#}"
    );
    let line = line_of(&simulator, 4245);
    left_and_given_up(
        &stack,
        simulator.source_name(),
        &source_letter(4245, line.as_bytes()),
    );
    stack.shut_down();
}

fn line_of(simulator: &Simulator, offset: i64) -> String {
    serde_json::to_string(&simulator.position(offset).unwrap()).unwrap()
}

/// The schema with one more field, which may be absent.
fn evolve(schema: &str) -> String {
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    let field = json!({"name": "note", "type": ["null", "string"], "default": null});
    schema["fields"].as_array_mut().unwrap().push(field);
    schema.to_string()
}

/// A letter with all that came.
fn shown(stack: &Stack, letter: &str, payload: &[u8], key: &str) {
    let output = contrail(stack, &["dlq", "show", letter, "--raw"]);
    assert_eq!(output.stdout, payload);
    let (code, text, _) = try_dlq(stack, &["show", letter]);
    assert_eq!(code, 0);
    for part in [
        letter,
        "unknown_schema",
        key,
        "traceparent",
        "00-x",
        "00000000  00 00",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text, _) = try_dlq(stack, &["list"]);
    assert!(
        code == 0 && text.contains("3 dead letters, 3 shown"),
        "{text}"
    );
    let (code, _, message) = try_dlq(stack, &["show", "nobody:0:1"]);
    assert!(
        code != 0 && message.contains("no dead letter nobody:0:1"),
        "{message}"
    );
}

/// What is not there makes all of them stay.
fn refused(stack: &Stack, letters: &[(String, String)]) {
    for verb in [&["redrive"][..], &["discard", "--why", "x"]] {
        let arguments = [verb, &[&letters[0].1, "nobody:0:1"]].concat();
        let (code, _, message) = try_dlq(stack, &arguments);
        assert!(
            code != 0 && message.contains("no dead letter nobody:0:1"),
            "{message}"
        );
    }
    let (code, _, message) = try_dlq(stack, &["discard", &letters[0].1, "--why", " "]);
    assert!(code != 0 && message.contains("say why"), "{message}");
    assert_eq!(waiting(stack), letters);
}

/// One that has no place to go to keeps none of the others; it is given up, and counted all the same.
fn left_and_given_up(stack: &Stack, source: &str, mended: &DeadLetter<'_>) {
    let gone = DeadLetter {
        place: Place::Record {
            topic: "gone".into(),
            partition: 0,
            offset: 7,
        },
        reason: "datum",
        detail: "its topic is gone".into(),
        identity: None,
        schema_id: None,
        observed_ms: None,
        original_key: None,
        original_headers: Vec::new(),
        payload: b"x",
    };
    write(stack, &gone);
    write(stack, mended);
    let letters = wait_for(
        stack,
        &[
            "datum",
            "malformed_json",
            "malformed_json",
            "not_wire_format",
        ],
    );
    let (code, answer, message) = try_dlq(stack, &["redrive", "--all", "--json"]);
    let done: Value = serde_json::from_str(&answer).unwrap();
    let unreadable = format!("source:{source}:15");
    let list = |name: &str, key: fn(&Value) -> &Value| {
        let mut keys: Vec<String> = done[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|letter| key(letter).as_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    };
    let mut sent = [
        key_of(&letters, "not_wire_format").to_owned(),
        mended.place.to_string(),
    ];
    sent.sort();
    assert_eq!(
        (code, list("sent", |key| key)),
        (1, sent.to_vec()),
        "{done}"
    );
    let kept = list("kept", |kept| &kept["key"]);
    assert_eq!(kept, ["gone:0:7".to_owned(), unreadable.clone()]);
    assert!(answer.contains("topic gone is gone"), "{done}");
    assert!(message.contains("2 of 4 dead letters stay"), "{message}");
    let (code, answer, _) = try_dlq(stack, &["redrive", "gone:0:7"]);
    assert_eq!(code, 1);
    assert_eq!(answer.trim(), "gone:0:7: stays: topic gone is gone");

    let why = "these never were events";
    let done = dlq(
        stack,
        &["discard", "gone:0:7", &unreadable, "--why", why, "--json"],
    );
    assert_eq!(done["discarded"].as_array().unwrap().len(), 2, "{done}");
    wait_for(stack, &["not_wire_format"]);
    let all = dlq(stack, &["list", "--all", "--json"]);
    let told = |letter: &&Value| letter["discarded"] == why;
    assert_eq!(all.as_array().unwrap().iter().filter(told).count(), 2);
    sql(
        stack,
        &format!("ALTER TABLE {TABLE} DELETE WHERE source_offset = 15 SETTINGS mutations_sync = 1"),
    );
    let account = assert_clean(stack);
    assert_eq!(
        (&account["dead_letters"], &account["discarded"]),
        (&json!(1), &json!(1)),
        "{account:#}"
    );
    // By its key it can still be sent, where it can be sent at all.
    let (code, answer, _) = try_dlq(stack, &["redrive", &unreadable]);
    assert!(code == 1 && answer.contains("stays: "), "{answer}");
}
