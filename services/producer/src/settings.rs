//! What an operator can set.

use std::path::PathBuf;
use std::time::Duration;

use flight::config::{self, Secret, Validate};
use flight::kafka::KafkaSettings;
use flight::kafka::topics::TopicSettings;
use flight::registry::RegistrySettings;
use flight::telemetry::TelemetrySettings;
use flight::tls::TlsSettings;
use serde::{Deserialize, Serialize};

/// Prefix of environment variables that set [`Settings`].
pub const ENV_PREFIX: &str = "FLIGHT_PRODUCER_";

/// Settings of flight-producer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of /healthz, /readyz and /metrics.
    pub listen: String,
    /// Where events come from.
    pub source: SourceSettings,
    /// Where records go.
    pub kafka: KafkaSettings,
    /// Where the schema is registered.
    pub registry: RegistrySettings,
    /// The topics that the producer makes and writes.
    pub topics: Topics,
    /// Transactions: how long one is open, and in whose name.
    pub commit: CommitSettings,
    /// Bounds of what is held in memory.
    pub memory: MemorySettings,
    /// What becomes of the backlog of a long outage.
    pub catch_up: CatchUpSettings,
    /// Sending again what was sent before.
    pub replay: ReplaySettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8001".into(),
            source: SourceSettings::default(),
            kafka: KafkaSettings::default(),
            registry: RegistrySettings::default(),
            topics: Topics::default(),
            commit: CommitSettings::default(),
            memory: MemorySettings::default(),
            catch_up: CatchUpSettings::default(),
            replay: ReplaySettings::default(),
            telemetry: TelemetrySettings::default(),
        }
    }
}

/// How the source is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSettings {
    /// `websocket` (with acknowledgements and credit) or `sse`.
    pub transport: Transport,
    /// Base address of the source: `http://host:port` or `https://host:port`.
    pub url: String,
    /// Where to begin if no checkpoint of the source is found. Without it: at the live edge, and
    /// not at all if the topic of positions has records that no checkpoint accounts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_offset: Option<i64>,
    /// Most events that the source may send before they are committed (WebSocket).
    pub credit: u64,
    /// Most events in one batch (WebSocket).
    pub max_batch: u32,
    /// A source that is silent for so long, in milliseconds, is asked again on a new connection.
    pub idle_timeout_ms: u64,
    /// For `https`.
    pub tls: TlsSettings,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            transport: Transport::Websocket,
            url: "http://127.0.0.1:8000".into(),
            initial_offset: None,
            credit: 200_000,
            max_batch: 5_000,
            idle_timeout_ms: 40_000,
            tls: TlsSettings::default(),
        }
    }
}

impl SourceSettings {
    /// See [`idle_timeout_ms`](Self::idle_timeout_ms).
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// An address of the source under another scheme (`ws` for `http`, and so `wss` for `https`).
    pub(crate) fn address(&self, scheme: &str, path: &str) -> String {
        let rest = self.url.trim_end_matches('/');
        let rest = rest.strip_prefix("http").unwrap_or(rest);
        format!("{scheme}{rest}{path}")
    }
}

/// See [`SourceSettings::transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// WebSocket, both ways.
    Websocket,
    /// Server-Sent Events.
    Sse,
}

impl Transport {
    /// All that [`name`](Self::name) gives.
    pub(crate) const NAMES: [&'static str; 2] = ["websocket", "sse"];

    /// The name in settings and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
        }
    }
}

/// The producer's topics. Each is made if it is missing; one that is there stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Positions, keyed by flight.
    pub positions: TopicSettings,
    /// Events that are not positions.
    pub dead_letters: TopicSettings,
    /// How far each source has been sent.
    pub checkpoints: TopicSettings,
}

/// Kafka's own default of `message.max.bytes`.
const KAFKA_MESSAGE_MAX_BYTES: i32 = 1_048_588;
/// Smallest message limit with which a chunk of a dead letter passes, headers and all.
const DEAD_LETTER_MESSAGE_BYTES: i32 = 950_000;

