//! Settings of the stack: `contrail.toml` and environment variables that start with `CONTRAIL_`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flight::clickhouse::ClickhouseSettings;
use flight::config::Validate;
use flight::kafka::KafkaSettings;
use flight::registry::RegistrySettings;
use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::ports::MAX_OFFSET;

/// What the names of environment variables start with.
pub const ENV_PREFIX: &str = "CONTRAIL_";

/// Settings of `contrail`. Paths that are given are relative to the working directory; paths
/// that are not given follow from where the program lies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Directory for data, logs and the control socket. Default: `var` in the checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Added to every port, so that stacks can run side by side.
    pub port_offset: u16,
    /// Directory of the downloaded parts. Default: `var/parts` in the checkout, also when
    /// `state` lies elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<PathBuf>,
    /// Directory of the services' programs. Default: where `contrail` itself lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binaries: Option<PathBuf>,
    /// Directory that holds `sql/`. Default: the checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<PathBuf>,
    /// The Java program. Default: `$JAVA_HOME/bin/java`, then `java` on the PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub java: Option<PathBuf>,
    /// The broker.
    pub kafka: Kafka,
    /// The schema registry.
    pub registry: Registry,
    /// The engine.
    pub clickhouse: Clickhouse,
    /// The simulator.
    pub mock: Mock,
    /// The producer.
    pub producer: Service,
    /// The ingester.
    pub ingester: Service,
    /// Airflow, with PostgreSQL and the mail catcher.
    pub airflow: Airflow,
    /// Prometheus and Alertmanager, with what tells them of the whole and of the machine.
    pub observability: Observability,
    /// Where the services send their traces.
    pub telemetry: Telemetry,
}

/// Environment variables for one process. Names are written as usual or in lower case: they are
/// raised to upper case, because that is how they arrive from `CONTRAIL_…__ENV__NAME`.
pub type Environment = BTreeMap<String, String>;

/// The broker.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Heap of the broker in MiB.
    pub heap_mib: u32,
    /// Lines added to `server.properties`; they win over the stack's own.
    pub properties: BTreeMap<String, String>,
    /// Options added to the Java command line.
    pub java_options: Vec<String>,
    /// Environment variables for the process.
    pub env: Environment,
    /// A cluster that is there already, to be used in place of a broker of this stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<KafkaSettings>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            heap_mib: 512,
            properties: BTreeMap::new(),
            java_options: Vec::new(),
            env: Environment::new(),
            external: None,
        }
    }
}

/// The schema registry.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Heap of the registry in MiB.
    pub heap_mib: u32,
    /// System properties added to its command line (`apicurio.…`, `quarkus.…`).
    pub properties: BTreeMap<String, String>,
    /// Options added to the Java command line.
    pub java_options: Vec<String>,
    /// Environment variables for the process.
    pub env: Environment,
    /// A registry that is there already, to be used in place of one of this stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<RegistrySettings>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            heap_mib: 256,
            properties: BTreeMap::new(),
            java_options: Vec::new(),
            env: Environment::new(),
            external: None,
        }
    }
}

/// The engine.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Clickhouse {
    /// The user that the ingester and this program connect as.
    pub user: String,
    /// Its password.
    pub password: String,
    /// A `libchdb.so` to use in place of the downloaded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// Environment variables for the process.
    pub env: Environment,
    /// A server that is there already, to be used in place of the embedded engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ClickhouseSettings>,
}

impl Default for Clickhouse {
    fn default() -> Self {
        Self {
            user: "default".into(),
            password: "admin".into(),
            library: None,
            env: Environment::new(),
            external: None,
        }
    }
}

/// The simulator.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Mock {
    /// Number of aircraft. Default: the simulator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<u32>,
    /// Time between two positions of one aircraft in ms. Default: the simulator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u32>,
    /// Environment variables for the process.
    pub env: Environment,
}

/// Airflow, with PostgreSQL and the mail catcher.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Airflow {
    /// The directory of PostgreSQL's programs. Default: where `postgres` lies on the PATH, then the newest
    /// one in `/usr/lib/postgresql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<PathBuf>,
    /// Settings of the DAGs, by section and name, on top of the stack's own: `[airflow.dags.archive]`.
    pub dags: BTreeMap<String, toml::Table>,
    /// Environment variables for the processes.
    pub env: Environment,
}

/// Prometheus and Alertmanager, with what tells them of the whole and of the machine.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Observability {
    /// Seconds between two questions of Prometheus for metrics.
    pub scrape_interval_s: u32,
    /// How long Prometheus keeps samples, as it takes it: `7d`.
    pub retention: String,
    /// Seconds between two accounts of events that are missing or doubled.
    pub account_every_s: u32,
    /// Seconds that Alertmanager waits for alerts that belong together, before it mails the first.
    pub group_wait_s: u32,
    /// A file of rules for Prometheus to use in place of `grafana/alerts/rules.yaml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<PathBuf>,
    /// Who gets the mails.
    pub mail_to: String,
    /// Environment variables for the processes.
    pub env: Environment,
}

impl Default for Observability {
    fn default() -> Self {
        Self {
            scrape_interval_s: 15,
            retention: "7d".into(),
            account_every_s: 60,
            group_wait_s: 10,
            rules: None,
            mail_to: "ops@localhost".into(),
            env: Environment::new(),
        }
    }
}

/// Traces of the services, the engine among them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// OTLP endpoint (HTTP), for instance `http://127.0.0.1:4318`. No traces without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Share of batches that are traced, 0 to 1. Default: that of the services, 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<f64>,
}

/// A service that needs nothing but its environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Environment variables for the process.
    pub env: Environment,
}

