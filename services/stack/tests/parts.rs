//! Fetching and damage, with stand-ins for Maven that copy what was really fetched, or fail.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Output;

use common::{Bench, copy, errors};
use contrail::Settings;
use contrail::layout::Layout;

/// Where `make parts` has put the real ones.
fn real() -> PathBuf {
    let parts = Layout::new(&Settings::default()).unwrap().parts;
    assert!(
        parts.join("kafka/.stamp").is_file(),
        "{} has no Kafka: run `make parts`",
        parts.display()
    );
    parts
}

/// A directory of parts that has the real registry and engine, by way of links, and no Kafka.
struct Fetching {
    bench: Bench,
    parts: PathBuf,
}

impl Fetching {
    fn new() -> Self {
        let bench = Bench::new();
        let parts = bench.dir.path().join("parts");
        std::fs::create_dir(&parts).unwrap();
        for name in ["registry", "engine"] {
            std::os::unix::fs::symlink(real().join(name), parts.join(name)).unwrap();
        }
        Self { bench, parts }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        self.bench
            .contrail(arguments)
            .env("CONTRAIL_PARTS", &self.parts)
            .env(
                "PATH",
                format!("{}:{path}", self.bench.binaries().display()),
            )
            .output()
            .unwrap()
    }

    /// Makes `mvn` a script; `$output` is where the jars are to go.
    fn maven(&self, script: &str) {
        let find = "for a; do case $a in -DoutputDirectory=*) output=${a#*=} ;; esac; done";
        self.bench.script("mvn", &format!("{find}\n{script}"));
    }

    fn maven_copies(&self) {
        let libs = real().join("kafka/libs");
        self.maven(&format!("cp '{}'/*.jar \"$output\"", libs.display()));
    }

    /// Everything in the directory of parts, without the links and the lock.
    fn left(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.parts)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["registry", "engine", ".lock"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_damaged_is_named_then_removed_and_fetched_again_and_then_nothing_is_done() {
    let fetching = Fetching::new();
    copy(&real().join("kafka"), &fetching.parts.join("kafka"));
    let jar = fetching.parts.join("kafka/libs/zstd-jni-1.5.6-10.jar");
    let mut bytes = std::fs::read(&jar).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&jar, bytes).unwrap();

    let message = errors(&fetching.run(&["up", "--only", "kafka"]));
    assert!(
        message.contains("zstd-jni-1.5.6-10.jar has other content")
            && message.contains("make parts"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    fetching.maven_copies();
    let output = fetching.run(&["parts"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(
        text.contains("zstd-jni-1.5.6-10.jar has other content"),
        "{text}"
    );
    assert!(text.contains("part kafka: fetched and verified"), "{text}");

    fetching.maven("exit 9");
    let output = fetching.run(&["parts"]);
    assert!(output.status.success(), "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("all parts are in"), "{text}");
    assert_eq!(fetching.left(), ["kafka"]);
}

#[test]
fn what_comes_broken_is_removed_and_named() {
    let fetching = Fetching::new();
    fetching.maven_copies();
    let libs = real().join("kafka/libs");
    fetching.maven(&format!(
        "cp '{}'/*.jar \"$output\"; truncate -s 1000 \"$output\"/lz4-java-*.jar",
        libs.display()
    ));
    let output = fetching.run(&["parts"]);
    let message = errors(&output);
    assert!(!output.status.success());
    assert!(
        message.contains("lz4-java-") && message.contains("expected"),
        "{message}"
    );
    assert!(!fetching.parts.join("kafka").exists());
    assert!(!fetching.parts.join(".fetch-kafka/content").exists());
}

#[test]
fn a_client_that_gives_up_is_named_with_its_complaint_and_its_log() {
    let fetching = Fetching::new();
    fetching.maven("echo '[ERROR] Could not transfer artifact'; echo '[ERROR] Help'; exit 1");
    let output = fetching.run(&["parts"]);
    let message = errors(&output);
    assert!(!output.status.success());
    assert!(
        message.contains("mvn failed") && message.contains("Could not transfer artifact"),
        "{message}"
    );
    assert!(fetching.parts.join(".fetch-kafka/mvn.log").is_file());
    assert!(!fetching.parts.join("kafka").exists());
}

#[test]
fn missing_clients_are_named_with_the_command_that_installs_them() {
    let bench = Bench::new();
    let output = bench
        .contrail(&["parts"])
        .env("CONTRAIL_PARTS", bench.dir.path().join("parts"))
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let message = errors(&output);
    assert!(!output.status.success());
    assert!(
        message.contains("java, mvn, tar, npm cannot be found")
            && message.contains("apt-get install -y default-jre-headless maven tar npm"),
        "{message}"
    );
}