impl Default for Topics {
    fn default() -> Self {
        let topic = |name: &str| TopicSettings {
            name: name.into(),
            partitions: 6,
            replication: 1,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            compact: false,
            max_message_bytes: KAFKA_MESSAGE_MAX_BYTES,
        };
        Self {
            positions: topic("flight.positions"),
            dead_letters: TopicSettings {
                retention_ms: -1,
                ..topic(flight::dead_letter::TOPIC)
            },
            checkpoints: TopicSettings {
                partitions: 1,
                retention_ms: -1,
                compact: true,
                ..topic(flight::checkpoint::TOPIC)
            },
        }
    }
}

/// When transactions are committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitSettings {
    /// Longest time, in milliseconds, that a transaction gathers events.
    pub interval_ms: u64,
    /// Most events in one transaction (one batch more may be in it).
    pub max_events: u64,
    /// After so long, in milliseconds, the broker aborts a transaction that was not finished.
    pub transaction_timeout_ms: u32,
    /// Name under which Kafka knows this producer, so that of two with one name the older is shut
    /// out. Without it: `flight-producer-` and the source's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self {
            interval_ms: 200,
            max_events: 50_000,
            transaction_timeout_ms: 10_000,
            transactional_id: None,
        }
    }
}

impl CommitSettings {
    /// See [`interval_ms`](Self::interval_ms).
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// Bounds of what waits in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// Records that were made of events and are not with the Kafka client yet, in KiB.
    pub source_queue_kib: u32,
    /// Records that Kafka has not acknowledged, in KiB.
    pub kafka_queue_kib: u32,
    /// Records that Kafka has not acknowledged, in number.
    pub kafka_queue_records: u32,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            source_queue_kib: 32 * 1024,
            kafka_queue_kib: 32 * 1024,
            kafka_queue_records: 150_000,
        }
    }
}

/// When a backlog is sent beside live events and not before them, and what share of the way it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatchUpSettings {
    /// A backlog of more events than these is passed over: live events go on at once, and it is sent beside
    /// them. 0: every backlog is sent first.
    pub after_events: u64,
    /// Most of the time that it may take, above 0 and up to 1; what is left is for live events.
    pub share: f64,
    /// Most events a second of it; 0 for no bound. Live events go the same way through the ingester: bound
    /// it well below what that takes.
    pub max_events_per_s: u32,
}

impl Default for CatchUpSettings {
    fn default() -> Self {
        Self {
            // Some seconds at full speed.
            after_events: 500_000,
            share: 0.5,
            max_events_per_s: 50_000,
        }
    }
}

/// Who may ask for replays by HTTP, and what share of the way they may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplaySettings {
    /// What who asks by HTTP must show as a bearer token. Empty: nobody may.
    pub token: Secret,
    /// File that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Most of the time that replays may spend sending, above 0 and up to 1; what is left is for live
    /// events.
    pub share: f64,
    /// Most events a second of a replay; 0 for no bound. Live events go the same way through the
    /// ingester: bound a replay well below what that takes.
    pub max_events_per_s: u32,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self {
            token: Secret::default(),
            token_file: None,
            share: 0.5,
            max_events_per_s: 50_000,
        }
    }
}

impl Validate for Settings {
    fn read_secrets(&mut self) -> Result<(), String> {
        let replay = &mut self.replay;
        let file = replay.token_file.as_deref();
        config::read_secret("replay.token", &mut replay.token, file)?;
        self.kafka.read_secrets("kafka")?;
        self.registry.read_secrets("registry")
    }

    fn validate(&self) -> Result<(), String> {
        self.kafka.validate("kafka")?;
        self.registry.validate("registry")?;
        self.telemetry.validate()?;
        self.topics.validate()?;
        let source = &self.source;
        source.tls.validate_with_url("source", &source.url)?;
        if self.source.initial_offset.is_some_and(|offset| offset < 0) {
            return Err("source.initial_offset must not be negative".into());
        }
        let positive = [
            ("source.credit", self.source.credit),
            ("source.max_batch", self.source.max_batch.into()),
            ("source.idle_timeout_ms", self.source.idle_timeout_ms),
            ("commit.interval_ms", self.commit.interval_ms),
            ("commit.max_events", self.commit.max_events),
            (
                "memory.source_queue_kib",
                self.memory.source_queue_kib.into(),
            ),
            ("memory.kafka_queue_kib", self.memory.kafka_queue_kib.into()),
            (
                "memory.kafka_queue_records",
                self.memory.kafka_queue_records.into(),
            ),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be at least 1"));
        }
        let shares = [
            ("catch_up.share", self.catch_up.share),
            ("replay.share", self.replay.share),
        ];
        // Not by its opposite: a share that is no number is none.
        if let Some((name, share)) = shares.iter().find(|(_, s)| !(*s > 0.0 && *s <= 1.0)) {
            return Err(format!("{name} must be above 0 and at most 1, not {share}"));
        }
        if self.commit.transactional_id.as_deref() == Some("") {
            return Err("commit.transactional_id is empty: leave it out".into());
        }
        let timeout_ms = u64::from(self.commit.transaction_timeout_ms);
        if timeout_ms < 2_000 || self.commit.interval_ms > timeout_ms / 2 {
            return Err(format!(
                "commit.transaction_timeout_ms must be at least 2000 and twice commit.interval_ms, not {timeout_ms}"
            ));
        }
        Ok(())
    }
}

