//! One case: topics, a group and sources of its own on the shared stack.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contrail::{Component, Stack};
use flight::avro::{POSITION_SCHEMA, SUBJECT};
use flight::config::Secret;
use flight::kafka::KafkaSettings;
use flight::position::Identified;
use flight::registry::{RegistryClient, RegistrySettings};
use flight_ingester::settings::Settings;

use super::events::{PARTITIONS, event};
use super::kafka::{self, Group, Letter, Writer};
use super::stack::stack;
use super::{eventually, table, wait_for};

/// How long a case may take to have all its rows in the table.
const LIMIT: Duration = Duration::from_secs(90);

pub struct Case {
    pub stack: Arc<Stack>,
    pub settings: Settings,
    pub partitions: i32,
    pub schema_id: u32,
    name: &'static str,
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        Self::with_partitions(name, PARTITIONS)
    }

    pub fn with_partitions(name: &'static str, partitions: i32) -> Self {
        let stack = stack();
        let mut settings = Settings {
            topic: format!("positions.{name}"),
            dead_letter_topic: format!("letters.{name}"),
            ..Settings::default()
        };
        settings.kafka.brokers = stack.brokers();
        settings.registry.url = stack.registry_url();
        settings.clickhouse.url = stack.url(Component::Clickhouse);
        settings.clickhouse.password =
            Secret::new(stack.context().settings.clickhouse.password.clone());
        settings.group.id = format!("group.{name}");
        settings.batch.linger_ms = 100;
        kafka::create_topic(&settings.kafka, &settings.topic, partitions);
        kafka::create_topic(&settings.kafka, &settings.dead_letter_topic, 1);
        let schema_id = register(&settings.registry, SUBJECT, POSITION_SCHEMA);
        Self {
            stack,
            settings,
            partitions,
            schema_id,
            name,
        }
    }

    pub fn kafka(&self) -> &KafkaSettings {
        &self.settings.kafka
    }

    /// The name of a source of this case.
    pub fn source(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    pub fn event(&self, source: u32, offset: i64) -> Identified {
        event(&self.source(source), offset)
    }

    pub fn events(&self, source: u32, offsets: impl IntoIterator<Item = i64>) -> Vec<Identified> {
        let source = self.source(source);
        offsets.into_iter().map(|o| event(&source, o)).collect()
    }

    pub fn writer(&self) -> Writer {
        Writer::new(
            self.kafka(),
            &self.settings.topic,
            self.partitions,
            self.schema_id,
        )
    }

    pub fn group(&self) -> Group {
        Group::new(
            self.kafka(),
            &self.settings.group.id,
            &self.settings.topic,
            self.partitions,
        )
    }

    /// Waits until the group has nothing left to do: all of the topic is ingested, every range is
    /// closed, and there is no lag.
    pub fn wait_until_idle(&self) {
        let group = self.group();
        let began = std::time::Instant::now();
        while !group.is_idle() {
            assert!(
                began.elapsed() < LIMIT,
                "{}: not idle within {LIMIT:?}: {:?}",
                self.name,
                group.standings()
            );
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits until the group is idle, then asserts that the source's rows are these, once each.
    pub fn assert_rows(&self, source: u32, expected: &[Identified]) {
        self.wait_until_idle();
        table::assert_rows(&self.stack, &self.source(source), expected);
    }

    pub fn count(&self, source: u32) -> usize {
        table::count(&self.stack, &self.source(source))
    }

    /// Waits until the source has at least this many rows.
    pub fn wait_for_rows(&self, source: u32, rows: usize) {
        let what = format!("{} has {rows} rows", self.source(source));
        eventually(&what, LIMIT, || self.count(source) >= rows);
    }

    pub fn letters(&self) -> BTreeMap<String, Letter> {
        kafka::dead_letters(self.kafka(), &self.settings.dead_letter_topic)
    }
}

pub fn register(registry: &RegistrySettings, subject: &str, schema: &str) -> u32 {
    // Cases begin side by side, and the registry refuses the later of two that set one subject's
    // compatibility at the same time.
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    wait_for(async {
        let client = RegistryClient::new(registry).unwrap();
        client.register(subject, schema).await.unwrap()
    })
}
