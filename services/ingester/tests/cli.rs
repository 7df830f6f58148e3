//! The command line: settings that are wrong are named.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn check(config: &str, environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ingester.toml");
    std::fs::write(&file, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_flight-ingester"))
        .arg("check-config")
        .arg("--config")
        .arg(file)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn defaults_are_valid_and_the_password_stays_hidden() {
    let output = check("", &[]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    assert!(shown.contains("topic = \"flight.positions\""), "{shown}");
    assert!(!shown.contains("\"admin\""), "{shown}");
}

#[test]
fn a_setting_that_is_wrong_is_named() {
    for (config, environment, named) in [
        ("tpoic = \"x\"", ("X", "x"), "tpoic"),
        ("[batch]\nmax_row = 1", ("X", "x"), "max_row"),
        ("[batch]\nmax_rows = \"many\"", ("X", "x"), "batch.max_rows"),
        ("[batch]\nmax_rows = 1000000", ("X", "x"), "batch.max_rows"),
        ("", ("FLIGHT_INGESTER_GRUOP__ID", "x"), "gruop"),
        (
            "",
            ("FLIGHT_INGESTER_GROUP__ASSIGNMENT", "eager"),
            "group.assignment",
        ),
        (
            "[kafka.properties]\n\"isolation.level\" = \"read_uncommitted\"",
            ("X", "x"),
            "kafka.properties.isolation.level",
        ),
    ] {
        let output = check(config, &[environment]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(named), "{named}: {message}");
    }
}
