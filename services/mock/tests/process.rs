//! The binary: its commands, its exit codes, and its end.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn mock(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flight-mock"));
    command.args(arguments).envs(environment.iter().copied());
    command
}

fn output(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    mock(arguments, environment).output().unwrap()
}

/// A service that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running service and its address, which it logs.
fn running() -> (Running, String) {
    let child = mock(
        &["run"],
        &[
            ("FLIGHT_MOCK_LISTEN", "127.0.0.1:0"),
            ("FLIGHT_MOCK_FLEET", "7"),
        ],
    )
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut child = Running(child);
    let mut log = BufReader::new(child.0.stderr.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        let entry: serde_json::Value =
            serde_json::from_str(line.trim()).expect("logs are JSON without a terminal");
        if let Some(address) = entry["address"].as_str() {
            assert!(
                entry["source"]
                    .as_str()
                    .unwrap()
                    .starts_with("mock-s42-f7-p1000-e")
            );
            let address = address.to_owned();
            // Somebody must read on, or the service would wait for its log.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return (child, address);
        }
        line.clear();
    }
    panic!("the service ended: {:?}", child.0.wait());
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_serves_until_sigterm_and_ends_within_ten_seconds_whatever_clients_do() {
    let (mut child, address) = running();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    for _ in 0..100 {
        if get(&address, "/readyz").starts_with("HTTP/1.1 200") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/metrics").contains("\nflight_mock_live_edge_offset "));
    // A client that asks for everything and reads nothing.
    let mut unread = TcpStream::connect(&address).unwrap();
    unread
        .write_all(b"GET /v1/flights/stream?from=0 HTTP/1.1\r\nHost: mock\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    kill(
        Pid::from_raw(child.0.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(child.0.wait().unwrap().success());
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn check_config_says_what_is_in_effect_or_what_is_wrong() {
    let good = output(
        &["check-config"],
        &[
            ("FLIGHT_MOCK_EPOCH", "1767225600000"),
            ("FLIGHT_MOCK_FLEET", "12"),
        ],
    );
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success());
    assert!(
        text.contains("fleet = 12") && text.contains("epoch = \"2026-01-01T00:00:00Z\""),
        "{text}"
    );

    for (variable, value, part) in [
        ("FLIGHT_MOCK_FLEAT", "12", "fleat"),
        ("FLIGHT_MOCK_FLEET", "0", "fleet"),
        ("FLIGHT_MOCK_FLEET", "lots", "fleet"),
        ("FLIGHT_MOCK_EPOCH", "soon", "epoch"),
        ("FLIGHT_MOCK_TELEMETRY__SAMPLE_RATIO", "7", "sample_ratio"),
    ] {
        for command in ["check-config", "run", "describe"] {
            let bad = output(&[command], &[(variable, value)]);
            let text = String::from_utf8(bad.stderr).unwrap();
            assert_eq!(bad.status.code(), Some(2), "{command}: {text}");
            assert!(text.contains(part), "{command}: {text}");
        }
    }
}

#[test]
fn describe_prints_the_source() {
    let described = output(&["describe"], &[("FLIGHT_MOCK_SEED", "9")]);
    let source: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(source["name"], "mock-s9-f500-p1000-e1767225600000");
    assert_eq!(source["epoch"], "2026-01-01T00:00:00Z");
    assert!(source["next"].as_i64().unwrap() < source["last"].as_i64().unwrap());
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = output(&["run"], &[("FLIGHT_MOCK_LISTEN", &address)]);
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(
        text.lines()
            .any(|line| line.contains("listen") && line.contains(&address)),
        "{text}"
    );
}
