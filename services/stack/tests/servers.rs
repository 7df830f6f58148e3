//! The real Kafka and registry: ready, healthy, durable, and gone when the stack is.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{eventually, is_alive};
use contrail::component::Component::{Kafka, Registry};
use contrail::http::{Request, get};
use contrail::{Stack, State};

const TIMEOUT: Duration = Duration::from_secs(5);

fn register(port: u16, subject: &str, fields: &str) -> Result<String, String> {
    let schema = format!("{{\"type\":\"record\",\"name\":\"R\",\"fields\":[{fields}]}}");
    Request {
        method: "POST",
        port,
        path: &format!("/apis/ccompat/v7/subjects/{subject}/versions"),
        headers: &[("Content-Type", "application/vnd.schemaregistry.v1+json")],
        body: &serde_json::json!({ "schema": schema }).to_string(),
        timeout: TIMEOUT,
    }
    .send()
    .map_err(|error| error.to_string())?
    .success()
}

#[test]
fn kafka_and_the_registry_survive_being_killed_and_leave_nothing() {
    let begun = Instant::now();
    let stack = Stack::builder()
        .only([Kafka, Registry])
        .free_ports()
        .temporary_state()
        .start()
        .unwrap();
    println!("ready in {:.1} s", begun.elapsed().as_secs_f64());
    let registry = stack.port(Registry);

    // An id that was given out is remembered, though the registry is killed right after: without
    // WRITE_DELAY=0 it writes up to half a second later.
    for round in 1..=3 {
        let field = format!("{{\"name\":\"a{round}\",\"type\":\"string\"}}");
        let id = register(registry, &format!("s{round}"), &field).unwrap();
        stack.kill(Registry).unwrap();
        stack.wait_ready(Registry, Duration::from_secs(60)).unwrap();
        let again = register(registry, &format!("s{round}"), &field).unwrap();
        assert_eq!(id, again);
        let known = get(registry, "/apis/ccompat/v7/subjects", TIMEOUT).unwrap();
        assert!(
            known.body.contains(&format!("\"s{round}\"")),
            "{}",
            known.body
        );
    }
    assert_eq!(stack.status(Registry).unwrap().restarts, 3);

    // A new field without a default cannot be read from old records.
    let incompatible = "{\"name\":\"a1\",\"type\":\"string\"},{\"name\":\"b\",\"type\":\"string\"}";
    let refusal = register(registry, "s1", incompatible).unwrap_err();
    assert!(refusal.contains("409"), "{refusal}");

    stack.kill(Kafka).unwrap();
    let begun = Instant::now();
    stack.wait_ready(Kafka, Duration::from_secs(60)).unwrap();
    println!("Kafka again in {:.1} s", begun.elapsed().as_secs_f64());

    // One that hangs is noticed, and is not killed for it.
    let pid = stack.pid(Kafka);
    stack.pause(Kafka).unwrap();
    eventually("the hanging broker is noticed", || {
        stack.status(Kafka).unwrap().state == State::Unready
    });
    stack.resume(Kafka).unwrap();
    stack.wait_ready(Kafka, Duration::from_secs(30)).unwrap();
    assert_eq!(stack.pid(Kafka), pid);

    stack.stop(Kafka).unwrap();
    stack.start(Kafka).unwrap();

    let pids = [stack.pid(Kafka).unwrap(), stack.pid(Registry).unwrap()];
    let state = stack.context().layout.state.clone();
    drop(stack);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    assert!(!state.exists());
}
