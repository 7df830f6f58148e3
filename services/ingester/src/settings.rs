//! Settings of the ingester.

use flight::clickhouse::ClickhouseSettings;
use flight::config::Validate;
use flight::kafka::KafkaSettings;
use flight::registry::RegistrySettings;
use flight::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Prefix of environment variables that set these.
pub const ENV_PREFIX: &str = "FLIGHT_INGESTER_";

/// All settings. Defaults suit one machine with everything on loopback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the admin endpoint.
    pub listen: String,
    /// Topic of positions. It must exist: flight-producer makes it.
    pub topic: String,
    /// Topic of dead letters. It must exist: flight-producer makes it.
    pub dead_letter_topic: String,
    /// Bring the tables up to date at start, as `flight-ingester migrate` does.
    pub migrate_on_start: bool,
    /// Days for which flight_positions keeps its rows; what is older is deleted, a day at a time. 0: for
    /// ever. Takes effect when the tables are brought up to date. Refused where days are moved to the
    /// monthly table: that is what makes room then.
    pub positions_retention_days: u16,
    /// The cluster.
    pub kafka: KafkaSettings,
    /// The consumer group.
    pub group: GroupSettings,
    /// The schema registry.
    pub registry: RegistrySettings,
    /// The server.
    pub clickhouse: ClickhouseSettings,
    /// When a batch is full.
    pub batch: BatchSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8002".into(),
            topic: "flight.positions".into(),
            dead_letter_topic: flight::dead_letter::TOPIC.into(),
            migrate_on_start: true,
            positions_retention_days: 0,
            kafka: KafkaSettings::default(),
            group: GroupSettings::default(),
            registry: RegistrySettings::default(),
            clickhouse: ClickhouseSettings::default(),
            batch: BatchSettings::default(),
            telemetry: TelemetrySettings::default(),
        }
    }
}

/// The consumer group, whose committed offsets are the ingester's only state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupSettings {
    /// Name of the group. Another name is another ingestion, from the log's beginning.
    pub id: String,
    /// Name of this member, which must differ between members. An ingester that comes back under
    /// its name within the session timeout gets its partitions back at once. Empty: a new name each
    /// time.
    pub instance_id: String,
    /// After this long without a sign of life, in milliseconds, others take the partitions.
    pub session_timeout_ms: u32,
    /// How partitions are given out: `cooperative-sticky`, `range` or `roundrobin`.
    pub assignment: String,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            id: "flight-ingester".into(),
            instance_id: String::new(),
            session_timeout_ms: 10_000,
            assignment: "cooperative-sticky".into(),
        }
    }
}

/// A batch is inserted when the first of these limits is reached. Each partition has its own batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Most rows, below 1,000,000: a batch must be one block of the server.
    pub max_rows: usize,
    /// Most bytes of rows, below 256 MB.
    pub max_bytes: usize,
    /// Memory for the rows of all batches together, in bytes. When most of it is used, the partition that
    /// holds most publishes.
    pub memory_bytes: usize,
    /// Longest time that a row waits for others, in milliseconds.
    pub linger_ms: u64,
    /// The same while more rows are there already, as when a backlog is drained: larger batches spare
    /// ClickHouse merges.
    pub backlog_linger_ms: u64,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_rows: 500_000,
            max_bytes: 48 << 20,
            memory_bytes: 64 << 20,
            linger_ms: 300,
            backlog_linger_ms: 2_000,
        }
    }
}

impl Validate for Settings {
    fn read_secrets(&mut self) -> Result<(), String> {
        self.kafka.read_secrets("kafka")?;
        self.registry.read_secrets("registry")?;
        self.clickhouse.read_secrets("clickhouse")
    }

    fn validate(&self) -> Result<(), String> {
        self.kafka.validate("kafka")?;
        self.registry.validate("registry")?;
        self.clickhouse.validate("clickhouse")?;
        self.telemetry.validate()?;
        if self.topic.is_empty() || self.dead_letter_topic.is_empty() {
            return Err("topic and dead_letter_topic must have names".into());
        }
        if self.topic == self.dead_letter_topic {
            return Err("dead_letter_topic must not be the topic itself: dead letters would come round for ever".into());
        }
        if self.group.id.is_empty() {
            return Err("group.id is empty".into());
        }
        if !["cooperative-sticky", "range", "roundrobin"].contains(&self.group.assignment.as_str())
        {
            return Err(format!(
                "group.assignment must be cooperative-sticky, range or roundrobin, not {}",
                self.group.assignment
            ));
        }
        // Kafka's own bounds for group members (group.min.session.timeout.ms and its maximum).
        if !(6_000..=1_800_000).contains(&self.group.session_timeout_ms) {
            return Err("group.session_timeout_ms must be between 6000 and 1800000".into());
        }
        if !(1..1_000_000).contains(&self.batch.max_rows) {
            return Err(
                "batch.max_rows must be between 1 and 999999: a batch must be one block".into(),
            );
        }
        if !(1 << 10..256 << 20).contains(&self.batch.max_bytes) {
            return Err(
                "batch.max_bytes must be between 1 kB and 256 MB: a batch must be one block".into(),
            );
        }
        if self.batch.memory_bytes < 1 << 20 {
            return Err("batch.memory_bytes must be at least 1 MB".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_rule_names_its_setting() {
        assert_eq!(Settings::default().validate(), Ok(()));
        type Change = fn(&mut Settings);
        let rules: [(&str, Change); 7] = [
            ("batch.max_rows", |s| s.batch.max_rows = 1_000_000),
            ("batch.max_bytes", |s| s.batch.max_bytes = 0),
            ("batch.memory_bytes", |s| s.batch.memory_bytes = 1),
            ("group.assignment", |s| s.group.assignment = "sticky".into()),
            ("group.session_timeout_ms", |s| {
                s.group.session_timeout_ms = 1
            }),
            ("clickhouse.url", |s| s.clickhouse.url = "tcp://x".into()),
            ("dead_letter_topic", |s| {
                s.dead_letter_topic = s.topic.clone()
            }),
        ];
        for (name, change) in rules {
            let mut settings = Settings::default();
            change(&mut settings);
            assert!(settings.validate().unwrap_err().starts_with(name), "{name}");
        }
    }
}
