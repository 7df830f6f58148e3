//! Kafka's own ProducerPerformance, as a process.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contrail::Component;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::events::Events;
use super::{Cluster, EVENTS};
use crate::cpu;
use crate::rounds::Run;

/// Records before it counts: Java compiles what is hot only while it runs.
const WARM_UP: u64 = 500_000;
/// Payloads to choose from.
const PAYLOADS: usize = 100_000;

/// What it says of itself; the CPU seconds are those of its whole life.
pub fn produce(cluster: &Cluster<'_>, name: &str, events: &Events) -> Result<Run> {
    let topic = cluster.make(name)?;
    let folder = tempfile::tempdir()?;
    let payloads = folder.path().join("payloads");
    fs::write(&payloads, texts(events)?)?;
    let context = cluster.stack.context();
    let kafka = cluster.kafka_pid()?;
    let (own, brokers) = (children_seconds()?, cpu::seconds(kafka)?);
    let output = Command::new(&context.java)
        .args(["-Xmx512m", "-cp"])
        .arg(context.parts.kafka_class_path())
        .arg("org.apache.kafka.tools.ProducerPerformance")
        .args(["--topic", &topic.name, "--throughput", "-1"])
        .args(["--num-records", &(EVENTS + WARM_UP).to_string()])
        .args(["--warmup-records", &WARM_UP.to_string()])
        .arg("--payload-file")
        .arg(&payloads)
        .args(["--transactional-id", name])
        .args(["--transaction-duration-ms", "200"])
        .arg("--bootstrap-server")
        .arg(&cluster.kafka.brokers)
        .arg("--command-property")
        .args([
            "acks=all",
            "batch.size=1000000",
            "buffer.memory=67108864",
            "compression.type=lz4",
            "linger.ms=5",
        ])
        .stdin(Stdio::null())
        .output()
        .context("java")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "ProducerPerformance failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = rate(&text).with_context(|| format!("no rate in {text:?}"))?;
    // The whole life's seconds over the whole life's records, for the records that count.
    let share = EVENTS as f64 / (EVENTS + WARM_UP) as f64;
    let cpu = [
        ("ProducerPerformance", children_seconds()? - own),
        (Component::Kafka.name(), cpu::seconds(kafka)? - brokers),
    ];
    Ok(Run {
        events: EVENTS,
        elapsed: Duration::from_secs_f64(EVENTS as f64 / rate),
        cpu: cpu
            .map(|(name, seconds)| (name.to_owned(), seconds * share))
            .into(),
    })
}

/// A line for each payload: the event's JSON cut to the length of its value.
fn texts(events: &Events) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let lines = events
        .frames()
        .iter()
        .flat_map(|frame| frame.split(|byte| *byte == b'\n').skip(1));
    for (line, (_, value)) in lines.zip(events.records()).take(PAYLOADS) {
        text.write_all(&line[..line.len().min(value.len())])?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Records a second of the last summary: that of the steady state, where there is one.
fn rate(output: &str) -> Option<f64> {
    let line = output.lines().rfind(|line| line.contains("records/sec"))?;
    let before = line.split("records/sec").next()?;
    before.trim().rsplit([' ', ',']).next()?.parse().ok()
}

/// CPU seconds of all processes that this one started and waited for.
fn children_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_summary_counts() {
        let output = "10 records sent, 11.0 records/sec (0.1 MB/sec), 1.0 ms avg latency\n\
             2000000 records sent, 401123.5 records/sec (61.2 MB/sec), 17.71 ms avg latency\n\
             1500000 steady state records sent, 512345.678 records/sec (77.1 MB/sec), 9 ms\n";
        assert_eq!(rate(output), Some(512_345.678));
        assert_eq!(rate("nothing"), None);
    }
}
