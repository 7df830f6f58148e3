//! `contrail` as a user meets it, with stand-ins for the services.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use common::{Bench, errors, eventually, is_alive};
use contrail::component::Component;
use contrail::{State, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Not a test: what the scripts of [`Bench::stand_ins`] run.
#[test]
fn stand_in() {
    common::serve_as_stand_in();
}

fn statuses(bench: &Bench) -> Vec<Status> {
    let output = bench.run(&["status", "--json"]);
    assert!(output.status.success(), "{}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

const ONLY: [&str; 2] = ["--only", "producer,mock"];

#[test]
fn it_restarts_what_dies_and_stops_in_reverse_order_on_sigterm() {
    let bench = Bench::new();
    bench.stand_ins();
    let mut up = bench.up(&ONLY);

    let before = statuses(&bench);
    let names: Vec<&str> = before.iter().map(|status| status.name.as_str()).collect();
    assert_eq!(names, ["mock", "producer"]);
    assert!(before.iter().all(|status| status.state == State::Ready));
    assert_eq!(before[0].port, Some(8000 + bench.offset.get()));

    let output = bench.run(&["kill", "mock"]);
    assert!(output.status.success(), "{}", errors(&output));
    eventually("mock is ready again", || {
        let now = statuses(&bench);
        now[0].restarts == 1 && now[0].state == State::Ready && now[0].pid != before[0].pid
    });

    for (verb, state) in [
        ("stop", State::Stopped),
        ("start", State::Ready),
        ("restart", State::Ready),
    ] {
        let output = bench.run(&[verb, "producer"]);
        assert!(output.status.success(), "{verb}: {}", errors(&output));
        assert_eq!(statuses(&bench)[1].state, state, "{verb}");
    }
    let output = bench.run(&["stop", "kafka"]);
    assert!(errors(&output).contains("kafka is not part of this stack"));

    let pids: Vec<u32> = statuses(&bench).iter().filter_map(|s| s.pid).collect();
    let asked = Instant::now();
    kill(Pid::from_raw(up.child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(up.child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(15));
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let screen = up.screen();
    let at = |text: &str| {
        screen
            .rfind(text)
            .unwrap_or_else(|| panic!("{text}: {screen}"))
    };
    assert!(
        at("producer    stopped") < at("mock        stopping"),
        "{screen}"
    );
    assert!(errors(&bench.run(&["status"])).contains("no contrail is running"));
}

#[test]
fn nothing_is_left_when_contrail_itself_is_killed() {
    let bench = Bench::new();
    bench.stand_ins();
    let mut up = bench.up(&ONLY);
    let pids: Vec<u32> = statuses(&bench).iter().filter_map(|s| s.pid).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    eventually("the services are gone", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
    // What was left behind is no obstacle.
    let up = bench.up(&ONLY);
    assert!(up.screen().contains("ready in"));
}

#[test]
fn a_second_one_on_the_same_state_is_refused_and_down_ends_the_first() {
    let bench = Bench::new();
    bench.stand_ins();
    let mut up = bench.up(&["--only", "mock"]);
    for arguments in [["up", "--only=mock"], ["reset", "--yes"]] {
        let output = bench.run(&arguments);
        let message = errors(&output);
        assert!(!output.status.success());
        assert!(
            message.contains("already running") && message.contains(&up.child.id().to_string()),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let output = bench.run(&["down"]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(up.child.wait().unwrap().success());
    let logs = bench.run(&["logs", "mock"]);
    assert!(logs.status.success(), "{}", errors(&logs));
    assert!(bench.run(&["reset", "--yes"]).status.success());
    assert!(!bench.state().join("log").exists());
    let message = errors(&bench.run(&["logs", "mock"]));
    assert!(message.contains("no log yet"), "{message}");
}

#[test]
fn reset_touches_no_directory_that_is_not_its_own() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.state().join("log")).unwrap();
    let output = bench.run(&["reset", "--yes"]);
    assert!(output.status.success());
    assert!(bench.state().join("log").is_dir());
}

#[test]
fn a_port_in_use_is_one_line_that_names_who_has_it_and_the_way_out() {
    let bench = Bench::new();
    bench.stand_ins();
    let port = contrail::ports::port(Component::Mock, bench.offset.get());
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let output = bench.run(&["up", "--only", "mock"]);
    let message = errors(&output);
    assert!(!output.status.success());
    for part in [
        &port.to_string(),
        "mock",
        &format!("process {}", std::process::id()),
        "CONTRAIL_PORT_OFFSET",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_missing_java_or_program_is_one_line_that_says_what_to_do() {
    let bench = Bench::new();
    let output = bench
        .contrail(&["up", "--only", "kafka"])
        .env("PATH", "")
        .env_remove("JAVA_HOME")
        .output()
        .unwrap();
    let message = errors(&output);
    assert!(!output.status.success());
    assert!(
        message.contains("java cannot be found")
            && message.contains("apt-get install -y default-jre-headless"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    let message = errors(&bench.run(&["up", "--only", "ingester"]));
    assert!(
        message.contains("flight-ingester is missing") && message.contains("make build"),
        "{message}"
    );
}

#[test]
fn wrong_names_and_settings_are_named() {
    let bench = Bench::new();
    let message = errors(&bench.run(&["up", "--only", "kafak"]));
    assert!(
        message.contains("kafak") && message.contains("ingester"),
        "{message}"
    );
    let output = bench
        .contrail(&["check-config"])
        .env("CONTRAIL_PORT_OFSET", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors(&output).contains("port_ofset"),
        "{}",
        errors(&output)
    );
    let output = bench.run(&["check-config"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("password = \"***\""), "{text}");
}
