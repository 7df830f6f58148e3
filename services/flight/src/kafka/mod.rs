//! How contrail's services reach Kafka: one set of settings, one way to make topics.

mod inquiry;
mod rights;
mod security;
pub mod topics;
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError as ClientError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tls::TlsSettings;

pub use inquiry::Inquiry;
pub use security::{Mechanism, SaslSettings, Security};
pub use trouble::{ReportingContext, Trouble};

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
    /// The cluster cannot be reached, or does not let us in.
    #[error("{action}: {reason}")]
    Unreachable {
        /// What was asked.
        action: String,
        /// Why, and what to do.
        reason: String,
        /// Trying again under the same settings would end the same.
        is_certain: bool,
    },
    /// The cluster knows us and does not let us do it.
    #[error("{action}: the cluster denies it to {principal}: grant {right}, see docs/external.md")]
    Denied {
        /// What was asked.
        action: String,
        /// As whom it knows us.
        principal: String,
        /// The right that is missing.
        right: String,
    },
    /// A topic is there and would break the promise.
    #[error(
        "topic {topic} has {name} = {found} and needs {needed}: {reason}; change it with Kafka's kafka-configs.sh"
    )]
    TopicConfig {
        /// Topic.
        topic: String,
        /// Setting of the topic.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        needed: &'static str,
        /// Why.
        reason: &'static str,
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
    /// How connections are protected: `plaintext` or `tls`.
    pub security: Security,
    /// For `tls`.
    pub tls: TlsSettings,
    /// User and password.
    pub sasl: SaslSettings,
    /// Further settings of librdkafka by its own names, for instance `linger.ms`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            security: Security::default(),
            tls: TlsSettings::default(),
            sasl: SaslSettings::default(),
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
    /// Checks the settings and reads the files they name. `setting` is the name of the table that
    /// holds them.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self, setting: &str) -> Result<(), String> {
        if self.brokers.trim().is_empty() {
            return Err(format!(
                "{setting}.brokers is empty: give host:port of at least one broker"
            ));
        }
        if self.brokers.contains("://") {
            return Err(format!(
                "{setting}.brokers must be host:port, several with commas, not {}",
                self.brokers
            ));
        }
        if let Some(name) = RESERVED
            .iter()
            .find(|name| self.properties.contains_key(**name))
        {
            return Err(format!(
                "{setting}.properties.{name} is set by contrail itself: leave it out"
            ));
        }
        self.validate_security(setting)
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
        self.secure(&mut config);
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
        assert_eq!(settings.validate("kafka"), Ok(()));
        settings
            .properties
            .insert("isolation.level".into(), "read_uncommitted".into());
        assert!(
            settings
                .validate("kafka")
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