impl Topics {
    /// Each topic with the name of its setting.
    pub fn named(&self) -> [(&'static str, &TopicSettings); 3] {
        [
            ("topics.positions", &self.positions),
            ("topics.dead_letters", &self.dead_letters),
            ("topics.checkpoints", &self.checkpoints),
        ]
    }

    fn validate(&self) -> Result<(), String> {
        for (setting, topic) in self.named() {
            topic.validate(setting)?;
        }
        if self.checkpoints.partitions != 1 || !self.checkpoints.compact {
            return Err(
                "topics.checkpoints must have partitions = 1 and compact = true: it holds the last word of each source".into(),
            );
        }
        if self.positions.compact || self.dead_letters.compact {
            return Err(
                "topics.positions.compact and topics.dead_letters.compact must be false: compaction would lose records".into(),
            );
        }
        if self.dead_letters.max_message_bytes < DEAD_LETTER_MESSAGE_BYTES {
            return Err(format!(
                "topics.dead_letters.max_message_bytes must be at least {DEAD_LETTER_MESSAGE_BYTES}, not {}",
                self.dead_letters.max_message_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().expect_err("must be refused")
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn each_senseless_setting_is_named() {
        for (name, change) in [
            (
                "source.url",
                (|s| s.source.url = "127.0.0.1:8000".into()) as fn(&mut Settings),
            ),
            ("source.url", |s| s.source.url = "ftp://x".into()),
            ("source.initial_offset", |s| {
                s.source.initial_offset = Some(-1)
            }),
            ("source.credit", |s| s.source.credit = 0),
            ("commit.interval_ms", |s| s.commit.interval_ms = 0),
            ("commit.transaction_timeout_ms", |s| {
                s.commit.interval_ms = 6_000
            }),
            ("commit.transactional_id", |s| {
                s.commit.transactional_id = Some(String::new())
            }),
            ("topics.checkpoints", |s| {
                s.topics.checkpoints.partitions = 2
            }),
            ("topics.positions.compact", |s| {
                s.topics.positions.compact = true
            }),
            ("topics.positions.partitions", |s| {
                s.topics.positions.partitions = 0
            }),
            ("topics.dead_letters.max_message_bytes", |s| {
                s.topics.dead_letters.max_message_bytes = 10_000
            }),
            ("kafka.brokers", |s| s.kafka.brokers.clear()),
            ("replay.share", |s| s.replay.share = 0.0),
            ("replay.share", |s| s.replay.share = f64::NAN),
            ("catch_up.share", |s| s.catch_up.share = 1.5),
            ("catch_up.share", |s| s.catch_up.share = f64::NAN),
        ] {
            let message = complaint(change);
            assert!(message.starts_with(name), "{name}: {message}");
        }
    }

    #[test]
    fn the_websocket_has_the_source_s_address() {
        let source = SourceSettings {
            url: "http://host:8000/".into(),
            ..SourceSettings::default()
        };
        assert_eq!(source.address("ws", "/v1/x"), "ws://host:8000/v1/x");
        assert_eq!(source.address("http", "/v1/x"), "http://host:8000/v1/x");
        let source = SourceSettings {
            url: "https://host".into(),
            ..SourceSettings::default()
        };
        assert_eq!(source.address("ws", "/v1/x"), "wss://host/v1/x");
        assert_eq!(source.address("http", "/v1/x"), "https://host/v1/x");
    }
}
