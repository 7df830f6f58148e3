//! Encryption towards the cluster, and who we are to it.

use std::path::PathBuf;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use super::KafkaSettings;
use crate::config::{Secret, read_secret};

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Not at all: for loopback, and networks that are trusted.
    #[default]
    Plaintext,
    /// By TLS, what Kafka calls SSL.
    Tls,
}

/// A way to show a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// The password itself, RFC 4616: only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of it, RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with a longer hash.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// The name by which Kafka knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who we are to the cluster, by user and password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaslSettings {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Without it: no user and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// Settings of librdkafka that ours stand for.
const OURS: [&str; 9] = [
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "enable.ssl.certificate.verification",
];

impl KafkaSettings {
    /// Reads the password from its file. `setting` is the name of these settings.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn read_secrets(&mut self, setting: &str) -> Result<(), String> {
        let name = format!("{setting}.sasl.password");
        read_secret(
            &name,
            &mut self.sasl.password,
            self.sasl.password_file.as_deref(),
        )
    }

    pub(super) fn validate_security(&self, setting: &str) -> Result<(), String> {
        let tls = self.security == Security::Tls;
        if tls {
            self.tls.validate(&format!("{setting}.tls"))?;
        } else if !self.tls.is_default() {
            return Err(format!(
                "{setting}.tls is set but {setting}.security is plaintext: set it to tls"
            ));
        }
        let sasl = &self.sasl;
        match sasl.mechanism {
            None if *sasl != SaslSettings::default() => {
                return Err(format!(
                    "{setting}.sasl.mechanism is missing: {setting}.sasl.username and its password need PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
                ));
            }
            None => {}
            Some(_) if sasl.username.is_empty() => {
                return Err(format!("{setting}.sasl.username is empty"));
            }
            // A password that comes from a file was read before.
            Some(_) if sasl.password.is_empty() => {
                return Err(format!(
                    "{setting}.sasl.password is empty: set it, or {setting}.sasl.password_file"
                ));
            }
            Some(Mechanism::Plain) if !tls => {
                return Err(format!(
                    "{setting}.sasl.mechanism is PLAIN but {setting}.security is plaintext: anyone on the way would read the password; set {setting}.security to tls, or use SCRAM-SHA-512"
                ));
            }
            Some(_) => {}
        }
        if !tls && sasl.mechanism.is_none() {
            return Ok(());
        }
        match OURS
            .iter()
            .find(|name| self.properties.contains_key(**name))
        {
            Some(name) => Err(format!(
                "{setting}.properties.{name} is set beside {setting}.security or {setting}.sasl, which stand for it: leave one out"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn secure(&self, config: &mut ClientConfig) {
        let protocol = match (self.security, self.sasl.mechanism) {
            (Security::Plaintext, None) => return,
            (Security::Plaintext, Some(_)) => "sasl_plaintext",
            (Security::Tls, None) => "ssl",
            (Security::Tls, Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        for (name, file) in [
            ("ssl.ca.location", &self.tls.ca_file),
            ("ssl.certificate.location", &self.tls.cert_file),
            ("ssl.key.location", &self.tls.key_file),
        ] {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
        if let Some(mechanism) = self.sasl.mechanism {
            config
                .set("sasl.mechanism", mechanism.name())
                .set("sasl.username", &self.sasl.username)
                .set("sasl.password", self.sasl.password.expose());
        }
    }

    /// As whom the cluster knows us, for messages.
    pub fn principal(&self) -> String {
        let user = match self.sasl.mechanism {
            Some(_) => Some(&self.sasl.username),
            None => self.properties.get("sasl.username"),
        };
        match user {
            Some(user) => format!("User:{user}"),
            None if self.tls.cert_file.is_some() => "the user of kafka.tls.cert_file".into(),
            None => "User:ANONYMOUS".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsSettings;

    fn scram() -> KafkaSettings {
        KafkaSettings {
            security: Security::Tls,
            sasl: SaslSettings {
                mechanism: Some(Mechanism::ScramSha512),
                username: "flight".into(),
                password: Secret::new("s3cret"),
                password_file: None,
            },
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn settings_become_the_client_s() {
        let config = scram().client_config("x");
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("sasl.password"), Some("s3cret"));
        assert_eq!(scram().principal(), "User:flight");
        let plain = KafkaSettings::default().client_config("x");
        assert_eq!(plain.get("security.protocol"), None);
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        assert_eq!(scram().validate("kafka"), Ok(()));
        type Change = fn(&mut KafkaSettings);
        let rules: [(&str, Change); 7] = [
            ("kafka.sasl.username", |k| k.sasl.username.clear()),
            ("kafka.sasl.password", |k| {
                k.sasl.password = Secret::default()
            }),
            ("kafka.sasl.mechanism is missing", |k| {
                k.sasl.mechanism = None
            }),
            ("kafka.sasl.mechanism is PLAIN", |k| {
                k.sasl.mechanism = Some(Mechanism::Plain);
                k.security = Security::Plaintext;
            }),
            ("kafka.tls is set", |k| {
                k.security = Security::Plaintext;
                k.tls.ca_file = Some("ca.pem".into());
            }),
            ("kafka.tls.ca_file: cannot read nowhere.pem", |k| {
                k.tls = TlsSettings {
                    ca_file: Some("nowhere.pem".into()),
                    ..TlsSettings::default()
                };
            }),
            ("kafka.properties.sasl.password", |k| {
                k.properties.insert("sasl.password".into(), "x".into());
            }),
        ];
        for (named, change) in rules {
            let mut settings = scram();
            change(&mut settings);
            let message = settings.validate("kafka").unwrap_err();
            assert!(message.starts_with(named), "{named}: {message}");
        }
    }
}
