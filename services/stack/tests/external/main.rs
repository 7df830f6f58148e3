//! Servers that are there already: a Kafka with TLS, SCRAM and rights, a registry and a ClickHouse
//! behind TLS. Everything works against them, and what is wrong with the way to them is said clearly.

#![allow(clippy::unwrap_used)]

mod authority;
mod door;
mod servers;
mod service;
#[path = "../whole/mod.rs"]
mod whole;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use contrail::component::Component;
use contrail::ports::FreeOffset;
use contrail::{Settings, Stack};
use flight::clickhouse::ClickhouseSettings;
use flight::config::Secret;
use flight::kafka::{Inquiry, KafkaSettings, Security};
use flight::registry::RegistrySettings;
use flight::tls::TlsSettings;
use serde::Serialize;
use serde_json::Value;

use authority::NOW;
use door::Door;
use servers::{Listener, PASSWORD, Servers, USER};
use service::Service;
use whole::{World, clean, eventually, read_report, turn};

/// The commands of docs/external.md, behind `--allow-principal`.
const TOPICS: &str = "--operation Create --operation Describe --operation DescribeConfigs --operation Read --operation Write --topic flight.positions --topic flight.positions.dlq --topic flight.source-checkpoints";
const TRANSACTIONS: &str = "--operation Describe --operation Write --transactional-id flight-producer- --resource-pattern-type prefixed";
const GROUP: &str = "--operation Read --group flight-ingester";
/// For `contrail reset --external`.
const REMOVAL: [&str; 2] = [
    "--operation Delete --topic flight.positions --topic flight.positions.dlq --topic flight.source-checkpoints",
    "--operation Delete --group flight-ingester",
];

#[test]
fn the_documentation_has_the_rights_that_are_tested() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/external.md");
    let text = std::fs::read_to_string(path).unwrap().replace(" \\\n", " ");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(&text);
    for rights in [TOPICS, TRANSACTIONS, GROUP, REMOVAL[0], REMOVAL[1]] {
        assert!(
            text.contains(&words(rights)),
            "docs/external.md lacks: {rights}"
        );
    }
}

/// `contrail` on external servers, in a directory of its own.
struct Home {
    directory: tempfile::TempDir,
    offset: FreeOffset,
}