impl Settings {
    /// Whether a component is there already, and not run by this stack.
    pub fn is_external(&self, component: Component) -> bool {
        match component {
            Component::Kafka => self.kafka.external.is_some(),
            Component::Registry => self.registry.external.is_some(),
            Component::Clickhouse => self.clickhouse.external.is_some(),
            _ => false,
        }
    }

    /// The components that this stack runs when it runs all it can.
    pub fn own(&self) -> Vec<Component> {
        let mut own = Component::ALL.to_vec();
        own.retain(|component| !self.is_external(*component));
        own
    }

    /// The environment variables set for a component.
    pub fn env(&self, component: Component) -> &Environment {
        match component {
            Component::Kafka => &self.kafka.env,
            Component::Registry => &self.registry.env,
            Component::Clickhouse => &self.clickhouse.env,
            Component::Mock => &self.mock.env,
            Component::Producer => &self.producer.env,
            Component::Ingester => &self.ingester.env,
            Component::Postgresql
            | Component::Mail
            | Component::AirflowApi
            | Component::AirflowScheduler
            | Component::AirflowDags => &self.airflow.env,
            Component::Exporter
            | Component::NodeExporter
            | Component::Alertmanager
            | Component::Prometheus => &self.observability.env,
        }
    }

    /// As [`env`](Self::env), to change them.
    pub fn env_mut(&mut self, component: Component) -> &mut Environment {
        match component {
            Component::Kafka => &mut self.kafka.env,
            Component::Registry => &mut self.registry.env,
            Component::Clickhouse => &mut self.clickhouse.env,
            Component::Mock => &mut self.mock.env,
            Component::Producer => &mut self.producer.env,
            Component::Ingester => &mut self.ingester.env,
            Component::Postgresql
            | Component::Mail
            | Component::AirflowApi
            | Component::AirflowScheduler
            | Component::AirflowDags => &mut self.airflow.env,
            Component::Exporter
            | Component::NodeExporter
            | Component::Alertmanager
            | Component::Prometheus => &mut self.observability.env,
        }
    }
}

impl Validate for Settings {
    fn read_secrets(&mut self) -> Result<(), String> {
        if let Some(kafka) = &mut self.kafka.external {
            kafka.read_secrets("kafka.external")?;
        }
        if let Some(registry) = &mut self.registry.external {
            registry.read_secrets("registry.external")?;
        }
        if let Some(clickhouse) = &mut self.clickhouse.external {
            clickhouse.read_secrets("clickhouse.external")?;
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), String> {
        if self.port_offset > MAX_OFFSET {
            return Err(format!(
                "port_offset must be at most {MAX_OFFSET}: above it ports reach the range from \
                 which the system lends ports to clients"
            ));
        }
        if self.kafka.heap_mib < 128 {
            return Err("kafka.heap_mib must be at least 128".into());
        }
        if self.registry.heap_mib < 96 {
            return Err("registry.heap_mib must be at least 96".into());
        }
        if self.mock.fleet == Some(0) {
            return Err("mock.fleet must be at least 1".into());
        }
        if self.mock.period_ms == Some(0) {
            return Err("mock.period_ms must be at least 1".into());
        }
        if self.observability.scrape_interval_s == 0 {
            return Err("observability.scrape_interval_s must be at least 1".into());
        }
        if self.observability.account_every_s == 0 {
            return Err("observability.account_every_s must be at least 1".into());
        }
        if let Some(kafka) = &self.kafka.external {
            kafka.validate("kafka.external")?;
        }
        if let Some(registry) = &self.registry.external {
            registry.validate("registry.external")?;
        }
        if let Some(clickhouse) = &self.clickhouse.external {
            clickhouse.validate("clickhouse.external")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contrail.toml");
        std::fs::write(&path, text).unwrap();
        flight::config::load("CONTRAIL_TEST_NONE_", Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_reaches_every_part() {
        let settings = read(
            "port_offset = 100\n[kafka.properties]\n\"log.retention.ms\" = \"1000\"\n\
             [ingester.env]\nFAILPOINTS = \"a=off\"\n[mock]\nfleet = 7\n",
        )
        .unwrap();
        assert_eq!(settings.port_offset, 100);
        assert_eq!(settings.kafka.properties["log.retention.ms"], "1000");
        assert_eq!(settings.env(Component::Ingester)["FAILPOINTS"], "a=off");
        assert_eq!(settings.mock.fleet, Some(7));
    }

    #[test]
    fn what_is_external_is_not_run_here() {
        let settings = read(
            "[kafka.external]\nbrokers = \"broker:9093\"\nsecurity = \"tls\"\n\
             [clickhouse.external]\nurl = \"https://db:8443\"\n",
        )
        .unwrap();
        assert!(settings.is_external(Component::Kafka));
        assert!(!settings.own().contains(&Component::Clickhouse));
        assert!(settings.own().contains(&Component::Registry));
        assert_eq!(Settings::default().own(), Component::ALL);
    }

    #[test]
    fn typos_and_senseless_values_are_named() {
        for (text, named) in [
            ("port_ofset = 1", "port_ofset"),
            ("[mock]\nflet = 1", "flet"),
            ("port_offset = 40000", "port_offset"),
            ("[mock]\nfleet = 0", "mock.fleet"),
            ("[kafka]\nheap_mib = 1", "kafka.heap_mib"),
            ("[kafka.external]\nbroker = \"x\"", "broker"),
            ("[kafka.external]\nsecurity = \"ssl\"", "security"),
            (
                "[registry.external]\nurl = \"here\"",
                "registry.external.url",
            ),
            (
                "[clickhouse.external]\npassword_file = \"/nowhere\"",
                "clickhouse.external.password_file",
            ),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(named), "{message}");
        }
    }
}
