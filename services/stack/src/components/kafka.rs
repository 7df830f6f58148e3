//! Apache Kafka: one node that is broker and controller.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Context, write};
use crate::component::{Component, KAFKA_CONTROLLER_PORT};
use crate::supervisor::process::{Launch, Program};

/// Any 16 bytes in base64 do: the cluster is of one node and loopback.
const CLUSTER_ID: &str = "Y29udHJhaWwtbG9jYWwtMQ";

/// Its log goes to standard output, where the supervisor keeps it in bounds.
const LOG4J: &str = "\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
# Hundreds of lines of settings at each start.
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
";

pub fn launch(context: &Context) -> Result<Launch, String> {
    let directory = context.layout.data(Component::Kafka);
    let properties = directory.join("server.properties");
    let log4j = directory.join("log4j2.properties");
    write(&properties, &server_properties(context))?;
    write(&log4j, LOG4J)?;

    let java = |heap_mib: u32| {
        Program::new(&context.java)
            .arg(format!("-Xmx{heap_mib}m"))
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg("-Djava.awt.headless=true")
            .arg("-Xshare:auto")
    };
    let class_path = context.parts.kafka_class_path();
    // The broker's metadata is written last when a directory is formatted, so where it is, the
    // directory was formatted to the end.
    let formatted = directory.join("data/meta.properties").is_file();
    let before = (!formatted).then(|| {
        java(128)
            .arg("-XX:TieredStopAtLevel=1")
            .arg("-XX:+UseSerialGC")
            .arg("-cp")
            .arg(&class_path)
            .arg("kafka.tools.StorageTool")
            .arg("format")
            .arg("--ignore-formatted")
            .arg("--cluster-id")
            .arg(CLUSTER_ID)
            .arg("--config")
            .arg(&properties)
    });
    let settings = &context.settings.kafka;
    let mut program = java(settings.heap_mib)
        // On machines with few processors and little memory Java would choose the serial
        // collector by itself, whose pauses reach the latency of the pipeline.
        .arg("-XX:+UseG1GC")
        .arg("-XX:MaxGCPauseMillis=20")
        .arg("-XX:+ExitOnOutOfMemoryError");
    for option in &settings.java_options {
        program = program.arg(option);
    }
    let program = program
        .arg("-cp")
        .arg(&class_path)
        .arg("kafka.Kafka")
        .arg(&properties);
    Ok(Launch { before, program })
}

fn server_properties(context: &Context) -> String {
    let port = context.port(Component::Kafka);
    let controller = KAFKA_CONTROLLER_PORT + context.settings.port_offset;
    let data = context.layout.data(Component::Kafka).join("data");
    let mut properties: BTreeMap<String, String> = [
        ("process.roles", "broker,controller".into()),
        ("node.id", "1".into()),
        (
            "controller.quorum.voters",
            format!("1@127.0.0.1:{controller}"),
        ),
        (
            "listeners",
            format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        ),
        (
            "advertised.listeners",
            format!("PLAINTEXT://127.0.0.1:{port}"),
        ),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
        ),
        ("controller.listener.names", "CONTROLLER".into()),
        ("inter.broker.listener.name", "PLAINTEXT".into()),
        ("log.dirs", data.display().to_string()),
        // The producer makes the topics, with the settings that they need.
        ("auto.create.topics.enable", "false".into()),
        // One node has one copy of everything.
        ("offsets.topic.replication.factor", "1".into()),
        ("transaction.state.log.replication.factor", "1".into()),
        ("transaction.state.log.min.isr", "1".into()),
        (
            "share.coordinator.state.topic.replication.factor",
            "1".into(),
        ),
        ("share.coordinator.state.topic.min.isr", "1".into()),
        // A few groups and a few transactional ids: small tables open and compact quicker.
        ("offsets.topic.num.partitions", "8".into()),
        ("offsets.topic.segment.bytes", "16777216".into()),
        ("transaction.state.log.num.partitions", "8".into()),
        ("transaction.state.log.segment.bytes", "16777216".into()),
        // One consumer is the usual group: nobody to wait for.
        ("group.initial.rebalance.delay.ms", "0".into()),
        // A producer that was killed in a transaction holds up readers until it is aborted.
        (
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "2000".into(),
        ),
        // After SIGKILL a broker is let in again only when the session of its former life is over:
        // by default that takes 9 s.
        ("broker.session.timeout.ms", "3000".into()),
        ("broker.heartbeat.interval.ms", "500".into()),
        // The default takes 128 MiB of the heap for compaction.
        ("log.cleaner.dedupe.buffer.size", "16777216".into()),
        ("num.network.threads", "2".into()),
        ("num.io.threads", "4".into()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    properties.extend(context.settings.kafka.properties.clone());
    let mut text =
        String::from("# Written by contrail at each start: change contrail.toml instead.\n");
    for (name, value) in properties {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}