impl Home {
    fn new(settings: &Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = toml::to_string(settings).unwrap();
        std::fs::write(directory.path().join("contrail.toml"), text).unwrap();
        Self {
            directory,
            offset: FreeOffset::pick().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(whole::program());
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("CONTRAIL_STATE", self.directory.path().join("state"))
            .env("CONTRAIL_PORT_OFFSET", self.offset.get().to_string())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "contrail {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "contrail {arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A child that goes with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_works_on_external_servers() {
    let _turn = turn();
    let servers = Servers::start();
    for rights in [TOPICS, TRANSACTIONS, GROUP] {
        servers.grant(USER, rights);
    }
    let world = World::begun(Duration::from_secs(60), 200, 500);
    let mut settings = Settings::default();
    let mut kafka = servers.kafka();
    kafka.sasl.password = Secret::default();
    kafka.sasl.password_file = Some(servers.secret_file("kafka-password", PASSWORD));
    settings.kafka.external = Some(kafka);
    settings.registry.external = Some(servers.registry());
    settings.clickhouse.external = Some(servers.clickhouse());
    for (component, name, value) in [
        (
            Component::Mock,
            "FLIGHT_MOCK_FLEET",
            world.fleet.to_string(),
        ),
        (
            Component::Mock,
            "FLIGHT_MOCK_PERIOD_MS",
            world.period_ms.to_string(),
        ),
        (
            Component::Mock,
            "FLIGHT_MOCK_EPOCH",
            world.epoch_ms.to_string(),
        ),
        (
            Component::Producer,
            "FLIGHT_PRODUCER_SOURCE__INITIAL_OFFSET",
            "0".into(),
        ),
    ] {
        settings.env_mut(component).insert(name.into(), value);
    }
    let home = Home::new(&settings);

    let shown = home.ok(&["check-config"]);
    for secret in [PASSWORD, "letter", "columns"] {
        assert!(!shown.contains(&format!("\"{secret}\"")), "{shown}");
    }
    assert_eq!(home.ok(&["parts"]), "nothing to fetch\n");
    let refusal = home.refused(&["up", "--only", "kafka,mock"]);
    assert!(refusal.contains("kafka is external"), "{refusal}");

    let screen = home.directory.path().join("screen");
    let mut up = home.command(&["up"]);
    up.stdout(std::fs::File::create(&screen).unwrap());
    let mut up = Running(up.spawn().unwrap());
    eventually(Duration::from_secs(90), "contrail up is ready", || {
        let text = std::fs::read_to_string(&screen).unwrap();
        assert!(
            up.0.try_wait().unwrap().is_none(),
            "contrail up ended: {text}"
        );
        text.contains(" ready in ")
    });

    let (code, report) = read_report(&home.run(&["verify", "--sample", "all", "--wait", "60"]));
    let source = clean(code, &report);
    assert!(whole::number(&source["expected"]) > 20_000, "{source:#}");
    let statuses: Vec<Value> = serde_json::from_str(&home.ok(&["status", "--json"])).unwrap();
    let state = |name: &str| {
        let status = statuses.iter().find(|status| status["name"] == name);
        status.unwrap_or_else(|| panic!("no {name} in {statuses:?}"))["state"].clone()
    };
    for (name, wanted) in [
        ("kafka", "external"),
        ("registry", "external"),
        ("clickhouse", "external"),
        ("mock", "ready"),
        ("producer", "ready"),
        ("ingester", "ready"),
    ] {
        assert_eq!(state(name), wanted);
    }
    let table = home.ok(&["status"]);
    for location in [
        settings.kafka.external.unwrap().brokers,
        servers.clickhouse().url,
    ] {
        assert!(table.contains(&location), "{table}");
    }
    assert!(!table.contains("does not answer"), "{table}");
    let refusal = home.refused(&["stop", "kafka"]);
    assert!(refusal.contains("external"), "{refusal}");
    let answer = home.ok(&["query", "altitude_by_hour", "--format", "CSV"]);
    assert!(!answer.is_empty());

    home.ok(&["down"]);
    up.0.wait().unwrap();
    let refusal = home.refused(&["reset", "--yes"]);
    assert!(refusal.contains("--keep-external"), "{refusal}");
    assert!(whole::rows(&servers.stack) > 20_000);
    home.ok(&["reset", "--yes", "--keep-external"]);
    assert!(whole::rows(&servers.stack) > 20_000);
    let refusal = home.refused(&["reset", "--yes", "--external"]);
    assert!(
        refusal.contains("cannot be removed by User:flight"),
        "{refusal}"
    );
    for rights in REMOVAL {
        servers.grant(USER, rights);
    }
    home.ok(&["reset", "--yes", "--external"]);
    let inquiry = Inquiry::new(&servers.stack.context().kafka(), "test").unwrap();
    eventually(Duration::from_secs(10), "the topic is gone", || {
        inquiry.partitions("flight.positions").unwrap().is_none()
    });
    let databases = whole::sql(
        &servers.stack,
        "SELECT count() FROM system.databases WHERE name = 'flight_data'",
    );
    assert_eq!(databases, "0");
}

/// Settings of a service, as far as these tests change them.
#[derive(Clone, Serialize)]
struct Reach {
    kafka: KafkaSettings,
    registry: RegistrySettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse: Option<ClickhouseSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Clone, Serialize)]
struct Source {
    url: String,
    transport: &'static str,
    tls: TlsSettings,
}

struct Pipeline {
    servers: Servers,
    mock: Stack,
}

impl Pipeline {
    fn start() -> Self {
        let servers = Servers::start();
        let mock = Stack::builder()
            .only([Component::Mock])
            .free_ports()
            .temporary_state()
            .start()
            .unwrap();
        Self { servers, mock }
    }

    fn reach(&self) -> Reach {
        Reach {
            kafka: self.servers.kafka(),
            registry: self.servers.registry(),
            clickhouse: None,
            source: None,
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.mock.context().binary(name)
    }

    fn producer(&self, change: impl FnOnce(&mut Reach)) -> Service {
        let mut reach = self.reach();
        reach.source = Some(Source {
            url: self.mock.url(Component::Mock),
            transport: "websocket",
            tls: TlsSettings::default(),
        });
        change(&mut reach);
        Service::start(&self.program("flight-producer"), &reach)
    }

    fn ingester(&self, change: impl FnOnce(&mut Reach)) -> Service {
        let mut reach = self.reach();
        reach.clickhouse = Some(self.servers.clickhouse());
        change(&mut reach);
        Service::start(&self.program("flight-ingester"), &reach)
    }
}

#[test]
fn what_is_wrong_with_the_way_is_said_and_mended() {
    let _turn = turn();
    let pipeline = Pipeline::start();
    let servers = &pipeline.servers;

    // What is wrong with the way to Kafka, both services say alike.
    type Change = Box<dyn Fn(&mut Reach)>;
    let listener = |listener| -> Change {
        let kafka = servers.kafka_as(USER, PASSWORD, listener);
        Box::new(move |reach| reach.kafka = kafka.clone())
    };
    let strange = servers.strange_tls();
    let own_port = servers.stack.brokers();
    let faults: [(&str, Change); 6] = [
        (
            "does not let us in: kafka.sasl",
            Box::new(|reach| reach.kafka.sasl.password = Secret::new("wrong")),
        ),
        (
            "signed by nobody we trust: kafka.tls.ca_file",
            Box::new(move |reach| reach.kafka.tls = strange.clone()),
        ),
        ("certificate has expired", listener(Listener::Expired)),
        (
            "certificate is not for 127.0.0.1",
            listener(Listener::Elsewhere),
        ),
        (
            "expects TLS: set kafka.security to tls",
            Box::new(|reach| {
                reach.kafka.security = Security::Plaintext;
                reach.kafka.tls = Default::default();
            }),
        ),
        (
            "does not speak TLS: set kafka.security to plaintext",
            Box::new(move |reach| reach.kafka.brokers = own_port.clone()),
        ),
    ];
    for (reason, change) in faults {
        let producer = pipeline.producer(&change);
        let ingester = pipeline.ingester(&change);
        producer.wait_until_it_says(reason);
        ingester.wait_until_it_says(reason);
        assert!(!producer.log().contains(PASSWORD), "{}", producer.log());
    }

    // A password that is put right at the broker: both come in without being started again.
    servers.add_user("late", "another");
    for rights in [TOPICS, TRANSACTIONS, GROUP] {
        servers.grant("late", rights);
    }
    let late =
        |reach: &mut Reach| reach.kafka = servers.kafka_as("late", "right", Listener::Secure);
    let producer = pipeline.producer(late);
    let ingester = pipeline.ingester(late);
    producer.wait_until_it_says("does not let us in");
    ingester.wait_until_it_says("does not let us in");
    servers.add_user("late", "right");
    producer.wait_until_ready();
    ingester.wait_until_ready();
    drop((producer, ingester));

    the_registry(&pipeline);
    clickhouse(&pipeline);
    the_source(&pipeline);
}

fn the_source(pipeline: &Pipeline) {
    let servers = &pipeline.servers;
    let issued = servers.authority.issue("127.0.0.1", NOW);
    let door = Door::open(pipeline.mock.port(Component::Mock), &issued, None);
    let source = |transport, tls| {
        let source = Source {
            url: format!("https://{}", door.address),
            transport,
            tls,
        };
        pipeline.producer(move |reach| reach.source = Some(source))
    };
    source("websocket", servers.strange_tls())
        .wait_until_it_says("signed by nobody we trust: source.tls.ca_file");
    for transport in ["websocket", "sse"] {
        source(transport, servers.tls()).wait_until_ready();
    }
}

fn the_registry(pipeline: &Pipeline) {
    for rights in [TOPICS, TRANSACTIONS, GROUP] {
        pipeline.servers.grant(USER, rights);
    }
    let strange = pipeline.servers.strange_tls();
    let wrong = |reach: &mut Reach| reach.registry.password = Secret::new("wrong");
    let producer = pipeline.producer(wrong);
    let ingester = pipeline.ingester(wrong);
    producer.wait_until_it_says("registry.user and registry.password");
    ingester.wait_until_it_says("registry.user and registry.password");
    let ingester = pipeline.ingester(|reach| reach.registry.tls = strange);
    ingester.wait_until_it_says("signed by nobody we trust: registry.tls.ca_file");
}

fn clickhouse(pipeline: &Pipeline) {
    fn settings(reach: &mut Reach) -> &mut ClickhouseSettings {
        reach.clickhouse.as_mut().unwrap()
    }
    let strange = pipeline.servers.strange_tls();
    let wrong = pipeline.ingester(|reach| settings(reach).user = "nobody".into());
    wrong.wait_until_it_says("clickhouse.user and clickhouse.password");
    let untrusted = pipeline.ingester(|reach| settings(reach).tls = strange);
    untrusted.wait_until_it_says("signed by nobody we trust: clickhouse.tls.ca_file");
    let good = pipeline.ingester(|_| {});
    good.wait_until_ready();
}

#[test]
fn a_right_that_is_missing_is_named_until_it_is_granted() {
    let _turn = turn();
    let pipeline = Pipeline::start();
    let servers = &pipeline.servers;
    servers.add_user("novice", PASSWORD);
    let novice = |reach: &mut Reach| {
        reach.kafka = servers.kafka_as("novice", PASSWORD, Listener::Secure);
    };
    let producer = pipeline.producer(novice);
    let ingester = pipeline.ingester(novice);
    producer.wait_until_it_says("denies it to User:novice: grant Describe on topic");
    ingester.wait_until_it_says("grant Describe on topic flight.positions");

    servers.grant("novice", "--operation Describe --topic flight.positions --topic flight.positions.dlq --topic flight.source-checkpoints");
    producer.wait_until_it_says("grant Create on topic");
    ingester.wait_until_it_says("flight-producer makes it at its first start");

    servers.grant("novice", "--operation Create --operation DescribeConfigs --topic flight.positions --topic flight.positions.dlq --topic flight.source-checkpoints");
    producer.wait_until_it_says(
        "grant Write and Describe on transactional id flight-producer-mock-s42",
    );
    ingester.wait_until_it_says("grant Read on group flight-ingester");

    servers.grant("novice", TRANSACTIONS);
    servers.grant("novice", GROUP);
    producer.wait_until_it_says("grant Read and Describe on topic");
    ingester.wait_until_it_says("topic flight.positions");

    servers.grant("novice", "--operation Read --topic flight.positions --topic flight.positions.dlq --topic flight.source-checkpoints");
    producer.wait_until_it_says("grant Write and Describe on each of the topics");
    servers.grant("novice", TOPICS);
    producer.wait_until_ready();
    ingester.wait_until_ready();
}
