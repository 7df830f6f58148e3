//! The command line, without anything to connect to.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flight-producer"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn the_defaults_are_valid() {
    let output = run(&["check-config"], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("flight.source-checkpoints"), "{text}");
}

#[test]
fn a_typo_is_refused_by_name_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("producer.toml");
    std::fs::write(&path, "[commit]\nintervall_ms = 3\n").unwrap();
    for command in ["check-config", "run"] {
        let output = run(&[command, "--config", path.to_str().unwrap()], &[]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("intervall_ms"), "{text}");
    }
    let output = run(
        &["check-config"],
        &[("FLIGHT_PRODUCER_SOURCE__TRANSPORT", "pigeon")],
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains("source.transport") && text.contains("pigeon"),
        "{text}"
    );
}
