//! How contrail's services reach Kafka: one set of settings, one way to make topics.

pub mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError as ClientError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest wait for an answer of the cluster to one request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Kafka cannot do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// The client's settings are wrong.
    #[error("kafka.properties: {0}")]
    Settings(#[source] ClientError),
    /// The cluster does not answer, or refuses.
    #[error("{action}: {source}")]
    Request {
        /// What was asked.
        action: String,
        /// What the client says.
        source: ClientError,
    },
    /// A topic is not as the settings say.
    #[error(
        "topic {topic} has {found} partitions and the settings say {wanted}: the partition count of a topic is fixed; set {setting} = {found}"
    )]
    Partitions {
        /// Topic.
        topic: String,
        /// Partitions it has.
        found: usize,
        /// Partitions that the settings ask for.
        wanted: i32,
        /// The setting to change.
        setting: String,
    },
    /// A topic cannot be made or described.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// Topic.
        topic: String,
        /// What the broker says.
        reason: String,
    },
}

/// How to reach the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// Further settings of librdkafka by its own names, for instance `security.protocol`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            properties: BTreeMap::new(),
        }
    }
}

/// Settings of librdkafka on which the promise rests: not for the operator to change.
const RESERVED: [&str; 11] = [
    "acks",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "partitioner",
    "transactional.id",
];

impl KafkaSettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        if self.brokers.trim().is_empty() {
            return Err("kafka.brokers is empty: give host:port of at least one broker".into());
        }
        if let Some(name) = RESERVED
            .iter()
            .find(|name| self.properties.contains_key(**name))
        {
            return Err(format!(
                "kafka.properties.{name} is set by contrail itself: leave it out"
            ));
        }
        Ok(())
    }

    /// Client settings, for a producer, consumer or admin client to add to.
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id)
            // A broker that restarts is back within seconds: the default of 10 s is a long silence.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_promise_rests_on_cannot_be_set() {
        let mut settings = KafkaSettings::default();
        assert_eq!(settings.validate(), Ok(()));
        settings
            .properties
            .insert("isolation.level".into(), "read_uncommitted".into());
        assert!(
            settings
                .validate()
                .unwrap_err()
                .contains("kafka.properties.isolation.level")
        );
    }

    #[test]
    fn properties_reach_the_client() {
        let mut settings = KafkaSettings::default();
        settings
            .properties
            .insert("security.protocol".into(), "sasl_plaintext".into());
        assert_eq!(
            settings.client_config("x").get("security.protocol"),
            Some("sasl_plaintext")
        );
    }
}
